"""BOHB's model: the ratio of two kernel densities, of the good and of the other configurations.

From Falkner, Klein, Hutter: BOHB, Robust and Efficient Hyperparameter Optimization at Scale (ICML
2018), sections 3.2 and 4.1. Defaults, bandwidths and densities are those of hpbandster, which is
the oracle in the tests. Start with `KdeModel`; its steps are `split_good_bad` and
`impute_inactive`.

Shapes: n observations at one level, d columns, m candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raytune_ahu.search.checks import (
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_number,
)
from raytune_ahu.search.kernels import (
    CategoricalRule,
    ProductKernelDensity,
    category_index,
    sample_categories,
    sample_truncated_normal,
)
from raytune_ahu.search.model import Floats, Ints, Observations

_LOG_FLOOR = math.log(1e-32)
"""Densities below 1e-32 count as 1e-32, in the ratio as in hpbandster."""


@dataclass(frozen=True, slots=True)
class KdeSettings:
    """Parameters of the density model. The defaults are BOHB's.

    Raises:
        SpecError: If one is out of its range.
    """

    top_fraction: float = 0.15
    """Share of the observations at a level that counts as good, in (0, 1)."""
    bandwidth_factor: float = 3.0
    """Candidates are drawn with this multiple of the good density's bandwidth, > 0."""
    min_bandwidth: float = 1e-3
    """Floor of the bandwidths, in [1e-4, 1]: keeps diversity where the good ones agree."""
    min_points_in_model: int | None = None
    """Least number of good observations, at least d + 1 (None: d + 1). The others must number at
    least d + 1 too, so the first model needs 2 (d + 1) observations at one level."""
    avoid_pending: bool = True
    """Whether candidates near a running trial are marked down."""
    categorical: CategoricalRule = "proper"
    """See `ProductKernelDensity`; `statsmodels` reproduces hpbandster to the letter."""

    def __post_init__(self) -> None:
        check_fraction("top_fraction", self.top_fraction, open_ends=True)
        check_number("bandwidth_factor", self.bandwidth_factor, low=1e-6, high=1e6)
        check_number("min_bandwidth", self.min_bandwidth, low=1e-4, high=1.0)
        if self.min_points_in_model is not None:
            check_integer("min_points_in_model", self.min_points_in_model, low=2)
        check_flag("avoid_pending", self.avoid_pending)
        check_choice("categorical", self.categorical, ("proper", "statsmodels"))


class KdeModel:
    """Scores a configuration by l(x) / g(x), densities of the good and of the bad ones.

    The model is that of the largest rung level with enough data. There, with N observations, the
    max(min_points, top_fraction * N) best are good and the max(min_points, (1 - top_fraction) * N)
    next ones are bad, both rounded down. Failed and non-finite observations are never good: where
    there are fewer finite losses, all of them are the good ones, and a level has too little data
    while there are fewer than min_points. (In hpbandster failed ones can fill up the good ones.)
    Among equal losses the earlier observation ranks first.

    A parameter that is inactive in an observation is filled in from another observation of the same
    group, or by a uniform draw where it is active in none (`impute_inactive`).

    A candidate is a good observation, drawn at random, with every numeric column moved by a normal
    of `bandwidth_factor` times the bandwidth, cut off at the borders, and every categorical one
    redrawn with the bandwidth as its probability.

    Running trials that have not been heard of yet push candidates away from themselves. With
    k(x, p) the good density's kernel around one of them, scaled to 1 at its centre (inactive
    columns count as equal), l(x) / g(x) is multiplied by 1 - k(x, p) for the nearest of them. A
    point that is being tried thus scores 0, one a few bandwidths away is not touched, and this
    works the same with 20 observations as with 20,000. (Counting them as bad, as is usual, hardly
    moves g when it is made of thousands. The product over all of them, instead of the nearest,
    spreads 16 workers too far: on the Branin function the regret was larger.)

    Args:
        n_choices: (d,) categories per column of the search space, 0 for the others.
        settings: Parameters.

    Raises:
        SpecError: If `min_points_in_model` is below d + 1.
    """

    name = "kde"
    n_candidates = 64
    random_fraction = 1 / 3
    knows_inactive = False
    every_report = False

    def __init__(self, n_choices: Ints, settings: KdeSettings | None = None) -> None:
        self.settings = settings if settings is not None else KdeSettings()
        self._n_choices = np.asarray(n_choices, dtype=np.int64)
        self._least = len(self._n_choices) + 1
        points = self.settings.min_points_in_model
        if points is not None:
            check_integer("min_points_in_model", points, low=self._least)
        self._min_points = self._least if points is None else points
        self._good: ProductKernelDensity | None = None
        self._bad: ProductKernelDensity | None = None
        self._pending: Floats = np.empty((0, len(self._n_choices)))

    @property
    def good(self) -> ProductKernelDensity:
        """Density of the good configurations at the fitted level."""
        if self._good is None:
            raise RuntimeError("the model is not fitted")
        return self._good

    @property
    def bad(self) -> ProductKernelDensity:
        """Density of the other configurations at the fitted level."""
        if self._bad is None:
            raise RuntimeError("the model is not fitted")
        return self._bad

    def expected_improvement(self, vector: Floats) -> float | None:
        """Return None: a density ratio ranks configurations, it predicts no value."""
        return None

    def fit(self, observations: Observations, rng: np.random.Generator) -> int | None:
        """Fit the densities of the largest level with enough data (see `SurrogateModel`)."""
        self._good = self._bad = None
        for level in reversed(observations.rung_levels):
            if observations.count_at(level) < self._min_points + self._least:
                continue
            x, loss = observations.at(level)
            parts = split_good_bad(loss, self.settings.top_fraction, self._min_points)
            if parts is None or len(parts[1]) < self._least:
                continue
            self._good = self._density(x[parts[0]], rng)
            self._bad = self._density(x[parts[1]], rng)
            self._pending = self._pending_configurations(observations)
            return level
        return None

    def propose(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw n candidates around good configurations, (n, d)."""
        good = self.good
        centres = good.data[rng.integers(len(good.data), size=n)]
        candidates = np.empty_like(centres)
        numeric = np.flatnonzero(self._n_choices == 0)
        candidates[:, numeric] = sample_truncated_normal(
            centres[:, numeric], self.settings.bandwidth_factor * good.bandwidths[numeric], rng
        )
        for j in np.flatnonzero(self._n_choices > 0):
            k = int(self._n_choices[j])
            index = category_index(centres[:, j], k)
            drawn = sample_categories(index, k, float(good.bandwidths[j]), rng)
            candidates[:, j] = (drawn + 0.5) / k
        return candidates

    def score(self, candidates: Floats) -> Floats:
        """Return log l(x) - log g(x) of candidates (m, d), plus the mark-down of running trials."""
        ratio = floored_log_pdf(self.good, candidates) - floored_log_pdf(self.bad, candidates)
        if len(self._pending):
            ratio = ratio + log_distance_from(self._pending, self.good, candidates)
        return ratio

    def _density(self, data: Floats, rng: np.random.Generator) -> ProductKernelDensity:
        return ProductKernelDensity(
            impute_inactive(data, self._n_choices, rng),
            self._n_choices,
            min_bandwidth=self.settings.min_bandwidth,
            categorical=self.settings.categorical,
        )

    def _pending_configurations(self, observations: Observations) -> Floats:
        """Running trials of which no rung level has heard, (p, d) with NaN where inactive."""
        if not self.settings.avoid_pending:
            return np.empty((0, len(self._n_choices)))
        return np.asarray(observations.configurations[observations.unheard])


def split_good_bad(loss: Floats, top_fraction: float, min_points: int) -> tuple[Ints, Ints] | None:
    """Split observations into good and bad ones by their loss.

    Args:
        loss: (n,) losses, +inf for failed ones.
        top_fraction: Share of good ones.
        min_points: Least number of each.

    Returns:
        Indices of the good and of the bad ones, best first; None if there are fewer finite losses
        than `min_points`. The shares are rounded down, so up to one observation, the worst,
        is in neither.
    """
    n_good = max(min_points, math.floor(round(top_fraction * len(loss), 9)))
    n_bad = max(min_points, math.floor(round((1.0 - top_fraction) * len(loss), 9)))
    n_finite = int(np.count_nonzero(np.isfinite(loss)))
    if n_finite < min_points:
        return None
    n_good = min(n_good, n_finite)
    order = np.argsort(loss, kind="stable")
    return order[:n_good], order[n_good : n_good + n_bad]


def impute_inactive(data: Floats, n_choices: Ints, rng: np.random.Generator) -> Floats:
    """Fill in inactive parameters (NaN) from rows in which they are active.

    For the first inactive column of a row, a row in which it is active is drawn, and all inactive
    columns are taken from there, so that parameters that are active together stay together; this is
    repeated until none is left. A column that is active nowhere gets uniform draws.

    Args:
        data: (n, d) encoded configurations; not changed.
        n_choices: (d,) categories per column, 0 for numeric ones.
        rng: Generator; not used if nothing is inactive.

    Returns:
        (n, d) without NaN; `data` itself if nothing was inactive.
    """
    inactive = np.isnan(data)
    if not inactive.any():
        return data
    filled = data.copy()
    for j in np.flatnonzero(inactive.any(axis=0)):
        holes = np.flatnonzero(np.isnan(filled[:, j]))
        donors = np.flatnonzero(~inactive[:, j])
        if len(donors):
            given = data[donors[rng.integers(len(donors), size=len(holes))]]
            filled[holes] = np.where(np.isnan(filled[holes]), given, filled[holes])
        elif n_choices[j] > 0:
            k = int(n_choices[j])
            filled[holes, j] = (rng.integers(k, size=len(holes)) + 0.5) / k
        else:
            filled[holes, j] = rng.random(len(holes))
    return filled


def floored_log_pdf(density: ProductKernelDensity, points: Floats) -> Floats:
    """Logarithm of max(p(x), 1e-32)."""
    if density.is_proper:
        return np.maximum(density.log_pdf(points), _LOG_FLOOR)
    return np.asarray(np.log(np.maximum(density.pdf(points), 1e-32)))


def log_distance_from(pending: Floats, density: ProductKernelDensity, candidates: Floats) -> Floats:
    """Least log(1 - k(x, p)) of any running trial p, see `KdeModel`.

    Args:
        pending: (p, d) running configurations; an inactive column (NaN) counts as equal.
        density: Gives bandwidths and categorical weights.
        candidates: (m, d).

    Returns:
        (m,) numbers <= 0; about -28 where a running trial equals the candidate.
    """
    log_kernel = np.zeros((len(candidates), len(pending)))
    for j, h in enumerate(density.bandwidths):
        gap = np.abs(candidates[:, j, None] - pending[None, :, j])
        if density.n_choices[j] == 0:
            term = -0.5 * np.square(gap / h)
        else:
            differs = gap > 0.5 / density.n_choices[j]
            term = np.where(differs, density.log_mismatch(j), 0.0)
        log_kernel += np.where(np.isnan(gap), 0.0, term)
    nearest = np.minimum(np.exp(log_kernel.max(axis=1)), 1.0 - 1e-12)
    return np.asarray(np.log1p(-nearest))
