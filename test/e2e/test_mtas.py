"""Debian's Postfix, Exim and smtp-sink on the other side, in both directions."""
import contextlib
import email
import os
import re
import smtplib

import pytest

from instance import Instance, let_through, wait_for
from mtas import SIZE_LIMIT, Exim, Postfix, SmtpSink
from smtpserver import certificate

LONG = 60


class World:
    """We, and the others; alice is ours, bob theirs."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if os.getuid() != 0:
        pytest.skip("Postfix and Exim start as root")
    directory = tmp_path_factory.mktemp("mtas")
    let_through(directory)      # their accounts must reach their files
    w = World()
    tls = certificate(str(directory), "mx.test")
    w.postfix, w.exim, w.sink = w.all = [kind(str(directory), tls) for kind in (Postfix, Exim, SmtpSink)]
    routes, policies = directory / "transport", directory / "policy"
    routes.write_text("".join(f"{p.domain} smtp:{p.nexthop}\n" for p in w.all))
    policies.write_text(f"{w.exim.nexthop} fingerprint match={tls[2]}\n{w.postfix.nexthop} may connection_reuse=no\n")
    with contextlib.ExitStack() as stack:
        w.mail = stack.enter_context(Instance(directory / "mail", settings={
            "transport_maps": f"texthash:{routes}", "smtp_tls_policy_maps": f"texthash:{policies}", "smtputf8_enable": "yes",
            "smtp_tls_security_level": "may", "smtp_tls_loglevel": "2", "smtp_tls_session_cache_database": "btree:kept-in-memory", "minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}))
        w.mail.user("alice@example.test")
        for p in w.all:
            p.start(w.mail.ports["smtp"])
            stack.callback(p.stop)
        w.mail.start()
        for p in w.all:
            p.wait_ready()
        yield w


def send(w, rcpts, subject, body="the text\r\n", options=(), rcpt_options=(), by=None):
    """By alice, to us, or by another system."""
    text = f"From: <alice@example.test>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    text += f"Content-Transfer-Encoding: {'7bit' if body.isascii() else '8bit'}\r\n\r\n{body}"
    with smtplib.SMTP(by.address if by else "127.0.0.1", by.port if by else w.mail.ports["smtp"], timeout=LONG, local_hostname="client.test") as s:
        s.ehlo()
        assert s.mail("alice@example.test", options)[0] == 250
        for r in rcpts:
            s.command_encoding = "utf-8"
            code, reply = s.rcpt(r, rcpt_options)
            assert code == 250, reply
        code, reply = s.data(text.encode())
        assert code == 250, reply


def logged(w, pattern):
    w.mail.wait_log(pattern, LONG)


def report(w, subject):
    """The notifications about the message with that subject, parsed: address -> fields."""
    def look():
        found = []
        for path in w.mail.messages("alice@example.test"):
            with open(path, "rb") as f:
                text = f.read()
            if subject.encode() in text and b"Final-Recipient" in text:
                found.append(email.message_from_bytes(text))
        return found
    found = wait_for(f"a report about {subject}", look, LONG)
    return {part["Final-Recipient"].split(";")[1].strip(): part for m in found for part in m.walk() if "Final-Recipient" in part}


def test_mail_goes_to_each_and_over_tls_where_it_is_offered(world):
    w = world
    send(w, [f"bob@{p.domain}" for p in w.all], "one for all", "b\u00e4r\r\n.\r\n..\r\nend\r\n", ["BODY=8BITMIME"])
    for p in (w.postfix, w.exim):
        text = p.wait_message(b"one for all").replace(b"\r\n", b"\n")
        assert text.endswith("b\u00e4r\n.\n..\nend\n".encode()), text
        logged(w, rf"to=<bob@{p.domain}>, relay={p.address}\[{p.address}\]:{p.port}, .*dsn=2.\d.\d, status=sent \(250 ")
    logged(w, rf"Untrusted TLS connection established to {w.postfix.address}\[{w.postfix.address}\]:{w.postfix.port}: TLSv1.3")
    logged(w, rf"Verified TLS connection established to {w.exim.address}\[{w.exim.address}\]:{w.exim.port}: TLSv1.3")
    # smtp-sink takes no 8 bits.
    text = w.sink.wait_message(b"one for all")
    assert b"Content-Transfer-Encoding: quoted-printable" in text and b"b=C3=A4r" in text and text.isascii()


def test_a_session_of_postfix_is_resumed(world):
    w = world
    for i in range(2):
        send(w, [f"bob@{w.postfix.domain}"], f"session {i}")
        w.postfix.wait_message(b"session %d" % i)
    logged(w, rf"{w.postfix.address}\[{w.postfix.address}\]:{w.postfix.port}: Reusing old session")


def test_addresses_in_utf8_go_where_they_are_taken(world):
    w = world
    send(w, [f"j\u00fcrgen@{p.domain}" for p in w.all], "in utf-8", options=["SMTPUTF8", "BODY=8BITMIME"])
    for p in (w.postfix, w.exim):
        p.wait_message(b"in utf-8")
        logged(w, f"to=<j\u00fcrgen@{p.domain}>, .*status=sent")
    logged(w, "to=<j\u00fcrgen@sink.test>.*dsn=5.6.7, status=bounced .SMTPUTF8 is required, but was not offered by host")


def test_a_report_of_success_comes_from_who_took_it_over(world):
    w = world
    send(w, [f"bob@{p.domain}" for p in w.all], "tell me", options=["RET=HDRS", "ENVID=e-1"], rcpt_options=["NOTIFY=SUCCESS"])
    wait_for("three reports", lambda: len(report(w, "tell me")) == 3, LONG)
    told = report(w, "tell me")
    assert [told[f"bob@{p.domain}"]["Action"].split()[0] for p in w.all] == ["delivered", "delivered", "relayed"]


def test_what_is_too_large_or_for_nobody_comes_back(world):
    w = world
    send(w, [f"bob@{p.domain}" for p in w.all[:2]], "too large", "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * (SIZE_LIMIT // 70))
    send(w, [f"nobody@{p.domain}" for p in w.all[:2]], "for nobody")
    for p in w.all[:2]:
        logged(w, rf"to=<bob@{p.domain}>.*dsn=5.3.4, status=bounced \(message size \d+ exceeds size limit {SIZE_LIMIT} of server")
        logged(w, rf"to=<nobody@{p.domain}>.*dsn=5.\d.\d, status=bounced \(host {p.address}\[{p.address}\] said: 550 ")
    assert {f"nobody@{p.domain}" for p in w.all[:2]} <= set(report(w, "for nobody"))
    assert {f"bob@{p.domain}" for p in w.all[:2]} <= set(report(w, "too large"))


def test_mail_comes_from_each(world):
    w = world
    for p in w.all[:2]:
        send(w, ["alice@example.test"], f"from {p.domain}", "b\u00e4r\r\n", ["BODY=8BITMIME"], by=p)

    def came():
        texts = []
        for path in w.mail.messages("alice@example.test"):
            with open(path, "rb") as f:
                texts.append(f.read())
        return all(any(f"Subject: from {p.domain}".encode() in t and "b\u00e4r\n".encode() in t for t in texts)
                   for p in w.all[:2])
    wait_for("mail of both", came, LONG)


def test_a_hundred_messages_at_once_each_arrive_once(world):
    w = world
    with w.mail.smtp() as s:
        for i in range(34):
            s.sendmail("alice@example.test", [f"bob@{p.domain}" for p in w.all], f"Subject: number {i:04}\r\n\r\nx\r\n")
    all_of_them = [b"%04d" % i for i in range(34)]

    def numbers(p):
        return sorted(n for m in p.messages() for n in re.findall(rb"Subject: number (\d{4})", m))
    wait_for("the queue to be empty", lambda: "empty" in w.mail.command("queue", "list").stdout.lower(), LONG)
    for p in w.all:
        wait_for(f"all at {p.domain}", lambda: len(numbers(p)) >= len(all_of_them), LONG)
        assert numbers(p) == all_of_them
