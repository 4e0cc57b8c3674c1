"""Errors of raytune_ahu: one root class, so that a script can catch what is the user's to mend.

Every message names the value, the allowed range and the fix. Start with `AhuError`.
"""

from __future__ import annotations


class AhuError(Exception):
    """Root of all errors that a user of raytune_ahu can cause and mend.

    Scripts print the message of an `AhuError` on one line and exit with code 2. Anything else is a
    defect of raytune_ahu and keeps its traceback.
    """


class SpaceError(AhuError, ValueError):
    """A search space, or a configuration of it, is not valid. The message names the parameter."""


class SpecError(AhuError, ValueError):
    """An experiment specification is not valid: a value out of range, or values that contradict."""


class DataError(AhuError, ValueError):
    """A data set is unknown, absent or damaged. The message says what to put where."""


class ClusterError(AhuError, RuntimeError):
    """The Ray cluster cannot be reached, or can never provide what a trial asks for."""


class StorageError(AhuError, OSError):
    """A path cannot be written or read."""


class RunExistsError(AhuError, ValueError):
    """A new run would overwrite an existing one."""


class RunBusyError(AhuError, RuntimeError):
    """Another process is writing the record of the run."""


class RunNotFoundError(AhuError, ValueError):
    """No run is recorded where one was asked for."""


class RecordError(AhuError, ValueError):
    """The record of a run (spec.json, log.jsonl) cannot be read."""


class MetricError(AhuError, ValueError):
    """The trainable does not report the metric. The message names the metrics it does report."""


class CheckpointError(AhuError, ValueError):
    """A checkpoint is absent, damaged, or belongs to another kind of trial."""


class OptionalDependencyError(AhuError, ImportError):
    """A feature needs a package that is not installed. The message gives the install command."""


class TrackerError(AhuError, RuntimeError):
    """MLflow or Weights & Biases cannot be reached, or wants a login."""
