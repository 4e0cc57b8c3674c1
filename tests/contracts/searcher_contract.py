"""What every searcher must be able to do: subclass `SearcherContract`, give `build`."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raytune_ahu.errors import RecordError, SpaceError, SpecError
from raytune_ahu.protocols import Searcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus

LEVELS = (1, 3, 9)

MIXED = {
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1},
    "optimizer": {"domain": "choice", "values": ["sgd", "adam", None]},
    "momentum": {"domain": "uniform", "lower": 0.0, "upper": 0.99, "when": {"optimizer": "sgd"}},
    "model": {
        "layers": {"domain": "randint", "lower": 1, "upper": 4},
        "kernel": {"domain": "choice", "values": [{"tuple": [3, 3]}, {"tuple": [5, 5]}]},
        "size": {"domain": "ordinal", "values": ["small", "medium", "large"]},
    },
    "epochs": 27,
    "forbidden": [{"optimizer": "adam", "model/layers": [3, 4]}],
}
"""Every kind of column, a condition, a forbidden combination, a group and a constant."""

SMALL = {
    "a": {"domain": "choice", "values": [1, 2, 3, 4]},
    "b": {"domain": "randint", "lower": 1, "upper": 3},
    "c": {"domain": "choice", "values": [True, False]},
}
"""24 configurations."""

POINT = {
    "lr": 0.01,
    "optimizer": "sgd",
    "momentum": 0.9,
    "model": {"layers": 4, "kernel": (5, 5), "size": "medium"},
    "epochs": 27,
}
"""A complete configuration of `MIXED`."""


class Run:
    """A driver with 4 workers and a simple rule of early stopping on a known objective.

    Trials with a large learning rate report NaN at epoch 2; those with a small one raise at once.
    """

    def __init__(self, searcher: Searcher, space: SearchSpace, sign: float = 1.0) -> None:
        self.searcher = searcher
        self.space = space
        self.sign = sign
        self.running: list[tuple[str, int]] = []
        self.seen: dict[int, list[float]] = {level: [] for level in LEVELS}
        self.log: list[tuple[str, dict, str]] = []

    def step(self) -> None:
        """Fill the free workers; then the trial that waits longest runs to its next rung level."""
        while len(self.running) < 4:
            trial = f"t{len(self.log)}"
            suggestion = self.searcher.suggest(trial)
            if suggestion is None:
                break
            self.log.append((trial, suggestion.configuration, suggestion.origin))
            self.running.append((trial, 0))
        if self.running:
            self._advance(*self.running.pop(0))

    def _advance(self, trial: str, epoch: int) -> None:
        x = self.space.encode(self.log[int(trial[1:])][1])
        if x[0] < 0.03:
            self.searcher.finish(trial, TrialStatus.FAILED)
            return
        level = next(level for level in LEVELS if level > epoch)
        for resource in range(epoch + 1, level + 1):
            if x[0] > 0.97 and resource == 2:
                self.searcher.observe(Report(trial, resource, math.nan))
                self.searcher.finish(trial, TrialStatus.FAILED)
                return
            value = float(np.nansum((x - 0.3) ** 2)) + 1 / resource
            self.searcher.observe(Report(trial, resource, self.sign * value))
        self.seen[level].append(value)
        if level == LEVELS[-1]:
            self.searcher.finish(trial, TrialStatus.COMPLETED)
        elif value > np.median(self.seen[level]):
            self.searcher.finish(trial, TrialStatus.STOPPED)
        else:
            self.running.append((trial, level))


class SearcherContract:
    """The suite. `build` returns a fresh searcher; equal arguments give equal searchers."""

    steps = 120
    """Length of the runs; long enough for a model to take over."""
    is_random = True
    """Whether the seed matters."""

    def build(self, space, mode="min", seed=0, points=()) -> Searcher:
        raise NotImplementedError

    def run(self, steps=None, *, mode="min", seed=0, points=(), space=MIXED) -> Run:
        space = SearchSpace.from_dict(space)
        run = Run(self.build(space, mode, seed, points), space, 1.0 if mode == "min" else -1.0)
        for _ in range(self.steps if steps is None else steps):
            run.step()
        return run

    def test_it_implements_the_protocol(self):
        assert isinstance(self.build(SearchSpace.from_dict(SMALL)), Searcher)

    def test_suggestions_are_legal_json_ready_and_their_origin_is_known(self):
        run = self.run()
        assert len(run.log) >= self.steps // 3
        for _, configuration, origin in run.log:
            run.space.validate(configuration)
            json.dumps(configuration, allow_nan=False)
            assert type(configuration["lr"]) is float
            assert type(configuration["model"]["layers"]) is int
            levels = {f"model@{level}" for level in LEVELS}
            assert origin in {"random", "grid", "prior"} | levels

    def test_the_users_points_come_first_in_their_order(self):
        second = {**POINT, "lr": 0.05}
        run = self.run(10, points=[POINT, second])
        assert [entry[1] for entry in run.log[:2]] == [POINT, second]
        assert [entry[2] for entry in run.log[:3]][:2] == ["user", "user"]
        assert run.log[2][2] != "user"

    def test_a_suggested_configuration_can_be_changed_without_harm(self):
        run = self.run(0, points=[POINT])
        suggestion = run.searcher.suggest("a")
        suggestion.configuration["model"]["layers"] = 99
        again = self.run(0, points=[POINT])
        again.searcher.suggest("a")
        assert run.searcher.suggest("b") == again.searcher.suggest("b")
        assert POINT["model"]["layers"] == 4

    def test_a_partial_point_is_completed_and_keeps_its_values(self):
        point = {"optimizer": "sgd", "momentum": 0.5, "model": {"layers": 4}}
        run = self.run(1, points=[point])
        configuration = run.log[0][1]
        run.space.validate(configuration)
        assert configuration["momentum"] == 0.5
        assert configuration["model"]["layers"] == 4
        assert run.log[0][2] == "user"

    @pytest.mark.parametrize(
        ("point", "named"),
        [
            ({"lr": 7.0}, "lr"),
            ({"size": 1}, "size"),
            ({"optimizer": "adam", "momentum": 0.5}, "momentum"),
            ({"optimizer": "adam", "model": {"layers": 4}}, "layers"),
            (3, "3"),
        ],
    )
    def test_an_illegal_point_is_refused_by_name(self, point, named):
        with pytest.raises(SpaceError, match=named):
            self.build(SearchSpace.from_dict(MIXED), points=[POINT, point])

    def test_no_configuration_comes_twice_while_the_space_allows(self):
        log = self.run(space=SMALL).log[:20]
        assert len({json.dumps(configuration) for _, configuration, _ in log}) == 20

    def test_a_used_up_space_neither_hangs_nor_fails(self):
        run = self.run(80, space=SMALL)
        assert len({json.dumps(configuration) for _, configuration, _ in run.log}) >= 20
        for i in range(5):
            run.searcher.suggest(f"more{i}")

    def test_the_same_seed_gives_the_same_suggestions(self):
        assert self.run(seed=5).log == self.run(seed=5).log

    def test_another_seed_gives_other_suggestions(self):
        assert (self.run(10, seed=5).log != self.run(10, seed=6).log) == self.is_random

    def test_another_process_gives_the_same_suggestions(self):
        kind = type(self)
        code = (
            "import json\n"
            f"from {kind.__module__} import {kind.__qualname__} as Contract\n"
            "print(json.dumps(Contract().run().log))"
        )
        root = Path(__file__).parents[2]
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == json.loads(json.dumps(self.run().log))

    def test_minimising_and_maximising_the_negative_are_the_same(self):
        assert self.run(mode="min").log == self.run(mode="max").log

    @pytest.mark.parametrize("after", [0, 2, 60])
    def test_state_goes_through_json_and_the_run_goes_on_as_if_nothing_had_happened(self, after):
        points = [POINT, {"lr": 0.05}, {"lr": 0.06}]
        straight, saved = (self.run(after, points=points, seed=3) for _ in range(2))
        state = json.loads(json.dumps(saved.searcher.state_dict()))
        saved.searcher = self.build(saved.space, "min", 3, points)
        saved.searcher.load_state_dict(state)
        assert _text(saved.searcher.state_dict()) == _text(state)
        for _ in range(40):
            straight.step()
            saved.step()
        assert saved.log == straight.log
        assert _text(saved.searcher.state_dict()) == _text(straight.searcher.state_dict())

    def test_a_saved_state_does_not_change_when_the_searcher_goes_on(self):
        run = self.run(30)
        state = run.searcher.state_dict()
        text = _text(state)
        for _ in range(20):
            run.step()
        assert _text(state) == text

    def test_the_state_of_another_searcher_is_refused(self):
        searcher = self.build(SearchSpace.from_dict(SMALL))
        state = searcher.state_dict()
        with pytest.raises(RecordError, match="other"):
            searcher.load_state_dict({**state, "searcher": "other"})

    def test_global_generators_are_left_alone(self):
        np.random.seed(4)  # noqa: NPY002
        random.seed(4)
        self.run(40)
        drawn = np.random.random(), random.random()  # noqa: NPY002
        np.random.seed(4)  # noqa: NPY002
        random.seed(4)
        assert drawn == (np.random.random(), random.random())  # noqa: NPY002

    def test_an_unknown_trial_is_a_key_error(self):
        searcher = self.build(SearchSpace.from_dict(SMALL))
        with pytest.raises(KeyError, match="ghost"):
            searcher.observe(Report("ghost", 1, 0.0))
        with pytest.raises(KeyError, match="ghost"):
            searcher.finish("ghost", TrialStatus.STOPPED)

    def test_a_trial_gets_one_suggestion(self):
        searcher = self.build(SearchSpace.from_dict(SMALL))
        searcher.suggest("a")
        with pytest.raises(ValueError, match="'a'"):
            searcher.suggest("a")
        searcher.finish("a", TrialStatus.COMPLETED)
        with pytest.raises(ValueError, match="'a'"):
            searcher.suggest("a")

    def test_only_a_final_status_ends_a_trial(self):
        searcher = self.build(SearchSpace.from_dict(SMALL))
        searcher.suggest("a")
        with pytest.raises(ValueError, match="paused"):
            searcher.finish("a", TrialStatus.PAUSED)

    def test_finishing_twice_changes_nothing(self):
        run = self.run(40)
        run.searcher.suggest("x")
        run.searcher.finish("x", TrialStatus.STOPPED)
        text = _text(run.searcher.state_dict())
        run.searcher.finish("x", TrialStatus.FAILED)
        assert _text(run.searcher.state_dict()) == text

    def test_a_failed_trial_that_is_reopened_taught_nothing(self):
        plain, reopened = self.run(40), self.run(40)
        for run in (plain, reopened):
            run.searcher.suggest("x")
            run.searcher.observe(Report("x", 1, 0.5))
        reopened.searcher.finish("x", TrialStatus.FAILED)
        reopened.searcher.reopen("x")
        following = [
            [run.searcher.suggest(f"y{i}").configuration for i in range(5)]
            for run in (plain, reopened)
        ]
        assert following[0] == following[1]

    def test_only_a_failed_trial_can_be_reopened(self):
        searcher = self.build(SearchSpace.from_dict(SMALL))
        searcher.suggest("a")
        with pytest.raises(ValueError, match="running"):
            searcher.reopen("a")
        searcher.finish("a", TrialStatus.STOPPED)
        with pytest.raises(ValueError, match="stopped"):
            searcher.reopen("a")
        with pytest.raises(KeyError, match="ghost"):
            searcher.reopen("ghost")

    @pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
    def test_missing_and_non_finite_values_are_taken_everywhere(self, value):
        run = self.run(20)
        for i in range(40):
            suggestion = run.searcher.suggest(f"x{i}")
            run.space.validate(suggestion.configuration)
            for resource in (1, 2, 3, 9, 10):
                run.searcher.observe(Report(f"x{i}", resource, value))

    def test_bad_arguments_are_refused_by_name(self):
        space = SearchSpace.from_dict(SMALL)
        with pytest.raises(SpecError, match="mode='up'"):
            self.build(space, mode="up")
        with pytest.raises(SpecError, match="seed=-1"):
            self.build(space, seed=-1)


def _text(state) -> str:
    return json.dumps(state, sort_keys=True)
