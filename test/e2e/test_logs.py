"""The log says what other tools know how to read."""

import os
import re
import smtplib
import subprocess

import pytest

from instance import wait_for


def fail2ban_matches(mail, filter_name, mode=None):
    path = f"/etc/fail2ban/filter.d/{filter_name}.conf" + (f"[mode={mode}]" if mode else "")
    done = subprocess.run(["/usr/bin/fail2ban-regex", mail.log_path, path], capture_output=True, text=True)
    found = re.search(r"Lines: \d+ lines, \d+ ignored, (\d+) matched", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found.group(1))


def test_failed_logins_match_fail2bans_rules(mail):
    s = mail.submission()
    with pytest.raises(smtplib.SMTPAuthenticationError):
        s.login("alice@example.test", "wrong")
    s.close()
    mail.wait_log("SASL .* authentication failed")
    assert fail2ban_matches(mail, "postfix", "auth") >= 1
    box = mail.imap()
    with pytest.raises(Exception):
        box.login("alice@example.test", "wrong")
    box.logout()
    mail.wait_log("imap-login: .*auth failed.*user=<alice@example.test>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, TLS")
    pop = mail.pop3()
    pop.user("alice@example.test")
    with pytest.raises(Exception):
        pop.pass_("wrong")
    pop.quit()
    mail.wait_log("pop3-login: .*auth failed")
    assert fail2ban_matches(mail, "dovecot") >= 2


def test_one_message_can_be_followed(mail):
    with mail.submission("alice@example.test") as s:
        s.sendmail("alice@example.test", ["bob@example.test"], "Subject: x\r\n\r\nx\r\n")
    found = mail.wait_log(r"postrider/(?:submission/)?smtpd\[\d+\]: (\w+): client=\S+\[127\.0\.0\.1\], sasl_method=\S+, "
                          r"sasl_username=alice@example\.test")
    mail.wait_log(found.group(1) + r": to=<bob@example\.test>.*dsn=2\.0\.0, status=sent")


def test_refusal_is_logged_as_postfix_does(mail):
    with mail.smtp() as s:
        s.ehlo()
        s.mail("x@elsewhere.test")
        s.rcpt("nobody@example.test")
    mail.wait_log(r"NOQUEUE: reject: RCPT from \S+\[127\.0\.0\.1\]: 550 5\.1\.1 <nobody@example\.test>: .*"
                  r"from=<x@elsewhere\.test> to=<nobody@example\.test> proto=ESMTP helo=<client\.test>")


def test_passwords_are_never_logged(mail):
    mail.user("carol@example.test", "Very-Secret-Word")
    box = mail.imap("carol@example.test", "Very-Secret-Word")
    box.logout()
    with mail.submission("carol@example.test", "Very-Secret-Word"):
        pass
    assert "Very-Secret-Word" not in mail.log()


def test_the_log_may_be_moved_away(mail):
    """As logrotate(8) does it: renamed, or copied and cut; a reload opens a new one, also when it is refused otherwise."""
    os.rename(mail.log_path, mail.log_path + ".1")
    mail.command("reload")
    mail.wait_log("reload -- version")
    assert "reload -- version" in open(mail.log_path).read()
    os.rename(mail.log_path, mail.log_path + ".2")
    mail.configure(message_size_limit="much")
    assert mail.command("reload", check=False).returncode == os.EX_CONFIG
    assert "reload refused" in open(mail.log_path).read()
    os.truncate(mail.log_path, 0)
    with mail.smtp() as s:
        s.noop()
    wait_for("a line", lambda: "connect from" in open(mail.log_path).read())
    assert "\0" not in open(mail.log_path).read()
