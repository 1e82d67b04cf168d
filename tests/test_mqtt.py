"""20,000 messages of a foreign client through a real Mosquitto, our process killed and started again in the middle.

The broker is told of a message only after our fsync, so what it does not know to be ours it sends again; `dedupe` by
the id in the payload takes out what comes twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import tables
from broker import Broker
from conftest import Start
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from running import PATIENCE, received, wait_for

MESSAGES = 20_000
KILL_AT = (4_000, 11_000)
"""Rows received when our process is killed."""

PIPELINE = """
[pipeline]
name = "broker"
snapshot_every = "200ms"

[schema]
time = {{ field = "ts", unit = "ms" }}
series = ["device", "sensor"]
fields = {{ value = "float", n = "integer" }}
event_id = "id"

[[source]]
type = "mqtt"
broker = "mqtt://127.0.0.1:{port}"
topics = ["plant/#"]
pattern = "plant/{{device}}/{{sensor}}"
client_id = "trackside-test"
version = "{version}"
qos = 1

[[clean]]
type = "dedupe"
by = "event_id"
within = 100000

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


def message(n: int) -> tuple[str, str]:
    """Topic and payload."""
    payload = {"id": f"m{n}", "ts": 1_700_000_000_000 + n, "value": n % 100 / 4, "n": n}
    return f"plant/pump-{n % 10}/{'temp' if n % 2 else 'flow'}", json.dumps(payload)


def publish(port: int, done: threading.Event) -> None:
    """Send all messages, each until the broker has acknowledged it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="publisher")
    client.max_inflight_messages_set(200)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [client.publish(*message(n), qos=1) for n in range(MESSAGES)]
    for info in sent:
        info.wait_for_publish(PATIENCE)
        assert info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
    client.disconnect()
    client.loop_stop()
    done.set()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_every_message_is_in_the_table_once(start: Start, broker: Broker, version: str) -> None:
    up = start(PIPELINE.format(port=broker.port, version=version))
    wait_for("the subscription", lambda: "Sending SUBACK to trackside-test" in broker.log.read_text())
    done = threading.Event()
    publisher = threading.Thread(target=publish, args=(broker.port, done))
    publisher.start()
    for count in KILL_AT:
        status = up.wait(f"{count} rows", received(count))
        assert status["sums"]["ingest"]["received"] < MESSAGES, "killed in the middle"
        up.kill()
        up = start(None)
    publisher.join(PATIENCE)
    assert done.is_set(), "the broker did not take all messages"
    up.wait("all messages", lambda s: s["sums"]["clean"]["clean"] >= MESSAGES)
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["dead"], summary["in_flight"]) == (0, 0)
    assert summary["clean"] == summary["table_rows"] == MESSAGES
    assert summary["sums"]["clean"]["filtered_by"].get("dedupe", 0) == summary["received"] - MESSAGES
    print(f"sent again by the broker: {summary['received'] - MESSAGES}")
    rows = tables.rows(up.data, "clean", order="n")
    assert [row["n"] for row in rows] == list(range(MESSAGES))
    for row in rows:
        topic = f"plant/{row['device']}/{row['sensor']}"
        assert (topic, row["event_id"], row["value"]) == (message(row["n"])[0], f"m{row['n']}", row["n"] % 100 / 4)


def test_what_is_no_event_is_a_dead_letter_with_its_bytes(start: Start, broker: Broker) -> None:
    up = start(PIPELINE.format(port=broker.port, version="5"))
    wait_for("the subscription", lambda: "Sending SUBACK to trackside-test" in broker.log.read_text())
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    bad = [("plant/p/temp", b"{"), ("plant/p", b'{"value":1}'), ("plant/p/temp", b"\xff\xfe"), ("plant/p/temp", b"1")]
    sent: list[tuple[str, str | bytes]] = [message(1), *bad, message(2)]
    for topic, payload in sent:
        client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE)
    client.disconnect()
    client.loop_stop()
    up.wait("the last event", lambda s: s["sums"]["ingest"]["taken"] == len(bad) + 2)
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["table_rows"], summary["dead"]) == (2, len(bad))
    letters = tables.rows(up.data, "dead-letter", order="received_at")
    assert [letter["payload"] for letter in letters] == [payload for _, payload in bad]
    assert "does not fit the pattern" in letters[1]["reason"]
