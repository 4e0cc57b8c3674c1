"""The trainables by name, and the search space file that each starts with."""

from __future__ import annotations

from pathlib import Path

from raytune_ahu.errors import SpecError
from trainables.cifar10_resnet import CifarResNetTrainable
from trainables.mnist import MnistTrainable
from trainables.ready_trainable import ReadyTrainable
from trainables.recommender import RecommenderTrainable

TRAINABLES: dict[str, type[ReadyTrainable]] = {
    "mnist": MnistTrainable,
    "resnet": CifarResNetTrainable,
    "recommender": RecommenderTrainable,
}
"""All trainables that a script can name."""

SPACES_FOLDER = Path(__file__).parent / "spaces"
"""Folder of the default search spaces."""


def default_space_path(trainable: type[ReadyTrainable], dataset: str) -> Path:
    """Return the default search space of a trainable for a data set: a file to copy and edit.

    It is `spaces/<name>_<dataset>.yaml` where there is one, else `spaces/<name>.yaml`, with the
    name that `TRAINABLES` gives the trainable.

    Raises:
        SpecError: If the trainable is not in `TRAINABLES`.
    """
    for name, known in TRAINABLES.items():
        if known is trainable:
            special = SPACES_FOLDER / f"{name}_{dataset.partition(':')[0]}.yaml"
            return special if special.is_file() else SPACES_FOLDER / f"{name}.yaml"
    raise SpecError(f"{trainable.__name__} has no default search space; give one with --space")
