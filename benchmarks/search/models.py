"""Which model makes the better next suggestion? Asked at the same states, so without luck of runs.

Whole runs differ by luck: two models of equal worth are .02 apart after twenty of them. Here runs
that no model in question has steered (BOHB's densities with ASHA's promotion) are stopped at six
moments up to a quarter of the budget. There each model makes a few suggestions from the same
observations, and the table says what they would have been worth, trained in full: the value of a
single step, not of a policy, for which exploring counts as well.

    python benchmarks/search/models.py [--data DIR] [--seeds 8] [--models gp forest ...]

Written: models.md. To try another model, add a factory to `MODELS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
import sklearn
from sklearn.ensemble import RandomForestRegressor

from benchmarks.search import tasks
from benchmarks.tables import markdown, versions
from raytune_ahu.search import BohbSearcher
from raytune_ahu.search.gp import GpModel, _targets, log_expected_improvement
from raytune_ahu.search.kde import KdeModel
from raytune_ahu.search.model import Floats, Observations, SurrogateModel
from raytune_ahu.simulation import TableTask, simulate
from raytune_ahu.simulation.regret import regret_of
from raytune_ahu.types import Decision, Report, as_loss
from schedulers import build_scheduler

WORKERS, BUDGET = 4, 10
MOMENTS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.25)
SUGGESTIONS = 4


class Recorder(KdeModel):
    """BOHB's densities, which keep what they were fitted to when asked to."""

    wanted = 0

    def __init__(self, task: TableTask) -> None:
        super().__init__(task.space.n_choices)
        self.seen: list[Observations] = []

    def fit(self, observations: Observations, rng: np.random.Generator) -> int | None:
        """Keep a copy, and fit."""
        for _ in range(self.wanted):
            self.seen.append(deepcopy(observations))
        self.wanted = 0
        return super().fit(observations, rng)


def states(task: TableTask, seed: int) -> list[Observations]:
    """Run once, and return what was known at each of the moments."""
    scheduler = build_scheduler(
        "asha-promotion", mode=task.mode, max_resource=task.max_resource, seed=seed
    )
    model = Recorder(task)
    searcher = BohbSearcher(
        task.space, mode=task.mode, seed=seed, rung_levels=scheduler.rung_levels, model=model
    )
    budget_s = BUDGET * task.max_resource * task.median_epoch_s
    moments = [moment * budget_s for moment in MOMENTS]

    def on_report(now: float, _report: Report, _decision: Decision) -> None:
        while moments and now >= moments[0]:
            del moments[0]
            model.wanted += 1

    end_s = (MOMENTS[-1] + 0.05) * budget_s
    simulate(searcher, scheduler, task, workers=WORKERS, budget_s=end_s, on_report=on_report)
    return model.seen


class Worth:
    """What suggestions are worth in one state: each gets the nearest row that is still free."""

    def __init__(self, task: TableTask, state: Observations) -> None:
        self.task = task
        self.used = np.zeros(len(task), dtype=bool)
        for vector in state.configurations:
            self.used[task.nearest_row(vector, self.used)] = True
        self.incumbent = float(regret_of(state.loss.min(initial=np.inf), task))

    def of(self, vector: Floats) -> float:
        """Regret of a configuration at its last epoch, clipped to [0, 1]."""
        encoded = self.task.space.encode(self.task.space.decode(vector))
        row = self.task.nearest_row(encoded, self.used)
        curve = self.task.values[row]  # noqa: PD011  (an array)
        return float(regret_of(as_loss(float(curve[-1]), self.task.mode), self.task))


class RandomModel(GpModel):
    """Any candidate; the first half of them is uniform."""

    def propose(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw uniformly."""
        return self._uniform(n, rng)

    def score(self, candidates: Floats) -> Floats:
        """All the same: the first is taken."""
        return np.zeros(len(candidates))


class MeanModel(GpModel):
    """The default's process, with the predicted mean in the place of expected improvement."""

    def score(self, candidates: Floats) -> Floats:
        """Return the mean, the best first."""
        return -self.process.predict(self._columns.features(candidates, 1.0))[0]


class TrialVarianceModel(GpModel):
    """The default's process; what a new trial has by itself counts as room for improvement."""

    def score(self, candidates: Floats) -> Floats:
        """Return log expected improvement."""
        mean, deviation = self.process.predict(self._columns.features(candidates, 1.0))
        deviation = np.sqrt(deviation**2 + self.process.hyperparameters.trial)
        return log_expected_improvement(self.reference, mean, deviation)


class ForestModel(GpModel):
    """A random forest over configuration and depth, with the same targets and candidates.

    Expected improvement over the best target; the deviation is that between trees.
    """

    _forest: RandomForestRegressor | None = None

    def fit(self, observations: Observations, rng: np.random.Generator) -> int | None:
        """Fit the forest; the process only gives the centres for candidates."""
        self._forest = None  # candidates are not scored while the process is fitted
        level = super().fit(observations, rng)
        if level is None:
            return None
        rows = np.flatnonzero(np.isfinite(observations.loss))
        source = observations.source[observations.trial[rows]]
        data = self._data(observations, rows, _targets(observations.loss[rows], source))
        forest = RandomForestRegressor(60, max_features=0.7, random_state=0)
        self._forest = forest.fit(data.features, data.target)
        self._best = float(data.target.min())
        return level

    def score(self, candidates: Floats) -> Floats:
        """Return log expected improvement."""
        assert self._forest is not None
        features = self._columns.features(candidates, 1.0)
        trees = np.array([tree.predict(features) for tree in self._forest.estimators_])
        return log_expected_improvement(self._best, trees.mean(0), trees.std(0) + 1e-3)


Factory = Callable[[TableTask], SurrogateModel]
MODELS: dict[str, Factory] = {
    "random": lambda task: RandomModel(task.space.n_choices),
    "gp": lambda task: GpModel(task.space.n_choices),
    "gp, mean": lambda task: MeanModel(task.space.n_choices),
    "gp, trial variance": lambda task: TrialVarianceModel(task.space.n_choices),
    "forest": lambda task: ForestModel(task.space.n_choices),
}


@dataclass(frozen=True)
class Answer:
    """How good the suggestions of one model were in one state, on average."""

    suite: str
    run: str
    model: str
    regret: float
    """Of the suggested configurations."""
    gain: float
    """How far the incumbent's regret falls."""
    better: float
    """Share of suggestions that beat the incumbent."""


def ask(suite: str, task: TableTask, seed: int, models: list[str]) -> Iterator[Answer]:
    """Ask all models in the states of one run; states in which one has no answer are left out."""
    for state in states(task, seed):
        worth = Worth(task, state)
        answers = []
        for name in models:
            model = MODELS[name](task)
            if model.fit(state, np.random.default_rng(seed)) is None:
                break
            regret = np.array([worth.of(_suggest(model, i)) for i in range(SUGGESTIONS)])
            gain = np.maximum(worth.incumbent - regret, 0.0)
            run = f"{task.name} {seed}"
            better = float((gain > 0).mean())
            answers.append(Answer(suite, run, name, regret.mean(), gain.mean(), better))
        if len(answers) == len(models):
            yield from answers


def _suggest(model: SurrogateModel, number: int) -> Floats:
    candidates = model.propose(model.n_candidates, np.random.default_rng(number))
    best: Floats = candidates[int(np.argmax(model.score(candidates)))]
    return best


def table(answers: list[Answer]) -> str:
    """Means, and standard errors over runs, of each suite."""
    frame = pd.DataFrame(answers)
    parts = []
    for suite, here in frame.groupby("suite", sort=False):
        by_run = here.groupby(["model", "run"], sort=False)[["regret", "gain", "better"]].mean()
        groups = by_run.groupby("model", sort=False)
        mean, error = groups.mean(), groups.sem()
        cells = pd.DataFrame(
            {
                column: mean[column].map("{:.4f}".format) + error[column].map(" ± {:.4f}".format)
                for column in mean
            }
        )
        parts += [f"**{suite}**, {len(groups.get_group(mean.index[0]))} runs", markdown(cells)]
    return "\n\n".join(parts)


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=tasks.default_data(), metavar="DIR")
    add("--tasks", nargs="+", default=["lcbench", "taskset"], metavar="NAME")
    add("--seeds", type=int, default=8, metavar="N")
    add("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    add("--out", type=Path, default=tasks.ROOT / "benchmarks" / "results", metavar="DIR")
    arguments = parser.parse_args()
    chosen = [t for t in tasks.choose_tasks(arguments.data, arguments.tasks) if t[0] != "synthetic"]
    if not chosen:
        raise SystemExit(f"no recorded curves in {arguments.data}; give --data")
    answers: list[Answer] = []
    for seed in range(arguments.seeds):
        for i, (suite, name) in enumerate(chosen):
            task = tasks.load_task(arguments.data, suite, name)
            assert isinstance(task, TableTask)
            # draws of its own for each task: those of a suite share a space
            answers += ask(suite, task, seed * len(chosen) + i, arguments.models)
            print(f"seed {seed}: {name} done", flush=True)
    text = "\n\n".join(
        [
            "# Models at the same states",
            f"`python benchmarks/search/models.py --seeds {arguments.seeds}`: {versions()}, "
            f"scikit-learn {sklearn.__version__}.",
            f"Suggestions at {', '.join(f'{m:.1%}' for m in MOMENTS)} of the budget ({WORKERS} "
            f"workers, {BUDGET} full trainings each) of runs with BOHB's densities and ASHA's "
            f"promotion: {SUGGESTIONS} of each model in each state. Normalised regret at the last "
            "epoch; how much the incumbent's regret falls; share of suggestions better than the "
            "incumbent. Mean ± standard error over runs.",
            table(answers),
        ]
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "models.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
