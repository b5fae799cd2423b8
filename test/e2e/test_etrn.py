"""ETRN (RFC 1985): a host that was away asks for its mail, and gets it where it always goes; nobody else's, and not for everybody."""
import pytest

from instance import Instance, wait_for
from sink import Sink


@pytest.fixture
def sink():
    with Sink("127.1.0.1") as s:
        s.answer["RCPT"] = lambda line: "450 4.2.0 away"
        yield s


@pytest.fixture
def mail(tmp_path, sink):
    with Instance(tmp_path / "mail", settings={
            "relay_domains": "away.test", "default_transport": f"smtp:{sink.nexthop}", "relay_transport": f"smtp:{sink.nexthop}",
            "minimal_backoff_time": "3000s", "maximal_backoff_time": "3000s", "smtpd_error_sleep_time": "0",
            "smtpd_etrn_restrictions": "check_client_access inline:{127.0.0.1=OK}, reject"}) as m:
        m.user("alice@example.test")
        yield m.start()


def put_off(m, sink):
    rcpts = ["x@away.test", "y@deep.away.test", "z@other.test"]
    for to in (["x@away.test"], ["x@away.test", "z@other.test"], ["y@deep.away.test"]):
        with m.smtp() as s:
            s.sendmail("alice@example.test", to, "Subject: s\r\n\r\nx\r\n")
    for address in rcpts:
        m.wait_log(f"to=<{address}>.*status=deferred")
    wait_for("all to be put off", lambda: m.command("queue", "list", "--json").stdout.count("away") >= 4 and "active" not in m.command("queue", "list", "--json").stdout)
    del sink.answer["RCPT"]


def test_who_was_away_asks_for_his_mail(mail, sink):
    put_off(mail, sink)
    with mail.raw("smtp") as c:
        c.reply()
        c.ask("EHLO away.test")
        # Not for strangers' domains, whoever asks; not in the middle of a message.
        assert c.ask("ETRN other.test").startswith("459 ")
        assert c.ask("ETRN example.test").startswith("459 ")
        c.ask("MAIL FROM:<alice@example.test>")
        assert c.ask("ETRN away.test").startswith("503 ")
        c.ask("RSET")
        assert c.ask("ETRN AWAY.test") == "253 2.0.0 OK, 2 pending messages for node AWAY.test started"
        sink.wait(2)
        # Asked again at once it is the same answer, and no second flush; a domain below it counts as it does in relay_domains.
        assert c.ask("ETRN away.test")[:3] in ("251", "253")
        assert c.ask("ETRN @deep.away.test") == "253 2.0.0 OK, 1 pending messages for node deep.away.test started"
        sink.wait(3)
    assert sorted(r for m in sink.messages for r in m.rcpts) == ["x@away.test", "x@away.test", "y@deep.away.test"]
    # And what is for somebody else waits as it did.
    left = mail.command("queue", "list", "--json").stdout
    assert left.count('"id"') == 1 and "z@other.test" in left and "x@away.test" not in left
    mail.wait_log(r"ETRN AWAY.test from \S*\[127.0.0.1\]: 2 messages")


@pytest.mark.parametrize("settings, code", [
    ({"smtpd_etrn_restrictions": "check_client_access inline:{192.0.2.1=OK}, reject"}, "554 5.7.1"),
    ({"smtpd_etrn_restrictions": "check_etrn_access inline:{ {away.test = REJECT not you} }"}, "554 5.7.1"),
    ({"smtpd_etrn_restrictions": "check_etrn_access inline:{ {other.test = REJECT not you} }"}, "251 2.0.0"),
    ({"smtpd_client_restrictions": "reject"}, "554 5.7.1"),
    ({"fast_flush_domains": "elsewhere.test", "smtpd_etrn_restrictions": ""}, "459 4.7.1"),
    ({"fast_flush_domains": ""}, "459 4.7.1")],
    ids=["client", "domain", "other-domain", "everything", "not-served", "off"])
def test_who_may_ask(refusing, settings, code):
    refusing.configure(**dict({"smtpd_etrn_restrictions": "", "smtpd_client_restrictions": "", "fast_flush_domains": "$relay_domains"}, **settings))
    refusing.command("reload")

    def answer():
        with refusing.raw("smtp") as c:
            c.reply()
            offered = "ETRN" in c.ask("EHLO away.test")
            return c.ask("ETRN away.test").startswith(code) and offered == bool(settings.get("fast_flush_domains", "x"))
    wait_for(code, answer)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    with Instance(tmp_path_factory.mktemp("etrn") / "mail", settings={"relay_domains": "away.test", "smtpd_error_sleep_time": "0"}) as m:
        yield m.start()
