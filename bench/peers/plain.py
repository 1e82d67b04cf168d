"""Plain Python: a loop over the lines with orjson, a dict of series, pyarrow for the table. `plain.py IN OUT`"""

from __future__ import annotations

import json
import sys
import time

import orjson
from job import SENSORS, Series, Table


def main(source: str, target: str) -> None:
    began = time.process_time()
    counts = dict.fromkeys(("lines", "malformed", "duplicates", "out_of_range", "spikes", "survivors"), 0)
    all_series: dict[tuple[str, str], Series] = {}
    table, rows = Table(target), []
    with open(source, "rb") as lines:  # noqa: PTH123
        for line in lines:
            counts["lines"] += 1
            try:
                event = orjson.loads(line)
                ts, device, sensor = event["ts"], event["device"], event["sensor"]
                value, unit, seq = event["value"], event["unit"], event["seq"]
            except (ValueError, KeyError, TypeError):
                counts["malformed"] += 1
                continue
            key = (device, sensor)
            series = all_series.get(key)
            if series is None:
                series = all_series[key] = Series()
            limits = SENSORS[sensor]
            rule = series.judge(value, seq, limits)
            if rule is not None:
                counts[rule] += 1
                continue
            rows.append((ts, device, sensor, value + limits[3], limits[4] or unit, seq))
            if len(rows) == 8192:
                table.extend(rows)
                rows.clear()
    if rows:
        table.extend(rows)
    table.close()
    counts["survivors"] = table.rows
    print(json.dumps({"counts": counts, "cpu_seconds": time.process_time() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
