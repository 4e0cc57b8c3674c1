"""What an earlier run gives to a new search."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.finding import read_spec
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import read_events
from raytune_ahu.results import load, prior_trials
from raytune_ahu.search import PriorTrial, build_searcher, searcher_for
from raytune_ahu.space import SearchSpace
from schedulers import scheduler_for
from tests.recorded_runs import MIXED, record_run


def warm(spec, prior):
    return spec.replace(prior_trials=tuple(trial.to_dict() for trial in prior))


@pytest.fixture(scope="module")
def results(asha_run):
    return load(asha_run)


def test_every_trial_with_a_report_is_taken_with_all_its_finite_values(results):
    found = prior_trials(results, results.space, results.metric, results.mode)
    assert found.n_outside == 0
    assert len(found.trials) == 60
    finite = results.reports["value"].notna().sum()
    assert sum(len(trial.reports) for trial in found.trials) == finite
    assert (
        sum(trial.failed for trial in found.trials) == (results.trials["status"] == "failed").sum()
    )


def test_only_what_lies_in_the_new_space_is_taken(results):
    narrow = results.space.with_bounds("lr", 1e-3, 1e-1)
    found = prior_trials(results, narrow, results.metric, results.mode)
    inside = results.trials["config/lr"].between(1e-3, 1e-1)
    assert len(found.trials) == inside.sum()
    assert found.n_outside == (~inside).sum()


def test_another_metric_and_another_space_are_refused(results):
    with pytest.raises(SpecError, match="needs the same metric"):
        prior_trials(results, results.space, "loss", "min")
    other = SearchSpace.from_dict({"width": {"domain": "randint", "lower": 1, "upper": 4}})
    with pytest.raises(SpecError, match=r"60 lie outside, the first because .*'width'"):
        prior_trials(results, other, results.metric, results.mode)


def test_a_warm_searcher_suggests_from_its_model_at_once(results, asha_run):
    spec = read_spec(asha_run)
    found = prior_trials(results, spec.space, spec.metric, spec.mode)
    searcher = searcher_for(warm(spec, found.trials), results.rung_levels)
    cold = searcher_for(spec, results.rung_levels)
    origins = [searcher.suggest(f"trial_{i}").origin for i in range(12)]
    assert sum(origin.startswith("model@") for origin in origins) >= 4
    assert all(cold.suggest(f"trial_{i}").origin == "random" for i in range(12))


def test_a_warm_searcher_never_repeats_a_prior_configuration(results, asha_run):
    spec = read_spec(asha_run).replace(search="random")
    found = prior_trials(results, spec.space, spec.metric, spec.mode)
    searcher = searcher_for(warm(spec, found.trials), results.rung_levels)
    seen = [trial.configuration for trial in found.trials]
    assert all(searcher.suggest(f"trial_{i}").configuration not in seen for i in range(50))


def test_a_warm_run_is_better_from_its_first_trials_on(tmp_path, asha_run):
    spec = read_spec(asha_run)
    found = prior_trials(load(asha_run), spec.space, spec.metric, spec.mode)
    means = {}
    for name, prior in (("cold", ()), ("warm", found.trials)):
        values = []
        for seed in range(3):
            folder = record_run(
                tmp_path / f"{name}{seed}",
                num_samples=12,
                max_epochs=27,
                scheduler="none",
                seed=seed + 10,
                prior_trials=tuple(trial.to_dict() for trial in prior),
            )
            values.append(load(folder).trials["best_value"].mean())
        means[name] = sum(values) / len(values)
    assert means["warm"] > means["cold"] + 0.01


def test_a_warm_run_survives_the_round_trip_through_its_record(results, asha_run, tmp_path):
    spec = read_spec(asha_run)
    found = prior_trials(results, spec.space, spec.metric, spec.mode)
    folder = record_run(
        tmp_path / "again", num_samples=10, prior_trials=warm(spec, found.trials).prior_trials
    )
    read = read_spec(folder)
    scheduler = scheduler_for(read)
    recorder = Recorder(searcher_for(read, scheduler.rung_levels), scheduler, mode=read.mode)
    recorder.replay(read_events(folder))  # raises if a suggestion differs
    assert len(recorder.state.trials) == 10


def test_the_grid_leaves_out_what_was_tried(tmp_path):
    space = {"optimizer": {"domain": "choice", "values": ["adam", "sgd"]}}
    prior = PriorTrial({"optimizer": "adam"}, ((1, 0.5),))
    searcher = build_searcher(
        "grid", SearchSpace.from_dict(space), mode="max", seed=0, rung_levels=[1]
    )
    searcher.begin_from([prior])
    assert searcher.suggest("a").configuration == {"optimizer": "sgd"}
    assert searcher.suggest("b") is None


def test_a_warm_start_comes_first():
    searcher = build_searcher(
        "random", SearchSpace.from_dict(MIXED), mode="max", seed=0, rung_levels=[1]
    )
    searcher.suggest("trial_0")
    with pytest.raises(ValueError, match="before the first suggestion"):
        searcher.begin_from([])


@pytest.mark.parametrize("reports", [((0, 1.0),), ((2, 1.0), (1, 1.0)), ((1, 1.0), (1, 2.0))])
def test_resources_of_a_prior_trial_ascend_from_one(reports):
    with pytest.raises(SpecError, match="must be at least 1, and ascend"):
        PriorTrial({}, reports)


def test_what_is_no_prior_trial_is_refused():
    with pytest.raises(SpecError, match="is no prior trial"):
        PriorTrial.from_dict({"configuration": {}})
