"""The N-th failure, complete: every call of every kind in every process, in every scene (test/e2e/nth_system.py), with each error
that it may give, in a random order until TORTURE_SECONDS are over (0: until all are done).

NTH_STATE=path: the whole list in turn, and what was reached is kept in that file, a line each: stopped (by the time, or a signal)
and begun again with the same file, it goes on where it was, after what was broken, which is played again first.

A case is cheap, its scene is not: so up to NTH_TOGETHER (4) cases of one scene, in different processes, are played together; when a
promise is broken each is played alone, which tells whose fault it was. Who was kept from its place by the failure of another, or by
chance, has two more turns, the last one alone. NTH_JOBS (two for each core) systems work side by side.

NTH_SCENES, NTH_PROCESSES, NTH_KINDS: only these (comma-separated). NTH_ALLOCATIONS (200): so many of
a process in a scene. NTH_CASES: exactly these, one by one, as they are printed ("smtp small:store:WRITE:EIO:3", separated by commas;
with + between those that are played together). NTH_VERBOSE: a line for each. NTH_KEEP: what is left of a broken system stays."""

import collections
import multiprocessing
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

from nth_system import Case, SCENES, System, cases_of

ALLOCATIONS = int(os.environ.get("NTH_ALLOCATIONS", "200"))
TOGETHER = int(os.environ.get("NTH_TOGETHER", "4"))
JOBS = int(os.environ.get("NTH_JOBS", str(2 * os.cpu_count())))
TURNS = 3


def chosen(variable):
    value = os.environ.get(variable, "")
    return set(value.split(",")) if value else None


def only(cases):
    scenes, processes, kinds = chosen("NTH_SCENES"), chosen("NTH_PROCESSES"), chosen("NTH_KINDS")
    return [c for c in cases if (not scenes or c.scene in scenes) and (not processes or c.process in processes) and (not kinds or c.kind in kinds)]


def text_of(group):
    return "+".join(":".join(map(str, case)) for case in group)


def group_of(text):
    found = []
    for case in text.split("+"):
        scene, process, kind, error, n = case.split(":")
        found.append(Case(scene, process, kind, error, int(n)))
    return found


def spread(cases):
    """Of the allocations of one process in one scene (a reload of master makes tens of thousands) no more than ALLOCATIONS."""
    groups = {}
    for c in cases:
        groups.setdefault((c.scene, c.process, c.kind), []).append(c)
    return [c for (_, _, kind), group in groups.items()
            for c in (group if kind != "MALLOC" else group[::-(-len(group) // ALLOCATIONS)])]


def planned(system):
    """All cases, those of each process in turn; allocations, the most, last."""
    cases = []
    for scene in SCENES:
        if scene in (chosen("NTH_SCENES") or SCENES):
            system.count(scene)        # a first restart has all to recover that was done so far: what is counted is the next
            cases += cases_of(scene, system.count(scene))
    return sorted(spread(cases), key=lambda c: c.kind == "MALLOC")


class State:
    """What is to be done, and what came of it; in a file, if it has a name. A line is a word and a case, or several with +."""

    def __init__(self, path):
        self.cases, self.word = [], {}
        if path and os.path.exists(path):
            for line in open(path).read().splitlines():
                word, text = line.split(" ", 1)
                if word == "case":
                    self.cases += group_of(text)
                else:
                    self.word[text] = word
        self.file = open(path, "a", buffering=1) if path else None

    def write(self, word, text):
        if self.file:
            self.file.write(f"{word} {text}\n")

    def plan(self, cases):
        self.cases = cases
        for case in cases:
            self.write("case", text_of([case]))

    def note(self, word, group):
        """word: reached, never (reached) or broken."""
        text = text_of(group)
        self.word[text] = word
        self.write(word, text)

    def broken(self):
        return [text for text, word in self.word.items() if word == "broken"]

    def left(self):
        return [c for c in self.cases if text_of([c]) not in self.word]

    def count(self, word):
        return sum(self.word.get(text_of([c])) == word for c in self.cases)


class Plays:
    """What is played next: of one scene after the other, the next cases of those processes that have the most left."""

    def __init__(self, groups, cases):
        self.first = collections.deque(groups)
        self.scenes, self.turns = {}, collections.Counter()
        for c in cases:
            self.add(c)
        self.order = collections.deque(self.scenes)

    def add(self, case):
        self.scenes.setdefault(case.scene, {}).setdefault(self.whose(case), collections.deque()).append(case)

    @staticmethod
    def whose(case):
        """Whoever starts a master that has ended would meet what is armed in the others."""
        return "alone" if case.process == "master" and case.kind == "MALLOC" else case.process

    def again(self, case):
        """Another turn for a case that was not reached; False: it had enough."""
        self.turns[case] += 1
        if self.turns[case] == TURNS - 1:
            self.first.append([case])
        elif self.turns[case] < TURNS:
            self.add(case)
        return self.turns[case] < TURNS

    def next(self):
        if self.first:
            return self.first.popleft()
        for _ in range(len(self.order)):
            self.order.rotate(-1)
            processes = {p: mine for p, mine in self.scenes[self.order[0]].items() if mine}
            if "alone" in processes and (len(processes) == 1 or len(processes["alone"]) > max(map(len, processes.values())) / 2):
                return [processes["alone"].popleft()]
            processes.pop("alone", None)
            if processes:
                return [processes[p].popleft() for p in sorted(processes, key=lambda p: -len(processes[p]))[:TOGETHER]]
        return None


class Worker:
    """A system of its own, which takes one group of cases after the other."""

    def __init__(self, base):
        self.system = System(base)
        self.system.start()

    def play(self, group):
        """Which fired, whether the client had to try again, what was broken."""
        try:
            hit, tries, said = self.system.case(*group)
        except Exception as e:           # Broken, or something that never came, or that no client expects
            what = e if isinstance(e, AssertionError) else traceback.format_exc()
            print(f"BROKEN {text_of(group)}\n{what}", flush=True)
            self.anew()
            broken = [text_of(group)]
            for case in group if len(group) > 1 else []:
                broken += self.play([case])[2]
            return [True] * len(group), True, broken
        if os.environ.get("NTH_VERBOSE"):
            print(f"{text_of(group)}: {hit} {tries} tries {said[:2]}", flush=True)
        return hit, tries > 1, []

    def anew(self):
        try:
            self.system.stop()
        except Exception as e:
            print(f"and at its end: {e}"[:4000], flush=True)
        if not os.environ.get("NTH_KEEP"):
            shutil.rmtree(self.system.mail.dir, ignore_errors=True)
        self.system.start()


def work(base, tasks, results):
    """In a process of its own, which only its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(base)
    try:
        for group in iter(tasks.get, None):
            results.put((group, *worker.play(group)))
    finally:
        worker.system.stop()


class Jobs:
    """JOBS systems side by side."""

    def __init__(self, base, count):
        self.tasks, self.results = multiprocessing.Queue(), multiprocessing.Queue()
        self.all = [multiprocessing.Process(target=work, args=(os.path.join(base, str(i)), self.tasks, self.results)) for i in range(count)]
        for job in self.all:
            job.start()

    def result(self):
        """None: all have ended, as none should."""
        while True:
            try:
                return self.results.get(timeout=1)
            except queue.Empty:
                if not any(job.is_alive() for job in self.all):
                    return None

    def end(self):
        for _ in self.all:
            self.tasks.put(None)
        for job in self.all:
            job.join()
        return [f"a worker ended with {job.exitcode}" for job in self.all if job.exitcode]


class Walk:
    def __init__(self, base, state, plays, until):
        self.state, self.plays, self.until = state, plays, until
        self.stopped = False
        self.played = self.cases = self.fired = self.slow = 0
        self.jobs = Jobs(base, max(1, min(JOBS, len(state.cases))))

    def stop(self, *_):
        self.stopped = True

    def give(self):
        """Another play for whoever is free; False: there is none."""
        group = None if self.stopped or (self.until and time.monotonic() > self.until) else self.plays.next()
        if group:
            self.jobs.tasks.put(group)
        return group is not None

    def take(self, group, hit, again, broken):
        self.played += 1
        self.slow += again
        for case, h in zip(group, hit):
            if h:
                self.fired += 1
                self.state.note("reached", [case])
            elif not self.plays.again(case):
                self.state.note("never", [case])
        for text in broken:
            self.state.note("broken", group_of(text))
        if not broken and len(group) > 1 and self.state.word.get(text_of(group)) == "broken":
            self.state.note("kept", group)

    def run(self):
        under_way = sum(self.give() for _ in self.jobs.all)
        while under_way:
            result = self.jobs.result()
            if result is None:
                break
            self.take(*result)
            under_way += self.give() - 1
        return self.jobs.end()


def prepare(base, rng):
    """State and plays."""
    if os.environ.get("NTH_CASES"):
        state = State(None)
        groups = [group_of(text) for text in os.environ["NTH_CASES"].split(",")]
        state.cases = [case for group in groups for case in group]
        return state, Plays(groups, [])
    state = State(os.environ.get("NTH_STATE"))
    if not state.cases:
        with System(os.path.join(base, "plan")) as system:
            state.plan(planned(system))
    state.cases = only(state.cases)
    left = state.left()
    if not state.file:
        rng.shuffle(left)
    return state, Plays([group_of(text) for text in state.broken()], left)


def main():
    seconds, seed = float(os.environ.get("TORTURE_SECONDS", "600")), int(os.environ.get("TORTURE_SEED", "1"))
    base = tempfile.mkdtemp(prefix="postrider-nth-")
    os.chmod(base, 0o755)
    state, plays = prepare(base, random.Random(seed))
    began = time.monotonic()
    print(f"{len(state.cases)} cases, {len(state.left())} to be played", flush=True)
    walk = Walk(base, state, plays, began + seconds if seconds else 0)
    signal.signal(signal.SIGINT, walk.stop)
    signal.signal(signal.SIGTERM, walk.stop)
    faults = walk.run() + state.broken()
    if not os.environ.get("NTH_KEEP"):
        shutil.rmtree(base, ignore_errors=True)
    for fault in faults:
        print("broken: " + fault)
    print(f"nth: {state.count('reached')} of {len(state.cases)} cases reached, {state.count('never')} not in {TURNS} turns, {len(state.left())} left; "
          f"{walk.fired} in {walk.played} plays of this run, the client tried again in {walk.slow}; {len(faults)} broke a promise; "
          f"{time.monotonic() - began:.0f} s, seed {seed}")
    return 1 if faults or not walk.fired and state.left() else 0


if __name__ == "__main__":
    sys.exit(main())
