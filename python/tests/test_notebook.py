"""Reading a data directory: which rows come, in which kind of table."""

from datetime import datetime, timedelta, timezone

import fake_native
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from fake_native import FakeReader, table_of

from trackside.errors import FrameError
from trackside.notebook import Session


@pytest.fixture
def session():
    tables = [(0, table_of(50)), (1, table_of(50, 50)), (0, table_of(50, 100))]
    return Session(FakeReader({"clean": tables, "empty": []}, ["device"]), fake_native)


def test_all_rows_in_any_table(session):
    table = session.read("clean")
    assert len(table) == 150
    for frame in (table.pandas(), table.polars(), table.arrow()):
        assert isinstance(frame, pd.DataFrame | pl.DataFrame | pa.Table)
    columns = table.numpy()
    assert list(columns) == ["time", "device", "value", "_partition", "_offset"]
    assert columns["_partition"].tolist() == [0] * 50 + [1] * 50 + [0] * 50
    assert columns["_offset"].tolist() == [*range(50), *range(50), *range(50, 100)]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"start": 10 * 10**9, "stop": 20 * 10**9}, 10),
        ({"start": "1970-01-01T00:01:40"}, 50),
        ({"start": "1970-01-01T01:01:40+01:00"}, 50),
        ({"stop": datetime(1970, 1, 1, 0, 1, 40, tzinfo=timezone.utc)}, 100),
        ({"last": "10s"}, 10),
        ({"last": timedelta(seconds=60)}, 60),
        ({"last": 5}, 10),
        ({"last": 0}, 0),
        ({"last": 1000}, 150),
    ],
)
def test_ranges(session, options, count):
    assert len(session.read("clean", **options)) == count


def test_columns_that_came_later():
    """Another cleaner makes another column; the rows before have no value in it, and quality 0."""
    later = table_of(2, 3).append_column("value_quality", pa.array([2, 0], pa.uint16()))
    later = later.append_column("limit", pa.array([1.5, 2.5])).append_column("note", pa.array(["hot", None]))
    table = Session(FakeReader({"clean": [(0, table_of(3)), (0, later)]}, ["device"]), fake_native).read("clean")
    frame = table.polars()
    assert frame.columns == ["time", "device", "value", "value_quality", "limit", "note", "_partition", "_offset"]
    assert frame["value_quality"].to_list() == [0, 0, 0, 2, 0]
    assert frame["note"].to_list() == [None, None, None, "hot", None]
    assert table.pandas()["limit"].isna().tolist() == [True, True, True, False, False]
    assert len(table.arrow()) == 5


def test_the_newest_rows_of_each_partition(session):
    columns = session.read("clean", last=2).numpy()
    assert sorted(zip(columns["_partition"].tolist(), columns["_offset"].tolist(), strict=True)) == [
        (0, 98),
        (0, 99),
        (1, 48),
        (1, 49),
    ]


def test_live_batches_are_batches(session):
    batches = list(session.live("clean", timeout=0.1))
    assert [batch.partition for batch in batches] == [0, 1, 0]
    assert batches[2].series.tolist()[:3] == [1, 2, 0]
    assert batches[0].keys == [("d0",), ("d1",), ("d2",)]


def test_wrong_words_are_explained(session):
    with pytest.raises(FrameError, match="unknown topic `clan`; did you mean `clean`"):
        session.read("clan")
    with pytest.raises(FrameError, match="`10 moons` is no duration"):
        session.read("clean", last="10 moons")
    with pytest.raises(FrameError, match="not ISO 8601"):
        session.read("clean", start="soon")
    assert len(session.read("empty", last="1h")) == 0
