"""Grid search: everything once, then nothing."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpaceError, SpecError
from raytune_ahu.search import GridSearcher
from raytune_ahu.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "g": {"domain": "grid_search", "values": ["a", "b"]},
        "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1e-2},
        "n": {"domain": "randint", "lower": 1, "upper": 2},
        "fixed": 7,
    }
)


def make(**options):
    return GridSearcher(SPACE, **{"mode": "min", "seed": 0, **options})


def all_of(searcher):
    found = []
    while (suggestion := searcher.suggest(str(len(found)))) is not None:
        found.append(suggestion)
    return found


def test_every_point_comes_once_in_the_order_of_the_space_and_then_none():
    searcher = make()
    found = all_of(searcher)
    assert [s.configuration for s in found] == list(SPACE.grid(3))
    assert len(found) == 2 * 3 * 2
    assert {s.origin for s in found} == {"grid"}
    assert searcher.suggest("another") is None


def test_points_per_parameter_sets_the_values_of_a_range():
    assert len(all_of(make(points_per_parameter=5))) == 2 * 5 * 2


def test_a_shuffled_grid_has_the_same_points_in_an_order_of_its_seed():
    plain, first, again, other = (
        [s.configuration for s in all_of(make(**options))]
        for options in (
            {},
            {"shuffle": True},
            {"shuffle": True},
            {"shuffle": True, "seed": 1},
        )
    )
    assert first == again != other
    assert first != plain
    assert sorted(map(str, first)) == sorted(map(str, plain)) == sorted(map(str, other))


def test_a_point_of_the_user_does_not_come_again_in_the_grid():
    point = list(SPACE.grid(3))[4]
    found = [s.configuration for s in all_of(make(points_to_evaluate=[point]))]
    assert found[0] == point
    assert len(found) == 12


def test_an_exhausted_grid_is_still_exhausted_after_a_restore():
    searcher = make(shuffle=True)
    all_of(searcher)
    restored = make(shuffle=True)
    restored.load_state_dict(searcher.state_dict())
    assert restored.suggest("another") is None


def test_a_partial_point_is_refused_where_a_grid_parameter_would_have_to_be_drawn():
    with pytest.raises(SpaceError, match="'lr' is missing"):
        make(points_to_evaluate=[{"g": "a", "n": 1, "fixed": 7}])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"points_per_parameter": 1}, "points_per_parameter=1"),
        ({"points_per_parameter": None}, "points_per_parameter=None"),
        ({"shuffle": "yes"}, "shuffle='yes'"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, named):
    with pytest.raises(SpecError, match=named):
        make(**options)
