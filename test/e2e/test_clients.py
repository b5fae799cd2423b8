"""Real mail clients against a running system."""

import imaplib
import os
import poplib
import pty
import select
import smtplib
import subprocess
import time

import pytest

from instance import PATIENCE


def run(argv, home, input=None, ok=True):
    env = dict(os.environ, HOME=str(home), LANG="C.UTF-8", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    done = subprocess.run(argv, input=input, capture_output=True, text=True, env=env, cwd=str(home), timeout=4 * PATIENCE)
    if ok:
        assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return path


def test_swaks_delivers_and_authenticates(mail, home):
    run(["swaks", "--server", f"127.0.0.1:{mail.ports['smtp']}", "--to", "bob@example.test",
         "--from", "x@elsewhere.test", "--helo", "client.test"], home)
    for mechanism in ("PLAIN", "LOGIN"):
        run(["swaks", "--server", f"127.0.0.1:{mail.ports['submission']}", "--tls", "--auth", mechanism,
             "--auth-user", "alice@example.test", "--auth-password", "secret", "--from", "alice@example.test",
             "--to", "bob@example.test"], home)
    run(["swaks", "--server", f"127.0.0.1:{mail.ports['submissions']}", "--tls-on-connect", "--auth", "PLAIN",
         "--auth-user", "alice@example.test", "--auth-password", "secret", "--from", "alice@example.test",
         "--to", "bob@example.test"], home)
    run(["swaks", "--server", f"127.0.0.1:{mail.ports['lmtp']}", "--protocol", "LMTP", "--to", "bob@example.test",
         "--from", "x@elsewhere.test"], home)
    assert mail.count("bob@example.test") == 5


def test_curl_sends_and_reads(mail, home):
    (home / "message").write_text("From: alice@example.test\r\nTo: bob@example.test\r\nSubject: by curl\r\n\r\nhello\r\n")
    tls = ["--insecure", "--silent", "--show-error", "--max-time", "60"]
    run(["curl", *tls, "--ssl-reqd", "--url", f"smtp://127.0.0.1:{mail.ports['submission']}", "--user",
         "alice@example.test:secret", "--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test",
         "--upload-file", "message"], home)
    user = ["--user", "bob@example.test:secret"]
    assert "by curl" in run(["curl", *tls, *user, f"imaps://127.0.0.1:{mail.ports['imaps']}/INBOX;MAILINDEX=1"], home).stdout
    assert "by curl" in run(["curl", *tls, *user, f"pop3s://127.0.0.1:{mail.ports['pop3s']}/1"], home).stdout
    assert "by curl" in run(["curl", *tls, "--ssl-reqd", *user, f"imap://127.0.0.1:{mail.ports['imap']}/INBOX;MAILINDEX=1"],
                            home).stdout
    listing = run(["curl", *tls, *user, f"imaps://127.0.0.1:{mail.ports['imaps']}/"], home).stdout
    assert "INBOX" in listing and "Sent" in listing
    run(["curl", *tls, *user, "--upload-file", "message", f"imaps://127.0.0.1:{mail.ports['imaps']}/Drafts"], home)
    assert mail.count("bob@example.test", "Drafts") == 1


MBSYNC = """
IMAPAccount bob
Host 127.0.0.1
Port {port}
User bob@example.test
Pass secret
SSLType IMAPS
CertificateFile {cert}

IMAPStore remote
Account bob

MaildirStore local
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :remote:
Near :local:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
"""


def test_mbsync_two_ways_twice(mail, home):
    (home / "mail").mkdir()
    cert = os.path.join(mail.dir, "tls", "cert.pem")
    (home / ".mbsyncrc").write_text(MBSYNC.format(port=mail.ports["imaps"], home=home, cert=cert))
    for i in range(5):
        mail.send("bob@example.test", subject=f"message {i}")
    sync = ["mbsync", "-c", str(home / ".mbsyncrc"), "all"]
    inbox = home / "mail" / "INBOX"

    def local():
        return sorted(f for d in ("new", "cur") for f in os.listdir(inbox / d))

    run(sync, home)
    assert len(local()) == 5
    run(sync, home)
    assert len(local()) == 5 and mail.count("bob@example.test") == 5
    # A flag set here goes there, a flag set there comes here, a local message goes up: once.
    name = local()[0]
    folder = "new" if (inbox / "new" / name).exists() else "cur"
    os.rename(inbox / folder / name, inbox / "cur" / (name.split(":2,")[0] + ":2,FS"))
    (inbox / "new" / "1.local.test").write_text("Subject: from below\n\nhello\n")
    box = mail.imap("bob@example.test")
    box.select()
    answered = box.store("5", "+FLAGS", r"(\Answered)")
    assert answered[0] == "OK"
    for _ in range(2):
        run(sync, home)
        box.noop()
        assert len(local()) == 6
        assert mail.count("bob@example.test") == 6
    # As a set: imaplib adds to the answer what NOOP told before.
    flags = set(box.fetch("1:*", "(FLAGS)")[1])
    assert len([line for line in flags if b"\\Flagged" in line]) == 1
    assert sum("R" in n.split(":2,")[-1] for n in local() if ":2," in n) == 1
    box.store("2", "+FLAGS", r"(\Deleted)")
    box.expunge()
    box.logout()
    run(sync, home)
    assert len(local()) == 5


def test_mbsync_with_several_folders(mail, home):
    (home / "mail").mkdir()
    (home / ".mbsyncrc").write_text(MBSYNC.format(port=mail.ports["imaps"], home=home,
                                                  cert=os.path.join(mail.dir, "tls", "cert.pem")))
    box = mail.imap("bob@example.test")
    text = b"Subject: %d in %s\r\n\r\nhello\r\n"
    for folder, n in (("Work", 3), ("Work/2026", 2), ("&ZeVnLIqe-", 1)):
        assert box.create(folder)[0] == "OK"
        for i in range(n):
            assert box.append(folder, r"(\Flagged)", None, text % (i, folder.encode()))[0] == "OK"
    # And a folder that only this side has.
    for d in ("new", "cur", "tmp"):
        (home / "mail" / "Later" / d).mkdir(parents=True)
    (home / "mail" / "Later" / "new" / "1.local.test").write_text("Subject: from below\n\nhello\n")

    def local(folder):
        return [f for d in ("new", "cur") for f in os.listdir(home / "mail" / folder / d)]

    for _ in range(2):
        run(["mbsync", "-c", str(home / ".mbsyncrc"), "all"], home)
        assert [len(local(f)) for f in ("Work", "Work/2026", "Later")] == [3, 2, 1]
        assert all("F" in name.split(":2,")[1] for name in local("Work"))
        assert [mail.count("bob@example.test", f) for f in ("Work", "Work/2026", "Later")] == [3, 2, 1]
    assert any(len(local(f)) == 1 for f in os.listdir(home / "mail") if f not in ("INBOX", "Later", "Work")
               and os.path.isdir(home / "mail" / f / "cur"))
    box.logout()


def test_fetchmail_takes_all(mail, home):
    for i in range(3):
        mail.send("bob@example.test", subject=f"message {i}")
    for protocol, port, n in (("POP3", "pop3s", 1), ("IMAP", "imaps", 2)):
        rc = home / ".fetchmailrc"
        rc.write_text(f"poll 127.0.0.1 protocol {protocol} port {mail.ports[port]} user bob@example.test "
                      f"password secret ssl no sslcertck {'keep' if n == 1 else ''} fetchall "
                      f"mda \"cat >> {home}/got{n}\"\n")
        rc.chmod(0o600)
        run(["fetchmail", "-f", str(rc), "--nosyslog", "-v", "--pidfile", str(home / f"pid{n}")], home)
        assert (home / f"got{n}").read_text().count("Subject: message") == 3
    assert mail.count("bob@example.test") == 0


def test_getmail_leaves_and_knows_what_it_saw(mail, home):
    for i in range(3):
        mail.send("bob@example.test", subject=f"message {i}")
    (home / "getmailrc").write_text(
        f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\nport = {mail.ports['pop3s']}\n"
        f"username = bob@example.test\npassword = secret\n[destination]\ntype = MDA_external\npath = /bin/sh\n"
        f"arguments = ('-c', 'cat >>{home}/got')\nallow_root_commands = true\n[options]\nread_all = false\n")
    for _ in range(2):
        run(["getmail", "--getmaildir", str(home), "--rcfile", "getmailrc"], home)
    assert (home / "got").read_text().count("Subject: message") == 3


def test_mpop_and_msmtp(mail, home):
    """Both log in by SCRAM-SHA-256."""
    (home / "msmtprc").write_text(
        f"account a\nhost 127.0.0.1\nport {mail.ports['submission']}\ntls on\ntls_starttls on\ntls_certcheck off\n"
        "auth scram-sha-256\nuser alice@example.test\npassword secret\nfrom alice@example.test\n")
    (home / "msmtprc").chmod(0o600)
    run(["msmtp", "-C", str(home / "msmtprc"), "-a", "a", "bob@example.test"], home,
        input="To: bob@example.test\nSubject: by msmtp\n\nhello\n")
    mail.wait_log("sasl_method=SCRAM-SHA-256, sasl_username=alice@example.test")
    (home / "mpoprc").write_text(
        f"account a\nhost 127.0.0.1\nport {mail.ports['pop3']}\ntls on\ntls_starttls on\ntls_certcheck off\n"
        f"auth scram-sha-256\nuser bob@example.test\npassword secret\nkeep on\ndelivery mbox {home}/mbox\nuidls_file {home}/uidls\n")
    (home / "mpoprc").chmod(0o600)
    for _ in range(2):
        run(["mpop", "-C", str(home / "mpoprc"), "a"], home)
    assert (home / "mbox").read_text().count("Subject: by msmtp") == 1
    mail.wait_log("pop3-login: Login: user=<bob@example.test>, method=SCRAM-SHA-256")


def write_muttrc(mail, home, keys=""):
    """mutt as bob: his INBOX over TLS, mail by submission, and keys to press by itself."""
    (home / "muttrc").write_text(
        f"set ssl_verify_host=no\nset ssl_verify_dates=no\nset ssl_ca_certificates_file={mail.dir}/tls/cert.pem\n"
        f"set certificate_file={mail.dir}/tls/cert.pem\nset from=bob@example.test\nset copy=no\nset editor=true\n"
        f"set smtp_url=smtps://bob%40example.test:secret@127.0.0.1:{mail.ports['submissions']}/\n"
        f"set folder=imaps://bob%40example.test:secret@127.0.0.1:{mail.ports['imaps']}/\nset spoolfile=+INBOX\n"
        # mutt 2.2 prefers -PLUS over TLS 1.3 as well, for which it has no channel binding.
        "set smtp_authenticators=scram-sha-256\n"
        "set quit=yes\nset delete=yes\nset confirmcreate=no\nset confirmappend=no\nset fast_reply=yes\nset include=yes\n"
        "set abort_unmodified=no\nset header_cache=\nset wait_key=no\nset sleep_time=0\nset beep=no\n"
        + (f'push "{keys}"\n' if keys else ""))
    return ["mutt", "-F", str(home / "muttrc")]


def on_a_terminal(argv, home):
    """Runs a program that wants a screen; what it paints is thrown away unless it fails."""
    env = dict(os.environ, HOME=str(home), LANG="C.UTF-8", TERM="xterm", LINES="24", COLUMNS="80",
               PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=str(home), start_new_session=True)
    os.close(theirs)
    screen = b""
    deadline = time.monotonic() + 2 * PATIENCE
    while child.poll() is None and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                screen += os.read(ours, 65536)
            except OSError:          # Linux: the other end is closed
                break
    os.close(ours)
    try:
        child.wait(max(1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise AssertionError("no end of " + argv[0] + ": " + screen[-4000:].decode("utf-8", "replace"))
    assert child.returncode == 0, screen[-4000:].decode("utf-8", "replace")


def test_mutt_sends(mail, home):
    run([*write_muttrc(mail, home), "-s", "by mutt", "alice@example.test"], home, input="hello\n")
    box = mail.imap("alice@example.test")
    box.select()
    assert b"Subject: by mutt" in box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    box.logout()


def test_mutt_reads_saves_and_deletes(mail, home):
    for i in range(3):
        mail.send("bob@example.test", subject=f"read me {i}")
    on_a_terminal(write_muttrc(mail, home, f"<first-entry><copy-message>{home}/saved<enter>"
                               "<next-entry><save-message>=Kept<enter><quit>"), home)
    assert (home / "saved").read_text().count("Subject: read me 0") == 1
    assert mail.count("bob@example.test") == 2 and mail.count("bob@example.test", "Kept") == 1


def test_mutt_replies(mail, home):
    mail.send("bob@example.test", sender="alice@example.test", subject="a question",
              text="From: alice@example.test\r\nTo: bob@example.test\r\nSubject: a question\r\n"
                   "Message-ID: <question@example.test>\r\n\r\nWhy?\r\n")
    on_a_terminal(write_muttrc(mail, home, "<first-entry><reply><send-message><quit>"), home)
    box = mail.imap("alice@example.test")
    box.select()
    got = box.fetch("1", "(BODY.PEEK[])")[1][0][1]
    assert b"Subject: Re: a question" in got and b"In-Reply-To: <question@example.test>" in got and b"> Why?" in got
    box.logout()
    box = mail.imap("bob@example.test")
    box.select()
    assert b"\\Answered" in box.fetch("1", "(FLAGS)")[1][0]
    box.logout()


def test_python_libraries(mail):
    with mail.submission("alice@example.test") as s:
        s.sendmail("alice@example.test", "bob@example.test", "Subject: python\r\n\r\nhello\r\n")
    pop = mail.pop3("bob@example.test")
    assert len(pop.uidl()[1]) == 1 and pop.top(1, 0)[1]
    pop.dele(1)
    pop.rset()
    pop.quit()
    box = mail.imap("bob@example.test")
    box.create("Folder/Sub")
    assert box.select()[1] == [b"1"]
    assert box.copy("1", "Folder/Sub")[0] == "OK"
    box.select("Folder/Sub")
    assert box.search(None, "SUBJECT", "python")[1] == [b"1"]
    box.logout()


def test_python_libraries_by_starttls(mail):
    box = imaplib.IMAP4("127.0.0.1", mail.ports["imap"], timeout=PATIENCE)
    assert "STARTTLS" in box.capabilities
    box.starttls(mail.tls())
    assert "STARTTLS" not in box.capabilities
    box.login("bob@example.test", "secret")
    assert box.select()[1] == [b"0"]
    box.logout()
    pop = poplib.POP3("127.0.0.1", mail.ports["pop3"], timeout=PATIENCE)
    assert "STLS" in pop.capa()
    pop.stls(mail.tls())
    assert "STLS" not in pop.capa()
    pop.user("bob@example.test")
    pop.pass_("secret")
    pop.quit()
    with smtplib.SMTP("127.0.0.1", mail.ports["smtp"], timeout=PATIENCE) as s:
        s.starttls(context=mail.tls())
        s.sendmail("x@elsewhere.test", ["bob@example.test"], "Subject: x\r\n\r\nx\r\n")
    assert mail.count("bob@example.test") == 1
