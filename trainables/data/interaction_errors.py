"""What is wrong with a text file of interactions: the line, the value and what to do.

A file that could not be read is gone through once more, slowly, to find the first bad line. Start
with `explain_text`.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from raytune_ahu.errors import DataError
from trainables.data.interaction_columns import Columns

_NO_ID = "id; drop such rows or give them one"
FIX = {
    "user": _NO_ID,
    "item": _NO_ID,
    "rating": "number; drop such rows, or leave the ratings out with columns='rating='",
    "time": (
        "time; times must be whole numbers of 64 bits, or numbers with a fraction within 2^53; "
        "convert them, for example dates to seconds: "
        "(pandas.to_datetime(column) - pandas.Timestamp(0)) // pandas.Timedelta('1s')"
    ),
}
"""What a value of each role must be, and what to do where it is not."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
"""Ratings that are read as missing."""

_INT64 = range(-(2**63), 2**63)
_WHOLE = re.compile(r"\s*-?\d{1,19}\s*")
_NUMBER = re.compile(r"\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out."""

    names: tuple[str, ...]
    """Names of all columns, in their order."""
    separator: str
    """One character between the values of a line."""
    columns: Columns
    """Which of the columns are read."""
    has_header: bool = True
    """Whether the first line holds the names."""


def open_text(path: Path) -> TextIO:
    """Open a text file, gzipped where its name ends in `.gz`; what is not UTF-8 becomes U+FFFD."""
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def explain_text(path: Path, layout: Layout, reason: str) -> DataError:
    """Make the error for a file that cannot be read.

    Args:
        path: The file.
        layout: How it was expected to be.
        reason: What the reader said, used where no line is found to be wrong.
    """
    with open_text(path) as lines:
        rows = csv.reader(lines, delimiter=layout.separator)
        if layout.has_header:
            next(rows)
        try:
            line = rows.line_num + 1
            for row in rows:
                if row and (complaint := _complaint(row, layout)):
                    return DataError(f"{path}, line {line}: {complaint}")
                line = rows.line_num + 1  # a quoted value may go over several lines
        except csv.Error as error:
            reason = f"line {rows.line_num}: {error}"
    return DataError(f"{path} cannot be read ({reason.splitlines()[0]}); write it anew")


def _complaint(row: list[str], layout: Layout) -> str | None:
    if len(row) != len(layout.names):
        expected = "the first line" if layout.has_header else "a line of this data set"
        text = layout.separator.join(row)
        return (
            f"{len(row)} values where {expected} has {len(layout.names)}, separated by "
            f"{layout.separator!r}: {text[:80]!r}; use one separator in the whole file, and quote "
            "values that contain it"
        )
    for role, name in layout.columns.roles.items():
        value = row[layout.names.index(name)]
        if "\ufffd" in value:
            return f"column {name!r} holds {value!r}, which is not UTF-8; convert the file to UTF-8"
        if role in ("user", "item") and "\n" in value:
            return (
                f"column {name!r} holds {value[:40]!r}, over several lines; a quotation mark "
                "before it is never closed: close it"
            )
        if not _valid(role, value):
            return f"column {name!r} holds {value!r}, which is no {FIX[role]}"
    return None


def _valid(role: str, value: str) -> bool:
    if role in ("user", "item"):
        return bool(value.strip())
    if role == "rating" and value in MISSING:
        return True
    if not _NUMBER.fullmatch(value):
        return False
    if role == "rating":
        return math.isfinite(float(value))
    return int(value) in _INT64 if _WHOLE.fullmatch(value) else abs(float(value)) <= 2**53
