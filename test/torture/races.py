"""make torture PARTS=races: ThreadSanitizer under the random load of torture/kill.py, without the kills.

Every process is the TSan build (POSTRIDER_TSAN; its unit tests are in `make check`). Clients that know what they were told
(test/e2e/crashclients.py) deliver, read, change, move and expunge; meanwhile the configuration is reloaded, users are made
and changed, the files are changed behind the store's back, and the checkpoint comes often. After each round everything is
looked at. A finding is a failure: its report, as ThreadSanitizer wrote it to the log, with the lines of the source.
TORTURE_SECONDS and TORTURE_SEED as in `run`; RACES_USERS (6), RACES_SENDERS (8), RACES_ROUND (60 s between two looks)."""

import imaplib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

if "POSTRIDER_TSAN" in os.environ:
    os.environ["POSTRIDER"] = os.environ["POSTRIDER_TSAN"]       # before instance.py asks for it
os.environ["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=98:history_size=4:second_deadlock_stack=1"
os.environ.setdefault("POSTRIDER_PATIENCE", "120")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import crashkill                                                  # noqa: E402
import instance                                                   # noqa: E402
from crashkill import Nobody, make_users                          # noqa: E402
from instance import BINARY, PATIENCE, Instance, wait_for        # noqa: E402

USERS = int(os.environ.get("RACES_USERS", "6"))
SENDERS = int(os.environ.get("RACES_SENDERS", "8"))
ROUND = float(os.environ.get("RACES_ROUND", "60"))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30)))


class Operator:
    """What else happens to a mail system while clients are busy."""

    def __init__(self, mail, rng):
        self.mail, self.rng, self.count, self.done, self.password = mail, rng, 0, 0, "secret"

    def once(self):
        what = self.rng.choice(["reload", "user", "password", "status", "queue", "maildir", "fsck"])
        if what == "reload":
            self.mail.command("reload")
        elif what == "user":
            self.count += 1
            self.mail.user(f"new{self.count}@example.test")
            self.mail.send(f"new{self.count}@example.test")
            self.password = "secret"
        elif what == "password" and self.count:
            self.password = self.rng.choice(["other", "another"])
            self.mail.command("user", "set", f"new{self.count}@example.test", "--password-stdin", input=self.password + "\n")
        elif what == "status":
            self.mail.command("status")
        elif what == "queue":
            self.mail.command("queue", "list")
        elif what == "maildir" and self.count:
            self.foreign(f"new{self.count}@example.test")
        elif what == "fsck" and self.count:
            self.mail.command("mail", "fsck", f"new{self.count}@example.test", check=False)
        self.done += 1

    def foreign(self, address):
        """Another tool renames a file, as mutt would who has read it."""
        for path in self.mail.messages(address)[:1]:
            base, name = os.path.split(path)
            if os.path.basename(base) == "new":
                try:
                    os.rename(path, os.path.join(os.path.dirname(base), "cur", name + ":2,S"))
                except FileNotFoundError:
                    pass                 # the store was quicker
        box = imaplib.IMAP4("127.0.0.1", self.mail.ports["imap"], timeout=PATIENCE)
        box.login(address, self.password)
        box.select("INBOX")              # only now the store looks
        box.logout()

    def run(self, stop):
        while not stop.wait(self.rng.uniform(0.2, 2)):
            self.once()


class Quiet(Nobody):
    """The killer that kills nobody, but is an operator."""

    def __init__(self, mail, rng, *how):
        super().__init__(mail, rng, *how)
        self.operator = Operator(mail, rng)

    def run(self, stop):
        self.operator.run(stop)


def findings(text):
    """Each report once, addresses as lines of the source where addr2line knows them."""
    seen = {}
    for report in re.findall(r"WARNING: ThreadSanitizer.*?(?===================|\Z)", text, re.S):
        key = tuple(re.findall(r"\+0x([0-9a-f]+)\)", report)[:4]) or report[:200]
        seen.setdefault(key, report)
    return [lines_of(r) for r in seen.values()]


def lines_of(report):
    offsets = re.findall(r"\(postrider[^+)]*\+0x([0-9a-f]+)\)|\(%s\+0x([0-9a-f]+)\)" % re.escape(os.path.basename(BINARY)), report)
    out = []
    for pair in offsets[:40]:
        offset = pair[0] or pair[1]
        done = subprocess.run(["addr2line", "-fipe", BINARY, "0x" + offset], capture_output=True, text=True)
        out.append(f"  0x{offset}: {done.stdout.strip()}")
    return report + "\n".join(out)


def heard(mail):
    """What ThreadSanitizer says inside a jail reaches the log, or this part could not fail."""
    for process in ("access", "store"):
        pid = mail.pid_of(process)
        mail.wait_log(rf"process {process}\[{pid}\] is ready")
        before = len(mail.log())
        os.kill(pid, signal.SIGSEGV)
        wait_for(f"word of the end of {process}", lambda: "ThreadSanitizer: SEGV" in mail.log()[before:])


def main():
    place = tempfile.mkdtemp(prefix="torture-races-")
    os.chmod(place, 0o755)
    print(f"{3 * USERS + SENDERS} clients, {USERS} accounts, seed {SEED}, in {place}", flush=True)
    begin = time.monotonic()
    anything = instance.sanitizer_report
    crashkill.sanitizer_report = lambda text: "\n".join(findings(text)) or anything(text)
    try:
        with Instance(os.path.join(place, "mail"), settings={
                "imap_client_connection_count_limit": "0", "pop3_client_connection_count_limit": "0",
                "smtpd_client_connection_count_limit": "0", "journal_size_limit": "33554432"}) as mail:
            users = make_users(mail, USERS)
            mail.start()
            killer, world = crashkill.rounds(mail, users, SENDERS, SEED, SECONDS, ROUND, kind=Quiet,
                                             say=lambda text: print(text, flush=True))
            assert killer.operator.done > 0 and world.stats.get("delivered", 0) > 0
            mail.stop()
            found = crashkill.sanitizer_report(mail.log())
            assert not found, found
            mail.start()
            heard(mail)
            instance.sanitizer_report = lambda text: ""          # what it would find now is ours
    except BaseException:
        traceback.print_exc()
        print(f"kept: {place}", flush=True)
        return 1
    print(f"nothing found in {time.monotonic() - begin:.0f} s: {world.stats}")
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
