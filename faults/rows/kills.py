"""Row 1: `kill -9` of the whole process group under load, at random; and how long a restart takes with a full log.

Four ways in at once: HTTP on the server's port, HTTP on a port of its own, a file that grows, an MQTT broker. The load
generators live on, send again what they do not know of, and the ledger judges at the end, not after each kill: what
one kill breaks the next start must not hide.
"""

from __future__ import annotations

import statistics
import time

import ledger
from mqtt import broker, mqtt_load
from row import Context, Result, Row
from world import COMMON, World, free_port

FIRST_ACK_MAX_S = 2.0
"""From the start of the process to the first acknowledged event, 99 of 100."""

RATE = 5000

SOURCES = """
[[source]]
type = "http"

[[source]]
type = "http"
name = "listen"
listen = "127.0.0.1:{port}"
token = "token-of-these-tests"

[[source]]
type = "file"
path = "events.jsonl"
mode = "follow"
poll = "20ms"
"""


def kills(context: Context) -> Result:
    """So many kills, 0.05 to 3 s after a start that acknowledged something (or, one in eight, while it starts)."""
    wanted, lot = context.count(6, 60, 2000), context.lot()
    port = free_port()
    with broker(context.room("broker")) as mosquitto:
        text = COMMON + SOURCES.format(port=port) + (mosquitto.source() if mosquitto else "")
        with World(context, "world", text) as world:
            (world.folder / "events.jsonl").touch()
            world.start()
            loads = [
                world.load("http", rate=RATE * 0.6, given_up=0.05),
                world.load("listen", rate=RATE * 0.2, url=f"127.0.0.1:{port}", connections=2),
                world.load("file", rate=RATE * 0.15, file=world.folder / "events.jsonl", duplicates=0),
            ]
            publisher = mqtt_load(world.folder / "mqtt", mosquitto, RATE * 0.05) if mosquitto else None
            loads[0].first_ack_after(0)
            to_ack: list[float] = []
            for _ in range(wanted):
                time.sleep(lot.uniform(0.05, 1.0 if context.tier != "release" else 3.0))
                world.running.kill()
                began = time.time()
                world.start()
                if lot.random() > 1 / 8:
                    to_ack.append(loads[0].first_ack_after(began) - began)
            for load in loads:
                load.stop()
            notes = [load.notes for load in loads]
            if publisher:
                publisher.stop()
                notes.append(publisher.notes)
            result = ledger.settle(world, notes)
            result.count = wanted
    p99 = statistics.quantiles(to_ack, n=100)[98] if len(to_ack) > 1 else to_ack[0]
    result.detail = f"restart to first ack: median {statistics.median(to_ack):.2f} s, p99 {p99:.2f} s"
    if not mosquitto:
        result.detail += "; without MQTT (no Mosquitto here)"
    result.expect(min(p99, sorted(to_ack)[-2]) <= FIRST_ACK_MAX_S, f"p99 of {p99:.2f} s is over {FIRST_ACK_MAX_S} s")
    return result


BACKLOG = """
[pipeline]
name = "backlog"
partitions = 2

[schema]
time = {{ field = "ts", unit = "ms" }}
series = ["device", "sensor"]
fields = {{ value = "float", seq = "integer", unit = "string" }}

[[source]]
type = "http"

[[source]]
type = "generate"
rate = 0
count = {count}

[[sink]]
type = "webhook"
topic = "clean"
url = "http://127.0.0.1:9/away"
"""

EVENT_BYTES = 56
"""What an event takes in `received` and `clean` each, about."""


def backlog(context: Context) -> Result:
    """The log is full of what a sink that is away has not read: how long from a start to the first acknowledgement."""
    mib, result = context.count(32, 1024, 1024), Result()
    took = []
    with World(context, "world", BACKLOG.format(count=mib * 2**20 // EVENT_BYTES // 2)) as world:
        up = world.start()
        up.wait("the backlog", lambda s: s["stages"][1]["state"] == "finished" or log_mib(world) >= mib, 300)
        up.wait("cleaning", lambda s: s["sums"]["clean"]["in_flight"] == 0, 120)
        full = log_mib(world)
        event = {"ts": 1_700_000_000_000, "device": "hand", "sensor": "x", "value": 1.0, "seq": 1, "unit": "K"}
        for _ in range(5 if context.tier == "ci" else 20):
            world.running.kill()
            began = time.monotonic()
            world.start().ingest(event)
            took.append(time.monotonic() - began)
        summary = world.running.stop()
        result.expect(summary["balanced"], f"a sum does not hold: {summary['sums']}")
        result.count, result.events = len(took), summary["received"]
    result.expect(max(took) <= FIRST_ACK_MAX_S, f"the slowest took {max(took):.2f} s")
    result.detail = (
        f"{full:,.0f} MiB of log; start to first ack: median {statistics.median(took):.2f} s, most {max(took):.2f} s"
    )
    return result


def log_mib(world: World) -> float:
    """What the log takes on the disk."""
    files = (world.data / "log").rglob("*.seg")
    return sum(file.stat().st_blocks * 512 for file in files) / 2**20


ROWS = [
    Row("1", "restart with a full log", backlog, unit="restarts", alone=True, seconds=90, tested=False),
    Row("1", "kill -9 under load", kills, unit="kills", alone=True, seconds=180),
]
