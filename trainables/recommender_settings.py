"""The fixed values of an experiment with recommenders: data, filters, split, how it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raytune_ahu.errors import SpecError
from trainables.data.interaction_filters import DUPLICATES
from trainables.data.interaction_splits import SPLITS
from trainables.epoch_trainable import FITS, PRECISIONS
from trainables.hyperparameters import choice, number, switch, text, whole
from trainables.references import REFERENCES

RANKINGS = ("full", "sampled")
HISTORIES = ("all", "training")


@dataclass(frozen=True)
class RecommenderSettings:
    """The fixed values of an experiment with recommenders. All trials share them."""

    dataset: str = text("synthetic")
    """`synthetic`, `ml-100k`, `ml-1m`, or `file:PATH` (CSV, TSV or Parquet)."""
    data_dir: str | None = text(None, optional=True)
    """Folder of the data set's files and of their decoded form; absolute on every machine."""
    data_digest: str | None = text(None, optional=True)
    """Set when a run begins: what the interactions were, so that a resume notices a change."""
    columns: str | None = text(None, optional=True)
    """Columns of a file, as `user=...,item=...,rating=...,time=...`; null: these names."""
    min_rating: float | None = number(None, -1e9, 1e9, optional=True)
    """Ratings below it are left out; null: every interaction counts, whatever its rating."""
    duplicates: str = choice("first", DUPLICATES)
    """Which interaction of a user with the same item counts."""
    min_user_interactions: int = whole(3, 3, 1_000_000)
    """Users with fewer are left out (and so on with items, until nothing changes: the k-core)."""
    min_item_interactions: int = whole(1, 1, 1_000_000)
    """Items with fewer are left out."""
    split: str = choice("user-time", SPLITS)
    """`user-time`: each user's newest interactions are held out; `leave-one-out`: the newest one;
    `random`: any; `global-time`: those after a date, the same for all."""
    validation_fraction: float = number(0.1, 0.001, 0.9)
    """Share held out for validation (not with `leave-one-out`)."""
    test_fraction: float = number(0.1, 0.001, 0.9)
    """Share held out for the test (not with `leave-one-out`)."""
    k: str = text("10,5,20")
    """Lengths of the lists that are measured; the first is the one that is tuned."""
    ranking: str = choice("full", RANKINGS)
    """`full`: against all items that the user has not seen; `sampled`: against 99 of them, drawn
    once, for comparison with older papers only."""
    test_history: str = choice("all", HISTORIES)
    """What models are told of a user in the test: `all` that came before, as in use, so the
    validation interactions too, or the `training` interactions only, as older papers do. It matters
    to those that compute a user from a history (sasrec, mult-vae, ease, itemknn, ials)."""
    validation_users: int | None = whole(None, 1, 10**9, optional=True)
    """Validate on so many users only, drawn once; null: all. For large data."""
    references: str = text(",".join(REFERENCES))
    """Which references the winner is tested beside, or `none`. For large data, leave out those that
    take long: ials, and with many items itemknn and ease."""
    patience: int = whole(10, 1, 100_000)
    """A trial ends after so many epochs without a better validation metric."""
    seed: int = whole(0, 0, 2**62)
    """Root seed: split, initialisation, order, negatives, dropout. All trials share it; all but the
    split follow a configuration's `trial_seed` where there is one."""
    max_epochs: int = whole(81, 1, 100_000)
    """Epochs of a full training."""
    precision: str = choice("float32", list(PRECISIONS))
    """Number type of the forward pass."""
    deterministic: bool = switch(True)
    """Only reproducible algorithms on CUDA, where torch has them."""
    fit_on: str = choice("train", FITS)
    """`train+validation`: for a chosen configuration; nothing is validated then, no trial ends
    itself, and what is tested are the newest weights."""

    def __post_init__(self) -> None:
        read_cutoffs(self.k)
        read_references(self.references)
        if self.validation_fraction + self.test_fraction >= 1:
            raise SpecError(
                f"validation_fraction={self.validation_fraction:g} and test_fraction="
                f"{self.test_fraction:g} leave nothing to train on; their sum must be below 1"
            )

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """`k` as numbers."""
        return read_cutoffs(self.k)

    @property
    def metric(self) -> str:
        """The metric that is tuned."""
        return f"validation_{self.tuned}"

    @property
    def tuned(self) -> str:
        """The same as it is called in a `Ranking`."""
        return f"ndcg@{self.cutoffs[0]}"

    @property
    def loading(self) -> dict[str, Any]:
        """Which interactions, and how they are split: as `data.interactions` takes it."""
        return {
            "dataset": self.dataset,
            "data_dir": self.data_dir,
            "columns": self.columns,
            "min_rating": self.min_rating,
            "duplicates": self.duplicates,
            "min_user_interactions": self.min_user_interactions,
            "min_item_interactions": self.min_item_interactions,
            "seed": self.seed,
            "split": self.split,
            "validation_fraction": self.validation_fraction,
            "test_fraction": self.test_fraction,
        }


def read_references(names: str) -> tuple[str, ...]:
    """Read `ease,ials`, or `none`.

    Raises:
        SpecError: If a name is not known.
    """
    chosen = () if names == "none" else tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in REFERENCES:
            raise SpecError(
                f"references={names!r}: {name!r} must be one of {', '.join(REFERENCES)}; or none"
            )
    return chosen


def read_cutoffs(k: str) -> tuple[int, ...]:
    """Read `10,5,20`.

    Raises:
        SpecError: If it is not a list of different whole numbers in [1, 1000].
    """
    try:
        cutoffs = tuple(int(part) for part in k.split(","))
    except ValueError:
        cutoffs = ()
    if not cutoffs or len(set(cutoffs)) != len(cutoffs) or not all(1 <= c <= 1000 for c in cutoffs):
        raise SpecError(
            f"k={k!r} must be different whole numbers in [1, 1000] with commas between them, like "
            "10,5,20; the first is tuned"
        )
    return cutoffs
