"""The fetch plan: each symbol's whole range once, staged, however many years it spans."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from types import MappingProxyType

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import FetchRequest, Outcome, RateLimitedError
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import Capabilities
from historical_etl.store.ledgers import read_ledger
from historical_etl_tests.scenario import (
    FIRST,
    INFO,
    LAST,
    SYMBOLS,
    ScriptedSource,
    current_manifest,
    daily_bytes,
    store,
    stored,
)

BY_SYMBOL = replace(INFO, capabilities=Capabilities())


class Counting(ScriptedSource):
    """One that stops at a limit after some requests, and counts what it was asked."""

    stops_after = 10_000
    unreadable: Mapping[str, date] = MappingProxyType({})

    def fetch(self, request: FetchRequest):
        if len(self.asked) >= self.stops_after:
            raise RateLimitedError("50 requests an hour are used up", todo="go on at 15:00")
        answer = super().fetch(request)
        odd = [(s, day) for s, day in self.unreadable.items() if s in request.symbols]
        if not odd:
            return answer
        rows = [{"symbol": s, "date": day, "reasons": ["unreadable_close"]} for s, day in odd]
        rejected = pl.DataFrame(rows, schema={**SCHEMA, "reasons": pl.List(pl.String)})
        return replace(answer, rejected=rejected, notes=tuple(f"{s} was refused" for s, _ in odd))

    @property
    def requests(self) -> int:
        return len(self.asked)

    def by_symbol(self) -> Counter[str]:
        return Counter(symbol for request in self.asked for symbol in request.symbols)


@pytest.fixture
def source(market):
    return Counting(market, info=BY_SYMBOL)


def test_a_backfill_asks_once_for_each_symbol(root, market, source):
    etl = store(root, source, fetch_workers=3)
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert source.by_symbol() == dict.fromkeys(SYMBOLS, 1)
    assert result.requests == len(SYMBOLS)
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)
    assert not any(etl.layout.staging.glob("*"))
    year_by_year = store(root / "other", ScriptedSource(market))
    year_by_year.run_full_etl(SYMBOLS, FIRST, LAST)
    assert daily_bytes(etl) == daily_bytes(year_by_year)


def test_at_a_limit_it_pauses_and_goes_on_with_what_is_missing(root, market, source):
    source.stops_after = 2
    etl = store(root, source, fetch_workers=1)
    with pytest.raises(RateLimitedError, match="used up"):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    progress = etl.progress()
    assert progress is not None
    assert progress.status == "paused"
    assert etl.manifest() is None
    source.stops_after = 10_000
    store(root, source, fetch_workers=1).run_full_etl(SYMBOLS, FIRST, LAST)
    assert source.by_symbol() == dict.fromkeys(SYMBOLS, 1), "nothing that was staged is asked for again"
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)


def test_a_symbol_that_failed_stays_out_and_is_asked_for_again(root, market, source):
    source.outcomes = {"HALT": Outcome.ERROR}
    etl = store(root, source)
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert result.outcomes["HALT"] is Outcome.ERROR
    assert result.symbols_processed == len(SYMBOLS) - 1
    source.outcomes = {}
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert source.by_symbol() == dict.fromkeys(SYMBOLS, 1) | {"HALT": 2}
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)


def test_what_was_fetched_of_a_symbol_that_failed_is_kept_aside(root, market, source):
    source.outcomes = {"HALT": Outcome.ERROR}
    source.unreadable = {"HALT": LAST}
    etl = store(root, source)
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert result.rejected_by_reason == {"unreadable_close": 1}
    kept = read_ledger(etl.layout, current_manifest(etl), "rejected_rows")
    assert kept.select("symbol", "date", "reasons").rows() == [("HALT", LAST, ["unreadable_close"])]
    assert result.notes == ("HALT was refused",)


def test_a_staged_file_that_was_changed_is_fetched_again(root, market, source):
    source.stops_after = 3
    etl = store(root, source, fetch_workers=1)
    with pytest.raises(RateLimitedError):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    next(iter(sorted(etl.layout.staging.glob("*/*.parquet")))).write_bytes(b"PAR1 not any more PAR1")
    source.stops_after = 10_000
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert sum(source.by_symbol().values()) == len(SYMBOLS) + 1
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)


def test_single_years_of_one_run_share_one_fetch(root, market, source):
    """As Dagster's range run does it."""
    etl = store(root, source)
    with etl.prefetched([2010, 2011, 2012, 2013, 1850], SYMBOLS) as fetched:
        for year in (2010, 2011, 2012, 2013):
            fetched.run_year(year, SYMBOLS, publish=False)
    assert source.by_symbol() == dict.fromkeys(SYMBOLS, 1)
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)
    assert not any(etl.layout.staging.glob("*"))
