"""Every recommender model keeps the contract; each one computes what its paper says."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from raytune_ahu.errors import SpaceError
from trainables.data.negatives import NegativeSampler
from trainables.data.user_items import RecommenderData, UserItems
from trainables.hyperparameters import parse
from trainables.ials import IALS
from trainables.models import sasrec
from trainables.models.lightgcn import LightGCN, normalised_graph
from trainables.models.mult_vae import MultVAE
from trainables.models.neumf import NeuMF
from trainables.models.pair_model import DotModel, PairModel
from trainables.models.recommender_losses import (
    bce_loss,
    bpr_loss,
    full_softmax_loss,
    softmax_loss,
)
from trainables.models.recommender_model import RecommenderModel
from trainables.models.recommenders import MODELS, make_recommender
from trainables.models.sasrec import SASRec
from trainables.recommender_hyperparameters import (
    DOT_MODELS,
    FULL_LOSSES,
    LOSSES,
    MODEL_NAMES,
    RecommenderHyperparameters,
)

N_USERS, N_ITEMS, N_GROUPS = 90, 48, 4
NEWCOMER, COLD_ITEM = N_USERS - 1, N_ITEMS - 1
"""A user without items, and an item that nobody has."""

SMALL = {
    "dim": 8,
    "width": 16,
    "batch_size": 128,
    "negatives": 4,
    "max_length": 6,
    "heads": 2,
    "kl_epochs": 3,
    "lr": 0.02,
}
VARIANTS = {
    **{name: {"model": name} for name in MODEL_NAMES},
    "mf, bpr": {"model": "mf", "loss": "bpr", "l2": 1e-3},
    "mf, bce": {"model": "mf", "loss": "bce"},
    "mf, popularity": {"model": "mf", "sampling": "popularity"},
    "mf, in-batch": {"model": "mf", "sampling": "in-batch", "l2": 1e-4},
    "mf, full softmax": {"model": "mf", "loss": "full-softmax", "l2": 1e-4},
    "gmf, full softmax": {"model": "gmf", "loss": "full-softmax"},
    "mf, full square": {"model": "mf", "loss": "full-square", "l2": 1e-3},
    "lightgcn, full square": {"model": "lightgcn", "loss": "full-square", "l2": 1e-3},
    "lightgcn, bpr": {"model": "lightgcn", "loss": "bpr", "l2": 1e-4},
    "lightgcn, in-batch bce": {"model": "lightgcn", "loss": "bce", "sampling": "in-batch"},
    "two-tower, cosine": {"model": "two-tower", "similarity": "cosine", "loss": "full-softmax"},
    "two-tower, no layers": {"model": "two-tower", "layers": 0, "sampling": "in-batch"},
    "neumf, pre-trained": {"model": "neumf", "pretrain_epochs": 2, "l2": 1e-4},
    "mlp, bpr": {"model": "mlp", "loss": "bpr"},
    "sasrec, full softmax": {"model": "sasrec", "loss": "full-softmax", "l2": 1e-5},
    "sasrec, bce": {"model": "sasrec", "loss": "bce", "sampling": "popularity", "l2": 1e-5},
}


def planted(seed: int = 0) -> RecommenderData:
    """Users and items come in 4 groups; 9 of 10 choices are within the own one. Two held out."""
    rng = np.random.default_rng(seed)
    group = np.arange(N_ITEMS - 1) % N_GROUPS
    train, held_out = [], []
    for user in range(N_USERS - 1):
        weights = np.where(group == user % N_GROUPS, 0.9, 0.1 / 3) / (1 + np.arange(len(group)))
        n = int(rng.integers(4, 13))
        items = rng.choice(len(group), n, replace=False, p=weights / weights.sum())
        train += [(user, item) for item in items[:-2]]
        held_out += [(user, item) for item in items[-2:]]
    user_features = [(user, user % N_GROUPS) for user in range(N_USERS - 1)]
    item_features = [(item, item % 3) for item in range(N_ITEMS - 1)] + [(0, 1)]
    return RecommenderData(
        pairs(train),
        pairs(held_out),
        pairs(user_features, N_USERS, N_GROUPS),
        pairs(item_features, N_ITEMS, 3),
    )


def pairs(rows: list[tuple[int, int]], n_users: int = N_USERS, n_items: int = N_ITEMS) -> UserItems:
    table = np.array(rows, np.int64).reshape(-1, 2)
    return UserItems.from_pairs(table[:, 0], table[:, 1], n_users, n_items)


def make(data: RecommenderData, seed: int = 0, **values: object) -> RecommenderModel:
    h = parse(RecommenderHyperparameters, {**SMALL, **values})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_recommender(h, data, "cpu")


class Trainer:
    """Trains as a trainable does: fused Adam, one generator for the batches, one for dropout."""

    def __init__(self, model: RecommenderModel, seed: int = 0) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=model.h.lr, weight_decay=model.h.weight_decay, fused=True
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def train(self, epochs: int = 1) -> list[float]:
        losses = []
        for _ in range(epochs):
            self.epoch += 1
            self.model.train()
            self.model.start_epoch(self.epoch)
            losses.append(0.0)
            with torch.random.fork_rng():
                torch.manual_seed(self.epoch)
                for batch in self.model.batches(self.generator):
                    loss = self.model.loss(batch)
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                    losses[-1] += loss.item() / self.model.n_batches
        return losses


@torch.inference_mode()
def all_scores(model: RecommenderModel, history: UserItems) -> torch.Tensor:
    model.eval()
    return model.scores(torch.arange(history.n_users), history)


def gradients(model: RecommenderModel) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def ndcg(scores: torch.Tensor, data: RecommenderData, k: int = 10) -> float:
    scores = scores.clone()
    scores[data.train.users, data.train.items] = -math.inf
    users = torch.arange(N_USERS - 1)
    hits = data.validation.dense(users).gather(1, scores[users].topk(k).indices)
    discounts = 1 / torch.log2(torch.arange(k) + 2.0)
    return float((hits * discounts).sum(1).mean() / discounts[:2].sum())


@pytest.fixture(scope="module")
def data() -> RecommenderData:
    return planted()


@pytest.fixture(params=VARIANTS, ids=list(VARIANTS))
def variant(request) -> dict[str, object]:
    return VARIANTS[request.param]


# What all models have in common.


def test_all_names_have_a_model():
    assert tuple(MODELS) == MODEL_NAMES


def test_a_model_learns_more_than_popularity(data, variant):
    model = make(data, **{"dropout": 0.1, **variant})
    trainer = Trainer(model)
    slow = variant["model"] in ("mlp", "sasrec")  # to leave popularity behind
    losses = trainer.train(25 if slow else 12)
    if "pretrain_epochs" in variant:
        losses = losses[2:]  # before, there were two losses
    assert losses[-1] < 0.9 * losses[0] or model.h.loss == "bce"
    assert losses[-1] < losses[0]
    popularity = ndcg(data.train.popularity.float().expand(N_USERS, -1), data)
    assert ndcg(all_scores(model, data.train), data) > popularity + 0.08


def test_scores_are_float32_for_all_items_and_finite_for_newcomers_and_cold_items(data, variant):
    model = make(data, **variant)
    Trainer(model).train()
    scores = all_scores(model, data.train)
    assert scores.shape == (N_USERS, N_ITEMS)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    with torch.inference_mode():
        some = model.scores(torch.tensor([NEWCOMER, 3, 3]), data.train)
    torch.testing.assert_close(some, scores[[NEWCOMER, 3, 3]])


def test_the_same_seed_trains_the_same_model(data, variant):
    models = [make(data, seed=4, **variant) for _ in range(2)]
    losses = [Trainer(model, seed=5).train(2) for model in models]
    assert losses[0] == losses[1]
    assert torch.equal(*(all_scores(model, data.train) for model in models))


def test_a_model_restored_from_its_state_goes_on_exactly(data, variant):
    first = Trainer(make(data, **variant))
    first.train(2)
    second = Trainer(make(data, seed=9, **variant))
    second.train()  # so that there is something to be overwritten
    all_scores(second.model, data.train)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.generator.set_state(first.generator.get_state())
    second.epoch = first.epoch
    expected = all_scores(first.model, data.train)
    assert torch.equal(expected, all_scores(second.model, data.train))
    assert first.train(2) == second.train(2)
    scores = [all_scores(trainer.model, data.train) for trainer in (first, second)]
    assert torch.equal(*scores)
    assert not torch.equal(scores[0], expected)


def test_an_epoch_has_the_batches_that_it_announces(data, variant):
    model = make(data, **{**variant, "batch_size": 37})
    assert len(list(model.batches(torch.Generator()))) == model.n_batches > 5


def test_batches_leave_torchs_own_generator_alone(data, variant):
    model = make(data, **variant)
    before = torch.get_rng_state()
    list(model.batches(torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_has_every_training_pair_once(data, variant):
    model = make(data, **{**variant, "batch_size": 37})
    seen: list[tuple[int, int]] = []
    items_only = isinstance(model, SASRec)
    for batch in model.batches(torch.Generator()):
        if items_only:
            seen += [(0, item) for item in batch[2].tolist()]
        elif isinstance(model, MultVAE) or model.h.loss in FULL_LOSSES:
            seen += zip(batch[0][batch[1]].tolist(), batch[2].tolist(), strict=True)
        else:
            seen += zip(batch[0].tolist(), batch[1][:, 0].tolist(), strict=True)
    users = torch.zeros_like(data.train.items) if items_only else data.train.users
    assert sorted(seen) == sorted(zip(users.tolist(), data.train.items.tolist(), strict=True))


def test_evaluation_sees_a_later_change_of_the_weights(data, variant):
    trainer = Trainer(make(data, **variant))
    before = all_scores(trainer.model, data.train)
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = all_scores(trainer.model, data.train)
    assert not torch.equal(before, after)
    trainer.model.load_state_dict(state)
    assert torch.equal(all_scores(trainer.model, data.train), before)


def test_embeddings_have_a_row_for_each_user_and_item(data, variant):
    model = make(data, **variant)
    model.eval()
    embeddings = model.embeddings()
    assert len(embeddings["items"]) == N_ITEMS
    assert not any(table.requires_grad for table in embeddings.values())
    if isinstance(model, PairModel):
        assert len(embeddings["users"]) == N_USERS
    if isinstance(model, DotModel):
        product = embeddings["users"] @ embeddings["items"].T
        torch.testing.assert_close(product, all_scores(model, data.train))


def test_scores_of_all_items_agree_with_scores_pair_by_pair(data, variant):
    model = make(data, **variant)
    if not isinstance(model, PairModel):
        pytest.skip("scores a user's whole row at once")
    Trainer(model).train()
    model.eval()
    users = torch.tensor([5, NEWCOMER, 0])
    items = torch.tensor([[0, 3], [COLD_ITEM, 2], [46, 1]])
    with torch.inference_mode():
        logits = model.logits(users, items)
    torch.testing.assert_close(logits, all_scores(model, data.train)[users[:, None], items])


def test_every_loss_can_be_computed_in_bfloat16(data, variant):
    model = make(data, **{**variant, "dropout": 0.0, "kl_epochs": 0})
    batch = next(iter(model.batches(torch.Generator())))
    exact = model.loss(batch)
    exact.backward()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
        loss.backward()
    torch.testing.assert_close(loss.float(), exact, rtol=0.01, atol=0.0)
    # Those of positives and negatives nearly cancel in a new model, so few digits are left.
    assert (gradients(model) - expected).norm() < 0.15 * expected.norm()


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_does(data, variant):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    values = {**variant, "dropout": 0.0, "lr": 1e-3}
    on_cpu, h = make(data, **values), parse(RecommenderHyperparameters, {**SMALL, **values})
    on_gpu = make_recommender(h, data, "cuda")
    on_gpu.load_state_dict(on_cpu.state_dict())
    losses = [Trainer(model).train(2) for model in (on_cpu, on_gpu)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    on_gpu.eval()
    with torch.inference_mode():
        scores = on_gpu.scores(torch.arange(N_USERS, device="cuda"), data.train.to("cuda"))
    torch.testing.assert_close(scores.cpu(), all_scores(on_cpu, data.train), rtol=1e-2, atol=1e-2)


# Losses.


def test_losses_on_negatives_agree_with_hand_computed_values():
    positive, negative = torch.tensor([math.log(3.0)]), torch.tensor([[0.0, math.log(2.0)]])
    # sigmoid(log 3 - 0) = 3 / 4, sigmoid(log 3 - log 2) = 3 / 5
    assert bpr_loss(positive, negative).item() == pytest.approx(-math.log(0.75 * 0.6) / 2)
    # sigmoid(log 3) = 3 / 4; 1 - sigmoid(0) = 1 / 2; 1 - sigmoid(log 2) = 1 / 3
    assert bce_loss(positive, negative).item() == pytest.approx(-math.log(0.75 / 2 / 3) / 3)
    assert softmax_loss(positive, negative).item() == pytest.approx(-math.log(3 / (3 + 1 + 2)))


@pytest.mark.parametrize("loss", [bpr_loss, bce_loss, softmax_loss])
def test_a_negative_that_is_not_valid_counts_for_nothing(loss):
    positive, negative = torch.randn(4), torch.randn(4, 3)
    valid = torch.ones(4, 4, dtype=torch.bool)
    valid[:, 2] = False
    masked = torch.cat([negative[:, :2], torch.full((4, 1), 50.0), negative[:, 2:]], 1)
    torch.testing.assert_close(loss(positive, masked, valid), loss(positive, negative))


def test_the_full_softmax_is_the_cross_entropy_of_each_pair():
    logits = torch.randn(3, 7)
    rows, items = torch.tensor([0, 0, 2, 1]), torch.tensor([6, 1, 1, 0])
    expected = functional.cross_entropy(logits[rows], items)
    torch.testing.assert_close(full_softmax_loss(logits, rows, items), expected)


def test_the_in_batch_softmax_takes_off_the_logarithm_of_popularity(data):
    model = make(data, model="mf", sampling="in-batch", dropout=0.0)
    users, items, valid = next(iter(model.batches(torch.Generator())))
    shares = data.train.popularity / len(data.train)
    expected = 0.0
    owned = data.train.dense(torch.arange(N_USERS))
    scores = all_scores(model, data.train) - shares.clamp(min=1e-12).log()
    for user, item in zip(users.tolist(), items[:, 0].tolist(), strict=True):
        others = [other for other in items[:, 0].tolist() if owned[user, other] == 0]
        row = torch.cat([scores[user, [item]], scores[user, others]])
        expected += (torch.logsumexp(row, 0) - row[0]).item() / len(users)
    assert model.loss((users, items, valid)).item() == pytest.approx(expected, rel=1e-5)


def test_popularity_sampling_takes_its_logarithm_off_the_softmax_too(data):
    model = make(data, model="mf", sampling="popularity", dropout=0.0)
    users, items = next(iter(model.batches(torch.Generator())))
    weights = data.train.popularity.clamp(min=1).double() ** 0.75
    corrected = model.logits(users, items) - (weights / weights.sum()).log().float()[items]
    expected = functional.cross_entropy(corrected, torch.zeros(len(users), dtype=torch.int64))
    torch.testing.assert_close(model.loss((users, items)), expected)


@pytest.mark.parametrize("name", ["mf", "gmf", "mlp", "neumf", "two-tower", "lightgcn"])
def test_l2_shrinks_what_a_batch_looks_up(data, name):
    batch = (torch.tensor([1, 2]), torch.tensor([[3, 4, 5], [6, 3, 7]]))
    plain, with_l2 = (make(data, model=name, l2=l2, dropout=0.0) for l2 in (0.0, 0.5))
    users, items = with_l2.looked_up(batch[0], batch[1].flatten())
    squares = items.square().sum(1).view(2, 3)
    penalty = users.square().sum() / 2 + squares[:, 0].sum() / 2 + squares[:, 1:].sum() / 4
    torch.testing.assert_close(with_l2.loss(batch) - plain.loss(batch), 0.5 * penalty)


# LightGCN.


def test_the_graph_of_lightgcn_is_normalised_on_both_sides():
    graph = normalised_graph(pairs([(0, 0), (0, 1), (1, 1)], 3, 2)).to_dense()
    expected = torch.zeros(5, 5)
    for row, column, value in ((0, 3, 1 / 2**0.5), (0, 4, 0.5), (1, 4, 1 / 2**0.5)):
        expected[row, column] = expected[column, row] = value
    torch.testing.assert_close(graph, expected)


def test_lightgcn_agrees_with_dense_matrices_in_value_and_gradient(data):
    model = make(data, model="lightgcn", hops=3)
    assert isinstance(model, LightGCN)
    g = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS)
    g[data.train.users, N_USERS + data.train.items] = 1.0
    g = g + g.T
    scale = g.sum(1).clamp(min=1).rsqrt()
    a = scale[:, None] * g * scale
    e = torch.cat([model.users.weight, model.items.weight])
    expected = (e + a @ e + a @ a @ e + a @ a @ a @ e) / 4
    users, items = torch.tensor([4, NEWCOMER]), torch.tensor([[1, 2], [3, COLD_ITEM]])
    logits = (expected[users][:, None] * expected[N_USERS + items]).sum(2)
    gradients = [
        torch.autograd.grad(output.square().sum(), list(model.parameters()), retain_graph=True)
        for output in (model.eval().logits(users, items), logits)
    ]
    torch.testing.assert_close(model.logits(users, items), logits)
    torch.testing.assert_close(gradients[0], gradients[1])


# NeuMF.


def test_the_split_first_layer_equals_the_network_on_both_embeddings_side_by_side(data):
    model = make(data, model="neumf", layers=2)
    assert isinstance(model, NeuMF)
    assert model.product is not None
    users, items = torch.arange(N_USERS), torch.arange(N_ITEMS)
    u, i = torch.meshgrid(users, items, indexing="ij")
    x = torch.cat([model.tower.users(u), model.tower.items(i)], 2)
    for layer in model.tower.hidden:
        x = functional.relu(layer(x))
    gmf = model.product.users(u) * model.product.items(i)
    expected = model.tower.out(x) + model.product.out(gmf)
    torch.testing.assert_close(all_scores(model, data.train), expected.squeeze(2).detach())


def test_in_pre_training_the_halves_learn_apart_and_joining_keeps_the_order(data):
    model = make(data, model="neumf", pretrain_epochs=2, dropout=0.0)
    assert isinstance(model, NeuMF)
    assert model.product is not None
    trainer = Trainer(model)
    trainer.train(2)
    batch = next(iter(model.batches(torch.Generator())))
    apart = model.loss(batch)
    halves = [half.pairs(*batch) for half in (model.product, model.tower)]
    torch.testing.assert_close(apart, sum(model.pair_loss(half, batch[1]) for half in halves))
    before = all_scores(model, data.train)
    model.start_epoch(3)
    model.train()
    torch.testing.assert_close(model.logits(*batch), (halves[0] + halves[1]) / 2)
    torch.testing.assert_close(all_scores(model, data.train), before / 2)
    model.start_epoch(4)
    torch.testing.assert_close(all_scores(model, data.train), before / 2)


# Two towers.


def test_features_reach_the_scores_of_users_without_items():
    data = planted()
    features = data.user_features
    assert features is not None
    starts = features.starts.clone()
    starts[-1] += 1  # the newcomer now has a feature too: group 2
    with_feature = UserItems(starts, torch.cat([features.items, torch.tensor([2])]), N_GROUPS)
    data = RecommenderData(data.train, data.validation, with_feature, data.item_features)
    model = make(data, model="two-tower", layers=0, loss="full-softmax", l2=1e-3)
    Trainer(model).train(30)
    row = all_scores(model, data.train)[NEWCOMER, : N_ITEMS - 1]
    groups = torch.arange(N_ITEMS - 1) % N_GROUPS
    means = [row[groups == group].mean().item() for group in range(N_GROUPS)]
    assert max(means) == means[2]


def test_the_mean_of_the_features_is_added_to_the_identity(data):
    model = make(data, model="two-tower", layers=0)
    ids, table = model.items.ids.weight, model.items.feature_table.weight
    vectors = model.items(torch.tensor([0, COLD_ITEM, 5]))
    torch.testing.assert_close(vectors[0], ids[0] + (table[0] + table[1]) / 2)
    torch.testing.assert_close(vectors[1], ids[COLD_ITEM])
    torch.testing.assert_close(vectors[2], ids[5] + table[2])


def test_two_towers_do_without_features(data):
    bare = RecommenderData(data.train, data.validation)
    model = make(bare, model="two-tower")
    Trainer(model).train()
    assert all_scores(model, data.train).isfinite().all()


def test_cosine_scores_are_within_one_over_the_temperature(data):
    model = make(data, model="two-tower", similarity="cosine", temperature=0.25)
    scores = all_scores(model, data.train)
    assert scores.abs().max() <= 4.0 + 1e-5


# Mult-VAE.


def test_the_divergence_counts_more_and_more_up_to_its_weight(data):
    model = make(data, model="mult-vae", kl_weight=0.3, kl_epochs=2, batch_size=20)
    assert isinstance(model, MultVAE)
    assert model.kl_weight == 0.0
    trainer = Trainer(model)
    trainer.train()
    assert model.kl_weight.item() == pytest.approx(0.15)
    trainer.train(2)
    assert model.kl_weight.item() == pytest.approx(0.3)


def test_the_squared_loss_of_an_epoch_is_that_of_implicit_als(data):
    model = make(data, model="mf", loss="full-square", l2=0.02, unobserved_weight=0.4, dropout=0.0)
    reference = IALS(d=8, reg=0.02, alpha0=0.4, sweeps=1)
    reference.fit(data.train)
    with torch.no_grad():
        model.users.weight.copy_(reference.users)
        model.items.weight.copy_(reference.items)
    batches = list(model.batches(torch.Generator()))
    assert len(batches) > 1
    total = sum(model.loss(batch).item() * len(batch[2]) for batch in batches)
    # Users without items are in no batch. Their factors are zero in implicit ALS, where they count
    # in the items' penalty only.
    absent = int((data.train.counts == 0).sum())
    theirs = 0.4 * 0.02 * absent * float(reference.items.square().sum())
    assert total == pytest.approx(reference.loss(data.train) - theirs, rel=1e-5)


def test_the_loss_of_mult_vae_is_the_evidence_bound_per_pair(data):
    model = make(data, model="mult-vae", kl_weight=0.3, kl_epochs=0, dropout=0.0)
    assert isinstance(model, MultVAE)
    users, rows, items, noise = next(iter(model.batches(torch.Generator())))
    x = data.train.dense(users)
    hidden = torch.tanh(model.encoder(x / x.sum(1, keepdim=True).sqrt()))
    mean, log_variance = model.latent(hidden).chunk(2, 1)
    prior = torch.distributions.Normal(0.0, 1.0)
    posterior = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum()
    state = mean + noise * posterior.stddev
    log_likelihood = torch.log_softmax(model.out(torch.tanh(model.decoder(state))), 1)
    expected = (0.3 * divergence - (x * log_likelihood).sum()) / x.sum()
    torch.testing.assert_close(model.loss((users, rows, items, noise)), expected)


def test_the_history_decides_what_mult_vae_and_sasrec_recommend(data):
    later = data.train.followed_by(data.validation)
    for name in ("mult-vae", "sasrec"):
        model = make(data, model=name)
        Trainer(model).train()
        scores = all_scores(model, data.train)
        assert not torch.allclose(scores[0], all_scores(model, later)[0])
        torch.testing.assert_close(scores[NEWCOMER], all_scores(model, later)[NEWCOMER])


# SASRec.


def test_a_later_item_changes_no_earlier_state(data):
    model = make(data, model="sasrec", heads=2).eval()
    assert isinstance(model, SASRec)
    tokens, lengths = torch.randint(N_ITEMS, (3, 6)), torch.full((3,), 6)
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % N_ITEMS
    before, after = model.states(tokens, lengths), model.states(changed, lengths)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(2).any()


def test_a_user_is_scored_alike_alone_and_among_users_with_more_items(data):
    model = make(data, model="sasrec").eval()
    users = torch.arange(N_USERS)
    with torch.inference_mode():
        alone = torch.cat([model.scores(user[None], data.train) for user in users])
    torch.testing.assert_close(alone, all_scores(model, data.train))


def test_sasrec_scores_users_in_blocks_of_bounded_size(data, monkeypatch):
    model = make(data, model="sasrec")
    assert isinstance(model, SASRec)
    expected = all_scores(model, data.train)
    sizes = []
    states = model.states
    monkeypatch.setattr(model, "states", lambda *args: sizes.append(args[0].shape) or states(*args))
    # A user takes 6 tokens (the history of most is longer) of 3 * dim = 24 values.
    monkeypatch.setattr(sasrec, "_VALUES_AT_ONCE", 10 * 6 * 24)
    torch.testing.assert_close(all_scores(model, data.train), expected)
    assert [size[0] for size in sizes] == [10] * 9
    assert max(size[1] for size in sizes) == 6
    monkeypatch.setattr(sasrec, "_VALUES_AT_ONCE", 1)  # a user at a time at least
    torch.testing.assert_close(all_scores(model, data.train), expected)
    none = torch.zeros(0, dtype=torch.int64)
    with torch.inference_mode():
        assert model.scores(none, data.train).shape == (0, N_ITEMS)


@pytest.mark.parametrize("model", ["mf", "sasrec", "neumf"])
def test_a_model_that_only_scores_makes_no_table_for_negatives(data, model, monkeypatch):
    monkeypatch.setattr(NegativeSampler, "_owned", property(lambda _: pytest.fail("a table")))
    all_scores(make(data, model=model), data.train)
    if model != "neumf":
        Trainer(make(data, model=model, loss="full-softmax")).train()


def test_sasrec_sees_the_newest_items_in_their_order():
    rows = [(0, item) for item in range(9)] + [(1, item) for item in (30, 31, *range(2, 9))]
    rows += [(2, item) for item in (3, 4, 5, 6, 8, 7)]
    history = pairs(rows, 4)
    model = make(RecommenderData(history, history), model="sasrec", max_length=6)
    scores = all_scores(model, history)
    torch.testing.assert_close(scores[0], scores[1])  # 3 .. 8 in both
    assert not torch.allclose(scores[0], scores[2])


def test_windows_pair_each_token_with_the_item_that_follows():
    rows = [(0, item) for item in (10, 11, 12, 13, 14)] + [(2, 20), (2, 21)]
    train = pairs(rows, 3)
    model = make(RecommenderData(train, train), model="sasrec", max_length=3, heads=1)
    start = N_ITEMS
    expected = {
        ((start, 10), (10, 11)),  # the oldest window is the short one
        ((11, 12, 13), (12, 13, 14)),
        ((start, 20), (20, 21)),
    }
    found = set()
    for tokens, lengths, targets, negatives in model.batches(torch.Generator()):
        assert negatives.shape == (len(targets), SMALL["negatives"])
        parts = torch.split(targets, lengths.tolist())
        for row, length, part in zip(tokens.tolist(), lengths.tolist(), parts, strict=True):
            found.add((tuple(row[:length]), tuple(part.tolist())))
    assert found == expected


# Hyperparameters.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "neumf", "loss": "full-softmax"}, "use bpr, bce or softmax"),
        ({"model": "sasrec", "loss": "full-square"}, "use full-softmax"),
        ({"model": "mlp", "sampling": "in-batch"}, "use uniform or popularity, or one of mf"),
        ({"model": "sasrec", "sampling": "in-batch"}, "is not possible with model='sasrec'"),
        ({"model": "sasrec", "dim": 64, "heads": 3}, "heads=3 must divide dim=64"),
        ({"model": "mlp", "layers": 0}, "layers=0 must be in"),
        ({"model": "mlp", "layers": 5, "width": 16}, "width=16 cannot be halved layers=5 times"),
        ({"model": "fism"}, "model='fism' must be one of mf, gmf"),
        ({"negatives": 0}, "negatives=0 must be a whole number in"),
    ],
)
def test_what_contradicts_is_refused_by_name(values, message):
    with pytest.raises(SpaceError, match=message):
        parse(RecommenderHyperparameters, values)


def test_what_has_no_effect_is_accepted():
    for loss in LOSSES:
        parse(RecommenderHyperparameters, {"model": "mult-vae", "loss": loss, "heads": 7})
    for name in DOT_MODELS:
        parse(RecommenderHyperparameters, {"model": name, "sampling": "in-batch", "layers": 0})


# Real data.


@pytest.mark.parametrize(
    "values",
    [
        {"model": "mf", "loss": "full-softmax", "lr": 0.01},
        {"model": "mult-vae", "lr": 0.005},
    ],
    ids=["mf", "mult-vae"],
)
def test_a_few_epochs_beat_popularity_on_movielens(shared_data, values):
    table = np.loadtxt(shared_data / "ml-100k" / "u.data", np.int64)
    table = table[np.lexsort((table[:, 3], table[:, 0]))]
    users, items = table[:, 0] - 1, table[:, 1] - 1
    counts = np.bincount(users)
    place = np.arange(len(users)) - (np.cumsum(counts) - counts)[users]
    late = place >= 0.9 * counts[users]
    train, held_out = (
        UserItems.from_pairs(users[part], items[part], 943, 1682) for part in (~late, late)
    )
    data = RecommenderData(train, held_out)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_recommender(parse(RecommenderHyperparameters, values), data, "cpu")
    Trainer(model).train(6)
    popularity = train.popularity.float().expand(943, -1)
    values = {}
    for name, scores in (("model", all_scores(model, train)), ("popularity", popularity)):
        scores = scores.clone()
        scores[train.users, train.items] = -math.inf
        hits = held_out.dense(torch.arange(943)).gather(1, scores.topk(10).indices)
        values[name] = (hits.sum() / 943).item()
    assert values["model"] > 1.15 * values["popularity"]
