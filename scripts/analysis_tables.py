"""The text of analyze.py: what a run has found, cost and taught, as tables.

Start with `print_run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from raytune_ahu.analysis.compare import Comparison
from raytune_ahu.analysis.convergence import advice
from raytune_ahu.analysis.cost import cost, savings
from raytune_ahu.analysis.importance import Importance
from raytune_ahu.analysis.narrowing import SuggestedSpace
from raytune_ahu.analysis.rungs import grace_advice, rung_correlation
from raytune_ahu.analysis.suggestions import suggestion_advice
from raytune_ahu.errors import AhuError
from raytune_ahu.results import At, Results
from raytune_ahu.space.nested import flatten

_TOP = 5
_SHOWN_PARAMETERS = 8  # in the table of importance
_FAULTS = 3


def print_run(results: Results, found: Importance | AhuError, console: Console, *, at: At) -> None:
    """Print everything about one run.

    Args:
        results: The run.
        found: The importance of its hyperparameters, or why there is none.
        console: Where to.
        at: By which rule its trials are ranked.
    """
    _say(console, f"\n[bold]{results.name}[/]: {_headline(results)}")
    if results.spec is not None and results.spec.search_reason is not None:
        _say(console, f"search: {results.spec.search_reason}", markup=False)
    for line in results.notes:
        _say(console, f"note: {line}", style="yellow", markup=False)
    _print_best(results, console, at)
    for reading in results.test_reads:
        _say(console, f"The test split was read {reading}", markup=False)
    _print_failures(results, console)
    _print_cost(results, console)
    _print_rungs(results, console)
    proposed = suggestion_advice(results)
    if proposed:
        _say(console, proposed, markup=False)
    if isinstance(found, AhuError):
        _say(console, f"Importance: {found}", markup=False)
    else:
        _print_importance(found, console)
    _say(console, advice(results), markup=False)


def _say(console: Console, line: str, *, style: str | None = None, markup: bool = True) -> None:
    console.print(line, style=style, markup=markup, highlight=False, soft_wrap=True)


def _headline(results: Results) -> str:
    counts = results.trials["status"].value_counts(sort=False)
    parts = [f"{count} {status}" for status, count in counts.items() if count]
    spec = results.spec
    how = "" if spec is None else f"{spec.search_label} + {spec.scheduler}, "
    return (
        f"{how}{len(results.trials)} trials ({', '.join(parts) or 'none'}), "
        f"{int(results.trials['epochs_run'].sum())} epochs, {minutes(results.wall_s)}"
    )


def minutes(seconds: float) -> str:
    """Format a duration: `45 s`, `12.5 min`, `3.2 h`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _print_best(results: Results, console: Console, at: At) -> None:
    try:
        best = results.top(_TOP, at=at)
    except AhuError as error:
        _say(console, str(error), style="red", markup=False)
        return
    first = best[0]
    _say(
        console,
        f"Best {first.metric}: [bold]{first.value:.6g}[/] at epoch {first.resource} of "
        f"{results.max_resource} ({first.trial}; {first.rule})",
    )
    for rank, one in enumerate(best, start=1):
        row = results.trial(one.trial)
        told = f"{one.value:.6g} at epoch {one.resource}  {one.trial}  {row['status']}"
        _say(console, f"  {rank}. {told}  {row['origin']}", markup=False)
        values = flatten(one.configuration).items()
        line = ", ".join(f"{name}={_cell(value)}" for name, value in values)
        _say(console, f"     {line}", style="dim", markup=False)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_failures(results: Results, console: Console) -> None:
    failed = results.trials[results.trials["status"] == "failed"]
    if failed.empty:
        return
    reasons = failed["error"].fillna("no reason recorded").map(_last_line).value_counts()
    _say(console, f"{len(failed)} trials failed:", style="yellow")
    for reason, count in reasons.head(_FAULTS).items():
        _say(console, f"  {count} x {reason}", style="yellow", markup=False)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason recorded")[:160].partition(" in epoch ")[0]


def _print_cost(results: Results, console: Console) -> None:
    table = cost(results)
    table = table[(table["trials"] > 0) | (table["worker_s"] > 0)]
    has_gpus = bool((table["gpu_s"] > 0).any())
    rows = [
        (
            row.outcome,
            str(row.trials or ""),
            str(row.epochs or ""),
            minutes(row.worker_s),
            *([minutes(row.gpu_s)] if has_gpus else []),
            f"{row.share:.0%}",
        )
        for row in table.itertuples(index=False)
    ]
    names = ("outcome", "trials", "epochs", "worker time", *(["GPU time"] if has_gpus else []))
    print_table(console, (*names, "share"), rows)
    saved = savings(results)
    if saved.share > 0:
        _say(
            console,
            f"Early stopping saved {saved.share:.0%}: {saved.epochs_run} epochs instead of "
            f"{saved.epochs_full}, about {minutes(saved.seconds_saved)} of a worker.",
        )


def _print_rungs(results: Results, console: Console) -> None:
    if len(results.rung_levels) < 2 or results.reports.empty:
        return
    rows = [
        (
            str(row.level),
            str(row.entrants),
            str(row.survivors),
            _number(row.cutoff),
            _number(row.best),
            _number(row.median),
        )
        for row in results.rungs.itertuples(index=False)
    ]
    print_table(console, ("rung", "entrants", "survivors", "cut-off", "best", "median"), rows)
    known = rung_correlation(results).dropna(subset="spearman")
    if len(known):
        rows = [
            (
                f"{row.low} and {row.high}",
                str(row.n),
                f"{row.spearman:.2f}",
                f"{row.ci_low:.2f} to {row.ci_high:.2f}",
                f"{row.kendall:.2f}",
            )
            for row in known.itertuples(index=False)
        ]
        print_table(console, ("epochs", "trials", "Spearman", "90 % interval", "Kendall"), rows)
    _say(console, grace_advice(results), markup=False)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


def _print_importance(found: Importance, console: Console) -> None:
    rows = [
        (
            row.parameter,
            f"{row.importance:.0%}",
            f"{row.ci_low:.0%} to {row.ci_high:.0%}",
            f"{row.permutation:.2f}",
            "" if row.active >= 1 else f"{row.active:.0%}",
        )
        for row in found.main.head(_SHOWN_PARAMETERS).itertuples(index=False)
    ]
    names = ("parameter", "share of variance", "90 % interval", "permutation", "active in")
    print_table(console, names, rows)
    pairs = found.pairs.head(2)
    if len(pairs):
        told = ", ".join(
            f"{row.first} x {row.second} {row.importance:.0%}"
            for row in pairs.itertuples(index=False)
        )
        _say(console, f"Strongest interactions: {told}", markup=False)
    for line in found.notes:
        _say(console, f"note: {line}", style="dim", markup=False)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print several runs side by side."""
    unit = {"time_s": "s", "epochs": "epochs", "trials": "trials"}[comparison.over]
    end = comparison.grid["x"].max()
    differ = len(set(comparison.runs["dataset"])) > 1
    rows = [
        (
            str(row.run),
            str(row.group),
            *([str(row.dataset)] if differ else []),
            str(row.trials),
            str(row.epochs),
            minutes(row.wall_s),
            _number(row.value),
            _number(row.area),
            f"{row.rank:g}",
        )
        for row in comparison.runs.itertuples(index=False)
    ]
    _say(console, f"\n[bold]{comparison.metric}[/] of all runs after {end:.4g} {unit}:")
    data = ["data set"] if differ else []
    spent = ("trials", "epochs", "wall time", "incumbent", "mean so far", "rank")
    print_table(console, ("run", "group", *data, *spent), rows)
    if differ:
        _say(console, "Ranks are among the runs on the same data set; others are not comparable.")


def print_changes(suggested: SuggestedSpace, console: Console) -> None:
    """Print what a suggested search space changes."""
    changed = suggested.changes[suggested.changes["was"] != suggested.changes["becomes"]]
    if changed.empty:
        _say(console, "The trials give no reason to change the search space.")
        return
    print_table(console, ("parameter", "was", "becomes", "why"), changed.astype(str).to_numpy())


def print_frame(frame: pd.DataFrame, console: Console) -> None:
    """Print a small frame as it is."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    print_table(console, tuple(str(name) for name in frame.columns), rows)


def print_table(console: Console, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print cells in columns; numbers to the right."""
    cells = [tuple(row) for row in rows]
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(names):
        numeric = all(_is_number(row[index]) for row in cells)
        last = index == len(names) - 1
        table.add_column(
            name,
            justify="right" if numeric and index else "left",
            no_wrap=not last,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(_escaped(cell) for cell in row))
    console.print(table)


def _is_number(cell: str) -> bool:
    return not cell or cell.lstrip("-")[:1].isdigit()


def _escaped(cell: str) -> str:
    return cell.replace("[", "\\[")
