"""kill -9 while mail is on its way out: nothing is lost, and nobody gets twice what our side had only to note down."""
import os
import random
import signal
import threading

import crashout
from crashkill import Faults
from disks import disk                                                             # noqa: F401 (a fixture)
from instance import Instance, wait_for
from sink import Sink
from test_relay import FAST, queue_is_empty, relay, send, sink                     # noqa: F401 (fixtures)

ALICE = "alice@example.test"


def kill(mail, process):
    pid = mail.pid_of(process)
    os.kill(pid, signal.SIGKILL)
    wait_for("a new " + process, lambda: process in mail.children().values() and mail.pid_of(process) != pid, 60)


def recipients(sink):
    return sorted(r for m in list(sink.messages) for r in m.rcpts)


def test_what_is_under_way_is_not_sent_again_because_another_process_died(relay, sink):       # noqa: F811
    """A new queue hands out what the one before had handed out; the relay knows that it has it in hand."""
    gate, held = threading.Event(), threading.Event()
    sink.answer["END"] = lambda m: None if "slow@far.test" not in m.rcpts else held.set() or gate.wait(120) and None
    send(relay, ALICE, ["slow@far.test", "other@near.test"])
    assert held.wait(60)
    expected = ["other@near.test", "slow@far.test"]
    for i, victims in enumerate((["queue"], ["queue", "queue"], ["smtpd", "directory", "dns", "store", "access"])):
        for process in victims:
            kill(relay, process)
        # Due later than what the new queue has handed out again: when it has arrived, so has the other, if at all.
        wait_for("service", lambda: accepts(relay), 60)
        expected.append(f"after{i}@far.test")
        send(relay, ALICE, expected[-1:])
        wait_for("the later one", lambda: expected[-1] in recipients(sink), 60)
    gate.set()
    queue_is_empty(relay)
    assert recipients(sink) == sorted(expected)


def accepts(mail):
    try:
        with mail.smtp() as s:
            s.ehlo("client.test")
            s.mail(ALICE)
            return s.rcpt("x@far.test")[0] == 250
    except (OSError, EOFError):
        return False


def full_refusal(mail):
    """What a client hears before its data."""
    with mail.smtp() as s:
        s.ehlo("client.test")
        s.mail(ALICE, ["SIZE=50000"])
        s.rcpt("new@far.test")
        code, text = s.docmd("DATA")
        return code == 452 and text.startswith(b"4.3.1")


def test_on_a_full_disk_what_waits_goes_out_once_and_reports_wait(tmp_path, sink, disk):      # noqa: F811
    """The room for a notification is not there: what was delivered is noted all the same, and not sent again; who
    failed is told of when there is room, by one report a message."""
    spool = disk(tmp_path / "mail" / "spool", "120m")
    far = [f"r{i}@far.test" for i in range(6)]
    later = threading.Event()
    sink.answer["RCPT"] = lambda line: "450 4.2.0 wait" if not later.is_set() else "550 5.1.1 no" if "<gone" in line else None
    with Instance(tmp_path / "mail", settings={"relayhost": sink.nexthop, "message_size_limit": "1000000", **FAST}) as m:
        m.user(ALICE)
        m.start()
        for who in far:
            send(m, ALICE, [who, "gone-" + who])
        # Several parts, and a report of success.
        send(m, ALICE, ["gone@d1.test", "a@d2.test", "gone@d3.test"])
        send(m, ALICE, ["success@far.test"], rcpt_options=["NOTIFY=SUCCESS"])
        m.wait_log("status=deferred")
        spool.fill()
        wait_for("a refusal", lambda: full_refusal(m), 60)
        later.set()
        everybody = sorted(far + ["a@d2.test", "success@far.test"])
        wait_for("all deliveries", lambda: set(recipients(sink)) == set(everybody), 60)
        for who in far:
            m.wait_log(rf"to=<gone-{who}>.*status=bounced", 60)
        m.wait_log("no room for the notification now")
        m.wait_log("to=<success@far.test>.*status=sent", 60)
        assert full_refusal(m) and m.messages(ALICE) == []
        kill(m, "queue")
        wait_for("a refusal", lambda: full_refusal(m), 60)
        spool.empty()
        m.wait_messages(ALICE, 8)
        queue_is_empty(m)
        reports = [open(f).read() for f in m.messages(ALICE)]
        assert recipients(sink) == everybody
        for who in far:
            assert sum(f"rfc822; gone-{who}" in r for r in reports) == 1
        assert sum("rfc822; gone@d1.test" in r and "rfc822; gone@d3.test" in r for r in reports) == 1
        assert sum("rfc822; success@far.test" in r for r in reports) == 1
        send(m, ALICE, ["after@far.test"])
        wait_for("new mail", lambda: "after@far.test" in recipients(sink), 60)


def test_kills_while_mail_goes_to_twenty_destinations_lose_and_double_nothing(tmp_path, monkeypatch):
    """The short form of torture/killout.py."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", faults.dir)
    with Instance(tmp_path / "mail") as m:
        world = crashout.prepare(m, seed)
        try:
            m.start()
            killer = crashout.rounds(world, 8, seed, 7, 4, faults)
        finally:
            crashout.end(world)
    faults.close()
    assert killer.total() > 0 and world.stats["taken"] > 0, (killer.kills, world.stats)
