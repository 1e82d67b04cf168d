"""`kill -9` of the whole process group at twenty places of a real run: the tables come out as if nothing had happened.

The places are offsets, drawn by a printed seed over three stages of the run: rows in `received`, rows in `scores`, rows
committed to the table. Each start goes on until its stage has come to its offset, and is killed there and then.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import tables
from conftest import TABLES, Start, Straight, machine_text
from running import PATIENCE, Up, wait_for

import trackside

KILLS = 20
RATE = 700
"""Rows a second that the source is slowed down to, so that a start of half a second does not read all that is left."""

STAGES = {"received": "received", "scores": "scores.anomaly", "tables": "clean"}
"""Each stage and the topic whose rows tell how far it has come."""

ORDER = {
    "received": "_partition, _offset",
    "clean": "_partition, _offset",
    "scores.anomaly": '"partition", "offset"',
    "scores.forecast": '"partition", "offset"',
    "forecasts.forecast": "made_at, for_time, mean, lower",
}


@dataclass(frozen=True)
class Kill:
    """One place: when `stage` has come to `offset` rows."""

    stage: str
    offset: int


def draw(seed: int, rows: int) -> Iterator[Kill]:
    """Twenty places, ascending, over all stages in turn by lot."""
    lot = random.Random(seed)
    stages = [stage for stage in STAGES for _ in range(KILLS // len(STAGES) + 1)][:KILLS]
    lot.shuffle(stages)
    offsets = sorted(lot.sample(range(rows // 50, rows - rows // 50), KILLS))
    return (Kill(stage, offset) for stage, offset in zip(stages, offsets, strict=True))


def come(data: Path, stage: str) -> int:
    """Rows of a stage, as they lie on the disk; asks no process."""
    if stage == "tables":
        return sum(int(json.loads(path.read_text())["rows"]) for path in manifests(data))
    return len(trackside.connect(data).read(STAGES[stage]))


def manifests(data: Path) -> list[Path]:
    """One for each partition: its replacement commits rows to the table."""
    return list((data / "tables" / "_manifests" / STAGES["tables"]).glob("*.json"))


def named(data: Path) -> int:
    """The end of the newest range that a file of the table is named for, committed or not."""
    ends = [int(path.name.split("-")[-2]) for path in (data / "tables" / STAGES["tables"]).rglob("*-e*.parquet")]
    return max(ends, default=0)


def reach(up: Up, kill: Kill) -> None:
    """Wait until the stage has come to the offset; of a commit, its first file: the kill falls in the middle of it."""
    if come(up.data, kill.stage) >= kill.offset:
        return
    if kill.stage == "tables":
        wait_for(f"a commit of row {kill.offset}", lambda: named(up.data) >= kill.offset)
        return
    for batch in trackside.connect(up.data).live(STAGES[kill.stage], timeout=PATIENCE):
        if batch.offsets[-1] >= kill.offset:
            return
    raise AssertionError(f"no row {kill.offset} in {kill.stage}; the log ends with\n{up.said()}")


def left_behind(mark: str) -> list[int]:
    """Processes that inherited the mark in their environment: the engine and its workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_twenty_kills_leave_the_tables_of_a_straight_run(
    straight: Straight, machine_csv: Path, start: Start, seed: int
) -> None:
    total = straight.summary["clean"]
    text = machine_text(machine_csv, pace=f"rate = {RATE}", commits='rows = 600\nage = "150ms"')
    mark = f"killed-{os.getpid()}-{seed}"
    midway: Counter[str] = Counter()
    half_committed = 0
    for number, kill in enumerate(draw(seed, total)):
        up = start(text if number == 0 else None, TRACKSIDE_TEST_MARK=mark)
        reach(up, kill)
        up.kill()
        wait_for("the workers to end", lambda: not left_behind(mark))
        midway[kill.stage] += 0 < come(up.data, kill.stage) < total
        half_committed += named(up.data) > come(up.data, "tables")
    print(f"kills that fell mid-run: {dict(midway)}; {half_committed} left files of a commit that did not happen")
    assert sum(midway.values()) >= 15, midway
    assert all(midway[stage] >= 3 for stage in STAGES), midway

    last = start(None, "--until-idle")
    summary = last.end()
    assert summary["balanced"], summary
    assert summary["in_flight"] == summary["dead"] == summary["skipped"] == 0, summary
    for name in ("taken", "received", "clean", "scored", "forecasts", "anomalies", "table_rows"):
        assert summary[name] == straight.summary[name], f"{name} of seed {seed}"
    for topic in TABLES:
        compare(topic, straight.data, last.data, seed)


def compare(topic: str, straight: Path, killed: Path, seed: int) -> None:
    """Every column of every row, bit for bit, in the order of the log.

    Also the offsets: this run has no ticks, no rejected and no filtered rows, and logs the end of its input once, so
    that no frame without rows shifts them. (A table read over another topic has its frame's offset, which tells how
    the input was cut into batches, and that may differ.)
    """
    found = [without_frames(tables.read(data, topic, order=ORDER[topic])) for data in (straight, killed)]
    expected, actual = found
    assert actual.schema.names == expected.schema.names
    assert len(actual) == len(expected), f"{topic} of seed {seed}"
    for name in expected.schema.names:
        if not same(expected[name], actual[name]):
            pairs = zip(expected[name].to_pylist(), actual[name].to_pylist(), strict=True)
            row = next(number for number, (left, right) in enumerate(pairs) if left != right)
            raise AssertionError(
                f"`{name}` of {topic} differs first in row {row}: {expected.slice(row, 1).to_pylist()} became "
                f"{actual.slice(row, 1).to_pylist()}; seed {seed}"
            )


def without_frames(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in ("_offset",) if "_origin" in table.schema.names])


def same(left: pa.ChunkedArray, right: pa.ChunkedArray) -> bool:
    left, right = left.combine_chunks(), right.combine_chunks()
    if pa.types.is_dictionary(left.type):
        left = left.cast(left.type.value_type)
    if pa.types.is_dictionary(right.type):
        right = right.cast(right.type.value_type)
    return bool(left.equals(right))
