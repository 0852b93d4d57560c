"""Notes of failed runs: kept until a commit takes them, the newest 200."""

from datetime import timedelta

import pytest

from historical_etl.store.failed_runs import RunRecord, drop_notes, note_run, read_notes
from historical_etl.store.layout import Layout
from historical_etl_tests.store.small import START


@pytest.fixture
def layout(root) -> Layout:
    return Layout(root)


def record(number: int) -> RunRecord:
    at = START + timedelta(seconds=number)
    return RunRecord(run_id=f"{number:08x}-rest", started=at, finished=at, status="failed", message=f"the {number}th")


def test_notes_are_read_oldest_first_and_dropped_by_run(layout):
    assert read_notes(layout) == []
    for number in (3, 1, 2):
        note_run(layout, record(number))
    assert read_notes(layout) == [record(1), record(2), record(3)]
    drop_notes(layout, [record(1), record(3), record(9)])
    assert read_notes(layout) == [record(2)]


def test_the_newest_two_hundred_stay(layout):
    for number in range(203):
        note_run(layout, record(number))
    assert read_notes(layout) == [record(number) for number in range(3, 203)]


def test_a_note_that_cannot_be_read_is_passed_over(layout):
    for number in (1, 2):
        note_run(layout, record(number))
    (layout.run_notes / "00000000.json").write_bytes(b"{")
    (layout.run_notes / "00000001.json").mkdir()
    assert read_notes(layout) == [record(1), record(2)]


def test_a_note_that_cannot_be_written_is_logged_and_raises_nothing(layout, caplog):
    layout.run_notes.parent.mkdir(parents=True)
    layout.run_notes.write_bytes(b"a file is in the place of the folder")
    note_run(layout, record(1))
    assert "could not be noted" in caplog.text


def test_a_note_that_cannot_be_dropped_stays(layout):
    note_run(layout, record(1))
    (path,) = layout.run_notes.iterdir()
    path.unlink()
    path.mkdir()
    drop_notes(layout, [record(1)])
    assert path.is_dir()
