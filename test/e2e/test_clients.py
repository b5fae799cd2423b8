"""Real mail clients against a running system."""

import getpass
import os
import subprocess

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


def count(mail, user, mailbox="INBOX"):
    box = mail.imap(user)
    n = int(box.select(mailbox, readonly=True)[1][0])
    box.logout()
    return n


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
    assert count(mail, "bob@example.test") == 5


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
    assert count(mail, "bob@example.test", "Drafts") == 1


def test_scram_with_curl(mail, home):
    """curl speaks SCRAM-SHA-256 through libgsasl; without it in this build the log-in options are refused."""
    if "gsasl" not in run(["curl", "--version"], home).stdout:
        pytest.skip("this curl has no SCRAM")
    out = run(["curl", "--insecure", "--silent", "--show-error", "--login-options", "AUTH=SCRAM-SHA-256", "--user",
               "bob@example.test:secret", f"imaps://127.0.0.1:{mail.ports['imaps']}/"], home).stdout
    assert "INBOX" in out


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
    assert len(local()) == 5 and count(mail, "bob@example.test") == 5
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
        assert count(mail, "bob@example.test") == 6
    flags = b"".join(x if isinstance(x, bytes) else b"".join(x) for x in box.fetch("1:*", "(FLAGS)")[1])
    assert flags.count(b"\\Flagged") == 1
    assert sum("R" in n.split(":2,")[-1] for n in local() if ":2," in n) == 1
    box.store("2", "+FLAGS", r"(\Deleted)")
    box.expunge()
    box.logout()
    run(sync, home)
    assert len(local()) == 5


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
    assert count(mail, "bob@example.test") == 0


def test_getmail_leaves_and_knows_what_it_saw(mail, home):
    for i in range(3):
        mail.send("bob@example.test", subject=f"message {i}")
    box = home / "Maildir"
    for d in ("new", "cur", "tmp"):
        (box / d).mkdir(parents=True)
    (home / "getmailrc").write_text(
        f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\nport = {mail.ports['pop3s']}\n"
        f"username = bob@example.test\npassword = secret\n[destination]\ntype = Maildir\npath = {box}/\n"
        f"{'user = ' + getpass.getuser() + chr(10) if os.getuid() == 0 else ''}[options]\nread_all = false\n")
    for _ in range(2):
        run(["getmail", "--getmaildir", str(home), "--rcfile", "getmailrc"], home)
    assert len(os.listdir(box / "new")) == 3


def test_mpop_and_msmtp(mail, home):
    (home / "msmtprc").write_text(
        f"account a\nhost 127.0.0.1\nport {mail.ports['submission']}\ntls on\ntls_starttls on\ntls_certcheck off\n"
        "auth scram-sha-256\nuser alice@example.test\npassword secret\nfrom alice@example.test\n")
    (home / "msmtprc").chmod(0o600)
    mechanisms = run(["msmtp", "--version"], home).stdout
    if "scram-sha-256" not in mechanisms.lower():
        (home / "msmtprc").write_text((home / "msmtprc").read_text().replace("auth scram-sha-256", "auth plain"))
    run(["msmtp", "-C", str(home / "msmtprc"), "-a", "a", "bob@example.test"], home,
        input="To: bob@example.test\nSubject: by msmtp\n\nhello\n")
    (home / "mpoprc").write_text(
        f"account a\nhost 127.0.0.1\nport {mail.ports['pop3s']}\ntls on\ntls_starttls off\ntls_certcheck off\nuser bob@example.test\n"
        f"password secret\nkeep on\ndelivery mbox {home}/mbox\nuidls_file {home}/uidls\n")
    (home / "mpoprc").chmod(0o600)
    for _ in range(2):
        run(["mpop", "-C", str(home / "mpoprc"), "-a", "a"], home)
    assert (home / "mbox").read_text().count("Subject: by msmtp") == 1


def test_mutt_reads_and_sends(mail, home):
    mail.send("bob@example.test", subject="read me with mutt")
    url = f"imaps://bob%40example.test:secret@127.0.0.1:{mail.ports['imaps']}/INBOX"
    (home / "muttrc").write_text(
        f"set ssl_verify_host=no\nset ssl_verify_dates=no\nset ssl_ca_certificates_file={mail.dir}/tls/cert.pem\n"
        f"set certificate_file={mail.dir}/tls/cert.pem\nset from=alice@example.test\nset copy=no\n"
        f"set smtp_url=smtps://alice%40example.test:secret@127.0.0.1:{mail.ports['submissions']}/\n"
        "set ssl_use_sslv3=no\nset quit=yes\nset mail_check=1\n")
    run(["mutt", "-F", str(home / "muttrc"), "-s", "by mutt", "bob@example.test"], home, input="hello\n")
    # Opens the mailbox, saves the first message to a file, and quits.
    run(["mutt", "-F", str(home / "muttrc"), "-f", url, "-e", f"push '<first-entry><copy-message>{home}/saved<enter>y<quit>'"],
        home, ok=False)
    assert count(mail, "bob@example.test") == 2


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
