"""Limits on connections: of one client, and of what the process has descriptors for."""

import json
import os
import re
import socket
import ssl
import time

import pytest

from instance import PATIENCE, Instance, Raw, wait_for

LIMITED = dict(mynetworks="192.0.2.0/24", smtpd_client_connection_count_limit="3",
               imap_client_connection_count_limit="3", pop3_client_connection_count_limit="3")


@pytest.fixture
def limited(tmp_path):
    with Instance(tmp_path / "mail", settings=LIMITED) as m:
        m.user("bob@example.test")
        m.start()
        yield m


def hold(mail, service, count):
    held = [mail.raw(service) for _ in range(count)]
    for c in held:
        assert c.line()[:1] in "2*+"
    return held


def let_go(held):
    for c in held:
        c.close()


def greeting_of_a_new_one(mail, service):
    with mail.raw(service) as c:
        return c.line()


@pytest.mark.parametrize("service,start,sentence", [
    ("smtp", "220 ", r"421 4\.7\.0 \S+ Error: too many connections from 127\.0\.0\.1"),
    ("imap", "* OK ", r"\* BYE Too many connections from 127\.0\.0\.1\."),
    ("pop3", "+OK ", r"-ERR \[SYS/TEMP\] Too many connections from 127\.0\.0\.1\."),
])
def test_a_client_over_its_limit_is_told_and_comes_back_later(limited, service, start, sentence):
    # The connections that waited for the greeting may still be counted.
    wait_for("all places to be free", lambda: sessions(limited) == 0)
    held = hold(limited, service, 3)
    with limited.raw(service) as one_more:
        assert re.fullmatch(sentence, one_more.line())
        assert one_more.at_end()
    limited.wait_log(r"warning: Connection concurrency limit exceeded: 4 from unknown\[127\.0\.0\.1\] for service")
    held.pop().close()
    wait_for("the place that became free", lambda: greeting_of_a_new_one(limited, service).startswith(start))
    let_go(held)


def test_a_limit_is_of_one_service(limited):
    wait_for("all places to be free", lambda: sessions(limited) == 0)
    held = hold(limited, "smtp", 3)
    assert greeting_of_a_new_one(limited, "submission").startswith("220 ")
    let_go(held)


def test_over_implicit_tls_it_is_closed_before_the_handshake(limited):
    wait_for("all places to be free", lambda: sessions(limited) == 0)
    held = [limited.tls().wrap_socket(socket.create_connection(("127.0.0.1", limited.ports["imaps"]))) for _ in range(3)]
    for s in held:
        assert s.recv(4) == b"* OK"
    with socket.create_connection(("127.0.0.1", limited.ports["imaps"]), timeout=PATIENCE) as s:
        with pytest.raises((ssl.SSLError, OSError)):
            limited.tls().wrap_socket(s)
    let_go(held)


def test_mynetworks_are_exempt_and_a_reload_changes_the_limit(limited):
    limited.configure(mynetworks="127.0.0.0/8")
    limited.command("reload")
    wait_for("no limit", lambda: sessions(limited) == 0)

    def ten():
        held = [limited.raw("smtp") for _ in range(10)]
        lines = [c.line() for c in held]
        let_go(held)
        return all(line.startswith("220 ") for line in lines)
    wait_for("the new mynetworks", ten)
    limited.configure(smtpd_client_event_limit_exceptions="", smtpd_client_connection_count_limit="0")
    limited.command("reload")
    wait_for("the new limit", ten)


def sessions(mail):
    status = json.loads(mail.command("status", "--json").stdout)
    return sum(p["sessions"] for p in status["processes"] if p["name"] in ("smtpd", "access"))


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Narrow(Instance):
    """Run with few descriptors a process."""
    def _become(self):
        return ["prlimit", "--nofile=90:90"]


@pytest.mark.parametrize("service,process,greeting", [("smtp", "smtpd", "220 "), ("imap", "access", "* OK ")])
def test_without_descriptors_accepting_pauses_and_recovers(tmp_path, service, process, greeting):
    """Clients wait or are closed, the processor rests, who is in is served, and all is well again once
    connections end."""
    with Narrow(tmp_path / "mail", as_user="limited by prlimit") as mail:
        mail.user("bob@example.test")
        mail.start()
        mail.wait_log("started -- version")     # a process that is told of another one needs a descriptor for it
        pid = mail.pid_of(process)
        held = hold(mail, service, 5)
        crowd = [socket.create_connection(("127.0.0.1", mail.ports[service]), timeout=PATIENCE) for _ in range(150)]
        mail.wait_log("out of descriptors: .*; accepting pauses")
        began, used = time.monotonic(), cpu_seconds(pid)
        with mail.raw("imap" if service == "smtp" else "smtp") as other:      # the other process is not touched
            assert other.line()
        for c in held:
            c.send("a NOOP\r\n" if service == "imap" else "NOOP\r\n")
            assert "OK" in c.line().upper()
        wait_for("two seconds of clock", lambda: time.monotonic() - began > 2)
        busy = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        assert busy < 0.3, f"{busy:.0%} of a processor while nothing can be accepted"
        assert len(re.findall("out of descriptors", mail.log())) < 40, "each pause is one line, not a flood"
        let_go(crowd + held)
        wait_for("a greeting", lambda: greeting_of_a_new_one(mail, service).startswith(greeting))
        mail.send("bob@example.test")
        mail.wait_messages("bob@example.test", 1)
        assert mail.pid_of(process) == pid


def test_an_idle_client_is_told_and_closed(tmp_path):
    """Over clear text and TLS alike; also one that never finishes its hand-shake holds nothing for long."""
    with Instance(tmp_path / "mail", settings=dict(smtpd_timeout="1s", imap_login_timeout="1s", pop3_timeout="1s")) as m:
        m.start()
        with m.raw("smtp") as c:
            assert c.line().startswith("220 ")
            assert c.line().startswith("421 4.4.2 ")
            assert c.at_end()
        for service, farewell in (("imaps", b"* BYE"), ("pop3s", b"-ERR")):
            s = m.tls().wrap_socket(socket.create_connection(("127.0.0.1", m.ports[service]), timeout=PATIENCE))
            f = s.makefile("rb")
            assert f.readline()
            assert f.readline().startswith(farewell)
            assert f.read() == b""
            s.close()


def test_a_user_has_a_limit_of_his_own_at_an_address(tmp_path):
    """Another user there, and he himself from elsewhere, are served; who leaves makes room."""
    with Instance(tmp_path / "mail", settings=dict(mynetworks="192.0.2.0/24", imap_user_connection_count_limit="2",
                                                   pop3_user_connection_count_limit="1")) as m:
        m.user("alice@example.test")
        m.user("bob@example.test")
        m.start()

        def imap(user, source="127.0.0.1"):
            c = socket.create_connection(("127.0.0.1", m.ports["imap"]), PATIENCE, (source, 0))
            lines = c.makefile("rb")
            lines.readline()
            c.sendall(f'a LOGIN "{user}" "secret"\r\n'.encode())
            return c, lines.readline(), lines
        held = [imap("bob@example.test") for _ in range(2)]
        assert all(answer.startswith(b"a OK") for _, answer, _ in held)
        c, answer, lines = imap("bob@example.test")
        assert answer.startswith(b"a NO [LIMIT] ") and lines.readline().startswith(b"* BYE ") and lines.read() == b""
        for other in (("alice@example.test",), ("bob@example.test", "127.0.0.9")):
            c, answer, _ = imap(*other)
            assert answer.startswith(b"a OK")
            c.close()
        first, second = Pop3Login(m), Pop3Login(m)
        assert first.answer.startswith("+OK") and second.answer.startswith("-ERR [SYS/TEMP] Too many") and second.at_end()
        first.close()
        held.pop()[0].close()
        wait_for("room for another", lambda: imap("bob@example.test")[1].startswith(b"a OK"))
        for c, _, _ in held:
            c.close()


class Pop3Login(Raw):
    def __init__(self, mail):
        super().__init__(mail.ports["pop3"])
        self.line()
        self.send("USER bob@example.test\r\nPASS secret\r\n")
        self.line()
        self.answer = self.line()
