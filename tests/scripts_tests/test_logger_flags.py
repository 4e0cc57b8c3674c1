"""The flags --tensorboard, --mlflow and --wandb: what is refused, and a whole run."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line_with_its_install_command(script, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = script("--smoke-test", f"--{package}", name="tune_mnist.py")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert f"pip install 'raytune-ahu[{package}]'" in err
    assert "Traceback" not in err


def test_a_uri_with_a_password_is_refused_before_anything_is_recorded(script, tmp_path):
    uri = "postgresql://me:secret@host/db"
    code, out, err = script("--smoke-test", "--mlflow", uri, name="tune_mnist.py")
    assert code == 2
    assert "MLFLOW_TRACKING_URI" in err
    assert "secret" not in out + err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_resumed_run_may_be_handed_to_a_tracker(script, tmp_path, local_ray):
    pytest.importorskip("tensorboard", reason="needs TensorBoard's readers")
    pytest.importorskip("mlflow", reason="needs MLflow: pip install 'raytune-ahu[mlflow]'")
    small = ("--smoke-test", "--name", "small", "--max-epochs", "1", "--num-samples", "2")
    code, _, err = script(*small, name="tune_mnist.py")
    assert code == 0, err
    assert not list(tmp_path.glob("runs/small/trial_*/*tfevents*"))
    flags = ("--tensorboard", "--mlflow", f"file:{tmp_path}/mlruns")
    code, out, err = script("--resume", "small", "--num-samples", "3", *flags, name="tune_mnist.py")
    assert code == 0, err
    assert f"tensorboard --logdir {tmp_path}/runs/small" in out
    assert len(list(tmp_path.glob("runs/small/trial_*/*tfevents*"))) == 3
    recorded = json.loads((tmp_path / "runs" / "small" / "spec.json").read_text())
    assert "mlruns" not in json.dumps(recorded["spec"])
