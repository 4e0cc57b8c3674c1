"""Tests of benchmarks/bench_real_search.py: what it does with reports, and with Ray's spaces."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pandas as pd
import pytest

from raytune_ahu.space import SearchSpace
from raytune_ahu.space.plan import Plan


def load(root, name):
    """Import a module of the benchmarks, which import their neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "benchmarks"))
        spec = importlib.util.spec_from_file_location(name, root / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(root):
    return load(root, "real_report")


def run_of(errors, *, method="ours", seed=0, trials=None, model_based=()):
    """The reports of a run, two epochs a trial unless told otherwise."""
    trials = trials or [f"t{i // 2}" for i in range(len(errors))]
    return [
        {
            "dataset": "toy",
            "method": method,
            "seed": seed,
            "spent": i + 1,
            "seconds": 2.0 * (i + 1),
            "trial": trial,
            "epoch": trials[: i + 1].count(trial),
            "error": error,
            "epoch_s": 1.0,
            "model_based": trial in model_based,
            "max_epochs": 2,
        }
        for i, (error, trial) in enumerate(zip(errors, trials, strict=True))
    ]


def test_reports_are_cut_at_the_budget_in_the_order_of_their_time(report):
    reports = [{"seconds": s, "trial": t} for s, t in [(3.0, "c"), (1.0, "a"), (2.0, "b")]]
    kept = report.cut(reports, 2)
    assert [(r["spent"], r["trial"]) for r in kept] == [(1, "a"), (2, "b")]
    assert all("spent" not in r for r in reports)


def test_reports_of_the_same_time_keep_their_order(report):
    reports = [{"seconds": 1.0, "trial": t} for t in "zay"]
    assert [r["trial"] for r in report.cut(reports, 3)] == ["z", "a", "y"]


def test_a_run_that_has_not_spent_its_budget_is_refused(report):
    with pytest.raises(ValueError, match="after 1 of 2 epochs"):
        report.cut([{"seconds": 1.0}], 2)


def test_the_best_error_never_rises_and_a_diverged_epoch_leaves_it(report):
    errors = pd.Series([math.nan, 0.5, 0.7, math.nan, 0.2, math.inf]).to_numpy()
    assert report.best_so_far(errors).tolist() == [1.0, 0.5, 0.5, 0.5, 0.2, 0.2]


def test_curves_have_a_row_per_seed_and_shares_are_read_from_them(report):
    reports = pd.DataFrame(run_of([0.8, 0.4, 0.6, 0.2]) + run_of([0.6, 0.6, 0.5, 0.4], seed=3))
    curve = report.curves(reports.sample(frac=1, random_state=0))
    assert curve.loc[0].tolist() == [0.8, 0.4, 0.4, 0.2]
    assert curve.loc[3].tolist() == [0.6, 0.6, 0.5, 0.4]
    shares = report.at_shares(curve)
    assert shares.loc[0].to_dict() == {0.25: 0.8, 0.5: 0.4, 1.0: 0.2}


def test_curves_of_different_budgets_are_not_averaged(report):
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        report.curves(pd.DataFrame(run_of([0.5] * 2) + run_of([0.5] * 3, seed=1)))


def test_the_model_share_counts_trials_and_not_epochs(report):
    trials = ["a", "a", "a", "b", "c", "d"]
    reports = pd.DataFrame(run_of([0.5] * 6, trials=trials, model_based={"a"}))
    assert report.model_share(reports) == 0.25
    twice = pd.concat([reports, pd.DataFrame(run_of([0.5] * 6, trials=trials, seed=1))])
    assert report.model_share(twice) == 0.125, "trials of the same name in other seeds are others"


def test_the_report_tells_means_ranges_and_differences_by_seed(report):
    reports = pd.DataFrame(
        run_of([0.5, 0.4, 0.3, 0.2])
        + run_of([0.5, 0.4, 0.3, 0.1], seed=1)
        + run_of([0.5, 0.4, 0.4, 0.3], method="other")
        + run_of([0.5, 0.4, 0.4, 0.1], method="other", seed=1)
        + run_of([0.5, 0.4, 0.4, 0.0], method="other", seed=2)
    )
    text = report.write_report(reports, ["Setup."], "ours")
    assert "| ours | 50.00 % (50.00 to 50.00) | 40.00 % (40.00 to 40.00) | 15.00 % (10.00" in text
    row = next(line for line in text.splitlines() if line.startswith("| toy: other |"))
    assert row == "| toy: other | 0.000 ± 0.000 | 0.000 ± 0.000 | 5.000 ± 5.000 | 1 of 2 seeds |"


def test_one_seed_of_one_method_makes_a_report_and_a_plot(report, tmp_path):
    reports = pd.DataFrame(run_of([0.5, math.nan]))
    text = report.write_report(reports, ["Setup."], "ours")
    assert "| ours | 50.00 % | 50.00 % | 50.00 % | 0 % | 1 | 1 | 4 | 1.00 | 1 |" in text
    report.plot(reports, tmp_path / "real_search.png")
    assert (tmp_path / "real_search.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["mnist", "resnet_small"])
def test_what_ray_proposes_becomes_legal_when_inactive_parameters_are_dropped(root, name):
    driver = load(root, "real_driver")
    space = SearchSpace.from_file(root / "trainables" / "spaces" / f"{name}.yaml")
    flat = driver.without_conditions(space)
    assert flat.names == space.names
    plan, rng = Plan(space.declaration), np.random.default_rng(0)
    sizes = set()
    for _ in range(50):
        configuration = flat.sample(rng)
        kept = driver.drop_inactive(plan, configuration)
        space.validate(kept)
        assert kept.items() <= configuration.items()
        sizes.add(len(kept))
    assert len(sizes) > 1, "something was inactive at times"
