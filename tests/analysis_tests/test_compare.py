"""Several runs on one grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ahu.analysis.compare import compare
from raytune_ahu.errors import SpecError
from raytune_ahu.results import load
from tests.analysis_tests.runs import made
from tests.recorded_runs import record_run


def test_the_grid_ends_with_the_shortest_run_and_shows_median_and_quartiles():
    runs = [made([[v] * n], levels=(1,), name=f"r{v}") for v, n in ((1.0, 9), (2.0, 5), (4.0, 7))]
    found = compare(runs, groups=["a", "a", "a"], n_points=6)
    assert found.grid["x"].max() == 5
    last = found.grid.iloc[-1]
    assert (last["low"], last["center"], last["high"], last["n"]) == (1.5, 2.0, 3.0, 3)
    assert found.grid.iloc[0]["n"] == 0
    assert np.isnan(found.grid.iloc[0]["center"])


def test_ranks_are_among_all_runs_of_a_data_set_with_ties_shared():
    runs = [made([[v]], levels=(1,), name=n) for v, n in ((1.0, "a"), (1.0, "b"), (3.0, "c"))]
    found = compare(runs)
    assert list(found.runs["rank"]) == [1.5, 1.5, 3.0]
    assert found.grid.query("group == 'c'")["mean_rank"].iloc[-1] == 3.0
    assert list(found.runs["group"]) == ["a", "b", "c"]


def test_a_maximised_metric_ranks_the_larger_first():
    runs = [made([[v]], levels=(1,), mode="max", name=str(v)) for v in (1.0, 2.0)]
    assert list(compare(runs).runs["rank"]) == [2.0, 1.0]


def test_recorded_runs_are_grouped_by_searcher_and_scheduler(tmp_path):
    runs = [
        load(record_run(tmp_path / f"{s}{seed}", num_samples=15, scheduler=s, seed=seed))
        for s in ("asha", "none")
        for seed in (0, 1)
    ]
    found = compare(runs, over="epochs")
    assert set(found.runs["group"]) == {"bohb + asha", "bohb + none"}
    assert sorted(found.runs["rank"]) == [1, 2, 3, 4]
    assert list(found.runs["seed"]) == [0, 1, 0, 1]
    end = found.grid["x"].max()
    assert end == min(len(run.reports) for run in runs)
    ends = found.grid[found.grid["x"] == end].set_index("group")
    assert ends.loc["bohb + asha", "center"] == pytest.approx(
        found.runs.query("group == 'bohb + asha'")["value"].median()
    )


def test_a_run_without_an_incumbent_on_the_grid_is_last_and_has_no_centre():
    nothing = made([[math.nan] * 5], levels=(1,), name="nothing")
    late = made([[math.nan] * 8 + [0.1]], levels=(1,), name="late")
    good = made([[1.0] * 3], levels=(1,), name="good")
    for other in (nothing, late):
        found = compare([good, other])
        assert list(found.runs["rank"]) == [1.0, 2.0]
        assert found.grid[found.grid["group"] == other.name]["center"].isna().all()
        assert found.runs["area"].isna().all()


def test_who_has_nothing_for_long_does_not_look_better_by_it():
    early = made([[0.5] * 9 + [0.1] * 11], levels=(1,), name="early")
    late = made([[math.nan] * 9 + [0.1] * 11], levels=(1,), name="late")
    found = compare([early, late]).runs.set_index("run")
    assert found.loc["early", "area"] <= found.loc["late", "area"]


def test_data_sets_are_not_mixed_in_a_centre(tmp_path):
    runs = [
        load(
            record_run(
                tmp_path / f"{s}{data}", num_samples=6, scheduler=s, settings={"dataset": data}
            )
        )
        for s in ("asha", "none")
        for data in ("a", "b")
    ]
    assert len(set(compare(runs).runs["group"])) == 4


@pytest.mark.parametrize(
    ("runs", "arguments", "told"),
    [
        ([made([[1.0]])], {}, "at least two runs"),
        ([made([[1.0]]), made([[1.0]], mode="max")], {}, "only runs with the same metric"),
        ([made([[1.0]]), made([])], {}, "has no reports"),
        ([made([[1.0]])] * 2, {"groups": ["a"]}, "2 labels"),
        ([made([[1.0]])] * 2, {"over": "money"}, "over="),
        ([made([[1.0]])] * 2, {"n_points": 1}, "n_points=1"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, arguments, told):
    with pytest.raises(SpecError, match=told):
        compare(runs, **arguments)
