"""Where the checkpoints of a run lie: a folder, or a place in an object store.

Ray writes a trial's checkpoints to STORAGE/NAME/TRIAL/checkpoint_NNNNNN through pyarrow.
`CheckpointStorage` reads and deletes them there, by the same pyarrow filesystem and by their path
relative to STORAGE/NAME, which is what the record holds: a run may be moved as a whole.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pyarrow import ArrowException, fs

from raytune_ahu.errors import StorageError

CHECK_TIMEOUT_S = 20.0
"""How long a storage may take to answer before it counts as unreachable."""
FAILURES = (OSError, ValueError, ArrowException)
"""What pyarrow raises when a storage fails."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_T = TypeVar("_T")


def is_uri(path: str) -> bool:
    """Whether a storage path is a URI (`s3://bucket/prefix`), and not a folder."""
    return bool(_URI.match(path))


class CheckpointStorage:
    """The checkpoints of one run.

    Paths are relative to the run's place, with forward slashes: `trial_00000/checkpoint_000003`.
    Nothing is made, and nothing but a URI's region is asked for, before a method is called.

    Args:
        storage_path: A folder (also a mounted one), or a URI that pyarrow reads:
            `s3://bucket/prefix`, `gs://bucket/prefix`, `abfs://container@account/prefix`, with the
            options of pyarrow (`?endpoint_override=host:port&scheme=http`). Credentials come from
            the environment (`AWS_ACCESS_KEY_ID`, `~/.aws`, the machine's role).
        name: Name of the run.

    Attributes:
        storage_path: The URI as given, or the absolute path of the folder.
        filesystem: pyarrow's filesystem.
        base: Path of the folder, bucket or prefix within it that holds the runs.
        root: Path of the run within it.
        uri: The run's place, to show; without a password.

    Raises:
        StorageError: If pyarrow does not understand the URI, or it does not answer.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        if is_uri(storage_path):
            self.filesystem, base = _open(storage_path)
            self.storage_path = storage_path
            self.uri = run_uri(storage_path, name)
        else:
            self.filesystem = fs.LocalFileSystem()
            base = Path(storage_path).expanduser().resolve().as_posix()
            self.storage_path = base
            self.uri = f"{base.rstrip('/')}/{name}"
        self.base = base.rstrip("/")
        self.root = f"{self.base}/{name}"

    @property
    def is_remote(self) -> bool:
        """Whether it is anything but a folder of this machine or mounted on it."""
        return not isinstance(self.filesystem, fs.LocalFileSystem)

    def full(self, relative: str) -> str:
        """Return the path within the filesystem.

        Raises:
            ValueError: If it would lie outside the run's place, or be that place itself.
        """
        parts = relative.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(
                f"{relative!r} must be a path within {self.uri}, such as "
                "'trial_00000/checkpoint_000003'"
            )
        return f"{self.root}/{relative}"

    def relative(self, full_path: str) -> str:
        """Return the path relative to the run's place; the inverse of `full`.

        Raises:
            ValueError: If it lies outside.
        """
        prefix, inside = self.root + "/", full_path.rstrip("/")
        if not inside.startswith(prefix):
            raise ValueError(f"{full_path!r} must be a path within {self.root}")
        self.full(inside[len(prefix) :])
        return inside[len(prefix) :]

    def checkpoints(self, trial: str | None = None) -> dict[str, set[str]]:
        """Return the checkpoint folders that are there, by trial; empty if there is no run yet.

        A checkpoint that is being written or was half deleted is among them: which ones are whole,
        the record knows. In an object store this is one listing of all files (1000 a request).

        Args:
            trial: Look for those of one trial only.

        Raises:
            StorageError: If it cannot be listed.
        """
        found: dict[str, set[str]] = {}
        folders = self._remote_folders(trial) if self.is_remote else self._local_folders(trial)
        for owner, folder in folders:
            found.setdefault(owner, set()).add(f"{owner}/{folder}")
        return found

    def _remote_folders(self, trial: str | None) -> set[tuple[str, str]]:
        skip = len(self.root) + 1
        place = self.root if trial is None else self.full(trial)
        selector = fs.FileSelector(place, allow_not_found=True, recursive=True)
        paths = [info.path[skip:].split("/") for info in self._try("list", self._info, selector)]
        return {(p[0], p[1]) for p in paths if len(p) > 1 and p[1].startswith("checkpoint_")}

    def _local_folders(self, trial: str | None) -> set[tuple[str, str]]:
        def listed() -> set[tuple[str, str]]:
            folders = Path(self.root).glob(f"{trial or '*'}/checkpoint_*/")
            return {(path.parent.name, path.name) for path in folders}

        return self._try("list", listed)

    def exists(self, relative: str) -> bool:
        """Whether a folder or file is there (raises StorageError if that cannot be found out)."""
        info = self._try("read", self._info, self.full(relative))
        return bool(info.type != fs.FileType.NotFound)

    def size(self, relative: str) -> int:
        """Return the bytes of all files in a folder, 0 if there is none (raises StorageError)."""
        selector = fs.FileSelector(self.full(relative), allow_not_found=True, recursive=True)
        return sum(info.size or 0 for info in self._try("list", self._info, selector))

    def fetch(self, relative: str, folder: Path) -> None:
        """Copy a folder with all that is in it to a local one, which is made if it is not there.

        Raises:
            StorageError: If it is absent or cannot be read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._try("read", self._copy_here, self.full(relative), str(folder))

    def _copy_here(self, source: str, target: str) -> None:
        fs.copy_files(
            source,
            target,
            source_filesystem=self.filesystem,
            destination_filesystem=fs.LocalFileSystem(),
        )

    def delete(self, relative: str) -> None:
        """Delete a folder with all that is in it.

        One that is absent does no harm; what an interrupted call left is deleted by the next one.

        Raises:
            StorageError: If it cannot be deleted.
        """
        path = self.full(relative)
        with contextlib.suppress(FileNotFoundError):
            self._try("delete", shutil.rmtree if not self.is_remote else self._delete_dir, path)

    def _delete_dir(self, path: str) -> None:
        self.filesystem.delete_dir(path)

    def free_bytes(self) -> int | None:
        """Return the free space where the run lies; None for an object store, which has no end."""
        if self.is_remote:
            return None
        place = Path(self.root)
        while not place.exists():
            place = place.parent
        return self._try("read", shutil.disk_usage, place).free

    def check_writable(self, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        """Write a small file, read it back and remove it, beside the run's place.

        Args:
            timeout_s: After so many seconds the storage counts as unreachable: a mounted folder
                whose server is gone hangs for ever, and object stores are asked again for minutes.

        Raises:
            StorageError: If that fails; with the path, the cause and what to do.
        """
        path = f"{self.base}/.raytune_ahu_{uuid.uuid4().hex}"

        def write_and_remove() -> None:
            if not self.is_remote:
                Path(self.base).mkdir(parents=True, exist_ok=True)
            self.write_bytes(path, b"can be deleted")
            try:
                if self.read_bytes(path) != b"can be deleted":
                    raise OSError("what was written is not what is read")
            finally:
                self.filesystem.delete_file(path)

        self._try("write", bounded, write_and_remove, timeout_s)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file, by its path within the filesystem (raises as pyarrow does)."""
        with self.filesystem.open_output_stream(path) as file:
            file.write(content)

    def read_bytes(self, path: str) -> bytes:
        """Read a file, by its path within the filesystem (raises as pyarrow does)."""
        with self.filesystem.open_input_stream(path) as file:
            return bytes(file.read())

    def _info(self, paths: str | fs.FileSelector) -> Any:
        return self.filesystem.get_file_info(paths)

    def _try(self, verb: str, action: Callable[..., _T], *args: Any) -> _T:
        try:
            return action(*args)
        except FileNotFoundError:
            if verb == "delete":
                raise
            raise StorageError(f"cannot {verb} {self.uri}: it does not exist") from None
        except FAILURES as error:
            raise StorageError(f"cannot {verb} {self.uri}: {_cause(error)}") from error


def bounded(action: Callable[[], _T], timeout_s: float) -> _T:
    """Return what `action` returns, or give up waiting for it.

    Raises:
        OSError: If it takes longer than `timeout_s`; a thread that never ends is left behind, and
            does not keep the process alive.
    """
    outcome: list[_T] = []
    errors: list[BaseException] = []

    def act() -> None:
        try:
            outcome.append(action())
        except BaseException as error:  # noqa: BLE001 (handed to the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise OSError(f"no answer within {timeout_s:g} s")
    if errors:
        raise errors[0]
    return outcome[0]


def _open(uri: str) -> tuple[fs.FileSystem, str]:
    shown = _without_password(uri)
    try:
        filesystem, path = bounded(lambda: fs.FileSystem.from_uri(uri), CHECK_TIMEOUT_S)
    except FAILURES as error:
        raise StorageError(
            f"storage path {shown} cannot be used: {_cause(error)}; give a folder that every node "
            "sees, or an object store such as s3://bucket/prefix"
        ) from error
    if not path.strip("/"):
        raise StorageError(f"storage path {shown} names no bucket; give s3://bucket/prefix")
    return filesystem, path


def run_uri(uri: str, name: str) -> str:
    """Return the place of a run under a URI, to show; without a password, and without asking it."""
    parts = urlsplit(_without_password(uri))
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*:[^/@]*@", "//***@", uri)


_FIXES = {
    "NO_SUCH_BUCKET": "make the bucket, or name another one",
    "INVALID_ACCESS_KEY_ID": "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH": "check AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "check the credentials (AWS_ACCESS_KEY_ID, ~/.aws, the machine's role) and "
    "what they may do with the bucket",
    "NETWORK_CONNECTION": "check the address in endpoint_override, and the network",
    "no answer within": "check that its server is up and reachable",
    "Permission denied": "choose a folder that you may write",
    "Read-only file system": "choose a folder that you may write",
}


def _cause(error: Exception) -> str:
    """Say why an operation failed, and what to do where that is known."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    text = text.strip().splitlines()[0] if text.strip() else repr(error)
    text = re.sub(r" \(Request ID: [^)]*\)", "", text)
    fix = next((fix for sign, fix in _FIXES.items() if sign in text), None)
    return f"{text}; {fix}" if fix else text
