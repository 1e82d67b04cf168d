"""The worker process: `python -m trackside.worker`, started by the engine, one for each model and partition.

It talks over the socket whose number is in `TRACKSIDE_WORKER_FD` and over nothing else: what the model prints goes to
the process's own output, which the engine reads as a log, and is bounded. The worker ends when the engine says so or is
gone; Ctrl-C and SIGTERM, which reach the whole group while the engine still drains, do nothing here. A crash in native
code and SIGABRT (which the engine may send to a model that hangs) leave a Python traceback.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import os
import select
import signal
import sys
import threading
from typing import Any, TextIO

from trackside.wire import TAIL, Closed, Wire, adopt

SAFE_FD = 900
"""Descriptors that the protocol needs are moved here and above; 1024 is the usual limit."""

GC_ALLOCATIONS = 50_000
"""Containers that a model may leave behind before the collector looks for cycles among them."""

PRINT_LENGTH_MAX = 64 << 10
"""Characters that a model may print for each batch; the rest is counted and left out."""


class BoundedText(io.TextIOBase):
    """A text stream that lets so much through for each batch; a model in a print loop floods nobody.

    >>> out = io.StringIO()
    >>> text = BoundedText(out, length_max=5)
    >>> _ = text.write("123456789")
    >>> text.next_batch()
    >>> out.getvalue()
    '12345\\n… 4 more characters left out\\n'
    """

    def __init__(self, stream: TextIO, length_max: int = PRINT_LENGTH_MAX) -> None:
        self._stream, self._max = stream, length_max
        self._left, self._dropped = length_max, 0

    def write(self, text: str) -> int:
        """Write as much as is still allowed; answers the full length, as if all went out."""
        allowed = text[: self._left]
        self._left -= len(allowed)
        self._dropped += len(text) - len(allowed)
        if allowed:
            self._quietly(allowed)
        return len(text)

    def next_batch(self) -> None:
        """Say what was left out, and allow as much again."""
        if self._dropped:
            self._quietly(f"\n… {self._dropped} more characters left out\n")
        self._left, self._dropped = self._max, 0
        self.flush()

    def flush(self) -> None:
        """Flush the stream below; a model may have closed it."""
        with contextlib.suppress(OSError, ValueError):  # the log may be gone; the work goes on
            self._stream.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the stream below."""
        return self._stream.encoding

    @property
    def buffer(self) -> Any:
        """The bytes below, not bounded: for code that writes bytes."""
        return self._stream.buffer

    def fileno(self) -> int:
        """The descriptor below, for code that asks."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def _quietly(self, text: str) -> None:
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._dropped += len(text)


def main() -> None:
    """Serve the engine until it says stop or is gone. Never returns."""
    number = os.environ.pop("TRACKSIDE_WORKER_FD", "")
    if not number.isdigit():
        sys.exit("trackside.worker is started by the engine, which gives it a socket; run `trackside up` instead")
    sock = adopt(int(number), SAFE_FD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    outputs = _guard_streams()
    stopping = threading.Event()
    threading.Thread(target=_watch, args=(sock.fileno(), stopping), name="trackside-watch", daemon=True).start()
    code = 0
    try:
        serve(Wire(sock), outputs, stopping)
    except Closed:
        code = 1
    for output in outputs:
        output.next_batch()
    os._exit(code)  # no atexit, no joining of threads: a model's leftovers must not hold up a drain


def serve(wire: Wire, outputs: tuple[BoundedText, ...], stopping: threading.Event) -> None:
    """Answer requests until `stop`; raises `Closed` when the engine is gone."""
    from trackside.harness import Harness  # noqa: PLC0415 (after the streams are guarded: imports may print)

    harness, memory = Harness(), _Memory()
    while True:
        kind, header, body = wire.receive()
        answer, parts = harness.answer(kind, header, body)
        operation = header.get("op") if isinstance(header, dict) else None
        if answer.get("rows"):
            anonymous = memory.anonymous()
            if anonymous is not None:
                answer["rss"] = anonymous
        if operation == "stop":
            stopping.set()  # before the reply: the engine may hang up as soon as it has it
        wire.send(answer, parts)
        if stopping.is_set():
            return
        del body, parts
        if kind != TAIL or answer.get("rows"):  # a wait for rows is no batch
            for output in outputs:
                output.next_batch()
        if operation == "load":
            gc.collect()
            gc.freeze()  # what is loaded stays: the collector need not walk through it between two batches
            gc.set_threshold(GC_ALLOCATIONS)  # and looks for cycles every thousand batches, not every seventh


class _Memory:
    """Reads this process's anonymous resident memory from an open file: a few µs, no text to search."""

    def __init__(self) -> None:
        self._fd: int | None = None
        try:
            low = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # not Linux: the engine looks from outside
        self._fd, self._page = _move_up(low), os.sysconf("SC_PAGE_SIZE")

    def anonymous(self) -> int | None:
        """Bytes, or None where they cannot be told. Mapped log pages are the kernel's and do not count."""
        if self._fd is None:
            return None
        try:
            _, resident, shared, *_ = os.pread(self._fd, 128, 0).split()
        except (OSError, ValueError):
            self._fd = None
            return None
        return (int(resident) - int(shared)) * self._page


def _guard_streams() -> tuple[BoundedText, ...]:
    """Nothing to read on stdin, bounded stdout and stderr, and a traceback on a crash even if stderr is closed."""
    empty = os.open(os.devnull, os.O_RDONLY)
    if empty != 0:  # the engine may have given the socket as stdin, which is free by now
        os.dup2(empty, 0)
        os.close(empty)
    try:
        faulthandler.enable(_move_up(os.dup(2)))
    except OSError:
        faulthandler.disable()  # started without a stderr: nobody would read it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a crash takes what is not written along
    guarded = tuple(BoundedText(stream) for stream in (sys.stdout, sys.stderr) if stream is not None)
    if len(guarded) == 2:
        sys.stdout, sys.stderr = guarded
    return guarded


def _move_up(fd: int) -> int:
    import fcntl  # noqa: PLC0415 (Unix only)

    try:
        safe = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SAFE_FD)
    except OSError:
        return fd
    os.close(fd)
    return safe


def _watch(fd: int, stopping: threading.Event) -> None:
    """End the process when the engine is gone, even while the model computes.

    The main thread notices only between batches, and a model in an endless loop would be an orphan for ever. A parent
    death signal will not do: it fires when the *thread* that started the worker ends, not its process.
    """
    poll: Any = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0))  # hang-up and error are always reported; data is not asked for
    while True:
        for _, event in poll.poll():
            if event & ~select.POLLIN:
                if stopping.is_set():
                    return
                os._exit(1)


if __name__ == "__main__":
    main()
