"""Rows 32, 35, 36, 37: what a network can throw at the HTTP door. It must be refused, and honest work go on."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ledger
import pyarrow as pa
from row import Context, Result, Row
from world import COMMON, TOKEN, World, rss_anonymous

LIMIT = 1 << 20
"""`max_body` of the pipeline in these rows."""

SOURCE = f"""
[[source]]
type = "http"
max_body = {LIMIT}
max_lines = 5000
"""

PATIENCE_S = 30.0
BOMB_MAX_S, BOMB_MAX_BYTES = 0.1, 64 << 20


@dataclass(frozen=True)
class Case:
    """One request, and the answers that are right."""

    name: str
    head: str
    body: bytes = b""
    right: tuple[int, ...] = (413,)


def request(path: str = "/ingest", headers: str = "", length: int | None = None, method: str = "POST") -> str:
    """The head of a request with our token."""
    sized = "" if length is None else f"Content-Length: {length}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n{headers}{sized}\r\n"


def send(port: int, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status (0: the connection was closed without an answer) and whole answer to one request."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:

        def write() -> None:
            with contextlib.suppress(OSError):  # refused before all was read, as it should be
                connection.sendall(head.encode("utf-8", "surrogateescape") + body)

        # An early answer must be seen although the body is still on its way.
        writer = threading.Thread(target=write)
        writer.start()
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass
        writer.join(PATIENCE_S)
    first = answer.split(b"\r\n", 1)[0].split(b" ")
    return (int(first[1]) if len(first) > 1 and first[1].isdigit() else 0), answer


def event(**more: object) -> dict[str, object]:
    """An event that is in order but for what is given."""
    return {"id": "0" * 32, "ts": 1_700_000_000_000, "device": "big", "seq": 1, "n": 1, "value": 0.25, **more}


def oversize_cases(lot_size: int) -> Iterator[Case]:
    """Bodies, lines, names, nesting, heads and tags beyond every bound, at and around it."""
    close = "Connection: close\r\n"
    ok = (200, 204, 413)
    for step in range(lot_size):
        over = LIMIT + 1 + step * step * 997
        payload = b"x" * over
        yield Case(f"body of {over}", request(headers=close, length=over), payload)
        yield Case(f"announced {over << 20}", request(headers=close, length=over << 20), b"x")
        chunked = close + "Transfer-Encoding: chunked\r\n"
        yield Case(f"chunked {over}", request(headers=chunked), b"%x\r\n%s\r\n0\r\n\r\n" % (over, payload))
        lines = b"{}\n" * (5001 + step)
        yield Case(f"{5001 + step} lines", request(headers=close, length=len(lines)), lines)
        deep = 65 * 2 ** (step % 12)
        nested = b'{"device":"big","n":' + b"[" * deep + b"]" * deep + b"}"
        yield Case(f"nested {deep}", request(headers=close, length=len(nested)), nested, ok)
        wide = json.dumps(event(**{f"key{n}": n for n in range(500 * (step + 1))})).encode()
        yield Case(f"{500 * (step + 1)} keys", request(headers=close, length=len(wide)), wide, ok)
        key = json.dumps(event(**{"k" * (20_000 * (step + 1)): 1})).encode()
        yield Case(f"key of {20_000 * (step + 1)}", request(headers=close, length=len(key)), key, ok)
        tag = json.dumps(event(device="d" * (30_000 * (step + 1)))).encode()
        yield Case(f"tag of {30_000 * (step + 1)}", request(headers=close, length=len(tag)), tag, ok)
        digits = b'{"device":"big","n":%s}' % (b"9" * (400 * (step + 1)))
        yield Case(f"{400 * (step + 1)} digits", request(headers=close, length=len(digits)), digits, ok)
        header = f"X-Long: {'h' * ((192 << 10) + step * 4096)}\r\n"
        yield Case(f"header of {len(header)}", request(headers=header + close, length=2), b"{}", (431, 400, 0))
        many = "".join(f"X-{n}: 1\r\n" for n in range(150 + step * 50))
        yield Case(f"{150 + step * 50} headers", request(headers=many + close, length=2), b"{}", (431, 400, 0))
        path = "/ingest?" + "q" * (70_000 + step * 4096)
        yield Case(f"path of {len(path)}", request(path, close, 2), b"{}", (414, 431, 400, 0))
        long_id = f"Idempotency-Key: {'i' * (257 + step)}\r\n{close}"
        yield Case(f"id of {257 + step}", request(headers=long_id, length=2), b"{}", (400,))
        tags = ",".join(f"t{n}=v" for n in range(2000 * (step + 1)))
        line = f"m,{tags} n=1i 1700000000000000000\n".encode()
        yield Case(f"{2000 * (step + 1)} tags", request("/write", close, len(line)), line, (200, 204, 413))


def oversize(context: Context) -> Result:
    """Each is refused with the code that says why; what is small enough by another measure may be stored."""
    wanted = context.count(28, 200, 2000)
    with World(context, "world", world_text()) as world:
        up = world.start()
        load = world.load("load", rate=500, broken=0, outliers=0)
        result, peak = Result(), 0
        for case in oversize_cases(-(-wanted // 14)):
            before = rss_anonymous(up.process.pid)
            status, answer = send(world.port, case.head, case.body)
            right = status in case.right
            result.expect(right, f"{case.name}: answered {status}, right is {case.right}: {answer[-200:]!r}")
            peak = max(peak, rss_anonymous(up.process.pid) - before)
            result.count += 1
        summary = load.stop()
        # What is stored stays; a single request must not hold more than its unpacked self twice, and its columns.
        result.expect(peak <= 2 * LIMIT + (16 << 20), f"one request let memory grow by {peak >> 20} MiB")
        result.expect(summary["unknown"] == 0, "an honest client got no answer")
        result.events = summary["sent"]
        alive_and_balanced(world, result)
    result.detail = f"one request let memory grow by at most {peak / 2**20:.1f} MiB"
    return result


def world_text() -> str:
    """The pipeline with a small limit."""
    return COMMON + SOURCE


def alive_and_balanced(world: World, result: Result) -> None:
    """At the end it still answers, its sums hold, and nothing panicked."""
    up = world.running
    result.expect(ledger.fresh(up), "a fresh event is not acknowledged any more")
    result.expect("panicked" not in up.err.read_text(errors="replace"), "something panicked, see stderr.txt")
    summary = up.stop()
    result.expect(summary["balanced"], f"a sum does not hold: {summary['sums']}")


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """Name, encoding and packed bytes of bodies that unpack to far more."""

    def packed(encoding: str, plain: bytes) -> bytes:
        if encoding == "gzip":
            return gzip.compress(plain, 6)
        if encoding == "zstd":
            return bytes(pa.Codec("zstd", compression_level=3).compress(plain))
        return zlib.compress(plain, 6)

    fills: dict[str, Callable[[int], bytes]] = {
        "zeros": bytes,
        "blanks": lambda size: b" " * size,
        "lines": lambda size: b"{}\n" * (size // 3),
        "open brackets": lambda size: b"[" * size,
    }
    for encoding in ("gzip", "zstd", "deflate"):
        for fill, make in fills.items():
            for mib in (2, 16, 100):
                yield f"{mib} MiB of {fill} as {encoding}", encoding, packed(encoding, make(mib << 20))
    inner = gzip.compress(bytes(64 << 20), 9)
    yield "gzip in gzip", "gzip", gzip.compress(inner, 9) * 40
    yield "gzip of 500 members", "gzip", gzip.compress(bytes(1 << 20), 9) * 500
    yield "zstd of 500 frames", "zstd", packed("zstd", bytes(1 << 20)) * 500
    yield "two codings", "gzip, gzip", gzip.compress(inner, 9)


def decompression(context: Context) -> Result:
    """Refused within 100 ms, and 64 MiB."""
    with World(context, "world", world_text()) as world:
        up, result, slowest, peak = world.start(), Result(), 0.0, 0
        made = list(bombs())
        before = rss_anonymous(up.process.pid)
        for name, encoding, body in made[:: 4 if context.tier == "test" else 1]:
            head = request(headers=f"Content-Encoding: {encoding}\r\nConnection: close\r\n", length=len(body))
            # What counts is the way from the body's end; a first call wakes what sleeps.
            began = time.monotonic()
            status, answer = send(world.port, head, body)
            took = time.monotonic() - began
            slowest, peak = max(slowest, took), max(peak, rss_anonymous(up.process.pid) - before)
            result.expect(status in (400, 413, 415), f"{name}: answered {status}: {answer[-200:]!r}")
            result.count += 1
        allowed = BOMB_MAX_S * 3  # two cores are shared with whatever else runs
        result.expect(slowest <= allowed, f"one took {slowest * 1e3:.0f} ms")
        result.expect(peak <= BOMB_MAX_BYTES, f"anonymous memory grew by {peak >> 20} MiB")
        alive_and_balanced(world, result)
    result.detail = f"slowest {slowest * 1e3:.0f} ms, memory +{peak >> 20} MiB"
    return result


CLOSED_MAX_S = 15.0


@dataclass
class Slow:
    """A client that dawdles in one of four ways; when it was cut off."""

    port: int
    kind: str
    closed_s: float = 0.0

    def run(self, end: threading.Event) -> None:
        """Until it is cut off, or the end."""
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                self.dawdle(connection, end)
        except OSError:
            pass
        self.closed_s = time.monotonic() - began

    def dawdle(self, connection: socket.socket, end: threading.Event) -> None:
        start = {
            "head": "POST /ingest HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            "nothing": "",
            "body": request(headers="Content-Type: application/x-ndjson\r\n", length=LIMIT - 1) + '{"device": "',
            "chunked": request(headers="Transfer-Encoding: chunked\r\n"),
        }[self.kind]
        connection.sendall(start.encode())
        connection.settimeout(0.5)
        while not end.is_set():
            if self.kind != "nothing":
                connection.sendall(b"1\r\nx\r\n" if self.kind == "chunked" else b"x")
            try:
                if connection.recv(4096) == b"":
                    return
            except TimeoutError:
                continue


def slow_clients(context: Context) -> Result:
    """Two hundred that dawdle over heads and bodies: cut off within 15 s, honest clients keep their pace."""
    result = Result()
    with World(context, "world", world_text()) as world:
        world.start()
        seconds = 4 if context.tier == "test" else 8
        # The machine's other work slows an honest client, and never speeds it up: one round in three must keep the bar.
        for number in range(3):
            alone, beside = dawdle(world, number, context.count(40, 200, 900), seconds, result)
            if beside <= max(2 * alone, alone + 20):
                break
        else:
            result.bars.append(
                f"honest p99 {beside:.0f} ms beside slow clients, {alone:.0f} ms alone, in the last of 3 rounds"
            )
        result.add(ledger.settle(world, [load.notes for load in world.loads]))
    result.detail += f"; honest p99 {alone:.1f} ms alone, {beside:.1f} ms beside"
    return result


def dawdle(world: World, number: int, clients: int, seconds: int, result: Result) -> tuple[float, float]:
    """One round; the p99 of an honest client's acknowledgements in ms, alone and beside slow clients."""
    up = world.running
    alone = world.load(f"alone-{number}", rate=500, events=500 * seconds, duplicates=0).wait()
    before = rss_anonymous(up.process.pid)
    end = threading.Event()
    kinds = ("head", "nothing", "body", "chunked")
    slow = [Slow(world.port, kinds[n % len(kinds)]) for n in range(clients)]
    readers = [never_read(world.port) for _ in range(20)]
    threads = [threading.Thread(target=one.run, args=(end,)) for one in slow]
    for thread in threads:
        thread.start()
    beside = world.load(f"beside-{number}", rate=500, events=500 * seconds, duplicates=0).wait()
    grown = rss_anonymous(up.process.pid) - before
    deadline = time.monotonic() + CLOSED_MAX_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()) + 1)
    end.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    for reader in readers:
        reader.close()
    worst = {kind: max(one.closed_s for one in slow if one.kind == kind) for kind in kinds}
    for kind, took in worst.items():
        result.expect(took <= CLOSED_MAX_S, f"slow {kind}: cut off after {took:.0f} s")
    result.expect(grown <= 64 << 20, f"anonymous memory grew by {grown >> 20} MiB")
    result.count += clients
    result.detail = f"cut off after at most {max(worst.values()):.1f} s"
    return alone["ack_ms_p99"], beside["ack_ms_p99"]


def never_read(port: int) -> socket.socket:
    """A page that asks for the live stream and never reads it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(request("/api/live?series=0,1,2,3&field=value", method="GET").encode())
    return connection


SECRET = "canary-of-these-tests-5f1d"
STEPS = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%252f", "..\\", "..%5c", "....//", "..;/", "%c0%ae%c0%ae/", "./../")
TARGETS = ("etc/passwd", "pipeline.toml", "data/token", "data/meta.json", "secret.txt", "proc/self/environ")
ROOTS = ("/", "/assets/", "/api/", "/api/history/", "/metrics/", "/healthz/", "//", "/index.html/")


def paths(world: World) -> Iterator[str]:
    """Ways out of the page's folder."""
    for step in STEPS:
        for target in TARGETS:
            for root in ROOTS:
                yield root + step * (1 + len(step) % 7) + target
    for absolute in ("/etc/passwd", "/proc/self/environ", str(world.folder / "secret.txt"), "/proc/self/fd/3"):
        for form in (absolute, "/" + absolute, urllib.parse.quote(absolute, safe=""), "/file://" + absolute):
            yield "/" + form.lstrip("/") if form.startswith("%") else form
    for tail in ("%00", "%00.html", "?", "#", "%0d%0aX: y", "." * 300, "/." * 200):
        yield "/secret.txt" + tail
        yield "/index.html" + tail + "/../../secret.txt"


def traversal(context: Context) -> Result:
    """No byte from outside of what was built in."""
    result = Result()
    with World(context, "world", world_text()) as world:
        (world.folder / "secret.txt").write_text(SECRET)
        (world.folder / "link").symlink_to("secret.txt")
        up = world.start(TRACKSIDE_TEST_CANARY=SECRET)
        needles = (SECRET.encode(), b"root:x:", b"[[source]]", b'"partitions"', TOKEN.encode())
        every = list(paths(world))
        wanted = context.count(60, 500, 5000)
        for path in context.lot().sample(every, min(wanted, len(every))):
            for given in (path, path + "?file=" + path)[: 1 + result.count % 2]:
                _, answer = send(world.port, request(given, "Connection: close\r\n", method="GET"))
                # A refusal may name the path that was asked for; it must hold nothing of what lies there.
                found = [needle for needle in needles if needle in answer.replace(given.encode(), b"")]
                result.expect(not found, f"GET {given}: {found}")
            result.count += 1
        result.expect(up.process.poll() is None, "it ended")
        alive_and_balanced(world, result)
    return result


ROWS = [
    Row("32", "oversize", oversize, seconds=30),
    Row("35", "decompression bombs", decompression, unit="bombs", seconds=30, alone=True),
    Row("36", "slow clients", slow_clients, unit="connections", seconds=45, alone=True, tested=False),
    Row("37", "path traversal", traversal, unit="paths", seconds=20),
]
