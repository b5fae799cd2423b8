"""Transports of master.cf: certificates and policies of their own, how many deliveries each makes at a time, and names
that nobody serves."""
import contextlib
import os
import ssl
import threading
import time

from instance import Instance, wait_for
from sink import Sink
from smtpserver import certificate
from webserver import Authority

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}


def add_service(mail, line):
    with open(os.path.join(mail.dir, "master.cf"), "a") as f:
        f.write(line + "\n")


def send(mail, *rcpts):
    with mail.smtp() as s:
        for rcpt in rcpts:
            s.sendmail("alice@example.test", [rcpt], "Subject: hello\r\n\r\ntext\r\n")


def test_each_transport_has_certificates_and_policies_of_its_own(tmp_path):
    ca = Authority(tmp_path / "ca.pem")
    context, _ = ca.issue("mx.far.test")
    cert, key, _ = certificate(str(tmp_path), "client.test")
    os.chmod(key, 0o600)
    both = tmp_path / "both.pem"
    both.write_text(open(key).read() + open(cert).read())
    os.chmod(both, 0o600)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cert)
    with Sink("127.1.0.4", tls=context) as sink:
        policy = tmp_path / "policy"
        policy.write_text(f"{sink.nexthop} secure match=mx.far.test tafile={ca.path}\n")
        routes = ", ".join(f"{name}.test={transport}:{sink.nexthop}" for name, transport in
                           (("own", "own"), ("table", "table"), ("bare", "smtp"), ("strict", "strict"), ("open", "open")))
        with Instance(tmp_path / "mail", settings={"transport_maps": f"inline:{{ {routes} }}",
                                                   "smtp_tls_security_level": "encrypt",
                                                   "smtp_tls_note_starttls_offer": "yes", **FAST}) as m:
            add_service(m, f"own unix - - n - - smtp -o smtp_tls_cert_file={cert} -o smtp_tls_key_file={key}\n"
                           f"  -o smtp_tls_CAfile={ca.path} -o smtp_tls_security_level=secure -o smtp_tls_secure_cert_match=mx.far.test\n"
                           f"table unix - - n - - smtp -o smtp_tls_chain_files={both} -o smtp_tls_policy_maps=texthash:{policy}\n"
                           f"strict unix - - n - - smtp -o smtp_tls_chain_files={both} -o smtp_tls_security_level=secure\n"
                           "open unix - - n - - smtp -o smtp_tls_security_level=none")
            m.start()
            send(m, "a@own.test", "a@table.test", "a@bare.test", "a@strict.test", "a@open.test")
            sink.wait(3)
            m.wait_log(r"Host offered STARTTLS: \[")
            m.wait_log(r"to=<a@bare.test>.*status=deferred")
            m.wait_log(r"to=<a@strict.test>.*status=deferred \(Server certificate not trusted")
            assert {m.rcpts[0]: m.tls for m in sink.messages} == {"a@own.test": True, "a@table.test": True, "a@open.test": False}
            add_service(m, "bad unix - - n - - smtp -o smtp_tls_cert_file=/nowhere.pem")
            refused = m.command("check", check=False)
            assert refused.returncode == 78 and "smtp_tls_cert_file: cannot open /nowhere.pem" in refused.stdout


def test_maxproc_is_how_many_deliveries_a_transport_makes_at_a_time(tmp_path):
    gate, lock, under_way, most = threading.Event(), threading.Lock(), set(), []

    def begin(line):
        with lock:
            under_way.add(line)
            most.append(len(under_way))

    def end(message):
        gate.wait(60)
        with lock:
            under_way.remove(message.mail)
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(Sink("127.1.0.5"))]
        sinks += [stack.enter_context(Sink(f"127.1.0.{i}", sinks[0].port)) for i in (6, 8)]
        for s in sinks:
            s.answer.update(MAIL=begin, END=end)
        other = stack.enter_context(Sink("127.1.0.9"))
        routes = ", ".join([f"d{i}.test=few:{s.nexthop}" for i, s in enumerate(sinks)] + [f"other.test=smtp:{other.nexthop}"])
        m = stack.enter_context(Instance(tmp_path / "mail", settings={"transport_maps": f"inline:{{ {routes} }}"}))
        add_service(m, "few unix - - n - 2 smtp -o smtp_connection_cache_on_demand=no")
        m.start()
        with m.smtp() as s:
            for i in range(9):
                s.sendmail(f"from{i}@example.test", [f"x@d{i % 3}.test"], f"Subject: {i}\r\n\r\n\r\n")
            s.sendmail("alice@example.test", ["x@other.test"], "Subject: not behind them\r\n\r\n\r\n")
        wait_for("two deliveries", lambda: len(under_way) == 2, 60)
        other.wait(1)
        gate.set()
        wait_for("all of it", lambda: sum(len(s.messages) for s in sinks) == 9, 60)
        assert max(most) == 2 and sorted(len(s.messages) for s in sinks) == [3, 3, 3]


def test_mail_for_a_transport_that_nobody_serves_waits_and_check_names_it(tmp_path):
    with Sink("127.1.0.4") as sink:
        routes = tmp_path / "transport"
        routes.write_text(f"# comment\nfar.test smtp:{sink.nexthop}\nunknown.test nosuch:[mx.test]\nold.test mailpipe:\n")
        with Instance(tmp_path / "mail", settings={"transport_maps": f"texthash:{routes}, inline:{{ in.test=inner: }}",
                                                   "relay_transport": "gone:[x.test]", "relayhost": "[here", "mynetworks": "127.0.0.0/8"}) as m:
            add_service(m, "mailpipe unix - n n - - pipe flags=F user=nobody argv=/bin/true")
            told = m.command("check").stdout
            for where in (f"{routes}, line 3: nobody serves the transport \"nosuch\"", f"{routes}, line 4: nobody serves the transport \"mailpipe\"",
                          "relay_transport: nobody serves the transport \"gone\"", "transport_maps: nobody serves the transport \"inner\""):
                assert where in told, told
            assert told.count("nobody serves") == 4
            assert "relayhost: nexthop \"[here\" is neither" in told
            m.start()
            send(m, "a@unknown.test", "a@old.test", "a@far.test")
            assert sink.wait(1)[0].rcpts == ["a@far.test"]
            for name in ("unknown", "old"):
                m.wait_log(rf"to=<a@{name}.test>, relay=none, .*dsn=4.3.0, status=deferred \(mail transport unavailable\)")


def test_deferred_transports_keep_their_mail_and_no_other(tmp_path):
    with Sink("127.1.0.4") as sink:
        routes = f"inline:{{ one.test=slow:{sink.nexthop}, two.test=smtp:{sink.nexthop} }}"
        with Instance(tmp_path / "mail", settings={"transport_maps": routes, "defer_transports": "uucp, slow", **FAST}) as m:
            add_service(m, "slow unix - - n - - smtp")
            m.start()
            send(m, "a@one.test", "a@two.test")
            m.wait_log(r"to=<a@one.test>, relay=none, .*dsn=4.3.2, status=deferred \(deferred transport\)")
            assert [message.rcpts for message in sink.wait(1)] == [["a@two.test"]]
            m.configure(defer_transports="uucp")
            m.command("reload")
            m.command("queue", "flush")
            assert sink.wait(2)[1].rcpts == ["a@one.test"]


def test_a_transport_with_a_rate_delay_makes_one_delivery_at_a_time(tmp_path):
    with contextlib.ExitStack() as stack:
        began = []
        sinks = [stack.enter_context(Sink("127.1.0.5"))]
        sinks += [stack.enter_context(Sink(f"127.1.0.{i}", sinks[0].port)) for i in (6, 8)]
        for s in sinks:
            s.answer["MAIL"] = lambda line: began.append(time.monotonic())
        routes = ", ".join(f"d{i}.test=slow:{s.nexthop}" for i, s in enumerate(sinks))
        m = stack.enter_context(Instance(tmp_path / "mail", settings={"transport_maps": f"inline:{{ {routes} }}"}))
        add_service(m, "slow unix - - n - - smtp -o slow_transport_rate_delay=1s")
        m.start()
        send(m, "a@d0.test", "a@d1.test", "a@d2.test")
        for s in sinks:
            s.wait(1)
        assert all(later - earlier >= 0.9 for earlier, later in zip(began, began[1:])), began
