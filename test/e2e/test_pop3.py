"""POP3 against a mailbox that others change meanwhile."""

import socket

import pytest

from instance import Raw

BOB = "bob@example.test"


class Pop(Raw):
    def __init__(self, mail, user=BOB):
        super().__init__(mail.ports["pop3"])
        assert self.line().startswith("+OK")
        if user:
            assert self.ok(f"USER {user}") and self.ok("PASS secret")

    def do(self, command):
        self.send(command + "\r\n")
        return self.line()

    def ok(self, command):
        line = self.do(command)
        assert line.startswith("+OK"), (command, line)
        return line

    def lines(self, command):
        self.ok(command)
        return list(iter(self.line, "."))


def test_capabilities(mail):
    with Pop(mail, None) as c:
        capabilities = c.lines("CAPA")
        for name in ("TOP", "UIDL", "STLS", "PIPELINING", "RESP-CODES"):
            assert name in capabilities, name
        assert any(line.startswith("SASL ") and "SCRAM-SHA-256" in line.split() for line in capabilities)
        for command in ("STAT", "LIST", "RETR 1", "DELE 1", "UIDL", "TOP 1 0"):
            assert c.do(command).startswith("-ERR")
        assert c.do("STAT").startswith("-ERR") and c.ok("QUIT") and c.at_end()


def test_all_commands(mail):
    for i in range(3):
        mail.send(BOB, subject=f"number {i}", text=f"Subject: number {i}\r\n\r\nfirst\r\n.dotted\r\n..\r\nlast\r\n")
    with Pop(mail) as c:
        n, size = map(int, c.ok("STAT").split()[1:3])
        listing = [tuple(map(int, line.split())) for line in c.lines("LIST")]
        assert n == 3 and [a for a, _ in listing] == [1, 2, 3] and sum(b for _, b in listing) == size
        uids = [line.split()[1] for line in c.lines("UIDL")]
        assert len(set(uids)) == 3 and c.ok("UIDL 2").split()[2] == uids[1]
        whole = c.lines("RETR 2")
        assert "Subject: number 1" in whole and whole[-4:] == ["first", "..dotted", "...", "last"]
        assert sum(len(line) + 2 - line.startswith("..") for line in whole) == listing[1][1]
        assert whole[-5] == "" and c.lines("TOP 2 0") == whole[:-4] and c.lines("TOP 2 2") == whole[:-2]
        for bad in ("RETR 4", "RETR 0", "RETR x", "DELE 4", "TOP 1", "LIST 9", "UIDL -1", "RETR 99999999999999999999"):
            assert c.do(bad).startswith("-ERR"), bad
        c.ok("DELE 1")
        assert c.do("DELE 1").startswith("-ERR") and c.do("RETR 1").startswith("-ERR")
        assert c.ok("STAT").split()[1] == "2"
        c.ok("RSET")
        assert c.ok("STAT").split()[1] == "3"
        c.ok("DELE 1")
        c.ok("NOOP")
        c.ok("QUIT")
    with Pop(mail) as c:                                # what is left keeps its name
        assert [line.split()[1] for line in c.lines("UIDL")] == uids[1:]
    assert mail.count(BOB) == 2


def test_only_quit_deletes(mail):
    mail.send(BOB)
    with Pop(mail) as c:
        c.ok("DELE 1")
    assert mail.count(BOB) == 1


def test_names_outlive_a_restart(mail):
    for _ in range(3):
        mail.send(BOB)
    with Pop(mail) as c:
        before = c.lines("UIDL")
    mail.stop()
    mail.start()
    with Pop(mail) as c:
        assert c.lines("UIDL") == before


def test_others_change_the_mailbox(mail):
    for i in range(3):
        mail.send(BOB, subject=f"number {i}")
    with Pop(mail) as c:
        box = mail.imap(BOB)
        box.select()
        box.store("2", "+FLAGS", r"(\Deleted)")
        box.expunge()
        mail.send(BOB, subject="too late")
        assert c.ok("STAT").split()[1] == "3"            # as it was at log-in
        answer = c.do("RETR 2")                          # the open session may still have it, or is told
        if answer.startswith("+OK"):
            assert "Subject: number 1" in list(iter(c.line, "."))
        assert "Subject: number 2" in c.lines("RETR 3")
        c.ok("DELE 3")
        c.ok("DELE 2")
        c.do("QUIT")
        box.noop()
        assert box.search(None, "SUBJECT", "number 2")[1] == [b""]
        assert box.search(None, "ALL")[1] == [b"1 2"]
        box.logout()


def test_two_sessions_delete_the_same(mail):
    for _ in range(2):
        mail.send(BOB)
    a, b = Pop(mail), Pop(mail)
    for c in (a, b):
        c.ok("DELE 1")
    a.ok("QUIT")
    b.do("QUIT")
    assert mail.count(BOB) == 1
    a.close()
    b.close()


@pytest.mark.parametrize("service,dialogue,last", [
    ("pop3", b"USER bob@example.test\r\nPASS secret\r\nLIST\r\nRETR 1\r\nQUIT\r\n", "+OK"),
    ("imap", b'a LOGIN {16}\r\nbob@example.test "secret"\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\nd LOGOUT\r\n', "d OK")])
def test_one_byte_at_a_time(mail, service, dialogue, last):
    mail.send(BOB)
    with Raw(mail.ports[service]) as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(dialogue)):
            c.send(dialogue[i:i + 1])
        lines = list(iter(lambda: c.file.readline().decode(), ""))
    assert any("A line." in line for line in lines) and lines[-1].startswith(last)
