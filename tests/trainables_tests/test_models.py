"""Networks: known parameter counts, shapes, and what their options change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raytune_ahu.errors import SpaceError
from trainables import ResNetHyperparameters
from trainables.models import ACTIVATIONS, DEPTHS, cnn, mlp, resnet


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("depth", "millions", "decimals"),
    [
        ("resnet20", 0.27, 2),  # He et al. 2016, table 6
        ("resnet18", 11.17, 2),  # the usual CIFAR forms of the ImageNet networks
        ("resnet34", 21.28, 2),
        ("resnet50", 23.52, 2),
    ],
)
def test_depth_presets_have_their_known_number_of_parameters(depth, millions, decimals):
    assert round(n_parameters(resnet(depth, 3, 10)) / 1e6, decimals) == millions


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        ("resnet8", 8),
        ("resnet14", 14),
        ("resnet20", 20),
        ("resnet18", 18),
        ("resnet34", 34),
        ("resnet50", 50),
    ],
)
def test_a_depth_counts_the_layers_with_weights(depth, layers):
    modules = list(resnet(depth, 3, 10).named_modules())
    convolutions = [
        name for name, m in modules if isinstance(m, nn.Conv2d) and "shortcut" not in name
    ]
    linear = [name for name, m in modules if isinstance(m, nn.Linear)]
    assert len(convolutions) + len(linear) == layers


@pytest.mark.parametrize("depth", sorted(DEPTHS))
def test_every_depth_maps_images_to_logits_and_halves_them_between_stages(depth):
    model = resnet(depth, 3, 7, filters=[4, 4, 6, 8][: len(DEPTHS[depth].blocks)]).eval()
    sizes = []
    for module in model:
        module.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    stages = [32 // 2**stage for stage in range(len(DEPTHS[depth].blocks))]
    assert list(dict.fromkeys(s[0] for s in sizes if s and s[0] > 1)) == stages


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_every_activation_and_filter_size_trains(activation, kernel):
    model = resnet("resnet8", 1, 3, filters=[2, 3, 4], kernel=kernel, activation=activation)
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_dropout_sits_between_the_convolutions_of_each_block():
    def count(depth, dropout):
        model = resnet(depth, 3, 10, filters=None, dropout=dropout)
        return sum(isinstance(m, nn.Dropout) for m in model.modules())

    assert count("resnet8", 0.0) == 0
    assert count("resnet20", 0.2) == 9
    assert count("resnet50", 0.2) == 32


def test_filters_of_each_stage_follow_the_first_unless_they_are_given():
    def filters(**values):
        return ResNetHyperparameters(**values).stage_filters()

    assert filters() == [16, 32, 64]
    assert filters(depth="resnet18") == [64, 128, 256, 512]
    assert filters(filters=8) == [8, 16, 32]
    assert filters(filters_2=20) == [16, 20, 40]
    assert filters(depth="resnet50", filters=8, filters_4=10) == [8, 16, 32, 10]


def test_unknown_depths_activations_and_filters_are_refused():
    with pytest.raises(SpaceError, match="depth='resnet21' must be one of resnet8"):
        resnet("resnet21", 3, 10)
    with pytest.raises(SpaceError, match="activation='swishh' must be one of relu"):
        resnet("resnet8", 3, 10, activation="swishh")
    with pytest.raises(SpaceError, match="must have 3 stages"):
        resnet("resnet8", 3, 10, filters=[1, 2])


@pytest.mark.parametrize("size", [4, 8, 9, 16, 28, 32, 100])
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_the_cnn_takes_every_image_size(size, stages):
    model = cnn(3, 10, image_size=size, stages=stages, filters=2, dropout=0.1, activation="elu")
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_the_mlp_has_the_layers_and_units_asked_for():
    model = mlp(64, 10, layers=3, width=16, dropout=0.5, activation="tanh")
    shapes = [tuple(m.weight.shape) for m in model if isinstance(m, nn.Linear)]
    assert shapes == [(16, 64), (16, 16), (16, 16), (10, 16)]
    assert sum(isinstance(m, nn.Dropout) for m in model) == 3
    assert n_parameters(mlp(784, 10, layers=1, width=128, dropout=0, activation="relu")) == 101_770
