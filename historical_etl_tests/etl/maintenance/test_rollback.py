"""Versions listed, kept under a name, compared, brought back and dropped."""

from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ChecksumMismatchError, ConfigurationError, HistoricalETL
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.etl.runs.test_damage import flip
from historical_etl_tests.scenario import KEYS, SHORT, daily_bytes, tree


def test_the_list_says_when_who_and_what(etl: HistoricalETL):
    etl.pin("paper", 2)
    kept = etl.versions()
    assert kept["version"].to_list() == [1, 2, 3]
    assert kept["command"].to_list() == ["backfill"] * 3
    assert kept["years_changed"].to_list() == [[2012], [2013], [2012]]
    assert kept["corrections"].to_list() == [0, 0, 1]
    assert kept["symbols"].to_list() == [6, 6, 6]
    assert kept["rows"].to_list() == [etl.scan(version=n).collect().height for n in (1, 2, 3)]
    assert kept["pins"].to_list() == [[], ["paper"], []]
    assert kept["current"].to_list() == kept["in_catalog"].to_list() == [False, False, True]
    assert kept["committed_at"].is_sorted()
    assert (kept["size_bytes"] > 0).all()


def test_a_pinned_version_stays_until_it_is_unpinned(etl: HistoricalETL):
    everything = "SELECT * FROM daily_prices ORDER BY symbol, date"
    first = etl.query_sql(everything, version=1)  # whose lease ends with it
    pin = etl.pin("paper-2013", 1)
    assert (pin.version, pin.by) == (1, etl.store.context.writer_id)
    assert etl.pin("paper-2013", 1) == etl.pins()["paper-2013"]
    with pytest.raises(ConfigurationError, match="pins version 1 already"):
        etl.pin("paper-2013", 2)
    writer = opened(etl.layout.root, keep_versions=1, keep_days=0)
    writer.run_full_etl(SHORT.symbols, "2013-02-01", SHORT.last)
    writer.vacuum()  # the commit's own was before the catalog showed it
    assert writer.manifests.list_versions() == [1, 4]
    assert_frame_equal(writer.query_sql(everything, version="paper-2013"), first)
    assert writer.cite("paper-2013") == writer.cite(1)
    writer.unpin("paper-2013")
    report = writer.vacuum()
    assert report.removed == (1,), report
    with pytest.raises(ConfigurationError, match="no pin 'paper-2013'"):
        writer.unpin("paper-2013")


@pytest.mark.parametrize("name", ["", "7", "v7", "-x", ".x", "a/b", "..", "a b", "x" * 64, "é", "a\n", "a@b"])
def test_a_pin_needs_a_plain_name(etl: HistoricalETL, name: str):
    with pytest.raises(ConfigurationError, match="not a name for a pin"):
        etl.pin(name)
    assert etl.pins() == {}


def test_a_difference_names_every_bar(etl: HistoricalETL):
    (changed,) = etl.diff(2).to_dicts()
    assert (changed["symbol"], changed["date"], changed["change"]) == (*CORRECTED, "changed")
    assert changed["columns"] == ["volume"]
    assert changed["volume_new"] == 4321.0
    assert changed["volume_old"] == etl.scan(CORRECTED[0], CORRECTED[1], CORRECTED[1], version=2).collect()["volume"][0]
    assert changed["close_old"] == changed["close_new"]
    added = etl.diff(1, 2)
    assert_frame_equal(
        added.select(pl.col("date"), "symbol", pl.col("close_new").alias("close")),
        etl.scan(start="2013-01-01", version=2).select(*KEYS, "close").collect().sort(KEYS[::-1]).sort(KEYS),
        check_row_order=False,
    )
    assert set(added["change"]) == {"added"}
    assert added["close_old"].null_count() == added.height
    assert set(etl.diff(2, 1)["change"]) == {"removed"}
    assert etl.diff(2, 2).is_empty()
    assert etl.diff(2, 2).schema == added.schema


def test_a_rollback_brings_data_ledgers_and_cursors_back(etl: HistoricalETL):
    before, cursors = (
        etl.manifest(1),
        HistoricalETL.open(etl.layout.root, None).store.state.completeness_of(etl.manifest(1)).cursors(),
    )
    assert before is not None
    restored = etl.rollback(1, reason="the vendor was wrong")
    assert (restored.version, restored.checksum, restored.previous_checksum) == (4, before.checksum, etl.cite(3)[-64:])
    assert restored == etl.manifest()
    assert_frame_equal(etl.scan().collect(), etl.scan(version=1).collect())
    assert etl.cursors() == cursors
    progress = etl.progress()
    assert progress is not None
    assert progress.symbol_last_dates == cursors
    assert set(daily_bytes(etl)) == {"2012.parquet"}
    assert etl.catalog.shown_version() == 4
    for name in ("corrections", "additions", "symbols", "gaps"):
        assert_frame_equal(etl.ledger(name), etl.ledger(name, version=1))
    last = etl.ledger("runs").row(-1, named=True)
    assert (last["command"], last["version"], last["message"]) == (
        "rollback",
        4,
        "to version 1: the vendor was wrong",
    )
    assert etl.verify().findings == ()
    assert_frame_equal(etl.scan(version=3).collect().sort(KEYS), etl.scan(version=3).collect().sort(KEYS))
    assert etl.rollback(3).checksum == etl.cite(3)[-64:]


def test_after_a_rollback_everything_comes_again(etl: HistoricalETL):
    """What an interrupted run had done before does not count: those years are not as they were."""
    undisturbed = daily_bytes(etl)
    etl.rollback(1)
    etl.run_full_etl(SHORT.symbols, "2013-01-01", "2013-01-31")
    assert daily_bytes(etl)["2013.parquet"] == undisturbed["2013.parquet"]


def test_rolling_back_to_the_current_version_changes_nothing(etl: HistoricalETL):
    before = tree(etl.layout.manifests / "history")
    assert etl.rollback(3).version == 3
    etl.rollback(1)
    assert etl.rollback(1).version == 4
    assert set(tree(etl.layout.manifests / "history")) == {*before, "00000004.json"}


def test_a_rollback_that_was_broken_off_after_its_commit_is_finished(etl: HistoricalETL):
    etl.rollback(1)
    etl.layout.progress_file().unlink()  # as it is between the commit and the end
    assert etl.rollback(1).version == 4
    progress = etl.progress()
    assert progress is not None
    assert (progress.data_version, progress.symbol_last_dates) == (4, etl.cursors())
    assert etl.verify().findings == ()


def test_a_damaged_version_is_not_brought_back(etl: HistoricalETL):
    partition = etl.manifests.load_version(1).partition(2012)
    assert partition is not None
    flip(etl.layout.resolve(partition.path))
    manifest = etl.layout.manifest_file().read_bytes()
    with pytest.raises(ChecksumMismatchError, match="2012"):
        etl.rollback(1)
    assert etl.layout.manifest_file().read_bytes() == manifest
    assert etl.cursors()


def test_a_vacuum_says_before_it_removes(etl: HistoricalETL):
    before = tree(etl.layout.root / "historical")
    report = etl.vacuum(dry_run=True, keep_versions=1, keep_days=0)
    assert report.removed == (1, 2)
    assert tree(etl.layout.root / "historical") == before
    done = etl.vacuum(keep_versions=1, keep_days=0)
    assert done == report
    gone = {name: content for name, content in before.items() if name not in tree(etl.layout.root / "historical")}
    assert (done.files, done.size_bytes) == (len(gone), sum(map(len, gone.values())))
    assert etl.scan(start=date(2012, 1, 1)).collect().height
    assert etl.verify().findings == ()


def test_a_vacuum_puts_right_what_a_killed_writer_left(etl: HistoricalETL):
    """As every write does: a file that is half written, and daily/ without the last commit."""
    temp = etl.layout.objects / ".2013-0000000000000000.parquet.1.0123abcd.tmp"
    temp.write_bytes(b"half")
    etl.layout.daily_file(2013).unlink()
    etl.vacuum(dry_run=True)
    assert temp.exists()
    etl.vacuum()
    assert not temp.exists()
    assert etl.layout.daily_file(2013).stat().st_nlink == 2


def test_a_vacuum_keeps_what_the_catalog_shows(etl: HistoricalETL):
    etl.run_full_etl(SHORT.symbols, "2013-02-01", SHORT.last, resume=False)
    etl.catalog.publish(etl.manifests.load_version(2))
    report = etl.vacuum(keep_versions=1, keep_days=0)
    assert report.kept == {2: "shown by the catalog", 4: "the current version"}
