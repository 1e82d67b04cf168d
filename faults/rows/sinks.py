"""Rows 19 and 20: a sink that is slow, and one that is away; ingest and the other sinks do not notice.

The log keeps what the sink has not read, although `max_mib` is far below it. Afterwards every row of the table must
have reached the receiver.
"""

from __future__ import annotations

import time
from typing import Any

import duckdb
import ledger
from chaos import Receiver
from row import Context, Result, Row
from world import COMMON, World, rss_anonymous

RATE = 5000
RSS_MAX = 64 << 20
CATCH_UP_MIN = 3.0
"""Rows a second of catching up, in units of the rate that came in."""

BATCH = 500


def text(receiver: Receiver) -> str:
    """A pipeline that posts every clean row, and may keep one MiB of what all have read."""
    # A smaller window of `dedupe` than the others': what it remembers grows as it should, and is not asked for here.
    return COMMON.replace("within = 1000000", "within = 10000") + (
        '\n[[source]]\ntype = "http"\n\n[retention]\nmax_mib = 1\n'
        f'\n[[sink]]\ntype = "webhook"\nname = "chaos"\ntopic = "clean"\nurl = "{receiver.url}"\nbatch = {BATCH}\n'
    )


def lag(status: dict[str, Any], name: str) -> int:
    """Rows that a sink is behind."""
    return sum(stage["lag"] for stage in status["stages"] if stage["stage"] == "sink" and stage["name"] == name)


def slow_sink(context: Context) -> Result:
    """Row 19: a tenth of the speed that rows come in with."""
    receiver, seconds = Receiver(), context.count(5, 60, 3600)
    # Each partition posts by itself, so two requests are under way at a time.
    receiver.delay = 2 * BATCH / (RATE / 2 / 10)
    with World(context, "world", text(receiver)) as world:
        up = world.start()
        load = world.load("load", rate=RATE / 2, duplicates=0)
        load.first_ack_after(0)
        time.sleep(min(3, seconds))
        before, peak, others = rss_anonymous(up.process.pid), 0, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.5)
            peak = max(peak, rss_anonymous(up.process.pid) - before)
            others = max(others, lag(up.status(), "parquet-2"))
        behind = lag(up.status(), "chaos")
        load.stop()
        receiver.delay = 0.0
        result = arrived(world, receiver, [load.notes])
    result.count = seconds
    result.expect(peak <= RSS_MAX, f"anonymous memory grew by {peak >> 20} MiB")
    result.expect(others <= RATE * 2, f"another sink was {others} rows behind")
    result.expect(behind > RATE * seconds / 10, f"the slow sink was only {behind} rows behind: it was not slow")
    result.detail = f"memory +{peak >> 20} MiB, slow sink {behind:,} rows behind, the other at most {others:,}"
    return result


def sink_down(context: Context) -> Result:
    """Row 20: away for a minute (an hour in the release tier), then back."""
    receiver, seconds = Receiver(), context.count(5, 60, 3600)
    receiver.away = True
    with World(context, "world", text(receiver)) as world:
        up = world.start()
        load = world.load("load", rate=RATE, duplicates=0, batch=50)
        load.first_ack_after(0)
        began = time.monotonic()
        time.sleep(seconds)
        load.stop()
        came_in = load.acked() / (time.monotonic() - began)
        behind = lag(up.status(), "chaos")
        receiver.away = False
        up.wait("the first request", lambda _: receiver.rows > 0)
        began, before = time.monotonic(), receiver.rows
        up.wait("the sink to catch up", lambda status: lag(status, "chaos") == 0, 120 + seconds)
        speed = (receiver.rows - before) / max(0.001, time.monotonic() - began)
        result = arrived(world, receiver, [load.notes])
    result.count = seconds
    result.expect(speed >= CATCH_UP_MIN * came_in, f"caught up with {speed:,.0f} rows/s; {came_in:,.0f}/s came in")
    result.detail = f"{behind:,} rows behind, caught up with {speed:,.0f} rows/s ({speed / came_in:.1f} × what came in)"
    return result


def arrived(world: World, receiver: Receiver, notes: list[Any]) -> Result:
    """The ledger, and that each row of the table has come to the receiver."""
    result = ledger.settle(world, notes)
    receiver.close()
    with duckdb.connect() as db:
        rows = db.execute(f"select event_id from read_parquet('{world.data}/tables/clean/**/*.parquet')").fetchall()
    missing = {row[0].encode() for row in rows} - receiver.ids
    result.lost += len(missing)
    result.expect(not missing, f"{len(missing)} rows never came to the webhook, such as {sorted(missing)[:2]}")
    return result


ROWS = [
    Row("19", "slow sink", slow_sink, unit="seconds", seconds=120),
    Row("20", "sink down, catch up", sink_down, unit="seconds", seconds=100, alone=True),
]
