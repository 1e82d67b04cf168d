"""Try a model without a pipeline: run it over a table, prove that it restarts anywhere, hurt its data.

Everything here goes through the same code as the worker process does, so what passes here passes there.

>>> from trackside.function import model
>>> @model(field="value", history=3)
... def high(values: np.ndarray) -> np.ndarray:
...     return values > 100
>>> rows = {"time": np.arange(6), "value": [1.0, 2.0, 300.0, 3.0, 2.0, 1.0]}
>>> run(high, rows)["anomaly"]
array([False, False,  True, False, False, False])
>>> assert_same_after_restart(high, rows)
>>> assert_same_however_cut(high, inject(rows, field="value", nulls=0.2, seed=1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trackside import frames, load
from trackside.batch import Batch
from trackside.columns import Array, Column, take
from trackside.errors import FrameError, ModelError, did_you_mean
from trackside.index import Index
from trackside.judge import Judge
from trackside.scores import Forecasts, Scores


@dataclass
class _Setting:
    """What a run needs beside its rows."""

    model: Any
    time: str = "time"
    tags: Sequence[str] = ()
    fields: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def judge(self) -> Judge:
        """A fresh model with a fresh index."""
        if isinstance(self.model, str):
            target = load.find(self.model, ".")
        else:
            target = load.as_target(self.model, getattr(self.model, "__name__", repr(self.model)))
        tags = tuple(self.tags)
        judge = Judge(lambda: load.make(target, self.options, self.fields, tags), lambda: Index(tags))
        load.try_out(judge.model)
        return judge

    def batch(self, frame: Any, judge: Judge) -> Batch:
        """All rows as one batch, numbered by the judge's index."""
        batch = Batch.from_frame(frame, time=self.time, tags=self.tags, index=judge.index)
        for name in judge.fields:
            if name not in batch:
                raise FrameError(did_you_mean("field", name, batch.names))
        return batch


def run(
    model: Any,
    frame: Any,
    *,
    time: str = "time",
    tags: Sequence[str] = (),
    field: str | Sequence[str] = (),
    batch_rows: int | None = None,
    forecasts: bool = False,
    **options: Any,
) -> Any:
    """Run a model over a table and answer its scores as the same kind of table.

    `model` is a marked function, a `Model` class, or text such as `"my_models.py:spikes"`; `options` are those of its
    block in a pipeline file. `batch_rows` cuts the rows into batches (None: all at once). The answer has one row for
    each row and field: `time`, the tags, `field`, `value`, `score`, `anomaly`, `ready`, `expected`, `lower`, `upper`,
    `reason`. With `forecasts=True` it is a pair: scores and forecasts.
    """
    setting = _Setting(model, time, tags, (field,) if isinstance(field, str) else tuple(field), options)
    judge = setting.judge()
    whole = setting.batch(frame, judge)
    cuts = range(batch_rows, whole.rows, batch_rows) if batch_rows else ()
    results = _judged(judge, setting, frame, list(cuts))
    kind = frames.kind_of(frame)
    scores = frames.write(kind, _score_columns(whole, judge.fields, results))
    return (scores, frames.write(kind, _forecast_columns(whole, judge.fields, results))) if forecasts else scores


def assert_same_after_restart(
    model: Any,
    frame: Any,
    cuts: int = 20,
    seed: int = 0,
    *,
    time: str = "time",
    tags: Sequence[str] = (),
    field: str | Sequence[str] = (),
    **options: Any,
) -> None:
    """Assert that snapshot and restore into a fresh instance at `cuts` random rows change no bit of any score."""
    setting = _Setting(model, time, tags, (field,) if isinstance(field, str) else tuple(field), options)
    _assert_same(setting, frame, _cuts(frame, cuts, seed), restart=True, seed=seed)


def assert_same_however_cut(
    model: Any,
    frame: Any,
    cuts: int = 20,
    seed: int = 0,
    *,
    time: str = "time",
    tags: Sequence[str] = (),
    field: str | Sequence[str] = (),
    **options: Any,
) -> None:
    """Assert that the scores are the same bit for bit in one batch and cut at `cuts` random rows.

    A model that splits `score` and `learn` cannot promise this: the engine hands it the frames as they were logged.
    """
    setting = _Setting(model, time, tags, (field,) if isinstance(field, str) else tuple(field), options)
    if setting.judge().splits:
        raise ModelError(
            "a model that splits `score` and `learn` depends on its batches; use assert_same_after_restart"
        )
    _assert_same(setting, frame, _cuts(frame, cuts, seed), restart=False, seed=seed)


def inject(
    frame: Any,
    *,
    field: str,
    nulls: float = 0.0,
    spikes: float = 0.0,
    spike_size: float = 100.0,
    duplicates: float = 0.0,
    poison: Sequence[int] = (),
    poison_value: float = float("inf"),
    seed: int = 0,
) -> Any:
    """The same table with faults put in, each share of the rows drawn from `seed`.

    `nulls` and `spikes` (the value plus or minus `spike_size`) change values, `duplicates` sends rows twice, `poison`
    writes `poison_value` at the given rows.

    >>> inject({"time": np.arange(3), "value": [1.0, 2.0, 3.0]}, field="value", poison=[1])["value"]
    array([ 1., inf,  3.])
    """
    columns = frames.read(frame)
    if field not in columns:
        raise FrameError(did_you_mean("field", field, columns))
    values = np.asarray(columns[field], dtype=np.float64).copy()
    numbers, rows = np.random.default_rng(seed), len(values)
    values[numbers.random(rows) < nulls] = np.nan
    hit = numbers.random(rows) < spikes
    values[hit] += spike_size * numbers.choice([-1.0, 1.0], rows)[hit]
    values[list(poison)] = poison_value
    columns[field] = values
    at = np.repeat(np.arange(rows), 1 + (numbers.random(rows) < duplicates))
    return frames.write(frames.kind_of(frame), {name: take(column, at) for name, column in columns.items()})


def _cuts(frame: Any, cuts: int, seed: int) -> list[int]:
    rows = len(next(iter(frames.read(frame).values()), ()))
    drawn = np.random.default_rng(seed).integers(1, max(2, rows), cuts)
    return sorted({int(at) for at in drawn if at < rows})


def _judged(
    judge: Judge, setting: _Setting, frame: Any, cuts: Sequence[int], *, restart: bool = False
) -> list[tuple[int, Scores]]:
    """Scores of each piece with the row that it begins at; with `restart` each piece has a restored instance."""
    batch = setting.batch(frame, judge)
    results: list[tuple[int, Scores]] = []
    for start, stop in zip([0, *cuts], [*cuts, batch.rows], strict=True):
        if restart and start:
            saved = judge.snapshot()
            judge = setting.judge()
            judge.restore(saved)
        # Numbered afresh from its own tags, so that series first seen here get their ids here, as they do live.
        piece = batch.take(slice(start, stop)).numbered_by(judge.index)
        if piece.rows:
            results.append((start, judge.judge(piece)))
    return results


def _assert_same(setting: _Setting, frame: Any, cuts: list[int], *, restart: bool, seed: int) -> None:
    first = setting.judge()
    straight = _judged(first, setting, frame, cuts if restart else [])
    again = _judged(setting.judge(), setting, frame, cuts, restart=restart)
    what = "restarted" if restart else "cut into batches"
    for name in (*_SCORES, "forecast"):
        one, other = (_forecast_key(r) if name == "forecast" else _joined(r, name) for r in (straight, again))
        if len(one) != len(other):
            raise AssertionError(
                f"{len(one)} {name}s in one run, {len(other)} when {what} at rows {cuts} (seed {seed})"
            )
        same = (one == other) | (_nan(one) & _nan(other))
        if not same.all():
            at = int(np.flatnonzero(~(same if same.ndim == 1 else same.all(axis=1)))[0])
            row = at if name == "forecast" else at // len(first.fields)
            raise AssertionError(
                f"`{name}` of row {row} is {one[at]} in a straight run and {other[at]} when {what} at rows {cuts} "
                f"(seed {seed}); is all that it depends on in snapshot(), and does no later row change it?"
            )


_SCORES = ("score", "anomaly", "ready", "expected", "lower", "upper")


def _nan(values: Array) -> Array:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def _joined(results: list[tuple[int, Scores]], name: str) -> Array:
    columns = [(getattr(scores, name), len(scores.score)) for _, scores in results]
    parts = [np.full(size, np.nan) if column is None else column for column, size in columns]
    return np.concatenate(parts) if parts else np.empty(0)


def _forecasts(results: list[tuple[int, Scores]]) -> Forecasts | None:
    found = []
    for start, scores in results:
        if scores.forecasts is not None:
            one = scores.forecasts
            found.append(
                Forecasts(one.row + start, one.made_at, one.for_time, one.mean, one.lower, one.upper, one.field)
            )
    return Forecasts.concat(found)


def _forecast_key(results: list[tuple[int, Scores]]) -> Array:
    """Forecasts as rows of numbers in one order: two runs may make them in different batches."""
    all_of = _forecasts(results)
    if all_of is None:
        return np.empty((0, 6))
    order = np.lexsort((all_of.for_time, all_of.row, all_of.field))
    columns = (all_of.row, all_of.field, all_of.made_at, all_of.for_time, all_of.mean, all_of.lower, all_of.upper)
    return np.stack([np.asarray(column, np.float64)[order] for column in columns], axis=1)


def _score_columns(whole: Batch, fields: tuple[str, ...], results: list[tuple[int, Scores]]) -> dict[str, Column]:
    width, rows = len(fields), whole.rows
    at = np.repeat(np.arange(rows), width)
    columns: dict[str, Column] = {name: take(whole.column(name), at) for name in ("time", *whole.tags)}
    names: list[str | None] = list(fields)
    columns["field"] = names * rows
    columns["value"] = np.stack([whole[name] for name in fields], axis=1).reshape(-1)
    columns.update({name: _joined(results, name) for name in _SCORES})
    reasons: list[str | None] = [None] * (rows * width)
    for start, scores in results:
        for key, text in scores.reasons.items():
            reasons[start * width + key] = text
    columns["reason"] = reasons
    return columns


def _forecast_columns(whole: Batch, fields: tuple[str, ...], results: list[tuple[int, Scores]]) -> dict[str, Column]:
    one = _forecasts(results) or Forecasts([], [], [], []).check(0, fields)
    columns: dict[str, Column] = {tag: take(whole.column(tag), np.asarray(one.row)) for tag in whole.tags}
    columns["field"] = [fields[i] for i in np.asarray(one.field).tolist()]
    for name in ("made_at", "for_time"):
        columns[name] = np.asarray(getattr(one, name)).view("datetime64[ns]")
    columns.update({name: np.asarray(getattr(one, name)) for name in ("mean", "lower", "upper")})
    return columns


__all__ = ["assert_same_after_restart", "assert_same_however_cut", "inject", "run"]
