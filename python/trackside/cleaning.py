"""`clean`: the pipeline's Rust cleaners on a DataFrame, so that a model is trained on exactly what it will see live."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from trackside import frames
from trackside.arrow import ArrowTable
from trackside.batch import times
from trackside.columns import Column, NativeColumns, plain
from trackside.errors import FrameError, did_you_mean

Block = Mapping[str, Any]

_KIND_NAMES = {"f": "float", "i": "integer", "u": "integer", "b": "boolean"}
_OWN_NAMES = ("extra", "event_id", "received_offset")


@overload
def clean(
    frame: Any,
    blocks: Iterable[Block],
    schema: Mapping[str, Any] | None = None,
    *,
    time: str = "time",
    series: Sequence[str] | None = None,
    with_dead: Literal[False] = False,
) -> Any: ...
@overload
def clean(
    frame: Any,
    blocks: Iterable[Block],
    schema: Mapping[str, Any] | None = None,
    *,
    time: str = "time",
    series: Sequence[str] | None = None,
    with_dead: Literal[True],
) -> tuple[Any, Any]: ...
def clean(
    frame: Any,
    blocks: Iterable[Block],
    schema: Mapping[str, Any] | None = None,
    *,
    time: str = "time",
    series: Sequence[str] | None = None,
    with_dead: bool = False,
) -> Any:
    """Clean a table of events; answers the same kind of table, with quality columns (and dead letters if asked for).

    `frame` is a pandas, polars or pyarrow table or a dict of arrays, in order of arrival. `blocks` are the `[[clean]]`
    blocks of a pipeline file as dicts. `time` names its time column (`time` in the answer), `series` the columns that
    name a series: by default all text columns. `schema` is the `[schema]` of a pipeline file (`series`, `fields`), in
    place of what is guessed from the columns. Columns that Trackside adds itself (`_offset`, `value_quality`, …) are
    left out, so that what `Session.read` gave can be cleaned. Rows are cleaned as one partition, in one go.

    >>> rows = {"time": [0, 1, 2], "value": [20.5, 999.0, 21.0]}
    >>> clean(rows, [{"type": "range", "field": "value", "min": -40, "max": 125}])["value_quality"]
    array([0, 1, 0], dtype=uint16)
    """
    from trackside import _native  # noqa: PLC0415 (so that the package imports without its library)

    kind = frames.kind_of(frame)
    columns = {name: plain(name, values) for name, values in frames.read(frame).items()}
    if time not in columns:
        raise FrameError(did_you_mean("time column", time, columns))
    stamps = times(columns.pop(time))
    # Other times have no type of their own in a schema: they pass as integer nanoseconds.
    columns = {
        name: v.view("int64") if not isinstance(v, list) and v.dtype.kind == "M" else v for name, v in columns.items()
    }
    columns = {"time": stamps, **columns}
    wanted = _schema(columns, schema, series)
    table = _native.Batch.from_arrow(ArrowTable(columns, dictionaries=wanted["series"]))
    good, dead, _ = _native.clean(table, json.dumps([dict(block) for block in blocks]), json.dumps(wanted))
    kept = _frame(kind, good)
    return (kept, _frame(kind, dead)) if with_dead else kept


def _schema(
    columns: Mapping[str, Column], given: Mapping[str, Any] | None, series: Sequence[str] | None
) -> dict[str, Any]:
    """The `[schema]` of a table: its time, the columns that name a series, and the type of each field."""
    given = given or {}
    text = [name for name, values in columns.items() if isinstance(values, list) and not _is_own(name)]
    tags = list(series if series is not None else given.get("series", text))
    for tag in tags:
        if tag not in columns:
            raise FrameError(did_you_mean("series column", tag, columns))
        if not isinstance(columns[tag], list):
            raise FrameError(f"series column `{tag}` is not text; convert it first")
    fields = {n: _type(values) for n, values in columns.items() if n not in ("time", *tags) and not _is_own(n)}
    return {
        "unknown": "keep" if "extra" in columns else "ignore",
        "fields": fields,
        **given,
        "time": {"field": "time", "unit": "ns"},
        "series": tags,
    }


def _is_own(name: str) -> bool:
    """Whether a column has a name that no field may have."""
    return name.startswith("_") or name in _OWN_NAMES or name.endswith(("_quality", "_original"))


def _type(values: Column) -> str:
    return "string" if isinstance(values, list) else _KIND_NAMES.get(values.dtype.kind, "float")


def _frame(kind: str, native: Any) -> Any:
    columns = NativeColumns(native)
    return frames.write(kind, {name: columns.column(name) for name in columns.names})
