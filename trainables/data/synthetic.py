"""`synthetic`: interactions drawn from a known preference model, so that the best score is known.

Every user and item has a vector of d tastes. User u's logit of item i in phase t is

    z_t(u, i) = s * p_t(u) . q(i) + b(i),

with unit-length p, q normal with unit length on average, and b(i) the item's popularity (normal, so
that exp(b) is skewed). A user draws one item after another, each with probability proportional to
exp(z) among those not drawn yet. The first half of the draws is phase 0, the other half phase 1, in
which the user's taste has turned by an angle: recent interactions say more than old ones. Start
with `PlantedModel`; measure against `PlantedScores`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytune_ahu.seeding import generator
from trainables.data.interaction_rows import Interactions, features_of
from trainables.data.user_items import UserItems

_Floats = NDArray[np.float64]

_N_TOLD = 2
"""How many of its strongest tastes the features of a user or item tell."""
_P_TOLD_WRONG = 0.2
"""How often such a feature is a random one."""
_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True)
class PlantedSettings:
    """Size and shape of the planted model. The defaults are what `synthetic` is."""

    n_users: int = 600
    """Number of users."""
    n_items: int = 400
    """Number of items."""
    mean_interactions: float = 50.0
    """Interactions of a user on average; they vary log-normally, between 20 and half the items."""
    dimension: int = 8
    """d: number of tastes."""
    strength: float = 4.0
    """s: how much more than chance tastes decide."""
    skew: float = 1.0
    """Standard deviation of the popularity b."""
    turn: float = 0.6
    """Angle in radians between a user's early and late taste."""


class PlantedModel:
    """The model that the interactions of `synthetic` are drawn from.

    Args:
        seed: Root seed; the same seed gives the same model and the same interactions.
        settings: Size and shape.
    """

    def __init__(self, seed: int, settings: PlantedSettings | None = None) -> None:
        self._seed = seed
        self._settings = s = settings or PlantedSettings()
        rng = generator(seed, "data", "synthetic", "model")
        self._users = _directions(rng, s.n_users, s.dimension)
        sideways = _directions(rng, s.n_users, s.dimension)
        sideways -= (sideways * self._users).sum(1, keepdims=True) * self._users
        sideways /= np.linalg.norm(sideways, axis=1, keepdims=True)
        self._late_users = np.cos(s.turn) * self._users + np.sin(s.turn) * sideways
        self._items = rng.normal(size=(s.n_items, s.dimension)) / np.sqrt(s.dimension)
        self._popularity = s.skew * rng.normal(size=s.n_items)
        self._scale = s.strength

    @property
    def logits(self) -> tuple[_Floats, _Floats]:
        """(n_users, n_items) twice: z in phase 0 and in phase 1."""
        early, late = (
            self._scale * users @ self._items.T + self._popularity
            for users in (self._users, self._late_users)
        )
        return early, late

    def interactions(self) -> Interactions:
        """Draw the interactions: rows in order of time, ids from 1."""
        s = self._settings
        rng = generator(self._seed, "data", "synthetic", "interactions")
        counts = self._counts(rng)
        users, items, times = self._draw(rng, counts)
        order = np.argsort(times, kind="stable")
        data = Interactions(
            users=users[order],
            items=items[order],
            user_ids=np.arange(1, s.n_users + 1),
            item_ids=np.arange(1, s.n_items + 1),
            times=times[order],
        )
        rng = generator(self._seed, "data", "synthetic", "features")
        user_features, user_names = _told(rng, self._users, "likes")
        item_features, item_names = _told(rng, self._items, "has")
        return replace(
            data,
            user_features=user_features,
            item_features=item_features,
            user_feature_names=user_names,
            item_feature_names=item_names,
        )

    def _counts(self, rng: np.random.Generator) -> NDArray[np.int64]:
        s = self._settings
        spread = 0.5
        counts = rng.lognormal(np.log(s.mean_interactions) - spread**2 / 2, spread, s.n_users)
        return np.clip(np.rint(counts), min(20, s.n_items // 2), s.n_items // 2).astype(np.int64)

    def _draw(
        self, rng: np.random.Generator, counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Draw (n,) users, items and times in seconds; one step draws for all users at once."""
        weights = [np.exp(logits) for logits in self.logits]
        begin = rng.integers(0, _YEAR_S, len(counts))
        users, items, times = [], [], []
        for step in range(int(counts.max())):
            active = np.flatnonzero(counts > step)
            late = step >= counts[active] // 2
            chosen = np.where(late[:, None], weights[1][active], weights[0][active])
            levels = np.cumsum(chosen, axis=1)
            # Strictly below the total: the item found always has a weight.
            targets = (1 - rng.random(len(active))) * levels[:, -1]
            drawn = (levels < targets[:, None]).sum(1)
            for phase in weights:
                phase[active, drawn] = 0.0
            begin[active] += rng.integers(1, 7200, len(active))
            users.append(active)
            items.append(drawn)
            times.append(begin[active])
        return np.concatenate(users), np.concatenate(items), np.concatenate(times)


class PlantedScores:
    """The planted model as a recommender: no other can be expected to rank the test items better.

    That holds for the splits in which validation and test items are drawn in phase 1 (`user-time`
    and `leave-one-out`): there an item with a larger z is the likelier one, whatever has been drawn
    before. For the other splits it is a good model, not the best.

    Args:
        seed: Root seed of the interactions.
        user_ids: (n_users,), id of each user index.
        item_ids: (n_items,), id of each item index.
        settings: Settings of the interactions.
    """

    def __init__(
        self,
        seed: int,
        user_ids: NDArray[np.int64],
        item_ids: NDArray[np.int64],
        settings: PlantedSettings | None = None,
    ) -> None:
        late = PlantedModel(seed, settings).logits[1]
        self._scores = torch.from_numpy(late[user_ids - 1][:, item_ids - 1].astype(np.float32))

    def __call__(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items (b, n_items) for some users (b,); their history says nothing more."""
        return self._scores.to(users.device)[users]


@lru_cache(maxsize=2)
def synthetic_interactions(seed: int) -> Interactions:
    """Draw the interactions of `synthetic`; once in a process."""
    return PlantedModel(seed).interactions()


def _directions(rng: np.random.Generator, n: int, dimension: int) -> _Floats:
    vectors = rng.normal(size=(n, dimension))
    directions: _Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return directions


def _told(
    rng: np.random.Generator, vectors: _Floats, verb: str
) -> tuple[UserItems, tuple[str, ...]]:
    """Tell the strongest tastes of each vector (n, d), with some errors."""
    n, dimension = vectors.shape
    strongest = np.argsort(-vectors, axis=1)[:, :_N_TOLD]
    wrong = rng.random(strongest.shape) < _P_TOLD_WRONG
    told = np.where(wrong, rng.integers(0, dimension, strongest.shape), strongest)
    names = [[f"{verb}={taste}" for taste in row] for row in told.tolist()]
    return features_of(np.arange(n), dict(enumerate(names)))
