"""The Gaussian process beside scikit-learn's, finite differences, and functions it must learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from raytune_ahu.search.gaussian_process import (
    Columns,
    Data,
    GaussianProcess,
    Hyperparameters,
    _Objective,
    fit_hyperparameters,
    matern,
)
from raytune_ahu.search.gp import _targets
from raytune_ahu.search.model import THIS_RUN

JITTER = 1e-6


def numeric(d):
    return Columns(np.zeros(d, np.int64))


def data_of(columns, vectors, target, depth=1.0, trial=None, source=None):
    n = len(vectors)
    return Data(
        features=columns.features(vectors, depth),
        trial=np.arange(n) if trial is None else np.asarray(trial),
        source=np.ones(n, np.int64) if source is None else np.asarray(source),
        target=np.asarray(target, np.float64),
    )


def made(d, **changes):
    values = {
        "length_scales": np.linspace(0.3, 0.8, d + 1),
        "signal": 1.3,
        "trial": 1e-12,
        "noise": 0.05,
        "correlation": 0.7,
    }
    return Hyperparameters(**{**values, **changes})


def wave(x):
    return np.sin(5 * x[:, 0]) + (x[:, 1] - 0.4) ** 2


def mixed_data(seed=0, n=40, sources=False):
    """Two numbers, a choice of three, a conditional number; several reports per trial."""
    rng = np.random.default_rng(seed)
    columns = Columns(np.array([0, 0, 3, 0]))
    trial = np.sort(rng.integers(n // 2, size=n))
    vectors = rng.random((n // 2, 4))
    vectors[:, 2] = (np.floor(vectors[:, 2] * 3) + 0.5) / 3
    vectors[vectors[:, 2] < 0.5, 3] = np.nan
    target = np.sin(4 * vectors[trial, 0]) + vectors[trial, 2] + 0.2 * rng.normal(size=n)
    source = (trial > n // 4).astype(int) if sources else None
    return columns, data_of(columns, vectors[trial], target, rng.random(n), trial, source)


def test_mean_and_deviation_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    columns, h = numeric(3), made(3)
    x, depth = rng.random((60, 3)), rng.random(60)
    y = wave(x) + 0.1 * rng.normal(size=60)
    data = data_of(columns, x, y, depth)
    process = GaussianProcess(columns, data, h)
    kernel = ConstantKernel(h.signal) * Matern(h.length_scales, nu=2.5)
    kernel += WhiteKernel(h.noise + JITTER)
    oracle = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None)
    oracle.fit(data.features, y - process.mean)
    asked = columns.features(rng.random((200, 3)), 1.0)
    mean, deviation = process.predict(asked)
    expected, spread = oracle.predict(asked, return_std=True)
    assert mean == pytest.approx(expected + process.mean, abs=1e-4)
    variance = np.square(spread) - h.noise - JITTER  # theirs is that of another observation
    assert np.square(deviation) == pytest.approx(variance, abs=1e-4)


def test_smoothed_observations_are_what_is_predicted_there():
    columns, data = mixed_data(n=60)
    process = GaussianProcess(columns, data, made(4, trial=1e-12))
    believed, _ = process.predict(data.features)
    assert process.smoothed == pytest.approx(believed, abs=1e-3)
    rough = GaussianProcess(columns, data, made(4, noise=1e-9))
    assert rough.smoothed == pytest.approx(data.target, abs=0.05)


@pytest.mark.parametrize("pending", [None, np.full((2, 4), 0.5)])
def test_what_a_trial_has_of_its_own_is_not_smoothed_away(pending):
    columns, data = mixed_data(n=60)
    h = made(4, trial=0.3)
    scaled = data.features / h.length_scales[columns.owner]
    known = h.signal * matern(scaled, scaled) + 0.3 * (data.trial[:, None] == data.trial)
    noise = (h.noise + JITTER) * np.eye(len(data))
    running = None if pending is None else columns.features(pending, 1.0)
    process = GaussianProcess(columns, data, h, running)
    expected = known @ np.linalg.solve(known + noise, data.target - process.mean)
    assert process.smoothed == pytest.approx(expected + process.mean)


def test_the_prior_mean_is_that_of_generalised_least_squares():
    columns, data = mixed_data()
    h = made(4, trial=0.2)
    process = GaussianProcess(columns, data, h)
    scaled = data.features / h.length_scales[columns.owner]
    covariance = h.signal * matern(scaled, scaled) + 0.2 * (data.trial[:, None] == data.trial)
    covariance += (h.noise + JITTER) * np.eye(len(data))
    solved = np.linalg.solve(covariance, np.ones(len(data)))
    assert process.mean == pytest.approx(solved @ data.target / solved.sum())


@pytest.mark.parametrize("sources", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(sources, seed):
    columns, data = mixed_data(seed, sources=sources)
    n = 4 + 1 + 3 + sources
    rng = np.random.default_rng(seed)
    objective = _Objective(columns, data, rng.normal(size=n), 0.5 + rng.random(n))
    theta = 0.5 * rng.normal(size=n) - 0.5
    _, gradient = objective(theta)
    numerical = approx_fprime(theta, lambda t: objective(t)[0], 1e-6)
    assert gradient == pytest.approx(numerical, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("sources", [False, True])
def test_the_objective_is_the_density_of_the_residuals_and_the_priors(sources):
    columns, data = mixed_data(sources=sources)
    h = made(4, trial=0.2)
    theta = np.log([*h.length_scales, h.signal, h.trial, h.noise])
    link = np.ones((len(data), len(data)))
    if sources:
        theta = np.append(theta, math.log(0.7 / 0.3))
        link = np.where(data.source[:, None] == data.source, 1.0, 0.7)
    process = GaussianProcess(columns, data, h)
    scaled = data.features / h.length_scales[columns.owner]
    covariance = h.signal * matern(scaled, scaled) * link
    covariance += h.trial * (data.trial[:, None] == data.trial)
    if sources:  # the offset of each run has variance 1
        covariance += data.source[:, None] == data.source
    covariance += (h.noise + JITTER) * np.eye(len(data))
    off = data.target - process.mean
    expected = 0.5 * (off @ np.linalg.solve(covariance, off) + np.linalg.slogdet(covariance)[1])
    expected += 0.5 * np.square(theta / 2.0).sum()
    objective = _Objective(columns, data, np.zeros(len(theta)), np.full(len(theta), 2.0))
    assert objective(theta)[0] == pytest.approx(expected)


def test_length_scales_of_a_known_function_are_recovered_and_irrelevant_columns_get_long_ones():
    rng = np.random.default_rng(3)
    columns, true = numeric(4), np.array([0.3, 0.6, 30.0, 30.0, 30.0])
    x = rng.random((120, 4))
    features = columns.features(x, 1.0)
    covariance = matern(features / true, features / true) + 1e-3 * np.eye(120)
    y = np.linalg.cholesky(covariance) @ rng.normal(size=120)
    found = fit_hyperparameters(columns, data_of(columns, x, y / y.std()))
    assert found.length_scales[:2] == pytest.approx(true[:2], rel=0.6)
    assert found.length_scales[2:4].min() > 2.0 * found.length_scales[:2].max()
    assert found.noise + found.trial < 0.05


def test_what_trials_share_is_told_from_noise():
    rng = np.random.default_rng(0)
    columns, trial = numeric(2), np.repeat(np.arange(30), 4)
    x = rng.random((30, 2))[trial]
    lucky = rng.normal(size=30)[trial]
    target = lucky + 0.1 * rng.normal(size=120)  # nothing that the configuration explains
    found = fit_hyperparameters(columns, data_of(columns, x, target, trial=trial))
    assert found.trial > 5 * found.noise
    noisy = fit_hyperparameters(columns, data_of(columns, x, rng.normal(size=120), trial=trial))
    assert noisy.noise > 5 * noisy.trial


def test_ten_reports_of_a_lucky_trial_count_less_than_those_of_ten_trials():
    columns, h = numeric(1), made(1, trial=0.5)
    x = np.array([[0.1], [0.9], *[[0.5]] * 10])
    target = [0.0, 0.0, *[-1.0] * 10]
    middle = columns.features(np.array([[0.5]]), 1.0)
    one = GaussianProcess(columns, data_of(columns, x, target, trial=[0, 1, *[2] * 10]), h)
    ten = GaussianProcess(columns, data_of(columns, x, target), h)
    assert one.predict(middle)[1][0] > 2 * ten.predict(middle)[1][0]
    assert one.predict(middle)[0][0] > ten.predict(middle)[0][0]


def test_features_of_categories_and_inactive_parameters_are_at_the_stated_distances():
    columns = Columns(np.array([0, 3]))
    rows = np.array([[0.5, 0.5 / 3], [0.5, 2.5 / 3], [np.nan, np.nan], [0.1, 0.5 / 3]])
    features = columns.features(rows, 0.25)
    assert features.shape == (4, 5)
    assert columns.owner.tolist() == [0, 1, 1, 1, 2]
    numbers, category, depth = columns.squared_distances(features)
    assert category[0, 1] == pytest.approx(1.0)
    assert category[0, 2] == pytest.approx(0.5)
    assert category[0, 3] == pytest.approx(0.0)
    assert numbers[0, 2] == 0.0  # an inactive number sits in the middle
    assert numbers[0, 3] == pytest.approx(0.16)
    assert not depth.any()


def test_squared_distances_of_the_columns_add_up_to_those_of_the_kernel():
    columns, data = mixed_data()
    h = made(4)
    weights = h.length_scales**-2.0
    radius = np.sqrt(5 * np.tensordot(weights, columns.squared_distances(data.features), 1))
    scaled = data.features / h.length_scales[columns.owner]
    expected = (1 + radius + radius**2 / 3) * np.exp(-radius)
    assert matern(scaled, scaled) == pytest.approx(expected, abs=1e-6)


def test_a_category_that_matters_is_learned_and_an_unseen_one_stays_uncertain():
    rng = np.random.default_rng(0)
    columns = Columns(np.array([0, 4]))
    x = np.stack([rng.random(30), (rng.integers(3, size=30) + 0.5) / 4], axis=1)
    target = np.array([-1.0, 0.0, 1.0])[np.floor(x[:, 1] * 4).astype(int)]
    data = data_of(columns, x, target)
    process = GaussianProcess(columns, data, fit_hyperparameters(columns, data))
    asked = np.array([[0.5, (k + 0.5) / 4] for k in range(4)])
    mean, deviation = process.predict(columns.features(asked, 1.0))
    assert mean[:3] == pytest.approx([-1.0, 0.0, 1.0], abs=0.2)
    assert deviation[3] > 3 * deviation[:3].max()


def test_running_trials_remove_uncertainty_nearby_and_leave_the_mean():
    rng = np.random.default_rng(0)
    columns, h = numeric(2), made(2, trial=0.05)
    x = rng.random((10, 2)) * 0.3
    data = data_of(columns, x, wave(x))
    running = columns.features(np.array([[0.8, 0.8]]), 1.0)
    asked = columns.features(np.array([[0.8, 0.8], [0.1, 0.9]]), 1.0)
    mean, deviation = GaussianProcess(columns, data, h).predict(asked)
    after, less = GaussianProcess(columns, data, h, running).predict(asked)
    assert after == pytest.approx(mean, abs=1e-3)
    assert less[0] < 0.5 * deviation[0]
    assert 0.8 * deviation[1] < less[1] <= deviation[1] + 1e-6


def test_running_trials_count_as_observed_with_their_prediction():
    rng = np.random.default_rng(1)
    columns, h = numeric(2), made(2, trial=0.05)
    x, pending = rng.random((12, 2)), rng.random((5, 2))
    data, running = data_of(columns, x, wave(x)), columns.features(pending, 1.0)
    believed, _ = GaussianProcess(columns, data, h).predict(running)
    both = data_of(columns, np.concatenate([x, pending]), np.concatenate([data.target, believed]))
    asked = columns.features(rng.random((50, 2)), 1.0)
    ours = GaussianProcess(columns, data, h, running).predict(asked)
    expected = GaussianProcess(columns, both, h).predict(asked)
    assert ours[0] == pytest.approx(expected[0], abs=1e-3)
    assert ours[1] == pytest.approx(expected[1], abs=1e-3)


def test_no_running_trials_and_an_empty_table_of_them_are_the_same():
    columns, data = mixed_data()
    asked = data.features[:5]
    plain = GaussianProcess(columns, data, made(4)).predict(asked)
    empty = GaussianProcess(columns, data, made(4), np.empty((0, data.features.shape[1])))
    np.testing.assert_array_equal(empty.predict(asked), plain)


@pytest.mark.parametrize("seed", range(3))
def test_earlier_runs_of_the_same_task_help_and_those_of_another_are_distrusted(seed):
    rng = np.random.default_rng(seed)
    columns = numeric(2)
    x = rng.random((80, 2))
    source = np.repeat([0, 1], [60, 20])
    asked = rng.random((200, 2))
    errors, correlations = {}, {}
    for task in ("same", "unrelated", "none"):
        earlier = wave(x[:60]) if task == "same" else np.cos(9 * x[:60, 1]) * x[:60, 0]
        target = np.concatenate([earlier, wave(x[60:])])
        data = data_of(columns, x, (target - target.mean()) / target.std(), source=source)
        if task == "none":
            data = data.take(np.arange(60, 80))
        h = fit_hyperparameters(columns, data)
        mean, _ = GaussianProcess(columns, data, h).predict(columns.features(asked, 1.0))
        errors[task] = np.mean(np.square(mean * target.std() + target.mean() - wave(asked)))
        correlations[task] = h.correlation
    assert correlations["same"] > 0.8
    assert correlations["unrelated"] < 0.5
    assert errors["same"] < 0.5 * errors["none"]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_several_runs_are_a_process_with_an_offset_for_each(correlation):
    rng = np.random.default_rng(0)
    columns, h = numeric(2), made(2, correlation=correlation, trial=0.1)
    x, source = rng.random((20, 2)), np.repeat([0, THIS_RUN], 10)
    data = data_of(columns, x, wave(x), source=source)
    asked = columns.features(rng.random((20, 2)), 1.0)
    process = GaussianProcess(columns, data, h)
    scale = h.length_scales[columns.owner]

    def covariance(one, other, run, other_run):
        same = run[:, None] == other_run
        link = np.where(same, 1.0, correlation)
        return h.signal * matern(one / scale, other / scale) * link + 1.0 * same

    known = covariance(data.features, data.features, source, source)
    known += (h.trial + h.noise + JITTER) * np.eye(20)
    cross = covariance(data.features, asked, source, np.full(20, THIS_RUN))
    mean, deviation = process.predict(asked)
    weights = np.linalg.solve(known, data.target - process.mean)
    assert mean == pytest.approx(cross.T @ weights + process.mean, abs=1e-4)
    variance = h.signal + 1.0 - (cross * np.linalg.solve(known, cross)).sum(axis=0)
    assert np.square(deviation) == pytest.approx(variance, abs=1e-4)


def test_a_run_that_began_from_the_best_of_another_keeps_what_that_one_knows():
    """Its own losses are ranked among themselves: all are good, but half of them look bad."""
    agreement = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        columns = numeric(2)
        near = [0.2, 0.7] + 0.1 * rng.normal(size=(12, 2))
        x, source = np.concatenate([rng.random((60, 2)), near]), np.repeat([0, THIS_RUN], [60, 12])
        target = _targets(np.square(x - [0.2, 0.7]).sum(axis=1), source)
        data = data_of(columns, x, target, source=source)
        process = GaussianProcess(columns, data, fit_hyperparameters(columns, data))
        asked = rng.random((200, 2))
        mean, _ = process.predict(columns.features(asked, 1.0))
        agreement.append(spearmanr(mean, np.square(asked - [0.2, 0.7]).sum(axis=1)).statistic)
    assert np.mean(agreement) > 0.8


@pytest.mark.parametrize("scale", [0.02, 0.3, 3.0])
def test_single_precision_is_good_enough_to_rank_by(scale):
    """Against the same formulas in double precision; 0.02 is about the shortest scale."""
    rng = np.random.default_rng(0)
    columns = numeric(4)
    h = made(4, length_scales=np.full(5, scale), noise=2e-3, trial=2e-3)
    x = rng.random((250, 4))
    x[200:] = x[:50] + 1e-3 * rng.normal(size=(50, 4))  # the search has come close to the optimum
    data = data_of(columns, x, wave(x))
    process = GaussianProcess(columns, data, h)
    asked = columns.features(np.concatenate([rng.random((200, 4)), x[:50] + 1e-4]), 1.0)
    mean, deviation = process.predict(asked)
    points, candidates = data.features / scale, asked / scale
    gap = np.sqrt(5) * np.linalg.norm(points[:, None] - points, axis=2)
    covariance = h.signal * (1 + gap + gap**2 / 3) * np.exp(-gap)
    covariance += (h.trial + h.noise + JITTER) * np.eye(250)
    far = np.sqrt(5) * np.linalg.norm(points[:, None] - candidates, axis=2)
    cross = h.signal * (1 + far + far**2 / 3) * np.exp(-far)
    exact = process.mean + cross.T @ np.linalg.solve(covariance, data.target - process.mean)
    variance = h.signal - np.einsum("ij,ij->j", cross, np.linalg.solve(covariance, cross))
    assert mean == pytest.approx(exact, abs=5e-3)
    assert deviation == pytest.approx(np.sqrt(variance), abs=1e-2)


def test_the_same_data_give_the_same_numbers():
    results = []
    for _ in range(2):
        columns, data = mixed_data(sources=True)
        h = fit_hyperparameters(columns, data)
        predicted = GaussianProcess(columns, data, h, data.features[:3]).predict(data.features)
        results.append([*h.length_scales, h.signal, h.trial, h.noise, h.correlation, *predicted[0]])
    assert results[0] == results[1]


@pytest.mark.parametrize("target", ["constant", "varied"])
@pytest.mark.parametrize("n", [1, 2, 3, 60])
@pytest.mark.parametrize("d", [1, 2, 30])
def test_few_points_many_columns_and_constant_targets_are_no_trouble(n, d, target):
    rng = np.random.default_rng(n)
    columns, x = numeric(d), rng.random((n, d))
    data = data_of(columns, x, np.zeros(n) if target == "constant" else rng.normal(size=n))
    h = fit_hyperparameters(columns, data)
    asked = columns.features(rng.random((20, d)), 1.0)
    for pending in (None, asked[:2]):
        mean, deviation = GaussianProcess(columns, data, h, pending).predict(asked)
        assert np.isfinite(mean).all()
        assert np.isfinite(deviation).all()
        assert (deviation > 0).all()
        if target == "constant":
            assert mean == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-6])
def test_points_that_are_nearly_the_same_are_no_trouble(distance):
    rng = np.random.default_rng(0)
    columns = numeric(3)
    x = 0.5 + distance * rng.normal(size=(100, 3))
    data = data_of(columns, x, rng.normal(size=100))
    h = fit_hyperparameters(columns, data)
    process = GaussianProcess(columns, data, h, np.repeat(data.features[:1], 64, axis=0))
    mean, deviation = process.predict(data.features)
    assert mean == pytest.approx(mean[0], abs=0.05)
    assert np.isfinite(deviation).all()


def test_hyperparameters_at_their_bounds_give_a_process_too():
    """A function without any noise, at many points: the noise runs down to its bound."""
    rng = np.random.default_rng(0)
    columns, x = numeric(1), rng.random((120, 1))
    data = data_of(columns, x, np.sin(3 * x[:, 0]))
    h = fit_hyperparameters(columns, data)
    assert 0.0 < h.noise < 0.01
    mean, _ = GaussianProcess(columns, data, h).predict(data.features)
    assert mean == pytest.approx(data.target, abs=0.05)
