"""Ranking metrics: hand-worked lists, torchmetrics and scikit-learn as oracles, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from raytune_ahu.errors import DataError, SpecError
from raytune_ahu.seeding import generator
from trainables.data.user_items import UserItems
from trainables.metrics import paired_test, rank, sample_candidates
from trainables.ties import Ties


def items_of(*lists, n_items):
    users = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int64)
    return UserItems.from_pairs(users, items, len(lists), n_items)


def table(matrix):
    scores = torch.as_tensor(matrix, dtype=torch.float32)
    return lambda users, history: scores[users]


def nothing(n_users, n_items):
    return items_of(*[[]] * n_users, n_items=n_items)


def rank_table(matrix, seen, positives, ks=(10,), **options):
    return rank(table(matrix), history=seen, seen=seen, positives=positives, ks=ks, **options)


@pytest.fixture(scope="module")
def random_case():
    """Scores (60, 40) without ties, each user with 5 seen items and 0 to 7 positives."""
    rng = generator(3, "metrics test")
    scores = rng.normal(size=(60, 40))
    orders = [rng.permutation(40) for _ in range(60)]
    seen = items_of(*[order[:5] for order in orders], n_items=40)
    positives = items_of(
        *[order[5 : 5 + user % 8] for user, order in enumerate(orders)], n_items=40
    )
    return scores, seen, positives


def test_a_hand_worked_list_gets_every_metric_right():
    # The list is 0 2 1 3; items 2, 3 and 5 are to be found, 5 comes last.
    found = rank_table(
        [[6.0, 4, 5, 3, 2, 1]],
        nothing(1, 6),
        items_of([2, 3, 5], n_items=6),
        ks=(1, 2, 4),
        popularity=torch.tensor([1, 1, 1, 1, 1, 1]),
    ).means()
    third, fifth = 1 / math.log2(3), 1 / math.log2(5)
    assert found["ndcg@1"] == 0.0
    assert found["ndcg@2"] == pytest.approx(third / (1 + third))
    assert found["ndcg@4"] == pytest.approx((third + fifth) / (1 + third + 0.5))
    assert (found["recall@2"], found["recall@4"]) == pytest.approx((1 / 3, 2 / 3))
    assert (found["precision@2"], found["precision@4"]) == (0.5, 0.5)
    assert (found["hit@1"], found["hit@2"], found["hit@4"]) == (0.0, 1.0, 1.0)
    assert (found["mrr@1"], found["mrr@2"], found["mrr@4"]) == (0.0, 0.5, 0.5)
    assert found["map@2"] == pytest.approx((1 / 2) / 2)
    assert found["map@4"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_seen_items_are_not_recommended_and_the_others_move_up():
    found = rank_table([[4.0, 3, 2, 1]], items_of([0, 1], n_items=4), items_of([3], n_items=4))
    assert found.lists.tolist() == [[2, 3, -1, -1]]
    assert found.means()["mrr@10"] == 0.5


def test_a_masked_place_is_never_a_hit():
    seen = items_of([0, 1, 2], n_items=4)
    found = rank_table([[4.0, 3, 2, 1]], seen, items_of([0, 3], n_items=4), ks=(3,))
    assert found.lists.tolist() == [[3, -1, -1]]
    assert found.means()["recall@3"] == 0.5
    assert found.means()["precision@3"] == pytest.approx(1 / 3)


def test_finding_all_positives_first_gives_one_also_when_they_are_fewer_than_k():
    found = rank_table([[3.0, 2, 1, 0]], nothing(1, 4), items_of([1, 0], n_items=4), ks=(3, 100))
    means = found.means()
    for name in ("ndcg@3", "recall@3", "map@3", "ndcg@100", "recall@100", "map@100"):
        assert means[name] == pytest.approx(1.0)
    assert means["precision@3"] == pytest.approx(2 / 3)
    assert means["precision@100"] == pytest.approx(0.02)


def test_users_without_positives_are_left_out():
    positives = items_of([], [1], [], [0], n_items=2)
    found = rank_table([[1.0, 0]] * 4, nothing(4, 2), positives, ks=(1,))
    assert found.users.tolist() == [1, 3]
    assert found.per_user["hit@1"].tolist() == [0.0, 1.0]
    assert found.means()["hit@1"] == 0.5
    assert found.standard_error("hit@1") == pytest.approx(0.5)


def test_a_split_without_positives_is_refused():
    with pytest.raises(DataError, match="no user has an item to be found"):
        rank_table([[1.0, 0]], nothing(1, 2), nothing(1, 2))


@pytest.mark.parametrize("ks", [(), (0,), (10, -1)])
def test_a_length_below_one_is_refused(ks):
    with pytest.raises(SpecError, match="at least 1"):
        rank_table([[1.0, 0]], nothing(1, 2), items_of([0], n_items=2), ks=ks)


def test_a_nan_score_makes_the_whole_result_nan():
    found = rank_table([[1.0, 0], [math.nan, 0]], nothing(2, 2), items_of([0], [1], n_items=2))
    assert all(math.isnan(value) for value in found.means().values())
    assert found.lists.eq(-1).all()


def test_every_metric_agrees_with_torchmetrics(random_case):
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    scores, seen, positives = random_case
    found = rank_table(scores, seen, positives, ks=(3, 10))
    users = positives.counts.nonzero().squeeze(1)
    # Only unseen items are given to torchmetrics: it knows no mask.
    unseen = seen.dense(users) == 0
    index = users[:, None].expand(-1, 40)[unseen]
    given = torch.from_numpy(scores).float()[users][unseen]
    target = positives.dense(users).bool()[unseen]
    oracles = {
        "ndcg": retrieval.RetrievalNormalizedDCG,
        "recall": retrieval.RetrievalRecall,
        "precision": retrieval.RetrievalPrecision,
        "hit": retrieval.RetrievalHitRate,
        "mrr": retrieval.RetrievalMRR,
    }
    for k in (3, 10):
        for name, oracle in oracles.items():
            expected = float(oracle(top_k=k)(given, target, indexes=index))
            assert found.means()[f"{name}@{k}"] == pytest.approx(expected, abs=1e-6), name
        # torchmetrics divides by the number of hits in the list, we by what could be there.
        hits = found.per_user[f"precision@{k}"] * k
        possible = positives.counts[users].clamp(max=k)
        ours = (found.per_user[f"map@{k}"] * possible / hits.clamp(min=1)).mean()
        expected = float(retrieval.RetrievalMAP(top_k=k)(given, target, indexes=index))
        assert float(ours) == pytest.approx(expected, abs=1e-6)


def test_ndcg_agrees_with_scikit_learn(random_case):
    from sklearn.metrics import ndcg_score

    scores, _, positives = random_case
    found = rank_table(scores, nothing(60, 40), positives, ks=(5,))
    users = found.users
    expected = ndcg_score(positives.dense(users).numpy(), scores[users.numpy()], k=5)
    assert found.means()["ndcg@5"] == pytest.approx(expected)


def test_neither_a_constant_nor_the_block_changes_anything(random_case):
    scores, seen, positives = random_case
    coarse = np.round(scores, 1)  # with ties
    plain = rank_table(coarse, seen, positives)
    for other in (
        rank_table(coarse + 32, seen, positives),
        rank_table(coarse, seen, positives, block=1),
        rank_table(coarse, seen, positives, block=200),
    ):
        assert other.lists.tolist() == plain.lists.tolist()
        assert other.means() == plain.means()


def test_a_shorter_list_is_the_start_of_a_longer_one_also_among_ties(random_case):
    scores, seen, positives = random_case
    coarse = np.round(scores)
    short, long = (rank_table(coarse, seen, positives, ks=(k,)) for k in (4, 30))
    assert short.lists.tolist() == long.lists[:, :4].tolist()


def test_the_model_is_told_the_history_and_its_scores_are_left_alone(random_case):
    scores, seen, positives = random_case
    matrix = torch.from_numpy(scores).float()
    before, histories = matrix.clone(), []

    def model(users, history):
        histories.append(history)
        return matrix if len(users) == 60 else matrix[users]

    rank(model, history=seen, seen=seen, positives=positives)
    assert histories == [seen]
    assert torch.equal(matrix, before)


def test_scoring_all_items_alike_gets_what_chance_gets():
    # The positive is the most popular item and has number 0: a stable sort would find it always.
    positives = items_of(*[[0]] * 4000, n_items=50)
    found = rank_table(np.zeros((4000, 50)), nothing(4000, 50), positives, ks=(5,))
    expected, error = 0.1, math.sqrt(0.1 * 0.9 / 4000)
    assert abs(found.means()["hit@5"] - expected) < 4 * error
    shown = torch.bincount(found.lists.flatten(), minlength=50)
    assert stats.chisquare(shown.numpy()).pvalue > 1e-4


def test_ties_are_the_same_for_all_zeros_and_in_every_call():
    ties = Ties.of(3, 8, torch.device("cpu"))
    zeros = torch.tensor([[0.0, -0.0] * 4] * 3)
    users = torch.arange(3)
    _, items = ties.top(zeros, users, 8)
    assert torch.equal(items, ties.top(torch.zeros(3, 8), users, 8)[1])
    assert torch.equal(items, ties.top(-zeros, users, 8)[1])
    assert len({tuple(row) for row in items.tolist()}) == 3


def test_exact_ordering_of_tied_rows_agrees_with_a_plain_sort():
    rng = generator(0, "ties test")
    scores = torch.from_numpy(rng.integers(-3, 4, size=(50, 30)) / 2).float()
    scores[0, 3], scores[1, 5], scores[2, 7] = -math.inf, math.inf, 1e-42
    ties = Ties.of(50, 30, torch.device("cpu"))
    values, items = ties.top(scores, torch.arange(50), 6)
    for user in range(50):
        words = ties.words(torch.tensor([user]))[0].tolist()
        order = sorted(range(30), key=lambda i, w=words, u=user: (-scores[u, i].item(), -w[i]))
        assert items[user].tolist() == order[:6]
        assert values[user].tolist() == [scores[user, item].item() for item in order[:6]]


def test_coverage_novelty_and_popularity_bias_are_as_worked_out_by_hand():
    # 4 users; items 0..3 are known to 4, 2, 1 and 0 of them.
    history = items_of([0, 1, 2], [0, 1], [0], [0], n_items=4)
    positives = items_of([3], [3], [1], [], n_items=4)
    matrix = [[0, 0, 0, 1], [0, 0, 0, 1], [0, 2, 1, 0], [9, 9, 9, 9]]
    found = rank(table(matrix), history=history, seen=history, positives=positives, ks=(1, 2))
    # Lists at 1: 3, 3, 1. Nobody has item 3: it counts as one user's, log2(4 / 1) = 2 bits.
    assert found.per_user["novelty@1"].tolist() == [2.0, 2.0, 1.0]
    assert found.overall["coverage@1"] == 0.5
    # Mean popularity in lists (0 + 0 + 2) / 3; in profiles (7/3 + 6/2 + 4/1) / 3.
    assert found.overall["popularity_bias@1"] == pytest.approx((2 / 3) / ((7 / 3 + 3 + 4) / 3))
    # At 2 user 0 has nothing left beside item 3, user 1 gets item 2, user 2 items 1 and 2.
    assert found.per_user["novelty@2"].tolist() == [2.0, 2.0, 1.5]
    assert found.overall["coverage@2"] == 0.75


def test_candidates_are_unseen_distinct_and_the_same_for_the_same_seed(random_case):
    _, seen, positives = random_case
    excluded = seen.followed_by(positives)
    drawn = sample_candidates(excluded, generator(1, "candidates"), n=9)
    again = sample_candidates(excluded, generator(1, "candidates"), n=9)
    everyone = torch.arange(60)
    assert drawn.counts.tolist() == [9] * 60
    assert torch.equal(drawn.items, again.items)
    assert drawn.dense(everyone).sum() == 540
    assert (drawn.dense(everyone) * excluded.dense(everyone)).sum() == 0


def test_candidates_are_drawn_uniformly_and_are_fewer_where_not_enough_are_left():
    excluded = items_of(*[[0, 1]] * 3000, list(range(8)), n_items=10)
    drawn = sample_candidates(excluded, generator(1, "candidates"), n=4)
    assert drawn.counts[-1] == 2
    counts = drawn.popularity[2:8]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_sampled_ranking_is_among_the_candidates_and_the_positive_only():
    candidates = items_of([2, 4], n_items=6)
    found = rank_table(
        [[9.0, 8, 7, 6, 5, 4]],
        nothing(1, 6),
        items_of([3], n_items=6),
        ks=(3,),
        candidates=candidates,
    )
    assert found.lists.tolist() == [[2, 3, 4]]
    assert found.means()["mrr@3"] == 0.5


def test_sampled_hits_of_a_random_model_are_one_in_ten():
    rng = generator(5, "sampled test")
    positives = items_of(*[[user % 300] for user in range(2000)], n_items=300)
    candidates = sample_candidates(positives, rng)
    found = rank_table(
        rng.normal(size=(2000, 300)), nothing(2000, 300), positives, candidates=candidates
    )
    assert abs(found.means()["hit@10"] - 0.1) < 4 * math.sqrt(0.09 / 2000)


def test_the_paired_test_agrees_with_scipy():
    rng = generator(0, "paired test")
    a, b = torch.from_numpy(rng.normal(size=(2, 50)))
    found = paired_test(a + 0.3, b)
    expected = stats.ttest_rel((a + 0.3).numpy(), b.numpy())
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.difference / found.standard_error == pytest.approx(expected.statistic)
    assert found.n == 50


def test_the_paired_test_of_equal_values_is_certain_of_nothing():
    a = torch.tensor([0.5, 0.25, 0.0])
    assert (paired_test(a, a).p_value, paired_test(a, a).difference) == (1.0, 0.0)
    assert math.isnan(paired_test(a[:1], a[:1]).p_value)
    with pytest.raises(SpecError, match="cannot be paired"):
        paired_test(a, a[:2])


def test_rankings_are_compared_over_the_same_users_only(random_case):
    scores, seen, positives = random_case
    ours, theirs = rank_table(scores, seen, positives), rank_table(-scores, seen, positives)
    found = ours.compare(theirs, "ndcg@10")
    expected = ours.means()["ndcg@10"] - theirs.means()["ndcg@10"]
    assert found.difference == pytest.approx(expected)
    with pytest.raises(SpecError, match="same users"):
        ours.compare(rank_table([[1.0, 0]], nothing(1, 2), items_of([0], n_items=2)), "ndcg@10")
    with pytest.raises(SpecError, match=r"metric 'coverage@10' must be one of ndcg@10"):
        ours.standard_error("coverage@10")
