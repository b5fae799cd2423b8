"""The SMTP client among servers that behave badly at every step: nothing is lost, nothing comes twice but where the end
of the data was sent and its answer not heard, each outcome has its code and its sentence, and nobody else waits.

One message goes to all of them at once. They misbehave until each has had its outcome; then they behave, the queue is
flushed, and everything that was put off must arrive."""
import contextlib
import email
import os
import re

from instance import Instance, wait_for
from smtpserver import CLOSE, EXTENSIONS, HANG, RESET, Hostile, certificate

LONG = 60                                # seconds; nobody waits this long unless something is broken
TIMEOUTS = {f"smtp_{n}_timeout": "2s" for n in ("connect", "helo", "starttls", "mail", "rcpt", "data_init", "data_xfer",
                                                 "data_done", "rset", "quit")}
SETTINGS = {**TIMEOUTS, "minimal_backoff_time": "2s", "maximal_backoff_time": "5s", "smtp_skip_quit_response": "no",
            "lmtp_data_done_timeout": "600s",
            "smtp_tls_security_level": "may", "message_size_limit": "30000000"}

WHERE = {"GREET": "receiving the initial server greeting", "EHLO": "performing the EHLO handshake",
         "STARTTLS": "sending STARTTLS", "HANDSHAKE": "performing the TLS handshake", "MAIL": "sending MAIL FROM",
         "RCPT": "sending RCPT TO", "DATA": "sending DATA command", "BODY": "sending message body",
         "END": "sending end of data -- message may be sent more than once"}
REPLY_TO = {"MAIL": "MAIL FROM command", "RCPT": "RCPT TO command", "DATA": "DATA command", "END": "end of DATA command"}

MANY = b"250-a line\r\n" * 10000 + b"250 the last\r\n"
LINE = b"250 " + b"x" * 1000000 + b"\r\n"
NO_REPLY = "sent something that is no SMTP reply while "
ACTIONS = {
    "hang": (HANG, "4.4.2", "conversation with {peer} timed out while {where}"),
    "close": (CLOSE, "4.4.2", "lost connection with {peer} while {where}"),
    "reset": (RESET, "4.4.2", "lost connection with {peer} while {where}"),
    "garbage": (b"Hello, what do you want?\r\n", "4.5.0", NO_REPLY + "{where}"),
    "halfhang": ([b"25", HANG], "4.4.2", "conversation with {peer} timed out while {where}"),
    "halfclose": ([b"250-the first line", CLOSE], "4.4.2", "lost connection with {peer} while {where}"),
    "many": ([MANY, HANG], "4.5.0", NO_REPLY + "{where}"),
    "long": ([LINE, HANG], "4.5.0", NO_REPLY + "{where}"),
}
REFUSALS = {"no421": ("421 4.3.2 go away", "4.3.2"), "no450": ("450 4.2.0 not now", "4.2.0"),
            "no550": ("550 5.7.1 never", "5.7.1")}
WAYS = {"": EXTENSIONS, "single": ("8BITMIME", "SIZE"), "bdat": (*EXTENSIONS, "CHUNKING")}


class Case:
    def __init__(self, name, steps, status, code, text, policy="", users=("x",), of=None, big=False, **options):
        self.name, self.status, self.code, self.text = name, status, code, text
        self.policy, self.steps, self.options = policy, steps, options
        self.big = big                   # gets a message that no socket buffer holds
        self.of = of                     # the case whose server it shares
        self.addresses = [f"{u}@{(of or self).name}.test" for u in users]

    def patterns(self):
        text = re.escape(self.text.format(peer="127.0.0.1[127.0.0.1]", port=self.server.port))
        return [rf"to=<{a}>, .*dsn={re.escape(self.code)}, status={self.status} \(.*{text}" for a in self.addresses]


def refusal(step, action):
    """What comes of a refusal: (status, code, sentence)."""
    reply, code = REFUSALS[action]
    if step in ("GREET", "EHLO"):
        # 5xx to EHLO: HELO is tried, and works. A greeting of 5xx: another host, another day (smtp_skip_5xx_greeting).
        if step == "EHLO" and action == "no550":
            return "sent", "2.0.0", "250 2.0.0 Ok: taken"
        return "deferred", code if code[0] == "4" else "4.0.0", f"host {{peer}} refused to talk to me: {reply}"
    return ("bounced" if action == "no550" else "deferred", code,
            f"host {{peer}} said: {reply} (in reply to {REPLY_TO[step]})")


def matrix():
    for way, extensions in WAYS.items():
        for step in ("GREET", "EHLO", "MAIL", "RCPT", "DATA", "END"):
            if (way and step in ("GREET", "EHLO")) or (way == "bdat" and step == "DATA"):
                continue
            for action, (what, code, text) in ACTIONS.items():
                yield Case(f"{step}-{action}{way}".lower(), {step: what}, "deferred", code,
                           text.replace("{where}", WHERE[step]), extensions=extensions)
            for action in REFUSALS:
                yield Case(f"{step}-{action}{way}".lower(), {step: REFUSALS[action][0]}, *refusal(step, action),
                           extensions=extensions)


def others():
    refuse = {"RCPT": "550 5.1.1 nobody", "DATA": "554 5.5.1 for whom?"}
    nobody = ("bounced", "5.1.1", "host {peer} said: 550 5.1.1 nobody (in reply to RCPT TO command)")
    taken = ("sent", "2.0.0", "250 2.0.0 Ok: taken")
    yield Case("connect-hang", {"CONNECT": HANG}, "deferred", "4.4.1", "connect to {peer}:{port}: Connection timed out")
    yield Case("neither", {"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 never"}, "bounced", "5.7.1",
               "host {peer} refused to talk to me: 550 5.7.1 never")
    for action in ("hang", "close", "garbage", "many"):
        what = ACTIONS[action][0]
        yield Case(f"rset-{action}", {**refuse, "RSET": what}, *nobody, extensions=("SIZE",))
        yield Case(f"quit-{action}", {"QUIT": what}, *taken)
    # Who takes a message for nobody, and then nothing.
    yield Case("data-for-nobody", {"RCPT": "550 5.1.1 nobody", "DATA": "354 go on", "END": HANG}, *nobody)
    # Who refuses, and hangs up on the rest of what was sent together.
    yield Case("mail-refused-close", {"MAIL": ["550 5.7.1 never", CLOSE]}, *refusal("MAIL", "no550"))
    yield Case("rcpt-refused-close", {"RCPT": ["550 5.1.1 nobody", CLOSE]}, *nobody)
    yield Case("end-taken-close", {"END": ["250 2.0.0 Ok: taken", CLOSE]}, *taken)
    yield Case("odd-code", {"MAIL": "299 2.9.9 odd but good"}, *taken)
    yield Case("wrong-class", {"END": "550 2.0.0 contradicts itself"}, "bounced", "5.0.0", "said: 550 2.0.0 contradicts")
    yield Case("intermediate", {"END": "354 go on and on"}, "deferred", "4.0.0", "said: 354 go on and on")
    yield Case("not-ascii", {"RCPT": "550 5.1.1 schl\u00e4ft \x07\x1b[2J"}, "bounced", "5.1.1", "said: 550 5.1.1 schl\u00e4ft ??[2J")


def in_the_middle():
    where = WHERE["BODY"]
    for action in ("hang", "close", "reset"):
        what, code, text = ACTIONS[action]
        yield Case(f"body-{action}", {"BODY": what}, "deferred", code, text.replace("{where}", where), big=True, small=True)
    yield Case("body-no552", {"BODY": ["552 5.3.4 too much for me", CLOSE]}, "bounced", "5.3.4",
               "host {peer} said: 552 5.3.4 too much for me (in reply to sending message body)", big=True, small=True)
    yield Case("body-no421", {"BODY": "421 4.3.2 go away"}, "deferred", "4.3.2",
               "host {peer} said: 421 4.3.2 go away (in reply to sending message body)", big=True, small=True)


def by_lmtp():
    """Of those of one message each has his own answer; who hears none is put off, and he alone."""
    three = {"users": ("x", "y", "z")}
    yield Case("all-refused-at-the-end", {"END": "554 5.6.0 not this"}, "bounced", "5.6.0",
               "said: 554 5.6.0 not this (in reply to end of DATA command)", **three)
    for action in ("close", "garbage", "halfclose"):
        what, code, text = ACTIONS[action]
        first = Case(f"lmtp-{action}", {"END": lambda r, what=what: what if r.startswith("y") else None}, "sent", "2.0.0",
                     "250 2.0.0 Ok: taken", lmtp=True)
        yield first
        yield Case(f"lmtp-{action}-unheard", {}, "deferred", code, text.replace("{where}", WHERE["END"]), users=("y", "z"),
                   of=first)
    for action in ("close", "no421", "many"):
        what, code, text = {**ACTIONS, "no421": (*REFUSALS["no421"], "refused to talk to me: 421")}[action]
        yield Case(f"lhlo-{action}", {"LHLO": what}, "deferred", code, text.replace("{where}", WHERE["EHLO"]), lmtp=True)


def by_path(tmp_path):
    """LMTP over UNIX sockets: relay's jail cannot name them, master connects, to those that the configuration names."""
    path = str(tmp_path / "lmtp.sock")
    yield Case("path", {}, "sent", "2.0.0", "250 2.0.0 Ok: taken", lmtp=True, path=path)
    yield Case("path-hang", {"MAIL": HANG}, "deferred", "4.4.2",
               f"conversation with mail.example.test[{path}-2] timed out while sending MAIL FROM", lmtp=True, path=path + "-2")
    yield Case("path-no550", {"RCPT": "550 5.1.1 nobody"}, "bounced", "5.1.1",
               f"host mail.example.test[{path}-3] said: 550 5.1.1 nobody (in reply to RCPT TO command)", lmtp=True,
               path=path + "-3")


def secured(tls):
    """STARTTLS is offered, and fails: who must have it waits, who may do without does."""
    taken = ("sent", "2.0.0", "250 2.0.0 Ok: taken")
    junk = b"220 I speak no TLS\r\n" * 20
    ways = {"refused": {"STARTTLS": "454 4.7.0 not available"}, "goodbye": {"STARTTLS": "421 4.3.2 go away"}, "closed": {"STARTTLS": CLOSE},
            "hangs": {"STARTTLS": HANG}, "junk": {"HANDSHAKE": [junk, HANG]},
            "junkclose": {"HANDSHAKE": [junk, CLOSE]}, "silent": {"HANDSHAKE": HANG}, "gone": {"HANDSHAKE": CLOSE},
            "early": {"STARTTLS": b"220 go on\r\n250 early\r\n"}}
    must = {"refused": ("4.7.4", "TLS is required, but host {peer} refused to start TLS: 454 4.7.0 not available"),
            "goodbye": ("4.7.4", "TLS is required, but host {peer} refused to start TLS: 421 4.3.2 go away"),
            "closed": ("4.4.2", "lost connection with {peer} while sending STARTTLS"),
            "hangs": ("4.4.2", "conversation with {peer} timed out while sending STARTTLS"),
            "junk": ("4.7.5", "Cannot start TLS"), "junkclose": ("4.7.5", "Cannot start TLS"),
            "silent": ("4.4.2", "conversation with {peer} timed out while performing the TLS handshake"),
            "gone": ("4.7.5", "Cannot start TLS"), "early": ("4.7.5", "Cannot start TLS: the server did not wait")}
    for name, steps in ways.items():
        yield Case(f"may-{name}", steps, *taken, tls=tls)
        yield Case(f"must-{name}", steps, "deferred", *must[name], policy="encrypt", tls=tls)
    yield Case("must-not-offered", {}, "deferred", "4.7.4", "TLS is required, but was not offered by host {peer}",
               policy="encrypt")
    yield Case("may-self-signed", {}, *taken, tls=tls)
    yield Case("must-self-signed", {}, *taken, policy="encrypt", tls=tls)
    yield Case("verify-self-signed", {}, "deferred", "4.7.5", "Server certificate not trusted", policy="verify", tls=tls)
    yield Case("fingerprint", {}, *taken, policy=f"fingerprint match={tls[2]}", tls=tls)
    yield Case("other-fingerprint", {}, "deferred", "4.7.5", "Server certificate fingerprint not verified",
               policy="fingerprint match=" + ":".join(["00"] * 32), tls=tls)
    yield Case("may-end-hangs", {"END": HANG}, "deferred", "4.4.2", "more than once", tls=tls)


@contextlib.contextmanager
def serving(tmp_path, cases, more=(), **settings):
    """The servers of the cases, and an instance that routes each case's domain to its server."""
    with contextlib.ExitStack() as stack:
        for c in cases:
            c.server = c.of.server if c.of else stack.enter_context(Hostile(c.steps, **c.options))
        routes, policies = tmp_path / "transport", tmp_path / "policy"
        routes.write_text("".join(f"{c.name}.test {'lmtp' if c.server.lmtp else 'smtp'}:{c.server.nexthop}\n" for c in cases if not c.of)
                          + "".join(f"{line}\n" for line in more))
        policies.write_text("".join(f"{c.server.nexthop} {c.policy}\n" for c in cases if c.policy))
        m = stack.enter_context(Instance(tmp_path / "mail", settings={
            "transport_maps": f"texthash:{routes}", "smtp_tls_policy_maps": f"texthash:{policies}", **SETTINGS, **settings}))
        m.user("alice@example.test")
        m.start()
        yield m


def submit(mail, rcpts, text="Subject: for all\r\n\r\nthe text\r\n"):
    with mail.smtp() as s:
        s.ehlo()
        s.mail("alice@example.test", ["BODY=8BITMIME"])
        for r in rcpts:
            assert s.rcpt(r)[0] == 250
        code, reply = s.data(text.encode())
        assert code == 250, reply
    return re.search(rb"queued as (\w+)", reply).group(1).decode()


def wait_outcomes(mail, cases):
    """Until the log has for each what must come of it. What a slow machine turns into an earlier time-out is tried again."""
    left = list(cases)

    def look():
        text = mail.log()
        left[:] = [c for c in left if not all(re.search(p, text) for p in c.patterns())]
        return not left
    try:
        wait_for("outcomes", look, LONG)
    except AssertionError:
        text = mail.log()
        raise AssertionError("".join(
            f"\n{c.name}: wanted {p}\n  there is " + "\n           ".join(re.findall(rf"to=<{a}>.*", text))
            for c in left for a, p in zip(c.addresses, c.patterns()))) from None


def reports(mail):
    """What bounces told: address -> (status, diagnostic)."""
    found = {}
    for path in mail.messages("alice@example.test"):
        message = email.message_from_binary_file(open(path, "rb"))
        for part in message.walk():
            if "Final-Recipient" in part:
                found[part["Final-Recipient"].split(";")[1].strip()] = part
    return found


def finish(mail, cases, policies):
    """From here on all behave, and TLS is asked of nobody: what was put off must come, and come once."""
    for c in cases:
        c.server.behave()
    policies.write_text("")
    mail.command("queue", "flush")
    wait_for("the queue to be empty", lambda: "empty" in mail.command("queue", "list").stdout.lower(), LONG)
    log, told = mail.log(), reports(mail)
    for c in cases:
        for address in c.addresses:
            check_end(c, address, log, told)


def check_end(c, address, log, told):
    lines = re.findall(rf"to=<{address}>.* status=(\w+) \((.*)", log)
    good, bad = [s for s, _ in lines].count("sent"), [s for s, _ in lines].count("bounced")
    assert (good, bad) == ((0, 1) if c.status == "bounced" else (1, 0)), (c.name, lines)
    assert (address in told) == (c.status == "bounced"), c.name
    if c.status == "bounced":
        assert told[address]["Status"] == c.code and told[address]["Action"] == "failed"
    # The one window: the end of the data is out, and its answer was not heard.
    unheard = sum("message may be sent more than once" in text for _, text in lines)
    refused = sum("in reply to end of DATA command" in text for _, text in lines)
    # To whom refused MAIL and yet goes on with DATA nothing is sent but its end (RFC 2920 3.1).
    assert not any(t.data for t in c.server.taken if not t.mail), c.name
    sent = [t for t in c.server.accepted if address in t.rcpts and t.mail]
    taken = [t for t in c.server.taken if address in t.rcpts and t.mail]
    assert c.server.lmtp or good <= len(sent) <= good + unheard, (c.name, lines)
    assert good <= len(taken) <= good + unheard + refused, (c.name, lines)


def test_every_misbehaviour_has_its_outcome_and_nothing_is_lost(tmp_path):
    tls = certificate(str(tmp_path))
    cases = [*matrix(), *others(), *in_the_middle(), *by_lmtp(), *by_path(tmp_path), *secured(tls)]
    assert len({c.name for c in cases}) == len(cases)
    held = Case("held", {"END": HANG}, "deferred", "4.4.2", "more than once", lmtp=True)
    good = Case("good", {}, "sent", "2.0.0", "250 2.0.0 Ok: taken")
    with serving(tmp_path, [held, good, *cases]) as mail:
        before = mail.children()
        submit(mail, held.addresses)
        wait_for("one to hang", lambda: held.server.hanging == 1, LONG)
        ids = [submit(mail, [a for c in cases if c.big == big for a in c.addresses],
                      "Subject: for all\r\n\r\n" + ("y" * 70 + "\r\n") * (75000 if big else 1)) for big in (False, True)]
        # Somebody else's mail meanwhile.
        submit(mail, good.addresses)
        wait_outcomes(mail, [good])
        wait_outcomes(mail, cases)
        assert held.server.hanging == 1
        shown = "".join(mail.command("queue", "show", i).stdout for i in ids)
        for c in cases:
            assert c.status != "deferred" or all(a in shown for a in c.addresses)
        finish(mail, [held, good, *cases], tmp_path / "policy")
        assert mail.children() == before
