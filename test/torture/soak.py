"""make torture PARTS=soak: a system that is used, gently and for long: does anything grow that should not?

A few clients of every kind (SMTP, submission with right and wrong passwords, IMAP that selects, fetches, changes, moves,
expunges and idles, POP3, sendmail, an operator who reloads and looks at the queue) keep a handful of mailboxes at about the
same size, while mail goes out to a server that takes it and to one that is never there. Each round of load ends with a
moment of rest, in which every process is looked at: memory (PSS), descriptors, threads; and the disk: files of queue and
spools, segments of the journals, the indexes. The first rounds warm up. In the last one nothing may stand above the first
that counts by more than what LIMITS says, and what is only there for a time must be gone.

A plain build (POSTRIDER_TESTED): what a sanitizer keeps would hide what we do. TORTURE_SECONDS and TORTURE_SEED as in
`run`; SOAK_ROUND (150 s), SOAK_RATE (8 steps of clients a second, all together). Every sample goes to samples.tsv, told at
the end; what is left of a run that failed is kept."""

import glob
import imaplib
import json
import os
import poplib
import random
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

if "POSTRIDER_TESTED" in os.environ:
    os.environ["POSTRIDER"] = os.environ["POSTRIDER_TESTED"]     # before instance.py asks for it
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from instance import BINARY, PATIENCE, Instance, free_ports, wait_for  # noqa: E402

SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
ROUND = float(os.environ.get("SOAK_ROUND", "150"))
RATE = float(os.environ.get("SOAK_RATE", "8"))
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30)))
USERS = [f"user{i}@example.test" for i in range(6)]
KEEP = 60                   # messages in an INBOX: what is more is expunged
WARM = 2                    # rounds that do not count, or a third of them
REST = 14                   # seconds: threads that nobody needs end after ten
FOREVER = 5                 # a line of the log that comes so often in a moment of rest repeats for ever

# What may stand higher in the last moment of rest than in the first that counts. Memory in KB: heaps breathe.
LIMITS = {"pss": 4096, "fds": 6, "threads": 3}
LOST = (OSError, EOFError, imaplib.IMAP4.error, smtplib.SMTPException, poplib.error_proto)


def text_of(rng, size):
    return (f"From: <a@elsewhere.test>\r\nSubject: {rng.random()}\r\nMessage-ID: <{rng.random()}@x>\r\n\r\n"
            + "one line of many, which is said again\r\n" * (size // 39))


class Load:
    """Steps of clients; each is a whole dialogue and leaves nothing open but the sessions that idle."""

    def __init__(self, mail, rng, bin):
        self.mail, self.rng, self.bin = mail, rng, bin
        self.count, self.failed, self.lock = {}, {}, threading.Lock()

    def size(self):
        return self.rng.choice([0, 300, 300, 2000, 2000, 9000, 65000, 65536, 66000, 300_000])

    def user(self):
        return self.rng.choice(USERS)

    def smtp(self):
        with self.mail.smtp() as s:
            s.ehlo()
            s.docmd("RCPT", "TO:<nobody@example.test>")
            to = self.rng.sample(USERS, self.rng.choice([1, 1, 2, 6]))
            s.sendmail("sender@elsewhere.test", to, text_of(self.rng, self.size()))

    def smtp_refused(self):
        with self.mail.smtp() as s:
            s.ehlo()
            s.mail("sender@elsewhere.test")
            s.rcpt("nobody@example.test")
            s.rcpt("nobody@elsewhere.test")
            s.docmd("NONSENSE")

    def smtp_gone(self):
        """A client that vanishes in the midst of its message."""
        with self.mail.raw("smtp") as c:
            c.reply()
            c.ask("EHLO x")
            c.ask("MAIL FROM:<gone@elsewhere.test>")
            c.ask(f"RCPT TO:<{self.user()}>")
            c.ask("DATA")
            c.send("Subject: half\r\n\r\n" + "x" * self.rng.choice([10, 100_000]))

    def submission(self):
        who = self.user()
        s = self.mail.submission(who)
        to = self.rng.choice(["a@far.test", "b@far.test", "c@dead.test", self.user()])
        s.sendmail(who, [to] + self.rng.sample(["d@far.test", self.user()], self.rng.choice([0, 0, 1])),
                   text_of(self.rng, self.size()))
        s.quit()

    def wrong_password(self):
        """From an address of its own: whoever fails is served more slowly."""
        with socket.create_connection(("127.0.0.1", self.mail.ports["imap"]), PATIENCE, ("127.0.0.77", 0)) as c:
            f = c.makefile("rb")
            f.readline()
            c.sendall(f"a LOGIN {self.user()} wrong\r\n".encode())
            assert b"a NO" in f.readline()

    def imap(self):
        box = self.mail.imap(self.user())
        for name in ("INBOX", self.rng.choice(["Trash", "Sent", "Work"])):
            if name == "Work":
                box.create(name)
            count = int(box.select(name)[1][0])
            if count == 0:
                continue
            one = str(self.rng.randint(1, count))
            box.fetch(f"{max(1, count - 20)}:{count}", "(FLAGS ENVELOPE BODYSTRUCTURE)")
            box.fetch(one, "(BODY.PEEK[])")
            box.search(None, "UNSEEN", "SUBJECT", "0.1")
            box.store(one, "+FLAGS", self.rng.choice([r"(\Seen)", r"(\Flagged)", "($Label1)"]))
            if name == "INBOX":
                box.copy(one, "Trash") if self.rng.random() < 0.5 else box._simple_command("MOVE", one, "Sent")
            if count > (KEEP if name == "INBOX" else 10):
                box.store(f"1:{count - 5}", "+FLAGS", r"(\Deleted)")
                box.expunge()
        if self.rng.random() < 0.3:
            box.append("Trash", "", None, text_of(self.rng, self.size()).encode())
        if self.rng.random() < 0.3:
            box.delete("Work") if self.rng.random() < 0.5 else box.rename("Work", f"Work{self.rng.randint(0, 3)}")
        for n in range(4):
            if self.rng.random() < 0.1:
                box.delete(f"Work{n}")
        box.logout()

    def imap_gone(self):
        box = self.mail.imap(self.user())
        box.select()
        box.shutdown()

    def pop3(self):
        p = self.mail.pop3(self.user())
        sizes = p.list()[1]
        for n in range(1, min(len(sizes), 3) + 1):
            p.retr(n)
            p.dele(n)
        p.quit()

    def sendmail(self):
        to = self.rng.choice(USERS + ["e@far.test", "f@dead.test"])
        subprocess.run([os.path.join(self.bin, "sendmail"), "-f", self.user(), to], check=True, timeout=60,
                       input=text_of(self.rng, 300).replace("\r", ""), text=True,
                       env={**os.environ, "POSTRIDER_CONFIG": self.mail.dir})

    def operator(self):
        what = self.rng.choice([["reload"], ["status"], ["queue", "list"], ["queue", "flush"], ["user", "list"]])
        self.mail.command(*what)
        if self.rng.random() < 0.2:
            self.mail.command("mail", "fsck", self.user())

    STEPS = {"smtp": 10, "smtp_refused": 2, "smtp_gone": 1, "submission": 4, "wrong_password": 1, "imap": 8, "imap_gone": 1,
             "pop3": 3, "sendmail": 1, "operator": 1}

    def step(self):
        name = self.rng.choices(list(self.STEPS), list(self.STEPS.values()))[0]
        try:
            getattr(self, name)()
            into = self.count
        except LOST as e:
            into, name = self.failed, f"{name}: {type(e).__name__} {e}"[:200]
        with self.lock:
            into[name] = into.get(name, 0) + 1

    def run(self, until):
        while time.monotonic() < until:
            begin = time.monotonic()
            self.step()
            time.sleep(max(0.0, THREADS / RATE - (time.monotonic() - begin)))


THREADS = 4


class Idler(threading.Thread):
    """In IDLE for as long as everything lasts, but for a reconnection now and then."""

    def __init__(self, mail, user, rng):
        super().__init__(daemon=True)
        self.mail, self.user, self.rng, self.stop, self.heard, self.error = mail, user, rng, threading.Event(), 0, None

    def run(self):
        try:
            while not self.stop.is_set():
                self.once(time.monotonic() + self.rng.uniform(30, 300))
        except BaseException as e:              # told by main()
            self.error = e

    def once(self, until):
        box = self.mail.imap(self.user)
        box.select()
        box.send(b"i IDLE\r\n")
        box.sock.settimeout(1)
        while time.monotonic() < until and not self.stop.is_set():
            try:
                got = box.sock.recv(10000)
            except TimeoutError:
                continue
            if not got or b"BYE" in got:        # `mail fsck` makes all who look at the account look again
                box.shutdown()
                return
            self.heard += got.count(b"EXISTS")
        box.sock.settimeout(PATIENCE)
        box.send(b"DONE\r\nq LOGOUT\r\n")
        while box.sock.recv(10000):
            pass
        box.shutdown()


# ---- looking ----

def first_number(path, pattern):
    return int(re.search(pattern, open(path).read(), re.M)[1])


def processes(mail):
    found = {}
    for pid, name in {**mail.children(), mail.master.pid: "master"}.items():
        found[name] = {
            "pid": pid,
            "pss": first_number(f"/proc/{pid}/smaps_rollup", r"^Pss:\s+(\d+)"),
            "rss": first_number(f"/proc/{pid}/status", r"^VmRSS:\s+(\d+)"),
            "threads": first_number(f"/proc/{pid}/status", r"^Threads:\s+(\d+)"),
            "fds": len(os.listdir(f"/proc/{pid}/fd"))}
    return found


def disk(mail):
    spool = os.path.join(mail.dir, "spool")
    tmp = sum(len(files) for base, _, files in os.walk(os.path.join(mail.dir, "mail")) if os.path.basename(base) == "tmp")
    found = {"tmp": tmp, "maildrop": len(os.listdir(os.path.join(spool, "maildrop")))}
    for who in ("store", "queue"):
        path = os.path.join(spool, who)
        found[who + ".segments"] = len(glob.glob(os.path.join(path, "journal.*")))
        found[who + ".index"] = os.stat(os.path.join(path, "index.mdb")).st_size
        found[who + ".blobs"] = len(os.listdir(os.path.join(path, "spool")))
    found["queue.files"] = len(os.listdir(os.path.join(spool, "queue", "msgs")))
    found["log"] = os.path.getsize(mail.log_path)
    return found


class Sampler(threading.Thread):
    def __init__(self, mail, path):
        super().__init__(daemon=True)
        self.mail, self.out, self.stop, self.begin = mail, open(path, "w"), threading.Event(), time.monotonic()

    def run(self):
        while not self.stop.wait(30):
            try:
                self.write("")
            except (OSError, TypeError):        # a process that is being started again
                continue

    def write(self, mark):
        now = int(time.monotonic() - self.begin)
        for name, p in processes(self.mail).items():
            self.out.write(f"{now}\t{mark}\t{name}\t" + "\t".join(f"{k}={v}" for k, v in p.items()) + "\n")
        self.out.write(f"{now}\t{mark}\tdisk\t" + "\t".join(f"{k}={v}" for k, v in disk(self.mail).items()) + "\n")
        self.out.flush()


def rest(mail, sampler):
    """Nothing goes on but sessions in IDLE: how it looks then, and what the log goes on to say."""
    wait_for("an empty queue", lambda: json.loads(mail.command("queue", "list", "--json").stdout) == [], 240)
    before = os.path.getsize(mail.log_path)
    time.sleep(REST)
    with open(mail.log_path, "rb") as f:
        f.seek(before)
        lines = [re.sub(r"[0-9a-fA-F]{6,}|\d+", "#", line) for line in f.read().decode("utf-8", "replace").splitlines()]
    sampler.write("rest")
    return {"processes": processes(mail), "disk": disk(mail), "repeated": {x for x in lines if lines.count(x) > FOREVER}}


def judge(looks):
    """What is wrong, in sentences."""
    first, last, wrong = looks[min(WARM, len(looks) // 3)], looks[-1], []
    for name, before in first["processes"].items():
        now = last["processes"].get(name)
        if not now or now["pid"] != before["pid"]:
            wrong.append(f"{name} is another process than before")
            continue
        wrong += [f"{name}: {what} rose from {before[what]} to {now[what]}: "
                  f"{[look['processes'][name][what] for look in looks]}"
                  for what, most in LIMITS.items() if now[what] > before[what] + most]
    for what in ("tmp", "maildrop", "store.blobs", "queue.blobs", "queue.files"):
        if last["disk"][what]:
            wrong.append(f"{last['disk'][what]} of {what} are left")
    for what in ("store.segments", "queue.segments"):
        if last["disk"][what] > first["disk"][what] + 1:
            wrong.append(f"{what}: {[look['disk'][what] for look in looks]}")
    # The store's index holds what was expunged within the hour, too; the queue's has nothing to keep.
    if last["disk"]["queue.index"] > 2 * first["disk"]["queue.index"] + (1 << 20):
        wrong.append(f"the queue's index: {[look['disk']['queue.index'] for look in looks]}")
    wrong += [f"the log repeats: {line}" for line in last["repeated"]]
    return wrong


def soak(mail, rng, place):
    idlers = [Idler(mail, user, random.Random(rng.random())) for user in USERS]
    sampler, looks = Sampler(mail, os.path.join(place, "samples.tsv")), []
    for thread in [*idlers, sampler]:
        thread.start()
    load = Load(mail, rng, os.path.join(place, "bin"))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or len(looks) < 3:
        until = min(time.monotonic() + ROUND, max(end, time.monotonic() + 20))
        threads = [threading.Thread(target=load.run, args=(until,)) for _ in range(THREADS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        looks.append(rest(mail, sampler))
        print(f"{sum(load.count.values())} steps, {sum(load.failed.values())} failed; PSS in KB, descriptors, threads: "
              + ", ".join(f"{n} {p['pss']}/{p['fds']}/{p['threads']}" for n, p in sorted(looks[-1]["processes"].items()))
              + f"; {looks[-1]['disk']}", flush=True)
        assert not [i.error for i in idlers if i.error], [i.error for i in idlers]
    for thread in [*idlers, sampler]:
        thread.stop.set()
    for thread in idlers:
        thread.join()
    print(load.count, load.failed, {i.user: i.heard for i in idlers}, sep="\n", flush=True)
    wrong = judge(looks)
    # A client is refused now and then (a mailbox that another has deleted); that is no rule.
    if sum(load.failed.values()) * 20 > sum(load.count.values()):
        wrong.append(f"too many steps failed: {load.failed}")
    if min(i.heard for i in idlers) == 0:
        wrong.append("a session in IDLE heard of nothing")
    return wrong


def main():
    place = tempfile.mkdtemp(prefix="torture-soak-")
    os.chmod(place, 0o755)
    os.mkdir(os.path.join(place, "bin"))
    os.symlink(BINARY, os.path.join(place, "bin", "sendmail"))
    [port] = free_ports(1)
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "100"], stdin=subprocess.DEVNULL)
    print(f"{SECONDS:.0f} s, seed {SEED}, in {place}", flush=True)
    wrong = ["it came to no end"]
    try:
        with Instance(os.path.join(place, "mail"), settings={
                "transport_maps": f"inline:{{ {{ far.test = smtp:[127.0.0.1]:{port} }} {{ dead.test = smtp:[127.0.0.1]:1 }} }}",
                "minimal_backoff_time": "5s", "maximal_backoff_time": "10s", "maximal_queue_lifetime": "30s",
                "bounce_queue_lifetime": "30s", "delay_warning_time": "10s", "mailbox_undelete_time": "1h"}) as mail:
            for user in USERS:
                mail.user(user)
            mail.start()
            wrong = soak(mail, random.Random(SEED), place)
            assert mail.stop() == 0
    except BaseException:
        traceback.print_exc()
    finally:
        sink.terminate()
        sink.wait()
    for sentence in wrong:
        print(sentence)
    if wrong:
        print(f"kept: {place}", flush=True)
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
