"""The live view and the plain lines, from a recorder that was fed by hand."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from raytune_ahu.adapters import progress
from raytune_ahu.adapters.progress import (
    LiveProgress,
    PlainProgress,
    format_configuration,
    format_search,
    format_seconds,
    make_progress,
)
from raytune_ahu.adapters.summary import best_trials, cost_line
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import RunLog
from raytune_ahu.run_state import RunState
from raytune_ahu.search import build_searcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus
from schedulers import AshaStopping


@pytest.fixture
def spec(tmp_path):
    return ExperimentSpec(
        name="shown",
        trainable="a:B",
        space=SearchSpace.from_dict({"lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0}}),
        metric="accuracy",
        mode="max",
        max_epochs=9,
        num_samples=10,
        time_budget_s=3600.0,
        storage_path=str(tmp_path),
    )


@pytest.fixture
def recorder(spec, tmp_path):
    scheduler = AshaStopping(max_resource=9, mode="max")
    searcher = build_searcher(
        "random", spec.space, mode="max", seed=0, rung_levels=scheduler.rung_levels
    )
    made = Recorder(searcher, scheduler, mode="max")
    with RunLog(tmp_path) as log:
        made.attach(log)
        made.record("run_started", session=1)
        yield made


def feed(recorder):
    for trial_id, values in {"a": [0.5, 0.9, 0.8], "b": [0.2], "c": [float("nan")]}.items():
        recorder.suggest(trial_id)
        recorder.record("started", trial=trial_id, resource=0)
        for epoch, value in enumerate(values, start=1):
            recorder.report(Report(trial_id, epoch, value))
    recorder.finish("b", TrialStatus.STOPPED)
    recorder.finish("c", TrialStatus.FAILED)


def shown(make, width=120):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(make)
    return console.file.getvalue()


def test_the_panel_shows_trials_rungs_incumbent_and_budget(recorder, spec):
    feed(recorder)
    view = make_progress(recorder, spec, Console(file=io.StringIO(), force_terminal=True))
    assert isinstance(view, LiveProgress)
    text = shown(view.render())
    assert "shown: bohb (gp) + asha" in text
    assert "3 of 10 trials: 1 running · 0 paused · 0 completed · 1 stopped · 1 failed" in text
    assert "of 1:00:00 · 5 epochs · 0% model-based" in text
    assert "best accuracy=0.9 at epoch 2 (a)" in text
    assert "a epoch 3/9 accuracy=0.8" in text
    rung_rows = [line.split()[1:5] for line in text.splitlines() if line.startswith("│ ")]
    assert ["1", "3", "1", "0.5"] in rung_rows
    assert ["3", "1", "1", "0.8"] in rung_rows


def test_the_panel_can_be_drawn_before_anything_happened_and_in_a_narrow_window(recorder, spec):
    console = Console(file=io.StringIO(), force_terminal=True, width=30)
    view = make_progress(recorder, spec, console)
    with view:
        view.refresh()
    feed(recorder)
    assert "accuracy" in shown(view.render(), width=30)


def by_model(recorder, trial="m", level=9, **based_on):
    recorder.record(
        "suggested", trial=trial, origin=f"model@{level}", configuration={"lr": 0.1}, **based_on
    )


def test_the_model_its_level_and_what_it_expects_are_shown(recorder, spec):
    feed(recorder)
    assert format_search(recorder.state) == "0% model-based"
    by_model(recorder, model="gp", expected_improvement=0.00312)
    told = "25% model-based (gp, fitted up to epoch 9), expects +0.0031"
    assert format_search(recorder.state) == told
    view = make_progress(recorder, spec, Console(file=io.StringIO(), force_terminal=True))
    for width in (80, 100):
        assert told in shown(view.render(), width=width)
    out = io.StringIO()
    with make_progress(recorder, spec, Console(file=out, width=40)):
        pass
    assert f"5 epochs · {told}] 4 of 10 trials" in out.getvalue()
    by_model(recorder, "n", model="kde")
    assert format_search(recorder.state) == "40% model-based (kde, fitted up to epoch 9)"
    by_model(recorder, "old")  # by a log that does not name the model
    assert format_search(recorder.state) == "50% model-based (fitted up to epoch 9)"


def test_a_metric_that_is_minimised_is_expected_to_fall():
    event = {"event": "suggested", "time": 0.0, "trial": "a", "origin": "model@3"}
    state = RunState.of(
        "min", [{**event, "configuration": {}, "model": "gp", "expected_improvement": 0.5}]
    )
    assert format_search(state) == "100% model-based (gp, fitted up to epoch 3), expects -0.5"
    assert format_search(RunState("min")) == ""


def test_the_budget_breaks_between_its_parts_where_the_window_is_narrow(recorder, spec):
    feed(recorder)
    by_model(recorder, model="gp", expected_improvement=0.01)
    recorder.record("saved", trial="a", resource=3, checkpoint="a/checkpoint_3", bytes=345_000_000)
    view = make_progress(recorder, spec, Console(file=io.StringIO(), force_terminal=True))
    lines = [line.strip("│ ") for line in shown(view.render(), width=80).splitlines()]
    assert lines[2].endswith("of 1:00:00 · 5 epochs · checkpoints 345 MB")
    assert lines[3] == "25% model-based (gp, fitted up to epoch 9), expects +0.01"
    wide = shown(view.render(), width=120)
    assert "checkpoints 345 MB · 25% model-based (gp, fitted up to epoch 9), expects +0.01" in wide


def test_plain_lines_tell_every_new_incumbent_once(recorder, spec):
    out = io.StringIO()
    view = make_progress(recorder, spec, Console(file=out, width=40))
    assert isinstance(view, PlainProgress)
    with view:
        view.refresh()
        assert out.getvalue() == ""
        feed(recorder)
        view.refresh()
        view.refresh()
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "best accuracy=0.9 at epoch 2 (a): lr=" in lines[0]
    assert "3 of 10 trials" in lines[1]
    assert "rungs 1: 3->1" in lines[1]


def test_a_notice_is_printed_again_when_its_words_change_but_not_for_other_figures(
    recorder, spec, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    notices = {}
    out = io.StringIO()
    view = make_progress(recorder, spec, Console(file=out, width=40), lambda: notices)
    for second, text in [
        (0, "disk nearly full: 900 kB free"),
        (20, "disk nearly full: 1.2 MB free"),
        (21, "waiting for a node"),
        (29, "waiting for a node"),
        (31, "waiting for a node"),
    ]:
        now[0] = 1000.0 + second
        notices["room"] = text
        view.refresh()
    lines = [line for line in out.getvalue().splitlines() if "trials" not in line]
    assert lines == ["[0:00] disk nearly full: 900 kB free", "[0:31] waiting for a node"]


def test_the_best_trials_are_ordered_by_their_best_epoch(recorder):
    feed(recorder)
    assert [t.trial_id for t in best_trials(recorder.state, "max", 5)] == ["a", "b"]


def test_the_cost_is_compared_with_that_without_early_stopping(recorder):
    assert "0 trials, 0 epochs, " in cost_line(recorder.state, 9)
    feed(recorder)
    # "b" was stopped after 1 of 9 epochs; "a" still runs and "c" has failed: nothing saved there.
    assert "5 epochs instead of 13 (62% saved by early stopping)" in cost_line(recorder.state, 9)


def test_the_cost_names_the_model(recorder):
    feed(recorder)
    assert cost_line(recorder.state, 9).startswith("3 trials, 0% model-based, 5 epochs")
    by_model(recorder, model="gp")
    assert cost_line(recorder.state, 9).startswith("4 trials, 25% model-based (gp), 5 epochs")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0:00"), (75, "1:15"), (3600, "1:00:00"), (93784, "26:03:04")]
)
def test_durations_are_short(seconds, text):
    assert format_seconds(seconds) == text


def test_configurations_are_flat_and_floats_short():
    made = format_configuration({"model": {"lr": 0.123456789, "act": "relu"}, "n": 3})
    assert made == "model/lr=0.1235, model/act=relu, n=3"
