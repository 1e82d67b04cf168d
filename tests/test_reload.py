"""The command beside a running pipeline whose file is edited: what is broken changes nothing, and all say so."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Start
from running import TOKEN, run, wait_for

PIPELINE = """
[pipeline]
name = "edited"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float" }

[[source]]
type = "http"

[[model]]
name = "mine"
use = "mine.py:Mine"
field = "value"

[server]
listen = "127.0.0.1:0"
"""

MINE = """
import numpy as np
import trackside as ts


@ts.model(field="value")
def Mine(value: np.ndarray) -> np.ndarray:
    return value > 100
"""


def folder(path: Path, code: str = MINE) -> Path:
    (path / "mine.py").write_text(code)
    (path / "pipeline.toml").write_text(PIPELINE)
    return path


def test_check_loads_the_models(tmp_path: Path) -> None:
    folder(tmp_path)
    assert run("check", folder=tmp_path).code == 0
    (tmp_path / "mine.py").write_text(MINE.replace("numpy", "numpie"))
    done = run("check", folder=tmp_path)
    assert done.code == 2, done
    for text in ("model `mine`", "mine.py:Mine", "numpie", "1 thing to mend in `pipeline.toml`"):
        assert text in done.err, done.err
    told = json.loads(run("check", "--json", folder=tmp_path).out)
    assert told["ok"] is False
    assert [model["model"] for model in told["models"]] == ["mine"]
    assert run("check", "--no-load", folder=tmp_path).code == 0


def test_a_model_that_cannot_be_loaded_does_not_replace_one_that_works(tmp_path: Path, start: Start) -> None:
    up = start(folder(tmp_path).joinpath("pipeline.toml").read_text())
    wait_for("the model", lambda: up.status()["models"][0]["state"] == "running")
    pid = up.status()["models"][0]["pid"]
    (tmp_path / "mine.py").write_text(MINE.replace("numpy", "numpie"))
    done = run("reload", folder=tmp_path)
    assert done.code != 0
    assert "numpie" in done.err, done.err
    model = up.status()["models"][0]
    assert (model["state"], model["pid"]) == ("running", pid), "it works on, untouched"
    (tmp_path / "mine.py").write_text(MINE.replace("100", "50"))
    done = run("reload", folder=tmp_path)
    assert done.code == 0, done
    assert "its code changed" in done.out + done.err


def test_a_broken_file_hides_no_running_pipeline(tmp_path: Path, start: Start) -> None:
    start(folder(tmp_path).joinpath("pipeline.toml").read_text())
    (tmp_path / "pipeline.toml").write_text(PIPELINE.replace("[[source]]", "[[sourse]]"))
    done = run("reload", folder=tmp_path)
    assert done.code == 2
    assert "sourse" in done.err
    status = run("status", folder=tmp_path)
    assert status.code == 0, status
    assert status.out.startswith("edited is ")
    assert "sourse" in status.out, "a reload that failed is told until one succeeds"
    assert run("token", folder=tmp_path).out.strip() == TOKEN
