"""Reads tables as a user does, with DuckDB over a glob: no manifest, no library of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa


def glob(data: Path, topic: str) -> str:
    """The files of a topic's table."""
    return f"{data}/tables/{topic}/**/*.parquet"


def exists(data: Path, topic: str) -> bool:
    """Whether the table has any file."""
    return any((data / "tables" / topic).rglob("*.parquet"))


def read(data: Path, topic: str, *, columns: str = "*", order: str = "_partition, _offset") -> pa.Table:
    """All rows of a topic's table, in the order of the log."""
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        found = database.execute(
            f"select {columns} from read_parquet(?, hive_partitioning = false) order by {order}", [glob(data, topic)]
        )
        return found.to_arrow_table()


def rows(data: Path, topic: str, *, columns: str = "*", order: str = "_partition, _offset") -> list[dict[str, Any]]:
    """The same as dictionaries; none when there is no file yet."""
    if not exists(data, topic):
        return []
    found: list[dict[str, Any]] = read(data, topic, columns=columns, order=order).to_pylist()
    return found
