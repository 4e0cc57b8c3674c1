"""Tests of schedulers/fifo.py."""

from __future__ import annotations

from raytune_ahu.types import Decision, Report
from schedulers import NoEarlyStopping


def test_every_trial_runs_to_the_full_resource_however_bad_it_is():
    scheduler = NoEarlyStopping(max_resource=9)
    for i in range(5):
        scheduler.add(f"t{i}")
        for epoch in range(1, 9):
            assert scheduler.report(Report(f"t{i}", epoch, 10.0**i)) is Decision.CONTINUE
        assert scheduler.report(Report(f"t{i}", 9, 10.0**i)) is Decision.STOP


def test_the_only_rung_is_the_full_resource_and_nobody_is_cut_off():
    scheduler = NoEarlyStopping(max_resource=9)
    scheduler.add("a")
    scheduler.report(Report("a", 9, 1.0))
    assert scheduler.rung_levels == (9,)
    (rung,) = scheduler.rungs()
    assert (rung.level, rung.entrants, rung.survivors, rung.cutoff) == (9, 1, 1, None)
