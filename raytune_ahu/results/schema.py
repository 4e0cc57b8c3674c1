"""The frames of a run: their columns, dtypes, units and meanings. A public contract, versioned.

A column is never renamed, and never changes its meaning, without a higher `SCHEMA_VERSION`; new
columns may come without. `config/NAME` and `metric/NAME` stand for as many columns as the run has
hyperparameters and metrics. Start with `FRAMES`.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1

CONFIG = "config/"
"""Prefix of the columns that hold hyperparameters, by their flat names."""
METRIC = "metric/"
"""Prefix of the columns that hold what a trainable reported."""


CATEGORIES: dict[str, tuple[str, ...]] = {
    "status": ("pending", "running", "paused", "completed", "stopped", "failed"),
    "decision": ("continue", "pause", "stop"),
    "ended": ("completed", "stopped", "failed", "paused", "interrupted"),
}
"""The categories of each categorical column, in this order, whether they occur or not."""


@dataclass(frozen=True)
class Column:
    """One column of a frame."""

    name: str
    """Its name; a trailing `*` stands for any number of columns."""
    dtype: str
    """Its pandas dtype; the nullable ones (`Int64`) hold <NA> where there is nothing to say."""
    meaning: str
    """What it holds, with its unit."""


TRIALS = (
    Column("trial", "string", "id of the trial, in the order of suggestion"),
    Column("status", "category", "pending, running, paused, completed, stopped or failed"),
    Column("origin", "string", "who proposed it: random, grid, user, prior, model@<rung level>"),
    Column("model", "string", "model that proposed it: kde, ...; <NA>: none, or not on record"),
    Column(
        "expected_improvement",
        "float64",
        "what that model expected it to gain at full resource over the incumbent, >= 0, in units "
        "of the tuned metric; NaN: it did not say",
    ),
    Column(
        "best_value", "float64", "best finite value of the tuned metric at any epoch, as in reports"
    ),
    Column("best_resource", "Int64", "epochs at which best_value was seen"),
    Column("last_value", "float64", "the metric in the newest report; may be NaN or infinite"),
    Column("resource", "int64", "epochs of the newest report; 0: none yet"),
    Column("rung", "Int64", "highest rung level that it has reported at"),
    Column("rungs", "int64", "rung levels that it has reported at"),
    Column("epochs_run", "int64", "epochs trained, those repeated after a fault included"),
    Column("training_s", "float64", "seconds that its epochs took in the worker"),
    Column("suggested_s", "float64", "when it was suggested, in seconds of the run (see time_s)"),
    Column("ended_s", "float64", "when it ended, in seconds of the run; NaN: it has not"),
    Column("node", "string", "host of its newest worker"),
    Column("cpus", "float64", "CPU cores that it takes, by the newest specification"),
    Column(
        "gpus", "float64", "GPUs that it takes, by the newest specification; a fraction shares one"
    ),
    Column("failures", "int64", "faults that count against max_failures"),
    Column("fault", "string", "kind of its newest fault, as in the log"),
    Column("error", "string", "text of its newest exception, with traceback, or why it diverged"),
    Column("checkpoint", "string", "its newest checkpoint in the record, relative to the folder"),
    Column("checkpoint_resource", "Int64", "epochs at which that checkpoint was written"),
    Column(f"{CONFIG}*", "by its values", "hyperparameters; <NA> where inactive"),
)
"""One row a trial."""

REPORTS = (
    Column("trial", "string", "id of the trial"),
    Column("resource", "int64", "epochs trained, from 1; of a repeated epoch the newest report"),
    Column("value", "float64", "the tuned metric; NaN: not finite, or not reported"),
    Column("decision", "category", "what the scheduler answered: continue, pause or stop"),
    Column("time_s", "float64", "seconds of the run, idle time between sessions left out"),
    Column("time", "datetime64[ms, UTC]", "when it was recorded"),
    Column("seconds", "float64", "seconds that the epoch took in the worker"),
    Column("session", "int64", "session of the run, from 1; each resume begins another"),
    Column("node", "string", "host of the worker"),
    Column("epochs_so_far", "int64", "reports of all trials by then, repeated epochs included"),
    Column(f"{METRIC}*", "by its values", "everything else that the trainable reported"),
)
"""One row for each trial and epoch, in the order of time."""

RUNGS = (
    Column("level", "int64", "epochs at which trials are compared"),
    Column("entrants", "int64", "trials that reported there, those that diverged included"),
    Column("survivors", "int64", "those of them that were trained further; at the top: all finite"),
    Column("cutoff", "float64", "worst value among the best 1/eta there; NaN: too few trials"),
    Column("best", "float64", "best value there"),
    Column("median", "float64", "median of the finite values there"),
)
"""One row a rung level, all brackets together."""

INTERVALS = (
    Column("trial", "string", "id of the trial"),
    Column("node", "string", "host of the worker"),
    Column("worker", "Int64", "process id of the worker on its node"),
    Column("start_s", "float64", "when it got the worker, in seconds of the run"),
    Column("end_s", "float64", "when it gave it up, or the last thing that is known of it"),
    Column("from_resource", "int64", "epochs it began with"),
    Column("to_resource", "int64", "epochs of its last report there"),
    Column("ended", "category", "by what: completed, stopped, failed, paused, or interrupted"),
    Column("cpus", "float64", "CPU cores that it took then"),
    Column("gpus", "float64", "GPUs that it took then"),
)
"""One row for each stay of a trial on a worker."""

SESSIONS = (
    Column("session", "int64", "from 1"),
    Column("host", "string", "machine of the driver"),
    Column("pid", "Int64", "process id of the driver"),
    Column("slots", "Int64", "trials that could run at once when it began"),
    Column("time", "datetime64[ms, UTC]", "when it began"),
    Column("start_s", "float64", "the same in seconds of the run"),
    Column("end_s", "float64", "its last event, in seconds of the run"),
    Column("reason", "string", "why it ended; <NA>: it was killed, or is going on"),
)
"""One row for each time that a driver was started."""

FRAMES = {
    "trials": TRIALS,
    "reports": REPORTS,
    "rungs": RUNGS,
    "intervals": INTERVALS,
    "sessions": SESSIONS,
}
"""All frames by their names, which are attributes of `Results` and names of files."""


def describe() -> dict[str, object]:
    """Return the schema, JSON-ready; it is written beside exported frames."""
    return {
        "schema_version": SCHEMA_VERSION,
        "frames": {
            name: [{"column": c.name, "dtype": c.dtype, "meaning": c.meaning} for c in columns]
            for name, columns in FRAMES.items()
        },
    }
