"""A trained image classifier as a folder that needs none of this project's code.

Files of the folder:

    model.pt2             the program: raw images in, probabilities out (torch.export; `model.ts`,
                          TorchScript, where that cannot express the network)
    weights.safetensors   the network's weights alone, by their names
    configuration.json    hyperparameters, settings, input and output, all figures of the card
    README.md             the model card, with the code to load it

Start with `export_classifier`.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raytune_ahu.errors import CheckpointError
from trainables.data.augment import Normalise
from trainables.model_card import CARD_FILE, ModelCard
from trainables.replacing import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainables.image_trainable import ImageTrainable

PROGRAM_FILE = "model.pt2"
SCRIPT_FILE = "model.ts"
WEIGHTS_FILE = "weights.safetensors"
CONFIGURATION_FILE = "configuration.json"
_TOLERANCE = 1e-4  # of a probability; convolutions add up in another order
_CHECKED = 16  # images that the program is tried on


class Classifier(nn.Module):
    """Raw images (n, c, h, w), uint8, to probabilities (n, n_classes), float32.

    Args:
        network: The trained network, from normalised images to logits.
        normalise: How its images were normalised.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", normalise.scale)
        self.register_buffer("shift", normalise.shift)

    def forward(self, images: Tensor) -> Tensor:
        """Classify some images."""
        floats = torch.addcmul(self.shift, images.to(torch.float32), self.scale)
        logits: Tensor = self.network(floats)
        return logits.softmax(1)


def export_classifier(folder: Path, trainable: ImageTrainable, card: ModelCard) -> Path:
    """Write a trained classifier into a folder: under a temporary name first, then renamed.

    The program is tried on some training images before: it must answer as the network does.

    Args:
        folder: Where; one that is there is replaced.
        trainable: What was trained.
        card: What is to be said about it.

    Raises:
        CheckpointError: If the program answers otherwise than the network.
        StorageError: If the folder cannot be written.
    """
    from safetensors.torch import save

    training = trainable.training
    assert isinstance(training.transform, Normalise)
    model = Classifier(copy.deepcopy(training.model), training.transform)
    model = model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]  # torch documents it
    model.requires_grad_(False)
    images = training.train.take(slice(0, _CHECKED))[0].cpu()
    with replacing(folder, "the model") as new:
        file = _write_program(new, model, images)
        weights = {name: t.contiguous() for name, t in model.network.state_dict().items()}
        (new / WEIGHTS_FILE).write_bytes(save(weights))
        with torch.inference_mode():
            n_classes = model(images[:1]).shape[1]
        described = {
            "input": {"dtype": "uint8", "shape": ["n", *images.shape[1:]], "range": [0, 255]},
            "output": {"dtype": "float32", "shape": ["n", n_classes], "what": "probabilities"},
            "program": file,
            **card.to_dict(),
        }
        text = json.dumps(described, indent=2, ensure_ascii=False)
        (new / CONFIGURATION_FILE).write_text(f"{text}\n", encoding="utf-8")
        use = _use(file, list(images.shape[1:]), n_classes)
        (new / CARD_FILE).write_text(card.to_markdown(use), encoding="utf-8")
    return folder


def _write_program(folder: Path, model: Classifier, images: Tensor) -> str:
    """Write the program and return its file's name; TorchScript where torch.export cannot do it."""
    try:
        with _quiet():
            _write_exported(folder / PROGRAM_FILE, model, images)
            program = torch.export.load(folder / PROGRAM_FILE).module()
        _check(model, program, images)
        return PROGRAM_FILE
    except Exception as error:  # noqa: BLE001  # torch.export raises many kinds, for what it cannot
        (folder / PROGRAM_FILE).unlink(missing_ok=True)
        reason = error
    with _quiet():
        traced = torch.jit.trace(model, images[:2])  # type: ignore[no-untyped-call]
        torch.jit.save(traced, folder / SCRIPT_FILE)
        script = torch.jit.load(folder / SCRIPT_FILE)  # type: ignore[no-untyped-call]
    try:
        _check(model, script, images)
    except CheckpointError as error:
        raise error from reason
    return SCRIPT_FILE


def _write_exported(path: Path, model: Classifier, images: Tensor) -> None:
    shapes = {"images": {0: torch.export.Dim("n")}}
    program = torch.export.export(model, (images[:2],), dynamic_shapes=shapes)
    torch.export.save(program, path)


def _check(model: Classifier, program: Callable[[Tensor], Any], images: Tensor) -> None:
    """Compare the program with the network, on one image, two, and all.

    Raises:
        CheckpointError: If they differ.
    """
    with torch.inference_mode():
        for some in (images[:1], images[:2], images):
            difference = float((model(some) - program(some)).abs().max())
            if not difference <= _TOLERANCE:
                raise CheckpointError(
                    f"the exported program differs from the network by {difference:.2g} in a "
                    f"probability, more than {_TOLERANCE:g}; report this with the configuration"
                )


def _use(file: str, shape: list[int], n_classes: int) -> str:
    load = {
        PROGRAM_FILE: f'model = torch.export.load("{PROGRAM_FILE}").module()',
        SCRIPT_FILE: f'model = torch.jit.load("{SCRIPT_FILE}")',
    }[file]
    channels, height, width = shape
    return f"""
```python
import torch

{load}
probabilities = model(images)  # (n, {channels}, {height}, {width}), uint8 -> (n, {n_classes})
```

Needs torch alone. `images` are the raw pixels, from 0 to 255, channels first; the program
normalises them itself, and computes in float32 on the CPU (the test was measured in the number
type and on the device of the training). Images of another size are to be scaled
to {height} x {width} before (bilinear, with antialiasing). `{WEIGHTS_FILE}` holds the weights of
the network alone, `{CONFIGURATION_FILE}` all that is said here for programs.
"""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks about its own workings from the user."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
