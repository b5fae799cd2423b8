"""Reading and changing a large mailbox by IMAP, side by side: the same files for both systems, the same commands in turn.

The Maildir is made once (small messages, half of them seen) and copied for each system. Times are of the client: from
sending the command to the last byte of its tagged reply. CPU is that of all processes of the system meanwhile."""

import os
import shutil
import socket
import statistics
import time

from peers import DOMAIN

USER = f"reader@{DOMAIN}"
FETCHED = 1000
CLOCK = os.sysconf("SC_CLK_TCK")


# ---- the messages --------------------------------------------------------------------------------------------

def make_message(i):
    return (f"Return-Path: <writer{i % 97}@elsewhere.test>\n"
            f"Received: from mx{i % 7}.elsewhere.test (mx{i % 7}.elsewhere.test [192.0.2.{i % 250}])\n"
            f"\tby mail.{DOMAIN} with ESMTP id {i:X}; Tue, 14 Nov 2023 22:13:20 +0000\n"
            f"From: Writer {i % 97} <writer{i % 97}@elsewhere.test>\n"
            f"To: Reader <{USER}>\n"
            f"Subject: Message number {i} of the large mailbox\n"
            f"Message-ID: <{i}.large@elsewhere.test>\n"
            f"Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
            f"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
            + f"This is line one of message {i}; the next ones say less.\n" + "Some words that stand here to be read. \n" * 12)


def make_maildir(path, count):
    """cur/ with `count` files: names as other Maildir programs make them, sizes in the names."""
    for name in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(path, name))
    cur = os.path.join(path, "cur")
    for i in range(1, count + 1):
        text = make_message(i).encode()
        name = f"{1700000000 + i // 10}.M{i % 10:06}P{i}.bench,S={len(text)},W={len(text) + text.count(10)}:2,{'S' if i % 2 else ''}"
        with open(os.path.join(cur, name), "wb") as f:
            f.write(text)


def copy_maildir(path, to, owner):
    """Into the system's Maildir `to`, which exists; files belong to whom it belongs."""
    for name in sorted(os.listdir(os.path.join(path, "cur"))):
        shutil.copyfile(os.path.join(path, "cur", name), os.path.join(to, "cur", name))
        os.chown(os.path.join(to, "cur", name), *owner)


# ---- the client ----------------------------------------------------------------------------------------------

class Imap:
    def __init__(self, port, user=USER, password="secret", timeout=600):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tag = 0
        self.s.recv(65536)
        self.do(f"LOGIN {user} {password}")

    def do(self, command):
        """Seconds and bytes until the tagged OK."""
        self.tag += 1
        tag = f"a{self.tag} ".encode()
        start = time.perf_counter()
        self.s.sendall(tag + command.encode() + b"\r\n")
        size, tail = 0, b"\r\n"
        while True:
            piece = self.s.recv(1 << 20)
            if not piece:
                raise SystemExit(f"{command}: the server closed the connection")
            size += len(piece)
            tail = (tail + piece)[-4096:] if len(piece) < 4096 else piece[-4096:]
            at = tail.rfind(b"\r\n" + tag)
            if at >= 0 and tail.endswith(b"\r\n"):
                break
        took = time.perf_counter() - start
        self.last = tail[at + 2:].decode("utf-8", "replace")
        if not tail[at + 2 + len(tag):].startswith(b"OK"):
            raise SystemExit(f"{command}: {self.last!r}")
        return took, size

    def close(self):
        self.s.close()


def cpu_seconds(peer):
    """User and system time that the processes of a peer have used so far, those that ended and were waited for included."""
    total = 0
    for pid in peer.pids():
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += sum(int(f) for f in fields[11:15])
        except OSError:
            continue
    return total / CLOCK


# ---- the work ------------------------------------------------------------------------------------------------

def work(count):
    """(name, command, repeated): what is repeated changes nothing that lasts and is done by both in turn, round by round."""
    middle = max(1, count // 2)
    some = f"{middle}:{min(count, middle + FETCHED - 1)}"
    n = min(count, FETCHED)
    return [
        ("SELECT, again", "SELECT INBOX", True),
        ("FETCH 1:* (FLAGS)", "FETCH 1:* (FLAGS)", True),
        ("FETCH 1:* (UID RFC822.SIZE)", "FETCH 1:* (UID RFC822.SIZE)", True),
        ("FETCH 1:* (ENVELOPE)", "FETCH 1:* (ENVELOPE)", True),
        (f"FETCH of {n:,} messages (BODY.PEEK[])", f"FETCH {some} (BODY.PEEK[])", True),
        ("SEARCH UNSEEN", "SEARCH UNSEEN", True),
        ("SEARCH SUBJECT", f"SEARCH SUBJECT \"number {middle} of\"", True),
        ("UID FETCH of one (FLAGS)", f"UID FETCH {middle} (FLAGS)", True),
        ("STORE of one flag", f"STORE {middle} +FLAGS.SILENT (\\Answered)", True),
        ("STORE 1:* +FLAGS.SILENT", "STORE 1:* +FLAGS.SILENT (\\Flagged)", False),
        (f"COPY of {n:,} messages", f"COPY {some} Archive", False),
        (f"EXPUNGE of {n:,} messages", "EXPUNGE", False),
        ("EXPUNGE of the rest", "EXPUNGE", False),
    ]


def before(name, client, count):
    if name.startswith("COPY"):
        try:
            client.do("CREATE Archive")
        except SystemExit:
            pass                         # it is there already
    elif name.startswith("EXPUNGE of the rest"):
        client.do("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    elif name.startswith("EXPUNGE"):
        middle = max(1, count // 2)
        client.do(f"STORE {middle}:{min(count, middle + FETCHED - 1)} +FLAGS.SILENT (\\Deleted)")


def measured(peer, client, command):
    used = cpu_seconds(peer)
    took, size = client.do(command)
    return {"ms": took * 1000, "cpu_ms": (cpu_seconds(peer) - used) * 1000, "bytes": size}


def opened(peer):
    """A new log-in, and its first SELECT."""
    client = Imap(peer.imap)
    return client, measured(peer, client, "SELECT INBOX")


def median(runs):
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def side_by_side(peers, count, rounds, say=lambda text: None):
    """name of the work -> peer -> {ms, cpu_ms, bytes}. Peers are prepared (see prepare()) and stopped."""
    found = {}
    clients = {}

    def note(name, peer, runs):
        found.setdefault(name, {})[peer.name] = median(runs)

    for p in peers:
        p.start_imap()
        clients[p.name], first = opened(p)
        note("SELECT, files new to the server", p, [first])
    first_starts = {p.name: [] for p in peers}
    for _ in range(rounds):
        for p in peers:
            clients[p.name].close()
            p.stop()
            p.start_imap()
            clients[p.name], first = opened(p)
            first_starts[p.name].append(first)
    for p in peers:
        note("SELECT, first after start", p, first_starts[p.name])
    for name, command, repeated in work(count):
        say(name)
        runs = {p.name: [] for p in peers}
        for _ in range(rounds if repeated else 1):
            for p in peers:
                before(name, clients[p.name], count)
                runs[p.name].append(measured(p, clients[p.name], command))
                if name == "STORE of one flag":
                    clients[p.name].do(command.replace("+", "-"))
        for p in peers:
            note(name, p, runs[p.name])
    for p in peers:
        clients[p.name].close()
        p.stop()
    return found


def prepare(peers, directory, count):
    """Makes the Maildir once and gives each peer a copy."""
    master = os.path.join(directory, "large")
    make_maildir(master, count)
    for p in peers:
        p.take_maildir(USER, lambda to, owner: copy_maildir(master, to, owner))
    shutil.rmtree(master)
