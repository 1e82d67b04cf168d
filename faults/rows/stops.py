"""Rows 11 and 12: two engines on one data directory, and a stop under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import ledger
from row import PROGRAM, Context, Result, Row
from running import environment
from world import World

DRAIN_MAX_S = 10.0
REFUSED_MAX_S = 1.0


def two_instances(context: Context) -> Result:
    """The second is refused within a second and names the first; after a kill the lock that is left holds nobody up."""
    result = Result(count=context.count(4, 20, 200))
    lot = context.lot()
    with World(context, "world") as world:
        world.start()
        load = world.load("load", rate=1000)
        for _ in range(result.count):
            began = time.monotonic()
            second = subprocess.run(
                [PROGRAM, "up", world.file.name, "--listen", "127.0.0.1:0"],
                cwd=world.folder,
                env=environment(TRACKSIDE_PYTHON=sys.executable),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            took = time.monotonic() - began
            told = f"is in use by process {world.running.process.pid}" in second.stderr
            result.expect(told and second.returncode == 3, f"the second said ({second.returncode}) {second.stderr}")
            result.expect(took <= REFUSED_MAX_S, f"the second was refused after {took:.1f} s")
            if lot.random() < 0.5:
                world.running.kill()
                world.start()
        load.stop()
        result.add(ledger.settle(world, [load.notes]))
    return result


def signals(context: Context) -> Result:
    """SIGTERM or Ctrl-C under load: drained within ten seconds, exit code 0, and the next start goes on."""
    result, slowest = Result(count=context.count(3, 20, 200)), 0.0
    lot = context.lot()
    with World(context, "world") as world:
        world.start()
        load = world.load("load", rate=5000)
        for _ in range(result.count):
            load.first_ack_after(time.time())
            time.sleep(lot.uniform(0.05, 0.6))
            up, began = world.running, time.monotonic()
            up.signal(lot.choice([signal.SIGTERM, signal.SIGINT]))
            summary = up.end(DRAIN_MAX_S + 10)
            slowest = max(slowest, time.monotonic() - began)
            result.expect(summary["balanced"], f"a sum does not hold: {summary['sums']}")
            result.expect(summary["in_flight"] == 0, f"{summary['in_flight']} rows in flight after the drain")
            world.start()
        load.stop()
        result.add(ledger.settle(world, [load.notes]))
    result.expect(slowest <= DRAIN_MAX_S, f"a drain took {slowest:.1f} s")
    result.detail = f"slowest drain {slowest:.1f} s"
    return result


def reloads(context: Context) -> Result:
    """SIGHUP under load: no connection drops, nothing is lost; a broken file changes nothing."""
    result = Result(count=context.count(3, 20, 200))
    with World(context, "world") as world:
        up = world.start()
        load = world.load("load", rate=3000, given_up=0)
        good = world.file.read_text()
        for number in range(result.count):
            load.first_ack_after(time.time())
            broken = number % 4 == 3
            limit = f"max = {1000 + number}.0"
            world.file.write_text("[pipeline" if broken else good.replace("max = 1000.0", limit))
            os.kill(up.process.pid, signal.SIGHUP)
            time.sleep(0.1)
            if up.process.poll() is not None:
                result.bars.append(f"SIGHUP ended it: {up.said()[-500:]}")
                break
            load.first_ack_after(time.time(), 5.0)
        world.file.write_text(good)
        summary = load.stop()
        result.expect(summary["unknown"] == 0, f"{summary['unknown']} events got no answer: a connection was dropped")
        if up.process.poll() is None:
            result.add(ledger.settle(world, [load.notes]))
    return result


ROWS = [
    Row("11", "two engines, one directory", two_instances, unit="starts", seconds=30),
    Row("12", "SIGTERM, Ctrl-C under load", signals, unit="signals", seconds=60),
    Row("12", "reload under load", reloads, unit="reloads", seconds=30),
]
