"""What a run has cost, by what came of it, and what early stopping has saved.

Start with `cost` (seconds of workers and GPUs by outcome) and `savings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from raytune_ahu.results import Results

OUTCOMES = ("completed", "stopped", "failed", "unfinished", "repeated", "idle")
"""What became of a worker's time: trials that ran to the end, those that were stopped early, those
that failed, those that have not ended; epochs that had to be repeated after a fault; no trial."""


@dataclass(frozen=True)
class Savings:
    """What early stopping has saved, against training every stopped trial to its end."""

    epochs_run: int
    """Epochs trained, repeated ones included."""
    epochs_full: int
    """Epochs that the same trials would have taken without early stopping."""
    seconds_saved: float
    """Worker seconds of those epochs, each at the mean pace of its trial."""

    @property
    def share(self) -> float:
        """Share of the epochs that was saved, in [0, 1)."""
        return 1.0 - self.epochs_run / self.epochs_full if self.epochs_full else 0.0


def savings(results: Results) -> Savings:
    """Compare the epochs that were run with those of a run without early stopping."""
    trials = results.trials
    run = int(trials["epochs_run"].sum())
    stopped = trials[trials["status"] == "stopped"]
    left = results.max_resource - stopped["resource"]
    pace = stopped["training_s"] / stopped["epochs_run"].where(stopped["epochs_run"] > 0)
    return Savings(run, run + int(left.sum()), float((left * pace).sum()))


def _by_trial(seconds: pd.Series[float], results: Results) -> pd.Series[float]:
    return seconds.groupby(results.intervals["trial"]).sum()


def cost(results: Results) -> pd.DataFrame:
    """Sum the time of workers by what came of it.

    A trial's time is that for which it had a worker, checkpoints and start-up included. Idle time
    is that of the slots that a session began with, less that of its trials; it is left out where
    the slots are not known.

    Returns:
        One row for each of `OUTCOMES`: `outcome`, `trials`, `epochs`, `worker_s`, `gpu_s` (worker_s
        times the GPUs that a trial took then), `share` (of all worker_s).
    """
    trials = results.trials.set_index("trial")
    seconds = results.intervals["end_s"] - results.intervals["start_s"]
    gpu_seconds = seconds * results.intervals["gpus"].fillna(0.0)
    worker_s = _by_trial(seconds, results).reindex(trials.index, fill_value=0.0)
    gpu_s = _by_trial(gpu_seconds, results).reindex(trials.index, fill_value=0.0)
    distinct = results.reports.groupby("trial").size().reindex(trials.index, fill_value=0)
    again = (trials["epochs_run"] - distinct).clip(lower=0)
    share_again = (again / trials["epochs_run"].where(trials["epochs_run"] > 0)).fillna(0.0)
    ended = trials["status"].astype(str)
    outcome = ended.where(ended.isin(["completed", "stopped", "failed"]), "unfinished")
    table = pd.DataFrame(
        {
            "trials": 1,
            "epochs": trials["epochs_run"] - again,
            "worker_s": worker_s * (1 - share_again),
            "gpu_s": gpu_s * (1 - share_again),
        }
    )
    summed = table.groupby(outcome.to_numpy()).sum().reindex(list(OUTCOMES), fill_value=0)
    summed = summed.astype({"worker_s": "float64", "gpu_s": "float64"})
    lost, lost_gpu = (worker_s * share_again).sum(), (gpu_s * share_again).sum()
    summed.loc["repeated"] = [int((again > 0).sum()), int(again.sum()), lost, lost_gpu]
    slots = results.sessions["slots"]
    if slots.notna().all() and len(slots):
        offered = (slots * (results.sessions["end_s"] - results.sessions["start_s"])).sum()
        idle = max(0.0, float(offered) - float(worker_s.sum()))
        share = float(gpu_s.sum() / worker_s.sum()) if worker_s.sum() else 0.0
        summed.loc["idle"] = [0, 0, idle, idle * share]
    else:
        summed = summed.drop("idle")
    total = summed["worker_s"].sum()
    summed["share"] = summed["worker_s"] / total if total else 0.0
    made = summed.rename_axis("outcome").reset_index()
    return made.astype({"trials": "int64", "epochs": "int64"})
