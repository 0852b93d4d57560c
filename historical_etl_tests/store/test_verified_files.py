"""No row of a committed file is read before its bytes are proven: once, and again when the file has changed."""

import os

import pytest

from historical_etl import ChecksumMismatchError, ManifestManager, StorageError
from historical_etl.store import verified_files
from historical_etl.store.verified_files import already_verified, require_verified, verified_path
from historical_etl_tests.store.small import Hand, commit, corrections, only, spoil


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root, clock=Hand())


def test_a_file_is_read_once_for_its_proof_and_again_after_any_change(manager, watching):
    partition = only(commit(manager, {2019: 1}))
    path = manager.layout.resolve(partition.path)
    os.utime(path, ns=(2, 2))
    seen: list[str] = []
    with watching(seen.append):
        assert verified_path(manager.layout, partition) == path
        first = seen.count("open")
        assert verified_path(manager.layout, partition) == path
    assert 0 < first == seen.count("open")
    os.utime(path, ns=(1, 1))
    with watching(seen.append):
        verified_path(manager.layout, partition)
    assert seen.count("open") == 2 * first


def test_who_wrote_a_file_has_proven_it_and_keeps_the_proof_while_daily_is_linked_anew(manager, watching):
    """Each commit makes and removes links to the files of all years, which changes their ctime."""
    first = only(commit(manager, {2018: 1}), 2018)
    opened: list[str] = []
    for year in (2019, 2020, 2021):
        made = commit(manager, {year: 1})
        with watching(opened.append):
            assert already_verified(manager.layout, made.partitions) == list(made.partitions)
            verified_path(manager.layout, first)
    assert opened.count("open") == 0


def test_a_change_before_daily_is_linked_anew_is_seen(manager):
    partition = only(commit(manager, {2018: 1}), 2018)
    path = verified_path(manager.layout, partition)
    before = path.stat()
    content = spoil(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    commit(manager, {2019: 1})
    with pytest.raises(ChecksumMismatchError, match=r"2018 was changed after its commit"):
        verified_path(manager.layout, partition)
    path.write_bytes(content)


def test_a_change_is_seen_though_size_and_time_are_as_before(manager):
    partition = only(commit(manager, {2019: 1}))
    path = verified_path(manager.layout, partition)
    before = path.stat()
    content = spoil(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ChecksumMismatchError, match=r"2019 was changed after its commit") as caught:
        verified_path(manager.layout, partition)
    assert "repair" in caught.value.todo
    path.write_bytes(content)
    assert verified_path(manager.layout, partition) == path


def test_a_proof_holds_for_the_checksum_that_was_proven_only(manager):
    partition = only(commit(manager, {2019: 1}))
    verified_path(manager.layout, partition)
    with pytest.raises(ChecksumMismatchError):
        verified_path(manager.layout, partition.model_copy(update={"checksum": "0" * 64}))
    verified_path(manager.layout, partition)


def test_a_missing_file_and_one_of_a_ledger_are_named(manager):
    made = commit(manager, {2019: 1}, {"corrections": corrections(1)})
    (file,) = made.ledgers["corrections"]
    path = verified_path(manager.layout, file)
    spoil(path)
    with pytest.raises(ChecksumMismatchError, match=rf"^The ledger file {path.name} was changed"):
        verified_path(manager.layout, file)
    path.unlink()
    with pytest.raises(ChecksumMismatchError, match="is missing; no row"):
        verified_path(manager.layout, file)
    path.mkdir()
    with pytest.raises(ChecksumMismatchError, match="a folder, not a file; no row"):
        verified_path(manager.layout, file)
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.write_bytes(b"a file is in the place of the folder")
    with pytest.raises(StorageError, match="nothing was changed"):
        verified_path(manager.layout, file)


def test_of_several_files_the_first_that_is_not_intact_is_named(manager):
    made = commit(manager, {2017: 1, 2018: 1, 2019: 1})
    require_verified(manager.layout, made.partitions)
    for year in (2018, 2019):
        spoil(manager.layout.resolve(only(made, year).path))
    with pytest.raises(ChecksumMismatchError, match="file of 2018"):
        require_verified(manager.layout, made.partitions)


def test_a_process_that_lives_for_years_remembers_a_bounded_number_of_proofs(manager, monkeypatch):
    monkeypatch.setattr(verified_files, "_checked", {})
    monkeypatch.setattr(verified_files, "_MOST_CHECKED", 2)
    remembered: list[int] = []
    for number in range(1, 6):
        verified_path(manager.layout, only(commit(manager, {2019: number})))
        remembered.append(len(verified_files._checked))
    assert remembered == [1, 2, 1, 2, 1]
