"""What the tuning scripts share: options, checks before any trial starts, wiring, exit codes.

A script calls `main(Script(...))`. Exit codes: 0 the run ended, 1 no trial gave a finite metric, 2
something the user can mend (one line says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from exports import export_image_classifier
from loggers import loggers_of
from numpy.typing import NDArray
from options import (
    CHANGEABLE_ON_RESUME,
    DEFAULTS,
    FAULT_OPTIONS,
    FIELDS,
    FREE_ON_RESUME,
    add_image_options,
    make_parser,
    read_accelerator,
    read_amounts,
    read_options,
)
from rich.console import Console
from terminal import complain, interpreter, make_console, print_command
from winner import Export, Wishes, follow, read_wishes

from raytune_ahu import ExperimentSpec, SearchSpace
from raytune_ahu.adapters import (
    RunResult,
    Slots,
    connect,
    disconnect,
    has_gpus,
    is_connected,
    print_summary,
    run,
)
from raytune_ahu.adapters.summary import plural
from raytune_ahu.errors import AhuError, SpaceError, SpecError
from raytune_ahu.finding import find_run
from raytune_ahu.results import Results, load, prior_trials
from raytune_ahu.run_folder import check_new_run, check_old_run
from raytune_ahu.search import PriorTrial, searcher_for
from raytune_ahu.search.auto import AUTO
from raytune_ahu.search.gp import GpSettings
from raytune_ahu.search.grid import POINTS_PER_PARAMETER
from raytune_ahu.seeding import generator
from raytune_ahu.space.discrete import Listed
from raytune_ahu.storage import CheckpointStorage, is_uri, run_uri
from raytune_ahu.types import Configuration, TrialStatus
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from trainables import ReadyTrainable, default_space_path

_FREE_BESIDE_WISHES = frozenset(
    (FREE_ON_RESUME | CHANGEABLE_ON_RESUME)
    - {"resume", "retry_failed", "num_samples", "time_budget", "keep_best"}
)
"""Options that start no search, and may say how the best of a recorded one is trained again."""


@dataclass(frozen=True)
class Script:
    """What one tuning script has of its own."""

    key: str
    """Short name of what is tuned, for the names of runs."""
    trainable: type[ReadyTrainable]
    """The class."""
    doc: str
    """The script's docstring, shown by --help."""
    add_options: Callable[[argparse._ArgumentGroup], None] = lambda group: None
    """Adds its own options."""
    settings: tuple[str, ...] = ()
    """Those of them that are settings of the trainable, by the same name."""
    narrow: Callable[[SearchSpace, argparse.Namespace], SearchSpace] = lambda space, args: space
    """Applies those of them that narrow the search space."""
    main_choice: str | None = None
    """A parameter; each of its values is tried once at first, with the defaults of the others, and
    the best trial of each keeps its checkpoint."""
    finish: Callable[..., None] = lambda result, console, *, read_test_again: None
    """Called at the end of a run that found something, after the summary, with the result, the
    console, and whether the test split may be read although it was read before."""
    export: Export = export_image_classifier
    """Writes the retrained winner down (--retrain-best)."""


def image_script(key: str, trainable: type[ReadyTrainable], doc: str | None) -> Script:
    """Make the script of a trainable on images."""
    return Script(key, trainable, doc or "", add_image_options, settings=("train_images",))


def main(script: Script, argv: Sequence[str] | None = None) -> int:
    """Run a tuning script and return its exit code.

    Args:
        script: The script.
        argv: Command-line arguments; None: those of the process.
    """
    was_connected = is_connected()
    parser = make_parser(script.trainable, script.doc, script.add_options)
    args = parser.parse_args(argv)
    console = make_console()
    try:
        wishes = read_wishes(args, _FREE_BESIDE_WISHES)
        if wishes is not None and wishes.run is not None:
            return _follow(wishes, None, args, script, console, leave_ray=not was_connected)
        if args.resume is not None:
            result = _resume(args, script, console)
        else:
            result = _start(args, script, console)
        print_summary(result, console)
        if result.state.incumbent is not None and result.ended != "interrupted":
            if wishes is not None:
                spec = result.spec
                return _follow(wishes, spec, args, script, console, leave_ray=not was_connected)
            again = bool(args.read_test_again)
            _finish(script, result, console, leave_ray=not was_connected, read_test_again=again)
        _print_next(result, console)
    except AhuError as error:
        complain(f"error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        complain(
            "interrupted at once; if the run had begun, what was recorded is kept, and --resume "
            "goes on with it"
        )
        return 130
    if result.ended == "interrupted":
        return 130
    return 0 if result.state.incumbent is not None else 1


def _finish(
    script: Script,
    result: RunResult,
    console: Console,
    *,
    leave_ray: bool,
    read_test_again: bool,
) -> None:
    """Do what comes after the search; without Ray, whose own handling of signals goes with it."""
    if leave_ray:
        disconnect()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        script.finish(result, console, read_test_again=read_test_again)
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(
    wishes: Wishes,
    spec: ExperimentSpec | None,
    args: argparse.Namespace,
    script: Script,
    console: Console,
    *,
    leave_ray: bool,
) -> int:
    """Do what is wished with the best of a run: of a recorded one, or of the search before."""
    changes: dict[str, Any] = {}
    if spec is None:
        spec = _find(wishes.run or "", args, script)
        changes = _changes(args, spec)
        script.trainable.prepare(spec.settings)
    return follow(
        wishes,
        spec.folder,
        script.trainable,
        script.export,
        console,
        connect=lambda: connect(args.address, verbose=args.verbose),
        leave_ray=leave_ray,
        changes=changes,
        verbose=args.verbose,
    )


# --- a new run


def _start(args: argparse.Namespace, script: Script, console: Console) -> RunResult:
    trainable = script.trainable
    values = {
        **DEFAULTS,
        "dataset": trainable.datasets[0],
        "max_epochs": trainable.default_max_epochs,
    }
    if args.smoke_test:
        values.update(num_samples=trainable.smoke_trials, max_epochs=trainable.smoke_epochs)
    if args.time_budget is not None:
        values["num_samples"] = None
    values.update({name: value for name, value in vars(args).items() if value is not None})
    dataset = values["dataset"]
    path = Path(values["space"]) if "space" in values else default_space_path(trainable, dataset)
    kind = dataset.partition(":")[0]
    prefix = "smoke" if args.smoke_test else script.key
    settings = trainable.default_settings(
        dataset,
        values["data_dir"],
        seed=values["seed"],
        max_epochs=values["max_epochs"],
        **{name: values[name] for name in script.settings if name in values},
    )
    options = read_options(values.get("search_option", []))
    space = script.narrow(SearchSpace.from_file(path), args)
    choice = script.main_choice if script.main_choice in space.names else None
    grace_period = min(trainable.default_grace_period, max(1, values["max_epochs"]))
    spec = ExperimentSpec(
        name=values.get("name", f"{prefix}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}"),
        trainable=f"{trainable.__module__}:{trainable.__name__}",
        space=space,
        metric=trainable.metric_of(settings),
        mode=trainable.mode,
        max_epochs=values["max_epochs"],
        num_samples=values["num_samples"],
        time_budget_s=values.get("time_budget"),
        scheduler=values["scheduler"],
        grace_period=values.get("grace_period", grace_period),
        reduction_factor=values["reduction_factor"],
        brackets=values["brackets"],
        cpus_per_trial=values["cpus_per_trial"],
        gpus_per_trial=values.get("gpus_per_trial", 0.0),
        resources_per_trial=read_amounts(values.get("resource", []), {}),
        accelerator_type=read_accelerator(values.get("accelerator_type")),
        max_concurrent=values.get("max_concurrent"),
        storage_path=_storage_path(values["storage_path"]),
        record_path=_record_path(values),
        seed=values["seed"],
        **{FIELDS.get(name, name): values[name] for name in FAULT_OPTIONS if name in values},
        keep_best_at="any" if trainable.keeps_best_weights else "max_resource",
        keep_best_per=choice,
        points_to_evaluate=()
        if choice is None
        else _one_of_each(space, choice, trainable.hyperparameters, values["seed"]),
        settings=settings,
    )
    if args.retry_failed:
        raise SpecError("--retry-failed goes with --resume: a new run has no failed trials")
    check_new_run(spec)
    spec = _warm_start(spec, values.get("warm_start", []), choice, console)
    # Only now: what is known from earlier runs matters for what `auto` chooses.
    spec = spec.replace(search=values["search"], search_options=options)
    _warn_of_few(spec, console)
    if is_uri(spec.storage_path):
        CheckpointStorage(spec.storage_path, spec.name).check_writable()
    try:
        _check_space(spec, trainable)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error
    scheduler_for(spec)
    spec = spec.replace(settings=trainable.prepare(spec.settings))
    callbacks = loggers_of(args, spec, console)
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
        callbacks=callbacks,
    )


def _one_of_each(
    space: SearchSpace, name: str, hyperparameters: type[Any], seed: int
) -> tuple[dict[str, Any], ...]:
    """A first point for each value of a choice: the defaults, moved into the space's bounds.

    What has no default there that could be used is drawn at random.
    """
    defaults = {item.name: item.default for item in fields(hyperparameters)}
    rng = generator(seed, "search", "first points")
    points = []
    for value in _listed(space).get(name, ()):
        smaller = space.restrict(name, [value])
        for other, values in _listed(smaller).items():
            if other != name and other in _listed(smaller) and defaults.get(other) in values:
                smaller = smaller.restrict(other, [defaults[other]])
        domains = {item.name: item.domain for item in smaller.declaration.parameters}
        point = smaller.sample(rng)
        for other in point.keys() & defaults.keys() - {name}:
            domain, default = domains[other], defaults[other]
            if hasattr(domain, "lower"):
                default = type(domain.lower)(min(max(default, domain.lower), domain.upper))
            if domain.contains(default):
                point[other] = default
        points.append(point)
    return tuple(points)


def _warm_start(
    spec: ExperimentSpec, runs: Sequence[str], choice: str | None, console: Console
) -> ExperimentSpec:
    """Let the searcher begin with what earlier runs have seen.

    First points are left out whose value of the script's main choice has been seen.
    """
    if not runs:
        return spec
    prior: list[PriorTrial] = []
    for number, name in enumerate(runs):
        earlier = load(name, storage_path=spec.storage_path, record_path=spec.record_path or "runs")
        found = prior_trials(earlier, spec.space, spec.metric, spec.mode, number)
        outside = f" ({found.n_outside} lie outside)" if found.n_outside else ""
        console.print(
            f"Warm start: {plural(len(found.trials), 'trial')} of run {earlier.name} that "
            f"lie in this search space{outside}",
            highlight=False,
            soft_wrap=True,
        )
        prior += [trial for trial in found.trials if trial not in prior]
        _warn_of_differences(spec, earlier, console)
    seen = [trial.configuration.get(choice) for trial in prior] if choice else []
    points = tuple(point for point in spec.points_to_evaluate if point.get(choice) not in seen)
    return spec.replace(
        prior_trials=tuple(trial.to_dict() for trial in prior), points_to_evaluate=points
    )


def _warn_of_few(spec: ExperimentSpec, console: Console) -> None:
    """Say if a warm start is too small for a model."""
    if not spec.prior_trials:
        return
    if spec.search != "bohb":
        console.print(
            f"  search={spec.search!r} does not learn from them; it leaves out what they tried",
            highlight=False,
        )
        return
    levels = scheduler_for(spec).rung_levels
    seen = Counter(
        resource
        for trial in spec.prior_trials
        for resource, _ in trial["reports"]
        if resource in levels
    )
    if spec.search_options.get("model") == "gp":
        needed, count, where = GpSettings().min_observations, seen.total(), "in all"
    else:
        needed, where = 2 * (len(spec.space.names) + 1), "at one rung level"
        count = max(seen.values(), default=0)
    if count < needed:
        console.print(
            f"  fewer than the {needed} results {where} from which BOHB's model begins: the first "
            "suggestions are random",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def _warn_of_differences(spec: ExperimentSpec, earlier: Results, console: Console) -> None:
    """Say what makes the values of an earlier run another thing than those to come."""
    if earlier.spec is None:
        return
    places = {"data_dir", "max_epochs"}
    old, new = earlier.spec.settings, spec.settings
    differing = [k for k in sorted(old.keys() & new.keys() - places) if old[k] != new[k]]
    if earlier.spec.max_epochs != spec.max_epochs:
        differing.append("max_epochs, over which learning rates are scheduled")
    if differing:
        console.print(
            f"  its values may not be comparable: {', '.join(differing)} differ",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def _listed(space: SearchSpace) -> dict[str, list[Any]]:
    """The parameters that list their values, with these."""
    parameters = space.declaration.parameters
    return {
        parameter.name: parameter.domain.all_values()
        for parameter in parameters
        if isinstance(parameter.domain, Listed)
    }


def _storage_path(path: str) -> str:
    return path if is_uri(path) else str(Path(path).expanduser().resolve())


def _record_path(values: dict[str, Any]) -> str | None:
    if is_uri(values["storage_path"]):
        return _storage_path(values.get("record_path", DEFAULTS["storage_path"]))
    if "record_path" in values:
        raise SpecError(
            "--record-path is for runs in an object store; elsewhere the record lies with the "
            "checkpoints, in --storage-path"
        )
    return None


def _check_space(spec: ExperimentSpec, trainable: type[ReadyTrainable]) -> None:
    """Find what the searcher or the trainable would refuse before anything is started.

    Besides some suggestions, both ends of each parameter are looked at, and all values of a choice.
    """
    searcher = searcher_for(spec, rung_levels=[spec.max_epochs])
    unseen = set(range(len(spec.space.names)))
    for index in range(20):
        suggestion = searcher.suggest(f"check_{index}")
        if suggestion is None:
            continue
        trainable.check_configuration(suggestion.configuration)
        vector = spec.space.encode(suggestion.configuration)
        active = unseen & set(np.flatnonzero(~np.isnan(vector)).tolist())
        unseen -= active
        for configuration in _extremes(spec.space, vector, active):
            trainable.check_configuration(configuration)


def _extremes(
    space: SearchSpace, vector: NDArray[np.float64], columns: set[int]
) -> Iterator[Configuration]:
    """A configuration with one column at either end or, of a choice, at each value; legal ones."""
    whole = np.where(np.isnan(vector), space.defaults, vector)
    for column in sorted(columns):
        k = int(space.n_choices[column])
        for coordinate in [(i + 0.5) / k for i in range(k)] if k else [0.0, 1.0]:
            changed = whole.copy()
            changed[column] = coordinate
            configuration = space.try_decode(changed)
            if configuration is not None:
                yield configuration


def _announce(spec: ExperimentSpec, console: Console, *, resumed: bool = False) -> None:
    trials = "trials" if spec.num_samples is None else plural(spec.num_samples, "trial")
    budget = "" if spec.time_budget_s is None else f" for {spec.time_budget_s:g} s"
    console.print(
        f"Tuning {spec.trainable.partition(':')[2]} on {spec.settings['dataset']}: {trials} of at "
        f"most {plural(spec.max_epochs, 'epoch')}{budget}, {spec.search_label} + "
        f"{spec.scheduler}, {_size(spec)} each",
        highlight=False,
        soft_wrap=True,
    )
    if spec.space.prior is not None and spec.search in ("random", "grid"):
        console.print(
            f"  search={spec.search!r} does not use the prior of the search space", highlight=False
        )
    if spec.search_reason is not None:
        when = " (chosen when the run began)" if resumed else ""
        console.print(f"search: {spec.search_reason}{when}", highlight=False, soft_wrap=True)
    console.print(f"Record: {spec.folder}", highlight=False, soft_wrap=True)
    if is_uri(spec.storage_path):
        place = run_uri(spec.storage_path, spec.name)
        console.print(f"Checkpoints, and a copy of the record: {place}", highlight=False)


def _size(spec: ExperimentSpec) -> str:
    parts = [f"{spec.cpus_per_trial:g} CPU", f"{spec.gpus_per_trial:g} GPU"]
    parts += [f"{amount:g} {kind}" for kind, amount in spec.resources_per_trial.items()]
    if spec.accelerator_type is not None:
        parts.append(f"an accelerator {spec.accelerator_type}")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


# --- going on with a run


def _resume(args: argparse.Namespace, script: Script, console: Console) -> RunResult:
    trainable = script.trainable
    spec = _find(args.resume, args, script)
    if args.search == AUTO:
        args.search = None  # no change: what it chose is in the record
    refused = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if value is not None and name not in CHANGEABLE_ON_RESUME | FREE_ON_RESUME
    ]
    if refused:
        raise SpecError(
            f"{', '.join(refused)} cannot be changed when a run is resumed; start a new run instead"
        )
    spec = spec.replace(**_changes(args, spec))
    check_old_run(spec)
    spec = spec.replace(settings=trainable.prepare(spec.settings))
    callbacks = loggers_of(args, spec, console)
    connect(args.address, verbose=args.verbose)
    Slots(spec.resources, spec.max_concurrent).check()
    _announce(spec, console, resumed=True)
    return run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=True,
        retry_failed=bool(args.retry_failed),
        verbose=args.verbose,
        console=console,
        callbacks=callbacks,
    )


def _find(run: str, args: argparse.Namespace, script: Script) -> ExperimentSpec:
    """Find a recorded search of this script's trainable; the newest one where none is named."""
    mine = f"{script.trainable.__module__}:{script.trainable.__name__}"
    spec = find_run(
        run,
        storage_path=args.storage_path or DEFAULTS["storage_path"],
        record_path=args.record_path or DEFAULTS["storage_path"],
        trainable=mine,
    )
    if spec.trainable != mine:
        raise SpecError(
            f"run {spec.name!r} tunes {spec.trainable}, this script {mine}; use its own"
        )
    if spec.rerun_of is not None:
        raise SpecError(
            f"run {spec.name!r} trains the best of run {spec.rerun_of!r} again; to go on with it, "
            f"give --retrain-best {spec.rerun_of}, or --repeat-best"
        )
    return spec


def _changes(args: argparse.Namespace, spec: ExperimentSpec) -> dict[str, Any]:
    """The fields of a recorded specification that the options change."""
    given = {name: getattr(args, name) for name in CHANGEABLE_ON_RESUME}
    changes = {name: value for name, value in given.items() if value is not None}
    if "resource" in changes:
        added = changes.pop("resource")
        changes["resources_per_trial"] = read_amounts(added, spec.resources_per_trial)
    if "accelerator_type" in changes:
        changes["accelerator_type"] = read_accelerator(args.accelerator_type)
    return {FIELDS.get(name, name): value for name, value in changes.items()}


def _print_next(result: RunResult, console: Console) -> None:
    spec = result.spec
    if result.state.incumbent is not None:
        console.print("Study it, with a page of pictures:")
        analyze = shlex.quote(str(Path(sys.argv[0]).with_name("analyze.py")))
        print_command(f"{interpreter()} {analyze} {shlex.quote(str(result.folder))}", console)
    command = f"{interpreter()} {shlex.quote(sys.argv[0])} --resume "
    command += shlex.quote(str(result.folder))
    failed = result.state.counts()[TrialStatus.FAILED]
    if result.state.incumbent is None and failed and result.ended == "finished":
        command += " --retry-failed"
        console.print("Next: mend what made them fail, and try them again:")
    elif result.ended == "finished" and _all_tried(result):
        console.print("Every configuration of the grid has been tried.")
        return
    elif result.ended == "finished" and spec.num_samples is not None:
        command += f" --num-samples {2 * max(spec.num_samples, len(result.state.trials))}"
        console.print("Next: twice as many trials, building on these:")
    elif result.ended == "time budget":
        command += f" --time-budget {2 * (spec.time_budget_s or 0):g}"
        console.print("Next: twice the time budget, what is spent included:")
    else:
        console.print("Next: go on where it stopped:")
    print_command(command, console)


def _all_tried(result: RunResult) -> bool:
    """Whether more trials would change nothing: a grid that is used up."""
    spec, tried = result.spec, len(result.state.trials)
    if spec.search != "grid":
        return False
    if spec.num_samples is None or tried < spec.num_samples:
        return True
    grid = spec.space.grid(spec.search_options.get("points_per_parameter", POINTS_PER_PARAMETER))
    return sum(1 for _ in islice(grid, tried + 1)) <= tried
