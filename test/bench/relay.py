"""Mail that goes out: messages relayed, one message to thousands, and a queue of what could not be delivered."""

import os
import socket
import statistics
import subprocess
import threading
import time

from instance import free_ports, wait_for
from relay_peers import LogCount, PostfixRelay, PostriderRelay, Sink

SIZE = 4096
SESSIONS = 20
DESTINATIONS = 100
TOGETHER = 50                            # recipients in one delivery, both by default
AIMS = {"relay, 4 KB, 20 sessions": 6, "10,000 recipients, 100 destinations": 3,
        "deferred: list": 5, "deferred: flush one destination": 5, "deferred: flush one, until all were tried": 5,
        "deferred: flush one, until all have arrived": 5, "deferred: delete all": 5}
MEMORY_AIM = 300e6


def source(port, to, messages, sessions=SESSIONS, size=SIZE):
    done = subprocess.run(["smtp-source", "-s", str(min(sessions, messages)), "-m", str(messages), "-l", str(size), "-d",
                           "-f", "load@elsewhere.test", "-t", to, f"inet:127.0.0.1:{port}"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"smtp-source: {done.stderr}")


# ---- relay -------------------------------------------------------------------------------------------------

def until(sinks, count, start):
    """Seconds from start until the sinks had so many messages."""
    wait_for("the sink to have all", lambda: sum(s.messages() for s in sinks) >= count, timeout=1800)
    return time.monotonic() - start


def relayed(peer, sink, messages):
    before = sink.messages()
    start = time.monotonic()
    source(peer.port, "user@far.test", messages)
    return messages / until([sink], before + messages, start)


def tools_alone(directory, messages):
    """What smtp-source and smtp-sink reach with nothing between them."""
    sink = Sink(directory).ready()
    try:
        start = time.monotonic()
        source(sink.port, "user@far.test", messages)
        return messages / until([sink], messages, start)
    finally:
        sink.stop()


def relay_row(kinds, directory, options, say):
    ours, theirs = (max(100, int(n * options.scale)) for n in (20000, 4000))
    runs = {}
    sink = Sink(directory).ready()
    peers = [kind(directory) for kind in kinds]
    try:
        for p in peers:
            p.routes({"far.test": sink.port})
            p.start()
            relayed(p, sink, 50)
        for _ in range(options.rounds):
            for p in peers:
                runs.setdefault(p.name, []).append(relayed(p, sink, ours if p.name == "postrider" else theirs))
                say(f"relay, {p.name}: {runs[p.name][-1]:,.0f} messages/s")
            runs.setdefault("alone", []).append(tools_alone(directory, ours))
    finally:
        end(peers, [sink])
    return {name: statistics.median(r) for name, r in runs.items()}


# ---- one message to many -----------------------------------------------------------------------------------

def send_list(port, recipients):
    """One message to all of them, pipelined."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as s, s.makefile("rb") as f:
        def replies(n, code):
            for _ in range(n):
                line = f.readline()
                while line[3:4] == b"-":
                    line = f.readline()
                if not line.startswith(code):
                    raise SystemExit(f"the server said {line!r}")
        replies(1, b"220")
        s.sendall(b"EHLO client.test\r\n")
        replies(1, b"250")
        lines = [b"MAIL FROM:<list@elsewhere.test>\r\n", *(b"RCPT TO:<%s>\r\n" % r.encode() for r in recipients)]
        writer = threading.Thread(target=s.sendall, args=(b"".join(lines),))
        writer.start()
        replies(len(lines), b"250")
        writer.join()
        s.sendall(b"DATA\r\n")
        replies(1, b"354")
        s.sendall(b"From: <list@elsewhere.test>\r\nSubject: to all\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 56 + b".\r\n")
        replies(1, b"250")
        s.sendall(b"QUIT\r\n")


def listed(peer, sinks, recipients):
    messages = sum(-(-len(r) // TOGETHER) for r in recipients)
    before = sum(s.messages() for s in sinks)
    count = LogCount(peer.log, b"status=sent")
    # Domains take turns, as in a list that is sorted by nothing.
    mixed = [r[i] for i in range(max(map(len, recipients))) for r in recipients if i < len(r)]
    start = time.monotonic()
    send_list(peer.port, mixed)
    seconds = until(sinks, before + messages, start)
    wait_for("each recipient's line in the log", lambda: count.look() >= len(mixed), timeout=120)
    return seconds


def list_row(kinds, directory, options, say):
    """Each destination is a sink of its own: one nexthop would be one destination to both systems."""
    destinations = max(3, int(DESTINATIONS * min(1, options.scale * 10)))
    each = max(10, int(100 * min(1, options.scale * 10)))
    sinks = [Sink(directory, port) for port in free_ports(destinations)]
    recipients = [[f"user{i}@d{d:03}.test" for i in range(each)] for d in range(destinations)]
    runs = {}
    peers = [kind(directory) for kind in kinds]
    try:
        for s in sinks:
            s.ready()
        for p in peers:
            p.routes({f"d{d:03}.test": s.port for d, s in enumerate(sinks)})
            p.start()
        for _ in range(options.rounds):
            for p in peers:
                runs.setdefault(p.name, []).append(listed(p, sinks, recipients))
                say(f"{each * destinations:,} recipients, {p.name}: {runs[p.name][-1]:.2f} s")
    finally:
        end(peers, sinks)
    return {name: statistics.median(r) * 1000 for name, r in runs.items()}


# ---- what was deferred -------------------------------------------------------------------------------------

def timed(argv, path):
    """Milliseconds of a command; its output goes to a file, as a pipe would measure who reads it."""
    with open(path, "w") as out:
        start = time.monotonic()
        done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
    return (time.monotonic() - start) * 1000


def lists(peer, path, count):
    ms = timed(peer.tool("postqueue", "-p"), path)
    with open(path) as f:
        last = f.read().rstrip().rsplit("\n", 1)[-1]
    if f" in {count} Request" not in last:
        raise SystemExit(f"{peer.name} lists {last!r}, not {count} messages")
    return ms


def send_small(peer, to, messages):
    source(peer.port, to, messages, size=1000)


def flushes(peer, domains, each, directory, port, path):
    """What a flush of one destination takes: the command; with it, until each message was tried, where nobody listens;
    and until the last has arrived, when the destination is there again."""
    count = LogCount(peer.log, b"status=deferred")
    start = time.monotonic()
    command = timed(peer.tool("postqueue", "-s", domains[0]), path)
    wait_for("all to be tried", lambda: count.look() >= each, timeout=600)
    tried = (time.monotonic() - start) * 1000
    sink = Sink(directory, port).ready()
    try:
        start = time.monotonic()
        timed(peer.tool("postqueue", "-s", domains[1]), path)
        arrived = until([sink], each, start) * 1000
    finally:
        sink.stop()
    return {"deferred: flush one destination": command, "deferred: flush one, until all were tried": tried,
            "deferred: flush one, until all have arrived": arrived}


def queue_rows(kinds, directory, options, say):
    """Nobody listens at the destinations. Listing is read to the end; a deletion ends when all are gone."""
    total = max(100, int(options.queue * options.scale))
    domains = [f"d{d:03}.test" for d in range(min(DESTINATIONS, total // 10))]
    each = total // len(domains)
    path = os.path.join(directory, "listed")
    rows = {}
    for kind in kinds:
        p = kind(directory)
        port = free_ports(1)[0]
        try:
            p.routes(dict.fromkeys(domains, port))
            p.start()
            p.multiply(domains, each, send_small)
            say(f"{p.name}: {each * len(domains):,} messages are deferred")
            found = {"deferred: list": statistics.median(lists(p, path, each * len(domains)) for _ in range(options.rounds)),
                     **flushes(p, domains, each, directory, port, path),
                     "deferred: delete all": timed(p.tool("postsuper", "-d", "ALL"), path)}
            lists_nothing(p, path)
        finally:
            end([p], [])
        for name, ms in found.items():
            rows.setdefault(name, {})[p.name] = ms
            say(f"{name}, {p.name}: {ms:,.0f} ms")
    return rows


def lists_nothing(peer, path):
    timed(peer.tool("postqueue", "-p"), path)
    if "empty" not in open(path).read():
        raise SystemExit(f"{peer.name} did not delete all")


def pss(peer):
    sizes = peer.memory()
    return sum(sizes.values()), sizes


def fresh_ms(peer, sink):
    """A message to a destination that is well, while all others wait."""
    before = sink.messages()
    start = time.monotonic()
    source(peer.port, "user@healthy.test", 1)
    return until([sink], before + 1, start) * 1000


class Peak:
    """The most memory that the peer took, as far as a look a second finds it."""

    def __init__(self, peer):
        self.peer, self.bytes, self.processes, self.over = peer, 0, {}, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(1):
            all, sizes = pss(self.peer)
            self.bytes = max(self.bytes, all)
            self.processes = {n: max(self.processes.get(n, 0), b) for n, b in sizes.items()}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *why):
        self.over.set()
        self.thread.join()


def disk_bytes(path):
    return int(subprocess.run(["du", "-s", "--block-size=1", path], capture_output=True, text=True).stdout.split()[0])


def looks_at_all(p, path, found):
    """What commands take; whether new mail passes while all that waits is tried anew."""
    found["list_ms"] = lists(p, path, found["messages"])
    found["bytes_after_list"], found["by_process_after_list"] = pss(p)
    for key, words in (("list_json_ms", ["list", "--json"]), ("by_destination_ms", ["list", "--by-destination"])):
        found[key] = timed(p.command("queue", *words), path)
    os.unlink(path)


def deferred(directory, options, say):
    """A great queue of Postrider's alone: its memory, the time of a start with it, and whether it is in anybody's way."""
    total = max(100, int(options.deferred * options.scale))
    domains = [f"d{d:03}.test" for d in range(min(DESTINATIONS, total // 10))]
    each = total // len(domains)
    sink = Sink(directory).ready()
    p = PostriderRelay(directory)
    try:
        p.routes({**dict.fromkeys(domains, free_ports(1)[0]), "healthy.test": sink.port})
        p.start()
        fresh_ms(p, sink)
        found = {"messages": each * len(domains), "empty_bytes": pss(p)[0], "empty_fresh_ms": fresh_ms(p, sink)}
        empty_disk = disk_bytes(p.directory)
        start = time.monotonic()
        with Peak(p) as peak:
            p.multiply(domains, each, send_small)
        found["fill_per_second"] = found["messages"] / (time.monotonic() - start)
        found["bytes_after_filling"], found["by_process_after_filling"] = pss(p)
        found["bytes_at_most_while_filling"], found["by_process_at_most"] = peak.bytes, peak.processes
        found["fresh_ms"] = fresh_ms(p, sink)
        found["disk_bytes_a_message"] = (disk_bytes(p.directory) - empty_disk) / found["messages"]
        say(f"{found['messages']:,} deferred: {found['disk_bytes_a_message']:,.0f} bytes of disk a message")
        stop = time.monotonic()
        p.stop()
        found["stop_ms"] = (time.monotonic() - stop) * 1000
        start = time.monotonic()
        p.start()
        found["start_ms"] = (time.monotonic() - start) * 1000
        found["fresh_after_start_ms"] = fresh_ms(p, sink)
        found["bytes_after_start"], found["by_process_after_start"] = pss(p)
        path = os.path.join(directory, "listed")
        looks_at_all(p, path, found)
        with Peak(p) as peak:
            found["flush_ms"] = timed(p.command("queue", "flush"), path)
            found["fresh_while_all_are_tried_ms"] = max(fresh_ms(p, sink) for _ in range(5))
            found["hold_ms"] = timed(p.command("queue", "hold", "ALL"), path)
            found["delete_ms"] = timed(p.tool("postsuper", "-d", "ALL"), path)
        lists_nothing(p, path)
        found["bytes_at_most_while_acting"] = peak.bytes
        found["bytes_after_delete"], found["by_process_after_delete"] = pss(p)
        os.unlink(path)
    finally:
        end([p], [sink])
    say(f"{found['messages']:,} deferred: {found['bytes_after_filling'] / 1e6:.0f} MB, start {found['start_ms']:,.0f} ms")
    return found


# ---- all of it ---------------------------------------------------------------------------------------------

def end(peers, sinks):
    for p in peers:
        p.stop()
        p.remove()
    for s in sinks:
        s.stop()


def relay(directory, options, say):
    """Parts relay, list, queue and deferred, as far as they are asked for."""
    kinds = [PostriderRelay] + ([] if options.only else [PostfixRelay])
    found = {}
    if "relay" in options.parts:
        found["relay, 4 KB, 20 sessions"] = relay_row(kinds, directory, options, say)
    if "list" in options.parts:
        found["10,000 recipients, 100 destinations"] = list_row(kinds, directory, options, say)
    if "queue" in options.parts:
        found.update(queue_rows(kinds, directory, options, say))
    return found


def relay_rows(r):
    """(label, unit, ours, theirs or None, times better or None, aimed at, reached or None)"""
    out = []
    for name, values in r.get("relay", {}).items():
        higher = "alone" in values
        ours, theirs = values["postrider"], values.get("postfix")
        times = theirs and (ours / theirs if higher else theirs / ours)
        out.append((name, "messages/s" if higher else "ms", ours, theirs, times, f"{AIMS[name]}x", times and times >= AIMS[name]))
        if higher:
            out.append(("  smtp-source to smtp-sink alone", "messages/s", values["alone"], None, None, "", None))
    d = r.get("deferred")
    if d:
        n = f"{d['messages']:,} deferred: "
        for key in ("bytes_at_most_while_filling", "bytes_after_filling", "bytes_after_start", "bytes_after_list",
                    "bytes_at_most_while_acting"):
            out.append((n + "memory " + key[6:].replace("_", " "), "MB", d[key] / 1e6, None, None, "300 MB", d[key] <= MEMORY_AIM))
        out.append((n + "memory a message", "bytes", (d["bytes_after_filling"] - d["empty_bytes"]) / d["messages"], None, None, "", None))
        out.append((n + "disk a message", "bytes", d["disk_bytes_a_message"], None, None, "", None))
        for key in ("start_ms", "stop_ms", "list_ms", "list_json_ms", "by_destination_ms", "flush_ms", "hold_ms", "delete_ms",
                    "empty_fresh_ms", "fresh_ms", "fresh_after_start_ms", "fresh_while_all_are_tried_ms"):
            out.append((n + key[:-3].replace("_", " "), "ms", d[key], None, None, "", None))
    return out
