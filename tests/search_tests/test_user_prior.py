"""The user's prior in BOHB: first its favourite, a gain if it is right, no lasting harm if not."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest

from raytune_ahu.search import BohbSearcher
from raytune_ahu.simulation import final_regret, simulate, synthetic_task
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus
from schedulers import build_scheduler

UNIT = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
MODELS = ("kde", "gp")
SEEDS = range(6)
MAX_RESOURCE = 27


def believing(space, favourites, confidence="medium"):
    return space.with_prior(
        {n: {"value": v, "confidence": confidence} for n, v in favourites.items()}
    )


def plane(**favourites):
    return believing(SearchSpace.from_dict({"x": UNIT, "y": UNIT}), favourites)


def make(space, model, **options):
    options = {"mode": "min", "seed": 0, "rung_levels": (1, 3, 9), "model": model, **options}
    return BohbSearcher(space, **options)


def feed(searcher, n, value=lambda c: c["x"]):
    suggestions = []
    for i in range(n):
        suggestion = searcher.suggest(str(i))
        searcher.observe(Report(str(i), 1, value(suggestion.configuration)))
        searcher.finish(str(i), TrialStatus.STOPPED)
        suggestions.append(suggestion)
    return suggestions


@pytest.mark.parametrize("model", MODELS)
def test_the_first_suggestion_is_the_priors_mode_after_the_users_points(model):
    space = plane(x=0.25, y=0.5)
    searcher = make(space, model, points_to_evaluate=[{"x": 0.9, "y": 0.9}])
    found = feed(searcher, 3)
    assert [s.origin for s in found[:2]] == ["user", "prior"]
    assert found[1].configuration == {"x": 0.25, "y": 0.5}
    assert found[2].configuration != found[1].configuration


@pytest.mark.parametrize("model", MODELS)
def test_a_favourite_that_the_user_changes_is_not_proposed_again(model):
    searcher = make(plane(x=0.25, y=0.5), model)
    searcher.suggest("0").configuration["x"] = 0.75
    assert searcher.suggest("1").configuration != {"x": 0.75, "y": 0.5}


@pytest.mark.parametrize("model", MODELS)
def test_a_favourite_that_is_among_the_users_points_is_not_proposed_again(model):
    searcher = make(plane(x=0.25, y=0.5), model, points_to_evaluate=[{"x": 0.25, "y": 0.5}])
    found = feed(searcher, 10)
    assert sum(s.configuration == {"x": 0.25, "y": 0.5} for s in found) == 1


@pytest.mark.parametrize("model", MODELS)
def test_draws_come_from_the_prior_less_and_less(model):
    runs = [make(plane(x=0.25), model, random_fraction=1.0, seed=seed) for seed in range(5)]
    is_prior = np.array([[s.origin == "prior" for s in feed(run, 300)] for run in runs])
    assert is_prior[:, 0].all()
    assert 0.35 < is_prior[:, 1:21].mean() < 0.65  # 2/3 at first, 1/3 after 20 trials
    assert is_prior[:, 200:].mean() < 0.1


def test_draws_from_the_prior_are_plain_values():
    domains = {
        "uniform": UNIT,
        "log": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
        "steps": {"domain": "quniform", "lower": 0.0, "upper": 1.0, "q": 0.1},
        "normal": {"domain": "randn", "mean": 0.0, "sd": 1.0, "lower": -2.0, "upper": 2.0},
        "whole": {"domain": "randint", "lower": 1, "upper": 9},
        "choice": {"domain": "choice", "values": [1, 2]},
    }
    favourites = {"uniform": 0.9, "log": 0.1, "steps": 0.5, "normal": 0.0, "whole": 4, "choice": 2}
    space = believing(SearchSpace.from_dict(domains), favourites)
    for seed in range(20):
        for name, value in space.prior.sample(np.random.default_rng(seed)).items():
            assert type(value) is (int if name in ("whole", "choice") else float), name


def test_draws_from_the_prior_are_near_its_favourite():
    searcher = make(plane(x=0.25), "kde", random_fraction=1.0)
    drawn = [s.configuration["x"] for s in feed(searcher, 200) if s.origin == "prior"]
    assert abs(np.mean(drawn) - 0.25) < 0.05
    assert np.std(drawn) == pytest.approx(0.125, rel=0.3)


class TwoCandidates:
    """Proposes a favourite of the prior and another point, and notes what it is asked about."""

    name, n_candidates, random_fraction = "two", 2, 0.0
    knows_inactive = every_report = False
    favourite, other = np.array([0.26, 0.5]), np.array([0.75, 0.5])

    def __init__(self, advantage):
        self.advantage, self.asked = advantage, 0

    def fit(self, observations, rng):
        return 1

    def propose(self, n, rng):
        return np.array([self.favourite, self.other])

    def score(self, candidates):
        self.asked = len(candidates)
        is_favourite = (candidates == self.favourite).all(axis=1)
        is_other = (candidates == self.other).all(axis=1)
        return np.select([is_favourite, is_other], [0.0, self.advantage], -1e9)

    def expected_improvement(self, vector):
        return None


@pytest.mark.parametrize(("factor", "wins"), [(0.99, "favourite"), (1.01, "other")])
def test_the_density_of_the_prior_counts_by_the_square_of_the_trust(factor, wins):
    space = plane(x=0.25)
    log_density = space.prior.log_density(np.array([TwoCandidates.favourite, TwoCandidates.other]))
    trust = 20 / (20 + 30)
    model = TwoCandidates(0.0)
    searcher = make(space, model)
    for i in range(30):  # these stay away from both points
        model.propose = lambda n, rng: rng.random((n, 2))
        model.score = lambda candidates: np.where(candidates[:, 1] > 0.55, 0.0, -1e9)
        searcher.suggest(str(i))
    del model.propose, model.score
    model.advantage = factor * trust**2 * (log_density[0] - log_density[1])
    chosen = searcher.suggest("30").configuration
    assert chosen["x"] == pytest.approx(getattr(TwoCandidates, wins)[0])
    assert model.asked == 2 + 32  # and draws from the prior


@pytest.mark.parametrize("model", MODELS)
def test_the_prior_weighs_in_the_score_of_the_model_at_first(model):
    """Where the losses say nothing, suggestions are where the user wants them."""
    searcher = make(plane(x=0.25), model, random_fraction=0.0)
    found = [s.configuration["x"] for s in feed(searcher, 40, lambda c: 1.0) if s.is_model_based]
    assert len(found) > 20
    assert np.mean(np.abs(np.array(found[:20]) - 0.25)) < 0.15  # 0.3 without


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("after", [0, 1, 12, 40])
def test_a_restored_searcher_with_a_prior_goes_on_with_the_same_suggestions(model, after):
    straight = make(plane(x=0.25), model)
    feed(straight, after)
    restored = make(plane(x=0.25), model)
    restored.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert [straight.suggest(f"n{i}") for i in range(10)] == [
        restored.suggest(f"n{i}") for i in range(10)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_priors_on_conditional_and_categorical_parameters_are_legal_suggestions(model):
    space = SearchSpace.from_dict(
        {
            "lr": {"domain": "loguniform", "lower": 1e-5, "upper": 1.0},
            "optimizer": {"domain": "choice", "values": ["sgd", "adam", None]},
            "momentum": {**UNIT, "when": {"optimizer": "sgd"}},
            "layers": {"domain": "randint", "lower": 1, "upper": 4},
            "forbidden": [{"optimizer": "adam", "layers": [3, 4]}],
        }
    )
    space = believing(space, {"lr": 0.01, "optimizer": "adam", "momentum": 0.9, "layers": 4})
    found = feed(make(space, model), 40, lambda c: abs(c["lr"] - 0.01) + c["layers"])
    for suggestion in found:
        space.validate(suggestion.configuration)
    assert found[0].origin == "prior"
    assert len({json.dumps(s.configuration) for s in found}) == 40


def worst_corner(task):
    """The corner of the cube farthest from the optimum."""
    optimum = task.space.encode(task.optimum)
    return task.space.decode(np.where(optimum > 0.5, 0.02, 0.98))


@lru_cache(maxsize=256)
def regret(model, belief, seed, n_trials):
    """Final regret after n trials: `none`, a `right` belief or a `wrong` one."""
    task = synthetic_task("smooth", seed, max_resource=MAX_RESOURCE)
    space = task.space
    if belief == "right":
        near = space.encode(task.optimum)
        near = near + 0.1 * np.random.default_rng(seed).choice([-1, 1], size=len(near))
        space = believing(space, space.decode(np.clip(near, 0.0, 1.0)))
    elif belief == "wrong":
        space = believing(space, worst_corner(task), "high")
    scheduler = build_scheduler("asha", max_resource=MAX_RESOURCE, seed=seed)
    searcher = make(space, model, seed=seed, rung_levels=scheduler.rung_levels)
    result = simulate(searcher, scheduler, task, workers=4, max_trials=n_trials)
    return final_regret(result, task, task.final_value)[-1]


def mean_regret(model, belief, n_trials):
    return np.mean([regret(model, belief, seed, n_trials) for seed in SEEDS])


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_right_prior_lowers_the_loss_after_20_trials(model):
    """Right but not exact: every parameter is off by a tenth of its range."""
    assert mean_regret(model, "right", 20) < 0.5 * mean_regret(model, "none", 20)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "n_trials", "margin"), [("kde", 60, 0.2), ("gp", 120, 0.2)])
def test_a_wrong_prior_of_high_confidence_is_recovered_from(model, n_trials, margin):
    """The favourite is in the corner farthest from the optimum; a median configuration has 1."""
    assert mean_regret(model, "wrong", n_trials) < mean_regret(model, "none", n_trials) + margin
