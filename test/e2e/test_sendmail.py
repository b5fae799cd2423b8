"""Mail from the programs of this machine: sendmail(1) as cron, PHP, mutt and mail(1) call it, while the system runs, while
it does not, and while it dies."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest

from crashkill import Faults
from disks import disk  # noqa: F401: a fixture
from instance import BINARY, Instance, let_through, wait_for

NOBODY = pwd.getpwnam("nobody").pw_uid
root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")


def prepare(m, bin):
    """alice and bob, and its programs by name in `bin`."""
    m.user("alice@example.test")
    m.user("bob@example.test")
    m.bin = bin
    m.bin.mkdir(mode=0o755)
    for name in ("sendmail", "mailq", "newaliases"):
        (m.bin / name).symlink_to(BINARY)
    m.sendmail = str(m.bin / "sendmail")
    m.maildrop = os.path.join(m.dir, "spool", "maildrop")
    return m


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An instance that was not started."""
    let_through(tmp_path)
    with Instance(tmp_path / "mail") as m:
        monkeypatch.setenv("POSTRIDER_CONFIG", m.dir)
        yield prepare(m, tmp_path / "bin")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    top = tmp_path_factory.mktemp("shared")
    let_through(top)
    with Instance(top / "mail", settings={"message_size_limit": "20480000", "recipient_delimiter": "+"}) as m:
        yield prepare(m, top / "bin").start()


@pytest.fixture
def running(shared, monkeypatch):
    """One that runs, for all that leave it as it was; its mailboxes are emptied."""
    monkeypatch.setenv("POSTRIDER_CONFIG", shared.dir)
    yield shared
    for who in ("alice@example.test", "bob@example.test"):
        box = shared.imap(who)
        box.select()
        box.store("1:*", "+FLAGS", "\\Deleted") if box.untagged_responses.get("EXISTS") != [b"0"] else None
        box.expunge()
        box.logout()
        shared.wait_messages(who, 0) if shared.messages(who) else None


def as_user(uid):
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid is not None else []


def sendmail(mail, *args, input=b"Subject: hello\n\nA line.\n", uid=None, status=0, name="sendmail", **more):
    done = subprocess.run([*as_user(uid), str(mail.bin / name), *args], input=input, capture_output=True, timeout=120,
                          **more)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def texts(mail, address, count=1):
    return [open(f, "rb").read() for f in mail.wait_messages(address, count)]


def body(text):
    return text.split(b"\n\n", 1)[1]


def field(text, name):
    head = text.split(b"\n\n", 1)[0].decode() + "\n"
    found = re.findall(rf"(?mi)^{name}: (.*(?:\n[ \t].*)*)\n", head)
    return found[0] if len(found) == 1 else found or None


# ---- what programs send ----

@root_only
def test_any_user_may_submit(running):
    sendmail(running, "alice", uid=NOBODY)
    (text,) = texts(running, "alice@example.test")
    assert field(text, "Return-Path") == "<nobody@example.test>"
    assert re.match(rf"by mail\.example\.test \(Postrider, from userid {NOBODY}\)\n\tid \w+; ", field(text, "Received"))
    assert field(text, "From") == "nobody <nobody@example.test>"
    assert field(text, "Message-ID") and field(text, "Date") and field(text, "Subject") == "hello"
    queue_id = field(text, "Received").split("\tid ")[1].split(";")[0]
    running.wait_log(rf"postrider/pickup\[\d+\]: {queue_id}: uid={NOBODY} from=<nobody>\n")
    running.wait_log(rf"postrider/qmgr\[\d+\]: {queue_id}: removed\n")


def envelope_of(mail, address):
    box = mail.imap(address)
    box.select(readonly=True)
    envelope = box.fetch("1", "(ENVELOPE)")[1][0].decode()
    box.logout()
    return envelope


def envelope_from_header(text):
    return (f'(ENVELOPE ("{field(text, "Date")}" "{field(text, "Subject")}" ' + '(("root" NIL "root" "example.test")) ' * 3 +
            f'NIL NIL NIL NIL "{field(text, "Message-ID")}"))')


def test_what_was_added_to_the_header_is_in_the_envelope(running):
    """A client's list of messages shows it. ENVELOPE is made when a message comes in, or when its file is read again."""
    sendmail(running, "alice@example.test")
    (text,) = texts(running, "alice@example.test")
    assert envelope_from_header(text) in envelope_of(running, "alice@example.test")
    running.command("mail", "fsck", "alice@example.test")
    assert envelope_from_header(text) in envelope_of(running, "alice@example.test")


def test_what_was_added_to_the_header_is_in_the_envelope_of_what_waited(here):
    """By way of the queue: root is the first user, who is not there yet."""
    for who in ("alice", "bob"):
        here.command("user", "delete", f"{who}@example.test")
    here.start()
    sendmail(here, "root")
    here.wait_log("there is no user yet who could receive the postmaster's mail")
    here.user("carol@example.test")
    here.command("queue", "flush")
    (text,) = texts(here, "carol@example.test")
    assert envelope_from_header(text) in envelope_of(here, "carol@example.test")


def test_cron(running):
    """What cron(8) pipes: a header of its own, with names that have no domain."""
    message = b"From: root (Cron Daemon)\nTo: alice\nSubject: Cron <root@host> true\nAuto-Submitted: auto-generated\n\nout\n"
    sendmail(running, "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "alice", input=message)
    (text,) = texts(running, "alice@example.test")
    assert field(text, "From") == "root@example.test (Cron Daemon)"
    assert field(text, "To") == "alice@example.test"
    assert field(text, "Subject") == "Cron <root@host> true"


@pytest.mark.skipif(not shutil.which("php"), reason="needs php-cli")
def test_php_mail(running):
    code = 'exit(mail("alice", "From PHP", "One\\n.\\nTwo", "Bcc: bob\\r\\nX-App: yes", "-fwww@example.test") ? 0 : 1);'
    subprocess.run(["php", "-d", f"sendmail_path={running.sendmail} -t -i", "-r", code], check=True, timeout=60)
    for who in ("alice@example.test", "bob@example.test"):
        (text,) = texts(running, who)
        assert field(text, "Return-Path") == "<www@example.test>" and field(text, "Bcc") is None
        assert field(text, "X-App") == "yes" and body(text) == b"One\n.\nTwo\n"


@pytest.mark.skipif(not shutil.which("mutt"), reason="needs mutt")
def test_mutt(running, tmp_path):
    (tmp_path / "attached.txt").write_text("attached\n")
    subprocess.run(["mutt", "-F", "/dev/null", "-e", f'set sendmail="{running.sendmail} -oem -oi"', "-e", "set copy=no",
                    "-x", "-s", "From mutt", "-a", str(tmp_path / "attached.txt"), "-b", "bob@example.test", "--",
                    "alice@example.test"],
                   input=b"Text\n", check=True, timeout=60, env=dict(os.environ, HOME=str(tmp_path)))
    (text,) = texts(running, "alice@example.test")
    assert field(text, "Subject") == "From mutt" and b"attached.txt" in text and field(text, "Bcc") is None
    texts(running, "bob@example.test")


@pytest.mark.parametrize("program", ["bsd-mailx", "s-nail"])
def test_mail(running, tmp_path, program):
    if not shutil.which(program):
        pytest.skip(f"needs {program}")
    option = ["-S", "sendmail=" + running.sendmail] if program == "s-nail" else []
    (tmp_path / "mailrc").write_text(f"set sendmail={running.sendmail}\n")
    env = dict(os.environ, HOME=str(tmp_path), MAILRC=str(tmp_path / "mailrc"))
    if program == "s-nail":
        option = ["-S", "mta=" + running.sendmail]
    subprocess.run([program, *option, "-s", "From mail", "-c", "bob", "alice"], input=b"Text\n", check=True, timeout=60,
                   env=env)
    for who in ("alice@example.test", "bob@example.test"):
        (text,) = texts(running, who)
        assert field(text, "Subject") == "From mail" and field(text, "To").endswith("alice@example.test")
        assert field(text, "Cc").endswith("bob@example.test")


# ---- header and envelope ----

def test_recipients_from_the_header(running):
    message = (b"To: Alice <alice>, (nobody) undisclosed-recipients:;\nCc: \"Bob, B.\"\n <bob>\n"
               b"Bcc: alice,\n\tpostmaster\nSubject: t\n\nText\n")
    sendmail(running, "-t", "bob@example.test", input=message)
    (a,) = texts(running, "alice@example.test")      # postmaster is alice: one copy
    (b,) = texts(running, "bob@example.test")
    for text in (a, b):
        assert field(text, "To") == "Alice <alice@example.test>, (nobody) undisclosed-recipients:;"
        assert field(text, "Cc") == '"Bob, B."\n <bob@example.test>' and field(text, "Bcc") is None


def test_resent_recipients_come_first(running):
    sendmail(running, "-t", input=b"Resent-To: bob\nResent-Bcc: bob\nTo: alice\nSubject: t\n\nText\n")
    (text,) = texts(running, "bob@example.test")
    assert field(text, "Resent-To") == "bob@example.test" and field(text, "Resent-Bcc") is None
    assert running.messages("alice@example.test") == []


def test_sender_and_name(running):
    sendmail(running, "-f", "news", "-F", 'The "News" Desk', "alice")
    sendmail(running, "-r<>", "-Fignored", "alice", input=b"From: me\nSubject: two\n\nText\n")
    sendmail(running, "-fbob@example.test", "-F", "Bärbel", "--", "alice", input=b"Subject: three\n\n")
    by = {field(t, "Subject"): t for t in texts(running, "alice@example.test", 3)}
    assert field(by["hello"], "Return-Path") == "<news@example.test>"
    assert field(by["hello"], "From") == '"The \\"News\\" Desk" <news@example.test>'
    assert field(by["two"], "Return-Path") == "<>" and field(by["two"], "From") == "me@example.test"
    assert field(by["three"], "From").startswith("=?UTF-8?") and field(by["three"], "Return-Path") == "<bob@example.test>"


def test_gateway_leaves_the_header_alone(running):
    sendmail(running, "-G", "-i", "alice", input=b"To: alice\nFrom: me\nSubject: g\n\nText\n")
    (text,) = texts(running, "alice@example.test")
    assert field(text, "To") == "alice" and field(text, "Date") is None


def test_unknown_recipients_come_back(running):
    """The program that called has gone: nothing is refused, and who can be told is told."""
    sendmail(running, "-f", "bob", "alice", "no-such-user")
    texts(running, "alice@example.test")
    (text,) = texts(running, "bob@example.test")
    assert field(text, "Return-Path") == "<>" and b"no-such-user@example.test" in text and b"5.1.1" in text


@pytest.mark.parametrize("options", [
    ["-Ac"], ["-Am"], ["-B", "7BIT"], ["-bm"], ["-em"], ["-e", "m"], ["-h", "17"], ["-L", "label"], ["-m"], ["-N", "failure,delay"], ["-N", "sometimes"], ["-V", "x" * 101],
    ["-Nnever"], ["-O", "Timeout=1"], ["-o7"], ["-o8"], ["-odb"], ["-oem"], ["-oi"], ["-om"], ["-o", "x"], ["-R", "hdrs"],
    ["-U"], ["-V", "id-1"], ["-vv"], ["-im"], ["-q30m"], ["-XV"], ["-c"]])
def test_options_as_postfix_takes_them(running, options):
    sendmail(running, *options, "alice")
    texts(running, "alice@example.test")


@pytest.mark.parametrize("args, status", [
    ([], os.EX_USAGE), (["-Z", "alice"], os.EX_USAGE), (["-bx", "alice"], os.EX_USAGE), (["-qSsite"], os.EX_USAGE),
    (["-n", "alice"], os.EX_USAGE), (["-X", "/dev/null", "alice"], os.EX_USAGE), (["-XV++-", "alice"], os.EX_USAGE),
    (["-XV@=", "alice"], os.EX_USAGE), (["-XV", "-f<>", "alice"], os.EX_USAGE), (["-bv", "-t"], os.EX_USAGE),
    (["-bv", "-v", "alice"], os.EX_USAGE), (["-bv", "-Nnever", "alice"], os.EX_USAGE), (["-bp", "-t"], os.EX_USAGE), (["-f"], os.EX_USAGE), (["-fa@b,c@d", "alice"], os.EX_USAGE),
    (["a@-b..c"], os.EX_DATAERR), (["alice", "alice@"], os.EX_DATAERR), (["alice@@elsewhere.test"], os.EX_DATAERR),
    (["alice", "@elsewhere.test"], os.EX_DATAERR), (["alice", "<>"], os.EX_DATAERR), (["-t"], os.EX_USAGE), (["-Bbinary", "alice"], os.EX_USAGE)])
def test_exit_status_of_a_bad_call(running, args, status):
    done = sendmail(running, *args, input=b"Subject: t\n\n", status=status)
    assert done.stderr.startswith(b"postrider: ")
    assert os.listdir(running.maildrop) == []


def test_newaliases_and_smtp_by_hand(running):
    assert sendmail(running, name="newaliases").stdout == b""
    assert sendmail(running, "-bi").stdout == sendmail(running, "-I").stdout == b""
    dialogue = b"EHLO me\r\nMAIL FROM:<x@elsewhere.test>\r\nRCPT TO:<alice>\r\nDATA\r\nSubject: bs\r\n\r\n..\r\n.\r\nQUIT\r\n"
    done = sendmail(running, "-bs", input=dialogue)
    assert b"queued as" in done.stdout and done.stdout.endswith(b"221 2.0.0 Bye\r\n")
    (text,) = texts(running, "alice@example.test")
    assert body(text) == b".\n" and field(text, "Return-Path") == "<x@elsewhere.test>"


def test_verify_sends_nothing(running):
    done = sendmail(running, "-f", "bob", "-bv", "alice", "no-such-user", input=b"")
    assert done.stdout == b"Mail Delivery Status Report will be mailed to <bob>.\n"
    (text,) = texts(running, "bob@example.test")
    assert field(text, "Subject") == "Mail Delivery Status Report" and field(text, "Return-Path") == "<>"
    status = {f.split(b"\n")[0]: f for f in body(text).split(b"Final-Recipient: rfc822; ")[1:]}
    assert b"Action: deliverable\nStatus: 2.0.0\n" in status[b"alice@example.test"]
    assert b"Action: undeliverable\nStatus: 5.1.1\n" in status[b"no-such-user@example.test"]
    assert running.messages("alice@example.test") == []


@root_only
def test_who_may_submit(here):
    running = here.start()
    running.configure(authorized_submit_users="!nobody, static:all")
    running.command("reload")
    running.wait_log("reload -- ")
    wait_for("the new rule", lambda: b"not allowed" in subprocess.run(
        [*as_user(NOBODY), running.sendmail, "alice"], input=b"\nx\n", capture_output=True).stderr)
    before = len(running.messages("alice@example.test"))
    done = sendmail(running, "alice", uid=NOBODY, status=os.EX_NOPERM)
    assert b"not allowed to submit" in done.stderr and os.listdir(running.maildrop) == []
    sendmail(running, "alice")
    texts(running, "alice@example.test", before + 1)


# ---- what messages can be like ----

@pytest.mark.parametrize("text, args, expect", [
    (b"Subject: t\n\none\n.\ntwo\n", [], b"one\n"),
    (b"Subject: t\n\none\n.\r\ntwo\n", [], b"one\n"),
    (b"Subject: t\n\none\n.", [], b"one\n"),
    (b"Subject: t\n\none\n.\ntwo\n", ["-i"], b"one\n.\ntwo\n"),
    (b"Subject: t\n\none\n.\ntwo\n", ["-oi"], b"one\n.\ntwo\n"),
    (b"Subject: t\n\n.\n.\n", ["-i"], b".\n.\n"),
    (b"Subject: t\n\n..\n.x\n. \n\n", [], b"..\n.x\n. \n\n"),
    (b"Subject: t\n\nno end", [], b"no end\n"),
    (b"Subject: t\r\n\r\ncrlf\r\n", [], b"crlf\n"),
    (b"Subject: t\n\nnul \0 here\n\0\n", [], b"nul \0 here\n\0\n"),
    (b"From root Mon Nov 23 2026\nSubject: t\n\nmbox\n", [], b"mbox\n"),
    (b"Subject: t\n\n" + b"x" * 10000000 + b"\n", [], b"x" * 10000000 + b"\n"),
    (b"Subject: t\n\n" + b"line\n" * 400000, [], b"line\n" * 400000)],
    ids=["dot", "dot-cr", "dot-at-end", "i", "oi", "only-dots", "more-than-dots", "no-end", "crlf", "nul", "mbox", "long-line",
         "many-lines"])
def test_bytes_arrive_as_they_are(running, text, args, expect):
    sendmail(running, *args, "alice", input=text)
    (got,) = texts(running, "alice@example.test")
    assert body(got) == expect and field(got, "Subject") == "t" and field(got, "X-Mailbox-Line") is None


def test_a_message_that_is_too_large(running):
    done = sendmail(running, "alice", input=b"x" * 21000000, status=os.EX_DATAERR)
    assert b"message_size_limit" in done.stderr and os.listdir(running.maildrop) == []


def test_many_recipients(running):
    """20,000 to one account by aliases, some by name on the command line, the rest in the header."""
    many = [f"alice+{i}@example.test" for i in range(20000)]
    sendmail(running, "-t", *many[:5000],
             input=b"Bcc: " + b",\n ".join(a.encode() for a in many[5000:]) + b"\nTo: bob\nSubject: many\n\nText\n")
    texts(running, "bob@example.test")
    (text,) = texts(running, "alice@example.test")     # all of them are one mailbox
    assert field(text, "Bcc") is None


def test_a_header_of_ten_megabytes(running):
    """Thousands of recipients with long names, over lines without an end."""
    many = b", ".join(b'"%s" <alice+%d@example.test>' % (b"n" * 500, i) for i in range(18000))
    assert len(many) > 9500000
    sendmail(running, "-t", input=b"To: " + many + b"\nCc: bob\nSubject: long\n\nText\n")
    for who in ("alice@example.test", "bob@example.test"):
        (text,) = texts(running, who)
        assert body(text) == b"Text\n" and len(text) > 9500000 and field(text, "Subject") == "long"


@pytest.mark.parametrize("header, whom", [
    (b"To: friends: alice, \"Bob\" <bob>;, nobodies:;", "ab"),
    (b"To: friends: alice, <bob>", "ab"),
    (b"To: alice;\nCc: bob,,, ,", "ab"),
    (b"To: Alice (a \\) nested (comment)) <alice>, (only a comment)\nBcc: bob (b", "ab"),
    (b"To: \"no end, <alice>\nCc: bob", "b"),
    (b"To: <@route.test,@other.test:alice@example.test>, bob@example.test (x)", "ab"),
    (b"To: <>, @, <@>, \"\", , alice", "a"),
    (b"To:alice\nTO\t: bob", "ab"),
    (b"To: \n alice,\n\n bob", "a"),
    (b"To: alice\nTo: bob\nCc: alice, bob", "ab"),
    (b"Subject: x\nResent-To: group: bob;\nResent-Cc: (none)\nTo: alice", "b"),
    (b"Resent-From: me\nTo: alice", ""),
], ids=["groups", "group-without-end", "stray", "comments", "quote-without-end", "routes", "nothings", "blanks", "folded-end", "twice", "resent-group",
        "resent-to-nobody"])
def test_addresses_of_the_header_as_they_come(running, header, whom):
    # What is made of a broken one may be an address of nobody; nobody is told.
    sendmail(running, "-t", "-f<>", input=header + b"\n\nText\n", status=0 if whom else os.EX_USAGE)
    for letter, who in (("a", "alice@example.test"), ("b", "bob@example.test")):
        if letter in whom:
            texts(running, who)
        else:
            assert running.messages(who) == []


def test_fifty_thousand_elsewhere_are_one_commit(running):
    """As many as the queue takes, and not one more: refused, and nothing kept."""
    relay = running.pid_of("relay")
    os.kill(relay, signal.SIGSTOP)
    try:
        for count, status in ((50000, 0), (50001, os.EX_UNAVAILABLE)):
            many = b",\n ".join(b"user%d@d%d.example.com" % (i, i % 100) for i in range(count))
            sendmail(running, "-t", input=b"Bcc: " + many + b"\nSubject: many\n\n", status=status)
        assert os.listdir(running.maildrop) == []
        assert running.command("queue", "delete", "ALL").stdout == "1 message\n"
    finally:
        os.kill(relay, signal.SIGKILL)


# ---- the system is down ----

@root_only
def test_kept_while_down_and_delivered_once(here):
    sendmail(here, "alice", input=b"Subject: root\n\n.\nnot this\n")
    sendmail(here, "-t", "-oi", input=b"To: bob\nBcc: alice\nSubject: nobody\n\n" + b"x" * 3000000 + b"\n.\n", uid=NOBODY)
    kept = [os.path.join(here.maildrop, f) for f in os.listdir(here.maildrop)]
    assert sorted(os.stat(f).st_uid for f in kept) == [0, NOBODY] and all(os.stat(f).st_mode & 0o77 == 0 for f in kept)
    assert os.stat(here.maildrop).st_mode & 0o7777 == 0o1733
    assert subprocess.run([*as_user(NOBODY), "ls", here.maildrop], capture_output=True).returncode != 0
    here.start()
    by = {field(t, "Subject"): t for t in texts(here, "alice@example.test", 2)}
    assert f"from userid {NOBODY})" in field(by["nobody"], "Received") and len(body(by["nobody"])) == 3000003
    assert "from userid 0)" in field(by["root"], "Received") and body(by["root"]) == b""
    texts(here, "bob@example.test")
    wait_for("an empty maildrop", lambda: os.listdir(here.maildrop) == [])
    here.stop()
    here.start()
    assert len(texts(here, "alice@example.test", 2)) == 2


def test_smtp_by_hand_while_down_is_kept_too(here):
    dialogue = (b"EHLO x\r\nRCPT TO:<bob>\r\nMAIL FROM:<bob@example.test> BODY=8BITMIME\r\n"
                b"RCPT TO:<alice>\r\nRCPT TO:<a, b>\r\nDATA\r\nSubject: s\r\n\r\n..dot\r\n.\r\n"
                b"MAIL FROM:<bob@example.test> RET=FULL\r\nNONSENSE\r\n"
                b"MAIL FROM:<>\r\nRCPT TO:<alice>\r\nDATA\r\nSubject: without an end\r\n")
    said = sendmail(here, "-bs", input=dialogue).stdout.decode()
    assert [line[:4] for line in said.splitlines()] == [
        "220 ", "250-", "250-", "250 ", "503 ", "250 ", "250 ", "501 ", "354 ", "250 ", "555 ", "502 ", "250 ", "250 ",
        "354 "]
    assert len(os.listdir(here.maildrop)) == 1
    here.start()
    message, = texts(here, "alice@example.test")
    assert body(message) == b".dot\n"
    assert field(message, "Return-Path") == "<bob@example.test>"


def test_kept_by_a_file_that_comes_again_is_one_message(here, tmp_path):
    """A removal that a power failure undid."""
    sendmail(here, "alice")
    (name,) = os.listdir(here.maildrop)
    copy = open(os.path.join(here.maildrop, name), "rb").read()
    here.start()
    wait_for("an empty maildrop", lambda: os.listdir(here.maildrop) == [])
    for again in ("again1", "again2"):
        (tmp_path / again).write_bytes(copy)
        os.rename(tmp_path / again, os.path.join(here.maildrop, again))
        wait_for("an empty maildrop", lambda: os.listdir(here.maildrop) == [])
        here.stop()
        here.start()
    sendmail(here, "alice", input=b"Subject: other\n\n")
    assert {field(t, "Subject") for t in texts(here, "alice@example.test", 2)} == {"hello", "other"}


ODD_NAMES = ["..odd name", "new\nline", "esc\x1b[31mred", "-rf", "\udcff\udcfe", "x" * 255, "a;b|c", "...", "t\tab"]


@root_only
def test_the_maildrop_believes_nothing(here, tmp_path):
    """Files that somebody made to be read, to be somebody else, or to be in the way: set aside, told of once."""
    good = b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice>\r\nBDAT 16 LAST\r\nSubject: mine\n\n\nQUIT\r\n"
    secret = tmp_path / "secret"
    secret.write_bytes(good.replace(b"mine", b"mein"))
    secret.chmod(0o600)
    drop = lambda name: os.path.join(here.maildrop, name)
    os.symlink(secret, drop("symlink"))
    os.symlink(here.maildrop, drop("loop"))
    os.symlink("/nowhere", drop("dangling"))
    os.link(secret, drop("hardlink"))
    os.mkfifo(drop("fifo"))
    os.mkdir(drop("directory"))
    open(os.path.join(drop("directory"), "inside"), "wb").write(good)
    with socket.socket(socket.AF_UNIX) as s:
        directory = os.open(here.maildrop, os.O_PATH)
        s.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    for name in ODD_NAMES:
        open(drop(name), "wb").write(good)
    open(drop("empty"), "w").close()
    open(drop("junk"), "wb").write(os.urandom(100000))
    open(drop("cut"), "wb").write(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice>\r\nBDAT 999 LAST\r\nshort\n")
    open(drop("halfline"), "wb").write(good[:60])
    open(drop("rootlike"), "wb").write(b"XUSER 0\r\n" + good)
    open(drop("huge"), "wb").truncate(1 << 40)
    open(drop("taken"), "w").write("of a name that is there already")
    open(os.path.join(here.dir, "spool", "corrupt", "taken"), "w").write("before")
    open(drop("good"), "wb").write(good)
    for name in ("empty", "junk", "cut", "halfline", "rootlike", "huge", "good", *ODD_NAMES):
        os.chown(drop(name), NOBODY, NOBODY)
    here.start()
    (text,) = texts(here, "alice@example.test")
    assert f"from userid {NOBODY})" in field(text, "Received") and field(text, "Subject") == "mine"
    wait_for("an empty maildrop", lambda: os.listdir(here.maildrop) == [])
    aside = set(os.listdir(os.path.join(here.dir, "spool", "corrupt")))
    (other,) = [n for n in aside if n.startswith("taken.")]
    assert aside - {other} == {"symlink", "loop", "dangling", "hardlink", "fifo", "directory", "socket", "empty", "junk", "cut", "halfline",
                               "rootlike", "huge", "taken", *ODD_NAMES}
    assert secret.exists() and open(os.path.join(here.dir, "spool", "corrupt", "taken")).read() == "before"
    assert open(os.path.join(here.dir, "spool", "corrupt", "directory", "inside"), "rb").read() == good
    # One line of each, on one line.
    told = [line for line in here.log().splitlines() if "cannot be taken: " in line]
    assert len(told) == len(aside) - 1, "\n".join(told)
    for name, why in (("symlink", "it is a symbolic link"), ("hardlink", "it has other names"), ("fifo", "it is no regular file"),
                      ("directory", "it is no regular file"), ("socket", "it is no regular file"), ("new?line", "no name that sendmail gives"),
                      ("esc?[31mred", "no name that sendmail gives"), ("huge", "it is larger than message_size_limit")):
        assert [w for w in told if f"maildrop/{name} cannot be taken: {why}; kept as " in w], name
    # And other mail goes on.
    sendmail(here, "alice", input=b"Subject: after\n\n")
    assert {field(t, "Subject") for t in texts(here, "alice@example.test", 2)} == {"mine", "after"}


def test_without_root(unprivileged, tmp_path):
    """An instance of one user: others may still submit, down or up."""
    mail = unprivileged
    (tmp_path / "sendmail").symlink_to(BINARY)
    argv = [str(tmp_path / "sendmail"), "-C", mail.dir, "alice"]
    for who in ([], as_user(NOBODY), as_user(12345)):
        sender = ["-f", "somebody"] if who == as_user(12345) else []
        subprocess.run([*who, *argv[:3], *sender, "alice"], input=b"Subject: down\n\n", check=True, timeout=60)
    mail.start()
    mail.wait_messages("alice@example.test", 3)
    subprocess.run([*as_user(12345), *argv[:3], "-f", "somebody", "alice"], input=b"Subject: up\n\n", check=True, timeout=60)
    mail.wait_messages("alice@example.test", 4)


# ---- somebody dies ----

@pytest.fixture
def faulty(here, tmp_path, monkeypatch):
    here.faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", here.faults.dir)
    here.start()
    yield here
    here.faults.close()


@pytest.mark.parametrize("point", ["smtpd.delivered", "store.taken", "store.flushed", "directory.granted"])
def test_killed_between_commit_and_reply_is_one_message(faulty, point):
    faulty.faults.arm(point)
    sendmail(faulty, "alice", input=b"Subject: during\n\n")
    faulty.faults.wait_used(point)
    sendmail(faulty, "alice", input=b"Subject: after\n\n")
    wait_for("the second message", lambda: faulty.count("alice@example.test") >= 2)
    assert {field(t, "Subject") for t in texts(faulty, "alice@example.test", 2)} == {"during", "after"}
    wait_for("an empty maildrop", lambda: os.listdir(faulty.maildrop) == [])
    assert faulty.count("alice@example.test") == 2


def test_killed_while_it_takes_a_kept_message(here, tmp_path, monkeypatch):
    for i in range(5):
        sendmail(here, "alice", input=b"Subject: %d\n\n" % i)
    here.faults = Faults(tmp_path / "faults")
    monkeypatch.setenv("POSTRIDER_FAULTS", here.faults.dir)
    here.faults.arm("smtpd.delivered")
    here.start()
    here.faults.wait_used("smtpd.delivered")
    assert sorted(field(t, "Subject") for t in texts(here, "alice@example.test", 5)) == list("01234")
    wait_for("an empty maildrop", lambda: os.listdir(here.maildrop) == [])
    assert here.count("alice@example.test") == 5
    here.faults.close()


def test_a_sendmail_that_is_killed_sent_nothing(running):
    p = subprocess.Popen([running.sendmail, "alice"], stdin=subprocess.PIPE)
    p.stdin.write(b"Subject: half\n\nhalf of " + b"x" * 2000000)
    p.stdin.flush()
    p.kill()
    p.wait()
    sendmail(running, "alice")
    (text,) = texts(running, "alice@example.test")
    assert field(text, "Subject") == "hello" and os.listdir(running.maildrop) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sendmail_sent_nothing(running, sig):
    # Where nohup started the tests, sendmail would rightly not end.
    p = subprocess.Popen([running.sendmail, "-t"], stdin=subprocess.PIPE, preexec_fn=lambda: signal.signal(sig, signal.SIG_DFL))
    p.stdin.write(b"To: alice\nSubject: half\n\nhalf of " + b"x" * 3000000)
    p.stdin.flush()
    p.send_signal(sig)
    assert p.wait(60) == -sig
    sendmail(running, "alice")
    (text,) = texts(running, "alice@example.test")
    assert field(text, "Subject") == "hello" and os.listdir(running.maildrop) == []


def test_interrupted_while_it_keeps_the_message(here):
    """All of it is kept, or nothing; a file that is half there is not left behind."""
    kept = 0
    for _ in range(5):
        p = subprocess.Popen([here.sendmail, "-i", "alice"], stdin=subprocess.PIPE)
        p.stdin.write(b"Subject: kept\n\n" + b"x" * 6000000)
        p.stdin.close()
        wait_for("its file", lambda: len(os.listdir(here.maildrop)) > kept or p.poll() is not None)
        p.send_signal(signal.SIGTERM)
        status = p.wait(60)
        assert status in (0, -signal.SIGTERM)
        names = os.listdir(here.maildrop)
        # Once it has its name it is kept, whatever we heard of it.
        assert not [n for n in names if n.startswith("tmp")] and len(names) - kept in ((1,) if status == 0 else (0, 1))
        kept = len(names)
    here.start()
    assert all(len(t) > 6000000 for t in texts(here, "alice@example.test", kept)) if kept else True


def test_stopped_smtpd_is_waited_for_then_killed(here):
    """kill -9 in the middle of a submission: said again to the new process."""
    running = here.start()
    pid = running.pid_of("smtpd")
    os.kill(pid, signal.SIGSTOP)
    p = subprocess.Popen([running.sendmail, "alice"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"Subject: patient\n\n")
    p.stdin.close()

    def is_connected():
        try:
            return os.readlink(f"/proc/{p.pid}/fd/3").startswith("socket:")
        except FileNotFoundError:        # before it, and between it and what was read of the configuration
            return False

    wait_for("sendmail to wait for its reply", is_connected)
    os.kill(pid, signal.SIGKILL)
    assert p.wait(60) == 0, p.stderr.read()
    texts(running, "alice@example.test")


def test_full_disk_is_said(here, disk):
    where = disk(here.maildrop, "256k")
    os.chmod(here.maildrop, 0o1733)
    done = sendmail(here, "alice", input=b"Subject: t\n\n" + b"x" * 500000, status=os.EX_TEMPFAIL)
    assert b"No space left" in done.stderr and os.listdir(here.maildrop) == []
    sendmail(here, "alice", input=b"Subject: small\n\n")
    assert len(os.listdir(here.maildrop)) == 1
    where.end()


def test_nowhere_to_keep_it_is_said(here):
    shutil.rmtree(here.maildrop)
    done = sendmail(here, "alice", status=os.EX_UNAVAILABLE)
    assert b"was not taken" in done.stderr
