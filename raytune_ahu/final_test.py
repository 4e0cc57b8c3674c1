"""Reading the test split of a run: written down before it is done, and not done twice unnoticed.

A test split says how good a chosen model is only as long as nothing is chosen by it. So each
reading of it is two events of the run's log (see `records`): `test_read` before, with who, when and
what for, and `test_measured` after, with the figures. A reading that was broken off has no figures
and counts all the same. Start with `reading_test`.
"""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from raytune_ahu.errors import SpecError, StorageError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.mirror import RecordMirror, mirror_for
from raytune_ahu.records import RunLog, read_events
from raytune_ahu.storage import CheckpointStorage


@dataclass(frozen=True)
class Reading:
    """One reading of a run's test split, as the log tells it."""

    number: int
    """From 1."""
    time: float
    """When it began, in seconds since the epoch."""
    user: str
    """Who."""
    host: str
    """On which machine."""
    purpose: str
    """What for, in a few words."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What was tested: `run`, `trial`, `seeds`, as far as they apply."""
    summary: str | None = None
    """The main figure in words; None: it was broken off."""
    figures: Mapping[str, Any] | None = None
    """All figures; None: it was broken off."""

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.time))
        found = self.summary or "it was broken off, without figures on record"
        return f"on {when} by {self.user} on {self.host} for {self.purpose}: {found}"


def readings_of(events: Iterable[Mapping[str, Any]]) -> tuple[Reading, ...]:
    """Return the readings of the test split among the events of a run, the oldest first."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "test_read":
            keys = ("number", "time", "user", "host", "purpose", "details")
            found[event["number"]] = {key: event[key] for key in keys}
        elif event["event"] == "test_measured":
            figures = {key: event[key] for key in ("summary", "figures")}
            found.setdefault(event["number"], {}).update(figures)
    return tuple(Reading(**values) for values in found.values() if "time" in values)


def refuse_second_reading(name: str, readings: Iterable[Reading]) -> None:
    """Refuse to read a test split that was read before.

    Raises:
        SpecError: If there is a reading; the message says who read it, when and what was found.
    """
    before = tuple(readings)
    if before:
        raise SpecError(
            f"the test split of run {name!r} was read {before[-1]}. A second look would make it "
            "validation data; to take it all the same, on record too, give --read-test-again"
        )


class OpenReading:
    """A reading that is going on.

    Attributes:
        number: Its number, from 1.
        before: The readings before it.
    """

    def __init__(self, log: RunLog, number: int, before: tuple[Reading, ...]) -> None:
        self._log = log
        self.number = number
        self.before = before

    def measured(self, figures: Mapping[str, Any], summary: str) -> None:
        """Write down what was found.

        Args:
            figures: All figures, JSON-ready.
            summary: The main one in words, such as `accuracy 0.9932 ± 0.0004`.
        """
        self._log.write("test_measured", number=self.number, summary=summary, figures=dict(figures))


@contextmanager
def reading_test(
    spec: ExperimentSpec, *, purpose: str, details: Mapping[str, Any], again: bool = False
) -> Iterator[OpenReading]:
    """Write down that the test split is about to be read, and hold the run's record meanwhile.

    When the block begins, the event is on the disk and, where the run has one, in the object store.

    Args:
        spec: The run whose test split it is, with the places where it lies now.
        purpose: What for, in a few words.
        details: What is tested, JSON-ready.
        again: Whether it may be read although it was read before.

    Raises:
        SpecError: If it was read before and `again` is False.
        RunBusyError: If another process is writing the record.
        StorageError: If the event cannot be written; nothing may be read then.
    """
    with open_record(spec) as (log, mirror):
        before = readings_of(read_events(spec.folder))
        if not again:
            refuse_second_reading(spec.name, before)
        number = max((reading.number for reading in before), default=0) + 1
        log.write(
            "test_read",
            number=number,
            user=_user(),
            host=platform.node(),
            pid=os.getpid(),
            purpose=purpose,
            details=dict(details),
        )
        log.sync()
        if not mirror.flush():
            raise StorageError(f"the record cannot be copied, so nothing is read: {mirror.problem}")
        yield OpenReading(log, number, before)


@contextmanager
def open_record(spec: ExperimentSpec) -> Iterator[tuple[RunLog, RecordMirror]]:
    """Open the log of a run that nobody is driving, and what copies it, to add to it.

    Raises:
        RunBusyError: If another process is writing it.
        StorageError: If it cannot be written.
    """
    mirror = mirror_for(spec.folder, CheckpointStorage(spec.storage_path, spec.name))
    with ExitStack() as stack:
        mirror.claim(resume=True)
        stack.callback(mirror.close)
        log = stack.enter_context(RunLog(spec.folder))
        mirror.sync = log.sync
        stack.callback(mirror.close)  # before the log is closed
        yield log, mirror


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        return f"user {os.getuid()}"
