"""How fast do searcher and scheduler find good configurations? On the virtual clock, real curves.

Every method tunes every task with the same workers and budget, once per seed. The measure is the
normalised regret of the incumbent over time (`raytune_ahu.simulation.normalised_regret`): 0 is the
best value that any recorded configuration reaches, 1 a median configuration trained in full.

    python benchmarks/bench_search.py                 # all but the hpbandster engine, 20 seeds
    python benchmarks/bench_search.py --quick         # a smoke test
    python benchmarks/bench_search.py --hpbandster-seeds 2 --jobs 2

The recorded curves are read from --data (sub-folders `taskset` and `lcbench`); without them three
synthetic tasks take their place. Written to --out: search.md, search.png and search.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from search_report import COLUMNS, GRID, plot, versions, write_report

from raytune_ahu.search import BohbSearcher, RandomSearcher
from raytune_ahu.simulation import (
    BowlTask,
    TableTask,
    load_lcbench,
    load_taskset,
    regret_at,
    simulate,
)
from raytune_ahu.space import SearchSpace
from schedulers import build_scheduler

ROOT = Path(__file__).resolve().parent.parent
GRACE_PERIOD, REDUCTION_FACTOR = 1, 3

STOCK = "Ray: TuneBOHB + ASHAScheduler"
ORACLE = "BOHB (hpbandster engine) + ASHA"
METHODS: dict[str, tuple[str, str]] = {
    "BOHB + ASHA": ("bohb", "asha"),
    "BOHB + ASHA promotion": ("bohb", "asha-promotion"),
    "random + ASHA": ("random", "asha"),
    "random + ASHA promotion": ("random", "asha-promotion"),
    "random, no early stopping": ("random", "none"),
    ORACLE: ("hpbandster", "asha"),
    STOCK: ("ray", "ray"),
}
"""Every method: its searcher and its scheduler."""
BASELINES = ("random + ASHA", STOCK, "BOHB + ASHA")
"""What the others are compared with, seed by seed."""


@dataclass(frozen=True)
class Job:
    """One simulation."""

    group: str
    source: str  # a file, or the name of a synthetic task
    method: str
    seed: int
    workers: int
    budget: float  # full trainings per worker


@lru_cache(maxsize=32)
def load_task(group: str, source: str) -> TableTask | BowlTask:
    """Load a task; each process keeps those it has seen."""
    if group == "synthetic":
        names = [f"x{i}" for i in range(4)]
        space = SearchSpace.from_dict(
            {name: {"domain": "uniform", "lower": 0.0, "upper": 1.0} for name in names}
        )
        options = {"bowl": {}, "crossing": {"crossing": True}, "diverging": {"diverging": 0.3}}
        return BowlTask(space, max_resource=51, **options[source])
    return load_taskset(source) if group == "taskset" else load_lcbench(source)


def run_job(job: Job) -> dict[str, object]:
    """Run one simulation and return its row of the results."""
    task = load_task(job.group, job.source)
    search_name, scheduler_name = METHODS[job.method]
    if search_name == "ray":
        from ray_stock import RayStockPair

        searcher = scheduler = RayStockPair(
            task.space, max_resource=task.max_resource, mode=task.mode, seed=job.seed
        )
    else:
        scheduler = build_scheduler(
            scheduler_name,
            mode=task.mode,
            max_resource=task.max_resource,
            grace_period=GRACE_PERIOD,
            reduction_factor=REDUCTION_FACTOR,
            seed=job.seed,
        )
        if search_name == "random":
            searcher = RandomSearcher(task.space, mode=task.mode, seed=job.seed)
        else:
            searcher = BohbSearcher(
                task.space,
                mode=task.mode,
                seed=job.seed,
                rung_levels=scheduler.rung_levels,
                engine="hpbandster" if search_name == "hpbandster" else "native",
            )
    budget_s = job.budget * task.max_resource * task.median_epoch_s
    began = time.perf_counter()
    result = simulate(searcher, scheduler, task, workers=job.workers, budget_s=budget_s)
    seconds = time.perf_counter() - began
    regret = regret_at(result, task, GRID * budget_s)
    return {
        "group": job.group,
        "task": short_name(job.source),
        "method": job.method,
        "seed": job.seed,
        "trials": len(result.trials),
        "epochs": result.epochs,
        "model_share": round(result.model_based_share(), 4),
        "seconds": round(seconds, 3),
        **{column: round(float(r), 4) for column, r in zip(COLUMNS, regret, strict=True)},
    }


def short_name(source: str) -> str:
    """Name of a task in tables: the file's stem without what all tasks of a set share."""
    return Path(source).stem.removeprefix("FixedTextRNNClassification_imdb_")


# ---------------------------------------------------------------------- running


def find_sources(data: Path) -> list[tuple[str, str]]:
    """List (group, source) of all tasks that have data; the synthetic ones if none has."""
    found = [
        (group, str(path))
        for group in ("taskset", "lcbench")
        for path in sorted((data / group).glob("*.npz"))
    ]
    if found:
        return found
    print(f"no recorded curves in {data} (taskset/*.npz, lcbench/*.npz): synthetic tasks instead")
    return [("synthetic", name) for name in ("bowl", "crossing", "diverging")]


def available_methods(wanted: Iterable[str], hpbandster_seeds: int) -> list[str]:
    """Leave out what cannot run here, and say so."""
    methods = []
    for name in wanted:
        if name in (ORACLE, STOCK) and find_spec("hpbandster") is None:
            print(f"skipped: {name!r} needs hpbandster (pip install '.[hpbandster]')")
        elif name == ORACLE and hpbandster_seeds == 0:
            print(f"skipped: {name!r} takes 10 to 60 s per run; ask with --hpbandster-seeds 2")
        else:
            methods.append(name)
    return methods


def plan(arguments: argparse.Namespace) -> list[Job]:
    """List all jobs, seed by seed, so that a run cut short has whole seeds."""
    sources = find_sources(arguments.data)
    if arguments.quick:
        sources = [s for g in dict.fromkeys(g for g, _ in sources) for s in sources if s[0] == g][
            :1
        ]
    methods = available_methods(METHODS, arguments.hpbandster_seeds)
    return [
        Job(group, source, method, seed, arguments.workers, arguments.budget)
        for seed in range(arguments.seeds)
        for group, source in sources
        for method in methods
        if method != ORACLE or seed < arguments.hpbandster_seeds
    ]


def run_all(jobs: list[Job], n_processes: int) -> pd.DataFrame:
    """Run all jobs with progress on the screen; the order of the rows is that of the jobs."""
    rows: dict[int, dict[str, object]] = {}
    began = shown = time.perf_counter()
    for index, row in _completed(jobs, n_processes):
        rows[index] = row
        now = time.perf_counter()
        if now - shown > 5 or len(rows) == len(jobs):
            left = (now - began) / len(rows) * (len(jobs) - len(rows))
            print(f"{len(rows)}/{len(jobs)} simulations, {now - began:.0f} s, {left:.0f} s left",
                  flush=True)  # fmt: skip
            shown = now
    return pd.DataFrame([rows[i] for i in range(len(jobs))])


def _completed(jobs: list[Job], n_processes: int) -> Iterator[tuple[int, dict[str, object]]]:
    if n_processes == 1:
        yield from enumerate(map(run_job, jobs))
        return
    with ProcessPoolExecutor(n_processes) as pool:
        futures = {pool.submit(run_job, job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def describe(arguments: argparse.Namespace, seconds: float) -> list[str]:
    """Say what was run, in paragraphs."""
    return [
        f"Command: `python benchmarks/bench_search.py {' '.join(sys.argv[1:])}".rstrip() + "`",
        f"{versions()}; {seconds:.0f} s of wall time (jobs: {arguments.jobs}).",
        f"{arguments.workers} workers, each with a budget of {arguments.budget:g} full trainings "
        "(in virtual seconds; a full training counts the task's median epoch). Grace period "
        f"{GRACE_PERIOD}, reduction factor {REDUCTION_FACTOR}, one bracket. Normalised regret: "
        "(incumbent - best) / (median final value - best), clipped at 1, the incumbent being the "
        "best validation value seen at any epoch. Mean ± standard error over seeds. TaskSet: 50 "
        "steps, each one virtual second. LCBench: 51 epochs with each configuration's own "
        "duration. The recorded configurations are finite in number, so a regret of 0 is possible.",
    ]


def default_data() -> Path:
    """Where tests look for recorded curves, too."""
    return Path(os.environ.get("RAYTUNE_AHU_SHARED_DATA", ROOT.parent / "shared" / "data"))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=default_data(), metavar="DIR",
                        help="folder with taskset/ and lcbench/ (default: $RAYTUNE_AHU_SHARED_DATA,"
                        " else ../shared/data beside the project)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument("--hpbandster-seeds", type=int, default=0, metavar="N",
                        help="seeds of the slow hpbandster engine (default: 0: none)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--budget", type=float, default=10.0, metavar="X",
                        help="full trainings per worker (default: 10)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--quick", action="store_true",
                        help="smoke test: one task, 2 seeds, a fifth of the budget")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.seeds, arguments.budget = 2, 2.0
    for name in ("seeds", "workers", "budget", "jobs"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name} {getattr(arguments, name)} must be greater than 0")
    return arguments


def main() -> None:
    """Run, and write table, plot and raw results."""
    arguments = parse_arguments()
    jobs = plan(arguments)
    began = time.perf_counter()
    results = run_all(jobs, arguments.jobs)
    report = write_report(results, describe(arguments, time.perf_counter() - began), BASELINES)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results.to_csv(arguments.out / "search.csv", index=False)
    (arguments.out / "search.md").write_text(report)
    plot(results, arguments.out / "search.png")
    print(report)
    print(f"written to {arguments.out}: search.md, search.png, search.csv")


if __name__ == "__main__":
    main()
