"""postrider trace: the story of a message, told from the log that the system itself wrote."""

import gzip
import json
import os
import re
import subprocess

import pytest

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


# ---- where the log is syslog's ----

@pytest.fixture
def journal(mail, tmp_path):
    """A story that stands in the journal alone, told by a journalctl of the test's own."""
    mail.send("alice@example.test", sender="ann@elsewhere.test")
    id = mail.wait_log(r"/qmgr\[\d+\]: (\w+): removed").group(1)
    story = [line[17:] for line in trace(mail, id).stdout.splitlines()]
    lines = [line for line in mail.log().splitlines() if id in line]
    bin = tmp_path / "bin"
    bin.mkdir()
    mail.configure(maillog_file="")

    def ask(script, *args, tool=True, prefix=()):
        path = bin / "journalctl"
        path.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/said\n" + script)
        path.chmod(0o755 if tool else 0o644)
        return subprocess.run([*prefix, BINARY, "-c", mail.dir, "trace", *args], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, PATH=f"{bin}:/usr/bin:/bin" if tool else str(bin), TMPDIR=str(tmp_path)))
    ask.id, ask.lines, ask.story, ask.said = id, lines, story, tmp_path / "said"
    return ask


def told(done):
    assert done.returncode == 0, done.stderr
    return [line.split("  ", 1)[1] for line in done.stdout.splitlines()]


def test_the_journal_is_asked(journal):
    iso = "\n".join(re.sub(r"^.{15}", "2026-11-24T00:51:33+0000", line) for line in journal.lines)
    done = journal(f"cat <<'EOF'\n-- Boot 1234 --\n{iso}\nEOF\n", "alice@example.test")
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["2026-11-24T00:51:33+0000"] * 5
    assert told(done) == journal.story
    assert journal.said.read_text() == "--no-pager --output=short-iso _COMM=postrider\n"
    # What a service wrote to its standard error stands inside of another line.
    inside = "\n".join("2026-11-24T00:51:33+0000 vm postrider[4711]: " + line for line in journal.lines)
    assert told(journal(f"cat <<'EOF'\n{inside}\nEOF\n", journal.id)) == journal.story
    # What is asked for is no word of its command line.
    done = journal("echo '-- No entries --'\n", "x; id >/tmp/x $(id)@y.test")
    assert done.returncode == os.EX_DATAERR and "the systemd journal says nothing of x; id" in done.stderr
    assert journal.said.read_text() == "--no-pager --output=short-iso _COMM=postrider\n"


def test_a_journal_that_does_not_tell_is_told(journal):
    done = journal("echo 'Hint: You are currently not seeing messages from other users and the system.' >&2\n", journal.id)
    assert done.returncode == os.EX_DATAERR and "this user sees a part of it only: ask as root" in done.stderr
    done = journal("echo 'No journal files were opened due to insufficient permissions.' >&2\nexit 1\n", journal.id)
    assert done.returncode == os.EX_NOINPUT, done.stderr
    assert "journalctl: No journal files were opened due to insufficient permissions; say with --log FILE" in done.stderr
    done = journal("kill -9 $$\n", journal.id)
    assert done.returncode == os.EX_NOINPUT and "journalctl failed" in done.stderr
    done = journal("", journal.id, tool=False)
    assert done.returncode == os.EX_NOINPUT and "journalctl" in done.stderr, done.stderr


def test_without_a_journal_the_file_of_syslog_is_read(journal, tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    (tmp_path / "mail.log").write_text("\n".join(journal.lines) + "\n")
    script = f'mount -t tmpfs none /var/log && cp {tmp_path}/mail.log /var/log/ && exec "$@"'
    for fake in ("exit 1\n", "echo '-- No entries --'\n"):
        assert told(journal(fake, journal.id, prefix=("unshare", "-m", "sh", "-c", script, "sh"))) == journal.story


def test_a_service_of_systemd_logs_by_syslog(stopped, monkeypatch):
    """Its standard error is the journal's own socket, where a line would stand inside of another one."""
    stopped.configure(maillog_file="")
    path = stopped.dir + "/run.out"
    open(path, "w").close()
    st = os.stat(path)
    monkeypatch.setenv("JOURNAL_STREAM", f"{st.st_dev}:{st.st_ino}")
    stopped.start().stop()
    assert "postrider/master" not in open(path).read()
    monkeypatch.setenv("JOURNAL_STREAM", f"{st.st_dev}:{st.st_ino + 1}")
    stopped.start().stop()
    assert "postrider/master" in open(path).read()
