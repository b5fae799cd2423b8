"""The short form of test/torture/hostile.py: the attacks of a group run at the same time against one instance, while an
honest client goes about its business. Bounds are generous, because this runs on busy machines with sanitizers on; the
long form runs each attack alone and reports the figures."""

import os

import pytest

import attacks
import attacks_imap  # noqa: F401: notes its attacks in attacks.ATTACKS
from attacks import Field, names_of
from guard import HONEST, Guard
from instance import Instance

# What the short form asks for less of.
SHORT = {
    "ten_megabytes_in_one_line": dict(services=("smtp", "lmtp", "imap", "pop3", "imaps", "submissions")),
    "garbage_of_every_kind": dict(services=("smtp", "imap", "pop3", "imaps"), size=1 << 15),
    "pipelined_floods_without_reading": dict(size=1 << 20),
    "endless_headers": dict(megabytes=3),
    "hundred_thousand_recipients": dict(count=5_000),
    "a_million_tiny_chunks": dict(count=20_000),
    "thousands_of_names": dict(count=120),
    "whole_mailbox_again_and_again": dict(rounds=2, sessions=2),
    "large_fetches_not_read": dict(sessions=6, megabytes=4),
    "a_byte_now_and_then": dict(services=("smtp", "lmtp", "imap", "pop3", "imaps"), copies=1),
    "readers_of_a_byte_now_and_then": dict(copies=1),
    "idle_connections": dict(count=1000),
    "connect_storm": dict(count=400),
    "hand_shakes_in_numbers": dict(count=32),
    "hard_messages_by_append": dict(names=("5,000 nested parts", "a million addresses", "100,000 RFC 2231 parameters",
                                           "100,000 header fields", "100,000 lines like a boundary", "a field of 5 MB")),
}
# Groups share an instance and run one behind the other. Megabytes of memory and seconds of CPU that each may cost in all.
GROUPS = {"wire": (("lines", "mail", "smtp", "tls"), 220, 40), "imap": (("imap",), 120, 30), "slow": (("slow",), 80, 20),
          "many": (("many",), 60, 10)}


@pytest.fixture
def besieged(tmp_path, monkeypatch, request):
    # What AddressSanitizer keeps of freed memory says nothing about the program.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64")
    settings = attacks.TIGHT if request.param == "slow" else dict(attacks.SETTINGS, smtpd_error_sleep_time="0s")
    with Instance(tmp_path / "mail", settings=settings) as m:
        m.user(HONEST)
        m.user(attacks.VICTIM)
        m.start()
        m.send(attacks.VICTIM)
        yield m


@pytest.mark.parametrize("besieged,group", [(g, g) for g in GROUPS], indirect=["besieged"], ids=list(GROUPS))
def test_attacks_of(besieged, group):
    parts, megabytes, seconds = GROUPS[group]
    slack = 4 if attacks.is_sanitized() else 1
    with Guard(besieged, rounds=3) as guard:
        for part in parts:
            attacks.parallel([lambda n=n, i=i: attacks.ATTACKS[n][0](Field(besieged, seed=i), **SHORT.get(n, {}))
                              for i, n in enumerate(names_of(part))])
    print(f"\n{group}: {guard.text()}")
    assert guard.memory < megabytes * 1e6 * slack
    assert guard.cpu < seconds * slack
    assert guard.ratio() < 100 and max(guard.during) < 30
    besieged.send(HONEST)
