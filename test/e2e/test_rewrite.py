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


@contextlib.contextmanager
def pair(directory, tables, settings):
    if os.getuid() != 0:
        pytest.skip("Postfix starts as root")
    with contextlib.ExitStack() as stack:
        yield Pair(directory, stack, tables, settings)


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


def test_generic_maps_do_on_the_way_out_what_postfixs_do(tmp_path):
    settings = {"smtp_generic_maps": "texthash:DIR/generic", "recipient_delimiter": "+", "propagate_unmatched_extensions": "canonical, generic"}
    with pair(tmp_path, {"generic": GENERIC}, settings) as p:
        seen = p.same("his@inside.test", ["her@inside.test"], fields_with("his@inside.test") + "\r\nhis@inside.test\r\n")
        assert seen[:2] == ("hisaccount@isp.test", ["account+inside@isp.test"])
        assert seen[2] == [(name, "hisaccount@isp.test") for name in ADDRESS_FIELDS] + [(name, "his@inside.test") for name in OTHER_FIELDS]
        for addresses in LISTS:
            p.same("joe+a@inside.test", ["his+b@inside.test"], f"To: {addresses}\r\nFrom: {addresses}\r\n\r\ntext\r\n")
        # The log, and the queue, have the addresses as they came.
        p.mail.wait_log(r"to=<her@inside.test>, relay=127.1.0.1\S*, .*status=sent")
        assert p.mail.wait_log(r"from=<his@inside.test>, size=\d+, nrcpt=1")
        # A table that fails sends nothing and loses nothing.
        p.mail.configure(smtp_generic_maps="fail:away")
        p.mail.command("reload")
        n = len(p.ours.messages)
        send(p.mail.ports["smtp"], "127.0.0.1", "his@inside.test", ["x@far.test"], "Subject: kept\r\n\r\n")
        p.mail.wait_log(r"dsn=4.3.0, status=deferred \(.*fail:away")
        assert len(p.ours.messages) == n
        p.mail.configure(smtp_generic_maps="inline:{his@inside.test=back@isp.test}")
        p.mail.command("reload")
        p.mail.command("queue", "flush")
        assert view(p.ours.wait(n + 1)[n])[0] == "back@isp.test"
