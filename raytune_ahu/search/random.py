"""Random search: independent draws from the search space; the baseline for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from raytune_ahu.search.base import BaseSearcher, Proposal, check_no_grid
from raytune_ahu.search.history import History

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace


class RandomSearcher(BaseSearcher):
    """Draws every configuration from the search space's own distributions.

    A configuration that was proposed before is drawn again, up to 100 times; a small search space
    may thus be used up, after which configurations repeat. Reports teach it nothing,
    and a prior of the search space is not looked at: this is the baseline without any knowledge.
    (`SearchSpace.prior.sample` draws from one.)

    Args:
        space: The search space, without `grid_search` parameters.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed of the run.
        points_to_evaluate: Configurations to try first; partial ones are completed at random.

    Raises:
        SpecError: If an argument is out of its range.
        SpaceError: If a point is not legal in the space.
    """

    name: ClassVar[str] = "random"
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        space: SearchSpace,
        *,
        mode: str,
        seed: int,
        points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        check_no_grid(space, self.name)
        super().__init__(
            space,
            mode=mode,
            seed=seed,
            history=History(len(space.names)),
            points_to_evaluate=points_to_evaluate,
        )

    def _propose(self) -> Proposal:
        return self._draw()
