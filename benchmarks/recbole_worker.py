"""The RecBole side of bench_recbole.py: trains the settings it is given, tests the best of them.

    RECBOLE_PYTHON benchmarks/recbole_worker.py REQUEST.json

runs in RecBole's own environment, so it imports nothing of this package. It draws nothing either:
the settings come with the request. Each trial does what RecBole's own objective function for
tuning does (data set, loaders, model, `Trainer.fit` with early stopping on validation), except
that only the best trial is tested, and not every one. Start with `run`.

REQUEST.json holds `data_path` and `dataset` (folder of `dataset/dataset.train.inter` and so on,
with user and item indices as tokens), `configurations`, `settings` (the same for all trials),
`n_users`, `n_items` and `out`, a folder. There it writes `trials.jsonl`, one line a trial;
`test.json`, RecBole's own test metrics of the best trial; and `scores.npy`, (n_users, n_items)
float32, what that trial's model scores before anything is masked (NaN: unknown to RecBole).
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

METRIC = "ndcg@10"


class Trial:
    """One setting of a RecBole model, on data that it loads itself."""

    def __init__(self, request: dict[str, Any], configuration: dict[str, Any]) -> None:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_model, get_trainer, init_seed

        settings = {**request["settings"], **configuration}
        self.config = Config(
            model=request["model"], dataset=request["dataset"], config_dict=settings
        )
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.dataset = create_dataset(self.config)
        parts = data_preparation(self.config, self.dataset)
        self.train, self.validation, self.test = parts
        init_seed(self.config["seed"], self.config["reproducibility"])
        model = get_model(self.config["model"])(self.config, self.train._dataset)
        trainer = get_trainer(self.config["MODEL_TYPE"], self.config["model"])
        self.trainer = trainer(self.config, model.to(self.config["device"]))
        self.epochs: list[float] = []

    @property
    def checkpoint(self) -> Path:
        """The file with the model of the best epoch."""
        return Path(self.trainer.saved_model_file)

    def fit(self) -> float:
        """Train until early stopping; return the best validation NDCG@10."""
        best, _ = self.trainer.fit(
            self.train,
            self.validation,
            verbose=False,
            callback_fn=lambda _, value: self.epochs.append(float(value)),
        )
        return float(best)

    def test_metrics(self, checkpoint: Path) -> dict[str, float]:
        """RecBole's own test metrics of a trained model; it stays loaded."""
        metrics = self.trainer.evaluate(self.test, model_file=str(checkpoint))
        return {name: float(value) for name, value in metrics.items()}

    def scores(self, n_users: int, n_items: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(n_users, n_items), float32: all scores of the loaded model, by our indices."""
        from recbole.data.interaction import Interaction

        users = self._indices(self.dataset.uid_field)
        items = self._indices(self.dataset.iid_field)
        known = torch.arange(1, len(users) + 1)  # 0 is RecBole's padding
        self.trainer.model.eval()
        with torch.no_grad():
            flat = self.trainer.model.full_sort_predict(
                Interaction({self.dataset.uid_field: known}).to(self.config["device"])
            )
        found = flat.view(len(users), -1)[:, 1:].cpu().numpy()
        scores = np.full((n_users, n_items), np.nan, np.float32)
        scores[np.ix_(users, items)] = found
        return scores

    def _indices(self, field: str) -> list[int]:
        return [int(token) for token in self.dataset.field2id_token[field][1:]]


def run_trial(
    request: dict[str, Any], number: int, configuration: dict[str, Any]
) -> tuple[dict[str, Any], Path | None]:
    """Train one setting; return its line for the file, and its checkpoint unless it failed."""
    start, wall_start = time.process_time(), time.perf_counter()
    trial = Trial(request, configuration)
    ready = time.process_time()
    error, value = None, math.nan
    try:
        value = trial.fit()
    except ValueError as problem:  # how RecBole says that the training loss is NaN
        error = str(problem)
    line = {
        "trial": number,
        "configuration": configuration,
        METRIC: value,
        "epochs": len(trial.epochs),
        "best_epoch": int(np.argmax(trial.epochs)) + 1 if trial.epochs else None,
        "setup_cpu_s": ready - start,
        "cpu_s": time.process_time() - start,
        "wall_s": time.perf_counter() - wall_start,
        "error": error,
    }
    return line, trial.checkpoint if error is None else None


def run(request: dict[str, Any]) -> None:
    """Train all settings one after the other, keep the best on validation, and test that one."""
    out = Path(request["out"])
    best: tuple[float, dict[str, Any]] | None = None
    kept = out / "best.pth"
    with (out / "trials.jsonl").open("w") as file:
        for number, configuration in enumerate(request["configurations"]):
            line, checkpoint = run_trial(request, number, configuration)
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(
                f"trial {number}: {line[METRIC]:.4f} in {line['epochs']} epochs, "
                f"{line['cpu_s']:.0f} CPU s, {configuration}",
                flush=True,
            )
            if checkpoint is None:
                continue
            if best is None or line[METRIC] > best[0]:
                best = line[METRIC], configuration
                shutil.move(checkpoint, kept)
            else:
                checkpoint.unlink()
    if best is None:
        raise SystemExit("no trial came to an end: see trials.jsonl for their errors")
    winner = Trial(request, best[1])
    metrics = winner.test_metrics(kept)
    np.save(out / "scores.npy", winner.scores(request["n_users"], request["n_items"]))
    (out / "test.json").write_text(json.dumps(metrics))


def main() -> int:
    """Read the request and do it."""
    request = json.loads(Path(sys.argv[1]).read_text())
    # RecBole 1.2.1 stores its own objects in its checkpoints, which torch 2.6 and later refuses.
    torch.load = functools.partial(torch.load, weights_only=False)
    torch.set_num_threads(1)
    os.chdir(request["out"])  # RecBole writes its logs into the current folder
    run(request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
