"""Alarm mail: the command with and without a running system, its second path, and the conditions that are looked at."""

import email
import email.policy
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import threading

import pytest

from instance import BINARY, Instance, wait_for

QUICK = {"alert_check_interval": "1s", "alert_clear_time": "1s", "alert_hourly_limit": "1000"}


class Sink:
    """An SMTP server that takes everything, or answers as it is told to at one step."""

    def __init__(self, answers=None, port=0, address="127.0.0.1"):
        self.answers = answers or {}
        self.mails = []
        self.uids = []
        self.hold = threading.Event()
        self.socket = socket.create_server((address, port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.hold.set()
        self.socket.close()

    def _serve(self):
        while True:
            try:
                client, peer = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(client, peer[1]), daemon=True).start()

    def _say(self, client, step, default):
        answer = self.answers.get(step, default)
        if answer == "hang":
            self.hold.wait(60)
            raise OSError
        if answer == "close":
            raise OSError
        client.sendall(answer.encode("latin-1") + b"\r\n")

    def _session(self, client, port):
        mail = {"to": []}
        self.uids.append(uid_of_port(port))
        try:
            with client, client.makefile("rb") as lines:
                self._say(client, "CONNECT", "220 sink")
                while line := lines.readline():
                    verb = line.split()[0].upper().decode().split(":")[0]
                    if verb == "MAIL":
                        mail["from"] = line.decode().split("<")[1].split(">")[0]
                    if verb == "RCPT":
                        mail["to"].append(line.decode().split("<")[1].split(">")[0])
                    if verb == "DATA":
                        self._say(client, verb, "354 go on")
                        text = b""
                        while (line := lines.readline()) != b".\r\n":
                            if not line:
                                raise OSError
                            assert line.endswith(b"\r\n"), line
                            text += line[1:] if line.startswith(b".") else line
                        self._say(client, "END", "250 taken")
                        self.mails.append(dict(mail, text=text))
                    elif verb == "EHLO":
                        self._say(client, verb, "250-sink\r\n250 8BITMIME")
                    else:
                        self._say(client, verb, "250 ok")
        except OSError:
            pass


def uid_of_port(port):
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            return int(fields[7])
    return None


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def alert(mail, *args, text="something happened\n", check=True):
    return mail.command("alert", *args, input=text, check=check)


def listed(mail):
    return json.loads(mail.command("alert", "list", "--json", check=False).stdout)


def holding(mail):
    return {c["name"] for c in listed(mail)["conditions"] if c["holds"]}


def looked_again(mail, times=2):
    for _ in range(times):
        before = listed(mail)["looked"]
        wait_for("the next look", lambda: listed(mail)["looked"] > before)


def texts(mail, address):
    found = []
    for path in mail.messages(address):
        try:
            with open(path, "rb") as f:
                found.append(parsed(f.read()))
        except FileNotFoundError:   # on its way from new/ to cur/
            pass
    return found


def told(mail, address, word):
    return [m for m in texts(mail, address) if word in m.get_content()]


# ---- the command ----

def test_mail_goes_by_our_own_queue_while_the_system_runs(mail):
    done = alert(mail, "-s", "disk / is full: ü\r\nBcc: x@example.test", "alice@example.test", "bob@example.test",
                 text=".\nonly 1 % is free\nnaïve\n")
    assert done.stdout == "accepted by our own queue\n"
    for user in ("alice@example.test", "bob@example.test"):
        mail.wait_messages(user, 1)
        message = texts(mail, user)[0]
        assert message["Subject"] == "disk / is full: ü  Bcc: x@example.test"
        assert message["Bcc"] is None and message["Auto-Submitted"] == "auto-generated"
        assert message.get_content() == ".\nonly 1 % is free\nnaïve\n"


def test_without_addresses_it_goes_to_alert_recipient(stopped):
    stopped.configure(alert_recipient="alice@example.test, bob@example.test")
    mail = stopped
    mail.start()
    alert(mail)
    mail.wait_messages("alice@example.test", 1)
    mail.wait_messages("bob@example.test", 1)


def test_the_second_path_works_while_the_system_is_down_in_a_jail(stopped, sink):
    stopped.configure(alert_relayhost=f"127.0.0.1:{sink.port}", myorigin="example.test")
    done = alert(stopped, "-s", "down", "admin@elsewhere.test", "root", text=".dot\nlast line without end")
    assert done.stdout == "accepted by alert_relayhost\n"
    sent = sink.mails[0]
    assert sent["to"] == ["admin@elsewhere.test", "root@example.test"]
    assert sent["from"] == "double-bounce@example.test"
    assert parsed(sent["text"]).get_content().splitlines() == [".dot", "last line without end"]
    if os.getuid() == 0:
        assert sink.uids == [pwd.getpwnam("postrider").pw_uid]


def test_when_no_path_is_left_the_exit_status_says_so(stopped):
    done = alert(stopped, "admin@elsewhere.test", check=False)
    assert done.returncode == os.EX_TEMPFAIL
    assert "is not running" in done.stderr and "alert_relayhost" in done.stderr
    assert alert(stopped, "not an address@x", check=False).returncode == os.EX_DATAERR
    assert alert(stopped, "-x", check=False).returncode == os.EX_USAGE
    stopped.configure(alert_recipient="")
    assert alert(stopped, check=False).returncode == os.EX_USAGE
    stopped.configure(alert_relayhost="mail.example.test:25")
    done = alert(stopped, "admin@elsewhere.test", check=False)
    assert done.returncode == os.EX_TEMPFAIL and "it takes an address" in done.stderr


STEPS = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END"]


@pytest.mark.parametrize("answer, word", [
    ("hang", "timed out|no answer within"), ("close", "lost connection"), ("451 not now", "451 not now"),
    ("554 never", "554 never"), ("garbage", "no SMTP"),
    ("250-" + "x" * 100000 + "\r\n250 x", "no SMTP|lost connection|said")],
    ids=["hangs", "closes", "4xx", "5xx", "garbage", "endless"])
def test_a_server_that_misbehaves_at_any_step_is_told_of_in_one_sentence(stopped, answer, word):
    sinks = [Sink({step: answer}) for step in STEPS]
    commands = []
    try:
        for sink in sinks:
            stopped.configure(alert_relayhost=f"127.0.0.1:{sink.port}", alert_relayhost_timeout="3s")
            commands.append(subprocess.Popen([BINARY, "-c", stopped.dir, "alert", "admin@elsewhere.test"], text=True,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE))
            wait_for("the connection", lambda: sink.uids or commands[-1].poll() is not None)
        for step, sink, command in zip(STEPS, sinks, commands):
            out, said = command.communicate(timeout=60)
            if answer.startswith("554") and step == "EHLO":     # then HELO does
                assert command.returncode == 0 and sink.mails
                continue
            assert command.returncode == os.EX_TEMPFAIL, (step, out, said)
            assert said.count("\n") == 1, (step, said)
            assert re.search(word, said), (step, said)
            assert not sink.mails or step == "END"
    finally:
        for sink in sinks:
            sink.close()


def test_while_the_system_is_down_an_alarm_is_kept_once(stopped):
    mail = stopped
    for i in range(3):
        done = alert(mail, "-s", "disk /", "alice@example.test", text=f"look {i}\n", check=False)
        assert done.returncode == os.EX_TEMPFAIL and "goes when the system starts" in done.stderr
        assert ("is kept already" in done.stderr) == (i > 0)
    maildrop = os.path.join(mail.dir, "spool", "maildrop")
    (kept,) = os.listdir(maildrop)
    others = [os.path.join(maildrop, f"{kept[:-2]}{i:02}") for i in range(1, 49)]
    for path in others:
        open(path, "w").close()
    assert "it is kept" in alert(mail, "-s", "disk /home", "alice@example.test", check=False).stderr
    done = alert(mail, "-s", "disk /var", "alice@example.test", check=False)
    assert done.returncode == os.EX_TEMPFAIL and "50 others are kept there already" in done.stderr
    for path in others:
        os.unlink(path)
    # A condition is told again by who looks at it.
    alert(mail, "--own", "-s", "own", "alice@example.test", check=False)
    mail.start()
    told = [parsed(open(path, "rb").read()) for path in mail.wait_messages("alice@example.test", 2)]
    (first,) = (m for m in told if m["Subject"] == "disk /")
    assert first.get_content() == "look 0\n" and first["Return-Path"] == "<double-bounce@example.test>"
    assert first["X-Postrider-Alert"] == "command"


def test_the_test_tells_of_both_paths(stopped, sink):
    stopped.configure(alert_recipient="alice@example.test", alert_relayhost=f"127.0.0.1:{sink.port}")
    mail = stopped
    mail.start()
    report = json.loads(mail.command("alert", "test", "--json").stdout)
    assert report["queue"]["accepted"] and report["relayhost"]["accepted"]
    mail.wait_messages("alice@example.test", 1)
    assert len(sink.mails) == 1
    mail.stop()
    done = mail.command("alert", "test", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == os.EX_TEMPFAIL
    assert not report["queue"]["accepted"] and report["relayhost"]["accepted"]
    assert len(sink.mails) == 2


@pytest.fixture
def host(tmp_path):
    """A server that wants TLS and a password before it takes anything."""
    with Instance(tmp_path / "host", settings={"mynetworks": "192.0.2.0/24"}) as other:
        other.user("carol@example.test")
        yield other.start()


def by_host(stopped, host, tmp_path, password, **settings):
    """The second path leads there, as carol."""
    passwords = tmp_path / "passwords"
    passwords.write_text(f"[127.0.0.1]:{host.ports['submission']} carol@example.test:{password}\n")
    stopped.configure(**{"alert_relayhost": f"127.0.0.1:{host.ports['submission']}",
                         "alert_relayhost_sender": "carol@example.test", "alert_relayhost_tls_security_level": "secure",
                         "alert_relayhost_tls_match": "mail.example.test",
                         "alert_relayhost_sasl_password_maps": f"texthash:{passwords}",
                         "smtp_tls_CAfile": os.path.join(host.dir, "tls", "cert.pem"), **settings})


def test_the_second_path_speaks_tls_and_logs_in(stopped, host, tmp_path):
    by_host(stopped, host, tmp_path, "secret")
    assert "accepted by alert_relayhost" in alert(stopped, "carol@example.test").stdout
    message = parsed(open(host.wait_messages("carol@example.test", 1)[0], "rb").read())
    assert message.get_content() == "something happened\n"
    assert message["Return-Path"] == "<carol@example.test>"
    assert "with ESMTPSA" in message["Received"]


@pytest.mark.parametrize("password, settings, word", [
    ("wrong", {}, "535"),
    ("secret", {"alert_relayhost_tls_match": "other.test"}, "not verified"),
    ("secret", {"smtp_tls_CAfile": ""}, "not trusted"),
    ("secret", {"alert_relayhost_sasl_password_maps": ""}, "554"),
    ("secret", {"alert_relayhost_sasl_password_maps": "texthash:/nonexistent/passwords"}, "passwords")],
    ids=["password", "name", "authority", "no-log-in", "table"])
def test_the_second_path_gives_no_password_to_others_and_says_why(stopped, host, tmp_path, password, settings, word):
    by_host(stopped, host, tmp_path, password, **settings)
    done = alert(stopped, "carol@example.test", check=False)
    assert done.returncode == os.EX_TEMPFAIL and done.stderr.count("\n") == 1, done.stderr
    assert word in done.stderr
    assert not host.messages("carol@example.test")


# ---- the conditions ----

def test_a_condition_is_told_once_and_its_end_once_over_a_restart(stopped, sink):
    stopped.configure(alert_recipient="alice@example.test", alert_relayhost=f"127.0.0.1:{sink.port}",
                      alert_disk_free="100", **QUICK)
    mail = stopped
    mail.start()
    mail.wait_messages("alice@example.test", 1)
    assert "disk_space" in holding(mail)
    assert mail.command("alert", "list", check=False).returncode == os.EX_TEMPFAIL
    looked_again(mail)
    mail.stop()
    mail.start()
    wait_for("a look", lambda: listed(mail)["looked"] > 0)
    looked_again(mail)
    assert len(told(mail, "alice@example.test", "NEW disk_space")) == 1
    # It may mean that the queue is broken: the second path has it, too.
    assert len([m for m in sink.mails if b"NEW disk_space" in m["text"]]) == 1
    mail.configure(alert_disk_free="0")
    mail.command("reload")
    wait_for("the end to be told", lambda: told(mail, "alice@example.test", "ENDED disk_space"))
    assert not holding(mail)
    assert mail.command("alert", "list").stdout == "No condition of alarm mail holds.\n"
    looked_again(mail)
    assert len(mail.messages("alice@example.test")) == 2


def test_processes_that_keep_dying_failed_logins_and_certificates_are_told(stopped, tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "5", "-subj", "/CN=mail.example.test", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    stopped.configure(alert_recipient="alice@example.test", alert_process_deaths="2", alert_login_failures="2",
                      auth_failure_delay="0", smtpd_tls_cert_file=cert, smtpd_tls_key_file=key, **QUICK)
    mail = stopped
    mail.start()
    wait_for("the certificate to be told", lambda: told(mail, "alice@example.test", "NEW certificate"))
    assert re.search("ends in [45] days", told(mail, "alice@example.test", "NEW certificate")[0].get_content())
    for _ in range(2):
        pid = mail.pid_of("relay")
        os.kill(pid, signal.SIGKILL)
        wait_for("another relay", lambda: mail.pid_of("relay") not in (None, pid))
    for _ in range(2):
        with mail.raw("imap") as client:
            client.line()
            client.send(b"a login alice@example.test wrong\r\n")
            assert client.line().startswith("a NO")
    for word in ("NEW process_deaths", "NEW login_failures"):
        wait_for(word, lambda: told(mail, "alice@example.test", word))
    assert "process relay ended 2 times" in told(mail, "alice@example.test", "NEW process_deaths")[0].get_content()


def test_a_queue_that_hangs_is_told_by_the_second_path(stopped, sink):
    stopped.configure(alert_recipient="alice@example.test", alert_relayhost=f"127.0.0.1:{sink.port}", **QUICK)
    mail = stopped
    mail.start()
    wait_for("everything to serve", lambda: listed(mail)["looked"] > 0)
    pid = mail.pid_of("queue")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for("the mail", lambda: [m for m in sink.mails if b"NEW no_answer" in m["text"]], timeout=60)
        assert b"process queue does not answer" in sink.mails[0]["text"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_waits_in_the_queue_is_told_but_not_alarm_mail_itself(stopped):
    stopped.configure(alert_recipient="postmaster@nowhere.test", alert_queue_age="1s", alert_queue_messages="2", **QUICK)
    mail = stopped
    mail.start()
    wait_for("everything to serve", lambda: listed(mail)["looked"] > 0)
    pid = mail.pid_of("relay")
    os.kill(pid, signal.SIGSTOP)
    try:
        alert(mail, "alice@example.test")
        wait_for("it to wait", lambda: mail.command("queue", "list").stdout.count("alice@example.test") == 1)
        looked_again(mail, 3)
        assert holding(mail) == set()
        alert(mail, "alice@example.test")
        wait_for("the condition", lambda: "queue_messages" in holding(mail))
        assert "queue_age" not in holding(mail)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_destinations_that_nothing_reaches_are_one_condition_that_ends(stopped):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    stopped.configure(alert_recipient="alice@example.test, admin@elsewhere.test", alert_destination_time="1s",
                      alert_destination_messages="2", smtpd_sender_restrictions="", minimal_backoff_time="1s",
                      maximal_backoff_time="1h", transport_maps="inline:{"
                      f"elsewhere.test=smtp:[127.0.0.1]:{port}, other.test=smtp:[127.0.0.2]:{port}" "}", **QUICK)
    mail = stopped
    mail.start()
    with mail.submission("alice@example.test") as client:
        def submit(to):
            text = f"From: alice@example.test\r\nTo: {to}\r\nSubject: x\r\n\r\nx\r\n"
            client.sendmail("alice@example.test", [to], text)
        submit("one@elsewhere.test")
        wait_for("it to wait", lambda: mail.log().count("status=deferred"))
        looked_again(mail)
        assert holding(mail) == set()                           # one message alone may be anybody's mistake
        for to in ("two@elsewhere.test", "one@other.test", "two@other.test"):
            submit(to)
        wait_for("both to be down", lambda: any("and 1 more" in c["text"] for c in listed(mail)["conditions"]))
        wait_for("the mail", lambda: told(mail, "alice@example.test", "NEW destination_down"))
    assert "mail waits for [127.0.0." in told(mail, "alice@example.test", "NEW destination_down")[0].get_content()
    # The mail about it waits for the same destination, and makes no other mail.
    looked_again(mail, 3)
    assert len(mail.messages("alice@example.test")) == 1
    sinks = [Sink(port=port), Sink(port=port, address="127.0.0.2")]
    try:
        def flushed():
            mail.command("queue", "flush")
            return told(mail, "alice@example.test", "ENDED destination_down")
        wait_for("the end to be told", flushed)
    finally:
        for sink in sinks:
            sink.close()


# ---- what becomes of alarm mail ----

def test_what_cannot_leave_now_is_kept_and_what_is_refused_ends(stopped, sink):
    """Exit status 0 says that it is safe, not that it was read: another system may put it off, or refuse it. Then nobody is
    told by mail: no bounce, no notice, no alarm about alarms."""
    sink.answers["RCPT"] = "450 4.2.0 later"
    stopped.configure(relayhost=f"[127.0.0.1]:{sink.port}", alert_recipient="gone@far.test", alert_disk_free="100",
                      minimal_backoff_time="1s", maximal_backoff_time="2s", notify_classes="bounce, 2bounce, delay, resource, software",
                      **QUICK)
    mail = stopped
    mail.start()
    assert alert(mail, "-s", "by hand", "later@far.test").stdout == "accepted by our own queue\n"
    mail.wait_log("to=<later@far.test>.*status=deferred")
    mail.wait_log("to=<gone@far.test>.*status=deferred")     # its own, of the disk
    sink.answers.clear()
    wait_for("both alarms", lambda: {"later@far.test", "gone@far.test"} <= {t for m in sink.mails for t in m["to"]})
    # Refused from now on, here and there.
    wait_for("an empty queue", lambda: json.loads(mail.command("queue", "list", "--json").stdout) == [])
    sink.answers["RCPT"] = "550 5.1.1 nobody of that name"
    before, boxes = len(sink.mails), [mail.messages(f"{name}@example.test") for name in ("alice", "bob")]
    assert alert(mail, "refused@far.test").returncode == 0
    assert alert(mail, "no-such-user@example.test").returncode == 0
    mail.configure(alert_disk_free="0")              # the condition ends: one more, refused as well
    mail.command("reload")
    for address in ("refused@far.test", "no-such-user@example.test", "gone@far.test"):
        mail.wait_log(f"to=<{address}>.*status=bounced")
    looked_again(mail)
    wait_for("an empty queue", lambda: json.loads(mail.command("queue", "list", "--json").stdout) == [])
    assert mail.log().count("status=bounced") >= 3
    assert len(sink.mails) == before and boxes == [mail.messages(f"{name}@example.test") for name in ("alice", "bob")]
    assert "notification: " not in mail.log()


@pytest.mark.parametrize("args, status, word", [
    (("-s",), os.EX_USAGE, ""), (("-s", "x"), os.EX_USAGE, "nobody gets it"), (("--bogus", "a@b.test"), os.EX_USAGE, ""), (("a b@c.test",), os.EX_DATAERR, "no address"),
    (("-s", "x", "a@b.test", "c@d.test,e@f.test"), os.EX_DATAERR, "no address"), (("<a@b.test>",), os.EX_DATAERR, "no address"), (("ops@@b.test",), os.EX_DATAERR, "no address"),
    (tuple(f"a{i}@b.test" for i in range(51)), os.EX_USAGE, "more than 50")])
def test_bad_calls_of_alert(shared_stopped, args, status, word):
    done = alert(shared_stopped, *args, check=False)
    assert (done.returncode, done.stdout) == (status, "") and word in done.stderr


@pytest.fixture(scope="module")
def shared_stopped(tmp_path_factory):
    with Instance(tmp_path_factory.mktemp("alert") / "mail") as m:
        yield m
