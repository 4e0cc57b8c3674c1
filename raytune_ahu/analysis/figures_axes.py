"""Where the values of a hyperparameter stand on an axis: numbers, logarithms, named values.

Start with `axis_of`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytune_ahu.analysis.figures_style import show
from raytune_ahu.results import Results
from raytune_ahu.results.frames import is_absent
from raytune_ahu.results.schema import CONFIG
from raytune_ahu.space.discrete import Listed
from raytune_ahu.space.domain import Domain

_Floats = NDArray[np.float64]
_LOG_SPAN = 100.0  # positive values that span so much are drawn on a logarithm, where not told
_FEW_TICKS = 4
_FEW = 12  # span of whole numbers up to which each gets a tick


@dataclass(frozen=True)
class Axis:
    """One hyperparameter as an axis."""

    name: str
    """Its flat name."""
    kind: Literal["number", "log", "category"]
    """How its values are placed; categories stand at 0, 1, 2, ..."""
    lower: float
    """Smallest value, of the space or of a trial; 0 for categories."""
    upper: float
    """Largest value; number of categories less 1."""
    labels: tuple[str, ...] = ()
    """The categories as text, not escaped."""
    whole: bool = False
    """Whether the values are a few whole numbers, between which there is nothing."""

    def place(self, values: pd.Series[Any]) -> _Floats:
        """Where values stand, in their own units or at the number of the category; else NaN."""
        if self.kind == "category":
            numbers = {label: float(i) for i, label in enumerate(self.labels)}
            return np.array([_position(v, numbers) for v in values.astype(object)], np.float64)
        return np.array(
            [math.nan if is_absent(v) or not _is_number(v) else float(v) for v in values],
            np.float64,
        )

    def unit(self, values: pd.Series[Any]) -> _Floats:
        """Where values stand between the ends of the axis, in [0, 1]; NaN where inactive."""
        return self._unit(self.place(values))

    def ticks(self) -> list[tuple[float, str]]:
        """A few marks: place in [0, 1] and text, not escaped."""
        if self.kind == "category":
            at = np.arange(len(self.labels), dtype=np.float64)
            return list(zip(self._unit(at).tolist(), self.labels, strict=True))
        if self.upper == self.lower:
            return [(0.5, show(self.lower))]
        count = int(self.upper - self.lower) + 1 if self.whole else _FEW_TICKS
        at = np.linspace(0, 1, count)
        return [(float(u), f"{self._value(u):.3g}") for u in at]

    def layout(self) -> dict[str, Any]:
        """Layout of plotly's axis that shows `place`."""
        made: dict[str, Any] = {"title": {"text": escape(self.name)}}
        if self.kind == "log":
            decades = math.log10(self.upper / self.lower)
            return {**made, "type": "log", "dtick": 1 if decades > 2.5 else "D2"}
        if self.kind == "category":
            texts = [escape(_short(label)) for label in self.labels]
            made |= {"tickvals": list(range(len(texts))), "ticktext": texts}
            made["range"] = [-0.5, len(texts) - 0.5]
        elif self.whole:
            made["dtick"] = 1
        return made

    def _unit(self, at: _Floats) -> _Floats:
        if self.upper == self.lower:
            return np.where(np.isnan(at), np.nan, 0.5)
        if self.kind == "log":
            scaled: _Floats = np.log(at / self.lower) / math.log(self.upper / self.lower)
            return scaled
        return (at - self.lower) / (self.upper - self.lower)

    def _value(self, unit: float) -> float:
        if self.kind == "log":
            return float(self.lower * (self.upper / self.lower) ** unit)
        return float(self.lower + unit * (self.upper - self.lower))


def axis_of(results: Results, parameter: str) -> Axis:
    """Choose the axis of a hyperparameter: by the search space, or where it is not known by values.

    Args:
        results: The run.
        parameter: Flat name, one of `results.parameters`.
    """
    cells = results.trials[CONFIG + parameter].astype(object)
    present = [value for value in cells if not is_absent(value)]
    domain = _domain(results, parameter)
    numeric = all(_is_number(value) for value in present)
    if isinstance(domain, Listed) or not numeric or not present:
        return _categories(parameter, present, domain)
    ends = [float(value) for value in present]
    bounds: list[Any] = [getattr(domain, end, None) for end in ("lower", "upper")]
    ends += [float(bound) for bound in bounds if _is_number(bound)]
    low, high = min(ends), max(ends)
    scale = getattr(domain, "scale", domain)
    guess = low > 0 and high / low >= _LOG_SPAN
    log = low > 0 and bool(getattr(scale, "log", guess))
    whole = not log and high - low <= _FEW and not any(isinstance(v, float) for v in present)
    return Axis(parameter, "log" if log else "number", low, high, whole=whole)


def _domain(results: Results, parameter: str) -> Domain | None:
    if results.space is None:
        return None
    for declared in results.space.declaration.parameters:
        if declared.name == parameter:
            return declared.domain
    return None


def _categories(parameter: str, present: list[Any], domain: Domain | None) -> Axis:
    declared = [show(v) for v in domain.all_values()] if isinstance(domain, Listed) else []
    seen = sorted({show(v) for v in present} - set(declared))
    labels = tuple(dict.fromkeys([*declared, *seen]))
    return Axis(parameter, "category", 0.0, float(max(0, len(labels) - 1)), labels)


def _position(value: Any, numbers: dict[str, float]) -> float:
    return math.nan if is_absent(value) else numbers.get(show(value), math.nan)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}\N{HORIZONTAL ELLIPSIS}"
