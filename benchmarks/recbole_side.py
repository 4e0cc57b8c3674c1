"""RecBole's side of bench_recbole.py: its environment, its data files, its settings, its call.

RecBole 1.2.1 (Zhao et al. 2021) needs numpy before 2 and asks for an old Ray, which only its own
tuning scripts use; so it gets an environment without Ray (`make_environment`) and a process of its
own (recbole_worker.py). Start with `tune_recbole`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_meter import Usage, run_metered

from raytune_ahu.seeding import derive_seed, generator
from raytune_ahu.space import SearchSpace
from trainables.data.user_items import RecommenderData, UserItems

HERE = Path(__file__).resolve().parent
METRIC = "ndcg@10"

REQUIREMENTS = (
    "torch==2.13.0",
    "numpy==1.26.4",
    "scipy==1.13.1",
    "pandas==2.2.3",
    "scikit-learn",
    "colorlog==4.7.2",
    "colorama==0.4.4",
    "pyyaml",
    "tqdm",
    "tensorboard",
    "thop",
    "tabulate",
    "plotly",
    "texttable",
    "psutil",
)
"""What RecBole imports, Ray left out. RecBole itself is installed without its dependencies."""
RECBOLE = "recbole==1.2.1"

SPACES: dict[str, dict[str, Any]] = {
    # The range that RecBole's documentation gives for BPR, as its hyper.test has it: five points.
    "published": {
        "learning_rate": {"domain": "choice", "values": [0.01, 0.005, 0.001, 0.0005, 0.0001]}
    },
    # That range of learning rates without gaps, and RecBole's other settings that BPR obeys, each
    # around its default: 64, 1 negative, 2048 rows, no weight decay (1e-7 amounts to none).
    "wide": {
        "learning_rate": {"domain": "loguniform", "lower": 1e-4, "upper": 1e-2},
        "embedding_size": {"domain": "ordinal", "values": [16, 32, 64, 128, 256]},
        "negatives": {"domain": "ordinal", "values": [1, 2, 4, 8]},
        "train_batch_size": {"domain": "ordinal", "values": [512, 1024, 2048, 4096]},
        "weight_decay": {"domain": "loguniform", "lower": 1e-7, "upper": 1e-3},
    },
}
"""RecBole's search spaces, by name; `negatives` is `train_neg_sample_args: sample_num`."""


@dataclass(frozen=True)
class RecBoleRun:
    """What tuning with RecBole came to."""

    trials: list[dict[str, Any]]
    """One line a trial, as recbole_worker.py writes it."""
    test: dict[str, float]
    """Test metrics of the trial that was best on validation, by RecBole's own evaluator."""
    scores: torch.Tensor
    """(n_users, n_items), float32: what its model scores, before anything is masked."""
    usage: Usage

    @property
    def winner(self) -> dict[str, Any]:
        """The trial that was best on validation, the earliest of equals."""
        ended = [trial for trial in self.trials if trial["error"] is None]
        return max(ended, key=lambda trial: float(trial[METRIC]))

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(int(trial["epochs"]) for trial in self.trials)


def make_environment(folder: Path) -> Path:
    """Make RecBole's environment with the running Python, unless it is there; return its Python.

    Raises:
        SystemExit: If this Python is too new for numpy 1.26, or the installation fails.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        if sys.version_info >= (3, 13):
            raise SystemExit(
                f"RecBole's environment needs Python 3.10 to 3.12, and this is "
                f"{sys.version.split()[0]}; make one as recbole_side.py says, and give its "
                "interpreter with --recbole-python"
            )
        print(f"making RecBole's environment in {folder} (some minutes, 1 to 6 GB)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if _has_recbole(python):
        return python
    pip = [str(python), "-m", "pip", "install", "-q"]
    for arguments in (REQUIREMENTS, ("--no-deps", RECBOLE)):
        if subprocess.run([*pip, *arguments], check=False).returncode:
            raise SystemExit(
                f"RecBole's environment could not be installed; remove {folder} and try again, or "
                f"give a Python that has {RECBOLE} with --recbole-python"
            )
    return python


def _has_recbole(python: Path) -> bool:
    done = subprocess.run(
        [str(python), "-c", "import recbole.trainer"], check=False, capture_output=True
    )
    return done.returncode == 0


def export(data: RecommenderData, test: UserItems, folder: Path) -> None:
    """Write a split as RecBole's benchmark files, with indices as tokens.

    Args:
        data: Training and validation interactions.
        test: Test interactions.
        folder: Where `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter` go; its own name
            is RecBole's name of the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, items in (("train", data.train), ("valid", data.validation), ("test", test)):
        rows = zip(items.users.tolist(), items.items.tolist(), strict=True)
        lines = ["user_id:token\titem_id:token", *(f"{user}\t{item}" for user, item in rows)]
        (folder / f"{folder.name}.{part}.inter").write_text("\n".join(lines) + "\n")


def draw(space: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Draw n different settings at random from a space of `SPACES`, or as many as it has.

    Args:
        space: Its name.
        n: Number of trials.
        seed: Root seed.
    """
    rng = generator(seed, "recbole", "search")
    domains = SPACES[space].values()
    points = math.prod(len(domain.get("values", [])) or math.inf for domain in domains)
    search_space = SearchSpace.from_dict(SPACES[space])
    drawn: list[dict[str, Any]] = []
    while len(drawn) < min(n, points):
        configuration = search_space.sample(rng)
        if configuration not in drawn:
            drawn.append(configuration)
    return [_recbole_settings(configuration) for configuration in drawn]


def _recbole_settings(configuration: dict[str, Any]) -> dict[str, Any]:
    settings = dict(configuration)
    if "negatives" in settings:
        settings["train_neg_sample_args"] = {
            "distribution": "uniform",
            "sample_num": settings.pop("negatives"),
            "alpha": 1.0,
            "dynamic": False,
            "candidate_num": 0,
        }
    return settings


def tune_recbole(
    python: Path,
    data_folder: Path,
    out: Path,
    *,
    n_users: int,
    n_items: int,
    configurations: list[dict[str, Any]],
    seed: int,
) -> RecBoleRun:
    """Train BPR with every setting, in RecBole's own environment, with one thread.

    RecBole's defaults apply, but for: NDCG@10 as the validation metric (default MRR@10), six
    decimals (four) and all users in one batch of the evaluation (two users a batch at this number
    of items, which costs it a quarter more time). So: Adam, at most 300 epochs, an evaluation over
    all items after each, and an end after 11 epochs without a better one (`stopping_step` 10).

    Args:
        python: Interpreter that has RecBole.
        data_folder: Files written by `export`.
        out: Folder for what it writes.
        n_users: Number of users.
        n_items: Number of items.
        configurations: One set of RecBole's settings for each trial.
        seed: Root seed.

    Raises:
        SystemExit: If RecBole fails; the message ends with what it said.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "data_path": str(data_folder.parent.resolve()),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": {"mode": "full"},
        "topk": [10],
        "metrics": ["NDCG", "Recall", "Hit"],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 6,
        "stopping_step": 10,
        "epochs": 300,
        "eval_batch_size": n_users * (n_items + 1),
        "use_gpu": False,
        "show_progress": False,
        "checkpoint_dir": str((out / "saved").resolve()),
        "seed": derive_seed(seed, "recbole", "training") % 2**31,
    }
    request = out / "request.json"
    request.write_text(
        json.dumps(
            {
                "model": "BPR",
                "dataset": data_folder.name,
                "n_users": n_users,
                "n_items": n_items,
                "configurations": configurations,
                "settings": settings,
                "out": str(out.resolve()),
            }
        )
    )
    log = out / "recbole.log"
    command = [str(python), "-W", "ignore", str(HERE / "recbole_worker.py"), str(request.resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    usage = run_metered(command, env=environment, log=log)
    if usage.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"RecBole failed (exit code {usage.returncode}); {log} ends with\n{tail}")
    return RecBoleRun(
        trials=[json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()],
        test=json.loads((out / "test.json").read_text()),
        scores=torch.from_numpy(np.load(out / "scores.npy")),
        usage=usage,
    )
