"""Mail for twenty destinations while processes are killed: who takes it, who sends it, and what must have come of it.

Each recipient's address is used once, so that it names one recipient of one message. What was answered 250 (or taken by
sendmail) ends at its destination or in a report to its sender: once. At a destination it may be there more often only when

- the destination had closed the connection after the end of the data without a reply, or
- the relay died after the destination had taken it and before the queue had noted that (no log line says `sent`)."""
import json
import os
import random
import re
import smtplib
import subprocess
import threading
import time

from crashclients import GIVE_UP, LOST, text_of
from crashkill import QUIET, Killer, quiet
from dnsserver import DnsServer
from instance import BINARY, PATIENCE, in_thread, sanitizer_report, wait_for
from sink import CLOSE, Sink

COUNT = 20
WINDOW = 60         # seconds from the end of data to the commit, at most, on a machine under load
SIZES = (300, 300, 2000, 9000, 100_000)


class Destination(Sink):
    """One of the twenty, with manners of its own; `tame` when everything shall arrive."""

    MANNERS = {8: "slow", 9: "slow", 10: "slow", 11: "later", 12: "later", 13: "later", 14: "deaf", 15: "deaf", 16: "deaf",
               17: "shy"}

    def __init__(self, number, seed):
        super().__init__(f"127.1.1.{number + 1}")
        self.number, self.rng, self.manner = number, random.Random(seed), self.MANNERS.get(number, "plain")
        self.domain = f"d{number}.test"
        self.tame = False
        self.taken = {}             # address: [(when, answered), ...]
        self.answer = {"GREET": self.greet, "RCPT": self.rcpt, "END": self.end}

    def chance(self, manner, share):
        with self.lock:
            return not self.tame and self.manner == manner and self.rng.random() < share

    def greet(self, line):
        return CLOSE if self.chance("shy", 0.3) else "421 4.3.2 not now" if self.chance("later", 0.1) else None

    def rcpt(self, line):
        return "550 5.1.1 no such user" if "<gone" in line else "450 4.2.0 later" if self.chance("later", 0.2) else None

    def end(self, message):
        begin = time.time()         # from here on it may be taken without the relay's knowing
        if self.chance("slow", 0.7):
            self.stopping.wait(self.rng.uniform(0, 1))
        if self.chance("later", 0.1):
            return "451 4.3.0 later"
        if self.chance("deaf", 0.1):
            return CLOSE
        silent = self.chance("deaf", 0.1)
        with self.lock:
            for address in message.rcpts:
                self.taken.setdefault(address, []).append((begin, not silent))
        return CLOSE if silent else None


class Recipient:
    def __init__(self, token, sender, sink):
        self.token, self.sender, self.sink = token, sender, sink
        self.acked = self.doubt = False


class World:
    def __init__(self, mail, users, sinks):
        self.mail, self.users, self.sinks = mail, users, sinks
        self.lock = threading.Lock()
        self.count = 0
        self.all = {}               # address (of a user of ours: with the token before it): Recipient
        self.sizes = {}
        self.stop = threading.Event()
        self.stats = {}

    def tell(self, what, n=1):
        with self.lock:
            self.stats[what] = self.stats.get(what, 0) + n

    def new(self, rng):
        """A message: its token, its sender, its recipients as (address, Recipient)."""
        with self.lock:
            self.count += 1
            token = f"t{self.count}"
            self.sizes[token] = rng.choice(SIZES)
            sender, to = rng.choice(self.users), []
            for k, sink in enumerate(rng.sample(self.sinks, rng.choice([1, 1, 2, 3, 6]))):
                address = f"{'gone' if rng.random() < 0.07 else 'r'}-{token}-{k}@{sink.domain}"
                to.append((address, self.all.setdefault(address, Recipient(token, sender, sink))))
            if rng.random() < 0.2:
                user = rng.choice(self.users)
                to.append((user, self.all.setdefault(token + ":" + user, Recipient(token, sender, None))))
        return token, sender, to


class Sender:
    """By SMTP, as clients do: after no answer, or 4xx, the same bytes again."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng

    def run(self):
        while not self.world.stop.is_set():
            token, sender, waiting = self.world.new(self.rng)
            text = text_of(token, self.world.sizes[token])
            deadline = time.monotonic() + GIVE_UP
            while waiting:
                assert time.monotonic() < deadline, f"{token} was not taken for {GIVE_UP} s"
                waiting = self.attempt(sender, waiting, text)
                if waiting:
                    time.sleep(self.rng.uniform(0.05, 0.7))
            self.world.stop.wait(self.rng.uniform(0, 0.6))

    def attempt(self, sender, waiting, text):
        sent, taken = False, []
        try:
            s = smtplib.SMTP("127.0.0.1", self.world.mail.ports["smtp"], local_hostname="client.test", timeout=PATIENCE)
            try:
                s.ehlo_or_helo_if_needed()
                self.good(*s.mail(sender))
                for address, r in waiting:
                    code, answer = s.rcpt(address)
                    assert code < 500, (address, code, answer)
                    if code < 400:
                        taken.append((address, r))
                if not taken:
                    return waiting
                self.good(*s.docmd("DATA"))
                sent = True
                s.send(text + b".\r\n")
                self.good(*s.getreply())
            finally:
                s.close()
        except (*LOST, smtplib.SMTPResponseException) as e:
            self.world.tell("refused" if isinstance(e, smtplib.SMTPResponseException) else "no answer" if sent else "lost")
            for _, r in taken if sent else []:
                r.doubt = True
            return waiting
        for _, r in taken:
            r.acked = True
        self.world.tell("taken")
        return [w for w in waiting if w not in taken]

    @staticmethod
    def good(code, answer):
        assert code < 500, (code, answer)
        if code >= 400:
            raise smtplib.SMTPResponseException(code, answer)


class Program(Sender):
    """By sendmail(1), which keeps what it cannot hand over."""

    def run(self):
        env = dict(os.environ, POSTRIDER_CONFIG=self.world.mail.dir)
        while not self.world.stop.is_set():
            token, sender, to = self.world.new(self.rng)
            text = text_of(token, self.world.sizes[token]).replace(b"\r\n", b"\n")
            done = subprocess.run([self.world.sendmail, "-oi", "-f", sender, "--", *(a for a, _ in to)], input=text, env=env,
                                  capture_output=True, timeout=GIVE_UP)
            for _, r in to:
                r.acked, r.doubt = done.returncode == 0, done.returncode != 0
            self.world.tell("sendmail" if done.returncode == 0 else f"sendmail {done.returncode}")
            assert done.returncode in (0, os.EX_TEMPFAIL), (done.returncode, done.stderr)
            self.world.stop.wait(self.rng.uniform(0, 1))


# ---- what must have come of it ----

def deaths(mail, killer):
    """When relays died, in seconds: by the log (whole ones), and with masters that could not tell any more."""
    found = list(killer.masters)
    year = time.localtime().tm_year
    for when in re.findall(r"(?m)^(\w+ +\d+ [\d:]+) .*/master\[\d+\]: .*process relay pid", mail.log()):
        found.append(time.mktime(time.strptime(f"{year} {when}", "%Y %b %d %H:%M:%S")))
    return sorted(found)


def explained(taken, died):
    """How often it was taken again with a good reason; how often for a relay's death."""
    for_death = 0
    for (before, answered), (after, _) in zip(taken, taken[1:]):
        if answered and not any(before - 1 <= d <= min(after + 1, before + WINDOW) for d in died):
            return False, for_death
        for_death += answered
    return True, for_death


def check(world, killer):
    mail = world.mail
    died = deaths(mail, killer)
    sent = {}
    for address in re.findall(r"/smtp\[\d+\]: \S+ to=<([^>]+)>,.* status=sent", mail.log()):
        sent[address] = sent.get(address, 0) + 1
    told, here = {}, {}
    for user in world.users:
        for path in mail.messages(user):
            text = open(path, errors="replace").read()
            if "multipart/report" in text:
                for address in re.findall(r"(?m)^Final-Recipient: rfc822; *(\S+)", text):
                    told.setdefault(address, []).append(user)
            else:
                token = re.search(r"(?m)^Subject: (t\d+)", text)[1]
                assert text.endswith(text_of(token, world.sizes[token]).decode().replace("\r\n", "\n")), f"{path} is not whole"
                here[token + ":" + user] = here.get(token + ":" + user, 0) + 1
    repeated = 0
    for address, r in list(world.all.items()):
        taken = sorted(r.sink.taken.get(address, [])) if r.sink else [(0, True)] * here.get(address, 0)
        reports = told.get(address, [])
        what = f"{address} of {r.sender}: taken {taken}, told {reports}, acknowledged {r.acked}, in doubt {r.doubt}"
        assert reports in ([], [r.sender]), f"told wrongly: {what}"
        assert sent.get(address, 0) <= 1, f"noted as sent, and sent again: {what}"
        if address.startswith("gone"):
            assert not taken and (reports or not r.acked), f"nobody was told: {what}"
            continue
        assert not reports, f"told without a reason: {what}"
        assert taken or not r.acked, f"lost: {what}"
        assert not taken or r.acked or r.doubt, f"refused and sent: {what}"
        good, for_death = explained(taken, died if r.sink else [])
        assert good, f"twice: {what}; relays died {[d for d in died if taken and d > taken[0][0] - 30][:9]}"
        repeated += for_death
    return repeated


def check_when_written(world, killer):
    """Files and lines of the log come a moment after what they tell of."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return check(world, killer)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def settled(world):
    mail = world.mail
    took = quiet(mail)
    wait_for("an empty maildrop", lambda: os.listdir(os.path.join(mail.dir, "spool", "maildrop")) == [], QUIET)
    # What sendmail had kept, and reports of the last attempts.
    wait_for("an empty queue", lambda: json.loads(mail.command("queue", "list", "--json").stdout) == [], QUIET)
    stray = os.path.join(mail.dir, "spool", "queue", "msgs")
    wait_for("no stray contents", lambda: os.listdir(stray) == [], QUIET)
    return took


class OutKiller(Killer):
    """Knows when masters died: nobody logs that."""

    def __init__(self, *args):
        super().__init__(*args)
        self.masters = []

    def master(self, children_too):
        self.masters.append(time.time())
        super().master(children_too)
        self.masters.append(time.time())


def prepare(mail, seed):
    """The sinks, and a world whose instance knows the way to them: half by address, half by MX."""
    sinks = [Destination(i, seed * 100 + i) for i in range(COUNT)]
    dns = DnsServer().__enter__()
    mail.configure(**dns.settings(), transport_maps=f"texthash:{mail.dir}/transport", minimal_backoff_time="1s",
                   maximal_backoff_time="2s", smtpd_client_connection_count_limit="0", default_process_limit="100")
    with open(os.path.join(mail.dir, "transport"), "w") as f:
        for s in sinks:
            dns.set(s.domain, "MX", f"10 mx{s.number}.test.")
            dns.set(f"mx{s.number}.test", "A", s.address)
            f.write(f"{s.domain} smtp:{s.domain}:{s.port}\n" if s.number % 2 else f"{s.domain} smtp:{s.nexthop}\n")
    users = [f"user{i}@example.test" for i in range(4)]
    for user in users:
        mail.user(user)
    world = World(mail, users, sinks)
    world.sendmail = os.path.join(mail.dir, "sendmail")
    os.symlink(BINARY, world.sendmail)
    world.dns = dns
    return world


def end(world):
    world.dns.__exit__(None, None, None)
    for s in world.sinks:
        s.__exit__(None, None, None)


def rounds(world, senders, seed, seconds, round_seconds, faults=None, pause=(0.02, 0.3), say=print, trouble=None):
    """Load and kills (or another `trouble`, with the face of a killer), and a look after each round; every other round
    spares the relay: then nothing may be there twice but what a destination did not answer. Returns the killer."""
    rng = random.Random(seed)
    mail = world.mail
    clients = [(Program if i % 7 == 6 else Sender)(world, random.Random(rng.random())) for i in range(senders)]
    killer = trouble or OutKiller(mail, random.Random(rng.random()), faults, pause, 0.02)
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        number += 1
        killer.spare = ("relay",) if number % 2 else ()
        killer.master_share = 0 if killer.spare else 0.02
        for s in world.sinks:
            s.tame = False
        world.stop.clear()
        tasks, task = [in_thread(c.run) for c in clients], in_thread(killer.run, world.stop)
        until = time.monotonic() + min(round_seconds, max(2, deadline - time.monotonic()))
        while time.monotonic() < until and all(t.is_alive() for t in [*tasks, task]):
            time.sleep(0.1)
        world.stop.set()
        task.result()
        if faults:
            faults.disarm()
        for t in tasks:
            t.result()
        for s in world.sinks:
            s.tame = True
        took = settled(world)
        repeated = check_when_written(world, killer)
        assert not sanitizer_report(mail.log()), sanitizer_report(mail.log())
        say(f"round {number}: {killer.total()} kills {killer.kills}; quiet after {took:.1f} s; {len(world.all)} recipients, "
            f"{repeated} sent again for a relay's death; {world.stats}")
    return killer
