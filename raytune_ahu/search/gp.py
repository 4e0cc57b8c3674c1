"""A multi-fidelity Gaussian process as BOHB's model: all rungs at once, expected improvement.

After MOBSTER (Klein et al. 2020), which put a process over configuration and resource behind ASHA.
Here losses are ranked first, trials have a term of their own, failures a model of their own, and
runs on other data a fitted correlation. Start with `GpModel`; the process itself is in
`gaussian_process.py`.

Symbols: n observations, t trials, d columns, m candidates; depth is log r / log R for resource r of
R. Losses are turned into targets, about standard normal, of which the smallest are the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from raytune_ahu.search.checks import check_flag, check_integer
from raytune_ahu.search.gaussian_process import (
    Columns,
    Data,
    GaussianProcess,
    Hyperparameters,
    fit_hyperparameters,
    matern,
    scaled,
)
from raytune_ahu.search.model import Floats, Ints, Observations

_REFIT_GROWTH = 1.25
"""Hyperparameters are fitted anew when observations have grown by this factor."""
_FIT_POINTS = 120
"""Observations that hyperparameters are fitted to, at most: its cost is cubic."""
_CENTRES = 10
"""Best trials around which candidates are drawn."""
_FAILURE_POINTS = 300
"""Failed, and other, trials that the chance of failure is learned from, at most: the newest."""
_SHARPNESS = (1.0, 2.0, 4.0, 8.0)
"""How much narrower than the kernel of the process that of failures may be."""
_LARGEST = 1e300
"""Losses beyond this are still ranked, but their differences may be no floats."""


@dataclass(frozen=True, slots=True)
class GpSettings:
    """Parameters of the model.

    Raises:
        SpecError: If one is out of its range.
    """

    max_points: int = 250
    """Observations in the model at most, >= 20; what a suggestion costs grows with its square."""
    min_observations: int = 8
    """Finite observations before there is a model, >= 2."""
    avoid_pending: bool = True
    """Whether running trials without a report count as observed, with what is predicted."""

    def __post_init__(self) -> None:
        check_integer("max_points", self.max_points, low=20)
        check_integer("min_observations", self.min_observations, low=2)
        check_flag("avoid_pending", self.avoid_pending)


class GpModel:
    """Scores a configuration by the logarithm of its expected improvement at full resource.

    1. Targets: the normal scores of the ranks of all finite losses, those of all rungs ranked
       together; earlier runs (a warm start) are ranked each by itself.
    2. A `GaussianProcess` over configuration and depth, of all observations, or `max_points` of
       them: the best ones make half of these, those of the highest rungs a quarter, the rest is
       drawn from the others. Its hyperparameters are fitted each time this run's observations have
       grown by a quarter, to the first so many of them and those of earlier runs (120 drawn from
       these, where there are more): so a restored search has the same.
    3. Expected improvement of a new trial at the last rung level over `reference`: the best that is
       believed of a trial of this run at any level it was seen at, the noise between its reports
       smoothed away, and better by one standard deviation of that noise. (The luckiest of many
       noisy targets is out of reach: measured by it, no good trial promises anything.) Running
       trials that nothing was heard of count as observed with what is predicted for them.
    4. Where trials have failed, the expected improvement is multiplied by the chance of success:
       the share of successful ones among the trials nearby, with one trial's weight on the share
       among all. Nearness is the kernel of the process, or one 2, 4 or 8 times as narrow: whichever
       foretells best what became of each trial from all the others. Failed trials of which failure
       was to be expected (a chance of success below 1/2) are observations, worse than all others;
       those that failed by chance are none.

    Candidates are drawn uniformly, around the best trials, and around the best of both.

    Args:
        n_choices: (d,) categories per column of the search space, 0 for the others.
        settings: Parameters.
        repair: Makes a vector legal, with NaN where a parameter is inactive (`SearchSpace.repair`);
            None where all parameters are always active.
    """

    name = "gp"
    n_candidates = 512
    random_fraction = 0.1
    knows_inactive = True
    every_report = False

    def __init__(
        self,
        n_choices: Ints,
        settings: GpSettings | None = None,
        repair: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self.settings = settings if settings is not None else GpSettings()
        self._repair = repair
        self._columns = Columns(n_choices)
        self._fitted: tuple[tuple[bytes, ...], Hyperparameters] | None = None
        self._process: GaussianProcess | None = None
        self._reference = 0.0
        self._centres: Floats = np.empty((0, len(n_choices)))
        self._failures: _Failures | None = None
        self._losses: Floats = np.empty(0)
        self._n_ranked = 0

    @property
    def process(self) -> GaussianProcess:
        """The process as last fitted."""
        if self._process is None:
            raise RuntimeError("the model is not fitted")
        return self._process

    @property
    def reference(self) -> float:
        """The target that improvement is counted from."""
        return self._reference

    def fit(self, observations: Observations, rng: np.random.Generator) -> int | None:
        """Fit the process to all rungs (see `SurrogateModel`); `rng` is not used.

        Returns:
            The highest level at which anything has been seen, in this run where there is something.
        """
        self._process = None
        rows = np.flatnonzero(np.isfinite(observations.loss))
        if len(rows) < self.settings.min_observations:
            return None
        hyperparameters = self._hyperparameters(observations, rows)
        self._failures = _Failures.of(observations, self._columns, hyperparameters)
        n, has_own = len(rows), bool((observations.trial[rows] >= observations.n_prior).any())
        if self._failures is not None and has_own:  # else there is nothing to be worse than
            rows = np.concatenate([rows, self._failures.expected(observations)])
        is_own = observations.trial[rows] >= observations.n_prior
        target = _targets(observations.loss[rows], observations.source[observations.trial[rows]])
        chosen = _choose(observations, rows, target, is_own, self.settings.max_points)
        data = self._data(observations, rows[chosen], target[chosen])
        self._process = GaussianProcess(
            self._columns, data, hyperparameters, self._pending(observations)
        )
        matters = np.arange(len(rows)) < n  # failures do not
        if has_own:
            matters &= is_own
        believed = self._process.smoothed[matters[chosen]].min()
        self._reference = float(believed) - math.sqrt(hyperparameters.noise)
        own, score = rows[matters], target[matters]
        order = np.argsort(score, kind="stable")
        self._losses = observations.loss[own[order]] if has_own else np.empty(0)
        self._n_ranked = int(np.count_nonzero(is_own))
        ranking = observations.trial[own[order]]
        self._centres = observations.configurations[_first_distinct(ranking, _CENTRES)]
        return int(observations.resource[own].max())

    def propose(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw n candidates, (n, d): half uniformly, the others near good ones."""
        near = n // 4
        first = np.concatenate(
            [self._uniform(n - 2 * near, rng), self._around(self._centres, near, rng)]
        )
        legal = first if self._repair is None else np.array([self._repair(u) for u in first])
        best = first[np.argsort(-self.score(legal), kind="stable")[:_CENTRES]]
        return np.concatenate([first, self._around(best, near, rng)])

    def score(self, candidates: Floats) -> Floats:
        """Return log expected improvement, and log chance of success, of candidates (m, d)."""
        features = self._columns.features(candidates, 1.0)
        mean, deviation = self.process.predict(features)
        score = log_expected_improvement(self._reference, mean, deviation)
        if self._failures is not None:
            score = score + self._failures.log_success(features)
        return score

    def expected_improvement(self, vector: Floats) -> float | None:
        """Return the expected gain in units of the metric.

        Beyond the best one, targets are turned back into losses along the line through the best
        loss and that of the best tenth, of those at rungs of this run. None where they are few, or
        too large to be subtracted.
        """
        mean, deviation = self.process.predict(self._columns.features(vector[None], 1.0))
        losses = self._losses
        if len(losses) < self.settings.min_observations:
            return None  # what a first result is worth, nobody knows
        if max(losses[-1], -losses[0]) > _LARGEST:
            return None
        tenth = max(1, len(losses) // 10)
        first, last = ndtri((np.array([0, tenth]) + 0.5) / self._n_ranked)
        slope = (losses[tenth] - losses[0]) / (last - first)
        gain = np.exp(log_expected_improvement(first, mean, deviation))
        return max(0.0, float(slope * gain[0]))

    def _hyperparameters(self, observations: Observations, rows: Ints) -> Hyperparameters:
        n_own = int(np.count_nonzero(observations.trial[rows] >= observations.n_prior))
        n_earlier = len(rows) - n_own  # these come first
        least = self.settings.min_observations
        count = least if n_own >= least else max(0, least - n_earlier)
        while count and math.ceil(count * _REFIT_GROWTH) <= n_own:
            count = math.ceil(count * _REFIT_GROWTH)
        first = rows[: n_earlier + count]
        # all that they depend on: a restored search, which knows no fit, must find the same
        columns = observations.trial, observations.resource, observations.loss
        key = (
            *(column[first].tobytes() for column in columns),
            observations.configurations[observations.trial[first]].tobytes(),
        )
        if self._fitted is None or self._fitted[0] != key:
            if len(first) > _FIT_POINTS:
                rng = np.random.default_rng(count)
                most = max(_FIT_POINTS // 2, _FIT_POINTS - n_earlier)
                own = n_earlier + rng.permutation(count)[:most]
                earlier = rng.permutation(n_earlier)[: _FIT_POINTS - len(own)]
                first = first[np.sort(np.concatenate([earlier, own]))]
            target = _targets(
                observations.loss[first], observations.source[observations.trial[first]]
            )
            data = self._data(observations, first, target)
            self._fitted = key, fit_hyperparameters(self._columns, data)
        return self._fitted[1]

    def _data(self, observations: Observations, rows: Ints, target: Floats) -> Data:
        trial = observations.trial[rows]
        depth = _depth(observations.resource[rows], observations.rung_levels[-1])
        return Data(
            features=self._columns.features(observations.configurations[trial], depth),
            trial=trial,
            source=observations.source[trial],
            target=target,
        )

    def _pending(self, observations: Observations) -> Floats | None:
        """Running trials of which no rung level has heard, as if trained in full."""
        if not self.settings.avoid_pending:
            return None
        return self._columns.features(observations.configurations[observations.unheard], 1.0)

    def _uniform(self, n: int, rng: np.random.Generator) -> Floats:
        k = self._columns.n_choices
        u = rng.random((n, len(k)))
        return np.where(k > 0, (np.floor(u * k) + 0.5) / np.maximum(k, 1), u)

    def _around(self, centres: Floats, n: int, rng: np.random.Generator) -> Floats:
        """Move some columns of random centres: by a normal step, or to another category."""
        chosen = centres[rng.integers(len(centres), size=n)]
        elsewhere = self._uniform(n, rng)
        chosen = np.where(np.isnan(chosen), elsewhere, chosen)
        step = 10.0 ** rng.uniform(-2.5, -0.3, size=(n, 1))
        moved = np.clip(chosen + step * rng.standard_normal(chosen.shape), 0.0, 1.0)
        is_numeric = self._columns.n_choices == 0
        share = rng.choice([0.25, 0.5, 1.0], size=(n, 1))
        moves = rng.random(chosen.shape) < np.where(is_numeric, share, 0.3 * share)
        return np.where(moves, np.where(is_numeric, moved, elsewhere), chosen)


@dataclass(frozen=True)
class _Failures:
    """Where trials fail: a kernel estimate of the chance of success."""

    points: Floats
    """(t, f) features of trials in units of length scales, the failed ones first."""
    weight: Floats
    """(t,) how many trials each stands for."""
    failed: Ints
    """The failed trials."""
    scale: Floats
    """(f,) length scales."""

    @classmethod
    def of(
        cls, observations: Observations, columns: Columns, hyperparameters: Hyperparameters
    ) -> _Failures | None:
        """Learn from all trials of this run that have reported or failed; None if none failed."""
        own = observations.trial >= observations.n_prior
        is_bad = ~np.isfinite(observations.loss)
        bad = np.unique(observations.trial[own & is_bad])
        if not len(bad):
            return None
        groups = bad, np.setdiff1d(observations.trial[own & ~is_bad], bad)
        kept = [group[-_FAILURE_POINTS:] for group in groups]
        share = [len(g) / max(len(k), 1) for g, k in zip(groups, kept, strict=True)]
        scale = hyperparameters.length_scales[columns.owner]
        vectors = observations.configurations[np.concatenate(kept)]
        features = columns.features(vectors, 1.0)
        weight = np.repeat(share, [len(k) for k in kept])
        scales = [scale / sharpness for sharpness in _SHARPNESS]
        tried = [cls(scaled(features, s).astype(np.float32), weight, kept[0], s) for s in scales]
        return max(tried, key=cls._log_likelihood)

    def log_success(self, features: Floats) -> Floats:
        """Return (m,) log chance of success, relative to the share of success among all trials."""
        points = scaled(features, self.scale).astype(np.float32)
        near = matern(points, self.points) * self.weight
        return np.asarray(np.log(self._chance(near) / self._share()))

    def expected(self, observations: Observations) -> Ints:
        """Rows of the failures that the other trials foretell: a chance of success below 1/2."""
        chance = self._chance_by_others()[: len(self.failed)]
        is_expected = np.isin(observations.trial, self.failed[chance < 0.5])
        return np.flatnonzero(is_expected & ~np.isfinite(observations.loss))

    def _share(self) -> float:
        """Share of success among all trials, as if one of them had succeeded at least."""
        total = self.weight.sum()
        good = self.weight[len(self.failed) :].sum()
        return float(max(good / total, 1.0 / (1.0 + total)))

    def _chance(self, near: Floats) -> Floats:
        """Chance of success (m,), given the weights (m, t) of the trials there."""
        good = near[:, len(self.failed) :].sum(axis=1)
        return np.asarray((good + self._share()) / (near.sum(axis=1) + 1.0), np.float64)

    def _chance_by_others(self) -> Floats:
        near = matern(self.points, self.points) * self.weight
        np.fill_diagonal(near, 0.0)
        return self._chance(near)

    def _log_likelihood(self) -> float:
        chance = self._chance_by_others()
        n = len(self.failed)
        is_right = np.concatenate([1.0 - chance[:n], chance[n:]])
        return float(self.weight @ np.log(np.maximum(is_right, 1e-9)))


def log_expected_improvement(best: float, mean: Floats, deviation: Floats) -> Floats:
    """Return the logarithm of E[max(best - Y, 0)] for Y normal, accurate far below the best too.

    Args:
        best: Target to be improved on; smaller is better.
        mean: (m,) of Y.
        deviation: (m,) standard deviation of Y, > 0.
    """
    z = (best - mean) / deviation
    log_density = -0.5 * np.square(z) - 0.5 * math.log(2 * math.pi)
    # z Phi(z) + phi(z): directly, and far out by its asymptotic series
    near = np.maximum(z, -25.0)
    direct = np.log(near * ndtr(near) + np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi))
    far = np.minimum(z, -25.0)
    tail = log_density - 2.0 * np.log(-far) + np.log1p(-3.0 / np.square(far))
    return np.log(deviation) + np.where(z > -25.0, direct, tail)


def _targets(loss: Floats, source: Ints) -> Floats:
    """Normal scores (n,) of losses, ranked among those of the same run."""
    target = np.empty(len(loss))
    for run in np.unique(source):
        of_run = source == run
        n = np.count_nonzero(of_run)
        target[of_run] = ndtri((rankdata(loss[of_run]) - 0.5) / n)
    return target


def _depth(resource: Ints, max_resource: int) -> Floats:
    if max_resource == 1:
        return np.ones(len(resource))
    return np.asarray(np.log(resource) / math.log(max_resource))


def _choose(
    observations: Observations, rows: Ints, target: Floats, is_own: NDArray[np.bool_], most: int
) -> Ints:
    """Choose which of the finite observations go into the process: ascending indices of `rows`."""
    n = len(rows)
    if n <= most:
        return np.arange(n)
    # the half for the best is this run's first; earlier runs have what is left of it
    resource = observations.resource[rows]
    order = np.lexsort((target, ~is_own))
    best = order[: most // 2]
    left = np.setdiff1d(np.arange(n), best)
    high = left[np.lexsort((target[left], -resource[left], ~is_own[left]))[: most // 4]]
    left = np.setdiff1d(left, high)
    others = np.random.default_rng(n).permutation(left)[: most - len(best) - len(high)]
    return np.sort(np.concatenate([best, high, others]))


def _first_distinct(trials: Ints, most: int) -> Ints:
    """The first few different trials of a ranking."""
    _, first = np.unique(trials, return_index=True)
    return trials[np.sort(first)[:most]]
