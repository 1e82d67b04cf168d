"""`make bench ARGS="SCENARIO --json"`: what we do on one core, beside peers and a hand-written ceiling, in one run.

Scenarios: `clean` (in memory), `up` (file to tables), `handoff` (append to NumPy in a worker), `latency` (post to a
readable score), `all`. A table goes to people (stderr with --json), one JSON object a scenario to programs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import clean
import handoff
import latency
import up
from workload import ROOT

SCENARIOS = {"clean": clean.run, "up": up.run, "handoff": handoff.run, "latency": latency.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"], nargs="?", default="all")
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario on stdout")
    parser.add_argument("--lines", type=int, default=500_000, help="lines of the workload")
    parser.add_argument("--runs", type=int, default=5, help="measured runs, after one to warm up")
    parser.add_argument("--input", type=Path, help="another file of the workload's shape")
    arguments = parser.parse_args()
    build()
    chosen = list(SCENARIOS) if arguments.scenario == "all" else [arguments.scenario]
    for name in chosen:
        say(f"\n{name} · load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        report: dict[str, Any] = {"scenario": name, "load_before": round(os.getloadavg()[0], 2)}
        report |= SCENARIOS[name](arguments, say)
        report["load_after"] = round(os.getloadavg()[0], 2)
        if arguments.json:
            print(json.dumps(report), flush=True)


def build() -> None:
    """The Rust half, in the release profile; quick when nothing changed."""
    say("building target/release/trackside-bench …")
    subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "trackside-bench"], cwd=ROOT, check=True)


def say(line: str) -> None:
    """A line for people; it never mixes with what programs read."""
    print(line, file=sys.stderr if "--json" in sys.argv else sys.stdout, flush=True)


if __name__ == "__main__":
    main()
