"""Negative items are never the user's own, and come with the probabilities that are promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from trainables.data import negatives
from trainables.data.negatives import NegativeSampler
from trainables.data.user_items import UserItems


def random_items(n_users=40, n_items=60, n=900, seed=0) -> UserItems:
    rng = np.random.default_rng(seed)
    users = rng.integers(0, n_users, n)
    items = (n_items * rng.random(n) ** 2).astype(np.int64)
    return UserItems.from_pairs(users, items, n_users, n_items)


def nearly_all(n_items=50) -> UserItems:
    """User 0 lacks items 7 and 49, user 1 has nothing, user 2 has everything, user 3 lacks 0."""
    rows = [[i for i in range(n_items) if i not in (7, 49)], [], range(n_items), range(1, n_items)]
    users = np.concatenate([np.full(len(row), user) for user, row in enumerate(rows)])
    items = np.concatenate([np.array(row, np.int64) for row in rows])
    return UserItems.from_pairs(users, items, len(rows), n_items)


@pytest.fixture(params=["matrix", "keys"])
def look_up(request, monkeypatch):
    """Both ways to look a pair up: in a matrix, and in sorted keys where that were too large."""
    if request.param == "keys":
        monkeypatch.setattr(negatives, "_MATRIX_LIMIT", 0)


@pytest.mark.usefixtures("look_up")
@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_a_negative_is_never_an_item_of_the_user(kind):
    positives = random_items()
    owned = positives.dense(torch.arange(40)).bool()
    users = torch.arange(40).repeat(50)
    drawn = NegativeSampler(positives, kind).draw(users, 7, torch.Generator().manual_seed(1))
    assert drawn.shape == (2000, 7)
    assert drawn.dtype == torch.int64
    assert not owned[users[:, None], drawn].any()


@pytest.mark.usefixtures("look_up")
def test_contains_agrees_with_the_dense_matrix():
    positives = random_items()
    users, items = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
    expected = positives.dense(torch.arange(40)).bool()
    assert torch.equal(NegativeSampler(positives).contains(users, items), expected)


@pytest.mark.usefixtures("look_up")
def test_nobody_has_anything():
    empty = UserItems.from_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), 2, 3)
    sampler = NegativeSampler(empty)
    drawn = sampler.draw(torch.tensor([0, 1] * 50), 2, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == {0, 1, 2}
    assert not sampler.contains(torch.tensor([0]), torch.tensor([2])).any()


@pytest.mark.parametrize("rounds", [0, 8])
@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_frequencies_pass_a_chi_square_test(kind, rounds, monkeypatch):
    monkeypatch.setattr(negatives, "_ROUNDS", rounds)  # 0: all that hit are drawn exactly
    positives = random_items()
    counts = positives.popularity.numpy()
    weights = np.maximum(counts, 1.0) ** 0.75 if kind == "popularity" else np.ones(60)
    owned = positives.dense(torch.arange(40)).bool().numpy()
    n = 60_000
    for user in (0, 17):
        allowed = np.where(owned[user], 0.0, weights)
        drawn = NegativeSampler(positives, kind).draw(
            torch.full((n,), user), 1, torch.Generator().manual_seed(user)
        )
        observed = np.bincount(drawn.flatten().numpy(), minlength=60)
        expected = n * allowed / allowed.sum()
        inside = expected > 0
        assert observed[~inside].sum() == 0
        assert stats.chisquare(observed[inside], expected[inside]).pvalue > 1e-3


@pytest.mark.usefixtures("look_up")
@pytest.mark.parametrize("rounds", [0, 8])
@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_users_with_almost_everything_get_what_they_lack(kind, rounds, monkeypatch):
    monkeypatch.setattr(negatives, "_ROUNDS", rounds)
    sampler = NegativeSampler(nearly_all(), kind)
    users = torch.tensor([0, 1, 2, 3]).repeat(200)
    drawn = sampler.draw(users, 3, torch.Generator().manual_seed(2))
    assert set(drawn[users == 0].flatten().tolist()) == {7, 49}
    assert len(set(drawn[users == 1].flatten().tolist())) > 40
    everything = drawn[users == 2]  # no negative exists; documented: any item
    assert ((everything >= 0) & (everything < 50)).all()
    assert set(drawn[users == 3].flatten().tolist()) == {0}


def test_items_that_nobody_has_are_negatives_by_popularity_too():
    positives = UserItems.from_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), 3, 4)
    sampler = NegativeSampler(positives, "popularity")
    expected = np.array([2.0, 1.0, 1.0, 1.0]) ** 0.75
    np.testing.assert_allclose(sampler.probabilities.numpy(), expected / expected.sum())


def test_the_same_seed_draws_the_same():
    sampler = NegativeSampler(random_items())
    draws = [sampler.draw(torch.arange(40), 5, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


@pytest.mark.usefixtures("look_up")
@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_the_table_is_made_at_the_first_look_and_changes_no_draw(kind):
    users = torch.arange(40)
    early, late = (NegativeSampler(random_items(), kind) for _ in range(2))
    early.contains(users, users)
    assert "_owned" in vars(early)
    assert "_owned" not in vars(late)
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    for _ in range(2):
        draws = [one.draw(users, 3, g) for one, g in zip((early, late), generators, strict=True)]
        assert torch.equal(*draws)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_no_negatives_need_no_table():
    sampler = NegativeSampler(random_items())
    assert sampler.draw(torch.arange(40), 0, torch.Generator()).shape == (40, 0)
    assert "_owned" not in vars(sampler)


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()
    NegativeSampler(nearly_all()).draw(torch.arange(4), 5, torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())


def test_an_item_that_a_user_has_twice_counts_once():
    twice = UserItems.from_pairs(np.array([0, 0, 0]), np.array([1, 1, 0]), 1, 3)
    drawn = NegativeSampler(twice).draw(torch.zeros(20, dtype=torch.int64), 2, torch.Generator())
    assert set(drawn.flatten().tolist()) == {2}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='hard' must be one of uniform, popularity"):
        NegativeSampler(random_items(), "hard")
