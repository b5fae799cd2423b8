"""Sizes, counts and odd bytes: what is taken comes back as it came, what is too much is refused with a reason."""

import hashlib
import os
import re
import select
import socket
import ssl

import pytest

from instance import PATIENCE, Instance, Raw, in_thread
from test_addresses import Smtp, code
from test_imap import Imap

BOB = "bob@example.test"


def instance(tmp_path, **settings):
    m = Instance(tmp_path / "mail", settings=settings)
    m.init()
    m.user("alice@example.test")
    m.user(BOB)
    return m


@pytest.fixture
def small(tmp_path):
    with instance(tmp_path, message_size_limit="50000", header_size_limit="4096", message_header_count_limit="100",
                  message_header_size_limit="20000", smtpd_recipient_limit="3") as m:
        yield m.start()


# ---- sizes ----

def test_size_is_announced_and_enforced(small):
    with Smtp(small) as c:
        assert "250-SIZE 50000" in c.greeting or "250 SIZE 50000" in c.greeting
        assert c.ask("MAIL FROM:<a@elsewhere.test> SIZE=50001").startswith("552 5.3.4")
        assert code(c.ask("MAIL FROM:<a@elsewhere.test> SIZE=50000")) == "250"
        assert code(c.ask("RSET")) == "250"
        for options in ("", " SIZE=10"):                 # said nothing, or lied
            _, end = c.deliver("a@elsewhere.test", [BOB], "Subject: big\r\n\r\n" + ("x" * 78 + "\r\n") * 700, options)
            assert end.startswith("552 5.3.4"), end
        # By BDAT: the first chunk fits, the second does not; its bytes are read all the same.
        c.ask("MAIL FROM:<a@elsewhere.test>")
        c.ask(f"RCPT TO:<{BOB}>")
        c.send(b"BDAT 30000\r\n" + b"Subject: x\r\n\r\n" + b"x" * (30000 - 14))
        assert code(c.reply()) == "250"
        c.send(b"BDAT 30000 LAST\r\n" + b"NOOP\r\n" * 5000)
        assert c.reply().startswith("552")
        c.ask("RSET")
        _, end = c.deliver("a@elsewhere.test", [BOB])
        assert code(end) == "250"
    assert small.count(BOB) == 1


def test_append_over_the_message_limit(small):
    with Imap(small, BOB) as c:
        c.send("a APPEND INBOX {60000}\r\n")             # refused before it is sent
        assert re.match(r"a NO \[(TOOBIG|LIMIT)\]", c.line())
        c.ok("NOOP")
        c.send(b"b APPEND INBOX {60000+}\r\n" + b"x" * 60000 + b"\r\n")
        assert re.match(r"b NO \[(TOOBIG|LIMIT)\]", c.line())
        c.ok("NOOP")


@pytest.mark.parametrize("header", ["X-Long: " + "y" * 900 + "\r\n" + ("\t" + "y" * 900 + "\r\n") * 5,    # one field
                                    "X-Header: y\r\n" * 101,                                              # their number
                                    ("X-Header: " + "y" * 900 + "\r\n") * 25],                            # all together
                         ids=["field", "count", "size"])
def test_header_limits(small, header):
    with Smtp(small) as c:
        _, end = c.deliver("a@elsewhere.test", [BOB], header + "Subject: x\r\n\r\nx\r\n")
        assert code(end)[0] == "5" and re.search(r"[Hh]eader", end), end
        # The same in the body is nobody's business.
        _, end = c.deliver("a@elsewhere.test", [BOB], "Subject: x\r\n\r\n" + header)
        assert code(end) == "250"


def test_recipient_limit(small):
    with Smtp(small) as c:
        c.ask("MAIL FROM:<a@elsewhere.test>")
        answers = [c.ask(f"RCPT TO:<bob+{i}@example.test>") for i in range(5)]
        assert [code(a) for a in answers] == ["250"] * 3 + ["452"] * 2
        assert answers[4].startswith("452 4.5.3")


def test_command_line_limit(mail):
    with Smtp(mail) as c:
        assert code(c.ask("NOOP " + "x" * 1500)) == "250"
        assert code(c.ask("NOOP " + "x" * 4000)) in ("500", "501")
        assert code(c.ask("NOOP")) == "250"


# ---- quota ----

def test_quota_is_told_at_rcpt_and_to_imap(stopped):
    stopped.command("user", "set", BOB, "--quota", "100K")
    mail = stopped.start()
    with Smtp(mail) as c:
        _, end = c.deliver("a@elsewhere.test", [BOB], "Subject: x\r\n\r\n" + ("x" * 78 + "\r\n") * 1000)
        assert code(end) == "250"
        # RFC 1870 6.1: known from SIZE, so told now; the other recipient is served.
        answers, end = c.deliver("a@elsewhere.test", [BOB, "alice@example.test"], options=" SIZE=60000")
        assert code(answers[0]) in ("452", "552") and re.search(r" [45]\.2\.2 ", answers[0])
        assert code(answers[1]) == "250" and code(end) == "250"
    box = mail.imap(BOB)
    status, why = box.append("INBOX", None, None, b"Subject: x\r\n\r\n" + b"x" * 60000)
    assert status == "NO" and b"OVERQUOTA" in why[0]
    assert box.append("INBOX", None, None, b"Subject: x\r\n\r\nsmall\r\n")[0] == "OK"
    box.select()
    assert box.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK" and box.expunge()[0] == "OK"
    mail.send(BOB, text="Subject: x\r\n\r\n" + ("x" * 78 + "\r\n") * 800)          # there is room again
    box.logout()


def test_full_for_one_recipient_only(stopped):
    """Nobody told the size: found out after the data, and only the one over quota goes without."""
    stopped.command("user", "set", BOB, "--quota", "20K")
    mail = stopped.start()
    with Smtp(mail) as c:
        answers, end = c.deliver("alice@example.test", [BOB, "alice@example.test"],
                                 "Subject: x\r\n\r\n" + ("x" * 78 + "\r\n") * 500)
        assert code(end) == "250"
    assert mail.count(BOB) == 0 and mail.count("alice@example.test") >= 1
    with Raw(mail.ports["lmtp"]) as c:
        c.reply()
        c.ask("LHLO x")
        c.ask("MAIL FROM:<a@elsewhere.test>")
        c.ask(f"RCPT TO:<{BOB}>")
        c.ask("RCPT TO:<alice@example.test>")
        c.ask("DATA")
        c.send("Subject: x\r\n\r\n" + ("x" * 78 + "\r\n") * 500 + ".\r\n")
        assert code(c.reply()) in ("452", "552", "550")
        assert code(c.reply()) == "250"


# ---- bytes ----

ODD = (b"Subject: odd\r\nX-NUL: a\0b\r\n\r\nnul \0 and bare \r carriage \r\r returns\r\n"
       b"\0\0\r\n.\r\n..\r\n\xff\xfe\x80 8 bit\r\n" + b"l" * 5000 + b"\r\nlast line without an end")
AS_SENT = ODD.replace(b"\0", b"\x80")    # no literal may hold a NUL (RFC 3501 9: CHAR8); the file keeps them


def fetch_all(mail, user=BOB):
    box = mail.imap(user)
    n = int(box.select(readonly=True)[1][0])
    out = [box.fetch(str(i + 1), "(BODY.PEEK[])")[1][0][1] for i in range(n)]
    sizes = [int(re.search(rb"RFC822.SIZE (\d+)", box.fetch(str(i + 1), "(RFC822.SIZE)")[1][0]).group(1)) for i in range(n)]
    box.logout()
    assert [len(x) for x in out] == sizes
    return out


def nuls_kept(mail):
    with open(mail.wait_messages(BOB, 1)[0], "rb") as f:
        return f.read().count(b"\0")


def test_odd_bytes_by_bdat(mail):
    with Smtp(mail) as c:
        c.ask("MAIL FROM:<a@elsewhere.test> BODY=8BITMIME")
        c.ask(f"RCPT TO:<{BOB}>")
        half = len(ODD) // 2
        c.send(b"BDAT %d\r\n" % half + ODD[:half])
        assert code(c.reply()) == "250"
        c.send(b"BDAT %d LAST\r\n" % (len(ODD) - half) + ODD[half:])
        assert code(c.reply()) == "250"
    got = fetch_all(mail)[0]
    assert got.endswith(AS_SENT) or got.endswith(AS_SENT + b"\r\n")
    assert nuls_kept(mail) == ODD.count(b"\0")
    pop = mail.pop3(BOB)
    size = pop.list()[1][0].split()[1]
    assert int(size) == len(got)
    pop.quit()


def test_odd_bytes_by_append(mail):
    box = mail.imap(BOB)
    box.create("Odd")
    box.literal = ODD                # imaplib's append() would "correct" line ends
    assert box._simple_command("APPEND", "INBOX", r"(\Seen)")[0] == "OK"
    box.logout()
    assert fetch_all(mail) == [AS_SENT]
    assert nuls_kept(mail) == ODD.count(b"\0")


# ---- large ----

@pytest.fixture
def large(tmp_path):
    with instance(tmp_path, message_size_limit="100000000") as m:
        yield m.start()


def lines_of(megabytes):
    line = b"0123456789abcdef" * 4 + b"\r\n"
    return line * (megabytes * 1_000_000 // len(line))


@pytest.mark.parametrize("megabytes", [4, 60])
def test_large_messages_by_every_road(large, megabytes):
    body = b"Subject: large\r\n\r\n" + lines_of(megabytes)
    digest = hashlib.sha256(body).hexdigest()
    with large.submission("alice@example.test") as s:
        s.sendmail("alice@example.test", [BOB], b"From: alice@example.test\r\n" + body)
    with Smtp(large) as c:
        c.ask(f"MAIL FROM:<a@elsewhere.test> SIZE={len(body)}")
        c.ask(f"RCPT TO:<{BOB}>")
        at, step = 0, 7_000_003
        while at < len(body):
            piece = body[at:at + step]
            at += len(piece)
            c.send(b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at == len(body) else b"") + piece)
            assert code(c.reply()) == "250"
    box = large.imap(BOB)
    assert box.append("INBOX", None, None, body)[0] == "OK"
    assert box.select()[1] == [b"3"]
    for n in ("1", "2", "3"):
        got = box.fetch(n, "(BODY.PEEK[])")[1][0][1]
        assert hashlib.sha256(got[-len(body):] if n != "1" else b"Subject: large\r\n\r\n" + got[-len(body) + 18:]).hexdigest() == digest
    box.logout()
    pop = large.pop3(BOB)
    text = b"\r\n".join(pop.retr(3)[1]) + b"\r\n"
    assert hashlib.sha256(text).hexdigest() == digest
    pop.quit()
    assert sum(os.path.getsize(p) for p in large.wait_messages(BOB, 3)) > 2.9 * len(body) * 0.97


# ---- many ----

def test_ten_thousand_lines_after_log_in(mail):
    mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        c.send(b"".join(b"a%d FETCH 1 (FLAGS UID)\r\n" % i for i in range(10_000)))
        for i in range(10_000):
            line = c.line()
            while line.startswith("* "):
                line = c.line()
            assert line.startswith(f"a{i} OK")
    with Raw(mail.ports["pop3"]) as c:
        c.line()
        c.send(f"USER {BOB}\r\nPASS secret\r\n".encode() + b"".join(b"LIST 1\r\n" for i in range(10_000)) + b"QUIT\r\n")
        answers = [c.line() for _ in range(10_003)]
        assert all(a.startswith("+OK") for a in answers), [a for a in answers if not a.startswith("+OK")][:3]


def test_ten_thousand_smtp_lines_are_answered_or_closed(mail):
    for command, most in ((b"NOOP\r\n", 10_000), (b"RSET\r\n", 10_000), (b"VRFY bob@example.test\r\n", 10_000),
                          (b"MAIL FROM:<a@elsewhere.test>\r\nRSET\r\n", 5000), (b"nonsense\r\n", 10_000)):
        with Smtp(mail) as c:
            sender = in_thread(c.send, command * most + b"QUIT\r\n")
            lines = []
            try:
                lines.extend(iter(c.line, ""))           # to the end: ours after QUIT, or theirs
            except ConnectionResetError:
                pass
            try:
                sender.result()
            except ConnectionError:
                pass
            assert all(re.match(r"[245]\d\d[ -]", line) for line in lines)
            assert lines[-1][:3] in ("221", "421"), (command, lines[-1])
            assert len(lines) == 10_001 or lines[-1][:3] == "421"
    assert mail.count(BOB) == 0
    mail.send(BOB)


def test_thousand_recipients_in_one_transaction(mail):
    with Smtp(mail) as c:
        c.send(b"MAIL FROM:<a@elsewhere.test>\r\n" + b"".join(b"RCPT TO:<bob+%d@example.test>\r\n" % i for i in range(1000)) + b"DATA\r\n")
        assert all(code(c.reply()) == "250" for _ in range(1001))
        assert code(c.reply()) == "354"
        c.send("Subject: x\r\n\r\nx\r\n.\r\n")
        assert code(c.reply()) == "250"
    assert mail.count(BOB) >= 1


def exchange(secure, data, lines):
    """Sends data and reads that many lines, both as they go. By one thread: an SSL object is not for two at once."""
    secure.setblocking(False)
    got = b""
    while data or got.count(b"\n") < lines:
        try:
            if data:
                data = data[secure.send(data[:16384]):]
                continue
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            piece = secure.recv(65536)
            assert piece, f"closed after {got.count(bytes([10]))} lines"
            got += piece
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            ready = select.select([secure], [secure] if data else [], [], PATIENCE)
            assert any(ready), f"silent after {got.count(bytes([10]))} lines"
    return got.splitlines()


def test_ten_thousand_lines_through_tls(mail):
    """Bytes that wait inside the TLS layer wake nobody: they must be drained before the session is parked."""
    with socket.create_connection(("127.0.0.1", mail.ports["imaps"]), timeout=PATIENCE) as plain, \
            mail.tls().wrap_socket(plain) as secure:
        lines = exchange(secure, b"".join(b"a%d NOOP\r\n" % i for i in range(10_000)), 10_001)
        assert lines[0].startswith(b"* OK")
        assert all(line.startswith(b"a%d OK " % i) for i, line in enumerate(lines[1:])) and len(lines) == 10_001
        # Units across TLS records.
        for piece, answers in ((b"b NO", 0), (b"OP\r\nc NOOP\r\nd N", 2), (b"OOP\r\n", 1)):
            lines = exchange(secure, piece, answers)
            assert [line.split()[0] for line in lines] == {0: [], 2: [b"b", b"c"], 1: [b"d"]}[answers]


def test_slow_reader_of_a_large_mailbox(large):
    """A client that asks for everything and does not read holds nobody else up, and gets it all in the end."""
    body = b"Subject: large\r\n\r\n" + lines_of(4)
    for _ in range(3):
        with large.smtp() as s:
            s.sendmail("a@elsewhere.test", [BOB], body)
    slow = Imap(large, BOB)
    slow.ok("SELECT INBOX")
    slow.send("x FETCH 1:3 (BODY.PEEK[])\r\n" * 3)
    for _ in range(5):
        large.send(BOB)
    assert large.count(BOB) == 8
    got = 0
    for _ in range(3):
        while True:
            line = slow.file.readline()
            assert line
            got += len(line)
            if line.startswith(b"x OK"):
                break
    assert got > 9 * len(body)
    slow.close()
