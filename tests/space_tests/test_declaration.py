"""Every input that is refused, with its message; the forms that are accepted; files."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace, declaration
from raytune_ahu.space.entries import KINDS

CHOICE = {"domain": "choice", "values": [1, 2]}
RANGE = {"domain": "randint", "lower": 0, "upper": 9}


def uniform(**fields: Any) -> dict[str, Any]:
    return {"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0} | fields}


REFUSED: dict[str, tuple[Any, str]] = {
    "no parameter": ({}, "the search space is empty; declare at least one"),
    "not a mapping": ([1], "must be a mapping of names to domains, not list"),
    "unknown domain": (
        {"x": {"domain": "gaussian", "lower": 0}},
        r"parameter 'x': unknown domain 'gaussian', known are uniform, loguniform, .*grid_search",
    ),
    "domain that is no name": ({"x": {"domain": 3}}, "'x': unknown domain 3, known are"),
    "forgotten domain": ({"x": {"lower": 0, "upper": 1}}, "'x': the field 'domain' is missing"),
    "unknown field": (uniform(max=3), "'x': unknown field 'max' of domain uniform, known are dom"),
    "missing field": ({"x": {"domain": "uniform", "lower": 0}}, "'x': domain uniform needs the fi"),
    "lower above upper": (uniform(lower=2.0), r"'x': lower=2.0 must be below upper=1.0; swap them"),
    "lower equal to upper": (uniform(lower=1.0), "lower=1.0 must be below upper=1.0; .*a constant"),
    "int lower = upper": ({"x": RANGE | {"upper": 0}}, "lower=0 must be below upper=0"),
    "log of zero": (
        uniform(domain="loguniform"),
        "'x': lower=0.0 must be above 0 on a logarithmic scale; raise it",
    ),
    "log of a negative": ({"x": RANGE | {"domain": "lograndint", "lower": -4}}, "lower=-4 must be"),
    "nan bound": (uniform(lower=math.nan), "'x': lower=nan must be a number"),
    "infinite bound": (uniform(upper=math.inf), "bounds .* must be finite"),
    "text bound": (uniform(upper="one"), "'x': upper='one' must be a number"),
    "bool bound": (uniform(upper=True), "'x': upper=True must be a number"),
    "huge bound": (uniform(upper=10**400), "'x': upper is too large for a float"),
    "too wide": (uniform(lower=-1.7e308, upper=1.7e308), "too wide for floats"),
    "too narrow": (
        uniform(domain="loguniform", lower=1e10, upper=math.nextafter(1e10, 2e10)),
        "too narrow for floats",
    ),
    "broken int bound": ({"x": RANGE | {"upper": 2.5}}, "upper=2.5 must be a whole number"),
    "q beyond the range": (
        uniform(domain="quniform", q=2.0),
        "'x': q=2.0 must be at most the range upper - lower = 1.0",
    ),
    "q of zero": (uniform(domain="quniform", q=0), "q=0.0 must be a finite number above 0"),
    "negative q": ({"x": RANGE | {"domain": "qrandint", "q": -1}}, "q=-1 must be a finite"),
    "tiny q": (uniform(domain="quniform", q=1e-300), "q=1e-300 is too small"),
    "bound off the grid": (
        uniform(domain="quniform", lower=0.05, q=0.1),
        r"lower=0.05 must be a multiple of q=0.1; use 0.0 or 0.1",
    ),
    "log bound nearly zero": (
        uniform(domain="qloguniform", lower=1e-12, upper=4, q=1),
        "lower=1e-12 must be a multiple of q=1.0; use 0.0 or 1.0",
    ),
    "one multiple only": (
        {"x": {"domain": "qrandint", "lower": 1, "upper": 9, "q": 5}},
        "must hold at least two multiples of q=5",
    ),
    "too many integers": ({"x": RANGE | {"upper": 2**60}}, "holds too many values"),
    "too many log integers": (
        {"x": {"domain": "lograndint", "lower": 1, "upper": 10**13}},
        "holds too many values",
    ),
    "unbounded normal": (
        {"x": {"domain": "randn", "mean": 0, "sd": 1}},
        "'x': an unbounded normal cannot be represented: 'lower' is missing; add lower and upper",
    ),
    "sd of zero": (
        {"x": {"domain": "randn", "mean": 0, "sd": 0, "lower": 0, "upper": 1}},
        "sd=0.0 must be a finite number above 0",
    ),
    "normal far from its bounds": (
        {"x": {"domain": "randn", "mean": 0, "sd": 1, "lower": 100, "upper": 101}},
        "must hold some of the normal distribution",
    ),
    "no choices": ({"x": CHOICE | {"values": []}}, "'x': values=\\[\\] must hold at least one"),
    "choices in no order": ({"x": CHOICE | {"values": {1, 2}}}, "values={1, 2} must be a list"),
    "choice of a text": ({"x": CHOICE | {"values": "abc"}}, "values='abc' must be a list"),
    "duplicate choices": ({"x": CHOICE | {"values": ["a", "b", "a"]}}, "'a' repeats 'a'; remove"),
    "1 and 1.0": ({"x": CHOICE | {"values": [1, 1.0]}}, "1.0 repeats 1; remove one"),
    "tuple and list": ({"x": CHOICE | {"values": [(1,), [1]]}}, r"\[1\] repeats \(1,\)"),
    "choice of a function": ({"x": CHOICE | {"values": [len, 1]}}, "is a function or class; use"),
    "choice of a class": ({"x": CHOICE | {"values": [Path]}}, "is a function or class; use its na"),
    "choice of a lambda": ({"x": CHOICE | {"values": [lambda: 1]}}, "'x': value <function .*name"),
    "choice of an array": ({"x": CHOICE | {"values": [np.ones(2)]}}, "is an array; use a list"),
    "choice of nan": ({"x": CHOICE | {"values": [math.nan]}}, "value nan must be finite"),
    "choice of bytes": ({"x": CHOICE | {"values": [b"a"]}}, "of type bytes cannot be written to"),
    "int keys in a choice": ({"x": CHOICE | {"values": [{1: 2}]}}, "key 1 must be a string"),
    "constant function": ({"x": print}, "'x': value <built-in function print> is a function"),
    "weights": ({"x": CHOICE | {"weights": [1]}}, r"weights=\[1.0\] must be 2 numbers"),
    "weight of zero": ({"x": CHOICE | {"weights": [1, 0]}}, "must be above 0; remove values"),
    "weights in no order": ({"x": CHOICE | {"weights": 3}}, "weights=3 must be a list"),
    "illegal default": (uniform(default=2), r"default=2 must be a number in \[0.0, 1.0\]"),
    "default None": (uniform(default=None), "default=None must be a number in"),
    "default of a constant": ({"x": {"domain": "constant", "value": 1, "default": 1}}, "'default'"),
    "slash in a name": ({"a/b": CHOICE}, "'a/b': name 'a/b' must not hold '/', .* nest it"),
    "name that is no text": ({1: CHOICE}, "name 1 must be a non-empty string; quote it"),
    "empty name": ({"": CHOICE}, "name '' must be a non-empty string"),
    "empty group": ({"a": {}}, "parameter 'a': an empty group holds no parameter"),
    "condition on nobody": (
        {"a": CHOICE, "x": CHOICE | {"when": {"b": 1}}},
        "'x': condition on unknown parameter 'b', known are a, x",
    ),
    "condition on a short name": (
        {"m": {"a": CHOICE}, "x": CHOICE | {"when": {"a": 1}}},
        "unknown parameter 'a', known are m/a, x; did you mean 'm/a'?",
    ),
    "condition on itself": ({"x": CHOICE | {"when": {"x": 1}}}, "refers to the parameter itself"),
    "conditions in a circle": (
        {"a": CHOICE | {"when": {"b": 1}}, "b": CHOICE | {"when": {"c": 1}},
         "c": CHOICE | {"when": {"a": 1}}},
        "conditions go round in a circle: a -> b -> c -> a; remove one",
    ),
    "condition value outside": (
        {"a": CHOICE, "x": CHOICE | {"when": {"a": 3}}},
        r"'x': condition on 'a': value 3 must be one of \[1, 2\]",
    ),
    "one condition value outside": (
        {"a": CHOICE, "x": CHOICE | {"when": {"a": [1, 3]}}},
        "condition on 'a': value 3 must be",
    ),
    "no condition value": ({"a": CHOICE, "x": CHOICE | {"when": {"a": []}}}, "at least one value"),
    "empty condition": ({"a": CHOICE, "x": CHOICE | {"when": {}}}, "condition {} must be a map"),
    "empty list of conditions": ({"a": CHOICE, "x": CHOICE | {"when": []}}, "must name at least"),
    "condition of text": ({"a": CHOICE, "x": CHOICE | {"when": "a"}}, "must be a mapping of param"),
    "unknown operator": (
        {"a": RANGE, "x": CHOICE | {"when": {"a": {">=": 3}}}},
        "condition on 'a' has operator '>=', known are == != in < >",
    ),
    "order of a choice": (
        {"a": CHOICE, "x": CHOICE | {"when": {"a": {">": 1}}}},
        "compares with >, but a choice has no order; declare it as ordinal",
    ),
    "order of a constant": (
        {"a": 5, "x": CHOICE | {"when": {"a": {">": "b"}}}},
        "condition on 'a': > 'b' must be followed by a number",
    ),
    "in without a list": (
        {"a": RANGE, "x": CHOICE | {"when": {"a": {"in": 3}}}},
        "'in' must be followed by a list",
    ),
    "forbidden on nobody": (
        {"a": CHOICE, "forbidden": [{"b": 1}]},
        "forbidden combination on unknown parameter 'b', known are a",
    ),
    "forbidden value outside": (
        {"a": CHOICE, "forbidden": [{"a": 3}]},
        "forbidden combination on 'a': value 3 must be one of",
    ),
    "forbidden operator": (
        {"a": CHOICE, "forbidden": [{"a": {"!=": 1}}]},
        "has operator '!=', known are == in < <= > >=",
    ),
    "forbidden domain": (
        {"a": CHOICE, "forbidden": CHOICE},
        r"forbidden must be a list of combinations, .* use the form {parameters: {...}",
    ),
    "forbidden text": ({"parameters": {"a": CHOICE}, "forbidden": "a"}, "must be a list of combin"),
    "beside the explicit form": ({"parameters": {"a": CHOICE}, "b": CHOICE}, "unknown key 'b'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_represented_is_refused_on_one_line(case: str) -> None:
    declaration, message = REFUSED[case]
    with pytest.raises(SpaceError, match=message) as caught:
        SearchSpace.from_dict(declaration)
    assert "\n" not in str(caught.value)


def test_the_list_of_known_domains_is_complete() -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_dict({"x": {"domain": "?"}})
    assert all(f" {kind}" in str(caught.value) for kind in KINDS)


def test_the_explicit_form_frees_the_name_forbidden() -> None:
    space = SearchSpace.from_dict({"parameters": {"forbidden": CHOICE, "parameters": CHOICE}})
    assert space.names == ("forbidden", "parameters")
    assert SearchSpace.from_dict(space.to_dict()) == space
    clash = SearchSpace.from_dict(
        {"parameters": {"forbidden": CHOICE}, "forbidden": [{"forbidden": 1}]}
    )
    assert SearchSpace.from_dict(clash.to_dict()) == clash
    assert not clash.contains({"forbidden": 1})


def test_a_group_may_hold_a_parameter_called_domain() -> None:
    space = SearchSpace.from_dict({"data": {"domain": {"domain": "choice", "values": ["a", "b"]}}})
    assert space.names == ("data/domain",)
    fixed = SearchSpace.from_dict({"d": {"domain": {"domain": "constant", "value": "a"}, "x": 1}})
    assert fixed.default_configuration() == {"d": {"domain": "a", "x": 1}}


def test_a_list_that_is_a_value_of_the_parent_is_that_value() -> None:
    kernel = {"domain": "choice", "values": [[3, 3], [5, 5]]}
    one = SearchSpace.from_dict({"k": kernel, "x": CHOICE | {"when": {"k": [3, 3]}}})
    several = SearchSpace.from_dict({"k": kernel, "x": CHOICE | {"when": {"k": [[3, 3], [5, 5]]}}})
    assert one.contains({"k": [5, 5]})
    assert not several.contains({"k": [5, 5]})
    mixed = {"domain": "choice", "values": [1, 2, [1, 2]]}
    items = SearchSpace.from_dict({"k": mixed, "x": CHOICE | {"when": {"k": [1, 2]}}})
    whole = SearchSpace.from_dict({"k": mixed, "x": CHOICE | {"when": {"k": {"==": [1, 2]}}}})
    assert [items.contains({"k": k, "x": 1}) for k in (1, 2, [1, 2])] == [True, True, False]
    assert [whole.contains({"k": k, "x": 1}) for k in (1, 2, [1, 2])] == [False, False, True]
    for space in (one, several, items, whole):
        assert SearchSpace.from_dict(space.to_dict()) == space


def test_nested_groups_give_nested_configurations_in_the_declared_order() -> None:
    space = SearchSpace.from_dict({"m": {"a": CHOICE, "s": {"b": 7}}, "z": CHOICE, "k": {"c": 1}})
    assert space.names == ("m/a", "z")
    expected = {"m": {"a": 1, "s": {"b": 7}}, "z": 2, "k": {"c": 1}}
    assert repr(space.decode([0, 1])) == repr(expected)
    assert space.contains(expected)
    with pytest.raises(SpaceError, match="'m/a' is missing"):
        space.validate({"m": 3, "z": 2})


# Files ------------------------------------------------------------------------------------------

YAML = """
lr: {domain: loguniform, lower: 1e-4, upper: 1E-1, default: 1e-3}
optimizer: {domain: choice, values: [sgd, adam, on, no, 1e-3, null, true, 08]}
momentum:
  domain: uniform
  lower: 0
  upper: .99
  when: {optimizer: sgd}
kernel: {domain: choice, values: [{tuple: [3, 3]}, [5, 5]]}
forbidden:
  - {optimizer: [sgd, on], lr: {">": 1e-2}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_yaml_numbers_and_words_are_read_as_one_means_them(tmp_path: Path) -> None:
    space = SearchSpace.from_file(write(tmp_path, "space.yaml", YAML))
    written = space.to_dict()
    assert written["lr"] == {"domain": "loguniform", "lower": 1e-4, "upper": 0.1, "default": 1e-3}
    values = written["optimizer"]["values"]
    assert repr(values) == repr(["sgd", "adam", "on", "no", 0.001, None, True, 8])
    assert written["forbidden"] == [{"optimizer": ["sgd", "on"], "lr": {">": 0.01}}]
    assert repr(space.decode([0, 0.3, 0, 0])["kernel"]) == "(3, 3)"


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    assert declaration.__doc__ is not None
    block = declaration.__doc__.split("::\n\n")[1].split("\n\n-")[0]
    space = SearchSpace.from_file(write(tmp_path, "s.yaml", textwrap.dedent(block)))
    assert space.names == ("lr", "optimizer", "momentum", "model/layers", "model/width")
    assert space.default_configuration()["epochs"] == 27
    assert not space.contains({"lr": 0.01, "optimizer": "adam", "model": {"layers": 1}})
    assert space.prior is not None
    assert space.prior.names == ("lr", "model/width")


def test_yaml_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = "a: &base {domain: uniform, lower: 0, upper: 1}\nb: {<<: *base, upper: 2}\nc: *base\n"
    written = SearchSpace.from_file(write(tmp_path, "s.yaml", text)).to_dict()
    assert [written[name]["upper"] for name in "abc"] == [1.0, 2.0, 1.0]


def test_json_takes_numbers_written_as_text(tmp_path: Path) -> None:
    text = '{"lr": {"domain": "loguniform", "lower": "1e-4", "upper": "0.1"}, "n": 3}'
    space = SearchSpace.from_file(write(tmp_path, "space.json", text))
    assert space.to_dict() == {"lr": {"domain": "loguniform", "lower": 1e-4, "upper": 0.1}, "n": 3}


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_strings_that_look_like_something_else_survive_a_file(tmp_path: Path, suffix: str) -> None:
    values = [
        "1e-3",
        "true",
        "null",
        "",
        "08",
        "on",
        "~",
        "a: b",
        "1_000",
        "0x1f",
        "é",
        "2001-1-1",
        "<<",
    ]
    space = SearchSpace.from_dict({"x": {"domain": "choice", "values": [*values, 1_000, 1e22]}})
    path = tmp_path / f"s.{suffix}"
    space.to_file(path)
    assert SearchSpace.from_file(path) == space


def test_a_written_file_has_one_line_per_parameter(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        {"a": CHOICE, "m": {"b": RANGE, "c": 1}, "forbidden": [{"a": 1, "m/b": 3}]}
    )
    space.to_file(tmp_path / "s.yaml")
    assert (tmp_path / "s.yaml").read_text().splitlines() == [
        "a: {domain: choice, values: [1, 2]}",
        "m:",
        "  b: {domain: randint, lower: 0, upper: 9}",
        "  c: 1",
        "forbidden:",
        "- a: 1",
        "  m/b: 3",
    ]


BAD_FILES = {
    "unclosed.yaml": ("a: {domain: choice\nb: 1\n", r"unclosed\.yaml: line \d: .*; mend the YAML"),
    "tab.yaml": ("a:\n\tb: 1\n", r"tab\.yaml: line 2: .*mend the YAML"),
    "twice.yaml": ("a: 1\nb: 2\na: 3\n", r"twice\.yaml: line 3: key 'a' comes twice, remove one"),
    "tag.yaml": ("a: !!python/object:os.system {}\n", r"tag\.yaml: line 1: could not determine"),
    "list.yaml": ("- a\n", r"list\.yaml: a search space must be a mapping .*not list"),
    "empty.yaml": ("", r"empty\.yaml: the search space is empty; give at least one parameter"),
    "broken.json": ('{"a": 1,\n "b": }', r"broken\.json: line 2: Expecting value; mend the JSON"),
    "twice.json": ('{"a": 1, "a": 2}', r"twice\.json: key 'a' comes twice; remove one"),
    "domain.yaml": ("a: {domain: normal}", r"domain\.yaml: parameter 'a': unknown domain 'normal'"),
    "space.txt": ("a: 1", r"space\.txt: suffix '\.txt' must be one of \.yaml, \.yml, \.json"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_its_path_and_line(tmp_path: Path, name: str) -> None:
    text, message = BAD_FILES[name]
    with pytest.raises(SpaceError, match=message) as caught:
        SearchSpace.from_file(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_a_folder_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"gone\.yaml: there is no such space file; check the"):
        SearchSpace.from_file(tmp_path / "gone.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpaceError, match="is a folder"):
        SearchSpace.from_file(tmp_path / "folder.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpaceError, match="cannot be read"):
        SearchSpace.from_file(tmp_path / "binary.yaml")


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    space = SearchSpace.from_dict({"a": CHOICE})
    with pytest.raises(SpaceError, match="cannot be written"):
        space.to_file(tmp_path / "no" / "s.yaml")
    with pytest.raises(SpaceError, match="suffix '' must be one of"):
        space.to_file(tmp_path / "s")


def test_to_dict_is_plain_json(tmp_path: Path) -> None:
    space = SearchSpace.from_file(write(tmp_path, "space.yaml", YAML))
    assert json.loads(json.dumps(space.to_dict())) == space.to_dict()
