"""The declarative form of a space, the same in Python dicts and in YAML or JSON files.

Example, as YAML::

    lr: {domain: loguniform, lower: 1e-4, upper: 0.1}
    optimizer: {domain: choice, values: [sgd, adam]}
    momentum: {domain: uniform, lower: 0.0, upper: 0.99, when: {optimizer: sgd}}
    model:                                  # a group: its parameters are model/layers, model/width
      layers: {domain: randint, lower: 1, upper: 4}          # 1, 2, 3 and 4
      width: {domain: qlograndint, lower: 16, upper: 256, q: 16, when: {model/layers: {">": 1}}}
    epochs: 27                              # a constant
    forbidden:
      - {optimizer: sgd, model/layers: [3, 4]}
    prior:
      lr: 0.001
      model/width: {value: 64, confidence: high}

- Bounds are inclusive, for integers too. Names in `when` and `forbidden` are full names. After a
  name stands a value, a list of values (any of them), or an operator: `{">": 1}`, or several. Where
  values are lists themselves, a list is one value unless all its items are legal; `{"==": [3, 3]}`
  and `{in: [[3, 3]]}` leave no doubt. Several names must all hold; a list of mappings means any of
  them. Conditions know the operators == != in < >, forbidden combinations == in < <= > >=.
- `forbidden` lists combinations that are never proposed.
- `prior` says near which values good ones are expected, for any parameters that vary, under their
  full names: a value, `{value: 64, confidence: low}` (or medium, the default, or high), or for a
  choice `{weights: {sgd: 1, adam: 3}}`. The same may stand in an entry: `lr: {domain: loguniform,
  lower: 1e-4, upper: 0.1, prior: 0.001}`. Searchers that know priors look there first, and then
  everywhere; see `raytune_ahu.space.prior`.
- `{parameters: {...}, forbidden: [...], prior: {...}}` is the explicit form, in which a parameter
  may be called "forbidden", "prior" or "parameters".
- A tuple is written `{tuple: [3, 3]}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.belief import Belief, parse_belief
from raytune_ahu.space.conditions import (
    FORBIDDEN_OPERATORS,
    AllOf,
    Condition,
    parse_condition,
    parse_terms,
    written_condition,
    written_terms,
)
from raytune_ahu.space.discrete import Constant
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.entries import KINDS, build_domain
from raytune_ahu.space.nested import SEPARATOR, unflatten
from raytune_ahu.space.values import plain, tag_tuples, untag_tuples

_SECTIONS = ("parameters", "forbidden", "prior")
_ENTRY_FIELDS = {
    "prior",
    "when",
    *(f for kind in KINDS.values() for f in kind.required + kind.optional),
}


@dataclass(frozen=True)
class Parameter:
    """A named domain, active always or under a condition."""

    name: str
    """Flat name, the keys of its path joined with "/"."""
    domain: Domain
    """Its legal values."""
    condition: Condition | None = None
    """When it is active; None: always."""
    belief: Belief | None = None
    """Near which of its values good ones are expected."""

    def entry(self) -> Any:
        """The declaration as it stands in a file; an unconditional constant is just its value."""
        if isinstance(self.domain, Constant) and self.condition is None:
            value = self.domain.value
            return self.domain.entry() if isinstance(value, dict) else tag_tuples(value)
        entry = self.domain.entry()
        if self.belief is not None:
            entry["prior"] = self.belief.written()
        if self.condition is not None:
            entry["when"] = written_condition(self.condition)
        return entry


@dataclass(frozen=True)
class Declaration:
    """Everything that a user declares about a space."""

    parameters: tuple[Parameter, ...]
    """In the order of their declaration."""
    forbidden: tuple[AllOf, ...] = ()
    """Combinations that are never proposed."""

    def to_dict(self) -> dict[str, Any]:
        """Write the declaration as plain, JSON-ready data."""
        parameters = unflatten({p.name: p.entry() for p in self.parameters})
        clauses = [written_terms(terms) for terms in self.forbidden]
        if any(key in parameters for key in _SECTIONS):
            return {"parameters": parameters, "forbidden": clauses}
        return {**parameters, "forbidden": clauses} if clauses else parameters


def parse_declaration(written: Mapping[str, Any]) -> Declaration:
    """Read the declarative form.

    Raises:
        SpaceError: If anything in it is not valid; the message names the parameter.
    """
    if written is None:
        raise SpaceError("the search space is empty; give at least one parameter with its domain")
    if not isinstance(written, Mapping):
        raise SpaceError(
            f"a search space must be a mapping of names to domains, not {type(written).__name__}"
        )
    entries, clauses, section = _split(written)
    found = dict(_walk(entries, ""))
    if not found:
        raise SpaceError("the search space is empty; declare at least one parameter")
    domains = {name: _named(name, build_domain, entry) for name, entry in found.items()}
    beliefs = read_beliefs(section, domains)
    parameters = []
    for name, entry in found.items():
        condition = None
        if "when" in entry:
            condition = _named(name, parse_condition, entry["when"], domains, name)
        if "prior" in entry:
            if name in beliefs:
                raise SpaceError(
                    f"parameter {name!r} has a prior in its entry and one in the section 'prior'; "
                    "remove one"
                )
            beliefs[name] = _named(name, parse_belief, entry["prior"], domains[name])
        parameters.append(Parameter(name, domains[name], condition, beliefs.get(name)))
    return Declaration(tuple(parameters), _parse_forbidden(clauses, domains))


def with_beliefs(declaration: Declaration, written: Mapping[str, Any]) -> Declaration:
    """Give parameters a prior, in place of one that they have; the others keep theirs.

    Args:
        declaration: The space.
        written: As the section `prior` of a file; names may be nested, too.

    Raises:
        SpaceError: If a name is unknown, or a prior is not valid for its domain.
    """
    beliefs = read_beliefs(written, {p.name: p.domain for p in declaration.parameters})
    parameters = tuple(
        replace(p, belief=beliefs[p.name]) if p.name in beliefs else p
        for p in declaration.parameters
    )
    return replace(declaration, parameters=parameters)


def without_beliefs(declaration: Declaration, names: Sequence[str]) -> Declaration:
    """Take the priors of some parameters away (of all, if none is named).

    Raises:
        SpaceError: If a name is unknown.
    """
    domains = {p.name: p.domain for p in declaration.parameters}
    for name in names:
        if name not in domains:
            raise SpaceError(_unknown(name, domains))
    parameters = tuple(
        replace(p, belief=None) if p.name in names or not names else p
        for p in declaration.parameters
    )
    return replace(declaration, parameters=parameters)


def read_beliefs(section: Any, domains: Mapping[str, Domain]) -> dict[str, Belief]:
    """Read the section `prior`: names to beliefs, by full name or nested."""
    if not isinstance(section, Mapping):
        raise SpaceError(
            f"prior={section!r} must be a mapping of parameter names to favourite values, such as "
            "{lr: 0.001}; for a parameter of that name use the form {parameters: {...}}"
        )
    beliefs: dict[str, Belief] = {}
    for name, written in _find_names(section, domains, ""):
        if name in beliefs:
            raise SpaceError(f"parameter {name!r} has two priors; remove one")
        beliefs[name] = _named(name, parse_belief, written, domains[name])
    return beliefs


def _find_names(
    section: Mapping[Any, Any], domains: Mapping[str, Domain], prefix: str
) -> Iterable[tuple[str, Any]]:
    for key, item in section.items():
        name = f"{prefix}{key}"
        group = name + SEPARATOR
        if name in domains:
            yield name, item
        elif isinstance(item, Mapping) and any(known.startswith(group) for known in domains):
            yield from _find_names(item, domains, group)
        else:
            raise SpaceError(_unknown(name, domains))


def _unknown(name: str, domains: Mapping[str, Domain]) -> str:
    last = re.split("[./]", name)[-1]
    same_end = [known for known in domains if known.split(SEPARATOR)[-1] == last]
    hint = f"; did you mean {same_end[0]!r}?" if same_end else ""
    if name == "domain":
        hint = "; for a parameter called 'prior' use the form {parameters: {...}}"
    return f"prior on unknown parameter {name!r}, known are {', '.join(domains)}{hint}"


def _split(written: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any, Any]:
    """The parameters, the forbidden combinations and the section `prior`."""
    inner = written.get("parameters")
    if isinstance(inner, Mapping) and not isinstance(inner.get("domain"), str):
        unknown = [key for key in written if key not in _SECTIONS]
        if not unknown:
            return inner, written.get("forbidden") or [], written.get("prior") or {}
        raise SpaceError(
            f"unknown key {unknown[0]!r} beside 'parameters', known are {', '.join(_SECTIONS)}"
        )
    clauses = written.get("forbidden", [])
    if "forbidden" in written and not isinstance(clauses, (list, tuple)):
        raise SpaceError(
            "forbidden must be a list of combinations, such as [{optimizer: sgd, layers: 3}]; for "
            "a parameter of that name use the form {parameters: {...}, forbidden: [...]}"
        )
    entries = {key: item for key, item in written.items() if key not in ("forbidden", "prior")}
    return entries, clauses, written.get("prior", {})


def _parse_forbidden(clauses: Any, domains: Mapping[str, Domain]) -> tuple[AllOf, ...]:
    if not isinstance(clauses, (list, tuple)):
        raise SpaceError(f"forbidden={clauses!r} must be a list of combinations")
    what = "forbidden combination"
    return tuple(parse_terms(clause, domains, FORBIDDEN_OPERATORS, what) for clause in clauses)


def _walk(group: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for key, item in group.items():
        where = f"parameter {prefix + str(key)!r}"
        if not isinstance(key, str) or not key:
            raise SpaceError(f"{where}: name {key!r} must be a non-empty string; quote it")
        if SEPARATOR in key:
            raise SpaceError(
                f"{where}: name {key!r} must not hold {SEPARATOR!r}, which joins the names of "
                "groups; nest it in a group instead"
            )
        name = prefix + key
        if not isinstance(item, Mapping) or set(item) == {"tuple"}:
            yield name, {"domain": "constant", "value": _named(name, _constant, item)}
        elif "domain" in item and not isinstance(item["domain"], Mapping):
            yield name, dict(item)
        elif not item:
            raise SpaceError(f"{where}: an empty group holds no parameter; remove it")
        elif set(item) <= _ENTRY_FIELDS and set(item) & {"lower", "upper", "values", "q"}:
            raise SpaceError(
                f"{where}: the field 'domain' is missing; add it, known are {', '.join(KINDS)}"
            )
        else:
            yield from _walk(item, name + SEPARATOR)


def _constant(item: Any) -> Any:
    return tag_tuples(plain(untag_tuples(item)))


def _named(name: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error
