"""`RecommenderTrainable`: what it measures, when it ends itself, whose weights are tested."""

from __future__ import annotations

import math

import pytest
import torch

from raytune_ahu.errors import CheckpointError, DataError, SpaceError, SpecError
from trainables import RecommenderTrainable
from trainables.metrics import rank
from trainables.models.recommenders import MODELS
from trainables.recommender import evaluate, load_data


@pytest.fixture
def make(purchases):
    def build(configuration=None, **settings):
        chosen = RecommenderTrainable.default_settings(
            f"file:{purchases}", max_epochs=settings.pop("max_epochs", 20), **settings
        )
        configuration = configuration or {"model": "mf", "dim": 8, "batch_size": 64}
        return RecommenderTrainable({**configuration, "settings": chosen})

    return build


def test_the_metrics_are_those_of_ranking_all_unseen_items(make):
    trainable = make(k="3,5")
    result = trainable.step()
    data = load_data(trainable._given, torch.device("cpu"))
    expected = rank(
        trainable.model.scores,
        history=data.train,
        seen=data.train,
        positives=data.validation,
        ks=(3, 5),
    )
    for name, value in expected.means().items():
        assert result[f"validation_{name}"] == pytest.approx(value), name
    assert result["validation_standard_error"] == pytest.approx(expected.standard_error("ndcg@3"))


def test_the_first_k_is_the_one_that_is_tuned(make):
    settings = RecommenderTrainable.default_settings("synthetic", k="7,3")
    assert RecommenderTrainable.metric_of(settings) == "validation_ndcg@7"
    assert "validation_ndcg@7" in make(k="7,3").step()


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_learns_which_half_a_user_likes(make, model):
    trainable = make({"model": model, "dim": 16, "width": 32, "batch_size": 64, "lr": 0.01})
    for _ in range(15):
        result = trainable.step()
    # Each has one item to be found, of 49 unseen ones at least: chance gives at most 4.54 / 49 =
    # 0.093; who knows the half chooses among 25 at most, which gives 0.18 or more.
    assert result["validation_ndcg@10"] > 0.14
    assert result["train_loss"] > 0


def test_a_trial_that_gets_no_better_ends_itself(make):
    trainable = make({"model": "mf", "dim": 8, "lr": 1e-7, "batch_size": 512}, patience=2)
    results = []
    while not results or not results[-1].get("done"):
        results.append(trainable.step())
        assert len(results) < 20
    assert len(results) == trainable.best_epoch + 2
    values = [result["validation_ndcg@10"] for result in results]
    assert trainable.best_value == max(values)
    assert values[trainable.best_epoch - 1] == max(values)


def test_the_test_uses_the_weights_of_the_best_epoch(make, tmp_path):
    trainable = make({"model": "mf", "dim": 8, "lr": 0.05, "batch_size": 32})
    at_best, best = None, -math.inf
    for _ in range(8):
        value = trainable.step()["validation_ndcg@10"]
        if value > best:
            best = value
            scores = trainable.model.eval().scores(torch.arange(5), trainable._data.train)
            at_best = scores.detach().clone()
    trainable.save_checkpoint(str(tmp_path))
    restored = make({"model": "mf", "dim": 8, "lr": 0.05, "batch_size": 32})
    restored.load_checkpoint(str(tmp_path))
    ranking = restored.rank_test()
    assert restored.best_value == best
    with torch.no_grad():
        again = restored.model.scores(torch.arange(5), restored._data.train)
    assert torch.equal(again, at_best)
    assert len(ranking.users) == 80


def test_patience_survives_a_restore(make, tmp_path):
    configuration = {"model": "mf", "dim": 8, "lr": 1e-7, "batch_size": 512}
    whole = make(configuration, patience=4)
    expected = [bool(whole.step().get("done")) for _ in range(8)]
    first = make(configuration, patience=4)
    for _ in range(3):
        first.step()
    first.save_checkpoint(str(tmp_path))
    second = make(configuration, patience=4)
    second.load_checkpoint(str(tmp_path))
    assert [bool(second.step().get("done")) for _ in range(5)] == expected[3:]


def test_without_a_finite_epoch_there_is_nothing_to_test(make):
    trainable = make({"model": "mf", "lr": 99.0, "weight_decay": 9.0, "batch_size": 16})
    trainable.step()
    with pytest.raises(CheckpointError, match="no epoch with a finite metric"):
        trainable.rank_test()


def test_models_are_told_of_validation_items_in_the_test_only_if_asked(make):
    seen_history = []

    def scores(users, history):
        seen_history.append(len(history))
        return torch.zeros(len(users), history.n_items)

    for told in ("training", "all"):
        given = make(test_history=told)._given
        data = load_data(given, torch.device("cpu"))
        for part in ("validation", "test"):
            evaluate(scores, given, data, part)
        train, validation = len(data.train), len(data.validation)
    assert seen_history == [train, train, train, train + validation]


def test_what_is_known_is_not_recommended_in_the_test(make):
    given = make()._given
    data = load_data(given, torch.device("cpu"))
    known = data.train.followed_by(data.validation)
    ranking = evaluate(lambda users, _: known.dense(users), given, data, "test")
    for user, items in zip(ranking.users.tolist(), ranking.lists, strict=True):
        own = known.items[known.starts[user] : known.starts[user + 1]]
        assert not set(items.tolist()) & set(own.tolist())


def test_sampled_candidates_are_the_same_in_every_epoch_and_trial(make):
    settings = {"ranking": "sampled", "split": "leave-one-out"}
    trainable = make(**settings)
    given, data = trainable._given, trainable._data
    fixed = torch.arange(data.n_items).float()
    values = [
        evaluate(lambda users, _: fixed.expand(len(users), -1), given, data, "validation").means()
        for _ in range(2)
    ]
    assert values[0] == values[1]
    full = make(split="leave-one-out")._given
    against_all = evaluate(lambda users, _: fixed.expand(len(users), -1), full, data, "validation")
    assert against_all.means()["hit@10"] <= values[0]["hit@10"]


def test_validation_can_be_limited_to_some_users_drawn_once(make):
    few, again = make(validation_users=15), make(validation_users=15)
    assert len(few.rank_validation().users) == 15
    assert few.rank_validation().users.tolist() == again.rank_validation().users.tolist()
    few.step()
    assert len(few.rank_test().users) == 80


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": "10,ten"}, "k='10,ten' must be different whole numbers"),
        ({"k": "0"}, r"in \[1, 1000\]"),
        ({"split": "weekly"}, "split='weekly' must be one of user-time, leave-one-out"),
        ({"patience": 0}, r"patience=0 must be a whole number in \[1"),
        ({"validation_fraction": 0.5, "test_fraction": 0.6}, "leave nothing to train on"),
        ({"min_user_interactions": 2}, "min_user_interactions=2"),
    ],
)
def test_settings_out_of_range_are_refused(changes, said):
    with pytest.raises(SpecError, match=said):
        RecommenderTrainable.default_settings("synthetic", **changes)


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"model": "svd"}, "model='svd' must be one of mf, gmf"),
        ({"modle": "mf"}, "did you mean 'model'"),
        ({"model": "neumf", "loss": "full-softmax"}, "not possible with model='neumf'"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused(configuration, said):
    with pytest.raises(SpaceError, match=said):
        RecommenderTrainable.check_configuration(configuration)


def test_an_unknown_data_set_is_refused(tmp_path):
    settings = RecommenderTrainable.default_settings("ml-20m", tmp_path)
    with pytest.raises(DataError, match="ml-20m"):
        RecommenderTrainable.prepare(settings)
