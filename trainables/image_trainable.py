"""`ImageTrainable`: what the two image classifiers share: settings, data, checks before a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from raytune_ahu.errors import SpecError
from raytune_ahu.types import FIT_ON_ALL, Configuration
from trainables.base import TorchTrainable
from trainables.data import registry
from trainables.data.augment import Augment, Normalise
from trainables.data.images import ImageSplits, Subset, n_batches
from trainables.data.source import Say
from trainables.epoch_trainable import FITS, PRECISIONS
from trainables.hyperparameters import choice, number, parse, switch, text, whole
from trainables.loops import Optimised, Training
from trainables.optimisation import Optimisation, make_optimizer, make_schedule, penalise
from trainables.ready_trainable import ReadyTrainable


@dataclass(frozen=True)
class ImageSettings:
    """The fixed values of an experiment on images. Null stands for the data set's own value."""

    dataset: str = text("digits")
    """One of the trainable's `datasets`."""
    data_dir: str | None = text(None, optional=True)
    """Folder of the data set's files and of the decoded images; absolute on every machine."""
    seed: int = whole(0, 0, 2**62)
    """Root seed: split, initialisation, order, augmentation, dropout. All trials share it; all but
    the split follow a configuration's `trial_seed` where there is one."""
    max_epochs: int = whole(9, 1, 100_000)
    """Epochs of a full training; the learning-rate schedule spans them."""
    image_size: int | None = whole(None, 4, 1024, optional=True)
    """Height and width that images are scaled to, in pixels."""
    validation_fraction: float | None = number(None, 0.001, 0.9, optional=True)
    """Share of the training images that is held out (mnist 1/6, digits 1/5, others 1/10)."""
    train_images: int | None = whole(None, 1, 10**9, optional=True)
    """Train on so many images only, evenly from all classes; null: all."""
    padding: int | None = whole(None, 0, 64, optional=True)
    """Largest random shift in pixels; null: what the trainable says (see `default_settings`)."""
    flip: bool | None = switch(None, optional=True)
    """Mirror half of the training images; null: only where the data set allows it (no digits)."""
    precision: str = choice("float32", list(PRECISIONS))
    """Number type of the forward pass."""
    deterministic: bool = switch(True)
    """Only reproducible convolutions on CUDA."""
    fit_on: str = choice("train", FITS)
    """`train+validation`: for a chosen configuration; nothing is validated then."""


class ImageTrainable(ReadyTrainable, TorchTrainable):
    """A classifier of images. Subclasses say which hyperparameters and which network."""

    hyperparameters: ClassVar[type[Optimisation]]
    default_padding: ClassVar[int] = 0
    """Largest random shift by default, in pixels for images of 32; scaled to other sizes."""
    default_image_sizes: ClassVar[dict[str, int]] = {}
    """Image sizes that differ from the data set's own, by data set."""

    @abstractmethod
    def build_network(self, h: Any, splits: ImageSplits) -> nn.Module:
        """Make the network.

        Args:
            h: An instance of `hyperparameters`.
            splits: The data, for channels, size and classes.
        """

    @classmethod
    def resolve_settings(cls, settings: Mapping[str, Any]) -> ImageSettings:
        """Check settings and fill in what is null.

        Raises:
            SpecError: If a setting is unknown or out of range.
            DataError: If the data set is unknown, or needs a folder that is not given.
        """
        values = {"max_epochs": cls.default_max_epochs, **settings}
        given = parse(ImageSettings, values, what="setting", error=SpecError)
        source = registry.open_source(given.dataset, given.data_dir, cls.datasets)
        size = given.image_size or cls.default_image_sizes.get(given.dataset, source.image_size)
        resolved = asdict(given)
        defaults = {
            "image_size": size,
            "validation_fraction": source.validation_fraction,
            "padding": round(cls.default_padding * size / 32),
            "flip": source.flip,
        }
        for name, value in defaults.items():
            if resolved[name] is None:
                resolved[name] = value
        return ImageSettings(**resolved)

    @classmethod
    def prepare(cls, settings: Mapping[str, Any], say: Say | None = None) -> dict[str, Any]:
        """Check the settings and the data set, download and decode it; for the driver."""
        resolved = cls.resolve_settings(settings)
        registry.prepare(
            resolved.dataset,
            resolved.data_dir,
            image_size=resolved.image_size,
            known=cls.datasets,
            say=say,
        )
        cls._load_splits(resolved)
        return dict(settings)

    @classmethod
    def _load_splits(cls, settings: ImageSettings) -> ImageSplits:
        assert settings.image_size is not None  # resolved
        assert settings.validation_fraction is not None
        return registry.load_splits(
            settings.dataset,
            settings.data_dir,
            image_size=settings.image_size,
            validation_fraction=settings.validation_fraction,
            train_images=settings.train_images,
            seed=settings.seed,
            fit_all=settings.fit_on == FIT_ON_ALL,
        )

    def build(self, configuration: Configuration, settings: dict[str, Any]) -> Training:
        """Make network, optimizer, schedule and data from the hyperparameters."""
        resolved = self.resolve_settings(settings)
        h = parse(self.hyperparameters, configuration)
        splits = registry.on_device(self._load_splits(resolved), self.device)
        model = self.build_network(h, splits)
        model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch documents it
        optimizer = make_optimizer(h, model)
        steps = self.max_epochs * n_batches(len(splits.train), h.batch_size)
        augment = Augment(resolved.padding or 0, bool(resolved.flip))
        return Training(
            model=model,
            optimizer=optimizer,
            schedule=make_schedule(h, optimizer, steps),
            train=splits.train,
            validation=splits.validation,
            batch_size=h.batch_size,
            loss=partial(functional.cross_entropy, label_smoothing=h.label_smoothing),
            augment=augment if augment.is_on else None,
            transform=Normalise(splits.mean, splits.std, self.device),
            penalise=penalise(model.parameters(), h.l1, h.l2),
        )

    def describe(self) -> str:
        """Say in words which data the model was trained on, and how they are split."""
        settings = self.resolve_settings(self._settings)
        train, validation = len(self.training.train), len(self.training.validation)
        used = f"Trained on {train:,} images, validated on {validation:,}."
        if self.fits_all:
            used = (
                f"The search trained on {train - validation:,} images of its training part and "
                f"validated on {validation:,}; this model was trained on all {train:,}."
            )
        return (
            f"Data set `{settings.dataset}`, images of {settings.image_size} x "
            f"{settings.image_size} pixels. {used} The split keeps the share of each class, seed "
            f"{settings.seed}. The test split is the data set's test part."
        )

    def final_training(self, training: Optimised) -> Optimised:
        """Return it as it is: `build` has loaded all images, and made the schedule for them."""
        return training

    def load_test(self) -> Subset:
        """Open the data set's test images."""
        settings = self.resolve_settings(self._settings)
        assert settings.image_size is not None  # resolved
        return registry.load_test(
            settings.dataset, settings.data_dir, image_size=settings.image_size
        )
