"""Addresses rewritten on the way in and out, beside Debian's Postfix with the same tables: both send to the same server, and
what it gets from one it gets from the other."""
import contextlib
import email
import os
import re
import smtplib

import pytest

from instance import Instance, let_through, wait_for
from mtas import Postfix
from sink import Sink
from smtpserver import certificate

ADDRESS_FIELDS = ["From", "To", "Cc", "Sender", "Reply-To", "Errors-To", "Return-Receipt-To", "Disposition-Notification-To",
                  "Mail-Followup-To", "Apparently-To", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Sender", "Resent-Reply-To"]
OTHER_FIELDS = ["Subject", "X-Original-To", "Envelope-To", "List-Post", "Mail-Reply-To"]


def fields_with(address):
    return "".join(f"{name}: {address}\r\n" for name in ADDRESS_FIELDS + OTHER_FIELDS)


def view(message):
    """Envelope, fields without blanks (how they are folded is each system's own), body."""
    text = email.message_from_bytes(message.data)
    fields = [(name, re.sub(r"\s", "", value)) for name, value in text.items() if name in ADDRESS_FIELDS + OTHER_FIELDS]
    return message.sender, message.rcpts, fields, text.get_payload()


def send(port, address, sender, rcpts, text):
    with smtplib.SMTP(address, port, timeout=60, local_hostname="client.test") as s:
        s.ehlo()
        s.mail(sender)
        for r in rcpts:
            code, reply = s.rcpt(r)
            assert code == 250, reply
        return s.data(text)


class Pair:
    """Us and Postfix, with the same settings and tables, each with a server that takes its mail."""

    def __init__(self, directory, stack, tables, settings):
        let_through(directory)
        for name, text in tables.items():
            (directory / name).write_text(text)
        self.settings = {name: value.replace("DIR", str(directory)) for name, value in settings.items()}
        self.ours, self.theirs = stack.enter_context(Sink("127.1.0.1")), stack.enter_context(Sink("127.1.0.2"))
        self.mail = stack.enter_context(Instance(directory / "mail", settings={
            "relayhost": self.ours.nexthop, "mydestination": "", "myhostname": "mx.postfix.test", "myorigin": "mx.postfix.test", "smtp_connection_cache_on_demand": "no",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", **self.settings}))
        self.postfix = Postfix(str(directory), certificate(str(directory), "mx.test"))
        more = "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        self.postfix.start(0, f"\nrelayhost = {self.theirs.nexthop}\ntransport_maps =\nsmtp_tls_security_level = none\n{more}")
        stack.callback(self.postfix.stop)
        self.mail.start()
        self.postfix.wait_ready()

    def same(self, sender, rcpts, text):
        """What both make of it, which must be equal."""
        n = len(self.ours.messages), len(self.theirs.messages)
        assert send(self.mail.ports["smtp"], "127.0.0.1", sender, rcpts, text)[0] == 250
        assert send(self.postfix.port, self.postfix.address, sender, rcpts, text)[0] == 250
        ours, theirs = view(self.ours.wait(n[0] + 1)[n[0]]), view(self.theirs.wait(n[1] + 1)[n[1]])
        assert ours == theirs
        return ours


GENERIC = """his@inside.test hisaccount@isp.test
joe@inside.test @isp.test
@inside.test    account+inside@isp.test
ann             ann.public@isp.test
short@other.test shortened
"""

LISTS = [
    '"Foo, Bar" (his@inside.test) <his@inside.test> (c2)',
    "his@inside.test (Full Name), group: m@inside.test, <his@inside.test>;, x@far.test",
    "<his+ext@inside.test>, joe+ext@inside.test, ann@mx.postfix.test, short@other.test, HIS@Inside.Test",
    '"quoted local"@inside.test, =?utf-8?q?=C3=A4?= <his@inside.test>,\r\n\tx@far.test',
]


CANONICAL = """joe@came.test   Joe.Public@came.test
ann             ann.public
@old.test       @new.test
many@came.test  @old.test
"""

SETTINGS = {
    "recipient_delimiter": "+", "propagate_unmatched_extensions": "canonical, generic",
    "smtp_generic_maps": "texthash:DIR/generic", "canonical_maps": "texthash:DIR/canonical",
    "sender_canonical_maps": "inline:{s@came.test=sender@came.test, both@came.test=both.sender@came.test}",
    "recipient_canonical_maps": "inline:{r@came.test=rcpt@came.test, both@came.test=both.rcpt@came.test}",
    "masquerade_domains": "!secret.mask.test sub.mask.test mask.test", "masquerade_exceptions": "root"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root")
    with contextlib.ExitStack() as stack:
        yield Pair(tmp_path_factory.mktemp("rewrite"), stack, {"generic": GENERIC, "canonical": CANONICAL}, SETTINGS)


def test_canonical_maps_and_masquerading_do_on_the_way_in_what_postfixs_do(world):
    lists = [
        "joe@came.test, <JOE+x@came.test>, ann@mx.postfix.test, u@old.test, many@came.test, both@came.test",
        "s@came.test, r@came.test, u@a.mask.test, u@b.sub.mask.test, u@c.secret.mask.test, root@d.mask.test, u@mask.test, u@unmask.test",
        'fred, "Ann" <ann>, group: joe@came.test, ann;, "a b"@old.test (c, d)',
    ]
    seen = world.same("both@came.test", ["both@came.test"], fields_with("both@came.test") + "\r\nboth@came.test\r\n")
    assert seen[:2] == ("both.sender@came.test", ["both.rcpt@came.test"])
    assert dict(seen[2])["From"] == "both.sender@came.test" and dict(seen[2])["Cc"] == "both.rcpt@came.test"
    for addresses in lists:
        world.same("joe+a@came.test", ["many+b@came.test"], f"To: {addresses}\r\nFrom: {addresses}\r\n\r\ntext\r\n")
    seen = world.same("u@host.mask.test", ["u@host.mask.test"], "To: u@host.mask.test\r\nFrom: u@host.mask.test\r\n\r\ntext\r\n")
    assert seen[:2] == ("u@mask.test", ["u@host.mask.test"])
    world.mail.wait_log(r"from=<Joe.Public\+a@came.test>")
    world.mail.wait_log(r"to=<many\+b@new.test>, .*status=sent")


def test_generic_maps_do_on_the_way_out_what_postfixs_do(world):
    seen = world.same("his@inside.test", ["her@inside.test"], fields_with("his@inside.test") + "\r\nhis@inside.test\r\n")
    assert seen[:2] == ("hisaccount@isp.test", ["account+inside@isp.test"])
    assert seen[2] == [(name, "hisaccount@isp.test") for name in ADDRESS_FIELDS] + [(name, "his@inside.test") for name in OTHER_FIELDS]
    for addresses in LISTS:
        world.same("joe+a@inside.test", ["his+b@inside.test"], f"To: {addresses}\r\nFrom: {addresses}\r\n\r\ntext\r\n")
    # The log, and the queue, have the addresses as they came.
    world.mail.wait_log(r"to=<her@inside.test>, relay=127.1.0.1\S*, .*status=sent")
    world.mail.wait_log(r"from=<his@inside.test>, size=\d+, nrcpt=1")


def test_tables_that_fail_lose_nothing(world):
    mail, n = world.mail, len(world.ours.messages)
    mail.configure(smtp_generic_maps="fail:away")
    mail.command("reload")
    send(mail.ports["smtp"], "127.0.0.1", "his@inside.test", ["x@far.test"], "Subject: kept\r\n\r\n")
    mail.wait_log(r"dsn=4.3.0, status=deferred \(.*fail:away")
    assert len(world.ours.messages) == n
    mail.configure(smtp_generic_maps="inline:{his@inside.test=back@isp.test}", sender_canonical_maps="fail:gone")
    mail.command("reload")
    mail.command("queue", "flush")
    assert view(world.ours.wait(n + 1)[n])[0] == "back@isp.test"
    # Neither is what comes in taken under another name than it is to have, nor by sendmail, which keeps it.
    with pytest.raises(smtplib.SMTPDataError, match="4.3.0 Temporary lookup failure"):
        with mail.smtp() as s:
            s.sendmail("s@came.test", ["x@far.test"], "Subject: refused\r\n\r\n")
    mail.command("sendmail", "-f", "s@came.test", "x@far.test", input="Subject: kept too\n\n")
    assert len(os.listdir(os.path.join(mail.dir, "spool", "maildrop"))) == 1
    mail.configure(sender_canonical_maps="inline:{s@came.test=sender@came.test}")
    mail.command("reload")
    mail.command("sendmail", "-f", "s@came.test", "x@far.test", input="Subject: by sendmail\nCc: s@came.test\n\n")
    # The one that was kept may come before it, or after.
    sent = wait_for("the mail of sendmail", lambda: [m for m in world.ours.messages if b"by sendmail" in m.data], 60)
    assert view(sent[0])[:3] == (
        "sender@came.test", ["x@far.test"], [("From", "root<sender@came.test>"), ("Subject", "bysendmail"), ("Cc", "s@came.test")])


def test_a_recipient_is_rewritten_before_it_is_judged_but_opens_no_relay(tmp_path):
    with Sink("127.1.0.1") as sink, Instance(tmp_path / "mail", settings={
            "relayhost": sink.nexthop, "mynetworks": "192.0.2.1", "local_header_rewrite_clients": "",
            "recipient_canonical_maps": "inline:{info@example.test=alice@example.test, out@example.test=x@far.test, "
                                        "in@far.test=alice@example.test, gone@example.test=nobody@example.test}",
            "recipient_bcc_maps": "inline:{x@far.test=copy@far.test}"}) as mail:
        mail.user("alice@example.test")
        mail.start()
        with mail.smtp() as s:
            s.ehlo()
            s.mail("s@elsewhere.test")
            answers = {r: s.rcpt(r)[0] for r in ("info@example.test", "out@example.test", "in@far.test", "gone@example.test", "none@example.test")}
            assert answers == {"info@example.test": 250, "out@example.test": 250, "in@far.test": 554, "gone@example.test": 550, "none@example.test": 550}
            s.data("To: info@example.test\r\nSubject: hello\r\n\r\ntext\r\n")
        with open(mail.wait_messages("alice@example.test", 1)[0]) as f:
            text = f.read()
        assert "X-Original-To: info@example.test" in text and "\nTo: info@example.test" in text
        wait_for("both copies", lambda: sorted(r for m in sink.messages for r in m.rcpts) == ["copy@far.test", "x@far.test"], 60)
        mail.wait_log(r"to=<x@far.test>, orig_to=<out@example.test>")
