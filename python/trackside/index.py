"""Series as dense numbers: 0, 1, 2 … in order of first appearance, stable over the life of a model instance.

A model keeps one array slot for each series and never looks at text on the hot path. One `Index` serves batches of the
log (numbered by the native index) or batches made of plain arrays, with the same result.

>>> index = Index(["device"])
>>> index.number([["b", "a", "b"]], rows=3)
array([0, 1, 0], dtype=int32)
>>> index.keys
[('b',), ('a',)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trackside.errors import StateError

if TYPE_CHECKING:
    from trackside import _native

Ids = npt.NDArray[np.int32]
Key = tuple[str | None, ...]


class Index:
    """Numbers the series of a partition; `keys[i]` are the tags of series `i`."""

    def __init__(self, tags: Sequence[str], native: _native.SeriesIndex | None = None) -> None:
        self.tags = tuple(tags)
        self.keys: list[Key] = []
        self._native = native
        self._ids: dict[Key, int] = {}

    def number_native(self, batch: _native.Batch) -> Ids:
        """The ids of a native batch's rows."""
        if self._native is None:
            raise StateError("this index numbers plain batches; give Index a native index")
        ids: Ids = batch.series_ids(self._native)
        if len(self._native) > len(self.keys):
            self.keys.extend(self._native.keys(len(self.keys)))
        return ids

    def number(self, columns: Sequence[Sequence[str | None]], rows: int) -> Ids:
        """The ids of rows given by their tag columns; no tags at all make one series."""
        ids, known = np.zeros(rows, np.int32), self._ids
        keys: list[Key] = list(zip(*columns, strict=True)) if columns else [()] * rows
        for row, key in enumerate(keys):
            found = known.get(key)
            if found is None:
                found = known[key] = len(self.keys)
                self.keys.append(key)
            ids[row] = found
        ids.flags.writeable = False
        return ids

    def restore(self, keys: Sequence[Key]) -> None:
        """Give the same ids as the index that had these keys."""
        if self.keys:
            raise StateError("an index is restored before its first batch, not after")
        self.keys = [tuple(key) for key in keys]
        self._ids = {key: at for at, key in enumerate(self.keys)}
        if self._native is not None:
            self._native.restore(self.keys)
