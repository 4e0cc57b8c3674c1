"""ASHA, asynchronous successive halving (Li et al. 2018, MLSys 2020), in its two variants.

`AshaStopping` lets trials run and stops those that fall behind; `AshaPromotion` is Algorithm 2 of
the paper: trials pause at each rung and the best are promoted. Both are pure: no Ray, no clock.
Notation: eta is the reduction factor, n the number of entries of a rung, the entry in question
included.
"""

from __future__ import annotations

from raytune_ahu.types import Decision
from schedulers.base import RungScheduler, ScheduledTrial
from schedulers.rungs import Rung


class AshaStopping(RungScheduler):
    """A trial at a milestone goes on if it is in the top 1/eta of those recorded there so far.

    The rule. A report at a milestone (a rung level of the trial's bracket) is recorded in that
    rung. The trial goes on if fewer than ceil(n / eta) of the n entries, its own included, are
    strictly better; otherwise it is stopped. That is the same as being no worse than the linearly
    interpolated 1/eta quantile of the n values, which is how Syne Tune writes it.

    - **Who is compared**: all trials of the same bracket ever recorded at that level, also those
      that have ended since. A trial is judged once per rung, when it arrives; later arrivals never
      stop it.
    - **First arrivals**: the first goes on whatever its value; while n <= eta only a trial that
      nobody beats goes on.
    - **Ties**: entries equal to the worst kept one go on, so more than 1/eta may.
    - **Skipped milestones**: recorded is only a report exactly at the level. A trial that has no
      report there, or one without the metric, is not compared there and goes on to the next.
    - **Missing metric** (None): no judgement, the trial goes on; at `max_resource` it ends.
    - **NaN and infinities**: a failed report. The trial is stopped at once, at any resource, and is
      never a survivor. At a rung level it counts as an entry worse than every other.
    - **Full resource**: a report at `max_resource` is recorded in the top rung and the trial is
      stopped, having completed; beyond it the trial is stopped and not recorded.
    - **Repeated reports** (an epoch run again after a restore): the first entry stays and the
      answer is the same. After STOP every further report is answered with STOP.

    It differs from Ray's `AsyncHyperBandScheduler` in these points: Ray compares a value with the
    interpolated quantile of the others, not counting itself (so it may stop a trial here kept, or
    the other way round, when the value falls between two neighbours of the quantile); fills a
    skipped rung with a later value; lets a NaN trial run to its end; loses a rung level where
    the float logarithm rounds down; and draws brackets from a softmax of their number of rungs.

    Args: see `RungScheduler`.
    """

    kind = "asha"

    def _judge(self, trial_id: str, trial: ScheduledTrial, rung: Rung) -> Decision:
        if rung.n_better(rung[trial_id].loss) >= self._keep(len(rung)):
            return Decision.STOP
        rung.mark_survivor(trial_id)
        return Decision.CONTINUE

    def _keep(self, n_entries: int) -> int:
        return -(-n_entries // self._eta)  # ceil in integers


class AshaPromotion(RungScheduler):
    """Trials pause at their milestones; a free worker promotes the best promotable one.

    The rule. A report at a milestone (a rung level of the trial's bracket) is recorded in that
    rung and the trial pauses, unless `PATIENCE * eta` or more trials that are ahead of it wait
    there already: then it is stopped, as they would all have to be promoted before it. A paused
    trial is promotable while it waits there and is among the best floor(n / eta) of the n entries.
    `next_trial` answers the promotable trial of the highest rung level that has one, there the
    best; None if there is none, and the worker starts a new trial. `resume` promotes it: it runs to
    its next milestone.

    - **Who is compared**: all trials of the same bracket ever recorded at that level, also those
      promoted, failed or ended since: places taken by promoted trials stay taken. Being promotable
      is asked again at every call, so a trial may become so long after it paused, and cease to be.
    - **First arrivals**: nobody is promoted out of a rung of fewer than eta entries.
    - **Ties**: equal values are ordered by arrival, the earlier is ahead, so that never more than
      floor(n / eta) are promotable.
    - **Too far back**: a trial is asked once, when it arrives, and only those that wait then count,
      not those promoted or ended. One that pauses stays paused, however many overtake it later. An
      entry that was stopped stays in the rung, as any other.
    - **Several brackets**: rungs of different brackets are never compared; among promotable trials
      at the same level in several brackets the better value is taken, then the lower bracket.
    - **Skipped milestones**: recorded is only a report exactly at the level. A trial that has no
      report there, or one without the metric, does not pause there and goes on to the next.
    - **Missing metric** (None): no judgement, the trial goes on; at `max_resource` it ends.
    - **NaN and infinities**: a failed report. The trial is stopped at once, at any resource, and is
      never promoted. At a rung level it counts as an entry worse than every other.
    - **Full resource**: a report at `max_resource` is recorded in the top rung and the trial is
      stopped, having completed; beyond it the trial is stopped and not recorded.
    - **Repeated reports** (an epoch run again after a restore): the first entry stays. A trial that
      was promoted out of the rung goes on, one that still waits there is paused again, one that
      failed and was reopened is judged again, by its first entry. After STOP every further report
      is answered with STOP.
    - **Ended trials** (`finish`) are promotable no more; their entries stay.

    Who pauses keeps a checkpoint. In the paper every trial does, so they pile up: of 1,000 random
    trials of 27 epochs about 950 wait at the end. With the limit 80 to 160 do, and but for one in
    a thousand the same are promoted. It is no hard bound: trials that are overtaken while they wait
    add to it, more of them where a searcher learns.

    The paper's loop looks at the rungs below the top, from above, as here. Its `top_k` says
    nothing of ties or of failures.

    Args: see `RungScheduler`.
    """

    kind = "asha-promotion"
    PATIENCE = 3
    """Times eta: how many waiting trials a trial may have ahead of it without being stopped."""

    def next_trial(self) -> str | None:
        """The promotable trial of the highest rung; None: start a new trial. No side effects."""
        for level in reversed(self._levels[:-1]):
            promotable = []
            for bracket, rungs in enumerate(self._rungs):
                first = rungs[level].first_waiting() if level in rungs else None
                if first is not None and first[0] <= self._keep(len(rungs[level])):
                    promotable.append((rungs[level][first[1]].loss, bracket, first[1]))
            if promotable:
                return min(promotable)[2]
        return None

    def _judge(self, trial_id: str, trial: ScheduledTrial, rung: Rung) -> Decision:
        if rung.n_waiting_before(trial_id) >= self.PATIENCE * self._eta:
            return Decision.STOP
        self._pause(trial_id, trial, rung)
        return Decision.PAUSE

    def _again(self, trial: ScheduledTrial, rung: Rung, trial_id: str) -> Decision:
        if rung[trial_id].survived:
            return Decision.CONTINUE
        return self._judge(trial_id, trial, rung)  # it failed while it was being paused

    def _keep(self, n_entries: int) -> int:
        return n_entries // self._eta
