"""The hyperparameters of the recommender models, with one name for one thing across the models.

Each field says which models it affects; in the others it is accepted and ignored. Combinations that
no model can compute are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ahu.errors import SpaceError
from trainables.hyperparameters import choice, number, whole

MODEL_NAMES = ("mf", "gmf", "mlp", "neumf", "two-tower", "lightgcn", "mult-vae", "sasrec")
"""All models; see `trainables.models.recommenders`."""
FULL_LOSSES = ("full-softmax", "full-square")
"""Losses over all items."""
LOSSES = ("bpr", "bce", "softmax", *FULL_LOSSES)
SAMPLINGS = ("uniform", "popularity", "in-batch")
SIMILARITIES = ("dot", "cosine")
DOT_MODELS = ("mf", "gmf", "two-tower", "lightgcn")
"""The models whose score is a dot product of a user's and an item's vector."""


@dataclass(frozen=True)
class RecommenderHyperparameters:
    """All hyperparameters of the recommenders with their defaults.

    Raises:
        SpaceError: If two of them contradict.
    """

    model: str = choice("mf", MODEL_NAMES)
    """`mf`: dot product with item biases; `gmf`, `mlp`, `neumf`: neural collaborative filtering;
    `two-tower`: dot product of two networks, with features; `lightgcn`: graph convolution;
    `mult-vae`: variational autoencoder of a user's row; `sasrec`: self-attention in order of time.
    """
    lr: float = number(3e-3, 1e-8, 100.0)
    """Learning rate of Adam; all models."""
    weight_decay: float = number(0.0, 0.0, 10.0)
    """Weight decay as the optimizer defines it, on all weights and embeddings; all models."""
    batch_size: int = whole(2048, 1, 1 << 22)
    """Training pairs in a gradient step; all models. Where a batch is of whole users or sequences
    (`mult-vae`, `sasrec`, `full-*` losses), as many of them as hold so many pairs on average."""
    dim: int = whole(64, 1, 4096)
    """Dimension of the embeddings; of the latent state of `mult-vae`; `mlp`: see `width`."""
    init_std: float = number(0.1, 0.0, 10.0)
    """Standard deviation of the embeddings at the start; all but `mult-vae`."""
    l2: float = number(0.0, 0.0, 10.0)
    """Factor of the mean squared norm of the embeddings that a batch looks up, users, positive
    items and negative items one each; all but `mult-vae` (`sasrec`: items only)."""
    dropout: float = number(0.2, 0.0, 0.95)
    """Dot products: of the user's vector; `mlp`, `neumf`: of embeddings and hidden units;
    `two-tower`: of hidden units too; `mult-vae`: of the input; `sasrec`: of embeddings, attention
    and hidden units."""
    loss: str = choice("softmax", LOSSES)
    """`bpr`: a positive against each negative; `bce`: log loss of each pair; `softmax`: a positive
    against all its negatives; `full-softmax`: against all items (not `mlp`, `neumf`);
    `full-square`: squared error of all items, as implicit ALS (dot products only). No effect on
    `mult-vae`, whose loss is a full softmax."""
    negatives: int = whole(16, 1, 65536)
    """Negative items for each positive; no effect with `full-*`, `in-batch`, `mult-vae`."""
    unobserved_weight: float = number(0.3, 1e-6, 100.0)
    """`full-square`: weight of the pairs that are not in the data; those in it have 1 more."""
    sampling: str = choice("uniform", SAMPLINGS)
    """Where negatives come from: `uniform` over the items that the user does not have; `popularity`
    ** 0.75 over the same; `in-batch`: the positives of the batch's other pairs (dot products only).
    No effect with `full-*` and on `mult-vae`."""
    layers: int = whole(2, 0, 8)
    """Hidden layers of `mlp` and `neumf` (at least 1), and of the two towers of `two-tower` (0: the
    sum of the embeddings). Blocks of `sasrec`, at least 1."""
    width: int = whole(128, 2, 65536)
    """`mlp`, `neumf`: a user's and an item's embedding side by side, halved by each hidden layer;
    `two-tower`, `mult-vae`: units of a hidden layer; `sasrec`: of the layer inside a block."""
    pretrain_epochs: int = whole(0, 0, 10000)
    """`neumf`: for so many epochs its halves are trained each on its own, then joined."""
    similarity: str = choice("dot", SIMILARITIES)
    """`two-tower`: dot product, or cosine divided by `temperature`."""
    temperature: float = number(0.1, 1e-3, 100.0)
    """`two-tower` with `cosine`: what it is divided by."""
    hops: int = whole(2, 0, 10)
    """`lightgcn`: convolutions, i.e. how far along the graph a vector sees."""
    kl_weight: float = number(0.2, 0.0, 10.0)
    """`mult-vae`: highest weight of the divergence from the prior."""
    kl_epochs: int = whole(20, 0, 10000)
    """`mult-vae`: epochs over which that weight rises from 0, linearly in steps."""
    max_length: int = whole(50, 1, 10000)
    """`sasrec`: how many of the newest items of a user it sees."""
    heads: int = whole(1, 1, 64)
    """`sasrec`: attention heads; must divide `dim`."""

    def __post_init__(self) -> None:
        if self.model in ("mlp", "neumf"):
            if self.loss in FULL_LOSSES:
                raise SpaceError(
                    f"loss={self.loss!r} is not possible with model={self.model!r}, which scores "
                    "pair by pair; use bpr, bce or softmax"
                )
            if self.width >> self.layers < 1:
                raise SpaceError(
                    f"width={self.width} cannot be halved layers={self.layers} times; it must be "
                    f"at least {1 << self.layers}"
                )
        if self.model in ("mlp", "neumf", "sasrec") and self.layers < 1:
            raise SpaceError(f"layers=0 must be in [1, 8] with model={self.model!r}")
        if self.model in ("mlp", "neumf", "sasrec") and self.sampling == "in-batch":
            raise SpaceError(
                f"sampling='in-batch' is not possible with model={self.model!r}; use uniform or "
                f"popularity, or one of {', '.join(DOT_MODELS)}"
            )
        if self.model == "sasrec" and self.loss == "full-square":
            raise SpaceError(
                "loss='full-square' is not possible with model='sasrec', which asks for the next "
                "item; use full-softmax"
            )
        if self.model == "sasrec" and self.dim % self.heads:
            raise SpaceError(
                f"heads={self.heads} must divide dim={self.dim}; use 1, or another power of 2"
            )
