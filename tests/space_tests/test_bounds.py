"""Other bounds for one parameter."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0, "default": 0.5},
        "width": {"domain": "qrandint", "lower": 16, "upper": 64, "q": 16},
        "kind": {"domain": "choice", "values": ["a", "b"]},
        "drop": {"domain": "uniform", "lower": 0.0, "upper": 0.5, "when": {"kind": "a"}},
        "z": {"domain": "randn", "mean": 0.0, "sd": 1.0, "lower": -3.0, "upper": 3.0},
        "forbidden": [{"kind": "b", "width": 64}],
    }
)


def entry(space, name):
    return space.to_dict()[name]


def test_bounds_move_and_everything_else_stays():
    moved = SPACE.with_bounds("drop", 0.1, 0.9)
    assert entry(moved, "drop") == {
        "domain": "uniform",
        "lower": 0.1,
        "upper": 0.9,
        "when": {"kind": "a"},
    }
    others = {name for name in SPACE.to_dict() if name != "drop"}
    assert all(moved.to_dict()[name] == SPACE.to_dict()[name] for name in others)


def test_a_default_outside_the_bounds_is_dropped_and_one_inside_kept():
    assert "default" not in entry(SPACE.with_bounds("lr", 1e-4, 0.1), "lr")
    assert entry(SPACE.with_bounds("lr", 1e-2, 10.0), "lr")["default"] == 0.5


@pytest.mark.parametrize(
    ("name", "lower", "upper", "told"),
    [
        ("speed", 0, 1, "not in the search space"),
        ("kind", 0, 1, "cannot be moved"),
        ("z", 0, 1, "cannot be moved"),
        ("lr", 0.0, 1.0, "parameter 'lr': lower=0.0 must be above 0"),
        ("width", 64, 64, "parameter 'width'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, lower, upper, told):
    with pytest.raises(SpaceError, match=told):
        SPACE.with_bounds(name, lower, upper)
