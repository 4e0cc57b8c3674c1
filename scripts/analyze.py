"""Study runs: what was found, what it cost, what mattered; as text, frames and a page of pictures.

python scripts/analyze.py runs/NAME                     summary, frames, report.html
python scripts/analyze.py runs/A runs/B                 and the two side by side
python scripts/analyze.py runs/NAME --watch             again and again while it is running
python scripts/analyze.py runs/NAME --suggest-space next.yaml
python scripts/analyze.py ~/ray_results/OLD --metric accuracy --mode max     a run of stock Ray Tune
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from analysis_tables import print_changes, print_comparison, print_run
from rich.console import Console
from terminal import complain, interpreter, make_console, print_command

from raytune_ahu.analysis.compare import Comparison, compare
from raytune_ahu.analysis.gallery import pictures, try_importance
from raytune_ahu.analysis.images import write_images
from raytune_ahu.analysis.importance import Importance
from raytune_ahu.analysis.narrowing import suggest_space
from raytune_ahu.analysis.report import write_report
from raytune_ahu.analysis.tensorboard import write_tensorboard
from raytune_ahu.errors import AhuError, SpecError, StorageError
from raytune_ahu.records import is_driven
from raytune_ahu.results import Results, load
from raytune_ahu.results.results import names_of

CARD = "README.md"
"""The model card of an exported winner."""
_NOT_REPEATED = {"--name", "--space", "--warm-start", "--resume", "--retrain-best", "--repeat-best"}
_SCRIPTS = {
    "MnistTrainable": "tune_mnist.py",
    "CifarResNetTrainable": "tune_resnet.py",
    "RecommenderTrainable": "tune_recommender.py",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Analyse runs and return the exit code: 0, or 2 for what one can mend."""
    args = make_parser().parse_args(argv)
    console = make_console()
    try:
        _check(args)
        runs = _load(args)
        if args.watch is not None:
            runs = _watch(args, runs, console)
        _analyse(args, runs, console)
    except AhuError as error:
        complain(f"error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _watch(args: argparse.Namespace, runs: list[Results], console: Console) -> list[Results]:
    """Write the page again and again while a run is going on; return the runs as they are then."""
    while any(_goes_on(run) for run in runs):
        _write(args, runs, [try_importance(run, intervals=False) for run in runs], console)
        told = "; ".join(map(_in_short, runs))
        console.print(
            f"{time.strftime('%H:%M:%S')} {told}", markup=False, highlight=False, soft_wrap=True
        )
        time.sleep(args.watch)
        runs = _load(args)
    return runs


def _goes_on(run: Results) -> bool:
    return run.spec is not None and run.ended is None and is_driven(run.folder)


def _in_short(run: Results) -> str:
    counts = run.trials["status"].value_counts(sort=False)
    states = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    values = run.trials["best_value"].dropna()
    best = "none yet" if values.empty else f"{(values * run.sign).min() * run.sign:.6g}"
    return (
        f"{run.name}: best {run.metric} {best}, {len(run.reports)} epochs, {states or 'no trials'}"
    )


def make_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders, names or URIs of runs; running ones too"
    )
    parser.add_argument(
        "--storage-path",
        default="runs",
        metavar="DIR_OR_URI",
        help="where runs lie that are given by name (default ./runs)",
    )
    parser.add_argument(
        "--record-path",
        default="runs",
        metavar="DIR",
        help="where records of runs in an object store lie, or are copied to (default ./runs)",
    )
    parser.add_argument("--metric", help="for runs of stock Ray Tune: what was tuned")
    parser.add_argument(
        "--mode", choices=("min", "max"), help="for runs of stock Ray Tune: which way"
    )
    parser.add_argument(
        "--at",
        choices=("any", "max_resource", "last"),
        default="any",
        help="rank trials by their best value at any epoch (default), by their value at the "
        "highest epoch, or by their newest value",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where to write (default RUN/analysis; for several runs ./comparison)",
    )
    parser.add_argument(
        "--frames",
        choices=("parquet", "csv", "none"),
        default="parquet",
        help="write the frames in this format (default parquet)",
    )
    parser.add_argument(
        "--images",
        choices=("png", "svg", "pdf"),
        help="write each picture as a file as well (needs the extra `images`, and Chrome)",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard files of all trials as well"
    )
    parser.add_argument(
        "--suggest-space",
        metavar="FILE",
        help="write a better search space for the next run, as YAML, and say why",
    )
    parser.add_argument(
        "--over",
        choices=("time_s", "epochs", "trials"),
        default="time_s",
        help="compare several runs over wall time (default), epochs, or trials",
    )
    parser.add_argument(
        "--group",
        action="append",
        metavar="LABEL",
        help="a label for each run, in their order; runs with equal labels are summarised together",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=int,
        const=30,
        metavar="SECONDS",
        help="write the page again every so many seconds (default 30) until the runs have ended",
    )
    return parser


def _check(args: argparse.Namespace) -> None:
    if args.watch is not None and not args.watch >= 1:
        raise SpecError(f"--watch {args.watch} must be at least 1 second")
    if args.suggest_space is not None and len(args.runs) > 1:
        raise SpecError("--suggest-space takes one run; give one")
    if args.group is not None and len(args.runs) < 2:
        raise SpecError("--group is for several runs; give them, or leave it out")


def _load(args: argparse.Namespace) -> list[Results]:
    return [
        load(
            run,
            storage_path=args.storage_path,
            record_path=args.record_path,
            metric=args.metric,
            mode=args.mode,
        )
        for run in args.runs
    ]


def _analyse(args: argparse.Namespace, runs: list[Results], console: Console) -> None:
    comparison = _compare(args, runs)  # refuses before anything is printed
    _make_folder(_output(args, runs))
    suggested = None
    if args.suggest_space is not None:
        suggested = suggest_space(runs[0])
        suggested.space.to_file(args.suggest_space)
    importances = [try_importance(run) for run in runs]
    for run, found in zip(runs, importances, strict=True):
        print_run(run, found, console, at=args.at)
    if comparison is not None:
        print_comparison(comparison, console)
    if suggested is not None:
        print_changes(suggested, console)
    console.print()
    for line in _write(args, runs, importances, console):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if len(runs) == 1:
        _print_next(args, runs[0], console)


def _compare(args: argparse.Namespace, runs: list[Results]) -> Comparison | None:
    return compare(runs, groups=args.group, over=args.over) if len(runs) > 1 else None


def _write(
    args: argparse.Namespace,
    runs: list[Results],
    importances: list[Importance | AhuError],
    console: Console,
) -> list[str]:
    """Write everything that is asked for; return where it is, in words."""
    folder = _output(args, runs)
    watched = args.watch if any(_goes_on(run) for run in runs) else None
    with console.status("writing") if console.is_terminal else nullcontext():
        report = write_report(
            runs[0],
            folder / "report.html",
            others=runs[1:],
            groups=args.group,
            over=args.over,
            found=importances[0],
            intervals=watched is None,
            refresh_s=watched,
        )
        told = [f"Report: {report}"]
        for run, found, place in zip(runs, importances, _places(folder, runs), strict=True):
            if args.frames == "parquet":
                told.append(f"Frames: {run.to_parquet(place / 'frames')}")
            elif args.frames == "csv":
                told.append(f"Frames: {run.to_csv(place / 'frames')}")
            if args.images:
                write_images(pictures(run, found), place / "images", [args.images])
                told.append(f"Pictures: {place / 'images'}")
            if args.tensorboard:
                write_tensorboard(run, place / "tensorboard")
                told.append(f"TensorBoard: tensorboard --logdir {place / 'tensorboard'}")
    if args.suggest_space is not None:
        told.append(f"Search space: {args.suggest_space}")
    return told


def _output(args: argparse.Namespace, runs: list[Results]) -> Path:
    if args.output is not None:
        return Path(args.output).expanduser()
    return runs[0].folder / "analysis" if len(runs) == 1 else Path("comparison")


def _make_folder(folder: Path) -> None:
    """Find out at the beginning whether the output can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror or error}); choose another --output"
        ) from error


def _places(folder: Path, runs: list[Results]) -> list[Path]:
    """Where each run's own files go."""
    return [folder] if len(runs) == 1 else [folder / name for name in names_of(runs)]


def _print_next(args: argparse.Namespace, run: Results, console: Console) -> None:
    spec = run.spec
    script = None if spec is None else _SCRIPTS.get(spec.trainable.partition(":")[2])
    if script is None or run.trials["best_value"].isna().all():
        return
    path = shlex.quote(str(Path(sys.argv[0]).with_name(script)))
    folder = shlex.quote(str(run.folder))
    if args.suggest_space is not None:
        console.print("Next: search there, beginning with what this run has learnt:")
        space = shlex.quote(str(Path(args.suggest_space).absolute()))
        options = shlex.join(_options_of(run))
        print_command(
            f"{interpreter()} {path} {options} --space {space} --warm-start {folder}", console
        )
        return
    exported = [run.folder / name / CARD for name in ("export", "recommender")]
    done = next((card for card in exported if card.exists()), None)
    if done is not None:
        console.print(f"The winner was retrained and exported: {done.parent}", soft_wrap=True)
        return
    again = " --read-test-again" if run.test_reads else ""
    once = "test it once more (the test split was read already)" if again else "test it once"
    console.print(f"Next: train the winner on all the data, and {once}:")
    print_command(f"{interpreter()} {path} --retrain-best {folder}{again}", console)


def _options_of(run: Results) -> list[str]:
    """The options that a run was started with, but for its name and where it began."""
    words = [str(word) for word in run.provenance.get("command", [])[1:]]
    kept: list[str] = []
    skips = False
    for word in words:
        if word.startswith("--"):
            skips = word.partition("=")[0] in _NOT_REPEATED
        if not skips:
            kept.append(word)
    return kept


if __name__ == "__main__":
    sys.exit(main())
