"""The driver process of bench_faults.py, and the trainable it runs.

    python benchmarks/fault_driver.py OPTIONS.json

reads what to run, runs it with this package or with Ray Tune alone, and writes what came of it to
OPTIONS.outcome. Start with `drive_ours` and `drive_stock`.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

FAULT_AT = 3
"""Epoch in which a trial that is to go wrong does so."""
RUNG_LEVELS = (1, 3)
PLAN = "BENCH_FAULTS"
"""Environment variable with the plan of faults: the workers inherit it from their driver."""


def make_trainable() -> type:
    """Make the trainable: loss = (x - 0.3)^2 + 0.5 / epoch, with faults where x is large."""
    import ray
    from ray import tune

    class Toy(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.x, self.epoch = config["x"], 0
            self.plan = json.loads(os.environ[PLAN])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, float]:
            self.epoch += 1
            time.sleep(self.plan["epoch_s"])
            fault = self.plan.get("fault")
            result = {"loss": (self.x - 0.3) ** 2 + 0.5 / self.epoch}
            if self.x > self.plan.get("above", 2.0):
                if fault == "nan":
                    result["loss"] = math.nan
                elif self.epoch == FAULT_AT and self.is_due():
                    self.note(fault=fault)
                    result = self.go_wrong(fault, result)
            self.note()
            return result

        def go_wrong(self, fault: str, result: dict[str, float]) -> dict[str, float]:
            if fault == "raise":
                raise RuntimeError("a fault of the trial")
            if fault == "memory":
                raise MemoryError("no memory left")
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hang":
                time.sleep(3600)
            return {}  # "missing": a report without the metric

        def is_due(self) -> bool:
            once = Path(self.plan["notes"] + f".{self.trial_id}")
            if not self.plan.get("once"):
                return True
            try:
                once.touch(exist_ok=False)
            except FileExistsError:
                return False
            return True

        def note(self, fault: str | None = None) -> None:
            node = ray.get_runtime_context().get_node_id()
            line = {"trial": self.trial_id, "epoch": self.epoch, "x": self.x, "fault": fault,
                    "t": time.time(), "pid": os.getpid(), "node": node}  # fmt: skip
            with Path(self.plan["notes"]).open("a") as notes:
                notes.write(json.dumps(line) + "\n")

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            state = {"epoch": self.epoch, "payload": "x" * self.plan.get("bytes", 1000)}
            Path(checkpoint_dir, "state.json").write_text(json.dumps(state))

        def load_checkpoint(self, checkpoint: str) -> None:
            self.epoch = json.loads(Path(checkpoint, "state.json").read_text())["epoch"]

    return Toy


# ---------------------------------------------------------------------- a driver, in its process


class Outcome:
    """What came of it, written at once: the driver may be killed."""

    def __init__(self, path: Path) -> None:
        self._path, self._known = path, dict[str, Any]()

    def note(self, **news: Any) -> None:
        """Add something."""
        self._known.update(news)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._known))
        temporary.replace(self._path)


def points(number: int) -> list[dict[str, float]]:
    """Spread x evenly over [0, 1): the same configurations in the same order for both sides."""
    return [{"x": round(index * 0.6180339887 % 1, 6)} for index in range(number)]


def drive_ours(o: dict[str, Any], outcome: Outcome) -> None:
    """Run, or resume, with this package."""
    from rich.console import Console

    from raytune_ahu import ExperimentSpec, SearchSpace
    from raytune_ahu.adapters import run
    from raytune_ahu.recorder import Recorder
    from schedulers import scheduler_for
    from schedulers.ray_scheduler import RayScheduler

    replay = Recorder.replay

    def replay_and_look(recorder: Recorder, events: Any) -> None:
        replay(recorder, events)
        is_model = o["search"] == "bohb"
        seen = recorder.searcher._history.observations() if is_model else None
        outcome.note(
            restored={
                "trials": len(recorder.state.trials),
                "rungs": {rung.level: rung.entrants for rung in recorder.rungs()},
                "observations": {n: seen.count_at(n) for n in RUNG_LEVELS} if seen else None,
            }
        )

    Recorder.replay = replay_and_look  # type: ignore[method-assign]
    schedulers = {"hyperband": "asha-promotion", "fifo": "none"}
    spec = ExperimentSpec(
        name="run",
        trainable="fault_driver:Toy",
        space=SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}}),
        metric="loss",
        mode="min",
        max_epochs=o["epochs"],
        num_samples=o["trials"],
        search=o["search"],
        points_to_evaluate=tuple(points(o["trials"])) if o["search"] == "random" else (),
        scheduler=schedulers.get(o["scheduler"], o["scheduler"]),
        storage_path=o["storage"],
        max_failures=o["max_failures"],
        trial_timeout_s=o["trial_timeout_s"],
    )
    result = run(
        spec,
        trainable=make_trainable(),
        scheduler=RayScheduler(scheduler_for(spec)),
        resume=o["resume"],
        console=Console(file=sys.stdout, width=200),
    )
    trials = {name: trial.status.value for name, trial in result.state.trials.items()}
    outcome.note(returned=f"returned {result.ended!r}", trials=trials)


def drive_stock(o: dict[str, Any], outcome: Outcome) -> None:
    """Run, or resume, with Ray Tune alone."""
    from ray import tune
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandForBOHB
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.bohb import TuneBOHB

    search = TuneBOHB() if o["search"] == "bohb" else BasicVariantGenerator(points(o["trials"]))
    scheduler, stop = FIFOScheduler(), {"training_iteration": o["epochs"]}
    if o["scheduler"] == "asha":
        scheduler, stop = ASHAScheduler(max_t=o["epochs"], reduction_factor=3), None
    elif o["scheduler"] == "hyperband":
        scheduler, stop = HyperBandForBOHB(max_t=o["epochs"], reduction_factor=3), None
    resume = TuneController.resume

    def resume_and_look(controller: TuneController, *args: Any, **more: Any) -> None:
        resume(controller, *args, **more)
        brackets = getattr(scheduler, "_brackets", []) if o["scheduler"] == "asha" else []
        rungs = {int(at): len(seen) for bracket in brackets for at, seen in bracket._rungs}
        seen = search.bohber.configs if o["search"] == "bohb" else None
        outcome.note(
            restored={
                "trials": len(controller.get_trials()),
                "rungs": {n: rungs.get(n, 0) for n in RUNG_LEVELS} if brackets else None,
                "observations": None if seen is None else {int(n): len(c) for n, c in seen.items()},
            }
        )

    TuneController.resume = resume_and_look
    analysis = tune.run(
        make_trainable(),
        name="run",
        storage_path=o["storage"],
        config={"x": tune.uniform(0.0, 1.0)},
        metric="loss",
        mode="min",
        num_samples=o["trials"],
        search_alg=search,
        scheduler=scheduler,
        stop=stop,
        resources_per_trial={"cpu": 1},
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        reuse_actors=True,
        max_failures=o["max_failures"],
        raise_on_failed_trial=False,
        resume="AUTO" if o["resume"] else None,
        verbose=1,
    )
    trials = {trial.trial_id: trial.status for trial in analysis.trials}
    outcome.note(returned="returned normally", trials=trials)


def lose_a_node(cluster: Any, node: Any, o: dict[str, Any], outcome: Outcome) -> None:
    """Kill a node once so many epochs were run and its trial has ended epoch 3, in a thread."""
    notes = Path(o["plan"]["notes"])
    is_time = False
    while not is_time:
        time.sleep(0.02)
        lines = notes.read_text().splitlines(keepends=True) if notes.exists() else []
        run = [json.loads(line) for line in lines if line.endswith("\n")]
        newest = [note["epoch"] for note in run if note["node"] == node.node_id][-1:]
        is_time = len(run) >= o["lose_node_after"] and newest == [3]
    outcome.note(lost_node=node.node_id, lost_at=time.time())
    cluster.remove_node(node, allow_graceful=False)


def drive(path: Path) -> None:
    """Read what to do, do it, and write what came of it beside it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    o = json.loads(path.read_text())
    os.environ[PLAN] = json.dumps(o["plan"])
    import ray

    outcome = Outcome(path.with_suffix(".outcome"))
    if o["lose_node_after"] is None:
        temp = {"_temp_dir": o["temp"], "include_dashboard": False}
        ray.init(address="local", num_cpus=2, log_to_driver=False, **temp)
    else:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "temp_dir": o["temp"]}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        arguments = (cluster, nodes[-1], o, outcome)
        threading.Thread(target=lose_a_node, args=arguments, daemon=True).start()
    try:
        (drive_stock if o["stock"] else drive_ours)(o, outcome)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the result
        text = (str(error).strip().splitlines() or [""])[-1]  # of a worker's traceback too
        outcome.note(returned=f"raised {type(error).__name__}: {text}")


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
