"""Tests of benchmarks/search: its event loop, its spaces, its store and report, and its peers."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks.search import methods, models, ranking, report, store, tasks
from benchmarks.search.clock import Job, run_jobs
from benchmarks.search.spaces import columns, configspace_values, configuration, is_active
from raytune_ahu.search import RandomSearcher
from raytune_ahu.simulation import BowlTask, Curve, TableTask, simulate
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Decision, Report, TrialStatus
from schedulers import build_scheduler

LINE = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})
MIXED = SearchSpace.from_dict(
    {
        "optimizer": {"domain": "choice", "values": ["sgd", "adam"]},
        "momentum": {
            "domain": "uniform",
            "lower": 0.0,
            "upper": 0.9,
            "when": {"optimizer": "sgd"},
        },
        "lr": {"domain": "loguniform", "lower": 1e-8, "upper": 10.0},
        "width": {"domain": "qlograndint", "lower": 16, "upper": 256, "q": 16},
        "batch": {"domain": "ordinal", "values": [32, 64, 128]},
        "model": {"layers": {"domain": "randint", "lower": 1, "upper": 4}},
        "epochs": 27,
    }
)


def line_task(values, epoch_s=None):
    rows = np.linspace(0.0, 1.0, len(values))[:, None]
    return TableTask("line", LINE, rows, np.array(values, float), epoch_s)


class Script:
    """Hands out given jobs (x, epochs, key), and notes what it is told."""

    def __init__(self, *jobs):
        self.jobs = [Job({"x": x}, epochs, key) for x, epochs, key in jobs]
        self.told = []

    def ask(self):
        return self.jobs.pop(0) if self.jobs else None

    def tell(self, job, value):
        self.told.append((job.key, job.epochs, value))


# ---------------------------------------------------------------------------------- the event loop


def test_jobs_run_side_by_side_and_are_told_in_the_order_of_time():
    task = line_task([[4.0, 3.0, 2.0], [5.0, 4.0, 3.0]], np.array([1.0, 0.5]))
    script = Script((0.0, 2, "a"), (1.0, 3, "b"))
    result = run_jobs(script, task, workers=2, budget_s=10)
    assert script.told == [("b", 3, 3.0), ("a", 2, 3.0)]
    assert result.time_s.tolist() == [0.5, 1.0, 1.0, 1.5, 2.0]
    assert [trial.status for trial in result.trials] == [
        TrialStatus.STOPPED,
        TrialStatus.COMPLETED,
    ]


def test_a_job_with_a_known_key_goes_on_and_costs_the_new_epochs_only():
    task = line_task([[4.0, 3.0, 2.0]])
    script = Script((0.0, 1, "a"), (0.0, 3, "a"), (0.0, 2, "a"))
    result = run_jobs(script, task, workers=1, budget_s=10, resume_s=5.0)
    assert script.told == [("a", 1, 4.0), ("a", 3, 2.0), ("a", 2, 3.0)]
    assert result.time_s.tolist() == [1.0, 7.0, 8.0]
    assert len(result.trials) == 1


def test_the_same_key_on_two_workers_is_trained_twice():
    task = line_task([[4.0, 3.0], [5.0, 4.0]])
    script = Script((0.0, 1, "a"), (0.0, 1, "a"))
    assert len(run_jobs(script, task, workers=2, budget_s=10).trials) == 2


def test_a_job_that_diverges_or_crashes_is_told_as_nan_and_frees_its_worker():
    task = line_task([[4.0, math.nan, 2.0], [5.0, 4.0, 3.0]])
    script = Script((0.0, 3, "a"), (1.0, 1, "b"), (0.0, 3, "a"))
    result = run_jobs(script, task, workers=1, budget_s=10)
    assert [key for key, _, _ in script.told] == ["a", "b", "a"]
    assert math.isnan(script.told[0][2])
    assert math.isnan(script.told[2][2])
    assert result.trials[0].status is TrialStatus.FAILED
    assert result.time_s.tolist() == [1.0, 2.0, 3.0]


def test_nothing_is_reported_after_the_end_of_the_budget():
    task = line_task([[4.0, 3.0, 2.0]])
    script = Script((0.0, 3, "a"))
    result = run_jobs(script, task, workers=1, budget_s=2.5)
    assert result.time_s.tolist() == [1.0, 2.0]
    assert script.told == []
    assert result.trials[0].status is TrialStatus.STOPPED


def test_a_crash_takes_its_epoch_and_reports_nothing():
    task = line_task([[4.0, 3.0, 2.0]])
    values = np.array([4.0, 3.0, 2.0])
    task.evaluator = lambda: lambda configuration: Curve(values, 1.0, crash_at=2)
    script = Script((0.0, 3, "a"))
    result = run_jobs(script, task, workers=1, budget_s=10)
    assert math.isnan(script.told[0][2])
    assert result.time_s.tolist() == [1.0]
    assert result.trials[0].status is TrialStatus.FAILED


def test_the_time_of_our_own_methods_is_measured():
    task = BowlTask(LINE, max_resource=9)
    scheduler = build_scheduler("asha", max_resource=9)
    searcher = RandomSearcher(LINE, mode="min", seed=0)
    result = simulate(searcher, scheduler, task, workers=2, budget_s=30.0)
    assert len(result.suggest_cpu_s) == len(result.trials)
    assert result.method_cpu_s >= result.suggest_cpu_s.sum()


# --------------------------------------------------------------------------------------- the spaces


def test_columns_put_parents_first_and_translate_every_value():
    described = {column.name: column for column in columns(MIXED)}
    assert list(described).index("optimizer") < list(described).index("momentum")
    assert described["momentum"].parents == {"optimizer"}
    assert (described["width"].lower, described["width"].upper) == (1, 16)
    assert described["batch"].kind == "int"
    drawn = {"optimizer": 0, "momentum": 0.5, "lr": 1e-3, "width": 4, "batch": 2, "model/layers": 3}
    chosen = configuration(MIXED, {n: described[n].coordinate(v) for n, v in drawn.items()})
    assert chosen == {
        "optimizer": "sgd",
        "momentum": 0.5,
        "lr": 1e-3,
        "width": 64,
        "batch": 128,
        "model": {"layers": 3},
        "epochs": 27,
    }


def test_what_is_inactive_is_dropped():
    described = {column.name: column for column in columns(MIXED)}
    drawn = {"optimizer": described["optimizer"].coordinate(1), "momentum": 0.5}
    assert not is_active(MIXED, "momentum", drawn)
    assert "momentum" not in configuration(MIXED, drawn)


def test_values_of_the_configspace_come_back():
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = MIXED.sample(rng)
        back = configspace_values(MIXED, MIXED.configspace_values(chosen))
        assert back.keys() == chosen.keys()
        np.testing.assert_allclose(MIXED.encode(back), MIXED.encode(chosen), atol=1e-6)


# ------------------------------------------------------------------------------- store and report


def row(method, seed, task="t1", suite="lcbench", regret=0.5, **others):
    simulation = {
        "suite": suite,
        "task": task,
        "method": method,
        "seed": seed,
        "workers": 4,
        "budget": 10.0,
        "failing": 0.0,
        "resume_s": 0.0,
        "charge_method": 0.0,
    }
    curve = {name: regret / (i + 1) for i, name in enumerate(store.REGRETS)}
    measured = {"trials": 10, "epochs": 50, "model_share": 0.5, "versions": "numpy 2"}
    times = {"suggest_cpu_s": 0.001, "suggest_cpu_s_p95": 0.002, "method_cpu_s": 0.1}
    return simulation | measured | times | curve | others


@pytest.fixture
def small_store(tmp_path):
    path = tmp_path / "search.csv"
    regrets = {
        "ours:gp+promotion": 0.2,
        methods.STOCK: 0.4,
        "optuna:tpe+hyperband": 0.3,
        "syne-tune:asha": 0.5,
    }
    for seed in range(5):
        for i, task in enumerate(("t1", "t2", "t3")):
            for method, regret in regrets.items():
                if (method, seed, task) != ("optuna:tpe+hyperband", 2, "t3"):
                    store.append(path, row(method, seed, task, regret=regret + 0.1 * i))
    return path


def test_the_store_knows_what_is_done(small_store):
    keys = store.done(small_store)
    assert store.Simulation("lcbench", "t1", methods.STOCK, 0, 4, 10.0).key() in keys
    assert store.Simulation("lcbench", "t1", methods.STOCK, 0, 16, 10.0).key() not in keys
    assert len(keys) == 59


def test_of_rows_with_the_same_key_the_last_one_counts(tmp_path):
    path = tmp_path / "s.csv"
    store.append(path, row("a", 0, regret=0.5))
    store.append(path, row("a", 0, regret=0.1))
    assert store.read(path)["regret_0.025"].tolist() == [0.1]


def test_the_report_has_all_tables_and_plots(small_store):
    page = report.write(store.read(small_store), small_store.parent, "search").read_text()
    assert "| ours:gp+promotion |" in page
    assert "5 seeds are common to these methods" in page  # one has 4: a seed that misses a task
    # does not count, and methods with fewer than 5 are not ranked
    assert "5 seeds that all these methods have: Friedman p = 0.05" in page  # the same order
    _, tested = page.split("Friedman", maxsplit=1)
    tested, *_ = tested.split("###")
    assert "| syne-tune:asha |" in tested
    assert "| optuna:tpe+hyperband |" not in tested  # nor tested
    assert "| 100% | ours:gp+promotion 0.0143 | optuna:tpe+hyperband 0.0190 | 0.75 |" in page
    for name in ("search_lcbench_w4-b10.png", "search_ranks_w4-b10.png"):
        assert (small_store.parent / name).read_bytes().startswith(b"\x89PNG")


def test_synthetic_tasks_that_peers_lack_keep_nobody_from_being_tested(small_store):
    for seed in range(5):
        store.append(small_store, row("ours:gp+promotion", seed, "noisy", "synthetic"))
    page = report.write(store.read(small_store), small_store.parent, "search").read_text()
    assert "**Ranks over 3 tasks at 100% of the budget**, 5 seeds" in page


def test_settings_are_reported_apart(tmp_path):
    path = tmp_path / "s.csv"
    store.append(path, row("a", 0))
    store.append(path, row("a", 0, failing=0.1))
    names = [str(setting) for setting, _ in report.settings(store.read(path))]
    assert names == [
        "4 workers, 10 full trainings each",
        "4 workers, 10 full trainings each, 10% of trials crash",
    ]


def test_the_time_to_reach_a_target_is_interpolated():
    curve = np.linspace(1.0, 0.0, len(store.SHARES))
    assert report.time_to_reach(curve, curve[2]) == pytest.approx(store.SHARES[2])
    between = (curve[2] + curve[3]) / 2
    assert report.time_to_reach(curve, between) == pytest.approx(store.SHARES[2:4].mean())
    assert report.time_to_reach(curve, 2.0) == store.SHARES[0]
    assert report.time_to_reach(curve, -1.0) is None


def test_holm_steps_down_and_never_decreases():
    adjusted = ranking.holm(pd.Series({"a": 0.04, "b": 0.01, "c": 0.03}))
    assert adjusted.to_dict() == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})


def test_the_critical_difference_is_that_of_demsar():
    # Demsar 2006, table 6: 4 classifiers on 14 data sets; q = 2.569, so the difference is 1.25
    regret = pd.DataFrame(np.arange(56.0).reshape(14, 4) % 5, columns=list("abcd"))
    comparison = ranking.compare(regret)
    assert comparison is not None
    assert comparison.critical_difference == pytest.approx(1.25, abs=0.005)


def test_cliques_are_the_longest_runs_within_the_difference():
    ranks = pd.Series([1.0, 1.5, 2.2, 4.0], list("abcd"))
    assert ranking.cliques(ranks, 1.0) == [(0, 1), (1, 2)]
    assert ranking.cliques(ranks, 0.1) == []


# ------------------------------------------------------------------------------ methods and peers


def valley_task():
    """The further from x = .3, the larger the loss; it falls to a third in 9 epochs."""
    distance = np.abs(np.linspace(0.0, 1.0, 400) - 0.3)
    return line_task((0.01 + distance)[:, None] / np.linspace(1.0, 3.0, 9))


def test_states_are_those_of_the_moments_and_grow():
    seen = models.states(valley_task(), seed=0)
    assert len(seen) == len(models.MOMENTS)
    sizes = [len(state.configurations) for state in seen]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_suggestion_is_worth_the_last_value_of_the_nearest_free_row():
    task = valley_task()
    state = models.states(task, seed=0)[-1]
    worth = models.Worth(task, state)
    assert np.count_nonzero(worth.used) == len(state.configurations)
    x = task.rows[np.flatnonzero(~worth.used)[7]]
    distance = abs(float(x[0]) - 0.3)
    best = (0.01 + np.abs(task.rows - 0.3).min()) / 3
    typical = float(np.median(0.01 + np.abs(task.rows - 0.3)) / 3)
    assert worth.of(x) == pytest.approx(
        np.clip(((0.01 + distance) / 3 - best) / (typical - best), 0, 1)
    )
    lowest = float(state.loss.min())
    assert worth.incumbent == pytest.approx(np.clip((lowest - best) / (typical - best), 0, 1))


def test_models_are_asked_in_the_same_states_and_the_process_knows_a_valley():
    answers = list(models.ask("line", valley_task(), 0, ["random", "gp", "forest"]))
    by_model = pd.DataFrame(answers).groupby("model")["regret"]
    assert set(by_model.size()) == {len(answers) / 3}
    assert len(answers) >= 9
    assert by_model.mean()["gp"] < 0.2 < 0.5 < by_model.mean()["random"]
    text = models.table(answers)
    assert "**line**, 1 runs" in text
    assert "| forest |" in text


def test_a_missing_package_is_a_reason_to_skip(monkeypatch, capsys):
    peer = methods.Peer("nothing", "nothing", ("no_such_package",))
    monkeypatch.setitem(methods.METHODS, "x:y", peer)
    assert methods.choose_methods(["x:*", "ours:random*"]) == [
        "ours:random+asha",
        "ours:random+promotion",
        "ours:random+none",
    ]
    assert "skipped: x:y (no_such_package is not installed)" in capsys.readouterr().out


def test_options_that_do_not_exist_yet_are_a_reason_to_skip(monkeypatch):
    ours = methods.Ours("bohb", search_options={"no_such_option": 1})
    monkeypatch.setitem(methods.METHODS, "ours:x", ours)
    assert "no_such_option" in str(methods.why_not("ours:x"))


def test_unknown_names_end_the_program(tmp_path):
    with pytest.raises(SystemExit, match="no method 'nonsense'"):
        methods.choose_methods(["nonsense"])
    with pytest.raises(SystemExit, match="no task 'nonsense'"):
        tasks.choose_tasks(tmp_path, ["nonsense"])


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("optuna:tpe+hyperband", "optuna"),
        ("optuna:tpe+halving", "optuna"),
        ("hpbandster:bohb", "hpbandster"),
        ("dehb:dehb", "dehb"),
        ("smac:multi-fidelity", "smac"),
        ("syne-tune:bohb-exponents", "syne_tune"),
    ],
)
def test_a_peer_models_stops_early_and_handles_conditions(name, package):
    pytest.importorskip(package)

    task = BowlTask(MIXED, max_resource=9)

    def evaluate(chosen):  # as a bowl, but not all parameters are active
        u = np.nan_to_num(MIXED.encode(chosen), nan=0.5)
        loss = ((u - task.optimum) ** 2).mean()
        return Curve(loss + (1 - np.arange(1, 10) / 9) / 2, 1.0)

    task._evaluate = evaluate
    result = methods.METHODS[name](task, seed=0, workers=4, budget_s=90.0)
    assert result.time_s[-1] <= 90.0
    assert result.model_based_share() > 0
    ended = {trial.epochs for trial in result.trials}
    assert 9 in ended
    assert min(ended) < 4
    assert all(MIXED.contains(trial.configuration) for trial in result.trials)


def ray_pair(make_scheduler, max_resource):
    pytest.importorskip("hpbandster")
    from benchmarks.search.peers import ray_tune

    task = BowlTask(LINE, max_resource=max_resource)
    searcher = ray_tune.Bohb(task, seed=0)
    return task, ray_tune.RayPair(searcher, make_scheduler(ray_tune, task), max_resource)


@pytest.mark.ray
def test_the_stock_pair_gets_its_calls_in_rays_order():
    _, pair = ray_pair(lambda module, task: module._asha(task), 3)
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
    assert LINE.contains(suggestion.configuration)
    pair.add("a")
    decisions = []
    for resource in (1, 2, 3):
        report_ = Report("a", resource, 0.5)
        decisions.append(pair.report(report_))
        pair.observe(report_)
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


@pytest.mark.ray
def test_a_trial_that_diverges_is_an_error_to_ray_and_teaches_nobody():
    _, pair = ray_pair(lambda module, task: module._asha(task), 3)
    told = []
    pair.searcher.on_trial_result = lambda *arguments: told.append("result")
    pair.searcher.on_trial_complete = lambda name, result=None, error=False: told.append(error)
    pair.suggest("a")
    pair.add("a")
    report_ = Report("a", 1, math.nan)
    assert pair.report(report_) is Decision.STOP
    pair.observe(report_)
    pair.finish("a", TrialStatus.FAILED)
    assert told == [True]


@pytest.mark.parametrize(("value", "state"), [(math.nan, "PRUNED"), (0.5, "FAIL")])
def test_optuna_learns_of_a_divergence_but_not_of_a_crash(value, state):
    optuna = pytest.importorskip("optuna")
    from benchmarks.search.peers import optuna_study

    pair = optuna_study.OptunaPair(
        BowlTask(LINE, max_resource=9), optuna.create_study(pruner=optuna_study._halving())
    )
    pair.suggest("a")
    decision = pair.report(Report("a", 1, value))
    assert decision is (Decision.STOP if math.isnan(value) else Decision.CONTINUE)
    pair.finish("a", TrialStatus.FAILED)
    assert pair.study.trials[0].state.name == state


@pytest.mark.ray
def test_rays_hyperband_pauses_resumes_and_teaches_its_searcher():
    def hyperband(module, task):
        return module.HyperBandForBOHB(metric=module.METRIC, mode="min", max_t=9)

    task, pair = ray_pair(hyperband, 9)
    decisions = []
    options = {"on_report": lambda now, report, decision: decisions.append(decision)}
    result = simulate(pair, pair, task, workers=3, budget_s=200.0, **options)
    assert decisions.count(Decision.PAUSE) > 10
    assert sum(trial.epochs == 9 for trial in result.trials) >= 3
    assert pair.n_observations > 10
    assert result.model_based_share() > 0.3


@pytest.mark.slow
def test_the_quick_benchmark_writes_its_store_and_report_and_goes_on(root, tmp_path):
    command = [sys.executable, str(root / "benchmarks" / "search" / "run.py"), "--quick"]
    command += ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--methods", "ours:*"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "synthetic tasks then" in done.stdout
    assert "| ours:bohb+asha |" in (tmp_path / "out" / "search.md").read_text()
    raw = pd.read_csv(tmp_path / "out" / "search.csv")
    assert set(raw["seed"]) == {0, 1}
    regret = raw.filter(like="regret_").to_numpy()
    assert ((regret >= 0) & (regret <= 1)).all()
    assert (regret[:, 1:] <= regret[:, :-1]).all(), "a regret went up again"
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(raw)} simulations, {len(raw)} of them in" in again.stdout
