"""Our side of bench_recbole.py: scripts/tune_recommender.py, and what its records say.

Start with `tune_ours`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpu_meter import Usage, run_metered

from raytune_ahu.finding import read_spec
from raytune_ahu.records import read_events
from raytune_ahu.run_state import RunState
from trainables.metrics import Ranking
from trainables.recommender_comparison import Candidate, restore

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class OurRun:
    """What tuning with this project came to."""

    state: RunState
    """All trials, from the run's log."""
    winner: dict[str, Any]
    """The trial that was best on validation, as test.json has it."""
    test: Ranking
    """Its test, done again from its checkpoint: test.json has no values of single users."""
    usage: Usage
    """The whole command: the search, then the test of the winner and of the references."""
    search_cpu_s: float
    """The command until the search had ended."""
    search_wall_s: float
    """The same by the clock."""


def tune_ours(split: str, seed: int, trials: int, data_dir: Path, work: Path) -> OurRun:
    """Tune matrix factorisation by the script, one thread a process; defaults, but for `--models`.

    Args:
        split: How the data is split.
        seed: Root seed.
        trials: Number of trials.
        data_dir: Folder of MovieLens-100K.
        work: Folder for the run.

    Raises:
        SystemExit: If the script fails; the message ends with what it said.
    """
    name = f"{split}-{seed}-{time.time_ns() // 10**9}"
    options = {
        "--dataset": "ml-100k",
        "--data-dir": data_dir,
        "--split": split,
        "--models": "mf",
        "--num-samples": trials,
        "--seed": seed,
        "--name": name,
        "--storage-path": work / "ours",
    }
    command = [sys.executable, str(ROOT / "scripts" / "tune_recommender.py")]
    command += [str(text) for option in options.items() for text in option]
    log = work / f"ours-{name}.log"
    usage = run_metered(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, log=log)
    if usage.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"our side failed (exit code {usage.returncode}); {log} ends with\n{tail}")
    return read_run(work / "ours" / name, usage)


def read_run(folder: Path, usage: Usage) -> OurRun:
    """Read the records of a run that has been tested.

    Args:
        folder: Folder of the run, checkpoints included.
        usage: What the command took.
    """
    spec = read_spec(folder)
    state = RunState(spec.mode)
    ended = 0.0
    for event in read_events(folder):
        state.apply(event)
        ended = max(ended, float(event["time"]))
    figures = json.loads((folder / "test.json").read_text())
    winner = next(entry for entry in figures["contenders"] if entry["kind"] == "tuned")
    trial = state.trials[winner["trial"]]
    checkpoint = folder / trial.checkpoints[max(trial.checkpoints)]
    candidate = Candidate(trial.trial_id, trial.configuration, checkpoint)
    return OurRun(
        state=state,
        winner=winner,
        test=restore(candidate, dict(spec.settings)).rank_test(),
        usage=usage,
        search_cpu_s=usage.cpu_s_until(ended),
        search_wall_s=ended - usage.started,
    )
