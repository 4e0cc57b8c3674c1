"""`cifar10`: 50,000 training and 10,000 test images of ten kinds of things, 32 x 32 RGB.

Read through torchvision from `<data-dir>/cifar-10-batches-py`, checksums included; torchvision
unpacks `<data-dir>/cifar-10-python.tar.gz` or downloads it where it is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from raytune_ahu.errors import DataError
from trainables.data.cache import file_fingerprint
from trainables.data.download import DownloadError, download_into
from trainables.data.source import Decoded, ImageSource, Part, Say

_FOLDER = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"
_FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class Cifar10Source(ImageSource):
    """CIFAR-10 in torchvision's layout.

    Args:
        data_dir: Folder that holds, or will hold, `cifar-10-batches-py`.
    """

    image_size: ClassVar[int] = 32
    validation_fraction: ClassVar[float] = 0.1
    flip: ClassVar[bool] = True

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._root = data_dir

    @property
    def name(self) -> str:
        """Its name."""
        return "cifar10"

    def require(self, say: Say) -> None:
        """Unpack or download the archive where one of the six files is missing."""
        folder = self._root / _FOLDER
        missing = [f for files in _FILES.values() for f in files if not (folder / f).is_file()]
        if not missing:
            return
        try:
            if (self._root / _ARCHIVE).is_file():
                say(f"unpacking {self._root / _ARCHIVE}")
                self._unpack()
            else:
                say(f"downloading CIFAR-10 (170 MB) to {folder}")
                self._download()
        except DownloadError as error:
            raise DataError(
                f"CIFAR-10 is not in {folder} (missing: {', '.join(missing)}) and cannot be "
                f"fetched ({error}); put {_ARCHIVE} into {self._root}, choose another --data-dir, "
                "use --dataset folder:PATH for images in class folders, or --dataset digits, "
                "which needs no download"
            ) from error

    def fingerprint(self, part: Part) -> object:
        """Sizes and times of the files of the part."""
        try:
            return [file_fingerprint(self._root / _FOLDER / name) for name in _FILES[part]]
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename} is missing; unpack {_ARCHIVE} in {self._root}, or use "
                "--dataset digits, which needs no download"
            ) from error

    def decode(self, part: Part, image_size: int) -> Decoded:
        """Read the part through torchvision, which verifies the checksums of all files."""
        from torchvision import datasets

        try:
            data = datasets.CIFAR10(str(self._root), train=part == "train", download=False)
        except RuntimeError as error:
            raise DataError(
                f"the files in {self._root / _FOLDER} are not CIFAR-10's ({error}); delete that "
                "folder and try again to fetch them anew"
            ) from error
        images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
        return Decoded(images, torch.tensor(data.targets), n_classes=10)

    def _unpack(self) -> None:
        from torchvision import datasets
        from torchvision.datasets.utils import check_integrity

        archive = self._root / _ARCHIVE
        if not check_integrity(str(archive), datasets.CIFAR10.tgz_md5):
            raise DownloadError(f"{archive} is damaged: its checksum is wrong; delete it")
        try:
            datasets.CIFAR10(str(self._root), train=True, download=True)  # unpacks
        except (OSError, RuntimeError) as error:
            raise DownloadError(str(error)) from error

    def _download(self) -> None:
        from torchvision import datasets

        def fetch(folder: Path) -> None:
            datasets.CIFAR10(str(folder), train=True, download=True)

        download_into(self._root / _FOLDER, [datasets.CIFAR10.url], fetch)
