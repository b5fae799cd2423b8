"""Damage to what the store has of accounts, and what must be the same afterwards."""

import imaplib
import os
import re
import time

from test_crash import message

CLOSED = (OSError, EOFError, imaplib.IMAP4.error)


def index_of(mail):
    return os.path.join(mail.dir, "spool", "store", "index.mdb")


def in_use(mail):
    """Offsets of the bytes of the index that are not 0, but for the two pages that LMDB begins with."""
    data = open(index_of(mail), "rb").read()
    return [at for at in range(8192, len(data)) if data[at]]


def places_of(mail, what):
    """Where the bytes stand in the index; in the page in use, and in copies of it that LMDB has left behind."""
    found = [m.start() for m in re.finditer(re.escape(what), open(index_of(mail), "rb").read())]
    assert found, what
    return found


def flip(mail, at, bit=0):
    """As bad memory or a bad disk does it: whoever has mapped the file sees it at once."""
    with open(index_of(mail), "r+b", buffering=0) as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


def state_of(mail, user, names=("INBOX", "Projects")):
    """mailbox: (UIDVALIDITY, {UID: (subject, flags)})."""
    found = {}
    box = mail.imap(user)
    for name in names:
        status, data = box.select(name, readonly=True)
        if status != "OK":
            raise imaplib.IMAP4.error(f"{name}: {data}")
        count = int(data[0])
        status, data = box.fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") if count else ("OK", [])
        if status != "OK":
            raise imaplib.IMAP4.error(f"{name}: {data}")
        found[name] = (box.response("UIDVALIDITY")[1], {
            int(re.search(rb"UID (\d+)", item[0])[1]):
            (item[1].strip(), frozenset(re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].split()) - {b"\\Recent"})
            for item in data if isinstance(item, tuple)})
    box.logout()
    return found


def prepare(mail, user, count=70):
    """Two mailboxes with holes, flags and keywords; returns their state_of()."""
    box = mail.imap(user)
    box.create("Projects")
    for name in ("INBOX", "Projects"):
        for i in range(count if name == "INBOX" else 6):
            box.append(name, None, None, message(f"{name} {i}").encode())
        box.select(name)
        box.store("2,4", "+FLAGS", r"(\Flagged $Label1)")
        box.store("3", "+FLAGS", r"(\Answered custom)")
        box.store("1,6", "+FLAGS", r"(\Deleted)")
        box.expunge()
        box.append(name, r"(\Draft)", None, message(f"{name} last").encode())
    box.logout()
    return state_of(mail, user)


def difference(found, expected):
    return [(name, uid, found[name][1].get(uid), expected[name][1].get(uid)) for name in expected
            for uid in sorted(set(found[name][1]) | set(expected[name][1]))
            if found[name][1].get(uid) != expected[name][1].get(uid)][:5] or [
        (name, found[name][0], expected[name][0]) for name in expected if found[name] != expected[name]]


def state_within(mail, user, expected, seconds):
    """Until the user has what he had; a refusal or a closed connection meanwhile is the damage being mended."""
    until, last = time.monotonic() + seconds, None
    while True:
        try:
            found = state_of(mail, user)
            if found == expected:
                return
            last = difference(found, expected)
        except CLOSED as e:
            last = last or e
        assert time.monotonic() < until, f"{user}: {last}"
        time.sleep(0.05)
