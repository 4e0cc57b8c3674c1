"""What a user believes about one parameter: "good values are near here"; see `Belief`.

In a file it stands after `prior`, in the parameter's entry or in the section `prior`::

    prior: 0.001                                  # a favourite, with medium confidence
    prior: {value: adamw, confidence: high}       # low, medium or high
    prior: {weights: {sgd: 1, adamw: 3}}          # of a choice; or a list, one per value

How much a favourite weighs is in `raytune_ahu.space.prior`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import as_number
from raytune_ahu.space.discrete import Choice, Constant, Listed
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.real import is_number
from raytune_ahu.space.values import plain, tag_tuples, untag_tuples

CONFIDENCES = ("low", "medium", "high")
_FIELDS = ("value", "confidence", "weights")


@dataclass(frozen=True)
class Belief:
    """A favourite value, or how much each value of a choice is worth trying.

    It says where a search should look first. It is no part of the domain: `SearchSpace.sample`
    does not know it.
    """

    value: Any = None
    """The favourite, a legal value; without a meaning where there are weights."""
    confidence: str = "medium"
    """How sure the user is of the favourite: low, medium or high."""
    weights: tuple[float, ...] | None = None
    """Of a choice: one number above 0 per value, in the order of the values; their sum is free."""

    def favourite(self, domain: Domain) -> Any:
        """The favourite: of weighted values the (first) heaviest."""
        if self.weights is None:
            return self.value
        assert isinstance(domain, Listed)
        return domain.all_values()[self.weights.index(max(self.weights))]

    def written(self) -> Any:
        """What stands after `prior` in a file."""
        if self.weights is not None:
            return {"weights": list(self.weights)}
        value = tag_tuples(self.value)
        if self.confidence == "medium" and not isinstance(value, Mapping):
            return value
        return {"value": value, "confidence": self.confidence}

    def __str__(self) -> str:
        if self.weights is not None:
            return f"weights {', '.join(f'{weight:g}' for weight in self.weights)}"
        return f"{self.value!r} ({self.confidence})"


def parse_belief(written: Any, domain: Domain) -> Belief:
    """Read what stands after `prior`.

    A mapping with no other keys than value, confidence and weights is the long form; whatever else
    is the favourite itself.

    Raises:
        SpaceError: If the domain can have no prior, or the prior is not valid for it.
    """
    if isinstance(domain, Constant):
        raise SpaceError(
            f"prior={written!r} is given to a constant, which has one value; remove the prior, or "
            "declare a domain"
        )
    if domain.grid_only:
        raise SpaceError(
            f"prior={written!r} is given to a grid_search, which tries every value; remove the "
            "prior, or declare it as choice"
        )
    if not (isinstance(written, Mapping) and written and set(written) <= set(_FIELDS)):
        return Belief(_legal(written, domain))
    if "weights" in written:
        return _weighted(written, domain)
    if "value" not in written:
        raise SpaceError(
            f"prior={dict(written)!r} must have a value; write {{value: ..., confidence: ...}}"
        )
    confidence = written.get("confidence", "medium")
    if not isinstance(confidence, str) or confidence not in CONFIDENCES:
        raise SpaceError(
            f"confidence={confidence!r} of the prior must be one of {', '.join(CONFIDENCES)}"
        )
    return Belief(_legal(written["value"], domain), confidence)


def moved_belief(belief: Belief, domain: Domain) -> Belief:
    """The belief in a domain with other bounds: a favourite outside goes to the nearer end."""
    value = belief.value
    if domain.contains(value):
        return replace(belief, value=domain.decode(domain.encode(value)))
    lowest, highest = domain.decode(0.0), domain.decode(1.0)
    return replace(belief, value=min((lowest, highest), key=lambda end: abs(end - value)))


def kept_belief(belief: Belief, domain: Listed, smaller: Listed) -> Belief | None:
    """The belief in a domain that keeps some of the values; None where only one is left.

    Raises:
        SpaceError: If several values are kept, but not the favourite.
    """
    if isinstance(smaller, Constant):
        return None
    if belief.weights is not None:
        pairs = zip(domain.values, belief.weights, strict=True)
        return replace(belief, weights=tuple(w for value, w in pairs if smaller.contains(value)))
    if not smaller.contains(belief.value):
        raise SpaceError(
            f"the prior favours {belief.value!r}, which is not among the values to keep, "
            f"{smaller.shown}; keep it, or give another prior (with_prior) or none (without_prior)"
        )
    return belief


def _legal(written: Any, domain: Domain) -> Any:
    value = plain(untag_tuples(written))
    number = as_number(value)
    if not domain.contains(value) and number is not None and domain.contains(number):
        value = number
    if domain.contains(value):
        return domain.decode(domain.encode(value))
    if isinstance(value, Mapping):
        raise SpaceError(
            f"prior={value!r} must be a favourite value ({domain.allowed}), or a mapping with the "
            f"fields {', '.join(_FIELDS)}"
        )
    fix = "name one of them" if isinstance(domain, Listed) else "move it, or widen the domain"
    raise SpaceError(f"prior={value!r} must be {domain.allowed}; {fix}")


def _weighted(written: Mapping[str, Any], domain: Domain) -> Belief:
    if set(written) != {"weights"}:
        raise SpaceError(
            f"prior={dict(written)!r} must have either weights or a value with its confidence; "
            "remove one"
        )
    if not isinstance(domain, Choice):
        raise SpaceError(
            f"weights of the prior are for a choice, not for domain {domain.kind}; give a value "
            "with its confidence"
        )
    weights = written["weights"]
    if isinstance(weights, Mapping):
        weights = _by_value(weights, domain)
    if not isinstance(weights, (list, tuple)) or len(weights) != len(domain.values):
        raise SpaceError(
            f"weights={weights!r} of the prior must be {len(domain.values)} numbers, one per "
            "value, or a mapping of the values to numbers"
        )
    numbers = tuple(_positive(weight) for weight in weights)
    if not math.isfinite(sum(numbers)):
        raise SpaceError(
            f"weights={list(weights)!r} of the prior must be finite numbers above 0; give a small "
            "one to a value that is hardly worth a try, or remove that value from the choice"
        )
    return Belief(weights=numbers)


def _positive(weight: Any) -> float:
    """The weight as a float; NaN if it is none above 0."""
    number: Any = as_number(weight) if isinstance(weight, str) else weight
    try:
        positive = float(number) if is_number(number) else math.nan
    except OverflowError:
        return math.nan
    return positive if positive > 0 else math.nan


def _by_value(weights: Mapping[Any, Any], domain: Choice) -> list[Any]:
    """Weights in the order of the values; a key may be the text of a number, as in JSON."""
    found: dict[int, Any] = {}
    for key, weight in weights.items():
        number = as_number(key)
        named = key if domain.contains(key) or number is None else number
        if not domain.contains(named) or domain.index(named) in found:
            raise SpaceError(
                f"weights of the prior name {key!r}, they must name each of "
                f"[{domain.shown}] once; or give a list with one weight per value"
            )
        found[domain.index(named)] = weight
    missing = [value for i, value in enumerate(domain.values) if i not in found]
    if missing:
        raise SpaceError(
            f"weights={dict(weights)!r} of the prior must name every value; {missing[0]!r} is "
            "missing, add it"
        )
    return [found[i] for i in range(len(domain.values))]
