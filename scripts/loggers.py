"""The options of the tuning scripts that hand a run to TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from raytune_ahu import ExperimentSpec
from raytune_ahu.adapters.loggers import make_loggers

OPTIONS = {"tensorboard", "mlflow", "wandb"}
"""By their names in the namespace; a resume may change them, as they say where to log."""


def add_logger_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("where to watch it, beside the live view")
    group.add_argument(
        "--tensorboard",
        action="store_const",
        const=True,
        help="TensorBoard event files of every trial: tensorboard --logdir STORAGE/NAME",
    )
    group.add_argument(
        "--mlflow",
        nargs="?",
        const="",
        metavar="URI",
        help="MLflow: an experiment a run, an MLflow run a trial (default URI: that of "
        "MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)",
    )
    group.add_argument(
        "--wandb",
        nargs="?",
        const="",
        metavar="PROJECT",
        help="Weights & Biases: a group a run, a W&B run a trial (default project: that of "
        "WANDB_PROJECT, or raytune-ahu); WANDB_MODE=offline writes files only",
    )


def loggers_of(args: argparse.Namespace, spec: ExperimentSpec, console: Console) -> list[Any]:
    """Make the callbacks that the options ask for; raises as `make_loggers`."""
    return list(
        make_loggers(
            spec,
            tensorboard=bool(args.tensorboard),
            mlflow=args.mlflow,
            wandb=args.wandb,
            console=console,
        )
    )
