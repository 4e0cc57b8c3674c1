"""Other bounds for one numeric parameter; conditions and forbidden combinations stay."""

from __future__ import annotations

from dataclasses import replace

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.belief import moved_belief
from raytune_ahu.space.declaration import Declaration
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps


def with_bounds(declaration: Declaration, name: str, lower: float, upper: float) -> Declaration:
    """Give a numeric parameter other bounds.

    A default outside them is dropped; the favourite of a prior moves to the nearer bound.

    Args:
        declaration: The space.
        name: Flat name of the parameter.
        lower: Its new lower bound, included.
        upper: Its new upper bound, included.

    Raises:
        SpaceError: If there is no such parameter, it has no bounds that could be moved (it lists
            values, or is normally distributed), or the bounds are not legal for its domain.
    """
    by_name = {parameter.name: parameter for parameter in declaration.parameters}
    if name not in by_name:
        raise SpaceError(
            f"parameter {name!r} is not in the search space; it has {', '.join(by_name)}"
        )
    domain = by_name[name].domain
    if not isinstance(domain, (Real, Steps)):
        raise SpaceError(f"parameter {name!r} is a {domain.kind}, whose bounds cannot be moved")
    default = domain.default
    kept = default if default is not None and lower <= default <= upper else None
    try:
        moved = replace(domain, lower=lower, upper=upper, default=kept)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error
    belief = by_name[name].belief
    believed = None if belief is None else moved_belief(belief, moved)
    parameters = tuple(
        replace(parameter, domain=moved, belief=believed) if parameter.name == name else parameter
        for parameter in declaration.parameters
    )
    return replace(declaration, parameters=parameters)
