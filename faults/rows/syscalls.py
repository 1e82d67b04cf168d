"""Row 2: a kill at each system call that writes, of runs that start, ingest, commit, save states, trim and drain.

`strace` injects SIGKILL when a thread enters its k-th call of a kind, so the call itself does not happen. (It counts by
thread; the simulator kills at the k-th operation of all.) One data directory goes through all points of a kind, with
one load that lives on, and is judged at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import Counter

import ledger
from row import Context, Result, Row
from running import Up, wait_for
from world import COMMON, World

PLAN = {"fsync": 40, "fdatasync": 16, "write": 24, "pwrite64": 16, "rename": 16, "openat": 24, "mkdir": 8}
PLAN |= {"fallocate": 4, "ftruncate": 1, "unlink": 12}
"""Kinds of calls, and how many of each a run of half a second makes in its busiest thread."""

FIRST = {"openat": 14}
"""Calls before it are the loader's."""

RUN_S = 0.5
"""A point's run: some 200 events; then it drains, and may be killed in that."""

TEXT = COMMON.replace("200ms", "100ms") + '\n[retention]\nmax_mib = 1\n[[source]]\ntype = "http"\n'


def sweep(context: Context) -> Result:
    """Every kind, every k, as many as the tier wants."""
    if shutil.which("strace") is None:
        return Result(skipped="no strace (Debian: apt-get install strace)")
    points = [(call, k + FIRST.get(call, 1)) for call, most in PLAN.items() for k in range(most)]
    wanted, total, struck = context.count(8, 210, 600), Result(), Counter[str]()
    rounds, rest = divmod(wanted, len(points))
    chosen = points * rounds + context.lot().sample(points, rest)
    for call in PLAN:
        places = sorted(k for kind, k in chosen if kind == call)
        if not places:
            continue
        with World(context, call, TEXT) as world:
            load: object = None
            for k in places:
                under = ("strace", "-f", "-qqq", "-o", "/dev/null")
                inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={k}")
                try:
                    up = world.start(under=(*under, *inject))
                except AssertionError:
                    struck[call] += 1  # it was killed while it started
                    continue
                load = load or world.load("load", rate=400, connections=2, batch=5, given_up=0.05)
                struck[call] += struck_down(up)
            world.start()
            if load is None:
                world.load("load", rate=400, events=50)
            for each in world.loads:
                time.sleep(0.1)
                each.stop()
            total.add(ledger.settle(world, [each.notes for each in world.loads]))
    total.count = len(chosen)
    kinds = ", ".join(f"{call} {struck[call]}" for call in PLAN)
    total.detail = f"{struck.total()} of them struck ({kinds}); the others' runs made fewer such calls"
    total.expect(struck.total() >= total.count // 2, f"only {struck.total()} of {total.count} points struck")
    return total


def struck_down(up: Up) -> bool:
    """Let it run and drain; whether the kill came, rather than an orderly end."""
    end = time.monotonic() + RUN_S
    while time.monotonic() < end and up.process.poll() is None:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(up.ready["pid"], signal.SIGTERM)
    wait_for("its end", lambda: up.process.poll() is not None)
    return up.process.returncode != 0


ROWS = [Row("2", "kill at each system call", sweep, unit="points", seconds=200)]
