"""What becomes of mail when the DNS of its destination is wrong: each fault has its outcome and its sentence, none
holds up other mail, none ends a process."""

import os
import re
import signal

import pytest

from dnsserver import DnsServer
from instance import Instance, wait_for
from sink import Sink

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}
LONG = ".".join(["l" * 60] * 4)[:240]      # with what stands behind it 253 octets, as many as a name may have
NOT_FOUND = "Host or domain name not found. Name service error for name="
SENT = ("sent", "2.0.0", "taken")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dnsmail")
    with DnsServer() as dns, Sink("127.1.0.7") as sink, Sink(dns.FORGED, sink.port) as forged:
        dns.sign("signed.at.test")
        # Mail for *.at.test goes by its MX records, to a port that a test may have; all else to port 25.
        routes = directory / "transport"
        routes.write_text(f"/@(.*\\.at\\.test)$/ smtp:$1:{sink.port}\n")
        settings = dns.settings(trust=directory / "anchor", dns_timeout="3s", transport_maps=f"pcre:{routes}", **FAST)
        with Instance(directory / "mail", settings=settings) as mail:
            mail.user("alice@example.test")
            mail.dns, mail.sink, mail.forged = dns, sink, forged
            yield mail.start()


def faults(dns):
    """What is said of each domain, and what is to become of mail for it: (status, dsn, part of the sentence)."""
    there = "127.1.0.7"
    outcome = {}

    def domain(name, expected, *mx, behave=None, hosts=(), ttl=None):
        outcome[name] = expected
        if mx:
            dns.set(name, "MX", *mx, ttl=ttl)
        for host in hosts:
            dns.set(host, "A", there, ttl=ttl)
        if behave:
            dns.behave(name, behave)

    # The server says nothing, or nothing that can be believed.
    for word in ("timeout", "servfail", "refused", "garbage", "short", "wrong-id", "wrong-address", "wrong-question",
                 "truncate-always"):
        domain(f"{word}.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}{word}.at.test type=MX: "), f"10 mx.{word}.at.test.",
               behave=word, hosts=[f"mx.{word}.at.test"])
    for word in ("bogus", "expired", "strip"):
        domain(f"{word}.signed.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}{word}.signed.at.test type=MX: "),
               f"10 mx.{word}.signed.at.test.", behave=word, hosts=[f"mx.{word}.signed.at.test"])
    # A lie that comes first is passed over.
    for word in ("forged-id", "forged-source", "truncate", "extra"):
        domain(f"{word}.at.test", SENT, f"10 mx.{word}.at.test.", behave=word, hosts=[f"mx.{word}.at.test"])
        dns.behave(f"mx.{word}.at.test", word)
        dns.set(f"forged.{word}.at.test", "A", dns.FORGED)
    # A wrong question under the right id, from the right place: whoever can do that is a broken server.
    domain("forged-question.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}forged-question.at.test type=MX: "),
           "10 mx.forged-question.at.test.", behave="forged-question", hosts=["mx.forged-question.at.test"])
    domain("victim.extra.at.test", SENT, hosts=["victim.extra.at.test"])
    # Nothing there.
    domain("absent.at.test", ("bounced", "5.4.4", f"{NOT_FOUND}absent.at.test type=MX: Host not found"))
    domain("bare.at.test", ("bounced", "5.4.4", f"{NOT_FOUND}bare.at.test type=A: Host not found"))
    dns.set("bare.at.test", "TXT", "x")
    domain("null.at.test", ("bounced", "5.1.10", r"Domain null.at.test does not accept mail \(nullMX\)"), "0 .")
    domain("nullandmore.at.test", SENT, "0 .", "10 mx.nullandmore.at.test.", hosts=["mx.nullandmore.at.test"])
    # MX records that are none, or many.
    domain("literal.at.test", ("bounced", "5.4.4", "no MX host for literal.at.test has a valid address record"),
           "10 127.1.0.7.")
    domain("literalandmore.at.test", SENT, "5 127.6.6.6.", "10 mx.literalandmore.at.test.", hosts=["mx.literalandmore.at.test"])
    domain("nowhere.at.test", ("bounced", "5.4.4", "no MX host for nowhere.at.test has a valid address record"),
           "10 mx1.nowhere.at.test.", "20 mx2.nowhere.at.test.")
    domain("silent.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}silent.at.test type=A: "), "10 mx.silent.at.test.")
    dns.behave("mx.silent.at.test", "servfail")
    domain("halfsilent.at.test", SENT, "10 mx1.halfsilent.at.test.", "20 mx2.halfsilent.at.test.", hosts=["mx2.halfsilent.at.test"])
    dns.behave("mx1.halfsilent.at.test", "timeout")
    domain("hundred.at.test", SENT, *(f"{i} mx{i}.hundred.at.test." for i in range(100)), hosts=["mx99.hundred.at.test"])
    domain("huge.at.test", SENT, *(f"{i} mx.huge.at.test." for i in range(2000)), hosts=["mx.huge.at.test"])
    domain("larger.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}larger.at.test type=MX: the answer is too large"),
           *(f"{i} mx.larger.at.test." for i in range(2500)))
    domain("odd.at.test", ("bounced", "5.4.4", "no MX host for odd.at.test has a valid address record"),
           r"10 o\000d\200\010d.at.test.", r"20 \".at.test.")
    domain("longtarget.at.test", SENT, f"10 {LONG}.longer.test.", hosts=[f"{LONG}.longer.test"])
    domain("ttl.at.test", SENT, "10 mx.ttl.at.test.", hosts=["mx.ttl.at.test"], ttl=0)
    # Aliases.
    domain("mxtocname.at.test", SENT, "10 alias.mxtocname.at.test.", hosts=["mx.mxtocname.at.test"])
    dns.set("alias.mxtocname.at.test", "CNAME", "mx.mxtocname.at.test.")
    domain("chain.at.test", SENT, hosts=["mx.chain.at.test"])
    dns.set("chain.at.test", "CNAME", "c0.chain.at.test.")
    for i in range(7):
        dns.set(f"c{i}.chain.at.test", "CNAME", f"c{i + 1}.chain.at.test.")
    dns.set("c7.chain.at.test", "MX", "10 mx.chain.at.test.")
    domain("circle.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}circle.at.test type=MX: "))
    dns.set("circle.at.test", "CNAME", "other.circle.at.test.")
    dns.set("other.circle.at.test", "CNAME", "circle.at.test.")
    domain("mxtocircle.at.test", ("deferred", "4.4.3", f"{NOT_FOUND}mxtocircle.at.test type=A: "), "10 circle.at.test.")
    # Ourselves: behind port 25, where mail would come in again.
    for name, address in (("self.test", "127.0.0.1"), ("zero.test", "0.0.0.0"), ("six.test", "::1")):
        domain(name, ("bounced", "5.4.6", f"mail for {name} loops back to myself"), f"10 mx.{name}.")
        dns.host(f"mx.{name}", address, reverse=False)
    return outcome


def outcome_of(mail, name, expected):
    """What the log says: the expected outcome once it is there, or whatever ended it. A machine under load may have
    answered too late at first: a delay may come before the end."""
    status, dsn, text = expected
    lines = [(m[2], m[1], m[3]) for m in re.finditer(rf"to=<x@{re.escape(name)}>.*dsn=([\d.]+), status=(\w+) \((.*)\)", mail.log())]
    for line in lines:
        if line[:2] == (status, dsn) and re.search(text, line[2]):
            return True
    return next((line for line in lines if line[0] != "deferred"), None)


def test_each_fault_has_its_outcome_and_holds_up_nothing(world):
    expected = faults(world.dns)
    # Our own domain is ours, whatever the DNS says of it.
    world.dns.set("example.test", "MX", "0 .")
    processes = dict(world.children())
    with world.smtp() as s:
        # What waits would keep its message, and so the report.
        for waits in (True, False):
            mine = [f"x@{name}" for name, (status, _, _) in expected.items() if (status == "deferred") == waits]
            assert s.sendmail("alice@example.test", mine, "Subject: faults\r\n\r\n\r\n") == {}
        s.sendmail("alice@example.test", ["alice@example.test"], "Subject: ours\r\n\r\n\r\n")
    found = {}

    def all_ended():
        found.update((n, outcome_of(world, n, e)) for n, e in expected.items())
        return all(found.values())
    try:
        wait_for("every outcome", all_ended, 60)
    finally:
        print("\n".join(f"{n}: {found[n]}" for n in found if found[n] is not True))
    assert [n for n in found if found[n] is not True] == []
    assert world.children() == processes, "a process ended"
    assert world.forged.messages == [] and world.forged.connections == 0
    # One report tells of all that was refused for good.
    wait_for("report and mail", lambda: len(world.messages("alice@example.test")) == 2, 60)
    text = "".join(open(f).read() for f in world.messages("alice@example.test"))
    assert text.count("Action: failed") == sum(status == "bounced" for status, _, _ in expected.values())
    world.command("queue", "delete", "ALL")


def test_lookups_under_way_when_dns_is_killed_delay_mail_and_lose_none(world):
    names = [f"d{i}.killed.at.test" for i in range(10)]
    for name in names:
        world.dns.set(name, "A", "127.1.0.7")
        world.dns.behave(name, "timeout")
    with world.smtp() as s:
        for name in names:
            s.sendmail("alice@example.test", [f"x@{name}"], "Subject: patience\r\n\r\n\r\n")
    wait_for("the questions", lambda: any(world.dns.asked(n) for n in names), 60)
    os.kill(world.pid_of("dns"), signal.SIGKILL)
    for name in names:
        world.dns.behave(name, None)
    wait_for("all of it", lambda: {r for m in list(world.sink.messages) for r in m.rcpts} >= {f"x@{n}" for n in names}, 60)
    assert not re.search(r"killed\.at\.test>.*status=bounced", world.log())
