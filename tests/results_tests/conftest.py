"""Recorded runs that several tests read; none of them may write into them."""

from __future__ import annotations

import pytest

from tests.recorded_runs import record_run


@pytest.fixture(scope="session")
def asha_run(tmp_path_factory):
    """60 trials of BOHB and ASHA; those with a high learning rate diverge."""
    return record_run(
        tmp_path_factory.mktemp("runs") / "asha", scheduler="asha", diverges_above=0.5
    )


@pytest.fixture(scope="session")
def promotion_run(tmp_path_factory):
    """40 trials with pauses and promotions."""
    folder = tmp_path_factory.mktemp("runs") / "promotion"
    return record_run(folder, num_samples=40, scheduler="asha-promotion", max_epochs=9)
