"""fANOVA against closed forms, brute force, Optuna; permutation against scikit-learn; the rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance

from raytune_ahu.analysis.effects import decompose
from raytune_ahu.analysis.forest import Forest
from raytune_ahu.analysis.importance import importance, marginal
from raytune_ahu.analysis.permutation import permutation_excess
from raytune_ahu.analysis.population import of_space
from raytune_ahu.analysis.targets import targets
from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results, load
from raytune_ahu.results.frames import config_columns, frame
from raytune_ahu.space import SearchSpace
from tests.recorded_runs import record_run

UNIT = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
BRANCH = {
    "kind": {"domain": "choice", "values": ["a", "b"]},
    "depth": {**UNIT, "when": {"kind": "a"}},
    "width": UNIT,
}


def unit_space(d):
    return SearchSpace.from_dict({f"x{i}": UNIT for i in range(d)})


def standardised(y):
    return (y - y.mean()) / y.std()


def results_of(configurations, values, *, space=None, levels=(1,), curves=None):
    """A run of finished trials; `curves` gives each trial's values from epoch 1, else one value."""
    curves = curves or [[value] for value in values]
    n = len(configurations)
    ids = [f"t{i}" for i in range(n)]
    failed = [not np.isfinite(curve[-1]) for curve in curves]
    nothing = {
        name: [None] * n
        for name in ("ended_s", "node", "fault", "error", "checkpoint", "checkpoint_resource")
    }
    trials = frame(
        "trials",
        {
            "trial": ids,
            "status": ["failed" if f else "completed" for f in failed],
            "origin": ["random"] * n,
            "model": [None] * n,
            "expected_improvement": [None] * n,
            "best_value": [np.nanmin([*c, np.inf]) for c in curves],
            "best_resource": [1] * n,
            "last_value": [c[-1] for c in curves],
            "resource": [len(c) for c in curves],
            **{k: [1] * n for k in ("rung", "rungs", "epochs_run", "failures")},
            **{k: [1.0] * n for k in ("training_s", "suggested_s", "cpus", "gpus")},
            **nothing,
            **config_columns(configurations),
        },
    )
    rows = [(t, r + 1, v) for t, c in zip(ids, curves, strict=True) for r, v in enumerate(c)]
    reports = pd.DataFrame(rows, columns=["trial", "resource", "value"])
    empty = pd.DataFrame()
    return Results(
        name="made",
        folder=None,
        metric="loss",
        mode="min",
        max_resource=max(levels, default=1),
        rung_levels=levels,
        reduction_factor=3,
        trials=trials,
        reports=reports,
        rungs=empty,
        intervals=empty,
        sessions=empty,
        space=space,
    )


def sampled(space, n, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(n)]


def by_name(found):
    return found.main.set_index("parameter")["importance"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    return load(record_run(folder, num_samples=100, search="random"))


# The decomposition ------------------------------------------------------------------------------


def test_marginals_equal_means_of_predictions_over_the_whole_grid():
    space = SearchSpace.from_dict(
        {
            "kind": {"domain": "choice", "values": ["a", "b", "c"]},
            "n": {"domain": "randint", "lower": 1, "upper": 5},
            "size": {"domain": "ordinal", "values": [1, 2, 4, 8]},
        }
    )
    rng = np.random.default_rng(0)
    x = space.encode_many(sampled(space, 60))
    y = standardised(x[:, 0] * x[:, 1] + (x[:, 2] > 0.5) + rng.normal(0, 0.1, 60))
    population = of_space(space)
    forest = Forest(population.dimensions, x, y, seed=1, n_trees=16)
    effects = decompose(forest, population, rng)

    axes = [dim.grid for dim in population.dimensions]
    f = forest.predict(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
    f = f.reshape([len(axis) for axis in axes])
    for j in range(3):
        others = tuple(k for k in range(3) if k != j)
        np.testing.assert_allclose(effects.curves[j], f.mean(axis=others), atol=1e-5)
        assert effects.main[j] == pytest.approx(f.mean(axis=others).var(), abs=1e-5)
    for (i, j), pair in effects.pairs.items():
        both = f.mean(axis=3 - i - j)
        alone = both.mean(axis=0).var() + both.mean(axis=1).var()
        assert pair == pytest.approx(both.var() - alone, abs=1e-5)
    assert effects.variance == pytest.approx(f.var(), rel=0.05)


def test_conditional_effects_equal_means_of_predictions_where_the_parameters_are_active():
    space = SearchSpace.from_dict(
        {
            "kind": {"domain": "choice", "values": ["a", "b", "c"]},
            "depth": {"domain": "randint", "lower": 1, "upper": 5, "when": {"kind": ["a", "b"]}},
            "width": {"domain": "randint", "lower": 0, "upper": 4, "when": {"depth": {">": 2}}},
            "forbidden": [{"kind": "b", "depth": 4}],
        }
    )
    rng = np.random.default_rng(3)
    configurations = sampled(space, 200)
    value = [
        2.0 * (c["kind"] == "a") + 0.5 * c.get("depth", 0) + c.get("width", 0)
        for c in configurations
    ]
    population = of_space(space)
    x = space.encode_many(configurations)
    y = standardised(np.array(value) + rng.normal(0, 0.1, 200))
    forest = Forest(population.dimensions, x, y, seed=1, n_trees=16)
    effects = decompose(forest, population, rng)

    # All configurations, each with its probability: inactive parameters take none of it.
    every = list(space.grid(10))
    f = forest.predict(space.encode_many(every))
    sizes = {dim.name: len(dim) for dim in population.dimensions}
    p = np.array([np.prod([1 / sizes[name] for name in c]) for c in every])
    p /= p.sum()
    table = pd.DataFrame(every).assign(f=f, p=p, fp=f * p)

    def spread(rows, names):
        sums = rows.groupby(names)[["p", "fp"]].sum()
        mean = sums["fp"] / sums["p"]
        weight = sums["p"] / sums["p"].sum()
        return (weight * (mean - (weight * mean).sum()) ** 2).sum()

    for j, name in enumerate(space.names):
        rows = table.dropna(subset=name)
        assert effects.main[j] == pytest.approx(spread(rows, [name]) * rows["p"].sum(), abs=1e-5)
    for (i, j), pair in effects.pairs.items():
        names = [space.names[i], space.names[j]]
        rows = table.dropna(subset=names)
        left = spread(rows, names) - sum(spread(rows, [name]) for name in names)
        assert pair == pytest.approx(max(left, 0.0) * rows["p"].sum(), abs=1e-5)


def test_an_additive_function_has_the_shares_of_its_terms_and_no_interactions():
    # Variances: 9/12, (4/12), 0 and 0.
    rng = np.random.default_rng(0)
    space = unit_space(4)
    x = rng.random((500, 4))
    found = importance(
        results_of(list(map(space.decode, x)), 3 * x[:, 0] + 2 * x[:, 1], space=space),
        n_bootstrap=0,
    )
    expected = {"x0": 9 / 13, "x1": 4 / 13, "x2": 0.0, "x3": 0.0}
    assert by_name(found).to_dict() == pytest.approx(expected, abs=0.04)
    assert found.pairs["importance"].max() < 0.02
    assert found.fit > 0.95


def test_a_pure_interaction_is_a_pair_and_not_two_main_effects():
    rng = np.random.default_rng(0)
    space = unit_space(2)
    x = rng.random((1000, 2))
    y = (x[:, 0] - 0.5) * (x[:, 1] - 0.5)
    found = importance(results_of(list(map(space.decode, x)), y, space=space), n_bootstrap=0)
    assert by_name(found).max() < 0.05
    assert found.pairs.loc[0, ["first", "second"]].tolist() == ["x0", "x1"]
    assert found.pairs.loc[0, "importance"] > 0.9


def test_the_effects_of_three_way_interactions_leave_a_rest():
    rng = np.random.default_rng(0)
    x = rng.random((1500, 3))
    y = standardised(np.prod(x, axis=1))  # E[x] = 1/2, E[x^2] = 1/3
    total = 1 / 27 - 1 / 64
    main, pair = (1 / 12) / 16 / total, (1 / 12) ** 2 / 4 / total
    population = of_space(unit_space(3))
    effects = decompose(Forest(population.dimensions, x, y, seed=0), population, rng)
    np.testing.assert_allclose(effects.main / effects.variance, main, atol=0.05)
    np.testing.assert_allclose(
        np.array(list(effects.pairs.values())) / effects.variance, pair, atol=0.03
    )


def test_it_agrees_with_optuna_on_the_same_trials():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(5)
    space = unit_space(4)
    x = rng.random((120, 4))
    configurations = [space.decode(row) for row in x]
    # Variances 9/12, 4/12, 1/12 and 0.
    y = 3 * x[:, 0] + 2 * x[:, 1] + x[:, 2] + rng.normal(0, 0.05, 120)
    domains = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in space.names}
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(params=c, distributions=domains, value=float(value))
        for c, value in zip(configurations, y, strict=True)
    )
    theirs = pd.Series(optuna.importance.FanovaImportanceEvaluator(seed=0).evaluate(study))
    ours = by_name(importance(results_of(configurations, y, space=space), n_bootstrap=0))
    assert ours.index.tolist() == theirs.sort_values(ascending=False).index.tolist()
    # Theirs averages the shares of single trees, which fit the noise of their own resamples, so
    # that their main effects are smaller by some hundredths. Both are within 0.1 of the truth.
    assert (ours - theirs[ours.index]).abs().max() < 0.1
    truth = pd.Series({"x0": 9 / 14, "x1": 4 / 14, "x2": 1 / 14, "x3": 0.0})
    assert (ours - truth[ours.index]).abs().max() < 0.1


# Permutation ------------------------------------------------------------------------------------


def test_permutation_agrees_with_scikit_learn_on_new_data():
    rng = np.random.default_rng(0)
    x, fresh = rng.random((300, 4)), rng.random((300, 4))

    def f(z):
        return standardised(2 * z[:, 0] + z[:, 1] + 0.5 * z[:, 2])

    population = of_space(unit_space(4))
    forest = Forest(population.dimensions, x, f(x), seed=0)
    ours = permutation_excess(forest, x, f(x), population, rng).mean(axis=1)
    theirs = permutation_importance(
        forest._forest, fresh, f(fresh), n_repeats=10, random_state=0, scoring="r2"
    ).importances_mean
    # Out of bag a third of the trees predict, which is a little worse than all of them on new data.
    np.testing.assert_allclose(ours, theirs, rtol=0.15, atol=0.02)


def test_shuffling_a_parent_takes_what_depends_on_it_along():
    space = SearchSpace.from_dict(BRANCH)
    configurations = sampled(space, 200)
    y = standardised(np.array([c["kind"] == "a" for c in configurations], float))
    population = of_space(space)
    x = space.encode_many(configurations)
    forest = Forest(population.dimensions, x, y, seed=0)
    excess = permutation_excess(forest, x, y, population, np.random.default_rng(0)).mean(axis=1)
    # Every second trial gets the other kind, whose value is 2 standard deviations away: 4 / 2.
    assert excess[0] == pytest.approx(2.0, abs=0.3)
    assert abs(excess[1]) < 0.05


# Which value is explained -----------------------------------------------------------------------


def test_higher_rungs_reorder_the_values_of_those_that_reached_them():
    curves = [[1.0, 9.0], [2.0, 5.0], [3.0], [4.0], [2.5, 1.0, 0.5]]
    run = results_of([{"x": i} for i in range(5)], None, levels=(1, 2), curves=curves)
    # At epoch 2 the order is t4, t1, t0; they held 1.0, 2.0 and 2.5 between them.
    assert targets(run).metric.tolist() == [2.5, 2.0, 3.0, 4.0, 1.0]


def test_diverged_trials_count_as_the_worst_and_far_out_values_are_moved():
    curves = [[float(v)] for v in (1, 2, 3, 4, 5, 6, 7, 1e6)] + [[np.nan]]
    run = results_of([{"x": i} for i in range(9)], None, curves=curves)
    found = targets(run)
    fence = 6.25 + 3 * (6.25 - 2.75)
    assert found.metric[-2:].tolist() == [fence, fence]
    assert any("1 far-out" in note for note in found.notes)
    assert any("1 diverged" in note for note in found.notes)


def test_values_at_one_epoch_leave_out_who_did_not_get_there():
    run = results_of(
        [{"x": i} for i in range(3)], None, levels=(1, 2), curves=[[1, 2], [3], [4, 1]]
    )
    assert targets(run, 2).trials == ("t0", "t2")
    with pytest.raises(SpecError, match="at=7 has no report; epochs 1 to 2"):
        targets(run, 7)
    with pytest.raises(SpecError, match="at='best' must be one of rungs, any"):
        targets(run, "best")


# Whole runs -------------------------------------------------------------------------------------


def test_it_finds_what_mattered_in_a_recorded_run(mixed):
    found = importance(mixed, n_bootstrap=10)
    shares = by_name(found)
    assert shares.index[0] == "lr"
    assert shares["lr"] > 0.5
    assert shares["noise"] < 0.05
    row = found.main.set_index("parameter").loc["noise"]
    assert row["permutation_ci_low"] < 0.02
    assert 0 < found.main.set_index("parameter")["active"]["momentum"] < 1
    assert found.n_trials == 100
    assert (found.main["ci_low"] <= found.main["importance"] + 1e-9).all()
    assert (found.main["importance"] <= found.main["ci_high"] + 1e-9).all()


def test_values_at_the_top_rung_hide_what_the_rungs_reveal(mixed):
    top = by_name(importance(mixed, at=9, n_bootstrap=0))
    assert by_name(importance(mixed, n_bootstrap=0))["lr"] > top["lr"]


def test_the_same_seed_gives_the_same_numbers(mixed):
    one, two = (importance(mixed, seed=3, n_bootstrap=2) for _ in range(2))
    pd.testing.assert_frame_equal(one.main, two.main)
    pd.testing.assert_frame_equal(one.pairs, two.pairs)
    assert not one.main.equals(importance(mixed, seed=4, n_bootstrap=2).main)


def test_a_child_counts_where_it_is_active_and_being_active_counts_for_the_parent():
    space = SearchSpace.from_dict(BRANCH)
    configurations = sampled(space, 400)
    # kind a: uniform depth with variance 1/12 about 0.5; kind b: 0.5. So only depth matters.
    within = importance(
        results_of(configurations, [c.get("depth", 0.5) for c in configurations], space=space),
        n_bootstrap=0,
    )
    assert by_name(within)["depth"] > 0.9
    assert by_name(within)["kind"] < 0.03
    # Now being active is worth 1: variance 1/4 for the parent, 1/12 in one half for the child.
    shifted = importance(
        results_of(configurations, [c.get("depth", -0.5) for c in configurations], space=space),
        n_bootstrap=0,
    )
    assert by_name(shifted)["kind"] == pytest.approx(6 / 7, abs=0.04)
    assert by_name(shifted)["depth"] == pytest.approx(1 / 7, abs=0.04)


def test_categories_have_no_order():
    space = SearchSpace.from_dict(
        {"c": {"domain": "choice", "values": list("stuvwxyz")}, "x": UNIT}
    )
    configurations = sampled(space, 300)
    y = [float(c["c"] in "suwy") for c in configurations]  # every other one
    found = importance(results_of(configurations, y, space=space), n_bootstrap=0)
    assert by_name(found)["c"] > 0.97


def test_without_a_space_the_columns_are_read(mixed):
    found = importance(dataclasses.replace(mixed, space=None, spec=None), n_bootstrap=0)
    assert by_name(found).index[0] == "lr"
    assert by_name(found)["noise"] < 0.05


def test_what_never_varied_or_was_never_active_has_importance_zero_and_is_named():
    space = SearchSpace.from_dict(
        {**BRANCH, "extra": {**UNIT, "when": {"kind": "b"}}, "same": UNIT}
    )
    rng = np.random.default_rng(0)
    configurations = [
        {"kind": "a", "depth": rng.random(), "width": rng.random(), "same": 0.5} for _ in range(40)
    ]
    run = results_of(configurations, [c["depth"] for c in configurations], space=space)
    found = importance(run, n_bootstrap=0)
    assert by_name(found)[["extra", "same", "kind"]].tolist() == [0.0, 0.0, 0.0]
    assert "never active, so importance 0: extra" in found.notes
    assert any(note.startswith("never varied, so importance 0: ") for note in found.notes)


def test_it_says_when_there_are_too_few_trials_or_nothing_was_learnt():
    rng = np.random.default_rng(0)
    space = unit_space(5)
    run = results_of(sampled(space, 15), rng.random(15), space=space)
    notes = " ".join(importance(run, n_bootstrap=5).notes)
    assert "too few trials to mean anything: 15 for 5 parameters, 20 are wanted" in notes
    assert "the forest has learnt nothing" in notes


def test_equal_values_give_zero_importance():
    space = unit_space(2)
    found = importance(results_of(sampled(space, 10), [1.0] * 10, space=space), n_bootstrap=2)
    assert found.main["importance"].tolist() == [0.0, 0.0]
    assert found.fit == 0.0


def test_it_refuses_fewer_trials_than_parameters_and_constants():
    space = unit_space(5)
    run = results_of(sampled(space, 4), [1.0, 2.0, 3.0, 4.0], space=space)
    with pytest.raises(SpecError, match="4 trials with a value of loss must be more than the 5"):
        importance(run)
    same = results_of([{"x": 1}] * 9, np.arange(9.0))
    with pytest.raises(SpecError, match="no hyperparameter of run 'made' has different values"):
        importance(same)
    nothing = results_of([{"x": 1}, {"x": 2}], None, curves=[[np.nan], [np.nan]])
    with pytest.raises(SpecError, match="0 trials with a value"):
        importance(nothing)


def test_too_many_combinations_of_conditions_fall_back_on_those_observed():
    switches = {f"s{i}": {"domain": "choice", "values": ["on", "off"]} for i in range(12)}
    children = {f"c{i}": {**UNIT, "when": {f"s{i}": "on"}} for i in range(12)}
    space = SearchSpace.from_dict({**switches, **children})
    assert of_space(space) is None
    configurations = sampled(space, 60)
    run = results_of(configurations, [c.get("c0", 2.0) for c in configurations], space=space)
    found = importance(run, n_bootstrap=0)
    assert by_name(found).index[0] == "s0"
    assert any("too many combinations" in note for note in found.notes)


# Marginals --------------------------------------------------------------------------------------


def test_the_marginal_follows_the_function_in_its_own_units():
    rng = np.random.default_rng(0)
    space = SearchSpace.from_dict(
        {"lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0}, "x": UNIT}
    )
    configurations = sampled(space, 300)
    y = np.array([(np.log10(c["lr"]) + 2) ** 2 + c["x"] for c in configurations])
    run = results_of(configurations, y + rng.normal(0, 0.05, 300), space=space)
    curve = marginal(run, "lr", n_bootstrap=10)
    assert len(curve) == 32
    expected = (np.log10(curve["value"]) + 2) ** 2 + 0.5
    inside = slice(2, -2)  # a forest is flat towards the borders
    np.testing.assert_allclose(curve["mean"][inside], expected[inside], atol=0.35)
    assert (curve["ci_low"] <= curve["mean"]).mean() > 0.9


def test_the_marginal_of_a_choice_has_its_values(mixed):
    curve = marginal(mixed, "optimizer", n_bootstrap=0)
    assert curve["value"].tolist() == ["sgd", "adam"]
    assert curve["ci_low"].isna().all()
    with pytest.raises(SpecError, match="'speed' did not vary; there are optimizer, lr"):
        marginal(mixed, "speed")
