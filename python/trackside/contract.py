"""`Model`: what a model is to the engine, and the base class of those that keep a state of their own.

One instance serves one partition and sees all its series, batch after batch, in the order of the log. The engine may
stop it after any batch, restore a snapshot in another process and go on: the scores must be the same, bit for bit. So a
model knows no clock, no randomness without a seed, and no input but its batches.

>>> class Drift(Model):
...     version = "2"
...     def __init__(self, limit: float = 3.0) -> None:
...         self.limit, self.level = limit, {}
...     def update(self, batch):
...         away = np.zeros(batch.rows)
...         for row, (series, value) in enumerate(zip(batch.series.tolist(), batch[self.fields[0]].tolist())):
...             level = self.level.setdefault(series, value)
...             away[row] = abs(value - level)                     # score first, from what was known before ...
...             self.level[series] = level + 0.1 * (value - level)   # ... then learn
...         return Scores(away, anomaly=away > self.limit)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trackside.batch import Batch
from trackside.errors import ModelError, StateError, did_you_mean
from trackside.scores import Forecasts, Scores

Verdicts = Scores | Mapping[str, Any] | npt.NDArray[Any]
"""What `update` and `score` may answer: Scores, a dict of the same names, or an array of scores."""


class Model:
    """The base of models with a state. Override `update`, or `score` and `learn`; see the module for an example.

    Class attributes are defaults that a subclass or instance sets:

    - `version`: stored with each score; a new version begins with a fresh state.
    - `reads`: the topic; `fields`: what it scores unless the pipeline file says so.
    - `warm_up`: rows of a series before the model is ready, shown while it learns.

    `fields` and `tags` are those of the pipeline once the model is loaded. What `__init__` takes are the model's
    options: the extra keys of its block in the pipeline file.
    """

    version: str = "1"
    reads: str = "clean"
    fields: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    warm_up: int = 0

    def __init__(self) -> None:
        pass

    def update(self, batch: Batch) -> Verdicts:
        """Score the rows, then learn from them; row by row, so that a later row changes no earlier score."""
        scores = self.score(batch)
        self.learn(batch)
        return scores

    def score(self, batch: Batch) -> Verdicts:
        """Score the rows and change nothing. A model that splits the two gets one logged frame at a time."""
        raise NotImplementedError

    def learn(self, batch: Batch) -> None:
        """Learn from rows that are scored already."""

    def forecast(self, batch: Batch) -> Forecasts | None:  # noqa: ARG002
        """Forecasts due after this batch; asked for after each `update`. None: there are none."""
        return None

    def snapshot(self) -> dict[Any, Any]:
        """The whole state: numbers, text, bytes, lists, dicts, arrays. By default every attribute that was set."""
        return {name: value for name, value in vars(self).items() if name not in _BOUND}

    def restore(self, state: dict[Any, Any]) -> None:
        """Take up the state of a snapshot, in a fresh instance made with the same options."""
        for name, value in state.items():
            setattr(self, name, value)


_BOUND = frozenset({"fields", "tags"})  # set by the loader, not learnt


def splits(model: Model) -> bool:
    """Whether a model splits `score` and `learn`, and so must be handed one logged frame at a time."""
    return type(model).update is Model.update


def check_class(cls: type[Model]) -> None:
    """A subclass must override something that scores."""
    if cls.update is Model.update and cls.score is Model.score:
        raise ModelError(f"{cls.__name__} scores nothing: write `update(self, batch)`, or `score` and `learn`")


def check_options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], skip: int, also: Iterable[str] = ()
) -> None:
    """Options must be parameters of `function` after the first `skip`, or in `also`: no typing error may pass."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for option in options:
        if option not in known and option not in also:
            raise ModelError(f"{name}: {did_you_mean('option', option, [*known, *also])}")
    missing = [p.name for p in parameters if p.name in known and p.default is p.empty and p.name not in options]
    if missing:
        raise ModelError(f"{name} needs the option `{missing[0]}`; give it in the model's block: {missing[0]} = …")


def as_scores(answer: Any, model: Model) -> Scores:
    """Whatever `update` answered as `Scores`, unchecked."""
    if isinstance(answer, Scores):
        return answer
    if isinstance(answer, Mapping):
        return _from_mapping(answer, model)
    if answer is None:
        raise ModelError(f"{type(model).__name__}.update answered None; is a `return` missing?")
    return Scores(score=np.asarray(answer))


_SCORES = ("score", "anomaly", "ready", "expected", "lower", "upper", "reasons", "forecasts")


def _from_mapping(answer: Mapping[str, Any], model: Model) -> Scores:
    for name in answer:
        if name not in _SCORES:
            raise ModelError(f"{type(model).__name__}.update: {did_you_mean('key', str(name), _SCORES)}")
    if "score" not in answer:
        raise ModelError(f"{type(model).__name__}.update answered no `score`; it has: {', '.join(answer)}")
    return Scores(**{name: value for name, value in answer.items() if value is not None})


def checked_snapshot(model: Model) -> dict[Any, Any]:
    """The model's snapshot as a dict, or an error that names the method to write."""
    try:
        state = model.snapshot()
    except Exception as error:
        raise StateError(f"{type(model).__name__}.snapshot() fails: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise StateError(f"{type(model).__name__}.snapshot() must answer a dict, not {type(state).__name__}")
    return state
