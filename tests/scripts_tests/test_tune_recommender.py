"""The recommender script as a user types it: a real run, its table, its export, wrong input."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest

from raytune_ahu import SearchSpace
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import read_json
from raytune_ahu.results import load
from tests.scripts_tests.refusals import assert_refused
from trainables import RecommenderHyperparameters, RecommenderTrainable
from trainables.recommender_hyperparameters import MODEL_NAMES


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A finished run on synthetic data; what it printed, and where it was."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [sys.executable, str(root / "scripts" / "tune_recommender.py"), "--smoke-test"]
    arguments += ["--name", "small", "--models", "mf,mult-vae", "--k", "5,10"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


@pytest.mark.ray
def test_a_run_ends_with_a_table_of_models_and_references(finished):
    folder, done = finished
    assert "Traceback" not in done.stdout + done.stderr
    figures = read_json(folder / "runs" / "small" / "test.json")
    assert figures["metric"] == "ndcg@5"
    assert figures["test_was_read"] == 1
    names = {entry["name"]: entry for entry in figures["contenders"]}
    assert set(names) == {"popularity", "itemknn", "ease", "ials", "mf", "mult-vae"}
    tuned = [entry for entry in figures["contenders"] if entry["kind"] == "tuned"]
    assert figures["winner"] == max(tuned, key=lambda entry: entry["validation"])["name"]
    assert figures["best_reference"] != "popularity"
    for name, entry in names.items():
        assert name in done.stdout
        shown = f"{entry['test']['ndcg@5']:.4f} ± {entry['standard_error']['ndcg@5']:.4f}"
        assert shown in done.stdout
    difference = figures["winner_minus_best_reference"]["difference"]
    best = names[figures["best_reference"]]["test"]["ndcg@5"]
    assert names[figures["winner"]]["test"]["ndcg@5"] - best == pytest.approx(difference)
    assert f"{difference:+.4f}" in done.stdout


@pytest.mark.ray
def test_the_winner_is_that_of_the_search_with_its_best_epoch(finished):
    folder, done = finished
    figures = read_json(folder / "runs" / "small" / "test.json")
    winner = next(e for e in figures["contenders"] if e["name"] == figures["winner"])
    assert f"Best validation_ndcg@5: {winner['validation']:.5g}" in done.stdout
    assert f"at epoch {winner['epoch']} of 5 ({winner['trial']}, " in done.stdout
    spec = ExperimentSpec.from_dict(read_json(folder / "runs" / "small" / "spec.json")["spec"])
    assert (spec.keep_best_at, spec.keep_best_per) == ("any", "model")
    assert spec.metric == "validation_ndcg@5"


@pytest.mark.slow
@pytest.mark.ray
def test_the_command_that_is_printed_recommends(finished):
    folder, done = finished
    lines = [line.strip() for line in done.stdout.splitlines()]
    command = next(line for line in lines if "recommend.py" in line and "--users" in line)
    shown = subprocess.run(
        shlex.split(command), capture_output=True, text=True, check=True, cwd=folder
    )
    assert shown.stdout.count(" model ") == 20
    everybody = [*shlex.split(command)[:3], "--all", "--k", "3", "--output", "lists.parquet"]
    subprocess.run(everybody, capture_output=True, check=True, cwd=folder)
    lists = pd.read_parquet(folder / "lists.parquet")
    description = read_json(folder / "runs" / "small" / "recommender" / "recommender.json")
    assert lists["user"].nunique() == description["users"]
    assert lists.groupby("user").size().eq(3).all()
    for wrong, said in (
        (["--users", "1", "--output", "lists.txt"], "must end in .parquet or .csv"),
        (["--users", "1", "--k", "0"], "k=0 must be a whole number in"),
    ):
        refused = subprocess.run(
            shlex.split(command)[:3] + wrong, capture_output=True, text=True, cwd=folder
        )
        assert refused.returncode == 2
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.ray
def test_the_readmes_example_of_serving_runs(finished, root):
    folder, _ = finished
    readme = (root / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*Recommender\.load.*?)```", readme, flags=re.DOTALL)
    namespace = {}
    exec(code.replace("runs/NAME", str(folder / "runs" / "small")), namespace)
    lists = namespace["lists"]
    assert lists.groupby("user")["source"].first().to_dict() == {
        22: "model", 196: "model", 999_999: "popularity"
    }  # fmt: skip


@pytest.mark.ray
def test_a_run_whose_data_has_changed_is_not_resumed(finished, script):
    folder, _ = finished
    path = folder / "runs" / "small" / "spec.json"
    text = path.read_text()
    digest = read_json(path)["spec"]["settings"]["data_digest"]
    path.write_text(text.replace(digest, "0123456789abcdef"))
    outcome = script(
        "--resume", folder / "runs" / "small", "--num-samples", "9", name="tune_recommender.py"
    )
    path.write_text(text)
    assert_refused(outcome, "not those that the run began with", digest, "0123456789abcdef")


@pytest.mark.ray
@pytest.mark.slow
def test_a_resumed_run_is_tested_again_only_when_that_is_asked_for(finished, root):
    folder, _ = finished
    run = folder / "runs" / "small"
    arguments = [sys.executable, str(root / "scripts" / "tune_recommender.py")]
    arguments += ["--resume", "small", "--num-samples"]
    done = subprocess.run([*arguments, "8"], capture_output=True, text=True, check=True, cwd=folder)
    assert "it is not read again" in done.stdout
    assert len(load(run).test_reads) == read_json(run / "test.json")["test_was_read"] == 1
    subprocess.run(
        [*arguments, "9", "--read-test-again"], capture_output=True, check=True, cwd=folder
    )
    assert len(load(run).test_reads) == read_json(run / "test.json")["test_was_read"] == 2


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--models", "mf,svd"], ["model='svd' is not in the search space", "'sasrec'"]),
        (["--models", ""], ["model=''"]),
        (["--k", "ten"], ["k='ten'", "10,5,20"]),
        (["--k", "1000"], ["k='1000'", "number of items"]),
        (["--models", "mf,svd"], ["--models 'mf,svd'"]),
        (["--dataset", "ml-20m"], ["'ml-20m'", "ml-100k"]),
        (["--dataset", "file:absent.csv"], ["absent.csv"]),
        (["--dataset", "file:."], ["folder"]),
        (["--dataset", "ml-100k"], ["u.data", "--dataset synthetic"]),
        (["--min-rating", "9"], ["min_rating=9"]),
        (["--min-user-interactions", "2"], ["min_user_interactions=2", "3"]),
        (["--patience", "0"], ["patience=0"]),
        (["--references", "svd"], ["'svd' must be one of popularity, itemknn"]),
        (["--columns", "user=a"], ["columns"]),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(script, tmp_path, arguments, fragments):
    outcome = script(*arguments, name="tune_recommender.py")
    assert_refused(outcome, *fragments)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("content", "columns", "fragments"),
    [
        ("a,b\n1,2\n", None, ["user", "a, b"]),
        ("who,what\n1,2\n", "user=who,item=which", ["which", "who, what"]),
        ("user,item,time\n1,2,noon\n", None, ["line 2", "noon"]),
        ("user,item,time\n1,2,3\n1;3;4\n", None, ["line 3"]),
        ("user,item,time\n", None, ["no "]),
        ("user,item\n1,2\n1,3\n1,4\n2,3\n2,4\n2,5\n", None, ["time", "random"]),
        ("user,item,time\n1,2,1\n1,3,2\n", None, ["3"]),
    ],
)
def test_a_file_that_cannot_be_used_says_why(script, tmp_path, content, columns, fragments):
    (tmp_path / "data.csv").write_text(content)
    options = [] if columns is None else ["--columns", columns]
    outcome = script("--dataset", "file:data.csv", *options, name="tune_recommender.py")
    assert_refused(outcome, *fragments)


def test_the_first_trials_are_the_models_with_their_defaults_within_the_space(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    first_points = importlib.import_module("common")._one_of_each
    space = SearchSpace.from_file(root / "trainables" / "spaces" / "recommender.yaml")
    defaults = RecommenderHyperparameters()
    points = first_points(space, "model", RecommenderHyperparameters, 0)
    assert [point["model"] for point in points] == list(MODEL_NAMES)
    for point in points:
        space.validate(point)
        RecommenderTrainable.check_configuration(point)
        for name, value in point.items():
            if name not in ("model", "batch_size"):  # the space fixes the latter
                low = {"l2": 1e-6, "weight_decay": 1e-5}.get(name)
                assert value == (getattr(defaults, name) if low is None else low), name
    few = first_points(space.restrict("model", ["mf", "sasrec"]), "model", type(defaults), 0)
    assert [point["model"] for point in few] == ["mf", "sasrec"]
