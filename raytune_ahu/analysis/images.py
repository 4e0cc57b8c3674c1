"""The pictures of a run as files for papers: `write_images`. Needs kaleido and a browser.

Kaleido draws plotly's figures in an installed Chrome or Chromium, without a network.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import plotly.graph_objects as go
from plotly.io import write_images as write_figures

from raytune_ahu.analysis.figures import template
from raytune_ahu.analysis.gallery import Picture
from raytune_ahu.errors import OptionalDependencyError, SpecError, StorageError

Format: TypeAlias = Literal["png", "svg", "pdf"]
"""Kind of file."""

WIDTH = 900
"""Width of a picture, CSS pixels; both columns of a paper, with letters to match."""
_SCALE = 2.0  # of pixels in a PNG
_HINT = (
    'pictures as files need kaleido and Chrome or Chromium: pip install "raytune-ahu[images]", and '
    "install a browser (apt install chromium, or plotly_get_chrome)"
)


def write_images(
    drawn: Iterable[Picture], folder: str | Path, formats: Sequence[Format] = ("png",)
) -> list[Path]:
    """Write each picture that could be drawn as `NAME.FORMAT`.

    They are made for papers: white ground, black letters of readable size, no buttons.

    Args:
        drawn: What `gallery.pictures` yielded.
        folder: Where; it is made if it is missing.
        formats: One or more of `png`, `svg`, `pdf`.

    Returns:
        The files.

    Raises:
        SpecError: If a format is unknown.
        OptionalDependencyError: If kaleido or a browser is missing.
        StorageError: If a file cannot be written.
    """
    for name in formats:
        if name not in get_args(Format):
            raise SpecError(f"format {name!r} must be one of {', '.join(get_args(Format))}")
    figures = {picture.name: for_paper(picture.figure) for picture in drawn if picture.figure}
    _require_kaleido()
    target = Path(folder)
    jobs = [
        (figure, target / f"{name}.{kind}") for name, figure in figures.items() for kind in formats
    ]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".images-") as unfinished:
            _draw([(figure, Path(unfinished) / path.name) for figure, path in jobs])
            for _, path in jobs:
                (Path(unfinished) / path.name).replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    return [path for _, path in jobs]


def _draw(jobs: Sequence[tuple[go.Figure, Path]]) -> None:
    """Draw all in one browser, whose start takes the most time."""
    if not jobs:
        return
    figures, paths = zip(*jobs, strict=True)
    scales = [_SCALE if path.suffix == ".png" else 1.0 for path in paths]
    try:
        write_figures(fig=list(figures), file=list(paths), scale=scales)
    except RuntimeError as error:  # what plotly makes of a browser that it cannot start
        raise OptionalDependencyError(f"{_HINT} ({str(error).strip()})") from error


def for_paper(figure: go.Figure) -> go.Figure:
    """Return a figure on white ground in black letters, without buttons."""
    printed = go.Figure(figure)
    printed.update_layout(
        template=template("paper"),
        width=WIDTH,
        height=max(360, round(1.15 * int(figure.layout.height))),
        margin={"l": 12, "r": 24, "t": 48, "b": 12},
    )
    printed.layout.updatemenus = ()
    return printed


def _require_kaleido() -> None:
    """Check that kaleido and a browser are there.

    Raises:
        OptionalDependencyError: If not; the message says how to install them.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise OptionalDependencyError(_HINT)
    if _browser() is None:
        raise OptionalDependencyError(f"{_HINT}; no browser was found on the PATH")


def _browser() -> str | None:
    """Where a browser is: `BROWSER_PATH`, which kaleido reads too, or one on the PATH."""
    told = os.environ.get("BROWSER_PATH")
    if told and Path(told).exists():
        return told
    from choreographer.browsers.chromium import Chromium  # of kaleido, which is optional

    found: str | None = Chromium.find_browser(skip_local=False)
    return found
