"""Who kills, and who looks afterwards: rounds of load under kill -9, each followed by a look at everything."""

import imaplib
import json
import os
import random
import re
import select
import signal
import sqlite3
import time

from crashclients import ImapClient, PopClient, World, clients_of, owner_of
from instance import PATIENCE, ROOT, in_thread, sanitizer_report, wait_for

PROCESSES = ("smtpd", "access", "relay", "dns", "directory", "queue", "store")
QUIET = 120         # seconds until everything must be at rest again


def fault_points():
    """The points that the program has, from the program."""
    found = set()
    for base, _, files in os.walk(os.path.join(ROOT, "src")):
        for name in files:
            if name.endswith(".c"):
                found.update(re.findall(r'FAULT_POINT\("([a-z._]+)"\)', open(os.path.join(base, name)).read()))
    return sorted(found)


class Faults:
    """FIFOs through which a test kills a process at a named point (os/fault.h)."""

    NAMES = fault_points()

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

    def armed(self, name):
        return bool(select.select([self.fds[name]], [], [], 0)[0])

    def wait_used(self, name):
        """Until a process has died at the point."""
        wait_for(f"the end of a process at {name}", lambda: not self.armed(name))

    def disarm(self):
        for fd in self.fds.values():
            try:
                while os.read(fd, 100):
                    pass
            except BlockingIOError:
                pass

    def close(self):
        for fd in self.fds.values():
            os.close(fd)


def make_users(mail, count):
    """Accounts whose log-in costs little: with every kill all clients come again at once."""
    users = [f"user{i}@example.test" for i in range(count)]
    for user in users:
        mail.user(user)
    with sqlite3.connect(os.path.join(mail.dir, "directory", "accounts.sqlite")) as db:
        db.execute("UPDATE users SET password = '{PLAIN}secret'")
    db.close()
    return users


class Killer:
    """kill -9 of one process, of several, of all, of master; or at a fault point that the next one passes."""

    def __init__(self, mail, rng, faults=None, pause=(0.02, 0.3), master=0.02):
        self.mail, self.rng, self.faults, self.pause, self.master_share = mail, rng, faults, pause, master
        self.kills = {}
        self.spare = ()             # processes that live on, by name
        self.gave_up = None

    def count(self, name):
        self.kills[name] = self.kills.get(name, 0) + 1

    def total(self):
        return sum(self.kills.values())

    def age(self, pid):
        try:
            ticks = float(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19])
        except OSError:
            return 0
        return float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")

    def kill(self, pid, name):
        try:
            os.kill(pid, signal.SIGKILL)
            self.count(name)
        except ProcessLookupError:
            pass

    def master(self, children_too):
        """The tester starts it again, as an init system would."""
        children = self.mail.children()
        if children_too:
            for pid, name in children.items():
                self.kill(pid, name)
        self.mail.kill()
        self.count("master")
        self.mail.start()

    def once(self):
        children = {pid: name for pid, name in self.mail.children().items() if name not in self.spare}
        # One that lived for two seconds died by accident; for one that dies again and again there is the back-off.
        grown = {p: n for p, n in children.items() if self.age(p) > 2.1 or self.rng.random() < 0.03}
        what = self.rng.random()
        if what < self.master_share:
            self.master(self.rng.random() < 0.5)
        elif what < self.master_share + 0.04:
            for pid, name in children.items():
                self.kill(pid, name)
        elif what < 0.2 and self.faults:
            # One at a time: what lies in wait at a point of the start would keep a process from ever starting.
            name = self.rng.choice([n for n in self.faults.NAMES if n.split(".")[0] not in self.spare])
            if not self.faults.armed(name):
                self.faults.arm(name)
                self.count("at a fault point")
        elif grown:
            # Those that hold the state more often than those that hold nothing.
            pids = sorted(grown)
            weights = [1 if grown[p] == "access" else 5 if grown[p] == "store" else 3 for p in pids]
            for pid in {self.rng.choices(pids, weights)[0] for _ in range(self.rng.choice([1, 1, 1, 2, 3]))}:
                self.kill(pid, grown[pid])

    def run(self, stop):
        """Blow on blow for a while, and then long enough for the clients to get somewhere."""
        while not stop.wait(self.rng.uniform(*self.pause) * self.rng.choice([1, 1, 1, 1, 6])):
            self.once()


# ---- looking at everything ----

def quiet(mail):
    """All processes there, and each for longer than the back-off; nothing queued; nothing in tmp/ or the spools."""
    begin = time.monotonic()
    wait_for("all processes", lambda: sorted(mail.children().values()) == sorted(PROCESSES), QUIET)
    mail.wait_ready()
    mail.command("queue", "flush")
    wait_for("an empty queue", lambda: json.loads(mail.command("queue", "list", "--json").stdout) == [], QUIET)
    wait_for("no zombies", lambda: not zombies(mail), QUIET)
    return time.monotonic() - begin


def zombies(mail):
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                stat = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(stat[1]) == mail.master.pid and stat[0] == "Z":
                found.append(pid)
    return found


def leftovers(mail):
    found = []
    for spool in ("store", "queue"):
        path = os.path.join(mail.dir, "spool", spool, "spool")
        found += [os.path.join(path, f) for f in os.listdir(path)] if os.path.isdir(path) else []
    path = os.path.join(mail.dir, "spool", "queue", "msgs")
    found += [os.path.join(path, f) for f in os.listdir(path)] if os.path.isdir(path) else []
    for base, dirs, files in os.walk(os.path.join(mail.dir, "mail")):
        if os.path.basename(base) == "tmp":
            found += [os.path.join(base, f) for f in files]
    return found


class Look:
    """One account as a new client sees it, all of it, byte for byte."""

    def __init__(self, world, user, verified):
        self.world, self.user, self.verified = world, user, verified
        self.boxes = {}             # mailbox: uid: (token, flags)
        self.where = {}             # token: [mailbox, ...]
        box = imaplib.IMAP4("127.0.0.1", world.mail.ports["imap"], timeout=PATIENCE)
        box.login(user, "secret")
        box._simple_command("ENABLE", "CONDSTORE")
        validities = {}
        for line in box.list()[1]:
            name = line.decode().rsplit('"', 2)[-2] if line.endswith(b'"') else line.decode().split()[-1]
            validity = self.read(box, name)
            assert validity not in validities, f"{user}: {name} and {validities[validity]} have UIDVALIDITY {validity}"
            validities[validity] = name
        box.logout()

    def read(self, box, name):
        status, data = box.select(f'"{name}"', readonly=True)
        assert status == "OK", data
        count = int(data[0])
        validity, uidnext, highest = (int(box.response(w)[1][0]) for w in ("UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"))
        for what, now in (("UIDNEXT", uidnext), ("HIGHESTMODSEQ", highest)):
            self.world.rises(self.user, validity, what, self.world.floor(self.user, validity, what), now)
        found = self.boxes[name] = {}
        for item in box.uid("FETCH", "1:*", "(FLAGS MODSEQ RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] \
                if count else []:
            if not isinstance(item, tuple):
                continue
            uid = int(re.search(rb"UID (\d+)", item[0])[1])
            assert int(re.search(rb"MODSEQ \((\d+)\)", item[0])[1]) <= highest and uid < uidnext
            flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].split()) - {b"\\Recent"}
            token = item[1].split(b":", 1)[1].strip().decode()
            self.world.is_uid(self.user, validity, uid, token)
            found[uid] = (token, flags)
            self.where.setdefault(token, []).append(name)
            self.whole(box, validity, uid, token, int(re.search(rb"RFC822.SIZE (\d+)", item[0])[1]))
        assert len(found) == count, f"{self.user}: {name}: {count} messages, {len(found)} answered"
        return validity

    def whole(self, box, validity, uid, token, size):
        if (self.user, validity, uid) in self.verified:
            return
        [text] = [i[1] for i in box.uid("FETCH", str(uid), "(BODY.PEEK[])")[1] if isinstance(i, tuple)]
        assert len(text) == size, f"{self.user}: {token}: RFC822.SIZE {size}, {len(text)} bytes"
        self.world.whole(token, text, exact=token not in self.world.deliveries[self.user])
        self.verified.add((self.user, validity, uid))


def check_deliveries(world, look, pop, imap):
    """Every accepted message once; what was in doubt once or not at all; nothing else."""
    user = look.user
    ours = {c.name: c for c in imap}
    for token, d in world.deliveries[user].items():
        count = look.where.get(token, []).count("INBOX")
        owner = owner_of(token)
        known = owner in ours and token in ours[owner].seen or \
            owner == "P" and any(pop.known[u] == token for u in pop.gone)
        assert count <= 1 + d.deaf, f"{user}: {token} is there {count} times: {d.tries}"
        assert not d.acked or known or count >= 1, f"{user}: {token} was accepted and is lost: {d.tries}"
        assert d.acked or d.doubt or count == 0, f"{user}: {token} was refused and is there: {d.tries}"
        if owner == "P" and known and not d.deaf:
            assert count == 0, f"{user}: {token} was deleted by POP3 and is there"
    for token, names in look.where.items():
        assert token in world.sizes, f"{user}: {token} in {names} was never sent"


def check(world, clients, verified):
    """Clients first: they take over what has arrived, and compare."""
    for client in clients:
        if isinstance(client, ImapClient):
            client.recover()
            client.drop()
        elif isinstance(client, PopClient):
            client.recover()
            client.drop()
    for user in world.users:
        look = Look(world, user, verified)
        own = [c for c in clients if getattr(c, "user", None) == user]
        imap = [c for c in own if isinstance(c, ImapClient)]
        check_deliveries(world, look, next(c for c in own if isinstance(c, PopClient)), imap)
        for c in imap:
            for name, box in c.state.items():
                if name != "INBOX":
                    assert look.boxes.get(name) == box, f"{c}: {name}: {look.boxes.get(name)} and not {box}"
        names = {"INBOX"}.union(*[c.state for c in imap])
        assert {n for n in look.boxes if re.fullmatch(r"[AB]\d+", n)} | {"INBOX"} == names, (user, sorted(look.boxes), names)


def check_store(mail):
    """What the index says agrees with itself, with the files and with their uidlists; quota is what a recount gives."""
    try:
        wait_for("nothing left over", lambda: not leftovers(mail), QUIET)
    except AssertionError:
        raise AssertionError(f"left over: {leftovers(mail)}")
    done = mail.command("mail", "fsck", "--check", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Nobody(Killer):
    """Load without kills: for what looks at races."""

    def run(self, stop):
        stop.wait()


def rounds(mail, users, senders, seed, seconds, round_seconds, faults=None, pause=(0.02, 0.3), say=print, master=0.02,
           kind=Killer):
    """Load and kills for `seconds`, a look at everything after each round. Returns the killer."""
    world = World(mail, users)
    clients = clients_of(world, seed, senders)
    killer = kind(mail, random.Random(seed + 1), faults, pause, master)
    verified = set()
    deadline, number = time.monotonic() + seconds, 0
    while True:
        number += 1
        last = time.monotonic() + round_seconds * 1.5 > deadline
        world.stop.clear()
        tasks = [in_thread(c.run) for c in clients]
        task = in_thread(killer.run, world.stop)
        end = min(deadline, time.monotonic() + round_seconds) if not last else deadline
        while time.monotonic() < end and all(t.is_alive() for t in tasks) and task.is_alive():
            time.sleep(0.2)
        world.stop.set()
        task.result()
        for t in tasks:
            t.result()
        if faults:
            faults.disarm()
        took = quiet(mail)
        check(world, clients, verified)
        check_store(mail)
        text = mail.log()
        assert not sanitizer_report(text), sanitizer_report(text)
        say(f"round {number}: {killer.total()} kills {killer.kills}; quiet after {took:.1f} s; {len(verified)} messages "
            f"compared; {world.stats}")
        if last:
            return killer, world
