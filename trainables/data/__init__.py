"""Data sets in memory as tensors, shared by all trials of a machine. Start with `prepare`."""

from trainables.data.augment import Augment, Normalise, random_crop, random_flip
from trainables.data.images import (
    ImageData,
    ImageSplits,
    Subset,
    n_batches,
    shuffled_batches,
)
from trainables.data.registry import (
    DATASETS,
    load_splits,
    load_test,
    on_device,
    open_source,
    prepare,
)

__all__ = [
    "DATASETS",
    "Augment",
    "ImageData",
    "ImageSplits",
    "Normalise",
    "Subset",
    "load_splits",
    "load_test",
    "n_batches",
    "on_device",
    "open_source",
    "prepare",
    "random_crop",
    "random_flip",
    "shuffled_batches",
]
