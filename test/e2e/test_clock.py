"""A wall clock that jumps a day either way, while everything runs: only time stamps notice."""

import imaplib
import mmap
import os
import re
import struct
import time

import pytest

from instance import Instance, Raw, wait_for
from sink import Sink
from test_crash import message, send_until_accepted, subjects

DAY = 86400


class Clock:
    """What POSTRIDER_CLOCK_SHIFT names: every process sees a change at once."""

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(8))
        os.chmod(path, 0o644)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 8)

    def shift(self, seconds):
        self.map[:] = struct.pack("q", seconds * 1_000_000)


@pytest.fixture
def shifted(tmp_path, monkeypatch):
    clock = Clock(str(tmp_path / "clock"))
    monkeypatch.setenv("POSTRIDER_CLOCK_SHIFT", str(tmp_path / "clock"))
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        m.clock = clock
        yield m


def validity(box, name):
    assert box.select(name)[0] == "OK"
    return int(box.response("UIDVALIDITY")[1][0])


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_all_goes_on_when_the_clock_jumps(shifted, jump):
    send_until_accepted(shifted, "before")
    box = shifted.imap("bob@example.test")
    given = []
    idle = Raw(shifted.ports["smtp"])
    idle.reply()
    assert idle.ask("EHLO client.test").startswith("250")
    pids = shifted.children()
    for i, now in enumerate([jump, 0, jump]):
        shifted.clock.shift(now)
        begin = time.monotonic()
        # Sessions of before are not timed out, log-ins work and are not slowed, mail comes at once.
        assert idle.ask("NOOP").startswith("250")
        assert box.noop()[0] == "OK"
        other = shifted.imap("bob@example.test")
        send_until_accepted(shifted, f"n{i}")
        # RFC 3501 2.3.1.1: a mailbox made again under its old name has a greater UIDVALIDITY, whatever the clock says.
        assert box.create("again")[0] == "OK"
        given.append(validity(box, "again"))
        box.append("again", None, None, message("x").encode())
        other.select("again")
        assert other.store("1", "+FLAGS", r"(\Seen)")[0] == "OK"
        box.select("INBOX")
        assert box.delete("again")[0] == "OK"
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            for _ in range(3):
                other.noop()
        with pytest.raises(imaplib.IMAP4.error):
            shifted.imap("bob@example.test", "wrong")
        assert time.monotonic() - begin < 60
    assert given == sorted(set(given)), given
    assert shifted.children() == pids, "no process was started again"
    # The line in the log, and the header of the message, have the clock's time.
    received = open(sorted(shifted.wait_messages("bob@example.test", 4))[0]).read()
    assert re.search(r"\d\d:\d\d:\d\d \+0000", received)
    shifted.kill()
    shifted.clock.shift(-jump)
    shifted.start()
    send_until_accepted(shifted, "after")
    assert subjects(shifted, "bob@example.test") == {n: 1 for n in ("before", "n0", "n1", "n2", "after")}
    box = shifted.imap("bob@example.test")
    box.create("again")
    assert validity(box, "again") > given[-1]
    assert shifted.command("mail", "fsck", "--check", check=False).returncode == 0
    shifted.wait_messages("bob@example.test", 5)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_what_waits_for_another_server_does_not_wait_for_the_clock(tmp_path, monkeypatch, restart):
    """What is due in a moment is due in a moment, also when the clock is set back by a day meanwhile."""
    clock = Clock(str(tmp_path / "clock"))
    monkeypatch.setenv("POSTRIDER_CLOCK_SHIFT", str(tmp_path / "clock"))
    with Sink("127.1.0.1") as sink, Instance(tmp_path / "mail", settings={
            "relayhost": sink.nexthop, "minimal_backoff_time": "3s", "maximal_backoff_time": "3s"}) as m:
        m.start()
        tries = []
        sink.answer["RCPT"] = lambda line: tries.append(line) or "450 4.2.0 later"
        with m.smtp() as s:
            s.sendmail("x@example.test", ["y@far.test"], message("waiting"))
        wait_for("a try", lambda: tries)
        m.wait_log("status=deferred")
        if restart:
            m.stop()
        clock.shift(-DAY)
        del sink.answer["RCPT"]
        if restart:
            m.start()
        assert sink.wait(1)[0].rcpts == ["y@far.test"]
