"""The trials as the data of the page's table: `table_data`. The page's script draws it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from raytune_ahu.analysis.figures_style import OUTCOME_COLORS, show
from raytune_ahu.results import Results
from raytune_ahu.results.frames import is_absent
from raytune_ahu.results.schema import CONFIG, TRIALS

_HEADS = {
    "trial": "trial",
    "status": "status",
    "origin": "origin",
    "best_value": "best value",
    "best_resource": "at epoch",
    "model": "model",
    "expected_improvement": "expected gain",
    "last_value": "last value",
    "resource": "epochs",
    "rung": "rung",
    "epochs_run": "epochs run",
    "training_s": "training, s",
    "suggested_s": "suggested, s",
    "ended_s": "ended, s",
    "node": "node",
    "gpus": "GPUs",
    "failures": "failures",
    "fault": "fault",
    "error": "error",
}


def table_data(results: Results) -> dict[str, Any]:
    """Lay out the trial table.

    Returns:
        JSON-ready: `columns` (key, head, meaning, config: whether it is a hyperparameter),
        `cells` (one list a column), `better` (1: small values are better, -1: large ones) and
        `colors` of the statuses.
    """
    trials = results.trials
    meanings = {column.name: column.meaning for column in TRIALS}
    configs = [CONFIG + name for name in results.parameters]
    plain = [name for name in _HEADS if name in ("trial", "error") or _says(trials[name])]
    names = [*plain[:5], *configs, *plain[5:]]
    return {
        "columns": [
            {
                "key": name,
                "head": _HEADS.get(name, name.removeprefix(CONFIG)),
                "meaning": meanings.get(name, "hyperparameter; empty where it is inactive"),
                "config": name in configs,
            }
            for name in names
        ],
        "cells": [[_cell(value) for value in trials[name].astype(object)] for name in names],
        "better": int(results.sign),
        "colors": OUTCOME_COLORS,
    }


def _says(column: pd.Series[Any]) -> bool:
    """Whether a column holds anything but absent cells and zeros."""
    return bool(column.notna().any()) and not bool((column == 0).all())


def _cell(value: Any) -> Any:
    if is_absent(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return show(value)
    if isinstance(value, (int, np.integer)):
        return int(value) if abs(int(value)) < 2**53 else str(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else show(value)
