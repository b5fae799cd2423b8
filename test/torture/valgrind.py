"""make torture PARTS=valgrind: every unit test, built without sanitizers, under valgrind: no invalid access, no use of
what was never set, no leak, no lost descriptor. TORTURE_SECONDS does not matter: each test runs once."""
import concurrent.futures
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
UNIT = os.environ.get("UNIT_PLAIN", os.path.join(ROOT, "build", "unit"))
SUPPRESSIONS = os.path.join(ROOT, "test", "torture", "valgrind.supp")
VALGRIND = ["valgrind", "-q", "--suppressions=" + SUPPRESSIONS, "--error-exitcode=97", "--leak-check=full",
            "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect", "--fair-sched=yes", "--child-silent-after-fork=yes"]
# What cannot work there.
LEFT_OUT = dict.fromkeys(("os/sandbox_test", "os/sandbox_calls_test"), "a jail forbids the system calls of valgrind itself")


def check(name):
    env = dict(os.environ, UNDER_VALGRIND="1")      # which keeps limits of its own
    done = subprocess.run([*VALGRIND, os.path.join(UNIT, name)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", stdin=subprocess.DEVNULL, env=env)
    found = re.findall(r"^==\d+== .*", done.stdout, re.M)
    return name, done.returncode, "\n".join(found)[:6000] if done.returncode == 97 or found else done.stdout[-3000:]


def main():
    names = sorted(os.path.relpath(os.path.join(base, f), UNIT)
                   for base, _, files in os.walk(UNIT) for f in files if f.endswith("_test"))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, code, output in pool.map(check, [n for n in names if n not in LEFT_OUT]):
            print(f"{'ok   ' if code == 0 else 'FAIL '} {name}", flush=True)
            if code != 0:
                failed += 1
                print(output, flush=True)
    for name, why in LEFT_OUT.items():
        print(f"left out: {name}: {why}")
    return 1 if failed or not names else 0


sys.exit(main())
