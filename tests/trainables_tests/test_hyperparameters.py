"""Hyperparameters are checked by name; optimizers, schedules and penalties do what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from raytune_ahu.errors import SpaceError, SpecError
from trainables import ImageSettings, MnistHyperparameters, ResNetHyperparameters
from trainables.hyperparameters import parse
from trainables.optimisation import (
    OPTIMIZERS,
    Optimisation,
    make_optimizer,
    make_schedule,
    penalise,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "swishh"}, "activation='swishh' must be one of relu, leaky_relu"),
        ({"optimizer": "adamm"}, "optimizer='adamm' must be one of sgd, adam, adamw, rmsprop"),
        ({"lr": 0}, r"lr=0 must be a number in \[1e-08, 100\]"),
        ({"lr": math.nan}, "lr=nan must be a number"),
        ({"lr": "0.1"}, "lr='0.1' must be a number"),
        ({"lr": True}, "lr=True must be a number"),
        ({"batch_size": 64.0}, "batch_size=64.0 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"filter_size": 4}, "filter_size=4 must be one of 3, 5, 7"),
        ({"filters": None, "lr": None}, "lr=None must be a number"),
        ({"learning_rate": 0.1}, "hyperparameter 'learning_rate' is unknown; known are optimizer"),
        ({"dropuot": 0.1}, "did you mean 'dropout'"),
    ],
)
def test_wrong_hyperparameters_are_refused_by_name(values, message):
    with pytest.raises(SpaceError, match=message):
        parse(ResNetHyperparameters, values)


def test_missing_hyperparameters_take_their_defaults():
    h = parse(ResNetHyperparameters, {"lr": 1, "filters": 8})
    assert (h.lr, h.filters, h.optimizer, h.filter_size) == (1.0, 8, "sgd", 3)
    assert isinstance(h.lr, float)
    assert parse(MnistHyperparameters, {}) == MnistHyperparameters()


def test_settings_are_checked_in_the_same_way():
    with pytest.raises(SpecError, match="setting 'epochs' is unknown"):
        parse(ImageSettings, {"epochs": 3}, what="setting", error=SpecError)
    with pytest.raises(SpecError, match="flip='no' must be true or false, or null"):
        parse(ImageSettings, {"flip": "no"}, what="setting", error=SpecError)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_decays_weights_only(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.Linear(8, 1))
    h = Optimisation(optimizer=name, lr=0.02, weight_decay=0.01)
    optimizer = make_optimizer(h, model)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model[0].weight), id(model[3].weight)}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    inputs = torch.randn(64, 4)
    losses = []
    for _ in range(60):
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_optimizers_take_their_own_hyperparameters():
    model = nn.Linear(2, 2)
    h = Optimisation(momentum=0.3, beta1=0.5, beta2=0.6)
    by_name = {
        name: make_optimizer(Optimisation(**{**vars(h), "optimizer": name}), model)
        for name in OPTIMIZERS
    }
    assert by_name["sgd"].defaults["momentum"] == 0.3
    assert by_name["sgd"].defaults["nesterov"]
    assert by_name["rmsprop"].defaults["momentum"] == 0.3
    assert by_name["adam"].defaults["betas"] == (0.5, 0.6)
    assert isinstance(by_name["adamw"], torch.optim.AdamW)
    plain = make_optimizer(Optimisation(momentum=0.0), model)
    assert not plain.defaults["nesterov"]


def rates(h, steps):
    optimizer = make_optimizer(h, nn.Linear(1, 1))
    schedule = make_schedule(h, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen, optimizer.param_groups[0]["lr"]


def test_the_cosine_schedule_rises_linearly_then_falls_to_zero():
    seen, final = rates(Optimisation(lr=2.0, warmup_fraction=0.2), 100)
    assert seen[0] == pytest.approx(2 / 21)
    assert seen[19] == pytest.approx(2 * 20 / 21)
    assert seen[20] == 2.0
    assert seen[60] == pytest.approx(1.0)
    assert seen[20:] == sorted(seen[20:], reverse=True)
    assert final == pytest.approx(0.0)


def test_the_schedule_stays_at_zero_beyond_its_end():
    optimizer = make_optimizer(Optimisation(), nn.Linear(1, 1))
    schedule = make_schedule(Optimisation(), optimizer, 10)
    optimizer.step()
    for _ in range(25):
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_the_constant_schedule_stays_after_its_rise():
    seen, final = rates(Optimisation(lr=0.5, schedule="constant", warmup_fraction=0.0), 7)
    assert [*seen, final] == [0.5] * 8


def test_penalties_are_the_gradient_of_the_penalised_loss():
    torch.manual_seed(1)
    l1, l2 = 0.03, 0.2
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    inputs = torch.randn(10, 3)
    loss = model(inputs).square().mean()
    weights = [p for p in model.parameters() if p.ndim > 1]
    penalty = sum(l1 * w.abs().sum() + l2 * w.square().sum() for w in weights)
    expected = torch.autograd.grad(loss + penalty, list(model.parameters()))
    model.zero_grad()
    model(inputs).square().mean().backward()
    add = penalise(model.parameters(), l1, l2)
    assert add is not None
    add()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_without_penalties_there_is_nothing_to_add():
    assert penalise([torch.zeros(2, 2)], 0.0, 0.0) is None
