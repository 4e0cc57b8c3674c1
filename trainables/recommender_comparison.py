"""The test of a finished search: tuned models and references before the same users, once.

Which model wins, and which reference is the best one, was decided on validation data; the test only
says how good they are. Start with `compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from raytune_ahu.types import Configuration
from trainables.data.interactions import load_ids
from trainables.data.source import Say
from trainables.data.synthetic import PlantedScores
from trainables.metrics import Ranking
from trainables.paired import PairedTest
from trainables.recommender import RecommenderTrainable, evaluate, load_data
from trainables.recommender_settings import RecommenderSettings, read_references
from trainables.tuned_references import tune_references


@dataclass(frozen=True)
class Candidate:
    """A trial that may be the winner: the best one of its model."""

    trial_id: str
    """Its id."""
    configuration: Configuration
    """Its hyperparameters."""
    checkpoint: Path
    """Folder of its newest checkpoint, which holds the weights of its best epoch."""


@dataclass(frozen=True)
class Contender:
    """A tuned model or a reference, with what it achieves."""

    name: str
    """`mf`, `sasrec`, ...; `ease`, ..."""
    kind: Literal["tuned", "reference"]
    """Whether the search found it."""
    settings: Mapping[str, Any]
    """Its hyperparameters."""
    validation: float
    """The metric that was tuned, on validation data: what it was chosen by."""
    test: Ranking
    """On test data."""
    trial_id: str | None = None
    """Its trial, if it was tuned."""
    epoch: int | None = None
    """The epoch of its weights, if it was tuned."""


@dataclass(frozen=True)
class Comparison:
    """The test of a finished search."""

    metric: str
    """What was tuned, such as `ndcg@10`."""
    contenders: tuple[Contender, ...]
    """All of them, the best by validation first."""
    skipped: tuple[str, ...]
    """References that could not be fitted, and why."""
    ceiling: float | None = None
    """What no model can surpass in expectation, where that is known: on generated data."""

    @property
    def winner(self) -> Contender:
        """The best tuned model by validation."""
        return next(entry for entry in self.contenders if entry.kind == "tuned")

    @property
    def best_reference(self) -> Contender | None:
        """The best reference by validation; None if none could be fitted."""
        references = (entry for entry in self.contenders if entry.kind == "reference")
        return next(references, None)

    @property
    def difference(self) -> PairedTest | None:
        """The winner minus the best reference on the test, paired over users."""
        reference = self.best_reference
        return self.winner.test.compare(reference.test, self.metric) if reference else None

    @property
    def reference_is_better(self) -> bool:
        """Whether the best reference beats the winner on the test beyond chance (p < 0.05)."""
        test = self.difference
        return test is not None and test.difference < 0 and test.p_value < 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, JSON-ready; means over users come with their standard errors."""
        difference, reference = self.difference, self.best_reference
        return {
            "metric": self.metric,
            "users": len(self.winner.test.users),
            "winner": self.winner.name,
            "best_reference": reference.name if reference else None,
            "winner_minus_best_reference": vars(difference) if difference else None,
            "skipped": list(self.skipped),
            "ceiling": self.ceiling,
            "contenders": [
                {
                    "name": entry.name,
                    "kind": entry.kind,
                    "trial": entry.trial_id,
                    "epoch": entry.epoch,
                    "settings": dict(entry.settings),
                    "validation": entry.validation,
                    "test": entry.test.means(),
                    "standard_error": {
                        name: entry.test.standard_error(name) for name in entry.test.per_user
                    },
                }
                for entry in self.contenders
            ],
        }


def compare(
    candidates: Sequence[Candidate], settings: Mapping[str, Any], say: Say = lambda line: None
) -> Comparison:
    """Test the best trial of each model, and the references.

    Args:
        candidates: The best trial of each model.
        settings: The experiment's settings.
        say: Receives a line before what takes a while.

    Raises:
        CheckpointError: If a checkpoint is damaged.
    """
    given = RecommenderTrainable.resolve_settings(settings)
    metric = given.tuned
    entries = [_tested(candidate, settings) for candidate in candidates]
    references, skipped = _tested_references(given, metric, say)
    ranked = sorted([*entries, *references], key=lambda entry: -entry.validation)
    return Comparison(metric, tuple(ranked), skipped, _ceiling(given, metric))


def _ceiling(settings: RecommenderSettings, metric: str) -> float | None:
    """The value of the planted model itself, which the newest items were drawn from."""
    if settings.dataset != "synthetic" or settings.split not in ("user-time", "leave-one-out"):
        return None
    users, items = load_ids(**settings.loading)
    planted = PlantedScores(settings.seed, users, items)
    data = load_data(settings, torch.device("cpu"))
    return evaluate(planted, settings, data, "test").means()[metric]


def restore(candidate: Candidate, settings: Mapping[str, Any]) -> RecommenderTrainable:
    """Build a trial again from its checkpoint, outside Ray."""
    trainable = RecommenderTrainable({**candidate.configuration, "settings": dict(settings)})
    trainable.load_checkpoint(str(candidate.checkpoint))
    return trainable


def _tested(candidate: Candidate, settings: Mapping[str, Any]) -> Contender:
    trainable = restore(candidate, settings)
    test = trainable.rank_test()
    return Contender(
        name=str(candidate.configuration.get("model", "mf")),
        kind="tuned",
        settings=candidate.configuration,
        validation=trainable.best_value,
        test=test,
        trial_id=candidate.trial_id,
        epoch=trainable.best_epoch,
    )


def _tested_references(
    settings: RecommenderSettings, metric: str, say: Say
) -> tuple[list[Contender], tuple[str, ...]]:
    data = load_data(settings, torch.device("cpu"))

    def value(scores: Any) -> float:
        return evaluate(scores, settings, data, "validation").means()[metric]

    names = read_references(settings.references)
    tuned = tune_references(data.train, value, names=names, say=say, seed=settings.seed)
    measure = partial(evaluate, settings=settings, data=data, part="test")
    found = [
        Contender(
            name=entry.name,
            kind="reference",
            settings=entry.settings,
            validation=entry.value,
            test=measure(entry.scores),
        )
        for entry in tuned.references
    ]
    return found, tuple(tuned.skipped)
