"""Opening runs in every state that a folder can be in."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from raytune_ahu.errors import MetricError, RecordError, RunNotFoundError, SpecError
from raytune_ahu.finding import read_spec
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_events
from raytune_ahu.results import load
from raytune_ahu.results.schema import CATEGORIES, FRAMES
from raytune_ahu.run_state import RunState
from raytune_ahu.search import searcher_for
from raytune_ahu.storage import CheckpointStorage
from schedulers import scheduler_for
from tests.recorded_runs import record_run


def copied(run, tmp_path, name="copy"):
    target = tmp_path / name
    shutil.copytree(run, target)
    return target


def events_of(folder):
    return (folder / LOG_FILE).read_text().splitlines(keepends=True)


def cut(folder, keep):
    """Keep the events for which `keep(event)` is true."""
    kept = [line for line in events_of(folder) if keep(json.loads(line))]
    (folder / LOG_FILE).write_text("".join(kept))


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_frames_have_the_columns_and_dtypes_of_the_schema(asha_run, name):
    frame = getattr(load(asha_run), name)
    plain = [column for column in FRAMES[name] if not column.name.endswith("*")]
    assert list(frame.columns[: len(plain)]) == [column.name for column in plain]
    for column in plain:
        assert str(frame[column.name].dtype).startswith(column.dtype.split("[")[0]), column
    prefixes = tuple(c.name[:-1] for c in FRAMES[name] if c.name.endswith("*"))
    assert all(str(c).startswith(prefixes) for c in frame.columns[len(plain) :])


def test_hyperparameters_have_their_true_dtypes_and_nothing_where_inactive(asha_run):
    trials = load(asha_run).trials
    dtypes = {name: str(dtype) for name, dtype in trials.dtypes.items()}
    assert dtypes["config/optimizer"].startswith("string")
    assert dtypes["config/model/layers"] == "int64"
    assert dtypes["config/lr"] == dtypes["config/momentum"] == "float64"
    inactive = trials["config/optimizer"] == "adam"
    assert (trials["config/momentum"].isna() == inactive).all()
    assert inactive.any()
    assert not inactive.all()


def test_trials_agree_with_the_state_that_a_resumed_run_starts_from(asha_run):
    state = RunState("max")
    for event in read_events(asha_run):
        state.apply(event)
    trials = load(asha_run).trials
    for row, trial in zip(trials.itertuples(index=False), state.trials.values(), strict=True):
        assert row.trial == trial.trial_id
        assert row.status == trial.status.value
        assert row.origin == trial.origin
        assert (row.resource, row.epochs_run) == (trial.resource, trial.epochs_run)
        assert math.isnan(row.best_value) if trial.best_value is None else True
        assert trial.best_value is None or row.best_value == trial.best_value


def test_trials_tell_what_their_suggestions_were_based_on(asha_run, tmp_path):
    trials = load(asha_run).trials
    by_model = trials["origin"].str.startswith("model@")
    assert set(trials["model"][by_model]) == {"kde"}
    assert trials["model"][~by_model].isna().all()
    assert trials["expected_improvement"].isna().all()
    folder = copied(asha_run, tmp_path)
    events = [json.loads(line) for line in events_of(folder)]
    expecting = [event for event in events if event.get("model")]
    for number, event in enumerate(expecting):
        event |= {"model": "gp", "expected_improvement": number / 8}
    (folder / LOG_FILE).write_text("".join(json.dumps(event) + "\n" for event in events))
    trials = load(folder).trials
    assert set(trials["model"][by_model]) == {"gp"}
    assert trials["expected_improvement"][by_model].tolist() == [
        number / 8 for number in range(len(expecting))
    ]


def test_a_log_that_does_not_know_the_models_is_read_and_leaves_them_open(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    events = [json.loads(line) for line in events_of(folder)]
    for event in events:
        event.pop("model", None)
    (folder / LOG_FILE).write_text("".join(json.dumps(event) + "\n" for event in events))
    old, new = load(folder).trials, load(asha_run).trials
    assert old["model"].isna().all()
    assert str(old["model"].dtype) == str(new["model"].dtype)
    pd.testing.assert_frame_equal(old.drop(columns="model"), new.drop(columns="model"))


def test_rungs_agree_with_those_of_the_scheduler(asha_run, promotion_run):
    for run in (asha_run, promotion_run):
        spec = read_spec(run)
        scheduler = scheduler_for(spec)
        recorder = Recorder(searcher_for(spec, scheduler.rung_levels), scheduler, mode=spec.mode)
        recorder.replay(read_events(run))
        rungs = load(run).rungs
        for row, rung in zip(rungs.itertuples(index=False), recorder.rungs(), strict=True):
            assert (row.level, row.entrants, row.survivors) == (
                rung.level,
                rung.entrants,
                rung.survivors,
            )
            if rung.level < spec.max_epochs:
                assert row.cutoff == pytest.approx(rung.cutoff)


def test_diverged_trials_are_failed_and_their_values_are_not_numbers(asha_run):
    results = load(asha_run)
    failed = results.trials[results.trials["status"] == "failed"]
    assert len(failed) > 0
    assert failed["best_value"].isna().all()
    assert (failed["config/lr"] > 0.5).all()
    reports = results.reports
    assert reports.loc[reports["trial"].isin(failed["trial"]), "value"].isna().all()


def test_reports_have_one_row_a_trial_and_epoch_with_every_metric(asha_run):
    reports = load(asha_run).reports
    assert not reports.duplicated(["trial", "resource"]).any()
    assert (reports["metric/train_loss"] == 1.0 / reports["resource"]).all()
    finite = reports["value"].notna()
    assert (reports["metric/validation_accuracy"] == reports["value"])[finite].all()
    assert reports["time_s"].is_monotonic_increasing
    assert list(reports["decision"].cat.categories) == list(CATEGORIES["decision"])
    assert "metric/hostname" not in reports


def test_a_repeated_epoch_counts_once_and_is_known_as_cost(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = events_of(folder)
    at = next(i for i, line in enumerate(lines) if '"reported"' in line and '"continue"' in line)
    again = json.loads(lines[at])
    trial = again["trial"]
    again["value"] = 0.123
    (folder / LOG_FILE).write_text(
        "".join([*lines[: at + 1], json.dumps(again) + "\n", *lines[at + 1 :]])
    )
    before, after = load(asha_run), load(folder)
    assert len(after.reports) == len(before.reports)
    mine = after.reports[after.reports["trial"] == trial].set_index("resource")
    row = mine.loc[again["resource"]]
    assert row["value"] == 0.123
    assert after.trial(trial)["epochs_run"] == before.trial(trial)["epochs_run"] + 1
    assert after.reports["epochs_so_far"].iloc[-1] == len(before.reports) + 1
    assert after.trials["best_value"].max() == after.best().value


def test_intervals_of_a_promoted_trial_are_its_stays_on_workers(promotion_run):
    results = load(promotion_run)
    counts = results.intervals.groupby("trial").size()
    trial = counts.idxmax()
    stays = results.intervals[results.intervals["trial"] == trial]
    assert len(stays) > 1
    assert list(stays["ended"])[:-1] == ["paused"] * (len(stays) - 1)
    assert (stays["from_resource"].iloc[1:].to_numpy() == stays["to_resource"].iloc[:-1]).all()
    assert (stays["end_s"] > stays["start_s"]).all()


def test_no_two_trials_share_a_worker_at_the_same_time(asha_run):
    stays = load(asha_run).intervals.dropna(subset="worker")
    for _, worker in stays.sort_values("start_s").groupby("worker"):
        assert (worker["start_s"].iloc[1:].to_numpy() >= worker["end_s"].iloc[:-1].to_numpy()).all()


def test_a_moved_and_renamed_folder_is_read_like_the_original(asha_run, tmp_path):
    moved = load(copied(asha_run, tmp_path, "my copy, 2026"))
    original = load(asha_run)
    assert moved.name == "my copy, 2026"
    pd.testing.assert_frame_equal(moved.trials, original.trials)
    pd.testing.assert_frame_equal(moved.reports, original.reports)


def test_a_run_is_found_by_its_name(asha_run):
    found = load(asha_run.name, storage_path=str(asha_run.parent))
    assert found.folder == asha_run.resolve()


def test_a_run_in_an_object_store_is_read_by_its_uri(asha_run, tmp_path, s3_server):
    place = s3_server.format("results")
    recorded = json.loads((asha_run / SPEC_FILE).read_text())
    recorded["spec"]["storage_path"] = place
    storage = CheckpointStorage(place, "asha")
    storage.write_bytes(storage.full(SPEC_FILE), json.dumps(recorded).encode())
    storage.write_bytes(storage.full(LOG_FILE), (asha_run / LOG_FILE).read_bytes())
    base, _, options = place.partition("?")
    results = load(f"{base}/asha?{options}", record_path=str(tmp_path))
    pd.testing.assert_frame_equal(results.trials, load(asha_run).trials)
    assert results.folder == tmp_path / "asha"


def test_a_torn_last_line_is_left_out_with_a_note(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    whole = (folder / LOG_FILE).read_bytes()
    (folder / LOG_FILE).write_bytes(whole[:-7])
    results = load(folder)
    assert any("unfinished" in note for note in results.notes)
    assert results.ended is None
    assert len(results.trials) == 60


def test_every_prefix_of_a_log_gives_frames_with_consistent_figures(promotion_run, tmp_path):
    folder = copied(promotion_run, tmp_path)
    lines = events_of(folder)
    for count in {1, 2, 3, 5, 10, 50, len(lines) // 2, len(lines) - 1}:
        (folder / LOG_FILE).write_text("".join(lines[:count]))
        results = load(folder)
        assert len(results.trials) == sum('"suggested"' in line for line in lines[:count])
        assert results.trials["epochs_run"].sum() == len(results.reports)
        assert results.ended is None
        assert results.rungs["entrants"].is_monotonic_decreasing


def test_a_damaged_line_is_named(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = events_of(folder)
    lines[9] = '{"event": "repo\n'
    (folder / LOG_FILE).write_text("".join(lines))
    with pytest.raises(RecordError, match=r"line 10 of .*log\.jsonl is damaged"):
        load(folder)


@pytest.mark.parametrize("line", ["null", "[1]", "7", '{"no": "event"}'])
def test_a_line_that_is_no_event_is_named(asha_run, tmp_path, line):
    folder = copied(asha_run, tmp_path)
    lines = events_of(folder)
    lines.insert(20, line + "\n")
    (folder / LOG_FILE).write_text("".join(lines))
    with pytest.raises(RecordError, match=r"line 21 of .* is damaged"):
        load(folder)


def test_two_events_on_one_line_are_damage(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = events_of(folder)
    lines[9:11] = [lines[9].rstrip() + "," + lines[10]]
    (folder / LOG_FILE).write_text("".join(lines))
    with pytest.raises(RecordError, match=r"line 10 of .* is damaged"):
        load(folder)


def test_a_stay_on_a_worker_took_what_a_trial_took_then(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = [json.loads(line) for line in events_of(folder)]
    half = len(lines) // 2
    lines[0]["resources"] = {"cpus": 2.0, "gpus": 1.0}
    again = {**lines[0], "time": lines[half]["time"], "resources": {"cpus": 1.0, "gpus": 0.25}}
    lines.insert(half, again)
    (folder / LOG_FILE).write_text("".join(json.dumps(event) + "\n" for event in lines))
    intervals = load(folder).intervals
    second = load(folder).sessions["start_s"].iloc[1]
    assert (intervals["gpus"] == 1.0).eq(intervals["start_s"] < second).all()
    assert set(intervals["cpus"]) == {1.0, 2.0}


def test_an_event_that_follows_from_nothing_is_named(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    cut(folder, lambda event: event["event"] != "suggested")
    with pytest.raises(RecordError, match=r"event 2 of the log \(started of trial_00000\)"):
        load(folder)


def test_a_run_without_trials_and_one_without_a_log_are_empty_frames(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    cut(folder, lambda event: event["event"] in ("run_started", "run_ended"))
    empty = load(folder)
    (folder / LOG_FILE).unlink()
    gone = load(folder)
    for results in (empty, gone):
        assert len(results.trials) == len(results.reports) == len(results.intervals) == 0
        with pytest.raises(MetricError, match="it has no trials yet"):
            results.best()
    assert any("is missing" in note for note in gone.notes)


def test_a_run_of_failures_says_so(tmp_path):
    results = load(record_run(tmp_path / "bad", num_samples=5, diverges_above=0.0))
    assert (results.trials["status"] == "failed").all()
    with pytest.raises(MetricError, match="its 5 trials are 5 failed"):
        results.best()
    assert results.rungs["cutoff"].isna().all()


def test_a_run_of_one_trial_has_a_best_one(tmp_path):
    results = load(record_run(tmp_path / "one", num_samples=1))
    assert results.best().trial == "trial_00000"
    assert results.best().resource == results.trials["best_resource"].iloc[0]


def test_what_is_no_run_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RunNotFoundError, match=r"spec\.json and log\.jsonl.*result\.json"):
        load(tmp_path / "nothing")
    with pytest.raises(RunNotFoundError, match="not an empty text"):
        load("")


def test_a_record_without_its_specification_is_refused(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    (folder / SPEC_FILE).unlink()
    with pytest.raises(RecordError, match="has a log but no spec"):
        load(folder)


def test_a_record_of_a_newer_version_is_refused_as_such(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    recorded = json.loads((folder / SPEC_FILE).read_text())
    recorded["spec"]["spec_version"] = 99
    (folder / SPEC_FILE).write_text(json.dumps(recorded))
    with pytest.raises(RecordError, match=r"written by a newer version \(spec_version=99"):
        load(folder)


def test_metric_and_mode_are_for_other_peoples_runs(asha_run):
    with pytest.raises(SpecError, match="are in its record"):
        load(asha_run, metric="loss", mode="min")


def test_unknown_kinds_of_events_are_passed_over(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = events_of(folder)
    new = json.dumps({"event": "celebrated", "time": json.loads(lines[5])["time"]}) + "\n"
    (folder / LOG_FILE).write_text("".join([*lines[:5], new, *lines[5:]]))
    pd.testing.assert_frame_equal(load(folder).trials, load(asha_run).trials)


def test_idle_time_between_sessions_is_left_out_of_the_clock(asha_run, tmp_path):
    folder = copied(asha_run, tmp_path)
    lines = [json.loads(line) for line in events_of(folder)]
    half = len(lines) // 2
    begun = {**lines[0], "session": 2, "time": lines[half]["time"] + 5000.0}
    later = [{**event, "time": event["time"] + 5000.0} for event in lines[half:]]
    text = [*lines[:half], begun, *later]
    (folder / LOG_FILE).write_text("".join(json.dumps(event) + "\n" for event in text))
    before, after = load(asha_run), load(folder)
    assert after.wall_s == pytest.approx(before.wall_s, abs=10)
    assert list(after.sessions["session"]) == [1, 2]
    assert after.sessions["reason"].isna().tolist() == [True, False]
    assert after.reports["session"].max() == 2
    assert np.isclose(after.reports["time_s"], before.reports["time_s"], atol=10).all()
