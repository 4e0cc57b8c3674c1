"""A trial's own seed changes its randomness and no data; `fit_on` changes the data and no seed."""

from __future__ import annotations

import math

import pytest
import torch

from raytune_ahu.errors import CheckpointError, SpaceError, SpecError
from trainables import MnistTrainable, RecommenderTrainable

MLP = {"model": "mlp", "layers": 1, "width": 8, "dropout": 0.3}
ALL = "train+validation"


@pytest.fixture
def digits(data_dir):
    def make(configuration=None, **changes):
        settings = MnistTrainable.default_settings(
            "digits", data_dir, max_epochs=2, train_images=100
        )
        return MnistTrainable({**MLP, **(configuration or {}), "settings": {**settings, **changes}})

    return make


@pytest.fixture
def shop(purchases):
    def make(configuration=None, **changes):
        settings = RecommenderTrainable.default_settings(
            f"file:{purchases}", max_epochs=20, patience=1, **changes
        )
        chosen = {"model": "mf", "dim": 8, "batch_size": 64, **(configuration or {})}
        return RecommenderTrainable({**chosen, "settings": settings})

    return make


def weights(trainable):
    return torch.cat([t.flatten().float() for t in trainable._training.model.state_dict().values()])


def rows(subset):
    return set(subset.indices.tolist())


@pytest.mark.parametrize("kind", ["digits", "shop"])
def test_a_trial_seed_changes_the_initialisation_and_itself_only(kind, request):
    make = request.getfixturevalue(kind)
    plain, first, again, other = (
        make(), make({"trial_seed": 7}), make({"trial_seed": 7}), make({"trial_seed": 8})
    )  # fmt: skip
    assert torch.equal(weights(first), weights(again))
    for one in (plain, other):
        assert not torch.equal(weights(first), weights(one))
    # Order, augmentation and dropout as well: from the same weights, other weights.
    other._training.model.load_state_dict(first._training.model.state_dict())
    losses = [one.step()["train_loss"] for one in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_the_trial_seed_that_equals_the_root_seed_is_the_root_seed(digits):
    assert torch.equal(weights(digits({"trial_seed": 0})), weights(digits()))


def test_data_and_split_follow_the_root_seed_alone(digits):
    plain, seeded, moved = digits(), digits({"trial_seed": 7}), digits(seed=7)
    assert rows(plain.training.validation) == rows(seeded.training.validation)
    assert rows(plain.training.train) == rows(seeded.training.train)
    assert rows(plain.training.validation) != rows(moved.training.validation)
    draw = [one.generator("data/noise").initial_seed() for one in (plain, seeded, moved)]
    assert draw[0] == draw[1] != draw[2]
    draw = [one.generator("shuffle").initial_seed() for one in (plain, seeded)]
    assert draw[0] != draw[1]


def test_a_checkpoint_belongs_to_its_seed(digits, tmp_path):
    first = digits({"trial_seed": 7})
    first.step()
    first.save_checkpoint(str(tmp_path))
    again = digits({"trial_seed": 7})
    again.load_checkpoint(str(tmp_path))
    assert again.step()["train_loss"] == first.step()["train_loss"]
    with pytest.raises(CheckpointError, match="trial_seed"):
        digits({"trial_seed": 8}).load_checkpoint(str(tmp_path))


def test_the_seed_is_no_hyperparameter(digits):
    MnistTrainable.check_configuration({**MLP, "trial_seed": 3})
    with pytest.raises(SpaceError, match="trial_seeds"):
        MnistTrainable.check_configuration({**MLP, "trial_seeds": 3})


def test_images_are_trained_on_all_rows_with_a_schedule_that_fits(digits):
    search, final = digits(), digits(fit_on=ALL)
    before = rows(search.training.train) | rows(search.training.validation)
    assert rows(final.training.train) == before
    results = [final.step() for _ in range(2)]
    assert not [name for name in results[0] if "validation" in name]
    assert math.isfinite(results[1]["train_loss"])
    assert results[1]["learning_rate"] == pytest.approx(0.0, abs=1e-12)  # cosine: to the very end
    assert set(final.evaluate_test()) == {"test_accuracy", "test_loss"}


def test_a_final_training_that_diverges_says_so(digits):
    final = digits(
        {"width": 32, "optimizer": "sgd", "lr": 99.0, "l2": 10.0}, fit_on=ALL, max_epochs=4
    )
    results = [final.step() for _ in range(4)]
    assert not math.isfinite(results[-1]["train_loss"])
    assert results[-1]["failure"].startswith("diverged: the training loss became")


def test_a_recommender_is_trained_on_all_before_the_test_and_does_not_end_itself(shop):
    search, final = shop(), shop(fit_on=ALL)
    n = len(search._data.train) + len(search._data.validation)
    assert (len(final._data.train), len(final._data.validation)) == (n, 0)
    for _ in range(4):
        result = final.step()
        assert "done" not in result or not result["done"]
        assert not [name for name in result if "validation" in name]
    newest = weights(final)
    measured = final.evaluate_test()
    assert torch.equal(weights(final), newest)
    assert measured["test_ndcg@10"] == final.rank_test().means()["ndcg@10"]


def test_an_unknown_kind_of_fitting_is_refused(digits, shop):
    for make in (digits, shop):
        with pytest.raises(
            SpecError, match=r"fit_on='all' must be one of train, train\+validation"
        ):
            make(fit_on="all")
