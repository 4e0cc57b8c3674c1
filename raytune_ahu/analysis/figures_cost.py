"""Pictures of what a run has cost: which worker did what, when, and what came of the time."""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go

from raytune_ahu.analysis.cost import cost
from raytune_ahu.analysis.figures_style import (
    OUTCOME_COLORS,
    QUIET,
    Hover,
    canvas,
    no_values,
    note,
    time_axis,
)
from raytune_ahu.results import Results

MAX_STAYS = 2500
"""Stays of trials on workers that are drawn one by one."""
_PIXELS = 1500  # of a wide page
_LABELLED_ROWS = 40


def worker_timeline(results: Results) -> go.Figure:
    """Draw which trial had which worker when, coloured by how its stay there ended.

    Of very many stays, neighbours with the same end are drawn as one bar.

    Raises:
        MetricError: If no trial has begun.
    """
    if results.intervals.empty:
        raise no_values(results, "trial that began")
    unit, unit_name = time_axis(results.wall_s)
    stays = results.intervals.assign(row=_rows(results.intervals), count=1)
    order = list(dict.fromkeys(stays["row"]))
    drawn = stays if len(stays) <= MAX_STAYS else _merged(stays)
    hover = Hover(results, drawn["trial"])
    height = max(200, 110 + min(24 * len(order), 900))
    figure = canvas(f"time since the start ({unit_name})", "", height=height)
    for ended, color in OUTCOME_COLORS.items():
        part = drawn[drawn["ended"] == ended]
        if part.empty:
            continue
        figure.add_bar(
            base=part["start_s"] / unit, x=(part["end_s"] - part["start_s"]) / unit, y=part["row"],
            orientation="h", name=f"{ended} ({part['count'].sum()})", customdata=part["trial"],
            marker={"color": color, "line": {"width": 0.5, "color": "rgba(127,127,127,0.6)"}},
            text=_texts(part, hover), textposition="none", hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    for start in results.sessions["start_s"].iloc[1:]:
        figure.add_vline(x=start / unit, line={"color": QUIET, "width": 1.5, "dash": "dash"})
    named = order[:: len(order) // (_LABELLED_ROWS + 1) + 1]
    figure.update_layout(barmode="overlay", bargap=0.15)
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=order, autorange="reversed",
        tickvals=named, showgrid=False, ticklabelstandoff=6,
    )  # fmt: skip
    return note(figure, _left_out(len(drawn), len(stays)), _resumed(len(results.sessions)))


def _merged(stays: pd.DataFrame) -> pd.DataFrame:
    """Join neighbours on a worker that ended alike, where the gap could not be seen anyway."""
    ordered = stays.sort_values(["row", "start_s"], kind="stable")
    ordered["held_s"] = ordered["end_s"] - ordered["start_s"]
    before = ordered.shift()
    unseen = (ordered["end_s"].max() - ordered["start_s"].min()) / _PIXELS
    joins = (
        (ordered["row"] == before["row"])
        & (ordered["ended"].astype(str) == before["ended"].astype(str))
        & (ordered["start_s"] - before["end_s"] < unseen)
    )
    bars = ordered.groupby((~joins).cumsum().to_numpy(), sort=False)
    longest = ordered.loc[bars["held_s"].idxmax()]
    return longest.assign(
        start_s=bars["start_s"].min().to_numpy(),
        end_s=bars["end_s"].max().to_numpy(),
        count=bars.size().to_numpy(),
    )


def _left_out(drawn: int, of: int) -> str:
    if drawn == of:
        return ""
    return (
        f"{of} stays on a worker are drawn as {drawn} bars: neighbours that ended alike are joined."
    )


def _resumed(sessions: int) -> str:
    return "" if sessions < 2 else "A dashed line marks each time that the run was resumed."


def _rows(stays: pd.DataFrame) -> pd.Series[str]:
    """Name of the row of each stay: the host, and which of its workers it was."""
    hosts = stays["node"].fillna("unknown host").astype(str)
    workers = stays["worker"].astype(object).where(stays["worker"].notna(), "?")
    number = workers.groupby(hosts).transform(lambda pids: pd.factorize(pids)[0] + 1)
    return (hosts.map(escape) + " #" + number.astype(str)).astype(str)


def _texts(stays: pd.DataFrame, hover: Hover) -> list[str]:
    columns = ["trial", "start_s", "end_s", "from_resource", "to_resource", "worker", "count"]
    texts = []
    for trial, begin, until, start, end, worker, count in stays[columns].to_numpy(object):
        told = f"{until - begin:.1f} s on worker {worker}<br>"
        if count > 1:
            texts.append(f"{count} trials, {told}the longest:<br>{hover[trial]}")
        else:
            epochs = f"epochs {start + 1} to {end}" if end > start else "no epoch"
            texts.append(f"{epochs}, {told}{hover[trial]}")
    return texts


def cost_bars(results: Results) -> go.Figure:
    """Draw the workers' time by what came of it.

    Raises:
        MetricError: If no worker has worked yet.
    """
    table = cost(results)
    table = table[table["worker_s"] > 0]
    if table.empty:
        raise no_values(results, "time of a worker on record")
    unit, unit_name = time_axis(float(table["worker_s"].max()))
    figure = canvas(f"time of workers ({unit_name})", "", height=90 + 42 * len(table))
    gpu = bool(table["gpu_s"].sum() > 0)
    texts = [
        f"<b>{outcome}</b>: {share:.0%}<br>{worker_s:.1f} s of workers"
        f"{f', {gpu_s:.1f} s of GPUs' if gpu else ''}<br>{trials} trials, {epochs} epochs"
        for outcome, trials, epochs, worker_s, gpu_s, share in table.to_numpy(object)
    ]
    figure.add_bar(
        x=table["worker_s"] / unit, y=table["outcome"], orientation="h", width=0.65,
        marker={"color": [OUTCOME_COLORS[o] for o in table["outcome"]]},
        text=[
            f"{share:.0%}, {float(seconds) / unit:.3g} {unit_name}"
            for share, seconds in zip(table["share"], table["worker_s"], strict=True)
        ],
        textposition="auto", hovertext=texts, hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False, cliponaxis=False,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, ticklabelstandoff=6)
    figure.update_xaxes(range=[0, 1.3 * float(table["worker_s"].max()) / unit])
    return figure
