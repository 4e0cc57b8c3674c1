"""Checkpoint files: whole or not at all, and never used when damaged."""

from __future__ import annotations

import pytest
import torch

from raytune_ahu.errors import CheckpointError
from trainables.checkpoint import (
    FILE_NAME,
    read_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)

STATE = {"epoch": 3, "configuration": {"lr": 0.1, "kernel": (3, 3)}, "w": torch.arange(5000.0)}


def assert_is_state(state):
    assert {**state, "w": None} == {**STATE, "w": None}
    assert torch.equal(state["w"], STATE["w"])


def test_what_is_read_is_what_was_written(tmp_path):
    assert write_checkpoint(tmp_path, STATE) == tmp_path / FILE_NAME
    verify_checkpoint(tmp_path)
    assert_is_state(read_checkpoint(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_plain_torch_can_read_it_too(tmp_path):
    path = write_checkpoint(tmp_path, STATE)
    assert_is_state(torch.load(path, weights_only=True))


def test_a_new_checkpoint_replaces_the_old_one(tmp_path):
    write_checkpoint(tmp_path, {"epoch": 1})
    write_checkpoint(tmp_path, {"epoch": 2})
    assert read_checkpoint(tmp_path) == {"epoch": 2}


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_checkpoint(tmp_path, {"epoch": 1})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        write_checkpoint(tmp_path, {"epoch": 2, "bad": (x for x in "a generator is not saved")})
    assert read_checkpoint(tmp_path) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("keep", [0, 1, 7, 48, 100, 0.5, -1])
def test_a_cut_off_checkpoint_is_refused(tmp_path, keep):
    path = write_checkpoint(tmp_path, STATE)
    content = path.read_bytes()
    end = int(len(content) * keep) if isinstance(keep, float) else keep
    path.write_bytes(content[:end])
    with pytest.raises(CheckpointError, match="cut off"):
        read_checkpoint(tmp_path)


def test_every_changed_byte_is_noticed(tmp_path):
    path = write_checkpoint(tmp_path, {"epoch": 1})
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(bytes(changed))
        with pytest.raises(CheckpointError, match=r"cut off|checksum"):
            verify_checkpoint(tmp_path)


def test_an_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    write_checkpoint(tmp_path, {"evil": Evil()})
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path)
