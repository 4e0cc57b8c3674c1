"""What does a trial cost the driver? 100 to 10,000 trivial trials, ours beside stock Ray Tune.

Each measurement is a run in a fresh driver process with its own local Ray of 2 CPUs. The trials
do nothing but report a number for up to 9 epochs, so what is measured is the driver: searcher,
scheduler, record and view, and Ray's controller below them.

    python benchmarks/bench_driver.py                             # all: two hours or more
    python benchmarks/bench_driver.py --quick                     # a smoke test
    python benchmarks/bench_driver.py --sizes 100 1000 --only stock "random + ASHA"
    python benchmarks/bench_driver.py --sizes 1000 --only bohb --profile profiles

CPU is `getrusage(RUSAGE_SELF)` of the driver process with all of its threads; Ray's raylet, store
and workers are other processes. Written to --out: driver.md and driver.csv.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from driver_report import per_trial, report
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
SIZES = (100, 1000, 3000, 10_000)
SLOTS, MAX_EPOCHS, GRACE_PERIOD, REDUCTION_FACTOR = 2, 9, 1, 3
SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "momentum": tune.uniform(0.0, 1.0),
    "width": tune.randint(8, 257),
    "activation": tune.choice(["relu", "tanh", "gelu"]),
}


@dataclass(frozen=True)
class Case:
    """One way to run the same trials."""

    search: str
    scheduler: str
    checkpoints: bool = False
    """Whether each epoch ends with a (small) checkpoint; stock: with num_to_keep=1."""
    loggers: bool = True
    """Stock: whether Ray's default loggers write."""
    most_trials: int | None = None
    """Largest size at which it is run; None: all."""

    @property
    def is_stock(self) -> bool:
        """Whether this is Ray Tune without this package."""
        return self.search == "stock"


STOCK, STOCK_BARE = "stock: random + ASHA", "stock, loggers off: random + ASHA"
RANDOM, BOHB = "ours: random + ASHA", "ours: bohb + ASHA"
CASES = {
    STOCK: Case("stock", "asha"),
    STOCK_BARE: Case("stock", "asha", loggers=False),
    RANDOM: Case("random", "asha"),
    BOHB: Case("bohb", "asha"),
    "ours: random + ASHA promotion": Case("random", "asha-promotion"),
    # Its snapshot of all trials at every checkpoint makes it quadratic: hours at 10,000 trials.
    "stock: random + ASHA, checkpoints": Case("stock", "asha", checkpoints=True, most_trials=300),
    "ours: random + ASHA, checkpoints": Case("random", "asha", checkpoints=True),
}
"""Every case, by its name in the table."""


class Trivial(tune.Trainable):
    """A trial without work: a curve that falls towards a value drawn at random.

    No search can find a better one, so about the same share of the trials passes a rung at every
    size and in every case, and costs per trial can be compared.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin at epoch 0."""
        self._epoch = 0
        self._floor = random.Random(repr(sorted(config.items()))).random()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve the next trial in the same worker."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, float]:
        """Report the curve's next value."""
        self._epoch += 1
        return {"loss": self._floor + 1 / self._epoch}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the epoch."""
        Path(checkpoint_dir, "epoch.txt").write_text(str(self._epoch))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read the epoch."""
        self._epoch = int(Path(checkpoint, "epoch.txt").read_text())


# ---------------------------------------------------------------------- one measurement


class Meter:
    """Marks CPU and wall seconds at the first and the newest result that Ray's controller takes.

    Starting the workers is thereby left out, which costs seconds whatever the number of trials, and
    so is the end: both are in the figures for the whole run. The same hook serves all cases.
    """

    def __init__(self) -> None:
        self.epochs = 0
        self.first = self.newest = (0.0, 0.0)
        original = TuneController._on_training_result

        def on_result(controller: TuneController, trial: object, result: object) -> None:
            original(controller, trial, result)
            self.newest = usage()
            self.first = self.first if self.epochs else self.newest
            self.epochs += 1

        TuneController._on_training_result = on_result


def usage() -> tuple[float, float]:
    """CPU seconds of this process, user and system, and the wall clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, time.perf_counter()


def run_ours(case: Case, n_trials: int, folder: Path) -> int:
    """Run with this package, the live view drawn into nowhere; return the number of trials."""
    from raytune_ahu import ExperimentSpec
    from raytune_ahu.adapters import run, to_search_space
    from schedulers import scheduler_for
    from schedulers.ray_scheduler import RayScheduler

    spec = ExperimentSpec(
        name="run",
        trainable="bench_driver:Trivial",
        space=to_search_space(SPACE),
        metric="loss",
        mode="min",
        max_epochs=MAX_EPOCHS,
        num_samples=n_trials,
        search=case.search,
        scheduler=case.scheduler,
        grace_period=GRACE_PERIOD,
        reduction_factor=REDUCTION_FACTOR,
        checkpoint_frequency=int(case.checkpoints),
        storage_path=str(folder),
    )
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=100, height=40)
        scheduler = RayScheduler(scheduler_for(spec))
        result = run(spec, trainable=Trivial, scheduler=scheduler, console=console)
    return len(result.state.trials)


def run_stock(case: Case, n_trials: int, folder: Path) -> int:
    """Run with Ray Tune alone and without its table, which costs more; return the trials."""
    if not case.loggers:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    checkpoints = tune.CheckpointConfig()
    if case.checkpoints:
        checkpoints = tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1)
    analysis = tune.run(
        Trivial,
        name="run",
        storage_path=str(folder),
        config=SPACE,
        metric="loss",
        mode="min",
        num_samples=n_trials,
        scheduler=tune.schedulers.ASHAScheduler(
            max_t=MAX_EPOCHS, grace_period=GRACE_PERIOD, reduction_factor=REDUCTION_FACTOR
        ),
        resources_per_trial={"cpu": 1},
        checkpoint_config=checkpoints,
        reuse_actors=True,
        verbose=0,
    )
    return len(analysis.trials)


def measure(name: str, n_trials: int, folder: Path, profile: Path | None) -> dict[str, object]:
    """Do one measurement in this process, and return its row of the results."""
    case = CASES[name]
    meter = Meter()
    ray.init(
        address="local",
        num_cpus=SLOTS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=str(folder / "ray"),
    )
    storage = folder / "storage"
    work: Callable[[], int] = lambda: (run_stock if case.is_stock else run_ours)(  # noqa: E731
        case, n_trials, storage
    )
    began = usage()
    if profile is None:
        n_done = work()
    else:
        with cProfile.Profile() as profiler:
            n_done = work()
        profiler.dump_stats(profile / f"{name.replace(':', '').replace(' ', '_')}_{n_trials}.prof")
    ended = usage()
    if n_done != n_trials:
        raise RuntimeError(f"{name}: {n_done} trials were run instead of {n_trials}")
    files = [path for path in storage.rglob("*") if path.is_file()]
    (first_cpu, first_wall), (last_cpu, last_wall) = meter.first, meter.newest
    return {
        "case": name,
        "trials": n_trials,
        "epochs": meter.epochs,
        "cpu_s": last_cpu - first_cpu,
        "wall_s": last_wall - first_wall,
        "call_cpu_s": ended[0] - began[0],
        "call_wall_s": ended[1] - began[1],
        "process_cpu_s": ended[0],
        "end_cpu_s": ended[0] - last_cpu,
        "end_wall_s": ended[1] - last_wall,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "disk_mb": sum(path.stat().st_size for path in files) / 1e6,
        "files": len(files),
    }


def measure_apart(name: str, n_trials: int, profile: Path | None) -> dict[str, Any]:
    """Do one measurement in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bd", ignore_cleanup_errors=True) as folder:
        answer = Path(folder, "row.json")
        command = [sys.executable, __file__, "--child", name, str(n_trials), folder]
        if profile is not None:
            command += ["--profile", str(profile)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not answer.exists():
            raise SystemExit(f"{name}, {n_trials} trials: failed\n{done.stdout}\n{done.stderr}")
        row = json.loads(answer.read_text())
        shutil.rmtree(folder, ignore_errors=True)
    return dict(row)


# ---------------------------------------------------------------------- command line


def chosen(only: list[str] | None) -> list[str]:
    """Cases whose name contains one of the given texts."""
    names = [name for name in CASES if only is None or any(text in name for text in only)]
    if not names:
        raise SystemExit(f"--only {only} matches none of {', '.join(map(repr, CASES))}")
    return names


def describe() -> list[str]:
    """Say what was run, in paragraphs."""
    return [
        f"Trivial trials of up to {MAX_EPOCHS} epochs, {SLOTS} at a time, in reused workers; ASHA "
        f"with grace period {GRACE_PERIOD} and reduction factor {REDUCTION_FACTOR}. Every line is "
        "one run in a fresh process with its own Ray. *checkpoints*: each epoch ends with a small "
        "one (stock: `num_to_keep=1`); otherwise there are none, but for those of paused trials. "
        "Ours draws its live view, for a terminal that nobody sees; stock is run with `verbose=0`, "
        "without its table, which would cost more.",
        "CPU is user and system time of the driver process with all its threads. *Per trial* and "
        "*per epoch* count from the first to the last result that the driver takes, and so leave "
        "out imports, the start of Ray and of the workers, and the end of the run. *Call* is "
        "`run` or `tune.run` from call to return; *process* is everything since the process "
        "began; *end* is from the last result to the return. Peak RSS is that of the driver "
        "process. Left is the run's storage folder, without Ray's own temporary files. Values are "
        "drawn at random, so that no search finds better ones; what is left of the differences in "
        "epochs comes from the order in which results arrive.",
    ]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N")
    parser.add_argument("--only", nargs="+", metavar="TEXT",
                        help="cases whose name contains one of these")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--profile", type=Path, metavar="DIR",
                        help="profile each run into DIR as well (slows it down a lot)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smoke test: 20 and 50 trials")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.sizes = [20, 50]
    if min(arguments.sizes) < 1:
        parser.error(f"--sizes {min(arguments.sizes)} must be at least 1 trial")
    return arguments


def main() -> None:
    """Measure every case at every size, and write the report after each."""
    arguments = parse_arguments()
    if arguments.child:
        name, n_trials, folder = arguments.child
        row = measure(name, int(n_trials), Path(folder), arguments.profile)
        Path(folder, "row.json").write_text(json.dumps(row))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.profile is not None:
        arguments.profile.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, n_trials)
        for n_trials in sorted(arguments.sizes)
        for name in chosen(arguments.only)
        if n_trials <= (CASES[name].most_trials or n_trials)
    ]
    compared = [
        (ours, stock)
        for ours in CASES
        for stock in CASES
        if CASES[stock].is_stock > CASES[ours].is_stock
        and CASES[stock].checkpoints == CASES[ours].checkpoints
    ]
    rows: list[dict[str, Any]] = []
    text = ""
    for name, n_trials in jobs:
        row = measure_apart(name, n_trials, arguments.profile)
        rows.append(row)
        print(f"{len(rows)}/{len(jobs)} {name}, {n_trials:,} trials: "
              f"{1e3 * row['cpu_s'] / n_trials:.2f} ms CPU and "
              f"{1e3 * row['wall_s'] / n_trials:.1f} ms wall a trial, "
              f"{row['call_wall_s']:.0f} s", flush=True)  # fmt: skip
        frame = per_trial(pd.DataFrame(rows))
        text = report(frame, describe(), compared)
        frame.to_csv(arguments.out / "driver.csv", index=False)
        (arguments.out / "driver.md").write_text(text)
    print(text)
    print(f"written to {arguments.out}: driver.md, driver.csv")


if __name__ == "__main__":
    main()
