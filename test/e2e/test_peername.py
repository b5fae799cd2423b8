"""What a client is called: the name of its address, if that leads back; and what the restrictions make of names."""

import os
import re
import signal
import socket

import pytest

from dnsserver import DnsServer
from instance import PATIENCE, Instance, Raw, wait_for


class From(Raw):
    """A client that comes from an address of its own: one of 127/8, of which only 127.0.0.1 is localhost."""

    def __init__(self, port, address):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(address, 0))
        self.file = self.socket.makefile("rb")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with DnsServer() as dns:
        directory = tmp_path_factory.mktemp("names")
        with Instance(directory / "mail", settings=dns.settings(dns_timeout="2s")) as mail:
            mail.user("alice@example.test")
            mail.dns = dns
            yield mail.start()


def client_is_called(mail, address):
    mark = len(mail.log())
    with From(mail.ports["smtp"], address) as c:
        assert c.reply().startswith("220 ")
        c.ask("QUIT")
    return wait_for("the log", lambda: re.search(r"disconnect from (\S+)", mail.log()[mark:])).group(1)


def test_a_name_that_leads_back_is_taken(world):
    world.dns.host("client.example.org", "127.0.0.10")
    assert client_is_called(world, "127.0.0.10") == "client.example.org[127.0.0.10]"
    assert "connect from client.example.org[127.0.0.10]" in world.log()


def test_a_name_that_leads_elsewhere_is_not(world):
    world.dns.ptr("127.0.0.11", "forged.example.org")
    world.dns.host("forged.example.org", "192.0.2.1", reverse=False)
    assert client_is_called(world, "127.0.0.11") == "unknown[127.0.0.11]"
    assert "warning: hostname forged.example.org does not resolve to address 127.0.0.11\n" in world.log()


def test_a_name_without_an_address_is_not(world):
    world.dns.ptr("127.0.0.12", "nowhere.example.org")
    assert client_is_called(world, "127.0.0.12") == "unknown[127.0.0.12]"
    assert "hostname nowhere.example.org does not resolve to address 127.0.0.12: Name or service not known" in world.log()


@pytest.mark.parametrize("name", [r"evil\010name.example.org", "127.0.0.13", r"a\032b.org", r"\(comment\).example.org"])
def test_what_is_no_host_name_is_not(world, name):
    world.dns.ptr("127.0.0.13", name)
    world.dns.set(name, "A", "127.0.0.13")
    assert client_is_called(world, "127.0.0.13") == "unknown[127.0.0.13]"


def test_localhost_is_not_asked_for(world):
    asked = len(world.dns.queries)
    assert client_is_called(world, "127.0.0.1") == "localhost[127.0.0.1]"
    assert len(world.dns.queries) == asked


def test_the_name_is_in_the_received_header(world):
    world.dns.host("client.example.org", "127.0.0.10")
    with From(world.ports["smtp"], "127.0.0.10") as c:
        c.reply()
        for line in ("EHLO me.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<alice@example.test>", "DATA"):
            assert c.ask(line)[:1] in "23"
        assert c.ask("Subject: x\r\n\r\nx\r\n.").startswith("250 ")
    path = world.wait_messages("alice@example.test", 1)
    path = world.messages("alice@example.test")[0]
    assert "Received: from me.example.org (client.example.org [127.0.0.10])" in open(path).read()


def test_who_waits_for_his_name_holds_no_thread(world):
    """More clients than there are threads, whose names nobody tells: one who has a name is served meanwhile."""
    world.dns.host("client.example.org", "127.0.0.10")
    slow = [f"127.0.1.{i}" for i in range(1, 120)]
    for address in slow:
        world.dns.behave(".".join(reversed(address.split("."))) + ".in-addr.arpa", "timeout")
    pid = world.pid_of("smtpd")
    clients = [From(world.ports["smtp"], a) for a in slow]
    clients[0].send("EHLO early.example.org\r\n")      # who speaks before he is greeted is answered after it
    assert len(os.listdir(f"/proc/{pid}/task")) < 60
    assert client_is_called(world, "127.0.0.10") == "client.example.org[127.0.0.10]"
    assert clients[0].reply().startswith("220 ") and clients[0].reply().startswith("250-")
    for c in clients[1:]:
        assert c.reply().startswith("220 ")            # in the end all are greeted
    for c in clients:
        c.socket.shutdown(socket.SHUT_RDWR)
    world.wait_log(r"disconnect from unknown\[127\.0\.1\.119\]")


def test_a_client_that_goes_away_unnamed_is_let_go(world):
    world.dns.behave("20.0.0.127.in-addr.arpa", "timeout")
    c = From(world.ports["smtp"], "127.0.0.20")
    wait_for("the question", lambda: world.dns.asked("20.0.0.127.in-addr.arpa"))
    c.socket.shutdown(socket.SHUT_RDWR)
    world.wait_log(r"lost connection after CONNECT from unknown\[127\.0\.0\.20\]")


def test_a_dns_that_dies_keeps_nobody(world):
    world.dns.behave("21.0.0.127.in-addr.arpa", "timeout")
    with From(world.ports["smtp"], "127.0.0.21") as c:
        wait_for("the question", lambda: world.dns.asked("21.0.0.127.in-addr.arpa"))
        os.kill(world.pid_of("dns"), signal.SIGKILL)
        assert c.reply().startswith("220 ")
