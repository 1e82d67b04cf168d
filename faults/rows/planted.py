"""Row 47: eight bugs are planted, one at a time; rows that cannot tell prove nothing.

A bug is caught when a row that must catch it fails with it, for a reason that has to do with it. What only a power
loss shows, the simulator must catch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from row import Context, Result, Row

from rows import kills, sinks
from rows.simulated import ask

SIMULATED = {
    "ack-before-fsync": ("sim", "--row", "3"),
    "skip-dir-fsync": ("sim", "--row", "3"),
    "swallow-eio": ("sim", "--row", "9"),
    "ignore-position": ("sim", "--row", "3"),
    "drop-when-full": ("sim", "--row", "8"),
    "accept-bad-crc": ("sweep", "--row", "6"),
}
"""Needs a disk that forgets, fails, flips or fills at the right moment; the simulator ends with the first seed that
shows the bug. A killed process shows some of these too, but only by luck: two of them came out once and not again."""

REAL: dict[str, tuple[Callable[[Context], Result], int]] = {
    "trim-before-reader": (sinks.sink_down, 16),
    "send-twice": (kills.kills, 3),
}
"""Which row catches it, and with how many faults."""


def caught(context: Context, bug: str) -> str:
    """How the bug was caught; empty if it was not."""
    if bug in SIMULATED:
        answer = ask(*SIMULATED[bug], "--bug", bug)
        return f"{answer['repro']}" if answer["caught"] else ""
    run, count = REAL[bug]
    planted = dataclasses.replace(context, folder=context.room(bug), bug=bug, counts=count)
    result = run(planted)
    # A slow machine may miss a bar of time; only what happened to the events tells of a bug.
    evidence = [bar for bar in result.bars if "the sum says" in bar or "a sum does not hold" in bar]
    harmed = result.lost + result.duplicated + result.phantom + result.corrupt
    return f"{result.text()}; {'; '.join(evidence)[:200]}" if harmed or evidence else ""


def planted(context: Context) -> Result:
    """All eight."""
    result, how = Result(), []
    for bug in (*SIMULATED, *REAL):
        try:
            found = caught(context, bug)
        except AssertionError as error:  # it did not run to its end, and so it proves nothing
            found = ""
            result.bars.append(str(error))
        result.count += 1
        result.caught += bool(found)
        result.expect(found, f"`{bug}` was not caught")
        how.append(f"{bug}: {found or 'NOT CAUGHT'}")
    (context.folder / "how.txt").write_text("\n".join(how))
    result.detail = f"{result.caught} of {result.count} caught"
    return result


ROWS = [Row("47", "planted bugs", planted, unit="bugs", alone=True, seconds=150, tested=False)]
