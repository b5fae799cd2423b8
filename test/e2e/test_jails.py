"""What a captured process can do, tried from inside its jail and on its channels: nothing beyond its row.

The attempts are those of src/proc/probe*.c, in test builds. Which system calls a filter lets through is tried call by
call in test/unit/os/sandbox_calls_test.c."""

import os
import re
import signal

import pytest

from instance import wait_for
from test_processes import ACCOUNTS, all_children, nobodys, probe, ready  # noqa: F401 (a fixture)

ROOT = os.getuid() == 0
# Directories and files that a process owns: what it can do there is its work.
ROWS = {"directory": ["directory"], "queue": ["spool/queue"], "store": ["spool/store", "mail"]}


# dns makes sockets, and tries to connect and bind what is open: no other socket of its lets it, and no path is as short.
EXPECTED = {"dns": r"allowed socket (2|10),[12]$|(EBADF|ENOTSOCK|EINVAL) (connect|bind) \d+$",
            "relay": r"allowed socket (2|10),1$|(EBADF|ENOTSOCK|EINVAL|EISCONN) (connect|bind) \d+$"}


def interesting(mail, name):
    """Paths that a captured process would like to see, and that are not its own."""
    paths = ["/etc/passwd", "/etc/shadow", "/dev/mem", "/dev/kmsg", "/proc/self/mem", "/proc/self/environ", "/proc/1/mem",
             "/proc/sys/kernel/core_pattern", "/sys/kernel", f"/proc/{mail.master.pid}/mem", f"/proc/{mail.master.pid}/fd"]
    paths += [f"/proc/{pid}/mem" for pid, other in mail.children().items() if other != name]
    ours = ["main.cf", "master.cf", "tls/key.pem", "run/control", "run/master.pid", "log/postrider.log", "spool", "spool/empty",
            "directory/accounts.sqlite", "spool/store/index.mdb", "spool/queue/index.mdb", "spool/store", "spool/queue", "mail"]
    for path in ours:
        own = [row for row in ROWS.get(name, []) if path == row or path.startswith(row + "/")]
        if not own and os.path.exists(os.path.join(mail.dir, path)):
            paths.append(os.path.join(mail.dir, path))
    if name != "store":
        paths += mail.messages("alice@example.test")
    return [path for path in paths if os.path.exists(path)]


def try_everything(mail, name, chroot):
    pids = [mail.master.pid, 1, *(p for p, other in mail.children().items() if other != name)]
    paths = interesting(mail, name)
    words = [f"hidden={int(chroot)}", f"port={mail.ports['smtp']}", f"control={mail.dir}/run/control",
             "pids=" + "|".join(map(str, pids))]
    pid = mail.pid_of(name)
    found, tried = [], 0
    unreal = EXPECTED.get(name, "^$")
    for what in (["paths", "out=" + "|".join(paths), f"hidden={int(chroot)}"], ["jail", *words]):
        *lines, last = probe(mail, name, *what).splitlines()
        assert last.startswith("tried "), last
        found += [line for line in lines if not re.match(unreal, line)]
        tried += int(re.match(r"tried (\d+)", last).group(1))
    assert mail.pid_of(name) == pid
    return found, tried


@pytest.fixture
def with_mail(mail):
    mail.send("alice@example.test")
    mail.wait_messages("alice@example.test", 1)
    return mail


@pytest.fixture
def nobodys_mail(nobodys):  # noqa: F811
    nobodys.send("alice@example.test")
    nobodys.wait_messages("alice@example.test", 1)
    return nobodys


def nothing_beyond_the_rows(mail, chroot):
    all_children(mail)
    beyond = {}
    for name in sorted(ACCOUNTS):
        ready(mail, name)
        found, tried = try_everything(mail, name, chroot)
        assert tried > 800, name
        if found:
            beyond[name] = found
    assert not beyond, "\n".join(f"{name}: {line}" for name, lines in beyond.items() for line in lines)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_nothing_beyond_its_row(with_mail):
    nothing_beyond_the_rows(with_mail, chroot=True)


def test_nothing_beyond_its_row_without_root(nobodys_mail):
    nothing_beyond_the_rows(nobodys_mail, chroot=False)


# ---- descriptors ----

def unix_sockets():
    """inode -> (type, state) of the machine's UNIX sockets."""
    rows = [line.split() for line in open("/proc/net/unix").read().splitlines()[1:]]
    return {row[6]: "listening" if int(row[3], 16) & 0x10000 else   # SO_ACCEPTCON
            {"0001": "stream", "0005": "seqpacket", "0002": "datagram"}[row[4]] for row in rows}


def tcp_sockets():
    """inode -> state of the machine's TCP sockets."""
    rows = [line.split() for path in ("/proc/net/tcp", "/proc/net/tcp6") if os.path.exists(path)
            for line in open(path).read().splitlines()[1:]]
    return {row[9]: "listening" if row[3] == "0A" else "connected" for row in rows}


def descriptors(pid):
    """fd -> (what, access mode), of a process, as the kernel tells."""
    unix, tcp, found = unix_sockets(), tcp_sockets(), {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        flags = int(re.search(r"flags:\s*(\d+)", open(f"/proc/{pid}/fdinfo/{fd}").read()).group(1), 8)
        inode = re.match(r"socket:\[(\d+)\]", target)
        what = target
        if inode:
            what = unix.get(inode.group(1)) or tcp.get(inode.group(1)) or target
        elif target.startswith("pipe:"):
            what = "pipe"
        found[int(fd)] = (what, "r w rw".split()[flags & 3])
    return found


CHANNELS = {"smtpd": 4, "access": 2, "relay": 4 + 1, "dns": 3 + 4, "directory": 5, "queue": 3, "store": 5}   # those of master included; two pairs inside libunbound
OWN = {"smtpd": 1, "access": 1}                                                            # timers of the engine


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_every_descriptor_is_explained(with_mail):
    mail = with_mail
    for pid, name in all_children(mail).items():
        ready(mail, name)

        def settled():
            have = descriptors(pid)
            return [w for w, _ in have.values()].count("stream") == CHANNELS[name] and "connected" not in \
                [w for w, _ in have.values()] and have
        have = wait_for(f"the channels of {name}: {descriptors(pid)}", settled)
        assert [have.pop(fd) for fd in range(5)] == [("/dev/null", "rw"), ("/dev/null", "rw"), ("pipe", "w"), ("seqpacket", "rw"),
                                                     ("pipe", "w")], name
        left = sorted(have.values())
        listening = len([1 for what, _ in left if what == "listening"])
        assert listening == {"smtpd": 5, "access": 4}.get(name, 0), (name, left)
        mine = [os.path.join(mail.dir, row) for row in ROWS.get(name, [])]
        for what, mode in left:
            known = what in ("stream", "listening") or re.match(r"anon_inode:\[?(eventpoll|eventfd|timerfd|inotify)", what)
            assert known or any(what == row or what.startswith(row + "/") for row in mine), (name, what, mode)


# ---- the network ----

def network_of_dns(mail, other):
    all_children(mail)
    ready(mail, "dns")
    return [line for line in probe(mail, "dns", "network", other, mail.ports["smtp"]).splitlines()[:-1]]


def test_dns_connects_to_the_ports_of_its_servers_only(mail):
    # Port 9 is the one of the servers that it was given, and nobody is there.
    assert network_of_dns(mail, 9) == ["ECONNREFUSED connect to port 9"]


def test_without_root_dns_connects_to_the_ports_of_its_servers_only(nobodys):  # noqa: F811
    assert network_of_dns(nobodys, 9) == ["ECONNREFUSED connect to port 9"]


def test_relay_connects_and_nothing_else(mail):
    ready(mail, "relay")
    lines = probe(mail, "relay", "network", 9, mail.ports["smtp"]).splitlines()[:-1]
    # To other people's servers it may; it has no port that anybody could call.
    assert [line for line in lines if not re.match(r"EBADF (bind|accept)", line)] == [
        "ECONNREFUSED connect to port 9", f"allowed connect to port {mail.ports['smtp']}"]


@pytest.mark.parametrize("process", ["smtpd", "access", "directory", "queue", "store"])
def test_nobody_else_makes_a_socket(mail, process):
    ready(mail, process)
    lines = probe(mail, process, "network", 9, mail.ports["smtp"]).splitlines()[:-1]
    assert not [line for line in lines if not re.match(r"EBADF (bind|accept|connect)", line)], lines


# ---- what it writes ----

def test_a_line_of_the_log_is_of_who_wrote_it(mail):
    all_children(mail)
    pid, store = mail.pid_of("smtpd"), mail.pid_of("store")
    forged = "Nov 22 10:00:00 mail postrider/store[%d]: account 1: rights revoked"
    for line in (forged % store, forged % pid, "no name at all", f"Nov 22 10:00:00 mail dovecot[{pid}]: imap-login: Login: user=<x>",
                 f"Nov 22 10:00:00 mail postrider/cleanup[{pid}]: 4cQ: message-id=<its own>"):
        assert probe(mail, "smtpd", "log", line) == "allowed"
    mail.wait_log(r"postrider/cleanup\[%d\]: 4cQ: message-id=<its own>" % pid)
    log = mail.log()
    assert not re.search(r"(?m)^.{15} \S+ postrider/store\[.*rights revoked", log)
    assert not re.search(r"(?m)^.{15} \S+ dovecot\[.*user=<x>", log)
    assert len(re.findall(r"(?m)^.{15} \S+ postrider/smtpd\[%d\]: .*rights revoked" % pid, log)) == 2
    assert re.search(r"(?m)^.{15} \S+ postrider/smtpd\[%d\]: .*no name at all" % pid, log)
    mail.wait_log(r"postrider/smtpd\[%d\]: .*\?\[2Jescape" % pid)
    assert "\x1b" not in log


def test_a_listener_that_was_taken_apart_serves_again(mail):
    all_children(mail)
    pid = mail.pid_of("smtpd")
    assert probe(mail, "smtpd", "listeners", mail.ports["imap"]) == "listeners 4"
    os.kill(pid, signal.SIGKILL)
    wait_for("another smtpd", lambda: mail.pid_of("smtpd") != pid)
    ready(mail, "smtpd")
    mail.send("bob@example.test")


def test_a_blob_ends_where_the_kernel_says(mail):
    all_children(mail)
    limit = 10240000 + (1 << 20)
    for target in ("store", "queue"):
        said = probe(mail, "smtpd", "blob", target, 100 << 20)
        assert re.match(rf"wrote {limit} EFBIG truncate EPERM", said), said
    assert probe(mail, "access", "blob", "store", 100 << 20).startswith(f"wrote {limit} EFBIG")
    assert str(1 << 30) in open(f"/proc/{mail.pid_of('relay')}/limits").read(), "what the spools take at most"
    mail.configure(message_size_limit=20 << 20)
    mail.command("reload")
    limit = (20 << 20) + (1 << 20)
    # Set by master, or where it may not (CAP_SYS_RESOURCE), by a process that begins anew.
    wait_for("the new limit", lambda: str(limit) in open(f"/proc/{mail.pid_of('smtpd')}/limits").read())
    ready(mail, "smtpd")
    assert probe(mail, "smtpd", "blob", "store", 100 << 20).startswith(f"wrote {limit} EFBIG")
    mail.send("bob@example.test")


# ---- grants ----

def u64(*values):
    return b"".join(value.to_bytes(8, "little") for value in values)


def text(*values):
    return b"".join(len(value.encode()).to_bytes(4, "little") + value.encode() for value in values)


def call(mail, process, peer, number, message):
    return probe(mail, process, "call", peer, number, message.hex() or "-")


MAILBOX, QUOTA, ADMIT = 2, 16, 17
MAILBOXES, BODY, BLOB_BEGIN, BLOB_FINISH, GRANT, REVOKE, FSCK = 1, 8, 13, 14, 18, 20, 21
RESOLVE, AUTH_PLAIN, SESSION_END = 1, 4, 8
QUEUE_CLAIM, QUEUE_ACT = 2, 8


def resolve(session, address):
    """DIR_RESOLVE_FIELDS: maps, admit, size, whole, here are behind the address."""
    return u64(session) + text(address) + b"\0\0" + u64(0) + b"\0\0"


def log_in(mail, process, session, user, password="secret", service="imap"):
    """A log-in that the captured process makes by itself, with a password it has heard."""
    said = call(mail, process, "directory", AUTH_PLAIN,
                u64(session) + text(service, user, password, "127.0.0.1") + b"\1")
    assert said.startswith("ok 02"), said            # AUTH_OK, an empty challenge, the account
    return int.from_bytes(bytes.fromhex(said[3:])[5:13], "little")


def test_grants_are_neither_forged_nor_widened_nor_survive_their_session(mail):
    all_children(mail)
    alice, bob = log_in(mail, "access", 777, "alice@example.test"), log_in(mail, "access", 778, "bob@example.test")
    assert call(mail, "access", "store", MAILBOXES, u64(777, alice)).startswith("ok")
    # Another session, account, process; what is guessed; and what only directory and master may ask.
    for process, session, account in (("access", 777, bob), ("access", 778, alice), ("access", 0, alice), ("access", 2**64 - 1, alice),
                                      ("access", 777, 2**63), ("smtpd", 777, alice), ("relay", 777, alice)):
        wait_for("the time when grants are waited for to end",
                 lambda: call(mail, process, "store", MAILBOXES, u64(session, account)).startswith("refused"))
    grant = u64(2 << 8 | 3, 777, bob) + b"\x0f" + u64(0, 0) + text("example.test/bob") + b"\0" + u64(0, 0)
    for process in ("access", "smtpd", "relay"):
        for number, message in ((GRANT, grant), (REVOKE, u64(bob)), (FSCK, u64(0) + text("") + b"\0")):
            assert "not for this process" in call(mail, process, "store", number, message)
    assert call(mail, "access", "directory", RESOLVE, resolve(777, "bob@example.test")).startswith("refused")
    assert call(mail, "smtpd", "queue", QUEUE_CLAIM, (1).to_bytes(4, "little") * 3).startswith("refused")
    assert call(mail, "smtpd", "queue", QUEUE_ACT, b"\1" + text("") + bytes(4) + text("") * 2 + u64(0) + b"\0").startswith("refused")
    # A password that smtpd has heard opens no mailbox to it.
    assert log_in(mail, "smtpd", 9, "alice@example.test") == alice
    assert call(mail, "smtpd", "store", MAILBOXES, u64(9, alice)).startswith("refused")
    # Nor does the right to deliver, which it has to whom it names: not even what mailboxes there are is told.
    for process in ("smtpd", "relay"):
        assert call(mail, process, "directory", RESOLVE, resolve(9, "bob@example.test")).startswith("ok")
        for number, more in ((MAILBOXES, b""), (MAILBOX, text("INBOX")), (QUOTA, b""), (ADMIT, u64(0))):
            assert "not for this process" in call(mail, process, "store", number, u64(9, bob) + more)
    # The session ends, and its grant with it.
    probe(mail, "access", "flood", "directory", SESSION_END, u64(777).hex(), 1)
    wait_for("the grant to end", lambda: call(mail, "access", "store", MAILBOXES, u64(777, alice)).startswith("refused"))
    mail.wait_log(r"store: access#\d+: call 18 refused: that is not for this process")


def test_grants_stand_through_a_restart_of_the_store_and_end_with_a_revoke(mail):
    all_children(mail)
    mail.send("bob@example.test")
    alice, bob = log_in(mail, "access", 777, "alice@example.test"), log_in(mail, "access", 778, "bob@example.test")

    def may(session, account, number=MAILBOXES, more=b""):
        return call(mail, "access", "store", number, u64(session, account) + more).startswith("ok")

    def restart():
        pid = mail.pid_of("store")
        os.kill(pid, signal.SIGKILL)
        wait_for("another store", lambda: mail.pid_of("store") != pid)
        all_children(mail)

    first = (1).to_bytes(4, "little") * 2            # INBOX, UID 1
    assert may(778, bob, BODY, first) and not may(777, bob, BODY, first) and not may(777, alice, BODY, first)
    # A blob is of the channel that began it.
    said = call(mail, "access", "store", BLOB_BEGIN, u64(777, 0))
    assert said.startswith("ok "), said
    blob = bytes.fromhex(said[3:])[:8]
    for process in ("smtpd", "relay"):
        assert call(mail, process, "store", BLOB_FINISH, blob + u64(0) + bytes(4)).startswith("refused")
    restart()
    wait_for("the grant to be told again", lambda: may(777, alice))
    assert may(778, bob, BODY, first)
    assert call(mail, "access", "store", BLOB_FINISH, blob + u64(0) + bytes(4)).startswith("refused")
    mail.command("user", "set", "alice@example.test", "--disable")
    wait_for("the grant to be taken back", lambda: not may(777, alice))
    assert may(778, bob)
    restart()
    wait_for("the grant to be told again", lambda: may(778, bob))
    wait_for("the time when grants are waited for to end", lambda: not may(777, alice))
    assert not may(777, alice) and not may(777, bob) and may(778, bob)


def test_who_breaks_the_rules_of_a_channel_is_replaced(mail):
    all_children(mail)
    for target, frame in (("store", "ff" * 40), ("directory", "00000000ffff0000" + "01" + "00" * 7), ("queue", "01000000010000000100000000000000ff")):
        pid = mail.pid_of("smtpd")
        assert probe(mail, "smtpd", "frame", target, frame) in ("sent", "killed")
        mail.wait_log(rf"process smtpd\[{pid}\] broke the rules of its channel to {target}")
        wait_for("another smtpd", lambda: mail.pid_of("smtpd") != pid)
        ready(mail, "smtpd")
    mail.send("bob@example.test")


# ---- what it tells master ----

ROLES = {"smtpd": 2, "access": 3, "relay": 4, "dns": 5, "directory": 6, "queue": 7, "store": 8}
PROC_READY, PROC_REPORT, PROC_MISSING = 32, 36, 37
MAY_ASK = {"smtpd": ("store", "directory", "queue", "dns"), "access": ("store", "directory"), "dns": (),
           "relay": ("store", "directory", "queue", "dns")}


def tell(mail, process, number, message):
    assert probe(mail, process, "tell", (number.to_bytes(2, "little") + message).hex()) == "allowed"


def tag_of(mail, name):
    """Of the process that has this name now, as others call it."""
    serial = mail.wait_log(rf"process {name}\[{mail.pid_of(name)}\] is ready: .* call it {name}#(\d+)")[1]
    return int(serial) << 8 | ROLES[name]


def test_nobody_is_ended_because_a_captured_process_says_so(mail):
    before = all_children(mail)
    for name in before.values():
        ready(mail, name)
    for liar in MAY_ASK:
        for name in ROLES:
            tell(mail, liar, PROC_REPORT, u64(tag_of(mail, name)) + text("bytes that are no message"))
            mail.wait_log(rf"process {liar}\[\d+\] says that {name}#\d+ broke the rules")
    assert mail.children() == before
    mail.send("bob@example.test")


def test_master_makes_no_channel_that_is_not_its_to_have(mail):
    before = all_children(mail)
    for name in before.values():
        ready(mail, name)
    for process, callees in MAY_ASK.items():
        for name in set(ROLES) - set(callees):
            tell(mail, process, PROC_MISSING, ROLES[name].to_bytes(4, "little") + u64(0))
            mail.wait_log(rf"process {process}\[\d+\] asks for a channel to {name}")
        tell(mail, process, PROC_MISSING, (2**32 - 1).to_bytes(4, "little") + u64(0))
    assert mail.children() == before
    mail.send("bob@example.test")


def test_a_captured_process_says_nothing_that_a_terminal_obeys(mail):
    all_children(mail)
    ready(mail, "smtpd")
    tell(mail, "smtpd", PROC_READY, text("root\x1b[2J\u009b2J\r\nqueue"))
    mail.wait_log("is ready: root")
    said = mail.command("status").stdout
    assert "root" in said and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", mail.log())


def test_a_flood_lets_others_be_served(mail):
    all_children(mail)
    log_in(mail, "access", 5, "alice@example.test")
    said = probe(mail, "smtpd", "flood", "directory", RESOLVE, resolve(1, "alice@example.test").hex(), 20000)
    assert said.startswith("sent ")
    assert log_in(mail, "access", 6, "bob@example.test")
    assert mail.count("alice@example.test") == 0
