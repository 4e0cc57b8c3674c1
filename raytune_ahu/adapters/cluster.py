"""Joining a Ray cluster.

Start with `connect`, which joins one or starts a local Ray. What fits onto it is in `slots`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)

from raytune_ahu.errors import ClusterError

_CONNECT_TIMEOUT_S = 5.0
_PROBE_TIMEOUT_S = 30.0
_AUTHENTICATION_FAILED = 3


def is_connected() -> bool:
    """Whether this process is connected to a Ray."""
    return bool(ray.is_initialized())


def disconnect() -> None:
    """Leave the Ray cluster; a local Ray that `connect` started ends."""
    ray.shutdown()


def connect(address: str | None, *, verbose: bool = False) -> None:
    """Join the Ray cluster at `address`; without one, start a local Ray on this machine.

    Does nothing if this process is connected already. Whether the cluster asks for a token is found
    out first: Ray itself lets a driver with the wrong setting join, and then kills its trials.

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
    found = _find_cluster() if address == "auto" else address
    _check_reachable(found)
    if _choose_auth_mode(found) == "token":
        # An explicit address does not switch Ray's token authentication on, even for its owner.
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        ray.init(address=found, **options)
    except ConnectionError as error:
        raise ClusterError(f"the Ray cluster at {found} refused the connection: {error}") from error


def _find_cluster() -> str:
    try:
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        if "multiple" in str(error):
            raise ClusterError(f"{error} Give one of them as --address host:port") from error
        raise ClusterError(
            "--address auto found no Ray cluster on this machine; start one with "
            "'ray start --head', or leave --address out to run on this machine alone"
        ) from error


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


_PROBE = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).internal_kv_exists(b"raytune_ahu", b"", timeout=5)
except Exception as error:
    sys.exit(3 if type(error).__name__ == "AuthenticationError" else 4)
"""


def _choose_auth_mode(address: str) -> str:
    """Find out whether the cluster asks for a token, and whether ours is the right one.

    The mode is fixed once in a process, so each is tried in a process of its own (half a second).
    A mode that the user has set in RAY_AUTH_MODE is not overruled.
    """
    chosen = os.environ.get("RAY_AUTH_MODE")
    for mode in [chosen] if chosen else ["disabled", "token"]:
        if mode == "token" and not _has_token():
            raise ClusterError(
                f"the Ray cluster at {address} asks for a token and there is none here; copy "
                "~/.ray/auth_token from the head node, or set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            )
        answer = _probe(address, mode)
        if answer == 0:
            if mode == "disabled":
                _warn_of_open_cluster(address)
            return mode
        if answer != _AUTHENTICATION_FAILED:
            raise ClusterError(f"what answers at {address} is not a Ray cluster of this version")
    if chosen == "disabled":
        advice = "unset RAY_AUTH_MODE, which is 'disabled' here"
    else:
        advice = "copy ~/.ray/auth_token from the head node, or set RAY_AUTH_TOKEN"
    raise ClusterError(f"the Ray cluster at {address} refused the token of this machine; {advice}")


def _probe(address: str, mode: str) -> int:
    try:
        return subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            env={**os.environ, "RAY_AUTH_MODE": mode},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


def _warn_of_open_cluster(address: str) -> None:
    if not address.startswith(("127.", "localhost", "[::1]")):
        sys.stderr.write(
            f"warning: the Ray cluster at {address} asks for no token, so whoever reaches it can "
            "run code on it; to close it: ray get-auth-token --generate, then start its nodes "
            "with RAY_AUTH_MODE=token\n"
        )


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return (Path.home() / ".ray" / "auth_token").exists()


def has_gpus() -> bool:
    """Whether the connected cluster has a GPU."""
    return float(ray.cluster_resources().get("GPU", 0.0)) > 0
