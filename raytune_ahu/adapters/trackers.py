"""MLflow and Weights & Biases through Ray's own callbacks, fed from the run's record.

Ray's callbacks take Ray's trials and results: they would log the trainable's fixed settings, Ray's
bookkeeping and a new run for each retry and each resume. Here they are given a `_View` of a trial:
its hyperparameters, its metrics, and one identity for as long as the run lives. See `loggers`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.tune.result import TRAINING_ITERATION

from raytune_ahu.analysis.stories import Point, Story
from raytune_ahu.errors import OptionalDependencyError, TrackerError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import SPEC_FILE, read_json
from raytune_ahu.types import TrialStatus

RUN_TAG = "raytune_ahu.run"
"""Tag of an MLflow run that names the tuning run which it belongs to."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_UPLOAD_S = 120  # seconds for what Weights & Biases has not sent yet when a run ends


@dataclass(eq=False)
class _View:
    """What Ray's callbacks use of a trial."""

    trial_id: str
    name: str
    config: dict[str, Any]
    local_path: str
    experiment_dir_name: str

    def __str__(self) -> str:
        return self.name


def _require(package: str, extra: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise OptionalDependencyError(
            f"--{extra} needs {package}; install it with: pip install 'raytune-ahu[{extra}]'"
        ) from error


def _result(point: Point) -> dict[str, Any]:
    return {**point.metrics, TRAINING_ITERATION: point.resource}


def _run_key(spec: ExperimentSpec) -> str:
    """A name of the tuning run that another run of the same name does not have."""
    created = read_json(spec.folder / SPEC_FILE).get("created", "")
    return f"{spec.name}-{zlib.crc32(str(created).encode()):08x}"


# --- MLflow


def tracking_uri(given: str) -> str:
    """Return the tracking URI that is meant by an option's value.

    Args:
        given: A URI or a folder; empty: MLFLOW_TRACKING_URI, or MLflow's own default, a SQLite file
            `mlflow.db` in the current folder.

    Raises:
        TrackerError: If it holds a password: the command line is recorded.
    """
    if not given:
        return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if urlsplit(given).password is not None:
        raise TrackerError(
            f"--mlflow {shown_uri(given)} holds a password, and the command line is recorded; put "
            "the URI into MLFLOW_TRACKING_URI and give --mlflow without a value"
        )
    return given


def shown_uri(uri: str) -> str:
    """A URI without the user and password that it may hold."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else uri


class MLflow:
    """One MLflow experiment a tuning run, by its name; one MLflow run a trial, by its id.

    What an earlier session logged is not logged again, and what it did not log is made up for: the
    epochs after the newest one that MLflow has. A trial that is stopped is FINISHED, one that was
    left unfinished KILLED until it is resumed.

    Args:
        spec: The experiment.
        uri: The tracking URI.

    Raises:
        OptionalDependencyError: If MLflow is not installed.
        TrackerError: If the tracking store cannot be reached.
    """

    name = "MLflow"

    def __init__(self, spec: ExperimentSpec, uri: str) -> None:
        _require("mlflow", "mlflow")
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        for variable, value in _PATIENCE.items():
            os.environ.setdefault(variable, value)  # by default a server that is down takes minutes
        if "://" not in uri or uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3.7 and later ask
        self._spec = spec
        self._callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=spec.name)
        try:
            self._callback.setup()
        except Exception as error:
            raise TrackerError(
                f"MLflow cannot be used at {shown_uri(uri)} ({_first_line(error)}); check "
                "--mlflow, or leave it out"
            ) from error
        self._views: dict[str, _View] = {}
        self._logged: dict[str, int] = {}
        self._unfinished: set[str] = set()

    def open(self, stories: Mapping[str, Story]) -> None:
        """Find the MLflow runs of earlier sessions, and log what they lack."""
        key = _run_key(self._spec)
        self._callback.tags = {RUN_TAG: key}
        known = self._known_runs(key)
        for story in stories.values():
            view = self._view(story)
            run_id, self._logged[story.trial], is_settled = known.get(story.trial, ("", 0, False))
            if run_id:
                self._callback._trial_runs[view] = run_id  # where Ray's callback looks
            if self._logged[story.trial] < max(story.points, default=0):
                self.begin(story)
            if story.status.is_final and not is_settled:
                self.end(story)

    def begin(self, story: Story) -> None:
        """Start the trial's MLflow run, or go on with it."""
        view = self._view(story)
        if story.trial not in self._unfinished:
            is_known = view in self._callback._trial_runs
            self._callback.log_trial_start(view)
            if is_known:
                run_id = self._callback._trial_runs[view]
                self._client.update_run(run_id, status="RUNNING")
            self._unfinished.add(story.trial)
        for point in list(story.points.values()):
            self.report(story, point)

    def report(self, story: Story, point: Point) -> None:
        """Log the metrics of an epoch, unless MLflow has them."""
        if story.trial not in self._unfinished:
            self.begin(story)
        if point.resource > self._logged.get(story.trial, 0):
            self._callback.log_trial_result(0, self._view(story), _result(point))
            self._logged[story.trial] = point.resource

    def pause(self, story: Story) -> None:
        """Nothing: a paused trial is still being run."""

    def end(self, story: Story) -> None:
        """End the trial's MLflow run."""
        self._unfinished.discard(story.trial)
        view = self._view(story)
        if view in self._callback._trial_runs:  # else it ended before it got a worker
            self._callback.log_trial_end(view, failed=story.status is TrialStatus.FAILED)

    def close(self) -> None:
        """Mark what is unfinished as killed; a resumed run takes it up again."""
        for trial in self._unfinished:
            run_id = self._callback._trial_runs[self._views[trial]]
            self._client.set_terminated(run_id, status="KILLED")

    @property
    def _client(self) -> Any:
        return self._callback.mlflow_util._get_client()

    def _view(self, story: Story) -> _View:
        if story.trial not in self._views:
            self._views[story.trial] = _View(
                story.trial,
                story.trial,
                story.hyperparameters,
                str(self._spec.folder),
                self._spec.name,
            )
        return self._views[story.trial]

    def _known_runs(self, key: str) -> dict[str, tuple[str, int, bool]]:
        """Trials -> id of their MLflow run, the newest epoch that it has, and whether it ended."""
        known: dict[str, tuple[str, int, bool]] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._callback.mlflow_util.experiment_id],
                filter_string=f"tags.`{RUN_TAG}` = '{key}'",
                page_token=token,
            )
            for run in page:
                epoch = int(run.data.metrics.get(TRAINING_ITERATION, 0))
                is_settled = run.info.status in ("FINISHED", "FAILED")
                known[run.data.tags["trial_name"]] = run.info.run_id, epoch, is_settled
            token = page.token
            if not token:
                return known


# --- Weights & Biases


class WandB:
    """One W&B run a trial, named by its id, in a group named like the tuning run.

    Ray gives each trial that is being trained two small processes on the driver's machine; paused
    trials give them up. Their files lie in `wandb` in the run's folder. A trial that goes on
    sends its earlier epochs again, of which W&B takes those that it does not have.

    Args:
        spec: The experiment.
        project: The project.

    Raises:
        OptionalDependencyError: If wandb is not installed.
        TrackerError: If it wants a login.
    """

    name = "Weights & Biases"

    def __init__(self, spec: ExperimentSpec, project: str) -> None:
        _require("wandb", "wandb")
        from ray.air.integrations.wandb import WandbLoggerCallback

        # The processes that log need not have this one's environment.
        passed_on = {
            "mode": os.environ.get("WANDB_MODE"),
            "entity": os.environ.get("WANDB_ENTITY"),
        }
        self._spec = spec
        self._callback = WandbLoggerCallback(
            project=project,
            group=spec.name,
            upload_timeout=_UPLOAD_S,
            resume="allow",
            **{name: value for name, value in passed_on.items() if value},
        )
        try:
            self._callback.setup()
        except ValueError as error:
            raise TrackerError(
                "Weights & Biases wants a login: run `wandb login`, set WANDB_API_KEY, or set "
                "WANDB_MODE=offline to write files only"
            ) from error
        self._key = ""
        self._views: dict[str, _View] = {}
        self._closing: dict[str, Any] = {}

    def open(self, stories: Mapping[str, Story]) -> None:
        """Nothing: only trials that go on are logged."""
        self._key = _run_key(self._spec)

    def begin(self, story: Story) -> None:
        """Start the processes that log a trial, and send what it has reported so far."""
        if story.trial in self._views:
            return
        before = self._closing.pop(story.trial, None)
        if before is not None:  # two processes must not write one W&B run
            with contextlib.suppress(ray.exceptions.RayError):
                ray.wait([before], timeout=_UPLOAD_S)
        view = self._views[story.trial] = _View(
            f"{self._key}-{story.trial}",
            story.trial,
            story.hyperparameters,
            str(self._spec.folder),
            self._spec.name,
        )
        self._callback.log_trial_start(view)
        for point in list(story.points.values()):
            self._callback.log_trial_result(0, view, _result(point))

    def report(self, story: Story, point: Point) -> None:
        """Send the metrics of an epoch."""
        view = self._views.get(story.trial)
        if view is None:
            self.begin(story)
        else:
            self._callback.log_trial_result(0, view, _result(point))

    def pause(self, story: Story) -> None:
        """End the processes of a trial; it may be taken up again."""
        self.end(story)

    def end(self, story: Story) -> None:
        """End the processes of a trial once they have sent everything."""
        view = self._views.pop(story.trial, None)
        if view is not None:
            self._closing[story.trial] = self._callback._trial_logging_futures[view]
            self._callback.log_trial_end(view, failed=story.status is TrialStatus.FAILED)

    def close(self) -> None:
        """End all processes; what is not sent by then stays in the files (`wandb sync`)."""
        for view in self._views.values():
            self._callback.log_trial_end(view)
        self._callback.on_experiment_end([])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
