"""What the benchmark measures: messages a second, what one message costs, what one idle session costs."""

import json
import os
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

from peers import DOMAIN, memory_pss, wait_for

USER = f"bob@{DOMAIN}"


def send(peer, sessions, size, messages):
    done = subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), "-d",
                           "-f", "load@elsewhere.test", "-t", USER, f"inet:127.0.0.1:{peer.port}"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"smtp-source against {peer.name}: {done.stderr}")


def load(peer, sessions, size, messages):
    """Messages per second, from the first connection until the last one stands in the Maildir."""
    before = peer.delivered()
    start = time.monotonic()
    send(peer, sessions, size, messages)
    wait_for(f"{peer.name} to deliver", lambda: peer.delivered() >= before + messages, timeout=300)
    return messages / (time.monotonic() - start)


# ---- what one message costs --------------------------------------------------------------------------------

FLUSHES = ("fdatasync", "fsync", "syncfs", "sync_file_range")
COSTS = {**{f"syscalls:sys_enter_{s}": "flushes" for s in FLUSHES},
         "raw_syscalls:sys_enter": "system calls", "context-switches": "context switches", "task-clock": "CPU ms"}


def cost(peer, sessions, size, messages):
    """Flushes, system calls, context switches and CPU time a message, of all processes of the peer together.
    Empty where the kernel or the tools do not count."""
    before = peer.delivered()
    events = [e for name in COSTS for e in ("-e", name)]
    with tempfile.NamedTemporaryFile("r") as out:
        try:
            counter = subprocess.Popen(["perf", "stat", "-x", ";", "-o", out.name, *events, "-p", ",".join(map(str, peer.pids()))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            return {}
        time.sleep(0.5)                  # perf says nowhere that it has begun
        if counter.poll() is not None:
            return {}
        send(peer, sessions, size, messages)
        wait_for(f"{peer.name} to deliver", lambda: peer.delivered() >= before + messages, timeout=300)
        counter.send_signal(signal.SIGINT)
        counter.wait()
        return read_counts(out.name, messages)


def read_counts(path, messages):
    total = {}
    for line in open(path):
        fields = line.split(";")
        kind = COSTS.get(fields[2]) if len(fields) > 2 else None
        if kind is None:
            continue
        try:
            value = float(fields[0])
        except ValueError:
            return {}                    # <not supported>
        total[kind] = total.get(kind, 0) + value / messages
    return total


# ---- idle sessions -----------------------------------------------------------------------------------------

def say(s, line, until):
    s.sendall(line + b"\r\n")
    got = b""
    while until not in got:
        piece = s.recv(4096)
        if not piece:
            raise SystemExit(f"the server closed: {got!r}")
        got += piece
    if until != b"\r\n" and b"NO" in got.split():
        raise SystemExit(f"refused: {got!r}")


def idle_session(port, tls):
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        s = context.wrap_socket(s)
    s.recv(4096)
    say(s, f"a LOGIN {USER} secret".encode(), b"a OK")
    say(s, b"b SELECT INBOX", b"b OK")
    say(s, b"c IDLE", b"+ ")
    return s


def session_memory(peer, tls, count):
    """Bytes of memory (PSS of all processes) that one more IMAP session takes: logged in, INBOX selected, in IDLE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = peer.imaps if tls else peer.imap
    sessions = [idle_session(port, tls)]                 # what the first one loads, all have
    try:
        before = settled(peer)
        sessions += [idle_session(port, tls) for _ in range(count)]
        return (settled(peer) - before) / count
    finally:
        for s in sessions:
            s.close()


def settled(peer):
    """PSS after a while of nothing: threads that were started for a burst go when they were idle for ten seconds."""
    time.sleep(12)
    samples = []
    for _ in range(5):
        samples.append(memory_pss(peer.pids()))
        time.sleep(0.2)
    return statistics.median(samples)


# ---- the journal alone -------------------------------------------------------------------------------------

def journal_alone(program, directory, writers, size, records):
    """Records per second into a journal of their own, with as many writers waiting; None without the program."""
    if not os.path.exists(program):
        return None
    path = os.path.join(directory, "journal-alone")
    os.makedirs(path)
    try:
        done = subprocess.run([program, path, str(writers), str(size), str(records)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(path)
