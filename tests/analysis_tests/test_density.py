"""The densities along one parameter, against the model that they are taken from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from raytune_ahu.analysis.density import density, fitted_model
from raytune_ahu.errors import SpecError
from raytune_ahu.results import load
from tests.recorded_runs import record_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "bohb"
    return load(record_run(folder, scheduler="asha", num_samples=80))


def test_the_good_trials_crowd_where_the_metric_is_best(run):
    curve = density(run, "lr")
    peak = curve.loc[curve["good"].idxmax(), "value"]
    assert 1e-3 < peak < 1e-1  # the best is 1e-2
    ratio = curve["good"] / curve["other"]
    assert ratio[(curve["value"] - 1e-2).abs().idxmin()] > 1 > ratio.iloc[-1]


def test_a_marginal_is_the_mean_of_the_model_over_the_other_parameters(run):
    model = fitted_model(run)
    space = run.space
    j = space.names.index("noise")
    curve = density(run, "noise")
    # The kernels of the other columns integrate to 1; draws of this one follow the marginal.
    rng = np.random.default_rng(0)
    data, h = model.good.data[:, j], model.good.bandwidths[j]
    drawn = rng.normal(rng.choice(data, 400_000), h)
    edges = np.linspace(0, 1, 17)
    counted = np.histogram(drawn, edges)[0] / len(drawn) * 16
    ours = curve["good"].to_numpy().reshape(16, 4).mean(axis=1)
    np.testing.assert_allclose(ours, counted, rtol=0.03, atol=0.03)


def test_the_densities_of_a_choice_are_relative_to_equal_shares(run):
    curve = density(run, "optimizer")
    assert curve["value"].tolist() == ["sgd", "adam"]
    assert curve["good"].mean() == pytest.approx(1.0)
    assert curve["other"].mean() == pytest.approx(1.0)


def test_a_conditional_parameter_and_a_grouped_one_have_densities(run):
    assert len(density(run, "momentum")) == 64
    assert density(run, "model/layers")["value"].tolist() == [1, 2, 3, 4]


def test_without_a_model_it_is_empty(run, tmp_path):
    few = load(record_run(tmp_path / "few", num_samples=4))
    for nothing in (few, dataclasses.replace(run, space=None, spec=None)):
        curve = density(nothing, "lr")
        assert curve.empty
        assert curve.columns.tolist() == ["value", "good", "other"]


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(run):
    with pytest.raises(SpecError, match="'speed' is not one that varies; there are optimizer, lr"):
        density(run, "speed")


def test_the_same_seed_gives_the_same_densities(run):
    assert density(run, "momentum", seed=1).equals(density(run, "momentum", seed=1))
