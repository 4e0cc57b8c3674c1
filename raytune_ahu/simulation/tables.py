"""Loads recorded learning curves of two public collections as tasks. The caller names the file.

A file is a numpy archive with `configs` (n, d), `config_names` (d,) and the curves: TaskSet (Metz
et al. 2020, its text classification tasks as repackaged for DyHPO) has `valid` (n, 51), LCBench
(Zimmer et al. 2021, read through the surrogate of YAHPO Gym) `val_error` (n, 51), `epoch_s` (n,).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from raytune_ahu.simulation.tasks import TableTask
from raytune_ahu.space import SearchSpace


def _log(lower: float, upper: float) -> dict[str, Any]:
    return {"domain": "loguniform", "lower": lower, "upper": upper}


TASKSET_SPACE: dict[str, Any] = {
    "learning_rate": _log(1e-8, 10.0),
    "one_minus_beta1": _log(1e-4, 1.0),
    "one_minus_beta2": _log(1e-6, 1.0),
    "epsilon": _log(1e-10, 1e3),
    "l1": _log(1e-8, 10.0),
    "l2": _log(1e-8, 10.0),
    "linear_decay": _log(1e-7, 1e-4),
    "exponential_decay": _log(1e-6, 1e-3),
}
"""The eight settings of Adam in TaskSet; of the betas the distance to 1, as that is log-uniform."""

LCBENCH_SPACE: dict[str, Any] = {
    "batch_size": {"domain": "lograndint", "lower": 16, "upper": 512},
    "learning_rate": _log(1e-4, 0.1),
    "max_dropout": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
    "max_units": {"domain": "lograndint", "lower": 64, "upper": 1024},
    "momentum": {"domain": "uniform", "lower": 0.1, "upper": 0.99},
    "num_layers": {"domain": "randint", "lower": 1, "upper": 4},
    "weight_decay": {"domain": "uniform", "lower": 1e-5, "upper": 0.1},
}
"""The seven settings of LCBench's funnel-shaped networks."""

ONE_MINUS = "one_minus_"
"""Prefix of the parameters that hold 1 - the recorded column."""


def load_taskset(path: str | Path) -> TableTask:
    """Load a TaskSet file: validation losses of 50 steps, each one virtual second.

    The first point of each curve, the untrained network, is left out: it is not an epoch.
    Diverged rows stay in.

    Raises:
        DataError: If the file is absent or has another layout.
    """
    arrays = _read(path, "configs", "config_names", "valid")
    return _table(path, TASKSET_SPACE, arrays, arrays["valid"][:, 1:], None)


def load_lcbench(path: str | Path) -> TableTask:
    """Load an LCBench file: validation errors of 51 epochs, with each row's own epoch duration.

    Raises:
        DataError: If the file is absent or has another layout.
    """
    arrays = _read(path, "configs", "config_names", "val_error", "epoch_s")
    return _table(path, LCBENCH_SPACE, arrays, arrays["val_error"], arrays["epoch_s"])


def _read(path: str | Path, *keys: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            if missing:
                raise DataError(f"{path}: has no array {missing[0]!r}; it needs {', '.join(keys)}")
            return {key: archive[key] for key in keys}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a numpy archive") from None
    except (OSError, ValueError, BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is not a numpy archive ({error})") from None


def _table(
    path: str | Path,
    declaration: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    values: NDArray[Any],
    epoch_s: NDArray[Any] | None,
) -> TableTask:
    names = [str(name) for name in arrays["config_names"]]
    configs = arrays["configs"]
    if configs.ndim != 2 or configs.shape[1] != len(names):
        raise DataError(
            f"{path}: configs {configs.shape} must have one column for each of {len(names)} names"
        )
    columns = dict(zip(names, configs.T.astype(np.float64), strict=True))
    space = SearchSpace.from_dict(declaration)
    settings = {}
    for name, domain in declaration.items():
        recorded = name.removeprefix(ONE_MINUS)
        if recorded not in columns:
            raise DataError(f"{path}: has no column {recorded!r}; its columns are {names}")
        column = columns[recorded] if recorded == name else 1.0 - columns[recorded]
        # single precision: a row on a bound may lie a rounding error outside
        settings[name] = np.clip(column, domain["lower"], domain["upper"])
        if domain["domain"].endswith("int"):
            settings[name] = settings[name].round().astype(np.int64)
    table = zip(*(column.tolist() for column in settings.values()), strict=True)
    rows = np.array([space.encode(dict(zip(settings, row, strict=True))) for row in table])
    return TableTask(Path(path).stem, space, rows, values, epoch_s)
