"""postrider trace: the story of a message, told from the log that the system itself wrote."""

import gzip
import json
import os
import re
import subprocess

from instance import BINARY


def trace(mail, *args, **more):
    return mail.command("trace", *args, **more)


def test_a_message_from_accept_to_each_delivery(mail):
    mail.send("alice@example.test", sender="ann@elsewhere.test")
    id = mail.wait_log(r"/qmgr\[\d+\]: (\w+): removed").group(1)
    story = trace(mail, id).stdout
    told = [line[17:].strip() for line in story.splitlines()]
    assert told[0] == f"{id}: received from localhost[127.0.0.1]"
    assert re.fullmatch(rf"{id}: taken: from <ann@elsewhere\.test>, \d+ bytes, 1 recipient", told[2])
    assert re.fullmatch(rf"{id}: delivered to <alice@example\.test> by the store after [\d.]+ s: delivered to mailbox", told[3])
    assert told[4] == f"{id}: done: nothing of it waits any more" and len(told) == 5
    assert trace(mail, "ann@elsewhere.test").stdout == trace(mail, "ALICE@example.test").stdout == story
    events = json.loads(trace(mail, id, "--json").stdout)
    assert [e["program"] for e in events] == ["smtpd", "cleanup", "qmgr", "virtual", "qmgr"] and {e["id"] for e in events} == {id}


def test_through_the_queue_to_the_bounce(mail):
    """A message that goes into the queue under another id, and what is told of it."""
    subprocess.run([BINARY, "-c", mail.dir, "sendmail", "-f", "bob", "alice", "nobody-here"], input=b"Subject: t\n\n", check=True,
                   env=dict(os.environ, POSTRIDER_CONFIG=mail.dir))
    mail.wait_messages("bob@example.test", 1)
    mail.wait_log(r"status=bounced")
    story = trace(mail, "nobody-here@example.test").stdout
    assert "submitted on this machine by the user with uid" in story and "as <bob>" in story
    assert "will never be delivered to <nobody-here@example.test>: " in story
    assert "told of by another message: " in story


def test_a_refusal_is_told_of_its_address(mail):
    with mail.smtp() as s:
        s.ehlo()
        s.mail("ann@elsewhere.test")
        assert s.rcpt("nobody@example.test")[0] == 550
    mail.wait_log("NOQUEUE: reject")
    assert re.search(r"NOQUEUE: refused at RCPT from .*User unknown", trace(mail, "nobody@example.test").stdout)


def test_nothing_known(stopped):
    done = trace(stopped, "4jXnt01LHBzMW7", check=False)
    assert done.returncode == os.EX_NOINPUT and "cannot read the log" in done.stderr
    open(stopped.log_path, "w").write("not a line of ours\n\0\nNov 23 x\n" + "Nov 23 01:10:00 vm postrider/smtpd[1]: \n" * 3)
    done = trace(stopped, "4jXnt01LHBzMW7", check=False)
    assert done.returncode == os.EX_DATAERR and "says nothing of" in done.stderr
    assert trace(stopped, check=False).returncode == os.EX_USAGE
    assert trace(stopped, "x@y", "--log", "/nonexistent", check=False).returncode == os.EX_NOINPUT


def test_what_was_rotated_away_is_read_too(mail):
    """A message that waits for days: its story begins in a log of last week, and times are written in two ways."""
    mail.send("alice@example.test", sender="ann@elsewhere.test")
    id = mail.wait_log(r"/qmgr\[\d+\]: (\w+): removed").group(1)
    story = trace(mail, id).stdout
    lines = [line for line in mail.log().splitlines(keepends=True) if id in line]
    iso = ["2026-11-20T01:10:00.123456+00:00" + line[15:] for line in lines]
    with gzip.open(mail.log_path + ".2.gz", "wt") as f:
        f.write("".join(iso[:2]))
    open(mail.log_path + ".1", "w").write("".join(lines[2:3]) + "no line of ours, and no end of it: " + "x" * 100000)
    open(mail.log_path + ".old", "w").write("".join(lines) * 3)      # is not one of them
    os.truncate(mail.log_path, 0)
    open(mail.log_path, "w").write("".join(lines[3:]))
    told = trace(mail, id).stdout.splitlines()
    assert told[:2] == ["2026-11-20T01:10:00.123456+00:00" + line[15:] for line in story.splitlines()[:2]]
    assert told[2:] == story.splitlines()[2:]
    # By hand, in front of what is asked for or behind it; what is damaged is said.
    assert trace(mail, "--log", mail.log_path + ".2.gz", id, "--log", mail.log_path + ".1").stdout.splitlines() == told[:3]
    done = trace(mail, "4jXnt01LHBzMW7", check=False)
    assert done.returncode == os.EX_DATAERR and "and 2 other logs say nothing of 4jXnt01LHBzMW7" in done.stderr
    open(mail.log_path + ".2.gz", "r+b").write(b"\x1f\x8b\x08\x00garbage garbage")
    assert ".2.gz is damaged" in trace(mail, id, check=False).stderr
