"""How near is hyperparameter importance to the truth, and what does it cost? Ours beside Optuna's.

Both get the same trials of functions whose variance decomposition is known in closed form; error is
the mean distance of the main effects' shares from the true ones. They take turns.

    python benchmarks/bench_importance.py
    python benchmarks/bench_importance.py --quick      # a smoke test

Written to --out: importance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from threadpoolctl import threadpool_limits

from raytune_ahu.analysis.effects import decompose
from raytune_ahu.analysis.forest import Forest
from raytune_ahu.analysis.population import of_space
from raytune_ahu.space import SearchSpace

ROOT = Path(__file__).resolve().parent.parent
NOISE = 0.1
"""Standard deviation of the noise, as a share of the function's."""
LOG_SPAN = 4
"""Decades of a logarithmic parameter."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A function of points in the unit cube, and the true shares of its main effects."""

    f: Callable[[Floats], Floats]
    main: tuple[float, ...]
    log: bool = False
    """Whether the first parameter is searched on a logarithmic scale."""
    choices: int = 0
    """Categories of the last parameter; 0: a number."""


def additive(x: Floats) -> Floats:
    """Variances 9/12, 4/12, 1/12, 0, 0."""
    return np.asarray(3 * x[:, 0] + 2 * x[:, 1] + x[:, 2])


def interacting(x: Floats) -> Floats:
    """Main effects 9/12 and 1/4, an interaction of 36/144, no other."""
    product = 6 * (x[:, 1] - 0.5) * (x[:, 2] - 0.5)
    return np.asarray(3 * x[:, 0] + product + (x[:, 3] > 0.5))


def bowl(x: Floats) -> Floats:
    """Variances 16/180, 1/12, 0.06, 0, 0 with the last one a choice of four: 0, 1, 0, 1 ..."""
    return np.asarray(4 * (x[:, 0] - 0.5) ** 2 + x[:, 1] + 0.5 * (np.floor(4 * x[:, 4]) % 2))


def shares(*variances: float, total: float | None = None) -> tuple[float, ...]:
    """Variances as shares of their sum, or of a total."""
    whole = sum(variances) if total is None else total
    return tuple(v / whole for v in variances)


PROBLEMS = {
    "additive": Problem(additive, shares(9, 4, 1, 0, 0)),
    "with an interaction": Problem(interacting, shares(3, 0, 0, 1, 0, total=5)),
    "a choice of four": Problem(bowl, shares(16 / 180, 1 / 12, 0, 0, 1 / 16), choices=4),
    "additive, one logarithmic": Problem(additive, shares(9, 4, 1, 0, 0), log=True),
}


def space_of(problem: Problem) -> SearchSpace:
    """The search space of a problem."""
    d = len(problem.main)
    unit = {"domain": "uniform", "lower": 0.0, "upper": 1.0}
    declared: dict[str, object] = {f"x{i}": unit for i in range(d)}
    if problem.log:
        declared["x0"] = {"domain": "loguniform", "lower": 10.0**-LOG_SPAN, "upper": 1.0}
    if problem.choices:
        values = [f"c{i}" for i in range(problem.choices)]
        declared[f"x{d - 1}"] = {"domain": "choice", "values": values}
    return SearchSpace.from_dict(declared)


def ours(problem: Problem, x: Floats, y: Floats, seed: int) -> Floats:
    """Shares by our decomposition."""
    population = of_space(space_of(problem))
    assert population is not None
    centred = (y - y.mean()) / y.std()
    forest = Forest(population.dimensions, x, centred, seed=seed)
    found = decompose(forest, population, np.random.default_rng(seed), pairs=False)
    return np.asarray(found.main / found.variance)


def study_of(problem: Problem, x: Floats, y: Floats) -> optuna.Study:
    """The same trials as a study of Optuna's."""
    space, d = space_of(problem), len(problem.main)
    domains: dict[str, optuna.distributions.BaseDistribution] = {
        f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(d)
    }
    if problem.log:
        domains["x0"] = optuna.distributions.FloatDistribution(10.0**-LOG_SPAN, 1.0, log=True)
    if problem.choices:
        values = [f"c{i}" for i in range(problem.choices)]
        domains[f"x{d - 1}"] = optuna.distributions.CategoricalDistribution(values)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=space.decode(row), distributions=domains, value=float(value)
            )
            for row, value in zip(x, y, strict=True)
        ]
    )
    return study


def theirs(problem: Problem, study: optuna.Study, seed: int) -> Floats:
    """Shares by Optuna's evaluator with its defaults."""
    found = optuna.importance.FanovaImportanceEvaluator(seed=seed).evaluate(study)
    return np.array([found[f"x{i}"] for i in range(len(problem.main))])


def one(name: str, n: int, seed: int) -> list[dict[str, object]]:
    """Run both on one sample, in an order that alternates."""
    problem = PROBLEMS[name]
    rng = np.random.default_rng(seed)
    x = rng.random((n, len(problem.main)))
    if problem.choices:
        x[:, -1] = (np.floor(x[:, -1] * problem.choices) + 0.5) / problem.choices
    value = problem.f(x)
    y = value + NOISE * value.std() * rng.standard_normal(n)
    study = study_of(problem, x, y)
    ways: dict[str, Callable[[], Floats]] = {
        "ours": lambda: ours(problem, x, y, seed),
        "Optuna": lambda: theirs(problem, study, seed),
    }
    rows: list[dict[str, object]] = []
    for way in sorted(ways, reverse=bool(seed % 2)):
        start = time.process_time()
        found = ways[way]()
        spent = time.process_time() - start
        error = float(np.abs(found - np.array(problem.main)).mean())
        rows.append(
            {"function": name, "trials": n, "seed": seed, "way": way, "error": error, "s": spent}
        )
    return rows


def table(frame: pd.DataFrame) -> str:
    """One line a function and number of trials."""
    lines = [
        "| function | trials | seeds | ours: error | Optuna: error | ours nearer | ours: CPU s "
        "| Optuna: CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, n), part in frame.groupby(["function", "trials"], sort=False):
        errors = part.pivot_table("error", index="seed", columns="way")
        seconds = part.pivot_table("s", index="seed", columns="way")
        cells = [f"{errors[w].mean():.3f} ± {errors[w].std():.3f}" for w in ("ours", "Optuna")]
        times = [f"{seconds[w].mean():.2f} ± {seconds[w].std():.2f}" for w in ("ours", "Optuna")]
        wins = int((errors["ours"] < errors["Optuna"]).sum())
        nearer = f"{wins} of {len(errors)}"
        row = [str(name), str(n), str(len(errors)), *cells, nearer, *times]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def page(frame: pd.DataFrame) -> str:
    """The whole report."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "scikit-learn", "optuna")
    )
    return f"""# Hyperparameter importance beside Optuna's

Command: `python benchmarks/bench_importance.py`

Python {platform.python_version()}, {versions}; {os.cpu_count()} CPU cores, one thread.

Functions of five parameters whose variance decomposition is known, on uniform random trials with
{NOISE:.0%} noise. Error: mean distance of the five main effects' shares from the true ones (each in
[0, 1]); CPU seconds of one evaluation (forest and main effects, no intervals); mean ± standard
deviation over seeds. Both have 64 trees; the two take turns, on the same trials.

{table(frame)}

Optuna averages the shares of single trees; ours are those of the forest's mean prediction. Optuna
integrates over a logarithmic parameter linearly and over the one-hot columns of a choice as if they
were independent; ours integrates over the coordinate that is searched, and over the categories.
"""


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = {50: 1} if arguments.quick else {50: 5, 200: 3, 1000: 1}
    RandomForestRegressor(n_estimators=1).fit([[0.0], [1.0]], [0.0, 1.0])  # loads the libraries
    rows: list[dict[str, object]] = []
    with threadpool_limits(limits=1):
        for name in PROBLEMS:
            for n, seeds in plan.items():
                for seed in range(seeds):
                    rows += one(name, n, seed)
    text = page(pd.DataFrame(rows))
    print(text)
    if not arguments.quick:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "importance.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
