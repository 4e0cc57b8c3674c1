"""What the tuning scripts share: options, checks before any trial starts, wiring, exit codes.

A script calls `main("resnet", CifarResNetTrainable, __doc__)`. Exit codes: 0 the run ended, 1 no
trial gave a finite metric, 2 something the user can mend (one line says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import yaml
from rich.console import Console

from raytune_ahu import ExperimentSpec, SearchSpace
from raytune_ahu.adapters import RunResult, Slots, connect, has_gpus, print_summary, run
from raytune_ahu.adapters.summary import plural
from raytune_ahu.errors import AhuError, RecordError, RunNotFoundError, SpaceError, SpecError
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_json
from raytune_ahu.run_folder import check_new_run, check_old_run
from raytune_ahu.search import SEARCHERS, searcher_for
from schedulers import SCHEDULERS, scheduler_for
from schedulers.ray_scheduler import RayScheduler
from trainables import ImageTrainable, default_space_path

DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "data_dir": "data",
    "search": "bohb",
    "scheduler": "asha",
    "num_samples": 40,
    "grace_period": 1,
    "reduction_factor": 3,
    "brackets": 1,
    "cpus_per_trial": 1.0,
    "storage_path": "runs",
    "seed": 0,
    "max_failures": 0,
}
SMOKE_TEST: dict[str, Any] = {"dataset": "digits", "num_samples": 6, "max_epochs": 3}
CHANGEABLE_ON_RESUME = {
    "num_samples",
    "time_budget",
    "cpus_per_trial",
    "gpus_per_trial",
    "resource",
    "accelerator_type",
    "max_concurrent",
}
FREE_ON_RESUME = {"address", "resume", "verbose", "storage_path"}
"""Options that say where and how to run, and where to look for the run."""


def main(
    key: str, trainable: type[ImageTrainable], doc: str, argv: Sequence[str] | None = None
) -> int:
    """Run a tuning script and return its exit code.

    Args:
        key: Short name of what is tuned, for the names of runs.
        trainable: The class.
        doc: The script's docstring, shown by --help.
        argv: Command-line arguments; None: those of the process.
    """
    parser = make_parser(trainable, doc)
    args = parser.parse_args(argv)
    console = make_console()
    try:
        if args.resume is not None:
            result = _resume(args, trainable, console)
        else:
            result = _start(args, key, trainable, console)
        print_summary(result, console)
        _print_next(result, console)
    except AhuError as error:
        _complain(f"error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        _complain("interrupted at once; what was recorded is kept, --resume goes on")
        return 130
    if result.ended == "interrupted":
        return 130
    return 0 if result.state.incumbent is not None else 1


def _complain(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read it may be gone
        print(line, file=sys.stderr)


def make_parser(trainable: type[ImageTrainable], doc: str) -> argparse.ArgumentParser:
    """Make the parser of a tuning script; what is not given is None."""
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to tune")
    what.add_argument(
        "--dataset",
        help=f"{', '.join(trainable.datasets)} (default digits: embedded, no download)",
    )
    what.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the data files; missing ones are downloaded there (default ./data)",
    )
    what.add_argument(
        "--train-images",
        type=int,
        metavar="N",
        help="train on N images only, evenly from all classes (default all)",
    )
    what.add_argument(
        "--space",
        metavar="FILE",
        help="search space as YAML or JSON; copy and edit one of trainables/spaces "
        "(default the one of the data set)",
    )

    how = parser.add_argument_group("how to search")
    how.add_argument("--search", choices=list(SEARCHERS), help="(default bohb)")
    how.add_argument(
        "--search-option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the searcher, may be repeated; bohb: random_fraction, top_fraction, "
        "n_candidates, engine=hpbandster, ...; grid: points_per_parameter, shuffle",
    )
    how.add_argument("--scheduler", choices=list(SCHEDULERS), help="(default asha)")
    how.add_argument(
        "--grace-period",
        type=int,
        metavar="EPOCHS",
        help="first rung: no trial is judged earlier (default 1)",
    )
    how.add_argument(
        "--reduction-factor",
        type=int,
        metavar="ETA",
        help="about one in ETA trials passes a rung (default 3)",
    )
    how.add_argument(
        "--brackets",
        type=int,
        metavar="N",
        help="ladders of rungs, each starting higher (default 1)",
    )
    how.add_argument("--seed", type=int, help="root seed of everything random (default 0)")

    budget = parser.add_argument_group("for how long")
    budget.add_argument(
        "--num-samples",
        type=int,
        metavar="N",
        help="trials at most (default 40; no limit if only --time-budget is given)",
    )
    budget.add_argument(
        "--time-budget",
        type=float,
        metavar="SECONDS",
        help="wall time at most, of all sessions of the run together (default no limit)",
    )
    budget.add_argument(
        "--max-epochs",
        type=int,
        metavar="EPOCHS",
        help=f"epochs of a full training (default {trainable.default_max_epochs})",
    )
    budget.add_argument(
        "--smoke-test",
        action="store_const",
        const=True,
        help="6 trials of at most 3 epochs on the embedded digits: under a minute",
    )

    where = parser.add_argument_group("where to run")
    where.add_argument(
        "--address",
        help="Ray cluster to join: auto, or host:port (default: a local Ray on this machine)",
    )
    where.add_argument("--cpus-per-trial", type=float, metavar="X", help="(default 1)")
    where.add_argument(
        "--gpus-per-trial",
        type=float,
        metavar="X",
        help="a fraction lets trials share a GPU (default 1 where there are GPUs, else 0)",
    )
    where.add_argument(
        "--resource",
        action="append",
        metavar="NAME=AMOUNT",
        help="what else of a node's resources a trial takes, by Ray's name, such as TPU=4 or "
        "memory=8e9; may be repeated (0 on a resume: no longer)",
    )
    where.add_argument(
        "--accelerator-type",
        metavar="TYPE",
        help="accelerator that a trial needs, by Ray's name, such as A100 (default any)",
    )
    where.add_argument(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="trials at the same time at most (default as many as fit)",
    )
    where.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="times a trial that raised is tried again from its checkpoint (default 0)",
    )
    where.add_argument(
        "--storage-path",
        metavar="DIR",
        help="folder for runs; on a cluster one that all nodes see (default ./runs)",
    )
    where.add_argument(
        "--name", help="name of the run: letters, digits and ._- (default: from data set and time)"
    )
    where.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="NAME_OR_PATH",
        help="go on with a run where it stopped (without a name: the newest one); --num-samples, "
        "--time-budget and the resources may be changed",
    )
    where.add_argument(
        "--verbose",
        action="store_true",
        help="instead of the live view: Ray's own tables, what workers print, and Ray's loggers "
        "(result.json, progress.csv and TensorBoard files per trial)",
    )
    parser.set_defaults(resume=None)
    parser.epilog = (
        "Results are in STORAGE/NAME: spec.json, log.jsonl (everything that happened), and per "
        "trial a folder with its newest checkpoint. Ctrl-C ends a run in order; --resume goes on."
    )
    return parser


# --- a new run


def _start(
    args: argparse.Namespace, key: str, trainable: type[ImageTrainable], console: Console
) -> RunResult:
    values = {**DEFAULTS, "max_epochs": trainable.default_max_epochs}
    if args.smoke_test:
        values.update(SMOKE_TEST)
    if args.time_budget is not None:
        values["num_samples"] = None
    values.update({name: value for name, value in vars(args).items() if value is not None})
    dataset = values["dataset"]
    path = Path(values["space"]) if "space" in values else default_space_path(trainable, dataset)
    kind = dataset.partition(":")[0]
    prefix = "smoke" if args.smoke_test else key
    spec = ExperimentSpec(
        name=values.get("name", f"{prefix}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}"),
        trainable=f"{trainable.__module__}:{trainable.__name__}",
        space=SearchSpace.from_file(path),
        metric=trainable.metric,
        mode=trainable.mode,
        max_epochs=values["max_epochs"],
        num_samples=values["num_samples"],
        time_budget_s=values.get("time_budget"),
        search=values["search"],
        search_options=_options(values.get("search_option", [])),
        scheduler=values["scheduler"],
        grace_period=values["grace_period"],
        reduction_factor=values["reduction_factor"],
        brackets=values["brackets"],
        cpus_per_trial=values["cpus_per_trial"],
        gpus_per_trial=values.get("gpus_per_trial", 0.0),
        resources_per_trial=_amounts(values.get("resource", []), {}),
        accelerator_type=_accelerator(values.get("accelerator_type")),
        max_concurrent=values.get("max_concurrent"),
        storage_path=str(Path(values["storage_path"]).expanduser().resolve()),
        seed=values["seed"],
        max_failures=values["max_failures"],
        settings=trainable.default_settings(
            dataset,
            values["data_dir"],
            seed=values["seed"],
            max_epochs=values["max_epochs"],
            train_images=values.get("train_images"),
        ),
    )
    check_new_run(spec)
    try:
        _check_space(spec, trainable)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error
    scheduler_for(spec)
    trainable.prepare(spec.settings)
    connect(args.address, verbose=args.verbose)
    if args.gpus_per_trial is None and has_gpus():
        spec = spec.replace(gpus_per_trial=1.0)
    Slots(spec.resources, spec.max_concurrent).check()
    _announce(spec, console)
    return run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        verbose=args.verbose,
        console=console,
    )


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise SpecError(f"--search-option {pair!r} must be KEY=VALUE, like random_fraction=0.2")
        if name in options:
            raise SpecError(f"--search-option {name} is given twice; remove one")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SpecError(f"--search-option {pair!r} has a value that is no YAML") from error
    return options


def _amounts(pairs: Sequence[str], before: Mapping[str, float]) -> dict[str, float]:
    """Read the values of --resource, which change those of an earlier session."""
    amounts: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.rpartition("=")
        if name in amounts:
            raise SpecError(f"--resource {name} is given twice; remove one")
        try:
            amounts[name] = float(text)
        except ValueError:
            name = ""
        if not name:
            raise SpecError(f"--resource {pair!r} must be NAME=AMOUNT, like TPU=4")
    return {name: amount for name, amount in {**before, **amounts}.items() if amount != 0}


def _accelerator(name: str | None) -> str | None:
    return None if name == "any" else name


def _check_space(spec: ExperimentSpec, trainable: type[ImageTrainable]) -> None:
    """Find what the searcher or the trainable would refuse before anything is started."""
    searcher = searcher_for(spec, rung_levels=[spec.max_epochs])
    for index in range(20):
        suggestion = searcher.suggest(f"check_{index}")
        if suggestion is not None:
            trainable.check_configuration(suggestion.configuration)


def _announce(spec: ExperimentSpec, console: Console) -> None:
    trials = "trials" if spec.num_samples is None else plural(spec.num_samples, "trial")
    budget = "" if spec.time_budget_s is None else f" for {spec.time_budget_s:g} s"
    console.print(
        f"Tuning {spec.trainable.partition(':')[2]} on {spec.settings['dataset']}: {trials} of at "
        f"most {plural(spec.max_epochs, 'epoch')}{budget}, {spec.search} + {spec.scheduler}, "
        f"{_size(spec)} each",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Record: {spec.folder}", highlight=False, soft_wrap=True)


def _size(spec: ExperimentSpec) -> str:
    parts = [f"{spec.cpus_per_trial:g} CPU", f"{spec.gpus_per_trial:g} GPU"]
    parts += [f"{amount:g} {kind}" for kind, amount in spec.resources_per_trial.items()]
    if spec.accelerator_type is not None:
        parts.append(f"an accelerator {spec.accelerator_type}")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


# --- going on with a run


def _resume(
    args: argparse.Namespace, trainable: type[ImageTrainable], console: Console
) -> RunResult:
    mine = f"{trainable.__module__}:{trainable.__name__}"
    storage = DEFAULTS["storage_path"] if args.storage_path is None else args.storage_path
    folder = find_run(args.resume, Path(storage), mine)
    spec = _read_spec(folder).replace(name=folder.name, storage_path=str(folder.parent))
    if spec.trainable != mine:
        raise SpecError(
            f"run {spec.name!r} tunes {spec.trainable}, this script {mine}; use its own"
        )
    refused = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if value is not None and name not in CHANGEABLE_ON_RESUME | FREE_ON_RESUME
    ]
    if refused:
        raise SpecError(
            f"{', '.join(refused)} cannot be changed when a run is resumed; start a new run instead"
        )
    given = {name: getattr(args, name) for name in CHANGEABLE_ON_RESUME}
    changes = {name: value for name, value in given.items() if value is not None}
    if "resource" in changes:
        changes["resources_per_trial"] = _amounts(changes.pop("resource"), spec.resources_per_trial)
    if "accelerator_type" in changes:
        changes["accelerator_type"] = _accelerator(args.accelerator_type)
    if "time_budget" in changes:
        changes["time_budget_s"] = changes.pop("time_budget")
    spec = spec.replace(**changes)
    check_old_run(spec)
    trainable.prepare(spec.settings)
    connect(args.address, verbose=args.verbose)
    Slots(spec.resources, spec.max_concurrent).check()
    _announce(spec, console)
    return run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=True,
        verbose=args.verbose,
        console=console,
    )


def _trainable_of(folder: Path) -> str | None:
    try:
        return str(read_json(folder / SPEC_FILE)["spec"]["trainable"])
    except (AhuError, KeyError, TypeError):
        return None  # not a run that could be resumed


def _read_spec(folder: Path) -> ExperimentSpec:
    path = folder / SPEC_FILE
    recorded = read_json(path)
    try:
        return ExperimentSpec.from_dict(recorded["spec"])
    except (AhuError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is damaged ({error}); restore it from a copy") from error


def find_run(name_or_path: str, storage_path: Path, trainable: str) -> Path:
    """Find the folder of a recorded run.

    Args:
        name_or_path: A run's name under `storage_path`, a path, or empty for the newest run of
            this trainable.
        storage_path: Folder of the runs.
        trainable: What the calling script tunes, as `module:Class`.

    Raises:
        RunNotFoundError: If there is none; the message lists those that there are.
    """
    storage = storage_path.expanduser().resolve()
    runs = sorted(
        (path.parent for path in storage.glob(f"*/{SPEC_FILE}")),
        key=lambda folder: (
            (folder / LOG_FILE).stat().st_mtime if (folder / LOG_FILE).exists() else 0.0
        ),
    )
    if not name_or_path:
        for folder in reversed(runs):
            if _trainable_of(folder) == trainable:
                return folder
        raise RunNotFoundError(
            f"no run of {trainable} is recorded in {storage}; give its name, or --storage-path"
        )
    for folder in (storage / name_or_path, Path(name_or_path).expanduser().resolve()):
        if (folder / SPEC_FILE).exists():
            return folder
        if (folder / LOG_FILE).exists():
            raise RecordError(f"{folder} has a log but no {SPEC_FILE}; restore it from a copy")
    known = ", ".join(folder.name for folder in runs[-5:]) or "none"
    raise RunNotFoundError(
        f"run {name_or_path!r} is not recorded in {storage}; newest runs: {known}"
    )


def _print_next(result: RunResult, console: Console) -> None:
    spec = result.spec
    command = f"{_interpreter()} {shlex.quote(sys.argv[0])} --resume "
    command += shlex.quote(str(result.folder))
    if result.ended == "finished" and spec.num_samples is not None:
        command += f" --num-samples {spec.num_samples * 2}"
        console.print("Next: twice as many trials, building on these:")
    elif result.ended == "time budget":
        command += f" --time-budget {2 * (spec.time_budget_s or 0):g}"
        console.print("Next: twice the time budget, what is spent included:")
    else:
        console.print("Next: go on where it stopped:")
    console.print(f"  {command}", style="bold", highlight=False, soft_wrap=True, markup=False)


def _interpreter() -> str:
    """The command that started this process, as one would type it here."""
    running = Path(sys.executable)
    if shutil.which("python") == str(running):
        return "python"
    inside = running.is_relative_to(Path.cwd())
    return shlex.quote(str(running.relative_to(Path.cwd()) if inside else running))


class _Unbreakable(io.TextIOBase):
    """Standard output that goes on quietly when its reader has gone (`... | head`)."""

    def write(self, text: str) -> int:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return len(text)


def make_console() -> Console:
    """Make the console that a run talks to."""
    if sys.stdout.isatty():
        return Console()
    return Console(file=cast("IO[str]", _Unbreakable()))
