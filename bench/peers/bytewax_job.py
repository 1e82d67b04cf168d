"""Bytewax 0.21.1, one worker, no recovery: the job as a dataflow with state by series. `bytewax_job.py IN OUT`"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from job import SENSORS, Series, Table

counts = dict.fromkeys(("lines", "malformed", "duplicates", "out_of_range", "spikes", "survivors"), 0)


class TablePartition(StatelessSinkPartition[tuple[str, tuple[Any, ...]]]):
    def __init__(self, path: str) -> None:
        self._table = Table(path)

    def write_batch(self, items: list[tuple[str, tuple[Any, ...]]]) -> None:
        if items:
            self._table.extend([row for _, row in items])

    def close(self) -> None:
        self._table.close()
        counts["survivors"] = self._table.rows


class TableSink(DynamicSink[tuple[str, tuple[Any, ...]]]):
    def __init__(self, path: str) -> None:
        self._path = path

    def build(self, step_id: str, worker_index: int, worker_count: int) -> TablePartition:  # noqa: ARG002
        return TablePartition(self._path)


def parse(line: str) -> tuple[str, tuple[Any, ...]] | None:
    counts["lines"] += 1
    try:
        event = orjson.loads(line)
        row = (event["ts"], event["device"], event["sensor"], event["value"], event["unit"], event["seq"])
    except (ValueError, KeyError, TypeError):
        counts["malformed"] += 1
        return None
    return f"{row[1]}/{row[2]}", row


def clean(state: Series | None, row: tuple[Any, ...]) -> tuple[Series, tuple[Any, ...] | None]:
    series = state or Series()
    ts, device, sensor, value, unit, seq = row
    limits = SENSORS[sensor]
    rule = series.judge(value, seq, limits)
    if rule is not None:
        counts[rule] += 1
        return series, None
    return series, (ts, device, sensor, value + limits[3], limits[4] or unit, seq)


def dataflow(source: str, target: str) -> Dataflow:
    flow = Dataflow("bench")
    lines = op.input("lines", flow, FileSource(source, batch_size=1000))
    events = op.filter_map("parse", lines, parse)
    judged = op.stateful_map("clean", events, clean)
    kept = op.filter("kept", judged, lambda item: item[1] is not None)
    op.output("table", kept, TableSink(target))
    return flow


def main(source: str, target: str) -> None:
    began = time.process_time()
    run_main(dataflow(source, target))
    print(json.dumps({"counts": counts, "cpu_seconds": time.process_time() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
