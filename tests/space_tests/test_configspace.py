"""ConfigSpace in and out: foreign spaces are read, what cannot be represented is refused."""

from __future__ import annotations

from typing import Any

import ConfigSpace as cs
import numpy as np
import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace


def foreign() -> cs.ConfigurationSpace:
    """A space as another tool would make it, with every construct that has a counterpart."""
    space = cs.ConfigurationSpace(seed=0)
    lr = cs.UniformFloatHyperparameter("lr", 1e-4, 0.1, log=True)
    opt = cs.CategoricalHyperparameter("opt", ["sgd", "adam", "lion"], weights=[2, 1, 1])
    layers = cs.UniformIntegerHyperparameter("model/layers", 1, 5, default_value=4)
    width = cs.UniformIntegerHyperparameter("model/width", 8, 512, log=True)
    size = cs.OrdinalHyperparameter("size", ["s", "m", "l"])
    noise = cs.NormalFloatHyperparameter("noise", 0.0, 1.0, -2.0, 3.0)
    momentum = cs.UniformFloatHyperparameter("momentum", 0.0, 0.9)
    mixed = cs.UniformFloatHyperparameter("mixed", 0.0, 1.0)
    drop = cs.UniformFloatHyperparameter("drop", 0.0, 0.5)
    space.add([lr, opt, layers, width, size, noise, momentum, mixed, drop, cs.Constant("n", 7)])
    space.add(
        [
            cs.EqualsCondition(momentum, opt, "sgd"),
            cs.OrConjunction(
                cs.AndConjunction(
                    cs.GreaterThanCondition(mixed, layers, 2),
                    cs.LessThanCondition(mixed, lr, 0.01),
                ),
                cs.InCondition(mixed, size, ["m", "l"]),
            ),
            cs.NotEqualsCondition(drop, opt, "lion"),
        ]
    )
    space.add(
        [
            cs.ForbiddenAndConjunction(
                cs.ForbiddenEqualsClause(opt, "adam"), cs.ForbiddenInClause(size, ["s", "m"])
            ),
            cs.ForbiddenGreaterThanEqualsClause(noise, 2.5),
        ]
    )
    return space


def test_a_foreign_space_keeps_names_conditions_and_forbidden_combinations() -> None:
    source = foreign()
    space = SearchSpace.from_configspace(source)
    assert set(space.names) == set(source) - {"n"}
    written = space.to_dict()
    assert written["model"]["layers"]["default"] == 4
    assert "default" not in written["lr"]
    assert written["mixed"]["when"] == [
        {"model/layers": {">": 2}, "lr": {"<": 0.01}},
        {"size": ["m", "l"]},
    ]
    assert written["drop"]["when"] == {"opt": {"!=": "lion"}}
    assert written["forbidden"] == [{"opt": "adam", "size": ["s", "m"]}, {"noise": {">=": 2.5}}]


def test_what_the_foreign_space_samples_is_legal_here_and_the_other_way_round() -> None:
    source = foreign()
    space = SearchSpace.from_configspace(source)
    for configuration in source.sample_configuration(300):
        nested: dict[str, Any] = {"model": {}}
        for name, value in dict(configuration).items():
            group, _, key = name.rpartition("/")
            (nested["model"] if group else nested)[key] = value
        space.validate(nested)
    generator = np.random.default_rng(0)
    for _ in range(300):
        flat = space.configspace_values(space.sample(generator))
        cs.Configuration(source, values=flat).check_valid_configuration()


def test_the_distribution_agrees_with_configspaces_where_both_have_it() -> None:
    source = foreign()
    space = SearchSpace.from_configspace(source)
    generator = np.random.default_rng(0)
    ours = [space.sample(generator) for _ in range(4000)]
    theirs = source.sample_configuration(4000)
    for value in ("sgd", "adam", "lion"):
        a = np.mean([c["opt"] == value for c in ours])
        b = np.mean([c["opt"] == value for c in theirs])
        assert abs(a - b) < 0.05
    a = np.mean([c["noise"] for c in ours])
    assert abs(a - np.mean([c["noise"] for c in theirs])) < 0.1


UNREPRESENTABLE: dict[str, tuple[Any, str]] = {
    "beta": (
        cs.BetaFloatHyperparameter("x", alpha=2, beta=3, lower=0, upper=1),
        "parameter 'x': a BetaFloatHyperparameter cannot be represented",
    ),
    "normal integer": (
        cs.NormalIntegerHyperparameter("x", mu=3, sigma=2, lower=0, upper=9),
        "parameter 'x': a NormalIntegerHyperparameter cannot be represented",
    ),
    "log normal": (
        cs.NormalFloatHyperparameter("x", mu=3, sigma=2, lower=1, upper=9, log=True),
        "NormalFloatHyperparameter on a logarithmic scale cannot be represented",
    ),
}


@pytest.mark.parametrize("case", UNREPRESENTABLE)
def test_unrepresentable_hyperparameters_are_refused_by_name(case: str) -> None:
    hyperparameter, message = UNREPRESENTABLE[case]
    space = cs.ConfigurationSpace()
    space.add(hyperparameter)
    with pytest.raises(SpaceError, match=message):
        SearchSpace.from_configspace(space)


def test_relations_between_parameters_are_refused() -> None:
    space = cs.ConfigurationSpace({"a": (0, 5), "b": (1, 6)})
    space.add(cs.ForbiddenGreaterThanRelation(space["a"], space["b"]))
    with pytest.raises(SpaceError, match="compares two parameters"):
        SearchSpace.from_configspace(space)


def test_clashing_names_are_refused() -> None:
    space = cs.ConfigurationSpace({"a": (0, 5), "a/b": (1, 6)})
    with pytest.raises(SpaceError, match="names of the ConfigurationSpace clash"):
        SearchSpace.from_configspace(space)


def test_an_exported_space_that_was_changed_is_refused() -> None:
    space = SearchSpace.from_dict({"x": {"domain": "choice", "values": ["a", None]}})
    exported = space.configspace
    exported.add(cs.UniformFloatHyperparameter("y", 0, 1))
    with pytest.raises(SpaceError, match="exported from a SearchSpace and changed afterwards"):
        SearchSpace.from_configspace(exported)


def test_something_else_is_refused() -> None:
    with pytest.raises(SpaceError, match="expected a ConfigurationSpace, not dict"):
        SearchSpace.from_configspace({})


def test_tiny_bounds_that_configspace_would_round_to_zero_can_be_exported() -> None:
    space = SearchSpace.from_dict(
        {"x": {"domain": "loguniform", "lower": 1e-16, "upper": 1e-14},
         "y": {"domain": "choice", "values": [1, 2], "when": {"x": {"<": 1e-15}}}}
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for _ in range(50):
        flat = space.configspace_values(space.sample(generator))
        cs.Configuration(space.configspace, values=flat)


def test_configspace_keeps_readable_values_where_it_can() -> None:
    space = SearchSpace.from_dict(
        {
            "opt": {"domain": "choice", "values": ["sgd", "adam"]},
            "batch": {"domain": "ordinal", "values": [16, 32]},
            "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1},
            "mixed": {"domain": "choice", "values": [True, 1]},
        }
    )
    values = space.configspace_values({"opt": "adam", "batch": 32, "lr": 0.01, "mixed": 1})
    assert values == {"opt": "adam", "batch": 32, "lr": 0.01, "mixed": 1}
    assert (
        space.configspace_values({"opt": "sgd", "batch": 16, "lr": 0.1, "mixed": True})["mixed"]
        == 0
    )
