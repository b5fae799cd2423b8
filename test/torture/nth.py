"""The N-th failure, complete: every call of every kind in every process, in every scene (test/e2e/nth_system.py), with each error
that it may give, in a random order until TORTURE_SECONDS are over (0: until all are done).

A case is cheap, its scene is not: so up to NTH_TOGETHER (4) cases of one scene, in different processes, are played together; when a
promise is broken each is played alone, which tells whose fault it was. NTH_JOBS (two for each core) systems work side by side.

NTH_SCENES, NTH_PROCESSES, NTH_KINDS: only these (comma-separated). NTH_ALLOCATIONS (200): so many of
a process in a scene. NTH_CASES: exactly these, one by one, as they are printed ("smtp small:store:WRITE:EIO:3", separated by commas;
with + between those that are played together). NTH_VERBOSE: a line for each. NTH_KEEP: what is left of a broken system stays."""

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time

from nth_system import Case, SCENES, System, cases_of

ALLOCATIONS = int(os.environ.get("NTH_ALLOCATIONS", "200"))
TOGETHER = int(os.environ.get("NTH_TOGETHER", "4"))
JOBS = int(os.environ.get("NTH_JOBS", str(2 * os.cpu_count())))


def chosen(variable):
    value = os.environ.get(variable, "")
    return set(value.split(",")) if value else None


def only(cases):
    scenes, processes, kinds = chosen("NTH_SCENES"), chosen("NTH_PROCESSES"), chosen("NTH_KINDS")
    return [c for c in cases if (not scenes or c.scene in scenes) and (not processes or c.process in processes) and (not kinds or c.kind in kinds)]


def named():
    for group in os.environ["NTH_CASES"].split(","):
        found = []
        for text in group.split("+"):
            scene, process, kind, error, n = text.split(":")
            found.append(Case(scene, process, kind, error, int(n)))
        yield found


def drawn(cases, rng):
    """Of the allocations of one process in one scene (a reload of master makes tens of thousands) no more than ALLOCATIONS."""
    groups = {}
    for c in cases:
        groups.setdefault((c.scene, c.process, c.kind), []).append(c)
    return [c for (_, _, kind), group in groups.items()
            for c in (rng.sample(group, min(len(group), ALLOCATIONS)) if kind == "MALLOC" else group)]


def grouped(cases, rng):
    """Cases of one scene, each of another process: always of those that have the most left."""
    groups, scenes = [], {}
    for c in cases:
        scenes.setdefault(c.scene, {}).setdefault(c.process, []).append(c)
    for processes in scenes.values():
        # Whoever starts a master that has ended would meet what is armed in the others.
        groups += [[c] for c in processes.get("master", []) if c.kind == "MALLOC"]
        processes = {p: [c for c in mine if p != "master" or c.kind != "MALLOC"] for p, mine in processes.items()}
        processes = {p: mine for p, mine in processes.items() if mine}
        for mine in processes.values():
            rng.shuffle(mine)
        while processes:
            fullest = sorted(processes, key=lambda p: -len(processes[p]))[:TOGETHER]
            groups.append([processes[p].pop() for p in fullest])
            processes = {p: mine for p, mine in processes.items() if mine}
    rng.shuffle(groups)
    return groups


def plan(system, rng):
    if os.environ.get("NTH_CASES"):
        return list(named())
    cases = []
    for scene in SCENES:
        if scene in (chosen("NTH_SCENES") or SCENES):
            system.count(scene)        # a first restart has all to recover that was done so far: what is counted is the next
            cases += cases_of(scene, system.count(scene))
    return grouped(drawn(only(cases), rng), rng)


def text_of(group):
    return "+".join(":".join(map(str, case)) for case in group)


class Worker:
    """A system of its own, which takes one group of cases after the other."""

    def __init__(self, base):
        self.system = System(base)
        self.system.start()

    def play(self, group):
        """How many fired, whether the client had to try again, what was broken. One failure may keep another from its place:
        who was not reached has another turn."""
        try:
            hit, tries, said = self.system.case(*group)
        except AssertionError as e:      # Broken, or something that never came
            print(f"BROKEN {text_of(group)}\n{e}", flush=True)
            self.anew()
            broken = [text_of(group)]
            for case in group if len(group) > 1 else []:
                broken += self.play([case])[2]
            return len(group), True, broken
        if os.environ.get("NTH_VERBOSE"):
            print(f"{text_of(group)}: {hit} {tries} tries {said[:2]}", flush=True)
        fired, again, broken, rest = sum(hit), tries > 1, [], [c for c, h in zip(group, hit) if not h]
        if fired and rest:
            more, tried, broken = self.play(rest)
            fired, again = fired + more, again or tried
        return fired, again, broken

    def anew(self):
        try:
            self.system.stop()
        except AssertionError as e:
            print(f"and at its end: {e}"[:4000], flush=True)
        if not os.environ.get("NTH_KEEP"):
            shutil.rmtree(self.system.mail.dir, ignore_errors=True)
        self.system.start()


def work(base, groups, next_one, until, results):
    """In a process of its own."""
    worker = Worker(base)
    try:
        while True:
            with next_one:
                i = next_one.value
                next_one.value += 1
            if i >= len(groups) or (until and time.monotonic() > until):
                break
            results.put((len(groups[i]), *worker.play(groups[i])))
    finally:
        worker.system.stop()
        results.put(None)


def played(base, groups, until):
    """What came of each group, from JOBS systems side by side."""
    next_one, results = multiprocessing.Value("l", 0), multiprocessing.Queue()
    tasks = [multiprocessing.Process(target=work, args=(os.path.join(base, str(i)), groups, next_one, until, results))
             for i in range(max(1, min(JOBS, len(groups))))]
    for task in tasks:
        task.start()
    left = len(tasks)
    while left:
        result = results.get()
        left -= result is None
        if result:
            yield result
    for task in tasks:
        task.join()
        if task.exitcode:
            yield 0, 0, False, [f"a worker ended with {task.exitcode}"]


def main():
    seconds, seed = float(os.environ.get("TORTURE_SECONDS", "600")), int(os.environ.get("TORTURE_SEED", "1"))
    base = tempfile.mkdtemp(prefix="postrider-nth-")
    os.chmod(base, 0o755)
    rng, faults, done, fired, slow = random.Random(seed), [], 0, 0, 0
    with System(os.path.join(base, "plan")) as system:
        groups = plan(system, rng)
    total = sum(map(len, groups))
    began = time.monotonic()
    print(f"{total} cases in {len(groups)} plays", flush=True)
    for cases, hit, again, broken in played(base, groups, began + seconds if seconds else 0):
        done += cases
        fired += hit
        slow += again
        faults += broken
    if not os.environ.get("NTH_KEEP"):
        shutil.rmtree(base, ignore_errors=True)
    for fault in faults:
        print("broken: " + fault)
    print(f"nth: {done} of {total} cases, {fired} reached, the client tried again in {slow} plays, {len(faults)} broke a promise; "
          f"{time.monotonic() - began:.0f} s, seed {seed}")
    return 1 if faults or not fired else 0


if __name__ == "__main__":
    sys.exit(main())
