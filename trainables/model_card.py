"""The model card: what an exported model is, where it comes from and how far to trust it.

Start with `ModelCard.to_markdown`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything that the card of a retrained model says, besides how to use it."""

    name: str
    """Name of the run that found the configuration."""
    trainable: str
    """What was trained, as `module:Class`."""
    data: str
    """Data and split, in a sentence or two."""
    configuration: Mapping[str, Any]
    """The hyperparameters."""
    settings: Mapping[str, Any]
    """The fixed values of the experiment."""
    search: str
    """The search that found it, in a sentence."""
    metric: str
    """The metric that it was chosen by."""
    validation: float
    """Its value in the search: the best of many, so a little too good."""
    chosen: str
    """Trial, epoch and rule by which it was chosen."""
    epochs: int
    """For how long it was trained."""
    test: Mapping[str, tuple[float, ...]]
    """Test metric -> its value for each seed."""
    seeds: tuple[int, ...]
    """The seeds, in that order; the weights of the first are exported."""
    diverged: tuple[int, ...] = ()
    """Seeds with which it diverged."""
    readings: tuple[str, ...] = ()
    """Who has read the test split, and when; the oldest first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Packages and their versions."""
    code: str | None = None
    """The commit of the code."""
    date: str = ""
    """When it was exported."""

    def to_dict(self) -> dict[str, Any]:
        """Return all that it says, JSON-ready."""
        return {**vars(self), "exported_seed": self.seeds[0]}

    def to_markdown(self, use: str) -> str:
        """Return the card.

        Args:
            use: How to use the model, in Markdown.
        """
        return "\n".join(
            [
                f"# {self.trainable.partition(':')[2]} from run {self.name}",
                "",
                *_section("Use", use.strip()),
                *_section("How good it is", self._quality()),
                *_section("Data", self.data),
                *_section("Where it comes from", self._origin()),
                *_section("Hyperparameters", _block(self.configuration)),
                *_section("Settings", _block(self.settings)),
                *_section("Environment", self._environment()),
            ]
        )

    def _quality(self) -> str:
        several = len(self.seeds) > 1
        how = (
            f"mean ± standard deviation over {len(self.seeds)} seeds"
            if several
            else "one seed, so nothing is known of its spread"
        )
        lines = [
            f"On the test split, {how}; the exported weights are those of seed {self.seeds[0]}, "
            "the first one, fixed before the test was read.",
            "",
            "| metric | test | exported weights |",
            "| --- | --- | --- |",
        ]
        for name, values in self.test.items():
            shown = f"{statistics.fmean(values):.5g}"
            if several:
                shown += f" ± {statistics.stdev(values):.2g}"
            lines.append(f"| {name.removeprefix('test_')} | {shown} | {values[0]:.5g} |")
        lines += [
            "",
            f"In the search: {self.metric} = {_shown(self.validation)} ({self.chosen}). It is the "
            "best of the values that the search compared, and tends to be too good.",
        ]
        if self.diverged:
            seeds = ", ".join(str(seed) for seed in self.diverged)
            lines += ["", f"With {len(self.diverged)} more seeds it diverged: {seeds}."]
        lines += ["", "The test split was read:", ""]
        return "\n".join([*lines, *(f"{i}. {r}" for i, r in enumerate(self.readings, start=1))])

    def _origin(self) -> str:
        return (
            f"{self.search} The chosen configuration was then trained on training and validation "
            f"data together, for {_count(self.epochs, 'epoch')}, with "
            f"{_count(len(self.seeds) + len(self.diverged), 'seed')}: "
            f"{', '.join(str(seed) for seed in self.seeds)}. Exported on {self.date}."
        )

    def _environment(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{versions or 'not on record'}. Code: {self.code or 'no commit on record'}."


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", "", text, ""]


def _block(values: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(dict(values), indent=2, ensure_ascii=False)}\n```"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _shown(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else str(value)
