"""make torture PARTS=valgrind_system: the whole system under valgrind: mail comes in, goes out, is read, changed, moved and
expunged, by SMTP, submission, LMTP, IMAP, POP3 and commands; reloads, an orderly stop. No process of those that master
starts may touch what is not its own or use what was never set, or lose something each time that a client comes (what a process
makes once for its whole life and leaves to its end is no leak).

The program (POSTRIDER_TESTED) is a plain build with -DPOSTRIDER_TEST: master, which runs as it is, starts each process through
under_valgrind.c; they have their account and root, but neither seccomp nor Landlock, which would forbid valgrind its own system
calls. TORTURE_SECONDS does not matter: every client plays ROUNDS times."""
import glob
import imaplib
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
if "POSTRIDER_TESTED" in os.environ:
    os.environ["POSTRIDER"] = os.environ["POSTRIDER_TESTED"]
os.environ.setdefault("POSTRIDER_PATIENCE", "300")

from dnsserver import DnsServer                                   # noqa: E402
from instance import BINARY, PATIENCE, Instance, wait_for         # noqa: E402
from sink import Sink                                             # noqa: E402

ROUNDS = 4
SIZES = (500, 70_000, 700_000)


def message(to, subject, size):
    return f"From: <bob@example.test>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\n" + "Some text of a line.\r\n" * (size // 22)


def comes_in(mail):
    for size in SIZES:
        mail.send("alice@example.test", text=message("alice@example.test", f"in {size}", size))
    with mail.smtp() as s:
        s.sendmail("x@elsewhere.test", ["alice@example.test", "bob@example.test"], message("both", "two", 3000))
        code, _ = s.docmd("MAIL", "FROM:<x@elsewhere.test>")
        assert code == 250 and s.docmd("RCPT", "TO:<nobody@example.test>")[0] == 550
        assert s.docmd("NONSENSE")[0] in (500, 502)
    with mail.raw("lmtp") as l:
        l.reply()
        for line, code in (("LHLO x", "250"), ("MAIL FROM:<>", "250"), ("RCPT TO:<bob@example.test>", "250"), ("DATA", "354")):
            assert l.ask(line).startswith(code), line
        assert l.ask("Subject: by lmtp\r\n\r\nText.\r\n.").startswith("250")


def goes_out(mail, sink):
    with mail.submission("bob@example.test") as s:
        s.sendmail("bob@example.test", ["far@far.test"], message("far@far.test", "out", 3000))
        s.sendmail("bob@example.test", ["far@far.test", "alice@example.test"], message("far@far.test", "out 2", 100_000))
        s.sendmail("bob@example.test", ["gone@far.test"], message("gone@far.test", "in vain", 3000))
    wait_for("mail at its destination and its reports", lambda: mail.command("queue", "list", "--json").stdout.strip() == "[]", PATIENCE)
    assert len(sink.messages) == 2
    del sink.messages[:]


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def is_read(mail, address):
    m = mail.imap(address)
    ok(m.create("Box"))
    ok(m.select("INBOX"))
    ok(m.append("INBOX", r"(\Seen)", None, message(address, "small", 500).encode()))
    ok(m.append("INBOX", None, None, message(address, "large", 200_000).encode()))
    ok(m.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
    ok(m.fetch("1:*", "(BODY.PEEK[])"))
    ok(m.search(None, "TEXT", "line"))
    ok(m.search(None, "OR", "SEEN", "SUBJECT", "large"))
    ok(m.store("1", "+FLAGS", r"(\Flagged $Label1)"))
    ok(m.copy("1:2", "Box"))
    ok(m._simple_command("MOVE", "1", "Box"))
    ok(m.store("1", "+FLAGS", r"(\Deleted)"))
    ok(m.expunge())
    ok(m.rename("Box", "Other"))
    ok(m.status("Other", "(MESSAGES UIDNEXT UNSEEN)"))
    ok(m.list())
    ok(m.delete("Other"))
    try:
        m.select("No such mailbox")
        m._simple_command("NONSENSE")
    except imaplib.IMAP4.error:
        pass
    m.logout()
    p = mail.pop3(address)
    count, _ = p.stat()
    p.uidl()
    for i in range(1, count + 1):
        p.retr(i)
    p.dele(1)
    p.quit()


def commands(mail):
    mail.command("status")
    mail.command("reload")
    mail.user("carol@example.test")
    mail.command("user", "delete", "carol@example.test")
    mail.command("queue", "list")
    mail.command("mail", "fsck", "alice@example.test")


def faults(text):
    """Of valgrind's words in a process's log: what it did wrong, and of what it lost what it lost each time."""
    found = []
    for part in re.split(r"^==\d+== *\n", text, flags=re.M):
        lost = re.search(r"([\d,]+) blocks are definitely lost", part)
        if part.strip() and (not lost or int(lost[1].replace(",", "")) >= ROUNDS):
            found.append(part)
    return "\n".join(found)


def starter(base):
    """The program that master takes for itself: under_valgrind.c."""
    path, logs = os.path.join(base, "under_valgrind"), os.path.join(base, "logs")
    subprocess.run(["gcc", "-O1", "-o", path, os.path.join(HERE, "under_valgrind.c")], check=True)
    os.mkdir(logs)
    os.chmod(logs, 0o1777)
    os.environ.update(POSTRIDER_CHILD_PROGRAM=path, POSTRIDER_WITHOUT_FILTERS="yes", POSTRIDER_VALGRIND_LOGS=logs,
                      POSTRIDER_VALGRIND_PROGRAM=BINARY, POSTRIDER_VALGRIND_KNOWN=os.path.join(HERE, "valgrind.supp"))
    return logs


def main():
    base = tempfile.mkdtemp(prefix="postrider-valgrind-")
    os.chmod(base, 0o755)
    logs = starter(base)
    with DnsServer() as dns, Sink("127.1.2.1") as sink:
        dns.set("far.test", "MX", "10 mx.far.test.")
        dns.set("mx.far.test", "A", sink.address)
        sink.answer["RCPT"] = lambda line: "550 5.1.1 no such user" if "<gone@" in line else None
        with Instance(os.path.join(base, "mail"), settings=dns.settings(
                transport_maps=f"inline:{{ {{ far.test = smtp:far.test:{sink.port} }} }}", dns_timeout="60s")) as mail:
            for user in ("alice@example.test", "bob@example.test"):
                mail.user(user)
            mail.start()
            for _ in range(ROUNDS):
                comes_in(mail)
                goes_out(mail, sink)
                commands(mail)
                is_read(mail, "alice@example.test")
                is_read(mail, "bob@example.test")
            status = mail.stop()
            log = mail.log()
    found = {os.path.basename(p): faults(open(p, errors="replace").read()) for p in sorted(glob.glob(os.path.join(logs, "*")))}
    for name, text in found.items():
        print(f"{'FAIL ' if text else 'ok   '} {name}\n{text[:6000]}".rstrip(), flush=True)
    names = {re.sub(r"\.\d+$", "", n) for n in found}
    lost = {"smtpd", "access", "relay", "dns", "directory", "queue", "store"} - names
    for name in lost:
        print(f"FAIL  {name} did not run under valgrind")
    if status != 0 or "killed by signal" in log or re.search(r"exit(ed with)? status [1-9]", log):
        print(f"FAIL  master ended with {status}\n" + log[-3000:])
        return 1
    if not lost and not any(found.values()):
        shutil.rmtree(base)
        return 0
    print("kept: " + base)
    return 1


if __name__ == "__main__":
    sys.exit(main())
