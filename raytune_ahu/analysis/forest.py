"""A random forest over configurations, and the boxes of its leaves.

Start with `Forest`. Its leaves are handed out in terms of a population's grid: which points of each
parameter, and whether its being inactive, a leaf takes in. A categorical parameter is one column a
category for the trees, and one parameter for everybody else; an inactive one is a missing value,
which the trees send to the side that fits better.

Symbols: n trials, d parameters, t trees, l leaves, c = sum of (g_j + 1) points of all parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from raytune_ahu.analysis.population import Dimension
from raytune_ahu.search.model import Floats, Ints

Flags = NDArray[np.bool_]

_TREES_AT_ONCE = 8  # their nodes' boxes stay within some 20 MB
_SHARE_OF_COLUMNS = 0.5  # looked at for a split: with all of them, fewer interactions are found


@dataclass(frozen=True)
class Leaves:
    """Leaves of several trees."""

    accept: Flags
    """(l, c) which points each takes in: of each parameter its grid points, then "inactive"."""
    value: Floats
    """(l,) what it predicts, divided by the number of trees in the forest: predictions add up."""


class Forest:
    """A random forest (Breiman 2001) on encoded configurations.

    Args:
        dimensions: The parameters.
        x: (n, d) coordinates in [0, 1], NaN where inactive.
        y: (n,) what is predicted.
        seed: Seed of the trees.
        n_trees: t.
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        x: Floats,
        y: Floats,
        *,
        seed: int,
        n_trees: int = 64,
    ) -> None:
        self.dimensions = tuple(dimensions)
        self.starts: Ints = np.cumsum([0, *(len(dim) + 1 for dim in dimensions)])
        """(d + 1,) first point of each parameter in `Leaves.accept`."""
        self._columns = [
            (j, category)
            for j, dim in enumerate(dimensions)
            for category in (range(len(dim)) if dim.is_categorical else (-1,))
        ]
        self._forest = RandomForestRegressor(
            n_estimators=n_trees, max_features=_SHARE_OF_COLUMNS, random_state=seed % 2**32
        )
        self._forest.fit(self._encode(x), y)
        self._unseen = [_left_out(seen, len(x)) for seen in self._forest.estimators_samples_]

    def predict(self, x: Floats) -> Floats:
        """Return (n,) predictions at coordinates (n, d)."""
        return np.asarray(self._forest.predict(self._encode(x)))

    def out_of_bag(self, x: Floats) -> Floats:
        """Predict each trial by the trees that were not fitted to it.

        Args:
            x: (n, d) coordinates of the trials that the forest was fitted to, maybe changed.

        Returns:
            (n,) predictions; NaN where every tree has seen the trial.
        """
        encoded = self._encode(x).astype(np.float32)
        summed, count = np.zeros(len(x)), np.zeros(len(x))
        for tree, rows in zip(self._forest.estimators_, self._unseen, strict=True):
            if len(rows):
                summed[rows] += tree.tree_.predict(encoded[rows])[:, 0]
                count[rows] += 1
        with np.errstate(invalid="ignore"):
            return np.asarray(summed / np.where(count > 0, count, np.nan))

    def leaves(self) -> Iterator[Leaves]:
        """Hand out all leaves, some trees at a time."""
        trees = self._forest.estimators_
        for start in range(0, len(trees), _TREES_AT_ONCE):
            yield self._boxes([tree.tree_ for tree in trees[start : start + _TREES_AT_ONCE]])

    def _encode(self, x: Floats) -> Floats:
        """One column a number, one a category (0 everywhere where inactive)."""
        encoded = np.empty((len(x), len(self._columns)))
        for column, (j, category) in enumerate(self._columns):
            if category < 0:
                encoded[:, column] = x[:, j]
            else:
                with np.errstate(invalid="ignore"):
                    encoded[:, column] = np.floor(x[:, j] * len(self.dimensions[j])) == category
        return encoded

    def _boxes(self, trees: Sequence[object]) -> Leaves:
        """Follow all nodes of some trees down at once, narrowing their boxes at each split."""
        nodes = _Nodes(trees)
        accept = np.ones((len(nodes.feature), int(self.starts[-1])), dtype=bool)
        frontier = nodes.roots
        while len(frontier):
            split = frontier[nodes.feature[frontier] >= 0]
            for column in np.unique(nodes.feature[split]):
                here = split[nodes.feature[split] == column]
                j = self._columns[column][0]
                part = slice(self.starts[j], self.starts[j + 1])
                goes_left = self._goes_left(column, nodes.threshold[here], nodes.missing[here])
                left, right = nodes.left[here], nodes.right[here]
                accept[left] = accept[right] = accept[here]
                accept[left, part] &= goes_left
                accept[right, part] &= ~goes_left
            frontier = np.concatenate([nodes.left[split], nodes.right[split]])
        is_leaf = nodes.feature < 0
        return Leaves(accept[is_leaf], nodes.value[is_leaf] / len(self._forest.estimators_))

    def _goes_left(self, column: int, threshold: Floats, missing: Flags) -> Flags:
        """(m, g + 1) which points of the column's parameter m splits send left."""
        j, category = self._columns[column]
        dimension = self.dimensions[j]
        if category < 0:
            below = dimension.grid.astype(np.float32)[None, :] <= threshold[:, None]
            return np.concatenate([below, missing[:, None]], axis=1)
        other = np.arange(len(dimension) + 1) != category
        return np.broadcast_to(other, (len(threshold), len(other)))


def _left_out(seen: Ints, n: int) -> Ints:
    unseen = np.ones(n, dtype=bool)
    unseen[seen] = False
    return np.flatnonzero(unseen)


class _Nodes:
    """The nodes of several trees, one after the other."""

    def __init__(self, trees: Sequence[object]) -> None:
        parts: dict[str, list[NDArray[np.generic]]] = {}
        start = 0
        roots = []
        for tree in trees:
            roots.append(start)
            count = tree.node_count  # type: ignore[attr-defined]  # scikit-learn has no types
            for name in ("feature", "threshold", "missing_go_to_left"):
                parts.setdefault(name, []).append(getattr(tree, name))
            for name in ("children_left", "children_right"):
                parts.setdefault(name, []).append(getattr(tree, name) + start)
            parts.setdefault("value", []).append(tree.value[:, 0, 0])  # type: ignore[attr-defined]
            start += count
        joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        self.roots = np.array(roots)
        self.feature: Ints = joined["feature"]
        self.threshold: Floats = joined["threshold"]
        self.missing: Flags = joined["missing_go_to_left"].astype(bool)
        self.left: Ints = joined["children_left"]
        self.right: Ints = joined["children_right"]
        self.value: Floats = joined["value"]
