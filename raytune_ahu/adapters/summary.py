"""The last words of a run: what was found, what it cost, what went wrong, where everything is."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console

from raytune_ahu.adapters.progress import format_configuration, format_seconds, format_value
from raytune_ahu.faults import Fault
from raytune_ahu.run_state import RunState, TrialState
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Mode, TrialStatus, as_loss

if TYPE_CHECKING:
    from raytune_ahu.adapters.runner import RunResult

_TOP = 3
_REASON_CHARACTERS = 160


def print_summary(result: RunResult, console: Console) -> None:
    """Print the summary of a run."""
    state, spec = result.state, result.spec
    if result.ended != "finished":
        console.print(f"\nThe run ended early: {result.ended}.", style="yellow")
    if state.incumbent is None:
        tried = state.epochs_run or state.counts()[TrialStatus.FAILED]
        why = "reported a finite" if tried else "has finished an epoch yet, so there is no"
        console.print(f"\nNo trial {why} {spec.metric}.", style="red")
    else:
        best = state.incumbent
        console.print(
            f"\nBest {spec.metric}: [bold]{format_value(best.value)}[/] at epoch {best.resource} "
            f"of {spec.max_epochs} ({best.trial_id}, validation data)"
        )
        for name, value in flatten(best.configuration).items():
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            console.print(f"  {name}: {shown}", highlight=False)
        console.print("Best trials, by their best epoch:")
        for line in _top_lines(state, spec.metric, spec.mode):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(cost_line(state, spec.max_epochs), highlight=False, soft_wrap=True)
    for line in _failure_lines(state):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Everything is in {result.folder}", highlight=False, soft_wrap=True)
    console.print(
        "  spec.json: the specification; log.jsonl: all that happened; "
        "trial_*/checkpoint_*: newest checkpoints",
        style="dim",
        soft_wrap=True,
    )


def best_trials(state: RunState, mode: Mode, n: int) -> list[TrialState]:
    """Return the `n` trials with the best value at any epoch, best first."""
    scored = [trial for trial in state.trials.values() if trial.best_value is not None]
    return sorted(scored, key=lambda trial: as_loss(trial.best_value, mode))[:n]


def cost_line(state: RunState, max_epochs: int) -> str:
    """Say what the run cost, beside what it would have cost without stopping trials early."""
    stopped = [t for t in state.trials.values() if t.status is TrialStatus.STOPPED]
    saved = sum(max_epochs - trial.resource for trial in stopped)
    full = state.epochs_run + saved
    share = "" if math.isnan(state.model_share) else f", {state.model_share:.0%} model-based"
    newest = state.newest_by_model
    if newest is not None and newest.model is not None:
        share += f" ({newest.model})"
    instead = f" instead of {full} ({saved / full:.0%} saved by early stopping)" if saved else ""
    return (
        f"{plural(len(state.trials), 'trial')}{share}, "
        f"{plural(state.epochs_run, 'epoch')}{instead}, "
        f"{format_seconds(state.seconds)} of wall time"
    )


def plural(count: int, noun: str) -> str:
    """Format `1 trial`, `2 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _top_lines(state: RunState, metric: str, mode: Mode) -> list[str]:
    lines = []
    for rank, trial in enumerate(best_trials(state, mode, _TOP), start=1):
        lines.append(
            f"  {rank}. {metric}={format_value(trial.best_value)} at epoch {trial.best_resource}  "
            f"{trial.trial_id}  {_outcome(trial)} after {plural(trial.resource, 'epoch')}  "
            f"{trial.origin}"
        )
        lines.append(f"     {format_configuration(trial.configuration)}")
    return lines


def _outcome(trial: TrialState) -> str:
    return trial.status.value if trial.status.is_final else "unfinished"


def _failure_lines(state: RunState) -> list[str]:
    lines = []
    if state.survived:
        faults = ", ".join(f"{n} x {fault.value}" for fault, n in state.survived.most_common())
        lines.append(f"Trials went on after: {faults}")
    failed = [t for t in state.trials.values() if t.status is TrialStatus.FAILED]
    if not failed:
        return lines
    reasons = Counter(_why(trial) for trial in failed)
    lines.append(f"{plural(len(failed), 'trial')} failed:")
    return lines + [f"  {count} x {reason}" for reason, count in reasons.most_common(3)]


def _why(trial: TrialState) -> str:
    if trial.error and not trial.told_to_stop:
        text = trial.error.strip().splitlines()[-1][:_REASON_CHARACTERS]
        if trial.fault is None or trial.fault is Fault.EXCEPTION:
            return text
        return f"{trial.fault.value}: {text}"
    return (trial.reason or "the metric was not finite").partition(" in epoch ")[0]
