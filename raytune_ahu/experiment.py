"""The specification of an experiment: what is tuned, over which space, how, and for how long.

`ExperimentSpec` is frozen, checks itself when it is made, and goes to JSON and back exactly; the
runner writes it into the run's folder as `spec.json` and a resumed run starts from it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from raytune_ahu.errors import SpecError
from raytune_ahu.records import plain
from raytune_ahu.retention import BestAt
from raytune_ahu.search.auto import AUTO, choose_search
from raytune_ahu.space import SearchSpace
from raytune_ahu.storage import is_uri
from raytune_ahu.types import Configuration, Mode

SPEC_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ACCELERATOR_PREFIX = "accelerator_type:"
"""How Ray names the resource that says which accelerator a node has."""
_ACCELERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_REFUSED_RESOURCES = {
    "CPU": "use cpus_per_trial",
    "cpu": "use cpus_per_trial",
    "GPU": "use gpus_per_trial",
    "gpu": "use gpus_per_trial",
    "object_store_memory": "Ray gives it to no trial; use memory",
}


@dataclass(frozen=True, kw_only=True)
class ExperimentSpec:
    """Everything that defines an experiment.

    Raises:
        SpecError: If a value is out of its range, or values contradict each other.
    """

    name: str
    """Name of the run, and of its folder under `storage_path`."""
    trainable: str
    """What is trained, as `module:Class`."""
    space: SearchSpace
    """The search space."""
    metric: str
    """Key of the reported metric that is optimised."""
    mode: Mode
    """Whether the metric is minimised or maximised."""
    max_epochs: int
    """Epochs of a full training; every trial is stopped there."""
    num_samples: int | None = None
    """Trials to start at most; None: as many as the time budget allows."""
    time_budget_s: float | None = None
    """Wall seconds the run may take; None: until `num_samples` trials have ended."""
    search: str = AUTO
    """Name of the searcher (`raytune_ahu.search.SEARCHERS`). `auto` is replaced by what
    `raytune_ahu.search.auto` chooses when the specification is made; copies keep the choice."""
    search_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the searcher, by their keyword; those that `auto` sets are added."""
    search_reason: str | None = None
    """Why `auto` chose that search, in one sentence; None: it was named."""
    points_to_evaluate: tuple[Configuration, ...] = ()
    """Configurations to try first."""
    prior_trials: tuple[Mapping[str, Any], ...] = ()
    """What the searcher knows at the beginning, from earlier runs (`search.prior.PriorTrial`)."""
    scheduler: str = "asha-promotion"
    """Name of the scheduler (`schedulers.SCHEDULERS`)."""
    grace_period: int = 1
    """Epochs of the first rung: no trial is judged earlier."""
    reduction_factor: int = 3
    """Eta: about one in `reduction_factor` trials passes a rung."""
    brackets: int = 1
    """Number of ladders of rungs; each further one starts `reduction_factor` times higher."""
    cpus_per_trial: float = 1.0
    """CPU cores a trial takes."""
    gpus_per_trial: float = 0.0
    """GPUs a trial takes; a fraction lets trials share one."""
    resources_per_trial: Mapping[str, float] = field(default_factory=dict)
    """What else of a node a trial takes, by Ray's names: `{"TPU": 4}`, `{"memory": 8e9}`."""
    accelerator_type: str | None = None
    """Kind of accelerator a trial needs, by Ray's name: "A100", "H100"; None: any."""
    max_concurrent: int | None = None
    """Trials running at the same time at most; None: as many as the cluster has room for."""
    storage_path: str = "runs"
    """Folder under which the run's folder lies; on a cluster, one that every node sees, or the URI
    of an object store (`s3://bucket/prefix`), for the checkpoints and a copy of the record."""
    record_path: str | None = None
    """Local folder under which the run's folder (spec.json, log.jsonl) lies when `storage_path` is
    a URI; None: `runs`."""
    seed: int = 0
    """Root seed of everything random."""
    max_failures: int = 0
    """How often a trial that raised an exception is tried again from its newest checkpoint."""
    retry_oom: bool = False
    """Whether a trial that ran out of memory is tried again as after any other exception."""
    trial_timeout_s: float | None = None
    """Seconds without a report after which a trial is ended as failed; None: it may take for ever.
    While its worker starts and sets it up it has five minutes more."""
    stop_timeout_s: float = 20.0
    """Seconds that running trials get to finish their epoch and save, after an interrupt."""
    keep_best: int = 3
    """Ended trials whose last checkpoint is kept; the others' are deleted as the run goes on."""
    keep_best_at: BestAt = "max_resource"
    """Which trials are the best: `max_resource`: those with the best newest value of those that got
    furthest; `any`: those with the best value at any epoch, for trainables whose checkpoints hold
    the weights of their best epoch."""
    keep_best_per: str | None = None
    """A parameter of the space; the best trial of each of its values keeps its checkpoint too."""
    checkpoint_frequency: int = 1
    """Epochs between two checkpoints of a trial; 0: only when a trial is paused."""
    reuse_workers: bool = True
    """Whether worker processes serve one trial after another (start-up costs a second or more)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fixed values for the trainable, JSON-ready; it finds them as `config["settings"]`."""
    rerun_of: str | None = None
    """Name of the run whose best configurations are trained again here, with other seeds; None: a
    search."""

    def __post_init__(self) -> None:
        # In the form that JSON gives back: the space takes a list where a tuple is meant.
        points = tuple(plain(point) for point in self.points_to_evaluate)
        object.__setattr__(self, "points_to_evaluate", points)
        object.__setattr__(self, "prior_trials", tuple(plain(one) for one in self.prior_trials))
        object.__setattr__(self, "settings", plain(self.settings))
        object.__setattr__(self, "resources_per_trial", plain(self.resources_per_trial))
        object.__setattr__(self, "search_options", plain(self.search_options))
        _require(
            bool(_NAME.fullmatch(self.name)),
            f"name={self.name!r} must be 1 to 128 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit",
        )
        _require(":" in self.trainable, f"trainable={self.trainable!r} must be 'module:Class'")
        _require(bool(self.metric), "metric must not be empty; name a metric the trainable reports")
        _require(self.mode in ("min", "max"), f"mode={self.mode!r} must be 'min' or 'max'")
        self._check_budget()
        self._check_scheduler()
        self._check_resources()
        self._check_storage()
        _require(self.seed >= 0, f"seed={self.seed} must be at least 0")
        _require(self.max_failures >= 0, f"max_failures={self.max_failures} must be at least 0")
        _require(
            self.trial_timeout_s is None or _is_positive(self.trial_timeout_s),
            f"trial_timeout_s={self.trial_timeout_s} must be a finite number of seconds above 0",
        )
        _require(
            math.isfinite(self.stop_timeout_s) and self.stop_timeout_s >= 0,
            f"stop_timeout_s={self.stop_timeout_s} must be a finite number of seconds of at least "
            "0; 0 ends running epochs at once",
        )
        _require(self.keep_best >= 0, f"keep_best={self.keep_best} must be at least 0")
        _require(
            self.keep_best_at in get_args(BestAt),
            f"keep_best_at={self.keep_best_at!r} must be 'max_resource' or 'any'",
        )
        _require(
            self.keep_best_per is None or self.keep_best_per in self.space.names,
            f"keep_best_per={self.keep_best_per!r} must be a parameter of the search space: "
            f"{', '.join(self.space.names)}",
        )
        _require(
            self.checkpoint_frequency >= 0,
            f"checkpoint_frequency={self.checkpoint_frequency} must be at least 0",
        )
        if self.search == AUTO:
            self._choose_search()

    def _choose_search(self) -> None:
        choice = choose_search(
            self.space,
            num_samples=self.num_samples,
            max_epochs=self.max_epochs,
            n_prior_trials=len(self.prior_trials),
            options=self.search_options,
        )
        object.__setattr__(self, "search", choice.search)
        object.__setattr__(self, "search_options", plain(choice.options))
        object.__setattr__(self, "search_reason", choice.reason)

    def _check_budget(self) -> None:
        _require(_is_count(self.max_epochs), f"max_epochs={self.max_epochs} must be at least 1")
        _require(
            self.num_samples is not None or self.time_budget_s is not None,
            "give num_samples, time_budget_s, or both: a run must end",
        )
        if self.num_samples is not None:
            _require(
                _is_count(self.num_samples),
                f"num_samples={self.num_samples} must be at least 1 trial",
            )
        if self.time_budget_s is not None:
            _require(
                _is_positive(self.time_budget_s),
                f"time_budget_s={self.time_budget_s} must be a finite number of seconds above 0",
            )

    def _check_scheduler(self) -> None:
        _require(
            _is_count(self.grace_period) and self.grace_period <= self.max_epochs,
            f"grace_period={self.grace_period} must be in [1, max_epochs={self.max_epochs}]; "
            "use 1 to judge after the first epoch",
        )
        _require(
            isinstance(self.reduction_factor, int) and self.reduction_factor >= 2,
            f"reduction_factor={self.reduction_factor} must be a whole number of at least 2; "
            "3 keeps about the best third at each rung",
        )
        _require(_is_count(self.brackets), f"brackets={self.brackets} must be at least 1")

    def _check_resources(self) -> None:
        _require(
            _is_resource(self.cpus_per_trial),
            f"cpus_per_trial={self.cpus_per_trial} must be a finite number of at least 0 with at "
            "most four decimals",
        )
        gpus = self.gpus_per_trial
        _require(
            _is_resource(gpus) and (gpus <= 1 or gpus == int(gpus)),
            f"gpus_per_trial={gpus} must be a fraction in [0, 1] with at most four decimals, or a "
            "whole number of GPUs",
        )
        self._check_other_resources()
        _require(
            self.cpus_per_trial > 0 or gpus > 0 or bool(self.resources_per_trial),
            "a trial must take some CPU or GPU; use cpus_per_trial=1",
        )
        _require(
            self.max_concurrent is None or _is_count(self.max_concurrent),
            f"max_concurrent={self.max_concurrent} must be at least 1 trial at a time",
        )

    def _check_other_resources(self) -> None:
        for kind, amount in self.resources_per_trial.items():
            _require(
                kind not in _REFUSED_RESOURCES,
                f"resources_per_trial has {kind!r}; {_REFUSED_RESOURCES.get(kind)}",
            )
            _require(
                bool(kind) and not kind.startswith(ACCELERATOR_PREFIX),
                f"resources_per_trial has {kind!r}; name a kind of accelerator as "
                "accelerator_type='A100'",
            )
            _require(
                _is_number(amount) and _is_resource(amount) and amount > 0,
                f"resources_per_trial has {kind}={amount!r}, which must be a finite number above 0 "
                "with at most four decimals",
            )
        name = self.accelerator_type
        _require(
            name is None or (isinstance(name, str) and bool(_ACCELERATOR.fullmatch(name))),
            f"accelerator_type={name!r} must be one of Ray's names, such as 'A100' or 'TPU-V4', "
            "without a prefix",
        )

    @property
    def resources(self) -> dict[str, float]:
        """All that a trial takes of its node, by Ray's names, without zeros."""
        amounts = {
            "CPU": self.cpus_per_trial,
            "GPU": self.gpus_per_trial,
            **self.resources_per_trial,
        }
        if self.accelerator_type is not None:
            # A node has 1 of it: it says what is there, and does not count it (as Ray does it).
            amounts[ACCELERATOR_PREFIX + self.accelerator_type] = 0.001
        return {kind: float(amount) for kind, amount in amounts.items() if amount > 0}

    def _check_storage(self) -> None:
        path, local = self.storage_path, self.record_path
        _require(bool(path), "storage_path must not be empty; use 'runs', or s3://bucket/prefix")
        _require(
            not path.startswith("file:"),
            f"storage_path={path!r} must be a plain path, or the URI of an object store; leave "
            "file:// out",
        )
        if not is_uri(path):
            _require(
                local is None,
                f"record_path={local!r} is for a storage_path that is a URI; the record of a run "
                f"in {path!r} lies there, beside its checkpoints",
            )
            return
        parts = urlsplit(path)
        user = parts.netloc.rpartition("@")[0]
        _require(
            ":" not in user,
            "storage_path must not hold a password: it is written into spec.json; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws",
        )
        _require(
            bool(parts.netloc), f"storage_path={path!r} names no bucket; use s3://bucket/prefix"
        )
        _require(
            local is None or (bool(local) and not is_uri(local)),
            f"record_path={local!r} must be a local folder",
        )

    @property
    def search_label(self) -> str:
        """The searcher with the model that its options name: `random`, `bohb (gp)`."""
        model = self.search_options.get("model")
        return self.search if model is None else f"{self.search} ({model})"

    @property
    def folder(self) -> Path:
        """The run's local folder: its record and, unless `storage_path` is a URI, all of it."""
        place = (self.record_path or "runs") if is_uri(self.storage_path) else self.storage_path
        return Path(place).expanduser().resolve() / self.name

    def replace(self, **changes: Any) -> ExperimentSpec:
        """Return a checked copy with some fields changed.

        A search that `auto` chose stays, whatever else changes; `search="auto"` chooses anew.
        """
        if changes.keys() & {"search", "search_options"}:
            changes = {"search_reason": None, **changes}
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict from which `from_dict` makes an equal specification."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields["space"] = self.space.to_dict()
        return {"spec_version": SPEC_VERSION, **plain(fields)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExperimentSpec:
        """Read what `to_dict` wrote.

        Raises:
            SpecError: If a key is unknown or missing, or the version is newer than this code.
        """
        values = dict(data)
        version = values.pop("spec_version", None)
        _require(
            version == SPEC_VERSION,
            f"spec_version={version} must be {SPEC_VERSION}; use the release that wrote it",
        )
        fields = {item.name: item for item in dataclasses.fields(cls)}
        unknown = sorted(values.keys() - fields.keys())
        _require(not unknown, f"unknown keys {unknown}; known are {sorted(fields)}")
        missing = sorted(
            name
            for name, item in fields.items()
            if name not in values
            and item.default is dataclasses.MISSING
            and item.default_factory is dataclasses.MISSING
        )
        _require(not missing, f"missing keys {missing}")
        values["space"] = SearchSpace.from_dict(values["space"])
        for name in ("points_to_evaluate", "prior_trials"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _is_resource(amount: float) -> bool:
    """Whether Ray can count it: in units of 1/10000."""
    if not math.isfinite(amount) or amount < 0:
        return False
    return math.isclose(amount * 10_000, round(amount * 10_000), rel_tol=0, abs_tol=1e-6)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)
