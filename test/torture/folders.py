"""make torture PARTS=folders: many sessions of one account on the same messages and mailboxes, while store is killed.

Six sessions copy, move, flag and expunge what the others do, too, and create, rename and delete the mailboxes they do it in,
with names that come again and again; mail comes in; store, access and queue are killed now and then. What is asked: no UID of
a UIDVALIDITY is ever two messages; and in the end the index, the files and their uidlists agree (`mail fsck --check`), before
and after one more start. TORTURE_SECONDS and TORTURE_SEED as in `run`; FOLDERS_SESSIONS (6), FOLDERS_ROUND (60 s)."""

import imaplib
import os
import random
import re
import shutil
import signal
import smtplib
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from crashkill import check_store, make_users, quiet                # noqa: E402
from instance import PATIENCE, Instance, in_thread, sanitizer_report  # noqa: E402

SESSIONS = int(os.environ.get("FOLDERS_SESSIONS", "6"))
ROUND = float(os.environ.get("FOLDERS_ROUND", "60"))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30)))
USER = "user0@example.test"
NAMES = ["INBOX", "W1", "W2", "W3"]
ALL = NAMES[1:] + ["W1/x", "W2/y"]


class World:
    def __init__(self, mail, rng):
        self.mail, self.rng, self.lock, self.given, self.stats, self.end = mail, rng, threading.Lock(), {}, {}, 0

    def tell(self, what):
        with self.lock:
            self.stats[what] = self.stats.get(what, 0) + 1

    def seed(self):
        return random.Random(self.rng.random())

    def connect(self):
        box = imaplib.IMAP4("127.0.0.1", self.mail.ports["imap"], timeout=PATIENCE)
        box.login(USER, "secret")
        return box

    def look(self, box, name):
        """Which message has which UID."""
        status, data = box.select(name, readonly=True)
        if status != "OK" or data == [b"0"]:
            return
        validity = int(box.response("UIDVALIDITY")[1][0])
        for item in box.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
            if isinstance(item, tuple) and item[1].strip():
                uid = int(re.search(rb"UID (\d+)", item[0])[1])
                with self.lock:
                    before = self.given.setdefault((validity, uid), item[1])
                assert before == item[1], f"{name}: UID {uid} of {validity} was {before} and is {item[1]}"

    def messages(self, box, rng, name, other):
        status, data = box.select(name)
        if status != "OK" or data == [b"0"]:
            return
        first = rng.randint(1, int(data[0]))
        some = f"{first}:{min(int(data[0]), first + rng.randint(0, 8))}"
        what = rng.choice(["copy", "move", "move", "delete", "expunge", "flag", "look"])
        if what == "copy":
            box.copy(some, other)
        elif what == "move":
            box._simple_command("MOVE", some, other)
        elif what == "delete":
            box.store(some, "+FLAGS", r"(\Deleted)")
        elif what == "expunge":
            box.expunge()
        elif what == "flag":
            box.store(some, "FLAGS", rng.choice([r"(\Seen)", "($a b)", r"(\Flagged c)"]))
        else:
            self.look(box, name)
        self.tell(what)

    def mailboxes(self, box, rng, name, other):
        what = rng.choice(["create", "rename", "remove"])
        if what == "create":
            box.create(other)
        elif what == "rename":
            box.rename(name, rng.choice(ALL))
        else:
            box.delete(rng.choice(ALL))
        self.tell(what)

    def session(self, rng):
        while time.monotonic() < self.end:
            try:
                box = self.connect()
                for _ in range(12):
                    step = self.mailboxes if rng.random() < 0.3 else self.messages
                    step(box, rng, rng.choice(NAMES), rng.choice(NAMES))
                box.logout()
            except (OSError, EOFError, imaplib.IMAP4.error):
                self.tell("lost")
                time.sleep(0.1)

    def sender(self, rng):
        while time.monotonic() < self.end:
            try:
                self.mail.send(USER, subject=str(rng.random()))
                self.tell("sent")
            except (OSError, smtplib.SMTPException):
                self.tell("not sent")
            time.sleep(rng.uniform(0, 0.05))

    def killer(self, rng):
        while time.monotonic() < self.end:
            time.sleep(rng.uniform(2, 6))
            for pid, name in self.mail.children().items():
                if name in ("store", "access", "queue") and rng.random() < 0.6:
                    try:
                        os.kill(pid, signal.SIGKILL)
                        self.tell("kills of " + name)
                    except ProcessLookupError:
                        pass

    def round(self, seconds):
        self.end = time.monotonic() + seconds
        tasks = [in_thread(self.session, self.seed()) for _ in range(SESSIONS)]
        tasks += [in_thread(self.sender, self.seed()) for _ in range(2)] + [in_thread(self.killer, self.seed())]
        for t in tasks:
            t.result()
        quiet(self.mail)
        check_store(self.mail)
        box = self.connect()
        for line in box.list()[1]:
            self.look(box, f'"{re.split(rb"[ ]", line)[-1].decode()}"'.replace('""', '"'))
        box.logout()
        assert not sanitizer_report(self.mail.log()), sanitizer_report(self.mail.log())
        print(self.stats, flush=True)


def main():
    place = tempfile.mkdtemp(prefix="torture-folders-")
    os.chmod(place, 0o755)
    print(f"{SESSIONS} sessions, seed {SEED}, in {place}", flush=True)
    try:
        with Instance(os.path.join(place, "mail"), settings={
                "imap_client_connection_count_limit": "0", "smtpd_client_connection_count_limit": "0"}) as mail:
            make_users(mail, 1)
            mail.start()
            world, end = World(mail, random.Random(SEED)), time.monotonic() + SECONDS
            while True:
                world.round(max(10.0, min(ROUND, end - time.monotonic())))
                if time.monotonic() > end - 10:
                    break
            assert mail.stop() == 0
            mail.start()
            check_store(mail)
    except BaseException:
        traceback.print_exc()
        print(f"kept: {place}", flush=True)
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
