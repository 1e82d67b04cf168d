"""The snapshot codec: plain values and arrays to bytes and back, bit for bit, without pickle.

A snapshot outlives the process, the machine and the Python version that wrote it, and reading one never runs code.
Layout: magic, version, CRC-32 of all that follows, length of the manifest, manifest (JSON), then the raw little-endian
bytes of each array, 8-byte aligned. Numbers, text, bytes, lists, tuples, dicts and NumPy arrays of plain numbers are
all there is.

>>> decode(encode({"seen": 3, "mean": np.array([1.5, 2.5])}))
{'seen': 3, 'mean': array([1.5, 2.5])}
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from trackside.errors import StateError

MAGIC = b"TRKS"
VERSION = 1
DEPTH_MAX = 32
_HEAD = struct.Struct("<4sHHIQ")  # magic, version, reserved, crc32, manifest length
_ALIGN = 8


def encode(state: Mapping[Any, Any]) -> bytes:
    """Turn a dict of plain values and arrays into bytes; `StateError` names what does not fit, and where."""
    if not isinstance(state, Mapping):
        raise StateError(f"snapshot() must answer a dict, not {_kind(state)}")
    blobs: list[bytes] = []
    tree = _pack(state, "snapshot", blobs, 0)
    manifest = json.dumps([tree, [len(b) for b in blobs]], separators=(",", ":")).encode()
    parts = [manifest + _pad(len(manifest))]
    parts.extend(blob + _pad(len(blob)) for blob in blobs)
    body = b"".join(parts)
    return _HEAD.pack(MAGIC, VERSION, 0, _crc(len(manifest), body), len(manifest)) + body


def decode(data: bytes | bytearray | memoryview) -> dict[Any, Any]:
    """Read what `encode` wrote; bytes that are cut short, damaged or foreign are a `StateError`."""
    view = memoryview(data)
    if len(view) < _HEAD.size:
        raise StateError(f"the snapshot is cut short: {len(view)} bytes, a header alone has {_HEAD.size}")
    magic, version, reserved, crc, length = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise StateError(f"these bytes are no snapshot: they begin with {bytes(magic)!r}, not {MAGIC!r}")
    if version != VERSION:
        raise StateError(f"the snapshot has format {version}, this package reads format {VERSION}; update trackside")
    body = view[_HEAD.size :]
    if reserved or _crc(length, body) != crc:
        raise StateError("the snapshot is damaged: its checksum does not fit; use the older one")
    tree, sizes = json.loads(bytes(body[:length]))
    blobs, at = [], length + len(_pad(length))
    for size in sizes:
        blobs.append(body[at : at + size])
        at += size + len(_pad(size))
    state = _unpack(tree, blobs)
    if not isinstance(state, dict):
        raise StateError("the snapshot holds no dict")
    return state


def _pack(value: Any, path: str, blobs: list[bytes], depth: int) -> Any:
    """Plain scalars and lists stand as JSON; the rest is a one-key object that names its kind."""
    if depth > DEPTH_MAX:
        raise StateError(f"{path} is nested deeper than {DEPTH_MAX} levels (does it hold itself?)")
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _pack_array(value, path, blobs)
    if isinstance(value, bytes | bytearray):
        blobs.append(bytes(value))
        return {"bytes": len(blobs) - 1}
    if isinstance(value, list):
        return [_pack(v, f"{path}[{i}]", blobs, depth + 1) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, f"{path}[{i}]", blobs, depth + 1) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        pairs = []
        for key, item in value.items():
            if not isinstance(key, str | int | tuple):
                raise StateError(f"{path} has the key {key!r}; keys are text, integers or tuples of these")
            where = f"{path}[{key!r}]"
            pairs.append([_pack(key, where, blobs, depth + 1), _pack(item, where, blobs, depth + 1)])
        return {"dict": pairs}
    raise StateError(
        f"{path} is {_kind(value)}, which a snapshot cannot hold; "
        "give numbers, text, bytes, lists, tuples, dicts or NumPy arrays (no pickle: see docs/guide/models)"
    )


def _pack_array(value: np.ndarray[Any, Any] | np.generic, path: str, blobs: list[bytes]) -> Any:
    """Arrays of plain numbers only: an object array could hold anything, and pickle is what would save it."""
    array = np.asarray(value)
    if array.dtype.kind not in "biufcmMSU":
        raise StateError(f"{path} is an array of {array.dtype}; give an array of numbers, or a list of text")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    blobs.append(little.tobytes())
    kind = "scalar" if isinstance(value, np.generic) else "array"
    return {kind: [len(blobs) - 1, little.dtype.str, list(array.shape)]}


def _unpack(tree: Any, blobs: list[memoryview]) -> Any:
    if isinstance(tree, list):
        return [_unpack(item, blobs) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "dict":
        return {_unpack(key, blobs): _unpack(item, blobs) for key, item in value}
    if kind == "tuple":
        return tuple(_unpack(item, blobs) for item in value)
    if kind == "bytes":
        return bytes(blobs[value])
    if kind in ("array", "scalar"):
        at, dtype, shape = value
        array = np.frombuffer(blobs[at], dtype=np.dtype(dtype)).reshape(shape).copy()  # a copy: the model writes in it
        return array[()] if kind == "scalar" else array
    raise StateError(f"the snapshot holds an unknown kind `{kind}`; it was written by a newer trackside")


def _crc(manifest_length: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(manifest_length.to_bytes(8, "little")))


def _pad(length: int) -> bytes:
    return b"\0" * (-length % _ALIGN)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
