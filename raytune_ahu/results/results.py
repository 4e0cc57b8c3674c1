"""`Results`: a run as frames, whatever state it is in. Made by `load`; frames in `schema`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from raytune_ahu.errors import MetricError, SpecError, StorageError
from raytune_ahu.results.checkpoints import find_checkpoint
from raytune_ahu.results.frames import is_absent
from raytune_ahu.results.schema import CONFIG, FRAMES, METRIC, describe
from raytune_ahu.space.discrete import Listed
from raytune_ahu.space.nested import unflatten
from raytune_ahu.types import Configuration, Mode, check_mode

if TYPE_CHECKING:
    from raytune_ahu.experiment import ExperimentSpec
    from raytune_ahu.final_test import Reading
    from raytune_ahu.space import SearchSpace

At: TypeAlias = Literal["any", "max_resource", "last"]
"""Where the value of a trial is looked for, see `Results.scores`."""

_RULES: dict[At, str] = {
    "any": "best value at any epoch",
    "max_resource": "best value among the trials that were trained longest, at that epoch",
    "last": "best of the trials' newest values, whatever their epoch",
}


@dataclass(frozen=True)
class Best:
    """A trial that is the best by a stated rule."""

    trial: str
    """Its id."""
    configuration: Configuration
    """Its hyperparameters."""
    metric: str
    """By what it was chosen."""
    value: float
    """The metric's value."""
    resource: int
    """The epoch at which it was seen."""
    at: At
    """The rule's name."""
    rule: str
    """The rule in words, with how many trials were compared."""


@dataclass(frozen=True)
class Results:
    """What a run has found, as far as its record tells.

    The frames are described in `raytune_ahu.results.schema`. Nothing here needs the machine, the
    cluster or the trainable that made the run.
    """

    name: str
    """Name of the run."""
    folder: Path
    """Where its record lies now."""
    metric: str
    """The metric that was tuned."""
    mode: Mode
    """Whether it is minimised or maximised."""
    max_resource: int
    """Epochs of a full training."""
    rung_levels: tuple[int, ...]
    """Resources at which trials were compared, ascending."""
    reduction_factor: int
    """eta."""
    trials: pd.DataFrame
    """One row a trial."""
    reports: pd.DataFrame
    """One row for each trial and epoch."""
    rungs: pd.DataFrame
    """One row a rung level."""
    intervals: pd.DataFrame
    """One row for each stay of a trial on a worker."""
    sessions: pd.DataFrame
    """One row for each time that a driver was started."""
    spec: ExperimentSpec | None = None
    """The whole specification; None for runs of stock Ray Tune."""
    space: SearchSpace | None = None
    """The search space; None where it is not known."""
    seed: int | None = None
    """Root seed."""
    wall_s: float = 0.0
    """Seconds of the run so far, idle time between sessions left out."""
    ended: str | None = None
    """Why its newest session ended; None: it was killed, or is going on."""
    notes: tuple[str, ...] = ()
    """What is odd about the record, in words."""
    test_reads: tuple[Reading, ...] = ()
    """Who has read the test split, when, what for, and what was found; the oldest first."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Versions, host, command, git commit, as far as they were recorded."""

    def __repr__(self) -> str:
        return (
            f"Results({self.name!r}: {len(self.trials)} trials, {len(self.reports)} reports of "
            f"{self.metric}, {self.mode})"
        )

    @property
    def sign(self) -> float:
        """1 where the metric is minimised, -1 where it is maximised: value * sign is a loss."""
        return 1.0 if self.mode == "min" else -1.0

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Flat names of the hyperparameters that the trials have."""
        return tuple(
            str(c).removeprefix(CONFIG) for c in self.trials.columns if str(c).startswith(CONFIG)
        )

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics whose values are numbers."""
        columns = self.reports.select_dtypes("number").columns
        names = [str(c).removeprefix(METRIC) for c in columns if str(c).startswith(METRIC)]
        return tuple(dict.fromkeys([self.metric, *names]))

    def values(self, metric: str | None = None) -> pd.Series[float]:
        """Return a metric of every report, aligned with `reports`; NaN where it is missing.

        Raises:
            MetricError: If there is no such metric; the message lists those that there are.
        """
        if metric is None or metric == self.metric:
            return self.reports["value"]
        if metric not in self.metrics:
            raise MetricError(
                f"metric {metric!r} was not reported by run {self.name!r}; there are "
                f"{', '.join(self.metrics)}"
            )
        column = self.reports[METRIC + metric]
        return pd.Series(column.to_numpy(np.float64, na_value=math.nan), index=column.index)

    def scores(
        self, metric: str | None = None, mode: Mode | None = None, *, at: At = "any"
    ) -> pd.DataFrame:
        """Rank the trials by one rule, the best first; among equals the earlier report.

        Args:
            metric: Which one; None: the tuned one.
            mode: Whether it is minimised or maximised; must be given for another metric.
            at: `any`: each trial's best value at any epoch; `max_resource`: its value at the
                highest epoch that any trial reached, of those that did; `last`: its newest value.

        Returns:
            Columns `trial`, `value`, `resource`; one row for each trial that has a finite value.

        Raises:
            MetricError: If there is no such metric.
            SpecError: If `mode` is missing or `at` is unknown.
        """
        if at not in get_args(At):
            raise SpecError(f"at={at!r} must be one of {', '.join(get_args(At))}")
        orientation = self._mode_for(metric, mode)
        table = self.reports[["trial", "resource"]].assign(value=self.values(metric))
        if at == "last":
            table = table.drop_duplicates("trial", keep="last")
        elif at == "max_resource" and len(table):
            table = table[table["resource"] == table["resource"].max()]
        table = table[np.isfinite(table["value"])]
        ranked = table.sort_values("value", ascending=orientation == "min", kind="stable")
        best: pd.DataFrame = ranked.drop_duplicates("trial")[["trial", "value", "resource"]]
        return best.reset_index(drop=True)

    def _mode_for(self, metric: str | None, mode: Mode | None) -> Mode:
        if mode is not None:
            try:
                return check_mode(mode)
            except ValueError as error:
                raise SpecError(str(error)) from None
        if metric is None or metric == self.metric:
            return self.mode
        raise SpecError(
            f"say whether {metric!r} is better when it is smaller (mode='min') or larger "
            "(mode='max')"
        )

    def best(self, metric: str | None = None, mode: Mode | None = None, *, at: At = "any") -> Best:
        """Return the best trial; the result says by which rule (see `scores`).

        Raises:
            MetricError: If there is no such metric, or no trial reported a finite value of it.
            SpecError: If `mode` is missing or `at` is unknown.
        """
        return self.top(1, metric, mode, at=at)[0]

    def top(
        self, k: int, metric: str | None = None, mode: Mode | None = None, *, at: At = "any"
    ) -> list[Best]:
        """Return the k best trials, the best first; fewer where fewer have a value.

        Raises:
            MetricError, SpecError: As `best`.
        """
        if k < 1:
            raise SpecError(f"k={k} must be at least 1")
        ranked = self.scores(metric, mode, at=at)
        if ranked.empty:
            raise MetricError(
                f"no trial of run {self.name!r} reported a finite {metric or self.metric}"
                f"{self._why_nothing()}"
            )
        data = "" if self.spec is None else "validation, "
        rule = f"{_RULES[at]} ({data}{len(ranked)} of {len(self.trials)} trials)"
        return [
            Best(
                trial=trial,
                configuration=self.configuration(trial),
                metric=metric or self.metric,
                value=value,
                resource=resource,
                at=at,
                rule=rule,
            )
            for trial, value, resource in ranked.head(k).to_numpy(object)
        ]

    def _why_nothing(self) -> str:
        counts = self.trials["status"].value_counts()
        told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        return f": its {len(self.trials)} trials are {told}" if told else ": it has no trials yet"

    @property
    def best_config(self) -> Configuration:
        """Hyperparameters of the trial with the best value at any epoch (raises as `best`)."""
        return self.best().configuration

    def trial(self, trial: str) -> pd.Series[Any]:
        """Return the row of one trial.

        Raises:
            SpecError: If there is none of that name.
        """
        at = self._rows.get(trial)
        if at is None:
            ids = list(self._rows)
            there = f"{ids[0]} to {ids[-1]}" if ids else "none"
            raise SpecError(f"trial {trial!r} is not in run {self.name!r}; there are {there}")
        return self.trials.iloc[at]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {trial: at for at, trial in enumerate(self.trials["trial"])}

    def configuration(self, trial: str) -> Configuration:
        """Return the hyperparameters of one trial, nested as the user nested them.

        Raises:
            SpecError: If there is no such trial.
        """
        self.trial(trial)  # refuses an unknown one
        at = self._rows[trial]
        flat = {name: cells[at] for name, cells in self._cells.items()}
        return unflatten({name: value for name, value in flat.items() if not is_absent(value)})

    @cached_property
    def _cells(self) -> dict[str, list[Any]]:
        """Hyperparameters by name, in the order of the trials, as plain Python values."""
        cells = {name: self.trials[CONFIG + name].tolist() for name in self.parameters}
        parameters = self.space.declaration.parameters if self.space else ()
        for parameter in parameters:
            domain = parameter.domain
            if isinstance(domain, Listed) and parameter.name in cells:  # 1 beside 2.5, not 1.0
                cells[parameter.name] = [
                    domain.decode(domain.encode(value))
                    if not is_absent(value) and domain.contains(value)
                    else value
                    for value in cells[parameter.name]
                ]
        return cells

    def checkpoint(self, trial: str, into: str | Path | None = None) -> Path:
        """Return the folder of a trial's newest checkpoint.

        Args:
            trial: Its id.
            into: Folder that a checkpoint in an object store is copied to; None: one beside the
                record. One on a disk that is seen here is not copied.

        Raises:
            SpecError: If there is no such trial.
            CheckpointError: If it never wrote one, or it is not there any more; the message says
                when and why it was deleted, and how to train the configuration again.
            StorageError: If the object store cannot be read.
        """
        return find_checkpoint(self, trial, None if into is None else Path(into))

    def best_checkpoint(self, *, at: At = "any", into: str | Path | None = None) -> Path:
        """Return the folder of the best trial's newest checkpoint (raises as both).

        It is of the trial's newest epoch, which need not be its best one; recommenders keep the
        weights of their best epoch in it as well.
        """
        return self.checkpoint(self.best(at=at).trial, into)

    def curves(self, metric: str | None = None) -> pd.DataFrame:
        """Return learning curves: a row for each epoch, a column for each trial.

        Raises:
            MetricError: If there is no such metric.
        """
        table = self.reports[["trial", "resource"]].assign(value=self.values(metric))
        return table.set_index(["resource", "trial"])["value"].unstack()  # noqa: PD010  # one value each

    # Writing ------------------------------------------------------------------------------------

    def to_parquet(self, folder: str | Path) -> Path:
        """Write every frame as `NAME.parquet`, and `schema.json`, into a folder.

        Columns that mix kinds of values are written as text.

        Raises:
            StorageError: If it cannot be written.
        """
        return self._write(Path(folder), "parquet")

    def to_csv(self, folder: str | Path) -> Path:
        """Write every frame as `NAME.csv`, and `schema.json`, into a folder.

        Raises:
            StorageError: If it cannot be written.
        """
        return self._write(Path(folder), "csv")

    def _write(self, folder: Path, kind: Literal["parquet", "csv"]) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in FRAMES:
                frame = _writable(getattr(self, name))
                if kind == "parquet":
                    frame.to_parquet(folder / f"{name}.parquet", index=False)
                else:
                    frame.to_csv(folder / f"{name}.csv", index=False)
            described = {"run": self.name, "metric": self.metric, "mode": self.mode, **describe()}
            text = json.dumps(described, indent=2)
            (folder / "schema.json").write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error
        return folder


def _writable(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of mixed values into text."""
    mixed = [name for name in frame.columns if frame[name].dtype == object]
    written = frame.copy()
    for name in mixed:
        written[name] = [_text(cell) for cell in frame[name]]
    return written


def _text(cell: Any) -> str | None:
    if cell is pd.NA:
        return None
    return cell if isinstance(cell, str) else json.dumps(cell, default=repr)


def names_of(results: Sequence[Results]) -> list[str]:
    """Names of several runs, made different where they are equal: `a`, `a (2)`."""
    names: list[str] = []
    for result in results:
        name, n = result.name, 1
        while name in names:
            n += 1
            name = f"{result.name} ({n})"
        names.append(name)
    return names
