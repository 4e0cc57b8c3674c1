"""The live view of a run, and its last words.

On a terminal a rich panel is redrawn a few times a second; elsewhere (a log file, CI) one plain
line is printed for every new incumbent and every half minute. Everything shown comes from
the recorder. Start with `make_progress`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.recorder import Recorder
from raytune_ahu.run_state import Incumbent, RunState
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Configuration, TrialStatus, model_level

_SHOWN_STATUSES = (
    TrialStatus.RUNNING,
    TrialStatus.PAUSED,
    TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
    TrialStatus.FAILED,
)
_MAX_RUNNING_SHOWN = 6
_DOT = " · "
_FIGURES = re.compile(r"[\d.]+ ?(kB|MB|GB)?")


def format_seconds(seconds: float) -> str:
    """Format a duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_configuration(configuration: Configuration) -> str:
    """Format a configuration on one line, floats to four digits."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in flatten(configuration).items()
    )


def format_bytes(size: float) -> str:
    """Format a number of bytes: 12 kB, 345 MB, 6.7 GB."""
    for unit, power in (("GB", 3), ("MB", 2)):
        if size >= 1000**power:
            amount = size / 1000**power
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{size / 1000:.0f} kB"


def format_value(value: float | None) -> str:
    """Format a metric value to five digits."""
    return "-" if value is None else f"{value:.5g}"


def format_search(state: RunState) -> str:
    """Say who has proposed the trials, and what the model expects of the newest one it proposed.

    Returns:
        Such as `38% model-based (gp, fitted up to epoch 27), expects +0.0031`: the change of the
        metric, negative where it is minimised. Empty before the first suggestion.
    """
    if math.isnan(state.model_share):
        return ""
    told, newest = f"{state.model_share:.0%} model-based", state.newest_by_model
    if newest is None:
        return told
    level = model_level(newest.origin)
    fitted = None if level is None else f"fitted up to epoch {level}"
    known = ", ".join(word for word in (newest.model, fitted) if word)
    told = f"{told} ({known})" if known else told
    gain = newest.expected_improvement
    if gain is None:
        return told
    return f"{told}, expects {gain if state.mode == 'max' else -gain:+.2g}"


class Progress(Protocol):
    """A view of a run that can be refreshed."""

    def __enter__(self) -> Progress:
        """Begin to show."""
        ...

    def __exit__(self, *exc: object) -> None:
        """Show the final state and stop."""
        ...

    def refresh(self) -> None:
        """Show the present state, if it is time."""
        ...


def make_progress(
    recorder: Recorder,
    spec: ExperimentSpec,
    console: Console,
    notices: Callable[[], Mapping[str, str]] = dict,
) -> Progress:
    """Make the view that suits the console: live on a terminal, plain lines elsewhere.

    Args:
        recorder: The recorder of the run.
        spec: The experiment.
        console: Where to show it.
        notices: Returns what else the user should know now, by what it is about.
    """
    view = _View(recorder, spec, notices)
    return LiveProgress(view, console) if console.is_terminal else PlainProgress(view, console)


class _View:
    """Reads the recorder; renders nothing by itself."""

    def __init__(
        self, recorder: Recorder, spec: ExperimentSpec, notices: Callable[[], Mapping[str, str]]
    ) -> None:
        self.recorder = recorder
        self.spec = spec
        self.notices = notices
        self._before_s = recorder.state.seconds
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before_s + time.monotonic() - self._started

    def status_line(self) -> str:
        state, spec = self.recorder.state, self.spec
        counts = state.counts()
        total = "" if spec.num_samples is None else f" of {spec.num_samples}"
        shown = _DOT.join(f"{counts[status]} {status.value}" for status in _SHOWN_STATUSES)
        return f"{len(state.trials)}{total} trials: {shown}"

    def budget_parts(self) -> list[str]:
        state, spec = self.recorder.state, self.spec
        left = "" if spec.time_budget_s is None else f" of {format_seconds(spec.time_budget_s)}"
        kept = state.checkpoint_bytes
        parts = [
            f"{format_seconds(self.seconds)}{left}",
            f"{state.epochs_run} epochs",
            f"checkpoints {format_bytes(kept)}" if kept else "",
            format_search(state),
        ]
        return [part for part in parts if part]

    def incumbent_line(self, incumbent: Incumbent) -> str:
        return (
            f"best {self.spec.metric}={format_value(incumbent.value)} at epoch "
            f"{incumbent.resource} ({incumbent.trial_id})"
        )


@dataclass(frozen=True)
class _Parts:
    """Parts of a line with dots between them; in a narrow window it breaks there only."""

    parts: Sequence[str]
    style: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines: list[str] = []
        for part in self.parts:
            if lines and len(lines[-1] + _DOT + part) <= options.max_width:
                lines[-1] += _DOT + part
            else:
                lines.append(part)
        yield Text("\n".join(lines), style=self.style)


class LiveProgress:
    """A panel that is redrawn in place: trials, rungs, incumbent, budget."""

    def __init__(self, view: _View, console: Console) -> None:
        self._view = view
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> LiveProgress:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.refresh()
        self._live.stop()

    def refresh(self) -> None:
        """Do nothing: the panel is redrawn by its own clock."""

    def render(self) -> RenderableType:
        """Build the panel from the present state."""
        view = self._view
        state, spec = view.recorder.state, view.spec
        parts: list[RenderableType] = [
            Text(view.status_line()),
            _Parts(view.budget_parts(), "dim"),
            self._rungs(),
        ]
        running = [t for t in list(state.trials.values()) if t.status is TrialStatus.RUNNING]
        for trial in running[:_MAX_RUNNING_SHOWN]:
            parts.append(
                Text.assemble(
                    (f"  {trial.trial_id} ", "cyan"),
                    f"epoch {trial.resource}/{spec.max_epochs} "
                    f"{spec.metric}={format_value(trial.value)} ",
                    (format_configuration(trial.configuration), "dim"),
                    no_wrap=True,
                    overflow="ellipsis",
                )
            )
        if len(running) > _MAX_RUNNING_SHOWN:
            parts.append(Text(f"  and {len(running) - _MAX_RUNNING_SHOWN} more", style="dim"))
        if state.incumbent is not None:
            parts.append(Text(view.incumbent_line(state.incumbent), style="bold green"))
            parts.append(Text(format_configuration(state.incumbent.configuration), style="green"))
        parts += [Text(notice, style="yellow") for notice in view.notices().values()]
        title = f"{spec.name}: {spec.search_label} + {spec.scheduler}"
        return Panel(Group(*parts), title=title, title_align="left")

    def _rungs(self) -> Table:
        spec = self._view.spec
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("rung", "entrants", "survivors", f"cut-off {spec.metric}"):
            table.add_column(heading, justify="right")
        rungs = self._view.recorder.rungs()
        several = any(rung.bracket for rung in rungs)
        for rung in rungs:
            name = f"{rung.bracket}: {rung.level}" if several else str(rung.level)
            table.add_row(name, str(rung.entrants), str(rung.survivors), format_value(rung.cutoff))
        return table


class PlainProgress:
    """Plain lines: every new incumbent, and a status line every half minute."""

    INTERVAL_S = 30.0

    def __init__(self, view: _View, console: Console) -> None:
        self._view = view
        self._console = console
        self._printed_at = time.monotonic()
        self._incumbent: Incumbent | None = None
        self._noticed: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._print_status()

    def refresh(self) -> None:
        """Print what is new."""
        incumbent = self._view.recorder.state.incumbent
        if incumbent is not None and incumbent != self._incumbent:
            self._incumbent = incumbent
            self._print(f"[{format_seconds(self._view.seconds)}] ", incumbent)
        self._print_notices(self._view.notices())
        if time.monotonic() - self._printed_at > self.INTERVAL_S:
            self._print_status()

    def _print_notices(self, notices: Mapping[str, str]) -> None:
        """Print what is new: other words every half minute at most, other figures never."""
        now, before = time.monotonic(), self._noticed
        self._noticed = {}
        for about, text in notices.items():
            words = _FIGURES.sub("", text)
            known, printed_at = before.get(about, (None, -math.inf))
            if words == known or now - printed_at < self.INTERVAL_S:
                self._noticed[about] = before[about]
                continue
            self._noticed[about] = words, now
            self._console.print(
                f"[{format_seconds(self._view.seconds)}] {text}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _print(self, prefix: str, incumbent: Incumbent) -> None:
        line = prefix + self._view.incumbent_line(incumbent)
        self._console.print(
            f"{line}: {format_configuration(incumbent.configuration)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _print_status(self) -> None:
        self._printed_at = time.monotonic()
        rungs = ", ".join(
            f"{rung.level}: {rung.entrants}->{rung.survivors}"
            for rung in self._view.recorder.rungs()
        )
        self._console.print(
            f"[{_DOT.join(self._view.budget_parts())}] {self._view.status_line()}; rungs {rungs}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
