"""An array that grows by one row at a time, in amortised constant time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """Rows of numbers in one contiguous block, which doubles when it is full.

    Args:
        dtype: Type of the numbers.
        width: Numbers per row; None for a one-dimensional array.
    """

    def __init__(self, dtype: DTypeLike, width: int | None = None) -> None:
        self.width = width
        self._length = 0
        self._block: NDArray[Any] = np.empty((16,) if width is None else (16, width), dtype)

    def __len__(self) -> int:
        return self._length

    def __setitem__(self, row: int, value: Any) -> None:
        if not 0 <= row < self._length:
            raise IndexError(f"row {row} of {self._length}")
        self._block[row] = value

    @property
    def view(self) -> NDArray[Any]:
        """The rows so far; read-only, and not touched by later growth."""
        rows = self._block[: self._length]
        rows.flags.writeable = False
        return rows

    def append(self, value: Any) -> None:
        """Add a row."""
        if self._length == len(self._block):
            grown = np.empty((2 * self._length, *self._block.shape[1:]), self._block.dtype)
            grown[: self._length] = self._block
            self._block = grown
        self._block[self._length] = value
        self._length += 1

    def pop(self) -> None:
        """Remove the last row."""
        if not self._length:
            raise IndexError("pop from an empty array")
        self._length -= 1
