"""The clean job (in words: bench/rust/src/job.rs) as a Python program would do it, and the table that it writes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# By sensor: lowest and highest value, distance from the median that is no spike, what is added, the unit after that.
SENSORS = {
    "temp": (-40.0, 85.0, 0.5, 273.15, "K"),
    "humidity": (0.0, 100.0, 1.5, 0.0, None),
    "pressure": (300.0, 1100.0, 2.5, 0.0, None),
    "vibration": (0.0, 50.0, 1.0, 0.0, None),
    "voltage": (0.0, 32.0, 0.25, 0.0, None),
}
SCALE = 3.0 * 1.4826
KEYS = ("ts", "device", "sensor", "value", "unit", "seq")
ROW_GROUP = 131_072

SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("ms", "UTC")),
        ("device", pa.string()),
        ("sensor", pa.string()),
        ("value", pa.float64()),
        ("unit", pa.string()),
        ("seq", pa.int64()),
    ]
)


class Series:
    """State of one series; `judge` answers with the name of the rule that a row falls to, or None."""

    __slots__ = ("highest", "seen", "window")

    def __init__(self) -> None:
        self.highest, self.seen, self.window = -64, 0, [0.0] * 0

    def judge(self, value: float, seq: int, limits: tuple[Any, ...]) -> str | None:
        back = self.highest - seq
        if back < 0:
            self.seen = (self.seen << -back | 1) & 0xFFFF_FFFF_FFFF_FFFF if back > -64 else 1
            self.highest = seq
        elif back >= 64 or self.seen >> back & 1:
            return "duplicates"
        else:
            self.seen |= 1 << back
        if not limits[0] <= value <= limits[1]:
            return "out_of_range"
        window = self.window
        window.append(value)
        if len(window) > 7:
            del window[0]
        if len(window) == 7:
            median = sorted(window)[3]
            distance = abs(value - median)
            if distance > limits[2]:
                mad = sorted([abs(w - median) for w in window])[3]
                if distance > SCALE * mad:
                    return "spikes"
        return None


class Table:
    """Rows into a Parquet file, zstd, a row group at a time."""

    def __init__(self, path: str) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._columns: list[list[Any]] = [[] for _ in KEYS]
        self.rows = 0

    def extend(self, rows: list[tuple[Any, ...]]) -> None:
        for column, values in zip(self._columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
        if len(self._columns[0]) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._columns[0]:
            arrays = [pa.array(column, field.type) for column, field in zip(self._columns, SCHEMA, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
            self.rows += len(self._columns[0])
            self._columns = [[] for _ in KEYS]

    def close(self) -> None:
        self._flush()
        self._writer.close()
