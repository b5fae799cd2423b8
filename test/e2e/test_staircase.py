"""A message arrives by SMTP, is durable, lands in a Maildir, and is read over IMAP and POP3."""

import email
import os
import re
import smtplib
import subprocess
from email.message import EmailMessage

import pytest

from instance import BINARY, Raw, free_ports, wait_for


def test_message_by_smtp_is_read_by_imap_pop3_and_file(mail):
    mail.send("bob@example.test", subject="Staircase")
    box = mail.imap("bob@example.test")
    assert box.select("INBOX")[1] == [b"1"]
    data = box.fetch("1", "(BODY.PEEK[] RFC822.SIZE FLAGS)")[1]
    text = data[0][1]
    assert b"Subject: Staircase" in text
    told = b"".join(x if isinstance(x, bytes) else x[0] for x in data)
    assert int(re.search(rb"RFC822.SIZE (\d+)", told).group(1)) == len(text)
    pop = mail.pop3("bob@example.test")
    assert pop.stat() == (1, len(text))
    assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == text
    pop.quit()
    files = mail.wait_messages("bob@example.test", 1)
    assert open(files[0], "rb").read().replace(b"\n", b"\r\n") == text
    box.logout()


def test_trace_headers_are_there(mail):
    mail.send("bob+list@example.test", sender="someone@elsewhere.test")
    box = mail.imap("bob@example.test")
    box.select()
    message = email.message_from_bytes(box.fetch("1", "(RFC822)")[1][0][1])
    assert message["Return-Path"] == "<someone@elsewhere.test>"
    assert message["Delivered-To"] == "bob@example.test" or message["Delivered-To"] == "bob+list@example.test"
    assert "from client.test" in message["Received"]
    box.logout()


def test_submission_with_attachment(mail):
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = "alice@example.test", "bob@example.test", "With attachment"
    m["Bcc"] = "alice@example.test"
    m.set_content("See attached.\n")
    blob = os.urandom(200_000)
    m.add_attachment(blob, maintype="application", subtype="octet-stream", filename="blob.bin")
    with mail.submission("alice@example.test") as s:
        s.sendmail("alice@example.test", ["bob@example.test"], m.as_bytes())
    box = mail.imap("bob@example.test")
    box.select()
    got = email.message_from_bytes(box.fetch("1", "(BODY[])")[1][0][1])
    assert got["Message-ID"] and got["Date"] and got["Bcc"] is None
    assert got.get_payload()[1].get_payload(decode=True) == blob
    structure = box.fetch("1", "(BODYSTRUCTURE)")[1][0]
    assert b'"blob.bin"' in structure and b"BASE64" in structure.upper()
    box.logout()


@pytest.mark.parametrize("recipient,code", [
    ("nobody@example.test", 550), ("bob@elsewhere.test", 250), ("postmaster", 250), ("PostMaster@Example.TEST", 250),
    ("bob+folder@example.test", 250), ("BOB@EXAMPLE.TEST", 250), ("bob@example.test.", 250)])
def test_recipients(mail, recipient, code):
    with mail.smtp() as s:
        s.ehlo()
        s.mail("someone@elsewhere.test")
        got, text = s.rcpt(recipient)
        assert got == code, text
        if code == 550:
            assert b"5.1.1" in text


def test_nothing_relays(stopped):
    """Neither a stranger nor a user without log-in gets mail out."""
    mail = stopped
    mail.configure(mynetworks="192.0.2.0/24")
    mail.start()
    for sender in ("someone@elsewhere.test", "alice@example.test", ""):
        with mail.smtp() as s:
            s.ehlo()
            s.mail(sender)
            assert s.rcpt("victim@elsewhere.test")[0] >= 450
            assert s.rcpt('"victim@elsewhere.test"@example.test')[0] >= 450
            assert s.rcpt("victim%elsewhere.test@example.test")[0] >= 450
            assert s.rcpt("@example.test:victim@elsewhere.test")[0] >= 450
    s = mail.submission()
    s.ehlo()
    refused = s.mail("alice@example.test")[0] >= 500 or s.rcpt("bob@example.test")[0] >= 500
    assert refused
    s.close()


def test_sender_must_be_ones_own(mail):
    with mail.submission("alice@example.test") as s:
        s.mail("bob@example.test")
        assert s.rcpt("bob@example.test")[0] == 553


def test_login_mechanisms(mail):
    for auth in ("auth_plain", "auth_login"):
        s = mail.submission()
        s.user, s.password = "alice@example.test", "secret"
        s.ehlo()
        mechanism = auth[5:].upper()
        assert s.auth(mechanism, getattr(s, auth))[0] == 235
        s.quit()
    s = mail.submission()
    with pytest.raises(smtplib.SMTPAuthenticationError):
        s.login("alice@example.test", "wrong")
    s.close()


def test_no_login_in_clear_on_smtp(mail):
    with Raw(mail.ports["submission"]) as c:
        c.reply()
        assert "AUTH" not in c.ask("EHLO x")
        assert c.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==").startswith(("538", "530", "503"))


def test_alias_to_several(mail):
    mail.command("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    mail.send("team@example.test", subject="For all")
    for user in ("alice", "bob"):
        box = mail.imap(f"{user}@example.test")
        assert box.select()[1] == [b"1"]
        box.logout()


def test_catch_all(mail):
    mail.command("alias", "add", "@example.test", "bob@example.test")
    mail.send("whoever@example.test")
    box = mail.imap("bob@example.test")
    assert box.select()[1] == [b"1"]
    box.logout()


def test_lmtp_answers_each_recipient(mail):
    with Raw(mail.ports["lmtp"]) as c:
        c.reply()
        assert c.ask("LHLO x").startswith("250")
        assert c.ask("MAIL FROM:<a@elsewhere.test>").startswith("250")
        assert c.ask("RCPT TO:<alice@example.test>").startswith("250")
        assert c.ask("RCPT TO:<nobody@example.test>").startswith("550")
        assert c.ask("RCPT TO:<bob@example.test>").startswith("250")
        assert c.ask("DATA").startswith("354")
        c.send("Subject: x\r\n\r\nx\r\n.\r\n")
        assert c.reply().startswith("250")
        assert c.reply().startswith("250")


def test_quota_is_enforced(stopped):
    stopped.command("user", "set", "bob@example.test", "--quota", "100K")
    mail = stopped.start()
    big = "Subject: big\r\n\r\n" + ("x" * 70 + "\r\n") * 1000
    mail.send("bob@example.test", text=big)
    with pytest.raises(smtplib.SMTPException):
        mail.send("bob@example.test", text=big)
        mail.send("bob@example.test", text=big)
    mail.send("alice@example.test", text=big)


def test_restart_keeps_everything(mail):
    for i in range(20):
        mail.send("bob@example.test", subject=f"number {i}")
    box = mail.imap("bob@example.test")
    box.select()
    box.store("3", "+FLAGS", r"(\Flagged Keyword1)")
    before = box.fetch("1:*", "(UID FLAGS)")[1], box.response("UIDVALIDITY")[1]
    box.logout()
    assert mail.stop() == 0
    mail.start()
    box = mail.imap("bob@example.test")
    box.select()
    after = [x.replace(rb" \Recent", b"").replace(rb"\Recent", b"") for x in box.fetch("1:*", "(UID FLAGS)")[1]]
    assert after == [x.replace(rb" \Recent", b"").replace(rb"\Recent", b"") for x in before[0]]
    box.logout()


def test_start_stop_status_reload(stopped):
    stopped.command("start")
    try:
        status = wait_for("status", lambda: (lambda d: d.returncode == 0 and d.stdout)(
            stopped.command("status", check=False)))
        for process in ("smtpd", "access", "directory", "store", "queue", "relay"):
            assert process in status
        c = Raw(stopped.ports["imap"])
        assert c.line().startswith("* OK")
        stopped.command("reload")
        c.send("a NOOP\r\n")
        assert c.line().startswith("a OK")          # the connection outlives the reload
        c.close()
        stopped.configure(message_size_limit="nonsense")
        assert stopped.command("reload", check=False).returncode != 0
        with stopped.smtp() as s:                   # and the faulty configuration was refused whole
            assert s.ehlo()[0] == 250
    finally:
        stopped.command("stop")
    assert stopped.command("status", check=False).returncode != 0


def test_init_refuses_to_overwrite(stopped):
    done = subprocess.run([BINARY, "init", stopped.dir, "--domain", "other.test"], capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr
    assert "other.test" not in open(os.path.join(stopped.dir, "main.cf")).read()


def test_free_ports_differ():
    assert len(set(free_ports(8))) == 8


def test_every_smtp_command(mail):
    with Raw(mail.ports["smtp"]) as c:
        assert c.reply().startswith("220 ")
        assert c.ask("HELO client.test").startswith("250 ")
        hello = c.ask("EHLO client.test")
        for name in ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN", "STARTTLS"):
            assert f"250-{name}" in hello or f"250 {name}" in hello, name
        assert c.ask("NOOP").startswith("250 ") and c.ask("NOOP with words").startswith("250 ")
        assert c.ask("HELP").startswith("2") and c.ask("RSET").startswith("250 ")
        assert c.ask("VRFY bob@example.test").startswith("25")
        assert c.ask("RCPT TO:<bob@example.test>").startswith("503") and c.ask("DATA").startswith("503")
        assert c.ask("MAIL FROM:<a@elsewhere.test> BODY=8BITMIME RET=HDRS ENVID=abc+3D1").startswith("250 ")
        assert c.ask("MAIL FROM:<b@elsewhere.test>").startswith("503")
        assert c.ask("RCPT TO:<bob@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bob@example.test").startswith("250 ")
        assert c.ask("RCPT TO:<bob@example.test> NOTIFY=SOMETIMES").startswith(("501", "555"))
        assert c.ask("RSET").startswith("250 ") and c.ask("RCPT TO:<bob@example.test>").startswith("503")
        assert c.ask("MAIL FROM:<> NONSENSE=1").startswith("555") and c.ask("NONSENSE").startswith(("500", "502"))
        assert c.ask("QUIT").startswith("221 ") and c.at_end()


def test_who_is_over_quota_gets_it_when_there_is_room(stopped):
    """Found out after the data, when another had been served: nobody else waits, nothing is lost."""
    stopped.command("user", "set", "bob@example.test", "--quota", "20K")
    stopped.user("carol@example.test")
    mail = stopped.start()
    with mail.submission("alice@example.test") as s:
        s.ehlo()
        s.mail("alice@example.test")                        # without SIZE
        assert s.rcpt("bob@example.test")[0] == 250 and s.rcpt("carol@example.test")[0] == 250
        assert s.data("Subject: big\r\n\r\n" + ("x" * 78 + "\r\n") * 500)[0] == 250
    wait_for("carol's copy", lambda: mail.count("carol@example.test") == 1)
    assert mail.count("bob@example.test") == 0
    assert "bob@example.test" in wait_for("the queue", lambda: mail.command("queue", "list").stdout)
    mail.wait_log(r"to=<bob@example\.test>.*dsn=4\.2\.2, status=deferred")
    mail.command("user", "set", "bob@example.test", "--quota", "1M")
    mail.command("queue", "flush")
    wait_for("bob's copy", lambda: mail.count("bob@example.test") == 1)
    assert mail.count("carol@example.test") == 1 and mail.count("alice@example.test") == 0
