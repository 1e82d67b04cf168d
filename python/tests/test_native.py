"""The built-in models and the cleaners, over the native library."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import trackside as ts
from trackside import _native
from trackside.batch import Batch
from trackside.columns import NativeColumns
from trackside.frames import KINDS, kind_of, write
from trackside.index import Index
from trackside.models import Anomaly, Forecast
from trackside.testing import assert_same_after_restart, assert_same_however_cut, run

N = 900
NUMBER = np.arange(N)
ROWS = {
    "time": (NUMBER // 2) * 60 * 10**9,
    "device": [f"d{i % 2}" for i in range(N)],
    "value": np.sin(NUMBER / 30) + np.random.default_rng(1).normal(0, 0.05, N),
    "other": np.cos(NUMBER / 30),
}
ROWS["value"][700] = 25.0


def test_anomaly_finds_the_spike_and_says_why():
    scores = run(Anomaly, ROWS, tags=["device"], field="value")
    assert scores["anomaly"][700]
    assert scores["reason"][700]
    assert not scores["ready"][:200].any()
    assert scores["ready"][-1]


@pytest.mark.parametrize("model", [Anomaly, Forecast])
def test_built_in_models_restart_and_cut_anywhere(model):
    fields = ["value", "other"]
    assert_same_after_restart(model, ROWS, tags=["device"], field=fields)
    assert_same_however_cut(model, ROWS, tags=["device"], field=fields)


def test_a_wrong_option_is_said_at_once():
    with pytest.raises(ValueError, match="treshold"):
        run(Anomaly, ROWS, field="value", treshold=1)


@pytest.mark.parametrize("kind", KINDS)
def test_cleaning_answers_the_kind_that_was_given(kind):
    table = {"time": ROWS["time"].view("M8[ns]"), "device": ROWS["device"], "value": ROWS["value"]}
    blocks = [{"type": "range", "field": "value", "min": -10, "max": 10}]
    clean, dead = ts.clean(write(kind, table), blocks, with_dead=True)
    assert kind_of(clean) == kind_of(dead) == kind
    quality = Batch.from_frame(clean, tags=["device"]).quality("value")
    assert np.flatnonzero(quality).tolist() == [700]
    assert len(dead["stage"]) == 0


def test_a_native_batch_is_read_by_every_library():
    native = _native.Batch.from_arrow(Batch.from_frame(ROWS, tags=["device"]).arrow())
    batch = Batch(NativeColumns(native), Index(["device"], _native.SeriesIndex(["device"])))
    assert batch.rows == N
    assert batch["value"].tolist() == ROWS["value"].tolist()
    assert batch.keys == [("d0",), ("d1",)]
    assert batch.series.tolist() == [i % 2 for i in range(N)]
    assert batch.time.tolist() == ROWS["time"].tolist()
    assert isinstance(batch.polars(), pl.DataFrame)
    assert isinstance(batch.pandas(), pd.DataFrame)
    assert pa.table(batch.arrow()).num_rows == N
    assert batch.take([700])["value"].tolist() == [25.0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_can_be_cleaned_again(kind):
    blocks = [{"type": "range", "field": "value", "min": -10, "max": 10, "action": "drop"}]
    read = {"time": ROWS["time"], "device": ROWS["device"], "value": ROWS["value"], "extra": [None] * N}
    read |= {"value_quality": np.zeros(N, np.uint16), "_partition": np.zeros(N, np.int32), "_offset": NUMBER}
    read["time"] = read["time"].view("M8[ns]")
    clean = Batch.from_frame(ts.clean(write(kind, read), blocks, {"series": ["device"]}), tags=["device"])
    assert clean.names == ("time", "device", "value", "extra", "value_quality", "received_offset")
    assert clean["received_offset"].tolist() == [n for n in range(N) if n != 700]


def test_what_is_wrong_with_a_block_is_said_with_its_place():
    with pytest.raises(ValueError, match=r"clean\[0\].*did you mean `range`"):
        ts.clean(ROWS, [{"type": "rnage", "field": "value"}])
