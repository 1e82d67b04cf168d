"""Runs the installed `trackside` command as a user does: a folder, a pipeline file, a process of its own, HTTP.

`Up` starts `trackside up --json` as the leader of a session, so that a test can kill all of it at once; port 0 in the
pipeline file and the ready line that it prints keep tests apart. Waiting is always for a condition, never for a time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60.0
"""Longest wait for a condition, in seconds; far beyond what any takes."""

TOKEN = "token-of-these-tests"
"""Given to every pipeline by `TRACKSIDE_TOKEN`."""

COMMAND = Path(sys.executable).with_name("trackside")

STEP = 0.002
"""Seconds between two looks at a condition."""


def wait_for(what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The condition's first answer that is true; an error names `what` when it never comes."""
    end = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(STEP)


_given_out: set[int] = set()


def free_port() -> int:
    """A port that is free, of those that no program gets for its own connections; none twice in a process."""
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(outgoing.read_text().split()[0]) if outgoing.exists() else 32768
    for _ in range(100 if first > 4096 else 0):
        port = random.SystemRandom().randrange(first // 2, first)
        if port in _given_out:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given_out.add(port)
            return port
    with socket.create_server(("127.0.0.1", 0)) as free:  # a machine with other ranges: nearly as good
        return int(free.getsockname()[1])


def scored(rows: int, model: str = "sum") -> Callable[[dict[str, Any]], bool]:
    """Whether a status says that a model has scored so many rows."""
    return lambda status: bool(status["sums"]["models"][model]["scored"] == rows)


def received(rows: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a status says that at least so many rows were received."""
    return lambda status: bool(status["sums"]["ingest"]["received"] >= rows)


def environment(**more: str) -> dict[str, str]:
    """This process's environment with a known token and no settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACKSIDE_")}
    return {**kept, "TRACKSIDE_TOKEN": TOKEN, **more}


@dataclass(frozen=True)
class Ran:
    """A command that ended: exit code and what it printed."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path, folder: Path, variables: Mapping[str, str] | None = None) -> Ran:
    """Run `trackside ARGUMENTS` in a folder to its end, with these environment variables as well."""
    words = [str(COMMAND), *map(str, arguments)]
    given = environment(**(variables or {}))
    done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


@dataclass
class Up:
    """A running `trackside up`; made by the fixture `start`, and by the rows of faults/ with a command of their own."""

    file: Path
    flags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (str(COMMAND),)
    process: subprocess.Popen[bytes] = field(init=False)
    ready: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        words = [*self.command, "up", self.file.name, "--json", *self.flags]
        with self.out.open("wb") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                words,
                cwd=self.file.parent,
                env=environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            wait_for("the ready line", lambda: self.lines() or self.process.poll() is not None)
            assert self.lines(), f"`trackside up` ended with {self.process.poll()} before it was ready:\n{self.said()}"
            self.ready = json.loads(self.lines()[0])
        except BaseException:
            self.kill()
            raise

    @property
    def folder(self) -> Path:
        """The folder of the pipeline file."""
        return self.file.parent

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def out(self) -> Path:
        """What it prints on stdout."""
        return self.folder / "stdout.txt"

    @property
    def err(self) -> Path:
        """What it prints on stderr, over all runs in this folder."""
        return self.folder / "stderr.txt"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of page and API."""
        url = urlsplit(self.ready["url"])
        assert url.hostname and url.port
        return url.hostname, url.port

    def lines(self) -> list[str]:
        """Whole lines printed so far."""
        return self.out.read_text().splitlines() if self.out.exists() and self.out.read_text().endswith("\n") else []

    def said(self) -> str:
        """The end of what it logged, for a failing test."""
        return self.err.read_text(errors="replace")[-6000:]

    def request(
        self, method: str, path: str, body: bytes | str | None = None, *, token: str | None = TOKEN, **headers: str
    ) -> Answer:
        """One HTTP request; header names are written with `_` for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON at a path of the API."""
        answer = self.request("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def status(self) -> dict[str, Any]:
        """The state of everything."""
        status: dict[str, Any] = self.get("/api/status")
        return status

    def model(self, name: str) -> dict[str, Any]:
        """The state of one model."""
        return next(model for model in self.status()["models"] if model["name"] == name)

    def ingest(self, *events: Mapping[str, Any], path: str = "/ingest") -> Answer:
        """Post events as NDJSON; they must be acknowledged."""
        body = "".join(json.dumps(event) + "\n" for event in events)
        answer = self.request("POST", path, body, Content_Type="application/x-ndjson")
        assert answer.status == 200, answer
        return answer

    def wait(self, what: str, condition: Callable[[dict[str, Any]], Any], patience: float = PATIENCE) -> dict[str, Any]:
        """The first status that fulfils the condition."""

        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None, f"`trackside up` ended while {what} was waited for:\n{self.said()}"
            status = self.status()
            return status if condition(status) else None

        try:
            found: dict[str, Any] = wait_for(what, look, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log ends with\n{self.said()}") from None
        return found

    def kill(self) -> None:
        """`kill -9` of the whole process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command itself, as a service manager does."""
        self.process.send_signal(number)

    def end(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until it ends by itself with success; its sums."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {patience:.0f} s; its log ends with\n{self.said()}") from None
        assert code == 0, f"exit code {code}; its log ends with\n{self.said()}"
        summary: dict[str, Any] = json.loads(self.lines()[-1])
        return summary

    def stop(self) -> dict[str, Any]:
        """SIGTERM, and its sums."""
        self.signal(signal.SIGTERM)
        return self.end()
