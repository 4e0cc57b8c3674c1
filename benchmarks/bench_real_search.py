"""Which search finds better networks for the same epochs? Real training, ours beside Ray Tune's.

Every run trains trials, two at a time, until a budget of epochs in total is spent. All methods get
the same trainable, data, search space, full training length, grace period and reduction factor; the
measure is the best validation error seen so far.

    python benchmarks/bench_real_search.py                    # about 40 minutes on two free cores
    python benchmarks/bench_real_search.py --epochs 10 --seeds 1 --images 500 200 --out /tmp/real

Data sets: `mnist`, from MNIST/raw in --data (downloaded where it is missing), and `cifar10`, from
cifar10-images.tar.gz there: JPEG files, cifar10/train/CLASS/0000.jpg and so on, the first of each
class. Written to --out after every run: real_search.csv, real_search.md and real_search.png. A
benchmark that was interrupted goes on: runs that are in the table already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from real_driver import CONCURRENT, GRACE_PERIOD, REDUCTION_FACTOR, TRAINABLES
from real_report import RUN, cut, plot, write_report
from tables import versions

ROOT = Path(__file__).resolve().parent.parent
DRIVER = ROOT / "benchmarks" / "real_driver.py"
ARCHIVE = "cifar10-images.tar.gz"
N_CLASSES = 10


@dataclass(frozen=True)
class Method:
    """One way to search."""

    name: str
    """Its name in the tables."""
    search: str | None
    """Our searcher; None: stock Ray Tune."""
    scheduler: str = "asha"
    search_options: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_SEARCH = Method(
    "BOHB (gp) + ASHA promotion",
    search="bohb",
    scheduler="asha-promotion",
    search_options={"model": "gp"},
)
"""What the tuning scripts do on these search spaces unless they are told otherwise."""
METHODS = {
    "default": DEFAULT_SEARCH,
    "random": Method("random + ASHA", search="random"),
    "stock": Method("Ray: TuneBOHB + ASHAScheduler", search=None),
}
"""Methods, as --methods names them."""


@dataclass(frozen=True)
class Problem:
    """A data set, and how much of it is used by default."""

    space: str
    """The search space."""
    train_images: int
    validation_images: int
    image_size: int | None = None
    """Height and width that images are scaled to; None: the data set's own."""


PROBLEMS = {
    "mnist": Problem("trainables/spaces/mnist.yaml", 2000, 1000),
    "cifar10": Problem("trainables/spaces/resnet_small.yaml", 1000, 1000, image_size=16),
}
"""Problems by data set. 80 epochs in total take 20 to 45 seconds a run on two quiet cores."""


@dataclass(frozen=True)
class Job:
    """One run."""

    dataset: str
    method: Method
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What names it in the results."""
        return self.dataset, self.method.name, self.seed


# ---------------------------------------------------------------------- data


def unpack(archive: Path, folder: Path, per_class: int) -> Path:
    """Unpack the first training images of each class, and one test image, which is never read."""
    if not archive.is_file():
        raise SystemExit(f"{archive} is missing; choose --data, or --datasets mnist")
    print(f"unpacking {per_class} images of each class from {archive.name}", flush=True)
    wanted = {"train": per_class, "test": 1}
    found = dict.fromkeys(wanted, 0)
    with tarfile.open(archive) as images:
        for member in images:
            path = Path(member.name)
            if not member.isfile() or len(path.parts) != 4:
                continue
            if int(path.stem) < wanted[path.parts[1]]:
                images.extract(member, folder, filter="data")
                found[path.parts[1]] += 1
    if found != {part: n * N_CLASSES for part, n in wanted.items()}:
        raise SystemExit(f"{archive} has not {per_class} images of each class: {found}")
    return folder / "cifar10"


def settings_of(job: Job, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fixed values for the trainable: the data, and how they are split, by the run's seed."""
    train, validation = sizes_of(job.dataset, arguments)
    trainable = TRAINABLES[job.dataset]
    dataset, data_dir, total = "mnist", arguments.data, 60_000
    if job.dataset == "cifar10":
        dataset, data_dir, total = f"folder:{folder / 'cifar10'}", None, train + validation
    settings = trainable.default_settings(
        dataset,
        data_dir,
        seed=job.seed,
        max_epochs=arguments.max_epochs,
        train_images=train,
        validation_fraction=validation / total,
        image_size=PROBLEMS[job.dataset].image_size,
    )
    return trainable.prepare(settings)


def sizes_of(dataset: str, arguments: argparse.Namespace) -> tuple[int, int]:
    """Training and validation images."""
    if arguments.images is not None:
        return int(arguments.images[0]), int(arguments.images[1])
    return PROBLEMS[dataset].train_images, PROBLEMS[dataset].validation_images


# ---------------------------------------------------------------------- running


def run_apart(job: Job, arguments: argparse.Namespace, data: Path) -> pd.DataFrame:
    """Do one run in a process of its own, with its own Ray; return its reports."""
    with tempfile.TemporaryDirectory(prefix="br", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "job.json")
        options = {
            "dataset": job.dataset,
            "seed": job.seed,
            "search": job.method.search,
            "search_options": dict(job.method.search_options),
            "scheduler": job.method.scheduler,
            "space": str(ROOT / PROBLEMS[job.dataset].space),
            "settings": settings_of(job, arguments, data),
            "max_epochs": arguments.max_epochs,
            "budget": arguments.epochs,
            "storage": str(Path(folder, "storage")),
            "temp": str(Path(folder, "ray")),
        }
        path.write_text(json.dumps(options))
        with path.with_suffix(".errors").open("wb") as errors:
            command = [sys.executable, str(DRIVER), str(path)]
            done = subprocess.run(command, stderr=errors, check=False)
        answer = path.with_suffix(".reports")
        if not answer.exists():
            text = path.with_suffix(".errors").read_text(errors="replace")
            raise SystemExit(f"{job.key}: failed with exit code {done.returncode}\n{text[-5000:]}")
        reports = cut(json.loads(answer.read_text()), arguments.epochs)
    frame = pd.DataFrame(reports)
    for name, value in zip(reversed(RUN), reversed(job.key), strict=True):
        frame.insert(0, name, value)
    train, validation = sizes_of(job.dataset, arguments)
    return frame.assign(
        max_epochs=arguments.max_epochs, train_images=train, validation_images=validation
    )


def check_same(done: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """Refuse to add to results of other sizes."""
    for dataset in arguments.datasets:
        mine = done[done["dataset"] == dataset]
        if mine.empty:
            continue
        train, validation = sizes_of(dataset, arguments)
        wanted = {
            "spent": arguments.epochs,
            "max_epochs": arguments.max_epochs,
            "train_images": train,
            "validation_images": validation,
        }
        for name, value in wanted.items():
            if mine[name].max() != value:
                raise SystemExit(
                    f"{arguments.out / 'real_search.csv'} has runs on {dataset} with "
                    f"{name}={mine[name].max()}, not {value}; choose another --out, or delete it"
                )


def write(reports: pd.DataFrame, folder: Path) -> str:
    """Write raw results, table and plot."""
    table = folder / "real_search.csv"
    reports.to_csv(table.with_suffix(".tmp"), index=False)
    table.with_suffix(".tmp").replace(table)  # whole runs only, whenever it is killed
    report = write_report(reports, describe(reports), DEFAULT_SEARCH.name)
    (folder / "real_search.md").write_text(report)
    plot(reports, folder / "real_search.png")
    return report


def describe(reports: pd.DataFrame) -> list[str]:
    """Say what was run, in paragraphs."""
    parts = []
    for dataset, mine in reports.groupby("dataset", sort=False):
        problem = PROBLEMS[str(dataset)]
        scaled = f" scaled to {problem.image_size} pixels" if problem.image_size else ""
        parts.append(
            f"{dataset}: {mine['train_images'].iloc[0]:,} training and "
            f"{mine['validation_images'].iloc[0]:,} validation images{scaled}, `{problem.space}`, "
            f"{mine['spent'].max()} epochs in total, up to {mine['max_epochs'].iloc[0]} of a trial"
        )
    return [
        "Command: `python benchmarks/bench_real_search.py`",
        f"{versions()}; {CONCURRENT} trials at a time, one thread each.",
        f"{'; '.join(parts)}. Grace period {GRACE_PERIOD}, reduction factor {REDUCTION_FACTOR}. "
        "A seed fixes split, initialisation, order and search, and is the same for all methods; it "
        "does not fix in which order the results of two workers arrive. Error: 1 - validation "
        "accuracy, the best of all reports so far; mean (range) over seeds. *Model-based*: share "
        "of the trials that a model proposed. *In full*: trials that reached the last epoch. *s "
        "per run*: from the call to the last epoch of the budget, with the start of the workers. "
        "*s per epoch*: training and validation in the worker, by the wall clock.",
        "Ray knows no conditions between parameters: its space has all of them always, and what is "
        "inactive is left out before the trainable sees it; TuneBOHB also drops the step of "
        "quantised parameters. Epochs of a trial that diverged are counted, though they are not "
        "trained. Both sides write a checkpoint after every epoch.",
    ]


def default_data() -> Path:
    """Where tests look for data, too."""
    return Path(os.environ.get("RAYTUNE_AHU_SHARED_DATA", ROOT.parent / "shared" / "data"))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=default_data(), metavar="DIR",
                        help=f"folder with MNIST/raw and {ARCHIVE} (default: "
                        "$RAYTUNE_AHU_SHARED_DATA, else ../shared/data here)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--datasets", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=80, metavar="N",
                        help="epochs of a run, all trials together (default: 80)")  # fmt: skip
    parser.add_argument("--max-epochs", type=int, default=9, metavar="N",
                        help="epochs of a full training (default: 9)")  # fmt: skip
    parser.add_argument("--images", type=int, nargs=2, metavar=("TRAIN", "VALIDATION"),
                        help="images of every data set (default: its own numbers)")  # fmt: skip
    arguments = parser.parse_args(argv)
    for name in ("seeds", "epochs", "max_epochs"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.images and any(n < N_CLASSES or n % N_CLASSES for n in arguments.images):
        parser.error(f"--images must be multiples of {N_CLASSES}, as there are so many classes")
    if "stock" in arguments.methods and find_spec("hpbandster") is None:
        parser.error("stock needs hpbandster (pip install '.[hpbandster]'); leave it out otherwise")
    return arguments


def main() -> None:
    """Do every run that is missing, and write the report after each."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "real_search.csv"
    reports = pd.read_csv(table) if table.exists() else pd.DataFrame(columns=RUN)
    check_same(reports, arguments)
    finished = set(reports[RUN].itertuples(index=False, name=None))
    jobs = [
        Job(dataset, METHODS[method], seed)
        for seed in range(arguments.seeds)  # a benchmark cut short has whole seeds
        for dataset in arguments.datasets
        for method in arguments.methods
    ]
    missing = [job for job in jobs if job.key not in finished]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done already", flush=True)
    with tempfile.TemporaryDirectory(prefix="brdata") as folder:
        data = Path(folder)
        if any(job.dataset == "cifar10" for job in missing):
            per_class = sum(sizes_of("cifar10", arguments)) // N_CLASSES
            unpack(arguments.data / ARCHIVE, data, per_class)
        for number, job in enumerate(missing, start=1):
            print(f"{number}/{len(missing)} {job.dataset}, {job.method.name}, seed {job.seed}",
                  flush=True)  # fmt: skip
            began = time.perf_counter()
            run = run_apart(job, arguments, data)
            reports = run if reports.empty else pd.concat([reports, run], ignore_index=True)
            write(reports, arguments.out)
            print(f"    best error {run['error'].min():.2%} after {arguments.epochs} epochs, "
                  f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
    print(write(reports, arguments.out))
    print(f"written to {arguments.out}: real_search.md, real_search.png, real_search.csv")


if __name__ == "__main__":
    main()
