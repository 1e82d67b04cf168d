"""A marked function gives one answer for each row, however the rows arrive, in whatever library it speaks."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import trackside as ts
from trackside.errors import FrameError, ModelError, ScoresError
from trackside.testing import assert_same_after_restart, assert_same_however_cut, run

WINDOW = 20


def rows(n=600, devices=3):
    number = np.arange(n)
    value = np.sin(number / 11) + np.random.default_rng(3).normal(0, 0.1, n)
    value[number == 200] += 30
    value[number == 401] += 30
    value[number == 77] = np.nan
    return {"time": number * 10**9, "device": [f"d{i % devices}" for i in number], "value": value}


@ts.model(field="value", history=WINDOW)
def by_polars(df: pl.DataFrame) -> pl.Series:
    v = df["value"]
    return (v - v.rolling_median(WINDOW)).abs() > 5


@ts.model(field="value", history=WINDOW)
def by_pandas(df: pd.DataFrame) -> pd.Series:
    v = df["value"]
    return (v - v.rolling(WINDOW).median()).abs() > 5


@ts.model(field="value", history=WINDOW)
def by_arrow(table: pa.Table) -> pa.Array:
    return pc.greater(table["value"], 5)


@ts.model(field="value", history=WINDOW)
def by_numpy(values: np.ndarray) -> np.ndarray:
    return values > 5


@ts.model(field="value")
def by_batch(batch: ts.Batch) -> np.ndarray:
    return batch["value"] > 5


@ts.model(field="value", history=WINDOW)
def by_anything(batch):
    return batch["value"] > 5


ALL = [by_polars, by_pandas, by_arrow, by_numpy, by_batch, by_anything]


@pytest.mark.parametrize("model", ALL, ids=lambda m: m.__name__)
def test_each_library_finds_the_spikes(model):
    scores = run(model, rows(), tags=["device"])
    assert np.flatnonzero(scores["anomaly"]).tolist() == [200, 401]
    assert scores["score"][200] == 1.0
    assert len(scores["score"]) == 600


@pytest.mark.parametrize("model", ALL, ids=lambda m: m.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_scores_do_not_depend_on_batches_or_restarts(model, seed):
    assert_same_after_restart(model, rows(), seed=seed, tags=["device"])
    assert_same_however_cut(model, rows(), seed=seed, tags=["device"])


@ts.model(field="value", history=30, threshold=3.0)
def rolling_score(df: pd.DataFrame) -> pd.Series:
    """Its last bits depend on where a rolling sum begins: the hard case."""
    v = df["value"]
    return (v - v.rolling(30).mean()).abs() / v.rolling(30).std()


@pytest.mark.parametrize("seed", range(5))
def test_even_rolling_sums_give_the_same_bits(seed):
    assert_same_however_cut(rolling_score, rows(1500), cuts=200, seed=seed, tags=["device"])
    assert_same_after_restart(rolling_score, rows(1500), cuts=30, seed=seed, tags=["device"])


def test_numbers_are_scores_and_nan_is_not_ready():
    scores = run(rolling_score, rows(), tags=["device"])
    assert not scores["ready"][:80].any()
    assert scores["ready"][300:].all()
    assert {200, 401} <= set(np.flatnonzero(scores["anomaly"]).tolist())


def test_a_table_of_verdicts_is_taken_whole():
    @ts.model(field="value")
    def verdicts(df: pl.DataFrame) -> pl.DataFrame:
        return df.select(
            score=pl.col("value").abs(),
            anomaly=pl.col("value") > 5,
            expected=pl.lit(0.0),
            reason=pl.when(pl.col("value") > 5).then(pl.lit("too high")),
        )

    scores = run(verdicts, rows(), tags=["device"])
    assert scores["reason"][200] == "too high"
    assert scores["reason"][0] is None
    assert scores["expected"][5] == 0.0
    assert not scores["ready"][77]


def test_the_answer_comes_as_the_table_that_was_given():
    assert isinstance(run(by_batch, pl.DataFrame(rows()), tags=["device"]), pl.DataFrame)
    assert isinstance(run(by_batch, pd.DataFrame(rows()), tags=["device"]), pd.DataFrame)
    assert isinstance(run(by_batch, pa.table(rows()), tags=["device"]), pa.Table)


def test_options_are_keyword_arguments():
    @ts.model(field="value")
    def above(values: np.ndarray, *, limit: float = 5) -> np.ndarray:
        return values > limit

    assert run(above, rows(), limit=100)["anomaly"].sum() == 0
    with pytest.raises(ModelError, match="unknown option `limti`; did you mean `limit`"):
        run(above, rows(), limti=1)


def test_the_pipeline_file_overrides_what_the_decorator_says():
    assert run(rolling_score, rows(), tags=["device"], threshold=1e9)["anomaly"].sum() == 0
    assert run(by_numpy, rows(), warm_up=300)["anomaly"].sum() == 1

    @ts.model(field="value", threshold=5)
    def own(values: np.ndarray, threshold: float = 1e9) -> np.ndarray:
        return values - threshold

    assert run(own, rows(), threshold=0)["anomaly"].sum() == 2  # the function's own parameter goes before
    with pytest.raises(ModelError, match="history = -1; give a number of rows"):
        run(by_numpy, rows(), history=-1)


def test_a_setting_that_does_not_exist_is_an_error():
    with pytest.raises(ModelError, match="unknown setting `histroy`; did you mean `history`"):
        ts.model(field="value", histroy=5)


def test_several_fields_need_to_be_told_apart():
    table = {**rows(), "other": np.zeros(600)}
    assert run(by_numpy, table, field=["value", "other"])["anomaly"].reshape(600, 2).sum(axis=0).tolist() == [2, 0]

    @ts.model
    def named(batch: ts.Batch, field: str) -> np.ndarray:
        return batch[field] > 5

    assert run(named, table, field=["value", "other"])["anomaly"].sum() == 2
    with pytest.raises(ModelError, match="give it a second parameter `field`"):
        run(by_batch, table, field=["value", "other"])


def test_looking_ahead_is_refused_unless_each_row_is_asked_alone():
    def centred(values: np.ndarray) -> np.ndarray:
        return np.abs(values - values.mean()) > 5

    with pytest.raises(ModelError, match=r"looks ahead: its answer for row \d+ changes"):
        run(ts.model(field="value", history=20, threshold=1)(lambda v: v["value"] - v["value"].mean()), rows())
    alone = ts.model(field="value", history=20, each_row=True)(centred)
    assert {200, 401} <= set(np.flatnonzero(run(alone, rows())["anomaly"]).tolist())
    assert_same_however_cut(alone, rows(200))
    assert_same_after_restart(alone, rows(200))


def test_randomness_without_a_seed_is_refused():
    @ts.model(field="value")
    def dice(values: np.ndarray) -> np.ndarray:
        return np.random.default_rng().random(len(values))

    with pytest.raises(ModelError, match="answers the same rows differently"):
        run(dice, rows())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda v: None, "answered None; is a `return` missing"),
        (lambda v: 1.0, "single value 1.0"),
        (lambda v: v["value"][:3], r"`score` has 3 values for \d+ rows"),
        (lambda v: ["a"] * len(v), "must be numbers or booleans"),
        (lambda v: {"anomly": v["value"]}, "no column `score` or `anomaly`; it has: anomly"),
    ],
)
def test_wrong_answers_are_found_when_the_model_is_loaded(answer, says):
    with pytest.raises(ScoresError, match=says):
        run(ts.model(field="value", history=5)(answer), rows())


def test_what_cannot_be_tried_on_an_example_is_decided_by_real_rows(capsys):
    @ts.model(field="value", columns=["rpm"])
    def needs_more(df: pd.DataFrame) -> pd.Series:
        return (df["rpm"] > 100) & (df["device"] != "d9")

    table = {**rows(), "rpm": np.arange(600.0)}
    assert run(needs_more, table, tags=["device"])["anomaly"].sum() == 499
    assert "tried" not in capsys.readouterr().err

    @ts.model(field="value")
    def asks_by_name(batch: ts.Batch) -> np.ndarray:
        return np.array([device == "d1" for device in batch.strings("device")]) & (batch["other"] > 0)

    with pytest.raises(FrameError, match="unknown column `other`"):
        run(asks_by_name, table, tags=["device"])
    assert "asks_by_name could not be tried on an example: FrameError" in capsys.readouterr().err


def test_warm_up_rows_are_not_ready():
    warm = ts.model(field="value", warm_up=100)(lambda batch: batch["value"] > 5)
    scores = run(warm, rows(), tags=["device"])
    assert np.flatnonzero(scores["ready"])[0] == 300
    assert np.flatnonzero(scores["anomaly"]).tolist() == [401]
    assert_same_however_cut(warm, rows(), tags=["device"])
    assert_same_after_restart(warm, rows(), tags=["device"])


def test_an_unknown_annotation_is_explained():
    def odd(rows: list) -> list:
        return rows

    with pytest.raises(ModelError, match=r"asks for `builtins.list`; annotate its first parameter with pl.DataFrame"):
        ts.model(field="value")(odd)
    with pytest.raises(ModelError, match="takes no rows"):
        ts.model(field="value")(lambda: 1)


def test_a_missing_field_is_named():
    with pytest.raises(FrameError, match="unknown field `vaule`; did you mean `value`"):
        run(by_batch, rows(), field="vaule")
