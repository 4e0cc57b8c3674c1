"""The driver of a run, in a process that can be killed; started by `harness.Driver`.

It imports everything, reads its job from stdin (one line of JSON), and prints every event of the
run's log right after it was written, what the live view prints, and why the run ended. The job:

    address    of the cluster
    spec       fields of the ExperimentSpec, as `to_dict` gives them
    resume     whether the run goes on
    die_after  null, or {"event": KIND or null, "count": N}: it kills itself right after the Nth
               event (of that kind); {"deletion": N}: in the middle of the Nth deletion of a
               checkpoint
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from raytune_ahu.adapters import runner
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import RunLog, dumps
from raytune_ahu.storage import CheckpointStorage
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from tests.faults.harness import make_trainable


def tell(event: dict[str, Any]) -> None:
    sys.stdout.write(dumps(event) + "\n")
    sys.stdout.flush()


class Told(io.StringIO):
    """Where the live view writes its plain lines."""

    def write(self, text: str) -> int:
        tell({"event": "printed", "text": text})
        return len(text)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_event(kind: str | None, count: int) -> None:
    """Die right after the event was written and flushed, before anybody acts on it."""
    write, seen = RunLog.write, Counter[str | None]()

    def write_and_die(log: RunLog, event: str, **fields: Any) -> dict[str, Any]:
        written = write(log, event, **fields)
        seen.update([event, None])
        if seen[kind] == count:
            die()
        return written

    RunLog.write = write_and_die  # type: ignore[method-assign]


def die_in_deletion(count: int) -> None:
    """Die when a checkpoint is half deleted."""
    delete, seen = CheckpointStorage.delete, Counter[str]()

    def delete_and_die(storage: CheckpointStorage, relative: str) -> None:
        seen.update(["deleted"])
        if seen["deleted"] == count:
            next(Path(storage.full(relative)).iterdir()).unlink()
            die()
        delete(storage, relative)

    CheckpointStorage.delete = delete_and_die  # type: ignore[method-assign]


def tell_events() -> None:
    write = RunLog.write

    def write_and_tell(log: RunLog, event: str, **fields: Any) -> dict[str, Any]:
        written = write(log, event, **fields)
        tell(written)
        return written

    RunLog.write = write_and_tell  # type: ignore[method-assign]


def tell_leftovers() -> None:
    """Say which checkpoints lie about, once a session has put state and disk in order."""
    take_up = runner._Session._take_up

    def take_up_and_tell(session: Any, *arguments: Any) -> Any:
        restored = take_up(session, *arguments)
        session._mirror.flush()
        there = set().union(*session._storage.checkpoints().values())
        trials = session._recorder.state.trials.values()
        recorded = {path for trial in trials for path in trial.checkpoints.values()}
        tell({"event": "taken up", "leftovers": sorted(there ^ recorded)})
        return restored

    runner._Session._take_up = take_up_and_tell  # type: ignore[method-assign]


def end_with_tests() -> None:
    """Stdin stays open as long as the tests live."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    trainable = make_trainable()
    line = sys.stdin.readline()
    if not line:
        return  # nobody needs it any more
    threading.Thread(target=end_with_tests, daemon=True).start()
    job = json.loads(line)
    ray.init(address=job["address"], log_to_driver=False, logging_level="ERROR")
    tell_leftovers()
    tell_events()
    moment = job["die_after"]
    if moment is not None and "deletion" in moment:
        die_in_deletion(moment["deletion"])
    elif moment is not None:
        die_after_event(moment["event"], moment["count"])
    spec = ExperimentSpec.from_dict(job["spec"])
    result = runner.run(
        spec,
        trainable=trainable,
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=job["resume"],
        console=Console(file=Told(), width=200),
    )
    tell({"event": "done", "reason": result.ended})
    ray.shutdown()


if __name__ == "__main__":
    main()
