"""What earlier runs and the user's belief are worth: warm starts and priors, right and wrong ones.

The curves of LCBench, of a surrogate, on the virtual clock, 4 workers, the default search. A warm
start gets the first trials of a search of another seed: on the same data set, on each of the
others, or on the same with its losses turned round, so that what was good is bad. A prior names the
best, or the worst, of 25 random configurations.

    python benchmarks/search/knowledge.py [--data DIR] [--seeds 5] [--out benchmarks/results]

Written: knowledge.md, the normalised regret at shares of the budget of 10 full trainings a worker.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd

from benchmarks.search import tasks
from benchmarks.tables import markdown, mean_and_error, versions
from raytune_ahu.search import BohbSearcher
from raytune_ahu.search.prior import PriorTrial
from raytune_ahu.seeding import generator
from raytune_ahu.simulation import SimulationResult, TableTask, regret_at, simulate
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import TrialStatus
from schedulers import build_scheduler

WORKERS, BUDGET, EARLIER_TRIALS = 4, 10, 100
SHARES = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 1.0])


def search(
    task: TableTask,
    seed: int,
    *,
    space: SearchSpace | None = None,
    prior: tuple[PriorTrial, ...] = (),
    max_trials: int | None = None,
) -> SimulationResult:
    """Run the default search on the virtual clock."""
    scheduler = build_scheduler(
        "asha-promotion", mode=task.mode, max_resource=task.max_resource, seed=seed
    )
    searcher = BohbSearcher(
        space or task.space,
        mode=task.mode,
        seed=seed,
        rung_levels=scheduler.rung_levels,
        model="gp",
    )
    searcher.begin_from(prior)
    budget_s = BUDGET * task.max_resource * task.median_epoch_s
    return simulate(
        searcher, scheduler, task, workers=WORKERS, budget_s=budget_s, max_trials=max_trials
    )


def trials_of(result: SimulationResult, *, turned: bool = False) -> tuple[PriorTrial, ...]:
    """Make what happened a warm start; `turned`: with the sign of the losses changed."""
    reports: list[list[tuple[int, float]]] = [[] for _ in result.trials]
    for trial, resource, value in zip(result.trial, result.resource, result.value, strict=True):
        if np.isfinite(value):
            reports[trial].append((int(resource), float(-value if turned else value)))
    return tuple(
        PriorTrial(trial.configuration, tuple(seen), trial.status is TrialStatus.FAILED)
        for trial, seen in zip(result.trials, reports, strict=True)
    )


def believed(task: TableTask, seed: int, *, worst: bool) -> SearchSpace:
    """The space with a prior at the best, or the worst, of 25 random rows of the table."""
    drawn = generator(seed, "belief").choice(len(task), size=25, replace=False)
    final = np.where(np.isfinite(task.values), task.values, np.inf)[drawn, -1]
    row = task.rows[drawn[int(final.argmax() if worst else final.argmin())]]
    return task.space.with_prior(
        {name: {"value": value} for name, value in task.space.decode(row).items()}
    )


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=tasks.default_data(), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--out", type=Path, default=tasks.ROOT / "benchmarks" / "results", metavar="DIR"
    )
    arguments = parser.parse_args()
    names = [name for suite, name in tasks.list_tasks(arguments.data) if suite == "lcbench"]
    if not names:
        raise SystemExit(f"no recorded curves in {arguments.data}; give --data")
    loaded: dict[str, TableTask] = {
        name: tasks.load_task(arguments.data, "lcbench", name) for name in names
    }
    rows = []
    for seed in range(arguments.seeds):
        earlier = {
            name: search(task, 1000 + seed, max_trials=EARLIER_TRIALS)
            for name, task in loaded.items()
        }
        for i, (name, task) in enumerate(loaded.items()):
            other = names[(i + 1) % len(names)]
            here, there = earlier[name], earlier[other]
            runs: dict[str, dict[str, Any]] = {
                "no knowledge": {},
                "warm start: same data": {"prior": trials_of(here)},
                "warm start: other data": {"prior": trials_of(there)},
                "warm start: turned round": {"prior": trials_of(here, turned=True)},
                "prior: best of 25": {"space": believed(task, seed, worst=False)},
                "prior: worst of 25": {"space": believed(task, seed, worst=True)},
            }
            seconds = SHARES * BUDGET * task.max_resource * task.median_epoch_s
            for label, options in runs.items():
                regret = regret_at(search(task, seed, **options), task, seconds)
                shares = dict(zip(SHARES, regret, strict=True))
                rows.append({"label": label, "seed": seed, **shares})
            print(f"seed {seed}: {name} done", flush=True)
    frame = pd.DataFrame(rows)
    by_seed = frame.groupby(["label", "seed"], sort=False)[list(SHARES)].mean()
    table = by_seed.groupby("label", sort=False).agg(mean_and_error)
    table.columns = [f"{share:.1%}" for share in SHARES]
    text = "\n\n".join(
        [
            "# Warm starts and priors",
            f"`python benchmarks/search/knowledge.py --seeds {arguments.seeds}`: {versions()}.",
            f"Mean normalised regret over {len(names)} LCBench tasks, ± standard error over "
            f"{arguments.seeds} seeds, at shares of the budget; {WORKERS} workers, each {BUDGET} "
            f"full trainings; warm starts from {EARLIER_TRIALS} trials.",
            markdown(table.rename_axis("what is known")),
        ]
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "knowledge.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
