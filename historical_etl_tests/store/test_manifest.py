"""Manifests: what saving refuses, and how a damaged one gives way to the newest good version."""

import errno
import json
import logging
from datetime import date
from pathlib import Path

import pytest

from historical_etl import (
    LockNotHeldError,
    ManifestCorruptError,
    ManifestManager,
    ManifestTooNewError,
    StorageError,
    SyncManifest,
)
from historical_etl.store.checksummed_json import add_checksum
from historical_etl.store.manifest_file import parse_manifest, render_manifest
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    at,
    current_manifest,
    daily_bytes,
    evening,
    store,
    stored,
    tree,
)


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root, clock=at(date(2013, 3, 1)))


@pytest.fixture
def listed(manager):
    """A file that a manifest may list."""
    path = manager.layout.objects / "2012-0000000000000000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rows")
    return path


def draft(**changes) -> SyncManifest:
    usual = {
        "sync_timestamp": evening(date(2013, 3, 1)),
        "start_date": date(2012, 1, 3),
        "end_date": date(2012, 12, 31),
        "row_count": 1,
        "checksum": "0" * 64,
        "file_paths": ("historical/objects/2012-0000000000000000.parquet",),
    }
    return SyncManifest.model_validate({**usual, **changes})


def save(manager: ManifestManager, **changes) -> SyncManifest:
    with manager.acquire_lock(changes.get("dataset", "historical_daily")) as token:
        return manager.save_manifest(draft(**changes), token)


@pytest.fixture
def three_versions(root):
    """A store with versions 1 to 3 of growing length."""
    for day in (date(2012, 12, 14), date(2012, 12, 31), date(2013, 1, 15)):
        etl = store(root, ScriptedFetcher(SHORT), day)
        etl.run_full_etl(SYMBOLS, SHORT.first, day) if day.month == 12 else etl.run_incremental_etl()
    assert current_manifest(etl).version == 3
    return etl


# ── saving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_saving_fills_in_version_and_the_checksum_before(manager, listed):
    first = save(manager)
    second = save(manager, checksum="1" * 64)
    assert (first.version, first.previous_checksum) == (1, None)
    assert (second.version, second.previous_checksum) == (2, "0" * 64)
    assert manager.load_manifest() == second
    assert manager.list_versions() == [1, 2]
    assert [manager.load_version(version) for version in (1, 2)] == [first, second]


def test_saving_refuses_a_token_that_is_not_the_locks(root, manager, listed):
    with manager.acquire_lock() as old:
        pass
    with pytest.raises(LockNotHeldError):
        manager.save_manifest(draft(), old)
    with manager.acquire_lock() as token:
        forged = token.model_copy(update={"number": token.number + 1})
        for wrong in (old, forged):
            with pytest.raises(LockNotHeldError):
                manager.save_manifest(draft(), wrong)
        with pytest.raises(LockNotHeldError):
            ManifestManager(root).save_manifest(draft(), token)
        assert manager.load_manifest() is None
        assert manager.save_manifest(draft(), token).version == 1


def test_saving_refuses_the_lock_of_another_dataset(manager, listed):
    with manager.acquire_lock("another") as token, pytest.raises(LockNotHeldError):
        manager.save_manifest(draft(), token)
    with manager.acquire_lock() as token, pytest.raises(LockNotHeldError):
        manager.save_manifest(draft(dataset="another"), token)
    assert manager.load_manifest() is None


@pytest.mark.parametrize("damage", ["missing", "empty", "folder"])
def test_saving_refuses_a_listed_file_that_is_not_there(manager, listed, damage):
    saved = save(manager)
    listed.unlink()
    if damage == "empty":
        listed.touch()
    if damage == "folder":
        listed.mkdir()
    with pytest.raises(ManifestCorruptError, match="missing or empty") as caught:
        save(manager, checksum="1" * 64)
    assert str(listed) in str(caught.value)
    assert manager.load_manifest() == saved
    assert manager.list_versions() == [1]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(manager, listed, monkeypatch):
    saved = save(manager)

    def refuse(_: Path, target: Path) -> None:
        raise OSError(errno.EIO, "no rename", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError, match="saving the manifest"):
            save(manager, checksum="1" * 64)
    assert manager.load_manifest() == saved


def test_a_folder_in_the_place_of_the_next_manifest_is_quarantined(manager, listed):
    save(manager)
    manager.layout.history_file(2).mkdir()
    assert save(manager, checksum="1" * 64).version == 2
    (entry,) = manager.quarantine.entries()
    assert (entry / "00000002.json").is_dir()


def test_datasets_do_not_see_each_other(manager, listed):
    save(manager)
    other = save(manager, dataset="another")
    assert other.version == 1
    assert manager.load_manifest("another") == other
    assert manager.list_versions("another") == [1]
    assert manager.load_manifest() != other


def test_restoring_needs_the_lock(manager, listed):
    saved = save(manager)
    with manager.acquire_lock() as old:
        pass
    manager.layout.manifest_file().write_bytes(b"{")
    with pytest.raises(LockNotHeldError):
        manager.restore_manifest(old)
    assert manager.layout.manifest_file().read_bytes() == b"{"
    with manager.acquire_lock() as token:
        assert manager.restore_manifest(token) == saved


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_folder_has_no_manifest_and_reading_makes_nothing(root, manager):
    assert manager.load_manifest() is None
    assert manager.list_versions() == []
    assert not root.exists()


def test_a_version_that_is_not_kept_is_named_with_those_that_are(manager, listed):
    with pytest.raises(ManifestCorruptError, match="Version 7 is not kept") as caught:
        manager.load_version(7)
    assert "nothing was committed" in str(caught.value)
    save(manager)
    with pytest.raises(ManifestCorruptError, match=r"use one of \[1\]"):
        manager.load_version(7)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"version": 1}',
        b"[" * 100_000,
        b'{"schema_version": {}}',
    ],
)
def test_damage_of_any_kind_is_one_error(tmp_path, content):
    with pytest.raises(ManifestCorruptError, match="damaged") as caught:
        parse_manifest(content, tmp_path / "historical_daily.json")
    assert "historical_daily.json" in str(caught.value)
    assert caught.value.todo


def test_one_changed_digit_is_damage(tmp_path):
    content = render_manifest(draft(row_count=1234))
    assert parse_manifest(content, tmp_path).row_count == 1234
    with pytest.raises(ManifestCorruptError, match="its own checksum"):
        parse_manifest(content.replace(b"1234", b"1235"), tmp_path)


# ── damage in a store ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [b"", b"{ torn", b"\x00" * 100, None])
def test_manifest_corruption_triggers_rollback(three_versions, content, caplog):
    """A damaged or lost current manifest is quarantined, and the newest good version takes its place: no row lost."""
    etl = three_versions
    path, good, rows, files = etl.layout.manifest_file(), current_manifest(etl), stored(etl), daily_bytes(etl)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    assert current_manifest(etl) == good, "readers pass it over without a lock"
    assert stored(etl).equals(rows)
    assert not path.exists() or path.read_bytes() == content, "and change nothing"

    with caplog.at_level(logging.WARNING):
        result = etl.run_incremental_etl()
    assert (result.version, result.changed) == (3, False)
    assert parse_manifest(path.read_bytes(), path) == good
    assert ("Using the newest good version instead" in caplog.text) is (content is not None)
    assert "restored from version 3" in caplog.text
    assert daily_bytes(etl) == files
    entries = etl.manifests.quarantine.entries()
    assert len(entries) == (content is not None)
    if content is not None:
        assert (entries[0] / "historical_daily.json").read_bytes() == content
        assert "damaged" in json.loads((entries[0] / "reason.json").read_bytes())["reason"]


def test_when_the_newest_version_is_lost_its_manifest_and_its_data_roll_back_together(three_versions, root):
    """Pointer and history of version 3 are damaged: version 2 stands, in the manifest, in daily/ and in queries."""
    etl = three_versions
    torn = b"{ torn"
    etl.layout.manifest_file().write_bytes(torn)
    etl.layout.history_file(3).write_bytes(torn)
    fresh = store(root, ScriptedFetcher(SHORT), date(2012, 12, 31))
    assert current_manifest(fresh).version == 2
    fresh.publish_catalog()
    assert list(daily_bytes(fresh)) == ["2012.parquet"], "2013 belonged to version 3"
    assert stored(fresh).equals(SHORT.expected(end=date(2012, 12, 31)))
    assert fresh.catalog.shown_version() == 2
    kept = [path for entry in fresh.manifests.quarantine.entries() for path in entry.iterdir()]
    assert {path.name for path in kept if path.read_bytes() == torn} == {"historical_daily.json", "00000003.json"}
    again = store(root, ScriptedFetcher(SHORT), date(2013, 1, 15))
    again.run_incremental_etl()
    assert stored(again).equals(SHORT.expected(end=date(2013, 1, 15)))


def test_with_every_manifest_damaged_nothing_is_touched(three_versions):
    """There is data, and nobody knows what it means: refuse, and leave each file alone."""
    etl = three_versions
    etl.layout.manifest_file().write_bytes(b"{")
    for version in etl.manifests.list_versions():
        etl.layout.history_file(version).write_bytes(b"{")
    objects, daily = tree(etl.layout.objects), daily_bytes(etl)
    with pytest.raises(ManifestCorruptError):
        etl.run_incremental_etl()
    with pytest.raises(ManifestCorruptError) as caught:
        etl.publish_catalog()
    assert caught.value.todo.startswith("restore `manifests/` from a backup"), "repair could not"
    assert (tree(etl.layout.objects), daily_bytes(etl)) == (objects, daily)
    assert etl.layout.manifest_file().read_bytes() == b"{"


def test_a_damaged_manifest_of_a_store_without_data_does_not_block_it(root):
    etl = store(root, ScriptedFetcher(SHORT))
    etl.layout.manifests.mkdir(parents=True)
    etl.layout.manifest_file().write_bytes(b"{")
    with pytest.raises(ManifestCorruptError):
        etl.manifest()
    with etl.manifests.acquire_lock() as token:
        assert etl.manifests.restore_manifest(token) is None
    assert etl.run_full_etl(SYMBOLS, SHORT.first, SHORT.last).version == 2
    assert stored(etl).equals(SHORT.expected())


def test_a_damaged_version_in_the_history_does_not_block_saving(three_versions):
    etl = three_versions
    etl.layout.history_file(1).write_bytes(b"{")
    later = store(etl.layout.root, ScriptedFetcher(SHORT), date(2013, 1, 16))
    assert later.run_incremental_etl().version == 4
    with pytest.raises(ManifestCorruptError):
        later.manifests.load_version(1)


def test_a_lost_version_in_the_history_is_written_again(three_versions):
    etl = three_versions
    path = etl.layout.history_file(3)
    good = path.read_bytes()
    path.unlink()
    etl.publish_catalog()
    assert path.read_bytes() == good


def test_a_version_whose_objects_are_gone_is_not_fallen_back_to(three_versions):
    etl = three_versions
    third = {partition.path for partition in current_manifest(etl).partitions}
    second = {partition.path for partition in etl.manifests.load_version(2).partitions}
    for path in third - second:
        etl.layout.resolve(path).unlink()
    etl.layout.manifest_file().unlink()
    assert current_manifest(etl).version == 2


def test_a_newer_schema_version_is_left_alone_byte_for_byte_and_refused(three_versions):
    etl = three_versions
    body = json.loads(etl.layout.manifest_file().read_bytes())
    del body["manifest_sha256"]
    body |= {"schema_version": "v2.1", "what_is_this": [1, 2, 3]}
    etl.layout.manifest_file().write_bytes(add_checksum(body, "manifest_sha256"))
    before = tree(etl.layout.root)
    for action in (
        etl.manifest,
        etl.run_incremental_etl,
        etl.publish_catalog,
        lambda: etl.run_year(2012, SYMBOLS),
        lambda: etl.query_sql("SELECT 1"),
    ):
        with pytest.raises(ManifestTooNewError, match="schema version 2") as caught:
            action()
        assert "upgrade" in caught.value.todo
    after = tree(etl.layout.root)
    assert {name for name in before if before[name] != after.get(name)} <= {"manifests/historical_daily.lock"}
    assert after.keys() == before.keys()


@pytest.mark.parametrize("version", [2, 3, 5, 17])
def test_a_newer_manifest_that_is_whole_is_newer_also_one_bit_from_ours(tmp_path, version):
    """3 is one bit from 1: without its checksum it may be ours, damaged; with it, it is not."""
    body = {**draft().model_dump(mode="json"), "schema_version": version}
    with pytest.raises(ManifestTooNewError, match=f"schema version {version}"):
        parse_manifest(add_checksum(body, "manifest_sha256"), tmp_path)


def test_the_schema_version_may_be_written_as_text(tmp_path):
    body = {**draft().model_dump(mode="json"), "schema_version": "v1.0.0"}
    assert parse_manifest(json.dumps(body).encode(), tmp_path).schema_version == 1


def test_a_manifest_of_an_older_release_is_read_under_the_old_names(tmp_path):
    body = draft().model_dump(mode="json")
    del body["query_hash"], body["partitions"]
    body |= {"wrds_query_hash": "abc"}
    assert parse_manifest(json.dumps(body).encode(), tmp_path).query_hash == "abc"
    with pytest.raises(ManifestCorruptError, match="unknown fields: unknown"):
        parse_manifest(json.dumps(body | {"unknown": 1}).encode(), tmp_path)
