"""A tuned recommender as a folder that can be carried away and asked for recommendations.

`export` writes it, `Recommender.load(folder).recommend(user_ids, k)` answers. Files of the folder:

    recommender.json                      what it is: model, hyperparameters, data, test values
    checkpoint.pt                         weights and interactions, with a checksum
    users.parquet, items.parquet          the id of each index, in the user's own terms, and counts
    user_embeddings.parquet, item_embeddings.parquet      id, embedding (where the model has them;
                                          recommender.json says whether their products are scores)
    README.md                             the model card, of one that was retrained
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raytune_ahu.errors import CheckpointError, DataError
from trainables.checkpoint import read_checkpoint, write_checkpoint
from trainables.data.interactions import Ids
from trainables.data.user_items import RecommenderData, UserItems
from trainables.hyperparameters import parse
from trainables.metrics import Scores
from trainables.model_card import CARD_FILE
from trainables.models.recommender_model import RecommenderModel
from trainables.models.recommenders import make_recommender
from trainables.recommender_hyperparameters import RecommenderHyperparameters
from trainables.replacing import replacing

FORMAT = 1
DESCRIPTION_FILE = "recommender.json"
_BLOCK = 2**22  # scores held at a time
_WHOLE = re.compile(r"-?[0-9]+")


def export(
    folder: Path,
    model: RecommenderModel,
    *,
    configuration: Mapping[str, Any],
    data: RecommenderData,
    known: UserItems,
    user_ids: Ids,
    item_ids: Ids,
    about: Mapping[str, Any],
    card: str | None = None,
) -> Path:
    """Write a recommender into a folder: under a temporary name first, then renamed.

    Args:
        folder: Where; one that is there is replaced.
        model: The trained model.
        configuration: Its hyperparameters.
        data: What it was trained on.
        known: All that is known of the users by now: what they are not recommended again.
        user_ids: (n_users,), the id of each user.
        item_ids: (n_items,), the id of each item.
        about: What else is worth knowing, JSON-ready.
        card: A model card in Markdown; None: none.

    Raises:
        StorageError: If the folder cannot be written.
    """
    with replacing(folder, "the recommender") as new:
        parts = {
            "train": data.train,
            "known": known,
            "user_features": data.user_features,
            "item_features": data.item_features,
        }
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        interactions = {name: _packed(part) for name, part in parts.items()}
        write_checkpoint(new, {"model": weights, "interactions": interactions})
        pd.DataFrame({"user": user_ids, "interactions": known.counts.cpu()}).to_parquet(
            new / "users.parquet"
        )
        pd.DataFrame({"item": item_ids, "interactions": known.popularity.cpu()}).to_parquet(
            new / "items.parquet"
        )
        model.eval()
        with torch.inference_mode():
            embeddings = model.embeddings()
        for kind, ids in (("users", user_ids), ("items", item_ids)):
            if kind in embeddings:
                one = kind.removesuffix("s")
                rows = list(embeddings[kind].float().cpu().numpy())
                frame = pd.DataFrame({one: ids, "embedding": rows})
                frame.to_parquet(new / f"{one}_embeddings.parquet")
        description = {
            "format": FORMAT,
            "scores_are_products_of_embeddings": model.scores_are_products,
            "configuration": dict(configuration),
            "users": len(user_ids),
            "items": len(item_ids),
            **about,
        }
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (new / DESCRIPTION_FILE).write_text(f"{text}\n", encoding="utf-8")
        if card is not None:
            (new / CARD_FILE).write_text(card, encoding="utf-8")
    return folder


def _packed(part: UserItems | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {"starts": part.starts.cpu(), "items": part.items.cpu(), "n_items": part.n_items}


@dataclass(frozen=True)
class Recommender:
    """A trained recommender that answers. Make one with `load`.

    Its model knows what it was trained on; as the history of a user it is given all that is known.
    """

    model: RecommenderModel
    """The model, in evaluation mode."""
    train: UserItems
    """What the model was trained on."""
    known: UserItems
    """All interactions that are known: users' histories, and what is not recommended again."""
    user_ids: Ids
    """(n_users,), the id of each user."""
    item_ids: Ids
    """(n_items,), the id of each item."""
    description: Mapping[str, Any]
    """What it is: `recommender.json`."""

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> Recommender:
        """Read an exported recommender.

        Args:
            path: The folder that `export` wrote, or the folder of a run that holds it.
            device: Where it is to compute, as torch names it.

        Raises:
            DataError: If there is none, or a newer release wrote it.
            CheckpointError: If it is damaged.
        """
        folder = _find(Path(path).expanduser())
        description = _read_description(folder)
        try:
            state = read_checkpoint(folder)
        except CheckpointError as error:
            reason = str(error).replace("use an older one", "export the recommender again")
            raise CheckpointError(reason) from error
        try:
            parts = {name: _unpacked(part) for name, part in state["interactions"].items()}
            user_ids = pd.read_parquet(folder / "users.parquet")["user"].to_numpy()
            item_ids = pd.read_parquet(folder / "items.parquet")["item"].to_numpy()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise CheckpointError(
                f"{folder} is not whole ({error}); export the recommender again"
            ) from error
        train, known = parts["train"], parts["known"]
        assert train is not None
        assert known is not None
        nothing = UserItems.from_pairs(
            np.empty(0, np.int64), np.empty(0, np.int64), train.n_users, train.n_items
        )
        data = RecommenderData(train, nothing, parts["user_features"], parts["item_features"])
        place = torch.device(device)
        h = parse(RecommenderHyperparameters, description["configuration"])
        with torch.random.fork_rng():
            model = make_recommender(h, data.to(place), place)
        model.load_state_dict(state["model"])
        model.eval()
        return cls(model, train.to(place), known.to(place), user_ids, item_ids, description)

    @torch.inference_mode()
    def recommend(
        self, user_ids: Iterable[Any], k: int = 10, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """Recommend items to users.

        Args:
            user_ids: Ids as in the data (not 196 where the data has "196"). A user who is not known
                gets the most popular items, and `source` says so; so does one whom the model was
                not trained on, unless it computes users from their history.
            k: Length of each list, at least 1. A list is shorter where no more items are left.
            exclude_seen: Whether items that a user has are left out.

        Returns:
            A row for each recommendation: `user`, `rank` (from 1), `item`, `score` (comparable
            within one user only), `source` (`model`, or `popularity` for unknown users).

        Raises:
            DataError: If `k` is out of range, or `user_ids` is a single text.
        """
        if isinstance(user_ids, str):
            raise DataError(f"user_ids={user_ids!r} must be a list of ids, not one text")
        if not isinstance(k, int) or not 1 <= k <= len(self.item_ids):
            raise DataError(
                f"k={k!r} must be a whole number in [1, {len(self.item_ids)}], the number of items"
            )
        asked = list(user_ids)
        places = pd.Index(self.user_ids, dtype=object).get_indexer(pd.Index(asked, dtype=object))
        answered = (places >= 0) & self._is_answered[places]
        popular = self.known.popularity.float()
        values = np.empty((len(asked), k), np.float32)
        items = np.empty((len(asked), k), np.int64)

        def fill(rows: NDArray[np.int64], scores: Scores) -> None:
            """Recommend to users who have interactions."""
            block = max(1, _BLOCK // len(self.item_ids))
            for start in range(0, len(rows), block):
                some = rows[start : start + block]
                users = torch.from_numpy(places[some]).to(popular.device)
                found = scores(users, self.known).float().clone()
                if exclude_seen:
                    found[self.known.of(users)] = -torch.inf
                best, which = found.topk(k)
                values[some], items[some] = best.cpu().numpy(), which.cpu().numpy()

        fill(np.flatnonzero(answered), self.model.scores)
        fill(
            np.flatnonzero(~answered & (places >= 0)),
            lambda users, _: popular.expand(len(users), -1),
        )
        best, which = popular.topk(k)
        values[places < 0], items[places < 0] = best.cpu().numpy(), which.cpu().numpy()
        left = values > -np.inf
        row, rank = left.nonzero()
        return pd.DataFrame(
            {
                "user": pd.Series(asked).repeat(k).to_numpy()[left.ravel()],
                "rank": rank + 1,
                "item": self.item_ids[items[left]],
                "score": values[left],
                "source": np.where(answered, "model", "popularity")[row],
            }
        )

    def read_ids(self, text: str) -> list[Any]:
        """Read user ids that are written with commas between them, in the type that the data has.

        What cannot be such an id is kept as text, and is then an unknown user.
        """
        names = [part.strip() for part in text.split(",") if part.strip()]
        if self.user_ids.dtype.kind not in "iu":
            return list(names)
        return [int(name) if _WHOLE.fullmatch(name) else name for name in names]

    @cached_property
    def _is_answered(self) -> NDArray[np.bool_]:
        """(n_users,): whom the model can say something about."""
        seen = self.known if self.model.uses_history else self.train
        return (seen.counts > 0).cpu().numpy()


def _find(path: Path) -> Path:
    for folder in (path, path / "recommender"):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    raise DataError(
        f"{path} holds no exported recommender ({DESCRIPTION_FILE}); tune one with "
        "scripts/tune_recommender.py, and give the run's folder"
    )


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); export it again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise DataError(f"{path} has another format than {FORMAT}; use the release that wrote it")
    return description


def _unpacked(part: Mapping[str, Any] | None) -> UserItems | None:
    return None if part is None else UserItems(part["starts"], part["items"], part["n_items"])
