"""The report of `bench_driver.py`: what a trial costs, how that grows, and ours over stock's."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata

import pandas as pd

TABLE = {
    "case": ("case", "{}"),
    "trials": ("trials", "{:,}"),
    "epochs": ("epochs", "{:,}"),
    "CPU ms / trial": ("cpu_ms_per_trial", "{:.2f}"),
    "CPU ms / epoch": ("cpu_ms_per_epoch", "{:.2f}"),
    "wall ms / trial": ("wall_ms_per_trial", "{:.1f}"),
    "wall ms / epoch": ("wall_ms_per_epoch", "{:.1f}"),
    "call: CPU s": ("call_cpu_s", "{:.1f}"),
    "call: wall s": ("call_wall_s", "{:.1f}"),
    "process: CPU s": ("process_cpu_s", "{:.1f}"),
    "end: CPU s": ("end_cpu_s", "{:.2f}"),
    "peak RSS MB": ("peak_rss_mb", "{:.0f}"),
    "MB left": ("disk_mb", "{:.1f}"),
    "files left": ("files", "{:,}"),
}
"""Heading -> column and its format."""


def per_trial(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what a trial and what an epoch costs."""
    return rows.assign(
        **{
            f"{kind}_ms_per_{unit}": 1e3 * rows[f"{kind}_s"] / rows[f"{unit}s"]
            for kind in ("cpu", "wall")
            for unit in ("trial", "epoch")
        }
    )


def growth(rows: pd.DataFrame) -> list[str]:
    """Say how the costs of every case grow from its smallest to its largest size."""
    lines = []
    for name, runs in rows.groupby("case", sort=False):
        low, high = runs.iloc[runs["trials"].argmin()], runs.iloc[runs["trials"].argmax()]
        if low["trials"] == high["trials"]:
            continue
        factors = ", ".join(
            f"{kind} per {unit} x{high[column] / low[column]:.2f}"
            for unit in ("trial", "epoch")
            for kind, column in (
                ("CPU", f"cpu_ms_per_{unit}"),
                ("wall", f"wall_ms_per_{unit}"),
            )
        )
        lines.append(f"- {name}, {high['trials']:,} trials over {low['trials']:,}: {factors}")
    return lines


def shares(rows: pd.DataFrame, compared: Iterable[tuple[str, str]]) -> list[str]:
    """Say what of stock's CPU ours takes, at every size at which both were run."""
    lines = []
    cost = rows.set_index(["case", "trials"])
    for ours, stock in compared:
        at_both = [
            n for n in sorted(set(rows["trials"])) if {(ours, n), (stock, n)} <= {*cost.index}
        ]
        parts = []
        for n in at_both:
            a, b = cost.loc[(ours, n)], cost.loc[(stock, n)]
            parts.append(
                f"{n:,} trials {a['cpu_ms_per_trial'] / b['cpu_ms_per_trial']:.2f} "
                f"(per epoch {a['cpu_ms_per_epoch'] / b['cpu_ms_per_epoch']:.2f}, "
                f"whole process {a['process_cpu_s'] / b['process_cpu_s']:.2f})"
            )
        if parts:
            lines.append(f"- CPU per trial, *{ours}* over *{stock}*: {'; '.join(parts)}")
    return lines


def report(rows: pd.DataFrame, paragraphs: list[str], compared: Iterable[tuple[str, str]]) -> str:
    """Write everything down: versions, what was measured, the table, growth and shares."""
    packages = ("ray", "numpy", "pandas", "ConfigSpace")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    table = ["| " + " | ".join(TABLE) + " |", "|---" * len(TABLE) + "|"]
    for row in rows.to_dict("records"):
        cells = (form.format(row[column]) for column, form in TABLE.values())
        table.append("| " + " | ".join(cells) + " |")
    sections = [
        "# What a trial costs the driver",
        f"Command: `{' '.join(['python benchmarks/bench_driver.py', *sys.argv[1:]])}`",
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} CPU cores, shared by "
        "the driver, Ray's own processes and the workers.",
        *paragraphs,
        "\n".join(table),
        "\n".join(growth(rows)),
        "\n".join(shares(rows, compared)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"
