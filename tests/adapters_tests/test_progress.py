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
    format_seconds,
    make_progress,
)
from raytune_ahu.adapters.summary import best_trials, cost_line
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import RunLog
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


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0:00"), (75, "1:15"), (3600, "1:00:00"), (93784, "26:03:04")]
)
def test_durations_are_short(seconds, text):
    assert format_seconds(seconds) == text


def test_configurations_are_flat_and_floats_short():
    made = format_configuration({"model": {"lr": 0.123456789, "act": "relu"}, "n": 3})
    assert made == "model/lr=0.1235, model/act=relu, n=3"
