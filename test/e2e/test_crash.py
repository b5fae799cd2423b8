"""kill -9 of any process, at any moment: what was answered 250 is there, once, and whole."""

import email
import os
import random
import re
import signal
import smtplib
import threading
import time

import pytest

from instance import Instance, Raw, in_thread, wait_for

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
        time.sleep(rng.uniform(0.2, 1.5))
        victims = faulty.children()
        if victims:
            pid = rng.choice(sorted(victims))
            try:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
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
