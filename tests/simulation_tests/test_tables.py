"""Tests of raytune_ahu/simulation/tables.py."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ahu.errors import DataError
from raytune_ahu.simulation import load_lcbench, load_taskset
from raytune_ahu.simulation.tables import LCBENCH_SPACE, ONE_MINUS, TASKSET_SPACE


def write_taskset(path, n=4, **changes):
    names = [name.removeprefix(ONE_MINUS) for name in TASKSET_SPACE]
    arrays = {
        "configs": np.full((n, 8), 1e-5, np.float32),
        "config_names": np.array(names),
        "valid": np.arange(n * 51, dtype=np.float32).reshape(n, 51),
    }
    arrays["configs"][:, names.index("beta1")] = [0.9, 0.99, 0.999, 0.0]
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_taskset_curves_lose_their_untrained_first_point(tmp_path):
    task = load_taskset(write_taskset(tmp_path / "some_task.npz"))
    assert (task.name, task.max_resource, len(task)) == ("some_task", 50, 4)
    assert task.best_value == 1.0
    assert task.space.names == tuple(TASKSET_SPACE)


def test_betas_are_searched_by_their_distance_to_one(tmp_path):
    task = load_taskset(write_taskset(tmp_path / "a.npz"))
    evaluate = task.evaluator()
    configuration = dict.fromkeys(TASKSET_SPACE, 1e-5) | {"one_minus_beta2": 1.0}
    for distance, row in ((1e-3, 2), (1e-2, 1), (1.0, 3), (0.1, 0)):
        curve = evaluate(configuration | {"one_minus_beta1": distance})
        assert curve.values[0] == row * 51 + 1


def test_absent_damaged_and_foreign_files_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_taskset(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match=r"text.npz: is not a numpy archive"):
        load_taskset(tmp_path / "text.npz")
    whole = write_taskset(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half.npz: is not a numpy archive"):
        load_taskset(tmp_path / "half.npz")
    with pytest.raises(DataError, match="has no array 'val_error'"):
        load_lcbench(write_taskset(tmp_path / "b.npz"))
    letters = np.array(list("abcdefgh"))
    with pytest.raises(DataError, match=r"has no column 'learning_rate'; its columns are \['a'"):
        load_taskset(write_taskset(tmp_path / "c.npz", config_names=letters))
    with pytest.raises(DataError, match=r"configs \(4, 8\) must have one column for each of 7"):
        load_taskset(write_taskset(tmp_path / "d.npz", config_names=letters[:7]))


@pytest.mark.parametrize("kind", ["taskset", "lcbench"])
def test_every_recorded_row_is_found_by_its_own_configuration(shared_data, kind):
    path = sorted((shared_data / kind).glob("*.npz"))[0]
    task = (load_taskset if kind == "taskset" else load_lcbench)(path)
    arrays = np.load(path)
    curves = arrays["valid"][:, 1:] if kind == "taskset" else arrays["val_error"]
    names = [str(n) for n in arrays["config_names"]]
    space = TASKSET_SPACE if kind == "taskset" else LCBENCH_SPACE
    evaluate = task.evaluator()
    for row in range(0, len(curves), 97):
        configuration = {}
        for name, domain in space.items():
            value = float(arrays["configs"][row, names.index(name.removeprefix(ONE_MINUS))])
            value = 1.0 - value if name.startswith(ONE_MINUS) else value
            value = min(max(value, domain["lower"]), domain["upper"])
            configuration[name] = round(value) if domain["domain"].endswith("int") else value
        curve = evaluate(configuration)
        np.testing.assert_array_equal(curve.values, curves[row].astype(float))
        if kind == "lcbench":
            assert curve.epoch_s == pytest.approx(float(arrays["epoch_s"][row]))


def test_diverged_taskset_rows_stay_in(shared_data):
    name = "FixedTextRNNClassification_imdb_patch128_LSTM128_avg_bs64.npz"
    task = load_taskset(shared_data / "taskset" / name)
    assert task.best_value == pytest.approx(0.1238, abs=5e-5)
    assert task.typical_value == pytest.approx(0.6932, abs=2e-4)
    evaluate = task.evaluator()
    rng = np.random.default_rng(0)
    curves = [evaluate(task.space.sample(rng)).values for _ in range(len(task))]
    assert sum(np.isnan(curve).any() for curve in curves) == 84
