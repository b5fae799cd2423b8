"""Other tools at work in a Maildir while it is served: folders that come, go, and are others than before; rm, rsync and
renames beside open sessions. Nothing twice, no flag lost, nothing that comes back for ever, and open sessions are told."""

import os
import shutil
import subprocess
import time

import pytest

from instance import in_thread, wait_for
from test_crash import message, send_until_accepted, subjects

BOB = "bob@example.test"


def names(box):
    return {line.split(b' "/" ')[1].strip(b'"').decode() for line in box.list()[1]}


def told(box, count):
    """The open session learns of it by NOOP alone, without selecting anew."""
    def look():
        box.noop()
        return len(box.search(None, "ALL")[1][-1].split()) == count
    wait_for(f"{count} messages in the open session", look)


def foreign(directory, name, subject, owner_of):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(message(subject).replace("\r\n", "\n"))
    st = os.stat(owner_of)
    os.chown(path, st.st_uid, st.st_gid)


@pytest.fixture
def work(mail):
    """Bob with three messages in INBOX and two in Work; (mail, a session in Work, the folder's directory)."""
    for i in range(3):
        send_until_accepted(mail, f"n{i}")
    mail.wait_messages(BOB, 3)
    box = mail.imap(BOB)
    box.create("Work")
    for i in range(2):
        assert box.append("Work", r"(\Flagged)", None, message(f"w{i}").encode())[0] == "OK"
    box.select("Work")
    directory = os.path.join(mail.maildir(BOB), ".Work")
    wait_for("files in Work", lambda: os.path.isdir(directory) and
             sum(len(os.listdir(os.path.join(directory, d))) for d in ("cur", "new")) == 2)
    yield mail, box, directory


def test_a_folder_that_was_removed_is_no_mailbox_any_more(work):
    mail, box, directory = work
    other = mail.imap(BOB)
    assert "Work" in names(other)
    shutil.rmtree(directory)
    wait_for("Work off the list", lambda: "Work" not in names(other))
    assert other.select("Work")[0] == "NO"
    assert int(other.select("INBOX")[1][0]) == 3
    # Not back after a restart, and the name is free.
    mail.kill()
    mail.start()
    other = mail.imap(BOB)
    assert "Work" not in names(other)
    assert other.create("Work")[0] == "OK"
    assert other.append("Work", None, None, message("anew").encode())[0] == "OK"
    assert int(other.select("Work")[1][0]) == 1
    assert subjects(mail, BOB) == {f"n{i}": 1 for i in range(3)}


def test_a_folder_moved_away_and_back_is_what_it_was(work):
    mail, box, directory = work
    before = box.status("Work", "(UIDVALIDITY MESSAGES)")[1], box.uid("SEARCH", "ALL")[1][-1]
    os.rename(directory, directory + "away-not-a-folder")
    box.noop()
    assert "Work" in names(box)
    os.rename(directory + "away-not-a-folder", directory)
    box.select("Work")
    assert (box.status("Work", "(UIDVALIDITY MESSAGES)")[1], box.uid("SEARCH", "ALL")[1][-1]) == before
    # The directories are watched as before.
    foreign(os.path.join(directory, "new"), "1.foreign.test", "foreign", directory)
    told(box, 3)


def test_a_folder_replaced_by_a_copy_is_still_watched(work):
    """Another inode under the old name, as restoring a backup makes it."""
    mail, box, directory = work
    subprocess.run(["cp", "-a", directory, directory + "2copy"], check=True)
    os.rename(directory, directory + "2old")
    os.rename(directory + "2copy", directory)
    # As long as it is there it is a folder like others, and the store may put a uidlist into it.
    wait_for("the old one to be gone", lambda: shutil.rmtree(directory + "2old", ignore_errors=True) or
             not os.path.exists(directory + "2old"))
    assert len(box.search(None, "ALL")[1][-1].split()) == 2
    foreign(os.path.join(directory, "new"), "1.foreign.test", "foreign", directory)
    told(box, 3)
    assert b"Flagged" in box.fetch("1", "(FLAGS)")[1][-1]
    os.unlink(os.path.join(directory, "new", "1.foreign.test"))
    told(box, 2)


@pytest.mark.parametrize("how", ["symlink", "file", "nothing"])
def test_cur_replaced_and_put_back(mail, how):
    for i in range(3):
        send_until_accepted(mail, f"n{i}")
    mail.wait_messages(BOB, 3)
    box = mail.imap(BOB)
    box.select()
    box.store("1:3", "+FLAGS", r"(\Seen)")
    root = mail.maildir(BOB)
    cur = os.path.join(root, "cur")
    wait_for("files in cur", lambda: len(os.listdir(cur)) == 3)
    os.rename(cur, os.path.join(root, "cur-elsewhere"))
    if how == "symlink":
        os.symlink("cur-elsewhere", cur)
    elif how == "file":
        with open(cur, "w"):
            pass
    send_until_accepted(mail, "meanwhile")
    box.noop()
    assert mail.command("status").returncode == 0
    if how == "symlink":
        told(box, 4)
        os.unlink(cur)
        os.rename(os.path.join(root, "cur-elsewhere"), cur)
    elif how == "file":
        os.unlink(cur)
        os.rename(os.path.join(root, "cur-elsewhere"), cur)
    else:
        # Made anew by the store, or not yet; what was in it was expunged, or not yet, and comes back.
        subprocess.run(["cp", "-a", os.path.join(root, "cur-elsewhere") + "/.", cur], check=True)
    wait_for("all of it", lambda: subjects(mail, BOB) == {"n0": 1, "n1": 1, "n2": 1, "meanwhile": 1})
    assert box.search(None, "SEEN")[1][-1].split() or how == "nothing"


def test_rm_tells_open_sessions_and_stays_so(mail):
    for i in range(10):
        send_until_accepted(mail, f"n{i}")
    mail.wait_messages(BOB, 10)
    box = mail.imap(BOB)
    box.select()
    box.store("1:*", "+FLAGS", r"(\Seen)")
    root = mail.maildir(BOB)
    wait_for("files in cur", lambda: len(os.listdir(os.path.join(root, "cur"))) == 10)
    subprocess.run(f"rm {root}/cur/*", shell=True, check=True)
    told(box, 0)
    send_until_accepted(mail, "after")
    told(box, 1)
    assert mail.stop() == 0
    mail.start()
    assert subjects(mail, BOB) == {"after": 1}


def test_rsync_and_renames_beside_sessions_and_deliveries(mail, tmp_path):
    """Another tool adds and flags, a session flags and expunges, SMTP delivers, all at once."""
    send_until_accepted(mail, "first")
    mail.wait_messages(BOB, 1)
    root = mail.maildir(BOB)
    source = tmp_path / "source"
    for d in ("cur", "new", "tmp"):
        (source / d).mkdir(parents=True)
    until = time.monotonic() + float(os.environ.get("FOREIGN_SECONDS", "4"))
    st = os.stat(root)

    def by_rsync():
        n = 0
        while time.monotonic() < until:
            for _ in range(5):
                foreign(str(source / "cur"), f"{1000 + n}.rsync.test:2,S", f"r{n}", root)
                n += 1
            subprocess.run(["rsync", "-a", "--remove-source-files", f"--chown={st.st_uid}:{st.st_gid}", f"{source}/", root + "/"], check=True)
        return {f"r{i}": 1 for i in range(n)}

    def by_renaming():
        flagged = 0
        while time.monotonic() < until:
            for d in ("new", "cur"):
                for f in os.listdir(os.path.join(root, d))[:3]:
                    base, _, flags = f.partition(":2,")
                    if "F" in flags or "rsync" in f:
                        continue
                    try:
                        os.rename(os.path.join(root, d, f), os.path.join(root, "cur", f"{base}:2,{''.join(sorted(set(flags + 'F')))}"))
                        flagged += 1
                    except FileNotFoundError:
                        pass                            # the store was faster
        return flagged

    def by_smtp():
        n = 0
        while time.monotonic() < until:
            send_until_accepted(mail, f"s{n}")
            n += 1
        return {f"s{i}": 1 for i in range(n)}

    def by_imap():
        box = mail.imap(BOB)
        box.select()
        while time.monotonic() < until:
            box.noop()
            box.store("1:*", "+FLAGS", r"(\Answered)")
        box.logout()
    tasks = [in_thread(f) for f in (by_rsync, by_smtp, by_renaming, by_imap)]
    added, sent, flagged, _ = [t.result() for t in tasks]
    assert flagged > 0
    expected = {"first": 1, **added, **sent}
    wait_for("all of it, once", lambda: subjects(mail, BOB) == expected)
    box = mail.imap(BOB)
    box.select()
    # Nothing goes on changing: names follow flags, and flags do not follow their own names back.
    box.store("1", "+FLAGS", r"(\Draft)")
    wait_for("the name of the first", lambda: any("D" in f.partition(":2,")[2] for f in os.listdir(os.path.join(root, "cur"))))
    box.store("1", "-FLAGS", r"(\Draft)")
    assert len(box.uid("SEARCH", "ALL")[1][-1].split()) == len(expected)
    assert len(box.uid("SEARCH", "FLAGGED")[1][-1].split()) > 0
    assert len(box.uid("SEARCH", "DRAFT")[1][-1].split()) == 0
    box.logout()
    assert mail.stop() == 0
    files = [f.partition(":2,")[0] for d in ("new", "cur") for f in os.listdir(os.path.join(root, d))]
    assert len(files) == len(set(files)) == len(expected)
