"""`Judge`: one model instance, the series it has seen, and its snapshots.

The one place where a batch becomes checked verdicts. The worker process, the in-process mode and `trackside.testing`
all go through it, so all three give the same scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trackside import state
from trackside.batch import Batch
from trackside.contract import Model, as_scores, checked_snapshot, splits
from trackside.errors import StateError
from trackside.index import Index
from trackside.scores import Scores

FORMAT = 1


class Judge:
    """Runs a model over batches of one partition. `make` and `new_index` give a fresh model and index."""

    def __init__(self, make: Callable[[], Model], new_index: Callable[[], Index]) -> None:
        self._make, self._new_index = make, new_index
        self.index, self.model = new_index(), make()
        self.fields = tuple(self.model.fields)
        self.splits = splits(self.model)
        self._seen = np.zeros(0, np.int64)

    def judge(self, batch: Batch) -> Scores:
        """Score and learn one batch: verdicts in the wire's types, forecasts included."""
        model = self.model
        scores = as_scores(model.update(batch), model)
        forecasts = model.forecast(batch)
        _ = batch.series  # numbered by now, asked for or not: ids must not hang on whether a model looks
        if forecasts is not None:
            scores = replace(scores, forecasts=forecasts)
        if model.warm_up:
            self._count(batch)
        return scores.check(batch.rows, self.fields)

    def learning(self, batch: Batch) -> list[int] | None:
        """[rows seen, rows needed] of the batch's youngest series, None when all have seen enough."""
        if not self.model.warm_up or not batch.rows:
            return None
        least = int(self._seen[batch.series].min())
        return [least, self.model.warm_up] if least < self.model.warm_up else None

    def snapshot(self) -> bytes:
        """Everything that the next batch's scores depend on."""
        return state.encode(
            {
                "format": FORMAT,
                "version": str(self.model.version),
                "keys": [list(key) for key in self.index.keys],
                "seen": self._seen,
                "state": state.encode(checked_snapshot(self.model)),
            }
        )

    def restore(self, data: bytes) -> None:
        """Begin again from a snapshot; from no bytes at all, begin afresh. The old state, dirty or not, is dropped."""
        saved = state.decode(data) if len(data) else None
        if saved is not None and saved["version"] != str(self.model.version):
            raise StateError(
                f"the snapshot is of version {saved['version']!r} of this model, which is now "
                f"{str(self.model.version)!r}; a new version begins with a fresh state"
            )
        self.index, self.model = self._new_index(), self._make()
        self._seen = np.zeros(0, np.int64)
        if saved is None:
            return
        self.index.restore([tuple(key) for key in saved["keys"]])
        self._seen = saved["seen"]
        self.model.restore(state.decode(saved["state"]))

    def _count(self, batch: Batch) -> None:
        known = len(batch.keys)
        if known > self._seen.size:
            grown = np.zeros(max(known, 2 * self._seen.size), np.int64)
            grown[: self._seen.size] = self._seen
            self._seen = grown
        if batch.rows:
            self._seen += np.bincount(batch.series, minlength=self._seen.size)
