"""The commands as an administrator and his scripts use them: what they print, in text and JSON, and how they say no."""

import json
import os
import re
import socket
import subprocess

import pytest

from instance import BINARY, Instance, let_through, wait_for


def as_json(mail, *args):
    return json.loads(mail.command(*args, "--json").stdout)


def told(mail, *args, **more):
    """Exit status and the sentence of a command that says no."""
    done = mail.command(*args, check=False, **more)
    assert done.stdout == "", done.stdout
    assert done.stderr.startswith("postrider: "), done.stderr
    return done.returncode, done.stderr.splitlines()[0]


# ---- accounts ----

def test_users_in_json(stopped):
    stopped.command("user", "set", "bob@example.test", "--quota", "2G", "--name", "Bob Ö.", "--add-address", "robert@example.test")
    users = as_json(stopped, "user", "list")
    assert [u["address"] for u in users] == ["alice@example.test", "bob@example.test"]
    bob = as_json(stopped, "user", "show", "bob@example.test")
    assert bob == users[1]
    assert bob["quota_bytes"] == 2 << 30 and bob["name"] == "Bob Ö." and bob["addresses"] == ["robert@example.test"]
    assert bob["enabled"] and bob["has_password"] and bob["has_scram"]
    assert not any("hash" in key or "password" == key for key in bob), "no secret is shown"
    stopped.command("user", "delete", "bob@example.test")
    assert [u["address"] for u in as_json(stopped, "user", "list", "example.test")] == ["alice@example.test"]


def test_many_users_from_a_list(stopped, tmp_path):
    lines = "# what the old server had\n\ncarol@example.test:{PLAIN}secret:1000:1000:Carol:/home/carol::\r\ndave@example.test\n"
    (tmp_path / "list").write_text(lines + "".join(f"u{i}@example.test:{{PLAIN}}secret\n" for i in range(2000)))
    done = stopped.command("user", "add", "--from", str(tmp_path / "list"), "--quota", "1G")
    assert done.stdout == "2002 users added\n"
    users = {u["address"]: u for u in as_json(stopped, "user", "list")}
    assert len(users) == 2004
    assert users["carol@example.test"]["name"] == "Carol" and users["carol@example.test"]["quota_bytes"] == 1 << 30
    assert users["u1999@example.test"]["has_password"] and not users["dave@example.test"]["has_password"]


def test_a_list_with_a_fault_adds_nobody(stopped):
    status, text = told(stopped, "user", "add", "--from", "-", input="eve@example.test\n\nalice@example.test\n")
    assert status == os.EX_DATAERR and "line 3" in text and "already taken" in text
    status, text = told(stopped, "user", "add", "--from", "-", input="eve@example.test\nnonsense\n")
    assert status == os.EX_DATAERR and 'line 2: "nonsense" is no mail address' in text
    assert [u["address"] for u in as_json(stopped, "user", "list")] == ["alice@example.test", "bob@example.test"]
    assert told(stopped, "user", "add", "--from", "/nonexistent")[0] == os.EX_NOINPUT


def test_domains_in_json(stopped):
    stopped.command("domain", "add", "bücher.test", "--description", "books")
    book = as_json(stopped, "domain", "show", "bücher.test")
    assert book["name"] == "xn--bcher-kva.test" and book["unicode"] == "bücher.test" and book["description"] == "books"
    stopped.command("domain", "set", "bücher.test", "--disable")
    listed = {d["name"]: d for d in as_json(stopped, "domain", "list")}
    assert set(listed) == {"example.test", "xn--bcher-kva.test"}
    assert not listed["xn--bcher-kva.test"]["enabled"] and listed["example.test"]["users"] == 2
    stopped.command("domain", "delete", "bücher.test")
    assert len(as_json(stopped, "domain", "list")) == 1


def test_aliases_in_json(stopped):
    stopped.command("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    team = as_json(stopped, "alias", "show", "team@example.test")
    assert team == {"address": "team@example.test", "enabled": True, "targets": ["alice@example.test", "bob@example.test"]}
    stopped.command("alias", "set", "team@example.test", "bob@example.test", "--disable")
    team = as_json(stopped, "alias", "show", "team@example.test")
    assert team["targets"] == ["bob@example.test"] and not team["enabled"]
    assert team in as_json(stopped, "alias", "list")
    stopped.command("alias", "delete", "team@example.test")
    assert team not in as_json(stopped, "alias", "list")


@pytest.mark.parametrize("status,words,sentence", [
    (os.EX_USAGE, "user", "user cannot be called like this"),
    (os.EX_USAGE, "user frob", "user cannot be called like this"),
    (os.EX_USAGE, "user add", "user cannot be called like this"),
    (os.EX_USAGE, "user set alice@example.test --quota lots", '"lots" is no size'),
    (os.EX_USAGE, "user set alice@example.test --no-password --password-stdin", "only one of --password"),
    (os.EX_DATAERR, "user add nonsense --no-password", '"nonsense" is no mail address: user@domain'),
    (os.EX_DATAERR, "user add alice@example.test --no-password", "already taken by a user"),
    (os.EX_NOHOST, "user add x@elsewhere.test --no-password", '"postrider domain add elsewhere.test" adds it'),
    (os.EX_NOUSER, "user show nobody@example.test", "there is no user nobody@example.test"),
    (os.EX_NOUSER, "user delete nobody@example.test", "there is no user nobody@example.test"),
    (os.EX_USAGE, "domain add", "domain cannot be called like this"),
    (os.EX_DATAERR, "domain add a..b", '"a..b" is no domain name'),
    (os.EX_NOHOST, "domain show nowhere.test", "there is no domain nowhere.test here"),
    (os.EX_DATAERR, "domain delete example.test", "still has 2 addresses of users: delete those first"),
    (os.EX_USAGE, "alias add", "alias cannot be called like this"),
    (os.EX_NOUSER, "alias show x@example.test", "there is no alias x@example.test"),
    (os.EX_DATAERR, "alias add alice@example.test bob@example.test", "already taken by a user"),
    (os.EX_USAGE, "queue", "queue cannot be called like this"),
    (os.EX_USAGE, "queue show", "queue cannot be called like this"),
    (os.EX_USAGE, "queue delete", "queue cannot be called like this"),
    (os.EX_USAGE, "mail", "mail cannot be called like this"),
    (os.EX_USAGE, "mail frob", "mail cannot be called like this"),
    (os.EX_NOUSER, "mail fsck nobody@example.test", "there is no user nobody@example.test"),
    (os.EX_UNAVAILABLE, "queue list", "is not running; start it: postrider -c"),
    (os.EX_UNAVAILABLE, "mail fsck", "is not running; start it: postrider -c"),
    (os.EX_UNAVAILABLE, "status --json", "is not running; start it: postrider -c"),
    (os.EX_USAGE, "status now", "status cannot be called like this"),
    (os.EX_USAGE, "check x", "check cannot be called like this"),
    (os.EX_USAGE, "run x", "run cannot be called like this"),
    (os.EX_USAGE, "frob", 'there is no command "frob"; see postrider --help'),
    (os.EX_DATAERR, "config nosuch", "nosuch: unknown parameter"),
    (os.EX_USAGE, "user set alice@example.test", "nothing to set"),
    (os.EX_USAGE, "domain set example.test", "nothing to set"),
    (os.EX_USAGE, "user set alice@example.test --enable --disable", "only one of --enable and --disable"),
    (os.EX_DATAERR, "user add a@b@example.test --no-password", "has more than one @"),
    (os.EX_NOHOST, "user list nowhere.test", "there is no domain nowhere.test here"),
    (os.EX_NOHOST, "alias list nowhere.test --json", "there is no domain nowhere.test here"),
    (os.EX_USAGE, "trace x --log /dev/null", "/dev/null is no file"),
])
def test_a_no_has_a_status_and_a_sentence(stopped, status, words, sentence):
    code, text = told(stopped, *words.split(), input="")
    assert code == status, text
    assert sentence in text


def test_an_instance_that_is_not_there(tmp_path):
    for words in (["run"], ["user", "list"], ["check"], ["config", "-n"]):
        done = subprocess.run([BINARY, "-c", str(tmp_path / "nothing"), *words], capture_output=True, text=True)
        assert done.returncode in (os.EX_NOINPUT, os.EX_CONFIG), words
        assert "nothing" in done.stderr + done.stdout, words


def test_an_empty_word_is_no_directory(tmp_path):
    """As of a variable that is not set: the instance in /etc, or here, is not what was meant."""
    for words in (["-c", "", "user", "list"], ["init", "", "--domain", "x.test"]):
        done = subprocess.run([BINARY, *words], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == os.EX_USAGE, done.stderr
        assert os.listdir(tmp_path) == []
    done = subprocess.run([BINARY, "init", str(tmp_path / "x"), "--domain", "x.test", "--port-offset", str(2**32 - 800)], capture_output=True, text=True)
    assert done.returncode == os.EX_USAGE and "--port-offset is a number up to 64540" in done.stderr


def test_a_password_has_no_nul(stopped):
    """What stands behind it would not count."""
    done = stopped.command("user", "add", "x@example.test", "--password-stdin", input="a\0b\n", check=False)
    assert done.returncode == os.EX_DATAERR and "NUL" in done.stderr
    assert "x@example.test" not in stopped.command("user", "list").stdout


@pytest.mark.parametrize("hash", ["xx", "plainsecret", "$6$salt$cut-short", "{ARGON2ID}$argon2id$v=19$m=1,t=1,p=1$x$y", "{SSHA}@@@", "$argon2id$x$y"])
def test_a_hash_that_nothing_fits_is_refused(stopped, hash):
    done = stopped.command("user", "add", "x@example.test", "--password-hash", hash, check=False)
    assert done.returncode == os.EX_DATAERR and "no password would fit" in done.stderr, done.stderr
    done = stopped.command("user", "add", "--from", "-", input=f"y@example.test:{{PLAIN}}secret\nx@example.test:{hash}\n", check=False)
    assert done.returncode == os.EX_DATAERR and "line 2: no password would fit" in done.stderr, done.stderr
    assert "x@example.test" not in (users := stopped.command("user", "list").stdout) and "y@example.test" not in users


def test_config_as_postconf_is_asked(stopped):
    assert stopped.command("config", "-h", "myhostname").stdout == "mail.example.test\n"
    assert stopped.command("config", "-x", "-h", "myorigin").stdout == "example.test\n"
    assert stopped.command("config", "-x", "myorigin").stdout == "myorigin = example.test\n"
    assert stopped.command("config", "--help").stdout.startswith("usage:")


def test_what_is_not_allowed_is_said(mail):
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    let_through(mail.dir)
    for words in (["status"], ["reload"], ["restart"], ["queue", "list"], ["user", "list"], ["trace", "x"], ["stop"]):
        done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", BINARY, "-c", mail.dir, *words],
                              capture_output=True, text=True)
        assert done.returncode == os.EX_NOPERM, (words, done.stderr)
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", BINARY, "-c", mail.dir, "reload"],
                          capture_output=True, text=True)
    assert "does not answer to everybody: ask as root" in done.stderr


def test_results_that_nobody_takes(mail):
    """A full disk is told; somebody who has read enough is not."""
    for words in (["status"], ["queue", "list"], ["check", "--json"], ["config"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([BINARY, "-c", mail.dir, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == os.EX_IOERR and "cannot write the result" in done.stderr, words
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([BINARY, "-c", mail.dir, *words], stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert done.returncode != 0 and done.stderr == "", (words, done.stderr)


def test_json_of_what_is_not_running_is_nothing(stopped):
    done = stopped.command("queue", "list", "--json", check=False)
    assert done.returncode == os.EX_UNAVAILABLE and done.stdout == ""


# ---- status, queue, mail ----

def test_status_in_json_is_complete(mail):
    status = as_json(mail, "status")
    assert set(status) == {"version", "pid", "uptime", "privileged", "stopping", "reloads", "processes"}
    for p in status["processes"]:
        assert set(p) == {"name", "pid", "uptime", "restarts", "ready", "jail", "sessions"}
        assert os.path.exists(f"/proc/{p['pid']}") and p["ready"]
    mail.command("reload")
    assert as_json(mail, "status")["reloads"] == status["reloads"] + 1


@pytest.fixture
def waiting(mail):
    """A message of alice's waits: bob's part was delivered, carol's finds no room. Its id."""
    mail.user("carol@example.test", "secret", "--quota", "1K")
    with mail.submission("alice@example.test") as s:
        s.mail("alice@example.test")                # no SIZE: RCPT cannot know yet
        assert s.rcpt("bob@example.test")[0] == 250
        assert s.rcpt("carol@example.test")[0] == 250
        assert s.data("Subject: waits\r\n\r\n" + "x" * 60 + "\r\n" + ("y" * 60 + "\r\n") * 60)[0] == 250
    mail.wait_log(r"to=<carol@example\.test>.*status=deferred")
    queued = as_json(mail, "queue", "list")
    assert len(queued) == 1
    return mail, queued[0]


def test_a_waiting_message_is_shown_tried_and_deleted(waiting):
    mail, message = waiting
    assert message["sender"] == "alice@example.test" and message["size"] > 3600
    assert [r["address"] for r in message["recipients"]] == ["carol@example.test"]
    rcpt = message["recipients"][0]
    assert rcpt["attempts"] >= 1 and rcpt["code"].startswith(("4.", "5.")) and rcpt["reason"]
    assert as_json(mail, "queue", "show", message["id"])[0]["id"] == message["id"]
    text = mail.command("queue", "list").stdout
    assert message["id"] in text and "alice@example.test" in text and "carol@example.test" in text
    assert re.search(r"^-- \d+ Kbytes in 1 Request\.$", text, re.M)
    assert message["id"] in mail.command("queue", "show", message["id"]).stdout
    assert as_json(mail, "queue", "flush", message["id"]) == {"count": 1}
    wait_for("another attempt", lambda: as_json(mail, "queue", "list")[0]["recipients"][0]["attempts"] > rcpt["attempts"])
    assert mail.command("queue", "delete", message["id"]).stdout == "1 message\n"
    assert as_json(mail, "queue", "list") == []


def test_a_flush_delivers_what_has_room_now(waiting):
    mail, message = waiting
    mail.command("user", "set", "carol@example.test", "--quota", "none")
    assert as_json(mail, "queue", "flush") == {"count": 1}
    wait_for("the queue to be empty", lambda: as_json(mail, "queue", "list") == [])
    mail.wait_messages("carol@example.test", 1)
    mail.wait_messages("bob@example.test", 1)


def test_an_empty_queue(mail):
    assert mail.command("queue", "list").stdout == "Mail queue is empty\n"
    assert as_json(mail, "queue", "list") == []
    assert as_json(mail, "queue", "flush") == {"count": 0}
    assert as_json(mail, "queue", "delete", "ALL") == {"count": 0}
    for verb in ("show", "flush", "delete"):
        code, text = told(mail, "queue", verb, "NOSUCHID")
        assert code == os.EX_DATAERR and "there is no message NOSUCHID in the queue" in text


def test_fsck_compares_and_changes_nothing(mail):
    bob = "bob@example.test"
    for _ in range(4):
        mail.send(bob)
    box = mail.imap(bob)
    box.select()
    box.create("Work")
    box.uid("COPY", "1:2", "Work")
    box.uid("MOVE", "3", "Work")
    box.uid("STORE", "2", "+FLAGS", r"(\Seen key)")
    box.logout()
    done = mail.command("mail", "fsck", "--check", bob)
    assert done.stdout == "1 accounts, 6 messages: 0 faults\n"
    first, second = mail.messages(bob)[:2]
    with open(first, "a") as f:
        f.write("more")
    os.unlink(second)
    for _ in range(2):
        done = mail.command("mail", "fsck", "--check", "--json", check=False)
        assert done.returncode == os.EX_DATAERR
        report = json.loads(done.stdout)
        assert os.path.basename(first).split(":")[0] in report["report"] and "is missing" in report["report"]
        assert report["faults"] >= 2
    assert mail.command("mail", "fsck", "--nonsense", check=False).returncode == os.EX_USAGE


def test_fsck_reports_and_repairs(mail):
    for i in range(3):
        mail.send("bob@example.test", subject=f"n{i}")
    mail.wait_messages("bob@example.test", 3)
    assert mail.command("mail", "fsck", "bob@example.test").stdout.strip()
    report = as_json(mail, "mail", "fsck")
    assert isinstance(report["report"], str) and report["report"]
    os.unlink(mail.messages("bob@example.test")[0])
    mail.command("mail", "fsck", "bob@example.test")
    wait_for("the removed message to be gone", lambda: mail.count("bob@example.test") == 2)


# ---- control ----

def test_a_second_master_refuses_with_a_sentence(mail):
    for verb in ("run", "start"):
        done = mail.command(verb, check=False)
        assert done.returncode == os.EX_UNAVAILABLE
        assert re.search(rf"is already running \(pid {mail.master.pid}\)", done.stderr + mail.log()), verb
    assert mail.master.poll() is None
    assert as_json(mail, "status")["pid"] == mail.master.pid


def test_stale_pid_file_and_socket_are_no_obstacle(mail):
    mail.kill()
    run = os.path.join(mail.dir, "run")
    assert os.path.exists(os.path.join(run, "control"))
    code, text = told(mail, "status")
    assert code == os.EX_UNAVAILABLE and "is not running" in text
    pid_file = next(f for f in os.listdir(run) if f.endswith("pid"))
    with open(os.path.join(run, pid_file), "w") as f:
        f.write(f"{os.getpid()}\n")           # a number that belongs to somebody else by now
    assert told(mail, "stop")[0] == os.EX_UNAVAILABLE
    mail.start()
    assert as_json(mail, "status")["pid"] == mail.master.pid
    mail.send("bob@example.test")


def test_start_and_stop_in_the_background(stopped):
    started = as_json(stopped, "start")
    try:
        assert as_json(stopped, "status")["pid"] == started["pid"]
        code, text = told(stopped, "start")
        assert code == os.EX_UNAVAILABLE and f"is already running (pid {started['pid']})" in text
    finally:
        stopped.command("stop")
    assert told(stopped, "status")[0] == os.EX_UNAVAILABLE
    with open(os.path.join(stopped.dir, "log", "postrider.log")) as log:
        assert log.read().splitlines()[-1].endswith(": stopped")


# ---- where the log goes ----

def test_the_log_on_standard_error(tmp_path):
    with Instance(tmp_path / "mail", settings=dict(maillog_file="/dev/stderr")) as m:
        m.user("bob@example.test")
        m.start()
        m.send("bob@example.test")
        wait_for("the line", lambda: re.search(r"postrider/\w+\[\d+\]: .*status=sent",
                                               open(os.path.join(m.dir, "run.out")).read()))
        assert not os.path.exists(m.log_path)


def test_an_empty_maillog_file_in_the_foreground_is_standard_error(tmp_path):
    with Instance(tmp_path / "mail", settings=dict(maillog_file="")) as m:
        m.start()
        assert "postrider/master" in open(os.path.join(m.dir, "run.out")).read()


@pytest.mark.skipif(os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
                    reason="/dev/log must be replaced")
def test_an_empty_maillog_file_in_the_background_is_syslog(tmp_path):
    with Instance(tmp_path / "mail", settings=dict(maillog_file="")) as m:
        syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        devices = tmp_path / "dev"
        devices.mkdir()
        syslog.bind(str(devices / "log"))
        syslog.settimeout(30)
        # A /dev of its own, in a mount namespace, so that the host's log sees nothing.
        script = (f"mount --bind {devices} /mnt && for d in null zero full random urandom tty; do touch /mnt/$d; "
                  "mount --bind /dev/$d /mnt/$d; done && mount --rbind /mnt /dev && exec \"$@\"")
        done = subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", BINARY, "-c", m.dir, "start"], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        try:
            seen = b""
            while b"started -- version" not in seen:
                seen = syslog.recv(8192)
            assert re.match(rb"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d postrider/master\[\d+\]: started -- version", seen), seen
            with m.raw("smtp") as c:
                c.line()
            while b"connect from" not in seen:
                seen = syslog.recv(8192)
            assert re.match(rb"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d postrider/smtpd\[\d+\]: connect from localhost", seen), seen
        finally:
            m.command("stop")
            syslog.close()
