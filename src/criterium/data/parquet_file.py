"""Parquet files: sizes looked at before anything is read, text kept as indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from criterium.data.cells import is_text
from criterium.data.files import existing_file, reason
from criterium.data.limits import CELL, fits

_PANDAS_INDEX = "__index_level_"


def read_parquet(path: Path) -> tuple[Any, set[str]]:
    """Return an Arrow table, and the names of the columns that are an index which pandas left there."""
    existing_file(path, "a table in parquet format")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows, columns, fields = file.metadata.num_rows, file.metadata.num_columns, list(file.schema_arrow)
        fits(f"{path}: {rows:,} rows of {columns:,} columns", CELL * rows * columns)
        text = [field.name for field in fields if is_text(field.type)]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=text) as file:
            table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet ({reason(error)})") from error
    return table, _pandas_index(table)


def _pandas_index(table: Any) -> set[str]:
    named = {name for name in table.column_names if name.startswith(_PANDAS_INDEX)}
    try:
        index = (table.schema.pandas_metadata or {})["index_columns"]
        return named | {name for name in index if isinstance(name, str) and name in table.column_names}
    except (ValueError, KeyError, TypeError, RecursionError):  # not what pandas writes
        return named
