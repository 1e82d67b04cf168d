"""The whole library from Python: a pipeline runs, with models in this interpreter and in others, and is read back."""

import json
import math
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import trackside as ts
from trackside import _native
from trackside.errors import FrameError

HERE = Path(__file__).parent
WAIT = 120
ROWS = 3000

PIPELINE = """
[pipeline]
name = "door"
partitions = 2

[schema]
time = {{ field = "time", unit = "ms" }}
series = ["device"]
fields = {{ value = "float" }}
unknown = "ignore"

[[source]]
type = "file"
path = "events.ndjson"

[[clean]]
type = "range"
field = "value"
max = 100.0
action = "reject"

[server]
listen = "127.0.0.1:0"
"""

MODEL = """
[[model]]
name = "{name}"
use = "{use}"
field = "value"
mode = "{mode}"
"""


TAIL = struct.Struct("<QQIIII")


def tail_of(place, offset=0, rows=1000, wait_ms=0):
    """The engine's question to a worker at the end of the log, by the description in its `worker/tail.rs`."""
    name, path = b"m", str(place).encode()
    return TAIL.pack(offset, rows, 2**32 - 1, wait_ms, len(name), len(path)) + name + path


def write(folder, models):
    """A pipeline over rows of three devices, of which every 500th is out of range and every 50th a spike."""
    with (folder / "events.ndjson").open("w") as out:
        for n in range(ROWS):
            value = 999.0 if n % 500 == 499 else math.sin(n / 20) + (10 if n % 50 == 49 else 0)
            out.write(json.dumps({"time": n * 1000, "device": f"d{n % 3}", "value": value}) + "\n")
    blocks = [MODEL.format(name=name, use=use, mode=mode) for name, use, mode in models]
    file = folder / "pipeline.toml"
    file.write_text(PIPELINE.format() + "".join(blocks))
    return file


def up(file):
    """Run it to the end of its input; the summary, and what it said."""
    words = [sys.executable, "-m", "trackside", "up", str(file), "--until-idle", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A pipeline that came to its end, each model in both modes."""
    folder = tmp_path_factory.mktemp("door")
    models = [
        ("here", f"{HERE}/models_for_tests.py:Running", "in_process"),
        ("there", f"{HERE}/models_for_tests.py:Running", "process"),
        ("anomaly", "trackside.models:Anomaly", "in_process"),
        ("forecast", "trackside.models:Forecast", "in_process"),
    ]
    return up(write(folder, models))[0], folder


def test_the_sums_hold(ran):
    summary, _ = ran
    assert summary["balanced"] is True
    assert (summary["received"], summary["clean"], summary["dead"]) == (ROWS, ROWS - 6, 6)


def test_a_model_gives_the_same_scores_in_either_process(ran):
    _, folder = ran
    session = ts.connect(folder / "data")
    here, there = session.read("scores.here").numpy(), session.read("scores.there").numpy()
    assert len(here["score"]) == ROWS - 6
    names = ["_partition", "partition", "offset", "time", "device", "field", "value"]
    names += ["score", "anomaly", "ready", "expected", "reason", "version"]
    for name in names:
        assert here[name].tolist() == there[name].tolist(), name
    assert set(here["version"]) == {"7"}
    assert len(session.read("forecasts.here")) == len(session.read("forecasts.there")) > 0
    assert session.read("scores.anomaly").numpy()["ready"].any()
    assert len(session.read("forecasts.forecast")) > 0


def test_what_was_cleaned_can_be_cleaned_again_the_same(ran):
    _, folder = ran
    session = ts.connect(folder / "pipeline.toml")
    received, clean = session.read("received").numpy(), session.read("clean").numpy()
    blocks = [{"type": "range", "field": "value", "max": 100.0, "action": "reject"}]
    again, dead = ts.clean(received, blocks, with_dead=True)
    assert again["value"].tolist() == clean["value"].tolist()
    assert again["value_quality"].tolist() == clean["value_quality"].tolist()
    assert len(dead["reason"]) == len(session.read("dead-letter")) == 6


def test_a_data_directory_tells_what_it_holds(ran):
    _, folder = ran
    session = ts.connect(folder / "data")
    assert {"received", "clean", "scores.here", "forecasts.here", "dead-letter"} <= set(session.topics())
    reader = _native.connect(str(folder / "data"))
    assert reader.tags == ["device"]
    times = session.read("clean", start=10**12, stop=2 * 10**12).numpy()["time"].astype("i8")
    assert (times.min(), times.max()) == (10**12, 1998 * 10**9), "row 1999 is out of range"
    batch = next(iter(reader.batches("clean", None, None, False, None)))
    where = batch.positions
    assert where["to"] - where["from"] == batch.num_rows == len(np.asarray(batch.offsets()))
    assert (where["topic"], where["origin"], where["partition"]) == ("clean", "clean", batch.partition)
    dead = session.read("dead-letter").numpy()
    assert set(dead["stage"]) == {"clean"}
    assert dead["time"].dtype == "datetime64[ns]"
    for frame in (session.read("dead-letter").polars(), session.read("dead-letter").pandas()):
        assert len(frame) == 6
    with pytest.raises(FrameError, match="did you mean `clean`"):
        session.read("cleen")
    with pytest.raises(OSError, match="did you mean `clean`"):
        reader.batches("cleen", None, None, False, None)


def test_a_follower_waits_as_long_as_it_was_told(ran):
    _, folder = ran
    session = ts.connect(folder / "data")
    assert list(session.live("clean", timeout=0.01)) == []
    batches = _native.connect(str(folder / "data")).batches("clean", 0, None, True, 0.01)
    assert sum(batch.num_rows for batch in batches) == ROWS - 6


def test_control_c_breaks_into_a_wait(ran):
    _, folder = ran
    code = (
        "import sys, signal, trackside as ts; live = ts.connect(sys.argv[1]).live('clean'); "
        "signal.signal(signal.SIGINT, signal.default_int_handler); print('waiting', flush=True); next(live)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "data")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = threading.Timer(WAIT, process.kill)
    watch.start()
    try:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(2)
        _, err = process.communicate()
    finally:
        watch.cancel()
        process.kill()
    assert "KeyboardInterrupt" in err


def test_a_model_that_raises_here_loses_its_row_and_no_other(tmp_path):
    model = f"{HERE}/models_for_tests.py:raises_on_spikes"
    summary, _ = up(write(tmp_path, [("spiky", model, "in_process")]))
    assert summary["balanced"] is True
    session = ts.connect(tmp_path / "data")
    scored, dead = session.read("scores.spiky").numpy(), session.read("dead-letter").numpy()
    spikes = [n for n in range(ROWS) if n % 50 == 49 and n % 500 != 499]
    lost = [text for text, stage in zip(dead["detail"], dead["stage"], strict=True) if stage == "model"]
    assert len(scored["score"]) + len(lost) == ROWS - 6
    assert len(lost) <= len(spikes)
    assert all("models_for_tests.py" in text and "bad row" in text for text in lost)


def test_a_model_that_cannot_be_loaded_says_what_to_do(tmp_path):
    file = write(tmp_path, [("missing", "no_such_file.py:Model", "in_process")])
    words = [sys.executable, "-m", "trackside", "up", str(file), "--until-idle", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = threading.Timer(WAIT, process.kill)
    watch.start()
    try:
        said = next(line for line in process.stderr if "no_such_file.py" in line)
    finally:
        watch.cancel()
        process.terminate()
        process.communicate(timeout=WAIT)
    assert said


def test_the_command_answers_its_exit_code():
    words = [sys.executable, "-m", "trackside"]
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (version.returncode, version.stdout) == (0, f"trackside {_native.__version__}\n")
    wrong = subprocess.run([*words, "upp"], capture_output=True, text=True, timeout=WAIT, check=False)
    assert wrong.returncode == 2
    assert "up" in wrong.stderr


def test_a_worker_that_waits_by_itself_finds_what_the_log_holds(ran):
    _, folder = ran
    place = folder / "data" / "log" / "clean" / "0"
    tail, at, offsets, values = _native.Tail(), 0, [], []
    while (found := tail.wait(tail_of(place, at, rows=700))).to > at:
        at = found.to
        if found.rows is not None:
            assert found.rows.num_rows <= 700
            offsets += found.rows.offsets().tolist()
            values += found.rows.numpy("value").tolist()
    batches = _native.connect(str(folder / "data")).batches("clean", None, None, False, None)
    ours = [batch for batch in batches if batch.partition == 0]
    assert offsets == [offset for batch in ours for offset in batch.offsets().tolist()]
    assert values == [value for batch in ours for value in batch.numpy("value").tolist()]
    nothing = tail.wait(tail_of(place, at, wait_ms=5))
    assert (nothing.to, nothing.rows) == (at, None)


def test_a_wait_that_cannot_be_is_an_error_with_a_reason(ran, tmp_path):
    _, folder = ran
    tail, message = _native.Tail(), tail_of(folder / "data" / "log" / "clean" / "0")
    for garbage in (b"", message[:-1], message + b"x", b"\xff" * 64):
        with pytest.raises(ValueError, match="cannot be read"):
            tail.wait(garbage)
    with pytest.raises(OSError, match="control"):
        tail.wait(tail_of(tmp_path))
    assert tail.wait(message).rows is not None, "it goes on"
