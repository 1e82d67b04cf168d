"""`latency`: 100 posts a second of 100 events each → the row in `scores.anomaly`, read by another process.

Each event's time is the moment (CLOCK_MONOTONIC, shifted to a date) at which its post was meant to leave, so a stall of
ours, of the server or of the load generator itself counts in full. Three processes: engine with its worker, load,
reader. HTTP answers 200 only after the fsync; the live path does not wait for it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import workload

PIPELINE = """
[pipeline]
name = "latency"

[schema]
time = { field = "ts", unit = "ns" }
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }
unknown = "ignore"

[[source]]
type = "http"

[[clean]]
type = "dedupe"
by = "seq"

[[clean]]
type = "hampel"
field = "value"

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""
POSTS, EVENTS, EVERY_NS = 1000, 100, 10_000_000
CONNECTIONS = 4
EPOCH_NS = 1_700_000_000_000_000_000
GOALS_MS = (5, 30)
PATIENCE_S = 60


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    workload.FOLDER.mkdir(parents=True, exist_ok=True)
    rounds = [once() for _ in range(arguments.runs)]
    scored, answered = ([one[what] for one in rounds] for what in ("scored", "answered"))
    report = {}
    for what, latencies in (("scored", scored), ("answered", answered)):
        spread = {key: measure.Spread([one[key] / 1e3 for one in latencies]) for key in ("p50_us", "p99_us")}
        say(f"  {what:9} p50 {spread['p50_us'].text(1, 2)} ms, p99 {spread['p99_us'].text(1, 2)} ms")
        report[what] = {key.removesuffix("_us"): round(s.median, 3) for key, s in spread.items()}
    say(f"  goal for `scored` (the row can be read by another process): p50 ≤ {GOALS_MS[0]}, p99 ≤ {GOALS_MS[1]} ms")
    return {
        "latency_ms": report["scored"],
        "answered_ms": report["answered"],
        "counts": {"posts": POSTS, "events": POSTS * EVENTS, "scored": rounds[0]["rows"]},
        "runs": [{"scored": s, "answered": a} for s, a in zip(scored, answered, strict=True)],
    }


def once() -> dict[str, Any]:
    """One pipeline, one load, one reader."""
    folder = Path(tempfile.mkdtemp(prefix="latency-", dir=workload.FOLDER))
    (folder / "pipeline.toml").write_text(PIPELINE)
    command = [workload.ROOT / ".venv/bin/trackside", "up", "pipeline.toml", "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as engine:
        try:
            assert engine.stdout is not None
            ready = json.loads(engine.stdout.readline())
            token = ready["token_url"].split("token=")[1]
            wait_for_worker(ready["port"], token)
            python = workload.ROOT / ".venv/bin/python"
            reader = subprocess.Popen([python, __file__, folder / "data"], stdout=subprocess.PIPE, text=True)
            assert reader.stdout is not None
            reader.stdout.readline()  # it stands at the end of the topic
            answered = load(ready["port"], token)
            seen = json.loads(reader.communicate(timeout=PATIENCE_S)[0])
        finally:
            engine.terminate()
    shutil.rmtree(folder)
    if seen["rows"] < POSTS * EVENTS:
        raise SystemExit(f"{seen['rows']} of {POSTS * EVENTS} rows were scored; this is not a result")
    # The first rows wait for numbered series and warm caches, as after any start: `percentiles` leaves 5 % out.
    return {
        "scored": measure.percentiles(seen["latencies"]),
        "answered": measure.percentiles(answered),
        "rows": seen["rows"],
    }


def wait_for_worker(port: int, token: str) -> None:
    """Posts events until one is scored: then the worker has loaded its model."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/ingest", body(-1, -1), headers)
        connection.getresponse().read()
        connection.request("GET", "/api/status", headers=headers)
        status = json.loads(connection.getresponse().read())
        connection.close()
        if status["sums"]["models"]["anomaly"]["scored"] > 0:
            return
        time.sleep(0.1)
    raise SystemExit("the worker did not score anything; see the engine's messages above")


def body(number: int, due: int) -> bytes:
    """Post number `number`: 100 series, one event each."""
    line = '{"ts":%d,"device":"truck-%05d","sensor":"temp","value":%.3f,"seq":%d}\n'
    value = 20 + number % 7 * 0.1 + (50 if number % 500 == 499 else 0)
    return "".join(line % (EPOCH_NS + due, device, value, number + 1) for device in range(EVENTS)).encode()


def load(port: int, token: str) -> list[int]:
    """Posts at their time, over a few connections so that one slow answer delays no other post."""
    began = time.monotonic_ns() + 50_000_000
    answered: list[list[tuple[int, int]]] = [[] for _ in range(CONNECTIONS)]

    def post(which: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
        for number in range(which, POSTS, CONNECTIONS):
            due = began + number * EVERY_NS
            text = body(number, due)
            time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            connection.request("POST", "/ingest", text, headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"a post was answered {response.status}")
            answered[which].append((number, time.monotonic_ns() - due))

    threads = [threading.Thread(target=post, args=(which,)) for which in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [late for _, late in sorted(pair for part in answered for pair in part)]


def read(data: str) -> None:
    """The reader's process: follows `scores.anomaly` and notes when each post's rows could be read."""
    import trackside  # noqa: PLC0415 (only the reader needs the package)

    latencies: dict[int, int] = {}
    rows = 0
    batches = trackside.connect(data).live("scores.anomaly", timeout=5)
    print("ready", flush=True)
    for batch in batches:
        anomaly, now = batch["anomaly"], time.monotonic_ns()
        for due in sorted(set((batch.time - EPOCH_NS).tolist())):
            if due > 0 and len(anomaly):
                latencies[due] = now - due  # the last of a post's rows counts
        rows += int((batch.time > EPOCH_NS).sum())
        if rows >= POSTS * EVENTS:
            break
    print(json.dumps({"latencies": [latencies[due] for due in sorted(latencies)], "rows": rows}))


if __name__ == "__main__":
    read(sys.argv[1])
