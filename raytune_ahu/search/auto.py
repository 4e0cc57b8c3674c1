"""`search="auto"`: which searcher suits a space and a budget, with the reason in one sentence.

Start with `choose_search`. A specification asks it once, when it is made, and records the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from raytune_ahu.errors import SpecError
from raytune_ahu.search.gp import GpSettings
from raytune_ahu.search.grid import POINTS_PER_PARAMETER
from raytune_ahu.search.registry import SEARCHERS
from raytune_ahu.space.discrete import Listed

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

AUTO = "auto"
"""The name that stands for a choice."""
MODEL = "gp"
"""BOHB's model, unless an option of another one is given: it uses all rungs at once, and so learns
sooner than the density model, which needs 2 (d + 1) trials at one rung."""
_MODELLED = 2
"""With fewer trials beyond what the model needs, it comes when nearly all of them have begun: they
are random draws, and the run may be gone on with."""
_FEW_CONFIGURATIONS = 30
"""Where only the time is limited, a space of no more configurations than this is tried whole."""
_KDE_OPTIONS = ("top_fraction", "bandwidth_factor", "min_bandwidth", "min_points_in_model")
"""Options that only the density model reads."""
_COUNTED_WITH_CLAUSES = 100_000
"""Combinations at most, of which the forbidden ones are left out by looking at each."""
_AUTO_OPTIONS = ("model", "shuffle", "points_per_parameter")
"""Options that `choose_search` may set by itself."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    search: str
    """A key of `SEARCHERS`."""
    reason: str
    """One sentence that begins with what was chosen."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the searcher, the user's among them."""


def choose_search(
    space: SearchSpace,
    *,
    num_samples: int | None,
    max_epochs: int,
    n_prior_trials: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Choice:
    """Choose a searcher; the first rule that holds decides.

    1. A `grid_search` parameter: `grid`, the only one that takes it.
    2. No more configurations than trials (than 30, if only the time is limited), and none known
       from earlier runs: `grid` in a random order, so each is tried once.
    3. Else `bohb` with `model="gp"`, or with the density model if one of its options is given.

    Args:
        space: The search space.
        num_samples: Trials at most; None: as many as the time allows.
        max_epochs: Epochs of a full training.
        n_prior_trials: Trials of earlier runs that the search begins with.
        options: What the user wants of the searcher, by its keywords.

    Raises:
        SpecError: If the searcher that is chosen does not have one of the options.
    """
    given = dict(options or {})
    if space.grid_search_names:
        name = space.grid_search_names[0]
        why = f"for the grid_search parameter {name!r}: all its values"
        points = given.get("points_per_parameter", POINTS_PER_PARAMETER)
        if any(not isinstance(p.domain, Listed) for p in space.declaration.parameters):
            why += f", and {points} of each number (points_per_parameter)"
        return _choice("grid", why, {}, given)
    limit = _FEW_CONFIGURATIONS if num_samples is None else num_samples
    size = None if n_prior_trials else count_configurations(space, limit)
    if size is not None:
        why = f"for a space of {_plural(size, 'configuration')}: each is tried once"
        return _choice("grid", why, {"shuffle": True, **_all_values(space)}, given)
    if num_samples is None:
        trials = "as many trials as the time allows"
    else:
        trials = _plural(num_samples, "trial")
    known = _known(space, n_prior_trials)
    engine = given.get("engine", "native")
    of_density = [name for name in _KDE_OPTIONS if name in given]
    model = given.get("model", "kde" if of_density or engine != "native" else MODEL)
    told = f"with model {model}" if engine == "native" else f"with the engine {engine}"
    if of_density and "model" not in given:
        told += f", which has the option {of_density[0]}"
    source = "rung" if max_epochs > 1 else "trial"
    needed = given.get("min_observations", GpSettings().min_observations)
    if given.get("random_fraction") == 1:
        learns = "random draws only, as random_fraction=1 says"
    elif (
        model == MODEL
        and num_samples is not None
        and num_samples < needed + _MODELLED
        and not n_prior_trials
    ):
        draws = "random draws" if space.prior is None else "random draws and your prior"
        learns = f"{draws} until {needed} results are in"
    else:
        learns = " and ".join([f"it learns from every {source}", *known])
    varying = sum(parameter.domain.n_values != 1 for parameter in space.declaration.parameters)
    why = f"{told}, for {_plural(varying, 'parameter')} and {trials}: {learns}"
    return _choice("bohb", why, {"model": model}, given)


def count_configurations(space: SearchSpace, limit: int) -> int | None:
    """Count the configurations of a space, if there are at most `limit`; else None.

    What is dear to count, because of forbidden combinations, counts as more.
    """
    sizes = [parameter.domain.n_values for parameter in space.declaration.parameters]
    bounded = [size for size in sizes if size is not None and size <= limit]
    if len(bounded) < len(sizes):
        return None
    if space.declaration.forbidden and math.prod(bounded) > _COUNTED_WITH_CLAUSES:
        return None
    grid = space.grid(max(bounded, default=1))
    count = sum(1 for _ in islice(grid, limit + 1))
    return count if count <= limit else None


def same_wish(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two choices were made with the same options of the user, as far as they tell."""
    one, other = (
        {name: value for name, value in options.items() if name not in _AUTO_OPTIONS}
        for options in (first, second)
    )
    return one == other


def _all_values(space: SearchSpace) -> dict[str, Any]:
    """The option by which a grid has every value of the parameters that do not list theirs."""
    sizes = [
        parameter.domain.n_values or 0
        for parameter in space.declaration.parameters
        if not isinstance(parameter.domain, Listed)
    ]
    return {"points_per_parameter": max(2, *sizes)} if sizes else {}


def _known(space: SearchSpace, n_prior_trials: int) -> list[str]:
    """What the search knows at its beginning, in words."""
    known = ["your prior"] if space.prior is not None else []
    if n_prior_trials:
        known.append(_plural(n_prior_trials, "earlier trial"))
    return [f"begins with {' and '.join(known)}"] if known else []


def _choice(search: str, why: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> Choice:
    """Join the options of both; the user's win.

    Raises:
        SpecError: If one is not an option of the searcher.
    """
    names = SEARCHERS[search].option_names
    for name in given:
        if name in names:
            continue
        owners = [key for key, kind in SEARCHERS.items() if name in kind.option_names]
        if owners:
            raise SpecError(
                f"search option {name!r} is unknown to search={search!r}, which auto chose {why}; "
                f"name the search that has it: search={owners[0]!r}, or --search {owners[0]}"
            )
        known = "; ".join(
            f"{key}: {', '.join(kind.option_names)}"
            for key, kind in SEARCHERS.items()
            if kind.option_names
        )
        raise SpecError(
            f"search option {name!r} is unknown to search={search!r}, which auto chose {why}; "
            f"options are, with --search named, {known}"
        )
    return Choice(search, f"{search} {why}", {**own, **given})


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
