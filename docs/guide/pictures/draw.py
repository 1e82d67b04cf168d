"""Draws the pictures of `cleaning.md`: what each cleaner does to real data, by the cleaners themselves.

`python docs/guide/pictures/draw.py FOLDER`, where FOLDER holds the data of the Numenta Anomaly Benchmark (MIT licence,
https://github.com/numenta/NAB); it needs `pip install trackside matplotlib polars`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib import pyplot

from trackside import clean

HERE = Path(__file__).resolve().parent
BAD = 1 | 2 | 4
"""Out of range, spike, flatline."""

INK, GREY, RED, BLUE = "#334155", "#94a3b8", "#dc2626", "#2563eb"


@dataclass(frozen=True)
class Picture:
    """A stretch of a file, and what one block makes of it."""

    name: str
    file: str
    first: int
    last: int
    block: dict[str, Any]
    unit: str


PICTURES = [
    Picture(
        "range",
        "realKnownCause/machine_temperature_system_failure.csv",
        3700,
        4100,
        {"type": "range", "field": "value", "min": 40, "max": 110},
        "°F",
    ),
    Picture(
        "range-rate",
        "realKnownCause/machine_temperature_system_failure.csv",
        3700,
        4100,
        {"type": "range", "field": "value", "max_rate": 0.02},
        "°F",
    ),
    Picture(
        "hampel",
        "realTraffic/TravelTime_387.csv",
        300,
        700,
        {"type": "hampel", "field": "value", "window": 11, "floor": 15.0, "action": "replace"},
        "s",
    ),
    Picture(
        "flatline",
        "realKnownCause/rogue_agent_key_hold.csv",
        1000,
        1320,
        {"type": "flatline", "field": "value", "count": 12},
        "key hold",
    ),
    Picture(
        "median",
        "realTraffic/occupancy_6005.csv",
        300,
        500,
        {"type": "median", "field": "value", "window": 7},
        "%",
    ),
    Picture(
        "deadband",
        "realKnownCause/ambient_temperature_system_failure.csv",
        300,
        600,
        {"type": "deadband", "field": "value", "width": 1.0, "every": "12h"},
        "°F",
    ),
]


def main() -> None:
    """All of them, as SVG beside this file."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "trackside", "font.size": 10, "axes.edgecolor": GREY})
    mpl.rcParams.update({"axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.family": "sans-serif"})
    for picture in PICTURES:
        frame = pl.read_csv(Path(sys.argv[1]) / picture.file, try_parse_dates=True).rename({"timestamp": "time"})
        frame = frame.slice(picture.first, picture.last - picture.first).with_columns(pl.col("value").cast(pl.Float64))
        draw(picture, frame, clean(frame, [picture.block]))


def draw(picture: Picture, frame: pl.DataFrame, cleaned: pl.DataFrame) -> None:
    """Grey is what came, blue what is left, red what was found."""
    figure, axes = pyplot.subplots(figsize=(7.2, 2.4), layout="constrained")
    axes.plot(frame["time"], frame["value"], color=GREY, linewidth=1, label="received")
    kind = picture.block["type"]
    if kind == "deadband":
        label = f"clean: {cleaned.height} of {frame.height} rows"
        axes.step(cleaned["time"], cleaned["value"], color=BLUE, linewidth=1.2, where="post", label=label)
    elif "value_original" in cleaned.columns:
        axes.plot(cleaned["time"], cleaned["value"], color=BLUE, linewidth=1.2, label="clean")
    if "value_quality" in cleaned.columns:
        found = cleaned.filter(pl.col("value_quality") & BAD != 0)
        values = found["value_original"] if "value_original" in found.columns else found["value"]
        if found.height:
            axes.plot(found["time"], values, ".", color=RED, markersize=5, label=f"found: {found.height} values")
    axes.set_ylabel(picture.unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.22), ncols=3, fontsize=9)
    axes.xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    figure.savefig(HERE / f"{picture.name}.svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
