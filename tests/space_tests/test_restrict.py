"""Smaller spaces: what is kept, what falls away with a value, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ahu import SearchSpace
from raytune_ahu.errors import SpaceError

SPACE = {
    "model": {"domain": "choice", "values": ["mf", "mlp", "vae"], "weights": [1, 2, 3]},
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1},
    "loss": {"domain": "choice", "values": ["bpr", "bce"], "when": {"model": ["mf", "mlp"]}},
    "negatives": {"domain": "randint", "lower": 1, "upper": 8, "when": {"loss": "bpr"}},
    "width": {"domain": "randint", "lower": 8, "upper": 64, "when": {"model": {"!=": "mf"}}},
    "kl": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "when": {"model": "vae"}},
    "forbidden": [{"model": "mf", "loss": "bce"}, {"model": "mlp", "width": 8}],
}


@pytest.fixture
def space():
    return SearchSpace.from_dict(SPACE)


def test_parameters_that_hang_on_dropped_values_fall_away(space):
    assert space.restrict("model", ["mf", "mlp"]).names == (
        "model", "lr", "loss", "negatives", "width"
    )  # fmt: skip
    assert space.restrict("model", ["vae"]).names == ("lr", "width", "kl")


def test_a_parameter_below_a_dropped_one_falls_away_too(space):
    assert "negatives" not in space.restrict("model", ["vae"]).names


def test_weights_follow_their_values(space):
    smaller = space.restrict("model", ["vae", "mf"]).to_dict()
    assert smaller["model"] == {"domain": "choice", "values": ["mf", "vae"], "weights": [1, 3]}


def test_forbidden_combinations_stay_where_they_can_come_about(space):
    smaller = space.restrict("model", ["mlp", "vae"]).to_dict()
    assert smaller["forbidden"] == [{"model": "mlp", "width": 8}]


@pytest.mark.parametrize("models", [["mf"], ["mlp", "vae"], ["vae", "mf"], ["mf", "mlp", "vae"]])
def test_its_configurations_are_those_of_the_larger_space_with_these_values(space, models):
    smaller = space.restrict("model", models)
    assert SearchSpace.from_dict(smaller.to_dict()) == smaller
    rng = np.random.default_rng(0)
    samples = [smaller.sample(rng) for _ in range(200)]
    assert {sample["model"] for sample in samples} == set(models)
    for sample in samples:
        space.validate(sample)


def test_keeping_all_values_changes_no_configuration(space):
    same = space.restrict("model", ["mf", "mlp", "vae"])
    mine, other = np.random.default_rng(3), np.random.default_rng(3)
    assert [same.sample(mine) for _ in range(50)] == [space.sample(other) for _ in range(50)]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("model", ["mf", "nmf"], "model='nmf' is not in the search space, which has 'mf', 'mlp'"),
        ("model", [], "at least one value of model must be kept"),
        ("lr", [0.1], "'lr' lists no values"),
        ("modle", ["mf"], "parameter 'modle' is not in the search space; it has model, lr"),
    ],
)
def test_what_cannot_be_kept_is_refused(space, name, values, said):
    with pytest.raises(SpaceError, match=said):
        space.restrict(name, values)
