"""A smaller space: one listed parameter keeps some of its values, and what hung on others goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.belief import kept_belief
from raytune_ahu.space.conditions import AllOf, Condition, Term
from raytune_ahu.space.declaration import Declaration, Parameter
from raytune_ahu.space.discrete import Choice, Constant, Listed
from raytune_ahu.space.domain import Domain


def restrict(declaration: Declaration, name: str, values: Sequence[Any]) -> Declaration:
    """Keep some values of a choice or ordinal.

    Parameters that can never be active any more are dropped, as are forbidden combinations that can
    never come about. A single value makes the parameter a constant,
    without a prior.

    Args:
        declaration: The larger space.
        name: Flat name of the parameter.
        values: The values to keep, in the order of the declaration whatever their order here.

    Raises:
        SpaceError: If there is no such parameter, it lists no values, a value is not one of its, or
            several values are kept but not the favourite of the prior.
    """
    by_name = {parameter.name: parameter for parameter in declaration.parameters}
    if name not in by_name:
        raise SpaceError(
            f"parameter {name!r} is not in the search space; it has {', '.join(by_name)}"
        )
    domain = by_name[name].domain
    if not isinstance(domain, Listed):
        raise SpaceError(f"parameter {name!r} lists no values that could be chosen from")
    smaller = _smaller(name, domain, values)
    domains: dict[str, Domain] = {p.name: p.domain for p in declaration.parameters}
    domains[name] = smaller
    parameters = [
        _with_values(parameter, domain, smaller) if parameter.name == name else parameter
        for parameter in declaration.parameters
    ]
    while True:
        kept = [_conditioned(parameter, name, domains) for parameter in parameters]
        left = [parameter for parameter in kept if parameter is not None]
        domains = {parameter.name: domains[parameter.name] for parameter in left}
        if len(left) == len(parameters):
            break
        parameters = left
    clauses = [_possible(terms, name, domains) for terms in declaration.forbidden]
    return Declaration(tuple(left), tuple(terms for terms in clauses if terms is not None))


def _smaller(name: str, domain: Listed, values: Sequence[Any]) -> Listed:
    for value in values:
        if not domain.contains(value):
            raise SpaceError(
                f"{name}={value!r} is not in the search space, which has {domain.shown}"
            )
    kept = [index for index, one in enumerate(domain.values) if one in values]
    if not kept:
        raise SpaceError(f"at least one value of {name} must be kept, of {domain.shown}")
    chosen = tuple(domain.values[index] for index in kept)
    if len(chosen) == 1:
        return Constant(chosen)
    if isinstance(domain, Choice) and domain.weights is not None:
        weights = tuple(domain.weights[index] for index in kept)
        return replace(domain, values=chosen, default_index=None, weights=weights)
    return replace(domain, values=chosen, default_index=None)


def _with_values(parameter: Parameter, domain: Listed, smaller: Listed) -> Parameter:
    if parameter.belief is None:
        return replace(parameter, domain=smaller)
    try:
        belief = kept_belief(parameter.belief, domain, smaller)
    except SpaceError as error:
        raise SpaceError(f"parameter {parameter.name!r}: {error}") from error
    return replace(parameter, domain=smaller, belief=belief)


def _conditioned(
    parameter: Parameter, name: str, domains: Mapping[str, Domain]
) -> Parameter | None:
    if parameter.condition is None:
        return parameter
    conjunctions = [_possible(terms, name, domains) for terms in parameter.condition]
    condition: Condition = tuple(terms for terms in conjunctions if terms is not None)
    return replace(parameter, condition=condition) if condition else None


def _possible(terms: AllOf, name: str, domains: Mapping[str, Domain]) -> AllOf | None:
    """Terms in the smaller space, or None if they can no longer hold."""
    rewritten = []
    for term in terms:
        if term.name not in domains:
            return None
        if term.name == name:
            domain = domains[name]
            assert isinstance(domain, Listed)
            holds = term.predicate(domain)
            values = tuple(value for value in domain.values if holds(value))
            if not values:
                return None
            term = Term(name, "==" if len(values) == 1 else "in", values)
        rewritten.append(term)
    return tuple(rewritten)
