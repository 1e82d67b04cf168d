"""A batch says the same from whatever table it is made."""

import gc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from fake_native import FakeBatch, FakeIndex, table_of

from trackside import Batch
from trackside.arrow import ArrowTable, _held
from trackside.columns import NativeColumns
from trackside.errors import FrameError
from trackside.frames import KINDS, kind_of, read, write
from trackside.index import Index

ROWS = {
    "time": np.array([1, 2, 3], "M8[s]").astype("M8[ns]"),
    "device": ["a", None, "a"],
    "value": np.array([1.5, np.nan, 3.0]),
    "count": np.array([1, 2, 3]),
    "on": np.array([True, False, True]),
    "note": ["x", "ü", None],
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_table_is_read_alike_and_written_back(kind):
    frame = write(kind, ROWS)
    assert kind_of(frame) == kind
    back = read(frame)
    for name, values in ROWS.items():
        got = back[name].tolist() if isinstance(back[name], np.ndarray) else back[name]
        want = values.tolist() if isinstance(values, np.ndarray) else values
        assert str(got) == str(want), name
    batch = Batch.from_frame(frame, tags=["device"])
    assert batch.time.tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    assert batch.series.tolist() == [0, 1, 0]
    assert batch.keys == [("a",), (None,)]
    np.testing.assert_array_equal(batch["value"], ROWS["value"])
    assert batch["count"].tolist() == [1.0, 2.0, 3.0]
    assert batch["on"].tolist() == [1.0, 0.0, 1.0]
    assert batch.strings("note") == ["x", "ü", None]
    assert batch.quality("value").tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["polars", "pandas", "pyarrow"])
def test_nulls_in_integers_and_booleans_are_nan(kind):
    make = {
        "polars": lambda: pl.DataFrame({"time": [1, 2], "n": [1, None], "b": [True, None]}),
        "pandas": lambda: pd.DataFrame(
            {"time": [1, 2], "n": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}
        ),
        "pyarrow": lambda: pa.table({"time": [1, 2], "n": [1, None], "b": [True, None]}),
    }
    batch = Batch.from_frame(make[kind]())
    np.testing.assert_array_equal(batch["n"], [1.0, np.nan])
    np.testing.assert_array_equal(batch["b"], [1.0, np.nan])


def test_it_goes_out_as_any_table():
    batch = Batch.from_frame(ROWS, tags=["device"])
    assert pa.table(batch.arrow()).to_pylist()[1]["value"] is None
    assert batch.polars()["value"].null_count() == 1
    assert batch.pandas()["time"].dt.tz is not None
    assert batch.numpy()["note"].tolist() == ["x", "ü", None]


def test_a_native_batch_says_the_same_as_a_plain_one():
    table = table_of(10)
    index = Index(["device"], FakeIndex(["device"]))
    native = Batch(NativeColumns(FakeBatch(table, range(100, 110))), index)
    plain = Batch.from_frame(table, tags=["device"])
    assert native.time.tolist() == plain.time.tolist()
    assert native.series.tolist() == plain.series.tolist()
    assert native.keys == plain.keys
    assert native["value"].tolist() == plain["value"].tolist()
    assert native.offsets.tolist() == list(range(100, 110))
    assert native.polars()["device"].cast(pl.String).to_list() == plain.strings("device")
    assert native.take([1, 3]).offsets.tolist() == [101, 103]
    assert native.take([1, 3]).series.tolist() == [1, 0]
    with pytest.raises(FrameError, match="did you mean `value`"):
        _ = native["vaule"]


def test_series_keep_their_numbers_over_batches():
    index = Index(["d"])
    first = Batch.from_columns([1, 2], {"d": ["b", "a"]}, tags=["d"], index=index)
    second = Batch.from_columns([3, 4], {"d": ["c", "a"]}, tags=["d"], index=index)
    assert first.series.tolist() == [0, 1]
    assert second.series.tolist() == [2, 1]
    later = Index(["d"])
    later.restore(index.keys)
    assert Batch.from_columns([5], {"d": ["c"]}, tags=["d"], index=later).series.tolist() == [2]


def test_columns_are_read_only():
    batch = Batch.from_frame({"time": [1], "value": [1.0]})
    for array in (batch["value"], batch.series):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


@pytest.mark.parametrize(
    ("frame", "options", "says"),
    [
        ({"tme": [1], "value": [1.0]}, {}, "unknown time column `tme`|unknown time column `time`; did you mean `tme`"),
        ({"time": [1], "value": [1.0]}, {"tags": ["device"]}, "unknown tag column `device`"),
        ({"time": ["yesterday"], "value": [1.0]}, {}, "not ISO 8601"),
        ({"time": [1.5], "value": [1.0]}, {}, "give times, ISO text or integer nanoseconds"),
        ({"time": ["2026-01-01", None], "value": [1.0, 2.0]}, {}, "not ISO 8601|row 1 has no time"),
        ({"time": [1, 2], "value": [1.0]}, {}, "differ in length"),
        ({"time": [1], "value": [[1.0, 2.0]]}, {}, "has the shape"),
        ("text", {}, "cannot read a str"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(frame, options, says):
    with pytest.raises(FrameError, match=says):
        Batch.from_frame(frame, **options)


def test_groups_are_in_order_and_complete():
    batch = Batch.from_columns(range(5), {"d": ["b", "a", "b", "a", "b"]}, tags=["d"])
    assert [(s, r.tolist()) for s, r in batch.groups()] == [(0, [0, 2, 4]), (1, [1, 3])]
    assert list(Batch.from_columns([], {}).groups()) == []


def test_the_arrow_stream_frees_what_it_held():
    before = len(_held)
    for _ in range(20):
        table = ArrowTable(ROWS, dictionaries=["device"])
        table.__arrow_c_stream__()  # nobody takes it
        read_twice = [pa.table(table), pl.DataFrame(table)]
        assert read_twice[0].num_rows == read_twice[1].height == 3
        del read_twice, table
    gc.collect()
    assert len(_held) == before


def test_the_arrow_stream_has_the_logs_types():
    schema = pa.table(ArrowTable(ROWS, dictionaries=["device"])).schema
    assert [str(field.type) for field in schema] == [
        "timestamp[ns, tz=UTC]",
        "dictionary<values=string, indices=int32, ordered=0>",
        "double",
        "int64",
        "bool",
        "string",
    ]
