"""The searcher contract, run on every searcher."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from raytune_ahu.search import BohbSearcher, GridSearcher, RandomSearcher
from tests.contracts.searcher_contract import LEVELS, SearcherContract


class TestRandom(SearcherContract):
    def build(self, space, mode="min", seed=0, points=()):
        return RandomSearcher(space, mode=mode, seed=seed, points_to_evaluate=points)


class TestGrid(SearcherContract):
    is_random = False

    def build(self, space, mode="min", seed=0, points=()):
        return GridSearcher(space, mode=mode, seed=seed, points_to_evaluate=points)


class TestShuffledGrid(SearcherContract):
    def build(self, space, mode="min", seed=0, points=()):
        return GridSearcher(space, mode=mode, seed=seed, points_to_evaluate=points, shuffle=True)


class TestBohb(SearcherContract):
    def build(self, space, mode="min", seed=0, points=()):
        return BohbSearcher(
            space, mode=mode, seed=seed, rung_levels=LEVELS, points_to_evaluate=points
        )

    def test_most_suggestions_come_from_the_model_in_the_end(self):
        origins = [origin for _, _, origin in self.run(120).log[-30:]]
        assert sum(origin.startswith("model@") for origin in origins) >= 15


class TestBohbThatIgnoresRunningTrials(TestBohb):
    def build(self, space, mode="min", seed=0, points=()):
        return BohbSearcher(
            space,
            mode=mode,
            seed=seed,
            rung_levels=LEVELS,
            points_to_evaluate=points,
            avoid_pending=False,
        )


class TestBohbWithGp(TestBohb):
    steps = 60
    options: ClassVar[dict[str, Any]] = {}

    def build(self, space, mode="min", seed=0, points=()):
        return BohbSearcher(
            space,
            mode=mode,
            seed=seed,
            rung_levels=LEVELS,
            points_to_evaluate=points,
            model="gp",
            **self.options,
        )


class TestBohbWithGpOfFewPoints(TestBohbWithGp):
    options: ClassVar[dict[str, Any]] = {"max_points": 20, "min_observations": 2}


class TestBohbByHpbandster(TestBohb):
    steps = 50

    @pytest.fixture(autouse=True)
    def _needs_hpbandster(self):
        pytest.importorskip("hpbandster", reason="hpbandster is not installed (extra hpbandster)")

    def build(self, space, mode="min", seed=0, points=()):
        return BohbSearcher(
            space,
            mode=mode,
            seed=seed,
            rung_levels=LEVELS,
            points_to_evaluate=points,
            engine="hpbandster",
            n_candidates=4,  # hpbandster takes a millisecond for each
        )
