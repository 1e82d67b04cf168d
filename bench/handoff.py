"""`handoff`: 100 rows appended by the engine → the same rows as NumPy in the model's `update`, in a worker process.

The clock is read before the rows are even built, and again in the model's first line, after it touched the array. In
between lie the append to `received` (whose fsync runs beside it), the cleaning stage with its append, and the worker's
wake-up. Each batch waits for its acknowledgement, so the disk is at work all the time.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import workload

PIPELINE = """
[pipeline]
name = "handoff"

[schema]
series = ["device"]
fields = {{ value = "float", sent = "integer" }}
unknown = "ignore"

[[model]]
name = "stamp"
use = "{models}:Stamp"
field = "value"
options = {{ stamps = "{stamps}" }}
"""
GOAL_US = 150


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    python = workload.ROOT / ".venv" / "bin" / "python"
    workload.FOLDER.mkdir(parents=True, exist_ok=True)
    rounds = [once(python) for _ in range(arguments.runs)]
    spread = {key: measure.Spread([latency[key] for latency, _ in rounds]) for key in ("p50_us", "p99_us")}
    acknowledged = measure.Spread([synced["p50_us"] for _, synced in rounds])
    p50, p99 = (spread[key].text() for key in ("p50_us", "p99_us"))
    say(f"  append of 100 rows → NumPy in the worker: p50 {p50} µs, p99 {p99} µs (goal: p50 ≤ {GOAL_US})")
    say(f"  the same batch durable (fsync):           p50 {acknowledged.text()} µs")
    return {
        "latency_us": {key.removesuffix("_us"): round(s.median, 1) for key, s in spread.items()},
        "durable_us": {"p50": round(acknowledged.median, 1)},
        "counts": {"batches": rounds[0][0]["batches"], "rows": 100},
        "runs": [latency for latency, _ in rounds],
    }


def once(python: Path) -> tuple[dict[str, float], dict[str, float]]:
    """One engine, one worker: latencies of its batches, and of their fsyncs."""
    folder = Path(tempfile.mkdtemp(prefix="handoff-", dir=workload.FOLDER))
    stamps, models = folder / "stamps", Path(__file__).resolve().parent / "models.py"
    (folder / "handoff.toml").write_text(PIPELINE.format(models=models, stamps=stamps))
    answer = measure.run([workload.PROGRAM, "append-loop", folder, python], pin=False).answer
    seen = list(struct.iter_unpack("<3q", stamps.read_bytes()))
    shutil.rmtree(folder)
    if sum(rows for _, _, rows in seen) != answer["batches"] * answer["rows"]:
        raise SystemExit(f"the model saw {sum(rows for _, _, rows in seen)} rows, not all; this is not a result")
    latency = measure.percentiles([at - sent for sent, at, _ in seen])
    return latency | {"batches": answer["batches"]}, measure.percentiles(answer["acknowledged_ns"])
