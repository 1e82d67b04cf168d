"""`Batch`: one table of events, the rows of all series of a partition, in the order of the log.

A model reads columns, never rows: `batch["value"]` is a float64 array with NaN for null, `batch.series` says which row
belongs to which series. In the pipeline the arrays are the log's own bytes (read-only; mapped, or read once);
`Batch.from_frame` makes the same thing from a DataFrame, so that a model is tried without an engine.

>>> batch = Batch.from_columns([10, 20, 30], {"device": ["a", "b", "a"], "value": [1.0, None, 3.0]}, tags=["device"])
>>> batch["value"]
array([ 1., nan,  3.])
>>> batch.series
array([0, 1, 0], dtype=int32)
>>> batch.keys
[('a',), ('b',)]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trackside import frames
from trackside.columns import Array, Column, Columns, NativeColumns, PlainColumns, Text
from trackside.errors import FrameError, did_you_mean
from trackside.index import Ids, Index, Key

Floats = npt.NDArray[np.float64]
FLOAT64 = np.dtype(np.float64)


class Batch:
    """Events as columns.

    - `rows`: how many; also `len(batch)`.
    - `time`: int64, nanoseconds since 1970 UTC, one for each row.
    - `series`: int32, the row's series, an index into `keys`.
    - `offsets`: int64, where the row stands in its partition.
    - `tags`: the names of the tags; `keys`: their values for each series seen so far, a list that only grows.
    - `partition`: which partition of the topic, 0 outside a pipeline.
    """

    __slots__ = ("_columns", "_index", "_offsets", "_series", "_time", "partition", "rows", "tags")

    def __init__(self, columns: Columns, index: Index, *, partition: int = 0) -> None:
        self._columns = columns
        self._index = index
        self._series: Ids | None = None
        self._time: npt.NDArray[np.int64] | None = None
        self._offsets: npt.NDArray[np.int64] | None = None
        self.partition = partition
        self.rows = columns.rows
        self.tags = index.tags

    @classmethod
    def from_columns(
        cls,
        time: Any,
        columns: Mapping[str, Any],
        *,
        tags: Sequence[str] = (),
        index: Index | None = None,
        offsets: Any = None,
    ) -> Batch:
        """A batch of plain arrays and lists. `time` is integer nanoseconds or datetime64; tags name text columns."""
        for tag in tags:
            if tag not in columns:
                raise FrameError(did_you_mean("tag column", tag, columns))
        plain = PlainColumns({"time": times(time), **columns}, tags=tags, offsets=offsets)
        return cls(plain, index or Index(tags))

    @classmethod
    def from_frame(
        cls, frame: Any, *, time: str = "time", tags: Sequence[str] = (), index: Index | None = None
    ) -> Batch:
        """A batch of a pandas, polars or pyarrow table or a dict of arrays; `time` and `tags` name its columns.

        Without tags all rows are one series. The time column may hold times, ISO text or integer nanoseconds.
        """
        columns = frames.read(frame)
        if time not in columns:
            raise FrameError(did_you_mean("time column", time, columns))
        stamps = columns.pop(time)
        for tag in tags:
            if tag in columns and not isinstance(columns[tag], list):
                columns[tag] = [None if v is None else str(v) for v in np.asarray(columns[tag]).tolist()]
        return cls.from_columns(stamps, columns, tags=tags, index=index)

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: str) -> bool:
        return name in self._columns.names

    def __getitem__(self, name: str) -> Floats:
        """A field as float64, NaN where it is null. Integers and booleans are converted; text is an error."""
        column = self._columns.column(name)
        if isinstance(column, list):
            raise FrameError(f"field `{name}` is text; read it with batch.strings({name!r})")
        if column.dtype == FLOAT64:
            return column
        return column.astype(np.float64) if column.dtype.kind != "M" else column.view(np.int64).astype(np.float64)

    def __repr__(self) -> str:
        return f"<Batch of {self.rows} rows: {', '.join(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return self._columns.names

    @property
    def keys(self) -> list[Key]:
        """The tags of each series by its id; read it after `series`."""
        if self._series is None:
            _ = self.series
        return self._index.keys

    @property
    def series(self) -> Ids:
        """The id of each row's series: int32, dense, stable over the life of the model."""
        if self._series is None:
            if isinstance(self._columns, NativeColumns):
                self._series = self._index.number_native(self._columns.native)
            else:
                self._series = self._index.number([self._columns.text(tag) for tag in self.tags], self.rows)
        return self._series

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """The event time of each row in nanoseconds since 1970 UTC."""
        if self._time is None:
            self._time = np.asarray(self._columns.column("time")).view(np.int64)
        return self._time

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each row stands in its partition."""
        if self._offsets is None:
            self._offsets = self._columns.offsets()
        return self._offsets

    def quality(self, field: str) -> npt.NDArray[np.uint16]:
        """The quality bits of a field, 0 = good; all 0 when no cleaner looked at it."""
        name = f"{field}_quality"
        if name not in self:
            if field not in self:
                raise FrameError(did_you_mean("field", field, self.names))
            return np.zeros(self.rows, np.uint16)
        return np.asarray(self._columns.column(name)).astype(np.uint16, copy=False)

    def strings(self, name: str) -> Text:
        """A tag or text field as a list, None where it is null."""
        return self._columns.text(name)

    def column(self, name: str) -> Column:
        """A column as it is: an array of its own type (times as datetime64[ns]) or a list of text."""
        return self._columns.column(name)

    def groups(self) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
        """Each series of the batch with the indexes of its rows, in order.

        >>> batch = Batch.from_columns([1, 2, 3], {"d": ["a", "b", "a"]}, tags=["d"])
        >>> [(series, rows.tolist()) for series, rows in batch.groups()]
        [(0, [0, 2]), (1, [1])]
        """
        ids = self.series
        if not self.rows:
            return
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        starts = np.flatnonzero(np.diff(sorted_ids, prepend=sorted_ids[0] - 1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), self.rows], strict=True):
            yield int(sorted_ids[start]), order[start:stop]

    def take(self, rows: Any) -> Batch:
        """Some rows (indexes, a mask or a slice) as a batch of its own, copied; series keep their ids."""
        at = np.arange(self.rows)[rows] if isinstance(rows, slice) else np.asarray(rows)
        if not isinstance(self._columns, NativeColumns | PlainColumns):
            raise FrameError("this batch cannot be cut")
        part = Batch(self._columns.take(at), self._index, partition=self.partition)
        part._series = self.series[at]
        return part

    def numbered_by(self, index: Index) -> Batch:
        """The same rows, their series numbered by another index."""
        return Batch(self._columns, index, partition=self.partition)

    def arrow(self) -> object:
        """An object with `__arrow_c_stream__`, which pyarrow, polars, DuckDB and others read without a copy."""
        return self._columns.arrow()

    def polars(self) -> Any:
        """The rows as a `polars.DataFrame`."""
        if isinstance(self._columns, NativeColumns):
            return frames.need("polars").DataFrame(self._columns.native)
        return frames.write("polars", self._all())

    def pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`."""
        return frames.write("pandas", self._all())

    def numpy(self) -> dict[str, Array]:
        """The rows as a dict of arrays; text as object arrays, time as datetime64[ns]."""
        columns: dict[str, Array] = frames.write("numpy", self._all())
        return columns

    def _all(self) -> dict[str, Column]:
        return {name: self._columns.column(name) for name in self.names}


def times(values: Any) -> npt.NDArray[np.datetime64]:
    """Event times as datetime64[ns]: from times, integer nanoseconds, or ISO text (taken for UTC)."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.asarray([str(v).removesuffix("Z").removesuffix("+00:00") for v in array.tolist()])
    if array.dtype.kind in "iu" or not array.size:
        return array.astype(np.int64, copy=False).view("datetime64[ns]")
    if array.dtype.kind not in "MU":
        raise FrameError(f"the time column holds {array.dtype}; give times, ISO text or integer nanoseconds")
    try:
        stamps = array.astype("datetime64[ns]")
    except ValueError as error:
        raise FrameError(f"the time column is not ISO 8601 text: {error}") from None
    if np.isnat(stamps).any():
        at = int(np.flatnonzero(np.isnat(stamps))[0])
        raise FrameError(f"row {at} has no time; leave out rows without one")
    return stamps
