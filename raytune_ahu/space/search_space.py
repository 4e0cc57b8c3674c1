"""`SearchSpace`: named domains with conditions and forbidden combinations. Start here.

Its two operations are `sample` (a random configuration) and the pair `encode`, `decode` (between a
configuration and a point of the unit cube, in which models work).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.bounds import with_bounds
from raytune_ahu.space.conditions import describe
from raytune_ahu.space.declaration import (
    Declaration,
    parse_declaration,
    with_beliefs,
    without_beliefs,
)
from raytune_ahu.space.files import read_file, write_file
from raytune_ahu.space.grid import check_drawable, count_grid, iterate_grid
from raytune_ahu.space.layout import Layout
from raytune_ahu.space.prior import Prior
from raytune_ahu.space.restrict import restrict
from raytune_ahu.space.summary import summary_table
from raytune_ahu.types import Configuration

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray


class SearchSpace:
    """Named domains, conditions and forbidden combinations.

    Symbols: d is the number of columns, one for each parameter that can vary. Constants are part of
    every configuration but have no column, and neither has a parameter that constants rule out. A
    `grid_search` parameter has one, as a category.

    Coordinates lie in [0, 1]: linear in the value or in its logarithm; for finite domains the
    centre of the value's cell; NaN where the parameter is inactive. Floats carry about 12
    significant digits (of their range; on a logarithmic scale, of themselves): those that `sample`
    and `decode` return, and any others with no more digits, come back exactly from
    `decode(encode(c))`.

    Args:
        declaration: What the user declared; see `from_dict`, `from_file`, `from_configspace`.

    Raises:
        SpaceError: If conditions are circular, or practically everything is forbidden.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        """What the user declared."""
        self._layout = Layout(declaration)
        self._domains = [self._layout.domains[slot] for slot in self._layout.columns]
        self.names: tuple[str, ...] = self._layout.names
        """Flat names of the columns, in the order of the declaration."""
        self.n_choices: NDArray[np.int64] = np.array(
            [domain.n_choices for domain in self._domains], dtype=np.int64
        )
        """[d] Number of categories of each column; 0 where the values have an order."""
        pairs = zip(self.names, self._domains, strict=True)
        self.grid_search_names: tuple[str, ...] = tuple(n for n, dom in pairs if dom.grid_only)
        """Flat names of the parameters that only a grid search may set."""
        self._default = self._legal_default()

    # Building and writing -----------------------------------------------------------------------

    @classmethod
    def from_dict(cls, declaration: Mapping[str, Any]) -> SearchSpace:
        """Build a space from the declarative form (see `raytune_ahu.space.declaration`).

        Raises:
            SpaceError: If the declaration is not valid; the message names the parameter.
        """
        return cls(parse_declaration(declaration))

    @classmethod
    def from_file(cls, path: str | Path) -> SearchSpace:
        """Build a space from a YAML or JSON file.

        Raises:
            SpaceError: If the file is absent, does not parse (the message gives the line), or
                declares no valid space. The message starts with the path.
        """
        written = read_file(Path(path))
        try:
            return cls.from_dict(written)
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}") from error

    @classmethod
    def from_configspace(cls, configspace: ConfigurationSpace) -> SearchSpace:
        """Build a space from a `ConfigurationSpace`; one made by `configspace` comes back exactly.

        Raises:
            SpaceError: If it holds something that cannot be represented, which the message names.
        """
        from raytune_ahu.space.from_configspace import declaration_of

        return cls.from_dict(declaration_of(configspace))

    def to_dict(self) -> dict[str, Any]:
        """Write the declaration as JSON-ready data; `from_dict` is the inverse."""
        return self.declaration.to_dict()

    def to_file(self, path: str | Path) -> None:
        """Write the declaration to a YAML or JSON file; `from_file` is the inverse.

        Raises:
            SpaceError: If the suffix is not .yaml, .yml or .json.
        """
        write_file(Path(path), self.to_dict())

    def restrict(self, name: str, values: Sequence[Any]) -> SearchSpace:
        """Return a smaller space, in which a choice or ordinal keeps only some of its values.

        Raises:
            SpaceError: As `raytune_ahu.space.restrict.restrict`.
        """
        return SearchSpace(restrict(self.declaration, name, values))

    def with_bounds(self, name: str, lower: float, upper: float) -> SearchSpace:
        """Return a space in which a numeric parameter has other bounds.

        Raises:
            SpaceError: As `raytune_ahu.space.bounds.with_bounds`.
        """
        return SearchSpace(with_bounds(self.declaration, name, lower, upper))

    def with_prior(self, prior: Mapping[str, Any]) -> SearchSpace:
        """Return the space with a belief about where good values are, for some parameters.

        They lose the prior that they had; other parameters keep theirs.

        Args:
            prior: By full name (`"model/width"`) or nested as configurations are, what may stand
                after `prior` in a file: a value, `{"value": 64, "confidence": "high"}`, or for a
                choice `{"weights": {"sgd": 1, "adam": 3}}`.

        Raises:
            SpaceError: If a name is unknown, or a prior is not valid for its domain.
        """
        return SearchSpace(with_beliefs(self.declaration, prior))

    def without_prior(self, *names: str) -> SearchSpace:
        """Return the space without the priors of these parameters; without names, of all.

        Raises:
            SpaceError: If a name is unknown.
        """
        return SearchSpace(without_beliefs(self.declaration, names))

    @cached_property
    def prior(self) -> Prior | None:
        """Where the user expects good configurations; None if no parameter carries a belief."""
        slots = self._layout.columns
        if all(self.declaration.parameters[slot].belief is None for slot in slots):
            return None
        return Prior(self._layout, self.defaults)

    @cached_property
    def configspace(self) -> ConfigurationSpace:
        """The space as ConfigSpace has it: the form for other tools of the field.

        Choices that are not all strings or all numbers are held there by their index, quantised
        values by their multiple of q, and floats whose bounds ConfigSpace would round by their
        coordinate. Its `meta` carries the declaration, from which `from_configspace` restores the
        space exactly.
        """
        from raytune_ahu.space.to_configspace import export

        exported: ConfigurationSpace = export(self._layout, self._default, self.to_dict())
        return exported

    def configspace_values(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Translate a configuration into the flat values that `configspace` knows."""
        from raytune_ahu.space.to_configspace import translate

        return translate(self._layout, self._layout.read(configuration))

    @property
    def is_conditional(self) -> bool:
        """Whether a parameter is inactive in some configurations."""
        return any(parameter.condition is not None for parameter in self.declaration.parameters)

    def digest(self) -> str:
        """Hash of the declaration (16 hex digits), the same in every process."""
        return hashlib.sha256(self._canonical.encode()).hexdigest()[:16]

    @cached_property
    def _canonical(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def summary(self) -> str:
        """Describe the parameters as a table of aligned text, one line each."""
        return summary_table(self.declaration)

    # Configurations -----------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Configuration:
        """Draw a configuration at random; forbidden combinations are drawn again.

        The space's own distributions are drawn from; `Prior.sample` draws from the prior.

        Args:
            rng: Source of all randomness; each attempt takes d uniform numbers from it.

        Raises:
            SpaceError: If a parameter is declared with `grid_search`, or practically everything is
                forbidden.
        """
        check_drawable(self.grid_search_names)
        return self._layout.nest(self._layout.draw(rng))

    def contains(self, configuration: Mapping[str, Any]) -> bool:
        """Whether `validate` accepts the configuration."""
        try:
            self.validate(configuration)
        except SpaceError:
            return False
        return True

    def validate(self, configuration: Mapping[str, Any]) -> None:
        """Check the values, which parameters are there, and the forbidden combinations.

        A list stands for the tuple with the same items, as after a round trip through JSON.

        Raises:
            SpaceError: If the configuration is not legal; the message names the parameter.
        """
        clause = self._layout.plan.broken_clause(self._layout.read(configuration))
        if clause is not None:
            raise SpaceError(
                f"the combination {describe((clause,))} is forbidden; change one of its values"
            )

    def default_configuration(self) -> Configuration:
        """The declared defaults, else the middle of each domain (of listed values the first).

        Where that combination is forbidden, it is some other legal one, always the same.
        """
        return self._layout.nest(self._default)

    def _legal_default(self) -> list[Any]:
        values = self._layout.locate(self.defaults)
        if self._layout.plan.broken_clause(values) is None:
            return values
        return self._layout.draw(np.random.default_rng(0))

    def restore(self, configuration: Mapping[str, Any]) -> Configuration:
        """Return a configuration as it was before JSON: with tuples where the space has tuples.

        Raises:
            SpaceError: If it is not legal (forbidden combinations pass).
        """
        layout = self._layout
        return layout.nest(layout.restored(layout.read(configuration)))

    # Grids --------------------------------------------------------------------------------------

    def grid(self, points_per_parameter: int | None = None) -> Iterator[Configuration]:
        """All combinations of the values of all parameters, lazily, the last one varying fastest.

        `grid_search`, `choice` and `ordinal` give all their values. Numeric domains give
        `points_per_parameter` values that are evenly spread in the coordinate, both ends included
        (all values, where there are no more). Inactive parameters are left out, so nothing comes
        twice; forbidden combinations are skipped.

        Raises:
            SpaceError: If a numeric domain is there and `points_per_parameter` is None.
        """
        return map(self._layout.nest, iterate_grid(self._layout, points_per_parameter))

    def n_grid_points(self, points_per_parameter: int | None = None) -> int:
        """Number of configurations of `grid`; with conditions, it counts them one by one."""
        return count_grid(self._layout, points_per_parameter)

    # The unit cube ------------------------------------------------------------------------------

    def encode(self, configuration: Mapping[str, Any]) -> NDArray[np.float64]:
        """Coordinates of a configuration.

        Forbidden combinations are encoded like others; `validate` tells them.

        Returns:
            [d] Coordinates in [0, 1], NaN where the parameter is inactive.

        Raises:
            SpaceError: If a value is illegal, missing, or there though inactive.
        """
        layout = self._layout
        return np.array(layout.coordinates(layout.read(configuration)), dtype=np.float64)

    def encode_many(self, configurations: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Coordinates of n configurations: [n, d]."""
        layout = self._layout
        rows = [layout.coordinates(layout.read(c)) for c in configurations]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))

    def decode(self, vector: NDArray[np.float64] | Sequence[float]) -> Configuration:
        """Configuration at the legal point nearest to a vector.

        Coordinates outside [0, 1] are moved to the nearer end, and those of parameters that are
        inactive under the decoded parents are ignored.

        Args:
            vector: [d] Coordinates.

        Raises:
            SpaceError: If the shape is wrong, the coordinate of an active parameter is NaN, or the
                combination is forbidden.
        """
        values = self._layout.locate(vector)
        clause = self._layout.plan.broken_clause(values)
        if clause is not None:
            raise SpaceError(f"the vector decodes to {describe((clause,))}, which is forbidden")
        return self._layout.nest(values)

    def try_decode(self, vector: NDArray[np.float64] | Sequence[float]) -> Configuration | None:
        """As `decode`, but None where the combination is forbidden."""
        values = self._layout.locate(vector)
        if self._layout.plan.broken_clause(values) is not None:
            return None
        return self._layout.nest(values)

    def repair(self, vector: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
        """Move a vector to the legal point nearest to it: cell centres, and NaN where inactive.

        Equal to `encode(decode(vector))`, but forbidden combinations pass.
        """
        return np.array(self._layout.coordinates(self._layout.locate(vector)), dtype=np.float64)

    @cached_property
    def defaults(self) -> NDArray[np.float64]:
        """[d] Coordinates of each parameter's own default, inactive ones too: never NaN."""
        return np.array([domain.encode(domain.start) for domain in self._domains], np.float64)

    # Python's own -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[Declaration]]:
        return SearchSpace, (self.declaration,)

    def __repr__(self) -> str:
        return f"SearchSpace({', '.join(self._layout.all_names)})"
