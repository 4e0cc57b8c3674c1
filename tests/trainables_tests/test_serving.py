"""An exported recommender: the same lists in a fresh process, unknown users, damaged files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from raytune_ahu.errors import CheckpointError, DataError
from trainables import Recommender, RecommenderTrainable
from trainables.data.interactions import load_ids, load_known_items, load_recommender_data
from trainables.serving import export


def exported(folder, dataset, configuration, **settings):
    chosen = RecommenderTrainable.default_settings(dataset, max_epochs=3, **settings)
    trainable = RecommenderTrainable({**configuration, "settings": chosen})
    for _ in range(2):
        trainable.step()
    trainable.use_best_weights()
    given = RecommenderTrainable.resolve_settings(chosen)
    loading = given.loading
    data = load_recommender_data(**loading)
    users, items = load_ids(**loading)
    export(
        folder,
        trainable.model,
        configuration=configuration,
        data=data,
        known=load_known_items(**loading),
        user_ids=users,
        item_ids=items,
        about={"run": "test"},
    )
    return trainable


MODELS = {
    "mf": {"model": "mf", "dim": 8},
    "lightgcn": {"model": "lightgcn", "dim": 8},
    "two-tower": {"model": "two-tower", "dim": 8, "width": 16},
    "neumf": {"model": "neumf", "dim": 8, "width": 16},
    "mult-vae": {"model": "mult-vae", "dim": 8, "width": 16},
    "sasrec": {"model": "sasrec", "dim": 8, "width": 16, "max_length": 10},
}


@pytest.mark.parametrize("model", list(MODELS))
def test_a_loaded_model_scores_as_the_trained_one(tmp_path, purchases, model):
    trainable = exported(tmp_path / "out", f"file:{purchases}", MODELS[model])
    recommender = Recommender.load(tmp_path / "out")
    users = torch.arange(80)
    with torch.no_grad():
        expected = trainable.model.scores(users, recommender.known)
        assert torch.equal(recommender.model.scores(users, recommender.known), expected)


def test_a_fresh_process_gives_the_same_lists(tmp_path, purchases, root):
    exported(tmp_path / "out", f"file:{purchases}", MODELS["sasrec"])
    users = ["u05", "u17", "nobody"]
    here = Recommender.load(tmp_path / "out").recommend(users, 7)
    code = (
        "import sys; from trainables.serving import Recommender\n"
        f"Recommender.load(sys.argv[1]).recommend({users!r}, 7).to_parquet(sys.argv[2])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "out"), str(tmp_path / "lists.parquet")]
    subprocess.run(arguments, check=True, cwd=root, timeout=120)
    there = pd.read_parquet(tmp_path / "lists.parquet")
    pd.testing.assert_frame_equal(there, here)


@pytest.fixture
def recommender(tmp_path, purchases):
    exported(tmp_path / "out", f"file:{purchases}", MODELS["mf"])
    return Recommender.load(tmp_path / "out")


def test_the_best_unseen_items_come_first(recommender):
    lists = recommender.recommend(["u03"], 60)
    place = int(np.flatnonzero(recommender.user_ids == "u03")[0])
    owned = recommender.known.items[
        recommender.known.starts[place] : recommender.known.starts[place + 1]
    ]
    assert set(lists["item"]) == set(recommender.item_ids) - set(recommender.item_ids[owned])
    assert lists["rank"].tolist() == list(range(1, 60 - len(owned) + 1))
    assert lists["score"].is_monotonic_decreasing
    assert set(lists["source"]) == {"model"}
    with_seen = recommender.recommend(["u03"], 60, exclude_seen=False)
    assert set(with_seen["item"]) == set(recommender.item_ids)


def test_unknown_users_get_the_popular_items_and_are_told_so(recommender):
    lists = recommender.recommend(["u03", "nobody", 7], 3)
    assert lists.groupby("user", sort=False)["source"].first().tolist() == [
        "model", "popularity", "popularity"
    ]  # fmt: skip
    counts = recommender.known.popularity
    scores = lists.query("user == 'nobody'")["score"].tolist()
    assert scores == sorted(counts.float().tolist(), reverse=True)[:3]


@pytest.mark.parametrize(("model", "source"), [("mf", "popularity"), ("sasrec", "model")])
def test_users_who_were_not_trained_on_are_told_from_those_who_were(tmp_path, model, source):
    """With one date for all, some users come after it: a model without a history knows nothing."""
    rows = ["user,item,time"]
    rows += [f"old{user},{(user + at) % 40},{at}" for user in range(30) for at in range(12)]
    rows += [f"old{user},{(user + at) % 40},200" for user in range(30) for at in (12, 13, 14)]
    rows += [f"old{user},{(user + at) % 40},{285 + at}" for user in range(30) for at in (15, 20)]
    rows += [f"new{user},{item},{300 + item}" for user in range(4) for item in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    exported(tmp_path / "out", f"file:{tmp_path / 'rows.csv'}", MODELS[model], split="global-time")
    recommender = Recommender.load(tmp_path / "out")
    lists = recommender.recommend(["old3", "new1"], 5)
    assert lists.groupby("user")["source"].first().to_dict() == {"old3": "model", "new1": source}
    assert not set(lists.query("user == 'new1'")["item"]) & set(range(12))


def test_no_users_give_an_empty_frame_of_the_same_columns(recommender):
    lists = recommender.recommend([], 3)
    assert list(lists.columns) == ["user", "rank", "item", "score", "source"]
    assert len(lists) == 0


@pytest.mark.parametrize("k", [0, 61, 2.5, "3"])
def test_a_k_that_cannot_be_is_refused(recommender, k):
    with pytest.raises(DataError, match=rf"k={k!r} must be a whole number in \[1, 60\]"):
        recommender.recommend(["u03"], k)


def test_one_text_is_not_taken_for_several_users(recommender):
    with pytest.raises(DataError, match="must be a list of ids"):
        recommender.recommend("u03")


def test_dot_products_of_the_exported_embeddings_are_the_scores(recommender, tmp_path):
    users = pd.read_parquet(tmp_path / "out" / "user_embeddings.parquet").set_index("user")
    items = pd.read_parquet(tmp_path / "out" / "item_embeddings.parquet").set_index("item")
    for row in recommender.recommend(["u03", "u40"], 5).itertuples():
        product = users.loc[row.user, "embedding"] @ items.loc[row.item, "embedding"]
        assert product == pytest.approx(row.score, abs=1e-5)


def test_ids_keep_the_type_that_the_data_has(tmp_path, purchases):
    frame = pd.read_csv(purchases).assign(user=lambda f: f["user"].str[1:].astype(int) + 100)
    frame.to_parquet(tmp_path / "numbers.parquet")
    exported(tmp_path / "out", f"file:{tmp_path / 'numbers.parquet'}", MODELS["mf"])
    recommender = Recommender.load(tmp_path / "out")
    assert recommender.read_ids("100, 101,nobody,²") == [100, 101, "nobody", "²"]
    lists = recommender.recommend([100], 2)
    assert lists["source"].tolist() == ["model", "model"]
    assert lists["user"].tolist() == [100, 100]


def test_an_export_takes_the_place_of_the_one_before(tmp_path, purchases):
    exported(tmp_path / "out", f"file:{purchases}", MODELS["mf"])
    exported(tmp_path / "out", f"file:{purchases}", MODELS["mult-vae"])
    description = json.loads((tmp_path / "out" / "recommender.json").read_text())
    assert description["configuration"]["model"] == "mult-vae"
    assert not (tmp_path / "out" / "user_embeddings.parquet").exists()
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_what_is_no_recommender_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no exported recommender"):
        Recommender.load(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.pt", "recommender.json", "users.parquet"])
def test_a_damaged_or_missing_file_is_told(tmp_path, purchases, name):
    exported(tmp_path / "out", f"file:{purchases}", MODELS["mf"])
    path = tmp_path / "out" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        Recommender.load(tmp_path / "out")
