"""Between our search spaces and those of the peers: columns that any library can declare.

`columns` describes a space as floats, integers and choices; a peer declares these in its own words
and hands the values it draws to `configuration`, which drops what is inactive. Peers that take a
`ConfigurationSpace` get it from `with_configspace`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import ConfigSpace as cs

from raytune_ahu.space import SearchSpace
from raytune_ahu.space.declaration import Parameter
from raytune_ahu.space.discrete import Choice, Ordinal
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.nested import flatten
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps
from raytune_ahu.space.to_configspace import represent
from raytune_ahu.types import Configuration

Translate: TypeAlias = Callable[[Mapping[str, Any]], Configuration]


@dataclass(frozen=True)
class Column:
    """One parameter that can vary, as a peer sees it."""

    name: str
    """Flat name."""
    kind: Literal["float", "int", "choice"]
    """Choices are given by their index; ordinals are integers, for their order."""
    lower: float
    """Smallest value; of a choice 0."""
    upper: float
    """Largest value, inclusive; of a choice its last index."""
    log: bool
    """Whether the values are drawn uniformly in their logarithm."""
    domain: Domain
    """What our space makes of it."""
    parents: frozenset[str]
    """Flat names of the parameters that decide whether it is active; empty: always active."""

    def coordinate(self, value: Any) -> float:
        """Coordinate in our unit cube of a value that a peer has drawn."""
        match self.domain:
            case Choice() | Ordinal():
                return self.domain.encode(self.domain.values[int(value)])
            case Steps():
                return self.domain.encode(int(value) * (self.domain.q or 1))
            case Real():
                return self.domain.encode(min(max(float(value), self.lower), self.upper))
        return float(value)


def columns(space: SearchSpace) -> list[Column]:
    """Describe a space; parents come before their children."""
    declared = {parameter.name: parameter for parameter in space.declaration.parameters}
    waiting = [_column(declared[name]) for name in space.names]
    ordered: list[Column] = []
    while waiting:
        unseen = {column.name for column in waiting}
        ready = [column for column in waiting if not column.parents & unseen]
        ordered += ready
        waiting = [column for column in waiting if column not in ready]
    return ordered


def _column(parameter: Parameter) -> Column:
    domain = parameter.domain
    terms = [term for all_of in parameter.condition or () for term in all_of]
    parents = frozenset(term.name for term in terms)
    name = parameter.name
    match domain:
        case Real():
            return Column(name, "float", domain.lower, domain.upper, domain.log, domain, parents)
        case Steps():
            q = domain.q or 1
            lower, upper = round(domain.lower / q), round(domain.upper / q)
            return Column(name, "int", lower, upper, domain.log, domain, parents)
        case Ordinal():
            return Column(name, "int", 0, len(domain.values) - 1, False, domain, parents)
        case Choice():
            return Column(name, "choice", 0, len(domain.values) - 1, False, domain, parents)
    return Column(name, "float", 0.0, 1.0, False, domain, parents)  # its coordinate


def is_conditional(space: SearchSpace) -> bool:
    """Whether a parameter of the space is active only sometimes."""
    return any(p.condition is not None for p in space.declaration.parameters)


def configuration(space: SearchSpace, coordinates: Mapping[str, float]) -> Configuration:
    """Make a configuration of ours; what is inactive under its parents is dropped.

    Args:
        space: Our space.
        coordinates: By flat name; what is missing counts as inactive.
    """
    vector = space.defaults.copy()
    for i, name in enumerate(space.names):
        vector[i] = coordinates.get(name, vector[i])
    return space.decode(vector)


def is_active(space: SearchSpace, name: str, coordinates: Mapping[str, float]) -> bool:
    """Whether a parameter is active, the coordinates of its parents being known."""
    return name in flatten(configuration(space, coordinates))


def with_configspace(
    space: SearchSpace, *, ordinals: bool = True
) -> tuple[cs.ConfigurationSpace, Translate]:
    """Make a `ConfigurationSpace`, and what translates its values into configurations of ours.

    Args:
        space: Our space.
        ordinals: Whether the peer knows ordinals. One that does not gets a space that has any as
            integers and choices without conditions; we drop what is inactive.
    """
    described = columns(space)
    if ordinals or not any(isinstance(column.domain, Ordinal) for column in described):
        return copy.deepcopy(space.configspace), lambda values: configspace_values(space, values)
    flat = cs.ConfigurationSpace()
    flat.add([_hyperparameter(column) for column in described])

    def translate(values: Mapping[str, Any]) -> Configuration:
        drawn = {column.name: column.coordinate(values[column.name]) for column in described}
        return configuration(space, drawn)

    return flat, translate


def _hyperparameter(column: Column) -> Any:
    if column.kind == "choice":
        return cs.CategoricalHyperparameter(column.name, list(range(int(column.upper) + 1)))
    name, lower, upper, log = column.name, column.lower, column.upper, column.log
    if column.kind == "int":
        return cs.UniformIntegerHyperparameter(name, int(lower), int(upper), log=log)
    return cs.UniformFloatHyperparameter(name, lower, upper, log=log)


def configspace_values(space: SearchSpace, values: Mapping[str, Any]) -> Configuration:
    """Translate values drawn from `space.configspace` into a configuration of ours."""
    domains = {p.name: p.domain for p in space.declaration.parameters}
    names = set(space.names)
    coordinates = {
        name: _coordinate(domains[name], value) for name, value in values.items() if name in names
    }
    return configuration(space, coordinates)


def _coordinate(domain: Domain, shown: Any) -> float:
    match domain:
        case Choice() | Ordinal():
            return domain.encode(next(v for v in domain.values if represent(domain, v) == shown))
        case Steps():
            return domain.encode(int(shown) * (domain.q or 1))
        case Real() if represent(domain, domain.upper) == domain.upper:
            return domain.encode(min(max(float(shown), domain.lower), domain.upper))
    return float(shown)
