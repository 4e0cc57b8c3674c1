"""Nested dictionaries and their flat form, in which the keys of a path are joined with "/".

`flatten({"model": {"width": 64}}) == {"model/width": 64}`, and `unflatten` is its inverse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SEPARATOR = "/"


def flatten(nested: Mapping[str, Any], leaves: Collection[str] = ()) -> dict[str, Any]:
    """Flatten a nested mapping, keeping the order.

    Args:
        nested: Mappings within mappings; an empty mapping counts as a value.
        leaves: Flat names at which a mapping is a value and not a group.

    Returns:
        One entry per value, under its flat name.
    """
    flat: dict[str, Any] = {}
    _flatten_into(flat, nested, "", leaves)
    return flat


def _flatten_into(
    flat: dict[str, Any], nested: Mapping[str, Any], prefix: str, leaves: Collection[str]
) -> None:
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name not in leaves:
            _flatten_into(flat, value, name + SEPARATOR, leaves)
        else:
            flat[name] = value


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nest a flat mapping again, keeping the order of first appearance.

    Raises:
        ValueError: If one name is both a value and a group, as in `a` and `a/b`.
    """
    nested: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        *path, last = name.split(SEPARATOR)
        target = nested
        prefix = ""
        for key in path:
            prefix += key + SEPARATOR
            if prefix not in groups:
                if key in target:
                    raise ValueError(f"{prefix[:-1]!r} is a value and cannot hold {name!r}")
                groups[prefix] = target[key] = {}
            target = groups[prefix]
        if last in target:
            raise ValueError(f"{name!r} is a group and cannot be a value")
        target[last] = value
    return nested
