"""Joining a Ray cluster, and knowing how many trials it can run at once.

Start with `connect` (joins, or starts a local Ray) and `Slots` (trials that fit, kept up to date).
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from raytune_ahu.errors import ClusterError

_CONNECT_TIMEOUT_S = 5.0


def connect(address: str | None, *, verbose: bool = False) -> None:
    """Join the Ray cluster at `address`; without one, start a local Ray on this machine.

    Does nothing if this process is connected already.

    Args:
        address: None, `auto` (the cluster this machine belongs to) or `host:port`.
        verbose: Whether what workers print is shown.

    Raises:
        ClusterError: If there is no cluster to join, or it cannot be joined.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": verbose}
    if not verbose:
        options["logging_level"] = "ERROR"
    if address is None:
        ray.init(address="local", include_dashboard=False, **options)
        return
    if address != "auto":
        _check_reachable(address)
        # An explicit address does not switch Ray's token authentication on, even for its owner.
        if _has_token():
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise ClusterError(_advice(address)) from error
    except Exception as error:
        if type(error).__name__ == "AuthenticationError":
            raise ClusterError(f"{_advice(address)} ({error})") from error
        raise


def _advice(address: str) -> str:
    if address == "auto":
        return (
            "--address auto found no Ray cluster on this machine; start one with "
            "'ray start --head', or leave --address out to run on this machine alone"
        )
    return (
        f"the Ray cluster at {address} refused the connection; if it uses a token, put the same "
        "token into ~/.ray/auth_token or RAY_AUTH_TOKEN and set RAY_AUTH_MODE=token"
    )


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        raise ClusterError(
            f"--address {address!r} must be 'auto' or 'host:port', for example 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nothing answers at {address} ({error}); give the address that 'ray start --head' "
            "printed, port 6379 unless told otherwise"
        ) from error


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return (Path.home() / ".ray" / "auth_token").exists()


def trials_per_node(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials of this size fit onto an empty node.

    Args:
        resources: Ray's resources of the node (`CPU`, `GPU`, ...).
        cpus: CPU cores per trial.
        gpus: GPUs per trial; a fraction must fit onto one GPU.
    """
    fits = math.inf
    if cpus > 0:
        fits = min(fits, math.floor(resources.get("CPU", 0.0) / cpus + 1e-9))
    if 0 < gpus < 1:
        fits = min(fits, int(resources.get("GPU", 0.0)) * math.floor(1 / gpus + 1e-9))
    elif gpus >= 1:
        fits = min(fits, math.floor(resources.get("GPU", 0.0) / gpus + 1e-9))
    return int(fits)


class Slots:
    """The number of trials that may run at the same time, read from the cluster every few seconds.

    Args:
        cpus: CPU cores per trial.
        gpus: GPUs per trial.
        limit: Upper limit set by the user, or None.
    """

    REFRESH_S = 5.0

    def __init__(self, cpus: float, gpus: float, limit: int | None) -> None:
        self._cpus, self._gpus, self._limit = cpus, gpus, limit
        self._count = 1
        self._read_at = -math.inf

    def __call__(self) -> int:
        """Return the number, at least 1 (a cluster that is empty now may grow)."""
        now = time.monotonic()
        if now - self._read_at > self.REFRESH_S:
            self._read_at = now
            count = self.fitting()
            self._count = max(1, count if self._limit is None else min(count, self._limit))
        return self._count

    def fitting(self) -> int:
        """Trials that fit onto the nodes that are alive now; 0 if none does."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(trials_per_node(node, self._cpus, self._gpus) for node in nodes)

    def check(self) -> None:
        """Refuse trials that no node of the cluster can run.

        Raises:
            ClusterError: Names what is asked for and what the largest node has.
        """
        if self.fitting() > 0:
            return
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = {
            kind: max((n.get(kind, 0.0) for n in nodes), default=0.0) for kind in ("CPU", "GPU")
        }
        if self._gpus > most["GPU"]:
            raise ClusterError(
                f"gpus_per_trial={self._gpus:g}, but no node of the cluster has more than "
                f"{most['GPU']:g} GPUs; use --gpus-per-trial {most['GPU']:g}"
            )
        raise ClusterError(
            f"cpus_per_trial={self._cpus:g}, but no node of the cluster has more than "
            f"{most['CPU']:g} CPUs; use --cpus-per-trial {max(1.0, most['CPU']):g} or less"
        )


def has_gpus() -> bool:
    """Whether the connected cluster has a GPU."""
    return float(ray.cluster_resources().get("GPU", 0.0)) > 0
