"""Alpaca and tickers that change hands: each bar under the ticker of its day, one history of a company in a store."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
import requests
from polars.testing import assert_frame_equal

from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.scenario import KEYS, sessions, store
from historical_etl_tests.sources.vendors.loopback import KEY, SECRET, Clockwork, Loopback, Truth
from historical_etl_tests.sources.vendors.truth import Spell
from historical_etl_tests.sources.vendors.whole_store import truth_of

FIRST, LAST = date(2020, 1, 2), date(2024, 6, 28)
FACEBOOK_IS_META, HEALTHPEAK_IS_DOC = date(2022, 6, 9), date(2024, 3, 4)
SPELLS = (
    Spell("FB", "FACEBOOK", FIRST, date(2022, 6, 8)),
    Spell("META", "FACEBOOK", FACEBOOK_IS_META),
    Spell("META", "FUND", date(2021, 6, 30), date(2022, 1, 28)),
    Spell("PEAK", "HEALTHPEAK", FIRST, date(2024, 3, 1)),
    Spell("DOC", "HEALTHPEAK", HEALTHPEAK_IS_DOC),
    Spell("DOC", "PHYSICIANS", FIRST, date(2024, 3, 1)),
    Spell("S", "SPRINT", FIRST, date(2020, 3, 31)),
    Spell("S", "SENTINEL", date(2021, 6, 30)),
)
TICKERS = ("DOC", "FB", "META", "PEAK", "S")


def companies() -> Truth:
    """Bars under the names of companies."""
    listings = tuple(
        SimListing(
            company,
            first=max(min(s.first for s in SPELLS if s.company == company), FIRST),
            last=min(max(s.last for s in SPELLS if s.company == company), LAST),
        )
        for company in sorted({spell.company for spell in SPELLS})
    )
    bars = truth_of(SimMarket(seed=11, symbols=listings, first=FIRST, last=LAST)).adjusted().bars
    scale = pl.col("symbol").replace_strict({"FUND": 0.1, "SENTINEL": 6.0}, default=1.0)
    return Truth(bars.with_columns(pl.col("open", "high", "low", "close", "adj_close") * scale))


COMPANIES = companies()


def ticker_of_the_day() -> pl.Expr:
    name = pl.col("symbol")
    for spell in SPELLS:
        is_it = (pl.col("symbol") == spell.company) & pl.col("date").is_between(spell.first, spell.last)
        name = pl.when(is_it).then(pl.lit(spell.ticker)).otherwise(name)
    return name.alias("symbol")


TRUTH = Truth(COMPANIES.bars.with_columns(ticker_of_the_day()), spells=SPELLS)


def bars_of(company: str, first: date = FIRST, last: date = LAST) -> pl.DataFrame:
    mine = COMPANIES.bars.filter(pl.col("symbol") == company, pl.col("date").is_between(first, last))
    return mine.select("date", "close", "adj_close").sort("date")


@pytest.mark.parametrize(
    ("ticker", "asof", "company", "first"),
    [
        ("META", "", "FACEBOOK", FIRST),
        ("META", "2022-06-08", "FUND", date(2021, 6, 30)),
        ("FB", "2022-06-08", "FACEBOOK", FIRST),
        ("DOC", "", "HEALTHPEAK", FIRST),
        ("DOC", "2024-03-01", "PHYSICIANS", FIRST),
        ("S", "", "SENTINEL", date(2021, 6, 30)),
    ],
)
def test_the_server_follows_names_as_alpaca_says_that_it_does(ticker, asof, company, first, serve):
    """By the names of today META and FB both have Facebook's past, and nobody has those of Sprint and Physicians."""
    server = serve(TRUTH, now=datetime(2024, 6, 28, 23, tzinfo=UTC))
    query: dict[str, Any] = {"symbols": ticker, "timeframe": "1Day", "start": str(FIRST), "end": "2024-06-29"}
    keys = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
    asked = query | {"limit": "10000"} | ({"asof": asof} if asof else {})
    found = requests.get(f"{server.url}/v2/stocks/bars", params=asked, headers=keys, timeout=30).json()["bars"][ticker]
    if company == "FUND":  # nobody is known by the name on that day: the bars that bear it
        assert [bar["c"] for bar in found][: len(bars_of("FUND"))] == bars_of("FUND")["close"].to_list()
        return
    assert [bar["c"] for bar in found] == bars_of(company)["close"].to_list()
    assert found[0]["t"][:10] == str(max(first, sessions(first, LAST)[0]))


def test_each_bar_comes_once_under_the_ticker_of_its_day(serve, ask):
    until = date(2024, 5, 31)  # the day on which these tests ask is in June
    result = ask(serve(TRUTH), "alpaca", TICKERS, FIRST, until)
    assert_frame_equal(result.frame, TRUTH.expected("alpaca", TICKERS, FIRST, until), check_exact=True)


def evening(root, server: Loopback, day: date):
    server.now = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
    server.truth = Truth(TRUTH.bars.filter(pl.col("date") <= day), spells=SPELLS)
    source = server.source("alpaca", state_folder=root / "state", pace=Clockwork(server.now).pace)
    return store(root / "data", source, day)


def stored_of(etl, symbol: str) -> pl.DataFrame:
    return etl.scan(symbol).collect().sort(KEYS).select("date", "close", "adj_close")


def test_facebook_is_one_history_without_the_fund_that_was_called_meta(root, serve):
    server, start = serve(TRUTH), date(2021, 3, 1)
    etl = evening(root, server, date(2022, 6, 8))
    etl.run_full_etl(["FB"], start, date(2022, 6, 8))
    etl.rename("FB", "META", FACEBOOK_IS_META)
    etl = evening(root, server, date(2022, 6, 24))
    result = etl.run_incremental_etl()
    assert result.complete, result.details
    assert_frame_equal(stored_of(etl, "META"), bars_of("FACEBOOK", start, date(2022, 6, 24)))
    etl.run_full_etl(["META"], start, date(2022, 6, 24), resume=False)
    assert etl.holds().is_empty()
    assert_frame_equal(stored_of(etl, "META"), bars_of("FACEBOOK", start, date(2022, 6, 24)))
    assert etl.scan().collect()["symbol"].unique().to_list() == ["META"]


def test_facebook_s_past_comes_to_a_store_that_knows_the_rename_first(root, serve):
    server, start = serve(TRUTH), date(2021, 3, 1)
    etl = evening(root, server, date(2022, 8, 1))
    etl.run_full_etl(["META"], FACEBOOK_IS_META, date(2022, 8, 1))
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nFB,META,2022-06-09\n")
    assert etl.rename_from(table).changed
    etl.run_full_etl(["META"], start, date(2022, 8, 1), resume=False)
    assert etl.holds().is_empty()
    assert_frame_equal(stored_of(etl, "META"), bars_of("FACEBOOK", start, date(2022, 8, 1)))


def test_healthpeak_takes_the_ticker_of_physicians_and_nothing_of_either_is_lost(root, serve):
    server, start = serve(TRUTH), date(2023, 10, 2)
    etl = evening(root, server, date(2024, 3, 1))
    etl.run_full_etl(["DOC", "PEAK"], start, date(2024, 3, 1))
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nDOC,DOC.OLD,2024-03-04\nPEAK,DOC,2024-03-04\n")
    assert etl.rename_from(table).changed
    etl = evening(root, server, date(2024, 3, 28))
    etl.run_incremental_etl()
    etl.run_full_etl(["DOC", "DOC.OLD"], start, date(2024, 3, 28), resume=False)
    assert etl.holds().is_empty()
    assert_frame_equal(stored_of(etl, "DOC"), bars_of("HEALTHPEAK", start, date(2024, 3, 28)))
    assert_frame_equal(stored_of(etl, "DOC.OLD"), bars_of("PHYSICIANS", start, date(2024, 3, 28)))


def test_sprint_s_bars_are_had_and_sentinelone_is_not_taken_for_it(root, serve):
    server = serve(TRUTH)
    etl = evening(root, server, LAST)
    etl.run_full_etl(["S"], FIRST, LAST)
    assert etl.holds()["code"].to_list() == ["break_after_gap"]
    etl.split("S", on=date(2021, 6, 30), reason="Sprint was called so before", by="anna", as_="SPRINT")
    etl.run_incremental_etl()
    etl.run_full_etl(["S", "SPRINT"], FIRST, LAST)
    assert etl.holds().is_empty()
    assert_frame_equal(stored_of(etl, "S"), bars_of("SENTINEL"))
    assert_frame_equal(stored_of(etl, "SPRINT"), bars_of("SPRINT"))
