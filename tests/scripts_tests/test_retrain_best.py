"""--retrain-best and --repeat-best as a user types them, and every kind of wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from raytune_ahu.records import read_events
from raytune_ahu.results import load
from tests.recorded_runs import record_run
from tests.scripts_tests.refusals import assert_refused
from trainables import Recommender

TINY = ("--max-epochs", "1", "--num-samples", "2", "--train-images", "100")
MNIST = "trainables.mnist:MnistTrainable"


@pytest.fixture
def recorded(tmp_path):
    """A recorded run of the MNIST script, made without Ray."""

    def record(name="r", trainable=MNIST, **fields):
        folder = record_run(tmp_path / "runs" / name, num_samples=4, max_epochs=3, **fields)
        path = folder / "spec.json"
        content = json.loads(path.read_text())
        content["spec"]["trainable"] = trainable
        path.write_text(json.dumps(content))
        return folder

    return record


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_search_is_followed_by_its_winner_and_the_same_again_reads_nothing(script, tmp_path):
    code, out, _ = script(
        *TINY, "--name", "r", "--retrain-best", "--seeds", "2", name="tune_mnist.py"
    )
    assert code == 0
    folder = tmp_path / "runs" / "r"
    assert "Test split, 2 seeds:" in out
    names = {path.name for path in (folder / "export").iterdir()}
    assert names == {"README.md", "configuration.json", "model.pt2", "weights.safetensors"}
    (reading,) = load(folder).test_reads
    mean = reading.figures["mean"]["test_accuracy"]
    assert f"{mean:.4f} ± " in out
    assert f"{mean:.4f} ± " in (folder / "export" / "README.md").read_text()
    assert out.strip().splitlines()[-1].strip() == f"cat {folder}/export/README.md"
    (folder / "export" / "README.md").unlink()
    code, out, _ = script("--retrain-best", "--seeds", "2", name="tune_mnist.py")
    assert code == 0
    assert "All was done before; the test split was read on " in out
    assert (folder / "export" / "README.md").exists()
    assert len(load(folder).test_reads) == 1
    assert_refused(
        script("--retrain-best", "r", "--seeds", "3", name="tune_mnist.py"),
        "'r-retrained' exists already", "2 seeds",
    )  # fmt: skip
    assert_refused(
        script("--resume", "r-retrained", name="tune_mnist.py"),
        "trains the best of run 'r' again", "--retrain-best r",
    )  # fmt: skip


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_best_are_repeated_and_the_next_command_is_named(script, tmp_path):
    assert script(*TINY, "--name", "r")[0] == 0
    code, out, _ = script("--repeat-best", "2", "r", "--seeds", "2")
    assert code == 0
    assert "validation_accuracy, 2 fresh seeds each:" in out
    top = load(tmp_path / "runs" / "r").top(2)
    assert all(best.trial in out for best in top)
    assert load(tmp_path / "runs" / "r-repeat").trials["status"].tolist() == ["completed"] * 4
    assert load(tmp_path / "runs" / "r").test_reads == ()
    assert out.strip().splitlines()[-1].endswith(f"--retrain-best {tmp_path / 'runs' / 'r'}")


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_retraining_goes_on_by_the_same_command(root, tmp_path):
    python = [sys.executable, str(root / "scripts" / "tune_mnist.py")]
    search = [*python, "--num-samples", "2", "--max-epochs", "9", "--name", "r"]
    subprocess.run(search, check=True, cwd=tmp_path, capture_output=True)
    again = [*python, "--retrain-best", "r", "--seeds", "2"]
    log = tmp_path / "runs" / "r-retrained" / "log.jsonl"
    driver = subprocess.Popen(
        again, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (log.exists() and b'"saved"' in log.read_bytes()):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert load(tmp_path / "runs" / "r").test_reads == ()
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = list(read_events(log.parent))
    assert sum(event["event"] == "run_started" for event in events) == 2
    resumed = load(log.parent)
    assert resumed.trials["status"].tolist() == ["completed"] * 2
    assert resumed.reports.groupby("trial")["resource"].max().tolist() == [9, 9]
    assert len(load(tmp_path / "runs" / "r").test_reads) == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_recommender_is_retrained_for_its_best_epoch_and_served(script, tmp_path):
    arguments = ("--num-samples", "2", "--max-epochs", "3", "--models", "mf", "--name", "r")
    code, out, _ = script(*arguments, "--retrain-best", "--seeds", "2", name="tune_recommender.py")
    assert code == 0
    results = load(tmp_path / "runs" / "r")
    (reading,) = results.test_reads
    retrained = load(tmp_path / "runs" / "r-retrained")
    assert retrained.max_resource == results.best().resource
    recommender = Recommender.load(results.folder)
    assert recommender.description["test"]["ndcg@10"] == reading.figures["mean"]["test_ndcg@10"]
    assert len(recommender.train) > results.trials.shape[0]
    assert len(recommender.recommend([1, 2], k=3)) == 6
    assert "interactions before" in (results.folder / "recommender" / "README.md").read_text()
    assert "ndcg@10" in out
    code, out, _ = script("--resume", "r", "--num-samples", "3", name="tune_recommender.py")
    assert code == 0
    assert "it is not read again" in out
    assert "holds a retrained winner, which stays" in out
    assert [one.purpose for one in load(results.folder).test_reads] == ["the retrained winner"]
    assert Recommender.load(results.folder).description["seeds"]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--retrain-best", "absent"], ["'absent' is not recorded"]),
        (["--retrain-best"], ["no run of", "MnistTrainable"]),
        (["--repeat-best", "3"], ["no run of", "MnistTrainable"]),
        (["--repeat-best", "three"], ["--repeat-best 'three' must be a number", "3 runs/NAME"]),
        (["--repeat-best", "3", "r", "s"], ["--repeat-best '3 r s' must be"]),
        (["--seeds", "3"], ["--seeds goes with --retrain-best or --repeat-best"]),
        (["--read-test-again"], ["--read-test-again goes with"]),
        (["--retrain-best", "r", "--num-samples", "9"], ["--num-samples", "run 'r'", "leave out"]),
        (["--retrain-best", "r", "--repeat-best", "2", "s"], ["name different runs"]),
    ],
)
def test_wrong_wishes_get_one_line_and_exit_code_2(script, tmp_path, arguments, fragments):
    assert_refused(script(*arguments, name="tune_mnist.py"), *fragments)
    assert not list(tmp_path.glob("runs/*"))


def test_runs_that_have_no_winner_for_this_script_are_refused(script, recorded, tmp_path):
    recorded("other", trainable="trainables.cifar10_resnet:CifarResNetTrainable")
    recorded("diverged", diverges_above=0.0)
    for flags in (["--retrain-best"], ["--repeat-best", "2"]):
        assert_refused(
            script(*flags, "other", name="tune_mnist.py"), "CifarResNetTrainable", "use its own"
        )
        assert_refused(
            script(*flags, "diverged", name="tune_mnist.py"),
            "no trial of run 'diverged' reported a finite validation_accuracy", "4 failed",
        )  # fmt: skip
    assert {path.name for path in tmp_path.glob("runs/*")} == {"other", "diverged"}


def test_an_unknown_trial_and_wrong_numbers_are_refused(script, recorded):
    recorded()
    for arguments, fragments in (
        (["--retrain-best", "--trial", "trial_00099"], ["'trial_00099' is not in run 'r'"]),
        (["--retrain-best", "--seeds", "0"], ["seeds=0 must be in [1, 1000]"]),
        (["--repeat-best", "0"], ["k=0 must be in [1, 1000]"]),
    ):
        assert_refused(script(*arguments, name="tune_mnist.py"), *fragments)
