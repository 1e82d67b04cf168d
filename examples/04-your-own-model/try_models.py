"""Tries the models without a pipeline: what they score, and that cutting and restarting change no bit of it."""

from __future__ import annotations

import numpy as np
from my_models import Drift, jumps

import trackside as ts

numbers = np.random.default_rng(1)
rows = {
    "time": np.arange(1000) * 1_000_000_000,
    "device": ["pump-1", "pump-2"] * 500,
    "value": 20 + 0.1 * numbers.standard_normal(1000),
}
rows["value"][700] += 3  # a row of pump-1

for model in (jumps, Drift):
    scores = ts.testing.run(model, rows, tags=["device"], field="value")
    found = np.flatnonzero(scores["anomaly"])
    print(f"{model.__name__}: anomalies in rows {found.tolist()}")
    ts.testing.assert_same_after_restart(model, rows, tags=["device"], field="value")
    ts.testing.assert_same_however_cut(model, rows, tags=["device"], field="value")
    dirty = ts.testing.inject(rows, field="value", nulls=0.05, spikes=0.01, duplicates=0.02, seed=2)
    ts.testing.assert_same_after_restart(model, dirty, tags=["device"], field="value")
print("restarted at 20 rows, cut at 20 rows, with nulls, spikes and repeats: the same scores, bit for bit")
