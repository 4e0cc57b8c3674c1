"""Filters, the cache of prepared interactions, MovieLens, and what trials are given."""

from __future__ import annotations

import io
import shutil
import urllib.error
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from raytune_ahu.errors import DataError
from trainables.data import download, interactions
from trainables.data.cache import CACHE_FOLDER
from trainables.data.interaction_filters import filter_interactions
from trainables.data.interaction_rows import Interactions, features_of
from trainables.data.interactions import (
    load_ids,
    load_interactions,
    load_recommender_data,
    load_test_items,
    prepare_interactions,
)


@pytest.fixture(autouse=True)
def _forget():
    """No test sees what another one has loaded."""
    interactions._load.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused at once."""

    def refuse(request, *args, **kwargs):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def rows(users, items, ratings=None, times=None) -> Interactions:
    users, items = np.array(users, np.int64), np.array(items, np.int64)
    return Interactions(
        users,
        items,
        np.arange(100, 101 + users.max()),
        np.arange(200, 201 + items.max()),
        None if ratings is None else np.array(ratings, np.float32),
        None if times is None else np.array(times, np.int64),
    )


def pairs(data: Interactions) -> list[tuple[int, int]]:
    """The ids of each row."""
    users, items = data.user_ids[data.users], data.item_ids[data.items]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def write_csv(path, n_users=6, n_items=8):
    lines = ["user,item,time"]
    for user in range(n_users):
        lines += [f"u{user},i{(user + step) % n_items},{step}" for step in range(5)]
    path.write_text("\n".join(lines) + "\n")
    return f"file:{path}"


# filters


def test_nothing_is_dropped_and_nothing_said_where_every_row_is_fine():
    data = rows([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    assert filter_interactions(data) is data


def test_ratings_below_the_threshold_are_dropped_and_counted():
    data = rows([0, 0, 0, 0, 1], [0, 1, 2, 3, 0], ratings=[3, 4, 4.5, 5, 1])
    kept = filter_interactions(data, min_rating=4)
    assert pairs(kept) == [(100, 201), (100, 202), (100, 203)]
    assert kept.ratings is not None
    assert kept.ratings.tolist() == [4, 4.5, 5]
    assert kept.notes == ("2 of 5 interactions have a rating under 4 and were dropped",)


@pytest.mark.parametrize(
    ("keep", "times"), [("first", [7, 5, 1, 1]), ("last", [7, 5, 1, 1]), ("last", [3, 3, 3, 3])]
)
def test_of_repeated_interactions_one_is_kept_by_time_then_place(keep, times):
    data = rows([0, 0, 0, 0], [1, 1, 1, 0], times=times)
    kept = filter_interactions(
        data, duplicates=keep, min_user_interactions=1, min_item_interactions=1
    )
    expected = {
        ("first", 7): [1, 1],  # the third row came first
        ("last", 7): [7, 1],
        ("last", 3): [3, 3],
    }[keep, times[0]]
    assert kept.times is not None
    assert sorted(kept.times.tolist()) == sorted(expected)
    assert len(kept) == 2
    assert kept.notes[0].startswith("2 of 4 interactions repeat an item")


def test_which_of_equal_times_is_kept_is_a_matter_of_place():
    data = rows([0, 0, 0], [1, 1, 0], ratings=[1, 2, 3], times=[5, 5, 5])
    options = {"min_user_interactions": 1, "min_item_interactions": 1}
    first = filter_interactions(data, duplicates="first", **options)
    last = filter_interactions(data, duplicates="last", **options)
    assert first.ratings is not None
    assert last.ratings is not None
    assert first.ratings.tolist() == [1, 3]
    assert last.ratings.tolist() == [2, 3]


def test_the_k_core_is_repeated_until_nothing_changes():
    # User 2 has one row of the item 3; without it, item 3 has one row left, so user 1 loses it.
    data = rows([0, 0, 0, 1, 1, 1, 2], [0, 1, 2, 0, 1, 3, 3])
    kept = filter_interactions(data, min_user_interactions=2, min_item_interactions=2)
    assert pairs(kept) == [(100, 200), (100, 201), (101, 200), (101, 201)]
    assert (kept.n_users, kept.n_items) == (2, 2)
    assert kept.notes == (
        "1 users have fewer than 2 interactions; with users of at least 2 and items of at least 2, "
        "1 users, 2 items and 3 of 7 interactions were dropped",
    )


def test_the_k_core_agrees_with_dropping_one_at_a_time():
    rng = np.random.default_rng(0)
    wanted = np.unique(rng.integers(0, [30, 20], (180, 2)), axis=0)
    data = rows(wanted[:, 0], wanted[:, 1])
    kept = filter_interactions(data, min_user_interactions=4, min_item_interactions=5)
    left = set(pairs(data))
    while True:
        users, items = ([pair[side] for pair in left] for side in (0, 1))
        bad = [p for p in left if users.count(p[0]) < 4 or items.count(p[1]) < 5]
        if not bad:
            break
        left.remove(bad[0])
    assert 0 < len(left) < len(wanted)
    assert set(pairs(kept)) == left


def test_features_follow_their_users_and_items_through_the_filters():
    features, names = features_of(
        np.array([100, 101, 102]), {100: ["b", "a"], 102: ["c", "a"], 999: ["z"]}
    )
    assert names == ("a", "b", "c")
    assert features.counts.tolist() == [2, 0, 2]
    data = replace(
        rows([0, 2, 2, 2], [0, 1, 2, 3]), user_features=features, user_feature_names=names
    )
    kept = filter_interactions(data, min_user_interactions=3)
    assert kept.user_ids.tolist() == [102]
    assert kept.user_features is not None
    assert kept.user_features.items.tolist() == [0, 2]
    assert kept.user_features.n_items == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_rating": 3}, "min_rating=3 needs a rating"),
        ({"min_user_interactions": 0}, "min_user_interactions=0 must be at least 1"),
        ({"min_item_interactions": -1}, "min_item_interactions=-1 must be at least 1"),
        ({"duplicates": "best"}, "duplicates='best' is not known"),
        ({"min_user_interactions": 4}, "no interaction is left"),
    ],
)
def test_filters_that_make_no_sense_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        filter_interactions(rows([0, 0, 0], [0, 1, 2]), **options)


def test_a_threshold_above_all_ratings_names_their_range():
    with pytest.raises(DataError, match=r"ratings are in \[1, 4\.5\]"):
        filter_interactions(rows([0, 0], [0, 1], ratings=[1, 4.5]), min_rating=5)


# data sets by name


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="'netflix' is not known; use one of synthetic, ml-100k"):
        prepare_interactions("netflix")
    with pytest.raises(DataError, match="not known"):
        prepare_interactions("file:PATH")
    with pytest.raises(DataError, match="write file:PATH"):
        prepare_interactions("file:")
    with pytest.raises(DataError, match="needs a folder"):
        prepare_interactions("ml-1m")
    with pytest.raises(DataError, match="for file:PATH only"):
        prepare_interactions("synthetic", columns="user=a")


def test_a_file_is_read_once_and_then_mapped(tmp_path):
    dataset = write_csv(tmp_path / "log.csv")
    said: list[str] = []
    notes = prepare_interactions(dataset, say=said.append)
    assert said == [f"reading {tmp_path / 'log.csv'} once; later runs reuse it"]
    assert prepare_interactions(dataset, say=pytest.fail) == notes
    data = load_recommender_data(dataset)
    assert (data.n_users, data.n_items) == (6, 8)
    assert (len(data.train), len(data.validation), len(load_test_items(dataset))) == (18, 6, 6)
    assert data.user_features is None
    user_ids, item_ids = load_ids(dataset)
    assert user_ids.tolist() == [f"u{i}" for i in range(6)]
    assert item_ids.tolist() == [f"i{i}" for i in range(8)]
    assert load_recommender_data(dataset) is data
    assert load_recommender_data(dataset, split="leave-one-out") is not data
    assert len(list((tmp_path / CACHE_FOLDER).iterdir())) == 2


def test_a_changed_file_is_read_anew(tmp_path):
    dataset = write_csv(tmp_path / "log.csv")
    prepare_interactions(dataset)
    write_csv(tmp_path / "log.csv", n_users=7)
    assert load_recommender_data(dataset).n_users == 7


def test_what_comes_from_the_cache_is_what_was_split(tmp_path):
    dataset = write_csv(tmp_path / "log.csv")
    fresh = interactions._split(interactions._Request(dataset, None))
    cached = interactions._load(interactions._Request(dataset, None))
    for one, other in ((fresh.data.train, cached.data.train), (fresh.test, cached.test)):
        assert torch.equal(one.starts, other.starts)
        assert torch.equal(one.items, other.items)
        assert one.n_items == other.n_items
    assert fresh.user_ids.tolist() == cached.user_ids.tolist()
    assert fresh.notes == cached.notes


# movielens


def test_ml_100k_is_whole_with_the_default_filters(tmp_path, shared_data, no_network):
    (tmp_path / "ml-100k").symlink_to(shared_data / "ml-100k")
    folder = str(tmp_path)
    data = load_interactions("ml-100k", folder)
    assert (len(data), data.n_users, data.n_items) == (100_000, 943, 1682)
    assert data.notes == ()
    assert data.ratings is not None
    assert np.bincount(data.ratings.astype(int)).tolist()[1:] == [6110, 11370, 27145, 34174, 21201]
    assert pairs(data)[0] == (196, 242)
    # User 1 is 24, a man and a technician; film 1 is for children.
    names = np.array(data.user_feature_names)
    assert data.user_features is not None
    assert names[data.user_features.of(torch.tensor([0]))[1]].tolist() == [
        "age=18-24",
        "gender=M",
        "occupation=technician",
    ]
    assert data.item_features is not None
    films = np.array(data.item_feature_names)[data.item_features.of(torch.tensor([0]))[1]]
    assert films.tolist() == ["genre=Animation", "genre=Children's", "genre=Comedy"]
    notes = prepare_interactions("ml-100k", folder, split="leave-one-out", say=lambda line: None)
    assert notes[0].startswith("415 of 943 users have interactions of one time on both sides")
    options = {"split": "leave-one-out"}
    trials = load_recommender_data("ml-100k", folder, **options)
    assert trials.user_features is not None
    assert torch.equal(trials.user_features.items, data.user_features.items)
    counts = len(trials.train), len(trials.validation)
    assert counts == (98_114, 943)
    assert len(load_test_items("ml-100k", folder, **options)) == 943


def test_movielens_files_may_lie_in_the_data_folder_itself(tmp_path, shared_data):
    shutil.copy(shared_data / "ml-100k" / "u.data", tmp_path)
    data = load_interactions("ml-100k", str(tmp_path))
    assert (len(data), data.user_features) == (100_000, None)


ML_1M = {
    "ratings.dat": "".join(
        f"{u}::{i}::{1 + i % 5}::{978300000 + i}\n" for u in (1, 7) for i in (1, 5, 9)
    ),
    "users.dat": "1::F::1::10::48067\n7::M::56::16::70072\n",
    "movies.dat": "1::Toy Story (1995)::Animation|Comedy\n5::Amélie: 2 (1995)::Drama\n",
}


def test_ml_1m_is_read_with_its_double_separators(tmp_path):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    for name, text in ML_1M.items():
        (folder / name).write_text(text, encoding="iso-8859-1")
    data = load_interactions("ml-1m", str(tmp_path))
    assert pairs(data) == [(u, i) for u in (1, 7) for i in (1, 5, 9)]
    assert data.user_feature_names == (
        "age=56+",
        "age=under 18",
        "gender=F",
        "gender=M",
        "occupation=K-12 student",
        "occupation=self-employed",
    )
    assert data.item_features is not None
    assert data.item_features.counts.tolist() == [2, 1, 0]
    assert data.times is not None
    assert data.times[0] == 978300001


def test_a_damaged_movielens_file_is_named_with_its_line(tmp_path):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::2::3::4\n1::2::3\n")
    with pytest.raises(DataError, match=r"ratings.dat, line 2: 5 values where a line of this data"):
        load_interactions("ml-1m", str(tmp_path))
    (folder / "ratings.dat").write_text(ML_1M["ratings.dat"])
    (folder / "users.dat").write_text("1::F::one::10::48067\n")
    with pytest.raises(DataError, match=r"users.dat, line 1"):
        load_interactions("ml-1m", str(tmp_path))


def test_absent_movielens_without_a_network_says_what_to_put_where(tmp_path, no_network):
    said: list[str] = []
    with pytest.raises(DataError) as caught:
        prepare_interactions("ml-100k", str(tmp_path / "data"), say=said.append)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "data" / "ml-100k" / "u.data") in message
    assert "Network is unreachable" in message
    assert "https://files.grouplens.org/datasets/movielens/ml-100k.zip" in message
    assert "--dataset synthetic" in message
    assert "downloading ml-100k" in said[0]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="is missing; put ml-100k there"):
        load_recommender_data("ml-100k", str(tmp_path))


def serve(monkeypatch, content):
    monkeypatch.setattr(download, "check_reachable", lambda urls: None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: io.BytesIO(content))


def test_a_download_is_unpacked_without_what_is_not_needed(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in ML_1M.items():
            archive.writestr(f"ml-1m/{name}", text.encode("iso-8859-1"))
        archive.writestr("ml-1m/../../escape.txt", "no")
    serve(monkeypatch, packed.getvalue())
    prepare_interactions("ml-1m", str(tmp_path / "data"), say=lambda line: None)
    assert sorted(p.name for p in (tmp_path / "data" / "ml-1m").iterdir()) == sorted(ML_1M)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_a_download_that_is_no_archive_leaves_nothing(tmp_path, monkeypatch):
    serve(monkeypatch, b"<html>sign in</html>")
    with pytest.raises(DataError, match="is no zip file"):
        prepare_interactions("ml-1m", str(tmp_path / "data"), say=lambda line: None)
    assert list(tmp_path.iterdir()) == []
