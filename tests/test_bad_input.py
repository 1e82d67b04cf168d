"""Bad input by HTTP: each kind gets a clear answer or a dead letter with its reason, and its neighbours are stored.

One running pipeline takes all kinds. Around and between the bad ones good events are sent; at the end exactly those are
in the table.
"""

from __future__ import annotations

import gzip
import itertools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import tables
from running import TOKEN, Up, wait_for

PIPELINE = """
[pipeline]
name = "door"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float", n = "integer", note = "string", ok = "boolean" }

[[source]]
type = "http"
max_body = 262144

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""

MAX_BODY = 262_144
TS = 1_700_000_000_000
NDJSON = {"Content_Type": "application/x-ndjson"}


@dataclass
class Door:
    """The shared pipeline and the ledger of what must be stored in the end."""

    up: Up
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    stored: list[int] = field(default_factory=list)
    odd: list[dict[str, Any]] = field(default_factory=list)
    dead: int = 0
    refused: int = 0

    def good(self) -> dict[str, Any]:
        """An event that must be stored."""
        self.stored.append(next(self.numbers))
        return {"ts": TS + self.stored[-1], "device": "good", "value": 1.5, "n": self.stored[-1]}

    def line(self) -> bytes:
        """The same as a line of JSON."""
        return json.dumps(self.good()).encode() + b"\n"

    def influx(self) -> bytes:
        """The same in line protocol, in milliseconds."""
        event = self.good()
        return f"m,device=good value=1.5,n={event['n']}i {event['ts']}\n".encode()

    def check(self) -> None:
        """A good event is still taken."""
        answer = self.up.request("POST", "/ingest", self.line(), **NDJSON)
        assert (answer.status, answer.json["accepted"]) == (200, 1), answer

    def letter(self, payload: bytes) -> dict[str, Any]:
        """The dead letter with this payload, once it is shown."""
        text = payload.decode(errors="replace")

        def look() -> Any:
            letters = self.up.get("/api/dead?limit=5")["dead"]
            return next((letter for letter in letters if letter["payload"] == text), None)

        found: dict[str, Any] = wait_for(f"the dead letter of {text[:80]}", look)
        return found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One pipeline for all kinds; ended when the last test did not."""
    file = tmp_path_factory.mktemp("door") / "pipeline.toml"
    file.write_text(PIPELINE)
    up = Up(file)
    yield Door(up)
    up.kill()


def event(**more: Any) -> bytes:
    """A line of JSON that would be fine but for `more`; None leaves a key out."""
    whole = {"ts": TS, "device": "bad", "value": 1.0, **more}
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def raw(value: str, key: str = "value") -> bytes:
    """A line of JSON with this text as the value of a key."""
    return b'{"ts":%d,"device":"bad","%s":%s}' % (TS, key.encode(), value.encode())


REJECTED_LINES = {
    "truncated": (b'{"ts":1700000000000,"device":"bad","value":1', "not JSON: cut off at byte 45"),
    "truncated in a text": (b'{"ts":1700000000000,"device":"ba', "not JSON: cut off at byte"),
    "no JSON at all": (b"temperature is 21.5", "not JSON: expected a value at byte 1"),
    "single quotes": (b"{'ts':1}", 'not JSON: expected `"` at byte 2'),
    "trailing comma": (b'{"ts":1700000000000,"value":1,}', "not JSON: expected"),
    "two objects in a line": (event() + event(), "not JSON: something behind the object at byte"),
    "control character in a text": (
        b'{"device":"a\x01b","value":1}',
        "not JSON: control character in a text at byte 13",
    ),
    "half a surrogate pair": (raw('"\\ud800"', "note"), "not JSON: half a surrogate pair at byte"),
    "invalid UTF-8": (b'{"device":"caf\xe9","value":1}', "not UTF-8 at byte 15"),
    "nested too deep": (raw("[" * 500 + "]" * 500, "tree"), "not JSON: nested"),
    "NaN": (raw("NaN"), "not JSON: expected a value at byte"),
    "Infinity": (raw("-Infinity"), "not JSON: expected a digit at byte"),
    "leading zero": (raw("007"), "not JSON: leading zero at byte"),
    "a number that no double holds": (raw("1e999"), "not JSON: number"),
    "an integer beyond 64 bits": (raw("99999999999999999999", "n"), "`n` is `99999999999999999999`"),
    "a fraction for an integer": (event(n=1.5), "`n` is `1.5`, expected a whole number"),
    "a text for a number": (event(value="hot"), "`value` is text, expected a number"),
    "an object for a number": (event(value={"v": 1}), "`value` is an object, expected a number"),
    "an array for a number": (event(value=[1]), "`value` is an array, expected a number"),
    "a boolean for a number": (event(value=True), "`value` is true or false, expected a number"),
    "a number for a boolean": (event(ok=1), "`ok` is a number, expected true or false"),
    "nanoseconds where milliseconds are meant": (
        event(ts=TS * 10**6),
        "`ts` is `1700000000000000000`: time is outside",
    ),
    "a time in words": (event(ts="yesterday"), "`ts` is `yesterday`: not a time in the expected format"),
    "an object for a time": (event(ts={"s": 1}), "`ts` is an object, expected a time"),
    "no series": (event(device=None), "no tag of the series; expected `device`"),
    "an object for a tag": (event(device={"id": 1}), "`device` is an object, expected text"),
    "no field": (event(value=None), "no field of the schema; expected at least one of `value`, `n`, `note`, `ok`"),
    "an empty object": (b"{}", "no field of the schema"),
    "a number for an event": (b"42", "the event is a number, expected an object"),
    "a text for an event": (b'"hello"', "the event is a text, expected an object"),
    "null for an event": (b"null", "the event is null, expected an object"),
    "an array in an array": (b"[[1]]", "the event is an array, expected an object"),
}


@pytest.mark.parametrize("kind", REJECTED_LINES)
def test_a_bad_line_is_a_dead_letter_and_named(door: Door, kind: str) -> None:
    line, reason = REJECTED_LINES[kind]
    answer = door.up.request("POST", "/ingest", door.line() + line + b"\n" + door.line(), **NDJSON)
    door.dead += 1
    assert answer.status == 200, answer
    assert (answer.json["accepted"], answer.json["dead"]) == (2, 1), answer
    (error,) = answer.json["errors"]
    assert error["error"].startswith(reason), error
    assert error["line"] == 2, error
    letter = door.letter(line.removeprefix(b"[").removesuffix(b"]"))
    assert (letter["stage"], letter["component"], letter["reason"]) == ("ingest", "http", error["error"])


REJECTED_POINTS = {
    "no field": (b"cpu,device=bad", "expected `field=value`"),
    "no measurement": (b",device=bad value=1", "no measurement"),
    "a tag without a value": (b"cpu,device= value=1", "the tag `device` has no value"),
    "no number": (b"cpu,device=bad value=hot", "`value` is `hot`, no number"),
    "NaN": (b"cpu,device=bad value=NaN", "`value` is `NaN`, no number"),
    "an open quote": (b'cpu,device=bad note="never closed', "`note` has a quote that is not closed"),
    "a broken timestamp": (b"cpu,device=bad value=1 noon", "`noon` is no timestamp"),
    "seconds said, nanoseconds sent": (
        b"cpu,device=bad value=1 1700000000000000000",
        "the timestamp 1700000000000000000 is",
    ),
}


@pytest.mark.parametrize("kind", REJECTED_POINTS)
def test_a_bad_point_of_line_protocol_is_a_dead_letter(door: Door, kind: str) -> None:
    line, reason = REJECTED_POINTS[kind]
    body = door.influx() + line + b"\n" + door.influx()
    answer = door.up.request("POST", "/api/v2/write?precision=ms", body)
    door.dead += 1
    assert (answer.status, answer.json["accepted"], answer.json["dead"]) == (200, 2, 1), answer
    (error,) = answer.json["errors"]
    assert error["error"].startswith(reason), error
    assert error["line"] == 2
    assert door.letter(line)["reason"] == error["error"]


def bomb() -> bytes:
    """64 MiB of zeros in 64 KiB."""
    return gzip.compress(bytes(64 << 20), 1)


def test_a_body_that_is_an_array_keeps_its_good_elements(door: Door) -> None:
    events = [door.good(), {"device": "bad"}, door.good()]
    answer = door.up.request("POST", "/ingest", json.dumps(events), Content_Type="application/json")
    door.dead += 1
    assert (answer.status, answer.json["accepted"], answer.json["errors"][0]["element"]) == (200, 2, 2), answer


@dataclass(frozen=True)
class Refusal:
    """A request that stores nothing: how it is sent, and what the answer must say."""

    status: int
    error: str
    hint: str
    body: bytes = b""
    path: str = "/ingest"
    method: str = "POST"
    token: str | None = TOKEN
    headers: dict[str, str] = field(default_factory=dict)


REFUSED = {
    "empty body": Refusal(400, "the body is empty", "send a JSON object"),
    "blank body": Refusal(400, "the body is empty", "send a JSON object", b" \r\n\n"),
    "oversized body": Refusal(413, f"larger than {MAX_BODY} bytes", "split the body", b" " * (MAX_BODY + 1)),
    "gzip that is none": Refusal(
        400, "the body is not gzip", "packed as Content-Encoding says", event(), headers={"Content_Encoding": "gzip"}
    ),
    "gzip cut off": Refusal(
        400,
        "the body is not gzip",
        "send the body whole",
        gzip.compress(event())[:-9],
        headers={"Content_Encoding": "gzip"},
    ),
    "gzip bomb": Refusal(413, "larger than", "split the body", bomb(), headers={"Content_Encoding": "gzip"}),
    "zstd that is none": Refusal(
        400, "the body is not zstd", "packed as Content-Encoding says", event(), headers={"Content_Encoding": "zstd"}
    ),
    "unknown encoding": Refusal(
        415, "unknown content encoding `br`", "gzip or zstd", event(), headers={"Content_Encoding": "br"}
    ),
    "unknown content type": Refusal(
        415, "unknown content type `image/png`", "application/x-ndjson", event(), headers={"Content_Type": "image/png"}
    ),
    "unknown precision": Refusal(
        400, "unknown precision `weeks`", "choose from ns, us, ms, s", b"m value=1", "/api/v2/write?precision=weeks"
    ),
    "endless idempotency key": Refusal(
        400, "bad Idempotency-Key", "1 to 256", event(), headers={"Idempotency_Key": "k" * 300}
    ),
    "no token": Refusal(401, "a token is needed", "Authorization: Bearer", event(), token=None),
    "wrong token": Refusal(401, "not the token", "trackside token", event(), token="not-the-token"),
    "a rebound name": Refusal(
        421,
        "`evil.example` is not a name of this server",
        "the address that was printed",
        event(),
        headers={"Host": "evil.example"},
    ),
    "another site's page": Refusal(
        403,
        "a page from `http://evil.example` may not do this",
        "only its own page",
        event(),
        headers={"Origin": "http://evil.example"},
    ),
    "a path that is none": Refusal(404, "nothing is at `/ingset`", "events go to /ingest", event(), "/ingset"),
    "a wrong method": Refusal(405, "`/ingest` does not take PUT", "sent with POST", event(), method="PUT"),
    "a question that is none": Refusal(
        400, "`series=one` is not a whole number", "give a number", path="/api/history?series=one", method="GET"
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_request_says_why_and_stores_nothing(door: Door, kind: str) -> None:
    refusal = REFUSED[kind]
    answer = door.up.request(refusal.method, refusal.path, refusal.body, token=refusal.token, **refusal.headers)
    assert answer.status == refusal.status, answer
    assert refusal.error in answer.json["error"], answer
    assert refusal.hint in answer.json["hint"], answer
    door.refused += answer.status in (400, 413, 415) and refusal.method == "POST"
    door.check()


def test_a_client_that_hangs_up_in_the_middle_stores_nothing(door: Door) -> None:
    head = f"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(door.up.address) as connection:
        connection.sendall(head.encode() + event())
    door.check()


def test_a_head_without_end_is_refused(door: Door) -> None:
    with socket.create_connection(door.up.address, timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        answer = b""
        try:
            for _ in range(64):
                connection.sendall(b"X-Filler: " + b"x" * 4096 + b"\r\n")
            answer = connection.recv(100)
        except ConnectionError:
            pass  # cut off while it was still sending
    assert not answer or b" 431 " in answer, answer
    door.check()


ACCEPTED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a key given twice: the last counts": (b'{"ts":%d,"device":"x","value":"no","value":2}' % TS, {"value": 2.0}),
    "a huge but finite number": (raw("1.7e308"), {"value": 1.7e308}),
    "a number as text is text": (event(note="12"), {"note": "12"}),
    "seconds where milliseconds are meant: kept as received": (event(ts=TS // 1000), {"value": 1.0}),
    "unknown keys are kept": (event(colour="red"), {"extra": '{"colour":"red"}'}),
    "a name of markup is text": (event(device="<img src=x>"), {"device": "<img src=x>"}),
    "every field null but one": (event(value=None, note="x"), {"value": None, "note": "x"}),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_looks_odd_but_is_an_event_is_kept(door: Door, kind: str) -> None:
    line, expected = ACCEPTED[kind]
    answer = door.up.request("POST", "/ingest", line, **NDJSON)
    assert (answer.status, answer.json["accepted"]) == (200, 1), answer
    door.odd.append(expected)


def test_nothing_else_was_lost(door: Door) -> None:
    """The last one: all good events are in the table once, every bad line is in the table of dead letters."""
    door.check()
    summary = door.up.stop()
    assert summary["balanced"], summary
    assert summary["refused"] >= door.refused, "those that came to the door; a client that hung up may be one more"
    rows = tables.rows(door.up.data, "clean")
    assert [row["n"] for row in rows if row["device"] == "good"] == door.stored
    assert summary["table_rows"] == summary["received"] == len(door.stored) + len(door.odd)
    kept = [row for row in rows if row["device"] != "good"]
    for row, expected in zip(kept, door.odd, strict=True):
        assert {key: row[key] for key in expected} == expected
    letters = tables.rows(door.up.data, "dead-letter", order="received_at")
    assert len(letters) == summary["dead"] == door.dead
    assert all(letter["stage"] == "ingest" and letter["reason"] for letter in letters)
