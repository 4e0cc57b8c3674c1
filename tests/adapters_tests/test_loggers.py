"""Runs on a real Ray that are handed to TensorBoard, MLflow and Weights & Biases, offline."""

from __future__ import annotations

import io
import json
import math
import shutil
import signal
import struct
import threading

import pytest
from ray.tune import Callback
from rich.console import Console

from raytune_ahu.adapters.loggers import RecordFollower, TensorBoard, make_loggers
from raytune_ahu.adapters.runner import run
from raytune_ahu.adapters.trackers import shown_uri, tracking_uri
from raytune_ahu.errors import OptionalDependencyError, TrackerError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.results import load
from raytune_ahu.space import SearchSpace
from raytune_ahu.space.nested import flatten
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from tests.recorded_runs import record_run

MLFLOW = "needs MLflow: pip install 'raytune-ahu[mlflow]'"
WANDB = "needs W&B: pip install 'raytune-ahu[wandb]'"

SPACE = {
    "x": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
    "model": {"layers": {"domain": "randint", "lower": 1, "upper": 4}},
}


def make_spec(tmp_path, **changes):
    fields = {
        "name": "toy",
        "trainable": "tests:Toy",
        "space": SearchSpace.from_dict(SPACE),
        "metric": "loss",
        "mode": "min",
        "max_epochs": 4,
        "num_samples": 6,
        "search": "bohb",
        "grace_period": 1,
        "reduction_factor": 2,
        "storage_path": str(tmp_path),
    }
    return ExperimentSpec(**{**fields, **changes})


def execute(spec, trainable, loggers, *, resume=False, retry_failed=False):
    return run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=resume,
        retry_failed=retry_failed,
        console=quiet(),
        callbacks=loggers,
    )


def quiet():
    return Console(file=io.StringIO(), width=200)


def said(console):
    return console.file.getvalue()


# --- TensorBoard


def curve(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    if tag not in events.Tags()["scalars"]:
        return []
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def shown_hparams(folder):
    """Content of the HPARAMS records of one trial, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    events = EventAccumulator(str(folder))
    events.Reload()
    content = {}
    for tag, data in events.PluginTagToContent("hparams").items():
        content[tag] = plugin_data_pb2.HParamsPluginData.FromString(data)
    return content


def assert_event_files_hold_the_record(folder):
    """Compare the event files of a run with its record; return the record."""
    results = load(folder)
    for trial, reports in results.reports.groupby("trial"):
        finite = reports[reports["value"].notna()]
        recorded = list(zip(finite["resource"], finite["value"], strict=True))
        assert curve(folder / trial, results.metric) == recorded, trial
    for trial, status in zip(results.trials["trial"], results.trials["status"], strict=True):
        if status == "pending" and not any((folder / trial).glob("*tfevents*")):
            continue  # suggested, but it had no worker yet
        shown = shown_hparams(folder / trial)
        hparams = shown["_hparams_/session_start_info"].session_start_info.hparams
        assert set(hparams) == set(flatten(results.configuration(trial)))
        ended = shown.get("_hparams_/session_end_info")
        if status in ("completed", "stopped", "failed"):
            assert ended.session_end_info.status == (2 if status == "failed" else 1)
        else:
            assert ended is None
    return results


@pytest.fixture
def readers():
    pytest.importorskip("tensorboard", reason="needs TensorBoard's readers")


class EndAfter(Callback):
    """Ends a run in order, as Ctrl-C does, after so many reports."""

    def __init__(self, reports):
        self.left = reports

    def on_trial_result(self, **info):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray", "readers")
def test_a_run_that_was_interrupted_and_resumed_has_each_epoch_once(tmp_path, toy_trainable):
    pytest.importorskip("mlflow", reason=MLFLOW)
    store = f"file:{tmp_path}/mlruns"
    spec = make_spec(
        tmp_path,
        grace_period=4,
        num_samples=4,
        checkpoint_frequency=2,
        max_failures=1,
        settings={"fail_once_at": 4},  # which repeats epoch 3
    )
    loggers = make_loggers(spec, tensorboard=True, mlflow=store, console=quiet())
    first = execute(spec, toy_trainable, [*loggers, EndAfter(3)])
    assert first.ended == "interrupted"
    assert_event_files_hold_the_record(first.folder)
    assert "KILLED" in {status for status, *_ in assert_mlflow_holds_the_record(store, spec)}

    loggers = make_loggers(spec, tensorboard=True, mlflow=store, console=quiet())
    second = execute(spec, toy_trainable, loggers, resume=True)
    assert second.ended == "finished"
    results = assert_event_files_hold_the_record(second.folder)
    assert results.trials["epochs_run"].sum() > len(results.reports)
    assert_mlflow_holds_the_record(store, spec)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_follower_ends_with_a_run_that_broke_off(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, metric="no_such_metric")
    sink = Broken(None)
    follower = RecordFollower(spec, sink, quiet())
    with pytest.raises(ValueError, match="no_such_metric"):
        execute(spec, toy_trainable, [follower])
    follower._thread.join(20)
    assert not follower._thread.is_alive()
    assert sink.calls[-1] == "close"


# --- the record as it grows, without Ray


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Runs by scheduler, each with trials that failed."""
    place = tmp_path_factory.mktemp("recorded")
    fields = {"num_samples": 12, "max_epochs": 9, "diverges_above": 0.3, "seed": 8}
    return {
        scheduler: record_run(place / scheduler, scheduler=scheduler, **fields)
        for scheduler in ("asha", "asha-promotion")
    }


class Growing:
    """A copy of a recorded run whose log grows piece by piece, each piece a session's."""

    def __init__(self, recorded, folder):
        folder.mkdir(parents=True)
        shutil.copy(recorded / "spec.json", folder)
        self.lines = (recorded / "log.jsonl").read_bytes().splitlines(keepends=True)
        self.log, self.told = folder / "log.jsonl", 0
        self.log.write_bytes(b"")
        self.spec = load(folder).spec.replace(name=folder.name, storage_path=str(folder.parent))

    def grow(self, until, followers=()):
        """Let the log grow until some share of it is written, while followers follow it."""
        for follower in followers:
            follower.setup()
        end = round(until * len(self.lines))
        with self.log.open("ab", buffering=0) as file:
            for line in self.lines[self.told : end]:
                file.write(line[:7])
                file.write(line[7:])
        self.told = end
        for follower in followers:
            follower.on_experiment_end([])


@pytest.fixture(params=["asha", "asha-promotion"])
def growing(request, recorded, tmp_path):
    return Growing(recorded[request.param], tmp_path / "run")


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("sessions", [[(1.0, True)], [(0.4, True), (1.0, True)]], ids=[1, 2])
def test_event_files_follow_the_record(growing, sessions):
    for until, followed in sessions:
        growing.grow(until, make_loggers(growing.spec, tensorboard=followed, console=quiet()))
        results = assert_event_files_hold_the_record(growing.log.parent)
    assert "failed" in set(results.trials["status"])
    best = results.best()
    last = curve(growing.log.parent / best.trial, "best/validation_accuracy")[-1]
    assert last == (results.trial(best.trial)["resource"], pytest.approx(best.value))


@pytest.mark.usefixtures("readers")
def test_event_files_make_up_for_a_session_without_them(growing):
    growing.grow(0.2, make_loggers(growing.spec, tensorboard=True, console=quiet()))
    growing.grow(0.6)
    growing.grow(1.0, make_loggers(growing.spec, tensorboard=True, console=quiet()))
    assert_event_files_hold_the_record(growing.log.parent)
    for folder in growing.log.parent.glob("trial_*"):
        assert len(list(folder.glob("*tfevents*"))) == 1


class Broken:
    name = "Broken"

    def __init__(self, at):
        self.at, self.calls = at, []

    def __getattr__(self, name):
        def called(*arguments):
            self.calls.append(name)
            if name == self.at:
                raise ConnectionError("nobody is there")

        return called


@pytest.mark.parametrize("at", ["open", "begin", "report", "end", "close"])
def test_a_tracker_that_fails_is_told_of_once_and_asked_no_more(growing, at):
    console, sink = quiet(), Broken(at)
    growing.grow(1.0, [RecordFollower(growing.spec, sink, console)])
    assert sink.calls.count(at) == 1
    assert sink.calls[-1] == at
    assert said(console).count("gets nothing more of this run") == 1
    assert "ConnectionError: nobody is there" in said(console)


def test_a_tracker_that_hangs_is_not_waited_for_longer_than_was_said(growing):
    console, freed = quiet(), threading.Event()

    class Hanging(Broken):
        def report(self, story, point):
            freed.wait(60)

    growing.grow(1.0, [RecordFollower(growing.spec, Hanging(None), console, wait_s=0.2)])
    freed.set()
    assert "has not taken everything within 0.2 s" in said(console)


def test_event_files_that_cannot_be_written_are_told_of_once(growing):
    console, sink = quiet(), TensorBoard(growing.spec)
    (growing.log.parent / "trial_00000").write_text("")
    growing.grow(1.0, [RecordFollower(growing.spec, sink, console)])
    assert said(console).count("TensorBoard gets nothing more") == 1


# --- MLflow


@pytest.fixture(params=["file", pytest.param("sqlite", marks=pytest.mark.slow)])
def store(request, tmp_path):
    pytest.importorskip("mlflow", reason=MLFLOW)
    if request.param == "sqlite":
        pytest.importorskip("sqlalchemy", reason="MLflow's SQLite store needs SQLAlchemy")
        return f"sqlite:///{tmp_path}/mlflow.db"
    return f"file:{tmp_path}/mlruns"


def mlflow_runs(uri, experiment):
    """Runs by trial: (status, params, {metric: [(step, value), ...]})."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = {}
    for one in client.search_runs([found.experiment_id]):
        trial = one.data.tags["mlflow.runName"]
        assert trial not in runs, "one MLflow run a trial"
        history = {
            name: sorted(
                (m.step, m.value) for m in client.get_metric_history(one.info.run_id, name)
            )
            for name in one.data.metrics
        }
        runs[trial] = one.info.status, one.data.params, history
    return runs


def assert_mlflow_holds_the_record(uri, spec):
    """Compare an MLflow store with a run; return its runs."""
    results = load(spec.folder)
    runs = mlflow_runs(uri, spec.name)
    waiting = set(results.trials.query("status == 'pending' and resource == 0")["trial"])
    assert set(results.trials["trial"]) - waiting <= set(runs) <= set(results.trials["trial"])
    expected = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
    for row in results.trials.itertuples():
        if row.trial not in runs:
            continue  # suggested, but it had no worker yet
        status, params, history = runs[row.trial]
        assert status == expected.get(row.status, "KILLED"), row.trial
        told = flatten(results.configuration(row.trial))
        assert params == {name: str(value) for name, value in told.items()}
        reports = results.reports[results.reports["trial"] == row.trial]
        finite = reports[reports["value"].notna()]
        pairs = list(zip(finite["resource"], finite["value"], strict=True))
        assert history.get(spec.metric, []) == pairs
        steps = [step for step, _ in history.get("training_iteration", [])]
        assert steps == reports["resource"].tolist()
        if not math.isnan(row.best_value):
            assert history[f"best/{spec.metric}"][-1][1] == row.best_value
        assert not {"pid", "time_this_iter_s", "timestamp"} & set(history)
    return list(runs.values())


def test_mlflow_follows_the_record(growing, store):
    growing.grow(1.0, make_loggers(growing.spec, mlflow=store, console=quiet()))
    runs = assert_mlflow_holds_the_record(store, growing.spec)
    assert {"FAILED", "FINISHED"} <= {status for status, *_ in runs}


def test_mlflow_runs_are_continued_and_made_up_for_on_a_resume(growing, tmp_path):
    pytest.importorskip("mlflow", reason=MLFLOW)
    store = f"file:{tmp_path}/mlruns"
    growing.grow(0.3, make_loggers(growing.spec, mlflow=store, console=quiet()))
    assert_mlflow_holds_the_record(store, growing.spec)
    growing.grow(0.6)  # a session that MLflow does not hear of
    growing.grow(1.0, make_loggers(growing.spec, mlflow=store, console=quiet()))
    assert_mlflow_holds_the_record(store, growing.spec)


def test_another_run_of_the_same_name_has_mlflow_runs_of_its_own(recorded, tmp_path):
    pytest.importorskip("mlflow", reason=MLFLOW)
    from mlflow.tracking import MlflowClient

    store = f"file:{tmp_path}/mlruns"
    for created in ("2026-01-01T00:00:00+0000", "2026-01-02T00:00:00+0000"):
        growing = Growing(recorded["asha"], tmp_path / created / "run")
        path = growing.log.with_name("spec.json")
        path.write_text(path.read_text().replace("2026-01-01T00:00:00+0000", created))
        growing.grow(0.1, make_loggers(growing.spec, mlflow=store, console=quiet()))
    client = MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name("run")
    names = [one.data.tags["mlflow.runName"] for one in client.search_runs([found.experiment_id])]
    assert names.count("trial_00000") == 2


def test_an_mlflow_server_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason=MLFLOW)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackerError, match=r"MLflow cannot be used at http://127\.0\.0\.1:9"):
        make_loggers(make_spec(tmp_path), mlflow="http://127.0.0.1:9", console=quiet())


def test_passwords_are_neither_taken_from_the_command_line_nor_shown(monkeypatch):
    with pytest.raises(TrackerError, match="MLFLOW_TRACKING_URI") as raised:
        tracking_uri("https://me:secret@host/path")
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/path")
    assert tracking_uri("") == "https://me:secret@host/path"
    assert shown_uri(tracking_uri("")) == "https://host/path"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri("") == "sqlite:///mlflow.db"


# --- Weights & Biases


def wandb_records(path):
    """Records of an offline file: 7 bytes, then LevelDB's log format (blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    data, position, whole = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += 7 + length
        whole += data[position - length : position]
        if kind in (1, 4):  # a record in one piece, or its last piece
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def values_of(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def wandb_histories(folder):
    """Offline W&B files of a run: trial -> (hyperparameters, [(epoch, loss), ...]).

    A trial that was paused and went on has two files of the same W&B run, the second of which has
    its earlier epochs again.
    """
    runs = {}
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        name, config, losses = "", {}, []
        for record in wandb_records(path):
            if record.HasField("run") and record.run.display_name:
                name, run_id = record.run.display_name, record.run.run_id
                config = values_of(record.run.config.update)
                assert (record.run.project, record.run.run_group) == ("a-project", "toy")
            if record.HasField("history"):
                values = values_of(record.history.item)
                losses.append((values["training_iteration"], values["loss"]))
        known_id, _, earlier = runs.setdefault(name, (run_id, config, []))
        assert known_id == run_id, "one W&B run a trial"
        earlier += losses
    return {name: (config, sorted(set(losses))) for name, (_, config, losses) in runs.items()}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_wandb_offline_writes_a_run_a_trial(tmp_path, toy_trainable, monkeypatch):
    pytest.importorskip("wandb", reason=WANDB)
    monkeypatch.setenv("WANDB_MODE", "offline")
    spec = make_spec(tmp_path, num_samples=3, settings={"raise_above": 0.7})
    loggers = make_loggers(spec, wandb="a-project", console=quiet())
    result = execute(spec, toy_trainable, loggers)
    results = load(result.folder)
    histories = wandb_histories(result.folder)
    assert sorted(histories) == list(results.trials["trial"])
    for trial, (config, losses) in histories.items():
        told = results.configuration(trial)
        assert config["x"] == told["x"]
        assert config["model/layers"] == told["model"]["layers"]
        assert "settings" not in config
        reports = results.reports[results.reports["trial"] == trial]
        assert losses == list(zip(reports["resource"], reports["value"], strict=True))


def test_wandb_without_a_login_is_refused_before_anything_starts(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason=WANDB)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if wandb.api.api_key:
        pytest.skip("somebody is logged in to Weights & Biases here")
    with pytest.raises(TrackerError, match="WANDB_MODE=offline"):
        make_loggers(make_spec(tmp_path), wandb="", console=quiet())


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_named_with_its_install_command(
    tmp_path, monkeypatch, package
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(OptionalDependencyError, match=rf"raytune-ahu\[{package}\]"):
        make_loggers(make_spec(tmp_path), console=quiet(), **{package: ""})
