"""`trackside.models:Forecast`: the next hours of each series, with a band.

An ensemble of online experts (last season, Holt-Winters, a regression on lags), weighted by their recent errors; the
band is as wide as its own past errors ask for. Forecasts are made each `every` of event time. The rows' verdicts tell
what was expected of a row before it came; they are never anomalies.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from trackside.batch import Batch
from trackside.contract import Model
from trackside.scores import Forecasts, Scores

WARM_UP = 50
"""Rows of a series before its first forecast."""

_BANDS = {"expected": "expected", "lower": "expected_lower", "upper": "expected_upper"}


class Forecast(Model):
    """Forecasts each series.

    Options: `horizon` (how far), `every` (how often, event time), `season`, `level` (of the band, 0.5 to 0.999),
    `warm_up` (rows), and those of the native forecaster; what is left out is its default.
    """

    version = "1"

    def __init__(self, warm_up: int = WARM_UP, **config: Any) -> None:
        self.warm_up = warm_up
        self._config = json.dumps({"warm_up": warm_up, **config})
        self._native = _forecaster()
        self._native(self._config)  # a wrong option is said when the model is loaded
        self._forecasters: dict[str, Any] = {}
        self._due: list[Forecasts] = []

    def update(self, batch: Batch) -> Scores:
        """Learn each field's column; the forecasts that it makes due wait for `forecast`."""
        shape = (batch.rows, len(self.fields))
        score, ready = np.full(shape, np.nan), np.zeros(shape, bool)
        bands: dict[str, Any] = {name: np.full(shape, np.nan) for name in _BANDS}
        self._due = []
        for column, field in enumerate(self.fields):
            values = batch[field]
            part = self._of(field).update(batch.series, batch.time, values)
            score[~np.isnan(values), column] = 0.0
            ready[:, column] = np.asarray(part["ready"])
            for name, source in _BANDS.items():
                bands[name][:, column] = np.asarray(part[source])
            self._due.append(_due(part, column))
        return Scores(score, ready=ready, **bands)

    def forecast(self, batch: Batch) -> Forecasts | None:  # noqa: ARG002
        """What the batch made due."""
        return Forecasts.concat([one for one in self._due if len(one.row)])

    def snapshot(self) -> dict[str, Any]:
        """One state for each field."""
        return {field: self._of(field).snapshot() for field in self.fields}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the states."""
        for field, saved in state.items():
            self._of(field).restore(saved)

    def _of(self, field: str) -> Any:
        if field not in self._forecasters:
            self._forecasters[field] = self._native(self._config)
        return self._forecasters[field]


def _due(part: dict[str, Any], column: int) -> Forecasts:
    """The native forecaster's columns; lower and upper are NaN until errors have settled."""
    columns = {name: np.asarray(part[name]) for name in ("row", "made_at", "for_time", "mean", "lower", "upper")}
    return Forecasts(**columns, field=np.full(len(columns["row"]), column))


def _forecaster() -> Callable[[str], Any]:
    from trackside import _native  # noqa: PLC0415 (so that the package imports without its library)

    return _native.Ens4
