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
    return wait_for("the log", lambda: re.search(r"disconnect from (\S+\[%s\])" % re.escape(address), mail.log()[mark:])).group(1)


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


# ---- restrictions ----

@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Restrictions that ask the DNS, and one of each kind of host."""
    with DnsServer() as dns:
        directory = tmp_path_factory.mktemp("guarded")
        settings = dns.settings(
            dns_timeout="1s",
            smtpd_client_restrictions="permit_dnswl_client white.example.net=127.0.[0..255].[1..3], reject_unknown_client_hostname, "
                                      "reject_rbl_client black.example.net=127.0.0.[2;4..8], reject_rhsbl_client names.example.net",
            smtpd_helo_restrictions="reject_unknown_helo_hostname, reject_rhsbl_helo names.example.net",
            smtpd_sender_restrictions="reject_unknown_sender_domain, reject_rhsbl_sender names.example.net",
            smtpd_relay_restrictions="permit_dnswl_client white.example.net, reject_unauth_destination",
            smtpd_recipient_restrictions="warn_if_reject reject_rbl_client warn.example.net",
            unknown_address_reject_code="550")
        with Instance(directory / "mail", settings=settings) as mail:
            mail.user("alice@example.test")
            mail.dns = dns
            dns.host("good.example.org", "127.0.0.30")
            dns.set("good.example.org", "MX", "10 good.example.org.")
            dns.set("null.example.org", "MX", "0 .")
            dns.set("nomail.example.org", "TXT", '"no address, no MX"')
            dns.behave("unsure.example.org", "servfail")
            yield mail.start()


def told(mail, address="127.0.0.30", helo="good.example.org", sender="a@good.example.org", recipient="alice@example.test"):
    with From(mail.ports["smtp"], address) as c:
        c.reply()
        c.ask(f"EHLO {helo}")
        first = c.ask(f"MAIL FROM:<{sender}>")
        return c.ask(f"RCPT TO:<{recipient}>") if first.startswith("250") else first


def test_who_has_names_is_let_in(guarded):
    assert told(guarded).startswith("250 ")
    assert told(guarded, sender="").startswith("250 ")
    assert told(guarded, helo="[127.0.0.30]").startswith("250 ")
    assert told(guarded, sender="alice@example.test").startswith("250 ")     # ours: nobody is asked


def test_a_client_without_a_name_is_put_off(guarded):
    assert told(guarded, "127.0.0.31") == "450 4.7.25 Client host rejected: cannot find your hostname, [127.0.0.31]"


@pytest.mark.parametrize("sender, answer", [
    ("a@gone.example.org", "550 5.1.8 <a@gone.example.org>: Sender address rejected: Domain not found"),
    ("a@nomail.example.org", "550 5.1.8 <a@nomail.example.org>: Sender address rejected: Domain not found"),
    ("a@null.example.org", "550 5.7.27 <a@null.example.org>: Sender address rejected: Domain null.example.org does not accept mail (nullMX)"),
    ("a@unsure.example.org", "450 4.1.8 <a@unsure.example.org>: Sender address rejected: Domain not found"),
])
def test_a_sender_nobody_could_answer_is_refused(guarded, sender, answer):
    assert told(guarded, sender=sender) == answer


def test_a_lasting_refusal_comes_before_what_could_not_be_told(guarded):
    answer = told(guarded, sender="a@unsure.example.org", recipient="x@elsewhere.example")
    assert answer == "554 5.7.1 <x@elsewhere.example>: Relay access denied"


def test_an_unknown_helo_is_put_off(guarded):
    assert told(guarded, helo="gone.example.org") == "450 4.7.1 <gone.example.org>: Helo command rejected: Host not found"
    assert told(guarded, helo="unsure.example.org") == "450 4.7.1 <unsure.example.org>: Helo command rejected: Host not found"


def test_a_listed_client_is_refused_with_the_reason(guarded):
    guarded.dns.host("listed.example.org", "127.0.0.32")
    guarded.dns.set("32.0.0.127.black.example.net", "A", "127.0.0.5")
    guarded.dns.set("32.0.0.127.black.example.net", "TXT", r'"see https://black.example.net/\013\010forged"')
    assert told(guarded, "127.0.0.32") == ("554 5.7.1 Service unavailable; Client host [127.0.0.32] blocked using black.example.net; "
                                           "see https://black.example.net/??forged")
    # An answer that the pattern does not name is none.
    guarded.dns.host("listed2.example.org", "127.0.0.33")
    guarded.dns.set("33.0.0.127.black.example.net", "A", "127.0.0.3")
    assert told(guarded, "127.0.0.33").startswith("250 ")


def test_listed_names_are_refused(guarded):
    guarded.dns.set("bad.example.org.names.example.net", "A", "127.0.0.2")
    guarded.dns.host("bad.example.org", "127.0.0.34")
    for how, part in (({"address": "127.0.0.34"}, "Client host [bad.example.org]"), ({"helo": "bad.example.org"}, "Helo command [bad.example.org]"),
                      ({"sender": "x@bad.example.org"}, "Sender address [x@bad.example.org]")):
        assert told(guarded, **how) == f"554 5.7.1 Service unavailable; {part} blocked using names.example.net"


def test_a_list_that_does_not_answer_lists_nobody(guarded):
    guarded.dns.host("silent.example.org", "127.0.0.35")
    guarded.dns.behave("35.0.0.127.black.example.net", "servfail")
    assert told(guarded, "127.0.0.35").startswith("250 ")
    guarded.wait_log("35.0.0.127.black.example.net: RBL lookup error")


def test_a_good_list_lets_in_but_not_out(guarded):
    guarded.dns.set("36.0.0.127.white.example.net", "A", "127.0.9.1")     # and it has no name
    assert told(guarded, "127.0.0.36").startswith("450 ") is False
    assert told(guarded, "127.0.0.36").startswith("250 ")
    guarded.dns.host("friend.example.org", "127.0.0.36")
    assert told(guarded, "127.0.0.36", recipient="x@elsewhere.example") == "554 5.7.1 <x@elsewhere.example>: Relay access denied"


def test_a_good_list_that_does_not_answer_makes_refusals_temporary(guarded):
    guarded.dns.host("maybe.example.org", "127.0.0.37")
    guarded.dns.behave("37.0.0.127.white.example.net", "servfail")
    guarded.dns.set("37.0.0.127.black.example.net", "A", "127.0.0.2")
    assert told(guarded, "127.0.0.37").startswith("450 4.7.1 Service unavailable; Client host [127.0.0.37] blocked")


def test_a_warning_refuses_nobody(guarded):
    guarded.dns.set("30.0.0.127.warn.example.net", "A", "127.0.0.2")
    assert told(guarded).startswith("250 ")
    guarded.wait_log("reject_warning: .*blocked using warn.example.net")
    guarded.dns.set("30.0.0.127.warn.example.net", "A")


@pytest.mark.parametrize("argument", ["", "nodots", "list.example.net=1.2.3", "list.example.net=127.0.0.[4..2]", "list.example.net=127.0.0.256"])
def test_a_list_that_is_none_is_a_fault_of_the_configuration(guarded, argument):
    path = os.path.join(guarded.dir, "main.cf")
    text = open(path).read()
    guarded.configure(smtpd_client_restrictions=f"reject_rbl_client {argument}")
    done = guarded.command("reload", check=False)
    with open(path, "w") as f:
        f.write(text)
    assert done.returncode != 0 and "reject_rbl_client" in done.stderr, done.stderr
