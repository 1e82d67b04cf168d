"""The product as it runs: a folder, a pipeline file, `trackside up` in a process group, a load beside it.

`Up` is the end-to-end tests' own (tests/running.py): a user's command, HTTP, none of the product's code.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import running
from row import PROGRAM, Context
from running import TOKEN, Up, free_port, wait_for

__all__ = ["COMMON", "TOKEN", "Load", "Up", "World", "free_port", "wait_for"]

COMMON = """
[pipeline]
name = "faults"
partitions = 2
snapshot_every = "200ms"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { seq = "integer", n = "integer", value = "float", payload = "string" }
event_id = "id"

[[clean]]
type = "dedupe"
by = "event_id"
within = 1000000

[[clean]]
type = "range"
field = "value"
max = 1000.0
action = "reject"

[[sink]]
type = "parquet"
topic = "received"
age = "100ms"

[[sink]]
type = "parquet"
topic = "clean"
age = "100ms"

[[sink]]
type = "parquet"
topic = "dead-letter"
age = "100ms"
"""
"""What the load generator's events need; a row adds sources and its server."""


class World:
    """One data directory and all that runs on it; what is left at the end is ended."""

    def __init__(
        self, context: Context, name: str, text: str = "", *, port: int | None = None, data: Path | None = None
    ) -> None:
        self.context = context
        self.folder = context.room(name)
        self.data = data or self.folder / "data"
        self.port = port or free_port()
        self.file = self.folder / "pipeline.toml"
        self.write(text or COMMON + '\n[[source]]\ntype = "http"\n')
        self.up: Up | None = None
        self.loads: list[Load] = []

    def write(self, text: str) -> None:
        """The pipeline file, with the world's port unless the text names its own server."""
        server = "" if "[server]" in text else f'\n[server]\nlisten = "127.0.0.1:{self.port}"\n'
        self.file.write_text(text + server)

    @property
    def running(self) -> Up:
        """The running pipeline."""
        assert self.up is not None, "nothing was started"
        return self.up

    def start(self, *flags: str, under: tuple[str, ...] = (), **variables: str) -> Up:
        """Start the pipeline, perhaps under another command; with a planted bug if the row has one."""
        bug = {"TRACKSIDE_PLANTED_BUG": self.context.bug} if self.context.bug else {}
        python = {"TRACKSIDE_PYTHON": sys.executable, "TRACKSIDE_LOG": "info"}
        self.up = Up(self.file, flags, {**python, **bug, **variables}, command=(*under, str(PROGRAM)))
        return self.up

    def load(self, name: str = "load", **options: object) -> Load:
        """Start a load on the pipeline's port; options are the load generator's."""
        options.setdefault("fleet", f"{name}-")
        options.setdefault("seed", self.context.lot(name).randrange(1, 2**31))
        if "file" not in options:
            options.setdefault("url", f"127.0.0.1:{self.port}")
        load = Load(self.folder / name, options)
        self.loads.append(load)
        return load

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for load in self.loads:
            load.kill()
        if self.up is not None:
            self.up.kill()


class Load:
    """A load generator at work, in a process of its own; ended, never killed, while anything is judged."""

    def __init__(self, notes: Path, options: dict[str, object]) -> None:
        self.notes = notes
        self.file = "file" in options
        """Whether it writes a file, whose lines nobody acknowledges."""
        words = [str(PROGRAM), "loadgen", "--notes", str(notes), "--token", TOKEN]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        wait_for("the load's first note", lambda: self.acks.exists() or self.process.poll() is not None)

    @property
    def acks(self) -> Path:
        """Its log of answers."""
        return self.notes / "ack.log"

    def answers(self) -> Iterator[tuple[str, float]]:
        """States and times (seconds) of all answers so far."""
        for line in self.acks.read_text().splitlines()[1:]:
            fields = line.split(",")
            if len(fields) == 3 and fields[2].isdigit():
                yield fields[1], int(fields[2]) / 1e6

    def acked(self) -> int:
        """How many events were acknowledged so far."""
        return sum(state == "acked" for state, _ in self.answers())

    def first_ack_after(self, moment: float, patience: float = 60.0) -> float:
        """Time of the first acknowledgement after a moment, both in seconds since 1970."""
        with self.acks.open() as notes:
            notes.seek(max(0, self.acks.stat().st_size - (1 << 20)))

            def look() -> float | None:
                for line in notes:
                    fields = line.strip().split(",")
                    if len(fields) == 3 and fields[1] == "acked" and fields[2].isdigit() and len(fields[2]) >= 16:
                        at = int(fields[2]) / 1e6
                        if at > moment:
                            return at
                return None

            found: float = wait_for("an acknowledgement", look, patience)
            return found

    def stop(self, patience: float = 120.0) -> dict[str, Any]:
        """Tell it to end, and wait until it knows all that it can; its summary."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write("stop\n")
                self.process.stdin.flush()
        return self.wait(patience)

    def wait(self, patience: float = 600.0) -> dict[str, Any]:
        """Wait until it has sent all; its summary."""
        assert self.process.stdout is not None
        self.process.wait(patience)
        said = self.process.stdout.read()
        assert self.process.returncode == 0, f"the load generator ended with {self.process.returncode}"
        summary: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return summary

    def kill(self) -> None:
        """End it, when nobody cares any more."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(running.PATIENCE)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def left_behind(mark: str) -> list[int]:
    """Processes that inherited a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def rss_anonymous(pid: int) -> int:
    """Anonymous resident memory of a process in bytes; mapped files are the kernel's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
