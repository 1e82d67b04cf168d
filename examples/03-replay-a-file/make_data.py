"""Writes pumps.csv: two pumps, a row a minute each, with the dirt that real files have and one fault to find.

Run `python make_data.py` to get the committed file again; the seed makes it the same.
"""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta
from pathlib import Path

SEED = 7
MINUTES = 1000
START = datetime(2026, 3, 2)
FAULT = range(820, 880)
"""Minutes in which pump-2 loses pressure: a worn valve, not a broken sensor."""


def noise(numbers: random.Random, size: float) -> float:
    """About normal, from sums alone: the same on every machine."""
    return size * (sum(numbers.random() for _ in range(12)) - 6)


def reading(numbers: random.Random, pump: int, minute: int) -> tuple[float, float]:
    """Pressure in bar and temperature in °C, as they truly are."""
    day = math.sin(2 * math.pi * minute / 1440)
    pressure = 4.0 + 0.4 * pump + noise(numbers, 0.04)
    temperature = 41.0 + 3.0 * pump + 2.5 * day + noise(numbers, 0.2)
    if pump == 2 and minute in FAULT:
        pressure -= 1.2
    return pressure, temperature


def lines() -> list[str]:
    """The file, line by line."""
    numbers = random.Random(SEED)
    spikes = {(1, 131), (1, 402), (1, 777), (2, 96), (2, 350), (2, 613)}
    broken_wire = {(1, 260): -1.0, (1, 261): -1.0, (2, 505): 99.9}
    sent_twice = {(1, 333), (2, 200), (2, 707)}
    no_value = {(2, 444)}
    cut_off = {(1, 555)}
    found = ["time,pump,pressure,temperature"]
    for minute in range(MINUTES):
        for pump in (1, 2):
            pressure, temperature = reading(numbers, pump, minute)
            if (pump, minute) in spikes:
                pressure += 3.5
            pressure = broken_wire.get((pump, minute), pressure)
            cell = "" if (pump, minute) in no_value else f"{pressure:.3f}"
            line = f"{START + timedelta(minutes=minute)},pump-{pump},{cell},{temperature:.2f}"
            if (pump, minute) in cut_off:
                line = line[: line.index(",pump") + 7]
            found += [line] * (2 if (pump, minute) in sent_twice else 1)
    return found


if __name__ == "__main__":
    Path(__file__).with_name("pumps.csv").write_text("\n".join(lines()) + "\n")
