"""What a finished run of tune_recommender.py has found, looked at again with several seeds.

python benchmarks/bench_recommenders.py runs/NAME... --seeds 1 2 3 4 5 --out benchmarks/results

For each run: the winner's configuration and the default configuration of its model are trained with
each seed and tested beside the references, both as told of all that came before (`all`) and of the
training interactions only (`training`); and a random forest says which hyperparameters mattered in
the search. With the split `random` a seed also draws another split, so that its test holds items by
which the run's winner was chosen in validation; with the others, nothing is chosen by the test.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.finding import read_spec
from raytune_ahu.records import read_events, read_json
from raytune_ahu.run_state import RunState
from raytune_ahu.types import as_loss
from trainables import RecommenderTrainable
from trainables.metrics import Ranking
from trainables.recommender import evaluate, load_data
from trainables.tuned_references import tune_references

HISTORIES = ("all", "training")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=None, help="folder for recommenders.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = []
    for folder in args.runs:
        spec = read_spec(folder.resolve())
        parts += [f"## {spec.settings['dataset']}, {spec.settings['split']}", ""]
        parts += [cost(spec), "", *seeds_table(spec, args.seeds), ""]
        parts += importance_table(spec)
        parts.append("")
        print("\n".join(parts[-30:]), flush=True)
    if args.out is not None:
        text = "\n".join(["# Recommenders over several seeds", "", *parts])
        (args.out / "recommenders.md").write_text(text, encoding="utf-8")


def cost(spec: ExperimentSpec) -> str:
    """Say what the search took."""
    state = read_state(spec)
    command = " ".join(read_json(spec.folder / "spec.json")["command"])
    return (
        f"`{command}`: {len(state.trials)} trials, "
        f"{state.epochs_run} epochs, {state.seconds:.0f} s of wall time."
    )


def read_state(spec: ExperimentSpec) -> RunState:
    """Fold the run's log."""
    return RunState.of(spec.mode, read_events(spec.folder))


# --- several seeds


def seeds_table(spec: ExperimentSpec, seeds: list[int]) -> list[str]:
    """Train and test with several seeds; a Markdown table of means and spreads."""
    state = read_state(spec)
    assert state.incumbent is not None
    winner = state.incumbent.configuration
    default = {"model": winner["model"]}
    rows = []
    for seed in seeds:
        settings = {**spec.settings, "seed": seed}
        for name, configuration in (("tuned", winner), ("default", default)):
            started = time.process_time()
            found = trained(configuration, settings)
            label = f"{name} {winner['model']}"
            rows += rows_of(label, "tuned", seed, found, time.process_time() - started)
        started = time.process_time()
        for name, validation, found in references(settings):
            rows += rows_of(name, "reference", seed, (validation, found), math.nan)
        print(f"seed {seed} done", flush=True)
    return markdown(pd.DataFrame(rows), metric_of(spec))


def metric_of(spec: ExperimentSpec) -> str:
    """The metric, without `validation_`."""
    return spec.metric.removeprefix("validation_")


Found = tuple[float, Mapping[str, Ranking]]
"""Validation value, and a test for each history."""


def trained(configuration: Mapping[str, Any], settings: Mapping[str, Any]) -> Found:
    """Train a configuration until its patience is at an end, and test its best epoch."""
    trainable = RecommenderTrainable({**configuration, "settings": dict(settings)})
    for _ in range(trainable.max_epochs):
        if trainable.step().get("done"):
            break
    trainable.use_best_weights()
    given = RecommenderTrainable.resolve_settings(settings)
    data = load_data(given, trainable.device)
    tests = {
        told: evaluate(trainable.model.scores, replace(given, test_history=told), data, "test")
        for told in HISTORIES
    }
    return trainable.best_value, tests


def references(settings: Mapping[str, Any]) -> Iterator[tuple[str, float, Mapping[str, Ranking]]]:
    """Tune the references by validation and test them."""
    given = RecommenderTrainable.resolve_settings(settings)
    data = load_data(given, torch.device("cpu"))
    metric = given.tuned
    tuned = tune_references(
        data.train,
        lambda scores: evaluate(scores, given, data, "validation").means()[metric],
        seed=given.seed,
    )
    for entry in tuned.references:
        tests = {
            told: evaluate(entry.scores, replace(given, test_history=told), data, "test")
            for told in HISTORIES
        }
        yield entry.name, entry.value, tests


def rows_of(name: str, kind: str, seed: int, found: Found, cpu_s: float) -> list[dict[str, Any]]:
    """One row for each history."""
    validation, tests = found
    return [
        {
            "model": name,
            "kind": kind,
            "seed": seed,
            "history": told,
            "validation": validation,
            "test": ranking,
            "cpu_s": cpu_s,
        }
        for told, ranking in tests.items()
    ]


def markdown(frame: pd.DataFrame, metric: str) -> list[str]:
    """Means over seeds, spread of the seeds, and the paired difference to the best reference."""
    reference = frame[frame["kind"] == "reference"]
    best = reference.groupby("model")["validation"].mean().idxmax()
    lines = [
        f"| model | validation {metric} | test, all history | test, training only | "
        f"minus {best} (all) | minus {best} (training) | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in frame.groupby("model", sort=False):
        cells = [str(name), spread(rows.drop_duplicates("seed")["validation"])]
        differences = []
        for told in HISTORIES:
            mine = rows[rows["history"] == told].set_index("seed")["test"]
            other = reference[(reference["model"] == best) & (reference["history"] == told)]
            other = other.set_index("seed")["test"]
            cells.append(spread(mine.map(lambda ranking: ranking.means()[metric])))
            tests = [mine[seed].compare(other[seed], metric) for seed in mine.index]
            mean = float(np.mean([test.difference for test in tests]))
            error = float(np.mean([test.standard_error for test in tests]))
            beyond = sum(test.p_value < 0.05 and test.difference > 0 for test in tests)
            text = f"{mean:+.4f} ± {error:.4f}, {beyond} of {len(tests)}"
            differences.append("" if name == best else text)
        seconds = rows["cpu_s"].mean()
        cells += [*differences, "" if math.isnan(seconds) else f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"Mean (standard deviation) over {frame['seed'].nunique()} seeds. Differences: mean, mean "
        "standard error over users (paired), and with how many seeds it is better at p < 0.05.",
    ]


def spread(values: Any) -> str:
    """Mean and standard deviation."""
    return (
        f"{values.mean():.4f} ({values.std():.4f})" if len(values) > 1 else f"{values.mean():.4f}"
    )


# --- what mattered


def importance_table(spec: ExperimentSpec) -> list[str]:
    """Permutation importance in a random forest of the trials' best values."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    state = read_state(spec)
    trials = [trial for trial in state.trials.values() if trial.best_value is not None]
    inputs = np.nan_to_num(
        spec.space.encode_many([trial.configuration for trial in trials]), nan=-0.5
    )
    values = np.array([-as_loss(trial.best_value, spec.mode) for trial in trials])
    forest = RandomForestRegressor(500, min_samples_leaf=2, oob_score=True, random_state=0)
    forest.fit(inputs, values)
    found = permutation_importance(forest, inputs, values, n_repeats=30, random_state=0)
    order = np.argsort(-found.importances_mean)
    total = float(found.importances_mean.sum())
    lines = ["| hyperparameter | share of importance |", "| --- | --- |"]
    for place in order[:8]:
        share, deviation = found.importances_mean[place], found.importances_std[place]
        name = spec.space.names[place]
        lines.append(f"| {name} | {share / total:.0%} ± {deviation / total:.0%} |")
    return [
        *lines,
        "",
        f"Permutation importance over {len(trials)} trials, in sample (best value of each, stopped "
        f"ones as far as they came; out-of-bag R2 of the forest {forest.oob_score_:.2f}).",
    ]


if __name__ == "__main__":
    main()
