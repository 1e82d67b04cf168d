"""Two models that need NumPy alone: a function over one series, and a class that remembers all of them."""

from __future__ import annotations

import numpy as np

import trackside as ts


@ts.model(field="value", history=30, threshold=8.0, warm_up=30)
def jumps(values: np.ndarray) -> np.ndarray:
    """How far each value is from the 29 before it: in steps, a step being the usual change from row to row.

    Called with one series: its last 30 rows, then the new ones. The answers for the old rows are ignored. A number
    above the decorator's threshold is an anomaly.
    """
    if len(values) < 30:
        return np.zeros(len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, 30)[:, :-1]
    steps = np.maximum(np.mean(np.abs(np.diff(windows, axis=1)), axis=1), 1e-9)
    scores = np.zeros(len(values))
    scores[29:] = np.abs(values[29:] - np.median(windows, axis=1)) / steps
    return scores


class Drift(ts.Model):
    """Follows the mean and the spread of each series; a value far outside is an anomaly.

    One instance sees all series of a partition. `batch` holds columns, and `batch.series` says whose row it is.
    """

    version = "1"  # stored with each score; a new version learns anew from the log
    warm_up = 100

    def __init__(self, limit: float = 6.0, memory: float = 0.02) -> None:
        self.limit, self.memory = limit, memory
        self.seen: dict[int, int] = {}
        self.mean: dict[int, float] = {}
        self.variance: dict[int, float] = {}

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score each row by what was known before it, then learn from it."""
        score, expected = np.zeros(batch.rows), np.zeros(batch.rows)
        ready = np.zeros(batch.rows, bool)
        reasons: dict[int, str] = {}
        bad = batch.quality("value") > 0
        for row, (series, value) in enumerate(zip(batch.series.tolist(), batch["value"].tolist(), strict=True)):
            if np.isnan(value):
                score[row] = np.nan  # null: nothing to judge, nothing to learn
                continue
            mean, variance = self.mean.get(series, value), self.variance.get(series, 0.0)
            score[row] = abs(value - mean) / max(variance, 1e-9) ** 0.5
            expected[row] = mean
            ready[row] = self.seen.get(series, 0) >= self.warm_up
            if ready[row] and score[row] > self.limit:
                reasons[row] = f"{value:.2f} is {score[row]:.1f} deviations from {mean:.2f}"
            elif not bad[row]:
                self.learn_from(series, value, mean, variance)
        return ts.Scores(score, anomaly=ready & (score > self.limit), ready=ready, expected=expected, reasons=reasons)

    def learn_from(self, series: int, value: float, mean: float, variance: float) -> None:
        """Move mean and variance a little; quicker at the beginning."""
        self.seen[series] = self.seen.get(series, 0) + 1
        weight = max(self.memory, 1 / self.seen[series])
        self.mean[series] = mean + weight * (value - mean)
        self.variance[series] = (1 - weight) * (variance + weight * (value - mean) ** 2)
