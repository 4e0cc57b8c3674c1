"""Searchers by name."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpaceError, SpecError
from raytune_ahu.search import SEARCHERS, build_searcher
from raytune_ahu.space import SearchSpace

SPACE = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})


def build(name, **arguments):
    arguments = {"mode": "min", "seed": 0, "rung_levels": (1, 3), **arguments}
    return build_searcher(name, SPACE, **arguments)


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_name_builds_its_searcher_with_points_first(name):
    searcher = build(name, points_to_evaluate=[{"x": 0.5}])
    assert type(searcher) is SEARCHERS[name]
    assert searcher.name == name
    assert searcher.suggest("a").configuration == {"x": 0.5}
    assert searcher.suggest("b").origin in {"random", "grid"}


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_option_name_is_a_keyword_of_the_constructor(name):
    for option in SEARCHERS[name].option_names:
        assert option in SEARCHERS[name].__init__.__annotations__


def test_options_reach_the_searcher():
    searcher = build("bohb", options={"random_fraction": 0.0, "min_points_in_model": 5})
    for i in range(8):
        assert searcher.suggest(str(i)).origin == "random"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(SpecError, match="search='tpe' must be one of bohb, grid, random"):
        build("tpe")


@pytest.mark.parametrize(
    ("name", "option", "allowed"),
    [
        ("random", "shuffle", "none"),
        ("grid", "engine", "shuffle"),
        ("bohb", "seed", "top_fraction"),
    ],
)
def test_an_unknown_option_is_refused_with_the_known_ones(name, option, allowed):
    with pytest.raises(SpecError, match=f"'{option}' is unknown to search='{name}'.*{allowed}"):
        build(name, options={option: 1})


def test_an_option_out_of_range_is_refused_by_name():
    with pytest.raises(SpecError, match="n_candidates=0 must be a whole number of at least 1"):
        build("bohb", options={"n_candidates": 0})


def test_an_illegal_point_is_refused_with_its_number():
    with pytest.raises(SpaceError, match=r"points_to_evaluate\[1\]"):
        build("random", points_to_evaluate=[{"x": 0.5}, {"x": 5.0}])
