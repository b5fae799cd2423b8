"""The Maildir as others see it: mutt, rsync, grep and rm may touch it while it is served."""

import imaplib
import os
import pwd
import shutil
import subprocess
import time

import pytest

from instance import let_through, wait_for


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


class Dovecot:
    """Debian's Dovecot in a directory, without a server: what doveadm does to it is what the server would."""

    CONF = """base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
mail_location = maildir:{maildir}
ssl = no
namespace inbox {{
  inbox = yes
  separator = /
}}
"""

    def __init__(self, directory, maildir):
        self.dir, self.maildir = str(directory), str(maildir)
        os.makedirs(self.dir)
        os.makedirs(os.path.dirname(self.maildir))
        self.as_whom = []
        if os.getuid() == 0:             # whom it refuses to read mail as
            nobody = pwd.getpwnam("nobody")
            self.as_whom = ["setpriv", "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups"]
            for path in (self.dir, os.path.dirname(self.maildir)):
                let_through(path)
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        with open(os.path.join(self.dir, "dovecot.conf"), "w") as f:
            f.write(self.CONF.format(dir=self.dir, maildir=self.maildir))

    def __call__(self, *args, text=None):
        done = subprocess.run([*self.as_whom, "doveadm", "-c", os.path.join(self.dir, "dovecot.conf"), *args], input=text, text=True,
                              capture_output=True, env={**os.environ, "HOME": self.dir, "USER": "somebody"}, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def validity(self, mailbox):
        fields = dict(f.split("=") for f in self("-f", "flow", "mailbox", "status", "uidvalidity uidnext", mailbox).split() if "=" in f)
        return int(fields["uidvalidity"]), int(fields["uidnext"])

    def uids(self, mailbox):
        """uid -> (subject, when it came)"""
        lines = self("-f", "tab", "fetch", "uid hdr.subject date.received", "mailbox", mailbox, "all").splitlines()[1:]
        return {int(uid): (subject, when) for uid, subject, when in (line.split("\t") for line in lines)}


def seen_by_imap(box, mailbox):
    status = box.status(f'"{mailbox}"', "(UIDVALIDITY UIDNEXT)")[1][0].decode()
    box.select(f'"{mailbox}"', readonly=True)
    validity = int(status.split("UIDVALIDITY ")[1].split(")")[0].split()[0]), int(status.split("UIDNEXT ")[1].split(")")[0].split()[0])
    uids = {}
    if int(box.response("EXISTS")[1][0] or 0):
        for part in box.uid("fetch", "1:*", "(INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][::2]:
            uid = int(part[0].split(b"UID ")[1].split()[0])
            when = time.strftime("%Y-%m-%d %H:%M:%S", imaplib.Internaldate2tuple(part[0]))
            uids[uid] = (part[1].split(b":", 1)[1].strip().decode(), when)
    return validity, uids


def test_a_maildir_of_dovecot_is_taken_over(mail, tmp_path):
    """UIDs, flags, keywords, dates and subscriptions stay, so that mail programs need not fetch all of it again; and a
    mail program that leaves mail on the POP3 server does not get it twice."""
    theirs = tmp_path / "theirs" / "Maildir"
    dovecot = Dovecot(tmp_path / "dovecot", theirs)
    for i in range(1, 6):
        dovecot("save", text=f"Subject: message {i}\n\nbody {i}\n")
    dovecot("mailbox", "create", "-s", "Work/2024", "Sent", "Ärger")
    dovecot("mailbox", "create", "Not subscribed")
    dovecot("flags", "add", "\\Flagged NonJunk", "mailbox", "INBOX", "2")
    dovecot("expunge", "mailbox", "INBOX", "3")
    dovecot("copy", "Work/2024", "mailbox", "INBOX", "3:4")
    dovecot("expunge", "mailbox", "Work/2024", "1")
    boxes = ("INBOX", "Work/2024", "Sent", "Ärger", "Not subscribed")
    before = {name: (dovecot.validity(name), dovecot.uids(name)) for name in boxes}
    assert sorted(before["INBOX"][1]) == [1, 2, 4, 5] and sorted(before["Work/2024"][1]) == [2]

    mail.user("carol@example.test")
    ours = os.path.join(mail.dir, "mail", "example.test", "carol")
    shutil.copytree(theirs, ours)
    with open(os.path.join(ours, "new", "1700000000.M1P1.host"), "w") as f:
        f.write("Subject: came meanwhile\n\n")
    own = os.stat(os.path.join(mail.dir, "mail"))
    for base, dirs, files in os.walk(ours):
        for name in [base] + [os.path.join(base, f) for f in files]:
            os.chown(name, own.st_uid, own.st_gid)

    box = mail.imap("carol@example.test")
    for name in boxes:
        validity, uids = seen_by_imap(box, name.replace("Ä", "&AMQ-"))
        if name == "INBOX":
            assert uids.pop(6)[0] == "came meanwhile"
            assert validity == (before[name][0][0], 7)
            assert uids == before[name][1]
        else:
            assert (validity, uids) == before[name]
    box.select("INBOX")
    assert box.uid("search", None, "FLAGGED", "KEYWORD", "NonJunk")[1] == [b"2"]
    listed = b"\n".join(box.list()[1])
    assert b"\\Sent" in next(x for x in listed.split(b"\n") if x.endswith(b"Sent") or x.endswith(b'"Sent"'))
    subscribed = b" ".join(box.lsub()[1])
    assert b"Work/2024" in subscribed and b"&AMQ-rger" in subscribed and b"Not subscribed" not in subscribed
    box.logout()
    pop = mail.pop3("carol@example.test")
    assert pop.uidl()[1][0].split()[1] == b"%08x%08x" % (1, before["INBOX"][0][0])
    pop.quit()
    # From now on our own list counts, whatever still lies there.
    mail.send("carol@example.test")
    mail.wait_messages("carol@example.test", 6)
    assert mail.command("mail", "fsck", "carol@example.test").returncode == 0
    box = mail.imap("carol@example.test")
    (validity, uidnext), uids = seen_by_imap(box, "INBOX")
    assert validity == before["INBOX"][0][0] and sorted(uids) == [1, 2, 4, 5, 6, 7] and uidnext >= 8
    box.logout()
