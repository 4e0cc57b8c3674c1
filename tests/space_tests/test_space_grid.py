"""Grids over a space."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace


def test_a_grid_is_the_product_of_the_listed_values_the_last_varying_fastest() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "grid_search", "values": [1, "x"]},
            "b": {"domain": "ordinal", "values": [0.1, None]},
            "c": 5,
        }
    )
    assert list(space.grid()) == [
        {"a": 1, "b": 0.1, "c": 5},
        {"a": 1, "b": None, "c": 5},
        {"a": "x", "b": 0.1, "c": 5},
        {"a": "x", "b": None, "c": 5},
    ]
    assert space.n_grid_points() == 4


def test_inactive_parameters_multiply_nothing_and_forbidden_points_are_left_out() -> None:
    space = SearchSpace.from_dict(
        {
            "momentum": {"domain": "choice", "values": [0.5, 0.9], "when": {"opt": "sgd"}},
            "opt": {"domain": "choice", "values": ["sgd", "adam"]},
            "layers": {"domain": "choice", "values": [1, 2]},
            "forbidden": [{"opt": "adam", "layers": 2}],
        }
    )
    points = list(space.grid())
    assert len(points) == space.n_grid_points() == 5
    assert {"opt": "adam", "layers": 1} in points


def test_numeric_parameters_get_evenly_spread_points_with_both_ends() -> None:
    space = SearchSpace.from_dict(
        {
            "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
            "n": {"domain": "randint", "lower": 1, "upper": 3},
        }
    )
    points = list(space.grid(5))
    assert [p["lr"] for p in points[::3]] == [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    assert [p["n"] for p in points[:3]] == [1, 2, 3]
    assert space.n_grid_points(5) == 15
    assert [p["n"] for p in space.grid(2)][:2] == [1, 3]
    assert len(list(space.grid(1))) == 1


def test_few_points_on_a_logarithmic_grid_of_integers_come_once() -> None:
    space = SearchSpace.from_dict({"n": {"domain": "lograndint", "lower": 1, "upper": 1000}})
    values = [p["n"] for p in space.grid(900)]
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (1, 1000)
    assert [p["n"] for p in space.grid(1000)] == list(range(1, 1001))


def test_a_numeric_parameter_without_a_number_of_points_is_refused_at_once() -> None:
    space = SearchSpace.from_dict({"lr": {"domain": "uniform", "lower": 0, "upper": 1}})
    with pytest.raises(SpaceError, match="'lr' of domain uniform has no listed values for a grid"):
        space.grid()
    with pytest.raises(SpaceError, match="points_per_parameter=0 must be at least 1"):
        space.n_grid_points(0)
