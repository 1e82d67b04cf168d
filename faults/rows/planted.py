"""Row 47: eight bugs are planted, one at a time; rows that cannot tell prove nothing.

A bug is caught when a row that must catch it fails with it, for a reason that has to do with it. What only a power
loss shows, the simulator must catch.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable

from row import PROGRAM, Context, Result, Row

from rows import disk, kills, sinks

SIMULATED = ("ack-before-fsync", "skip-dir-fsync", "swallow-eio", "accept-bad-crc")
"""Needs a disk that forgets."""

SEEDS = 2000

REAL: dict[str, tuple[Callable[[Context], Result], int]] = {
    "trim-before-reader": (sinks.sink_down, 16),
    "ignore-position": (kills.kills, 12),
    "drop-when-full": (disk.full_disk, 1),
    "send-twice": (kills.kills, 3),
}
"""Which row catches it, and with how many faults."""


def caught(context: Context, bug: str) -> str:
    """How the bug was caught; empty if it was not."""
    if bug in SIMULATED:
        words = [str(PROGRAM), "sim", "--bug", bug, "--seeds", str(SEEDS)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        return (done.stdout + done.stderr).strip()[-200:] if done.returncode == 1 else ""
    run, count = REAL[bug]
    planted = dataclasses.replace(context, folder=context.room(bug), bug=bug, counts=count)
    try:
        result = run(planted)
    except AssertionError as error:
        return f"it did not come back: {str(error)[:100]}"
    return f"{result.text()}; {'; '.join(result.bars)[:200]}" if result.failed else ""


def planted(context: Context) -> Result:
    """All eight."""
    result, how = Result(), []
    for bug in (*SIMULATED, *REAL):
        found = caught(context, bug)
        result.count += 1
        result.caught += bool(found)
        result.expect(found, f"`{bug}` was not caught")
        how.append(f"{bug}: {found.splitlines()[0][:80] if found else 'NOT CAUGHT'}")
    (context.folder / "how.txt").write_text("\n".join(how))
    result.detail = f"{result.caught} of {result.count} caught"
    return result


ROWS = [Row("47", "planted bugs", planted, unit="bugs", alone=True, seconds=150, tested=False)]
