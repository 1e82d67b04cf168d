"""The log on a real nats-server: engine and server are killed, the tables are those of a straight run on files.

Also on two hosts: one takes, cleans and keeps, the other one scores and is killed again and again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import TABLES, Start, Straight, machine_text
from running import COMMAND, PATIENCE, Up, free_port, run, wait_for
from test_kill import compare

RATE = 2500
KILLS = 4


class Server:
    """One nats-server with a folder of its own."""

    def __init__(self, folder: Path, *, synced: bool, host: str = "127.0.0.1") -> None:
        self.host = host
        beside = Path(sys.executable).with_name("nats-server")
        self.program = str(beside) if beside.exists() else shutil.which("nats-server")
        if self.program is None:
            assert not os.environ.get("CI"), "nats-server is missing: `make venv dev` installs it"
            pytest.skip("nats-server is not installed")
        self.port, self.monitor = free_port(), free_port()
        self.config = folder / "nats.conf"
        always = ", sync_interval: always" if synced else ""
        self.config.write_text(
            f"listen: {host}:{self.port}\nhttp: {host}:{self.monitor}\n"
            f'jetstream {{ store_dir: "{folder / "js"}"{always} }}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert self.program
        words = [self.program, "-c", str(self.config)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("nats-server", self.answers)

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def bytes(self, stream: str) -> int:
        """Size of a stream."""
        with urllib.request.urlopen(f"http://{self.host}:{self.monitor}/jsz?streams=true", timeout=PATIENCE) as answer:
            accounts = json.load(answer)["account_details"]
        found = next(one for account in accounts for one in account["stream_detail"] if one["name"] == stream)
        return int(found["state"]["bytes"])

    @property
    def section(self) -> str:
        return (
            f'\n[log]\ntype = "nats"\nservers = ["nats://{self.host}:{self.port}"]\n'
            f'monitor = "http://{self.host}:{self.monitor}"\n'
        )


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"), synced=True)
    yield server
    server.kill()


def test_killed_engines_and_servers_leave_the_tables_of_a_straight_run_on_files(
    straight: Straight, machine_csv: Path, server: Server, start: Start, seed: int
) -> None:
    total = straight.summary["scored"]
    lot = random.Random(seed)
    text = machine_text(machine_csv, pace=f"rate = {RATE}", commits='rows = 600\nage = "150ms"') + server.section
    up = start(text)
    for number, rows in enumerate(sorted(lot.sample(range(total // 50, total * 4 // 5), KILLS))):
        up.wait(f"{rows} scores", partial(has_scored, rows))
        if number % 2:
            server.kill()
            server.start()
        else:
            up.kill()
            up = start()
    up.kill()
    summary = start(None, "--until-idle").end()
    assert summary["balanced"], summary
    for name in ("taken", "received", "clean", "scored", "forecasts", "anomalies", "table_rows"):
        assert summary[name] == straight.summary[name], f"{name} of seed {seed}"
    for topic in TABLES:
        compare(topic, straight.data, up.data, seed)


def has_scored(rows: int, status: dict[str, Any]) -> bool:
    return bool(sum(model["scored"] for model in status["sums"]["models"].values()) >= rows)


def test_a_weak_set_up_is_told_in_words(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, start: Start) -> None:
    server = Server(tmp_path_factory.mktemp("nats"), synced=False)
    try:
        text = '[pipeline]\nname = "weak"\n[schema]\nfields = { value = "float" }\n[server]\nlisten = "127.0.0.1:0"\n'
        up = start(text + server.section)
        words = "acknowledges before it syncs"
        assert words in run("check", "pipeline.toml", folder=tmp_path).out
        assert words in run("status", "pipeline.toml", folder=tmp_path).out
        assert words in up.status()["weakness"]
        up.stop()
    finally:
        server.kill()


HOSTS_KILLS = 6
LEASE_S = 2

SHARED = """
[pipeline]
name = "shared"
partitions = 2
snapshot_every = "200ms"

[schema]
time = {{ field = "ts", unit = "ms" }}
series = ["device"]
fields = {{ value = "float" }}

[[source]]
type = "http"

[[clean]]
type = "range"
field = "value"
max = 900.0
action = "reject"

[[clean]]
type = "hampel"
field = "value"
window = 7

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"

[[sink]]
type = "parquet"
topic = "scores.anomaly"

[server]
listen = "{listen}:0"
"""


def body(number: int) -> str:
    """The events of one request: eight devices, a spike now and then, and one value in a thousand that is rejected."""
    lot = random.Random(number)
    at = 1_700_000_000_000 + number * 1000
    lines = []
    for device in range(8):
        value = 1000.0 if lot.random() < 0.001 else lot.gauss(20, 1) + (40 if lot.random() < 0.01 else 0)
        lines.append(f'{{"ts":{at + device},"device":"d{device}","value":{value}}}\n')
    return "".join(lines)


def post(up: Up, number: int) -> None:
    answer = up.request("POST", "/ingest", body(number), Content_Type="application/x-ndjson")
    assert answer.status == 200, answer


class Posting:
    """Posts in a thread of its own until it is stopped; every request must be acknowledged."""

    def __init__(self, up: Up, first: int = 0) -> None:
        self.up, self.sent, self.stopped = up, first, threading.Event()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            while not self.stopped.wait(0.004):
                post(self.up, self.sent)
                self.sent += 1
        except BaseException as error:
            self.failed = error

    def stop(self) -> int:
        self.stopped.set()
        self.thread.join(PATIENCE)
        assert self.failed is None, self.failed
        return self.sent


def ip(*words: str) -> bool:
    """`ip ...`; whether it worked."""
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """Networks of their own: number n is 10.214.n.2, with a cable to 10.214.n.1 here; none if not permitted."""
    names = [f"two{os.getpid()}n{number}" for number in range(count)]
    made = shutil.which("ip") is not None
    try:
        for number, name in enumerate(names):
            cable, inside = f"tw{os.getpid() % 10**6}n{number}", ("netns", "exec", name, "ip")
            made = made and ip("netns", "add", name)
            made = made and ip("link", "add", cable, "type", "veth", "peer", "name", f"{cable}i", "netns", name)
            made = made and ip("addr", "add", f"10.214.{number}.1/24", "dev", cable) and ip("link", "set", cable, "up")
            made = made and ip(*inside, "addr", "add", f"10.214.{number}.2/24", "dev", f"{cable}i")
            made = made and ip(*inside, "link", "set", f"{cable}i", "up") and ip(*inside, "link", "set", "lo", "up")
            made = made and ip(*inside, "route", "add", "default", "via", f"10.214.{number}.1")
        yield names if made else []
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.parametrize("hosts", ["two processes", "two network namespaces"])
def test_a_killed_host_of_models_loses_nothing(
    hosts: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, start: Start, seed: int
) -> None:
    if hosts == "two processes":
        survive(tmp_path_factory.mktemp("nats"), start, seed, [], tmp_path)
        return
    with namespaces(2) as names:
        if not names:
            pytest.skip("network namespaces need root and `ip`")
        survive(tmp_path_factory.mktemp("nats"), start, seed, names, tmp_path)


def survive(nats: Path, start: Start, seed: int, networks: list[str], folder: Path) -> None:
    """Six kills of the models' host, one of them with its disk, and one of the other; then a straight run on files."""
    lot = random.Random(seed)
    of_server, of_page = ("0.0.0.0", "10.214.0.2") if networks else ("127.0.0.1", "127.0.0.1")
    server = Server(nats, synced=True, host=of_server)
    hosts, started = [folder / "taking", folder / "scoring"], []

    def begin(number: int) -> Up:
        only = ("ingest,clean,sinks,server", "models")[number]
        under = ("ip", "netns", "exec", networks[number]) if networks else ()
        up = Up(hosts[number] / "pipeline.toml", ("--only", only), {}, (*under, str(COMMAND)))
        started.append(up)
        assert up.ready.get("ready"), up.ready
        return up

    try:
        for number, host in enumerate(hosts):
            host.mkdir()
            address = f"10.214.{number}.1" if networks else "127.0.0.1"
            section = server.section.replace(of_server, address) + f"lease_s = {LEASE_S}\n"
            (host / "pipeline.toml").write_text(SHARED.format(listen=of_page) + section)
        scoring = begin(1)  # either may come first
        taking = begin(0)
        assert scoring.ready["only"] == "models" and scoring.ready["url"] is None
        posting = Posting(taking)
        scored = 0
        for kill in range(HOSTS_KILLS):
            scored = taking.wait("more scores", partial(has_scored, scored + 400))["sums"]["models"]["anomaly"][
                "scored"
            ]
            time.sleep(lot.uniform(0, 0.3))
            scoring.kill()
            if kill == HOSTS_KILLS // 2:
                shutil.rmtree(scoring.data)  # another host takes over, when the lease of the dead one has run out
            scoring = begin(1)
            if kill == 1:
                sent = posting.stop()  # now the other one: models see `clean` go on in another reign
                taking.kill()
                taking = begin(0)
                posting = Posting(taking, sent)
        sent = posting.stop()
        status = taking.wait("all to be scored", nothing_in_flight)
        stages = {stage["name"]: stage["state"] for stage in status["stages"]}
        assert stages["anomaly"] == "elsewhere" and status["models"][0]["state"] == "elsewhere", status
        summaries = taking.stop(), scoring.stop()
        assert not any((host / "data" / "snapshots").exists() for host in hosts)
    finally:
        for up in started:
            up.kill()
        server.kill()
    for summary in summaries:
        assert summary["balanced"] and summary["in_flight"] == 0, summary
        assert summary["taken"] == sent * 8 and summary["scored"] == summary["clean"], summary
    straight = start(SHARED.format(listen="127.0.0.1"))
    for number in range(sent):
        post(straight, number)
    straight.wait("the straight run", nothing_in_flight)
    expected = straight.stop()
    for name in ("taken", "received", "clean", "dead", "scored", "anomalies", "table_rows"):
        assert summaries[0][name] == expected[name], f"{name} of seed {seed}"
    for topic in ("clean", "scores.anomaly"):
        compare(topic, straight.data, hosts[0] / "data", seed)


def nothing_in_flight(status: dict[str, Any]) -> bool:
    sums = status["sums"]
    return bool(sums["ingest"]["taken"] and not sums["clean"]["in_flight"] + sums["models"]["anomaly"]["in_flight"])


KEPT = 2 << 20
"""What retention keeps of 1 MiB at the most: whole frames."""

AWAY = """
[pipeline]
name = "away"
partitions = 1
snapshot_every = "200ms"

[schema]
time = { field = "ts", unit = "ms" }
series = []
fields = { value = "float", payload = "string" }

[[source]]
type = "http"

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "dead-letter"
age = "100ms"

[retention]
max_mib = 1

[server]
listen = "127.0.0.1:0"
"""


def large(number: int) -> str:
    """A request of 100 KB."""
    payload = "x" * 1000
    lines = (f'{{"ts":{1_700_000_000_000 + number * 100 + i},"value":{i},"payload":"{payload}"}}' for i in range(100))
    return "\n".join(lines)


def test_what_a_host_that_is_away_still_needs_is_kept(tmp_path: Path, server: Server) -> None:
    hosts = {"ingest,clean,sinks,server": tmp_path / "taking", "models": tmp_path / "scoring"}
    for host in hosts.values():
        host.mkdir()
        (host / "pipeline.toml").write_text(AWAY + server.section + f"lease_s = {LEASE_S}\n")
    ups: list[Up] = []

    def begin(only: str) -> Up:
        ups.append(Up(hosts[only] / "pipeline.toml", ("--only", only)))
        return ups[-1]

    try:
        taking, scoring = begin("ingest,clean,sinks,server"), begin("models")
        for number in range(10):
            assert taking.request("POST", "/ingest", large(number)).status == 200
        taking.wait("the first scores", partial(has_scored, 1000))
        scoring.kill()
        shutil.rmtree(scoring.data)
        for number in range(10, 60):
            assert taking.request("POST", "/ingest", large(number)).status == 200
        posted = 60

        def trimmed(topic: str) -> bool:
            """Snapshots, and with them what is kept, move on as long as rows come."""
            nonlocal posted
            assert taking.request("POST", "/ingest", large(posted)).status == 200
            posted += 1
            time.sleep(0.3)
            return server.bytes(f"away~{topic}~0") < KEPT

        # `received` is trimmed, for cleaning is through and has its snapshots; `clean` waits for the models.
        wait_for("retention of received", partial(trimmed, "received"))
        assert server.bytes("away~clean~0") > 2 * KEPT
        scoring = begin("models")
        rows = posted * 100
        status = taking.wait("all scores", partial(has_scored, rows))
        model = status["sums"]["models"]["anomaly"]
        assert (model["scored"], model["lost"], model["skipped"], model["balanced"]) == (rows, 0, 0, True), model
        wait_for("retention of clean", partial(trimmed, "clean"))
        assert taking.stop()["balanced"] and scoring.stop()["balanced"]
    finally:
        for up in ups:
            up.kill()


def test_five_processes_of_one_stage_each_end_with_the_tables_of_a_straight_run(
    straight: Straight, machine_csv: Path, server: Server, tmp_path: Path, seed: int
) -> None:
    ups: dict[str, Up] = {}
    try:
        for stage in ("sinks", "models", "server", "clean", "ingest"):
            folder = tmp_path / stage
            folder.mkdir()
            (folder / "pipeline.toml").write_text(machine_text(machine_csv) + server.section)
            ups[stage] = Up(folder / "pipeline.toml", ("--only", stage, "--until-idle"))
        states = {stage["name"]: stage["state"] for stage in ups["server"].status()["stages"]}
        assert states == {"clean": "elsewhere", "anomaly": "elsewhere", "forecast": "elsewhere"}
        summaries = {stage: up.end() for stage, up in ups.items()}
    finally:
        for up in ups.values():
            up.kill()
    for stage, summary in summaries.items():
        assert summary["balanced"], (stage, summary)
    for name in ("taken", "received", "clean", "scored", "forecasts", "anomalies", "table_rows"):
        assert summaries["sinks"][name] == straight.summary[name], name
    for topic in TABLES:
        compare(topic, straight.data, ups["sinks"].data, seed)
