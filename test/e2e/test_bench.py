"""The benchmark program itself: its parts run, keep their figures, and draw. Nothing is asserted of the times."""

import json
import os
import subprocess
import xml.etree.ElementTree

from instance import BINARY, ROOT

RUN = os.path.join(ROOT, "test", "bench", "run")


def bench(directory, *args):
    done = subprocess.run(["/usr/bin/python3", RUN, "--only", "--json", f"{directory}/b.json", "--svg", str(directory), *args],
                          env=dict(os.environ, POSTRIDER=BINARY, BENCH_DIR=str(directory)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mailbox_and_curves_are_measured_kept_and_drawn(tmp_path):
    text = bench(tmp_path, "--parts", "mailbox", "--messages", "120", "--rounds", "1")
    assert "FETCH 1:* (FLAGS)" in text
    bench(tmp_path, "--parts", "", "--curves", "mailbox,accounts", "--scale", "0.00001")
    kept = json.loads((tmp_path / "b.json").read_text())
    assert kept["mailbox"]["EXPUNGE of the rest"]["postrider"]["bytes"] > 0
    assert [p["x"] for p in kept["curves"]["mailbox"]] == [1, 10]
    assert kept["curves"]["accounts"][0]["create_us"] > 0
    for name in ("mailbox", "accounts"):
        assert xml.etree.ElementTree.parse(tmp_path / f"bench-{name}.svg").getroot().tag.endswith("svg")
    assert "| accounts |" in bench(tmp_path, "--markdown")


def test_mail_that_goes_out_is_measured(tmp_path):
    text = bench(tmp_path, "--parts", "list,deferred", "--rounds", "1", "--scale", "0.0001")
    kept = json.loads((tmp_path / "b.json").read_text())
    assert kept["relay"]["10,000 recipients, 100 destinations"]["postrider"] > 0
    assert kept["deferred"]["messages"] == 100 and kept["deferred"]["bytes_after_filling"] > 0
    assert "memory a message" in text
    assert "| mail that goes out |" in bench(tmp_path, "--markdown")
