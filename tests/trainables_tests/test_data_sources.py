"""The data sets: what they contain, and one clear message for each way they can be missing."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import tarfile
import threading
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from raytune_ahu.errors import DataError
from trainables.data import DATASETS, download, load_splits, load_test, open_source, prepare
from trainables.data.cache import CACHE_FOLDER
from trainables.data.mnist import read_idx


def load(dataset, data_dir, **changes):
    options = {"image_size": 8, "validation_fraction": 0.2, "train_images": None, "seed": 0}
    return load_splits(dataset, str(data_dir), **{**options, **changes})


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused at once."""

    def refuse(request, *args, **kwargs):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


# digits


def test_digits_are_1797_images_in_three_disjoint_parts(data_dir):
    splits = load("digits", data_dir)
    test = load_test("digits", str(data_dir), image_size=8)
    assert len(splits.train) + len(splits.validation) + len(test) == 1797
    assert (splits.channels, splits.height_width, splits.n_classes) == (1, (8, 8), 10)
    images = splits.train.inputs
    assert images.dtype is torch.uint8
    assert (images.min(), images.max()) == (0, 255)
    rows = torch.cat([splits.train.indices, splits.validation.indices])
    assert len(rows.unique()) == len(rows) == len(images)
    # no test image is among the others (scikit-learn's digits hold no duplicates)
    seen = {image.numpy().tobytes() for image in images}
    assert not any(image.numpy().tobytes() in seen for image in test.inputs)


def test_the_validation_split_depends_on_the_seed_alone(data_dir):
    validation = load("digits", data_dir).validation.indices
    smaller = load("digits", data_dir, train_images=100)
    assert torch.equal(smaller.validation.indices, validation)
    assert not torch.equal(load("digits", data_dir, seed=1).validation.indices, validation)


def test_a_smaller_training_set_is_spread_over_all_classes(data_dir):
    splits = load("digits", data_dir, train_images=100)
    assert len(splits.train) == 100
    counts = torch.bincount(splits.train.take(slice(None))[1], minlength=10)
    assert counts.min() >= 8


@pytest.mark.parametrize("count", [3, 5000])
def test_an_impossible_number_of_training_images_is_refused(data_dir, count):
    with pytest.raises(DataError, match=f"train_images={count} must be in"):
        load("digits", data_dir, train_images=count)


def test_a_second_load_in_the_same_process_returns_the_same_tensors(data_dir):
    assert load("digits", data_dir) is load("digits", data_dir)
    other = load("digits", data_dir, seed=1)
    assert other.train.inputs.data_ptr() == load("digits", data_dir).train.inputs.data_ptr()


def test_digits_can_be_scaled_up(data_dir):
    assert load("digits", data_dir, image_size=16).height_width == (16, 16)


# names


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="'imagenet' is not known; use one of digits, mnist"):
        open_source("imagenet", None)
    with pytest.raises(DataError, match=r"'cifar10' is not known; use one of digits$"):
        open_source("cifar10", None, ["digits"])
    with pytest.raises(DataError, match="not known"):
        open_source("folder:/x", "/x", ["digits"])
    with pytest.raises(DataError, match="not known"):
        open_source("folder:PATH", None, ["mnist"])
    assert "digits" in DATASETS


def test_a_data_set_that_needs_a_folder_says_so():
    with pytest.raises(DataError, match="needs a folder"):
        open_source("mnist", None)
    with pytest.raises(DataError, match="write folder:PATH"):
        open_source("folder:", None)


# mnist


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder, n_train=60, n_test=20):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, 28, 28))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        labels = gzip.compress(idx(np.arange(n) % 10))
        (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(labels)
    return raw


def test_mnist_is_read_gzipped_or_not_without_a_network(tmp_path, no_network):
    raw = write_mnist(tmp_path)
    said: list[str] = []
    prepare("mnist", str(tmp_path), say=said.append)
    assert said == ["decoding the train images of mnist once; later runs reuse them"]
    prepare("mnist", str(tmp_path), say=pytest.fail)
    splits = load("mnist", tmp_path, image_size=28)
    images, labels = splits.train.inputs, splits.train.targets
    assert images.shape == (60, 1, 28, 28)
    assert labels.tolist() == [i % 10 for i in range(60)]
    written = read_idx(raw / "train-images-idx3-ubyte", 3)
    np.testing.assert_array_equal(images[:, 0].numpy(), written)
    assert len(load_test("mnist", str(tmp_path), image_size=28)) == 20


def test_changed_files_are_decoded_anew(tmp_path):
    raw = write_mnist(tmp_path)
    prepare("mnist", str(tmp_path))
    (raw / "train-labels-idx1-ubyte.gz").unlink()
    (raw / "train-labels-idx1-ubyte").write_bytes(idx((np.arange(60) + 1) % 10))
    splits = load("mnist", tmp_path, image_size=28)
    assert splits.train.targets[0] == 1


def test_absent_mnist_without_a_network_says_what_to_put_where(tmp_path, no_network):
    said: list[str] = []
    with pytest.raises(DataError) as caught:
        prepare("mnist", str(tmp_path / "data"), say=said.append)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "data" / "MNIST" / "raw") in message
    assert "train-images-idx3-ubyte" in message
    assert "Network is unreachable" in message
    assert "digits" in message
    assert "downloading MNIST" in said[0]
    assert list(tmp_path.iterdir()) == []  # no half download, and no folder that was not there


def test_a_name_look_up_that_hangs_ends_as_an_error(tmp_path, monkeypatch):
    release = threading.Event()

    def hang(request, *args, **kwargs):
        release.wait(60)
        raise urllib.error.URLError("too late")

    monkeypatch.setattr("urllib.request.urlopen", hang)
    monkeypatch.setattr(download, "CONNECT_TIMEOUT_S", 0.05)
    try:
        with pytest.raises(DataError, match="no answer from"):
            prepare("cifar10", str(tmp_path))
    finally:
        release.set()


def test_a_download_arrives_whole_and_fills_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "check_reachable", lambda urls: None)
    monkeypatch.setattr(
        "torchvision.datasets.MNIST", FakeMnist
    )  # stands for torchvision's downloader
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    prepare("mnist", str(tmp_path))
    assert len(load_test("mnist", str(tmp_path), image_size=28)) == 20
    prepare("mnist", str(tmp_path / "new"))
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [CACHE_FOLDER, "MNIST"]


class FakeMnist:
    mirrors = ("https://mnist.invalid/",)

    def __init__(self, root, train, download):
        from pathlib import Path

        write_mnist(Path(root))


def test_a_cut_off_idx_file_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx(np.zeros((4, 5, 5)))[:-1])
    with pytest.raises(DataError, match="has 115 bytes instead of 116"):
        read_idx(path, 3)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="not an IDX file"):
        read_idx(path, 3)
    packed = tmp_path / "images.gz"
    packed.write_bytes(gzip.compress(b"x" * 100)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(packed, 3)


def test_the_real_mnist_has_its_known_class_counts(tmp_path, shared_data, no_network):
    shutil.copytree(shared_data / "MNIST", tmp_path / "MNIST")
    prepare("mnist", str(tmp_path))
    splits = load("mnist", tmp_path, image_size=28, validation_fraction=1 / 6)
    known = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(splits.train.targets).tolist() == known
    assert abs(len(splits.validation) - 10_000) <= 5
    assert splits.mean[0] == pytest.approx(0.1307, abs=1e-4)
    assert splits.std[0] == pytest.approx(0.3081, abs=1e-4)


# cifar10


def write_cifar10(folder, monkeypatch, *, pack=False):
    """Write 60 images in CIFAR-10's layout, and make torchvision expect their checksums."""
    from torchvision import datasets

    rng = np.random.default_rng(0)
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)
    sums = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = {
            "data": rng.integers(0, 256, (10, 3072), dtype=np.uint8),
            "labels": list(range(10)),
        }
        content = pickle.dumps(batch)
        (base / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({"label_names": [str(i) for i in range(10)]})
    (base / "batches.meta").write_bytes(meta)
    train = [[name, sums[name]] for name in sums if name != "test_batch"]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    own_meta = {**datasets.CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", own_meta)
    if pack:
        archive = folder / "cifar-10-python.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(base, "cifar-10-batches-py")
        shutil.rmtree(base)
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)


@pytest.mark.parametrize("pack", [False, True])
def test_cifar10_is_read_from_its_folder_or_archive(tmp_path, monkeypatch, no_network, pack):
    write_cifar10(tmp_path, monkeypatch, pack=pack)
    prepare("cifar10", str(tmp_path), say=lambda line: None)
    splits = load("cifar10", tmp_path, image_size=32)
    assert splits.train.inputs.shape == (50, 3, 32, 32)
    with (tmp_path / "cifar-10-batches-py" / "data_batch_1").open("rb") as file:
        first = pickle.load(file)["data"][0].reshape(3, 32, 32)
    np.testing.assert_array_equal(splits.train.inputs[0].numpy(), first)
    assert len(load_test("cifar10", str(tmp_path), image_size=32)) == 10


def test_absent_cifar10_without_a_network_says_what_to_put_where(tmp_path, no_network):
    with pytest.raises(DataError) as caught:
        prepare("cifar10", str(tmp_path), say=lambda line: None)
    for part in ("cifar-10-python.tar.gz", str(tmp_path), "Network is unreachable", "digits"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_cifar10_is_refused(tmp_path, monkeypatch, no_network):
    write_cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="are not CIFAR-10's"):
        prepare("cifar10", str(tmp_path), say=lambda line: None)


def test_a_damaged_archive_is_refused_without_downloading(tmp_path, no_network):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="checksum is wrong"):
        prepare("cifar10", str(tmp_path), say=lambda line: None)


# folder


def write_folder(folder, classes=("cat", "dog"), n=6, size=(32, 32)):
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", size, (label * 100, i, 7)).save(place / f"{i}.png")
            (place / "notes.txt").write_text("not an image")


def test_a_folder_of_classes_becomes_images_and_labels(tmp_path):
    write_folder(tmp_path)
    name = f"folder:{tmp_path}"
    prepare(name, say=lambda line: None)
    splits = load_splits(
        name, None, image_size=32, validation_fraction=0.34, train_images=None, seed=0
    )
    assert splits.train.inputs.shape == (12, 3, 32, 32)
    assert splits.train.targets.tolist() == [0] * 6 + [1] * 6
    assert splits.train.inputs[8, :, 0, 0].tolist() == [100, 2, 7]
    assert splits.n_classes == 2
    assert len(load_test(name, None, image_size=32)) == 12


def test_images_of_other_sizes_and_kinds_are_converted(tmp_path):
    write_folder(tmp_path, size=(40, 50))
    Image.new("L", (10, 90), 99).save(tmp_path / "train" / "cat" / "0.png")
    prepare(f"folder:{tmp_path}", image_size=16, say=lambda line: None)
    splits = load_splits(
        f"folder:{tmp_path}",
        None,
        image_size=16,
        validation_fraction=0.34,
        train_images=None,
        seed=0,
    )
    assert splits.train.inputs.shape == (12, 3, 16, 16)
    assert splits.train.inputs[0].unique().tolist() == [99]


def test_a_new_image_in_a_folder_is_noticed(tmp_path):
    write_folder(tmp_path)
    prepare(f"folder:{tmp_path}", say=lambda line: None)
    Image.new("RGB", (32, 32)).save(tmp_path / "train" / "cat" / "new.png")
    source = open_source(f"folder:{tmp_path}", None)
    assert len(source.load("train", 32).images) == 13


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "train"), "train is not a folder; put images into"),
        (lambda f: shutil.rmtree(f / "test"), "test is not a folder; put images into"),
        (lambda f: shutil.rmtree(f), "train is not a folder; put images into"),
        (lambda f: shutil.rmtree(f / "train" / "dog"), "has 1 class folders but needs at least 2"),
        (lambda f: shutil.rmtree(f / "test" / "dog"), "has 1 class folders but needs at least 2"),
        (lambda f: (f / "test" / "dog").rename(f / "test" / "wolf"), "not both .*: dog, wolf"),
        (lambda f: [p.unlink() for p in (f / "train" / "dog").iterdir()], "holds no images"),
        (lambda f: (f / "train" / "dog" / "1.png").write_bytes(b"x"), "not a readable image"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path, damage, message):
    folder = tmp_path / "pets"
    write_folder(folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        prepare(f"folder:{folder}", str(tmp_path), say=lambda line: None)
    assert "\n" not in str(caught.value)


def test_real_cifar_images_in_class_folders_are_read(tmp_path, shared_data):
    with tarfile.open(shared_data / "cifar10-images.tar.gz") as archive:
        taken: dict[str, int] = {}
        for member in archive:
            folder = member.name.rsplit("/", 1)[0]
            if member.isfile() and taken.setdefault(folder, 0) < 10:
                taken[folder] += 1
                archive.extract(member, tmp_path, filter="data")
    name = f"folder:{tmp_path / 'cifar10'}"
    prepare(name, say=lambda line: None)
    splits = load_splits(
        name, None, image_size=32, validation_fraction=0.1, train_images=None, seed=0
    )
    assert splits.train.inputs.shape == (100, 3, 32, 32)
    assert splits.n_classes == 10
    assert 0.4 < min(splits.mean) < max(splits.mean) < 0.56
