"""How much disk does a run take? 60 trials with 5 MB checkpoints, ours beside stock Ray Tune.

Every trial writes a checkpoint in each epoch. The bytes in the run's storage folder are counted
from outside, by another process, every 50 ms while the run goes on, and at its end.

    python benchmarks/bench_storage.py
    python benchmarks/bench_storage.py --quick        # a smoke test

Written to --out: storage.md and storage.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from ray import tune
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
SLOTS, MAX_EPOCHS, GRACE_PERIOD, REDUCTION_FACTOR = 2, 9, 1, 3
SAMPLE_EVERY_S = 0.05
SPACE = {"floor": tune.uniform(0.0, 1.0), "megabytes": 5.0}


@dataclass(frozen=True)
class Case:
    """One way to run the same trials."""

    stock: bool
    scheduler: str = "asha"
    keep: int | None = None
    """Ours: `keep_best`; stock: `num_to_keep`."""


CASES = {
    "stock: ASHA": Case(stock=True),
    "stock: ASHA, num_to_keep=1": Case(stock=True, keep=1),
    "ours: ASHA": Case(stock=False, keep=3),
    "ours: ASHA, keep_best=0": Case(stock=False, keep=0),
    "ours: ASHA promotion": Case(stock=False, scheduler="asha-promotion", keep=3),
}


class Heavy(tune.Trainable):
    """A trial without work but with a large checkpoint."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin at epoch 0."""
        self._epoch = 0
        self._floor = config["floor"]
        self._payload = bytes(int(config["megabytes"] * 1e6))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve the next trial in the same worker."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, float]:
        """Report a curve that falls towards the configuration's value."""
        self._epoch += 1
        return {"loss": self._floor + 1 / self._epoch}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the epoch and the payload."""
        Path(checkpoint_dir, "epoch.txt").write_text(str(self._epoch))
        Path(checkpoint_dir, "payload.bin").write_bytes(self._payload)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Read the epoch."""
        self._epoch = int(Path(checkpoint, "epoch.txt").read_text())


# ---------------------------------------------------------------------- one run


def run_ours(case: Case, space: dict[str, Any], n_trials: int, storage: Path) -> int:
    """Run with this package; return the epochs."""
    from raytune_ahu import ExperimentSpec
    from raytune_ahu.adapters import run, to_search_space
    from schedulers import scheduler_for
    from schedulers.ray_scheduler import RayScheduler

    spec = ExperimentSpec(
        name="run",
        trainable="bench_storage:Heavy",
        space=to_search_space(space),
        metric="loss",
        mode="min",
        max_epochs=MAX_EPOCHS,
        num_samples=n_trials,
        search="random",
        scheduler=case.scheduler,
        grace_period=GRACE_PERIOD,
        reduction_factor=REDUCTION_FACTOR,
        keep_best=case.keep,
        storage_path=str(storage),
    )
    with Path(os.devnull).open("w") as nowhere:
        result = run(
            spec,
            trainable=Heavy,
            scheduler=RayScheduler(scheduler_for(spec)),
            console=Console(file=nowhere),
        )
    return result.state.epochs_run


def run_stock(case: Case, space: dict[str, Any], n_trials: int, storage: Path) -> int:
    """Run with Ray Tune alone; return the epochs."""
    analysis = tune.run(
        Heavy,
        name="run",
        storage_path=str(storage),
        config=space,
        metric="loss",
        mode="min",
        num_samples=n_trials,
        scheduler=tune.schedulers.ASHAScheduler(
            max_t=MAX_EPOCHS, grace_period=GRACE_PERIOD, reduction_factor=REDUCTION_FACTOR
        ),
        resources_per_trial={"cpu": 1},
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=case.keep),
        reuse_actors=True,
        verbose=0,
    )
    return sum(trial.last_result["training_iteration"] for trial in analysis.trials)


def child(name: str, megabytes: float, n_trials: int, folder: Path) -> None:
    """Do one run in this process."""
    case = CASES[name]
    ray.init(
        address="local",
        num_cpus=SLOTS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=str(folder / "ray"),
    )
    began = time.perf_counter()
    work = run_stock if case.stock else run_ours
    epochs = work(case, {**SPACE, "megabytes": megabytes}, n_trials, folder / "storage")
    row = {"epochs": epochs, "run_s": time.perf_counter() - began}
    Path(folder, "row.json").write_text(json.dumps(row))


# ---------------------------------------------------------------------- watching it


def sizes(folder: str) -> Iterator[tuple[str, int]]:
    """Yield path and bytes of the files below a folder; what vanishes meanwhile is passed over."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from sizes(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue


def measure(name: str, megabytes: float, n_trials: int) -> dict[str, Any]:
    """Run one case in a process of its own, and watch its storage folder grow and shrink."""
    with tempfile.TemporaryDirectory(prefix="bs", ignore_cleanup_errors=True) as folder:
        storage, answer = str(Path(folder, "storage")), Path(folder, "row.json")
        log = Path(folder, "output.txt")
        peak = samples = 0
        longest_gap = 0.0
        with log.open("w") as output:
            command = [sys.executable, __file__, "--child", name, str(megabytes), str(n_trials)]
            process = subprocess.Popen([*command, folder], stdout=output, stderr=output)
            sampled_at = time.perf_counter()
            while process.poll() is None:
                peak = max(peak, sum(size for _, size in sizes(storage)))
                samples += 1
                time.sleep(SAMPLE_EVERY_S)
                now = time.perf_counter()
                longest_gap, sampled_at = max(longest_gap, now - sampled_at), now
        if not answer.exists():
            raise SystemExit(f"{name}: failed\n{log.read_text()}")
        left = dict(sizes(storage))
        in_checkpoints = {path: size for path, size in left.items() if "/checkpoint_" in path}
        folders = {path[: path.index("/", path.index("/checkpoint_") + 1)]
                   for path in in_checkpoints}  # fmt: skip
        row = json.loads(answer.read_text())
    return {
        "case": name,
        "trials": n_trials,
        **row,
        "peak_mb": max(peak, sum(left.values())) / 1e6,
        "end_mb": sum(left.values()) / 1e6,
        "checkpoints": len(folders),
        "trials_with_checkpoint": len({Path(path).parent for path in folders}),
        "other_mb": (sum(left.values()) - sum(in_checkpoints.values())) / 1e6,
        "files": len(left),
        "samples": samples,
        "longest_gap_ms": 1e3 * longest_gap,
    }


# ---------------------------------------------------------------------- report

TABLE = {
    "case": ("case", "{}"),
    "trials": ("trials", "{}"),
    "epochs": ("epochs", "{}"),
    "MB at the peak": ("peak_mb", "{:.1f}"),
    "MB at the end": ("end_mb", "{:.1f}"),
    "checkpoints left": ("checkpoints", "{}"),
    "of trials": ("trials_with_checkpoint", "{}"),
    "MB beside checkpoints": ("other_mb", "{:.2f}"),
    "files left": ("files", "{}"),
    "run s": ("run_s", "{:.1f}"),
    "samples": ("samples", "{}"),
    "longest gap ms": ("longest_gap_ms", "{:.0f}"),
}


def report(rows: pd.DataFrame, megabytes: float, arguments: list[str]) -> str:
    """Write everything down, with what was measured and how."""
    lines = ["| " + " | ".join(TABLE) + " |", "|---" * len(TABLE) + "|"]
    for row in rows.to_dict("records"):
        cells = (form.format(row[column]) for column, form in TABLE.values())
        lines.append("| " + " | ".join(cells) + " |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "pyarrow"))
    return "\n".join(
        [
            "# What a run takes on disk",
            "",
            f"Command: `{' '.join(['python benchmarks/bench_storage.py', *arguments])}`",
            "",
            f"Python {platform.python_version()}, {versions}; {os.cpu_count()} CPU cores.",
            "",
            f"Trials of up to {MAX_EPOCHS} epochs with a checkpoint of {megabytes:g} MB in each, "
            f"{SLOTS} at a time, random search, ASHA with grace period {GRACE_PERIOD} and "
            f"reduction factor {REDUCTION_FACTOR}; every line is one run in a fresh process with "
            "its own Ray. Counted are the bytes of all files in the run's storage folder (file "
            f"lengths; 1 MB is 1,000,000 bytes), by another process, about every "
            f"{1e3 * SAMPLE_EVERY_S:.0f} ms: a peak shorter than the longest gap may be missed. "
            "The number of epochs depends on the order in which results arrive.",
            "",
            *lines,
            "",
        ]
    )


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=60, metavar="N")
    parser.add_argument("--megabytes", type=float, default=5.0, metavar="MB",
                        help="size of a checkpoint (default: 5)")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="TEXT",
                        help="cases whose name contains one of these")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="smoke test: 6 trials, 0.1 MB")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.trials, arguments.megabytes = 6, 0.1
    for name in ("trials", "megabytes"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name} {getattr(arguments, name)} must be greater than 0")
    return arguments


def main() -> None:
    """Run every case, and write the report."""
    arguments = parse_arguments()
    if arguments.child:
        name, megabytes, n_trials, folder = arguments.child
        child(name, float(megabytes), int(n_trials), Path(folder))
        return
    names = [n for n in CASES if not arguments.only or any(t in n for t in arguments.only)]
    if not names:
        raise SystemExit(f"--only {arguments.only} matches none of {', '.join(map(repr, CASES))}")
    rows = []
    for name in names:
        rows.append(measure(name, arguments.megabytes, arguments.trials))
        print(f"{len(rows)}/{len(names)} {name}: {rows[-1]['peak_mb']:.0f} MB at the peak, "
              f"{rows[-1]['end_mb']:.0f} MB at the end", flush=True)  # fmt: skip
    frame = pd.DataFrame(rows)
    text = report(frame, arguments.megabytes, sys.argv[1:])
    arguments.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.out / "storage.csv", index=False)
    (arguments.out / "storage.md").write_text(text)
    print(text)
    print(f"written to {arguments.out}: storage.md, storage.csv")


if __name__ == "__main__":
    main()
