"""What all figures share: colours, templates for light and dark, captions, hover texts, thinning.

The colours are those of Okabe and Ito (Color Universal Design, 2008), moved so far that they read
on white as well as on the dark page. Text, grid and background are not set by the figures but by a
template, which the report switches. Start with `canvas`, `note` and `Hover`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from raytune_ahu.errors import MetricError
from raytune_ahu.results import Results
from raytune_ahu.results.frames import is_absent
from raytune_ahu.results.schema import CONFIG

OUTCOME_COLORS = {
    "completed": "#0f9d76",
    "stopped": "#4c8fd0",
    "failed": "#d5611a",
    "interrupted": "#c2589c",
    "paused": "#c99700",
    "unfinished": "#c99700",
    "running": "#c99700",
    "pending": "#8c939c",
    "repeated": "#c2589c",
    "idle": "#a9b0b8",
}
"""Colour of each status of a trial, end of a worker's stay, and outcome of a cost."""
ACCENT = "#4c8fd0"
SECOND = "#c99700"
BEST = "#d5611a"
QUIET = "#8c939c"
SERIES = ("#4c8fd0", "#d5611a", "#0f9d76", "#c2589c", "#c99700", "#8c939c", "#7a6fd0", "#5fa8a8")
"""Colours of groups, in this order."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_SHOWN_PARAMETERS = 10  # in a hover text
_LINE = 58  # characters of a line in it


def template(theme: str) -> dict[str, Any]:
    """Return plotly's layout template of a theme.

    Args:
        theme: `light`, `dark`, or `paper` (white ground, black text, larger letters).
    """
    ink, faint, ground, size = {
        "light": ("#24292f", "#e4e7eb", "rgba(0,0,0,0)", 13),
        "dark": ("#d7dce2", "#333b45", "rgba(0,0,0,0)", 13),
        "paper": ("#000000", "#dddddd", "#ffffff", 17),
    }[theme]
    raised = "#232a33" if theme == "dark" else "#ffffff"
    axis = {
        "gridcolor": faint,
        "zeroline": False,
        "linecolor": faint,
        "tickcolor": faint,
        "automargin": True,
        "exponentformat": "power",
        "title": {"standoff": 10, "font": {"size": size}},
    }
    return {
        "layout": {
            "font": {"family": FONT, "size": size, "color": ink},
            "paper_bgcolor": ground,
            "plot_bgcolor": ground,
            "colorway": list(SERIES),
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {
                "bgcolor": raised,
                "bordercolor": faint,
                "font": {"color": ink, "size": 12},
                "align": "left",
            },
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "updatemenudefaults": {
                "bgcolor": raised,
                "bordercolor": faint,
                "font": {"color": ink, "size": 12},
            },
            "annotationdefaults": {"font": {"color": ink}},
        }
    }


def canvas(x: str, y: str, *, height: int = 380, **layout: Any) -> go.Figure:
    """Make an empty figure with titles on its axes (they are escaped here)."""
    figure = go.Figure()
    figure.update_layout(
        template=template("light"),
        height=height,
        margin={"l": 8, "r": 16, "t": 36, "b": 8},
        hovermode="closest",
        xaxis_title_text=escape(x),
        yaxis_title_text=escape(y),
        **layout,
    )
    return figure


def note(figure: go.Figure, *sentences: str) -> go.Figure:
    """Attach what a reader must know of this figure: what was left out, where its view ends."""
    told = " ".join(sentence for sentence in sentences if sentence)
    figure.update_layout(meta={**(figure.layout.meta or {}), "caption": told})
    return figure


def caption(figure: go.Figure) -> str:
    """What `note` attached; empty where there is nothing to say."""
    return str((figure.layout.meta or {}).get("caption", ""))


def follow(figure: go.Figure) -> go.Figure:
    """Add the empty trace in which the report draws the whole curve of the trial under the mouse.

    The figure's other traces must carry the trial of each point in `customdata`.
    """
    figure.add_scatter(
        x=[], y=[], mode="lines", line={"color": BEST, "width": 3.5}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    figure.update_layout(meta={**(figure.layout.meta or {}), "follow": len(figure.data) - 1})
    return figure


def require_values(results: Results) -> None:
    """Check that there is anything to draw.

    Raises:
        MetricError: If no trial reported a finite value; the message says why.
    """
    if not results.trials["best_value"].notna().any():
        results.best()


def no_values(results: Results, what: str) -> MetricError:
    """Make the error of a figure for which there is nothing yet."""
    return MetricError(f"run {results.name!r} has no {what} yet")


def show(value: Any) -> str:
    """Write a value of a hyperparameter or metric in short, not escaped."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, str) and not _reads_as_other(value):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


def _reads_as_other(text: str) -> bool:
    """Whether a text would be taken for a number, a flag or nothing: it is shown in quotes."""
    try:
        return not isinstance(json.loads(text), str)
    except ValueError:
        return not text


def time_axis(seconds: float) -> tuple[float, str]:
    """Choose a unit for times of up to so many seconds: by what to divide, and its name."""
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return size, name
    return 1.0, "seconds"


def spread(ranked: Sequence[str], limit: int, *, best: float = 1 / 3) -> list[str]:
    """Thin trials that are ranked from the best.

    Args:
        ranked: Their ids.
        limit: How many to keep at most.
        best: Share of the limit that goes to the best; the others are taken evenly by rank.
    """
    if len(ranked) <= limit:
        return list(ranked)
    head = max(1, round(best * limit))
    rest = np.linspace(head, len(ranked) - 1, limit - head).round().astype(int)
    return [*ranked[:head], *(ranked[i] for i in dict.fromkeys(rest.tolist()))]


def ranked_trials(results: Results) -> list[str]:
    """All trials, the best first; those without a finite value last."""
    trials = results.trials
    keyed = trials["best_value"] * results.sign
    return [str(t) for t in trials["trial"].loc[keyed.sort_values(kind="stable").index]]


def robust_range(results: Results, values: Iterable[float]) -> tuple[list[float] | None, str]:
    """Range of an axis that is not squeezed by a few bad values, and a sentence that says so.

    Returns:
        The range, or None where it holds all values; worst of it: the median less 2.5 times the
        distance from there to the best.
    """
    finite = np.array([v for v in values if math.isfinite(v)])
    if len(finite) < 8:
        return None, ""
    losses = results.sign * finite
    best, median, worst = losses.min(), np.median(losses), losses.max()
    limit = median + 2.5 * (median - best)
    if worst <= limit or best == median:
        return None, ""
    ends = sorted(results.sign * np.array([best - 0.06 * (limit - best), limit]))
    hidden = int(np.count_nonzero(losses > limit))
    return [float(e) for e in ends], (
        f"The view leaves out {hidden} of {len(finite)} values that are far worse; a double click "
        "shows them."
    )


class Hover:
    """Hover texts of trials: id, status, best value, shortened configuration; escaped."""

    def __init__(self, results: Results, trials: Iterable[str]) -> None:
        wanted = set(trials)
        self._names = results.parameters
        rows = results.trials[results.trials["trial"].isin(wanted)]
        columns = ["trial", "status", "origin", "best_value", "best_resource"]
        cells = zip(*(rows[name].astype(object) for name in columns), strict=True)
        configs = zip(*(rows[CONFIG + name].astype(object) for name in self._names), strict=True)
        pairs = zip(cells, configs if self._names else [()] * len(rows), strict=True)
        self._texts = {str(row[0]): self._text(row, config) for row, config in pairs}

    def __getitem__(self, trial: str) -> str:
        return self._texts[trial]

    def _text(self, row: Sequence[Any], config: Sequence[Any]) -> str:
        trial, status, origin, value, resource = row
        known = not is_absent(value)
        best = f"best {show(value)} at epoch {resource}" if known else "no finite value"
        return "<br>".join(
            [
                f"<b>{escape(str(trial))}</b>, {status}, from {escape(str(origin))}",
                best,
                *(escape(line) for line in self._lines(config)),
            ]
        )

    def _lines(self, config: Sequence[Any]) -> list[str]:
        active = [
            f"{name}={_cut(show(value))}"
            for name, value in zip(self._names, config, strict=True)
            if not is_absent(value)
        ]
        if len(active) > _SHOWN_PARAMETERS:
            more = len(active) - _SHOWN_PARAMETERS
            active = [*active[:_SHOWN_PARAMETERS], f"and {more} more"]
        lines = [""]
        for part in active:
            if lines[-1] and len(lines[-1]) + len(part) > _LINE:
                lines.append("")
            lines[-1] += f"{', ' if lines[-1] else ''}{part}"
        return lines


def _cut(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}\N{HORIZONTAL ELLIPSIS}"
