"""How long it takes to open a run: ours beside Ray Tune's ExperimentAnalysis on the same trials.

python benchmarks/bench_results.py                       # 1,000 and 3,000 trials; 10,000 ours only
python benchmarks/bench_results.py --sizes 300 --repeats 3

A run of random search without early stopping is recorded in virtual time; the same trials are
written as stock Ray Tune writes them (result.json, params.json for each trial, and the experiment's
state). Each opening is a process of its own, in turn, after one that is not counted; seconds are
those of the opening itself, imports left out. What Ray offers is `ExperimentAnalysis(path)` with
its `dataframe()` (one row a trial) and `trial_dataframes` (all reports). Writes
benchmarks/results/results.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_OURS = """
import sys, time
from raytune_ahu.results import load
begun = time.perf_counter()
results = load(sys.argv[1], **dict(pair.split("=") for pair in sys.argv[2:]))
took = time.perf_counter() - begun
print(took, len(results.trials), len(results.reports))
"""
_RAYS = """
import sys, time
from ray.tune import ExperimentAnalysis
begun = time.perf_counter()
analysis = ExperimentAnalysis(sys.argv[1], default_metric="validation_accuracy", default_mode="max")
trials, reports = analysis.dataframe(), analysis.trial_dataframes
took = time.perf_counter() - begun
print(took, len(trials), sum(map(len, reports.values())))
"""


def main() -> None:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--largest-ray", type=int, default=3000, help="trials opened by Ray at most"
    )
    parser.add_argument("--output", default=ROOT / "benchmarks" / "results" / "results.md")
    args = parser.parse_args()
    lines = [
        "| trials x 9 epochs | ours, our record | ours, Ray's files | Ray's ExperimentAnalysis |",
        "| --- | --- | --- | --- |",
    ]
    for size in args.sizes:
        lines.append(_row(size, args.repeats, with_ray=size <= args.largest_ray))
        print(lines[-1], flush=True)
    text = _page(lines, args.repeats)
    Path(args.output).write_text(text, encoding="utf-8")
    print(text)


def _row(size: int, repeats: int, *, with_ray: bool) -> str:
    from tests.recorded_runs import record_run

    with tempfile.TemporaryDirectory() as folder:
        ours = record_run(
            Path(folder) / "ours",
            num_samples=size,
            max_epochs=9,
            search="random",
            scheduler="none",
        )
        cases: dict[str, tuple[str, list[str]]] = {"ours": (_OURS, [str(ours)])}
        if with_ray:
            rays = _as_ray(ours, Path(folder) / "rays")
            more = ["metric=validation_accuracy", "mode=max"]
            cases["ours on Ray's files"] = (_OURS, [str(rays), *more])
            cases["Ray"] = (_RAYS, [str(rays)])
        found: dict[str, list[list[float]]] = {name: [] for name in cases}
        for turn in range(repeats + 1):
            for name, (code, arguments) in cases.items():
                done = subprocess.run(
                    [sys.executable, "-c", code, *arguments],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=ROOT,
                )
                figures = [float(part) for part in done.stdout.split()[-3:]]
                assert figures[1:3] == [size, 9 * size], (name, figures)
                if turn:
                    found[name].append(figures)
    cells = [_cell(found.get(name)) for name in ("ours", "ours on Ray's files", "Ray")]
    return f"| {size:,} | {' | '.join(cells)} |"


def _cell(rows: list[list[float]] | None) -> str:
    if rows is None:
        return "not run"
    seconds = [row[0] for row in rows]
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _as_ray(ours: Path, folder: Path) -> Path:
    """Write the trials of a run in the files that stock Ray Tune leaves."""
    from raytune_ahu.results import load

    results = load(ours)
    folder.mkdir()
    reports = dict(iter(results.reports.groupby("trial")))
    states = []
    for trial in results.trials["trial"]:
        place = folder / f"Toy_{trial}"
        place.mkdir()
        config = results.configuration(trial)
        (place / "params.json").write_text(json.dumps(config))
        rows, total = [], 0.0
        for row in reports[trial].itertuples(index=False):
            total += row.seconds
            rows.append(
                {
                    "validation_accuracy": row.value,
                    "train_loss": 1.0 / row.resource,
                    "timestamp": int(row.time.timestamp()),
                    "checkpoint_dir_name": None,
                    "done": row.resource == 9,
                    "training_iteration": row.resource,
                    "trial_id": trial,
                    "date": "2026-01-01_00-00-00",
                    "time_this_iter_s": row.seconds,
                    "time_total_s": total,
                    "pid": 100,
                    "hostname": str(row.node),
                    "node_ip": "10.0.0.1",
                    "config": config,
                    "time_since_restore": total,
                    "iterations_since_restore": row.resource,
                }
            )
        (place / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        states.append((trial, place.name, config, rows[-1]))
    _write_state(folder, states)
    return folder


def _write_state(
    folder: Path, trials: list[tuple[str, str, dict[str, object], dict[str, object]]]
) -> None:
    """Write the experiment's state with Ray's own code, without which it opens nothing."""
    from ray.train._internal.storage import StorageContext
    from ray.tune import PlacementGroupFactory
    from ray.tune.experiment import Trial
    from ray.tune.utils.serialization import TuneFunctionEncoder

    data = []
    for trial_id, place, config, last in trials:
        storage = StorageContext(storage_path=str(folder.parent), experiment_dir_name=folder.name)
        trial = Trial(
            "Toy",
            config=config,
            trial_id=trial_id,
            storage=storage,
            stub=True,
        )
        trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])
        trial.relative_logdir = trial.storage.trial_dir_name = place
        trial.set_status(Trial.TERMINATED)
        trial.run_metadata.last_result = last
        data.append(trial.get_json_state())
    state = {"trial_data": data, "runner_data": {}, "stats": {}}
    text = json.dumps(state, cls=TuneFunctionEncoder)
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text(text)


def _page(lines: list[str], repeats: int) -> str:
    names = ("ray", "pandas", "numpy")
    told = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return "\n".join(
        [
            "# Opening a run",
            "",
            f"`python benchmarks/bench_results.py`; Python {platform.python_version()}, {told}; "
            f"median (smallest to largest) of {repeats} processes each, in turn; seconds without "
            "imports.",
            "",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
