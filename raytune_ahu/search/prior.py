"""Trials of earlier runs, from which a searcher may begin (a warm start).

They are part of a run's specification, so that a resumed run has them too, wherever the earlier run
is by then. Start with `PriorTrial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from raytune_ahu.errors import SpecError
from raytune_ahu.types import Configuration


@dataclass(frozen=True)
class PriorTrial:
    """What an earlier run has seen of one configuration.

    Raises:
        SpecError: If a resource is below 1, or they do not ascend.
    """

    configuration: Configuration
    """Complete, and legal in the space of the new run."""
    reports: tuple[tuple[int, float], ...]
    """(resource, value) of its finite reports, by ascending resource; values as reported."""
    failed: bool = False
    """Whether it failed or diverged in the end."""
    run: int = 0
    """Number of the earlier run among several, from 0. Values of different runs need not be
    comparable for the Gaussian process; the density model takes all as they are."""

    def __post_init__(self) -> None:
        resources = [0, *(resource for resource, _ in self.reports)]
        if any(high <= low for low, high in pairwise(resources)):
            raise SpecError(
                f"the resources {resources[1:]} of a prior trial must be at least 1, and ascend"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready; `from_dict` is the inverse."""
        return {**asdict(self), "reports": [list(report) for report in self.reports]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PriorTrial:
        """Read what `to_dict` wrote.

        Raises:
            SpecError: If it is something else.
        """
        try:
            reports = tuple((int(resource), float(value)) for resource, value in data["reports"])
            run = int(data.get("run", 0))
            return cls(dict(data["configuration"]), reports, bool(data["failed"]), run)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"{data!r} is no prior trial ({error!r}); leave it out") from error
