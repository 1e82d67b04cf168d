"""`trackside.models:Forecast`: the next hours of each series, with a band.

An ensemble of online experts (last season, Holt-Winters, a regression on lags), weighted by their recent errors; the
band is as wide as its own past errors ask for. Forecasts are made each `every` of event time. The rows' verdicts tell
what was expected one step ahead, where the forecaster says so; they are never anomalies.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from trackside.batch import Batch
from trackside.contract import Model
from trackside.scores import Forecasts, Scores


class Forecast(Model):
    """Forecasts each series.

    Options: `horizon` (how far), `every` (how often, event time), `season`, `level` (of the band, 0 to 1), and those of
    the native forecaster; what is left out is its default.
    """

    version = "1"

    def __init__(self, **config: Any) -> None:
        self._config = json.dumps(config)
        self._native = _forecaster()
        self._native(self._config)  # a wrong option is said when the model is loaded
        self._forecasters: dict[str, Any] = {}
        self._due: list[Forecasts] = []

    def update(self, batch: Batch) -> Scores:
        """Learn each field's column; the forecasts that it makes due wait for `forecast`."""
        shape = (batch.rows, len(self.fields))
        score, expected = np.full(shape, np.nan), np.full(shape, np.nan)
        self._due = []
        says_expected = False
        for column, field in enumerate(self.fields):
            values = batch[field]
            part = self._of(field).update(batch.series, batch.time, values)
            score[~np.isnan(values), column] = 0.0
            if part.get("expected") is not None:
                expected[:, column], says_expected = np.asarray(part["expected"]), True
            self._due.append(_due(part, column))
        if not says_expected:
            return Scores(score)
        return Scores(score, ready=~np.isnan(expected), expected=expected)

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
