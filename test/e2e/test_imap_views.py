"""Several clients change one mailbox at random. Each keeps what it was told, as mail programs do, and what it keeps must
be what the server says when it is asked: no change of another client is lost, no sequence number slips."""

import random
import re
import threading

import pytest

from test_imap import BOB, Imap

FLAGS = ["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "$A", "$B", "Foo"]
STEPS = 120


def flags_in(text):
    found = re.search(r"FLAGS \(([^)]*)\)", text)
    return found and frozenset(found.group(1).split()) - {"\\Recent"}


def uid_in(text):
    found = re.search(r"UID (\d+)", text)
    return found and int(found.group(1))


def modseq_in(text):
    return int(re.search(r"MODSEQ \(?(\d+)", text).group(1))


class Client:
    def __init__(self, mail, seed):
        self.mail, self.random, self.told = mail, random.Random(seed), []
        self.kept = None                    # what was known, and the HIGHESTMODSEQ that goes with it, when it went away
        self.connect()

    def connect(self):
        self.imap = Imap(self.mail, BOB)
        self.condstore = self.random.random() < 0.6
        lines = self.ok("SELECT INBOX" + (" (CONDSTORE)" if self.condstore else ""))
        self.shown = []                     # [uid, flags] of each message, None where not asked for yet
        self.hear(lines)
        if self.kept:
            self.resynchronize(modseq_in(" ".join(lines).split("HIGHEST")[1]))
        self.kept = None

    def ok(self, command):
        status, lines = self.imap.do(command)
        self.told = self.told[-12:] + [command, *lines[-4:], status]
        assert status.startswith("OK"), (command, status)
        return lines

    def hear(self, lines):
        for line in lines:
            told = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line)
            if told is None:
                continue
            n, what, rest = int(told.group(1)), told.group(2), told.group(3)
            if what == "EXISTS":
                assert n >= len(self.shown), "EXISTS became less"
                self.shown += [[None, None] for _ in range(n - len(self.shown))]
                continue
            assert 1 <= n <= len(self.shown), line
            if what == "EXPUNGE":
                del self.shown[n - 1]
                continue
            message, uid, flags = self.shown[n - 1], uid_in(rest), flags_in(rest)
            assert uid is None or message[0] in (None, uid), (line, message)
            message[0] = uid or message[0]
            message[1] = message[1] if flags is None else flags

    def resynchronize(self, highest):
        """RFC 7162: what was kept and what CHANGEDSINCE says are together what is there."""
        known, since = self.kept
        changed = self.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})")
        now = self.ok("UID FETCH 1:* (FLAGS MODSEQ)")
        self.hear(changed + now)
        for line in changed:
            if flags_in(line) is not None and uid_in(line):
                known[uid_in(line)] = flags_in(line)
        for line in now:
            if uid_in(line) and modseq_in(line) <= highest:          # nobody changed it since we came
                assert known.get(uid_in(line)) == flags_in(line), (line, since, highest)

    def check(self):
        self.hear(self.ok("NOOP"))
        while (new := next((n for n, message in enumerate(self.shown, 1) if None in message), None)) is not None:
            self.hear(self.ok(f"FETCH {new} (UID FLAGS)"))
        want = [tuple(message) for message in self.shown]
        if not want:
            return
        lines = self.ok("FETCH 1:* (UID FLAGS)")
        asked = [line for line in lines if re.match(r"\* \d+ FETCH \(UID", line)][:len(want)]
        got = [(uid_in(line), flags_in(line)) for line in asked]
        assert got == want, [pair for pair in zip(got, want) if pair[0] != pair[1]]
        assert all(a[0] < b[0] for a, b in zip(want, want[1:]))
        self.hear(lines)

    def store(self):
        r, count = self.random, len(self.shown)
        which = sorted(r.sample(range(count), min(count, r.randint(1, 4))))
        uids = [self.shown[i][0] for i in which]
        by_uid = None not in uids and r.random() < 0.4
        mode, flags, silent = r.choice(["", "+", "-"]), frozenset(r.sample(FLAGS, r.randint(0, 3))), r.random() < 0.6
        numbers = ",".join(map(str, uids if by_uid else [i + 1 for i in which]))
        lines = self.ok(f"{'UID ' if by_uid else ''}STORE {numbers} {mode}FLAGS{'.SILENT' if silent else ''} ({' '.join(flags)})")
        for message in [self.shown[i] for i in which] if silent else []:
            if message[1] is not None:
                message[1] = flags if mode == "" else message[1] | flags if mode == "+" else message[1] - flags
        self.hear(lines)

    def leave(self):
        """With all that it was told until ENABLE's number, as a program that keeps a cache."""
        self.check()
        lines = self.ok("ENABLE CONDSTORE")
        at = next(i for i, line in enumerate(lines) if "HIGHESTMODSEQ" in line)
        if all(message[1] is not None for message in self.shown):
            self.kept = {uid: flags for uid, flags in self.shown}, modseq_in(lines[at].split("HIGHEST")[1])
        self.imap.close()
        self.connect()

    def step(self):
        r, dice, count = self.random, self.random.random(), len(self.shown)
        if dice < 0.2 or count == 0:
            text = f"Subject: {dice}\r\n\r\nx\r\n"
            options = f"({' '.join(r.sample(FLAGS, r.randint(0, 3)))})"
            self.hear(self.ok(f"APPEND INBOX {options} {{{len(text)}+}}\r\n{text}"))
        elif dice < 0.7:
            self.store()
        elif dice < 0.77:
            self.hear(self.ok("EXPUNGE"))
        elif dice < 0.84:
            self.hear(self.ok(f"{r.choice(['COPY', 'MOVE'])} {r.randint(1, count)} INBOX"))
        elif dice < 0.88:
            self.hear(self.ok(f"FETCH {r.randint(1, count)} (RFC822.SIZE FLAGS)"))
        elif dice < 0.91:
            self.hear(self.ok("SEARCH UNSEEN"))
        elif dice < 0.97:
            self.check()
        else:
            self.leave()


@pytest.mark.parametrize("seed", [1, 2])
def test_what_clients_are_told_is_what_is_there(mail, seed):
    clients = [Client(mail, 100 * seed + i) for i in range(4)]
    faults = []

    def run(client):
        try:
            for _ in range(STEPS):
                if faults:
                    return
                client.step()
            client.check()
        except Exception as fault:
            faults.append((repr(fault), client.told))

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    for client in clients:
        client.check()
        client.imap.close()
    assert len({tuple(map(tuple, client.shown)) for client in clients}) == 1
