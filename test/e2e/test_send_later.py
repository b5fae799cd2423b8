"""Mail that is to be sent later (RFC 4865): nobody has it before, everybody has it then."""

import json
import smtplib

import pytest

from instance import Instance, wait_for
from sink import Sink
from test_clock import Clock

DAY = 86400
TEXT = "From: alice@example.test\r\nSubject: {}\r\n\r\nx\r\n"


def queue(m, *args):
    return json.loads(m.command("queue", "list", "--json", *args).stdout)


def submit(m, subject, to, options):
    with m.submission("alice@example.test") as s:
        s.ehlo()
        assert s.has_extn("futurerelease"), s.esmtp_features
        return s.sendmail("alice@example.test", to, TEXT.format(subject), mail_options=[options])


def test_mail_is_held_until_its_time_or_its_release(tmp_path, monkeypatch):
    clock = Clock(str(tmp_path / "clock"))
    monkeypatch.setenv("POSTRIDER_CLOCK_SHIFT", str(tmp_path / "clock"))
    with Sink("127.1.0.1", extensions=("PIPELINING",)) as sink, Instance(tmp_path / "mail", settings={
            "relayhost": sink.nexthop, "submission_future_release_messages": "2"}) as m:
        for name in ("alice", "bob"):
            m.user(name + "@example.test")
        m.start()
        submit(m, "later", ["bob@example.test", "far@elsewhere.test"], f"HOLDFOR={3 * DAY}")
        submit(m, "early", ["bob@example.test"], f"HOLDFOR={20 * DAY}")
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            submit(m, "too late", ["bob@example.test"], f"HOLDFOR={31 * DAY}")
        assert caught.value.smtp_code == 501 and b"5.5.4" in caught.value.smtp_error
        # So many may wait, and no more of hers; of others' it says nothing.
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            submit(m, "one too many", ["bob@example.test"], "HOLDFOR=60")
        assert caught.value.smtp_code == 450 and b"4.7.1 Error: 2 messages of yours wait to be sent later" in caught.value.smtp_error
        with m.submission("bob@example.test") as s:
            s.ehlo()
            assert s.mail("bob@example.test", ["HOLDFOR=60"])[0] == 250
        with m.smtp() as s:      # no submission
            s.ehlo()
            assert not s.has_extn("futurerelease") and s.has_extn("deliverby")
        # What comes behind is not held up, and flushing sends nothing of it.
        m.send("bob@example.test", subject="now")
        m.wait_messages("bob@example.test", 1)
        m.command("queue", "flush")
        m.command("queue", "release", "ALL")
        assert [e["state"] for e in queue(m)] == ["deferred"] * 2
        assert "held until" in m.command("queue", "list").stdout
        assert "held until" in m.command("queue", "show", queue(m)[1]["id"]).stdout
        # Released by hand; and as it is time, over a restart.
        m.command("queue", "release", queue(m)[1]["id"])
        m.wait_messages("bob@example.test", 2)
        with m.submission("alice@example.test") as s:
            s.ehlo()
            assert s.mail("alice@example.test", ["HOLDFOR=60"])[0] == 250      # there is room again
        m.stop()
        m.start()
        (left,) = queue(m)
        assert left["hold_until"] == left["due"] and sink.messages == []
        clock.shift(3 * DAY + 60)
        m.wait_messages("bob@example.test", 3)
        (message,) = sink.wait(1)
        assert message.rcpts == ["far@elsewhere.test"]
        wait_for("an empty queue", lambda: queue(m) == [])
        assert "held until" in m.command("trace", left["id"]).stdout


def test_what_must_be_in_time_is_passed_on_or_returned(tmp_path):
    with Sink("127.1.0.1", extensions=("PIPELINING", "DELIVERBY 10")) as sink, Instance(tmp_path / "mail", settings={
            "relayhost": sink.nexthop, "smtp_connection_cache_on_demand": "no"}) as m:
        m.user("alice@example.test")
        m.start()
        with m.submission("alice@example.test") as s:
            s.sendmail("alice@example.test", ["far@elsewhere.test"], TEXT.format("by"), mail_options=["BY=90000;RT"])
            (message,) = sink.wait(1)
            left, mode = message.mail.split("BY=")[1].split()[0].split(";")
            assert 80000 < int(left) <= 90000 and mode == "RT"
            (report,) = m.wait_messages("alice@example.test", 1)
            text = open(report).read()
            assert "Action: relayed" in text and "Deliver-By-Date: " in text
            sink.extensions.remove("DELIVERBY 10")
            s.sendmail("alice@example.test", ["far@elsewhere.test"], TEXT.format("by"), mail_options=["BY=90001;R"])
            reports = m.wait_messages("alice@example.test", 2)
            assert any("Action: failed" in open(r).read() and "DELIVERBY is required" in open(r).read() for r in reports)
        assert len(sink.messages) == 1
