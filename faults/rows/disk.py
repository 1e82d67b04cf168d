"""Row 8, the part with a real disk: a small file system fills up under load, and is freed again.

The other part, an error at the k-th write for all k, is the simulator's.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from pathlib import Path

import ledger
from row import Context, Result, Row
from world import Load, World, wait_for

REFUSED_MAX_S = 1.0
"""From the first write that found no room to a 503: what is on its way gets one of these, none an acknowledgement."""

RESUMED_MAX_S = 5.0
FULL_MAX_S = 30.0
"""So long the load takes at most to fill the disk."""

SMALL_MIB, LARGE_MIB = 24, 512


def mount(*arguments: str | Path) -> bool:
    """Whether it could be mounted."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def full_disk(context: Context) -> Result:
    """So many times full and freed: 503 at once, the page stays, acknowledgements are back within 5 s of space."""
    if os.geteuid() != 0:
        return Result(skipped="only root can mount a file system")
    total = Result(count=context.count(1, 3, 50))
    slowest, answered = 0.0, 0.0
    for number in range(total.count):
        with World(context, f"world-{number}") as world:
            world.data.mkdir()
            if not mount("-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "none", world.data):
                return Result(skipped="this machine does not let root mount a file system")
            try:
                result, resumed, page = once(world)
            finally:
                world.__exit__()
                subprocess.run(["umount", "--lazy", world.data], capture_output=True, check=False)
        slowest, answered = max(slowest, resumed), max(answered, page)
        total.add(result)
    total.count = context.count(1, 3, 50)
    total.expect(slowest <= RESUMED_MAX_S, f"acknowledgements resumed {slowest:.1f} s after there was room")
    total.expect(answered <= REFUSED_MAX_S, f"the page took {answered:.1f} s to answer while the disk was full")
    total.detail = f"acks resumed at most {slowest:.1f} s after space; page answered in {answered:.2f} s when full"
    return total


def once(world: World) -> tuple[Result, float, float]:
    """Fill, look, free, look; the verdict, and how long resuming and the page took in seconds."""
    up = world.start()
    load = world.load("load", rate=6000, batch=100, given_up=0.2)
    try:
        refused = wait_for("a 503", lambda: first_refusal(load), FULL_MAX_S)
    except AssertionError:
        load.stop()
        result = ledger.settle(world, [load.notes])
        result.bars.append(f"the disk is full, and {FULL_MAX_S:.0f} s long nothing was refused")
        return result, 0.0, 0.0
    last = max((t for s, t in load.answers() if s == "acked"), default=refused)
    # Full for a while: refusals go on, and the page stays.
    slowest = 0.0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        began = time.monotonic()
        assert up.request("GET", "/api/status").status == 200
        slowest = max(slowest, time.monotonic() - began)
    quiet = longest_silence([moment for _, moment in load.answers() if moment >= refused])
    assert mount("-o", f"remount,size={LARGE_MIB}m", world.data)
    freed = time.time()
    resumed = load.first_ack_after(freed) - freed
    time.sleep(0.5)
    load.stop()
    result = ledger.settle(world, [load.notes])
    result.expect(quiet <= REFUSED_MAX_S, f"{quiet:.1f} s without any answer while the disk was full")
    result.expect(refused - last <= REFUSED_MAX_S, "the first 503 came late")
    return result, resumed, slowest


def first_refusal(load: Load) -> float:
    """When the first event was refused; 0 if none was."""
    return next((moment for state, moment in load.answers() if state == "refused"), 0.0)


def longest_silence(times: list[float]) -> float:
    """The longest pause between two answers, in seconds."""
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


ROWS = [Row("8", "disk full under load, then freed", full_disk, unit="times", seconds=60)]
