"""The N-th failure: calls of the system that fail once, in the middle of the conversations that a mail system has. Complete:
make torture PARTS=nth."""

import os
import re
import signal
import smtplib

import pytest

from instance import PATIENCE, ROOT, Instance, let_through, wait_for
from nth_system import Case, Page, System

# What once broke a promise. N may mean another call by now; the kind and place are tried all the same.
ONCE = [
    Case("imap", "store", "RECV", "ENOMEM", 4),           # a channel between two that live: nobody made it anew
    Case("pop3", "directory", "SEND", "ECONNRESET", 3),
    Case("smtp large", "store", "SEND", "ENOBUFS", 4),    # an answer lost, and its caller waiting for it
    Case("users", "master", "EPOLL", "ENOMEM", 1),        # master ended
    Case("reload", "master", "EPOLL", "ENOMEM", 1),
    Case("imap", "access", "DUP", "EMFILE", 2),           # a literal announced, and neither sent nor broken off
    Case("queue", "queue", "DUP", "EMFILE", 2),           # a blob that nobody knew of stayed open
    Case("imap", "store", "DUP", "EMFILE", 2),
    Case("pop3", "directory", "MMAP", "ENOMEM", 1),       # the password was called wrong: no memory to hash it
    Case("store killed", "master", "MAKE", "EMFILE", 1),  # master ended
    Case("store killed", "master", "FORK", "EAGAIN", 1),
    Case("store killed", "store", "READDIR", "EIO", 1),   # the store stayed read-only until it was started again
    Case("store killed", "store", "READDIR", "EIO", 4),
    Case("relay", "dns", "EPOLL", "ENOSPC", 4),           # the resolver's thread answered nothing any more
    Case("store killed", "access", "TAKE", "EMFILE", 1),  # "master is gone": it ended with all its sessions
    Case("queue killed", "relay", "TAKE", "EMFILE", 1),
    Case("smtp large", "smtpd", "TAKE", "EMFILE", 1),     # a channel broken, and with it a process
    Case("imap", "access", "TAKE", "EMFILE", 2),
    Case("queue killed", "master", "RECV", "ECONNRESET", 3),   # master did not hear that it was ready, and waited for ever
    Case("smtpd killed", "master", "RECV", "ECONNRESET", 2),
    Case("smtpd killed", "smtpd", "SEND", "ENOBUFS", 1),       # the same, seen from the other side
]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    base = tmp_path_factory.mktemp("nth")
    let_through(base)
    with System(base) as s:
        yield s


@pytest.mark.parametrize("case", ONCE, ids=lambda c: ":".join(map(str, c)).replace(" ", "-"))
def test_what_once_broke_a_promise_keeps_it(system, case):
    system.case(case)


def test_a_connection_that_never_came_is_not_waited_for_when_a_later_one_breaks(tmp_path, monkeypatch):
    """Relay has no descriptor free for a new store, which is gone before it could be told again; the next one's connection
    breaks. It has to be missed: relay begins anew."""
    (tmp_path / "nth").mkdir()
    relay, store = (Page(str(tmp_path / "nth" / name)) for name in ("relay", "store"))
    monkeypatch.setenv("POSTRIDER_NTH", str(tmp_path / "nth"))
    monkeypatch.setenv("POSTRIDER_BACKOFF_MS", "1")
    with Instance(tmp_path / "mail", settings={"minimal_backoff_time": "1s", "maximal_backoff_time": "1s"}) as m:
        m.user("bob@example.test")
        m.start()
        m.wait_log("started -- version")
        pid = m.pid_of("relay")
        for name in ("store", "relay"):
            wait_for(name, lambda name=name: f"process {name}[{m.pid_of(name)}] is ready" in m.log())
        relay.arm("TAKE", "EMFILE", 1)
        os.kill(m.pid_of("store"), signal.SIGKILL)
        m.wait_log(rf"relay\[{pid}\]: warning: out of descriptors: asking master for message 3 ")
        os.kill(m.pid_of("store"), signal.SIGKILL)
        lost = rf"process relay\[{pid}\] lost its channel to store"

        def sent(text):
            try:
                with m.smtp() as s:
                    s.sendmail("bob@example.test", ["bob@example.test"], text, rcpt_options=["NOTIFY=SUCCESS"])
                return True
            except (OSError, smtplib.SMTPException):
                return False

        def came(text):
            try:
                return any(text in open(path).read() for path in m.messages("bob@example.test"))
            except FileNotFoundError:       # on its way from new/ to cur/
                return False
        for n in range(1, 20):         # of those who tell the store something on behalf of this message, relay is one
            store.arm("RECV", "ENOMEM", n)
            wait_for("a message to be taken", lambda n=n: sent(f"Subject: number {n}\r\n\r\nText.\r\n"))
            wait_for("it to come", lambda n=n: came(f"Subject: number {n}\n"))
            store.disarm()
            if re.search(lost, m.log()):
                break
        m.wait_log(lost)
    for page in (relay, store):
        page.close()


def test_master_without_memory_ends_and_its_supervisor_starts_it_again(tmp_path, monkeypatch):
    """Allocators do not fail: the process ends. For the others master is there, for master whoever started it."""
    (tmp_path / "nth").mkdir()
    page = Page(str(tmp_path / "nth" / "master"))
    monkeypatch.setenv("POSTRIDER_NTH", str(tmp_path / "nth"))
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        m.send("bob@example.test", subject="before")
        children = m.children()
        page.arm("MALLOC", "ENOMEM", 1)
        m.command("status", check=False)
        assert m.master.wait(PATIENCE) == os.EX_OSERR and page.fired()
        page.disarm()
        m.master = None
        for pid in children:
            wait_for(f"the end of {children[pid]}", lambda: not os.path.exists(f"/proc/{pid}"))
        unit = open(os.path.join(ROOT, "contrib", "postrider.service")).read()
        assert "Restart=on-failure" in unit
        assert str(os.EX_OSERR) not in re.search("RestartPreventExitStatus=(.*)", unit)[1].split()
        monkeypatch.delenv("POSTRIDER_NTH")
        m.start()
        m.send("bob@example.test", subject="after")
        assert m.count("bob@example.test") == 2
    page.close()


def test_a_sync_that_fails_in_a_recovery_ends_the_store_and_not_the_start(tmp_path, monkeypatch):
    """What is on the disk is for the next life to say, as at any other time."""
    (tmp_path / "nth").mkdir()
    page = Page(str(tmp_path / "nth" / "store"))
    monkeypatch.setenv("POSTRIDER_NTH", str(tmp_path / "nth"))
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        for n in (2, 3, 4):         # one of them is that of the mailboxes, before the store is ready
            m.send("bob@example.test", subject=f"before {n}")
            m.kill()
            page.arm("SYNC", "EIO", n)
            m.start()
            assert page.fired()
        m.wait_log("storage failed: cannot sync")
        assert "cannot start" not in m.log()
        m.wait_messages("bob@example.test", 3)
    page.close()


def test_what_a_process_had_no_descriptor_for_is_sent_again_and_its_sessions_stay(tmp_path, monkeypatch):
    """A store that starts anew, and a new configuration, come as descriptors. Who has no room for them asks again."""
    (tmp_path / "nth").mkdir()
    page = Page(str(tmp_path / "nth" / "access"))
    monkeypatch.setenv("POSTRIDER_NTH", str(tmp_path / "nth"))
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        m.wait_log("started -- version")
        access, store = m.pid_of("access"), m.pid_of("store")
        box = m.imap("bob@example.test")
        assert box.select()[0] == "OK"
        asked = rf"access\[{access}\]: warning: out of descriptors: asking master for message"
        page.arm("TAKE", "EMFILE", 1)
        os.kill(store, signal.SIGKILL)
        m.wait_log(asked + " 3 ")
        page.arm("TAKE", "EMFILE", 1)
        m.configure(imap_login_timeout="77s")
        m.command("reload")
        wait_for("both to be lost", lambda: len(re.findall(asked, m.log())) == 2)
        m.send("bob@example.test")
        m.wait_messages("bob@example.test", 1)

        def seen():
            assert box.noop()[0] in ("OK", "NO")       # not now, says who has no store yet
            return box.untagged_responses.get("EXISTS", [b"0"])[-1] == b"1"
        wait_for("the message to be announced", seen)
        status, data = box.fetch("1", "(BODY.PEEK[])")
        assert status == "OK" and b"A line." in data[0][1]
        assert m.pid_of("access") == access
        assert not re.search(rf"access\[{access}\]: .*master is gone|lost its channel", m.log())
    page.close()
