"""A better search space for the next run. Start with `suggest_space`.

It is smaller where nothing good was found, larger where the good trials crowd at a bound. Only what
the trials give evidence for is proposed, with the reason; the result is to be read, edited and run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from raytune_ahu.analysis.importance import importance
from raytune_ahu.errors import SpaceError, SpecError
from raytune_ahu.results import Results
from raytune_ahu.space import SearchSpace
from raytune_ahu.space.declaration import Parameter
from raytune_ahu.space.discrete import Constant, Listed
from raytune_ahu.space.real import Real
from raytune_ahu.space.steps import Steps

_LEAST = 20  # trials with a value
_LEAST_GOOD = 5  # good trials in which a parameter is active
_GOOD = 0.2  # share of the trials that are good
_MATTERS = 0.05  # share of the variance from which a parameter is touched at all
_EVIDENCE = 0.05  # largest p-value of a change
_SHRINK = 0.8  # a range is only shrunk below this share of itself
_EDGE = 0.1  # share of a range that is its edge
_CROWDED = 1 / 3  # share of the good trials at an edge from which it is a bound that was hit
_GROWTH = 0.25  # by what share of a range it is widened

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SuggestedSpace:
    """A search space for the next run."""

    space: SearchSpace
    """The space; `space.to_file("next.yaml")` writes it."""
    changes: pd.DataFrame
    """One row a parameter: `parameter`, `was`, `becomes` (equal where it stays), `why`."""


@dataclass(frozen=True)
class _Change:
    why: str
    kept: tuple[Any, ...] | None = None  # values of a listed domain
    bounds: tuple[float, float] | None = None


def suggest_space(results: Results) -> SuggestedSpace:
    """Propose a search space for the next run.

    The good trials are the best fifth by their best value at any epoch, at least 8. A range is
    narrowed to theirs (and a margin of a tenth) where their values are distributed otherwise than
    those of the other trials (Kolmogorov-Smirnov, p < 0.05) and this is a real gain (a fifth of the
    range). It is widened by a quarter (on a logarithmic scale, of the logarithm) at a bound near
    which (within a tenth) the best one and a third of them lie, more than chance would have it
    (binomial test, p < 0.05); never below 0 where it was not, and only half of the
    way to 1 where it was a share (on a linear
    scale). A listed value is dropped that was tried but never good, where
    chance would hardly do that (Fisher's exact test, p < 0.05).

    Only parameters that explain 5 % of the variance (`importance`, alone) are touched: draws of a
    model are not independent, and crowd in parameters that do not matter as well.

    Raises:
        SpecError: If the space is not known, fewer than 20 trials have a value, or there are too
            few for importance.
    """
    if results.space is None:
        raise SpecError(f"the search space of run {results.name!r} is not known")
    ranked = results.scores()
    if len(ranked) < _LEAST:
        raise SpecError(
            f"run {results.name!r} has {len(ranked)} trials with a value; a search space is "
            f"suggested from {_LEAST} on"
        )
    space = results.space
    known = space.encode_many(results.configuration(trial) for trial in ranked["trial"])
    good = np.arange(len(ranked)) < max(8, round(_GOOD * len(ranked)))
    matters = _importance(results)
    suggested, rows = space, []
    for parameter in space.declaration.parameters:
        if isinstance(parameter.domain, Constant) or parameter.name not in space.names:
            continue
        column = known[:, space.names.index(parameter.name)]
        share = matters.get(parameter.name, 0.0)
        if share < _MATTERS:
            change = _Change(f"unchanged: it explains {share:.0%} of the variance only")
        else:
            change = _change(parameter, column, good)
        suggested, applied, why = _apply(suggested, parameter.name, change)
        was = parameter.domain.shown
        rows.append((parameter.name, was, applied or was, why))
    table = pd.DataFrame(rows, columns=["parameter", "was", "becomes", "why"])
    return SuggestedSpace(suggested, table)


def _importance(results: Results) -> dict[str, float]:
    """Share of the variance that each parameter explains, alone.

    A model proposes its later, and better, trials near each other, in parameters that do not matter
    as well: that good trials lie there and others do not is no evidence by itself.
    """
    main = importance(results, n_bootstrap=0).main
    return dict(zip(main["parameter"], main["importance"], strict=True))


def _apply(space: SearchSpace, name: str, change: _Change) -> tuple[SearchSpace, str | None, str]:
    """Make a change; return the space, the parameter's new values, and why (or why not)."""
    if name not in {parameter.name for parameter in space.declaration.parameters}:
        return space, "(dropped)", "it was only active beside a value that is dropped"
    try:
        if change.kept is not None:
            space = space.restrict(name, change.kept)
        elif change.bounds is not None:
            space = space.with_bounds(name, *change.bounds)
        else:
            return space, None, change.why
    except SpaceError as error:
        return space, None, f"unchanged: {error}"
    domains = {parameter.name: parameter.domain for parameter in space.declaration.parameters}
    return space, domains[name].shown, change.why


def _change(parameter: Parameter, column: _Floats, good: NDArray[np.bool_]) -> _Change:
    active = ~np.isnan(column)
    mine, others = column[active & good], column[active & ~good]
    if len(mine) < _LEAST_GOOD:
        return _Change(f"unchanged: active in {len(mine)} good trials only")
    domain = parameter.domain
    if isinstance(domain, Listed):
        return _drop_values(domain, mine, others)
    if isinstance(domain, Real | Steps):
        return _widen(domain, mine, column[active][0]) or _narrow(domain, mine, others)
    return _Change("unchanged: bounds of a normal distribution are left alone")


def _drop_values(domain: Listed, mine: _Floats, others: _Floats) -> _Change:
    count = len(domain.values)
    good = np.bincount((mine * count).astype(int), minlength=count)
    bad = np.bincount((others * count).astype(int), minlength=count)
    dead = [
        i
        for i in range(count)
        if good[i] == 0
        and stats.fisher_exact(
            [[0, len(mine)], [bad[i], len(others) - bad[i]]], alternative="less"
        ).pvalue
        < _EVIDENCE
    ]
    if not dead:
        return _Change("unchanged: no value can be ruled out")
    listed = domain.all_values()
    kept = tuple(listed[i] for i in range(count) if i not in dead)
    told = ", ".join(f"{listed[i]!r} ({bad[i]} tried)" for i in dead)
    return _Change(f"never among the best {len(mine)}: {told}", kept=kept)


def _widen(domain: Real | Steps, mine: _Floats, best: float) -> _Change | None:
    width = _EDGE if domain.n_values is None else max(_EDGE, 1 / domain.n_values)
    lower, upper = float(domain.lower), float(domain.upper)
    told = []
    if _crowds(mine, best, width):
        lower = _extended(domain, downwards=True)
        told.append(
            f"{np.mean(mine <= width):.0%} of the best {len(mine)} are near the lower bound"
        )
    if _crowds(1 - mine, 1 - best, width):
        upper = _extended(domain, downwards=False)
        told.append(
            f"{np.mean(mine >= 1 - width):.0%} of the best {len(mine)} are near the upper bound"
        )
    if (lower, upper) == (domain.lower, domain.upper):
        return None
    return _Change("; ".join(told), bounds=_legal(domain, lower, upper))


def _crowds(mine: _Floats, best: float, width: float) -> bool:
    """Whether good trials crowd in the lowest part of a range, more than chance would have it."""
    inside = int(np.count_nonzero(mine <= width))
    return (
        best <= width
        and inside >= _CROWDED * len(mine)
        and stats.binom.sf(inside - 1, len(mine), width) < _EVIDENCE
    )


def _extended(domain: Real | Steps, *, downwards: bool) -> float:
    lower, upper = float(domain.lower), float(domain.upper)
    if domain.log:
        factor = (upper / lower) ** _GROWTH
        return _rounded(lower / factor) if downwards else _rounded(upper * factor)
    span = upper - lower
    if downwards:
        moved = lower - _GROWTH * span
        least = 1.0 if lower >= 1 and isinstance(domain, Steps) else 0.0
        return max(moved, least) if lower >= least else moved
    if lower >= 0 and upper <= 1:
        return upper + min(_GROWTH * span, (1 - upper) / 2)
    return upper + _GROWTH * span


def _narrow(domain: Real | Steps, mine: _Floats, others: _Floats) -> _Change:
    if len(others) < _LEAST_GOOD or stats.ks_2samp(mine, others).pvalue >= _EVIDENCE:
        return _Change("unchanged: good trials lie where the others lie")
    margin = 0.1 + 1 / (len(mine) + 1)
    low = max(0.0, float(np.quantile(mine, 0.02)) - margin)
    high = min(1.0, float(np.quantile(mine, 0.98)) + margin)
    if high - low > _SHRINK:
        return _Change("unchanged: good trials are spread over most of it")
    bounds = _legal(domain, float(domain.decode(low)), float(domain.decode(high)))
    return _Change(f"all of the best {len(mine)} lie in it, with a margin", bounds=bounds)


def _legal(domain: Real | Steps, lower: float, upper: float) -> tuple[float, float]:
    """Bounds that the domain can have: multiples of its step, or few digits."""
    if isinstance(domain, Real):
        lower = domain.lower if lower == domain.lower else _rounded(lower)
        short = domain.upper if upper == domain.upper else _rounded(upper)
        return lower, upper if upper < 1 <= short else short  # a share does not become 1
    step = domain.step
    low, high = math.floor(lower / step + 1e-9), math.ceil(upper / step - 1e-9)
    if domain.log:
        low = max(low, 1)
    return domain.value(low), domain.value(high)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
