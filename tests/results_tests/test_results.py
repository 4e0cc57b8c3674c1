"""Ranking, reading and writing of results."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from raytune_ahu.errors import CheckpointError, MetricError, SpecError, StorageError
from raytune_ahu.records import LOG_FILE
from raytune_ahu.results import load
from raytune_ahu.results.schema import FRAMES, SCHEMA_VERSION
from tests.recorded_runs import record_run


@pytest.fixture(scope="module")
def results(asha_run):
    return load(asha_run)


def test_the_best_at_any_epoch_is_the_maximum_of_all_reports(results):
    best = results.best()
    assert best.value == results.reports["value"].max()
    row = results.reports.loc[results.reports["value"].idxmax()]
    assert (best.trial, best.resource) == (row["trial"], row["resource"])
    assert "any epoch" in best.rule
    assert best.at == "any"


def test_the_best_at_the_highest_resource_compares_only_those_trained_longest(results):
    best = results.best(at="max_resource")
    last = results.reports[results.reports["resource"] == 27]
    assert best.value == last["value"].max()
    assert best.resource == 27
    assert f"{len(last)} of 60 trials" in best.rule


def test_the_best_of_the_newest_values_may_be_a_stopped_trial(results):
    newest = results.reports.groupby("trial", sort=False)["value"].last()
    assert results.best(at="last").value == newest.max()


def test_another_metric_needs_its_mode(results):
    with pytest.raises(SpecError, match=r"mode='min'"):
        results.best("train_loss")
    best = results.best("train_loss", "min")
    assert best.value == pytest.approx(1 / 27)
    assert best.metric == "train_loss"


def test_a_metric_that_does_not_exist_lists_those_that_do(results):
    with pytest.raises(MetricError, match="validation_accuracy, train_loss"):
        results.best("accuracy", "max")


@pytest.mark.parametrize(("arguments", "told"), [({"at": "first"}, "at="), ({"k": 0}, "k=0")])
def test_rules_that_do_not_exist_are_refused(results, arguments, told):
    with pytest.raises(SpecError, match=told):
        results.top(**{"k": 1, **arguments})


def test_top_is_ordered_and_without_repetitions(results):
    top = results.top(10)
    values = [one.value for one in top]
    assert values == sorted(values, reverse=True)
    assert len({one.trial for one in top}) == 10
    assert len(results.top(10_000)) == results.trials["best_value"].notna().sum()


def test_among_equal_values_the_earlier_report_is_best(tmp_path):
    folder = record_run(tmp_path / "ties", num_samples=4, max_epochs=1)
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    for event in lines:
        if event["event"] == "reported":
            event["value"] = 0.5
    (folder / LOG_FILE).write_text("".join(json.dumps(event) + "\n" for event in lines))
    first = next(event["trial"] for event in lines if event["event"] == "reported")
    assert load(folder).best().trial == first


def test_configurations_come_back_as_they_were_suggested(results, asha_run):
    suggested = {
        event["trial"]: event["configuration"]
        for event in map(json.loads, (asha_run / LOG_FILE).read_text().splitlines())
        if event["event"] == "suggested"
    }
    for trial, configuration in suggested.items():
        assert results.configuration(trial) == configuration
        assert type(results.configuration(trial)["model"]["layers"]) is int
        results.space.validate(results.configuration(trial))
    assert results.best_config == suggested[results.best().trial]


def test_mixed_kinds_of_values_survive(tmp_path):
    space = {
        "kind": {"domain": "choice", "values": [None, "a", 3, 0.5, True, {"tuple": [1, 2]}]},
        "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
        "optimizer": {"domain": "choice", "values": ["adam"]},
        "model": {"layers": 3},
    }
    results = load(record_run(tmp_path / "mixed", space=space, num_samples=40, max_epochs=3))
    found = {repr(results.configuration(trial)["kind"]) for trial in results.trials["trial"]}
    assert found == {"None", "'a'", "3", "0.5", "True", "(1, 2)"}
    written = pd.read_parquet(results.to_parquet(tmp_path / "out") / "trials.parquet")
    assert set(written["config/kind"]) == {"null", "a", "3", "0.5", "true", "[1, 2]"}


def test_whole_and_broken_numbers_of_one_choice_come_back_as_they_are(tmp_path):
    space = {
        "x": {"domain": "choice", "values": [1, 2.5]},
        "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
        "optimizer": "adam",
        "model": {"layers": 3},
    }
    results = load(record_run(tmp_path / "r", space=space, num_samples=12, max_epochs=1))
    found = {repr(results.configuration(trial)["x"]) for trial in results.trials["trial"]}
    assert found == {"1", "2.5"}


def test_an_unknown_trial_is_refused_with_those_that_there_are(results):
    with pytest.raises(SpecError, match="there are trial_00000 to trial_00059"):
        results.configuration("trial_99999")


def test_curves_are_epochs_by_trials(results):
    curves = results.curves()
    assert curves.shape == (27, 60)
    row = results.reports.iloc[100]
    assert curves.loc[row["resource"], row["trial"]] == row["value"]
    assert results.curves("train_loss").loc[2].dropna().eq(0.5).all()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_written_frames_read_back_with_the_schema_beside_them(results, tmp_path, kind):
    folder = getattr(results, f"to_{kind}")(tmp_path / "frames")
    read = pd.read_parquet if kind == "parquet" else pd.read_csv
    for name in FRAMES:
        frame = read(folder / f"{name}.{kind}")
        original = getattr(results, name)
        assert list(frame.columns) == list(original.columns)
        assert len(frame) == len(original)
    if kind == "parquet":
        pd.testing.assert_frame_equal(read(folder / "reports.parquet"), results.reports)
    described = json.loads((folder / "schema.json").read_text())
    assert described["schema_version"] == SCHEMA_VERSION
    assert described["metric"] == "validation_accuracy"


def test_a_folder_that_cannot_be_written_is_a_clear_error(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        results.to_csv(tmp_path / "file")


def with_checkpoint(tmp_path, *, exists):
    """A run whose best trial has saved a checkpoint, which may have been deleted."""
    folder = record_run(tmp_path / "saved", num_samples=6, max_epochs=3, keep_best=2)
    lines = (folder / LOG_FILE).read_text().splitlines(keepends=True)
    trial = load(folder).best().trial
    at = max(i for i, line in enumerate(lines) if '"reported"' in line and f'"{trial}"' in line)
    saved = {
        "event": "saved",
        "time": json.loads(lines[at])["time"],
        "trial": trial,
        "resource": json.loads(lines[at])["resource"],
        "checkpoint": f"{trial}/checkpoint_000002",
        "bytes": 10,
    }
    lines.insert(at + 1, json.dumps(saved) + "\n")
    (folder / LOG_FILE).write_text("".join(lines))
    if exists:
        (folder / trial / "checkpoint_000002").mkdir(parents=True)
    return load(folder), trial


def test_the_best_checkpoint_is_a_folder_here(tmp_path):
    results, trial = with_checkpoint(tmp_path, exists=True)
    assert results.best_checkpoint() == results.folder / trial / "checkpoint_000002"


def test_a_deleted_checkpoint_says_when_why_and_how_to_train_again(tmp_path):
    results, trial = with_checkpoint(tmp_path, exists=False)
    with pytest.raises(CheckpointError) as caught:
        results.best_checkpoint()
    told = str(caught.value)
    assert trial in told
    assert "keep_best=2" in told
    assert "after epoch 3 on 2023-11-14" in told or "2023-11-1" in told
    assert "--retrain-best" in told


def test_a_trial_that_never_saved_says_so(results):
    with pytest.raises(CheckpointError, match="never wrote a checkpoint"):
        results.checkpoint("trial_00000")
