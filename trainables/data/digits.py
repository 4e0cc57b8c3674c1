"""`digits`: the 1,797 real 8 x 8 handwritten digits bundled with scikit-learn. Needs no download.

Every fifth or so image of each class (297 in all; drawn once, the same in every run) is the test
part; scikit-learn has none of its own.
"""

from __future__ import annotations

import importlib.metadata
from typing import ClassVar

import numpy as np
import torch

from raytune_ahu.seeding import generator
from trainables.data.source import Decoded, ImageSource, Part, Say
from trainables.data.splits import stratified_split

_TEST_FRACTION = 1 / 6


class DigitsSource(ImageSource):
    """The embedded data set."""

    image_size: ClassVar[int] = 8
    validation_fraction: ClassVar[float] = 0.2
    flip: ClassVar[bool] = False
    takes_a_while: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Its name."""
        return "digits"

    def require(self, say: Say) -> None:
        """Nothing to do: the digits come with scikit-learn."""

    def fingerprint(self, part: Part) -> object:
        """The version of scikit-learn stands for the file inside it."""
        return ["digits", importlib.metadata.version("scikit-learn")]

    def decode(self, part: Part, image_size: int) -> Decoded:
        """Read the digits and pick the part; values 0..16 become 0..255."""
        # Imported here: workers find the digits in the cache and need no scikit-learn (1 s).
        from sklearn.datasets import load_digits

        bunch = load_digits()
        labels = np.asarray(bunch.target, dtype=np.int64)
        rest, test = stratified_split(labels, _TEST_FRACTION, generator(0, "digits", "test split"))
        rows = rest if part == "train" else test
        pixels = np.round(np.asarray(bunch.images)[rows] * (255 / 16)).astype(np.uint8)
        return Decoded(
            images=torch.from_numpy(pixels[:, None]),
            labels=torch.from_numpy(labels[rows]),
            n_classes=10,
        )
