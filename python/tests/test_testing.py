"""The test kit finds what it is for."""

import numpy as np
import pytest
from models_for_tests import Forgetful, Running, Split

import trackside as ts
from trackside.errors import FrameError, ModelError
from trackside.testing import assert_same_after_restart, assert_same_however_cut, inject, run

ROWS = {
    "time": np.arange(200) * 10**9,
    "device": [f"d{i % 4}" for i in range(200)],
    "value": np.sin(np.arange(200) / 5),
}


def test_scores_and_forecasts_come_as_tables():
    scores, forecasts = run(Running, ROWS, tags=["device"], forecasts=True, batch_rows=7, scale=2.0)
    assert list(scores) == [
        *("time", "device", "field", "value", "score", "anomaly", "ready", "expected", "lower", "upper", "reason")
    ]
    assert len(scores["score"]) == 200
    assert forecasts["device"].tolist()[:2] == ["d1", "d3"]
    assert len(forecasts["mean"]) == 20


def test_a_good_model_passes():
    assert_same_after_restart(Running, ROWS, tags=["device"])
    assert_same_after_restart(Split, ROWS)


def test_a_forgotten_state_is_found():
    with pytest.raises(AssertionError, match=r"`score` of row \d+ is .* when restarted at rows .* \(seed 4\)"):
        assert_same_after_restart(Forgetful, ROWS, tags=["device"], seed=4)


def test_a_look_ahead_is_found():
    class Ahead(ts.Model):
        fields = ("value",)

        def update(self, batch):
            return batch["value"] - batch["value"].mean()

    with pytest.raises(AssertionError, match="when cut into batches"):
        assert_same_however_cut(Ahead, ROWS)
    with pytest.raises(ModelError, match="splits `score` and `learn` depends on its batches"):
        assert_same_however_cut(Split, ROWS)


def test_an_empty_table_is_no_trouble():
    empty = {"time": [], "device": [], "value": []}
    assert len(run(Running, empty, field="value")["score"]) == 0


def test_faults_are_drawn_from_the_seed():
    hurt = inject(ROWS, field="value", nulls=0.1, spikes=0.1, duplicates=0.1, poison=[5], poison_value=1e300, seed=9)
    again = inject(ROWS, field="value", nulls=0.1, spikes=0.1, duplicates=0.1, poison=[5], poison_value=1e300, seed=9)
    np.testing.assert_array_equal(hurt["value"], again["value"])
    assert len(hurt["time"]) > 200
    assert np.isnan(hurt["value"]).any()
    assert (hurt["value"] == 1e300).any()
    with pytest.raises(FrameError, match="did you mean `value`"):
        inject(ROWS, field="vale")
