"""Trains an autoregression for each series on cleaned history, and writes its weights to weights.npz.

A script, but any cell of a notebook could hold the same lines. It needs NumPy alone; `.polars()` or `.pandas()` in
place of `.numpy()` gives a DataFrame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ar_model import LAGS, key_of

import trackside as ts
from trackside.notebook import Session

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

HERE = Path(__file__).parent


def fit(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (constant, then the last value, the one before, …) and the usual error, by least squares."""
    past = np.lib.stride_tricks.sliding_window_view(values[:-1], LAGS)[:, ::-1]
    inputs = np.column_stack([np.ones(len(past)), past])
    weights, *_ = np.linalg.lstsq(inputs, values[LAGS:], rcond=None)
    return weights, float(np.std(values[LAGS:] - inputs @ weights))


def train(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One model for each series, from its good values (quality 0)."""
    keys = np.array([key_of(pair) for pair in zip(rows["device"], rows["sensor"], strict=True)])
    names = sorted(set(keys.tolist()))
    fits = [fit(rows["value"][(keys == name) & (rows["value_quality"] == 0)]) for name in names]
    return {
        "names": np.array(names),
        "weights": np.stack([weights for weights, _ in fits]),
        "errors": np.array([error for _, error in fits]),
    }


def check_cleaning(session: Session, cleaned: dict[str, np.ndarray]) -> int:
    """The raw rows through `ts.clean` are what the pipeline made of them; answers the number of rows compared."""
    pipeline = tomllib.loads((HERE / "history.toml").read_text())
    raw = session.read("received").numpy()
    again = ts.clean(raw, pipeline["clean"], pipeline["schema"])
    for name in ("time", "device", "sensor", "seq", "value", "value_quality"):
        assert np.array_equal(again[name], cleaned[name]), name
    return len(again["value"])


if __name__ == "__main__":
    session = ts.connect(HERE / "data")
    history = session.read("clean").numpy()
    good = int((history["value_quality"] == 0).sum())
    print(f"history: {len(history['value'])} cleaned rows, {good} of them good")
    print(f"ts.clean on the raw rows: the same {check_cleaning(session, history)} rows")
    model = train(history)
    np.savez(HERE / "weights.npz", **model)
    print(f"weights.npz: {len(model['names'])} series, {LAGS} lags each")
