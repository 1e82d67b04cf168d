"""`make faults`: breaks the running product on purpose, row by row of the fault table, and counts what is lost.

One line a row, and at the end one JSON object. Exit code 1 if an acknowledged event was lost, came twice, came from
nowhere or changed, or if a row missed a bar of its own. `make faults ARGS="3 --json"`, `make faults TIER=release`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from row import PROGRAM, ROOT, TIERS, Context, Result, Row, chosen

BESIDE = 2
"""Rows that run at a time, where neither measures times."""

LAST = 1000
"""Sorts rows that the fault table has no number for behind the others."""

FOLDER = ROOT / "target" / "faults"
"""Where the rows' data directories lie; those of a failed row stay."""


@dataclass(frozen=True)
class Done:
    """A row that has run."""

    row: Row
    result: Result
    seconds: float
    repro: str


def main() -> int:
    """Run what was asked for; the exit code."""
    arguments = parse()
    rows = chosen(table(), arguments.rows)
    if arguments.tier == "test" and not arguments.rows:
        rows = [row for row in rows if row.tested and row.prepare is None]
    if not (arguments.no_build or arguments.list):
        build()
        for row in rows:
            if row.prepare:
                row.prepare()
    if arguments.list:
        for row in rows:
            print(f"{row.numbers:>8}  {row.name}")
        return 0
    began = time.monotonic()
    done = Runner(arguments).run(rows)
    summary = summed(done, time.monotonic() - began)
    if arguments.tier == "release":
        keep(done, arguments)
    print(json.dumps(summary), flush=True)
    return 1 if summary["failed"] else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults ARGS=…", description=__doc__)
    parser.add_argument("rows", nargs="*", help="numbers or names of rows; all without any")
    parser.add_argument("--tier", choices=TIERS, default="ci", help="how many faults")
    parser.add_argument("--seed", type=int, help="whatever is drawn is drawn from it")
    parser.add_argument("--count", type=int, help="so many faults, in place of the tier's")
    parser.add_argument("--json", action="store_true", help="nothing on stdout but the JSON object")
    parser.add_argument("--list", action="store_true", help="the rows that there are")
    parser.add_argument("--no-build", action="store_true", help="run what was built")
    arguments = parser.parse_args()
    arguments.seed = arguments.seed or random.SystemRandom().randrange(1, 10**6)
    return arguments


def build() -> None:
    """The Rust half; quick when nothing changed."""
    locked = ["--locked"] if os.environ.get("CI") else []
    words = ["cargo", "build", *locked, "--quiet", "--profile", "wheel", "--package", "trackside-faults"]
    subprocess.run(words, cwd=ROOT, check=True)
    assert PROGRAM.exists(), PROGRAM


def table() -> list[Row]:
    """All rows of `rows/`, by number."""
    files = sorted((Path(__file__).parent / "rows").glob("[a-z]*.py"))
    rows = [row for file in files for row in importlib.import_module(f"rows.{file.stem}").ROWS]
    return sorted(rows, key=lambda row: int(re.sub(r"\D", "", row.numbers.split("+")[0]) or LAST))


class Runner:
    """Runs rows, two at a time where that changes nothing, and tells of each as it ends."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.lock = threading.Lock()

    def run(self, rows: list[Row]) -> list[Done]:
        """All of them: first those that may run beside another, then the others."""
        self.say(f"tier {self.arguments.tier}, seed {self.arguments.seed}, {len(rows)} rows")
        together = [row for row in rows if not row.alone]
        with ThreadPoolExecutor(BESIDE) as pool:
            done = list(pool.map(self.one, sorted(together, key=lambda row: -row.seconds)))
        return done + [self.one(row) for row in rows if row.alone]

    def one(self, row: Row) -> Done:
        """One row; whatever it raises is a bar that was not met."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"row-{row.numbers.split('+')[0]}-", dir=FOLDER))
        context = Context(folder, self.arguments.tier, self.arguments.seed, self.arguments.count)
        began = time.monotonic()
        try:
            result = row.run(context)
        except Exception as error:
            result = Result(bars=[f"{type(error).__name__}: {error}"])
            (folder / "traceback.txt").write_text(traceback.format_exc())
        counts = f" --count {self.arguments.count}" if self.arguments.count else ""
        repro = f'make faults TIER={context.tier} ARGS="{row.numbers} --seed {context.seed}{counts}"'
        done = Done(row, result, time.monotonic() - began, repro)
        self.tell(done, folder)
        if not result.failed:
            shutil.rmtree(folder, ignore_errors=True)
        return done

    def tell(self, done: Done, folder: Path) -> None:
        """The line of a row; and when it failed, what, where, and how to see it again."""
        row, result = done.row, done.result
        with self.lock:
            if result.skipped:
                self.say(f"row {row.numbers:<6} {row.name:<34} not run here: {result.skipped}")
                return
            events = f"{result.events:,} events" if result.events else ""
            count = f"{result.count:,} {row.unit}"
            self.say(
                f"row {row.numbers:<6} {row.name:<34} {count:>22} {events:>17}  {result.text()}  {done.seconds:5.0f} s"
                + (f"  {result.detail}" if result.detail else "")
            )
            for bar in result.bars[:10]:
                self.say(f"      not met: {bar[:1500]}")
            if result.failed:
                self.say(f"      again: {done.repro}\n      left in: {folder}")

    def say(self, line: str) -> None:
        """A line for people; with --json it never mixes with what programs read."""
        print(line, file=sys.stderr if self.arguments.json else sys.stdout, flush=True)


def summed(done: list[Done], seconds: float) -> dict[str, Any]:
    """The JSON object."""
    ran = [one for one in done if not one.result.skipped]
    total = Result()
    for one in ran:
        total.add(one.result)
    return {
        "rows": len({number for one in ran for number in one.row.numbers.split("+")}),
        "events": total.events,
        "lost": total.lost,
        "duplicated": total.duplicated,
        "phantom": total.phantom,
        "corrupt": total.corrupt,
        "planted_caught": total.caught,
        "failed": [one.row.numbers for one in done if one.result.failed],
        "not_run": {one.row.numbers: one.result.skipped for one in done if one.result.skipped},
        "seconds": round(seconds),
    }


def keep(done: list[Done], arguments: argparse.Namespace) -> None:
    """Append to docs/reliability/results.md."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    with (ROOT / "docs" / "reliability" / "results.md").open("a") as results:
        for one in done:
            found = one.result.skipped and f"not run: {one.result.skipped}"
            found = found or one.result.text() + (f"; {one.result.detail}" if one.result.detail else "")
            if one.result.bars:
                found += f"; **not met: {'; '.join(bar[:200] for bar in one.result.bars[:3])}**"
            words = [date, commit, arguments.tier, str(arguments.seed), f"{one.row.numbers} {one.row.name}"]
            words += [f"{one.result.count:,} {one.row.unit}", f"{one.result.events:,}", found, f"{one.seconds:.0f} s"]
            results.write("| " + " | ".join(word.replace("|", "/").replace("\n", " ") for word in words) + " |\n")


if __name__ == "__main__":
    sys.exit(main())
