"""From the name of a recommender model to the model."""

from __future__ import annotations

import torch

from trainables.data.user_items import RecommenderData
from trainables.models.lightgcn import LightGCN
from trainables.models.mf import GMF, MF
from trainables.models.mult_vae import MultVAE
from trainables.models.neumf import NeuMF
from trainables.models.recommender_model import RecommenderModel
from trainables.models.sasrec import SASRec
from trainables.models.two_tower import TwoTower
from trainables.recommender_hyperparameters import RecommenderHyperparameters

MODELS: dict[str, type[RecommenderModel]] = {
    "mf": MF,
    "gmf": GMF,
    "mlp": NeuMF,  # one half of it
    "neumf": NeuMF,
    "two-tower": TwoTower,
    "lightgcn": LightGCN,
    "mult-vae": MultVAE,
    "sasrec": SASRec,
}
"""All models by name."""


def make_recommender(
    h: RecommenderHyperparameters, data: RecommenderData, device: torch.device | str
) -> RecommenderModel:
    """Build a model on a device. Initial weights come from torch's own generator.

    Args:
        h: Hyperparameters; `h.model` names the model.
        data: What it is trained on; on any device.
        device: Where it computes.
    """
    device = torch.device(device)
    return MODELS[h.model](h, data, device).to(device)
