"""When a parameter is active, and which combinations are forbidden: both are made of `Term`s.

A `Term` compares one parameter with given values. A `Condition` is an "any of" over "all of" terms
(a disjunction of conjunctions); a forbidden clause is one "all of". A term about a parameter that
is not active is false, whatever its operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.discrete import Constant
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.values import identity, plain, tag_tuples, untag_tuples

WHEN_OPERATORS = ("==", "!=", "in", "<", ">")
FORBIDDEN_OPERATORS = ("==", "in", "<", "<=", ">", ">=")

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True)
class Term:
    """One comparison of a parameter with values: `optimizer in (sgd, adam)`, `layers > 2`."""

    name: str
    """Flat name of the parameter that is looked at."""
    operator: str
    """One of ==, !=, in, <, <=, >, >=."""
    values: tuple[Any, ...]
    """What it is compared with: several values for `in`, else one."""

    def predicate(self, domain: Domain) -> Callable[[Any], bool]:
        """Make the test of a legal value of `domain`."""
        if self.operator in _ORDER:
            compare, bound = _ORDER[self.operator], domain.rank(self.values[0])
            rank = domain.rank
            return lambda value: compare(rank(value), bound)
        keys = frozenset(identity(value) for value in self.values)
        if self.operator == "!=":
            return lambda value: identity(value) not in keys
        return lambda value: identity(value) in keys

    def __str__(self) -> str:
        if self.operator == "in":
            return f"{self.name} in {{{', '.join(repr(value) for value in self.values)}}}"
        return f"{self.name} {self.operator} {self.values[0]!r}"

    def operand(self) -> Any:
        """What stands after the operator in a file."""
        tagged = [tag_tuples(value) for value in self.values]
        return tagged if self.operator == "in" else tagged[0]

    def written(self) -> Any:
        """What stands after the parameter's name in a file, if this is the only term about it."""
        operand = self.operand()
        if self.operator == "in":
            return operand
        if self.operator == "==":
            # A list or a dict that is one value says so, lest it be read as several.
            return {"==": operand} if isinstance(operand, (list, dict)) else operand
        return {self.operator: operand}


AllOf: TypeAlias = tuple[Term, ...]
"""Holds if every term holds; a forbidden clause is one of these."""
Condition: TypeAlias = tuple[AllOf, ...]
"""Holds if any of its conjunctions holds."""


def describe(condition: Condition) -> str:
    """A condition in words, such as `a == 1 and b > 2, or c == 3`."""
    return ", or ".join(" and ".join(str(term) for term in terms) for terms in condition)


def written_terms(terms: AllOf) -> dict[str, Any]:
    """An "all of" as it stands in a file; terms about the same parameter share an entry."""
    written: dict[str, Any] = {}
    for name in dict.fromkeys(term.name for term in terms):
        same = [term for term in terms if term.name == name]
        operators = {term.operator: term.operand() for term in same}
        if len(operators) != len(same):
            raise SpaceError(
                f"parameter {name!r} is compared twice with {same[-1].operator} in "
                f"{describe((terms,))}; write it as one comparison"
            )
        written[name] = same[0].written() if len(same) == 1 else operators
    return written


def written_condition(condition: Condition) -> dict[str, Any] | list[Any]:
    """A condition as it stands in a file: one mapping, or a list of them for "any of"."""
    mappings = [written_terms(terms) for terms in condition]
    return mappings[0] if len(mappings) == 1 else mappings


def parse_condition(written: Any, domains: Mapping[str, Domain], owner: str) -> Condition:
    """Read what stands after `when`.

    Args:
        written: A mapping (all must hold), or a list of mappings (any of them).
        domains: Domain of every parameter, by flat name.
        owner: Flat name of the parameter that has the condition.
    """
    alternatives = written if isinstance(written, (list, tuple)) else [written]
    if not alternatives:
        raise SpaceError("when=[] must name at least one parameter; leave it out instead")
    what = "condition"
    parsed = tuple(parse_terms(item, domains, WHEN_OPERATORS, what) for item in alternatives)
    if any(term.name == owner for terms in parsed for term in terms):
        raise SpaceError(f"when={written!r} refers to the parameter itself; name another one")
    return parsed


def parse_terms(
    written: Any, domains: Mapping[str, Domain], operators: Sequence[str], what: str
) -> AllOf:
    """Read a mapping of parameter names to values, lists of values, or `{operator: value}`."""
    if not isinstance(written, Mapping) or not written:
        raise SpaceError(
            f"{what} {written!r} must be a mapping of parameter names to values, "
            "such as {optimizer: sgd}"
        )
    terms: list[Term] = []
    for name, value in written.items():
        if name not in domains:
            raise SpaceError(_unknown(name, domains, what))
        terms.extend(_parse_value(name, value, domains[name], operators, what))
    return tuple(terms)


def _unknown(name: Any, domains: Mapping[str, Domain], what: str) -> str:
    same_end = [known for known in domains if known.split("/")[-1] == name]
    hint = f"; did you mean {same_end[0]!r}?" if same_end else ""
    return f"{what} on unknown parameter {name!r}, known are {', '.join(domains)}{hint}"


def _parse_value(
    name: str, written: Any, domain: Domain, operators: Sequence[str], what: str
) -> list[Term]:
    value = plain(untag_tuples(written))
    listed = isinstance(value, (list, tuple))
    is_one_value = domain.contains(value)
    if listed and value and all(domain.contains(item) for item in value):
        is_one_value = False
    if is_one_value or not isinstance(value, (list, tuple, dict)):
        return [Term(name, "==", (_legal(name, value, domain, what),))]
    if isinstance(value, dict):
        return [_parse_operator(name, op, v, domain, operators, what) for op, v in value.items()]
    return [_any_of(name, value, domain, what)]


def _any_of(name: str, values: Sequence[Any], domain: Domain, what: str) -> Term:
    if not values:
        raise SpaceError(f"{what} on {name!r} must list at least one value")
    items = tuple(_legal(name, item, domain, what) for item in values)
    return Term(name, "==" if len(items) == 1 else "in", items)


def _parse_operator(
    name: str, operator: str, value: Any, domain: Domain, operators: Sequence[str], what: str
) -> Term:
    if operator not in operators:
        raise SpaceError(
            f"{what} on {name!r} has operator {operator!r}, known are {' '.join(operators)}"
        )
    if operator == "in":
        if not isinstance(value, (list, tuple)):
            raise SpaceError(f"{what} on {name!r}: 'in' must be followed by a list of values")
        return _any_of(name, value, domain, what)
    if operator in _ORDER and not domain.is_ordered:
        raise SpaceError(
            f"{what} on {name!r} compares with {operator}, but a {domain.kind} has no order; "
            "declare it as ordinal, or list the values"
        )
    number = as_number(value)
    if number is not None and isinstance(domain, Constant):
        value = number
    if operator in _ORDER and isinstance(domain, Constant) and not _is_comparable(value):
        raise SpaceError(f"{what} on {name!r}: {operator} {value!r} must be followed by a number")
    return Term(name, operator, (_legal(name, value, domain, what),))


def _is_comparable(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _legal(name: str, value: Any, domain: Domain, what: str) -> Any:
    if domain.contains(value):
        return canonical(domain, value)
    if isinstance(domain, Constant):
        # Fixing a parameter in a copied file must not break the conditions on it.
        return value
    number = as_number(value)
    if number is not None and domain.contains(number):
        return canonical(domain, number)
    raise SpaceError(f"{what} on {name!r}: value {value!r} must be {domain.allowed}")


def canonical(domain: Domain, value: Any) -> Any:
    """The legal value as the domain hands it out, where it lists its values."""
    return domain.decode(domain.encode(value)) if domain.n_values is not None else plain(value)


def as_number(value: Any) -> float | None:
    """Read a number that YAML took for a string, such as 1e-4; None if it is not one."""
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() and not set(value) & set(".eE") else number
