"""The N-th failure, complete: every call of every kind in every process, in every scene (test/e2e/nth_system.py), with each error
that it may give, in a random order until TORTURE_SECONDS are over (0: until all are done).

NTH_SCENES, NTH_PROCESSES, NTH_KINDS: only these (comma-separated). NTH_ALLOCATIONS (200): so many of
a process in a scene. NTH_CASES: exactly these, as they are printed ("smtp small:store:WRITE:EIO:3", separated by commas)."""

import os
import random
import shutil
import sys
import tempfile
import time

from nth_system import Broken, Case, SCENES, System, cases_of

ALLOCATIONS = int(os.environ.get("NTH_ALLOCATIONS", "200"))


def chosen(variable):
    value = os.environ.get(variable, "")
    return set(value.split(",")) if value else None


def only(cases):
    scenes, processes, kinds = chosen("NTH_SCENES"), chosen("NTH_PROCESSES"), chosen("NTH_KINDS")
    return [c for c in cases if (not scenes or c.scene in scenes) and (not processes or c.process in processes) and (not kinds or c.kind in kinds)]


def named():
    for text in os.environ["NTH_CASES"].split(","):
        scene, process, kind, error, n = text.split(":")
        yield Case(scene, process, kind, error, int(n))


def drawn(cases, rng):
    """Of the allocations of one process in one scene (a reload of master makes tens of thousands) no more than ALLOCATIONS."""
    groups = {}
    for c in cases:
        groups.setdefault((c.scene, c.process, c.kind), []).append(c)
    return [c for (_, _, kind), group in groups.items()
            for c in (rng.sample(group, min(len(group), ALLOCATIONS)) if kind == "MALLOC" else group)]


def plan(system, rng):
    if os.environ.get("NTH_CASES"):
        return list(named())
    cases = []
    for scene in SCENES:
        counts = system.count(scene)
        cases += cases_of(scene, counts)
    cases = only(cases)
    cases = drawn(cases, rng)
    allocations = [c for c in cases if c.kind == "MALLOC"]
    cases = [c for c in cases if c.kind != "MALLOC"]
    rng.shuffle(cases)
    rng.shuffle(allocations)
    for i, case in enumerate(allocations):      # one in four, until the calls of the system are through
        cases.insert(min(4 * i, len(cases)), case)
    return cases


def main():
    seconds, seed = float(os.environ.get("TORTURE_SECONDS", "600")), int(os.environ.get("TORTURE_SEED", "1"))
    base = tempfile.mkdtemp(prefix="postrider-nth-")
    os.chmod(base, 0o755)
    rng, faults, done, fired, slow = random.Random(seed), [], 0, 0, 0
    system = System(base)
    system.start()
    cases = plan(system, rng)
    began = time.monotonic()
    print(f"{len(cases)} cases", flush=True)
    for case in cases:
        if seconds and time.monotonic() - began > seconds:
            break
        done += 1
        try:
            hit, tries, said = system.case(case)
            fired += hit
            slow += tries > 1
            if os.environ.get("NTH_VERBOSE"):
                print(":".join(map(str, case)), "fired" if hit else "not reached", tries, said[:2], flush=True)
        except Broken as e:
            print(f"BROKEN {e}", flush=True)
            faults.append(case)
            system.stop()
            if not os.environ.get("NTH_KEEP"):
                shutil.rmtree(system.mail.dir, ignore_errors=True)
            system.start()
    system.stop()
    if not os.environ.get("NTH_KEEP"):
        shutil.rmtree(base, ignore_errors=True)
    print(f"nth: {done} of {len(cases)} cases, {fired} reached, {slow} made the client try again, {len(faults)} broke a promise; "
          f"{time.monotonic() - began:.0f} s, seed {seed}")
    return 1 if faults or not fired else 0


if __name__ == "__main__":
    sys.exit(main())
