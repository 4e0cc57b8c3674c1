"""What stands between a searcher and its model: `Observations` in, candidates and scores out.

A searcher keeps one `Observations` and asks its `SurrogateModel` for each suggestion::

    level = model.fit(observations, rng)          # None: too little data, draw at random
    candidates = model.propose(n, rng)            # (n, d) points of the unit cube
    scores = model.score(candidates)              # (n,) higher is more worth trying

Start with `Observations`: it holds all rungs at once, so that a model may use one of them (the
density ratio of `kde.py`) or all together (a process over configuration and resource).

Symbols: t trials suggested so far, d columns of the search space, n observations, m running trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


THIS_RUN = 1
"""Source of this run's own trials; those of earlier runs are 0, -1, ..."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything a searcher has seen. The arrays are views of growing tables: read, never write.

    An observation is one (trial, level, loss). The encoded configuration of a trial is stored once,
    however many levels it has reached.
    """

    configurations: Floats
    """(t, d) every trial's encoded configuration in the order of suggestion; NaN where inactive."""
    trial: Ints
    """(n,) row of `configurations` that each observation belongs to."""
    resource: Ints
    """(n,) resource at which it was seen: a rung level, unless the model asked for every report."""
    loss: Floats
    """(n,) oriented so that smaller is better; +inf for a failed or non-finite one."""
    pending: Ints
    """(m,) rows of the trials still on their way to another rung level."""
    pending_level: Ints
    """(m,) the rung level that each of them is heading for."""
    rung_levels: tuple[int, ...]
    """All rung levels, ascending."""
    n_prior: int
    """The first so many rows of `configurations` are trials of earlier runs (a warm start)."""
    source: Ints
    """(t,) `THIS_RUN`, or minus the number of the earlier run that a trial is of."""
    revision: int
    """Another number whenever an observation was added, replaced or removed: for caches."""

    def at(self, level: int) -> tuple[Floats, Floats]:
        """Return configurations (n_level, d) and losses (n_level,) seen at one resource."""
        chosen = np.flatnonzero(self.resource == level)
        return self.configurations[self.trial[chosen]], self.loss[chosen]

    @property
    def unheard(self) -> Ints:
        """(p,) rows of the running trials of which no rung level has heard."""
        return np.asarray(self.pending[self.pending_level == self.rung_levels[0]])

    def count_at(self, level: int) -> int:
        """Return how many observations there are at one resource."""
        return int(np.count_nonzero(self.resource == level))


class SurrogateModel(Protocol):
    """Learns from observations which configurations are worth trying.

    A model keeps no state from one `fit` to the next that would change its answers: the searcher
    restores a run by giving a new model the old observations. (A cache is no such state.)
    """

    @property
    def name(self) -> str:
        """Under which its suggestions are recorded: `kde`, ..."""
        ...

    @property
    def n_candidates(self) -> int:
        """Candidates that a suggestion is chosen from, unless the user wants another number."""
        ...

    @property
    def random_fraction(self) -> float:
        """Share of random suggestions that it needs beside its own, unless the user says."""
        ...

    @property
    def knows_inactive(self) -> bool:
        """Whether `score` takes candidates with NaN where a parameter is inactive, and needs it."""
        ...

    @property
    def every_report(self) -> bool:
        """Whether the model wants reports between the rung levels among its observations too."""
        ...

    def fit(self, observations: Observations, rng: np.random.Generator) -> int | None:
        """Learn.

        Args:
            observations: All that is known now.
            rng: Generator of the searcher, for models that draw while fitting.

        Returns:
            The rung level that suggestions now speak for (it becomes their origin,
            `model@<level>`), or None while there is too little data; `propose` and `score` may then
            not be called.
        """
        ...

    def propose(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw n candidates, (n, d) in the unit cube without NaN."""
        ...

    def score(self, candidates: Floats) -> Floats:
        """Return (n,) scores of candidates (n, d): the higher, the more worth trying; no NaN.

        Where a parameter is inactive, candidates have NaN for models that know it (see
        `knows_inactive`), for others some number.
        """
        ...

    def expected_improvement(self, vector: Floats) -> float | None:
        """Return what a configuration is expected to gain at full resource over the incumbent.

        Args:
            vector: (d,) encoded configuration, NaN where inactive.

        Returns:
            The expected gain in units of the metric (a difference of losses), finite and at least
            0; None where the model does not say.
        """
        ...
