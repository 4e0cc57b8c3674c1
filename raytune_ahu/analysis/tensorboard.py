"""A run as TensorBoard event files: a folder a trial, scalars by epoch, and the HPARAMS tab.

`write_tensorboard(results, folder)` writes the files of any run; `EventFiles` also appends to them
while a run is going on. Written record by record, without TensorBoard's own writers: those have a
thread for each trial, describe the hyperparameters of one trial only (TensorBoard takes the first
description it finds, so in a conditional space the others' columns are lost), and name files by the
second. The formats are those of tensorboard/compat/proto/event.proto, tensorboard/plugins/hparams
(api.proto) and, for the framing of records, TensorFlow's TFRecord.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ahu.analysis.stories import Point, Story, stories_of
from raytune_ahu.errors import OptionalDependencyError, RunBusyError, StorageError
from raytune_ahu.records import is_driven
from raytune_ahu.space.discrete import Listed
from raytune_ahu.types import TrialStatus

if TYPE_CHECKING:
    from raytune_ahu.results import Results
    from raytune_ahu.space import SearchSpace

MARK = ".raytune-ahu"
"""End of the names of our files, so that nobody else's are replaced."""
_PLUGIN = "hparams"


def write_tensorboard(results: Results, folder: str | Path) -> Path:
    """Write event files for all trials of a run; those of an earlier call are replaced.

    Args:
        results: The run.
        folder: Where; each trial has a folder there, named by its id. For `tensorboard --logdir`.

    Raises:
        OptionalDependencyError: If tensorboardX is not installed.
        RunBusyError: If the folder is that of a run which is going on: its driver may be writing.
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    if is_driven(folder):
        raise RunBusyError(
            f"the run in {folder} is going on, and may be writing event files there; choose "
            "another folder"
        )
    stories = stories_of(results)
    described = describe_space(results.space) if results.space else describe_values(stories)
    files = EventFiles(folder, results.metric, described)
    try:
        for story in stories.values():
            files.rewrite(story)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


class EventFiles:
    """The event files of a run's trials.

    A trial has one file of ours at a time. It is written anew when a trial is taken up again that
    has ended, or by another process; the new name tells a TensorBoard that is running. An epoch
    that is repeated is preceded by a restart record, with which TensorBoard forgets the first one.

    Args:
        folder: Where; each trial gets a folder there.
        metric: The metric that is tuned.
        described: The hyperparameters as `describe_space` or `describe_values` describes them.

    Raises:
        OptionalDependencyError: If tensorboardX is not installed.
    """

    def __init__(self, folder: Path, metric: str, described: Mapping[str, Any]) -> None:
        _require_tensorboardx()
        self._folder = folder
        self._described = described
        self._header = _experiment(metric, described)
        self._paths: dict[str, Path] = {}
        self._last: dict[str, int] = {}

    def rewrite(self, story: Story) -> None:
        """Write a trial's file as a whole, in place of those there are."""
        folder = self._folder / story.trial
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"*tfevents*{MARK}"):
            old.unlink()
        path = folder / f"events.out.tfevents.{time.time():.6f}{MARK}"
        points = list(story.points.values())
        begun = points[0].time if points else time.time()
        records = [
            _event(begun, file_version="brain.Event:2"),
            _restart(begun, 0),  # a TensorBoard that is running forgets the older file
            _event(begun, summary=self._header),
            _event(begun, summary=_session_start(story, self._described, begun)),
            *_scalars(points),
        ]
        if story.status.is_final:
            records.append(_session_end(story, points[-1].time if points else begun))
        path.write_bytes(b"".join(map(_framed, records)))
        self._paths[story.trial] = path
        self._last[story.trial] = points[-1].resource if points else 0

    def append(self, story: Story, point: Point) -> None:
        """Add a report to a trial's file."""
        if story.trial not in self._paths:
            return self.rewrite(story)
        records = list(_scalars([point], self._last[story.trial]))
        self._add(story.trial, records)
        self._last[story.trial] = point.resource
        return None

    def end(self, story: Story) -> None:
        """Add that a trial has ended, and how."""
        if story.trial not in self._paths:
            return self.rewrite(story)
        return self._add(story.trial, [_session_end(story, time.time())])

    def _add(self, trial: str, records: Iterable[Any]) -> None:
        with self._paths[trial].open("ab") as file:
            file.write(b"".join(map(_framed, records)))


# --- hyperparameters


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Describe each hyperparameter: its listed values, or the bounds between which numbers lie."""
    described: dict[str, Any] = {}
    for parameter in space.declaration.parameters:
        domain: Any = parameter.domain
        if isinstance(domain, Listed):
            described[parameter.name] = domain.all_values()
        else:
            described[parameter.name] = (float(domain.lower), float(domain.upper))
    return described


def describe_values(stories: Mapping[str, Story]) -> dict[str, Any]:
    """Describe each hyperparameter by the values that it has had."""
    seen: dict[str, list[Any]] = {}
    for story in stories.values():
        for name, value in story.hyperparameters.items():
            seen.setdefault(name, []).append(value)
    return {
        name: (min(values), max(values)) if all(map(_is_number, values)) else values
        for name, values in seen.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(described: Any) -> str:
    """Kind of a hyperparameter in TensorBoard: `FLOAT64`, `BOOL`, or else `STRING`."""
    if isinstance(described, tuple) or all(map(_is_number, described)):
        return "FLOAT64"
    return "BOOL" if all(isinstance(value, bool) for value in described) else "STRING"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def _experiment(metric: str, described: Mapping[str, Any]) -> Any:
    """The columns of the HPARAMS tab: all hyperparameters, and the tuned metric at its best."""
    from tensorboardX.proto import api_pb2

    experiment = api_pb2.Experiment()
    for name, what in described.items():
        kind = _kind(what)
        info = experiment.hparam_infos.add(name=name, type=f"DATA_TYPE_{kind}")
        if isinstance(what, tuple):
            info.domain_interval.min_value, info.domain_interval.max_value = what
        elif kind == "STRING":
            info.domain_discrete.extend(list(dict.fromkeys(map(_text, what))))
        else:
            info.domain_discrete.extend(list(dict.fromkeys(what)))
    for tag, shown in ((f"best/{metric}", f"best {metric}"), (metric, f"last {metric}")):
        info = experiment.metric_infos.add(display_name=shown)
        info.name.tag = tag
    return _hparams_summary("experiment", experiment=experiment)


def _session_start(story: Story, described: Mapping[str, Any], begun: float) -> Any:
    from tensorboardX.proto import plugin_hparams_pb2

    info = plugin_hparams_pb2.SessionStartInfo(group_name=story.trial, start_time_secs=begun)
    for name, value in story.hyperparameters.items():
        kind = _kind(described.get(name, [value]))
        if kind == "FLOAT64":
            info.hparams[name].number_value = value
        elif kind == "BOOL":
            info.hparams[name].bool_value = value
        else:
            info.hparams[name].string_value = _text(value)
    return _hparams_summary("session_start_info", session_start_info=info)


def _session_end(story: Story, ended: float) -> Any:
    from tensorboardX.proto import plugin_hparams_pb2

    failed = story.status is TrialStatus.FAILED
    info = plugin_hparams_pb2.SessionEndInfo(
        status="STATUS_FAILURE" if failed else "STATUS_SUCCESS", end_time_secs=ended
    )
    return _event(ended, summary=_hparams_summary("session_end_info", session_end_info=info))


def _hparams_summary(tag: str, **content: Any) -> Any:
    from tensorboardX.proto import plugin_hparams_pb2, summary_pb2

    data = plugin_hparams_pb2.HParamsPluginData(version=0, **content)
    summary = summary_pb2.Summary()
    value = summary.value.add(tag=f"_hparams_/{tag}")
    value.metadata.plugin_data.plugin_name = _PLUGIN
    value.metadata.plugin_data.content = data.SerializeToString()
    return summary


# --- records


def _scalars(points: Iterable[Point], last: int = 0) -> Iterable[Any]:
    """One event a report, and a restart before an epoch that is not later than the last one."""
    from tensorboardX.proto import summary_pb2

    for point in points:
        if point.resource <= last:
            yield _restart(point.time, point.resource)
        last = point.resource
        summary = summary_pb2.Summary()
        for name, value in point.metrics.items():
            summary.value.add(tag=name, simple_value=value)
        yield _event(point.time, step=point.resource, summary=summary)


def _restart(at: float, step: int) -> Any:
    from tensorboardX.proto import event_pb2

    return _event(at, step=step, session_log=event_pb2.SessionLog(status="START"))


def _event(at: float, **content: Any) -> Any:
    from tensorboardX.proto import event_pb2

    return event_pb2.Event(wall_time=at, **content)


def _framed(event: Any) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    data: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checks[0] + data + checks[1]


def _require_tensorboardx() -> None:
    try:
        import tensorboardX.proto.event_pb2  # noqa: F401
    except ImportError as error:
        raise OptionalDependencyError(
            "TensorBoard files need tensorboardX, which comes with ray[tune]; install it with: "
            "pip install tensorboardX"
        ) from error
