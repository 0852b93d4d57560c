"""Repair: what can be restored with certainty is, from bytes that are proven; what is replaced goes to quarantine."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from historical_etl import ManifestManager, StorageError
from historical_etl.durable import sha256_of
from historical_etl.store.pins import Pin, read_pins, write_pin
from historical_etl.store.quarantine.entries import QuarantineEntry, read_entries
from historical_etl.store.verify.file_repairs import (
    repair_daily,
    repair_files,
    repair_history,
    repair_pins,
    unlinked_years,
)
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import Hand, commit, corrections, only, replace, spoil


@pytest.fixture
def manager(root) -> ManifestManager:
    """Version 1: 2019. Version 2: another 2019, 2018, and a ledger."""
    manager = ManifestManager(root, clock=Hand())
    commit(manager, {2019: 1})
    commit(manager, {2018: 1, 2019: 2}, {"corrections": corrections(1)})
    return manager


def kept(manager: ManifestManager) -> list[QuarantineEntry]:
    return read_entries(manager.layout)


def path_of(manager: ManifestManager, year: int, version: int = 2) -> Path:
    return manager.layout.resolve(only(manager.load_version(version), year).path)


# ── manifests of older versions ────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_manifest_of_an_older_version_is_quarantined(manager):
    commit(manager, {2018: 3})
    layout = manager.layout
    assert list(repair_history(manager, manager.load_manifest())) == []
    layout.history_file(1).write_bytes(b"{")
    shutil.copyfile(layout.history_file(3), layout.history_file(2))
    layout.history_file(3).write_bytes(b"{")  # the current one's, which is restored with it
    repairs = list(repair_history(manager, manager.load_manifest()))
    entries = kept(manager)
    assert repairs == [
        Saying(f"version {version} is lost", entry.path) for version, entry in zip((1, 2), entries, strict=True)
    ]
    assert [(entry.file, entry.reason) for entry in entries] == [
        ("00000001.json", Saying("manifest of version 1", "damaged")),
        ("00000002.json", Saying("manifest of version 2", "damaged")),
    ]
    assert manager.list_versions() == [3]


def test_without_a_current_version_every_damaged_manifest_is_quarantined(manager):
    manager.layout.history_file(2).write_bytes(b"{")
    assert len(list(repair_history(manager, None))) == 1
    assert manager.list_versions() == [1]


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def repair(manager: ManifestManager):
    return repair_files(manager, [manager.load_version(2), manager.load_version(1)])


def test_intact_files_are_left_alone(manager):
    assert repair(manager) == ([], {})
    assert kept(manager) == []


def test_an_object_comes_back_from_the_copy_in_daily(manager):
    path, daily = path_of(manager, 2019), manager.layout.daily_file(2019)
    replace(daily, path.read_bytes())
    good = spoil(path)
    restored, damaged = repair(manager)
    assert restored == [f"{path.name} is restored from {daily}"]
    assert damaged == {}
    assert path.read_bytes() == good
    assert path.stat().st_mode & 0o777 == 0o444
    (entry,) = kept(manager)
    assert (entry.file, entry.reason) == (path.name, f"its SHA-256 was not {only(manager.load_version(2)).checksum}")
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_a_missing_object_and_a_ledger_come_back_from_quarantine(manager):
    (file,) = manager.load_version(2).ledgers["corrections"]
    for path in (path_of(manager, 2018), manager.layout.resolve(file.path)):
        manager.layout.daily_file(2018).unlink(missing_ok=True)
        manager.quarantine.note("x", "a note, which has no file", "d")
        good = path.read_bytes()
        entry = manager.quarantine_data(path, "taken away")
        assert repair(manager) == ([f"{path.name} is restored from {entry / path.name}"], {})
        assert path.read_bytes() == good
        assert (entry / path.name).read_bytes() == good, "the entry stays"
        assert len([entry for entry in kept(manager) if entry.file]) == (2 if path.parent.name == "ledgers" else 1)


def test_a_copy_that_is_damaged_itself_is_no_source(manager):
    path = path_of(manager, 2018)
    manager.layout.daily_file(2018).unlink()
    entry = manager.quarantine_data(path, "taken away")
    spoil(entry / path.name)
    restored, damaged = repair(manager)
    assert restored == []
    assert damaged == {only(manager.load_version(2), 2018).path: (only(manager.load_version(2), 2018), [2])}
    assert not path.exists()


def test_what_cannot_be_repaired_is_named_with_the_versions_that_need_it_newest_first(manager):
    third = commit(manager, {2018: 5})
    path = path_of(manager, 2019)
    spoil(path)  # and its link in daily/ with it
    restored, damaged = repair_files(manager, [third, *map(manager.load_version, (2, 1))])
    assert restored == []
    assert damaged == {only(third).path: (only(third), [3, 2])}
    assert kept(manager) == []
    assert path.exists()


def test_a_large_file_is_restored_whole(manager):
    """In pieces, of which the last is a short one."""
    content = os.urandom((1 << 20) + 5)
    stranger = manager.layout.objects / "2019-0123456789abcdef.parquet"
    stranger.write_bytes(content)
    big = only(manager.load_version(2)).model_copy(
        update={"path": manager.layout.relative(stranger), "checksum": sha256_of(stranger)}
    )
    manager.quarantine_data(stranger, "taken away")
    made = manager.load_version(2).model_copy(update={"partitions": (big,), "ledgers": {}})
    assert len(repair_files(manager, [made])[0]) == 1
    assert stranger.read_bytes() == content


def test_a_refusal_while_restoring_is_reported_in_our_words(manager):
    path, objects = path_of(manager, 2018), manager.layout.objects
    replace(manager.layout.daily_file(2018), path.read_bytes())
    objects.rename(objects.with_name("aside"))
    objects.write_bytes(b"a file is in the place of the folder")
    with pytest.raises(StorageError, match=f"restoring {path.name}; .*source.*untouched"):
        repair(manager)


# ── daily/ ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def daily(manager: ManifestManager) -> list[str]:
    return list(repair_daily(manager, manager.load_version(2)))


def test_links_that_are_right_are_left_alone(manager):
    assert daily(manager) == []
    path_of(manager, 2018).unlink()
    assert daily(manager) == [], "a missing object is another's matter"
    assert manager.layout.daily_file(2018).exists()


@pytest.mark.parametrize("put", ["nothing", "copy", "older version"])
def test_a_year_is_linked_again(manager, put):
    link = manager.layout.daily_file(2019)
    link.unlink()
    if put == "copy":
        shutil.copy2(path_of(manager, 2019), link)
    elif put == "older version":
        os.link(path_of(manager, 2019, 1), link)
    assert unlinked_years(manager.layout, manager.load_version(2)) == {2019}
    assert daily(manager) == [], "repair tells of it, which saw it before the lock's recovery"
    assert unlinked_years(manager.layout, manager.load_version(2)) == set()
    assert link.samefile(path_of(manager, 2019))
    assert kept(manager) == []
    assert sorted(path.name for path in link.parent.iterdir()) == ["2018.parquet", "2019.parquet"]


def test_a_stranger_in_daily_is_kept_aside(manager):
    link = manager.layout.daily_file(2019)
    replace(link, b"a stranger")
    repairs = daily(manager)
    (entry,) = kept(manager)
    assert repairs == [Saying("daily/2019.parquet", "not a committed file", entry.path)]
    assert link.samefile(path_of(manager, 2019))
    assert (entry.path / "2019.parquet").read_bytes() == b"a stranger"
    assert entry.reason == Saying("daily/", "no commit")


def test_files_of_no_year_of_the_version_are_kept_aside(manager):
    for name in ("2017.parquet", "notes.parquet"):
        (manager.layout.daily / name).write_bytes(b"of somebody")
    (manager.layout.daily / "readme.txt").write_bytes(b"of somebody")
    repairs = daily(manager)
    entries = kept(manager)
    assert repairs == [
        Saying(f"daily/{entry.file}", "not of version 2", entry.path)
        for entry in sorted(entries, key=lambda entry: entry.file or "")
    ]
    assert {entry.file: entry.reason for entry in entries} == {
        "2017.parquet": "version 2 has no such file",
        "notes.parquet": "version 2 has no such file",
    }


def test_a_damaged_object_is_not_linked(manager):
    link = manager.layout.daily_file(2019)
    link.unlink()
    spoil(path_of(manager, 2019))
    assert daily(manager) == []
    assert not link.exists()


def test_where_links_are_refused_a_copy_stays_and_a_missing_one_is_made(manager, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    link = manager.layout.daily_file(2019)
    link.unlink()
    shutil.copyfile(path_of(manager, 2019), link)
    assert daily(manager) == []
    assert link.read_bytes() == path_of(manager, 2019).read_bytes()
    link.unlink()
    assert daily(manager) == [], "it is no link"
    assert link.read_bytes() == path_of(manager, 2019).read_bytes()
    assert sorted(path.name for path in link.parent.iterdir()) == ["2018.parquet", "2019.parquet"]


def test_a_probe_that_was_left_by_a_crash_is_no_obstacle(manager):
    link = manager.layout.daily_file(2019)
    link.unlink()
    shutil.copy2(path_of(manager, 2019), link)
    (manager.layout.daily / ".probe.tmp").write_bytes(b"")
    assert daily(manager) == []
    assert link.samefile(path_of(manager, 2019))
    assert sorted(path.name for path in link.parent.iterdir()) == ["2018.parquet", "2019.parquet"]


# ── pins ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_record_of_a_pin_is_written_anew(manager):
    layout = manager.layout
    whole = Pin(name="whole", version=1, checksum="a" * 64, by="me", at=manager.clock())
    for pin in (whole, Pin(name="torn", version=2), Pin(name="lost", version=9)):
        write_pin(layout, pin)
    (layout.pins / "torn@00000002.json").write_bytes(b"{")
    assert list(repair_pins(manager)) == [Saying("pin torn", "written again")]
    repaired = Pin(name="torn", version=2, checksum=manager.load_version(2).checksum, at=manager.clock())
    assert read_pins(layout) == {"lost": Pin(name="lost", version=9), "torn": repaired, "whole": whole}
    assert list(repair_pins(manager)) == []
