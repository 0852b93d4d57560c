"""B9: a moment is a day of the exchange only where it can be no other one; never does a day shift in silence."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from historical_etl import FetchRequest, FilesSettings, Outcome, get_calendar
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import INCOMPLETE, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

BAR = "100,101,99,100,1000"
#: Both sides of the changes of the clock, in New York and in Sydney.
SPAN = (date(2024, 2, 12), date(2024, 4, 26))


def sessions(exchange: str) -> list[date]:
    return get_calendar(exchange).between(*SPAN).to_list()


def moments(days: list[date], zone: str, at: time = time()) -> list[datetime]:
    return [datetime.combine(day, at, ZoneInfo(zone)).astimezone(UTC) for day in days]


WRITTEN = {
    "seconds": lambda moment: f"{int(moment.timestamp())}",
    "milliseconds": lambda moment: f"{int(moment.timestamp() * 1000)}",
    "seconds of pandas": lambda moment: f"{moment.timestamp():.1f}",
    "text in UTC": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    "text without a zone": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
}


def read(desk, exchange: str) -> tuple[FilesSource, list[date]]:
    source = FilesSource(FilesSettings(path=str(desk.folder)), exchange=exchange)
    answer = source.fetch(FetchRequest(("AAA", "GOOD"), date(2024, 1, 1), date(2024, 12, 31)))
    assert answer.outcomes["GOOD"] is Outcome.OK
    return source, answer.frame.filter(pl.col("symbol") == "AAA")["date"].to_list()


def put(desk, written: list[str]) -> str:
    desk.put("GOOD.csv", lines("Date,Open,High,Low,Close,Volume", "{d}," + BAR, [date(2024, 3, 5)]))
    rows = "\n".join(f"{text},{BAR}" for text in written)
    return str(desk.put("AAA.csv", f"time,open,high,low,close,Volume\n{rows}\n"))


FAR = {
    "Tokyo": ("XTKS", "Asia/Tokyo"), "Sydney": ("XASX", "Australia/Sydney"), "Hong Kong": ("XHKG", "Asia/Hong_Kong"),
    "Bombay": ("XBOM", "Asia/Kolkata"), "Auckland": ("XNZE", "Pacific/Auckland"), "Paris": ("XPAR", "Europe/Paris"),
    # The last: in winter its midnights are those of UTC, which are days.
    "London": ("XLON", "Europe/London"),
}  # fmt: skip


@pytest.mark.parametrize(("exchange", "zone"), list(FAR.values())[:-1], ids=list(FAR)[:-1])
@pytest.mark.parametrize("write", WRITTEN.values(), ids=list(WRITTEN))
@pytest.mark.parametrize("count", [4, 40])
def test_midnights_of_another_market_move_no_day(desk, exchange, zone, write, count):
    path = put(desk, [write(moment) for moment in moments(sessions(exchange)[:count], zone)])
    source, days = read(desk, "XNYS")
    assert days == []
    (skipped,) = source.set_aside
    for text in (path, "XNYS", "America/New_York", "HISTORICAL_ETL_EXCHANGE"):
        assert text in skipped


@pytest.mark.parametrize(("exchange", "zone"), FAR.values(), ids=list(FAR))
@pytest.mark.parametrize("how", ["seconds", "milliseconds", "seconds of pandas", "text in UTC"])
def test_where_the_exchange_is_that_market_they_are_its_days(desk, exchange, zone, how):
    days = sessions(exchange)
    put(desk, [WRITTEN[how](moment) for moment in moments(days, zone)])
    assert read(desk, exchange)[1] == days


TIMES = {"open": time(9, 30), "close": time(16), "ten": time(10), "midnight": time(), "noon": time(12)}


@pytest.mark.parametrize("at", TIMES.values(), ids=list(TIMES))
@pytest.mark.parametrize("how", ["seconds", "text in UTC"])
def test_times_of_the_exchange_itself_are_its_days(desk, at, how):
    days = sessions("XNYS")
    put(desk, [WRITTEN[how](moment) for moment in moments(days, "America/New_York", at)])
    assert read(desk, "XNYS")[1] == days


@pytest.mark.parametrize("at", [time(9, 30), time(16)])
def test_so_they_are_in_a_file_of_two_rows(desk, at):
    days = sessions("XNYS")[1:3]
    put(desk, [WRITTEN["seconds"](moment) for moment in moments(days, "America/New_York", at)])
    assert read(desk, "XNYS")[1] == days


def test_a_last_bar_of_an_open_session_is_of_its_day(desk):
    days = sessions("XNYS")
    stamps = [WRITTEN["seconds"](moment) for moment in moments(days, "America/New_York", time(9, 30))]
    last = datetime.combine(days[-1], time(15, 42, 7), ZoneInfo("America/New_York"))
    put(desk, [*stamps[:-1], WRITTEN["seconds"](last)])
    assert read(desk, "XNYS")[1] == days


@pytest.mark.parametrize("kind", ["whole numbers", "zoned", "naive"])
def test_parquet_is_no_other(desk, kind):
    desk.put("GOOD.csv", lines("Date,Open,High,Low,Close,Volume", "{d}," + BAR, [date(2024, 3, 5)]))
    stamps = pl.Series(moments(sessions("XTKS"), "Asia/Tokyo"), dtype=pl.Datetime("us", "UTC"))
    column = {"whole numbers": stamps.dt.epoch("s"), "zoned": stamps, "naive": stamps.dt.replace_time_zone(None)}[kind]
    path = desk.folder / "AAA.parquet"
    pl.DataFrame({"date": column}).with_columns(close=100.0, volume=1.0).write_parquet(path)
    source, days = read(desk, "XNYS")
    assert days == []
    assert str(path) in source.set_aside[0]
    assert "HISTORICAL_ETL_EXCHANGE" in source.set_aside[0]


def test_one_odd_moment_is_one_refused_row(desk):
    days = sessions("XNYS")
    stamps = moments(days, "America/New_York", time(9, 30))
    written = [WRITTEN["seconds"](moment) for moment in stamps]
    written[-1] = WRITTEN["seconds"](moments([date(2024, 4, 26)], "Asia/Tokyo")[0])
    path = put(desk, written)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert f"{path}: 1 row(s) cannot be read" in answer.err
    assert answer.err == Saying("midnight of the next day")
    assert desk.symbols() == {"AAA": len(days) - 1, "GOOD": 1}
