"""make torture PARTS=flips: bits that flip in the index while the system runs, before the accounts that they concern are
looked at. What a checksum, a count or the walk at the next start finds is made again from the files; nobody loses a message, a
UID or a flag, and whoever is not concerned is served meanwhile.

A round flips one to four bits of bytes that are in use, then all users read and get mail. TORTURE_SECONDS, TORTURE_SEED as in
`run`. LMDB trusts its pages: a flip in one may end the store, which then finds it as it begins."""

import os
import random
import re
import sys
import tempfile
import time

# An end by a signal within LMDB is what is expected, not a fault of ours that a sanitizer should tell.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_sigbus=0:handle_abort=0"

import instance                                                    # noqa: E402
from damage import flip, in_use, prepare, state_within            # noqa: E402
from instance import Instance                                     # noqa: E402

SECONDS = float(os.environ["TORTURE_SECONDS"])
SEED = int(os.environ["TORTURE_SEED"])
USERS = [f"u{i}@example.test" for i in range(6)]


def own_report(text, everything=instance.sanitizer_report):
    """What a sanitizer found, but for an end within LMDB: such a store would have been killed by a signal."""
    return everything(instance.without_ends_in("liblmdb", text))


def one_round(mail, rng, number, expected):
    assert mail.stop() == 0
    mail.start()
    data = in_use(mail)
    places = rng.sample(sorted(data), rng.randint(1, 4))
    bits = [(at, rng.randrange(8)) for at in places]
    before = len(mail.log())
    for at, bit in bits:
        flip(mail, at, bit)
    try:
        for user in rng.sample(USERS, len(USERS)):
            state_within(mail, user, expected[user], 120)
    except AssertionError:
        print(f"round {number}: flipped {bits}", flush=True)
        raise
    said = mail.log()[before:]
    found = sorted(set(re.findall(r"index holds a damaged value|a record of the index is damaged|the index is damaged"
                                  r"|records of account \d+ are damaged|killed by signal \d+|rebuilt from its files", said)))
    print(f"round {number}: {bits}: {', '.join(found) or 'nothing was said'}", flush=True)
    return bool(found)


def main():
    rng, told, number = random.Random(SEED), 0, 0
    instance.sanitizer_report = own_report
    until = time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory(prefix="postrider-flips-") as base:
        os.chmod(base, 0o755)
        with Instance(os.path.join(base, "mail")) as mail:
            for user in USERS:
                mail.user(user)
            mail.start()
            expected = {user: prepare(mail, user) for user in USERS}
            while time.monotonic() < until:
                number += 1
                told += one_round(mail, rng, number, expected)
            assert mail.stop() == 0
    print(f"flips: {number} rounds, something was found in {told}; seed {SEED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
