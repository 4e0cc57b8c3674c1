"""All pictures of one run in the order of a report: `pictures`. The page and the files use it.

A picture that cannot be drawn says why instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from raytune_ahu.analysis.figures import (
    caption,
    cost_bars,
    importance_bars,
    incumbent_curve,
    learning_curves,
    parallel_coordinates,
    parameter_slice,
    rung_funnel,
    suggestion_curves,
    worker_timeline,
)
from raytune_ahu.analysis.importance import Importance, importance, marginals
from raytune_ahu.errors import AhuError, SpecError
from raytune_ahu.results import Results

SLICES = 3
"""Hyperparameters, the most important ones, that get a slice."""


@dataclass(frozen=True)
class Picture:
    """One figure with its words."""

    name: str
    """Short name: of its place in the page, and of its file."""
    title: str
    """Heading."""
    reading: str
    """One sentence: what is seen, and how to read it."""
    figure: go.Figure | None
    """The figure; None where it cannot be drawn."""
    told: str
    """What the figure leaves out; or why it cannot be drawn."""


def try_importance(
    results: Results, *, seed: int = 0, intervals: bool = True
) -> Importance | AhuError:
    """Compute the importance of the hyperparameters, or return the reason why that cannot be.

    Args:
        results: The run.
        seed: Seed of the forests.
        intervals: Whether with intervals, which take most of the time.
    """
    try:
        return importance(results, seed=seed, **({} if intervals else {"n_bootstrap": 0}))
    except AhuError as error:
        return error


def pictures(
    results: Results, found: Importance | AhuError, *, intervals: bool = True
) -> Iterator[Picture]:
    """Draw every picture of a run.

    Args:
        results: The run, in whatever state.
        found: What `try_importance` returned.
        intervals: Whether the slices get theirs.
    """
    ordered = _by_importance(results, found)
    yield picture(
        "incumbent",
        "Best value so far",
        "The line is the best value that any trial had reached by then, the points are the best "
        "of each trial; a long flat end says that the search has run dry.",
        lambda: incumbent_curve(results),
    )
    yield picture(
        "curves",
        "Learning curves",
        "Each curve is a trial, coloured by what became of it, and ends where it was stopped; "
        "stopped curves that were still catching up with the best mean that trials were judged "
        "too early (dotted lines: where they are judged).",
        lambda: learning_curves(results),
    )
    yield picture(
        "rungs",
        "Rungs",
        "The pale bar counts the trials that reported at a rung level, the solid one those that "
        "were trained further; the cut-off is the worst value among the best "
        f"1/{results.reduction_factor} there.",
        lambda: rung_funnel(results),
    )
    if results.trials["origin"].str.startswith("model@").any():
        yield picture(
            "suggestions",
            "What the model proposed",
            "The line is the share of all trials so far that a model proposed; below it, where the "
            "model says, the gain that it expected of each at full resource, and the gain over the "
            "best value of that time which the trial has really brought.",
            lambda: suggestion_curves(results),
        )
    yield picture(
        "parallel",
        "Configurations",
        "Each line is a trial on its way through its hyperparameters to its best value; where the "
        "orange lines meet, good values agree. A click in the legend hides a group.",
        lambda: parallel_coordinates(results, ordered or None),
    )
    yield picture(
        "importance",
        "Importance of the hyperparameters",
        "How much of the variation of the result each hyperparameter explains, alone and in "
        "pairs, by a random forest; the lines are 90 % intervals, and where they overlap the order "
        "is not certain.",
        lambda: importance_bars(_known(found)),
    )
    if isinstance(found, Importance):
        yield from _slices(results, ordered[:SLICES], intervals)
    yield picture(
        "workers",
        "Workers",
        "Each row is a worker, each bar a trial on it, coloured by how that ended; gaps are time "
        "in which it did nothing.",
        lambda: worker_timeline(results),
    )
    yield picture(
        "cost",
        "Where the time went",
        "The time of all workers by what came of it: trials trained to the end, stopped early, "
        "failed, not ended, epochs that were repeated after a fault, and no trial at all.",
        lambda: cost_bars(results),
    )


def picture(name: str, title: str, reading: str, draw: Callable[[], go.Figure]) -> Picture:
    """Draw a figure, or keep the reason why that cannot be."""
    try:
        figure = draw()
    except AhuError as error:
        return Picture(name, title, reading, None, str(error))
    return Picture(name, title, reading, figure, caption(figure))


def _slices(results: Results, parameters: list[str], intervals: bool) -> Iterator[Picture]:
    try:
        curves = marginals(results, **({} if intervals else {"n_bootstrap": 0}))
    except SpecError:
        curves = {}
    for i, name in enumerate(parameters, start=1):
        yield picture(
            f"slice-{i}",
            f"Along {name}",
            "Points are trials by their best value; the line with its band is the forest's mean "
            "over all values of the other hyperparameters, most of them worse than those that the "
            "search has drawn; where the density of the good is high beside that of the others, "
            "the model proposes.",
            lambda name=name: parameter_slice(  # type: ignore[misc]
                results, name, intervals=intervals, curve=curves.get(name)
            ),
        )


def _by_importance(results: Results, found: Importance | AhuError) -> list[str]:
    """Hyperparameters, the most important first; as declared where that is not known."""
    if isinstance(found, AhuError):
        return list(results.parameters)
    ranked = found.main.sort_values("importance", ascending=False)["parameter"].tolist()
    return [*ranked, *(name for name in results.parameters if name not in ranked)]


def _known(found: Importance | AhuError) -> Importance:
    if isinstance(found, AhuError):
        raise found
    return found
