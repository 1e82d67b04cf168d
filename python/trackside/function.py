"""`@trackside.model`: a function over one series as a model.

The function is given rows of one series, oldest first: at least its last `history` rows, then the new ones, and answers
one verdict for each row (those of the old rows are ignored). Its state, the history, is kept and saved for it.

**The same rows give the same scores, however they are cut into batches** (DESIGN, law 7). A function that looks at a
window of rows gives answers whose last bits depend on where the window begins, so the beginning is fixed by the row's
number in its series: blocks of `BLOCK` rows, each preceded by `history` rows. What is left is to look into the future;
that is tried out when the model is loaded, and refused. `each_row=True` calls the function once for each new row, with
exactly its `history` rows before: slower, and right for any function.

>>> @model(field="value", history=3)
... def jump(values: np.ndarray) -> np.ndarray:
...     return np.abs(np.diff(values, prepend=np.nan)) > 5
>>> jump(np.array([1.0, 2.0, 9.0]))
array([False, False,  True])
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np

from trackside import frames
from trackside.answers import truths, verdicts
from trackside.batch import Batch
from trackside.columns import Array, Column
from trackside.contract import Model, check_options
from trackside.errors import ModelError, did_you_mean
from trackside.scores import Scores

HISTORY_MAX = 100_000
"""Rows kept for each series; more is a model with a state of its own."""

BLOCK = 128
"""Rows scored from one fixed beginning (more if `history` is longer)."""

_TRY_ROWS = 256
_TRY_CUT = 5


@dataclass(frozen=True)
class Settings:
    """What `@trackside.model` was told; see there."""

    reads: str = "clean"
    field: str | Sequence[str] = ()
    history: int = 0
    version: str = "1"
    threshold: float | None = None
    warm_up: int = 0
    each_row: bool = False
    columns: Sequence[str] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Settings by name; an unknown name is an error."""
        for name in given:
            if name not in _SETTINGS:
                raise ModelError(f"@trackside.model: {did_you_mean('setting', name, _SETTINGS)}")
        return cls(**given).checked()

    def checked(self) -> Settings:
        """The same, or what is wrong with them."""
        if isinstance(self.history, bool) or not isinstance(self.history, int) or not 0 <= self.history <= HISTORY_MAX:
            raise ModelError(f"history = {self.history!r}; give a number of rows from 0 to {HISTORY_MAX}")
        return self


_SETTINGS = tuple(one.name for one in fields(Settings))
_OVERRIDES = (
    "history",
    "threshold",
    "warm_up",
    "each_row",
    "columns",
)  # by the pipeline file; it has keys for the rest


class SeriesFunction:
    """A function marked by `@trackside.model`; calling it calls the function."""

    def __init__(self, function: Callable[..., Any], settings: Settings) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.settings = settings
        self.takes = _taken_kind(function)
        self.takes_field = "field" in list(inspect.signature(function).parameters)[1:]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function itself answers."""
        return self.function(*args, **kwargs)

    def build(self, options: Mapping[str, Any]) -> SeriesModel:
        """A model instance; `options` are keyword arguments of the function, or override the decorator's settings."""
        name = getattr(self.function, "__name__", "the function")
        given = {**options, "field": ""} if self.takes_field else options
        check_options(name, self.function, given, skip=1, also=_OVERRIDES)
        own = list(inspect.signature(self.function).parameters)[1:]
        changed = {name: value for name, value in options.items() if name in _OVERRIDES and name not in own}
        keywords = {name: value for name, value in options.items() if name not in changed}
        return SeriesModel(self, replace(self.settings, **changed).checked(), keywords)


@overload
def model(function: Callable[..., Any], /) -> SeriesFunction: ...
@overload
def model(
    *,
    reads: str = "clean",
    field: str | Sequence[str] = (),
    history: int = 0,
    version: str = "1",
    threshold: float | None = None,
    warm_up: int = 0,
    each_row: bool = False,
    columns: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], SeriesFunction]: ...
def model(function: Callable[..., Any] | None = None, /, **settings: Any) -> Any:
    """Mark a function over one series as a model.

    The annotation of its first parameter picks what it is given: `polars.DataFrame`, `pandas.DataFrame`,
    `pyarrow.Table`, `numpy.ndarray` (the field's values alone) or `trackside.Batch` (also without annotation). Tables
    have the columns `time`, the tags, the field, `<field>_quality`, and those asked for in `columns`. Further
    parameters are options for the pipeline file; one named `field` is told which field is scored.

    What is said here is a default: keys of the same names in the pipeline file override it.

    - `reads`: the topic; `field`: the field or fields.
    - `history`: rows of the series given before the new ones (at least; fewer at its beginning).
    - `threshold`: for a function that answers numbers: a score above it is an anomaly.
    - `warm_up`: the first rows of a series that are not ready, whatever the function says.
    - `each_row`: call the function once for each new row.
    - `columns`: more numeric columns that it needs.
    - `version`: stored with each score.
    """
    if function is not None:
        if not callable(function):
            raise ModelError(f"@trackside.model marks a function, not {type(function).__name__}")
        return SeriesFunction(function, Settings())
    told = Settings.of(settings)
    return lambda marked: SeriesFunction(marked, told)


class SeriesModel(Model):
    """Runs a marked function over each series, and keeps the rows that it looks back on."""

    def __init__(self, marked: SeriesFunction, settings: Settings, options: dict[str, Any]) -> None:
        self._marked, self._options = marked, options
        self.reads, self.version, self.warm_up = settings.reads, str(settings.version), settings.warm_up
        self.fields = (settings.field,) if isinstance(settings.field, str) else tuple(settings.field)
        self._history, self._threshold = settings.history, settings.threshold
        self._each_row, self._extra = settings.each_row, tuple(settings.columns)
        self._block = 1 if self._each_row else max(BLOCK, self._history)
        self._seen: dict[int, int] = {}
        self._kept: dict[int, dict[str, Array]] = {}

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self._marked.function, "__name__", "model"))

    def update(self, batch: Batch) -> Scores:
        """Score each series' new rows after its history."""
        self._check_fields()
        columns = self._columns(batch)
        width = len(self.fields)
        out = {name: np.full((batch.rows, width), np.nan) for name in _OUT}
        used: set[str] = set()
        reasons: dict[tuple[int, int], str] = {}
        for series, rows in batch.groups():
            new = {name: values[rows] for name, values in columns.items()}
            for at, stop, window in self._windows(series, new):
                for column, field in enumerate(self.fields):
                    answer = self._ask(window, batch.keys[series], field, stop - at)
                    for name in _OUT:
                        if name in answer:
                            out[name][rows[at:stop], column] = answer[name]
                            used.add(name)
                    for row, text in zip(rows[at:stop].tolist(), answer.get("reason", ()), strict=False):
                        if text is not None:
                            reasons[row, column] = text
        return self._verdict(batch, out, used, reasons)

    def snapshot(self) -> dict[Any, Any]:
        """Each series' count of rows and its kept rows, joined into one array a column."""
        ids = sorted(self._seen)
        names = sorted({name for kept in self._kept.values() for name in kept})
        kept = {name: [self._kept[s].get(name, np.empty(0)) for s in ids] for name in names}
        return {
            "series": np.array(ids, np.int32),
            "seen": np.array([self._seen[s] for s in ids], np.int64),
            "lengths": np.array([_length(self._kept[s]) for s in ids], np.int64),
            "kept": {name: np.concatenate(parts) for name, parts in kept.items()},
        }

    def restore(self, state: dict[Any, Any]) -> None:
        """Take up a snapshot."""
        ids, ends = state["series"].tolist(), np.cumsum(state["lengths"])
        starts = ends - state["lengths"]
        self._seen = dict(zip(ids, state["seen"].tolist(), strict=True))
        self._kept = {
            series: {name: values[start:stop] for name, values in state["kept"].items()}
            for series, start, stop in zip(ids, starts.tolist(), ends.tolist(), strict=True)
        }

    def try_out(self) -> str | None:
        """Call the function on an example: its answers must fit, repeat, and not look ahead. Answers a note, if any."""
        self._check_fields()
        rows = min(_TRY_ROWS, max(16, self._history + 2 * _TRY_CUT))
        window, key = _example(rows, self.fields, self._extra), ("example",) * len(self.tags)
        for field in self.fields:
            try:
                full, again = (self._call(window, key, field) for _ in range(2))
                part = self._call({n: v[:-_TRY_CUT] for n, v in window.items()}, key, field)
            except Exception as error:  # noqa: BLE001, RUF100 (an example is not its data: let the real rows decide)
                return f"{self.name} could not be tried on an example: {type(error).__name__}: {error}"
            news = 1 if self._each_row else rows
            first, second = (verdicts(a, news, rows)["score"] for a in (full, again))
            if not np.array_equal(first, second, equal_nan=True):
                raise ModelError(f"{self.name} answers the same rows differently; seed its randomness, use no clock")
            if not self._each_row:
                self._refuse_look_ahead(first, verdicts(part, rows - _TRY_CUT, rows - _TRY_CUT)["score"])
        return None

    def _refuse_look_ahead(self, full: Array, part: Array) -> None:
        differ = ~np.isclose(full[: len(part)], part, rtol=1e-6, atol=1e-9, equal_nan=True)
        if differ.any():
            raise ModelError(
                f"{self.name} looks ahead: its answer for row {int(np.flatnonzero(differ)[0])} changes when {_TRY_CUT} "
                "later rows are added; use rolling windows (not the mean of all rows), or each_row=True"
            )

    def _check_fields(self) -> None:
        if len(self.fields) > 1 and not (self._marked.takes_field or self._marked.takes == "array"):
            raise ModelError(
                f"{self.name} is asked to score {', '.join(self.fields)}; give it a second parameter `field` "
                "that tells which one, or use one [[model]] block for each"
            )

    def _columns(self, batch: Batch) -> dict[str, Array]:
        """The columns that the function is given: time, fields, their quality where there is one, extra ones."""
        columns: dict[str, Array] = {"time": batch.time}
        for field in self.fields:
            columns[field] = batch[field]
            if f"{field}_quality" in batch:
                columns[f"{field}_quality"] = batch.quality(field)
        for name in self._extra:
            columns[name] = batch[name]
        return columns

    def _windows(self, series: int, new: dict[str, Array]) -> Any:
        """Cut new rows at block borders; yield (start, stop, window) and keep what the next rows look back on."""
        at, rows = 0, len(new["time"])
        while at < rows:
            seen = self._seen.get(series, 0)
            stop = min(rows, at + self._block - seen % self._block)
            kept = self._kept.get(series)
            part = {name: values[at:stop] for name, values in new.items()}
            window = part if kept is None else {n: np.concatenate([kept[n], v]) for n, v in part.items()}
            yield at, stop, window
            self._seen[series] = seen + stop - at
            full = self._seen[series] % self._block == 0
            start = max(0, _length(window) - self._history) if full else 0
            self._kept[series] = {name: values[start:].copy() for name, values in window.items()}
            at = stop

    def _ask(self, window: dict[str, Array], key: tuple[str | None, ...], field: str, new: int) -> dict[str, Any]:
        return verdicts(self._call(window, key, field), new, _length(window), self._threshold)

    def _call(self, window: dict[str, Array], key: tuple[str | None, ...], field: str) -> Any:
        options = {**self._options, "field": field} if self._marked.takes_field else self._options
        return self._marked.function(self._given(window, key, field), **options)

    def _given(self, window: dict[str, Array], key: tuple[str | None, ...], field: str) -> Any:
        """The rows in the kind of table that the function's annotation names."""
        if self._marked.takes == "array":
            return window[field]
        rows = _length(window)
        tags: dict[str, Column] = {tag: [value] * rows for tag, value in zip(self.tags, key, strict=True)}
        rest = {name: values for name, values in window.items() if name != "time"}
        if self._marked.takes == "batch":
            return Batch.from_columns(window["time"], {**tags, **rest}, tags=self.tags)
        return frames.write(self._marked.takes, {"time": window["time"].view("datetime64[ns]"), **tags, **rest})

    def _verdict(
        self, batch: Batch, out: dict[str, Array], used: set[str], reasons: Mapping[tuple[int, int], str]
    ) -> Scores:
        score = out["score"]
        anomaly, judged = truths(out["anomaly"])
        given = ~np.isnan(score)
        if "anomaly" in used and "score" in used:
            given = given & judged  # an anomaly of null is no verdict, even where there is a score
        ready = given if "ready" not in used else given & truths(out["ready"])[0]
        if self.warm_up:
            number = self._numbers(batch)
            ready = ready & (number >= self.warm_up)[:, None]
        bands: dict[str, Any] = {name: out[name] for name in ("expected", "lower", "upper") if name in used}
        return Scores(score, anomaly & ready, ready, **bands, reasons=reasons)

    def _numbers(self, batch: Batch) -> Array:
        """The number of each row in its series, from 0; asked after the rows were counted."""
        numbers = np.empty(batch.rows, np.int64)
        for series, rows in batch.groups():
            numbers[rows] = np.arange(self._seen[series] - len(rows), self._seen[series])
        return numbers


_OUT = ("score", "anomaly", "ready", "expected", "lower", "upper")

_KINDS = {"polars": "polars", "pl": "polars", "pandas": "pandas", "pd": "pandas", "pyarrow": "pyarrow", "pa": "pyarrow"}


def _taken_kind(function: Callable[..., Any]) -> str:
    """What the annotation of the first parameter asks for: polars, pandas, pyarrow, array or batch."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise ModelError(f"{function.__name__} takes no rows; give it a parameter such as `df: pl.DataFrame`")
    annotation = parameters[0].annotation
    if annotation is inspect.Parameter.empty:
        return "batch"
    text = annotation if isinstance(annotation, str) else _spelled(annotation)
    text = text.strip("'\" ")
    if "ndarray" in text or "NDArray" in text:
        return "array"
    if text.rpartition(".")[2] == "Batch" and "pa." not in text and "pyarrow" not in text:
        return "batch"
    root = text.partition(".")[0].partition("[")[0]
    if "." not in text:  # `from polars import DataFrame` under postponed annotations
        origin = getattr(sys.modules.get(function.__module__), text, None)
        root = getattr(origin, "__module__", root).partition(".")[0]
    if root not in _KINDS:
        raise ModelError(
            f"{function.__name__} asks for `{text}`; annotate its first parameter with pl.DataFrame, pd.DataFrame, "
            "pa.Table, np.ndarray or trackside.Batch"
        )
    frames.need(_KINDS[root])
    return _KINDS[root]


def _spelled(annotation: Any) -> str:
    module, name = getattr(annotation, "__module__", ""), getattr(annotation, "__qualname__", "")
    return f"{module}.{name}" if name else str(annotation)


def _length(columns: Mapping[str, Array]) -> int:
    return len(next(iter(columns.values()), ()))


def _example(rows: int, fields: Sequence[str], extra: Sequence[str]) -> dict[str, Array]:
    """A dull minute-by-minute series with one spike, the same each time."""
    numbers = np.random.default_rng(7)
    window: dict[str, Array] = {"time": np.arange(rows, dtype=np.int64) * 60_000_000_000}
    for field in fields:
        window[field] = 20 + np.sin(np.arange(rows) / 9) + 0.1 * numbers.standard_normal(rows)
        window[field][rows // 2] += 30
        window[f"{field}_quality"] = np.zeros(rows, np.uint16)
    window.update({name: numbers.standard_normal(rows) for name in extra})
    return window
