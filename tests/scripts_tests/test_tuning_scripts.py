"""The tuning scripts as a user types them: one real run each, and every kind of wrong input."""

from __future__ import annotations

import importlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import read_events, read_json
from tests.scripts_tests.refusals import assert_refused

OPTIONS = (
    "--address",
    "--dataset",
    "--data-dir",
    "--space",
    "--search",
    "--scheduler",
    "--num-samples",
    "--time-budget",
    "--max-epochs",
    "--grace-period",
    "--reduction-factor",
    "--brackets",
    "--cpus-per-trial",
    "--gpus-per-trial",
    "--resource",
    "--accelerator-type",
    "--max-concurrent",
    "--max-failures",
    "--retry-oom",
    "--retry-failed",
    "--trial-timeout",
    "--stop-timeout",
    "--keep-best",
    "--checkpoint-frequency",
    "--record-path",
    "--name",
    "--storage-path",
    "--seed",
    "--resume",
    "--smoke-test",
    "--verbose",
)
SCRIPTS = ("tune_resnet.py", "tune_mnist.py", "tune_recommender.py")
NOBODY = "s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
"""An object store at an address where nothing answers."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_option_and_the_embedded_data(root, name):
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / name), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for option in OPTIONS:
        assert option in done.stdout
    own = "synthetic" if name == "tune_recommender.py" else "digits"
    assert f"default {own}, which needs no download" in " ".join(done.stdout.split())


@pytest.mark.ray
@pytest.mark.parametrize(
    "name", ["tune_resnet.py", pytest.param("tune_mnist.py", marks=pytest.mark.slow)]
)
def test_a_smoke_test_runs_ends_and_says_what_to_type_next(root, tmp_path, name):
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / name), "--smoke-test", "--name", "smoke"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Best validation_accuracy: " in done.stdout
    assert f"Everything is in {tmp_path / 'runs' / 'smoke'}" in done.stdout
    following = done.stdout.strip().splitlines()[-1].strip()
    assert following.endswith(f"--resume {tmp_path / 'runs' / 'smoke'} --num-samples 12")
    assert (
        subprocess.run(
            shlex.split(following + " --help"), capture_output=True, check=False, cwd=tmp_path
        ).returncode
        == 0
    )
    folder = tmp_path / "runs" / "smoke"
    spec = ExperimentSpec.from_dict(read_json(folder / "spec.json")["spec"])
    assert (spec.num_samples, spec.max_epochs) == (6, 3)
    assert (spec.search, spec.scheduler) == ("bohb", "asha-promotion")
    assert spec.metric == "validation_accuracy"
    assert f"search: {spec.search_reason}\n" in done.stdout
    events = list(read_events(folder))
    assert events[-1]["reason"] == "finished"
    assert sum(event["event"] == "finished" for event in events) == 6


@pytest.mark.ray
@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_run(root, tmp_path):
    command = f"{sys.executable} {root}/scripts/tune_mnist.py --smoke-test --name piped | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(read_events(tmp_path / "runs" / "piped"))[-1]["reason"] == "finished"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_space_file_with_a_prior_is_run_and_recorded(script, tmp_path):
    (tmp_path / "space.yaml").write_text(
        "lr: {domain: loguniform, lower: 1e-3, upper: 1.0, prior: 0.1}\n"
        "depth: {domain: choice, values: [resnet8, resnet14]}\n"
        "prior: {depth: {value: resnet8, confidence: high}}\n"
    )
    tiny = ("--max-epochs", "1", "--num-samples", "2", "--name", "r", "--train-images", "100")
    assert script("--space", "space.yaml", *tiny)[0] == 0
    spec = ExperimentSpec.from_dict(read_json(tmp_path / "runs" / "r" / "spec.json")["spec"])
    assert spec.space.prior.mode() == {"lr": 0.1, "depth": "resnet8"}
    assert (spec.search, spec.search_options) == ("bohb", {"model": "gp"})
    assert "random draws and your prior until 8 results" in spec.search_reason


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_grid_ends_with_its_last_configuration_and_a_warm_start_begins_with_it(script, tmp_path):
    (tmp_path / "space.yaml").write_text("lr: {domain: choice, values: [0.1, 0.2]}\n")
    tiny = ("--max-epochs", "1", "--num-samples", "4", "--train-images", "100")
    code, out, _ = script("--space", "space.yaml", *tiny, "--name", "g")
    assert code == 0
    assert "search: grid for a space of 2 configurations: each is tried once" in out
    assert out.strip().endswith("Every configuration of the grid has been tried.")
    (tmp_path / "wider.yaml").write_text("lr: {domain: loguniform, lower: 1e-3, upper: 1.0}\n")
    code, out, _ = script("--space", "wider.yaml", *tiny, "--name", "w", "--warm-start", "g")
    assert code == 0
    assert "fewer than the 8 results in all from which BOHB's model begins" in out
    assert "search: bohb with model gp, for 1 parameter and 4 trials: " in out
    assert "begins with 2 earlier trials" in out
    spec = ExperimentSpec.from_dict(read_json(tmp_path / "runs" / "w" / "spec.json")["spec"])
    assert (spec.search, spec.search_options) == ("bohb", {"model": "gp"})


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_run_is_resumed_by_its_name_with_more_trials(script, tmp_path):
    tiny = ("--max-epochs", "1", "--num-samples", "2", "--name", "r", "--train-images", "100")
    assert script(*tiny)[0] == 0
    code, out, _ = script("--resume", "r", "--num-samples", "3", "--search", "auto")
    assert code == 0
    assert "3 trials" in out
    assert "and 2 trials: random draws until 8 results are in (chosen when the run began)" in out
    assert script("--resume", "--num-samples", "12")[0] == 0
    assert_refused(script("--resume", "r", "--search", "bohb"), "--search cannot be changed")
    assert_refused(script(*tiny), "'r' exists already", "--resume r")
    assert_refused(script("--resume", "r", "--seed", "1"), "--seed cannot be changed")
    assert_refused(script("--resume", "r", "--smoke-test"), "--smoke-test cannot be changed")
    assert_refused(script("--resume", "r", "--name", "s"), "--name cannot be changed")
    assert_refused(script("--resume", name="tune_mnist.py"), "no run of", "MnistTrainable")
    (tmp_path / "runs" / "r" / "spec.json").rename(tmp_path / "spec.json")
    assert_refused(script("--resume", "r"), "has a log but no spec.json")
    (tmp_path / "runs" / "r" / "spec.json").write_text('{"spec": {}}')
    assert_refused(script("--resume", "r"), "spec.json is damaged")
    (tmp_path / "runs" / "r" / "spec.json").write_text("[]")
    assert_refused(script("--resume", "r"), "spec.json is damaged")
    assert_refused(script("--resume"), "no run of")  # passed over, not stumbled upon
    (tmp_path / "spec.json").replace(tmp_path / "runs" / "r" / "spec.json")
    assert_refused(
        script("--resume", "r", name="tune_mnist.py"), "CifarResNetTrainable", "MnistTrainable"
    )


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--dataset", "imagenet"], ["dataset='imagenet'", "digits, cifar10"]),
        (["--dataset", "folder:"], ["names no folder"]),
        (["--dataset", "folder:absent"], ["absent/train is not a folder", "--dataset digits"]),
        (["--space", "absent.yaml"], ["absent.yaml"]),
        (["--grace-period", "10"], ["grace_period=10", "max_epochs=9"]),
        (["--reduction-factor", "1"], ["reduction_factor=1"]),
        (["--brackets", "9"], ["brackets=9"]),
        (["--num-samples", "0"], ["num_samples=0"]),
        (["--max-epochs", "0"], ["max_epochs=0"]),
        (["--time-budget", "-1"], ["time_budget_s=-1"]),
        (["--gpus-per-trial", "1.5"], ["gpus_per_trial=1.5"]),
        (["--resource", "TPU"], ["--resource 'TPU' must be NAME=AMOUNT", "TPU=4"]),
        (["--resource", "TPU=four"], ["--resource 'TPU=four' must be NAME=AMOUNT"]),
        (["--resource", "TPU=4", "--resource", "TPU=8"], ["--resource TPU is given twice"]),
        (["--resource", "TPU=-4"], ["TPU=-4.0", "above 0"]),
        (["--resource", "GPU=1"], ["'GPU'", "use gpus_per_trial"]),
        (["--accelerator-type", "accelerator_type:A100"], ["without a prefix"]),
        (["--seed", "-1"], ["seed=-1"]),
        (["--name", "a/b"], ["name='a/b'"]),
        (["--search-option", "colour=red"], ["'colour'", "random_fraction"]),
        (["--search-option", "model="], ["'model='", "has no value", "leave it out"]),
        (["--search-option", "shuffle=true"], ["which auto chose with model gp", "--search grid"]),
        (["--search-option", "model=tree"], ["model='tree'", "'kde', 'gp'"]),
        (["--search-option", "colour"], ["KEY=VALUE"]),
        (["--search-option", "min_bandwidth=1e-9"], ["min_bandwidth=1e-09 must be", "[0.0001, 1]"]),
        (["--search-option", "top_fraction=[1"], ["'top_fraction=[1'", "no YAML"]),
        (["--search-option", "a=1", "--search-option", "a=2"], ["given twice"]),
        (["--cpus-per-trial", "0.00000001"], ["cpus_per_trial=1e-08", "four decimals"]),
        (["--name", ""], ["name=''"]),
        (["--search-option", "top_fraction=2"], ["top_fraction=2"]),
        (["--resume", "absent"], ["'absent' is not recorded"]),
        (["--resume"], ["no run of", "is recorded in"]),
        (["--storage-path", "/proc/absent"], ["storage path /proc/absent cannot be written"]),
        (["--train-images", "3"], ["train_images=3"]),
        (["--trial-timeout", "0"], ["trial_timeout_s=0", "above 0"]),
        (["--stop-timeout", "-1"], ["stop_timeout_s=-1", "at least 0"]),
        (["--keep-best", "-1"], ["keep_best=-1", "at least 0"]),
        (["--checkpoint-frequency", "-1"], ["checkpoint_frequency=-1"]),
        (["--max-failures", "-1"], ["max_failures=-1"]),
        (["--retry-failed"], ["--retry-failed goes with --resume"]),
        (["--record-path", "records"], ["--record-path is for runs in an object store"]),
        (["--storage-path", "s3://"], ["s3://", "bucket"]),
        (["--storage-path", "sss://bucket/runs"], ["sss://bucket/runs", "s3://bucket/prefix"]),
        (["--storage-path", NOBODY], ["cannot write", "endpoint_override"]),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(script, tmp_path, arguments, fragments):
    assert_refused(script(*arguments), *fragments)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("lr: {domain: uniform, lower: 1", ["line 1"]),
        ("lr: {domain: unform, lower: 0, upper: 1}", ["lr", "'unform'", "loguniform"]),
        ("lr: {domain: uniform, lower: 1, upper: 1}", ["lr", "lower"]),
        ("lr: {domain: loguniform, lower: 0, upper: 1}", ["lr", "lower"]),
        (
            "lr: {domain: uniform, lower: 0.1, upper: 1, when: {optimiser: sgd}}",
            ["lr", "optimiser"],
        ),
        ("learning_rate: {domain: uniform, lower: 0.1, upper: 1}", ["'learning_rate'", "lr"]),
        ("activation: {domain: choice, values: [relu, swishh]}", ["'swishh'"]),
        (
            "dropout: {domain: uniform, lower: 0.0, upper: 0.9501}",
            ["space.yaml", "dropout=0.9501 must be", "[0, 0.95]"],
        ),
        ("", ["empty"]),
        (
            "lr: {domain: uniform, lower: 0.1, upper: 1, prior: 2}",
            ["space.yaml", "'lr'", "prior=2", "[0.1, 1.0]"],
        ),
        (
            "lr: {domain: uniform, lower: 0.1, upper: 1}\nprior: {learning_rate: 0.2}",
            ["space.yaml", "prior on unknown parameter 'learning_rate'", "lr"],
        ),
        (
            "optimizer: {domain: choice, values: [sgd, adamw], prior: {value: sgd, confidence: 9}}",
            ["'optimizer'", "confidence=9", "low, medium, high"],
        ),
    ],
)
def test_a_wrong_space_file_is_refused_before_any_trial(script, tmp_path, text, fragments):
    (tmp_path / "space.yaml").write_text(text)
    assert_refused(script("--space", "space.yaml", "--seed", "3"), *fragments)
    assert not list(tmp_path.glob("runs/*"))


def test_a_grid_is_refused_by_the_searchers_that_cannot_take_it(script, tmp_path):
    (tmp_path / "space.yaml").write_text("lr: {domain: grid_search, values: [0.1, 0.2]}")
    for search in ("bohb", "random"):
        assert_refused(script("--space", "space.yaml", "--search", search), "lr", "search='grid'")
    assert not list(tmp_path.glob("runs/*"))


def test_a_data_set_that_is_absent_and_cannot_be_downloaded_says_what_to_put_where(
    script, monkeypatch
):
    def no_network(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    assert_refused(
        script("--dataset", "mnist", name="tune_mnist.py"),
        "train-images-idx3-ubyte",
        "MNIST/raw",
        "--dataset digits",
    )
    assert_refused(script("--dataset", "cifar10"), "cifar-10-batches-py", "--dataset digits")


def test_a_folder_without_classes_is_refused(script, tmp_path):
    (tmp_path / "pets" / "train").mkdir(parents=True)
    (tmp_path / "pets" / "test").mkdir()
    assert_refused(script("--dataset", "folder:pets"), "pets/train", "class")


def test_resources_that_a_resume_names_change_and_the_others_stay(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    read = importlib.import_module("options").read_amounts
    before = {"TPU": 4.0, "licence": 1.0, "memory": 8e9}
    assert read([], before) == before
    assert read(["TPU=8", "licence=0"], before) == {"TPU": 8.0, "memory": 8e9}
    assert read(["node:10.0.0.2=0.01"], {}) == {"node:10.0.0.2": 0.01}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_resources_that_the_cluster_does_not_have_are_refused(script):
    assert_refused(script("--gpus-per-trial", "1"), "gpus_per_trial=1", "0 GPUs")
    assert_refused(script("--cpus-per-trial", "64"), "cpus_per_trial=64", "--cpus-per-trial 2")
    assert_refused(script("--resource", "TPU=4"), "TPU=4", "custom resources there: none")
    assert_refused(script("--accelerator-type", "A100"), "accelerator_type='A100'", "no node has")


def test_an_unknown_searcher_or_scheduler_exits_with_2(script):
    assert script("--search", "bayes")[0] == 2
    assert script("--scheduler", "hyperband")[0] == 2


def test_ctrl_c_while_a_script_is_being_loaded_exits_with_130(root, tmp_path):
    driver = subprocess.Popen(
        [sys.executable, "-X", "importtime", str(root / "scripts" / "tune_mnist.py"), "--help"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert driver.stderr is not None
    for line in driver.stderr:  # one line per imported module
        if "argparse" in line:
            break
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate()
    assert driver.returncode == 130
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_ends_a_script_in_order_even_when_its_reader_has_gone(root, tmp_path):
    script = root / "scripts" / "tune_mnist.py"
    driver = subprocess.Popen(
        [sys.executable, str(script), "--name", "c", "--num-samples", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
    )
    log = tmp_path / "runs" / "c" / "log.jsonl"
    while not log.exists() or b"reported" not in log.read_bytes():
        assert driver.poll() is None
        time.sleep(0.05)  # leaves the core to those who are waited for
    assert driver.stdout is not None
    driver.stdout.close()
    driver.send_signal(signal.SIGINT)
    assert driver.wait() == 130
    assert list(read_events(log.parent))[-1]["reason"] == "interrupted"
