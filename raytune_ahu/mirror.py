"""Deletes checkpoints not before their deletion is on record, and copies the record to the store.

The record of a run (spec.json, log.jsonl) is written to a local folder. If the checkpoints are in
an object store, `RemoteRecord` keeps a copy of it beside them, so that a run whose driver machine
is gone goes on elsewhere (`download_record`), a few seconds behind. A checkpoint is deleted only
when the log that no longer needs it is safe: synced to disk (`LocalRecord`), or in the store
(`RemoteRecord`). Start with `mirror_for`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from raytune_ahu.driver_lock import DRIVER_FILE, HEARTBEAT_S, DriverLock
from raytune_ahu.errors import (
    AhuError,
    RecordError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from raytune_ahu.records import LOG_FILE, SPEC_FILE
from raytune_ahu.storage import FAILURES, CheckpointStorage

_MUCH = 8
"""With so many checkpoints waiting to be deleted from a folder, they are not kept for longer."""
RETRY_S = 15.0
"""After a failure of the storage, the next try comes so much later."""
_DELETED_AT_ONCE = 50  # then a sign of life: an object store takes tens of milliseconds for each


def mirror_for(folder: Path, storage: CheckpointStorage) -> RecordMirror:
    """Return the mirror for a storage."""
    return RemoteRecord(folder, storage) if storage.is_remote else LocalRecord(folder, storage)


class RecordMirror(ABC):
    """What the driver tells about its record; a context manager.

    `claim` the run, open its log, set `sync`, then `refresh`; `close` it before the log. Failures
    of the storage never end a run: they are kept in `problem` and tried again later.

    Args:
        folder: The run's local folder.
        storage: Its checkpoints.

    Attributes:
        sync: Forces the log onto the disk (`RunLog.sync`); called before anything is deleted.
        problem: What last went wrong and has not been made good; None: nothing. To be shown when it
            changes.
        lost: Whether another driver has taken the run over; this one should end.
    """

    def __init__(self, folder: Path, storage: CheckpointStorage) -> None:
        self._folder = folder
        self._storage = storage
        self.sync: Callable[[], None] = lambda: None
        self._doomed: list[str] = []
        self.problem: str | None = None
        self.lost = False

    @abstractmethod
    def claim(self, *, resume: bool) -> None:
        """Take the run for this driver, and bring its local record up to the copy in the store.

        Args:
            resume: Whether the run goes on; otherwise it must not exist yet.

        Raises:
            RunBusyError: If another driver has the run.
            RunExistsError: If it exists already and is not resumed.
            StorageError: If the storage cannot be reached.
            RunNotFoundError, RecordError: As `download_record`.
        """

    def delete_later(self, relative: str) -> None:
        """Have a checkpoint deleted, once the log as it is now is safe."""
        self._storage.full(relative)  # refuses a path that leads elsewhere
        self._doomed.append(relative)

    @abstractmethod
    def refresh(self) -> None:
        """Do what is due; called about ten times a second."""

    @abstractmethod
    def flush(self, timeout_s: float = 60.0) -> bool:
        """Copy and delete all that waits, and return whether that succeeded (else: `problem`)."""

    def close(self) -> None:
        """Flush, and give the run free; closing twice does no harm."""
        self.flush()

    def __enter__(self) -> RecordMirror:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _delete(self, doomed: list[str]) -> list[str]:
        """Delete checkpoints; return those that cannot be, for another try."""
        left = []
        for relative in doomed:
            try:
                self._storage.delete(relative)
            except StorageError as error:
                self.problem = f"old checkpoints cannot be deleted: {error}"
                left.append(relative)
        return left


class LocalRecord(RecordMirror):
    """For a folder: deletes in the caller's thread, once a second or a few at once, after a sync.

    A sync takes milliseconds (tens of them on a slow disk), which is why not each is deleted alone.
    """

    _due = 0.0

    def claim(self, *, resume: bool) -> None:
        """Do nothing: the log in the folder is locked, and it is the only one."""

    def refresh(self) -> None:
        """Delete what waits, if the last time was a second ago or much is waiting."""
        now = time.monotonic()
        much = len(self._doomed) >= _MUCH and self.problem is None
        if self._doomed and (much or now >= self._due):
            self._due = time.monotonic() + (1.0 if self.flush() else RETRY_S)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Delete what waits; return whether all of it is gone."""
        if not self._doomed:
            return True
        doomed, self._doomed = self._doomed, []
        try:
            self.sync()
        except FAILURES as error:
            self.problem = f"the log cannot be synced: {error}"
            self._doomed = doomed
            return False
        self._doomed = self._delete(doomed)
        if not self._doomed:
            self.problem = None
        return not self._doomed


class RemoteRecord(RecordMirror):
    """For an object store: a thread uploads the record, then deletes.

    Spec and log are uploaded whole, under a temporary name that is then moved to the right one:
    also where a put is not atomic, or ends early, the store has either the old file or the new one.
    An upload begins when the log has grown and `interval_s` have passed since the last, but never
    takes more than a fifth of the time; every upload, and the thread every `HEARTBEAT_S`, renews
    the claim on the run (see `driver_lock`). Nothing is uploaded before the run is claimed.

    Args:
        folder: The run's local folder.
        storage: Its checkpoints.
        interval_s: Seconds between two uploads.
    """

    def __init__(
        self,
        folder: Path,
        storage: CheckpointStorage,
        *,
        interval_s: float = 5.0,
    ) -> None:
        super().__init__(folder, storage)
        self.lock = DriverLock(storage)
        self._interval_s = interval_s
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._due = 0.0  # when the next upload may begin
        self._wake = threading.Condition()
        self._asked = 0  # rounds wanted so far
        self._done = 0  # the newest one that was begun after it had been wanted, and has ended
        self._succeeded = True
        self._thread: threading.Thread | None = None

    def claim(self, *, resume: bool) -> None:
        """Take the run and its record (see `RecordMirror.claim`), and keep it from now on."""
        try:
            self.lock.claim()
            try:
                if resume:
                    download_record(self._storage, self._folder)
                elif self._storage.exists(SPEC_FILE):
                    raise RunExistsError(
                        f"there is a run already in {self._storage.uri}; go on with it "
                        f"(--resume {self._folder.name}), or choose another --name"
                    )
            except BaseException:
                self.lock.release()
                raise
        except AhuError:
            raise
        except FAILURES as error:
            raise StorageError(f"cannot claim the run in {self._storage.uri}: {error}") from error
        self._thread = threading.Thread(target=self._work, name="record-mirror", daemon=True)
        self._thread.start()

    def refresh(self) -> None:
        """Have the record uploaded if that is due; costs microseconds."""
        if self.lost or self._asked > self._done or time.monotonic() < self._due:
            return
        if self._doomed or self._signature(LOG_FILE) != self._uploaded.get(LOG_FILE):
            self._ask()

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Upload and delete all that waits, for `timeout_s` at most; return whether it is done."""
        if self.lost or self._thread is None:
            return False
        number = self._ask()
        with self._wake:
            if not self._wake.wait_for(lambda: self._done >= number, timeout_s):
                self.problem = f"{self._storage.uri} has not answered for {timeout_s:g} s"
                return False
            return self._succeeded

    def close(self) -> None:
        """Flush, give the run free and end the thread."""
        if self._thread is None:
            return
        answers = self.flush()
        with self._wake:
            thread, self._thread = self._thread, None
            self._wake.notify_all()
        if answers:
            thread.join()
            try:
                self.lock.release()
            except FAILURES as error:
                self.problem = f"{DRIVER_FILE} cannot be removed: {error}"

    def _ask(self) -> int:
        with self._wake:
            self._asked += 1
            self._wake.notify_all()
            return self._asked

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._asked > self._done or self._thread is not me, HEARTBEAT_S
                )
                if self._thread is not me:
                    return
                asked = self._asked
            owns = self._renew()
            if asked > self._done:
                succeeded = owns and self._copy()
                with self._wake:
                    self._done, self._succeeded = asked, succeeded
                    self._wake.notify_all()

    def _renew(self) -> bool:
        """Renew the claim on the run; return whether this driver still has it."""
        try:
            self.lost = self.lost or not self.lock.renew()
        except FAILURES as error:
            return self._fail(f"{DRIVER_FILE} cannot be written to {self._storage.uri}: {error}")
        if self.lost:
            self.problem = (
                f"another driver has taken over the run in {self._storage.uri}; this one writes "
                "there no more"
            )
        return not self.lost

    def _copy(self) -> bool:
        """Upload what has changed, then delete what waited before; return whether it succeeded."""
        began = time.monotonic()
        doomed = list(self._doomed)
        try:
            self._upload()
        except FAILURES as error:
            return self._fail(f"the record cannot be copied to {self._storage.uri}: {error}")
        left: list[str] = []
        while doomed:
            some, doomed = doomed[:_DELETED_AT_ONCE], doomed[_DELETED_AT_ONCE:]
            kept = self._delete(some)
            for relative in set(some) - set(kept):
                self._doomed.remove(relative)
            left += kept
            if doomed and not self._renew():
                return False
        if left:
            return self._fail(self.problem)
        self.problem = None
        took = time.monotonic() - began
        self._due = time.monotonic() + max(self._interval_s, 4 * took)
        return True

    def _fail(self, problem: str | None) -> bool:
        self.problem = problem
        self._due = time.monotonic() + RETRY_S
        return False

    def _upload(self) -> None:
        self.sync()
        for name in (SPEC_FILE, LOG_FILE):  # a log in the store always has its specification
            signature = self._signature(name)
            if signature is None or signature == self._uploaded.get(name):
                continue
            temporary = self._storage.full(f".{name}.uploading")
            self._storage.write_bytes(temporary, (self._folder / name).read_bytes())
            self._storage.filesystem.move(temporary, self._storage.full(name))
            self._uploaded[name] = signature

    def _signature(self, name: str) -> tuple[int, int] | None:
        try:
            stat = (self._folder / name).stat()
        except FileNotFoundError:
            return None
        return stat.st_size, stat.st_mtime_ns


def download_record(storage: CheckpointStorage, folder: Path) -> bool:
    """Bring the record in a local folder up to the copy in the store; return whether it changed.

    A folder without a record gets it. One whose log is a beginning of the copy (the run went on
    elsewhere) gets the rest. One that is ahead of the copy (the driver was killed before it was
    copied) stays as it is.

    Raises:
        RunNotFoundError: If there is no record in the store, and none in the folder.
        RecordError: If both have gone on differently.
        StorageError: If the store cannot be read, or the folder cannot be written.
    """
    try:
        copies = {name: _read(storage, name) for name in (SPEC_FILE, LOG_FILE)}
        spec, log = copies[SPEC_FILE], _whole_lines(copies[LOG_FILE] or b"")
        own = _whole_lines(_read_own(folder / LOG_FILE))
        if spec is None:
            if (folder / SPEC_FILE).exists():
                return False
            raise RunNotFoundError(f"{storage.uri} holds no run: {SPEC_FILE} is missing there")
        if (folder / SPEC_FILE).exists() and own.startswith(log):
            return False
        if not log.startswith(own):
            raise RecordError(
                f"the record in {folder} and the one in {storage.uri} have gone on differently; "
                f"move {folder} away to go on with the latter, or choose another record_path"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((SPEC_FILE, spec), (LOG_FILE, log)):
            temporary = folder / f".{name}.tmp"
            temporary.write_bytes(content)
            temporary.replace(folder / name)
    except AhuError:
        raise
    except FAILURES as error:
        raise StorageError(f"cannot copy {storage.uri} to {folder}: {error}") from error
    return True


def _read(storage: CheckpointStorage, name: str) -> bytes | None:
    try:
        return storage.read_bytes(storage.full(name))
    except FileNotFoundError:
        return None


def _read_own(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _whole_lines(log: bytes) -> bytes:
    return log[: log.rfind(b"\n") + 1]
