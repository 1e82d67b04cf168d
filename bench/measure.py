"""Running what is measured: pinned to a core, with CPU-seconds and anonymous memory, and medians of many runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 900
"""Longest run of anything here."""

SAMPLE_S = 0.01
"""Time between two looks at a process's memory."""


@dataclass
class Run:
    """One run of a command: what it printed last, and what it took."""

    answer: dict[str, Any]
    cpu_seconds: float
    wall_seconds: float
    rss_bytes: int


@dataclass
class Spread:
    """Several runs of one figure."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, scale: float = 1.0, digits: int = 0) -> str:
        """Median [min..max]."""
        low, mid, high = (f"{v / scale:,.{digits}f}" for v in (min(self.values), self.median, max(self.values)))
        return f"{mid} [{low}..{high}]"


ALL_CORES = sorted(os.sched_getaffinity(0))
MEASURED = {ALL_CORES[0]}
"""The core of what is measured; everything else runs on the others."""

OTHERS = set(ALL_CORES[1:]) or MEASURED


def run(command: Sequence[str | Path]) -> Run:
    """Run a command to its end, alone on its core. CPU-seconds are user + system of it and its children."""
    os.sched_setaffinity(0, OTHERS)
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.sched_setaffinity(process.pid, MEASURED)
    peak = _Peak(process.pid)
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    errors: list[bytes] = []
    drain = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else b""))
    drain.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    os.sched_setaffinity(0, ALL_CORES)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watchdog.cancel()
    drain.join()
    if process.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise SystemExit(f"`{words}` failed ({process.returncode}):\n{errors[0].decode(errors='replace')[:3000]}")
    answer = json.loads(output.decode().strip().splitlines()[-1])
    return Run(answer, usage.ru_utime + usage.ru_stime, wall, peak.stop())


class _Peak:
    """Watches a process's anonymous resident memory; mapped files are the kernel's and do not count."""

    def __init__(self, pid: int) -> None:
        self._path, self._peak, self._end = Path(f"/proc/{pid}/status"), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_S):
            try:
                text = self._path.read_text()
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("RssAnon:"):
                    self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self._peak


def percentiles(nanoseconds: Sequence[int]) -> dict[str, float]:
    """p50 and p99 in µs, without the first 5 %."""
    kept = sorted(nanoseconds[len(nanoseconds) // 20 :])
    return {"p50_us": kept[len(kept) // 2] / 1e3, "p99_us": kept[int(len(kept) * 0.99)] / 1e3, "samples": len(kept)}
