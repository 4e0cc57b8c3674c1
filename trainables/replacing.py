"""A folder that is written whole or not at all: what every export goes through."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytune_ahu.errors import StorageError


@contextmanager
def replacing(folder: Path, what: str) -> Iterator[Path]:
    """Yield a new folder that takes the place of `folder` when all is written.

    Args:
        folder: Where it is to be; one that is there is replaced.
        what: What is written, for the message.

    Raises:
        StorageError: If it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{what} cannot be written to {folder}: {error}") from error
