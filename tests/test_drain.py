"""SIGTERM and Ctrl-C under load: what was acknowledged is stored, the sums hold, it ends within ten seconds."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import threading
import time
from dataclasses import dataclass, field

import pytest
import tables
from conftest import Start
from running import TOKEN, Up, received

PIPELINE = """
[pipeline]
name = "drain"
snapshot_every = "200ms"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float", n = "integer" }

[[source]]
type = "http"

[[clean]]
type = "range"
field = "value"
max = 99.0

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
listen = "127.0.0.1:0"
"""

BODY = 50
DRAIN_MAX = 10.0
"""Seconds: what the command promises."""

NOT_STORED = (503,)
"""Answers that say that nothing was stored."""


@dataclass
class Client:
    """Posts bodies as fast as they are acknowledged, and keeps the ledger."""

    up: Up
    numbers: itertools.count[int]
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Until the server is gone."""
        while True:
            sent = list(itertools.islice(self.numbers, BODY))
            body = "".join(
                json.dumps({"ts": 1_700_000_000_000 + n, "device": f"d{n % 7}", "value": float(n % 100), "n": n}) + "\n"
                for n in sent
            )
            try:
                answer = self.post(body)
            except (OSError, http.client.HTTPException):
                self.unknown.update(sent)
                return
            if answer == 200:
                self.acknowledged.update(sent)
            elif answer not in NOT_STORED:
                self.unknown.update(sent)

    def post(self, body: str) -> int:
        return self.up.request("POST", "/ingest", body, Content_Type="application/x-ndjson").status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_under_load_drains_and_a_restart_goes_on(start: Start, number: signal.Signals) -> None:
    up = start(PIPELINE)
    numbers = itertools.count()
    clients = [Client(up, numbers) for _ in range(4)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    up.wait("load", received(5000))
    began = time.monotonic()
    up.signal(number)
    summary = up.end(DRAIN_MAX + 5)
    took = time.monotonic() - began
    for thread in threads:
        thread.join(30)
    assert took < DRAIN_MAX, f"the drain took {took:.1f} s"
    assert summary["balanced"], summary
    assert summary["in_flight"] == 0, summary
    assert summary["table_rows"] == summary["clean"] == summary["scored"] == summary["received"]
    stored = [row["n"] for row in tables.rows(up.data, "clean", columns="n")]
    acknowledged = set().union(*(client.acknowledged for client in clients))
    unknown = set().union(*(client.unknown for client in clients))
    assert len(stored) == len(set(stored)), "no row twice"
    assert acknowledged <= set(stored), "acknowledged means stored"
    assert set(stored) <= acknowledged | unknown, "refused means not stored"

    again = start(None)
    again.ingest({"ts": 1_700_009_000_000, "device": "d0", "value": 1.0, "n": -1})
    after = again.stop()
    assert after["balanced"], after
    assert after["received"] == summary["received"] + 1 == after["table_rows"] == after["scored"]


def test_a_drain_writes_what_was_on_its_way_and_no_end_of_input(start: Start) -> None:
    """A stop signal is no end of the input: the next start reads on as if nothing had been (law 7)."""
    up = start(PIPELINE)
    up.ingest(*({"ts": 1_700_000_000_000 + n, "device": "d", "value": 1.0, "n": n} for n in range(100)))
    up.stop()
    up = start(None)
    up.ingest({"ts": 1_700_000_000_100, "device": "d", "value": 1.0, "n": 100})
    summary = up.stop()
    assert summary["balanced"], summary
    offsets = [row["_offset"] for row in tables.rows(up.data, "clean", columns="_partition, _offset")]
    assert offsets == list(range(101)), "nothing was logged between the two runs"
    assert TOKEN not in up.said(), "the token is not logged"
