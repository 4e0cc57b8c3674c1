"""Searcher and scheduler in a `tune.run` of the user's own, without the runner."""

from __future__ import annotations

import math

import pytest
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from raytune_ahu.adapters import RaySearch
from raytune_ahu.search import BohbSearcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report
from schedulers import AshaPromotion, AshaStopping
from schedulers.ray_scheduler import RayScheduler

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SPACE = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})


@pytest.fixture
def searcher():
    return BohbSearcher(SPACE, mode="min", seed=0, rung_levels=[1, 3, 9])


def tune_run(trainable, tmp_path, **options):
    return tune.run(
        trainable,
        storage_path=str(tmp_path),
        name="alone",
        metric="loss",
        mode="min",
        reuse_actors=True,
        verbose=0,
        **options,
    )


@pytest.mark.parametrize("kind", [AshaStopping, AshaPromotion])
def test_bohb_and_asha_in_an_own_tune_run(tmp_path, toy_trainable, searcher, kind):
    scheduler = RayScheduler(kind(max_resource=9, mode="min"), metric="loss")
    analysis = tune_run(
        toy_trainable,
        tmp_path,
        search_alg=RaySearch(searcher, metric="loss", num_samples=15),
        scheduler=scheduler,
    )
    assert len(analysis.trials) == 15
    assert {trial.status for trial in analysis.trials} == {"TERMINATED"}
    lengths = [trial.last_result["training_iteration"] for trial in analysis.trials]
    assert set(lengths) <= ({1, 3, 9} if kind is AshaPromotion else set(range(1, 10)))
    assert 9 in lengths
    assert 1 in lengths
    # The last results of stopped trials have reached the searcher: every trial is an observation.
    first, _, _ = (rung.entrants for rung in scheduler.scheduler.rungs())
    assert first == 15


def test_bohb_with_rays_own_scheduler_hears_of_stopped_trials(tmp_path, toy_trainable, searcher):
    """Ray tells a search algorithm of the result that ends a trial only on completion."""
    heard = {}
    observe = searcher.observe

    def listen(report):
        heard.setdefault(report.trial_id, []).append(report.resource)
        observe(report)

    searcher.observe = listen
    analysis = tune_run(
        toy_trainable,
        tmp_path,
        search_alg=RaySearch(searcher, metric="loss", num_samples=12),
        scheduler=AsyncHyperBandScheduler(max_t=9, grace_period=1, reduction_factor=3),
    )
    for trial in analysis.trials:
        n_epochs = trial.last_result["training_iteration"]
        assert heard[trial.trial_id] == list(range(1, n_epochs + 1))


def test_a_scheduler_saved_and_restored_has_the_same_rungs(tmp_path):
    def make():
        return RayScheduler(AshaPromotion(max_resource=9, mode="max", brackets=2), metric="a")

    saved = make()
    for i in range(12):
        saved.scheduler.add(f"t{i}")
        saved.scheduler.report(Report(f"t{i}", 1, math.nan if i == 5 else i / 10))
    saved.save(str(tmp_path / "state"))
    restored = make()
    restored.restore(str(tmp_path / "state"))
    assert restored.scheduler.rungs() == saved.scheduler.rungs()
    assert restored.scheduler.next_trial() == saved.scheduler.next_trial()
    assert "AshaPromotion rungs" in restored.debug_string()


def test_two_metrics_are_one_too_many():
    scheduler = RayScheduler(AshaStopping(max_resource=9), metric="loss")
    assert scheduler.set_search_properties("loss", "min")
    assert not scheduler.set_search_properties("accuracy", "max")
