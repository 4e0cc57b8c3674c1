"""hpbandster's generator behind our interface: contained, seeded, and missing with a clear word."""

from __future__ import annotations

import builtins
import logging
import random
import subprocess
import sys

import numpy as np
import pytest

from raytune_ahu.errors import OptionalDependencyError, SpecError
from raytune_ahu.search import BohbSearcher
from raytune_ahu.search.hpbandster_engine import HpbandsterEngine
from raytune_ahu.search.kde import KdeSettings
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus
from tests.contracts.searcher_contract import MIXED

SPACE = SearchSpace.from_dict(MIXED)


@pytest.fixture
def _needs_hpbandster():
    pytest.importorskip("hpbandster", reason="hpbandster is not installed (extra hpbandster)")


def make(seed=0, **options):
    options = {"engine": "hpbandster", "random_fraction": 0.0, "n_candidates": 4, **options}
    return BohbSearcher(SPACE, mode="min", seed=seed, rung_levels=(1, 3), **options)


def feed(searcher, n):
    suggestions = []
    for i in range(n):
        suggestion = searcher.suggest(str(i))
        x = SPACE.encode(suggestion.configuration)
        searcher.observe(Report(str(i), 1, float(np.nansum((x - 0.3) ** 2))))
        searcher.finish(str(i), TrialStatus.STOPPED)
        suggestions.append(suggestion)
    return suggestions


@pytest.mark.usefixtures("_needs_hpbandster")
def test_it_proposes_legal_python_values_from_its_model():
    suggestions = feed(make(), 30)
    assert [s.origin for s in suggestions[:14]] == ["random"] * 14
    assert sum(s.origin == "model@1" for s in suggestions) >= 12
    assert {s.model for s in suggestions if s.is_model_based} == {"hpbandster"}
    for suggestion in suggestions:
        SPACE.validate(suggestion.configuration)
        assert type(suggestion.configuration["lr"]) is float


@pytest.mark.usefixtures("_needs_hpbandster")
def test_its_draws_come_from_our_seed_and_leave_the_global_generators_alone():
    np.random.seed(1)  # noqa: NPY002
    first = feed(make(seed=3), 25)
    np.random.seed(2)  # noqa: NPY002
    random.seed(5)
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert feed(make(seed=3), 25) == first
    assert feed(make(seed=4), 25) != first
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]


@pytest.mark.usefixtures("_needs_hpbandster")
def test_it_says_nothing(caplog, capfd, recwarn):
    searcher = make()
    with caplog.at_level(logging.DEBUG):
        feed(searcher, 25)
    assert not caplog.records
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_needs_hpbandster")
def test_the_global_generator_is_put_back_even_when_hpbandster_raises(monkeypatch):
    searcher = make()
    feed(searcher, 14)
    monkeypatch.setattr(
        searcher._engine._bohb,
        "get_config",
        lambda *_: np.random.rand() / None,  # noqa: NPY002
    )
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(TypeError):
        searcher.suggest("x")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.usefixtures("_needs_hpbandster")
def test_a_share_that_is_no_whole_percentage_is_refused():
    with pytest.raises(SpecError, match=r"top_fraction=0.155"):
        make(top_fraction=0.155)
    with pytest.raises(SpecError, match="model='kde'"):
        make(model=object())


def test_without_hpbandster_the_error_gives_the_command(monkeypatch):
    real_import = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.startswith("hpbandster"):
            raise ModuleNotFoundError("No module named 'hpbandster'")
        return real_import(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.startswith("hpbandster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(OptionalDependencyError, match=r"pip install 'raytune-ahu\[hpbandster\]'"):
        HpbandsterEngine(
            np.zeros(2, dtype=np.int64),
            seed=0,
            random_fraction=0.0,
            n_candidates=4,
            settings=KdeSettings(),
        )


def test_the_native_engine_does_not_import_hpbandster_torch_or_ray():
    code = (
        "import sys, raytune_ahu.search as s\n"
        "print([m for m in ('hpbandster', 'ray', 'torch', 'statsmodels') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"
