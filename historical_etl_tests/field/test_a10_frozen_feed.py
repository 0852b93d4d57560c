"""A feed that stands still: the dates go on, and the bar of one day comes every session, volume included."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from historical_etl import HistoricalETL, Outcome, ProviderUnavailableError
from historical_etl_tests.field.series import Series, backfill, column, update, walk
from historical_etl_tests.scenario import (
    COLUMNS,
    Alter,
    Listing,
    Market,
    current_manifest,
    evening,
    sessions,
    store,
    stored,
)

FROZEN = date(2024, 2, 26)
AFTER = sessions(FROZEN + timedelta(days=1), date(2024, 3, 18))
SYMBOLS = [f"SYM{number:02}" for number in range(30)]
ALL = Market(tuple(Listing(symbol) for symbol in SYMBOLS), first=date(2024, 1, 2), last=date(2024, 4, 30))
FEW = Market(ALL.listings[:6], first=ALL.first, last=ALL.last)
CELLS = ["open", "high", "low", "close", "volume"]


class Feed:
    """A vendor that repeats one bar of some symbols until it moves again; `today` is the evening."""

    def __init__(self, root: Path, frozen: list[str], until: date = date.max, market: Market = FEW) -> None:
        self.today, self.frozen, self.until, self.market = FROZEN, frozen, until, market
        self.spoil: Alter = lambda bars: bars
        self.etl: HistoricalETL = store(root, self, clock=self.clock)

    def clock(self):
        return evening(self.today)

    def get_daily_prices(self, symbols, start_date, end_date):
        bars = self.market.bars(symbols, end=self.today)
        still = pl.col("symbol").is_in(self.frozen) & (pl.col("date") > FROZEN) & (pl.col("date") < self.until)
        last = bars.filter(pl.col("date") == FROZEN).select("symbol", *CELLS, "adj_close")
        bars = bars.join(last, on="symbol", how="left", suffix="_last", maintain_order="left").select(
            "date",
            "symbol",
            *(
                pl.when(still).then(pl.col(f"{name}_last")).otherwise(pl.col(name)).alias(name)
                for name in (*CELLS, "adj_close")
            ),
        )
        return self.spoil(bars).filter(pl.col("date").is_between(start_date, end_date))

    def backfill(self, start: date = date(2024, 1, 2), end: date = FROZEN):
        return self.etl.run_full_etl(list(self.market.symbols), start, end)

    def evening(self, day: date):
        self.today = day
        return self.etl.run_incremental_etl(publish=False)

    def days(self, symbol: str) -> list[date]:
        return stored(self.etl).filter(pl.col("symbol") == symbol)["date"].to_list()


def codes(etl: HistoricalETL) -> list[tuple[str, str]]:
    return etl.holds().select("symbol", "code").rows()


def test_thirty_symbols_that_repeat_one_bar_are_an_outage_and_nothing_moves(root):
    feed = Feed(root, SYMBOLS, market=ALL)
    feed.backfill()
    before, version = stored(feed.etl), current_manifest(feed.etl).version
    for day in AFTER[:6]:
        with pytest.raises(ProviderUnavailableError, match="feed is stale") as caught:
            feed.evening(day)
        assert caught.value.todo
    assert stored(feed.etl).equals(before)
    assert current_manifest(feed.etl).version == version
    assert feed.etl.cursors() == dict.fromkeys(SYMBOLS, FROZEN)


def test_after_the_outage_all_sessions_come(root):
    feed = Feed(root, SYMBOLS, market=ALL)
    feed.backfill()
    for day in AFTER[:4]:
        with pytest.raises(ProviderUnavailableError):
            feed.evening(day)
    feed.frozen = []
    assert not feed.evening(AFTER[4]).held
    assert stored(feed.etl).select(list(COLUMNS)).drop("ret").equals(feed.market.bars(end=AFTER[4]).drop("ret"))
    assert feed.etl.ledger("stale_bars").is_empty()


def test_one_symbol_is_reported_then_held_and_released_when_it_moves(root):
    feed = Feed(root, ["SYM00"])
    feed.backfill()
    first = feed.evening(AFTER[0])
    assert not first.warnings
    reported = feed.evening(AFTER[1])  # the third equal bar
    assert [warning for warning in reported.warnings if "SYM00" in warning]
    assert reported.outcomes["SYM00"] is Outcome.OK
    feed.evening(AFTER[2])
    held = feed.evening(AFTER[3])  # the fifth
    assert held.outcomes["SYM00"] is Outcome.HELD
    assert held.outcomes["SYM01"] is Outcome.OK
    for day in AFTER[4:7]:
        assert feed.evening(day).outcomes["SYM00"] is Outcome.HELD
    assert codes(feed.etl) == [("SYM00", "stale")]
    (hold,) = feed.etl.holds(all=True).iter_rows(named=True)
    assert hold["session"] == AFTER[3]
    assert hold["attempts"] == 4
    assert feed.days("SYM00")[-1] == AFTER[2]
    seen = feed.etl.ledger("stale_bars").select("symbol", "first_session", "last_session", "sessions").rows()
    assert seen == [("SYM00", FROZEN, AFTER[1], 3), ("SYM00", FROZEN, AFTER[2], 4)]

    feed.until = AFTER[7]
    released = feed.evening(AFTER[7])
    assert released.outcomes["SYM00"] is Outcome.OK
    assert feed.etl.holds(all=True)["status"].to_list() == ["released"]
    assert feed.days("SYM00")[-1] == AFTER[7]
    assert any("8 sessions" in warning for warning in released.warnings), "what is stored of it is reported"


def test_what_the_vendor_corrects_meanwhile_comes_as_a_correction(root):
    feed = Feed(root, ["SYM00"])
    feed.backfill()
    for day in AFTER[:8]:
        feed.evening(day)
    feed.frozen = []
    feed.evening(AFTER[8])
    assert not feed.etl.holds().height
    assert set(feed.etl.ledger("corrections")["date"]) == set(AFTER[:3])
    assert stored(feed.etl).drop("ret").equals(feed.market.bars(end=AFTER[8]).drop("ret"))


def test_a_person_may_say_that_it_is_real_and_is_not_asked_again(root):
    feed = Feed(root, ["SYM00"])
    feed.backfill()
    for day in AFTER[:5]:
        feed.evening(day)
    assert not feed.etl.accept("SYM00", reason="a bid that stands", by="anna").held
    assert feed.days("SYM00")[-1] == AFTER[4]
    for day in AFTER[5:9]:
        result = feed.evening(day)
        assert not result.held
        assert any("SYM00" in warning for warning in result.warnings)


def test_a_dividend_in_the_adjusted_close_does_not_hide_it(root):
    feed = Feed(root, ["SYM00"])
    feed.backfill()
    feed.spoil = lambda bars: bars.with_columns(
        pl.when((pl.col("symbol") == "SYM00") & (pl.col("date") > AFTER[1]))
        .then(pl.col("adj_close") * 1.00005)
        .otherwise("adj_close")
        .alias("adj_close")
    )
    for day in AFTER[:5]:
        feed.evening(day)
    assert codes(feed.etl) == [("SYM00", "stale")]


@pytest.mark.parametrize("overlap", [1, 2, 20])
def test_it_is_seen_whatever_the_overlap(root, overlap):
    feed = Feed(root, ["SYM00"])
    feed.etl.store.context.settings = feed.etl.settings.changed({"overlap_sessions": overlap})
    feed.backfill()
    for day in AFTER[:7]:
        feed.evening(day)
    assert codes(feed.etl) == [("SYM00", "stale")]
    assert feed.days("SYM00")[-1] == AFTER[2]


def test_a_week_caught_up_at_once_is_held_too(root):
    feed = Feed(root, ["SYM00"])
    feed.backfill()
    assert feed.evening(AFTER[6]).outcomes["SYM00"] is Outcome.HELD
    assert feed.days("SYM00")[-1] == FROZEN
    assert feed.etl.holds().item(0, "session") == AFTER[3]


def test_a_backfill_of_earlier_years_leaves_the_hold(root):
    market = Market(FEW.listings, first=date(2023, 12, 1), last=FEW.last)
    feed = Feed(root, ["SYM00"], market=market)
    feed.backfill()
    for day in AFTER[:6]:
        feed.evening(day)
    feed.etl.run_full_etl(SYMBOLS[:3], date(2023, 12, 1), date(2023, 12, 29))
    assert codes(feed.etl) == [("SYM00", "stale")]


def test_a_first_history_that_ends_frozen_is_held(root):
    feed = Feed(root, ["SYM00"])
    feed.today = AFTER[8]
    result = feed.backfill(end=AFTER[8])
    assert result.outcomes["SYM00"] is Outcome.HELD
    assert not feed.days("SYM00")
    assert feed.days("SYM01")[-1] == AFTER[8]


def test_a_frozen_stretch_inside_a_first_history_is_reported_and_stored(root):
    feed = Feed(root, ["SYM00"], until=AFTER[6])
    feed.today = AFTER[8]
    result = feed.backfill(end=AFTER[8])
    assert not result.held
    assert [w for w in result.warnings if "SYM00" in w]
    assert feed.days("SYM00")[-1] == AFTER[8]
    ledger = feed.etl.ledger("stale_bars")
    assert ledger.select("symbol", "first_session", "last_session", "sessions").rows() == [
        ("SYM00", FROZEN, AFTER[5], 7)
    ]
    again = feed.backfill(end=AFTER[8])  # nothing new comes, nothing new is reported
    assert not again.warnings
    assert feed.etl.ledger("stale_bars").equals(ledger)


def test_the_past_that_ends_frozen_is_stored_since_the_feed_may_have_moved_after_it(root):
    feed = Feed(root, ["SYM00"], until=AFTER[8])
    feed.today = AFTER[-1]
    assert not feed.backfill(end=AFTER[7]).held
    assert feed.evening(AFTER[-1]).outcomes["SYM00"] is Outcome.OK


def flat(bars: pl.DataFrame, symbol: str, **cells: float | None) -> pl.DataFrame:
    still = (pl.col("symbol") == symbol) & (pl.col("date") > FROZEN)
    return bars.with_columns(
        pl.when(still).then(pl.lit(value, pl.Float64)).otherwise(pl.col(name)).alias(name)
        for name, value in cells.items()
    )


def is_never_held(feed: Feed) -> bool:
    warnings = [warning for day in AFTER[:7] for warning in feed.evening(day).warnings]
    return not feed.etl.holds(all=True).height and not warnings


def test_halts_are_not_stale(root):
    feed = Feed(root, ["SYM00"])
    feed.spoil = lambda bars: flat(bars, "SYM00", volume=0.0)
    feed.backfill()
    assert is_never_held(feed)


def test_a_thin_market_that_repeats_its_price_is_not_stale(root):
    feed = Feed(root, ["SYM00"])
    feed.spoil = lambda bars: bars.with_columns(
        pl.when((pl.col("symbol") == "SYM00") & (pl.col("date") > FROZEN))
        .then(100.0 + pl.col("date").dt.day() % 3)
        .otherwise("volume")
        .alias("volume")
    )
    feed.backfill()
    assert is_never_held(feed)


def test_thirty_halts_at_once_are_no_outage(root):
    feed = Feed(root, SYMBOLS, market=ALL)
    feed.spoil = lambda bars: bars.with_columns(
        pl.when(pl.col("date") > FROZEN).then(0.0).otherwise("volume").alias("volume")
    )
    feed.backfill()
    assert is_never_held(feed)


def test_a_series_that_moves_in_steps_anyway_is_not_held(root):
    """A price that a few lots a day leave where it is for days, as it always did."""

    def stepwise(bars: pl.DataFrame) -> pl.DataFrame:
        price = 10.0 + (pl.col("date").dt.ordinal_day() // 9)
        steps = dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": pl.lit(500.0)}
        here = pl.col("symbol") == "SYM00"
        return bars.with_columns(
            pl.when(here).then(value).otherwise(pl.col(name)).alias(name) for name, value in steps.items()
        ).with_columns(pl.when(here).then("close").otherwise("adj_close").alias("adj_close"))

    feed = Feed(root, [])
    feed.spoil = stepwise
    feed.backfill()
    for day in AFTER[:9]:
        assert not feed.evening(day).held


def test_a_stored_series_that_never_moved_is_not_held(root):
    feed = Feed(root, [])
    feed.spoil = lambda bars: bars.filter(pl.col("symbol") == "SYM00").with_columns(
        open=100.0, high=101.0, low=99.0, close=100.0, volume=1000.0, adj_close=50.0
    )
    feed.etl.run_full_etl(["SYM00"], date(2024, 1, 2), FROZEN)
    for day in AFTER[:8]:
        assert not feed.evening(day).held
    assert feed.days("SYM00")[-1] == AFTER[7]


@pytest.mark.parametrize("factor", [0.63, 1.45])
def test_a_crash_behind_two_repeated_bars_comes_as_a_correction(root, factor):
    """The stored bar is the one before it once more, and the bars that follow agree with the new one."""
    closes = walk(60)
    moved = [*closes[:58], *(round(close * factor, 4) for close in closes[58:])]
    etl, _ = backfill(root, Series([*closes[:57], *[closes[56]] * 2]))
    etl, result = update(root, Series(moved), 59)
    assert result.outcomes["ACME"] is Outcome.OK
    assert etl.holds().is_empty()
    assert column(etl, "close")[-3:] == moved[-3:]
    corrected = etl.ledger("corrections").filter(symbol="ACME", column="close")
    assert corrected.select("old", "new").rows()[-1] == (closes[56], moved[58])


def test_another_currency_from_a_stored_session_on_is_still_held(root):
    """Here what is stored moved, and the new prices are it times one factor."""
    closes = walk(60)
    etl, _ = backfill(root, Series(closes[:59]))
    etl, result = update(root, Series([*closes[:56], *(round(close * 1.3, 4) for close in closes[56:])]), 59)
    assert result.outcomes["ACME"] is Outcome.HELD
    assert column(etl, "close") == closes[:59]
