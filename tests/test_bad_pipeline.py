"""Mistakes in a pipeline file: `trackside check` names file, line and column, the value, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import run

GOOD = """\
[pipeline]
name = "plant"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float", seq = "integer" }

[[source]]
type = "generate"

[[clean]]
type = "dedupe"
by = "seq"

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"
age = "60s"

[server]
listen = "127.0.0.1:0"
"""

# What is replaced in the good file, by what; where the mistake is then; what must be said of it.
MISTAKES: dict[str, tuple[str, str, str, list[str]]] = {
    "no TOML": ("name =", "name = =", "2:8", []),
    "a section that is none": ("[server]", "[serevr]", "25:2", ["unknown section `serevr`; did you mean `server`?"]),
    "a key that is none": ('age = "60s"', 'agee = "60s"', "23:1", ["unknown key `agee`; did you mean `age`?"]),
    "a source that is none": (
        '"generate"',
        '"genrate"',
        "10:1",
        ["unknown source `genrate`; did you mean `generate`?"],
    ),
    "a cleaner that is none": ('"dedupe"', '"deduplicate"', "13:1", ["unknown cleaner `deduplicate`", "`hampel`"]),
    "a sink that is none": ('"parquet"', '"parket"', "21:1", ["unknown sink `parket`; did you mean `parquet`?"]),
    "a topic that is none": ('"clean"', '"cleen"', "22:1", ["unknown topic `cleen`; did you mean `clean`?"]),
    "a topic of another model": (
        'topic = "clean"',
        'topic = "scores.anomalies"',
        "22:1",
        ["unknown topic `scores.anomalies`; did you mean `scores.anomaly`?"],
    ),
    "a field that is none": (
        'field = "value"',
        'field = "valeu"',
        "19:1",
        ["unknown field `valeu`; did you mean `value`?"],
    ),
    "a cleaner's field that is none": ('by = "seq"', 'by = "sequence"', "14:1", ["sequence"]),
    "a type that is none": ('value = "float"', 'value = "double"', "7:12", ["unknown value `double`", "`float`"]),
    "a unit that is none": ('unit = "ms"', 'unit = "minutes"', "5:24", ["unknown value `minutes`", "`ms`"]),
    "a zone that is none": (
        'unit = "ms"',
        'zone = "Europe/Atlantis"',
        "5:24",
        ["unknown time zone `Europe/Atlantis`", "IANA name"],
    ),
    "a duration without a unit": ('age = "60s"', 'age = "60"', "23:1", ["60", "10s"]),
    "a duration in words": ('age = "60s"', 'age = "a minute"', "23:1", ["a minute", "10s"]),
    "a text for a number": ('type = "generate"', 'type = "generate"\nrate = "fast"', "11:1", ["fast"]),
    "a key of another section": ('name = "plant"', 'name = "plant"\nlisten = "x"', "3:1", ["unknown key `listen`"]),
    "no name": ('name = "plant"', "", "1:2", ["`name` is missing"]),
    "no fields": ('fields = { value = "float", seq = "integer" }', "fields = {}", "7:1", ["the schema has no fields"]),
    "a column twice": ('series = ["device"]', 'series = ["value"]', "7:", ["`value` is named twice"]),
    "a name that is ours": ('value = "float"', 'value = "float", value_quality = "integer"', "7:", ["gives itself"]),
    "no type": ('type = "generate"', 'typ = "generate"', "9:", ["`type` is missing", "trackside components"]),
    "one bracket too few": ("[[source]]", "[source]", "9:", ["`source` is a list of blocks", "two brackets"]),
    "two blocks of one name": (
        "[[model]]",
        '[[clean]]\ntype = "dedupe"\nby = "seq"\nname = "dedupe"\n\n[[model]]',
        "19:1",
        ["two blocks are named `dedupe`", "give each its own"],
    ),
    "two models of one name": (
        "[[sink]]",
        '[[model]]\nname = "anomaly"\nuse = "trackside.models:Anomaly"\n\n[[sink]]',
        "22:1",
        ["two models are named `anomaly`"],
    ),
    "a name that is no file name": (
        'name = "anomaly"',
        'name = "../etc"',
        "17:1",
        ["`../etc` cannot be a name", "letters"],
    ),
    "no partitions": ('name = "plant"', 'name = "plant"\npartitions = 0', "3:1", ["0 partitions; choose 1 to 256"]),
    "a mode that is none": (
        'field = "value"',
        'field = "value"\nmode = "thread"',
        "20:1",
        ["unknown value `thread`", "in_process"],
    ),
    "a limit the wrong way round": (
        'type = "dedupe"\nby = "seq"',
        'type = "range"\nfield = "value"\nmin = 5\nmax = 1',
        "1",
        ["min 5 is above max 1"],
    ),
    "a file that is not there": (
        'type = "generate"',
        'type = "file"\npath = "nowhere.csv"',
        "11:1",
        ["there is no file", "nowhere.csv"],
    ),
    "a wide door without a token": (
        'type = "generate"',
        'type = "http"\nlisten = "0.0.0.0:0"',
        "11:1",
        ["`0.0.0.0:0` can be reached by others", 'add `token = "…"`'],
    ),
}


def test_the_good_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(GOOD)
    done = run("check", "pipeline.toml", folder=tmp_path)
    assert (done.code, done.err) == (0, ""), done


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_the_fix(tmp_path: Path, mistake: str) -> None:
    found, instead, place, told = MISTAKES[mistake]
    assert found in GOOD
    (tmp_path / "pipeline.toml").write_text(GOOD.replace(found, instead, 1))
    done = run("check", "pipeline.toml", folder=tmp_path)
    assert done.code == 2, done
    assert f"pipeline.toml:{place}" in done.err, done.err
    for text in told:
        assert text in done.err, done.err
    assert "panicked" not in done.err


def test_all_mistakes_are_told_at_once_and_as_json(tmp_path: Path) -> None:
    text = GOOD.replace("[server]", "[serevr]").replace('age = "60s"', 'agee = "60s"').replace('"dedupe"', '"dedup"')
    (tmp_path / "pipeline.toml").write_text(text)
    done = run("check", "pipeline.toml", "--json", folder=tmp_path)
    assert done.code == 2
    errors = json.loads(done.out)["errors"]
    assert [(error["line"], error["message"].split(";")[0]) for error in errors] == [
        (13, "unknown cleaner `dedup`"),
        (23, "unknown key `agee`"),
        (25, "unknown section `serevr`"),
    ]
    assert all(error["column"] >= 1 and error["source_line"] for error in errors)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.toml", None, ["missing.toml:1:1", "cannot be read", "trackside init"]),
        ("empty.toml", b"", ["empty.toml:1:1", "`[pipeline]` is missing", "`[schema]` is missing", "trackside init"]),
        ("latin.toml", '[pipeline]\nname = "caf\xe9"'.encode("latin-1"), ["latin.toml", "UTF-8"]),
        ("folder.toml", b"/", ["folder.toml", "cannot be read"]),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, content: bytes | None, told: list[str]) -> None:
    if content == b"/":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("up", name, folder=tmp_path)
    assert done.code == 2, done
    for text in told:
        assert text in done.err, done.err
