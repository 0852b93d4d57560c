"""Vacuum: what the retention, a pin, the catalog or a reader keeps stays; all else goes, files and all."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from historical_etl import ConfigurationError, ManifestCorruptError, ManifestManager, Settings, StorageError
from historical_etl.models import SyncManifest
from historical_etl.retention import Retention
from historical_etl.store.leases import leased
from historical_etl.store.pins import Pin, write_pin
from historical_etl.store.recovery import recover
from historical_etl.store.vacuum import VacuumReport, quarantine_unreferenced, vacuum
from historical_etl_tests.scenario import SHORT, SYMBOLS, ScriptedFetcher, store, tree
from historical_etl_tests.store.small import Hand, commit, corrections, only, publish

STRICT = Retention(versions=1, days=0)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def manager(root, clock) -> ManifestManager:
    """Five versions of 2019, each a day after the one before, the first four with a ledger."""
    manager = ManifestManager(root, clock=clock)
    for number in range(1, 6):
        clock.later(days=1)
        commit(manager, {2019: number, 2018: 1}, {"corrections": corrections(number)} if number < 5 else None)
    return manager


def current(manager: ManifestManager) -> SyncManifest:
    manifest = manager.load_manifest()
    assert manifest is not None
    return manifest


def clear(manager: ManifestManager, retention: Retention = STRICT, *, dry_run: bool = False) -> VacuumReport:
    with manager.acquire_lock():
        return vacuum(manager, manager.load_manifest(), retention, dry_run=dry_run)


def files(manager: ManifestManager) -> set[str]:
    layout = manager.layout
    return {layout.relative(path) for folder in (layout.objects, layout.ledgers) for path in folder.iterdir()}


def test_a_dry_run_says_what_the_vacuum_then_does(manager):
    layout = manager.layout
    before = {name: data for name, data in tree(layout.root).items() if not name.endswith(".lock")}
    report = clear(manager, Retention(versions=2, days=0), dry_run=True)
    assert {name: data for name, data in tree(layout.root).items() if not name.endswith(".lock")} == before
    assert report.removed == (1, 2, 3)
    assert report.kept == {4: "one of the last 2", 5: "the current version"}
    assert clear(manager, Retention(versions=2, days=0)) == report
    gone = before.keys() - tree(layout.root).keys()
    data = {name for name in gone if not name.startswith("manifests/")}
    assert report.files == len(data) == 6, "three objects and three files of a ledger"
    assert report.size_bytes == sum(len(before[name]) for name in data)
    assert manager.list_versions() == [4, 5]
    assert files(manager) == {path for v in (4, 5) for path in manager.load_version(v).named_paths()}
    assert clear(manager, Retention(versions=2, days=0)).files == 0


@pytest.mark.parametrize(
    ("versions", "left"), [(1, [5]), (4, [2, 3, 4, 5]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])]
)
def test_the_last_versions_are_kept(manager, versions, left):
    clear(manager, Retention(versions=versions, days=0))
    assert manager.list_versions() == left


def test_versions_that_stood_lately_are_kept_to_the_second(manager, clock):
    """Version 1 was replaced three days ago: two that are asked for, and one that the clock may be wrong by."""
    report = clear(manager, Retention(versions=1, days=2))
    lately = dict.fromkeys((1, 2, 3, 4), "replaced in the last 2 days")
    assert report.kept == {**lately, 5: "the current version"}
    assert clear(manager, Retention(versions=2, days=2)).kept[4] == "one of the last 2", "whatever its age"
    clock.later(seconds=1)
    assert clear(manager, Retention(versions=1, days=2)).removed == (1,)
    assert Retention() == Retention(versions=10, days=7)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"keep_versions": 0}, r"keep_versions=0 cannot be kept.*give 1 to 1,000,000"),
        ({"keep_versions": -1}, r"keep_versions=-1 cannot be kept"),
        ({"keep_versions": 10**7}, r"keep_versions=10000000 cannot be kept"),
        ({"keep_days": -1}, r"keep_days=-1 cannot be kept.*give 0 to 365,000"),
        ({"keep_days": 10**12}, r"keep_days=1000000000000 cannot be kept"),
    ],
)
def test_what_no_setting_allows_no_call_does(root, policy, words):
    """Less than one version, or than no days, took all that was asked to be kept; more days than there are broke."""
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_full_etl(SYMBOLS, SHORT.first, SHORT.last)
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match=words) as refused:
            etl.vacuum(dry_run=dry_run, **policy)
        assert refused.value.where == next(iter(policy))
    with pytest.raises(ConfigurationError):
        etl.settings.changed(policy)


def test_the_bounds_are_those_of_the_settings(manager):
    allowed: list[Any] = [(1, 0), (1_000_000, 365_000), (np.int64(3), np.int32(2))]
    for versions, days in allowed:
        clear(manager, Retention(versions, days))
        assert Settings(keep_versions=versions, keep_days=days).keep_days == days
    assert (Settings().keep_versions, Settings().keep_days) == (Retention().versions, Retention().days)


def test_what_the_catalog_a_reader_or_a_pin_names_is_kept(manager):
    publish(manager, 1)
    write_pin(manager.layout, Pin(name="paper", version=3))
    with leased(manager.layout, 2):
        report = clear(manager)
    assert report.removed == (4,)
    assert report.kept == {
        1: "shown by the catalog",
        2: "open in a reader",
        3: "pinned as paper",
        5: "the current version",
    }
    assert clear(manager).removed == (2,)


def test_the_current_version_stays_whatever_else_names_it(manager):
    publish(manager, 5)
    assert clear(manager).kept == {5: "the current version"}


def test_nothing_goes_while_the_needs_of_a_kept_version_are_unknown(manager):
    manager.layout.history_file(3).write_bytes(b"{ torn")
    write_pin(manager.layout, Pin(name="paper", version=3))
    before = files(manager)
    with pytest.raises(ManifestCorruptError):
        clear(manager)
    assert files(manager) == before
    assert manager.list_versions() == [1, 2, 3, 4, 5]


def test_a_commit_goes_through_though_a_kept_version_is_damaged(manager, caplog):
    manager.layout.history_file(3).write_bytes(b"{ torn")
    assert commit(manager, {2019: 9}, retention=Retention(versions=2, days=30)).version == 6
    assert "were not vacuumed" in caplog.text
    assert manager.list_versions() == [1, 2, 3, 4, 5, 6]


def test_only_files_with_names_of_ours_go(manager):
    layout = manager.layout
    names = ["notes.parquet", "2019-0123456789abcde.parquet", "x2019-0123456789abcdef.parquet"]
    strangers = [folder / name for folder in (layout.objects, layout.ledgers) for name in names]
    ours = [layout.objects / "2019-0123456789abcdef.parquet", layout.ledgers / "open_gaps-0123456789abcdef.parquet"]
    for path in (*strangers, *ours):
        path.write_bytes(b"something")
    assert clear(manager, Retention(versions=9)).files == len(ours)
    assert all(path.exists() for path in strangers)
    assert not any(path.exists() for path in ours)


def test_without_a_version_every_object_is_left_over(root):
    manager = ManifestManager(root, clock=Hand())
    manager.layout.objects.mkdir(parents=True)
    orphan = manager.layout.objects / "2019-0123456789abcdef.parquet"
    orphan.write_bytes(b"torn")
    assert clear(manager) == VacuumReport(files=1, size_bytes=4)
    assert not orphan.exists()


def quarantined(manager: ManifestManager) -> list[str]:
    return sorted(path.name for entry in manager.quarantine.entries() for path in entry.glob("*.parquet"))


def test_what_only_a_lost_manifest_named_is_quarantined_and_not_removed(manager):
    """The current manifest and its copy are damaged: its object may be all that is left of a commit."""
    lost = manager.layout.resolve(only(current(manager)).path).name
    manager.layout.manifest_file().write_bytes(b"{")
    manager.layout.history_file(5).write_bytes(b"{")
    with manager.acquire_lock() as token:
        recovered = recover(manager, token, STRICT)
    assert recovered is not None
    assert recovered.version == 4
    assert lost in quarantined(manager)
    assert manager.list_versions() == [4]


def test_nothing_is_quarantined_while_an_older_version_is_damaged(manager):
    recovered, second = current(manager), manager.layout.resolve(only(manager.load_version(2)).path).name
    manager.layout.history_file(2).write_bytes(b"{")
    before = files(manager)
    quarantine_unreferenced(manager, recovered)
    assert files(manager) == before
    manager.layout.history_file(2).unlink()
    quarantine_unreferenced(manager, recovered)
    assert quarantined(manager) == [second], "its ledger is that of version 3 as well"


def test_a_version_whose_files_are_all_named_by_another_takes_none_with_it(manager, clock):
    clock.later(seconds=1)
    again = current(manager)
    with manager.acquire_lock() as token:
        manager.save_manifest(again, token)
    report = clear(manager, Retention(versions=1, days=0))
    assert report.removed == (1, 2, 3, 4, 5)
    assert files(manager) == set(again.named_paths())


def test_a_refusal_of_the_file_system_is_reported_in_our_words(manager, monkeypatch):
    orphan, unlink = manager.layout.objects / "2019-0123456789abcdef.parquet", Path.unlink
    orphan.write_bytes(b"an orphan")

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path == orphan:
            raise OSError(errno.EIO, "no unlink", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"every version.*unchanged") as caught:
        clear(manager)
    assert caught.value.todo
    assert manager.list_versions() == [5]
