"""postqueue, postsuper, postcat, mailq and qshape beside Debian's own, on the same mail: what scripts read must look the same."""
import json
import os
import re
import smtplib
import subprocess

import pytest

from instance import BINARY, Instance, let_through, wait_for
from mtas import Postfix
from smtpserver import certificate

NOWHERE = "smtp:[127.0.0.1]:1"
PROGRAMS = ("postqueue", "postsuper", "postcat", "mailq", "qshape")
LONG = "x" * 90
MAIL = [("ann@a.test", ["r1@far.test", "r2@other.test"], "y" * 70), ("", ["r3@far.test"], ("z" * 70 + "\r\n") * 60),
        ("cat@c.test", [f"{LONG}@far.test"], "x")]


class Side:
    def __init__(self, name, address, port, run):
        self.name, self.address, self.port, self.run = name, address, port, run

    def send(self):
        for sender, rcpts, body in MAIL:
            with smtplib.SMTP(self.address, self.port, timeout=60, local_hostname="client.test") as s:
                s.sendmail(sender, rcpts, f"Subject: to {len(rcpts)}\r\nFrom: <x@a.test>\r\n\r\n{body}\r\n")
        wait_for(f"{self.name} to put all off", lambda: sum(bool(r.get("delay_reason")) for m in self.list() for r in m["recipients"]) == 4, 60)
        wait_for(f"{self.name} to rest", lambda: {m["queue_name"] for m in self.list()} == {"deferred"}, 60)
        self.ids = {m["sender"]: m["queue_id"] for m in self.list()}

    def list(self):
        return [json.loads(line) for line in self.run("postqueue", "-j").stdout.splitlines()]

    def plain(self, text):
        """Without what is each system's own: ids, and the width of their column."""
        for sender, queue_id in self.ids.items():
            text = re.sub(rf"{queue_id}([*!#]?) +(?=\d)", lambda m: f"<{sender}>{m[1]} ", text).replace(queue_id, f"<{sender}>")
        text = re.sub(r"(?m)^ *\((delivery temporarily suspended: )?(.*)\)$", r"(\2)", text)
        return re.sub(r"\b[A-Z][a-z][a-z] [A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d( \d{4})?", "WHEN", text)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root")
    top = tmp_path_factory.mktemp("both")
    let_through(top)
    postfix = Postfix(str(top), certificate(str(top), "mx.test"))
    etc = os.path.join(postfix.dir, "etc")

    def theirs(program, *args, input=""):
        where = "-C" if program == "mailq" else "-c"
        return subprocess.run([program, where, etc, *args], input=input, capture_output=True, text=True, timeout=60)

    def ours(program, *args, input=""):
        where = "-C" if program == "mailq" else "-c"
        return subprocess.run([str(top / program), where, mail.dir, *args], input=input, capture_output=True, text=True, timeout=60)
    for program in PROGRAMS:
        (top / program).symlink_to(BINARY)
    with Instance(top / "mail", settings={"default_transport": NOWHERE, "minimal_backoff_time": "300s"}) as mail:
        mail.start()
        try:
            postfix.start(1, f"default_transport = {NOWHERE}\nenable_long_queue_ids = yes\n")
            postfix.wait_ready()
            sides = [Side("postfix", postfix.address, postfix.port, theirs), Side("postrider", "127.0.0.1", mail.ports["smtp"], ours)]
            for side in sides:
                side.empty = [side.run("postqueue", "-p"), side.run("postqueue", "-j"), side.run("mailq")]
                side.send()
            yield sides
        finally:
            postfix.stop()


def entries(text):
    """Of a listing: its first line, what belongs to each message, its last."""
    head, *rest = text.split("\n\n")[0].split("\n")
    blocks = ["\n".join(rest), *text.split("\n\n")[1:]]
    return head, sorted(b for b in blocks[:-1]), blocks[-1]


def test_a_listing_has_the_same_columns(both):
    assert [[(d.stdout, d.returncode) for d in side.empty] for side in both][0] == [(d.stdout, d.returncode) for d in both[1].empty]
    texts = [side.run("postqueue", "-p").stdout for side in both]
    heads = [entries(t) for t in texts]
    assert heads[0][0] == heads[1][0]
    shapes = []
    for side, text in zip(both, texts):
        assert text == side.run("mailq").stdout
        for line in re.findall(r"(?m)^\w\S+[*!#]? .*$", text):
            queue_id, size, when, sender = line[:17], line[17:26], line[26:47], line[47:]
            assert re.fullmatch(r"\w+[*!#]? *", queue_id) and re.fullmatch(r" +\d+", size) and re.fullmatch(r" \w{3} \w{3} [ \d]\d [\d:]{8} ", when)
            assert sender in side.ids, line
        # Reasons stand on the right, or begin on the left.
        assert all(len(line) == 78 or line[0] == "(" for line in re.findall(r"(?m)^ *\(.*\)$", text))
        shapes.append([re.sub(r"(?m)^(<.*?>.? )\d+ ", r"\1SIZE ", side.plain(b)) for b in entries(text)[1]])
    assert sorted(shapes[0]) == sorted(shapes[1])
    assert all(re.fullmatch(r"-- \d+ Kbytes in 3 Requests\.\n", h[2]) for h in heads)


def test_a_line_of_json_has_the_same_keys(both):
    theirs, ours = [{m["sender"]: m for m in side.list()} for side in both]
    assert set(theirs) == set(ours)
    for sender in theirs:
        a, b = theirs[sender], ours[sender]
        assert list(a) == list(b) and [type(v) for v in a.values()] == [type(v) for v in b.values()]
        reasons = [[(r["address"], r["delay_reason"].replace("delivery temporarily suspended: ", "")) for r in m["recipients"]] for m in (a, b)]
        assert reasons[0] == reasons[1] and all(list(r) == ["address", "delay_reason"] for m in (a, b) for r in m["recipients"])
        assert (a["forced_expire"], a["queue_name"]) == (b["forced_expire"], b["queue_name"])
        assert abs(a["arrival_time"] - b["arrival_time"]) < 300 and abs(a["message_size"] - b["message_size"]) < 500
    assert both[0].run("postqueue", "-j").stdout[:15] == both[1].run("postqueue", "-j").stdout[:15]


@pytest.mark.parametrize("args", [("deferred",), ("-s", "deferred"), ("hold",), ()])
def test_qshape_counts_alike(both, args):
    """The same table, but for the order of those of which there are as many."""
    theirs, ours = [side.run("qshape", *args) for side in both]
    assert ours.returncode == theirs.returncode == 0 and sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
    assert ours.stdout.splitlines()[:2] == theirs.stdout.splitlines()[:2]


# What is released is tried, and when is each one's own affair: such steps stand at the end.
STEPS = [("-h", "ann"), ("-h", "ann"), ("-d", "nosuch"), ("-d", "bad-id!"), ("-e", "cat"), ("-e", "cat"), ("-h", "-"), ("-d", "empty"),
         ("-r", "ALL", "nosuchqueue"), ("-d",), ("-Z",), ("-p",), ("-d", "-"), ("-h", "ALL", "deferred"), ("-d", "ALL", "deferred"), ("-f", "null"), ("-f", "ann")]


def test_what_postsuper_does_it_says_alike(both):
    """Held, expired, deleted, released: the same words and exit statuses, the same listing in between."""
    seen = []
    for side in both:
        said = []
        names = {"ann": side.ids["ann@a.test"], "cat": side.ids["cat@c.test"], "null": side.ids["MAILER-DAEMON"]}
        for step in STEPS:
            ids = "xx yy\n\n" if step[1:] == ("empty",) else "\n".join([names["ann"], "ABC", names["cat"]]) + "\n"
            done = side.run("postsuper", *({"empty": "-"}.get(a, names.get(a, a)) for a in step), input=ids)
            words = [line for line in side.plain(done.stderr).splitlines()
                     if not re.match("postsuper: fatal|usage|.*: (invalid option|option requires)|postrider", line)]
            states = sorted((m["sender"], m["queue_name"], m["forced_expire"]) for m in side.list()) if step[0] != "-f" else None
            said.append((step, done.returncode, sorted(words), states))
        seen.append(said)
        wait_for("an empty queue", lambda: side.run("postsuper", "-d", "ALL").returncode == 0 and side.list() == [])
    for theirs, ours in zip(*seen):
        assert theirs == ours
    assert [w for s in seen[1] for w in s[2] if "<MAILER-DAEMON>" in w] == ["postsuper: <MAILER-DAEMON>: expired", "postsuper: <MAILER-DAEMON>: released from hold"]


def test_postcat_writes_what_scripts_look_for(both):
    for side in both:
        side.send()
    theirs, ours = [{flags: side.run("postcat", flags, side.ids["ann@a.test"]) for flags in ("-q", "-hq", "-bq", "-eq", "-bhq")} for side in both]
    assert ours["-bq"].stdout == theirs["-bq"].stdout
    for flags in ("-hq", "-bhq"):
        a, b = [re.sub(r"(?m)^(Received|Message-Id|Date): .*\n([ \t].*\n)*", "", x[flags].stdout) for x in (theirs, ours)]
        assert b == a
    for flags in ("-q", "-eq"):
        marks = [re.findall(r"(?m)^\*\*\* .*", side.plain(x[flags].stdout).replace("/A/", "/").replace("deferred/", "")) for side, x in zip(both, (theirs, ours))]
        assert [re.sub(r"\b\w/(?=<)", "", m) for m in marks[0]] == marks[1] and len(marks[1]) == 4
        for name in ("sender", "recipient", "original_recipient"):
            a, b = [re.findall(rf"(?m)^{name}: (.*)$", x[flags].stdout) for x in (theirs, ours)]
            assert a == b and a, name
        a, b = [re.findall(r"(?m)^message_size: .*$|^message_arrival_time: |^create_time: ", x[flags].stdout) for x in (theirs, ours)]
        assert len(a[0]) == len(b[0]) and a[1:] == b[1:]
    for bad in (("-q", "nosuch"), ("-Z",)):
        assert both[0].run("postcat", *bad).returncode == both[1].run("postcat", *bad).returncode != 0, bad


@pytest.mark.parametrize("args", [(), ("-p", "x"), ("-x",), ("-p", "-j"), ("-i", "nosuch"), ("-f",)])
def test_exit_statuses_of_postqueue(both, args):
    assert both[0].run("postqueue", *args).returncode == both[1].run("postqueue", *args).returncode
