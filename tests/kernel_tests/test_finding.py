"""A recorded run is found by name, path, or as the newest one, wherever it lies now."""

from __future__ import annotations

import os

import pytest

from raytune_ahu.errors import RecordError, RunNotFoundError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.finding import find_run
from raytune_ahu.mirror import mirror_for
from raytune_ahu.records import RunLog
from raytune_ahu.run_folder import make_folder
from raytune_ahu.space import SearchSpace
from raytune_ahu.storage import CheckpointStorage

SPACE = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})


def make_run(name, storage_path, *, trainable="tests:Toy", age_s=0, **changes):
    spec = ExperimentSpec(
        name=name,
        trainable=trainable,
        space=SPACE,
        metric="loss",
        mode="min",
        max_epochs=9,
        num_samples=3,
        storage_path=str(storage_path),
        **changes,
    )
    make_folder(spec)
    with RunLog(spec.folder) as log:
        log.write("run_started", session=1)
    written = (spec.folder / "log.jsonl").stat().st_mtime - age_s
    os.utime(spec.folder / "log.jsonl", (written, written))
    return spec


def find(name_or_path, tmp_path, trainable="tests:Toy", **places):
    places = {"storage_path": str(tmp_path), "record_path": str(tmp_path), **places}
    return find_run(name_or_path, trainable=trainable, **places)


def test_by_name_and_by_path_the_specification_comes_back(tmp_path):
    spec = make_run("a", tmp_path)
    assert find("a", tmp_path) == spec
    assert find(str(tmp_path / "a"), tmp_path / "elsewhere") == spec


def test_without_a_name_it_is_the_newest_of_that_trainable(tmp_path):
    make_run("old", tmp_path, age_s=100)
    make_run("new", tmp_path, age_s=50)
    make_run("other", tmp_path, trainable="tests:Other")
    assert find("", tmp_path).name == "new"
    with pytest.raises(RunNotFoundError, match="no run of tests:Third"):
        find("", tmp_path, trainable="tests:Third")


def test_a_folder_that_was_moved_and_renamed_is_where_it_is_now(tmp_path):
    make_run("a", tmp_path / "here")
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "a").rename(tmp_path / "there" / "b")
    spec = find(str(tmp_path / "there" / "b"), tmp_path)
    assert (spec.name, spec.folder) == ("b", tmp_path / "there" / "b")


def test_what_is_absent_or_damaged_is_said(tmp_path):
    make_run("a", tmp_path)
    with pytest.raises(RunNotFoundError, match=r"'b' is not recorded in .*; newest runs: a"):
        find("b", tmp_path)
    (tmp_path / "a" / "spec.json").write_text('{"spec": {"name": "a"}}')
    with pytest.raises(RecordError, match=r"spec.json is damaged"):
        find("a", tmp_path)
    (tmp_path / "a" / "spec.json").unlink()
    with pytest.raises(RecordError, match=r"a log but no spec.json"):
        find("a", tmp_path)


@pytest.mark.parametrize("by", ["name", "uri"])
def test_a_run_in_an_object_store_is_found_on_a_machine_that_has_no_record_of_it(
    tmp_path, s3_server, by
):
    uri = s3_server.format(f"finding-{by}")
    spec = make_run("far", uri, record_path=str(tmp_path / "first"))
    mirror = mirror_for(spec.folder, CheckpointStorage(uri, "far"))
    mirror.claim(resume=True)
    mirror.close()
    place, _, query = uri.partition("?")
    name = "far" if by == "name" else f"{place}/far" + (f"?{query}" if query else "")
    found = find(name, tmp_path, storage_path=uri, record_path=str(tmp_path / "second"))
    assert found == spec.replace(record_path=str(tmp_path / "second"))
    assert (tmp_path / "second" / "far" / "log.jsonl").exists()
