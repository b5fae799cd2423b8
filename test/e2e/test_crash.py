"""kill -9 of any process, at any moment: what was answered 250 is there, once, and whole."""

import contextlib
import email
import imaplib
import json
import os
import random
import re
import signal
import smtplib
import subprocess
import time

import pytest

from crashkill import Faults, make_users, rounds
from disks import crash
from instance import BINARY, Instance, Raw, wait_for

SECONDS = float(os.environ.get("CRASH_SECONDS", "30"))


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", faults.dir)
    with Instance(tmp_path / "mail") as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        m.start()
        m.faults = faults
        yield m
    faults.close()


def subjects(mail, user):
    """Subject -> how often, over IMAP; every message must be whole (its end mark is there)."""
    found = {}

    def read():
        box = mail.imap(user)
        n = int(box.select(readonly=True)[1][0])
        data = box.fetch("1:*", "(BODY.PEEK[])")[1] if n else []
        box.logout()
        return [part[1] for part in data if isinstance(part, tuple)]
    for text in read():
        subject = email.message_from_bytes(text)["Subject"]
        assert text.rstrip().endswith(b"end of " + subject.encode()), f"torn: {text[-200:]!r}"
        found[subject] = found.get(subject, 0) + 1
    return found


def message(subject, size=200):
    return f"Subject: {subject}\r\n\r\n" + ("filling text 0123456789\r\n" * (size // 25)) + f"end of {subject}\r\n"


def send_until_accepted(mail, subject, size=200):
    """As a real client does: after no answer, or 4xx, the same message again."""
    for _ in range(200):
        try:
            mail.send("bob@example.test", text=message(subject, size))
            return
        except (OSError, smtplib.SMTPServerDisconnected):
            pass
        except smtplib.SMTPResponseException as e:
            assert 400 <= e.smtp_code < 500, e
        except smtplib.SMTPRecipientsRefused as e:
            assert all(400 <= code < 500 for code, _ in e.recipients.values()), e
        time.sleep(0.05)
    raise AssertionError("never accepted: " + subject)


@pytest.mark.parametrize("point", ["store.flushed", "smtpd.delivered"])
@pytest.mark.parametrize("size", [200, 200_000])
def test_killed_between_commit_and_reply_gives_one_copy(faulty, point, size):
    send_until_accepted(faulty, "before")
    faulty.faults.arm(point)
    send_until_accepted(faulty, "during", size)
    faulty.faults.wait_used(point)
    send_until_accepted(faulty, "after")
    assert subjects(faulty, "bob@example.test") == {"before": 1, "during": 1, "after": 1}


@pytest.mark.parametrize("process", ["smtpd", "access", "relay", "dns", "directory", "queue", "store"])
def test_killed_process_comes_back(faulty, process):
    send_until_accepted(faulty, "before")
    pid = faulty.pid_of(process)
    os.kill(pid, signal.SIGKILL)
    assert wait_for("a new one", lambda: faulty.pid_of(process) != pid)
    send_until_accepted(faulty, "after")
    assert wait_for("log-in", lambda: login_works(faulty))
    assert subjects(faulty, "bob@example.test") == {"before": 1, "after": 1}


def login_works(mail):
    try:
        return subjects(mail, "bob@example.test")
    except (OSError, Exception) as e:
        if isinstance(e, AssertionError):
            raise
        return None


def test_kills_under_load_lose_double_and_undo_nothing(tmp_path, monkeypatch):
    """The short form of torture/kill.py: some dozens of kills under clients of all protocols, then a look at all that
    they were told."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", faults.dir)
    with Instance(tmp_path / "mail") as m:
        users = make_users(m, 6)
        m.start()
        killer, world = rounds(m, users, 12, seed, SECONDS, SECONDS / 2, faults)
    faults.close()
    assert killer.total() > 10 and world.stats["delivered"] > 20 and world.stats["changes in doubt"] > 0, world.stats


def test_kill_of_everything_at_once(faulty):
    for i in range(30):
        faulty.send("bob@example.test", text=message(f"n{i}"))
    box = faulty.imap("bob@example.test")
    box.select()
    uids = box.fetch("1:*", "(UID)")[1]
    box.store("7", "+FLAGS", r"(\Flagged)")
    for pid in list(faulty.children()) + [faulty.master.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    faulty.kill()
    faulty.start()
    assert subjects(faulty, "bob@example.test") == {f"n{i}": 1 for i in range(30)}
    box = faulty.imap("bob@example.test")
    box.select()
    assert box.fetch("1:*", "(UID)")[1] == uids
    assert b"\\Flagged" in box.fetch("7", "(FLAGS)")[1][0]
    box.logout()


def test_store_down_means_queue_then_delivery(faulty):
    """What the store cannot take for the moment waits in the queue and is handed over later."""
    store = faulty.pid_of("store")
    os.kill(store, signal.SIGSTOP)
    try:
        with Raw(faulty.ports["smtp"]) as c:
            c.reply()
            c.ask("EHLO client.test")
            c.ask("MAIL FROM:<x@elsewhere.test>")
            answer = c.ask("RCPT TO:<bob@example.test>")
            if answer.startswith("250"):
                c.ask("DATA")
                c.send(message("waiting") + ".\r\n")
                answer = c.reply()
            assert re.match("250|4", answer), answer
    finally:
        os.kill(store, signal.SIGCONT)
    if answer.startswith("250"):
        wait_for("delivery", lambda: (login_works(faulty) or {}).get("waiting") == 1)


# ---- equal messages ----

def test_equal_messages_sent_on_purpose_both_arrive(faulty):
    """What is answered as a repetition is one that nobody had an answer to."""
    expected = 0
    for process in (None, "store", "smtpd", "directory"):
        for _ in range(2):
            faulty.send("bob@example.test", text=message("same"))
            expected += 1
        if process:
            # The confirmation travels with the next call to the store.
            faulty.send("alice@example.test", text=message("next"))
            kill(faulty, process)
            wait_for("service", lambda: accepts_recipients(faulty))
    faulty.send("bob@example.test", text=message("same"))
    assert subjects(faulty, "bob@example.test") == {"same": expected + 1}


def test_after_a_resend_the_same_message_can_be_sent_again(faulty):
    faulty.faults.arm("smtpd.delivered")
    send_until_accepted(faulty, "same")
    faulty.faults.wait_used("smtpd.delivered")
    assert subjects(faulty, "bob@example.test") == {"same": 1}
    assert accepts_recipients(faulty)
    send_until_accepted(faulty, "same")
    kill(faulty, "store")
    send_until_accepted(faulty, "same")
    assert subjects(faulty, "bob@example.test") == {"same": 3}


def kill(mail, process):
    pid = mail.pid_of(process)
    os.kill(pid, signal.SIGKILL)
    wait_for("a new " + process, lambda: mail.pid_of(process) != pid)
    return mail.pid_of(process)


def accepts_recipients(mail):
    try:
        with mail.smtp() as s:
            s.ehlo()
            s.mail("x@elsewhere.test")
            return s.rcpt("bob@example.test")[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


# ---- the queue ----

def fill_up(mail, address):
    """From now on the account takes nothing larger; RCPT (without SIZE) does not know yet."""
    mail.command("user", "set", address, "--quota", "1K")


def send_to_both(mail, subject):
    """To bob, who takes it, and carol, whose mailbox is too small for it: hence through the queue."""
    text = message(subject, 4000)
    with mail.submission("alice@example.test") as s:
        s.mail("alice@example.test")                # no SIZE: smtplib's sendmail() would tell it
        assert s.rcpt("bob@example.test")[0] == 250
        assert s.rcpt("carol@example.test")[0] == 250
        code, answer = s.data(text)
        assert code == 250, answer


@pytest.fixture
def queueing(faulty):
    faulty.user("carol@example.test")
    fill_up(faulty, "carol@example.test")
    return faulty


def queue_is_empty(mail):
    return "subject" not in mail.command("queue", "list", "--json").stdout and \
        not json.loads(mail.command("queue", "list", "--json").stdout)


def reports(mail, user):
    """The delivery status parts of every message in the mailbox."""
    box = mail.imap(user)
    n = int(box.select(readonly=True)[1][0])
    data = box.fetch("1:*", "(BODY.PEEK[])")[1] if n else []
    box.logout()
    found = []
    for part in data:
        if not isinstance(part, tuple):
            continue
        m = email.message_from_bytes(part[1])
        if m.get_content_type() != "multipart/report":
            continue
        assert m.get_param("report-type") == "delivery-status"
        assert part[1].split(b"\n", 1)[0].strip() == b"Return-Path: <>"
        found += [m]
    return found


@pytest.mark.parametrize("point", ["queue.flushed", "relay.claimed", "relay.delivered"])
def test_killed_while_the_queue_hands_over_gives_one_copy(queueing, point):
    queueing.faults.arm(point)
    send_to_both(queueing, "through the queue")
    queueing.faults.wait_used(point)
    wait_for("delivery", lambda: subjects(queueing, "bob@example.test"))
    kill(queueing, "queue")
    kill(queueing, "relay")
    queueing.command("queue", "flush")
    send_until_accepted(queueing, "after")
    assert subjects(queueing, "bob@example.test") == {"through the queue": 1, "after": 1}


def send_to_both_until_accepted(mail, subject):
    for _ in range(200):
        try:
            return send_to_both(mail, subject)
        except (OSError, smtplib.SMTPException):
            time.sleep(0.05)
    raise AssertionError("never accepted: " + subject)


@pytest.mark.parametrize("point", ["smtpd.delivered", "queue.flushed"])
@pytest.mark.parametrize("victims", [[], ["relay"], ["queue"], ["queue", "store", "smtpd"]])
def test_killed_between_the_queues_commit_and_the_reply_gives_one_copy(queueing, point, victims):
    """What the queue has taken is known by its bytes, too: the second try of a client that heard nothing is answered,
    and not taken again. What is sent again after an answer is."""
    send_to_both_until_accepted(queueing, "before")
    queueing.faults.arm(point)
    with pytest.raises((OSError, smtplib.SMTPException)) if point == "smtpd.delivered" else contextlib.nullcontext():
        send_to_both(queueing, "during")
    queueing.faults.wait_used(point)
    for process in victims:
        kill(queueing, process)
    if point == "smtpd.delivered":
        send_to_both_until_accepted(queueing, "during")
    queueing.command("queue", "flush")
    wait_for("delivery", lambda: subjects(queueing, "bob@example.test") == {"before": 1, "during": 1})
    send_to_both_until_accepted(queueing, "during")
    wait_for("delivery", lambda: subjects(queueing, "bob@example.test") == {"before": 1, "during": 2})
    for process in ("queue", "relay", "smtpd"):
        kill(queueing, process)
    send_to_both_until_accepted(queueing, "after")
    wait_for("delivery", lambda: "after" in subjects(queueing, "bob@example.test"))
    assert subjects(queueing, "bob@example.test") == {"before": 1, "during": 2, "after": 1}


def test_a_first_try_in_the_store_and_a_second_in_the_queue_give_one_copy(queueing):
    """The store has the first, unanswered; the second is for carol, too, whose mailbox is full, and waits in the queue."""
    queueing.faults.arm("smtpd.delivered")
    with pytest.raises((OSError, smtplib.SMTPException)), queueing.submission("alice@example.test") as s:
        s.sendmail("alice@example.test", "bob@example.test", message("once", 4000))
    queueing.faults.wait_used("smtpd.delivered")
    wait_for("service", lambda: accepts_recipients(queueing))
    send_to_both_until_accepted(queueing, "once")
    queueing.wait_log(r"to=<bob@example.test>.*status=sent")
    queueing.wait_log(r"to=<carol@example.test>.*status=deferred")
    assert subjects(queueing, "bob@example.test") == {"once": 1}


@pytest.mark.parametrize("point", [None, "queue.flushed", "relay.delivered"])
def test_who_is_deleted_while_his_mail_waits_gives_one_report(queueing, point):
    send_to_both(queueing, "for carol")
    wait_for("the first attempt", lambda: re.search(r"to=<carol@example.test>.*status=deferred", queueing.log()))
    queueing.command("user", "delete", "carol@example.test")
    send_to_bob_again = message("still works")
    if point:
        queueing.faults.arm(point)
    # What it asks for is a change of the queue: it may itself be the one that meets the point.
    queueing.command("queue", "flush", check=not point)
    if point == "relay.delivered":
        # Nothing is delivered in that attempt: the report itself is what passes the point.
        queueing.faults.wait_used(point)
    [report] = wait_for("the report", lambda: reports(queueing, "alice@example.test"))
    queueing.send("bob@example.test", text=send_to_bob_again)
    kill(queueing, "queue")
    kill(queueing, "relay")
    queueing.command("queue", "flush")
    wait_for("an empty queue", lambda: queue_is_empty(queueing))
    assert len(reports(queueing, "alice@example.test")) == 1
    text, status, original = report.get_payload()
    assert status.get_content_type() == "message/delivery-status"
    about, recipient = status.get_payload()
    assert about["Reporting-MTA"].startswith("dns;")
    assert recipient["Final-Recipient"].replace(" ", "") == "rfc822;carol@example.test"
    assert recipient["Action"] == "failed" and recipient["Status"] == "5.1.1"
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    assert "for carol" in original.as_string()
    assert report["Auto-Submitted"].startswith("auto-") and "alice@example.test" in report["To"]


def test_who_stays_over_quota_too_long_gives_one_report(tmp_path):
    with Instance(tmp_path / "mail", settings={"maximal_queue_lifetime": "2s", "minimal_backoff_time": "1s"}) as m:
        for name in ("alice", "bob", "carol"):
            m.user(name + "@example.test")
        fill_up(m, "carol@example.test")
        m.start()
        send_to_both(m, "for carol")
        [report] = wait_for("the report", lambda: reports(m, "alice@example.test"))
        recipient = report.get_payload()[1].get_payload()[1]
        assert recipient["Action"] == "failed" and recipient["Status"] == "4.4.7"
        wait_for("an empty queue", lambda: queue_is_empty(m))
        assert len(reports(m, "alice@example.test")) == 1
        assert len(m.messages("bob@example.test")) == 1


# ---- sessions that stay open ----

class Idle:
    """An IMAP session that waits in IDLE, on a socket of its own."""

    def __init__(self, mail, user):
        self.box = mail.imap(user)
        self.box.select()
        self.box.sock.settimeout(30)
        self.box.send(b"i1 IDLE\r\n")
        assert self.box.readline().startswith(b"+")

    def wait_exists(self, n):
        while True:
            line = self.box.readline()
            assert line, "the connection was closed"
            if line.strip() == b"* %d EXISTS" % n:
                return

    def done(self):
        self.box.send(b"DONE\r\n")
        while True:
            line = self.box.readline()
            assert line, "the connection was closed"
            if line.startswith(b"i1 "):
                assert line.startswith(b"i1 OK"), line
                return


@pytest.mark.parametrize("victims", [["store"], ["directory"], ["store", "directory"], ["smtpd"], ["store", "store"]])
def test_idle_sessions_hear_of_new_mail_after_a_restart(faulty, victims):
    send_until_accepted(faulty, "n1")
    idle = Idle(faulty, "bob@example.test")
    for process in victims:
        kill(faulty, process)
        # The one that lives has told the new one.
        wait_for("service", lambda: accepts_recipients(faulty))
    send_until_accepted(faulty, "n2")
    idle.wait_exists(2)
    send_until_accepted(faulty, "n3")
    idle.wait_exists(3)
    idle.done()
    box = idle.box
    assert box.store("2", "+FLAGS", r"(\Seen)")[0] == "OK"
    assert b"\\Seen" in box.fetch("2", "(FLAGS)")[1][0]
    assert b"end of n3" in box.fetch("3", "(BODY[])")[1][0][1]
    box.logout()


def test_sessions_outlive_directory_and_then_store(faulty):
    """A new directory is told by the store whom it serves, and a new store by directory."""
    send_until_accepted(faulty, "n1")
    idle = Idle(faulty, "bob@example.test")
    selected, plain = faulty.imap("bob@example.test"), faulty.imap("bob@example.test")
    selected.select()
    for _ in range(2):
        pid = kill(faulty, "directory")
        faulty.wait_log(rf"directory\[{pid}\]: .*took over")
        kill(faulty, "store")
        assert b"end of n1" in selected.fetch("1", "(BODY[])")[1][0][1]
        assert plain.status("INBOX", "(MESSAGES)")[0] == plain.list()[0] == "OK"
    send_until_accepted(faulty, "n2")
    idle.wait_exists(2)
    idle.done()


def test_when_directory_and_store_die_at_once_sessions_are_told_to_go(faulty):
    """Nobody is left who knows the log-ins: who had them hears BYE, soon, and can log in again."""
    send_until_accepted(faulty, "n1")
    idle = Idle(faulty, "bob@example.test")
    selected, plain, appender = [faulty.imap("bob@example.test") for _ in range(3)]
    selected.select()
    for pid in [faulty.pid_of("directory"), faulty.pid_of("store")]:
        os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    for command in (lambda: selected.fetch("1", "(BODY[])"), lambda: plain.status("INBOX", "(MESSAGES)"), plain.list):
        try:
            command()
        except (imaplib.IMAP4.abort, OSError):
            pass
    try:
        status, data = appender.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")
        assert status == "NO" and b"[UNAVAILABLE]" in data[0], data
    except (imaplib.IMAP4.abort, OSError):
        pass
    while idle.box.readline():
        pass                            # until the end of the connection
    assert time.monotonic() - begin < 25
    for box in (plain, appender):
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            box.noop()
    send_until_accepted(faulty, "n2")
    assert subjects(faulty, "bob@example.test") == {"n1": 1, "n2": 1}


# ---- restarts ----

def test_back_at_once_after_one_death_and_later_after_many(faulty):
    time.sleep(2.1)                     # what ran well for two seconds died by accident
    pid = faulty.pid_of("smtpd")
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_for("a new one", lambda: "smtpd" in faulty.children().values() and faulty.pid_of("smtpd") != pid)
    assert time.monotonic() - begin < 0.5
    begin = time.monotonic()
    for _ in range(4):                  # at once, 100 ms, 200 ms, 400 ms
        pid = faulty.pid_of("smtpd")
        os.kill(pid, signal.SIGKILL)
        wait_for("a new one", lambda: faulty.pid_of("smtpd") != pid)
    assert time.monotonic() - begin > 0.7
    send_until_accepted(faulty, "after")


def test_when_master_is_killed_its_children_end_and_a_new_one_serves(faulty):
    for i in range(5):
        faulty.send("bob@example.test", text=message(f"n{i}"))
    idle = Idle(faulty, "bob@example.test")
    faulty.kill()                       # waits for the children
    idle.box.shutdown()
    faulty.start()
    send_until_accepted(faulty, "after")
    assert subjects(faulty, "bob@example.test") == {**{f"n{i}": 1 for i in range(5)}, "after": 1}


def test_a_second_start_refuses_and_leaves_the_first_alone(faulty):
    children = faulty.children()
    for verb in ("run", "start"):
        done = faulty.command(verb, check=False)
        assert done.returncode != 0
        assert "already running" in done.stdout + done.stderr
        assert str(faulty.master.pid) in done.stdout + done.stderr
    assert faulty.children() == children
    send_until_accepted(faulty, "after")
    assert faulty.command("status").returncode == 0


def test_of_two_starts_at_once_one_serves(stopped):
    argv = [BINARY, "-c", stopped.dir, "run"]
    both = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) for _ in range(2)]
    try:
        loser = wait_for("one to give up", lambda: next((p for p in both if p.poll() is not None), None))
        assert loser.returncode != 0 and b"already running" in loser.stderr.read()
        winner = next(p for p in both if p is not loser)
        stopped.master = winner
        stopped.wait_ready()
        stopped.send("bob@example.test")
    finally:
        stopped.master = None
        for p in both:
            if p.poll() is None:
                p.terminate()
            p.wait(30)
            p.stderr.close()


# ---- what a new directory must know ----

@pytest.mark.parametrize("change", [["--disable"], ["--password-stdin"]])
def test_log_ins_of_before_the_kill_end_with_the_rights(faulty, change):
    """directory dies and forgets; the store tells the new one whom it serves. Then as ever: who is disabled, or whose
    password was changed, is told to go."""
    send_until_accepted(faulty, "n1")
    idle, plain = Idle(faulty, "bob@example.test"), faulty.imap("bob@example.test")
    other = Idle(faulty, "alice@example.test")
    kill(faulty, "directory")
    assert wait_for("log-ins", lambda: login_works(faulty))
    faulty.command("user", "set", "bob@example.test", *change, input="another\n")
    idle.box.sock.settimeout(60)
    while idle.box.readline():
        pass                            # until the end of the connection
    try:
        assert plain.status("INBOX", "(MESSAGES)")[0] == "NO"
    except (imaplib.IMAP4.abort, OSError):
        pass
    other.done()                        # nobody else
    other.box.logout()


def test_a_copy_whose_source_and_folder_went_on_is_recovered_where_it_belongs(faulty):
    """Recovery makes a copy late when its source has moved on; by then its folder has another name."""
    send_until_accepted(faulty, "n1")
    faulty.command("mail", "fsck", "--check")       # makes a checkpoint: recovery does not put n1 into INBOX again
    box = faulty.imap("bob@example.test")
    assert box.create("Old")[0] == box.create("Other")[0] == box.select("INBOX")[0] == "OK"
    assert box.uid("COPY", "1", "Old")[0] == box.rename("Old", "New")[0] == box.uid("MOVE", "1", "Other")[0] == "OK"
    home = faulty.maildir("bob@example.test")
    wait_for("the files", lambda: os.listdir(os.path.join(home, ".Other", "cur")) + os.listdir(os.path.join(home, ".Other", "new")))
    kill(faulty, "store")
    wait_for("service", lambda: accepts_recipients(faulty))
    assert not os.path.exists(os.path.join(home, ".Old"))
    assert faulty.command("mail", "fsck", "--check").returncode == 0
    box = faulty.imap("bob@example.test")
    assert b"Old" not in b" ".join(box.list()[1])
    assert [box.select(name)[1] for name in ("INBOX", "New", "Other")] == [[b"0"], [b"1"], [b"1"]]
    box.logout()


def test_a_renamed_folder_is_recovered_with_one_file_a_message(faulty):
    """What recovery puts into the folder's old name again meets, in the new one, the same under its later flags."""
    box = faulty.imap("bob@example.test")
    assert box.create("Old")[0] == "OK"
    assert box.append("Old", r"(\Draft)", None, message("n1").encode())[0] == "OK"
    assert box.rename("Old", "New")[0] == box.select("New")[0] == "OK"
    assert box.store("1", "FLAGS", r"(\Seen)")[0] == "OK"
    folder = os.path.join(faulty.maildir("bob@example.test"), ".New", "cur")
    wait_for("the name", lambda: [f for f in os.listdir(folder) if f.endswith(":2,S")])
    kill(faulty, "store")
    wait_for("service", lambda: accepts_recipients(faulty))
    assert len(os.listdir(folder)) == 1 and os.listdir(folder)[0].endswith(":2,S")
    assert faulty.command("mail", "fsck", "--check").returncode == 0
    box = faulty.imap("bob@example.test")
    box.select("New")
    assert box.fetch("1", "(FLAGS)")[1][0] in (rb"1 (FLAGS (\Seen))", rb"1 (FLAGS (\Seen \Recent))")
    box.logout()


def test_a_folder_that_took_anothers_name_is_itself_after_a_crash(tmp_path):
    """Recovery does again what was done to files, in directories as they are by then: of two mailboxes that had the same name one
    after the other neither gets what is the other's."""
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        for name in ("first", "second", "third"):
            send_until_accepted(m, name)
        assert m.stop() == 0                              # a checkpoint: their files are older than the journal
        m.start()
        box = m.imap("bob@example.test")

        def move(subject, target):
            box.select()
            [number] = box.search(None, "SUBJECT", subject)[1][0].split()
            assert box._simple_command("MOVE", number.decode(), target)[0] == "OK"
        for name in ("A", "B", "Old"):
            assert box.create(name)[0] == "OK"
        move("first", "A")
        assert box.rename("A", "C")[0] == "OK"
        assert box.rename("B", "A")[0] == "OK"            # now another has that name
        move("second", "A")
        assert box.delete("Old")[0] == "OK"
        assert box.create("Old")[0] == "OK"               # and this one is new
        move("third", "Old")
        crash(m)
        m.start()
        done = m.command("mail", "fsck", "--check", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        box = m.imap("bob@example.test")
        found = {}
        for name in ("INBOX", "A", "C", "Old"):
            assert box.select(name, readonly=True)[0] == "OK"
            data = box.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            found[name] = [part[1].split()[1].decode() for part in data if isinstance(part, tuple)]
        assert found == {"INBOX": [], "A": ["second"], "C": ["first"], "Old": ["third"]}
        assert m.stop() == 0
