"""A damaged ledger: prices go on, what can be found out anew is, and the rest is said to be lost."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import CatalogError, ChecksumMismatchError, HistoricalETL
from historical_etl.store.ledger_schemas import LOGS, STATES
from historical_etl_tests.field.series import Series, adjusted, backfill, column, falling, walk
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    FIRST,
    INFO,
    LAST,
    ScriptedFetcher,
    ScriptedSource,
    changing,
    current_manifest,
    is_row,
    losing,
    store,
    stored,
)

#: A correction, a value that does not come again, a refused row and a hold: so these ledgers have something in them.
DAY = date(2013, 2, 14)
#: Of which nothing happens here.
EMPTY = {"aliases", "flagged_rows", "closed_holds", "closed_gaps", "restatements", "replaced_rows", "stale_bars"}
PRICES = ("open", "high", "low", "close", "adj_close")


@pytest.fixture
def etl(root, market) -> HistoricalETL:
    fetcher = ScriptedFetcher(market, alter=losing("HALT", date(2013, 2, 6)))
    store(root, fetcher, date(2013, 2, 13)).run_full_etl(market.symbols, FIRST, date(2013, 2, 13))
    in_pence = [pl.when(is_row("SPLT", DAY)).then(pl.col(name) * 100).otherwise(name).alias(name) for name in PRICES]
    corrected = changing("BRK.B", date(2013, 2, 12), volume=1.0)
    silent = changing("BRK.B", date(2013, 2, 11), open=None)
    refused = changing("RAWP", DAY, close=-1.0)
    lost = losing("HALT", date(2013, 2, 6))
    fetcher.alter = lambda bars: lost(refused(silent(corrected(bars.with_columns(in_pence)))))
    etl = store(root, fetcher, DAY)
    etl.run_incremental_etl()
    assert {*LOGS, *STATES} - EMPTY == set(current_manifest(etl).ledgers)
    return etl


def damaged(etl: HistoricalETL, name: str) -> Path:
    path = etl.layout.resolve(current_manifest(etl).ledgers[name][-1].path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return path


@pytest.mark.parametrize("name", sorted({*LOGS, *STATES} - EMPTY))
def test_no_damaged_ledger_keeps_prices_from_coming(etl, root, market, name):
    actions = etl.ledger("actions")
    assert actions.height, "the split of SPLT"
    damaged(etl, name)
    later = store(root, ScriptedFetcher(market), LAST)
    later.run_incremental_etl()
    assert_frame_equal(stored(later), market.expected(), check_exact=True)
    assert_frame_equal(later.ledger("actions"), actions)
    assert later.gaps().is_empty()
    assert later.cursors()["HALT"] == LAST


def test_what_is_damaged_is_said_where_it_is_asked_for(etl):
    damaged(etl, "corrections")
    with pytest.raises(ChecksumMismatchError, match="the ledger 'corrections'"):
        etl.ledger("corrections")


def test_without_the_ledger_of_symbols_nobody_is_taken_for_another_basis(root, market):
    """Two symbols, each on its own basis: which is whose is known to that ledger alone."""
    for symbol, basis in (("BRK.B", "raw"), ("HALT", "for splits")):
        source = ScriptedSource(market, info=replace(INFO, adjustment=basis))
        store(root, source, DAY).run_full_etl([symbol], FIRST, DAY)
    etl = store(root, source, LAST)
    assert set(etl.ledger("symbols")["adjustment"]) == {"raw", "for splits"}
    damaged(etl, "symbols")
    result = etl.run_incremental_etl(["HALT"])
    assert result.outcomes == {"HALT": "ok"}
    assert etl.cursors()["HALT"] == LAST


def test_who_takes_splits_out_of_its_prices_is_not_known_until_it_comes_again(root, market):
    """As traded, a price is null once the ledger that knew so was lost: never the stored one in its place."""
    source = ScriptedSource(market, info=replace(INFO, split_adjusted=True))
    etl = store(root, source, DAY)
    etl.run_full_etl(market.symbols, FIRST, DAY)
    assert etl.scan(adjust="none").collect()["close"].is_null().all()
    damaged(etl, "symbols")
    assert etl.repair().ok
    etl = store(root, source, DAY)
    assert etl.scan(adjust="none").collect()["close"].is_null().all()
    etl.run_incremental_etl()
    assert etl.scan(adjust="none").collect()["close"].is_null().all()


def test_queries_of_prices_do_not_need_a_ledger_that_is_lost(etl):
    """As it is with older versions once a repair has set a damaged file of theirs aside."""
    before, rows = etl.query_sql("FROM daily_prices ORDER BY ALL"), etl.ledger("runs")
    for file in current_manifest(etl).ledgers["runs"]:
        etl.layout.resolve(file.path).unlink()
    assert rows.height
    assert_frame_equal(etl.query_sql("FROM daily_prices ORDER BY ALL"), before)
    for sql in ("SELECT count(*) FROM runs", "FROM runs", "SELECT 1 WHERE EXISTS (FROM runs)"):
        with pytest.raises((CatalogError, ChecksumMismatchError), match=r"ledger file .*runs-.* is missing"):
            etl.query_sql(sql)


def test_named_events_that_are_lost_are_reported_and_a_rebuild_brings_them(root):
    """Of a source that takes splits out of its prices nothing else tells what was traded."""
    traded = falling(walk(80, 60.0), (50, 2.0, 0.0))
    prices = adjusted(traded, (50, 2.0, 0.0))
    source = Series(prices, prices, [(50, 2.0, 0.0)], split_adjusted=True)
    series, _ = backfill(root, source)
    before = column(series, "close", adjust="none")
    damaged(series, "actions")
    report = series.repair()
    (lost,) = report.lost
    assert lost == Saying("historical-etl backfill --rebuild --from 2023")
    series.run_full_etl(["ACME", "PLAIN"], date(2023, 1, 1), source.days[-1], rebuild=True)
    assert column(series, "close", adjust="none") == before
