"""Bad files: the rows that can be read are stored, the others are dead letters with their line, sums hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import tables
from conftest import Start
from running import run

PIPELINE = """
[pipeline]
name = "files"

[schema]
time = {{ field = "ts" }}
series = ["device"]
fields = {{ value = "float", note = "string" }}
unknown = "{unknown}"

[[source]]
type = "file"
path = "{path}"

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""

HEADER = b"ts,device,value,note\n"
GOOD = b"2024-01-01T00:00:00Z,d,1.0,fine\n"

REJECTED_RECORDS = {
    "too few cells": (b"2024-01-01T00:00:00Z,d\n", "2 cells, expected 4"),
    "too many cells": (b"2024-01-01T00:00:00Z,d,1,fine,more\n", "5 cells, expected 4"),
    "a quote that is not closed": (b'2024-01-01T00:00:00Z,d,1,"open\n', "a quote is not closed"),
    "a comma for a point": (b'2024-01-01T00:00:00Z,d,"1,5",fine\n', "`value` is `1,5`, expected a number"),
    "NaN": (b"2024-01-01T00:00:00Z,d,NaN,fine\n", "`value` is `NaN`, expected a number"),
    "infinity": (b"2024-01-01T00:00:00Z,d,inf,fine\n", "`value` is `inf`, expected a number"),
    "no time": (b",d,1,fine\n", "no time; expected it in `ts`"),
    "a day that is none": (b"2024-02-30T00:00:00Z,d,1,fine\n", "`ts` is `2024-02-30T00:00:00Z`: not a time"),
    "no series": (b"2024-01-01T00:00:00Z,,1,fine\n", "no tag of the series; expected `device`"),
    "nothing but commas": (b",,,\n", "no field of the schema"),
    "invalid UTF-8": (b"2024-01-01T00:00:00Z,d,1,caf\xe9\n", "not UTF-8 at byte 29"),
    "bytes of zero": (b"\0\0\0\0\n", "1 cells, expected 4"),
    "a line without end": (b"x" * (2 << 20) + b"\n", "longer than"),
}


@pytest.mark.parametrize("kind", REJECTED_RECORDS)
def test_a_bad_record_of_a_csv_file_costs_one_row(start: Start, tmp_path: Path, kind: str) -> None:
    record, reason = REJECTED_RECORDS[kind]
    (tmp_path / "events.csv").write_bytes(HEADER + GOOD + record + GOOD)
    summary = start(PIPELINE.format(path="events.csv", unknown="keep"), "--until-idle").end()
    assert summary["balanced"], summary
    assert (summary["taken"], summary["table_rows"], summary["dead"]) == (3, 2, 1), summary
    (letter,) = tables.rows(tmp_path / "data", "dead-letter", order="received_at")
    assert reason in letter["reason"], letter
    assert letter["detail"].startswith("line 3"), letter
    assert record.startswith(letter["payload"][:1000])


def test_a_key_that_the_schema_does_not_know_can_be_rejected(start: Start, tmp_path: Path) -> None:
    lines = [b'{"ts":1,"device":"d","value":1}', b'{"ts":1,"device":"d","value":1,"colour":"red"}']
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    summary = start(PIPELINE.format(path="events.jsonl", unknown="reject"), "--until-idle").end()
    assert (summary["table_rows"], summary["dead"], summary["balanced"]) == (1, 1, True), summary
    (letter,) = tables.rows(tmp_path / "data", "dead-letter", order="received_at")
    assert letter["reason"].startswith("unknown key `colour`"), letter


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "events.csv",
            b"when,temp\n1,2\n",
            ["no column is a field of the schema", "`when`, `temp`", "`value`, `note`"],
        ),
        ("events.csv", b"ts,device,value,value\n", ["the column `value` is there twice"]),
        ("events.jsonl.gz", b"not gzip at all", ["events.jsonl.gz` is damaged", "what came before is stored"]),
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_no_success(
    tmp_path: Path, name: str, content: bytes, told: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "pipeline.toml").write_text(PIPELINE.format(path=name, unknown="keep"))
    done = run("up", "pipeline.toml", "--until-idle", folder=tmp_path)
    assert done.code == 1, done
    for text in told:
        assert text in done.err, done.err


def test_an_empty_file_is_no_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"")
    summary = start(PIPELINE.format(path="events.jsonl", unknown="keep"), "--until-idle").end()
    assert (summary["taken"], summary["balanced"]) == (0, True)
