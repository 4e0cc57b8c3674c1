"""What is left of a run after each kind of fault? Ours beside stock Ray Tune, fault by fault.

Every cell of the table is an experiment of its own: a driver in a fresh process with its own Ray of
two CPUs, a trainable that takes a fraction of a second per epoch and writes a checkpoint after
each, and a real fault: a signal, a cut file, a full disk, a lost node. Each epoch that is run is
noted in a file outside of Ray, by the trainable; what was repeated or lost is counted there.

    python benchmarks/bench_faults.py                      # about an hour
    python benchmarks/bench_faults.py --only kill nan      # these rows anew, the others as they are
    python benchmarks/bench_faults.py --list

Written to --out: faults.md and faults.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DRIVER = ROOT / "benchmarks" / "fault_driver.py"
STALL_S = 90.0
"""A driver that runs no epoch for so long is killed; that is a result too."""
LIMIT_S = 400.0
"""So is one that has not ended by then."""
RUNG_LEVELS = (1, 3)


# ---------------------------------------------------------------------- an experiment, from outside


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Read what the trainable noted; a line that is just being written is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


@dataclass
class Session:
    """A driver process of an experiment."""

    process: subprocess.Popen[bytes]
    path: Path
    notes: Path
    began: float = field(default_factory=time.time)

    def wait(self) -> dict[str, Any]:
        """Wait for its end, within the limits; return what it wrote, and what is known else."""
        ended = ""
        while self.process.poll() is None and not ended:
            time.sleep(0.05)
            now = time.time()
            heard = self.notes.stat().st_mtime if self.notes.exists() else 0.0
            if now - max(heard, self.began) > STALL_S:
                ended = f"hung: no epoch for {STALL_S:g} s"
            elif now - self.began > LIMIT_S:
                ended = f"had not ended after {LIMIT_S:g} s"
        self.kill()
        path = self.path.with_suffix(".outcome")
        outcome = json.loads(path.read_text()) if path.exists() else {}
        died = f"died with exit code {self.process.returncode}"
        return {**outcome, "returned": ended or outcome.get("returned", died)}

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.path.with_suffix(".output").read_text(errors="replace")


class Experiment:
    """One side's experiment of a case: its drivers one after another, on one run's folder.

    Args:
        stock: Whether Ray Tune runs it alone.
        folder: A fresh folder.
        options: What differs from the defaults below; `plan` is for the trainable.
    """

    def __init__(self, stock: bool, folder: Path, **options: Any) -> None:
        self.stock, self.folder, self.sessions = stock, folder, []
        self.notes = folder / "notes.jsonl"
        self.options = {
            "search": "random", "scheduler": "fifo", "trials": 12, "epochs": 6, "max_failures": 0,
            "trial_timeout_s": None, "lose_node_after": None, "storage": str(folder / "storage"),
            **options,
        }  # fmt: skip
        self.plan = {"epoch_s": 0.2, "notes": str(self.notes), **self.options.pop("plan", {})}

    def start(self, *, resume: bool = False, **changes: Any) -> Session:
        """Start a driver."""
        number = len(self.sessions)
        path = self.folder / f"session{number}.json"
        o = {**self.options, **changes, "stock": self.stock, "resume": resume, "plan": self.plan,
             "temp": str(self.folder / f"r{number}")}  # fmt: skip
        path.write_text(json.dumps(o))
        with path.with_suffix(".output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(DRIVER), str(path)],
                stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self.sessions.append(Session(process, path, self.notes))
        return self.sessions[-1]

    def wait_for_epochs(self, number: int, limit_s: float = LIMIT_S) -> None:
        """Wait until so many epochs have been run."""
        ends = time.monotonic() + limit_s
        session = self.sessions[-1]
        while len(self.epochs()) < number:
            if session.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"no {number} epochs were run:\n{session.output[-2000:]}")
            time.sleep(0.02)

    def wait_for_workers_to_go(self) -> None:
        """Wait until the workers that ran epochs have ended."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends and any(is_alive(note["pid"]) for note in self.all_notes()):
            time.sleep(0.1)

    def all_notes(self) -> list[dict[str, Any]]:
        """Everything that the trainable noted."""
        return read_notes(self.notes)

    def epochs(self) -> list[dict[str, Any]]:
        """The epochs that were run."""
        return [note for note in self.all_notes() if note["fault"] is None]

    def faults(self) -> list[dict[str, Any]]:
        """The faults that happened."""
        return [note for note in self.all_notes() if note["fault"] is not None]

    def close(self) -> None:
        """End what may still run."""
        for session in self.sessions:
            if session.process.poll() is None:
                session.kill()
        mark = os.fsencode(self.folder)  # the processes of a Ray name its temporary folder
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)

    # --- in words

    def waste(self, outcome: dict[str, Any]) -> str:
        """Count epochs that were run again, and those of trials that were replaced."""
        times = Counter((note["trial"], note["x"], note["epoch"]) for note in self.epochs())
        repeated = sum(times.values()) - len(times)
        words = f"{count(repeated, 'epoch')} repeated"
        if "trials" in outcome:
            newest = {note["trial"]: note["x"] for note in self.epochs()}
            kept = {(trial, newest.get(trial)) for trial in outcome["trials"]}
            lost = sum((trial, x) not in kept for trial, x, _ in times)
            words += f", {lost} lost"
        return words

    def ending(self, outcome: dict[str, Any]) -> str:
        """Say how many trials came to an end."""
        if "trials" not in outcome:
            ran = len({note["trial"] for note in self.epochs()})
            return f"the driver {shorten(outcome['returned'])}; {ran} trials had run"
        statuses = Counter(outcome["trials"].values())
        done = sum(statuses[name] for name in ("TERMINATED", "completed", "stopped"))
        failed = statuses["ERROR"] + statuses["failed"]
        words = f"{done} of {self.options['trials']} trials ended normally"
        return f"{words}, {failed} failed" if failed else words


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def count(number: int, noun: str) -> str:
    """Say a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shorten(text: str, limit: int = 160) -> str:
    """Cut a message for the table, without the places of this machine."""
    text = re.sub(r"/\S*/(\S+)", r".../\1", text).replace("|", "/")
    text = re.sub(r"\(\S+, pid \d+\)", "(HOST, pid N)", text)
    return text if len(text) <= limit else text[:limit] + " ..."


def restored(outcome: dict[str, Any], before: list[dict[str, Any]]) -> str:
    """Say what a resume began with, beside what had been reported before it."""
    found = outcome.get("restored")
    if found is None:
        return "nothing was restored"
    had = {level: sum(note["epoch"] == level for note in before) for level in RUNG_LEVELS}
    ran = len({note["trial"] for note in before})
    words = f"{count(found['trials'], 'trial')} known ({ran} had run)"
    for key, name in (("rungs", "rungs"), ("observations", "the searcher's observations")):
        if found[key] is not None:
            sizes = "/".join(str(found[key].get(str(level), 0)) for level in RUNG_LEVELS)
            words += f", {name} {sizes} (run: {had[1]}/{had[3]})"
    return words


# ---------------------------------------------------------------------- the cases


def kill(e: Experiment) -> str:
    """Kill the driver after 40 epochs, and resume."""
    first = e.start()
    e.wait_for_epochs(40)
    first.kill()
    e.wait_for_workers_to_go()
    before = e.epochs()
    outcome = e.start(resume=True).wait()
    return f"resume: {restored(outcome, before)}; {e.waste(outcome)}; {e.ending(outcome)}"


def interrupt(number: signal.Signals) -> Callable[[Experiment], str]:
    """Make a case that sends the driver a signal after 40 epochs, and resumes."""

    def case(e: Experiment) -> str:
        first = e.start()
        e.wait_for_epochs(40)
        first.process.send_signal(number)
        sent = time.monotonic()
        said = first.wait()
        took = time.monotonic() - sent
        e.wait_for_workers_to_go()
        outcome = e.start(resume=True).wait()
        words = f"the driver {shorten(said['returned'])} {took:.0f} s after the signal"
        if "trials" in said:
            statuses = Counter(said["trials"].values()).items()
            words += f" ({', '.join(f'{n} {status}' for status, n in sorted(statuses))})"
        return f"{words}; resume: {e.waste(outcome)}; {e.ending(outcome)}"

    return case


def damage(stock_file: str, how: str) -> Callable[[Experiment], str]:
    """Make a case that damages a file of the record after the driver was killed."""

    def case(e: Experiment) -> str:
        first = e.start()
        e.wait_for_epochs(40)
        first.kill()
        e.wait_for_workers_to_go()
        found = sorted(
            Path(e.options["storage"], "run").glob(stock_file if e.stock else "log.jsonl")
        )
        if not found:
            return f"no file {stock_file} had been written"
        content = found[-1].read_bytes()
        half = len(content) // 2
        tail = b"" if how == "cut" else b"\0" * 20 + content[half + 20 :]
        found[-1].write_bytes(content[:half] + tail)
        before = e.epochs()
        session = e.start(resume=True)
        outcome = session.wait()
        words = ""
        way = re.search(r"head -n (\d+)", outcome["returned"])
        if way:  # our message says how to go on; do so
            words = f'refused: "{shorten(outcome["returned"], 300)}"; after that: '
            lines = found[-1].read_bytes().splitlines(keepends=True)
            found[-1].write_bytes(b"".join(lines[: int(way[1])]))
            session = e.start(resume=True)
            outcome = session.wait()
        elif "Restarting experiment" in session.output:
            words = 'the log says "Restarting experiment."; '
        return f"{words}{restored(outcome, before)}; {e.waste(outcome)}; {e.ending(outcome)}"

    return case


def faulty(e: Experiment) -> str:
    """Let trials go wrong in epoch 3, and see whether, when and where they go on."""
    outcome = e.start().wait()
    by_trial: dict[str, list[dict[str, Any]]] = {}
    for fault in e.faults():
        by_trial.setdefault(fault["trial"], []).append(fault)
    begins = [note for note in e.epochs() if note["epoch"] == 1]
    words = []
    for faults in by_trial.values():
        first = faults[0]
        later = [n for n in e.all_notes() if n["trial"] == first["trial"] and n["t"] > first["t"]]
        text = f"tried {len(faults)} times" if len(faults) > 1 else "not tried again"
        if later:
            began = [n for n in begins if first["t"] + e.plan["epoch_s"] < n["t"] < later[0]["t"]]
            text = f"goes on with epoch {later[0]['epoch']} after {count(len(began), 'new trial')}"
            text += f", {len(faults)} attempts failed" if len(faults) > 1 else ""
        words.append(text)
    summary = "; ".join(f"{n}x {text}" for text, n in Counter(words).items())
    return f"faulty trials: {summary}; {e.waste(outcome)}; {e.ending(outcome)}"


def nan(e: Experiment) -> str:
    """Let trials report NaN in every epoch."""
    outcome = e.start().wait()
    ran = Counter(note["trial"] for note in e.epochs() if note["x"] > e.plan["above"])
    healthy = Counter(note["trial"] for note in e.epochs() if note["x"] <= e.plan["above"])
    most = e.options["epochs"]
    return (
        f"{count(len(ran), 'NaN trial')} ran {ran.total()} of {most * len(ran)} epochs, the "
        f"{len(healthy)} others {healthy.total()} of {most * len(healthy)}; {e.ending(outcome)}"
    )


def missing(e: Experiment) -> str:
    """Let trials leave the metric out of one report."""
    return e.ending(e.start().wait())


def bad_checkpoint(e: Experiment) -> str:
    """Cut the newest checkpoint of the trials that ran when the driver was told to stop."""
    first = e.start()
    e.wait_for_epochs(30)
    first.process.send_signal(signal.SIGINT)
    first.wait()
    newest = {note["trial"]: note for note in e.epochs()}
    live = {n["trial"] for n in list(newest.values())[-2:] if n["epoch"] < e.options["epochs"]}
    cut = 0
    for trial in live:
        # Stock Ray Tune puts the trial's id into the middle of the folder's name.
        found = sorted(Path(e.options["storage"], "run").glob(f"*{trial}*/checkpoint_*/state.json"))
        if not found:
            continue
        content = found[-1].read_bytes()
        found[-1].write_bytes(content[: len(content) // 2])
        cut += 1
    outcome = e.start(resume=True).wait()
    return f"{count(cut, 'checkpoint')} cut; {e.waste(outcome)}; {e.ending(outcome)}"


def disk_full(e: Experiment) -> str:
    """Fill the disk of the checkpoints after 30 epochs, and make room 15 s later."""
    folder = Path(e.options["storage"])
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        return f"not run: no small disk can be mounted here ({mounted.stderr.strip()})"
    try:
        session = e.start()
        e.wait_for_epochs(30)
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 14))
            except OSError:
                pass
        time.sleep(15)
        during = len(e.epochs())
        ballast.unlink()
        outcome = session.wait()
        largest = shorten(outcome["returned"])
        return (
            f"{during} epochs run when there was room again; the driver {largest}; "
            f"{e.waste(outcome)}; {e.ending(outcome)}"
        )
    finally:
        e.close()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def node_lost(e: Experiment) -> str:
    """Kill one of two nodes after 20 epochs."""
    outcome = e.start(lose_node_after=20).wait()
    notes = [n for n in e.epochs() if n["node"] == outcome.get("lost_node")]
    if not notes:
        return f"no trial had run on the lost node; {e.ending(outcome)}"
    last, lost_at = notes[-1], outcome["lost_at"]
    later = [n for n in e.epochs() if n["trial"] == last["trial"] and n["node"] != last["node"]]
    began = [n for n in e.epochs() if n["epoch"] == 1 and n["t"] > lost_at + e.plan["epoch_s"]]
    words = f"its trial was in epoch {last['epoch'] + 1}, and does not go on"
    if later:
        before = [n for n in began if n["t"] < later[0]["t"]]
        words = (
            f"its trial was in epoch {last['epoch'] + 1}, and goes on with epoch "
            f"{later[0]['epoch']} {later[0]['t'] - lost_at:.0f} s later, "
            f"after {count(len(before), 'new trial')}"
        )
    return f"{words}; {e.waste(outcome)}; {e.ending(outcome)}"


def two_drivers(e: Experiment) -> str:
    """Resume a run that is going on."""
    first = e.start()
    e.wait_for_epochs(10)
    second = e.start(resume=True)
    refused = second.wait()
    took = time.time() - second.began
    outcome = first.wait()
    return (
        f"the second driver {shorten(refused['returned'])} after {took:.0f} s; the first one: "
        f"{e.waste(outcome)}; {e.ending(outcome)}"
    )


def left_on_disk(e: Experiment) -> str:
    """Take over what bench_storage.py measured."""
    path = RESULTS / "storage.csv"
    if not path.exists():
        return "not measured: run `python benchmarks/bench_storage.py` first"
    with path.open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    names = ["stock: ASHA", "stock: ASHA, num_to_keep=1"] if e.stock else ["ours: ASHA"]
    return "; ".join(
        f"{name.partition(': ')[2]}: {float(rows[name]['end_mb']):.0f} MB in "
        f"{rows[name]['checkpoints']} checkpoints, peak {float(rows[name]['peak_mb']):.0f} MB"
        for name in names
    )


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    title: str
    run: Callable[[Experiment], str]
    options: dict[str, Any] = field(default_factory=dict)


LONG = {"scheduler": "asha", "trials": 40, "epochs": 9, "plan": {"epoch_s": 0.5}}
ASHA = {"scheduler": "asha", "trials": 40, "epochs": 9}
BOHB = {**LONG, "search": "bohb"}


def wrong(fault: str, *, once: bool = False, **options: Any) -> dict[str, Any]:
    """Options with which trials above 0.8 go wrong, once or whenever they come to epoch 3."""
    return {"plan": {"fault": fault, "above": 0.8, "once": once}, **options}


CASES = {
    "kill": Case("driver killed (SIGKILL), random + ASHA", kill, LONG),
    "kill-bohb": Case("the same, BOHB (stock: TuneBOHB) + ASHA", kill, BOHB),
    "kill-hyperband": Case(
        "the same, BOHB + pausing scheduler (stock: TuneBOHB + HyperBandForBOHB; ours: "
        "asha-promotion)", kill, {**BOHB, "scheduler": "hyperband"},
    ),
    "sigint": Case("Ctrl-C (SIGINT), random + ASHA", interrupt(signal.SIGINT), ASHA),
    "sigterm": Case("preemption (SIGTERM), random + ASHA", interrupt(signal.SIGTERM), ASHA),
    "state-cut": Case(
        "driver killed, its newest state (stock: experiment_state-*.json; ours: log.jsonl) cut to "
        "half", damage("experiment_state-*.json", "cut"), BOHB,
    ),
    "state-zeros": Case(
        "the same, with 20 zero bytes in the middle", damage("experiment_state-*.json", "zeros"),
        BOHB,
    ),
    "searcher-cut": Case(
        "driver killed, the searcher's state (stock: searcher-state-*.pkl; ours: log.jsonl, there "
        "is nothing else) cut to half", damage("searcher-state-*.pkl", "cut"), BOHB,
    ),
    "exception": Case(
        "a passing exception in 2 of 12 trials, max_failures=2", faulty,
        wrong("raise", once=True, max_failures=2),
    ),
    "nan": Case("NaN from the first epoch, random + ASHA", nan,
                {**ASHA, "trials": 20, "plan": {"fault": "nan", "above": 0.6}}),
    "missing-metric": Case("the metric is missing in one report", missing, wrong("missing")),
    "worker-kill": Case("worker killed (SIGKILL) once in 2 of 12 trials, max_failures=0", faulty,
                        wrong("kill", once=True)),
    "worker-kill-always": Case("2 of 12 trials kill their worker whenever they are tried, "
                               "max_failures=0", faulty, wrong("kill")),
    "hang": Case("2 of 12 trials hang (ours: --trial-timeout 20)", faulty,
                 wrong("hang", trial_timeout_s=20.0)),
    "memory": Case("2 of 12 trials run out of memory (MemoryError), max_failures=2", faulty,
                   wrong("memory", max_failures=2)),
    "bad-checkpoint": Case("newest checkpoint of the running trials cut to half before a resume",
                           bad_checkpoint, {}),
    "disk-full": Case("disk of 48 MB full for 15 s", disk_full, {"plan": {"bytes": 1_000_000}}),
    "node-lost": Case("one of two nodes lost, max_failures=0", node_lost, {}),
    "node-lost-retries": Case("one of two nodes lost, max_failures=2", node_lost,
                              {"max_failures": 2}),
    "two-drivers": Case("a second driver resumes a run that is going on, random + ASHA",
                        two_drivers, LONG),
    "disk-use": Case("checkpoints left on disk (60 trials of 5 MB, ASHA; "
                     "[storage.md](storage.md))", left_on_disk),
}  # fmt: skip


def measure(name: str, stock: bool) -> dict[str, str]:
    """Do one experiment; return its cell of the table."""
    case = CASES[name]
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bf", ignore_cleanup_errors=True) as folder:
        experiment = Experiment(stock, Path(folder), **case.options)
        try:
            text = case.run(experiment)
        except RuntimeError as error:
            text = f"not measured: {shorten(' '.join(str(error).split()))}"
        finally:
            experiment.close()
    seconds = f"{time.monotonic() - began:.0f}"
    side = "stock" if stock else "ours"
    return {"case": name, "side": side, "text": text, "seconds": seconds, "load": f"{load:.0f}"}


def read_cells(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Read the cells that were measured so far."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(cell["case"], cell["side"]): cell for cell in csv.DictReader(file)}


def write_cells(path: Path, cells: dict[tuple[str, str], dict[str, str]]) -> None:
    """Write all cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "side", "text", "seconds", "load"])
        writer.writeheader()
        writer.writerows(cells.values())


def report(cells: dict[tuple[str, str], dict[str, str]]) -> str:
    """Write the table, with what was measured and how."""
    packages = ("ray", "hpbandster", "ConfigSpace", "numpy", "pyarrow")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    loads = sorted(int(cell["load"]) for cell in cells.values())
    minutes = sum(int(cell["seconds"]) for cell in cells.values()) / 60
    lines = [
        "# Faults",
        "",
        "Command: `python benchmarks/bench_faults.py`; one row: "
        "`python benchmarks/bench_faults.py --only CASE`.",
        "",
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} CPU cores, load average "
        f"{loads[0]} to {loads[-1]} when the experiments began; {minutes:.0f} minutes for all.",
        "",
        "Every cell is one experiment in fresh processes with a Ray of its own and two workers: 12 "
        "trials of 6 epochs without early stopping where nothing else is said, 40 (NaN: 20) of at "
        "most 9 with ASHA. A checkpoint is written after each epoch; `reuse_actors=True`. With "
        "random search both sides get the same configurations in the same order. Repeated: an "
        "epoch of a trial that was run more than once. Lost: an epoch of a trial that the run did "
        "not know any more at its end. New trials: begun between the fault and that moment, by the "
        "other worker or before the faulty one. Rungs and observations are those of 1/3 epochs. A "
        f"driver that runs no epoch for {STALL_S:g} s is killed as hung. Rows may have been "
        "measured by separate calls (`--only`, `--side`).",
        "",
        f"| case | fault | stock Ray Tune {metadata.version('ray')} | raytune_ahu |",
        "| --- | --- | --- | --- |",
    ]
    for name, case in CASES.items():
        texts = [cells.get((name, side), {}).get("text", "") for side in ("stock", "ours")]
        if any(texts):
            lines.append(f"| `{name}` | {case.title} | {texts[0]} | {texts[1]} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the cases, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help="see --list")
    parser.add_argument("--side", choices=("stock", "ours"), help="only one of the two")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:20} {case.title}" for name, case in CASES.items()))
        return
    table = arguments.out / "faults.csv"
    for name in arguments.only or CASES:
        for side in [arguments.side] if arguments.side else ["stock", "ours"]:
            cell = measure(name, side == "stock")
            print(f"{name}, {side} ({cell['seconds']} s): {cell['text']}\n", flush=True)
            write_cells(table, {**read_cells(table), (name, side): cell})
    (arguments.out / "faults.md").write_text(report(read_cells(table)))
    print(f"written to {arguments.out}: faults.md, faults.csv")


if __name__ == "__main__":
    main()
