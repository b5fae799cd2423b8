"""Every attack of test/e2e/attacks.py in full size, each alone, round after round until the time is over: what it cost us
(CPU seconds, growth of memory of all processes together) beside what it cost the attacker (bytes, connections), and the
latency of an honest client before and during it.

TORTURE_SECONDS, TORTURE_SEED as everywhere; ATTACKS="name name": only those. At least one whole round is run."""

import json
import os
import sys
import tempfile
import time

import attacks
import attacks_imap  # noqa: F401: notes its attacks in attacks.ATTACKS
from attacks import ATTACKS, Field
from guard import HONEST, Guard
from instance import Instance

SECONDS, SEED = float(os.environ.get("TORTURE_SECONDS", "600")), int(os.environ.get("TORTURE_SEED", "1"))


def run(name, seed):
    fn, group = ATTACKS[name]
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        with Instance(os.path.join(directory, "mail"), settings=attacks.TIGHT if group == "slow" else attacks.SETTINGS) as mail:
            mail.user(HONEST)
            mail.user(attacks.VICTIM)
            mail.start()
            mail.send(attacks.VICTIM)
            field = Field(mail, seed)
            with Guard(mail) as guard:
                fn(field)
            each = f", {guard.memory / field.connections / 1e3:.1f} KB a connection" if field.connections >= 100 else ""
            print(f"{name:36} {guard.text()}; {field.connections} connections, {field.sent / 1e6:.1f} MB sent{each}", flush=True)
            return dict(name=name, seconds=guard.seconds, cpu=guard.cpu, memory=guard.memory, ratio=guard.ratio(),
                        connections=field.connections, sent=field.sent)


def main():
    names = os.environ.get("ATTACKS", "").split() or list(ATTACKS)
    until, seed, results, failed = time.monotonic() + SECONDS, SEED, [], 0
    while True:
        for name in names:
            try:
                results.append(run(name, seed))
            except Exception as e:
                failed += 1
                print(f"FAILED {name} (seed {seed}): {e!r}", flush=True)
        seed += 1
        if time.monotonic() > until:
            break
    if os.environ.get("ATTACKS_JSON"):
        with open(os.environ["ATTACKS_JSON"], "w") as f:
            json.dump(results, f, indent=1)
    return 1 if failed else 0


sys.exit(main())
