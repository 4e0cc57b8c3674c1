"""How fast do our methods and the peers' find good configurations? On the virtual clock.

Every method tunes every task with the same workers, budget and table of curves, once per seed. The
measure is the normalised regret of the incumbent over time
(`raytune_ahu.simulation.normalised_regret`): 0 is the best value that any configuration of the
table reaches, 1 a median configuration trained in full.

    python benchmarks/search/run.py                        # ours and Ray's, 20 seeds
    python benchmarks/search/run.py --quick                # a smoke test
    python benchmarks/search/run.py --methods all --seeds 5 --workers 4 16
    python benchmarks/search/report.py benchmarks/results/search.csv

Rows are appended to search.csv in --out, one per simulation; what is there already is not run
again, so a run that was cut short goes on, and more methods or seeds can be added. The curves
(TaskSet's are recorded, LCBench's predicted by the surrogate of YAHPO Gym) are read from --data
(sub-folders `taskset` and `lcbench`); without them synthetic tasks take their place. Peers whose
package is missing are skipped; `make bench-search` installs them all.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.search import report, store, tasks
from benchmarks.search.methods import DEFAULT, METHODS, choose_methods, version_of
from benchmarks.search.store import REGRETS, SHARES, Simulation
from raytune_ahu.simulation import SimulationResult, Task, regret_at
from raytune_ahu.types import TrialStatus

BUDGETS = {16: 4.0}
"""Full trainings per worker by the number of workers, where it is not 10."""


def run_one(simulation: Simulation, data: Path) -> dict[str, Any]:
    """Run one simulation and return its row."""
    task = tasks.load_task(data, simulation.suite, simulation.task)
    if simulation.failing:
        task = tasks.failing(task, simulation.failing, simulation.seed)
    budget_s = simulation.budget * task.max_resource * task.median_epoch_s
    result = METHODS[simulation.method](
        task,
        seed=simulation.seed,
        workers=simulation.workers,
        budget_s=budget_s,
        resume_s=simulation.resume_s,
        charge_method=simulation.charge_method,
    )
    return asdict(simulation) | describe(result, task, budget_s, simulation.method)


def describe(result: SimulationResult, task: Task, budget_s: float, method: str) -> dict[str, Any]:
    """Summarise a simulation."""
    suggest_s = result.suggest_cpu_s
    mean_s, p95_s = (suggest_s.mean(), np.quantile(suggest_s, 0.95)) if len(suggest_s) else (0, 0)
    final_value = getattr(task, "final_value", None)  # of noisy tasks: what luck does not change
    regret = regret_at(result, task, SHARES * budget_s, final_value=final_value)
    ended = [trial.status for trial in result.trials]
    return {
        "versions": version_of(method),
        "trials": len(result.trials),
        "epochs": result.epochs,
        "stopped": ended.count(TrialStatus.STOPPED),
        "completed": ended.count(TrialStatus.COMPLETED),
        "failed": ended.count(TrialStatus.FAILED),
        "model_share": round(result.model_based_share(), 4),
        "suggest_cpu_s": round(float(mean_s), 6),
        "suggest_cpu_s_p95": round(float(p95_s), 6),
        "method_cpu_s": round(result.method_cpu_s, 4),
        **{name: round(float(r), 5) for name, r in zip(REGRETS, regret, strict=True)},
    }


def plan(arguments: argparse.Namespace) -> list[Simulation]:
    """List what is to be run, seed by seed, so that a run cut short has whole seeds."""
    chosen = tasks.choose_tasks(arguments.data, arguments.tasks)
    if arguments.quick:
        chosen = [next(t for t in chosen if t[0] == suite) for suite in dict.fromkeys(dict(chosen))]
    methods = choose_methods(arguments.methods)
    return [
        Simulation(
            suite,
            name,
            method,
            seed,
            workers,
            arguments.budget or BUDGETS.get(workers, 10.0),
            arguments.failing,
            arguments.resume_cost,
            arguments.charge_method,
        )
        for workers in arguments.workers
        for seed in arguments.seeds
        for suite, name in chosen
        for method in methods
    ]


def run_all(todo: list[Simulation], data: Path, path: Path, n_processes: int) -> None:
    """Run all simulations and append their rows, with progress on the screen."""
    began = shown = time.perf_counter()
    for n, row in enumerate(_completed(todo, data, n_processes), start=1):
        store.append(path, row)
        now = time.perf_counter()
        if now - shown > 10 or n == len(todo):
            left = (now - began) / n * (len(todo) - n)
            print(f"{n}/{len(todo)} simulations, {now - began:.0f} s, {left:.0f} s left; "
                  f"{row['method']} on {row['task']}", flush=True)  # fmt: skip
            shown = now


def _completed(todo: list[Simulation], data: Path, n_processes: int) -> Iterator[dict[str, Any]]:
    if n_processes == 1:
        for simulation in todo:
            yield run_one(simulation, data)
        return
    with ProcessPoolExecutor(n_processes) as pool:
        futures = [pool.submit(run_one, simulation, data) for simulation in todo]
        for future in as_completed(futures):
            yield future.result()


def seeds(text: str) -> list[int]:
    """Read `20` as 0 to 19, and `5-9` as 5 to 9."""
    first, _, last = text.rpartition("-")
    numbers = range(int(first), int(last) + 1) if first else range(int(last))
    if not numbers:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1, or a range such as 5-9")
    return list(numbers)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=tasks.default_data(), metavar="DIR",
        help="folder with taskset/ and lcbench/ (default: $RAYTUNE_AHU_SHARED_DATA, else "
        "../shared/data beside the project)")  # fmt: skip
    add("--out", type=Path, default=tasks.ROOT / "benchmarks" / "results", metavar="DIR",
        help="folder for search.csv and the report, or a .csv file")  # fmt: skip
    add("--methods", nargs="+", default=list(DEFAULT), metavar="NAME",
        help=f"names or patterns, `peers` or `all` (default: {' '.join(DEFAULT)})")  # fmt: skip
    add("--tasks", nargs="+", default=["lcbench", "taskset"], metavar="NAME",
        help=f"suites ({', '.join(tasks.SUITES)}) or names of tasks")  # fmt: skip
    add("--seeds", type=seeds, default=seeds("20"), metavar="N",
        help="how many, or a range such as 5-9 (default: 20)")  # fmt: skip
    add("--workers", type=int, nargs="+", default=[4], metavar="N")
    add("--budget", type=float, metavar="X",
        help="full trainings per worker (default: 10; with 16 workers 4)")  # fmt: skip
    add("--jobs", type=int, default=1, metavar="N", help="processes")
    add("--failing", type=float, default=0.0, metavar="SHARE", help="share of trials that crash")
    add("--resume-cost", type=float, default=0.0, metavar="S",
        help="virtual seconds that going on with a paused trial costs")  # fmt: skip
    add("--charge-method", type=float, default=0.0, metavar="X",
        help="virtual seconds that each CPU second of the method costs")  # fmt: skip
    add("--quick", action="store_true",
        help="smoke test: one task of each suite, 2 seeds, a fifth of the budget")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.seeds, arguments.budget = [0, 1], 2.0
    for name in ("budget", "jobs", "workers"):
        values = getattr(arguments, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value <= 0:
                parser.error(f"--{name} {value} must be greater than 0")
    return arguments


def main() -> None:
    """Run what is missing, and write the report."""
    arguments = parse_arguments()
    out = arguments.out
    path = out if out.suffix == ".csv" else out / "search.csv"
    wanted = plan(arguments)
    there = store.done(path)
    todo = [simulation for simulation in wanted if simulation.key() not in there]
    print(f"{len(wanted)} simulations, {len(wanted) - len(todo)} of them in {path} already")
    run_all(todo, arguments.data, path, arguments.jobs)
    report.write(store.read(path), path.parent, path.stem)


if __name__ == "__main__":
    main()
