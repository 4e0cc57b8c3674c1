"""The recorder: what it writes suffices to rebuild searcher, scheduler and state."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ahu.errors import RecordError
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import RunLog, dumps, read_events
from raytune_ahu.retention import Retention
from raytune_ahu.run_folder import unfinished_trials
from raytune_ahu.run_state import RunState
from raytune_ahu.search import build_searcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, Suggestion, TrialStatus, model_level
from schedulers import build_scheduler

MAX_EPOCHS = 9


@pytest.fixture
def space():
    return SearchSpace.from_dict(
        {
            "x": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
            "optimizer": {"domain": "choice", "values": ["sgd", "adam"]},
            "momentum": {
                "domain": "uniform",
                "lower": 0.0,
                "upper": 0.9,
                "when": {"optimizer": "sgd"},
            },
        }
    )


def make_recorder(space, search="bohb", scheduler="asha", seed=0):
    pure = build_scheduler(scheduler, max_resource=MAX_EPOCHS, mode="min", seed=seed)
    searcher = build_searcher(
        search, space, mode="min", seed=seed, rung_levels=pure.rung_levels, options={}
    )
    return Recorder(searcher, pure, mode="min")


def loss(configuration, epoch):
    value = (configuration["x"] - 0.3) ** 2 + 0.5 / epoch
    return math.nan if configuration["x"] > 0.95 else value


def drive(recorder, steps, rng, *, first=0, workers=3):
    """A driver with three workers that finish their epochs in random order."""
    running = {t.trial_id: t.resource for t in recorder.state.trials.values() if is_running(t)}
    new = first
    for _ in range(steps):
        while len(running) < workers:
            trial_id = recorder.next_trial()
            if trial_id is not None:
                recorder.resume(trial_id)
            else:
                trial_id, new = f"trial_{new:05d}", new + 1
                recorder.suggest(trial_id)
            recorder.record("started", trial=trial_id, resource=0)
            running[trial_id] = recorder.state.trials[trial_id].resource
        trial_id = sorted(running)[rng.integers(len(running))]
        running[trial_id] += 1
        configuration = recorder.state.trials[trial_id].configuration
        decision = recorder.report(
            Report(trial_id, running[trial_id], loss(configuration, running[trial_id]))
        )
        if decision.value == "continue":
            continue
        del running[trial_id]
        if decision.value == "stop":
            recorder.finish(trial_id, TrialStatus.STOPPED)
    return new


def is_running(trial):
    return not trial.status.is_final and trial.status is not TrialStatus.PAUSED


@pytest.mark.parametrize("scheduler", ["asha", "asha-promotion"])
@pytest.mark.parametrize("search", ["bohb", "random"])
def test_replaying_the_log_gives_back_searcher_scheduler_and_state(
    tmp_path, space, search, scheduler
):
    straight = make_recorder(space, search, scheduler)
    with RunLog(tmp_path) as log:
        straight.attach(log)
        new = drive(straight, 150, np.random.default_rng(1))
    replayed = make_recorder(space, search, scheduler)
    replayed.replay(read_events(tmp_path))
    assert replayed.state == straight.state
    assert replayed.rungs() == straight.rungs()
    # Both go on in the same way for the same reports.
    logs = []
    for name, recorder in (("straight", straight), ("replayed", replayed)):
        (tmp_path / name).mkdir()
        with RunLog(tmp_path / name) as log:
            recorder.attach(log)
            drive(recorder, 100, np.random.default_rng(2), first=new)
        logs.append([dumps({**e, "time": 0}) for e in read_events(tmp_path / name)])
    assert logs[0] == logs[1]
    assert len(logs[0]) > 100


def test_a_log_of_another_search_space_is_refused(tmp_path, space):
    recorder = make_recorder(space, seed=0)
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        drive(recorder, 5, np.random.default_rng(0))
    other = SearchSpace.from_dict({"y": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})
    with pytest.raises(RecordError, match="trial_00000"):
        make_recorder(other).replay(read_events(tmp_path))


def test_every_decision_is_on_file_when_the_driver_learns_it(tmp_path, space):
    recorder = make_recorder(space, "random")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("a")
        decision = recorder.report(Report("a", 1, 0.5, {"accuracy": 0.9}))
        newest = list(read_events(tmp_path))[-1]
    assert newest["event"] == "reported"
    assert newest["decision"] == decision.value
    assert newest["metrics"] == {"accuracy": 0.9}


def test_finishing_twice_is_recorded_once(tmp_path, space):
    recorder = make_recorder(space, "random")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("a")
        recorder.finish("a", TrialStatus.FAILED)
        recorder.finish("a", TrialStatus.STOPPED)
    finished = [event for event in read_events(tmp_path) if event["event"] == "finished"]
    assert [event["status"] for event in finished] == ["failed"]


def test_recording_without_a_log_is_an_error(space):
    with pytest.raises(RuntimeError, match="attach"):
        make_recorder(space, "random").suggest("a")


def events_of(*values, mode_events=()):
    events = [
        {"event": "run_started", "time": 0.0},
        {
            "event": "suggested",
            "time": 1.0,
            "trial": "a",
            "origin": "model@3",
            "configuration": {"x": 1},
        },
    ]
    for resource, value in enumerate(values, start=1):
        events.append(
            {
                "event": "reported",
                "time": 1.0 + resource,
                "trial": "a",
                "resource": resource,
                "value": value,
                "decision": "continue",
                "metrics": {"time_this_iter_s": 0.5},
            }
        )
    return events


def state_of(mode, events):
    state = RunState(mode)
    for event in events:
        state.apply(event)
    return state


def test_the_incumbent_is_the_best_finite_value_with_the_epoch_it_was_seen_at():
    state = state_of("max", events_of(0.5, 0.9, math.nan, math.inf, 0.7))
    assert state.incumbent is not None
    assert (state.incumbent.value, state.incumbent.resource) == (0.9, 2)
    trial = state.trials["a"]
    assert (trial.value, trial.best_value, trial.best_resource) == (0.7, 0.9, 2)
    assert trial.epochs_run == 5
    assert trial.seconds == 2.5


def test_time_between_two_sessions_does_not_count():
    events = [*events_of(0.5), {"event": "run_started", "time": 1000.0}]
    events.append({"event": "run_ended", "time": 1003.0, "reason": "finished"})
    state = state_of("min", events)
    assert state.seconds == 5.0
    assert state.sessions == 2
    assert state.ended == "finished"


def test_the_share_of_model_based_suggestions_is_known():
    assert state_of("min", events_of()).model_share == 1.0
    assert math.isnan(RunState("min").model_share)


def by_model(trial="b", origin="model@9", **based_on):
    event = {"event": "suggested", "time": 2.0, "trial": trial, "origin": origin}
    return {**event, "configuration": {}, **based_on}


def test_the_newest_trial_of_a_model_and_what_it_was_based_on_are_known():
    assert RunState("min").newest_by_model is None
    old = state_of("min", events_of())  # a log without these keys
    assert (old.newest_by_model.trial_id, old.newest_by_model.model) == ("a", None)
    based_on = {"model": "gp", "expected_improvement": 0.25}
    state = state_of("min", [*events_of(), by_model(**based_on), by_model("c", "random")])
    assert state.newest_by_model is state.trials["b"]
    assert (state.trials["b"].model, state.trials["b"].expected_improvement) == ("gp", 0.25)
    assert state.trials["c"].model is None
    assert state.trials["c"].expected_improvement is None


class Expecting:
    """A searcher that says what it expects, a little more at every call of any of its kind."""

    calls = 0

    def suggest(self, trial_id):
        type(self).calls += 1
        if trial_id == "a":
            return Suggestion({"x": 0.5}, "random")
        return Suggestion(
            {"x": 0.5}, "model@3", model="gp", expected_improvement=0.5 + self.calls / 100
        )

    def recall(self, trial_id, configuration, origin):
        return configuration


def test_what_a_suggestion_was_based_on_is_recorded_and_replayed_from_the_log(tmp_path):
    def make():
        return Recorder(
            Expecting(), build_scheduler("asha", max_resource=9, mode="min"), mode="min"
        )

    recorder = make()
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        for trial in ("a", "b"):
            recorder.suggest(trial)
    drawn, proposed = read_events(tmp_path)
    assert drawn.keys() == {"event", "time", "trial", "origin", "configuration"}
    assert (proposed["model"], proposed["expected_improvement"]) == ("gp", 0.52)
    replayed = make()
    replayed.replay([drawn, proposed])
    assert replayed.state == recorder.state
    older = make()
    older.replay([drawn, {k: proposed[k] for k in drawn}])
    assert older.state.trials["b"].expected_improvement is None


@pytest.mark.parametrize("expected", [-1e-9, math.nan, math.inf])
def test_an_expected_improvement_is_finite_and_not_negative(expected):
    with pytest.raises(ValueError, match=rf"expected_improvement={expected} must be finite and at"):
        Suggestion({}, "model@1", model="gp", expected_improvement=expected)
    assert Suggestion({}, "model@1", model="gp", expected_improvement=0.0).is_model_based


@pytest.mark.parametrize(
    ("origin", "level"),
    [("model@27", 27), ("random", None), ("27", None), ("model@unknown", None), ("prior", None)],
)
def test_the_level_of_a_model_is_read_from_the_origin(origin, level):
    assert model_level(origin) == level


def test_an_unknown_kind_of_event_is_passed_over():
    RunState("min").apply({"event": "from_the_future", "time": 0.0})


def test_a_log_cut_at_any_line_can_be_resumed(tmp_path, space):
    """Whatever the moment of a kill: the state is legal, and every trial is ended or goes on."""
    recorder = make_recorder(space, "random", "asha-promotion")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.record("run_started", session=1)
        drive(recorder, 80, np.random.default_rng(3))
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 100
    for cut in range(1, len(lines) + 1):
        folder = tmp_path / f"cut_{cut}"
        folder.mkdir()
        (folder / "log.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut - 1][:7])
        resumed = make_recorder(space, "random", "asha-promotion")
        resumed.replay(read_events(folder))
        with RunLog(folder) as log:
            resumed.attach(log)
            restored = unfinished_trials(resumed, Retention(resumed.state, 3))
        final = {t.trial_id for t in resumed.state.trials.values() if t.status.is_final}
        assert final | {trial.trial_id for trial in restored} == resumed.state.trials.keys()
        assert not final & {trial.trial_id for trial in restored}
        for trial in resumed.state.trials.values():
            if trial.value is not None and math.isnan(trial.value):
                assert trial.status is TrialStatus.FAILED


def faulty(kind, *, fault="worker lost", resource=1):
    """Events of a trial that repeats an epoch and has the same fault again."""
    event = {"time": 0.0, "trial": "t"}
    if kind == "reported":
        return {
            **event,
            "event": kind,
            "resource": resource,
            "value": 0.5,
            "decision": "continue",
            "metrics": {},
        }
    return {**event, "event": "errored", "fault": fault, "error": "x", "will_retry": True}


def test_losses_count_until_the_trial_gets_further_than_ever_before():
    suggested = {"event": "suggested", "time": 0, "trial": "t", "origin": "random"}
    state = state_of("min", [{**suggested, "configuration": {}}])
    trial = state.trials["t"]
    losses = []
    for resource in (1, 1, 1, 2):
        state.apply(faulty("reported", resource=resource))
        state.apply(faulty("errored"))
        losses.append(trial.losses)
    assert losses == [1, 2, 3, 1]


@pytest.mark.parametrize(("resource", "saved", "goes_on"), [(9, 8, True), (9, 6, False)])
def test_a_trial_told_to_stop_repeats_its_last_epoch_only_if_that_is_all_that_is_missing(
    tmp_path, space, resource, saved, goes_on
):
    recorder = make_recorder(space, "random", "asha")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("t")
        for epoch in range(1, resource + 1):
            recorder.report(Report("t", epoch, 0.5))
            if epoch == saved:
                recorder.record("saved", trial="t", resource=epoch, checkpoint="t/c_1", bytes=1)
        restored = unfinished_trials(recorder, Retention(recorder.state, 3))
    assert bool(restored) == goes_on
    final = None if goes_on else TrialStatus.COMPLETED
    assert recorder.state.trials["t"].status is (final or TrialStatus.RUNNING)
    assert recorder.state.trials["t"].resource == 9


def test_a_trial_that_was_given_up_just_before_a_kill_stays_failed(tmp_path, space):
    recorder = make_recorder(space, "random", "asha")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("t")
        recorder.record("errored", trial="t", fault="exception", error="x", will_retry=False)
        assert unfinished_trials(recorder, Retention(recorder.state, 3)) == []
    assert recorder.state.trials["t"].status is TrialStatus.FAILED


def test_an_event_that_does_not_follow_is_named(tmp_path, space):
    recorder = make_recorder(space, "random")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("trial_00000")
    events = list(read_events(tmp_path))
    with pytest.raises(RecordError, match=r"event 2 of the log \(suggested of trial_00000\)"):
        make_recorder(space, "random").replay([*events, *events])


def test_tuples_come_back_as_tuples_on_replay(tmp_path):
    space = SearchSpace.from_dict(
        {"shape": {"domain": "choice", "values": [{"tuple": [3, 3]}, {"tuple": [5, 5]}]}}
    )
    recorder = make_recorder(space, "random")
    with RunLog(tmp_path) as log:
        recorder.attach(log)
        recorder.suggest("a")
    replayed = make_recorder(space, "random")
    replayed.replay(read_events(tmp_path))
    for made in (recorder, replayed):
        assert made.state.trials["a"].configuration["shape"] in ((3, 3), (5, 5))
    assert replayed.state == recorder.state
