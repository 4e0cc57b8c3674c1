"""Residual networks for small images (He, Zhang, Ren, Sun 2016; the CIFAR forms).

The stem is one convolution without pooling. The stages follow: the first keeps the image's size,
each later one halves it and, by default, doubles the filters. A shortcut whose shape changes is a
1 x 1 convolution (option B of the paper). Dropout, where asked for, sits between the convolutions
of a block, as in Wide ResNets (Zagoruyko, Komodakis 2016).

Two families: three stages of basic blocks from 16 filters (ResNet-20 is n = 3 blocks a stage, depth
6n + 2), and four stages from 64 filters with the block counts of the ImageNet networks (ResNet-18,
34 with basic, 50 with bottleneck blocks). Start with `resnet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from raytune_ahu.errors import SpaceError
from trainables.models.activations import make_activation

BOTTLENECK_EXPANSION = 4
"""A bottleneck block puts out four times the filters of its stage."""


@dataclass(frozen=True)
class Depth:
    """What a named depth stands for."""

    blocks: tuple[int, ...]
    """Blocks of each stage."""
    filters: int
    """Filters of the first stage in the published network."""
    bottleneck: bool = False
    """Bottleneck blocks (1x1, kxk, 1x1) instead of basic ones (kxk, kxk)."""


DEPTHS: dict[str, Depth] = {
    "resnet8": Depth((1, 1, 1), 16),
    "resnet14": Depth((2, 2, 2), 16),
    "resnet20": Depth((3, 3, 3), 16),
    "resnet18": Depth((2, 2, 2, 2), 64),
    "resnet34": Depth((3, 4, 6, 3), 64),
    "resnet50": Depth((3, 4, 6, 3), 64, bottleneck=True),
}
"""All depth presets."""


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of a network share."""

    kernel: int
    """Size of the convolutions that look around, in pixels; odd."""
    activation: str
    """A name of `ACTIVATIONS`."""
    dropout: float
    """Probability that an activation between two convolutions is zeroed in training."""

    def conv(self, inputs: int, filters: int, stride: int = 1) -> nn.Conv2d:
        """Make a convolution that keeps the image's size up to the stride."""
        padding = self.kernel // 2
        return nn.Conv2d(inputs, filters, self.kernel, stride, padding, bias=False)

    def between(self) -> list[nn.Module]:
        """Make what stands between two convolutions."""
        modules = [make_activation(self.activation)]
        return [*modules, nn.Dropout(self.dropout)] if self.dropout else modules


class Block(nn.Module):
    """A residual block: activation(branch(x) + shortcut(x)).

    Args:
        style: What all blocks share.
        inputs: Channels coming in.
        filters: Filters of the stage.
        stride: 2 where the block halves the image.
        bottleneck: Which of the two branches.
    """

    def __init__(
        self, style: BlockStyle, inputs: int, filters: int, stride: int, *, bottleneck: bool
    ) -> None:
        super().__init__()
        outputs = filters * (BOTTLENECK_EXPANSION if bottleneck else 1)
        branch = _bottleneck if bottleneck else _basic
        self.branch = nn.Sequential(*branch(style, inputs, filters, stride))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activation = make_activation(style.activation)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return cast(Tensor, self.activation(self.branch(images) + self.shortcut(images)))


def _basic(style: BlockStyle, inputs: int, filters: int, stride: int) -> list[nn.Module]:
    return [
        style.conv(inputs, filters, stride),
        nn.BatchNorm2d(filters),
        *style.between(),
        style.conv(filters, filters),
        nn.BatchNorm2d(filters),
    ]


def _bottleneck(style: BlockStyle, inputs: int, filters: int, stride: int) -> list[nn.Module]:
    outputs = filters * BOTTLENECK_EXPANSION
    return [
        nn.Conv2d(inputs, filters, 1, bias=False),
        nn.BatchNorm2d(filters),
        *style.between(),
        style.conv(filters, filters, stride),
        nn.BatchNorm2d(filters),
        *style.between(),
        nn.Conv2d(filters, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def resnet(
    depth: str,
    channels: int,
    n_classes: int,
    *,
    filters: Sequence[int] | None = None,
    kernel: int = 3,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Sequential:
    """Build a residual network.

    Args:
        depth: A name of `DEPTHS`.
        channels: Channels of an image.
        n_classes: Outputs (logits).
        filters: Filters of each stage; None: the published ones.
        kernel: Size of the filters: 3, 5 or 7 pixels.
        activation: A name of `ACTIVATIONS`.
        dropout: See `BlockStyle.dropout`.

    Raises:
        SpaceError: If the depth or the activation is unknown, or `filters` does not fit the depth.
    """
    if depth not in DEPTHS:
        raise SpaceError(f"depth={depth!r} must be one of {', '.join(DEPTHS)}")
    preset = DEPTHS[depth]
    widths = list(filters or stage_filters(depth, preset.filters))
    if len(widths) != len(preset.blocks):
        raise SpaceError(f"filters={widths} must have {len(preset.blocks)} stages for {depth}")
    style = BlockStyle(kernel, activation, dropout)
    modules: list[nn.Module] = [
        style.conv(channels, widths[0]),
        nn.BatchNorm2d(widths[0]),
        make_activation(activation),
    ]
    inputs = widths[0]
    for stage, (count, width) in enumerate(zip(preset.blocks, widths, strict=True)):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            modules.append(Block(style, inputs, width, stride, bottleneck=preset.bottleneck))
            inputs = width * (BOTTLENECK_EXPANSION if preset.bottleneck else 1)
    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, n_classes)]
    network = nn.Sequential(*modules)
    _initialise(network)
    return network


def stage_filters(depth: str, first: int) -> list[int]:
    """Double the filters from stage to stage, starting at `first`."""
    return [first * 2**stage for stage in range(len(DEPTHS[depth].blocks))]


def _initialise(network: nn.Module) -> None:
    """Draw convolutions from He's normal distribution (fan out), as the paper does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
