"""DataFrames in and out: pandas, polars, pyarrow or a dict of arrays, none of them required.

`read` turns a frame into plain columns, `write` turns columns into a frame of a given kind; what comes in as pandas
goes out as pandas. Times are UTC; a time without a zone is taken for UTC. NaN and null are the same: no value.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from trackside.columns import Column
from trackside.errors import FrameError

KINDS = ("pandas", "polars", "pyarrow", "numpy")


def kind_of(frame: object) -> str:
    """Which library made a frame: one of `KINDS`.

    >>> kind_of({"time": [1], "value": [2.0]})
    'numpy'
    """
    if isinstance(frame, Mapping):
        return "numpy"
    for cls in type(frame).__mro__:
        library = cls.__module__.partition(".")[0]
        if library in ("pandas", "polars", "pyarrow"):
            return library
    if hasattr(frame, "__arrow_c_stream__"):
        return "pyarrow"
    raise FrameError(
        f"cannot read a {type(frame).__name__}; give a pandas, polars or pyarrow table or a dict of arrays"
    )


def need(library: str) -> Any:
    """Import an optional library, or say what to install.

    >>> need("numpy").__name__
    'numpy'
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        raise FrameError(f"this needs {library}, which is not installed: pip install {library}") from None


def read(frame: Any) -> dict[str, Column]:
    """The columns of any frame, as arrays and lists of text."""
    kind = kind_of(frame)
    if kind == "pandas":
        return {str(name): _from_pandas(frame[name]) for name in frame.columns}
    if kind == "polars":
        return {name: _from_polars(frame.get_column(name)) for name in frame.columns}
    if kind == "pyarrow":
        table = need("pyarrow").table(frame)
        return {name: _from_pyarrow(table.column(name)) for name in table.column_names}
    return {str(name): values if isinstance(values, list) else np.asarray(values) for name, values in frame.items()}


def read_column(values: Any) -> Column:
    """One column (a Series, an Arrow array, an array or a list) as an array or a list of text."""
    library = type(values).__module__.partition(".")[0]
    if library == "pandas":
        return _from_pandas(values)
    if library == "polars":
        return _from_polars(values)
    if library == "pyarrow":
        return _from_pyarrow(values)
    return values if isinstance(values, list) else np.asarray(values)


def write(kind: str, columns: Mapping[str, Column]) -> Any:
    """The columns as a frame of the kind; `numpy` is a dict of arrays."""
    if kind == "pandas":
        pd = need("pandas")
        return pd.DataFrame({name: _to_pandas(pd, values) for name, values in columns.items()})
    if kind == "polars":
        pl = need("polars")
        return pl.DataFrame([_to_polars(pl, name, values) for name, values in columns.items()])
    if kind == "pyarrow":
        pa = need("pyarrow")
        return pa.table({name: _to_pyarrow(pa, values) for name, values in columns.items()})
    return {name: np.array(v, object) if isinstance(v, list) else v for name, v in columns.items()}


def _from_pandas(series: Any) -> Column:
    kind = series.dtype.kind if hasattr(series.dtype, "kind") else "O"
    if kind == "M":
        zone = getattr(series.dtype, "tz", None)
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None) if zone is not None else series
        return np.asarray(naive.to_numpy(dtype="datetime64[ns]"))
    if kind in "biuf" and not series.hasnans:
        return np.asarray(series.to_numpy())
    if kind in "biuf":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(series.astype(object).where(series.notna(), None), dtype=object)


def _from_polars(series: Any) -> Column:
    pl = need("polars")
    dtype = series.dtype
    if dtype in (pl.Datetime, pl.Date):
        return np.asarray(series.cast(pl.Datetime("ns")).to_numpy())
    if dtype == pl.Boolean and series.null_count():
        return np.asarray(series.cast(pl.Float64).to_numpy())
    if dtype.is_numeric() or dtype == pl.Boolean:
        return np.asarray(series.to_numpy())
    return list(series.cast(pl.String).to_list())


def _from_pyarrow(column: Any) -> Column:
    pa = need("pyarrow")
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        naive = column.cast(pa.timestamp("ns", tz=getattr(kind, "tz", None)))
        return np.asarray(naive.to_numpy(), dtype="datetime64[ns]")
    if pa.types.is_boolean(kind) and column.null_count:
        return np.asarray(column.cast(pa.int8()).cast(pa.float64()).to_numpy())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy())
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return list(column.to_pylist())


def _to_pandas(pd: Any, values: Column) -> Any:
    if isinstance(values, list):
        return pd.Series(values, dtype=object if not values else None)
    return pd.Series(values).dt.tz_localize("UTC") if values.dtype.kind == "M" else pd.Series(values)


def _to_polars(pl: Any, name: str, values: Column) -> Any:
    if isinstance(values, list):
        return pl.Series(name, values, dtype=pl.String)
    if values.dtype.kind == "M":
        return pl.Series(name, values.astype("datetime64[ns]")).dt.replace_time_zone("UTC")
    return pl.Series(name, values, nan_to_null=values.dtype.kind == "f")


def _to_pyarrow(pa: Any, values: Column) -> Any:
    if isinstance(values, list):
        return pa.array(values, pa.string())
    if values.dtype.kind == "M":
        return pa.array(values, pa.timestamp("ns", tz="UTC"))
    return pa.array(values, from_pandas=values.dtype.kind == "f")
