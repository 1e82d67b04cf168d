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

HERE = "«"
"""Stands in a mistake before the character that must be pointed at."""

# What is replaced in the good file, by what, and what must be said of it.
MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "no TOML": ("name =", "name = «=", []),
    "a section that is none": ("[server]", "[«serevr]", ["unknown section `serevr`; did you mean `server`?"]),
    "a key that is none": ("age =", "«agee =", ["unknown key `agee`; did you mean `age`?"]),
    "a source that is none": (
        'type = "generate"',
        '«type = "genrate"',
        ["unknown source `genrate`; did you mean `generate`?"],
    ),
    "a cleaner that is none": (
        'type = "dedupe"',
        '«type = "deduplicate"',
        ["unknown cleaner `deduplicate`", "`hampel`"],
    ),
    "a sink that is none": ('type = "parquet"', '«type = "parket"', ["unknown sink `parket`; did you mean `parquet`?"]),
    "a topic that is none": ('topic = "clean"', '«topic = "cleen"', ["unknown topic `cleen`; did you mean `clean`?"]),
    "a topic of another model": (
        'topic = "clean"',
        '«topic = "scores.anomalies"',
        ["unknown topic `scores.anomalies`; did you mean `scores.anomaly`?"],
    ),
    "a field that is none": (
        'field = "value"',
        '«field = "valeu"',
        ["unknown field `valeu`; did you mean `value`?"],
    ),
    "a cleaner's field that is none": ('by = "seq"', '«by = "sqe"', ["`sqe`", "`seq`"]),
    "a type that is none": ('value = "float"', '«value = "double"', ["unknown value `double`", "`float`"]),
    "a unit that is none": ('unit = "ms"', '«unit = "minutes"', ["unknown value `minutes`", "`ms`"]),
    "a zone that is none": (
        'unit = "ms"',
        '«zone = "Europe/Atlantis"',
        ["unknown time zone `Europe/Atlantis`", "IANA name"],
    ),
    "a format that is none": ('unit = "ms"', '«format = "iso"', ["unknown time format `iso`", "`rfc3339`", "strptime"]),
    "a duration without a unit": ('age = "60s"', '«age = "60"', ["`60` is not a duration", "`10s`"]),
    "a duration in words": ('age = "60s"', '«age = "a minute"', ["`a minute` is not a duration", "`10s`"]),
    "a text for a number": ('type = "generate"', 'type = "generate"\n«rate = "fast"', ["fast"]),
    "a key of another section": ('name = "plant"', 'name = "plant"\n«listen = "x"', ["unknown key `listen`"]),
    "no name": ('[pipeline]\nname = "plant"', "[«pipeline]", ["`name` is missing"]),
    "no fields": ('fields = { value = "float", seq = "integer" }', "«fields = {}", ["the schema has no fields"]),
    "a column twice": ("fields = {", "«fields = { device = 'string',", ["`device` is named twice"]),
    "a name that is ours": ("fields = {", "«fields = { value_quality = 'integer',", ["gives itself"]),
    "no type": ('[[source]]\ntype = "generate"', "«[[source]]", ["`type` is missing", "trackside components"]),
    "one bracket too few": ("[[source]]", "[«source]", ["`source` is a list of blocks", "two brackets"]),
    "two blocks of one name": (
        "[[model]]",
        '[[clean]]\ntype = "dedupe"\nby = "seq"\n«name = "dedupe"\n\n[[model]]',
        ["two blocks are named `dedupe`", "give each its own"],
    ),
    "two models of one name": (
        "[[sink]]",
        '[[model]]\n«name = "anomaly"\nuse = "trackside.models:Anomaly"\n\n[[sink]]',
        ["two models are named `anomaly`"],
    ),
    "a name that is no file name": ('name = "anomaly"', '«name = "../etc"', ["`../etc` cannot be a name", "letters"]),
    "no partitions": ('name = "plant"', 'name = "plant"\n«partitions = 0', ["0 partitions; choose 1 to 256"]),
    "a mode that is none": (
        'field = "value"',
        'field = "value"\n«mode = "thread"',
        ["unknown value `thread`", "in_process"],
    ),
    "a limit the wrong way round": (
        'type = "dedupe"\nby = "seq"',
        'type = "range"\nfield = "value"\n«min = 5\nmax = 1',
        ["min 5 is above max 1"],
    ),
    "a file that is not there": (
        'type = "generate"',
        'type = "file"\n«path = "nowhere.csv"',
        ["there is no file", "nowhere.csv"],
    ),
    "a wide door without a token": (
        'type = "generate"',
        'type = "http"\n«listen = "0.0.0.0:0"',
        ["`0.0.0.0:0` can be reached by others", 'add `token = "…"`'],
    ),
}


def test_the_good_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(GOOD)
    done = run("check", "pipeline.toml", folder=tmp_path)
    assert (done.code, done.err) == (0, ""), done


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_the_fix(tmp_path: Path, mistake: str) -> None:
    found, instead, told = MISTAKES[mistake]
    assert GOOD.count(found) >= 1
    marked = GOOD.replace(found, instead, 1)
    before = marked[: marked.index(HERE)]
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    (tmp_path / "pipeline.toml").write_text(marked.replace(HERE, ""))
    done = run("check", "pipeline.toml", folder=tmp_path)
    assert done.code == 2, done
    assert f"pipeline.toml:{place}: " in done.err, done.err
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
        (24, "unknown key `agee`"),
        (26, "unknown section `serevr`"),
    ]
    assert all(error["column"] >= 1 and error["source_line"] for error in errors)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.toml", None, ["missing.toml: the pipeline file", "cannot be read", "trackside init"]),
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
