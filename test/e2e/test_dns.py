"""What the process dns makes of what servers say: true, absent, unknown, forged, broken."""

import json
import os
import signal

import pytest

from dnsserver import DnsServer
from instance import Instance, in_thread, wait_for

SHORT = "2s"     # dns_timeout, for answers that never come


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with DnsServer() as dns:
        directory = tmp_path_factory.mktemp("dns")
        dns.sign("signed.test")
        with Instance(directory / "mail", settings=dns.settings(trust=directory / "anchor", dns_timeout=SHORT)) as mail:
            mail.dns = dns
            yield mail.start()


def lookup(mail, name, rtype="A", check=None):
    done = mail.command("dns", "lookup", name, rtype, "--json", check=False)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    expected = {"OK": 0, "NODATA": 68, "NXDOMAIN": 68, "TEMPFAIL": 75, "BOGUS": 75}[answer["status"]]
    assert done.returncode == expected, answer
    return answer


def status(mail, name, rtype="A"):
    return lookup(mail, name, rtype)["status"]


# ---- records ----

@pytest.mark.parametrize("rtype, value, shown", [
    ("A", "192.0.2.1", "192.0.2.1"),
    ("AAAA", "2001:db8::1", "2001:db8::1"),
    ("MX", "10 mx.example.org.", "10 mx.example.org"),
    ("MX", "0 .", "0 ."),
    ("PTR", "a.example.org.", "a.example.org"),
    ("PTR", r"evil\010name\032x.example.org.", r"evil\010name\032x.example.org"),
    ("TXT", '"v=spf1 " "-all"', '"v=spf1 -all"'),
    ("TXT", r'"\007bell\"quote"', r'"\007bell\"quote"'),
    ("SRV", "1 2 993 imap.example.org.", "1 2 993 imap.example.org"),
    ("TLSA", "3 1 1 abcdef00", "3 1 1 abcdef00"),
    ("CNAME", "b.example.org.", "b.example.org"),
])
def test_each_type_is_decoded(world, rtype, value, shown):
    name = "t%d.example.org" % len(world.dns.queries)
    world.dns.set(name, rtype, value, ttl=7)
    answer = lookup(world, name, rtype)
    # From the cache it may have less left than it had.
    assert (answer["records"], answer["secure"]) == ([shown], False) and answer["ttl"] <= 7


def test_an_address_asks_for_its_name(world):
    world.dns.host("client.example.org", "198.51.100.9", "2001:db8::9")
    for address in ("198.51.100.9", "2001:db8::9"):
        done = world.command("dns", "lookup", address)
        assert done.stdout.splitlines()[1].strip() == "client.example.org"


def test_a_change_is_seen_at_once(world):
    for address in ("192.0.2.1", "192.0.2.2"):
        world.dns.set("moves.example.org", "A", address)
        assert lookup(world, "moves.example.org")["records"] == [address]
    world.dns.remove("moves.example.org")
    assert status(world, "moves.example.org") == "NXDOMAIN"


def test_what_has_a_ttl_is_asked_once(world):
    world.dns.set("kept.example.org", "A", "192.0.2.1", ttl=600)
    for _ in range(3):
        assert lookup(world, "kept.example.org")["ttl"] > 500
    assert len(world.dns.asked("kept.example.org")) == 1


def test_nothing_is_told_from_nothing_of_that_type(world):
    world.dns.set("text.example.org", "TXT", '"x"')
    assert status(world, "text.example.org", "MX") == "NODATA"
    assert status(world, "absent.example.org", "MX") == "NXDOMAIN"


def test_aliases_are_followed_and_the_last_name_told(world):
    world.dns.set("a.example.org", "CNAME", "b.example.org.")
    world.dns.set("b.example.org", "CNAME", "c.example.org.")
    world.dns.set("c.example.org", "MX", "5 d.example.org.")
    answer = lookup(world, "a.example.org", "MX")
    assert (answer["records"], answer["canonical"]) == (["5 d.example.org"], "c.example.org")


def test_a_loop_of_aliases_is_no_answer(world):
    world.dns.set("l1.example.org", "CNAME", "l2.example.org.")
    world.dns.set("l2.example.org", "CNAME", "l1.example.org.")
    answer = lookup(world, "l1.example.org")
    assert answer["status"] in ("TEMPFAIL", "NODATA") and answer["records"] == []


def test_what_cannot_be_a_name_is_not_asked(world):
    asked = len(world.dns.queries)
    for name in ("a..b", "x" * 64 + ".org", "a b.org", "a\\.b.org", "." * 3, ("a" * 60 + ".") * 5):
        assert world.command("dns", "lookup", name, check=False).returncode == 65
    assert len(world.dns.queries) == asked


# ---- size ----

def test_a_hundred_mail_servers(world):
    world.dns.set("many.example.org", "MX", *(f"{i} mx{i}.many.example.org." for i in range(100)))
    answer = lookup(world, "many.example.org", "MX")
    assert sorted(answer["records"]) == sorted(f"{i} mx{i}.many.example.org" for i in range(100))
    assert ("many.example.org", "MX", "tcp") in world.dns.queries


def test_a_huge_answer_is_taken_and_bounded(world):
    world.dns.set("huge.example.org", "A", *(f"10.{i >> 8}.{i & 255}.1" for i in range(3000)))
    assert len(lookup(world, "huge.example.org")["records"]) == 512
    text = " ".join('"%s"' % (chr(97 + i % 26) * 250) for i in range(200))
    world.dns.set("long.example.org", "TXT", text)
    assert len(lookup(world, "long.example.org", "TXT")["records"][0]) == 50002


def test_a_truncated_answer_is_asked_for_again_by_tcp(world):
    world.dns.set("cut.example.org", "A", "192.0.2.1")
    world.dns.behave("cut.example.org", "truncate")
    assert lookup(world, "cut.example.org")["records"] == ["192.0.2.1"]
    assert ("cut.example.org", "A", "tcp") in world.dns.queries


# ---- no answer, or a wrong one ----

def test_a_slow_answer_is_waited_for(world):
    world.dns.set("slow.example.org", "A", "192.0.2.1")
    world.dns.behave("slow.example.org", "delay", 0.5)
    assert lookup(world, "slow.example.org")["records"] == ["192.0.2.1"]


@pytest.mark.parametrize("word", ["timeout", "servfail", "refused", "truncate-always", "garbage", "short", "wrong-id",
                                  "wrong-address", "wrong-question"])
def test_what_is_no_answer_is_a_temporary_failure(world, word):
    name = f"{word}.broken.test"
    world.dns.set(name, "A", "192.0.2.66")
    world.dns.behave(name, word)
    answer = lookup(world, name)
    assert (answer["status"], answer["records"]) == ("TEMPFAIL", []) and answer["why"]
    assert world.dns.asked(name)


# ---- DNSSEC ----

def test_what_is_signed_is_secure(world):
    world.dns.set("signed.test", "MX", "10 mx.signed.test.")
    world.dns.set("mx.signed.test", "A", "192.0.2.1")
    world.dns.set("_25._tcp.mx.signed.test", "TLSA", "3 1 1 " + "ab" * 32)
    world.dns.set("alias.signed.test", "CNAME", "mx.signed.test.")
    for name, rtype in (("signed.test", "MX"), ("mx.signed.test", "A"), ("_25._tcp.mx.signed.test", "TLSA"), ("alias.signed.test", "A")):
        answer = lookup(world, name, rtype)
        assert (answer["status"], answer["secure"]) == ("OK", True), answer


def test_absence_is_proven_too(world):
    world.dns.set("here.signed.test", "A", "192.0.2.1")
    for name, rtype, expected in (("gone.signed.test", "A", "NXDOMAIN"), ("here.signed.test", "TLSA", "NODATA")):
        answer = lookup(world, name, rtype)
        assert (answer["status"], answer["secure"]) == (expected, True), answer


def test_an_alias_that_leaves_the_signed_zone_is_not_secure(world):
    world.dns.set("outside.example.org", "A", "192.0.2.1")
    world.dns.set("leaves.signed.test", "CNAME", "outside.example.org.")
    answer = lookup(world, "leaves.signed.test")
    assert (answer["status"], answer["secure"]) == ("OK", False)
    # That it is an alias is proven: what is signed for its own name counts (RFC 7672 2.2.2).
    answer = lookup(world, "leaves.signed.test", "CNAME")
    assert (answer["status"], answer["secure"], answer["records"]) == ("OK", True, ["outside.example.org"])


@pytest.mark.parametrize("word", ["bogus", "expired", "future", "strip"])
def test_a_bad_signature_is_bogus_and_never_insecure(world, word):
    name = f"{word}.signed.test"
    world.dns.set(name, "A", "192.0.2.66")
    world.dns.behave(name, word)
    answer = lookup(world, name)
    assert (answer["status"], answer["secure"], answer["records"]) == ("BOGUS", False, [])
    assert "signature" in answer["why"] or "no DNSSEC records" in answer["why"], answer["why"]


def stripping(tmp_path, **settings):
    dns = DnsServer().start()
    dns.sign("signed.test")
    dns.set("mx.signed.test", "A", "192.0.2.1")
    dns.set("signed.test", "NS", "ns.signed.test.")
    dns.behave("*", "strip")
    return dns, Instance(tmp_path / "mail", settings=dns.settings(trust=tmp_path / "anchor", dns_timeout="5s", **settings))


def test_servers_that_strip_signatures_are_noticed(tmp_path):
    dns, instance = stripping(tmp_path)
    with instance as mail:
        mail.start()
        answer = lookup(mail, "mx.signed.test")
        assert (answer["status"], answer["secure"]) == ("OK", False)
        mail.wait_log("do not pass on DNSSEC")
        # They are asked to validate all the same, and the process begins anew for that.
        mail.configure(dns_dnssec_validation="yes")
        mail.command("reload")
        wait_for("validation", lambda: lookup(mail, "mx.signed.test")["status"] == "BOGUS")
    dns.stop()


# ---- many, and through restarts ----

def resident(pid):
    return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1])


def question(name, rtype):
    import struct
    return struct.pack("<I", len(name)) + name.encode() + struct.pack("<H", rtype)


def test_a_thousand_questions_that_wait_hold_up_nobody(world):
    world.dns.behave("never.example.org", "timeout")
    world.dns.set("quick.example.org", "A", "192.0.2.1")
    pid = world.pid_of("dns")
    before = resident(pid)
    asked = question("never.example.org", 1).hex()
    done = world.command("probe", "smtpd", f"flood dns 1 {asked} 2000", check=False)
    if "unknown" in done.stderr + done.stdout:
        pytest.skip("needs a test build")
    wait_for("the question", lambda: world.dns.asked("never.example.org"))
    assert lookup(world, "quick.example.org")["records"] == ["192.0.2.1"]
    assert resident(pid) - before < 40000, "kilobytes for 2,000 questions"
    assert world.pid_of("dns") == pid


def test_a_question_survives_the_process(world):
    name = "survives.example.org"
    world.dns.set(name, "A", "192.0.2.1")
    world.dns.behave(name, "timeout")
    task = in_thread(lookup, world, name)
    wait_for("the question", lambda: world.dns.asked(name))
    world.dns.behave(name, None)
    pid = world.pid_of("dns")
    os.kill(pid, signal.SIGKILL)
    # Master's own channel does not repeat; the system is there again all the same.
    task.join()
    wait_for("another", lambda: world.pid_of("dns") not in (None, pid))
    assert wait_for("an answer", lambda: status_or_none(world, name)) == "OK"


def status_or_none(mail, name):
    done = mail.command("dns", "lookup", name, "--json", check=False)
    return json.loads(done.stdout)["status"] if done.stdout and json.loads(done.stdout)["status"] == "OK" else None


def test_a_reload_changes_the_servers(tmp_path):
    with DnsServer() as one, DnsServer() as two:
        one.set("where.example.org", "A", "192.0.2.1", ttl=600)
        two.set("where.example.org", "A", "192.0.2.2", ttl=600)
        with Instance(tmp_path / "mail", settings=one.settings()) as mail:
            mail.start()
            assert lookup(mail, "where.example.org")["records"] == ["192.0.2.1"]
            pid = mail.pid_of("dns")
            mail.command("reload")          # nothing of it has changed: the cache stays
            assert mail.pid_of("dns") == pid
            mail.configure(dns_servers=two.address)
            mail.command("reload")
            wait_for("the other server", lambda: status_or_none(mail, "where.example.org") and
                     lookup(mail, "where.example.org")["records"] == ["192.0.2.2"])
            assert mail.pid_of("dns") != pid


@pytest.mark.parametrize("name, value, what", [
    ("dns_servers", "nameserver.example.org", "say an address"),
    ("dns_servers", "127.0.0.1@70000", "say an address"),
    ("dns_trust_anchor_file", "/nonexistent/key", "No such file"),
    ("dns_trust_anchor_file", "/etc/passwd", "no DS or DNSKEY"),
    ("dns_insecure_domains", "a..b", "no domain"),
])
def test_a_faulty_configuration_is_refused_whole(world, name, value, what):
    path = os.path.join(world.dir, "main.cf")
    text = open(path).read()
    pid = world.pid_of("dns")
    world.configure(**{name: value})
    done = world.command("reload", check=False)
    with open(path, "w") as f:
        f.write(text)
    assert done.returncode != 0 and what in done.stderr, done.stderr
    assert world.pid_of("dns") == pid
    assert world.command("reload").returncode == 0


def test_a_broken_key_is_found_by_master(world, tmp_path):
    path = os.path.join(world.dir, "main.cf")
    text = open(path).read()
    key = tmp_path / "key"
    key.write_text("signed.test. IN DNSKEY 257 three 13 AAAA\n")
    world.configure(dns_trust_anchor_file=str(key))
    done = world.command("reload", check=False)
    with open(path, "w") as f:
        f.write(text)
    assert done.returncode != 0 and "dns_trust_anchor_file" in done.stderr, done.stderr
