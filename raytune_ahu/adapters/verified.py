"""A checksum for every checkpoint, whatever trainable wrote it.

`with_manifests(MyTrainable)` behaves like `MyTrainable`; its checkpoints carry a `manifest.json`
with size and SHA-256 of each file, and one that does not agree with it is not loaded. Checkpoints
that `save_checkpoint` returns as a dict are written by Ray afterwards and have no manifest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune import Trainable

from raytune_ahu.manifest import verify_manifest, write_manifest


def with_manifests(trainable: type[Trainable]) -> type[Trainable]:
    """Return a subclass that writes and verifies manifests.

    A class that verifies its checkpoints itself says so (`verifies_checkpoints = True`) and is
    returned as it is; so is what does not save to a folder (Ray's function trainables).
    """
    own = trainable.save_checkpoint is not Trainable.save_checkpoint
    if getattr(trainable, "verifies_checkpoints", False) or not own:
        return trainable

    class Verified(trainable):
        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
            returned: dict[str, Any] | None = super().save_checkpoint(checkpoint_dir)
            if not isinstance(returned, dict):
                write_manifest(Path(checkpoint_dir))
            return returned

        def load_checkpoint(self, checkpoint: Any) -> None:
            if isinstance(checkpoint, str):
                verify_manifest(Path(checkpoint))
            super().load_checkpoint(checkpoint)

    Verified.__name__, Verified.__qualname__ = trainable.__name__, trainable.__qualname__
    Verified.__doc__ = trainable.__doc__
    return Verified
