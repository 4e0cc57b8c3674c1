"""Whether repeated trainings differ: against scipy, and by the seeds that they share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from raytune_ahu.analysis.repeats import holm, paired_difference, repeats
from raytune_ahu.errors import SpecError
from raytune_ahu.results import load
from tests.recorded_runs import MIXED, record_run

SEEDS = [11, 12, 13, 14, 15]
GOOD = {"optimizer": "adam", "lr": 0.01, "model": {"layers": 3}, "noise": 0.5}
EQUAL = {**GOOD, "noise": 0.25}  # noise does not matter
BAD = {**GOOD, "lr": 0.5}


def repeated_run(folder, configurations, *, seeds=tuple(SEEDS), **fields):
    space = {**MIXED, "trial_seed": {"domain": "choice", "values": list(seeds)}}
    points = [{**one, "trial_seed": seed} for seed in seeds for one in configurations]
    record_run(
        folder,
        space=space,
        search="random",
        scheduler="none",
        points_to_evaluate=tuple(points),
        num_samples=len(points),
        max_epochs=3,
        **fields,
    )
    return load(folder)


def values(results, configuration):
    """The newest value for each seed, by another way than `repeats`."""
    rows = results.trials[
        (results.trials["config/lr"] == configuration["lr"])
        & (results.trials["config/noise"] == configuration["noise"])
    ]
    return rows.sort_values("config/trial_seed")["last_value"].to_numpy()


def test_means_spreads_and_the_paired_test_are_those_of_scipy(tmp_path):
    results = repeated_run(tmp_path / "again", [GOOD, EQUAL, BAD])
    frame = repeats(results, trials=["a", "b", "c"]).set_index("trial")
    assert frame["rank"].tolist() == [1, 2, 3]
    assert frame["n"].tolist() == [5, 5, 5]
    first = values(results, GOOD)
    assert math.isnan(frame.loc["a", "p_value"])
    p_values = []
    for name, other in (("b", EQUAL), ("c", BAD)):
        column = values(results, other)
        assert frame.loc[name, "mean"] == pytest.approx(column.mean())
        assert frame.loc[name, "sd"] == pytest.approx(column.std(ddof=1))
        expected = stats.ttest_rel(first, column)
        interval = expected.confidence_interval(0.95)
        assert frame.loc[name, "difference"] == pytest.approx((first - column).mean())
        assert frame.loc[name, "p_value"] == pytest.approx(expected.pvalue)
        assert frame.loc[name, "ci_low"] == pytest.approx(interval.low)
        assert frame.loc[name, "ci_high"] == pytest.approx(interval.high)
        p_values.append(expected.pvalue)
    equal, bad = p_values
    assert bad < 0.001 < 0.05 < equal
    assert frame.loc["c", "p_holm"] == pytest.approx(2 * bad)
    assert frame.loc["b", "p_holm"] == pytest.approx(equal)


def test_holms_correction_is_the_worked_example():
    corrected = holm(np.array([0.01, math.nan, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, math.nan, 0.06, 0.06, 0.02])


def test_seeds_that_diverged_are_counted_and_only_shared_ones_are_paired(tmp_path):
    diverging = {**BAD, "lr": 0.9}
    results = repeated_run(tmp_path / "again", [GOOD, diverging], diverges_above=0.8)
    frame = repeats(results)
    assert frame["failed"].tolist() == [0, 5]
    assert frame["n"].tolist() == [5, 0]
    assert math.isnan(frame["mean"].iloc[1])
    assert frame["pairs"].tolist() == [0, 0]


def test_one_seed_gives_a_difference_and_no_test(tmp_path):
    frame = repeats(repeated_run(tmp_path / "again", [GOOD, BAD], seeds=[3, 4][:1]))
    row = frame.iloc[1]
    assert row["difference"] > 0.05
    assert math.isnan(row["sd"])
    assert math.isnan(row["p_value"])


def test_differences_that_are_all_alike_say_nothing_of_chance():
    column = np.array([0.25, 0.5, 0.75])
    test = paired_difference(np.column_stack([column, column]))
    assert (test.difference, test.p_value) == (0.0, 1.0)
    test = paired_difference(np.array([[0.91, 0.90], [0.92, 0.91]]))
    assert test.difference == pytest.approx(0.01)
    assert math.isnan(test.p_value)
    assert math.isnan(test.ci_low)


def test_a_run_without_seeds_of_its_trials_is_refused(tmp_path):
    results = load(record_run(tmp_path / "search", num_samples=3, max_epochs=3))
    with pytest.raises(SpecError, match=r"no trial_seed.*--repeat-best"):
        repeats(results)
