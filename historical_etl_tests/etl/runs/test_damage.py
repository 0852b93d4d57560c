"""Files changed from outside: found before anything is built on them, kept as evidence, repaired by a rebuild."""

import json
import os
import shutil
from datetime import date

import polars as pl
import pytest

from historical_etl import ChecksumMismatchError
from historical_etl_tests.scenario import SYMBOLS, ScriptedFetcher, current_manifest, daily_bytes, store, tree

YEAR = date(2012, 1, 1), date(2012, 12, 31)


@pytest.fixture
def etl(root, market):
    etl = store(root, ScriptedFetcher(market))
    etl.run_full_etl(SYMBOLS, date(2011, 1, 1), date(2012, 12, 31))
    return etl


def object_of(etl, year: int):
    partition = current_manifest(etl).partition(year)
    assert partition is not None
    return etl.layout.resolve(partition.path)


def flip(path, at: int = 1000) -> bytes:
    """Change one byte of a read-only file, as a disk or an editor would."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)
    return bytes(data)


def test_checksum_mismatch_triggers_quarantine(etl):
    """A year that was edited is not built upon: a copy goes to quarantine, and the store stays as it was."""
    damaged = flip(object_of(etl, 2012))
    manifests = tree(etl.layout.manifests / "history")
    manifest = etl.layout.manifest_file().read_bytes()
    with pytest.raises(ChecksumMismatchError, match="2012") as caught:
        etl.run_full_etl(["BRK.B"], *YEAR)
    assert str(object_of(etl, 2012)) in str(caught.value)
    assert "historical-etl repair" in caught.value.todo

    (entry,) = etl.manifests.quarantine.entries()
    assert (entry / object_of(etl, 2012).name).read_bytes() == damaged
    reason = json.loads((entry / "reason.json").read_bytes())
    partition = current_manifest(etl).partition(2012)
    assert partition is not None
    assert partition.checksum in reason["reason"]
    assert etl.layout.manifest_file().read_bytes() == manifest
    assert tree(etl.layout.manifests / "history") == manifests
    assert object_of(etl, 2012).read_bytes() == damaged, "evidence is not removed from where it was"


def test_the_same_damage_found_again_makes_no_second_entry(etl):
    flip(object_of(etl, 2012))
    for _ in range(3):
        with pytest.raises(ChecksumMismatchError):
            etl.run_full_etl(["BRK.B"], *YEAR)
    assert len(etl.manifests.quarantine.entries()) == 1


def test_damage_in_one_year_does_not_block_another(etl):
    flip(object_of(etl, 2012))
    assert etl.run_full_etl(["BRK.B"], "2011-01-01", "2011-12-31").total_rows == 252


def test_a_rebuild_with_every_symbol_repairs_the_year(etl):
    good = daily_bytes(etl)
    flip(object_of(etl, 2012))
    etl.run_year(2012, SYMBOLS)
    assert daily_bytes(etl) == good
    assert etl.run_full_etl(["BRK.B"], *YEAR).changed is False


def test_a_rebuild_with_fewer_symbols_is_refused(etl):
    """It would lose the rows of the others, which are only in the damaged file."""
    flip(object_of(etl, 2012))
    with pytest.raises(ChecksumMismatchError):
        etl.run_year(2012, SYMBOLS[:-1])


@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()])
@pytest.mark.parametrize("lacking", [1, 0])
def test_a_year_is_rebuilt_only_from_every_bar_that_it_had(root, market, damage, lacking):
    """Later sessions that the source has, as an increment brings them, make up for none that it has no more."""
    gone = date(2012, 3, 1)

    def without(bars):
        return bars.filter(~((pl.col("symbol") == SYMBOLS[0]) & (pl.col("date") == gone)))

    store(root, ScriptedFetcher(market)).run_full_etl(SYMBOLS, "2012-01-01", "2012-06-29")
    etl = store(root, ScriptedFetcher(market, alter=without if lacking else None))
    damage(object_of(etl, 2012))
    if lacking:
        with pytest.raises(ChecksumMismatchError):
            etl.run_year(2012, SYMBOLS)
        assert current_manifest(etl).version == 1
        return
    done = etl.run_year(2012, SYMBOLS)
    assert any("2012" in warning and "rebuilt" in warning for warning in done.warnings)
    assert etl.scan(SYMBOLS[0], gone, gone).collect().height == 1


def test_a_missing_object_is_damage_and_a_rebuild_repairs_it(etl):
    good = daily_bytes(etl)
    object_of(etl, 2012).unlink()
    (etl.layout.daily / "2012.parquet").unlink()
    with pytest.raises(ChecksumMismatchError, match="is missing"):
        etl.run_full_etl(["BRK.B"], *YEAR)
    etl.run_year(2012, SYMBOLS)
    assert daily_bytes(etl) == good


def test_a_file_put_into_daily_from_outside_is_kept_aside_and_the_committed_one_returns(etl):
    good = daily_bytes(etl)
    daily = etl.layout.daily / "2012.parquet"
    daily.unlink()
    daily.write_bytes(b"from outside")
    etl.run_full_etl(["BRK.B"], "2011-01-01", "2011-12-31")
    assert daily_bytes(etl) == good
    (entry,) = etl.manifests.quarantine.entries()
    assert (entry / "2012.parquet").read_bytes() == b"from outside"


def test_a_file_missing_from_daily_returns_with_the_next_run(etl):
    good = daily_bytes(etl)
    (etl.layout.daily / "2011.parquet").unlink()
    etl.run_full_etl(["BRK.B"], *YEAR)
    assert daily_bytes(etl) == good


@pytest.mark.parametrize("with_its_time", [True, False])
def test_daily_files_that_are_copies_are_not_taken_for_strangers(etl, with_its_time):
    """As on a volume without hard links, or from a backup. One with the object's time is even left where it is."""
    daily, good = etl.layout.daily / "2012.parquet", daily_bytes(etl)
    daily.unlink()
    (shutil.copy2 if with_its_time else shutil.copyfile)(object_of(etl, 2012), daily)
    if not with_its_time:
        os.utime(daily, (0, 0))
    inode = daily.stat().st_ino
    etl.run_full_etl(["BRK.B"], *YEAR)
    assert (daily.stat().st_ino == inode) is with_its_time
    assert daily_bytes(etl) == good
    assert etl.manifests.quarantine.entries() == []
