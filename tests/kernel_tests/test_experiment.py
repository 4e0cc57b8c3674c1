"""The specification checks itself and survives JSON."""

from __future__ import annotations

import json

import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import dumps, loads
from raytune_ahu.run_folder import check_old_run, keep_search, make_folder
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
        search="bohb",
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


TWO = SearchSpace.from_dict({"kind": {"domain": "choice", "values": ["a", "b"]}})
"""Two configurations: auto takes a grid for two trials and more."""


def test_auto_is_replaced_by_what_it_chose_with_the_reason():
    spec = make(num_samples=40)
    assert (spec.search, spec.search_options) == ("bohb", {"model": "gp"})
    assert spec.search_reason.startswith("bohb with model gp, for 2 parameters and 40 trials")
    assert spec.search_label == "bohb (gp)"
    assert make(num_samples=40, search="auto") == spec
    assert ExperimentSpec.from_dict(loads(dumps(spec.to_dict()))) == spec


def test_a_copy_keeps_the_choice_unless_it_names_a_search_or_auto():
    few = make(num_samples=1, space=TWO)
    assert few.search_label == "bohb (gp)"
    more = few.replace(num_samples=60, prior_trials=[])
    assert (more.search, more.search_reason) == ("bohb", few.search_reason)
    assert ExperimentSpec.from_dict(more.to_dict()) == more
    anew = more.replace(search="auto", search_options={})
    assert (anew.search, anew.search_options) == ("grid", {"shuffle": True})
    named = anew.replace(search="bohb", search_options={})
    assert (named.search, named.search_label, named.search_reason) == ("bohb", "bohb", None)


def test_a_warm_start_matters_for_the_choice():
    known = {
        "configuration": {"optimizer": "adam"},
        "reports": [[1, 0.5], [3, 0.4]],
        "failed": False,
    }
    spec = make(num_samples=6, prior_trials=(known,))
    assert spec.search == "bohb"
    assert spec.search_reason.endswith("begins with 1 earlier trial")


def test_a_record_from_before_auto_keeps_its_meaning():
    data = make(search="bohb", num_samples=4).to_dict()
    del data["search_reason"]
    old = ExperimentSpec.from_dict(data)
    assert (old.search, old.search_options, old.search_reason) == ("bohb", {}, None)


def test_a_recorded_run_keeps_its_scheduler_whatever_the_default_is():
    assert make().scheduler == "asha-promotion"
    assert make().to_dict()["scheduler"] == "asha-promotion"  # recorded though nobody named it
    for name in ("asha", "asha-promotion", "none"):
        recorded = loads(dumps(make(scheduler=name).to_dict()))
        assert ExperimentSpec.from_dict(recorded).scheduler == name


def test_a_run_goes_on_with_the_search_that_auto_chose_at_its_beginning(tmp_path):
    def anew(**changes):
        return make(**{"storage_path": str(tmp_path), "num_samples": 1, "space": TWO, **changes})

    make_folder(anew())
    more = anew(num_samples=60)
    assert more.search == "grid"
    kept = keep_search(more)
    assert kept == anew().replace(num_samples=60)
    assert kept.search == "bohb"
    check_old_run(kept)
    named = anew(search="random")
    assert keep_search(named) is named
    check_old_run(anew(search="bohb", search_options={"model": "gp"}))
    with pytest.raises(SpecError, match="search, search_options cannot be changed"):
        check_old_run(named)
    with pytest.raises(SpecError, match="search_options cannot be changed"):
        check_old_run(keep_search(anew(search_options={"n_candidates": 9})))
    assert keep_search(anew(name="b", num_samples=60)).search == "grid"


def test_a_run_whose_search_was_named_goes_on_with_it_under_auto(tmp_path):
    def anew(**changes):
        return make(**{"storage_path": str(tmp_path), "num_samples": 40, **changes})

    make_folder(anew(search="bohb"))
    kept = keep_search(anew())
    assert (kept.search, kept.search_options, kept.search_reason) == ("bohb", {}, None)


def test_the_folder_of_a_run_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make().folder == tmp_path / "runs" / "a"
