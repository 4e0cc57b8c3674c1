"""The two image trainables: settings, default spaces, accuracy on real digits, the test split."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
import torch
from ray.tune import PlacementGroupFactory

from raytune_ahu.errors import DataError, MetricError, SpaceError, SpecError
from raytune_ahu.space import SearchSpace
from trainables import (
    TRAINABLES,
    CifarResNetTrainable,
    MnistTrainable,
    Subset,
    TorchTrainable,
    Training,
    default_space_path,
)

BOTH = [MnistTrainable, CifarResNetTrainable]


def test_default_settings_are_complete_absolute_and_json_ready(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = CifarResNetTrainable.default_settings("digits", "data", seed=3, max_epochs=5)
    assert json.loads(json.dumps(settings)) == settings
    assert settings["data_dir"] == str(tmp_path / "data")
    assert (settings["seed"], settings["max_epochs"]) == (3, 5)
    assert (settings["image_size"], settings["padding"], settings["flip"]) == (16, 2, False)
    assert CifarResNetTrainable.default_settings(**{"dataset": "digits"})["max_epochs"] == 9
    folder = CifarResNetTrainable.default_settings("folder:pets")
    assert folder["dataset"] == f"folder:{tmp_path / 'pets'}"
    assert (folder["image_size"], folder["padding"], folder["flip"]) == (32, 4, True)
    cifar = CifarResNetTrainable.default_settings("cifar10", "data")
    assert (cifar["flip"], cifar["validation_fraction"]) == (True, 0.1)
    mnist = MnistTrainable.default_settings("mnist", "data")
    assert mnist["validation_fraction"] == pytest.approx(1 / 6)
    assert (mnist["padding"], mnist["flip"], mnist["image_size"]) == (0, False, 28)


def test_wrong_settings_are_refused_before_any_trial(data_dir):
    with pytest.raises(DataError, match="use one of digits, mnist"):
        MnistTrainable.default_settings("imagenet")
    with pytest.raises(DataError, match=r"'cifar10' is not known"):
        MnistTrainable.default_settings("cifar10", data_dir)
    with pytest.raises(SpecError, match="max_epochs=0 must be"):
        MnistTrainable.default_settings("digits", max_epochs=0)
    with pytest.raises(SpecError, match="setting 'colour' is unknown"):
        MnistTrainable.prepare({"dataset": "digits", "colour": True})
    settings = MnistTrainable.default_settings("digits", data_dir, train_images=4000)
    with pytest.raises(DataError, match="train_images=4000"):
        MnistTrainable.prepare(settings)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("configuration", [{"activation": "swishh"}, {"layerz": 3}])
def test_wrong_hyperparameters_are_refused(cls, configuration, data_dir):
    with pytest.raises(SpaceError):
        cls.check_configuration(configuration)
    with pytest.raises(SpaceError):
        cls({**configuration, "settings": cls.default_settings("digits", data_dir)})


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "folder:x"])
def test_every_configuration_of_the_default_space_is_accepted(cls, dataset):
    space = SearchSpace.from_file(default_space_path(cls, dataset))
    rng = np.random.default_rng(0)
    for _ in range(100):
        cls.check_configuration(space.sample(rng))


def test_the_digits_have_a_space_of_small_networks():
    assert default_space_path(CifarResNetTrainable, "digits").name == "resnet_digits.yaml"
    assert default_space_path(CifarResNetTrainable, "cifar10").name == "resnet.yaml"
    assert default_space_path(MnistTrainable, "digits").name == "mnist.yaml"
    with pytest.raises(SpecError, match="give one with --space"):
        default_space_path(TorchTrainable, "digits")
    assert list(TRAINABLES) == ["mnist", "resnet", "recommender"]


def test_the_prior_that_a_space_file_shows_in_a_comment_can_be_uncommented(tmp_path):
    text = default_space_path(CifarResNetTrainable, "cifar10").read_text()
    before, _, after = text.partition("#   prior:")
    path = tmp_path / "space.yaml"
    path.write_text(before + "prior:" + after.replace("#   ", ""))
    space = SearchSpace.from_file(path)
    assert space.prior.names == ("optimizer", "lr", "batch_size")
    CifarResNetTrainable.check_configuration(space.prior.mode())
    assert space.without_prior() == SearchSpace.from_file(
        default_space_path(CifarResNetTrainable, "cifar10")
    )


def final_accuracies(cls, configuration, settings):
    trainable = cls({**configuration, "settings": settings})
    results = [trainable.step() for _ in range(settings["max_epochs"])]
    return results[-1]["validation_accuracy"], trainable.evaluate_test()["test_accuracy"]


@pytest.mark.parametrize(
    ("cls", "configuration", "floor"),
    [
        (MnistTrainable, {"model": "mlp", "width": 128, "batch_size": 32}, 0.95),
        (MnistTrainable, {"filters": 16, "batch_size": 32, "lr": 0.01}, 0.97),
    ],
)
def test_a_sane_network_learns_the_digits_in_a_few_epochs(cls, configuration, floor, data_dir):
    settings = cls.default_settings("digits", data_dir, max_epochs=6)
    validation, test = final_accuracies(cls, configuration, settings)
    assert validation >= floor
    assert test >= floor - 0.02


@pytest.mark.slow
def test_a_small_resnet_passes_97_percent_on_the_digits(data_dir):
    settings = CifarResNetTrainable.default_settings("digits", data_dir)
    configuration = {"depth": "resnet8", "lr": 0.3, "batch_size": 32}
    validation, test = final_accuracies(CifarResNetTrainable, configuration, settings)
    assert validation >= 0.97
    assert test >= 0.95


@pytest.mark.slow
def test_a_cnn_passes_98_percent_on_the_real_mnist_in_two_epochs(shared_data, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.parent.mkdir()
    raw.symlink_to(shared_data / "MNIST" / "raw")
    settings = MnistTrainable.default_settings("mnist", tmp_path, max_epochs=2)
    MnistTrainable.prepare(settings)
    configuration = {"filters": 16, "lr": 0.01}
    assert final_accuracies(MnistTrainable, configuration, settings)[0] >= 0.98


def test_training_never_opens_the_test_split(data_dir, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the test split was opened")

    monkeypatch.setattr("trainables.data.registry.load_test", refuse)
    settings = MnistTrainable.default_settings("digits", data_dir, train_images=100)
    trainable = MnistTrainable({"model": "mlp", "settings": settings})
    trainable.step()
    with pytest.raises(AssertionError, match="was opened"):
        trainable.evaluate_test()


def test_a_trial_takes_as_many_threads_as_it_has_cpus(data_dir):
    settings = MnistTrainable.default_settings("digits", data_dir, train_images=100)

    def start(resources):
        info = types.SimpleNamespace(
            trial_resources=PlacementGroupFactory([resources]), trial_id="t", trial_name="t"
        )
        MnistTrainable({"model": "mlp", "settings": settings, "__trial_info__": info})
        return torch.get_num_threads()

    assert start({"CPU": 2}) == 2
    assert start({"CPU": 1}) == 1
    assert start({"CPU": 0.5}) == 1


def test_a_metric_that_is_not_measured_is_named(data_dir):
    class Wrong(MnistTrainable):
        metric = "validation_f1"

    settings = Wrong.default_settings("digits", data_dir, train_images=100)
    trainable = Wrong({"model": "mlp", "settings": settings})
    with pytest.raises(MetricError, match="measures only validation_loss, validation_accuracy"):
        trainable.step()


def test_precision_is_checked(data_dir):
    settings = MnistTrainable.default_settings("digits", data_dir, train_images=100)
    half = MnistTrainable({"model": "mlp", "settings": {**settings, "precision": "bfloat16"}})
    assert half.step()["validation_loss"] > 0
    with pytest.raises(SpecError, match="precision='float8' must be one of"):
        MnistTrainable({"settings": {**settings, "precision": "float8"}})
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match="needs a GPU"):
            MnistTrainable({"settings": {**settings, "precision": "float16"}})


def test_a_regression_of_ones_own_can_minimise_its_loss():
    class Line(TorchTrainable):
        metric = "validation_loss"
        mode = "min"

        def build(self, configuration, settings):
            inputs = torch.linspace(-1, 1, 200)[:, None]
            model = torch.nn.Linear(1, 1)
            return Training(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=configuration["lr"]),
                train=Subset.whole(inputs, 3 * inputs + 1),
                validation=Subset.whole(inputs, 3 * inputs + 1),
                batch_size=20,
                loss=torch.nn.functional.mse_loss,
                validation_loss=torch.nn.functional.mse_loss,
                measure=lambda outputs, targets: {"error": (outputs - targets).abs().mean()},
            )

    trainable = Line({"lr": 0.2})
    for _ in range(5):
        result = trainable.step()
    assert result["validation_loss"] < 0.01
    assert "validation_error" in result
    assert "validation_accuracy" not in result


@pytest.mark.gpu
@pytest.mark.parametrize("cls", BOTH)
def test_on_a_gpu_a_restored_trial_is_bit_for_bit_the_one_that_never_stopped(
    cls, data_dir, tmp_path
):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = {**cls.default_settings("digits", data_dir), "padding": 1, "precision": "float16"}
    config = {"dropout": 0.2, "settings": settings}
    whole, stopped, restored = cls(config), cls(config), cls(config)
    assert whole.device.type == "cuda"
    expected = [whole.step()["train_loss"] for _ in range(3)]
    stopped.step()
    stopped.save_checkpoint(str(tmp_path))
    restored.load_checkpoint(str(tmp_path))
    assert [restored.step()["train_loss"] for _ in range(2)] == expected[1:]
