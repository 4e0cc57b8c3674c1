"""Interactions -> training, validation and test part, by a rule that is the same everywhere.

| split | test part | validation part |
| --- | --- | --- |
| `user-time` | the last 10 % of each user's interactions | the 10 % before |
| `leave-one-out` | the last interaction of each user | the one before |
| `random` | 10 % of each user's interactions | another 10 % |
| `global-time` | the last 10 % of all interactions | the 10 % before |

Interactions of one time are in the order of the file (a stable sort). Shares per user are rounded
down, but at least one interaction goes to the test and one to the validation part; a user with
fewer than 3 stays in training as a whole. Start with `split_interactions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from raytune_ahu.seeding import generator
from trainables.data.interaction_rows import Interactions
from trainables.data.user_items import UserItems

Split = Literal["user-time", "leave-one-out", "random", "global-time"]
SPLITS: tuple[str, ...] = get_args(Split)
"""All ways to split, the default first."""

_MIN_TO_SPLIT = 3
_TRAIN, _VALIDATION, _TEST = 0, 1, 2
_Array = NDArray[np.int64]
_Parts = NDArray[np.int8]


@dataclass(frozen=True)
class Splits:
    """The three parts of the interactions, disjoint; in each a user's items are oldest first."""

    train: UserItems
    """What models learn from."""
    validation: UserItems
    """What settings are chosen by."""
    test: UserItems
    """What the chosen one is judged by, once."""
    before_test: UserItems
    """Training and validation part in one, still the oldest first."""
    known: UserItems
    """All interactions, also those of users that a split leaves out."""
    notes: tuple[str, ...]
    """What is odd, one sentence each, for the user."""


def split_interactions(
    data: Interactions,
    split: str,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Split interactions into three parts (see the table above).

    Under `global-time`, users without training interactions are left out of the other parts: they
    are unknown to every model, and what such users get (the popular items) is no model's merit.
    Items without training interactions stay in the ranking under every split.

    Args:
        data: Filtered interactions.
        split: One of `SPLITS`.
        validation_fraction: Share of the validation part, in (0, 1); `leave-one-out` ignores it.
        test_fraction: Share of the test part, in (0, 1); `leave-one-out` ignores it.
        seed: Root seed; only `random` draws from it.

    Raises:
        DataError: If the split is not known, needs times that the data lacks, or leaves a part
            empty.
    """
    if split not in SPLITS:
        raise DataError(f"split={split!r} is not known; use one of {', '.join(SPLITS)}")
    shares = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    for name, share in shares.items():
        if not 0 < share < 1:
            raise DataError(f"{name}={share:g} must be in (0, 1); use 0.1")
    if sum(shares.values()) >= 1:
        raise DataError(
            f"validation_fraction={validation_fraction:g} and test_fraction={test_fraction:g} "
            "must sum to less than 1, so that something is left to train on; use 0.1 each"
        )
    if split != "random" and data.times is None:
        raise DataError(
            f"split={split!r} needs times and the data has none; name their column (time=...), or "
            "use split='random'"
        )
    order = np.argsort(data.users, kind="stable") if data.times is None else _by_time(data)
    users = data.users[order]
    counts = np.bincount(users, minlength=data.n_users)
    notes: list[str] = []
    if split == "global-time":
        parts = _cut_all(data, order, validation_fraction, test_fraction, notes)
    else:
        sizes = _sizes(counts, split, validation_fraction, test_fraction, notes)
        parts = _cut_each(users, counts, *sizes, _places(users, counts, split, seed))
        if split != "random":
            notes += _ties(data, order, users, counts, *sizes)
    return _collect(data, split, users, data.items[order], parts, notes)


def _by_time(data: Interactions) -> _Array:
    """(n,): rows by user, then time, then place in the file."""
    assert data.times is not None
    return np.lexsort((data.times, data.users))


def _places(users: _Array, counts: _Array, split: str, seed: int) -> _Array:
    """(n,): the place of each row among its user's, 0 first; random under `random`."""
    starts = np.cumsum(counts) - counts
    places = np.arange(len(users))
    places -= starts[users]
    if split == "random":
        keys = generator(seed, "data", "interaction split").random(len(users))
        shuffled = np.empty_like(places)
        shuffled[np.lexsort((keys, users))] = places
        return shuffled
    return places


def _sizes(
    counts: _Array, split: str, validation_fraction: float, test_fraction: float, notes: list[str]
) -> tuple[_Array, _Array]:
    """(n_users,) twice: how many rows of each user are for validation and for the test."""
    enough = counts >= _MIN_TO_SPLIT
    if split == "leave-one-out":
        validation = test = enough.astype(np.int64)
    else:
        # 1e-9: a share such as 0.1 * 30 may come out a hair under the whole number it stands for.
        test = np.maximum(1, np.floor(counts * test_fraction + 1e-9).astype(np.int64))
        test = np.where(enough, np.minimum(test, counts - 2), 0)
        validation = np.maximum(1, np.floor(counts * validation_fraction + 1e-9).astype(np.int64))
        validation = np.where(enough, np.minimum(validation, counts - test - 1), 0)
    if not enough.all():
        notes.append(
            f"{int((~enough).sum()):,} users have fewer than {_MIN_TO_SPLIT} interactions; they "
            "are in the training part only"
        )
    return validation, test


def _cut_each(
    users: _Array, counts: _Array, validation: _Array, test: _Array, places: _Array
) -> _Parts:
    """(n,): the part of each row, cut by the place among the user's rows."""
    parts = np.full(len(users), _TRAIN, np.int8)
    parts[places >= (counts - test - validation)[users]] = _VALIDATION
    parts[places >= (counts - test)[users]] = _TEST
    return parts


def _cut_all(
    data: Interactions,
    order: _Array,
    validation_fraction: float,
    test_fraction: float,
    notes: list[str],
) -> _Parts:
    """(n,): the part of each row, in `order`; cut by time over all users. -1: left out."""
    assert data.times is not None
    n = len(order)
    n_test, n_validation = (
        max(1, int(n * share + 1e-9)) for share in (test_fraction, validation_fraction)
    )
    by_time = np.argsort(data.times, kind="stable")
    cuts = {"test": n - n_test, "validation": n - n_test - n_validation}
    of_row = np.full(n, _TRAIN, np.int8)
    of_row[by_time[max(0, cuts["validation"]) :]] = _VALIDATION
    of_row[by_time[cuts["test"] :]] = _TEST
    for name, cut in cuts.items():
        if cut > 0 and data.times[by_time[cut - 1]] == data.times[by_time[cut]]:
            notes.append(
                f"the cut before the {name} part falls between interactions of one time "
                f"({data.times[by_time[cut]]}); they are in the order of the file"
            )
    parts = of_row[order]
    users = data.users[order]
    known = np.bincount(users[parts == _TRAIN], minlength=data.n_users) > 0
    late = ~known[users]
    if late.any():
        notes.append(
            f"{int((~known).sum()):,} users have no interaction before the first cut; nothing is "
            f"known of them, and their {int(late.sum()):,} interactions are left out"
        )
        parts[late] = -1
    return parts


def _ties(
    data: Interactions,
    order: _Array,
    users: _Array,
    counts: _Array,
    validation: _Array,
    test: _Array,
) -> list[str]:
    """Tell how many users have one time on both sides of a cut."""
    assert data.times is not None
    times = data.times[order]
    ends = np.cumsum(counts)
    notes = []
    for name, taken in (("test", test), ("validation", test + validation)):
        cuts = (ends - taken)[taken > 0]  # row of each user that comes first after the cut
        tied = int((times[cuts] == times[cuts - 1]).sum())
        if tied:
            notes.append(
                f"{tied:,} of {data.n_users:,} users have interactions of one time on both sides "
                f"of the cut before the {name} part; the order in the file decides"
            )
    return notes


def _collect(
    data: Interactions,
    split: str,
    users: _Array,
    items: _Array,
    parts: _Parts,
    notes: list[str],
) -> Splits:
    collected = {}
    for part, name in ((_TRAIN, "training"), (_VALIDATION, "validation"), (_TEST, "test")):
        rows = parts == part
        if not rows.any():
            raise DataError(
                f"split={split!r} leaves no interaction in the {name} part (of {len(data):,}); use "
                "more data, another split or other shares"
            )
        collected[part] = _rows(data, users[rows], items[rows])
    train, validation, test = (collected[part] for part in (_TRAIN, _VALIDATION, _TEST))
    untrained = (train.popularity == 0) & (validation.popularity + test.popularity > 0)
    if untrained.any():
        notes.append(
            f"{int(untrained.sum()):,} of {data.n_items:,} items have interactions in the "
            "validation or test part only: they are never trained, and stay in the ranking"
        )
    before = (parts == _TRAIN) | (parts == _VALIDATION)
    return Splits(
        train,
        validation,
        test,
        before_test=_rows(data, users[before], items[before]),
        known=_rows(data, users, items),
        notes=tuple(notes),
    )


def _rows(data: Interactions, users: _Array, items: _Array) -> UserItems:
    """Take rows that are ordered by user already."""
    starts = np.zeros(data.n_users + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=data.n_users), out=starts[1:])
    return UserItems(torch.from_numpy(starts), torch.from_numpy(items), data.n_items)
