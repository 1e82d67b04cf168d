"""The live page in a real browser against a real pipeline: replayed data, an anomaly, a device with a hostile name.

The page's own tests (`web/test`) do the looking; here is the pipeline that they look at. Screenshots are kept in the
folder named by `TRACKSIDE_SHOTS`, else in the test's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import CI, ROOT, Start
from running import environment

WEB = ROOT / "web"
HOSTILE = "<img src=x onerror=alert(1)>"
DEVICES = ("pump-1", "pump-2", HOSTILE)
ROWS = 600
PATIENCE = 240

PIPELINE = """
[pipeline]
name = "page"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device", "sensor"]
fields = { value = "float" }

[[source]]
type = "file"
path = "events.jsonl"
mode = "replay"
speed = 100

[[clean]]
type = "range"
field = "value"
min = 0
max = 60

[[clean]]
type = "hampel"
field = "value"

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"

[[model]]
name = "forecast"
use = "trackside.models:Forecast"
field = "value"

[[sink]]
type = "parquet"
topic = "clean"

[server]
listen = "127.0.0.1:0"
"""


def browser() -> str | None:
    """The browser, found as the page's tests find it."""
    named = os.environ.get("TRACKSIDE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def events() -> str:
    """Ten minutes that end now, a row a second and device, each with a step nobody could expect; one broken line."""
    noise = np.random.default_rng(5)
    began = int(time.time() * 1000) - ROWS * 1000
    lines = []
    for row in range(ROWS):
        for number, device in enumerate(DEVICES):
            value = 20 + 5 * np.sin(row / 40 + number) + noise.normal(0, 0.3) + (25 if 450 <= row < 454 else 0)
            event = {"ts": began + row * 1000, "device": device, "sensor": "temp", "value": round(float(value), 3)}
            lines.append(json.dumps(event))
    lines.insert(900, '{"ts": 17000000, "device": "pump-1", "sensor": "temp", "val')
    return "\n".join(lines) + "\n"


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """The folder for the screenshots."""
    return Path(os.environ.get("TRACKSIDE_SHOTS", tmp_path / "shots"))


def test_the_page_shows_a_running_pipeline(start: Start, tmp_path: Path, shots: Path) -> None:
    found = browser()
    if found is None:
        assert not CI, "Chromium is missing"
        pytest.skip("no Chromium; install it or name it in TRACKSIDE_CHROMIUM")
    assert (WEB / "node_modules" / "playwright-core").exists(), "run `make page` first"
    (tmp_path / "events.jsonl").write_text(events())
    up = start(PIPELINE)
    up.wait("an anomaly", lambda status: status["anomalies"] > 0 and status["forecasts"] > 0)
    variables = {
        "TRACKSIDE_URL": up.ready["token_url"],
        "TRACKSIDE_SHOTS": str(shots),
        "TRACKSIDE_HOSTILE": HOSTILE,
        "TRACKSIDE_CHROMIUM": found,
    }
    done = subprocess.run(
        ["npm", "test"],
        cwd=WEB,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    for picture in (f"page-{scheme}-{width}.png" for scheme in ("dark", "light") for width in (360, 390, 1440)):
        assert (shots / picture).stat().st_size > 10_000, picture
    up.wait("the end of the file", lambda status: status["sums"]["ingest"]["taken"] == ROWS * len(DEVICES) + 1)
    summary = up.stop()
    assert summary["balanced"], summary
    assert (summary["dead"], summary["clean"], summary["in_flight"]) == (1, ROWS * len(DEVICES), 0)
