"""Clusters for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import FaultCluster, Run


@pytest.fixture(scope="session")
def fault_cluster() -> Iterator[FaultCluster]:
    """A head with two CPUs, which one driver after another joins."""
    cluster = FaultCluster(cpus=2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def bare_cluster() -> Iterator[FaultCluster]:
    """A head without CPUs: trials need nodes that join."""
    cluster = FaultCluster(cpus=0)
    yield cluster
    cluster.close()


@pytest.fixture
def start_run(fault_cluster: FaultCluster, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Makes a run in a folder of its own."""
    runs: list[Run] = []

    def start(name: str = "run", *, cluster: FaultCluster = fault_cluster, **changes: Any) -> Run:
        runs.append(Run(cluster, tmp_path / name, **changes))
        return runs[-1]

    yield start
    for run in runs:
        run.close()
