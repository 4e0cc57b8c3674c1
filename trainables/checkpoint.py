"""Checkpoints: one file, written whole or not at all, and verified before it is used.

`checkpoint.pt` is an ordinary `torch.save` file followed by a trailer of 48 bytes: a mark (8), the
length of what is before it (8, big endian) and its SHA-256 (32). `torch.load` reads it too (the
trailer does not disturb it), but only `read_checkpoint` notices damage. Nothing but tensors and
plain values is in it, so that reading one never runs foreign code.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from raytune_ahu.errors import CheckpointError

FILE_NAME = "checkpoint.pt"
"""Name of the file inside a checkpoint folder."""

_MARK = b"AHUCKPT1"
_TRAILER_BYTES = len(_MARK) + 8 + 32


class _HashingFile:
    """A file opened for writing that digests what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._digest.update(data)
        self._size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def trailer(self) -> bytes:
        return _MARK + self._size.to_bytes(8, "big") + self._digest.digest()


def write_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Write a checkpoint into a folder: under a temporary name first, then renamed.

    Args:
        folder: The checkpoint's folder; must exist.
        state: Tensors, plain Python values, and dicts, lists and tuples of them.

    Returns:
        The file.
    """
    handle, name = tempfile.mkstemp(prefix=".checkpoint-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)  # type: ignore[arg-type]  # needs write and flush only
            file.write(hashing.trailer())
        target = folder / FILE_NAME
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a checkpoint after verifying its length and checksum; tensors arrive on the CPU.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    path = folder / FILE_NAME
    verify_checkpoint(folder)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__} instead of a trial's state")
    return state


def verify_checkpoint(folder: Path) -> None:
    """Check that a folder holds a whole, undamaged checkpoint; reads it once, without torch.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    path = folder / FILE_NAME
    digest = hashlib.sha256()
    try:
        remaining = path.stat().st_size - _TRAILER_BYTES
        length = remaining
        with path.open("rb") as file:
            while remaining > 0:
                block = file.read(min(remaining, 1 << 20))
                if not block:
                    break
                digest.update(block)
                remaining -= len(block)
            trailer = file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    if trailer[:8] != _MARK or int.from_bytes(trailer[8:16], "big") != length:
        raise CheckpointError(f"{path} is cut off or no checkpoint; use an older one")
    if trailer[16:] != digest.digest():
        raise CheckpointError(f"{path} is damaged: its checksum is wrong; use an older one")
