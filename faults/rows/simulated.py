"""Rows 3, 5, 6, 8, 9, 10 and 25: a disk that forgets, tears, fails, fills and flips, and a clock that jumps.

The simulator (`trackside-faults sim` and `sweep`) runs the product's own log, cleaning and tables and judges them
itself; here its answer becomes a row. A seed that finds something prints the line that plays it again.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from row import PROGRAM, Context, Result, Row

SEEDS_APART = 10_000_000
"""Seeds of two runs of `make faults` do not overlap."""

PATIENCE_S = 4 * 3600


def ask(*words: str) -> dict[str, Any]:
    """The JSON that the simulator ends with; AssertionError with its words where there is none."""
    done = subprocess.run(
        [str(PROGRAM), *words, "--json"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    lines = done.stdout.strip().splitlines()
    assert lines and lines[-1].startswith("{"), f"{' '.join(words)}: {(done.stdout + done.stderr)[-500:]}"
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def result_of(answer: dict[str, Any], count: int) -> Result:
    """A row's result from the simulator's answer; what failed without a number of its own is a bar."""
    numbers = {name: answer[name] for name in ("events", "lost", "duplicated", "phantom", "corrupt")}
    result = Result(count=count, bars=list(answer["bars"]), **numbers)
    if answer.get("failed_seeds"):
        result.bars.append(f"seeds {answer['failed_seeds']} failed; again: {answer['repro']}")
    return result


def seeds(row: int, test: int, ci: int, release: int) -> Callable[[Context], Result]:
    """A row of the simulator."""

    def run(context: Context) -> Result:
        count, first = context.count(test, ci, release), context.seed * SEEDS_APART
        answer = ask("sim", "--row", str(row), "--seeds", f"{first}..{first + count}")
        return result_of(answer, answer["seeds"])

    return run


def sweep(row: int) -> Callable[[Context], Result]:
    """A row of the sweep: every place, so no seed but for what is random."""

    def run(context: Context) -> Result:
        more = ["--release"] if context.tier == "release" else []
        answer = ask("sweep", "--row", str(row), "--seed", str(context.seed), *more)
        result = result_of(answer, answer["events"])
        result.events = 0  # what it tries are places, not events
        result.detail = f"slowest {answer.get('slowest_ms', 0):.1f} ms"
        return result

    return run


ROWS = [
    Row("3", "power loss", seeds(3, 300, 10_000, 1_000_000), unit="seeds", seconds=180),
    Row("5", "torn tails", sweep(5), unit="cuts", seconds=60, tested=False),
    Row("6", "bit flips", sweep(6), unit="flips", seconds=60, tested=False),
    Row("8", "disk full, simulated", seeds(8, 40, 600, 6_000), unit="seeds", seconds=30),
    Row("9", "failed fsync", seeds(9, 40, 400, 4_000), unit="seeds", seconds=30),
    Row("10", "short writes, interrupted calls", seeds(10, 40, 1_000, 50_000), unit="seeds", seconds=30),
    Row("25", "clocks that jump", seeds(25, 20, 200, 20_000), unit="seeds", seconds=20),
]
