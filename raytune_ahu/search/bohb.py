"""BOHB as a searcher: random draws until the model has enough data, then mostly the model.

Falkner, Klein, Hutter: BOHB, Robust and Efficient Hyperparameter Optimization at Scale (ICML 2018).
Where BOHB couples its model to Hyperband, this searcher knows no scheduler: it reads reports, and
takes the rung levels as the budgets of its model. Start with `BohbSearcher`; the model is `kde.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_ahu.errors import SpecError
from raytune_ahu.search.base import BaseSearcher, Proposal, check_no_grid
from raytune_ahu.search.checks import (
    check_choice,
    check_fraction,
    check_integer,
    check_rung_levels,
)
from raytune_ahu.search.gp import GpModel, GpSettings
from raytune_ahu.search.history import History
from raytune_ahu.search.hpbandster_engine import HpbandsterEngine
from raytune_ahu.search.kde import KdeModel, KdeSettings
from raytune_ahu.search.model import SurrogateModel
from raytune_ahu.types import Configuration

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

_PRIOR_TRIALS = 20
"""Trials after which the user's prior counts half as much as at the start."""
_PRIOR_SHARE = 2 / 3
"""Share of the draws that come from the user's prior at the start, and not from the space."""
_PRIOR_CANDIDATES = 32
"""Candidates drawn from the user's prior beside those of the model."""
_HPBANDSTER_TRIES = 10
"""Proposals asked of hpbandster before a random draw, where they are forbidden or not new."""


class BohbSearcher(BaseSearcher):
    """Proposes the best-scored of a number of candidates from its model.

    1. The user's points (`user`).
    2. With probability `random_fraction`, or while the model has too little data: a random draw
       (`random`).
    3. Else `n_candidates` are drawn from the model, and the one it scores highest is taken that is
       legal and was not proposed before (`model@<rung level>`); a random draw if there is none.

    A report at a rung level is an observation of that level; reports in between are kept only for
    models that ask for them. A repeated report replaces the earlier one. A missing value teaches
    nothing. A trial that fails, or reports a value that is not finite, is an observation of +inf at
    the rung level it was heading for. A trial that ends otherwise keeps its observations.

    With `engine="hpbandster"`, hpbandster's own generator makes steps 2 and 3 from the same
    observations. It does not look at running trials.

    Args:
        space: The search space, without `grid_search` parameters.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed of the run.
        rung_levels: Resources at which trials are compared, ascending: those of the scheduler.
        model: `kde`, `gp`, or any `SurrogateModel`.
        engine: `native`, or `hpbandster` (the package must be installed).
        random_fraction: Share of random suggestions once there is a model, in [0, 1].
        n_candidates: Candidates that are scored per suggestion, >= 1.
        top_fraction: Of `kde`: share of good observations, in (0, 1).
        bandwidth_factor: Of `kde`: widening of the bandwidth when candidates are drawn, > 0.
        min_bandwidth: Of `kde`: floor of the bandwidths, in [1e-4, 1].
        min_points_in_model: Of `kde`: least number of good observations, >= d + 1.
        max_points: Of `gp`: observations in the model at most, >= 20.
        min_observations: Of `gp`: finite observations before there is a model, >= 2.
        avoid_pending: Of both: whether to stay away from configurations that are running.
        points_to_evaluate: Configurations to try first; partial ones are completed at random.

    Options that are None take their value from the model: `KdeSettings`, `GpSettings`.

    Raises:
        SpecError: If an argument is out of its range, or an option of another model is given.
        SpaceError: If a point is not legal in the space.
        OptionalDependencyError: If hpbandster is asked for and not installed.
    """

    name: ClassVar[str] = "bohb"
    option_names: ClassVar[tuple[str, ...]] = (
        "model",
        "engine",
        "random_fraction",
        "n_candidates",
        "top_fraction",
        "bandwidth_factor",
        "min_bandwidth",
        "min_points_in_model",
        "max_points",
        "min_observations",
        "avoid_pending",
    )

    def __init__(
        self,
        space: SearchSpace,
        *,
        mode: str,
        seed: int,
        rung_levels: Sequence[int],
        model: str | SurrogateModel = "kde",
        engine: str = "native",
        random_fraction: float | None = None,
        n_candidates: int | None = None,
        top_fraction: float | None = None,
        bandwidth_factor: float | None = None,
        min_bandwidth: float | None = None,
        min_points_in_model: int | None = None,
        max_points: int | None = None,
        min_observations: int | None = None,
        avoid_pending: bool | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        check_no_grid(space, self.name)
        check_choice("engine", engine, ("native", "hpbandster"))
        if engine == "hpbandster" and model != "kde":
            raise SpecError("engine='hpbandster' has only model='kde'; use engine='native'")
        if engine == "hpbandster" and space.prior is not None:
            raise SpecError(
                f"engine='hpbandster' cannot use the prior of {space.prior.names[0]!r}; use "
                "engine='native', or take the prior out of the search space"
            )
        options = {
            "top_fraction": top_fraction,
            "bandwidth_factor": bandwidth_factor,
            "min_bandwidth": min_bandwidth,
            "min_points_in_model": min_points_in_model,
            "max_points": max_points,
            "min_observations": min_observations,
            "avoid_pending": avoid_pending,
        }
        self._model = _make_model(space, model, options)
        self._random_fraction = check_fraction(
            "random_fraction",
            self._model.random_fraction if random_fraction is None else random_fraction,
        )
        self._n_candidates = check_integer(
            "n_candidates",
            self._model.n_candidates if n_candidates is None else n_candidates,
            low=1,
        )
        super().__init__(
            space,
            mode=mode,
            seed=seed,
            history=History(
                len(space.names),
                check_rung_levels(rung_levels),
                every_report=self._model.every_report,
            ),
            points_to_evaluate=points_to_evaluate,
        )
        self._prior = space.prior
        self._favourite = {} if self._prior is None else self._prior.mode()
        self._engine: HpbandsterEngine | None = None
        if engine == "hpbandster" and isinstance(self._model, KdeModel):
            self._engine = HpbandsterEngine(
                space.n_choices,
                seed=self._seed,
                random_fraction=self._random_fraction,
                n_candidates=self._n_candidates,
                settings=self._model.settings,
            )

    def _propose(self) -> Proposal:
        if self._engine is not None:
            return self._propose_by_hpbandster(self._engine)
        if self._prior is not None and not self._history.has_seen(self._encode(self._favourite)):
            return self._from_prior(deepcopy(self._favourite))  # it becomes the user's
        proposal = None
        if self._rng.random() >= self._random_fraction:
            proposal = self._propose_by_model()
        return proposal or self._draw()

    def _draw(self) -> Proposal:
        """Draw at random, or from the user's prior while it is trusted."""
        if self._prior is not None and self._rng.random() < _PRIOR_SHARE * self._trust():
            drawn = self._from_prior(self._prior.sample(self._rng))
            if not self._history.has_seen(drawn.vector):
                return drawn
        return super()._draw()

    def _trust(self) -> float:
        """How much the user's prior counts, from 1 to 0 as trials of this run come in."""
        return _PRIOR_TRIALS / (_PRIOR_TRIALS + len(self._history) - self._history.n_prior)

    def _from_prior(self, configuration: Configuration) -> Proposal:
        return Proposal(configuration, self._encode(configuration), "prior")

    def _propose_by_model(self) -> Proposal | None:
        level = self._model.fit(self._history.observations(), self._rng)
        if level is None:
            return None
        candidates = self._model.propose(self._n_candidates, self._rng)
        if self._prior is not None:
            drawn = [self._prior.sample(self._rng) for _ in range(_PRIOR_CANDIDATES)]
            vectors = self._space.encode_many(drawn)
            vectors = np.where(np.isnan(vectors), self._space.defaults, vectors)
            candidates = np.concatenate([candidates, vectors])
        legal = candidates
        if self._space.is_conditional:
            legal = np.array([self._space.repair(candidate) for candidate in candidates])
        scores = self._model.score(legal if self._model.knows_inactive else candidates)
        if self._prior is not None:
            scores = scores + self._trust() ** 2 * self._prior.log_density(legal)
        for i in np.argsort(-scores, kind="stable"):
            configuration = self._space.try_decode(candidates[i])
            if configuration is None:
                continue  # a forbidden combination
            vector = self._encode(configuration)
            if not self._history.has_seen(vector):
                return Proposal(
                    configuration,
                    vector,
                    f"model@{level}",
                    model=self._model.name,
                    expected_improvement=self._model.expected_improvement(vector),
                )
        return None

    def _propose_by_hpbandster(self, engine: HpbandsterEngine) -> Proposal:
        observations = self._history.observations()
        for attempt in range(_HPBANDSTER_TRIES):
            number = len(self._history) * _HPBANDSTER_TRIES + attempt
            vector, level = engine.propose(observations, number)
            if vector is None:
                break
            configuration = self._space.try_decode(vector)
            if configuration is None:
                continue
            vector = self._encode(configuration)
            if not self._history.has_seen(vector):
                return Proposal(configuration, vector, f"model@{level}", model=engine.name)
        return self._draw()


def _make_model(
    space: SearchSpace, model: str | SurrogateModel, options: Mapping[str, Any]
) -> SurrogateModel:
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(model, str) and callable(getattr(model, "propose", None)):
        _refuse_others(given, (), f"a {type(model).__name__} of your own")
        return model
    model = check_choice("model", model, ("kde", "gp"))
    settings = GpSettings if model == "gp" else KdeSettings
    _refuse_others(given, [field.name for field in fields(settings)], f"model={model!r}")
    if model == "gp":
        repair = space.repair if space.is_conditional else None
        return GpModel(space.n_choices, GpSettings(**given), repair)
    return KdeModel(space.n_choices, KdeSettings(**given))


def _refuse_others(given: Mapping[str, Any], known: Sequence[str], model: str) -> None:
    for name, value in given.items():
        if name not in known:
            other = "gp" if name in {field.name for field in fields(GpSettings)} else "kde"
            raise SpecError(
                f"{name}={value!r} has no effect on {model}; leave it out, or use model={other!r}"
            )
