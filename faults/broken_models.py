"""Models that fail in every way a row of the fault table knows; copied beside the pipeline file, as a user's lie there.

`Sum` scores a row by the sum of all values before it, so a row lost, doubled, reordered or learnt from although it is
dead changes every later score. Values below `POISON` make it fail: how, says its option, or the value itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import trackside as ts

POISON = -500.0
"""Below it a value is poison."""


class Sum(ts.Model):
    """A running sum that fails on poison."""

    version = "1"
    fields = ("value",)

    def __init__(self, how: str = "never", calls: str = "") -> None:
        self.how, self.calls, self.sum = how, calls, 0.0

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score and learn; poison is learnt before it strikes, so that a state left dirty would show."""
        if self.calls:
            with Path(self.calls).open("a") as calls:
                calls.write(f"{batch.rows}\n")
        scores = np.empty(batch.rows)
        for row, value in enumerate(batch["value"]):
            scores[row] = self.sum
            self.sum += value
            if value < POISON:
                strike(self.how)
        return ts.Scores(scores)

    def snapshot(self) -> dict[str, Any]:
        """The sum."""
        return {"sum": self.sum}

    def restore(self, state: dict[str, Any]) -> None:
        """The sum of before."""
        self.sum = float(state["sum"])


class Leak(Sum):
    """Keeps 10 MiB of each batch for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[np.ndarray[Any, Any]] = []

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score, and keep."""
        self.kept.append(np.ones(10 << 17))
        return super().update(batch)


class Wild(Sum):
    """Answers poison with whatever the value's number chooses from `ANSWERS`."""

    def update(self, batch: ts.Batch) -> ts.Scores:
        """Score, or not."""
        scores = super().update(batch)
        for value in batch["value"]:
            if value < POISON:
                number = int(POISON - value) - 1
                answer: ts.Scores = ANSWERS[number % len(ANSWERS)](batch, number // len(ANSWERS) + 1)
                return answer
        return scores


def strike(how: str) -> None:
    """Fail."""
    if how == "raise":
        raise ValueError("this value is poison")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(3)
    if how == "oom":
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does it
    if how == "loop deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "loop with child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if how == "loop in c":
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock
    while how.startswith("loop"):
        pass


def plain(batch: ts.Batch) -> np.ndarray[Any, Any]:
    return np.zeros(batch.rows)


def says(*pieces: bytes) -> Callable[[ts.Batch, int], Any]:
    """Writes onto the engine's own line to the worker."""

    def answer(batch: ts.Batch, times: int) -> Any:
        for place in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(place.readlink()).startswith("socket:"):
                    for piece in pieces * times:
                        os.write(int(place.name), piece)
        return ts.Scores(plain(batch))

    return answer


def signals(number: int) -> Callable[[ts.Batch, int], Any]:
    def answer(batch: ts.Batch, _: int) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        return ts.Scores(plain(batch))

    return answer


def raises(error: type[BaseException]) -> Callable[[ts.Batch, int], Any]:
    def answer(_: ts.Batch, times: int) -> Any:
        raise error("x" * 10**times)

    return answer


def floods(stream: int) -> Callable[[ts.Batch, int], Any]:
    def answer(batch: ts.Batch, times: int) -> Any:
        for _ in range(times * 4):
            os.write(stream, b"noise " * 5_000)
        return ts.Scores(plain(batch))

    return answer


def closes(batch: ts.Batch, times: int) -> Any:
    os.closerange(3 if times % 2 else 0, 256)
    return ts.Scores(plain(batch))


def forks(batch: ts.Batch, times: int) -> Any:
    for _ in range(times):
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
    return ts.Scores(plain(batch))


def fork_that_answers(batch: ts.Batch, _: int) -> Any:
    os.fork()  # both come back, and both answer
    return ts.Scores(plain(batch))


def overwrites(batch: ts.Batch, _: int) -> Any:
    """The rows are the log's own bytes; writing into them must fail."""
    values = batch["value"]
    ctypes.memset(values.ctypes.data, 0xFF, values.nbytes)
    return ts.Scores(plain(batch))


def recurses(batch: ts.Batch, times: int) -> Any:
    return recurses(batch, times)


def moves(batch: ts.Batch, _: int) -> Any:
    os.chdir("/")
    os.environ.clear()
    os.umask(0o777)
    return ts.Scores(plain(batch))


PREFIX = struct.Struct("<IIQ")

ANSWERS: list[Callable[[ts.Batch, int], Any]] = [
    (lambda batch, times: ts.Scores(np.zeros(batch.rows + times))),
    (lambda batch, times: ts.Scores(np.zeros(max(0, batch.rows - times)))),
    (lambda batch, times: ts.Scores(np.zeros((batch.rows, 1 + times)))),
    (lambda batch, _: ts.Scores(np.full(batch.rows, np.nan))),
    (lambda batch, _: ts.Scores(np.full(batch.rows, np.inf))),
    (lambda batch, _: ts.Scores(np.full(batch.rows, -1.7e308))),
    (lambda batch, _: ts.Scores(np.array(["text"] * batch.rows))),
    (lambda batch, _: ts.Scores(np.array([object()] * batch.rows))),
    (lambda batch, _: ts.Scores(np.zeros(batch.rows, dtype=np.complex128))),
    (lambda batch, _: ts.Scores(np.zeros(batch.rows, dtype="datetime64[ns]"))),
    (lambda batch, _: ts.Scores(np.zeros(batch.rows, dtype=np.int8))),
    (lambda batch, times: ts.Scores(plain(batch), expected=np.zeros(batch.rows + times))),
    (lambda batch, times: ts.Scores(plain(batch), reasons={0: "why " * 10**times})),
    (lambda batch, times: ts.Scores(plain(batch), reasons={batch.rows + times: "nowhere"})),
    (lambda *_: None),
    (lambda *_: "scores"),
    (lambda *_: {"score": [1, 2, 3]}),
    (lambda batch, _: [None] * batch.rows),
    (lambda _, times: ts.Scores(np.zeros(times * (4 << 20)))),
    says(b"garbage"),
    says(os.urandom(64)),
    says(PREFIX.pack(2**32 - 1, 0, 0)),
    says(PREFIX.pack(2, 0, 2**60) + b"{}"),
    says(PREFIX.pack(2, 7, 0) + b"{}"),
    says(PREFIX.pack(9, 0, 0) + b'{"ok":tru'),
    says(PREFIX.pack(41, 0, 0) + b'{"ok":true,"rows":1,"columns":[["score",1'),
    says(PREFIX.pack(11, 0, 0) + b'{"ok":true}'),
    says(b""),
    floods(1),
    floods(2),
    closes,
    forks,
    fork_that_answers,
    overwrites,
    recurses,
    moves,
    raises(KeyboardInterrupt),
    raises(SystemExit),
    raises(MemoryError),
    raises(GeneratorExit),
    signals(signal.SIGTERM),
    signals(signal.SIGSTOP),
    signals(signal.SIGSEGV),
    signals(signal.SIGPIPE),
    (lambda *_: sys.exit(0)),
    (lambda *_: os.abort()),
]
