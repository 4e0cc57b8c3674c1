"""Event files of recorded runs, read back with TensorBoard's own readers."""

from __future__ import annotations

import math
import shutil

import pytest

from raytune_ahu.analysis.stories import Story, stories_of
from raytune_ahu.analysis.tensorboard import (
    MARK,
    EventFiles,
    describe_space,
    describe_values,
    write_tensorboard,
)
from raytune_ahu.errors import RunBusyError, StorageError
from raytune_ahu.records import RunLog
from raytune_ahu.results import load
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import TrialStatus
from tests.recorded_runs import record_run

pytest.importorskip("tensorboard", reason="needs TensorBoard's readers: pip install tensorboard")


def scalars(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def hparams_tab(folder):
    """What the HPARAMS tab shows: its experiment, and a row for each trial."""
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(TBContext(data_provider=provider))
    request = RequestContext()
    found = backend.hparams_metadata(request, "")
    experiment = backend.experiment_from_metadata(request, "", True, found, [])
    statuses = [getattr(api_pb2, f"STATUS_{name}") for name in ("UNKNOWN", "SUCCESS", "FAILURE")]
    asked = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10_000)
    asked.allowed_statuses.extend([*statuses, api_pb2.STATUS_RUNNING])
    asked.aggregation_type = api_pb2.AGGREGATION_AVG
    asked.include_metrics = True
    for metric in experiment.metric_infos:
        asked.col_params.add().metric.CopyFrom(metric.name)
    groups = list_session_groups.Handler(request, backend, "", asked).run().session_groups
    return experiment, {group.name: group for group in groups}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = record_run(tmp_path_factory.mktemp("runs") / "mixed", diverges_above=0.3)
    return load(folder)


@pytest.fixture(scope="module")
def written(recorded, tmp_path_factory):
    return write_tensorboard(recorded, tmp_path_factory.mktemp("events"))


def test_every_trial_is_a_run_named_by_its_id_with_every_metric_by_epoch(recorded, written):
    assert sorted(path.name for path in written.iterdir()) == list(recorded.trials["trial"])
    for trial, reports in recorded.reports.groupby("trial"):
        finite = reports[reports["value"].notna()]
        read = scalars(written / trial, "train_loss")
        assert [step for step, _ in read] == reports["resource"].tolist()
        if len(finite):
            read = scalars(written / trial, "validation_accuracy")
            assert [step for step, _ in read] == finite["resource"].tolist()
            assert [value for _, value in read] == pytest.approx(finite["value"].tolist())


def test_a_value_that_is_not_finite_is_left_out(recorded, written):
    diverged = recorded.trials[recorded.trials["best_value"].isna()]["trial"]
    assert len(diverged)
    with pytest.raises(KeyError):
        scalars(written / diverged.iloc[0], "validation_accuracy")


def test_the_hparams_tab_has_all_hyperparameters_and_the_best_value_of_each_trial(
    recorded, written
):
    experiment, groups = hparams_tab(written)
    assert {info.name for info in experiment.hparam_infos} == set(recorded.space.names)
    assert [info.name.tag for info in experiment.metric_infos] == [
        "best/validation_accuracy",
        "validation_accuracy",
    ]
    assert list(groups) == list(recorded.trials["trial"])
    for row in recorded.trials.itertuples():
        group = groups[row.trial]
        told = recorded.configuration(row.trial)
        shown = group.hparams
        assert shown["lr"].number_value == told["lr"]
        assert shown["optimizer"].string_value == told["optimizer"]
        assert shown["model/layers"].number_value == told["model"]["layers"]
        assert ("momentum" in shown) == (told["optimizer"] == "sgd")
        best = {value.name.tag: value.value for value in group.metric_values}
        if math.isnan(row.best_value):
            assert best == {}
        else:
            assert best["best/validation_accuracy"] == pytest.approx(row.best_value)


def test_the_hparams_tab_tells_failed_trials_from_others(recorded, written):
    from tensorboard.plugins.hparams import api_pb2

    _, groups = hparams_tab(written)
    for row in recorded.trials.itertuples():
        status = groups[row.trial].sessions[0].status
        failed = row.status == "failed"
        assert status == (api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS)
    assert "failed" in set(recorded.trials["status"])


def test_writing_again_replaces_our_files_and_nobody_elses(recorded, tmp_path):
    write_tensorboard(recorded, tmp_path)
    other = tmp_path / "trial_00000" / "events.out.tfevents.1.somebody"
    other.write_bytes(b"")
    write_tensorboard(recorded, tmp_path)
    names = [path.name for path in (tmp_path / "trial_00000").iterdir()]
    assert other.name in names
    assert sum(name.endswith(MARK) for name in names) == 1


def test_a_run_without_trials_writes_nothing(recorded, tmp_path):
    folder = tmp_path / "runs" / "empty"
    shutil.copytree(recorded.folder, folder)
    (folder / "log.jsonl").write_text("")
    events = write_tensorboard(load(folder), tmp_path / "events")
    assert not events.exists() or not any(events.iterdir())


def test_values_of_any_kind_are_shown():
    space = SearchSpace.from_dict(
        {
            "width": {"domain": "choice", "values": [None, 8, [4, 2]]},
            "bias": {"domain": "choice", "values": [True, False]},
            "depth": {"domain": "ordinal", "values": [1, 2, 4]},
            "noise": {"domain": "randn", "mean": 0.0, "sd": 1.0, "lower": -2.0, "upper": 2.0},
        }
    )
    described = describe_space(space)
    assert described["noise"] == (-2.0, 2.0)
    story = Story("t", {"width": [4, 2], "bias": False, "depth": 4, "noise": 0.5}, "loss", "min")
    values = {"t": story, "u": Story("u", {"width": None}, "loss", "min")}
    assert describe_values(values)["width"] == [[4, 2], None]


@pytest.fixture
def mixed_files(tmp_path):
    space = SearchSpace.from_dict(
        {
            "width": {"domain": "choice", "values": [None, 8, [4, 2]]},
            "bias": {"domain": "choice", "values": [True, False]},
            "x": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
        }
    )
    return EventFiles(tmp_path, "loss", describe_space(space))


def test_hyperparameters_that_are_lists_none_and_flags_reach_the_tab(mixed_files, tmp_path):
    for trial, width in (("a", None), ("b", [4, 2]), ("c", 8)):
        story = Story(trial, {"width": width, "bias": trial == "a", "x": 0.5}, "loss", "min")
        story.add(1, 1.0, {"loss": 1.0})
        mixed_files.rewrite(story)
    experiment, groups = hparams_tab(tmp_path)
    widths = {name: group.hparams["width"].string_value for name, group in groups.items()}
    assert widths == {"a": "null", "b": "[4, 2]", "c": "8"}
    assert groups["a"].hparams["bias"].bool_value
    assert not groups["b"].hparams["bias"].bool_value
    infos = {info.name: info for info in experiment.hparam_infos}
    discrete = list(infos["width"].domain_discrete.values)
    assert [value.string_value for value in discrete] == ["null", "8", "[4, 2]"]
    assert infos["x"].domain_interval.max_value == 1.0


def test_an_epoch_that_is_repeated_replaces_the_first_attempt(mixed_files, tmp_path):
    story = Story("a", {"x": 0.5}, "loss", "min")
    mixed_files.rewrite(story)
    for resource, loss in ((1, 1.0), (2, 0.9), (3, 0.8), (2, 0.95), (3, 0.85), (4, 0.7)):
        mixed_files.append(story, story.add(resource, float(resource), {"loss": loss}))
    expected = [(1, 1.0), (2, 0.95), (3, 0.85), (4, 0.7)]
    assert scalars(tmp_path / "a", "loss") == [(step, pytest.approx(v)) for step, v in expected]
    story.status = TrialStatus.COMPLETED
    mixed_files.end(story)
    _, groups = hparams_tab(tmp_path)
    assert groups["a"].sessions[0].status == 1


def test_the_folder_of_a_run_that_is_going_on_is_left_to_its_driver(recorded, tmp_path):
    folder = tmp_path / "going"
    shutil.copytree(recorded.folder, folder)
    with RunLog(folder), pytest.raises(RunBusyError, match="another folder"):
        write_tensorboard(load(folder), folder)
    write_tensorboard(load(folder), folder)
    assert any((folder / "trial_00000").glob(f"*{MARK}"))


def test_a_folder_that_cannot_be_written_is_one_clear_line(recorded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_tensorboard(recorded, tmp_path / "file")


def test_stories_hold_finite_numbers_and_the_best_so_far(recorded):
    stories = stories_of(recorded)
    assert list(stories) == list(recorded.trials["trial"])
    for row in recorded.trials.itertuples():
        story = stories[row.trial]
        best = math.nan if story.best is None else story.best
        assert best == pytest.approx(row.best_value, nan_ok=True)
        so_far = -math.inf
        for point in story.points.values():
            assert all(math.isfinite(value) for value in point.metrics.values())
            if "validation_accuracy" in point.metrics:
                so_far = max(so_far, point.metrics["validation_accuracy"])
                assert point.metrics["best/validation_accuracy"] == so_far
