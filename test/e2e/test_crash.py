"""kill -9 of any process, at any moment: what was answered 250 is there, once, and whole."""

import email
import imaplib
import json
import os
import random
import re
import select
import signal
import smtplib
import subprocess
import threading
import time

import pytest

from instance import BINARY, Instance, Raw, in_thread, wait_for

SECONDS = float(os.environ.get("CRASH_SECONDS", "30"))


class Faults:
    """FIFOs through which a test kills a process at a named point (os/fault.h)."""

    NAMES = ("store.flushed", "smtpd.delivered", "queue.flushed", "relay.claimed", "relay.delivered")

    def __init__(self, directory):
        self.dir = str(directory)
        os.mkdir(self.dir)
        self.fds = {}
        for name in self.NAMES:
            path = os.path.join(self.dir, name)
            os.mkfifo(path)
            os.chmod(path, 0o666)
            self.fds[name] = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def arm(self, name):
        os.write(self.fds[name], b"x")

    def wait_used(self, name):
        """Until a process has died at the point."""
        def used():
            ready, _, _ = select.select([self.fds[name]], [], [], 0)
            return not ready
        wait_for(f"the end of a process at {name}", used)

    def close(self):
        for fd in self.fds.values():
            os.close(fd)


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


@pytest.mark.parametrize("process", ["smtpd", "access", "relay", "directory", "queue", "store"])
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


def test_random_kills_under_load_lose_and_double_nothing(faulty):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    stop = threading.Event()
    accepted, unsure = [], []

    def load(worker):
        n = 0
        while not stop.is_set():
            subject = f"w{worker}n{n}"
            n += 1
            size = 100_000 if n % 17 == 0 else 200
            try:
                faulty.send("bob@example.test", text=message(subject, size))
                accepted.append(subject)
            except (OSError, smtplib.SMTPException):
                unsure.append(subject)
                time.sleep(0.02)

    def change_flags():
        while not stop.is_set():
            try:
                box = faulty.imap("bob@example.test")
                if int(box.select()[1][0]):
                    box.store("1:*", "+FLAGS", r"(\Seen)")
                box.logout()
            except AssertionError:
                raise
            except Exception:
                time.sleep(0.05)

    tasks = [in_thread(load, i) for i in range(4)] + [in_thread(change_flags)]
    deadline = time.monotonic() + SECONDS
    kills = 0
    while time.monotonic() < deadline:
        time.sleep(rng.uniform(0.1, 0.8))
        kills += kill_one_that_ran_well(faulty, rng, ["smtpd", "access", "relay", "directory", "queue", "store"])
    stop.set()
    for t in tasks:
        t.result()
    send_until_accepted(faulty, "last")
    found = wait_for("log-in", lambda: login_works(faulty))
    lost = [s for s in accepted if found.get(s, 0) == 0]
    doubled = [s for s, n in found.items() if n > 1]
    print(f"{kills} kills, {len(accepted)} accepted, {len(unsure)} without answer")
    assert not lost and not doubled, (lost, doubled)
    assert len(accepted) > 20 and kills > 5
    faulty.stop()
    faulty.start()
    again = subjects(faulty, "bob@example.test")
    assert again == found
    assert set(again) <= set(accepted) | set(unsure) | {"last"}


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
            # A call behind the confirmation, which may travel with the next one.
            assert accepts_recipients(faulty)
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


def kill_one_that_ran_well(mail, rng, names):
    """One that lived for two seconds: so that the load runs against crashes, not against master's back-off."""
    ready = []
    for pid, name in mail.children().items():
        try:
            ticks = float(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19])
        except OSError:
            continue
        age = float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
        if name in names and age > 2.1:
            ready.append(pid)
    if not ready:
        return 0
    try:
        os.kill(rng.choice(sorted(ready)), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def kill(mail, process):
    pid = mail.pid_of(process)
    os.kill(pid, signal.SIGKILL)
    wait_for("a new " + process, lambda: mail.pid_of(process) != pid)


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


@pytest.mark.parametrize("point", [None, "queue.flushed", "relay.delivered"])
def test_who_is_deleted_while_his_mail_waits_gives_one_report(queueing, point):
    send_to_both(queueing, "for carol")
    wait_for("the first attempt", lambda: re.search(r"to=<carol@example.test>.*status=deferred", queueing.log()))
    queueing.command("user", "delete", "carol@example.test")
    send_to_bob_again = message("still works")
    if point:
        queueing.faults.arm(point)
    queueing.command("queue", "flush")
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


def test_a_session_outlives_directory_and_then_store_or_is_told_to_go(faulty):
    """A new directory does not know the log-ins of the old one; a new store asks it. Whoever loses his rights so
    hears BYE, soon, and can log in again."""
    send_until_accepted(faulty, "n1")
    idle = Idle(faulty, "bob@example.test")
    selected, plain = faulty.imap("bob@example.test"), faulty.imap("bob@example.test")
    selected.select()
    kill(faulty, "directory")
    assert selected.noop()[0] == plain.noop()[0] == "OK"
    kill(faulty, "store")
    begin = time.monotonic()
    for command in (lambda: selected.fetch("1", "(BODY[])"), lambda: plain.status("INBOX", "(MESSAGES)"), plain.list):
        try:
            command()
        except (imaplib.IMAP4.abort, OSError):
            pass
    while idle.box.readline():
        pass                            # until the end of the connection
    assert time.monotonic() - begin < 25
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        plain.noop()
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


# ---- IMAP ----

class Model:
    """What a client knows of its mailboxes: what was answered OK, and what may have happened when nothing was."""

    BOXES = ("INBOX", "Work")

    def __init__(self, mail, rng):
        self.mail, self.rng, self.count = mail, rng, 0
        self.state = {box: {} for box in self.BOXES}       # mailbox: uid: (subject, flags)
        self.validity = {}
        self.given = {}                                    # (mailbox, uid): subject; never anything else
        self.top = {box: 0 for box in self.BOXES}
        self.unsure = 0
        self.box = None

    def read(self):
        """The state as a new session sees it; checks what must never change."""
        state = {}
        for name in self.BOXES:
            assert self.box.select(name, readonly=True)[0] == "OK"
            validity = self.box.response("UIDVALIDITY")[1][0]
            assert self.validity.setdefault(name, validity) == validity
            state[name] = {}
            for item in self.box.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
                if not isinstance(item, tuple):
                    continue
                uid = int(re.search(rb"UID (\d+)", item[0])[1])
                flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].split()) - {b"\\Recent"}
                subject = item[1].split(b":", 1)[1].strip().decode()
                assert self.given.setdefault((name, uid), subject) == subject, "a UID was given twice"
                state[name][uid] = (subject, flags)
        return state

    def connect(self):
        self.box = wait_for("a session", self.try_connect, 60)

    def try_connect(self):
        try:
            box = self.mail.imap("bob@example.test")
            return box
        except (OSError, imaplib.IMAP4.error):
            return None

    def reconcile(self, possible):
        """After a lost connection: the state is one of those that are possible."""
        self.unsure += 1
        for _ in range(100):
            self.connect()
            try:
                state = self.read()
                break
            except (OSError, imaplib.IMAP4.error):
                time.sleep(0.05)
        assert any(self.same(state, p) for p in possible), (state, possible)
        self.state = state
        for name in self.BOXES:
            self.top[name] = max([self.top[name], *state[name]])

    def same(self, state, expected):
        """None as a key of `expected` stands for messages with new UIDs."""
        for name in self.BOXES:
            want = dict(expected[name])
            new = want.pop(None, [])
            fresh = {u: v for u, v in state[name].items() if u not in want}
            if {u: v for u, v in state[name].items() if u in want} != want:
                return False
            if self.told(fresh.values()) != self.told(new) or any(u <= self.top[name] for u in fresh):
                return False
        return True

    @staticmethod
    def told(messages):
        """Comparable: equal sets may print in different orders."""
        return sorted((subject, sorted(flags)) for subject, flags in messages)

    def copy(self):
        return {name: dict(box) for name, box in self.state.items()}

    def step(self):
        name = self.rng.choice(self.BOXES)
        other = self.BOXES[1 - self.BOXES.index(name)]
        uids = sorted(self.state[name])
        verbs = ["APPEND", "STORE", "COPY", "MOVE", "EXPUNGE"] if uids else ["APPEND"]
        if len(uids) > 12:
            verbs = ["EXPUNGE", "STORE"]
        verb = self.rng.choice(verbs)
        chosen = self.rng.sample(uids, min(len(uids), self.rng.randint(1, 3)))
        before, after = self.copy(), self.copy()
        try:
            if self.box is None:
                self.connect()
            getattr(self, "do_" + verb.lower())(name, other, chosen, after)
        except (OSError, imaplib.IMAP4.abort):
            # EXPUNGE is two commands: the flag, then the removal.
            between = self.copy()
            for uid in chosen if verb == "EXPUNGE" else []:
                between[name][uid] = (between[name][uid][0], between[name][uid][1] | {b"\\Deleted"})
            self.reconcile([before, between, after])
            return
        self.settle(after)

    def settle(self, after):
        """Answered OK: so it is, and the new UIDs are what the next look says."""
        new = any(None in box for box in after.values())
        if new:
            try:
                state = self.read()
            except (OSError, imaplib.IMAP4.abort):
                self.reconcile([after])
                return
            assert self.same(state, after), (state, after)
            self.state = state
        else:
            self.state = after
        for name in self.BOXES:
            self.top[name] = max([self.top[name], *self.state[name]])

    def ok(self, answer):
        assert answer[0] == "OK", answer
        return answer

    def select(self, name):
        self.ok(self.box.select(name))

    def do_append(self, name, other, chosen, after):
        self.count += 1
        subject = f"m{self.count}"
        size = 100_000 if self.count % 13 == 0 else 200
        after[name][None] = [(subject, frozenset({b"\\Draft"}))]
        answer = self.box.append(name, r"(\Draft)", None, message(subject, size).encode())
        if answer[0] == "NO" and b"UNAVAILABLE" in answer[1][0]:
            del after[name][None]           # refused for now: nothing was written
            return
        self.ok(answer)

    def do_store(self, name, other, chosen, after):
        for uid in chosen:
            after[name][uid] = (after[name][uid][0], after[name][uid][1] | {b"\\Flagged"})
        self.select(name)
        self.ok(self.box.uid("STORE", ",".join(map(str, chosen)), "+FLAGS", r"(\Flagged)"))

    def do_copy(self, name, other, chosen, after):
        after[other][None] = [after[name][uid] for uid in chosen]
        self.select(name)
        self.ok(self.box.uid("COPY", ",".join(map(str, chosen)), other))

    def do_move(self, name, other, chosen, after):
        after[other][None] = [after[name].pop(uid) for uid in chosen]
        self.select(name)
        self.ok(self.box.uid("MOVE", ",".join(map(str, chosen)), other))

    def do_expunge(self, name, other, chosen, after):
        for uid in chosen:
            del after[name][uid]
        self.select(name)
        self.ok(self.box.uid("STORE", ",".join(map(str, chosen)), "+FLAGS", r"(\Deleted)"))
        self.ok(self.box.uid("EXPUNGE", ",".join(map(str, chosen))))


def test_kills_under_imap_load_undo_and_repeat_nothing(faulty):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    stop = threading.Event()
    model = Model(faulty, rng)
    model.connect()
    model.ok(model.box.create("Work"))

    def killer():
        kills = random.Random(seed + 1)
        while not stop.is_set():
            stop.wait(kills.uniform(0.1, 0.7))
            kill_one_that_ran_well(faulty, kills, ["store", "access", "directory"])

    task = in_thread(killer)
    try:
        steps, deadline = 0, time.monotonic() + SECONDS / 2
        while time.monotonic() < deadline:
            model.step()
            steps += 1
    finally:
        stop.set()
        task.result()
    print(f"{steps} steps, {model.unsure} without answer")
    if model.box:
        model.box.shutdown()
    model.connect()
    assert wait_for("the last look", lambda: model.same(model.read(), model.state))
    assert steps > 20 and model.unsure > 2
