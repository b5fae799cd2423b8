"""The queue's commands on a queue that has something in it: list, show, flush, hold, release, requeue, delete; and
mailq, postqueue, postsuper and postcat."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from crashkill import Faults
from instance import BINARY, Instance, let_through, wait_for

# What is installed by these names; where it was not built, the whole program does the same.
CLIENT = BINARY + "-client" if os.path.exists(BINARY + "-client") else BINARY
NAMES = ("sendmail", "mailq", "postqueue", "postsuper", "postcat")


class Queue:
    """Messages for elsewhere, while relay sleeps."""

    def __init__(self, mail, bin):
        self.mail, self.bin = mail, bin
        bin.mkdir()
        for name in NAMES:
            (bin / name).symlink_to(CLIENT)
        self.relay = mail.pid_of("relay")
        os.kill(self.relay, signal.SIGSTOP)
        # It may have asked for one more: the first there is.
        self.submit("first@elsewhere.test", ["x@claimed.test"])
        assert [m["state"] for m in self.list()] in (["active"], ["deferred"])
        self.postrider("delete", "ALL")

    def run(self, name, *args, input="", status=0):
        done = subprocess.run([str(self.bin / name), *args], input=input, capture_output=True, text=True, timeout=120,
                              env=dict(os.environ, POSTRIDER_CONFIG=self.mail.dir))
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def submit(self, sender, rcpts, body="A line.\n"):
        self.run("sendmail", "-f", sender, *rcpts, input=f"Subject: to {len(rcpts)}\n\n{body}")

    def many(self, count):
        dialogue = "EHLO x\n" + "".join(f"MAIL FROM:<many{i % 10}@elsewhere.test>\nRCPT TO:<r{i}@d{i % 7}.test>\nBDAT 4 LAST\nT: {i % 10}\n"
                                        for i in range(count)) + "QUIT\n"
        done = self.run("sendmail", "-bs", input=dialogue.replace("\n", "\r\n").replace("BDAT 4", "BDAT 6"))
        assert done.stdout.count("queued as") == count

    def postrider(self, *args, **more):
        return self.mail.command("queue", *args, **more)

    def list(self, *args):
        return json.loads(self.postrider("list", "--json", *args).stdout)

    def id_of(self, sender):
        (found,) = [m["id"] for m in self.list() if m["sender"] == sender]
        return found

    def senders(self, *args):
        return sorted(m["sender"].split("@")[0] for m in self.list(*args))

    def wake(self):
        """A relay that does not sleep."""
        if self.relay:
            os.kill(self.relay, signal.SIGKILL)
            self.relay = None


@contextlib.contextmanager
def asleep(top):
    with Instance(top / "mail", settings={"minimal_backoff_time": "300s", "default_transport": "discard:"}) as m:
        m.user("alice@example.test")
        m.start()
        relay = m.pid_of("relay")
        try:
            q = Queue(m, top / "bin")
            relay = None
            yield q
            q.wake()
        finally:
            if relay:
                os.kill(relay, signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with asleep(tmp_path_factory.mktemp("queue")) as q:
        yield q


@pytest.fixture
def queue(shared):
    yield shared
    shared.postrider("delete", "ALL")


@pytest.fixture
def filled(queue):
    return fill(queue)


def fill(queue):
    queue.submit("ann@a.test", ["r1@one.test", "r2@two.test"], "x" * 3000 + "\n")
    queue.submit("ben@a.test", ["r3@One.test"])
    queue.submit("cat@b.test", ["r4@three.test", "alice@example.test"])
    queue.submit("<>", ["r5@three.test"])
    return queue


def test_lists(filled):
    text = filled.postrider("list").stdout
    assert text.startswith("----Queue ID-----") and re.search(r"^-- \d+ Kbytes in 4 Requests\.\n\Z", text, re.M)
    assert re.search(rf"(?m)^{filled.id_of('ben@a.test')} +\d+ \w\w\w \w\w\w [ \d]\d [\d:]+ ben@a\.test$", text)
    assert re.search(r"(?m)^\w+ +3\d\d\d .* ann@a\.test\n +r1@one\.test\n +r2@two\.test\n\n", text)
    assert filled.run("mailq").stdout == filled.run("sendmail", "-bp").stdout == filled.run("postqueue", "-p").stdout == text
    found = {m["sender"]: m for m in filled.list()}
    assert set(found) == {"ann@a.test", "ben@a.test", "cat@b.test", ""}
    assert found["ben@a.test"]["state"] == "deferred" and found["ben@a.test"]["recipients"][0]["address"] == "r3@One.test"
    lines = [json.loads(x) for x in filled.run("postqueue", "-j").stdout.splitlines()]
    assert [x["queue_name"] for x in lines] == ["deferred"] * 4
    assert lines[3]["sender"] == "MAILER-DAEMON" and lines[0]["recipients"][1] == {"address": "r2@two.test"}


def test_what_is_not_there_is_said(filled):
    assert filled.postrider("list", "--sender", "zoe@a.test").stdout == "No message in the queue is like that\n"
    done = filled.postrider("hold", "4jXnt01LHBzMW7", "4jXnt01LHBzMW8", check=False)
    assert done.returncode == os.EX_DATAERR and "none of these 2 messages is in the queue" in done.stderr


def test_chooses(filled):
    for args, expect in ((["--sender", "ANN@a.test"], ["ann"]), (["--sender", "@a.test"], ["ann", "ben"]),
                         (["--sender", "<>"], [""]), (["--recipient", "r2@two.test"], ["ann"]),
                         (["--recipient", "@three.test"], ["", "cat"]), (["--destination", "one.test"], ["ann", "ben"]),
                         (["--older", "1h"], []), (["--younger", "1w", "--sender", "@b.test"], ["cat"]),
                         (["--state", "active"], []), (["--state", "hold"], []), (["nosuchid"], []),
                         ([filled.id_of("cat@b.test"), filled.id_of("ben@a.test")], ["ben", "cat"])):
        assert filled.senders(*args) == expect, args
    for bad in (["--older", "soon"], ["--state", "lost"], ["--sender"], ["--what", "x"]):
        assert filled.postrider("list", *bad, check=False).returncode == os.EX_USAGE


def test_counts_by_destination_and_age(filled):
    text = filled.postrider("list", "--by-destination").stdout
    assert re.search(r"^ +T +5 +10 +20 +40 +80 +160 +320 +640 +1280 +1280\+\n +TOTAL +6 +6( +0){9}\n", text)
    assert re.findall(r"(?m)^ +([a-zA-Z]\S*) +(\d)", text)[1:4] == [("TOTAL", "6"), ("one.test", "2"), ("three.test", "2")]
    rows = {r["destination"]: r for r in json.loads(filled.postrider("list", "--by-destination", "--json").stdout)}
    assert rows["one.test"]["recipients"] == 2 and rows["two.test"]["ages"] == [1] + [0] * 9
    ages = json.loads(filled.postrider("list", "--by-age", "--json", "--sender", "@a.test").stdout)
    assert ages[0]["messages"] == 2 and ages[0]["recipients"] == 3 and ages[0]["bytes"] > 3000
    assert [a["under_minutes"] for a in ages] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, None]
    assert re.search(r"(?m)^ +under 5 min +4 +6 ", filled.postrider("list", "--by-age").stdout)


def test_shows_one(filled):
    id = filled.id_of("ann@a.test")
    text = filled.postrider("show", id).stdout
    assert f"id: {id}\nsender: ann@a.test\n" in text and "state: deferred\nwhy: " in text
    assert "recipient: r1@one.test\n\tattempts: 0\n" in text
    assert "Received: by mail.example.test" in text and "Subject: to 2\n" in text and "xxx" not in text
    assert json.loads(filled.postrider("show", id, "--json").stdout)[0]["id"] == id
    whole = filled.run("postcat", "-q", id).stdout
    assert whole.startswith("*** ENVELOPE RECORDS deferred/" + id + " ***\n") and "\n\n" + "x" * 3000 + f"\n*** HEADER EXTRACTED deferred/{id} ***\n" in whole
    assert filled.run("postcat", "-bq", id).stdout == "\n" + "x" * 3000 + "\n"
    head = filled.run("postcat", "-h", "-q", id).stdout
    assert head.startswith("Received: ") and head.endswith("Subject: to 2\n")
    assert filled.run("postcat", "-bh", "-q", id).stdout == head + "\n" + "x" * 3000 + "\n"
    for bad in ("nosuch", id[:-1], id + "x", "../../etc"):
        assert f"there is no message {bad}" in filled.postrider("show", bad, check=False).stderr
        filled.run("postcat", "-q", bad, status=1)


def test_prints_nothing_that_a_terminal_obeys(queue):
    """U+009B is as good as ESC [; SMTPUTF8 lets it into addresses."""
    said = ("EHLO x\r\nMAIL FROM:<evil\u009b2J@elsewhere.test> SMTPUTF8 ENVID=e\r\n"
            "RCPT TO:<victim\u009b31m@elsewhere.test>\r\nBDAT 6 LAST\r\nT: 1\r\nQUIT\r\n")
    assert "queued as" in queue.run("sendmail", "-bs", input=said).stdout
    (found,) = [m["id"] for m in queue.list()]
    for done in (queue.run("mailq"), queue.run("postcat", "-eq", found), queue.postrider("show", found), queue.postrider("list")):
        shown = done.stdout.split("\nReceived:")[0]         # a message is shown as it is
        assert "evil" in shown
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown), shown
    queue.postrider("delete", "ALL")


def test_shows_a_large_one(queue):
    queue.submit("large@a.test", ["r@one.test"], "0123456789\n" * 100000)
    body = queue.run("postcat", "-bq", queue.id_of("large@a.test")).stdout
    assert body == "\n" + "0123456789\n" * 100000


@pytest.mark.parametrize("choice, left", [
    (["--sender", "@a.test"], ["", "cat"]), (["--recipient", "r5@three.test"], ["ann", "ben", "cat"]),
    (["--destination", "one.test", "--sender", "ben@a.test"], ["", "ann", "cat"]),
    (["--older", "1d"], ["", "ann", "ben", "cat"]), (["--younger", "1d", "--sender", "<>"], ["ann", "ben", "cat"]),
    (["ALL"], []), (["ALL", "--state", "deferred"], [])])
def test_deletes_what_is_chosen(filled, choice, left):
    count = 4 - len(left)
    done = filled.postrider("delete", *choice)
    assert done.stdout == f"{count} message{'' if count == 1 else 's'}\n"
    assert filled.senders() == left


def test_deletes_by_id(filled):
    a, b = filled.id_of("ann@a.test"), filled.id_of("ben@a.test")
    assert json.loads(filled.postrider("delete", a, b, "nosuch", "--json").stdout) == {"count": 2}
    done = filled.postrider("delete", a, check=False)
    assert done.returncode == os.EX_DATAERR and f"there is no message {a}" in done.stderr
    assert filled.postrider("delete", check=False).returncode == os.EX_USAGE
    assert filled.senders() == ["", "cat"]
    filled.mail.wait_log(f"{a}: removed")


def test_holds_and_releases(tmp_path):
    """What is held stays, through flush and restart of every process, until it is released; then it goes."""
    with asleep(tmp_path) as q:
        hold_and_release(fill(q))


def hold_and_release(filled):
    cat = filled.id_of("cat@b.test")
    assert filled.postrider("hold", "--sender", "cat@b.test").stdout == "1 message\n"
    assert filled.senders("--state", "hold") == ["cat"]
    assert f"{cat}!" in filled.run("mailq").stdout
    assert "why: somebody put it on hold" in filled.postrider("show", cat).stdout
    filled.postrider("flush")
    assert filled.senders("--state", "hold") == ["cat"]
    filled.wake()
    filled.mail.stop()
    filled.mail.start()
    filled.postrider("flush", cat, check=False)
    wait_for("the others to be gone", lambda: filled.senders() == ["cat"])
    assert not delivered(filled)
    assert filled.postrider("release", "ALL").stdout == "1 message\n"
    wait_for("its delivery", lambda: delivered(filled))


def delivered(q):
    """Whether alice has the message itself, not one that tells of it."""
    heads = [open(f, "rb").read().split(b"\n\n")[0] for f in q.mail.messages("alice@example.test")]
    return any(b"\nSubject: to 2" in head for head in heads)


def test_postsuper(filled):
    ids = [filled.id_of(s) for s in ("ann@a.test", "ben@a.test")]
    assert filled.run("postsuper", "-h", "ALL", "deferred").stderr == "postsuper: Placed on hold: 4 messages\n"
    assert filled.senders("--state", "hold") == ["", "ann", "ben", "cat"]
    assert filled.run("postsuper", "-H", ids[0]).stderr == f"postsuper: {ids[0]}: released from hold\npostsuper: Released from hold: 1 message\n"
    assert filled.run("postsuper", "-r", "ALL", "hold").stderr == "postsuper: Requeued: 3 messages\n"
    assert filled.senders("--state", "hold") == []
    done = filled.run("postsuper", "-d", "-", input="\n".join(ids) + "\n")
    assert done.stderr == "".join(f"postsuper: {id}: removed\n" for id in ids) + "postsuper: Deleted: 2 messages\n"
    assert filled.run("postsuper", "-d", "nosuch").stderr == filled.run("postsuper", "-d", "-").stderr == "postsuper: Deleted: 0 messages\n"
    assert filled.run("postsuper", "-d", "ALL").stderr == "postsuper: Deleted: 2 messages\n"
    assert filled.run("mailq").stdout == "Mail queue is empty\n" and filled.run("postqueue", "-j").stdout == ""
    filled.run("postsuper", "-d", status=1)
    filled.run("postsuper", "-d", "ALL", "nosuchqueue", status=1)


def test_postqueue(filled):
    filled.run("postqueue", "-f")
    assert filled.run("sendmail", "-q").stdout == ""      # cron would mail it
    filled.run("postqueue", "-i", filled.id_of("ann@a.test"))
    filled.run("sendmail", "-qI" + filled.id_of("ann@a.test"))
    filled.run("postqueue", "-s", "one.test")
    filled.run("sendmail", "-qRone.test")
    assert "no message nosuch" in filled.run("postqueue", "-i", "nosuch").stderr
    for bad in ([], ["-p", "-f"], ["-p", "more"], ["-x"]):
        filled.run("postqueue", *bad, status=os.EX_UNAVAILABLE)
    assert len(filled.list()) == 4


def test_the_small_program_hands_over_what_it_cannot_do(filled):
    """postrider-client: the queue's commands are its own, all others those of postrider beside it."""
    if CLIENT == BINARY:
        pytest.skip("postrider-client was not built")
    def client(*args):
        return subprocess.run([CLIENT, "-c", filled.mail.dir, *args], capture_output=True, text=True, timeout=120)
    assert len(json.loads(client("queue", "list", "--json").stdout)) == 4
    assert {p["name"] for p in json.loads(client("status", "--json").stdout)["processes"]} >= {"queue", "relay"}
    assert client("user", "list").stdout == filled.mail.command("user", "list").stdout
    unknown = client("nonsense")
    assert unknown.returncode == os.EX_USAGE and "there is no command" in unknown.stderr
    filled.run("sendmail", "-bi")
    assert "NEEDED" not in "".join(line for line in subprocess.run(["readelf", "-d", CLIENT], capture_output=True, text=True).stdout.splitlines()
                                   if re.search(r"lib(ssl|crypto|sqlite3|unbound|gsasl|pcre2)", line))


def test_many(queue):
    """More than a page, more than a batch; a bar where somebody looks, nothing where nobody does."""
    queue.many(2500)
    assert len(queue.list()) == 2500 and len(queue.run("postqueue", "-j").stdout.splitlines()) == 2500
    assert json.loads(queue.postrider("list", "--by-age", "--json").stdout)[0]["messages"] == 2500
    done = queue.postrider("delete", "--sender", "many3@elsewhere.test")
    assert done.stdout == "250 messages\n" and done.stderr == ""
    assert queue.run("postsuper", "-d", "ALL").stderr == "postsuper: Deleted: 2250 messages\n"
    assert queue.list() == []


def killed_at_work(queue, faults, *args):
    """The command, with the queue killed when the first of its steps is on the disk."""
    faults.arm("queue.flushed")
    queue.postrider(*args, check=False)
    faults.wait_used("queue.flushed")
    wait_for("a queue that answers", lambda: queue.postrider("list", "--json", check=False).returncode == 0)
    return queue.list()


def test_killed_while_acting_on_all(tmp_path, monkeypatch):
    """Each message is as it was, or as it was to be; what is deleted stays so, and its file goes."""
    faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", faults.dir)
    with asleep(tmp_path) as queue:
        queue.many(1300)
        ids = {m["id"] for m in queue.list()}
        assert len(ids) == 1300
        held = killed_at_work(queue, faults, "hold", "ALL")
        assert {m["id"] for m in held} == ids and {m["state"] for m in held} <= {"deferred", "hold"}
        assert sum(m["state"] == "hold" for m in held) >= 500
        queue.postrider("hold", "ALL")
        assert {m["id"] for m in queue.list("--state", "hold")} == ids
        left = {m["id"] for m in killed_at_work(queue, faults, "delete", "ALL")}
        assert left < ids and len(left) <= 800
        for id in sorted(left)[:3]:
            assert queue.run("postcat", "-q", id).stdout
        queue.postrider("delete", "ALL")
        assert queue.list() == []
        files = os.path.join(queue.mail.dir, "spool", "queue", "msgs")
        wait_for("the files to be removed", lambda: not os.listdir(files))
        queue.wake()
    faults.close()


def has_socket(process):
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{process.pid}/fd/{fd}").startswith("socket:"):
                return True


def watched(queue, *args):
    """Output of a command and what its terminal shows, when the queue lets it wait for more than a second."""
    terminal, other = pty.openpty()
    process = queue.mail.pid_of("queue")
    os.kill(process, signal.SIGSTOP)
    try:
        command = subprocess.Popen([BINARY, "-c", queue.mail.dir, "queue", *args], stdout=subprocess.PIPE, stderr=other, text=True)
        os.close(other)
        wait_for("the command to ask", lambda: has_socket(command))
        time.sleep(1.1)                  # its patience, which began before
    finally:
        os.kill(process, signal.SIGCONT)
    out = command.communicate(timeout=120)[0]
    assert command.returncode == 0
    shown = b""
    with contextlib.suppress(OSError):   # EIO: nobody has the other end any more
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    return out, shown.decode()


def test_who_waits_sees_how_far_it_is(queue):
    queue.many(1200)
    out, shown = watched(queue, "list", "--by-destination")
    assert re.search(r"TOTAL +1200 ", out) and re.match(r"\rcounting: \d+\x1b\[K", shown) and shown.endswith("\r\x1b[K")
    for words, bar in ((["hold", "--sender", "many3@elsewhere.test"], "holding: "), (["delete", "ALL"], "deleting: ")):
        out, shown = watched(queue, *words)
        assert re.fullmatch(r"\d+ messages\n", out)
        assert shown.startswith("\r" + bar) and shown.endswith("\r\x1b[K"), shown


def test_nobody_else_looks(queue):
    """Whose mail waits is root's to know (and his who runs the instance)."""
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    let_through(queue.mail.dir)
    let_through(queue.bin)
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", str(queue.bin / "mailq")],
                          capture_output=True, text=True, env=dict(os.environ, POSTRIDER_CONFIG=queue.mail.dir))
    assert done.returncode != 0 and "does not answer to everybody" in done.stderr and "claimed.test" not in done.stdout


def test_not_running(stopped, tmp_path):
    (tmp_path / "mailq").symlink_to(BINARY)
    done = subprocess.run([str(tmp_path / "mailq"), "-C", stopped.dir], capture_output=True, text=True)
    assert done.returncode == os.EX_UNAVAILABLE and "is not running" in done.stderr
