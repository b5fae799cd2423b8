"""Mail for elsewhere: taken from whom it may be, kept, sent, put off, sent back."""
import base64
import email
import os
import re
import signal
import smtplib
import threading

import pytest

from instance import Instance, free_ports, wait_for
from sink import CLOSE, HANG, Sink
from smtpserver import Hostile

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}


@pytest.fixture
def sink():
    with Sink("127.1.0.1") as s:
        yield s


@pytest.fixture
def relay(tmp_path, sink):
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, **FAST}) as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        m.start()
        yield m


def send(mail, sender, rcpts, text="Subject: hello\r\n\r\nthe text\r\n", options=(), rcpt_options=()):
    with mail.smtp() as s:
        return s.sendmail(sender, rcpts, text, options, rcpt_options)


def queue_is_empty(mail):
    wait_for("the queue to be empty", lambda: "empty" in mail.command("queue", "list").stdout.lower(), 60)


def test_our_networks_may_send_elsewhere(relay, sink):
    send(relay, "alice@example.test", ["x@far.test", "y@far.test", "z@other.test"])
    sink.wait(2)
    assert sorted(r for m in sink.messages for r in m.rcpts) == ["x@far.test", "y@far.test", "z@other.test"]
    assert b"the text" in sink.messages[0].data and b"Received: from client.test" in sink.messages[0].data
    queue_is_empty(relay)
    line = relay.wait_log(r"postrider/smtp\[\d+\]: (\S+): to=<x@far.test>, relay=\S*127.1.0.1\S*:%d, delay=[\d.]+, "
                          r"delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=2.0.0, status=sent \(250 2.0.0 Ok: taken\)" % sink.port)
    queue_id = line.group(1)
    # One id for all of its life.
    relay.wait_log(rf"smtpd\S+: {queue_id}: client=")
    relay.wait_log(rf"qmgr\S+: {queue_id}: from=<alice@example.test>, size=\d+, nrcpt=3 \(queue active\)")
    relay.wait_log(rf"qmgr\S+: {queue_id}: removed")


def test_local_and_far_recipients_of_one_message_each_get_it_once(relay, sink):
    send(relay, "alice@example.test", ["bob@example.test", "x@far.test"])
    sink.wait(1)
    relay.wait_messages("bob@example.test", 1)
    queue_is_empty(relay)
    assert [m.rcpts for m in sink.messages] == [["x@far.test"]]


def test_an_alias_of_ours_may_lead_elsewhere_even_for_strangers(tmp_path, sink):
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "mynetworks": "192.0.2.0/24"}) as m:
        m.user("bob@example.test")
        m.command("alias", "add", "team@example.test", "bob@example.test", "x@far.test")
        m.start()
        send(m, "stranger@nowhere.test", ["team@example.test"])
        m.wait_messages("bob@example.test", 1)
        assert sink.wait(1)[0].rcpts == ["x@far.test"]


ROUTES = ["x@far.test", "@example.test:x@far.test", "x%far.test@example.test", "x@[127.0.0.1]",
          '"x@far.test"@example.test', "far.test!x@example.test", "x@far.test@example.test", "x%far.test@[127.0.0.1]"]


def test_a_stranger_relays_nothing(tmp_path, sink):
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "mynetworks": "192.0.2.0/24"}) as m:
        m.user("bob@example.test")
        m.start()
        with m.smtp() as s:
            s.ehlo("client.test")
            s.mail("stranger@nowhere.test")
            for address in ROUTES:
                code, text = s.docmd(f"RCPT TO:<{address}>")
                assert code >= 500, (address, code, text)
        with smtplib.SMTP_SSL("127.0.0.1", m.ports["submissions"], context=m.tls(), timeout=60) as s:
            s.login("bob@example.test", "secret")
            s.sendmail("bob@example.test", ["x@far.test"], "Subject: mine\r\n\r\n\r\n")
        assert sink.wait(1)[0].rcpts == ["x@far.test"]


def test_what_is_put_off_is_tried_again_and_what_is_refused_comes_back(relay, sink):
    tries = []
    sink.answer["RCPT"] = lambda line: (
        "550 5.1.1 no such user" if "<gone@" in line
        else ("450 4.2.0 later" if "<late@" in line and not (tries.append(line) or len(tries) > 2) else None))
    send(relay, "alice@example.test", ["late@far.test", "gone@far.test", "x@far.test"])
    relay.wait_messages("alice@example.test", 1)
    wait_for("the late one", lambda: any("late@far.test" in m.rcpts for m in sink.messages), 60)
    queue_is_empty(relay)
    assert sorted(r for m in sink.messages for r in m.rcpts) == ["late@far.test", "x@far.test"]
    report = email.message_from_file(open(relay.messages("alice@example.test")[0]))
    assert report.get_content_type() == "multipart/report" and report["Return-Path"] == "<>"
    text = report.as_string()
    assert "Final-Recipient: rfc822; gone@far.test" in text and "Status: 5.1.1" in text
    assert "Diagnostic-Code: smtp; 550 5.1.1 no such user" in text and "the text" in text
    relay.wait_log(r"to=<late@far.test>.*dsn=4.2.0, status=deferred")
    relay.wait_log(r"to=<gone@far.test>.*dsn=5.1.1, status=bounced")
    relay.wait_log(r"bounce\S+: \S+: sender non-delivery notification: \w+")


def test_one_report_for_all_destinations(relay, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 no such user" if "<gone" in line else None
    send(relay, "alice@example.test", [f"gone{i}@d{i}.test" for i in range(8)] + ["x@d3.test"])
    relay.wait_messages("alice@example.test", 1)
    queue_is_empty(relay)
    text = open(relay.messages("alice@example.test")[0]).read()
    assert len(relay.messages("alice@example.test")) == 1
    for i in range(8):
        assert f"Final-Recipient: rfc822; gone{i}@d{i}.test" in text


def test_bounces_go_out_like_other_mail_and_none_is_bounced(relay, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 no" if "<gone@" in line else None
    send(relay, "far@sender.test", ["gone@far.test"])
    bounce = sink.wait(1)[0]
    assert bounce.sender == "" and bounce.rcpts == ["far@sender.test"]
    send(relay, "", ["gone@far.test"])
    relay.wait_log("undeliverable notification dropped|notification: ")
    queue_is_empty(relay)
    assert len(sink.messages) == 1


def test_notify_is_obeyed(relay, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 no" if "<gone" in line else None
    with relay.smtp() as s:
        s.ehlo("client.test")
        s.mail("alice@example.test", ["RET=HDRS", "ENVID=my+2Did"])
        s.rcpt("gone1@far.test", ["NOTIFY=NEVER"])
        s.rcpt("gone2@far.test", ["NOTIFY=FAILURE", "ORCPT=rfc822;first@far.test"])
        s.rcpt("x@far.test", ["NOTIFY=SUCCESS"])
        s.data("Subject: hello\r\n\r\nthe text\r\n")
    relay.wait_messages("alice@example.test", 2)
    texts = [open(f).read() for f in relay.messages("alice@example.test")]
    failed = next(t for t in texts if "Action: failed" in t)
    good = next(t for t in texts if "Action: relayed" in t)
    assert "gone1" not in failed and "Original-Recipient: rfc822; first@far.test" in failed
    assert "Original-Envelope-Id: my-id" in failed and "the text" not in failed
    assert "Final-Recipient: rfc822; x@far.test" in good and "Action: failed" not in good


def test_the_sender_hears_of_a_delay_once(tmp_path, sink):
    sink.answer["RCPT"] = lambda line: "450 4.2.0 later"
    settings = {"relayhost": sink.nexthop, "delay_warning_time": "2s", "confirm_delay_cleared": "yes", **FAST}
    with Instance(tmp_path / "mail", settings=settings) as m:
        m.user("alice@example.test")
        m.start()
        send(m, "alice@example.test", ["x@far.test"])
        m.wait_messages("alice@example.test", 1)
        tries = len(re.findall("status=deferred", m.log()))
        wait_for("more attempts", lambda: len(re.findall("status=deferred", m.log())) > tries + 2, 60)
        text = open(m.messages("alice@example.test")[0]).read()
        assert "Action: delayed" in text and "Will-Retry-Until:" in text
        assert len(m.messages("alice@example.test")) == 1
        sink.answer["RCPT"] = lambda line: None
        m.command("queue", "flush")
        m.wait_messages("alice@example.test", 2)
        assert sum("Action: relayed" in open(path).read() for path in m.messages("alice@example.test")) == 1
        send(m, "alice@example.test", ["y@far.test"])       # in time: nothing to tell
        sink.wait(2)
        queue_is_empty(m)
        assert len(m.messages("alice@example.test")) == 2


def test_what_waits_too_long_comes_back(tmp_path, sink):
    sink.answer["RCPT"] = lambda line: "450 4.2.0 later"
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "maximal_queue_lifetime": "3s", **FAST}) as m:
        m.user("alice@example.test")
        m.start()
        send(m, "alice@example.test", ["x@far.test"])
        m.wait_messages("alice@example.test", 1)
        assert "Status: 4.4.7" in open(m.messages("alice@example.test")[0]).read()
        queue_is_empty(m)


def test_soft_bounce_keeps_what_is_refused(tmp_path, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 no"
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "soft_bounce": "yes", **FAST}) as m:
        m.user("alice@example.test")
        m.start()
        send(m, "alice@example.test", ["x@far.test"])
        m.wait_log(r"to=<x@far.test>.*dsn=4.1.1, status=deferred")
        assert "x@far.test" in m.command("queue", "list").stdout


def test_a_dead_and_a_hanging_destination_hold_up_no_other(tmp_path):
    with Sink("127.1.0.2") as good, Sink("127.1.0.3", good.port) as slow:
        slow.answer["GREET"] = lambda line: HANG
        routes = ", ".join(f"{{ {name}.test = smtp:[{address}]:{good.port} }}" for name, address in
                           (("good", "127.1.0.2"), ("slow", "127.1.0.3"), ("dead", "127.1.0.9")))
        with Instance(tmp_path / "mail", settings={"transport_maps": f"inline:{{ {routes} }}"}) as m:
            m.user("alice@example.test")
            m.start()
            with m.smtp() as s:
                for i in range(60):
                    s.sendmail("alice@example.test", [f"d{i}@dead.test"], "Subject: dead\r\n\r\n\r\n")
                for i in range(30):
                    s.sendmail("alice@example.test", [f"s{i}@slow.test"], "Subject: slow\r\n\r\n\r\n")
                s.sendmail("alice@example.test", ["x@good.test"], "Subject: good\r\n\r\n\r\n")
            good.wait(1)
            m.wait_log(r"to=<d\d+@dead.test>.*status=deferred \(delivery temporarily suspended: ")
            assert slow.most <= 5                # initial_destination_concurrency


def test_who_asks_for_a_flush_is_believed_that_the_destination_is_there_again(tmp_path):
    """A dead destination is left alone for minimal_backoff_time (300 s): not when somebody says "now"."""
    port = free_ports(1)[0]
    with Instance(tmp_path / "mail", settings={"relayhost": f"[127.1.0.1]:{port}"}) as m:
        m.user("alice@example.test")
        m.start()
        for i in range(10):
            send(m, "alice@example.test", [f"d{i}@far.test"])
            m.wait_log(rf"to=<d{i}@far.test>.*status=deferred")
        m.wait_log(r"to=<d\d@far.test>.*status=deferred \(delivery temporarily suspended: ")
        with Sink("127.1.0.1", port) as sink:
            m.command("queue", "flush", "--destination", "far.test")
            sink.wait(10)
        queue_is_empty(m)


def test_a_reload_that_tells_another_way_forgets_which_destinations_were_dead(tmp_path):
    with Sink("127.1.0.2") as sink, Instance(tmp_path / "mail", settings={"relayhost": f"[127.1.0.1]:{free_ports(1)[0]}"}) as m:
        m.user("alice@example.test")
        m.start()
        for i in range(10):
            send(m, "alice@example.test", [f"d{i}@far.test"])
            m.wait_log(rf"to=<d{i}@far.test>.*status=deferred")
        m.wait_log(r"to=<d\d@far.test>.*status=deferred \(delivery temporarily suspended: ")
        m.configure(smtp_fallback_relay=sink.nexthop)
        m.command("reload")
        wait_for("the new way", lambda: send(m, "alice@example.test", ["e@far.test"]) or sink.messages, 60)


def test_concurrency_stays_below_its_limit(tmp_path, sink):
    gate = threading.Event()
    sink.answer["END"] = lambda message: gate.wait(30) and None
    settings = {"relayhost": sink.nexthop, "smtp_destination_concurrency_limit": "3", **FAST}
    with Instance(tmp_path / "mail", settings=settings) as m:
        m.user("alice@example.test")
        m.start()
        with m.smtp() as s:
            for i in range(12):
                s.sendmail("alice@example.test", [f"x{i}@far.test"], "Subject: x\r\n\r\n\r\n")
        wait_for("three at a time", lambda: sink.open == 3, 60)
        gate.set()
        sink.wait(12)
        assert sink.most == 3


def test_a_transport_of_master_cf_has_its_own_settings(tmp_path, sink):
    """Its -o, its limits, and what its command is: no other name in main.cf tells."""
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "default_transport": "slow"}) as m:
        with open(os.path.join(m.dir, "master.cf"), "a") as f:
            f.write("slow unix - - n - - smtp\n  -o smtp_destination_concurrency_limit=1 -o smtp_helo_name=slow.test\n"
                    "  -o smtp_connection_cache_on_demand=no\n")
        m.start()
        names, under_way, most = [], [], []
        sink.answer["EHLO"] = lambda line: names.append(line.split()[1])
        sink.answer["MAIL"] = lambda line: (under_way.append(1), most.append(len(under_way)))[2:]
        sink.answer["END"] = lambda message: under_way.pop() and None
        with m.smtp() as s:
            for i in range(8):
                s.sendmail("x@example.test", [f"y{i}@far.test"], f"Subject: {i}\r\n\r\nx\r\n")
        sink.wait(8)
        assert max(most) == 1 and set(names) == {"slow.test"}
        queue_is_empty(m)
        with open(os.path.join(m.dir, "master.cf"), "a") as f:
            f.write("bad unix - - n - - smtp -o smtp_connect_timeout=soon\n")
        refused = m.command("check", check=False)
        assert refused.returncode != 0 and "smtp_connect_timeout" in refused.stdout
        assert "not used yet: service slow" not in refused.stdout and "smtp_destination" not in refused.stdout


def test_a_killed_relay_loses_nothing_and_repeats_only_what_was_not_reported(relay, sink):
    with relay.smtp() as s:
        for i in range(200):
            s.sendmail("alice@example.test", [f"x{i}@far.test"], f"Subject: {i}\r\n\r\n\r\n")
            if i % 40 == 20:
                os.kill(relay.pid_of("relay"), signal.SIGKILL)
    wait_for("all recipients", lambda: len({r for m in list(sink.messages) for r in m.rcpts}) == 200, 60)
    queue_is_empty(relay)
    # Only what was under way at a kill: at most the connections of one destination, each time.
    assert len(sink.messages) <= 200 + 5 * 20


def test_a_large_message_goes_through(relay, sink):
    text = "Subject: large\r\n\r\n" + "x" * 70 + "\r\n"
    text += ("y" * 70 + "\r\n") * 5000
    send(relay, "alice@example.test", ["x@far.test", "bob@example.test"], text)
    assert sink.wait(1)[0].data.endswith(text.encode()[-2000:])
    relay.wait_messages("bob@example.test", 1)


def test_the_queue_keeps_it_over_a_restart(tmp_path, sink):
    sink.answer["GREET"] = lambda line: "421 4.3.2 not now"
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, **FAST}) as m:
        m.user("alice@example.test")
        m.start()
        send(m, "alice@example.test", ["x@far.test"])
        m.wait_log("status=deferred")
        m.stop()
        sink.answer.clear()
        m.start()
        assert sink.wait(1)[0].rcpts == ["x@far.test"]
        queue_is_empty(m)


def test_a_smarthost_with_tls_and_password(tmp_path):
    """As the README has it, with another instance as the provider: first with a wrong password, then with the right one."""
    with Instance(tmp_path / "provider", domain="far.test") as provider:
        provider.user("alice@far.test")
        provider.user("bob@far.test", "open sesame")
        provider.start()
        smarthost = f"[127.0.0.1]:{provider.ports['submission']}"
        table = tmp_path / "sasl_passwd"
        table.write_text(f"{smarthost} bob@far.test:wrong\n")
        with Instance(tmp_path / "mail", settings={
                "relayhost": smarthost, "smtp_tls_security_level": "encrypt", "smtp_sasl_auth_enable": "yes",
                "smtp_sasl_tls_security_options": "noanonymous", "smtp_sasl_password_maps": f"texthash:{table}",
                **FAST}) as m:
            m.start()
            send(m, "bob@far.test", ["alice@far.test"])
            m.wait_log(r"to=<alice@far.test>.*status=deferred \(SASL authentication failed")
            table.write_text(f"{smarthost} bob@far.test:open sesame\n")
            provider.wait_messages("alice@far.test", 1)
            queue_is_empty(m)
        provider.wait_log(r"submission/smtpd\S+ \S+: client=.*sasl_method=\S+, sasl_username=bob@far.test")


def test_each_sender_has_a_log_in_of_his_own(tmp_path):
    """By his address, by it without the extension, by his domain, else by the smarthost."""
    ok = {"AUTH": "235 2.7.0 Ok"}
    with Hostile(ok, extensions=("AUTH PLAIN",)) as server, Instance(tmp_path / "mail", settings={
            "relayhost": server.nexthop, "smtp_sasl_auth_enable": "yes", "smtp_sasl_security_options": "noanonymous",
            "smtp_sender_dependent_authentication": "yes", "recipient_delimiter": "+", "smtp_destination_concurrency_limit": "1",
            "smtp_connection_cache_on_demand": "no", "smtp_sasl_password_maps":
            f"inline:{{ {{ann@a.test = ann:1}} {{@a.test = a.test:2}} {{{server.nexthop} = all:3}} }}"}) as m:
        m.start()
        for sender in ("ann@a.test", "Ann+list@A.test", "ben@a.test", "ben@b.test", ""):
            send(m, sender, ["x@far.test"])
        wait_for("five messages", lambda: len(server.accepted) == 5)
        who = {}
        commands = [c for c in server.commands if c.startswith(("AUTH", "MAIL"))]
        for command in commands:
            if command.startswith("AUTH"):
                user = base64.b64decode(command.split()[2]).split(b"\0")[1].decode()
            else:
                who[command.split("<")[1].split(">")[0]] = user
    assert who == {"ann@a.test": "ann", "Ann+list@A.test": "ann", "ben@a.test": "a.test", "ben@b.test": "all", "": "all"}, commands


def test_what_was_expired_by_hand_goes_back_when_it_fails_again(relay, sink):
    sink.answer["RCPT"] = lambda line: "450 4.2.0 later" if "late" in line else None
    send(relay, "bob@example.test", ["late@far.test"])
    relay.wait_log("to=<late@far.test>.*status=deferred")
    assert relay.command("queue", "expire", "--sender", "bob@example.test").stdout == "1 message\n"
    relay.command("queue", "flush")
    (path,) = relay.wait_messages("bob@example.test", 1)
    with open(path) as f:
        text = f.read()
    assert "Action: failed\nStatus: 4.4.7\n" in text
    queue_is_empty(relay)


def test_the_administrator_has_the_last_word_on_a_status(tmp_path, sink):
    """*_delivery_status_filter and smtp_reply_filter: what failed waits, what waits fails, what was sent stays so."""
    with Instance(tmp_path / "mail", settings={
            "relayhost": sink.nexthop, **FAST,
            "smtp_delivery_status_filter": r"pcre:{ {/^5\.1\.1 (.*full.*)$$/ 4.2.2 $$1}, {/^4\.7\.1 (.*)$$/ 5.7.1 ours $$1}, "
                                           r"{/^2\.0\.0 / 5.0.0 no}, {/^5\.7\.9 / hardly a code} }",
            "smtp_reply_filter": r"pcre:{ {/^550 5\.2\.0 (.*)$$/ 451 4.2.0 mended $$1} }"}) as m:
        m.user("alice@example.test")
        m.start()
        says = {"full@": "550 5.1.1 mailbox full", "never@": "451 4.7.1 later", "odd@": "550 5.2.0 odd", "plain@": "550 5.7.9 no"}
        sink.answer["RCPT"] = lambda line: next((v for k, v in says.items() if k in line), None)
        send(m, "alice@example.test", ["full@a.test", "never@b.test", "odd@c.test", "good@d.test", "plain@e.test"])
        m.wait_log(r"to=<full@a.test>.*dsn=4.2.2, status=deferred \(host .* said: 550 5.1.1 mailbox full")
        m.wait_log(r"to=<never@b.test>.*dsn=5.7.1, status=bounced \(ours host .* said: 451 4.7.1 later")
        m.wait_log(r"to=<odd@c.test>.*dsn=4.2.0, status=deferred \(host .* said: 451 4.2.0 mended odd")
        m.wait_log(r"to=<good@d.test>.*dsn=2.0.0, status=sent")
        m.wait_log(r"to=<plain@e.test>.*dsn=5.7.9, status=bounced")
        m.wait_log(r'smtp_delivery_status_filter: "5.0.0 no" cannot stand for "2.0.0": ignored')
        said = "".join(open(f).read() for f in m.wait_messages("alice@example.test", 1))
        assert "never@b.test" in said and "Status: 5.7.1" in said and "plain@e.test" in said and "full@a.test" not in said
        says.clear()
        queue_is_empty(m)


def test_users_of_ours_whose_transport_leads_elsewhere(tmp_path, sink):
    """On their way to another server, or already there: by each way in; and back by LMTP they are here."""
    with Instance(tmp_path / "mail", settings={
            "transport_maps": f"inline:{{ {{bob@example.test = smtp:{sink.nexthop}}} {{example.test = :}} }}", "recipient_delimiter": "+", **FAST}) as m:
        for name in ("alice", "bob"):
            m.user(f"{name}@example.test")
        m.command("alias", "add", "all@example.test", "alice@example.test", "bob@example.test")
        m.command("alias", "add", "one@example.test", "bob@example.test")
        m.start()
        with m.smtp() as s:
            for to in (["Bob+x@example.test"], ["alice@example.test", "bob@example.test"], ["all@example.test"], ["one@example.test"]):
                s.sendmail("ann@far.test", to, "Subject: s\r\n\r\nx\r\n")
        m.command("sendmail", "bob", "alice", input="Subject: s\n\nx\n")
        sink.wait(5)
        assert sorted(r for x in sink.messages for r in x.rcpts) == ["Bob+x@example.test"] + ["bob@example.test"] * 4
        m.wait_messages("alice@example.test", 3)
        with smtplib.LMTP("127.0.0.1", m.ports["lmtp"], local_hostname="filter.test") as s:
            s.sendmail("ann@far.test", ["bob@example.test"], "Subject: filtered\r\n\r\nx\r\n")
        m.wait_messages("bob@example.test", 1)
        # Nobody is let in by it who was not there; the whole domain may go there, too, and comes back at a reload.
        with m.smtp() as s:
            s.ehlo()
            s.mail("ann@far.test")
            assert s.rcpt("nobody@example.test")[0] == 550
        m.configure(transport_maps="", virtual_transport=f"smtp:{sink.nexthop}")
        m.command("reload")
        m.send("alice@example.test")
        assert sink.wait(6)[5].rcpts == ["alice@example.test"]
        m.configure(virtual_transport="virtual")
        m.command("reload")
        m.send("bob@example.test")
        m.wait_messages("bob@example.test", 2)


@pytest.mark.parametrize("to, code, said", [
    ("a@err.test", 550, "5.1.1 <a@err.test>: Recipient address rejected: nobody lives here"),
    ("a@plain.test", 550, "5.1.1 <a@plain.test>: Recipient address rejected: plain words"),
    ("a@temp.test", 550, "5.7.1 <a@temp.test>: Recipient address rejected: no"),
    ("a@retry.test", 450, "4.3.0 <a@retry.test>: Recipient address rejected: later"),
    ("alice@example.test", 550, "5.2.1 <alice@example.test>: Recipient address rejected: gone"),
    ("moved@example.test", 550, "5.1.6 <moved@example.test>: Recipient address rejected: User has moved to new@far.test"),
    ("a@relayed.test", 550, "5.1.1 <a@relayed.test>: Recipient address rejected: closed"),
])
def test_what_no_transport_takes_is_refused_at_the_door(shut, to, code, said):
    """In Postfix's words: what it would have to send back is no good to anybody."""
    with shut.smtp() as s:
        s.ehlo()
        for _ in range(2):       # and is not forgotten by what is known of the domain
            s.mail("ann@far.test")
            assert s.rcpt(to) == (code, said.encode())
            s.rset()
        s.mail("ann@far.test")
        assert s.rcpt("bob@example.test")[0] == s.rcpt("a@far.test")[0] == s.rcpt("alias@example.test")[0] == 250
    # Programs of this machine have gone when it could be said.
    shut.command("sendmail", "-f", "bob", to, input="Subject: s\n\nx\n")


@pytest.fixture(scope="module")
def shut(tmp_path_factory):
    with Instance(tmp_path_factory.mktemp("shut") / "mail", settings={
            "relay_domains": "relayed.test", "relay_transport": "error:closed", "relocated_maps": "inline:{moved@example.test=new@far.test}",
            "transport_maps": "inline:{ {err.test = error:5.1.1 nobody lives here} {plain.test = error:plain words} {temp.test = error:4.7.1 no}"
            " {retry.test = retry:4.3.0 later} {alice@example.test = error:5.2.1 gone} }"}) as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        m.command("alias", "add", "alias@example.test", "alice@example.test", "bob@example.test")
        yield m.start()


def test_a_host_that_only_etc_hosts_knows(tmp_path):
    """The jailed relay has what master read."""
    lines = [line.split("#")[0].split() for line in open("/etc/hosts")]
    names = [n for words in lines for n in words[1:] if words[0].startswith("127.") and "localhost" not in n and "." not in n]
    if not names:
        pytest.skip("/etc/hosts has no name of ours")
    address = next(words[0] for words in lines if names[0] in words[1:])
    with Sink(address) as sink, Instance(tmp_path / "mail", settings={
            "relayhost": f"[{names[0]}]:{sink.port}", "smtp_host_lookup": "native", **FAST}) as m:
        m.user("alice@example.test")
        m.start()
        send(m, "alice@example.test", ["x@far.test"])
        assert sink.wait(1)[0].rcpts == ["x@far.test"]
