"""Clients that know what they were told: the load under which test_crash.py and torture/kill.py kill processes.

Each client keeps, for what only it changes, the state that was acknowledged and, when an answer got lost, the states
that are possible. After a lost connection it reconnects, looks, and the state must be one of them. Messages that are
delivered belong by their number to one client of their recipient: to nobody, to one of two IMAP clients (each has
mailboxes of its own besides), or to the POP3 client.

World holds what all must agree on: every (UIDVALIDITY, UID) of an account is one message for ever, UIDNEXT and
HIGHESTMODSEQ never fall, a change gets a modseq above all before."""

import hashlib
import imaplib
import poplib
import random
import re
import smtplib
import threading
import time

from instance import PATIENCE

GIVE_UP = 120       # seconds until a client that cannot be served has found a fault
LOST = (OSError, EOFError, imaplib.IMAP4.abort, smtplib.SMTPServerDisconnected, poplib.error_proto)
OWNERS = "-AAAABBBPP"


def owner_of(token):
    """Whose a delivered message is: '-' nobody's, 'A', 'B' of the IMAP clients, 'P' of the POP3 client."""
    return OWNERS[int(token[1:]) % len(OWNERS)]


def text_of(token, size):
    """A message of about that size, every byte of which follows from the token."""
    line = hashlib.sha256(token.encode()).hexdigest().encode() + b" filling\r\n"
    return (f"From: <sender@elsewhere.test>\r\nSubject: {token}\r\nX-Size: {size}\r\n\r\n".encode()
            + line * (size // len(line)) + b"end of " + token.encode() + b"\r\n")


class Delivery:
    """One message to one recipient."""

    def __init__(self):
        self.acked = False          # answered with 2xx at least once
        self.doubt = False          # sent at least once without an answer
        self.deaf = 0               # how often the client did not listen to an answer: each allows one copy more (RFC 1047)
        self.tries = []             # (time, by which service, what came of it): told when there are too many


class World:
    def __init__(self, mail, users):
        self.mail, self.users = mail, users
        self.lock = threading.Lock()
        self.count = 0
        self.sizes = {}             # token: size
        self.deliveries = {user: {} for user in users}
        self.given = {}             # (user, uidvalidity, uid): token
        self.floors = {}            # (user, uidvalidity, "UIDNEXT" or "HIGHESTMODSEQ"): number
        self.names = {}             # (user, uidvalidity): never two mailboxes at once; see verify()
        self.stop = threading.Event()
        self.stats = {}

    def tell(self, what, n=1):
        with self.lock:
            self.stats[what] = self.stats.get(what, 0) + n

    def token(self, size):
        with self.lock:
            self.count += 1
            token = f"t{self.count}"
            self.sizes[token] = size
            return token

    def text(self, token):
        return text_of(token, self.sizes[token])

    def is_uid(self, user, validity, uid, token):
        with self.lock:
            before = self.given.setdefault((user, int(validity), int(uid)), token)
        assert before == token, f"{user}: UID {uid} of {validity} was {before} and is {token}"

    def floor(self, user, validity, what):
        with self.lock:
            return self.floors.get((user, int(validity), what), 0)

    def rises(self, user, validity, what, before, now):
        """A number heard now is not below what was known before the question."""
        assert now >= before, f"{user}: {what} of {validity} fell from {before} to {now}"
        with self.lock:
            key = (user, int(validity), what)
            self.floors[key] = max(now, self.floors.get(key, 0))

    def whole(self, token, text, exact=False):
        want = self.text(token)
        assert text == want if exact else text.endswith(want), \
            f"{token} is not whole: {len(text)} bytes, expected {len(want)}: {text[:300]!r} ... {text[-100:]!r}"
        if not exact:
            head = text[:len(text) - len(want)]
            assert head.startswith(b"Return-Path:") and b"\r\n\r\n" not in head, f"{token}: {head!r}"


class Client:
    """Runs step() until the world stops; after a lost connection recover() until it can go on."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        self.broken = False

    def run(self):
        last = time.monotonic()
        while not self.world.stop.is_set():
            try:
                if self.broken:
                    self.recover()
                    self.broken = False
                self.step()
                last = time.monotonic()
            except LOST + (Refused,) as e:
                self.world.tell("lost" if not isinstance(e, Refused) else "refused")
                self.broken = True
                self.drop()
                assert time.monotonic() - last < GIVE_UP, f"{self}: not served for {GIVE_UP} s: {e!r}"
                self.world.stop.wait(self.rng.uniform(0.1, 1))
        self.settle()
        self.drop()

    def settle(self):
        """The load has ended: what is in doubt is cleared up."""
        deadline = time.monotonic() + GIVE_UP
        while self.broken:
            try:
                self.recover()
                self.broken = False
            except LOST + (Refused,) as e:
                self.drop()
                assert time.monotonic() < deadline, f"{self}: cannot recover: {e!r}"
                time.sleep(0.2)

    def recover(self):
        pass

    def drop(self):
        pass


class Refused(Exception):
    """Answered that it is not possible just now: nothing was done."""


# ---- SMTP, submission, LMTP ----

class Sender(Client):
    """Sends as real clients do: after no answer, or 4xx, the same bytes again."""

    def __init__(self, world, rng, service):
        super().__init__(world, rng)
        self.service = service

    def __str__(self):
        return f"sender by {self.service}"

    def step(self):
        size = self.rng.choice([300, 300, 2000, 9000, 100_000, 200_000] if self.rng.random() < 0.3 else [300, 2000])
        token = self.world.token(size)
        # Once for all attempts: the same message from another sender is another message.
        self.login = self.rng.choice(self.world.users) if self.service == "submission" else None
        users = self.rng.sample(self.world.users, self.rng.choice([1, 1, 1, 2, 3, 5]))
        waiting = []
        with self.world.lock:
            for user in users:
                d = self.world.deliveries[user][token] = Delivery()
                waiting.append((user, d))
        text = self.world.text(token)
        deadline = time.monotonic() + GIVE_UP
        while waiting and not (self.world.stop.is_set() and self.rng.random() < 0.5):
            assert time.monotonic() < deadline, f"{self}: {token} was not taken for {GIVE_UP} s"
            waiting = self.attempt(token, text, waiting)
            if waiting:
                time.sleep(self.rng.uniform(0.05, 0.7))
        # As many deliveries as there are other changes: what is delivered must be moved and expunged, too.
        self.world.stop.wait(self.rng.uniform(0, 2))

    def connect(self):
        mail = self.world.mail
        if self.login:
            return mail.submission(self.login)
        kind = smtplib.LMTP if self.service == "lmtp" else smtplib.SMTP
        port = mail.ports["lmtp" if self.service == "lmtp" else "smtp"]
        s = kind("127.0.0.1", port, local_hostname="client.test", timeout=PATIENCE)
        s.ehlo_or_helo_if_needed()
        return s

    def attempt(self, token, text, waiting):
        """Returns those that still wait for their 2xx."""
        sent = False
        try:
            s = self.connect()
            try:
                taken = self.envelope(s, waiting)
                if not taken:
                    return waiting
                code, answer = s.docmd("DATA")
                if code != 354:
                    self.temporary(code, answer)
                    return waiting
                sent = True
                s.send(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                if self.rng.random() < 0.02:
                    for _, d in taken:
                        d.deaf += 1
                        d.doubt = True
                    self.tried(taken, "did not listen")
                    return waiting
                for user, d in taken if self.service == "lmtp" else [(None, None)]:
                    code, answer = s.getreply()
                    self.temporary(code, answer)
                    self.tried([(user, d)] if d else taken, f"{code} {answer}")
                    for who in ([(user, d)] if d else taken):
                        if code == 250:
                            who[1].acked = True
                            waiting = [w for w in waiting if w[1] is not who[1]]
                            self.world.tell("delivered")
                return waiting
            finally:
                s.close()
        except LOST as e:
            if sent:
                self.world.tell("sent, no answer")
                self.tried(waiting, repr(e))
                for _, d in waiting:
                    d.doubt = True
                    d.deaf += isinstance(e, TimeoutError)
            return waiting
        except smtplib.SMTPResponseException as e:
            self.temporary(e.smtp_code, e.smtp_error)
            return waiting

    def tried(self, deliveries, outcome):
        for _, d in deliveries:
            d.tries.append((time.strftime("%H:%M:%S"), self.service, outcome))

    def envelope(self, s, waiting):
        code, answer = s.mail(self.login or "sender@elsewhere.test")
        if code != 250:
            self.temporary(code, answer)
            return []
        taken = []
        for user, d in waiting:
            code, answer = s.rcpt(user)
            self.temporary(code, answer)
            if code == 250:
                taken.append((user, d))
        # All or none: a client that sends to some now and to others later sends the same bytes twice on purpose.
        return taken if len(taken) == len(waiting) else []

    def temporary(self, code, answer):
        assert code < 400 or 400 <= code < 500, (code, answer)


# ---- IMAP ----

class ImapClient(Client):
    def __init__(self, world, rng, user, name):
        super().__init__(world, rng)
        self.user, self.name = user, name
        self.state = {"INBOX": {}}          # mailbox: uid: (token, flags)
        self.validity = {}
        self.top = {}                       # mailbox: highest UID seen
        self.seen = set()                   # tokens of INBOX that were ours once
        self.box = None
        self.folders = 0
        self.possible = None                # states that a lost answer leaves

    def __str__(self):
        return f"IMAP client {self.name} of {self.user}"

    def drop(self):
        if self.box:
            self.box.shutdown()
            self.box = None

    def connect(self):
        if self.box:
            return
        box = imaplib.IMAP4("127.0.0.1", self.world.mail.ports["imap"], timeout=PATIENCE)
        self.box = box
        self.call(box.login, self.user, "secret")
        self.selected = None
        box._simple_command("ENABLE", "CONDSTORE")

    def call(self, fn, *args):
        """OK, or Refused for a NO that says it is for the moment."""
        try:
            status, data = fn(*args)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as e:
            if "UNAVAILABLE" in str(e):
                raise Refused(str(e))
            raise AssertionError(f"{self}: {fn.__name__}{args!r:.200}: {e}")
        if status == "NO" and b"UNAVAILABLE" in (data[0] or b""):
            raise Refused(data[0])
        assert status == "OK", f"{self}: {args!r:.200}: {status} {data}"
        return data

    # ---- looking ----
    def select(self, name, readonly=False):
        """Its UIDVALIDITY; what SELECT tells has not fallen."""
        world, validity = self.world, self.validity.get(name, 0)
        before = {what: world.floor(self.user, validity, what) for what in ("UIDNEXT", "HIGHESTMODSEQ")}
        self.box.untagged_responses = {}
        self.call(self.box.select, f'"{name}"', readonly)
        told = {what: int(self.box.response(what)[1][0]) for what in ("UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ")}
        assert validity in (0, told["UIDVALIDITY"]), f"{self}: UIDVALIDITY of {name}: {validity}, {told}"
        self.validity[name] = told["UIDVALIDITY"]
        for what, number in before.items():
            world.rises(self.user, told["UIDVALIDITY"], what, number if validity else 0, told[what])
        self.selected = name
        return told["UIDVALIDITY"]

    def mine(self, token):
        return owner_of(token) == self.name

    def list(self):
        names = {"INBOX"}
        for line in self.call(self.box.list, '""', f'"{self.name}*"'):
            if line:
                names.add(line.decode().rsplit('"', 2)[-2] if line.endswith(b'"') else line.decode().split()[-1])
        return {n for n in names if n == "INBOX" or n[1:].isdigit()}

    def read(self, tokens=None):
        """Our mailboxes as they are: mailbox: uid: (token, flags)."""
        state = {}
        for name in self.list():
            validity = self.select(name, True)
            state[name] = {}
            for item in self.call(self.box.uid, "FETCH", "1:*", "(FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])"):
                if not isinstance(item, tuple):
                    continue
                uid = int(re.search(rb"UID (\d+)", item[0])[1])
                modseq = int(re.search(rb"MODSEQ \((\d+)\)", item[0])[1])
                flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].split()) - {b"\\Recent"}
                token = item[1].split(b":", 1)[1].strip().decode()
                self.world.is_uid(self.user, validity, uid, token)
                assert modseq <= self.world.floor(self.user, validity, "HIGHESTMODSEQ") or name == "INBOX"
                if name != "INBOX" or self.mine(token):
                    state[name][uid] = (token, flags)
        return state

    def arrivals(self, state):
        """Takes over what was delivered to INBOX since; the rest of the state."""
        old = {}
        for name, box in state.items():
            old[name] = dict(box)
        for uid, (token, flags) in state["INBOX"].items():
            delivery = self.world.deliveries[self.user].get(token)
            if uid in self.state["INBOX"] or not delivery or flags:
                continue
            if token not in self.seen or delivery.deaf:
                self.seen.add(token)
                self.state["INBOX"][uid] = (token, flags)
                for p in self.possible or []:
                    p["INBOX"][uid] = (token, flags)
        return old

    @staticmethod
    def matches(state, expected, top):
        """None as a key of `expected`: messages whose UIDs are not known."""
        if set(state) != set(expected):
            return False
        for name, box in expected.items():
            want = dict(box)
            new = want.pop(None, [])
            fresh = {u: v for u, v in state[name].items() if u not in want}
            if {u: v for u, v in state[name].items() if u in want} != want:
                return False
            if sorted((t, sorted(f)) for t, f in fresh.values()) != sorted((t, sorted(f)) for t, f in new):
                return False
            if new and any(u <= top.get(name, 0) for u in fresh):
                return False
        return True

    def recover(self):
        self.connect()
        state = self.read()
        self.arrivals(state)
        possible = self.possible or [self.state]
        found = [p for p in possible if self.matches(state, p, self.top)]
        assert found, f"{self}:\nis {state}\nand not one of\n" + "\n".join(map(str, possible))
        if self.possible:
            self.world.tell("changes in doubt")
        self.possible = None
        self.adopt(state)

    def adopt(self, state):
        self.state = state
        for name, box in state.items():
            self.top[name] = max([self.top.get(name, 0), *box])

    # ---- changing ----
    def copy(self):
        return {name: dict(box) for name, box in self.state.items()}

    def step(self):
        self.connect()
        if self.rng.random() < 0.02:
            self.drop()             # a log-in now and then
            return
        full = [n for n in self.state if len(self.state[n]) > 12] if self.rng.random() < 0.3 else []
        name = self.rng.choice(full or sorted(self.state))
        uids = sorted(self.state[name])
        verbs = ["store", "store", "copy", "move", "expunge", "append"] if uids else ["append", "folder", "look"]
        verb = "expunge" if full else self.rng.choice(verbs + ["folder", "look"])
        chosen = self.rng.sample(uids, min(len(uids), self.rng.randint(1, 12 if full else 4)))
        getattr(self, "do_" + verb)(name, sorted(chosen))
        self.world.tell("imap " + verb)

    def do_look(self, name, chosen):
        """The whole of what we know, and the bytes of one."""
        state = self.read()
        self.arrivals(state)
        assert self.matches(state, self.state, self.top), f"{self}:\nis {state}\nand not\n{self.state}"
        name = self.rng.choice(sorted(n for n in state))
        if state[name]:
            uid = self.rng.choice(sorted(state[name]))
            self.select(name)
            [text] = [i[1] for i in self.call(self.box.uid, "FETCH", str(uid), "(BODY.PEEK[])") if isinstance(i, tuple)]
            token = state[name][uid][0]
            self.world.whole(token, text, exact=token not in self.world.deliveries[self.user])

    def change(self, after, fn, *args, between=()):
        """One command; if its answer is lost, the state is as before or as after."""
        self.possible = [self.copy(), *between, after]
        data = self.call(fn, *args)
        return data

    def done(self, state):
        self.possible = None
        self.adopt(state)

    def code(self, name, data):
        """A response code of the tagged OK."""
        found = re.search(rb"\[" + name + rb" ([^\]]*)\]", b" ".join(d for d in data if isinstance(d, bytes)))
        if not found:
            told = self.box.response(name.decode())[1]
            return told[-1].split() if told and told[-1] else None
        return found[1].split()

    @staticmethod
    def uid_list(text):
        uids = []
        for part in text.split(b","):
            first, _, last = part.partition(b":")
            uids += range(int(first), int(last or first) + 1)
        return uids

    def place(self, state, name, validity, uids, messages):
        """New messages under the UIDs that were told."""
        assert len(uids) == len(messages)
        for uid, (token, flags) in zip(uids, messages):
            assert uid > self.top.get(name, 0), f"{self}: UID {uid} again in {name}"
            self.world.is_uid(self.user, validity, uid, token)
            state[name][uid] = (token, flags)

    def do_append(self, name, chosen):
        name = self.rng.choice([n for n in self.state if n != "INBOX"] or ["INBOX"])
        if name == "INBOX":
            return self.do_folder(name, chosen)
        size = self.rng.choice([300, 300, 5000, 100_000])
        token = self.world.token(size)
        flags = self.rng.choice([(), ("\\Draft",), ("\\Seen", "$Label1")])
        entry = (token, frozenset(f.encode() for f in flags))
        after = self.copy()
        after[name][None] = [entry]
        data = self.change(after, self.box.append, f'"{name}"', "(" + " ".join(flags) + ")", None, self.world.text(token))
        validity, uid = self.code(b"APPENDUID", data)
        del after[name][None]
        self.place(after, name, int(validity), [int(uid)], [entry])
        self.done(after)

    def do_store(self, name, chosen):
        flag = self.rng.choice([b"\\Flagged", b"\\Seen", b"\\Answered", b"$Label1", b"key%d" % self.rng.randrange(9)])
        mode = self.rng.choice(["+FLAGS", "-FLAGS", "FLAGS"])
        after = self.copy()
        for uid in chosen:
            token, flags = after[name][uid]
            after[name][uid] = (token, flags | {flag} if mode == "+FLAGS" else flags - {flag} if mode == "-FLAGS"
                                else frozenset([flag]))
        validity = self.select(name)
        before = self.world.floor(self.user, validity, "HIGHESTMODSEQ")
        data = self.change(after, self.box.uid, "STORE", ",".join(map(str, chosen)), mode, f"({flag.decode()})")
        changed = {u for u in chosen if after[name][u] != self.state[name][u]}
        last = {}                   # the last word on each message
        for item in data:
            if item and b"UID" in item and b"MODSEQ" in item:
                last[int(re.search(rb"UID (\d+)", item)[1])] = int(re.search(rb"MODSEQ \((\d+)\)", item)[1])
        for uid in changed & set(last):
            assert last[uid] > before, f"{self}: a change of {name} {uid} to {after[name][uid]} from " \
                f"{self.state[name][uid]} got modseq {last[uid]}, {before} was given before: {data}"
            self.world.rises(self.user, validity, "HIGHESTMODSEQ", 0, last[uid])
        self.done(after)

    def target(self, name):
        others = [n for n in self.state if n not in (name, "INBOX")]
        return self.rng.choice(others) if others else None

    def carry(self, verb, name, chosen):
        to = self.target(name)
        if not to:
            return self.do_folder(name, chosen)
        after = self.copy()
        moved = [after[name][u] for u in chosen]
        if verb == "MOVE":
            for uid in chosen:
                del after[name][uid]
        after[to][None] = moved
        self.select(name)
        data = self.change(after, self.box.uid, verb, ",".join(map(str, chosen)), f'"{to}"')
        told = self.code(b"COPYUID", data)
        del after[to][None]
        assert told, f"{self}: no COPYUID: {data}"
        assert self.uid_list(told[1]) == chosen, (told, chosen)
        self.place(after, to, int(told[0]), self.uid_list(told[2]), moved)
        self.done(after)

    def do_copy(self, name, chosen):
        self.carry("COPY", name, chosen)

    def do_move(self, name, chosen):
        self.carry("MOVE", name, chosen)

    def do_expunge(self, name, chosen):
        flagged, after = self.copy(), self.copy()
        for uid in chosen:
            token, flags = flagged[name][uid]
            flagged[name][uid] = (token, flags | {b"\\Deleted"})
            del after[name][uid]
        self.select(name)
        self.change(flagged, self.box.uid, "STORE", ",".join(map(str, chosen)), "+FLAGS", r"(\Deleted)")
        self.done(flagged)
        if name != "INBOX" and self.rng.random() < 0.3:
            after = {n: ({u: v for u, v in box.items() if b"\\Deleted" not in v[1]} if n == name else box)
                     for n, box in self.copy().items()}
            self.change(after, self.box.expunge)
        else:
            self.change(after, self.box.uid, "EXPUNGE", ",".join(map(str, chosen)))
        self.done(after)

    def do_folder(self, name, chosen):
        own = sorted(n for n in self.state if n != "INBOX")
        after = self.copy()
        verb = self.rng.choice(["create", "rename", "delete"]) if len(own) > 1 else "create"
        if len(own) > 4:
            verb = "delete"
        if verb == "create":
            self.folders += 1
            new = f"{self.name}{self.folders}"
            after[new] = {}
            self.change(after, self.box.create, f'"{new}"')
        elif verb == "rename":
            self.folders += 1
            old, new = self.rng.choice(own), f"{self.name}{self.folders}"
            after[new] = after.pop(old)
            # Known by its new name from the moment it may have it: its UIDVALIDITY and UIDs stay.
            self.validity[new], self.top[new] = self.validity.get(old, 0), self.top.get(old, 0)
            self.change(after, self.box.rename, f'"{old}"', f'"{new}"')
        else:
            old = self.rng.choice(own)
            del after[old]
            self.change(after, self.box.delete, f'"{old}"')
        self.done(after)


# ---- POP3 ----

class PopClient(Client):
    def __init__(self, world, rng, user):
        super().__init__(world, rng)
        self.user = user
        self.known = {}             # unique id: token
        self.gone = set()           # unique ids that were deleted
        self.doubt = set()          # unique ids of a QUIT without answer: all or none
        self.box = None

    def __str__(self):
        return f"POP3 client of {self.user}"

    def drop(self):
        if self.box:
            self.box.close()
            self.box = None

    def recover(self):
        self.session(deletes=False)

    def step(self):
        self.session(deletes=True)
        self.world.tell("pop3 sessions")
        self.world.stop.wait(self.rng.uniform(0.1, 0.6))

    def session(self, deletes):
        self.box = box = poplib.POP3("127.0.0.1", self.world.mail.ports["pop3"], timeout=PATIENCE)
        box.user(self.user)
        box.pass_("secret")
        now = {}
        for line in box.uidl()[1]:
            number, unique = line.decode().split()
            now[unique] = int(number)
            assert unique not in self.gone, f"{self}: {unique} ({self.known[unique]}) was deleted and is there"
        left = self.doubt & set(now)
        assert not left or left == self.doubt, f"{self}: half of a QUIT was done: {left} of {self.doubt}"
        self.gone |= self.doubt - left
        self.doubt = set()
        lost = [u for u in self.known if u not in self.gone and u not in now and owner_of(self.known[u]) == "P"]
        assert not lost, f"{self}: lost {lost}"
        for unique in sorted(set(now) - set(self.known), key=now.get):
            self.known[unique] = self.subject(box.top(now[unique], 0)[1])
        ours = sorted(u for u in now if owner_of(self.known[u]) == "P")
        chosen = self.rng.sample(ours, min(len(ours), self.rng.randint(0, 8))) if deletes else []
        for unique in chosen:
            if self.rng.random() < 0.5:
                text = b"".join(line + b"\r\n" for line in box.retr(now[unique])[1])
                self.world.whole(self.known[unique], text)
            box.dele(now[unique])
        self.doubt = set(chosen)
        box.quit()
        self.box = None
        self.gone |= self.doubt
        self.doubt = set()

    @staticmethod
    def subject(lines):
        return next(line for line in lines if line.lower().startswith(b"subject:")).split(b":", 1)[1].strip().decode()


def clients_of(world, seed, senders):
    """Two IMAP clients and a POP3 client for each user, and the senders."""
    rng = random.Random(seed)
    clients = []
    for user in world.users:
        clients += [ImapClient(world, random.Random(rng.random()), user, name) for name in "AB"]
        clients.append(PopClient(world, random.Random(rng.random()), user))
    for i in range(senders):
        clients.append(Sender(world, random.Random(rng.random()), ("smtp", "smtp", "lmtp", "submission")[i % 4]))
    return clients
