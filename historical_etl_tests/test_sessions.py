"""Sessions: half-days, holidays, other exchanges, and which session has closed by when."""

from datetime import UTC, date, datetime, timedelta

import pytest

from historical_etl import ConfigurationError, SessionCalendar, get_calendar

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def nyse() -> SessionCalendar:
    return get_calendar("XNYS")


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)


def test_holidays_and_disasters_are_no_sessions(nyse):
    closed = ["2001-09-11", "2001-09-14", "2012-10-29", "2012-10-30", "2012-12-25", "2013-01-01", "2013-01-21"]
    assert not any(nyse.is_session(date.fromisoformat(day)) for day in closed)
    assert nyse.is_session(date(2001, 9, 17))
    assert nyse.is_session(date(2012, 2, 29))
    assert nyse.is_session(date(2012, 12, 31))


def test_between_includes_both_ends(nyse):
    assert nyse.between(date(2012, 12, 29), date(2013, 1, 2)).to_list() == [date(2012, 12, 31), date(2013, 1, 2)]
    assert nyse.between(date(2012, 12, 31), date(2012, 12, 31)).to_list() == [date(2012, 12, 31)]
    assert nyse.between(date(2013, 1, 1), date(2013, 1, 1)).is_empty()
    assert nyse.between(date(2013, 1, 5), date(2013, 1, 4)).is_empty()
    assert nyse.between(date(2012, 1, 1), date(2012, 12, 31)).len() == 250


def test_half_days_are_full_sessions_that_close_early(nyse):
    assert nyse.close_of(date(2012, 11, 23)) == utc(2012, 11, 23, 18)
    assert nyse.close_of(date(2012, 11, 26)) == utc(2012, 11, 26, 21)
    assert nyse.close_of(date(2012, 7, 5)) == utc(2012, 7, 5, 20), "daylight saving time"


def test_what_is_no_session_has_no_close(nyse):
    with pytest.raises(ConfigurationError, match=r"2012-12-25 .*not a session.*XNYS"):
        nyse.close_of(date(2012, 12, 25))


@pytest.mark.parametrize(
    ("now", "settle", "session"),
    [
        (utc(2012, 11, 26, 20, 59, 59), timedelta(), date(2012, 11, 23)),
        (utc(2012, 11, 26, 21), timedelta(), date(2012, 11, 26)),
        (utc(2012, 11, 26, 21, 59, 59), HOUR, date(2012, 11, 23)),
        (utc(2012, 11, 26, 22), HOUR, date(2012, 11, 26)),
        (utc(2012, 11, 23, 18), timedelta(), date(2012, 11, 23)),
        (utc(2012, 11, 25, 12), HOUR, date(2012, 11, 23)),
        (datetime.fromisoformat("2012-11-27T06:00:00+09:00"), timedelta(), date(2012, 11, 26)),
        (datetime.fromisoformat("2012-11-26T16:00:00-05:00"), timedelta(), date(2012, 11, 26)),
    ],
)
def test_a_session_counts_from_its_close_and_settle_delay_on(nyse, now, settle, session):
    assert nyse.last_closed(now, settle) == session


def test_counting_back_and_forward_steps_over_closed_days(nyse):
    assert nyse.back(date(2013, 1, 2), 1) == date(2012, 12, 31)
    assert nyse.back(date(2013, 1, 1), 1) == date(2012, 12, 31)
    assert nyse.back(date(2013, 1, 1), 0) == date(2013, 1, 2)
    assert nyse.back(date(2013, 1, 2), 0) == date(2013, 1, 2)
    assert nyse.after(date(2012, 12, 31)) == date(2013, 1, 2)
    assert nyse.after(date(2012, 12, 29)) == date(2012, 12, 31)
    assert nyse.position(date(2013, 1, 2)) == nyse.position(date(2012, 12, 31)) + 1  # pyright: ignore[reportOptionalOperand]
    assert nyse.position(date(2013, 1, 1)) is None


def test_the_ends_of_the_calendar_hold(nyse):
    first, last = nyse.sessions[0], nyse.sessions[-1]
    assert nyse.back(first, 5) == first
    assert nyse.after(last) is None
    assert first.year == 1900
    assert last.year == 2050
    with pytest.raises(ConfigurationError, match="its calendar begins on 1900-01-01"):
        nyse.last_closed(utc(1850, 1, 1))


def test_london_has_its_own_holidays_and_half_days():
    london = get_calendar("XLON")
    assert london.timezone == "Europe/London"
    assert not london.is_session(date(2012, 6, 5)), "the Queen's jubilee"
    assert london.close_of(date(2012, 12, 24)) == utc(2012, 12, 24, 12, 30)
    assert london.close_of(date(2012, 7, 2)) == utc(2012, 7, 2, 15, 30)


def test_tokyo_sessions_are_named_by_tokyos_date():
    tokyo = get_calendar("XTKS")
    assert tokyo.between(date(2012, 12, 27), date(2013, 1, 5)).to_list() == [
        date(2012, 12, 27),
        date(2012, 12, 28),
        date(2013, 1, 4),
    ]
    assert tokyo.close_of(date(2013, 1, 4)) == utc(2013, 1, 4, 6)
    assert tokyo.last_closed(utc(2013, 1, 4, 5, 59)) == date(2012, 12, 28)


def test_round_the_clock_every_day_is_a_session():
    always = get_calendar("24/7")
    assert always.between(date(2012, 12, 24), date(2013, 1, 2)).len() == 10
    assert always.close_of(date(2012, 12, 25)) == utc(2012, 12, 26)


@pytest.mark.parametrize("name", ["NYSE?", "", "xnys-", "../XNYS"])
def test_an_unknown_exchange_is_refused_with_examples(name):
    with pytest.raises(ConfigurationError) as caught:
        get_calendar(name)
    assert caught.value.where == "HISTORICAL_ETL_EXCHANGE"
    assert "XNYS" in caught.value.todo


def test_the_version_of_the_calendar_is_recorded(nyse):
    assert nyse.version.startswith("exchange_calendars 4.")


@pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")  # exchange_calendars, on pandas 3.1
def test_exchanges_with_bounds_of_their_own_can_be_had():
    """Hong Kong's is known from 1960 on only; asking for more would be refused by the package."""
    hong_kong = get_calendar("XHKG")
    assert hong_kong.is_session(date(2012, 6, 1))
    assert hong_kong.sessions[0].year == 1960
