"""The workload's files, with the counts that everyone must reach on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import measure

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "bench"
PROGRAM = ROOT / "target" / "release" / "trackside-bench"


def events(lines: int, given: Path | None) -> tuple[Path, dict[str, Any]]:
    """The file of so many lines (made on first use) or a given one, and its counts by the literal definition."""
    path = given or FOLDER / f"events-{lines}.jsonl"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        measure.run([PROGRAM, "generate", str(lines), aside])
        aside.rename(path)
    return path, measure.run([PROGRAM, "count", path]).answer


def check(who: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """A run with other counts is not a result."""
    if found != expected:
        raise SystemExit(f"{who} came to other counts, so this is not a result:\n  {found}\n  {expected}")
