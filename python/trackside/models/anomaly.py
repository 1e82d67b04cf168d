"""`trackside.models:Anomaly`: a general detector for single fields.

Record excess with a refractory time: four streams of each series (the value, its one-step error, its variance, its
drift against the time of day) are watched for values beyond anything seen so far; the score is between 0 and 3. It
learns from every row, needs no labels and no settings, and is ready after `warm_up` rows of a series.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from trackside.batch import Batch
from trackside.contract import Model
from trackside.scores import Scores

THRESHOLD = 0.4212
"""Best of one threshold for the 35 tuning files of NAB; raise it for fewer alarms."""

WARM_UP = 150
"""Rows before a series is ready: a score before that says little (measured on NAB)."""

_PARTS = ("score", "anomaly", "ready", "expected", "lower", "upper")


class Anomaly(Model):
    """Tags values of a series that are unlike all it has seen.

    Options: `threshold` (a score of this or more is an anomaly), `warm_up` (rows), and those of the native detector.
    """

    version = "1"

    def __init__(self, threshold: float = THRESHOLD, warm_up: int = WARM_UP, **config: Any) -> None:
        self.warm_up, self.threshold = warm_up, threshold
        self._config = json.dumps({"threshold": threshold, "warm_up": warm_up, **config})
        self._native = _detector()
        self._native(self._config)  # a wrong option is said when the model is loaded
        self._detectors: dict[str, Any] = {}

    def update(self, batch: Batch) -> Scores:
        """Score and learn each field's column."""
        parts: list[dict[str, Any]] = [
            self._of(field).update(batch.series, batch.time, batch[field]) for field in self.fields
        ]
        columns: dict[str, Any] = {
            name: np.stack([np.asarray(part[name]) for part in parts], axis=1)
            for name in _PARTS
            if all(part.get(name) is not None for part in parts)
        }
        reasons = {(row, column): text for column, part in enumerate(parts) for row, text in part["reasons"]}
        return Scores(**columns, reasons=reasons)

    def snapshot(self) -> dict[str, Any]:
        """One state for each field."""
        return {field: self._of(field).snapshot() for field in self.fields}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the states."""
        for field, saved in state.items():
            self._of(field).restore(saved)

    def _of(self, field: str) -> Any:
        if field not in self._detectors:
            self._detectors[field] = self._native(self._config)
        return self._detectors[field]


def _detector() -> Callable[[str], Any]:
    from trackside import _native  # noqa: PLC0415 (so that the package imports without its library)

    return _native.RecordExcess
