"""Fixtures for trainables that are built in the test's own process, without a running Ray."""

from __future__ import annotations

import pytest
import ray.tune.trainable.trainable as ray_trainable
import torch

from raytune_ahu.seeding import generator
from trainables.data import registry


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data folder for all tests, so that the digits are decoded once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def purchases(tmp_path_factory):
    """A file of interactions in which 80 users like one of two halves of 60 items."""
    rng = generator(0, "tests", "purchases")
    rows = ["user,item,time"]
    for user in range(80):
        half = rng.choice(30, size=12, replace=False) * 2 + user % 2
        stray = rng.choice(60, size=2, replace=False)
        rows += [f"u{user:02d},{item},{at}" for at, item in enumerate([*stray, *half])]
    path = tmp_path_factory.mktemp("interactions") / "purchases.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """Keep Ray's log folders and the user's cache out of the home folder; one thread; no memory."""
    monkeypatch.setattr(ray_trainable, "DEFAULT_STORAGE_PATH", str(tmp_path / "ray_results"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    registry.load_part.cache_clear()
    registry.load_splits.cache_clear()
    yield
    torch.set_num_threads(threads)
