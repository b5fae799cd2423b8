"""MTA-STS (RFC 8461): policies are found, fetched, kept and applied; nothing that an attacker or a broken web server does
makes mail go in clear where a policy is known, or stops it where none is."""
import os
import random
import signal

import pytest

from dnsserver import DnsServer
from instance import Instance, wait_for
from sink import Sink
from webserver import CLOSE, ENDLESS, ENDLESS_HEADER, HANG, Authority, PolicyServer, reply

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="policies are fetched from port 443")
WEB_ERRORS = {
    "page.test": (reply("version: STSv1\r\n", kind="text/html"), r'sends "text/html" instead of text/plain'),
    "moved.test": (reply("", "301 Moved", more="Location: https://mta-sts.good.test/.well-known/mta-sts.txt\r\n"),
                   "answers 301, and redirects are not followed"),
    "gone.test": (reply("no", "404 Not Found"), "answers 404"),
    "endless.test": (ENDLESS, "the answer is too large"),
    "header.test": (ENDLESS_HEADER, "the answer is too large"),
    "hang.test": (HANG, "timed out"),
    "close.test": (CLOSE, r"\S+"),
    "broken.test": (reply("version: STSv1\nmode: enforce\nmax_age: 86400\n"), "it names no mx"),
}


class Stand:
    """Four mail servers on one port, a web server, a DNS server, and the system that sends."""

    def __init__(self, path):
        net = f"127.{random.randrange(64, 250)}.{random.randrange(250)}."
        self.ca = Authority(path / "ca.pem")
        self.sinks = {}
        for name, names in (("mx1", ["mx1.sts.test"]), ("mx2", ["mx2.sts.test"]), ("plain", None), ("wrong", ["other.test"])):
            context, key = self.ca.issue(*names) if names else (None, None)
            port = self.sinks["mx1"].port if self.sinks else 0
            self.sinks[name] = Sink(net + str(len(self.sinks) + 1), port, tls=context)
            self.sinks[name].key = key
        self.web = PolicyServer(net + "9", self.ca)
        self.dns = DnsServer().start()
        self.anchor = path / "anchor"
        self.dns.sign("signed.test")
        for name, sink in self.sinks.items():
            self.dns.set(f"{name}.sts.test", "A", sink.address)
        port = self.sinks["mx1"].port
        settings = self.dns.settings(
            trust=self.anchor, smtp_tcp_port=port, smtp_mx_session_limit=10, smtp_tls_security_level="dane",
            smtp_mta_sts="yes", smtp_mta_sts_CAfile=self.ca.path, minimal_backoff_time="1h", queue_run_delay="1h",
            smtp_tls_policy_maps="inline:{{mapped.test=may}}",
            transport_maps="inline:{{bracket.test=smtp:[plain.sts.test]}}")
        self.mail = Instance(path / "mail", settings=settings)

    def domain(self, name, *hosts, record="v=STSv1; id=1;"):
        """Its MX records, the most preferred first."""
        self.dns.set(name, "MX", *(f"{10 * (i + 1)} {h if '.' in h else h + '.sts.test'}." for i, h in enumerate(hosts)))
        self.dns.set("_mta-sts." + name, "TXT", f'"{record}"')
        self.dns.set("mta-sts." + name, "A", self.web.socket.getsockname()[0])

    def another_relay(self):
        pid = self.mail.pid_of("relay")
        os.kill(pid, signal.SIGKILL)
        wait_for("another relay", lambda: self.mail.pid_of("relay") != pid)

    def send(self, *rcpts):
        with self.mail.smtp() as s:
            s.sendmail("alice@example.test", list(rcpts), "Subject: hello\r\n\r\ntext\r\n")

    def taken(self, rcpt):
        """(who took it, was it in TLS)."""
        found = [(name, m.tls) for name, sink in self.sinks.items() for m in sink.messages if rcpt in m.rcpts]
        assert len(found) <= 1, found
        return found[0] if found else None

    def wait_taken(self, rcpt):
        return wait_for(f"mail to {rcpt}", lambda: self.taken(rcpt), 60)

    def wait_deferred(self, rcpt, why):
        self.mail.wait_log(rf"to=<{rcpt}>.*status=deferred \(.*{why}", 60)
        assert self.taken(rcpt) is None


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    s = Stand(tmp_path_factory.mktemp("sts"))
    try:
        with s.mail as mail:
            mail.user("alice@example.test")
            mail.start()
            yield s
    finally:
        s.web.stop()
        s.dns.stop()
        for sink in s.sinks.values():
            sink.__exit__()


def test_an_enforced_policy_goes_on_to_a_host_that_keeps_it_or_waits(stand):
    stand.domain("good.test", "wrong", "plain", "mx1")
    stand.web.policy("good.test", "enforce", "*.sts.test")
    stand.domain("strict.test", "mx2")
    stand.web.policy("strict.test", "enforce", "mx1.sts.test")
    stand.domain("bad.test", "wrong")
    stand.web.policy("bad.test", "enforce", "wrong.sts.test")
    stand.domain("bare.test", "plain")
    stand.web.policy("bare.test", "enforce", "plain.sts.test", eol="\n")
    stand.send("a@good.test", "a@strict.test", "a@bad.test", "a@bare.test")
    assert stand.wait_taken("a@good.test") == ("mx1", True)
    stand.wait_deferred("a@strict.test", r"policy of strict.test \(MTA-STS, enforce\) demands mail servers that it names, "
                        "and mx2.sts.test is none of them")
    stand.wait_deferred("a@bad.test", r"policy of bad.test \(MTA-STS, enforce\) demands TLS with a trusted certificate of "
                        "wrong.sts.test: Server certificate not verified")
    stand.wait_deferred("a@bare.test", r"policy of bare.test \(MTA-STS, enforce\) demands TLS with a trusted certificate of "
                        "plain.sts.test: TLS is required, but was not offered")
    stand.mail.wait_log(r"policy of good.test \(MTA-STS, enforce\): fetched, id 1, holds for 86400 s")
    listed = stand.mail.command("queue", "list").stdout
    assert "policy of strict.test (MTA-STS, enforce) demands" in " ".join(listed.split())


def test_what_is_tested_or_has_no_policy_is_delivered_and_told(stand):
    stand.domain("try1.test", "mx2")
    stand.web.policy("try1.test", "testing", "mx1.sts.test")
    stand.domain("try2.test", "wrong")
    stand.web.policy("try2.test", "testing", "wrong.sts.test")
    stand.domain("try3.test", "plain")
    stand.web.policy("try3.test", "testing", "plain.sts.test")
    stand.domain("off.test", "plain")
    stand.web.policy("off.test", "none")
    stand.domain("two.test", "plain")
    stand.dns.set("_mta-sts.two.test", "TXT", '"v=STSv1; id=1;"', '"v=STSv1; id=2;"')
    # Who asks for something else than "TLS if there is" gets it; a host in brackets is not found by MX.
    for name in ("mapped.test", "bracket.test"):
        stand.domain(name, "plain")
        stand.web.policy(name, "enforce", "mx1.sts.test")
    stand.send(*(f"a@{name}.test" for name in ("try1", "try2", "try3", "off", "two", "mapped", "bracket")))
    assert stand.wait_taken("a@try1.test") == ("mx2", True)
    assert stand.wait_taken("a@try2.test") == ("wrong", True)
    for name in ("try3", "off", "two", "mapped", "bracket"):
        assert stand.wait_taken(f"a@{name}.test") == ("plain", False)
    demand = r"policy of try{}.test \(MTA-STS, testing\) demands "
    trusted = r"TLS with a trusted certificate of {}.sts.test: \S+: "
    stand.mail.wait_log(demand.format(1) + "mail servers that it names, and mx2.sts.test is none of them; delivered all the same")
    stand.mail.wait_log(demand.format(2) + trusted.format("wrong") + "Server certificate not verified; delivered all the same")
    stand.mail.wait_log(demand.format(3) + trusted.format("plain") + "STARTTLS was not offered; delivered all the same")
    assert not {"two.test", "mapped.test", "bracket.test"} & set(stand.web.asked)


def test_a_web_server_that_has_no_policy_for_us_stops_no_mail(stand):
    for name, (answer, _) in WEB_ERRORS.items():
        stand.domain(name, "plain")
        stand.web.answer[name] = answer
    for name, authority, host in (("stranger.test", Authority(name="Somebody"), "mta-sts.stranger.test"), ("alias.test", stand.ca, "www.alias.test")):
        stand.domain(name, "plain")
        stand.web.policy(name, "enforce", "mx1.sts.test")
        stand.web.certificate(name, authority, host)
    stand.domain("nowhere.test", "plain")
    stand.dns.remove("mta-sts.nowhere.test")
    names = [*(n for n in WEB_ERRORS if n != "hang.test"), "stranger.test", "alias.test", "nowhere.test"]
    stand.send(*("a@" + name for name in names))
    for name in names:
        assert stand.wait_taken("a@" + name) == ("plain", False)
    stand.mail.configure(smtp_mta_sts_timeout="1s")
    stand.mail.command("reload")
    stand.send("a@hang.test")
    wait_for("mail to a@hang.test", lambda: stand.taken("a@hang.test") == ("plain", False), 120)
    stand.mail.configure(smtp_mta_sts_timeout="60s")
    stand.mail.command("reload")
    tell = r"policy of {0} \(MTA-STS\): cannot be fetched from mta-sts.{0}: .*{1}.*; mail is sent as without one"
    whys = {**{n: w for n, (_, w) in WEB_ERRORS.items()}, "stranger.test": "certificate", "alias.test": "alias.test",
            "nowhere.test": "has no address"}
    for name, why in whys.items():
        stand.mail.wait_log("(?i)" + tell.format(name, why))
    # Not with each message.
    before = dict(stand.web.asked)
    stand.send("b@gone.test")
    assert stand.wait_taken("b@gone.test") == ("plain", False)
    assert stand.web.asked == before


def test_dane_goes_before_it(stand):
    from cryptography.hazmat.primitives import hashes, serialization
    key = stand.sinks["wrong"].key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key)
    port = stand.sinks["wrong"].port
    stand.domain("signed.test", "mx.signed.test")
    stand.dns.set("mx.signed.test", "A", stand.sinks["wrong"].address)
    stand.dns.set(f"_{port}._tcp.mx.signed.test", "TLSA", f"3 1 1 {digest.finalize().hex()}")
    stand.web.policy("signed.test", "enforce", "mx1.sts.test")
    stand.send("a@signed.test")
    assert stand.wait_taken("a@signed.test") == ("wrong", True)


def test_a_policy_outlives_the_process_dns_and_web_server_and_ends_when_it_says_so(stand):
    stand.domain("kept.test", "wrong")
    stand.web.policy("kept.test", "enforce", "*.sts.test")
    stand.send("a@kept.test")
    stand.wait_deferred("a@kept.test", r"policy of kept.test \(MTA-STS, enforce\)")
    shown = stand.mail.command("sts", "show", "kept.test").stdout
    assert "enforce" in shown and "*.sts.test" in shown
    # An attacker: no record, no web server.
    stand.dns.set("_mta-sts.kept.test", "TXT")
    stand.web.answer["kept.test"] = CLOSE
    before = stand.web.asked["kept.test"]
    stand.another_relay()
    stand.send("b@kept.test")
    stand.wait_deferred("b@kept.test", r"policy of kept.test \(MTA-STS, enforce\)")
    assert stand.web.asked["kept.test"] == before
    # Another id, and the web server is away: the old one holds.
    stand.dns.set("_mta-sts.kept.test", "TXT", '"v=STSv1; id=2"')
    stand.send("c@kept.test")
    stand.wait_deferred("c@kept.test", r"policy of kept.test \(MTA-STS, enforce\)")
    stand.mail.wait_log(r"policy of kept.test \(MTA-STS\): cannot be fetched .*; the one that is known still holds")
    # The domain takes it back.
    stand.web.policy("kept.test", "none", max_age=60)
    stand.dns.set("_mta-sts.kept.test", "TXT", '"v=STSv1; id=3"')
    stand.send("d@kept.test")
    assert stand.wait_taken("d@kept.test") == ("wrong", True)


def test_a_policy_is_fetched_for_who_asks_for_it(stand):
    stand.domain("live.test", "mx1")
    stand.web.policy("live.test", "enforce", "mx1.sts.test")
    first = stand.mail.command("sts", "show", "live.test").stdout
    assert "enforce, id 1" in first and "mx mx1.sts.test" in first and "fetched with the next mail" not in first
    stand.web.policy("live.test", "testing", "mx2.sts.test")
    asked = stand.web.asked["live.test"]
    assert stand.mail.command("sts", "show", "live.test").stdout == first and stand.web.asked["live.test"] == asked
    assert "testing" in stand.mail.command("sts", "fetch", "live.test").stdout
    # What cannot be had now takes nothing away.
    stand.web.answer["live.test"] = reply("no", "404 Not Found")
    failed = stand.mail.command("sts", "fetch", "live.test", check=False)
    assert failed.returncode == 75 and "testing" in failed.stdout
    assert "cannot be fetched from mta-sts.live.test: " in failed.stdout and "answers 404" in failed.stdout
    none = stand.mail.command("sts", "fetch", "plain.sts.test", check=False)
    assert none.returncode == 68 and "no policy is known" in none.stdout and "DNS: NXDOMAIN" in none.stdout


def test_a_policy_is_fetched_again_before_it_ends(stand):
    stand.mail.configure(smtp_mta_sts_refresh_time="1s")
    stand.mail.command("reload")
    stand.another_relay()
    stand.domain("fresh.test", "mx1")
    stand.web.policy("fresh.test", "enforce", "mx1.sts.test")
    stand.send("a@fresh.test")
    assert stand.wait_taken("a@fresh.test") == ("mx1", True)
    wait_for("the policy to be fetched again", lambda: stand.web.asked["fresh.test"] >= 2, 60)
    stand.web.policy("fresh.test", "enforce", "mx2.sts.test")
    wait_for("the new policy", lambda: "mx2.sts.test" in stand.mail.command("sts", "show", "fresh.test").stdout, 60)
