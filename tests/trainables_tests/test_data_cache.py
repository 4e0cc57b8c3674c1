"""The cache of prepared data: shared memory, races, damage, folders that cannot be written."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from raytune_ahu.errors import DataError, StorageError
from trainables.data.cache import CACHE_FOLDER, Entry, digest, load_or_build
from trainables.data.images import ImageData
from trainables.data.source import from_entry, to_entry


def some_images() -> ImageData:
    images = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).to(torch.uint8)
    return ImageData.measure(images, torch.tensor([1, 0]), 2)


def some_data() -> Entry:
    return to_entry(some_images())


def never() -> Entry:
    raise AssertionError("built although it is in the cache")


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_comes_out_is_what_went_in_and_is_built_once(tmp_path):
    first = load_or_build("toy", "k1", tmp_path, some_data)
    again = load_or_build("toy", "k1", tmp_path, never)
    for data in (from_entry(first), from_entry(again)):
        assert torch.equal(data.images, some_images().images)
        assert data.labels.tolist() == [1, 0]
        assert (data.n_classes, data.mean, data.std) == (
            2,
            some_images().mean,
            some_images().std,
        )
    assert entries(tmp_path / CACHE_FOLDER) == ["toy-k1"]


def test_writing_to_the_tensor_does_not_change_the_cache(tmp_path):
    from_entry(load_or_build("toy", "k", tmp_path, some_data)).images.fill_(9)
    again = from_entry(load_or_build("toy", "k", tmp_path, never))
    assert torch.equal(again.images, some_images().images)


def test_arrays_of_any_fixed_type_come_back_empty_ones_too(tmp_path):
    arrays = {"a": np.array([1.5, np.nan], np.float32), "b": np.zeros(0, np.int64)}
    entry = load_or_build("toy", "k", tmp_path, lambda: Entry(arrays, {"names": ["x", "y"]}))
    assert entry.meta == {"names": ["x", "y"]}
    assert list(entry.arrays) == ["a", "b"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(entry.arrays[name], array)
        assert entry.arrays[name].dtype == array.dtype


def test_an_array_is_a_map_of_its_file(tmp_path):
    entry = load_or_build("toy", "k", tmp_path, some_data)
    assert isinstance(entry.arrays["images"].base, np.memmap)


def test_another_key_is_another_entry(tmp_path):
    load_or_build("toy", digest(["a", 1]), tmp_path, some_data)
    with pytest.raises(AssertionError):
        load_or_build("toy", digest(["a", 2]), tmp_path, never)


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    with pytest.raises(AssertionError):
        load_or_build("toy", "k", tmp_path, never)
    assert entries(tmp_path / CACHE_FOLDER) == []


def test_a_data_folder_that_cannot_be_written_gives_way_to_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    load_or_build("toy", "k", blocked, some_data)
    assert entries(tmp_path / "xdg" / "raytune_ahu") == ["toy-k"]
    load_or_build("toy", "k", blocked, never)


def test_no_writable_folder_at_all_is_an_error_that_names_them(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        load_or_build("toy", "k", blocked, some_data)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json"])
def test_a_damaged_entry_is_refused_with_its_path(tmp_path, name):
    load_or_build("toy", "k", tmp_path, some_data)
    path = tmp_path / CACHE_FOLDER / "toy-k" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="delete that folder") as caught:
        load_or_build("toy", "k", tmp_path, never)
    assert "toy-k" in str(caught.value)


def race(folder, meeting, results):
    """Build the entry once the other process builds it too, and send back what is in it."""
    data = some_data()

    def build():
        meeting.wait(60)
        return data

    loaded = load_or_build("toy", "k", folder, build)
    results.put((loaded.arrays["images"].tolist(), loaded.arrays["labels"].tolist()))


def test_two_processes_that_build_the_same_entry_at_once_both_get_it(tmp_path):
    context = multiprocessing.get_context("fork")
    meeting, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=race, args=(tmp_path, meeting, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outputs = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    expected = (some_images().images.tolist(), some_images().labels.tolist())
    assert outputs == [expected, expected]
    assert [process.exitcode for process in processes] == [0, 0]
    assert entries(tmp_path / CACHE_FOLDER) == ["toy-k"]
