"""The record of a run: `spec.json`, and `log.jsonl` with one line for everything that happened.

The log is append-only and it is the truth: the live view, the final summary, a resumed run and the
analysis all read the same events. An event is a flat JSON object with at least `event` (its kind)
and `time` (seconds since the epoch). The kinds, and the keys beside these two:

    run_started   session, host, pid, slots, resources (of a trial), versions, changes
    suggested     trial, origin, configuration; model and expected_improvement (in units of the
                  metric) where the searcher named them
    started       trial, resource (epochs it begins with)
    reported      trial, resource, value, metrics, decision; with the first one after a start,
                  metrics name the worker (hostname, node_ip, pid)
    resumed       trial                                 a paused trial was promoted
    saved         trial, resource, checkpoint, bytes    path relative to the run's place
    errored       trial, fault, error, will_retry, checkpoint
                                                        what went wrong, with the traceback; the
                                                        checkpoint that could not be read
    retried       trial                                 a failed trial is tried again on a resume
    finished      trial, status
    run_ended     reason
    test_read     number, user, host, pid, purpose, details
                                                        the test split is about to be read, after
                                                        the run (see `final_test`)
    test_measured number, summary, figures              what was found

Start with `RunLog` (writing) and `read_events`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from raytune_ahu.errors import RecordError, RunBusyError, RunNotFoundError, StorageError

SPEC_FILE = "spec.json"
LOG_FILE = "log.jsonl"


def plain(value: Any) -> Any:
    """Convert numpy scalars, torch 0-d tensors, tuples and sets to plain JSON-ready Python values.

    What has no plain form becomes its `repr`: a record must never fail because of an exotic metric.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return plain(value.item())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return repr(value)


def _strict(value: Any) -> Any:
    """Replace non-finite floats by {"float": "nan"} so that every line is standard JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return value


def _unstrict(item: dict[str, Any]) -> Any:
    if len(item) == 1 and "float" in item and item["float"] in ("nan", "inf", "-inf"):
        return float(item["float"])
    return item


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Serialise to standard JSON; NaN and infinities survive the round trip through `loads`."""
    return _dump(plain(value), indent)


def _dump(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    except ValueError:  # NaN and infinities are rare
        return json.dumps(_strict(value), indent=indent, allow_nan=False, ensure_ascii=False)


def loads(text: str) -> Any:
    """Read what `dumps` wrote."""
    return json.loads(text, object_hook=_unstrict)


class RunLog:
    """Appends events to a run's log; each one is flushed before `write` returns.

    A context manager. The file is synced to disk at least once a second while `write` or `refresh`
    is called, and when it is closed. While it is open it is locked: a run has one driver. The lock
    goes with the process, so a driver that was killed leaves none behind.

    Attributes:
        dropped_bytes: Length of a torn last line that was cut when the log was opened.
        on_full: Called with the number of bytes that did not fit when the disk is full; it returns
            when it is worth another try, or raises. None: `write` raises. Either way no part of the
            event is left in the file.

    Raises:
        RunBusyError: If another process has it open.
        StorageError: If it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_FILE
        self.on_full: Callable[[int], None] | None = None
        try:
            self._file = self.path.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.dropped_bytes = _drop_torn_line(self.path)
        except BlockingIOError as error:
            raise RunBusyError(
                f"the run in {folder} is being written by another process{_writer(folder)}; wait "
                "for it, or stop it"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._size = self.path.stat().st_size
        self._synced = time.monotonic()
        self._is_dirty = False

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append one event and return it as it was written."""
        record = {"event": event, "time": round(time.time(), 3), **plain(fields)}
        line = (_dump(record) + "\n").encode()
        while not self._append(line):
            if self.on_full is None:
                raise StorageError(f"cannot write {self.path}: the disk is full; make room")
            self.on_full(len(line))
        self._is_dirty = True
        self.refresh()
        return record

    def refresh(self) -> None:
        """Sync what was written, if the last time was a second ago; to be called again and again.

        Raises:
            StorageError: If it cannot be synced.
        """
        if self._is_dirty and time.monotonic() - self._synced > 1.0:
            self._sync_or_wait()

    def _sync_or_wait(self) -> None:
        """Sync; some file systems say only then that there is no room."""
        while True:
            try:
                return self.sync()
            except OSError as error:
                if not is_disk_full(error) or self.on_full is None:
                    reason = error.strerror or error
                    raise StorageError(f"cannot write {self.path}: {reason}") from error
                self.on_full(0)

    def _append(self, line: bytes) -> bool:
        """Append a line as a whole; False if the disk is full."""
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            if written:
                os.ftruncate(self._file.fileno(), self._size)
            if is_disk_full(error):
                return False
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._size += len(line)
        return True

    def sync(self) -> None:
        """Force what was written onto the disk."""
        os.fsync(self._file.fileno())
        self._synced, self._is_dirty = time.monotonic(), False

    def close(self) -> None:
        """Sync and close; closing twice does no harm."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def is_driven(folder: Path) -> bool:
    """Whether a driver on a machine that shares its locks is writing the log of a run."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_disk_full(error: OSError) -> bool:
    """Whether an error says that there is no room: no space, a quota, a limit on file size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _writer(folder: Path) -> str:
    """Name host and process of the newest session, for a message."""
    started = [event for event in read_events(folder) if event["event"] == "run_started"]
    return f" ({started[-1]['host']}, pid {started[-1]['pid']})" if started else ""


def _drop_torn_line(path: Path) -> int:
    """Cut a last line that a killed writer left unfinished; return its bytes."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
        return len(content) - whole


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run in the order they happened; an unfinished last line is left out.

    Raises:
        RunNotFoundError: If there is no log in `folder`.
        RecordError: If a line before the last is damaged; the message names its number.
    """
    path = folder / LOG_FILE
    if not path.exists():
        raise RunNotFoundError(f"{folder} holds no run: {LOG_FILE} is missing there")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield loads(line.decode("utf-8"))
            except ValueError as error:
                raise RecordError(
                    f"line {number} of {path} is damaged ({error}); restore the file from a copy, "
                    f"or cut it with: head -n {number - 1} log.jsonl > log.cut "
                    "&& mv log.cut log.jsonl"
                ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name, sync it and rename it, so that it is whole or not there.

    Raises:
        StorageError: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        RunNotFoundError: If the file is missing.
        RecordError: If it is damaged.
    """
    if not path.exists():
        raise RunNotFoundError(f"{path.parent} holds no run: {path.name} is missing there")
    try:
        return loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{path} is damaged ({error}); restore it from a copy") from error
