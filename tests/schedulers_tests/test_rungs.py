"""Tests of schedulers/rungs.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ahu.errors import SpecError
from schedulers.rungs import Rung, rung_levels


def test_243_with_factor_3_keeps_all_six_levels_where_a_float_logarithm_loses_one():
    assert rung_levels(1, 3, 243) == (1, 3, 9, 27, 81, 243)
    assert int(math.log(243) / math.log(3)) + 1 == 5


@pytest.mark.parametrize("eta", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("power", range(12))
def test_every_power_of_the_factor_is_a_level(eta, power):
    assert rung_levels(1, eta, eta**power) == tuple(eta**k for k in range(power + 1))


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        ((1, 3, 9), (1, 3, 9)),
        ((1, 3, 10), (1, 3, 9, 10)),
        ((2, 3, 50), (2, 6, 18, 50)),
        ((5, 2, 5), (5,)),
        ((1, 4, 3), (1, 3)),
        ((1, 3, 1), (1,)),
        ((1, 3.0, 9), (1, 3, 9)),
        ((np.int64(1), np.int32(3), np.int64(9)), (1, 3, 9)),
    ],
)
def test_the_full_resource_is_always_the_last_level(arguments, levels):
    built = rung_levels(*arguments)
    assert built == levels
    assert all(type(level) is int for level in built)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 3, 9), r"grace_period=10 must be in \[1, max_epochs=9\]; "),
        ((0, 3, 9), r"grace_period=0 must be in \[1, max_epochs=9\]; "),
        ((1.5, 3, 9), r"grace_period=1.5 must be in"),
        ((math.nan, 3, 9), r"grace_period=nan must be in"),
        ((True, 3, 9), r"grace_period=True must be in"),
        ((1, 1, 9), r"reduction_factor=1 must be a whole number of at least 2; "),
        ((1, 0.5, 9), r"reduction_factor=0.5 must be"),
        ((1, 2.5, 9), r"reduction_factor=2.5 must be"),
        ((1, math.inf, 9), r"reduction_factor=inf must be"),
        ((1, 3, 0), r"max_epochs=0 must be a whole number of at least 1; "),
        ((1, 3, "9"), r"max_epochs='9' must be"),
    ],
)
def test_a_value_out_of_range_is_refused_with_value_range_and_fix(arguments, message):
    with pytest.raises(SpecError, match=message):
        rung_levels(*arguments)


def test_ranks_and_places_agree_with_numpy_for_any_order_of_arrival():
    rng = np.random.default_rng(0)
    rung, losses = Rung(3), []
    for i, loss in enumerate(rng.integers(0, 40, size=300) / 7):
        rung.record(f"t{i}", float(loss))
        losses.append(float(loss))
        assert len(rung) == i + 1
        probe = float(rng.integers(0, 40) / 7)
        assert rung.n_better(probe) == int((np.array(losses) < probe).sum())
        place = int(rng.integers(1, i + 2))
        assert rung.nth_loss(place) == np.sort(losses)[place - 1]


def test_places_outside_the_rung_and_failed_entries_have_no_loss():
    rung = Rung(1)
    assert rung.nth_loss(1) is None
    rung.record("a", math.inf)
    assert len(rung) == 1
    assert rung.nth_loss(0) is None
    assert rung.nth_loss(1) is None
    assert rung.nth_loss(2) is None


def test_the_waiting_list_gives_the_best_and_equal_losses_by_arrival():
    rung = Rung(1)
    for trial, loss in [("z", 2.0), ("b", 1.0), ("a", 1.0), ("c", 0.5)]:
        rung.record(trial, loss)
    for trial in ("a", "z", "b"):
        rung.wait(trial)
    assert rung.first_waiting() == (2, "b")
    rung.leave("b")
    rung.leave("b")
    rung.leave("c")
    assert rung.first_waiting() == (3, "a")
    rung.leave("a")
    rung.leave("z")
    assert rung.first_waiting() is None


def test_a_rung_is_rebuilt_from_its_list():
    rung = Rung(3)
    for trial, loss in [("a", 2.0), ("b", math.inf), ("c", 0.5), ("d", 2.0)]:
        rung.record(trial, loss)
    rung.mark_survivor("c")
    rung.mark_survivor("c")
    rung.wait("d")
    copy = Rung.from_list(3, rung.to_list())
    assert copy.to_list() == rung.to_list()
    assert copy.n_survivors == rung.n_survivors == 1
    assert copy.first_waiting() == rung.first_waiting() == (3, "d")


def test_30000_entries_need_no_more_comparisons_than_a_sorted_list_does():
    """Counted, not timed: a Rung that scanned its entries would compare some 10^9 times here."""
    compared = 0

    class Loss(float):
        def __lt__(self, other):
            nonlocal compared
            compared += 1
            return float(self) < float(other)

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return float(self) == float(other)

        __hash__ = float.__hash__

    rung = Rung(1)
    for i, loss in enumerate(np.random.default_rng(0).normal(size=30_000)):
        rung.record(f"t{i}", Loss(loss))
        rung.n_better(Loss(loss))
        rung.nth_loss(1 + i // 3)
    assert 30_000 < compared < 30_000 * 2 * 2 * 17
