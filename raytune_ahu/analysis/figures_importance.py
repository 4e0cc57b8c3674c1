"""Pictures of what mattered: importance of hyperparameters, and slices along single ones."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from raytune_ahu.analysis.density import density
from raytune_ahu.analysis.figures_axes import Axis, axis_of
from raytune_ahu.analysis.figures_style import (
    ACCENT,
    OUTCOME_COLORS,
    QUIET,
    SECOND,
    Hover,
    canvas,
    no_values,
    note,
    ranked_trials,
    require_values,
    robust_range,
    spread,
)
from raytune_ahu.analysis.importance import Importance, marginal
from raytune_ahu.errors import SpecError
from raytune_ahu.results import At, Results
from raytune_ahu.results.frames import is_absent
from raytune_ahu.results.schema import CONFIG

MAX_BARS = 15
"""Hyperparameters that are drawn at most."""
MAX_PAIRS = 5
"""Pairs that are drawn at most."""
MAX_POINTS = 500
"""Trials that are drawn at most in a slice."""


def importance_bars(found: Importance) -> go.Figure:
    """Draw the importance of the hyperparameters and of the strongest pairs, with intervals.

    Buttons change from shares of variance to permutation importance.

    Args:
        found: What `importance` returned.
    """
    main = found.main.sort_values("importance", ascending=False).head(MAX_BARS)
    pairs = found.pairs.sort_values("importance", ascending=False).head(MAX_PAIRS)
    labels = [f"{a} × {b}" for a, b in zip(pairs["first"], pairs["second"], strict=True)]  # noqa: RUF001  # a product
    rows = len(main) + len(pairs)
    figure = canvas("share of the variance", "", height=110 + 26 * rows)
    _add_bars(figure, "alone", main["parameter"].tolist(), main, ACCENT)
    _add_bars(figure, "together with another", labels, pairs, SECOND)
    columns = {
        name.removeprefix("permutation_").replace("permutation", "importance"): main[name]
        for name in ("permutation", "permutation_ci_low", "permutation_ci_high")
    }
    names = main["parameter"].tolist()
    _add_bars(figure, "permutation", names, pd.DataFrame(columns), OUTCOME_COLORS["completed"])
    figure.data[2].visible = False
    figure.update_layout(updatemenus=[_switch()])
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticklabelstandoff=6)
    hidden = len(found.main) - len(main)
    return note(figure, f"{hidden} less important ones are not drawn." if hidden else "")


def _add_bars(
    figure: go.Figure, name: str, labels: list[str], table: pd.DataFrame, color: str
) -> None:
    value = table["importance"].to_numpy(np.float64)
    low, high = table["ci_low"].to_numpy(np.float64), table["ci_high"].to_numpy(np.float64)
    texts = [
        f"<b>{escape(label)}</b>: {v:.3g}" + ("" if np.isnan(a) else f" ({a:.3g} to {b:.3g})")
        for label, v, a, b in zip(labels, value, low, high, strict=True)
    ]
    figure.add_bar(
        x=value, y=[escape(label) for label in labels], orientation="h", name=name, width=0.62,
        marker={"color": color}, text=texts, textposition="none",
        hovertemplate="%{text}<extra></extra>",
        error_x={
            "type": "data", "symmetric": False, "array": np.maximum(high - value, 0),
            "arrayminus": np.maximum(value - low, 0), "color": QUIET, "thickness": 1.4, "width": 4,
        },
    )  # fmt: skip


def _switch() -> dict[str, Any]:
    labels = ("variance", "permutation")
    views = ([True, True, False], [False, False, True])
    titles = (
        "share of the variance",
        "growth of the squared error when shuffled, as a share of the variance",
    )
    return {
        "type": "buttons",
        "direction": "right",
        "x": 1,
        "xanchor": "right",
        "y": 1.02,
        "yanchor": "bottom",
        "pad": {"t": 0, "b": 2, "l": 0, "r": 0},
        "buttons": [
            {
                "label": label,
                "method": "update",
                "args": [{"visible": view}, {"xaxis.title.text": title}],
            }
            for label, view, title in zip(labels, views, titles, strict=True)
        ],
    }


def parameter_slice(
    results: Results,
    parameter: str,
    *,
    at: At = "any",
    intervals: bool = True,
    curve: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw the trials along one hyperparameter, its marginal effect, and what the model proposes.

    The densities, on an axis of their own, are those that BOHB compares: of the good and of the
    other configurations; it proposes where the first is high beside the second.

    Args:
        results: The run.
        parameter: Flat name of a hyperparameter.
        at: Which value of a trial counts for the marginal, see `Results.scores`.
        intervals: Whether the marginal gets its interval, which takes most of the time.
        curve: The marginal, as `importance.marginals` has it; None: it is computed.

    Raises:
        SpecError: If there is no such hyperparameter.
        MetricError: If no trial in which it is active has a finite value.
    """
    if parameter not in results.parameters:
        raise SpecError(
            f"hyperparameter {parameter!r} is not in run {results.name!r}; there are "
            f"{', '.join(results.parameters)}"
        )
    require_values(results)
    axis = axis_of(results, parameter)
    figure = canvas("", results.metric, height=360)
    told = _add_trials(figure, results, axis)
    if curve is None:
        curve = _marginal_of(results, parameter, at, intervals)
    if curve is not None:
        _add_marginal(figure, axis, curve)
    _add_density(figure, results, axis)
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(**axis.layout())
    return note(figure, *told)


def _add_trials(figure: go.Figure, results: Results, axis: Axis) -> tuple[str, ...]:
    column = CONFIG + axis.name
    trials = results.trials.set_index("trial", drop=False).loc[ranked_trials(results)]
    active = trials[~trials[column].map(is_absent).astype(bool) & trials["best_value"].notna()]
    if active.empty:
        raise no_values(results, f"trial with {axis.name} and a finite value")
    drawn = active.loc[spread(active.index.tolist(), MAX_POINTS)]
    hover = Hover(results, drawn["trial"])
    x = axis.place(drawn[column])
    if axis.kind == "category" or axis.whole:
        x = x + 0.3 * (((np.arange(len(x)) * 0.6180339887) % 1) - 0.5)  # golden ratio: no overlap
    status = drawn["status"].astype(str)
    figure.add_scatter(
        x=x, y=drawn["best_value"], mode="markers", name="trials", customdata=drawn["trial"],
        marker={"color": [OUTCOME_COLORS[s] for s in status], "size": 6, "opacity": 0.7},
        text=[hover[t] for t in drawn["trial"]], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    limits, told = robust_range(results, drawn["best_value"])
    figure.update_yaxes(range=limits)
    thinned = f"{len(drawn)} of {len(active)} trials are drawn." if len(drawn) < len(active) else ""
    inactive = len(trials) - len(active)
    left_out = (
        f"{inactive} of {len(trials)} trials are left out: it is inactive there, or they have no "
        "value."
        if inactive
        else ""
    )
    return thinned, left_out, told


def _marginal_of(results: Results, parameter: str, at: At, intervals: bool) -> pd.DataFrame | None:
    """The marginal; None: too few trials for a model of them, only they themselves are drawn."""
    try:
        return marginal(results, parameter, at=at, **({} if intervals else {"n_bootstrap": 0}))
    except SpecError:
        return None


def _add_marginal(figure: go.Figure, axis: Axis, table: pd.DataFrame) -> None:
    x = axis.place(table["value"])
    texts = [
        f"mean over the other hyperparameters: {mean:.4g}"
        + ("" if np.isnan(low) else f" ({low:.4g} to {high:.4g})")
        for mean, low, high in table[["mean", "ci_low", "ci_high"]].to_numpy(np.float64)
    ]
    shared = {"name": "marginal mean", "text": texts, "hovertemplate": "%{text}<extra></extra>"}
    if axis.kind == "category":
        figure.add_scatter(
            x=x, y=table["mean"], mode="markers", **shared,
            marker={"symbol": "line-ew-open", "size": 26, "color": ACCENT, "line": {"width": 3}},
            error_y={"type": "data", "symmetric": False, "array": table["ci_high"] - table["mean"],
                     "arrayminus": table["mean"] - table["ci_low"], "color": ACCENT},
        )  # fmt: skip
        return
    if table["ci_low"].notna().any():
        _add_band(figure, x, table)
    figure.add_scatter(
        x=x, y=table["mean"], mode="lines", line={"color": ACCENT, "width": 2.5}, **shared
    )


def _add_band(figure: go.Figure, x: NDArray[np.float64], table: pd.DataFrame) -> None:
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*table["ci_high"], *table["ci_low"][::-1]], fill="toself",
        fillcolor=ACCENT, opacity=0.18, line={"width": 0}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _add_density(figure: go.Figure, results: Results, axis: Axis) -> None:
    table = density(results, axis.name)
    if table.empty:
        return
    x = axis.place(table["value"])
    for column, name, color in (
        ("good", "density of the good", SECOND),
        ("other", "of the others", QUIET),
    ):
        shared = {"x": x, "y": table[column], "name": name, "yaxis": "y2", "hoverinfo": "skip"}
        if axis.kind == "category":
            figure.add_bar(**shared, marker={"color": color}, opacity=0.35)
        else:
            line = {"color": color, "width": 1.5, "dash": "dot"}
            figure.add_scatter(**shared, mode="lines", line=line)
    figure.update_layout(
        yaxis2={
            "overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero",
            "title": {"text": "density of the model"}, "showticklabels": False,
            "range": [0, 2.4 * float(table[["good", "other"]].to_numpy().max())],
        }
    )  # fmt: skip
