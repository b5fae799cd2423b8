"""make torture PARTS=fill: disks that fill up and are emptied again, over and over, under load, with a crash now and then.

Whatever was answered 250 or OK is there exactly once at the end of each round, without anybody's help; the same for mail
that waits to go out (with the argument `relaying` that alone, TORTURE_SECONDS long). Begins with all
forms of test_disk, test_mounts and test_foreign, those too long for `make check` included."""
import imaplib
import os
import random
import smtplib
import subprocess
import sys
import tempfile
import threading
import time

from crashout import end, prepare
from crashout import rounds as rounds_out
from disks import MB, Disk, crash
from instance import BINARY, Instance, in_thread, wait_for
from test_crash import message, subjects

E2E = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e")
SECONDS = float(os.environ["TORTURE_SECONDS"])
SEED = int(os.environ["TORTURE_SEED"])
USERS = ["bob@example.test", "alice@example.test"]
SIZES = (500, 5_000, 60_000, 300_000)


class Load:
    """Clients that send, append, flag and expunge until told to stop, and know what was acknowledged."""

    def __init__(self, mail, rng):
        self.mail, self.stop, self.lock = mail, threading.Event(), threading.Lock()
        self.kept = {u: set() for u in USERS}       # acknowledged
        self.unsure = {u: set() for u in USERS}     # no answer came: there once, or not at all
        seeds = [rng.random() for _ in range(5)]
        work = (self.send, self.send, self.send, self.append, self.read)
        self.tasks = [in_thread(self.run, w, i, random.Random(s)) for i, (w, s) in enumerate(zip(work, seeds))]

    def run(self, work, number, rng):
        i = 0
        while not self.stop.is_set():
            i += 1
            try:
                work(f"c{number}-{i}-{rng.randrange(1 << 30)}", rng)
            except (OSError, smtplib.SMTPException, imaplib.IMAP4.error):
                time.sleep(0.05)                    # refused, or away: a client's pause

    def send(self, name, rng):
        user = rng.choice(USERS)
        self.unsure[user].add(name)
        try:
            self.mail.send(user, text=message(name, rng.choice(SIZES)))
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as e:
            codes = [e.smtp_code] if isinstance(e, smtplib.SMTPResponseException) else [c for c, _ in e.recipients.values()]
            if any(400 <= c < 600 for c in codes):
                assert all(c < 500 for c in codes), f"refused for good: {e}"
                self.unsure[user].discard(name)
            raise
        self.acknowledge(user, name)

    def append(self, name, rng):
        user = rng.choice(USERS)
        box = self.mail.imap(user)
        self.unsure[user].add(name)
        status, why = box.append("INBOX", r"(\Flagged)", None, message(name, rng.choice(SIZES)).encode())
        if status == "OK":
            self.acknowledge(user, name)
        else:
            self.unsure[user].discard(name)
        box.logout()

    def acknowledge(self, user, name):
        with self.lock:
            self.unsure[user].discard(name)
            self.kept[user].add(name)

    def read(self, name, rng):
        user = rng.choice(USERS)
        box = self.mail.imap(user)
        if int(box.select()[1][0]) > 0:
            box.store("1:*", rng.choice(("+FLAGS", "-FLAGS")), r"(\Answered)")
            box.fetch("1", "(BODY.PEEK[])")
        box.logout()

    def count(self):
        for t in self.tasks:
            if not t.is_alive():
                t.result()                              # what it died of
        return sum(map(len, self.kept.values()))

    def end(self):
        self.stop.set()
        for t in self.tasks:
            t.result()


def settled(mail, load, user):
    """All that was acknowledged, once, and nothing that never was sent."""
    mail.command("queue", "flush", check=False)
    found = subjects(mail, user)
    assert all(n == 1 for n in found.values()), {s: n for s, n in found.items() if n > 1}
    strange = set(found) - load.kept[user] - load.unsure[user]
    assert not strange, strange
    return load.kept[user] <= set(found)


def clear(mail):
    for user in USERS:
        box = mail.imap(user)
        if int(box.select()[1][0]) > 0:
            box.store("1:*", "+FLAGS", r"(\Deleted)")
            box.expunge()
        box.logout()


def one_round(mail, disks, rng, number):
    disk = rng.choice(disks)
    how = rng.choice(("last byte", "last byte", "a little room", "inodes"))
    with_crash = rng.random() < 0.4
    load = Load(mail, rng)
    time.sleep(rng.uniform(0.2, 1.0))
    for _ in range(rng.randint(1, 3)):
        if how == "inodes":
            disk.use_up_inodes()
        else:
            disk.fill(rng.randint(1, 6) * MB if how == "a little room" else 0)
        time.sleep(rng.uniform(0.2, 2.0))
    if with_crash:
        crash(mail)
        mail.start()
        time.sleep(rng.uniform(0.2, 1.0))
    disk.empty()
    n = load.count()
    wait_for("mail to be taken again", lambda: load.count() > n + 5, 120)
    load.end()
    for user in USERS:
        wait_for(f"all of {user}'s mail", lambda: settled(mail, load, user), 120)
    print(f"round {number}: {os.path.basename(disk.path)}, {how}{', crash' if with_crash else ''}: "
          f"{sum(map(len, load.kept.values()))} acknowledged, all there", flush=True)
    clear(mail)


def rounds():
    rng = random.Random(SEED)
    until = time.monotonic() + SECONDS
    number = 0
    with tempfile.TemporaryDirectory(prefix="postrider-fill-") as base:
        os.chmod(base, 0o755)
        root = os.path.join(base, "mail")
        disks = [Disk(os.path.join(root, d), s, options=",nr_inodes=20000") for d, s in (("mail", "400m"), ("spool", "500m"))]
        try:
            with Instance(root, settings={"message_size_limit": "1000000", "smtpd_client_connection_count_limit": "0"}) as m:
                for user in USERS:
                    m.user(user)
                m.start()
                while time.monotonic() < until:
                    number += 1
                    one_round(m, disks, rng, number)
                assert m.stop() == 0
        finally:
            for d in reversed(disks):
                d.end()


class Filler:
    """In place of a killer: the queue's disk fills up while mail waits to go out, comes in and is reported, and is emptied."""

    def __init__(self, disk, rng):
        self.disk, self.rng, self.kills, self.masters = disk, rng, {}, []
        self.spare, self.master_share = (), 0

    def total(self):
        return sum(self.kills.values())

    def run(self, stop):
        while not stop.is_set():
            how = self.rng.choice(("last byte", "last byte", "a little room", "inodes"))
            if how == "inodes":
                self.disk.use_up_inodes()
            else:
                self.disk.fill(self.rng.randint(1, 4) * MB if how == "a little room" else 0)
            self.kills[how] = self.kills.get(how, 0) + 1
            stop.wait(self.rng.uniform(0.3, 4))
            self.disk.empty()
            stop.wait(self.rng.uniform(0.2, 2))


def relaying():
    """To twenty destinations with manners (crashout.py): what was taken arrives or is reported, and nothing is sent twice,
    for nobody dies."""
    with tempfile.TemporaryDirectory(prefix="postrider-fill-") as base:
        os.chmod(base, 0o755)
        root = os.path.join(base, "mail")
        disk = Disk(os.path.join(root, "spool", "queue"), "120m", options=",nr_inodes=5000")
        try:
            with Instance(root, settings={"message_size_limit": "1000000"}) as m:
                world = prepare(m, SEED)
                try:
                    m.start()
                    relay = m.pid_of("relay")
                    filler = rounds_out(world, 14, SEED, SECONDS, 30, say=lambda text: print(text, flush=True),
                                        trouble=Filler(disk, random.Random(SEED)))
                    assert m.pid_of("relay") == relay, "the relay died of it"
                    assert m.stop() == 0
                finally:
                    end(world)
        finally:
            disk.end()
    print(f"relaying: the disk was full {filler.total()} times {filler.kills}, {len(world.all)} recipients, seed {SEED}", flush=True)


def main():
    if "relaying" in sys.argv[1:]:
        relaying()
        return 0
    tests = [os.path.join(E2E, f"test_{name}.py") for name in ("disk", "storage", "mounts", "foreign")]
    env = dict(os.environ, DISK_ALL="1", FOREIGN_SECONDS=str(min(60, SECONDS / 4)), POSTRIDER=BINARY)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rf", *tests], env=env)
    rounds()
    relaying()
    return done.returncode


sys.exit(main())
