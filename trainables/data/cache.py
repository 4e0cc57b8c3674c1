"""Prepared data on disk, shared by all trials of a machine through a memory map.

A cache entry is a folder `<name>-<key>/` with one `.npy` file per array and `meta.json`. The key is
a digest of what the entry was made from (paths, sizes, modification times, settings), so a changed
source gives another entry. An entry is written under a temporary name and renamed: two processes
may build it at once, and one that is killed leaves no half entry. Start with `load_or_build`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError, StorageError

CACHE_FOLDER = ".raytune_ahu_cache"
"""Name of the cache folder inside a data folder."""

_FORMAT = 4


@dataclass(frozen=True)
class Entry:
    """What is kept in one folder of the cache."""

    arrays: dict[str, NDArray[Any]]
    """Arrays by name, of any fixed-width type; memory maps where the entry was read."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Whatever else belongs to it; JSON-ready."""


def digest(fingerprint: object) -> str:
    """Return the key of a cache entry: 16 hex digits of a JSON-ready description of its source."""
    text = json.dumps([_FORMAT, fingerprint], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_fingerprint(path: Path) -> list[Any]:
    """Describe a source file: its name, size in bytes and time of change."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def user_cache() -> Path:
    """Return `$XDG_CACHE_HOME/raytune_ahu`, by default `~/.cache/raytune_ahu`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raytune_ahu"


def cache_folders(data_dir: Path | None) -> list[Path]:
    """Return the folders where an entry may be, best first: under the data, then the user's."""
    return [*([data_dir / CACHE_FOLDER] if data_dir else []), user_cache()]


def load_or_build(name: str, key: str, data_dir: Path | None, build: Callable[[], Entry]) -> Entry:
    """Open a cache entry as a memory map; build and write it first where there is none.

    Args:
        name: Readable start of the entry's name, such as `mnist-train`.
        key: What `digest` made of the source.
        data_dir: Folder of the data set; its cache is preferred where it can be written.
        build: Makes the entry; called only where there is none.

    Returns:
        The entry. Writing to its arrays changes the process's own copy only.

    Raises:
        DataError: If the entry is damaged.
        StorageError: If no cache folder can be written.
    """
    folders = cache_folders(data_dir)
    for folder in folders:
        entry = folder / f"{name}-{key}"
        if entry.is_dir():
            return _read(entry)
    folder = _first_writable(folders)
    entry = folder / f"{name}-{key}"
    _write(entry, build())
    return _read(entry)


def _first_writable(folders: list[Path]) -> Path:
    reasons: list[str] = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror})")
    raise StorageError(
        f"no folder for prepared data can be written: {', '.join(reasons)}; "
        "free one of them or set XDG_CACHE_HOME to a folder that can"
    )


def _write(entry: Path, content: Entry) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        temporary.chmod(0o755)
        for name, array in content.arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        meta = {"arrays": list(content.arrays), "meta": content.meta}
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.is_dir():  # otherwise another process was first: its entry is the same
                raise
    except OSError as error:
        raise StorageError(f"prepared data cannot be written to {entry}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(entry: Path) -> Entry:
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        # "c" maps the pages shared and read-only in effect: nobody writes, so none is ever copied.
        arrays = {
            name: np.asarray(np.load(entry / f"{name}.npy", mmap_mode="c"))
            for name in meta["arrays"]
        }
        return Entry(arrays, meta["meta"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(
            f"the prepared data in {entry} is damaged ({error}); delete that folder and try again"
        ) from error
