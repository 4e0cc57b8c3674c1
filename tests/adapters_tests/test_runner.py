"""Whole runs on a real Ray with two workers."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict

import pytest
from rich.console import Console

from raytune_ahu.adapters.runner import run
from raytune_ahu.adapters.summary import print_summary
from raytune_ahu.errors import (
    ClusterError,
    MetricError,
    RecordError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    SpecError,
)
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import RunLog, read_events, read_json
from raytune_ahu.run_folder import make_folder
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import TrialStatus
from schedulers import AshaStopping, scheduler_for
from schedulers.ray_scheduler import RayScheduler

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SPACE = {"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}}


def make_spec(tmp_path, **changes):
    fields = {
        "name": "toy",
        "trainable": "tests:Toy",
        "space": SearchSpace.from_dict(SPACE),
        "metric": "loss",
        "mode": "min",
        "max_epochs": 9,
        "num_samples": 20,
        "search": "bohb",
        "storage_path": str(tmp_path),
    }
    return ExperimentSpec(**{**fields, **changes})


def execute(spec, trainable, *, resume=False):
    console = Console(file=io.StringIO(), width=100)
    return run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=resume,
        console=console,
    )


def events_by_trial(folder):
    trials = defaultdict(list)
    for event in read_events(folder):
        if "trial" in event:
            trials[event["trial"]].append(event)
    return trials


def assert_record_is_complete(result):
    """Every trial was suggested once, ran epochs 1, 2, 3, ... without a gap, and ended once."""
    trials = events_by_trial(result.folder)
    assert len(trials) == len(result.state.trials)
    for trial_id, events in trials.items():
        kinds = Counter(event["event"] for event in events)
        assert events[0]["event"] == "suggested", trial_id
        assert kinds["suggested"] == kinds["finished"] == 1, (trial_id, kinds)
        assert kinds["started"] >= 1
        reports = [event for event in events if event["event"] == "reported"]
        assert [event["resource"] for event in reports] == list(range(1, len(reports) + 1))
        assert all(event["metrics"]["own_epoch"] == event["resource"] for event in reports)
        assert result.state.trials[trial_id].status.is_final


def test_bohb_learns_from_asha_on_ray(tmp_path, toy_trainable):
    """Stock Ray's TuneBOHB with ASHA makes no model-based suggestion at all."""
    spec = make_spec(tmp_path, num_samples=60, search_options={"random_fraction": 1 / 3})
    result = execute(spec, toy_trainable)
    origins = [trial.origin for trial in result.state.trials.values()]
    first = next(i for i, origin in enumerate(origins) if origin.startswith("model@"))
    after_start = origins[first:]
    assert first <= 20
    model_based = sum(origin.startswith("model@") for origin in after_start)
    assert model_based >= len(after_start) / 2
    levels = {origin for origin in origins if origin.startswith("model@")}
    assert levels <= {"model@1", "model@3", "model@9"}
    assert_record_is_complete(result)


@pytest.mark.parametrize("search", ["bohb", "random"])
@pytest.mark.parametrize("scheduler", ["asha", "asha-promotion", "none"])
def test_every_pair_ends_cleanly_with_two_workers(tmp_path, toy_trainable, search, scheduler):
    spec = make_spec(tmp_path, search=search, scheduler=scheduler, num_samples=12)
    result = execute(spec, toy_trainable)
    assert result.ended == "finished"
    assert_record_is_complete(result)
    counts = result.state.counts()
    assert counts[TrialStatus.COMPLETED] + counts[TrialStatus.STOPPED] == 12
    if scheduler == "none":
        assert counts[TrialStatus.COMPLETED] == 12
    else:
        assert counts[TrialStatus.STOPPED] >= 1
        assert counts[TrialStatus.COMPLETED] >= 1
    for trial in result.state.trials.values():
        assert (trial.status is TrialStatus.COMPLETED) == (trial.resource == 9)


def test_promotion_pauses_every_trial_at_every_milestone_and_resumes_from_its_checkpoint(
    tmp_path, toy_trainable
):
    result = execute(make_spec(tmp_path, scheduler="asha-promotion"), toy_trainable)
    for events in events_by_trial(result.folder).values():
        reports = [event for event in events if event["event"] == "reported"]
        for event in reports:
            if event["resource"] in (1, 3):
                assert event["decision"] == "pause"
        promotions = sum(event["event"] == "resumed" for event in events)
        assert promotions == sum(event["resource"] in (2, 4) for event in reports)
        restarts = [event["resource"] for event in events if event["event"] == "started"]
        assert restarts == [0, 1, 3][: len(restarts)]


def test_workers_are_reused_between_trials(tmp_path, toy_trainable):
    result = execute(make_spec(tmp_path, scheduler="asha-promotion"), toy_trainable)
    workers = {
        event["metrics"]["worker"]
        for event in read_events(result.folder)
        if event["event"] == "reported"
    }
    assert len(workers) <= 4  # two, and at most two more while the first ones start


def test_the_same_seed_gives_the_same_run_with_one_worker(tmp_path, toy_trainable):
    runs = []
    for name in ("one", "two"):
        spec = make_spec(tmp_path, name=name, max_concurrent=1, num_samples=15)
        result = execute(spec, toy_trainable)
        runs.append(
            [
                (event["event"], event["trial"], event.get("configuration"), event.get("value"))
                for event in read_events(result.folder)
                if event["event"] in ("suggested", "reported", "finished")
            ]
        )
    assert runs[0] == runs[1]


def test_a_trial_with_a_non_finite_metric_fails_at_once(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, settings={"nan_above": 0.5})
    result = execute(spec, toy_trainable)
    bad = [trial for trial in result.state.trials.values() if trial.configuration["x"] > 0.5]
    assert bad
    assert {trial.status for trial in bad} == {TrialStatus.FAILED}
    assert {trial.resource for trial in bad} == {1}
    assert result.state.incumbent is not None
    assert result.state.incumbent.configuration["x"] <= 0.5


def test_an_exception_fails_its_trial_and_is_recorded_with_its_traceback(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, settings={"raise_above": 0.5})
    result = execute(spec, toy_trainable)
    assert result.ended == "finished"
    bad = [trial for trial in result.state.trials.values() if trial.configuration["x"] > 0.5]
    assert bad
    for trial in bad:
        assert trial.status is TrialStatus.FAILED
        assert trial.error is not None
        assert "RuntimeError: x is too large" in trial.error
    console = Console(file=io.StringIO(), width=100)
    print_summary(result, console)
    assert f"{len(bad)} trials failed" in console.file.getvalue()
    assert "x is too large" in console.file.getvalue()


def test_a_trial_that_raised_goes_on_from_its_checkpoint(tmp_path, toy_trainable):
    spec = make_spec(
        tmp_path,
        num_samples=2,
        scheduler="none",
        max_failures=1,
        settings={"fail_once_at": 3},
    )
    result = execute(spec, toy_trainable)
    assert {trial.status for trial in result.state.trials.values()} == {TrialStatus.COMPLETED}
    for events in events_by_trial(result.folder).values():
        assert [event["resource"] for event in events if event["event"] == "reported"] == list(
            range(1, 10)
        )
        assert [event["resource"] for event in events if event["event"] == "started"] == [0, 2]


def test_when_every_trial_fails_the_run_ends_without_incumbent(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=4, settings={"raise_above": -1.0})
    result = execute(spec, toy_trainable)
    assert result.state.incumbent is None
    assert result.state.counts()[TrialStatus.FAILED] == 4
    console = Console(file=io.StringIO(), width=100)
    print_summary(result, console)
    assert "No trial reported a finite loss" in console.file.getvalue()


def test_a_metric_that_is_never_reported_stops_the_run_at_the_first_report(tmp_path, toy_trainable):
    with pytest.raises(MetricError, match=r"metric='accuracy'; it reports \['loss', 'own_epoch'"):
        execute(make_spec(tmp_path, metric="accuracy"), toy_trainable)
    events = list(read_events(tmp_path / "toy"))
    assert not [event for event in events if event["event"] == "reported"]
    assert events[-1]["event"] == "run_ended"


def test_a_report_that_lacks_the_metric_is_not_judged(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=8, settings={"skip_metric_at": 3})
    result = execute(spec, toy_trainable)
    assert result.ended == "finished"
    at_three = [
        event
        for event in read_events(result.folder)
        if event["event"] == "reported" and event["resource"] == 3
    ]
    assert at_three
    assert {(event["value"], event["decision"]) for event in at_three} == {(None, "continue")}


def test_the_time_budget_ends_a_run_that_can_go_on_later(tmp_path, toy_trainable):
    spec = make_spec(
        tmp_path, num_samples=None, time_budget_s=4.0, settings={"epoch_s": 0.3}, max_concurrent=1
    )
    result = execute(spec, toy_trainable)
    assert result.ended == "time budget"
    before = len(result.state.trials)
    more = execute(
        spec.replace(num_samples=before + 2, time_budget_s=None, settings={"epoch_s": 0.0}),
        toy_trainable,
        resume=True,
    )
    assert more.ended == "finished"
    assert len(more.state.trials) == before + 2
    assert_record_is_complete(more)


def test_a_finished_run_goes_on_with_more_trials(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=5)
    first = execute(spec, toy_trainable)
    again = execute(spec, toy_trainable, resume=True)
    assert again.state.trials == first.state.trials
    before = (tmp_path / "toy" / "log.jsonl").read_bytes()
    with pytest.raises(SpecError, match="num_samples=4 is fewer than the 5 trials that run 'toy'"):
        execute(spec.replace(num_samples=4), toy_trainable, resume=True)
    assert (tmp_path / "toy" / "log.jsonl").read_bytes() == before
    more = execute(spec.replace(num_samples=9), toy_trainable, resume=True)
    assert len(more.state.trials) == 9
    assert more.state.sessions == 3
    assert_record_is_complete(more)


def test_a_new_run_never_overwrites_an_old_one(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1)
    execute(spec, toy_trainable)
    before = (tmp_path / "toy" / "log.jsonl").read_bytes()
    with pytest.raises(RunExistsError, match="'toy' exists already"):
        execute(spec, toy_trainable)
    assert (tmp_path / "toy" / "log.jsonl").read_bytes() == before


def test_what_makes_the_run_cannot_be_changed_on_a_resume(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1)
    execute(spec, toy_trainable)
    before = (tmp_path / "toy" / "spec.json").read_bytes()
    with pytest.raises(SpecError, match="scheduler, seed cannot be changed"):
        execute(spec.replace(seed=1, scheduler="none"), toy_trainable, resume=True)
    assert (tmp_path / "toy" / "spec.json").read_bytes() == before


def test_a_run_killed_before_its_log_was_made_can_be_resumed(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1)
    make_folder(spec)
    assert execute(spec, toy_trainable, resume=True).ended == "finished"


def test_what_is_not_there_cannot_be_resumed(tmp_path, toy_trainable):
    with pytest.raises(RunNotFoundError):
        execute(make_spec(tmp_path), toy_trainable, resume=True)


def test_trials_that_fit_nowhere_are_refused_before_any_starts(tmp_path, toy_trainable):
    with pytest.raises(ClusterError, match=r"cpus_per_trial=64.*--cpus-per-trial 2"):
        execute(make_spec(tmp_path, cpus_per_trial=64.0), toy_trainable)
    with pytest.raises(ClusterError, match="gpus_per_trial=1"):
        execute(make_spec(tmp_path, gpus_per_trial=1.0), toy_trainable)
    assert not (tmp_path / "toy").exists()


def test_a_scheduler_of_another_length_is_refused(tmp_path, toy_trainable):
    scheduler = RayScheduler(AshaStopping(max_resource=27))
    with pytest.raises(SpecError, match="max_resource=27 must be the specification's max_epochs=9"):
        run(make_spec(tmp_path), trainable=toy_trainable, scheduler=scheduler)


def test_a_parameter_named_settings_is_refused(tmp_path, toy_trainable):
    space = SearchSpace.from_dict({"settings": SPACE["x"]})
    with pytest.raises(SpecError, match="settings"):
        execute(make_spec(tmp_path, space=space, settings={"a": 1}), toy_trainable)


def test_the_specification_is_recorded_with_what_explains_the_run(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1)
    execute(spec, toy_trainable)
    recorded = read_json(tmp_path / "toy" / "spec.json")
    assert ExperimentSpec.from_dict(recorded["spec"]) == spec
    assert dataclasses.asdict(ExperimentSpec.from_dict(recorded["spec"])) == dataclasses.asdict(
        spec
    )
    assert {"ray", "ConfigSpace", "numpy"} <= recorded["versions"].keys()
    assert {"host", "python", "command", "created", "git_commit"} <= recorded.keys()


DRIVER = """
    import sys
    import ray
    sys.path.insert(0, {root!r})
    from tests.adapters_tests import test_runner as t
    from tests import conftest

    toy = conftest.toy_trainable.__wrapped__()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    from pathlib import Path
    spec = t.make_spec(
        Path({folder!r}), scheduler={scheduler!r}, num_samples=25, settings={{"epoch_s": 0.05}}
    )
    result = t.execute(spec, toy)
    print(result.ended, flush=True)
"""


def start_driver(root, tmp_path, scheduler, code=DRIVER):
    code = textwrap.dedent(code).format(root=str(root), folder=str(tmp_path), scheduler=scheduler)
    return subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, text=True, stdout=subprocess.PIPE
    )


def wait_for_reports(driver, folder, count):
    """Wait until the log holds so many reports, reading the file again and again."""
    while True:
        assert driver.poll() is None, "the driver ended before it could be killed"
        if (folder / "log.jsonl").exists():
            reports = sum(event["event"] == "reported" for event in read_events(folder))
            if reports >= count:
                return


def cut_log(folder, last):
    """Cut the log after the first event of which `last` says so, as a kill at that moment would."""
    path = folder / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    keep = next(i for i, event in enumerate(read_events(folder)) if last(event))
    path.write_bytes(b"".join(lines[: keep + 1]))


def test_a_run_goes_on_with_fewer_workers(tmp_path, toy_trainable):
    """Running trials wait for the one worker; paused ones can be promoted all the same."""
    spec = make_spec(tmp_path, scheduler="asha-promotion", num_samples=6)
    execute(spec, toy_trainable)
    cut_log(tmp_path / "toy", lambda event: event["event"] == "reported" and event["resource"] == 3)
    resumed = execute(spec.replace(max_concurrent=1), toy_trainable, resume=True)
    assert resumed.ended == "finished"
    assert all(trial.status.is_final for trial in resumed.state.trials.values())
    assert read_json(tmp_path / "toy" / "spec.json")["spec"]["max_concurrent"] == 1
    started = [event for event in read_events(tmp_path / "toy") if event["event"] == "run_started"]
    assert started[-1]["changes"] == {"max_concurrent": 1}


def test_the_first_report_after_a_resume_may_lack_the_metric(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, scheduler="none", num_samples=1, settings={"skip_metric_at": 3})
    execute(spec, toy_trainable)
    cut_log(tmp_path / "toy", lambda event: event.get("resource") == 2)
    assert execute(spec, toy_trainable, resume=True).ended == "finished"


def test_a_trial_that_was_to_be_stopped_for_a_bad_value_is_failed_on_resume(
    tmp_path, toy_trainable
):
    spec = make_spec(tmp_path, num_samples=1, settings={"nan_above": -1.0})
    execute(spec, toy_trainable)
    cut_log(tmp_path / "toy", lambda event: event["event"] == "reported")
    resumed = execute(spec, toy_trainable, resume=True)
    assert [trial.status for trial in resumed.state.trials.values()] == [TrialStatus.FAILED]


def test_a_run_that_is_going_on_cannot_be_resumed(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1)
    execute(spec, toy_trainable)
    before = (tmp_path / "toy" / "log.jsonl").read_bytes()
    with RunLog(tmp_path / "toy"), pytest.raises(RunBusyError, match=f"pid {os.getpid()}"):
        execute(spec.replace(num_samples=2), toy_trainable, resume=True)
    assert (tmp_path / "toy" / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 200, b'{"event": "saved", "time": 1}\n'])
def test_a_log_that_is_none_is_refused_and_left_alone(tmp_path, toy_trainable, content):
    spec = make_spec(tmp_path, num_samples=1)
    execute(spec, toy_trainable)
    (tmp_path / "toy" / "log.jsonl").write_bytes(content)
    with pytest.raises(RecordError, match="restore the file from a copy"):
        execute(spec, toy_trainable, resume=True)
    assert (tmp_path / "toy" / "log.jsonl").read_bytes() == content


def test_a_worker_that_cannot_be_reset_fails_its_trial(tmp_path, toy_trainable):
    class Stubborn(toy_trainable):
        def reset_config(self, new_config):
            return False

    result = execute(make_spec(tmp_path, num_samples=4, max_concurrent=1), Stubborn)
    assert result.ended == "finished"
    statuses = [trial.status for trial in result.state.trials.values()]
    assert TrialStatus.FAILED in statuses
    assert all(status.is_final for status in statuses)


@pytest.mark.parametrize(
    ("number", "scheduler"),
    [
        (signal.SIGINT, "asha"),
        pytest.param(signal.SIGTERM, "asha-promotion", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_and_preemption_end_a_run_in_order_and_no_epoch_is_run_twice(
    root, tmp_path, toy_trainable, number, scheduler
):
    driver = start_driver(root, tmp_path, scheduler)
    wait_for_reports(driver, tmp_path / "toy", 10)
    os.kill(driver.pid, number)
    out, _ = driver.communicate()
    assert out.strip().splitlines()[-1] == "interrupted"
    assert list(read_events(tmp_path / "toy"))[-1]["reason"] == "interrupted"
    spec = make_spec(tmp_path, scheduler=scheduler, num_samples=25)
    assert_record_is_complete(execute(spec, toy_trainable, resume=True))


@pytest.mark.slow
def test_ctrl_c_before_the_first_trial_ends_a_run_in_order_as_well(root, tmp_path):
    driver = start_driver(root, tmp_path, "asha")
    wait_for_reports(driver, tmp_path / "toy", 0)
    while not (tmp_path / "toy" / "log.jsonl").read_bytes().count(b"suggested"):
        assert driver.poll() is None
    os.kill(driver.pid, signal.SIGINT)
    out, _ = driver.communicate()
    assert out.strip().splitlines()[-1] == "interrupted"
    assert driver.returncode == 0
    assert list(read_events(tmp_path / "toy"))[-1]["reason"] == "interrupted"
