"""Where the time of the workers went."""

from __future__ import annotations

import dataclasses

import pytest

from raytune_ahu.analysis.cost import OUTCOMES, cost, savings
from raytune_ahu.results import load
from tests.analysis_tests.runs import made
from tests.recorded_runs import record_run


def test_every_second_of_the_workers_has_an_outcome():
    table = cost(made([[1.0] * 9, [2.0], [3.0] * 3])).set_index("outcome")
    assert list(table.index) == list(OUTCOMES)
    assert table.loc["completed", ["trials", "epochs", "worker_s"]].tolist() == [1, 9, 9.0]
    assert table.loc["stopped", ["trials", "epochs", "worker_s"]].tolist() == [2, 4, 4.0]
    # two slots for 13 s, one of which was busy
    assert table.loc["idle", "worker_s"] == pytest.approx(13.0)
    assert table["share"].sum() == pytest.approx(1.0)
    assert table.loc["completed", "gpu_s"] == pytest.approx(4.5)


def test_repeated_epochs_are_a_cost_of_their_own():
    results = made([[1.0] * 9])
    trials = results.trials.assign(epochs_run=12)
    table = cost(dataclasses.replace(results, trials=trials)).set_index("outcome")
    assert table.loc["completed", "epochs"] == 9
    assert table.loc["repeated", ["trials", "epochs"]].tolist() == [1, 3]
    assert table.loc["repeated", "worker_s"] == pytest.approx(9 * 3 / 12)


def test_where_slots_are_not_known_there_is_no_idle_time():
    results = made([[1.0] * 9])
    sessions = results.sessions.assign(slots=results.sessions["slots"].where([False]))
    assert "idle" not in set(cost(dataclasses.replace(results, sessions=sessions))["outcome"])


def test_savings_are_the_epochs_that_stopped_trials_were_spared():
    saved = savings(made([[1.0] * 9, [2.0], [3.0] * 3], epoch_s=2.0))
    assert (saved.epochs_run, saved.epochs_full) == (13, 27)
    assert saved.seconds_saved == pytest.approx(14 * 2.0)
    assert saved.share == pytest.approx(14 / 27)


def test_an_empty_run_has_cost_nothing():
    assert cost(made([]))["worker_s"].sum() == 0
    assert savings(made([])).share == 0


@pytest.mark.parametrize("scheduler", ["asha", "asha-promotion", "none"])
def test_the_parts_of_a_recorded_run_sum_to_its_whole(tmp_path, scheduler):
    results = load(record_run(tmp_path / "run", num_samples=30, scheduler=scheduler))
    table = cost(results)
    assert table["trials"].sum() == 30
    assert table["epochs"].sum() == results.trials["epochs_run"].sum()
    assert table["worker_s"].sum() == pytest.approx(4 * results.wall_s)
