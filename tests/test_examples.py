"""The examples as a reader meets them: each folder is copied, its README's lines are run, what is said there comes.

The lines in a README's `sh` blocks are run by the shell as they stand but for the port: a `trackside up` that a reader
ends with Ctrl-C runs beside the other lines on a free one, and is ended like that. What comes out is compared with
`expected.json`: counts of the sums, rows in tables, columns.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import tables
from conftest import ROOT, Start
from running import COMMAND, PATIENCE, environment

import trackside

EXAMPLES = ROOT / "examples"
NAMES = ["01-this-machine", "02-http-with-curl", "03-replay-a-file", "04-your-own-model", "05-train-then-live"]
LISTEN = ("--listen", "127.0.0.1:0")

Copy = Callable[[str], "Example"]


class Example:
    """A copy of an example's folder, without what earlier runs left there."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder, ignore=shutil.ignore_patterns("data", "*.npz", "__pycache__"))
        self.readme = (self.folder / "README.md").read_text()
        self.expected: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())

    def lines(self, word: str) -> str:
        """The README's one `sh` block that holds a word."""
        blocks = [block for block in re.findall(r"```sh\n(.*?)```", self.readme, re.S) if word in block]
        assert len(blocks) == 1, f"{len(blocks)} blocks of {self.folder.name}/README.md hold `{word}`"
        return str(blocks[0])

    def shell(self, script: str) -> str:
        """What the lines print; each must succeed."""
        script = re.sub(r"(trackside up \S+ --until-idle)", rf"\1 --json {' '.join(LISTEN)}", script)
        path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self) -> None:
        """The README's queries find something."""
        for query in re.findall(r"```sql\n(.*?)```", self.readme, re.S):
            assert answer(query.replace("'data/", f"'{self.folder}/data/")).num_rows, query

    def check(self, summary: dict[str, Any], part: str = "sums") -> None:
        """The sums are the expected ones, and balanced."""
        assert summary["balanced"], summary
        assert {name: summary[name] for name in self.expected[part]} == self.expected[part]

    def check_columns(self, data: Path) -> None:
        """Each expected table has these columns, in this order."""
        for topic, columns in self.expected["columns"].items():
            assert tables.read(data, topic).column_names == columns, topic


def answer(query: str) -> pa.Table:
    """What DuckDB answers."""
    with duckdb.connect() as database:
        return database.execute(query).to_arrow_table()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return lambda name: Example(name, tmp_path)


def sums_of(printed: str) -> dict[str, Any]:
    """The sums that `up --until-idle` printed last."""
    summary: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return summary


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_file_is_fine(copy: Copy, name: str) -> None:
    example = copy(name)
    for file in sorted(example.folder.glob("*.toml")):
        assert "is fine" in example.shell(f"trackside check --no-load {file.name}")


def test_this_machine(copy: Copy, start: Start) -> None:
    example = copy("01-this-machine")
    up = start(None, *LISTEN, folder=example.folder)
    up.wait("two rounds of readings", lambda status: status["sums"]["clean"]["clean"] >= 20)
    series = [" ".join(entry["key"]) for entry in up.get("/api/series")["series"]]
    assert set(example.expected["series"]) <= set(series), series
    example.shell(example.lines("trackside status"))
    example.check(up.stop())
    example.check_columns(up.data)
    example.ask()


def test_http_with_curl(copy: Copy, start: Start) -> None:
    example = copy("02-http-with-curl")
    up = start(None, *LISTEN, folder=example.folder)
    lines = example.lines("curl").replace("http://127.0.0.1:7878", up.ready["url"])
    assert example.shell(lines).splitlines() == (example.folder / "expected.txt").read_text().splitlines()
    example.check(up.stop())
    example.check_columns(up.data)
    letters = tables.rows(up.data, "dead-letter")
    assert [(letter["stage"], letter["detail"]) for letter in letters] == [("ingest", "line 3")]
    assert b'"warm"' in letters[0]["payload"]


def test_replay_a_file(copy: Copy, start: Start) -> None:
    example = copy("03-replay-a-file")
    once = sums_of(example.shell(example.lines("once.toml")))
    example.check(once)
    data = example.folder / "data" / "once"
    example.check_columns(data)
    example.ask()
    assert sorted(row["reason"] for row in tables.rows(data, "dead-letter")) == example.expected["reasons"]
    clean = tables.rows(data, "clean")
    assert sum(row["pressure_original"] is not None for row in clean) == example.expected["replaced"]
    marks = [(row["pump"], f"{row['time']:%F %T}") for row in tables.rows(data, "scores.anomaly") if row["anomaly"]]
    assert tuple(example.expected["fault"]) in marks
    assert len(marks) <= 10, marks
    pipeline = example.folder / "pipeline.toml"
    # Paced all the same, but quick enough for a test: 17 hours in a second and a half.
    pipeline.write_text(pipeline.read_text().replace("speed = 3600", "speed = 40000"))
    example.check(sums_of(example.shell("trackside up pipeline.toml --until-idle")))
    for topic, order in (("clean", "time"), ("scores.anomaly", "time"), ("forecasts.forecast", "made_at, for_time")):
        one, other = (in_time(example.folder / "data" / run, topic, f"pump, {order}") for run in ("once", "replay"))
        assert one.equals(other), topic


def in_time(data: Path, topic: str, order: str) -> pa.Table:
    """A table without the offsets: how rows were cut into frames is not the same in two runs."""
    columns = [name for name in tables.read(data, topic).column_names if not name.endswith("offset")]
    return tables.read(data, topic, columns=", ".join(f'"{name}"' for name in columns), order=order)


def test_the_file_is_what_its_script_makes(copy: Copy) -> None:
    example = copy("03-replay-a-file")
    committed = (example.folder / "pumps.csv").read_bytes()
    example.shell(f"'{sys.executable}' make_data.py")
    assert (example.folder / "pumps.csv").read_bytes() == committed


def test_your_own_model(copy: Copy) -> None:
    example = copy("04-your-own-model")
    assert example.shell(example.lines("try_models.py")).splitlines() == example.expected["tried"]
    example.check(sums_of(example.shell(example.lines("trackside up"))))
    example.check_columns(example.folder / "data")
    example.ask()
    reasons = [row["reason"] for row in tables.rows(example.folder / "data", "scores.drift") if row["anomaly"]]
    assert reasons
    assert all("deviations from" in reason for reason in reasons)


def test_in_process_scores_are_the_same(copy: Copy) -> None:
    example = copy("04-your-own-model")
    pipeline = example.folder / "pipeline.toml"
    text = pipeline.read_text()
    found = {}
    for mode in ("process", "in_process"):
        block = f'mode = "{mode}"\n'
        changed = text.replace('name = "own-model"', f'name = "own-model"\ndata = "data/{mode}"')
        changed = changed.replace("options = {", f"{block}options = {{")
        changed = changed.replace('use = "my_models.py:jumps"', f'{block}use = "my_models.py:jumps"')
        assert changed.count(block) == 2
        pipeline.write_text(changed)
        example.check(sums_of(example.shell("trackside up pipeline.toml --until-idle")))
        data = example.folder / "data" / mode
        topics = ("scores.jumps", "scores.drift")
        found[mode] = [in_time(data, topic, "device, sensor, time") for topic in topics]
    assert all(one.equals(other) for one, other in zip(*found.values(), strict=True))


def test_polars_and_numpy_find_the_same(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    example = copy("04-your-own-model")
    monkeypatch.chdir(example.folder)
    rows = {"time": np.arange(600) * 10**9, "value": np.sin(np.arange(600) / 9) + 5 * (np.arange(600) == 400)}
    one, other = (
        trackside.testing.run(f"{file}.py:jumps", rows)["score"] for file in ("my_models", "my_polars_models")
    )
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-9)


def test_train_then_live(copy: Copy) -> None:
    example = copy("05-train-then-live")
    example.check(sums_of(example.shell(example.lines("history.toml"))), "history")
    assert example.shell(example.lines("train.py")).splitlines() == example.expected["trained"]
    example.check(sums_of(example.shell(example.lines("pipeline.toml"))))
    data = example.folder / "data"
    example.check_columns(data)
    example.ask()
    scores = tables.read(data, "scores.ar").to_pylist()
    assert len({row["version"] for row in scores}) == 1
    assert all(row["lower"] < row["expected"] < row["upper"] for row in scores if row["ready"])
    alarms = {f"{row['time']:%H:%M}" for row in scores if row["anomaly"]}
    assert alarms == {example.expected["anomaly"]}


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page of the guide."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "guide" / page).read_text(), re.S)


GUIDE = """
[pipeline]
name = "guide"

[schema]
time = { field = "ts" }
series = ["device", "sensor"]
fields = { value = "float" }

[[source]]
type = "generate"
seed = 3
rate = 0
start = "2026-03-02T08:00:00Z"
count = 20000
spikes = 0.002
malformed = 0.001

[[clean]]
type = "hampel"
field = "value"

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[model]]
name = "forecast"
use = "trackside.models:Forecast"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"

[[sink]]
type = "parquet"
topic = "scores.anomaly"

[[sink]]
type = "parquet"
topic = "forecasts.forecast"
"""


def test_the_guides_queries(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = start(GUIDE, "--until-idle", *LISTEN).end()
    assert summary["anomalies"], summary
    monkeypatch.chdir(tmp_path)
    (queries,) = blocks("tables.md", "sql")
    for query in filter(str.strip, queries.split(";")):
        assert answer(query).num_rows, query
    for script in blocks("tables.md", "python")[:2]:
        names: dict[str, Any] = {}
        exec(script, names)
        assert len(names["found"]) == summary["anomalies"], script
    session = trackside.connect("data")
    assert len(session.read("clean", last="10m")) > 1000
    assert len(session.read("scores.anomaly", "2026-03-02", "2026-03-03")) == summary["clean"]


def test_the_guides_models(tmp_path: Path) -> None:
    functions, _, tries = blocks("models.md", "python")
    file = tmp_path / "guide_models.py"
    file.write_text(functions)
    rows = {"time": np.arange(300) * 10**9, "value": np.sin(np.arange(300) / 9) + 9.0 * (np.arange(300) == 200)}
    for name in ("spikes", "away", "step"):
        found = np.flatnonzero(trackside.testing.run(f"{file}:{name}", rows)["anomaly"])
        assert 200 in found, name
    drift: dict[str, Any] = {}
    exec((EXAMPLES / "04-your-own-model" / "my_models.py").read_text(), drift)
    exec(tries, {"np": np, "ts": trackside, "Drift": drift["Drift"]})
