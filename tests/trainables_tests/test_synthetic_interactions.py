"""The planted model: reproducible, skewed, ordered in time, and its own best recommender."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from trainables.data.interactions import (
    load_ids,
    load_interactions,
    load_recommender_data,
    load_test_items,
)
from trainables.data.synthetic import PlantedModel, PlantedScores, PlantedSettings
from trainables.data.user_items import UserItems


def ndcg(scores: torch.Tensor, known: UserItems, positives: UserItems, k: int = 10) -> float:
    """Mean NDCG@k of the full ranking, one user at a time."""
    values = []
    for user in range(known.n_users):
        row = torch.tensor([user])
        wanted = set(positives.of(row)[1].tolist())
        ranked = scores[user].clone()
        ranked[known.of(row)[1]] = -torch.inf
        best = ranked.topk(k).indices.tolist()
        gain = sum(1 / np.log2(place + 2) for place, item in enumerate(best) if item in wanted)
        values.append(gain / sum(1 / np.log2(place + 2) for place in range(min(k, len(wanted)))))
    return float(np.mean(values))


def ease(known: UserItems, penalty: float = 250.0) -> torch.Tensor:
    """Closed-form item-item scores (Steck, "Embarrassingly Shallow Autoencoders", WWW 2019)."""
    matrix = known.dense(torch.arange(known.n_users)).double()
    inverse = torch.linalg.inv(matrix.T @ matrix + penalty * torch.eye(known.n_items))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0)
    return (matrix @ weights).float()


def test_the_same_seed_draws_the_same_in_any_process_and_another_seed_differs():
    one, same, other = (PlantedModel(seed).interactions() for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.items, same.items)
    np.testing.assert_array_equal(one.times, same.times)
    assert one.user_features is not None
    assert same.user_features is not None
    assert torch.equal(one.user_features.items, same.user_features.items)
    assert len(one) != len(other) or (one.items != other.items).any()


def test_the_default_size_is_as_promised_and_no_pair_is_drawn_twice():
    data = load_interactions("synthetic", seed=0)
    assert data.n_users == 600
    assert 390 <= data.n_items <= 400
    assert 25_000 <= len(data) <= 35_000
    assert len(np.unique(data.users * data.n_items + data.items)) == len(data)
    assert data.times is not None
    assert (np.diff(data.times) >= 0).all()
    assert data.notes == ()
    # The most popular tenth of the items has more than a quarter of the interactions.
    counts = np.sort(np.bincount(data.items))[::-1]
    assert counts[:40].sum() > len(data) / 4


def test_items_are_drawn_by_their_weights_without_replacement():
    # One user thrice as often as needed: the share of each order of 3 items is known.
    settings = PlantedSettings(
        n_users=4000, n_items=6, mean_interactions=3.0, strength=0.0, skew=1.0, turn=0.0
    )
    model = PlantedModel(1, settings)
    weights = np.exp(model.logits[0][0])
    data = model.interactions()
    drawn = data.items[np.argsort(data.users, kind="stable")].reshape(4000, 3)
    for order in list(permutations(range(6), 3))[::17]:
        left, chance = weights.sum(), 1.0
        for item in order:
            chance *= weights[item] / left
            left -= weights[item]
        share = (drawn == order).all(1).mean()
        assert share == pytest.approx(chance, abs=4 * np.sqrt(chance / 4000) + 1e-3)


def test_late_interactions_follow_the_late_taste():
    model = PlantedModel(0)
    data = model.interactions()
    early, late = (logits[data.users, data.items] for logits in model.logits)
    order = np.argsort(data.users, kind="stable")
    counts = np.bincount(data.users)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    second_half = np.arange(len(order)) - starts >= np.repeat(counts // 2, counts)
    first, second = order[~second_half], order[second_half]
    assert early[first].mean() > late[first].mean() + 0.1
    assert late[second].mean() > early[second].mean() + 0.1


@pytest.mark.parametrize("split", ["user-time", "leave-one-out"])
def test_the_planted_scores_are_well_above_ease_and_ease_above_popularity(split):
    known = load_recommender_data("synthetic", split=split).train
    validation = load_recommender_data("synthetic", split=split).validation
    planted = PlantedScores(0, *load_ids("synthetic", split=split))
    best = ndcg(planted(torch.arange(600), known), known, validation)
    middle = ndcg(ease(known), known, validation)
    popular = ndcg(known.popularity.float().expand(600, -1), known, validation)
    assert best > 1.25 * middle > 1.25 * 1.5 * popular


def test_no_change_of_the_planted_scores_ranks_better():
    known, test = load_recommender_data("synthetic").train, load_test_items("synthetic")
    known = known.followed_by(load_recommender_data("synthetic").validation)
    planted = PlantedScores(0, *load_ids("synthetic"))(torch.arange(600), known)
    best = ndcg(planted, known, test)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(planted.shape, generator=generator)
    early = torch.from_numpy(PlantedModel(0).logits[0].astype(np.float32))
    early = early[:, torch.from_numpy(load_ids("synthetic")[1] - 1)]
    assert best > ndcg(planted + 0.5 * noise, known, test)
    assert best > ndcg(early, known, test)


def test_planted_scores_follow_the_ids_where_users_and_items_were_dropped():
    model = PlantedModel(0)
    user_ids, item_ids = np.array([3, 7]), np.array([1, 2, 400])
    empty = UserItems.from_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), 2, 3)
    scores = PlantedScores(0, user_ids, item_ids)(torch.tensor([1]), empty)
    expected = model.logits[1][6, [0, 1, 399]]
    np.testing.assert_allclose(scores[0].numpy(), expected, rtol=1e-6)


def test_features_tell_something_about_the_tastes():
    data = load_interactions("synthetic", seed=0)
    assert data.user_features is not None
    assert data.item_features is not None
    assert data.user_feature_names == tuple(f"likes={taste}" for taste in range(8))
    liked = data.user_features.dense(torch.arange(data.n_users))
    has = data.item_features.dense(torch.arange(data.n_items))
    fit = (liked @ has.T).numpy()
    # Users draw items with the tastes that their features name more often than items at large.
    assert fit[data.users, data.items].mean() > 1.15 * fit.mean()
