"""Models that the tests of loader and worker name, good and bad."""

import sys
import time

import numpy as np

import trackside as ts


@ts.model(field="value", history=10)
def spikes(values: np.ndarray) -> np.ndarray:
    return np.abs(values) > 5


@ts.model(field="value", history=10)
def raises_on_spikes(batch: ts.Batch) -> np.ndarray:
    if (batch["value"] > 9).any() and "example" not in batch.strings("device"):
        raise ValueError("bad row")
    return batch["value"] > 100


class Running(ts.Model):
    """Distance to the running mean of each series, and a forecast of it every ten rows."""

    version = "7"
    warm_up = 5
    fields = ("value",)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.mean = np.zeros(0)
        self.count = np.zeros(0, np.int64)
        self.rows = 0
        self._due: list[tuple[int, int, float]] = []

    def update(self, batch: ts.Batch) -> ts.Scores:
        grow = len(batch.keys) - self.mean.size
        self.mean = np.append(self.mean, np.zeros(grow))
        self.count = np.append(self.count, np.zeros(grow, np.int64))
        score, reasons, self._due = np.zeros(batch.rows), {}, []
        for row, (series, value) in enumerate(zip(batch.series.tolist(), batch["value"].tolist(), strict=True)):
            score[row] = abs(value - self.mean[series]) * self.scale if self.count[series] else 0.0
            if score[row] > 5:
                reasons[row] = f"{score[row]:.1f} away"
            self.count[series] += 1
            self.mean[series] += (value - self.mean[series]) / self.count[series]
            self.rows += 1
            if self.rows % 10 == 0:
                self._due.append((row, int(batch.time[row]), float(self.mean[series])))
        return ts.Scores(score, anomaly=score > 5, expected=self.mean[batch.series], reasons=reasons)

    def forecast(self, batch: ts.Batch) -> ts.Forecasts | None:
        if not self._due:
            return None
        row, at, mean = zip(*self._due, strict=True)
        return ts.Forecasts(row, at, np.array(at) + 10**9, mean)

    def snapshot(self) -> dict[str, object]:
        return {"mean": self.mean, "count": self.count, "rows": self.rows}


class Split(ts.Model):
    """Scores against what it learnt from earlier frames."""

    fields = ("value",)

    def __init__(self) -> None:
        self.largest = 0.0

    def score(self, batch: ts.Batch) -> np.ndarray:
        return batch["value"] - self.largest

    def learn(self, batch: ts.Batch) -> None:
        self.largest = max(self.largest, float(batch["value"].max()))


class Forgetful(Running):
    """Keeps a state that it does not save."""

    def snapshot(self) -> dict[str, object]:
        return {"rows": self.rows}


class Unsaveable(ts.Model):
    fields = ("value",)

    def __init__(self) -> None:
        self.net = object()

    def update(self, batch: ts.Batch) -> np.ndarray:
        return batch["value"]


class Loud(ts.Model):
    """Prints far too much, and exits."""

    fields = ("value",)

    def __init__(self, lines: int = 0, close: bool = False, leave: bool = False, sleep: bool = False) -> None:
        self.lines, self.close, self.leave, self.sleep = lines, close, leave, sleep

    def update(self, batch: ts.Batch) -> np.ndarray:
        import os

        for _ in range(self.lines):
            print("x" * 1000)
            print("y" * 1000, file=sys.stderr)
        if self.close:
            os.closerange(0, 64)
        if self.leave:
            sys.exit(3)
        while self.sleep:
            time.sleep(0.01)
        return batch["value"]


class Silent(ts.Model):
    fields = ("value",)


class NotAModel:
    pass


def plain(values: np.ndarray) -> np.ndarray:
    return values


INSTANCE = Running()
