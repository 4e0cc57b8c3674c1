"""From the name of a data set of interactions to what models train on.

File -> rows (`interaction_files`, `movielens`, `synthetic`) -> filters (`interaction_filters`) ->
split (`interaction_splits`) -> tensors (`user_items`). The result is kept in a cache that all
trials of a machine map into their memory; `synthetic` is drawn anew instead. `prepare_interactions`
is called once by a script, before any trial starts; `load_recommender_data` by every trial, and
`load_test_items` by the final evaluation alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict

from trainables.data.cache import Entry, digest, file_fingerprint, load_or_build
from trainables.data.interaction_filters import Duplicates, filter_interactions
from trainables.data.interaction_rows import Ids, Interactions
from trainables.data.interaction_sources import (
    INTERACTION_DATASETS,
    InteractionSource,
    open_interactions,
)
from trainables.data.interaction_splits import split_interactions
from trainables.data.prepared_interactions import Prepared
from trainables.data.source import Say, to_stderr
from trainables.data.user_items import RecommenderData, UserItems

if TYPE_CHECKING:
    from typing import Unpack  # Python 3.11; never looked up at run time

__all__ = [
    "INTERACTION_DATASETS",
    "Ids",
    "Interactions",
    "data_digest",
    "load_before_test",
    "load_ids",
    "load_interactions",
    "load_known_items",
    "load_recommender_data",
    "load_test_items",
    "prepare_interactions",
]


class Options(TypedDict, total=False):
    """What the functions here take besides data set and folder; see `_Request` for each."""

    columns: str | None
    min_rating: float | None
    duplicates: Duplicates
    min_user_interactions: int
    min_item_interactions: int
    split: str
    validation_fraction: float
    test_fraction: float
    seed: int


@dataclass(frozen=True)
class _Request:
    """A data set, how it is filtered and how it is split."""

    dataset: str
    """One of `INTERACTION_DATASETS`, `PATH` standing for a file."""
    data_dir: str | None
    """Folder of the data set's files and of the cache; needed by MovieLens. Files: None: beside."""
    columns: str | None = None
    """Which column of a file is which (see `interaction_columns.parse_columns`)."""
    min_rating: float | None = None
    """See `filter_interactions`."""
    duplicates: Duplicates = "first"
    """See `filter_interactions`."""
    min_user_interactions: int = 3
    """See `filter_interactions`."""
    min_item_interactions: int = 1
    """See `filter_interactions`."""
    split: str = "user-time"
    """See `split_interactions`."""
    validation_fraction: float = 0.1
    """See `split_interactions`."""
    test_fraction: float = 0.1
    """See `split_interactions`."""
    seed: int = 0
    """Root seed of the split `random`, and of what `synthetic` draws."""


def prepare_interactions(
    dataset: str,
    data_dir: str | None = None,
    *,
    say: Say | None = None,
    **options: Unpack[Options],
) -> tuple[str, ...]:
    """Check a data set, download it where it is missing, filter and split it into the cache.

    Afterwards trials only open a memory map, and bad input has been found before any trial.

    Args:
        dataset: One of `INTERACTION_DATASETS`, `PATH` standing for a file.
        data_dir: Folder of the data set's files.
        say: Receives a line before anything that takes a while; by default it goes to stderr.
        options: Columns, filters and split; see `_Request`.

    Returns:
        What was dropped and what is odd, one sentence each.

    Raises:
        DataError: If the data set is unknown, absent and not downloadable, or not what it must be.
        StorageError: If no cache folder can be written.
    """
    request = _Request(dataset, data_dir, **options)
    say = say or to_stderr
    _source(request).require(say)
    return _build(request, say).notes


def load_interactions(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> Interactions:
    """Read and filter the rows of a data set, from its files; what concerns the split is ignored.

    It raises what `prepare_interactions` raises, as do the functions below.
    """
    return _read(_Request(dataset, data_dir, **options))


def load_recommender_data(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> RecommenderData:
    """Open training and validation interactions; twice in a process gives the same tensors."""
    return _load(_Request(dataset, data_dir, **options)).data


def load_test_items(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> UserItems:
    """Open the test interactions. Only the final evaluation may call this."""
    return _load(_Request(dataset, data_dir, **options)).test


def data_digest(dataset: str, data_dir: str | None = None, **options: Unpack[Options]) -> str:
    """Return 16 hex digits by which a change of the data is noticed, however it came about."""
    return _load(_Request(dataset, data_dir, **options)).digest()


def load_before_test(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> UserItems:
    """Open training and validation interactions in one: what is known when the test begins."""
    return _load(_Request(dataset, data_dir, **options)).before_test


def load_known_items(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> UserItems:
    """Open all interactions, those of the test too. For serving what has been tested."""
    return _load(_Request(dataset, data_dir, **options)).known


def load_ids(
    dataset: str, data_dir: str | None = None, **options: Unpack[Options]
) -> tuple[Ids, Ids]:
    """Return the ids of the users (n_users,) and items (n_items,): int64, or object holding str."""
    prepared = _load(_Request(dataset, data_dir, **options))
    return prepared.user_ids, prepared.item_ids


@lru_cache(maxsize=2)
def _load(request: _Request) -> Prepared:
    return _build(request, None)


def _build(request: _Request, say: Say | None) -> Prepared:
    source = _source(request)
    files = source.files()
    if not files:
        return _split(request)

    def build() -> Entry:
        if say:
            say(f"reading {files[0]} once; later runs reuse it")
        return _split(request).to_entry()

    settings = asdict(request)
    del settings["dataset"], settings["data_dir"]
    key = digest([[file_fingerprint(path) for path in files], settings])
    return Prepared.from_entry(load_or_build(source.name, key, source.cache_dir, build))


def _split(request: _Request) -> Prepared:
    interactions = _read(request)
    splits = split_interactions(
        interactions,
        request.split,
        validation_fraction=request.validation_fraction,
        test_fraction=request.test_fraction,
        seed=request.seed,
    )
    return Prepared.make(interactions, splits)


def _read(request: _Request) -> Interactions:
    return filter_interactions(
        _source(request).read(),
        min_rating=request.min_rating,
        duplicates=request.duplicates,
        min_user_interactions=request.min_user_interactions,
        min_item_interactions=request.min_item_interactions,
    )


def _source(request: _Request) -> InteractionSource:
    return open_interactions(
        request.dataset, request.data_dir, columns=request.columns, seed=request.seed
    )
