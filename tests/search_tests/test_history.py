"""What a searcher remembers: which report is an observation of which level, and what is pending."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ahu.search.history import History
from raytune_ahu.search.table import GrowingArray
from raytune_ahu.types import TrialStatus

INF = math.inf


def make(*trials, every_report=False):
    book = History(2, (1, 3, 9), every_report=every_report)
    for i, trial in enumerate(trials):
        book.add(trial, np.array([i / 10, 0.5]))
    return book


def seen(book):
    """Observations as {(trial row, resource): loss}."""
    o = book.observations()
    rows = zip(o.trial.tolist(), o.resource.tolist(), o.loss.tolist(), strict=True)
    return {(i, r): loss for i, r, loss in rows}


def pending(book):
    o = book.observations()
    return dict(zip(o.pending.tolist(), o.pending_level.tolist(), strict=True))


def test_only_reports_at_rung_levels_are_observations():
    book = make("a")
    for resource in range(1, 12):
        book.observe("a", resource, float(resource))
    assert seen(book) == {(0, 1): 1.0, (0, 3): 3.0, (0, 9): 9.0}


def test_a_model_can_have_every_report():
    book = make("a", every_report=True)
    for resource in (1, 2, 4):
        book.observe("a", resource, float(resource))
    assert seen(book) == {(0, 1): 1.0, (0, 2): 2.0, (0, 4): 4.0}


def test_a_repeated_report_replaces_the_first():
    book = make("a", "b")
    book.observe("a", 1, 0.1)
    book.observe("b", 1, 0.2)
    book.observe("a", 1, 0.3)
    assert seen(book) == {(0, 1): 0.3, (1, 1): 0.2}


def test_a_missing_value_teaches_nothing_but_the_trial_has_moved_on():
    book = make("a")
    book.observe("a", 1, None)
    assert seen(book) == {}
    assert pending(book) == {0: 3}


@pytest.mark.parametrize(("last", "level"), [(0, 1), (1, 3), (2, 3), (3, 9), (8, 9)])
def test_a_failed_trial_counts_at_the_level_it_was_heading_for(last, level):
    book = make("a")
    for resource in range(1, last + 1):
        book.observe("a", resource, 0.5)
    book.finish("a", TrialStatus.FAILED)
    assert {key for key, loss in seen(book).items() if loss == INF} == {(0, level)}
    assert pending(book) == {}


def test_a_trial_that_fails_beyond_the_last_level_keeps_its_observations():
    book = make("a")
    book.observe("a", 9, 0.5)
    book.finish("a", TrialStatus.FAILED)
    assert seen(book) == {(0, 9): 0.5}


@pytest.mark.parametrize("status", [TrialStatus.COMPLETED, TrialStatus.STOPPED])
def test_a_trial_that_ends_otherwise_adds_nothing(status):
    book = make("a")
    book.observe("a", 1, 0.5)
    book.finish("a", status)
    assert seen(book) == {(0, 1): 0.5}
    assert pending(book) == {}


@pytest.mark.parametrize(("resource", "level"), [(1, 1), (2, 3), (3, 3), (4, 9)])
def test_a_non_finite_report_counts_once_at_its_level_also_when_the_trial_then_fails(
    resource, level
):
    book = make("a")
    book.observe("a", resource, INF)
    assert seen(book) == {(0, level): INF}
    assert pending(book) == {}
    book.finish("a", TrialStatus.FAILED)
    assert seen(book) == {(0, level): INF}


def test_a_non_finite_report_is_taken_back_when_the_repeated_epoch_goes_well():
    book = make("a", "b")
    book.observe("a", 2, INF)
    book.observe("b", 1, 0.7)
    book.observe("a", 2, 0.4)
    assert seen(book) == {(1, 1): 0.7}
    assert pending(book) == {0: 3, 1: 3}
    book.observe("a", 3, 0.3)
    book.observe("b", 1, 0.6)
    assert seen(book) == {(1, 1): 0.6, (0, 3): 0.3}


def test_a_reopened_trial_has_no_failures_left_neither_of_a_crash_nor_of_a_report():
    book = make("a", "b")
    for name in ("a", "b"):
        book.observe(name, 1, 0.3)
    book.observe("a", 2, INF)
    for name in ("a", "b"):
        book.finish(name, TrialStatus.FAILED)
    assert seen(book) == {(0, 1): 0.3, (1, 1): 0.3, (0, 3): INF, (1, 3): INF}
    for name in ("a", "b"):
        book.reopen(name)
    assert seen(book) == {(0, 1): 0.3, (1, 1): 0.3}
    assert pending(book) == {0: 3, 1: 3}


def test_a_trial_that_recovers_from_a_non_finite_report_keeps_the_bad_level_and_goes_on():
    book = make("a")
    book.observe("a", 1, INF)
    book.observe("a", 2, 0.4)
    assert seen(book) == {(0, 1): INF}
    assert pending(book) == {0: 3}
    book.finish("a", TrialStatus.FAILED)
    assert seen(book) == {(0, 1): INF, (0, 3): INF}


def test_running_trials_are_pending_for_their_next_level_until_the_last():
    book = make("a", "b", "c")
    book.observe("b", 1, 0.1)
    book.observe("c", 9, 0.1)
    assert pending(book) == {0: 1, 1: 3}


def test_the_revision_changes_with_every_observation_and_only_then():
    book = make("a", "b")
    seen_revisions = [book.observations().revision]
    for step in (
        lambda: book.observe("a", 1, 0.5),
        lambda: book.observe("a", 1, 0.4),
        lambda: book.observe("a", 2, INF),
        lambda: book.observe("a", 2, 0.4),
        lambda: book.finish("b", TrialStatus.FAILED),
    ):
        step()
        seen_revisions.append(book.observations().revision)
    assert len(set(seen_revisions)) == 6
    book.add("c", np.zeros(2))
    book.observe("c", 2, 0.3)
    book.observe("c", 3, None)
    book.finish("c", TrialStatus.STOPPED)
    assert book.observations().revision == seen_revisions[-1]


def test_views_cannot_be_written_and_saved_ones_do_not_change_with_new_trials():
    book = make("a")
    book.observe("a", 1, 0.5)
    before = book.observations()
    with pytest.raises(ValueError, match="read-only"):
        before.loss[0] = 3.0
    for i in range(100):
        book.add(f"n{i}", np.array([0.1, 0.2]))
        book.observe(f"n{i}", 1, 0.9)
    assert before.loss.tolist() == [0.5]
    assert before.configurations.tolist() == [[0.0, 0.5]]


def test_many_random_events_agree_with_a_plain_dictionary():
    """Against a slow reference that derives the observations anew from all reports of a trial."""
    rng = np.random.default_rng(0)
    book, reports = make(), {}
    for step in range(3000):
        if step % 5 == 0:
            book.add(str(step), rng.random(2))
            reports[len(book) - 1] = {}
        i = int(rng.integers(len(book)))
        known = reports[i]
        resource = max(known, default=0) + 1 if rng.random() < 0.8 else max(known, default=1)
        value = INF if rng.random() < 0.1 else float(rng.random())
        for later in [r for r in known if r >= resource]:
            del known[later]
        known[resource] = value
        book.observe(str(5 * i), resource, value)
    expected = {}
    for i, known in reports.items():
        for resource, value in sorted(known.items()):
            level = next((r for r in (1, 3, 9) if r >= resource), None)
            if math.isfinite(value) and resource in (1, 3, 9):
                expected[i, resource] = value
            elif not math.isfinite(value) and level is not None:
                expected[i, level] = INF
    assert seen(book) == expected


def test_a_growing_array_keeps_its_rows_through_growth_and_removal():
    array = GrowingArray(np.int64)
    for i in range(100):
        array.append(i)
    array.pop()
    array[3] = -1
    assert array.view.tolist() == [0, 1, 2, -1, *range(4, 99)]
    assert len(array) == 99
    with pytest.raises(IndexError):
        array[99] = 0
    with pytest.raises(IndexError):
        GrowingArray(np.float64, 3).pop()
