"""Batches, augmentation, normalisation and splits against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raytune_ahu.errors import DataError
from trainables.data import (
    Augment,
    ImageData,
    Normalise,
    Subset,
    n_batches,
    random_crop,
    random_flip,
    shuffled_batches,
)
from trainables.data.source import resize
from trainables.data.splits import stratified_split, stratified_subset

CPU = torch.device("cpu")


def random_images(n=40, channels=3, height=8, width=10):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator).to(torch.uint8)


def seeded():
    return torch.Generator().manual_seed(11)


def test_a_random_crop_is_a_window_of_the_padded_image():
    images, padding = random_images(), 2
    cropped = random_crop(images, padding, seeded())
    offsets = torch.randint(0, 2 * padding + 1, (2, len(images)), generator=seeded())
    assert offsets.unique().tolist() == [0, 1, 2, 3, 4]
    for i, image in enumerate(images.numpy()):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        top, left = offsets[:, i].tolist()
        np.testing.assert_array_equal(
            cropped[i].numpy(), padded[:, top : top + 8, left : left + 10]
        )


def test_a_random_flip_mirrors_half_of_the_images_and_leaves_the_others():
    images = random_images(n=400)
    flipped = random_flip(images, seeded())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 160 <= sum(mirrored) <= 240  # 200 +- 4 standard deviations


def test_augmentation_that_is_off_changes_nothing():
    images = random_images()
    assert Augment()(images, seeded()) is images
    assert not Augment().is_on
    assert Augment(padding=1).is_on
    assert Augment(flip=True).is_on


def test_augmentation_repeats_itself_from_the_same_generator_state():
    images, augment = random_images(), Augment(padding=2, flip=True)
    assert torch.equal(augment(images, seeded()), augment(images, seeded()))
    assert not torch.equal(augment(images, seeded()), images)


def test_mean_and_deviation_are_those_of_numpy():
    images = random_images(n=5000)
    data = ImageData.measure(images, torch.zeros(5000), 2)
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, scaled.std((0, 2, 3)), rtol=1e-12)


def test_a_channel_of_one_value_has_no_zero_deviation():
    data = ImageData.measure(torch.full((3, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(3), 2)
    assert data.std == (1e-6,)


def test_normalised_images_have_mean_0_and_deviation_1_and_channels_last():
    images = random_images()
    data = ImageData.measure(images, torch.zeros(len(images)), 2)
    floats = Normalise(data.mean, data.std, CPU)(images)
    assert floats.dtype is torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    expected = images.float() / 255
    for channel in range(3):
        values = (expected[:, channel] - data.mean[channel]) / data.std[channel]
        torch.testing.assert_close(floats[:, channel], values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(floats.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)


def test_an_epoch_visits_each_row_once_in_whole_batches():
    batches = list(shuffled_batches(25, 8, seeded(), CPU))
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert len(torch.cat(batches).unique()) == 24
    assert n_batches(25, 8) == 3
    assert [len(batch) for batch in shuffled_batches(5, 8, seeded(), CPU)] == [5]
    assert n_batches(5, 8) == 1


def test_a_subset_takes_its_rows_and_shares_the_memory():
    inputs, targets = torch.arange(10) * 10, torch.arange(10)
    subset = Subset(inputs, targets, torch.tensor([7, 2, 5]))
    assert len(subset) == 3
    taken, labels = subset.take(torch.tensor([2, 0]))
    assert taken.tolist() == [50, 70]
    assert labels.tolist() == [5, 7]
    assert subset.take(slice(1, 3))[1].tolist() == [2, 5]
    assert subset.to(CPU) is subset


def test_resizing_keeps_constant_images_constant_and_round_sizes_alone():
    images = torch.full((2, 1, 8, 8), 200, dtype=torch.uint8)
    assert resize(images, 8) is images
    scaled = resize(images, 13)
    assert scaled.shape == (2, 1, 13, 13)
    assert scaled.dtype is torch.uint8
    assert scaled.unique().tolist() == [200]


LABELS = np.repeat(np.arange(4), [50, 30, 20, 10]).astype(np.int64)


def test_a_stratified_split_keeps_the_share_of_each_class():
    rest, held_out = stratified_split(LABELS, 0.2, np.random.default_rng(0))
    assert np.bincount(LABELS[held_out]).tolist() == [10, 6, 4, 2]
    assert np.array_equal(np.union1d(rest, held_out), np.arange(110))
    assert len(rest) + len(held_out) == 110
    again = stratified_split(LABELS, 0.2, np.random.default_rng(0))[1]
    other = stratified_split(LABELS, 0.2, np.random.default_rng(1))[1]
    assert np.array_equal(held_out, again)
    assert not np.array_equal(held_out, other)


def test_a_class_too_small_to_split_is_named():
    with pytest.raises(DataError, match="class 1 has 1 images"):
        stratified_split(np.array([0] * 10 + [1]), 0.2, np.random.default_rng(0))


@pytest.mark.parametrize("count", [4, 11, 55, 110])
def test_a_stratified_subset_keeps_the_shares_to_within_one_row(count):
    rows = np.arange(110)
    chosen = stratified_subset(LABELS, rows, count, np.random.default_rng(0))
    assert len(np.unique(chosen)) == len(chosen) == count
    exact = np.array([50, 30, 20, 10]) * count / 110
    assert np.abs(np.bincount(LABELS[chosen], minlength=4) - exact).max() <= 1
