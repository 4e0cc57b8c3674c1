"""What more trials are expected to bring."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from raytune_ahu.analysis.convergence import Tail, advice, convergence, fit_tail
from tests.analysis_tests.runs import made

SHAPES = {
    "uniform": lambda rng, size: rng.uniform(size=size),
    "bowl in 2 dimensions": lambda rng, size: (rng.normal(size=(*size, 2)) ** 2).sum(-1),
    "bowl in 6 dimensions": lambda rng, size: (rng.normal(size=(*size, 6)) ** 2).sum(-1),
    "normal": lambda rng, size: rng.normal(size=size),
    "log-normal": lambda rng, size: np.exp(rng.normal(size=size)),
}


@pytest.mark.parametrize("count", [20, 50, 200])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_expected_improvement_is_near_the_true_one_on_average(name, count):
    rng = np.random.default_rng(1)
    expected, true = [], []
    for _ in range(150):
        losses = SHAPES[name](rng, (count,))
        tail, best = fit_tail(losses), losses.min()
        expected.append(tail.improvement(best, 20))
        further = SHAPES[name](rng, (200, 20)).min(axis=1)
        true.append(np.maximum(best - further, 0).mean())
    assert 0.5 < np.mean(expected) / np.mean(true) < 2.2


def test_the_improvement_is_the_integral_over_the_tail():
    tail = Tail(threshold=1.0, best=0.4, count=30, shape=-0.5, scale=0.5)
    # beyond the best loss the excess is generalised Pareto with a scale of .5 - .5 * .6
    beyond = stats.genpareto(-0.5, scale=0.2)
    once = 1 - (30 / 35) ** (1 / 5)
    t = np.linspace(0, 0.4, 200_001)
    integral = np.trapezoid(1 - (1 - once * beyond.sf(t)) ** 5, t)
    assert tail.improvement(0.4, 5) == pytest.approx(integral, rel=1e-3)
    assert tail.end == pytest.approx(0.0)


def test_the_chance_of_an_improvement_is_that_of_a_record():
    # With a tail far longer than its probability matters, P(better) is m / (n + m).
    tail = Tail(threshold=1.0, best=0.0, count=30, shape=0.0, scale=1.0)
    once = 1 - (30 / 40) ** (1 / 10)
    assert 1 - (1 - once) ** 10 == pytest.approx(10 / 40)
    assert tail.improvement(0.0, 10) > 0


def test_an_older_incumbent_makes_improvement_less_likely():
    tail = Tail(threshold=1.0, best=0.4, count=30, shape=-0.2, scale=0.5)
    assert tail.improvement(0.1, 10) < tail.improvement(0.4, 10)
    assert tail.improvement(tail.end, 10) == 0


def test_a_share_is_not_expected_to_pass_one():
    rng = np.random.default_rng(0)
    values = 1 - 0.01 * rng.exponential(size=40)
    table = convergence(made([[v] for v in values], mode="max", levels=(1,)), (10, 1000))
    assert (table["expected_value"] <= 1.0).all()
    assert (table["limit"].dropna() <= 1.0).all()
    assert (values.max() + table["ci_high"] <= 1.0 + 1e-9).all()


def test_more_trials_improve_more_and_cost_more():
    rng = np.random.default_rng(0)
    results = made([[v] * 3 for v in rng.normal(size=40)], levels=(1, 3))
    table = convergence(results, (10, 20, 40))
    assert table["expected_improvement"].is_monotonic_increasing
    assert (table["ci_low"] <= table["expected_improvement"]).all()
    assert (table["ci_high"] >= table["expected_improvement"]).all()
    assert list(table["epochs"]) == [30, 60, 120]
    assert list(table["worker_s"]) == [30, 60, 120]
    best = results.best().value
    assert table["expected_value"].to_numpy() == pytest.approx(
        best - table["expected_improvement"].to_numpy()
    )


def test_a_maximised_metric_improves_upwards():
    rng = np.random.default_rng(0)
    values = 2 + rng.uniform(size=40)  # no shares
    up = convergence(made([[v] for v in values], mode="max", levels=(1,)))
    down = convergence(made([[-v] for v in values], mode="min", levels=(1,)))
    np.testing.assert_allclose(up["expected_value"], -down["expected_value"])
    assert (up["limit"] >= values.max()).all()


def test_few_or_equal_trials_say_nothing():
    assert convergence(made([[1.0]] * 11, levels=(1,))).empty
    assert convergence(made([[1.0]] * 30, levels=(1,))).empty
    assert "Too early" in advice(made([[1.0]] * 5, levels=(1,)))


def test_a_search_that_has_arrived_is_told_so_and_one_that_has_not():
    rng = np.random.default_rng(0)
    values = [*rng.uniform(1, 1000, size=40), *(1 - 1e-6 * rng.uniform(size=35))]
    arrived = made([[v] for v in values], levels=(1,))
    assert "hardly anything" in advice(arrived)
    early = made([[-v] for v in rng.exponential(size=24)], levels=(1,))
    assert "perhaps worth it" in advice(early)
    heavy = made([[-v] for v in np.exp(2 * rng.normal(size=24))], levels=(1,))
    assert ": worth it" in advice(heavy)
