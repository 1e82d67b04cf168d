"""Trackside: events from sensors, cleaned in Rust, judged by Python models while they are milliseconds old.

>>> import trackside as ts
>>> @ts.model(field="value", history=5)
... def spikes(batch: ts.Batch) -> "np.ndarray":
...     return batch["value"] > 100
>>> ts.testing.run(spikes, {"time": [1, 2, 3], "value": [1.0, 999.0, 2.0]})["score"]
array([0., 1., 0.])

Names are imported when they are first used: the command starts without NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackside import models, testing
    from trackside.batch import Batch
    from trackside.cleaning import clean
    from trackside.contract import Model
    from trackside.errors import TracksideError
    from trackside.function import model
    from trackside.notebook import connect
    from trackside.scores import Forecasts, Scores

    __version__: str

# Where each public name lives. No module may have the name of a function here: importing it would take the name over.
_HOMES = {
    "Batch": "trackside.batch",
    "Forecasts": "trackside.scores",
    "Model": "trackside.contract",
    "Scores": "trackside.scores",
    "TracksideError": "trackside.errors",
    "clean": "trackside.cleaning",
    "connect": "trackside.notebook",
    "model": "trackside.function",
}
_MODULES = ("models", "testing")

__all__ = [
    "Batch",
    "Forecasts",
    "Model",
    "Scores",
    "TracksideError",
    "__version__",
    "clean",
    "connect",
    "model",
    "models",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"trackside.{name}")
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415

        value: Any = metadata.version("trackside")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module `trackside` has no `{name}`; it has: {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
