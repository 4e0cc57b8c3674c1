"""The references with their settings chosen by validation, so that none is beaten unfairly.

`tune_references` tries a small grid for each (under a minute on MovieLens-100K, in all) and keeps
the best. What is reported of them on the test comes from the same `rank` as of any other model.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from raytune_ahu.errors import SpecError
from trainables.data.user_items import UserItems
from trainables.ials import IALS
from trainables.metrics import Scores
from trainables.references import EASE, REFERENCES, ItemKNN, Popularity, Reference, refusal

EASE_L2 = (50.0, 100.0, 250.0, 500.0, 1000.0)
"""Penalties tried for EASE."""
KNN_K = (10, 20, 50, 100, 200, None)
"""Numbers of neighbours tried for ItemKNN."""
KNN_SHRINKAGE = (0.0, 10.0)
"""Shrinkages tried with each of them."""
IALS_SETTINGS = (
    (64, 0.003, 0.3),
    (64, 0.01, 0.3),
    (64, 0.01, 0.6),
    (128, 0.005, 0.3),
    (128, 0.01, 0.3),
    (256, 0.01, 0.3),
)
"""(d, reg, alpha0) tried for iALS; the number of sweeps is chosen as well."""
IALS_SWEEPS = 16
"""Most sweeps of iALS."""
IALS_PATIENCE = 4
"""Sweeps of iALS without a better value after which a setting is given up."""


@dataclass(frozen=True)
class TunedReference:
    """The best setting of one reference."""

    name: str
    """Which reference."""
    settings: dict[str, int | float | None]
    """Its hyperparameters."""
    value: float
    """Its validation value."""
    scores: Scores
    """The fitted model."""
    tried: int
    """How many fits were compared; each sweep of iALS is one."""
    cpu_s: float
    """CPU seconds of all of them, evaluation included."""


@dataclass(frozen=True)
class TunedReferences:
    """What `tune_references` returns."""

    references: list[TunedReference]
    """In the order of `REFERENCES`."""
    skipped: list[str]
    """A line for each reference that could not be fitted: its name and the reason."""


def tune_references(
    train: UserItems,
    evaluate: Callable[[Scores], float],
    *,
    names: Sequence[str] = REFERENCES,
    say: Callable[[str], None] | None = None,
    seed: int = 0,
) -> TunedReferences:
    """Fit each reference with several settings and keep the best of each by validation.

    Args:
        train: Training items, on the CPU.
        evaluate: The validation value of a model, higher is better. It should give `train` itself
            as the history, for which iALS need not solve the users anew.
        names: Which references, of `REFERENCES`.
        say: Receives a line for each setting of iALS, which take longest, and for each reference.
        seed: Root seed of the start of iALS.

    Raises:
        SpecError: If a name is unknown.
    """
    for name in names:
        if name not in REFERENCES:
            raise SpecError(f"reference {name!r} must be one of {', '.join(REFERENCES)}")
    references, skipped = [], []
    for name in (known for known in REFERENCES if known in names):
        reason = refusal(train.n_items) if name in ("itemknn", "ease") else None
        if reason:
            skipped.append(f"{name}: {reason}")
        else:
            references.append(_best(name, train, seed, evaluate, say))
        if say:
            say(skipped[-1] if reason else _line(references[-1]))
    return TunedReferences(references, skipped)


def _best(
    name: str,
    train: UserItems,
    seed: int,
    evaluate: Callable[[Scores], float],
    say: Callable[[str], None] | None,
) -> TunedReference:
    start = time.process_time()
    best, best_value, tried = None, -math.inf, 0
    for stages in _settings(name, train, seed):
        highest, stale, top = -math.inf, 0, None
        for fitted in stages:
            value = evaluate(fitted.scores)
            value = -math.inf if math.isnan(value) else value
            tried += 1
            if best is None or value > best_value:
                best, best_value = fitted, value
            stale += 1
            if top is None or value > highest:
                highest, stale, top = value, 0, fitted.settings
            if stale == IALS_PATIENCE:
                break
        if say and name == "ials" and top:
            say(_progress(top, highest))
    assert best is not None
    cpu_s = time.process_time() - start
    return TunedReference(name, best.settings, best_value, best.scores, tried, cpu_s)


def _settings(name: str, train: UserItems, seed: int) -> Iterator[Iterator[Reference]]:
    """Yield for each setting its fitted models: one, or for iALS one after each sweep."""
    if name == "popularity":
        yield _once(Popularity(), train)
    elif name == "itemknn":
        for k, shrinkage in itertools.product(KNN_K, KNN_SHRINKAGE):
            if k is None or k < train.n_items:
                yield _once(ItemKNN(k, shrinkage), train)
    elif name == "ease":
        for l2 in EASE_L2:
            yield _once(EASE(l2), train)
    else:
        for d, reg, alpha0 in IALS_SETTINGS:
            yield _sweeps(IALS(d, reg, alpha0, IALS_SWEEPS, seed), train)


def _once(model: Reference, train: UserItems) -> Iterator[Reference]:
    model.fit(train)
    yield model


def _sweeps(model: IALS, train: UserItems) -> Iterator[Reference]:
    for sweep in model.run(train):
        stage = copy.copy(model)  # a sweep makes new factors, so the old ones stay as they are
        stage.sweeps = sweep
        yield stage


def _progress(settings: dict[str, int | float | None], value: float) -> str:
    shown = ", ".join(f"{name}={settings[name]}" for name in ("d", "reg", "alpha0"))
    sweeps = settings["sweeps"]
    return f"ials {shown}: {value:.4f} after {sweeps} sweep{'' if sweeps == 1 else 's'}"


def _line(found: TunedReference) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in found.settings.items())
    return f"{found.name}: {found.value:.4f} in validation ({settings or 'no settings'})"
