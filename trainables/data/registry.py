"""From the name of a data set to its images.

`prepare` is called once by a script, before any trial starts; `load_splits` by every trial, and
`load_test` by the final evaluation alone. A worker process that serves many trials loads once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from raytune_ahu.errors import DataError
from raytune_ahu.seeding import generator
from trainables.data.cifar10 import Cifar10Source
from trainables.data.digits import DigitsSource
from trainables.data.folder import FolderSource
from trainables.data.images import ImageData, ImageSplits, Subset
from trainables.data.mnist import MnistSource
from trainables.data.source import ImageSource, Part, Say, to_stderr
from trainables.data.splits import stratified_split, stratified_subset

FOLDER_PREFIX = "folder:"
DATASETS = ("digits", "mnist", "cifar10", "folder:PATH")
"""All data sets, as the user writes them."""

_WITH_DATA_DIR: dict[str, Callable[[Path], ImageSource]] = {
    "mnist": MnistSource,
    "cifar10": Cifar10Source,
}


def open_source(dataset: str, data_dir: str | None, known: Sequence[str] = DATASETS) -> ImageSource:
    """Find a data set by its name; nothing is read yet.

    Args:
        dataset: One of `DATASETS`, `PATH` standing for a folder.
        data_dir: Folder of the data set's files; needed by `mnist` and `cifar10`.
        known: The data sets to allow; the others are refused.

    Raises:
        DataError: If the name is not known, or its folder is not given.
    """
    root = Path(data_dir).expanduser() if data_dir else None
    if dataset.startswith(FOLDER_PREFIX) and f"{FOLDER_PREFIX}PATH" in known:
        path = dataset.removeprefix(FOLDER_PREFIX)
        if not path:
            raise DataError(f"dataset={dataset!r} names no folder; write folder:PATH")
        return FolderSource(Path(path).expanduser(), root)
    if dataset not in known or f"{FOLDER_PREFIX}PATH" == dataset:
        raise DataError(f"dataset={dataset!r} is not known; use one of {', '.join(known)}")
    if dataset == "digits":
        return DigitsSource(root)
    if root is None:
        raise DataError(f"dataset={dataset!r} needs a folder for its files; set data_dir")
    return _WITH_DATA_DIR[dataset](root)


def prepare(
    dataset: str,
    data_dir: str | None = None,
    *,
    image_size: int | None = None,
    known: Sequence[str] = DATASETS,
    say: Say | None = None,
) -> None:
    """Check a data set, download it where it is missing, and decode it into the shared cache.

    Afterwards trials only open a memory map, and bad input has been found before any trial.

    Args:
        dataset: See `open_source`.
        data_dir: See `open_source`.
        image_size: Size that the trials will ask for, in pixels; None: the data set's own.
        known: The data sets that the trainable takes.
        say: Receives a line before anything that takes a while; by default it goes to stderr.

    Raises:
        DataError: If the data set is unknown, absent and not downloadable, or damaged.
        StorageError: If no cache folder can be written.
    """
    source = open_source(dataset, data_dir, known)
    say = say or to_stderr
    source.require(say)
    source.load("train", image_size or source.image_size, say)


@lru_cache(maxsize=4)
def load_part(dataset: str, data_dir: str | None, part: Part, image_size: int) -> ImageData:
    """Open one part of a data set; a second call in the same process returns the same tensors."""
    source = open_source(dataset, data_dir)
    return source.load(part, image_size)


@lru_cache(maxsize=2)
def load_splits(
    dataset: str,
    data_dir: str | None,
    *,
    image_size: int,
    validation_fraction: float,
    train_images: int | None,
    seed: int,
    fit_all: bool = False,
) -> ImageSplits:
    """Split the training part into training and validation images, stratified by class.

    Args:
        dataset: See `open_source`.
        data_dir: See `open_source`.
        image_size: Height and width in pixels.
        validation_fraction: Share of each class that is held out, in (0, 1).
        train_images: Train on so many images only, in the same shares per class; None: all. The
            validation split does not depend on it.
        seed: Root seed; the same seed gives the same split.
        fit_all: Whether the validation images are to be trained on as well.

    Raises:
        DataError: If the data set cannot be had, or is smaller than what is asked of it.
    """
    data = load_part(dataset, data_dir, "train", image_size)
    labels = data.labels.numpy()
    rows, held_out = stratified_split(
        labels, validation_fraction, generator(seed, "data", "validation split")
    )
    if train_images is not None:
        if not data.n_classes <= train_images <= len(rows):
            raise DataError(
                f"train_images={train_images} must be in [{data.n_classes}, {len(rows)}]: "
                f"{dataset} has {len(rows)} images beside the {len(held_out)} for validation"
            )
        rng = generator(seed, "data", "training subset")
        rows = stratified_subset(labels, rows, train_images, rng)
    train = Subset(data.images, data.labels, torch.from_numpy(rows))
    validation = Subset(data.images, data.labels, torch.from_numpy(held_out))
    return ImageSplits(
        train=train.joined(validation) if fit_all else train,
        validation=validation,
        n_classes=data.n_classes,
        mean=data.mean,
        std=data.std,
    )


def on_device(splits: ImageSplits, device: torch.device) -> ImageSplits:
    """Move splits to a device; on a GPU they are copied once per worker process, not per trial."""
    global _on_gpu
    if device.type == "cpu":
        return splits
    if _on_gpu is None or _on_gpu[0] is not splits or _on_gpu[1] != device:
        _on_gpu = None  # free the old copy first
        _on_gpu = (splits, device, splits.to(device))
    return _on_gpu[2]


_on_gpu: tuple[ImageSplits, torch.device, ImageSplits] | None = None


def load_test(dataset: str, data_dir: str | None, *, image_size: int) -> Subset:
    """Open the test part. Only the final evaluation of a chosen configuration may call this."""
    data = load_part(dataset, data_dir, "test", image_size)
    return Subset.whole(data.images, data.labels)
