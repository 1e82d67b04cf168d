"""The trained model, live: expects the next value of each series from its last ones, and scores the difference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import trackside as ts

LAGS = 4


def key_of(tags: Iterable[str | None]) -> str:
    """A series' tags as one text, as training and the live model both write it."""
    return " ".join(str(tag) for tag in tags)


class Autoregression(ts.Model):
    """Knows the series that it was trained on; rows of others are not ready.

    `weights` is a file that train.py wrote, relative to this one; `limit` is how many usual errors make an anomaly.
    """

    def __init__(self, weights: str = "weights.npz", limit: float = 6.0) -> None:
        path = Path(__file__).parent / weights
        with np.load(path) as saved:
            self.known = dict(zip(saved["names"].tolist(), range(len(saved["names"])), strict=True))
            self.weights, self.errors = saved["weights"], saved["errors"]
        self.limit = limit
        # Other weights, another version: stored with each score; its state is made anew from the log.
        self.version = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        self.last: dict[int, list[float]] = {}

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score each row by what was expected of it; then it is one of the last values."""
        score, expected = np.full(batch.rows, np.nan), np.full(batch.rows, np.nan)
        width = np.zeros(batch.rows)
        good = batch.quality("value") == 0
        for series, rows in batch.groups():
            at = self.known.get(key_of(batch.keys[series]))
            last = self.last.setdefault(series, [])
            for row in rows.tolist():
                value = float(batch["value"][row])
                if at is not None and len(last) == LAGS:
                    expected[row] = self.weights[at] @ [1.0, *last]
                    score[row] = abs(value - expected[row]) / self.errors[at]
                    width[row] = self.limit * self.errors[at]
                if good[row]:  # as in training: what cleaning called bad is not learnt from
                    last[:] = [value, *last[: LAGS - 1]]
        # A spike or a value out of range is the sensor's fault, and cleaning has said so: no alarm for these.
        anomaly = good & (np.nan_to_num(score) > self.limit)
        return ts.Scores(score, anomaly, expected=expected, lower=expected - width, upper=expected + width)

    def snapshot(self) -> dict[str, object]:
        """What it learnt since the start; the weights are in their file."""
        return {"last": self.last}

    def restore(self, state: dict[str, dict[int, list[float]]]) -> None:
        """Take it up again."""
        self.last = state["last"]
