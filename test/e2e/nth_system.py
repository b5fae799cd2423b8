"""The N-th failure: any system call or allocation of a process fails once (src/os/nth.h), in the middle of a scene.

    with System(directory) as system:
        counts = system.count(SCENES["smtp small"])          # {("store", "WRITE"): 12, ...}
        system.case(Case("smtp small", "store", "WRITE", "ENOSPC", 3))

A case arms the failure, plays the scene as a patient client would (again after 4xx, NO, BYE or a closed connection, never
after a permanent refusal: that is a fault), and then checks what must hold whatever failed: every scene ends well, each
message is there once, all processes serve, no descriptor stays open, no sanitizer complains. Broken promises raise Broken."""

import email
import errno
import imaplib
import mmap
import os
import poplib
import re
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import time
from collections import namedtuple

from dnsserver import DnsServer
from instance import BINARY, Instance, sanitizer_report, wait_for, without_ends_in
from sink import Sink

# As in src/os/nth.h.
KINDS = ("NONE READ WRITE RECV SEND PASS ACCEPT OPEN CLOSE RENAME UNLINK MKDIR SYNC MMAP EPOLL MAKE DUP STAT TRUNCATE COPY "
         "READDIR WATCH LOCK SOCKET FORK THREAD MALLOC TAKE").split()
PAGE, COUNT_AT, WHERE_AT = 4096, 24, 280
ERRORS = {
    "READ": ("EIO", "SHORT", "ECONNRESET"), "WRITE": ("ENOSPC", "EIO", "EDQUOT", "EROFS", "SHORT"),
    "RECV": ("ECONNRESET", "ENOMEM", "SHORT"), "SEND": ("ECONNRESET", "ENOBUFS", "SHORT"), "PASS": ("ETOOMANYREFS", "ENOBUFS"),
    "ACCEPT": ("EMFILE", "ECONNABORTED", "ENOBUFS"), "OPEN": ("EMFILE", "EIO", "ENOSPC", "EROFS", "EACCES"), "CLOSE": ("EIO",),
    "RENAME": ("EIO", "ENOSPC", "EROFS", "EDQUOT"), "UNLINK": ("EIO", "EROFS"), "MKDIR": ("ENOSPC", "EDQUOT", "EROFS"),
    "SYNC": ("EIO", "ENOSPC", "EDQUOT"), "MMAP": ("ENOMEM",), "EPOLL": ("ENOMEM", "ENOSPC"), "MAKE": ("EMFILE", "ENFILE", "ENOMEM"),
    "DUP": ("EMFILE",), "STAT": ("EIO", "ENOMEM"), "TRUNCATE": ("ENOSPC", "EIO", "EDQUOT"), "COPY": ("EIO", "ENOSPC", "EXDEV"),
    "READDIR": ("EIO",), "WATCH": ("ENOSPC", "ENOMEM"), "LOCK": ("ENOLCK", "EINTR"), "SOCKET": ("EMFILE", "ENOBUFS"),
    "FORK": ("EAGAIN", "ENOMEM"), "THREAD": ("EAGAIN",), "MALLOC": ("ENOMEM",), "TAKE": ("EMFILE",),
}
PROCESSES = ("master", "smtpd", "access", "relay", "dns", "directory", "queue", "store")
# A session that waits longer is stuck. The directory of a slow machine is not.
STUCK = float(os.environ.get("NTH_STUCK", "40"))
RECOVERY = float(os.environ.get("NTH_RECOVERY", "60"))

Case = namedtuple("Case", "scene process kind error n")


class Broken(AssertionError):
    """A promise was not kept."""


class Again(Exception):
    """The server asked for patience, or closed the connection: a client tries again."""


# ---- the page shared with a process ----

class Page:
    def __init__(self, path):
        with open(path, "wb") as f:
            f.truncate(PAGE)
        os.chmod(path, 0o666)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), PAGE)

    def counts(self):
        return struct.unpack_from(f"{len(KINDS)}Q", self.map, COUNT_AT)

    def arm(self, kind, error, n):
        self.disarm()
        struct.pack_into("i", self.map, 4, 0 if error == "SHORT" else getattr(errno, error))
        struct.pack_into("q", self.map, 8, n)
        struct.pack_into("I", self.map, 16, 0)
        struct.pack_into("I", self.map, 0, KINDS.index(kind))

    def disarm(self):
        struct.pack_into("I", self.map, 0, 0)

    def fired(self):
        return struct.unpack_from("I", self.map, 16)[0] > 0

    def pid(self):
        return struct.unpack_from("I", self.map, 20)[0]

    def where(self):
        text = self.map[WHERE_AT:PAGE]
        return text[:text.index(b"\0")].decode()

    def close(self):
        self.map.close()
        self.file.close()


def callers(where):
    """The call and our functions above it, for people."""
    call, *frames = where.split()
    ours = [f.rsplit("+", 1)[1] for f in frames if "/lib" not in f]
    if not ours:
        return call + " in " + " ".join(frames)
    done = subprocess.run(["addr2line", "-f", "-s", "-e", BINARY, *ours], capture_output=True, text=True)
    lines = done.stdout.split("\n")
    names = [f"{lines[i]} ({lines[i + 1]})" for i in range(0, len(lines) - 1, 2) if not lines[i + 1].startswith("nth")]
    return call + " < " + " < ".join(names)


# ---- scenes: what a patient client does ----

def message(subject, size):
    return (f"From: <bob@example.test>\r\nTo: <alice@example.test>\r\nSubject: {subject}\r\n\r\n" +
            "filling text 0123456789\r\n" * (size // 25) + f"end of {subject}\r\n")


def smtp_errors(e):
    if isinstance(e, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in e.recipients.values()]
    return [e.smtp_code] if isinstance(e, smtplib.SMTPResponseException) else []


class Client:
    """One attempt of a scene at a system; `name` makes its messages unlike those of other scenes; `left` is for what an
    attempt leaves to the next."""

    def __init__(self, system, name, left=None):
        self.system, self.mail, self.name = system, system.mail, name
        self.left = [] if left is None else left
        self.open = []

    def smtp(self):
        s = smtplib.SMTP(timeout=STUCK, local_hostname="client.test")
        s.connect("127.0.0.1", self.mail.ports["smtp"])
        self.open.append(s.close)
        return s

    def send(self, recipients, text, rcpt_options=()):
        """Returns whom the server refused. What comes of QUIT is no matter: the message was answered."""
        s = self.smtp()
        refused = s.sendmail("bob@example.test", recipients, text, rcpt_options=rcpt_options)
        try:
            s.quit()
        except (OSError, smtplib.SMTPException):
            pass
        return refused

    def imap(self, user):
        m = imaplib.IMAP4_SSL("127.0.0.1", self.mail.ports["imaps"], ssl_context=self.mail.tls(), timeout=STUCK)
        self.open.append(m.shutdown)
        m.login(user, "secret")
        return m

    def imap_clear(self, user):
        m = imaplib.IMAP4("127.0.0.1", self.mail.ports["imap"], timeout=STUCK)
        self.open.append(m.shutdown)
        m.login(user, "secret")
        return m

    def pop3(self, user):
        p = poplib.POP3("127.0.0.1", self.mail.ports["pop3"], timeout=STUCK)
        self.open.append(p.close)
        p.stls(context=self.mail.tls())
        p.user(user)
        p.pass_("secret")
        return p

    def close(self):
        for close in self.open:
            try:
                close()
            except OSError:
                pass


def ok(answer):
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(f"{status} {data}")
    return data


def scene_smtp_small(c):
    c.send(["alice@example.test"], message(c.name, 300))
    return ["alice"]


def scene_smtp_large(c):
    c.send(["alice@example.test"], message(c.name, 300_000))
    return ["alice"]


def send_to_all(c, recipients, text):
    """Some were taken: a client sends to the rest again."""
    refused = c.send(c.left or recipients, text)
    if refused:
        c.left[:] = list(refused)
        raise smtplib.SMTPRecipientsRefused(refused)


def scene_smtp_several(c):
    send_to_all(c, ["alice@example.test", "bob@example.test", "carol@example.test"], message(c.name, 3000))
    return ["alice", "bob", "carol"]


def scene_queue(c):
    """A success report is due: the message takes the way through queue and relay."""
    c.send(["alice@example.test"], message(c.name, 80_000 if len(c.name) % 2 else 500), rcpt_options=["NOTIFY=SUCCESS"])
    return ["alice"]


def scene_relay(c):
    """Two go elsewhere, one of them in vain: names are looked up, the report comes back."""
    send_to_all(c, [f"x-{c.name}@far.test", f"gone-{c.name}@far.test"], message(c.name, 80_000 if len(c.name) % 2 else 500))
    return [FAR]


def scene_imap(c):
    m = c.imap("carol@example.test")
    ok(m.select("INBOX"))
    ok(m.append("INBOX", "(\\Seen)", None, message(c.name + " a", 400).encode()))
    ok(m.append("INBOX", None, None, message(c.name + " b", 100_000).encode()))
    n = int(ok(m.select("INBOX"))[0])
    data = ok(m.fetch(f"{n - 1}:{n}", "(UID FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])"))
    if b"end of " + c.name.encode() not in b"".join(x[1] for x in data if isinstance(x, tuple)):
        raise Broken("FETCH does not give what was appended: %r" % data)
    uids = [re.search(rb"UID (\d+)", x[0]).group(1).decode() for x in data if isinstance(x, tuple)]
    ok(m.uid("STORE", ",".join(uids), "+FLAGS", "(\\Flagged $Label)"))
    ok(m.create("box-" + c.name.replace(" ", "-")))
    ok(m.uid("COPY", uids[0], "box-" + c.name.replace(" ", "-")))
    ok(m.status("box-" + c.name.replace(" ", "-"), "(MESSAGES UIDNEXT)"))
    ok(m.uid("STORE", ",".join(uids), "+FLAGS", "(\\Deleted)"))
    ok(m.expunge())
    ok(m.list())
    return []


def scene_pop3(c):
    p = c.pop3("dave@example.test")
    count, _ = p.stat()
    p.uidl()
    for i in range(1, count + 1):
        p.retr(i)
        p.dele(i)
    p.quit()
    return []


def scene_users(c):
    c.system.again("user", "add", c.name.replace(" ", "-") + "@example.test", "--password-stdin", input="secret\n")
    c.system.again("user", "list")
    c.system.again("user", "delete", c.name.replace(" ", "-") + "@example.test")
    return []


def scene_reload(c):
    c.system.again("reload")
    c.system.again("status")
    c.send(["dave@example.test"], message(c.name, 300))
    return ["dave"]


def scene_killed(victim):
    """A process is killed, so that master makes a new one, which begins: store and queue with a recovery."""
    def play(c):
        if not c.left:
            c.left.append(c.mail.pid_of(victim))
            os.kill(c.left[0], signal.SIGKILL)
        if set(c.left) & set(c.mail.children()) or victim not in c.mail.children().values():
            raise Again("closed: still dying")
        return scene_smtp_small(c)
    return play


SCENES = {"smtp small": scene_smtp_small, "smtp large": scene_smtp_large, "smtp several": scene_smtp_several, "queue": scene_queue, "relay": scene_relay,
          "imap": scene_imap, "pop3": scene_pop3, "users": scene_users, "reload": scene_reload}
SCENES.update({f"{victim} killed": scene_killed(victim) for victim in PROCESSES if victim != "master"})
FAR = "(elsewhere)"      # who has the message, besides users
# What a server says when it asks for patience; anything else that refuses is for ever.
SENTENCE = re.compile(r"UNAVAILABLE|SERVERBUG|LIMIT|INUSE|SYS/TEMP|LOGIN-DELAY|IN-USE|OVERQUOTA|CONTACTADMIN", re.I)
CLOSED = (ConnectionError, EOFError, smtplib.SMTPServerDisconnected, imaplib.IMAP4.abort, ssl.SSLError)


def attempt(client, play):
    """Plays a scene once. Raises Again where a client would try again, Broken where he would give up."""
    try:
        return play(client)
    except (socket.timeout, TimeoutError) as e:
        raise Broken(f"stuck: no answer within {STUCK:.0f} s ({e})") from e
    except CLOSED as e:
        raise Again(f"closed: {e!r}") from e
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException) as e:
        if any(not 400 <= code < 500 for code in smtp_errors(e)):
            raise Broken(f"a permanent refusal for a passing failure: {e!r}") from e
        raise Again(repr(e)) from e
    except (imaplib.IMAP4.error, poplib.error_proto) as e:
        text = str(e)
        if "EOF" in text or "CAPA not supported" in text or "BYE" in text or SENTENCE.search(text):
            raise Again(text) from e
        if "AUTH" in text:
            raise Broken(f"the password was called wrong: {text}") from e
        if "TRYCREATE" in text or "NONEXISTENT" in text or "-ERR" in text or "NO" in text:
            raise Broken(f"refused, without a word that it will pass: {text}") from e
        raise Again(text) from e
    except OSError as e:
        raise Again(repr(e)) from e
    finally:
        client.close()


# ---- the system under test ----

class System:
    def __init__(self, directory):
        self.dir = str(directory)
        self.serial = 0
        self.mail = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def start(self):
        os.makedirs(self.dir, exist_ok=True)
        pages = os.path.join(self.dir, "nth")
        os.makedirs(pages, exist_ok=True)
        os.environ["POSTRIDER_NTH"] = pages
        os.environ["POSTRIDER_BACKOFF_MS"] = "200"       # most of the time would be waits for what ends again and again
        self.pages = {p: Page(os.path.join(pages, p)) for p in PROCESSES}
        self.serial += 1
        self.dns, self.sink = DnsServer().start(), Sink("127.1.2.1")
        self.dns.set("far.test", "MX", "10 mx.far.test.")
        self.dns.set("mx.far.test", "A", self.sink.address)
        self.sink.answer["RCPT"] = lambda line: "550 5.1.1 no such user" if "<gone-" in line else None
        self.mail = Instance(os.path.join(self.dir, f"mail{self.serial}"), settings=self.dns.settings(
            transport_maps=f"inline:{{ {{ far.test = smtp:far.test:{self.sink.port} }} }}",
            minimal_backoff_time="1s", maximal_backoff_time="2s", dns_timeout="4s"))
        self.mail.init()
        for user in ("alice", "bob", "carol", "dave"):
            self.mail.user(user + "@example.test")
        self.mail.start()
        if not any(self.pages["store"].counts()):
            raise RuntimeError("this program was built without os/nth: build with SAN=address")
        self.names = 0
        self.text, self.log_files, self.relays = "", {}, set()
        self.quiet_fds = {}
        self.children = {}
        self.may_end = False
        for name in SCENES:      # whatever is made at the first use is made
            if "killed" not in name:
                self.play(name)
        self.quiet_fds = self.descriptors()

    def stop(self):
        for page in self.pages.values():
            page.disarm()
        if self.mail and self.mail.master:
            if self.mail.master.poll() is None:
                self.mail.stop()
            else:
                self.mail.kill()
        for page in self.pages.values():
            page.close()
        self.dns.stop()
        self.sink.__exit__()
        os.environ.pop("POSTRIDER_NTH", None)
        os.environ.pop("POSTRIDER_BACKOFF_MS", None)

    # ---- a scene ----

    def again(self, *args, input=None):
        """A command; patient while it says that it is worth trying again."""
        done = self.mail.command(*args, input=input, check=False, timeout=STUCK + 30)
        if done.returncode == 0:
            return
        if args[0] == "status" and done.returncode == os.EX_TEMPFAIL:
            raise Again(f"closed: a process is starting: {done.stdout}")
        if not done.stderr.strip():
            raise Broken(f"{args} failed with {done.returncode} and no sentence: {done.stdout}")
        if args[0] == "user" and ("already" in done.stderr or "no user" in done.stderr or "is not" in done.stderr):
            return     # done by the attempt before, whose answer was lost
        raise Again(f"{args}: {done.returncode} {done.stderr.strip()}")

    def play(self, scene):
        """Until it ends well. Returns how often it was tried, and who must have the message now."""
        self.names += 1
        name = f"s{self.serial}n{self.names}"
        if scene == "pop3":
            self.feed(f"{name} fed")
        until, tries, said, left = time.monotonic() + RECOVERY, 0, [], []
        while True:
            tries += 1
            self.supervise()
            try:
                owners = attempt(Client(self, name if scene != "imap" else f"{name}t{tries}", left), SCENES[scene])
                break
            except Again as e:
                said.append(str(e))
                if time.monotonic() > until:
                    raise Broken(f"{scene} never succeeded again: {said[:3]} ... {said[-3:]}") from e
                time.sleep(0.02 * min(tries, 25))
        return tries, {user if user == FAR else f"{user}@example.test": name for user in owners}, said

    def supervise(self):
        """Master without memory ends; whoever started it (contrib/postrider.service) starts it again."""
        if self.may_end and self.mail.master.poll() == os.EX_OSERR:
            self.mail.kill()
            self.mail.start()

    def feed(self, name):
        until = time.monotonic() + RECOVERY
        while True:
            c = Client(self, name)
            try:
                self.supervise()
                c.send(["dave@example.test"], message(name, 300))
                return
            except (OSError, smtplib.SMTPException):
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            finally:
                c.close()

    # ---- what must hold ----

    def take_mail(self, user):
        """Subjects in the INBOX, which is empty afterwards. Patient as any scene."""
        until, found = time.monotonic() + RECOVERY, {}      # UID: subject

        def take(c):
            m = c.imap_clear(user)
            if int(ok(m.select("INBOX"))[0]):
                parts = [part for part in ok(m.fetch("1:*", "(UID BODY.PEEK[])")) if isinstance(part, tuple)]
                uids = {re.search(rb"UID (\d+)", head)[1].decode(): self.subject(text) for head, text in parts}
                found.update(uids)
                # Not 1:*: what comes meanwhile has not been seen.
                ok(m.uid("STORE", ",".join(uids), "+FLAGS", "(\\Deleted)"))
                ok(m.expunge())
            m.logout()
        while True:
            self.supervise()
            try:
                attempt(Client(self, ""), take)
                return list(found.values())
            except Again as e:
                if time.monotonic() > until:
                    raise Broken(f"mail of {user} cannot be read: {e}") from e
                time.sleep(0.05)

    @staticmethod
    def subject(text):
        subject = email.message_from_bytes(text)["Subject"]
        if subject.startswith("s") and not text.rstrip().endswith(b"end of " + subject.encode()):
            raise Broken(f"torn: {text[-200:]!r}")
        return subject

    def reports_of(self, address):
        found = 0
        for path in self.mail.messages("bob@example.test"):
            try:
                found += f"Final-Recipient: rfc822; {address}" in open(path, errors="replace").read()
            except FileNotFoundError:
                pass
        return found

    def check_far(self, name, processes, said):
        """At its destination, and the report there: once. The relay alone may have read no reply, or died with it."""
        good, gone = f"x-{name}@far.test", f"gone-{name}@far.test"
        until = time.monotonic() + RECOVERY
        while True:
            count = [r for m in list(self.sink.messages) for r in m.rcpts].count(good)
            if count and self.reports_of(gone):
                break
            if time.monotonic() > until:
                raise Broken(f"{good} was delivered {count} times, {self.reports_of(gone)} reports of the other")
            self.mail.command("queue", "flush", check=False)
            time.sleep(0.05)
        self.wait_queue()
        count, reports = [r for m in list(self.sink.messages) for r in m.rcpts].count(good), self.reports_of(gone)
        # A channel to the queue that broke ends the relay, too.
        more = ("relay" in processes) + len(re.findall(r"process relay\[\d+\] is ready", self.log())) + sum("closed" in s for s in said)
        if not 1 <= count <= 1 + more or not 1 <= reports <= 1 + more:
            raise Broken(f"{good} was delivered {count} times, {reports} reports of the other")
        del self.sink.messages[:]
        if len(self.mail.messages("bob@example.test")) > 50:       # each look reads them all
            self.take_mail("bob@example.test")

    def wait_queue(self):
        def is_empty():
            done = self.mail.command("queue", "list", "--json", check=False)
            return done.returncode == 0 and done.stdout.strip() == "[]"
        try:
            wait_for("an empty queue", is_empty, RECOVERY)
        except AssertionError as e:
            raise Broken(f"{e}: {self.mail.command('queue', 'list', check=False).stdout}") from e

    def log(self):
        """What was logged since the last check_log(); read on from where it was read to."""
        for path in (self.mail.log_path, os.path.join(self.mail.dir, "run.out")):
            if path not in self.log_files and os.path.exists(path):
                self.log_files[path] = open(path, errors="replace")
            if path in self.log_files:
                more = self.log_files[path].read()
                self.text += more
                self.relays |= set(re.findall(r"process relay\[(\d+)\] is ready", more))
        return self.text

    def check_mail(self, owned, said=(), processes=()):
        """Each message that was accepted is there, once. Only a client that lost the answer to a message which the queue
        had taken can have it twice (RFC 1047): the store knows a repetition, the queue does not keep what it handed on."""
        text = self.log()
        queued = re.search(rf"\[({'|'.join(self.relays)})\]: \w+: to=", text)
        repeated = sum("closed" in s for s in said) if queued else 0
        for address, want in owned.items():
            if address == FAR:
                self.check_far(want, processes, said)
                continue
            until, found = time.monotonic() + RECOVERY, []
            while True:
                found += self.take_mail(address)
                if want in found or time.monotonic() > until:
                    break
                # It is on its way through the queue, which would try again in some minutes.
                self.mail.command("queue", "flush", check=False)
                time.sleep(0.05)
            if not 1 <= found.count(want) <= 1 + repeated:
                raise Broken(f"{address} has {want} {found.count(want)} times: {found}")

    def check_processes(self):
        if self.mail.master.poll() is not None:
            raise Broken(f"master ended with {self.mail.master.returncode}")
        begun = time.monotonic()

        def well():
            children = children_of(self.mail.master.pid)
            if sorted(children.values()) != sorted(p for p in PROCESSES if p != "master"):
                return False
            if children == self.children:
                return True
            # To ask costs a process. One whose word was lost is asked for after a while all the same.
            waited = time.monotonic() - begun > 5
            if not waited and any(f"process {name}[{pid}] is ready" not in self.log()
                                  for pid, name in children.items() if pid not in self.children):
                return False
            if self.mail.command("status", check=False).returncode == 0:
                self.children = children
            return False
        try:
            return wait_for("all processes and a good status", well, RECOVERY)
        except AssertionError as e:
            raise Broken(f"{e}: {self.mail.children()} {self.mail.command('status', check=False)}") from e

    def descriptors(self):
        """process -> (pid, what its descriptors are)."""
        found = {"master": (self.mail.master.pid, fds_of(self.mail.master.pid))}
        for pid, name in children_of(self.mail.master.pid).items():
            found[name] = (pid, fds_of(pid))
        return found

    def check_descriptors(self, n=3):
        """None more than before, in the processes that lived on; a new process is looked at from now on."""
        def settled():
            now, more = self.descriptors(), {}
            for name, (pid, fds) in now.items():
                before = self.quiet_fds.get(name)
                # Connections to the database are kept, as many as worked at once; they are bounded.
                fds = [f for f in fds if "accounts.sqlite" not in f]
                if before and before[0] == pid and len(fds) > len([f for f in before[1] if "accounts.sqlite" not in f]):
                    more[name] = sorted(set(fds) - set(before[1])) or fds
            return more, now
        until = time.monotonic() + 15
        while True:
            more, now = settled()
            if not more:
                break
            if time.monotonic() > until:
                raise Broken(f"descriptors stay open: {more}")
            time.sleep(0.05)
        for name, (pid, fds) in now.items():
            before = self.quiet_fds.get(name)
            if not before or before[0] != pid:
                self.quiet_fds[name] = (pid, fds + ["(one scene's caches)"] * n)

    def check_log(self):
        text, self.text = self.log(), ""
        # Without memory libseccomp frees something twice; the process had not begun yet, and ends.
        report = sanitizer_report(without_ends_in("libseccomp", text))
        if report or "panic:" in text:
            raise Broken("the log has: " + (report or "".join(re.findall(r".*panic:.*\n", text))))
        return text

    # ---- cases ----

    def settle(self):
        """Until nobody does anything any more: files come a moment after the answer."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < 0.1:
            now = [page.counts() for page in self.pages.values()]
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.01)

    def count(self, scene):
        """What a scene calls: (process, kind) -> how often."""
        self.settle()
        before = {p: page.counts() for p, page in self.pages.items()}
        owned = self.play(scene)[1]
        self.settle()
        found = {}
        for p, page in self.pages.items():
            for i, (old, new) in enumerate(zip(before[p], page.counts())):
                if new > old:
                    found[p, KINDS[i]] = new - old
        self.check_mail(owned)
        return found

    def case(self, *cases):
        """One case, or several of one scene in different processes: what holds after one failure holds after each.
        Returns of each whether it fired, how often the scene was tried, and why again; raises Broken."""
        processes = [c.process for c in cases]
        self.may_end = any(c.process == "master" and c.kind == "MALLOC" for c in cases)
        for c in cases:
            self.pages[c.process].arm(c.kind, c.error, c.n)
        try:
            tries, owned, said = self.play(cases[0].scene)
            self.settle()
            self.disarm(cases)
            self.supervise()
            self.check_mail(owned, said, processes)
            self.check_processes()
            self.check_descriptors()
            self.check_log()
        except Broken as e:
            raise Broken("\n".join(f"{':'.join(map(str, c))}\n  at {self.where(c)}" for c in cases) +
                         f"\n  {e}\n  its log:\n{self.log()[-12000:]}") from e
        finally:
            self.disarm(cases)
        return [self.pages[p].fired() for p in processes], tries, said

    def disarm(self, cases):
        for c in cases:
            self.pages[c.process].disarm()

    def where(self, case):
        page = self.pages[case.process]
        return callers(page.where()) if page.fired() else "not reached"


def children_of(master):
    """pid -> process name. As Instance.children(), without a look at every process of the machine."""
    found = {}
    try:
        pids = open(f"/proc/{master}/task/{master}/children").read().split()
    except OSError:
        return found
    for pid in pids:
        try:
            argv = open(f"/proc/{pid}/cmdline").read().split("\0")
            found[int(pid)] = argv[argv.index("--process") + 1]
        except (OSError, ValueError, IndexError):
            continue
    return found


def fds_of(pid):
    found = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(f"{fd}={os.readlink(f'/proc/{pid}/fd/{fd}')}")
            except OSError:
                pass
    except OSError:
        pass
    return found


def cases_of(scene, counts, rng=None, every=1):
    """All cases of a scene, N in turn; with rng in a random order."""
    cases = [Case(scene, process, kind, error, n)
             for (process, kind), count in sorted(counts.items())
             for error in ERRORS[kind]
             for n in range(1, count + 1, every)]
    if rng:
        rng.shuffle(cases)
    return cases
