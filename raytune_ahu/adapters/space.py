"""Between Ray Tune's search spaces and ours; the only place of the space code that imports Ray.

`from_tune` reads a (nested) dict of `tune.*` domains, constants and `tune.grid_search`; `to_tune`
writes it back, so that `from_tune(to_tune(space)) == space`. Ray's upper bounds of integers are
exclusive (but inclusive when quantised with q > 1), ours are always inclusive. Ray has no ordinals
and no bounded normals: `ordinal` and `bounded_randn` make domains that Ray can sample too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ConfigSpace import ConfigurationSpace
from ray import tune
from ray.tune.search import sample as ray_sample

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace
from raytune_ahu.space.discrete import Choice, Constant, Ordinal
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.nested import SEPARATOR, unflatten
from raytune_ahu.space.normal import Normal
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps
from raytune_ahu.space.values import plain, tag_tuples

_GRID = "grid_search"


class OrdinalDomain(ray_sample.Categorical):
    """Categories that are ordered as they are listed; Ray samples them like a choice."""


class TruncatedNormal(ray_sample.Normal):
    """Ray sampler of a normal distribution that is cut off at the bounds of its domain."""

    def __init__(self, mean: float, sd: float, q: float | None = None) -> None:
        super().__init__(mean, sd)
        self.q = q

    def sample(
        self, domain: Any, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Draw one value, or a list of `size` values, as Ray's samplers do."""
        wrapper = ray_sample._BackwardsCompatibleNumpyRng
        rng = random_state if isinstance(random_state, wrapper) else wrapper(random_state)
        normal = Normal(self.mean, self.sd, domain.lower, domain.upper, self.q)
        values = [normal.draw(float(u)) for u in rng.uniform(0.0, 1.0, size=size)]
        return values if size > 1 else values[0]


def ordinal(values: Sequence[Any]) -> OrdinalDomain:
    """Declare values that are ordered as they are listed, such as [16, 32, 64]."""
    domain = OrdinalDomain(values)
    domain.set_sampler(ray_sample.Categorical._Uniform())
    return domain


def bounded_randn(
    mean: float, sd: float, lower: float, upper: float, q: float | None = None
) -> ray_sample.Float:
    """Declare a normal distribution that is cut off at both bounds.

    Args:
        mean: Mean of the distribution before it is cut off.
        sd: Its standard deviation.
        lower: Smallest value.
        upper: Largest value.
        q: If given, values are rounded to its multiples.
    """
    domain = ray_sample.Float(lower, upper)
    domain.set_sampler(TruncatedNormal(mean, sd, q))
    return domain


def to_search_space(source: Any) -> SearchSpace:
    """Take a search space in any of its forms.

    Args:
        source: A `SearchSpace`, a `ConfigurationSpace`, the path of a YAML or JSON file, a dict in
            the declarative form, or a dict of `tune.*` domains. A dict that holds anything of Ray's
            (a domain, or `grid_search`) is read as Ray's, any other as declarative.

    Raises:
        SpaceError: If it is none of these, or not valid.
    """
    if isinstance(source, SearchSpace):
        return source
    if isinstance(source, (str, Path)):
        return SearchSpace.from_file(source)
    if isinstance(source, ConfigurationSpace):  # before Mapping, which it is too
        return SearchSpace.from_configspace(source)
    if isinstance(source, Mapping):
        return from_tune(source) if _holds_tune(source) else SearchSpace.from_dict(source)
    raise SpaceError(
        f"a search space cannot be made of a {type(source).__name__}; give a dict of tune domains, "
        "a ConfigurationSpace, or the path of a YAML or JSON file"
    )


def _holds_tune(item: Any) -> bool:
    if isinstance(item, ray_sample.Domain):
        return True
    return isinstance(item, Mapping) and (
        set(item) == {_GRID} or any(_holds_tune(value) for value in item.values())
    )


def from_tune(
    space: Mapping[str, Any],
    *,
    conditions: Mapping[str, Any] | None = None,
    forbidden: Sequence[Mapping[str, Any]] = (),
    bounds: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """Read a dict of Ray Tune domains.

    Args:
        space: Names to domains, `tune.grid_search(...)`, constants, or nested dicts of these.
        conditions: By full name (`model/momentum`), when the parameter is active: `{"optimizer":
            "sgd"}`, as `when` in a space file.
        forbidden: Combinations that are never proposed, as in a space file.
        bounds: By full name, lower and upper bound of a `tune.randn` or `tune.qrandn`.
        prior: By full name, near which values good ones are expected, as in a space file.

    Raises:
        SpaceError: If something cannot be represented, or is not valid; the message names the
            parameter.
    """
    if not isinstance(space, Mapping):
        raise SpaceError(f"a tune search space must be a dict, not {type(space).__name__}")
    entries: dict[str, Any] = {}
    _collect(space, "", entries, dict(bounds or {}))
    _attach(entries, conditions or {}, "when", "conditions")
    for name in bounds or {}:
        if entries.get(name, {}).get("domain") not in ("randn", "qrandn"):
            raise SpaceError(f"bounds of {name!r}: it is not a tune.randn or tune.qrandn domain")
    written = {"parameters": unflatten(entries), "forbidden": list(forbidden)}
    return SearchSpace.from_dict({**written, "prior": dict(prior or {})})


def _attach(entries: dict[str, Any], values: Mapping[str, Any], field: str, argument: str) -> None:
    for name, value in values.items():
        if name not in entries:
            raise SpaceError(
                f"{argument} of unknown parameter {name!r}, known are {', '.join(entries)}"
            )
        entries[name][field] = value


def _collect(
    space: Mapping[str, Any], prefix: str, entries: dict[str, Any], bounds: dict[str, Any]
) -> None:
    for key, item in space.items():
        name = f"{prefix}{key}"
        if not isinstance(key, str) or not key or SEPARATOR in key:
            raise SpaceError(
                f"parameter {name!r}: name {key!r} must be a non-empty string without "
                f"{SEPARATOR!r}; nest dicts to make groups"
            )
        if isinstance(item, Mapping) and item and set(item) != {_GRID}:
            _collect(item, name + SEPARATOR, entries, bounds)
            continue
        try:
            entries[name] = _entry(item, bounds.get(name))
        except SpaceError as error:
            raise SpaceError(f"parameter {name!r}: {error}") from error


def _entry(item: Any, bounds: tuple[float, float] | None) -> dict[str, Any]:
    if isinstance(item, Mapping) and set(item) == {_GRID}:
        return _listed("grid_search", item[_GRID])
    if isinstance(item, ray_sample.Function):
        raise SpaceError(
            "tune.sample_from cannot be represented, for a function has no range; use a tune "
            "domain, and conditions for what depends on another parameter"
        )
    if isinstance(item, ray_sample.Categorical):
        if item.is_grid():
            return _listed("grid_search", item.categories)
        return _listed("ordinal" if isinstance(item, OrdinalDomain) else "choice", item.categories)
    if isinstance(item, (ray_sample.Float, ray_sample.Integer)):
        return _numeric(item, bounds)
    if isinstance(item, ray_sample.Domain):
        raise SpaceError(f"a Ray domain {type(item).__name__} cannot be represented")
    return {"domain": "constant", "value": tag_tuples(_without_domains(item))}


def _listed(domain: str, values: Any) -> dict[str, Any]:
    return {"domain": domain, "values": [tag_tuples(_without_domains(value)) for value in values]}


def _without_domains(value: Any) -> Any:
    if _holds_domain(value):
        raise SpaceError(
            "a domain inside a value cannot be represented; make it a parameter of its own, with "
            "a condition (conditions={name: {parent: value}})"
        )
    return plain(value)


def _holds_domain(value: Any) -> bool:
    if isinstance(value, ray_sample.Domain) or (isinstance(value, Mapping) and _GRID in value):
        return True
    if isinstance(value, Mapping):
        return any(_holds_domain(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_holds_domain(item) for item in value)


def _numeric(item: Any, bounds: tuple[float, float] | None) -> dict[str, Any]:
    sampler, q = item.get_sampler(), None
    if isinstance(sampler, ray_sample.Quantized):
        sampler, q = sampler.get_sampler(), sampler.q
    if isinstance(sampler, ray_sample.Normal):
        return _normal(item, sampler, q, bounds)
    if not isinstance(sampler, (ray_sample.Uniform, ray_sample.LogUniform)):
        raise SpaceError(f"a Ray sampler {type(sampler).__name__} cannot be represented")
    log = "log" if isinstance(sampler, ray_sample.LogUniform) else ""
    integer = isinstance(item, ray_sample.Integer)
    upper = item.upper
    if integer and (q is None or q == 1):
        if item.upper - item.lower == 1:
            raise SpaceError(
                f"[{item.lower}, {upper}) holds only {item.lower}, for Ray excludes the upper "
                "bound; raise it, or use a constant"
            )
        if item.upper > item.lower:
            upper = item.upper - 1
    stem = "randint" if integer else "uniform"
    entry = {"domain": f"{'' if q is None else 'q'}{log}{stem}", "lower": item.lower}
    entry["upper"] = upper
    return entry if q is None else {**entry, "q": q}


def _normal(
    item: Any, sampler: Any, q: float | None, bounds: tuple[float, float] | None
) -> dict[str, Any]:
    if isinstance(sampler, TruncatedNormal):
        q = sampler.q
    lower, upper = (item.lower, item.upper) if bounds is None else bounds
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise SpaceError(
            "an unbounded normal cannot be represented; give bounds={name: (lower, upper)}, or "
            "declare it with bounded_randn(mean, sd, lower, upper)"
        )
    entry = {"domain": "randn", "mean": sampler.mean, "sd": sampler.sd}
    entry |= {"lower": lower, "upper": upper}
    return entry if q is None else entry | {"domain": "qrandn", "q": q}


def to_tune(space: SearchSpace) -> dict[str, Any]:
    """Write a space as a nested dict of Ray Tune domains.

    Raises:
        SpaceError: If it holds what Ray cannot express: conditions, forbidden combinations,
            weights, defaults or priors.
    """
    declaration = space.declaration
    if declaration.forbidden:
        raise SpaceError("Ray cannot express forbidden combinations; remove them")
    flat: dict[str, Any] = {}
    for parameter in declaration.parameters:
        if parameter.condition is not None:
            raise SpaceError(
                f"parameter {parameter.name!r}: Ray cannot express its condition; remove it"
            )
        if parameter.belief is not None:
            raise SpaceError(
                f"parameter {parameter.name!r}: Ray cannot express its prior; remove it "
                "(SearchSpace.without_prior)"
            )
        domain = parameter.domain
        refused = [field for field in ("default", "weights") if field in domain.entry()]
        if refused:
            raise SpaceError(
                f"parameter {parameter.name!r}: Ray cannot express {refused[0]}; remove it"
            )
        flat[parameter.name] = _tune_domain(parameter.name, domain)
    return unflatten(flat)


def _tune_domain(name: str, domain: Domain) -> Any:
    match domain:
        case Constant():
            value = domain.value
            if isinstance(value, dict):
                raise SpaceError(f"parameter {name!r}: Ray reads the constant {value!r} as a group")
            return value
        case Ordinal():
            return ordinal(domain.values)
        case Choice():
            values = list(domain.values)
            return tune.grid_search(values) if domain.grid else tune.choice(values)
        case Normal():
            return bounded_randn(domain.mean, domain.sd, domain.lower, domain.upper, domain.q)
        case Real():
            make = tune.loguniform if domain.log else tune.uniform
            return make(domain.lower, domain.upper)
        case Steps():
            return _tune_steps(domain)
    raise SpaceError(f"parameter {name!r}: Ray cannot express a {domain.kind}")


def _tune_steps(domain: Steps) -> Any:
    lower, upper, q = domain.lower, domain.upper, domain.q
    if not domain.integer:
        make = tune.qloguniform if domain.log else tune.quniform
        return make(lower, upper, q)
    if q is None or q == 1:
        upper += 1
    if q is None:
        return (tune.lograndint if domain.log else tune.randint)(lower, upper)
    return (tune.qlograndint if domain.log else tune.qrandint)(lower, upper, q)


__all__ = [
    "OrdinalDomain",
    "TruncatedNormal",
    "bounded_randn",
    "from_tune",
    "ordinal",
    "to_search_space",
    "to_tune",
]
