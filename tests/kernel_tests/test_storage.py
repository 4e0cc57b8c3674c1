"""Checkpoints in folders and in object stores: found, measured and deleted the same way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from raytune_ahu.errors import SpecError, StorageError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import dumps, loads
from raytune_ahu.space import SearchSpace
from raytune_ahu.storage import CheckpointStorage, bounded, is_uri

NEWEST = "trial_00000/checkpoint_000003"


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path):
    """An empty place, in a folder and in an object store."""
    if request.param == "folder":
        return CheckpointStorage(str(tmp_path / "runs"), "a")
    uri = request.getfixturevalue("s3_server").format(f"runs-{uuid.uuid4().hex}")
    return CheckpointStorage(uri, "a")


def put(storage, relative, content=b"12345"):
    path = storage.full(relative)
    storage.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    storage.write_bytes(path, content)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/prefix", True),
        ("gs://bucket", True),
        ("runs", False),
        ("~/runs", False),
        ("/data/s3://odd", False),
        ("C:/runs", False),
    ],
)
def test_a_uri_is_told_from_a_folder(path, expected):
    assert is_uri(path) is expected


def test_a_run_that_does_not_exist_yet_has_no_checkpoints(storage):
    assert storage.checkpoints() == {}
    assert not storage.exists(NEWEST)
    assert storage.size(NEWEST) == 0


def test_checkpoints_are_listed_by_trial_with_their_sizes(storage):
    put(storage, f"{NEWEST}/state.pt", b"1" * 1000)
    put(storage, f"{NEWEST}/parts/more.pt", b"1" * 24)
    put(storage, "trial_00000/checkpoint_000002/state.pt")
    put(storage, "trial_00001/checkpoint_000000/state.pt")
    put(storage, "trial_00002/result.json")
    put(storage, "log.jsonl")
    assert storage.checkpoints() == {
        "trial_00000": {"trial_00000/checkpoint_000002", NEWEST},
        "trial_00001": {"trial_00001/checkpoint_000000"},
    }
    assert storage.exists(NEWEST)
    assert storage.exists("log.jsonl")
    assert storage.size(NEWEST) == 1024


def test_a_deleted_checkpoint_is_gone_and_its_neighbours_stay(storage):
    put(storage, f"{NEWEST}/parts/state.pt")
    put(storage, "trial_00000/checkpoint_000002/state.pt")
    storage.delete(NEWEST)
    assert storage.checkpoints() == {"trial_00000": {"trial_00000/checkpoint_000002"}}
    storage.delete(NEWEST)
    storage.delete("trial_00009/checkpoint_000000")


def test_a_half_deleted_checkpoint_is_finished_by_the_next_call(storage):
    for name in ("a.pt", "b/c.pt", "d.pt"):
        put(storage, f"{NEWEST}/{name}")
    storage.filesystem.delete_file(storage.full(f"{NEWEST}/a.pt"))
    assert storage.exists(NEWEST)
    storage.delete(NEWEST)
    assert not storage.exists(NEWEST)
    assert storage.size(NEWEST) == 0


def test_a_folder_of_files_without_marker_objects_is_deleted(s3_server):
    import boto3

    storage = CheckpointStorage(s3_server.format(f"runs-{uuid.uuid4().hex}"), "a")
    client = boto3.client("s3", endpoint_url="http://" + s3_server.rpartition("=")[2])
    key = storage.full(f"{NEWEST}/state.pt").partition("/")[2]
    client.put_object(Bucket="tuning", Key=key, Body=b"12345")
    assert storage.checkpoints() == {"trial_00000": {NEWEST}}
    storage.delete(NEWEST)
    assert storage.checkpoints() == {}


@pytest.mark.parametrize("path", ["", "..", "../b", "trial_00000/../..", "/etc", "a//b", "."])
def test_nothing_outside_of_the_run_can_be_deleted(storage, path):
    with pytest.raises(ValueError, match="must be a path within"):
        storage.delete(path)


def test_full_and_relative_paths_are_inverse(storage):
    assert storage.relative(storage.full(NEWEST)) == NEWEST
    assert storage.full(NEWEST).endswith(f"/a/{NEWEST}")
    for outside in (f"/elsewhere/{NEWEST}", storage.root, f"{storage.root}b/{NEWEST}"):
        with pytest.raises(ValueError, match="must be a path within"):
            storage.relative(outside)


def test_checking_leaves_nothing_behind(storage):
    storage.check_writable()
    assert storage.checkpoints() == {}
    assert not storage.exists("spec.json")
    if not storage.is_remote:
        assert list(Path(storage.root).parent.iterdir()) == []


def test_a_folder_has_free_space_and_an_object_store_has_no_end(storage, tmp_path):
    if storage.is_remote:
        assert storage.free_bytes() is None
    else:
        status = os.statvfs(tmp_path)
        assert 0 < storage.free_bytes() <= status.f_blocks * status.f_frsize


def test_a_folder_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = CheckpointStorage("~/runs", "a")
    assert storage.uri == storage.root == str(tmp_path / "runs" / "a")
    assert not storage.is_remote


def test_a_password_is_never_shown():
    server = "scheme=http&endpoint_override=127.0.0.1:1"
    storage = CheckpointStorage(f"s3://key:secret@bucket/runs/?{server}", "a")
    assert storage.uri == f"s3://***@bucket/runs/a?{server}"
    assert storage.root == "bucket/runs/a"


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*/file/runs/a: "):
        CheckpointStorage(str(tmp_path / "file" / "runs"), "a").check_writable()


def test_a_missing_bucket_is_named_with_the_fix(s3_server):
    uri = s3_server.replace("//tuning/", "//absent/").format("runs")
    with pytest.raises(StorageError, match=r"s3://absent/runs/a.*NO_SUCH_BUCKET.*make the bucket"):
        CheckpointStorage(uri, "a").check_writable()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/runs", r"ftp://host/runs cannot be used: Unrecognized.*s3://bucket/prefix"),
        ("s3://bucket/runs?nonsense=1", "Unexpected query parameter.*nonsense"),
        ("s3://", "names no bucket"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused(uri, message):
    with pytest.raises(StorageError, match=message):
        CheckpointStorage(uri, "a")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.usefixtures("s3_server")
def test_a_store_that_refuses_connections_is_an_error_with_a_fix():
    uri = f"s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:{free_port()}"
    with pytest.raises(StorageError, match=r"NETWORK_CONNECTION.*endpoint_override"):
        CheckpointStorage(uri, "a").check_writable()


def test_credentials_that_the_store_refuses_are_an_error_with_a_fix(s3_server):
    code = (
        "import sys; from raytune_ahu.storage import CheckpointStorage\n"
        "CheckpointStorage(sys.argv[1], 'a').check_writable()"
    )
    with refusing_store() as port:
        uri = f"s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:{port}"
        done = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True)
    assert done.returncode == 1
    assert "StorageError: cannot write s3://bucket/runs/a" in done.stderr
    assert "ACCESS_DENIED" in done.stderr
    assert "check the credentials" in done.stderr


class refusing_store:
    """A server that answers every request as S3 answers wrong credentials."""

    def __enter__(self):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Refuse(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                self.send_response(403)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST = do_GET = do_HEAD = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_port

    def __exit__(self, *exc):
        self.server.shutdown()


def test_a_store_that_never_answers_is_given_up_and_the_process_can_end():
    # Google's client asks again for 15 minutes; nothing but our own limit ends that.
    code = (
        "import sys; from raytune_ahu.storage import CheckpointStorage\n"
        "CheckpointStorage(sys.argv[1], 'a').check_writable(timeout_s=0.5)"
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        uri = f"gs://anonymous@bucket/runs?scheme=http&endpoint_override=127.0.0.1:{port}"
        done = subprocess.run(
            [sys.executable, "-c", code, uri], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1
    assert "no answer within 0.5 s; check that its server is up" in done.stderr


def test_the_bounded_wait_hands_on_results_and_errors():
    assert bounded(lambda: 3, 60) == 3
    with pytest.raises(KeyError, match="x"):
        bounded(lambda: {}["x"], 60)
    never = threading.Event()
    with pytest.raises(OSError, match=r"no answer within 0\.01 s"):
        bounded(never.wait, 0.01)
    never.set()


def spec(**changes):
    fields = {
        "name": "a",
        "trainable": "module:Class",
        "space": SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}}),
        "metric": "loss",
        "mode": "min",
        "max_epochs": 9,
        "num_samples": 3,
        "search": "bohb",
    }
    return ExperimentSpec(**{**fields, **changes})


def test_the_record_of_a_run_in_an_object_store_lies_in_a_local_folder(tmp_path):
    assert spec(storage_path="s3://bucket/runs").folder == Path("runs").resolve() / "a"
    moved = spec(storage_path="s3://bucket/runs", record_path=str(tmp_path))
    assert moved.folder == tmp_path / "a"
    assert ExperimentSpec.from_dict(loads(dumps(moved.to_dict()))) == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage_path": ""}, "must not be empty"),
        ({"storage_path": "file:///runs"}, "leave file:// out"),
        ({"storage_path": "s3:///runs"}, "names no bucket"),
        ({"storage_path": "s3://key:secret@bucket/runs"}, "must not hold a password"),
        ({"record_path": "here"}, "record_path='here' is for a storage_path that is a URI"),
        ({"storage_path": "s3://b/r", "record_path": ""}, "record_path='' must be a local folder"),
        ({"storage_path": "s3://b/r", "record_path": "s3://b/q"}, "must be a local folder"),
    ],
)
def test_storage_and_record_paths_that_contradict_are_refused(changes, message):
    with pytest.raises(SpecError, match=message) as error:
        spec(**changes)
    assert "secret" not in str(error.value)


def test_a_checkpoint_is_fetched_with_all_that_is_in_it(storage, tmp_path):
    put(storage, f"{NEWEST}/checkpoint.pt", b"weights")
    put(storage, f"{NEWEST}/deep/er.txt", b"more")
    storage.fetch(NEWEST, tmp_path / "here" / "it")
    assert (tmp_path / "here" / "it" / "checkpoint.pt").read_bytes() == b"weights"
    assert (tmp_path / "here" / "it" / "deep" / "er.txt").read_bytes() == b"more"


def test_fetching_what_is_absent_is_told(storage, tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        storage.fetch(NEWEST, tmp_path / "here")
