"""What mail programs say, in the order in which they say it: recorded dialogues of graphical clients."""

import base64
import re

from instance import wait_for
from test_imap import BOB, Imap

PARTS = ('From: =?UTF-8?Q?J=C3=BCrgen?= <a@elsewhere.test>\r\nTo: Bob <bob@example.test>\r\nSubject: two parts\r\n'
         'Message-ID: <two@elsewhere.test>\r\nDate: Mon, 1 Jun 2020 10:00:00 +0000\r\nMIME-Version: 1.0\r\n'
         'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n'
         '--b\r\nContent-Type: image/png; name="dot.png"\r\nContent-Disposition: attachment; filename="dot.png"\r\n'
         'Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n')


def literal_of(c, tag):
    """Lines until the tagged one; literals are read whole. Returns (status, text)."""
    text = ""
    while True:
        line = c.line()
        if line.startswith(tag + " "):
            return line, text
        text += line + "\n"
        found = re.search(r"\{(\d+)\}$", line)
        if found:
            text += c.file.read(int(found.group(1))).decode()


def ask(c, command):
    c.n += 1
    c.send(f"t{c.n} {command}\r\n")
    status, text = literal_of(c, f"t{c.n}")
    assert status.startswith(f"t{c.n} OK"), (command, status)
    return text


def test_thunderbird(mail):
    """First connection: log in, find the folders, fetch what is new, wait. Second: read one message, file a copy."""
    mail.send(BOB, text=PARTS)
    mail.send(BOB, subject="plain")
    c = Imap(mail)
    capability = ask(c, "capability")
    assert "AUTH=PLAIN" in capability and "STARTTLS" in capability
    c.send("p authenticate PLAIN " + base64.b64encode(f"\0{BOB}\0secret".encode()).decode() + "\r\n")
    assert re.match(r"p OK \[CAPABILITY [^]]*IDLE", c.line())
    assert "* ID " in ask(c, 'ID ("name" "Thunderbird" "version" "115.0" "contact" NIL)')
    assert "* NAMESPACE ((\"\" \"/\"))" in ask(c, "namespace")
    assert "* ENABLED CONDSTORE" in ask(c, "ENABLE CONDSTORE")
    assert '* LIST' in ask(c, 'list "" ""')
    ask(c, 'list (subscribed) "" "*" return (special-use)')
    folders = ask(c, 'list "" "*" return (special-use)')
    assert re.search(r'\* LIST \([^)]*\\Trash[^)]*\) "/" "?Trash"?\n', folders)
    ask(c, 'lsub "" "*"')
    assert "* STATUS INBOX (" in ask(c, 'STATUS INBOX (UIDNEXT MESSAGES UNSEEN RECENT)').replace('"INBOX"', "INBOX")
    for folder in ("Drafts", "Sent", "Junk"):
        ask(c, f'subscribe "{folder}"')
    opened = ask(c, 'select "INBOX" (CONDSTORE)')
    for needed in ("* 2 EXISTS", "[UIDVALIDITY ", "[UIDNEXT 3]", "[HIGHESTMODSEQ ", r"* FLAGS (", "[PERMANENTFLAGS ("):
        assert needed in opened, needed
    flags = ask(c, "UID fetch 1:* (FLAGS)")
    assert re.search(r"\* 1 FETCH \(.*UID 1\b", flags) and re.search(r"\* 2 FETCH \(.*UID 2\b", flags)
    headers = ask(c, "UID fetch 1:2 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
                     "Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])")
    assert headers.count("Subject: ") == 2 and "Message-ID: <two@elsewhere.test>" in headers
    assert "\nReceived:" not in headers and "RFC822.SIZE" in headers
    c.send("i IDLE\r\n")
    assert c.line().startswith("+ ")

    d = Imap(mail, BOB)
    ask(d, 'select "INBOX" (CONDSTORE)')
    structure = ask(d, "UID fetch 1 (BODYSTRUCTURE)")
    assert '"dot.png"' in structure and '"mixed"' in structure.lower()
    assert "iVBORw0KGgo=" in ask(d, "UID fetch 1 (UID BODY.PEEK[2])")
    assert "hello" in ask(d, "UID fetch 1 (BODY.PEEK[1.MIME] BODY.PEEK[1])")
    ask(d, r"uid store 1 +FLAGS (\Seen $Forwarded NonJunk)")
    told = [c.line()]
    assert told[0].startswith("* FLAGS (") and "NonJunk" in told[0]         # keywords new to the mailbox come first
    while not told[-1].startswith("* 1 FETCH"):
        told.append(c.line())
    told = told[-1]
    assert re.match(r"\* 1 FETCH \(", told) and "\\Seen" in told and "NonJunk" in told and "MODSEQ (" in told
    c.send("DONE\r\n")
    assert c.line().startswith("i OK")
    assert "* SEARCH 1\n" in ask(d, "uid search KEYWORD NonJunk")
    copied = ask(d, 'uid copy 1 "Sent"')
    assert copied == "" or "COPYUID" in copied
    # Deleting is a move to Trash.
    assert "* 1 EXPUNGE" in ask(d, 'uid move 1 "Trash"')
    # A draft is saved twice, the first is thrown away.
    for n in (1, 2):
        draft = f"Subject: draft {n}\r\n\r\nso far\r\n"
        d.send(f"d{n} append \"Drafts\" (\\Draft \\Seen) {{{len(draft)}}}\r\n")
        assert d.line().startswith("+ ")
        d.send(draft + "\r\n")
        line = d.line()
        while line.startswith("* "):
            line = d.line()
        assert re.match(rf"d{n} OK \[APPENDUID \d+ {n}\]", line)
    ask(d, 'select "Drafts"')
    ask(d, r"uid store 1 +FLAGS (\Deleted)")
    assert "* 1 EXPUNGE" in ask(d, "uid expunge 1")
    assert "* SEARCH 2\n" in ask(d, "uid search DRAFT")
    assert "* BYE" in ask(d, "logout")
    # Back on the first connection: what changed since the number it knows.
    known = int(re.search(r"HIGHESTMODSEQ (\d+)", opened).group(1))
    assert "EXPUNGE" in ask(c, "noop")
    assert ask(c, f"UID fetch 1:* (FLAGS) (CHANGEDSINCE {known})") == ""
    ask(c, "close")
    ask(c, "logout")
    d.close()
    c.close()


def test_phone_that_comes_and_goes(mail):
    """A phone: connects, looks what is new since the UIDNEXT that it knows, fetches the beginning, goes."""
    mail.send(BOB, text=PARTS)
    with Imap(mail, BOB) as c:
        opened = ask(c, "SELECT INBOX")
        uidnext, validity = re.search(r"UIDNEXT (\d+)", opened).group(1), re.search(r"UIDVALIDITY (\d+)", opened).group(1)
    for i in range(3):
        mail.send(BOB, subject=f"new {i}")
        with Imap(mail, BOB) as c:
            status = ask(c, "STATUS INBOX (UIDNEXT UIDVALIDITY MESSAGES)")
            assert f"UIDVALIDITY {validity}" in status and f"MESSAGES {i + 2}" in status
            opened = ask(c, "EXAMINE INBOX")
            assert "[UIDNEXT" in opened
            new = ask(c, f"UID FETCH {uidnext}:* (UID FLAGS INTERNALDATE ENVELOPE BODY.PEEK[TEXT]<0.100>)")
            assert f'"new {i}"' in new and "A line." in new
            uidnext = re.search(r"UIDNEXT (\d+)", opened).group(1)
            c.send("x LOGOUT\r\n")                       # and does not wait for the answer


def test_outlook_asks_by_sequence_numbers(mail):
    for i in range(5):
        mail.send(BOB, subject=f"number {i}")
    with Imap(mail, BOB) as c:
        assert "LIST" in ask(c, 'LIST "" "INBOX"')
        ask(c, "SELECT INBOX")
        assert ask(c, "FETCH 1:5 (UID FLAGS)").count("FETCH") == 5
        whole = ask(c, "FETCH 3 (BODY.PEEK[] UID)")
        assert "Subject: number 2" in whole and "UID 3" in whole
        ask(c, r"STORE 3 +FLAGS.SILENT (\Deleted)")
        assert ask(c, "EXPUNGE") == "* 3 EXPUNGE\n"
        assert "Subject: number 3" in ask(c, "FETCH 3 (RFC822.HEADER)")
        assert "number 4" in ask(c, "FETCH * (ENVELOPE)")
        assert ask(c, "CHECK") == ""


def test_apple_mail_waits_in_two_folders(mail):
    """One connection idles in INBOX, another in Sent; each hears of its own folder only."""
    inbox, sent = Imap(mail, BOB), Imap(mail, BOB)
    for c, folder in ((inbox, "INBOX"), (sent, "Sent")):
        ask(c, f"SELECT {folder}")
        c.send("i IDLE\r\n")
        assert c.line().startswith("+ ")
    mail.send(BOB)
    assert inbox.line() == "* 1 EXISTS"
    with Imap(mail, BOB) as c:
        c.append("Sent", "Subject: mine\r\n\r\nx\r\n", r"(\Seen)")
    assert sent.line() == "* 1 EXISTS"
    for c in (inbox, sent):
        c.send("DONE\r\n")
        lines = []
        wait_for("the end of IDLE", lambda: lines.append(c.line()) or lines[-1].startswith("i OK"))
        assert not any("2 EXISTS" in line for line in lines)
        c.close()
