"""`SearchSpace`: exact types, conditions, forbidden combinations, validation, summary."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace

SGD = {
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1},
    "optimizer": {"domain": "choice", "values": ["sgd", "adam", "none"]},
    "momentum": {
        "domain": "uniform",
        "lower": 0.0,
        "upper": 0.99,
        "when": {"optimizer": "sgd"},
    },
    "nesterov": {
        "domain": "choice",
        "values": [True, False],
        "when": {"momentum": {">": 0.5}},
    },
    "layers": {"domain": "randint", "lower": 1, "upper": 4},
    "epochs": 27,
    "forbidden": [{"optimizer": "adam", "layers": [3, 4]}],
}


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.from_dict(SGD)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    "values",
    [[True, 5], ["a", 1, 2.5, None, True], [1, 2.5], [(1, 2), (3, 4)], [[1], [2]], [0, False]],
    ids=str,
)
@pytest.mark.parametrize("domain", ["choice", "ordinal"])
def test_listed_values_keep_their_exact_types(domain: str, values: list[Any]) -> None:
    written = [{"tuple": list(v)} if isinstance(v, tuple) else v for v in values]
    space = SearchSpace.from_dict({"x": {"domain": domain, "values": written}})
    generator = rng()
    sampled = [space.sample(generator)["x"] for _ in range(200)]
    assert {repr(v) for v in sampled} == {repr(v) for v in values}
    again = [space.decode(space.encode({"x": value}))["x"] for value in values]
    assert repr(again) == repr(values)


def test_numpy_scalars_in_a_declaration_become_plain_python() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "choice", "values": np.array([16, 32])},
            "b": {"domain": "choice", "values": [np.str_("relu"), np.bool_(True), np.float32(0.5)]},
            "c": {"domain": "uniform", "lower": np.float64(0), "upper": np.int64(1)},
            "d": {"domain": "randint", "lower": np.int64(0), "upper": np.int64(9)},
            "e": np.int64(3),
        }
    )
    json.dumps(space.to_dict())
    for _ in range(20):
        configuration = space.sample(rng())
        assert [type(configuration[k]).__module__ for k in configuration] == ["builtins"] * 5


def test_a_tuple_is_handed_out_and_its_list_form_is_accepted() -> None:
    space = SearchSpace.from_dict({"k": {"domain": "choice", "values": [(3, 3), (5, 5)]}})
    assert space.decode([0.9]) == {"k": (5, 5)}
    assert space.contains({"k": [5, 5]})
    np.testing.assert_array_equal(space.encode({"k": [5, 5]}), space.encode({"k": (5, 5)}))


def test_a_mutable_value_is_handed_out_as_a_copy() -> None:
    space = SearchSpace.from_dict({"k": {"domain": "choice", "values": [[1, 2]]}, "c": [1]})
    configuration = space.decode([0.5])
    configuration["k"].append(3)
    configuration["c"].append(3)
    assert space.decode([0.5]) == {"k": [1, 2], "c": [1]}


def test_sampling_depends_on_the_generator_alone(space: SearchSpace) -> None:
    np.random.seed(0)  # noqa: NPY002  (must not matter)
    first = [space.sample(generator) for generator in [rng()] for _ in range(10)]
    np.random.seed(1)  # noqa: NPY002
    second = [space.sample(generator) for generator in [rng()] for _ in range(10)]
    assert first == second


def test_columns_are_the_parameters_that_vary(space: SearchSpace) -> None:
    assert space.names == ("lr", "optimizer", "momentum", "nesterov", "layers")
    assert space.n_choices.tolist() == [0, 3, 0, 2, 0]
    assert len(space) == 5


def test_inactive_parameters_are_absent_and_their_columns_nan(space: SearchSpace) -> None:
    configuration = {"lr": 0.01, "optimizer": "none", "layers": 1, "epochs": 27}
    vector = space.encode(configuration)
    assert np.isnan(vector).tolist() == [False, False, True, True, False]
    assert space.decode(vector) == configuration


def test_a_condition_on_an_inactive_parameter_is_false() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "choice", "values": [1, 2]},
            "b": {"domain": "choice", "values": [1, 2], "when": {"a": 1}},
            "c": {"domain": "choice", "values": [1, 2], "when": {"b": {"!=": 1}}},
        }
    )
    assert space.contains({"a": 2})
    assert not space.contains({"a": 2, "c": 1})
    assert space.contains({"a": 1, "b": 2, "c": 1})


def test_several_names_must_all_hold_and_a_list_means_any_of() -> None:
    base = {name: {"domain": "randint", "lower": 0, "upper": 3} for name in "ab"}
    flag = {"domain": "choice", "values": ["on"]}
    both = SearchSpace.from_dict({**base, "x": {**flag, "when": {"a": [1, 2], "b": {">": 1}}}})
    either = SearchSpace.from_dict({**base, "x": {**flag, "when": [{"a": 3}, {"b": {"<": 1}}]}})
    for a in range(4):
        for b in range(4):
            with_x = {"a": a, "b": b, "x": "on"}
            assert both.contains(with_x) == (a in (1, 2) and b > 1)
            assert either.contains(with_x) == (a == 3 or b < 1)


def test_ordinal_parents_compare_by_their_order() -> None:
    space = SearchSpace.from_dict(
        {
            "size": {"domain": "ordinal", "values": ["small", "medium", "large"]},
            "x": {"domain": "choice", "values": [0], "when": {"size": {">": "small"}}},
        }
    )
    assert space.contains({"size": "small"})
    assert space.contains({"size": "large", "x": 0})
    assert not space.contains({"size": "large"})


def test_two_comparisons_of_one_parameter_make_a_range() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "randint", "lower": 0, "upper": 9},
            "x": {"domain": "choice", "values": [0], "when": {"a": {">": 2, "<": 5}}},
        }
    )
    assert [a for a in range(10) if space.contains({"a": a, "x": 0})] == [3, 4]
    assert SearchSpace.from_dict(space.to_dict()) == space


def test_forbidden_combinations_are_never_sampled_and_not_contained(space: SearchSpace) -> None:
    generator = rng()
    for _ in range(500):
        configuration = space.sample(generator)
        assert not (configuration["optimizer"] == "adam" and configuration["layers"] >= 3)
    wrong = {"lr": 0.01, "optimizer": "adam", "layers": 3, "epochs": 27}
    with pytest.raises(SpaceError, match=r"optimizer == 'adam' and layers in \{3, 4\} is forbid"):
        space.validate(wrong)
    assert space.try_decode(space.encode(wrong)) is None


def test_forbidden_comparisons() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "randint", "lower": 0, "upper": 3},
            "b": {"domain": "uniform", "lower": 0, "upper": 1},
            "forbidden": [{"a": {">=": 2}, "b": {"<": 0.5}}],
        }
    )
    assert not space.contains({"a": 2, "b": 0.4})
    assert space.contains({"a": 2, "b": 0.5})
    assert space.contains({"a": 1, "b": 0.4})


def test_forbidding_practically_everything_is_an_error_at_once() -> None:
    declaration = {
        "a": {"domain": "choice", "values": [1, 2]},
        "forbidden": [{"a": [1, 2]}],
    }
    with pytest.raises(SpaceError, match=r"10000 random configurations were all forbidden; relax"):
        SearchSpace.from_dict(declaration)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1.0}, r"parameter 'lr': value 1.0 must be a number in \[0.0001, 0.1\]"),
        ({"lr": "0.01"}, r"parameter 'lr': value '0.01' must be"),
        ({"layers": 5}, r"parameter 'layers': value 5 must be an integer in \[1, 4\]"),
        ({"optimizer": "SGD"}, r"parameter 'optimizer': value 'SGD' must be one of \['sgd', "),
        ({"epochs": 9}, r"parameter 'epochs': value 9 must be one of \[27\]"),
        ({"lr": None, "speed": 1}, r"parameter 'lr': value None"),
        ({"speed": 1}, r"unknown parameter 'speed'; remove it, known are lr, optimizer"),
        ({"momentum": 0.1}, r"'momentum': value 0.1 is given, but it is active only when optimiz"),
        ({"optimizer": "sgd"}, r"parameter 'momentum' is missing; add it, it must be a number in"),
    ],
)
def test_validate_names_the_parameter_its_value_and_what_is_allowed(
    space: SearchSpace, change: dict[str, Any], message: str
) -> None:
    good = {"lr": 0.01, "optimizer": "none", "layers": 1, "epochs": 27}
    space.validate(good)
    with pytest.raises(SpaceError, match=message) as caught:
        space.validate(good | change)
    assert "\n" not in str(caught.value)
    assert not space.contains(good | change)


def test_a_configuration_must_be_a_mapping(space: SearchSpace) -> None:
    with pytest.raises(SpaceError, match="must be a mapping"):
        space.validate([1, 2])  # type: ignore[arg-type]


def test_nan_in_an_active_column_is_an_error_and_in_an_inactive_one_is_not(
    space: SearchSpace,
) -> None:
    with pytest.raises(SpaceError, match="'lr' is active but its coordinate is NaN"):
        space.try_decode([math.nan, 0.5, 0.5, 0.5, 0.5])
    assert space.decode([0.5, 0.9, math.nan, math.nan, 0.1])["optimizer"] == "none"


def test_coordinates_outside_the_cube_move_to_its_edge(space: SearchSpace) -> None:
    assert space.decode([-1, 0.9, 0, 0, 7]) == space.decode([0, 0.9, 0, 0, 1])


@pytest.mark.parametrize("vector", [[0.5], [[0.5] * 5], [0.5] * 6, 0.5])
def test_a_vector_of_the_wrong_shape_is_refused(space: SearchSpace, vector: Any) -> None:
    with pytest.raises(SpaceError, match=r"must have shape \(5,\)"):
        space.decode(vector)


def test_repair_makes_inactive_columns_nan_and_centres_cells(space: SearchSpace) -> None:
    repaired = space.repair([0.5, 0.99, 0.5, 0.5, 0.99])
    np.testing.assert_allclose(repaired, [0.5, 5 / 6, math.nan, math.nan, 0.875], atol=1e-12)


def test_encode_many_stacks_the_rows(space: SearchSpace) -> None:
    generator = rng()
    configurations = [space.sample(generator) for _ in range(7)]
    rows = space.encode_many(configurations)
    assert rows.shape == (7, 5)
    np.testing.assert_array_equal(rows[3], space.encode(configurations[3]))
    assert space.encode_many([]).shape == (0, 5)


def test_defaults_are_the_declared_ones_or_the_middle() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "uniform", "lower": 0, "upper": 1, "default": 0.25},
            "b": {"domain": "choice", "values": [1, None, 2], "default": None},
            "c": {"domain": "choice", "values": ["x", "y"]},
            "d": {"domain": "randint", "lower": 0, "upper": 2, "when": {"c": "y"}},
            "e": {"domain": "randn", "mean": 1, "sd": 1, "lower": 0, "upper": 4},
        }
    )
    assert space.default_configuration() == {"a": 0.25, "b": None, "c": "x", "e": 1.0}
    np.testing.assert_allclose(space.defaults, [0.25, 0.5, 0.25, 0.5, 0.25])


def test_a_forbidden_default_is_replaced_by_a_legal_configuration() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "choice", "values": [1, 2]},
            "b": {"domain": "choice", "values": [1, 2]},
            "forbidden": [{"a": 1, "b": 1}],
        }
    )
    space.validate(space.default_configuration())
    assert space.configspace.get_default_configuration() is not None


def test_grid_search_parameters_have_a_column_but_cannot_be_drawn() -> None:
    space = SearchSpace.from_dict({"a": {"domain": "grid_search", "values": [1, 2]}, "b": 1})
    assert space.names == space.grid_search_names == ("a",)
    assert space.contains({"a": 2, "b": 1})
    with pytest.raises(SpaceError, match="'a' is declared as grid_search and cannot be drawn"):
        space.sample(rng())


def test_fixing_a_parent_to_a_constant_keeps_a_copied_file_valid() -> None:
    fixed = SearchSpace.from_dict(SGD | {"optimizer": "sgd"})
    assert fixed.names == ("lr", "momentum", "nesterov", "layers")
    assert not np.isnan(fixed.encode(fixed.sample(rng()))[1])
    other = SearchSpace.from_dict(SGD | {"optimizer": "none"})
    assert other.names == ("lr", "layers")
    assert set(other.sample(rng())) == {"lr", "optimizer", "layers", "epochs"}
    assert SearchSpace.from_dict(other.to_dict()) == other
    assert SearchSpace.from_configspace(other.configspace) == other


def test_a_conditional_constant_comes_and_goes() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"domain": "choice", "values": [1, 2]},
            "b": {"domain": "constant", "value": 9, "when": {"a": 2}},
        }
    )
    assert space.decode([0.1]) == {"a": 1}
    assert space.decode([0.9]) == {"a": 2, "b": 9}


def test_summary_is_one_line_per_parameter(space: SearchSpace) -> None:
    lines = space.summary().splitlines()
    assert lines[0].split() == ["parameter", "domain", "values", "active", "when"]
    assert len(lines) == 2 + 6 + 1
    assert "loguniform" in lines[2]
    assert "[0.0001, 0.1]" in lines[2]
    assert lines[4].endswith("optimizer == 'sgd'")
    assert lines[-1] == "forbidden: optimizer == 'adam' and layers in {3, 4}"


def test_equality_and_digest_tell_types_apart() -> None:
    def of(value: Any) -> SearchSpace:
        return SearchSpace.from_dict({"x": {"domain": "choice", "values": [value, "z"]}})

    assert of(True) == of(True)
    assert hash(of(1)) == hash(of(1))
    assert len({of(1).digest(), of(True).digest(), of("1").digest(), of(1.0).digest()}) == 4
    assert of(1) != of(True)
    assert of((1,)) != of([1])
    assert of(1) != "a space"


def test_a_space_of_constants_only_has_no_columns() -> None:
    space = SearchSpace.from_dict({"a": 1})
    assert space.sample(rng()) == {"a": 1}
    assert space.encode({"a": 1}).shape == (0,)
    assert space.decode([]) == {"a": 1}
