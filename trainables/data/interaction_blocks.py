"""Blocks of rows -> interactions: ids become indices while the file is being read.

An id that is a whole number in every row (`17`, not `017`) becomes an integer, otherwise all stay
text. Start with `Rows.add`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.interaction_rows import Ids, Interactions

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # fits into 64 bits


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
                values = self._numbers(role, column).astype(np.float32)
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
        return Interactions(
            users, items, user_ids, item_ids, self._joined("rating"), self._joined("time")
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
        known = column.dictionary.to_pylist()
        bad = [value for value in known if not _is_id(value)]
        if column.null_count or bad:
            row = next(i for i, value in enumerate(column.to_pylist()) if not _is_id(value))
            raise BadValue(role, self._n + row, column[row].as_py())
        if known and isinstance(known[0], float):  # integers that once had a null among them
            known = [int(value) for value in known]
        table = np.fromiter(
            (codes.setdefault(value, len(codes)) for value in known), np.int32, len(known)
        )
        indices: NDArray[np.int32] = column.indices.to_numpy(zero_copy_only=False)
        return np.take(table, indices)

    def _numbers(self, role: str, column: Any) -> NDArray[Any]:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        kind = column.type
        if column.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            row = np.flatnonzero(column.is_null())[0] if column.null_count else 0
            raise BadValue(role, self._n + int(row), column[int(row)].as_py())
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        self._refuse(role, values, ~np.isfinite(values))
        return values

    def _times(self, column: Any) -> NDArray[np.int64]:
        values = self._numbers("time", column)
        if values.dtype.kind == "f":
            # Beyond 2^53 a float does not hold every whole number: order could be lost unseen.
            self._refuse("time", values, (values != np.floor(values)) | (np.abs(values) > 2**53))
        return values.astype(np.int64)

    def _refuse(self, role: str, values: NDArray[Any], bad: NDArray[np.bool_]) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise BadValue(role, self._n + row, values[row].item())


def _is_id(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, str):
        return bool(value.strip()) and "\n" not in value
    return isinstance(value, int)


def _sorted(names: list[Any]) -> tuple[Ids, NDArray[np.int64]]:
    """Sort ids; return them, and where each was in the list."""
    if isinstance(names[0], int) or all(_WHOLE.fullmatch(name) for name in names):
        ids: Ids = np.array([int(name) for name in names], np.int64)
        order = np.argsort(ids)
    else:
        ids = np.array(names, object)
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return ids[order], order
