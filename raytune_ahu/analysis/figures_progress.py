"""Pictures of how a run went: incumbent, learning curves, rungs; and of several runs together."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raytune_ahu.analysis.compare import Comparison
from raytune_ahu.analysis.figures_style import (
    ACCENT,
    BEST,
    OUTCOME_COLORS,
    QUIET,
    SERIES,
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
    time_axis,
)
from raytune_ahu.analysis.progress import Over, incumbent
from raytune_ahu.results import Results

MAX_CURVES = 300
"""Learning curves that are drawn at most."""
MAX_POINTS = 800
"""Trials that are drawn as points at most."""


def incumbent_curve(results: Results, over: Over = "time_s") -> go.Figure:
    """Draw the best value so far, and the best value of each trial, over what was spent.

    Buttons change the axis to wall time, epochs or trials.

    Args:
        results: The run.
        over: The axis to begin with.

    Raises:
        MetricError: If no trial has a finite value.
    """
    require_values(results)
    curve = incumbent(results)
    unit, unit_name = time_axis(results.wall_s)
    curve["time_s"] /= unit
    titles = {
        "time_s": f"time since the start ({unit_name})",
        "epochs": "epochs of all trials",
        "trials": "trials begun",
    }
    figure = canvas(titles[over], results.metric)
    dots, left_out = _dots(results, curve)
    steps = curve[curve["improved"] | (np.arange(len(curve)) == len(curve) - 1)]
    hover = Hover(results, [*dots["trial"], *steps["trial"].dropna()])
    figure.add_scatter(
        x=dots[over], y=dots["value"], mode="markers", name="best of each trial",
        marker={"color": QUIET, "size": 5, "opacity": 0.55}, customdata=dots["trial"],
        text=[hover[t] for t in dots["trial"]], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=steps[over], y=steps["value"], mode="lines+markers", name="incumbent",
        line={"color": BEST, "width": 2.5, "shape": "hv"}, marker={"size": 6},
        customdata=steps["trial"], text=_incumbent_texts(steps, hover),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [{"x": [dots[axis], steps[axis]]}, {"xaxis.title.text": titles[axis]}],
        }
        for axis, label in (("time_s", "time"), ("epochs", "epochs"), ("trials", "trials"))
    ]
    active = ["time_s", "epochs", "trials"].index(over)
    figure.update_layout(updatemenus=[_button_row(buttons, active)])
    limits, told = robust_range(results, dots["value"])
    figure.update_yaxes(range=limits or _padded(dots["value"]))
    return note(figure, left_out, told)


def _padded(values: pd.Series[float]) -> list[float] | None:
    """The range of the trials' best values: the first steps of the incumbent lie far below it."""
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low)
    return [low - pad, high + pad] if pad > 0 else None


def _dots(results: Results, curve: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The report with each trial's best value, where it stands on each axis; thinned."""
    table = curve[["time_s", "epochs", "trials"]].assign(
        trial=results.reports["trial"].array,
        value=results.reports["value"].to_numpy(),
    )
    table = table[np.isfinite(table["value"])]
    order = (results.sign * table["value"]).sort_values(kind="stable").index
    first = table.loc[order].drop_duplicates("trial")
    drawn = spread(first["trial"].tolist(), MAX_POINTS)
    return first[first["trial"].isin(drawn)], _thinned(len(drawn), len(first), "trials")


def _incumbent_texts(steps: pd.DataFrame, hover: Hover) -> list[str]:
    return [
        ""
        if pd.isna(trial)
        else f"incumbent {show(value)}, seen at epoch {resource}<br>{hover[trial]}"
        for trial, value, resource in zip(
            steps["trial"].astype(object), steps["value"], steps["resource"], strict=True
        )
    ]


def _button_row(buttons: list[dict[str, Any]], active: int) -> dict[str, Any]:
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "active": active,
        "x": 1,
        "xanchor": "right",
        "y": 1.02,
        "yanchor": "bottom",
        "pad": {"t": 0, "b": 2, "l": 0, "r": 0},
    }


def learning_curves(results: Results, limit: int = MAX_CURVES) -> go.Figure:
    """Draw the metric over the epochs of each trial, coloured by what became of the trial.

    Args:
        results: The run.
        limit: Trials that are drawn at most: the best, and of the others evenly by rank.

    Raises:
        MetricError: If no trial has a finite value.
    """
    require_values(results)
    reported = set(results.reports["trial"])
    ranked = [trial for trial in ranked_trials(results) if trial in reported]
    drawn = spread(ranked, limit)
    figure = canvas("epoch", results.metric, height=420)
    table = results.reports[results.reports["trial"].isin(drawn)]
    hover = Hover(results, drawn)
    status = results.trials.set_index("trial")["status"].astype(str)
    outcomes = table["trial"].map(status)
    for outcome in [o for o in OUTCOME_COLORS if o != "completed"] + ["completed"]:
        part = table[outcomes == outcome].sort_values(["trial", "resource"], kind="stable")
        if len(part):
            _add_curves(figure, outcome, part, hover)
    for level in results.rung_levels:
        figure.add_vline(x=level, line={"color": QUIET, "width": 1, "dash": "dot"})
    limits, told = robust_range(results, table["value"])
    figure.update_yaxes(range=limits)
    return note(follow(figure), _thinned(len(drawn), len(ranked), "trials"), told)


def _add_curves(figure: go.Figure, outcome: str, table: pd.DataFrame, hover: Hover) -> None:
    """Lines; and points for the trials that reported once, of which no line would be seen."""
    reports = table.groupby("trial")["value"].transform("size")
    color = OUTCOME_COLORS[outcome]
    name = f"{outcome} ({table['trial'].nunique()})"
    lines, points = table[reports > 1], table[reports == 1]
    if len(lines):
        figure.add_scatter(
            **_gapped(lines, hover), name=name, mode="lines", opacity=0.75, connectgaps=False,
            line={"color": color, "width": 1.2}, legendgroup=outcome,
        )  # fmt: skip
    if len(points):
        figure.add_scatter(
            **_gapped(points, hover), name=name, mode="markers", opacity=0.75,
            marker={"color": color, "size": 4}, legendgroup=outcome, showlegend=lines.empty,
        )  # fmt: skip


def _gapped(table: pd.DataFrame, hover: Hover) -> dict[str, list[Any]]:
    """Curves of many trials as one trace, with gaps between them."""
    x: list[Any] = []
    y: list[Any] = []
    trials: list[Any] = []
    texts: list[Any] = []
    before = None
    for trial, resource, value in table[["trial", "resource", "value"]].to_numpy(object):
        if before is not None and trial != before:
            for cells in (x, y, trials, texts):
                cells.append(None)
        before = trial
        x.append(resource)
        y.append(value)
        trials.append(trial)
        texts.append(f"{show(value)} at epoch {resource}<br>{hover[trial]}")
    template = "%{text}<extra></extra>"
    return {"x": x, "y": y, "customdata": trials, "text": texts, "hovertemplate": template}  # type: ignore[dict-item]


def rung_funnel(results: Results) -> go.Figure:
    """Draw how many trials reached each rung level, how many went on, and the cut-off there.

    Raises:
        MetricError: If no trial has reported at a rung level.
    """
    rungs = results.rungs[results.rungs["entrants"] > 0]
    if rungs.empty:
        raise no_values(results, "trial that reached a rung level")
    figure = canvas("", "trials", height=340)
    labels = [f"epoch {level}" for level in rungs["level"]]
    texts = [
        f"<b>epoch {level}</b><br>{entrants} trials reported, {survivors} "
        f"{'finished' if level == rungs['level'].iloc[-1] else 'went on'}<br>"
        f"cut-off {show(cutoff)}<br>best {show(best)}, median {show(median)}"
        for level, entrants, survivors, cutoff, best, median in rungs.to_numpy(object)
    ]
    shared = {"x": labels, "text": texts, "hovertemplate": "%{text}<extra></extra>"}
    figure.add_bar(
        **shared, y=rungs["entrants"], name="reported there", width=0.7, textposition="none",
        marker={"color": ACCENT, "opacity": 0.35},
    )  # fmt: skip
    figure.add_bar(
        **shared, y=rungs["survivors"], name="went on, or finished", width=0.42,
        textposition="none", marker={"color": OUTCOME_COLORS["completed"]},
    )  # fmt: skip
    for label, entrants, cutoff in zip(labels, rungs["entrants"], rungs["cutoff"], strict=True):
        cut = "" if np.isnan(cutoff) else f", cut-off {show(cutoff)}"
        figure.add_annotation(
            x=label, y=entrants, text=f"{entrants}{cut}", showarrow=False, yshift=10
        )
    figure.update_layout(barmode="overlay", xaxis_type="category")
    figure.update_yaxes(range=[0, 1.15 * float(rungs["entrants"].max())])
    return figure


def comparison_curves(comparison: Comparison) -> go.Figure:
    """Draw the incumbents of several runs on one axis: the median of each group and its quartiles.

    Args:
        comparison: What `compare` returned.
    """
    grid = comparison.grid.dropna(subset="center")
    unit, unit_name = time_axis(float(grid["x"].max()) if len(grid) else 0.0)
    if comparison.over != "time_s":
        unit, unit_name = 1.0, ""
    titles = {"time_s": f"wall time ({unit_name})", "epochs": "epochs", "trials": "trials"}
    figure = canvas(titles[comparison.over], f"incumbent's {comparison.metric}", height=420)
    for i, (group, points) in enumerate(grid.groupby("group", sort=False)):
        color, x = SERIES[i % len(SERIES)], points["x"] / unit
        several = bool((points["n"] > 1).any())
        if several:
            figure.add_scatter(
                x=[*x, *x[::-1]], y=[*points["high"], *points["low"][::-1]], fill="toself",
                fillcolor=color, opacity=0.2, line={"width": 0}, hoverinfo="skip",
                showlegend=False, legendgroup=str(group),
            )  # fmt: skip
        figure.add_scatter(
            x=x, y=points["center"], mode="lines",
            line={"color": color, "width": 2.5, "shape": "hv"},
            name=escape(str(group)), legendgroup=str(group), text=_group_texts(group, points),
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    return figure


def _group_texts(group: Any, points: pd.DataFrame) -> list[str]:
    columns = points[["n", "center", "low", "high", "mean_rank"]]
    return [
        f"<b>{escape(str(group))}</b>, {int(n)} {'run' if n == 1 else 'runs'}<br>"
        f"{show(center)} ({show(low)} to {show(high)}), mean rank {rank:.2g}"
        for n, center, low, high, rank in columns.to_numpy(np.float64).tolist()
    ]


def _thinned(drawn: int, of: int, what: str) -> str:
    if drawn == of:
        return ""
    return f"{drawn} of {of} {what} are drawn: the best, and of the others evenly by rank."
