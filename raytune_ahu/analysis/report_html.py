"""Small pieces of HTML. Everything that comes from a run is escaped here and nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from raytune_ahu.analysis.figures_style import show
from raytune_ahu.results.frames import is_absent


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    name: str
    """Its anchor: letters, digits and hyphens."""
    title: str
    """Heading, not escaped."""
    reading: str
    """One sentence: what is seen, and how to read it; not escaped."""
    body: str
    """HTML."""

    def html(self) -> str:
        """The section as HTML."""
        return (
            f'<section id="{escape(self.name)}"><h2>{escape(self.title)}</h2>'
            f'<p class="reading">{escape(self.reading)}</p>\n{self.body}\n</section>'
        )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is its CSS class."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts; nothing where there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def preformatted(text: str) -> str:
    """Text as it stands, in a box that scrolls."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A small table; numbers are aligned to the right, absent cells are empty."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    lines = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="small"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(cell: Any) -> str:
    if cell is None or is_absent(cell):
        return "<td></td>"
    number = isinstance(cell, (int, float)) and not isinstance(cell, bool)
    kind = ' class="number"' if number else ""
    text = show(cell) if not isinstance(cell, str) else cell
    return f"<td{kind}>{escape(text)}</td>"


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """A row of short facts: name and value."""
    made = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="tiles">{made}</dl>'


def embedded(name: str, value: Any) -> str:
    """Data for the page's script; nothing in it can end the element that holds it."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'<script type="application/json" id="{escape(name)}">{safe}</script>'


def duration(seconds: float) -> str:
    """A time in words: `12 s`, `3.4 min`, `2.1 h`, `3.0 days`."""
    if math.isnan(seconds):
        return "unknown"
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
