"""Who gets a message: names in all their spellings, aliases, loops."""

import os
import re
import socket
import subprocess

import pytest

from instance import PATIENCE, Raw


def code(reply):
    return reply.split("\n")[-1][:3]


class Smtp(Raw):
    """A transaction by hand, in UTF-8."""

    def __init__(self, mail, service="smtp"):
        super().__init__(mail.ports[service])
        self.reply()
        self.greeting = self.ask("EHLO client.test")

    def deliver(self, sender, recipients, text="Subject: x\r\n\r\nx\r\n", options=""):
        """The replies to RCPT, and to the data ("" if it did not come to that)."""
        assert code(self.ask(f"MAIL FROM:<{sender}>{options}")) == "250"
        answers = [self.ask(f"RCPT TO:<{r}>") for r in recipients]
        if not any(a.startswith("250") for a in answers):
            self.ask("RSET")
            return answers, ""
        assert code(self.ask("DATA")) == "354"
        self.send(text + ".\r\n")
        return answers, self.reply()


def test_utf8_address(mail):
    """RFC 6531: with SMTPUTF8 a local part may be any UTF-8."""
    mail.user("päivi@example.test")
    with Smtp(mail) as c:
        assert "SMTPUTF8" in c.greeting
        answers, end = c.deliver("jürgen@elsewhere.test", ["päivi@example.test", "PÄIVI@EXAMPLE.TEST"],
                                 "From: jürgen@elsewhere.test\r\nSubject: grüße\r\n\r\näöü\r\n", " SMTPUTF8 BODY=8BITMIME")
        assert code(answers[0]) == "250" and code(end) == "250"
        # Without the parameter no UTF-8 is allowed in the envelope.
        assert code(c.ask("MAIL FROM:<a@elsewhere.test>")) == "250"
        assert code(c.ask("RCPT TO:<päivi@example.test>"))[0] == "5"
        assert code(c.ask("RSET")) == "250"
        assert code(c.ask("MAIL FROM:<jürgen@elsewhere.test>"))[0] == "5"
        # What is no UTF-8 is nothing.
        c.send(b"MAIL FROM:<j\xfcrgen@elsewhere.test> SMTPUTF8\r\n")
        assert code(c.reply())[0] == "5"
    box = mail.imap()
    box.authenticate("PLAIN", lambda _: "\0päivi@example.test\0secret".encode())
    assert box.select()[1] == [b"1"]
    got = box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    assert "Subject: grüße\r\n\r\näöü\r\n".encode() in got and "Return-Path: <jürgen@elsewhere.test>".encode() in got
    assert box.fetch("1", "(ENVELOPE)")[0] == "OK"
    box.logout()


def test_idn_domain_in_both_spellings(mail):
    """U-label and A-label are one domain (RFC 5890), in mail and at log-in."""
    mail.command("domain", "add", "bücher.test")
    mail.user("anna@bücher.test")
    with Smtp(mail) as c:
        for recipient, options in (("anna@xn--bcher-kva.test", ""), ("anna@XN--BCHER-KVA.TEST", ""),
                                   ("anna@bücher.test", " SMTPUTF8"), ("Anna+tag@BÜCHER.test", " SMTPUTF8")):
            answers, end = c.deliver("x@elsewhere.test", [recipient], options=options)
            assert code(answers[0]) == "250" and code(end) == "250", (recipient, answers, end)
        # Both spellings in one envelope: one person, one copy.
        answers, end = c.deliver("x@elsewhere.test", ["anna@bücher.test", "anna@xn--bcher-kva.test"], options=" SMTPUTF8")
        assert code(end) == "250"
        assert code(c.deliver("x@elsewhere.test", ["nobody@xn--bcher-kva.test"])[0][0]) == "550"
    assert mail.count("anna@xn--bcher-kva.test") == 5
    for name in ("anna@bücher.test", "anna@xn--bcher-kva.test"):
        box = mail.imap()
        box.authenticate("PLAIN", lambda _: f"\0{name}\0secret".encode())
        assert box.select()[1] == [b"5"]
        box.logout()
        pop = mail.pop3(name)
        assert pop.stat()[0] == 5
        pop.quit()
    assert "anna@" in mail.command("user", "list").stdout


def test_swaks_to_an_idn_domain(mail, tmp_path):
    mail.command("domain", "add", "bücher.test")
    mail.user("anna@bücher.test")
    done = subprocess.run(["swaks", "--server", f"127.0.0.1:{mail.ports['smtp']}", "--to", "anna@xn--bcher-kva.test",
                           "--from", "x@elsewhere.test", "--helo", "client.test"], capture_output=True, text=True,
                          timeout=2 * PATIENCE, env=dict(os.environ, HOME=str(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert mail.count("anna@xn--bcher-kva.test") == 1


def test_alias_members_get_one_copy_each(mail):
    mail.user("carol@example.test")
    mail.command("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    mail.command("alias", "add", "all@example.test", "team@example.test", "carol@example.test", "bob@example.test")
    with Smtp(mail) as c:
        answers, end = c.deliver("x@elsewhere.test", ["all@example.test", "bob@example.test", "team+x@example.test"])
        assert [code(a) for a in answers] == ["250"] * 3 and code(end) == "250"
    for user in ("alice", "bob", "carol"):
        assert mail.count(f"{user}@example.test") == 1, user


def test_alias_that_leads_to_itself_is_not_lost(mail):
    mail.command("alias", "add", "a@example.test", "bob@example.test")
    mail.command("alias", "add", "b@example.test", "a@example.test")
    refused = mail.command("alias", "set", "a@example.test", "b@example.test", check=False).returncode != 0
    with Smtp(mail) as c:
        answers, _ = c.deliver("x@elsewhere.test", ["b@example.test"])
        assert code(answers[0]) == "250" if refused else code(answers[0])[0] == "4"
        assert code(c.deliver("x@elsewhere.test", ["bob@example.test"])[1]) == "250"


def test_further_address_of_a_user(mail):
    mail.command("user", "set", "bob@example.test", "--add-address", "robert@example.test")
    mail.send("robert@example.test")
    assert mail.count("bob@example.test") == 1
    with mail.submission("bob@example.test") as s:      # which is his own as a sender, too
        s.sendmail("robert@example.test", ["alice@example.test"], "Subject: x\r\n\r\nx\r\n")
    assert mail.count("alice@example.test") == 1


def test_delivered_to_ends_a_loop(mail):
    with Smtp(mail) as c:
        _, end = c.deliver("x@elsewhere.test", ["bob@example.test"], "Delivered-To: Bob@Example.test\r\nSubject: again\r\n\r\nx\r\n")
        assert code(end)[0] == "5" and "5.4.6" in end
        # Others are not held up by it, and in the body it is text.
        answers, end = c.deliver("x@elsewhere.test", ["alice@example.test"],
                                 "Delivered-To: bob@example.test\r\n\r\nDelivered-To: alice@example.test\r\n")
        assert code(end) == "250"
    assert mail.count("bob@example.test") == 0 and mail.count("alice@example.test") == 1


def test_too_many_hops_end_a_loop(mail):
    hop = "Received: from a.test by b.test; Mon, 1 Jun 2020 10:00:00 +0000\r\n"
    with Smtp(mail) as c:
        _, end = c.deliver("x@elsewhere.test", ["bob@example.test"], hop * 60 + "Subject: far\r\n\r\nx\r\n")
        assert code(end) == "554" and "5.4" in end
        _, end = c.deliver("x@elsewhere.test", ["bob@example.test"], hop * 40 + "Subject: far\r\n\r\nx\r\n")
        assert code(end) == "250"


@pytest.mark.parametrize("own,code_", [("alice@example.test", 250), ("Alice@EXAMPLE.test", 250), ("alice+tag@example.test", 250),
                                       ("", 0), ("bob@example.test", 553), ("x@elsewhere.test", 553)])
def test_sender_belongs_to_the_user(mail, own, code_):
    with mail.submission("alice@example.test") as s:
        s.mail(own)
        got, text = s.rcpt("bob@example.test")
        assert got == code_ or not code_, text


def test_the_addresses_of_this_machine_are_ours_where_it_listens_on_all(stopped):
    """RFC 5321 4.5.1: postmaster@[address] is taken. Nothing listens outside of the loopback net here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.99", 9))         # sends nothing: says where it would leave from
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        address = s.getsockname()[0]
    path = os.path.join(stopped.dir, "master.cf")
    text = re.sub(r"(?m)^(\d+\s+inet)", r"127.0.0.1:\1", open(path).read())
    with open(path, "w") as f:
        f.write(text)
    stopped.configure(inet_interfaces="all", mynetworks="198.51.100.0/24", proxy_interfaces="203.0.113.7")
    with Smtp(stopped.start()) as c:
        c.ask("MAIL FROM:<a@elsewhere.test>")
        for ours in (address, "203.0.113.7"):
            assert code(c.ask(f"RCPT TO:<postmaster@[{ours}]>")) == "250"
            assert "User unknown" in c.ask(f"RCPT TO:<nobody@[{ours}]>")
        assert "Relay access denied" in c.ask("RCPT TO:<postmaster@[203.0.113.8]>")
