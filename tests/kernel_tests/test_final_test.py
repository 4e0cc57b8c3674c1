"""Who has read the test split: on record before, refused the second time, no part of the run."""

from __future__ import annotations

import pytest

from raytune_ahu.errors import RunBusyError, SpecError
from raytune_ahu.final_test import open_record, reading_test, readings_of
from raytune_ahu.finding import read_spec
from raytune_ahu.records import RunLog, read_events
from raytune_ahu.results import load
from tests.recorded_runs import record_run

DETAILS = {"run": "search-retrained", "trial": "trial_00001", "seeds": [1, 2]}


@pytest.fixture
def spec(tmp_path):
    return read_spec(record_run(tmp_path / "search", num_samples=4, max_epochs=3))


def read(spec, **options):
    with reading_test(spec, purpose="a test", details=DETAILS, **options) as reading:
        on_disk = [event["event"] for event in read_events(spec.folder)]
        assert on_disk[-1] == "test_read", "the reading must be on record before it happens"
        reading.measured({"accuracy": 0.5}, "accuracy 0.5000")


def test_a_reading_is_on_record_with_who_when_and_what_was_found(spec, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "kim")
    read(spec)
    (reading,) = load(spec.folder).test_reads
    assert (reading.number, reading.user, reading.purpose) == (1, "kim", "a test")
    assert reading.details == DETAILS
    assert reading.figures == {"accuracy": 0.5}
    assert "by kim on " in str(reading)
    assert str(reading).endswith(" for a test: accuracy 0.5000")


def test_a_second_reading_is_refused_unless_it_is_asked_for_and_then_recorded(spec):
    read(spec)
    before = spec.folder.joinpath("log.jsonl").read_bytes()
    with pytest.raises(SpecError, match=r"was read on .* accuracy 0\.5000.*--read-test-again"):
        read(spec)
    assert spec.folder.joinpath("log.jsonl").read_bytes() == before
    read(spec, again=True)
    assert [one.number for one in load(spec.folder).test_reads] == [1, 2]


def test_a_reading_that_was_broken_off_counts(spec):
    with (
        pytest.raises(KeyboardInterrupt),
        reading_test(spec, purpose="a test", details=DETAILS),
    ):
        raise KeyboardInterrupt
    (reading,) = readings_of(read_events(spec.folder))
    assert reading.figures is None
    with pytest.raises(SpecError, match="it was broken off, without figures"):
        read(spec)


def test_nothing_is_read_while_somebody_drives_the_run(spec):
    with RunLog(spec.folder):
        with pytest.raises(RunBusyError):
            read(spec)
        with pytest.raises(RunBusyError), open_record(spec):
            pass
    assert load(spec.folder).test_reads == ()


def test_a_reading_is_no_part_of_the_runs_time_and_changes_no_frame(spec):
    before = load(spec.folder)
    read(spec)  # now, while the recorded run was years ago
    after = load(spec.folder)
    assert (after.wall_s, after.ended) == (before.wall_s, before.ended)
    for name in ("trials", "reports", "sessions", "intervals"):
        assert getattr(after, name).equals(getattr(before, name)), name


def test_a_user_without_a_name_is_recorded_by_number(spec, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    read(spec)
    assert load(spec.folder).test_reads[0].user.startswith("user ")
