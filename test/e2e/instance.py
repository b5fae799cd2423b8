"""An instance of Postrider of a test's own: its directory, its ports, its processes.

    with Instance(tmp_path / "mail") as mail:
        mail.user("alice@example.test", "secret")
        mail.start()
        mail.smtp()...

Ports come from the kernel and replace those that `init` wrote into master.cf; everything listens on
127.0.0.1. Nothing outlives the `with`: the master is stopped by its pid, and its children with it."""

import imaplib
import os
import poplib
import pwd
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BINARY = os.environ.get("POSTRIDER", os.path.join(ROOT, "build", "postrider"))
SERVICES = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993,
            "pop3": 110, "pop3s": 995, "lmtp": 24}
OFFSET = 20000
# Nobody answers there: no test asks the real world. Who needs names has a server of his own (dnsserver.py).
NO_DNS = {"dns_servers": "127.0.0.1@9", "dns_trust_anchor_file": ""}
# Its library and the certificates of the world cost each start of a relay 50 ms. test_mta_sts.py says yes.
NO_STS = {"smtp_mta_sts": "no"}
# Sanitizers make everything slower; nobody waits this long unless something is broken.
PATIENCE = float(os.environ.get("POSTRIDER_PATIENCE", "30"))


def wait_for(what, condition, timeout=None):
    """Polls until condition() is true; for events that nothing announces. Fails loudly."""
    deadline = time.monotonic() + (timeout or PATIENCE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(0.01)


def free_ports(count):
    """Ports that the kernel chose; held open together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Instance:
    domain = "example.test"

    def __init__(self, directory, domain=None, settings=None, as_user=None):
        self.dir = str(directory)
        self.domain = domain or self.domain
        self.settings = dict(settings or {})
        self.as_user = as_user           # run as this unprivileged user (tests that are root)
        self.ports = {}
        self.master = None
        self.log_path = os.path.join(self.dir, "log", "postrider.log")

    def _become(self):
        user = pwd.getpwnam(self.as_user)
        return ["setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]

    # ---- commands ----
    def command(self, *args, input=None, check=True, timeout=120, global_args=()):
        argv = [BINARY, "-c", self.dir, *global_args, *args]
        if self.as_user:
            argv = self._become() + argv
        done = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def init(self):
        argv = [BINARY, "init", self.dir, "--domain", self.domain, "--port-offset", str(OFFSET)]
        if self.as_user:
            argv = self._become() + argv
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        self._take_free_ports()
        # Alarm mail and notices about what tests do to the system would be mail that they do not expect: those of it ask.
        # None: as it is by default.
        settings = {"inet_interfaces": "127.0.0.1", "alert_recipient": "", "notify_classes": "", **NO_DNS, **NO_STS, **self.settings}
        self.configure(**{name: value for name, value in settings.items() if value is not None})
        return self

    def _take_free_ports(self):
        path = os.path.join(self.dir, "master.cf")
        text = open(path).read()
        for name, port in zip(SERVICES, free_ports(len(SERVICES))):
            before = self.ports.get(name, SERVICES[name] + OFFSET)
            self.ports[name] = port
            text, n = re.subn(rf"(?m)^((?:\S*:)?){before}(\s)", rf"\g<1>{port}\2", text)
            assert n == 1, f"master.cf has no listener for {name}"
        with open(path, "w") as f:
            f.write(text)

    def configure(self, **settings):
        with open(os.path.join(self.dir, "main.cf"), "a") as f:
            for name, value in settings.items():
                f.write(f"{name} = {value}\n")

    def user(self, address, password="secret", *options):
        self.command("user", "add", address, "--password-stdin", *options, input=password + "\n")

    # ---- life ----
    def start(self, pass_fds=(), again=True):
        argv = [BINARY, "-c", self.dir, "run"]
        if self.as_user:
            argv = self._become() + argv
        self.output = open(os.path.join(self.dir, "run.out"), "ab")
        self.master = subprocess.Popen(argv, stdout=self.output, stderr=self.output, start_new_session=True,
                                       pass_fds=pass_fds)
        try:
            self.wait_ready()
        except Exception:
            status = self.master.poll()
            self.kill()
            # Between our asking for a port and master's listening the kernel may have lent it to a client.
            if status == os.EX_UNAVAILABLE and again and "Address already in use" in self.log():
                self._take_free_ports()
                return self.start(pass_fds, again=False)
            raise
        return self

    def wait_ready(self):
        for name in ("smtp", "imap", "pop3"):
            wait_for(f"{name} to greet", lambda: self._greets(self.ports[name]))

    def _greets(self, port):
        if self.master.poll() is not None:
            raise AssertionError(f"master ended with {self.master.returncode}:\n{self.log()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                return s.recv(200)[:1] in (b"2", b"*", b"+")
        except OSError:
            return False

    def stop(self):
        if self.master and self.master.poll() is None:
            self.master.send_signal(signal.SIGTERM)
            self.master.wait(PATIENCE)
        if self.master:
            status = self.master.returncode
            self.master = None
            self.output.close()
            return status

    def kill(self):
        """kill -9 of master; its children end when their control channel closes."""
        if self.master:
            children = self.children()
            self.master.kill()
            self.master.wait()
            for pid in children:
                wait_for(f"child {pid} to end", lambda: not os.path.exists(f"/proc/{pid}"))
            self.master = None
            self.output.close()

    def __enter__(self):
        if not os.path.exists(os.path.join(self.dir, "main.cf")):
            self.init()
        return self

    def __exit__(self, *exc):
        if self.master:
            self.stop()
        report = sanitizer_report(self.log() + open(os.path.join(self.dir, "run.out"), errors="replace").read()
                                  if os.path.exists(os.path.join(self.dir, "run.out")) else "")
        assert not report, report

    # ---- looking ----
    def log(self):
        text = ""
        for path in (self.log_path, os.path.join(self.dir, "run.out")):
            if os.path.exists(path):
                text += open(path, errors="replace").read()
        return text

    def wait_log(self, pattern, timeout=None):
        return wait_for(f"log line /{pattern}/", lambda: re.search(pattern, self.log()), timeout)

    def children(self):
        """pid -> process name, of the running children."""
        found = {}
        for pid in os.listdir("/proc"):
            if pid.isdigit():
                try:
                    stat = open(f"/proc/{pid}/stat").read()
                    ppid = int(stat.rsplit(")", 1)[1].split()[1])
                    if ppid == self.master.pid:
                        argv = open(f"/proc/{pid}/cmdline").read().split("\0")
                        if "--process" in argv:
                            found[int(pid)] = argv[argv.index("--process") + 1]
                except (OSError, ValueError, IndexError):
                    continue
        return found

    def pid_of(self, process):
        return wait_for(f"process {process}",
                        lambda: next((p for p, n in self.children().items() if n == process), None))

    def maildir(self, address):
        for base, dirs, _ in os.walk(os.path.join(self.dir, "mail")):
            local, domain = address.split("@")
            if {"cur", "new", "tmp"} <= set(dirs) and base.rstrip("/").endswith(os.path.join(domain, local)):
                return base
        raise AssertionError(f"no Maildir for {address}")

    def messages(self, address):
        """Paths of the files in INBOX; none while the Maildir is not made yet."""
        try:
            box = self.maildir(address)
        except AssertionError:
            return []
        return sorted(os.path.join(box, d, f) for d in ("new", "cur") for f in os.listdir(os.path.join(box, d)))

    def wait_messages(self, address, count):
        """The same, once there are `count`: files come a moment after the commit that was acknowledged."""
        def look():
            try:
                found = self.messages(address)
            except (AssertionError, FileNotFoundError):   # no Maildir yet; a file on its way from new/ to cur/
                found = []
            return len(found) == count and (found or True)
        return wait_for(f"{count} files of {address}", look)

    def count(self, address, mailbox="INBOX", password="secret"):
        """Messages in the mailbox, as IMAP tells."""
        box = self.imap(address, password)
        status, data = box.select(mailbox, readonly=True)
        assert status == "OK", data
        box.logout()
        return int(data[0])

    # ---- clients ----
    def tls(self):
        context = ssl.create_default_context(cafile=os.path.join(self.dir, "tls", "cert.pem"))
        context.check_hostname = False
        return context

    def smtp(self):
        return smtplib.SMTP("127.0.0.1", self.ports["smtp"], timeout=PATIENCE, local_hostname="client.test")

    def submission(self, user=None, password="secret"):
        s = smtplib.SMTP("127.0.0.1", self.ports["submission"], timeout=PATIENCE, local_hostname="client.test")
        s.starttls(context=self.tls())
        if user:
            s.login(user, password)
        return s

    def imap(self, user=None, password="secret"):
        m = imaplib.IMAP4_SSL("127.0.0.1", self.ports["imaps"], ssl_context=self.tls(), timeout=PATIENCE)
        if user:
            m.login(user, password)
        return m

    def pop3(self, user=None, password="secret"):
        p = poplib.POP3_SSL("127.0.0.1", self.ports["pop3s"], context=self.tls(), timeout=PATIENCE)
        if user:
            p.user(user)
            p.pass_(password)
        return p

    def send(self, to, text=None, sender="sender@elsewhere.test", subject="Hello"):
        """One message by SMTP on port 25; returns when it was answered 250."""
        text = text or f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\nA line.\r\n"
        with self.smtp() as s:
            s.sendmail(sender, [to], text)

    def raw(self, service):
        return Raw(self.ports[service])


class Raw:
    """A socket for tests that must say exactly these bytes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def line(self):
        return self.file.readline().decode("utf-8", "replace").rstrip("\r\n")

    def reply(self):
        """One SMTP reply, all its lines."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def ask(self, command):
        self.send(command + "\r\n")
        return self.reply()

    def at_end(self):
        return self.file.read(1) == b""

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def let_through(path):
    """Any user may come as far as this directory of the tests."""
    path = os.path.abspath(path)
    while path not in ("/", "/tmp"):
        if os.stat(path).st_uid == os.getuid():
            os.chmod(path, os.stat(path).st_mode | 0o111)
        path = os.path.dirname(path)


def sanitizer_report(text):
    at = re.search(r"==\d+==ERROR|runtime error:|WARNING: ThreadSanitizer|invariant broken", text)
    return text[max(0, at.start() - 2000):at.start() + 6000] if at else ""


STACK = re.compile(r"==\d+==ERROR: AddressSanitizer[^\n]*\n(?:(?![^\n]*#0 0x)[^\n]*\n){0,9}((?:[^\n]*#\d+ 0x[^\n]*\n)+)")


def without_ends_in(library, text):
    """The log without what AddressSanitizer says of errors within that library, or in what it called: whoever does them ends."""
    def ours(match):
        places = re.findall(r"\(([^()\s]+)\+0x[0-9a-f]+\)", match[1])
        first = next((p for p in places if not re.search(r"lib(asan|c|ubsan)\.so", p)), "")
        return "" if library in first else match[0]
    return STACK.sub(ours, text)


def in_thread(function, *args):
    """Runs function in a thread; .result() waits and re-raises."""
    class Task(threading.Thread):
        def run(self):
            try:
                self.value, self.error = function(*args), None
            except BaseException as e:       # handed to result()
                self.value, self.error = None, e

        def result(self):
            self.join()
            if self.error:
                raise self.error
            return self.value
    task = Task(daemon=True)
    task.start()
    return task
