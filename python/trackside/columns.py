"""Where a batch's columns come from: the log's own bytes (`NativeColumns`) or plain arrays (`PlainColumns`).

Both answer the same questions in the same types, so a model that was tried on a DataFrame meets nothing new in the
pipeline: numbers are NumPy arrays, text is a list of `str | None`, times are `datetime64[ns]` in UTC. All arrays are
read-only: the native ones are a mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from trackside.errors import FrameError, did_you_mean

if TYPE_CHECKING:
    from trackside import _native

Array = npt.NDArray[Any]
Text = list[str | None]
Column = Array | Text

TIME_NAMES = frozenset({"time", "made_at", "for_time", "received_at"})
"""Columns that are points in time by the log's schema; some readers hand them over as bare nanoseconds."""


class Columns(Protocol):
    """The columns of one table, by name."""

    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    def column(self, name: str) -> Column: ...  # noqa: D102
    def text(self, name: str) -> Text: ...  # noqa: D102
    def offsets(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    def arrow(self) -> object: ...  # noqa: D102


class PlainColumns:
    """Columns made of arrays and lists; `tags` are written as dictionaries when Arrow is asked for."""

    def __init__(self, columns: Mapping[str, Any], *, tags: Sequence[str] = (), offsets: Any = None) -> None:
        self._columns: dict[str, Column] = {
            name: values if name in tags and isinstance(values, list) else plain(name, values)
            for name, values in columns.items()
        }
        lengths = {name: len(values) for name, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise FrameError(f"the columns differ in length: {lengths}")
        self.rows = next(iter(lengths.values()), 0)
        self.names = tuple(self._columns)
        self._tags = tuple(tags)
        self._offsets = np.arange(self.rows) if offsets is None else np.asarray(offsets, np.int64)

    def column(self, name: str) -> Column:
        """The column as it is kept: an array, or a list of text."""
        if name not in self._columns:
            raise FrameError(did_you_mean("column", name, self.names))
        return self._columns[name]

    def text(self, name: str) -> Text:
        """The column as text; numbers are an error."""
        column = self.column(name)
        if not isinstance(column, list) and column.dtype.kind == "f" and np.isnan(column).all():
            return [None] * self.rows  # a column of nulls may be of any kind
        if not isinstance(column, list):
            raise FrameError(f"column `{name}` holds {column.dtype}, not text; read it with batch[{name!r}]")
        return column

    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each row stands; 0, 1, 2 … unless told otherwise."""
        return self._offsets

    def arrow(self) -> object:
        """The columns as an Arrow stream in the log's types; needs no Arrow library."""
        from trackside.arrow import ArrowTable  # noqa: PLC0415 (ctypes is not for the hot path)

        return ArrowTable(self._columns, dictionaries=self._tags)

    def take(self, rows: Array) -> PlainColumns:
        """The given rows (indexes or mask), copied."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        picked = {name: take(values, at) for name, values in self._columns.items()}
        return PlainColumns(picked, tags=self._tags, offsets=self._offsets[at])


class NativeColumns:
    """Columns of a native batch, looked at where they lie."""

    __slots__ = ("_names", "native", "rows")

    def __init__(self, native: _native.Batch) -> None:
        self.native = native
        self.rows = native.num_rows
        self._names: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The schema's names, in order."""
        if self._names is None:
            self._names = tuple(self.native.schema_names())
        return self._names

    def column(self, name: str) -> Column:
        """Numbers, booleans and times as a view; text as a list."""
        try:
            array = self.native.numpy(name)
        except TypeError:
            return self.native.strings(name)
        except (KeyError, ValueError):
            if name in self.names:
                raise
            raise FrameError(did_you_mean("column", name, self.names)) from None
        if name in TIME_NAMES and array.dtype == np.int64:
            array = array.view("datetime64[ns]")
        return array

    def text(self, name: str) -> Text:
        """The column as text."""
        if name not in self.names:
            raise FrameError(did_you_mean("column", name, self.names))
        return self.native.strings(name)

    def offsets(self) -> npt.NDArray[np.int64]:
        """The rows' offsets in their topic."""
        return self.native.offsets()

    def arrow(self) -> object:
        """The native batch itself: it has `__arrow_c_stream__`."""
        return self.native

    def take(self, rows: Array) -> PlainColumns:
        """The given rows (indexes or mask), copied out of the log."""
        everything = {name: self.column(name) for name in self.names}
        return PlainColumns(everything, offsets=self.offsets()).take(rows)


def plain(name: str, values: Any) -> Column:
    """An array or list of values as one of the kinds of column there are; the array is a read-only view."""
    if isinstance(values, list) and all(v is None or isinstance(v, str) for v in values):
        return values if any(v is not None for v in values) else np.full(len(values), np.nan)
    array = np.asarray(values)
    if array.ndim != 1:
        raise FrameError(f"column `{name}` has the shape {array.shape}; a column has one dimension")
    kind = array.dtype.kind
    if kind == "M":
        array = array.astype("datetime64[ns]", copy=False)
    elif kind == "U":
        return [str(v) for v in np.ravel(array).tolist()]
    elif kind == "O":
        return _objects(name, array.tolist())
    elif kind not in "biuf":
        raise FrameError(f"column `{name}` holds {array.dtype}; there are numbers, booleans, times and text")
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _objects(name: str, values: list[Any]) -> Column:
    """A list of Python values: text with None, or numbers with None for null."""
    present = [v for v in values if v is not None and v == v]  # noqa: PLR0124 (NaN is what differs from itself)
    if present and all(isinstance(v, str) for v in present):
        return [v if isinstance(v, str) else None for v in values]
    try:
        return np.array([np.nan if v is None else float(v) for v in values])
    except (TypeError, ValueError):
        kinds = sorted({type(v).__name__ for v in present})
        raise FrameError(f"column `{name}` mixes {', '.join(kinds)}; give numbers, booleans, times or text") from None


def take(values: Column, at: Array) -> Column:
    """The rows `at` (indexes) of one column."""
    if isinstance(values, list):
        return [values[i] for i in at.tolist()]
    picked: Array = values[at]
    return picked


def join(parts: Sequence[Column]) -> Column:
    """Columns of one kind, one after another."""
    if any(isinstance(p, list) for p in parts):
        return [v for p in parts for v in (p if isinstance(p, list) else [None] * len(p))]
    return np.concatenate([np.asarray(p) for p in parts]) if parts else np.empty(0)
