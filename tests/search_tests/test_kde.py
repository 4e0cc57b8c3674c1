"""The density model: its steps by hand, and the whole against hpbandster's own generator."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.search.history import History
from raytune_ahu.search.hpbandster_engine import HpbandsterEngine
from raytune_ahu.search.kde import (
    KdeModel,
    KdeSettings,
    floored_log_pdf,
    impute_inactive,
    split_good_bad,
)
from raytune_ahu.search.kernels import category_index
from raytune_ahu.types import TrialStatus

NAN, INF = np.nan, np.inf
LEVELS = (1, 3, 9)
NUMERIC = np.zeros(3, dtype=np.int64)
MIXED = np.array([0, 3, 0, 2])
PLAIN = KdeSettings(avoid_pending=False)
LITERAL = KdeSettings(avoid_pending=False, categorical="statsmodels")


def history(n_choices, n, *, seed=0, conditional=False, used=None):
    """Trials that reported a noisy bowl over the `used` columns (None: all) at level 1."""
    rng = np.random.default_rng(seed)
    book = History(len(n_choices), LEVELS)
    for i in range(n):
        x = rng.random(len(n_choices))
        for j in np.flatnonzero(n_choices):
            x[j] = (rng.integers(n_choices[j]) + 0.5) / n_choices[j]
        if conditional:  # column 2 is active only with the first category of column 1
            x[2] = x[2] if x[1] < 1 / 3 else NAN
        book.add(f"1-{i}", x)
        book.observe(
            f"1-{i}", 1, float(np.nansum((x[used or slice(None)] - 0.3) ** 2) + 0.01 * rng.random())
        )
    return book


def fitted(book, n_choices, settings=PLAIN):
    model = KdeModel(n_choices, settings)
    return model, model.fit(book.observations(), np.random.default_rng(0))


# The steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "n_good", "n_bad"), [(8, 4, 4), (20, 4, 16), (40, 6, 34), (101, 15, 85), (1000, 150, 850)]
)
def test_good_and_bad_are_the_rounded_down_shares_but_at_least_the_minimum(n, n_good, n_bad):
    loss = np.random.default_rng(0).permutation(n).astype(float)
    good, bad = split_good_bad(loss, 0.15, 4)
    assert sorted(loss[good]) == list(range(n_good))
    assert sorted(loss[bad]) == list(range(n_good, n_good + n_bad))


def test_among_equal_losses_the_earlier_observation_is_better():
    good, bad = split_good_bad(np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]), 0.15, 3)
    assert good.tolist() == [1, 0, 2]
    assert bad.tolist() == [3, 4, 5]


def test_failed_observations_are_bad_and_never_good():
    loss = np.array([INF, 2.0, INF, 1.0, INF, 3.0])
    good, bad = split_good_bad(loss, 0.15, 3)
    assert good.tolist() == [3, 1, 5]
    assert sorted(bad.tolist()) == [0, 2, 4]
    assert split_good_bad(loss, 0.15, 4) is None


def test_when_most_trials_fail_the_few_finite_ones_are_the_good_ones():
    loss = np.full(1000, INF)
    loss[[3, 500, 700, 900, 901]] = [5.0, 1.0, 2.0, 3.0, 4.0]
    good, bad = split_good_bad(loss, 0.15, 3)
    assert good.tolist() == [500, 700, 900, 901, 3]
    assert len(bad) == 850
    assert np.isinf(loss[bad]).all()


def test_inactive_parameters_are_filled_jointly_from_rows_that_have_them():
    rng = np.random.default_rng(0)
    data = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], *[[0.9, NAN, NAN]] * 200])
    filled = impute_inactive(data, NUMERIC, rng)
    np.testing.assert_array_equal(filled[:2], data[:2])
    np.testing.assert_array_equal(filled[2:, 0], 0.9)
    pairs = {tuple(row) for row in filled[2:, 1:]}
    assert pairs == {(0.2, 0.3), (0.5, 0.6)}
    assert np.isnan(data[2, 1]), "the data were changed"


def test_exclusive_parameters_are_each_filled_from_their_own_donors():
    rng = np.random.default_rng(0)
    data = np.array([[0.1, NAN, 0.3]] * 50 + [[0.9, 0.7, NAN]] * 50)
    filled = impute_inactive(data, NUMERIC, rng)
    np.testing.assert_array_equal(filled[:, 1], 0.7)
    np.testing.assert_array_equal(filled[:, 2], 0.3)


def test_a_parameter_that_is_active_nowhere_gets_uniform_draws():
    rng = np.random.default_rng(0)
    filled = impute_inactive(np.full((3000, 2), NAN), np.array([0, 4]), rng)
    assert abs(filled[:, 0].mean() - 0.5) < 0.02
    shares = np.bincount(category_index(filled[:, 1], 4)) / 3000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_complete_data_take_no_draws():
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    data = np.ones((4, 3))
    assert impute_inactive(data, NUMERIC, rng) is data
    assert rng.random() == untouched.random()


# The model ----------------------------------------------------------------------------------------


def test_the_first_model_needs_twice_as_many_observations_as_columns_plus_one():
    assert fitted(history(NUMERIC, 7), NUMERIC)[1] is None
    assert fitted(history(NUMERIC, 8), NUMERIC)[1] == 1


def test_the_largest_level_with_enough_data_is_used():
    book = history(NUMERIC, 30)
    for i in range(7):
        book.observe(f"1-{i}", 3, float(i))
    assert fitted(book, NUMERIC)[1] == 1
    book.observe("1-7", 3, 7.0)
    model, level = fitted(book, NUMERIC)
    assert level == 3
    expected = book.observations().configurations[:4]
    np.testing.assert_array_equal(model.good.data, expected)


def test_a_level_with_too_few_finite_losses_is_not_used():
    book = history(NUMERIC, 30)
    for i in range(10):
        book.observe(f"1-{i}", 3, 0.5 if i < 3 else INF)
    assert fitted(book, NUMERIC)[1] == 1


def test_failed_regions_score_low():
    book = history(NUMERIC, 60)
    for i, x in enumerate(book.observations().configurations):
        if x[0] > 0.6:
            book.observe(f"1-{i}", 1, INF)
    model, _ = fitted(book, NUMERIC)
    rng = np.random.default_rng(1)
    low, high = rng.random((2, 200, 3))
    low[:, 0] *= 0.6
    high[:, 0] = 0.6 + 0.4 * high[:, 0]
    assert np.median(model.score(low)) > np.median(model.score(high)) + 1


def test_candidates_lie_in_the_cube_and_in_the_centres_of_categories():
    model, _ = fitted(history(MIXED, 60, conditional=True), MIXED)
    candidates = model.propose(500, np.random.default_rng(0))
    assert candidates.shape == (500, 4)
    assert np.all((candidates >= 0) & (candidates <= 1))
    for j in (1, 3):
        k = MIXED[j]
        centres = (category_index(candidates[:, j], k) + 0.5) / k
        np.testing.assert_array_equal(candidates[:, j], centres)
    assert np.all(np.isfinite(model.score(candidates)))


def test_candidates_are_drawn_with_the_widened_bandwidth():
    book = History(1, LEVELS)
    for i in range(40):
        book.add(str(i), np.array([0.5 if i < 6 else 0.9]))
        book.observe(str(i), 1, float(i))
    model, _ = fitted(book, np.array([0]), KdeSettings(min_bandwidth=0.01, bandwidth_factor=5.0))
    assert model.good.bandwidths[0] == 0.01
    drawn = model.propose(5000, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"top_fraction": 0.0}, "top_fraction=0.0"),
        ({"top_fraction": "a"}, "top_fraction='a'"),
        ({"bandwidth_factor": 0}, "bandwidth_factor=0"),
        ({"min_bandwidth": 1e-5}, "min_bandwidth=1e-05"),
        ({"min_points_in_model": 3}, "min_points_in_model=3.* at least 4"),
        ({"min_points_in_model": 4.5}, "min_points_in_model=4.5"),
        ({"avoid_pending": 1}, "avoid_pending=1"),
        ({"categorical": "x"}, "categorical='x'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, named):
    with pytest.raises(SpecError, match=named):
        KdeModel(NUMERIC, KdeSettings(**settings))


# Running trials -----------------------------------------------------------------------------------


def test_a_running_configuration_scores_far_below_its_surroundings():
    book = history(NUMERIC, 60)
    point = np.array([0.3, 0.3, 0.3])
    before = fitted(book, NUMERIC, KdeSettings())[0].score(point[None])
    book.add("running", point)
    model, _ = fitted(book, NUMERIC, KdeSettings())
    away = point + 8 * model.good.bandwidths
    scores = model.score(np.stack([point, away]))
    ignoring = fitted(book, NUMERIC, PLAIN)[0].score(np.stack([point, away]))
    assert scores[0] < before[0] - 20
    assert scores[1] == pytest.approx(ignoring[1], abs=1e-9)
    np.testing.assert_allclose(ignoring[0], before[0])


def test_a_running_trial_stops_counting_once_it_is_heard_of_or_ends():
    points = np.random.default_rng(0).random((20, 3))
    for is_heard_of in (True, False):
        book = history(NUMERIC, 60)
        book.add("running", np.array([0.3, 0.3, 0.3]))
        if is_heard_of:
            book.observe("running", 1, 0.5)
        else:
            book.finish("running", TrialStatus.STOPPED)
        model, _ = fitted(book, NUMERIC, KdeSettings())
        plain, _ = fitted(book, NUMERIC, PLAIN)
        np.testing.assert_array_equal(model.score(points), plain.score(points))


def test_inactive_columns_of_a_running_trial_count_as_equal():
    book = history(MIXED, 80, conditional=True)
    running = np.array([0.3, 0.5, NAN, 0.25])
    book.add("running", running)
    model, _ = fitted(book, MIXED, KdeSettings())
    plain, _ = fitted(book, MIXED, PLAIN)
    equal = np.tile(running, (5, 1))
    equal[:, 2] = np.linspace(0, 1, 5)
    cost = plain.score(equal) - model.score(equal)
    np.testing.assert_allclose(cost, cost[0])
    # Fitting draws donors for inactive columns, with the same generator: the densities are equal.
    assert cost[0] > 20


# hpbandster is the oracle -------------------------------------------------------------------------


@pytest.fixture
def _needs_hpbandster():
    pytest.importorskip("hpbandster", reason="hpbandster is not installed (extra hpbandster)")


def engine(n_choices, settings=PLAIN):
    return HpbandsterEngine(
        n_choices, seed=0, random_fraction=0.0, n_candidates=64, settings=settings
    )


def hpbandster_by_its_own_way(n_choices, observations):
    """hpbandster's generator, fed job by job with configurations of a ConfigSpace."""
    ours = engine(n_choices)
    generator = ours._bohb(ours._shadow_space(), **ours._options)
    x, loss = ours._indexed(observations.configurations), observations.loss
    for i in range(len(loss)):
        names = list(generator.configspace)
        values = {
            name: int(v) if k else float(v)
            for name, v, k in zip(names, x[i], n_choices, strict=True)
        }

        class Job:
            id = (0, 0, 0)
            exception = None
            result = {"loss": loss[i]}  # noqa: RUF012
            kwargs = {"budget": 1, "config": values}  # noqa: RUF012

        generator.new_result(Job, update_model=i == len(loss) - 1)
    return generator


@pytest.mark.usefixtures("_needs_hpbandster")
@pytest.mark.parametrize("n_choices", [NUMERIC, MIXED, np.array([2, 3, 5])])
@pytest.mark.parametrize("n", [20, 101, 600])
@pytest.mark.filterwarnings("ignore")
def test_bandwidths_densities_and_ranking_are_hpbandsters(n_choices, n):
    book = history(n_choices, n, seed=n)
    model, level = fitted(book, n_choices, LITERAL)
    oracle = hpbandster_by_its_own_way(n_choices, book.observations()).kde_models[level]
    points = model.propose(200, np.random.default_rng(0))
    indexed = engine(n_choices)._indexed(points)
    for mine, theirs in ((model.good, oracle["good"]), (model.bad, oracle["bad"])):
        np.testing.assert_allclose(mine.data, _encoded(theirs.data, n_choices), atol=1e-9)
        np.testing.assert_allclose(mine.bandwidths, theirs.bw, rtol=1e-6)
        np.testing.assert_allclose(mine.pdf(points), theirs.pdf(indexed), rtol=1e-6)
    ratio = [
        max(1e-32, oracle["bad"].pdf(row)) / max(oracle["good"].pdf(row), 1e-32) for row in indexed
    ]
    np.testing.assert_array_equal(
        np.argsort(-model.score(points), kind="stable"), np.argsort(ratio, kind="stable")
    )


@pytest.mark.usefixtures("_needs_hpbandster")
@pytest.mark.parametrize("n", [200, 900])
def test_the_default_model_is_hpbandsters_where_all_categories_occur(n):
    book = history(MIXED, n, seed=1, used=[0, 2])
    model, level = fitted(book, MIXED)
    theirs = engine(MIXED)
    assert theirs.fit(book.observations()) == level == 1
    oracle = theirs.generator.kde_models[1]
    points = model.propose(100, np.random.default_rng(0))
    for mine, other in ((model.good, oracle["good"]), (model.bad, oracle["bad"])):
        assert all(len(np.unique(mine.data[:, j])) == MIXED[j] for j in (1, 3)), "test data"
        assert np.all(other.bw[[1, 3]] < [2 / 3, 1 / 2]), "test data"
        np.testing.assert_allclose(mine.bandwidths, other.bw, rtol=1e-6)
        np.testing.assert_allclose(mine.pdf(points), other.pdf(theirs._indexed(points)), rtol=1e-6)


@pytest.mark.usefixtures("_needs_hpbandster")
def test_conditional_data_are_imputed_as_by_hpbandster():
    """The draws differ; the filled columns have the same sources and, in the mean, densities."""
    book = history(MIXED, 300, seed=2, conditional=True)
    observations = book.observations()
    theirs = engine(MIXED)
    model = KdeModel(MIXED, LITERAL)
    points = np.random.default_rng(3).random((30, 4))
    points[:, 1], points[:, 3] = 0.5, 0.25
    ours_pdf, their_pdf = [], []
    for i in range(40):
        model.fit(observations, np.random.default_rng(i))
        theirs.fit(observations, i)
        oracle = theirs.generator.kde_models[1]["bad"]
        assert set(np.round(oracle.data[:, 2], 9)) == set(np.round(model.bad.data[:, 2], 9))
        ours_pdf.append(model.bad.pdf(points))
        their_pdf.append(oracle.pdf(theirs._indexed(points)))
        # Given the same imputed data, the density is the same.
        same = type(model.bad)(_encoded(oracle.data, MIXED), MIXED, categorical="statsmodels")
        np.testing.assert_allclose(same.pdf(points), their_pdf[-1], rtol=1e-6)
    spread = np.std(their_pdf, axis=0) / np.sqrt(40) + 1e-9
    gap = (np.mean(ours_pdf, axis=0) - np.mean(their_pdf, axis=0)) / spread
    assert np.abs(gap).max() < 5.5


@pytest.mark.usefixtures("_needs_hpbandster")
def test_candidates_are_distributed_as_hpbandsters():
    """hpbandster with one candidate per proposal returns its raw draws."""
    book = history(MIXED, 60, seed=4)
    model, _ = fitted(book, MIXED, LITERAL)
    theirs = HpbandsterEngine(MIXED, seed=0, random_fraction=0.0, n_candidates=1, settings=PLAIN)
    drawn = np.array([theirs.propose(book.observations(), i)[0] for i in range(300)])
    ours = model.propose(20_000, np.random.default_rng(0))
    spread = ours.std(axis=0) / np.sqrt(len(drawn))
    assert np.all(np.abs(drawn.mean(axis=0) - ours.mean(axis=0)) < 4 * spread)
    np.testing.assert_allclose(drawn.std(axis=0), ours.std(axis=0), rtol=0.15)


def test_densities_are_floored_as_in_hpbandster():
    book = history(NUMERIC, 60)
    model, _ = fitted(book, NUMERIC, KdeSettings(min_bandwidth=1e-4))
    density = model.good
    density.bandwidths[:] = 1e-4
    far = np.array([[0.999, 0.001, 0.999]])
    assert floored_log_pdf(density, far)[0] == pytest.approx(np.log(1e-32))


def _encoded(data, n_choices):
    data = np.array(data, dtype=float)
    for j in np.flatnonzero(n_choices):
        data[:, j] = (data[:, j] + 0.5) / n_choices[j]
    return data
