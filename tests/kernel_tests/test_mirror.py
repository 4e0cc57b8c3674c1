"""No checkpoint is deleted before the log is safe; a run in an object store has one driver."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
import uuid

import pytest

from raytune_ahu.driver_lock import STALE_S, DriverLock
from raytune_ahu.errors import (
    RecordError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from raytune_ahu.mirror import LocalRecord, RemoteRecord, download_record, mirror_for
from raytune_ahu.storage import CheckpointStorage

CHECKPOINT = "trial_00000/checkpoint_000000"
OTHER = "trial_00001/checkpoint_000000"


@pytest.fixture
def local(tmp_path):
    return CheckpointStorage(str(tmp_path / "runs"), "a")


@pytest.fixture
def remote(s3_server):
    return CheckpointStorage(s3_server.format(f"mirror-{uuid.uuid4().hex}"), "a")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "record" / "a"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text('{"spec": 1}\n')
    (folder / "log.jsonl").write_text('{"event": "run_started"}\n')
    return folder


def put(storage, *checkpoints):
    for checkpoint in checkpoints:
        storage.filesystem.create_dir(storage.full(checkpoint), recursive=True)
        storage.write_bytes(storage.full(f"{checkpoint}/state.pt"), b"12345")


def content(storage, name):
    return storage.read_bytes(storage.full(name))


def append(folder, event):
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": event}) + "\n")


def own_by(storage, **changes):
    """Record another driver as the run's."""
    driver = {"host": "elsewhere", "pid": 7, "token": "other", "time": time.time(), **changes}
    storage.write_bytes(storage.full("driver.json"), json.dumps(driver).encode())


# A run in a folder


def test_a_local_checkpoint_is_deleted_after_the_log_was_synced(local, folder):
    put(local, CHECKPOINT, OTHER)
    mirror = mirror_for(folder, local)
    there_when_synced = []
    mirror.sync = lambda: there_when_synced.append(local.exists(CHECKPOINT))
    mirror.claim(resume=False)
    mirror.refresh()
    assert there_when_synced == []
    mirror.delete_later(CHECKPOINT)
    assert local.exists(CHECKPOINT)
    mirror.refresh()
    assert there_when_synced == [True]
    assert not local.exists(CHECKPOINT)
    assert local.exists(OTHER)


def test_local_deletions_are_gathered_for_a_second(local, folder, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("raytune_ahu.mirror.time.monotonic", lambda: now[0])
    put(local, CHECKPOINT, OTHER)
    mirror = LocalRecord(folder, local)
    syncs = []
    mirror.sync = lambda: syncs.append(now[0])
    mirror.delete_later(CHECKPOINT)
    mirror.refresh()
    mirror.delete_later(OTHER)
    mirror.refresh()
    assert local.exists(OTHER)
    now[0] += 1.0
    mirror.refresh()
    assert not local.exists(OTHER)
    assert syncs == [100.0, 101.0]


def test_nothing_is_deleted_when_the_log_cannot_be_synced(local, folder):
    put(local, CHECKPOINT)
    mirror = LocalRecord(folder, local)

    def fail():
        raise OSError(5, "Input/output error")

    mirror.sync = fail
    mirror.delete_later(CHECKPOINT)
    mirror.refresh()
    assert local.exists(CHECKPOINT)
    assert "the log cannot be synced" in mirror.problem
    mirror.sync = lambda: None
    assert mirror.flush()
    assert mirror.problem is None
    assert not local.exists(CHECKPOINT)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_checkpoint_that_cannot_be_deleted_is_a_problem_and_tried_again(
    kind, request, folder, monkeypatch
):
    storage = request.getfixturevalue(kind)
    put(storage, CHECKPOINT, OTHER)
    with mirror_for(folder, storage) as mirror:
        mirror.claim(resume=False)
        delete = storage.delete

        def refuse(relative):
            raise StorageError("Permission denied")

        monkeypatch.setattr(storage, "delete", refuse)
        mirror.delete_later(CHECKPOINT)
        mirror.delete_later(OTHER)
        assert not mirror.flush()
        assert mirror.problem == "old checkpoints cannot be deleted: Permission denied"
        monkeypatch.setattr(storage, "delete", delete)
        assert mirror.flush()
        assert mirror.problem is None
    assert storage.checkpoints() == {}


def test_a_path_outside_of_the_run_is_refused_when_it_is_queued(local, folder):
    with pytest.raises(ValueError, match="must be a path within"):
        LocalRecord(folder, local).delete_later("../b")


# A run in an object store


def test_the_record_is_copied_and_a_later_line_follows(remote, folder):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        assert mirror.flush()
        assert content(remote, "spec.json") == b'{"spec": 1}\n'
        append(folder, "suggested")
        assert mirror.flush()
        assert content(remote, "log.jsonl") == (folder / "log.jsonl").read_bytes()
        append(folder, "run_ended")
    assert content(remote, "log.jsonl").endswith(b'{"event": "run_ended"}\n')
    assert not remote.exists(".log.jsonl.uploading")
    assert not remote.exists("driver.json")


def test_refreshing_uploads_when_the_log_has_grown(remote, folder):
    uploads = threading.Semaphore(0)
    with RemoteRecord(folder, remote, interval_s=0.0) as mirror:
        mirror.sync = uploads.release
        mirror.claim(resume=False)
        mirror.refresh()
        assert uploads.acquire(timeout=60)
        assert mirror.flush()  # and the round that refresh began is over
        assert uploads.acquire(timeout=60)
        mirror._due = 0.0
        mirror.refresh()
        assert not uploads.acquire(blocking=False)
        append(folder, "suggested")
        mirror.refresh()
        assert uploads.acquire(timeout=60)


def test_refreshing_waits_for_the_interval(remote, folder):
    with RemoteRecord(folder, remote, interval_s=3600.0) as mirror:
        mirror.claim(resume=False)
        assert mirror.flush()
        asked = mirror._asked
        append(folder, "suggested")
        mirror.refresh()
        assert mirror._asked == asked


def test_a_remote_checkpoint_outlives_every_log_in_the_store_that_needs_it(
    remote, folder, monkeypatch
):
    put(remote, CHECKPOINT)
    happened = []
    delete, write = remote.delete, remote.write_bytes
    monkeypatch.setattr(remote, "delete", lambda path: (happened.append("delete"), delete(path)))

    def note(path, data):
        if path.endswith(".log.jsonl.uploading"):
            happened.append(data.splitlines()[-1])
        write(path, data)

    monkeypatch.setattr(remote, "write_bytes", note)
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        append(folder, "released")
        mirror.delete_later(CHECKPOINT)
        assert mirror.flush()
    assert happened == [b'{"event": "released"}', "delete"]
    assert not remote.exists(CHECKPOINT)


def test_what_is_queued_during_an_upload_waits_for_the_next_one(remote, folder, monkeypatch):
    put(remote, CHECKPOINT)
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        upload = mirror._upload

        def upload_meanwhile():
            upload()
            if not mirror._doomed:
                append(folder, "released")
                mirror.delete_later(CHECKPOINT)

        monkeypatch.setattr(mirror, "_upload", upload_meanwhile)
        assert mirror.flush()
        assert remote.exists(CHECKPOINT)
        assert b"released" not in content(remote, "log.jsonl")
        assert mirror.flush()
        assert not remote.exists(CHECKPOINT)


def test_a_driver_that_loses_its_run_amid_deletions_stops_deleting(remote, folder, monkeypatch):
    doomed = [f"trial_{number:05d}/checkpoint_000000" for number in range(120)]
    deleted = []

    def delete(relative):
        deleted.append(relative)
        if len(deleted) == 60:
            own_by(remote)

    monkeypatch.setattr(remote, "delete", delete)
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        for relative in doomed:
            mirror.delete_later(relative)
        assert not mirror.flush()
        assert mirror.lost
    assert deleted == doomed[:100]


def test_a_failed_upload_deletes_nothing_and_keeps_the_old_copy(remote, folder, monkeypatch):
    put(remote, CHECKPOINT)
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        assert mirror.flush()
        write = remote.write_bytes

        def break_off(path, data):
            if path.endswith(".uploading"):
                write(path, data[:3])
                raise OSError("connection lost")
            write(path, data)

        monkeypatch.setattr(remote, "write_bytes", break_off)
        append(folder, "released")
        mirror.delete_later(CHECKPOINT)
        assert not mirror.flush()
        assert "connection lost" in mirror.problem
        assert content(remote, "log.jsonl") == b'{"event": "run_started"}\n'
        assert remote.exists(CHECKPOINT)
        monkeypatch.setattr(remote, "write_bytes", write)
        assert mirror.flush()
        assert mirror.problem is None
    assert not remote.exists(CHECKPOINT)


def test_a_store_that_hangs_does_not_hold_up_the_end_of_the_run(remote, folder, monkeypatch):
    go_on = threading.Event()
    mirror = RemoteRecord(folder, remote)
    mirror.claim(resume=False)
    monkeypatch.setattr(mirror, "_upload", go_on.wait)
    assert not mirror.flush(timeout_s=0.01)
    assert "has not answered for 0.01 s" in mirror.problem
    mirror.refresh()  # returns at once
    go_on.set()
    mirror.close()
    mirror.close()


# Going on with it elsewhere


def test_a_run_goes_on_in_a_folder_that_has_no_record(remote, folder, tmp_path):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
    elsewhere = tmp_path / "elsewhere" / "a"
    assert download_record(remote, elsewhere)
    for name in ("spec.json", "log.jsonl"):
        assert (elsewhere / name).read_bytes() == (folder / name).read_bytes()
    assert not download_record(remote, elsewhere)


def test_a_record_that_lags_behind_the_copy_gets_the_rest(remote, folder, tmp_path):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
    elsewhere = tmp_path / "elsewhere" / "a"
    with RemoteRecord(elsewhere, remote) as mirror:
        mirror.claim(resume=True)
        append(elsewhere, "suggested")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"event": "torn')
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=True)
    assert (folder / "log.jsonl").read_bytes() == (elsewhere / "log.jsonl").read_bytes()


def test_a_record_that_is_ahead_of_the_copy_stays(remote, folder):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
    append(folder, "suggested")
    before = (folder / "log.jsonl").read_bytes()
    assert not download_record(remote, folder)
    assert (folder / "log.jsonl").read_bytes() == before


def test_records_that_have_gone_on_differently_are_refused_and_left_alone(remote, folder, tmp_path):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
    elsewhere = tmp_path / "elsewhere" / "a"
    with RemoteRecord(elsewhere, remote) as mirror:
        mirror.claim(resume=True)
        append(elsewhere, "suggested")
    append(folder, "failed")
    before = (folder / "log.jsonl").read_bytes()
    with (
        RemoteRecord(folder, remote) as mirror,
        pytest.raises(RecordError, match=r"have gone on differently; move .* away"),
    ):
        mirror.claim(resume=True)
    assert (folder / "log.jsonl").read_bytes() == before
    assert content(remote, "log.jsonl") == (elsewhere / "log.jsonl").read_bytes()
    assert not remote.exists("driver.json")


def test_a_run_that_nobody_recorded_is_not_found(remote, tmp_path):
    with pytest.raises(RunNotFoundError, match=r"holds no run: spec\.json is missing there"):
        download_record(remote, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_new_run_does_not_overwrite_one_in_the_store(remote, folder, tmp_path):
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
    with pytest.raises(RunExistsError, match="--resume a"):
        RemoteRecord(tmp_path / "other" / "a", remote).claim(resume=False)
    assert not remote.exists("driver.json")


# One driver


def test_a_driver_on_another_host_is_named_and_not_disturbed(remote, folder):
    own_by(remote)
    mirror = RemoteRecord(folder, remote)
    with pytest.raises(RunBusyError, match=r"\(elsewhere, pid 7; its last sign of life was \d+ s"):
        mirror.claim(resume=False)
    mirror.close()
    assert json.loads(content(remote, "driver.json"))["host"] == "elsewhere"
    assert not remote.exists("spec.json")


def test_a_living_process_of_this_host_is_not_disturbed(remote):
    owner = "import sys; print('up', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", owner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    own_by(remote, host=platform.node(), pid=other.pid)
    try:
        with pytest.raises(RunBusyError, match=f"pid {other.pid}"):
            DriverLock(remote).claim()
    finally:
        other.communicate()
    DriverLock(remote).claim()  # its process is gone: nothing to wait for
    assert json.loads(content(remote, "driver.json"))["pid"] == os.getpid()


def test_a_driver_without_a_sign_of_life_is_taken_over_and_finds_out(remote, folder, tmp_path):
    now = [1000.0]
    first = DriverLock(remote, clock=lambda: now[0])
    first._me["host"] = "elsewhere"
    first.claim()
    second = DriverLock(remote, clock=lambda: now[0])
    now[0] += STALE_S - 1
    with pytest.raises(RunBusyError, match="59 s ago"):
        second.claim()
    assert first.renew()
    now[0] += STALE_S
    second.claim()
    assert not first.renew()
    first.release()
    assert second.is_mine()


def test_a_driver_that_lost_its_run_writes_and_deletes_no_more(remote, folder):
    put(remote, CHECKPOINT)
    with RemoteRecord(folder, remote) as mirror:
        mirror.claim(resume=False)
        assert mirror.flush()
        own_by(remote)
        append(folder, "released")
        mirror.delete_later(CHECKPOINT)
        assert not mirror.flush()
        assert mirror.lost
        assert "another driver has taken over" in mirror.problem
        mirror.refresh()
    assert b"released" not in content(remote, "log.jsonl")
    assert remote.exists(CHECKPOINT)
    assert json.loads(content(remote, "driver.json"))["host"] == "elsewhere"


def test_signs_of_life_go_on_while_the_driver_is_busy(remote, folder, monkeypatch):
    monkeypatch.setattr("raytune_ahu.mirror.HEARTBEAT_S", 0.01)
    signs = threading.Semaphore(0)
    with RemoteRecord(folder, remote) as mirror:
        renew = mirror.lock.renew
        monkeypatch.setattr(mirror.lock, "renew", lambda: (renew(), signs.release())[0])
        mirror.claim(resume=False)
        for _ in range(3):
            assert signs.acquire(timeout=60)
    assert not remote.exists("driver.json")


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"host": "elsewhere"}'])
def test_a_damaged_lock_holds_nobody_up(remote, damaged):
    remote.write_bytes(remote.full("driver.json"), damaged)
    lock = DriverLock(remote)
    lock.claim()
    assert lock.is_mine()


def test_a_store_that_is_gone_is_an_error_when_the_run_is_claimed(s3_server, folder):
    uri = s3_server.replace("//tuning/", "//absent/").format("runs")
    with pytest.raises(StorageError, match=r"cannot claim the run in s3://absent/runs/a"):
        RemoteRecord(folder, CheckpointStorage(uri, "a")).claim(resume=False)
