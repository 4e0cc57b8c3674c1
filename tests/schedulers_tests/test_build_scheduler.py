"""Tests of schedulers/__init__.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raytune_ahu.errors import SpecError
from schedulers import SCHEDULERS, build_scheduler


@pytest.mark.parametrize("name", ["asha", "asha-promotion", "none"])
def test_every_name_builds_its_scheduler(name):
    scheduler = build_scheduler(
        name, mode="max", max_resource=9, grace_period=1, reduction_factor=3, brackets=1, seed=4
    )
    assert type(scheduler) is SCHEDULERS[name]
    assert scheduler.kind == name
    assert tuple(scheduler.rung_levels) == ((9,) if name == "none" else (1, 3, 9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hyperband"}, "scheduler='hyperband' must be one of asha, asha-promotion, none"),
        ({"mode": "maximum"}, "mode='maximum' must be 'min' or 'max'"),
        ({"grace_period": 10}, r"grace_period=10 must be in \[1, max_epochs=9\]; "),
        ({"name": "none", "grace_period": 10}, r"grace_period=10 must be in \[1, max_epochs=9\]"),
        ({"reduction_factor": 1}, "reduction_factor=1 must be a whole number of at least 2"),
        ({"name": "none", "reduction_factor": 1}, "reduction_factor=1 must be"),
        ({"brackets": 4}, r"brackets=4 must be in \[1, 3\]"),
        ({"max_resource": 0}, "max_epochs=0 must be a whole number of at least 1"),
    ],
)
def test_bad_options_are_refused_by_value_range_and_fix(options, message):
    arguments = {"name": "asha", "max_resource": 9, **options}
    name = arguments.pop("name")
    with pytest.raises(SpecError, match=message):
        build_scheduler(name, **arguments)


def test_the_pure_schedulers_import_neither_ray_nor_torch():
    code = (
        "import sys, schedulers.asha, schedulers.fifo, schedulers\n"
        "assert not {'ray', 'torch'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
