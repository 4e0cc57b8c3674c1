"""Synthetic tasks whose optimum is known, for tests and for trying out searchers and schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.simulation.tasks import Curve, Evaluator
from raytune_ahu.types import Configuration, Mode

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace


class BowlTask:
    """A bowl with its lowest point at u*, reached by curves that fall to it. The best value is 0.

    With u the configuration in the unit cube, d its length, r the epoch and R the last one::

        loss(u, r) = mean((u - u*)^2) + (1 - r/R)^p(u) / 2

    p is 1 for all, so that trials rank at every epoch as they will at the last; with `crossing`
    p(u) = 1 + 4 |u_1 - u*_1|: configurations near the optimum learn more slowly and an early
    judgement may be wrong. With `diverging` > 0 the curve is NaN from the second epoch on where the
    last coordinate is above 1 - diverging.

    Args:
        space: What is searched; numeric parameters, all of them always active.
        max_resource: R, at least 2.
        optimum: (d,) u* in the unit cube; None: 0.3 in every coordinate.
        crossing: Whether learning curves cross.
        diverging: Share of the last coordinate in which training diverges, in [0, 1).
        epoch_s: Virtual seconds of an epoch.

    Raises:
        SpecError: If an argument is out of its range.
    """

    mode: Mode = "min"

    def __init__(
        self,
        space: SearchSpace,
        *,
        max_resource: int = 27,
        optimum: NDArray[np.float64] | None = None,
        crossing: bool = False,
        diverging: float = 0.0,
        epoch_s: float = 1.0,
    ) -> None:
        self.optimum = np.full(len(space.names), 0.3) if optimum is None else np.asarray(optimum)
        if (
            self.optimum.shape != (len(space.names),)
            or not (np.abs(self.optimum - 0.5) <= 0.5).all()
        ):
            raise SpecError(
                f"optimum={optimum!r} must be {len(space.names)} numbers in [0, 1], one for each "
                "parameter of the space"
            )
        if not 0.0 <= diverging < 1.0:
            raise SpecError(f"diverging={diverging} must be in [0, 1); use 0 for no divergence")
        if max_resource < 2 or not epoch_s > 0:
            raise SpecError(
                f"max_resource={max_resource} must be at least 2 and epoch_s={epoch_s} positive"
            )
        self.name = "crossing bowl" if crossing else "bowl"
        self.space, self.max_resource = space, max_resource
        self.median_epoch_s = epoch_s
        self._crossing, self._diverging = crossing, diverging

    @property
    def best_value(self) -> float:
        """0, at `optimum` after the last epoch."""
        return 0.0

    @property
    def typical_value(self) -> float:
        """Mean of the last epoch over uniformly drawn configurations that do not diverge."""
        high = np.ones_like(self.optimum)
        high[-1] -= self._diverging
        # mean of (u - c)^2 for u uniform on [0, h]
        return float((high**2 / 3 - high * self.optimum + self.optimum**2).mean())

    def evaluator(self) -> Evaluator:
        """Make an evaluator; the same configuration always has the same curve."""
        return self._evaluate

    def _evaluate(self, configuration: Configuration) -> Curve:
        u = self.space.encode(configuration)
        power = 1.0 + 4.0 * abs(u[0] - self.optimum[0]) if self._crossing else 1.0
        left = 1.0 - np.arange(1, self.max_resource + 1) / self.max_resource
        values = ((u - self.optimum) ** 2).mean() + left**power / 2
        if u[-1] > 1.0 - self._diverging:
            values[1:] = np.nan
        return Curve(values=values, epoch_s=self.median_epoch_s)
