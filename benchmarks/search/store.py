"""The store of results: a CSV file, one row per simulation, to which rows are only ever appended.

So a run that was cut short goes on where it was, and slow methods can be run later.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SHARES = np.array([0.025, *np.arange(1, 21) / 20])
"""Shares of the budget at which the regret is read."""
REGRETS = tuple(f"regret_{share:.3f}" for share in SHARES)
"""Column of each share."""
KEY = (
    "suite",
    "task",
    "method",
    "seed",
    "workers",
    "budget",
    "failing",
    "resume_s",
    "charge_method",
)
"""What tells simulations apart."""
COLUMNS = (
    *KEY,
    "versions",
    "trials",
    "epochs",
    "stopped",
    "completed",
    "failed",
    "model_share",
    "suggest_cpu_s",
    "suggest_cpu_s_p95",
    "method_cpu_s",
    *REGRETS,
)
"""All columns."""


@dataclass(frozen=True)
class Simulation:
    """What identifies a row."""

    suite: str
    task: str
    method: str
    seed: int
    workers: int
    budget: float
    """Full trainings per worker."""
    failing: float = 0.0
    """Share of trials that crash."""
    resume_s: float = 0.0
    """Virtual seconds that going on with a paused trial costs."""
    charge_method: float = 0.0
    """Virtual seconds for each CPU second of the method."""

    def key(self) -> tuple[Any, ...]:
        """Its place in the store."""
        return tuple(getattr(self, name) for name in KEY)


def column(share: float) -> str:
    """Name of the column with the regret at a share of the budget."""
    return f"regret_{share:.3f}"


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row, with the header where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def read(*paths: Path) -> pd.DataFrame:
    """Read stores; of rows with the same key the last one counts.

    Raises:
        SystemExit: If none of them exists.
    """
    frames = [pd.read_csv(path) for path in paths if path.exists()]
    if not frames:
        raise SystemExit(f"no results in {', '.join(map(str, paths))}")
    rows = pd.concat(frames, ignore_index=True)
    return rows.drop_duplicates(list(KEY), keep="last").reset_index(drop=True)


def done(path: Path) -> set[tuple[Any, ...]]:
    """Keys of the rows that are there."""
    if not path.exists():
        return set()
    rows = read(path)
    return {tuple(row) for row in rows[list(KEY)].itertuples(index=False)}
