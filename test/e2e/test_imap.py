"""Several clients on one mailbox, and the commands as imaplib and raw lines see them."""

import re
import time

from instance import Raw, wait_for


class Imap(Raw):
    """A raw IMAP connection: tagged commands, all untagged lines kept."""

    def __init__(self, mail, user=None):
        super().__init__(mail.ports["imap"])
        self.greeting = self.line()
        self.n = 0
        if user:
            assert self.ok(f'LOGIN "{user}" "secret"')

    def do(self, command):
        self.n += 1
        tag = f"t{self.n}"
        self.send(f"{tag} {command}\r\n")
        lines = []
        while True:
            line = self.file.readline().decode("utf-8", "replace")
            assert line, f"connection closed in {command!r}: {lines}"
            line = line.rstrip("\r\n")
            if line.startswith(tag + " "):
                return line[len(tag) + 1:], lines
            lines.append(line)

    def ok(self, command):
        status, lines = self.do(command)
        assert status.startswith("OK"), (command, status, lines)
        return lines or [status]

    def append(self, mailbox, text, options=""):
        self.ok_literal(f"APPEND {mailbox} {options}", text)

    def ok_literal(self, command, text):
        data = text.encode()
        return self.ok(f"{command} {{{len(data)}+}}\r\n{text}")


BOB = "bob@example.test"
TEXT = "From: a@b.test\r\nSubject: appended\r\n\r\nhello\r\n"


def test_capabilities_named_by_the_issue_are_there(mail):
    with Imap(mail, BOB) as c:
        capability = c.ok("CAPABILITY")[0]
        for name in ("IMAP4rev1 UIDPLUS IDLE NAMESPACE ID LITERAL+ SASL-IR UNSELECT MOVE ENABLE CHILDREN "
                     "SPECIAL-USE LIST-EXTENDED LIST-STATUS CONDSTORE").split():
            assert name in capability.split(), name


def test_clients_see_each_others_changes_at_once(mail):
    a, b = Imap(mail, BOB), Imap(mail, BOB)
    a.ok("SELECT INBOX")
    b.ok("SELECT INBOX")
    b.send("i IDLE\r\n")
    assert b.line().startswith("+")
    mail.send(BOB)
    assert re.match(r"\* 1 EXISTS", b.line())
    assert b.line().endswith("RECENT")
    a.ok("NOOP")
    a.ok(r"STORE 1 +FLAGS (\Flagged)")
    assert re.match(r"\* 1 FETCH .*\\Flagged", b.line())
    a.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    assert re.match(r"\* 1 FETCH .*\\Deleted", b.line())
    a.ok("EXPUNGE")
    assert b.line() == "* 1 EXPUNGE"
    b.send("DONE\r\n")
    assert b.line().startswith("i OK")
    a.close()
    b.close()


def test_no_expunge_during_fetch(mail):
    a, b = Imap(mail, BOB), Imap(mail, BOB)
    for c in (a, b):
        c.ok("SELECT INBOX")
    for _ in range(3):
        a.append("INBOX", TEXT)
    b.ok("NOOP")
    a.ok(r"STORE 2 +FLAGS (\Deleted)")
    a.ok("EXPUNGE")
    lines = b.ok("FETCH 1:3 (UID)")
    assert not any("EXPUNGE" in l for l in lines) and len([l for l in lines if "FETCH (UID" in l]) >= 2
    assert "* 2 EXPUNGE" in b.ok("NOOP")
    a.close()
    b.close()


def test_append_copy_move_give_uids(mail):
    with Imap(mail, BOB) as c:
        c.ok("CREATE Work")
        status, _ = c.do(f"APPEND INBOX (\\Seen Key) \"01-Feb-2020 10:11:12 +0100\" {{{len(TEXT)}+}}\r\n{TEXT}")
        uid = re.search(r"\[APPENDUID \d+ (\d+)\]", status).group(1)
        lines = c.ok("SELECT INBOX")
        assert "* 1 EXISTS" in lines
        assert '" 1-Feb-2020 09:11:12 +0000"' in c.ok("FETCH 1 (INTERNALDATE)")[0]
        status, _ = c.do(f"UID COPY {uid} Work")
        assert re.search(rf"\[COPYUID \d+ {uid} 1\]", status)
        status, lines = c.do(f"UID MOVE {uid} Work")
        assert status.startswith("OK") and any("COPYUID" in l for l in lines + [status])
        assert "* 1 EXPUNGE" in lines
        assert "MESSAGES 2" in c.ok("STATUS Work (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)")[0]
        assert c.do("UID MOVE 999 Work")[0].startswith("OK")
        assert c.do("COPY 1 Missing")[0].startswith(("NO [TRYCREATE]", "BAD", "NO"))


def test_condstore(mail):
    with Imap(mail, BOB) as c:
        c.append("INBOX", TEXT)
        c.append("INBOX", TEXT)
        lines = c.ok("SELECT INBOX (CONDSTORE)")
        highest = int(re.search(r"HIGHESTMODSEQ (\d+)", " ".join(lines)).group(1))
        c.ok(r"STORE 1 +FLAGS (\Seen)")
        lines = c.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {highest})")
        assert len(lines) == 1 and lines[0].startswith("* 1 FETCH") and "MODSEQ" in lines[0]
        status, lines = c.do(rf"STORE 1:2 (UNCHANGEDSINCE {highest}) +FLAGS (\Answered)")
        assert "[MODIFIED 1]" in status and any(l.startswith("* 2 FETCH") for l in lines)


def test_folders_and_special_use(mail):
    with Imap(mail, BOB) as c:
        lines = c.ok('LIST "" *')
        for use in ("\\Drafts", "\\Sent", "\\Trash", "\\Junk"):
            assert any(use in l for l in lines), use
        c.ok("CREATE a/b/c")
        assert any('"a/b"' in l or "a/b" in l.split() for l in c.ok('LIST "" a/%'))
        c.ok("RENAME a x")
        assert any("x/b/c" in l for l in c.ok('LIST "" *'))
        c.ok("CREATE &ZeVnLIqe-")
        assert any("&ZeVnLIqe-" in l for l in c.ok('LIST "" *'))
        assert c.do("CREATE inbox")[0].startswith("NO")
        assert any("STATUS INBOX" in l for l in c.ok('LIST "" INBOX RETURN (STATUS (MESSAGES))'))
        c.ok("DELETE x/b/c")
        assert not any("x/b/c" in l for l in c.ok('LIST "" *'))


def test_search(mail):
    for i in range(4):
        mail.send(BOB, subject=f"number {i}", text=f"From: s{i}@elsewhere.test\r\nSubject: number {i}\r\n"
                  f"Date: Mon, {i + 1} Jun 2020 10:00:00 +0000\r\n\r\nbody word{i}\r\n")
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        assert c.ok("SEARCH SUBJECT \"number 2\"") == ["* SEARCH 3"]
        assert c.ok("SEARCH BODY word1") == ["* SEARCH 2"]
        assert c.ok("SEARCH OR FROM s0@ FROM s3@") == ["* SEARCH 1 4"]
        assert c.ok("SEARCH SENTSINCE 3-Jun-2020 NOT TEXT word3") == ["* SEARCH 3"]
        assert c.ok("UID SEARCH UID 1:2 UNSEEN LARGER 10") == ["* SEARCH 1 2"]


def test_uid_star_includes_the_last(mail):
    with Imap(mail, BOB) as c:
        c.append("INBOX", TEXT)
        c.ok("SELECT INBOX")
        assert len(c.ok("UID FETCH 500:* (FLAGS)")) == 1


def test_big_body_by_pieces_is_the_same(mail):
    body = "".join(f"line {i} of a long message\r\n" for i in range(40_000))
    mail.send(BOB, text="Subject: big\r\n\r\n" + body)
    box = mail.imap(BOB)
    box.select()
    whole = box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    size = int(re.search(rb"RFC822.SIZE (\d+)", box.fetch("1", "(RFC822.SIZE)")[1][0]).group(1))
    assert size == len(whole) and whole.endswith(body.encode())
    pieces, at = b"", 0
    while at < size:
        part = box.fetch("1", f"(BODY.PEEK[]<{at}.65536>)")[1][0][1]
        pieces += part
        at += len(part)
    assert pieces == whole
    box.logout()


def test_idle_system_answers_quickly_and_logs_out(mail):
    with Imap(mail, BOB) as c:
        start = time.monotonic()
        c.ok("NOOP")
        assert time.monotonic() - start < 5
        status, lines = c.do("LOGOUT")
        assert status.startswith("OK") and lines[0].startswith("* BYE")
        assert c.at_end()


def test_selected_mailbox_deleted_by_another(mail):
    a, b = Imap(mail, BOB), Imap(mail, BOB)
    a.ok("CREATE Gone")
    b.ok("SELECT Gone")
    a.ok("DELETE Gone")
    b.send("x NOOP\r\n")
    assert wait_for("an answer", b.line).startswith(("* BYE", "x OK", "x NO", "*"))
    a.close()
    b.close()


def test_recent_is_told_once(mail):
    mail.send(BOB)
    with Imap(mail, BOB) as a, Imap(mail, BOB) as b:
        assert "* 1 RECENT" in a.ok("SELECT INBOX")
        assert "* 0 RECENT" in b.ok("SELECT INBOX")
        assert "\\Recent" in a.ok("FETCH 1 (FLAGS)")[0] and "\\Recent" not in b.ok("FETCH 1 (FLAGS)")[0]


def test_what_marks_as_read(mail):
    mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("EXAMINE INBOX")
        c.ok("FETCH 1 (RFC822.SIZE BODY[TEXT])")
        assert "\\Seen" not in c.ok("FETCH 1 (FLAGS)")[0]             # read-only
        assert c.do(r"STORE 1 +FLAGS (\Seen)")[0].startswith("NO")
        c.ok("SELECT INBOX")
        c.ok("FETCH 1 (BODY.PEEK[HEADER] RFC822.HEADER BODYSTRUCTURE ENVELOPE)")
        assert "\\Seen" not in c.ok("FETCH 1 (FLAGS)")[0]
        assert "* SEARCH 1" in c.ok("SEARCH UNSEEN")
        c.ok("FETCH 1 (BODY[TEXT])")
        assert "\\Seen" in c.ok("FETCH 1 (FLAGS)")[0]
        assert "UNSEEN 0" in c.ok("STATUS INBOX (UNSEEN)")[0]


def test_close_expunges_unselect_does_not(mail):
    for _ in range(3):
        mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        c.ok(r"STORE 1 +FLAGS (\Deleted)")
        c.ok("UNSELECT")
        assert "* 3 EXISTS" in c.ok("EXAMINE INBOX")
        c.ok("CLOSE")                                                   # read-only: nothing goes
        assert "* 3 EXISTS" in c.ok("SELECT INBOX")
        c.ok("CLOSE")
        assert "* 2 EXISTS" in c.ok("SELECT INBOX")
        c.ok(r"STORE 1:2 +FLAGS (\Deleted)")
        uid = re.search(r"UID (\d+)", c.ok("FETCH 2 (UID)")[0]).group(1)
        assert c.ok(f"UID EXPUNGE {uid}") == ["* 2 EXPUNGE"]            # only what both say
        assert c.do("EXPUNGE")[1] == ["* 1 EXPUNGE"]


def test_rename_of_inbox_moves_its_messages(mail):
    mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("RENAME INBOX Old")
        assert "MESSAGES 1" in c.ok("STATUS Old (MESSAGES)")[0]
        assert "MESSAGES 0" in c.ok("STATUS INBOX (MESSAGES)")[0]
        mail.send(BOB)
        assert "MESSAGES 1" in c.ok("STATUS INBOX (MESSAGES)")[0]


def test_subscriptions_outlive_their_folder(mail):
    with Imap(mail, BOB) as c:
        c.ok("CREATE News")
        c.ok("SUBSCRIBE News")
        assert any("News" in line for line in c.ok('LSUB "" *'))
        c.ok("DELETE News")
        assert any("News" in line for line in c.ok('LSUB "" *'))        # RFC 3501 6.3.6
        assert any("NonExistent" in line and "News" in line for line in c.ok('LIST (SUBSCRIBED) "" *'))
        c.ok("UNSUBSCRIBE News")
        assert not any("News" in line for line in c.do('LSUB "" *')[1])


def test_children_are_told(mail):
    with Imap(mail, BOB) as c:
        c.ok("CREATE a/b")
        lines = c.ok('LIST "" a*')
        assert any("HasChildren" in line and '"a/b"' not in line for line in lines)
        assert any("HasNoChildren" in line and "a/b" in line for line in lines)


def test_search_in_utf8_finds_encoded_words(mail):
    mail.send(BOB, text="From: =?ISO-8859-1?Q?J=FCrgen?= <j@elsewhere.test>\r\nSubject: =?UTF-8?B?R3LDvMOfZQ==?=\r\n"
              "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nStra=DFe\r\n")
    mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        for key, text in (("SUBJECT", "grüße"), ("FROM", "JÜRGEN"), ("BODY", "Straße"), ("TEXT", "straße")):
            data = text.encode()
            assert c.ok(f"SEARCH CHARSET UTF-8 {key} {{{len(data)}+}}\r\n{text}") == ["* SEARCH 1"], key
    mail.send(BOB, text="Subject: =?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=\r\nContent-Type: text/plain; charset=gb2312\r\n"
              "Content-Transfer-Encoding: quoted-printable\r\n\r\n=D6=D0=CE=C4\r\n")
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        for charset, key, text in (("UTF-8", "SUBJECT", "日本"), ("UTF-8", "BODY", "中文"), ("Big5", "BODY", "中文"),
                                   ("Shift_JIS", "SUBJECT", "日本")):
            c.send(f"s SEARCH CHARSET {charset} {key} {{{len(text.encode(charset))}+}}\r\n".encode() + text.encode(charset) + b"\r\n")
            assert [c.line(), c.line()[:4]] == ["* SEARCH 3", "s OK"], (charset, key)
        assert c.do("SEARCH CHARSET KLINGON SUBJECT x")[0].startswith("NO [BADCHARSET")


def test_faulty_commands_leave_the_connection_alone(mail):
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        for bad in ("FETCH", "FETCH 1", "FETCH 0 (FLAGS)", "FETCH 1:x (FLAGS)", "FETCH 1 (FLAGS", "STORE 1 FLAGS",
                    "SEARCH", "SEARCH NOT", "SELECT", "LIST", "UID", "UID NOOP", "COPY 1", "APPEND", "STATUS INBOX ()",
                    "AUTHENTICATE PLAIN", "LOGIN a b", "NONSENSE", "CREATE", "RENAME a", 'SELECT "'):
            assert c.do(bad)[0].startswith(("BAD", "NO")), bad
        for no in ("SELECT Missing", "DELETE Missing", "RENAME Missing New", "CREATE INBOX", "DELETE INBOX", "STATUS Missing (MESSAGES)"):
            assert c.do(no)[0].startswith("NO"), no
        c.ok("NOOP")
