"""The progress file: moved aside when damaged, backed up when replaced, and never a reason to lose data."""

import logging
import re
from datetime import UTC, date, datetime

import pytest

from historical_etl import ETLProgressError, ETLProgressManifest, StorageError
from historical_etl.store.layout import Layout
from historical_etl.store.progress import forget_progress, load_progress, save_progress
from historical_etl_tests.scenario import at, evening

CLOCK = at(date(2013, 3, 1))


def progress(**changes) -> ETLProgressManifest:
    return ETLProgressManifest(last_updated=evening(date(2013, 3, 1)), **changes)


@pytest.fixture
def layout(root) -> Layout:
    return Layout(root)


def test_missing_is_a_fresh_start(layout):
    assert load_progress(layout, CLOCK) is None
    assert not layout.root.exists()


def test_what_was_saved_is_loaded_and_the_one_before_is_the_backup(layout):
    first = progress(symbol_last_dates={"BRK.B": date(2012, 2, 29)}, years_completed=[2011], status="running")
    second = progress(symbol_last_dates={"BRK.B": date(2012, 3, 1)}, years_completed=[2011, 2012], status="completed")
    save_progress(layout, first)
    assert load_progress(layout, CLOCK) == first
    save_progress(layout, second)
    assert load_progress(layout, CLOCK) == second
    backup = layout.progress_file().with_name("historical_daily_progress.json.backup")
    assert ETLProgressManifest.model_validate_json(backup.read_bytes()) == first


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xfd", b'{"status": "sleeping"}', b"null"])
def test_what_cannot_be_parsed_is_moved_aside_with_a_warning(layout, content, caplog):
    layout.progress_folder.mkdir(parents=True)
    layout.progress_file().write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_progress(layout, CLOCK) is None
    (aside,) = layout.progress_folder.iterdir()
    assert aside.name == "historical_daily_progress.json.corrupted.20130301T230000.000000Z"
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    assert load_progress(layout, CLOCK) is None


def test_the_time_of_withdrawing_is_in_utc(layout):
    layout.progress_folder.mkdir(parents=True)
    layout.progress_file().write_bytes(b"{")
    load_progress(layout, lambda: datetime.fromisoformat("2013-03-01T08:00:00+09:00"))
    (aside,) = layout.progress_folder.iterdir()
    assert aside.name.endswith(".corrupted.20130228T230000.000000Z")


def test_what_cannot_be_read_or_written_is_an_error_that_says_so(layout):
    layout.root.mkdir()
    layout.progress_folder.write_bytes(b"a file is in the place of the folder")
    with pytest.raises(ETLProgressError, match="cannot be read") as caught:
        load_progress(layout, CLOCK)
    assert caught.value.todo
    with pytest.raises(ETLProgressError, match=r"data is committed.*rebuilt from it"):
        save_progress(layout, progress())


def test_what_is_no_file_is_moved_aside_as_damaged_progress_is(layout):
    layout.progress_file().mkdir(parents=True)
    assert load_progress(layout, CLOCK) is None
    (aside,) = layout.progress_folder.iterdir()
    assert aside.is_dir()
    assert ".corrupted." in aside.name
    save_progress(layout, progress())
    assert load_progress(layout, CLOCK) == progress()


def test_times_must_be_aware_and_are_kept_in_utc():
    with pytest.raises(ValueError, match="timezone"):
        ETLProgressManifest(last_updated=datetime(2013, 3, 1))  # noqa: DTZ001 - on purpose
    saved = ETLProgressManifest(last_updated=datetime.fromisoformat("2013-03-01T08:00:00+09:00"))
    assert saved.last_updated == datetime(2013, 2, 28, 23, tzinfo=UTC)
    assert re.search(r'"2013-02-28T23:00:00Z"', saved.model_dump_json())


def test_progress_is_withdrawn_before_the_data_goes_back(layout):
    forget_progress(layout)
    assert not layout.root.exists()
    save_progress(layout, progress())
    content = layout.progress_file().read_bytes()
    forget_progress(layout)
    assert [path.name for path in layout.progress_folder.iterdir()] == ["historical_daily_progress.json.backup"]
    assert next(layout.progress_folder.iterdir()).read_bytes() == content
    assert load_progress(layout, CLOCK) is None


def test_progress_that_cannot_be_withdrawn_is_reported_in_our_words(layout):
    save_progress(layout, progress())
    layout.progress_file().with_name("historical_daily_progress.json.backup").mkdir()
    with pytest.raises(StorageError, match="setting progress aside"):
        forget_progress(layout)
    assert load_progress(layout, CLOCK) == progress()


def test_nothing_but_the_file_and_its_backup_is_left(layout):
    for _ in range(3):
        save_progress(layout, progress())
    names = sorted(path.name for path in layout.progress_folder.iterdir())
    assert names == ["historical_daily_progress.json", "historical_daily_progress.json.backup"]
