"""Kills of a fleet that is cleaned by all means: rows dropped, rejected, replaced, poisonous, over three partitions.

Dropping and rejecting leave frames without rows, whose number depends on how the input was cut; so offsets may differ
here from a straight run's, and nothing else may.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import tables
from conftest import Start
from models_that_fail import POISON
from running import wait_for

import trackside

KILLS = 6
TS = 1_700_000_000_000

FLEET = """
[pipeline]
name = "fleet"
partitions = 3
snapshot_every = "100ms"

[schema]
time = {{ field = "ts", unit = "ms" }}
series = ["device"]
fields = {{ value = "float", load = "float", seq = "integer" }}

[[source]]
type = "file"
path = "{path}"
{pace}

[[clean]]
type = "dedupe"
by = "seq"

[[clean]]
type = "range"
field = "value"
max = 90.0
action = "reject"

[[clean]]
type = "hampel"
field = "value"
action = "replace"

[[model]]
name = "sum"
use = "models_that_fail.py:RunningSum"
field = "load"
options = {{ how = "raise" }}

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"
age = "100ms"

[[sink]]
type = "parquet"
topic = "scores.sum"
age = "100ms"

[[sink]]
type = "parquet"
topic = "scores.anomaly"
age = "100ms"

[[sink]]
type = "parquet"
topic = "dead-letter"
age = "100ms"

[server]
listen = "127.0.0.1:0"
"""

FLEET_ROWS = 6000


def fleet(lot: random.Random) -> str:
    """Rows of twelve devices: some twice, some late, some out of range, some broken, some poison to a model."""
    lines = []
    for n in range(FLEET_ROWS):
        value = round(lot.gauss(20, 2), 2)
        if lot.random() < 0.02:
            value = lot.choice([99.0, 80.0])
        load = POISON if n % 1500 == 700 else float(n % 13)
        line = json.dumps({"ts": TS + n * 100, "device": f"d{n % 12}", "value": value, "load": load, "seq": n // 12})
        lines.append(line)
        if lot.random() < 0.05:
            lines.append(line)
        if lot.random() < 0.01:
            lines.append(line[: len(line) // 2])
    for at in range(0, len(lines) - 20, 50):
        lines[at], lines[at + 13] = lines[at + 13], lines[at]
    return "\n".join(lines) + "\n"


def test_the_same_rows_and_sums_come_out(start: Start, tmp_path: Path, seed: int) -> None:
    shutil.copy(Path(__file__).with_name("models_that_fail.py"), tmp_path)
    (tmp_path / "straight").mkdir()
    shutil.copy(Path(__file__).with_name("models_that_fail.py"), tmp_path / "straight")
    (tmp_path / "events.jsonl").write_text(fleet(random.Random(seed)))
    whole = FLEET.format(path=tmp_path / "events.jsonl", pace="")
    first = start(whole, "--until-idle", folder=tmp_path / "straight")
    expected = first.end()
    assert expected["balanced"] and min(expected["dead"], expected["filtered"]) > 100, expected
    assert expected["sums"]["models"]["sum"]["dead"] == 4, expected

    text = FLEET.format(path=tmp_path / "events.jsonl", pace="rate = 1000")
    lot = random.Random(seed)
    for share in sorted(lot.sample(range(5, 95), KILLS)):
        up = start(text)
        wait_for_rows(up.data, lot.choice(["received", "clean", "scores.sum"]), expected["clean"] * share // 100)
        up.kill()
    summary = start(None, "--until-idle").end()
    assert summary["sums"] == expected["sums"], f"seed {seed}"
    for topic, key in FLEET_ORDER.items():
        found = [content(tables.rows(data, topic, order=key)) for data in (first.data, tmp_path / "data")]
        assert len(found[0]) == len(found[1]), f"{topic} of seed {seed}"
        differing = [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]]
        assert not differing, f"{topic} of seed {seed}: {len(differing)} rows, first {differing[0]}"


FLEET_ORDER = {
    "clean": "_partition, _offset",
    "scores.sum": '"partition", "offset"',
    "scores.anomaly": '"partition", "offset"',
    "dead-letter": 'stage, component, "row", payload, detail',
}


def wait_for_rows(data: Path, topic: str, rows: int) -> None:
    """Until so many rows of a topic lie on the disk; asks no process."""
    wait_for(f"{rows} rows in {topic}", lambda: len(trackside.connect(data).read(topic)) >= rows)


def content(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without offsets, which the frames without rows in between shift, and without the time of their arrival.

    How often a model failed before it came to the poisonous row may differ, and with it the traceback's text.
    """
    left_out = {"offset", "_offset", "received_offset", "received_at", "detail"}
    plain = [{name: value for name, value in row.items() if name not in left_out} for row in rows]
    for row in plain:
        if row.get("row"):
            row["row"] = content([json.loads(row["row"])])
    return plain
