"""Look-up tables: in a running system (access, aliases, relay domains, changes of files), and key by key against Postfix's own
postmap and postalias, taken from Debian's package without installing it."""

import glob
import json
import os
import random
import shutil
import sqlite3
import smtplib
import subprocess

import pytest

from instance import BINARY, Instance, wait_for
from sink import Sink


def write(path, text):
    """As careful editors do: a new file, renamed over the old one."""
    with open(f"{path}.new", "w") as f:
        f.write(text)
    os.rename(f"{path}.new", path)
    return str(path)


@pytest.fixture
def tables(tmp_path):
    """A running system with a table for most things."""
    with Instance(tmp_path / "mail") as mail:
        d = tmp_path
        mail.user("alice@example.test")
        mail.user("bob@example.test")
        mail.configure(
            virtual_alias_maps=f"hash:{write(d / 'virtual', 'sales@example.test alice, bob@example.test')}",
            myorigin="example.test",
            relay_domains=f"hash:{write(d / 'relay', 'backup.test yes')}",
            relay_recipient_maps=f"hash:{write(d / 'relay_rcpt', 'known@backup.test x')}",
            alias_maps=f"hash:{write(d / 'aliases', 'root: alice@example.test' + chr(10) + 'cmd: |/bin/false')}",
            alias_database="$alias_maps",
            mydestination="mail.example.test",
            mynetworks=f"cidr:{write(d / 'networks', '192.0.2.0/24 yes')}",
            smtpd_sender_restrictions=f"check_sender_access hash:{write(d / 'senders', 'spam.test REJECT 5.7.1 no spam')}",
            smtpd_recipient_restrictions=f"check_recipient_access pcre:{write(d / 'rcpt', '/^later@/ 450 4.2.0 come back')}")
        mail.start()
        mail.box = d
        yield mail


def rcpt(mail, recipient, sender="s@elsewhere.test"):
    with smtplib.SMTP("127.0.0.1", mail.ports["smtp"], timeout=60) as s:
        s.ehlo("client.test")
        s.mail(sender)
        code, text = s.rcpt(recipient)
        return code, text.decode()


def test_a_running_system_asks_its_tables(tables):
    mail = tables
    assert rcpt(mail, "sales@example.test")[0] == 250
    assert rcpt(mail, "root@mail.example.test")[0] == 250
    assert rcpt(mail, "nobody@mail.example.test")[0] == 550
    assert rcpt(mail, "cmd@mail.example.test")[0] == 451
    wait_for("the reason in the log", lambda: "leads to a command, which is not supported yet" in mail.log())
    code, text = rcpt(mail, "alice@example.test", "x@sub.spam.test")
    assert (code, "no spam" in text) == (554, True)
    code, text = rcpt(mail, "later@example.test")
    assert (code, "come back" in text) == (450, True)
    # Strangers relay nowhere: not by routing, not because a table knows the domain.
    assert rcpt(mail, "x@elsewhere.test")[0] == 554
    assert rcpt(mail, "x%elsewhere.test@backup.test")[0] == 554
    assert rcpt(mail, "unknown@backup.test")[0] == 550
    # Mail for one address of two: both users have it.
    with smtplib.SMTP("127.0.0.1", mail.ports["smtp"], timeout=60) as s:
        s.sendmail("s@elsewhere.test", ["sales@example.test"], "Subject: to both\r\n\r\nhello\r\n")
    for user in ("alice", "bob"):
        with mail.imap(f"{user}@example.test") as imap:
            assert imap.select("INBOX")[1] == [b"1"]


def test_tables_throw_mail_away_and_mark_it_and_let_nobody_relay(tmp_path):
    access = tmp_path / "access"
    access.write_text("drop@x.test DISCARD unwanted\nmark@x.test PREPEND X-Mark: yes\nbad@x.test PREPEND no field\n")
    check = f"check_sender_access hash:{access}"
    settings = {"mynetworks": "192.0.2.0/24", "smtpd_sender_restrictions": check,
                "smtpd_recipient_restrictions": f"{check}, permit"}
    with Instance(tmp_path / "mail", settings=settings) as mail:
        mail.user("alice@example.test")
        mail.user("bob@example.test")
        mail.start()
        for sender in ("drop@x.test", "mark@x.test", "bad@x.test"):
            with mail.smtp() as s:
                with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                    s.sendmail(sender, ["stranger@far.test"], "Subject: relay\r\n\r\n\r\n")
                assert refused.value.recipients["stranger@far.test"][1].endswith(b"Relay access denied")
                s.sendmail(sender, ["alice@example.test", "bob@example.test"], f"Subject: {sender}\r\n\r\n\r\n")
        mail.wait_log("discarded, as an access table says")
        # They come in their order: what was thrown away would be there before the others.
        found = [open(path).read() for path in mail.wait_messages("alice@example.test", 2)
                 and mail.messages("alice@example.test")]
        assert sorted(text.count("X-Mark: yes\n") for text in found) == [0, 1]
        assert "Subject: drop@x.test" not in "".join(found)
        mail.wait_messages("bob@example.test", 2)


def test_tables_hold_redirect_and_copy_mail(tmp_path):
    access, copies = tmp_path / "access", tmp_path / "copies"
    access.write_text("hold@x.test HOLD look at it\nredirect@x.test REDIRECT bob@example.test\ncopy@x.test BCC bob@example.test\n"
                      "away@x.test REDIRECT x@far.test\nbad@x.test REDIRECT nobody\n")
    copies.write_text("alice@example.test carol@example.test\n")
    with Sink() as sink, Instance(tmp_path / "mail", settings={
            "smtpd_sender_restrictions": f"check_sender_access hash:{access}", "always_bcc": "journal", "relayhost": sink.nexthop,
            "recipient_bcc_maps": f"hash:{copies}", "sender_bcc_maps": "inline:{{bob@example.test=audit@far.test}}"}) as mail:
        for user in ("alice", "bob", "carol", "journal"):
            mail.user(f"{user}@example.test")
        mail.start()
        for sender in ("hold@x.test", "redirect@x.test", "copy@x.test", "away@x.test", "bad@x.test"):
            with mail.smtp() as s:
                s.sendmail(sender, ["alice@example.test"], f"Subject: {sender}\r\n\r\n\r\n")
        (away,) = sink.wait(1)
        assert away.sender == "away@x.test" and "x@far.test" in away.rcpts[0]
        # By sendmail, too.
        mail.command("sendmail", "-f", "bob@example.test", "carol", input="Subject: by hand\n\n\n")
        assert "audit@far.test" in sink.wait(2)[1].rcpts[0]
        # Whose copy comes to nothing does not hear of it.
        sink.answer["RCPT"] = lambda line: "550 5.1.1 no" if "audit@" in line else None
        mail.command("sendmail", "-f", "bob@example.test", "carol", input="Subject: refused\n\n\n")
        mail.wait_log(r"to=<audit@far.test>.*status=bounced")

        def subjects(user, count):
            mail.wait_messages(f"{user}@example.test", count)
            return sorted(open(path).read().split("Subject: ")[1].split("\n")[0] for path in mail.messages(f"{user}@example.test"))

        assert subjects("bob", 2) == ["copy@x.test", "redirect@x.test"]
        assert subjects("alice", 2) == ["bad@x.test", "copy@x.test"]
        assert subjects("carol", 4) == ["bad@x.test", "by hand", "copy@x.test", "refused"]
        assert subjects("journal", 4) == ["bad@x.test", "by hand", "copy@x.test", "refused"]
        (line,) = mail.command("postqueue", "-j").stdout.splitlines()
        held = json.loads(line)
        assert held["queue_name"] == "hold" and held["sender"] == "hold@x.test"
        mail.stop()                                  # held it stays
        mail.start()
        assert json.loads(mail.command("postqueue", "-j").stdout)["queue_name"] == "hold"
        mail.command("queue", "release", held["queue_id"])
        assert subjects("alice", 3) == ["bad@x.test", "copy@x.test", "hold@x.test"]
        assert len(subjects("carol", 5)) == len(subjects("journal", 5)) == 5
        assert len(subjects("bob", 2)) == 2
        mail.configure(always_bcc="journal and more")
        told = mail.command("check").stdout
        assert 'always_bcc: "journal and more" is no single address' in told
        # LMTP hears nothing of it, and that is said.
        for name in ("always_bcc", "smtpd_sender_restrictions"):
            assert f"note: {name}: not for mail that comes by LMTP (service " in told
        mail.wait_log(r"mail that comes by LMTP is not subject to .*smtpd_sender_restrictions.*always_bcc")


def test_a_changed_file_counts_without_reload_and_a_faulty_one_does_not(tables):
    mail = tables
    assert rcpt(mail, "new@example.test")[0] == 550
    write(mail.box / "virtual", "sales@example.test alice\nnew@example.test bob\n")
    wait_for("the new alias", lambda: rcpt(mail, "new@example.test")[0] == 250)
    # Who may relay is in a file, too.
    assert rcpt(mail, "x@elsewhere.test")[0] == 554
    write(mail.box / "networks", "192.0.2.0/24 yes\n127.0.0.0/8 yes\n")
    wait_for("the new network", lambda: rcpt(mail, "x@elsewhere.test")[0] != 554)
    write(mail.box / "rcpt", "/^later@/ 450 still here\n/(/ broken\n")
    wait_for("the fault to be told", lambda: "rcpt, line 2: error in regex" in mail.log())
    assert "come back" in rcpt(mail, "later@example.test")[1]
    done = mail.command("reload", check=False)
    assert done.returncode != 0 and "rcpt, line 2: error in regex" in done.stderr
    write(mail.box / "rcpt", "/^later@/ 450 still here\n")
    wait_for("the mended file", lambda: "still here" in rcpt(mail, "later@example.test")[1])


def test_postmap_tells_the_system_and_map_shows_the_tables(tables, tmp_path):
    mail = tables
    postmap = tmp_path / "postmap"
    postmap.symlink_to(BINARY)
    done = subprocess.run([postmap, "-c", mail.dir, f"hash:{mail.box}/virtual"], capture_output=True, text=True)
    assert done.returncode == 0 and "no database is needed" in done.stderr
    assert "look-up tables were read again" in mail.log()
    listed = mail.command("map", "list").stdout
    assert f"hash:{mail.box}/virtual" in listed and f"pcre:{mail.box}/rcpt" in listed
    assert mail.command("map", "lookup", f"hash:{mail.box}/aliases", "ROOT").stdout == "alice@example.test\n"
    assert mail.command("map", "lookup", f"hash:{mail.box}/virtual", "nobody", check=False).returncode == 69
    newaliases = tmp_path / "newaliases"
    newaliases.symlink_to(BINARY)
    done = subprocess.run([newaliases, "-c", mail.dir], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- against Postfix ----

@pytest.fixture(scope="module")
def postfix(tmp_path_factory):
    """Runs Postfix's postmap or postalias: f("postmap", "-q", ...)."""
    box = tmp_path_factory.mktemp("postfix")
    got = subprocess.run(["apt-get", "download", "-q", "postfix", "postfix-pcre", "postfix-sqlite"], cwd=box, capture_output=True, text=True)
    if got.returncode != 0:
        pytest.skip("Debian's postfix cannot be downloaded here: " + got.stderr.strip()[-200:])
    for deb in glob.glob(f"{box}/*.deb"):
        subprocess.run(["dpkg", "-x", deb, box / "root"], check=True)
    lib = f"{box}/root/usr/lib/postfix"
    os.makedirs(box / "etc")
    (box / "etc/main.cf").write_text(
        f"compatibility_level = 3.6\nshlib_directory = {lib}\ndaemon_directory = {lib}/sbin\nmeta_directory = {box}/etc\n"
        f"queue_directory = {box}\ndata_directory = {box}\nmail_owner = mail\nsetgid_group = uucp\n")
    (box / "etc/dynamicmaps.cf").write_text(f"pcre\t{lib}/postfix-pcre.so\tdict_pcre_open\n"
                                             f"sqlite\t{lib}/postfix-sqlite.so\tdict_sqlite_open\n")

    def run(program, *args, **more):
        return subprocess.run([f"{box}/root/usr/sbin/{program}", "-c", f"{box}/etc", *args], capture_output=True,
                              env={**os.environ, "LD_LIBRARY_PATH": lib}, **more)
    yield run
    shutil.rmtree(box)


TEXT = """# names and values
Example.COM   smtp:[mx]:25
key goes
   on here
# and
   here
"john doe"@example.com   quoted
back\\ slash v
dup first
DUP second
alone
colon: value
user+ext@example.com with extension
\ttab first
@example.com catch all
"""
RULES = """# in order
/^(.*)@foo\\.(com|org)$/  $1@bar.$2
if /abc/
/^abc(d)?e/i   got${1}!$$
!/c/ never
endif
if !/abc/
/^zz(.)(.)/ $2$1
/Case/i  sensitive
endif
|a/b|  slashes
/multi
 line/  joined
!/[xy]/   no x
"""
NETS = """10.0.0.0/8   ten
!192.168.0.0/16 outside
if 192.168.0.0/16
192.168.1.1 one
!192.168.0.0/17 upper
endif
2001:db8::/32  doc
::1 loopback
192.168.0.0/16 private
0.0.0.0/0 any
"""
ALIASES = """# aliases
Root:  alice, bob@example.com
"john doe" : jd
list: one,
  two, three
tight: a,b ,c  ,   d
with\\:colon: x
cmd: "|/bin/cat -u"
"""
SMALL = ["static:foo", "static:{foo bar}", "inline:{a=b, {C = d e}}", "unionmap:{inline:{a=1,b=2},inline:{a=3}}",
         "pipemap:{inline:{a=1,b=2},inline:{1=x}}", "randmap:{one}", "fail:x", "pcre:{{/^a(.)/ $1}, {/b/ c}}",
         "cidr:{{10.0.0.0/8 x}}", "regexp:{{/a/ b}}", "unix:passwd.byname", "unix:group.byname", "inline:{a=}", "inline:{}",
         "inline:{ {a = b} x }", "unionmap:{static:x, fail:y}", "pipemap:{regexp:{{/(.)/ $1}}, inline:{b=y}}"]


def keys_for(text, seed):
    """Words of the table, whole and spoilt."""
    rng = random.Random(seed)
    words = sorted({w for line in text.splitlines() for w in (line, line.split(" ")[0], line.split(":")[0], *line.split()) if w})
    keys = set(words) | {w.upper() for w in words} | {w[:-1] for w in words if len(w) > 1}
    keys |= {"a@foo.com", "A@FOO.ORG", "abce", "ABCDE", "abcxe", "zzab", "zzabc", "a/b", "multi line", "x", "q", "case", "Case",
             "10.1.2.3", "192.168.1.1", "192.168.200.1", "192.168.2.2", "11.1.1.1", "2001:db8::1", "2001:DB8:0::2", "::1", "::2",
             "::ffff:10.1.1.1", "10.1.2", "[10.1.1.1]", "010.1.1.1", "user@example.com", "john doe", "\"john doe\"@EXAMPLE.com"}
    for _ in range(60):
        w = list(rng.choice(words))
        rng.shuffle(w)
        keys.add("".join(w[:rng.randint(1, len(w))]))
    return sorted(k for k in keys if k.strip() and not k.startswith("-") and "\\" not in k[-1])


@pytest.mark.parametrize("kind,text", [("hash", TEXT), ("texthash", TEXT), ("regexp", RULES), ("pcre", RULES), ("cidr", NETS),
                                       ("aliases", ALIASES)])
def test_every_key_has_postfixs_answer(postfix, tmp_path, kind, text):
    seed = int(os.environ.get("SEED", "1"))
    print("SEED =", seed)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text(text)
    ours.write_text(text)
    program = "postalias" if kind == "aliases" else "postmap"
    table = "hash" if kind == "aliases" else kind
    if table == "hash":
        made = postfix(program, f"hash:{theirs}")
        assert made.returncode == 0, made.stderr
    link = tmp_path / program
    link.symlink_to(BINARY)
    # All keys at once: what is found is printed behind its key.
    keys = "\n".join(keys_for(text, seed)) + "\n"
    expected = postfix(program, "-q", "-", f"{table}:{theirs}", input=keys.encode())
    found = subprocess.run([link, "-c", str(tmp_path), "-q", "-", f"{table}:{ours}"], input=keys.encode(), capture_output=True)
    assert found.stdout.decode().splitlines() == expected.stdout.decode().splitlines()
    assert found.stdout, "some of the keys are there"
    assert found.returncode == expected.returncode
    if kind == "hash":  # (postalias adds entries of its own for NIS)
        dumped = subprocess.run([link, "-c", str(tmp_path), "-s", f"hash:{ours}"], capture_output=True)
        assert sorted(dumped.stdout.splitlines()) == sorted(postfix(program, "-s", f"hash:{theirs}").stdout.splitlines())


@pytest.mark.parametrize("spec", SMALL)
def test_small_tables_have_postfixs_answer(postfix, tmp_path, spec):
    link = tmp_path / "postmap"
    link.symlink_to(BINARY)
    keys = "a\nb\nC\nc\nax\n10.1.1.1\nroot\nnobody-there\nROOT\n".encode()
    expected = postfix("postmap", "-q", "-", spec, input=keys)
    found = subprocess.run([link, "-c", str(tmp_path), "-q", "-", spec], input=keys, capture_output=True)
    assert (found.stdout, found.returncode) == (expected.stdout, expected.returncode)


@pytest.mark.parametrize("settings", [
    "query = SELECT v FROM a WHERE k='%s'",
    "query = SELECT v FROM a\n   WHERE k='%u@%d'\nresult_format = %s@%D\ndomain = x.test",
    "query = SELECT '%2-%1|%U' FROM a WHERE k='%s'\nexpansion_limit = 1",
])
def test_sqlite_has_postfixs_answer(postfix, tmp_path, settings):
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("PRAGMA journal_mode=wal")
        db.execute("CREATE TABLE a(k, v)")
        db.executemany("INSERT INTO a VALUES(?, ?)", [("alice@x.test", "alice"), ("bob@x.test", "bob"), ("bob@x.test", "b2"),
                                                      ("o'k@x.test", "quote"), ("x.test", "domain"), ("none", None), ("empty", "")])
    db.close()
    (tmp_path / "t.cf").write_text(f"# comment\ndbpath = {tmp_path}/db\n{settings}\n")
    link = tmp_path / "postmap"
    link.symlink_to(BINARY)
    keys = ["alice@x.test", "ALICE@x.test", "o'k@x.test", "x.test", "none", "empty", "nobody@x.test", "' OR 1=1 --"]
    command = [link, "-c", str(tmp_path), "-q"]
    if "expansion_limit" in settings:
        found = subprocess.run([*command, "bob@x.test", f"sqlite:{tmp_path}/t.cf"], capture_output=True)
        assert found.returncode == 1 and b"more than 1 results" in found.stderr
    else:
        keys.append("bob@x.test")
    text = ("\n".join(keys) + "\n").encode()
    expected = postfix("postmap", "-q", "-", f"sqlite:{tmp_path}/t.cf", input=text)
    found = subprocess.run([*command, "-", f"sqlite:{tmp_path}/t.cf"], input=text, capture_output=True)
    assert (found.stdout, found.returncode) == (expected.stdout, expected.returncode)
    assert b"alice" in found.stdout


@pytest.mark.parametrize("settings,why", [
    ("query = DELETE FROM a", "it would change the database"),
    ("query = SELECT w FROM a", "no such column"),
    ("query = SELECT v FROM a WHERE k='%q'", "% must be followed by"),
    ("hosts = localhost\nquery = SELECT 1", "there are dbpath"),
    ("query = SELECT 1\ndbpath = /etc/passwd", "is no SQLite database"),
])
def test_a_query_that_cannot_work_is_refused(tmp_path, settings, why):
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("CREATE TABLE a(k, v)")
    db.close()
    (tmp_path / "t.cf").write_text(f"dbpath = {tmp_path}/db\n{settings}\n")
    found = subprocess.run([BINARY, "-c", str(tmp_path), "map", "lookup", f"sqlite:{tmp_path}/t.cf", "key"], capture_output=True, text=True)
    assert found.returncode != 0 and why in found.stderr, found.stderr
