"""Disks that are full, read-only or garbled: nothing that was answered 250 is lost, and the rest is refused in time."""

import os
import re
import shutil
import smtplib
import sqlite3

import pytest

from damage import flip, index_of, places_of, prepare, state_of, state_within
from disks import MB, disk                                                  # noqa: F401 (a fixture)
from instance import Instance, wait_for
from test_crash import message, send_until_accepted, subjects
from test_disk import send_until_refused


def test_a_full_disk_refuses_in_time_and_recovers(tmp_path, disk):
    small = disk(tmp_path / "mail", "220m")
    with Instance(tmp_path / "mail", settings={"message_size_limit": "1000000"}) as m:
        m.user("bob@example.test")
        m.start()
        send_until_accepted(m, "first")
        small.fill(16 * MB)
        accepted, (code, text) = send_until_refused(m, (f"n{i}" for i in range(1000)), 60_000)
        assert code == 452 and text.startswith(b"4.3.1"), (code, text)
        expected = {name: 1 for name in ["first", *accepted]}
        assert subjects(m, "bob@example.test") == expected

        # Reading and making room go on; so does everything after a crash right now.
        box = m.imap("bob@example.test")
        box.select()
        assert box.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
        assert box.expunge()[0] == "OK"
        del expected["first"]
        assert box.append("INBOX", None, None, message("appended", 60_000).encode())[0] == "NO"
        box.logout()
        m.kill()
        m.start()
        assert subjects(m, "bob@example.test") == expected
        code = send_until_refused(m, ["never"], 60_000)[1][0]
        assert code == 452

        small.empty()
        send_until_accepted(m, "last")
        expected["last"] = 1
        assert subjects(m, "bob@example.test") == expected
        assert m.stop() == 0
        assert len(m.messages("bob@example.test")) == len(expected)


@pytest.mark.parametrize("left", [16 * MB, pytest.param(0, marks=pytest.mark.skipif(
    not os.environ.get("DISK_ALL"), reason="a minute until it is tried again: make torture runs it"))], ids=["some", "none"])
def test_the_postmaster_is_told_of_a_full_disk(tmp_path, disk, left):
    """With what is told by default. Where not even that finds room, it waits in memory for some, and for a session."""
    small = disk(tmp_path / "mail", "220m")
    with Instance(tmp_path / "mail", settings={"message_size_limit": "1000000", "notify_classes": None}) as m:
        m.user("bob@example.test")                      # the first user is the postmaster, too
        m.start()
        send_until_accepted(m, "first")
        small.fill(left)
        code = send_until_refused(m, (f"n{i}" for i in range(1000)), 60_000)[1][0]
        assert code == 452
        small.empty()

        def told():
            m.smtp().quit()
            return [text for path in m.messages("bob@example.test")
                    if "4.3.1 Insufficient system storage" in (text := open(path).read()) and '"resource"' in text]
        text = wait_for("the notice", told, timeout=120)[0]
        assert "Subject: Postrider: SMTP server: errors from " in text and "In:  rcpt TO:<bob@example.test>" in text
        assert m.stop() == 0


def test_a_disk_that_is_full_to_the_last_byte_loses_nothing(tmp_path, disk):
    """Another program takes the room that was counted on, between the admission and the file."""
    mails = disk(tmp_path / "mail" / "mail", "40m")
    with Instance(tmp_path / "mail", settings={"message_size_limit": "1000000"}) as m:
        m.user("bob@example.test")
        m.start()
        send_until_accepted(m, "first")
        mails.fill(0)
        accepted, (code, _) = send_until_refused(m, (f"n{i}" for i in range(1000)), 20_000)
        assert code == 452
        expected = {name: 1 for name in ["first", *accepted]}
        assert subjects(m, "bob@example.test") == expected
        mails.empty()
        send_until_accepted(m, "last")
        expected["last"] = 1
        assert subjects(m, "bob@example.test") == expected
        assert m.stop() == 0
        assert len(m.messages("bob@example.test")) == len(expected)


def test_read_only_mail_can_be_read(tmp_path, disk):
    mails = disk(tmp_path / "mail" / "mail", "40m")
    with Instance(tmp_path / "mail", settings={"message_size_limit": "1000000"}) as m:
        m.user("bob@example.test")
        m.start()
        send_until_accepted(m, "first")
        m.stop()
        mails.remount("ro")
        m.start()
        assert subjects(m, "bob@example.test") == {"first": 1}
        # What is taken although it cannot be written as a file yet is in the journal or in the queue, and stays there.
        accepted = ["first"]
        for i in range(3):
            try:
                m.send("bob@example.test", text=message(f"n{i}"))
                accepted.append(f"n{i}")
            except smtplib.SMTPRecipientsRefused as e:
                assert all(400 <= code < 500 for code, _ in e.recipients.values())
            except smtplib.SMTPResponseException as e:
                assert 400 <= e.smtp_code < 500
        expected = {name: 1 for name in accepted}
        assert subjects(m, "bob@example.test").items() <= expected.items()
        m.kill()
        mails.remount("rw")
        m.start()
        send_until_accepted(m, "last")
        expected["last"] = 1
        wait_for("all of it", lambda: m.command("queue", "flush") and subjects(m, "bob@example.test") == expected)
        assert m.stop() == 0
        assert len(m.messages("bob@example.test")) == len(expected)


def test_a_store_that_cannot_write_its_journal_says_so(tmp_path, disk):
    journal = disk(tmp_path / "mail" / "spool" / "store", "100m")
    with Instance(tmp_path / "mail") as m:
        m.user("bob@example.test")
        m.start()
        send_until_accepted(m, "first")
        m.stop()
        journal.remount("ro")
        done = m.command("run", check=False)
        assert done.returncode != 0
        assert "Read-only file system" in done.stdout + done.stderr + m.log()
        journal.remount("rw")
        m.start()
        assert subjects(m, "bob@example.test") == {"first": 1}


def journal_files(mail):
    found = []
    for base, _, files in os.walk(os.path.join(mail.dir, "spool")):
        found += [os.path.join(base, f) for f in files if os.path.getsize(os.path.join(base, f)) == 16 * MB]
    return found


@pytest.mark.parametrize("garbage", [b"\xff" * 5000, b"\x00" * 4096 + b"garbage " * 1000, None], ids=["ones", "gap", "half"])
def test_a_garbled_tail_of_the_journal_is_no_end_of_the_rest(stopped, garbage):
    """What a torn write leaves behind the last record."""
    stopped.start()
    for i in range(10):
        stopped.send("bob@example.test", text=message(f"n{i}"))
    stopped.kill()
    paths = journal_files(stopped)
    assert paths
    for path in paths:
        with open(path, "r+b") as f:
            data = f.read().rstrip(b"\x00")
            end = (len(data) + 4095) // 4096 * 4096
            if end == 0:
                continue
            f.seek(end)
            # None: the beginning of what looks like the last block, once more.
            f.write(garbage if garbage is not None else data[-4096:][:3000])
    stopped.start()
    send_until_accepted(stopped, "after")
    assert subjects(stopped, "bob@example.test") == {**{f"n{i}": 1 for i in range(10)}, "after": 1}


def test_accounts_of_a_newer_program_are_refused_with_a_clear_sentence(stopped):
    path = os.path.join(stopped.dir, "directory", "accounts.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for command in (["run"], ["user", "list"]):
        done = stopped.command(*command, check=False)
        assert done.returncode != 0
        text = done.stdout + done.stderr + (stopped.log() if command == ["run"] else "")
        assert re.search(r"schema version 99.*newer Postrider", text), text
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 99
    db.close()


def test_accounts_that_are_damaged_are_refused_with_a_clear_sentence(stopped):
    path = os.path.join(stopped.dir, "directory", "accounts.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    whole = open(path, "rb").read()
    with open(path, "r+b") as f:
        f.write(b"garbage!" * 12)
    for command in (["run"], ["user", "list"]):
        done = stopped.command(*command, check=False)
        assert done.returncode != 0
        text = done.stdout + done.stderr + (stopped.log() if command == ["run"] else "")
        assert re.search(r"accounts\.sqlite is damaged .*restore it from a copy", text), text
    assert open(path, "rb").read()[96:] == whole[96:], "what is left was not touched"
    with open(path, "wb") as f:
        f.write(whole)
    stopped.start()
    send_until_accepted(stopped, "after")


def flip_in_key(mail, account, letter, offset):
    """In each key with that letter, or with an offset above 13 in its value, which stands behind it."""
    for at in places_of(mail, account.to_bytes(8, "big") + letter):
        flip(mail, at + offset, 5)


def test_a_flipped_bit_in_a_record_of_the_index_is_found_and_rebuilt_from_the_files(stopped):
    """UIDs, flags and keywords are what they were; the account beside it is not touched."""
    users = ["bob@example.test", "alice@example.test"]
    stopped.start()
    before = {user: prepare(stopped, user, 6) for user in users}
    assert {len(b[1]) for b in before[users[0]].values()} == {5}
    assert stopped.stop() == 0
    flip_in_key(stopped, 2, b"B", 20)
    stopped.start()
    assert {user: state_of(stopped, user) for user in users} == before
    stopped.wait_log(r"account \d+: (the index holds a damaged value|a record of the index is damaged)")
    stopped.wait_log(r"account \d+: rebuilt from its files: 10 messages in \d mailboxes")
    assert len(re.findall("rebuilt from its files", stopped.log())) == 1
    assert stopped.command("mail", "fsck", "--check", check=False).returncode == 0
    box = stopped.imap(users[0])
    assert box.select("Projects")[0] == "OK"
    uids = max(before[users[0]]["Projects"][1])
    box.append("Projects", None, None, message("new").encode())
    assert max(state_of(stopped, users[0])["Projects"][1]) > uids
    box.logout()


def test_a_damaged_summary_is_made_again(stopped):
    """While the mailbox is open, so that nothing else of the account is read: ENVELOPE, which comes from it, is as before."""
    def envelopes(box):
        status, lines = box.fetch("1:*", "(ENVELOPE)")
        assert status == "OK", lines
        return lines
    stopped.start()
    prepare(stopped, "alice@example.test", 6)
    with stopped.imap("alice@example.test") as box:
        box.select("INBOX", readonly=True)
        before = envelopes(box)
    assert stopped.stop() == 0
    stopped.start()
    with stopped.imap("alice@example.test") as box:
        box.select("INBOX", readonly=True)
        with open(index_of(stopped), "rb") as f:
            index = f.read()
        for at in places_of(stopped, (1).to_bytes(8, "big") + b"M"):
            if index[at + 17] == 1:       # a value stands behind the key: it is not one of a branch of the tree
                flip(stopped, at + 30, 5)
        assert envelopes(box) == before
    stopped.wait_log("account 1: a summary in the index is damaged, it is made again")


@pytest.mark.parametrize("what", ["value", "key of messages", "key of a mailbox"])
def test_a_bit_that_flips_in_the_index_while_the_system_runs_is_found_and_mended(stopped, what):
    """In pages that are mapped and not read yet. A damaged value has its checksum, a key that is not found its count."""
    users = ["alice@example.test", "bob@example.test"]
    stopped.start()
    before = {user: prepare(stopped, user, 6) for user in users}
    assert stopped.stop() == 0
    stopped.start()
    flip_in_key(stopped, 1, b"H" if what == "key of messages" else b"B", 20 if what == "value" else 8)
    for user in reversed(users):
        state_within(stopped, user, before[user], 60)
    stopped.wait_log(r"account 1: rebuilt from its files: 10 messages in \d mailboxes")
    assert len(re.findall("rebuilt from its files", stopped.log())) == 1
    assert stopped.command("mail", "fsck", "--check", check=False).returncode == 0


def test_an_index_whose_root_is_lost_while_the_system_runs_is_made_anew(stopped):
    """Each search fails, and nothing was changed: no checkpoint is due that would fail, too."""
    user = "alice@example.test"
    stopped.start()
    before = prepare(stopped, user, 6)
    assert stopped.stop() == 0
    stopped.start()
    for at in places_of(stopped, b"\x02\0kv\0\0"):       # of an entry: length of the name, name, what LMDB notes of its tree
        flip(stopped, at + 2 + 2 + 47, 2)
    state_within(stopped, user, before, 60)
    stopped.wait_log(r"the index is damaged .*a new one is made from the files and the journal")


def copy_journal(source, target, shift):
    for path in journal_files(source):
        directory, name = os.path.split(path)
        number = int(name.split(".")[1])
        shutil.copy(path, os.path.join(directory.replace(source.dir, target.dir), f"journal.{number + shift}"))


def test_the_journal_of_another_instance_is_refused_and_loses_nothing(stopped, tmp_path):
    """Copied beside ours, as a restored backup does it: nothing in it is taken, for it says what was never done here."""
    with Instance(tmp_path / "other") as other:
        other.user("alice@example.test")
        other.start()
        for i in range(5):
            other.send("alice@example.test", text=message(f"other {i}"))
        other.kill()
        stopped.start()
        for i in range(4):
            stopped.send("bob@example.test", text=message(f"ours {i}"))
        stopped.kill()
        copy_journal(other, stopped, 10)
    expected = {f"ours {i}": 1 for i in range(4)}
    stopped.start()
    assert subjects(stopped, "bob@example.test") == expected
    assert subjects(stopped, "alice@example.test") == {}
    assert re.search(r"journal\.1\d belongs to another journal, nothing in it is taken", stopped.log())
    assert any(".foreign" in f for f in os.listdir(os.path.join(stopped.dir, "spool", "store")))
    send_until_accepted(stopped, "after")
    stopped.kill()
    stopped.start()
    assert subjects(stopped, "bob@example.test") == {**expected, "after": 1}
