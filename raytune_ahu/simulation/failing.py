"""`FailingTask` lets a share of the configurations of another task crash or diverge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.seeding import generator
from raytune_ahu.simulation.chance import configuration_generator
from raytune_ahu.simulation.tasks import Curve, Evaluator, Task
from raytune_ahu.types import Configuration, Mode

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

FailureKind: TypeAlias = Literal["crash", "diverge", "region"]
"""How the configurations of a `FailingTask` fail."""

_SAMPLES = 2000  # configurations from which the edge of a failing region is estimated
_LAST_REGION_EPOCH = 3  # a setting that cannot work shows it soon


class FailingTask:
    """Another task, in which some configurations fail, always the same ones for one seed.

    - `crash`: each configuration crashes with probability `share`, in an epoch drawn uniformly from
      its curve; it makes no report in that epoch.
    - `diverge`: the same, but from that epoch on its values are NaN.
    - `region`: the configurations of a half-space of the unit cube crash, in epoch 1, 2 or 3. Its
      edge is orthogonal to a random direction and cuts off about `share` of the configurations
      (estimated from 2,000; with few distinct configurations it may be more). Inactive parameters
      count as in the middle.

    Whether and when a configuration fails depends on `seed` and the configuration alone, not on the
    order of evaluation. Best and typical value are those of the wrapped task; where its optimum
    lies in a failing region, nothing reaches the best value.

    Args:
        task: The task that is wrapped.
        share: Share of the configurations that fail, in [0, 1].
        seed: Decides which ones, at least 0.
        kind: How they fail.

    Raises:
        SpecError: If `share` or `kind` is out of its range.
        ValueError: If `seed` is negative.
    """

    def __init__(self, task: Task, share: float, seed: int, kind: FailureKind = "crash") -> None:
        if not 0.0 <= share <= 1.0:
            raise SpecError(f"share={share!r} must be in [0, 1]; use 0 for no failures")
        if kind not in get_args(FailureKind):
            raise SpecError(f"kind={kind!r} must be one of {', '.join(get_args(FailureKind))}")
        self.name = f"{task.name}, {share:.0%} {kind}"
        self.task, self.share, self.seed, self.kind = task, share, seed, kind
        rng = generator(seed, "failing", "direction")
        self._direction = rng.standard_normal(len(task.space.names))
        self._edge = self._find_edge() if kind == "region" else np.inf

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self.task.space

    @property
    def mode(self) -> Mode:
        """Whether the metric is minimised or maximised."""
        return self.task.mode

    @property
    def max_resource(self) -> int:
        """Epochs of a full training."""
        return self.task.max_resource

    @property
    def best_value(self) -> float:
        """That of the wrapped task."""
        return self.task.best_value

    @property
    def typical_value(self) -> float:
        """That of the wrapped task."""
        return self.task.typical_value

    @property
    def median_epoch_s(self) -> float:
        """That of the wrapped task."""
        return self.task.median_epoch_s

    def evaluator(self) -> Evaluator:
        """Make the evaluator of one simulation, around one of the wrapped task."""
        evaluate = self.task.evaluator()

        def evaluate_or_fail(configuration: Configuration) -> Curve:
            return self._failed(configuration, evaluate(configuration))

        return evaluate_or_fail

    def failing_epoch(self, configuration: Configuration) -> int | None:
        """The epoch, from 1, in which the configuration fails; None if it does not."""
        rng = configuration_generator(self.seed, f"failing {self.kind}", configuration)
        if self.kind == "region":
            last = min(_LAST_REGION_EPOCH, self.max_resource)
            fails = bool(self._projected(self.space.encode(configuration)) >= self._edge)
        else:
            last = self.max_resource
            fails = bool(rng.random() < self.share)
        return int(rng.integers(1, last + 1)) if fails else None

    def _failed(self, configuration: Configuration, curve: Curve) -> Curve:
        epoch = self.failing_epoch(configuration)
        if epoch is None:
            return curve
        if self.kind == "diverge":
            values = curve.values.copy()
            values[epoch - 1 :] = np.nan
            return replace(curve, values=values)
        return replace(curve, crash_at=min(epoch, curve.crash_at or epoch))

    def _find_edge(self) -> float:
        if self.share in (0.0, 1.0):
            return np.inf if self.share == 0.0 else -np.inf
        rng = generator(self.seed, "failing", "region")
        drawn = self.space.encode_many(self.space.sample(rng) for _ in range(_SAMPLES))
        edge = np.quantile(self._projected(drawn), 1.0 - self.share, method="higher")
        return float(edge)

    def _projected(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions along the direction: (..., d) to (...)."""
        centred: NDArray[np.float64] = np.nan_to_num(points - 0.5)  # inactive: in the middle
        return np.asarray((centred * self._direction).sum(axis=-1), np.float64)
