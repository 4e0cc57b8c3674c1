"""How good lists of recommendations are: ranking metrics over all items, and what surrounds them.

Notation: user u has the positives P_u (what is to be found), |P_u| of them; hit_j is 1 if the item
at place j = 1, 2, ... of u's list is a positive, else 0. The list holds the k items of highest
score among those that u has not seen. For each user with a positive, at each k (Jarvelin &
Kekalainen 2002 for NDCG; all of them with binary relevance):

    dcg@k       = sum over j <= k of hit_j / log2(j + 1)
    ndcg@k      = dcg@k / (sum over j <= min(k, |P_u|) of 1 / log2(j + 1))
    recall@k    = hits in the first k / |P_u|
    precision@k = hits in the first k / k
    hit@k       = 1 if there is a hit in the first k, else 0
    mrr@k       = 1 / place of the first hit, if that is within the first k, else 0
    map@k       = (sum over j <= k of hit_j * precision@j) / min(k, |P_u|)
    novelty@k   = mean of -log2(share of users who have the item) over the list, in bits (Zhou et
                  al. 2010); an item that nobody has counts as one that one user has

and over all these users together:

    coverage@k        = share of all items that stand in anybody's list
    popularity_bias@k = mean popularity of an item in a list / mean popularity of an item in a
                        history, both averaged within each user first; 1 is no bias (one more than
                        the delta-GAP of Abdollahpouri et al. 2019)

Start with `rank`; `paired_test` compares two models over the same users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raytune_ahu.errors import DataError, SpecError
from trainables.data.user_items import UserItems
from trainables.paired import PairedTest, paired_test
from trainables.ties import Ties

Scores = Callable[[Tensor, UserItems], Tensor]
"""(users (b,) int64, what is known of all users) to scores (b, n_items); higher is better."""

BLOCK = 2**22
"""Scores held at a time (16 MB; with ties six times that). More is no faster on a CPU."""


@dataclass(frozen=True)
class Ranking:
    """What `rank` found, on the CPU. If a score was NaN, all values are, and lists are empty."""

    users: Tensor
    """(n,), int64: the evaluated users, ascending."""
    lists: Tensor
    """(n, largest k), int64: each user's recommendations, the best first; -1 where none is left."""
    per_user: dict[str, Tensor]
    """"ndcg@10" and so on: (n,), float64, one value for each of `users`."""
    overall: dict[str, float]
    """"coverage@10" and "popularity_bias@10", which no single user has."""

    def means(self) -> dict[str, float]:
        """Return all values: means over users, and what is overall."""
        return {name: float(v.mean()) for name, v in self.per_user.items()} | self.overall

    def standard_error(self, name: str) -> float:
        """Return the standard error of a mean over users; NaN for a single user.

        Raises:
            SpecError: If `name` is not a mean over users.
        """
        values = self._values(name)
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    def compare(self, other: Ranking, name: str) -> PairedTest:
        """Test whether this ranking's mean differs from another's, over the same users.

        Raises:
            SpecError: If `name` is not a mean over users, or the users are not the same.
        """
        if not torch.equal(self.users, other.users):
            raise SpecError(
                f"rankings of {len(self.users)} and {len(other.users)} users must be of the same "
                "users to be paired; rank both with the same positives"
            )
        return paired_test(self._values(name), other._values(name))

    def _values(self, name: str) -> Tensor:
        if name not in self.per_user:
            raise SpecError(f"metric {name!r} must be one of {', '.join(self.per_user)}")
        return self.per_user[name]


@torch.no_grad()
def rank(
    scores: Scores,
    *,
    history: UserItems,
    seen: UserItems,
    positives: UserItems,
    ks: Sequence[int] = (10,),
    popularity: Tensor | None = None,
    candidates: UserItems | None = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank all unseen items for every user with a positive, and measure (see the module).

    Equal scores are ordered at random, differently for each user but in every run alike; so a model
    that cannot tell items apart gets what chance gets, not what the numbering of the items gives.
    An item of score -inf is never recommended.

    Args:
        scores: The model.
        history: What the model is told of the users; the profiles of `popularity_bias`.
        seen: What is not to be recommended: training items, in the test validation items too. A
            positive that is seen as well can never be hit; it counts as missed.
        positives: What is to be found. Users without are left out. All on one device, on which
            everything is computed.
        ks: Lengths of lists, each at least 1.
        popularity: (n_items,): in how many users' training items each item is, for novelty and
            popularity bias. By default counted in `history`.
        candidates: If given, only these and the positives are ranked (see `sample_candidates`).
        block: Scores that are held in memory at a time.

    Raises:
        SpecError: If `ks` is empty or holds a number below 1.
        DataError: If no user has a positive.
    """
    if not ks or min(ks) < 1:
        raise SpecError(f"ks={list(ks)} must be one or more whole numbers of at least 1, as [10]")
    users = positives.counts.nonzero().squeeze(1)
    if not len(users):
        raise DataError("no user has an item to be found; give another split or more data")
    n_items, device = positives.n_items, users.device
    longest = min(max(ks), n_items)
    ties = Ties.of(positives.n_users, n_items, device)
    lists, hits, totals, finite = [], [], [], True
    for some in torch.split(users, max(1, block // n_items)):
        given = scores(some, history).to(device, torch.float32)
        finite = finite and not bool(given.max().isnan())
        relevant = _matrix(positives, some)
        if candidates is None:
            masked = given.clone()
        else:
            masked = given.masked_fill(~(relevant | _matrix(candidates, some)), -math.inf)
        masked[seen.of(some)] = -math.inf
        values, items = ties.top(masked, some, longest)
        lists.append(items.masked_fill(values == -math.inf, -1))
        hits.append(relevant.gather(1, items) & (values > -math.inf))
        totals.append(relevant.sum(1))
    top = torch.cat(lists)
    per_user = _accuracy(torch.cat(hits), torch.cat(totals), ks)
    counts = history.popularity if popularity is None else popularity.to(device)
    novelty, overall = _beyond_accuracy(top, ks, users, history, counts)
    per_user |= novelty
    if not finite:
        top = torch.full_like(top, -1)
        per_user = {name: torch.full_like(v, math.nan) for name, v in per_user.items()}
        overall = dict.fromkeys(overall, math.nan)
    per_user = {name: values.cpu() for name, values in per_user.items()}
    return Ranking(users.cpu(), top.cpu(), per_user, overall)


def sample_candidates(
    excluded: UserItems, rng: np.random.Generator, n: int = 99, *, users: Tensor | None = None
) -> UserItems:
    """Draw items for each user, for metrics as the literature on NCF has them (He et al. 2017).

    With leave-one-out each positive then competes with `n` items instead of all. This is not the
    default because it answers another question, and may order models differently (Krichene &
    Rendle, "On sampled metrics for item recommendation", KDD 2020). Use it only to compare with
    published figures, and draw once, so that all models meet the same items. Several positives of
    one user compete with each other too.

    Args:
        excluded: What is not to be drawn: each user's seen items and positives. On the CPU.
        rng: Where the draw comes from. Takes n_items numbers for each user.
        n: Items for each user, without repetition; fewer where not so many are left.
        users: (n_users,), bool: for whom to draw, on the CPU; None: for all.

    Raises:
        SpecError: If `n` is below 1.
    """
    if n < 1:
        raise SpecError(f"n={n} candidates must be at least 1; the usual number is 99")
    n_items = excluded.n_items
    rows, items = [], []
    chosen = torch.arange(excluded.n_users) if users is None else users.nonzero().squeeze(1)
    for some in torch.split(chosen, max(1, BLOCK // n_items)):
        keys = torch.from_numpy(rng.random((len(some), n_items)))
        keys[excluded.of(some)] = -1.0
        values, drawn = keys.topk(min(n, n_items), 1)
        row, column = (values >= 0).nonzero(as_tuple=True)
        rows.append(some[row])
        items.append(drawn[row, column])
    return UserItems.from_pairs(
        torch.cat(rows).numpy(), torch.cat(items).numpy(), excluded.n_users, n_items
    )


def _matrix(some: UserItems, users: Tensor) -> Tensor:
    """(b, n_items), bool: who has what."""
    matrix = torch.zeros(len(users), some.n_items, dtype=torch.bool, device=users.device)
    matrix[some.of(users)] = True
    return matrix


def _accuracy(hits: Tensor, totals: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
    """Compute the metrics of hits (n, longest) bool for users with `totals` (n,) positives."""
    longest = hits.shape[1]
    gains = hits.double()
    places = torch.arange(1, max(*ks, longest) + 1, device=hits.device, dtype=torch.float64)
    discounts = 1 / torch.log2(places + 1)
    ideal = discounts.cumsum(0)
    count = gains.cumsum(1)
    dcg = (gains * discounts[:longest]).cumsum(1)
    precision_sum = (gains * count / places[:longest]).cumsum(1)
    reciprocal = (gains / places[:longest]).cummax(1).values
    result = {}
    for k in sorted(set(ks)):
        last = min(k, longest) - 1
        possible = totals.clamp(max=k)
        result[f"ndcg@{k}"] = dcg[:, last] / ideal[possible - 1]
        result[f"recall@{k}"] = count[:, last] / totals
        result[f"hit@{k}"] = (count[:, last] > 0).double()
        result[f"precision@{k}"] = count[:, last] / k
        result[f"mrr@{k}"] = reciprocal[:, last]
        result[f"map@{k}"] = precision_sum[:, last] / possible
    return result


def _beyond_accuracy(
    lists: Tensor, ks: Sequence[int], users: Tensor, history: UserItems, popularity: Tensor
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Compute novelty for each user, and coverage and popularity bias."""
    filled, items = lists >= 0, lists.clamp(min=0)
    share = popularity.double() / history.n_users
    bits = (-torch.log2(share.clamp(min=1 / history.n_users)))[items] * filled
    listed = share[items] * filled
    rows, known = history.of(users)
    sums = torch.zeros(len(users), dtype=torch.float64, device=users.device)
    sums.index_add_(0, rows, share[known])
    counts = history.counts[users]
    profile = (sums / counts)[counts > 0].mean()
    novelty, overall = {}, {}
    for k in sorted(set(ks)):
        lengths = filled[:, :k].sum(1).clamp(min=1)
        novelty[f"novelty@{k}"] = bits[:, :k].sum(1) / lengths
        shown = torch.bincount(items[:, :k][filled[:, :k]], minlength=len(popularity))
        overall[f"coverage@{k}"] = float((shown > 0).double().mean())
        bias = (listed[:, :k].sum(1) / lengths).mean() / profile
        overall[f"popularity_bias@{k}"] = float(bias)
    return novelty, overall
