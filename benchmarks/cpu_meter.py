"""CPU seconds of a command with everything that it starts, daemons included. Linux only.

`getrusage(RUSAGE_CHILDREN)` counts only descendants that somebody waited for, and misses daemons
and whatever the system reaps. So here the tree of processes is read from /proc while the command
runs, and each process counts with what it had used when last seen. What is lost is at most one
interval at the end of each process. Start with `run_metered`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h: orphans below this process become its children, so the tree stays whole."""
INTERVAL_S = 0.2


@dataclass(frozen=True)
class Usage:
    """What a command took."""

    returncode: int
    cpu_s: float
    """User and system time of all its processes together."""
    wall_s: float
    started: float
    """When it began, in seconds since 1970."""
    samples: tuple[tuple[float, float], ...]
    """(seconds since 1970, CPU seconds until then), in order."""

    def cpu_s_until(self, moment: float) -> float:
        """CPU seconds until a moment, in seconds since 1970, as last seen before it."""
        return max((cpu_s for when, cpu_s in self.samples if when <= moment), default=0.0)


def run_metered(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path,
) -> Usage:
    """Run a command to its end, and sum the CPU seconds of the processes below this one.

    Nothing else may be started from this process meanwhile.

    Args:
        command: Program and arguments.
        cwd: Folder in which it runs; None: this one's.
        env: Its environment; None: this one's.
        log: File that takes its output and errors.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(_descendants())
    seen: dict[tuple[int, str], float] = {}
    samples: list[tuple[float, float]] = []
    start, started = time.perf_counter(), time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            _look(seen, before)
            samples.append((time.time(), sum(seen.values())))
            time.sleep(INTERVAL_S)
    wall_s = time.perf_counter() - start
    _look(seen, before)  # what outlives the command, such as a raylet on its way out
    samples.append((time.time(), sum(seen.values())))
    return Usage(process.returncode, sum(seen.values()), wall_s, started, tuple(samples))


def _look(seen: dict[tuple[int, str], float], leave_out: set[tuple[int, str]]) -> None:
    for key, cpu_s in _descendants().items():
        if key not in leave_out:
            seen[key] = max(cpu_s, seen.get(key, 0.0))


def _descendants() -> dict[tuple[int, str], float]:
    """CPU seconds of every process below this one, by process id and time of its start."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        # The name, in brackets, may hold anything; fields 3, 4, ... of proc(5) come after it.
        fields = text[text.rindex(")") + 2 :].split()
        process = int(path.parent.name)
        parents[process] = int(fields[1])
        found[process] = fields[19], (int(fields[11]) + int(fields[12])) / ticks
    below: dict[tuple[int, str], float] = {}
    me = os.getpid()
    for process, (started, cpu_s) in found.items():
        above = parents[process]
        while above not in (0, me):
            above = parents.get(above, 0)
        if above == me:
            below[process, started] = cpu_s
    return below
