"""Makes the seed corpus from real inputs: the examples, a run's own log and snapshots, packets as brokers send them.

Run by hand when a format changes: `.venv/bin/python fuzz/seeds.py`. What is there and still wanted stays; a target's
first byte chooses among its settings, see `fuzz/src/bin/`.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trackside import _native

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
LARGEST = 16 << 10
"""Larger seeds slow a fuzzer down and teach it nothing."""

PIPELINE = """
[pipeline]
name = "seeds"
snapshot_every = "50ms"

[schema]
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }

[[source]]
type = "generate"
devices = 2
rate = 200
count = 400
seed = 7

[[clean]]
type = "dedupe"
by = "seq"
within = 16

[[clean]]
type = "range"
field = "value"
min = -1000
max = 1000

[[clean]]
type = "hampel"
field = "value"
window = 7

[[clean]]
type = "convert"
field = "value"
from = "C"
to = "K"

[server]
listen = "127.0.0.1:0"
"""

NDJSON = rb"""{"ts":1700000000000,"device":"pump-1","sensor":"temp","value":21.5,"seq":1}
{"ts":1700000001000,"device":"pump-1","sensor":"temp","value":-0.25e2,"seq":2}
{"ts":1700000002000,"device":"pump-2","sensor":"temp","value":null,"seq":3,"ok":true,"unit":"\u00b0C \n","id":"e-7"}
[{"device":"a","value":1},{"device":"b","value":2,"new":{"deep":[1,2,{"x":null}]}}]
{"ts":"2023-11-14T22:13:20Z","value":1,"value":2}
{"ts":1700000003000,"device":"pump-1",
{"device":"\ud83d\ude00","value":1e309,"seq":9223372036854775808}
"""

CSV = {
    0: b'ts,device,sensor,value,note\n1700000000000,pump-1,temp,21.5,"a, ""b""\nc"\n1700000001000,pump-1,temp,,\n1,2\n',
    1: b"timestamp;value;count\r\n2013-12-02 21:15:00;73.96732207;3\r\n2013-12-02 21:20:00;1,5;x\r\n\r\n",
    2: b"\xef\xbb\xbfdevice\tvalue\na\t1\nb\tNaN\n",
    3: b'device,value\n"a,1\n"b",2\n',
    128: b"1700000000000,pump-1,21.5,x\n",
}

LINES = rb"""weather,device=pump-1,sensor=temp value=21.5,seq=1i 1700000000000000000
weather,device=pump\ 1,sensor=a\,b value=-1e3,ok=t,unit="say \"hi\", \\ ok" 1700000001000000000
cpu value=1u
# a comment
broken,device value=
weather,device=b value=1,value=2 99999999999999999999
"""

REQUESTS = [
    "GET /\n\n",
    "GET /healthz\n\n",
    "GET /api/status\n\n",
    "GET /api/series?limit=10\n\n",
    "GET /api/history?series=0&field=value&points=200\n\n",
    "GET /api/live?series=0,1&field=value\n\n",
    "GET /api/dead?limit=5\n\n",
    "GET /api/anomalies?limit=5\n\n",
    "POST /api/code\n\n",
    "GET /metrics\n\n",
    "GET /?token=abc\nhost: localhost:7878\ncookie: trackside=x\n\n",
    "GET /../../etc/passwd\n\n",
    "GET /assets/index.js\naccept-encoding: gzip\n\n",
    'POST /ingest\ncontent-type: application/json\n\n{"device":"a","value":1}',
    'POST /ingest\ncontent-type: application/x-ndjson\nidempotency-key: k\n\n{"device":"a","value":1}\n{"value"\n',
    'POST /ingest\ncontent-encoding: gzip\n\n{"device":"a","value":1}',
    "POST /api/v2/write?precision=ms&bucket=b\n\nm,device=a value=1 1700000000000\n",
    "POST /write?precision=s&db=d\nauthorization: Token fuzz-token-0123456789\n\nm,device=a value=1 1700000000\n",
    'POST /ingest\norigin: http://evil.example\nhost: evil.example\n\n{"value":1}',
    "OPTIONS /ingest\norigin: http://127.0.0.1:7878\n\n",
]


def main() -> None:
    """Write all seeds; those of other years go."""
    for target, seeds in targets().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for number, seed in enumerate(seed for seed in seeds if len(seed) <= LARGEST):
            (folder / f"seed-{number:03}").write_bytes(seed)
    size = sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file())
    print(f"{size >> 10} KiB in {CORPUS}", file=sys.stderr)


def targets() -> dict[str, list[bytes]]:
    """Seeds by target."""
    with tempfile.TemporaryDirectory() as folder:
        data = run(Path(folder))
        frames, snapshots = list(frames_of(data)), list(states_of(data))
    return {
        "json": list(texts(NDJSON, "*.ndjson", 3)),
        "csv": [bytes([key]) + text for key, text in CSV.items()] + list(texts(b"", "*.csv", 3)),
        "line_protocol": list(texts(LINES, "*.lp", 12)),
        "http": [request.encode() for request in REQUESTS],
        "config": list(pipelines()),
        "frame": frames,
        "snapshot": snapshots + detectors(),
        "worker": answers(),
        "mqtt": packets(),
    }


def run(folder: Path) -> Path:
    """A small pipeline's data directory."""
    file = folder / "pipeline.toml"
    file.write_text(PIPELINE)
    command = [sys.executable, "-m", "trackside", "up", str(file), "--until-idle", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "data"


def texts(text: bytes, pattern: str, settings: int) -> Iterator[bytes]:
    """A text and the beginnings of the examples' files, each with every setting."""
    files = [file.read_bytes()[:1500] for file in sorted((ROOT / "examples").rglob(pattern))]
    for body in filter(None, [text, *files]):
        yield from (bytes([setting]) + body for setting in range(settings))


def pipelines() -> Iterator[bytes]:
    """The examples' pipeline files, and each component's own example."""
    yield PIPELINE.encode()
    yield from (file.read_bytes() for file in sorted((ROOT / "examples").rglob("*.toml")))
    listed = subprocess.run(
        [sys.executable, "-m", "trackside", "components", "--json"], check=True, capture_output=True
    ).stdout
    head = '[schema]\nseries = ["device"]\nfields = { value = "float" }\n\n'
    for component in json.loads(listed):
        yield (head + component["example"]).encode()


def frames_of(data: Path) -> Iterator[bytes]:
    """The first frames of each topic as messages, and two together as they follow each other in a segment."""
    for segment in sorted(data.glob("log/*/0/*.seg")):
        text, at = segment.read_bytes(), 64
        found: list[bytes] = []
        while text[at : at + 4] == b"TSFR" and len(found) < 3:
            length = struct.unpack_from("<I", text, at + 8)[0]
            found.append(text[at : at + length])
            at += length
        for setting, frame in enumerate(found):
            yield bytes([setting]) + frame
        yield b"\x03" + b"".join(found[:2])


def states_of(data: Path) -> Iterator[bytes]:
    """A snapshot file, and out of it the state of each cleaner: number 3 and up in the order of `CLEANERS`."""
    order = {b"DDUP": 3, b"RNGE": 4, b"HAMP": 5, b"CONV": 6}
    for file in sorted(data.rglob("*.snap"))[-2:]:
        whole = file.read_bytes()
        yield b"\x00" + whole
        state = whole.split(b"\n", 1)[1]
        parts = []
        while state:
            length = struct.unpack_from("<Q", state)[0]
            parts.append(state[8 : 8 + length])
            state = state[8 + length :]
        for part in parts:
            if part[:4] in order:
                yield bytes([order[part[:4]]]) + part


def detectors() -> list[bytes]:
    """States of the detector and the forecaster: new, before and after they know their series."""
    seeds = []
    for number, model in ((1, _native.RecordExcess("{}")), (2, _native.Ens4("{}"))):
        seeds.append(bytes([number]) + model.snapshot())
        for rows in (5, 60, 200):
            ids, times = [0] * rows, [second * 10**9 for second in range(rows)]
            model.update(ids, times, [float(second % 7) for second in range(rows)])
            seeds.append(bytes([number]) + model.snapshot())
    return seeds


def answers() -> list[bytes]:
    """A worker's answers to two rows of one field: scores, scores with forecasts, an error, a replay."""
    scores = [["score", "f8", 2], ["anomaly", "u1", 2], ["ready", "u1", 2]]
    body = struct.pack("<2d4B", 0.5, 2.5, 0, 1, 1, 1)
    band = [["expected", "f8", 2], ["lower", "f8", 2], ["upper", "f8", 2]]
    ahead = [["forecast_row", "i8", 1], ["forecast_field", "i4", 1], ["made_at", "i8", 1], ["for_time", "i8", 1]]
    ahead += [["mean", "f8", 1], ["forecast_lower", "f8", 1], ["forecast_upper", "f8", 1]]
    more = body + struct.pack("<6d", *range(6)) + struct.pack("<qiqq3d", 1, 0, 5, 6, 1.0, 0.0, 2.0)
    ok = {"ok": True, "rows": 2}
    messages: list[tuple[int, dict[str, object], bytes]] = [
        (0x02, ok | {"columns": scores, "reasons": [[1, "jump"]], "learning": [37, 150], "rss": 10**7}, body),
        (0x02, ok | {"columns": scores + band + ahead, "reasons": []}, more),
        (0x02, {"ok": False, "error": "ValueError: bad row", "traceback": "Traceback …"}, b""),
        (0x82, ok | {"columns": []}, b""),
        (0x12, ok | {"columns": [["score", "f8", 4], ["anomaly", "u1", 4], ["ready", "u1", 4]]}, bytes(40)),
    ]
    seeds = []
    for setting, header, body in messages:
        head = json.dumps(header).encode()
        seeds.append(bytes([setting]) + struct.pack("<IIQ", len(head), 0, len(body)) + head + body)
    return seeds


def packets() -> list[bytes]:
    """What a broker says to a subscriber, in both versions, at once and in pieces."""

    def packet(first: int, body: bytes) -> bytes:
        length, size = b"", len(body)
        while True:
            length += bytes([size % 128 | (0x80 if size > 127 else 0)])
            size //= 128
            if size == 0:
                return bytes([first]) + length + body

    def text(value: bytes) -> bytes:
        return struct.pack(">H", len(value)) + value

    topic, payload = text(b"plant/pump-1/temp"), b'{"value":21.5}'
    user = b"\x26" + text(b"event-id") + text(b"e-7")
    old = [
        packet(0x20, b"\x01\x00"),
        packet(0x20, b"\x00\x05"),
        packet(0x90, b"\x00\x01\x01\x80"),
        packet(0x30, topic + payload),
        packet(0x3B, topic + b"\x00\x07" + payload),
        packet(0x3D, topic + b"\x01\x00" + payload * 20),
        packet(0x62, b"\x00\x07"),
        packet(0xD0, b""),
    ]
    properties = b"\x13\x00\x3c" + b"\x1f" + text(b"quota") + b"\x21\x00\x14"
    new = [
        packet(0x20, b"\x00\x00" + bytes([len(properties)]) + properties),
        packet(0x90, b"\x00\x01\x00\x02\x87"),
        packet(0x32, topic + b"\x00\x09" + bytes([len(user)]) + user + payload),
        packet(0x62, b"\x00\x09\x92\x00"),
        packet(0xE0, b"\x8d\x00"),
        packet(0xE0, b""),
        packet(0xD0, b""),
    ]
    seeds = []
    for version, stream in ((0, old), (1, new)):
        seeds += [bytes([version]) + one for one in stream]
        seeds += [bytes([setting | version]) + b"".join(stream) for setting in (2, 4, 62)]
    return seeds


if __name__ == "__main__":
    main()
