"""Whether low epochs rank as high ones do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from raytune_ahu.analysis.rungs import grace_advice, rung_correlation
from tests.analysis_tests.runs import made


def curves_with(noise, n=40, length=9, seed=0):
    """Curves whose value at epoch 1 ranks as at the end, up to noise."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    first = quality + noise * rng.normal(size=n)
    weights = np.linspace(0, 1, length)
    return [list((1 - w) * f + w * q for w in weights) for f, q in zip(first, quality, strict=True)]


def test_correlations_are_those_of_scipy():
    results = made(curves_with(1.0))
    table = rung_correlation(results).set_index(["low", "high"])
    values = results.curves()
    for low, high in ((1, 3), (1, 9), (3, 9)):
        row = table.loc[(low, high)]
        assert row["spearman"] == pytest.approx(
            stats.spearmanr(values.loc[low], values.loc[high]).statistic
        )
        assert row["kendall"] == pytest.approx(
            stats.kendalltau(values.loc[low], values.loc[high]).statistic
        )
        assert row["ci_low"] < row["spearman"] < row["ci_high"]
        assert row["n"] == 40


def test_intervals_cover_the_true_correlation_about_as_often_as_they_say():
    # For a bivariate normal with correlation r, Spearman's rho is 6 / pi * asin(r / 2).
    true = 6 / np.pi * np.arcsin(0.8 / 2)
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=40).T
        curves = [[a, 0.0, b] for a, b in zip(x, y, strict=True)]
        row = rung_correlation(made(curves, levels=(1, 3)), seed=seed).iloc[0]
        covered += row["ci_low"] <= true <= row["ci_high"]
    assert 46 <= covered <= 60  # 90 % of 60 is 54


def test_only_trials_that_reached_both_levels_count():
    curves = curves_with(0.5)
    cut = [curve[:1] for curve in curves[:20]] + curves[20:]
    row = rung_correlation(made(cut)).set_index(["low", "high"]).loc[(1, 9)]
    assert (row["n"], row["reached"]) == (20, 0.5)


def test_too_few_or_equal_values_have_no_correlation():
    few = rung_correlation(made(curves_with(0.1, n=4)))
    assert few["spearman"].isna().all()
    flat = rung_correlation(made([[1.0] * 9 for _ in range(10)]))
    assert flat["spearman"].isna().all()


def test_epochs_before_the_first_level_are_looked_at_too():
    table = rung_correlation(made(curves_with(0.1), levels=(9, 27)))
    assert {(1, 9), (3, 9)} <= set(zip(table["low"], table["high"], strict=True))


def test_good_early_epochs_confirm_the_grace_period():
    assert "a grace period of 1 was right" in grace_advice(made(curves_with(0.1)))


def test_misleading_early_epochs_ask_for_a_longer_one():
    rng = np.random.default_rng(3)
    end = rng.normal(size=60)
    start = rng.normal(size=60)
    curves = [[s, s, e + 0.05 * s, *[e] * 6] for s, e in zip(start, end, strict=True)]
    told = grace_advice(made(curves))
    assert "too early" in told
    assert "--grace-period 3" in told


def test_a_late_grace_period_that_is_not_needed_is_said():
    told = grace_advice(made([c * 3 for c in curves_with(0.05)], levels=(9, 27)))
    assert "--grace-period 1 would save more" in told


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (made(curves_with(0.1), levels=(9,)), "not stopped early"),
        (made(curves_with(0.1, n=3)), "Too few trials"),
        (made([]), "Too few trials"),
    ],
)
def test_where_nothing_can_be_said_it_says_why(results, told):
    assert told in grace_advice(results)
