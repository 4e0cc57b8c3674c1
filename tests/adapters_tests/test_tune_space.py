"""Ray Tune's domains in and out; needs the ray package, starts no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ConfigSpace as cs
import numpy as np
import pytest
from ray import tune
from ray.tune.search import sample as ray_sample

from raytune_ahu.adapters.space import (
    bounded_randn,
    from_tune,
    ordinal,
    to_search_space,
    to_tune,
)
from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace

DOMAINS = {
    "uniform": lambda: tune.uniform(-1, 2),
    "loguniform": lambda: tune.loguniform(1e-5, 0.1),
    "quniform": lambda: tune.quniform(0.0, 0.9, 0.1),
    "qloguniform": lambda: tune.qloguniform(1e-3, 1e-1, 1e-3),
    "randn": lambda: bounded_randn(0.5, 2.0, -3.0, 3.0),
    "qrandn": lambda: bounded_randn(0.5, 2.0, -3.0, 3.0, q=0.5),
    "randint": lambda: tune.randint(0, 10),
    "lograndint": lambda: tune.lograndint(1, 1000),
    "qrandint": lambda: tune.qrandint(5, 64, 8),
    "qlograndint": lambda: tune.qlograndint(8, 256, 8),
    "choice": lambda: tune.choice(["a", 1, 2.5, None, True, (1, 2), [3]]),
    "ordinal": lambda: ordinal([16, 32, 64]),
    "grid_search": lambda: tune.grid_search([1, None, "x"]),
    "constant": lambda: 7,
}


@pytest.mark.parametrize("kind", DOMAINS)
def test_each_domain_of_ray_is_read_and_written_back(kind: str) -> None:
    space = from_tune({"model": {"x": DOMAINS[kind]()}, "other": tune.choice([1, 2])})
    assert space.declaration.parameters[0].domain.kind == kind
    assert from_tune(to_tune(space)) == space


@pytest.mark.parametrize("kind", [k for k in DOMAINS if k not in ("grid_search", "constant")])
def test_what_ray_draws_is_legal_here(kind: str) -> None:
    domain = DOMAINS[kind]()
    space = from_tune({"x": domain})
    draws = domain.sample(size=300, random_state=0)
    for value in draws:
        space.validate({"x": value})
    finite = space.declaration.parameters[0].domain.n_values
    if finite is not None and finite <= 20:
        assert {space.encode({"x": v})[0] for v in draws} == {
            space.encode(p)[0] for p in space.grid(finite)
        }
    single = to_tune(space)["x"].sample(random_state=1)
    space.validate({"x": single})


@pytest.mark.parametrize(
    ("domain", "largest"),
    [
        (tune.randint(0, 10), 9),
        (tune.lograndint(1, 10), 9),
        (tune.qrandint(0, 10, 1), 9),
        (tune.qrandint(0, 10, 2), 10),
        (tune.qrandint(1, 9, 4), 8),
        (tune.qlograndint(1, 10, 1), 9),
        (tune.qlograndint(2, 10, 2), 10),
    ],
    ids=lambda p: str(getattr(p, "sampler", p)),
)
def test_the_upper_bound_of_integers_is_what_ray_makes_it(domain: Any, largest: int) -> None:
    space = from_tune({"x": domain})
    assert max(p["x"] for p in space.grid(100)) == largest
    assert max(domain.sample(size=500, random_state=0)) == largest
    back = to_tune(space)["x"]
    assert (back.lower, back.upper) == (domain.lower, domain.upper)


def test_random_dicts_of_tune_domains_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        space: dict[str, Any] = {}
        for i in range(int(rng.integers(1, 9))):
            domain = list(DOMAINS.values())[int(rng.integers(len(DOMAINS)))]()
            target = space.setdefault("group", {}) if rng.random() < 0.4 else space
            target[f"p{i}"] = domain
        read = from_tune(space)
        again = from_tune(to_tune(read))
        assert again == read
        assert SearchSpace.from_dict(read.to_dict()) == read


def test_conditions_and_forbidden_combinations_from_python() -> None:
    space = from_tune(
        {
            "optimizer": tune.choice(["sgd", "adam"]),
            "model": {"momentum": tune.uniform(0, 1), "layers": tune.randint(1, 5)},
        },
        conditions={"model/momentum": {"optimizer": "sgd"}},
        forbidden=[{"optimizer": "adam", "model/layers": [3, 4]}],
    )
    assert space.contains({"optimizer": "adam", "model": {"layers": 2}})
    assert not space.contains({"optimizer": "adam", "model": {"layers": 3}})
    assert not space.contains({"optimizer": "sgd", "model": {"layers": 3}})


def test_a_normal_gets_its_bounds_by_name() -> None:
    space = from_tune(
        {"m": {"x": tune.randn(1, 2)}, "y": tune.qrandn(0, 1, 0.5)},
        bounds={"m/x": (-5, 5), "y": (-1, 1)},
    )
    assert space.to_dict()["m"]["x"] == {
        "domain": "randn", "mean": 1.0, "sd": 2.0, "lower": -5.0, "upper": 5.0
    }  # fmt: skip
    assert space.to_dict()["y"]["q"] == 0.5
    float_domain = ray_sample.Float(-1, 1).normal(0, 1)
    assert from_tune({"x": float_domain}).to_dict()["x"]["upper"] == 1.0


def test_numpy_values_become_plain() -> None:
    space = from_tune(
        {
            "a": tune.choice(list(np.array([16, 32]))),
            "b": tune.uniform(np.float64(0), np.float64(1)),
            "c": tune.randint(np.int64(0), np.int64(4)),
            "d": np.float64(0.5),
        }
    )
    configuration = space.sample(np.random.default_rng(0))
    assert [type(v) for v in configuration.values()] == [int, float, int, float]


class Odd(ray_sample.Domain):
    pass


REFUSED: dict[str, tuple[Any, str]] = {
    "sample_from": (tune.sample_from(lambda c: 1), "'x': tune.sample_from cannot be represented"),
    "lambda": (lambda c: 1, "'x': value <function .* is a function or class"),
    "class": (Path, "'x': value <class 'pathlib.Path'> is a function or class; use its name"),
    "randn": (tune.randn(0, 1), "'x': an unbounded normal cannot be represented; give bounds="),
    "qrandn": (tune.qrandn(0, 1, 0.5), "'x': an unbounded normal cannot be represented"),
    "nested domain": (
        tune.choice([tune.uniform(0, 1), 3]),
        "'x': a domain inside a value cannot be represented; make it a parameter of its own, with",
    ),
    "domain in a dict": (tune.choice([{"a": tune.randint(0, 3)}]), "a domain inside a value"),
    "grid in a dict": (tune.choice([{"a": tune.grid_search([1])}]), "a domain inside a value"),
    "domain in a list": ([tune.uniform(0, 1)], "'x': a domain inside a value"),
    "duplicates": (tune.choice(["a", "a"]), "'x': values must differ: 'a' repeats 'a'"),
    "no choice": (tune.choice([]), "'x': values=\\[\\] must hold"),
    "lower above upper": (tune.uniform(2, 1), "'x': lower=2.0 must be below upper=1.0"),
    "empty range": (tune.randint(3, 3), "'x': lower=3 must be below upper=3"),
    "one integer": (tune.randint(3, 4), r"'x': \[3, 4\) holds only 3, for Ray excludes the upper"),
    "fractional integers": (tune.randint(0.5, 4), "'x': lower=0.5 must be a whole number"),
    "fractional q": (tune.qrandint(0, 10, 2.5), "'x': q=2.5 must be a whole number"),
    "q beyond the range": (tune.qrandint(0, 3, 5), "'x': q=5 must be at most the range"),
    "unknown domain": (Odd(), "'x': a Ray domain Odd cannot be represented"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_represented_is_refused_by_name(case: str) -> None:
    item, message = REFUSED[case]
    with pytest.raises(SpaceError, match=message) as caught:
        from_tune({"y": tune.uniform(0, 1), "x": item})
    assert "\n" not in str(caught.value)


def test_wrong_names_are_refused() -> None:
    domain = tune.uniform(0, 1)
    with pytest.raises(SpaceError, match=r"'a/b' must be a non-empty string without '/'"):
        from_tune({"a/b": domain})
    with pytest.raises(SpaceError, match="conditions of unknown parameter 'z', known are x"):
        from_tune({"x": domain}, conditions={"z": {"x": 1}})
    with pytest.raises(SpaceError, match=r"bounds of 'x': it is not a tune\.randn"):
        from_tune({"x": domain}, bounds={"x": (0, 1)})
    with pytest.raises(SpaceError, match="the search space is empty"):
        from_tune({})
    with pytest.raises(SpaceError, match="must be a dict, not list"):
        from_tune([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"forbidden": [{"x": 1}]}, "Ray cannot express forbidden combinations"),
        ({"y": {"domain": "choice", "values": [1], "when": {"x": 1}}}, "'y': Ray cannot express i"),
        ({"y": {"domain": "choice", "values": [1], "default": 1}}, "'y': Ray cannot express defau"),
        ({"y": {"domain": "choice", "values": [1], "weights": [1]}}, "cannot express weights"),
        (
            {"y": {"domain": "choice", "values": [1], "prior": 1}},
            "'y': Ray cannot express its prio",
        ),
        ({"y": {"domain": "constant", "value": {"a": 1}}}, "Ray reads the constant"),
    ],
)
def test_what_ray_cannot_express_is_refused_and_not_dropped(
    declaration: dict[str, Any], message: str
) -> None:
    x = {"x": {"domain": "choice", "values": [1, 2]}}
    with pytest.raises(SpaceError, match=message):
        to_tune(SearchSpace.from_dict(x | declaration))


def test_a_space_is_taken_in_any_of_its_forms(tmp_path: Path) -> None:
    space = SearchSpace.from_dict({"m": {"x": {"domain": "randint", "lower": 0, "upper": 9}}})
    space.to_file(tmp_path / "s.yaml")
    assert to_search_space(space) is space
    assert to_search_space(tmp_path / "s.yaml") == space
    assert to_search_space(str(tmp_path / "s.yaml")) == space
    assert to_search_space(space.to_dict()) == space
    assert to_search_space(space.configspace) == space
    assert to_search_space({"m": {"x": tune.randint(0, 10)}}) == space
    assert to_search_space(cs.ConfigurationSpace({"a": (0, 3)})).names == ("a",)
    assert to_search_space({"x": tune.grid_search([1, 2])}).grid_search_names == ("x",)
    with pytest.raises(SpaceError, match="cannot be made of a int; give a dict of tune domains"):
        to_search_space(3)


def test_a_dict_of_tune_domains_gets_its_prior_beside_it() -> None:
    domains = {"model": {"width": tune.randint(1, 9)}, "lr": tune.loguniform(1e-4, 1.0)}
    space = from_tune(domains, prior={"model/width": {"value": 4, "confidence": "low"}})
    assert space == from_tune(domains).with_prior(
        {"model": {"width": {"value": 4, "confidence": "low"}}}
    )
    assert space.without_prior() == from_tune(domains)
    with pytest.raises(SpaceError, match="parameter 'lr': prior=2 must be a number in"):
        from_tune(domains, prior={"lr": 2})
