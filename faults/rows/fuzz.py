"""The fuzz targets, a while each, two at a time: any bytes at all, and no panic, no long thought, no great memory.

A target that finds something leaves the input under `target/fuzz/found/<target>/`; the line below the row's says how
to see it again. How to run one target by hand: CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from row import ROOT, Context, Result, Row

CRATE = ROOT / "fuzz"
BUILT = ROOT / "target" / "fuzz"
PROGRAMS = BUILT / "release"
FOUND = BUILT / "found"

SECONDS = {"test": 5, "ci": 30, "release": 3600}
"""For each target."""

INPUT_MAX_S = 1
MEMORY_MAX_MIB = 512
BESIDE = 2


@dataclass(frozen=True)
class Found:
    """What became of one target."""

    target: str
    runs: int
    trouble: str


def targets() -> list[str]:
    """Every target there is, by name."""
    return sorted(file.stem for file in (CRATE / "src" / "bin").glob("*.rs"))


def build() -> bool:
    """Whether all targets could be built. Their flags are unstable, and a stable compiler takes it when asked to."""
    words = ["cargo", "build", "--quiet", "--release", "--target-dir", str(BUILT)]
    built = subprocess.run(words, cwd=CRATE, env=os.environ | {"RUSTC_BOOTSTRAP": "1"}, check=False)
    if built.returncode:
        shutil.rmtree(PROGRAMS, ignore_errors=True)  # what is older is not what is asked about
    return built.returncode == 0


def fuzz(context: Context) -> Result:
    """All targets, each from the committed corpus."""
    if not PROGRAMS.exists() and not build():
        return Result(bars=[f"the targets cannot be built: RUSTC_BOOTSTRAP=1 cargo build --release in {CRATE}"])
    began = time.monotonic()
    with ThreadPoolExecutor(BESIDE) as pool:
        found = list(pool.map(lambda target: one(target, context), targets()))
    spent = time.monotonic() - began
    result = Result(count=sum(one.runs for one in found))
    for one_ in found:
        result.expect(not one_.trouble, f"{one_.target}: {one_.trouble}")
        result.expect(one_.runs, f"{one_.target}: not one execution")
    counts = ", ".join(f"{one_.target} {one_.runs:,}" for one_ in found)
    result.detail = f"{spent:.0f} s without the build: {counts}"
    return result


def one(target: str, context: Context) -> Found:
    """Run one target for its time; how often it ran, and the first thing that it found."""
    learnt, crashes = context.room(target), FOUND / target
    shutil.rmtree(crashes, ignore_errors=True)
    crashes.mkdir(parents=True)
    words = [
        str(PROGRAMS / target),
        f"-max_total_time={SECONDS[context.tier]}",
        f"-timeout={INPUT_MAX_S}",
        f"-rss_limit_mb={MEMORY_MAX_MIB}",
        f"-seed={context.seed}",
        "-print_final_stats=1",
        f"-artifact_prefix={crashes}/",
        str(learnt),
        str(CRATE / "corpus" / target),
    ]
    with (context.folder / f"{target}.log").open("w+b") as log:
        ended = subprocess.run(words, cwd=learnt, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        log.seek(0)
        text = log.read().decode(errors="replace")
    told = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
    return Found(target, int(told[1]) if told else 0, trouble(ended.returncode, text, crashes))


def trouble(code: int, text: str, crashes: Path) -> str:
    """What was found, with the file that shows it again; nothing when all is well."""
    if code == 0:
        return ""
    said = re.search(r"panicked at .*\n.*|ERROR: .*|SUMMARY: .*", text)
    files = sorted(crashes.iterdir())
    shown = f"; see it again: {PROGRAMS / crashes.name} {files[0]}" if files else ""
    return f"exit code {code}: {said[0] if said else text[-300:]}{shown}"


ROWS = [Row("33", "malformed bytes (fuzz targets)", fuzz, unit="inputs", seconds=170, prepare=build)]
