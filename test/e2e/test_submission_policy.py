"""What a client and a user may send within a time, and what of a user's client is told in the header."""

import contextlib
import email
import email.policy
import itertools
import json
import os
import re
import signal
import smtplib
import sqlite3
import subprocess

import pytest

from instance import BINARY, wait_for


def limited(mail, **settings):
    mail.configure(smtpd_client_event_limit_exceptions="", **settings)
    mail.start()
    return mail


def refused(call, *args):
    with pytest.raises(smtplib.SMTPException) as caught:
        call(*args)
    e = caught.value
    if isinstance(e, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(e.recipients.values()))
    else:
        code, text = e.smtp_code, e.smtp_error
    return code, text.decode()


def restart_smtpd(mail):
    pid = mail.pid_of("smtpd")
    os.kill(pid, signal.SIGKILL)
    wait_for("another smtpd", lambda: mail.pid_of("smtpd") != pid)
    mail.wait_ready()


MESSAGE = "From: alice@example.test\r\nSubject: x\r\n\r\nx\r\n"
numbers = itertools.count()


def submit(client, to=("bob@example.test",)):
    # None like another: what was sent before a crash and is sent again may count as a second try.
    return client.sendmail("alice@example.test", list(to), MESSAGE.replace("Subject: x", f"Subject: x{next(numbers)}"))


def test_a_users_messages_are_limited_over_a_restart_of_smtpd_and_from_all_his_clients(stopped):
    mail = limited(stopped, submission_user_messages_per_hour="3", submission_user_messages_per_day="100")
    with mail.submission("alice@example.test") as client:
        submit(client)
        submit(client)
    restart_smtpd(mail)
    with mail.submission("alice@example.test") as client:
        submit(client)
        assert refused(submit, client) == (450, "4.7.1 Error: too much mail from alice@example.test; try again later")
        # Only the user is refused.
    with mail.submission("bob@example.test") as client:
        client.sendmail("bob@example.test", ["alice@example.test"], MESSAGE)
    mail.wait_messages("bob@example.test", 3)
    mail.wait_messages("alice@example.test", 1)


def test_a_users_recipients_are_limited_a_day(stopped):
    mail = limited(stopped, submission_user_recipients_per_day="2")
    with mail.submission("alice@example.test") as client:
        assert submit(client, ["alice@example.test", "bob@example.test"]) == {}
        assert refused(submit, client) == (
            450, "4.7.1 Error: too many recipients from alice@example.test; try again later")


def test_a_client_is_limited_and_may_again_after_the_period(stopped):
    mail = limited(stopped, smtpd_client_message_rate_limit="1", anvil_rate_time_unit="3s")
    with mail.raw("smtp") as client:
        client.reply()
        client.ask("EHLO client.test")
        assert client.ask("MAIL FROM:<a@elsewhere.test>").startswith("250")
        client.ask("RSET")
        assert client.ask("MAIL FROM:<a@elsewhere.test>") == (
            "450 4.7.1 Error: too much mail from 127.0.0.1; try again later")
        wait_for("the period to end", lambda: client.ask("MAIL FROM:<a@elsewhere.test>").startswith("250"))


def test_recipients_log_ins_and_connections_of_a_client_are_limited(stopped):
    mail = limited(stopped, smtpd_client_recipient_rate_limit="1", smtpd_client_auth_rate_limit="1",
                   anvil_rate_time_unit="1h")
    with mail.raw("smtp") as client:
        client.reply()
        client.ask("EHLO client.test")
        client.ask("MAIL FROM:<a@elsewhere.test>")
        assert client.ask("RCPT TO:<alice@example.test>").startswith("250")
        assert client.ask("RCPT TO:<bob@example.test>").startswith("450 4.7.1 Error: too many recipients")
    mail.submission("alice@example.test").quit()
    assert refused(mail.submission, "alice@example.test")[0] == 450
    mail.configure(smtpd_client_connection_rate_limit="2")
    mail.command("reload")

    def turned_away():
        with mail.raw("smtp") as client:
            return client.reply().startswith("421 4.7.0 ")
    wait_for("the limit", turned_away)


def received(mail, address):
    with open(mail.messages(address)[-1]) as f:
        text = f.read().replace("\n\t", " ").replace("\n ", " ")
    return next(line for line in text.split("\n") if line.startswith("Received:"))


def test_the_header_hides_the_client_of_a_user_or_names_the_user_as_configured(stopped):
    mail = limited(stopped, submission_hide_client="yes", smtpd_sasl_authenticated_header="yes")
    with mail.submission("alice@example.test") as client:
        submit(client)
    mail.wait_messages("bob@example.test", 1)
    line = received(mail, "bob@example.test")
    assert line.startswith("Received: from submission (client hidden) (Authenticated sender: alice@example.test) by ")
    assert "127.0.0.1" not in line
    mail.send("alice@example.test")
    mail.wait_messages("alice@example.test", 1)
    assert "127.0.0.1" in received(mail, "alice@example.test")


# ---- who suddenly sends much more than ever ----

def looked_again(mail, times=2):
    def looked():
        return json.loads(mail.command("alert", "list", "--json", check=False).stdout)["looked"]
    for _ in range(times):
        before = looked()
        wait_for("the next look", lambda: looked() > before)


def told(mail, address):
    found = []
    for path in mail.messages(address):
        with open(path) as f:
            found.append(email.message_from_file(f, policy=email.policy.default))
    return found


def sending(mail):
    """What directory has written down: who to the state of his surge."""
    path = os.path.join(mail.dir, "directory", "accounts.sqlite")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {who: (surge, told) for who, surge, told in db.execute("SELECT who, surge, told FROM sending")}


def test_who_suddenly_sends_much_more_is_told_with_postmaster_once_over_restarts(stopped):
    mail = limited(stopped, submission_surge_recipients_per_hour="3", alert_recipient="bob@example.test",
                   alert_check_interval="1s", alert_login_failures="0")
    mail.user("carol@example.test")
    with mail.submission("alice@example.test") as client:
        for _ in range(3):
            submit(client, ["carol@example.test"])
    mail.stop()     # three were none too many, and are remembered
    mail.start()
    assert sending(mail)["alice@example.test"][0] == 0
    with mail.submission("alice@example.test") as client:
        # Two, because what the last message before the end counted for may be lost; by themselves they are not many.
        submit(client, ["carol@example.test"])
        submit(client, ["carol@example.test"])
        wait_for("both mails", lambda: told(mail, "alice@example.test") and told(mail, "bob@example.test"))
        wait_for("it to be noted", lambda: sending(mail)["alice@example.test"][1] == 1)
        submit(client, ["carol@example.test"])
    to_user, = told(mail, "alice@example.test")
    to_admin, = told(mail, "bob@example.test")
    assert to_user["Subject"] == "Your account alice@example.test suddenly sends much more mail than ever"
    assert to_user["Auto-Submitted"] == "auto-generated"
    assert "alice@example.test suddenly sends much more than ever" in to_admin["Subject"]
    assert re.search("recipients within the last hour: [45], the most of an hour before: 0", to_admin.get_content())
    mail.stop()
    mail.start()
    with mail.submission("alice@example.test") as client:
        submit(client, ["carol@example.test"])
    looked_again(mail)
    assert len(told(mail, "alice@example.test")) == len(told(mail, "bob@example.test")) == 1


def test_a_program_of_this_machine_that_suddenly_sends_much_more_is_told_of(stopped):
    mail = limited(stopped, submission_surge_recipients_per_hour="2", alert_recipient="bob@example.test",
                   alert_check_interval="1s")
    for _ in range(3):
        subprocess.run(["sendmail", "-C", mail.dir, "alice"], executable=BINARY, input=b"Subject: x\n\nx\n", check=True)
    wait_for("the mail", lambda: told(mail, "bob@example.test"))
    assert f"(uid {os.getuid()})" in told(mail, "bob@example.test")[0]["Subject"]
