"""File systems that turn read-only or go away while mail is served from them: no loss, no expunge, no help needed after."""

import imaplib
import os
import smtplib
import subprocess
import threading

import pytest

from disks import crash, disk                                                      # noqa: F401 (a fixture)
from instance import Instance, in_thread, wait_for
from test_crash import message, send_until_accepted, subjects

BOB = "bob@example.test"
ALICE = "alice@example.test"


def instance(tmp_path, **settings):
    return Instance(tmp_path / "mail", settings={"message_size_limit": "1000000", **settings})


def flushed(mail):
    """Bob's messages. What waits in the queue is tried now, not only when its time has come."""
    mail.command("queue", "flush")
    try:
        return subjects(mail, BOB)
    except (imaplib.IMAP4.error, ValueError):   # the store begins anew: a client is told to come again
        return {}


class Senders:
    """Threads that send until told to stop; `accepted` is what was answered 250."""

    def __init__(self, mail, threads=3):
        self.mail, self.accepted, self.stop, self.lock = mail, [], threading.Event(), threading.Lock()
        self.tasks = [in_thread(self.run, t) for t in range(threads)]

    def run(self, t):
        i = 0
        while not self.stop.is_set():
            i += 1
            name = f"s{t}-{i}"
            try:
                self.mail.send(BOB, text=message(name, 3000))
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException) as e:
                codes = [e.smtp_code] if hasattr(e, "smtp_code") else [c for c, _ in e.recipients.values()]
                assert all(400 <= c < 500 for c in codes), e
                continue
            with self.lock:
                self.accepted.append(name)

    def end(self):
        self.stop.set()
        for t in self.tasks:
            t.result()
        return self.accepted

    def wait(self, more):
        n = len(self.accepted) + more
        wait_for(f"{n} accepted", lambda: len(self.accepted) >= n)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "xfs"] if os.environ.get("DISK_ALL") else ["ext4"])
def test_read_only_under_load_and_writable_again(tmp_path, disk, kind):
    mails = disk(tmp_path / "mail" / "mail", "320m" if kind == "xfs" else "40m", kind)
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        m.wait_messages(BOB, 1)
        box = m.imap(BOB)
        box.select()
        senders = Senders(m)
        senders.wait(20)
        wait_for("the moment without a file open for writing", lambda: subprocess.run(
            ["mount", "-o", "remount,ro", mails.path], capture_output=True).returncode == 0)
        # Reading goes on, and changes of flags are taken: names of files follow later.
        for _ in range(3):
            box.noop()
            assert b"end of first" in box.fetch("1", "(BODY.PEEK[])")[1][-2][1]
        assert box.store("1", "+FLAGS", r"(\Flagged)")[0] == "OK"
        assert b"Flagged" in box.fetch("1", "(FLAGS)")[1][-1]
        crash(m)
        m.start()
        assert "first" in subjects(m, BOB)
        mails.remount("rw")
        senders_before = len(senders.accepted)
        wait_for("mail again", lambda: len(senders.accepted) > senders_before + 5 or not any(t.is_alive() for t in senders.tasks))
        senders.stop.set()
        for t in senders.tasks:
            t.join()
        accepted = set(senders.accepted) | {"first"}
        send_until_accepted(m, "last")
        accepted.add("last")
        wait_for("all that was acknowledged", lambda: accepted <= set(flushed(m)))
        found = subjects(m, BOB)
        # A message whose 250 the kill swallowed may be there too, once.
        assert all(n == 1 for n in found.values())
        assert m.stop() == 0
        files = m.messages(BOB)
        assert len(files) == len(found)
        assert any("F" in f.rsplit(":2,")[-1] for f in files if ":2," in f)


def test_a_mount_that_vanishes_is_no_expunge_and_takes_no_mail(tmp_path, disk):
    """The file system of a domain's Maildirs goes away while they are served, and comes back."""
    domain = disk(tmp_path / "mail" / "mail" / "example.test", "40m", "ext4")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        for i in range(3):
            send_until_accepted(m, f"n{i}")
        m.wait_messages(BOB, 3)
        expected = {f"n{i}": 1 for i in range(3)}
        box = m.imap(BOB)
        box.select()
        wait_for("checkpoint", lambda: os.path.exists(os.path.join(m.maildir(BOB), "postrider-uidlist")))
        domain.unmount()
        # No conclusions are drawn from what is missing.
        for _ in range(5):
            box.noop()
            assert box.search(None, "ALL")[1][-1].split() == [b"1", b"2", b"3"]
            assert int(m_select(m)) == 3
        assert box.store("1", "+FLAGS", r"(\Flagged)")[0] == "OK"
        # By SMTP the queue keeps it; LMTP's client does that itself.
        send_until_accepted(m, "meanwhile")
        expected["meanwhile"] = 1
        with m.raw("lmtp") as c:
            c.reply()
            c.ask("LHLO x")
            c.ask("MAIL FROM:<a@elsewhere.test>")
            answer = c.ask(f"RCPT TO:<{BOB}>")
            if answer.startswith("250"):
                c.ask("DATA")
                c.send(message("refused") + ".\r\n")
                answer = c.reply()
            assert answer.startswith("45"), answer
        assert not os.path.exists(os.path.join(domain.path, "bob")), "a Maildir was made where the mount is missing"
        # The same after a crash.
        crash(m)
        m.start()
        assert int(m_select(m)) >= 3
        assert not os.path.exists(os.path.join(domain.path, "bob"))
        assert domain.mount() is None
        wait_for("all of it", lambda: flushed(m) == expected)
        wait_for("the flag in the name", lambda: any("F" in f.rsplit(":2,")[-1] for f in m.messages(BOB) if ":2," in f))
        assert m.stop() == 0
        assert len(m.messages(BOB)) == 4


def test_mail_that_is_not_mounted_at_the_start_is_no_expunge_and_what_comes_waits(tmp_path, disk):
    """The directory of all mail is there, and empty: nothing is made in it, and nothing is drawn from it."""
    mails = disk(tmp_path / "mail" / "mail", "40m", "ext4")
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        for i in range(3):
            send_until_accepted(m, f"n{i}")
        m.wait_messages(BOB, 3)
        box = m.imap(BOB)
        box.select()
        assert box.store("2", "+FLAGS", r"(\Flagged)")[0] == "OK"
        before = box.response("UIDVALIDITY")[1], box.uid("SEARCH", "ALL")[1]
        expected = {f"n{i}": 1 for i in range(3)}
        for crashed in (False, True):
            if crashed:
                send_until_accepted(m, "the journal has it")
                expected["the journal has it"] = 1
                crash(m)
            else:
                assert m.stop() == 0
            mails.unmount()
            seen = m.log().count("is its file system mounted?")
            m.start()
            wait_for("the sentence", lambda: m.log().count("there was mail in it: is its file system mounted?") > seen)
            send_until_accepted(m, f"while away {crashed}")
            expected[f"while away {crashed}"] = 1
            assert os.listdir(mails.path) == [], "something was made where the mount is missing"
            # Nobody needs to help.
            assert mails.mount() is None
            wait_for("all of it", lambda: flushed(m) == expected)
        box = m.imap(BOB)
        box.select()
        assert box.response("UIDVALIDITY")[1] == before[0]
        assert box.uid("SEARCH", "ALL")[1][0].split()[:3] == before[1][0].split()
        assert box.search(None, "FLAGGED")[1] == [b"2"]
        box.logout()
        assert m.stop() == 0


def m_select(mail):
    box = mail.imap(BOB)
    n = box.select()[1][0]
    box.logout()
    return n


def test_one_broken_maildir_is_nobody_elses_trouble(tmp_path):
    """Replaced by a file after a message was acknowledged: alice is served, now and after a crash; bob when it is mended."""
    with instance(tmp_path) as m:
        m.user(BOB)
        m.user(ALICE)
        m.start()
        send_until_accepted(m, "first")
        m.wait_messages(BOB, 1)
        root = m.maildir(BOB)
        os.rename(root, root + ".away")
        with open(root, "w"):
            pass
        for i in range(5):
            m.send(ALICE, text=message(f"a{i}"))
        send_until_accepted(m, "for bob")                 # in the queue
        assert m.count(ALICE) == 5
        crash(m)
        m.start()
        m.send(ALICE, text=message("a5"))
        assert m.count(ALICE) == 6
        os.unlink(root)
        os.rename(root + ".away", root)
        wait_for("bob's mail", lambda: flushed(m) == {"first": 1, "for bob": 1})


def test_permissions_taken_away_and_given_back(tmp_path):
    with instance(tmp_path) as m:
        m.user(BOB)
        m.user(ALICE)
        m.start()
        send_until_accepted(m, "first")
        m.wait_messages(BOB, 1)
        root = m.maildir(BOB)
        os.chmod(root, 0)
        m.send(ALICE, text=message("a0"))
        send_until_accepted(m, "second")
        box = m.imap(BOB)
        assert int(box.select()[1][0]) >= 1
        box.logout()
        crash(m)
        m.start()
        m.send(ALICE, text=message("a1"))
        os.chmod(root, 0o700)
        wait_for("bob's mail", lambda: flushed(m) == {"first": 1, "second": 1})
        assert m.count(ALICE) == 2


def test_a_maildir_removed_for_good_is_made_again_by_fsck(tmp_path):
    with instance(tmp_path) as m:
        m.user(BOB)
        m.start()
        send_until_accepted(m, "first")
        m.wait_messages(BOB, 1)
        box = m.imap(BOB)
        box.select()
        subprocess.run(["rm", "-rf", m.maildir(BOB)], check=True)
        # A change that waits for the Maildir, and one that waits in the queue.
        assert box.store("1", "+FLAGS", r"(\Flagged)")[0] == "OK"
        send_until_accepted(m, "second")
        assert m.messages(BOB) == []
        m.wait_log("is its file system mounted")
        assert m.command("mail", "fsck", BOB).returncode == 0
        wait_for("bob's mail", lambda: flushed(m) == {"second": 1})
        m.wait_messages(BOB, 1)
        assert m.stop() == 0
        m.start()
        assert subjects(m, BOB) == {"second": 1}
