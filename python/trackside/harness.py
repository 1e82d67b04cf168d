"""`Harness`: the model's side of the engine's protocol, without the socket.

The worker process feeds it messages from its socket; with `mode = "in_process"` the engine calls it directly. One
harness is one model on one partition, used by one thread at a time. `call` takes and answers the very bytes of the
protocol and never raises: what a model raises is an answer with the error in words and the traceback.

Operations: `load`, `restore`, `snapshot`, `stop`, whose header is JSON, and the two on every row's way, whose headers
have forms of their own that `_native` reads: the update, which names rows, and the tail, which waits for them. After a
failed one the state may be half moved; the engine restores (empty bytes = a fresh model) before it goes on.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackside import load, wire
from trackside.batch import Batch
from trackside.columns import NativeColumns
from trackside.errors import ModelError
from trackside.index import Index
from trackside.judge import Judge
from trackside.scores import Forecasts, Scores

Header = dict[str, Any]
Parts = Sequence[Any]
"""Buffers that follow the header, in its order: bytes or contiguous arrays."""

ERROR_LENGTH_MAX = 2_000
TRACEBACK_LENGTH_MAX = 16_000

_HERE = str(Path(__file__).parent)


class Harness:
    """Answers the engine for one model on one partition. `native` is `trackside._native`, or a fake of it in tests."""

    def __init__(self, native: Any = None) -> None:
        self._native = native
        self._judge: Judge | None = None
        self._tail: Any = None
        self._tags: tuple[str, ...] = ()
        self._partition = 0
        self._operations: dict[str, Callable[[Header, Any], tuple[Header, Parts]]] = {
            "load": lambda header, _: (self.load(header), ()),
            "restore": self._restore,
            "snapshot": lambda _, __: ({"ok": True}, (self.snapshot(),)),
            "stop": lambda _, __: ({"ok": True}, ()),
        }

    def call(self, header: bytes | str, body: bytes = b"") -> tuple[bytes, bytes]:
        """One message of the protocol and its answer: (JSON header, body). Never raises."""
        return _as_bytes(self.answer(wire.JSON, json.loads(header), body))

    def call_update(self, header: bytes) -> tuple[bytes, bytes]:
        """The same for an update."""
        return _as_bytes(self.answer(wire.UPDATE, header))

    def answer(self, kind: int, header: Header | bytes, body: Any = b"") -> tuple[Header, Parts]:
        """Do what a message says; an exception, exit() included, becomes an answer."""
        try:
            if isinstance(header, bytes):
                return self._wait(header) if kind == wire.TAIL else self._update(header)
            operation = self._operations.get(header["op"])
            if operation is None:
                raise ModelError(f"unknown operation `{header['op']}`; there are: {', '.join(self._operations)}")
            return operation(header, body)
        except BaseException as error:  # noqa: BLE001, RUF100 (a model may raise anything, and the engine must hear of it)
            return explain(error), ()

    def load(self, header: Header) -> Header:
        """Find and make the model; the answer tells what it will score."""
        if self._native is None:
            from trackside import _native  # noqa: PLC0415 (the tests of pure models need no library)

            self._native = _native
        native = self._native
        tags, fields = tuple(header.get("tags") or ()), tuple(header.get("fields") or ())
        self._tags, self._partition = tags, int(header.get("partition", 0))
        target = load.find(header["use"], header.get("base") or ".")
        options = dict(header.get("options") or {})
        judge = Judge(
            lambda: load.make(target, options, fields, tags),
            lambda: Index(tags, native.SeriesIndex(list(tags))),
        )
        load.try_out(judge.model)
        judge.snapshot()  # what cannot be saved is said now, not an hour later
        self._judge = judge
        model = judge.model
        return {
            "ok": True,
            "version": str(model.version),
            "fields": list(judge.fields),
            "reads": model.reads,
            "warm_up": int(model.warm_up),
            "split": judge.splits,
        }

    def restore(self, body: bytes) -> None:
        """Take up a snapshot; empty bytes make a fresh model."""
        self._loaded().restore(body)

    def snapshot(self) -> bytes:
        """The state as bytes."""
        return self._loaded().snapshot()

    def _loaded(self) -> Judge:
        if self._judge is None:
            raise ModelError("no model is loaded; send `load` first")
        return self._judge

    def _restore(self, _: Header, body: Any) -> tuple[Header, Parts]:
        self.restore(bytes(body))
        return {"ok": True}, ()

    def _update(self, header: bytes) -> tuple[Header, Parts]:
        judge = self._loaded()
        update = self._native.Update(header)
        # A model that splits score and learn learns between frames, so it must see them as they were logged.
        return self._score(judge, update.batches(judge.splits), reply=not update.replay)

    def _wait(self, header: bytes) -> tuple[Header, Parts]:
        judge = self._loaded()
        if self._tail is None:
            self._tail = self._native.Tail()
        try:
            found = self._tail.wait(header)
        except (OSError, ValueError) as error:  # the log, not the model: the engine tells it of rows, then
            return {"ok": False, "unable": True, "error": str(error)}, ()
        answer, parts = self._score(judge, () if found.rows is None else (found.rows,), reply=True)
        answer["to"] = found.to
        return answer, parts

    def _score(self, judge: Judge, rows: Sequence[Any], *, reply: bool) -> tuple[Header, Parts]:
        scored: list[tuple[Batch, Scores]] = []
        for native in rows:
            batch = Batch(NativeColumns(native), judge.index, partition=self._partition)
            if batch.rows:
                scored.append((batch, judge.judge(batch)))
        answer: Header = {"ok": True, "rows": sum(batch.rows for batch, _ in scored), "columns": []}
        if not (reply and scored):
            return answer, ()
        learning = judge.learning(scored[-1][0])
        if learning:
            answer["learning"] = learning
        return _reply(answer, _joined(scored, len(judge.fields)))


def _as_bytes(answer: tuple[Header, Parts]) -> tuple[bytes, bytes]:
    header, parts = answer
    return json.dumps(header).encode(), b"".join(bytes(memoryview(p).cast("B")) for p in parts if len(p))


def _joined(scored: list[tuple[Batch, Scores]], width: int) -> Scores:
    """Verdicts of several batches as one; rows of reasons and forecasts count on."""
    if len(scored) == 1:
        return scored[0][1]
    reasons: dict[Any, str] = {}
    forecasts: list[Forecasts] = []
    at = 0
    for batch, scores in scored:
        reasons.update({key + at * width: text for key, text in scores.reasons.items()})
        if scores.forecasts is not None:
            scores.forecasts.row = scores.forecasts.row + at
            forecasts.append(scores.forecasts)
        at += batch.rows
    everything = [scores for _, scores in scored]
    columns: dict[str, Any] = {}
    for name, _ in _SCORE_COLUMNS:
        parts = [getattr(s, name) for s in everything]
        blanks = [np.full(len(s.score), np.nan) if p is None else p for s, p in zip(everything, parts, strict=True)]
        columns[name] = None if all(p is None for p in parts) else np.concatenate(blanks)
    return Scores(**columns, reasons=reasons, forecasts=Forecasts.concat(forecasts))


_SCORE_COLUMNS = (
    ("score", "f8"),
    ("anomaly", "u1"),
    ("ready", "u1"),
    ("expected", "f8"),
    ("lower", "f8"),
    ("upper", "f8"),
)
_FORECAST_COLUMNS = (
    ("forecast_row", "row", "i8"),
    ("forecast_field", "field", "i4"),
    ("made_at", "made_at", "i8"),
    ("for_time", "for_time", "i8"),
    ("mean", "mean", "f8"),
    ("forecast_lower", "lower", "f8"),
    ("forecast_upper", "upper", "f8"),
)


def _reply(answer: Header, scores: Scores) -> tuple[Header, Parts]:
    """Header and buffers of checked scores: the arrays themselves, not copied."""
    columns: list[list[Any]] = answer["columns"]
    parts: list[Any] = []
    for name, kind in _SCORE_COLUMNS:
        values = getattr(scores, name)
        if values is not None:
            columns.append([name, kind, len(values)])
            parts.append(values)
    if scores.forecasts is not None:
        for name, attribute, kind in _FORECAST_COLUMNS:
            values = getattr(scores.forecasts, attribute)
            columns.append([name, kind, len(values)])
            parts.append(np.ascontiguousarray(values))
    if scores.reasons:
        answer["reasons"] = [[key, text] for key, text in sorted(scores.reasons.items())]
    return answer, parts


def explain(error: BaseException) -> Header:
    """An exception in words, with the traceback of the user's own lines."""
    text = str(error) if type(error).__module__ == "trackside.errors" else f"{type(error).__name__}: {error}"
    if isinstance(error, SystemExit):
        text = f"the model called exit({error.code!r})"
    return {
        "ok": False,
        "error": text.rstrip(": ")[:ERROR_LENGTH_MAX],
        "traceback": _traceback(error)[-TRACEBACK_LENGTH_MAX:],
    }


def _traceback(error: BaseException) -> str:
    """Frames of this package above the model's code say nothing to the reader; without any others, all are shown."""
    whole = traceback.TracebackException.from_exception(error, limit=None)
    frame = whole
    seen = 0
    while frame is not None and seen < 16:
        own = [line for line in frame.stack if not line.filename.startswith(_HERE) and "importlib" not in line.filename]
        if own:
            frame.stack = traceback.StackSummary.from_list(own)
        frame, seen = frame.__cause__ or frame.__context__, seen + 1  # type: ignore[assignment]
    return "".join(whole.format())
