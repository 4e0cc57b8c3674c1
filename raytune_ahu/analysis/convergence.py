"""When to stop: what the next trials are expected to improve, and what they would cost.

The next trials are taken to be like the newest ones, of which any was as likely to be the best. How
far they might pass it is read off a generalised Pareto distribution fitted to the best of them, by
probability-weighted moments (Hosking, Wallis: Parameter and Quantile Estimation for the Generalized
Pareto Distribution, Technometrics 29, 1987). Where its shape is below 0 the tail has an end: an
estimate of the best value that such trials can reach. Start with `convergence`.

Notation: losses are values oriented so that smaller is better; an excess is threshold - loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytune_ahu.results import Results
from raytune_ahu.seeding import generator

_LEAST = 12
"""Trials with a value below which nothing is said."""
_TAIL = 1.6
"""Losses in the tail, as a multiple of the square root of their number: a third of 20, an eighth of
200. On samples of five known distributions the expected improvement is then .7 to 1.7 times the
true one (tests/analysis_tests/test_convergence.py)."""
_SHAPES = (-3.0, 0.2)
"""Bounds of the shape, of which few excesses give wild estimates; -1 is a uniform tail."""
_WORTH_IT = 0.05
"""Share of the gap between the median and the best trial that is worth going on for."""
_RESAMPLES = 300
_STEPS = 400

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tail:
    """The better end of a distribution of losses."""

    threshold: float
    """Loss from which on the tail is modelled."""
    best: float
    """The smallest of the losses."""
    count: int
    """How many losses there were."""
    shape: float
    """Of the generalised Pareto distribution of excesses; below 0 the tail has an end."""
    scale: float
    """In units of the loss, > 0."""

    @property
    def end(self) -> float:
        """Smallest possible loss; -inf where the tail has no end."""
        return self.threshold + self.scale / self.shape if self.shape < 0 else -np.inf

    def improvement(self, incumbent: float, trials: int, bound: float = -np.inf) -> float:
        """Expected improvement of the best of some further trials on the incumbent's loss.

        No loss below `bound` is possible, whatever the tail says.

        It is the integral of the probability that one of them is better than incumbent - t, over t.
        That the best of n losses is passed by none of m more has probability n / (n + m), whatever
        the distribution; the tail says how far it is passed.
        """
        scale = self.scale + self.shape * (self.threshold - incumbent)
        if scale <= 0:
            return 0.0
        once = 1 - (self.count / (self.count + trials)) ** (1 / trials)
        if incumbent < self.best:  # of an older trial, which these are not like
            once *= float(self._survival(self.best - incumbent, self._scale_at(self.best)))
        reach = scale / -self.shape if self.shape < 0 else np.inf
        reach = min(reach, incumbent - bound)
        # Most of the probability lies near the incumbent.
        steps = min(reach, 20 * scale) * np.linspace(0.0, 1.0, _STEPS) ** 2
        passed = 1 - (1 - once * self._survival(steps, scale)) ** trials
        return float(np.trapezoid(passed, steps))

    def _scale_at(self, loss: float) -> float:
        """Scale of the excesses over a loss within the tail: again generalised Pareto."""
        return self.scale + self.shape * (self.threshold - loss)

    def _survival(self, excess: _Floats | float, scale: float) -> _Floats:
        if abs(self.shape) < 1e-9:
            return np.exp(-np.asarray(excess) / scale)
        inside: _Floats = np.maximum(1 + self.shape * np.asarray(excess) / scale, 0.0)
        return inside ** (-1 / self.shape)


def fit_tail(losses: _Floats, seen: float = np.inf) -> Tail | None:
    """Fit the better end of 4 or more losses; None if they are all alike.

    The end of the tail is moved beyond the best loss where the moments put it before that.

    Args:
        losses: Losses of trials like those to come.
        seen: A loss that another trial has reached: the tail does not end before it.
    """
    ordered = np.sort(losses)
    count = min(len(ordered) - 1, round(_TAIL * math.sqrt(len(ordered))))
    threshold = float(ordered[count])
    excess = np.sort(threshold - ordered[:count])
    mean = float(excess.mean())
    if mean <= 0:
        return None
    weights = 1 - (np.arange(1, count + 1) - 0.35) / count
    left = mean - 2 * float((weights * excess).mean())
    # Hosking and Wallis write k for -shape; the mean is scale / (1 - shape).
    shape = 2 - mean / left if left > 0 else _SHAPES[1]
    beyond = (threshold - min(float(ordered[0]), seen)) * (1 + 1 / count) / mean
    at_least = 1 / (1 - beyond) if beyond > 1 else _SHAPES[0]
    shape = float(np.clip(max(shape, at_least), *_SHAPES))
    return Tail(threshold, float(ordered[0]), len(losses), shape, mean * (1 - shape))


def convergence(
    results: Results, next_trials: Sequence[int] = (10, 20, 40), *, seed: int = 0
) -> pd.DataFrame:
    """Estimate what more trials would improve, and cost.

    Each trial counts with its best value at any epoch; the newest half of the trials, at least 12,
    stand for those to come. A maximised metric whose values all lie in [0, 1] is taken for a share,
    which 1 bounds, and a minimised one that is never negative for bounded by 0.

    Args:
        results: The run.
        next_trials: Numbers of further trials.
        seed: Seed of the resampling.

    Returns:
        One row a number of trials: `trials`, `expected_value`, `expected_improvement` (>= 0, in
        the metric's units) with a 90 % interval `ci_low`, `ci_high` (bootstrap over trials),
        `gap` (between the median trial and the best), `gap_share` (expected_improvement as a share
        of it), `epochs` and
        `worker_s` (at the mean cost of the newest trials), `limit` (where the tail is estimated to
        end; NaN where it has no end). Empty where fewer than 12 trials have a value, or all of
        those that count have the same.
    """
    names = [
        "trials",
        "expected_value",
        "expected_improvement",
        "ci_low",
        "ci_high",
        "gap",
        "gap_share",
        "epochs",
        "worker_s",
        "limit",
    ]
    valued = results.trials.dropna(subset="best_value")
    if len(valued) < _LEAST:
        return pd.DataFrame(columns=names, dtype="float64")
    newest = valued.tail(max(_LEAST, len(valued) // 2))
    losses = results.sign * newest["best_value"].to_numpy()
    best = float((results.sign * valued["best_value"]).min())
    tail = fit_tail(losses, best)
    gap = float((results.sign * valued["best_value"]).median()) - best
    if tail is None or gap <= 0:
        return pd.DataFrame(columns=names, dtype="float64")
    bound = _bound(results)
    rng = generator(seed, "analysis", "convergence")
    drawn = [fit_tail(rng.choice(losses, len(losses)), best) for _ in range(_RESAMPLES)]
    rows = []
    for count in next_trials:
        expected = tail.improvement(best, count, bound)
        spread = [one.improvement(best, count, bound) if one else 0.0 for one in drawn]
        low, high = np.quantile(spread, [0.05, 0.95])
        rows.append(
            (
                count,
                results.sign * (best - expected),
                expected,
                low,
                high,
                gap,
                expected / gap,
                count * newest["epochs_run"].mean(),
                count * newest["training_s"].mean(),
                results.sign * max(tail.end, bound) if np.isfinite(tail.end) else np.nan,
            )
        )
    return pd.DataFrame(rows, columns=names).astype({"trials": "int64"})


def _bound(results: Results) -> float:
    """The smallest possible loss, where the values tell: shares end at 1, losses above 0 at 0."""
    values = results.reports["value"]
    finite = values[np.isfinite(values)]
    if results.mode == "max":
        return -1.0 if finite.between(0.0, 1.0).all() else -np.inf
    return 0.0 if (finite >= 0.0).all() else -np.inf


def advice(results: Results, *, seed: int = 0) -> str:
    """Say in words whether more trials are worth it."""
    table = convergence(results, (max(10, len(results.trials) // 2),), seed=seed)
    if table.empty:
        return (
            f"Too early to say what more trials would bring: {_LEAST} with different values are "
            "needed."
        )
    row = table.iloc[0]
    share = row["gap_share"]
    if share > _WORTH_IT:
        verdict = "worth it"
    else:
        hopeful = row["ci_high"] > _WORTH_IT * row["gap"]
        verdict = "perhaps worth it" if hopeful else "hardly anything"
    return (
        f"{row['trials']:.0f} more trials like the newest (about {row['epochs']:.0f} epochs, "
        f"{row['worker_s'] / 60:.1f} min of a worker) are expected to improve {results.metric} by "
        f"{row['expected_improvement']:.2g} ({row['ci_low']:.2g} to {row['ci_high']:.2g}), "
        f"{share:.0%} (at best {row['ci_high'] / row['gap']:.0%}) of the gap between the median "
        f"and the best trial: {verdict}."
    )
