"""Row 44: a hundred broken pipeline files; each is refused with file, line, column and what to do.

The good file is broken line by line in the ways people break files. What must be said of each stands in
`golden/config.txt`; `TRACKSIDE_BLESS=1 make faults ARGS=44` writes it anew, for a review of the difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from row import PROGRAM, Context, Result, Row
from running import environment

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "config.txt"
PLACE = re.compile(r"pipeline\.toml:\d+:\d+")
HINT = re.compile(
    r"did you mean|choose|write|expected|give|leave|add|set|use|one of|needs|must|there (is|are)|name|is a ", re.I
)
SECONDS_MAX = 5.0

GOOD = """\
[pipeline]
name = "plant"
partitions = 2
snapshot_every = "10s"

[schema]
time = { field = "ts", unit = "ms" }
series = ["device", "sensor"]
fields = { value = "float", seq = "integer" }
unknown = "keep"

[[source]]
type = "http"
max_body = 1000000
max_lines = 1000

[[clean]]
type = "dedupe"
by = "seq"
within = 64

[[clean]]
type = "range"
field = "value"
min = 0.0
max = 10.0
action = "mark"

[[clean]]
type = "hampel"
field = "value"
window = 7

[[model]]
name = "anomaly"
use = "trackside.models:Anomaly"
field = "value"
deadline = "10s"

[[sink]]
type = "parquet"
topic = "clean"
age = "60s"

[[sink]]
type = "webhook"
topic = "scores.anomaly"
url = "http://127.0.0.1:9/rows"
where = "anomaly"

[server]
listen = "127.0.0.1:0"
"""


def broken() -> Iterator[tuple[str, str]]:
    """What was broken, and the file."""
    lines = GOOD.splitlines()
    for at, line in enumerate(lines):

        def file(new: str, at: int = at) -> str:
            return "\n".join([*lines[:at], new, *lines[at + 1 :]]) + "\n"

        if line.startswith("["):
            yield f"{at + 1}: misspelt section", file(line.replace("]", "z]", 1))
            yield f"{at + 1}: open bracket", file(line.rstrip("]"))
        elif "=" in line:
            key, value = (part.strip() for part in line.split("=", 1))
            yield f"{at + 1}: misspelt key {key}", file(f"{key[0]}{key} = {value}")
            yield f"{at + 1}: no value of {key}", file(f"{key} =")
            wrong = "[[1]]" if value.startswith('"') or value[0].isdigit() else "true"
            yield f"{at + 1}: wrong type of {key}", file(f"{key} = {wrong}")


def refused(room: Path) -> subprocess.CompletedProcess[str]:
    """What `up` says to the folder's file."""
    return subprocess.run(
        [PROGRAM, "up", "pipeline.toml"],
        cwd=room,
        env=environment(TRACKSIDE_PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def broken_files(context: Context) -> Result:
    """Exit code 2, place and hint, the golden words, no data directory, no panic."""
    result, said = Result(), []
    cases = list(broken())[: context.count(20, 100, 1000)]
    for number, (name, text) in enumerate(cases):
        room = context.room(f"case-{number}")
        (room / "pipeline.toml").write_text(text)
        try:
            done = refused(room)
        except subprocess.TimeoutExpired:
            result.bars.append(f"{name}: it was taken for a good file")
            continue
        words = "\n".join(line.rstrip() for line in done.stderr.replace(str(room), "").splitlines())
        said.append(f"## {name}\n{words}\n")
        result.count += 1
        result.expect(done.returncode == 2, f"{name}: exit code {done.returncode}: {words[:300]}")
        result.expect(PLACE.search(words), f"{name}: no file, line and column in: {words[:300]}")
        result.expect(HINT.search(words), f"{name}: no hint in: {words[:300]}")
        result.expect("panicked" not in words, f"{name}: {words[:300]}")
        result.expect(not (room / "data").exists(), f"{name}: a data directory was made")
    if os.environ.get("TRACKSIDE_BLESS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text("\n".join(said))
    golden = GOLDEN.read_text()
    changed = [one for one in said if one not in golden]
    for one in changed[:3]:
        result.bars.append(f"not the golden words: {one[:400]}")
    return result


ROWS = [Row("44", "broken pipeline files", broken_files, unit="files", seconds=20)]
