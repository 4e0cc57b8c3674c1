"""Product kernel density over numeric and categorical columns, and the draws that go with it.

The density of `ProductKernelDensity` is the one hpbandster takes from statsmodels, evaluated for
all candidates and data at once: the logarithm of the product kernel is a sum over columns, so one
matrix product gives it for every (candidate, datum) pair, and one exponential follows.

Symbols and shapes:
    n data, m points at which the density is wanted, d columns
    X (n, d)   data: numeric columns in [0, 1], categorical columns as (index + 0.5) / k
    k (d,)     number of categories; 0 for a numeric column
    h (d,)     bandwidths; of a categorical column in units of its index
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from raytune_ahu.search.model import Floats, Ints

CategoricalRule: TypeAlias = Literal["proper", "statsmodels"]
"""How categorical columns are smoothed, see `ProductKernelDensity`."""

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_BLOCK = 2048  # data per block: 64 candidates x 2048 doubles are 1 MB and stay in the cache


def category_index(column: NDArray[np.float64], n_choices: int) -> Ints:
    """Return the category indices encoded in a column as (index + 0.5) / n_choices."""
    index = np.floor(column * n_choices).astype(np.int64)
    return np.clip(index, 0, n_choices - 1)


def normal_reference_bandwidths(data: Floats, n_choices: Ints) -> Floats:
    """Normal reference rule 1.06 * std * n ** (-1 / (4 + d)), one bandwidth per column.

    Args:
        data: (n, d) without NaN.
        n_choices: (d,) categories per column, 0 for numeric ones. The deviation of a categorical
            column is that of its indices, as statsmodels computes it.

    Returns:
        (d,) bandwidths; 0 where all data agree.
    """
    n, d = data.shape
    scale = np.maximum(n_choices, 1)
    return np.asarray(1.06 * data.std(axis=0) * scale * n ** (-1.0 / (4 + d)))


class ProductKernelDensity:
    """p(x) = 1/n sum_i prod_j K_j(x_j, X_ij): Gaussian and Aitchison-Aitken kernels.

    The Gaussian kernel of a numeric column is not cut off at the borders of the unit interval. The
    kernel of a categorical column is 1 - h for the same category and h / (k - 1) for each other.

    With the rule `statsmodels`, k is the number of categories that occur in the data and h is
    unbounded; so a density can be infinite (one category seen), or negative (h > 1). With `proper`,
    the default, k is the number of categories that exist, and h is at most (k - 1) / k, where the
    kernel is uniform. The two agree wherever all categories occur and h is below that limit.

    Args:
        data: (n, d) without NaN, n >= 1.
        n_choices: (d,) categories per column, 0 for numeric ones.
        min_bandwidth: Floor of every bandwidth; at least 1e-4, below which the expanded squares
            lose the accuracy of 1e-6 that the density has otherwise.
        categorical: Rule for the categorical columns.
    """

    def __init__(
        self,
        data: Floats,
        n_choices: Ints,
        *,
        min_bandwidth: float = 1e-3,
        categorical: CategoricalRule = "proper",
    ) -> None:
        self.data = data
        self.n_choices = n_choices
        self.bandwidths = np.maximum(normal_reference_bandwidths(data, n_choices), min_bandwidth)
        """(d,) bandwidths after floor and, with the rule `proper`, ceiling."""
        self._numeric = np.flatnonzero(n_choices == 0)
        self._categorical = [int(j) for j in np.flatnonzero(n_choices > 0)]
        self.is_proper = categorical == "proper"
        if self.is_proper:
            for j in self._categorical:
                ceiling = (n_choices[j] - 1) / n_choices[j]
                self.bandwidths[j] = min(self.bandwidths[j], ceiling)
        h = self.bandwidths[self._numeric]
        self._log_constant = -float(np.sum(np.log(h))) - len(h) * _LOG_SQRT_2PI

    def log_pdf(self, points: Floats) -> Floats:
        """Return the logarithm of the density (m,) at points (m, d); -inf where it underflows.

        Raises:
            ValueError: With the rule `statsmodels`, whose density may be negative; take `pdf`.
        """
        if not self.is_proper:
            raise ValueError("log_pdf needs categorical='proper'; use pdf")
        total = np.zeros(len(points))
        left, squares = self._point_features(points)
        buffer = np.empty((len(points), min(_BLOCK, len(self.data))))
        for start in range(0, len(self.data), _BLOCK):
            right = self._data_features(self.data[start : start + _BLOCK])
            block = buffer[:, : right.shape[1]]
            np.matmul(left, right, out=block)
            block -= squares[:, None]
            np.exp(block, out=block)
            total += block.sum(axis=1)
        with np.errstate(divide="ignore"):
            log_sum = np.log(total)
        return np.asarray(log_sum + (self._log_constant - math.log(len(self.data))))

    def pdf(self, points: Floats) -> Floats:
        """Return the density (m,) at points (m, d)."""
        if self.is_proper:
            return np.asarray(np.exp(self.log_pdf(points)))
        return self._statsmodels_pdf(points)

    def categorical_weights(self, column: int) -> tuple[float, float]:
        """Return the kernel of a categorical column for equal and for different categories."""
        h = float(self.bandwidths[column])
        if self.is_proper:
            levels = int(self.n_choices[column])
        else:
            levels = len(np.unique(self.data[:, column]))
        if levels < 2:
            return 1.0 - h, (0.0 if self.is_proper else math.inf)
        return 1.0 - h, h / (levels - 1)

    def log_mismatch(self, column: int) -> float:
        """Return how much a different category lowers the log kernel of a column: a number <= 0."""
        same, other = self.categorical_weights(column)
        return math.log(max(other, 1e-300) / same) if same > other else 0.0

    def _point_features(self, points: Floats) -> tuple[Floats, Floats]:
        """Left factor (m, p) of the log kernel, and the half squares (m,) to be subtracted."""
        z = points[:, self._numeric] / self.bandwidths[self._numeric]
        columns = [z, np.ones((len(points), 1))]
        columns += [self._one_hot(points, j) for j in self._categorical]
        return np.concatenate(columns, axis=1), 0.5 * np.einsum("ij,ij->i", z, z)

    def _data_features(self, data: Floats) -> Floats:
        """Right factor (p, n) of the log kernel."""
        z = data[:, self._numeric] / self.bandwidths[self._numeric]
        offset = -0.5 * np.einsum("ij,ij->i", z, z)
        columns = [z, offset[:, None]]
        for j in self._categorical:
            same, other = self.categorical_weights(j)
            if self.n_choices[j] < 2:
                columns.append(np.zeros((len(data), int(self.n_choices[j]))))
                continue
            offset += math.log(other)  # `columns` holds a view of it
            columns.append(self._one_hot(data, j) * math.log(same / other))
        return np.concatenate(columns, axis=1).T

    def _one_hot(self, values: Floats, column: int) -> Floats:
        k = int(self.n_choices[column])
        index = category_index(values[:, column], k)
        return np.asarray(index[:, None] == np.arange(k), dtype=np.float64)

    def _statsmodels_pdf(self, points: Floats) -> Floats:
        """The same sum term by term; slow, for comparison with hpbandster."""
        diff = points[:, None, self._numeric] - self.data[None, :, self._numeric]
        kernel = np.exp(-0.5 * np.square(diff / self.bandwidths[self._numeric]).sum(axis=2))
        for j in self._categorical:
            k = int(self.n_choices[j])
            match = (
                category_index(points[:, j], k)[:, None] == category_index(self.data[:, j], k)[None]
            )
            same, other = self.categorical_weights(j)
            kernel = kernel * np.where(match, same, other)
        return np.asarray(kernel.mean(axis=1) * math.exp(self._log_constant))


def sample_truncated_normal(mean: Floats, scale: Floats, rng: np.random.Generator) -> Floats:
    """Draw normal numbers cut off at 0 and 1, by inversion.

    Args:
        mean: Means in [0, 1], any shape.
        scale: Standard deviations before the cut, broadcast against `mean`.
        rng: Generator; one uniform number per draw.

    Returns:
        Draws in [0, 1] of the shape of `mean`.
    """
    low = ndtr(-mean / scale)
    high = ndtr((1.0 - mean) / scale)
    u = low + rng.random(mean.shape) * (high - low)
    return np.asarray(np.clip(mean + scale * ndtri(u), 0.0, 1.0))


def sample_categories(
    index: Ints, n_choices: int, bandwidth: float, rng: np.random.Generator
) -> Ints:
    """Keep each category index with probability 1 - bandwidth, else draw any one uniformly."""
    redraw = rng.random(index.shape) >= 1.0 - bandwidth
    return np.where(redraw, rng.integers(n_choices, size=index.shape), index)
