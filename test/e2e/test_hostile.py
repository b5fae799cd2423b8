"""Clients that mean harm, or do not know better: a clear answer or a clean close, and others are served."""

import os
import socket
import ssl
import struct
import time

import pytest

from instance import Instance, Raw


def greeted(mail, service="smtp", hello="EHLO client.test"):
    c = Raw(mail.ports[service])
    c.reply() if service not in ("imap", "pop3") else c.line()
    if hello:
        c.ask(hello)
    return c


def works(mail):
    mail.send("bob@example.test")
    return True


def test_ten_thousand_pipelined_commands(mail):
    with greeted(mail) as c:
        c.socket.settimeout(120)
        c.send(b"RSET\r\n" * 50 + b"NOOP\r\n" * 40)
        for _ in range(90):
            assert c.reply()[:3] in ("250", "421")
    with greeted(mail, "imap", None) as c:
        c.send(b"".join(b"a%d NOOP\r\n" % i for i in range(10_000)))
        for i in range(10_000):
            assert c.line().startswith(f"a{i} OK ")
    assert works(mail)


def test_pipelined_transaction_in_one_packet(mail):
    with Raw(mail.ports["smtp"]) as c:
        c.reply()
        c.send("EHLO client.test\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\n"
               "RCPT TO:<nobody@example.test>\r\nDATA\r\n")
        assert c.reply().startswith("250")
        assert [c.reply()[:3] for _ in range(4)] == ["250", "250", "550", "354"]
        c.send("Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
        assert c.reply().startswith("250 2.0.0")
        assert c.reply().startswith("221")


def test_one_byte_at_a_time(mail):
    text = b"EHLO x\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: slow\r\n\r\n..dot\r\n.\r\nQUIT\r\n"
    with Raw(mail.ports["smtp"]) as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(text)):
            c.send(text[i:i + 1])
        answers = [c.reply()[:3] for _ in range(7)]
    assert answers == ["220", "250", "250", "250", "354", "250", "221"]
    assert b"\n.dot\n" in open(mail.wait_messages("bob@example.test", 1)[0], "rb").read()


@pytest.mark.parametrize("junk", [b"A" * 3_000_000 + b"\r\n", b"\0" * 5000 + b"\r\n", b"\xff\xfe" * 3000 + b"\r\n",
                                  b"MAIL FROM:<" + b"(" * 100_000 + b">\r\n", b"\r" * 10_000, b"\n" * 2_000],
                         ids=["long line", "NULs", "no UTF-8", "parentheses", "CRs", "LFs"])
@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
def test_junk_is_answered_or_closed(mail, junk, service):
    c = greeted(mail, service, None)
    try:
        c.send(junk)
        c.socket.shutdown(socket.SHUT_WR)
        while c.file.read(65536):
            pass
    except (ConnectionError, BrokenPipeError):
        pass
    c.close()
    assert works(mail)


@pytest.mark.parametrize("end", ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r\r\n", "\r\n\x00.\r\n", "\r.\r\n"])
def test_smuggling_ends_no_data(mail, end):
    """RFC 5321 4.1.1.4: only CRLF.CRLF ends the data (CVE-2023-51764 and its kin)."""
    with greeted(mail) as c:
        c.ask("MAIL FROM:<a@elsewhere.test>")
        c.ask("RCPT TO:<bob@example.test>")
        c.ask("DATA")
        c.send("Subject: one\r\n\r\nfirst" + end + "MAIL FROM:<evil@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\n"
               "DATA\r\nSubject: smuggled\r\n\r\nsecond\r\n.\r\n")
        c.reply()
        assert c.ask("NOOP").startswith(("250", "421", ""))
    assert mail.count("bob@example.test") <= 1


def test_starttls_injection_is_refused(mail):
    with greeted(mail, "submission") as c:
        c.send("STARTTLS\r\nNOOP\r\n")
        assert not c.reply().startswith("220") or c.at_end()
    with greeted(mail, "imap", None) as c:
        c.send("a STARTTLS\r\nb NOOP\r\n")
        assert "a OK" not in c.line()
    with greeted(mail, "pop3", None) as c:
        c.send("STLS\r\nNOOP\r\n")
        assert not c.line().startswith("+OK")


def test_starttls_forgets_what_was_said_in_clear(mail):
    def over_tls(c):
        c.socket = mail.tls().wrap_socket(c.socket)
        c.file = c.socket.makefile("rb")

    with greeted(mail, "submission") as c:
        assert c.ask("MAIL FROM:<alice@example.test>").startswith("530")
    with greeted(mail) as c:
        assert c.ask("MAIL FROM:<a@elsewhere.test>").startswith("250")
        assert c.ask("RCPT TO:<bob@example.test>").startswith("250")
        assert c.ask("STARTTLS").startswith("220")
        over_tls(c)
        assert c.ask("RCPT TO:<alice@example.test>").startswith("503")
        assert c.ask("DATA").startswith("503")
        assert "STARTTLS" not in c.ask("EHLO client.test")
        assert c.ask("STARTTLS").startswith("5")
    with greeted(mail, "pop3", None) as c:
        c.send("USER bob@example.test\r\n")
        assert c.line().startswith("+OK")
        c.send("STLS\r\n")
        assert c.line().startswith("+OK")
        over_tls(c)
        c.send("PASS secret\r\n")
        assert c.line().startswith("-ERR")


def test_bdat_counts_exactly(mail):
    with greeted(mail) as c:
        c.send("BDAT 5\r\nhello")
        assert c.reply().startswith("503")
        c.ask("MAIL FROM:<a@elsewhere.test>")
        c.ask("RCPT TO:<bob@example.test>")
        body = b"Subject: chunks\r\n\r\n.\r\nBDAT 3\r\nline\r"
        c.send(b"BDAT %d\r\n" % len(body) + body)
        assert c.reply().startswith("250")
        c.send(b"BDAT 1\r\n\nBDAT 0 LAST\r\n")
        assert c.reply().startswith("250")
        assert c.reply().startswith("250 2.0.0")
    assert b"\n.\nBDAT 3\nline\n" in open(mail.wait_messages("bob@example.test", 1)[0], "rb").read()


def test_vanishing_clients_everywhere(mail):
    text = (b"EHLO x\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
            b"Subject: gone\r\n\r\nhello\r\n.\r\n")
    for cut in range(0, len(text), 3):
        with Raw(mail.ports["smtp"]) as c:
            c.send(text[:cut])
            if cut % 2:          # RST instead of FIN
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    imap = b'a LOGIN "bob@example.test" "secret"\r\nb SELECT INBOX\r\nc FETCH 1:* BODY[]\r\nd IDLE\r\nDONE\r\n'
    for cut in range(0, len(imap), 5):
        with Raw(mail.ports["imap"]) as c:
            c.send(imap[:cut])
    append = b'a LOGIN "bob@example.test" "secret"\r\nb APPEND INBOX {30}\r\nSubject: half of a message\r\n'
    bdat = (b"EHLO x\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nBDAT 30\r\nSubject: gone\r\n\r\n")
    pop = b"USER bob@example.test\r\nPASS secret\r\nDELE 1\r\nRETR 1\r\n"
    for service, dialogue in (("imap", append), ("smtp", bdat), ("pop3", pop)):
        for cut in range(1, len(dialogue), 7):
            with Raw(mail.ports[service]) as c:
                c.send(dialogue[:cut])
                if cut % 2:
                    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    before = mail.count("bob@example.test")
    assert works(mail)
    assert mail.count("bob@example.test") == before + 1


def test_vanishing_in_tls(mail):
    """Cut at every few bytes of what a TLS client sends: its hello, its commands."""
    context = mail.tls()
    for cut in (1, 5, 6, 50, 100, 200):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        for service in ("submissions", "imaps", "pop3s"):
            with Raw(mail.ports[service]) as c:
                c.send(outgoing.read(cut) if outgoing.pending > cut else b"\x16\x03\x01")
    for service in ("submissions", "imaps", "pop3s"):
        with socket.create_connection(("127.0.0.1", mail.ports[service])) as s:
            secure = context.wrap_socket(s)
            secure.sendall(b"EHLO x\r\n")
            secure.close()                               # without close_notify
    assert works(mail)


def test_endless_headers_and_many_lines(mail):
    with greeted(mail) as c:
        c.ask("MAIL FROM:<a@elsewhere.test>")
        c.ask("RCPT TO:<bob@example.test>")
        c.ask("DATA")
        line = b"X-Header: " + b"y" * 900 + b"\r\n"
        try:
            for _ in range(12_000):
                c.send(line)
            c.send(b"\r\n.\r\n")
        except ConnectionError:
            pass
        assert c.reply()[:1] in ("5", "4")
    assert works(mail)


def test_deeply_nested_mime_is_served(mail):
    depth = 3000
    text = "".join(f'Content-Type: multipart/mixed; boundary="b{i}"\r\n\r\n--b{i}\r\n' for i in range(depth)) + "\r\nx\r\n"
    mail.send("bob@example.test", text="Subject: deep\r\n" + text)
    box = mail.imap("bob@example.test")
    box.select()
    assert box.fetch("1", "(BODYSTRUCTURE ENVELOPE)")[0] == "OK"
    box.logout()


def test_imap_literal_announced_and_never_sent(mail):
    cs = []
    for _ in range(20):
        c = Raw(mail.ports["imap"])
        c.line()
        c.send("a LOGIN {9}\r\n")
        cs.append(c)
    with Raw(mail.ports["imap"]) as c:
        c.line()
        c.send("a LOGIN {99999999999}\r\n")
        assert not c.line().startswith("+ ")
    assert works(mail)
    for c in cs:
        c.close()


def test_many_idle_connections(mail):
    cs = [Raw(mail.ports["imap"]) for _ in range(300)]
    start = time.monotonic()
    assert works(mail)
    assert time.monotonic() - start < 20
    for c in cs:
        c.close()


def test_garbage_instead_of_tls(mail):
    for service in ("submissions", "imaps", "pop3s"):
        with Raw(mail.ports[service]) as c:
            c.send(b"GET / HTTP/1.0\r\n\r\n" + os.urandom(1000))
            try:
                while c.file.read(4096):
                    pass
            except ConnectionError:
                pass
    assert works(mail)


def test_old_tls_is_refused(mail):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(socket.create_connection(("127.0.0.1", mail.ports["imaps"])))


def test_idle_limits_end_silent_clients(tmp_path):
    with Instance(tmp_path / "mail", settings={"smtpd_timeout": "1s"}) as m:
        m.start()
        with Raw(m.ports["smtp"]) as c:
            c.reply()
            assert c.reply().startswith("421")
            assert c.at_end()


EXTREMES = [
    "LIST \"\" \"" + "*%" * 300 + "x\"",
    "LIST \"\" (" + " ".join('"*a*b*c%d"' % i for i in range(500)) + ")",
    "SEARCH " + "NOT " * 10_000 + "ALL",
    "SEARCH " + "(" * 10_000 + "ALL" + ")" * 10_000,
    "SEARCH " + "OR " * 5000 + "ALL " * 5000 + "ALL",
    "FETCH 1:4294967295 (FLAGS)",
    "UID FETCH " + ",".join(str(i * 2 + 1) for i in range(10_000)) + " (FLAGS)",
    "FETCH " + ",".join(["1:*"] * 10_000) + " (UID)",
    "FETCH 1 (" + " ".join(["BODY.PEEK[" + ".".join(["1"] * 500) + "]"] * 20) + ")",
    "FETCH 1 BODY.PEEK[]<4294967295.4294967295>",
    "FETCH 1 BODY.PEEK[HEADER.FIELDS (" + "X " * 10_000 + "Y)]",
    "STORE 1 FLAGS (" + " ".join(f"keyword{i}" for i in range(5000)) + ")",
    "STORE 1 FLAGS (" + "k" * 5000 + ")",
    "CREATE " + "/".join(["a"] * 2000),
    "CREATE " + "a" * 5000,
    "CREATE \"../../../../tmp/postrider-was-here\"",
    "CREATE \"a/../b\"", "CREATE \"/etc\"", "CREATE \".\"", "CREATE \"a//b\"", "CREATE \"&AAA\"",
    "RENAME INBOX " + "b" * 3000,
    "STATUS INBOX (" + "MESSAGES " * 5000 + "UIDNEXT)",
    "ENABLE " + "X " * 5000 + "Y",
    "ID (" + '"k" "v" ' * 5000 + ")",
]


def test_imap_commands_without_measure(mail):
    """Each is answered, whatever the answer, and in a time that nobody else would notice."""
    mail.send("bob@example.test")
    with Raw(mail.ports["imap"]) as c:
        c.line()
        c.send('l LOGIN "bob@example.test" "secret"\r\ns SELECT INBOX\r\n')
        while not c.line().startswith("s OK"):
            pass
        for n, command in enumerate(EXTREMES):
            begin = time.monotonic()
            c.send(f"x{n} {command}\r\n")
            line = c.file.readline().decode()
            while not line.startswith(f"x{n} "):
                assert line, command[:100]
                line = c.file.readline().decode()
            assert line.split()[1] in ("OK", "NO", "BAD"), (command[:100], line)
            assert time.monotonic() - begin < 10, command[:100]
    assert not os.path.exists("/tmp/postrider-was-here")
    names = [os.path.relpath(os.path.join(base, d), mail.maildir("bob@example.test"))
             for base, dirs, _ in os.walk(os.path.join(mail.dir, "mail")) for d in dirs]
    assert not any("postrider-was-here" in os.path.basename(n) and n.startswith("..") for n in names)
    assert works(mail)
    assert mail.count("bob@example.test") >= 1
