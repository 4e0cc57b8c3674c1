"""Hands a run to TensorBoard, MLflow or Weights & Biases while it is going on.

What they are given is read from the run's record, so that they hold what the record holds: trials
that were stopped, paused, failed, tried again or resumed included. A thread of its own does that:
a tracker that is slow or away neither holds up nor ends a run. Start with `make_loggers`, whose
callbacks go into `run(..., callbacks=...)`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from rich.console import Console

from raytune_ahu.analysis.stories import Point, Story, stories_of
from raytune_ahu.analysis.tensorboard import EventFiles, describe_space
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import LOG_FILE, loads
from raytune_ahu.results import load
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import TrialStatus

LOOK_EVERY_S = 0.5
"""How often the record is looked at for news."""
WAIT_AT_THE_END_S = 150.0
"""How long the end of a run waits for a tracker to take the rest."""
_PATIENCE_S = 3.0  # how long it waits without a word


class Sink(Protocol):
    """A tracker, as seen from here. What it raises is shown once, and is the end of it."""

    name: str
    """What the user calls it."""

    def open(self, stories: Mapping[str, Story]) -> None:
        """Take in what earlier sessions of the run have recorded."""
        ...

    def begin(self, story: Story) -> None:
        """A trial gets a worker: for the first time, or again."""
        ...

    def report(self, story: Story, point: Point) -> None:
        """A trial has reported."""
        ...

    def pause(self, story: Story) -> None:
        """A trial gives up its worker, and may go on later."""
        ...

    def end(self, story: Story) -> None:
        """A trial has ended; the story says how."""
        ...

    def close(self) -> None:
        """There is no more to come; trials that have not ended stay unfinished."""
        ...


class TensorBoard:
    """Event files in the trials' folders of a run.

    Args:
        spec: The experiment.

    Raises:
        OptionalDependencyError: If tensorboardX is not installed.
    """

    name = "TensorBoard"

    def __init__(self, spec: ExperimentSpec) -> None:
        self._files = EventFiles(spec.folder, spec.metric, describe_space(spec.space))

    def open(self, stories: Mapping[str, Story]) -> None:
        """Write the files of all trials anew: a killed driver may have torn them."""
        for story in stories.values():
            self._files.rewrite(story)

    def begin(self, story: Story) -> None:
        """Make the file of a new trial."""
        if not story.points:
            self._files.rewrite(story)

    def report(self, story: Story, point: Point) -> None:
        """Add a report."""
        self._files.append(story, point)

    def pause(self, story: Story) -> None:
        """Nothing: no file is kept open."""

    def end(self, story: Story) -> None:
        """Add how the trial ended."""
        self._files.end(story)

    def close(self) -> None:
        """Nothing: no file is kept open."""


class RecordFollower(Callback):
    """A callback of Ray that hands a run's record to a tracker; see the module.

    Args:
        spec: The experiment.
        sink: The tracker.
        console: Where to say that it failed.
        wait_s: How long the end of the run waits for it.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        sink: Sink,
        console: Console,
        *,
        wait_s: float = WAIT_AT_THE_END_S,
    ) -> None:
        self._spec, self._sink, self._console, self._wait_s = spec, sink, console, wait_s
        self._stories: dict[str, Story] = {}
        self._is_last_look = threading.Event()
        self._thread: threading.Thread | None = None

    def setup(self, **info: Any) -> None:
        """Begin with what is on record now."""
        try:
            self._stories = stories_of(load(self._spec.folder))
            tail = _Tail(self._spec.folder / LOG_FILE)
        except Exception as error:  # noqa: BLE001  # no tracker is worth a run
            return self._complain(error)
        self._thread = threading.Thread(
            target=self._follow, args=(tail,), name=self._sink.name, daemon=True
        )
        self._thread.start()
        return None

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Wait until the tracker has taken the rest."""
        self._is_last_look.set()
        if self._thread is None:
            return
        self._thread.join(min(_PATIENCE_S, self._wait_s))
        if self._thread.is_alive() and self._wait_s > _PATIENCE_S:
            self._say(f"{self._sink.name} takes the rest, within {self._wait_s:g} s")
            self._thread.join(self._wait_s - _PATIENCE_S)
        if self._thread.is_alive():
            self._say(
                f"{self._sink.name} has not taken everything within {self._wait_s:g} s; the rest "
                "is on record only"
            )

    def _follow(self, tail: _Tail) -> None:
        try:
            self._sink.open(self._stories)
            while True:
                is_last = self._is_last_look.wait(LOOK_EVERY_S)
                for event in tail.news():
                    self._pass_on(event)
                    is_last = is_last or event["event"] == "run_ended"
                if is_last:
                    break
            self._sink.close()
        except Exception as error:  # noqa: BLE001  # no tracker is worth a run
            self._complain(error)

    def _pass_on(self, event: Mapping[str, Any]) -> None:
        """Take an event into the story of its trial, and tell the tracker."""
        kind, trial = event["event"], event.get("trial")
        if kind == "suggested":
            self._stories[event["trial"]] = Story(
                event["trial"],
                flatten(dict(event["configuration"])),
                self._spec.metric,
                self._spec.mode,
            )
        story = self._stories.get(trial) if isinstance(trial, str) else None
        if story is None:
            return
        if kind == "started":
            story.status = TrialStatus.RUNNING
            self._sink.begin(story)
        elif kind == "reported":
            value = {} if event["value"] is None else {self._spec.metric: event["value"]}
            metrics = {**event["metrics"], **value}
            self._sink.report(story, story.add(event["resource"], event["time"], metrics))
            if event["decision"] == "pause":
                story.status = TrialStatus.PAUSED
                self._sink.pause(story)
        elif kind == "finished":
            story.status = TrialStatus(event["status"])
            self._sink.end(story)

    def _complain(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        self._say(
            f"{self._sink.name} gets nothing more of this run ({type(error).__name__}: "
            f"{text[:300]}); the run goes on, and its record is complete"
        )

    def _say(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


class _Tail:
    """Reads a log as it grows, from its present end on; a line that is not whole has to wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def news(self) -> Iterator[dict[str, Any]]:
        """The events since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield loads(line.decode("utf-8"))


def make_loggers(
    spec: ExperimentSpec,
    *,
    tensorboard: bool = False,
    mlflow: str | None = None,
    wandb: str | None = None,
    console: Console | None = None,
) -> list[RecordFollower]:
    """Make the callbacks that hand a run to trackers, and say where it can be seen.

    Args:
        spec: The experiment.
        tensorboard: Whether to write TensorBoard event files into the run's folder.
        mlflow: A tracking URI of MLflow; empty: that of MLFLOW_TRACKING_URI, or a file
            `mlflow.db` in the current folder. None: no MLflow.
        wandb: A project of Weights & Biases; empty: that of WANDB_PROJECT, or `raytune-ahu`. None:
            no Weights & Biases.
        console: Where to say so; None: standard output.

    Raises:
        OptionalDependencyError: If a package is not installed.
        TrackerError: If a tracker cannot be reached or wants a login.
    """
    from raytune_ahu.adapters.trackers import MLflow, WandB, shown_uri, tracking_uri

    console = console or Console()
    sinks: list[Sink] = []
    if tensorboard:
        sinks.append(TensorBoard(spec))
        _announce(console, f"TensorBoard: tensorboard --logdir {spec.folder}")
    if mlflow is not None:
        uri = tracking_uri(mlflow)
        sinks.append(MLflow(spec, uri))
        _announce(console, f"MLflow: experiment {spec.name} in {shown_uri(uri)}")
    if wandb is not None:
        project = wandb or os.environ.get("WANDB_PROJECT") or "raytune-ahu"
        sinks.append(WandB(spec, project))
        _announce(console, f"Weights & Biases: project {project}, group {spec.name}")
    return [RecordFollower(spec, sink, console) for sink in sinks]


def _announce(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
