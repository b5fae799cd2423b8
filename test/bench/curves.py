"""How cost grows, of Postrider alone: with parallel sessions, with the size of messages, with messages in a mailbox, with
accounts. Each curve is a list of points {"x": ..., NAME: value, ...}; curve() draws what CURVES names.

A point runs until it has done enough or its share of the time is over; it says what it did, so nothing is extrapolated.
State bytes are what the index holds in use (journal and Maildir files apart), after a checkpoint."""

import os
import resource
import shutil
import smtplib
import socket
import struct
import subprocess
import tempfile
import time

from mailbox import Imap, make_message
from measure import FLUSHES, cost, send
from peers import DOMAIN, Postrider, memory_pss, wait_for

SESSIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
SIZES = (1, 4, 16, 64, 100, 400, 1024, 4096, 16384, 51200)          # KB
MAILBOX = (1, 10, 100, 1000, 10000, 100000, 1000000)
ACCOUNTS = (10, 100, 1000, 10000, 100000)

# key of the result: title, x axis, then lines (key of the point, label, axis label); drawn one panel an axis label
CURVES = {
    "sessions": ("Parallel sessions, 4 KB messages", "sessions", [
        ("per_second", "Postrider", "messages/s"),
        ("load_tool_alone", "load tool alone", "messages/s"),
        ("cpu_us", "CPU", "microseconds a message"),
        ("flushes", "flushes", "flushes a message")]),
    "sizes": ("Size of the message, 8 sessions", "KB", [
        ("mb_per_second", "MB/s", "MB/s"),
        ("cpu_us_per_kb", "CPU", "microseconds a KB"),
        ("flushes", "flushes", "flushes a message")]),
    "mailbox": ("Messages in the mailbox", "messages", [
        ("select_ms", "SELECT", "milliseconds"),
        ("select_after_delivery_ms", "SELECT after a delivery", "milliseconds"),
        ("fetch_flags_ms", "FETCH 1:* (FLAGS)", "milliseconds"),
        ("delivery_ms", "one delivery", "milliseconds"),
        ("flag_ms", "one flag", "milliseconds"),
        ("fetch_one_ms", "FETCH of one", "milliseconds"),
        ("index_bytes_a_message", "index", "bytes a message")]),
    "accounts": ("Accounts", "accounts", [
        ("per_second", "messages/s, spread over them", "messages/s"),
        ("cpu_us", "CPU", "microseconds a message"),
        ("create_us", "creating one", "microseconds"),
        ("lookup_us", "RCPT of one", "microseconds"),
        ("pss_mb", "memory of all processes", "MB"),
        ("index_bytes_an_account", "index and directory", "bytes an account")]),
}


# ---- small things --------------------------------------------------------------------------------------------

def fresh(directory, name):
    path = os.path.join(directory, name)
    os.makedirs(path)
    return Postrider(path)


def index_used(peer):
    """Bytes of the index's pages in use: the file is sparse and is reused, so its size says little. LMDB keeps two meta
    pages in turn; the last page used stands in them, and the pages of its free list are within a few of what a checkpoint frees."""
    peer.instance.command("status", check=False)
    path = os.path.join(peer.instance.dir, "spool", "store", "index.mdb")
    best = (0, 0)
    with open(path, "rb") as f:
        for page in (0, 1):
            f.seek(page * 4096 + 16)
            meta = f.read(136)
            # magic, version, address, mapsize, two struct MDB_db of 48 bytes, last page, transaction
            last, txn = struct.unpack_from("<QQ", meta, 24 + 2 * 48)
            best = max(best, (txn, last))
    return (best[1] + 1) * 4096


def stop_and_measure(peer):
    """The index after an orderly stop: all that was committed is in it."""
    peer.instance.stop()
    return index_used(peer)


def cpu_us(counts):
    return counts["CPU ms"] * 1000 if "CPU ms" in counts else None


def timed(peer, sessions, size, messages, users=None):
    """Messages a second until all are answered (which is until they are durable), and what each cost."""
    start = time.monotonic()
    send(peer, sessions, size, messages)
    took = time.monotonic() - start
    return messages / took


# ---- parallel sessions ---------------------------------------------------------------------------------------

def sink_alone(sessions, messages):
    """What smtp-source reaches against Postfix's smtp-sink, which only answers: the load tool's own limit."""
    if not shutil.which("smtp-sink"):
        return None
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    user = ["-u", "postfix"] if os.getuid() == 0 else []
    sink = subprocess.Popen(["smtp-sink", *user, f"inet:127.0.0.1:{port}", "5000"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        wait_for("smtp-sink", lambda: _greets(port))
        target = type("Sink", (), {"port": port, "name": "smtp-sink"})
        return timed(target, sessions, 4096, messages)
    finally:
        sink.terminate()
        sink.wait()


def _greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            return s.recv(3) == b"220"
    except OSError:
        return False


def sessions_curve(directory, options, say):
    points = []
    peer = fresh(directory, "sessions")
    peer.start()
    try:
        for n in [n for n in SESSIONS if n <= max(20, 2000 * options.scale)]:
            say(f"{n} sessions")
            messages = max(2 * n, int((500 + min(n, 20) * 300) * options.scale), 20)
            rate = timed(peer, n, 4096, messages)
            counts = cost(peer, n, 4096, max(n, messages // 3))
            points.append({"x": n, "messages": messages, "per_second": rate, "cpu_us": cpu_us(counts),
                           "flushes": counts.get("flushes"), "system_calls": counts.get("system calls"),
                           "pss_mb": memory_pss(peer.pids()) / 1e6, "load_tool_alone": sink_alone(n, messages)})
    finally:
        peer.stop()
    return points


# ---- size of messages ----------------------------------------------------------------------------------------

def sizes_curve(directory, options, say):
    points = []
    peer = fresh(directory, "sizes")
    peer.start()
    try:
        for kb in SIZES:
            say(f"{kb} KB")
            size, sessions = kb * 1024, 8
            messages = max(sessions, int(min(3000, 200_000 / kb) * options.scale))
            rate = timed(peer, sessions, size, messages)
            counts = cost(peer, sessions, size, max(sessions, messages // 3))
            cpu = cpu_us(counts)
            points.append({"x": kb, "messages": messages, "per_second": rate, "mb_per_second": rate * size / 1e6,
                           "cpu_us": cpu, "cpu_us_per_kb": cpu and cpu / kb, "flushes": counts.get("flushes")})
    finally:
        peer.stop()
    return points


# ---- messages in a mailbox -----------------------------------------------------------------------------------

class Filler:
    """Fills a mailbox fast: files put into its Maildir while nothing runs, found at the next SELECT."""

    def __init__(self, path, owner):
        self.cur, self.owner, self.count = os.path.join(path, "cur"), owner, 0

    def fill(self, count):
        text = make_message(1).encode()
        for i in range(self.count + 1, count + 1):
            name = f"{1700000000 + i // 10}.M{i % 10:06}P{i}.bench,S={len(text)},W={len(text) + text.count(10)}:2,{'S' if i % 2 else ''}"
            path = os.path.join(self.cur, name)
            with open(path, "wb") as f:
                f.write(text)
            os.chown(path, *self.owner)
        self.count = count


def best(times):
    """Of a few tries the fastest: the machine's other work only ever adds."""
    return min(times) * 1000


def deliver_once(peer, address):
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=600, local_hostname="bench.test") as s:
        s.mail("load@elsewhere.test")
        s.rcpt(address)
        start = time.perf_counter()
        s.data("Subject: one\r\n\r\nmore\r\n")
        return time.perf_counter() - start


def mailbox_point(peer, address, n, base):
    client = Imap(peer.imap, address)
    first = client.do("SELECT INBOX")[0]
    client.do("SELECT INBOX")
    point = {"x": n, "select_new_files_ms": first * 1000}
    point["select_ms"] = best([client.do("SELECT INBOX")[0] for _ in range(3)])
    point["fetch_flags_ms"] = best([client.do("FETCH 1:* (FLAGS)")[0] for _ in range(2)])
    point["fetch_one_ms"] = best([client.do(f"FETCH {1 + i % n} (BODY.PEEK[])")[0] for i in range(5)])
    point["flag_ms"] = best([client.do(f"STORE {1 + i % n} {'-+'[i % 2]}FLAGS.SILENT (\\Flagged)")[0] for i in range(6)])
    point["delivery_ms"] = best([deliver_once(peer, address) for _ in range(5)])
    point["select_after_delivery_ms"] = client.do("SELECT INBOX")[0] * 1000
    point["pss_mb"] = memory_pss(peer.pids()) / 1e6
    client.close()
    point["index_bytes"] = stop_and_measure(peer)
    point["index_bytes_a_message"] = (point["index_bytes"] - base) / n
    peer.start_imap()
    client = Imap(peer.imap, address)
    point["select_after_start_ms"] = client.do("SELECT INBOX")[0] * 1000
    client.close()
    peer.stop()
    return point


def mailbox_curve(directory, options, say):
    points = []
    for n in [n for n in MAILBOX if n <= 1000000 * options.scale]:
        say(f"{n} messages in the mailbox")
        peer = fresh(directory, f"mailbox-{n}")
        address = f"reader@{DOMAIN}"
        filled = []
        peer.take_maildir(address, lambda path, owner: filled.append(Filler(path, owner)))
        base = index_used(peer)
        filled[0].fill(n)
        peer.start_imap()
        try:
            points.append(mailbox_point(peer, address, n, base))
        finally:
            peer.stop()
            shutil.rmtree(peer.instance.dir)
    return points


# ---- accounts ------------------------------------------------------------------------------------------------

def load_spread(peer, sessions, messages, accounts):
    """Messages over all accounts, `sessions` at a time, by own code: smtp-source knows one recipient. Messages a second."""
    import threading
    text = b"Subject: spread\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n"
    left = iter(range(messages))
    lock = threading.Lock()
    failed = []

    def ask(s, line, code):
        s.sendall(line)
        got = b""
        while not got.endswith(b"\n") or got[:3] != code:
            piece = s.recv(4096)
            if not piece or (got + piece)[:3] != code:
                raise SystemExit(f"spread load: {(got + piece)!r}")
            got += piece

    def run():
        try:
            s = socket.create_connection(("127.0.0.1", peer.port), timeout=300)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.recv(4096)
            ask(s, b"HELO load.test\r\n", b"250")
            while True:
                with lock:
                    i = next(left, None)
                if i is None:
                    break
                # A step that visits all accounts before any comes again.
                ask(s, b"MAIL FROM:<load@elsewhere.test>\r\n", b"250")
                ask(s, b"RCPT TO:<u%d@%s>\r\n" % (i * 7919 % accounts, DOMAIN.encode()), b"250")
                ask(s, b"DATA\r\n", b"354")
                ask(s, text, b"250")
            s.close()
        except BaseException as e:
            failed.append(e)
    threads = [threading.Thread(target=run) for _ in range(sessions)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise SystemExit(f"spread load: {failed[0]}")
    return messages / (time.monotonic() - start)


def rcpt_us(peer, accounts, count):
    """One RCPT and its answer, in a transaction that names many: directory look-up, grant, admission."""
    took = []
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=300, local_hostname="bench.test") as s:
        for i in range(count):
            if i % 100 == 0:
                s.rset()
                s.mail("load@elsewhere.test")
            start = time.perf_counter()
            code, text = s.rcpt(f"u{(i * 7919 + 13) % accounts}@{DOMAIN}")
            took.append(time.perf_counter() - start)
            if code != 250:
                raise SystemExit(f"RCPT: {code} {text}")
        s.rset()
    return sorted(took)[len(took) // 2] * 1e6


def accounts_point(directory, n, options):
    peer = fresh(directory, f"accounts-{n}")
    peer.instance.init()
    lines = "".join(f"u{i}@{DOMAIN}:{{PLAIN}}secret\n" for i in range(n))
    empty = os.path.getsize(os.path.join(peer.instance.dir, "directory", "accounts.sqlite"))
    start = time.monotonic()
    peer.instance.command("user", "add", "--from", "-", input=lines, timeout=600)
    point = {"x": n, "create_us": (time.monotonic() - start) / n * 1e6}
    peer.start_imap()
    try:
        point["pss_idle_mb"] = memory_pss(peer.pids()) / 1e6
        point["lookup_us"] = rcpt_us(peer, n, max(100, int(1000 * options.scale)))
        # Each account at least once where that is not too long: what a first message costs is its account's beginning.
        messages = max(20, int(min(max(n, 2000), 20000) * options.scale))
        before = cpu_ticks(peer)
        point["per_second"] = load_spread(peer, 8, messages, n)
        point["messages"] = messages
        point["cpu_us"] = (cpu_ticks(peer) - before) / messages * 1e6
        point["pss_mb"] = memory_pss(peer.pids()) / 1e6
    finally:
        peer.stop()
    used = min(n, messages)
    point["directory_bytes_an_account"] = (os.path.getsize(
        os.path.join(peer.instance.dir, "directory", "accounts.sqlite")) - empty) / n
    point["store_bytes_an_account"] = index_used(peer) / used
    point["index_bytes_an_account"] = point["directory_bytes_an_account"] + point["store_bytes_an_account"]
    shutil.rmtree(peer.instance.dir)
    return point


def cpu_ticks(peer):
    from mailbox import cpu_seconds
    return cpu_seconds(peer)


def accounts_curve(directory, options, say):
    points = []
    for n in [n for n in ACCOUNTS if n <= max(10, 100000 * options.scale)]:
        say(f"{n} accounts")
        points.append(accounts_point(directory, n, options))
    return points


# ---- all -----------------------------------------------------------------------------------------------------

MAKERS = {"sessions": sessions_curve, "sizes": sizes_curve, "mailbox": mailbox_curve, "accounts": accounts_curve}


def curves(directory, options, say):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return {name: MAKERS[name](directory, options, say) for name in options.curves}
