"""make torture PARTS=killout: kill -9 of each process while mail goes out to twenty destinations, some slow, some that put it
off, some that close without a word; by SMTP and by sendmail(1).

Load, destinations and what must hold: test/e2e/crashout.py. TORTURE_SECONDS and TORTURE_SEED as in `run`; KILL_SENDERS (14)
and KILL_ROUND (30 s of load between two looks). What is left of a run that failed is kept, and its place told."""

import os
import random
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from crashkill import Faults                                      # noqa: E402
from crashout import end, prepare, rounds                         # noqa: E402
from instance import Instance                                     # noqa: E402

SENDERS = int(os.environ.get("KILL_SENDERS", "14"))
ROUND = float(os.environ.get("KILL_ROUND", "30"))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30)))


def main():
    place = tempfile.mkdtemp(prefix="torture-killout-")
    os.chmod(place, 0o755)
    faults = Faults(os.path.join(place, "faults"))
    os.environ["POSTRIDER_FAULTS"] = faults.dir
    print(f"{SENDERS} senders, seed {SEED}, in {place}", flush=True)
    begin = time.monotonic()
    try:
        with Instance(os.path.join(place, "mail")) as mail:
            world = prepare(mail, SEED)
            try:
                mail.start()
                killer = rounds(world, SENDERS, SEED, SECONDS, ROUND, faults, say=lambda text: print(text, flush=True))
            finally:
                end(world)
    except BaseException:
        traceback.print_exc()
        print(f"kept: {place}", flush=True)
        return 1
    finally:
        faults.close()
    print(f"{killer.total()} kills in {time.monotonic() - begin:.0f} s: {killer.kills}")
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
