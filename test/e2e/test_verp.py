"""VERP: each recipient's copy has a sender that names him, and so has the bounce's address; sendmail -v and -bv."""
import email
import os
import re
import subprocess

import pytest

from instance import BINARY, Instance, wait_for
from sink import Sink

FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "recipient_delimiter": "+"}


def instance(top, sink):
    """Each test has a list owner and a reader of its own."""
    m = Instance(top / "mail", settings={"relayhost": sink.nexthop, "smtpd_authorized_verp_clients": "127.0.0.0/8", **FAST}).init()
    users = top / "users"
    users.write_text("".join(f"{name}{i}@example.test:{{PLAIN}}secret\n" for i in range(1, 8) for name in ("owner-", "alice")))
    m.command("user", "add", "--from", str(users))
    (top / "sendmail").symlink_to(BINARY)
    m.sendmail = str(top / "sendmail")
    return m


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with Sink("127.1.0.1") as sink, instance(tmp_path_factory.mktemp("verp"), sink) as m:
        yield m.start(), sink


@pytest.fixture
def mail(world):
    return world[0]


@pytest.fixture
def sink(world):
    yield world[1]
    world[1].answer.clear()
    world[1].messages.clear()


def submit(m, *args, input="Subject: to the list\n\nA line.\n", status=0):
    done = subprocess.run([m.sendmail, *args], input=input, capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, POSTRIDER_CONFIG=m.dir))
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def mails(m, address, count):
    found = []
    for path in m.wait_messages(address, count):
        with open(path, "rb") as f:
            found.append(email.message_from_bytes(f.read()))
    return found


def queue_is_empty(m):
    wait_for("the queue to be empty", lambda: "empty" in m.command("queue", "list").stdout.lower(), 60)


def actions(report):
    """address -> Action, Status of a report."""
    return {p["Final-Recipient"].split(";")[1].strip(): (p["Action"], p["Status"]) for p in report.walk() if "Final-Recipient" in p}


def test_every_copy_has_its_own_sender(mail, sink):
    submit(mail, "-XV", "-f", "owner-1", "x@far.test", "y@far.test", "z@other.test", "alice1")
    sink.wait(3)
    assert sorted((x.sender, x.rcpts) for x in sink.messages) == [
        (f"owner-1+{a.replace('@', '=')}@example.test", [a]) for a in ("x@far.test", "y@far.test", "z@other.test")]
    (local,) = mails(mail, "alice1@example.test", 1)
    assert local["Return-Path"] == "<owner-1+alice1=example.test@example.test>"
    # To accounts alone it does not pass the queue.
    submit(mail, "-XV-=", "-f", "owner-1", "alice1")
    assert "<owner-1-alice1=example.test@example.test>" in [x["Return-Path"] for x in mails(mail, "alice1@example.test", 2)]
    # As of old.
    done = submit(mail, "-V", "-f", "owner-1", "old@far.test")
    assert "specify -XV" in done.stderr
    done = submit(mail, "-V-=", "-f", "owner-1", "older@far.test")
    assert "specify -XV-=" in done.stderr
    sink.wait(5)
    assert {x.sender for x in sink.messages[3:]} == {"owner-1+old=far.test@example.test", "owner-1-older=far.test@example.test"}


def test_by_smtp_for_those_who_may(mail, sink):
    with mail.smtp() as s:
        s.ehlo()
        assert s.has_extn("xverp")
        s.sendmail("owner-2@example.test", ["x@far.test", "y@far.test", "alice2@example.test"], "Subject: s\r\n\r\nx\r\n", ["XVERP"])
        s.sendmail("owner-2@example.test", ["z@far.test"], "Subject: s\r\n\r\nx\r\n", ["XVERP=-="])
    sink.wait(3)
    assert sorted(x.sender for x in sink.messages) == ["owner-2+x=far.test@example.test", "owner-2+y=far.test@example.test",
                                                       "owner-2-z=far.test@example.test"]
    (local,) = mails(mail, "alice2@example.test", 1)
    assert local["Return-Path"] == "<owner-2+alice2=example.test@example.test>"


def test_by_smtp_for_nobody_else(mail):
    mail.configure(smtpd_authorized_verp_clients="192.0.2.1, .example.net")
    mail.command("reload")

    def refused():
        with mail.smtp() as s:
            s.ehlo()
            code, text = s.mail("owner-3@example.test", ["XVERP"])
            return not s.has_extn("xverp") and (code, text) == (555, b"5.5.4 Unsupported option: XVERP")
    wait_for("the new rule", refused)


def test_bounces_name_whom_they_are_about(mail, sink):
    sink.answer["RCPT"] = lambda line: "550 5.1.1 nobody" if "bad" in line else None
    submit(mail, "-XV", "-f", "owner-4", "bad1@far.test", "good@far.test", "bad2@far.test", "bad3@other.test", "no-such-user")
    bad = {a: f"owner-4+{a.replace('@', '=')}@example.test" for a in ("bad1@far.test", "bad2@far.test", "bad3@other.test", "no-such-user@example.test")}
    reports = mails(mail, "owner-4@example.test", 4)
    assert sorted(r["To"] for r in reports) == sorted(f"<{to}>" for to in bad.values())
    for r in reports:
        ((address, (action, status)),) = actions(r).items()
        assert f"<{bad[address]}>" == r["To"] and action == "failed" and status == "5.1.1" and r["Return-Path"] == "<>"
    queue_is_empty(mail)
    assert [x.sender for x in sink.messages] == ["owner-4+good=far.test@example.test"]


def test_it_survives_a_restart(mail, sink):
    """And one notification of all, where that is wanted."""
    sink.answer["RCPT"] = lambda line: "450 4.2.0 later"
    submit(mail, "-XV", "-f", "owner-5", "x@far.test", "y@other.test")
    mail.wait_log("to=<x@far.test>.*status=deferred")
    mail.wait_log("to=<y@other.test>.*status=deferred")
    (id,) = re.findall(r"(?m)^(\w+)\*? .*owner-5@example.test$", mail.command("queue", "list").stdout)
    assert "\nverp: +=\n" in mail.command("queue", "show", id).stdout
    mail.configure(disable_verp_bounces="yes")
    mail.kill()
    sink.answer["RCPT"] = lambda line: "550 5.1.1 nobody" if "bad" in line else None
    mail.start()
    sink.wait(2)
    assert sorted(x.sender for x in sink.messages) == ["owner-5+x=far.test@example.test", "owner-5+y=other.test@example.test"]
    submit(mail, "-XV", "-f", "owner-5", "bad1@far.test", "bad2@far.test")
    (one,) = mails(mail, "owner-5@example.test", 1)
    assert one["To"] == "<owner-5@example.test>" and set(actions(one)) == {"bad1@far.test", "bad2@far.test"}


def test_the_first_attempt_is_reported_to_who_asked(mail, sink):
    """sendmail -v: one report of all, whatever becomes of each; failures are told as ever."""
    sink.answer["RCPT"] = lambda line: "550 5.1.1 nobody" if "bad" in line else "450 4.2.0 later" if "late" in line else None
    done = submit(mail, "-v", "-f", "owner-6", "x@far.test", "bad@far.test", "late@other.test", "alice6")
    assert done.stdout == "Mail Delivery Status Report will be mailed to <owner-6>.\n"
    reports = {r["Subject"]: actions(r) for r in mails(mail, "owner-6@example.test", 2)}
    assert reports["Mail Delivery Status Report"] == {
        "x@far.test": ("relayed", "2.0.0"), "bad@far.test": ("failed", "5.1.1"), "late@other.test": ("delayed", "4.2.0"),
        "alice6@example.test": ("delivered", "2.0.0")}
    assert reports["Undelivered Mail Returned to Sender"] == {"bad@far.test": ("failed", "5.1.1")}
    mails(mail, "alice6@example.test", 1)
    # No more of it when it is tried again.
    sink.answer.clear()
    sink.wait(2)
    queue_is_empty(mail)
    assert len(mail.messages("owner-6@example.test")) == 2


def test_other_systems_are_asked_and_nothing_is_sent(mail, sink):
    """sendmail -bv, also while the system is down, and whatever the servers say."""
    sink.answer["RCPT"] = lambda line: "550 5.1.1 nobody" if "bad" in line else "450 4.2.0 later" if "late" in line else None
    mail.stop()
    submit(mail, "-bv", "-f", "owner-7", "x@far.test", "bad@far.test", "late@other.test", "alice7", "no-such-user", input="not read")
    mail.start()
    (report,) = mails(mail, "owner-7@example.test", 1)
    assert report["Subject"] == "Mail Delivery Status Report"
    assert actions(report) == {
        "x@far.test": ("deliverable", "2.1.5"), "bad@far.test": ("undeliverable", "5.1.1"), "late@other.test": ("undeliverable", "4.2.0"),
        "alice7@example.test": ("deliverable", "2.0.0"), "no-such-user@example.test": ("undeliverable", "5.1.1")}
    queue_is_empty(mail)
    assert sink.messages == [] and mail.messages("alice7@example.test") == []
    mail.wait_log("to=<x@far.test>, relay=.*status=deliverable .250 2.1.5 Ok")
