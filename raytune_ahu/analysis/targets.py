"""One comparable number for each trial of a run in which most trials were stopped early.

Values at different epochs cannot be compared, and the trials that got far are a choice of the best:
among them a parameter that was decisive looks as if it did not matter, because the bad half of its
range is gone. `targets` therefore keeps all trials. Start there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from raytune_ahu.errors import SpecError
from raytune_ahu.results import At, Results
from raytune_ahu.search.model import Floats

Target: TypeAlias = Literal["rungs"] | At | int
"""Which value of a trial is explained, see `targets`."""

_FENCE = 3.0  # interquartile ranges beyond the worse quartile (Tukey's "far out")


@dataclass(frozen=True)
class Targets:
    """A number for each trial that has one."""

    trials: tuple[str, ...]
    """Their ids, n of them, in the order of the run."""
    metric: Floats
    """(n,) in the metric's own units and orientation, all finite."""
    notes: tuple[str, ...]
    """What was taken, and what was changed, in words."""


def targets(results: Results, at: Target = "rungs") -> Targets:
    """Give each trial its value.

    Args:
        results: The run.
        at: `rungs`: the value at the lowest rung level, corrected by the higher ones. Of the trials
            that reached a level, the best there gets the best of the values that they held so far,
            and so on down: all trials stay comparable, in one unit, and higher epochs decide
            wherever they were run. A whole number: the value at that epoch, of those that got
            there. `any`, `max_resource`, `last`: as `Results.scores`.

    A trial that ended because its metric was not finite counts as the worst of the others. Values
    that are worse than the worse quartile by more than three interquartile ranges are moved there.
    Trials without a value are left out.

    Raises:
        SpecError: If `at` is unknown, or nothing was reported at that epoch.
    """
    notes: list[str] = []
    if at == "rungs":
        losses = _by_rungs(results, notes)
    elif isinstance(at, int):
        losses = _at_level(results, at)
        notes.append(f"values at epoch {at}, of the {len(losses)} trials that got there")
    elif at in get_args(At):
        losses = _scored(results, at)
        notes.append(f"values: at={at}, whatever their epochs, as in Results.scores")
    else:
        allowed = ", ".join(["rungs", *get_args(At)])
        raise SpecError(f"at={at!r} must be one of {allowed}, or an epoch (a whole number)")
    losses = losses.reindex([t for t in results.trials["trial"] if t in losses.index])
    losses = _with_diverged(results, _fenced(losses, notes), notes)
    return Targets(
        trials=tuple(str(trial) for trial in losses.index),
        metric=np.asarray(results.sign * losses.to_numpy(np.float64), np.float64),
        notes=tuple(notes),
    )


def _scored(results: Results, at: At) -> pd.Series[float]:
    scores = results.scores(at=at)
    return pd.Series(results.sign * scores["value"].to_numpy(), index=scores["trial"].to_numpy())


def _at_level(results: Results, level: int) -> pd.Series[float]:
    """Finite losses at one epoch by trial."""
    here = results.reports[results.reports["resource"] == level]
    if here.empty:
        top = int(results.reports["resource"].max()) if len(results.reports) else 0
        raise SpecError(f"at={level} has no report; epochs 1 to {top} were reported")
    losses = pd.Series(results.sign * here["value"].to_numpy(), index=here["trial"].to_numpy())
    return losses[np.isfinite(losses)]


def _by_rungs(results: Results, notes: list[str]) -> pd.Series[float]:
    seen = set(results.reports["resource"])
    levels = [level for level in results.rung_levels if level in seen]
    with_value = len(results.scores())
    first = _at_level(results, levels[0]) if levels else pd.Series(dtype=np.float64)
    if not levels or len(first) < with_value / 2:
        notes.append("each trial's best value: fewer than half of them reached a rung level")
        return _scored(results, "any")
    held = first.copy()
    used = [levels[0]]
    for level in levels[1:]:
        there = _at_level(results, level)
        there = there[there.index.isin(held.index)].sort_values(kind="stable")
        if len(there) > 1:
            used.append(level)
            held[there.index] = np.sort(held[there.index].to_numpy())
    told = f"values at epoch {levels[0]}, {len(held)} trials"
    if len(used) > 1:
        told += f", those that went on re-ordered by epochs {', '.join(map(str, used[1:]))}"
    notes.append(told)
    return held


def _fenced(losses: pd.Series[float], notes: list[str]) -> pd.Series[float]:
    """Move far-out bad values to the fence."""
    if len(losses) < 4:
        return losses
    low, high = np.quantile(losses.to_numpy(), [0.25, 0.75])
    fence = high + _FENCE * (high - low)
    far = int((losses > fence).sum())
    if far and high > low:
        notes.append(f"{far} far-out values were moved to three interquartile ranges from the rest")
        return losses.clip(upper=fence)
    return losses


def _with_diverged(
    results: Results, losses: pd.Series[float], notes: list[str]
) -> pd.Series[float]:
    """Give the diverged trials the worst of the values."""
    trials = results.trials
    bad = (trials["status"] == "failed") & (trials["resource"] > 0)
    bad &= ~np.isfinite(trials["last_value"].to_numpy(np.float64))
    names = trials.loc[bad, "trial"].to_numpy()
    if not len(names) or losses.empty:
        return losses
    notes.append(f"{len(names)} diverged trials count as the worst of the others")
    worst = pd.Series(float(losses.max()), index=names)
    both = pd.concat([losses[~losses.index.isin(names)], worst])
    return both.reindex([trial for trial in trials["trial"] if trial in both.index])
