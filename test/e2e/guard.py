"""What an attack costs: memory and CPU time of all processes of an instance, and the latency of an honest client before
and during it."""

import os
import statistics
import threading
import time

from instance import PATIENCE, wait_for

HONEST = "honest@example.test"


def pss(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            pass
    return total


def cpu(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / os.sysconf("SC_CLK_TCK")


class Honest(threading.Thread):
    """Delivers a message by SMTP, then fetches it by IMAP over TLS, again and again; keeps how long each round took."""

    def __init__(self, mail):
        super().__init__(daemon=True)
        self.mail, self.rounds, self.error, self.ending = mail, [], None, threading.Event()

    def round(self):
        self.mail.send(HONEST)
        box = self.mail.imap(HONEST)
        try:
            count = box.select()[1][0].decode()
            status, data = box.fetch(count, "(BODY.PEEK[])")
            assert status == "OK" and b"A line." in data[0][1], data
        finally:
            box.logout()

    def run(self):
        try:
            while not self.ending.is_set():
                begin = time.monotonic()
                self.round()
                self.rounds.append(time.monotonic() - begin)
                self.ending.wait(0.02)
        except BaseException as e:       # shown by Guard
            self.error = e

    def end(self):
        self.ending.set()
        self.join(PATIENCE * 4)
        if self.error:
            raise AssertionError(f"the honest client was not served: {self.error!r}") from self.error
        assert self.rounds, "the honest client did not get through a single round"
        return self.rounds


class Guard:
    """with Guard(mail) as g: attack... Then g.memory (peak growth, bytes), g.cpu (seconds), g.before and g.during
    (latencies of the honest client)."""

    def __init__(self, mail, rounds=5):
        self.mail, self.want = mail, rounds

    def __enter__(self):
        first = Honest(self.mail)
        first.start()
        wait_for("the honest client before the attack", lambda: first.error or len(first.rounds) >= self.want, PATIENCE * 4)
        self.before = first.end()
        self.pids = [self.mail.master.pid, *self.mail.children()]
        self.base, self.cpu_base, self.began = pss(self.pids), cpu(self.pids), time.monotonic()
        self.peak, self.ending = self.base, threading.Event()
        self.sampler = threading.Thread(target=self.sample, daemon=True)
        self.sampler.start()
        self.honest = Honest(self.mail)
        self.honest.start()
        return self

    def sample(self):
        while not self.ending.is_set():
            self.peak = max(self.peak, pss(self.pids))
            self.ending.wait(0.1)

    def __exit__(self, kind, *exc):
        self.seconds = time.monotonic() - self.began
        self.cpu = cpu(self.pids) - self.cpu_base
        self.peak = max(self.peak, pss(self.pids))
        self.ending.set()
        self.sampler.join()
        self.memory = self.peak - self.base
        if kind is None:
            wait_for("a round of the honest client", lambda: self.honest.error or self.honest.rounds, PATIENCE * 4)
            self.during = self.honest.end()
            assert sorted(self.pids[1:]) == sorted(self.mail.children()), "a process died"
        else:
            self.honest.ending.set()

    def ratio(self):
        return statistics.median(self.during) / statistics.median(self.before)

    def text(self):
        ms = lambda v: f"{statistics.median(v) * 1000:.0f}/{max(v) * 1000:.0f}"
        return (f"{self.seconds:6.1f} s, CPU {self.cpu:6.2f} s, memory +{self.memory / 1e6:6.1f} MB, honest client "
                f"{ms(self.before)} -> {ms(self.during)} ms (median/worst, {len(self.during)} rounds), ratio {self.ratio():.1f}")
