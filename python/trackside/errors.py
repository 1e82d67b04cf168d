"""The errors of the package: each says what was wrong, what was possible, and what to do.

All are subclasses of :class:`TracksideError`, so one ``except`` catches them; bad *data* is never an error here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TracksideError(Exception):
    """The base of all errors of this package."""


class ModelError(TracksideError):
    """A model cannot be loaded, or is not what a model must be."""


class ScoresError(TracksideError):
    """A model's answer has the wrong shape, kind or values."""


class StateError(TracksideError):
    """A snapshot cannot be written, read, or does not fit the model."""


class FrameError(TracksideError):
    """A DataFrame cannot be read as events, or lacks a column."""


def did_you_mean(what: str, given: str, choices: Iterable[str]) -> str:
    """Say that `given` is unknown, the nearest choice, and all choices.

    >>> did_you_mean("column", "vaule", ["time", "value"])
    'unknown column `vaule`; did you mean `value`? (there are: time, value)'
    """
    known = sorted(set(choices))
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ";"
    listing = f"there are: {', '.join(known)}" if known else "there are none"
    return f"unknown {what} `{given}`{hint} ({listing})" if near else f"unknown {what} `{given}`{hint} {listing}"
