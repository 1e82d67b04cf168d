"""The same function in polars: the annotation of its parameter picks what it is given."""

from __future__ import annotations

import polars as pl

import trackside as ts


@ts.model(field="value", history=30, threshold=8.0, warm_up=30)
def jumps(df: pl.DataFrame) -> pl.Series:
    """One series as a table: `time`, the tags, `value`, `value_quality`."""
    value = df["value"]
    before = value.shift(1)
    steps = value.diff().abs().shift(1).rolling_mean(28)
    away = (value - before.rolling_median(29)).abs()
    return (away / steps.clip(lower_bound=1e-9)).fill_null(0.0)
