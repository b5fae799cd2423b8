#!/usr/bin/python3
"""Power loss and damage: prefixes of the recorded histories of journal, store and queue with every kind of loss, losses during
the recovery of these images, and flipped bits all over the index. Each test has its share of the time, in several rounds, with
a new seed each: what a round does not come to, another may. All states of a history take hours; how many were tried is told."""
import os
import re
import subprocess
import sys
import time

UNIT = os.environ["UNIT"]
SECONDS = float(os.environ["TORTURE_SECONDS"])
BEGIN = time.monotonic()
SEED = int(os.environ["TORTURE_SEED"])
# With how often it calls powerloss_each().
TESTS = [("journal/powerloss_test", 1), ("queue/powerloss_test", 2), ("store/powerloss_test", 1), ("store/service_loss_test", 2),
         ("journal/index_test", 0)]
SHARE = 120         # seconds, at most, of one test in a round


def command(test, number, share, calls):
    env = dict(os.environ, POWERLOSS="all" if share else "", POWERLOSS_SEED=str(SEED + number), DAMAGE_SEED=str(SEED + number),
               DAMAGE_FLIPS="5000", POWERLOSS_SECONDS=str(share / max(1, calls)))
    shm = "/dev/shm"
    if os.path.isdir(shm) and os.access(shm, os.W_OK):
        env.setdefault("TMPDIR", shm)
    return env


def run(test, number, share, calls):
    env, lines = command(test, number, share, calls), []
    with subprocess.Popen([os.path.join(UNIT, test)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as task:
        for line in task.stdout:
            if " postrider[" not in line:
                lines.append(line.rstrip("\n"))
            if line.startswith("power loss:") and " of " in line:
                print(f"{time.monotonic() - BEGIN:5.0f} s  {test}: {line.strip()}", flush=True)
    if task.returncode != 0:
        print("\n".join(lines[-60:]))
        print(f"FAIL  {test}, exit {task.returncode}; repeat with POWERLOSS={env['POWERLOSS']} POWERLOSS_SECONDS="
              f"{env['POWERLOSS_SECONDS']} POWERLOSS_SEED={SEED + number} DAMAGE_SEED={SEED + number}", flush=True)
        sys.exit(1)
    text = "\n".join(lines)
    return sum(int(n) for n in re.findall(r"(\d+) images recovered", text)), sum(
        int(n) for n in re.findall(r"(\d+) bits flipped", text))


def main():
    images = flips = number = 0
    while number < len(TESTS) or time.monotonic() < BEGIN + SECONDS:
        test, calls = TESTS[number % len(TESTS)]
        # The first round draws, so that a short run has seen each.
        left = BEGIN + SECONDS - time.monotonic()
        share = 0 if number < len(TESTS) else max(1, min(SHARE, SECONDS / 10, left))
        more, bits = run(test, number, share, calls)
        images += more
        flips += bits
        number += 1
    print(f"powerloss: {images} images recovered, {flips} bits flipped, seed {SEED}")


main()
