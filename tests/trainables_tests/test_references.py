"""References: brute-force solutions, and the figures measured on MovieLens-100K."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from raytune_ahu.errors import DataError, SpaceError, SpecError
from raytune_ahu.seeding import generator
from trainables import tuned_references
from trainables.data.user_items import UserItems
from trainables.ials import IALS, transposed
from trainables.metrics import rank
from trainables.references import EASE, ItemKNN, Popularity
from trainables.tuned_references import tune_references


@pytest.fixture(scope="module")
def small():
    """30 users, 12 items, about a third of the pairs; users 3 and 4 and item 7 have none."""
    matrix = generator(0, "references test").random((30, 12)) < 0.35
    matrix[3:5], matrix[:, 7] = False, False
    users, items = matrix.nonzero()
    return UserItems.from_pairs(users, items, 30, 12), matrix.astype(np.float64)


def time_ordered(folder, leave_one_out=False):
    """MovieLens-100K by user in stable time order: train, validation, test."""
    ratings = np.loadtxt(folder / "ml-100k" / "u.data", dtype=np.int64)
    ratings = ratings[np.argsort(ratings[:, 3], kind="stable")]
    ratings = ratings[np.argsort(ratings[:, 0], kind="stable")]
    users, items = ratings[:, 0] - 1, ratings[:, 1] - 1
    counts = np.bincount(users)
    left = np.cumsum(counts)[users] - np.arange(len(users))  # 1 for a user's last
    held = 1 if leave_one_out else (counts // 10)[users]
    part = (left <= held).astype(int) + (left <= 2 * held)
    return [UserItems.from_pairs(users[part == p], items[part == p], 943, 1682) for p in (0, 1, 2)]


def all_scores(model, history):
    return model.scores(torch.arange(history.n_users), history).double().numpy()


def test_popularity_counts_users(small):
    train, matrix = small
    model = Popularity()
    model.fit(train)
    np.testing.assert_array_equal(all_scores(model, train), np.tile(matrix.sum(0), (30, 1)))


def test_item_knn_with_all_neighbours_is_the_cosine_of_scikit_learn(small):
    from sklearn.metrics.pairwise import cosine_similarity

    train, matrix = small
    model = ItemKNN(k=None)
    model.fit(train)
    similarity = cosine_similarity(matrix.T)
    np.fill_diagonal(similarity, 0.0)
    np.testing.assert_allclose(all_scores(model, train), matrix @ similarity, atol=1e-5)


def test_item_knn_keeps_the_nearest_and_shrinks_rare_items():
    # Items 0 and 1 share 2 users, 0 and 2 share 1; item 0 has 3 users, 1 has 2, 2 has 1.
    train = UserItems.from_pairs(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 2]), 3, 3)
    history = UserItems.from_pairs(np.array([0, 1, 2]), np.array([0, 1, 2]), 3, 3)
    s01, s02 = 2 / (6**0.5 + 1), 1 / (3**0.5 + 1)
    model = ItemKNN(k=1, shrinkage=1.0)
    model.fit(train)
    # The one neighbour of item 0 is item 1; that of items 1 and 2 is item 0.
    expected = [[0, s01, s02], [s01, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(all_scores(model, history), expected, atol=1e-6)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others(small):
    train, matrix = small
    model = EASE(l2=3.0)
    model.fit(train)
    weights = np.zeros((12, 12))
    for item in range(12):
        others = np.delete(np.arange(12), item)
        x = matrix[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + 3.0 * np.eye(11), x.T @ matrix[:, item])
    np.testing.assert_allclose(all_scores(model, train), matrix @ weights, atol=1e-5)


def test_the_loss_of_ials_never_rises_and_is_the_one_of_the_paper(small):
    train, matrix = small
    model = IALS(d=4, reg=0.02, alpha0=0.3, sweeps=8)
    losses = [model.loss(train) for _ in model.run(train)]
    assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0]
    w, h = model.users.double().numpy(), model.items.double().numpy()
    fit = w @ h.T
    penalty = ((matrix.sum(1) + 0.3 * 12) * (w**2).sum(1)).sum()
    penalty += ((matrix.sum(0) + 0.3 * 30) * (h**2).sum(1)).sum()
    expected = (matrix * (fit - 1) ** 2).sum() + 0.3 * (fit**2).sum() + 0.02 * penalty
    assert losses[-1] == pytest.approx(expected)


def test_a_half_step_of_ials_is_the_closed_form(small, monkeypatch):
    train, matrix = small
    model = IALS(d=4, reg=0.02, alpha0=0.3, sweeps=2)
    model.fit(train)
    h = model.items.double().numpy()
    for user in range(30):
        mine = h[matrix[user] > 0]
        penalty = 0.02 * (len(mine) + 0.3 * 12)
        left = mine.T @ mine + 0.3 * h.T @ h + penalty * np.eye(4)
        expected = np.linalg.solve(left, mine.sum(0))
        np.testing.assert_allclose(model.users[user].numpy(), expected, atol=1e-4)
    # The size of the blocks changes no more than rounding.
    monkeypatch.setattr("trainables.ials._BLOCK", 1)
    other = IALS(d=4, reg=0.02, alpha0=0.3, sweeps=2)
    other.fit(train)
    torch.testing.assert_close(other.users, model.users, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", [1, 3, 6, 40])
def test_rows_with_fewer_and_with_more_items_than_factors_solve_the_same_equations(small, d):
    train, matrix = small
    model = IALS(d=d, reg=0.05, alpha0=0.5, sweeps=3)
    model.fit(train)
    w, h = model.users.double().numpy(), model.items.double().numpy()
    counts = matrix.sum(1)
    for user in range(30):
        mine = h[matrix[user] > 0]
        penalty = 0.05 * (counts[user] + 0.5 * 12)
        left = mine.T @ mine + 0.5 * h.T @ h + penalty * np.eye(d)
        np.testing.assert_allclose(left @ w[user], mine.sum(0), atol=2e-5)
    assert counts.max() > 6 > 3 > counts[counts > 0].min()


@pytest.mark.parametrize("fails", [False, True])
def test_ials_gives_the_threads_of_torch_back(small, fails, monkeypatch):
    used = []
    eigh = torch.linalg.eigh

    def spy(matrix):
        used.append(torch.get_num_threads())
        if fails:
            raise RuntimeError("no")
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="no") if fails else nullcontext():
            IALS(d=2, sweeps=1).fit(small[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(used) == {1}


def test_folding_in_a_training_user_gives_the_factors_of_training(small):
    train, _ = small
    model = IALS(d=4, sweeps=5)
    model.fit(train)
    same_items = UserItems(train.starts, train.items, train.n_items)
    users = torch.tensor([9, 3, 0])
    torch.testing.assert_close(
        model.scores(users, same_items), model.scores(users, train), rtol=1e-5, atol=1e-6
    )
    assert model.scores(users, same_items)[1].eq(0).all()  # no history


def test_the_users_of_items_are_the_items_of_users_turned_round(small):
    train, matrix = small
    np.testing.assert_array_equal(transposed(train).dense(torch.arange(12)).numpy(), matrix.T)


@pytest.mark.parametrize("make", [Popularity, lambda: ItemKNN(3), EASE, lambda: IALS(4)])
def test_the_same_training_items_give_the_same_scores_and_torch_is_left_alone(make, small):
    train, _ = small
    state = torch.get_rng_state()
    first, second = make(), make()
    first.fit(train)
    second.fit(train)
    np.testing.assert_array_equal(all_scores(first, train), all_scores(second, train))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.scores(torch.tensor([1, 2]), train).shape == (2, 12)
    assert first.scores(torch.tensor([1, 2]), train).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EASE(0.0), "l2=0.0 must be above 0"),
        (lambda: ItemKNN(0), "k=0 must be a whole number of at least 1"),
        (lambda: ItemKNN(5, -1.0), r"shrinkage=-1.0 must be at least 0"),
        (lambda: IALS(0), "d=0 must be a whole number of at least 1"),
        (lambda: IALS(reg=0.0), r"reg=0.0 must be a number above 0"),
        (lambda: IALS(alpha0=float("nan")), r"alpha0=nan must be a number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_too_many_items_are_refused_or_skipped_with_the_size(monkeypatch):
    train = UserItems.from_pairs(np.arange(5), np.arange(5), 5, 50_000)
    with pytest.raises(
        DataError, match=r"n_items=50,000 must be at most 20,000.*matrices would take 54 GB"
    ):
        EASE().fit(train)
    monkeypatch.setattr(tuned_references, "IALS_SETTINGS", ((2, 0.01, 0.3),))
    found = tune_references(train, lambda scores: 0.0)
    assert [one.name for one in found.references] == ["popularity", "ials"]
    assert [line.split(":")[0] for line in found.skipped] == ["itemknn", "ease"]
    assert all("54 GB" in line for line in found.skipped)


def test_an_unknown_reference_is_named(small):
    with pytest.raises(SpecError, match="reference 'knn' must be one of popularity, itemknn"):
        tune_references(small[0], lambda scores: 0.0, names=["ease", "knn"])


def test_tuning_keeps_the_best_setting_with_its_model(small, monkeypatch):
    train, _ = small
    monkeypatch.setattr(tuned_references, "IALS_SETTINGS", ((4, 0.01, 0.3), (6, 0.1, 1.0)))
    seen = []

    def evaluate(scores):
        ranking = rank(scores, history=train, seen=empty, positives=train, ks=(3,))
        seen.append(ranking.means()["ndcg@3"])
        return seen[-1]

    empty = UserItems(torch.zeros(31, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 12)
    lines = []
    found = tune_references(train, evaluate, say=lines.append)
    assert [one.name for one in found.references] == list(tuned_references.REFERENCES)
    assert [line.split(":")[0] for line in lines] == [
        "popularity",
        "itemknn",
        "ease",
        "ials d=4, reg=0.01, alpha0=0.3",
        "ials d=6, reg=0.1, alpha0=1.0",
        "ials",
    ]
    assert sum(one.tried for one in found.references) == len(seen)
    start = 0
    for one in found.references:
        tried = seen[start : start + one.tried]
        assert one.value == max(tried)
        # The model that is kept is still the one of that value, whatever was fitted after it.
        ranking = rank(one.scores, history=train, seen=empty, positives=train, ks=(3,))
        assert ranking.means()["ndcg@3"] == one.value
        start += one.tried


def test_a_setting_of_ials_is_given_up_when_its_sweeps_bring_nothing(small, monkeypatch):
    monkeypatch.setattr(tuned_references, "IALS_SETTINGS", ((4, 0.01, 0.3),))
    values = iter([0.1, 0.3, 0.2, 0.2, 0.3, 0.1])
    lines = []
    found = tune_references(small[0], lambda scores: next(values), names=["ials"], say=lines.append)
    assert lines[0] == "ials d=4, reg=0.01, alpha0=0.3: 0.3000 after 2 sweeps"
    assert found.references[0].value == 0.3
    assert found.references[0].settings["sweeps"] == 2
    assert found.references[0].tried == 6


def test_the_measured_figures_of_movielens_come_out_again(shared_data):
    train, validation, test = time_ordered(shared_data)
    both = train.followed_by(validation)
    expected = [(Popularity(), 0.079), (EASE(250.0), 0.126), (IALS(64, 0.01, 0.6, 12), 0.127)]
    for model, ndcg in expected:
        model.fit(train)
        found = rank(model.scores, history=train, seen=both, positives=test).means()
        assert found["ndcg@10"] == pytest.approx(ndcg, abs=0.0015), model.name


def test_leave_one_out_on_movielens_comes_out_again(shared_data):
    train, validation, test = time_ordered(shared_data, leave_one_out=True)
    assert (len(train), len(validation), len(test)) == (98114, 943, 943)
    model = EASE(100.0)
    model.fit(train)
    both = train.followed_by(validation)
    found = rank(model.scores, history=train, seen=both, positives=test).means()
    assert found["ndcg@10"] == pytest.approx(0.070, abs=0.0005)


def test_a_fit_without_a_value_never_wins(small):
    values = iter([float("nan"), 0.2, float("nan"), 0.3, 0.1])
    found = tune_references(small[0], lambda scores: next(values), names=["ease"])
    assert found.references[0].value == 0.3
    assert found.references[0].settings == {"l2": 500.0}
