"""Quarantine: refused data and its reason are kept, once for each content, and nothing is ever removed."""

import hashlib
from datetime import date

import polars as pl
import pytest

from historical_etl import ManifestManager, StorageError
from historical_etl.store.checksummed_json import read_checksummed
from historical_etl_tests.scenario import at


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root, clock=at(date(2013, 3, 1)))


def reason_of(entry):
    """The record of an entry, whose checksum is right."""
    return read_checksummed((entry / "reason.json").read_bytes(), None)


def test_quarantine_data_moves_a_file_and_says_why(manager, tmp_path):
    """Also from another volume, as this one where tests keep stores in memory."""
    bad = tmp_path / "2012.parquet"
    bad.write_bytes(b"bad")
    entry = manager.quarantine_data(bad, "it was edited", "historical_daily")
    assert entry == manager.layout.quarantine / "20130301T230000.000000Z_2012.parquet"
    assert not bad.exists()
    assert (entry / "2012.parquet").read_bytes() == b"bad"
    assert reason_of(entry) == {
        "dataset": "historical_daily",
        "file": "2012.parquet",
        "reason": "it was edited",
        "sha256": hashlib.sha256(b"bad").hexdigest(),
        "size_bytes": 3,
        "quarantined_at": "2013-03-01T23:00:00+00:00",
    }


def test_two_files_of_one_name_at_one_moment_have_two_entries(manager, tmp_path):
    entries = []
    for content in (b"one", b"two"):
        path = tmp_path / "x.parquet"
        path.write_bytes(content)
        entries.append(manager.quarantine_data(path, "bad"))
    assert [(entry / "x.parquet").read_bytes() for entry in entries] == [b"one", b"two"]
    assert manager.quarantine.entries() == sorted(entries)


def test_a_record_whose_file_never_arrived_is_no_older_entry(manager, tmp_path):
    """A kill between the two leaves it so."""
    bad = tmp_path / "x.parquet"
    bad.write_bytes(b"one")
    entry = manager.quarantine_data(bad, "bad")
    (entry / "x.parquet").unlink()
    again = manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d")
    assert again != entry
    assert (again / "x.parquet").read_bytes() == b"one"
    (again / "x.parquet").write_bytes(b"two")
    assert manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d") not in (entry, again)


def test_the_same_content_refused_again_makes_no_second_entry(manager):
    keep = manager.quarantine.copy_bytes
    first = keep("x[1]*.parquet", b"one", "bad", "d")
    assert keep("x[1]*.parquet", b"one", "still bad", "d") == first
    assert reason_of(first)["reason"] == "bad"
    assert keep("x[1]*.parquet", b"two", "bad", "d") != first
    assert keep("y.parquet", b"one", "bad", "d") != first
    assert len(manager.quarantine.entries()) == 3


def test_the_same_rows_refused_every_day_leave_one_entry(manager):
    rows = pl.DataFrame({"date": [date(2012, 1, 3)], "reasons": [["no_close"]]})
    entries = {manager.quarantine.keep_rows("2012.rows.parquet", rows, "bad", "d", {"rows": 1}) for _ in range(5)}
    (entry,) = entries
    assert pl.read_parquet(entry / "2012.rows.parquet").equals(rows)
    assert reason_of(entry)["rows"] == 1


def test_an_entry_whose_reason_is_unreadable_is_passed_over(manager):
    first = manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d")
    (first / "reason.json").write_bytes(b"[]")
    second = manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d")
    assert second != first
    (second / "reason.json").unlink()
    assert manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d") not in (first, second)


def test_a_note_reports_what_could_not_be_kept(manager):
    entry = manager.quarantine.note("2012.parquet", "the disk was full", "d", {"year": 2012})
    assert [path.name for path in entry.iterdir()] == ["reason.json"]
    assert reason_of(entry) == {
        "dataset": "d",
        "file": None,
        "reason": "the disk was full",
        "sha256": None,
        "quarantined_at": "2013-03-01T23:00:00+00:00",
        "year": 2012,
    }


def test_a_file_that_is_not_there_cannot_be_quarantined(manager, tmp_path):
    with pytest.raises(StorageError, match="quarantining"):
        manager.quarantine_data(tmp_path / "none.parquet", "bad")
    assert manager.quarantine.entries() == []


def test_a_file_of_the_store_is_known_by_where_it_lay(manager, root):
    path = root / "historical" / "daily" / "x.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")
    assert reason_of(manager.quarantine_data(path, "bad"))["moved_from"] == "historical/daily/x.parquet"
    path.write_bytes(b"two")
    winding = root / "historical" / ".." / "historical" / "daily" / "x.parquet"
    assert "moved_from" not in reason_of(manager.quarantine_data(winding, "bad")), "its way is not a plain one"


def test_many_entries_of_one_moment_each_have_a_folder(manager):
    entries = [manager.quarantine.note("x", f"reason {number}", "d") for number in range(3)]
    names = [entry.name for entry in entries]
    stamp = "20130301T230000.000000Z"
    assert names == [f"{stamp}_x", f"{stamp}-1_x", f"{stamp}-2_x"]
    assert [reason_of(entry)["reason"] for entry in entries] == ["reason 0", "reason 1", "reason 2"]


def test_files_beside_the_entries_are_no_entries(manager):
    assert manager.quarantine.entries() == []
    entry = manager.quarantine.note("x", "reason", "d")
    (manager.layout.quarantine / "a_file").write_bytes(b"")
    (manager.layout.quarantine / "folder").mkdir()
    assert manager.quarantine.entries() == [entry]


def test_facts_that_json_does_not_know_are_reported_in_words(manager):
    entry = manager.quarantine.note("x", "reason", "d", {"day": date(2013, 3, 1)})
    assert reason_of(entry)["day"] == "2013-03-01"
