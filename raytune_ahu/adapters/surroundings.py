"""What surrounds a call of `tune.run`: its end in time, interrupts, Ray's own output."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ray.tune import Stopper

from raytune_ahu.errors import AhuError


class RunStopper(Stopper):
    """Ends a run in order when its time budget is spent or when it was interrupted.

    Ray asks it in every step, about ten times a second. Trials that are stopped so stay unfinished
    in the record, and go on when the run is resumed. The trials that run then get some time to end
    their epoch and save, so that nothing is trained twice.

    Args:
        budget_s: Wall seconds of all sessions together, or None.
        spent_s: Wall seconds of the earlier sessions.
        stop_timeout_s: Seconds that running trials get.
        running: Lists the trials that run now.
    """

    def __init__(
        self,
        budget_s: float | None,
        spent_s: float,
        *,
        stop_timeout_s: float = 0.0,
        running: Callable[[], list[Any]] = list,
    ) -> None:
        self._ends_at = None if budget_s is None else time.monotonic() + budget_s - spent_s
        self._stop_timeout_s = stop_timeout_s
        self._running = running
        self._waited_for: list[Any] | None = None
        self._drained_by = 0.0
        self.is_ending = False
        """Whether nothing new is to start."""
        self.interrupted = False
        self.error: AhuError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Ray's snapshots, which are not read."""
        return {}

    def interrupt(self) -> None:
        """End the run in order. May be called in a signal handler."""
        self.interrupted = True
        self._begin()

    def _begin(self) -> None:
        if not self.is_ending:
            self._drained_by = time.monotonic() + self._stop_timeout_s
            self.is_ending = True

    def fail(self, error: AhuError) -> None:
        """End the run in order because of an error that the user can mend."""
        if self.error is None:
            self.error = error
            self._begin()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped by itself: that is the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the run is over."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self._begin()
        if not self.is_ending:
            return False
        running = self._running()
        if self._waited_for is None:
            self._waited_for = running
        waiting = any(trial in self._waited_for for trial in running)
        return not waiting or time.monotonic() >= self._drained_by

    def notice(self) -> str | None:
        """What the user should know while the run is being ended."""
        if not self._waited_for:
            return None
        left = self._drained_by - time.monotonic()
        if left <= 0:
            return None
        return f"ending: running trials finish their epoch and save, within {left:.0f} s"

    @property
    def reason(self) -> str:
        """Why the run ended."""
        if self.interrupted:
            return "interrupted"
        return "time budget" if self.is_ending else "finished"


@contextlib.contextmanager
def interruptible(stopper: RunStopper) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) end the run in order, and the second end it at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopper.interrupted:
            raise KeyboardInterrupt
        stopper.interrupt()
        with contextlib.suppress(OSError):  # Ctrl-C has ended the reader of a pipe as well
            os.write(2, b"ending the run in order; once more ends it at once\n")

    try:
        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: the caller's signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet_ray(verbose: bool) -> Iterator[None]:
    """Switch off what the record replaces, unless `verbose`: Ray's loggers, tables and warnings.

    The loggers alone take 57 % of the driver's CPU and five files per trial.
    """
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "0" if verbose else "1",
        "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the slots are the limit, and may grow
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # snapshots of what the log holds already
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "1" if verbose else "0",
        "RAY_AIR_NEW_OUTPUT": "1" if verbose else "0",  # the new output engine is never silent
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: value for name, value in settings.items() if before[name] is None})
    logger = logging.getLogger("ray.tune")
    level = logger.level
    if not verbose:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
