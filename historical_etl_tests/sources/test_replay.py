"""The replay: each evening as a live vendor would have had it, and a clock that the store alone moves on."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import (
    ConfigurationError,
    CoverageError,
    FetchRequest,
    HistoricalETL,
    Outcome,
    Settings,
    UnifiedDataFetcher,
)
from historical_etl.clock import system_clock
from historical_etl.sessions import get_calendar
from historical_etl.sources.base import ACTIONS
from historical_etl.sources.replay import ReplayClock, ReplaySource, clock_for, is_replay
from historical_etl.sources.sample import SampleSource
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import COLUMNS, KEYS

FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
CALENDAR = get_calendar("XNYS")
SESSIONS = CALENDAR.between(FIRST, LAST).to_list()
SETTLE = timedelta(minutes=60)
#: Two for one, from this session on.
AAPL_SPLIT = date(2005, 2, 28)
#: 18 cents and 8 cents a share, by the companies' own announcements.
IBM_EX, MSFT_EX = date(2005, 2, 8), date(2005, 2, 15)
#: The third Wednesday of February 2005, and the second session after it.
LATE, ARRIVES = date(2005, 2, 16), date(2005, 2, 18)


def evening(day: date, symbols=SYMBOLS, start: date = FIRST, **options) -> pl.DataFrame:
    return ReplaySource(lambda: day, **options).fetch(FetchRequest(tuple(symbols), start, LAST)).frame


def known(day: date, **options) -> pl.DataFrame:
    return evening(day, **options).sort(KEYS)


def sampled(day: date) -> pl.DataFrame:
    return SampleSource().fetch(FetchRequest(SYMBOLS, FIRST, day)).frame.sort(KEYS)


def configured(**values) -> Settings:
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("day", [FIRST, date(2005, 2, 25), AAPL_SPLIT, date(2012, 5, 18), date(2013, 2, 19), LAST])
def test_an_evening_has_the_raw_bars_of_the_sample_up_to_it(day):
    frame = known(day, faults=False)
    assert dict(frame.schema) == COLUMNS
    assert_frame_equal(frame.drop("adj_close"), sampled(day).drop("adj_close"), check_exact=True)


def test_on_every_evening_adj_close_is_close_on_the_newest_bar_of_each_symbol():
    for day in SESSIONS[::61]:
        newest = known(day).group_by("symbol").agg(pl.all().sort_by("date").last())
        assert newest["adj_close"].to_list() == newest["close"].to_list(), day


def test_total_returns_are_those_of_the_sample_whatever_the_evening():
    returns = pl.col("adj_close") / pl.col("adj_close").shift(1).over("symbol", order_by="date") - 1
    for day in (date(2005, 2, 25), AAPL_SPLIT, LAST):
        ours, theirs = (bars.select(*KEYS, returns) for bars in (known(day, faults=False), sampled(day)))
        assert_frame_equal(ours, theirs, rel_tol=0, abs_tol=1e-6)


def test_an_evening_without_an_event_has_the_bits_of_the_one_before():
    """Every symbol on every evening of 2004 and 2005: its history changes on its ex-dates and on no other day."""
    changed: dict[str, list[date]] = {symbol: [] for symbol in SYMBOLS}
    days = [day for day in SESSIONS if day.year in {2004, 2005}]
    before = known(days[0], faults=False)
    for day in days[1:]:
        after = known(day, faults=False)
        both = before.join(after, on=KEYS, suffix="_after").filter(pl.col("adj_close") != pl.col("adj_close_after"))
        for symbol in both["symbol"].unique():
            changed[symbol].append(day)
        before = after
    assert changed["AAPL"] == [AAPL_SPLIT]
    assert changed["GOOG"] == changed["FB"] == []
    assert [day for day in changed["IBM"] if day.year == 2005] == [
        IBM_EX,
        date(2005, 5, 6),
        date(2005, 8, 8),
        date(2005, 11, 8),
    ]
    assert [day for day in changed["MSFT"] if day.year == 2004] == [date(2004, 8, 23), date(2004, 11, 15)]


def test_the_split_halves_what_lies_before_it():
    aapl = {day: known(day).filter(symbol="AAPL") for day in (date(2005, 2, 25), AAPL_SPLIT)}
    before, after = (frame.filter(date=date(2005, 2, 25)).row(0, named=True) for frame in aapl.values())
    assert (before["close"], before["adj_close"]) == (88.99, 88.99)
    assert (after["close"], after["adj_close"]) == (88.99, 44.495)
    level = aapl[AAPL_SPLIT].join(aapl[date(2005, 2, 25)], on=KEYS)
    assert (level["adj_close"] / level["adj_close_right"]).is_between(0.5 - 1e-6, 0.5 + 1e-6).all()
    assert_frame_equal(level.select("close"), level.select(close="close_right"), check_exact=True)


def test_a_range_is_a_part_of_the_whole_history_of_that_evening():
    whole = known(AAPL_SPLIT)
    source = ReplaySource(lambda: AAPL_SPLIT)
    part = source.fetch(FetchRequest(("AAPL",), date(2003, 1, 1), date(2003, 12, 31))).frame
    assert_frame_equal(
        part.sort(KEYS), whole.filter(pl.col("symbol") == "AAPL", pl.col("date").dt.year() == 2003), check_exact=True
    )


def test_the_bar_of_ibm_of_the_third_wednesday_comes_two_sessions_late():
    ibm = {day: set(evening(day, ["IBM"], LATE)["date"]) for day in CALENDAR.between(LATE, ARRIVES)}
    assert ibm == {
        LATE: set(),
        date(2005, 2, 17): {date(2005, 2, 17)},
        ARRIVES: {LATE, date(2005, 2, 17), ARRIVES},
    }
    assert set(evening(LATE, start=LATE)["symbol"]) == {"AAPL", "GOOG", "MSFT"}
    assert ReplaySource(lambda: LATE).fetch(FetchRequest(("IBM",), LATE, LATE)).outcomes == {"IBM": Outcome.EMPTY}
    assert_frame_equal(known(LAST).drop("volume"), known(LAST, faults=False).drop("volume"), check_exact=True)


def test_the_volume_of_msft_of_the_first_session_of_a_month_is_corrected_the_day_after():
    first, following = date(2005, 2, 1), date(2005, 2, 2)
    keys = [first, "MSFT"]
    true = sampled(first).row(by_predicate=(pl.col("date") == keys[0]) & (pl.col("symbol") == keys[1]), named=True)
    reported = [
        known(day).row(by_predicate=(pl.col("date") == keys[0]) & (pl.col("symbol") == keys[1]), named=True)
        for day in (first, following)
    ]
    assert reported[0]["volume"] == round(true["volume"] * 0.98)
    assert reported[1]["volume"] == true["volume"]
    assert {**reported[0], "volume": 0} == {**reported[1], "volume": 0}


def test_a_symbol_is_not_known_before_it_is_listed():
    source = ReplaySource(lambda: date(2012, 5, 17))
    result = source.fetch(FetchRequest(("FB", "IBM", "TSLA"), date(2012, 5, 1), LAST))
    assert dict(result.outcomes) == {"FB": Outcome.NOT_FOUND, "IBM": Outcome.OK, "TSLA": Outcome.NOT_FOUND}
    assert result.details["FB"] == Saying("2012-05-17", "AAPL, GOOG, IBM, MSFT")
    assert source.members(None, None) == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert source.members(date(2012, 5, 18), LAST) == []
    assert ReplaySource(lambda: date(2012, 5, 18)).members(None, None) == sorted(SYMBOLS)


def test_outside_the_sample_is_an_error_and_after_the_evening_is_empty():
    source = ReplaySource(lambda: date(2005, 2, 25))
    with pytest.raises(CoverageError, match="2000-03-01 to 2013-03-01"):
        source.fetch(FetchRequest(("IBM",), date(2013, 3, 2), date(2014, 1, 1)))
    later = source.fetch(FetchRequest(("IBM",), date(2005, 2, 28), date(2005, 3, 1)))
    assert (dict(later.outcomes), later.frame.height) == ({"IBM": Outcome.EMPTY}, 0)


def test_actions_are_named_only_where_asked_for():
    request = FetchRequest(SYMBOLS, date(2004, 11, 1), LAST)
    assert ReplaySource(lambda: AAPL_SPLIT).fetch(request).actions is None
    actions = ReplaySource(lambda: AAPL_SPLIT, name_actions=True).fetch(request).actions
    assert actions is not None
    assert actions.schema == ACTIONS
    assert sorted(actions.rows()) == [
        ("AAPL", AAPL_SPLIT, 2.0, 0.0),
        ("IBM", date(2004, 11, 8), 1.0, 0.18),
        ("IBM", IBM_EX, 1.0, 0.18),
        ("MSFT", date(2004, 11, 15), 1.0, 3.08),
        ("MSFT", MSFT_EX, 1.0, 0.08),
    ]


def test_its_price_basis_is_not_the_sample_s_and_does_not_change_with_the_evening():
    sample, early, late = SampleSource.info, ReplaySource(lambda: FIRST).info, ReplaySource(lambda: LAST).info
    assert early == late
    assert (early.name, early.version) == ("sample", f"{sample.version} (replay)")
    assert early.adjustment != sample.adjustment
    assert early.fingerprint() != sample.fingerprint()


@pytest.mark.parametrize(
    ("stored", "session"),
    [
        (None, date(2005, 2, 25)),
        (date(2004, 12, 31), date(2005, 2, 25)),  # history that was filled year by year: the start is not there yet
        (date(2005, 2, 25), AAPL_SPLIT),  # over a weekend
        (date(2013, 2, 28), LAST),
        (LAST, LAST),
        (date(2020, 1, 2), LAST),
    ],
)
def test_the_clock_shows_the_evening_after_what_is_stored(stored, session):
    clock = ReplayClock(lambda: stored, date(2005, 2, 25), CALENDAR, SETTLE)
    assert clock.as_of() == session
    assert clock() == CALENDAR.close_of(session) + SETTLE
    assert clock().tzinfo is UTC
    assert CALENDAR.last_closed(clock(), SETTLE) == session


@pytest.mark.parametrize(
    ("start", "session"), [(date(2005, 2, 26), AAPL_SPLIT), (date(1990, 1, 1), FIRST), (date(2013, 3, 2), LAST)]
)
def test_the_clock_begins_with_a_session_of_the_sample(start, session):
    assert ReplayClock(lambda: None, start, CALENDAR, SETTLE).as_of() == session


def test_the_clock_stops_while_a_run_commits():
    stored = [date(2005, 2, 24)]
    clock = ReplayClock(lambda: stored[-1], FIRST, CALENDAR, SETTLE)
    began = clock()
    stored.append(date(2005, 2, 25))
    assert clock() == began
    assert ReplayClock(lambda: stored[-1], FIRST, CALENDAR, SETTLE)() > began


def test_the_settings_choose_the_replay_and_its_clock():
    replay = configured(replay_from=date(2005, 2, 25))
    assert is_replay(replay)
    assert clock_for(replay, lambda: date(2005, 2, 25))() == CALENDAR.close_of(AAPL_SPLIT) + SETTLE
    for plain in (configured(), configured(source="files", replay_from=date(2005, 2, 25))):
        assert not is_replay(plain)
        assert clock_for(plain, lambda: None) is system_clock
    with pytest.raises(ConfigurationError, match="the sample ends on 2013-03-01"):
        clock_for(configured(replay_from=date(2013, 3, 4)), lambda: None)


def test_the_fetcher_serves_the_evening_that_its_clock_shows():
    settings = configured(replay_from=date(2005, 2, 25))
    fetcher = UnifiedDataFetcher(settings, clock=clock_for(settings, lambda: None))
    assert fetcher.info.version.endswith("(replay)")
    frame = fetcher.get_daily_prices(["AAPL"], "2005-02-24", "2005-03-04")
    assert frame["date"].to_list() == [date(2005, 2, 24), date(2005, 2, 25)]
    assert frame["adj_close"].to_list() == frame["close"].to_list()
    assert fetcher.members(None, None) == ["AAPL", "GOOG", "IBM", "MSFT"]
    today = UnifiedDataFetcher(settings)
    assert today.get_daily_prices(["AAPL"], FIRST, LAST)["date"].max() == LAST
    assert not UnifiedDataFetcher(configured()).info.version.endswith("(replay)")


def test_ibm_alone_is_never_late_for_its_evening_would_not_pass():
    def clock() -> datetime:
        return CALENDAR.close_of(LATE) + SETTLE

    request = FetchRequest(("IBM",), LATE, LATE)
    alone, other = (configured(replay_from=FIRST, symbols=symbols) for symbols in (("IBM",), ("AAPL", "IBM")))
    assert UnifiedDataFetcher(alone, clock=clock).fetch(request).outcomes == {"IBM": Outcome.OK}
    assert UnifiedDataFetcher(other, clock=clock).fetch(request).outcomes == {"IBM": Outcome.EMPTY}


def test_repeated_runs_go_on_evening_by_evening_and_keep_no_state_but_the_store(root):
    settings = configured(replay_from=date(2005, 2, 24), data_dir=root)
    symbols = ["AAPL", "MSFT"]

    def opened() -> HistoricalETL:
        clock = clock_for(settings, stored_through)
        return HistoricalETL.open(root, UnifiedDataFetcher(settings, clock=clock), clock=clock, settings=settings)

    def stored_through() -> date | None:
        manifest = HistoricalETL.open(root, SampleSource(), settings=settings).manifest()
        return manifest.end_date if manifest else None

    # Two commits, of which the first must not move the clock of the run.
    assert opened().run_full_etl(symbols, date(2004, 12, 1), date(2005, 12, 31)).end_date == date(2005, 2, 24)
    runs = [opened().run_incremental_etl(publish=False) for _ in range(3)]
    assert [run.end_date for run in runs] == [date(2005, 2, 25), AAPL_SPLIT, date(2005, 3, 1)]
    assert [run.restated_symbols for run in runs] == [(), ("AAPL",), ()]
    known_then = evening(date(2005, 3, 1), symbols, date(2004, 12, 1)).drop("ret").sort(KEYS)
    assert_frame_equal(opened().scan().collect().drop("ret").sort(KEYS), known_then, check_exact=True)
