"""Where the retrained winner of each script goes. Start with `export_image_classifier`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from winner import Exported

from raytune_ahu.adapters.retraining import Tested
from trainables.exporting import export_classifier
from trainables.image_trainable import ImageTrainable
from trainables.model_card import CARD_FILE, ModelCard

FOLDER = "export"
"""The exported model, in the folder of the run that found it."""


def export_image_classifier(tested: Tested, card: ModelCard, run: Path) -> Exported:
    """Write the first seed's classifier, as a program and as weights, with its card.

    Raises:
        CheckpointError: If its checkpoint is damaged, or the program answers otherwise.
        StorageError: If it cannot be written.
    """
    trainable = tested.fitted.restore(0)
    assert isinstance(trainable, ImageTrainable)
    folder = export_classifier(run / FOLDER, trainable, replace(card, data=trainable.describe()))
    return Exported(folder, f"cat {shlex.quote(str(folder / CARD_FILE))}")
