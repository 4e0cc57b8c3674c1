"""What `TorchTrainable` does around the model: worker reuse, errors while building."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from trainables import Subset, TorchTrainable, Training


class Line(TorchTrainable):
    """Classifies points by the sign of a linear function; raises in `build` if told so."""

    built: weakref.ref[nn.Module] | None = None

    def build(self, configuration, settings):
        if configuration.get("raise"):
            raise RuntimeError("no room for the model")
        type(self).old_was_alive = self.built is not None and self.built() is not None
        inputs = torch.randn(60, 2, generator=self.generator("data"))
        model = nn.Linear(2, 2)
        type(self).built = weakref.ref(model)
        targets = (inputs.sum(1) > 0).long()
        return Training(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            train=Subset.whole(inputs[:50], targets[:50]),
            validation=Subset.whole(inputs[50:], targets[50:]),
            batch_size=10,
        )


@pytest.fixture
def worker():
    made = Line(config={})
    yield made
    made.stop()


def test_the_model_of_the_trial_before_is_gone_when_the_next_is_built(worker):
    worker.train()
    gc.collect()
    assert worker.reset_config({})
    assert not Line.old_was_alive


def test_an_error_while_a_reused_worker_builds_is_raised_by_the_first_epoch(worker):
    """Ray retries a trial, and records its traceback, only for errors raised there."""
    assert worker.reset_config({"raise": True})
    with pytest.raises(RuntimeError, match="no room for the model"):
        worker.step()
    assert worker.reset_config({})
    assert worker.step()["epoch"] == 1


def test_an_error_while_a_reused_worker_builds_is_not_blamed_on_the_checkpoint(worker, tmp_path):
    assert worker.reset_config({"raise": True})
    worker.load_checkpoint(str(tmp_path))
    with pytest.raises(RuntimeError, match="no room for the model"):
        worker.step()
