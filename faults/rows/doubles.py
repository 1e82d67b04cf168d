"""Row 26: a third of all events is sent twice, at once, later, after a restart, on another connection."""

from __future__ import annotations

import time

import ledger
from row import Context, Result, Row
from world import World

SHARE = 0.3


def duplicates(context: Context) -> Result:
    """Each is in the table once, and what came again is counted as filtered by `dedupe`."""
    events = context.count(6_000, 100_000, 10_000_000)
    with World(context, "world") as world:
        world.start()
        load = world.load("load", events=events, rate=20_000, duplicates=SHARE, batch=50, connections=6)
        for _ in range(2 if context.tier == "test" else 4):
            load.first_ack_after(time.time())
            time.sleep(0.1 if context.tier == "test" else 0.8)
            if load.process.poll() is None:
                world.running.kill()
                world.start()
        summary = load.wait()
        result = ledger.settle(world, [load.notes])
        result.count = summary["repeats"]
        result.detail = f"{summary['repeats']:,} repeats over {summary['sent']:,} events and four restarts"
    return result


ROWS = [Row("26", "duplicates, 30 %", duplicates, unit="repeats", seconds=60)]
