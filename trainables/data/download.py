"""Downloads that fail within seconds where there is no network, and leave no half file.

Files arrive in a temporary folder beside their place and are renamed into it.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CONNECT_TIMEOUT_S = 8.0
"""How long to wait for the first answer of a server, name look-up included."""
READ_TIMEOUT_S = 30.0
"""How long a running download may stand still."""


class DownloadError(Exception):
    """A download is not possible; the message is the reason."""


def download_into(target: Path, urls: Sequence[str], fetch: Callable[[Path], None]) -> None:
    """Download a data set folder as a whole.

    Args:
        target: The folder that `fetch` is expected to make, as `<folder>/<target.name>`.
        urls: Where the data may come from; one of the servers must answer.
        fetch: Called with a temporary folder; downloads into it.

    Raises:
        DownloadError: If no server answers, the download breaks off, or the target cannot be
            written.
    """
    was_there = target.parent.is_dir()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".download-", dir=target.parent))
    except OSError as error:
        raise DownloadError(f"{target.parent} cannot be written ({error.strerror})") from error
    try:
        check_reachable(urls)
        with _socket_timeout(READ_TIMEOUT_S):
            fetch(temporary)
        _move(temporary / target.name, target)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision: RuntimeError
        raise DownloadError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not was_there and not any(target.parent.iterdir()):
            target.parent.rmdir()  # a folder that was perhaps only mistyped


def check_reachable(urls: Sequence[str]) -> None:
    """Return as soon as one of the servers answers.

    A thread asks them, because a name look-up without a network may block far longer than any
    socket timeout; proxies of the environment are respected.

    Raises:
        DownloadError: If none answers within `CONNECT_TIMEOUT_S`.
    """
    answered = threading.Event()
    all_failed = threading.Event()
    reasons: list[str] = []

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # a server that refuses HEAD is there all the same
        except (OSError, ValueError) as error:
            reasons.append(f"{url}: {error}")
            if len(reasons) == len(urls):
                all_failed.set()
                answered.set()

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    if not answered.wait(CONNECT_TIMEOUT_S):
        raise DownloadError(f"no answer from {', '.join(urls)} within {CONNECT_TIMEOUT_S:g} s")
    if all_failed.is_set():
        raise DownloadError("; ".join(sorted(reasons)))


def _move(source: Path, target: Path) -> None:
    """Rename the downloaded folder; where the target exists already, add what it lacks."""
    if not target.exists():
        source.rename(target)
        return
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            path.rename(place)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Give torchvision's downloads, which set no timeout, one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
