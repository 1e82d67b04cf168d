"""A real file through everything: every row arrives, is cleaned, is scored once by each model, and reads back alike."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tables
from conftest import Straight

import trackside

ROWS = 22_695
MODELS = ("anomaly", "forecast")

Row = tuple[int, float]
"""Nanoseconds since 1970, and the value."""


def as_rows(times: pa.ChunkedArray, values: pa.ChunkedArray) -> list[Row]:
    nanoseconds = times.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    return list(zip(nanoseconds.to_pylist(), values.to_pylist(), strict=True))


def by_duckdb(data: Path, topic: str) -> list[Row]:
    table = tables.read(data, topic, columns="epoch_ns(time) as at, value", order="_offset")
    return list(zip(table["at"].to_pylist(), table["value"].to_pylist(), strict=True))


def by_pandas(data: Path, topic: str) -> list[Row]:
    frame = pd.concat(pd.read_parquet(path) for path in sorted((data / "tables" / topic).rglob("*.parquet")))
    frame = frame.sort_values("_offset")
    return list(zip(frame["time"].astype("int64"), frame["value"], strict=True))


def by_polars(data: Path, topic: str) -> list[Row]:
    frame = pl.scan_parquet(tables.glob(data, topic), hive_partitioning=False).sort("_offset").collect()
    return list(zip(frame["time"].dt.epoch("ns"), frame["value"], strict=True))


def by_connect(data: Path, topic: str) -> list[Row]:
    frame = trackside.connect(data).read(topic).polars().sort("_offset")
    return list(zip(frame["time"].dt.epoch("ns"), frame["value"], strict=True))


@pytest.fixture(scope="module")
def original(machine_csv: Path) -> list[Row]:
    """The file as Python reads it, in its order."""
    with machine_csv.open(newline="") as file:
        return [
            (
                int(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=timezone.utc).timestamp()) * 10**9,
                float(row["value"]),
            )
            for row in csv.DictReader(file)
        ]


def test_rows_in_are_rows_out(straight: Straight) -> None:
    summary = straight.summary
    assert summary["balanced"], summary
    counts = {name: summary[name] for name in ("taken", "received", "clean", "table_rows")}
    assert counts == dict.fromkeys(counts, ROWS)
    assert [summary[name] for name in ("dead", "filtered", "in_flight", "skipped", "refused")] == [0] * 5
    assert summary["scored"] == ROWS * len(MODELS)
    held = {table["topic"]: table["rows"] for table in summary["tables"]}
    assert held["received"] == held["clean"] == held["scores.anomaly"] == held["scores.forecast"] == ROWS
    assert held["forecasts.forecast"] == summary["forecasts"] > 0


@pytest.mark.parametrize("topic", ["received", "clean"])
@pytest.mark.parametrize("reader", [by_duckdb, by_pandas, by_polars, by_connect])
def test_every_reader_finds_the_file(
    straight: Straight, original: list[Row], reader: Callable[[Path, str], list[Row]], topic: str
) -> None:
    found = reader(straight.data, topic)
    assert len(found) == len(original) == ROWS
    assert found == original, "order and every bit of the values"


def test_cleaning_marks_and_changes_nothing(straight: Straight) -> None:
    """The default action: a spike keeps its value and is marked."""
    query = f"select value_quality, count(*) from '{tables.glob(straight.data, 'clean')}' group by 1"
    with duckdb.connect() as database:
        marks = dict(database.execute(query).fetchall())
    spikes = sum(count for bits, count in marks.items() if bits & 2)
    out_of_range = sum(count for bits, count in marks.items() if bits & 1)
    assert marks[0] > ROWS * 0.8
    assert spikes > 100
    assert out_of_range == tables.read(straight.data, "received").filter(pa.compute.field("value") > 105.0).num_rows


@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_scored_once(straight: Straight, model: str) -> None:
    clean = tables.read(straight.data, "clean", columns="time, value, _partition, _offset")
    scores = tables.read(straight.data, f"scores.{model}", order='"partition", "offset"')
    assert scores["offset"].to_pylist() == clean["_offset"].to_pylist(), "each clean row once, none else"
    assert as_rows(scores["time"], scores["value"]) == as_rows(clean["time"], clean["value"])
    assert set(scores["field"].to_pylist()) == {"value"}
    ready, times = scores["ready"].to_pylist(), scores["time"].to_pylist()
    assert not ready[0]
    unready = [row for row in range(200, ROWS) if not ready[row]]
    assert all(times[row] <= max(times[:row]) for row in unready), "later only rows whose hour comes twice"


def test_the_failures_are_found_and_the_forecast_has_a_band(straight: Straight) -> None:
    """The machine was shut down on 16 December, as NAB's `combined_windows.json` has it; it stays quiet mostly."""
    session = trackside.connect(straight.data)
    around = session.read("scores.anomaly", "2013-12-15 17:50", "2013-12-17 17:00").polars()
    assert around["anomaly"].any(), "none of the rows around the shutdown is an anomaly"
    assert all(around.filter(around["anomaly"])["reason"])
    marked = session.read("scores.anomaly").polars()["anomaly"].sum()
    assert marked == straight.summary["anomalies"] < ROWS * 0.01
    forecasts = session.read("forecasts.forecast").polars()
    assert len(forecasts) == straight.summary["forecasts"]
    assert (forecasts["for_time"] > forecasts["made_at"]).all()
    banded = forecasts.drop_nulls(["lower", "upper"])
    assert len(banded) > len(forecasts) / 2
    assert ((banded["lower"] <= banded["mean"]) & (banded["mean"] <= banded["upper"])).all()
