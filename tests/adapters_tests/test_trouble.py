"""Trials that go wrong, on a real Ray with two workers: each case is really made to happen."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest
from ray._private.utils import get_system_memory, get_used_memory
from rich.console import Console

from raytune_ahu.adapters.runner import run
from raytune_ahu.adapters.summary import print_summary
from raytune_ahu.adapters.supervisor import Supervisor
from raytune_ahu.faults import MAX_LOSSES
from raytune_ahu.manifest import write_manifest
from raytune_ahu.records import read_events
from raytune_ahu.types import TrialStatus
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from tests.adapters_tests.test_runner import cut_log, events_by_trial, execute, make_spec


def slow(case):
    """A case that is left out of the default suite."""
    return pytest.param(case, marks=pytest.mark.slow)


pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def errors(folder, fault=None):
    found = [event for event in read_events(folder) if event["event"] == "errored"]
    return [event for event in found if fault is None or event["fault"] == fault]


def epochs(folder, trial):
    events = events_by_trial(folder)[trial]
    return [event["resource"] for event in events if event["event"] == "reported"]


def checkpoints(folder):
    """Checkpoint folders on disk, per trial."""
    return Counter(path.parent.name for path in folder.glob("trial_*/checkpoint_*"))


# --- time-out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["step", slow("setup"), slow("reset")])
def test_a_trial_that_hangs_is_ended_and_the_others_go_on(
    tmp_path, toy_trainable, monkeypatch, where
):
    monkeypatch.setattr(Supervisor, "START_ALLOWANCE_S", 0.0 if where != "step" else 300.0)

    class Hanging(toy_trainable):
        def _hang(self):
            if self.x > 0.6:
                time.sleep(3600)

        def setup(self, config):
            super().setup(config)
            if where == "setup":
                self._hang()

        def reset_config(self, new_config):
            super().reset_config(new_config)
            if where == "reset":
                self._hang()
            return True

        def step(self):
            if where != "setup" and self.epoch == 1:
                self._hang()
            return super().step()

    points = ({"x": 0.1}, {"x": 0.9}, {"x": 0.2}, {"x": 0.3})
    spec = make_spec(
        tmp_path,
        num_samples=4,
        points_to_evaluate=points,
        scheduler="none",
        max_epochs=3,
        trial_timeout_s=8.0,
        max_failures=3,
    )
    result = execute(spec, Hanging)
    assert result.ended == "finished"
    statuses = [trial.status for trial in result.state.trials.values()]
    assert statuses == [
        TrialStatus.COMPLETED,
        TrialStatus.FAILED,
        TrialStatus.COMPLETED,
        TrialStatus.COMPLETED,
    ]
    (error,) = errors(result.folder)
    assert (error["trial"], error["fault"], error["will_retry"]) == (
        "trial_00001",
        "timeout",
        False,
    )
    assert "trial_timeout_s=8" in error["error"]


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["host", slow("cuda")])
@pytest.mark.parametrize("retry_oom", [False, True])
def test_out_of_memory_is_recorded_as_such_and_retried_only_if_asked(
    tmp_path, toy_trainable, kind, retry_oom
):
    class Greedy(toy_trainable):
        def step(self):
            if self.epoch == 2 and not self.restored:
                if kind == "host":
                    raise MemoryError("cannot allocate 64 GB")
                import torch

                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64 GiB")
            return super().step()

    spec = make_spec(
        tmp_path, num_samples=1, scheduler="none", max_failures=2, retry_oom=retry_oom, max_epochs=4
    )
    result = execute(spec, Greedy)
    (error,) = errors(result.folder)
    assert (error["fault"], error["will_retry"]) == ("out of memory", retry_oom)
    (trial,) = result.state.trials.values()
    assert trial.status is (TrialStatus.COMPLETED if retry_oom else TrialStatus.FAILED)
    out = io.StringIO()
    print_summary(result, Console(file=out, width=200))
    assert "out of memory" in out.getvalue()


# --- checkpoints ---------------------------------------------------------------------------------


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", slow("flipped"), slow("deleted")])
def test_a_damaged_checkpoint_is_not_used_but_the_one_before(tmp_path, toy_trainable, how):
    spec = make_spec(tmp_path, num_samples=1, scheduler="none")
    folder = execute(spec, toy_trainable).folder
    cut_log(folder, lambda event: event["event"] == "saved" and event["resource"] == 5)
    saved = {e["resource"]: e["checkpoint"] for e in read_events(folder) if e["event"] == "saved"}
    state = json.dumps({"epoch": 4})
    for resource in (4, 5):  # the run went on after that, and deleted them
        checkpoint = folder / saved[resource]
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "state.json").write_text(state if resource == 4 else '{"epoch": 5}')
        write_manifest(checkpoint)
    damage(folder / saved[5] / "state.json", how)
    result = execute(spec, toy_trainable, resume=True)
    (error,) = errors(folder)
    assert (error["fault"], error["checkpoint"]) == ("bad checkpoint", saved[5])
    assert "state.json" in error["error"]
    assert epochs(folder, "trial_00000") == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    assert result.state.survived.total() == 1


def test_a_trial_whose_checkpoints_are_all_damaged_starts_again(tmp_path, toy_trainable):
    spec = make_spec(tmp_path, num_samples=1, scheduler="none", checkpoint_frequency=3)
    folder = execute(spec, toy_trainable).folder
    cut_log(folder, lambda event: event["event"] == "saved" and event["resource"] == 3)
    (saved,) = [e["checkpoint"] for e in read_events(folder) if e["event"] == "saved"]
    (folder / saved).mkdir(exist_ok=True)
    (folder / saved / "state.json").write_text("")
    execute(spec, toy_trainable, resume=True)
    assert [error["fault"] for error in errors(folder)] == ["bad checkpoint"]
    assert epochs(folder, "trial_00000") == [1, 2, 3, *range(1, 10)]


def test_an_error_in_the_trainables_own_loading_is_its_own_fault(tmp_path, toy_trainable):
    class CannotLoad(toy_trainable):
        def load_checkpoint(self, checkpoint_dir):
            raise KeyError("weights")

    spec = make_spec(tmp_path, num_samples=1, scheduler="none", settings={"fail_once_at": 3})
    result = execute(spec.replace(max_failures=1), CannotLoad)
    assert [error["fault"] for error in errors(result.folder)] == ["exception", "exception"]
    assert "'weights'" in errors(result.folder)[-1]["error"]


@pytest.mark.slow
def test_a_trial_that_is_tried_again_comes_first(tmp_path, toy_trainable):
    settings = {"fail_once_at": 2, "epoch_s": 0.05}
    spec = make_spec(tmp_path, num_samples=6, scheduler="none", max_epochs=4, settings=settings)
    result = execute(spec.replace(max_failures=1, max_concurrent=1), toy_trainable)
    started = [
        event["trial"] for event in read_events(result.folder) if event["event"] == "started"
    ]
    assert started == [trial for trial in result.state.trials for _ in range(2)]
    assert result.state.counts()[TrialStatus.COMPLETED] == 6


# --- storage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["asha", "asha-promotion"])
def test_what_is_kept_on_disk_is_bounded_while_the_run_goes_on_and_at_its_end(
    tmp_path, toy_trainable, scheduler
):
    spec = make_spec(tmp_path, scheduler=scheduler, num_samples=24, keep_best=2)
    result = execute(spec, toy_trainable)
    best = sorted(result.state.trials.values(), key=lambda t: (-t.resource, t.value))[:2]
    assert checkpoints(result.folder) == {trial.trial_id: 1 for trial in best}
    for trial in best:
        (path,) = trial.checkpoints.values()
        assert json.loads((result.folder / path / "state.json").read_text()) == {
            "epoch": trial.resource
        }
    assert result.state.checkpoint_bytes == sum(
        file.stat().st_size for file in result.folder.glob("trial_*/checkpoint_*/*")
    )


def test_no_checkpoint_is_written_for_a_trial_that_is_stopped_and_not_among_the_best(
    tmp_path, toy_trainable
):
    result = execute(
        make_spec(tmp_path, scheduler="asha", num_samples=30, keep_best=1), toy_trainable
    )
    saved = Counter(e["trial"] for e in read_events(result.folder) if e["event"] == "saved")
    stopped_first = [
        t.trial_id
        for t in result.state.trials.values()
        if t.status is TrialStatus.STOPPED and t.resource == 1
    ]
    assert len(stopped_first) >= 5
    assert sum(saved[trial] for trial in stopped_first) <= 1


@pytest.mark.parametrize("frequency", [0, 4])
def test_the_best_keep_their_last_epoch_whatever_the_checkpoint_frequency(
    tmp_path, toy_trainable, frequency
):
    spec = make_spec(
        tmp_path, num_samples=3, scheduler="none", checkpoint_frequency=frequency, keep_best=1
    )
    result = execute(spec, toy_trainable)
    ((trial, count),) = checkpoints(result.folder).items()
    assert count == 1
    assert list(result.state.trials[trial].checkpoints) == [9]


def test_a_full_disk_holds_new_work_back_until_there_is_room_and_loses_nothing(
    small_disk, toy_trainable
):
    class Large(toy_trainable):
        def step(self):
            from pathlib import Path

            if self.epoch == 1 and self.x == 0.1:
                Path(self.settings["ballast"]).write_bytes(b"x" * 20_000_000)
            return super().step()

        def save_checkpoint(self, checkpoint_dir):
            from pathlib import Path

            super().save_checkpoint(checkpoint_dir)
            (Path(checkpoint_dir) / "weights").write_bytes(b"w" * 6_000_000)

    ballast = small_disk / "ballast"
    points = ({"x": 0.1}, {"x": 0.9}, {"x": 0.3}, {"x": 0.4})
    spec = make_spec(
        small_disk,
        num_samples=4,
        points_to_evaluate=points,
        scheduler="none",
        max_epochs=3,
        max_concurrent=1,
        keep_best=0,
        settings={"ballast": str(ballast)},
    )

    class RoomMaker(io.StringIO):
        """The user, who makes room on reading that there is none."""

        def write(self, text):
            if "no new work starts" in text:
                ballast.unlink(missing_ok=True)
            return super().write(text)

    shown = RoomMaker()
    result = run(
        spec,
        trainable=Large,
        scheduler=RayScheduler(scheduler_for(spec)),
        console=Console(file=shown, width=200),
    )
    assert "disk nearly full" in shown.getvalue()
    assert "needed" in shown.getvalue()
    assert result.state.counts()[TrialStatus.COMPLETED] == 4
    assert not ballast.exists()


def test_a_checkpoint_that_does_not_fit_is_written_again_when_there_is_room(
    small_disk, toy_trainable
):
    class Huge(toy_trainable):
        def save_checkpoint(self, checkpoint_dir):
            super().save_checkpoint(checkpoint_dir)
            from pathlib import Path

            fits = self.epoch != 2 or self.restored
            (Path(checkpoint_dir) / "weights").write_bytes(b"w" * (1_000 if fits else 60_000_000))

    spec = make_spec(small_disk, num_samples=1, scheduler="none", max_epochs=3)
    result = execute(spec, Huge)
    (error,) = errors(result.folder)
    assert (error["fault"], error["will_retry"]) == ("disk full", True)
    (trial,) = result.state.trials.values()
    assert trial.status is TrialStatus.COMPLETED
    assert trial.failures == 0


# --- trying failed trials again ------------------------------------------------------------------


def test_failed_trials_are_tried_again_on_request_and_diverged_ones_are_not(
    tmp_path, toy_trainable
):
    points = ({"x": 0.1}, {"x": 0.7}, {"x": 0.9})
    settings = {"raise_above": 0.8, "nan_above": 0.6}
    spec = make_spec(
        tmp_path,
        num_samples=3,
        points_to_evaluate=points,
        scheduler="none",
        max_epochs=4,
        settings=settings,
    )
    first = execute(spec, toy_trainable)
    completed, failed = TrialStatus.COMPLETED, TrialStatus.FAILED
    assert [t.status for t in first.state.trials.values()] == [completed, failed, failed]
    mended = spec.replace(settings={})
    plain = execute(mended, toy_trainable, resume=True)
    assert [t.status for t in plain.state.trials.values()][1:] == [failed, failed]
    result = run(
        mended,
        trainable=toy_trainable,
        scheduler=RayScheduler(scheduler_for(mended)),
        resume=True,
        retry_failed=True,
        console=Console(file=io.StringIO()),
    )
    statuses = [trial.status for trial in result.state.trials.values()]
    assert statuses == [completed, failed, completed]
    retried = [e["trial"] for e in read_events(result.folder) if e["event"] == "retried"]
    assert retried == ["trial_00002"]
    # The log that tells of it is replayed by the next resume.
    more = execute(mended.replace(num_samples=4), toy_trainable, resume=True)
    assert len(more.state.trials) == 4


def test_a_worker_that_dies_again_and_again_fails_its_trial(tmp_path, toy_trainable):
    class Crashing(toy_trainable):
        def step(self):
            import os
            import signal

            if self.x > 0.8 and self.epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step()

    points = ({"x": 0.9}, {"x": 0.1}, {"x": 0.2})
    spec = make_spec(
        tmp_path, num_samples=3, points_to_evaluate=points, scheduler="none", max_epochs=3
    )
    result = execute(spec, Crashing)
    found = errors(result.folder, "worker lost")
    assert [error["will_retry"] for error in found] == [True] * (MAX_LOSSES - 1) + [False]
    statuses = [trial.status for trial in result.state.trials.values()]
    assert statuses == [TrialStatus.FAILED, TrialStatus.COMPLETED, TrialStatus.COMPLETED]
    assert epochs(result.folder, "trial_00000") == [1]


MEMORY = """
    import ray
    import sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from tests.adapters_tests import test_runner as t
    from tests import conftest

    class Greedy(conftest.toy_trainable.__wrapped__()):
        def step(self):
            if self.x > 0.8 and self.epoch == 1:
                import time

                hoard = []
                while True:
                    hoard.append(b"x" * 100_000_000)
                    time.sleep(0.1)
            return super().step()

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    points = ({{"x": 0.9}}, {{"x": 0.1}})
    spec = t.make_spec(
        Path({folder!r}), num_samples=2, points_to_evaluate=points, scheduler="none", max_epochs=3
    )
    print(t.execute(spec, Greedy).ended, flush=True)
"""


@pytest.mark.slow
def test_a_worker_that_rays_memory_monitor_kills_does_not_end_the_run(root, tmp_path):
    threshold = (get_used_memory() + 3e9) / get_system_memory()
    if threshold > 0.9:
        pytest.skip("less than 3 GB of memory are free")
    code = textwrap.dedent(MEMORY).format(root=str(root), folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "RAY_memory_usage_threshold": f"{threshold:.4f}",
            "RAY_memory_monitor_refresh_ms": "100",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("finished"), done.stderr
    found = errors(tmp_path / "toy")
    assert [(e["trial"], e["fault"], e["will_retry"]) for e in found] == [
        ("trial_00000", "out of memory", False)
    ]
    finished = [e["status"] for e in read_events(tmp_path / "toy") if e["event"] == "finished"]
    assert sorted(finished) == ["completed", "failed"]
