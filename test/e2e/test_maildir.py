"""The Maildir as others see it: mutt, rsync, grep and rm may touch it while it is served."""

import imaplib
import os
import shutil
import time

from instance import wait_for


def flags_of(path):
    return path.rsplit(":2,", 1)[1] if ":2," in path else ""


def open_box(mail, user="bob@example.test"):
    box = mail.imap(user)
    box.select()
    return box


def count(box):
    box.noop()
    return int(box.select()[1][0])


def test_flags_are_projected_and_read_back(mail):
    mail.send("bob@example.test")
    box = open_box(mail)
    box.store("1", "+FLAGS", r"(\Flagged \Seen)")
    wait_for("flags in the name", lambda: set(flags_of(mail.messages("bob@example.test")[0])) == set("FS"))
    path = mail.messages("bob@example.test")[0]
    os.rename(path, path.replace(":2,FS", ":2,RS"))
    wait_for("flags read back", lambda: box.noop() and b"\\Answered" in box.fetch("1", "(FLAGS)")[1][0])
    assert b"\\Flagged" not in box.fetch("1", "(FLAGS)")[1][0]
    box.logout()


def test_foreign_files_get_uids_and_vanished_files_are_expunged(mail):
    for i in range(3):
        mail.send("bob@example.test", subject=f"message {i}")
    box = open_box(mail)
    wait_for("files", lambda: len(mail.messages("bob@example.test")) == 3)
    uids = box.uid("SEARCH", "ALL")[1]
    new = os.path.join(mail.maildir("bob@example.test"), "new", "1234567890.foreign.host")
    tmp = new.replace("/new/", "/tmp/")
    with open(tmp, "w") as f:
        f.write("Subject: foreign\nFrom: x@elsewhere.test\n\nhello\n")
    shutil.copymode(mail.messages("bob@example.test")[0], tmp)
    st = os.stat(mail.messages("bob@example.test")[0])
    os.chown(tmp, st.st_uid, st.st_gid)
    os.rename(tmp, new)
    wait_for("the new file", lambda: count(box) == 4)
    data = box.fetch("4", "(ENVELOPE RFC822.SIZE BODY[])")[1]
    assert b'"foreign"' in data[0][0] and data[0][1].endswith(b"hello\r\n")
    assert box.uid("SEARCH", "ALL")[1][0].split()[:3] == uids[0].split()
    os.unlink(mail.messages("bob@example.test")[0])
    wait_for("the vanished file", lambda: count(box) == 3)
    box.logout()


def test_lost_index_is_rebuilt_with_the_same_uids(mail):
    for i in range(5):
        mail.send("bob@example.test", subject=f"message {i}")
    box = open_box(mail)
    box.store("2", "+FLAGS", r"(\Flagged KeyWord)")
    box.store("1", "+FLAGS", r"(\Deleted)")
    box.expunge()
    before = box.fetch("1:*", "(UID FLAGS)")[1], box.status("INBOX", "(UIDVALIDITY UIDNEXT)")[1]
    box.logout()
    mail.stop()
    spool = os.path.join(mail.dir, "spool", "store")
    found = [os.path.join(base, f) for base, _, files in os.walk(spool) for f in files if f.endswith(".mdb")]
    assert found
    for path in found:
        os.unlink(path)
    mail.start()
    box = open_box(mail)
    clean = lambda data: [sorted(x.replace(rb"\Recent", b"").replace(b"(", b" ").replace(b")", b" ").split()) for x in data]
    assert clean(box.fetch("1:*", "(UID FLAGS)")[1]) == clean(before[0])
    after = box.status("INBOX", "(UIDVALIDITY UIDNEXT)")[1]
    assert after[0].split(b"UIDVALIDITY ")[1].split()[0] == before[1][0].split(b"UIDVALIDITY ")[1].split()[0]
    box.logout()


def test_corrupt_index_is_rebuilt(mail):
    for i in range(5):
        mail.send("bob@example.test", subject=f"message {i}")
    mail.stop()
    spool = os.path.join(mail.dir, "spool", "store")
    for base, _, files in os.walk(spool):
        for f in files:
            if f.endswith("data.mdb"):
                with open(os.path.join(base, f), "r+b") as fd:
                    fd.write(os.urandom(65536))
    mail.start()
    box = open_box(mail)
    assert count(box) == 5
    box.logout()


def test_emptied_root_is_no_expunge(mail):
    """A vanished mount must not make every message disappear."""
    mail.send("bob@example.test")
    box = open_box(mail)
    root = wait_for("Maildir", lambda: mail.maildir("bob@example.test"))
    wait_for("file", lambda: mail.messages("bob@example.test"))
    os.rename(root, root + ".away")
    box.noop()
    time.sleep(0.2)
    box.noop()
    os.rename(root + ".away", root)
    assert count(box) == 1
    box.logout()


def test_fsck_command(mail):
    mail.send("bob@example.test")
    wait_for("file", lambda: mail.messages("bob@example.test"))
    assert mail.command("mail", "fsck", "bob@example.test").returncode == 0


def test_names_of_other_servers_lose_neither_size_nor_date(mail):
    """Dovecot's letters for keywords, letters in any order, a name without ":2,": all are files of a day and a length."""
    mail.send("bob@example.test")
    box = open_box(mail)
    first = mail.wait_messages("bob@example.test", 1)[0]
    cur = os.path.join(mail.maildir("bob@example.test"), "cur")
    st, text = os.stat(first), "Subject: foreign\n\nhello\n"
    with open(os.path.join(cur, "..", "dovecot-keywords"), "w") as f:
        f.write("0 NonJunk\n1 $label1\n2 not(a)keyword\n31 too-many\n")
    os.chown(f.name, st.st_uid, st.st_gid)
    names = ["1600000001.M1P2.host:2,Sabcz", "1600000002.a.host:2,SF", "1600000003.a.host", "1600000004.a.host:2,", "1600000005.a.host:1,x"]
    for name in names:
        path = os.path.join(cur, "..", "tmp", name)
        with open(path, "w") as f:
            f.write(text)
        os.chown(path, st.st_uid, st.st_gid)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        os.rename(path, os.path.join(cur, name))
    wait_for("the files", lambda: count(box) == 1 + len(names))
    box.select()
    for line in box.fetch(f"2:{1 + len(names)}", "(RFC822.SIZE INTERNALDATE)")[1]:
        assert b"RFC822.SIZE 27" in line and b"13-Sep-2020 12:26:40" in line, line
    seen = box.search(None, "SEEN")[1][0].split()
    assert len(seen) == 2 and box.search(None, "FLAGGED")[1][0].split()[0] in seen
    # What the letters mean stands beside the messages, and is a keyword of ours now, whatever becomes of the name.
    tagged = box.search(None, "KEYWORD", "NonJunk")[1][0]
    assert len(tagged.split()) == 1 and box.search(None, "KEYWORD", "$label1")[1][0] == tagged
    assert box.fetch(tagged, "(FLAGS BODY.PEEK[])")[1][0][1].endswith(b"hello\r\n")
    box.store(tagged, "+FLAGS", "\\Flagged")
    wait_for("our name", lambda: os.path.exists(os.path.join(cur, "1600000001.M1P2.host:2,FS")))
    assert set(imaplib.ParseFlags(box.fetch(tagged, "(FLAGS)")[1][0])) >= {b"\\Flagged", b"\\Seen", b"NonJunk", b"$label1"}
    box.logout()
