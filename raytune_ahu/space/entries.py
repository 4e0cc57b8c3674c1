"""One entry of a declaration, such as `{domain: loguniform, lower: 1e-4, upper: 0.1}`, as a domain.

Bounds are inclusive for every domain, integers too. `KINDS` lists the domains and their fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import as_number
from raytune_ahu.space.discrete import Choice, Constant, Ordinal
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.normal import Normal
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps
from raytune_ahu.space.values import plain, untag_tuples

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """How one kind of domain is written."""

    build: Callable[[Entry], Domain]
    """Makes the domain from the checked fields."""
    required: tuple[str, ...]
    """Fields that must be there."""
    optional: tuple[str, ...] = ("default",)
    """Fields that may be there, besides `domain`, `prior` and `when`."""


def build_domain(entry: Entry) -> Domain:
    """Make the domain that an entry declares.

    Raises:
        SpaceError: If the domain is unknown, a field is missing, unknown or out of range.
    """
    name = entry.get("domain")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SpaceError(
            f"unknown domain {name!r}, known are {', '.join(KINDS)} (a constant that is called "
            "'domain' is written {domain: constant, value: ...})"
        )
    allowed = ("domain", *kind.required, *kind.optional, "prior", "when")
    unknown = [str(field) for field in entry if field not in allowed]
    if unknown:
        raise SpaceError(
            f"unknown field {unknown[0]!r} of domain {name}, known are {', '.join(allowed)}"
        )
    missing = [field for field in kind.required if field not in entry]
    if missing:
        raise SpaceError(f"domain {name} needs the field {missing[0]!r}; add it")
    return _with_default(kind.build(entry), entry)


def _number(entry: Entry, field: str) -> float:
    value = entry[field]
    if isinstance(value, np.generic):
        value = value.item()
    number = as_number(value)
    if number is not None:
        value = number
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise SpaceError(f"{field}={value!r} must be a number")
    return value


def _float(entry: Entry, field: str) -> float:
    try:
        return float(_number(entry, field))
    except OverflowError:
        raise SpaceError(f"{field} is too large for a float; use a smaller number") from None


def _int(entry: Entry, field: str) -> int:
    number = _number(entry, field)
    if not isinstance(number, int) and not number.is_integer():
        raise SpaceError(f"{field}={number!r} must be a whole number for an integer domain")
    return int(number)


def _real(log: bool) -> Callable[[Entry], Domain]:
    return lambda entry: Real(_float(entry, "lower"), _float(entry, "upper"), log)


def _steps(*, q: bool, log: bool, integer: bool) -> Callable[[Entry], Domain]:
    read: Callable[[Entry, str], float] = _int if integer else _float

    def build(entry: Entry) -> Domain:
        step = read(entry, "q") if q else None
        return Steps(read(entry, "lower"), read(entry, "upper"), step, log, integer)

    return build


def _normal(entry: Entry) -> Domain:
    for field in ("lower", "upper"):
        if field not in entry:
            raise SpaceError(
                f"an unbounded normal cannot be represented: {field!r} is missing; add lower and "
                "upper, such as mean - 3 * sd and mean + 3 * sd"
            )
    q = _float(entry, "q") if "q" in entry else None
    return Normal(
        _float(entry, "mean"),
        _float(entry, "sd"),
        _float(entry, "lower"),
        _float(entry, "upper"),
        q,
    )


def _values(entry: Entry) -> tuple[Any, ...]:
    values = entry["values"]
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, range):
        values = list(values)
    if not isinstance(values, (list, tuple)):
        raise SpaceError(f"values={values!r} must be a list; its order is kept")
    return tuple(plain(untag_tuples(value)) for value in values)


def _choice(entry: Entry) -> Domain:
    weights = entry.get("weights")
    if weights is None:
        return Choice(_values(entry))
    if not isinstance(weights, (list, tuple)):
        raise SpaceError(f"weights={weights!r} must be a list of numbers, one per value")
    return Choice(_values(entry), weights=tuple(_float({"weights": w}, "weights") for w in weights))


def _with_default(domain: Domain, entry: Entry) -> Domain:
    if "default" not in entry:
        return domain
    default = plain(untag_tuples(entry["default"]))
    number = as_number(default)
    if not domain.contains(default) and number is not None and domain.contains(number):
        default = number
    if not domain.contains(default):
        raise SpaceError(f"default={default!r} must be {domain.allowed}")
    if isinstance(domain, (Choice, Ordinal)):
        return replace(domain, default_index=domain.index(default))
    if isinstance(domain, (Real, Steps, Normal)):
        return replace(domain, default=domain.decode(domain.encode(default)))
    return domain


_BOUNDS = ("lower", "upper")
KINDS: dict[str, Kind] = {
    "uniform": Kind(_real(log=False), _BOUNDS),
    "loguniform": Kind(_real(log=True), _BOUNDS),
    "quniform": Kind(_steps(q=True, log=False, integer=False), (*_BOUNDS, "q")),
    "qloguniform": Kind(_steps(q=True, log=True, integer=False), (*_BOUNDS, "q")),
    "randn": Kind(_normal, ("mean", "sd"), ("lower", "upper", "default")),
    "qrandn": Kind(_normal, ("mean", "sd", "q"), ("lower", "upper", "default")),
    "randint": Kind(_steps(q=False, log=False, integer=True), _BOUNDS),
    "lograndint": Kind(_steps(q=False, log=True, integer=True), _BOUNDS),
    "qrandint": Kind(_steps(q=True, log=False, integer=True), (*_BOUNDS, "q")),
    "qlograndint": Kind(_steps(q=True, log=True, integer=True), (*_BOUNDS, "q")),
    "choice": Kind(_choice, ("values",), ("weights", "default")),
    "ordinal": Kind(lambda entry: Ordinal(_values(entry)), ("values",)),
    "constant": Kind(
        lambda entry: Constant((plain(untag_tuples(entry["value"])),)), ("value",), ()
    ),
    "grid_search": Kind(lambda entry: Choice(_values(entry), grid=True), ("values",), ()),
}
"""All domains by the name they have in files (Ray's names where Ray has one)."""
