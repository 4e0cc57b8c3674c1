"""Which checkpoints of a run are kept. Pure: it names what may be deleted, and deletes nothing.

- A trial that may still go on keeps its newest two (the second in case the newest is damaged).
- Of those that have ended, the best `keep_best` keep their newest one: by default first those that
  reached the highest resource, among them those with the best value there. Where checkpoints hold
  the weights of a trial's best epoch, those with the best value at any resource, diverged or not.
- With `per`, the best trial of each value of that parameter keeps its newest one as well.
- One that failed through an exception keeps its newest one, to be tried again.
- All others keep none.

Start with `Retention.release`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Literal, TypeAlias

from raytune_ahu.run_state import RunState, TrialState
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import TrialStatus, as_loss

BestAt: TypeAlias = Literal["max_resource", "any"]
"""Where the best value of a trial is looked for."""

KEPT_WHILE_LIVE = 2
"""Newest checkpoints that a trial keeps while it may go on."""

_Rank = tuple[int, float, str]


class Retention:
    """Follows a run and says which checkpoints have become superfluous.

    Args:
        state: The run's state; a checkpoint that is released is taken out of it.
        keep_best: How many ended trials keep a checkpoint; at least 0, where nobody keeps one.
        at: Where the best are looked for: at the highest resource, or at any.
        per: Name of a parameter (flat, as in the search space); None: no further checkpoints.
    """

    def __init__(
        self,
        state: RunState,
        keep_best: int,
        *,
        at: BestAt = "max_resource",
        per: str | None = None,
    ) -> None:
        self._state = state
        self._keep_best = keep_best
        self._at = at
        self._per = per
        self._best: list[_Rank] = []  # ended trials that keep a checkpoint, the best first
        self._best_of: dict[str, _Rank] = {}  # the best of each value of `per`

    def release(self, trial_id: str) -> list[str]:
        """Return what may be deleted after the newest event of a trial (a save, or its end).

        Returns:
            Checkpoints, as they were recorded (relative to the run's place).
        """
        trial = self._state.trials[trial_id]
        if not trial.status.is_final:
            return self._forget(trial, keep=KEPT_WHILE_LIVE)
        may_be_best = trial.status is not TrialStatus.FAILED or self._at == "any"
        if not trial.checkpoints or not may_be_best or not self.is_worth_keeping(trial_id):
            return self._forget(trial, keep=_least(trial))
        before = {*self._best, *self._best_of.values()}
        self._enter(trial)
        released = self._forget(trial, keep=1)
        after = {rank[2] for rank in (*self._best, *self._best_of.values())}
        for displaced in {rank[2] for rank in before} - after:
            left = self._state.trials[displaced]
            if left.status.is_final:  # otherwise it had failed and is being tried again
                released += self._forget(left, keep=_least(left))
        return released

    def _enter(self, trial: TrialState) -> None:
        """Put a trial among the best, in the place of what it was when it ended before."""
        rank, group = self._rank(trial), self._group(trial)
        self._best = [one for one in self._best if one[2] != trial.trial_id]
        insort(self._best, rank)
        del self._best[self._keep_best :]
        if self._per is not None:
            best = self._best_of.get(group, rank)
            self._best_of[group] = rank if best[2] == trial.trial_id else min(best, rank)

    def is_worth_keeping(self, trial_id: str) -> bool:
        """Whether a trial that ends with its newest report is among the best that have ended."""
        trial = self._state.trials[trial_id]
        rank = self._rank(trial)
        if math.isinf(rank[1]) or self._keep_best < 1:
            return False
        if self._per is not None and rank <= self._best_of.get(self._group(trial), rank):
            return True
        return rank in self._best or bisect_left(self._best, rank) < self._keep_best

    def release_all(self) -> list[str]:
        """Go over all trials, after a resume; return what may be deleted."""
        return [path for trial_id in self._state.trials for path in self.release(trial_id)]

    def _rank(self, trial: TrialState) -> _Rank:
        if self._at == "any":
            return 0, as_loss(trial.best_value, self._state.mode), trial.trial_id
        return -trial.resource, as_loss(trial.value, self._state.mode), trial.trial_id

    def _group(self, trial: TrialState) -> str:
        """The value of `per` in a trial, as text; the same for all where it is not active."""
        return repr(flatten(trial.configuration).get(self._per or ""))

    def _forget(self, trial: TrialState, keep: int) -> list[str]:
        """Take all but the newest `keep` checkpoints out of a trial's state and return them."""
        old = sorted(trial.checkpoints)[: max(0, len(trial.checkpoints) - keep)]
        return [self._state.drop_checkpoint(trial, resource) for resource in old]


def _least(trial: TrialState) -> int:
    """Checkpoints that a trial which has ended keeps in any case: one, to be tried again."""
    return 1 if trial.status is TrialStatus.FAILED and not _diverged(trial) else 0


def _diverged(trial: TrialState) -> bool:
    return trial.value is not None and not math.isfinite(trial.value)
