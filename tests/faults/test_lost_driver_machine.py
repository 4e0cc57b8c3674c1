"""The machine of the driver is lost with its disk; the run goes on from the copy in the store."""

from __future__ import annotations

import shutil
import uuid

import pytest

from raytune_ahu.records import LOG_FILE, loads
from raytune_ahu.run_state import RunState
from raytune_ahu.storage import CheckpointStorage
from tests.faults.harness import FaultCluster, assert_storage_is_bounded, sessions_of

pytestmark = [pytest.mark.ray]


@pytest.fixture
def s3_cluster(s3_server):
    """Two CPUs, whose workers have the credentials of the store."""
    cluster = FaultCluster(cpus=2)
    yield cluster
    cluster.close()


def read_copy(storage):
    """The events in the store's copy of the log; empty if there is none yet."""
    if not storage.exists(LOG_FILE):
        return []
    return [loads(line) for line in storage.read_bytes(storage.full(LOG_FILE)).splitlines()]


@pytest.mark.slow
def test_only_what_the_copy_in_the_store_lacks_is_run_again(
    s3_cluster, s3_server, start_run, tmp_path
):
    run = start_run(
        cluster=s3_cluster,
        storage_path=s3_server.format(f"lost-{uuid.uuid4().hex}"),
        record_path=str(tmp_path / "records"),
        num_samples=8,
        settings={"epoch_s": 0.3},
    )
    storage = CheckpointStorage(run.spec.storage_path, run.spec.name)
    driver = run.next_driver()
    driver.wait_for(
        lambda _: sum(event["event"] == "reported" for event in read_copy(storage)) >= 6
    )
    driver.kill()
    copy = read_copy(storage)
    shutil.rmtree(run.record)

    assert run.next_driver().finish() == "finished"
    before, after = sessions_of(run.record)
    assert before == copy
    assert after[-1]["reason"] == "finished"
    kept = RunState(run.spec.mode)
    for event in copy:
        kept.apply(event)
    newest = {trial.trial_id: max(trial.checkpoints, default=0) for trial in kept.trials.values()}
    assert all(trial.resource - newest[trial.trial_id] <= 1 for trial in kept.trials.values())
    assert any(newest.values())
    again = {(trial, epoch) for trial, epoch, _, session in run.journal() if session == 2}
    assert not [(trial, epoch) for trial, epoch in again if epoch <= newest.get(trial, 0)]
    trials = run.state().trials
    assert len(trials) == 8
    assert all(trial.status.is_final and trial.error is None for trial in trials.values())
    for trial_id, trial in kept.trials.items():
        assert trials[trial_id].configuration == trial.configuration
        assert trials[trial_id].resource >= trial.resource
    assert_storage_is_bounded(run)
