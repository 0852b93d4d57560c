"""Whatever zone the machine is in, a session keeps its date and a store its bytes."""

import time
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from historical_etl import FetchRequest, get_calendar
from historical_etl.clock import as_date, system_clock
from historical_etl.sources.sample import SampleSource
from historical_etl_tests.scenario import SHORT, SYMBOLS, ScriptedFetcher, store, stored, tree


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Tokyo"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def seen() -> dict[str, bytes]:
    """What the first zone left, for the others to be compared with."""
    return {}


def test_a_store_has_the_same_bytes_in_every_zone(zone, root, seen):
    """Manifests, history and progress too: no local time gets into any file."""
    etl = store(root, ScriptedFetcher(SHORT), date(2013, 1, 15))
    etl.run_full_etl(SYMBOLS, SHORT.first, "2012-12-31")
    etl.run_incremental_etl()
    assert stored(etl).equals(SHORT.expected(end=date(2013, 1, 15)))
    files = {
        name: data
        for name, data in tree(root).items()
        if not name.endswith((".lock", ".duckdb", ".catalog"))  # these name a process or a folder
    }
    seen = seen or seen.update(files) or seen
    assert files == seen


def test_the_last_closed_session_does_not_depend_on_the_zone(zone):
    calendar = get_calendar("XNYS")
    close = calendar.close_of(date(2013, 1, 15))
    assert calendar.last_closed(close) == date(2013, 1, 15)
    assert calendar.last_closed(close - timedelta(seconds=1)) == date(2013, 1, 14)
    assert calendar.last_closed(close.astimezone()) == date(2013, 1, 15)


def test_midnights_keep_their_own_date(zone):
    """A vendor's timestamps at New York's midnight are that day, wherever the machine stands."""
    from historical_etl.quality.rules import conform

    bars = SHORT.bars(["BRK.B"])
    stamps = bars.with_columns(pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("America/New_York"))
    assert conform(stamps, "test").equals(bars)
    assert conform(bars.with_columns(pl.col("date").cast(pl.Datetime("ms"))), "test").equals(bars)


def test_dates_in_arguments_are_taken_as_written(zone):
    assert as_date("2013-01-02", "day") == date(2013, 1, 2)
    assert as_date(datetime.fromisoformat("2013-01-02T23:59:00-10:00"), "day") == date(2013, 1, 2)
    assert as_date(date(2013, 1, 2), "day") == date(2013, 1, 2)


def test_the_sample_keeps_its_dates(zone):
    days = SampleSource().fetch(FetchRequest(("FB",), date(2012, 5, 17), date(2012, 5, 21))).frame["date"]
    assert days.to_list() == [date(2012, 5, 18), date(2012, 5, 21)]


def test_the_system_clock_is_aware_and_in_utc(zone):
    now = system_clock()
    assert now.utcoffset() == timedelta()
    assert abs(now.timestamp() - time.time()) < 60
