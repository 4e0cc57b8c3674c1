"""The report of bench_recbole.py: a line for each run, averages over seeds, winners' settings."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from trainables.paired import paired_test

OURS = "ours, mf"
"""Our side in the tables."""

SHOWN = {
    "split": "{}",
    "seed": "{}",
    "side": "{}",
    "trials": "{}",
    "epochs": "{}",
    "validation NDCG@10": "{:.4f}",
    "test NDCG@10": "{:.4f}",
    "SE over users": "{:.4f}",
    "test recall@10": "{:.4f}",
    "test hit@10": "{:.4f}",
    "CPU s": "{:.0f}",
    "wall s": "{:.0f}",
}
"""Columns of the table and their formats."""


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Format rows as a Markdown table."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for row in rows:
        lines.append(" | ".join(form.format(row[name]) for name, form in columns.items()))
    return "\n".join(f"| {line} |" for line in lines)


def averages(rows: list[dict[str, Any]]) -> str:
    """Mean (and range) over the seeds for each split and side, as a Markdown table."""
    columns = ["validation NDCG@10", "test NDCG@10", "epochs", "CPU s", "wall s"]
    lines = []
    for (split, side), group in pd.DataFrame(rows).groupby(["split", "side"], sort=False):
        line: dict[str, Any] = {"split": split, "side": side, "seeds": len(group)}
        for name in columns:
            form = SHOWN[name] if name != "epochs" else "{:.0f}"
            mean, low, high = (
                form.format(value)
                for value in (group[name].mean(), group[name].min(), group[name].max())
            )
            line[name] = mean if len(group) == 1 else f"{mean} ({low} to {high})"
        lines.append(line)
    return table(lines, dict.fromkeys(["split", "side", "seeds", *columns], "{}"))


def differences(rows: list[dict[str, Any]]) -> str:
    """Ours minus each of RecBole's, over the users of each split and seed, as a Markdown table."""
    lines = []
    for ours in (row for row in rows if row["side"] == OURS):
        for row in rows:
            same = (row["split"], row["seed"]) == (ours["split"], ours["seed"])
            if row is ours or not same:
                continue
            test = paired_test(torch.tensor(ours["per user"]), torch.tensor(row["per user"]))
            lines.append(
                {
                    "split": row["split"],
                    "seed": row["seed"],
                    "against": row["side"],
                    "test NDCG@10, ours minus RecBole's": f"{test.difference:+.4f}",
                    "SE of the difference": f"{test.standard_error:.4f}",
                    "p": f"{test.p_value:.2g}",
                    "CPU s, RecBole's over ours": f"{row['CPU s'] / ours['CPU s']:.1f}",
                }
            )
    return table(lines, dict.fromkeys(lines[0], "{}")) if lines else "Only one side was run."


def report(rows: list[dict[str, Any]], *, command: str, recbole_versions: str, trials: int) -> str:
    """Assemble recbole.md.

    Args:
        rows: One for each run: `SHOWN`, `setting`, `per user` (test NDCG@10, users ascending), and
            for RecBole's `evaluators differ by`.
        command: What made them.
        recbole_versions: What RecBole's environment holds, by `versions_of`.
        trials: Number of trials that a run was given.
    """
    ours = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "ray"))
    gaps = [row["evaluators differ by"] for row in rows if "evaluators differ by" in row]
    check = (
        "By RecBole's own evaluator its winners' NDCG, recall and hit rate differ "
        f"by at most {max(gaps):.0e}."
        if gaps
        else ""
    )
    return "\n\n".join(
        [
            "# Matrix factorisation, tuned by RecBole and by this project",
            f"Command: `{command}`.",
            f"Ours: Python {platform.python_version()}, {ours}. RecBole's: {recbole_versions}. "
            f"{os.cpu_count()} CPU cores, one thread a process.",
            f"MovieLens-100K, {trials} trials a run, or as many as the range has points. All items "
            "that a user has not seen are ranked; the model is chosen on validation and tested "
            "once. RecBole trains each trial until 11 epochs in a row brought no better one, at "
            "most 300; ours ends trials by the script's defaults. CPU s is the command with all of "
            "its processes, imports and (ours) Ray included, but without the references that our "
            f"script fits at the end; SE is that of the test NDCG@10 over users. {check}".strip(),
            table(rows, SHOWN),
            "Mean over the seeds (lowest to highest):",
            averages(rows),
            "Winner against winner, paired over the test users:",
            differences(rows),
            "Settings of the winners:",
            "\n".join(
                f"* {row['split']}, seed {row['seed']}, {row['side']}: `{row['setting']}`"
                for row in rows
            ),
            "",
        ]
    )


def versions_of(python: Path) -> str:
    """Versions in RecBole's environment."""
    names = ("recbole", "torch", "numpy")
    code = (
        "import platform; from importlib.metadata import version; "
        f"print('Python', platform.python_version(), *(f', {{n}} {{version(n)}}' for n in {names}))"
    )
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip().replace(" ,", ",")


def command_of(arguments: argparse.Namespace) -> str:
    """Write the command line without the paths of this machine."""
    named = {name: getattr(arguments, name) for name in ("splits", "seeds", "spaces")}
    lists = [f"--{name} {' '.join(map(str, values))}" for name, values in named.items()]
    only = [f"--only {arguments.only}"] if arguments.only else []
    return " ".join(
        ["python benchmarks/bench_recbole.py", f"--trials {arguments.trials}", *lists, *only]
    )
