"""What `search="auto"` chooses, and what it says."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.search import build_searcher, choose_search
from raytune_ahu.search.auto import count_configurations
from raytune_ahu.space import SearchSpace

X = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
AB = {"domain": "choice", "values": ["a", "b"]}
LAYERS = {"domain": "randint", "lower": 1, "upper": 5}
GRID = {"domain": "grid_search", "values": [1, 2]}
GP = {"model": "gp"}
SHUFFLED = {"shuffle": True}
FOR_NUMBERS = {"shuffle": True, "points_per_parameter": 5}


def choose(space, num_samples=40, max_epochs=9, **arguments):
    built = SearchSpace.from_dict(space)
    return choose_search(built, num_samples=num_samples, max_epochs=max_epochs, **arguments)


@pytest.mark.parametrize(
    ("space", "arguments", "search", "options", "told"),
    [
        ({"x": X, "a": AB}, {}, "bohb", GP, "2 parameters and 40 trials: it learns from every"),
        ({"x": X}, {"num_samples": 10}, "bohb", GP, "1 parameter and 10 trials"),
        ({"x": X}, {"num_samples": 9}, "bohb", GP, "and 9 trials: random draws until 8 results"),
        ({"x": X}, {"num_samples": 1}, "bohb", GP, "1 trial: random draws until"),
        ({"x": X}, {"num_samples": 6, "n_prior_trials": 3}, "bohb", GP, "with 3 earlier trials"),
        ({"x": {**X, "prior": 0.3}}, {"num_samples": 40}, "bohb", GP, "begins with your prior"),
        (
            {"x": {**X, "prior": 0.3}},
            {"num_samples": 6},
            "bohb",
            GP,
            "6 trials: random draws and your prior until 8 results are in",
        ),
        (
            {"x": {**X, "prior": 0.3}},
            {"n_prior_trials": 1},
            "bohb",
            GP,
            "prior and 1 earlier trial",
        ),
        ({"x": X}, {"num_samples": None}, "bohb", GP, "as many trials as the time allows"),
        ({"x": X}, {"max_epochs": 1}, "bohb", GP, "it learns from every trial"),
        ({"x": X, "g": GRID}, {}, "grid", {}, "'g': all its values, and 3 of each number"),
        ({"g": GRID}, {"num_samples": None}, "grid", {}, "grid_search parameter 'g'"),
        ({"a": AB, "b": AB}, {"num_samples": 4}, "grid", SHUFFLED, "4 configurations: each is tr"),
        ({"a": AB, "b": AB}, {"num_samples": 3}, "bohb", GP, "and 3 trials"),
        ({"a": AB, "b": AB}, {"num_samples": None}, "grid", SHUFFLED, "4 configurations"),
        ({"a": AB, "n": LAYERS}, {"num_samples": 10}, "grid", FOR_NUMBERS, "10 configurations"),
        ({"a": AB, "n": {**LAYERS, "upper": 50}}, {}, "bohb", GP, "2 parameters"),
        (
            {"a": AB, "n": {**LAYERS, "upper": 90}, "c": 7},
            {"num_samples": None},
            "bohb",
            GP,
            "2 para",
        ),
        ({"a": AB, "x": {**X, "when": {"a": "b"}}}, {}, "bohb", GP, "2 parameters"),
        ({"a": AB, "prior": {"a": "b"}}, {}, "grid", SHUFFLED, "2 config"),
        ({"a": AB}, {"n_prior_trials": 9}, "bohb", GP, "begins with 9 earlier trials"),
    ],
)
def test_the_choice_follows_space_and_budget(space, arguments, search, options, told):
    choice = choose(space, **arguments)
    assert (choice.search, choice.options) == (search, options)
    assert choice.reason.startswith(search)
    assert told in choice.reason


def test_a_grid_that_was_chosen_tries_every_configuration_once():
    space = SearchSpace.from_dict(
        {"a": AB, "n": {**LAYERS, "when": {"a": "b"}}, "forbidden": [{"a": "b", "n": 2}]}
    )
    choice = choose_search(space, num_samples=5, max_epochs=9)
    assert "5 configurations" in choice.reason
    searcher = build_searcher(
        choice.search, space, mode="min", seed=0, rung_levels=(1, 3), options=choice.options
    )
    found = [searcher.suggest(str(i)).configuration for i in range(5)]
    assert searcher.suggest("more") is None
    assert sorted(one.get("n", 0) for one in found) == [0, 1, 3, 4, 5]


def test_counting_is_bounded():
    wide = {f"p{i}": AB for i in range(60)}
    assert count_configurations(SearchSpace.from_dict(wide), 1000) is None
    clauses = {**wide, "forbidden": [{"p0": "a"}]}
    assert count_configurations(SearchSpace.from_dict(clauses), 1000) is None
    assert count_configurations(SearchSpace.from_dict({"c": 3}), 1) == 1
    assert count_configurations(SearchSpace.from_dict({"n": {**LAYERS, "upper": 10**9}}), 9) is None


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ({"random_fraction": 0.2}, {"model": "gp", "random_fraction": 0.2}, "with model gp"),
        (
            {"random_fraction": 1.0},
            {"model": "gp", "random_fraction": 1.0},
            "random draws only, as random_fraction=1 says",
        ),
        ({"model": "kde"}, {"model": "kde"}, "with model kde, for"),
        (
            {"top_fraction": 0.2},
            {"model": "kde", "top_fraction": 0.2},
            "with model kde, which has the option top_fraction, for",
        ),
        (
            {"engine": "hpbandster"},
            {"model": "kde", "engine": "hpbandster"},
            "with the engine hpbandster, for",
        ),
    ],
)
def test_options_of_the_user_reach_the_search_that_is_chosen(given, options, told):
    choice = choose({"x": X}, options=given)
    assert choice.options == options
    assert told in choice.reason
    assert choose({"g": GRID}, options={"shuffle": True}).options == {"shuffle": True}


@pytest.mark.parametrize(
    ("space", "num_samples", "option", "told"),
    [
        ({"g": GRID}, 40, "top_fraction", "search='grid', which auto chose .*'g'.*--search bohb"),
        ({"x": X}, 40, "shuffle", "search='bohb', which auto chose with model gp.*--search grid"),
        ({"x": X}, 40, "colour", "'colour' is unknown .*bohb: model, .*random_fraction.*; grid: "),
    ],
)
def test_an_option_that_does_not_fit_says_what_was_chosen(space, num_samples, option, told):
    with pytest.raises(SpecError, match=told) as caught:
        choose(space, num_samples, options={option: 1})
    assert "\n" not in str(caught.value)
