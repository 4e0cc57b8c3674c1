"""Runs of stock Ray Tune, made by stock Ray Tune."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import MetricError, RecordError, SpecError
from raytune_ahu.results import load


@pytest.fixture(scope="module")
def ray_run(local_ray, tmp_path_factory):
    """Six trials under Ray's own ASHA; two of them raise, one reports NaN."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    class Toy(tune.Trainable):
        def setup(self, config):
            self.config = config

        def step(self):
            if self.config["x"] > 0.8:
                raise RuntimeError("x is too large")
            loss = (self.config["x"] - 0.3) ** 2 + 1 / self.iteration if self.iteration else 2.0
            return {"loss": float("nan") if self.config["x"] == 0.05 else loss, "own": 1}

    folder = tmp_path_factory.mktemp("ray_results")
    grid = [0.05, 0.3, 0.5, 0.7, 0.9, 0.95]
    tune.run(
        Toy,
        name="stock",
        storage_path=str(folder),
        config={"x": tune.grid_search(grid), "group": {"kind": "a"}},
        scheduler=ASHAScheduler(max_t=9, metric="loss", mode="min"),
        stop={"training_iteration": 9},
        raise_on_failed_trial=False,
        verbose=0,
        reuse_actors=False,
    )
    return folder / "stock"


pytestmark = pytest.mark.ray


def test_it_becomes_the_same_frames_as_ours(ray_run):
    results = load(ray_run, metric="loss", mode="min")
    assert len(results.trials) == 6
    assert results.trials["status"].value_counts()["failed"] == 2
    ended = results.trials[results.trials["status"] != "failed"]
    assert (ended["status"] == "completed").eq(ended["resource"] == 9).all()
    assert (ended["status"] == "stopped").any()
    assert set(results.trials["config/group/kind"]) == {"a"}
    assert results.trials["error"].dropna().str.contains("x is too large").all()
    assert results.best().configuration["x"] == 0.3
    assert results.best(at="max_resource").resource == 9
    assert results.max_resource == 9
    assert "metric/own" in results.reports
    assert not results.reports.duplicated(["trial", "resource"]).any()


def test_its_values_are_those_that_ray_reports(ray_run):
    from ray.tune import ExperimentAnalysis

    analysis = ExperimentAnalysis(str(ray_run))
    results = load(ray_run, metric="loss", mode="min")
    assert results.trials["trial"].is_unique
    frames = {
        frame["trial_id"].iloc[0]: frame
        for frame in analysis.trial_dataframes.values()
        if len(frame)
    }
    for trial, part in results.reports.groupby("trial"):
        theirs = frames[trial].set_index("training_iteration")["loss"]
        ours = part.set_index("resource")["value"]
        assert len(theirs) == len(ours)
        for theirs_at, ours_at in zip(theirs, ours, strict=True):
            assert ours_at == pytest.approx(theirs_at, nan_ok=True)


def test_it_says_what_is_missing_and_lists_the_metrics(ray_run):
    with pytest.raises(SpecError, match="its metrics are loss, own"):
        load(ray_run)
    with pytest.raises(MetricError, match="its metrics are loss, own"):
        load(ray_run, metric="accuracy", mode="max")
    with pytest.raises(SpecError, match="mode='up'"):
        load(ray_run, metric="loss", mode="up")


def test_a_torn_result_is_left_out_and_a_damaged_one_named(ray_run, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(ray_run, folder)
    path = max(folder.glob("*/result.json"), key=lambda one: one.stat().st_size)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines)[:-20])
    results = load(folder, metric="loss", mode="min")
    assert any("unfinished line" in note for note in results.notes)
    path.write_text("{oops\n" + "".join(lines))
    with pytest.raises(RecordError, match=r"line 1 of .*result\.json is damaged"):
        load(folder, metric="loss", mode="min")
