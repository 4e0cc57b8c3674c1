"""Random spaces with conditions and forbidden combinations: every round trip is the identity."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Configuration as ConfigSpaceConfiguration
from ConfigSpace.exceptions import ForbiddenValueError

from raytune_ahu.errors import SpaceError
from raytune_ahu.space import SearchSpace

MIXED = ["a", 1, 2.5, None, True, {"tuple": [3, 3]}, [1, 2], {"k": 1}, "x y", ""]


def random_entry(rng: np.random.Generator) -> dict[str, Any]:
    """One declared domain of any kind, with random bounds."""
    lower = float(rng.choice([-3.0, 0.0, 1e-4, 1 / 3, -1e3, 5e5]))
    width = float(rng.choice([1e-3, 1.0, 7.5, 1e4]))
    positive = float(rng.choice([1e-12, 1e-5, 0.1, 1.0, 30.0]))
    low = int(rng.integers(-50, 50))
    high = low + int(rng.integers(1, 200))
    q = float(rng.choice([0.1, 0.25, 3.0, 1e-3]))
    k = int(rng.integers(1, 9))
    step = int(rng.integers(1, 8))
    n = int(rng.integers(1, len(MIXED) + 1))
    values = [MIXED[i] for i in rng.permutation(len(MIXED))[:n]]
    entries: list[dict[str, Any]] = [
        {"domain": "uniform", "lower": lower, "upper": lower + width},
        {"domain": "loguniform", "lower": positive, "upper": positive * float(10 ** (k / 2))},
        {"domain": "quniform", "lower": -3 * q, "upper": k * q, "q": q},
        {"domain": "qloguniform", "lower": q, "upper": (k + 1) * q, "q": q},
        {"domain": "randint", "lower": low, "upper": high},
        {"domain": "lograndint", "lower": k, "upper": k + (high - low)},
        {"domain": "qrandint", "lower": low, "upper": low + 3 * step + k, "q": step},
        {"domain": "qlograndint", "lower": k, "upper": k + 40 * step, "q": step},
        {"domain": "randn", "mean": lower, "sd": width, "lower": lower - width, "upper": lower + 2},
        {"domain": "qrandn", "mean": 0.0, "sd": 3 * q, "lower": -4 * q, "upper": k * q, "q": q},
        {"domain": "choice", "values": values},
        {"domain": "choice", "values": ["relu", "elu", "tanh"], "weights": [1.0, 2.0, 0.5]},
        {"domain": "ordinal", "values": values},
        {"domain": "ordinal", "values": [16, 32, 64], "default": 64},
        {"domain": "constant", "value": {"tuple": [1, [2, {"tuple": []}]]}},
    ]
    return entries[int(rng.integers(len(entries)))]


def random_condition(
    rng: np.random.Generator, parents: list[str], space: SearchSpace
) -> dict[str, Any] | list[Any]:
    """A disjunction of conjunctions on earlier parameters, with values that occur."""
    alternatives = []
    for _ in range(int(rng.integers(1, 3))):
        terms: dict[str, Any] = {}
        for name in rng.permutation(parents)[: int(rng.integers(1, 3))]:
            domain = space._layout.domains[space._layout.all_names.index(str(name))]
            entry_of = [tag(domain.draw(float(u))) for u in rng.random(3)]
            kind = int(rng.integers(4))
            if domain.n_values is None or (domain.is_ordered and kind == 0):
                terms[str(name)] = {str(rng.choice(["<", ">"])): entry_of[0]}
            elif kind == 1:
                terms[str(name)] = {"!=": entry_of[0]}
            elif kind == 2:
                terms[str(name)] = {"in": entry_of}
            else:
                terms[str(name)] = [entry_of[0]]
        alternatives.append(terms)
    return alternatives if len(alternatives) > 1 else alternatives[0]


def tag(value: Any) -> Any:
    from raytune_ahu.space.values import tag_tuples

    return tag_tuples(value)


def random_space(seed: int) -> SearchSpace:
    """A space of 1 to 8 parameters, some nested, some conditional, some combinations forbidden."""
    rng = np.random.default_rng(seed)
    parameters: dict[str, Any] = {}
    flat: list[str] = []
    for i in range(int(rng.integers(1, 9))):
        entry = dict(random_entry(rng))
        group = rng.random() < 0.3
        name = f"model/p{i}" if group else f"p{i}"
        if flat and rng.random() < 0.6:
            so_far = SearchSpace.from_dict({"parameters": parameters})
            entry["when"] = random_condition(rng, flat, so_far)
        (parameters.setdefault("model", {}) if group else parameters)[name.split("/")[-1]] = entry
        flat.append(name)
    space = SearchSpace.from_dict({"parameters": parameters})
    forbidden = []
    for _ in range(int(rng.integers(0, 3))):
        values = dict(zip(space._layout.all_names, space._layout.draw(rng), strict=True))
        names = [n for n in space.names if repr(values[n]) != "INACTIVE"]
        if len(names) >= 2:
            pair = [str(n) for n in rng.permutation(names)[:2]]
            forbidden.append({n: [tag(values[n])] for n in pair})
    try:
        return SearchSpace.from_dict({"parameters": parameters, "forbidden": forbidden})
    except SpaceError as error:
        assert "were all forbidden" in str(error)  # noqa: PT017
        return space


SEEDS = range(60)


def exact(a: Any, b: Any) -> bool:
    """Equal in value and in every type."""
    return repr(a) == repr(b)


@pytest.mark.parametrize("seed", SEEDS)
def test_decode_inverts_encode_exactly_for_sampled_configurations(seed: int) -> None:
    space, rng = random_space(seed), np.random.default_rng(seed)
    for _ in range(40):
        configuration = space.sample(rng)
        vector = space.encode(configuration)
        inside = vector[~np.isnan(vector)]
        assert ((inside >= 0) & (inside <= 1)).all()
        assert exact(space.decode(vector), configuration)
        assert exact(space.try_decode(vector), configuration)
        np.testing.assert_array_equal(space.repair(vector), vector)
        assert space.contains(configuration)
        assert space.contains(json.loads(json.dumps(configuration)))


@pytest.mark.parametrize("seed", SEEDS)
def test_any_vector_of_the_cube_decodes_to_a_legal_configuration_or_is_forbidden(seed: int) -> None:
    space, rng = random_space(seed), np.random.default_rng(seed)
    for corner in (0.0, 1.0, None, None, None, None):
        vector = rng.random(len(space)) if corner is None else np.full(len(space), corner)
        configuration = space.try_decode(vector)
        if configuration is None:
            with pytest.raises(SpaceError, match="forbidden"):
                space.decode(vector)
            continue
        space.validate(configuration)
        assert exact(space.decode(space.encode(configuration)), configuration)
        np.testing.assert_array_equal(space.repair(vector), space.encode(configuration))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_sampled_is_legal_for_configspace_and_what_is_forbidden_is_not(seed: int) -> None:
    space, rng = random_space(seed), np.random.default_rng(seed)
    for _ in range(20):
        values = space.configspace_values(space.sample(rng))
        ConfigSpaceConfiguration(space.configspace, values).check_valid_configuration()
    for _ in range(20):
        slots = space._layout.locate(rng.random(len(space)))
        forbidden = space._layout.plan.broken_clause(slots) is not None
        values = space.configspace_values(space._layout.nest(slots))
        if forbidden:
            with pytest.raises(ForbiddenValueError):
                ConfigSpaceConfiguration(space.configspace, values)
        else:
            ConfigSpaceConfiguration(space.configspace, values)


@pytest.mark.parametrize("seed", SEEDS)
def test_dict_files_configspace_and_pickle_give_the_space_back(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = random_space(seed)
    folder = tmp_path_factory.mktemp("space")
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    for suffix in ("yaml", "json"):
        space.to_file(folder / f"space.{suffix}")
        again = SearchSpace.from_file(folder / f"space.{suffix}")
        assert again == space
        assert again.digest() == space.digest()
        assert exact(again.sample(np.random.default_rng(1)), space.sample(np.random.default_rng(1)))
    assert SearchSpace.from_configspace(space.configspace) == space
    assert pickle.loads(pickle.dumps(space)) == space


@pytest.mark.parametrize("seed", SEEDS)
def test_every_grid_point_is_legal_and_comes_once(seed: int) -> None:
    space = random_space(seed)
    if space.n_grid_points(2) > 3000:
        pytest.skip("a grid of more than 3000 points")
    seen = set()
    for configuration in space.grid(2):
        space.validate(configuration)
        seen.add(repr(configuration))
    assert len(seen) == space.n_grid_points(2)


def test_digest_is_the_same_in_another_process() -> None:
    space = SearchSpace.from_dict({"a": {"domain": "choice", "values": ["x", 1, None]}, "b": 3})
    code = (
        "from raytune_ahu.space import SearchSpace;"
        f"print(SearchSpace.from_dict({space.to_dict()!r}).digest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == space.digest()


def test_random_spaces_cover_conditions_and_forbidden_combinations() -> None:
    spaces = [random_space(seed) for seed in SEEDS]
    assert sum(any(p.condition for p in s.declaration.parameters) for s in spaces) > 20
    assert sum(bool(s.declaration.forbidden) for s in spaces) > 15
    kinds = {p.domain.kind for s in spaces for p in s.declaration.parameters}
    assert len(kinds) == 13  # all but grid_search
