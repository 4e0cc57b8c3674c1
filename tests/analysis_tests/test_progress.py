"""The incumbent over time, epochs and trials."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ahu.analysis.progress import anytime_area, incumbent, value_at
from raytune_ahu.errors import SpecError
from raytune_ahu.results import load
from tests.analysis_tests.runs import made
from tests.recorded_runs import record_run

NAN = math.nan


def test_the_incumbent_is_the_best_value_so_far_with_where_it_was_seen():
    curve = incumbent(made([[5.0, 3.0, 4.0], [NAN, 2.0], [9.0]]))
    assert list(curve["value"]) == [5, 3, 3, 3, 2, 2]
    assert list(curve["trial"]) == ["trial_00000"] * 4 + ["trial_00001"] * 2
    assert list(curve["resource"]) == [1, 2, 2, 2, 2, 2]
    assert list(curve["improved"]) == [True, True, False, False, True, False]
    assert list(curve["epochs"]) == [1, 2, 3, 4, 5, 6]
    assert list(curve["trials"]) == [1, 1, 2, 2, 3, 3]
    assert list(curve["time_s"]) == [1, 2, 3, 4, 5, 6]


def test_a_maximised_metric_improves_upwards():
    curve = incumbent(made([[5.0, 3.0, 7.0]], mode="max"))
    assert list(curve["value"]) == [5, 5, 7]


def test_before_the_first_finite_value_there_is_no_incumbent():
    curve = incumbent(made([[NAN, math.inf, 1.0]]))
    assert curve["value"].isna().tolist() == [True, True, False]
    assert curve["trial"].isna().tolist() == [True, True, False]
    assert curve["resource"].isna().tolist() == [True, True, False]


def test_a_run_without_reports_has_an_empty_curve():
    assert incumbent(made([])).empty
    assert math.isnan(anytime_area(made([])))


def test_it_agrees_with_the_result_of_a_real_record(tmp_path):
    results = load(record_run(tmp_path / "run", num_samples=30))
    curve = incumbent(results)
    assert curve["value"].iloc[-1] == results.best().value
    assert curve["trial"].iloc[-1] == results.best().trial
    assert (curve["value"].dropna().diff().dropna() >= 0).all()


def test_the_anytime_area_is_the_mean_of_the_steps():
    results = made([[4.0, 2.0, 2.0, 1.0]])
    assert anytime_area(results) == pytest.approx((4 + 2 + 2) / 3)
    assert anytime_area(results, until=6) == pytest.approx((4 + 2 + 2 + 1 + 1) / 5)
    assert anytime_area(results, "epochs", until=2) == pytest.approx(4.0)
    assert anytime_area(results, until=1) == 4.0
    assert math.isnan(anytime_area(results, until=0.5))


def test_an_area_may_begin_later_than_the_first_incumbent():
    results = made([[4.0, 2.0, 2.0, 1.0]])
    assert anytime_area(results, since=1.5) == pytest.approx((4 * 0.5 + 2 + 2) / 2.5)
    assert math.isnan(anytime_area(results, since=0.5))


def test_an_unknown_axis_lists_those_that_there_are():
    with pytest.raises(SpecError, match="time_s, epochs, trials"):
        anytime_area(made([[1.0]]), "hours")


def test_values_are_read_as_steps():
    curve = incumbent(made([[4.0, 2.0]], epoch_s=10.0))
    read = value_at(curve, "time_s", np.array([0.0, 9.9, 10.0, 19.0, 20.0, 99.0]))
    np.testing.assert_array_equal(read, [NAN, NAN, 4, 4, 2, 2])
