"""`EpochTrainable`: a training, epoch by epoch, that Ray can stop, save, restore and reuse.

What is trained on what is left to subclasses: `TorchTrainable` (rows of inputs and targets) is the
one to start a trainable of your own from, `RecommenderTrainable` the other one here.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from ray.tune import Trainable

from raytune_ahu.errors import CheckpointError, MetricError, SpecError
from raytune_ahu.seeding import derive_seed
from raytune_ahu.types import FIT_ON_ALL, FIT_ON_KEY, TRIAL_SEED_KEY, Configuration, Mode
from trainables.checkpoint import read_checkpoint, write_checkpoint
from trainables.loops import Optimised, Precision

FITS = ("train", FIT_ON_ALL)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EpochTrainable(Trainable):
    """A model trained epoch by epoch; one `step` is one epoch.

    Subclasses implement `build`, `_train_epoch` and `_validate`. The configuration that Ray passes
    holds the hyperparameters and, under `settings`, the fixed values of the experiment. Understood
    here: `seed` (default 0), `max_epochs` (default `default_max_epochs`), `precision` (`float32` by
    default, `bfloat16`, or `float16` on CUDA), `deterministic` (default true: only reproducible
    convolutions on CUDA) and `fit_on` (`train` by default; `train+validation` for a configuration
    that is chosen, see `final_training`). A configuration may hold a `trial_seed`, which takes the
    place of `seed` for the trial's own randomness; data and splits still follow `seed`.

    `step` reports what `_validate` returns, `train_loss` (mean over the epoch), `epoch` (from 1),
    `learning_rate` (of the next gradient step) and `epoch_s` (seconds). A training that diverged
    (a loss or metric that is NaN or infinite) reports NaN for every validation metric, and why
    under `failure`; it trains no further.

    What is promised, given one device: the same configuration and settings give the same numbers,
    in a fresh worker or a reused one; a trial that was saved and restored goes on as if it had
    never stopped, bit for bit. All randomness comes from generators seeded by name from the seed;
    torch's global generator, which dropout and initialisation draw from, is lent out during
    `build` and each epoch and put back as it was. Numpy's and Python's global generators are not
    looked after: take `self.generator(name)` instead.
    """

    metric: ClassVar[str]
    """The metric to tune, unless the settings say otherwise (`metric_of`)."""
    mode: ClassVar[Mode] = "max"
    """Whether it is maximised or minimised."""
    default_max_epochs: ClassVar[int] = 9
    """Epochs of a full training, unless the settings say otherwise."""

    _other_metrics: ClassVar[tuple[str, ...]] = ()  # NaN too if the first epoch diverges

    verifies_checkpoints: ClassVar[bool] = True
    """Tells the runner that checkpoints carry their own checksum (`trainables.checkpoint`)."""

    max_epochs: int
    """Epochs of a full training of this trial: what a schedule over the whole of it spans."""

    # The state of the one trial that this worker serves now; set by `_start`.
    _build_error: Exception | None  # what a reset raised, until somebody can be told
    _configuration: Configuration
    _settings: dict[str, Any]
    _seed: int  # of the trial's own randomness
    _data_seed: int  # of what all trials share
    _epoch: int  # epochs trained
    _failure: str | None  # why the trial diverged
    _metric: str  # what is tuned
    _metric_names: list[str]  # what to report as NaN after that
    _generators: dict[str, torch.Generator]
    _torch_rng: dict[str, torch.Tensor]  # states of torch's global generators between epochs
    _training: Optimised
    _precision: Precision
    _scaler: torch.amp.GradScaler

    @abstractmethod
    def build(self, configuration: Configuration, settings: dict[str, Any]) -> Optimised:
        """Make model and optimizer of a new trial. torch's generator is seeded before.

        Args:
            configuration: The hyperparameters, without `settings` and `trial_seed`.
            settings: The fixed values of the experiment.
        """

    @abstractmethod
    def _train_epoch(self) -> float:
        """Train one epoch; return the mean training loss."""

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """Measure the model on the validation split; names start with `validation_`."""

    @classmethod
    def metric_of(cls, settings: Mapping[str, Any]) -> str:
        """Return the metric that an experiment with these settings tunes."""
        return cls.metric

    @classmethod
    def check_retraining(cls) -> None:
        """Check that a chosen configuration can be trained on all data, and tested.

        Raises:
            SpecError: If not. So it is unless a subclass says otherwise.
        """
        raise SpecError(
            f"{cls.__name__} cannot be trained on training and validation data together; implement "
            "final_training, evaluate_test and check_retraining"
        )

    @property
    def fits_all(self) -> bool:
        """Whether this trial trains on training and validation data: its settings say so."""
        return bool(self._settings.get(FIT_ON_KEY) == FIT_ON_ALL)

    def final_training(self, training: Optimised) -> Optimised:
        """Make a training on all data out of what `build` made; called where `fits_all`.

        Here it is taken as it is, for a `build` that heeds `fits_all` itself.

        Raises:
            SpecError: If it cannot be done.
        """
        return training

    def evaluate_test(self) -> dict[str, float]:
        """Measure the model on the test split; names start with `test_`.

        For the final evaluation of a chosen configuration only; nothing else reads that split.

        Raises:
            NotImplementedError: If there is no test split.
        """
        raise NotImplementedError(f"{type(self).__name__} has no test split")

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides: tensors and plain values."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` returned."""

    def generator(self, name: str) -> torch.Generator:
        """Return the trial's own CPU generator of that name; its state is in every checkpoint.

        `data`, and names that begin with `data/`, follow the root seed whatever the trial's seed
        is: what is drawn there is the same for all trials.
        """
        if name not in self._generators:
            is_data = name.partition("/")[0] == "data"
            seed = self._data_seed if is_data else self._seed
            generator = torch.Generator()
            generator.manual_seed(derive_seed(seed, "trial", name))
            self._generators[name] = generator
        return self._generators[name]

    @property
    def device(self) -> torch.device:
        """Where the trial computes: the GPU that Ray gave it, else the CPU.

        Outside Ray: the first GPU that there is, else the CPU.
        """
        resources = self.trial_resources
        wanted = resources is None or resources.required_resources.get("GPU", 0) > 0
        return torch.device("cuda:0" if wanted and torch.cuda.is_available() else "cpu")

    # What Ray calls.

    def setup(self, config: dict[str, Any]) -> None:
        """Build the trial of a new worker."""
        self._build_error = None
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Build the next trial of a worker that has served another one.

        The model of the trial before is let go of first, so that two never share the memory. An
        error is raised by the next `step`: Ray hands on only errors in calls of a running trial.
        """
        self.cleanup()
        self._build_error = None
        try:
            self._start(new_config)
        except Exception as error:  # noqa: BLE001  # it is raised later, see above
            self._build_error = error
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it (see the class)."""
        if self._build_error is not None:
            raise self._build_error
        started = time.perf_counter()
        self._epoch += 1
        train_loss = math.nan
        metrics = {name: math.nan for name in self._metric_names}
        if self._failure is None:
            with self._own_randomness():
                train_loss = self._train_epoch()
                if math.isfinite(train_loss) and not self.fits_all:
                    metrics = self._validate()
                    self._check_metric(metrics)
                    self._metric_names = list(metrics)
            self._failure = self._why_diverged(train_loss, metrics)
            if self._failure:
                metrics = {name: math.nan for name in self._metric_names}
        result: dict[str, Any] = {
            **metrics,
            "train_loss": train_loss,
            "epoch": self._epoch,
            "learning_rate": self._training.optimizer.param_groups[0]["lr"],
            "epoch_s": time.perf_counter() - started,
        }
        if self._failure:
            result["failure"] = self._failure
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the trial needs to go on, to a temporary name and renamed."""
        training = self._training
        write_checkpoint(
            Path(checkpoint_dir),
            {
                "trainable": type(self).__name__,
                "configuration": self._configuration,
                "settings": self._settings,
                "epoch": self._epoch,
                "failure": self._failure,
                "metric_names": self._metric_names,
                "model": training.model.state_dict(),
                "optimizer": training.optimizer.state_dict(),
                "schedule": training.schedule.state_dict() if training.schedule else None,
                "scaler": self._scaler.state_dict(),
                "generators": {name: g.get_state() for name, g in self._generators.items()},
                "torch_rng": self._torch_rng,
                "extra": self.extra_state(),
            },
        )

    def load_checkpoint(self, checkpoint: str) -> None:
        """Take up the state of a checkpoint of the same trainable and configuration.

        Raises:
            CheckpointError: If it is damaged or absent, or of another trainable or configuration.
        """
        if self._build_error is not None:
            return  # `step` raises it: it is not the checkpoint's fault
        state = read_checkpoint(Path(checkpoint))
        for key, here in (
            ("trainable", type(self).__name__),
            ("configuration", self._configuration),
        ):
            if state.get(key) != here:
                raise CheckpointError(
                    f"{checkpoint} was saved by {key} {state.get(key)!r}, not {here!r}; restore it "
                    "into the trial that it belongs to"
                )
        training = self._training
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
        if training.schedule:
            training.schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._epoch = state["epoch"]
        self._failure = state["failure"]
        self._metric_names = state["metric_names"]
        for name, generator_state in state["generators"].items():
            self.generator(name).set_state(generator_state)
        self._torch_rng = state["torch_rng"]
        self.load_extra_state(state.get("extra", {}))

    def cleanup(self) -> None:
        """Let go of the model and the data."""
        self.__dict__.pop("_training", None)

    # Inside.

    def _check_metric(self, metrics: Mapping[str, float]) -> None:
        if self._metric not in metrics:
            raise MetricError(
                f"{type(self).__name__} tunes {self._metric!r} but measures only "
                f"{', '.join(metrics)}; set its `metric`, or return it from `Training.measure`"
            )

    def _start(self, config: dict[str, Any]) -> None:
        settings = dict(config.get("settings") or {})
        self._settings = settings
        self._configuration = {key: v for key, v in config.items() if key != "settings"}
        self._data_seed = int(settings.get("seed", 0))
        self._seed = int(config.get(TRIAL_SEED_KEY, self._data_seed))
        if settings.get(FIT_ON_KEY, "train") not in FITS:
            raise SpecError(f"fit_on={settings[FIT_ON_KEY]!r} must be one of {', '.join(FITS)}")
        self.max_epochs = int(settings.get("max_epochs", self.default_max_epochs))
        if self.max_epochs < 1:
            raise SpecError(f"max_epochs={self.max_epochs} must be at least 1")
        self._epoch = 0
        self._failure = None
        self._metric = self.metric_of(settings)
        self._metric_names = [] if self.fits_all else [self._metric, *self._other_metrics]
        self._generators = {}
        self._use_resources()
        self._precision = self._make_precision()
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=self._precision.dtype is torch.float16
        )
        self._torch_rng = self._seeded_torch_rng("global")
        hyperparameters = {k: v for k, v in self._configuration.items() if k != TRIAL_SEED_KEY}
        with self._own_randomness():
            training = self.build(hyperparameters, settings)
            self._training = self.final_training(training) if self.fits_all else training
        self._training.to(self.device)

    def _use_resources(self) -> None:
        """Take as many threads as the trial has CPUs; outside Ray, leave torch's number alone."""
        resources = self.trial_resources
        if resources is not None:
            cpus = resources.required_resources.get("CPU", 1)
            torch.set_num_threads(max(1, int(cpus)))
        if self.device.type == "cuda":
            deterministic = bool(self._settings.get("deterministic", True))
            torch.backends.cudnn.deterministic = deterministic
            torch.backends.cudnn.benchmark = not deterministic

    def _make_precision(self) -> Precision:
        name = self._settings.get("precision", "float32")
        if name not in PRECISIONS:
            raise SpecError(f"precision={name!r} must be one of {', '.join(PRECISIONS)}")
        if name == "float16" and self.device.type != "cuda":
            raise SpecError("precision='float16' needs a GPU; use bfloat16 or float32 on the CPU")
        return Precision(self.device, PRECISIONS[name])

    def _seeded_torch_rng(self, name: str) -> dict[str, torch.Tensor]:
        seed = derive_seed(self._seed, "trial", name)
        rng = {"cpu": torch.Generator().manual_seed(seed).get_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.Generator(self.device).manual_seed(seed).get_state()
        return rng

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Lend torch's global generators to the trial, then put them back as they were."""
        on_cuda = self.device.type == "cuda"
        with torch.random.fork_rng([self.device] if on_cuda else []):
            torch.set_rng_state(self._torch_rng["cpu"])
            if on_cuda:
                torch.cuda.set_rng_state(self._torch_rng["cuda"], self.device)
            yield
            self._torch_rng = {"cpu": torch.get_rng_state()}
            if on_cuda:
                self._torch_rng["cuda"] = torch.cuda.get_rng_state(self.device)

    def _why_diverged(self, train_loss: float, metrics: dict[str, float]) -> str | None:
        if not math.isfinite(train_loss):
            return f"diverged: the training loss became {train_loss} in epoch {self._epoch}"
        for name in ("validation_loss", self._metric):
            if not math.isfinite(metrics.get(name, 0.0)):
                return f"diverged: {name} became {metrics[name]} in epoch {self._epoch}"
        return None
