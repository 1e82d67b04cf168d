"""What a model answers is checked before it leaves the model's process."""

import numpy as np
import pytest

from trackside import Forecasts, Scores
from trackside.errors import ScoresError

ONE, TWO = ("value",), ("a", "b")


def test_ready_follows_from_the_score():
    checked = Scores([0.5, np.nan]).check(2, ONE)
    assert checked.ready.tolist() == [True, False]
    assert checked.anomaly.tolist() == [False, False]
    assert checked.score.dtype == np.float64


def test_two_fields_are_laid_out_row_by_row():
    checked = Scores([[1, 2], [3, 4]], anomaly=[[0, 1], [0, 0]], reasons={(0, 1): "b is odd"}).check(2, TWO)
    assert checked.score.tolist() == [1, 2, 3, 4]
    assert checked.anomaly.tolist() == [False, True, False, False]
    assert checked.reasons == {1: "b is odd"}


@pytest.mark.parametrize(
    ("scores", "rows", "fields", "says"),
    [
        (Scores([1.0]), 2, ONE, r"`score` has the shape \(1,\), but the batch needs \(2,\)"),
        (Scores([1.0, 2.0]), 2, TWO, r"needs \(2, 2\)"),
        (Scores([np.inf, 1.0]), 2, ONE, "the score of row 0 is inf"),
        (Scores(["a", "b"]), 2, ONE, "`score` must be numbers"),
        (Scores([np.nan, 1], anomaly=[True, True]), 2, ONE, "row 0 is called an anomaly, but its score is NaN"),
        (Scores([1, 2], anomaly=[0.3, 0.9]), 2, ONE, "must be true or false for each row, not float64"),
        (Scores([1, 2], reasons={5: "x"}), 2, ONE, "a reason names row 5"),
        (Scores([1, 2], expected=[1]), 2, ONE, "`expected` has the shape"),
    ],
)
def test_errors_name_the_row(scores, rows, fields, says):
    with pytest.raises(ScoresError, match=says):
        scores.check(rows, fields)


@pytest.mark.parametrize(
    ("forecasts", "says"),
    [
        (Forecasts([2], [0], [1], [1.0]), "names row 2, but the batch has rows 0 to 1"),
        (Forecasts([0, 1], [0, 0], [1, 1], [1.0]), None),
        (Forecasts([0, 1], [0, 0, 0], [1, 1], [1.0, 2.0]), "`made_at` of the forecasts has 3 values, `row` has 2"),
        (Forecasts([0], [0], [1], [np.nan]), "forecast 0 has the mean nan"),
        (Forecasts([0], [0], [1], [1.0], field=["x"]), "unknown field `x`"),
        (Forecasts([0.5], [0], [1], [1.0]), "`row` of the forecasts must be integers"),
    ],
)
def test_forecasts_are_checked(forecasts, says):
    if says is None:
        assert forecasts.check(2, ONE).mean.tolist() == [1.0, 1.0]
        return
    with pytest.raises(ScoresError, match=says):
        forecasts.check(2, ONE)


def test_forecasts_take_datetimes_and_field_names():
    checked = Forecasts(
        [0, 0], np.datetime64("1970-01-01T00:00:01"), np.array([2, 3], "M8[s]"), [1, 2], field="b"
    ).check(1, TWO)
    assert checked.made_at.tolist() == [10**9, 10**9]
    assert checked.for_time.tolist() == [2 * 10**9, 3 * 10**9]
    assert checked.field.tolist() == [1, 1]
    assert np.isnan(checked.lower).all()
