"""The wire between engine and worker: length-prefixed messages over a Unix stream socket.

A message is 16 bytes of prefix (`u32` header length, `u32` kind, `u64` body length, little-endian), a header, a body.
A header of kind `JSON` is that, as all replies are; those of `UPDATE` and `TAIL` are bytes that `_native` reads.
Strict request and reply, so at most one message is ever in the buffer, which is allocated once and grows when it must.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

PREFIX = struct.Struct("<IIQ")
HEADER_LENGTH_MAX = 64 << 20
BODY_LENGTH_MAX = 4 << 30
BUFFER_LENGTH = 1 << 16
JSON, UPDATE, TAIL = range(3)


class Closed(Exception):  # noqa: N818 (it is an end, not an error)
    """The engine is gone, or sent what is no message: there is nobody to answer."""


class Wire:
    """Receives requests and sends replies on a connected stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(BUFFER_LENGTH)
        self._view = memoryview(self._buffer)

    def receive(self) -> tuple[int, dict[str, Any] | bytes, memoryview]:
        """Wait for the next message: (kind, header, body), JSON as a dict. The body is good until then."""
        have = self._receive(self._view)  # a request comes in one piece, mostly
        if have < PREFIX.size:
            have = self._fill(have, PREFIX.size)
        header_length, kind, body_length = PREFIX.unpack_from(self._buffer)
        if header_length > HEADER_LENGTH_MAX or body_length > BODY_LENGTH_MAX:
            raise Closed(f"a message of {header_length} + {body_length} bytes is over the limit")
        start, end = PREFIX.size + header_length, PREFIX.size + header_length + body_length
        if end > len(self._buffer):
            self._grow(have, end)
        if have < end:
            self._fill(have, end)
        header, body = bytes(self._view[PREFIX.size : start]), self._view[start:end]
        return kind, header if kind else json.loads(header), body

    def send(self, header: dict[str, Any] | bytes, parts: Sequence[Any] = (), kind: int = JSON) -> None:
        """Send one message; the parts go out from where they lie."""
        text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
        body = [memoryview(part).cast("B") for part in parts if len(part)]
        prefix = PREFIX.pack(len(text), kind, sum(map(len, body)))
        pieces: list[Any] = [prefix + text, *body]
        total = sum(map(len, pieces))
        try:
            sent = self._sock.sendmsg(pieces)
            if sent < total:
                self._send_rest(pieces, sent)
        except OSError as error:
            raise Closed(str(error)) from None

    def _fill(self, have: int, wanted: int) -> int:
        while have < wanted:
            have += self._receive(self._view[have:])
        return have

    def _receive(self, into: memoryview) -> int:
        try:
            got = self._sock.recv_into(into)
        except OSError as error:
            raise Closed(str(error)) from None
        if not got:
            raise Closed("the engine closed the socket")
        return got

    def _grow(self, have: int, wanted: int) -> None:
        larger = bytearray(wanted)
        larger[:have] = self._view[:have]
        self._buffer, self._view = larger, memoryview(larger)

    def _send_rest(self, pieces: list[Any], sent: int) -> None:
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
                continue
            self._sock.sendall(memoryview(piece)[sent:])
            sent = 0


def adopt(fd: int, away_from: int) -> socket.socket:
    """Take over an inherited socket under a high number that the model's children do not get.

    A model that closes "all" descriptors, or low ones by mistake, then does not cut the wire.
    """
    import fcntl  # noqa: PLC0415 (Unix only, as the worker is)

    try:
        safe = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, away_from)
    except OSError:  # the limit of open files is lower than that
        safe = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    os.close(fd)
    sock = socket.socket(fileno=safe)
    sock.setblocking(True)  # noqa: FBT003
    return sock
