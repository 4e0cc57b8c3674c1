"""Blocks of rows -> interactions: ids become indices while the file is being read.

Ids become integers where all are whole numbers of 64 bits, either all as `17` (not `017`) or all as
`17.0`, which is what becomes of integers once a null was among them. Otherwise all are text. Start
with `Rows.add`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.interaction_rows import Ids, Interactions

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")  # no more digits than 64 bits hold
_WHOLE_FLOAT = re.compile(rf"({_WHOLE.pattern})\.0")
_INT64 = np.iinfo(np.int64)


class BadValue(Exception):
    """A value is not what its column must hold. Rows are counted from 0."""

    def __init__(self, role: str, row: int, value: object) -> None:
        super().__init__(f"{role} {value!r}")
        self.role, self.row, self.value = role, row, value


class Rows:
    """Collects blocks of rows as small arrays."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[Any, int]] = {"user": {}, "item": {}}
        self._blocks: dict[str, list[NDArray[Any]]] = {}
        self._n = 0

    def add(self, block: dict[str, Any]) -> None:
        """Add columns by role; users and items are dictionary-encoded."""
        for role, column in block.items():
            if role in self._codes:
                values: NDArray[Any] = self._encode(role, column)
            elif role == "rating":
                values = self._ratings(column)
            else:
                values = self._times(column)
            self._blocks.setdefault(role, []).append(values)
        self._n += len(block["user"])

    def finish(self, path: Path) -> Interactions:
        """Join the blocks; users and items are numbered in the order of their ids."""
        if self._n == 0:
            raise DataError(f"{path} has no rows; give a file with interactions")
        users, user_ids = self._numbered("user")
        items, item_ids = self._numbered("item")
        ratings, times = self._joined("rating"), self._joined("time")
        missing = np.flatnonzero(np.isnan(() if ratings is None else ratings))
        if not len(missing):
            return Interactions(users, items, user_ids, item_ids, ratings, times)
        return Interactions(users, items, user_ids, item_ids, None, times).noting(
            f"{len(missing):,} of {self._n:,} ratings are missing, the first in row "
            f"{missing[0] + 1:,}; the ratings are not used, and min_rating cannot be asked for"
        )

    def _joined(self, role: str) -> NDArray[Any] | None:
        blocks = self._blocks.pop(role, None)
        return None if blocks is None else np.concatenate(blocks)

    def _numbered(self, role: str) -> tuple[NDArray[np.int64], Ids]:
        ids, order = _sorted(list(self._codes.pop(role)))
        number = np.empty(len(ids), np.int64)
        number[order] = np.arange(len(ids))
        blocks = self._blocks.pop(role)
        values = np.empty(self._n, np.int64)
        start = 0
        for block in blocks:
            np.take(number, block, out=values[start : start + len(block)])
            start += len(block)
        return values, ids

    def _encode(self, role: str, column: Any) -> NDArray[np.int32]:
        codes = self._codes[role]
        places = column.indices.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
        # A categorical may list values that no row has; they count for nothing.
        used = np.flatnonzero(np.bincount(places, minlength=len(column.dictionary)))
        every = len(used) == len(column.dictionary)
        known = (column.dictionary if every else column.dictionary.take(pa.array(used))).to_pylist()
        if column.null_count or not all(_is_id(value) for value in known):
            row = next(i for i, value in enumerate(column.to_pylist()) if not _is_id(value))
            raise BadValue(role, self._n + row, column[row].as_py())
        table = np.zeros(len(column.dictionary), np.int32)
        table[used] = np.fromiter(
            (codes.setdefault(value, len(codes)) for value in known), np.int32, len(known)
        )
        values: NDArray[np.int32] = np.take(table, places)
        return values

    def _ratings(self, column: Any) -> NDArray[np.float32]:
        values = self._numbers("rating", column)  # NaN where missing
        self._refuse("rating", values, np.isinf(values))
        return values.astype(np.float32)

    def _times(self, column: Any) -> NDArray[np.int64] | NDArray[np.float64]:
        if column.null_count:
            raise BadValue("time", self._n + int(np.flatnonzero(column.is_null())[0]), None)
        values = self._numbers("time", column)
        if values.dtype.kind == "f":
            values = values.astype(np.float64)
            # Beyond 2^53 a float does not hold every whole number: order could be lost unseen.
            self._refuse("time", values, ~(np.abs(values) <= 2**53))
            if (values != np.floor(values)).any():
                return values
        elif values.dtype.kind == "u":
            self._refuse("time", values, values > _INT64.max)
        return values.astype(np.int64)

    def _numbers(self, role: str, column: Any) -> NDArray[Any]:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if role == "time" and pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        elif pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        kind = column.type
        if column.null_count == len(column):
            return np.full(len(column), np.nan)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            row = next(i for i in range(len(column)) if column[i].is_valid)
            raise BadValue(role, self._n + row, column[row].as_py())
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return values

    def _refuse(self, role: str, values: NDArray[Any], bad: NDArray[np.bool_]) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise BadValue(role, self._n + row, values[row].item())


def _is_id(value: object) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, str):
        return bool(value.strip()) and "\n" not in value
    return isinstance(value, int)


def _sorted(names: list[Any]) -> tuple[Ids, NDArray[np.int64]]:
    """Sort ids; return them, and where each was in the list."""
    numbers = _whole(names)
    if numbers and _INT64.min <= min(numbers) and max(numbers) <= _INT64.max:
        ids: Ids = np.array(numbers, np.int64)
        order = np.argsort(ids)
    else:
        texts = [_text(name) for name in names]
        ids = np.array(texts, object)
        order = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
    return ids[order], order


def _whole(names: list[Any]) -> list[int]:
    """Read ids as whole numbers; empty where one is not written as such."""
    if isinstance(names[0], int):
        return names
    texts = [_text(name) for name in names]
    if all(_WHOLE.fullmatch(text) for text in texts):
        return [int(text) for text in texts]
    if all(_WHOLE_FLOAT.fullmatch(text) for text in texts):
        return [int(text.removesuffix(".0")) for text in texts]
    return []


def _text(name: Any) -> str:
    """Write an id as a CSV file would have it."""
    if isinstance(name, Decimal):
        return str(int(name))
    return str(name + 0.0) if isinstance(name, float) else str(name)  # never `-0.0`
