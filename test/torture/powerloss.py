#!/usr/bin/python3
"""Power loss and damage, exhaustively: every prefix of the recorded histories of journal, store and queue with every kind of loss,
losses during the recovery of these images, and flipped bits all over the index. Repeats with new seeds until the time is up."""
import os
import re
import subprocess
import sys
import time

UNIT = os.environ["UNIT"]
END = time.monotonic() + float(os.environ["TORTURE_SECONDS"])
SEED = int(os.environ["TORTURE_SEED"])
TESTS = ["journal/powerloss_test", "queue/powerloss_test", "store/powerloss_test", "store/service_loss_test", "journal/index_test"]


def run(test, number, everything):
    env = dict(os.environ, POWERLOSS="all" if everything else "", POWERLOSS_SEED=str(SEED + number), DAMAGE_SEED=str(SEED + number),
               DAMAGE_FLIPS="5000")
    shm = "/dev/shm"
    if os.path.isdir(shm) and os.access(shm, os.W_OK):
        env.setdefault("TMPDIR", shm)
    done = subprocess.run([os.path.join(UNIT, test)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if " postrider[" not in line]
        print("\n".join(lines[-60:]))
        print(f"FAIL  {test}, exit {done.returncode}; repeat with POWERLOSS={env['POWERLOSS']} POWERLOSS_SEED={SEED + number} "
              f"DAMAGE_SEED={SEED + number}", flush=True)
        sys.exit(1)
    return sum(int(n) for n in re.findall(r"(\d+) images recovered", done.stdout)), sum(
        int(n) for n in re.findall(r"(\d+) bits flipped", done.stdout))


def main():
    images = flips = number = 0
    while number < len(TESTS) or time.monotonic() < END:
        # The first round draws, so that a short run has seen each; later ones try everything.
        more, bits = run(TESTS[number % len(TESTS)], number, number >= len(TESTS))
        images += more
        flips += bits
        number += 1
    print(f"powerloss: {images} images recovered, {flips} bits flipped, seed {SEED}")


main()
