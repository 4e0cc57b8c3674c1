"""The four splits: hand-worked cuts, ties, users that are too small, parts that are empty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from raytune_ahu.errors import DataError
from trainables.data.interaction_rows import Interactions
from trainables.data.interaction_splits import SPLITS, split_interactions
from trainables.data.user_items import UserItems


def rows(users, items, times=None) -> Interactions:
    users, items = np.array(users, np.int64), np.array(items, np.int64)
    return Interactions(
        users,
        items,
        np.arange(1 + users.max()),
        np.arange(1 + items.max()),
        times=None if times is None else np.array(times, np.int64),
    )


def lists(part: UserItems) -> list[list[int]]:
    bounds = part.starts.tolist()
    items = part.items.tolist()
    return [items[a:b] for a, b in pairwise(bounds)]


def random_rows(seed=0) -> Interactions:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(np.unique(rng.integers(0, [40, 60], (1500, 2)), axis=0))
    return rows(pairs[:, 0], pairs[:, 1], rng.integers(0, 300, len(pairs)))


def test_each_users_last_tenth_is_the_test_and_the_tenth_before_the_validation_part():
    # User 0 has 20 rows, newest first in the file; user 1 has 3; user 2 has 19, one rounded down.
    users = [0] * 20 + [1] * 3 + [2] * 19
    items = [*range(20), 0, 1, 2, *range(19)]
    times = [*range(20, 0, -1), 5, 4, 6, *range(19)]
    splits = split_interactions(rows(users, items, times), "user-time")
    assert lists(splits.test) == [[1, 0], [2], [18]]
    assert lists(splits.validation) == [[3, 2], [0], [17]]
    assert lists(splits.train) == [list(range(19, 3, -1)), [1], list(range(17))]


def test_leave_one_out_takes_the_last_and_the_one_before():
    splits = split_interactions(
        rows([0, 1, 0, 1, 0, 1], [3, 2, 1, 1, 0, 0], [9, 1, 2, 2, 5, 3]), "leave-one-out"
    )
    assert lists(splits.test) == [[3], [0]]
    assert lists(splits.validation) == [[0], [1]]
    assert lists(splits.train) == [[1], [2]]


def test_interactions_of_one_time_are_in_the_order_of_the_file_and_the_users_are_counted():
    data = rows([0] * 4 + [1] * 4, [3, 2, 1, 0] * 2, [5, 5, 5, 5, 1, 2, 3, 4])
    splits = split_interactions(data, "leave-one-out")
    assert lists(splits.test) == [[0], [0]]
    assert lists(splits.validation) == [[1], [1]]
    assert splits.notes[0] == (
        "1 of 2 users have interactions of one time on both sides of the cut before the test part; "
        "the order in the file decides"
    )
    assert "before the validation part" in splits.notes[1]


def test_one_cut_in_time_for_all_leaves_out_users_unknown_before_it():
    # Ten rows, times 0..9: 0-7 training, 8 validation, 9 test. User 2 comes at 9 only.
    users = [0, 1, 0, 1, 0, 1, 0, 1, 0, 2]
    data = rows(users, [0, 0, 1, 1, 2, 2, 3, 3, 4, 0], range(10))
    with pytest.raises(DataError, match="no interaction in the test part"):
        split_interactions(data, "global-time")
    data = rows([*users, 1], [0, 0, 1, 1, 2, 2, 3, 3, 4, 0, 5], [*range(10), 10])
    splits = split_interactions(data, "global-time", test_fraction=0.2)
    assert lists(splits.train) == [[0, 1, 2, 3], [0, 1, 2, 3], []]
    assert lists(splits.validation) == [[4], [], []]
    assert lists(splits.test) == [[], [5], []]
    assert splits.notes == (
        "1 users have no interaction before the first cut; nothing is known of them, and their 1 "
        "interactions are left out",
        "2 of 6 items have interactions in the validation or test part only: they are never "
        "trained, and stay in the ranking",
    )


def test_the_global_cut_says_where_it_falls_between_equal_times():
    splits = split_interactions(rows([0] * 20, range(20), [0] * 17 + [5] * 3), "global-time")
    assert lists(splits.test) == [[18, 19]]
    assert lists(splits.validation) == [[16, 17]]
    assert any("(5); they are in the order of the file" in note for note in splits.notes)


def test_a_random_split_takes_the_shares_of_each_user_and_depends_on_the_seed_alone():
    data = random_rows()
    first = split_interactions(data, "random", seed=3)
    again = split_interactions(data, "random", seed=3)
    other = split_interactions(data, "random", seed=4)
    by_time = split_interactions(data, "user-time")
    assert lists(first.test) == lists(again.test)
    assert lists(first.test) != lists(other.test)
    for part in ("train", "validation", "test"):
        counts = getattr(first, part).counts.tolist()
        assert counts == getattr(by_time, part).counts.tolist()


def test_a_random_split_needs_no_times_and_picks_every_place_equally_often():
    # 200 users with the items 0..9: over all users each item is in the test about 20 times.
    data = rows(np.repeat(np.arange(200), 10), np.tile(np.arange(10), 200))
    counts = split_interactions(data, "random", seed=1).test.popularity
    assert counts.sum() == 200
    assert (counts - 20).abs().max() <= 4 * np.sqrt(200 * 0.1 * 0.9)


@pytest.mark.parametrize("split", SPLITS)
def test_the_parts_are_disjoint_complete_and_in_order_of_time(split):
    data = random_rows()
    splits = split_interactions(data, split)
    parts = [lists(part) for part in (splits.train, splits.validation, splits.test)]
    assert data.times is not None
    order = np.argsort(data.times, kind="stable")
    for user in range(data.n_users):
        mine = order[data.users[order] == user]
        place = {item: rank for rank, item in enumerate(data.items[mine].tolist())}
        found = [item for part in parts for item in part[user]]
        assert sorted(found) == sorted(place)
        for part in parts:
            ranks = [place[item] for item in part[user]]
            assert ranks == sorted(ranks)
        if split != "random":
            assert found == sorted(found, key=place.__getitem__)


@pytest.mark.parametrize("shares", [(0.45, 0.45), (0.05, 0.9), (0.9, 0.05), (0.01, 0.01)])
def test_every_user_with_three_interactions_is_in_all_parts_whatever_the_shares(shares):
    users = [user for user in range(10) for _ in range(3 + user)]
    items = [item for user in range(10) for item in range(3 + user)]
    splits = split_interactions(
        rows(users, items, items), "user-time", validation_fraction=shares[0],
        test_fraction=shares[1],
    )  # fmt: skip
    for part in (splits.train, splits.validation, splits.test):
        assert part.counts.min() >= 1


def test_users_with_fewer_than_three_interactions_stay_in_training_and_are_counted():
    data = rows([0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 2], range(6))
    splits = split_interactions(data, "user-time")
    assert splits.test.counts.tolist() == [1, 0, 0]
    assert splits.train.counts.tolist() == [1, 2, 1]
    assert splits.notes[0].startswith("2 users have fewer than 3 interactions")


def test_items_seen_in_the_test_only_stay_in_the_ranking():
    splits = split_interactions(rows([0] * 4, [0, 1, 2, 3], range(4)), "leave-one-out")
    assert splits.train.n_items == splits.test.n_items == 4
    assert splits.notes == (
        "2 of 4 items have interactions in the validation or test part only: they are never "
        "trained, and stay in the ranking",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "kfold"}, "split='kfold' is not known; use one of user-time"),
        ({"test_fraction": 0.0}, r"test_fraction=0 must be in \(0, 1\)"),
        ({"validation_fraction": 1.0}, "validation_fraction=1 must be in"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "must sum to less than 1"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(options, message):
    options = {"split": "user-time", **options}
    with pytest.raises(DataError, match=message):
        split_interactions(rows([0, 0, 0], [0, 1, 2], range(3)), **options)


@pytest.mark.parametrize("split", ["user-time", "leave-one-out", "global-time"])
def test_a_split_by_time_without_times_is_refused(split):
    with pytest.raises(DataError, match=f"split='{split}' needs times"):
        split_interactions(rows([0, 0, 0], [0, 1, 2]), split)


def test_an_empty_part_is_refused():
    with pytest.raises(DataError, match="no interaction in the validation part"):
        split_interactions(rows([0, 0, 1], [0, 1, 0], range(3)), "user-time")
