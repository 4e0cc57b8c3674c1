"""The multi-fidelity process as BOHB's model: scores, selection, failures, running trials."""

from __future__ import annotations

import json
import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, rankdata, spearmanr

from raytune_ahu.search import BohbSearcher, GpModel, GpSettings, Observations, PriorTrial
from raytune_ahu.search.gp import (
    _choose,
    _depth,
    _Failures,
    _first_distinct,
    _targets,
    log_expected_improvement,
)
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus
from tests.contracts.searcher_contract import LEVELS, MIXED, Run

UNIT = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
PLANE = SearchSpace.from_dict({"x": UNIT, "y": UNIT})


def make(space=PLANE, **options):
    options = {"mode": "min", "seed": 0, "rung_levels": LEVELS, "model": "gp", **options}
    return BohbSearcher(space, **options)


def bowl(configuration):
    return (configuration["x"] - 0.2) ** 2 + (configuration["y"] - 0.7) ** 2


def feed(searcher, n, value=bowl, start=0):
    """Let n trials run to the first rung level; every third goes on to the next."""
    suggestions = []
    for i in range(start, start + n):
        suggestion = searcher.suggest(str(i))
        for r in range(1, 4 if i % 3 == 0 else 2):
            searcher.observe(Report(str(i), r, value(suggestion.configuration)))
        searcher.finish(str(i), TrialStatus.STOPPED)
        suggestions.append(suggestion)
    return suggestions


def observed(x, loss, *, resource=None, n_prior=0, pending=(), levels=LEVELS, trial=None):
    """Observations of one report per trial at the last level, unless told otherwise."""
    n = len(loss)
    return Observations(
        configurations=np.asarray(x, np.float64),
        trial=np.arange(n) if trial is None else np.asarray(trial),
        resource=np.full(n, levels[-1]) if resource is None else np.asarray(resource),
        loss=np.asarray(loss, np.float64),
        pending=np.asarray(pending, np.int64),
        pending_level=np.full(len(pending), levels[0]),
        rung_levels=levels,
        n_prior=n_prior,
        source=np.where(np.arange(len(x)) < n_prior, 0, 1),
        revision=1,
    )


def fitted(observations, n_choices=(0, 0), **settings):
    model = GpModel(np.array(n_choices), GpSettings(**settings))
    assert model.fit(observations, np.random.default_rng(0)) is not None
    return model


def loss_of(suggestion):
    return bowl(suggestion.configuration)


def points(suggestions, space=PLANE):
    return space.encode_many(s.configuration for s in suggestions)


# Scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [-2.0, 0.0, 1.5])
@pytest.mark.parametrize("deviation", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("z", [-4.9, -1.0, 0.0, 2.0, 8.0])
def test_log_expected_improvement_is_the_integral(best, deviation, z):
    mean = best - z * deviation
    y = norm(mean, deviation)
    low = mean - 12 * deviation
    integral, _ = quad(lambda v: (best - v) * y.pdf(v), low, best, epsabs=0.0, limit=200)
    found = log_expected_improvement(best, np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(math.log(integral), abs=1e-6)


@pytest.mark.parametrize("z", [-5.1, -8.0, -24.9, -25.1, -40.0, -1e3, -1e6])
def test_log_expected_improvement_is_accurate_far_below_the_best(z):
    # E[max(z - N, 0)] = phi(z) * integral of s exp(z s - s^2 / 2) over s > 0; here s = t / |z|
    tail, _ = quad(lambda t: t * math.exp(-t - 0.5 * (t / z) ** 2), 0.0, 60.0, limit=200)
    exact = norm.logpdf(z) - 2 * math.log(-z) + math.log(tail)
    found = log_expected_improvement(z, np.zeros(1), np.ones(1))[0]
    assert found == pytest.approx(exact, abs=1e-3)


def test_log_expected_improvement_grows_with_the_gap_and_is_finite_and_silent():
    gaps = np.linspace(-60.0, 60.0, 20_001)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = log_expected_improvement(0.0, -gaps, np.ones(len(gaps)))
        extreme = log_expected_improvement(0.0, np.array([1e3, -1e3]), np.full(2, 1e-3))
    assert (np.diff(found) > 0).all()
    assert np.isfinite(extreme).all()


def test_targets_are_normal_scores_of_the_ranks():
    loss = np.array([3.0, 1e19, -2.0, 0.5, 0.5])
    expected = norm.ppf((rankdata(loss) - 0.5) / 5)
    assert _targets(loss, np.ones(5, int)) == pytest.approx(expected)
    assert np.argmin(expected) == 2


def test_earlier_runs_are_ranked_by_themselves():
    source = np.array([0, 0, 1, 1, 1])
    found = _targets(np.array([100.0, 200.0, 1.0, 2.0, 3.0]), source)
    assert found[:2] == pytest.approx(norm.ppf([0.25, 0.75]))
    assert found[2:] == pytest.approx(norm.ppf([1 / 6, 0.5, 5 / 6]))


def test_depth_is_zero_after_one_epoch_and_one_after_all():
    assert _depth(np.array([1, 3, 9]), 9).tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert _depth(np.array([1, 1]), 1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_expected_improvement_is_in_units_of_the_metric(mode):
    sign = 1.0 if mode == "min" else -1.0
    found = {}
    for unit in (1.0, 1000.0):
        searcher = make(mode=mode, random_fraction=0.0)
        late = feed(searcher, 40, lambda c, unit=unit: sign * unit * (bowl(c) + 5.0))
        found[unit] = [s.expected_improvement for s in late if s.is_model_based]
        assert len(found[unit]) > 25
        assert np.isfinite(found[unit]).all()
        assert min(found[unit]) >= 0.0
        assert 0.0 < max(found[unit]) < unit  # the losses differ by about 0.5 units
    assert found[1000.0] == pytest.approx([1000 * gain for gain in found[1.0]], rel=1e-6)


def test_the_expected_improvement_is_what_a_simple_prediction_says():
    """Quantiles of the prediction, turned back into losses, of which the best is at 0.0."""
    rng = np.random.default_rng(0)
    x = rng.random((100, 2))
    loss = np.sort(rng.random(100))
    loss[0] = 0.0
    model = fitted(observed(x, loss))
    for vector in (*x[:5], *rng.random((20, 2))):
        mean, deviation = model.process.predict(model._columns.features(vector[None], 1.0))
        drawn = rng.normal(mean[0], deviation[0], 20_000)
        scores = norm.ppf((np.arange(100) + 0.5) / 100)
        slope = loss[10] / (scores[10] - scores[0])
        gains = np.where(drawn < scores[0], slope * (scores[0] - drawn), 0.0)
        tolerance = 0.02 * slope * deviation[0] + 1e-9
        assert model.expected_improvement(vector) == pytest.approx(gains.mean(), abs=tolerance)


@pytest.mark.parametrize("largest", [1e19, 1e308])
def test_huge_losses_do_not_make_the_expected_improvement_infinite(largest):
    rng = np.random.default_rng(0)
    loss = rng.uniform(-1.0, 1.0, 20)
    loss[3], loss[4] = largest, -largest
    model = fitted(observed(rng.random((20, 2)), loss))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gains = [model.expected_improvement(v) for v in rng.random((50, 2))]
    assert all(gain is None or 0.0 <= gain < math.inf for gain in gains)
    assert largest > 1e300 or None not in gains


def test_the_model_needs_the_stated_number_of_finite_observations():
    x = np.random.default_rng(0).random((8, 2))
    loss = np.arange(8.0)
    model = GpModel(np.zeros(2, np.int64))
    assert model.fit(observed(x[:7], loss[:7]), np.random.default_rng(0)) is None
    with pytest.raises(RuntimeError, match="not fitted"):
        _ = model.process
    failed = np.where(loss == 3.0, np.inf, loss)
    assert model.fit(observed(x, failed), np.random.default_rng(0)) is None
    assert model.fit(observed(x, loss), np.random.default_rng(0)) == 9


def test_the_origin_names_the_highest_level_of_this_run():
    x = np.random.default_rng(0).random((12, 2))
    resource = np.array([9] * 6 + [1] * 5 + [3])
    model = GpModel(np.zeros(2, np.int64))
    seen = observed(x, np.arange(12.0), resource=resource, n_prior=6)
    assert model.fit(seen, np.random.default_rng(0)) == 3
    seen = observed(x, np.arange(12.0), resource=resource, n_prior=12)
    assert model.fit(seen, np.random.default_rng(0)) == 9


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 512])
def test_as_many_candidates_are_drawn_as_asked_for_all_legal(n):
    rng = np.random.default_rng(0)
    x = rng.random((20, 3))
    x[:, 1] = (np.floor(3 * x[:, 1]) + 0.5) / 3
    x[:10, 2] = np.nan
    model = fitted(observed(x, rng.random(20)), (0, 3, 0))
    drawn = model.propose(n, rng)
    assert drawn.shape == (n, 3)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert np.isin(drawn[:, 1].round(9), ((np.arange(3) + 0.5) / 3).round(9)).all()
    assert np.isfinite(model.score(drawn)).all()


def test_candidates_near_the_optimum_score_higher_than_others():
    rng = np.random.default_rng(0)
    x = rng.random((40, 2))
    model = fitted(observed(x, np.square(x - [0.2, 0.7]).sum(axis=1)))
    near, far = model.score(np.array([[0.2, 0.7], [0.9, 0.1]]))
    assert near > far + 3


def test_low_rungs_inform_about_the_highest():
    rng = np.random.default_rng(0)
    x = rng.random((60, 2))
    trial = np.concatenate([np.arange(60), np.arange(6)])  # six of them were trained in full
    resource = np.repeat([1, 9], [60, 6])
    loss = np.square(x[trial] - [0.2, 0.7]).sum(axis=1) + 0.3 * (resource == 1)
    model = fitted(observed(x, loss, resource=resource, trial=trial))
    asked = rng.random((200, 2))
    mean, _ = model.process.predict(model._columns.features(asked, 1.0))
    assert spearmanr(mean, np.square(asked - [0.2, 0.7]).sum(axis=1)).statistic > 0.9


def test_improvement_is_counted_from_what_is_believed_of_the_best_not_from_its_luck():
    rng = np.random.default_rng(0)
    n, x = 40 * len(LEVELS), rng.random((40, 2))
    trial, resource = np.repeat(np.arange(40), len(LEVELS)), np.tile(LEVELS, 40)
    loss = np.square(x[trial] - [0.2, 0.7]).sum(axis=1)

    def reference(noise):
        noisy = loss + noise * rng.normal(size=n)
        return fitted(observed(x, noisy, resource=resource, trial=trial)).reference

    best = norm.ppf(0.5 / n)  # the normal score of the first
    assert reference(0.001) == pytest.approx(best, abs=0.4)
    assert reference(0.3) > best + 0.6


def test_a_warm_start_after_which_everything_fails_goes_on_as_if_nothing_had_been_seen():
    rng = np.random.default_rng(0)
    x, loss = rng.random((70, 2)), np.full(70, np.inf)
    loss[:10] = np.square(x[:10] - [0.2, 0.7]).sum(axis=1)
    model = fitted(observed(x, loss, n_prior=10), max_points=20)
    assert len(model.process.smoothed) == 10  # failures are worse than what succeeds; nothing does
    assert model.expected_improvement(x[0]) is None  # in units of this run
    assert np.isfinite(model.score(rng.random((5, 2)))).all()


def test_the_score_is_the_improvement_over_the_reference():
    x = np.random.default_rng(0).random((60, 2))
    model = fitted(observed(x, np.square(x - [0.2, 0.7]).sum(axis=1)), max_points=30)
    assert len(model.process.smoothed) == 30
    mean, deviation = model.process.predict(model._columns.features(x, 1.0))
    expected = log_expected_improvement(model.reference, mean, deviation)
    assert model.score(x) == pytest.approx(expected)


@pytest.mark.parametrize("n_prior", [0, 20, 40])
def test_improvement_is_counted_from_this_run_where_it_has_any_results(n_prior):
    x = np.random.default_rng(0).random((40, 2))
    loss = np.square(x - [0.2, 0.7]).sum(axis=1)
    model = fitted(observed(x, loss, n_prior=n_prior))
    own = np.arange(40) >= n_prior if n_prior < 40 else np.ones(40, bool)
    process = model.process
    believed = process.smoothed[own].min() - np.sqrt(process.hyperparameters.noise)
    assert model.reference == pytest.approx(believed)


# Selection ---------------------------------------------------------------------------------------


def test_the_best_observations_and_those_of_the_highest_rungs_are_kept():
    rng = np.random.default_rng(0)
    loss, resource = rng.random(400), rng.choice([1, 3, 9], p=[0.8, 0.15, 0.05], size=400)
    seen = observed(rng.random((400, 2)), loss, resource=resource)
    target = _targets(loss, np.ones(400, int))
    chosen = _choose(seen, np.arange(400), target, np.ones(400, bool), 100)
    assert len(chosen) == 100
    assert (np.diff(chosen) > 0).all()
    assert set(np.argsort(loss)[:50]) <= set(chosen)
    assert set(np.flatnonzero(resource == 9)) <= set(chosen)
    assert np.count_nonzero(loss[chosen] > 0.5) > 10  # and what is bad is not forgotten
    again = _choose(seen, np.arange(400), target, np.ones(400, bool), 100)
    np.testing.assert_array_equal(chosen, again)


def test_few_observations_are_all_kept():
    seen = observed(np.random.default_rng(0).random((30, 2)), np.arange(30.0))
    chosen = _choose(seen, np.arange(30), np.arange(30.0), np.ones(30, bool), 30)
    assert chosen.tolist() == list(range(30))


def test_observations_of_this_run_go_before_those_of_earlier_ones():
    n = 300
    is_own = np.arange(n) >= 260
    seen = observed(np.random.default_rng(0).random((n, 2)), np.zeros(n), n_prior=260)
    target = np.where(is_own, 1.0, -1.0)  # however good the earlier ones were
    chosen = _choose(seen, np.arange(n), target, is_own, 100)
    assert set(np.flatnonzero(is_own)) <= set(chosen)
    assert len(chosen) == 100


def test_centres_are_the_first_different_trials_of_a_ranking():
    assert _first_distinct(np.array([4, 2, 4, 7, 2, 1]), 3).tolist() == [4, 2, 7]


@pytest.mark.parametrize("max_points", [20, 60])
def test_a_small_model_of_many_observations_still_finds_the_optimum(max_points):
    found = [min(map(loss_of, feed(make(max_points=max_points, seed=s), 120))) for s in range(3)]
    assert np.median(found) < 2e-3  # 0.003 is the median of the best of 120 random ones


# The same after a restore ------------------------------------------------------------------------


class Bumpy:
    """A driver in whose run trials fail, repeat epochs and are reopened."""

    def __init__(self, searcher):
        self.searcher = searcher
        self.n = 0
        self.rng = np.random.default_rng(5)

    def step(self):
        name, self.n = f"t{self.n}", self.n + 1
        c = self.searcher.suggest(name).configuration
        chance = self.rng.random(4)
        loss = bowl(c) + 0.1 * self.rng.normal()
        if chance[0] < 0.1:
            self.searcher.finish(name, TrialStatus.FAILED)
            if chance[1] < 0.5:
                self.searcher.reopen(name)
            return
        for r in range(1, 10 if chance[2] < 0.2 else 4 if chance[2] < 0.4 else 2):
            self.searcher.observe(Report(name, r, loss + 1 / r))
        if chance[3] < 0.4 and self.n > 3:  # an earlier trial is restored and repeats an epoch
            other = f"t{self.rng.integers(self.n)}"
            value = math.nan if chance[3] < 0.1 else loss + 2 * self.rng.random()
            self.searcher.observe(Report(other, 1, value))
        if chance[3] < 0.9:
            self.searcher.finish(name, TrialStatus.STOPPED)


EARLIER = [
    PriorTrial({"x": float(x), "y": float(y)}, ((1, float(x)), (3, float(x * y))), failed=y < 0.1)
    for x, y in np.random.default_rng(7).random((15, 2))
]


@pytest.mark.parametrize("earlier", [[], EARLIER], ids=["cold", "warm"])
@pytest.mark.parametrize("after", [7, 9, 13, 22, 41, 60])
def test_a_restored_searcher_goes_on_with_the_same_suggestions(after, earlier):
    options = {"random_fraction": 0.0, "max_points": 25}
    straight = make(**options)
    straight.begin_from(earlier)
    run = Bumpy(straight)
    for _ in range(after):
        run.step()
    restored = make(**options)
    restored.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert [straight.suggest(f"n{i}") for i in range(10)] == [
        restored.suggest(f"n{i}") for i in range(10)
    ]


def test_hyperparameters_do_not_depend_on_when_the_model_was_fitted():
    rng = np.random.default_rng(0)
    x, first = rng.random((12, 2)), rng.random(12)
    second = first.copy()
    second[[2, 3]] = first[[3, 2]] + 0.5  # two repeated epochs with other values
    old = fitted(observed(x, first))
    old.fit(observed(x, second), rng)
    new = fitted(observed(x, second))
    asked = rng.random((20, 2))
    np.testing.assert_array_equal(old.score(asked), new.score(asked))


def test_what_an_earlier_run_is_worth_is_fitted_as_soon_as_this_one_has_a_few_observations():
    """However many the earlier ones are; here their ranking is the reverse."""
    rng = np.random.default_rng(0)
    x, n_prior = rng.random((1030, 2)), 1000
    loss = np.square(x - [0.2, 0.7]).sum(axis=1)
    loss[:n_prior] *= -1.0
    correlations = []
    for n in (n_prior + 3, n_prior + 12, n_prior + 30):
        model = fitted(observed(x[:n], loss[:n], n_prior=n_prior))
        correlations.append(model.process.hyperparameters.correlation)
    assert correlations[0] == pytest.approx(0.731, abs=1e-3)  # nothing to fit it to
    assert correlations[1] < 0.4
    assert correlations[2] < 0.1


def test_hyperparameters_are_fitted_anew_when_observations_have_grown_by_a_quarter():
    rng = np.random.default_rng(0)
    x, loss = rng.random((30, 2)), rng.random(30)
    model = GpModel(np.zeros(2, np.int64))
    found = []
    for n in range(8, 30):
        model.fit(observed(x[:n], loss[:n]), rng)
        found.append(model.process.hyperparameters)
    changes = [n for n, (a, b) in enumerate(pairwise(found), 9) if a is not b]
    assert changes == [10, 13, 17, 22, 28]


# Failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raises", "reports nan"])
def test_a_region_where_everything_fails_is_avoided(how):
    """Though the slope leads there: without failures the minimum would be behind the border."""
    failed, best = [], []
    for seed in range(4):
        searcher, losses = make(seed=seed), []
        for i in range(90):
            c = searcher.suggest(str(i)).configuration
            if c["x"] + 0.3 * c["y"] > 0.7:
                losses.append(math.inf)
                if how == "reports nan":
                    searcher.observe(Report(str(i), 1, math.nan))
                searcher.finish(str(i), TrialStatus.FAILED)
                continue
            losses.append((c["x"] - 0.9) ** 2 + (c["y"] - 0.4) ** 2)
            for r in (1, 2, 3) if i % 3 == 0 else (1,):
                searcher.observe(Report(str(i), r, losses[-1] + 1 / r))
            searcher.finish(str(i), TrialStatus.STOPPED)
        failed.append(np.mean(np.isinf(losses[45:])))
        best.append(min(losses))
    assert np.mean(failed) < 0.7  # the best that works is beside what fails
    assert np.mean(best) < 0.12  # 0.094 on the border


def test_random_failures_hardly_change_how_close_the_search_comes():
    best = {}
    for share in (0.0, 0.2):
        for seed in range(12):
            searcher, rng = make(seed=seed), np.random.default_rng(seed)
            for i in range(60):
                c = searcher.suggest(str(i)).configuration
                if rng.random() < share:
                    searcher.finish(str(i), TrialStatus.FAILED)
                    continue
                for r in (1, 2, 3) if i % 3 == 0 else (1,):
                    searcher.observe(Report(str(i), r, bowl(c) + 1 / r))
                searcher.finish(str(i), TrialStatus.STOPPED)
                best[share, seed] = min(best.get((share, seed), math.inf), bowl(c))
    with_failures, without = (np.mean([best[s, i] for i in range(12)]) for s in (0.2, 0.0))
    assert with_failures < without + 0.005


def test_the_chance_of_success_is_low_where_trials_failed_and_neutral_far_away():
    rng = np.random.default_rng(0)
    x = np.concatenate([0.1 * rng.random((20, 2)), 0.45 + 0.1 * rng.random((20, 2))])
    loss = np.where(np.arange(40) < 20, np.inf, rng.random(40))
    model = fitted(observed(x, loss))
    h = model.process.hyperparameters
    narrow = type(h)(np.full(3, 0.1), h.signal, h.trial, h.noise, h.correlation)
    failures = _Failures.of(observed(x, loss), model._columns, narrow)
    asked = model._columns.features(np.array([[0.05, 0.05], [0.5, 0.5], [0.95, 0.95]]), 1.0)
    bad, good, far = failures.log_success(asked)
    assert bad < -1.0
    assert good > 0.5  # relative to the half of all trials that succeeded
    assert far == pytest.approx(0.0, abs=0.05)


def test_failures_are_observations_where_they_were_to_be_expected():
    rng = np.random.default_rng(0)
    works = 0.5 + 0.5 * rng.random((30, 2))
    together, alone = 0.05 * rng.random((10, 2)), np.array([[0.75, 0.75]])
    loss = np.concatenate([works[:, 0], np.full(11, np.inf)])
    seen = observed(np.concatenate([works, together, alone]), loss)
    model = fitted(seen)
    assert model._failures.expected(seen).tolist() == list(range(30, 40))
    believed = model.process.smoothed
    assert len(believed) == 40
    assert believed[30:].min() > believed[:30].max()


def test_thousands_of_failures_are_stood_for_by_the_newest():
    n = 4000
    x = np.random.default_rng(0).random((n, 2))
    loss = np.where(x[:, 0] > 0.5, np.inf, x[:, 0])
    model = fitted(observed(x, loss))
    left, right = model._failures.log_success(
        model._columns.features(np.array([[0.1, 0.5], [0.9, 0.5]]), 1.0)
    )
    assert len(model._failures.points) == 600
    assert model._failures.weight.sum() == pytest.approx(n)
    assert left > right + 1.0


def test_failures_of_earlier_runs_are_not_held_against_this_one():
    x = np.random.default_rng(0).random((20, 2))
    loss = np.where(np.arange(20) < 5, np.inf, x[:, 0])
    assert fitted(observed(x, loss, n_prior=10))._failures is None
    assert fitted(observed(x, loss))._failures is not None


def test_a_run_in_which_everything_fails_goes_on_at_random():
    searcher = make()
    for i in range(40):
        assert searcher.suggest(str(i)).origin == "random"
        searcher.finish(str(i), TrialStatus.FAILED)


# Running trials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_before", [8, 40])
def test_64_workers_get_different_and_spread_configurations(n_before):
    def gaps(**options):
        searcher = make(random_fraction=0.0, **options)
        feed(searcher, n_before)
        found = points([searcher.suggest(f"w{i}") for i in range(64)])
        distance = np.linalg.norm(found[:, None] - found[None], axis=2)
        return np.min(distance + 9 * np.eye(64), axis=1), found

    aware, found = gaps()
    blind, _ = gaps(avoid_pending=False)
    assert len(np.unique(found, axis=0)) == 64
    assert np.median(aware) > 2 * np.median(blind)
    assert np.median(aware) > 0.005  # of 64 points at random: 0.06


def test_a_running_trial_that_has_reported_counts_by_its_report_only():
    rng = np.random.default_rng(0)
    x, loss = rng.random((12, 2)), rng.random(12)
    seen = observed(x, loss, resource=np.ones(12, int), pending=[3])
    heading = observed(x, loss, resource=np.ones(12, int), pending=[3])
    object.__setattr__(heading, "pending_level", np.array([3]))
    asked = rng.random((20, 2))
    none = observed(x, loss, resource=np.ones(12, int))
    np.testing.assert_array_equal(fitted(heading).score(asked), fitted(none).score(asked))
    assert (fitted(seen).score(asked) != fitted(none).score(asked)).any()


# Spaces and losses of all kinds ------------------------------------------------------------------

SPACES = {
    "mixed": MIXED,
    "categories only": {
        "a": {"domain": "choice", "values": list("abcdef")},
        "b": {"domain": "choice", "values": list("abcdef")},
        "c": {"domain": "choice", "values": [True, False]},
    },
    "one number": {"x": {"domain": "loguniform", "lower": 1e-5, "upper": 1.0}},
    "one choice": {"k": {"domain": "choice", "values": list(range(100))}},
    "one integer": {"n": {"domain": "randint", "lower": 1, "upper": 200}},
    "30 numbers": {f"x{i}": UNIT for i in range(30)},
}


@pytest.mark.parametrize("levels", [(1,), (1, 3, 9), (5, 10), (100,)], ids=str)
@pytest.mark.parametrize("kind", SPACES)
def test_every_space_and_ladder_is_searched_without_complaint(kind, levels):
    space = SearchSpace.from_dict(SPACES[kind])
    searcher = make(space, rung_levels=levels, random_fraction=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(40):
            c = searcher.suggest(str(i)).configuration
            space.validate(c)
            for r in levels[: 1 + i % len(levels)]:
                loss = float(np.nansum(np.square(space.encode(c) - 0.3))) + 1 / r
                searcher.observe(Report(str(i), r, loss))
            searcher.finish(str(i), TrialStatus.STOPPED)
    late = [searcher.suggest(f"n{i}") for i in range(5)]
    assert all(s.is_model_based for s in late)
    assert all(s.expected_improvement >= 0 for s in late)


@pytest.mark.parametrize("kind", ["mixed", "categories only", "one number"])
def test_later_suggestions_are_better_than_the_first_ones(kind):
    space = SearchSpace.from_dict(SPACES[kind])

    def value(c):
        return float(np.nansum(np.square(space.encode(c) - 0.3)))

    ratios = []
    for seed in range(3):
        searcher = make(space, seed=seed)
        early = [value(s.configuration) for s in feed(searcher, 8, value)]
        late = [value(s.configuration) for s in feed(searcher, 27, value, start=8)][-10:]
        ratios.append(np.median(late) / np.median(early))
    assert np.mean(ratios) < 0.7, ratios


@pytest.mark.parametrize(
    "loss",
    [
        lambda i, c: 1.0,
        lambda i, c: 1e19 if i % 2 else -1e19,
        lambda i, c: -1e19 if i == 12 else bowl(c),
        lambda i, c: 1e19 if i % 3 else bowl(c),
        lambda i, c: 1.0 + 1e-15 * bowl(c),
        lambda i, c: 1e308 if i % 2 else -1e308,
        lambda i, c: math.nan if i % 5 else bowl(c),
    ],
    ids=["equal", "huge", "one tiny", "many huge", "nearly equal", "largest", "mostly nan"],
)
def test_losses_of_any_size_are_taken(loss):
    searcher = make(random_fraction=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(60):
            suggestion = searcher.suggest(str(i))
            searcher.observe(Report(str(i), 1, loss(i, suggestion.configuration)))
            searcher.finish(str(i), TrialStatus.STOPPED)
            gain = suggestion.expected_improvement
            assert gain is None or 0.0 <= gain < math.inf
    assert searcher.suggest("last").is_model_based


def test_the_order_of_the_losses_is_all_that_counts_for_the_choice():
    straight, bent = make(), make()
    one = [s.configuration for s in feed(straight, 40)]
    two = [s.configuration for s in feed(bent, 40, lambda c: math.exp(30 * bowl(c)) - 7)]
    assert one == two


def test_a_space_of_constants_has_one_configuration():
    found = feed(make(SearchSpace.from_dict({"epochs": 3})), 20, lambda c: 1.0)
    assert {json.dumps(s.configuration) for s in found} == {'{"epochs": 3}'}


def test_a_used_up_space_of_categories_repeats_itself():
    space = SearchSpace.from_dict({"k": {"domain": "choice", "values": list(range(12))}})
    searcher = make(space, random_fraction=0.0)
    found = [s.configuration["k"] for s in feed(searcher, 20, lambda c: c["k"])]
    assert sorted(found[:12]) == list(range(12))


@pytest.mark.parametrize("n_candidates", [1, 3])
def test_a_handful_of_candidates_is_enough(n_candidates):
    found = feed(make(n_candidates=n_candidates, random_fraction=0.0), 20)
    assert sum(s.is_model_based for s in found) == 14  # 6 trials make 8 observations


def test_the_contracts_run_gets_better_in_the_mixed_space():
    space = SearchSpace.from_dict(MIXED)
    run = Run(make(space), space)
    for _ in range(150):
        run.step()
    values = [np.nansum(np.square(space.encode(c) - 0.3)) for _, c, _ in run.log]
    assert np.median(values[30:60]) < 0.6 * np.median(values[:10])  # then it looks elsewhere
    assert min(values) < 0.6 * min(values[:10])


BRANCHES = {
    "kind": {"domain": "choice", "values": ["a", "b"]},
    "x": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "when": {"kind": "a"}},
    "y": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "when": {"kind": "b"}},
    "z": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
}


class Watching(GpModel):
    """Remembers what it was asked to score."""

    def score(self, candidates):
        self.scored = candidates
        return super().score(candidates)


def test_candidates_are_scored_as_the_configurations_that_they_stand_for():
    space = SearchSpace.from_dict(BRANCHES)
    model = Watching(space.n_choices)
    searcher = BohbSearcher(space, mode="min", seed=0, rung_levels=LEVELS, model=model)
    feed(searcher, 30, lambda c: c["z"] + c.get("x", 0.5))
    assert np.isnan(model.scored).any()
    for row in model.scored[::17]:
        np.testing.assert_array_equal(row, space.encode(space.decode(np.nan_to_num(row))))


def test_what_is_scored_while_candidates_are_drawn_is_legal_too():
    space = SearchSpace.from_dict(BRANCHES)
    searcher = BohbSearcher(space, mode="min", seed=0, rung_levels=LEVELS, model="gp")
    feed(searcher, 30, lambda c: c["z"] + c.get("x", 0.5))
    model, scored = searcher._model, []
    score = model.score
    model.score = lambda candidates: (scored.append(candidates), score(candidates))[1]
    model.propose(64, np.random.default_rng(0))
    (asked,) = scored
    assert len(asked) == 48
    for row in asked:
        np.testing.assert_array_equal(row, space.repair(row))


def test_runs_whose_losses_are_not_comparable_do_not_spoil_each_other():
    """The first earlier run is about this problem, the second one has lower losses elsewhere."""
    space = SearchSpace.from_dict({"x": BRANCHES["z"], "y": BRANCHES["z"]})

    def best_after_three(earlier):
        found = []
        for seed in range(5):
            searcher = BohbSearcher(
                space, mode="min", seed=seed, rung_levels=(1,), model="gp", random_fraction=0.0
            )
            searcher.begin_from(earlier)
            values = []
            for i in range(3):
                c = searcher.suggest(str(i)).configuration
                values.append((c["x"] - 0.2) ** 2 + (c["y"] - 0.7) ** 2)
                searcher.observe(Report(str(i), 1, values[-1]))
                searcher.finish(str(i), TrialStatus.STOPPED)
            found.append(min(values))
        return np.mean(found)

    draws = np.random.default_rng(0).random((40, 2))
    good = [
        PriorTrial({"x": x, "y": y}, ((1, 10 + (x - 0.2) ** 2 + (y - 0.7) ** 2),))
        for x, y in draws.tolist()
    ]
    other = [
        PriorTrial({"x": x, "y": y}, ((1, (x - 0.25) ** 2 + (y - 0.6) ** 2),), run=1)
        for x, y in draws[::-1].tolist()
    ]
    pooled = [PriorTrial(trial.configuration, trial.reports) for trial in other]
    assert best_after_three([*good, *other]) < best_after_three([*good, *pooled]) + 1e-3
    assert best_after_three([*good, *other]) < 0.02
