"""The Rust library: engine, command, cleaners, detectors and the reader of the log."""

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

__version__: str

def main(argv: list[str]) -> int:
    """Run the `trackside` command; answers the exit code."""

class SeriesIndex:
    """Dense ids of series, 0, 1, 2 … in order of first appearance."""

    def __init__(self, tags: list[str]) -> None: ...
    def __len__(self) -> int: ...
    def keys(self, start: int = 0) -> list[tuple[str | None, ...]]: ...
    def restore(self, keys: list[tuple[str | None, ...]]) -> None: ...

class Batch:
    """One Arrow record batch, mapped read-only where it can be."""

    @staticmethod
    def from_arrow(obj: object) -> Batch:
        """Take anything with `__arrow_c_stream__`; several record batches become one."""
    @property
    def num_rows(self) -> int: ...
    def schema_names(self) -> list[str]: ...
    def numpy(self, name: str) -> npt.NDArray[Any]:
        """Numbers, booleans, times (datetime64[ns]), read-only: a view, or with nulls a copy: floats with NaN, NaT.

        TypeError for text, KeyError for an unknown name.
        """
    def strings(self, name: str) -> list[str | None]:
        """Text; bytes as UTF-8. TypeError for numbers, KeyError for an unknown name."""
    def series_ids(self, index: SeriesIndex) -> npt.NDArray[Any]:
        """int32, one for each row; series seen first get the next ids of `index`."""
    def offsets(self) -> npt.NDArray[Any]:
        """int64, for each row where it stands in its partition (dead letters and forecasts: their frame)."""
    def slice(self, start: int, stop: int, /) -> Batch: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class TopicBatch(Batch):
    """What a `Reader` yields."""

    @property
    def partition(self) -> int: ...
    @property
    def positions(self) -> dict[str, Any]:
        """Where it stands: topic, origin (the topic in the log that holds it), partition, epoch, from, to."""

class Update:
    """The engine's question which rows come next."""

    def __init__(self, message: bytes) -> None:
        """ValueError for bytes that are no such message."""
    @property
    def replay(self) -> bool:
        """Whether nobody reads the answer: the model only gets its state back."""
    def batches(self, apart: bool) -> list[Batch]:
        """The rows as one batch, or `apart`, one for each frame in the log. OSError when they cannot be read."""

class Tail:
    """A worker's own eye on the end of the log."""

    def __init__(self) -> None: ...
    def wait(self, message: bytes) -> Found:
        """Wait as the engine's message says, for a bounded time.

        ValueError for bytes that are no such message, OSError when the log cannot be read.
        """

class Found:
    """What came next in the log."""

    @property
    def to(self) -> int:
        """The offset after it; the one that was asked from when nothing came."""
    @property
    def rows(self) -> Batch | None:
        """None when nothing came, or only frames without rows."""

def clean(batch: Batch, blocks: str, schema: str) -> tuple[Batch, Batch, dict[str, int]]:
    """Run the cleaners of a JSON list of blocks: (clean, dead, counts); ValueError when they do not fit the table.

    Counts: received, clean, dead, and filtered.<name> for each rule that dropped rows.
    """

class Reader:
    """A data directory, opened for reading; needs no lock."""

    @property
    def tags(self) -> list[str]: ...
    def topics(self) -> list[str]: ...
    def batches(
        self,
        topic: str,
        start: int | None,
        stop: int | None,
        follow: bool,
        timeout: float | None,
    ) -> Iterator[TopicBatch]:
        """Batches that may hold rows with start <= time < stop (event time, ns; None = open).

        With `follow` the iterator waits for new ones, at most `timeout` s for each (None = for ever), Ctrl-C breaks in;
        without `start` it begins with what comes now.
        """

def connect(path: str) -> Reader:
    """Open a data directory, or the one that a pipeline file names. OSError when it cannot be read."""

class RecordExcess:
    """The anomaly detector: record excess with refractory time, all series of one field."""

    def __init__(self, config: str) -> None:
        """`config` is JSON; unknown or wrong options are a ValueError."""
    def update(self, series: Any, times: Any, values: Any) -> dict[str, Any]:
        """One entry a row: score, anomaly, ready, expected, lower, upper; and reasons, a list of (row, text)."""
    def snapshot(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...

class Ens4:
    """The forecaster: an ensemble of online experts, all series of one field."""

    def __init__(self, config: str) -> None:
        """`config` is JSON; unknown or wrong options are a ValueError."""
    def update(self, series: Any, times: Any, values: Any) -> dict[str, Any]:
        """One entry a forecast: row, made_at, for_time (ns), mean, lower, upper.

        And one entry a row: expected, expected_lower, expected_upper, ready.
        `row` is the index of a row of this batch, of the series that the forecast is for.
        """
    def snapshot(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...
