"""The log of a run: what is written is read back, and damage is named."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raytune_ahu.errors import RecordError, RunBusyError, RunNotFoundError, StorageError
from raytune_ahu.records import (
    LOG_FILE,
    RunLog,
    dumps,
    loads,
    plain,
    read_events,
    read_json,
    write_json,
)


def test_events_are_read_back_in_order(tmp_path):
    with RunLog(tmp_path) as log:
        written = [log.write("reported", trial="a", value=float(i)) for i in range(5)]
    assert list(read_events(tmp_path)) == written
    assert [event["value"] for event in written] == [0, 1, 2, 3, 4]


def test_an_event_is_on_file_before_write_returns(tmp_path):
    log = RunLog(tmp_path)
    log.write("suggested", trial="a")
    assert [event["trial"] for event in read_events(tmp_path)] == ["a"]
    log.close()


def test_every_line_is_standard_json_even_with_non_finite_values(tmp_path):
    import json

    with RunLog(tmp_path) as log:
        log.write("reported", value=math.nan, metrics={"a": [math.inf, -math.inf]})
    line = (tmp_path / LOG_FILE).read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (event,) = read_events(tmp_path)
    assert math.isnan(event["value"])
    assert event["metrics"]["a"] == [math.inf, -math.inf]


def test_a_torn_last_line_is_left_out_and_cut_before_appending(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("suggested", trial="a")
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write('{"event": "repor')
    assert [event["trial"] for event in read_events(tmp_path)] == ["a"]
    with RunLog(tmp_path) as log:
        log.write("suggested", trial="b")
    assert [event["trial"] for event in read_events(tmp_path)] == ["a", "b"]


def test_a_damaged_line_in_the_middle_is_named_by_its_number(tmp_path):
    (tmp_path / LOG_FILE).write_text(
        '{"event": "a", "time": 1}\n{"eve\n{"event": "c", "time": 2}\n'
    )
    with pytest.raises(RecordError, match="line 2"):
        list(read_events(tmp_path))


def test_a_folder_without_a_log_is_no_run(tmp_path):
    with pytest.raises(RunNotFoundError, match=str(tmp_path)):
        list(read_events(tmp_path))
    with pytest.raises(RunNotFoundError, match=r"spec\.json"):
        read_json(tmp_path / "spec.json")


def test_a_process_killed_while_writing_leaves_whole_lines(tmp_path):
    code = (
        "import sys; from pathlib import Path; from raytune_ahu.records import RunLog\n"
        "log = RunLog(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True: log.write('reported', trial='t', metrics={'x': 'y' * 500})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    while (tmp_path / LOG_FILE).stat().st_size < 100_000:
        assert child.poll() is None
    child.kill()
    child.wait()
    with RunLog(tmp_path) as log:
        log.write("run_ended", reason="test")
    events = list(read_events(tmp_path))
    assert len(events) > 100
    assert events[-1]["reason"] == "test"


def test_numpy_torch_and_paths_become_plain_values():
    torch = pytest.importorskip("torch")
    made = plain(
        {
            "a": np.float32(0.5),
            "b": np.int64(3),
            "c": np.bool_(True),
            "d": torch.tensor(2.0),
            "e": (1, None),
            "f": Path("x"),
            3: "key",
        }
    )
    assert made == {"a": 0.5, "b": 3, "c": True, "d": 2.0, "e": [1, None], "f": "x", "3": "key"}
    assert [type(value) for value in made.values()] == [float, int, bool, float, list, str, str]


def test_a_value_without_plain_form_is_recorded_by_its_repr():
    assert plain(np.arange(2)) == "array([0, 1])"


def test_json_with_non_finite_floats_survives_a_round_trip():
    value = {"a": [1.0, math.inf, -math.inf], "b": {"float": "text"}}
    assert loads(dumps(value)) == value
    assert math.isnan(loads(dumps(math.nan)))


def test_json_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "spec.json"
    write_json(path, {"x": 1})
    assert read_json(path) == {"x": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["spec.json"]
    path.write_text('{"x": ')
    with pytest.raises(RecordError, match=r"spec\.json is damaged"):
        read_json(path)


def test_a_path_that_is_a_file_cannot_be_written_below(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_json(tmp_path / "file" / "spec.json", {})
    with pytest.raises(StorageError, match="cannot write"):
        RunLog(tmp_path / "file")


def test_the_log_does_not_depend_on_the_working_directory(tmp_path):
    before = Path.cwd()
    log = RunLog(tmp_path)
    os.chdir(tmp_path)
    try:
        log.write("a")
    finally:
        os.chdir(before)
        log.close()
    assert len(list(read_events(tmp_path))) == 1


def test_a_log_has_one_writer(tmp_path):
    code = (
        "import sys; from pathlib import Path; from raytune_ahu.records import RunLog\n"
        "log = RunLog(Path(sys.argv[1])); log.write('run_started', host='here', pid=1)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = (tmp_path / LOG_FILE).read_bytes()
        with pytest.raises(RunBusyError, match="here, pid 1"):
            RunLog(tmp_path)
        assert (tmp_path / LOG_FILE).read_bytes() == before
        other.communicate("")
    RunLog(tmp_path).close()  # the lock ends with its process


def fill(disk):
    """Leave no room on a disk; return what to delete to make room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def test_a_full_disk_leaves_no_part_of_an_event_and_the_log_goes_on_when_there_is_room(small_disk):
    with RunLog(small_disk) as log:
        log.write("started", trial="a", resource=0)
        ballast = fill(small_disk)
        waits = []

        def make_room(needed):
            whole = list(read_events(small_disk))
            waits.append((needed, len(whole), (small_disk / "log.jsonl").read_bytes()[-1:]))
            if len(waits) == 3:
                ballast.unlink()

        log.on_full = make_room
        long = "x" * 20_000
        log.write("errored", trial="a", error=long, will_retry=False)
    assert len(waits) == 3
    assert all(needed > 20_000 and n == 1 and last == b"\n" for needed, n, last in waits)
    events = list(read_events(small_disk))
    assert [event["event"] for event in events] == ["started", "errored"]
    assert events[1]["error"] == long


def test_a_full_disk_without_anybody_to_wait_is_a_storage_error(small_disk):
    with RunLog(small_disk) as log:
        fill(small_disk)
        with pytest.raises(StorageError, match="disk is full"):
            log.write("errored", trial="a", error="x" * 20_000, will_retry=False)
    assert list(read_events(small_disk)) == []


def test_what_was_written_is_synced_a_second_later_without_a_further_event(tmp_path, monkeypatch):
    now, synced = [100.0], []
    monkeypatch.setattr("raytune_ahu.records.time.monotonic", lambda: now[0])
    with RunLog(tmp_path) as log:
        monkeypatch.setattr(log, "sync", lambda: synced.append(now[0]))
        log.write("saved", trial="a")
        log.refresh()
        assert synced == []
        now[0] += 1.5
        log.refresh()
        assert synced == [101.5]


def test_a_torn_last_line_is_told(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("saved", trial="a")
        assert log.dropped_bytes == 0
    with (tmp_path / LOG_FILE).open("ab") as file:
        file.write(b'{"event"')
    with RunLog(tmp_path) as log:
        assert log.dropped_bytes == 8
