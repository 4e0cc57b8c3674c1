"""A space as a ConfigSpace `ConfigurationSpace`, and its configurations as ConfigSpace values.

ConfigSpace rounds float bounds to 13 decimals, knows no quantisation, and compares choices through
numpy. Where that would change a value, the value is represented by its index, its multiple of q, or
its coordinate in the unit interval; `represent` says which. A quantised normal is exported as a
uniform integer. Beware when ConfigSpace itself draws from the export: version 1.2.2 takes "a and b"
for "a or b" where one space has both as conditions of different parameters
(`Conjunction.equivalent_condition_on_parent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ConfigSpace as cs

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import AllOf, Condition, Term
from raytune_ahu.space.discrete import Choice, Constant, Listed, Ordinal
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.layout import Layout
from raytune_ahu.space.normal import Normal
from raytune_ahu.space.plan import INACTIVE
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps
from raytune_ahu.space.values import tag_tuples

META_KEY = "raytune_ahu"
_DECIMALS = 13
_MAX_EXPANDED = 1000


def export(layout: Layout, default: Sequence[Any], declaration: dict[str, Any]) -> Any:
    """Make the `ConfigurationSpace`.

    Args:
        layout: The space.
        default: Values by slot of a legal configuration; they become ConfigSpace's defaults.
        declaration: What `from_configspace` restores the space from.
    """
    space = cs.ConfigurationSpace(meta={META_KEY: declaration})
    slots = [slot for slot in range(len(layout.domains)) if not layout.plan.never_active(slot)]
    parameters = {}
    for slot in slots:
        domain, name = layout.domains[slot], layout.all_names[slot]
        start = domain.start if default[slot] is INACTIVE else default[slot]
        parameters[name] = _hyperparameter(name, domain, represent(domain, start))
    space.add(list(parameters.values()))
    exporter = _Terms(layout, parameters)
    conditions = [(slot, layout.plan.conditions[slot]) for slot in slots]
    space.add([exporter.condition(layout.all_names[s], c) for s, c in conditions if c is not None])
    space.add([exporter.forbidden(terms) for terms in layout.plan.forbidden if terms])
    return space


def translate(layout: Layout, values: Sequence[Any]) -> dict[str, Any]:
    """Values by slot as the flat values that the exported space knows."""
    triples = zip(layout.all_names, layout.domains, values, strict=True)
    return {name: represent(dom, value) for name, dom, value in triples if value is not INACTIVE}


def represent(domain: Domain, value: Any) -> Any:
    """What stands for a legal value in ConfigSpace."""
    if isinstance(domain, Constant):
        return _constant(domain)
    if isinstance(domain, Listed):
        index = domain.index(value)
        return domain.values[index] if _is_uniform(domain) else index
    scale = domain.scale if isinstance(domain, Normal) else domain
    if isinstance(scale, Steps):
        return scale.index(value)
    # Rounded as ConfigSpace rounds the values of a configuration, so that equal stays equal.
    return round(float(value) if _is_exact(domain) else domain.encode(value), _DECIMALS)


def _constant(domain: Constant) -> Any:
    value = domain.values[0]
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return value
    return repr(tag_tuples(value))


def _is_uniform(domain: Listed) -> bool:
    """Whether all values have one type that numpy keeps."""
    types = {type(value) for value in domain.values}
    return types in ({str}, {int}, {float})


def _is_exact(domain: Domain) -> bool:
    """Whether ConfigSpace's rounding leaves the numbers of a continuous domain as they are."""
    if not isinstance(domain, (Real, Normal)):
        return False
    numbers = [domain.lower, domain.upper]
    if isinstance(domain, Normal):
        numbers += [domain.mean, domain.sd]
    coarse = domain.upper - domain.lower > 1e-6
    return coarse and all(number == round(number, _DECIMALS) for number in numbers)


def _hyperparameter(name: str, domain: Domain, default: Any) -> Any:
    if isinstance(domain, Constant):
        return cs.Constant(name, default)
    if isinstance(domain, Listed):
        values = [represent(domain, value) for value in domain.values]
        if isinstance(domain, Ordinal):
            return cs.OrdinalHyperparameter(name, values, default_value=default)
        weights = domain.weights if isinstance(domain, Choice) else None
        return cs.CategoricalHyperparameter(name, values, default_value=default, weights=weights)
    if isinstance(domain, Steps):
        return _integer(name, domain, default)
    if isinstance(domain, Normal):
        return _normal(name, domain, default)
    assert isinstance(domain, Real)
    if not _is_exact(domain):
        return cs.UniformFloatHyperparameter(name, 0.0, 1.0, default_value=default)
    return cs.UniformFloatHyperparameter(
        name, domain.lower, domain.upper, default_value=default, log=domain.log
    )


def _integer(name: str, domain: Steps, default: Any) -> Any:
    return cs.UniformIntegerHyperparameter(
        name, domain.first, domain.last, default_value=default, log=domain.log
    )


def _normal(name: str, domain: Normal, default: Any) -> Any:
    if isinstance(domain.scale, Steps):
        return _integer(name, domain.scale, default)
    if not _is_exact(domain):
        return cs.UniformFloatHyperparameter(name, 0.0, 1.0, default_value=default)
    return cs.NormalFloatHyperparameter(
        name, domain.mean, domain.sd, domain.lower, domain.upper, default_value=default
    )


_CONDITIONS: dict[str, Any] = {
    "==": cs.EqualsCondition,
    "!=": cs.NotEqualsCondition,
    "<": cs.LessThanCondition,
    ">": cs.GreaterThanCondition,
}
_FORBIDDEN: dict[str, Any] = {
    "==": cs.ForbiddenEqualsClause,
    "<": cs.ForbiddenLessThanClause,
    "<=": cs.ForbiddenLessThanEqualsClause,
    ">": cs.ForbiddenGreaterThanClause,
    ">=": cs.ForbiddenGreaterThanEqualsClause,
}


class _Terms:
    """Turns terms into ConfigSpace's conditions and forbidden clauses."""

    def __init__(self, layout: Layout, hyperparameters: dict[str, Any]) -> None:
        self._hyperparameters = hyperparameters
        self._domains = dict(zip(layout.all_names, layout.domains, strict=True))
        pairs = zip(layout.all_names, layout.plan.conditions, strict=True)
        self._conditional = {name for name, condition in pairs if condition is not None}

    def condition(self, child: str, condition: Condition) -> Any:
        """A disjunction of conjunctions, each of which may be a single condition."""
        alternatives = []
        for terms in condition:
            parts = [self._condition_term(child, term) for term in terms]
            alternatives.append(parts[0] if len(parts) == 1 else cs.AndConjunction(*parts))
        return alternatives[0] if len(alternatives) == 1 else cs.OrConjunction(*alternatives)

    def _condition_term(self, child: str, term: Term) -> Any:
        child_parameter = self._hyperparameters[child]
        parent = self._hyperparameters[term.name]
        term = self._expanded(term)
        values = [represent(self._domains[term.name], value) for value in term.values]
        if term.operator == "in":
            return cs.InCondition(child_parameter, parent, values)
        return _CONDITIONS[term.operator](child_parameter, parent, values[0])

    def _expanded(self, term: Term) -> Term:
        # ConfigSpace finds that an inactive parent differs from any value; here it does not.
        if term.operator != "!=" or term.name not in self._conditional:
            return term
        domain = self._domains[term.name]
        n = domain.n_values
        if n is None or n > _MAX_EXPANDED:
            raise SpaceError(
                f"condition {term} on a parameter that may be inactive cannot be given to "
                "ConfigSpace; use < or >, or list the values"
            )
        test = term.predicate(domain)
        return Term(term.name, "in", tuple(filter(test, domain.all_values())))

    def forbidden(self, terms: AllOf) -> Any:
        """A conjunction of clauses."""
        clauses = [self._forbidden_term(term) for term in terms]
        return clauses[0] if len(clauses) == 1 else cs.ForbiddenAndConjunction(*clauses)

    def _forbidden_term(self, term: Term) -> Any:
        parameter = self._hyperparameters[term.name]
        values = [represent(self._domains[term.name], value) for value in term.values]
        if term.operator == "in":
            return cs.ForbiddenInClause(parameter, values)
        return _FORBIDDEN[term.operator](parameter, values[0])
