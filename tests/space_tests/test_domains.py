"""Distributions against SciPy, and the values and coordinates of each kind of domain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from raytune_ahu.space import SearchSpace
from raytune_ahu.space.entries import KINDS, build_domain

N = 20_000


def draws(entry: dict[str, Any], n: int = N) -> list[Any]:
    space, rng = SearchSpace.from_dict({"x": entry}), np.random.default_rng(7)
    return [space.sample(rng)["x"] for _ in range(n)]


CONTINUOUS = [
    ({"domain": "uniform", "lower": -2.0, "upper": 5.0}, stats.uniform(-2, 7)),
    ({"domain": "loguniform", "lower": 1e-5, "upper": 0.1}, stats.loguniform(1e-5, 0.1)),
    (
        {"domain": "randn", "mean": 1.0, "sd": 2.0, "lower": -1.0, "upper": 6.0},
        stats.truncnorm(-1.0, 2.5, loc=1.0, scale=2.0),
    ),
    (  # the far upper tail, where a plain quantile function has no digits left
        {"domain": "randn", "mean": 0.0, "sd": 1.0, "lower": 9.0, "upper": 12.0},
        stats.truncnorm(9.0, 12.0),
    ),
    (
        {"domain": "randn", "mean": 0.0, "sd": 1.0, "lower": -12.0, "upper": -9.0},
        stats.truncnorm(-12.0, -9.0),
    ),
]


@pytest.mark.parametrize(("entry", "law"), CONTINUOUS, ids=lambda p: str(p)[:60])
def test_continuous_domains_follow_their_law(entry: dict[str, Any], law: Any) -> None:
    assert stats.kstest(draws(entry), law.cdf).pvalue > 0.01


def log_int_weights(first: int, last: int) -> dict[int, float]:
    total = math.log((last + 1) / first)
    return {k: math.log((k + 1) / k) / total for k in range(first, last + 1)}


def normal_weights(mean: float, sd: float, q: float, first: int, last: int) -> dict[float, float]:
    law = stats.norm(mean, sd)
    weights = {k: law.cdf((k + 0.5) * q) - law.cdf((k - 0.5) * q) for k in range(first, last + 1)}
    return {k * q: w / sum(weights.values()) for k, w in weights.items()}


DISCRETE: list[tuple[dict[str, Any], dict[Any, float]]] = [
    ({"domain": "randint", "lower": -1, "upper": 3}, dict.fromkeys(range(-1, 4), 0.2)),
    ({"domain": "lograndint", "lower": 2, "upper": 9}, log_int_weights(2, 9)),
    ({"domain": "qrandint", "lower": 5, "upper": 30, "q": 10}, {10: 1 / 3, 20: 1 / 3, 30: 1 / 3}),
    (
        {"domain": "qlograndint", "lower": 8, "upper": 40, "q": 8},
        {8 * k: w for k, w in log_int_weights(1, 5).items()},
    ),
    (
        {"domain": "quniform", "lower": 0.0, "upper": 0.5, "q": 0.25},
        dict.fromkeys([0, 0.25, 0.5], 1 / 3),
    ),
    (
        {"domain": "qloguniform", "lower": 0.25, "upper": 1.0, "q": 0.25},
        {0.25 * k: w for k, w in log_int_weights(1, 4).items()},
    ),
    (
        {"domain": "qrandn", "mean": 1.0, "sd": 1.5, "lower": -1.0, "upper": 2.5, "q": 0.5},
        normal_weights(1.0, 1.5, 0.5, -2, 5),
    ),
    ({"domain": "choice", "values": ["a", "b", "c", "d"]}, dict.fromkeys("abcd", 0.25)),
    ({"domain": "choice", "values": ["a", "b"], "weights": [3, 1]}, {"a": 0.75, "b": 0.25}),
    ({"domain": "ordinal", "values": [1, 10, 100]}, dict.fromkeys([1, 10, 100], 1 / 3)),
]


@pytest.mark.parametrize(("entry", "weights"), DISCRETE, ids=lambda p: str(p)[:60])
def test_finite_domains_have_the_stated_weights(
    entry: dict[str, Any], weights: dict[Any, float]
) -> None:
    values = draws(entry)
    assert set(values) == set(weights)
    counts = [values.count(value) for value in weights]
    expected = [N * weight for weight in weights.values()]
    assert stats.chisquare(counts, expected).pvalue > 0.01


@pytest.mark.parametrize(("entry", "weights"), DISCRETE, ids=lambda p: str(p)[:60])
def test_finite_domains_cut_the_unit_interval_into_cells_around_the_coordinates(
    entry: dict[str, Any], weights: dict[Any, float]
) -> None:
    domain = build_domain(entry)
    coordinates = [domain.encode(value) for value in weights]
    assert coordinates == sorted(coordinates)
    assert domain.all_values() == list(weights)
    cells = [domain.decode(x) for x in np.linspace(0, 1, 997)]
    assert list(dict.fromkeys(cells)) == list(weights)
    if domain.kind in ("lograndint", "qlograndint", "qloguniform"):
        shares = np.cumsum([0.0, *weights.values()])
        np.testing.assert_allclose(coordinates, (shares[1:] + shares[:-1]) / 2)
    else:
        k = len(weights)
        np.testing.assert_allclose(coordinates, (np.arange(k) + 0.5) / k)


def test_continuous_coordinates_are_linear_in_the_value_or_its_logarithm() -> None:
    uniform = build_domain({"domain": "uniform", "lower": -1, "upper": 3})
    assert [uniform.encode(v) for v in (-1, 0, 3)] == [0.0, 0.25, 1.0]
    log = build_domain({"domain": "loguniform", "lower": 1e-4, "upper": 1.0})
    np.testing.assert_allclose([log.encode(v) for v in (1e-4, 1e-3, 0.1)], [0, 0.25, 0.75])
    normal = build_domain({"domain": "randn", "mean": 0, "sd": 1, "lower": -2, "upper": 2})
    assert normal.encode(1.0) == 0.75


def test_multiples_of_a_decimal_step_are_the_floats_that_one_writes() -> None:
    domain = build_domain({"domain": "quniform", "lower": 0, "upper": 1, "q": 0.1})
    assert domain.all_values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert domain.contains(3 * 0.1)
    assert domain.decode(domain.encode(3 * 0.1)) == 0.3
    assert not domain.contains(0.35)


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"domain": "uniform", "lower": 0, "upper": 1}, [0.1, 1e-7, 0.333333333333, 1.0, 0.0]),
        ({"domain": "loguniform", "lower": 1e-12, "upper": 1}, [3e-4, 1.23456789012e-9, 0.1]),
        ({"domain": "loguniform", "lower": 1e-250, "upper": 1e250}, [3e-200, 7e120, 1.0]),
        ({"domain": "uniform", "lower": 1e6, "upper": 1e6 + 1e-3}, [1e6 + 5e-4]),
        ({"domain": "uniform", "lower": 1 / 3, "upper": 2 / 3}, [1 / 3, 2 / 3, 0.5]),
        ({"domain": "loguniform", "lower": 1 / 3, "upper": 2 / 3}, [1 / 3, 2 / 3, 0.5]),
        ({"domain": "randint", "lower": 0, "upper": 2**40}, [0, 1, 2**39 + 1, 2**40]),
        ({"domain": "lograndint", "lower": 1, "upper": 10**9}, [1, 2, 999_999_999, 10**9]),
    ],
    ids=lambda p: str(p)[:50],
)
def test_values_that_users_write_come_back_exactly(
    entry: dict[str, Any], values: list[Any]
) -> None:
    domain = build_domain(entry)
    assert [domain.decode(domain.encode(value)) for value in values] == values


def test_log_integers_far_up_are_still_told_apart() -> None:
    domain = build_domain({"domain": "lograndint", "lower": 1, "upper": 10**12})
    rng = np.random.default_rng(0)
    values = [*range(1, 200), 10**12 - 1, 10**12]
    values += [domain.decode(x) for x in rng.random(1000)]
    assert [domain.decode(domain.encode(value)) for value in values] == values


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"domain": "uniform", "lower": 0, "upper": 1}, [1.1, "0.5", True, None, math.nan]),
        ({"domain": "randint", "lower": 0, "upper": 9}, [3.0, True, "3", 10, -1, math.inf]),
        ({"domain": "qrandint", "lower": 0, "upper": 9, "q": 3}, [4, 12]),
        ({"domain": "quniform", "lower": 0, "upper": 1, "q": 0.5}, [0.4, math.inf, math.nan]),
        ({"domain": "choice", "values": [True, 5]}, [1, False, "5", [5], {}, {1}]),
        ({"domain": "ordinal", "values": ["s", "m"]}, ["l", None, 0]),
    ],
    ids=lambda p: str(p)[:50],
)
def test_values_outside_a_domain_are_not_contained(entry: dict[str, Any], wrong: Any) -> None:
    domain = build_domain(entry)
    assert [value for value in wrong if domain.contains(value)] == []


def test_numpy_scalars_are_contained_like_pythons_own() -> None:
    assert build_domain({"domain": "randint", "lower": 0, "upper": 9}).contains(np.int64(3))
    assert build_domain({"domain": "uniform", "lower": 0, "upper": 9}).contains(np.float32(3))
    assert build_domain({"domain": "choice", "values": ["a"]}).contains(np.str_("a"))


def test_every_kind_is_declared_under_its_own_name() -> None:
    fields = {
        "lower": 1, "upper": 4, "q": 1, "mean": 2.0, "sd": 1.0, "values": [1, 2], "value": 3
    }  # fmt: skip
    for name, kind in KINDS.items():
        wanted = {
            f for f in (*kind.required, "lower", "upper") if f in kind.required + kind.optional
        }
        entry = {"domain": name} | {f: fields[f] for f in wanted}
        domain = build_domain(entry)
        assert domain.kind == name
        assert build_domain(domain.entry()) == domain
