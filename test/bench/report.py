"""What is shown of the figures: a table on the terminal, the same as Markdown, and the rows of the chart."""

from peers import PostfixDovecot, Postrider
from relay import relay_rows

OURS, THEIRS = Postrider.name, PostfixDovecot.name
AIMS = {"4 KB, 20 sessions": 8, "4 KB, 1 session": 3, "100 KB, 20 sessions": 3}
# of memory, in bytes; and of the mailbox: not slower
MEMORY_AIMS = {"idle IMAP session": 12e3, "idle IMAP session, TLS": 40e3, "idle system": 50e6}
NOT_SLOWER = ("SELECT, first after start", "SELECT, again", "FETCH 1:* (FLAGS)", "FETCH of 1,000 messages (BODY.PEEK[])")


def number(v):
    return f"{v:,.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"


def ratio(values, higher_is_better):
    if THEIRS not in values:
        return None
    a, b = (values[OURS], values[THEIRS]) if higher_is_better else (values[THEIRS], values[OURS])
    return a / b if b > 0 else None


def rows(r):
    """(label, unit, {peer: value}, ratio or None, aimed at as text, reached or None)."""
    out = []

    def add(label, unit, values, higher=False, aim="", reached=None):
        if None in values.values() or not values:
            return
        out.append((label, unit, values, ratio(values, higher), aim, reached))
    for name, values in r.get("messages_per_second", {}).items():
        aim = AIMS.get(name)
        got = ratio(values, True)
        add(f"{name}", "messages/s", values, True, f"{aim}x" if aim else "", got and aim and got >= aim)
    for name in r.get("messages_per_second", {}):
        for kind in ("flushes", "system calls", "context switches", "CPU ms"):
            add(f"{kind} a message, {name}", "", {p: c[name].get(kind) for p, c in r["cost_a_message"].items()})
    for name, peers in r.get("mailbox", {}).items():
        values = {p: v["ms"] for p, v in peers.items()}
        got = ratio(values, False)
        add(name, "ms", values, False, "1x" if name in NOT_SLOWER else "", got and name in NOT_SLOWER and got >= 1)
    for name, values in r.get("idle_session_bytes", {}).items():
        aim = MEMORY_AIMS.get(name)
        add(f"memory, {name}", "KB", {p: b / 1e3 for p, b in values.items()}, False, aim and f"{aim / 1e3:.0f} KB" or "",
            aim and values[OURS] <= aim)
    if "idle_pss_bytes" in r:
        add("memory, idle system", "MB", {p: b / 1e6 for p, b in r["idle_pss_bytes"].items()}, False, "50 MB",
            r["idle_pss_bytes"][OURS] <= MEMORY_AIMS["idle system"])
    return out


def show_relay(r):
    rows_ = relay_rows(r)
    if rows_:
        print(f"\n{'mail that goes out':<50}{'postrider':>22}{'postfix':>22}{'better by':>11}{'aimed at':>10}")
    for label, unit, ours, theirs, times, aim, reached in rows_:
        print(f"{label:<50}{number(ours):>11} {unit:<10}" + (f"{number(theirs):>11} {unit:<10}" if theirs else " " * 22) +
              (f"{times:10.1f}x" if times else " " * 11) + f"{aim:>10}" + ("  MISSED" if reached is False and aim else ""))


def show(r):
    peers = list(r.get("idle_pss_bytes") or next(iter(r.get("mailbox", {"": {OURS: 0}}).values())))
    if rows(r):
        print(f"\n{'':<50}" + "".join(f"{p:>22}" for p in peers) + f"{'better by':>11}{'aimed at':>10}")
    for label, unit, values, times, aim, reached in rows(r):
        print(f"{label:<50}" + "".join(f"{number(values[p]):>11} {unit:<10}" for p in peers) +
              (f"{times:10.1f}x" if times else " " * 11) + f"{aim:>10}" + ("  MISSED" if reached is False and aim else ""))
    if "idle_pss_by_process" in r:
        print("\nof the idle system: " + ", ".join(f"{n} {b / 1e6:.1f}" for n, b in sorted(r["idle_pss_by_process"].items())) + " MB")
    for name, alone in r.get("journal_alone", {}).items():
        print(f"{name}: inbound reaches {100 * alone['inbound_share']:.0f} % of the journal alone "
              f"({alone['records_per_flush']:.1f} records a flush there)")
    for name, points in r.get("curves", {}).items():
        print(f"\n{name}")
        keys = [k for k in points[0] if k != "x"]
        print(f"{'':>10}" + "".join(f"{k[:17]:>18}" for k in keys))
        for p in points:
            print(f"{p['x']:>10,}" + "".join(f"{number(p[k]) if p.get(k) is not None else '-':>18}" for k in keys))


def markdown(r):
    """The tables of doc/performance.md."""
    out = ["| | Postrider | Postfix + Dovecot | better by | aimed at |", "|---|---|---|---|---|"]
    for label, unit, values, times, aim, reached in rows(r):
        theirs = f"{number(values[THEIRS])} {unit}" if THEIRS in values else ""
        mark = "" if not aim else (", reached" if reached else ", **missed**")
        out.append(f"| {label} | {number(values[OURS])} {unit} | {theirs} | {f'{times:.1f}x' if times else ''} | {aim}{mark} |")
    relayed = relay_rows(r)
    if relayed:
        out += ["", "| mail that goes out | Postrider | Postfix | better by | aimed at |", "|---|---|---|---|---|"]
    for label, unit, ours, theirs, times, aim, reached in relayed:
        mark = "" if not aim or reached is None else (", reached" if reached else ", **missed**")
        out.append(f"| {label.strip()} | {number(ours)} {unit} | {f'{number(theirs)} {unit}' if theirs else ''} | "
                   f"{f'{times:.1f}x' if times else ''} | {aim}{mark} |")
    for name, points in r.get("curves", {}).items():
        keys = [k for k in points[0] if k != "x"]
        out += ["", f"| {name} | " + " | ".join(k.replace("_", " ") for k in keys) + " |", "|---" * (len(keys) + 1) + "|"]
        for p in points:
            out.append(f"| {p['x']:,} | " + " | ".join(number(p[k]) if p.get(k) is not None else "" for k in keys) + " |")
    return "\n".join(out)


def ratios(r):
    """(label, times better, aimed at or None) for the chart: what users see, not its causes."""
    out = []
    for label, _, _, times, aim, _ in rows(r):
        if times and " a message, " not in label:
            out.append((label, times, float(aim[:-1]) if aim.endswith("x") else None))
    for label, _, _, _, times, aim, _ in relay_rows(r):
        if times:
            out.append((label, times, float(aim[:-1])))
    return out
