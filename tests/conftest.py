"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets that some tests read; skips where it is absent."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("RAYTUNE_AHU_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}; set RAYTUNE_AHU_SHARED_DATA to a folder with it")
    return folder


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray on this machine with two CPUs, shared by all tests of the session."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    yield
    ray.shutdown()
