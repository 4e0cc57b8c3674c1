"""Split interactions as tensors, and their form in the shared cache. Start with `Prepared.make`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.cache import Entry
from trainables.data.interaction_rows import Ids, Interactions
from trainables.data.interaction_splits import Splits
from trainables.data.user_items import RecommenderData, UserItems


@dataclass(frozen=True)
class Prepared:
    """Everything that trials, the final evaluation and serving need of a data set."""

    data: RecommenderData
    """What trials train and validate on."""
    test: UserItems
    """The test interactions."""
    before_test: UserItems
    """Training and validation interactions in one, still the oldest first."""
    known: UserItems
    """All interactions, also those of users that the split leaves out."""
    user_ids: Ids
    """(n_users,): the id of each user."""
    item_ids: Ids
    """(n_items,): the id of each item."""
    user_feature_names: tuple[str, ...]
    """What each feature of a user means."""
    item_feature_names: tuple[str, ...]
    """What each feature of an item means."""
    notes: tuple[str, ...]
    """What was dropped and what is odd, one sentence each."""

    @classmethod
    def make(cls, interactions: Interactions, splits: Splits) -> Prepared:
        """Put interactions and their split together."""
        return cls(
            data=RecommenderData(
                splits.train,
                splits.validation,
                interactions.user_features,
                interactions.item_features,
            ),
            test=splits.test,
            before_test=splits.before_test,
            known=splits.known,
            user_ids=interactions.user_ids,
            item_ids=interactions.item_ids,
            user_feature_names=interactions.user_feature_names,
            item_feature_names=interactions.item_feature_names,
            notes=(*interactions.notes, *splits.notes),
        )

    def digest(self) -> str:
        """Return 16 hex digits that change with any interaction, id or part of the split."""
        entry = self.to_entry()
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(entry.arrays):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(entry.arrays[name]).data)
        return digest.hexdigest()

    def to_entry(self) -> Entry:
        """Write it down as a cache entry."""
        parts = {
            "train": self.data.train,
            "validation": self.data.validation,
            "test": self.test,
            "before_test": self.before_test,
            "known": self.known,
            "user_features": self.data.user_features,
            "item_features": self.data.item_features,
        }
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, part in parts.items():
            if part is not None:
                arrays[f"{name}_starts"] = part.starts.numpy()
                arrays[f"{name}_items"] = part.items.numpy()
        arrays |= _ids_to_arrays("user_ids", self.user_ids)
        arrays |= _ids_to_arrays("item_ids", self.item_ids)
        meta = {
            "n_items": {name: part.n_items for name, part in parts.items() if part is not None},
            "user_feature_names": self.user_feature_names,
            "item_feature_names": self.item_feature_names,
            "notes": self.notes,
        }
        return Entry(arrays, meta)

    @classmethod
    def from_entry(cls, entry: Entry) -> Prepared:
        """Read it from a cache entry; the tensors share its memory."""

        def part(name: str) -> UserItems:
            starts, items = (
                torch.from_numpy(entry.arrays[f"{name}_{what}"]) for what in ("starts", "items")
            )
            return UserItems(starts, items, entry.meta["n_items"][name])

        def optional(name: str) -> UserItems | None:
            return part(name) if name in entry.meta["n_items"] else None

        return cls(
            data=RecommenderData(
                part("train"),
                part("validation"),
                optional("user_features"),
                optional("item_features"),
            ),
            test=part("test"),
            before_test=part("before_test"),
            known=part("known"),
            user_ids=_ids_from_arrays("user_ids", entry.arrays),
            item_ids=_ids_from_arrays("item_ids", entry.arrays),
            user_feature_names=tuple(entry.meta["user_feature_names"]),
            item_feature_names=tuple(entry.meta["item_feature_names"]),
            notes=tuple(entry.meta["notes"]),
        )


def _ids_to_arrays(name: str, ids: Ids) -> dict[str, NDArray[np.generic]]:
    """Text becomes UTF-8 bytes in a row, and where each id ends."""
    if ids.dtype != object:
        return {name: ids}
    encoded = [text.encode() for text in ids.tolist()]
    ends = np.cumsum([len(text) for text in encoded])
    return {f"{name}_ends": ends, f"{name}_utf8": np.frombuffer(b"".join(encoded), np.uint8)}


def _ids_from_arrays(name: str, arrays: dict[str, NDArray[np.generic]]) -> Ids:
    if name in arrays:
        return arrays[name]
    text = arrays[f"{name}_utf8"].tobytes()
    ends = arrays[f"{name}_ends"].tolist()
    names = [text[begin:end].decode() for begin, end in zip([0, *ends], ends, strict=False)]
    return np.array(names, object)
