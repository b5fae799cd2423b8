"""An SMTP (or LMTP) server that behaves badly at one step of the dialogue, and counts what it was sent.

    with Hostile({"RCPT": HANG}) as server:
        ... server.nexthop ... server.taken, server.hanging ...
        server.behave()         # from now on it takes everything, and whoever hangs is let go

Steps: GREET, EHLO, HELO, LHLO, STARTTLS, HANDSHAKE, MAIL, RCPT, DATA, BODY (in the middle of the text), END (its end,
also of BDAT), RSET, QUIT; CONNECT is the connection itself (its backlog is full: it is neither taken nor refused).
What a step does: HANG, CLOSE, RESET, a reply ("450 4.2.0 later"), bytes that are sent as they are, a list of such things
one after the other, or a function of the line that returns one of them or None for the usual answer.
Each server has a port of its own, chosen by the kernel, and a thread for each connection."""
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import threading

HANG, CLOSE, RESET = "hang", "close", "reset"
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE", "DSN", "ENHANCEDSTATUSCODES")


class Over(Exception):
    """The connection is at its end."""


class Taken:
    def __init__(self, mail, rcpts, data):
        self.mail, self.rcpts, self.data = mail, rcpts, data
        self.sender = mail.partition("<")[2].split(">")[0]      # "": MAIL was refused


def certificate(directory, name="wrong.test"):
    """A self-signed certificate: (certificate file, key file, SHA-256 fingerprint as Postfix writes it)."""
    cert, key = os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    done = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"], check=True,
                          capture_output=True, text=True)
    return cert, key, done.stdout.split("=", 1)[1].strip()


class Hostile:
    def __init__(self, steps=None, extensions=EXTENSIONS, tls=None, small=False, address="127.0.0.1", lmtp=False, path=None):
        self.steps = dict(steps or {})
        self.extensions = list(extensions) + (["STARTTLS"] if tls else [])
        self.lmtp = lmtp
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls[:2])
        self.taken = []                  # whole messages whose end was read, whatever was answered
        self.accepted = []               # those of them answered with 2xx, and the last answer went out
        self.connections = 0
        self.hanging = 0
        self.commands = []
        self.lock = threading.Lock()
        self.good = threading.Event()
        self.open = set()
        self.fill = []
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if path:                         # its name may be longer than an address of a socket can be
            directory = os.open(os.path.dirname(path), os.O_PATH)
            self.socket.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            os.close(directory)
        else:
            self.socket.bind((address, 0))
        self.address, self.port = (path, 0) if path else self.socket.getsockname()
        self.nexthop = f"unix:{path}" if path else f"[{self.address}]:{self.port}"
        if "CONNECT" in self.steps:
            self._fill_backlog()
        else:
            self.socket.listen(128)
            threading.Thread(target=self._accept, daemon=True).start()

    def _fill_backlog(self):
        self.socket.listen(0)
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect((self.address, self.port))
            self.fill.append(s)

    def behave(self):
        self.good.set()
        if self.fill:
            for s in self.fill:
                s.close()
            self.fill = []
            threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.good.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for s in self.fill:
            s.close()
        with self.lock:
            left = list(self.open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # ---- connections ----
    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with self.lock:
            self.connections += 1
            self.open.add(connection)
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)    # what was said is out before a reset
        session = Session(self, connection)
        try:
            session.talk()
        except (OSError, Over, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(connection)
            session.close()


class Session:
    def __init__(self, server, connection):
        self.server = server
        self.connection = connection
        self.lines = connection.makefile("rb")
        self.mail, self.rcpts = "", []
        self.said = ""                   # the last reply

    def close(self):
        for thing in (self.lines, self.connection):
            with contextlib.suppress(OSError):
                thing.close()

    def put(self, data):
        self.connection.sendall(data)

    def act(self, what):
        """Does what a step says. True: it was a reply that agrees."""
        server = self.server
        if isinstance(what, (list, tuple)):
            return [self.act(w) for w in what][-1]
        if what == HANG:
            with server.lock:
                server.hanging += 1
            server.good.wait(300)
            with server.lock:
                server.hanging -= 1
            raise Over
        if what == CLOSE:
            raise Over
        if what == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Over
        if isinstance(what, bytes):
            self.put(what)
            return False
        self.said = what
        self.put(what.replace("\n", "\r\n").encode() + b"\r\n")
        if what[:3] == "421":
            raise Over
        return what[0] in "23"

    def step(self, name, usual, line=""):
        server = self.server
        what = None if server.good.is_set() else server.steps.get(name)
        if callable(what):
            what = what(line)
        return self.act(usual if what is None else what)

    def talk(self):
        handlers = {"EHLO": self.hello, "LHLO": self.hello, "HELO": self.hello, "STARTTLS": self.starttls,
                    "MAIL": self.on_mail, "RCPT": self.on_rcpt, "DATA": self.on_data, "BDAT": self.on_bdat,
                    "QUIT": self.on_quit}
        self.step("GREET", "220 hostile.test ESMTP")
        while raw := self.lines.readline():
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            verb = line.split(" ")[0].upper()
            with self.server.lock:
                self.server.commands.append(line)
            handlers.get(verb, self.other)(verb, line)

    # ---- commands ----
    def hello(self, verb, line):
        names = ["hostile.test"] + (self.server.extensions if verb != "HELO" else [])
        self.step(verb, "\n".join(f"250{'-' if i + 1 < len(names) else ' '}{n}" for i, n in enumerate(names)), line)

    def starttls(self, verb, line):
        if not self.step(verb, "220 2.0.0 go on", line):
            return
        self.step("HANDSHAKE", b"")
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.lines = self.connection.makefile("rb")

    def on_mail(self, verb, line):
        if self.step(verb, "250 2.1.0 Ok", line):
            self.mail, self.rcpts = line, []

    def on_rcpt(self, verb, line):
        if self.step(verb, "250 2.1.5 Ok", line):
            self.rcpts.append(line.split("<", 1)[1].split(">")[0])

    def on_data(self, verb, line):
        if not self.step(verb, "354 go on" if self.rcpts else "554 5.5.1 no valid recipients", line):
            return
        data, whole = bytearray(), False
        while not whole:
            piece = self.lines.read1(65536)
            if not piece:
                raise Over
            data += piece
            whole = data.endswith(b"\r\n.\r\n") or data == b".\r\n"
            if len(data) > 2000 and not whole:
                self.step("BODY", b"")
        text = bytes(data[:-3])
        self.end((text[1:] if text.startswith(b".") else text).replace(b"\r\n.", b"\r\n"))

    def on_bdat(self, verb, line):
        words = line.split()
        data = self.lines.read(int(words[1]))
        if len(data) < int(words[1]):
            raise Over
        self.end(data)

    def end(self, data):
        server = self.server
        message = Taken(self.mail, list(self.rcpts), data)
        with server.lock:
            server.taken.append(message)
        self.rcpts = []
        try:
            for rcpt in message.rcpts if server.lmtp else [message.rcpts]:
                self.said = ""
                self.step("END", "250 2.0.0 Ok: taken", rcpt)
        finally:
            with server.lock:
                server.accepted += [message] if self.said.startswith("2") else []

    def on_quit(self, verb, line):
        self.step(verb, "221 2.0.0 Bye", line)
        raise Over

    def other(self, verb, line):
        self.step(verb, "250 2.0.0 Ok", line)
