"""`daily/` shows the committed files: linked where that is possible, and never a stranger's or a damaged one."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from historical_etl import ManifestManager
from historical_etl.store.checkout import check_out, is_known
from historical_etl.store.quarantine.entries import read_entries
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import Hand, commit, only, spoil


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root, clock=Hand())


def kept(manager: ManifestManager) -> dict[str, str]:
    """What lies in quarantine, with its reason."""
    entries = [json.loads((entry / "reason.json").read_bytes()) for entry in manager.quarantine.entries()]
    return {entry["file"]: entry["reason"] for entry in entries}


def test_a_year_is_a_link_and_is_left_alone_once_it_is(manager, watching):
    made = commit(manager, {2018: 1, 2019: 1})
    daily, wanted = manager.layout.daily_file(2019), manager.layout.resolve(only(made).path)
    assert daily.samefile(wanted)
    seen: list[str] = []
    with watching(seen.append):
        check_out(manager, made)
    assert "os.link" not in seen
    assert "os.rename" not in seen
    daily.unlink()
    check_out(manager, made)
    assert daily.samefile(wanted)
    assert sorted(path.name for path in manager.layout.daily.iterdir()) == ["2018.parquet", "2019.parquet"]
    assert kept(manager) == {}


def test_a_damaged_object_does_not_replace_the_good_copy_of_it(manager):
    made = commit(manager, {2018: 1, 2019: 1})
    daily, wanted = manager.layout.daily_file(2018), manager.layout.resolve(only(made, 2018).path)
    daily.unlink()
    shutil.copyfile(wanted, daily)
    good = spoil(wanted)
    manager.layout.daily_file(2019).unlink()
    check_out(manager, made)
    assert daily.read_bytes() == good
    assert manager.layout.daily_file(2019).exists(), "the years after it are linked all the same"
    check_out(manager, made, proven={2018, 2019})
    assert daily.samefile(wanted)


def test_a_missing_object_is_passed_over(manager):
    made = commit(manager, {2018: 1, 2019: 1})
    manager.layout.resolve(only(made, 2018).path).unlink()
    manager.layout.daily_file(2019).unlink()
    check_out(manager, made)
    assert manager.layout.daily_file(2018).exists()
    assert manager.layout.daily_file(2019).exists()


@pytest.mark.parametrize("proven", [True, False])
def test_a_stranger_in_daily_goes_to_quarantine(manager, caplog, proven):
    made = commit(manager, {2019: 1})
    daily = manager.layout.daily_file(2019)
    daily.unlink()
    daily.write_bytes(b"a stranger")
    check_out(manager, made, proven={2019} if proven else ())
    assert daily.samefile(manager.layout.resolve(only(made).path))
    assert kept(manager) == {"2019.parquet": Saying("daily/", "no commit")}
    assert "2019.parquet was replaced from outside" in caplog.text


def test_an_older_version_and_a_copy_are_no_strangers(manager):
    first = commit(manager, {2019: 1})
    second = commit(manager, {2019: 2})
    daily, old = manager.layout.daily_file(2019), manager.layout.resolve(only(first).path)
    for put in (shutil.copyfile, os.link):
        daily.unlink()
        put(old, daily)
        assert is_known(daily, manager.layout)
        check_out(manager, second)
        assert daily.samefile(manager.layout.resolve(only(second).path))
    daily.unlink()
    daily.write_bytes(old.read_bytes() + b"more")
    assert not is_known(daily, manager.layout)
    assert kept(manager) == {}


def test_a_copy_as_backup_tools_make_it_is_left_as_it_is(manager):
    made = commit(manager, {2019: 1})
    daily, wanted = manager.layout.daily_file(2019), manager.layout.resolve(only(made).path)
    daily.unlink()
    shutil.copy2(wanted, daily)
    check_out(manager, made)
    assert not daily.samefile(wanted)
    os.utime(daily, ns=(0, 1))
    check_out(manager, made)
    assert daily.samefile(wanted)


def test_where_times_are_kept_to_the_second_the_copy_of_an_older_version_is_replaced(manager):
    """FAT and exFAT have no hard links either: two versions of a year may have one size and one time."""
    first = commit(manager, {2019: 3})
    second = commit(manager, {2019: 4})
    daily, wanted = manager.layout.daily_file(2019), manager.layout.resolve(only(second).path)
    daily.unlink()
    shutil.copyfile(manager.layout.resolve(only(first).path), daily)
    assert daily.stat().st_size == wanted.stat().st_size
    for path in (daily, wanted):
        os.utime(path, ns=(1_700_000_000 * 10**9, 1_700_000_000 * 10**9))
    check_out(manager, second)
    assert daily.read_bytes() == wanted.read_bytes()


def test_a_stranger_with_the_time_of_the_object_is_seen_by_its_size(manager):
    made = commit(manager, {2019: 1})
    daily, wanted = manager.layout.daily_file(2019), manager.layout.resolve(only(made).path)
    daily.unlink()
    daily.write_bytes(b"a stranger")
    os.utime(daily, ns=(wanted.stat().st_atime_ns, wanted.stat().st_mtime_ns))
    check_out(manager, made)
    assert daily.samefile(wanted)


def test_where_links_are_refused_a_copy_is_made_once(manager, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EMLINK, "too many links")

    monkeypatch.setattr(os, "link", refuse)
    made = commit(manager, {2019: 1})
    daily, wanted = manager.layout.daily_file(2019), manager.layout.resolve(only(made).path)
    first = daily.stat().st_ino
    assert first != wanted.stat().st_ino
    assert daily.read_bytes() == wanted.read_bytes()
    assert daily.stat().st_mode == wanted.stat().st_mode
    check_out(manager, made)
    assert daily.stat().st_ino == first
    assert [path.name for path in manager.layout.daily.iterdir()] == ["2019.parquet"]


def test_a_link_to_a_folder_in_the_place_of_a_year_is_quarantined(manager):
    made = commit(manager, {2019: 1})
    daily = manager.layout.daily_file(2019)
    daily.unlink()
    (daily / "full").mkdir(parents=True)
    daily.with_name("2019.parquet").rename(daily.with_name("aside"))
    daily.symlink_to("aside")
    check_out(manager, made)
    assert sorted(path.name for path in manager.layout.daily.iterdir()) == ["2019.parquet", "aside"]
    assert daily.samefile(manager.layout.resolve(only(made).path))
    (entry,) = read_entries(manager.layout)
    assert (entry.path / daily.name).readlink() == Path("aside")


def test_years_that_a_version_does_not_have_are_withdrawn(manager, caplog):
    first = commit(manager, {2019: 1})
    commit(manager, {2017: 1, 2018: 1})
    daily = manager.layout.daily
    (daily / "2016.parquet").write_bytes(b"a stranger")
    (daily / "notes.parquet").write_bytes(b"of somebody")
    shutil.copyfile(daily / "2017.parquet", daily / "copy")
    (daily / "2017.parquet").unlink()
    (daily / "copy").rename(daily / "2017.parquet")
    check_out(manager, first)
    assert sorted(path.name for path in daily.iterdir()) == ["2019.parquet", "notes.parquet"]
    assert kept(manager) == {"2016.parquet": Saying("version 1", "no such year")}
    assert caplog.text == Saying("2016.parquet", "no year", "version 1")
    assert len(list(manager.layout.objects.iterdir())) == 3
