"""What a function model answers, in any library's types, as columns of verdicts.

Accepted, one entry for each row given or for the new rows only: booleans (an anomaly, scored 1.0 or 0.0), numbers
(scores), a table with columns `score`, `anomaly`, `expected`, `lower`, `upper`, `reason`, or `Scores`. Null and NaN
mean "no verdict yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

import numpy as np

from trackside import frames
from trackside.columns import Array, Column
from trackside.errors import FrameError, ScoresError
from trackside.scores import Floats, Scores

NUMBERS = ("score", "anomaly", "ready", "expected", "lower", "upper")


def verdicts(answer: Any, new: int, given: int, threshold: float | None = None) -> dict[str, Any]:
    """Columns of the `new` last rows: float arrays under `NUMBERS` (booleans as 1, 0, NaN), and `reason` as a list.

    >>> verdicts([None, True, False], new=2, given=3)["anomaly"]
    array([1., 0.])
    """
    if answer is None:
        raise ScoresError("the function answered None; is a `return` missing?")
    if isinstance(answer, Scores):
        table: dict[str, Any] = {f.name: getattr(answer, f.name) for f in fields_of(answer)}
        table["reason"] = _reasons(answer, new)
    else:
        table = _table(answer)
    out: dict[str, Any] = {}
    for name in NUMBERS:
        if table.get(name) is not None:
            out[name] = _last(name, _floats(name, table[name]), new, given)
    if table.get("reason") is not None:
        out["reason"] = _last("reason", list(table["reason"]), new, given)
    if "score" not in out:
        if "anomaly" not in out:
            raise ScoresError(f"the answer has no column `score` or `anomaly`; it has: {', '.join(table) or 'none'}")
        out["score"] = out["anomaly"].copy()
    elif "anomaly" not in out and threshold is not None:
        out["anomaly"] = (out["score"] > threshold).astype(np.float64)
    return out


def _table(answer: Any) -> dict[str, Any]:
    """One column alone is an anomaly if it is boolean, and a score if it is not."""
    if isinstance(answer, Mapping) or hasattr(answer, "columns"):
        return dict(frames.read(answer))
    return {"anomaly" if _is_boolean(answer) else "score": answer}


def _is_boolean(values: Any) -> bool:
    dtype = str(getattr(values, "dtype", None) or getattr(values, "type", "")).lower()
    if dtype in ("bool", "boolean"):
        return True
    if dtype not in ("object", ""):
        return False
    items = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(items, list | tuple):
        return isinstance(items, bool)
    present = [v for v in items if v is not None]
    return bool(present) and all(isinstance(v, bool | np.bool_) for v in present)


def _floats(name: str, values: Any) -> Floats:
    try:
        column: Column = frames.read_column(values)
        array = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError, FrameError) as error:
        raise ScoresError(f"`{name}` must be numbers or booleans: {error}") from None
    if array.ndim == 0:
        raise ScoresError(f"the function answered the single value {values!r}; it must answer one for each row")
    return array


def _last(name: str, values: Any, new: int, given: int) -> Any:
    size = np.shape(values) if isinstance(values, np.ndarray) else (len(values),)
    if size not in ((new,), (given,)):
        rows = f"{given} rows" if given == new else f"{given} rows, of which {new} are new"
        raise ScoresError(f"`{name}` has {' × '.join(map(str, size))} values for {rows}; answer one for each row")
    return values[len(values) - new :]


def _reasons(answer: Scores, new: int) -> list[str | None] | None:
    if not answer.reasons:
        return None
    size = len(np.asarray(answer.score)) or new
    out: list[str | None] = [None] * size
    for key, text in answer.reasons.items():
        out[key[0] if isinstance(key, tuple) else key] = text
    return out


def truths(values: Array) -> tuple[Array, Array]:
    """A column of 1, 0 and NaN as (is true, is given)."""
    given = ~np.isnan(values)
    return given & (values != 0), given
