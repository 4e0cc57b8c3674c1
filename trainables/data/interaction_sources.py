"""From the name of a data set of interactions to its files. Start with `open_interactions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raytune_ahu.errors import DataError
from trainables.data.interaction_files import check_file, read_interactions
from trainables.data.interaction_rows import Interactions
from trainables.data.movielens import MOVIELENS, MovieLens
from trainables.data.source import Say
from trainables.data.synthetic import synthetic_interactions

FILE_PREFIX = "file:"
INTERACTION_DATASETS = ("synthetic", *MOVIELENS, "file:PATH")
"""All data sets of interactions, as the user writes them."""


@dataclass(frozen=True)
class InteractionSource:
    """Where the rows come from."""

    name: str
    """Short name, the start of its cache entries."""
    require: Callable[[Say], None]
    """Makes sure that the files are there."""
    files: Callable[[], list[Path]]
    """The files that are read; none where the rows are drawn."""
    read: Callable[[], Interactions]
    """Reads all rows."""
    cache_dir: Path | None = None
    """Folder whose cache is preferred."""


def open_interactions(
    dataset: str, data_dir: str | None = None, *, columns: str | None = None, seed: int = 0
) -> InteractionSource:
    """Find a data set by its name; nothing is read yet.

    Args:
        dataset: One of `INTERACTION_DATASETS`, `PATH` standing for a file.
        data_dir: Folder of the data set's files and of the cache; needed by MovieLens. A file's
            cache is beside it where this is None.
        columns: Which column of a file is which (see `interaction_columns.parse_columns`).
        seed: Root seed of what `synthetic` draws.

    Raises:
        DataError: If the name is not known, the folder is not given, or columns are named of a
            data set that knows its own.
    """
    root = Path(data_dir).expanduser() if data_dir else None
    is_file = dataset.startswith(FILE_PREFIX) and dataset != "file:PATH"
    if columns and not is_file:
        raise DataError(f"columns={columns!r} is for file:PATH only; {dataset!r} knows its columns")
    if is_file:
        name = dataset.removeprefix(FILE_PREFIX)
        if not name:
            raise DataError(f"dataset={dataset!r} names no file; write file:PATH")
        path = Path(name).expanduser()

        def found() -> list[Path]:
            check_file(path)
            return [path]

        return InteractionSource(
            f"file-{path.name}",
            lambda say: check_file(path),
            found,
            lambda: read_interactions(path, columns),
            root or path.parent,
        )
    if dataset == "synthetic":
        return InteractionSource(
            dataset, lambda say: None, list, lambda: synthetic_interactions(seed)
        )
    if dataset in MOVIELENS:
        if root is None:
            raise DataError(f"dataset={dataset!r} needs a folder for its files; set data_dir")
        movielens = MovieLens(dataset, root)
        return InteractionSource(
            dataset, movielens.require, lambda: movielens.files, movielens.read, root
        )
    raise DataError(
        f"dataset={dataset!r} is not known; use one of {', '.join(INTERACTION_DATASETS)}"
    )
