"""The process tree: accounts, jails, supervision, reload and restart, seen from /proc and tried from inside."""

import fcntl
import json
import os
import pwd
import re
import signal
import socket
import threading

import pytest

from instance import PATIENCE, Raw, free_ports, wait_for

ACCOUNTS = {"smtpd": "postrider", "access": "postrider", "relay": "postrider", "dns": "postrider", "directory": "postrider-auth",
            "queue": "postrider-queue", "store": "postrider-store"}
NOBODYS = "nobody"


def status_of(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return {line.split(":", 1)[0]: line.split(":", 1)[1].split() for line in lines if ":" in line}


def all_children(mail):
    wait_for("all processes", lambda: set(mail.children().values()) == set(ACCOUNTS))
    return mail.children()


def probe(mail, process, what, *argument):
    """What came of an attempt inside the process: an errno's name, "allowed" or "killed"."""
    done = mail.command("probe", process, what, *map(str, argument), check=False)
    if "no command" in done.stderr:
        pytest.skip("not a test build")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ready(mail, process):
    def look():
        done = mail.command("status", "--json", check=False)
        if not done.stdout:
            return False
        return next(p["ready"] for p in json.loads(done.stdout)["processes"] if p["name"] == process)
    return wait_for(f"{process} to be ready", look)


@pytest.fixture
def nobodys(unprivileged):
    unprivileged.start()
    return unprivileged


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_every_process_has_its_account_and_jail(mail):
    for name in ACCOUNTS:       # whoever has just begun may not be in its jail yet
        ready(mail, name)
    for pid, name in all_children(mail).items():
        status = status_of(pid)
        uid = str(pwd.getpwnam(ACCOUNTS[name]).pw_uid)
        assert status["Uid"] == [uid] * 4, name
        assert status["Groups"] == [], name
        assert status["Seccomp"] == ["2"], name
        assert status["NoNewPrivs"] == ["1"], name
        assert int(status["CapEff"][0], 16) == 0 and int(status["CapPrm"][0], 16) == 0, name
        root = os.readlink(f"/proc/{pid}/root")
        # directory reopens its database by name; every other chroot is an empty directory
        expected = mail.dir if name == "directory" else os.path.join(mail.dir, "spool", "empty")
        assert root == os.path.realpath(expected), name
    assert os.listdir(os.path.join(mail.dir, "spool", "empty")) == []


def test_who_nobody_looks_at_is_scheduled_as_a_batch(mail):
    """doc/decisions/0039: these two, each thread of theirs, and no other. One that has just been started is not there yet."""
    def policies(pid):
        try:
            return {os.sched_getscheduler(int(t)) for t in os.listdir(f"/proc/{pid}/task")}
        except OSError:                  # a thread that has ended
            return set()

    wait_for("relay and queue to be a batch", lambda: {"relay", "queue"} ==
             {name for pid, name in mail.children().items() if policies(pid) == {os.SCHED_BATCH}})


def test_processes_hold_no_descriptor_that_is_not_theirs(stopped):
    mail = stopped
    leaked = os.open("/etc/hostname", os.O_RDONLY)
    high = fcntl.fcntl(leaked, fcntl.F_DUPFD, 200)
    try:
        mail.start(pass_fds=(leaked, high))
        for pid, name in all_children(mail).items():
            ready(mail, name)
            held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert not [what for what in held if what.endswith("/hostname")], (name, held)
            files = [what for what in held if what.startswith("/") and not what.startswith((mail.dir, "/dev/null"))]
            files = [what for what in files if what != os.path.join(mail.dir, "run.out")]
            assert files == [], (name, files)
            environment = open(f"/proc/{pid}/environ").read().split("\0")
            assert not [v for v in environment if v.startswith(("PATH=", "HOME=", "LD_"))], name
    finally:
        os.close(leaked)
        os.close(high)


def test_without_root_the_same_tree_runs_with_filters(nobodys):
    uid = str(pwd.getpwnam(NOBODYS).pw_uid)
    for pid, name in all_children(nobodys).items():
        # A process that has just begun (relay reads what it trusts) is about to enter its jail.
        wait_for(f"{name} in its jail", lambda: status_of(pid)["Seccomp"] == ["2"])
        status = status_of(pid)
        assert status["Uid"] == [uid] * 4, name
        assert status["Seccomp"] == ["2"] and status["NoNewPrivs"] == ["1"], name
    nobodys.wait_log("without root: one account for all processes, no chroot")


def forbidden(mail):
    denied = ("EPERM", "EACCES", "ENOENT")
    main_cf = os.path.join(mail.dir, "main.cf")
    for name in ACCOUNTS:
        for what, *argument in (("open", "/etc/passwd"), ("open", main_cf), ("write", main_cf), ("write", "/tmp/x"),
                                ("connect", mail.ports["smtp"]), ("fork",), ("kill", mail.master.pid), ("code",)):
            may = (name, what) == ("relay", "connect")       # other people's servers
            assert (probe(mail, name, what, *argument) in denied) != may, (name, what)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_what_the_jail_forbids_is_refused(mail):
    all_children(mail)
    forbidden(mail)


def test_what_the_jail_forbids_is_refused_without_root(nobodys):
    all_children(nobodys)
    forbidden(nobodys)


@pytest.mark.parametrize("what", [("exec", "/bin/true"), ("ptrace", 1), ("setuid",)])
def test_what_only_an_intruder_does_kills_the_process_and_no_other(mail, what):
    before = all_children(mail)
    victim = mail.pid_of("smtpd")
    assert probe(mail, "smtpd", *what) == "killed"
    mail.wait_log(f"process smtpd pid {victim} killed by signal {int(signal.SIGSYS)}")
    wait_for("a new smtpd", lambda: mail.pid_of("smtpd") != victim)
    with mail.smtp() as s:
        assert s.noop()[0] == 250
    after = mail.children()
    assert all(pid in after for pid, name in before.items() if name != "smtpd")


@pytest.mark.parametrize("process", sorted(ACCOUNTS))
def test_a_killed_process_is_started_again_and_connected(mail, process):
    all_children(mail)
    pid = mail.pid_of(process)
    os.kill(pid, signal.SIGKILL)
    wait_for("its successor", lambda: pid not in mail.children() and process in mail.children().values())
    ready(mail, process)
    mail.send("bob@example.test", subject=f"after {process}")
    with_box = mail.imap("bob@example.test")
    wait_for("the message", lambda: with_box.select()[1] != [b"0"])
    with_box.logout()


def test_children_end_with_a_killed_master_and_another_starts(mail):
    all_children(mail)
    mail.kill()                  # waits for the children
    mail.start()
    with mail.smtp() as s:
        assert s.noop()[0] == 250


def test_only_one_master_an_instance(mail):
    done = mail.command("run", check=False)
    assert done.returncode != 0
    assert "already running" in done.stderr + mail.log()
    with mail.smtp() as s:
        assert s.noop()[0] == 250


def test_status_tells_processes_and_jails(mail):
    all_children(mail)
    status = json.loads(mail.command("status", "--json").stdout)
    assert status["pid"] == mail.master.pid
    assert {p["name"] for p in status["processes"]} == set(ACCOUNTS)
    for p in status["processes"]:
        assert p["ready"] and p["restarts"] == 0 and "seccomp" in p["jail"]
        assert mail.children()[p["pid"]] == p["name"]


def test_sessions_are_counted(mail):
    with mail.raw("imap") as c:
        c.line()
        wait_for("one session", lambda: any(p["name"] == "access" and p["sessions"] == 1 for p in
                                            json.loads(mail.command("status", "--json").stdout)["processes"]))


def test_reload_opens_and_closes_listeners(mail):
    port, = free_ports(1)
    path = os.path.join(mail.dir, "master.cf")
    text = open(path).read()
    with open(path, "a") as f:
        f.write(f"{port} inet n - n - - smtpd\n")
    with mail.raw("imap") as kept:
        kept.line()
        mail.command("reload")
        with Raw(port) as c:
            assert c.line().startswith("220")
            with open(path, "w") as f:
                f.write(text)
            mail.command("reload")
            assert c.ask("NOOP").startswith("250")       # the session outlives its listener
        wait_for("the port to close", lambda: socket.socket().connect_ex(("127.0.0.1", port)) != 0)
        kept.send("a NOOP\r\n")
        assert kept.line().startswith("a OK")


def test_reload_goes_from_all_addresses_to_one_and_back(mail):
    """Neither is in the other's way; somebody else's socket is."""
    def answers(address):
        with socket.socket() as s:
            return s.connect_ex((address, port)) == 0
    port, other = free_ports(2)
    with open(os.path.join(mail.dir, "master.cf"), "a") as f:
        f.write(f"{port} inet n - n - - smtpd\n")
    for interfaces, everywhere in (("all", True), ("127.0.0.3", False), ("127.0.0.3, 127.0.0.4", False), ("all", True)):
        mail.configure(inet_interfaces=interfaces)
        mail.command("reload")
        assert answers("127.0.0.3")
        assert answers("127.0.0.2") == everywhere
    with socket.create_server(("127.0.0.5", other)):
        with open(os.path.join(mail.dir, "master.cf"), "a") as f:
            f.write(f"{other} inet n - n - - smtpd\n")
        done = mail.command("reload", check=False)
        assert done.returncode == 78 and "in use" in done.stderr, done.stderr


def test_reload_changes_what_a_connection_begins_with(mail):
    """TLS from the first byte, a PROXY header, another protocol: on the same port, without a gap."""
    path, port = os.path.join(mail.dir, "master.cf"), mail.ports["smtp"]
    text = open(path).read()

    def become(command):
        with open(path, "w") as f:
            f.write(re.sub(rf"(?m)^({port} .*)smtpd$", rf"\g<1>{command}", text))
        mail.command("reload")
        return Raw(port)
    with become("smtpd") as kept:
        assert kept.line().startswith("220")
        with become("smtpd -o smtpd_tls_wrappermode=yes"), socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
            with mail.tls().wrap_socket(s) as tls:
                assert tls.recv(100).startswith(b"220")
        with become("smtpd -o smtpd_upstream_proxy_protocol=haproxy") as c:
            c.send("PROXY TCP4 192.0.2.9 192.0.2.1 4711 25\r\n")
            assert c.line().startswith("220") and c.ask("HELO x").startswith("250")
        with become("imap") as c:
            assert c.line().startswith("* OK")
        with become("pop3") as c:
            assert c.line().startswith("+OK")
        with become("smtpd -o syslog_name=postfix/inbound") as c:
            assert c.line().startswith("220")
        mail.wait_log(r"postfix/inbound/smtpd\[\d+\]: connect from")
        with become("smtpd") as c:
            assert c.line().startswith("220")
        assert kept.ask("NOOP").startswith("250")
    assert mail.command("check").returncode == 0


def test_behind_a_proxy_nobody_is_who_the_proxy_is(mail):
    """The proxy on this host is in mynetworks: its clients are not."""
    path, port = os.path.join(mail.dir, "master.cf"), mail.ports["smtp"]
    text = open(path).read()
    with open(path, "w") as f:
        f.write(re.sub(rf"(?m)^({port} .*)smtpd$", r"\g<1>smtpd -o smtpd_upstream_proxy_protocol=haproxy", text))
    mail.command("reload")
    with Raw(port) as c:
        c.send("PROXY TCP4 192.0.2.9 192.0.2.1 4711 25\r\n")
        c.line()
        c.ask("EHLO x")
        c.ask("MAIL FROM:<a@elsewhere.test>")
        assert c.ask("RCPT TO:<b@elsewhere.test>").startswith("554")
        assert c.ask("RCPT TO:<alice@example.test>").startswith("250")
    mail.wait_log(r"reject: RCPT from unknown\[192\.0\.2\.9\]")
    with Raw(port) as c:
        c.send("EHLO x\r\n")
        assert c.at_end()
    mail.wait_log("no PROXY header from 127.0.0.1")


def test_inet_protocols_are_what_is_listened_to(mail):
    port, = free_ports(1)
    with open(os.path.join(mail.dir, "master.cf"), "a") as f:
        f.write(f"{port} inet n - n - - smtpd\n")

    def answers(family, address):
        with socket.socket(family) as s:
            return s.connect_ex((address, port)) == 0
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    for protocols, interfaces in (("all", "all"), ("ipv4", "all"), ("ipv6", "all"), ("all", "loopback-only"), ("ipv4", "loopback-only"),
                                  ("ipv6", "loopback-only")):
        mail.configure(inet_protocols=protocols, inet_interfaces=interfaces)
        mail.command("reload")
        assert answers(socket.AF_INET, "127.0.0.1") == (protocols != "ipv6"), (protocols, interfaces)
        assert answers(socket.AF_INET6, "::1") == (protocols != "ipv4"), (protocols, interfaces)


def test_reload_returns_when_it_counts(mail):
    """Each first connection behind it sees what was changed."""
    for i in range(10):
        mail.configure(smtpd_banner=f"$myhostname number {i}")
        mail.command("reload")
        with mail.raw("smtp") as c:
            assert f"number {i}" in c.line()


def test_reload_changes_what_log_ins_are_offered(mail):
    def offered():
        with mail.raw("imap") as c:
            c.line()
            c.send("a CAPABILITY\r\n")
            return re.findall(r"AUTH=(\S+)", c.line())
    with mail.raw("imap") as kept:
        kept.line()
        for mechanisms in ("PLAIN", "SCRAM-SHA-256 PLAIN", "PLAIN"):
            mail.configure(auth_mechanisms=mechanisms)
            mail.command("reload")
            wait_for("the mechanisms", lambda: offered() == mechanisms.split(), timeout=20)


def test_reload_tells_who_has_not_taken_it(mail):
    os.kill(mail.pid_of("queue"), signal.SIGSTOP)
    try:
        done = mail.command("reload", check=False)
    finally:
        os.kill(mail.pid_of("queue"), signal.SIGCONT)
    assert done.returncode == 75, done.stderr
    assert re.search(r"reloaded, but process queue\[\d+\] has not taken the new configuration yet$", done.stderr), done.stderr
    mail.command("reload")


@pytest.mark.parametrize("name,value", [("smtpd_tls_cert_file", "/nonexistent/cert.pem"), ("inet_interfaces", "not.an.address"),
                                        ("queue_directory", "/tmp/elsewhere"), ("message_size_limit", "much")])
def test_a_faulty_configuration_is_refused_whole(mail, name, value):
    mail.configure(**{name: value, "smtpd_banner": "changed"})
    done = mail.command("reload", check=False)
    assert done.returncode == 78, done.stderr
    assert "everything stays as it was" in done.stderr
    with mail.raw("smtp") as c:
        assert "changed" not in c.line()
    with mail.submission("alice@example.test") as s:     # certificates, too
        assert s.noop()[0] == 250


def test_reload_takes_new_certificates_and_settings(mail):
    mail.configure(smtpd_banner="$myhostname changed")
    mail.master.send_signal(signal.SIGHUP)
    mail.wait_log(r"postrider/master\[\d+\]: reload ")

    def greeting():
        with mail.raw("smtp") as c:
            return "changed" in c.line()
    wait_for("the new banner", greeting)


def test_the_log_is_reopened(mail):
    if not os.path.exists(mail.log_path):
        pytest.skip("no log file")
    os.rename(mail.log_path, mail.log_path + ".1")
    mail.command("reload")
    with mail.raw("smtp") as c:
        c.line()
    wait_for("a new log file", lambda: os.path.exists(mail.log_path) and "connect from" in open(mail.log_path).read())


def test_restart_refuses_nobody(mail):
    """The sockets stay open: who connects meanwhile waits."""
    pid, ended, refused = mail.master.pid, threading.Event(), []

    def knock():
        while not ended.is_set():
            try:
                with mail.raw("smtp") as c:
                    c.line()
            except ConnectionRefusedError:
                refused.append("refused")
            except OSError:
                pass
    thread = threading.Thread(target=knock)
    thread.start()
    old = all_children(mail)
    mail.command("restart")
    ended.set()
    thread.join()
    assert not refused
    assert mail.master.poll() is None and mail.master.pid == pid
    assert not set(old) & set(all_children(mail))
    mail.send("bob@example.test")


def test_orderly_stop_says_goodbye_and_ends_in_order(mail):
    with mail.raw("smtp") as smtp, mail.raw("imap") as imap:
        smtp.reply()
        imap.line()
        mail.master.send_signal(signal.SIGTERM)
        assert smtp.reply().startswith("421")
        assert imap.line().startswith("* BYE")
    assert mail.stop() == 0
    assert not os.path.exists(os.path.join(mail.dir, "run", "control"))


def test_listener_moves_to_another_host_at_restart(mail):
    """The socket of before is in nobody's way, although it held the same port on all addresses."""
    path = os.path.join(mail.dir, "master.cf")
    text = open(path).read()
    port = mail.ports["pop3"]
    with open(path, "w") as f:
        f.write(re.sub(rf"(?m)^{port}(\s)", rf"127.0.0.2:{port}\1", text))
    mail.configure(inet_interfaces="all")
    mail.command("restart")
    with socket.create_connection(("127.0.0.2", port), timeout=10) as s:
        assert s.recv(3) == b"+OK"
