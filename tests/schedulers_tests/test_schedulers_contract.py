"""The scheduler contract, run on every scheduler."""

from __future__ import annotations

from schedulers import AshaPromotion, AshaStopping, NoEarlyStopping
from tests.contracts.scheduler_contract import SchedulerContract


class TestAshaStopping(SchedulerContract):
    def build(self, mode="min", seed=0):
        return AshaStopping(
            max_resource=9, grace_period=1, reduction_factor=3, mode=mode, seed=seed
        )


class TestAshaStoppingWithBrackets(SchedulerContract):
    def build(self, mode="min", seed=0):
        return AshaStopping(max_resource=9, reduction_factor=2, brackets=3, mode=mode, seed=seed)


class TestAshaPromotion(SchedulerContract):
    def build(self, mode="min", seed=0):
        return AshaPromotion(max_resource=9, reduction_factor=3, mode=mode, seed=seed)


class TestAshaPromotionWithBrackets(SchedulerContract):
    def build(self, mode="min", seed=0):
        return AshaPromotion(max_resource=9, reduction_factor=2, brackets=4, mode=mode, seed=seed)


class TestNoEarlyStopping(SchedulerContract):
    def build(self, mode="min", seed=0):
        return NoEarlyStopping(max_resource=9, mode=mode, seed=seed)
