"""Beliefs in declarations: both spellings, round trips, smaller and moved domains, refusals."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.space import SearchSpace

PARAMETERS: dict[str, Any] = {
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1},
    "optimizer": {"domain": "choice", "values": ["sgd", "adam", "lion"]},
    "momentum": {"domain": "uniform", "lower": 0.0, "upper": 0.99, "when": {"optimizer": "sgd"}},
    "model": {
        "layers": {"domain": "randint", "lower": 1, "upper": 4},
        "width": {"domain": "qlograndint", "lower": 16, "upper": 256, "q": 16},
    },
    "batch": {"domain": "ordinal", "values": [16, 32, 64]},
    "kernel": {"domain": "choice", "values": [{"tuple": [3, 3]}, [5, 5], None, {"a": 1}]},
    "noise": {"domain": "randn", "mean": 0, "sd": 1, "lower": -3, "upper": 3},
    "epochs": 27,
}
BELIEFS: dict[str, Any] = {
    "lr": 1e-3,
    "optimizer": {"weights": {"sgd": 1, "lion": 2, "adam": 4}},
    "momentum": {"value": 0.9, "confidence": "high"},
    "model/layers": {"value": 2},
    "model/width": {"value": 64, "confidence": "low"},
    "batch": 32,
    "kernel": {"tuple": [3, 3]},
    "noise": 1,
}


def in_section() -> SearchSpace:
    return SearchSpace.from_dict({**PARAMETERS, "prior": BELIEFS})


def in_entries(beliefs: dict[str, Any] = BELIEFS) -> SearchSpace:
    written = copy.deepcopy(PARAMETERS)
    for name, belief in beliefs.items():
        *groups, last = name.split("/")
        group = written[groups[0]] if groups else written
        group[last]["prior"] = belief
    return SearchSpace.from_dict(written)


def beliefs_of(space: SearchSpace) -> dict[str, Any]:
    parameters = space.declaration.parameters
    return {p.name: p.belief.written() for p in parameters if p.belief is not None}


# Declaring --------------------------------------------------------------------------------------


def test_entries_the_section_and_with_prior_mean_the_same() -> None:
    plain = SearchSpace.from_dict(PARAMETERS)
    nested = {k: v for k, v in BELIEFS.items() if "/" not in k}
    nested["model"] = {"layers": 2, "width": {"value": 64, "confidence": "low"}}
    explicit = {"parameters": PARAMETERS, "prior": BELIEFS}
    spaces = [in_section(), in_entries(), plain.with_prior(BELIEFS), plain.with_prior(nested)]
    spaces.append(SearchSpace.from_dict(explicit))
    assert len({space.digest() for space in spaces}) == 1
    assert beliefs_of(spaces[0]) == {
        "lr": 0.001,
        "optimizer": {"weights": [1.0, 4.0, 2.0]},
        "momentum": {"value": 0.9, "confidence": "high"},
        "model/layers": 2,
        "model/width": {"value": 64, "confidence": "low"},
        "batch": 32,
        "kernel": {"value": {"tuple": [3, 3]}, "confidence": "medium"},
        "noise": 1.0,
    }


def test_with_prior_replaces_what_it_names_and_leaves_its_space_alone() -> None:
    space = in_section()
    other = space.with_prior({"lr": 0.01, "batch": 64})
    assert beliefs_of(other) == {**beliefs_of(space), "lr": 0.01, "batch": 64}
    assert space == in_section()


def test_without_prior_takes_some_or_all_away() -> None:
    space = in_section()
    assert space.without_prior() == SearchSpace.from_dict(PARAMETERS)
    assert set(beliefs_of(space.without_prior("lr", "model/width"))) == set(BELIEFS) - {
        "lr",
        "model/width",
    }
    with pytest.raises(SpaceError, match=r"unknown parameter 'width'.*did you mean 'model/width'"):
        space.without_prior("width")


def test_a_value_that_is_a_list_a_dict_or_none_can_be_the_favourite() -> None:
    plain = SearchSpace.from_dict(PARAMETERS)
    for favourite in ([5, 5], None, (3, 3), {"a": 1}, {"value": {"a": 1}}):
        space = plain.with_prior({"kernel": favourite})
        assert space.prior is not None
        expected = favourite["value"] if favourite == {"value": {"a": 1}} else favourite
        assert space.prior.mode()["kernel"] == expected
        assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_numbers_that_json_holds_as_text_are_read() -> None:
    space = SearchSpace.from_dict(
        {
            "x": {"domain": "choice", "values": [8, 16, True], "prior": {"weights": [1, "2", 3]}},
            "y": {"domain": "choice", "values": [8, 16], "prior": {"weights": {"16": 3, "8": 1}}},
            "lr": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "prior": "1e-3"},
        }
    )
    assert beliefs_of(space) == {
        "x": {"weights": [1.0, 2.0, 3.0]},
        "y": {"weights": [1.0, 3.0]},
        "lr": 0.001,
    }


def test_parameters_may_be_called_prior() -> None:
    entry = {"domain": "choice", "values": [1, 2], "prior": 2}
    space = SearchSpace.from_dict({"parameters": {"prior": entry}, "prior": {}})
    assert space.names == ("prior",)
    assert SearchSpace.from_dict(space.to_dict()) == space
    group = SearchSpace.from_dict({"m": {"prior": entry}})
    assert group.names == ("m/prior",)
    assert SearchSpace.from_dict(group.to_dict()) == group


# Round trips ------------------------------------------------------------------------------------


def test_dict_files_configspace_pickle_and_specification_give_the_beliefs_back(
    tmp_path: Path,
) -> None:
    space = in_section()
    copies = [
        SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))),
        SearchSpace.from_configspace(space.configspace),
        pickle.loads(pickle.dumps(space)),
    ]
    for suffix in ("yaml", "json"):
        space.to_file(tmp_path / f"s.{suffix}")
        copies.append(SearchSpace.from_file(tmp_path / f"s.{suffix}"))
    spec = ExperimentSpec(
        name="s", trainable="m:T", space=space, metric="loss", mode="min", max_epochs=9,
        num_samples=3,
    )  # fmt: skip
    copies.append(ExperimentSpec.from_dict(json.loads(json.dumps(spec.to_dict()))).space)
    for again in copies:
        assert again == space
        assert hash(again) == hash(space)
        assert again.digest() == space.digest()
        assert beliefs_of(again) == beliefs_of(space)
        assert again.prior is not None
        assert again.prior.mode() == space.prior.mode()  # type: ignore[union-attr]


def test_a_belief_makes_another_space_with_the_same_draws() -> None:
    plain, space = SearchSpace.from_dict(PARAMETERS), in_section()
    assert plain != space
    assert plain.digest() != space.digest()
    assert space.with_prior({"lr": {"value": 1e-3, "confidence": "high"}}) != space
    mine, other = np.random.default_rng(0), np.random.default_rng(0)
    assert [plain.sample(mine) for _ in range(20)] == [space.sample(other) for _ in range(20)]
    assert plain.default_configuration() == space.default_configuration()


def test_a_written_file_holds_the_prior_in_the_entry(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        {"x": {"domain": "randint", "lower": 0, "upper": 9}, "k": 3, "prior": {"x": 4}}
    ).with_prior({"x": {"value": 4, "confidence": "low"}})
    space.to_file(tmp_path / "s.yaml")
    assert (tmp_path / "s.yaml").read_text().splitlines() == [
        "x: {domain: randint, lower: 0, upper: 9, prior: {value: 4, confidence: low}}",
        "k: 3",
    ]


def test_the_summary_shows_the_prior() -> None:
    lines = in_section().summary().splitlines()
    assert lines[0].split() == ["parameter", "domain", "values", "prior", "active", "when"]
    assert lines[2].split()[-2:] == ["0.001", "(medium)"]
    assert lines[3].endswith("weights 1, 4, 2")
    assert "0.9 (high)" in lines[4]
    assert "prior" not in SearchSpace.from_dict(PARAMETERS).summary()


# Smaller and moved domains ----------------------------------------------------------------------


def test_restrict_keeps_the_belief_in_what_is_left() -> None:
    smaller = in_section().restrict("optimizer", ["sgd", "lion"]).restrict("batch", [32, 64])
    assert beliefs_of(smaller)["optimizer"] == {"weights": [1.0, 2.0]}
    assert beliefs_of(smaller)["batch"] == 32
    without_parent = smaller.restrict("optimizer", ["lion"])
    assert set(beliefs_of(without_parent)) == set(BELIEFS) - {"optimizer", "momentum"}


def test_restrict_to_one_value_drops_the_belief_whichever_it_is() -> None:
    for value in (16, 32):
        constant = in_section().restrict("batch", [value])
        assert "batch" not in beliefs_of(constant)
        assert SearchSpace.from_dict(constant.to_dict()) == constant


def test_restrict_refuses_to_drop_the_favourite_among_several() -> None:
    message = "parameter 'batch': the prior favours 32, .* 16, 64; keep it, or .*without_prior"
    with pytest.raises(SpaceError, match=message):
        in_section().restrict("batch", [16, 64])
    kept = in_section().without_prior("batch").restrict("batch", [16, 64])
    assert "batch" not in beliefs_of(kept)


@pytest.mark.parametrize(
    ("name", "lower", "upper", "favourite"),
    [
        ("lr", 1e-5, 1.0, 0.001),
        ("lr", 0.01, 1.0, 0.01),
        ("lr", 1e-6, 1e-4, 1e-4),
        ("model/width", 80, 200, {"value": 80, "confidence": "low"}),
        ("model/width", 16, 40, {"value": 32, "confidence": "low"}),
        ("model/layers", 1, 8, 2),
        ("momentum", 0.0, 0.5, {"value": 0.5, "confidence": "high"}),
    ],
)
def test_with_bounds_moves_a_favourite_outside_to_the_nearer_end(
    name: str, lower: float, upper: float, favourite: Any
) -> None:
    moved = in_section().with_bounds(name, lower, upper)
    assert beliefs_of(moved) == {**beliefs_of(in_section()), name: favourite}
    assert SearchSpace.from_dict(moved.to_dict()) == moved


# Refusals ---------------------------------------------------------------------------------------

CHOICE = {"domain": "choice", "values": ["sgd", "adam"]}
INTEGER = {"domain": "randint", "lower": 0, "upper": 9}


def real(prior: Any) -> dict[str, Any]:
    return {"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "prior": prior}}


def choice(prior: Any) -> dict[str, Any]:
    return {"x": CHOICE | {"prior": prior}}


REFUSED: dict[str, tuple[Any, str]] = {
    "outside": (
        real(2),
        "parameter 'x': prior=2 must be a number in [0.0, 1.0]; move it, or widen the domain",
    ),
    "outside, long form": (real({"value": -1}), "'x': prior=-1 must be a number in [0.0, 1.0]"),
    "no number": (real("much"), "'x': prior='much' must be a number in"),
    "none": (real(None), "'x': prior=None must be a number in"),
    "bool": (real(True), "'x': prior=True must be a number in"),
    "nan": (real(math.nan), "'x': value nan must be finite"),
    "broken integer": ({"x": INTEGER | {"prior": 2.5}}, "prior=2.5 must be an integer in [0, 9]"),
    "no multiple": (
        {"x": {"domain": "qrandint", "lower": 8, "upper": 64, "q": 8, "prior": 12}},
        "'x': prior=12 must be a multiple of 8 in [8, 64]; move it",
    ),
    "no choice": (
        choice("adamw"),
        "'x': prior='adamw' must be one of ['sgd', 'adam']; name one of them",
    ),
    "no ordinal": (
        {"x": {"domain": "ordinal", "values": [1, 2], "prior": 3}},
        "'x': prior=3 must be one of [1, 2]; name one of them",
    ),
    "confidence": (
        real({"value": 0.5, "confidence": "sure"}),
        "'x': confidence='sure' of the prior must be one of low, medium, high",
    ),
    "confidence that is no text": (
        real({"value": 0.5, "confidence": ["low"]}),
        "'x': confidence=['low'] of the prior must be one of low, medium, high",
    ),
    "no value": (real({"confidence": "low"}), "'x': prior={'confidence': 'low'} must have a value"),
    "misspelt field": (
        real({"value": 0.5, "confidense": "low"}),
        "(a number in [0.0, 1.0]), or a mapping with the fields value, confidence, weights",
    ),
    "constant": (
        {"x": {"domain": "constant", "value": 3, "prior": 3}},
        "'x': prior=3 is given to a constant, which has one value; remove the prior",
    ),
    "constant in the section": (
        {"x": 3, "y": CHOICE, "prior": {"x": 3}},
        "'x': prior=3 is given to a constant, which has one value; remove the prior, or declare",
    ),
    "grid search": (
        {"x": {"domain": "grid_search", "values": [1, 2], "prior": 1}},
        "'x': prior=1 is given to a grid_search, which tries every value; remove the",
    ),
    "grid search in the section": (
        {"x": {"domain": "grid_search", "values": [1, 2]}, "prior": {"x": 1}},
        "'x': prior=1 is given to a grid_search, which tries every value; remove the prior, or "
        "declare it as choice",
    ),
    "weights of a number": (
        real({"weights": [1, 2]}),
        "'x': weights of the prior are for a choice, not for domain uniform; give a value",
    ),
    "weights and a value": (
        choice({"weights": [1, 2], "value": "sgd"}),
        "must have either weights or a value with its confidence; remove one",
    ),
    "too few weights": (choice({"weights": [1]}), "weights=[1] of the prior must be 2 numbers"),
    "weights that are none": (choice({"weights": 3}), "weights=3 of the prior must be 2 numbers"),
    "weight of zero": (
        choice({"weights": [0, 1]}),
        "weights=[0, 1] of the prior must be finite numbers above 0; give a small one",
    ),
    "weight of text": (choice({"weights": ["a", 1]}), "must be finite numbers above 0"),
    "weight of a bool": (choice({"weights": [True, 1]}), "must be finite numbers above 0"),
    "huge weights": (choice({"weights": [1e308, 1e308]}), "must be finite numbers above 0"),
    "a huge integer": (choice({"weights": [10**400, 1]}), "must be finite numbers above 0"),
    "weight of nobody": (
        choice({"weights": {"sgd": 1, "adamw": 1}}),
        "weights of the prior name 'adamw', they must name each of ['sgd', 'adam'] once",
    ),
    "weight left out": (
        choice({"weights": {"sgd": 1}}),
        "weights={'sgd': 1} of the prior must name every value; 'adam' is missing, add it",
    ),
    "twice": (
        {**real(0.5), "prior": {"x": 0.5}},
        "'x' has a prior in its entry and one in the section 'prior'; remove one",
    ),
    "twice in the section": (
        {"m": {"x": INTEGER}, "prior": {"m": {"x": 1}, "m/x": 2}},
        "parameter 'm/x' has two priors; remove one",
    ),
    "unknown name": (
        {"x": CHOICE, "prior": {"y": 1}},
        "prior on unknown parameter 'y', known are x",
    ),
    "short name": (
        {"m": {"x": CHOICE}, "prior": {"x": "sgd"}},
        "prior on unknown parameter 'x', known are m/x; did you mean 'm/x'?",
    ),
    "dotted name": ({"m": {"x": CHOICE}, "prior": {"m.x": "sgd"}}, "did you mean 'm/x'?"),
    "group": ({"m": {"x": CHOICE}, "prior": {"m": "sgd"}}, "unknown parameter 'm', known are m/x"),
    "no section": (
        {"x": CHOICE, "prior": 3},
        "prior=3 must be a mapping of parameter names to favourite values, such as {lr: 0.001}; "
        "for a parameter of that name use the form {parameters: {...}}",
    ),
    "a parameter called prior": (
        {"x": CHOICE, "prior": CHOICE},
        "for a parameter called 'prior' use the form {parameters: {...}}",
    ),
    "no section in the explicit form": (
        {"parameters": {"x": CHOICE}, "prior": [1]},
        "prior=[1] must be a mapping of parameter names",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_prior_that_makes_no_sense_is_refused_on_one_line(case: str) -> None:
    declaration, message = REFUSED[case]
    with pytest.raises(SpaceError, match=re.escape(message)) as caught:
        SearchSpace.from_dict(declaration)
    assert "\n" not in str(caught.value)
