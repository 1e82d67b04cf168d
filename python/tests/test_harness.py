"""The protocol without a socket: what the in-process mode calls."""

import json
from pathlib import Path

import fake_native
import numpy as np
import pytest
from fake_native import update_of, write_frame

from trackside.harness import Harness
from trackside.wire import JSON

HERE = Path(__file__).parent


def load(use, **more):
    header = {"op": "load", "use": f"models_for_tests.py:{use}", "base": str(HERE), "tags": ["device"], **more}
    harness = Harness(fake_native)
    answer, _ = harness.answer(JSON, header)
    return harness, answer


def columns(header, body):
    """The reply's columns by name, read as the engine does."""
    out, at = {}, 0
    for name, kind, count in header["columns"]:
        dtype = np.dtype({"f8": "<f8", "u1": "u1", "i8": "<i8", "i4": "<i4"}[kind])
        out[name] = np.frombuffer(body, dtype, count, at)
        at += count * dtype.itemsize
    assert at == len(body)
    return out


def update(harness, frames, **more):
    header, body = harness.call_update(update_of(frames, **more))
    return json.loads(header), body


def test_load_tells_what_the_model_is():
    assert load("Running")[1] == {
        "ok": True,
        "version": "7",
        "fields": ["value"],
        "reads": "clean",
        "warm_up": 5,
        "split": False,
    }
    assert load("Split")[1]["split"] is True
    assert load("spikes", fields=["other"])[1]["fields"] == ["other"]


def test_load_errors_say_what_to_do():
    for use, says in (("spike", "did you mean `spikes`"), ("Unsaveable", "snapshot['net'] is an object")):
        answer = load(use)[1]
        assert answer["ok"] is False
        assert says in answer["error"]


def test_rows_come_back_with_scores_forecasts_and_reasons(tmp_path):
    harness, _ = load("Running")
    header, body = update(harness, [write_frame(tmp_path, 100)])
    got = columns(header, body)
    assert header["rows"] == 100
    assert list(got) == [
        *("score", "anomaly", "ready", "expected"),
        *("forecast_row", "forecast_field", "made_at", "for_time", "mean", "forecast_lower", "forecast_upper"),
    ]
    assert np.flatnonzero(got["anomaly"]).tolist() == [49, 99]
    assert [row for row, _ in header["reasons"]] == [49, 99]
    assert got["forecast_row"].tolist() == list(range(9, 100, 10))
    assert (got["for_time"] - got["made_at"] == 10**9).all()


def test_a_slice_less_the_skipped_rows_is_scored(tmp_path):
    harness, _ = load("Running")
    frame = write_frame(tmp_path, 100, start=1000)
    header, body = update(harness, [{**frame, "from": 10, "to": 60}], skip=[1049, 1020])
    assert header["rows"] == 48
    assert columns(header, body)["anomaly"].sum() == 0


def test_nothing_to_score_is_answered_too(tmp_path):
    harness, _ = load("Running")
    frame = write_frame(tmp_path, 3)
    header, body = update(harness, [frame], skip=[0, 1, 2])
    assert (header, body) == ({"ok": True, "rows": 0, "columns": []}, b"")


def test_a_replay_moves_the_state_and_answers_no_scores(tmp_path):
    frames = [write_frame(tmp_path, 50), write_frame(tmp_path, 50, start=50)]
    straight, replayed = load("Running")[0], load("Running")[0]
    update(straight, frames[:1])
    header, body = update(replayed, frames[:1], replay=True)
    assert (header["rows"], header["columns"], body) == (50, [], b"")
    assert update(straight, frames[1:]) == update(replayed, frames[1:])


@pytest.mark.parametrize("use", ["Running", "spikes", "Split"])
def test_a_restored_harness_goes_on_as_if_nothing_had_been(tmp_path, use):
    frames = [write_frame(tmp_path, 40, start=40 * i) for i in range(4)]
    straight, first = load(use)[0], load(use)[0]
    want = [update(straight, [frame]) for frame in frames]
    got = [update(first, [frame]) for frame in frames[:2]]
    header, saved = first.call('{"op":"snapshot"}')
    assert json.loads(header) == {"ok": True}
    second = load(use)[0]
    assert json.loads(second.call('{"op":"restore"}', saved)[0]) == {"ok": True}
    got += [update(second, [frame]) for frame in frames[2:]]
    assert got == want


def test_an_exception_is_an_answer_and_a_restore_mends_the_state(tmp_path):
    frame = write_frame(tmp_path, 60)
    harness, _ = load("raises_on_spikes")
    header, body = update(harness, [frame])
    assert (header["ok"], header["error"], body) == (False, "ValueError: bad row", b"")
    assert 'raise ValueError("bad row")' in header["traceback"]
    assert "harness.py" not in header["traceback"]
    assert json.loads(harness.call('{"op":"restore"}', b"")[0]) == {"ok": True}  # no bytes: a fresh model
    header, _ = update(harness, [frame], skip=[49])
    assert (header["ok"], header["rows"]) == (True, 59)


def test_exit_is_an_error_like_any_other(tmp_path):
    harness, _ = load("Loud", options={"leave": True})
    assert update(harness, [write_frame(tmp_path, 1)])[0]["error"] == "the model called exit(3)"


def test_a_split_model_gets_one_frame_at_a_time(tmp_path):
    frames = [write_frame(tmp_path, 50, start=50 * i) for i in range(3)]
    together, apart = load("Split")[0], load("Split")[0]
    header, body = update(together, frames)
    parts = [update(apart, [frame]) for frame in frames]
    assert header["rows"] == 150
    want = np.concatenate([columns(*part)["score"] for part in parts])
    assert columns(header, body)["score"].tolist() == want.tolist()


def test_learning_is_told_until_every_series_has_seen_enough(tmp_path):
    harness, _ = load("Running")
    assert update(harness, [write_frame(tmp_path, 6)])[0]["learning"] == [2, 5]
    assert "learning" not in update(harness, [write_frame(tmp_path, 9, start=6)])[0]


def test_a_snapshot_of_another_version_is_refused(tmp_path):
    harness, _ = load("Running")
    saved = harness.snapshot()
    other, _ = load("Split")
    answer = json.loads(other.call('{"op":"restore"}', saved)[0])
    assert "the snapshot is of version '7' of this model, which is now '1'" in answer["error"]
    assert "checksum" in json.loads(harness.call('{"op":"restore"}', saved[:-1] + b"\1")[0])["error"]


def test_what_is_no_request_is_answered(tmp_path):
    harness = Harness(fake_native)
    assert "unknown operation `fly`" in json.loads(harness.call('{"op":"fly"}')[0])["error"]
    assert "send `load` first" in json.loads(harness.call('{"op":"snapshot"}')[0])["error"]


@pytest.mark.parametrize("use", ["spikes", "Running", "Split"])
def test_a_state_without_a_row_comes_back_as_well(use):
    saved = load(use)[0].call('{"op":"snapshot"}')[1]
    assert json.loads(load(use)[0].call('{"op":"restore"}', saved)[0]) == {"ok": True}
