"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB of its own; skips where this process may not mount one."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server on loopback, and its credentials in the environment of the session.

    Yields the URI of an empty bucket, to be completed: `s3_server.format("prefix")`. Skips without
    moto.
    """
    pytest.importorskip("moto", reason="needs moto's S3 server: pip install 'moto[s3]' flask")
    pytest.importorskip("flask_cors", reason="moto's server needs flask and flask-cors")
    import boto3

    code = (
        "import sys; from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,  # the server ends with it, also if the tests are killed
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
            client.create_bucket(Bucket="tuning")
            yield f"s3://tuning/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def toy_trainable() -> type[Any]:
    """A trainable without torch: loss = (x - 0.3)^2 + 0.5 / epoch, with switches for trouble.

    It is made inside a function so that Ray sends it to its workers by value. The configuration's
    `x` is the hyperparameter; `settings` may hold `raise_above`, `nan_above` (thresholds of x),
    `fail_once_at` (epoch, first attempt only), `epoch_s`, and `skip_metric_at` (epoch).
    """
    import json
    import os
    import time
    from pathlib import Path

    from ray import tune

    class Toy(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.x = config["x"]
            self.settings = config.get("settings", {})
            self.epoch = 0
            self.restored = False

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            time.sleep(self.settings.get("epoch_s", 0.0))
            if self.x > self.settings.get("raise_above", 2.0):
                raise RuntimeError("x is too large")
            if self.epoch == self.settings.get("fail_once_at") and not self.restored:
                raise RuntimeError("a passing fault")
            loss = (self.x - 0.3) ** 2 + 0.5 / self.epoch
            if self.x > self.settings.get("nan_above", 2.0):
                loss = float("nan")
            result = {"loss": loss, "own_epoch": self.epoch, "worker": os.getpid()}
            if self.epoch == self.settings.get("skip_metric_at"):
                del result["loss"]
            return result

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "state.json").write_text(json.dumps({"epoch": self.epoch}))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            self.epoch = json.loads((Path(checkpoint_dir) / "state.json").read_text())["epoch"]
            self.restored = True

    return Toy
