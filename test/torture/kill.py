"""make torture PARTS=kill: kill -9 of each process and of all, thousands of times, under 200 concurrent clients.

The load and what it knows: test/e2e/crashclients.py; who kills, and what is looked at after each round:
test/e2e/crashkill.py. TORTURE_SECONDS and TORTURE_SEED as in `run`; KILL_USERS (40), KILL_SENDERS (80) and KILL_ROUND
(30 s of load between two looks). The seed repeats what clients and killer choose; when it happens is the machine's.
What is left of a run that failed is kept, and its place told."""

import os
import random
import sys
import tempfile
import time
import shutil
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from crashkill import Faults, make_users, rounds                  # noqa: E402
from instance import Instance                                     # noqa: E402

USERS = int(os.environ.get("KILL_USERS", "40"))
SENDERS = int(os.environ.get("KILL_SENDERS", "80"))
ROUND = float(os.environ.get("KILL_ROUND", "30"))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(1 << 30)))


def main():
    place = tempfile.mkdtemp(prefix="torture-kill-")
    os.chmod(place, 0o755)
    faults = Faults(os.path.join(place, "faults"))
    os.environ["POSTRIDER_FAULTS"] = faults.dir
    print(f"{3 * USERS + SENDERS} clients, {USERS} accounts, seed {SEED}, in {place}", flush=True)
    begin = time.monotonic()
    try:
        with Instance(os.path.join(place, "mail"), settings={
                "imap_client_connection_count_limit": "0", "pop3_client_connection_count_limit": "0",
                "smtpd_client_connection_count_limit": "0"}) as mail:
            users = make_users(mail, USERS)
            mail.start()
            killer, world = rounds(mail, users, SENDERS, SEED, SECONDS, ROUND, faults,
                                   say=lambda text: print(text, flush=True))
    except BaseException:
        traceback.print_exc()
        print(f"kept: {place}", flush=True)
        return 1
    finally:
        faults.close()
    print(f"{killer.total()} kills in {time.monotonic() - begin:.0f} s: {killer.kills}")
    print(f"{world.stats}")
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
