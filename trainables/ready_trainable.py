"""`ReadyTrainable`: what the scripts ask of the trainables that come with this project."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from raytune_ahu.types import TRIAL_SEED_KEY, Configuration
from trainables.data.source import Say
from trainables.epoch_trainable import EpochTrainable
from trainables.hyperparameters import parse

FILE_PREFIXES = ("folder:", "file:")
"""How the user writes a data set that is a path."""


class ReadyTrainable(EpochTrainable):
    """A trainable that knows its data sets, settings and hyperparameters, and checks them."""

    datasets: ClassVar[tuple[str, ...]]
    """The data sets that it takes, as the user writes them; the first needs no download."""
    hyperparameters: ClassVar[type[Any]]
    """The dataclass that lists its hyperparameters, their ranges and defaults."""
    default_grace_period: ClassVar[int] = 1
    """Epochs before which a trial says too little to be judged."""
    smoke_trials: ClassVar[int] = 6
    """Trials in a script's --smoke-test."""
    smoke_epochs: ClassVar[int] = 3
    """Epochs of a full training in a script's --smoke-test."""
    keeps_best_weights: ClassVar[bool] = False
    """Whether checkpoints hold the weights of the best epoch too, and the test uses those."""

    @classmethod
    @abstractmethod
    def resolve_settings(cls, settings: Mapping[str, Any]) -> Any:
        """Check settings, fill in what is null, and return them as a dataclass.

        Raises:
            SpecError: If a setting is unknown or out of range.
            DataError: If the data set is unknown, or needs a folder that is not given.
        """

    @classmethod
    def default_settings(
        cls,
        dataset: str | None = None,
        data_dir: str | Path | None = None,
        *,
        seed: int = 0,
        max_epochs: int | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """Return the settings of an experiment with every null resolved, JSON-ready.

        Paths are made absolute, because Ray's workers run in other folders. What is returned may
        be changed and is what belongs under `settings` in a configuration. It raises what
        `resolve_settings` raises.

        Args:
            dataset: One of `datasets`; None: the first.
            data_dir: Folder of the data set's files.
            seed: Root seed.
            max_epochs: Epochs of a full training; None: `default_max_epochs`.
            others: Further settings; see the class that `resolve_settings` returns.
        """
        values: dict[str, Any] = {
            "dataset": _absolute_dataset(dataset or cls.datasets[0]),
            "data_dir": str(Path(data_dir).expanduser().absolute()) if data_dir else None,
            "seed": seed,
            "max_epochs": cls.default_max_epochs if max_epochs is None else max_epochs,
            **others,
        }
        return asdict(cls.resolve_settings(values))

    @classmethod
    @abstractmethod
    def prepare(cls, settings: Mapping[str, Any], say: Say | None = None) -> dict[str, Any]:
        """Check the settings and the data set, download and decode it; for the driver.

        Returns:
            The settings, with what is to be remembered of the data.

        Raises:
            SpecError: If a setting is wrong.
            DataError: If the data set is unknown, absent and not downloadable, damaged, too small
                for what the settings ask of it, or not the one that a run began with.
            StorageError: If no folder for the decoded data can be written.
        """

    @classmethod
    def check_configuration(cls, configuration: Configuration) -> None:
        """Check hyperparameters before a run.

        Raises:
            SpaceError: If one is unknown or out of range; the message lists what is allowed.
        """
        values = {
            name: value
            for name, value in configuration.items()
            if name not in ("settings", TRIAL_SEED_KEY)
        }
        parse(cls.hyperparameters, values)


def _absolute_dataset(dataset: str) -> str:
    """Make the path in `folder:PATH` or `file:PATH` absolute."""
    for prefix in FILE_PREFIXES:
        path = dataset.removeprefix(prefix)
        if dataset.startswith(prefix) and path:
            return f"{prefix}{Path(path).expanduser().absolute()}"
    return dataset
