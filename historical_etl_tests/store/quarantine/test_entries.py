"""Entries of the quarantine: reported as they are, put back as they were, and deleted only when somebody says so."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from historical_etl import ChecksumMismatchError, ConfigurationError, ManifestManager, StorageError
from historical_etl.store.checksummed_json import add_checksum, read_checksummed
from historical_etl.store.quarantine.entries import (
    QuarantineEntry,
    find_entry,
    older_than,
    purge_entries,
    read_entries,
    restore_entry,
)
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import at, evening, tree

DAY = date(2013, 3, 1)


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root, clock=at(DAY))


def moved(manager: ManifestManager, relative: str = "historical/objects/2012-00.parquet", content: bytes = b"one"):
    """A file of the store, moved to quarantine."""
    path = manager.layout.root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    manager.quarantine_data(path, "it was damaged")
    return path


def only(manager: ManifestManager) -> QuarantineEntry:
    (entry,) = read_entries(manager.layout)
    return entry


def rewrite(entry: QuarantineEntry, **changes: object) -> None:
    """Let its record say something else, under a checksum that fits: what it says is judged, and not its checksum."""
    path = entry.path / "reason.json"
    path.write_bytes(add_checksum(read_checksummed(path.read_bytes(), None) | changes))


def test_an_entry_says_what_why_when_and_whence(manager):
    moved(manager)
    entry = only(manager)
    assert (entry.file, entry.reason, entry.when) == ("2012-00.parquet", "it was damaged", evening(DAY))
    assert (entry.moved_from, entry.fault) == ("historical/objects/2012-00.parquet", "")
    assert entry.size == sum(path.stat().st_size for path in entry.path.iterdir())
    assert entry.is_intact()


def test_facts_cannot_pass_for_the_place_of_origin(manager, tmp_path):
    """The name of the source of refused rows is a fact, and no path."""
    manager.quarantine.copy_bytes("2012.rows.parquet", b"rows", "bad", "d", {"source": "sample", "rows": 3})
    entry = only(manager)
    assert (entry.moved_from, entry.facts) == (None, {"dataset": "d", "source": "sample", "rows": 3})
    outside = tmp_path / "x.parquet"
    outside.write_bytes(b"x")
    manager.quarantine_data(outside, "bad")
    assert [found.moved_from for found in read_entries(manager.layout)] == [None, None]


def test_a_store_without_quarantine_has_no_entries(manager):
    assert read_entries(manager.layout) == []
    with pytest.raises(ConfigurationError, match="nothing is in quarantine"):
        find_entry(manager.layout, "2013")


def test_restore_puts_the_file_back_as_it_was_and_keeps_the_entry(manager):
    path = moved(manager)
    assert restore_entry(only(manager), manager.layout) == path
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o444
    assert only(manager).is_intact()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_restore_takes_the_place_of_nothing(manager, tmp_path):
    path = moved(manager)
    path.write_bytes(b"new")
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    for to in (None, path, tmp_path, dangling):
        with pytest.raises(ConfigurationError, match="left alone"):
            restore_entry(only(manager), manager.layout, to)
    assert path.read_bytes() == b"new"
    other = tmp_path / "deep" / "er" / "copy.parquet"
    assert restore_entry(only(manager), manager.layout, other) == other
    assert other.read_bytes() == b"one"


def test_a_file_that_changed_in_quarantine_is_not_restored(manager):
    path = moved(manager)
    entry = only(manager)
    assert entry.content is not None
    entry.content.chmod(0o644)
    entry.content.write_bytes(b"two")
    assert not entry.is_intact()
    with pytest.raises(ChecksumMismatchError, match="not the one that was quarantined"):
        restore_entry(entry, manager.layout)
    assert list(path.parent.iterdir()) == []


def test_what_was_copied_or_noted_has_no_place_to_go_back_to(manager, tmp_path):
    manager.quarantine.copy_bytes("x.parquet", b"one", "bad", "d")
    with pytest.raises(ConfigurationError, match="not known where"):
        restore_entry(only(manager), manager.layout)
    assert restore_entry(only(manager), manager.layout, tmp_path / "x.parquet").read_bytes() == b"one"
    purge_entries(read_entries(manager.layout))
    manager.quarantine.note("2012.parquet", "the disk was full", "d")
    assert only(manager).is_intact()
    with pytest.raises(ConfigurationError, match="no file was kept"):
        restore_entry(only(manager), manager.layout, tmp_path / "y.parquet")


@pytest.mark.parametrize("origin", ["../outside.json", "/etc/outside", "a/../../outside", "", ".", "a\0b"])
def test_no_record_leads_out_of_the_store(manager, origin):
    moved(manager)
    rewrite(only(manager), moved_from=origin)
    before = tree(manager.layout.root.parent)
    with pytest.raises(ConfigurationError, match="It is not known where"):
        restore_entry(only(manager), manager.layout)
    assert tree(manager.layout.root.parent) == before


@pytest.mark.parametrize("name", ["../../manifests/historical_daily.json", "", "..", "/etc/passwd", "a\0b", "gone"])
def test_no_record_names_a_file_outside_its_entry(manager, name, tmp_path):
    moved(manager)
    rewrite(only(manager), file=name)
    entry = only(manager)
    assert entry.fault.startswith("damaged: ")
    assert entry.fault in (Saying("a file outside"), Saying("'gone' is missing"))
    assert not entry.is_intact()
    with pytest.raises(ConfigurationError, match="damaged"):
        restore_entry(entry, manager.layout, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_is_damaged_or_foreign_is_listed_as_such(manager):
    path = moved(manager)
    damaged = only(manager)
    for content in (b"[]", b"\xff", b'{"file": 1}', b""):
        (damaged.path / "reason.json").write_bytes(content)
        assert "reason.json cannot be read" in only(manager).fault
    (damaged.path / "reason.json").unlink()
    assert only(manager).fault.startswith("damaged: it has no reason.json")
    assert only(manager).when == evening(DAY)  # its name tells
    folder = manager.layout.quarantine
    (folder / "mine").mkdir()
    (folder / "notes.txt").write_text("mine, too")
    (folder / "link_x").symlink_to(path.parent)
    (folder / ".notes.txt.1.tmp").write_text("a write under way")
    faults = {entry.name: entry.fault.partition(":")[0] for entry in read_entries(manager.layout)}
    assert faults == {damaged.name: "damaged", "mine": "foreign", "notes.txt": "foreign", "link_x": "foreign"}


def test_a_kept_file_that_became_a_link_is_not_followed(manager, tmp_path):
    moved(manager)
    entry = only(manager)
    assert entry.content is not None
    entry.content.unlink()
    entry.content.symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"one")
    assert "missing" in only(manager).fault


def test_purge_deletes_entries_and_nothing_that_a_link_leads_to(manager, tmp_path):
    moved(manager)
    (tmp_path / "precious").write_text("keep me")
    (manager.layout.quarantine / "link_x").symlink_to(tmp_path)
    (manager.layout.quarantine / "notes.txt").write_text("mine")
    inside = only_named(manager, "2013").path / "link"
    inside.symlink_to(tmp_path)
    purge_entries(read_entries(manager.layout))
    assert list(manager.layout.quarantine.iterdir()) == []
    assert (tmp_path / "precious").read_text() == "keep me"


def only_named(manager: ManifestManager, start: str) -> QuarantineEntry:
    return find_entry(manager.layout, start)


def test_older_than_leaves_what_is_younger_or_of_unknown_age(manager, root):
    moved(manager)
    later = ManifestManager(root, clock=at(DAY + timedelta(days=10)))
    moved(later, content=b"later")
    (manager.layout.quarantine / "notes.txt").write_text("who knows")
    entries = read_entries(manager.layout)
    now = evening(DAY + timedelta(days=12))
    assert [entry.when for entry in older_than(entries, 5, now)] == [evening(DAY)]
    assert len(older_than(entries, 0, now)) == 2
    assert older_than(entries, 12, now) == []


def test_an_entry_is_found_by_the_beginning_of_its_name_if_that_is_one(manager, root):
    moved(manager)
    moved(ManifestManager(root, clock=at(DAY + timedelta(days=1))), content=b"later")
    assert find_entry(manager.layout, "20130302").when == evening(DAY + timedelta(days=1))
    for name in ("2013", "", "2014"):
        with pytest.raises(ConfigurationError, match="quarantine list"):
            find_entry(manager.layout, name)


def test_a_crash_before_the_move_leaves_the_file_and_says_so(manager, watching):
    """The record is written first: whatever has moved has its reason."""
    path = manager.layout.root / "manifests" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")

    def crash(event: str) -> None:
        entries = read_entries(manager.layout)
        assert path.exists() or all(not entry.fault for entry in entries)
        if event == "os.rename" and any(entry.reason for entry in entries):
            raise OSError(5, os.strerror(5))

    with watching(crash), pytest.raises(StorageError):
        manager.quarantine_data(path, "bad")
    assert path.read_bytes() == b"one"
    assert (only(manager).reason, "missing" in only(manager).fault) == ("bad", True)


def test_what_cannot_be_written_is_reported(manager):
    moved(manager)
    blocked = manager.layout.root / "file"
    blocked.write_bytes(b"")
    with pytest.raises(StorageError, match="restoring a file"):
        restore_entry(only(manager), manager.layout, Path(blocked / "below"))


def test_a_kept_file_that_was_made_huge_is_reported_by_its_size(manager, root):
    """A hole has no bytes on the disk: reading a terabyte of it to tell that it is not the file would take an hour."""
    moved(manager)
    kept = only(manager).content
    assert kept is not None
    kept.chmod(0o644)
    os.truncate(kept, 1 << 40)
    assert not only(manager).is_intact()
    with pytest.raises(ChecksumMismatchError):
        restore_entry(only(manager), manager.layout, root / "back.parquet")
    assert not (root / "back.parquet").exists()
    (copied,) = manager.quarantine.entries()
    kept.unlink()
    manager.quarantine.copy_bytes("rows", b"of today", "refused", "d")
    (second,) = (entry for entry in manager.quarantine.entries() if entry != copied)
    os.truncate(second / "rows", 1 << 40)
    assert manager.quarantine.copy_bytes("rows", b"of today", "refused", "d") != second


def test_a_record_without_a_size_is_judged_by_the_checksum(manager):
    """Releases before have written none."""
    moved(manager)
    rewrite(only(manager), size_bytes=None)
    assert only(manager).is_intact()
    kept = only(manager).content
    assert kept is not None
    kept.chmod(0o644)
    kept.write_bytes(b"two")
    assert not only(manager).is_intact()
