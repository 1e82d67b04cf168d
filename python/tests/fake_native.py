"""A stand-in for `trackside._native` in tests of the worker: reads Arrow IPC sections by pyarrow. It is no engine."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

HEAD, PLACE = struct.Struct("<IIII"), struct.Struct("<QQQIII")


class FakeIndex:
    def __init__(self, tags: list[str]) -> None:
        self.tags = tags
        self.known: dict[tuple[str | None, ...], int] = {}

    def __len__(self) -> int:
        return len(self.known)

    def keys(self, start: int = 0) -> list[tuple[str | None, ...]]:
        return list(self.known)[start:]

    def restore(self, keys: list[tuple[str | None, ...]]) -> None:
        self.known = {key: at for at, key in enumerate(keys)}


class FakeBatch:
    def __init__(self, table: pa.Table, offsets: Any, partition: int = 0) -> None:
        self._table, self._offsets = table, np.asarray(offsets, np.int64)
        self.num_rows = table.num_rows
        self.partition, self.positions = partition, None

    def schema_names(self) -> list[str]:
        return list(self._table.column_names)

    def numpy(self, name: str) -> Any:
        if name not in self._table.column_names:
            raise KeyError(name)
        column = self._table.column(name)
        if pa.types.is_timestamp(column.type):
            return column.cast(pa.int64()).to_numpy()
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            raise TypeError(f"{name} is text")
        return column.to_numpy()

    def strings(self, name: str) -> list[str | None]:
        return list(self._table.column(name).to_pylist())

    def series_ids(self, index: FakeIndex) -> Any:
        columns = [self.strings(tag) for tag in index.tags]
        keys = list(zip(*columns, strict=True)) if columns else [()] * self.num_rows
        return np.array([index.known.setdefault(key, len(index.known)) for key in keys], np.int32)

    def offsets(self) -> Any:
        return self._offsets

    def slice(self, start: int, stop: int) -> FakeBatch:
        return FakeBatch(self._table.slice(start, stop - start), self._offsets[start:stop], self.partition)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class FakeUpdate:
    """Reads an update by the description in the engine's `worker/update.rs`."""

    def __init__(self, message: bytes) -> None:
        flags, frames, skipped, zero = HEAD.unpack_from(message)
        assert zero == 0
        self.replay, self._frames, at = flags == 1, [], HEAD.size
        for _ in range(frames):
            *numbers, length = PLACE.unpack_from(message, at)
            at += PLACE.size
            self._frames.append((message[at : at + length].decode(), *numbers))
            at += length
        self._skip = struct.unpack_from(f"<{skipped}Q", message, at)
        assert len(message) == at + 8 * skipped

    def batches(self, apart: bool) -> list[FakeBatch]:
        return [self._read([frame]) for frame in self._frames] if apart else [self._read(self._frames)]

    def _read(self, frames: list[Any]) -> FakeBatch:
        tables, offsets = [], []
        for path, at, length, base, start, stop in frames:
            section = Path(path).read_bytes()[at : at + length]
            tables.append(pa.ipc.open_stream(section).read_all().slice(start, stop - start))
            offsets.append(np.arange(base + start, base + stop))
        whole, numbers = pa.concat_tables(tables), np.concatenate(offsets)
        keep = ~np.isin(numbers, self._skip)
        return FakeBatch(whole.filter(pa.array(keep)), numbers[keep])


def update_of(frames: list[dict[str, Any]], skip: Sequence[int] = (), replay: bool = False) -> bytes:
    """The engine's question about these frames (of `write_frame`)."""
    message = HEAD.pack(int(replay), len(frames), len(skip), 0)
    for frame in frames:
        path = str(frame["path"]).encode()
        numbers = [frame[name] for name in ("section_at", "section_length", "base", "from", "to")]
        message += PLACE.pack(*numbers, len(path)) + path
    return message + struct.pack(f"<{len(skip)}Q", *skip)


def table_of(rows: int, start: int = 0) -> pa.Table:
    """Rows of three devices with a spike at every 50th row."""
    number = np.arange(start, start + rows)
    value = np.sin(number / 7.0)
    value[number % 50 == 49] += 10
    return pa.table(
        {
            "time": pa.array(number * 1_000_000_000, pa.timestamp("ns", tz="UTC")),
            "device": pa.array([f"d{i % 3}" for i in number]).dictionary_encode(),
            "value": value,
        }
    )


def write_frame(folder: Path, rows: int, start: int = 0) -> dict[str, Any]:
    """A file with one section of rows, and the frame of the protocol that names it."""
    path = folder / f"{start}.segment"
    table = table_of(rows, start)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    path.write_bytes(b"\0" * 64 + body)
    return {
        "path": str(path),
        "section_at": 64,
        "section_length": len(body),
        "base": start,
        "from": 0,
        "to": rows,
    }


class FakeReader:
    """A reader over tables given by topic, each a list of (partition, table)."""

    def __init__(self, topics: dict[str, list[tuple[int, pa.Table]]], tags: list[str]) -> None:
        self._topics, self.tags = topics, tags

    def topics(self) -> list[str]:
        return list(self._topics)

    def batches(self, topic: str, start: Any, stop: Any, follow: bool, timeout: float | None) -> Any:
        seen: dict[int, int] = {}
        for partition, table in self._topics[topic]:
            base = seen.get(partition, 0)
            seen[partition] = base + table.num_rows
            yield FakeBatch(table, np.arange(base, base + table.num_rows), partition)


SeriesIndex, Batch, Update = FakeIndex, FakeBatch, FakeUpdate
