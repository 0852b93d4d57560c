"""What an operation of the store leaves when it returns would outlive a power loss: each name and each byte is synced.

`fsync` is watched, not replaced: a folder's names are durable as they were when it was last synced, a file's bytes
likewise. What comes between two syncs is for the replays in `crash`.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ETLProgressManifest, ManifestManager, Outcome
from historical_etl.store.archive.transfer import export_version, import_version
from historical_etl.store.checkout import check_out
from historical_etl.store.failed_runs import RunRecord, note_run
from historical_etl.store.pins import Pin, drop_pin, write_pin
from historical_etl.store.progress import forget_progress, save_progress
from historical_etl.store.quarantine.entries import find_entry, purge_entries, read_entries, restore_entry
from historical_etl.store.recovery import recover
from historical_etl.store.staging import Staging
from historical_etl.store.transaction import Transaction
from historical_etl.store.vacuum import Retention
from historical_etl.store.verify.file_repairs import repair_files
from historical_etl_tests.store.small import START, Hand, commit, corrections, only, spoil

#: Not durable on purpose: kernel locks with a record for people, and a copy for convenience.
LOOSE = (".lock", ".lease", ".backup")


@dataclass
class Disk:
    """What is durable below a folder."""

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def settle(self) -> None:
        """All that is there now is durable."""
        for folder in self.folders():
            self.names[folder.stat().st_ino] = listed(folder)
            self.sizes |= {path.stat().st_ino: path.stat().st_size for path in folder.iterdir() if path.is_file()}

    def folders(self) -> list[Path]:
        return [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]

    def synced(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        status = os.fstat(descriptor)
        if path.is_dir():
            self.names[status.st_ino] = listed(path)
        else:
            self.sizes[status.st_ino] = status.st_size

    def lost(self) -> list[str]:
        """What a power loss would take back, or bring back."""
        found: list[str] = []
        for folder in self.folders():
            now, durable = listed(folder), self.names.get(folder.stat().st_ino, {})
            found += [
                f"name {folder / name}" for name in now.keys() | durable.keys() if now.get(name) != durable.get(name)
            ]
            found += [
                f"bytes of {path}"
                for path in folder.iterdir()
                if path.name in now and path.is_file() and self.sizes.get(path.stat().st_ino) != path.stat().st_size
            ]
        return sorted(found)


def listed(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir() if not path.name.endswith(LOOSE)}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    watched = Disk(tmp_path)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        watched.synced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    watched.settle()
    yield watched
    assert watched.lost() == []


@pytest.fixture
def manager(disk: Disk) -> ManifestManager:
    return ManifestManager(disk.root / "data", clock=Hand())


def test_commits_with_all_that_follows(manager, disk):
    commit(manager, {2018: 1, 2019: 1}, {"corrections": corrections(1)})
    assert disk.lost() == []
    commit(manager, {2019: 2}, {"corrections": corrections(2)})
    assert disk.lost() == []
    commit(manager, {}, {"corrections": corrections(3)})
    assert disk.lost() == []
    with manager.acquire_lock() as token:
        Transaction(manager, token).restore(manager.load_version(1), {})


def test_an_object_that_is_made_good(manager):
    made = commit(manager, {2019: 1})
    path = manager.layout.resolve(only(made).path)
    path.unlink()
    commit(manager, {2019: 1})
    assert path.exists()


def test_daily(manager, disk):
    first = commit(manager, {2019: 1})
    second = commit(manager, {2018: 1})
    manager.layout.daily_file(2019).unlink()
    disk.settle()
    check_out(manager, second)
    assert disk.lost() == []
    check_out(manager, first)


def test_daily_where_links_are_refused(manager, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    commit(manager, {2019: 1})


def test_recovery(manager, disk):
    commit(manager, {2018: 1, 2019: 1})
    commit(manager, {2019: 2})
    layout = manager.layout
    later = layout.history_file(3)
    shutil.copyfile(layout.history_file(2), later)
    for damaged in (False, True):
        if damaged:
            layout.manifest_file().write_bytes(b"{")
            layout.history_file(2).write_bytes(b"{")
        disk.settle()
        with manager.acquire_lock() as token:
            recover(manager, token)
        assert disk.lost() == []
        assert not later.exists()
    disk.settle()


def test_a_lost_copy_of_the_current_manifest(manager, disk):
    commit(manager, {2019: 1})
    manager.layout.history_file(1).unlink()
    disk.settle()
    with manager.acquire_lock() as token:
        recover(manager, token)
    assert manager.list_versions() == [1]


def test_a_vacuum_never_leaves_a_version_without_its_files(disk):
    """What was removed may come back, but no manifest of a version whose files are gone."""
    clock = Hand()
    manager = ManifestManager(disk.root / "data", clock=clock)
    for number in (1, 2, 3):
        clock.later(days=1)
        commit(manager, {2019: number})
    clock.later(days=1)
    commit(manager, {2019: 4}, retention=Retention(versions=1, days=0))
    history = manager.layout.history_folder()
    assert disk.names[history.stat().st_ino] == listed(history)
    disk.settle()  # objects of versions that are gone may come back: the next vacuum takes them


def test_pins(manager, disk):
    layout = manager.layout
    write_pin(layout, Pin(name="paper", version=1))
    assert disk.lost() == []
    drop_pin(layout, "paper")


def test_quarantine(manager, disk):
    stranger = manager.layout.root / "stranger"
    stranger.parent.mkdir()
    stranger.write_bytes(b"one")
    disk.settle()
    quarantine = manager.quarantine
    for act in (
        lambda: quarantine.note("x", "why", "d"),
        lambda: quarantine.copy_bytes("x", b"bytes", "why", "d"),
        lambda: quarantine.keep_rows("y", pl.DataFrame({"a": [1]}), "why", "d"),
    ):
        act()
        assert disk.lost() == []
    entry = quarantine.keep_file(stranger, "why", "d")
    assert disk.lost() == [], "nor may the old name come back"
    restore_entry(find_entry(manager.layout, entry.name), manager.layout)
    assert disk.lost() == []
    purge_entries(read_entries(manager.layout))


def test_a_file_from_another_volume_in_quarantine(manager, root):
    root.mkdir(exist_ok=True)
    stranger = root / "stranger"
    stranger.write_bytes(b"one")
    assert (manager.quarantine_data(stranger, "why") / "stranger").exists()


def test_staging_and_notes(manager, disk):
    frame = pl.DataFrame({"date": [START.date()], "symbol": ["AAA"]})
    staging = Staging(manager.layout, "0" * 64)
    staging.put({"rows": frame, "actions": frame, "foreign": frame, "rejected": frame}, {"AAA": Outcome.OK}, {})
    assert disk.lost() == []
    staging.clear()
    assert disk.lost() == []
    note_run(manager.layout, RunRecord(run_id="12345678", started=START, finished=START, status="failed"))


def test_progress(manager, disk):
    save_progress(manager.layout, ETLProgressManifest(last_updated=START))
    assert disk.lost() == []
    forget_progress(manager.layout)


def test_repairing(manager, disk):
    made = commit(manager, {2019: 1})
    path, daily = manager.layout.resolve(only(made).path), manager.layout.daily_file(2019)
    daily.unlink()
    shutil.copyfile(path, daily)
    spoil(path)
    disk.settle()
    assert len(repair_files(manager, [made])[0]) == 1


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_export_and_import(manager, disk, name):
    made = commit(manager, {2019: 1}, {"corrections": corrections(1)})
    target = export_version(manager.layout, made, disk.root / name)
    assert disk.lost() == []
    other = ManifestManager(disk.root / "other", clock=Hand())
    with other.acquire_lock() as token:
        import_version(target, other, token)


def test_export_where_links_are_refused(manager, disk, monkeypatch):
    made = commit(manager, {2019: 1})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    export_version(manager.layout, made, disk.root / "copy")


def test_the_watch_itself_sees_what_is_not_synced(manager, disk):
    (disk.root / "new").write_bytes(b"x")
    assert disk.lost() == [f"bytes of {disk.root / 'new'}", f"name {disk.root / 'new'}"]
    disk.settle()
