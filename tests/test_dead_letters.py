"""Dead letters that are sent round again: each goes on exactly once, also over kills while it is told to."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any

from conftest import Start
from running import COMMAND, PATIENCE, Up, environment, run, wait_for

LETTERS = 60
KILLS = 8

PIPELINE = """
[pipeline]
name = "letters"
partitions = 2

[schema]
series = ["device"]
fields = {{ value = "float", seq = "integer" }}

[[source]]
type = "http"

[[clean]]
type = "dedupe"
by = "seq"

[[clean]]
type = "range"
field = "value"
max = {limit}
action = "reject"

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""


def letters(folder: Path, *more: str) -> list[dict[str, Any]]:
    """What `trackside dead list` prints."""
    ran = run("dead", "list", "--json", *more, folder=folder)
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def tapped(folder: Path, topic: str) -> list[dict[str, Any]]:
    """All rows of a topic."""
    ran = run("tap", topic, "--limit", "100000", folder=folder)
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def balanced(status: dict[str, Any]) -> bool:
    """Whether everything is worked through and every sum holds."""
    sums = status["sums"]
    return bool(sums["ingest"]["balanced"] and sums["clean"]["balanced"] and sums["clean"]["in_flight"] == 0)


def retry_until_killed(up: Up, delay: float) -> None:
    """Tell it to send all letters back, and kill it so long after it was told."""
    words = [str(COMMAND), "dead", "retry", "--all", "--json"]
    told = subprocess.Popen(
        words, cwd=up.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    timer = threading.Timer(delay, up.kill)
    timer.start()
    told.wait(PATIENCE)
    timer.join()


def test_each_letter_goes_on_once_over_kills(start: Start) -> None:
    """Kills while letters are sent back: none is sent twice, none is lost, and every sum holds in the end."""
    up = start(PIPELINE.format(limit=10))
    events = [{"device": f"d{n % 7}", "value": 100 + n, "seq": n} for n in range(LETTERS)]
    for event in events:
        up.ingest(event)
    up.wait("the letters", lambda status: status["sums"]["clean"]["dead"] == LETTERS and balanced(status))
    up.kill()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    lot = random.Random(seed)
    wider = PIPELINE.format(limit=10_000)
    for _ in range(KILLS):
        up = start(wider)
        retry_until_killed(up, lot.uniform(0.0, 0.15))
    up = start(wider)
    wait_for("all letters to be closed", lambda: run("dead", "retry", "--all", folder=up.folder).code == 0)
    assert letters(up.folder) == []
    closed = letters(up.folder, "--closed")
    assert [letter["state"] for letter in closed] == ["retried"] * LETTERS
    sums = up.wait("everything to be cleaned", balanced)["sums"]
    assert (sums["clean"]["received"], sums["clean"]["retried"]) == (LETTERS, LETTERS)
    assert (sums["clean"]["clean"], sums["clean"]["dead"]) == (LETTERS, LETTERS)
    assert sorted(row["seq"] for row in tapped(up.folder, "clean")) == list(range(LETTERS))
    assert sorted(row["seq"] for row in tapped(up.folder, "received")) == list(range(LETTERS))


def test_a_payload_is_replaced_and_a_row_corrected(start: Start) -> None:
    """`--row` takes the place of bytes that did not decode, `--edit` that of a row; what is closed stays closed."""
    up = start(PIPELINE.format(limit=10))
    up.ingest(
        {"device": "a", "value": 1, "seq": 1}, {"device": "b", "value": 99, "seq": 2}, {"device": "c", "value": "x"}
    )
    up.wait("the letters", lambda status: status["sums"]["clean"]["dead"] == 1 and balanced(status))
    by_stage = {letter["stage"]: letter for letter in letters(up.folder)}
    payload, row = by_stage["ingest"]["id"], by_stage["clean"]
    event = json.dumps({"device": "c", "value": 3, "seq": 3})
    wait_for("the retry", lambda: run("dead", "retry", payload, "--row", event, folder=up.folder).code == 0)
    corrected = {**row["row"], "value": 9.0}
    (up.folder / "row.json").write_text(json.dumps(corrected))
    edited = ("dead", "retry", row["id"], "--edit", "row.json")
    wait_for("the retry", lambda: run(*edited, folder=up.folder).code == 0)
    sums = up.wait("both rows", lambda status: status["sums"]["clean"]["clean"] == 3 and balanced(status))["sums"]
    assert (sums["ingest"]["taken"], sums["ingest"]["retried"], sums["clean"]["retried"]) == (3, 1, 1)
    again = run("dead", "retry", payload, row["id"], folder=up.folder)
    assert again.code == 1 and again.out.count("it is closed") == 2
    assert {row["device"]: row["value"] for row in tapped(up.folder, "clean")} == {"a": 1.0, "b": 9.0, "c": 3.0}
