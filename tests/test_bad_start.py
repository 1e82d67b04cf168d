"""A start that cannot work: what is wrong, where, and what to do; and nothing that was stored is touched."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tables
from conftest import Start
from running import TOKEN, run, wait_for

PIPELINE = """
[pipeline]
name = "start"
partitions = 1

[schema]
time = { field = "ts", unit = "ms" }
series = ["device"]
fields = { value = "float" }

[[source]]
type = "http"

[[sink]]
type = "parquet"
topic = "clean"
age = "100ms"

[server]
listen = "127.0.0.1:0"
"""

EVENT = {"ts": 1_700_000_000_000, "device": "d", "value": 1.0}


def refused(folder: Path, code: int, *told: str, flags: tuple[str, ...] = (), **variables: str) -> None:
    """`up` ends with this code and says all of this."""
    done = run("up", "pipeline.toml", *flags, folder=folder, variables=variables)
    assert done.code == code, done
    for text in told:
        assert text in done.err, done.err
    assert "panicked" not in done.err


@pytest.fixture
def used(start: Start) -> Path:
    """The folder of a pipeline that has run and holds one event."""
    up = start(PIPELINE)
    up.ingest(EVENT)
    up.stop()
    return up.folder


def still_whole(start: Start, folder: Path) -> None:
    """Once the cause is gone, the next start goes on, and what was stored is there."""
    up = start(None, folder=folder)
    up.ingest({**EVENT, "value": 2.0})
    summary = up.stop()
    assert summary["balanced"], summary
    assert [row["value"] for row in tables.rows(up.data, "clean")] == [1.0, 2.0]


def test_a_port_in_use(start: Start, used: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = (f"port {port} is in use on 127.0.0.1", "choose another with `--listen`")
        refused(used, 3, *told, flags=("--listen", f"127.0.0.1:{port}"))
    still_whole(start, used)


def test_an_address_that_is_none(used: Path) -> None:
    refused(used, 2, "`nowhere` is no address to listen on", "127.0.0.1:7878", flags=("--listen", "nowhere"))


def test_a_wide_bind_without_credentials(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    told = ("`0.0.0.0:0` can be reached from other machines, and no token was chosen", "TRACKSIDE_TOKEN", "127.0.0.1")
    refused(tmp_path, 2, *told, flags=("--listen", "0.0.0.0:0"), TRACKSIDE_TOKEN="")


def test_a_token_that_can_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    refused(tmp_path, 1, "TRACKSIDE_TOKEN", "at least 8", TRACKSIDE_TOKEN="abc")


def test_two_engines_on_one_directory(start: Start) -> None:
    first = start(PIPELINE)
    first.ingest(EVENT)
    refused(first.folder, 3, f"is in use by process {first.process.pid}", "stop that one")
    first.ingest({**EVENT, "value": 2.0})
    summary = first.stop()
    assert summary["balanced"] and summary["table_rows"] == 2, summary


def test_a_changed_number_of_partitions(start: Start, used: Path) -> None:
    file = used / "pipeline.toml"
    file.write_text(PIPELINE.replace("partitions = 1", "partitions = 3"))
    refused(used, 2, "was made with 1 partitions", "says 3", "set `partitions = 1`")
    file.write_text(PIPELINE)
    still_whole(start, used)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", ["meta.json` cannot be read", "restore it"]),
        (b"", ["meta.json` cannot be read", "restore it"]),
        (b"\xff\xfe", ["meta.json` cannot be read", "restore it"]),
        (b'{"format": 99, "partitions": 1, "pipeline": "start"}', ["has format 99", "use the version that made it"]),
    ],
)
def test_a_damaged_note_of_the_data_directory(start: Start, used: Path, content: bytes, told: list[str]) -> None:
    note = used / "data" / "meta.json"
    good = note.read_bytes()
    note.write_bytes(content)
    done = run("up", "pipeline.toml", folder=used)
    assert done.code in (1, 2), done
    assert all(text in done.err for text in told), done.err
    note.write_bytes(good)
    still_whole(start, used)


def test_a_file_where_the_data_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    (tmp_path / "data").write_text("in the way")
    refused(tmp_path, 3, "data` cannot be made: File exists", "choose another with `data = …`")
    assert (tmp_path / "data").read_text() == "in the way"


def mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A place to mount a file system on; unmounted with the test."""
    place = tmp_path / "data"
    place.mkdir()
    yield place
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


def need_mounts() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")


def test_a_read_only_data_directory(tmp_path: Path, mounted: Path) -> None:
    need_mounts()
    if not mount("-t", "tmpfs", "-o", "ro,size=1m", "none", str(mounted)):
        pytest.skip("this machine does not let root mount")
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    refused(tmp_path, 3, "data` cannot be written: Read-only file system", "give access")


def test_a_full_disk_at_the_start(tmp_path: Path, mounted: Path) -> None:
    need_mounts()
    if not mount("-t", "tmpfs", "-o", "size=16k", "none", str(mounted)):
        pytest.skip("this machine does not let root mount")
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    refused(tmp_path, 1, "no room on the disk for", "free some space")


def test_a_disk_that_fills_up_refuses_and_loses_nothing(start: Start, mounted: Path) -> None:
    """503 with Retry-After, nothing of a refused body is stored, and with more room all goes on."""
    need_mounts()
    if not mount("-t", "tmpfs", "-o", "size=12m", "none", str(mounted)):
        pytest.skip("this machine does not let root mount")
    up = start(PIPELINE)
    accepted = refusals = 0
    body = "".join(json.dumps({**EVENT, "device": "x" * 200, "value": n}) + "\n" for n in range(2000))
    while refusals < 3:
        answer = up.request("POST", "/ingest", body, Content_Type="application/x-ndjson")
        if answer.status == 200:
            accepted += answer.json["accepted"]
            assert accepted < 1_000_000, "the disk does not fill up"
            continue
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1
        assert "no room" in answer.json["error"]
        assert "nothing was stored" in answer.json["hint"]
        refusals += 1
    assert up.status()["sums"]["ingest"]["received"] == accepted
    assert mount("-o", "remount,size=256m", str(mounted))
    wait_for("room", lambda: up.request("POST", "/ingest", json.dumps(EVENT)).status == 200)
    up.wait("the table", lambda status: status["table_rows"] == accepted + 1)
    summary = up.stop()
    assert summary["balanced"], summary
    assert summary["received"] == summary["table_rows"] == accepted + 1


MODELS = {
    "a file that is not there": ("nowhere.py:Model", "", ["no file", "nowhere.py"]),
    "a module that is not there": ("nowhere.models:Model", "", ["no module `nowhere`"]),
    "a file that does not parse": ("mine.py:Model", "def (", ["mine.py does not import, line 1: SyntaxError"]),
    "a file that does not import": (
        "mine.py:Model",
        "import torrch",
        ["No module named 'torrch'", "pip install torrch"],
    ),
    "a file that fails": ("mine.py:Model", "1 / 0", ["mine.py does not import: ZeroDivisionError"]),
    "a name that is not in it": (
        "mine.py:Modle",
        "import trackside as ts\nclass Model1(ts.Model):\n    def update(self, batch):\n        return batch['value']",
        ["unknown model `Modle`", "Model1"],
    ),
    "a plain function": ("mine.py:score", "def score(batch):\n    return batch", ["put @trackside.model above it"]),
    "an option that is none": ("trackside.models:Anomaly", "", ["treshold", "threshold"]),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_cannot_be_loaded_stops_nothing_else(start: Start, tmp_path: Path, kind: str) -> None:
    use, code, told = MODELS[kind]
    (tmp_path / "mine.py").write_text(code)
    options = "options = { treshold = 3 }" if "Anomaly" in use else ""
    up = start(PIPELINE + f'\n[[model]]\nname = "mine"\nuse = "{use}"\nfield = "value"\n{options}\n')
    up.ingest(EVENT)
    status = up.wait("the model to fail", lambda status: status["models"][0]["state"] == "failed")
    error = status["models"][0]["last_error"]
    assert all(text in error for text in told), error
    assert all(text in up.said() for text in told), up.said()
    up.wait("the table", lambda status: status["table_rows"] == 1)
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["scored"], summary["in_flight"], summary["table_rows"]) == (0, 1, 1)


def test_the_token_is_made_once_for_its_owner_only(start: Start) -> None:
    up = start(PIPELINE, TRACKSIDE_TOKEN="")
    file = up.data / "token"
    token = file.read_text().strip()
    assert len(token) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert up.request("GET", "/api/status", token=TOKEN).status == 401
    assert up.request("GET", "/api/status", token=token).status == 200
    assert up.request("GET", "/healthz", token=None).json == {"ok": True}
    assert token not in up.said()


def test_stages_on_their_own_need_a_log_that_is_shared(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    refused = run("up", "--only", "ingest,model", folder=tmp_path)
    assert (
        refused.code == 2 and "unknown stage `model`; choose from ingest, clean, models, sinks, server" in refused.err
    )
    refused = run("up", "--only", "models", folder=tmp_path)
    assert refused.code == 2 and "cannot share" in refused.err and 'type = "nats"' in refused.err
    assert not (tmp_path / "data").exists()
