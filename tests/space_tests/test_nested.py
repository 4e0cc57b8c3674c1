"""Flat and nested dictionaries."""

from __future__ import annotations

import pytest

from raytune_ahu.space import flatten, unflatten


def test_flatten_joins_the_keys_and_unflatten_undoes_it() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1]}}, "e": None}
    flat = {"a/b": 1, "a/c/d": [1], "e": None}
    assert flatten(nested) == flat
    assert unflatten(flat) == nested


def test_a_mapping_at_a_leaf_is_a_value() -> None:
    assert flatten({"a": {"b": {"c": 1}}}, leaves={"a/b"}) == {"a/b": {"c": 1}}
    assert flatten({"a": {}}) == {"a": {}}


@pytest.mark.parametrize("flat", [{"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}, {"a": {}, "a/b": 1}])
def test_a_name_that_is_a_value_and_a_group_is_refused(flat: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'a"):
        unflatten(flat)
