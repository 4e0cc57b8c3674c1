"""`Prior`: where the user believes that good configurations are, as a density on the unit cube.

Each parameter that carries a `Belief` has a density of its own, relative to the uniform one, and
the prior is their product; parameters without one count 1.

- Continuous: a normal distribution of the coordinate (so of the logarithm, where the domain is
  logarithmic), cut off at 0 and 1. Its mean is the coordinate of the favourite, its standard
  deviation `STANDARD_DEVIATIONS[confidence]`.
- Ordered values with cells (integers, multiples of q, ordinals): a cell has the mass of that normal
  distribution, centred at the favourite's cell. Where cells are wide, the standard deviation is
  raised until the favourite's cell has no more mass than the favourite of a choice of as many
  values would have: who is sure of 5 out of {3, 5, 7} may still be off by one.
- Choices: the favourite gets the share `SHARES[confidence]` of the mass, and the rest is spread
  evenly over all values, the favourite too; so it is always above 1 / k. Weights are taken as they
  are given.

A prior of this form guides the search in PriorBand (Mallik et al. 2023) and piBO (Hvarfner et al.
2022). The deviations are our choice. NePS, the library of PriorBand's authors, has 0.5, 0.25 and
0.125 for low, medium and high; a deviation of 0.5 in [0, 1] is almost flat, so its medium and high
are our low and medium, and high is "I know the order of magnitude": 0.05 is a factor of 1.6 in a
range of four decades. The shares make the favourite of two values 70 %, 82 % and 95 % likely, of
eight 48 %, 69 % and 91 %.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.belief import Belief
from raytune_ahu.space.discrete import Choice
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.grid import check_drawable
from raytune_ahu.space.layout import Layout
from raytune_ahu.space.normal import Normal
from raytune_ahu.space.steps import Steps
from raytune_ahu.types import Configuration

Floats = NDArray[np.float64]

STANDARD_DEVIATIONS = {"low": 0.25, "medium": 0.125, "high": 0.05}
"""Of the coordinate, by confidence."""
SHARES = {"low": 0.4, "medium": 0.65, "high": 0.9}
"""What the favourite of a choice gets beside an equal share of the rest, by confidence."""
FLOOR = math.log(1e-6)
"""Lowest log density of one parameter: a prior may be wrong, so it rules nothing out. (HyperMapper,
by the authors of piBO, adds 1e-6 to its density.)"""

_MAX_CELLS = 4096
"""Domains with more values count as continuous: their cells are narrow beside any deviation."""
_TRIES = 256
"""Draws among which the mode is sought where the combination of all favourites is forbidden."""


class Prior:
    """The product of the user's beliefs; see the module for the densities.

    Symbols: d is the number of columns of the space, m that of the vectors asked about.

    Args:
        layout: The space. At least one of its columns must carry a belief.
        defaults: [d] Coordinates of each parameter's own default.
    """

    def __init__(self, layout: Layout, defaults: Floats) -> None:
        self._layout = layout
        believed = [
            (column, layout.domains[slot], belief)
            for column, slot in enumerate(layout.columns)
            if (belief := layout.parameters[slot].belief) is not None
        ]
        self.names: tuple[str, ...] = tuple(layout.names[column] for column, _, _ in believed)
        """Flat names of the parameters that carry a belief, in the order of the columns."""
        columns = zip(layout.names, layout.columns, strict=True)
        self._grid_search_names = [n for n, slot in columns if layout.domains[slot].grid_only]
        self._mode = defaults.copy()
        self._samplers: list[Callable[[float], Any]] = [
            layout.domains[slot].draw for slot in layout.columns
        ]
        normals: dict[int, _TruncatedNormal] = {}
        cells: dict[int, _Cells] = {}
        for column, domain, belief in believed:
            self._mode[column] = domain.encode(belief.favourite(domain))
            if isinstance(domain, Choice):
                probabilities = _probabilities(belief, domain)
                cells[column] = _Cells.of_choice(probabilities)
                self._samplers[column] = _choice_sampler(domain, probabilities)
                continue
            normal = _TruncatedNormal(self._mode[column], _deviation(belief, domain))
            self._samplers[column] = _normal_sampler(domain, normal)
            if _has_cells(domain):
                cells[column] = _Cells.of_ordered(domain, normal)
            else:
                normals[column] = normal
        self._normals = _Normals(normals)
        self._tables = _Tables(cells)

    def mode(self) -> Configuration:
        """The favourites, and the defaults of parameters without one.

        Where that combination is forbidden, the values that clash are drawn from the prior, and of
        what is legal then the densest is taken: always the same.

        Raises:
            SpaceError: If practically everything is forbidden.
        """
        layout = self._layout
        values = layout.locate(self._mode)
        clause = layout.plan.broken_clause(values)
        if clause is None:
            return layout.nest(values)
        clashing = [layout.names.index(t.name) for t in clause if t.name in layout.names]
        rng = np.random.default_rng(0)
        best: tuple[float, list[Any]] | None = None
        for _ in range(_TRIES):
            vector = self._mode.copy()
            vector[clashing] = self._draw_coordinates(clashing, rng)
            values = layout.locate(vector)
            if layout.plan.broken_clause(values) is None:
                density = self._log_density_of(values)
                if best is None or density > best[0]:
                    best = density, values
        return layout.nest(layout.draw(rng, self._samplers) if best is None else best[1])

    def sample(self, rng: np.random.Generator) -> Configuration:
        """Draw a configuration; forbidden combinations are drawn again.

        Parameters with a belief are drawn from the prior, the others from the space's own
        distribution.

        Args:
            rng: Source of all randomness; each attempt takes d uniform numbers from it.

        Raises:
            SpaceError: If a parameter is declared with `grid_search`, or practically everything is
                forbidden.
        """
        check_drawable(self._grid_search_names)
        return self._layout.nest(self._layout.draw(rng, self._samplers))

    def log_density(self, vectors: Floats) -> Floats:
        """Logarithm of the density, relative to the uniform one of the active coordinates.

        The density is that of the product: what conditions make rare and what is forbidden makes no
        difference. Coordinates outside [0, 1] are moved to the nearer end.

        Args:
            vectors: [m, d] Coordinates, NaN where a parameter is inactive; such count 0.

        Returns:
            [m] Finite: each parameter counts at least `FLOOR`.

        Raises:
            SpaceError: If the shape is wrong.
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        d = len(self._layout.columns)
        if vectors.ndim != 2 or vectors.shape[1] != d:
            raise SpaceError(
                f"vectors of shape {vectors.shape} must have shape (m, {d}), one coordinate per "
                "column"
            )
        return self._normals.log_density(vectors) + self._tables.log_density(vectors)

    def _draw_coordinates(self, columns: Sequence[int], rng: np.random.Generator) -> list[float]:
        layout = self._layout
        domains = [layout.domains[layout.columns[column]] for column in columns]
        numbers = rng.random(len(columns)).tolist()
        pairs = zip(columns, domains, numbers, strict=True)
        return [domain.encode(self._samplers[column](u)) for column, domain, u in pairs]

    def _log_density_of(self, values: Sequence[Any]) -> float:
        vector = np.array([self._layout.coordinates(values)], dtype=np.float64)
        return float(self.log_density(vector)[0])


class _TruncatedNormal:
    """A normal distribution cut off at 0 and 1, with its mean between them."""

    def __init__(self, mean: float, sd: float) -> None:
        self.mean = mean
        self.sd = sd
        self._low = float(special.ndtr(-mean / sd))
        self._mass = float(special.ndtr((1.0 - mean) / sd)) - self._low
        self.log_mass = math.log(self._mass)
        """Logarithm of the share of the whole normal distribution that lies in [0, 1]."""

    def quantile(self, u: float) -> float:
        """The coordinate below which a share u of the mass lies."""
        x = self.mean + self.sd * float(special.ndtri(self._low + u * self._mass))
        return min(max(x, 0.0), 1.0)

    def log_masses(self, edges: Floats) -> Floats:
        """Logarithms of the masses between n + 1 ascending edges: [n]."""
        z = (edges - self.mean) / self.sd
        low, high = z[:-1], z[1:]
        # Distribution functions are precise in the lower tail only; the upper one is turned round.
        turned = low > 0
        low, high = np.where(turned, -high, low), np.where(turned, -low, high)
        top = special.log_ndtr(high)
        masses: Floats = top + np.log1p(-np.exp(special.log_ndtr(low) - top)) - self.log_mass
        return masses


class _Cells:
    """A density that is constant on each of n cells of [0, 1].

    Args:
        log_density: [n] Its logarithm.
        first: On a logarithmic scale, the index of the smallest value; cell i then ends at
            log((first + i + 1) / first) / span. None: all cells are equally wide.
    """

    def __init__(self, log_density: Floats, first: int | None = None) -> None:
        self.table = np.maximum(log_density, FLOOR)
        self.first = first

    @classmethod
    def of_choice(cls, probabilities: Floats) -> _Cells:
        # Weights far apart leave a probability of zero.
        return cls(np.log(np.maximum(probabilities * len(probabilities), math.exp(FLOOR))))

    @classmethod
    def of_ordered(cls, domain: Domain, normal: _TruncatedNormal) -> _Cells:
        edges, scale = _edges(domain), _scale(domain)
        log_density = normal.log_masses(edges) - np.log(np.diff(edges))
        return cls(log_density, scale.first if isinstance(scale, Steps) and scale.log else None)


class _Normals:
    """The columns whose density is a truncated normal.

    Args:
        normals: By column.
    """

    def __init__(self, normals: dict[int, _TruncatedNormal]) -> None:
        self._columns = np.array(list(normals), dtype=np.intp)
        found = list(normals.values())
        self._means = np.array([n.mean for n in found])
        self._sds = np.array([n.sd for n in found])
        peaks = [-math.log(n.sd) - 0.5 * math.log(2 * math.pi) - n.log_mass for n in found]
        self._peaks = np.array(peaks)

    def log_density(self, vectors: Floats) -> Floats:
        """Sum over these columns: [m, d] -> [m]."""
        if not len(self._columns):
            return np.zeros(len(vectors))
        z = np.clip(vectors[:, self._columns], 0.0, 1.0)
        z -= self._means
        z /= self._sds
        z *= z
        z *= -0.5
        z += self._peaks
        np.maximum(z, FLOOR, out=z)  # keeps NaN
        z[np.isnan(z)] = 0.0
        total: Floats = z.sum(axis=1)
        return total


class _Tables:
    """The columns whose density is constant on cells.

    Args:
        cells: By column.
    """

    def __init__(self, cells: dict[int, _Cells]) -> None:
        found = list(cells.values())
        self._columns = np.array(list(cells), dtype=np.intp)
        self._sizes = np.array([len(c.table) for c in found], dtype=np.intp)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._table = np.concatenate([np.empty(0), *(c.table for c in found)])
        self._log = np.array([i for i, c in enumerate(found) if c.first is not None], np.intp)
        self._firsts = np.array([c.first for c in found if c.first is not None], np.float64)
        self._spans = np.log((self._firsts + self._sizes[self._log]) / self._firsts)

    def log_density(self, vectors: Floats) -> Floats:
        """Sum over these columns: [m, d] -> [m]."""
        if not len(self._columns):
            return np.zeros(len(vectors))
        x = vectors[:, self._columns]
        inactive = np.isnan(x)
        x[inactive] = 0.0
        np.clip(x, 0.0, 1.0, out=x)
        position = x * self._sizes
        if len(self._log):
            position[:, self._log] = self._firsts * np.expm1(x[:, self._log] * self._spans)
        index = np.minimum(position.astype(np.intp), self._sizes - 1)
        index += self._offsets
        density = self._table[index]
        density[inactive] = 0.0
        total: Floats = density.sum(axis=1)
        return total


def _scale(domain: Domain) -> Domain:
    return domain.scale if isinstance(domain, Normal) else domain


def _has_cells(domain: Domain) -> bool:
    n = domain.n_values
    return n is not None and n <= _MAX_CELLS


def _edges(domain: Domain) -> Floats:
    """[n + 1] Where the cells of an ordered domain with n values begin and end."""
    scale = _scale(domain)
    n = domain.n_values
    assert n is not None
    steps = np.arange(n + 1, dtype=np.float64)
    if isinstance(scale, Steps) and scale.log:
        steps = np.log1p(steps / scale.first)
    edges: Floats = steps / steps[-1]
    return edges


def _favoured(confidence: str, n: int) -> float:
    """Probability of the favourite among n values."""
    share = SHARES[confidence]
    return share + (1.0 - share) / n


def _probabilities(belief: Belief, domain: Choice) -> Floats:
    """[k] Probability of each value of a choice."""
    k = len(domain.values)
    if belief.weights is not None:
        weights = np.array(belief.weights)
        probabilities: Floats = weights / weights.sum()
        return probabilities
    even = np.full(k, (1.0 - SHARES[belief.confidence]) / k)
    even[domain.index(belief.value)] = _favoured(belief.confidence, k)
    return even


def _deviation(belief: Belief, domain: Domain) -> float:
    """Standard deviation of the coordinate."""
    sd = STANDARD_DEVIATIONS[belief.confidence]
    if not _has_cells(domain):
        return sd
    edges = _edges(domain)
    cell = int(np.searchsorted(edges, domain.encode(belief.value))) - 1
    width = float(edges[cell + 1] - edges[cell])
    most = _favoured(belief.confidence, len(edges) - 1)
    # The deviation with which the middle `width` of a normal distribution has the mass `most`.
    return max(sd, width / 2 / float(special.ndtri((1.0 + most) / 2)))


def _normal_sampler(domain: Domain, normal: _TruncatedNormal) -> Callable[[float], Any]:
    return lambda u: domain.decode(normal.quantile(u))


def _choice_sampler(domain: Choice, probabilities: Floats) -> Callable[[float], Any]:
    k = len(probabilities)
    cumulative = list(itertools.accumulate(probabilities.tolist()))

    def draw(u: float) -> Any:
        index = min(bisect.bisect_right(cumulative, u * cumulative[-1]), k - 1)
        return domain.decode((index + 0.5) / k)

    return draw
