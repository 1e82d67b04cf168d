"""Rows 13 to 18: Python models that raise, crash, hang, leak, talk nonsense, or are killed.

Ingest never stops for any of them; the row that kills is a dead letter, every other row has its score as if nothing had
been, which a running sum shows for all rows behind.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import ledger
import numpy as np
import tables
from row import Context, Result, Row
from world import COMMON, World, left_behind, wait_for

MODELS = Path(__file__).resolve().parent.parent / "broken_models.py"
POISON_N = -2664
"""`n` of a poisonous event; its value is a quarter of it."""

SUB_RUNS_MAX = 27
"""Runs that finding one row of a batch of 8192 may take."""

HTTP = '\n[[source]]\ntype = "http"\n'
SCORES = '\n[[sink]]\ntype = "parquet"\ntopic = "scores.sum"\nage = "100ms"\n'


def text(model: str, more: str = "", partitions: int = 2) -> str:
    """A pipeline with one of the broken models."""
    block = f'\n[[model]]\nname = "sum"\nuse = "broken_models.py:{model}"\nfield = "value"\n{more}\n'
    return COMMON.replace("partitions = 2", f"partitions = {partitions}") + HTTP + block + SCORES


@contextlib.contextmanager
def world_of(context: Context, name: str, model: str, more: str = "", partitions: int = 2) -> Iterator[World]:
    """A running world with a broken model."""
    with World(context, name, text(model, more, partitions)) as world:
        shutil.copy(MODELS, world.folder)
        world.start()
        yield world


class Poster:
    """Posts single events by hand, with notes for the ledger."""

    def __init__(self, world: World) -> None:
        self.world, self.notes, self.made = world, world.folder / "posted", 0
        self.notes.mkdir()
        (self.notes / "intent.log").write_text("id,device,seq,kind,hash,t\n")
        (self.notes / "ack.log").write_text("id,state,t\n")

    def post(self, *numbers: int) -> None:
        """Events with these `n`, in one body; they must be acknowledged."""
        events, intents, acks = [], "", ""
        for number in numbers:
            event_id, now = f"{0xBAD:08x}{self.made:024x}", time.time_ns() // 1000
            event = {"id": event_id, "ts": 1_700_000_000_000 + self.made, "device": "hand", "seq": self.made}
            events.append({**event, "n": number, "value": number / 4, "payload": ""})
            crc = zlib.crc32(f"{event_id}|hand|{self.made}|{number}|".encode())
            intents += f"{event_id},hand,{self.made},row,{crc},{now}\n"
            acks += f"{event_id},acked,{now}\n"
            self.made += 1
        with (self.notes / "intent.log").open("a") as log:
            log.write(intents)
        self.world.running.ingest(*events)
        with (self.notes / "ack.log").open("a") as log:
            log.write(acks)


def judge(world: World, result: Result, dead: int, notes: list[Path]) -> None:
    """The ledger, and that every clean row but so many has its score: the sum of all before it in its partition."""
    result.add(ledger.settle(world, notes))
    with duckdb.connect() as db:
        places = f"{world.data}/tables"
        rows = db.execute(
            f"""select c._partition, c.value, s.score from read_parquet('{places}/clean/**/*.parquet') c
                left join read_parquet('{places}/scores.sum/**/*.parquet') s
                on s."partition" = c._partition and s."offset" = c._offset order by c._partition, c._offset"""
        ).fetchnumpy()
    letters = tables.rows(world.data, "dead-letter", columns="stage", order="received_at")
    there = sum(letter["stage"] == "model" for letter in letters)
    scores = np.ma.filled(np.ma.asarray(rows["score"]).astype(float), np.nan)
    wrong = 0
    for partition in np.unique(rows["_partition"]):
        mine = rows["_partition"] == partition
        scored = mine & ~np.isnan(scores)
        before = np.concatenate([[0.0], np.cumsum(rows["value"][scored])[:-1]])
        wrong += int((scores[scored] != before).sum())
    result.expect(wrong == 0, f"{wrong} scores are not those of an uninterrupted run without the dead")
    missing = int(np.isnan(scores).sum())
    result.expect(missing == there == dead, f"{missing} rows without a score, {there} dead letters, {dead} poisonous")


def buried(dead: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a status says that the model has so many dead letters."""
    return lambda status: bool(status["sums"]["models"]["sum"]["dead"] == dead)


def other_than(pid: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a status names another worker."""
    return lambda status: status["models"][0]["pid"] not in (None, pid)


def gone(pid: int) -> Callable[[], bool]:
    """Whether a process is no more."""
    return lambda: not Path(f"/proc/{pid}").exists()


def poison(context: Context) -> Result:
    """Row 13: an exception on one of 10,000 rows."""
    result, lot, most = Result(count=context.count(1, 5, 100)), context.lot(), 0
    calls = context.folder / "calls.txt"
    more = f'options = {{ how = "raise", calls = "{calls}" }}'
    with world_of(context, "world", "Sum", more, partitions=1) as world:
        poster = Poster(world)
        poster.post(1)
        for number in range(result.count):
            world.running.wait("all scored", ledger.idle)
            calls.write_text("")
            at = lot.randrange(10_000)
            poster.post(*(POISON_N if n == at else n % 4000 for n in range(10_000)))
            world.running.wait("the dead letter", buried(number + 1))
            world.running.wait("all scored", ledger.idle)
            # Two batches hold 10,000 rows; what is beyond them is the search.
            most = max(most, len(calls.read_text().splitlines()) - 2)
        judge(world, result, result.count, [poster.notes])
    result.expect(most <= SUB_RUNS_MAX, f"finding the row took {most} runs")
    result.detail = f"at most {most} runs to find the row"
    return result


def crash(context: Context) -> Result:
    """Row 14: a segmentation fault, `os._exit`, the kernel's killer, under load."""
    result, ratios = Result(), []
    kinds = ["segfault", "exit", "oom"]
    for number in range(context.count(1, 5, 100)):
        how = kinds[number % len(kinds)]
        with world_of(context, f"world-{number}", "Sum", f'options = {{ how = "{how}" }}') as world:
            poster = Poster(world)
            poster.post(1)
            alone = world.load("alone", rate=800, events=1600, duplicates=0).wait()
            load = world.load("load", rate=800, duplicates=0)
            load.first_ack_after(time.time())
            poster.post(POISON_N)
            world.running.wait("the dead letter", buried(1))
            beside = load.stop()
            ratios.append(beside["ack_ms_p99"] / alone["ack_ms_p99"])
            judge(world, result, 1, [poster.notes, *(load.notes for load in world.loads)])
            result.count += 1
    ratio = float(np.median(ratios))
    # The crashing worker shares the two cores with the load: the bar is for a machine that has one to spare.
    result.expect(ratio <= 1.2 or (os.cpu_count() or 1) <= 2, f"ack p99 became {ratio:.2f} times as long")
    result.detail = f"ack p99 {ratio:.2f} × as long while the model crashes (median)"
    return result


def hang(context: Context) -> Result:
    """Row 15: loops; ended at the deadline and a second, replaced within three, nobody left behind."""
    result, slowest, back = Result(), 0.0, 0.0
    kinds = ["loop", "loop deaf", "loop in c", "loop with child"]
    for number in range(context.count(1, 4, 50)):
        how = kinds[number % len(kinds)]
        mark = f"hang-{os.getpid()}-{context.seed}-{number}-{how.replace(' ', '-')}"
        more = f'deadline = "1s"\noptions = {{ how = "{how}" }}'
        with World(context, f"world-{number}", text("Sum", more, 1)) as world:
            shutil.copy(MODELS, world.folder)
            world.start(TRACKSIDE_TEST_MARK=mark)
            poster = Poster(world)
            poster.post(1)
            pid = world.running.wait("a score", ledger.idle)["models"][0]["pid"]
            poster.post(POISON_N)
            began = time.monotonic()
            wait_for("the worker's end", gone(pid))
            slowest = max(slowest, time.monotonic() - began)
            began = time.monotonic()
            world.running.wait("another worker", other_than(pid))
            back = max(back, time.monotonic() - began)
            poster.post(2)
            world.running.wait("the dead letter", buried(1))
            judge(world, result, 1, [poster.notes])
            left = left_behind(mark)
            result.expect(not left, f"{how}: processes {left} are left behind")
            for orphan in left:
                os.kill(orphan, signal.SIGKILL)
            result.count += 1
    result.expect(slowest <= 2.0, f"a hanging worker was ended after {slowest:.1f} s")
    result.expect(back <= 3.0, f"it was replaced after {back:.1f} s")
    result.detail = f"ended within {slowest:.1f} s (deadline 1 s), replaced within {back:.1f} s"
    return result


def leak(context: Context) -> Result:
    """Row 16: 10 MiB a batch; a new worker at the limit, between two batches, and no result lost."""
    result, batches = Result(count=1), context.count(20, 60, 2000)
    with world_of(context, "world", "Leak", "memory_mib = 160", partitions=1) as world:
        poster, workers = Poster(world), set()
        for number in range(batches):
            poster.post(number)
            workers.add(world.running.wait("its score", partial(has_scored, number + 1))["models"][0]["pid"])
        judge(world, result, 0, [poster.notes])
    result.expect(len(workers) > batches // 25, f"{len(workers)} workers for {batches} batches")
    result.detail = f"{len(workers)} workers for {batches} leaking batches"
    return result


def has_scored(rows: int, status: dict[str, Any]) -> bool:
    """Whether so many rows have their scores."""
    return bool(status["sums"]["models"]["sum"]["scored"] >= rows)


def wild(context: Context) -> Result:
    """Row 17: answers of the wrong shape, type and size, nonsense on the line, closed files, forks."""
    result = Result(count=context.count(8, 200, 5000))
    with world_of(context, "world", "Wild", 'deadline = "1s"\nmemory_mib = 512', partitions=1) as world:
        poster = Poster(world)
        poster.post(1)
        done = 1
        for number in context.lot().sample(range(max(200, result.count)), result.count):
            poster.post(-2004 - 4 * number - 4)
            done += 1

            def verdict(status: dict[str, Any], wanted: int = done) -> bool:
                sums = status["sums"]["models"]["sum"]
                return bool(sums["scored"] + sums["dead"] == wanted)

            status = world.running.wait(f"a verdict on answer {number}", verdict)
        dead = status["sums"]["models"]["sum"]["dead"]
        said = world.running.err.read_text(errors="replace")
        result.expect("panicked" not in said, "something panicked, see stderr.txt")
        result.add(ledger.settle(world, [poster.notes]))
    result.detail = f"{dead} dead letters, {result.count - dead} answers that could be read as scores"
    return result


def killed(context: Context) -> Result:
    """Row 18: the worker is killed at any moment; its scores are those of a run in which it never was, bit for bit."""
    result = Result(count=context.count(4, 30, 1000), events=context.count(3000, 20_000, 200_000))
    lot = context.lot()
    events = context.folder / "events.jsonl"
    with events.open("w") as file:
        for n in range(result.events):
            value = round(lot.gauss(100, 3), 3) + (40 if lot.random() < 0.002 else 0)
            event = {"id": f"{n:032x}", "ts": 1_700_000_000_000 + n * 50, "device": f"k{n % 5}", "seq": n // 5}
            file.write(json.dumps({**event, "n": n, "value": value, "payload": ""}) + "\n")
    found = []
    for name in ("straight", "killed"):
        rate = f"rate = {result.events / (result.count * 1.0)}" if name == "killed" else ""
        source = f'\n[[source]]\ntype = "file"\npath = "{events}"\n{rate}\n'
        models = "".join(
            f'\n[[model]]\nname = "{model}"\nuse = "{use}"\nfield = "value"\n'
            f'[[sink]]\ntype = "parquet"\ntopic = "scores.{model}"\n'
            for model, use in (("sum", "broken_models.py:Sum"), ("anomaly", "trackside.models:Anomaly"))
        )
        with World(context, name, COMMON + source + models) as world:
            shutil.copy(MODELS, world.folder)
            up = world.start("--until-idle")
            kills = 0
            while name == "killed" and kills < result.count:
                time.sleep(lot.uniform(0.0, 0.5))
                if up.process.poll() is not None:
                    break
                # It may end between the look and the kill.
                with contextlib.suppress(ProcessLookupError, OSError, http.client.HTTPException):
                    pid = lot.choice(up.status()["models"])["pid"]
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
            summary = up.end(120)
            result.expect(summary["balanced"] and summary["dead"] == 0, f"{name}: {summary}")
            found.append([scores_of(world.data, model) for model in ("sum", "anomaly")])
            if name == "killed":
                result.expect(kills >= result.count * 0.8, f"it ended after {kills} kills")
                result.count = kills
    for straight, other in zip(*found, strict=True):
        differing = sum(a != b for a, b in zip(straight, other, strict=False)) + abs(len(straight) - len(other))
        result.expect(differing == 0, f"{differing} of {len(straight)} scores differ from a straight run's")
    result.detail = "scores equal a straight run's bit for bit" if not result.bars else ""
    return result


def scores_of(data: Path, model: str) -> list[dict[str, Any]]:
    """All scores in the log's order, without offsets: frames without rows, which differ in number, shift those."""
    columns = '* exclude ("offset", _offset)'
    return tables.rows(data, f"scores.{model}", columns=columns, order='"partition", "offset"')


ROWS = [
    Row("13", "model raises on 1 of 10,000", poison, unit="poisons", seconds=30),
    Row("14", "model crashes on one row", crash, unit="crashes", seconds=40, alone=True),
    Row("15", "model hangs", hang, unit="loops", seconds=30, alone=True),
    Row("16", "model leaks", leak, unit="runs", seconds=30),
    Row("17", "model talks nonsense", wild, unit="answers", seconds=200),
    Row("18", "worker killed at any moment", killed, unit="kills", seconds=60),
]
