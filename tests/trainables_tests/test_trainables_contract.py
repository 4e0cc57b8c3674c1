"""The trainable contract, run on every trainable, and on the example in `TorchTrainable`."""

from __future__ import annotations

import inspect
import textwrap
from typing import ClassVar

import pytest
import torch
from torch import nn

from tests.contracts.trainable_contract import TrainableContract
from trainables import (
    CifarResNetTrainable,
    MnistTrainable,
    RecommenderTrainable,
    Subset,
    TorchTrainable,
    Training,
)


class TestMnistCnn(TrainableContract):
    cls = MnistTrainable
    configuration: ClassVar = {
        "model": "cnn",
        "filters": 8,
        "stages": 2,
        "dropout": 0.3,
        "l1": 1e-5,
    }
    other_configuration: ClassVar = {"model": "mlp", "optimizer": "sgd", "lr": 0.05}
    diverging: ClassVar = {
        "model": "cnn",
        "filters": 8,
        "stages": 2,
        "optimizer": "sgd",
        "l2": 10.0,
        "lr": 99.0,
    }

    @pytest.fixture
    def settings(self, data_dir):
        return MnistTrainable.default_settings("digits", data_dir, train_images=300)


class TestMnistMlp(TestMnistCnn):
    configuration: ClassVar = {
        "model": "mlp",
        "width": 32,
        "dropout": 0.3,
        "optimizer": "rmsprop",
        "lr": 1e-3,
    }
    diverging: ClassVar = {"model": "mlp", "width": 32, "optimizer": "sgd", "lr": 99.0, "l2": 10.0}


class TestCifarResNet(TrainableContract):
    cls = CifarResNetTrainable
    configuration: ClassVar = {
        "depth": "resnet8",
        "filters": 4,
        "dropout": 0.2,
        "activation": "prelu",
        "batch_size": 32,
        "label_smoothing": 0.1,
    }
    other_configuration: ClassVar = {
        "depth": "resnet8",
        "filters": 6,
        "optimizer": "adamw",
        "lr": 0.01,
    }
    diverging: ClassVar = {"depth": "resnet8", "filters": 4, "lr": 99.0, "weight_decay": 9.0}

    @pytest.fixture
    def settings(self, data_dir):
        settings = CifarResNetTrainable.default_settings("digits", data_dir, train_images=200)
        return {**settings, "image_size": 8, "padding": 1, "flip": True}


class RecommenderContract(TrainableContract):
    cls = RecommenderTrainable
    other_configuration: ClassVar = {"model": "mf", "dim": 8, "lr": 0.02}
    diverging: ClassVar = {
        "model": "mf",
        "dim": 8,
        "lr": 99.0,
        "weight_decay": 9.0,
        "batch_size": 16,
    }
    share = "validation_hit@10"
    others = ("validation_recall@20", "validation_coverage@10", "validation_standard_error")

    @pytest.fixture
    def settings(self, purchases):
        return RecommenderTrainable.default_settings(f"file:{purchases}", max_epochs=9)


class TestMatrixFactorisation(RecommenderContract):
    configuration: ClassVar = {"model": "mf", "dim": 16, "negatives": 4, "l2": 1e-4}


class TestNeuMFWithPretraining(RecommenderContract):
    configuration: ClassVar = {
        "model": "neumf",
        "dim": 8,
        "width": 32,
        "negatives": 2,
        "pretrain_epochs": 2,
    }


class TestMultVAE(RecommenderContract):
    configuration: ClassVar = {"model": "mult-vae", "dim": 16, "width": 64, "batch_size": 64}


class TestSASRec(RecommenderContract):
    configuration: ClassVar = {
        "model": "sasrec",
        "dim": 16,
        "width": 32,
        "loss": "full-softmax",
        "max_length": 20,
    }


def example_class() -> type[TorchTrainable]:
    """Run the example in the docstring of `TorchTrainable`."""
    doc = inspect.getdoc(TorchTrainable) or ""
    source = textwrap.dedent(doc.split("A trainable of your own::")[1])
    names = {
        "torch": torch,
        "nn": nn,
        "Subset": Subset,
        "TorchTrainable": TorchTrainable,
        "Training": Training,
    }
    exec(source, names)
    cls = names["Moons"]
    assert isinstance(cls, type)
    return cls


class TestTheExample(TrainableContract):
    cls = example_class()
    configuration: ClassVar = {"width": 32, "lr": 0.02}
    other_configuration: ClassVar = {"width": 8, "lr": 0.1}
    diverging: ClassVar = {"width": 32, "lr": 1e36}

    @pytest.fixture
    def settings(self):
        return {"seed": 1, "max_epochs": 5}

    def test_the_example_learns(self, make):
        trainable = make()
        for _ in range(5):
            result = trainable.step()
        assert result["validation_accuracy"] > 0.8
