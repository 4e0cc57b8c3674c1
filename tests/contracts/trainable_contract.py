"""What every trainable must be able to do: subclass `TrainableContract`, give the fields below."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from raytune_ahu.errors import CheckpointError
from trainables import EpochTrainable
from trainables.checkpoint import FILE_NAME


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "epoch_s"}


def tensors(trainable: EpochTrainable) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in trainable._training.model.state_dict().items()}


def assert_bitwise_equal(left: EpochTrainable, right: EpochTrainable) -> None:
    mine, other = tensors(left), tensors(right)
    assert mine.keys() == other.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, other[name]), name


class TrainableContract:
    """Run on a small configuration that uses dropout, batch normalisation and augmentation."""

    cls: ClassVar[type[EpochTrainable]]
    configuration: ClassVar[dict[str, Any]]
    """Trains well."""
    other_configuration: ClassVar[dict[str, Any]]
    """Another one, of another shape."""
    diverging: ClassVar[dict[str, Any]]
    """Its training loss becomes NaN or infinite within 3 epochs."""
    share: ClassVar[str] = "validation_accuracy"
    """A metric that it reports, in [0, 1]."""
    others: ClassVar[tuple[str, ...]] = ("validation_loss",)
    """Further metrics that it reports from the first epoch on."""

    @pytest.fixture
    def settings(self, data_dir) -> dict[str, Any]:
        raise NotImplementedError

    @pytest.fixture
    def make(self, settings):
        def build(configuration=None, **changes):
            chosen = self.configuration if configuration is None else configuration
            return self.cls({**chosen, "settings": {**settings, **changes}})

        return build

    def test_an_epoch_reports_finite_metrics_under_true_names(self, make):
        trainable = make()
        first, second = trainable.train(), trainable.train()
        for result in (first, second):
            for name in (self.cls.metric, *self.others, "train_loss", "learning_rate"):
                assert math.isfinite(result[name]), name
            assert 0 <= result[self.share] <= 1
            assert result["epoch_s"] > 0
            assert "failure" not in result
        assert [first["epoch"], second["epoch"]] == [1, 2]
        assert [first["training_iteration"], second["training_iteration"]] == [1, 2]

    def test_training_lowers_the_loss(self, make):
        trainable = make()
        losses = [trainable.step()["train_loss"] for _ in range(3)]
        assert losses[2] < losses[0]

    def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(self, make):
        first, again, other = make(), make(), make(seed=17)
        expected = without_time(first.step())
        assert without_time(again.step()) == expected
        assert_bitwise_equal(first, again)
        assert without_time(other.step()) != expected

    def test_a_restored_trial_is_bit_for_bit_the_one_that_never_stopped(self, make, tmp_path):
        whole = make()
        expected = [without_time(whole.step()) for _ in range(4)]
        stopped = make()
        for _ in range(2):
            stopped.step()
        stopped.save_checkpoint(str(tmp_path))
        restored = make()
        restored.step()  # a used worker must forget this
        restored.load_checkpoint(str(tmp_path))
        assert [without_time(restored.step()) for _ in range(2)] == expected[2:]
        assert_bitwise_equal(restored, whole)

    def test_saving_does_not_change_what_follows(self, make, tmp_path):
        plain, saved = make(), make()
        plain.step()
        saved.step()
        saved.save_checkpoint(str(tmp_path))
        assert without_time(plain.step()) == without_time(saved.step())

    def test_the_global_generators_are_left_as_they_were(self, make):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        trainable = make()
        trainable.step()
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)  # what others draw must not change the trial
        again = make()
        again.step()
        assert without_time(trainable.step()) == without_time(again.step())

    def test_a_reused_worker_gives_the_numbers_of_a_fresh_one(self, make, settings):
        fresh = make()
        expected = [without_time(fresh.step()) for _ in range(2)]
        reused = make(self.other_configuration)
        reused.step()
        assert reused.reset({**self.configuration, "settings": settings})
        assert [without_time(reused.step()) for _ in range(2)] == expected
        assert_bitwise_equal(reused, fresh)

    def test_reusing_a_worker_leaves_the_configuration_alone(self, make, settings):
        trainable = make()
        config = {**self.configuration, "settings": dict(settings)}
        trainable.reset_config(config)
        assert config == {**self.configuration, "settings": settings}

    def test_a_diverged_trial_reports_nan_and_why_and_stays_so(self, make, tmp_path):
        trainable = make(self.diverging)
        results = [trainable.step() for _ in range(3)]
        last = results[-1]
        assert math.isnan(last[self.cls.metric])
        reported = [value for name, value in last.items() if name.startswith("validation_")]
        assert all(math.isnan(value) for value in reported)
        assert "diverged" in last["failure"]
        trainable.save_checkpoint(str(tmp_path))
        restored = make(self.diverging)
        restored.load_checkpoint(str(tmp_path))
        again = restored.step()
        assert again["failure"] == last["failure"]
        assert math.isnan(again[self.cls.metric])
        assert again["epoch"] == 4

    def test_a_diverged_trial_does_not_spoil_the_next_one_of_its_worker(self, make, settings):
        fresh = make()
        expected = without_time(fresh.step())
        worker = make(self.diverging)
        for _ in range(3):
            worker.step()
        worker.reset({**self.configuration, "settings": settings})
        assert without_time(worker.step()) == expected

    def test_a_checkpoint_of_another_configuration_is_refused(self, make, tmp_path):
        make(self.other_configuration).save_checkpoint(str(tmp_path))
        with pytest.raises(CheckpointError, match="configuration"):
            make().load_checkpoint(str(tmp_path))

    def test_a_damaged_checkpoint_is_refused(self, make, tmp_path):
        trainable = make()
        trainable.save_checkpoint(str(tmp_path))
        path = Path(tmp_path) / FILE_NAME
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="checksum"):
            trainable.load_checkpoint(str(tmp_path))

    def test_ray_can_save_restore_and_stop_it(self, make):
        trainable = make()
        trainable.train()
        saved = trainable.save()
        expected = without_time(trainable.step())
        restored = make()
        restored.restore(saved)
        assert restored.training_iteration == 1
        assert without_time(restored.step()) == expected
        restored.stop()
