"""Commits and recovery: what a reader may see at any moment, what a crash leaves, what is kept of older versions."""

import errno
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ChecksumMismatchError, LockNotHeldError, ManifestManager, StorageError
from historical_etl.durable import temp_name
from historical_etl.store.manifest_file import parse_manifest
from historical_etl.store.recovery import recover
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.store.vacuum import Retention
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    Ticking,
    current_manifest,
    daily_bytes,
    evening,
    sessions,
    store,
    stored,
    tree,
)

MIDWAY = date(2013, 1, 15)


def fill(root: Path, until: date = MIDWAY, **options):
    etl = store(root, ScriptedFetcher(SHORT), until, **options)
    etl.run_full_etl(SYMBOLS, SHORT.first, until)
    return etl


def test_atomic_write_no_partial_files(root, watching):
    """Before every single change to the file system, each file that readers look for is whole and of one version."""
    fill(root)
    etl = store(root, ScriptedFetcher(SHORT), date(2013, 2, 15))
    wholes: dict[str, set[bytes]] = {name: {data} for name, data in daily_bytes(etl).items()}
    after = store(root.parent / "after", ScriptedFetcher(SHORT), date(2013, 2, 15))
    after.run_full_etl(SYMBOLS, SHORT.first, date(2013, 2, 15))
    for name, data in daily_bytes(after).items():
        wholes[name].add(data)
    versions, moments = set(), 0

    def look(_: str) -> None:
        nonlocal moments
        moments += 1
        for path in etl.layout.daily.glob("*.parquet"):
            assert path.read_bytes() in wholes[path.name], f"{path.name} is partial"
        for path in etl.layout.objects.glob("*.parquet"):
            assert path.read_bytes() in wholes[f"{path.name[:4]}.parquet"], f"{path.name} is partial"
        for path in [etl.layout.manifest_file(), *etl.layout.history_folder().glob("*.json")]:
            manifest = parse_manifest(path.read_bytes(), path)
            assert all(etl.layout.resolve(listed).is_file() for listed in manifest.file_paths)
        versions.add(current_manifest(etl).version)

    with watching(look):
        etl.run_incremental_etl()
    assert moments > 30
    assert versions == {2, 3}
    assert daily_bytes(etl) == daily_bytes(after)


def test_a_commit_over_two_years_appears_at_once(root, watching):
    """Readers of the manifest see both years of the old version or both of the new one."""
    fill(root, date(2012, 12, 14))
    etl = store(root, ScriptedFetcher(SHORT), MIDWAY)
    seen: list[tuple[int, ...]] = []

    def look(_: str) -> None:
        shown = tuple(partition.rows for partition in current_manifest(etl).partitions)
        if seen[-1:] != [shown]:
            seen.append(shown)

    with watching(look):
        etl.run_incremental_etl()
    assert [len(years) for years in seen] == [1, 2]


def leftovers(etl) -> list[Path]:
    """What a crash before the commit may leave: temps, and an object that no manifest names."""
    layout = etl.layout
    paths = [
        temp_name(layout.objects / "2012-0123456789abcdef.parquet"),
        temp_name(layout.daily / "2012.parquet"),
        temp_name(layout.manifest_file()),
        temp_name(layout.history_file(9)),
        temp_name(layout.progress_file()),
        layout.objects / "2012-0123456789abcdef.parquet",
    ]
    for path in paths:
        path.write_bytes(b"torn")
    return paths


def test_what_a_crash_before_the_commit_leaves_is_swept(root):
    etl = fill(root)
    before = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}
    paths = leftovers(etl)
    with etl.manifests.acquire_lock() as token:
        recover(etl.manifests, token)
    assert not any(path.exists() for path in paths)
    assert {name: data for name, data in tree(root).items() if not name.endswith(".lock")} == before


def test_what_a_first_crash_leaves_is_swept_too(root):
    """No version was ever committed: the object of the torn commit goes."""
    etl = store(root, ScriptedFetcher(SHORT))
    etl.layout.objects.mkdir(parents=True)
    orphan = etl.layout.objects / "2012-0123456789abcdef.parquet"
    orphan.write_bytes(b"torn")
    with etl.manifests.acquire_lock() as token:
        assert recover(etl.manifests, token) is None
    assert not orphan.exists()


def test_files_that_are_not_ours_are_left_in_objects(root):
    etl = fill(root)
    notes = etl.layout.objects / "notes.parquet"
    notes.write_bytes(b"not an object")
    with etl.manifests.acquire_lock() as token:
        recover(etl.manifests, token)
    assert notes.exists()


def test_a_version_in_the_history_newer_than_the_pointer_was_never_committed(root):
    """A crash between writing the history and replacing the pointer: the version is dropped, its number used again."""
    fill(root)
    crashed = root.with_name("crashed")
    shutil.copytree(root, crashed, symlinks=True)
    etl = store(root, ScriptedFetcher(SHORT), date(2013, 2, 15))
    etl.run_incremental_etl()
    torn = current_manifest(etl)
    for written in (etl.layout.objects, etl.layout.ledgers, etl.layout.history_folder()):
        shutil.copytree(written, crashed / written.relative_to(root), dirs_exist_ok=True)

    again = store(crashed, ScriptedFetcher(SHORT), MIDWAY)
    assert current_manifest(again).version == torn.version - 1
    again.publish_catalog()
    assert again.manifests.list_versions()[-1] == torn.version - 1
    assert stored(again).equals(SHORT.expected(end=MIDWAY))
    assert again.catalog.shown_version() == torn.version - 1


def test_what_a_crash_after_the_commit_leaves_undone_is_done_by_the_next_writer(root):
    """The pointer is new, daily/ is old: `recover` links the new files."""
    fill(root)
    etl = store(root, ScriptedFetcher(SHORT), date(2013, 2, 15))
    old = (etl.layout.daily / "2013.parquet").read_bytes()
    kept = list(etl.layout.objects.glob("2013-*"))
    etl.run_incremental_etl()
    new = daily_bytes(etl)
    (etl.layout.daily / "2013.parquet").unlink()
    os.link(kept[0], etl.layout.daily / "2013.parquet")
    assert daily_bytes(etl)["2013.parquet"] == old
    with etl.manifests.acquire_lock() as token:
        recover(etl.manifests, token)
    assert daily_bytes(etl) == new
    assert etl.manifests.quarantine.entries() == [], "an older version of ours is no stranger"


def test_objects_are_read_only_and_daily_files_are_links_to_them(root):
    etl = fill(root)
    for partition in current_manifest(etl).partitions:
        path = etl.layout.resolve(partition.path)
        assert path.stat().st_mode & 0o222 == 0
        assert path.name == f"{partition.year}-{partition.checksum[:16]}.parquet"
        assert path.samefile(etl.layout.daily / f"{partition.year}.parquet")


def test_without_hard_links_daily_holds_copies(root, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("historical_etl.store.checkout.os.link", refuse)
    etl = fill(root)
    for partition in current_manifest(etl).partitions:
        path = etl.layout.resolve(partition.path)
        assert not path.samefile(etl.layout.daily / f"{partition.year}.parquet")
        assert path.read_bytes() == (etl.layout.daily / f"{partition.year}.parquet").read_bytes()
    later = store(root, ScriptedFetcher(SHORT), date(2013, 2, 15))
    later.run_incremental_etl()
    assert pl.read_parquet(later.layout.daily / "2013.parquet")["date"].max() == date(2013, 2, 15)
    assert later.manifests.quarantine.entries() == []


def test_old_versions_are_kept_by_number_and_age_and_their_objects_go_with_them(root):
    clock = Ticking(evening(date(2013, 1, 2)))
    days = sessions(date(2013, 1, 2), date(2013, 1, 15))
    fetcher = ScriptedFetcher(SHORT)
    etl = store(root, fetcher, clock=clock, keep_versions=3, keep_days=0)
    for day in days:
        clock.now = evening(day)
        etl.run_full_etl(SYMBOLS, date(2013, 1, 2), day)
    last = current_manifest(etl).version
    assert last == len(days)
    assert etl.manifests.list_versions() == [last - 2, last - 1, last]
    named = {p.path for v in etl.manifests.list_versions() for p in etl.manifests.load_version(v).partitions}
    assert {str(path.relative_to(root)) for path in etl.layout.objects.iterdir()} == named

    clock.now += timedelta(days=2)
    lenient = store(root, fetcher, clock=clock, keep_versions=1, keep_days=7)
    lenient.run_incremental_etl()
    assert lenient.manifests.list_versions() == [last - 2, last - 1, last, last + 1], "recent versions stay"


def test_the_version_that_the_catalog_shows_is_kept(root):
    clock = Ticking(evening(date(2013, 1, 2)))
    etl = store(root, ScriptedFetcher(SHORT), clock=clock, keep_versions=1, keep_days=0)
    etl.run_full_etl(SYMBOLS, date(2013, 1, 2), date(2013, 1, 2))
    for day in sessions(date(2013, 1, 3), date(2013, 1, 9)):
        clock.now = evening(day)
        etl.run_incremental_etl(publish=False)
    assert etl.catalog.shown_version() == 1
    assert etl.manifests.list_versions() == [1, current_manifest(etl).version]
    etl.publish_catalog()
    etl.publish_catalog()
    assert etl.manifests.list_versions() == [current_manifest(etl).version]


def test_a_transaction_whose_lock_was_lost_commits_nothing(root):
    etl = fill(root)
    before = etl.layout.manifest_file().read_bytes()
    manager = ManifestManager(root)
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        blocks = transaction.stored_blocks(2013)
        transaction.write_year(2013, blocks[:-1] or blocks, 6)
        transaction.write_year(2012, transaction.stored_blocks(2012)[:1], 6)
    with pytest.raises(LockNotHeldError):
        transaction.commit(Provenance())
    assert etl.layout.manifest_file().read_bytes() == before


def test_a_transaction_without_changes_is_no_version(root):
    etl = fill(root)
    with etl.manifests.acquire_lock() as token:
        transaction = Transaction(etl.manifests, token, Retention())
        partition = current_manifest(etl).partition(2013)
        assert partition is not None
        written = transaction.write_year(2013, transaction.stored_blocks(2013), partition.symbols)
        assert written.checksum == partition.checksum
        assert transaction.stored_blocks(1999) == []
        assert transaction.commit(Provenance()) == current_manifest(etl)


def test_a_failure_at_the_commit_point_leaves_the_old_version(root, monkeypatch):
    """Nothing can be renamed to the pointer's name."""
    etl = store(root, ScriptedFetcher(SHORT), MIDWAY)
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target == etl.layout.manifest_file():
            raise OSError(errno.EIO, "no rename", str(target))
        rename(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="replacing the current manifest") as caught:
        etl.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    assert caught.value.todo
    assert daily_bytes(etl) == {}
    assert list(etl.catalog.path.parent.glob(".*")) == [], (
        "nor is anything left of the catalog that was built meanwhile"
    )


def test_a_file_that_does_not_read_back_is_removed_and_nothing_is_committed(root, monkeypatch):
    """The disk lost the end of the object between writing and reading it back."""
    etl = fill(root)
    before = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}

    def torn(source: Path, target: Path) -> None:
        source.chmod(0o644)
        source.write_bytes(source.read_bytes()[:-50])
        source.rename(target)

    monkeypatch.setattr(Path, "replace", torn)
    later = store(root, ScriptedFetcher(SHORT), date(2013, 2, 15))
    with pytest.raises(ChecksumMismatchError, match="read back") as caught:
        later.run_incremental_etl()
    assert caught.value.todo
    assert {name: data for name, data in tree(root).items() if not name.endswith(".lock")} == before
    assert stored(etl).equals(SHORT.expected(end=MIDWAY))
