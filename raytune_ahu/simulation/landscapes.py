"""The six landscapes of the synthetic tasks; each is built from a seed, which moves its optimum.

Notation is that of `raytune_ahu.simulation.power_law`: u a point of the unit cube, g(u) its
badness, b and c the size and the power of its learning curve's fall. Quadratic badness is
(u - u*)^T M (u - u*) with M positive definite: unequal importance of the parameters on the
diagonal, interactions beside it, scaled so that g is about 1 for a random configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raytune_ahu.seeding import generator
from raytune_ahu.simulation.power_law import BEST, CHANCE, Array, Landscape
from raytune_ahu.space import SearchSpace

_TRACE = 8.0  # of M: times about 1/8, the mean of a coordinate's (u - u*)^2, it makes g about 1


def _log(lower: float, upper: float) -> dict[str, Any]:
    return {"domain": "loguniform", "lower": lower, "upper": upper}


def _linear(lower: float, upper: float) -> dict[str, Any]:
    return {"domain": "uniform", "lower": lower, "upper": upper}


def _integer(lower: int, upper: int) -> dict[str, Any]:
    return {"domain": "randint", "lower": lower, "upper": upper}


_NETWORK: dict[str, Any] = {
    "learning_rate": _log(1e-5, 1.0),
    "weight_decay": _log(1e-7, 1e-1),
    "momentum": _linear(0.0, 0.99),
    "dropout": _linear(0.0, 0.8),
    "label_smoothing": _linear(0.0, 0.3),
    "layers": _integer(1, 8),
}
_BASINS: dict[str, Any] = {name: _NETWORK[name] for name in list(_NETWORK)[:4]}
_CROSSING: dict[str, Any] = {name: _NETWORK[name] for name in list(_NETWORK)[:5]}
_CHILDREN: dict[str, dict[str, Any]] = {
    "sgd": {"sgd_lr": _log(1e-4, 1.0), "sgd_momentum": _linear(0.0, 0.99)},
    "adam": {
        "adam_lr": _log(1e-5, 1e-1),
        "adam_beta1": _linear(0.5, 0.99),
        "adam_one_minus_beta2": _log(1e-4, 1e-1),
    },
    "rmsprop": {"rmsprop_lr": _log(1e-5, 1e-1), "rmsprop_alpha": _linear(0.8, 0.999)},
    "lamb": {
        "lamb_lr": _log(1e-4, 1.0),
        "lamb_clip": _linear(0.1, 10.0),
        "lamb_warmup": _integer(0, 9),
    },
}
_CONDITIONAL: dict[str, Any] = {
    "optimizer": {"domain": "choice", "values": list(_CHILDREN)},
    "weight_decay": _log(1e-7, 1e-1),
    "batch_size": {"domain": "lograndint", "lower": 16, "upper": 512},
} | {
    name: domain | {"when": {"optimizer": optimizer}}
    for optimizer, children in _CHILDREN.items()
    for name, domain in children.items()
}
_MANY: dict[str, Any] = (
    {f"x{i:02}": _linear(0.0, 1.0) for i in range(1, 9)}
    | {f"x{i:02}": _log(1e-4, 1.0) for i in range(9, 15)}
    | {f"x{i:02}": _integer(1, 16) for i in range(15, 17)}
    | {f"c{i}": {"domain": "choice", "values": list("abcd"[: i + 1])} for i in range(1, 4)}
    | {"c4": {"domain": "choice", "values": list("abcdef")}}
)


def smooth(seed: int) -> Landscape:
    """One bowl in 6 dimensions; epochs of many layers take up to five times as long as of few."""
    return _bowl("smooth", seed)


def noisy(seed: int) -> Landscape:
    """One bowl in 6 dimensions, seen through noise of 0.15 of the typical - best value."""
    return _bowl("noisy", seed, noise=0.15)


def _bowl(name: str, seed: int, noise: float = 0.0) -> Landscape:
    rng = generator(seed, "synthetic", name)
    space = SearchSpace.from_dict(_NETWORK)
    u_best = _draw_point(space, rng)
    layers, dropout = space.names.index("layers"), space.names.index("dropout")
    return Landscape(
        space=space,
        optimum=space.decode(u_best),
        badness=_quadratic(u_best, _draw_matrix(len(u_best), rng)),
        shape=_steady(rng.dirichlet(np.full(len(u_best), 0.5))),
        epoch_s=lambda u: 6.0 ** (0.9 * u[:, layers] + 0.1 * u[:, dropout] - 0.5),
        noise=noise,
    )


def multimodal(seed: int) -> Landscape:
    """Five basins in 4 dimensions; the deepest is the narrowest, so that most walks end elsewhere.

    g(u) is the least, over the basins k, of depth_k + |u - u_k|^2 / width_k^2.
    """
    rng = generator(seed, "synthetic", "multimodal")
    space = SearchSpace.from_dict(_BASINS)
    depths = np.array([0.0, 0.08, 0.15, 0.25, 0.35])
    widths = np.array([0.3, 0.4, 0.6, 0.5, 0.6])
    centres = [_draw_point(space, rng)]
    while len(centres) < len(depths):
        centre = rng.uniform(0.05, 0.95, len(space))
        if min(float(np.linalg.norm(centre - other)) for other in centres) > 0.4:
            centres.append(centre)

    def badness(u: Array) -> Array:
        squares = ((u[:, None, :] - np.array(centres)) ** 2).sum(axis=2)
        return np.asarray((depths + squares / widths**2).min(axis=1), np.float64)

    return Landscape(
        space=space,
        optimum=space.decode(centres[0]),
        badness=badness,
        shape=_steady(rng.dirichlet(np.full(len(space), 0.5))),
        epoch_s=_one_second,
    )


def conditional(seed: int) -> Landscape:
    """Four optimizers with 2 or 3 parameters of their own; one of them is best, by the seed.

    g(u) is the depth of the optimizer, and a bowl over its own and the two shared parameters, whose
    optimum is another one for each. Epochs of small batches take five times as long as of large.
    """
    rng = generator(seed, "synthetic", "conditional")
    space = SearchSpace.from_dict(_CONDITIONAL)
    root, batch = space.names.index("optimizer"), space.names.index("batch_size")
    shared = [space.names.index("weight_decay"), batch]
    depths = rng.permutation([0.0, 0.1, 0.2, 0.4])
    drawn = rng.uniform(0.15, 0.85, (len(depths), len(space)))
    drawn[:, root] = (np.arange(len(depths)) + 0.5) / len(depths)  # the centres of its cells
    points = np.array([space.repair(point) for point in drawn])
    columns = [[*shared, *(space.names.index(n) for n in own)] for own in _CHILDREN.values()]
    bowls = [
        _quadratic(points[k, own], _draw_matrix(len(own), rng)) for k, own in enumerate(columns)
    ]

    def badness(u: Array) -> Array:
        value = np.floor(u[:, root] * len(depths)).astype(int)
        g = np.empty(len(u))
        for k, own in enumerate(columns):
            mine = value == k
            g[mine] = depths[k] + bowls[k](u[np.ix_(mine, own)])
        return g

    return Landscape(
        space=space,
        optimum=space.decode(points[int(depths.argmin())]),
        badness=badness,
        shape=_steady(rng.dirichlet(np.full(len(space), 0.5))),
        epoch_s=lambda u: 5.0 ** (0.5 - u[:, batch]),
    )


def many(seed: int) -> Landscape:
    """20 parameters of which 4 numeric ones matter, by the seed; 4 are choices that do nothing."""
    rng = generator(seed, "synthetic", "many")
    space = SearchSpace.from_dict(_MANY)
    numeric = np.flatnonzero(space.n_choices == 0)
    matter = np.sort(rng.choice(numeric, 4, replace=False))
    u_best = _draw_point(space, rng)
    bowl = _quadratic(u_best[matter], _draw_matrix(len(matter), rng))
    weights = np.zeros(len(space))
    weights[matter] = rng.dirichlet(np.full(len(matter), 0.5))
    return Landscape(
        space=space,
        optimum=space.decode(u_best),
        badness=lambda u: bowl(u[:, matter]),
        shape=_steady(weights),
        epoch_s=_one_second,
    )


def crossing(seed: int) -> Landscape:
    """A bowl in 5 dimensions in which the first epochs mislead.

    A high learning rate and little weight decay make the loss fall faster; the optimum lies at a
    low rate and much decay. Good configurations start far above bad ones and overtake them.
    """
    rng = generator(seed, "synthetic", "crossing")
    space = SearchSpace.from_dict(_CROSSING)
    u_best = _draw_point(space, rng)
    rate, decay = space.names.index("learning_rate"), space.names.index("weight_decay")
    u_best[rate], u_best[decay] = rng.uniform(0.15, 0.4), rng.uniform(0.6, 0.85)
    u_best = space.repair(u_best)

    def shape(u: Array, h: Array) -> tuple[Array, Array]:
        slow = (1.0 - u[:, rate] + u[:, decay]) / 2
        return 0.2 + 2.1 * (1.0 - h) + 1.5 * slow, 1.1 - 0.2 * slow

    return Landscape(
        space=space,
        optimum=space.decode(u_best),
        badness=_quadratic(u_best, _draw_matrix(len(u_best), rng)),
        shape=shape,
        epoch_s=_one_second,
    )


def _draw_point(space: SearchSpace, rng: np.random.Generator) -> Array:
    """(d,) a legal point, away from the faces of the cube; NaN where inactive."""
    return space.repair(rng.uniform(0.15, 0.85, len(space)))


def _draw_matrix(d: int, rng: np.random.Generator) -> Array:
    """(d, d) M: positive definite, its trace `_TRACE`."""
    spread = np.sqrt(rng.permutation(np.geomspace(1.0, 0.1, d)))
    mixed = np.eye(d) + rng.standard_normal((d, d)) * 0.5 / np.sqrt(d)
    mixed = spread[:, None] * mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.asarray(_TRACE * mixed @ mixed.T / (spread**2).sum(), np.float64)


def _quadratic(centre: Array, matrix: Array) -> Callable[[Array], Array]:
    return lambda u: np.einsum("ni,ij,nj->n", u - centre, matrix, u - centre)


def _steady(weights: Array) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Curves that begin below `CHANCE`; a weighted mean of u says how slowly they fall."""

    def shape(u: Array, h: Array) -> tuple[Array, Array]:
        slow = 1.0 / (1.0 + np.exp(-9.0 * (np.nan_to_num(u, nan=0.5) @ weights - 0.5)))
        return (CHANCE - BEST) * (1.0 - h) * (0.3 + 0.7 * slow), 1.2 - 0.9 * slow

    return shape


def _one_second(u: Array) -> Array:
    return np.ones(len(u))
