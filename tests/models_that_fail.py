"""Models for the tests: a running sum that fails on one value in the way that it is told, or only grows."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

import trackside as ts

POISON = -666.0


class RunningSum(ts.Model):
    """Scores a row by the sum of all values before it: a row lost, doubled or reordered changes every later score."""

    version = "1"
    fields = ("value",)

    def __init__(self, how: str = "never") -> None:
        self.how, self.sum = how, 0.0

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score and learn; the poisonous value is learnt before it strikes, so that a state left dirty would show."""
        scores = np.empty(batch.rows)
        for row, value in enumerate(batch[self.fields[0]]):
            scores[row] = self.sum
            self.sum += value
            if value == POISON:
                self.strike()
        return ts.Scores(scores)

    def strike(self) -> None:
        """Fail."""
        if self.how == "raise":
            raise ValueError("this value is poison")
        if self.how == "segfault":
            ctypes.string_at(0)
        if self.how == "exit":
            os._exit(3)
        while self.how == "loop":
            pass

    def snapshot(self) -> dict[str, Any]:
        """The sum."""
        return {"sum": self.sum}

    def restore(self, state: dict[str, Any]) -> None:
        """The sum of before."""
        self.sum = float(state["sum"])


class Leaking(RunningSum):
    """Keeps 16 MiB of each batch for ever, and writes down which process it lives in."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[np.ndarray[Any, Any]] = []

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score, and keep."""
        self.kept.append(np.ones(2 << 20))
        return super().update(batch)
