"""`RecommenderTrainable`: recommenders of many kinds, of which the search also chooses the kind.

Every epoch is measured by ranking all items for each user of the validation split. The test split
is read by `rank_test` only, with the weights of the best epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from raytune_ahu.errors import CheckpointError, DataError, SpecError
from raytune_ahu.seeding import generator
from raytune_ahu.types import FIT_ON_ALL, Configuration
from trainables.data.interactions import (
    INTERACTION_DATASETS,
    data_digest,
    load_before_test,
    load_recommender_data,
    load_test_items,
    prepare_interactions,
)
from trainables.data.source import Say, to_stderr
from trainables.data.user_items import RecommenderData, UserItems
from trainables.hyperparameters import parse
from trainables.loops import Optimised, run_steps
from trainables.metrics import Ranking, Scores, rank, sample_candidates
from trainables.models.recommender_model import RecommenderModel
from trainables.models.recommenders import make_recommender
from trainables.ready_trainable import ReadyTrainable
from trainables.recommender_hyperparameters import RecommenderHyperparameters
from trainables.recommender_settings import RecommenderSettings


class RecommenderTrainable(ReadyTrainable):
    """Tunes a recommender: which model, and its hyperparameters.

    See `RecommenderHyperparameters` for the hyperparameters, `RecommenderSettings` for the
    settings. `step` reports for each cut-off k `validation_ndcg@k` and the other metrics of
    `trainables.metrics`, `validation_standard_error` (over users, of the metric that is tuned), and
    what `EpochTrainable` says. A trial ends itself after `patience` epochs without a better value;
    its checkpoints hold the weights of its best epoch besides the newest ones.
    """

    metric: ClassVar[str] = "validation_ndcg@10"
    datasets: ClassVar[tuple[str, ...]] = INTERACTION_DATASETS
    hyperparameters: ClassVar[type[Any]] = RecommenderHyperparameters
    default_max_epochs: ClassVar[int] = 81
    default_grace_period: ClassVar[int] = 9
    smoke_trials: ClassVar[int] = 8  # one of each model
    smoke_epochs: ClassVar[int] = 5
    keeps_best_weights: ClassVar[bool] = True

    _data: RecommenderData
    _given: RecommenderSettings
    best_epoch: int
    """Epoch of the best validation metric so far; 0: none yet."""
    best_value: float
    """The validation metric then."""
    _best_weights: dict[str, Tensor]

    @classmethod
    def resolve_settings(cls, settings: Mapping[str, Any]) -> RecommenderSettings:
        """Check settings.

        Raises:
            SpecError: If a setting is unknown or out of range.
        """
        values = {"max_epochs": cls.default_max_epochs, **settings}
        return parse(RecommenderSettings, values, what="setting", error=SpecError)

    @classmethod
    def metric_of(cls, settings: Mapping[str, Any]) -> str:
        """Return `validation_ndcg@<first k>`."""
        return cls.resolve_settings(settings).metric

    @classmethod
    def prepare(cls, settings: Mapping[str, Any], say: Say | None = None) -> dict[str, Any]:
        """Check the settings and the data set, download and split it; for the driver."""
        given = cls.resolve_settings(settings)
        say = say or to_stderr
        loading = given.loading
        for note in prepare_interactions(**loading, say=say):
            say(note)
        digest = data_digest(**loading)
        if given.data_digest not in (None, digest):
            raise DataError(
                f"the interactions of {given.dataset} are not those that the run began with "
                f"(digest {digest}, not {given.data_digest}); restore the file, or start a new run"
            )
        n_items = load_recommender_data(**loading).n_items
        if max(given.cutoffs) > n_items:
            raise SpecError(
                f"k={given.k!r} must hold numbers in [1, {n_items}], the number of items"
            )
        return {**settings, "data_digest": digest}

    def build(self, configuration: Configuration, settings: dict[str, Any]) -> Optimised:
        """Make the model that the configuration names, and its optimizer."""
        self._given = self.resolve_settings(settings)
        self._data = load_data(self._given, self.device)
        self.best_epoch, self.best_value, self._best_weights = 0, -math.inf, {}
        h = parse(RecommenderHyperparameters, configuration)
        model = make_recommender(h, self._data, self.device)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=h.lr, weight_decay=h.weight_decay, fused=True
        )
        return Optimised(model=model, optimizer=optimizer)

    @property
    def model(self) -> RecommenderModel:
        """The model in its present state."""
        model = self._training.model
        assert isinstance(model, RecommenderModel)
        return model

    def step(self) -> dict[str, Any]:
        """Train one epoch, report it, and end the trial where it has long got no better."""
        result = super().step()
        if self.fits_all:
            return result
        value = result[self._metric]
        if value > self.best_value:
            self.best_epoch, self.best_value = self._epoch, value
            weights = self._training.model.state_dict()
            self._best_weights = {name: tensor.clone() for name, tensor in weights.items()}
        if self._epoch - self.best_epoch >= self._given.patience:
            result["done"] = True
        return result

    def extra_state(self) -> dict[str, Any]:
        """Return the best epoch, its value and its weights."""
        return {
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self._best_weights,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` returned."""
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]
        weights = state["best_weights"]
        self._best_weights = {name: tensor.to(self.device) for name, tensor in weights.items()}

    @classmethod
    def check_retraining(cls) -> None:
        """Do nothing: it can be."""

    def evaluate_test(self) -> dict[str, float]:
        """Measure the model as `rank_test` does: means over users, such as `test_ndcg@10`."""
        return {f"test_{name}": value for name, value in self.rank_test().means().items()}

    def use_best_weights(self) -> int:
        """Put the weights of the best epoch into the model, for use; training ends with that.

        Where it `fits_all`, the best epoch was known before, and is the newest one.

        Returns:
            The best epoch.

        Raises:
            CheckpointError: If no epoch gave a finite value.
        """
        if self.fits_all:
            self._training.model.eval()
            return self._epoch
        if not self._best_weights:
            raise CheckpointError("the trial has no epoch with a finite metric; use another trial")
        self._training.model.load_state_dict(self._best_weights)
        self._training.model.eval()
        return self.best_epoch

    def rank_validation(self) -> Ranking:
        """Measure the model, in its present state, on the validation split."""
        return evaluate(self.model.scores, self._given, self._data, "validation")

    def rank_test(self) -> Ranking:
        """Measure the model on the test split, with the weights of its best epoch.

        Neither training nor validation items are recommended; whether the model is told of the
        latter says `test_history`. For the final evaluation of a chosen configuration only.
        """
        self.use_best_weights()
        return evaluate(self.model.scores, self._given, self._data, "test")

    def _train_epoch(self) -> float:
        model = self.model
        model.start_epoch(self._epoch)

        def losses() -> Any:
            for batch in model.batches(self.generator("batches")):
                yield partial(model.loss, batch)

        return run_steps(self._training, self._precision, self._scaler, losses())

    def _validate(self) -> dict[str, float]:
        self._training.model.eval()
        ranking = self.rank_validation()
        metrics = {f"validation_{name}": value for name, value in ranking.means().items()}
        metrics["validation_standard_error"] = ranking.standard_error(self._given.tuned)
        return metrics


def load_data(settings: RecommenderSettings, device: torch.device) -> RecommenderData:
    """Open training and validation interactions on a device; one copy for all trials there.

    Where the settings say that all is trained on, none are left for validation.
    """
    fit_all = settings.fit_on == FIT_ON_ALL
    return _on_device(tuple(settings.loading.items()), fit_all, device)


@lru_cache(maxsize=2)
def _on_device(
    loading: tuple[tuple[str, Any], ...], fit_all: bool, device: torch.device
) -> RecommenderData:
    data = load_recommender_data(**dict(loading))
    if fit_all:
        nobody = torch.zeros(data.n_users, dtype=torch.bool)
        everything = load_before_test(**dict(loading))
        data = replace(data, train=everything, validation=data.validation.only(nobody))
    return data.to(device)


@torch.inference_mode()
def evaluate(
    scores: Scores, settings: RecommenderSettings, data: RecommenderData, part: str
) -> Ranking:
    """Rank the items of a part by anybody's scores: the same for models and references.

    Args:
        scores: The scores.
        settings: Data, cut-offs and kind of ranking.
        data: What trials train and validate on.
        part: `validation` or `test`. Only the final evaluation may ask for the latter.
    """
    if part == "validation":
        known, positives = data.train, _chosen_users(settings, data)
        history = known
    else:
        loading = settings.loading
        known = load_before_test(**loading).to(data.train.items.device)
        positives = load_test_items(**loading).to(data.train.items.device)
        history = known if settings.test_history == "all" else data.train
    candidates = None
    if settings.ranking == "sampled":
        candidates = _candidates(settings, part).to(data.train.items.device)
    return rank(
        scores,
        history=history,
        seen=known,
        positives=positives,
        ks=settings.cutoffs,
        popularity=data.train.popularity,
        candidates=candidates,
    )


@lru_cache(maxsize=2)
def _candidates(settings: RecommenderSettings, part: str) -> UserItems:
    """The items that each user's positives compete with: drawn once, the same for all models."""
    loading = settings.loading
    data = load_recommender_data(**loading)
    if part == "validation":
        known, positives = data.train, _chosen_users(settings, data)
    else:
        known, positives = load_before_test(**loading), load_test_items(**loading)
    rng = generator(settings.seed, "data", "candidates", part)
    return sample_candidates(known.followed_by(positives), rng, users=positives.counts > 0)


def _chosen_users(settings: RecommenderSettings, data: RecommenderData) -> UserItems:
    """The validation interactions of the users to validate on."""
    limit = settings.validation_users
    if limit is None or limit >= data.n_users:
        return data.validation
    rng = generator(settings.seed, "data", "validation users")
    chosen = torch.zeros(data.n_users, dtype=torch.bool)
    chosen[torch.from_numpy(rng.permutation(data.n_users)[:limit])] = True
    return data.validation.only(chosen.to(data.train.items.device))
