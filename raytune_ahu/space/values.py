"""Plain values: what a configuration may hold, and when two values are the same.

A configuration is JSON-ready: None, bool, int, finite float, str, and lists, tuples and
string-keyed dictionaries of these. `plain` turns numpy scalars into Python's own and refuses the
rest; `identity` is the type-aware key by which choices are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError

_TUPLE_TAG = "tuple"


def plain(value: Any) -> Any:
    """Return the value as plain Python: numpy scalars converted, containers copied.

    Raises:
        SpaceError: If the value, or something in it, cannot be written to JSON.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value if not isinstance(value, str) else str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpaceError(f"value {value!r} must be finite; leave it out or use None")
        return float(value)
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    raise SpaceError(_refusal(value))


def _plain_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    if set(value) == {_TUPLE_TAG}:
        raise SpaceError(f"value {dict(value)!r}: a dict with the only key 'tuple' is reserved")
    for key in value:
        if not isinstance(key, str):
            raise SpaceError(f"value {dict(value)!r}: key {key!r} must be a string")
    return {key: plain(item) for key, item in value.items()}


def _refusal(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"value {_short(value)} is an array; use a list or a tuple: .tolist()"
    if callable(value):
        return f"value {_short(value)} is a function or class; use its name, a string"
    return (
        f"value {_short(value)} of type {type(value).__name__} cannot be written to JSON; "
        "use None, bool, int, float, str, or lists and tuples of these"
    )


def _short(value: Any, limit: int = 80) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def identity(value: Any) -> Hashable:
    """Key of a plain value: equal keys mean the same value.

    True and 1 differ; 1 and 1.0 are the same number; a tuple and the list that JSON makes of it
    are the same.
    """
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return (type(value), value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, (list, tuple)):
        return ("sequence", tuple(identity(item) for item in value))
    if isinstance(value, Mapping):
        return ("mapping", frozenset((key, identity(item)) for key, item in value.items()))
    if isinstance(value, np.generic):
        return identity(value.item())
    return ("object", id(value))


def copied(value: Any) -> Any:
    """Copy the mutable parts of a plain value, so that nobody can change a choice in place."""
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, tuple):
        return tuple(copied(item) for item in value)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value


def is_mutable(value: Any) -> bool:
    """Whether a plain value, or something in it, can be changed in place."""
    if isinstance(value, tuple):
        return any(is_mutable(item) for item in value)
    return isinstance(value, (list, dict))


def tag_tuples(value: Any) -> Any:
    """Write each tuple as `{"tuple": [...]}`, so that JSON and YAML keep it apart from a list."""
    if isinstance(value, tuple):
        return {_TUPLE_TAG: [tag_tuples(item) for item in value]}
    if isinstance(value, list):
        return [tag_tuples(item) for item in value]
    if isinstance(value, dict):
        return {key: tag_tuples(item) for key, item in value.items()}
    return value


def untag_tuples(value: Any) -> Any:
    """Undo `tag_tuples`."""
    if isinstance(value, Mapping):
        if set(value) == {_TUPLE_TAG} and isinstance(value[_TUPLE_TAG], (list, tuple)):
            return tuple(untag_tuples(item) for item in value[_TUPLE_TAG])
        return {key: untag_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return [untag_tuples(item) for item in value]
    if isinstance(value, tuple):
        return tuple(untag_tuples(item) for item in value)
    return value
