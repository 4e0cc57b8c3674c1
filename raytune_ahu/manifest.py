"""A checksum for the files of a checkpoint, whatever wrote them.

`write_manifest` leaves a `manifest.json` with size and SHA-256 of each file, `verify_manifest`
compares.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from raytune_ahu.errors import CheckpointError

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Write size and SHA-256 of every file of a checkpoint."""
    files = {str(path.relative_to(folder)): _fingerprint(path) for path in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps(files), encoding="utf-8")


def verify_manifest(folder: Path) -> None:
    """Compare the files of a checkpoint with its manifest; one without is taken as it is.

    Raises:
        CheckpointError: If a file is missing, cut off or changed; the message names it.
    """
    path = folder / MANIFEST
    if not path.exists():
        return
    try:
        files = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    for name, fingerprint in files.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing from its checkpoint")
        if _fingerprint(file) != fingerprint:
            raise CheckpointError(f"{file} is damaged: size or checksum is wrong")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _fingerprint(path: Path) -> list[Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return [path.stat().st_size, digest.hexdigest()]
