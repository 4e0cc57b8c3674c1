"""BOHB as a searcher: where suggestions come from, what they learn from, whom they avoid."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.search import BohbSearcher, KdeModel, KdeSettings, Observations, RandomSearcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus

UNIT = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
PLANE = SearchSpace.from_dict({"x": UNIT, "y": UNIT})


def make(space=PLANE, **options):
    options = {"mode": "min", "seed": 0, "rung_levels": (1, 3, 9), **options}
    return BohbSearcher(space, **options)


def bowl(configuration):
    return (configuration["x"] - 0.2) ** 2 + (configuration["y"] - 0.7) ** 2


def feed(searcher, n, value=bowl, resource=1, start=0):
    """Let n trials run to one resource and stop there."""
    suggestions = []
    for i in range(start, start + n):
        suggestion = searcher.suggest(str(i))
        for r in range(1, resource + 1):
            searcher.observe(Report(str(i), r, value(suggestion.configuration)))
        searcher.finish(str(i), TrialStatus.STOPPED)
        suggestions.append(suggestion)
    return suggestions


def test_the_model_takes_over_once_it_has_six_observations_in_two_dimensions():
    searcher = make(random_fraction=0.0)
    assert [s.origin for s in feed(searcher, 7)] == ["random"] * 6 + ["model@1"]


def test_only_suggestions_of_the_model_name_it_and_the_density_ratio_expects_nothing():
    found = feed(make(random_fraction=0.3), 60)
    assert {s.model for s in found if s.is_model_based} == {"kde"}
    assert {s.model for s in found if not s.is_model_based} == {None}
    assert {s.expected_improvement for s in found} == {None}


def test_the_origin_names_the_largest_level_with_a_model():
    searcher = make(random_fraction=0.0)
    feed(searcher, 20)
    assert feed(searcher, 6, resource=3, start=20)[-1].origin == "model@1"
    assert feed(searcher, 1, start=26)[0].origin == "model@3"


def test_the_random_fraction_is_kept():
    searcher = make(random_fraction=0.3)
    feed(searcher, 6)
    origins = [s.origin for s in feed(searcher, 400, start=6)]
    assert abs(origins.count("random") / 400 - 0.3) < 0.07


def test_a_random_fraction_of_one_is_random_search():
    assert {s.origin for s in feed(make(random_fraction=1.0), 40)} == {"random"}


def test_reports_between_the_rung_levels_do_not_change_the_suggestions():
    with_them, without = make(), make()
    for i in range(40):
        suggestions = [s.suggest(str(i)) for s in (with_them, without)]
        assert suggestions[0] == suggestions[1]
        value = bowl(suggestions[0].configuration)
        with_them.observe(Report(str(i), 1, value))
        with_them.observe(Report(str(i), 2, -99.0))
        without.observe(Report(str(i), 1, value))
        for searcher in (with_them, without):
            searcher.finish(str(i), TrialStatus.STOPPED)


@pytest.mark.parametrize("seed", range(3))
def test_later_suggestions_are_better_than_random_ones(seed):
    learned = feed(make(seed=seed), 150)[-50:]
    drawn = feed(RandomSearcher(PLANE, mode="min", seed=seed), 150)[-50:]
    values, random_values = ([bowl(s.configuration) for s in part] for part in (learned, drawn))
    assert np.median(values) < 0.2 * np.median(random_values)


@pytest.mark.parametrize("model", ["kde", "gp"])
def test_categories_and_conditions_are_learned(model):
    space = SearchSpace.from_dict(
        {
            "x": UNIT,
            "kind": {"domain": "choice", "values": ["good", "bad", "worse"]},
            "inner": {**UNIT, "when": {"kind": "good"}},
        }
    )

    def value(c):
        if c["kind"] == "good":
            return (c["x"] - 0.5) ** 2 + (c["inner"] - 0.8) ** 2
        return 1.0 + c["x"]

    middles = []
    for seed in range(3):
        late = feed(make(space, random_fraction=0.0, seed=seed, model=model), 150, value)[-40:]
        good = [s.configuration for s in late if s.configuration["kind"] == "good"]
        assert len(good) > 30
        middles.append(np.median([c["inner"] for c in good]))
    assert abs(np.median(middles) - 0.8) < 0.1


@pytest.mark.parametrize("how", ["raises", "reports nan", "reports inf"])
def test_regions_where_trials_fail_are_avoided(how):
    searcher = make()
    configurations = []
    for i in range(150):
        c = searcher.suggest(str(i)).configuration
        configurations.append(c)
        if c["x"] > 0.4:  # the minimum without failures would be at x = 1
            if how != "raises":
                value = math.nan if how == "reports nan" else -math.inf
                searcher.observe(Report(str(i), 1, value))
            searcher.finish(str(i), TrialStatus.FAILED)
        else:
            searcher.observe(Report(str(i), 1, -c["x"]))
            searcher.finish(str(i), TrialStatus.STOPPED)
    failed = np.mean([c["x"] > 0.4 for c in configurations[-60:]])
    assert failed < 0.45  # 0.6 at random
    assert failed < np.mean([c["x"] > 0.4 for c in configurations[:20]])


def test_parallel_workers_get_different_configurations_of_a_discrete_space():
    space = SearchSpace.from_dict(
        {name: {"domain": "randint", "lower": 1, "upper": 6} for name in ("x", "y")}
    )
    searcher = make(space, random_fraction=0.0)
    feed(searcher, 12, lambda c: abs(c["x"] - 3) + abs(c["y"] - 3))
    found = [searcher.suggest(f"w{i}") for i in range(16)]
    assert len({json.dumps(s.configuration) for s in found}) == 16


def test_parallel_workers_spread_out_where_running_trials_are_taken_into_account():
    def gap(avoid_pending, seed):
        searcher = make(seed=seed, random_fraction=0.0, avoid_pending=avoid_pending)
        feed(searcher, 60)
        found = [searcher.suggest(f"w{i}").configuration for i in range(16)]
        points = np.array([[c["x"], c["y"]] for c in found])
        distance = np.linalg.norm(points[:, None] - points[None], axis=2)
        return np.median(np.min(distance + 9 * np.eye(16), axis=1))

    aware, blind = ([gap(avoid, seed) for seed in range(12)] for avoid in (True, False))
    assert np.mean(aware) > 1.2 * np.mean(blind)


def test_forbidden_combinations_are_never_proposed_by_the_model():
    space = SearchSpace.from_dict(
        {
            "x": UNIT,
            "k": {"domain": "choice", "values": ["a", "b", "c"]},
            "m": {"domain": "choice", "values": [1, 2]},
            "forbidden": [{"k": "a", "m": 1}],
        }
    )
    # All that is near the forbidden corner is best.
    late = feed(
        make(space, random_fraction=0.0),
        120,
        lambda c: c["x"] + (c["k"] != "a") + (c["m"] != 1),
    )
    for suggestion in late:
        space.validate(suggestion.configuration)
    assert sum(s.origin == "model@1" for s in late) > 100


def test_a_small_space_is_used_up_without_repeating_and_then_repeats():
    space = SearchSpace.from_dict({"k": {"domain": "choice", "values": list(range(12))}})
    searcher = make(space, random_fraction=0.0)
    found = [s.configuration["k"] for s in feed(searcher, 15, lambda c: c["k"])]
    assert sorted(found[:12]) == list(range(12))


class CountingModel:
    """A model of another kind: proposes the observed minimum over all levels, moved a little."""

    name = "counting"
    n_candidates = 64
    knows_inactive = False
    random_fraction = 1 / 3
    every_report = True

    def __init__(self):
        self.seen: Observations | None = None

    def fit(self, observations, rng):
        self.seen = observations
        return int(observations.resource.max()) if len(observations.loss) else None

    def propose(self, n, rng):
        best = self.seen.configurations[self.seen.trial[np.argmin(self.seen.loss)]]
        return np.clip(best + 0.01 * rng.normal(size=(n, len(best))), 0, 1)

    def score(self, candidates):
        return -candidates[:, 0]

    def expected_improvement(self, vector):
        return float(vector[0])


def test_another_model_can_stand_in_the_same_place_and_gets_every_report():
    model = CountingModel()
    searcher = make(model=model, random_fraction=0.0)
    feed(searcher, 5, resource=2)
    running = searcher.suggest("running")
    assert (running.origin, running.model) == ("model@2", "counting")
    assert running.expected_improvement == pytest.approx(running.configuration["x"])
    searcher.suggest("last")
    assert model.seen.resource.tolist() == [1, 2] * 5
    assert model.seen.configurations.shape == (6, 2)
    assert model.seen.pending.tolist() == [5]
    assert model.seen.pending_level.tolist() == [1]


def test_a_density_model_with_other_settings_can_be_handed_in():
    settings = KdeSettings(avoid_pending=False, categorical="statsmodels")
    searcher = make(model=KdeModel(PLANE.n_choices, settings), random_fraction=0.0)
    assert feed(searcher, 10)[-1].origin == "model@1"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rung_levels": ()}, "rung_levels"),
        ({"rung_levels": (3, 1)}, "rung_levels"),
        ({"rung_levels": (0, 1)}, "rung level=0"),
        ({"random_fraction": 1.5}, "random_fraction=1.5"),
        ({"random_fraction": math.nan}, "random_fraction=nan"),
        ({"top_fraction": 1.0}, "top_fraction=1.0"),
        ({"n_candidates": 0}, "n_candidates=0"),
        ({"n_candidates": True}, "n_candidates=True"),
        ({"bandwidth_factor": -1.0}, "bandwidth_factor=-1.0"),
        ({"min_bandwidth": 0.0}, "min_bandwidth=0.0"),
        ({"min_points_in_model": 2}, "min_points_in_model=2.*at least 3"),
        ({"model": None}, "model=None must be one of 'kde', 'gp'"),
        ({"model": ["gp"]}, "model=.'gp'. must be one of"),
        ({"model": "forest"}, "model='forest' must be one of 'kde', 'gp'"),
        ({"model": "gp", "max_points": 19}, "max_points=19.*at least 20"),
        ({"model": "gp", "min_observations": 1}, "min_observations=1.*at least 2"),
        ({"model": "gp", "avoid_pending": 1}, "avoid_pending=1"),
        ({"engine": "other"}, "engine='other'"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, named):
    with pytest.raises(SpecError, match=named):
        make(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            {"max_points": 100},
            "kde'; leave it out, or use model='gp'",
        ),
        ({"min_observations": 4}, "min_observations=4 has no effect on model='kde'"),
        ({"model": "gp", "top_fraction": 0.2}, "top_fraction=0.2 has no effect on model='gp'"),
        ({"model": "gp", "bandwidth_factor": 2.0}, "bandwidth_factor=2.0"),
        ({"model": "gp", "min_bandwidth": 0.1}, "min_bandwidth=0.1"),
        ({"model": "gp", "min_points_in_model": 9}, "min_points_in_model=9"),
        ({"model": CountingModel(), "avoid_pending": True}, "avoid_pending=True.*CountingModel"),
    ],
)
def test_options_of_another_model_are_refused_by_name(options, named):
    with pytest.raises(SpecError, match=named):
        make(**options)


def test_grid_search_parameters_are_refused_by_name():
    space = SearchSpace.from_dict({"x": UNIT, "g": {"domain": "grid_search", "values": [1, 2]}})
    with pytest.raises(SpecError, match=r"grid_search parameters \(g\)"):
        make(space)
    with pytest.raises(SpecError, match=r"grid_search parameters \(g\)"):
        RandomSearcher(space, mode="min", seed=0)
