"""Parallel coordinates: every configuration as a line through its hyperparameters.

Drawn as ordinary lines, not with plotly's own trace: that one needs WebGL, which many a browser on
a remote machine lacks, shows nothing under the mouse, and has no place for inactive parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from raytune_ahu.analysis.figures_axes import Axis, axis_of
from raytune_ahu.analysis.figures_style import (
    ACCENT,
    BEST,
    QUIET,
    SECOND,
    Hover,
    canvas,
    follow,
    no_values,
    note,
    ranked_trials,
    require_values,
    robust_range,
    show,
    spread,
)
from raytune_ahu.results import Results
from raytune_ahu.results.schema import CONFIG

MAX_LINES = 400
"""Trials that are drawn at most."""
MAX_AXES = 14
"""Hyperparameters that are drawn at most."""
_INACTIVE = -0.14  # height at which inactive parameters are passed
_JITTER = 0.018  # half of the height over which lines through one category are spread
_MOST_LABELS = 9  # of an axis

_Floats = NDArray[np.float64]


def parallel_coordinates(results: Results, parameters: Sequence[str] | None = None) -> go.Figure:
    """Draw each trial as a line through its hyperparameters to its best value.

    A line passes below an axis whose hyperparameter is inactive in that trial.

    Args:
        results: The run.
        parameters: Axes in this order; None: all hyperparameters with more than one value.

    Raises:
        MetricError: If no trial has a finite value, or all have the same configuration.
    """
    require_values(results)
    axes = [axis_of(results, name) for name in parameters or results.parameters]
    varied = [axis for axis in axes if axis.upper > axis.lower]
    shown = varied[:MAX_AXES]
    if not shown:
        raise no_values(results, "two different configurations")
    trials = results.trials.set_index("trial", drop=False).loc[ranked_trials(results)]
    drawn = trials.loc[spread(trials.index.tolist(), MAX_LINES, best=0.08)]
    figure = canvas("", "", height=460)
    value_axis, told = _value_axis(results)
    heights = np.column_stack([*(_heights(a, drawn) for a in shown), value_axis.unit_of(drawn)])
    hover = Hover(results, drawn["trial"])
    for name, color, width, opacity, rows in _bands(trials, drawn):
        _add_lines(figure, name, color, width, opacity, heights[rows], drawn["trial"].iloc[rows],
                   hover)  # fmt: skip
    _draw_axes(figure, shown, value_axis)
    return note(
        follow(figure),
        f"{len(drawn)} of {len(trials)} trials are drawn." if len(drawn) < len(trials) else "",
        f"{len(varied) - len(shown)} more hyperparameters are not drawn."
        if len(shown) < len(varied)
        else "",
        told,
    )


class _ValueAxis:
    """The metric as the last axis; the better end is up, values far worse stand at its foot."""

    def __init__(self, results: Results, lower: float, upper: float) -> None:
        self._best_first = results.sign < 0
        self.name = results.metric
        self.ends = (lower, upper) if results.sign < 0 else (upper, lower)

    def unit_of(self, trials: pd.DataFrame) -> _Floats:
        worst, best = self.ends
        span = best - worst
        if span == 0:
            return np.where(trials["best_value"].isna(), np.nan, 0.5)
        unit: _Floats = ((trials["best_value"] - worst) / span).to_numpy().clip(0, 1)
        return unit

    def ticks(self) -> list[tuple[float, str]]:
        worst, best = self.ends
        return [(float(u), show(float(worst + u * (best - worst)))) for u in np.linspace(0, 1, 4)]


def _value_axis(results: Results) -> tuple[_ValueAxis, str]:
    values = results.trials["best_value"].dropna()
    limits, told = robust_range(results, values)
    best = float((results.sign * values).min() * results.sign)
    if limits is None:
        return _ValueAxis(results, float(values.min()), float(values.max())), ""
    worst = limits[0] if results.sign < 0 else limits[1]
    told = told.split(";")[0].replace("The view leaves out", "The last axis ends before")
    return _ValueAxis(results, min(worst, best), max(worst, best)), f"{told}."


def _heights(axis: Axis, trials: pd.DataFrame) -> _Floats:
    at = axis.unit(trials[CONFIG + axis.name])
    if axis.kind == "category":
        at = at + _JITTER * (2 * ((np.arange(len(at)) * 0.6180339887) % 1) - 1)  # golden ratio
    return np.where(np.isnan(at), _INACTIVE, at)


def _bands(trials: pd.DataFrame, drawn: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Groups of trials by rank, the best drawn last: name, colour, width, opacity, rows."""
    n = int(trials["best_value"].notna().sum())
    top, good = max(1, round(0.05 * n)), max(1, round(0.25 * n))
    rank = pd.Series(np.arange(len(trials)), index=trials.index).loc[drawn.index].to_numpy()
    valued = drawn["best_value"].notna().to_numpy()
    groups = [
        ("no finite value", QUIET, 1.0, 0.35, ~valued),
        ("others", ACCENT, 1.0, 0.40, valued & (rank >= good)),
        ("best quarter", SECOND, 1.4, 0.75, valued & (rank >= top) & (rank < good)),
        (f"best 5 % ({top})", BEST, 2.2, 0.95, valued & (rank < top)),
    ]
    return [(*group[:4], np.flatnonzero(group[4])) for group in groups if group[4].any()]


def _add_lines(
    figure: go.Figure,
    name: str,
    color: str,
    width: float,
    opacity: float,
    heights: _Floats,
    trials: pd.Series[str],
    hover: Hover,
) -> None:
    n, k = heights.shape
    x = np.tile(np.append(np.arange(k, dtype=np.float64), np.nan), n)
    y = np.column_stack([heights, np.full(n, np.nan)]).ravel()
    ids: list[str | None] = []
    texts: list[str | None] = []
    for trial in trials:
        ids += [trial] * k + [None]
        texts += [hover[trial]] * k + [None]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": color, "width": width}, opacity=opacity,
        name=name, customdata=ids, text=texts, hovertemplate="%{text}<extra></extra>",
        connectgaps=False,
    )  # fmt: skip


def _draw_axes(figure: go.Figure, axes: Sequence[Axis], value_axis: _ValueAxis) -> None:
    last = len(axes)
    for at, marks in enumerate([*(axis.ticks() for axis in axes), value_axis.ticks()]):
        line = {"color": QUIET, "width": 1.2}
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, line=line)
        step = -(-len(marks) // _MOST_LABELS)
        for height, text in marks[::step]:
            figure.add_annotation(
                x=at, y=height, text=escape(_short(text)), showarrow=False, xanchor="left",
                xshift=3, font={"size": 10.5}, bgcolor="rgba(127,127,127,0.13)", borderpad=1,
            )  # fmt: skip
    figure.update_layout(meta={"min_width": 110 + 62 * last})  # on a phone it scrolls in itself
    figure.update_xaxes(
        tickvals=list(range(last + 1)),
        ticktext=[escape(_short(a.name)) for a in axes] + [f"<b>{escape(value_axis.name)}</b>"],
        range=[-0.15, last + 0.45], showgrid=False, side="bottom",
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=[_INACTIVE], ticktext=["inactive"], range=[_INACTIVE - 0.05, 1.05],
        showgrid=False,
    )  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}\N{HORIZONTAL ELLIPSIS}"
