"""Which sessions are expected, by exchange and by universe; and what a quiet day reads and writes."""

import shutil
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from historical_etl import get_calendar
from historical_etl.sources.base import FetchResult, SourceInfo
from historical_etl_tests.scenario import (
    COLUMNS,
    FIRST,
    Market,
    ScriptedFetcher,
    ScriptedSource,
    current_manifest,
    store,
    tree,
)


class OnEveryOpenDay:
    """A plain fetcher that knows the sessions of its exchange, and lost some."""

    def __init__(self, exchange: str, lost: dict[str, set[date]]) -> None:
        self.calendar = get_calendar(exchange)
        self.lost = lost

    def get_daily_prices(self, symbols, start_date, end_date):
        rows = [
            {"date": day, "symbol": symbol, "close": 100.0 + day.day / 8, "volume": 1.0}
            for symbol in symbols
            for day in self.calendar.between(start_date, end_date)
            if day not in self.lost.get(symbol, set())
        ]
        return pl.DataFrame(rows, schema=COLUMNS)


@pytest.mark.parametrize(
    ("exchange", "lost", "open_days", "closed"),
    [
        # A half-day before Christmas counts; Boxing Day does not.
        ("XLON", date(2012, 12, 24), {date(2012, 12, 27), date(2013, 1, 2)}, {date(2012, 12, 26), date(2013, 1, 1)}),
        # The first sessions of a year in Tokyo: 4 January.
        ("XTKS", date(2013, 1, 4), {date(2012, 12, 28), date(2013, 1, 7)}, {date(2013, 1, 2), date(2013, 1, 3)}),
        # Crypto has no holidays.
        ("24/7", date(2012, 12, 25), {date(2012, 12, 26), date(2013, 1, 1)}, set()),
    ],
)
def test_gaps_follow_the_exchange(root, exchange, lost, open_days, closed):
    fetcher = OnEveryOpenDay(exchange, {"AAA": {lost}})
    evening = datetime(2013, 1, 8, 23, tzinfo=UTC)
    etl = store(root, fetcher, exchange=exchange, clock=lambda: evening)
    etl.run_full_etl(["AAA", "BBB"], date(2012, 12, 20), date(2013, 1, 8))
    gap = etl.gaps().row(0, named=True)
    assert etl.gaps().height == 1
    assert (gap["symbol"], gap["first_session"], gap["last_session"]) == ("AAA", lost, lost)
    stored = set(etl.scan("BBB").collect()["date"])
    assert open_days <= stored
    assert not closed & stored
    assert etl.cursors()["AAA"] == etl.calendar.back(lost, 1)
    fetcher.lost = {}
    etl = store(root, fetcher, exchange=exchange, clock=lambda: evening + timedelta(days=1))
    etl.run_incremental_etl()
    assert etl.gaps().is_empty()
    assert etl.cursors()["AAA"] == etl.calendar.last_closed(evening + timedelta(days=1), timedelta(hours=1))


class IndexOf(ScriptedSource):
    """A source whose universe says since when its symbols are members."""

    def member_since(self, symbols):
        return dict.fromkeys(symbols, date(2010, 1, 1))


def test_a_member_without_bars_is_a_gap_and_a_later_listing_is_not(root, market):
    """IPOX has its first bar in May 2012: a universe that has it since 2010 expects it since then."""
    without = store(root / "plain", ScriptedSource(market))
    without.run_full_etl(["IPOX", "BRK.B"], FIRST, date(2012, 12, 31))
    assert without.gaps(all=True).is_empty()
    etl = store(root / "index", IndexOf(market))
    etl.run_full_etl(["IPOX", "BRK.B"], date(2012, 1, 1), date(2012, 12, 31))
    gap = etl.gaps().row(0, named=True)
    assert (gap["symbol"], gap["first_session"], gap["last_session"]) == ("IPOX", date(2012, 1, 3), date(2012, 5, 17))
    assert etl.cursors()["IPOX"] == date(2012, 12, 31), "what lies before the first bar does not hold the cursor"


def test_a_quiet_day_reads_and_writes_the_running_year_only(root, market):
    """The files of all other years are not there any more, and it does not notice."""
    etl = store(root, ScriptedFetcher(market), date(2013, 2, 14))
    live = [symbol for symbol in market.symbols if symbol != "GONE"]
    etl.run_full_etl(live, FIRST, date(2013, 2, 14))
    aside = root / "aside"
    aside.mkdir()
    for partition in current_manifest(etl).partitions:
        if partition.year != 2013:
            shutil.copy2(etl.layout.resolve(partition.path), aside)
            etl.layout.resolve(partition.path).chmod(0o600)
            etl.layout.resolve(partition.path).write_bytes(b"not read")
    before = tree(root / "historical" / "objects")
    result = store(root, ScriptedFetcher(market), date(2013, 2, 15)).run_incremental_etl()
    assert result.years_written == (2013,)
    assert result.outcomes["BRK.B"] == "ok"
    after = tree(root / "historical" / "objects")
    assert {name for name in after if after[name] != before.get(name)} == {
        name for name in after if name.startswith("2013-") and name not in before
    }


def test_the_source_may_name_actions_and_they_are_stored_as_named(root, market):
    class Naming(ScriptedSource):
        def fetch(self, request):
            answer = super().fetch(request)
            actions = pl.DataFrame(
                {"symbol": ["SPLT"], "date": [date(2012, 1, 3)], "split": [2.0], "dividend": [0.0]}
            ).filter(pl.col("date").is_between(request.start, request.end))
            return FetchResult(answer.frame, answer.outcomes, answer.details, actions)

    info = SourceInfo(name="naming", version="1", adjustment="raw, adj_close for splits")
    etl = store(root, Naming(market, info=info), date(2012, 12, 31))
    etl.run_full_etl(["SPLT", "BRK.B"], FIRST, date(2012, 12, 31))
    assert etl.ledger("actions").rows() == [("SPLT", date(2012, 1, 3), 2.0, 0.0, True, False, False, None)]
    inferred = store(root / "inferred", ScriptedSource(market), date(2012, 12, 31))
    inferred.run_full_etl(["SPLT", "BRK.B"], FIRST, date(2012, 12, 31))
    assert inferred.ledger("actions").rows() == [("SPLT", date(2012, 1, 3), 2.0, 0.0, True, True, False, None)]


@pytest.mark.parametrize("adjust", ["splits", "total"])
def test_adjusted_prices_are_comparable_over_a_split(root, market, adjust):
    etl = store(root, ScriptedSource(market), date(2012, 12, 31))
    etl.run_full_etl(["SPLT", "BRK.B"], FIRST, date(2012, 12, 31))
    raw = etl.scan("SPLT").collect().sort("date")
    rows = etl.scan("SPLT", adjust=adjust).collect()
    assert rows["date"].is_sorted()
    before = pl.col("date") < date(2012, 1, 3)
    for name, factor in (("open", 0.5), ("high", 0.5), ("low", 0.5), ("close", 0.5), ("volume", 2.0)):
        expected = raw.select(pl.when(before).then(pl.col(name) * factor).otherwise(name)).to_series()
        assert ((rows[name] / expected - 1).abs() < 1e-6).all(), name
    assert rows["ret"].equals(raw["ret"])
    half = etl.scan("SPLT", start="2011-12-01", end="2011-12-30", adjust=adjust).collect()
    assert half.equals(rows.filter(pl.col("date").is_between(date(2011, 12, 1), date(2011, 12, 30)))), (
        "what happened after the range counts"
    )
    assert etl.scan("SPLT", adjust="none").collect().equals(raw)


def test_prices_as_traded_from_a_source_that_adjusts_them(root):
    """A source whose close is adjusted for splits already, and that names them."""
    market = Market(seed=3)

    class Adjusting(ScriptedSource):
        def fetch(self, request):
            answer = super().fetch(request)
            before = (pl.col("symbol") == "SPLT") & (pl.col("date") < date(2012, 1, 3))
            halved = [
                pl.when(before).then(pl.col(n) / 2).otherwise(n).alias(n) for n in ("open", "high", "low", "close")
            ]
            volume = pl.when(before).then(pl.col("volume") * 2).otherwise("volume").alias("volume")
            actions = pl.DataFrame({"symbol": ["SPLT"], "date": [date(2012, 1, 3)], "split": [2.0], "dividend": [0.0]})
            return FetchResult(answer.frame.with_columns(*halved, volume), answer.outcomes, answer.details, actions)

    info = SourceInfo(name="adjusting", version="1", adjustment="adjusted for splits", split_adjusted=True)
    etl = store(root, Adjusting(market, info=info), date(2012, 12, 31))
    etl.run_full_etl(["SPLT"], FIRST, date(2012, 12, 31))
    traded = etl.scan("SPLT", adjust="none").collect().sort("date")
    raw = market.bars(["SPLT"], end=date(2012, 12, 31))
    assert ((traded["close"] / raw["close"] - 1).abs() < 1e-12).all()
    stored = etl.scan("SPLT").collect().sort("date")
    assert etl.scan("SPLT", adjust="splits").collect()["close"].equals(stored["close"])


def test_spoilt_rows_that_nobody_asked_for_hold_nobody(root, market):
    """They are refused; a symbol that is not in the store must not be held for ever."""

    def with_stranger(bars: pl.DataFrame) -> pl.DataFrame:
        strange = bars.tail(4).with_columns(pl.lit("WHO").alias("symbol"), pl.lit(-1.0).alias("close"))
        return pl.concat([bars, strange])

    etl = store(root, ScriptedFetcher(market, alter=with_stranger), date(2012, 12, 31))
    result = etl.run_full_etl(["SPLT", "BRK.B"], date(2012, 1, 1), date(2012, 12, 31))
    assert set(result.outcomes) == {"SPLT", "BRK.B"}
    assert result.rows_rejected == 4
    assert etl.holds(all=True).is_empty()
    assert etl.ledger("rejected_rows")["symbol"].unique().to_list() == ["WHO"]
