"""The report of a run as one page: `write_report`.

The page needs no network: plotly's script, the data, styles and the page's own script are in the
file, and its content security policy forbids everything else. Figures are drawn when they come
into view. Its parts are in `report_sections`, `gallery` and `report_table`; the page's own script
and styles in the folder `page`.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from raytune_ahu.analysis.compare import compare
from raytune_ahu.analysis.figures import comparison_curves, template
from raytune_ahu.analysis.gallery import Picture, picture, pictures, try_importance
from raytune_ahu.analysis.importance import Importance
from raytune_ahu.analysis.progress import Over
from raytune_ahu.analysis.report_html import Section, embedded, paragraph
from raytune_ahu.analysis.report_sections import comparison_table, making, summary
from raytune_ahu.analysis.report_table import table_data
from raytune_ahu.errors import AhuError, SpecError, StorageError
from raytune_ahu.results import Results


def write_report(
    results: Results,
    path: str | Path,
    *,
    others: Sequence[Results] = (),
    groups: Sequence[str] | None = None,
    over: Over = "time_s",
    extra: Sequence[Section] = (),
    found: Importance | AhuError | None = None,
    intervals: bool = True,
    refresh_s: int | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of a run, in whatever state it is.

    What cannot be said of the run (too few trials, nothing but failures) is replaced by the reason.

    Args:
        results: The run.
        path: The file; its folder is made if it is missing. It is replaced at once, never half
            written.
        others: More runs with the same metric, to which this one is compared.
        groups: A label for each run, this one first, see `compare`.
        over: What the runs are compared over.
        extra: More sections, before the trial table.
        found: What `gallery.try_importance` gave for the run; None: it is computed here.
        intervals: Whether importance and slices get intervals, which take most of the time; a
            page that is written again and again while the run goes on had better not.
        refresh_s: Seconds after which the page loads itself anew, for a run that is going on.
        seed: Seed of the forests and of the resampling.

    Raises:
        SpecError: If `refresh_s` is not positive.
        StorageError: If the file cannot be written.
    """
    if refresh_s is not None and refresh_s < 1:
        raise SpecError(f"refresh_s={refresh_s} must be at least 1 second")
    if found is None:
        found = try_importance(results, seed=seed, intervals=intervals)
    drawn = list(pictures(results, found, intervals=intervals))
    sections = [summary(results, found, seed=seed), *_figure_sections(drawn)]
    if others:
        compared, section = _comparison([results, *others], groups, over)
        drawn.append(compared)
        sections.insert(1, section)
    sections += [*extra, _trial_section(results), making(results)]
    data = [_figure_data(p.name, p.figure) for p in drawn if p.figure is not None]
    data.append(embedded("trials-data", table_data(results)))
    data.append(embedded("templates", {t: template(t) for t in ("light", "dark")}))
    return _write(Path(path), _page(results, sections, data, refresh_s))


def _figure_sections(drawn: Sequence[Picture]) -> list[Section]:
    """One section a figure; the slices share one."""
    slices = [p for p in drawn if p.name.startswith("slice-")]
    sections = [_figure_section(p) for p in drawn if not p.name.startswith("slice-")]
    if slices:
        body = "".join(f"<div><h3>{escape(p.title)}</h3>{_figure_body(p)}</div>" for p in slices)
        title = "Along the most important hyperparameters"
        after = [s.name for s in sections].index("importance") + 1
        section = Section("slices", title, slices[0].reading, f'<div class="grid">{body}</div>')
        sections.insert(after, section)
    return sections


def _figure_section(drawn: Picture) -> Section:
    return Section(drawn.name, drawn.title, drawn.reading, _figure_body(drawn))


def _figure_body(drawn: Picture) -> str:
    if drawn.figure is None:
        return paragraph(f"Not drawn: {drawn.told}.", "why")
    height = int(drawn.figure.layout.height)
    width = (drawn.figure.layout.meta or {}).get("min_width", 0)
    place = (
        f'<div class="scroll"><div class="figure" data-figure="{escape(drawn.name)}" role="img" '
        f'aria-label="{escape(drawn.title)}" '
        f'style="min-height:{height}px;min-width:{width}px"></div></div>'
    )
    return place + (paragraph(drawn.told, "caption") if drawn.told else "")


def _figure_data(name: str, figure: go.Figure) -> str:
    bare = go.Figure(figure)
    bare.update_layout(template=None)  # the page puts in that of its theme
    return embedded(f"figure-{name}", bare.to_json())


def _comparison(
    runs: Sequence[Results], groups: Sequence[str] | None, over: Over
) -> tuple[Picture, Section]:
    title = "Compared with other runs"
    reading = (
        "Each line is the median incumbent of a group of runs, the band its quartiles; all end "
        "where the shortest run ends, so the budget is equal, and rank 1 is the best."
    )
    try:
        comparison = compare(runs, groups=groups, over=over)
    except AhuError as error:
        failed = Picture("comparison", title, reading, None, str(error))
        return failed, _figure_section(failed)
    drawn = picture("comparison", title, reading, lambda: comparison_curves(comparison))
    body = _figure_body(drawn) + comparison_table(comparison)
    return drawn, Section("comparison", title, reading, body)


def _trial_section(results: Results) -> Section:
    reading = (
        "A click on a heading sorts, a click on a row shows all of the trial; the box keeps the "
        "rows in which every word occurs, and a word like epochs<9 compares a column."
    )
    body = (
        '<div id="trials-table"><noscript>The table needs JavaScript.</noscript></div>'
        if len(results.trials)
        else paragraph("There are no trials yet.", "why")
    )
    return Section("trials", "Trials", reading, body)


def _page(
    results: Results, sections: Sequence[Section], data: Sequence[str], refresh_s: int | None
) -> str:
    folder = files("raytune_ahu.analysis") / "page"
    asset = {name: (folder / name).read_text("utf-8") for name in _ASSETS}
    refresh = "" if refresh_s is None else f'<meta http-equiv="refresh" content="{refresh_s}">'
    links = "".join(
        f'<a href="#{escape(s.name)}" title="{escape(s.title)}">{escape(s.name.capitalize())}</a>'
        for s in sections
    )
    state = "going on, or its driver was killed" if results.ended is None else results.ended
    return Template(asset["report.html"]).substitute(
        title=escape(results.name),
        metric=escape(results.metric),
        mode="minimised" if results.mode == "min" else "maximised",
        state=escape(state),
        refresh=refresh,
        links=links,
        sections="\n".join(section.html() for section in sections),
        data="\n".join(data),
        style=asset["report.css"],
        script="\n".join(asset[name] for name in _ASSETS if name.endswith(".js")),
        plotly=get_plotlyjs(),
    )


_ASSETS = ("report.html", "report.css", "figures.js", "table.js", "page.js")


def _write(path: Path, page: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path
