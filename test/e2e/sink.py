"""An SMTP server of a test's own, on an address of the loopback net: takes mail, and misbehaves as told.

    with Sink("127.1.0.1") as sink:
        sink.answer["RCPT"] = lambda line: "450 4.2.0 later" if "late@" in line else None
        ...
        sink.wait(3)        # messages; each has .sender, .rcpts, .data (bytes, CRLF), .mail (the MAIL line)

A hook in `answer` gets the line and returns the reply, None for the usual one, or HANG or CLOSE. "GREET" is asked when
a connection comes, "END" when the data has come."""
import socket
import threading
import time

from instance import wait_for

HANG, CLOSE = "hang", "close"


class Message:
    def __init__(self, sender, rcpts, mail, data, tls=False):
        self.sender, self.rcpts, self.mail, self.data, self.tls = sender, rcpts, mail, data, tls


class Sink:
    def __init__(self, address="127.0.0.1", port=0, extensions=("PIPELINING", "8BITMIME", "SIZE"), tls=None):
        self.extensions = list(extensions)
        self.tls = tls                   # an SSLContext: STARTTLS is offered, and messages say .tls
        self.answer = {}
        self.messages = []
        self.connections = 0
        self.open = 0
        self.most = 0                    # connections at a time
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(200)
        self.address, self.port = self.socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def nexthop(self):
        return f"[{self.address}]:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def wait(self, count, timeout=60):
        wait_for(f"{count} messages, there are {len(self.messages)}", lambda: len(self.messages) >= count, timeout)
        return self.messages

    def _accept(self):
        while not self.stopping.is_set():
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with self.lock:
            self.connections += 1
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            self._talk(connection)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open -= 1
            connection.close()

    def _reply(self, connection, verb, line, usual):
        hook = self.answer.get(verb)
        reply = (hook(line) if hook else None) or usual
        if reply == HANG:
            self.stopping.wait(120)
            raise OSError("hung")
        if reply == CLOSE:
            raise OSError("closed")
        connection.sendall(reply.replace("\n", "\r\n").encode() + b"\r\n")
        return reply[0] in "23"

    def _talk(self, connection):
        if self._reply(connection, "GREET", "", "220 sink.test ESMTP"):
            self._commands(connection)

    def _commands(self, connection, tls=False):
        lines = connection.makefile("rb")
        sender, rcpts, mail = None, [], ""
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            verb = line.split(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                names = ["sink.test", *self.extensions] + (["STARTTLS"] if self.tls and not tls else [])
                usual = "\n".join(f"250{'-' if i + 1 < len(names) else ' '}{n}" for i, n in enumerate(names))
                self._reply(connection, verb, line, usual)
            elif verb == "STARTTLS" and self.tls:
                self._reply(connection, verb, line, "220 2.0.0 Ready")
                with self.tls.wrap_socket(connection, server_side=True) as inside:
                    self._commands(inside, tls=True)
                return
            elif verb == "MAIL":
                if self._reply(connection, verb, line, "250 2.1.0 Ok"):
                    sender, rcpts, mail = line.split("<", 1)[1].split(">")[0], [], line
            elif verb == "RCPT":
                if self._reply(connection, verb, line, "250 2.1.5 Ok"):
                    rcpts.append(line.split("<", 1)[1].split(">")[0])
            elif verb == "DATA":
                if not self._reply(connection, verb, line, "354 go on" if rcpts else "554 5.5.1 no recipients"):
                    continue
                data = []
                for part in lines:
                    if part == b".\r\n":
                        break
                    data.append(part[1:] if part.startswith(b".") else part)
                else:
                    return
                message = Message(sender, list(rcpts), mail, b"".join(data), tls)
                hook = self.answer.get("END")
                verdict = (hook(message) if hook else None) or "250 2.0.0 Ok: taken"
                if verdict not in (HANG, CLOSE) and verdict[0] == "2":
                    with self.lock:
                        self.messages.append(message)
                self.answer_end(connection, verdict)
            elif verb == "QUIT":
                self._reply(connection, verb, line, "221 2.0.0 Bye")
                return
            else:
                self._reply(connection, verb, line, "250 2.0.0 Ok")

    def answer_end(self, connection, verdict):
        if verdict == HANG:
            self.stopping.wait(120)
            raise OSError("hung")
        if verdict == CLOSE:
            raise OSError("closed")
        connection.sendall(verdict.encode() + b"\r\n")
