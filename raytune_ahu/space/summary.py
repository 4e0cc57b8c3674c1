"""A space as a table of aligned text."""

from __future__ import annotations

from raytune_ahu.space.conditions import describe
from raytune_ahu.space.declaration import Declaration, Parameter

_HEADINGS = ("parameter", "domain", "values", "default", "prior", "active when")
_WIDEST = 60


def summary_table(declaration: Declaration) -> str:
    """One line per parameter, then one per forbidden combination.

    A column without content is left out; cells are cut at 60 characters.
    """
    rows = [_HEADINGS, *(_row(parameter) for parameter in declaration.parameters)]
    filled = [i for i in range(len(_HEADINGS)) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in filled}
    lines = ["  ".join(row[i].ljust(widths[i]) for i in filled).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * widths[i] for i in filled))
    lines += [f"forbidden: {describe((clause,))}" for clause in declaration.forbidden]
    return "\n".join(lines)


def _row(parameter: Parameter) -> tuple[str, ...]:
    domain = parameter.domain
    default = repr(domain.start) if "default" in domain.entry() else ""
    prior = "" if parameter.belief is None else str(parameter.belief)
    condition = "" if parameter.condition is None else describe(parameter.condition)
    cells = (parameter.name, domain.kind, domain.shown, default, prior, condition)
    return tuple(text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..." for text in cells)
