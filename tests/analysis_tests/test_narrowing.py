"""A better search space, proposed from what was seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from raytune_ahu.analysis.narrowing import suggest_space
from raytune_ahu.errors import SpecError
from raytune_ahu.results import load
from raytune_ahu.space import SearchSpace
from tests.analysis_tests.runs import made
from tests.recorded_runs import record_run

SPACE = {
    "x": {"domain": "uniform", "lower": 0.0, "upper": 10.0},
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
    "n": {"domain": "randint", "lower": 1, "upper": 8},
    "kind": {"domain": "choice", "values": ["a", "b", "c"]},
    "of_c": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "when": {"kind": "c"}},
}


def run(loss, n=120, seed=0, space=SPACE):
    built = SearchSpace.from_dict(space)
    rng = np.random.default_rng(seed)
    configurations = [built.sample(rng) for _ in range(n)]
    results = made([[loss(c)] for c in configurations], levels=(1,), configurations=configurations)
    return dataclasses.replace(results, space=built)


def changes(results):
    suggested = suggest_space(results)
    return suggested.space, suggested.changes.set_index("parameter")


def domain(space, name):
    return next(p.domain for p in space.declaration.parameters if p.name == name)


def test_a_range_is_narrowed_to_where_the_good_trials_are():
    space, table = changes(run(lambda c: abs(c["x"] - 5.0)))
    low, high = domain(space, "x").lower, domain(space, "x").upper
    assert 1.0 < low < 4.5
    assert 5.5 < high < 9.0
    assert "all of the best" in table.loc["x", "why"]
    for name in ("lr", "n", "kind"):
        assert table.loc[name, "was"] == table.loc[name, "becomes"], name


def test_a_range_is_widened_where_the_good_trials_crowd_at_its_bound():
    space, table = changes(run(lambda c: -np.log(c["lr"])))
    assert domain(space, "lr").upper == pytest.approx(10.0)
    assert "near the upper bound" in table.loc["lr", "why"]


def test_a_bound_at_zero_is_not_passed_nor_an_integer_of_one():
    space, _ = changes(run(lambda c: c["x"] + 0.1 * c["n"]))
    assert domain(space, "x").lower >= 0.0
    assert domain(space, "n").lower >= 1


def test_a_share_is_widened_half_of_the_way_to_one():
    share = {"p": {"domain": "uniform", "lower": 0.0, "upper": 0.8}}
    space, _ = changes(run(lambda c: -c["p"], space=share))
    assert domain(space, "p").upper == pytest.approx(0.9)
    near = {"p": {"domain": "uniform", "lower": 0.9, "upper": 0.9999}}
    space, _ = changes(run(lambda c: -c["p"], space=near))
    assert 0.9999 < domain(space, "p").upper < 1.0


def test_a_value_that_was_never_good_is_dropped_with_what_hangs_on_it():
    space, table = changes(run(lambda c: (c["kind"] == "c") * 100 + c["x"]))
    assert domain(space, "kind").all_values() == ["a", "b"]
    assert "of_c" not in space.names
    assert table.loc["of_c", "becomes"] == "(dropped)"
    assert "'c'" in table.loc["kind", "why"]


def test_noise_changes_almost_nothing():
    changed = 0
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        _, table = changes(run(lambda c, rng=rng: rng.normal(), seed=seed))
        changed += int((table["was"] != table["becomes"]).sum())
    assert changed <= 10  # of 100 parameters, each tested at 5 %


def test_what_does_not_matter_is_left_alone_though_a_model_draws_it_in_a_heap(tmp_path):
    changed = {"noise": 0, "lr": 0}
    for seed in range(6):
        results = load(record_run(tmp_path / str(seed), num_samples=100, seed=seed))
        _, table = changes(results)
        for name in changed:
            changed[name] += table.loc[name, "was"] != table.loc[name, "becomes"]
    assert changed["noise"] == 0
    assert changed["lr"] >= 4


def test_the_best_trial_lies_in_the_suggested_space():
    for seed in range(10):
        results = run(
            lambda c: (c["x"] - 7) ** 2 + abs(np.log10(c["lr"]) + 2) + (c["kind"] != "b"), seed=seed
        )
        space, _ = changes(results)
        best = results.best_config
        kept = {p.name for p in space.declaration.parameters}
        assert space.contains({k: v for k, v in best.items() if k in kept})


def test_the_suggestion_can_be_written_and_read(tmp_path):
    space, _ = changes(run(lambda c: abs(c["x"] - 5.0)))
    space.to_file(tmp_path / "next.yaml")
    assert SearchSpace.from_file(tmp_path / "next.yaml") == space


def test_too_few_trials_and_unknown_spaces_are_refused():
    with pytest.raises(SpecError, match="has 19 trials with a value"):
        suggest_space(run(lambda c: c["x"], n=19))
    with pytest.raises(SpecError, match="is not known"):
        suggest_space(made([[1.0]] * 30, levels=(1,)))
