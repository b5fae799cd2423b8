"""Where one inbound message goes: what each layer can do alone, and what a message costs each process.

Layers: the journal alone (test/bench/journal.c), the store's engine alone (test/bench/store.c), SMTP alone (every
message is refused at its end, so that smtpd and directory do all they do but hand it over), the whole."""

import json
import os
import shutil
import smtplib
import subprocess
import threading
import time

from measure import USER, load

A_CONNECTION = 5
HOPS = "".join(f"Received: from a by b; Mon, 1 Jan 2024 00:00:{i % 60:02} +0000\r\n" for i in range(60))


def alone(program, directory, *arguments):
    """What a program of test/bench prints, as a dictionary; None when it was not built."""
    if not os.path.exists(program):
        return None
    path = os.path.join(directory, os.path.basename(program) + "-alone")
    os.makedirs(path)
    try:
        done = subprocess.run([program, path, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(path)


def refused(port, size, messages, failures):
    """Each message runs through the whole dialog and is refused at its end, for too many hops. A few a connection:
    who is refused too often is made to wait."""
    body = HOPS + "\r\n" + "x" * max(1, size - len(HOPS)) + "\r\n"
    try:
        for first in range(0, messages, A_CONNECTION):
            with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as s:
                s.helo()
                for _ in range(min(A_CONNECTION, messages - first)):
                    s.mail("load@elsewhere.test")
                    s.rcpt(USER)
                    code, text = s.data(body)
                    if code != 554:
                        raise OSError(f"{code} {text}")
    except OSError as e:                 # smtplib's own errors are OSErrors, too
        failures.append(e)


def smtp_alone(peer, sessions, size, messages):
    """Refused messages a second. The client is Python, so it says less about speed than about cost."""
    failures = []
    threads = [threading.Thread(target=refused, args=(peer.port, size, messages // sessions, failures))
               for _ in range(sessions)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise SystemExit(f"a message that should have been refused was not: {failures[0]}")
    return messages // sessions * sessions / (time.monotonic() - start)


def used(pid):
    """User and kernel microseconds, and voluntary context switches of a process so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    tick = 1e6 / os.sysconf("SC_CLK_TCK")
    switches = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            for line in open(f"/proc/{pid}/task/{task}/status"):
                if line.startswith("voluntary_ctxt_switches"):
                    switches += int(line.split()[1])
        except FileNotFoundError:
            continue
    return int(fields[11]) * tick, int(fields[12]) * tick, switches


def by_process(peer, work, messages):
    """process -> user and kernel microseconds and voluntary context switches a message, while work() runs."""
    processes = peer.processes()
    before = {pid: used(pid) for _, pid in processes}
    work()
    found = {}
    for name, pid in processes:
        user, kernel, switches = (b - a for a, b in zip(before[pid], used(pid)))
        found[name] = {"user_us": user / messages, "kernel_us": kernel / messages, "switches": switches / messages}
    return found


def layers(peer, programs, directory, work, scale):
    """name of the work -> what the layers reach and what a message costs each process. Bodies that go inline only."""
    found = {}
    for name, sessions, size, count in work:
        messages = max(200, int(count * scale) // 4)
        if size > 65536:
            continue
        found[name] = {
            # Besides its bytes a message adds about 2 KB to the journal: headers of ours, summary, keys.
            "journal": alone(os.path.join(programs, "journal"), directory, sessions, size + 2048, messages),
            "store": alone(os.path.join(programs, "store"), directory, sessions, size, messages),
            "smtp_per_second": smtp_alone(peer, sessions, size, messages),
            "smtp_processes": by_process(peer, lambda: smtp_alone(peer, sessions, size, messages), messages),
            "whole_per_second": load(peer, sessions, size, messages),
            "whole_processes": by_process(peer, lambda: load(peer, sessions, size, messages), messages),
        }
    return found


def show_layers(found):
    for name, f in found.items():
        print(f"\n{name}, messages a second: "
              + (f"journal alone {f['journal']['records_per_second']:,.0f}, " if f["journal"] else "")
              + (f"store alone {f['store']['messages_per_second']:,.0f}, " if f["store"] else "")
              + f"SMTP alone (Python client) {f['smtp_per_second']:,.0f}, the whole {f['whole_per_second']:,.0f}")
        print(f"  {'a message costs':<22}{'user us':>10}{'kernel us':>11}{'switches':>10}   of it without the store")
        for process, cost in f["whole_processes"].items():
            smtp = f["smtp_processes"][process]
            if cost["user_us"] + cost["kernel_us"] < 1:
                continue
            print(f"  {process:<22}{cost['user_us']:>10.0f}{cost['kernel_us']:>11.0f}{cost['switches']:>10.1f}"
                  f"   {smtp['user_us']:.0f} + {smtp['kernel_us']:.0f}, {smtp['switches']:.1f}")
