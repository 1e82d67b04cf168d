"""A Mosquitto of a row's own and a publisher that keeps notes as the load generator does.

Acknowledged means here: the broker has it (PUBACK), and the broker keeps it for us while we are dead. Ids are in the
payload, so what the broker sends again is known by cleaning.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import paho.mqtt.client as paho
import row  # noqa: F401 (it finds the tests' own modules)
from broker import Broker as Mosquitto
from paho.mqtt.enums import CallbackAPIVersion

LANE = 0xFFFF
"""Third part of the ids, that no load generator gives."""

DEVICES = 8
TOPIC = "faults/events"


class Broker(Mosquitto):
    """A broker, and the source block that subscribes to it."""

    def source(self) -> str:
        """`[[source]]`."""
        return f"""
[[source]]
type = "mqtt"
broker = "mqtt://127.0.0.1:{self.port}"
topics = ["{TOPIC}"]
keep_alive = "5s"
"""


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Broker | None]:
    """A broker while it is needed; None where there is no Mosquitto."""
    if shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin:/usr/local/bin") is None:
        yield None
        return
    folder.parent.chmod(0o755)
    mosquitto = Broker(folder / "mosquitto", inflight=1000)
    try:
        yield mosquitto
    finally:
        mosquitto.stop()


class Publisher:
    """Publishes at a rate with QoS 1, until it is stopped; then waits for every PUBACK."""

    def __init__(self, notes: Path, port: int, rate: float, seed: int = 1) -> None:
        notes.mkdir()
        self.notes = notes
        self.rate, self.seed = rate, seed
        self.intents, self.acks = (notes / "intent.log").open("w"), (notes / "ack.log").open("w")
        self.note(self.intents, "id,device,seq,kind,hash,t")
        self.note(self.acks, "id,state,t")
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="faults-publisher")
        self.client.max_inflight_messages_set(500)
        self.client.max_queued_messages_set(0)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @staticmethod
    def note(log: IO[str], line: str) -> None:
        """One line, out of our hands at once."""
        log.write(line + "\n")
        log.flush()

    def run(self) -> None:
        """Publish; a message is acknowledged before the next hundred leaves."""
        lot, made = random.Random(self.seed), 0
        waiting: list[tuple[str, paho.MQTTMessageInfo]] = []
        while not self.end.is_set() or waiting:
            if not self.end.is_set():
                event_id, line = self.event(made, lot)
                waiting.append((event_id, self.client.publish(TOPIC, line, qos=1)))
                made += 1
                self.end.wait(1 / self.rate)
            if len(waiting) >= 100 or self.end.is_set():
                for event_id, message in waiting:
                    message.wait_for_publish(30)
                    state = "acked" if message.is_published() else "unknown"
                    self.note(self.acks, f"{event_id},{state},{time.time_ns() // 1000}")
                waiting = []

    def event(self, made: int, lot: random.Random) -> tuple[str, str]:
        """The next event's id and line, noted."""
        device, seq, number = made % DEVICES, made // DEVICES, lot.randrange(4000)
        event_id = f"{self.seed:08x}{LANE:04x}{device + 0x4000:04x}{seq:016x}"
        name, payload = f"m{device}", "x" * lot.choice([0, 1, 20])
        kind, value = ("outlier", number / 4 + 1e9) if lot.random() < 0.01 else ("row", number / 4)
        crc = zlib.crc32(f"{event_id}|{name}|{seq}|{number}|{payload}".encode())
        self.note(self.intents, f"{event_id},{name},{seq},{kind},{crc},{time.time_ns() // 1000}")
        event = {"id": event_id, "ts": 1_700_000_000_000 + made, "device": name, "seq": seq, "n": number}
        return event_id, json.dumps({**event, "value": value, "payload": payload})

    def stop(self) -> None:
        """Publish no more; return when the broker has all."""
        self.end.set()
        self.thread.join(60)
        self.client.disconnect()
        self.client.loop_stop()
        self.intents.close()
        self.acks.close()


def mqtt_load(notes: Path, mosquitto: Broker, rate: float) -> Publisher:
    """A publisher at work."""
    return Publisher(notes, mosquitto.port, rate)
