"""A plain convolutional network for small images."""

from __future__ import annotations

from torch import nn

from trainables.models.activations import make_activation

_POOLED_CELLS = 3
"""The last feature maps are averaged to about 3 x 3 before the classifier, for every image size.
(Not by adaptive pooling: its gradient is not reproducible on CUDA.)"""


def cnn(
    channels: int,
    n_classes: int,
    *,
    image_size: int,
    stages: int,
    filters: int,
    dropout: float,
    activation: str,
) -> nn.Sequential:
    """Build `stages` stages of 3 x 3 convolution, batch normalisation and activation.

    The filters double from stage to stage. Each stage but the last halves the image while that
    leaves at least 4 pixels.

    Args:
        channels: Channels of an image.
        n_classes: Outputs (logits).
        image_size: Height and width in pixels.
        stages: Stages, at least 1.
        filters: Filters of the first stage.
        dropout: Probability that a feature is zeroed before the classifier, in training.
        activation: A name of `ACTIVATIONS`.
    """
    modules: list[nn.Module] = []
    size, inputs = image_size, channels
    for stage in range(stages):
        modules.append(nn.Conv2d(inputs, filters, 3, padding=1, bias=False))
        if stage < stages - 1 and size >= 8:
            modules.append(nn.MaxPool2d(2))  # before the two that follow: they have less to do
            size //= 2
        modules += [nn.BatchNorm2d(filters), make_activation(activation)]
        inputs, filters = filters, 2 * filters
    pool = max(1, size // _POOLED_CELLS)
    cells = size // pool
    modules += [nn.AvgPool2d(pool), nn.Flatten()]
    if dropout:
        modules.append(nn.Dropout(dropout))
    modules.append(nn.Linear(inputs * cells * cells, n_classes))
    return nn.Sequential(*modules)
