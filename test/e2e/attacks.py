"""Attacks, and what is measured while they go on. Used by test_attacks.py (short) and test/torture/hostile.py (long).

An attack is a function that takes a Field: it connects from addresses of its own (127.66.x.y), says what it has to say,
asserts what it is answered, and returns when it is over. Field.sent and Field.connections count what it cost the attacker;
what it cost us, and others, guard.py measures."""

import base64
import collections
import os
import random
import resource
import select
import socket
import ssl
import struct
import subprocess
import threading
import time

from instance import BINARY, PATIENCE, Raw, wait_for

VICTIM = "bob@example.test"
# Nobody is an exception to the limits, and the attacks come from everywhere.
SETTINGS = dict(mynetworks="192.0.2.0/24", smtpd_relay_restrictions="reject_unauth_destination",
                smtpd_client_connection_count_limit="3000", imap_client_connection_count_limit="3000",
                pop3_client_connection_count_limit="3000", auth_failure_delay="0s")
# Seconds instead of minutes for those who are slow on purpose.
TIGHT = dict(SETTINGS, smtpd_timeout="8s", smtpd_min_data_rate="20000", imap_login_timeout="8s", imap_request_timeout="8s",
             imap_min_data_rate="20000", pop3_request_timeout="8s", pop3_min_data_rate="20000", pop3_timeout="60s")
CLEAR = ("smtp", "submission", "lmtp", "imap", "pop3")
TLS = ("submissions", "imaps", "pop3s")
SMTP_LIKE = ("smtp", "submission", "submissions", "lmtp")


def is_sanitized():
    with open(BINARY, "rb") as f:
        return b"__asan_init" in f.read()


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))


# ---- the attacker's side ----

class Field:
    def __init__(self, mail, seed=1):
        self.mail, self.random = mail, random.Random(seed)
        self.sent = self.connections = 0
        self.lock = threading.Lock()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def address(self):
        return f"127.66.{self.random.randrange(256)}.{self.random.randrange(1, 255)}"

    def plain(self, service, timeout=PATIENCE * 4, address=None, receive=None):
        s = socket.socket()
        s.settimeout(timeout)
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.bind((address or self.address(), 0))
        s.connect(("127.0.0.1", self.mail.ports[service]))
        with self.lock:
            self.connections += 1
        return s

    def open(self, service, greet=True, **how):
        """A Peer, greeted."""
        s = self.plain(service, **how)
        if service in TLS:
            s = self.context.wrap_socket(s)
        return Peer(self, s, service, greet)

    def login(self, service="imap", user=VICTIM, **how):
        p = self.open(service, **how)
        if service.startswith("imap"):
            p.command(f'LOGIN "{user}" "secret"')
        else:
            p.send(f"USER {user}\r\nPASS secret\r\n")
            assert p.line().startswith("+OK") and p.line().startswith("+OK")
        return p


class Peer(Raw):
    def __init__(self, field, s, service, greet=True):
        self.field, self.socket, self.service, self.n = field, s, service, 0
        self.file = s.makefile("rb")
        if greet:
            line = self.line()
            assert line[:1] in "2*+" and line, line

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        with self.field.lock:
            self.field.sent += len(data)
        self.socket.sendall(data)

    def pour(self, data):
        """As send(), until the other side has had enough. Returns whether all went."""
        try:
            self.send(data)
            return True
        except (ConnectionError, ssl.SSLError, BrokenPipeError):
            return False

    def command(self, text, want="OK"):
        """IMAP: the tagged line. want: the answers that may come."""
        self.n += 1
        self.send(f"t{self.n} ".encode() + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return self.tagged(f"t{self.n}", want)

    def tagged(self, tag, want="OK"):
        while True:
            line = self.file.readline(1 << 20)
            assert line, "closed before the answer"
            if line.startswith(tag.encode() + b" "):
                assert line.split()[1].decode() in want.split(), line[:300]
                return line.decode(errors="replace")

    def rest(self):
        """All that still comes; "" at once after a reset."""
        got = collections.deque(maxlen=64)
        try:
            while True:
                piece = self.file.read1(65536)
                if not piece:
                    break
                got.append(piece)
        except (ConnectionError, ssl.SSLError):
            pass
        except TimeoutError:
            raise AssertionError(f"{self.service}: the connection was left open")
        return b"".join(got)

    def rest_after_quit(self):
        """Says good-bye, in case the line was skipped rather than punished, and reads to the end."""
        self.pour(b"\r\n")
        self.pour({"imap": b"z LOGOUT\r\n", "imaps": b"z LOGOUT\r\n"}.get(self.service, b"QUIT\r\n"))
        if not isinstance(self.socket, ssl.SSLSocket):       # which would read records as text from then on
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        return self.rest()

    def ended(self, sentence=None):
        """The server ends it; where the protocol has a word for it, by that word."""
        got = self.rest()
        self.close()
        if sentence:
            assert sentence.encode() in got, (self.service, got[-300:])
        return got

    def envelope(self, rcpts=(VICTIM,)):
        assert self.ask(("LHLO" if self.service == "lmtp" else "EHLO") + " attacker.test").startswith("250")
        assert self.ask("MAIL FROM:<a@elsewhere.test>").startswith("250")
        for r in rcpts:
            assert self.ask(f"RCPT TO:<{r}>").startswith("250")
        return self

    def data(self):
        assert self.ask("DATA").startswith("354")
        return self


def parallel(calls):
    """Runs all; the first failure is raised."""
    failures = []

    def run(call):
        try:
            call()
        except BaseException as e:
            failures.append(e)
    threads = [threading.Thread(target=run, args=(c,), daemon=True) for c in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE * 10)
        assert not t.is_alive(), "an attack did not end"
    if failures:
        raise failures[0]


ATTACKS = {}                             # name -> (function, group)


def attack(group):
    def note(fn):
        ATTACKS[fn.__name__] = (fn, group)
        return fn
    return note


def names_of(group):
    return [n for n, (_, g) in ATTACKS.items() if g == group]


# ---- lines and garbage ----

def login_for(field, service):
    return field.login(service) if service in ("imap", "imaps", "pop3", "pop3s") else None


def one_line_of(field, service, size, logged_in):
    p = field.login(service) if logged_in else field.open(service)
    block = b"A" * 65536
    for _ in range(size // len(block)):
        if not p.pour(block):
            break
    else:
        p.pour(b"\r\n")
    got = p.rest_after_quit()
    p.close()
    word = b"BYE" if service.startswith("imap") else b"-ERR" if service.startswith("pop3") else b"500"
    assert word in got or got == b"", (service, got[:200])


@attack("lines")
def ten_megabytes_in_one_line(field, services=CLEAR + TLS):
    parallel([lambda s=s: one_line_of(field, s, 10 << 20, False) for s in services] +
             [lambda s=s: one_line_of(field, s, 10 << 20, True) for s in ("imap", "imaps", "pop3", "pop3s") if s in services])


@attack("lines")
def garbage_of_every_kind(field, services=CLEAR + TLS, size=1 << 20):
    kinds = [b"\0" * size, b"\xff\xfe\r\n" * (size // 4), b"\r" * size, b"\n" * (size // 8), b"(" * size, b"{" * size,
             field.random.randbytes(size), b"\x80" * size + b"\r\n", b"A\0B\r\n" * (size // 5)]

    def one(service, junk):
        p = field.open(service)
        p.pour(junk + (b"\r\n" if service in TLS else b""))
        p.rest_after_quit()
        p.close()
    parallel([lambda s=s, j=j: one(s, j) for s in services for j in kinds])


@attack("lines")
def pipelined_floods_without_reading(field, services=("smtp", "lmtp", "imap", "pop3", "imaps"), size=8 << 20):
    """Commands as fast as they go, no answer ever read: input stops when the answers cannot leave."""
    lines = {"smtp": b"NOOP\r\nVRFY bob@example.test\r\n", "imap": b"a NOOP\r\nb CAPABILITY\r\n", "pop3": b"CAPA\r\n"}

    def one(service):
        p = field.open(service, receive=4096)
        p.socket.settimeout(2)
        block = lines[{"lmtp": "smtp", "imaps": "imap"}.get(service, service)] * 2000
        try:
            for _ in range(size // len(block)):
                if not p.pour(block):
                    break
        except TimeoutError:
            pass
        p.close()
    parallel([lambda s=s: one(s) for s in services for _ in range(4)])


@attack("lines")
def endless_base64_in_auth(field, size=2 << 20):
    text = base64.b64encode(b"A" * 3000)

    def smtp():
        p = field.open("submissions")
        p.ask("EHLO x")
        p.send(b"AUTH PLAIN ")
        p.pour(text * (size // len(text)))
        assert b"500" in p.rest_after_quit()
        p = field.open("submissions")
        p.ask("EHLO x")
        assert p.ask("AUTH PLAIN").startswith("334")
        p.pour(text * (size // len(text)))
        assert b"500 5.5.6" in p.rest_after_quit()

    def imap():
        for first in (b"a AUTHENTICATE PLAIN ", b"a AUTHENTICATE PLAIN\r\n"):
            p = field.open("imaps")
            p.send(first)
            p.pour(text * (size // len(text)))
            got = p.rest_after_quit()
            assert b"BYE" in got or got == b"", got[:200]

    def pop3():
        p = field.open("pop3s")
        p.send(b"AUTH PLAIN ")
        p.pour(text * (size // len(text)))
        got = p.rest_after_quit()
        assert b"-ERR" in got or got == b"", got[:200]
    parallel([smtp, imap, pop3])


@attack("lines")
def half_closed_sockets(field, services=CLEAR):
    """shutdown(SHUT_WR) behind a command, in one, in DATA and BDAT, in a literal: what was whole is answered, and the end comes."""
    def one(service, text, want):
        p = field.open(service)
        p.send(text)
        p.socket.shutdown(socket.SHUT_WR)
        got = p.rest()
        assert want in got, (service, text, got)
        p.close()
    mail = b"EHLO x\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\n"
    parallel([lambda a=a: one(*a) for a in [
        ("smtp", b"NOOP\r\n", b"250 "), ("smtp", b"NOO", b""), ("smtp", mail + b"DATA\r\nSubject: x\r\n\r\nhalf", b"354 "),
        ("smtp", mail + b"BDAT 100\r\nhalf", b"250 "), ("lmtp", b"LHLO x\r\n", b"250"), ("imap", b"a NOOP\r\n", b"a OK"),
        ("imap", b"a LOGIN {9}\r\nhalf", b"+ "), ("imap", b"a CAPAB", b""), ("pop3", b"CAPA\r\n", b"+OK"),
        ("pop3", b"US", b"")] if a[0] in services for _ in range(10)])


# ---- mail that is hard to read ----

def deliver(field, pieces, service="smtp", want="25", rcpt=VICTIM):
    p = field.open(service).envelope([rcpt]).data()
    whole = True
    for piece in pieces:
        whole = whole and p.pour(piece)
    if whole:
        p.pour(b"\r\n.\r\n")
    answer = p.line()
    assert answer[:1] in want, answer
    p.close()
    return answer


def append(field, message):
    """By IMAP, where no limit on headers holds: what the user's own client may do to him. Then fetched in all ways."""
    p = field.login("imap")
    p.command("CREATE Hard", "OK NO")
    p.send(b"a APPEND Hard {%d+}\r\n" % len(message) if len(message) <= 4096 else b"a APPEND Hard {%d}\r\n" % len(message))
    if len(message) > 4096:
        assert p.line().startswith("+")
    p.send(message + b"\r\n")
    p.tagged("a", "OK")
    p.command("SELECT Hard")
    p.command("FETCH * (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (To X-None)] BODY.PEEK[1.1.MIME])", "OK NO")
    p.command('SEARCH HEADER To "nobody" TEXT "not there"')
    p.close()


def nested(depth):
    return "".join(f'Content-Type: multipart/mixed; boundary="b{i}"\r\n\r\n--b{i}\r\n' for i in range(depth)).encode()


HARD = {
    "5,000 nested parts": lambda: b"Subject: deep\r\n" + nested(5000) + b"\r\nx\r\n",
    "5,000 nested messages": lambda: b"Content-Type: message/rfc822\r\n\r\n" * 5000 + b"x\r\n",
    "100,000 parts": lambda: b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 100_000 + b"--b--\r\n",
    "100,000 lines like a boundary": lambda: nested(40) + b"--b39x\r\n--b1\r\n--b39\r\n" * 33_000,
    "100,000 parentheses in From": lambda: b"From: " + b"(" * 100_000 + b"\r\n\r\nx\r\n",
    "100,000 comments in To": lambda: b"To: " + b"(a)" * 100_000 + b"\r\n\r\nx\r\n",
    "a million addresses": lambda: b"To: " + b"a@b,\r\n " * 1_000_000 + b"c@d\r\n\r\nx\r\n",
    "100,000 groups": lambda: b"To: " + b"g:a@b;," * 100_000 + b"\r\n\r\nx\r\n",
    "100,000 header fields": lambda: b"".join(b"X-%d: y\r\n" % i for i in range(100_000)) + b"\r\nx\r\n",
    "50,000 To fields": lambda: b"To: a@b\r\n" * 50_000 + b"\r\nx\r\n",
    "100,000 RFC 2231 parameters": lambda: b"Content-Type: text/plain; " + b";\r\n ".join(
        b"name*%d*=%%41" % (99_999 - i) for i in range(100_000)) + b"\r\n\r\nx\r\n",
    "100,000 encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?=\r\n " * 100_000 + b"\r\n\r\nx\r\n",
    "a field of 5 MB": lambda: b"Subject: " + b"y" * 5_000_000 + b"\r\n\r\nx\r\n",
    "a header without an end": lambda: b"no colon here\r\n" * 300_000,
    "quotes without an end": lambda: b'To: "' + b"\\\"" * 500_000 + b"\r\nContent-Type: text/plain; a=\"" + b"\\" * 100_000 + b"\r\n\r\nx",
    "base64 of nothing": lambda: b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"=\r\n" * 1_000_000,
}


@attack("mail")
def hard_messages_by_smtp(field, names=tuple(HARD)):
    parallel([lambda n=n: deliver(field, [HARD[n]()], want="245") for n in names])


@attack("mail")
def hard_messages_by_append(field, names=tuple(HARD)):
    for n in names:
        message = HARD[n]()
        append(field, message)


@attack("mail")
def endless_headers(field, services=("smtp", "lmtp"), megabytes=20):
    line = b"X-Header: " + b"y" * 900 + b"\r\n"
    parallel([lambda s=s: deliver(field, [line * 1000] * megabytes, s, want="5") for s in services])


@attack("smtp")
def hundred_thousand_recipients(field, count=100_000, service="smtp"):
    p = field.open(service).envelope([])
    def feed():
        for at in range(0, count, 1000):
            if not p.pour(b"".join(b"RCPT TO:<bob+%d@example.test>\r\n" % i for i in range(at, at + 1000))):
                return
        p.pour(b"QUIT\r\n")
    t = threading.Thread(target=feed, daemon=True)
    t.start()
    accepted, last = 0, ""
    try:
        while line := p.line():
            accepted += line.startswith("250 2.1.5")
            last = line
    except ConnectionError:
        pass
    t.join()
    assert accepted <= 1000 and last[:3] in ("221", "421"), (accepted, last)
    p.close()


@attack("smtp")
def parentheses_in_addresses(field):
    p = field.open("smtp")
    p.ask("EHLO x")
    for text in ("(" * 1900, "(a)" * 600, "<" * 1900, "@a," * 600, '"' + "\\\\" * 900, "a" * 1900, "[" * 1900):
        assert p.ask(f"MAIL FROM:<{text}>")[:1] in "245"
        p.ask("RSET")
    p.close()


@attack("smtp")
def a_million_tiny_chunks(field, count=1_000_000):
    """BDAT 1 each: the message grows to what a message may be and not a byte more is kept for each chunk."""
    p = field.open("smtp").envelope()
    def feed():
        block = b"BDAT 1\r\nx" * 10_000
        for _ in range(count // 10_000):
            if not p.pour(block):
                return
        p.pour(b"BDAT 0 LAST\r\nQUIT\r\n")
    t = threading.Thread(target=feed, daemon=True)
    t.start()
    last = ""
    try:
        while line := p.line():
            assert line[:3] in ("250", "221", "451", "452", "500", "503", "552", "554", "421"), line
            last = line
    except ConnectionError:
        pass
    t.join()
    assert last[:3] in ("221", "421"), last
    p.close()


# ---- slow on purpose (an instance with TIGHT) ----

def drip(peer, data, most=PATIENCE * 2):
    """A byte now and then until the other side ends it. Returns what it said; fails when it never does."""
    until, i = time.monotonic() + most, 0
    got = b""
    peer.socket.settimeout(None)
    while time.monotonic() < until:
        if select.select([peer.socket], [], [], 0.25)[0]:
            try:
                piece = peer.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return got
            if not piece:
                return got
            got += piece
            continue
        try:
            peer.socket.send(data[i % len(data):i % len(data) + 1])
        except (ConnectionError, ssl.SSLError):
            return got
        i += 1
    raise AssertionError(f"{peer.service}: a byte now and then holds a connection for ever")


@attack("slow")
def a_byte_now_and_then(field, services=CLEAR + TLS, copies=3):
    def command(service):
        p = field.open(service)
        got = drip(p, b"N")
        word = b"BYE" if service.startswith("imap") else b"-ERR" if service.startswith("pop3") else b"421"
        assert word in got, (service, got)

    def body(how):
        p = field.open("smtp").envelope()
        p.send(how)
        assert b"421 4.4.2" in drip(p, b"Subject: slow\r\n\r\nx")

    def auth():
        p = field.open("submissions")
        p.ask("EHLO x")
        assert p.ask("AUTH PLAIN").startswith("334")
        assert b"421" in drip(p, b"A")
        p = field.open("imaps")
        p.send("a AUTHENTICATE PLAIN\r\n")
        assert p.line().startswith("+")
        assert b"BYE" in drip(p, b"A")

    def literal(text, logged_in):
        p = field.login("imap") if logged_in else field.open("imap")
        p.send(text)
        assert p.line().startswith("+")
        assert b"BYE" in drip(p, b"x")

    def handshake(service):
        s = field.plain(service)
        s.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        p = Peer(field, s, service, greet=False)
        drip(p, b"\x01")
        p.close()

    def skipped():
        p = field.open("smtp")
        p.send(b"x" * 20_000)
        assert b"421 4.4.2" in drip(p, b"x")
    parallel([lambda c=c: c() for c in (
        [lambda s=s: command(s) for s in services] + [lambda: body("DATA\r\n"), lambda: body("BDAT 9000000\r\n"), auth, skipped] +
        [lambda: literal("a LOGIN {100}\r\n", False), lambda: literal("a SEARCH SUBJECT {1000}\r\n", True),
         lambda: literal("a APPEND INBOX {9000000}\r\n", True)] + [lambda s=s: handshake(s) for s in TLS]) for _ in range(copies)])


@attack("slow")
def nothing_at_all(field):
    """Connected, half a hand-shake, a challenge never answered, and silence."""
    def auth(service, hello, ask, word):
        p = field.open(service)
        if hello:
            p.ask(hello)
        p.send(ask)
        p.line()
        p.ended(word)
    def half():
        s = field.plain("imaps")
        s.send(b"\x16\x03\x01\x02\x00")
        assert Peer(field, s, "imaps", greet=False).rest() == b""
    parallel([lambda: auth("submissions", "EHLO x", "AUTH PLAIN\r\n", "421"), lambda: auth("imaps", None, "a AUTHENTICATE PLAIN\r\n", "BYE"),
              lambda: field.open("smtp").ended("421"), lambda: field.open("lmtp").ended("421"),
              lambda: field.open("imap").ended("BYE"), half])


@attack("slow")
def readers_of_a_byte_now_and_then(field, copies=3):
    """A huge FETCH, RETR, or the answers to a flood, read a byte at a time: over when the rate is not kept."""
    p = field.login("imap")
    p.command("SELECT INBOX")
    body = b"Subject: large\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * 100_000
    p.send(b"a APPEND INBOX {%d}\r\n" % len(body))
    assert p.line().startswith("+")
    p.send(body + b"\r\n")
    p.tagged("a")
    p.close()

    # What stands in the kernel's buffers when the server gives up is still read: so the answer is cut by a reset at most.
    def cut(service, text):
        r = field.login(service, receive=2048)
        if service.startswith("imap"):
            r.command("SELECT INBOX")
        r.send(text)
        time_out = time.monotonic() + PATIENCE * 3
        while time.monotonic() < time_out:
            if select.select([r.socket], [], [], 0.25)[0]:
                if service != "imaps":
                    try:
                        r.socket.recv(1)
                    except ConnectionError:
                        r.close()
                        return
                info = r.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                if info[0] != 1:         # not ESTABLISHED: FIN or RST has come, behind what was never read
                    r.close()
                    return
            time.sleep(0.25)
        raise AssertionError(f"{service}: who reads nothing holds a connection for ever")
    parallel([lambda c=c: c() for c in (lambda: cut("imap", "a FETCH 1:* (BODY.PEEK[] BODY.PEEK[])\r\n"),
                                        lambda: cut("imaps", "a FETCH 1:* (BODY.PEEK[] BODY.PEEK[])\r\n"),
                                        lambda: cut("pop3", "RETR 2\r\n" * 50)) for _ in range(copies)])


# ---- many connections ----

@attack("many")
def idle_connections(field, count=5000):
    """Memory for each that does nothing, by protocol and phase; all are closed again by us."""
    allow_descriptors(count + 2000)
    held = []
    services = CLEAR + ("imaps",)
    for i in range(count):
        held.append(field.plain(services[i % len(services)]))
    wait_for("all to be accepted", lambda: sessions(field.mail) >= count, PATIENCE * 2)
    field.mail.send(VICTIM)
    for s in held:
        s.close()
    wait_for("all to be gone", lambda: sessions(field.mail) < 150, PATIENCE * 4)


@attack("many")
def connect_storm(field, count=3000, services=CLEAR + TLS):
    def one(service, reset):
        for _ in range(count // len(services) // 2):
            try:
                s = field.plain(service)
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            except OSError:
                pass
    parallel([lambda s=s, r=r: one(s, r) for s in services for r in (False, True)])


def sessions(mail):
    """Descriptors of the front ends, near enough."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid, name in mail.children().items() if name in ("smtpd", "access"))


# ---- TLS ----

@attack("tls")
def garbage_for_a_hello(field, services=TLS):
    hello = [field.random.randbytes(100_000), b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
             b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + b"\0" * (16384 - 4) + (b"\x16\x03\x01\x40\x00" + b"\0" * 16384) * 200,
             b"\x15\x03\x01\x00\x02\x01\x5a" * 20_000, b"\x80\x2e\x01\x03\x01" + b"\0" * 40, b"\x17\x03\x03\x00\x00" * 20_000,
             b"\x16\x03\x01\x00\x00" * 20_000]

    def one(service, junk):
        p = Peer(field, field.plain(service), service, greet=False)
        p.pour(junk)
        try:
            p.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        p.rest()
        p.close()
    parallel([lambda s=s, h=h: one(s, h) for s in services for h in hello])

    def starttls(service, word):
        p = field.open(service)
        if service == "submission":
            p.ask("EHLO x")
        p.send(word)
        p.line()
        p.pour(field.random.randbytes(100_000))
        p.rest()
        p.close()
    parallel([lambda: starttls("submission", "STARTTLS\r\n"), lambda: starttls("imap", "a STARTTLS\r\n"),
              lambda: starttls("pop3", "STLS\r\n")])


def s_client(field, service, argv, text):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{field.mail.ports[service]}", *argv],
                          input=text, capture_output=True, text=True, timeout=PATIENCE * 4)
    field.sent += len(text)
    field.connections += 1
    return done.stdout + done.stderr


@attack("tls")
def renegotiation(field, services=TLS):
    def one(service):
        out = s_client(field, service, ["-tls1_2"], "R\nR\nR\nR\n")
        assert "no renegotiation" in out or "RENEGOTIATING" in out, out[-500:]
        assert "verify return" in out
    parallel([lambda s=s: one(s) for s in services])


@attack("tls")
def hand_shakes_in_numbers(field, count=200, service="imaps"):
    def one():
        for _ in range(count // 8):
            s = field.plain(service)
            try:
                field.context.wrap_socket(s).close()
            except (ssl.SSLError, OSError):
                pass
    parallel([one] * 8)
