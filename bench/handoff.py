"""`handoff`: 100 rows appended → the same rows as NumPy in the model's `update`, in a worker process.

Two figures. `hop`: the clock is read just before the append to `clean`, and again in the model's first line, after it
touched the array; between them lie append, wake-up, the runtime's message and the worker. `path`: from the engine's
door on, before the rows are even built, with the append to `received` and the cleaning stage in between. Each append
is fsynced meanwhile, so the disk is at work all the time. Everything runs on one core, as the transports that are
usually compared do: waking an idle core of a virtual machine costs more than all else here.
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
fields = {{ value = "float", mark = "integer" }}
unknown = "ignore"

[[model]]
name = "stamp"
use = "{models}:Stamp"
field = "value"
options = {{ stamps = "{stamps}" }}
"""
GOAL_US = 150
ROWS = 100


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    python = workload.ROOT / ".venv" / "bin" / "python"
    workload.FOLDER.mkdir(parents=True, exist_ok=True)
    ways = {"hop": "append-loop", "path": "door-loop"}
    rounds = [{way: once(command, python) for way, command in ways.items()} for _ in range(arguments.runs)]
    report: dict[str, dict[str, float]] = {}
    for way in ways:
        for what, number in ((way, 0), (f"{way}_durable", 1)):
            spread = {key: measure.Spread([one[way][number][key] for one in rounds]) for key in ("p50_us", "p99_us")}
            report[what] = {key.removesuffix("_us"): round(s.median, 1) for key, s in spread.items()}
            say(f"  {what:12} p50 {spread['p50_us'].text():>16} µs, p99 {spread['p99_us'].text():>20} µs")
    say(f"  goal for `hop` (append of 100 rows → NumPy in the worker): p50 ≤ {GOAL_US} µs; `durable`: its fsync")
    return {
        "latency_us": report["hop"],
        "from_the_door_us": report["path"],
        "durable_us": report["hop_durable"],
        "counts": {"batches": rounds[0]["hop"][0]["batches"], "rows": ROWS},
        "runs": [{way: latency for way, (latency, _) in one.items()} for one in rounds],
    }


def once(command: str, python: Path) -> tuple[dict[str, float], dict[str, float]]:
    """One log, one worker: latencies of its batches, and of their fsyncs."""
    folder = Path(tempfile.mkdtemp(prefix="handoff-", dir=workload.FOLDER))
    stamps, models = folder / "stamps", Path(__file__).resolve().parent / "models.py"
    (folder / "handoff.toml").write_text(PIPELINE.format(models=models, stamps=stamps))
    answer = measure.run([workload.PROGRAM, command, folder, python]).answer
    seen = list(struct.iter_unpack("<3q", stamps.read_bytes()))
    shutil.rmtree(folder)
    if sum(rows for _, _, rows in seen) != answer["batches"] * ROWS:
        raise SystemExit(f"the model saw {sum(rows for _, _, rows in seen)} rows, not all; this is not a result")
    # `path` marks each row with its clock; `hop` with its batch's number, to read the clock last of all.
    sent = answer.get("sent_ns")
    latency = measure.percentiles([at - (sent[mark] if sent else mark) for mark, at, _ in seen])
    return latency | {"batches": answer["batches"]}, measure.percentiles(answer["acknowledged_ns"])
