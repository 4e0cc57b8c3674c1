"""What all searchers share: trial ids, the user's first points, no configuration twice, state.

Start with `BaseSearcher.suggest`: user points first, then whatever `_propose` of the subclass says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_ahu.errors import RecordError, SpecError
from raytune_ahu.search.checks import check_choice, check_integer
from raytune_ahu.search.history import History
from raytune_ahu.search.model import Floats
from raytune_ahu.search.points import complete_points
from raytune_ahu.search.prior import PriorTrial
from raytune_ahu.seeding import generator
from raytune_ahu.types import Configuration, Report, Suggestion, TrialStatus, as_loss, check_mode

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

_TRIES = 100
"""Random draws before a configuration is proposed a second time."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration on its way to become a suggestion."""

    configuration: Configuration
    """What the trial will get."""
    vector: Floats
    """(d,) its encoded form."""
    origin: str
    """See `Suggestion.origin`."""
    model: str | None = None
    """See `Suggestion.model`."""
    expected_improvement: float | None = None
    """See `Suggestion.expected_improvement`."""


class BaseSearcher(ABC):
    """A searcher up to the question of what to propose next.

    The user's points come first, in their order, with the origin `user`.

    Args:
        space: The search space.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed of the run.
        history: Where trials and reports are kept.
        points_to_evaluate: Configurations to try first. A partial one is completed by a random
            draw of the parameters it leaves open.

    Raises:
        SpecError: If mode or seed is not valid.
        SpaceError: If a point is not legal in the space.
    """

    name: ClassVar[str]
    """Name in specifications and in saved states."""
    option_names: ClassVar[tuple[str, ...]]
    """Constructor keywords that a specification may set."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        mode: str,
        seed: int,
        history: History,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        check_choice("mode", mode, ("min", "max"))
        self._space = space
        self._mode = check_mode(mode)
        self._seed = check_integer("seed", seed, low=0)
        self._history = history
        self._rng = self._generator(0)
        self._points = complete_points(
            space, points_to_evaluate, generator(self._seed, "search", "points_to_evaluate")
        )
        self._n_points_used = 0

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Propose a configuration for a new trial; None if there will never be another one.

        Raises:
            ValueError: If `trial_id` was used before.
        """
        if trial_id in self._history:
            raise ValueError(f"trial {trial_id!r} has a suggestion already; ids must be new")
        self._rng = self._generator(len(self._history))
        proposal = self._next_point() or self._propose()
        if proposal is None:
            return None
        self._history.add(trial_id, proposal.vector)
        return Suggestion(
            proposal.configuration,
            proposal.origin,
            model=proposal.model,
            expected_improvement=proposal.expected_improvement,
        )

    def recall(self, trial_id: str, configuration: Mapping[str, Any], origin: str) -> Configuration:
        """Take up a suggestion of an earlier session from the record, instead of making it anew.

        What is suggested afterwards is what would have been suggested then: each suggestion draws
        from a generator of its own. So nothing is computed twice, and a run may go on on a machine
        whose arithmetic differs in the last digit.

        Returns:
            The configuration as it was suggested, with its tuples, which JSON has made lists.

        Raises:
            ValueError: If `trial_id` was used before.
            SpaceError: If the configuration is not legal in the space.
        """
        restored = self._space.restore(configuration)
        self._history.add(trial_id, self._encode(restored))
        self._n_points_used += origin == "user"
        return restored

    def begin_from(self, prior: Sequence[PriorTrial]) -> None:
        """Learn what earlier runs have seen, before the first suggestion (a warm start).

        Their configurations are not proposed again, unless the user's points say so.

        Raises:
            SpaceError: If a configuration is not legal in the space.
            ValueError: If something was suggested already.
        """
        if len(self._history):
            raise ValueError("a warm start must come before the first suggestion")
        for index, trial in enumerate(prior):
            trial_id = f"prior_{index:05d}"
            self._history.add(trial_id, self._encode(trial.configuration), -trial.run)
            for resource, value in trial.reports:
                self.observe(Report(trial_id, resource, value))
            self.finish(trial_id, TrialStatus.FAILED if trial.failed else TrialStatus.STOPPED)
        self._history.n_prior = len(prior)

    def observe(self, report: Report) -> None:
        """Learn from a report (see `protocols.Searcher`)."""
        loss = None if report.value is None else as_loss(report.value, self._mode)
        self._history.observe(report.trial_id, report.resource, loss)

    def reopen(self, trial_id: str) -> None:
        """Take back that a trial has failed (see the protocol)."""
        self._history.reopen(trial_id)

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Take note that a trial has ended (see `protocols.Searcher`)."""
        self._history.finish(trial_id, status)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, JSON-ready (floats may be inf or nan)."""
        return {
            "searcher": self.name,
            "points_used": self._n_points_used,
            "history": self._history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another searcher that was built with the same arguments.

        Raises:
            RecordError: If it is the state of another kind of searcher.
        """
        if state.get("searcher") != self.name:
            raise RecordError(
                f"this is the state of searcher {state.get('searcher')!r}, not of {self.name!r}; "
                "build the searcher that the run was started with"
            )
        self._n_points_used = state["points_used"]
        self._history.load_state_dict(state["history"])

    @abstractmethod
    def _propose(self) -> Proposal | None:
        """Propose something new, now that the user's points are used up."""

    def _generator(self, number: int) -> np.random.Generator:
        """Make the generator of a suggestion, by the number of trials before it."""
        return generator(self._seed, "search", self.name, number)

    def _encode(self, configuration: Configuration) -> Floats:
        return self._space.encode(configuration)

    def _next_point(self) -> Proposal | None:
        if self._n_points_used == len(self._points):
            return None
        point = self._points[self._n_points_used]
        self._n_points_used += 1
        return Proposal(point, self._encode(point), "user")

    def _draw(self) -> Proposal:
        """Draw at random; something new if a bounded number of draws finds it."""
        for _ in range(_TRIES):
            configuration = self._space.sample(self._rng)
            vector = self._encode(configuration)
            if not self._history.has_seen(vector):
                break
        return Proposal(configuration, vector, "random")


def check_no_grid(space: SearchSpace, searcher: str) -> None:
    """Refuse a search space with `grid_search` parameters.

    Raises:
        SpecError: Naming the parameters.
    """
    if space.grid_search_names:
        raise SpecError(
            f"search={searcher!r} cannot take grid_search parameters "
            f"({', '.join(space.grid_search_names)}); use choice(...) for them, or search='grid'"
        )
