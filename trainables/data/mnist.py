"""`mnist`: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey.

Read from the files that torchvision keeps in `<data-dir>/MNIST/raw`, gzipped or not; torchvision
downloads them where they are missing.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.cache import file_fingerprint
from trainables.data.download import DownloadError, download_into
from trainables.data.source import Decoded, ImageSource, Part, Say

_PREFIX = {"train": "train", "test": "t10k"}
_KINDS = {"images-idx3-ubyte": 3, "labels-idx1-ubyte": 1}


class MnistSource(ImageSource):
    """MNIST in torchvision's layout.

    Args:
        data_dir: Folder that holds, or will hold, `MNIST/raw`.
    """

    image_size: ClassVar[int] = 28
    validation_fraction: ClassVar[float] = 1 / 6
    flip: ClassVar[bool] = False

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._root = data_dir
        self._folder = data_dir / "MNIST" / "raw"

    @property
    def name(self) -> str:
        """Its name."""
        return "mnist"

    def require(self, say: Say) -> None:
        """Download the four files where one is missing."""
        missing = [
            f"{prefix}-{kind}"
            for prefix in _PREFIX.values()
            for kind in _KINDS
            if self._find(f"{prefix}-{kind}") is None
        ]
        if not missing:
            return
        say(f"downloading MNIST (11 MB) to {self._root / 'MNIST'}")
        try:
            self._download()
        except DownloadError as error:
            raise DataError(
                f"MNIST is not in {self._folder} (missing: {', '.join(missing)}) and "
                f"cannot be downloaded ({error}); put the four files there, gzipped or not, "
                "choose another --data-dir, or use --dataset digits, which needs no download"
            ) from error

    def fingerprint(self, part: Part) -> object:
        """Sizes and times of the two files of the part."""
        return [file_fingerprint(self._path(part, kind)) for kind in _KINDS]

    def decode(self, part: Part, image_size: int) -> Decoded:
        """Read the two IDX files of the part."""
        images, labels = (read_idx(self._path(part, kind), n) for kind, n in _KINDS.items())
        if len(images) != len(labels):
            raise DataError(
                f"MNIST's {part} part in {self._root} has {len(images)} images but {len(labels)} "
                "labels; delete the files and let them be downloaded again"
            )
        return Decoded(
            images=torch.from_numpy(images[:, None]),
            labels=torch.from_numpy(labels.astype(np.int64)),
            n_classes=10,
        )

    def _find(self, name: str) -> Path | None:
        candidates = (self._folder / name, self._folder / f"{name}.gz")
        return next((path for path in candidates if path.is_file()), None)

    def _path(self, part: Part, kind: str) -> Path:
        name = f"{_PREFIX[part]}-{kind}"
        path = self._find(name)
        if path is None:
            raise DataError(
                f"{self._folder / name} (or {name}.gz) is missing; put MNIST's four "
                "files there, or use --dataset digits, which needs no download"
            )
        return path

    def _download(self) -> None:
        # Imported here: workers read the cache and need no torchvision.
        from torchvision import datasets

        def fetch(folder: Path) -> None:
            datasets.MNIST(str(folder), train=True, download=True)

        download_into(self._root / "MNIST", list(datasets.MNIST.mirrors), fetch)


def read_idx(path: Path, n_dimensions: int) -> NDArray[np.uint8]:
    """Read an array of bytes in the IDX format: magic number, shape (big endian), values.

    Args:
        path: The file, gzipped where its name ends in `.gz`.
        n_dimensions: How many dimensions it must have.

    Raises:
        DataError: If the file is not of that kind, or is cut off.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete it to download it again"
        ) from error
    header = 4 + 4 * n_dimensions
    if content[:4] != bytes([0, 0, 8, n_dimensions]) or len(content) < header:
        raise DataError(f"{path} is not an IDX file of bytes; delete it to download it again")
    shape = [int(size) for size in np.frombuffer(content, ">i4", n_dimensions, offset=4)]
    if len(content) != header + int(np.prod(shape)):
        raise DataError(
            f"{path} has {len(content)} bytes instead of {header + int(np.prod(shape))}; "
            "delete it to download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
