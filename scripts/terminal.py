"""How the scripts talk: a console that survives its reader, commands to type, last words.

It imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import IO, cast

from rich.console import Console


def complain(line: str) -> None:
    """Print a line to standard error."""
    with contextlib.suppress(OSError):  # whoever read it may be gone
        print(line, file=sys.stderr)


def print_command(command: str, console: Console) -> None:
    """Print a command to be typed, on a line of its own."""
    console.print(f"  {command}", style="bold", highlight=False, soft_wrap=True, markup=False)


def interpreter() -> str:
    """The command that started this process, as one would type it here."""
    running = Path(sys.executable)
    if shutil.which("python") == str(running):
        return "python"
    inside = running.is_relative_to(Path.cwd())
    return shlex.quote(str(running.relative_to(Path.cwd()) if inside else running))


class _Unbreakable(io.TextIOBase):
    """Standard output that goes on quietly when its reader has gone (`... | head`)."""

    def write(self, text: str) -> int:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return len(text)


def make_console() -> Console:
    """Make the console that a run talks to."""
    if sys.stdout.isatty():
        return Console()
    return Console(file=cast("IO[str]", _Unbreakable()))
