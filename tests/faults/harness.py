"""Clusters, drivers and trainables that can be killed, and what must be true of a run afterwards.

Start with `FaultCluster`, `Driver` and `assert_nothing_is_lost`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import loads, read_events
from raytune_ahu.retention import Retention
from raytune_ahu.run_state import RunState
from raytune_ahu.space import SearchSpace
from raytune_ahu.storage import CheckpointStorage

ROOT = Path(__file__).resolve().parent.parent.parent
SPACE = {"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}}
Event = dict[str, Any]


def make_trainable() -> type[Any]:
    """Make a trainable: loss = (x - 0.3)^2 + 0.5 / epoch, and a journal of what it really did.

    It is made inside a function so that Ray sends it to its workers by value. `settings` hold
    `journal` (a file: one line "TRIAL EPOCH PID SESSION" when an epoch begins), `session`,
    `epoch_s`, and `die_above` (it kills its worker in the second epoch if x is larger).
    """
    import json
    import os
    import signal
    import time
    from pathlib import Path

    import ray
    from ray import tune

    class Journaled(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.x = config["x"]
            self.settings = config["settings"]
            self.node = ray.get_runtime_context().get_node_id()
            self.epoch = 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            session = self.settings.get("session", 0)
            line = f"{self.trial_id} {self.epoch} {os.getpid()} {session}\n"
            with Path(self.settings["journal"]).open("a") as journal:
                journal.write(line)
            if self.epoch == 2 and self.x > self.settings.get("die_above", 2.0):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.settings.get("epoch_s", 0.0))
            loss = (self.x - 0.3) ** 2 + 0.5 / self.epoch
            place = {"worker": os.getpid(), "node": self.node}
            return {"loss": loss, "own_epoch": self.epoch, **place}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            for name in ("state.json", "copy.json"):  # two files: a deletion can be half done
                (Path(checkpoint_dir) / name).write_text(json.dumps({"epoch": self.epoch}))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            self.epoch = json.loads((Path(checkpoint_dir) / "state.json").read_text())["epoch"]

    return Journaled


def make_spec(folder: Path, **changes: Any) -> ExperimentSpec:
    settings = {"journal": str(folder / "journal"), **changes.pop("settings", {})}
    fields: dict[str, Any] = {
        "name": "faulty",
        "trainable": "tests.faults.harness:Journaled",
        "space": SearchSpace.from_dict(SPACE),
        "metric": "loss",
        "mode": "min",
        "max_epochs": 9,
        "num_samples": 15,
        "search": "bohb",
        "storage_path": str(folder / "runs"),
        "settings": settings,
    }
    return ExperimentSpec(**{**fields, **changes})


class FaultCluster:
    """A cluster of its own, whose nodes can be lost; see `cluster_server`.

    Args:
        cpus: CPUs of the head.
    """

    def __init__(self, cpus: int) -> None:
        # Not pytest's folder: the paths of Ray's sockets may have 107 characters.
        self._temporary = Path(tempfile.mkdtemp(prefix="faults_"))
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self._temporary),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.cluster_server", str(cpus)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def add(self, cpus: int) -> str:
        """Let a node join; return its id."""
        return self._ask(f"add {cpus}")

    def remove(self, node: str, how: str) -> None:
        """Lose a node: `leave`, `crash` or `lose_raylet`."""
        self._ask(f"{how} {node}")

    def close(self) -> None:
        self._server.communicate()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _ask(self, command: str) -> str:
        assert self._server.stdin is not None
        self._server.stdin.write(command + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        answer = self._server.stdout.readline().strip()
        assert answer, "the cluster has died"
        return answer


class Driver:
    """A driver process (see `driver`), which imports everything at once and waits for its job.

    Args:
        cluster: What it joins.
        errors: File for what it prints beside its events.
    """

    def __init__(self, cluster: FaultCluster, errors: Path) -> None:
        self._cluster = cluster
        self.errors = errors
        with errors.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.driver"],
                cwd=ROOT,
                env=cluster.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def start(self, spec: ExperimentSpec, *, resume: bool, die_after: Event | None = None) -> None:
        """Hand it its job; `die_after` as in the module `driver`."""
        job = {
            "address": self._cluster.address,
            "spec": spec.to_dict(),
            "resume": resume,
            "die_after": die_after,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def events(self) -> Iterator[Event]:
        """What it tells, as it happens, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                yield loads(line)

    def wait_for(self, condition: Callable[[Event], bool]) -> Event:
        """Read on to the first event of which this is true."""
        for event in self.events():
            if condition(event):
                return event
        raise AssertionError(f"the driver ended before:\n{self.errors.read_text()[-3000:]}")

    def finish(self) -> str:
        """Read on to the end; return why the run ended."""
        return str(self.wait_for(lambda event: event["event"] == "done")["reason"])

    def kill(self) -> None:
        """SIGKILL, from outside."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Wait until it is gone; one that was not killed ends with its stdin."""
        self.process.communicate()

    @property
    def was_killed(self) -> bool:
        return self.process.wait() == -signal.SIGKILL


class Run:
    """One run, driven by one driver after another; the next one is always starting up.

    Args:
        cluster: Where it runs.
        folder: For all files.
        changes: Fields of the specification.
    """

    def __init__(self, cluster: FaultCluster, folder: Path, **changes: Any) -> None:
        self._cluster = cluster
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.spec = make_spec(folder, **changes)
        self.sessions = 0
        self._standby = self._new_driver()
        self._last: Driver | None = None

    def next_driver(self, **options: Any) -> Driver:
        """Start the next session; the one before must have ended."""
        driver, self.sessions = self._standby, self.sessions + 1
        settings = {**self.spec.settings, "session": self.sessions}
        driver.start(self.spec.replace(settings=settings), resume=self.sessions > 1, **options)
        self._standby = self._new_driver()
        self._last = driver
        return driver

    def close(self) -> None:
        if self._last is not None and self._last.process.poll() is None:
            self._last.kill()
        self._standby.close()

    def _new_driver(self) -> Driver:
        return Driver(self._cluster, self._folder / f"driver_{self.sessions + 1}.err")

    # --- what is left of it ---------------------------------------------------------------------

    @property
    def record(self) -> Path:
        return self.spec.folder

    def state(self) -> RunState:
        state = RunState(self.spec.mode)
        for event in read_events(self.record):
            state.apply(event)
        return state

    def by_trial(self) -> dict[str, list[Event]]:
        trials = defaultdict(list)
        for event in read_events(self.record):
            if "trial" in event:
                trials[event["trial"]].append(event)
        return trials

    def frame(self) -> dict[str, Any]:
        """What counts of each trial: configuration, origin, status, and its values by epoch."""
        return {
            trial: {
                "configuration": events[0]["configuration"],
                "origin": events[0]["origin"],
                "status": [e["status"] for e in events if e["event"] == "finished"],
                "values": {e["resource"]: e["value"] for e in events if e["event"] == "reported"},
            }
            for trial, events in self.by_trial().items()
        }

    def journal(self) -> list[tuple[str, int, int, int]]:
        """Epochs that workers really began: trial, epoch, process, session of the driver."""
        lines = (self._folder / "journal").read_text().splitlines()
        return [(t, int(e), int(p), int(s)) for t, e, p, s in map(str.split, lines)]


def sessions_of(folder: Path) -> list[list[Event]]:
    """The events of a run, session by session."""
    sessions: list[list[Event]] = []
    for event in read_events(folder):
        if event["event"] == "run_started":
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def assert_nothing_is_lost(run: Run, workers: int) -> None:
    """No trial lost, none run twice, at most an epoch repeated per running trial and kill.

    Epochs are counted twice: as the log has them, and as the workers really began them.

    Args:
        run: A run that has ended.
        workers: Trials that ran at once.
    """
    trials = run.by_trial()
    assert len(trials) == run.spec.num_samples
    for trial, events in trials.items():
        kinds = Counter(event["event"] for event in events)
        assert events[0]["event"] == "suggested", trial
        assert kinds["suggested"] == kinds["finished"] == 1, (trial, kinds)
        reports = [event for event in events if event["event"] == "reported"]
        epochs = {event["resource"] for event in reports}
        assert epochs == set(range(1, max(epochs) + 1)), trial
        assert all(event["metrics"]["own_epoch"] == event["resource"] for event in reports)
        assert all(event["resource"] <= max(epochs) for event in events if "resource" in event)
    reported = [
        (event["trial"], event["resource"], 0, number)
        for number, session in enumerate(sessions_of(run.record), start=1)
        for event in session
        if event["event"] == "reported"
    ]
    for epochs_run in (reported, run.journal()):
        for repeated in repetitions(epochs_run):
            assert len(repeated) <= workers
            assert set(repeated.values()) <= {1}, repeated
    assert_storage_is_bounded(run)


def repetitions(epochs: list[tuple[str, int, int, int]]) -> list[Counter[str]]:
    """How many epochs of each trial a session ran that an earlier one had run, for each session."""
    first: dict[tuple[str, int], int] = {}
    for trial, epoch, _, session in epochs:
        first[trial, epoch] = min(session, first.get((trial, epoch), session))
    sessions = range(1, max(session for *_, session in epochs) + 1)
    return [
        Counter(t for t, e, _, session in epochs if session == number and first[t, e] < number)
        for number in sessions
    ]


def assert_storage_is_bounded(run: Run) -> None:
    """On disk are the checkpoints that the run keeps, and no others."""
    state = run.state()
    Retention(state, run.spec.keep_best).release_all()
    kept = {path for trial in state.trials.values() for path in trial.checkpoints.values()}
    storage = CheckpointStorage(run.spec.storage_path, run.spec.name)
    assert set().union(*storage.checkpoints().values()) == kept
    assert len(kept) == min(run.spec.keep_best, len(state.trials))
