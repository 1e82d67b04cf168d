"""Plain columns as an Arrow stream, by the Arrow C data interface and nothing but ctypes.

So a NumPy-only installation can hand a table to the Rust cleaners, DuckDB or polars. One record batch; the buffers are
the columns' own where their layout allows it. NaN in a float column is written as null, which is what it means here.

>>> table = ArrowTable({"value": np.array([1.0, np.nan])})
>>> table.rows
2
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trackside.columns import Array, Column, Text

_NULLABLE = 2  # ARROW_FLAG_NULLABLE
_EINVAL = 22


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_SchemaP, _ArrayP, _StreamP = ctypes.POINTER(_Schema), ctypes.POINTER(_Array), ctypes.POINTER(_Stream)
_ReleaseSchema = ctypes.CFUNCTYPE(None, _SchemaP)
_ReleaseArray = ctypes.CFUNCTYPE(None, _ArrayP)
_ReleaseStream = ctypes.CFUNCTYPE(None, _StreamP)
_GetSchema = ctypes.CFUNCTYPE(ctypes.c_int, _StreamP, _SchemaP)
_GetNext = ctypes.CFUNCTYPE(ctypes.c_int, _StreamP, _ArrayP)
_GetError = ctypes.CFUNCTYPE(ctypes.c_char_p, _StreamP)

_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(_SchemaP)),
    ("dictionary", _SchemaP),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(_ArrayP)),
    ("dictionary", _ArrayP),
    ("release", _ReleaseArray),
    ("private_data", ctypes.c_void_p),
]
_Stream._fields_ = [
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", _GetError),
    ("release", _ReleaseStream),
    ("private_data", ctypes.c_void_p),
]

# What a consumer still holds. A struct may be moved (its bytes copied, its old `release` set to null), so what keeps
# the memory alive cannot hang on the struct's address: `private_data` is a key into this table, `release` removes it.
_held: dict[int, object] = {}
_next_key = itertools.count(1)


class ArrowTable:
    """Columns that any Arrow library reads, by `__arrow_c_stream__`; `dictionaries`: text columns of few values."""

    def __init__(self, columns: Mapping[str, Column], *, dictionaries: Sequence[str] = ()) -> None:
        self.rows = len(next(iter(columns.values()), ()))
        self._fields = [_field(name, values, name in dictionaries) for name, values in columns.items()]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule named `arrow_array_stream`; a requested schema is not obeyed, as the protocol allows."""
        stream = _Stream()
        left = [self]

        def get_schema(_: Any, out: Any) -> int:
            return _guarded(lambda: _fill_schema(out.contents, self._root()))

        def get_next(_: Any, out: Any) -> int:
            if not left:  # the end of the stream is an array that is released already
                ctypes.memset(out, 0, ctypes.sizeof(_Array))
                return 0
            return _guarded(lambda: _fill_array(out.contents, left.pop()._root(), self.rows))

        callbacks = (_GetSchema(get_schema), _GetNext(get_next), _GetError(lambda _: None))
        stream.get_schema, stream.get_next, stream.get_last_error = callbacks
        stream.release = _release_stream
        stream.private_data = _hold((callbacks, self))
        return _capsule(stream, b"arrow_array_stream")

    def _root(self) -> _Field:
        return _Field("", "+s", [None], 0, children=self._fields)


class _Field:
    """One column ready for export: its format, its buffers (None = absent), and children or a dictionary."""

    __slots__ = ("buffers", "children", "dictionary", "format", "length", "name", "nulls")

    def __init__(
        self,
        name: str,
        fmt: str,
        buffers: list[Array | None],
        nulls: int,
        *,
        length: int = 0,
        children: Sequence[_Field] = (),
        dictionary: _Field | None = None,
    ) -> None:
        self.name, self.format, self.buffers, self.nulls = name, fmt, buffers, nulls
        self.length, self.children, self.dictionary = length, list(children), dictionary


_NUMBERS = {"f": ("g", np.float64), "i": ("l", np.int64), "u": ("l", np.int64)}


def _field(name: str, values: Column, as_dictionary: bool) -> _Field:  # noqa: FBT001
    if isinstance(values, list):
        return _dictionary(name, values) if as_dictionary else _text(name, values)
    size = len(values)
    if values.dtype.kind == "M":
        stamps = np.ascontiguousarray(values.astype("datetime64[ns]")).view(np.int64)
        return _Field(name, "tsn:UTC", [None, stamps], 0, length=size)
    if values.dtype == bool:
        return _Field(name, "b", [None, np.packbits(values, bitorder="little")], 0, length=size)
    if values.dtype == np.uint16:
        return _Field(name, "S", [None, np.ascontiguousarray(values)], 0, length=size)
    fmt, dtype = _NUMBERS[values.dtype.kind]
    numbers = np.ascontiguousarray(values, dtype=dtype)
    valid = ~np.isnan(numbers) if fmt == "g" else np.ones(size, bool)
    return _Field(name, fmt, [_bitmap(valid), numbers], int(size - valid.sum()), length=size)


def _text(name: str, values: Text) -> _Field:
    encoded = [b"" if v is None else v.encode() for v in values]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(b) for b in encoded], out=offsets[1:])
    data = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
    valid = np.array([v is not None for v in values], bool)
    return _Field(name, "u", [_bitmap(valid), offsets, data], int(len(values) - valid.sum()), length=len(values))


def _dictionary(name: str, values: Text) -> _Field:
    known: dict[str, int] = {}
    codes = np.array([0 if v is None else known.setdefault(v, len(known)) for v in values], np.int32)
    valid = np.array([v is not None for v in values], bool)
    entries = _text("", list(known))
    nulls = int(len(values) - valid.sum())
    return _Field(name, "i", [_bitmap(valid), codes], nulls, length=len(values), dictionary=entries)


def _bitmap(valid: Array) -> Array | None:
    return None if valid.all() else np.packbits(valid, bitorder="little")


def _fill_schema(out: _Schema, field: _Field) -> None:
    children = [_Schema() for _ in field.children]
    for struct, child in zip(children, field.children, strict=True):
        _fill_schema(struct, child)
    pointers = (_SchemaP * max(1, len(children)))(*[ctypes.pointer(c) for c in children])
    out.format, out.name, out.metadata = field.format.encode(), field.name.encode(), None
    out.flags, out.n_children = _NULLABLE if field.nulls or field.name else 0, len(children)
    out.children = ctypes.cast(pointers, ctypes.POINTER(_SchemaP)) if children else None
    entries = None
    if field.dictionary is not None:
        entries = _Schema()
        _fill_schema(entries, field.dictionary)
        out.dictionary = ctypes.pointer(entries)
    else:
        out.dictionary = None
    names = (out.format, out.name)
    keep = (names, children, pointers, entries, field)
    out.release, out.private_data = _release_schema, _hold(keep)


def _fill_array(out: _Array, field: _Field, length: int) -> None:
    children = [_Array() for _ in field.children]
    for struct, child in zip(children, field.children, strict=True):
        _fill_array(struct, child, child.length)
    pointers = (_ArrayP * max(1, len(children)))(*[ctypes.pointer(c) for c in children])
    addresses = [None if b is None else b.ctypes.data for b in field.buffers]
    buffers = (ctypes.c_void_p * len(addresses))(*addresses)
    out.length, out.null_count, out.offset = length, field.nulls, 0
    out.n_buffers, out.n_children = len(addresses), len(children)
    out.buffers = ctypes.cast(buffers, ctypes.POINTER(ctypes.c_void_p))
    out.children = ctypes.cast(pointers, ctypes.POINTER(_ArrayP)) if children else None
    entries = None
    if field.dictionary is not None:
        entries = _Array()
        _fill_array(entries, field.dictionary, field.dictionary.length)
        out.dictionary = ctypes.pointer(entries)
    else:
        out.dictionary = None
    keep = (buffers, children, pointers, entries, field)
    out.release, out.private_data = _release_array, _hold(keep)


def _hold(things: object) -> int:
    key = next(_next_key)
    _held[key] = things
    return key


def _guarded(fill: Callable[[], None]) -> int:
    """No exception may cross the C border; the protocol's answer is an errno."""
    try:
        fill()
    except Exception:  # noqa: BLE001, RUF100
        return _EINVAL
    return 0


def _release_tree(pointer: Any) -> None:
    """Release children and dictionary that were not moved away, then what this struct kept alive."""
    struct = pointer.contents
    parts = [struct.children[i] for i in range(struct.n_children)]
    if struct.dictionary:
        parts.append(struct.dictionary)
    for part in parts:
        if part.contents.release:
            part.contents.release(part)
    _forget(struct)


def _forget(struct: Any) -> None:
    key = struct.private_data
    struct.release = type(struct.release)()  # a null pointer marks the struct as released
    _held.pop(key, None)


_release_schema = _ReleaseSchema(_release_tree)
_release_array = _ReleaseArray(_release_tree)
_release_stream = _ReleaseStream(lambda pointer: _forget(pointer.contents))

# The destructor meets the capsule while it dies: it must be handled as a bare address, for a Python reference to it
# would be counted up and down again and free it twice.
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_pointer = ctypes.pythonapi["PyCapsule_GetPointer"]
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
_STREAM_NAME = ctypes.create_string_buffer(b"arrow_array_stream")


def _destroy(capsule: int) -> None:
    address = _pointer(capsule, _STREAM_NAME.value)
    stream = _Stream.from_address(address)
    if stream.release:  # nobody took it
        stream.release(ctypes.pointer(stream))
    _held.pop(address, None)


_destructor = _Destructor(_destroy)


def _capsule(stream: _Stream, name: bytes) -> object:
    assert name == _STREAM_NAME.value  # noqa: S101 (the capsule keeps the pointer to its name: it must live for ever)
    address = ctypes.addressof(stream)
    _held[address] = stream  # addresses and counted keys never meet: the counter starts at 1 and stays small
    return _new(address, ctypes.cast(_STREAM_NAME, ctypes.c_char_p), _destructor)
