"""hpbandster's own BOHB generator, fed with our observations; the oracle of `kde.py`.

hpbandster sees one column per column of the search space: a float in [0, 1], or a categorical of
category indices. So its data are exactly those of `KdeModel`, on every search space, and our
`SearchSpace` keeps the last word on what the values mean and which of them are active. Start with
`HpbandsterEngine.propose`.

The package is imported when an engine is built. It draws from numpy's global generator, which is
seeded before, and put back as it was after every call.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from raytune_ahu.errors import OptionalDependencyError, SpecError
from raytune_ahu.search.kde import KdeSettings
from raytune_ahu.search.kernels import category_index
from raytune_ahu.search.model import Floats, Ints, Observations
from raytune_ahu.seeding import derive_seed


class HpbandsterEngine:
    """Fits hpbandster's model to observations and lets it choose the next point.

    Each proposal is a function of the observations, the seed and a number, so nothing has to be
    saved. hpbandster does not look at running trials, and failed ones can get among its good ones.

    Args:
        n_choices: (d,) categories per column, 0 for the others.
        seed: Root seed of the run.
        random_fraction: Share of random proposals once there is a model.
        n_candidates: Candidates that are scored per proposal.
        settings: Parameters of the model; `avoid_pending` and `categorical` do not apply.

    Raises:
        OptionalDependencyError: If hpbandster is not installed.
        SpecError: If `top_fraction` is not a whole percentage.
    """

    name = "hpbandster"
    """Under which its suggestions are recorded."""

    def __init__(
        self,
        n_choices: Ints,
        *,
        seed: int,
        random_fraction: float,
        n_candidates: int,
        settings: KdeSettings,
    ) -> None:
        percent = round(100 * settings.top_fraction)
        if abs(percent - 100 * settings.top_fraction) > 1e-9:
            raise SpecError(
                f"top_fraction={settings.top_fraction} must be a whole percentage with "
                "engine='hpbandster', such as 0.15; or use engine='native'"
            )
        self._n_choices = n_choices
        self._seed = seed
        self._bohb = _import_bohb()
        self._options = {
            "min_points_in_model": settings.min_points_in_model,
            "top_n_percent": percent,
            "num_samples": n_candidates,
            "random_fraction": random_fraction,
            "bandwidth_factor": settings.bandwidth_factor,
            "min_bandwidth": settings.min_bandwidth,
            "logger": _silent_logger(),
        }
        self.generator: Any = None
        """hpbandster's generator, as last fitted."""

    def propose(self, observations: Observations, number: int) -> tuple[Floats | None, int | None]:
        """Let hpbandster choose a point.

        Args:
            observations: All that is known now.
            number: Makes the draws of this proposal different from those of others.

        Returns:
            The encoded point (d,) and the rung level of the model; (None, None) where hpbandster
            wants a random one.
        """
        level = self.fit(observations, number)
        if level is None:
            return None, None
        with _contained(derive_seed(self._seed, "hpbandster", "draw", number)):
            values, info = self.generator.get_config(level)
        if not info["model_based_pick"]:
            return None, None
        return self._encoded(values), level

    def fit(self, observations: Observations, number: int = 0) -> int | None:
        """Fit hpbandster's model of the largest level with enough data; return that level."""
        with _contained(derive_seed(self._seed, "hpbandster", "fit", number)):
            self.generator = self._bohb(self._shadow_space(), **self._options)
            for level in reversed(observations.rung_levels):
                x, loss = observations.at(level)
                if not len(loss):
                    continue
                self._hand_over(level, x, loss)
                if level in self.generator.kde_models:
                    return level
        return None

    def _hand_over(self, level: int, x: Floats, loss: Floats) -> None:
        """Put all rows in place, then report a job, which makes hpbandster fit them."""
        self.generator.configs[level] = _FixedRows(self._indexed(x))
        self.generator.losses[level] = _FixedRows(loss)
        default = dict(self.generator.configspace.get_default_configuration())
        job = SimpleNamespace(
            id=(0, 0, 0),
            exception=None,
            result={"loss": 0.0},
            kwargs={"budget": level, "config": default},
        )
        self.generator.new_result(job)

    def _indexed(self, x: Floats) -> Floats:
        """Encoded rows with categories as indices, as hpbandster wants them; NaN stays."""
        rows = x.copy()
        for j in np.flatnonzero(self._n_choices > 0):
            known = np.flatnonzero(~np.isnan(x[:, j]))
            rows[known, j] = category_index(x[known, j], int(self._n_choices[j]))
        return rows

    def _encoded(self, values: dict[str, Any]) -> Floats:
        vector = np.array([float(values[_column_name(j)]) for j in range(len(self._n_choices))])
        is_category = self._n_choices > 0
        vector[is_category] = (vector[is_category] + 0.5) / self._n_choices[is_category]
        return vector

    def _shadow_space(self) -> Any:
        from ConfigSpace import (
            CategoricalHyperparameter,
            ConfigurationSpace,
            UniformFloatHyperparameter,
        )

        space = ConfigurationSpace(seed=0)
        for j, k in enumerate(self._n_choices.tolist()):
            if k:
                space.add(CategoricalHyperparameter(_column_name(j), list(range(k))))
            else:
                space.add(UniformFloatHyperparameter(_column_name(j), 0.0, 1.0))
        return space


class _FixedRows(list[Any]):
    """Rows that hpbandster finds in place; the row of the job that triggers the fit is dropped."""

    def append(self, row: Any) -> None:
        """Do nothing."""


def _column_name(column: int) -> str:
    return f"column{column:05d}"  # ConfigSpace sorts by name


@contextmanager
def _contained(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, silence warnings, and undo both."""
    before = np.random.get_state()  # noqa: NPY002  # hpbandster draws from the global generator
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _silent_logger() -> logging.Logger:
    """Hpbandster logs each fit, and a traceback whenever it falls back to a random point."""
    logger = logging.getLogger("raytune_ahu.hpbandster")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def _import_bohb() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from hpbandster.optimizers.config_generators.bohb import BOHB
    except ImportError as error:
        raise OptionalDependencyError(
            f"engine='hpbandster' needs the package hpbandster ({error}); install it with "
            "`pip install 'raytune-ahu[hpbandster]'` (Python < 3.12 and a C compiler), or use "
            "engine='native'"
        ) from error
    return BOHB
