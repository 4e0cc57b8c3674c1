"""The picture of what the searcher has proposed: the model's share, and its expectations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raytune_ahu.analysis.figures_style import (
    ACCENT,
    BEST,
    QUIET,
    Hover,
    canvas,
    no_values,
    note,
    show,
    spread,
)
from raytune_ahu.analysis.suggestions import suggestion_advice, suggestions
from raytune_ahu.results import Results

MIN_EXPECTED = 10
"""Suggestions that must carry an expected improvement for it to be drawn."""
MAX_POINTS = 800
"""Suggestions that are drawn as points at most."""
_DECADES = 4  # that the axis of gains spans at most


def suggestion_curves(results: Results) -> go.Figure:
    """Draw the share of model-based suggestions, and what was expected of each beside its gain.

    Expectations are drawn where at least `MIN_EXPECTED` suggestions carry one.

    Raises:
        MetricError: If no model has proposed a trial.
    """
    table = suggestions(results)
    if not table["by_model"].any():
        raise no_values(results, "trial that a model proposed")
    expected = table["expected"].dropna()
    has_gains = len(expected) >= MIN_EXPECTED and bool((expected > 0).any())
    figure = canvas("trials begun", "model-based", height=420 if has_gains else 240)
    figure.add_scatter(
        x=table["number"], y=table["share"], mode="lines",
        name="share of model-based trials so far",
        line={"color": ACCENT, "width": 2}, hovertemplate="%{y:.0%} of %{x} trials<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    left_out = _add_gains(figure, results, table) if has_gains else ""
    return note(figure, suggestion_advice(results), left_out)


def _add_gains(figure: go.Figure, results: Results, table: pd.DataFrame) -> str:
    """Draw what was expected and gained below the share; return what is left out, in words."""
    known = table[table["expected"].notna()]
    gains = known[["expected", "gained"]].to_numpy()
    floor = float(np.nanmax(gains)) / 10**_DECADES
    drawn = gains[gains >= floor]
    hover = Hover(results, known["trial"])
    marks = {
        "expected": ("expected", {"color": QUIET, "size": 6, "opacity": 0.7}),
        "gained": ("real", {"color": BEST, "size": 8, "symbol": "diamond"}),
    }
    told = []
    for name, (kind, marker) in marks.items():
        shown = known[known[name] >= floor]
        part = shown[shown["trial"].isin(spread(shown["trial"].tolist(), MAX_POINTS, best=0.0))]
        figure.add_scatter(
            x=part["number"], y=part[name], mode="markers", name=f"{kind} gain", yaxis="y2",
            marker=marker, customdata=part["trial"], text=_texts(part, hover),
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        little = int((known[name] < floor).sum())
        told += [f"{little} of {len(known)} {kind}"] if little else []
    figure.update_layout(
        xaxis={"anchor": "y2"},
        yaxis={"domain": [0.74, 1.0]},
        yaxis2={
            "domain": [0.0, 0.64],
            "type": "log",
            "range": [math.log10(drawn.min()) - 0.2, math.log10(drawn.max()) + 0.2],
            "title": {"text": "gain over the incumbent"},
        },
    )
    return f"{' and '.join(told)} gains are zero or next to it, and not drawn." if told else ""


def _texts(part: pd.DataFrame, hover: Hover) -> list[str]:
    rows = part[["trial", "expected", "gained", "completed"]].to_numpy(object)
    return [
        f"expected {show(float(expected))}, gained "
        f"{'nothing known' if math.isnan(gained) else show(float(gained))}"
        f"{'' if completed else ' so far as it was trained'}<br>{hover[trial]}"
        for trial, expected, gained, completed in rows
    ]
