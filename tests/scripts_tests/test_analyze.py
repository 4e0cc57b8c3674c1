"""`analyze.py` as a user calls it; runs are recorded in virtual time."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from raytune_ahu.records import LOG_FILE, SPEC_FILE
from raytune_ahu.space import SearchSpace
from tests.recorded_runs import record_run
from tests.scripts_tests.refusals import assert_refused


@pytest.fixture
def analyze(script):
    def call(*arguments):
        return script(*arguments, name="analyze.py")

    return call


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record_run(tmp_path_factory.mktemp("runs") / "asha", num_samples=40, max_epochs=9)


@pytest.fixture
def run(recorded, tmp_path):
    """A run in the folder `runs` of where the script is called."""
    folder = tmp_path / "runs" / "mine"
    shutil.copytree(recorded, folder)
    return folder


def test_a_run_by_its_name_gives_text_frames_and_a_page(analyze, run):
    code, out, err = analyze("mine")
    assert (code, err) == (0, "")
    for told in (
        "Best validation_accuracy",
        "Early stopping saved",
        "Spearman",
        "model-based trial",
        "lr",
        "more trials",
    ):
        assert told in out
    assert "Next: train the winner" not in out  # it is no trainable of the scripts
    folder = run / "analysis"
    assert "<html" in (folder / "report.html").read_text()[:200]
    assert len(pd.read_parquet(folder / "frames" / "trials.parquet")) == 40
    assert json.loads((folder / "frames" / "schema.json").read_text())["schema_version"] == 1
    assert f"Report: {folder / 'report.html'}" in out


def test_the_reason_of_an_automatic_search_is_told(analyze, tmp_path):
    record_run(tmp_path / "runs" / "few", num_samples=4, max_epochs=3, search="auto")
    code, out, _ = analyze("few", "--frames", "none")
    assert code == 0
    assert "few: bohb (gp) + asha-promotion, 4 trials" in out
    assert "search: bohb with model gp, for " in out


@pytest.mark.slow
def test_the_output_and_the_format_can_be_chosen(analyze, run, tmp_path):
    code, _, _ = analyze(run, "--output", tmp_path / "out", "--frames", "csv", "--at", "last")
    assert code == 0
    assert len(pd.read_csv(tmp_path / "out" / "frames" / "reports.csv")) > 40
    assert not (run / "analysis").exists()


def test_several_runs_are_compared(analyze, run, tmp_path):
    other = record_run(tmp_path / "runs" / "other", num_samples=12, max_epochs=9, seed=1)
    code, out, _ = analyze("mine", "other", "--over", "epochs", "--group", "a", "--group", "b")
    assert code == 0
    assert "of all runs after" in out
    for name in ("mine", "other"):
        assert (tmp_path / "comparison" / name / "frames" / "trials.parquet").exists()
    assert "other" in (tmp_path / "comparison" / "report.html").read_text()
    assert not (other / "analysis").exists()


def test_a_search_space_is_suggested_and_can_be_read(analyze, run, tmp_path):
    code, out, _ = analyze("mine", "--suggest-space", "next.yaml", "--frames", "none")
    assert code == 0
    assert (tmp_path / "runs" / "mine" / "analysis" / "report.html").exists()
    assert "lr" in SearchSpace.from_file(tmp_path / "next.yaml").names
    assert "Search space: next.yaml" in out


@pytest.mark.slow
def test_tensorboard_files_are_written(analyze, run):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    assert analyze("mine", "--tensorboard")[0] == 0
    assert len(list((run / "analysis" / "tensorboard").rglob("events.out.tfevents*"))) >= 40


@pytest.mark.slow
def test_watching_a_run_that_has_ended_ends_at_once(analyze, run):
    code, _, _ = analyze("mine", "--watch", "1")
    assert code == 0
    assert 'http-equiv="refresh"' not in (run / "analysis" / "report.html").read_text()[:3000]


def test_a_crashed_run_is_analysed_with_a_note(analyze, run):
    log = run / LOG_FILE
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    code, out, _ = analyze("mine")
    assert code == 0
    assert "note: the last line of log.jsonl is unfinished" in out
    assert "note: the run has no end on record" in out


@pytest.mark.parametrize("samples", [1, 3])
def test_a_run_of_failures_is_analysed_without_a_traceback(analyze, tmp_path, samples):
    record_run(tmp_path / "runs" / "bad", num_samples=samples, diverges_above=0.0)
    code, out, err = analyze("bad")
    assert (code, err) == (0, "")
    assert "reported a finite validation_accuracy" in out
    assert (tmp_path / "runs" / "bad" / "analysis" / "report.html").exists()


def test_a_run_without_trials_is_analysed(analyze, run):
    (run / LOG_FILE).write_text("")
    code, out, _ = analyze("mine")
    assert code == 0
    assert "it has no trials yet" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], ["'nowhere' is not recorded", "spec.json"]),
        (["mine", "--metric", "loss", "--mode", "min"], ["are in its record"]),
        (["mine", "--watch", "0"], ["--watch 0 must be at least 1"]),
        (["mine", "mine", "--suggest-space", "x.yaml"], ["takes one run"]),
        (["mine", "--group", "a"], ["--group is for several runs"]),
        (["mine", "mine", "--group", "a"], ["2 labels"]),
        (["mine", "--suggest-space", "x.txt"], ["x.txt"]),
        (["mine", "--output", "file/below"], ["file/below"]),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(analyze, run, tmp_path, arguments, told):
    (tmp_path / "file").write_text("")
    assert_refused(analyze(*arguments), *told)


def test_runs_with_different_metrics_are_not_compared(analyze, run, tmp_path):
    record_run(tmp_path / "runs" / "other", num_samples=5, metric="validation_f1")
    assert_refused(analyze("mine", "other"), "only runs with the same metric")


def test_a_newer_record_is_refused(analyze, run):
    recorded = json.loads((run / SPEC_FILE).read_text())
    recorded["spec"]["spec_version"] = 99
    (run / SPEC_FILE).write_text(json.dumps(recorded))
    assert_refused(analyze("mine"), "written by a newer version")
