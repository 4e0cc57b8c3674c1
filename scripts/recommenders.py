"""What the recommender script has of its own: options, the test at the end, the export.

Start with `recommender_script`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Script
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from terminal import interpreter, print_command
from winner import Exported

from raytune_ahu import SearchSpace
from raytune_ahu.adapters import RunResult
from raytune_ahu.adapters.retraining import Tested
from raytune_ahu.errors import SpaceError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.final_test import Reading, reading_test, readings_of
from raytune_ahu.records import read_events
from raytune_ahu.run_state import RunState, TrialState
from raytune_ahu.storage import CheckpointStorage
from raytune_ahu.types import TRIAL_SEED_KEY, as_loss
from trainables import RecommenderTrainable
from trainables.data.interaction_filters import DUPLICATES
from trainables.data.interaction_splits import SPLITS
from trainables.data.interactions import load_ids, load_known_items, load_recommender_data
from trainables.model_card import CARD_FILE, ModelCard
from trainables.recommender import load_data
from trainables.recommender_comparison import Candidate, Comparison, Contender, compare, restore
from trainables.recommender_settings import HISTORIES, RANKINGS
from trainables.serving import export

PURPOSE = "the comparison of models and references"
TEST_FILE = "test.json"
"""All figures of the test, in the run's folder."""
EXPORT_FOLDER = "recommender"
"""The winner, ready to serve, in the run's folder."""
_BESIDES = ("recall", "hit", "coverage")
"""Metrics of the table besides the one that is tuned."""
SETTINGS = (
    "columns",
    "min_rating",
    "duplicates",
    "min_user_interactions",
    "min_item_interactions",
    "split",
    "k",
    "ranking",
    "test_history",
    "references",
    "validation_users",
    "patience",
)


def recommender_script(doc: str | None) -> Script:
    """Make the script."""
    return Script(
        key="recommender",
        trainable=RecommenderTrainable,
        doc=doc or "",
        add_options=_add_options,
        settings=SETTINGS,
        narrow=_narrow,
        main_choice="model",
        finish=finish,
        export=export_retrained,
    )


def _add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--models",
        metavar="NAME,...",
        help="search among these models only, of mf, gmf, mlp, neumf, two-tower, lightgcn, "
        "mult-vae and sasrec (default all of the search space)",
    )
    group.add_argument(
        "--split",
        choices=SPLITS,
        help="what is held out: each user's newest tenths (user-time, the default), the newest "
        "item, any tenths, or all that comes after a date",
    )
    group.add_argument(
        "--k",
        metavar="N,...",
        help="lengths of the lists that are measured; the first is tuned (default 10,5,20)",
    )
    group.add_argument(
        "--columns",
        metavar="ROLE=NAME,...",
        help="columns of a file, like user=customer,item=sku,rating=stars,time=when (default: "
        "columns of these names)",
    )
    group.add_argument(
        "--min-rating",
        type=float,
        metavar="X",
        help="leave lower ratings out (default: every interaction counts, whatever its rating)",
    )
    group.add_argument(
        "--duplicates", choices=DUPLICATES, help="which of them counts (default first)"
    )
    group.add_argument(
        "--min-user-interactions",
        type=int,
        metavar="N",
        help="leave users with fewer out (default 3)",
    )
    group.add_argument(
        "--min-item-interactions",
        type=int,
        metavar="N",
        help="leave items with fewer out (default 1)",
    )
    group.add_argument(
        "--ranking",
        choices=RANKINGS,
        help="against all items (full, the default), or against 99 drawn ones, as older papers do",
    )
    group.add_argument(
        "--test-history",
        choices=HISTORIES,
        help="what models are told of a user in the test: all that came before, the validation "
        "items too (the default), or the training items only",
    )
    group.add_argument(
        "--references",
        metavar="NAME,...",
        help="what the winner is tested beside (default popularity,itemknn,ease,ials; or none)",
    )
    group.add_argument(
        "--validation-users",
        type=int,
        metavar="N",
        help="validate on N users only, drawn once, where there are very many (default all)",
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="EPOCHS",
        help="end a trial after so many epochs without a better value (default 10)",
    )


def _narrow(space: SearchSpace, args: argparse.Namespace) -> SearchSpace:
    if args.models is None:
        return space
    try:
        return space.restrict("model", [name.strip() for name in args.models.split(",")])
    except SpaceError as error:
        raise SpaceError(f"--models {args.models!r}: {error}") from error


# --- after the search


def finish(result: RunResult, console: Console, *, read_test_again: bool) -> None:
    """Test the winner, each model's best and the references; export the winner; say what is next.

    A test split that was read before is not read again unless that is asked for: then the winner by
    validation is exported untested. A retrained winner that is there is never replaced.

    Raises:
        AhuError: If a checkpoint is damaged or cannot be read.
    """
    settings = dict(result.spec.settings)
    readings = readings_of(read_events(result.folder))
    with tempfile.TemporaryDirectory() as folder:
        candidates = _candidates(result, Path(folder))
        if not candidates:
            console.print("No checkpoint was kept (--keep-best 0), so nothing can be tested.")
            return
        if readings and not read_test_again:
            comparison = None
            _say_it_was_read(readings[-1], console)
        else:
            console.print(
                "\nTesting the best of each model, and references (tuned on validation data):"
            )
            comparison = _compare(result.spec, candidates, console)
        best = candidates[0].trial_id if comparison is None else comparison.winner.trial_id
        winner = next(one for one in candidates if one.trial_id == best)
        place = _export(result, winner, comparison, console)
    if comparison is not None:
        _print(comparison, settings, console)
        figures = _write_figures(result, comparison)
        console.print(f"All figures: {figures}", highlight=False, soft_wrap=True)
    console.print(f"Ready to serve: {place}", highlight=False, soft_wrap=True)
    if comparison is not None and comparison.reference_is_better:
        console.print(
            "  This is the best tuned model, but a reference does better: search longer, or among "
            "other models (--models), before you use it.",
            style="yellow",
            soft_wrap=True,
        )
    console.print("Recommendations of the winner:")
    print_command(_recommend_command(result.folder, settings), console)


def _say_it_was_read(reading: Reading, console: Console) -> None:
    console.print(
        f"\nThe test split was read {reading}. A second look would make it validation data: it is "
        "not read again (--resume with --read-test-again does, and that is recorded too).",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )


def _recommend_command(run: Path, settings: dict[str, Any]) -> str:
    users, _ = load_ids(**_loading(settings))
    some = ",".join(str(user) for user in users[:2])
    script = Path(sys.argv[0]).with_name("recommend.py")
    return f"{interpreter()} {shlex.join([str(script), str(run), '--users', some])}"


def _compare(spec: ExperimentSpec, candidates: list[Candidate], console: Console) -> Comparison:
    """Read the test split, which the record of the run tells."""
    trials = [candidate.trial_id for candidate in candidates]
    details = {"run": spec.name, "trials": trials}
    with reading_test(spec, purpose=PURPOSE, details=details, again=True) as reading:
        for earlier in reading.before:
            console.print(
                f"The test split was read before, {earlier}. What is chosen since then by what was "
                "seen is chosen on test data.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
        comparison = compare(
            candidates,
            dict(spec.settings),
            say=lambda line: console.print(f"  {line}", style="dim"),
        )
        winner, metric = comparison.winner, comparison.metric
        mean, error = winner.test.means()[metric], winner.test.standard_error(metric)
        summary = f"{winner.name} {metric} {mean:.4f} ± {error:.4f} (standard error over users)"
        reading.measured(comparison.to_dict(), summary)
    return comparison


def _candidates(result: RunResult, folder: Path) -> list[Candidate]:
    """The best trial of each model that has a checkpoint, the best first."""
    storage = CheckpointStorage(result.spec.storage_path, result.spec.name)
    candidates = []
    for trial in _best_of_each_model(result.state):
        target = folder / trial.trial_id
        storage.fetch(trial.checkpoints[max(trial.checkpoints)], target)
        candidates.append(Candidate(trial.trial_id, trial.configuration, target))
    return candidates


def _best_of_each_model(state: RunState) -> list[TrialState]:
    able = [
        trial
        for trial in state.trials.values()
        if trial.checkpoints and trial.best_value is not None
    ]
    best: dict[str, TrialState] = {}
    for trial in sorted(able, key=lambda trial: as_loss(trial.best_value, state.mode)):
        best.setdefault(trial.configuration.get("model", "mf"), trial)
    return list(best.values())


def _write_figures(result: RunResult, comparison: Comparison) -> Path:
    path = result.folder / TEST_FILE
    try:
        times = json.loads(path.read_text(encoding="utf-8"))["test_was_read"]
    except (OSError, ValueError, KeyError):
        times = 0
    settings = dict(result.spec.settings)
    figures = {"test_was_read": times + 1, "settings": settings, **comparison.to_dict()}
    path.write_text(f"{json.dumps(figures, indent=2)}\n", encoding="utf-8")
    return path


def _export(
    result: RunResult, winner: Candidate, comparison: Comparison | None, console: Console
) -> Path:
    """Export the winner by validation; a retrained one that is there stays."""
    place = result.folder / EXPORT_FOLDER
    if (place / CARD_FILE).exists():
        console.print(
            f"{place} holds a retrained winner, which stays: --retrain-best replaces it",
            soft_wrap=True,
        )
        return place
    settings = dict(result.spec.settings)
    trainable = restore(winner, settings)
    epoch = trainable.use_best_weights()
    metric = RecommenderTrainable.resolve_settings(settings).tuned
    data = load_recommender_data(**_loading(settings))
    user_ids, item_ids = load_ids(**_loading(settings))
    return export(
        place,
        trainable.model,
        configuration=winner.configuration,
        data=data,
        known=load_known_items(**_loading(settings)),
        user_ids=user_ids,
        item_ids=item_ids,
        about={
            "run": result.spec.name,
            "trial": winner.trial_id,
            "epoch": epoch,
            "settings": settings,
            "validation": {metric: trainable.best_value},
            "test": None if comparison is None else comparison.winner.test.means(),
        },
    )


def export_retrained(tested: Tested, card: ModelCard, run: Path) -> Exported:
    """Write the retrained recommender of the first seed, with its card, where the winner lies.

    Raises:
        CheckpointError: If its checkpoint is damaged.
        StorageError: If it cannot be written.
    """
    fitted = tested.fitted
    trainable = fitted.restore(0)
    assert isinstance(trainable, RecommenderTrainable)
    trainable.use_best_weights()
    settings = dict(fitted.run.spec.settings)
    given = RecommenderTrainable.resolve_settings(settings)
    data = load_data(given, torch.device("cpu"))
    user_ids, item_ids = load_ids(**given.loading)
    use = (
        f"```python\nfrom trainables import Recommender\n\n"
        f'recommender = Recommender.load("{EXPORT_FOLDER}")\n'
        f"lists = recommender.recommend({user_ids[:2].tolist()!r}, k=5)\n```\n\n"
        "Needs this project's package. `recommender.json` says the same for programs."
    )
    described = (
        f"Data set `{given.dataset}`: {len(user_ids):,} users, {len(item_ids):,} items; split "
        f"`{given.split}`. This model was trained on all {len(data.train):,} interactions before "
        "the test, those of the validation split included."
    )
    folder = export(
        run / EXPORT_FOLDER,
        trainable.model,
        configuration={
            k: v for k, v in fitted.trials[0].configuration.items() if k != TRIAL_SEED_KEY
        },
        data=data,
        known=load_known_items(**given.loading),
        user_ids=user_ids,
        item_ids=item_ids,
        about={
            "run": fitted.spec.name,
            "trial": fitted.best.trial,
            "epoch": fitted.run.spec.max_epochs,
            "settings": settings,
            "validation": {given.tuned: fitted.best.value},
            "test": {k.removeprefix("test_"): v for k, v in tested.means.items()},
            "test_sd_over_seeds": {k.removeprefix("test_"): v for k, v in tested.spreads.items()}
            if len(fitted.seeds) > 1
            else None,
            "seeds": list(fitted.seeds),
        },
        card=replace(card, data=described).to_markdown(use),
    )
    return Exported(folder, _recommend_command(run, settings))


def _loading(settings: dict[str, Any]) -> dict[str, Any]:
    return RecommenderTrainable.resolve_settings(settings).loading


# --- the table


def _print(comparison: Comparison, settings: dict[str, Any], console: Console) -> None:
    metric, k = comparison.metric, comparison.metric.partition("@")[2]
    users = len(comparison.winner.test.users)
    ranking = "all items they do not have" if settings["ranking"] == "full" else "99 drawn items"
    table = Table(
        title=f"{metric.upper()}, {users:,} users, {settings['split']} split, ranking {ranking}:",
        title_justify="left",
        caption="test: ± standard error over users; chosen, and sorted, by validation",
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("model", no_wrap=True)
    for name in ("validation", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in _BESIDES:
        table.add_column(name, justify="right", no_wrap=True)
    for entry in comparison.contenders:
        means = entry.test.means()
        table.add_row(
            f"{entry.name}{_role(entry, comparison)}",
            f"{entry.validation:.4f}",
            f"{means[metric]:.4f} ± {entry.test.standard_error(metric):.4f}",
            *(f"{means[f'{name}@{k}']:.3f}" for name in _BESIDES),
            style="bold" if entry is comparison.winner else None,
        )
    console.print()
    console.print(table)
    if comparison.ceiling is not None:
        console.print(f"The best that any model could do on this data: {comparison.ceiling:.4f}")
    for line in comparison.skipped:
        console.print(f"left out: {line}", style="yellow", soft_wrap=True)
    test, reference = comparison.difference, comparison.best_reference
    if test is None or reference is None:
        return
    if test.n < 2:
        verdict = "a single user says nothing"
    elif test.p_value < 0.05:
        verdict = "better" if test.difference > 0 else "worse"
        verdict = f"{verdict} beyond chance"
    else:
        verdict = "no difference beyond chance"
    console.print(
        f"Winner {comparison.winner.name} minus best reference {reference.name} on the test: "
        f"{test.difference:+.4f} ± {test.standard_error:.4f} {metric} (paired over {test.n:,} "
        f"users, p = {test.p_value:.2g}): {verdict}",
        highlight=False,
        soft_wrap=True,
    )


def _role(entry: Contender, comparison: Comparison) -> str:
    if entry.kind == "reference":
        return " (reference)"
    return " (winner)" if entry is comparison.winner else ""
