"""`folder:PATH`: your own images, as `PATH/train/<class>/*` and `PATH/test/<class>/*`.

The images are decoded once, in as many threads as there are cores, to RGB of one size.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.source import Decoded, ImageSource, Part, Say

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
"""Endings of the files that count as images; other files are left alone."""


@dataclass(frozen=True)
class _Listing:
    classes: list[str]
    files: list[tuple[Path, int]]
    """Each image and the index of its class, sorted."""


class FolderSource(ImageSource):
    """Images in class folders.

    Args:
        folder: The folder with `train/` and `test/`.
        data_dir: Where the decoded images may be kept; None: in the folder itself if it can be
            written.
    """

    image_size: ClassVar[int] = 32
    validation_fraction: ClassVar[float] = 0.1
    flip: ClassVar[bool] = True

    def __init__(self, folder: Path, data_dir: Path | None) -> None:
        super().__init__(data_dir or folder)
        self._folder = folder

    @property
    def name(self) -> str:
        """Its name."""
        return f"folder-{self._folder.name}"

    def require(self, say: Say) -> None:
        """Check that both parts have images of the same classes."""
        train, test = self._list("train"), self._list("test")
        if train.classes != test.classes:
            odd = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
            raise DataError(
                f"{self._folder} has classes that are not both in train/ and in test/: {odd}; "
                "give both the same class folders"
            )

    def fingerprint(self, part: Part) -> object:
        """Name, size and time of every image."""
        rows = []
        for path, label in self._list(part).files:
            status = path.stat()
            rows.append([f"{label}/{path.name}", status.st_size, status.st_mtime_ns])
        return [str(self._folder), rows]

    def decode(self, part: Part, image_size: int) -> Decoded:
        """Decode all images of the part."""
        listing = self._list(part)
        images = np.empty((len(listing.files), 3, image_size, image_size), np.uint8)

        def fill(row: int) -> None:
            images[row] = read_image(listing.files[row][0], image_size)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(fill, range(len(images)), chunksize=64):
                pass
        labels = torch.tensor([label for _, label in listing.files])
        return Decoded(torch.from_numpy(images), labels, len(listing.classes))

    def _list(self, part: Part) -> _Listing:
        folder = self._folder / part
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder; put images into "
                f"{self._folder}/train/<class>/ and {self._folder}/test/<class>/, "
                "or use --dataset digits, which needs no files"
            )
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        classes = [name for name in classes if not name.startswith(".")]
        if len(classes) < 2:
            raise DataError(
                f"{folder} has {len(classes)} class folders but needs at least 2; put the images "
                f"of each class into a folder of their own, {folder}/<class>/"
            )
        files: list[tuple[Path, int]] = []
        for label, name in enumerate(classes):
            names = sorted(e.name for e in os.scandir(folder / name) if _is_image(e.name))
            if not names:
                raise DataError(
                    f"{folder / name} holds no images ({', '.join(sorted(SUFFIXES))}); "
                    "add some or remove the class folder from train/ and test/"
                )
            files.extend((folder / name / file, label) for file in names)
        return _Listing(classes, files)


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode an image to RGB, (3, size, size).

    Raises:
        DataError: If the file is not an image.
    """
    # Imported here: workers read the cache.
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable image ({error}); repair or remove it") from error


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
