"""Which faults are tried again, and how often."""

from __future__ import annotations

import pytest

from raytune_ahu.faults import MAX_LOSSES, Fault, will_retry

NOT_THE_TRIALS_DOING = [Fault.NODE_LOST, Fault.BAD_CHECKPOINT, Fault.DISK_FULL]


def decide(fault, *, failures=0, losses=0, max_failures=0, retry_oom=False):
    return will_retry(
        fault, failures=failures, losses=losses, max_failures=max_failures, retry_oom=retry_oom
    )


@pytest.mark.parametrize("failures", range(4))
def test_an_exception_is_tried_again_as_often_as_asked(failures):
    assert decide(Fault.EXCEPTION, failures=failures, max_failures=2) == (failures < 2)


def test_by_default_an_exception_is_final():
    assert not decide(Fault.EXCEPTION)


def test_out_of_memory_is_tried_again_only_if_asked():
    assert not decide(Fault.OUT_OF_MEMORY, max_failures=5)
    assert decide(Fault.OUT_OF_MEMORY, max_failures=5, retry_oom=True)
    assert not decide(Fault.OUT_OF_MEMORY, max_failures=0, retry_oom=True)


def test_a_hung_trial_is_never_tried_again():
    assert not decide(Fault.TIMEOUT, max_failures=9, retry_oom=True)


@pytest.mark.parametrize("fault", NOT_THE_TRIALS_DOING)
def test_what_is_not_the_trials_doing_costs_it_nothing(fault):
    assert decide(fault, failures=9, losses=9)
    assert not fault.is_failure
    assert not fault.is_loss


@pytest.mark.parametrize("fault", [Fault.WORKER_LOST, Fault.STORAGE])
def test_a_configuration_that_kills_its_workers_is_given_up(fault):
    answers = [decide(fault, losses=losses) for losses in range(MAX_LOSSES + 1)]
    assert answers == [True] * (MAX_LOSSES - 1) + [False] * 2


def test_every_fault_counts_as_at_most_one_kind():
    assert not [fault for fault in Fault if fault.is_failure and fault.is_loss]
