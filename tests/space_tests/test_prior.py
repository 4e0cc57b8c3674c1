"""`Prior`: its density beside SciPy's, its draws beside its density, its mode, conditions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import Prior, SearchSpace
from raytune_ahu.space.prior import FLOOR, SHARES, STANDARD_DEVIATIONS

CONFIDENCES = ("low", "medium", "high")
UNIFORM = {"domain": "uniform", "lower": -1.0, "upper": 3.0}
LOG = {"domain": "loguniform", "lower": 1e-4, "upper": 1.0}
NORMAL = {"domain": "randn", "mean": 0, "sd": 1, "lower": -2, "upper": 2}
CONTINUOUS = [(UNIFORM, 0.0), (UNIFORM, 3.0), (LOG, 0.01), (LOG, 1e-4), (NORMAL, 1.5)]
FINITE = [
    ({"domain": "randint", "lower": 1, "upper": 5}, 4),
    ({"domain": "randint", "lower": 0, "upper": 99}, 20),
    ({"domain": "quniform", "lower": 0.0, "upper": 1.0, "q": 0.1}, 0.3),
    ({"domain": "lograndint", "lower": 1, "upper": 64}, 8),
    ({"domain": "qlograndint", "lower": 8, "upper": 128, "q": 8}, 8),
    ({"domain": "qloguniform", "lower": 0.1, "upper": 2.0, "q": 0.1}, 2.0),
    ({"domain": "qrandn", "mean": 0, "sd": 1, "lower": -2, "upper": 2, "q": 0.5}, 0.5),
    ({"domain": "ordinal", "values": ["s", "m", "l"]}, "m"),
    ({"domain": "ordinal", "values": [1, 2]}, 1),
]
CHOICE = {"domain": "choice", "values": ["a", "b", "c", "d"]}


def prior_of(space: SearchSpace) -> Prior:
    assert space.prior is not None
    return space.prior


def single(entry: dict[str, Any], value: Any, confidence: str = "medium") -> SearchSpace:
    return SearchSpace.from_dict(
        {"x": entry | {"prior": {"value": value, "confidence": confidence}}}
    )


def truncnorm(mean: float, sd: float) -> Any:
    return stats.truncnorm(-mean / sd, (1 - mean) / sd, mean, sd)


def cells_of(space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
    """Centres, and edges, of the cells of the only parameter; found by looking at every value."""
    domain = space.declaration.parameters[0].domain
    centres = np.array([domain.encode(value) for value in domain.all_values()])
    edges = [0.0]
    for centre in centres:
        edges.append(2 * centre - edges[-1])
    return centres, np.array(edges)


# Density ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("entry", "value"), CONTINUOUS)
def test_a_continuous_density_is_that_of_scipys_truncated_normal(
    entry: dict[str, Any], value: float, confidence: str
) -> None:
    space = single(entry, value, confidence)
    x = np.linspace(0.0, 1.0, 201)
    expected = truncnorm(space.encode({"x": value})[0], STANDARD_DEVIATIONS[confidence]).logpdf(x)
    density = prior_of(space).log_density(x[:, None])
    np.testing.assert_allclose(density, np.maximum(expected, FLOOR), rtol=1e-9, atol=1e-9)
    assert np.argmax(density) == np.argmin(abs(x - space.encode({"x": value})[0]))


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("entry", "value"), FINITE)
def test_a_cell_has_the_mass_of_scipys_truncated_normal(
    entry: dict[str, Any], value: Any, confidence: str
) -> None:
    space = single(entry, value, confidence)
    centres, edges = cells_of(space)
    assert edges[-1] == pytest.approx(1.0)
    favourite = int(np.argmin(abs(centres - space.encode({"x": value})[0])))
    width = np.diff(edges)[favourite]
    share = SHARES[confidence] + (1 - SHARES[confidence]) / len(centres)
    sd = max(STANDARD_DEVIATIONS[confidence], width / 2 / stats.norm.ppf((1 + share) / 2))
    masses = np.diff(truncnorm(centres[favourite], sd).cdf(edges))
    density = prior_of(space).log_density(centres[:, None])
    with np.errstate(divide="ignore"):
        expected = np.log(masses / np.diff(edges))
    seen = expected > FLOOR
    np.testing.assert_allclose(density[seen], expected[seen], rtol=1e-6, atol=1e-6)
    assert (density[~seen] == FLOOR).all()
    assert np.argmax(density) == favourite
    assert np.sum(np.exp(density) * np.diff(edges)) == pytest.approx(1.0, abs=2e-6)


def test_the_density_is_constant_on_a_cell() -> None:
    space = single({"domain": "lograndint", "lower": 1, "upper": 64}, 8)
    prior, rng = prior_of(space), np.random.default_rng(0)
    points = rng.random((500, 1))
    centres = np.array([space.repair(point) for point in points])
    np.testing.assert_array_equal(prior.log_density(points), prior.log_density(centres))


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_the_middle_of_wide_cells_is_as_likely_as_the_favourite_of_a_choice_at_most(
    confidence: str,
) -> None:
    space = single({"domain": "ordinal", "values": [3, 5, 7]}, 5, confidence)
    share = np.exp(prior_of(space).log_density(np.array([[0.5]])))[0] / 3
    favoured = SHARES[confidence] + (1 - SHARES[confidence]) / 3
    assert share <= favoured * 1.15  # what lies outside [0, 1] is shared out
    assert share > 0.5


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("k", [1, 2, 4, 30])
def test_the_favourite_of_a_choice_has_its_share_and_the_rest_is_even(
    confidence: str, k: int
) -> None:
    space = single({"domain": "choice", "values": list(range(k))}, k // 2, confidence)
    centres = (np.arange(k)[:, None] + 0.5) / k
    probabilities = np.exp(prior_of(space).log_density(centres)) / k
    share = SHARES[confidence]
    expected = np.full(k, (1 - share) / k)
    expected[k // 2] += share
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    assert probabilities.sum() == pytest.approx(1.0)


def test_weights_are_normalised() -> None:
    space = SearchSpace.from_dict({"x": CHOICE | {"prior": {"weights": [1, 2, 4, 1]}}})
    centres = (np.arange(4)[:, None] + 0.5) / 4
    probabilities = np.exp(prior_of(space).log_density(centres)) / 4
    np.testing.assert_allclose(probabilities, [1 / 8, 2 / 8, 4 / 8, 1 / 8])
    assert prior_of(space).mode() == {"x": "c"}


def test_weights_far_apart_rule_nothing_out() -> None:
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        space = SearchSpace.from_dict({"x": CHOICE | {"prior": {"weights": [1e-300, 1, 1e300, 1]}}})
        density = prior_of(space).log_density((np.arange(4)[:, None] + 0.5) / 4)
    np.testing.assert_allclose(density, [FLOOR, FLOOR, math.log(4), FLOOR])


def test_domains_of_very_many_values_count_as_continuous() -> None:
    for entry in (
        {"domain": "randint", "lower": 0, "upper": 10**9},
        {"domain": "lograndint", "lower": 1, "upper": 10**9},
    ):
        space = single(entry, 10**4)
        prior = prior_of(space)
        centre = space.encode({"x": 10**4})[0]
        x = np.linspace(0.0, 1.0, 11)[:, None]
        expected = truncnorm(centre, 0.125).logpdf(x[:, 0])
        np.testing.assert_allclose(prior.log_density(x), np.maximum(expected, FLOOR))
        draws = [prior.sample(np.random.default_rng(i))["x"] for i in range(20)]
        assert all(space.contains({"x": draw}) for draw in draws)


MANY = {
    "a": LOG | {"prior": 0.01},
    "b": CHOICE | {"prior": "b"},
    "c": {"domain": "lograndint", "lower": 1, "upper": 64, "prior": 8},
    "d": {"domain": "uniform", "lower": 0, "upper": 1, "when": {"b": "b"}, "prior": 0.2},
    "e": CHOICE | {"weights": [1, 1, 1, 5]},
    "f": {"domain": "randint", "lower": 1, "upper": 9, "when": {"c": {">": 8}}, "prior": 9},
    "g": 3,
}


def test_the_density_is_the_product_over_the_active_parameters_that_carry_a_belief() -> None:
    space = SearchSpace.from_dict(MANY)
    prior, rng = prior_of(space), np.random.default_rng(0)
    assert prior.names == ("a", "b", "c", "d", "f")
    vectors = space.encode_many(space.sample(rng) for _ in range(200))
    assert np.isnan(vectors[:, 3]).any()
    assert np.isnan(vectors[:, 5]).any()
    total = np.zeros(200)
    for column, name in enumerate(space.names):
        if name == "e":
            continue
        entry = {key: value for key, value in MANY[name].items() if key != "when"}  # type: ignore
        active = ~np.isnan(vectors[:, column])
        alone = prior_of(SearchSpace.from_dict({name: entry}))
        total[active] += alone.log_density(vectors[active][:, [column]])
    np.testing.assert_allclose(prior.log_density(vectors), total, rtol=1e-12)


def test_it_is_finite_everywhere_and_says_nothing_of_what_is_inactive() -> None:
    space = SearchSpace.from_dict(MANY).with_prior({"a": {"value": 1e-4, "confidence": "high"}})
    prior = prior_of(space)
    d = len(space)
    corners = np.array([np.zeros(d), np.ones(d), np.full(d, 1 - 2.0**-53), np.full(d, np.nan)])
    density = prior.log_density(corners)
    assert np.isfinite(density).all()
    assert (density >= FLOOR * len(prior.names)).all()
    assert density[3] == 0.0
    outside = prior.log_density(np.array([np.full(d, -2.0), np.full(d, np.inf)]))
    np.testing.assert_array_equal(outside, density[:2])
    assert prior.log_density(np.empty((0, d))).shape == (0,)
    one = np.full((1, d), np.nan)
    one[0, 0] = 1.0
    assert prior.log_density(one)[0] == FLOOR


@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 6)])
def test_vectors_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match=r"vectors of shape \(.*\) must have shape \(m, 6\)"):
        prior_of(SearchSpace.from_dict(MANY)).log_density(np.zeros(shape))


def test_vectors_are_left_as_they_are() -> None:
    space = SearchSpace.from_dict(MANY)
    vectors = np.full((3, len(space)), np.nan)
    vectors[0] = 2.0
    before = vectors.copy()
    prior_of(space).log_density(vectors)
    np.testing.assert_array_equal(vectors, before)


# Draws ------------------------------------------------------------------------------------------


def draws(space: SearchSpace, n: int, seed: int = 0) -> list[dict[str, Any]]:
    prior, rng = prior_of(space), np.random.default_rng(seed)
    return [prior.sample(rng) for _ in range(n)]


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("entry", "value"), CONTINUOUS)
def test_continuous_draws_follow_the_density(
    entry: dict[str, Any], value: float, confidence: str
) -> None:
    space = single(entry, value, confidence)
    x = space.encode_many(draws(space, 2000))[:, 0]
    expected = truncnorm(space.encode({"x": value})[0], STANDARD_DEVIATIONS[confidence])
    assert stats.kstest(x, expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("entry", "value"), [*FINITE, (CHOICE, "b")])
def test_finite_draws_follow_the_density(
    entry: dict[str, Any], value: Any, confidence: str
) -> None:
    space = single(entry, value, confidence)
    centres, edges = cells_of(space)
    masses = np.exp(prior_of(space).log_density(centres[:, None])) * np.diff(edges)
    assert_frequencies(space.encode_many(draws(space, 3000))[:, 0], centres, masses)


def assert_frequencies(x: np.ndarray, centres: np.ndarray, masses: np.ndarray) -> None:
    """A chi-square test, with the cells of less than five expected draws taken together."""
    counts = np.array([(x == centre).sum() for centre in centres])
    assert counts.sum() == len(x)
    expected = masses / masses.sum() * len(x)
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:  # still rare, all together
        assert counts[-1] < 20
        counts, expected = counts[:-1], expected[:-1] * counts[:-1].sum() / expected[:-1].sum()
    if len(counts) > 1:
        assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_weighted_draws_follow_the_weights_and_other_parameters_their_own_distribution() -> None:
    space = SearchSpace.from_dict(
        {
            "x": CHOICE | {"weights": [9, 1, 1, 1], "prior": {"weights": [1, 2, 4, 1]}},
            "y": CHOICE | {"weights": [1, 1, 1, 5]},
            "z": LOG,
        }
    )
    x = space.encode_many(draws(space, 3000))
    centres = (np.arange(4) + 0.5) / 4
    assert_frequencies(x[:, 0], centres, np.array([1, 2, 4, 1]))
    assert_frequencies(x[:, 1], centres, np.array([1, 1, 1, 5]))
    assert stats.kstest(x[:, 2], "uniform").pvalue > 1e-3


def test_draws_are_legal_under_conditions() -> None:
    space = SearchSpace.from_dict(MANY)
    sample = draws(space, 500)
    for configuration in sample:
        space.validate(configuration)
        assert ("d" in configuration) == (configuration["b"] == "b")
        assert configuration["g"] == 3
    assert {"d" in configuration for configuration in sample} == {True, False}


def test_forbidden_draws_are_drawn_again() -> None:
    space = SearchSpace.from_dict(
        {"x": CHOICE, "y": CHOICE, "prior": {"x": "a", "y": {"weights": [1, 2, 3, 4]}},
         "forbidden": [{"x": "a", "y": ["c", "d"]}]}
    )  # fmt: skip
    sample = draws(space, 3000)
    for configuration in sample:
        space.validate(configuration)
    p_x, p_y = np.full(4, 0.35 / 4), np.array([1, 2, 3, 4]) / 10
    p_x[0] += 0.65
    joint = np.outer(p_x, p_y)
    joint[0, 2:] = 0.0
    cells = np.array([4 * "abcd".index(c["x"]) + "abcd".index(c["y"]) for c in sample])
    assert not np.isin(cells, [2, 3]).any()
    legal = np.flatnonzero(joint.ravel())
    assert_frequencies(cells, legal, joint.ravel()[legal])


def test_the_generator_alone_decides_and_gives_d_numbers_for_each_draw() -> None:
    space = SearchSpace.from_dict(MANY)
    assert draws(space, 20, seed=3) == draws(SearchSpace.from_dict(MANY), 20, seed=3)
    mine, other = np.random.default_rng(0), np.random.default_rng(0)
    prior_of(space).sample(mine)
    other.random(len(space))
    assert mine.bit_generator.state == other.bit_generator.state


def test_grid_search_parameters_are_not_drawn() -> None:
    space = SearchSpace.from_dict(
        {"x": LOG | {"prior": 0.1}, "y": {"domain": "grid_search", "values": [1, 2]}}
    )
    with pytest.raises(SpaceError, match="'y' is declared as grid_search and cannot be drawn"):
        prior_of(space).sample(np.random.default_rng(0))
    assert prior_of(space).mode() == {"x": 0.1, "y": 1}


# Mode -------------------------------------------------------------------------------------------


def test_the_mode_has_the_favourites_and_elsewhere_the_defaults() -> None:
    space = SearchSpace.from_dict(
        {
            "m": {"lr": LOG, "width": {"domain": "randint", "lower": 1, "upper": 9, "default": 3}},
            "opt": CHOICE | {"default": "a"},
            "mom": UNIFORM | {"when": {"opt": "c"}},
            "beta": UNIFORM | {"when": {"opt": "a"}},
            "k": 5,
            "prior": {"m/lr": 0.02, "opt": "c", "mom": {"value": 0.25, "confidence": "low"}},
        }
    )
    mode = prior_of(space).mode()
    assert mode == {"m": {"lr": 0.02, "width": 3}, "opt": "c", "mom": 0.25, "k": 5}
    assert space.default_configuration()["opt"] == "a"


def test_no_configuration_is_denser_than_the_mode() -> None:
    space = SearchSpace.from_dict({k: v for k, v in MANY.items() if k not in ("d", "f")})
    prior, rng = prior_of(space), np.random.default_rng(0)
    vectors = space.encode_many(space.sample(rng) for _ in range(2000))
    assert prior.log_density(space.encode(prior.mode())[None]) >= prior.log_density(vectors).max()


def test_a_forbidden_mode_gives_way_where_it_costs_least() -> None:
    space = SearchSpace.from_dict(
        {
            "x": CHOICE | {"prior": {"value": "b", "confidence": "high"}},
            "y": CHOICE | {"prior": {"weights": [1, 5, 4, 1]}},
            "z": LOG | {"prior": 0.3},
            "forbidden": [{"x": "b", "y": "b"}],
        }
    )
    assert prior_of(space).mode() == {"x": "b", "y": "c", "z": 0.3}
    again = SearchSpace.from_dict(space.to_dict())
    assert prior_of(again).mode() == prior_of(space).mode()


def test_the_mode_is_legal_however_much_is_forbidden() -> None:
    space = SearchSpace.from_dict(
        {
            "x": CHOICE | {"prior": "b"},
            "y": CHOICE | {"prior": "b"},
            "z": CHOICE,
            "forbidden": [{"x": "b", "y": "b"}, {"z": "a"}, {"x": ["a", "c"]}, {"y": ["a", "c"]}],
        }
    )
    space.validate(prior_of(space).mode())


# Whether there is one ---------------------------------------------------------------------------


def test_a_space_without_beliefs_has_no_prior() -> None:
    assert SearchSpace.from_dict({"x": LOG}).prior is None
    assert SearchSpace.from_dict({"x": LOG | {"prior": 0.1}}).without_prior().prior is None


def test_what_constants_rule_out_has_no_part_in_the_prior() -> None:
    space = SearchSpace.from_dict(
        {"k": 1, "x": LOG | {"prior": 0.1, "when": {"k": 2}}, "y": UNIFORM}
    )
    assert space.prior is None
    both = prior_of(space.with_prior({"y": 1.0}))
    assert both.names == ("y",)
    assert both.mode() == {"k": 1, "y": 1.0}


def test_high_confidence_in_a_range_of_four_decades_is_a_factor() -> None:
    space = single(LOG, 0.01, "high")
    one_up = space.decode([0.5 + STANDARD_DEVIATIONS["high"]])["x"]
    assert one_up == pytest.approx(0.01 * 10**0.2)
    assert math.exp(FLOOR) == pytest.approx(1e-6)
