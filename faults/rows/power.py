"""Row 4: the power fails below the running product, again and again, under load.

Its data directory lies on a disk that forgets what was not fsynced (`trackside-faults disk`, mounted by FUSE): the real
command, its real system calls and the real kernel, where row 3 has the log's code on a simulated disk. The load
generators and what they noted are on another disk, as a client is on another machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ledger
from row import PROGRAM, Context, Result, Row
from running import PATIENCE, environment
from world import COMMON, World

ENOUGH = 10
"""Cuts after which something must have been forgotten."""

FILE = """
[[source]]
type = "http"

[[source]]
type = "file"
path = "events.jsonl"
mode = "follow"
poll = "20ms"
"""


class Disk:
    """A mounted disk whose power can be cut; what it answers is what was lost."""

    def __init__(self, at: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [str(PROGRAM), "disk", "--seed", str(seed), str(at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.mounted = self.answer() == "mounted"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        assert answer, f"the disk is gone: {self.end()}"
        return answer

    def end(self) -> str:
        """Unmount; what it complained about."""
        _, complaint = self.process.communicate(timeout=PATIENCE)
        return complaint.strip()


def power_loss(context: Context) -> Result:
    """So many power cuts, 0.05 to 1.5 s after a start that acknowledged something.

    One in four strikes again, while what the first one left is being recovered.
    """
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return Result(skipped="only root can mount a disk by FUSE, and it takes /dev/fuse")
    wanted, lot = context.count(2, 10, 300), context.lot()
    room = context.room("disk")
    disk = Disk(room, lot.randrange(1, 2**31))
    if not disk.mounted:
        complaint = disk.end()
        assert "Operation not permitted" in complaint or "No such device" in complaint, complaint
        return Result(skipped=f"this machine mounts no disk by FUSE: {complaint}")
    lost: Counter[str] = Counter()
    to_ack: list[float] = []
    data = room / "data"
    text = COMMON.replace('name = "faults"', f'name = "faults"\ndata = "{data}"') + FILE
    try:
        with World(context, "world", text, data=data) as world:
            (world.folder / "events.jsonl").touch()
            world.start()
            loads = [
                world.load("http", rate=2000, given_up=0.05),
                world.load("file", rate=500, file=world.folder / "events.jsonl", duplicates=0),
            ]
            loads[0].first_ack_after(0)
            for _ in range(wanted):
                time.sleep(lot.uniform(0.05, 1.5))
                # What a killed process left half done must be done again before the power fails.
                if lot.random() < 1 / 3:
                    world.running.kill()
                    world.start()
                    time.sleep(lot.uniform(0, 0.3))
                disk.ask("cut")
                world.running.kill()
                lost.update(json.loads(disk.ask("on")))
                if lot.random() < 1 / 4:
                    lost.update(fail_again(world, disk, lot.uniform(0, 0.15)))
                began = time.time()
                world.start()
                to_ack.append(loads[0].first_ack_after(began) - began)
            for load in loads:
                load.stop()
            result = ledger.settle(world, [load.notes for load in loads])
    finally:
        disk.end()
    result.count = wanted
    took = f"start to first ack: median {statistics.median(to_ack):.2f} s" if to_ack else ""
    # Few cuts may all draw that everything survives.
    forgot = lost["sectors"] + lost["names"]
    result.expect(forgot or wanted < ENOUGH, "the disk forgot nothing, so this shows nothing")
    result.detail = f"the disk forgot {lost['sectors']:,} sectors and {lost['names']:,} changes of directories; {took}"
    return result


def fail_again(world: World, disk: Disk, after: float) -> dict[str, int]:
    """The power fails `after` seconds into a start, which is not waited for; what was lost."""
    variables = environment(TRACKSIDE_PYTHON=sys.executable, TRACKSIDE_PLANTED_BUG=world.context.bug)
    words = [str(PROGRAM), "up", world.file.name, "--json"]
    quiet = subprocess.DEVNULL
    starting = subprocess.Popen(
        words, cwd=world.folder, env=variables, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    time.sleep(after)
    disk.ask("cut")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(starting.pid, signal.SIGKILL)
    starting.wait()
    forgotten: dict[str, int] = json.loads(disk.ask("on"))
    return forgotten


ROWS = [Row("4", "power loss, the real command", power_loss, unit="cuts", seconds=60, alone=True)]
