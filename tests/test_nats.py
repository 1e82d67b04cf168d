"""The log on a real nats-server: engine and server are killed, the tables are those of a straight run on files."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import TABLES, Start, Straight, machine_text
from running import run, wait_for
from test_kill import compare

RATE = 2500
KILLS = 4


class Server:
    """One nats-server with a folder of its own."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        beside = Path(sys.executable).with_name("nats-server")
        self.program = str(beside) if beside.exists() else shutil.which("nats-server")
        if self.program is None:
            assert not os.environ.get("CI"), "nats-server is missing: `make venv dev` installs it"
            pytest.skip("nats-server is not installed")
        self.port, self.monitor = free_port(), free_port()
        self.config = folder / "nats.conf"
        always = ", sync_interval: always" if synced else ""
        self.config.write_text(
            f"listen: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor}\n"
            f'jetstream {{ store_dir: "{folder / "js"}"{always} }}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert self.program
        words = [self.program, "-c", str(self.config)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("nats-server", self.answers)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def section(self) -> str:
        return (
            f'\n[log]\ntype = "nats"\nservers = ["nats://127.0.0.1:{self.port}"]\n'
            f'monitor = "http://127.0.0.1:{self.monitor}"\n'
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"), synced=True)
    yield server
    server.kill()


def test_killed_engines_and_servers_leave_the_tables_of_a_straight_run_on_files(
    straight: Straight, machine_csv: Path, server: Server, start: Start, seed: int
) -> None:
    total = straight.summary["scored"]
    lot = random.Random(seed)
    text = machine_text(machine_csv, pace=f"rate = {RATE}", commits='rows = 600\nage = "150ms"') + server.section
    up = start(text)
    for number, rows in enumerate(sorted(lot.sample(range(total // 50, total * 4 // 5), KILLS))):
        up.wait(f"{rows} scores", partial(has_scored, rows))
        if number % 2:
            server.kill()
            server.start()
        else:
            up.kill()
            up = start()
    up.kill()
    summary = start(None, "--until-idle").end()
    assert summary["balanced"], summary
    for name in ("taken", "received", "clean", "scored", "forecasts", "anomalies", "table_rows"):
        assert summary[name] == straight.summary[name], f"{name} of seed {seed}"
    for topic in TABLES:
        compare(topic, straight.data, up.data, seed)


def has_scored(rows: int, status: dict[str, Any]) -> bool:
    return bool(sum(model["scored"] for model in status["sums"]["models"].values()) >= rows)


def test_a_weak_set_up_is_told_in_words(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, start: Start) -> None:
    server = Server(tmp_path_factory.mktemp("nats"), synced=False)
    try:
        text = '[pipeline]\nname = "weak"\n[schema]\nfields = { value = "float" }\n[server]\nlisten = "127.0.0.1:0"\n'
        up = start(text + server.section)
        words = "acknowledges before it syncs"
        assert words in run("check", "pipeline.toml", folder=tmp_path).out
        assert words in run("status", "pipeline.toml", folder=tmp_path).out
        assert words in up.status()["weakness"]
        up.stop()
    finally:
        server.kill()
