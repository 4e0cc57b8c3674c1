"""CSV, TSV and Parquet files -> interactions, a block of rows at a time.

A file is never in memory as a whole: of each block only the index of its users and items, its
ratings and times are kept (`interaction_blocks`). What is wrong with a file is told by
`interaction_errors`. Start with `read_interactions`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from raytune_ahu.errors import DataError
from trainables.data.interaction_blocks import BadValue, Rows
from trainables.data.interaction_columns import Columns
from trainables.data.interaction_errors import FIX, MISSING, Layout, explain_text, open_text
from trainables.data.interaction_rows import Interactions

SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".dat", ".inter", ".parquet", ".pq")
"""Endings of files that are read; a text file may be gzipped (`.csv.gz`) as well."""

_SEPARATORS = (",", "\t", ";", "|")
_BLOCK_BYTES = 4 << 20
_BLOCK_ROWS = 1 << 17
_TEXT_OR_NUMBER = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_null,
)
_CODED = pa.dictionary(pa.int32(), pa.string())


def read_interactions(path: Path, columns: str | None = None) -> Interactions:
    """Read a file with one interaction per row.

    Args:
        path: The file. Text files have a line of column names first, and are separated by commas,
            tabs, semicolons or bars, whichever the first line has most of.
        columns: Which column is which (see `interaction_columns.parse_columns`).

    Raises:
        DataError: If the file is absent, no such file, empty, or a value is not what it must be.
            The message names the line, the value and what to do.
    """
    check_file(path)
    if _is_parquet(path):
        return _read_parquet(path, columns)
    try:
        with open_text(path) as lines:
            header = lines.readline()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); give another file") from error
    if not header.strip():
        raise DataError(f"{path} begins with an empty line; it must hold the names of the columns")
    if "\0" in header:
        raise DataError(
            f"{path} is not UTF-8 but looks like UTF-16; convert it, for example with "
            "iconv -f UTF-16 -t UTF-8 OLD > NEW, or save it as CSV UTF-8"
        )
    separator = max(_SEPARATORS, key=header.count)
    names = tuple(name.strip() for name in next(csv.reader([header], delimiter=separator)))
    return read_text(path, Layout(names, separator, Columns.find(names, columns, str(path))))


def check_file(path: Path) -> None:
    """Check that a file of interactions is there and of a known kind.

    Raises:
        DataError: If it is not.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the file in it, as file:{path}/NAME.csv")
    if not path.is_file():
        raise DataError(f"{path} does not exist; give the path of a CSV, TSV or Parquet file")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]] or [""]
    kind = suffixes[0] if suffixes[-1] == ".gz" else suffixes[-1]
    if kind not in SUFFIXES:
        raise DataError(
            f"{path} has the ending {kind!r}; it must be one of {', '.join(SUFFIXES)}, a text file "
            "with .gz after it if you like"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with rows")


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def read_text(path: Path, layout: Layout) -> Interactions:
    """Read a text file whose columns are known.

    Raises:
        DataError: If a value is not what it must be, or there is no row.
    """
    # Whole numbers first, for they may need all 64 bits (nanoseconds); then `881250949.5` as well.
    time_types = (pa.int64(), pa.float64()) if layout.columns.time else (None,)
    for time_type in time_types:
        try:
            rows = Rows()
            for block in _text_blocks(path, layout, time_type):
                rows.add(block)
            return rows.finish(path)
        except BadValue as error:
            reason = f"{error}, which is no {FIX[error.role]}"
        except pa.ArrowInvalid as error:
            reason = str(error)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error}); give another file") from error
    raise explain_text(path, layout, reason)


def _text_blocks(path: Path, layout: Layout, time_type: Any) -> Iterator[dict[str, Any]]:
    roles = layout.columns.roles
    types = {"user": _CODED, "item": _CODED, "rating": pa.float64(), "time": time_type}
    reader = pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=list(layout.names),
            skip_rows=1 if layout.has_header else 0,
        ),
        parse_options=pa_csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(roles.values()),
            column_types={name: types[role] for role, name in roles.items()},
            null_values=list(MISSING),
        ),
    )
    for batch in reader:
        yield {role: batch.column(index) for index, role in enumerate(roles)}


def _read_parquet(path: Path, columns: str | None) -> Interactions:
    try:
        file = pa_parquet.ParquetFile(path)
        roles = Columns.find(file.schema_arrow.names, columns, str(path)).roles
        _check_types(path, file.schema_arrow, roles)
        rows = Rows()
        for batch in file.iter_batches(batch_size=_BLOCK_ROWS, columns=list(roles.values())):
            block = {role: batch.column(name) for role, name in roles.items()}
            for role in ("user", "item"):
                if not pa.types.is_dictionary(block[role].type):
                    block[role] = block[role].dictionary_encode()
            rows.add(block)
    except BadValue as error:
        name = roles[error.role]
        fix = FIX[error.role]
        if error.role in ("user", "item") and isinstance(error.value, float):
            fix = "whole number; ids must be whole numbers or text: convert the column to either"
        raise DataError(
            f"{path}, row {error.row + 1}: column {name!r} holds {error.value!r}, which is no {fix}"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet ({reason}); write it anew") from error
    return rows.finish(path)


def _check_types(path: Path, schema: pa.Schema, roles: dict[str, str]) -> None:
    """Refuse types of which no value can be right; values of the others are checked one by one."""
    for role, name in roles.items():
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if any(is_fine(kind) for is_fine in _TEXT_OR_NUMBER):
            continue
        if role in ("user", "item"):
            must = "ids must be text or whole numbers"
        elif role == "rating":
            must = "ratings must be numbers; leave them out with columns='rating='"
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            continue
        else:
            must = "times must be numbers or time stamps"
        raise DataError(f"{path}: column {name!r} is of type {kind}; {must}, or convert the column")
