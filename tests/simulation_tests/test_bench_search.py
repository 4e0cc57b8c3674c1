"""Tests of benchmarks/bench_search.py and of the way it drives Ray's stock pair."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pandas as pd
import pytest

from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Decision, Report, TrialStatus


@pytest.mark.slow
def test_the_quick_benchmark_writes_table_plot_and_raw_results(root, tmp_path):
    command = [sys.executable, str(root / "benchmarks" / "bench_search.py"), "--quick"]
    done = subprocess.run(
        [*command, "--data", str(tmp_path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "synthetic tasks instead" in done.stdout
    report = (tmp_path / "out" / "search.md").read_text()
    assert "| BOHB + ASHA |" in report
    assert (tmp_path / "out" / "search.png").read_bytes().startswith(b"\x89PNG")
    raw = pd.read_csv(tmp_path / "out" / "search.csv")
    assert set(raw["seed"]) == {0, 1}
    regret = raw.filter(like="regret_").to_numpy()
    assert ((regret >= 0) & (regret <= 1)).all()
    assert (regret[:, 1:] <= regret[:, :-1]).all(), "a regret went up again"


@pytest.mark.ray
def test_the_stock_pair_gets_its_calls_in_rays_order(root):
    pytest.importorskip("hpbandster")
    spec = importlib.util.spec_from_file_location("rs", root / "benchmarks" / "ray_stock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})
    pair = module.RayStockPair(space, max_resource=3, mode="min", seed=0)
    calls = []

    def note(owner, name, key):
        method = getattr(owner, name)

        def call(*arguments, **options):
            calls.append(f"{key}.{name}")
            return method(*arguments, **options)

        setattr(owner, name, call)

    for name in ("on_trial_add", "on_trial_result", "on_trial_complete"):
        note(pair.scheduler, name, "scheduler")
    for name in ("suggest", "on_trial_result", "on_trial_complete"):
        note(pair.searcher, name, "searcher")
    suggestion = pair.suggest("a")
    assert suggestion.origin == "random"
    assert space.contains(suggestion.configuration)
    pair.add("a")
    decisions = []
    for resource in (1, 2, 3):
        report = Report("a", resource, 0.5)
        decisions.append(pair.report(report))
        pair.observe(report)
    pair.finish("a", TrialStatus.COMPLETED)
    pair.finish("a", TrialStatus.COMPLETED)
    assert decisions == [Decision.CONTINUE, Decision.CONTINUE, Decision.STOP]
    assert calls == [
        "searcher.suggest",
        "scheduler.on_trial_add",
        *["scheduler.on_trial_result", "searcher.on_trial_result"] * 2,
        "scheduler.on_trial_result",
        "scheduler.on_trial_complete",
        "searcher.on_trial_complete",
    ]
    assert pair.n_observations == 0
