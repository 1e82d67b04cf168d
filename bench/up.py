"""`up`: file to Parquet by the real engine, log, fsyncs and all, against peers that only read, clean and write.

What the fsyncs cost is told beside it: the same engine in a program whose fsync does nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import workload

PEERS = Path(__file__).resolve().parent / "peers"
VENV = workload.ROOT / "target" / "bench-venv"


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    path, counts = workload.events(arguments.lines, arguments.input)
    python = peers(say)
    people = {
        "trackside": lambda folder: [workload.PROGRAM, "up", path, folder],
        "unsynced": lambda folder: [workload.PROGRAM, "up-unsynced", path, folder],
        "bytewax": lambda folder: [python, PEERS / "bytewax_job.py", path, folder / "clean.parquet"],
        "plain": lambda folder: [python, PEERS / "plain.py", path, folder / "clean.parquet"],
    }
    runs: dict[str, list[measure.Run]] = {who: [] for who in people}
    for number in range(arguments.runs + 1):
        for who, command in people.items():
            folder = Path(tempfile.mkdtemp(prefix=f"{who}-", dir=workload.FOLDER))
            done = measure.run(command(folder))
            shutil.rmtree(folder)
            workload.check(who, done.answer["counts"], counts)
            if number > 0:
                runs[who].append(done)
    return report(runs, counts, say)


def report(runs: dict[str, list[measure.Run]], counts: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    # A peer's clock starts after its imports; ours counts the whole process.
    rates = {
        who: [counts["lines"] / done.answer.get("cpu_seconds", done.cpu_seconds) for done in done_by]
        for who, done_by in runs.items()
    }
    rss = {who: measure.Spread([float(done.rss_bytes) for done in done_by]) for who, done_by in runs.items()}
    ratios = {
        who: measure.Spread([a / b for a, b in zip(rates["trackside"], rate, strict=True)])
        for who, rate in rates.items()
        if who != "trackside"
    }
    walls = [done.wall_seconds for done in runs["trackside"]]
    cost = measure.Spread([a / b.wall_seconds for a, b in zip(walls, runs["unsynced"], strict=True)])
    say(f"  {'':10} {'k events per core-second':>28} {'anonymous MB':>22}   trackside is … × as fast")
    for who, rate in rates.items():
        ratio = ratios[who].text(1, 1) if who in ratios else ""
        say(f"  {who:10} {measure.Spread(rate).text(1e3):>28} {rss[who].text(1e6):>22}   {ratio}")
    say(f"  with its fsyncs a run takes {cost.text(1, 2)} × the wall time of one without (`unsynced`)")
    return {
        "fsync_wall_ratio": round(cost.median, 3),
        "events_per_core_second": round(measure.Spread(rates["trackside"]).median),
        "ratios": {who: round(ratio.median, 2) for who, ratio in ratios.items()},
        "rss_bytes": {who: round(spread.median) for who, spread in rss.items()},
        "counts": counts,
        "table_bytes": runs["trackside"][-1].answer["table_bytes"],
        "runs": rates,
        "wall_seconds": {who: [done.wall_seconds for done in done_by] for who, done_by in runs.items()},
    }


def peers(say: Callable[[str], None]) -> Path:
    """A virtual environment with the peers, made on first use."""
    python, stamp, needs = VENV / "bin" / "python", VENV / ".installed", PEERS / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != needs.read_text():
        say("installing the peers into target/bench-venv …")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--requirement", needs]
        subprocess.run(pip, check=True)
        stamp.write_text(needs.read_text())
    return python
