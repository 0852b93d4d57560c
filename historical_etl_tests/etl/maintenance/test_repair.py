"""Repair: what is certain is repaired, the rest is named and can be fetched; nothing is deleted."""

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl.etl.maintenance import repair as repairing
from historical_etl.store.daily_folders import copies
from historical_etl.store.quarantine.entries import read_entries
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.etl.runs.test_damage import flip
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import SHORT, SYMBOLS, ScriptedFetcher, changing, daily_bytes, tree

ROWS = "SELECT * FROM daily_prices ORDER BY symbol, date"


def source() -> ScriptedFetcher:
    symbol, day = CORRECTED
    return ScriptedFetcher(SHORT, alter=changing(symbol, day, volume=4321.0))


def object_of(etl: HistoricalETL, year: int, version: int | None = None) -> Path:
    manifest = etl.manifest(version)
    partition = manifest.partition(year) if manifest else None
    assert partition is not None
    return etl.layout.resolve(partition.path)


def lose(etl: HistoricalETL, year: int) -> bytes:
    """Damage an object, and all copies that the fixture has of it; returns the damaged bytes."""
    for copy in copies(etl.layout, year):
        copy.unlink(missing_ok=True)
    damaged = flip(object_of(etl, year))
    etl.layout.daily_file(year).hardlink_to(object_of(etl, year))
    return damaged


def test_an_intact_store_is_left_alone(etl: HistoricalETL):
    before = {name: content for name, content in tree(etl.layout.root).items() if not name.endswith(".lock")}
    report = etl.repair()
    assert report.ok
    assert (report.mended, report.lost, report.to_fetch) == ((), (), ())
    assert {name: content for name, content in tree(etl.layout.root).items() if not name.endswith(".lock")} == before


def test_a_copy_without_links_is_linked_again(pristine: Path, root: Path):
    shutil.copytree(pristine, root)
    etl = opened(root)
    assert etl.layout.daily_file(2012).stat().st_nlink == 1
    assert etl.verify().ok
    report = etl.repair()
    assert any("linked" in line for line in report.mended)
    assert etl.layout.daily_file(2012).samefile(object_of(etl, 2012))
    assert etl.verify().findings == ()


def test_an_object_is_restored_from_its_copy_in_daily(etl: HistoricalETL):
    """As on a volume without hard links, or after a copy: there are two files with the same bytes."""
    true = etl.query_sql(ROWS)
    daily, wanted = etl.layout.daily_file(2012), object_of(etl, 2012)
    daily.unlink()
    shutil.copy2(wanted, daily)
    damaged = flip(wanted)
    report = etl.repair()
    assert report.ok, report
    assert any("restored" in line for line in report.mended)
    assert_frame_equal(etl.query_sql(ROWS), true)
    assert not os.access(wanted, os.W_OK) or os.geteuid() == 0
    assert damaged in [entry.content.read_bytes() for entry in read_entries(etl.layout) if entry.content]


def test_a_good_copy_in_daily_is_never_replaced_by_a_damaged_object(etl: HistoricalETL):
    daily, wanted = etl.layout.daily_file(2012), object_of(etl, 2012)
    good = daily.read_bytes()
    daily.unlink()
    daily.write_bytes(good)
    flip(wanted)
    opened(etl.layout.root).run_full_etl(SHORT.symbols, "2013-02-01", "2013-02-15")
    assert daily.read_bytes() == good
    assert etl.repair().ok


def test_an_object_is_restored_from_a_folder_that_daily_no_longer_shows(etl: HistoricalETL):
    """A copy of the store has files of its own there."""
    wanted = object_of(etl, 2012)
    good = wanted.read_bytes()
    assert any(not copy.samefile(wanted) for copy in copies(etl.layout, 2012))
    for path in (wanted, etl.layout.daily_file(2012)):
        path.unlink()
    report = etl.repair()
    assert report.ok, report
    assert wanted.read_bytes() == good
    assert etl.verify().findings == ()


def test_an_object_is_restored_from_quarantine(etl: HistoricalETL):
    wanted = object_of(etl, 2013)
    etl.layout.daily_file(2013).unlink()
    etl.manifests.quarantine_data(wanted, "moved away by mistake")
    report = etl.repair()
    assert report.ok
    assert any("restored" in line for line in report.mended)
    assert etl.verify().findings == ()


def test_what_is_lost_is_named_and_can_be_fetched(etl: HistoricalETL):
    true, undisturbed = etl.query_sql(ROWS), daily_bytes(etl)
    lose(etl, 2012)
    (lost,) = etl.repair().to_fetch
    assert (lost.year, lost.symbols) == (2012, tuple(sorted(SYMBOLS)))
    assert lost.older == 2, "an older version has that year"
    assert not etl.verify().ok

    report = opened(etl.layout.root, source()).repair(refetch=True)
    assert report.ok, report
    assert report.fetched == (2012,)
    assert_frame_equal(etl.query_sql(ROWS), true)
    assert daily_bytes(etl) == undisturbed


def test_a_source_that_lacks_some_of_it_replaces_nothing(etl: HistoricalETL):
    damaged = lose(etl, 2012)
    poor = ScriptedFetcher(SHORT, alter=lambda bars: bars.filter(bars["symbol"] != "GONE"))
    report = opened(etl.layout.root, poor).repair(refetch=True)
    assert not report.ok
    assert [year.year for year in report.to_fetch] == [2012]
    assert any("could not be fetched" in line for line in report.lost)
    assert object_of(etl, 2012).read_bytes() == damaged


def test_the_current_manifest_comes_from_the_history(etl: HistoricalETL):
    good = etl.layout.manifest_file().read_bytes()
    for damage in (b"", b"{", good.replace(b"2012", b"2013", 1)):
        etl.layout.manifest_file().write_bytes(damage)
        report = etl.repair()
        assert report.ok
        assert any("manifest is restored" in line for line in report.mended)
        assert etl.layout.manifest_file().read_bytes() == good


def test_files_of_a_version_whose_manifests_are_both_lost_are_quarantined(etl: HistoricalETL):
    """Version 2 stands again; what only version 3 named may be needed by somebody, and is not deleted."""
    only = object_of(etl, 2012)
    content = only.read_bytes()
    for path in (etl.layout.manifest_file(), etl.layout.history_file(3)):
        path.write_bytes(b"garbage")
    report = etl.repair()
    assert report.version == 2
    assert not only.exists()
    kept = [entry.content.read_bytes() for entry in read_entries(etl.layout) if entry.content]
    assert kept.count(content) == 1, "its link in daily/ is no other file"


def test_an_older_version_that_lacks_a_year_is_not_offered_any_more(etl: HistoricalETL):
    flip(object_of(etl, 2012, version=1))  # versions 1 and 2 have this file, 3 has another
    etl.pin("paper", 2)
    report = etl.repair()
    assert etl.manifests.list_versions() == [2, 3]
    assert any("version 1 lacks 2012" in line for line in report.lost)
    assert any("paper pins it" in line for line in report.lost)
    etl.unpin("paper")
    assert etl.repair().ok
    assert etl.manifests.list_versions() == [3]
    assert etl.verify().ok


def test_a_damaged_old_manifest_does_not_stop_vacuuming(etl: HistoricalETL):
    etl.layout.history_file(1).write_bytes(b"garbage")
    report = etl.repair()
    assert report.ok
    assert any("version 1 is lost" in line for line in report.lost)
    assert etl.vacuum(keep_versions=1, keep_days=0).removed == (2,)


def test_ledgers_that_follow_from_the_data_are_rebuilt(etl: HistoricalETL):
    completeness, actions = etl.completeness(), etl.ledger("actions")
    manifest = etl.manifest()
    assert manifest is not None
    for name in ("symbols", "actions"):
        flip(etl.layout.resolve(manifest.ledgers[name][0].path), 100)
    flip(etl.layout.resolve(manifest.ledgers["runs"][0].path), 100)
    report = opened(etl.layout.root).repair()
    assert report.ok, report
    assert Saying("ledger runs", "lost") in report.lost
    repaired = opened(etl.layout.root)
    assert repaired.completeness().cursors() == completeness.cursors()
    assert_frame_equal(repaired.ledger("actions"), actions)
    current_manifest = repaired.manifest()
    assert current_manifest is not None
    assert (current_manifest.version, current_manifest.checksum) == (4, manifest.checksum)
    run = repaired.ledger("runs").sort("version").row(-1, named=True)
    assert (run["command"], run["version"], run["writer"]) == ("repair", 4, repaired.store.context.writer_id)
    assert run["message"] == "ledgers repaired: actions, runs, symbols"


def test_progress_is_rebuilt_and_what_it_was_is_kept(etl: HistoricalETL):
    cursors = etl.cursors()
    progress = etl.progress()
    assert progress is not None
    path = etl.layout.progress_file()
    wrong = progress.model_copy(update={"symbol_last_dates": {"BRK.B": date(2013, 1, 3)}}).model_dump_json().encode()
    path.write_bytes(wrong)
    assert etl.repair().ok
    repaired = etl.progress()
    assert repaired is not None
    assert repaired.symbol_last_dates == cursors
    assert wrong in [entry.content.read_bytes() for entry in read_entries(etl.layout) if entry.content]


def test_a_stranger_in_daily_goes_to_quarantine(etl: HistoricalETL):
    for name in ("1999.parquet", "notes.parquet"):
        (etl.layout.daily / name).write_bytes(b"not of this store")
    etl.layout.daily_file(2013).unlink()
    etl.layout.daily_file(2013).write_bytes(b"edited")
    assert etl.repair().ok
    assert {path.name for path in etl.layout.daily.iterdir()} == {"2012.parquet", "2013.parquet"}
    kept = [entry.content.read_bytes() for entry in read_entries(etl.layout) if entry.content]
    assert kept.count(b"not of this store") == 2
    assert b"edited" in kept


def test_a_place_without_a_store_is_not_repaired(root: Path):
    with pytest.raises(ConfigurationError, match="Nothing was committed yet"):
        opened(root).repair()
    assert not root.exists()


def test_a_year_that_rots_while_the_store_is_repaired_is_reported(etl: HistoricalETL, monkeypatch: pytest.MonkeyPatch):
    """Once all years were sound, a cursor is read from one that is so no more."""
    etl.layout.progress_file().unlink()
    true = repairing.rebuild_completeness

    def rot(*arguments: Any) -> Any:
        monkeypatch.setattr(repairing, "rebuild_completeness", true)
        flip(object_of(etl, 2012))
        return true(*arguments)

    monkeypatch.setattr(repairing, "rebuild_completeness", rot)
    report = etl.repair()
    assert Saying("progress is not rebuilt", "2012") in report.lost, report
    assert not report.ok
