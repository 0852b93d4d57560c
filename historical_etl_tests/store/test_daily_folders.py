"""`daily` is a link to a folder of one version: when it is replaced, what stays, and where it must stay a folder."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from historical_etl import ManifestManager
from historical_etl.errors import DiskSpaceError, StorageError
from historical_etl.store.checkout import check_out
from historical_etl.store.daily_folders import IMPOSSIBLE, shown_folder
from historical_etl.store.recovery import recover
from historical_etl.store.transaction import Transaction
from historical_etl.store.verify.file_repairs import repair_files
from historical_etl_tests.store.small import Hand, commit, corrections, only, replace, spoil
from historical_etl_tests.store.verify.verified import reported

Act = Callable[[ManifestManager], object]


@pytest.fixture
def manager(root) -> ManifestManager:
    """Version 1, of two years."""
    manager = ManifestManager(root, clock=Hand())
    commit(manager, {2018: 1, 2019: 1})
    return manager


def shown(manager: ManifestManager) -> str:
    """What `daily` says as a link."""
    return str(manager.layout.daily.readlink())


def folders(manager: ManifestManager) -> list[str]:
    return sorted(path.name for path in manager.layout.daily_folders.iterdir())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def recovered(manager: ManifestManager) -> None:
    with manager.acquire_lock() as token:
        recover(manager, token)


def as_before(manager: ManifestManager) -> None:
    """A plain folder, as earlier releases made it, and as a copy has it in which links were followed."""
    layout = manager.layout
    folder = layout.daily.resolve(strict=True)
    layout.daily.unlink()
    folder.rename(layout.daily)
    shutil.rmtree(layout.daily_folders)


def linked_to(manager: ManifestManager, version: int) -> bool:
    """Whether every year is the object of a version, and there is no other."""
    layout, manifest = manager.layout, manager.load_version(version)
    return names(layout.daily) == [f"{p.year}.parquet" for p in manifest.partitions] and all(
        layout.daily_file(p.year).samefile(layout.resolve(p.path)) for p in manifest.partitions
    )


def refusing(error: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return refuse


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_that_a_reader_has_found_stays_until_the_commit_after_the_next(manager):
    assert shown(manager) == ".daily/00000001"
    found = manager.layout.daily.resolve(strict=True)
    first = {path: path.read_bytes() for path in found.iterdir()}
    commit(manager, {2018: 2, 2019: 2})
    assert shown(manager) == ".daily/00000002"
    assert {path: path.read_bytes() for path in found.iterdir()} == first
    commit(manager, {2019: 3})
    assert not found.exists()
    assert folders(manager) == ["00000002", "00000003"]
    assert linked_to(manager, 3)


def test_what_changes_no_year_makes_no_folder(manager, watching):
    seen: list[str] = []
    with watching(seen.append):
        commit(manager, {2019: 1}, {"corrections": corrections(1)})
        recovered(manager)
    assert "os.link" not in seen
    assert "os.symlink" not in seen
    assert (shown(manager), folders(manager)) == (".daily/00000001", ["00000001"])


def test_a_link_that_leads_nowhere_is_made_anew(manager):
    for lose in (
        lambda: shutil.rmtree(manager.layout.daily_folders),  # a backup without hidden folders
        manager.layout.daily.unlink,  # a copy without links
    ):
        lose()
        assert reported(manager)[0] == ("warning", "daily/", "it has none of the years")
        recovered(manager)
        assert linked_to(manager, 1)
    assert reported(manager)[0][1] == "progress"


# ── as earlier releases made it ──────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_folder_is_as_good_until_a_commit_replaces_it(manager):
    as_before(manager)
    recovered(manager)
    commit(manager, {}, {"corrections": corrections(1)})
    assert not manager.layout.daily.is_symlink()
    commit(manager, {2019: 2})
    assert shown(manager) == ".daily/00000003"
    assert linked_to(manager, 3)
    assert folders(manager) == ["00000000", "00000003"], "it stays for who has listed it"
    commit(manager, {2019: 3})
    assert folders(manager) == ["00000003", "00000004"]


def test_a_kill_while_a_plain_folder_makes_place_is_repaired(manager):
    as_before(manager)
    layout = manager.layout
    layout.daily_folders.mkdir()
    layout.daily.rename(layout.daily_folders / "00000000")
    (layout.storage / ".daily.1.abc.tmp").symlink_to(".daily/00000001")
    recovered(manager)
    assert linked_to(manager, 1)
    assert [path.name for path in layout.storage.iterdir() if path.name.endswith(".tmp")] == []


def test_a_copy_in_which_links_were_followed_becomes_a_link_again(manager, tmp_path):
    shutil.copytree(manager.layout.root, tmp_path / "copy")
    copy = ManifestManager(tmp_path / "copy", clock=Hand())
    assert not copy.layout.daily.is_symlink()
    commit(copy, {2019: 2})
    assert linked_to(copy, 2)
    assert folders(copy) == ["00000000", "00000002"]


# ── what is not ours ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plain", [True, False])
def test_what_somebody_put_beside_the_years_moves_on(manager, plain):
    if plain:
        as_before(manager)
    daily = manager.layout.daily
    (daily / "readme.txt").write_text("mine")
    (daily / "notes").mkdir()
    (daily / "notes" / "2018.parquet").write_bytes(b"mine")
    for price in (2, 3, 4):
        commit(manager, {2019: price})
        assert names(daily) == ["2018.parquet", "2019.parquet", "notes", "readme.txt"]
    assert (daily / "notes" / "2018.parquet").read_bytes() == b"mine"
    assert len(folders(manager)) == 2


def test_what_has_no_place_there_stays_where_it_is(manager):
    old = manager.layout.daily.resolve(strict=True)
    commit(manager, {2019: 2})
    (old / "readme.txt").write_text("one")
    (manager.layout.daily / "readme.txt").write_text("another")
    commit(manager, {2019: 3})
    commit(manager, {2019: 4})
    assert (old / "readme.txt").read_text() == "one"
    assert (manager.layout.daily / "readme.txt").read_text() == "another"
    (manager.layout.daily / "readme.txt").unlink()
    commit(manager, {2019: 5})
    assert not old.exists()
    assert (manager.layout.daily / "readme.txt").read_text() == "one"


def test_a_link_of_somebody_else_stays_and_its_files_are_replaced(manager):
    layout = manager.layout
    elsewhere = layout.root.parent / "elsewhere"
    shutil.copytree(layout.daily, elsewhere, copy_function=os.link)
    layout.daily.unlink()
    layout.daily.symlink_to(elsewhere)
    commit(manager, {2017: 1, 2019: 2})
    (elsewhere / "2016.parquet").write_bytes(b"theirs")
    with manager.acquire_lock() as token:
        Transaction(manager, token).restore(manager.load_version(1), {})
    assert layout.daily.readlink() == elsewhere
    assert shown_folder(layout) is None
    assert (elsewhere / "2016.parquet").read_bytes() == b"theirs", "only what a commit put there goes"
    (elsewhere / "2016.parquet").unlink()
    assert linked_to(manager, 1)


# ── where it is impossible ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", sorted(IMPOSSIBLE))
@pytest.mark.parametrize("call", ["link", "symlink"])
def test_where_a_kind_of_link_is_refused_daily_is_a_plain_folder(root, monkeypatch, call, error):
    monkeypatch.setattr(os, call, refusing(error))
    manager = ManifestManager(root, clock=Hand())
    for price in (1, 2):
        made = commit(manager, {2018: price, 2019: price})
        assert not manager.layout.daily.is_symlink()
        for partition in made.partitions:
            there, wanted = manager.layout.daily_file(partition.year), manager.layout.resolve(partition.path)
            assert there.read_bytes() == wanted.read_bytes()
            assert there.samefile(wanted) == (call == "symlink")
    assert names(manager.layout.daily) == ["2018.parquet", "2019.parquet"]
    assert folders(manager) == []


def test_a_plain_folder_that_cannot_be_moved_stays_one(manager, monkeypatch):
    """A volume of its own, mounted there."""
    as_before(manager)
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if Path(source) == manager.layout.daily:
            raise OSError(errno.EBUSY, "busy", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    commit(manager, {2019: 2})
    assert not manager.layout.daily.is_symlink()
    assert linked_to(manager, 2)
    assert folders(manager) == []


@pytest.mark.parametrize(("call", "error"), [("link", errno.ENOSPC), ("symlink", errno.EIO)])
def test_what_another_error_breaks_off_shows_the_version_before_until_the_next_write(manager, monkeypatch, call, error):
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refusing(error))
        with pytest.raises(StorageError, match=r"version 2 is committed.*next write") as caught:
            commit(manager, {2018: 2, 2019: 2})
    assert isinstance(caught.value, DiskSpaceError) == (error == errno.ENOSPC)
    assert linked_to(manager, 1)
    assert folders(manager) == ["00000001"]
    behind = "it shows version 1, all of it, and not version 2, the current one"
    assert reported(manager)[0] == ("warning", "daily/", behind)
    recovered(manager)
    assert linked_to(manager, 2)


def test_a_failed_sync_after_the_replacement_keeps_the_folder_that_is_shown(manager, monkeypatch):
    """It may hold the only good copy of a year whose object is damaged."""
    copied = manager.layout.daily_file(2018)
    content = copied.read_bytes()
    replace(copied, content)
    spoil(manager.layout.resolve(only(manager.load_version(1), 2018).path))
    manager.layout.daily_file(2019).unlink()

    def sync(folder: Path) -> None:
        if folder == manager.layout.storage:
            raise OSError(errno.EACCES, "denied", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr("historical_etl.store.daily_folders.fsync_folder", sync)
        with pytest.raises(OSError, match="denied"):
            check_out(manager, manager.load_version(1))
    assert shown(manager) == ".daily/00000001-02"
    assert copied.read_bytes() == content
    assert names(manager.layout.daily) == ["2018.parquet", "2019.parquet"]


# ── what a kill leaves ───────────────────────────────────────────────────────────────────────────────────────────────


def half_made(manager: ManifestManager) -> None:
    folder = manager.layout.daily_folders / "00000003"
    folder.mkdir()
    (folder / "2018.parquet").hardlink_to(manager.layout.daily_file(2018))


def half_removed(manager: ManifestManager) -> None:
    folder = manager.layout.daily_folders / ".00000001.1.abc.tmp"
    folder.mkdir()
    (folder / "2018.parquet").hardlink_to(manager.layout.daily_file(2018))


def not_removed(manager: ManifestManager) -> None:
    folder = manager.layout.daily_folders / "00000000"
    folder.mkdir()
    (folder / "2018.parquet").hardlink_to(manager.layout.daily_file(2018))


@pytest.mark.parametrize("leave", [half_made, half_removed, not_removed])
def test_a_folder_that_nobody_needs_is_reported_and_goes(manager, leave: Act):
    commit(manager, {2019: 2})
    leave(manager)
    assert ("warning", "temp files", "an interrupted run left them") in reported(manager)
    recovered(manager)
    assert folders(manager) == ["00000001", "00000002"]
    assert "temp files" not in [field for _, field, _ in reported(manager)]


def test_the_only_good_copy_of_a_year_is_found_in_a_folder_that_is_not_shown(manager):
    """`daily` was a plain folder, of copies; a kill followed once it was moved aside."""
    as_before(manager)
    for year in (2018, 2019):
        replace(manager.layout.daily_file(year), manager.layout.daily_file(year).read_bytes())
    content = manager.layout.daily_file(2018).read_bytes()
    spoil(manager.layout.resolve(only(manager.load_version(1), 2018).path))
    manager.layout.daily_folders.mkdir()
    manager.layout.daily.rename(manager.layout.daily_folders / "00000000")
    recovered(manager)
    assert manager.layout.daily_file(2018).read_bytes() == content
    restored, damage = repair_files(manager, [manager.load_version(1)])
    assert (len(restored), damage) == (1, {})
    recovered(manager)
    assert linked_to(manager, 1)


def test_a_year_that_is_repaired_within_a_version_gets_a_folder_of_its_own(manager):
    manager.layout.daily_file(2019).unlink()
    check_out(manager, manager.load_version(1))
    assert shown(manager) == ".daily/00000001-02"
    assert linked_to(manager, 1)
    assert folders(manager) == ["00000001", "00000001-02"]
