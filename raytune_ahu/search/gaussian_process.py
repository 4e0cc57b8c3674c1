"""A Gaussian process over configuration and resource: kernel, hyperparameters, posterior.

Rasmussen and Williams: Gaussian Processes for Machine Learning (2006), chapters 2 and 5. Start with
`GaussianProcess`; what is done with its predictions is in `gp.py`.

Symbols: n observations, d columns of the search space, f features (one for each numeric column, k
for a categorical one of k values, and the resource as the last), m points that are asked about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, get_lapack_funcs
from scipy.optimize import minimize

from raytune_ahu.search.kernels import category_index
from raytune_ahu.search.model import THIS_RUN, Floats, Ints

_JITTER = 1e-6
"""Added to the diagonal; targets have unit variance."""
_OFFSET = 1.0
"""Variance of what all observations of one run share, where there are several runs: each has ranked
its losses by itself, and the run that began from the best of another has other ranks for them."""
_MAX_STEPS = 25
"""Steps of L-BFGS when hyperparameters are fitted; it stops earlier where it has converged."""


class Columns:
    """Turns encoded configurations into features whose squared distances make sense.

    A numeric column is one feature, an inactive one sits in the middle. A categorical column has a
    feature of sqrt(1/2) for its value, so two different values are at distance 1, and none where it
    is inactive.

    Args:
        n_choices: (d,) categories per column, 0 for numeric ones.
    """

    def __init__(self, n_choices: Ints) -> None:
        self.n_choices = np.asarray(n_choices, dtype=np.int64)
        widths = np.maximum(self.n_choices, 1)
        self.owner: Ints = np.append(np.repeat(np.arange(len(widths)), widths), len(widths))
        """(f,) column that each feature belongs to; d for the resource."""

    def features(self, vectors: Floats, depth: Floats | float) -> Floats:
        """Return (n, f) features.

        Args:
            vectors: (n, d) encoded configurations, NaN where inactive.
            depth: (n,) or one number: resource on a scale from 0 (one epoch) to 1 (all of them).
        """
        parts = []
        for j, k in enumerate(self.n_choices.tolist()):
            column = vectors[:, j]
            if k == 0:
                parts.append(np.where(np.isnan(column), 0.5, column)[:, None])
                continue
            active = ~np.isnan(column)
            index = category_index(np.where(active, column, 0.0), k)
            is_value = (index[:, None] == np.arange(k)) & active[:, None]
            parts.append(is_value * math.sqrt(0.5))
        parts.append(np.broadcast_to(np.asarray(depth, np.float64), len(vectors))[:, None])
        return np.concatenate(parts, axis=1)

    def squared_distances(self, features: Floats) -> Floats:
        """Return (d + 1, n, n) squared distances, column by column, the resource last."""
        out = np.empty((len(self.n_choices) + 1, len(features), len(features)))
        for j in range(len(out)):
            block = features[:, self.owner == j]
            if block.shape[1] == 1:
                out[j] = np.square(block - block.T)
            else:
                squares = np.square(block).sum(axis=1)
                out[j] = np.maximum(squares[:, None] + squares - 2.0 * block @ block.T, 0.0)
        return out


@dataclass(frozen=True)
class Data:
    """What a process is fitted to."""

    features: Floats
    """(n, f) as `Columns.features` gives them."""
    trial: Ints
    """(n,) whose observation each is."""
    source: Ints
    """(n,) of which run it is: `THIS_RUN`, or another number for each earlier one."""
    target: Floats
    """(n,) about standard normal; the smaller, the better."""

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Ints) -> Data:
        """Return some of the observations."""
        return Data(self.features[rows], self.trial[rows], self.source[rows], self.target[rows])


@dataclass(frozen=True)
class Hyperparameters:
    """Parameters of the covariance; see `GaussianProcess`."""

    length_scales: Floats
    """(d + 1,) of each column, and of the resource."""
    signal: float
    """Variance that configuration and resource explain."""
    trial: float
    """Variance of what the observations of one trial share beyond that."""
    noise: float
    """Variance of a single observation."""
    correlation: float
    """Between any two runs, in [0, 1]."""


def fit_hyperparameters(columns: Columns, data: Data) -> Hyperparameters:
    """Maximise the posterior density of the hyperparameters, by L-BFGS with exact gradients.

    Priors (on logarithms, normal): length scales of the columns around sqrt(d / 8), so that the
    prior function does not become wilder with more columns (Hvarfner et al. 2024); that of the
    resource around 1; signal around 1, trial around 0.1, noise around 0.05. The correlation has a
    logit around 1, that is 0.73, and is fitted only where there are earlier runs.

    Args:
        columns: The search space's columns.
        data: At least one observation.

    Returns:
        The hyperparameters; the same for the same data.
    """
    d = len(columns.n_choices)
    has_sources = len(np.unique(data.source)) > 1
    centre = np.array(
        [*[0.5 * math.log(max(d, 1) / 8.0)] * d, 0.0, 0.0, math.log(0.1), math.log(0.05), 1.0]
    )
    spread = np.array([*[0.9] * d, 1.0, 0.7, 1.0, 1.0, 1.5])
    free = len(centre) if has_sources else len(centre) - 1
    objective = _Objective(columns, data, centre[:free], spread[:free])
    low, high = centre - 4 * spread, centre + 4 * spread
    bounds = list(zip(low[:free], high[:free], strict=True))
    found = minimize(
        objective, centre[:free], jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": _MAX_STEPS},
    )  # fmt: skip
    theta = np.concatenate([found.x, centre[free:]])
    signal, trial, noise = np.exp(theta[d + 1 : d + 4])
    return Hyperparameters(
        length_scales=np.exp(theta[: d + 1]),
        signal=float(signal),
        trial=float(trial),
        noise=float(noise),
        correlation=_sigmoid(float(theta[d + 4])),
    )


class _Objective:
    """Negative log posterior of the hyperparameters, with its gradient."""

    def __init__(self, columns: Columns, data: Data, centre: Floats, spread: Floats) -> None:
        self.distances = columns.squared_distances(data.features)
        self.same_trial = np.asarray(data.trial[:, None] == data.trial, np.float64)
        self.elsewhere = np.asarray(data.source[:, None] != data.source, np.float64)
        self.offset = _offset(data.source) * (1.0 - self.elsewhere)
        self.target = data.target
        self.centre, self.spread = centre, spread

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        p = len(self.distances)
        inverse_squares = np.exp(-2.0 * theta[:p])
        signal, trial, noise = np.exp(theta[p : p + 3])
        radius = np.sqrt(5.0 * np.tensordot(inverse_squares, self.distances, 1))
        decay = np.exp(-radius)
        slope = (1.0 + radius) * decay
        shape = slope + np.square(radius) / 3.0 * decay
        rho = _sigmoid(theta[p + 3]) if len(theta) > p + 3 else 1.0
        link = 1.0 - (1.0 - rho) * self.elsewhere
        covariance = signal * shape * link + trial * self.same_trial + self.offset
        covariance[np.diag_indices_from(covariance)] += noise + _JITTER
        try:
            lower = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:  # L-BFGS steps back from here
            return 1e10, np.zeros_like(theta)
        inverse = _inverse(lower)
        ones = inverse.sum(axis=1)
        weights = inverse @ (self.target - ones @ self.target / ones.sum())
        value = 0.5 * (self.target @ weights) + np.log(np.diag(lower)).sum()
        # d value / d K, contracted with d K / d theta
        outer = 0.5 * (inverse - np.outer(weights, weights))
        gradient = np.empty_like(theta)
        pull = outer * link * (signal * 5.0 / 3.0) * slope
        gradient[:p] = (self.distances.reshape(p, -1) @ pull.ravel()) * inverse_squares
        gradient[p] = signal * (outer * shape * link).sum()
        gradient[p + 1] = trial * (outer * self.same_trial).sum()
        gradient[p + 2] = noise * np.trace(outer)
        if len(theta) > p + 3:
            change = signal * rho * (1.0 - rho) * self.elsewhere
            gradient[p + 3] = (outer * shape * change).sum()
        off = (theta - self.centre) / self.spread
        return float(value + 0.5 * off @ off), gradient + off / self.spread


class GaussianProcess:
    """Posterior of a loss over configurations x and resources r, given observations.

    With z = (x, depth of r), the covariance of two observations is::

        signal * link * M(z, z') + trial * [same trial] + offset * [same run]
            + noise * [same observation]

    M is the Matern kernel of smoothness 5/2 with one length scale for each column. The trial's term
    is what a configuration does not explain (its random initialisation, say) and all epochs of the
    trial share; it keeps ten reports of a lucky trial from counting as ten witnesses. `link` is 1
    within a run, and the fitted correlation between any two runs. The offset is 0 where there is
    one run only, else 1: what is rank 10 in one run may be rank 100 in another. The mean is a
    constant, estimated by generalised least squares.

    Predictions are made in single precision: they are for ranking, and four times faster.

    Args:
        columns: The search space's columns.
        data: n >= 1 observations.
        hyperparameters: Of the covariance.
        pending: (q, f) features of running trials, without an observation yet. They count as
            observed with their predicted value, so the uncertainty around them is gone.
    """

    def __init__(
        self,
        columns: Columns,
        data: Data,
        hyperparameters: Hyperparameters,
        pending: Floats | None = None,
    ) -> None:
        self.hyperparameters = h = hyperparameters
        self._scale = h.length_scales[columns.owner]
        points, source = scaled(data.features, self._scale), data.source
        self._offset = _offset(source)
        covariance = self._between(points, points, source, source)
        covariance += h.trial * (data.trial[:, None] == data.trial)
        covariance[np.diag_indices_from(covariance)] += h.noise + _JITTER
        lower = np.linalg.cholesky(covariance)
        ones = cho_solve((lower, True), np.ones(len(data)), check_finite=False)
        self.mean = float(ones @ data.target / ones.sum())
        """Prior mean of the targets."""
        target = data.target - self.mean
        if pending is not None and len(pending):
            running = scaled(pending, self._scale)
            here = np.full(len(running), THIS_RUN)
            cross = self._between(points, running, source, here)
            inner = self._between(running, running, here, here)
            inner[np.diag_indices_from(inner)] += h.trial + h.noise + _JITTER
            solved = cho_solve((lower, True), cross, check_finite=False)
            believed = solved.T @ target
            corner = np.linalg.cholesky(inner - cross.T @ solved)
            side = np.linalg.solve(lower, cross).T
            lower = np.block([[lower, np.zeros_like(side.T)], [side, corner]])
            points, source = np.concatenate([points, running]), np.concatenate([source, here])
            target = np.concatenate([target, believed])
        is_here = source[:, None] == THIS_RUN
        self._signal_here = (h.signal * np.where(is_here, 1.0, h.correlation)).astype(np.float32)
        self._offset_here = (self._offset * is_here).astype(np.float32)
        self._points = points.astype(np.float32)
        weights = cho_solve((lower, True), target, check_finite=False)
        self.smoothed: Floats = data.target - (h.noise + _JITTER) * weights[: len(data)]
        """(n,) what is believed of each observation without its own noise: its posterior mean."""
        self._weights = weights.astype(np.float32)
        (invert,) = get_lapack_funcs(("trtri",), (lower,))
        self._root = np.tril(invert(lower, lower=1)[0]).astype(np.float32)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation, each (m,), of the loss of new trials in this run.

        Args:
            features: (m, f).

        Returns:
            The mean, and the deviation of what configuration, resource and run explain: neither the
            trial's own term nor the noise is in it.
        """
        points = scaled(features, self._scale).astype(np.float32)
        cross = matern(self._points, points)
        cross *= self._signal_here
        cross += self._offset_here
        mean = cross.T @ self._weights
        half = self._root @ cross
        variance = self.hyperparameters.signal + self._offset - np.einsum("ij,ij->j", half, half)
        deviation = np.sqrt(np.maximum(variance.astype(np.float64), _JITTER))
        return mean.astype(np.float64) + self.mean, deviation

    def _between(self, one: Floats, other: Floats, run: Ints, other_run: Ints) -> Floats:
        """Covariance (n, m) of points (n, f) and (m, f) of these runs, without trial and noise."""
        h, same_run = self.hyperparameters, run[:, None] == other_run
        covariance = h.signal * matern(one, other)
        covariance *= np.where(same_run, 1.0, h.correlation)
        covariance += self._offset * same_run
        return np.asarray(covariance)


def scaled(features: Floats, length_scales: Floats) -> Floats:
    """Return features (n, f) in units of length scales (f,), around 0.

    Around 0, because squares of large numbers would cost digits in single precision.
    """
    return (features - 0.5) / length_scales


def matern(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return (n, m) Matern-5/2 correlations of points (n, f) and (m, f) in units of length scales.

    The precision is that of the points: it works in their type throughout.
    """
    number = one.dtype.type
    radius = one @ (other.T * number(-10))
    radius += number(5) * np.square(one).sum(axis=1)[:, None]
    radius += number(5) * np.square(other).sum(axis=1)
    np.sqrt(np.maximum(radius, number(0), out=radius), out=radius)
    shape = np.square(radius)
    shape *= number(1 / 3)
    shape += radius
    shape += number(1)
    np.exp(np.negative(radius, out=radius), out=radius)
    return np.asarray(shape * radius)


def _offset(source: Ints) -> float:
    return _OFFSET if len(np.unique(source)) > 1 else 0.0


def _inverse(lower: Floats) -> Floats:
    """Inverse of the matrix whose Cholesky factor is given."""
    (invert,) = get_lapack_funcs(("potri",), (lower,))
    half = np.tril(invert(lower, lower=1)[0])
    return np.asarray(half + np.tril(half, -1).T)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
