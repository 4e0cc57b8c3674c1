"""`TorchTrainable`: a training on rows of inputs and targets; the one to make your own from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from raytune_ahu.errors import SpecError
from raytune_ahu.types import Configuration
from trainables.data.images import Subset
from trainables.epoch_trainable import EpochTrainable
from trainables.loops import Optimised, Training, evaluate, train_epoch


class TorchTrainable(EpochTrainable):
    """A model trained on rows of inputs and targets. Subclasses implement `build`.

    `step` reports `validation_accuracy` and what else `Training.measure` returns,
    `validation_loss`, `train_loss` (mean over the epoch, without penalties), and what else
    `EpochTrainable` says, which also lists the settings, and what is promised.

    A configuration that is chosen can be trained on training and validation rows together, where
    there is `load_test` and `build` makes no schedule (or heeds `fits_all`, see `final_training`).

    A trainable of your own::

        class Moons(TorchTrainable):
            def build(self, configuration, settings):
                inputs = torch.randn(600, 2, generator=self.generator("data"))
                targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
                width = configuration["width"]
                model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))
                return Training(
                    model=model,
                    optimizer=torch.optim.Adam(model.parameters(), lr=configuration["lr"]),
                    train=Subset.whole(inputs[:500], targets[:500]),
                    validation=Subset.whole(inputs[500:], targets[500:]),
                    batch_size=50,
                )
    """

    metric: ClassVar[str] = "validation_accuracy"
    _other_metrics: ClassVar[tuple[str, ...]] = ("validation_loss",)

    _training: Training

    @abstractmethod
    def build(self, configuration: Configuration, settings: dict[str, Any]) -> Training:
        """Make model, optimizer and data of a new trial. torch's generator is seeded before.

        Args:
            configuration: The hyperparameters, without `settings`.
            settings: The fixed values of the experiment.
        """

    @property
    def training(self) -> Training:
        """What is trained, in its present state."""
        return self._training

    def load_test(self) -> Subset:
        """Open the test rows. Called by `evaluate_test` only.

        Raises:
            NotImplementedError: If the subclass has no test split.
        """
        raise NotImplementedError(f"{type(self).__name__} has no test split")

    def evaluate_test(self) -> dict[str, float]:
        """Measure the model on the test split: `test_loss`, `test_accuracy`, ...

        For the final evaluation of a chosen configuration only; nothing else reads that split.

        Raises:
            NotImplementedError: As `load_test`.
        """
        measured = evaluate(self._training, self.load_test().to(self.device), self._precision)
        return {f"test_{name}": value for name, value in measured.items()}

    @classmethod
    def check_retraining(cls) -> None:
        """Check that there is a test split.

        Raises:
            SpecError: If not.
        """
        if cls.load_test is TorchTrainable.load_test:
            raise SpecError(
                f"{cls.__name__} has no test split to test a retrained model on; implement its "
                "load_test"
            )

    def final_training(self, training: Optimised) -> Optimised:
        """Add the validation rows to the training rows.

        A schedule was made by `build` for the steps of the training rows alone. A trainable with
        one heeds `fits_all` in its `build`, and overrides this method to return `training`.

        Raises:
            SpecError: If there is a schedule.
        """
        assert isinstance(training, Training)
        if training.schedule is not None:
            raise SpecError(
                f"the schedule of {type(self).__name__} was made for its training rows alone; have "
                "`build` put all rows into `train` where `self.fits_all`, and override "
                "final_training to return its argument"
            )
        training.train = training.train.joined(training.validation)
        return training

    def _train_epoch(self) -> float:
        return train_epoch(
            self._training,
            self._precision,
            self._scaler,
            shuffle=self.generator("shuffle"),
            augment=self.generator("augment"),
        )

    def _validate(self) -> dict[str, float]:
        measured = evaluate(self._training, self._training.validation, self._precision)
        return {f"validation_{name}": value for name, value in measured.items()}
