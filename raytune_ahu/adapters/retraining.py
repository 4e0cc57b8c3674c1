"""The chosen configuration trained on training and validation data, and tested once.

`retrain` is both steps: `fit_final` trains it with several seeds, in a run of its own, to the end;
`measure_final` reads the test split once for all of these models, and writes that down in the
record of the search (see `raytune_ahu.final_test`). Nothing is chosen after that: not even a seed.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ahu.adapters.reruns import (
    Means,
    check_rerun,
    current_spec,
    fresh_seeds,
    recorded_configurations,
    rerun_spec,
    run_again,
)
from raytune_ahu.adapters.runner import RunResult
from raytune_ahu.errors import MetricError, SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.final_test import (
    Reading,
    open_record,
    reading_test,
    readings_of,
    refuse_second_reading,
)
from raytune_ahu.records import SPEC_FILE, read_events, read_json
from raytune_ahu.results import At, Best, Results
from raytune_ahu.run_state import TrialState
from raytune_ahu.storage import CheckpointStorage
from raytune_ahu.types import FIT_ON_ALL, FIT_ON_KEY, TRIAL_SEED_KEY, TrialStatus

RETRAINED_SUFFIX = "-retrained"
PURPOSE = "the retrained winner"
_LOSS = "train_loss"


@dataclass(frozen=True)
class Fitted:
    """A chosen configuration, trained on training and validation data."""

    run: RunResult
    """The run that trained it."""
    best: Best
    """What was chosen, and by which rule."""
    trials: tuple[TrialState, ...]
    """The trainings that came to their end, in the order of the seeds."""
    diverged: tuple[int, ...]
    """Seeds with which it diverged."""
    spec: ExperimentSpec
    """The search that it comes from, with the places where it lies now."""
    trainable: type[Any]
    """The class."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of `trials`."""
        return tuple(trial.configuration[TRIAL_SEED_KEY] for trial in self.trials)

    def restore(self, index: int = 0) -> Any:
        """Build a trained model again, outside Ray.

        Args:
            index: Which of `trials`.

        Raises:
            CheckpointError: If its checkpoint is damaged.
            StorageError: If it cannot be read.
        """
        trial, spec = self.trials[index], self.run.spec
        storage = CheckpointStorage(spec.storage_path, spec.name)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "checkpoint"
            storage.fetch(trial.checkpoints[max(trial.checkpoints)], target)
            restored = self.trainable({**trial.configuration, "settings": dict(spec.settings)})
            restored.load_checkpoint(str(target))
        return restored


@dataclass(frozen=True)
class Tested:
    """What a fitted configuration achieves on the test split."""

    fitted: Fitted
    """The configuration and its trainings."""
    values: Mapping[str, tuple[float, ...]]
    """Test metric -> its value for each seed of `fitted.seeds`."""
    reading: Reading
    """The reading of the test split, as it is on record."""
    is_new: bool
    """Whether it was read now; otherwise the figures are those on record."""
    before: tuple[Reading, ...] = ()
    """Earlier readings of the same split."""

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over seeds."""
        return {name: statistics.fmean(values) for name, values in self.values.items()}

    @property
    def spreads(self) -> dict[str, float]:
        """Standard deviation over seeds; NaN for a single one."""
        return {name: spread(values) for name, values in self.values.items()}


def retrain(
    results: Results,
    means: Means,
    *,
    seeds: int = 3,
    trial: str | None = None,
    at: At = "any",
    name: str | None = None,
    read_test_again: bool = False,
) -> Tested:
    """Train the chosen configuration on all data with several seeds, and read the test split once.

    Where it was interrupted, the same call goes on with it; where all is done, it returns what is
    on record. Args, and what is raised: see `fit_final` and `measure_final`.
    """
    fitted = fit_final(
        results,
        means,
        seeds=seeds,
        trial=trial,
        at=at,
        name=name,
        read_test_again=read_test_again,
    )
    return measure_final(fitted, read_test_again=read_test_again)


def fit_final(
    results: Results,
    means: Means,
    *,
    seeds: int = 3,
    trial: str | None = None,
    at: At = "any",
    name: str | None = None,
    read_test_again: bool = False,
) -> Fitted:
    """Train the chosen configuration on training and validation data, with n seeds.

    For the full number of epochs; trainables whose checkpoints hold the weights of their best epoch
    train for as many epochs as that was in the search, as no validation data are left to find it.
    The run is called `NAME-retrained`. Before it starts, it is checked that the test may be read.

    Args:
        results: The search.
        means: With what. The trainable must have `check_retraining` and `evaluate_test` (see
            `trainables.EpochTrainable`).
        seeds: Trainings, each with a seed of its own.
        trial: Which trial's configuration; None: that of `results.best(at=at)`.
        at: The rule by which the best is found.
        name: Another name for the new run.
        read_test_again: Whether the test split may be read although it was read before.

    Raises:
        SpecError: If the trainable has no test split or cannot train on validation data, if the
            test was read before, or if a run of that name trains something else.
        MetricError: If no trial has a finite value, or no training came to its end.
        RunBusyError: If the search is still going on.
        AhuError: As `runner.run`.
    """
    spec = current_spec(results)
    _check_trainable(means.trainable)
    best = _chosen(results, trial, at)
    values = fresh_seeds(spec, "retrain", seeds)
    keeps_best = bool(getattr(means.trainable, "keeps_best_weights", False))
    new = rerun_spec(
        spec,
        name or f"{spec.name}{RETRAINED_SUFFIX}",
        recorded_configurations(results, [best]),
        values,
        metric=_LOSS,
        mode="min",
        max_epochs=best.resource if keeps_best else spec.max_epochs,
        keep_best=seeds,
        keep_best_at="max_resource",
        settings={**spec.settings, FIT_ON_KEY: FIT_ON_ALL},
    )
    check_rerun(new)
    with open_record(spec):  # the search must have ended
        readings = readings_of(read_events(spec.folder))
    if not read_test_again and _own_reading(readings, _details(new, best.trial)) is None:
        refuse_second_reading(spec.name, readings)
    return _fitted(run_again(new, means), best, spec, means.trainable)


def _check_trainable(trainable: type[Any]) -> None:
    check = getattr(trainable, "check_retraining", None)
    if check is None:
        raise SpecError(
            f"{trainable.__name__} cannot be retrained: it has no check_retraining and "
            "evaluate_test; make it a subclass of trainables.TorchTrainable with a load_test"
        )
    check()


def _chosen(results: Results, trial: str | None, at: At) -> Best:
    if trial is None:
        return results.best(at=at)
    results.trial(trial)  # refuses an unknown one
    for one in results.top(len(results.trials), at=at):
        if one.trial == trial:
            return one
    raise MetricError(f"{trial} of run {results.name!r} reported no finite {results.metric}")


def _fitted(run: RunResult, best: Best, spec: ExperimentSpec, trainable: type[Any]) -> Fitted:
    trials = [run.state.trials[name] for name in sorted(run.state.trials)]
    done = [t for t in trials if t.status is TrialStatus.COMPLETED and t.checkpoints]
    diverged = [t for t in trials if t.value is not None and not math.isfinite(t.value)]
    left = [t for t in trials if t not in done and t not in diverged]
    fitted = Fitted(
        run=run,
        best=best,
        trials=tuple(done),
        diverged=tuple(trial.configuration[TRIAL_SEED_KEY] for trial in diverged),
        spec=spec,
        trainable=trainable,
    )
    if run.ended == "interrupted":
        return fitted
    if left:
        error = (left[0].error or left[0].status.value).strip().splitlines()[-1]
        raise MetricError(
            f"{len(left)} of {len(trials)} trainings of run {run.spec.name!r} have failed "
            f"({left[0].trial_id}: {error}), so nothing is tested; mend the cause, and the same "
            "command tries them again"
        )
    if not done:
        raise MetricError(
            f"all {len(diverged)} trainings of run {run.spec.name!r} diverged; choose another trial"
        )
    return fitted


def measure_final(fitted: Fitted, *, read_test_again: bool = False) -> Tested:
    """Read the test split once, with all models; it is on record before and after.

    Args:
        fitted: What to test.
        read_test_again: Whether it may be read although it was read before. Otherwise, where these
            very models were tested before, what is on record is returned.

    Raises:
        SpecError: If it was read before, for something else or without an end.
        RunBusyError: If another process is writing the record of the search.
        CheckpointError, StorageError: If a model cannot be read.
    """
    spec = fitted.spec
    models = [fitted.restore(i) for i in range(len(fitted.trials))]
    readings = readings_of(read_events(spec.folder))
    details = _details(fitted.run.spec, fitted.best.trial)
    own = _own_reading(readings, details)
    if own is not None and not read_test_again:
        assert own.figures is not None
        values = {key: tuple(row) for key, row in own.figures["values"].items()}
        return Tested(fitted, values, own, is_new=False, before=readings[: own.number - 1])
    with reading_test(spec, purpose=PURPOSE, details=details, again=read_test_again) as reading:
        rows = [model.evaluate_test() for model in models]
        values = {key: tuple(float(row[key]) for row in rows) for key in rows[0]}
        figures = {
            "values": values,
            "mean": {key: statistics.fmean(row) for key, row in values.items()},
            "sd": {key: spread(row) for key, row in values.items()},
            "seeds": list(fitted.seeds),
        }
        reading.measured(figures, _summary(values, spec.metric))
    written = readings_of(read_events(spec.folder))
    return Tested(fitted, values, written[-1], is_new=True, before=written[:-1])


def _details(run: ExperimentSpec, trial: str) -> dict[str, Any]:
    """What is tested: which trainings, of what.

    A run that was made anew under the same name has other models, whose figures are not on record.
    """
    path = run.folder / SPEC_FILE
    return {
        "run": run.name,
        "trial": trial,
        "seeds": [point[TRIAL_SEED_KEY] for point in run.points_to_evaluate],
        "epochs": run.max_epochs,
        "run_made": read_json(path).get("created") if path.exists() else None,
    }


def _own_reading(readings: tuple[Reading, ...], details: Mapping[str, Any]) -> Reading | None:
    """The newest reading of these very models that came to its end."""
    for reading in reversed(readings):
        same = reading.purpose == PURPOSE and reading.details == details
        if same and reading.figures is not None:
            return reading
    return None


def spread(values: tuple[float, ...]) -> float:
    """Standard deviation of a sample; NaN for a single value."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def main_metric(values: Mapping[str, Any], tuned: str) -> str:
    """The test metric that corresponds to the one that was tuned, or the first one."""
    name = f"test_{tuned.removeprefix('validation_')}"
    return name if name in values else next(iter(values))


def _summary(values: Mapping[str, tuple[float, ...]], tuned: str) -> str:
    name = main_metric(values, tuned)
    row = values[name]
    mean = f"{name.removeprefix('test_')} {statistics.fmean(row):.4f}"
    return f"{mean} ± {spread(row):.4f}" if len(row) > 1 else f"{mean} (one seed)"
