"""Each cleaner against the same thing written plainly, in NumPy or Polars, on rows that are as dirty as a plant's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from trackside import clean

OUT_OF_RANGE, SPIKE, FLATLINE, LATE, CONVERTED = 1, 2, 4, 8, 128
"""Quality bits, as the reference names them."""

ROWS = 20_000
SECOND = 1_000_000_000

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def plant(seed: int) -> pl.DataFrame:
    """Rows of five devices, mixed: steps, flat stretches, spikes, nothing, NaN, repeats, and times that go back."""
    rng = np.random.default_rng(seed)
    device = rng.integers(0, 5, ROWS)
    time = np.cumsum(rng.choice([0, 1, 1, 2, 30, -3], ROWS)) * SECOND + 1_700_000_000 * SECOND
    value = np.round(20 + 5 * np.sin(np.arange(ROWS) / 500) + device + rng.normal(0, 0.2, ROWS), 1)
    value[np.arange(ROWS) // 1500 % 4 == 3] = 21.5
    value = np.where(rng.random(ROWS) < 0.01, value + rng.choice([-80, 60, 900], ROWS), value)
    value = np.where(rng.random(ROWS) < 0.01, np.nan, value)
    seq = np.arange(ROWS) - rng.integers(0, 2, ROWS) * (rng.random(ROWS) < 0.05)
    frame = {"time": time, "device": [f"d{number}" for number in device], "value": value, "seq": seq}
    missing = pl.Series(rng.random(ROWS) < 0.01)
    return pl.DataFrame(frame).with_columns(value=pl.when(missing).then(None).otherwise("value"))


def cleaned(frame: pl.DataFrame, **block: Any) -> pl.DataFrame:
    """The rows that stay, with the place that each had."""
    answer: pl.DataFrame = clean(frame.with_row_index("place"), [block], series=["device"])
    return answer


def by_device(frame: pl.DataFrame, judge: Callable[[Floats, Any], Any], missing: Any = False) -> Any:
    """What `judge` says of each row: it is given the finite values of one device in order, and their times."""
    value, time = frame["value"].to_numpy(), frame["time"].to_numpy()
    answers = np.full(frame.height, missing)
    for device in frame["device"].unique():
        rows = np.flatnonzero((frame["device"] == device).to_numpy() & np.isfinite(value))
        answers[rows] = judge(value[rows], time[rows])
    return answers


def windows(value: Floats, length: int) -> Floats:
    """Each full window of the last values, by its end."""
    return sliding_window_view(value, length)


def spikes(value: Floats, length: int, floor: float) -> Bools:
    """Hampel's identifier by its definition."""
    full = windows(value, length)
    median = np.median(full, axis=1)
    mad = np.median(np.abs(full - median[:, None]), axis=1)
    found = np.abs(value[length - 1 :] - median) > np.maximum(3 * 1.4826 * mad, floor)
    return np.concatenate([np.zeros(length - 1, dtype=bool), found])


def repeats(value: Floats, time: Any, count: int, seconds: int) -> Bools:
    """The `count`th and later of equal values in a row that have lasted."""
    starts = np.flatnonzero(np.concatenate([[True], value[1:] != value[:-1]]))
    run = np.searchsorted(starts, np.arange(len(value)), side="right") - 1
    nth = np.arange(len(value)) - starts[run] + 1
    times = [time[start : row + 1] for row, start in enumerate(starts[run])]
    lasted = np.array([so_far.max() - so_far.min() for so_far in times])
    return np.asarray((nth >= count) & (lasted >= seconds * SECOND))


def exceptions(value: Floats, time: Any, width: float, seconds: int) -> Bools:
    """The rows that a deadband keeps."""
    kept = np.zeros(len(value), dtype=bool)
    last, at = np.nan, 0
    for row, (now, when) in enumerate(zip(value.tolist(), time.tolist(), strict=True)):
        if not abs(now - last) <= width or abs(when - at) >= seconds * SECOND:
            kept[row], last, at = True, now, when
    return kept


def too_fast(value: Floats, time: Any, rate: float) -> Bools:
    """The rows that changed faster than `rate` a second since the last that did not, or that came from the past."""
    found = np.zeros(len(value), dtype=bool)
    last, at = np.nan, 0
    for row, (now, when) in enumerate(zip(value.tolist(), time.tolist(), strict=True)):
        if np.isnan(last) or when < at or (when > at and abs(now - last) <= rate * ((when - at) / 1e9)):
            last, at = now, when
        elif when > at:
            found[row] = True
    return found


def places_of(bit: int, answer: pl.DataFrame) -> list[int]:
    """Where a quality bit stands."""
    quality = answer["value_quality"].to_numpy()
    return list(answer["place"].to_numpy()[quality & bit != 0])


@pytest.mark.parametrize("seed", [1, 2, 3])
class TestAgainstPlainCode:
    """One test a cleaner."""

    def test_range(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="range", field="value", min=-10, max=60)
        # In a frame NaN is no value, as null is.
        known = pl.col("value").fill_nan(None)
        expected = frame.with_row_index("place").filter(~known.is_between(-10, 60))
        assert places_of(OUT_OF_RANGE, answer) == expected["place"].to_list()

    def test_range_by_rate(self, seed: int) -> None:
        frame = plant(seed).filter(pl.col("value").is_not_nan())
        answer = cleaned(frame, type="range", field="value", max_rate=0.7)
        expected = by_device(frame, lambda value, time: too_fast(value, time, 0.7))
        assert places_of(OUT_OF_RANGE, answer) == np.flatnonzero(expected).tolist()
        assert 100 < expected.sum() < ROWS / 2

    @pytest.mark.parametrize("length", [7, 11])
    def test_hampel(self, seed: int, length: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="hampel", field="value", window=length, floor=0.5)
        expected = by_device(frame, lambda value, _: spikes(value, length, 0.5))
        assert places_of(SPIKE, answer) == np.flatnonzero(expected).tolist()
        assert expected.sum() > 100

    def test_flatline(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="flatline", field="value", count=4, after="20s")
        expected = by_device(frame, lambda value, time: repeats(value, time, 4, 20))
        assert places_of(FLATLINE, answer) == np.flatnonzero(expected).tolist()
        assert expected.sum() > 1000

    def test_median(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="median", field="value", window=5)
        expected = by_device(
            frame, lambda value, _: np.concatenate([value[:4], np.median(windows(value, 5), axis=1)]), np.nan
        )
        np.testing.assert_array_equal(answer["value"].fill_null(np.nan).to_numpy(), expected)
        replaced = answer.filter(pl.col("value_original").is_not_null())
        before = frame["value"].to_numpy()[replaced["place"].to_numpy()]
        np.testing.assert_array_equal(replaced["value_original"].to_numpy(), before)

    def test_deadband(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="deadband", field="value", width=0.3, every="10m")
        expected = by_device(frame, lambda value, time: exceptions(value, time, 0.3, 600), missing=True)
        assert answer["place"].to_list() == np.flatnonzero(expected).tolist()
        assert ROWS / 10 < answer.height < ROWS

    def test_late(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="late", field="value", lateness="2s")
        latest = pl.col("time").cum_max().shift(1).over("device")
        expected = frame.with_row_index("place").filter(pl.col("time") < latest - 2 * SECOND)
        assert places_of(LATE, answer) == expected["place"].to_list()
        assert expected.height > 100

    def test_dedupe(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="dedupe", by="seq", within=64, resets="ignore")
        expected = frame.with_row_index("place").unique(["device", "seq"], keep="first", maintain_order=True)
        assert answer["place"].to_list() == expected["place"].to_list()
        assert answer.height < ROWS

    def test_convert(self, seed: int) -> None:
        frame = plant(seed)
        answer = cleaned(frame, type="convert", field="value", **{"from": "F", "to": "C"})
        expected = frame.select((pl.col("value") - 32) * 5 / 9).to_series()
        np.testing.assert_allclose(answer["value"].to_numpy(), expected.to_numpy(), rtol=1e-12, atol=1e-12)
        finite = np.isfinite(frame["value"].to_numpy())
        assert places_of(CONVERTED, answer) == np.flatnonzero(finite).tolist()
