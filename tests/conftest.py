"""What the end-to-end tests share: folders, running pipelines that never outlive a test, the real file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import COMMAND, Up

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"

Start = Callable[..., Up]


def pytest_collection_modifyitems() -> None:
    """Say at once what to do when the wheel is not installed."""
    if not COMMAND.exists():
        pytest.exit(f"there is no {COMMAND}; run `make wheel` first", returncode=2)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a pipeline from its text (once) in a folder, by default the test's own; ended with the test."""
    running: list[Up] = []

    def begin(text: str | None = None, *flags: str, folder: Path = tmp_path, **variables: str) -> Up:
        file = folder / "pipeline.toml"
        if text is not None:
            file.write_text(text)
        up = Up(file, flags, variables)
        running.append(up)
        return up

    yield begin
    for up in running:
        up.kill()


REAL = "nab/realKnownCause/machine_temperature_system_failure.csv"
"""22,695 rows of a real machine's temperature with the failures that were found; some times are there twice."""

MACHINE = """
[pipeline]
name = "machine"
snapshot_every = "200ms"

[schema]
time = {{ field = "timestamp", format = "auto", zone = "UTC" }}
series = []
fields = {{ value = "float" }}

[[source]]
type = "file"
path = "{path}"
{pace}

[[clean]]
type = "range"
field = "value"
min = 0.0
max = 105.0

[[clean]]
type = "hampel"
field = "value"
window = 7

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[model]]
name = "forecast"
use = "trackside.models:Forecast"
field = "value"

{sinks}

[server]
listen = "127.0.0.1:0"
"""

TABLES = ("received", "clean", "scores.anomaly", "scores.forecast", "forecasts.forecast")
"""Topics that the machine's pipeline keeps as tables, beside the dead letters."""


def machine_text(path: Path, *, pace: str = "", commits: str = "") -> str:
    """The machine's pipeline; `pace` slows its source down, `commits` says when tables are committed."""
    sinks = "\n".join(f'[[sink]]\ntype = "parquet"\ntopic = "{topic}"\n{commits}\n' for topic in TABLES)
    return MACHINE.format(path=path, pace=pace, sinks=sinks)


@pytest.fixture(scope="session")
def machine_csv() -> Path:
    """The real file."""
    path = ROOT.parent / "shared" / "data" / REAL
    if not path.exists():
        assert not CI, f"{path} is missing"
        pytest.skip(f"the data set {REAL} is not here")
    return path


@dataclass(frozen=True)
class Straight:
    """The machine's pipeline after a run from end to end that nothing disturbed."""

    folder: Path
    summary: dict[str, Any]

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"


@pytest.fixture(scope="session")
def straight(machine_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """The straight run, made once: what it kept is read by several tests and changed by none."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "pipeline.toml").write_text(machine_text(machine_csv))
    up = Up(folder / "pipeline.toml", ("--until-idle",))
    try:
        return Straight(folder, up.end())
    finally:
        up.kill()


@pytest.fixture
def seed() -> int:
    """A new one each time; `TRACKSIDE_KILL_SEED` repeats a run's places."""
    seed = int(os.environ.get("TRACKSIDE_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"TRACKSIDE_KILL_SEED={seed}")
    return seed
