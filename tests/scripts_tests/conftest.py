"""Fixtures for the scripts."""

from __future__ import annotations

import runpy
import signal
import sys

import pytest


@pytest.fixture
def script(root, tmp_path, monkeypatch, capsys):
    """Run a script inside this process, as `python scripts/NAME ...` in an empty folder."""

    def call(*arguments, name="tune_resnet.py"):
        monkeypatch.chdir(tmp_path)
        path = root / "scripts" / name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(path.parent))
        handler = signal.getsignal(signal.SIGINT)
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(path), run_name="__main__")
        finally:
            signal.signal(signal.SIGINT, handler)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call
