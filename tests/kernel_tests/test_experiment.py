"""The specification checks itself and survives JSON."""

from __future__ import annotations

import json

import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import dumps, loads
from raytune_ahu.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "optimizer": {"domain": "choice", "values": ["sgd", "adam", None]},
        "momentum": {"domain": "uniform", "lower": 0.0, "upper": 1.0, "when": {"optimizer": "sgd"}},
    }
)


def make(**changes):
    fields = {
        "name": "a",
        "trainable": "module:Class",
        "space": SPACE,
        "metric": "loss",
        "mode": "min",
        "max_epochs": 9,
        "num_samples": 3,
    }
    return ExperimentSpec(**{**fields, **changes})


def test_a_specification_survives_json():
    spec = make(
        time_budget_s=1.5,
        search_options={"random_fraction": 0.2},
        points_to_evaluate=({"optimizer": "sgd", "momentum": 0.5},),
        gpus_per_trial=0.25,
        resources_per_trial={"TPU": 4},
        accelerator_type="TPU-V4",
        settings={"dataset": "digits", "data_dir": None, "size": (8, 8)},
    )
    text = dumps(spec.to_dict())
    json.loads(text)
    again = ExperimentSpec.from_dict(loads(text))
    assert again == spec
    assert again.space.digest() == spec.space.digest()


def test_a_specification_cannot_be_changed_but_copied():
    spec = make()
    with pytest.raises(AttributeError):
        spec.seed = 1  # type: ignore[misc]
    assert spec.replace(seed=1).seed == 1
    with pytest.raises(SpecError, match="seed=-1"):
        spec.replace(seed=-1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "name='a/b'"),
        ({"name": ""}, "name=''"),
        ({"name": "../up"}, "name="),
        ({"trainable": "Class"}, "module:Class"),
        ({"metric": ""}, "metric"),
        ({"mode": "best"}, "mode='best'"),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"max_epochs": 2.5}, "max_epochs=2.5"),
        ({"num_samples": None}, "num_samples, time_budget_s"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": True}, "num_samples=True"),
        ({"time_budget_s": 0.0}, "time_budget_s=0"),
        ({"time_budget_s": float("nan")}, "time_budget_s=nan"),
        ({"grace_period": 10}, r"grace_period=10 must be in \[1, max_epochs=9\]"),
        ({"grace_period": 0}, "grace_period=0"),
        ({"reduction_factor": 1}, "reduction_factor=1"),
        ({"brackets": 0}, "brackets=0"),
        ({"cpus_per_trial": -1.0}, "cpus_per_trial=-1"),
        ({"cpus_per_trial": 0.0}, "some CPU or GPU"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial=1.5"),
        ({"cpus_per_trial": 1e-8}, "at most four decimals"),
        ({"gpus_per_trial": 1 / 3}, "at most four decimals"),
        ({"resources_per_trial": {"CPU": 2}}, "'CPU'; use cpus_per_trial"),
        ({"resources_per_trial": {"gpu": 1}}, "'gpu'; use gpus_per_trial"),
        ({"resources_per_trial": {"object_store_memory": 1}}, "use memory"),
        ({"resources_per_trial": {"accelerator_type:A100": 1}}, "accelerator_type='A100'"),
        ({"resources_per_trial": {"TPU": 0}}, "TPU=0, which must be a finite number above 0"),
        ({"resources_per_trial": {"TPU": "4"}}, "TPU='4'"),
        ({"resources_per_trial": {"TPU": 1 / 3}}, "at most four decimals"),
        ({"resources_per_trial": {"": 1}}, "has ''"),
        ({"accelerator_type": "accelerator_type:A100"}, "without a prefix"),
        ({"accelerator_type": ""}, "accelerator_type=''"),
        ({"max_concurrent": 0}, "max_concurrent=0"),
        ({"seed": -1}, "seed=-1"),
        ({"max_failures": -1}, "max_failures=-1"),
        ({"checkpoint_frequency": -1}, "checkpoint_frequency=-1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(changes, message):
    with pytest.raises(SpecError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"CPU": 1.0}),
        ({"cpus_per_trial": 2, "gpus_per_trial": 0.5}, {"CPU": 2.0, "GPU": 0.5}),
        ({"cpus_per_trial": 0.0, "gpus_per_trial": 4}, {"GPU": 4.0}),
        ({"cpus_per_trial": 0.0, "resources_per_trial": {"TPU": 4}}, {"TPU": 4.0}),
        (
            {"resources_per_trial": {"memory": 8_000_000_000}, "accelerator_type": "A100"},
            {"CPU": 1.0, "memory": 8e9, "accelerator_type:A100": 0.001},
        ),
    ],
)
def test_all_that_a_trial_takes_is_one_bundle_without_zeros(fields, expected):
    resources = make(**fields).resources
    assert resources == expected
    assert all(isinstance(amount, float) for amount in resources.values())


def test_unknown_missing_and_newer_records_are_refused():
    data = make().to_dict()
    with pytest.raises(SpecError, match="unknown keys \\['colour'\\]"):
        ExperimentSpec.from_dict({**data, "colour": "red"})
    with pytest.raises(SpecError, match="spec_version=99"):
        ExperimentSpec.from_dict({**data, "spec_version": 99})
    del data["metric"]
    with pytest.raises(SpecError, match="missing keys \\['metric'\\]"):
        ExperimentSpec.from_dict(data)


def test_the_folder_of_a_run_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make().folder == tmp_path / "runs" / "a"
