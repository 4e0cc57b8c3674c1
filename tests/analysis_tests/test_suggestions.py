"""What the searcher proposed: its share, what was expected, what was gained, and the words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from raytune_ahu.analysis.figures import caption, suggestion_curves
from raytune_ahu.analysis.suggestions import suggestion_advice, suggestions
from raytune_ahu.errors import MetricError
from raytune_ahu.results import load
from tests.analysis_tests.runs import made
from tests.recorded_runs import record_run

NAN = math.nan


def searched(n=24, *, mode="min", expected=0.25):
    """Random and model-based trials in turn; the n-th has the loss 1 - n / 100, the model's less.

    Every trial improves on those before it by 0.01, the model's by 0.51 at first.
    """
    values = [1.0 - i / 100 - (0.5 if i % 2 else 0.0) for i in range(n)]
    curves = [[value if mode == "min" else -value] for value in values]
    return made(
        curves,
        mode=mode,
        origins=["model@3" if i % 2 else "random" for i in range(n)],
        expected=[expected if i % 2 else None for i in range(n)],
    )


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_gain_is_counted_from_the_incumbent_at_the_time_of_the_suggestion(mode):
    table = suggestions(searched(6, mode=mode))
    assert list(table["number"]) == [1, 2, 3, 4, 5, 6]
    assert list(table["by_model"]) == [False, True] * 3
    assert table["level"].fillna(-1).tolist() == [-1, 3] * 3
    assert table["share"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4, 2 / 5, 3 / 6])
    assert math.isnan(table["gained"].iloc[0])  # there was no incumbent
    assert table["gained"].iloc[1:].tolist() == pytest.approx([0.51, 0.0, 0.02, 0.0, 0.02])
    np.testing.assert_array_equal(table["expected"], [NAN, 0.25] * 3)
    assert not table["completed"].any()


def test_a_failed_trial_has_gained_nothing_and_a_running_one_nothing_that_is_known():
    results = made([[1.0], [NAN], [NAN]], origins=["random", "model@1", "model@1"])
    results.trials.loc[1, "status"] = "failed"
    results.trials.loc[2, "status"] = "running"
    gained = suggestions(results)["gained"]
    assert gained[1] == 0.0
    assert math.isnan(gained[2])


def test_a_run_without_trials_has_an_empty_table_and_nothing_to_say():
    assert suggestions(made([])).empty
    assert suggestion_advice(made([])) == ""


def test_the_models_trials_are_compared_with_random_ones_at_the_first_rung():
    told = suggestion_advice(searched())
    assert told.startswith(
        "At epoch 1 the median loss of 12 model-based trials is 0.38, of 12 random ones 0.89: in "
        "100% of all pairs the model-based trial is the better one (p < 0.001)."
    )
    assert "luck" not in told
    assert "expected its 12 trials to gain 0.25 of loss each" in told
    assert "they have gained 0.061 (12 of them as far as they were trained)." in told


def test_a_difference_that_may_be_luck_is_called_so():
    results = made(
        [[float(i // 2)] for i in range(20)], origins=["model@1", "random"] * 10, mode="max"
    )
    told = suggestion_advice(results)
    assert "in 50% of all pairs" in told
    assert "(p = 1; it may be luck)" in told
    assert "expected" not in told


def test_diverged_trials_count_as_the_worst():
    curves = [[NAN] if i % 2 else [1.0] for i in range(12)]
    told = suggestion_advice(made(curves, origins=["random", "model@1"] * 6))
    assert "of 6 model-based trials is not finite, of 6 random ones 1: in 0% of all pairs" in told


def test_few_trials_are_not_compared_and_without_a_model_nothing_is_said():
    told = suggestion_advice(made([[1.0]] * 7, origins=["model@1"] * 3 + ["random"] * 4))
    assert told == (
        "Too few trials to compare those of the model with random ones at epoch 1: 3 and 4, "
        "5 of each are needed."
    )
    assert suggestion_advice(made([[1.0]] * 20)) == ""


def test_the_figure_has_the_share_and_below_it_expected_and_real_gains():
    results = searched()
    figure = suggestion_curves(results)
    share, expected, gained = figure.data
    table = suggestions(results)
    assert list(share.y) == table["share"].tolist()
    assert list(expected.x) == list(gained.x) == [n for n in range(1, 25) if n % 2 == 0]
    assert set(expected.y) == {0.25}
    assert expected.yaxis == gained.yaxis == "y2"
    assert list(gained.y) == table["gained"][table["by_model"]].tolist()
    assert "trial_00001" in expected.customdata
    assert "expected 0.25, gained 0.51 so far as it was trained" in gained.text[0]
    assert "At epoch 1 the median loss" in caption(figure)
    json.loads(figure.to_json())


def test_gains_of_zero_are_told_of_where_the_axis_cannot_show_them():
    results = made(
        [[1.0]] * 12, origins=["random"] + ["model@1"] * 11, expected=[None, 0.0] + [0.1] * 10
    )
    figure = suggestion_curves(results)
    assert len(figure.data[1].x) == 10
    assert len(figure.data[2].x) == 0
    assert "1 of 11 expected and 11 of 11 real gains are zero" in caption(figure)


@pytest.mark.parametrize("expected", [None, 0.0])
def test_expectations_that_are_few_or_all_zero_are_not_drawn(expected):
    figure = suggestion_curves(searched(expected=expected))
    assert [trace.name for trace in figure.data] == ["share of model-based trials so far"]
    few = suggestion_curves(searched(18))
    assert len(few.data) == 1


def test_a_run_without_a_model_has_no_such_figure():
    with pytest.raises(MetricError, match="no trial that a model proposed"):
        suggestion_curves(made([[1.0]]))


def test_a_recorded_run_agrees_with_its_log(tmp_path):
    results = load(record_run(tmp_path / "run", num_samples=40))
    table = suggestions(results)
    by_model = results.trials["origin"].str.startswith("model@")
    assert table["by_model"].tolist() == by_model.tolist()
    assert table["share"].iloc[-1] == pytest.approx(by_model.mean())
    best = results.best()
    gain = table.loc[table["trial"] == best.trial, "gained"].item()
    assert gain > 0 or math.isnan(gain)
    assert (table["gained"].dropna() >= 0).all()
