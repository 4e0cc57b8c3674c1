"""Matrix factorisation tuned by RecBole 1.2.1 and by this project: equal trials, equal split.

    python benchmarks/bench_recbole.py --data-dir data --trials 20     # about an hour on one core
    python benchmarks/bench_recbole.py --data-dir data --quick         # 2 trials of each: minutes
    python benchmarks/bench_recbole.py --recbole-python ~/recbole/bin/python --seeds 0 1 2

RecBole is no dependency: without --recbole-python an environment of its own is made, once, in
--work. Both sides get the same training, validation and test interactions of MovieLens-100K, search
on validation NDCG@10 over all unseen items, and test one model each, the best on validation:

* RecBole: `BPR`, random search in one of its spaces (see recbole_side.py), early stopping.
* ours: scripts/tune_recommender.py --models mf with its own search space, search and scheduler.

RecBole's winner is measured twice, by RecBole's evaluator and by `trainables.metrics.rank`; the
report says how far they differ (RecBole rounds to six decimals, and orders equal scores otherwise).
Winners are compared over the same users. CPU seconds are those of the command with all its
processes (see cpu_meter.py), one thread each, ours until the end of the search; Linux only.
Written to --out: recbole.md and recbole.csv.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch
from recbole_ours import OurRun, tune_ours
from recbole_report import OURS, SHOWN, command_of, report, table, versions_of
from recbole_side import METRIC, RecBoleRun, draw, export, make_environment, tune_recbole

from trainables.data.interactions import (
    load_recommender_data,
    load_test_items,
    prepare_interactions,
)
from trainables.data.user_items import RecommenderData, UserItems
from trainables.metrics import Ranking, rank

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("user-time", "random")


@dataclass(frozen=True)
class Split:
    """One split of the data, as both sides get it."""

    name: str
    data: RecommenderData
    test: UserItems

    def measure(self, scores: torch.Tensor) -> Ranking:
        """Rank the test items with a matrix of scores (n_users, n_items), float32."""
        seen = self.data.train.followed_by(self.data.validation)
        known = torch.where(scores.isnan(), -torch.inf, scores)
        return rank(lambda users, _: known[users], history=seen, seen=seen, positives=self.test)


def load_split(name: str, data_dir: Path, seed: int) -> Split:
    """Split MovieLens-100K as scripts/tune_recommender.py --split does."""
    folder = str(data_dir)
    prepare_interactions("ml-100k", folder, split=name, seed=seed)
    data = load_recommender_data("ml-100k", folder, split=name, seed=seed)
    return Split(name, data, load_test_items("ml-100k", folder, split=name, seed=seed))


# ---------------------------------------------------------------------- the two sides


def recbole_row(split: Split, seed: int, space: str, run: RecBoleRun) -> dict[str, Any]:
    """Turn RecBole's run into a row, its winner measured by both evaluators."""
    measured = split.measure(run.scores)
    means = measured.means()
    return {
        "split": split.name,
        "seed": seed,
        "side": f"RecBole BPR, {space} range",
        "trials": len(run.trials),
        "epochs": run.epochs,
        "validation NDCG@10": run.winner[METRIC],
        "test NDCG@10": means[METRIC],
        "SE over users": measured.standard_error(METRIC),
        "test recall@10": means["recall@10"],
        "test hit@10": means["hit@10"],
        "CPU s": run.usage.cpu_s,
        "wall s": run.usage.wall_s,
        "setting": json.dumps(run.winner["configuration"]),
        "evaluators differ by": max(abs(means[name] - value) for name, value in run.test.items()),
        "per user": measured.per_user[METRIC].tolist(),
    }


def our_row(split: Split, seed: int, run: OurRun) -> dict[str, Any]:
    """Turn our run into a row."""
    means = run.test.means()
    return {
        "split": split.name,
        "seed": seed,
        "side": OURS,
        "trials": len(run.state.trials),
        "epochs": run.state.epochs_run,
        "validation NDCG@10": run.winner["validation"],
        "test NDCG@10": means[METRIC],
        "SE over users": run.test.standard_error(METRIC),
        "test recall@10": means["recall@10"],
        "test hit@10": means["hit@10"],
        "CPU s": run.search_cpu_s,
        "wall s": run.search_wall_s,
        "CPU s with references": run.usage.cpu_s,
        "setting": json.dumps(run.winner["settings"]),
        "per user": run.test.per_user[METRIC].tolist(),
    }


# ---------------------------------------------------------------------- command line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data", metavar="DIR",
                        help="folder with ml-100k (default ./data)")  # fmt: skip
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--trials", type=int, default=20, metavar="N",
                        help="trials of each side (default 20)")  # fmt: skip
    parser.add_argument("--spaces", nargs="+", choices=("published", "wide"),
                        default=["published", "wide"], help="RecBole's (default both)")  # fmt: skip
    parser.add_argument("--only", choices=("recbole", "ours"), help="(default both sides)")
    parser.add_argument("--recbole-python", type=Path, metavar="FILE",
                        help="one that has RecBole 1.2.1 (default: made in --work)")  # fmt: skip
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench_recbole",
                        metavar="DIR", help="runs, files and RecBole's environment")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--take-over", action="store_true",
                        help="read what an earlier call with this --work has finished")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smoke test: 2 trials, one split")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.trials, arguments.splits, arguments.spaces = 2, ["user-time"], ["wide"]
    if arguments.trials < 1:
        parser.error(f"--trials {arguments.trials} must be at least 1")
    return arguments


def remembered(
    file: Path, make: Callable[[], dict[str, Any]], *, take_over: bool
) -> dict[str, Any]:
    """Make a row and keep it in a file, or read it there if that is wanted and possible."""
    if take_over and file.exists():
        return dict(json.loads(file.read_text()))
    row = make()
    file.write_text(json.dumps(row))
    return row


def main() -> None:
    """Tune both sides on every split with every seed, and write the report after each run."""
    arguments = parse_arguments()
    work, out, trials = arguments.work.resolve(), arguments.out, arguments.trials
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    python, recbole_versions = arguments.recbole_python, "not run"
    if arguments.only != "ours":
        python = python or make_environment(work / "recbole_env")
        recbole_versions = versions_of(python)

    def recbole(split: Split, seed: int, space: str, files: Path) -> dict[str, Any]:
        run = tune_recbole(
            python,
            files,
            work / f"recbole-{split.name}-{seed}-{space}",
            n_users=split.data.n_users,
            n_items=split.data.n_items,
            configurations=draw(space, trials, seed),
            seed=seed,
        )
        return recbole_row(split, seed, space, run)

    def ours(split: Split, seed: int) -> dict[str, Any]:
        run = tune_ours(split.name, seed, trials, arguments.data_dir, work)
        return our_row(split, seed, run)

    rows: list[dict[str, Any]] = []
    for name, seed in product(arguments.splits, arguments.seeds):
        split = load_split(name, arguments.data_dir, seed)
        runs: dict[str, Callable[[], dict[str, Any]]] = {}
        if arguments.only != "ours":
            files = work / "data" / f"{name}-{seed}"
            export(split.data, split.test, files)
            for space in arguments.spaces:
                runs[f"recbole-{space}"] = partial(recbole, split, seed, space, files)
        if arguments.only != "recbole":
            runs["ours"] = partial(ours, split, seed)
        for kind, run in runs.items():
            file = work / f"{kind}-{name}-{seed}-{trials}.json"
            rows.append(remembered(file, run, take_over=arguments.take_over))
            print(table(rows[-1:], SHOWN).splitlines()[-1], flush=True)
            pd.DataFrame(rows).drop(columns="per user").to_csv(out / "recbole.csv", index=False)
            text = report(
                rows,
                command=command_of(arguments),
                recbole_versions=recbole_versions,
                trials=trials,
            )
            (out / "recbole.md").write_text(text)
    print(f"\nwritten to {out}: recbole.md, recbole.csv")


if __name__ == "__main__":
    main()
