"""After a search: its best again with fresh seeds, the winner retrained, tested once, exported.

Start with `follow`.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from terminal import interpreter, print_command

from raytune_ahu.adapters import disconnect
from raytune_ahu.adapters.repeats import Repeated, repeat
from raytune_ahu.adapters.reruns import Means
from raytune_ahu.adapters.retraining import Fitted, Tested, fit_final, main_metric, measure_final
from raytune_ahu.adapters.summary import plural
from raytune_ahu.errors import SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.results import Results, load
from raytune_ahu.types import TRIAL_SEED_KEY
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from trainables.model_card import ModelCard

if TYPE_CHECKING:
    import pandas as pd

    from trainables import ReadyTrainable

OPTIONS = frozenset({"retrain_best", "repeat_best", "seeds", "trial", "read_test_again"})
"""The options of this module, by their destination."""
_BESIDES = ("seeds", "trial", "read_test_again")
_SEEDS = 3


@dataclass(frozen=True)
class Exported:
    """A model that was written down for use."""

    folder: Path
    """Where."""
    command: str
    """What to type to use it, or to read how."""


Export = Callable[[Tested, ModelCard, Path], Exported]
"""Writes the retrained winner into the folder of the run that found it."""


@dataclass(frozen=True)
class Wishes:
    """What is to be done with the best of a run."""

    retrain: bool
    """Whether the winner is retrained, tested and exported."""
    repeat: int | None
    """How many of the best are repeated first; None: none."""
    run: str | None
    """The recorded run; empty: the newest one; None: that of the search before."""
    seeds: int
    """Trainings of each."""
    trial: str | None
    """Whom to retrain, where it is not the best."""
    read_test_again: bool
    """Whether the test split may be read although it was read before."""


def add_winner_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this module."""
    group = parser.add_argument_group(
        "what to do with the best",
        "of RUN (its name or folder), of the newest run, or, with options of a search or --resume, "
        "of that one when it has ended",
    )
    group.add_argument(
        "--retrain-best",
        nargs="?",
        const="",
        metavar="RUN",
        help="train the best configuration on training and validation data with several seeds, "
        "read the test split once, and export the model",
    )
    group.add_argument(
        "--repeat-best",
        nargs="+",
        metavar=("K", "RUN"),
        help="train the K best configurations again with the same fresh seeds: do they really "
        "differ? Reads validation data only",
    )
    group.add_argument(
        "--seeds", type=int, metavar="N", help=f"seeds of each configuration (default {_SEEDS})"
    )
    group.add_argument(
        "--trial",
        metavar="TRIAL",
        help="with --retrain-best: this trial's configuration instead of the best one's",
    )
    group.add_argument(
        "--read-test-again",
        action="store_const",
        const=True,
        help="with --retrain-best, or --resume of a recommender: read the test split although it "
        "was read before, which is recorded too",
    )


def read_wishes(args: argparse.Namespace, free: frozenset[str]) -> Wishes | None:
    """Read the options of this module; None: nothing is wished.

    Args:
        args: All options.
        free: Options that may stand beside those of this module where no search is to be run.

    Raises:
        SpecError: If they contradict each other.
    """
    if args.retrain_best is None and args.repeat_best is None:
        names = ["seeds", "trial"] if args.resume is not None else [*_BESIDES]
        alone = [name for name in names if getattr(args, name)]
        if alone:
            flag = alone[0].replace("_", "-")
            raise SpecError(f"--{flag} goes with --retrain-best or --repeat-best; add one of them")
        return None
    k, named = _read_repeat(args.repeat_best)
    run = args.retrain_best or named
    if args.retrain_best and named and args.retrain_best != named:
        raise SpecError("--retrain-best and --repeat-best name different runs; give the same one")
    searching = [
        name
        for name, value in vars(args).items()
        if value not in (None, False) and name not in OPTIONS | free
    ]
    if run and searching:
        raise SpecError(
            f"--{searching[0].replace('_', '-')} starts or resumes a search, while run {run!r} is "
            "to be taken as it is; leave out one of the two"
        )
    return Wishes(
        retrain=args.retrain_best is not None,
        repeat=k,
        run=None if searching else (run or ""),
        seeds=_SEEDS if args.seeds is None else args.seeds,
        trial=args.trial,
        read_test_again=bool(args.read_test_again),
    )


def _read_repeat(given: list[str] | None) -> tuple[int | None, str | None]:
    """Read the values of --repeat-best."""
    if given is None:
        return None, None
    if len(given) > 2 or not given[0].isdigit():
        raise SpecError(
            f"--repeat-best {' '.join(given)!r} must be a number of configurations, and a run if "
            "it is not the newest one, like: --repeat-best 3 runs/NAME"
        )
    return int(given[0]), given[1] if len(given) == 2 else None


def follow(
    wishes: Wishes,
    folder: Path,
    trainable: type[ReadyTrainable],
    export: Export,
    console: Console,
    *,
    connect: Callable[[], None],
    leave_ray: bool,
    changes: Mapping[str, Any],
    verbose: bool,
) -> int:
    """Do what is wished with the best of a recorded run; return the exit code.

    Args:
        wishes: What.
        folder: The run's folder.
        trainable: What it tunes.
        export: Writes the winner down.
        console: Where to say what happens.
        connect: Connects to Ray; called only when something is to be trained.
        leave_ray: Whether Ray may be left when the trainings are done.
        changes: Fields of the specification that differ from the run's, such as resources.
        verbose: Whether Ray's own output is shown.

    Raises:
        AhuError: Whatever the user can mend.
    """

    def announce(spec: ExperimentSpec) -> None:
        of = f"{spec.num_samples} trainings of {plural(spec.max_epochs, 'epoch')}"
        console.print(f"{of}, none stopped early. Record: {spec.folder}", soft_wrap=True)
        connect()

    means = Means(
        trainable=trainable,
        make_scheduler=lambda spec: RayScheduler(scheduler_for(spec)),
        changes=changes,
        verbose=verbose,
        console=console,
        before_run=announce,
    )
    results = load(folder)
    if wishes.repeat is not None:
        count = min(wishes.repeat, len(results.scores()))
        console.print(f"\nThe best {count} of {results.name} again, with fresh seeds")
        repeated = repeat(results, means, k=wishes.repeat, seeds=wishes.seeds)
        _print_repeated(repeated, results, console)
        if repeated.run.ended == "interrupted":
            return _interrupted(wishes, folder, console)
        if not wishes.retrain:
            console.print("Next: train the winner on all data, test it once, export it:")
            print_command(_command("--retrain-best", str(folder)), console)
    if not wishes.retrain:
        return 0
    console.print(f"\nThe winner of {results.name}, on training and validation data together")
    fitted = fit_final(
        results,
        means,
        seeds=wishes.seeds,
        trial=wishes.trial,
        read_test_again=wishes.read_test_again,
    )
    if fitted.run.ended == "interrupted":
        return _interrupted(wishes, folder, console)
    if leave_ray:
        disconnect()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _test_and_export(fitted, results, export, console, again=wishes.read_test_again)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _interrupted(wishes: Wishes, folder: Path, console: Console) -> int:
    words = [] if wishes.repeat is None else ["--repeat-best", str(wishes.repeat), str(folder)]
    words += ["--retrain-best", str(folder)] if wishes.retrain else []
    words += ["--seeds", str(wishes.seeds)]
    words += [] if wishes.trial is None else ["--trial", wishes.trial]
    words += ["--read-test-again"] if wishes.read_test_again else []
    console.print("Interrupted. Next: go on where it stopped:")
    print_command(_command(*words), console)
    return 130


def _command(*options: str) -> str:
    return f"{interpreter()} {shlex.join([sys.argv[0], *options])}"


# --- the best again


def _print_repeated(repeated: Repeated, results: Results, console: Console) -> None:
    metric, frame = results.metric, repeated.frame
    table = Table(
        title=f"{metric}, {plural(len(repeated.seeds), 'fresh seed')} each:",
        title_justify="left",
        caption="repeated: ± standard deviation; difference: the first minus each other, paired by "
        "seed, ± half of the 95 % interval; p: Holm",
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for name in ("#", "trial", "search", "repeated", "n", "difference", "p"):
        table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    for best, row in zip(repeated.best, frame.to_dict("records"), strict=False):
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        sd = f" ± {row['sd']:.4f}" if row["n"] > 1 else ""
        has_test = row["pairs"] > 1
        half = f" ± {(row['ci_high'] - row['ci_low']) / 2:.4f}" if has_test else ""
        table.add_row(
            str(row["rank"]),
            best.trial,
            f"{best.value:.4f}",
            f"{row['mean']:.4f}{sd}",
            f"{row['n']}{failed}",
            f"{row['difference']:+.4f}{half}" if row["pairs"] else "",
            f"{row['p_holm']:.2g}" if has_test else "",
        )
    console.print()
    console.print(table)
    console.print(_verdict(frame, results), highlight=False, soft_wrap=True)


def _verdict(frame: pd.DataFrame, results: Results) -> str:
    tested = frame[frame["p_holm"].notna()]
    if tested.empty:
        return "Nothing can be said of differences: that takes two configurations and two seeds."
    differ = tested[tested["p_holm"] < 0.05]
    if differ.empty:
        return (
            "The first of the search does not differ from the others beyond chance: choose by what "
            "else matters (size, speed), or repeat with more --seeds."
        )
    better = differ[differ["difference"] * results.sign > 0]
    if not better.empty:
        trial = better.sort_values("mean", ascending=results.mode == "min")["trial"].iloc[0]
        return (
            f"{trial} does better than the first of the search beyond chance: --trial {trial} "
            "retrains it."
        )
    rest = len(tested) - len(differ)
    others = f"; from {plural(rest, 'other')} it does not differ so" if rest else ""
    return (
        f"The first of the search does better than {', '.join(differ['trial'])} beyond "
        f"chance{others}."
    )


# --- the winner


def _test_and_export(
    fitted: Fitted, results: Results, export: Export, console: Console, *, again: bool
) -> None:
    tested = measure_final(fitted, read_test_again=again)
    _print_tested(tested, results.metric, console)
    exported = export(tested, _card(tested, results), fitted.spec.folder)
    console.print(
        f"Exported with its model card: {exported.folder}", highlight=False, soft_wrap=True
    )
    console.print("Next:")
    print_command(exported.command, console)


def _print_tested(tested: Tested, metric: str, console: Console) -> None:
    fitted, means, spreads = tested.fitted, tested.means, tested.spreads
    n = len(fitted.seeds)
    main = main_metric(means, metric)
    if not tested.is_new:
        console.print(
            f"All was done before; the test split was read {tested.reading}",
            style="dim",
            soft_wrap=True,
        )
    table = Table(
        title=f"Test split, {plural(n, 'seed')}:",
        title_justify="left",
        caption="± standard deviation over seeds" if n > 1 else "one seed: no spread is known",
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("metric", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    for name in sorted(means, key=lambda name: name != main):
        shown = f"{means[name]:.4f}" + (f" ± {spreads[name]:.4f}" if n > 1 else "")
        table.add_row(name.removeprefix("test_"), shown, style="bold" if name == main else None)
    console.print()
    console.print(table)
    best = fitted.best
    console.print(
        f"{best.trial}, in the search: {best.metric} {best.value:.4f} at epoch {best.resource} "
        "(validation data, the best of many)",
        highlight=False,
        soft_wrap=True,
    )
    if fitted.diverged:
        console.print(f"{plural(len(fitted.diverged), 'more seed')} diverged.", style="yellow")
    for reading in tested.before:
        console.print(f"The test split was read before, {reading}", style="yellow", soft_wrap=True)


def _card(tested: Tested, results: Results) -> ModelCard:
    fitted, spec = tested.fitted, tested.fitted.spec
    best, final = fitted.best, fitted.run.spec
    provenance = load(final.folder).provenance  # of the trainings, not of the search
    return ModelCard(
        name=spec.name,
        trainable=spec.trainable,
        data="",
        configuration={
            k: v for k, v in fitted.trials[0].configuration.items() if k != TRIAL_SEED_KEY
        },
        settings={k: v for k, v in final.settings.items() if k != "data_dir"},
        search=(
            f"Found by {spec.search_label} with {spec.scheduler}: "
            f"{plural(len(results.trials), 'trial')} of at most "
            f"{plural(spec.max_epochs, 'epoch')}, root seed {spec.seed}."
        ),
        metric=best.metric,
        validation=best.value,
        chosen=f"{best.trial} at epoch {best.resource}; {best.rule}",
        epochs=final.max_epochs,
        test=tested.values,
        seeds=fitted.seeds,
        diverged=fitted.diverged,
        readings=tuple(str(one) for one in (*tested.before, tested.reading)),
        versions=provenance.get("versions", {}),
        code=provenance.get("package_commit"),
        date=time.strftime("%Y-%m-%d"),
    )
