"""What a model answers: `Scores`, one verdict for each row and field, and `Forecasts`, rows of the future.

Both take anything NumPy reads and check it at once: a wrong shape or a NaN where none may be is an error that names the
row, raised in the model's own process, before the engine sees a byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trackside.errors import ScoresError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

REASON_LENGTH_MAX = 500
"""A longer reason is cut: it is read by people, and stored with the row."""


@dataclass(slots=True)
class Forecasts:
    """Forecasts made while a batch was read: one entry for each series, field and time ahead.

    All arrays have the same length m. `row` is the index of a row *of the batch* whose tags name the series; `made_at`
    and `for_time` are nanoseconds since 1970 UTC (or datetime64); `lower` and `upper` are NaN while there is no band.
    `field` is the index of a field of the model (or its name); 0 when left out.

    >>> two = Forecasts(row=[0, 0], made_at=[10, 10], for_time=[20, 30], mean=[1.0, 1.5])
    >>> two.check(rows=1, fields=("value",)).mean
    array([1. , 1.5])
    """

    row: Any
    made_at: Any
    for_time: Any
    mean: Any
    lower: Any = None
    upper: Any = None
    field: Any = None

    def check(self, rows: int, fields: tuple[str, ...]) -> Forecasts:
        """Answer the same as arrays of one length and the wire's types, or say what is wrong."""
        row = _integers("row", self.row)
        m = row.size
        names = np.zeros(m, np.int32) if self.field is None else _field_ids(self.field, fields, m)
        out = Forecasts(
            row=row,
            made_at=_same("made_at", _times("made_at", self.made_at), m),
            for_time=_same("for_time", _times("for_time", self.for_time), m),
            mean=_same("mean", _floats("mean", self.mean), m),
            lower=np.full(m, np.nan) if self.lower is None else _same("lower", _floats("lower", self.lower), m),
            upper=np.full(m, np.nan) if self.upper is None else _same("upper", _floats("upper", self.upper), m),
            field=names,
        )
        if m and (row.min() < 0 or row.max() >= rows):
            bad = int(row[(row < 0) | (row >= rows)][0])
            raise ScoresError(f"a forecast names row {bad}, but the batch has rows 0 to {rows - 1}")
        if not np.isfinite(out.mean).all():
            at = int(np.flatnonzero(~np.isfinite(out.mean))[0])
            raise ScoresError(f"forecast {at} has the mean {out.mean[at]}; leave out what cannot be forecast")
        return out

    @classmethod
    def concat(cls, parts: list[Forecasts]) -> Forecasts | None:
        """Join checked forecasts of one batch, field after field."""
        if not parts:
            return None
        names = ("row", "made_at", "for_time", "mean", "lower", "upper", "field")
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


@dataclass(slots=True)
class Scores:
    """One verdict for each row and field of a batch.

    Each array has the shape `(rows,)`, or `(rows, fields)` for a model of several fields.

    - `score`: how strange the value is; any finite number. NaN says "no verdict" (the value was null): never ready.
    - `anomaly`: True where an alarm is meant; False everywhere when left out.
    - `ready`: False while the model is still learning; by default wherever there is a score.
    - `expected`, `lower`, `upper`: what the model held for normal; NaN where it does not say.
    - `reasons`: text for rows that need a word: `{row: "…"}`, or `{(row, field_index): "…"}`.
    - `forecasts`: forecasts made meanwhile.

    >>> Scores([0.1, 0.9], anomaly=[False, True]).check(rows=2, fields=("value",)).ready
    array([ True,  True])
    """

    score: Any
    anomaly: Any = None
    ready: Any = None
    expected: Any = None
    lower: Any = None
    upper: Any = None
    reasons: Mapping[Any, str] = field(default_factory=dict)
    forecasts: Forecasts | None = None

    def check(self, rows: int, fields: tuple[str, ...]) -> Scores:
        """Answer the same, flat and in the wire's types (row 0 field 0, row 0 field 1, …), or say what is wrong."""
        width = len(fields)
        score = _flat("score", _floats("score", self.score), rows, width)
        given = np.isfinite(score)
        if not given.all() and np.isinf(score).any():
            at = int(np.flatnonzero(np.isinf(score))[0])
            raise ScoresError(f"the score of row {at // width} is {score[at]}; give a finite number, or NaN for none")
        anomaly = np.zeros(score.size, bool)
        if self.anomaly is not None:
            anomaly = _flat("anomaly", _bools("anomaly", self.anomaly), rows, width)
        if (anomaly & ~given).any():
            at = int(np.flatnonzero(anomaly & ~given)[0])
            raise ScoresError(f"row {at // width} is called an anomaly, but its score is NaN; give it a score")
        ready = given if self.ready is None else _flat("ready", _bools("ready", self.ready), rows, width) & given
        bands = {
            name: None if value is None else _flat(name, _floats(name, value), rows, width)
            for name, value in (("expected", self.expected), ("lower", self.lower), ("upper", self.upper))
        }
        reasons = {_cell(key, rows, width): str(text)[:REASON_LENGTH_MAX] for key, text in self.reasons.items()}
        forecasts = None if self.forecasts is None else self.forecasts.check(rows, fields)
        return Scores(score, anomaly, ready, **bands, reasons=reasons, forecasts=forecasts)


def _floats(name: str, value: Any) -> Floats:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScoresError(f"`{name}` must be numbers: {error}") from None
    return np.ascontiguousarray(array)


def _bools(name: str, value: Any) -> Bools:
    array = np.asarray(value)
    if array.dtype.kind not in "bui" or (array.dtype.kind != "b" and array.size and not np.isin(array, (0, 1)).all()):
        raise ScoresError(f"`{name}` must be true or false for each row, not {array.dtype}; compare with a threshold")
    return np.ascontiguousarray(array, dtype=bool)


def _integers(name: str, value: Any) -> Integers:
    array = np.atleast_1d(np.asarray(value))
    if array.size and array.dtype.kind not in "iu":
        raise ScoresError(f"`{name}` of the forecasts must be integers, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _times(name: str, value: Any) -> Integers:
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind == "M":
        return array.astype("datetime64[ns]").view(np.int64)
    return _integers(name, array)


def _field_ids(value: Any, fields: tuple[str, ...], m: int) -> npt.NDArray[np.int32]:
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind == "U":
        unknown = set(array.tolist()) - set(fields)
        if unknown:
            raise ScoresError(f"forecasts of unknown field `{sorted(unknown)[0]}`; the model has {', '.join(fields)}")
        array = np.array([fields.index(name) for name in array.tolist()])
    ids = np.broadcast_to(_integers("field", array), (m,)).astype(np.int32)
    if m and (ids.min() < 0 or ids.max() >= len(fields)):
        raise ScoresError(f"forecasts of field {int(ids.max())}, but the model has {len(fields)}: {', '.join(fields)}")
    return ids


def _same(name: str, array: Any, m: int) -> Any:
    if np.size(array) == 1 and m != 1:
        return np.full(m, np.ravel(array)[0])
    if np.size(array) != m:
        raise ScoresError(f"`{name}` of the forecasts has {np.size(array)} values, `row` has {m}")
    return np.ravel(array)


def _flat(name: str, array: Any, rows: int, width: int) -> Any:
    if array.shape == (rows, width) or (width == 1 and array.shape == (rows,)):
        return array.reshape(-1)
    wanted = f"({rows},)" if width == 1 else f"({rows}, {width})"
    raise ScoresError(f"`{name}` has the shape {array.shape}, but the batch needs {wanted}: one for each row and field")


def _cell(key: Any, rows: int, width: int) -> int:
    row, column = key if isinstance(key, tuple) else (key, 0)
    if not (0 <= row < rows and 0 <= column < width):
        raise ScoresError(f"a reason names row {row}, field {column}; the batch has {rows} rows and {width} fields")
    return int(row) * width + int(column)
