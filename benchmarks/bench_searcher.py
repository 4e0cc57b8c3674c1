"""Cost of a suggestion and of recording a report: our BOHB, with both models, beside hpbandster's.

    python benchmarks/bench_searcher.py            # 100, 1,000 and 10,000 observations
    python benchmarks/bench_searcher.py --quick    # 100 and 1,000, fewer repetitions

All get the same observations of one rung level, of a space with 8 parameters. A suggestion is
everything from "the last report is in" to a configuration of plain Python values: in ours the model
is fitted during `suggest`, in hpbandster's during `new_result`, so the column that compares them is
suggest + observe. They take turns, observation by observation; the random fraction is 0, so every
suggestion is model-based. 4 trials of ours are always running. Times are CPU time of one thread, so
that other work on the machine does not count.

kde is the density model, gp the process. The process fits its hyperparameters anew when the
observations have grown by a quarter; such a suggestion is slower than the median says.
"""

# ruff: noqa: E402  # the number of threads has to be set before numpy is imported

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import logging
import platform
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from raytune_ahu.search import BohbSearcher
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Report, TrialStatus

REAL = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
SPACES: dict[str, dict[str, Any]] = {
    "8 floats": {f"x{i}": REAL for i in range(8)},
    "4 floats, 2 ints, 2 choices": {
        **{f"x{i}": REAL for i in range(4)},
        "x4": {"domain": "randint", "lower": 1, "upper": 64},
        "x5": {"domain": "randint", "lower": 1, "upper": 8},
        "x6": {"domain": "choice", "values": ["a", "b", "c"]},
        "x7": {"domain": "choice", "values": ["a", "b", "c", "d", "e"]},
    },
}
TARGETS_MS = {"kde": {10_000: 10.0}, "gp": {1000: 50.0, 10_000: 200.0}}
"""Most that a suggestion of ours may take, by model and observations."""
PACKAGES = ("numpy", "scipy", "ConfigSpace", "hpbandster", "statsmodels")


def loss_of(configuration: dict[str, Any], rng: np.random.Generator) -> float:
    """A bowl over the numbers, a step per category, some noise."""
    loss = 0.1 * rng.random()
    for value in configuration.values():
        loss += 0.1 * ord(value[0]) if isinstance(value, str) else (float(value) - 0.3) ** 2
    return float(loss)


class Ours:
    """Our searcher with n finished and 4 running trials."""

    def __init__(self, space: SearchSpace, n: int, model: str) -> None:
        self.searcher = BohbSearcher(
            space, mode="min", seed=0, rung_levels=(1, 3, 9), random_fraction=0.0, model=model
        )
        self._space = space
        self._rng = np.random.default_rng(0)
        self.observe_ms: list[float] = []
        self._number = 0
        self._running: list[tuple[str, dict[str, Any]]] = []
        history = self.searcher._history  # filled directly: n suggestions would take minutes
        for _ in range(n + 4):
            trial, configuration = str(self._number), space.sample(self._rng)
            self._number += 1
            history.add(trial, space.encode(configuration))
            self._running.append((trial, configuration))
        for _ in range(n):
            self.observe()

    def observe(self) -> float:
        """Report and end the oldest running trial; return CPU milliseconds."""
        trial, configuration = self._running.pop(0)
        report = Report(trial, 1, loss_of(configuration, self._rng))
        start = time.process_time()
        self.searcher.observe(report)
        self.searcher.finish(trial, TrialStatus.STOPPED)
        return 1e3 * (time.process_time() - start)

    def suggest(self) -> float:
        """Start a trial; return CPU milliseconds."""
        trial = str(self._number)
        self._number += 1
        start = time.process_time()
        suggestion = self.searcher.suggest(trial)
        taken = 1e3 * (time.process_time() - start)
        assert suggestion is not None
        assert suggestion.is_model_based
        self._running.append((trial, suggestion.configuration))
        return taken


class Hpbandster:
    """hpbandster's generator on the same space, driven as its own master drives it."""

    def __init__(self, space: SearchSpace, n: int) -> None:
        from hpbandster.optimizers.config_generators.bohb import BOHB

        logger = logging.getLogger("bench.hpbandster")
        logger.setLevel(logging.CRITICAL)
        np.random.seed(0)  # noqa: NPY002  # hpbandster draws from the global generator
        self._generator = BOHB(space.configspace, random_fraction=0.0, logger=logger)
        self._rng = np.random.default_rng(0)
        self._space = space
        self._next: dict[str, Any] = {}
        for i in range(n):
            configuration = space.configspace_values(space.sample(self._rng))
            self._tell(configuration, update_model=i == n - 1)
        self.suggest()

    def _tell(self, configuration: dict[str, Any], *, update_model: bool) -> float:
        job = SimpleNamespace(
            id=(0, 0, 0),
            exception=None,
            result={"loss": loss_of(configuration, self._rng)},
            kwargs={"budget": 1, "config": configuration},
        )
        start = time.process_time()
        self._generator.new_result(job, update_model=update_model)
        return 1e3 * (time.process_time() - start)

    def observe(self) -> float:
        """Record the last suggestion, which refits the model; return CPU milliseconds."""
        return self._tell(self._next, update_model=True)

    def suggest(self) -> float:
        """Draw a configuration; return CPU milliseconds."""
        start = time.process_time()
        self._next, info = self._generator.get_config(1)
        taken = 1e3 * (time.process_time() - start)
        assert info["model_based_pick"]
        return taken


def measure(contestants: dict[str, Any], repetitions: int) -> dict[str, np.ndarray]:
    """Let them take turns; (repetitions, 2) milliseconds of suggest and observe for each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(repetitions + 3):
        for name, contestant in contestants.items():
            pair = (contestant.observe(), contestant.suggest())
            if turn >= 3:  # the first ones warm up
                times[name].append((pair[1], pair[0]))
    return {name: np.array(rows) for name, rows in times.items()}


def describe(milliseconds: np.ndarray) -> str:
    """Median and quartiles."""
    low, median, high = np.percentile(milliseconds, [25, 50, 75])
    return f"{median:9.3f} ({low:.3f} to {high:.3f})"


def cpu_model() -> str:
    """Name of the processor, where the system tells."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def versions() -> str:
    """Versions of everything that matters here."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def contestants_for(space: SearchSpace, n: int) -> dict[str, Any]:
    """Ours, and hpbandster's where it is installed."""
    makers: dict[str, Callable[[SearchSpace, int], Any]] = {
        model: partial(Ours, model=model) for model in TARGETS_MS
    }
    try:
        import hpbandster  # noqa: F401

        makers["hpbandster"] = Hpbandster
    except ImportError:
        pass
    return {name: make(space, n) for name, make in makers.items()}


def main() -> int:
    """Print the table; exit code 1 if ours misses its targets (`TARGETS_MS`; 1 ms to observe)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer observations and repetitions")
    parser.add_argument("--repetitions", type=int, default=None, help="turns per cell (default 40)")
    arguments = parser.parse_args()
    sizes = (100, 1000) if arguments.quick else (100, 1000, 10_000)
    repetitions = arguments.repetitions or (10 if arguments.quick else 40)
    warnings.simplefilter("ignore")
    print(f"CPU: {cpu_model()}, load {os.getloadavg()[0]:.1f}, 1 thread\n{versions()}")
    print(f"median (quartiles) of {repetitions} turns, CPU milliseconds\n")
    print(f"{'space':28} {'n':>6} {'':10} {'suggest':>28} {'observe':>28} {'both':>28}")
    misses = 0
    for title, declaration in SPACES.items():
        space = SearchSpace.from_dict(declaration)
        for n in sizes:
            for name, times in measure(contestants_for(space, n), repetitions).items():
                columns = [describe(c) for c in (times[:, 0], times[:, 1], times.sum(axis=1))]
                print(f"{title:28} {n:6} {name:10} " + " ".join(f"{c:>28}" for c in columns))
                suggest_ms, observe_ms = np.median(times, axis=0)
                if name in TARGETS_MS:
                    misses += suggest_ms > TARGETS_MS[name].get(n, np.inf) or observe_ms > 1
    print(f"\ntargets for ours {TARGETS_MS}, observe 1 ms: {'missed' if misses else 'met'}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
