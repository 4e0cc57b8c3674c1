"""Runs in every state that the figures and the report must cope with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raytune_ahu.records import LOG_FILE
from raytune_ahu.results import Results, load
from tests.recorded_runs import MIXED, record_run

HOSTILE = "<script>document.title='broken'</script>"
ERROR = f"Traceback (most recent call last):\n  line 1\nValueError: {HOSTILE}"
"""Text of an exception."""
ODD_SPACE: dict[str, Any] = {
    **MIXED,
    "odd": {"domain": "choice", "values": [1, "1", True, None, 0.5, HOSTILE, [1, 2]]},
    "<b>bold": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
}
"""Choices of every kind, and names that are HTML."""

STATES = ("usual", "promotion", "odd", "one", "failed", "nothing")


def run_in_state(state: str, folder: Path) -> Results:
    """Record a run in one of `STATES` and load it."""
    fields: dict[str, dict[str, Any]] = {
        "usual": {"num_samples": 60, "diverges_above": 0.3},
        "promotion": {"num_samples": 40, "scheduler": "asha-promotion"},
        "odd": {"num_samples": 40, "space": ODD_SPACE},
        "one": {"num_samples": 1},
        "failed": {"num_samples": 6, "diverges_above": 0.0},
        "nothing": {"num_samples": 1},
    }
    run = record_run(folder / state, **fields[state])
    if state == "nothing":
        log = run / LOG_FILE
        log.write_text(log.read_text().splitlines(keepends=True)[0])
    results = load(run)
    if state == "failed":
        return replace(results, trials=results.trials.assign(error=pd.array([ERROR] * 6, "string")))
    return results


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """One run in each of `STATES`."""
    folder = tmp_path_factory.mktemp("runs")
    return {state: run_in_state(state, folder) for state in STATES}
