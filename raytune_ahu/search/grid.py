"""Grid search: every combination of the `grid_search` values and of a few values of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from raytune_ahu.search.base import BaseSearcher, Proposal
from raytune_ahu.search.checks import check_flag, check_integer
from raytune_ahu.search.history import History
from raytune_ahu.seeding import generator
from raytune_ahu.types import Configuration

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

POINTS_PER_PARAMETER = 3
"""Values of a parameter that does not list its own, unless the user says."""


class GridSearcher(BaseSearcher):
    """Proposes the points of `SearchSpace.grid` once each, and then nothing any more.

    Points that the user's `points_to_evaluate` contain already are left out. Reports teach it
    nothing.

    Args:
        space: The search space.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed of the run; used by `shuffle` only.
        points_per_parameter: Values taken of a parameter with more values than that and no list
            of its own, >= 2.
        shuffle: Propose the points in a random order instead of the space's. The whole grid is
            then held in memory.
        points_to_evaluate: Configurations to try first; partial ones are completed at random.

    Raises:
        SpecError: If an argument is out of its range.
        SpaceError: If a point is not legal in the space.
    """

    name: ClassVar[str] = "grid"
    option_names: ClassVar[tuple[str, ...]] = ("points_per_parameter", "shuffle")

    def __init__(
        self,
        space: SearchSpace,
        *,
        mode: str,
        seed: int,
        points_per_parameter: int = POINTS_PER_PARAMETER,
        shuffle: bool = False,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(
            space,
            mode=mode,
            seed=seed,
            history=History(len(space.names)),
            points_to_evaluate=points_to_evaluate,
        )
        self._points_per_parameter = check_integer(
            "points_per_parameter", points_per_parameter, low=2
        )
        self._shuffle = check_flag("shuffle", shuffle)
        self._grid = self._start()
        self._n_taken = 0

    def _start(self) -> Iterator[Configuration]:
        grid = self._space.grid(self._points_per_parameter)
        if not self._shuffle:
            return iter(grid)
        points = list(grid)
        order = generator(self._seed, "search", "grid").permutation(len(points))
        return (points[i] for i in order)

    def _propose(self) -> Proposal | None:
        for configuration in self._grid:
            self._n_taken += 1
            vector = self._space.encode(configuration)
            if not self._history.has_seen(vector):
                return Proposal(configuration, vector, "grid")
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, JSON-ready."""
        return {**super().state_dict(), "taken": self._n_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another searcher that was built with the same arguments."""
        super().load_state_dict(state)
        self._grid = self._start()
        self._n_taken = 0
        while self._n_taken < state["taken"]:
            next(self._grid)
            self._n_taken += 1
