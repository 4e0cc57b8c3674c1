"""The exported classifier answers as the trained one, in a process that knows nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from raytune_ahu.errors import StorageError
from trainables import CifarResNetTrainable, MnistTrainable
from trainables.data import registry
from trainables.exporting import export_classifier
from trainables.model_card import ModelCard

CLASSIFY = """
    import sys
    import torch
    from safetensors.torch import load_file, save_file
    folder, images, answers = sys.argv[1:]
    load = {load}
    with torch.inference_mode():
        model = load(folder + "/{file}")
        found = [model(some) for some in load_file(images)["images"].split([1, 2, 30])]
    known = {{name.split(".")[0] for name in sys.modules}}
    assert not known & {{"raytune_ahu", "trainables", "schedulers", "ray"}}, known
    save_file({{"probabilities": torch.cat(found)}}, answers)
"""
PROGRAM = ("model.pt2", "lambda path: torch.export.load(path).module()")
SCRIPT = ("model.ts", "torch.jit.load")


def card(**changes):
    fields = {
        "name": "search",
        "trainable": "trainables.mnist:MnistTrainable",
        "data": "Some digits.",
        "configuration": {"model": "cnn"},
        "settings": {"seed": 0},
        "search": "Found by bohb with asha: 40 trials.",
        "metric": "validation_accuracy",
        "validation": 0.9875,
        "chosen": "trial_00007 at epoch 8",
        "epochs": 9,
        "test": {"test_accuracy": (0.9, 0.8, 0.7), "test_loss": (0.1, 0.2, 0.3)},
        "seeds": (11, 12, 13),
        "readings": ("on a day by kim",),
        "versions": {"torch": "2"},
        "date": "2026-01-01",
    }
    return ModelCard(**{**fields, **changes})


@pytest.fixture
def trained(data_dir):
    def train(cls, configuration, **changes):
        settings = cls.default_settings("digits", data_dir, max_epochs=1, train_images=100)
        trainable = cls({**configuration, "settings": {**settings, **changes}})
        trainable.step()
        return trainable

    return train


def some_images(trainable):
    settings = trainable.resolve_settings(trainable._settings)
    data = registry.load_part("digits", settings.data_dir, "train", settings.image_size)
    return data.images[:33]


def answers_here(trainable, images):
    training = trainable.training
    training.model.eval()
    with torch.inference_mode():
        return training.model(training.transform(images)).softmax(1)


def answers_elsewhere(folder, images, tmp_path, kind):
    from safetensors.torch import save_file

    save_file({"images": images.contiguous()}, tmp_path / "images")
    file, load = kind
    code = textwrap.dedent(CLASSIFY).format(file=file, load=load)
    subprocess.run(
        [sys.executable, "-c", code, str(folder), "images", "answers"], check=True, cwd=tmp_path
    )
    return load_file(tmp_path / "answers")["probabilities"]


@pytest.mark.parametrize(
    ("cls", "configuration"),
    [
        (MnistTrainable, {"model": "mlp", "width": 16, "dropout": 0.5}),
        pytest.param(MnistTrainable, {"filters": 4, "stages": 2}, marks=pytest.mark.slow),
        pytest.param(
            CifarResNetTrainable, {"depth": "resnet8", "filters": 4}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_process_without_this_project_gets_the_same_predictions(
    cls, configuration, trained, tmp_path
):
    trainable = trained(cls, configuration)
    folder = export_classifier(tmp_path / "export", trainable, card())
    images = some_images(trainable)
    expected = answers_here(trainable, images)
    found = answers_elsewhere(folder, images, tmp_path, PROGRAM)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_torchscript_takes_over_where_torch_export_cannot(trained, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.export, "export", refuse)
    trainable = trained(MnistTrainable, {"model": "mlp", "width": 16})
    folder = export_classifier(tmp_path / "export", trainable, card())
    assert not (folder / "model.pt2").exists()
    assert "torch.jit.load" in (folder / "README.md").read_text()
    images = some_images(trainable)
    found = answers_elsewhere(folder, images, tmp_path, SCRIPT)
    torch.testing.assert_close(found, answers_here(trainable, images), atol=1e-5, rtol=0)


def test_the_folder_holds_weights_configuration_and_card(trained, tmp_path):
    trainable = trained(MnistTrainable, {"model": "mlp", "width": 16})
    before = {name: t.clone() for name, t in trainable.training.model.state_dict().items()}
    folder = export_classifier(tmp_path / "export", trainable, card())
    export_classifier(tmp_path / "export", trainable, card(date="later"))  # takes its place
    assert [path.name for path in tmp_path.iterdir() if "export" in path.name] == ["export"]
    weights = load_file(folder / "weights.safetensors")
    assert weights.keys() == before.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, before[name])
    described = json.loads((folder / "configuration.json").read_text())
    assert described["input"]["shape"] == ["n", 1, 8, 8]
    assert described["output"]["shape"] == ["n", 10]
    assert (described["exported_seed"], described["date"]) == (11, "later")
    text = (folder / "README.md").read_text()
    assert "| accuracy | 0.8 ± 0.1 | 0.9 |" in text
    assert "those of seed 11, the first one, fixed before the test was read" in text
    assert "1. on a day by kim" in text
    trainable.step()  # and goes on as if nothing had happened


def test_a_card_of_one_seed_claims_no_spread():
    text = card(test={"test_accuracy": (0.9,)}, seeds=(11,)).to_markdown("use it")
    assert "one seed, so nothing is known of its spread" in text
    assert "| accuracy | 0.9 | 0.9 |" in text


def test_an_export_that_cannot_be_written_leaves_the_old_one(trained, tmp_path, monkeypatch):
    trainable = trained(MnistTrainable, {"model": "mlp", "width": 16})
    folder = export_classifier(tmp_path / "export", trainable, card())
    before = (folder / "README.md").read_text()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save", full)
    with pytest.raises(StorageError, match=r"the model cannot be written to .*export"):
        export_classifier(folder, trainable, card(date="later"))
    assert (folder / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if "export" in path.name] == ["export"]
