"""Rows 1, 18, 21, 22 and 24 with the log in NATS JetStream: the same ledger over another log.

Servers are real, and sync before they acknowledge. What breaks is the engine, a server, the network between them, or
all of it before the start; what was acknowledged is in the tables once, whatever broke.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random

import duckdb
import ledger
from row import Context, Result, Row
from servers import Servers, missing
from world import COMMON, World, wait_for

FIRST_ACK_MAX_S = 10.0
"""From the moment that the servers are there to the first acknowledged event."""

RATE = 800

HTTP = '\n[[source]]\ntype = "http"\n'


MODEL = """
[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "scores.anomaly"
age = "100ms"
"""


def under_load(context: Context, servers: Servers, strike: Callable[[World, int], None], count: int) -> Result:
    """A load, so many strikes, and the ledger."""
    with World(context, "world", COMMON + servers.section() + HTTP) as world:
        world.start()
        load = world.load(rate=RATE, given_up=0.05)
        load.first_ack_after(0)
        waits = []
        for number in range(count):
            strike(world, number)
            healed = time.time()
            waits.append(load.first_ack_after(healed) - healed)
        load.stop()
        result = ledger.settle(world, [load.notes])
    result.count, result.detail = count, f"first ack after healing: at most {max(waits):.1f} s"
    return result


def engine_kills(context: Context) -> Result:
    """`kill -9` of the engine and its workers."""
    if missing():
        return Result(skipped=missing())
    lot = context.lot()

    def strike(world: World, _: int) -> None:
        time.sleep(lot.uniform(0.05, 1.0))
        world.running.kill()
        world.start()

    with Servers(context.room("servers"), 1) as servers:
        return under_load(context, servers, strike, context.count(3, 20, 500))


def model_host_kills(context: Context) -> Result:
    """`kill -9` of the process that runs the models, every third time with the loss of its disk."""
    if missing():
        return Result(skipped=missing())
    lot, count, waits = context.lot(), context.count(1, 12, 200), []
    with Servers(context.room("servers"), 1) as servers:
        text = COMMON + MODEL + servers.section() + "lease_s = 2\n" + HTTP
        with World(context, "taking", text) as taking, World(context, "scoring", text) as scoring:
            taking.start("--only", "ingest,clean,sinks,server")
            scoring.start("--only", "models")
            load = taking.load(rate=RATE)
            load.first_ack_after(0)
            for number in range(count):
                time.sleep(lot.uniform(0.05, 1.5))
                scoring.running.kill()
                if number % 3 == 2:
                    shutil.rmtree(scoring.data)
                healed = time.time()
                up = scoring.start("--only", "models")
                assert up.ready.get("ready"), up.ready
                wait_for("scores", partial(scores_beyond, taking, scored_by(taking)))
                waits.append(time.time() - healed)
            load.stop()
            result = ledger.settle(taking, [load.notes])
            twice, never = scores(taking)
            result.expect(not twice, f"{twice} rows are scored twice")
            result.expect(not never, f"{never} rows are not scored")
    result.count, result.detail = count, f"first score after a kill: at most {max(waits):.1f} s"
    return result


def scored_by(world: World) -> int:
    """Rows that the model has scored, as the host without it sees it."""
    return int(world.running.status()["sums"]["models"]["anomaly"]["scored"])


def scores_beyond(world: World, rows: int) -> bool:
    """Whether more rows are scored than these."""
    return scored_by(world) > rows


def scores(world: World) -> tuple[int, int]:
    """Clean rows that are scored more than once, and never."""
    files = [f"{world.data}/tables/{topic}/**/*.parquet" for topic in ("clean", "scores.anomaly")]
    with duckdb.connect() as db:
        found = db.execute(
            """with clean as (select _partition, _offset from read_parquet(?, hive_partitioning = false)),
                    score as (select "partition", "offset", count(*) as times
                              from read_parquet(?, hive_partitioning = false) group by all)
               select count(*) filter (times > 1), count(*) filter (times is null)
               from clean left join score on _partition = "partition" and _offset = "offset" """,
            files,
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def server_kills(context: Context) -> Result:
    """`kill -9` of one of three servers, leader or follower as it comes; the third time all of them."""
    if missing():
        return Result(skipped=missing())
    lot = context.lot()

    def strike(_: World, number: int) -> None:
        struck = range(3) if number % 3 == 2 else [lot.randrange(3)]
        for one in struck:
            servers.kill(one)
        time.sleep(lot.uniform(0.1, 2.0))
        servers.start_all()

    with Servers(context.room("servers"), 3) as servers:
        return under_load(context, servers, strike, context.count(1, 6, 150))


def wiped_servers(context: Context) -> Result:
    """`kill -9` of one of three servers and the loss of its disk; it comes back empty and copies from the others."""
    if missing():
        return Result(skipped=missing())
    lot = context.lot()

    def strike(_: World, __: int) -> None:
        struck = lot.randrange(3)
        servers.kill(struck)
        servers.wipe(struck)
        # What is not on both others would be lost with a second disk, and that is no promise of theirs or ours.
        wait_for("the others' copies", lambda: all(servers.healthy(n) for n in range(3) if n != struck))
        time.sleep(lot.uniform(0.1, 2.0))
        servers.start_all()
        wait_for("its copies", lambda: servers.streams(struck) == max(map(servers.streams, range(3))))
        wait_for("all copies", lambda: all(servers.healthy(number) for number in range(3)))

    with Servers(context.room("servers"), 3) as servers:
        return under_load(context, servers, strike, context.count(1, 3, 30))


def frozen_servers(context: Context) -> Result:
    """SIGSTOP of one of three servers for 30 s: its connections stay open and say nothing."""
    if missing():
        return Result(skipped=missing())

    def strike(_: World, number: int) -> None:
        servers.freeze(number % 3, frozen=True)
        time.sleep(30 if context.tier != "test" else 5)
        servers.freeze(number % 3, frozen=False)

    with Servers(context.room("servers"), 3) as servers:
        return under_load(context, servers, strike, context.count(1, 2, 30))


def down_at_start(context: Context) -> Result:
    """The pipeline is started first, the servers seconds later."""
    if missing():
        return Result(skipped=missing())
    lot, total, waits = context.lot(), Result(), []
    count = context.count(1, 10, 100)
    for number in range(count):
        with Servers(context.room(f"servers-{number}"), 3 if number % 2 else 1, start=False) as servers:
            text = COMMON + servers.section() + HTTP
            with World(context, f"world-{number}", text) as world:
                there: list[float] = []
                timer = threading.Timer(lot.uniform(0.5, 3), come, (servers, there))
                timer.start()
                world.start()
                timer.join()
                load = world.load(rate=RATE)
                waits.append(load.first_ack_after(0) - there[0])
                load.stop()
                total.add(ledger.settle(world, [load.notes]))
    total.count, total.detail = count, f"first ack at most {max(waits):.1f} s after the servers came"
    total.expect(max(waits) <= FIRST_ACK_MAX_S, f"{max(waits):.1f} s are more than {FIRST_ACK_MAX_S} s")
    return total


def come(servers: Servers, there: list[float]) -> None:
    """Start all servers and note when they were there."""
    servers.start_all()
    there.append(time.time())


def ip(*words: str) -> bool:
    """`ip …`; whether it worked."""
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


class Namespace:
    """A network of its own for the pipeline: one cable to the load, one to the servers, which can be pulled."""

    def __init__(self) -> None:
        self.name = f"trackside{os.getpid()}"
        self.here, self.cable = f"tsl{os.getpid() % 10**6}", f"tsn{os.getpid() % 10**6}"
        self.usable = shutil.which("ip") is not None and ip("netns", "add", self.name)

    def __enter__(self) -> Namespace:
        for number, cable in enumerate((self.here, self.cable)) if self.usable else ():
            ip("link", "add", cable, "type", "veth", "peer", "name", f"{cable}i")
            ip("link", "set", f"{cable}i", "netns", self.name)
            ip("addr", "add", f"10.213.{number}.1/24", "dev", cable)
            ip("link", "set", cable, "up")
            inside = ("netns", "exec", self.name, "ip")
            ip(*inside, "addr", "add", f"10.213.{number}.2/24", "dev", f"{cable}i")
            ip(*inside, "link", "set", f"{cable}i", "up")
            self.usable = ip(*inside, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        ip("netns", "del", self.name)
        ip("link", "del", self.here)
        ip("link", "del", self.cable)

    def pull(self, *, out: bool) -> None:
        """Pull the servers' cable, or put it back."""
        ip("link", "set", self.cable, "down" if out else "up")

    def deafen(self, *, servers: bool, deaf: bool) -> None:
        """One way only: the servers do not hear the pipeline any more, or it does not hear them."""
        route = ("route", "add" if deaf else "del", "blackhole", "10.213.1.1" if servers else "10.213.1.2")
        done = ip(*(("netns", "exec", self.name, "ip") if servers else ()), *route)
        assert done, f"ip {' '.join(route)}"


def cut(network: Namespace, lot: Random) -> None:
    """Nothing gets through for a while."""
    network.pull(out=True)
    time.sleep(lot.uniform(3, 20))
    network.pull(out=False)


def flap(network: Namespace, __: Random) -> None:
    """In and out, two seconds each."""
    for _ in range(3):
        network.pull(out=True)
        time.sleep(2)
        network.pull(out=False)
        time.sleep(2)


def one_way(network: Namespace, lot: Random) -> None:
    """One side hears the other and is not heard."""
    servers = lot.random() < 1 / 2
    network.deafen(servers=servers, deaf=True)
    try:
        time.sleep(lot.uniform(3, 20))
    finally:
        network.deafen(servers=servers, deaf=False)


def partitions(context: Context) -> Result:
    """The network between pipeline and servers is cut: both ways, in and out, one way; and comes back."""
    if missing():
        return Result(skipped=missing())
    lot, cuts = context.lot(), (cut, flap, one_way)
    with Namespace() as network:
        if not network.usable:
            return Result(skipped="network namespaces need root and `ip`")
        with Servers(context.room("servers"), 1, host="10.213.1.1") as servers:
            text = COMMON + servers.section() + HTTP
            with World(context, "world", text) as world:
                world.write(text + f'\n[server]\nlisten = "10.213.0.2:{world.port}"\n')
                world.start(under=("ip", "netns", "exec", network.name))
                load = world.load(rate=RATE, given_up=0.05, url=f"10.213.0.2:{world.port}")
                load.first_ack_after(0)
                waits = []
                for number in range(count := context.count(1, 5, 100)):
                    cuts[number % len(cuts)](network, lot)
                    healed = time.time()
                    waits.append(load.first_ack_after(healed) - healed)
                load.stop()
                result = ledger.settle(world, [load.notes])
    result.count, result.detail = count, f"first ack after healing: at most {max(waits):.1f} s"
    return result


ROWS = [
    Row("1", "kill -9 under load, on NATS", engine_kills, unit="kills", alone=True, seconds=120, tested=False),
    Row("18", "models' host killed, on NATS", model_host_kills, unit="kills", seconds=90, tested=False),
    Row("21", "NATS down at start", down_at_start, unit="starts", seconds=90, tested=False),
    Row("22", "NATS servers killed", server_kills, unit="kills", alone=True, seconds=120, tested=False),
    Row("22", "NATS server loses its disk", wiped_servers, unit="losses", alone=True, seconds=60, tested=False),
    Row("22", "NATS server frozen 30 s", frozen_servers, unit="stops", seconds=150, tested=False),
    Row("24", "NATS cut off", partitions, unit="cuts", seconds=150, tested=False),
]
