"""Words and tables that the benchmarks' reports share."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from importlib.util import find_spec

import pandas as pd

DASHED = ("Ray", "hpbandster")
"""Methods whose name contains one of these are not ours, and are drawn dashed."""


def mean_and_error(values: pd.Series) -> str:
    """Write mean and standard error."""
    error = f" ± {values.sem():.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{error}"


def markdown(frame: pd.DataFrame) -> str:
    """Write a table of strings; the index is the first column."""
    lines = [
        [str(frame.index.name), *map(str, frame.columns)],
        ["---"] * (1 + len(frame.columns)),
        *([str(name), *map(str, row)] for name, row in zip(frame.index, frame.values, strict=True)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def versions() -> str:
    """Name the versions that produced the numbers."""
    names = ["numpy", "torch", "ConfigSpace", "ray", "hpbandster"]
    installed = [f"{n} {importlib.metadata.version(n)}" for n in names if find_spec(n) is not None]
    return f"Python {platform.python_version()}, {', '.join(installed)}, {os.cpu_count()} cores"
