"""Models that fail: ingest goes on, exactly the poisonous row is a dead letter, every other row is scored.

The scores are running sums, computed here as well: a row that was lost, doubled, reordered or learnt from although it
is dead changes every score behind it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tables
from conftest import Start
from models_that_fail import POISON
from running import Up, scored

PIPELINE = """
[pipeline]
name = "poison"
snapshot_every = "100ms"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float", n = "integer" }

[server]
listen = "127.0.0.1:0"
"""

HTTP = """
[[source]]
type = "http"
"""

TABLES = """
[[sink]]
type = "parquet"
topic = "clean"

[[sink]]
type = "parquet"
topic = "scores.sum"
"""

ACK_MAX = 2.0
"""Seconds in which a post must be acknowledged while a model fails: far below what bisecting takes."""


def model(use: str, more: str = "", name: str = "sum") -> str:
    return f'\n[[model]]\nname = "{name}"\nuse = "models_that_fail.py:{use}"\nfield = "value"\n{more}\n'


def event(n: int, value: float) -> dict[str, Any]:
    return {"ts": 1_700_000_000_000 + n, "device": f"d{n % 3}", "value": value, "n": n}


def good(n: int) -> dict[str, Any]:
    return event(n, float(n % 17))


@pytest.fixture(autouse=True)
def model_file(tmp_path: Path) -> None:
    """The models lie beside the pipeline file, as a user's do."""
    shutil.copy(Path(__file__).with_name("models_that_fail.py"), tmp_path)


def sums(values: Sequence[float]) -> list[float]:
    """What the running sum must score: of each value, the sum of those before."""
    return [0.0, *np.cumsum(values)[:-1].tolist()]


def check_scores(up: Up, topic: str = "scores.sum") -> None:
    """Every clean row but the dead has its score, as if the dead had never been."""
    clean = [row for row in tables.rows(up.data, "clean") if row["value"] != POISON]
    scores = tables.rows(up.data, topic, order='"partition", "offset"')
    assert [row["offset"] for row in scores] == [row["_offset"] for row in clean]
    assert [row["score"] for row in scores] == sums([row["value"] for row in clean])


def post_until_dead(up: Up, first: int) -> list[float]:
    """Post rows one by one until the model has given up its poisonous row; how long each took to be acknowledged."""
    took: list[float] = []

    def once(status: dict[str, Any]) -> bool:
        began = time.monotonic()
        up.ingest(good(first + len(took)))
        took.append(time.monotonic() - began)
        return bool(status["sums"]["models"]["sum"]["dead"])

    up.wait("the poisonous row's dead letter", once)
    return took


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise", ["Traceback", "ValueError: this value is poison", "in strike"]),
        ("segfault", ["SIGSEGV", "in strike"]),
        ("exit", ["exit status: 3"]),
        ("loop", ["no answer within 1.0 s", "in strike"]),
    ],
)
def test_one_row_is_lost_to_the_model_and_ingest_goes_on(start: Start, how: str, told: list[str]) -> None:
    more = f'deadline = "1s"\noptions = {{ how = "{how}" }}'
    up = start(PIPELINE + HTTP + model("RunningSum", more) + TABLES)
    up.ingest(*map(good, range(40)))
    up.wait("the first rows' scores", scored(40))
    up.ingest(*[event(n, POISON) if n == 45 else good(n) for n in range(40, 56)])
    took = post_until_dead(up, 56)
    assert statistics.median(took) < 0.2, f"acknowledged in {statistics.median(took):.3f} s"
    assert max(took) < ACK_MAX, f"one post took {max(took):.3f} s"
    up.ingest(good(10_000))
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["dead"], summary["in_flight"], summary["skipped"]) == (1, 0, 0)
    assert summary["scored"] == summary["clean"] - 1 == summary["received"] - 1 == 40 + 16 + len(took)
    check_scores(up)
    (letter,) = tables.rows(up.data, "dead-letter", order="received_at")
    assert (letter["stage"], letter["component"]) == ("model", "sum")
    assert json.loads(letter["row"])["n"] == 45
    (poison,) = (row for row in tables.rows(up.data, "clean") if row["value"] == POISON)
    assert letter["offset"] == poison["_offset"]
    for text in told:
        assert text in letter["detail"], letter["detail"]


def test_a_worker_killed_from_outside_costs_nothing(start: Start) -> None:
    up = start(PIPELINE + HTTP + model("RunningSum") + TABLES)
    for number in range(5):
        up.ingest(*map(good, range(number * 50, number * 50 + 50)))
        status = up.wait("scores", scored(number * 50 + 50))
        os.kill(status["models"][0]["pid"], signal.SIGKILL)
    up.ingest(good(1000))
    up.wait("the last score", scored(251))
    assert up.model("sum")["restarts"] >= 5
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["scored"], summary["dead"], summary["skipped"]) == (251, 0, 0)
    check_scores(up)


def test_a_worker_that_leaks_is_recycled_between_batches_without_loss(start: Start) -> None:
    up = start(PIPELINE + HTTP + model("Leaking", "memory_mib = 128") + TABLES)
    workers = set()
    for n in range(40):
        up.ingest(good(n))
        status = up.wait("its score", scored(n + 1))
        workers.add(status["models"][0]["pid"])
    assert len(workers) >= 3, f"{len(workers)} workers"
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["scored"], summary["dead"], summary["skipped"]) == (40, 0, 0)
    check_scores(up)


def test_a_model_scores_alike_in_a_process_and_in_this_one(start: Start, tmp_path: Path) -> None:
    noise = np.random.default_rng(11).normal(20, 1, 3000)
    noise[[1234, 2345]] += 25
    lines = [json.dumps(event(n, round(float(value), 3))) for n, value in enumerate(noise)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    pairs = {"sum": "models_that_fail.py:RunningSum", "anomaly": "trackside.models:Anomaly"}
    blocks = [
        f'[[model]]\nname = "{name}-{mode}"\nuse = "{use}"\nfield = "value"\nmode = "{mode}"\n'
        f'[[sink]]\ntype = "parquet"\ntopic = "scores.{name}-{mode}"\n'
        for name, use in pairs.items()
        for mode in ("process", "in_process")
    ]
    source = '\n[[source]]\ntype = "file"\npath = "events.jsonl"\n'
    up = start(PIPELINE + source + "\n".join(blocks), "--until-idle")
    summary = up.end()
    assert summary["balanced"], summary
    assert summary["scored"] == 4 * 3000
    for name in pairs:
        one, other = (
            tables.read(up.data, f"scores.{name}-{mode}", order='"offset"', columns="* exclude (_offset)").to_pylist()
            for mode in ("process", "in_process")
        )
        assert one == other
        assert len({row["score"] for row in one}) > 2


def test_a_row_that_raises_in_this_process_is_the_only_one_lost(start: Start) -> None:
    more = 'mode = "in_process"\noptions = { how = "raise" }'
    up = start(PIPELINE + HTTP + model("RunningSum", more) + TABLES)
    up.ingest(*[event(n, POISON) if n == 7 else good(n) for n in range(20)])
    up.ingest(good(20))
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["scored"], summary["dead"], summary["in_flight"]) == (20, 1, 0)
    check_scores(up)
    (letter,) = tables.rows(up.data, "dead-letter", order="received_at")
    assert "ValueError: this value is poison" in letter["detail"]


def test_behind_a_model_that_cannot_start_rows_are_counted_as_skipped(start: Start) -> None:
    """Ingest, cleaning and tables go on; once the model is there, it goes on from its backlog."""
    up = start(PIPELINE + HTTP + model("NotThere", "max_backlog = 10") + TABLES)
    up.wait("the model to fail", lambda s: s["models"][0]["state"] == "failed")
    assert "NotThere" in up.model("sum")["last_error"]
    up.ingest(*map(good, range(100)))
    status = up.wait("skipped rows", lambda s: s["models"][0]["skipped"] == 90)
    assert status["sums"]["models"]["sum"]["balanced"]
    assert status["sums"]["models"]["sum"]["in_flight"] == 10
    summary = up.stop()
    assert summary["balanced"], summary
    text = up.file.read_text().replace("NotThere", "RunningSum")
    up = start(text)
    up.wait("the rest's scores", scored(10))
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["clean"], summary["scored"], summary["skipped"]) == (100, 10, 90)
