"""`clean`: the job in memory, JSON bytes to Arrow batches, against a hand-written loop that does the same work only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import measure
import workload


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    path, counts = workload.events(arguments.lines, arguments.input)
    answer = measure.run([workload.PROGRAM, "clean", path, str(arguments.runs)]).answer
    workload.check("the ceiling", answer["ceiling_counts"], counts)
    workload.check("trackside", answer["counts"], counts)
    lines = counts["lines"]
    ours, ceiling = ([lines / seconds for seconds in answer[who]] for who in ("ours", "ceiling"))
    share = measure.Spread([a / b for a, b in zip(ours, ceiling, strict=True)])
    say(f"  {'':10} {'k events per core-second':>32}")
    say(f"  {'trackside':10} {measure.Spread(ours).text(1e3):>32}")
    say(f"  {'ceiling':10} {measure.Spread(ceiling).text(1e3):>32}")
    say(f"  share of the ceiling, by pairs: {share.text(0.01)} %")
    return {
        "events_per_core_second": round(measure.Spread(ours).median),
        "ceiling_events_per_core_second": round(measure.Spread(ceiling).median),
        "ceiling_share": round(share.median, 4),
        "counts": counts,
        "runs": {"trackside": ours, "ceiling": ceiling},
    }
