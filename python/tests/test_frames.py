"""Native batches: rows mapped out of the log, numbered, sliced, handed on, and never copied for nothing."""

import fake_native
import numpy as np
import pyarrow as pa
import pytest
from fake_native import table_of, update_of, write_frame

from trackside import _native


def part_of(frame, start=0, stop=None):
    return {**frame, "from": start, "to": frame["to"] if stop is None else stop}


def read(frames, skip=(), library=_native):
    [batch] = library.Update(update_of(frames, skip)).batches(apart=False)
    return batch


def address(array):
    return array.__array_interface__["data"][0]


def test_rows_of_one_frame_are_the_segment_itself(tmp_path):
    frame = write_frame(tmp_path, 100)
    whole, part = read([frame]), read([part_of(frame, 10, 20)])
    assert address(part.numpy("value")) == address(whole.numpy("value")) + 10 * 8
    assert address(whole.slice(10, 20).numpy("time")) == address(part.numpy("time"))
    value = np.asarray(whole.numpy("value"))
    assert not value.flags.writeable
    wanted = table_of(100)["value"].to_pylist()
    del whole, part
    assert value.tolist() == wanted, "the map lives as long as the array"


@pytest.mark.parametrize("skip", [[], [0, 15, 16, 119]])
def test_several_frames_are_one_batch(tmp_path, skip):
    frames = [write_frame(tmp_path, 50), write_frame(tmp_path, 70, start=50)]
    parts = [part_of(frames[0], 10), frames[1]]
    native, fake = read(parts, skip), read(parts, skip, fake_native)
    assert native.num_rows == fake.num_rows
    assert native.schema_names() == fake.schema_names()
    for name in ("time", "value"):
        assert np.array_equal(np.asarray(native.numpy(name)).view("i8"), np.asarray(fake.numpy(name)).view("i8"))
    assert native.strings("device") == fake.strings("device")
    assert np.asarray(native.offsets()).tolist() == fake.offsets().tolist()
    index, other = _native.SeriesIndex(["device"]), fake_native.SeriesIndex(["device"])
    assert np.asarray(native.series_ids(index)).tolist() == fake.series_ids(other).tolist()
    assert index.keys() == other.keys()
    assert pa.table(native).num_rows == native.num_rows


def test_frames_are_read_apart_when_asked_and_garbage_is_refused(tmp_path):
    frames = [write_frame(tmp_path, 5), write_frame(tmp_path, 7, start=5)]
    message = update_of(frames, [6], replay=True)
    update = _native.Update(message)
    assert update.replay is True
    assert [np.asarray(batch.offsets()).tolist() for batch in update.batches(apart=True)] == [
        [0, 1, 2, 3, 4],
        [5, 7, 8, 9, 10, 11],
    ]
    for garbage in (b"", message[:-1], message + b"x", b"\xff" * 64):
        with pytest.raises(ValueError, match="cannot be read"):
            _native.Update(garbage)


def test_skipping_everything_leaves_an_empty_batch(tmp_path):
    frame = write_frame(tmp_path, 3)
    batch = read([frame], [0, 1, 2])
    assert batch.num_rows == 0
    assert np.asarray(batch.numpy("value")).shape == (0,)
    assert len(np.asarray(batch.series_ids(_native.SeriesIndex(["device"])))) == 0


def test_what_cannot_be_read_is_said(tmp_path):
    frame = write_frame(tmp_path, 3)
    with pytest.raises(ValueError, match="rows 0 to 4 of a frame that has 3"):
        read([part_of(frame, 0, 4)])
    with pytest.raises(OSError, match="no-such"):
        read([{**frame, "path": tmp_path / "no-such"}])
    with pytest.raises(OSError, match="beyond the end"):
        read([{**frame, "section_length": 1 << 40}])
    with pytest.raises(ValueError, match="no frames"):
        read([])
    batch = read([frame])
    with pytest.raises(KeyError, match="did you mean `value`"):
        batch.numpy("vaule")
    with pytest.raises(TypeError, match="read it with strings"):
        batch.numpy("device")
    with pytest.raises(TypeError, match="not text"):
        batch.strings("value")


def test_nulls_are_nan_and_nat():
    columns = {
        "time": pa.array([1, None, 3], pa.timestamp("ns", tz="UTC")),
        "seconds": pa.array([1, 2, 3], pa.timestamp("s")),
        "float": pa.array([1.5, None, 2.5]),
        "integer": pa.array([1, None, 3]),
        "truth": pa.array([True, None, False]),
        "truths": pa.array([True, False, True]),
        "small": pa.array([1, 2, 3], pa.uint16()),
        "text": pa.array(["a", None, "ü"]),
        "word": pa.array(["a", None, "a"]).dictionary_encode(),
        "bytes": pa.array([b"a", None, b"\xff"]),
        "none": pa.array([None, None, None], pa.dictionary(pa.int8(), pa.string())),
    }
    batch = _native.Batch.from_arrow(pa.table(columns))

    def read(name):
        return np.asarray(batch.numpy(name))

    assert np.isnat(read("time")).tolist() == [False, True, False]
    assert read("seconds").astype("i8").tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    for name, wanted in (("float", [1.5, np.nan, 2.5]), ("integer", [1, np.nan, 3]), ("truth", [1, np.nan, 0])):
        assert read(name).dtype == np.float64
        np.testing.assert_array_equal(read(name), wanted)
    assert read("truths").dtype == bool
    assert read("truths").tolist() == [True, False, True]
    assert read("small").dtype == np.uint16
    assert batch.strings("text") == ["a", None, "ü"]
    assert batch.strings("word") == ["a", None, "a"]
    assert batch.strings("bytes") == ["a", None, "\ufffd"]
    assert batch.strings("none") == [None] * 3
    assert pa.table(batch).select(["text", "float"]).to_pydict() == {
        "text": ["a", None, "ü"],
        "float": [1.5, None, 2.5],
    }
    assert batch.slice(1, 99).num_rows == 2


def test_chunks_become_one_batch():
    table = pa.concat_tables([table_of(10), table_of(5, 10)])
    batch = _native.Batch.from_arrow(table)
    assert np.asarray(batch.numpy("value")).tolist() == table["value"].to_pylist()
    assert batch.strings("device") == table["device"].to_pylist()
    assert _native.Batch.from_arrow(table.slice(0, 0)).num_rows == 0


def test_an_index_comes_back():
    index = _native.SeriesIndex(["device", "sensor"])
    table = {"device": ["a", "a", None], "sensor": ["x", "y", "x"]}
    ids = np.asarray(_native.Batch.from_arrow(pa.table(table)).series_ids(index))
    assert (ids.dtype, ids.tolist()) == (np.int32, [0, 1, 2])
    keys = index.keys()
    assert keys == [("a", "x"), ("a", "y"), (None, "x")]
    assert index.keys(2) == keys[2:]
    again = _native.SeriesIndex(["device", "sensor"])
    again.restore(keys)
    assert (len(again), again.keys()) == (3, keys)
    with pytest.raises(ValueError, match="key 1 stands twice"):
        again.restore([keys[0], keys[0]])
    with pytest.raises(ValueError, match="key 0 has 1 tags"):
        again.restore([("a",)])
    with pytest.raises(KeyError, match="unknown column `sensor`"):
        _native.Batch.from_arrow(pa.table({"device": ["a"]})).series_ids(index)


def test_columns_of_other_lengths_are_refused():
    detector = _native.RecordExcess("{}")
    with pytest.raises(ValueError, match="2 series ids, 1 times and 2 values"):
        detector.update([0, 0], [1], [1.0, 2.0])
    with pytest.raises(ValueError, match="series -1"):
        detector.update([-1], [1], [1.0])
    with pytest.raises(ValueError, match="kind"):
        detector.restore(_native.Ens4("{}").snapshot())
