"""The product kernel against statsmodels, and the draws against scipy and their definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from raytune_ahu.search.kernels import (
    ProductKernelDensity,
    category_index,
    normal_reference_bandwidths,
    sample_categories,
    sample_truncated_normal,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # statsmodels' own

KINDS = [[0], [0, 0, 0], [3], [2, 5], [0, 3, 0, 4], [0, 0, 0, 0, 0, 2, 3, 6]]


def draw(n_choices, n, seed=0):
    """Encoded data in which every category occurs."""
    rng = np.random.default_rng(seed)
    data = rng.random((n, len(n_choices)))
    for j, k in enumerate(n_choices):
        if k:
            index = rng.integers(k, size=n)
            index[:k] = np.arange(k)
            data[:, j] = (index + 0.5) / k
    return data


def indexed(data, n_choices):
    """The same with categories as indices, as statsmodels wants them."""
    data = data.copy()
    for j, k in enumerate(n_choices):
        if k:
            data[:, j] = category_index(data[:, j], k)
    return data


def statsmodels_density(data, n_choices, min_bandwidth=1e-3, bandwidths=None):
    multivariate = pytest.importorskip(
        "statsmodels.nonparametric.kernel_density", reason="statsmodels is not installed"
    ).KDEMultivariate
    kde = multivariate(
        data=indexed(data, n_choices),
        var_type="".join("u" if k else "c" for k in n_choices),
        bw="normal_reference",
    )
    kde.bw = np.clip(kde.bw if bandwidths is None else bandwidths, min_bandwidth, None)
    return kde


@pytest.mark.parametrize("n_choices", KINDS)
@pytest.mark.parametrize("n", [10, 200, 5000])
def test_bandwidths_and_densities_are_those_of_statsmodels(n_choices, n):
    n_choices = np.array(n_choices)
    data, points = draw(n_choices, n), draw(n_choices, 40, seed=1)
    kde = statsmodels_density(data, n_choices)
    exact = ProductKernelDensity(data, n_choices, categorical="statsmodels")
    np.testing.assert_allclose(exact.bandwidths, kde.bw, rtol=1e-12)
    with np.errstate(all="ignore"):
        expected = kde.pdf(indexed(points, n_choices))
    np.testing.assert_allclose(exact.pdf(points), expected, rtol=1e-9)
    # With the bandwidths in the range of the proper kernel, the fast way gives the same.
    proper = ProductKernelDensity(data, n_choices)
    expected = statsmodels_density(data, n_choices, bandwidths=proper.bandwidths)
    expected = expected.pdf(indexed(points, n_choices))
    np.testing.assert_allclose(proper.pdf(points), expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_densities_at_the_smallest_bandwidths_keep_six_digits(seed):
    """The expanded squares cancel worst where z = x / h is largest: h = 1e-4, x near 1."""
    rng = np.random.default_rng(seed)
    n_choices = np.zeros(8, dtype=int)
    data = 0.999 + 1e-6 * rng.random((500, 8))
    points = data[:50] + 3e-4 * rng.normal(size=(50, 8))
    density = ProductKernelDensity(data, n_choices, min_bandwidth=1e-4)
    assert np.all(density.bandwidths == 1e-4)
    expected = statsmodels_density(data, n_choices, min_bandwidth=1e-4).pdf(points)
    np.testing.assert_allclose(density.pdf(points), expected, rtol=1e-6)


def test_the_proper_density_of_categories_sums_to_one_where_that_of_statsmodels_does_not():
    n_choices = np.array([4])
    cells = np.array([[0.125], [0.375], [0.625], [0.875]])
    two_seen = np.array([[0.125]] * 6 + [[0.375]] * 3)
    assert ProductKernelDensity(two_seen, n_choices).pdf(cells).sum() == pytest.approx(1.0)
    literal = ProductKernelDensity(two_seen, n_choices, categorical="statsmodels")
    assert literal.pdf(cells).sum() > 1.5
    expected = statsmodels_density(two_seen, n_choices).pdf(indexed(cells, n_choices))
    np.testing.assert_allclose(literal.pdf(cells), expected)


def test_a_category_that_never_occurs_is_unlikely_but_possible():
    n_choices = np.array([3])
    density = ProductKernelDensity(np.full((20, 1), 0.5 / 3), n_choices)
    seen, other, third = density.pdf(np.array([[0.5], [1.5], [2.5]]) / 3)
    assert seen == pytest.approx(0.999)
    assert other == third == pytest.approx(0.0005)


def test_the_bandwidth_of_categories_stops_where_the_kernel_is_uniform():
    n_choices = np.array([10])
    data = (np.arange(10)[:, None] + 0.5) / 10
    assert normal_reference_bandwidths(data, n_choices)[0] > 1
    density = ProductKernelDensity(data[[0, 9, 0, 9]], n_choices)
    assert density.bandwidths[0] == pytest.approx(0.9)
    np.testing.assert_allclose(density.pdf(data), 0.1)


def test_a_single_choice_changes_nothing():
    n_choices = np.array([0, 1])
    data, points = draw([0], 30), draw([0], 5, seed=2)
    with_single = ProductKernelDensity(np.insert(data, 1, 0.5, axis=1), n_choices)
    alone = ProductKernelDensity(data, np.array([0]))
    alone.bandwidths[:] = with_single.bandwidths[0]  # the rule knows the number of columns
    ratio = with_single.pdf(np.insert(points, 1, 0.5, axis=1)) / alone.pdf(points)
    np.testing.assert_allclose(ratio, ratio[0])


def test_the_logarithm_survives_where_the_density_underflows_and_never_is_nan():
    density = ProductKernelDensity(np.zeros((5, 4)), np.zeros(4, dtype=int))
    far = density.log_pdf(np.array([[0.018] * 4, [1.0] * 4]))
    assert np.isfinite(far[0])
    assert far[1] == -np.inf


@pytest.mark.parametrize(("mean", "scale"), [(0.5, 0.1), (0.0, 0.3), (1.0, 0.01), (0.2, 50.0)])
def test_truncated_normal_draws_follow_scipys_distribution(mean, scale):
    rng = np.random.default_rng(0)
    drawn = sample_truncated_normal(np.full(4000, mean), np.array(scale), rng)
    oracle = truncnorm(-mean / scale, (1 - mean) / scale, loc=mean, scale=scale)
    assert kstest(drawn, oracle.cdf).pvalue > 1e-3
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_truncated_normal_draws_take_each_columns_own_scale():
    rng = np.random.default_rng(0)
    drawn = sample_truncated_normal(np.full((3000, 2), 0.5), np.array([1e-3, 0.1]), rng)
    np.testing.assert_allclose(drawn.std(axis=0), [1e-3, 0.1], rtol=0.05)


def test_categories_are_kept_or_redrawn_uniformly():
    rng = np.random.default_rng(0)
    drawn = sample_categories(np.full(30_000, 2), 4, 0.4, rng)
    shares = np.bincount(drawn, minlength=4) / 30_000
    np.testing.assert_allclose(shares, [0.1, 0.1, 0.7, 0.1], atol=0.01)


def test_category_indices_survive_encoding_for_any_number_of_choices():
    for k in range(1, 300):
        index = np.arange(k)
        np.testing.assert_array_equal(category_index((index + 0.5) / k, k), index)
