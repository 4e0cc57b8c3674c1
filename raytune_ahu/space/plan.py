"""How a declaration is evaluated: in which order, what is active, what is forbidden.

A `Plan` works on a list with one slot per parameter, in the order of the declaration; the slot of
an inactive parameter holds `INACTIVE`. Parents come before their children in `Plan.order`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import AllOf, Condition
from raytune_ahu.space.declaration import Declaration, Parameter
from raytune_ahu.space.discrete import Constant


class _Inactive:
    def __repr__(self) -> str:
        return "INACTIVE"


INACTIVE: Final = _Inactive()
"""Stands in the slot of a parameter that is not active."""

Test: TypeAlias = tuple[int, Callable[[Any], bool]]


class Plan:
    """A declaration made ready for fast evaluation.

    Args:
        declaration: The parameters and forbidden combinations.

    Raises:
        SpaceError: If conditions refer to each other in a circle.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.parameters = declaration.parameters
        self._slots = {p.name: i for i, p in enumerate(self.parameters)}
        self.order = _topological(self.parameters)
        self.conditions: list[Condition | None] = [None] * len(self.parameters)
        """Conditions by slot, without the terms that constants decide; () is never true."""
        for slot in self.order:
            self.conditions[slot] = self._simplified(self.parameters[slot].condition)
        self.forbidden = [t for t in map(self._decided, declaration.forbidden) if t is not None]
        """Forbidden combinations, without the terms that constants decide."""
        self._tests = [None if c is None else [self._test(t) for t in c] for c in self.conditions]
        self._clauses = [self._test(terms) for terms in self.forbidden]

    def _simplified(self, condition: Condition | None) -> Condition | None:
        if condition is None:
            return None
        possible: list[AllOf] = []
        for terms in map(self._decided, condition):
            if terms is not None and terms not in possible:
                possible.append(terms)
        return None if () in possible else tuple(possible)

    def _decided(self, terms: AllOf) -> AllOf | None:
        """Drop what is always true; None if something in it is never true."""
        open_terms = []
        for term in terms:
            slot = self._slots[term.name]
            domain, condition = self.parameters[slot].domain, self.conditions[slot]
            if condition == ():
                return None
            if isinstance(domain, Constant):
                if not term.predicate(domain)(domain.value):
                    return None
                if condition is None:
                    continue
            open_terms.append(term)
        return tuple(open_terms)

    def _test(self, terms: AllOf) -> list[Test]:
        slots = [self._slots[term.name] for term in terms]
        domains = [self.parameters[slot].domain for slot in slots]
        return [(s, t.predicate(d)) for s, t, d in zip(slots, terms, domains, strict=True)]

    def never_active(self, slot: int) -> bool:
        """Whether constants rule the parameter out for good."""
        return self.conditions[slot] == ()

    def is_active(self, slot: int, values: Sequence[Any]) -> bool:
        """Whether a parameter is active, given the values of its parents."""
        alternatives = self._tests[slot]
        return alternatives is None or any(_holds(tests, values) for tests in alternatives)

    def broken_clause(self, values: Sequence[Any]) -> AllOf | None:
        """The first forbidden combination that the values make; None if there is none."""
        for terms, tests in zip(self.forbidden, self._clauses, strict=True):
            if _holds(tests, values):
                return terms
        return None


def _holds(tests: list[Test], values: Sequence[Any]) -> bool:
    for slot, predicate in tests:
        value = values[slot]
        if value is INACTIVE or not predicate(value):
            return False
    return True


def _topological(parameters: Sequence[Parameter]) -> tuple[int, ...]:
    parents: dict[str, list[str]] = {}
    for parameter in parameters:
        terms = [term for terms in parameter.condition or () for term in terms]
        parents[parameter.name] = [term.name for term in terms]
    slots = {p.name: i for i, p in enumerate(parameters)}
    done: dict[str, None] = {}
    for name in parents:
        _visit(name, parents, done, [])
    return tuple(slots[name] for name in done)


def _visit(
    name: str, parents: dict[str, list[str]], done: dict[str, None], path: list[str]
) -> None:
    if name in path:
        circle = " -> ".join([*path[path.index(name) :], name])
        raise SpaceError(f"conditions go round in a circle: {circle}; remove one of them")
    if name in done:
        return
    for parent in parents[name]:
        _visit(parent, parents, done, [*path, name])
    done[name] = None
