"""The independent verifier: what the load generators noted against what the tables hold.

It reads Parquet with DuckDB over a glob, as a user does, and the notes as CSV; it shares no code with the product. With
A = acknowledged, U = answer unknown, R = refused and nothing else, T = rows of `clean`, D = dead letters:

- lost: an event of A that is neither in T nor in D
- duplicated: an event that is there more than once in T and D together
- phantom: something in T or D that nobody sent, or an event of R
- corrupt: a row or a letter that is not what was sent

and then order by device, the product's own sums, and that it is alive.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from row import Result
from world import TOKEN, Up, World

LAG_MAX_S = 60.0
"""After the last fault nothing may lag any more."""

QUIET_S = 1.0
"""Without a new line for so long a followed file is read to its end."""

FRESH_MAX_S = 5.0
"""A fresh event must be acknowledged within."""

PROBE = "ffffffffffffffffffffffffffffffff"
"""Id of the fresh event."""

ID = re.compile(rb'"id":"([0-9a-f]{32})')


def settle(world: World, notes: Sequence[Path]) -> Result:
    """Liveness, then a stop and the verdict over everything that was sent in this world."""
    up, result = world.running, Result()
    if any(load.file for load in world.loads):
        read_to_end(up)
    try:
        up.wait("lag 0", idle, LAG_MAX_S)
    except AssertionError as error:
        result.bars.append(f"lag is not 0 within {LAG_MAX_S:.0f} s: {str(error)[:300]}")
    result.expect(fresh(up), f"a fresh event is not acknowledged within {FRESH_MAX_S:.0f} s")
    up.wait("the fresh event", idle, LAG_MAX_S)
    counters = metrics(up)
    up.process.send_signal(signal.SIGTERM)
    code = up.process.wait(LAG_MAX_S)
    summary = json.loads(up.lines()[-1])
    result.expect(code == 0, f"it ended with exit code {code}")
    result.expect(summary.get("balanced"), f"a sum does not hold: {summary.get('sums')}")
    result.expect(summary.get("in_flight") == 0, f"{summary.get('in_flight')} rows are in flight after the stop")
    result.add(verify(world.data, notes, summary if "sums" in summary else None, counters))
    return result


def read_to_end(up: Up) -> None:
    """Wait until a followed file is read: its source looks every 20 ms, and nothing came for a long time.

    A line counts as acknowledged when it is in the file. If the process is ended before its source looked, the line is
    not lost, for the next start would read it; but there is none.
    """
    taken, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_S:
        now = up.status()["sums"]["ingest"]["taken"]
        if now != taken:
            taken, since = now, time.monotonic()
        time.sleep(QUIET_S / 50)


def idle(status: dict[str, Any]) -> bool:
    """Whether nothing waits anywhere."""
    sums = status["sums"]
    models = sum(model["in_flight"] for model in sums["models"].values())
    return bool(sums["clean"]["in_flight"] + models + sum(stage["lag"] for stage in status["stages"]) == 0)


def fresh(up: Up) -> bool:
    """Post one event; whether it is acknowledged in time."""
    event = f'{{"id":"{PROBE}","ts":1700000000000,"device":"probe","seq":0,"n":0,"value":0.0,"payload":""}}\n'
    connection = http.client.HTTPConnection(*up.address, timeout=FRESH_MAX_S)
    try:
        connection.request("POST", "/ingest", event, {"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def metrics(up: Up) -> dict[str, float]:
    """The page `/metrics`: sums by name, over all labels."""
    sums: dict[str, float] = {}
    for line in up.request("GET", "/metrics").text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0]
            sums[name] = sums.get(name, 0) + float(value)
    return sums


def verify(
    data: Path,
    notes: Sequence[Path],
    summary: dict[str, Any] | None = None,
    counters: dict[str, float] | None = None,
) -> Result:
    """Compare notes and tables; with the command's summary and its counters also those."""
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'; set threads = 2; set memory_limit = '2GB'")
        read_notes(db, notes)
        read_tables(db, data)
        result = Result(events=one(db, "select count(*) from intent"))
        result.lost = one(db, "select count(*) from fate where state = 'acked' and times = 0")
        result.duplicated = one(db, "select count(*) from fate where times > 1")
        result.phantom = one(db, "select count(*) from fate where state = 'refused' and times > 0")
        result.phantom += one(db, "select count(*) from found anti join intent using (id)")
        result.corrupt = one(db, "select count(*) from found join intent using (id) where found.hash <> intent.hash")
        # An event that cleaning was to reject and let pass, or the other way round, is wrong as well.
        result.corrupt += one(db, "select count(*) from found join intent using (id) where found.kind <> intent.kind")
        disorder = one(
            db,
            """select count(*) from (select seq, lag(seq) over (partition by device order by _offset) as before
               from clean where event_id <> ?) where seq < before""",
            PROBE,
        )
        result.expect(disorder == 0, f"{disorder} rows are not in the order that they were sent in")
        for line in examples(db, result):
            result.bars.append(line)
        if summary is not None:
            agree(db, result, summary, counters)
        return result


def read_notes(db: duckdb.DuckDBPyConnection, notes: Sequence[Path]) -> None:
    intents, acks = ([str(folder / name) for folder in notes] for name in ("intent.log", "ack.log"))
    db.execute("create table intent as select id, device, seq, kind, hash from read_csv(?, header = true)", [intents])
    db.execute(
        """create table answer as
           select id, bool_or(state = 'acked') as acked, bool_or(state = 'unknown') as unknown
           from read_csv(?, header = true) group by id""",
        [acks],
    )


def read_tables(db: duckdb.DuckDBPyConnection, data: Path) -> None:
    """`clean`, `received`, `letter` as they are, and `found`: each thing stored, by id, with the hash of what it is."""
    for name, topic in (("clean", "clean"), ("received", "received"), ("letter", "dead-letter")):
        if any((data / "tables" / topic).rglob("*.parquet")):
            glob = f"{data}/tables/{topic}/**/*.parquet"
            source = "read_parquet(?, hive_partitioning = false, union_by_name = true)"
            db.execute(f"create table {name} as select * from {source}", [glob])
        elif name == "letter":
            db.execute(
                'create table letter (stage varchar, component varchar, "row" varchar, payload blob, reason varchar)'
            )
        else:
            db.execute(
                f"create table {name} (event_id varchar, device varchar, seq bigint, n bigint, value double, "
                "payload varchar, _offset bigint)"
            )
    db.execute("create table found (id varchar, hash bigint, kind varchar)")
    probe = "event_id <> ?"
    rows = "select event_id, device, seq, n, value, payload, 'row' from clean where " + probe
    keep(db, map(row_hash, db.execute(rows, [PROBE]).fetchall()))
    json = "json_extract_string(\"row\", '$.{}')"
    columns = ", ".join(json.format(name) for name in ("event_id", "device", "seq", "n", "value", "payload"))
    rows = f"select {columns}, 'outlier' from letter where stage = 'clean'"
    keep(db, map(row_hash, db.execute(rows).fetchall()))
    keep(db, map(line_hash, db.execute("select payload from letter where stage = 'ingest'").fetchall()))
    db.execute(
        """create table fate as select intent.id,
             case when acked then 'acked' when unknown then 'unknown' when answer.id is null then 'unknown'
                  else 'refused' end as state,
             coalesce(times, 0) as times
           from intent left join answer using (id)
           left join (select id, count(*) as times from found group by id) using (id)"""
    )


def keep(db: duckdb.DuckDBPyConnection, found: Iterable[tuple[str, int, str]]) -> None:
    # DuckDB's own way in takes a second for a hundred thousand rows.
    rows = list(found)
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    batch = pa.table(
        {
            "id": pa.array(columns[0], pa.string()),
            "hash": pa.array(columns[1], pa.int64()),
            "kind": pa.array(columns[2], pa.string()),
        }
    )
    db.register("batch", batch)
    db.execute("insert into found select * from batch")
    db.unregister("batch")


def row_hash(row: tuple[Any, ...]) -> tuple[str, int, str]:
    """Id, checksum and kind of a row; the value must be the number's quarter, the outlier's a billion more."""
    event_id, device, seq, number, value, payload, kind = row
    wanted = int(number or 0) / 4 + (1e9 if kind == "outlier" else 0)
    if float(value or 0) != wanted:
        return event_id, -1, kind
    return event_id, zlib.crc32(f"{event_id}|{device}|{seq}|{number}|{payload}".encode()), kind


def line_hash(row: tuple[bytes | None]) -> tuple[str, int, str]:
    """The same of a line that was cut off: its bytes are kept as they came."""
    payload = row[0] or b""
    found = ID.search(payload)
    return found.group(1).decode() if found else payload[:60].hex(), zlib.crc32(payload), "broken"


def examples(db: duckdb.DuckDBPyConnection, result: Result) -> list[str]:
    """One of each kind of harm, to look for."""
    asked = {
        "lost": (result.lost, "select id from fate where state = 'acked' and times = 0"),
        "duplicated": (result.duplicated, "select id from fate where times > 1"),
        "phantom": (result.phantom, "select id from found anti join intent using (id)"),
        "corrupt": (result.corrupt, "select id from found join intent using (id) where found.hash <> intent.hash"),
    }
    lines = []
    for name, (count, sql) in asked.items():
        if count:
            found = [row[0] for row in db.execute(f"{sql} order by id limit 3").fetchall()]
            lines.append(f"{count} {name}, such as {found}")
    return lines


def agree(
    db: duckdb.DuckDBPyConnection, result: Result, summary: dict[str, Any], counters: dict[str, float] | None
) -> None:
    """The product's sums and its metrics say what the tables hold."""
    sums = summary["sums"]
    letters = "select count(*) from letter where stage = '{}'"
    for name, said, sql in (
        ("received", sums["ingest"]["received"], "select count(*) from received"),
        ("clean", sums["clean"]["clean"], "select count(*) from clean"),
        ("dead at the door", sums["ingest"]["dead"], letters.format("ingest")),
        ("dead in cleaning", sums["clean"]["dead"], letters.format("clean")),
    ):
        there = one(db, sql)
        result.expect(said == there, f"{name}: the sum says {said}, the table {there}")
    if counters is None:
        return
    for name, counted in (("taken", sums["ingest"]["taken"]), ("received", sums["ingest"]["received"])):
        said = counters.get(f"trackside_{name}_total")
        result.expect(said == counted, f"/metrics says {name} {said}, the command {counted}")
    result.expect(counters.get("trackside_balanced") == 1.0, "/metrics says that a sum does not hold")


def one(db: duckdb.DuckDBPyConnection, sql: str, *values: object) -> int:
    """The number that a query answers."""
    found = db.execute(sql, list(values)).fetchone()
    assert found is not None
    return int(found[0])
