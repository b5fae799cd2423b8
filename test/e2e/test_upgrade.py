"""Reload and restart while people work: nobody is refused, nothing is lost."""

import os
import re
import smtplib
import threading

from instance import BINARY, PATIENCE, wait_for


class Sender(threading.Thread):
    """Sends numbered messages until told to stop; a 421 or a lost connection makes it connect again, as every
    mail server does. `accepted`: the numbers that were answered 250."""

    def __init__(self, mail):
        super().__init__(daemon=True)
        self.mail, self.ended = mail, threading.Event()
        self.accepted, self.refused, self.errors = [], [], []

    def run(self):
        number = 0
        while not self.ended.is_set():
            try:
                with self.mail.smtp() as s:
                    while not self.ended.is_set():
                        number += 1
                        s.sendmail("sender@elsewhere.test", ["bob@example.test"], f"Subject: number {number}\r\n\r\nx\r\n")
                        self.accepted.append(number)
            except ConnectionRefusedError as e:
                self.refused.append(e)
            except smtplib.SMTPResponseException as e:
                if e.smtp_code != 421 and e.smtp_code != 451:
                    self.errors.append(e)
            except smtplib.SMTPRecipientsRefused as e:
                if any(code < 400 or code >= 500 for code, _ in e.recipients.values()):
                    self.errors.append(e)
            except smtplib.SMTPServerDisconnected:
                pass
            except OSError as e:
                self.errors.append(e)

    def progress(self):
        """At least three more messages were taken."""
        count = len(self.accepted)
        wait_for("messages to be accepted", lambda: len(self.accepted) >= count + 3 or self.errors or self.refused)

    def finish(self):
        self.ended.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        assert self.refused == [] and self.errors == []


class Idle:
    """An IMAP client that idles, and comes back at a BYE."""

    def __init__(self, mail):
        self.mail, self.byes, self.exists = mail, 0, 0
        self.connect()

    def connect(self):
        self.box = self.mail.imap("bob@example.test")
        self.exists = int(self.box.select("INBOX", readonly=True)[1][0])
        self.box.send(b"i IDLE\r\n")
        assert self.box.readline().startswith(b"+")

    def look(self, until):
        """Reads untagged lines until until() holds."""
        while not until():
            line = self.box.readline()
            found = re.match(rb"\* (\d+) EXISTS", line)
            if found:
                self.exists = int(found.group(1))
            elif line.startswith(b"* BYE") or line == b"":
                self.byes += 1
                self.box.shutdown()
                self.connect()

    def end(self):
        self.box.send(b"DONE\r\n")
        while not self.box.readline().startswith(b"i OK"):
            pass
        self.box.logout()


def subjects(mail):
    box = mail.imap("bob@example.test")
    box.select("INBOX", readonly=True)
    data = box.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    box.logout()
    return sorted(int(re.search(rb"number (\d+)", part[1]).group(1)) for part in data if isinstance(part, tuple))


def test_reload_and_restart_under_load(mail):
    idle = Idle(mail)
    sender = Sender(mail)
    sender.start()
    for i in range(5):
        sender.progress()
        mail.configure(smtpd_banner=f"$myhostname ESMTP reload {i}")
        mail.command("reload")
    sender.progress()
    idle.look(lambda: idle.exists >= len(sender.accepted) - 1 or sender.errors)
    assert idle.byes == 0, "a reload ended an IDLE"
    for _ in range(2):
        mail.command("restart")
        sender.progress()
    sender.finish()
    idle.look(lambda: idle.exists >= len(sender.accepted))
    assert idle.byes <= 2
    idle.end()
    # What was interrupted before its 250 may have been delivered all the same, once; nothing twice, nothing lost.
    found = subjects(mail)
    assert len(found) == len(set(found))
    assert set(sender.accepted) <= set(found)
    mail.wait_messages("bob@example.test", len(found))


def test_restart_runs_the_new_program_file(tmp_path, monkeypatch):
    """An upgrade: the file is replaced while the old one runs; children still come from the old one until then."""
    import instance
    import shutil

    program = tmp_path / "postrider"
    shutil.copy(BINARY, program)
    monkeypatch.setattr(instance, "BINARY", str(program))
    with instance.Instance(tmp_path / "mail") as mail:
        mail.user("bob@example.test")
        mail.start()
        old = os.stat(f"/proc/{mail.master.pid}/exe").st_ino
        fresh = tmp_path / "postrider.new"
        shutil.copy(BINARY, fresh)
        os.rename(fresh, program)
        victim = mail.pid_of("smtpd")
        os.kill(victim, 9)
        wait_for("a new smtpd", lambda: mail.pid_of("smtpd") != victim)
        assert os.stat(f"/proc/{mail.pid_of('smtpd')}/exe").st_ino == old
        mail.command("restart")
        new = os.stat(program).st_ino
        assert new != old
        assert os.stat(f"/proc/{mail.master.pid}/exe").st_ino == new
        assert {os.stat(f"/proc/{pid}/exe").st_ino for pid in mail.children()} == {new}
        mail.send("bob@example.test")


def test_a_restart_that_cannot_succeed_is_refused(mail):
    mail.configure(message_size_limit="much")
    done = mail.command("restart", check=False)
    assert done.returncode == 78
    assert "message_size_limit" in done.stderr
    with mail.smtp() as s:
        assert s.noop()[0] == 250


def test_reload_reaches_the_store(mail):
    """What mailboxes may be made is the store's to know."""
    mail.send("bob@example.test")
    mail.configure(mailbox_count_limit="10")
    mail.command("reload")

    def refused():
        box = mail.imap("bob@example.test")
        answers = [box.create(f"folder{i}") for i in range(10)]
        box.logout()
        return [text for status, text in answers if status == "NO"]
    wait_for("the limit", refused)
    mail.configure(mailbox_count_limit="100")
    mail.command("reload")

    def taken():
        box = mail.imap("bob@example.test")
        status, _ = box.create("one-more")
        box.logout()
        return status == "OK"
    wait_for("the new limit", taken)


def test_reload_and_restart_of_what_does_not_run(stopped):
    for verb in ("reload", "restart", "stop", "status"):
        done = stopped.command(verb, check=False)
        assert done.returncode == os.EX_UNAVAILABLE, verb
        assert "is not running; start it: postrider -c" in done.stderr
