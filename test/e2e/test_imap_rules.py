"""What the RFCs ask of IMAP and POP3 where clients seldom go: NULs, messages that cannot be read, sequence of states."""

import base64
import os
import re
import time

import pytest

from instance import PATIENCE, Instance, Raw, wait_for
from test_imap import BOB, Imap
from test_pop3 import Pop

NULS = b"From: a@b.test\r\nSubject: nul\0in it\r\n\r\na\0b\r\n\0\r\n.\0\r\n"


def fetch(c, command):
    """The literal of a FETCH of one section."""
    c.n += 1
    c.send(f"t{c.n} {command}\r\n")
    line = c.line()
    body = c.file.read(int(re.search(r"\{(\d+)\}$", line).group(1)))
    wait_for("the end of FETCH", lambda: c.line().startswith(f"t{c.n} OK"))
    return body


@pytest.mark.parametrize("more", [b"", b"a line of \0 text\r\n" * 20_000], ids=["small", "large"])
def test_no_nul_is_sent_and_every_size_holds(mail, more):
    text = NULS + more
    with Imap(mail, BOB) as c:
        c.send(b"a APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
        assert c.line().startswith("a OK")
        c.ok("SELECT INBOX")
        wanted = text.replace(b"\0", b"\x80")
        assert fetch(c, "FETCH 1 BODY.PEEK[]") == wanted
        assert fetch(c, f"FETCH 1 BODY.PEEK[]<3.{len(text) - 5}>") == wanted[3:-2]
        head = wanted[:wanted.index(b"\r\n\r\n") + 4]
        assert fetch(c, "FETCH 1 BODY.PEEK[HEADER]") == head
        assert fetch(c, "FETCH 1 BODY.PEEK[TEXT]") == fetch(c, "FETCH 1 BODY.PEEK[1]") == wanted[len(head):]
        assert fetch(c, "FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]") == b"Subject: nul\x80in it\r\n\r\n"
        assert f"RFC822.SIZE {len(text)}" in c.ok("FETCH 1 (RFC822.SIZE)")[0]
        c.send("e FETCH 1 (ENVELOPE BODYSTRUCTURE)\r\n")
        assert b"\0" not in c.file.readline()
        assert c.line().startswith("e OK")
    [path] = mail.wait_messages(BOB, 1)
    assert open(path, "rb").read().count(b"\0") == text.count(b"\0")          # kept as it came
    with Pop(mail) as c:
        assert c.ok("LIST 1").split()[2] == str(len(text))
        c.ok("RETR 1")
        got = b"".join(iter(c.file.readline, b".\r\n"))
        assert got.replace(b"\r\n..", b"\r\n.") == wanted
        c.ok("TOP 1 0")
        assert b"".join(iter(c.file.readline, b".\r\n")) == head


def test_top_ends_the_header_of_a_message_without_body(mail):
    text = "Subject: header only\r\n"
    with Imap(mail, BOB) as c:
        c.append("INBOX", text)
    with Pop(mail) as c:
        for n in (0, 3):
            assert c.lines(f"TOP 1 {n}") == ["Subject: header only", ""]
        assert c.ok("LIST 1").split()[2] == str(len(text)) and c.lines("RETR 1") == ["Subject: header only"]


def test_search_says_no_when_a_message_cannot_be_read(mail):
    """An answer without it would look complete."""
    for subject in ("readable", "broken", "readable too"):
        mail.send(BOB, text=f"Subject: {subject}\r\n\r\nneedle\r\n")
    mail.wait_messages(BOB, 3)
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX")
        c.ok("FETCH 1:3 (FLAGS)")
        path = wait_for("its file", lambda: next((p for p in mail.messages(BOB) if "broken" in open(p).read()), None))
        folder = os.path.dirname(path)
        away = os.path.join(os.path.dirname(folder), "kept")
        os.rename(path, away)
        os.mkdir(path)
        for search in ("BODY needle", "TEXT needle", "NOT BODY missing", "HEADER X-Nothing x"):
            assert c.do(f"SEARCH {search}")[0].startswith("NO [UNAVAILABLE]"), search
        assert c.ok("SEARCH SUBJECT broken") == ["* SEARCH 2"]               # known without the file
        assert c.ok("SEARCH 1 BODY needle") == ["* SEARCH 1"]                # not asked for
        assert c.do("FETCH 1:3 (UID BODY.PEEK[TEXT])")[0].startswith("NO [UNAVAILABLE]")
        os.rmdir(path)
        os.rename(away, path)
        assert c.ok("SEARCH BODY needle") == ["* SEARCH 1 2 3"]


def test_search_and_fetch_say_no_where_a_foreign_message_cannot_be_parsed(mail):
    mail.send(BOB)
    [first] = mail.wait_messages(BOB, 1)
    box = os.path.dirname(os.path.dirname(first))
    name = os.path.join(box, "cur", "1700000000.foreign.host:2,S")
    with open(os.path.join(box, "foreign"), "w") as f:
        f.write("Subject: foreign\n\nneedle\n")
    st = os.stat(first)
    os.chown(os.path.join(box, "foreign"), st.st_uid, st.st_gid)
    os.rename(os.path.join(box, "foreign"), name)
    with Imap(mail, BOB) as c:
        wait_for("the foreign message", lambda: "* 2 EXISTS" in c.ok("SELECT INBOX"))
        os.rename(name, os.path.join(box, "foreign"))
        os.mkdir(name)
        assert c.do("SEARCH SUBJECT foreign")[0].startswith("NO [UNAVAILABLE]")
        assert c.do("FETCH 2 (ENVELOPE)")[0].startswith("NO [UNAVAILABLE]")
        os.rmdir(name)
        assert c.do("FETCH 2 (ENVELOPE)")[0].startswith("OK [EXPUNGEISSUED]")  # gone is not unreadable
        assert c.do("SEARCH NOT DELETED SUBJECT foreign")[0].startswith("OK")
        os.rename(os.path.join(box, "foreign"), name)
        assert c.ok("SEARCH SUBJECT foreign") == ["* SEARCH 2"]


def test_esearch_tells_the_modseq_of_what_it_returns(mail):
    """RFC 4731 3.2."""
    for _ in range(3):
        mail.send(BOB)
    with Imap(mail, BOB) as c:
        c.ok("SELECT INBOX (CONDSTORE)")
        for n in (3, 1, 2):
            c.ok(rf"STORE {n} +FLAGS.SILENT (\Flagged)")
        modseq = [int(re.search(r"MODSEQ \((\d+)\)", line).group(1)) for line in c.ok("FETCH 1:3 (MODSEQ)")]
        assert modseq[2] < modseq[0] < modseq[1]
        for returns, of in (("MIN", modseq[0]), ("MAX", modseq[2]), ("MIN MAX", modseq[0]), ("MIN COUNT", modseq[1]),
                            ("ALL", modseq[1]), ("MAX ALL", modseq[1])):
            line = c.ok(f"SEARCH RETURN ({returns}) MODSEQ 1")[0]
            assert line.endswith(f" MODSEQ {of}"), (returns, line, modseq)


def test_keep_alives_of_idle_are_spread(tmp_path):
    """A thousand idle phones are not woken in the same moment."""
    with Instance(tmp_path / "mail", settings={"imap_idle_notify_interval": "2s"}) as mail:
        mail.user(BOB)
        mail.start()
        clients = [Imap(mail, BOB) for _ in range(12)]
        begun, heard = {}, {}
        for c in clients:
            c.ok("SELECT INBOX")
        for c in clients:
            c.send("i IDLE\r\n")
            assert c.line().startswith("+ ")
            begun[c] = time.monotonic()
            c.socket.setblocking(False)
        deadline = time.monotonic() + PATIENCE
        while len(heard) < len(clients) and time.monotonic() < deadline:
            for c in clients:
                if c in heard:
                    continue
                try:
                    heard[c] = c.socket.recv(100), time.monotonic() - begun[c]
                except BlockingIOError:
                    pass
            time.sleep(0.002)
        assert [text for text, _ in heard.values()] == [b"* OK Still here\r\n"] * len(clients)
        after = sorted(t for _, t in heard.values())
        # Up to an eighth of the interval, by the number of the session.
        assert after[0] >= 1.9 and after[-1] - after[0] > 0.1, after
        for c in clients:
            c.close()


def test_a_login_in_clear_is_forgotten_at_starttls(tmp_path):
    plain = base64.b64encode(f"\0{BOB}\0secret".encode()).decode()

    def over_tls(mail, c):
        c.socket = mail.tls().wrap_socket(c.socket)
        c.file = c.socket.makefile("rb")

    with Instance(tmp_path / "mail", settings={"smtpd_tls_auth_only": "no"}) as mail:
        mail.configure(smtpd_relay_restrictions="permit_sasl_authenticated, reject_unauth_destination")
        mail.user(BOB)
        with open(os.path.join(mail.dir, "master.cf")) as f:
            text = f.read()
        with open(os.path.join(mail.dir, "master.cf"), "w") as f:
            f.write(text.replace("smtpd_tls_security_level=encrypt", "smtpd_tls_security_level=may")
                    .replace("smtpd_tls_auth_only=yes", "smtpd_tls_auth_only=no"))
        mail.start()
        with Raw(mail.ports["submission"]) as c:
            def ask(command):
                c.send(command + "\r\n")
                lines = [c.line()]
                while lines[-1][3:4] == "-":
                    lines.append(c.line())
                return "\n".join(lines)
            c.line()
            assert "AUTH" in ask("EHLO client.test")
            assert ask(f"AUTH PLAIN {plain}").startswith("235")
            assert ask("STARTTLS").startswith("220")
            over_tls(mail, c)
            ask("EHLO client.test")
            assert ask("MAIL FROM:<bob@example.test>").startswith(("530", "250"))
            assert ask("RCPT TO:<x@elsewhere.test>").startswith(("5", "4"))       # nobody is logged in
            assert ask("RSET").startswith("250")
            assert ask(f"AUTH PLAIN {plain}").startswith("235")                   # and may log in again
        with Imap(mail) as c:
            c.send("a AUTHENTICATE PLAIN\r\n")
            assert c.line().startswith("+")
            c.send("*\r\n")
            assert c.line().startswith("a BAD")
            c.send("b STARTTLS\r\n")
            assert c.line().startswith("b OK")
            over_tls(mail, c)
            assert c.do("SELECT INBOX")[0].startswith("BAD")
            c.ok(f'LOGIN "{BOB}" "secret"')
            assert c.do("STARTTLS")[0].startswith("BAD")
        with Imap(mail, BOB) as c:
            assert c.do("STARTTLS")[0].startswith("BAD")                          # not behind a log-in in clear
        with Pop(mail) as c:
            assert c.do("STLS").startswith("-ERR")
