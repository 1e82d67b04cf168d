"""`connect`: past and live rows of a running or stopped pipeline, from a notebook or script.

Reading needs no lock and disturbs nothing: the log is mapped read-only. Rows carry `_partition` and `_offset`, as in
the tables, so that scores join to the clean rows that they judge.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from trackside import frames
from trackside.batch import Batch, times
from trackside.columns import Array, Column, NativeColumns, join, take
from trackside.errors import FrameError, did_you_mean
from trackside.index import Index

Moment = str | int | datetime | np.datetime64 | None
"""A point in event time: ISO text, a datetime (without a zone: UTC), or nanoseconds since 1970."""


def connect(data: str | Path) -> Session:
    """Open a pipeline's data directory (or the pipeline file beside it) for reading.

    >>> connect("no-such-directory")
    Traceback (most recent call last):
    ...
    trackside.errors.FrameError: no data directory `no-such-directory`; give the `data` of a pipeline file, or the file
    """
    path = Path(data)
    if not path.exists():
        raise FrameError(f"no data directory `{path}`; give the `data` of a pipeline file, or the file")
    from trackside import _native  # noqa: PLC0415 (so that the package imports without its library)

    return Session(_native.connect(str(path)), _native)


class Session:
    """A data directory, opened for reading. Made by `connect`."""

    def __init__(self, reader: Any, native: Any) -> None:
        self._reader, self._native = reader, native
        self._tags = tuple(reader.tags)

    def topics(self) -> list[str]:
        """The topics that there are: received, clean, scores.<model>, forecasts.<model>, dead-letter."""
        return list(self._reader.topics())

    def read(
        self, topic: str, start: Moment = None, stop: Moment = None, last: int | str | timedelta | None = None
    ) -> Table:
        """Rows of a topic with `start` <= time < `stop`.

        `last` takes the newest instead: so many rows of each partition (an integer), or so much event time before the
        newest row ("10m", "2h", a timedelta).
        """
        self._check_topic(topic)
        low, high = _nanoseconds(start), _nanoseconds(stop)
        batches: Iterable[Any] = self._reader.batches(topic, low, high, False, None)  # noqa: FBT003
        if isinstance(last, int) and not isinstance(last, bool):
            return Table(_newest(batches, last), low, high)
        table = Table(list(batches), low, high)
        return table if last is None else table.newest(_duration(last))

    def live(self, topic: str, timeout: float | None = None) -> Iterator[Batch]:
        """New batches of a topic as they come, from now on; ends when none came for `timeout` seconds (None: never)."""
        self._check_topic(topic)
        index: dict[int, Index] = {}
        for native in self._reader.batches(topic, None, None, True, timeout):  # noqa: FBT003
            names = native.schema_names()
            tags = tuple(tag for tag in self._tags if tag in names)
            part = native.partition
            if part not in index:
                index[part] = Index(tags, self._native.SeriesIndex(list(tags)))
            batch = Batch(NativeColumns(native), index[part], partition=part)
            _ = batch.series  # numbered now, in the order of the log, whenever it is looked at
            yield batch

    def _check_topic(self, topic: str) -> None:
        if topic not in self.topics():
            raise FrameError(did_you_mean("topic", topic, self.topics()))

    def __repr__(self) -> str:
        return f"<Session: {', '.join(self.topics())}>"


class Table:
    """Rows that were read, as any kind of table; nothing is copied before it is asked for."""

    def __init__(self, batches: list[Any], start: int | None = None, stop: int | None = None) -> None:
        self._batches = [native for native in batches if native.num_rows]
        self._start, self._stop = start, stop

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._parts())

    def newest(self, span_ns: int) -> Table:
        """The rows of the last `span_ns` before the newest one."""
        ends = [int(_times(native)[rows].max()) for native, rows in self._parts() if len(rows)]
        return Table(self._batches, max(ends) - span_ns + 1, self._stop) if ends else self

    def columns(self) -> dict[str, Column]:
        """The rows as arrays and lists, with `_partition` and `_offset` last.

        Columns that came later (another cleaner, a model's band) hold no value in the rows before.
        """
        parts = [(native, rows, NativeColumns(native)) for native, rows in self._parts()]
        own = {name: None for *_, source in parts for name in source.names}
        columns: dict[str, Column] = {}
        for name in own:
            found = [take(source.column(name), rows) if name in source.names else None for _, rows, source in parts]
            kind = next(column for column in found if column is not None)
            pieces = [
                _absent(name, kind, len(rows)) if column is None else column
                for column, (_, rows, _) in zip(found, parts, strict=True)
            ]
            columns[name] = join(pieces)
        if parts:
            columns["_partition"] = join([np.full(len(rows), native.partition, np.int32) for native, rows, _ in parts])
            columns["_offset"] = join([source.offsets()[rows] for _, rows, source in parts])
        return columns

    def pandas(self) -> Any:
        """As a `pandas.DataFrame`."""
        return frames.write("pandas", self.columns())

    def polars(self) -> Any:
        """As a `polars.DataFrame`."""
        return frames.write("polars", self.columns())

    def arrow(self) -> Any:
        """As a `pyarrow.Table`."""
        return frames.write("pyarrow", self.columns())

    def numpy(self) -> dict[str, Array]:
        """As a dict of arrays; text as object arrays."""
        columns: dict[str, Array] = frames.write("numpy", self.columns())
        return columns

    def _parts(self) -> Iterator[tuple[Any, Array]]:
        for native in self._batches:
            stamps = _times(native)
            wanted = np.ones(len(stamps), bool)
            if self._start is not None:
                wanted &= stamps >= self._start
            if self._stop is not None:
                wanted &= stamps < self._stop
            yield native, np.flatnonzero(wanted)

    def __repr__(self) -> str:
        return f"<Table of {len(self)} rows; .pandas(), .polars(), .arrow() or .numpy()>"


def _absent(name: str, kind: Column, rows: int) -> Column:
    """A column for rows from before there was one: null; for a quality that nobody judged, 0."""
    if isinstance(kind, list):
        return [None] * rows
    if name.endswith("_quality"):
        return np.zeros(rows, kind.dtype)
    return np.full(rows, np.datetime64("NaT", "ns")) if kind.dtype.kind == "M" else np.full(rows, np.nan)


def _times(native: Any) -> Array:
    """Event times in ns: a forecast's is the time that it is for; a dead letter's may be null, then when it came."""
    names = native.schema_names()
    source = NativeColumns(native)
    if "for_time" in names:
        return np.asarray(source.column("for_time")).view(np.int64)
    stamps = np.asarray(source.column("time"))
    if stamps.dtype.kind == "f" or "received_at" in names:
        return np.asarray(source.column("received_at")).view(np.int64)
    return stamps.view(np.int64)


def _newest(batches: Iterable[Any], rows: int) -> list[Any]:
    """The last batches that hold `rows` rows of each partition, the oldest of them cut."""
    if rows < 0:
        raise FrameError(f'last = {rows}; give a number of rows, or a duration such as "10m"')
    kept: dict[int, deque[Any]] = {}
    counts: dict[int, int] = {}
    for native in batches:
        queue = kept.setdefault(native.partition, deque())
        queue.append(native)
        counts[native.partition] = counts.get(native.partition, 0) + native.num_rows
        while queue and counts[native.partition] - queue[0].num_rows >= rows:
            counts[native.partition] -= queue.popleft().num_rows
    for partition, queue in kept.items():
        surplus = counts[partition] - rows
        if queue and surplus > 0:
            queue[0] = _Cut(queue[0], surplus)
    return [native for queue in kept.values() for native in queue]


class _Cut:
    """A native batch without its first rows; a slice alone would forget its partition."""

    def __init__(self, native: Any, skip: int) -> None:
        self._rows = native.slice(skip, native.num_rows)
        self.partition = native.partition

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def _nanoseconds(moment: Moment) -> int | None:
    if moment is None or isinstance(moment, int):
        return moment
    if isinstance(moment, datetime):
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment
        return int(np.datetime64(moment, "ns").astype(np.int64))
    if isinstance(moment, str) and re.search(r"[+-]\d\d:?\d\d$", moment):
        return _nanoseconds(datetime.fromisoformat(moment))
    text = moment.removesuffix("Z") if isinstance(moment, str) else moment
    return int(times([text]).astype(np.int64)[0])


_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def _duration(span: int | str | timedelta) -> int:
    """Nanoseconds of a duration.

    >>> _duration("10m")
    600000000000
    """
    if isinstance(span, timedelta):
        return int(span / timedelta(microseconds=1)) * 1000
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(span))
    if not found or found[2] not in _UNITS:
        raise FrameError(f'`{span}` is no duration; give a number and one of {", ".join(_UNITS)}, such as "10m"')
    return int(float(found[1]) * _UNITS[found[2]])
