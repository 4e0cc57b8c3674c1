"""A ConfigSpace `ConfigurationSpace` as a declaration; what cannot be represented is refused.

A space that `SearchSpace.configspace` made carries its declaration and comes back exactly. Others
are read hyperparameter by hyperparameter; names with "/" become groups.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import ConfigSpace as cs

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import Condition, Term, written_condition, written_terms
from raytune_ahu.space.entries import build_domain
from raytune_ahu.space.nested import unflatten
from raytune_ahu.space.to_configspace import META_KEY
from raytune_ahu.space.values import plain, tag_tuples

_OPERATORS: dict[type, str] = {
    cs.EqualsCondition: "==",
    cs.NotEqualsCondition: "!=",
    cs.LessThanCondition: "<",
    cs.GreaterThanCondition: ">",
    cs.ForbiddenEqualsClause: "==",
    cs.ForbiddenLessThanClause: "<",
    cs.ForbiddenLessThanEqualsClause: "<=",
    cs.ForbiddenGreaterThanClause: ">",
    cs.ForbiddenGreaterThanEqualsClause: ">=",
}


def declaration_of(space: Any) -> dict[str, Any]:
    """Write a `ConfigurationSpace` in the declarative form.

    Raises:
        SpaceError: If something in it cannot be represented, or if it was exported from a
            `SearchSpace` and changed afterwards.
    """
    if not isinstance(space, cs.ConfigurationSpace):
        raise SpaceError(f"expected a ConfigurationSpace, not {type(space).__name__}")
    if META_KEY in (space.meta or {}):
        return _exported(space)
    entries = {name: _entry(parameter) for name, parameter in space.items()}
    for name, condition in _conditions(space).items():
        entries[name]["when"] = written_condition(condition)
    clauses = [
        written_terms(terms) for clause in space.forbidden_clauses for terms in _forbidden(clause)
    ]
    try:
        parameters = unflatten(entries)
    except ValueError as error:
        raise SpaceError(f"names of the ConfigurationSpace clash: {error}; rename one") from error
    return {"parameters": parameters, "forbidden": clauses}


def _exported(space: Any) -> dict[str, Any]:
    from raytune_ahu.space.search_space import SearchSpace

    declaration: dict[str, Any] = space.meta[META_KEY]
    if SearchSpace.from_dict(declaration).configspace != space:
        raise SpaceError(
            "the ConfigurationSpace was exported from a SearchSpace and changed afterwards; make "
            "the change in the declaration (SearchSpace.to_dict) instead"
        )
    return declaration


def _entry(parameter: Any) -> dict[str, Any]:
    entry = _written(parameter)
    if entry["domain"] == "constant":
        return entry
    default = tag_tuples(plain(parameter.default_value))
    with_default = build_domain({**entry, "default": default})
    # A default that ConfigSpace chose by itself, and that we would choose too, was not declared.
    own = build_domain(entry)
    same = math.isclose(own.encode(own.start), with_default.encode(with_default.start))
    return entry if same else {**entry, "default": default}


def _written(parameter: Any) -> dict[str, Any]:
    name = parameter.name
    match parameter:
        case cs.UniformFloatHyperparameter():
            return _bounded("loguniform" if parameter.log else "uniform", parameter)
        case cs.UniformIntegerHyperparameter():
            return _bounded("lograndint" if parameter.log else "randint", parameter)
        case cs.NormalFloatHyperparameter() if not parameter.log:
            bounds = _bounded("randn", parameter)
            return bounds | {"mean": float(parameter.mu), "sd": float(parameter.sigma)}
        case cs.CategoricalHyperparameter():
            entry = _listed("choice", parameter.choices)
            if parameter.weights is not None:
                entry["weights"] = [float(weight) for weight in parameter.weights]
            return entry
        case cs.OrdinalHyperparameter():
            return _listed("ordinal", parameter.sequence)
        case cs.Constant():
            return {"domain": "constant", "value": tag_tuples(plain(parameter.value))}
    log = " on a logarithmic scale" if getattr(parameter, "log", False) else ""
    raise SpaceError(
        f"parameter {name!r}: a {type(parameter).__name__}{log} cannot be represented; use a "
        "uniform or normal float, a uniform integer, a categorical or an ordinal"
    )


def _bounded(domain: str, parameter: Any) -> dict[str, Any]:
    return {"domain": domain, "lower": plain(parameter.lower), "upper": plain(parameter.upper)}


def _listed(domain: str, values: Any) -> dict[str, Any]:
    return {"domain": domain, "values": [tag_tuples(plain(value)) for value in values]}


def _conditions(space: Any) -> dict[str, Condition]:
    """Condition of each child; several on one child must all hold."""
    found: dict[str, Condition] = {}
    for condition in space.conditions:
        child = _child(condition)
        alternatives = _alternatives(condition)
        found[child] = _both(found[child], alternatives) if child in found else alternatives
    return found


def _child(condition: Any) -> str:
    while isinstance(condition, (cs.AndConjunction, cs.OrConjunction)):
        condition = condition.components[0]
    return str(condition.child.name)


def _alternatives(condition: Any) -> Condition:
    if isinstance(condition, cs.OrConjunction):
        return tuple(terms for part in condition.components for terms in _alternatives(part))
    if isinstance(condition, cs.AndConjunction):
        combined: Condition = ((),)
        for part in condition.components:
            combined = _both(combined, _alternatives(part))
        return combined
    name = condition.parent.name
    if isinstance(condition, cs.InCondition):
        return ((Term(name, "in", tuple(plain(value) for value in condition.values)),),)
    return ((Term(name, _operator(condition), (plain(condition.value),)),),)


def _both(left: Condition, right: Condition) -> Condition:
    return tuple((*a, *b) for a, b in itertools.product(left, right))


def _forbidden(clause: Any) -> Condition:
    if isinstance(clause, cs.ForbiddenOrConjunction):
        return tuple(terms for part in clause.components for terms in _forbidden(part))
    if isinstance(clause, cs.ForbiddenAndConjunction):
        combined: Condition = ((),)
        for part in clause.components:
            combined = _both(combined, _forbidden(part))
        return combined
    if isinstance(clause, cs.ForbiddenInClause):
        values = tuple(plain(value) for value in clause.values)
        return ((Term(clause.hyperparameter.name, "in", values),),)
    if type(clause) not in _OPERATORS:
        raise SpaceError(
            f"forbidden clause {clause} cannot be represented: it compares two parameters; list "
            "the forbidden combinations of values instead"
        )
    return ((Term(clause.hyperparameter.name, _operator(clause), (plain(clause.value),)),),)


def _operator(comparison: Any) -> str:
    return _OPERATORS[type(comparison)]
