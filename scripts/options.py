"""The options of the tuning scripts: the parser, defaults, and values that need reading.

Start with `make_parser`. What is not given is None, so that a resumed run can tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loggers import OPTIONS as LOGGER_OPTIONS
from loggers import add_logger_options
from winner import OPTIONS as WINNER_OPTIONS
from winner import add_winner_options

from raytune_ahu.errors import SpaceError, SpecError
from raytune_ahu.search import SEARCHERS
from raytune_ahu.search.auto import AUTO
from raytune_ahu.space.files import read_value
from schedulers import SCHEDULERS
from trainables import ReadyTrainable

DEFAULTS: dict[str, Any] = {
    "data_dir": "data",
    "search": AUTO,
    "scheduler": "asha-promotion",
    "num_samples": 40,
    "reduction_factor": 3,
    "brackets": 1,
    "cpus_per_trial": 1.0,
    "storage_path": "runs",
    "seed": 0,
}
FAULT_OPTIONS = (
    "max_failures",
    "retry_oom",
    "trial_timeout",
    "stop_timeout",
    "keep_best",
    "checkpoint_frequency",
)
"""Options that say what to do when something goes wrong."""
CHANGEABLE_ON_RESUME = {
    "num_samples",
    "time_budget",
    "cpus_per_trial",
    "gpus_per_trial",
    "resource",
    "accelerator_type",
    "max_concurrent",
    *FAULT_OPTIONS,
}
FIELDS = {
    "time_budget": "time_budget_s",
    "trial_timeout": "trial_timeout_s",
    "stop_timeout": "stop_timeout_s",
}
"""Options whose field in the specification has another name."""
FREE_ON_RESUME = {
    "address",
    "resume",
    "retry_failed",
    "verbose",
    "storage_path",
    "record_path",
    *WINNER_OPTIONS,
    *LOGGER_OPTIONS,
}
"""Options that say where and how to run, and where to look for the run."""


def make_parser(
    trainable: type[ReadyTrainable],
    doc: str,
    add_own: Callable[[argparse._ArgumentGroup], None] = lambda group: None,
) -> argparse.ArgumentParser:
    """Make the parser of a tuning script; what is not given is None.

    Args:
        trainable: What it tunes.
        doc: The script's docstring.
        add_own: Adds the options that this script alone has, about what is tuned.
    """
    own_data = trainable.datasets[0]
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to tune")
    what.add_argument(
        "--dataset",
        help=f"{', '.join(trainable.datasets)} (default {own_data}, which needs no download)",
    )
    what.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the data files; missing ones are downloaded there (default ./data)",
    )
    what.add_argument(
        "--space",
        metavar="FILE",
        help="search space as YAML or JSON; copy and edit one of trainables/spaces "
        "(default the one of the data set)",
    )
    add_own(what)

    how = parser.add_argument_group("how to search")
    how.add_argument(
        "--search",
        choices=[AUTO, *SEARCHERS],
        help="auto (the default) chooses by search space and budget, and says why; bohb learns "
        "from every rung; random, the baseline, learns nothing; grid tries every combination",
    )
    how.add_argument(
        "--search-option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the searcher, may be repeated; bohb: model=gp (a Gaussian process over "
        "all rungs, which auto takes) or kde (the densities of the paper, which --search bohb "
        "takes), random_fraction, n_candidates, top_fraction (kde), engine=hpbandster, ...; grid: "
        "points_per_parameter, shuffle",
    )
    how.add_argument(
        "--warm-start",
        action="append",
        metavar="RUN",
        help="begin with what an earlier run has learnt (its name or folder), as far as it lies in "
        "the search space; may be repeated. The data should be the same",
    )
    how.add_argument(
        "--scheduler",
        choices=list(SCHEDULERS),
        help="asha-promotion (the default) pauses trials at each rung and goes on with the best: "
        "good values earliest; asha stops those that fall behind: where pausing is dear, as with "
        "large checkpoints or slow starts; none, a baseline, trains all trials to the end",
    )
    how.add_argument(
        "--grace-period",
        type=int,
        metavar="EPOCHS",
        help=f"first rung: no trial is judged earlier (default {trainable.default_grace_period})",
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
        help=f"{trainable.smoke_trials} trials of at most {trainable.smoke_epochs} epochs on "
        f"{own_data}: about a minute",
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
        "--storage-path",
        metavar="DIR_OR_URI",
        help="where runs lie; on a cluster a folder that all nodes see, or an object store such as "
        "s3://bucket/runs (default ./runs)",
    )
    where.add_argument(
        "--record-path",
        metavar="DIR",
        help="with an object store: folder for spec.json and log.jsonl, which are copied to the "
        "store as well (default ./runs)",
    )
    where.add_argument(
        "--name", help="name of the run: letters, digits and ._- (default: from data set and time)"
    )
    where.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="NAME_OR_PATH",
        help="go on with a run where it stopped (without a name: the newest one); budget, "
        "resources and what to do when something goes wrong may be changed",
    )
    where.add_argument(
        "--verbose",
        action="store_true",
        help="instead of the live view: Ray's own tables, what workers print, and Ray's loggers "
        "(result.json, progress.csv and TensorBoard files per trial)",
    )
    add_winner_options(parser)
    add_logger_options(parser)
    _add_fault_options(parser)
    parser.set_defaults(resume=None)
    parser.epilog = (
        "Results are in STORAGE/NAME: spec.json, log.jsonl (everything that happened), and per "
        "live or best trial a folder with its newest checkpoint. Ctrl-C (or SIGTERM) lets running "
        "epochs end and be saved; --resume goes on."
    )
    return parser


def add_image_options(group: argparse._ArgumentGroup) -> None:
    """Add what only trainables on images have."""
    group.add_argument(
        "--train-images",
        type=int,
        metavar="N",
        help="train on N images only, evenly from all classes (default all)",
    )


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    faults = parser.add_argument_group("when something goes wrong")
    faults.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="times a trial that raised is tried again from its checkpoint (default 0); lost "
        "workers and nodes are not counted",
    )
    faults.add_argument(
        "--retry-oom",
        action="store_const",
        const=True,
        help="try trials that ran out of memory again as well, with the same resources",
    )
    faults.add_argument(
        "--retry-failed",
        action="store_const",
        const=True,
        help="with --resume: try trials that failed again (not those that diverged; those that ran "
        "out of memory with --retry-oom or other resources)",
    )
    faults.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="end a trial that reports nothing for so long, as failed; it has five minutes more "
        "while its worker starts (default never)",
    )
    faults.add_argument(
        "--stop-timeout",
        type=float,
        metavar="SECONDS",
        help="after Ctrl-C or SIGTERM, wait so long at most for running epochs (default 20)",
    )
    faults.add_argument(
        "--keep-best",
        type=int,
        metavar="N",
        help="keep the checkpoints of the N best trials that have ended (default 3)",
    )
    faults.add_argument(
        "--checkpoint-frequency",
        type=int,
        metavar="EPOCHS",
        help="epochs between two checkpoints (default 1); 0: only of paused and the best trials",
    )


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read the values of --search-option."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise SpecError(f"--search-option {pair!r} must be KEY=VALUE, like random_fraction=0.2")
        if name in options:
            raise SpecError(f"--search-option {name} is given twice; remove one")
        try:
            options[name] = read_value(value)
        except SpaceError as error:
            raise SpecError(f"--search-option {pair!r} has a value that is no YAML") from error
        if options[name] is None:
            raise SpecError(f"--search-option {pair!r} has no value; add one, or leave it out")
    return options


def read_amounts(pairs: Sequence[str], before: Mapping[str, float]) -> dict[str, float]:
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


def read_accelerator(name: str | None) -> str | None:
    """Read the value of --accelerator-type; `any` takes an earlier session's back."""
    return None if name == "any" else name
