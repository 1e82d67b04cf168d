"""What a row of the fault table is, what it is given, and what it answers."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TRACKSIDE_FAULTS") or ROOT / "target" / "wheel" / "trackside-faults")
"""Simulator, load generator, and the product's own command with the planted bugs compiled in."""

# `running.py` and `broker.py` of the end-to-end tests start what a user starts; the rows use them too.
sys.path.insert(0, str(ROOT / "tests"))

TIERS = ("test", "ci", "release")
"""How many faults: the few of `make test`, those of every commit, those of a release."""


@dataclass
class Result:
    """What a row found. The four numbers must be 0, `bars` names what else was promised and not kept."""

    count: int = 0
    events: int = 0
    lost: int = 0
    duplicated: int = 0
    phantom: int = 0
    corrupt: int = 0
    caught: int = 0
    detail: str = ""
    bars: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why it cannot run on this machine."""

    @property
    def failed(self) -> bool:
        """Whether anything is not as promised."""
        return bool(self.lost or self.duplicated or self.phantom or self.corrupt or self.bars)

    def add(self, other: Result) -> None:
        """Take in what another run of the same row found."""
        for name in ("count", "events", "lost", "duplicated", "phantom", "corrupt", "caught"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bars += other.bars
        self.detail = other.detail or self.detail

    def expect(self, kept: object, bar: str) -> None:
        """Note a bar that was not met."""
        if not kept:
            self.bars.append(bar)

    def text(self) -> str:
        """The four numbers in words."""
        return f"{self.lost} lost {self.duplicated} duplicated {self.phantom} phantom {self.corrupt} corrupt"


@dataclass(frozen=True)
class Context:
    """What a row is given: a folder of its own, a tier, a seed."""

    folder: Path
    tier: str
    seed: int
    counts: int | None = None
    bug: str = ""
    """The planted bug that the product runs with; none but in row 47."""

    def count(self, test: int, ci: int, release: int) -> int:
        """How many faults this tier wants, or whoever called."""
        return self.counts or {"test": test, "ci": ci, "release": release}[self.tier]

    def lot(self, salt: str = "") -> random.Random:
        """Drawn from the seed: the same each time it is asked for."""
        return random.Random(f"{self.seed}{salt}")

    def room(self, name: str) -> Path:
        """A new folder in the row's own."""
        room = self.folder / name
        room.mkdir(parents=True)
        return room


@dataclass(frozen=True)
class Row:
    """One row of the fault table, or a few that are looked at together."""

    numbers: str
    name: str
    run: Callable[[Context], Result]
    unit: str = "cases"
    alone: bool = False
    """It measures times, so nothing may run beside it."""
    seconds: int = 60
    """What it takes in the CI tier, about; long ones start first."""
    tested: bool = True
    """It is short enough in the tier `test` to be part of `make test`."""
    prepare: Callable[[], object] | None = None
    """What it needs built, outside of its time."""


def chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """The rows of these numbers or names; all without any. SystemExit names one that there is not."""
    keys = {row: {row.numbers, row.name, *row.numbers.split("+")} for row in rows}
    unknown = [key for key in wanted if not any(key in of_row for of_row in keys.values())]
    if unknown:
        raise SystemExit(f"there is no row `{unknown[0]}`; choose from {', '.join(row.numbers for row in rows)}")
    return [row for row in rows if not wanted or keys[row] & set(wanted)]
