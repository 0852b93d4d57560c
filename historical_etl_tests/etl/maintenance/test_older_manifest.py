"""An older file in the place of the current manifest: what was acknowledged stays, and no number names two versions."""

from collections.abc import Callable

import pytest

from historical_etl import HistoricalETL
from historical_etl.store.quarantine.entries import read_entries
from historical_etl_tests.etl.conftest import opened
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, daily_bytes

WORDS = "the current manifest is version {}, though {} was committed: an older file was put in its place"


def put_back(etl: HistoricalETL, version: int) -> None:
    """One file of a backup, put in the place of the current manifest."""
    etl.layout.manifest_file().write_bytes(etl.layout.history_file(version).read_bytes())


def only_progress(etl: HistoricalETL) -> None:
    etl.layout.lock_file().unlink()
    etl.layout.catalog_pointer().unlink()
    etl.layout.daily.unlink()


def only_the_catalog(etl: HistoricalETL) -> None:
    etl.layout.lock_file().write_bytes(b"{")
    etl.layout.progress_file().write_bytes(b"{")
    etl.layout.daily.unlink()


def only_the_lock(etl: HistoricalETL) -> None:
    etl.layout.progress_file().unlink()
    etl.layout.catalog_pointer().unlink()
    etl.layout.daily.unlink()


def no_witness(etl: HistoricalETL) -> None:
    etl.layout.lock_file().unlink()
    only_the_lock(etl)


def only_daily(etl: HistoricalETL) -> None:
    etl.layout.lock_file().unlink()
    etl.layout.progress_file().unlink()
    etl.layout.catalog_pointer().write_bytes(b"{")


def errors(etl: HistoricalETL) -> dict[str, str]:
    return {finding.field: finding.message for finding in etl.verify().findings if finding.severity == "error"}


@pytest.mark.parametrize("left", [only_progress, only_the_catalog, only_daily, only_the_lock])
@pytest.mark.parametrize("put", [1, 2])
def test_what_proves_a_committed_version_brings_it_back(
    etl: HistoricalETL, put: int, left: Callable[[HistoricalETL], None]
):
    newest, shown = current_manifest(etl), daily_bytes(etl)
    put_back(etl, put)
    left(etl)
    assert errors(etl)["historical_daily.json"] == WORDS.format(put, 3)
    report = etl.repair()
    assert report.ok, report
    assert any(WORDS.format(put, 3)[24:46] in line for line in report.mended), report.mended
    assert Saying("current manifest is restored", "version 3") in report.mended
    assert current_manifest(etl) == newest
    assert daily_bytes(etl) == shown
    (entry,) = [entry for entry in read_entries(etl.layout) if entry.file == "historical_daily.json"]
    assert entry.content is not None
    assert entry.content.read_bytes() == etl.layout.history_file(put).read_bytes()


def test_the_next_write_brings_it_back_too_and_takes_a_number_of_its_own(
    etl: HistoricalETL, caplog: pytest.LogCaptureFixture
):
    newest = current_manifest(etl)
    put_back(etl, 2)
    made = etl.rollback(1)
    assert "restored from version 3" in caplog.text
    assert (made.version, made.previous_checksum) == (4, newest.checksum)
    assert etl.manifest(3) == newest
    assert errors(etl) == {}


def test_without_a_witness_all_but_the_last_that_was_left_behind_were_committed(etl: HistoricalETL):
    """A commit that is broken off leaves one manifest; two of them are none that was broken off."""
    no_witness(etl)
    put_back(etl, 1)
    assert errors(etl)["historical_daily.json"] == WORDS.format(1, 2)
    etl.repair()
    assert current_manifest(etl).version == 2
    assert any(entry.file == "00000003.json" for entry in read_entries(etl.layout)), "whatever it was, it is kept"


def test_one_manifest_without_a_witness_is_a_commit_that_was_broken_off(etl: HistoricalETL):
    no_witness(etl)
    put_back(etl, 2)
    assert errors(etl) == {}
    etl.publish_catalog()
    assert (current_manifest(etl).version, etl.manifests.list_versions()) == (2, [1, 2])
    assert read_entries(etl.layout) == []
    assert etl.rollback(1).version == 3, "nobody ever heard of that version"


@pytest.mark.parametrize("how", ["damaged", "removed"])
@pytest.mark.parametrize("repaired", [True, False])
def test_the_number_of_a_version_that_is_lost_is_not_used_again(etl: HistoricalETL, how: str, repaired: bool):
    """Both its manifests are lost, so that an older version stands; later nothing but the lock's record tells of it."""
    for path in (etl.layout.manifest_file(), etl.layout.history_file(3)):
        path.unlink() if how == "removed" else path.write_bytes(b"x")
    if repaired:
        assert etl.repair().version == 2
        etl.publish_catalog()
    assert opened(etl.layout.root).rollback(1).version == 4
    assert etl.manifests.list_versions()[-2:] == [2, 4]


def test_a_catalog_of_another_store_and_a_link_to_nowhere_are_no_witnesses(etl: HistoricalETL, pristine):
    pointer = opened(pristine).layout.catalog_pointer()
    etl.layout.catalog_pointer().write_bytes(pointer.read_bytes())
    etl.layout.progress_file().unlink()
    etl.layout.lock_file().unlink()
    etl.layout.daily.unlink()
    etl.layout.daily.symlink_to(".daily/00000099")
    put_back(etl, 2)
    assert "historical_daily.json" not in errors(etl)
    assert etl.rollback(1).version == 3


def test_a_newest_version_that_lacks_a_file_gives_way_to_the_one_before_it(etl: HistoricalETL):
    lost = etl.layout.resolve(next(p.path for p in current_manifest(etl).partitions if p.year == 2012))
    lost.unlink()
    put_back(etl, 1)
    assert etl.repair().version == 2
    assert opened(etl.layout.root).rollback(1).version == 4
