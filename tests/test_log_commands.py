"""`trackside log`: a killed pipeline's directory is sound, a flipped byte is found and named wherever it is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from conftest import Start
from running import received, run

FLIPS = 12

PIPELINE = """
[pipeline]
name = "looked-over"

[schema]
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }

[[source]]
type = "generate"
rate = 20000
malformed = 0.01

[[clean]]
type = "dedupe"
by = "seq"

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""


def look(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a `trackside log` command."""
    ran = run("log", *words, "--json", folder=folder)
    assert ran.out, ran.err
    return ran.code, json.loads(ran.out.splitlines()[-1])


def test_a_kill_leaves_no_damage_and_a_flipped_byte_is_damage(start: Start) -> None:
    """Verified while it runs and after a kill; then bytes are flipped one at a time, and each is found in its place."""
    up = start(PIPELINE)
    up.wait("some rows", received(20_000))
    assert look(up.folder, "verify")[0] == 0
    up.kill()
    code, report = look(up.folder, "verify")
    assert (code, report["damaged"]) == (0, 0), report
    assert report["rows"] >= 20_000
    info = look(up.folder, "info")[1]
    assert {partition["topic"] for partition in info["partitions"]} == {"received", "clean"}

    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    lot = random.Random(seed)
    for topic in ("received", "clean"):
        segment = min((up.data / "log" / topic / "0").glob("*.seg"))
        whole = segment.read_bytes()
        used = len(whole.rstrip(b"\0"))
        for _ in range(FLIPS):
            place = lot.randrange(64, used // 2)
            flipped = bytearray(whole)
            flipped[place] ^= 1 << lot.randrange(8)
            segment.write_bytes(flipped)
            code, report = look(up.folder, "verify")
            assert code == 1, f"byte {place} of {segment}"
            found = [finding for finding in report["findings"] if finding["kind"] == "frame"]
            assert any(
                finding["file"].endswith(segment.name) and finding["at"] <= place < finding["at"] + finding["length"]
                for finding in found
            ), (place, found)
        segment.write_bytes(whole)
    assert look(up.folder, "verify")[0] == 0


def test_what_was_repaired_is_known_and_the_pipeline_goes_on(start: Start) -> None:
    """`repair` needs the lock, copies and notes; the pipeline then runs on the directory as before."""
    up = start(PIPELINE)
    up.wait("some rows", received(5_000))
    assert run("log", "repair", "--apply", folder=up.folder).code == 3
    up.kill()
    segment = min((up.data / "log" / "received" / "0").glob("*.seg"))
    bytes_ = bytearray(segment.read_bytes())
    bytes_[300] ^= 1
    segment.write_bytes(bytes_)
    assert look(up.folder, "repair")[0] == 1
    code, repairs = look(up.folder, "repair", "--apply")
    assert code == 0 and repairs["actions"][0]["done"], repairs
    assert segment.read_bytes() == bytes(bytes_)
    code, report = look(up.folder, "verify")
    assert (code, report["findings"][0]["severity"]) == (0, "known"), report
    again = start()
    again.wait("the pipeline to go on", lambda status: status["sums"]["clean"]["clean"] > report["rows"] // 2)
