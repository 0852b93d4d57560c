"""A9: months, weeks and minutes are no days: such a file is skipped with the evidence."""

import random
from datetime import date, timedelta

import polars as pl
import pytest

from historical_etl import FetchRequest, FilesSettings, Outcome, get_calendar
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import FAILED, INCOMPLETE, days, desk, lines

__all__ = ["desk"]

HEADER, ROW = "Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000"
DAILY = lines(HEADER, ROW, days())
YEARS = get_calendar("XNYS").between(date(2021, 1, 4), date(2024, 6, 28))
ENDS = (
    YEARS.to_frame("d").group_by(pl.col("d").dt.truncate("1mo"), maintain_order=True).agg(pl.col("d").last().alias("e"))
)
MONTHS = ENDS.get_column("e").to_list()
FRIDAYS = (
    YEARS.to_frame("d").group_by(pl.col("d").dt.truncate("1w"), maintain_order=True).agg(pl.col("d").last().alias("e"))
    .get_column("e").to_list()
)  # fmt: skip
#: Yahoo's weekly bars bear the Monday, whether there was a session or not.
MONDAYS = [date(2023, 1, 2) + timedelta(weeks=number) for number in range(60)]
PERIODS = {
    "month ends": (MONTHS, "a month apart"), "week ends": (FRIDAYS, "a week apart"),
    "Mondays": (MONDAYS, "a week apart"), "four months": (MONTHS[:4], "a month apart"),
    "quarters": (MONTHS[::3], "a quarter apart"), "newest first": (MONTHS[::-1], "a month apart"),
}  # fmt: skip


@pytest.mark.parametrize(("sessions", "evidence"), PERIODS.values(), ids=list(PERIODS))
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_whose_rows_are_no_days_is_skipped(desk, sessions, evidence, kind):
    desk.put("MSFT.csv", DAILY)
    path = desk.folder / f"NVDA.{kind}"
    if kind == "csv":
        desk.put(path.name, lines(HEADER, ROW, sessions))
    else:
        pl.DataFrame({"date": sessions, "close": 1.0, "volume": 1.0}).write_parquet(path)
    source = FilesSource(FilesSettings(path=str(desk.folder)))
    answer = source.fetch(FetchRequest(("MSFT", "NVDA"), YEARS[0], YEARS[-1]))
    assert answer.outcomes == {"MSFT": Outcome.OK, "NVDA": Outcome.ERROR}
    for fact in ("not daily bars", evidence, str(path), "NVDA"):
        assert fact in answer.details["NVDA"]
        assert fact in answer.set_aside[0]


def test_in_a_store_only_the_others_are(desk):
    desk.put("MSFT.csv", DAILY)
    path = desk.put("NVDA.csv", lines(HEADER, ROW, MONTHS))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert f"they are monthly [{path}]" in answer.err
    assert desk.symbols() == {"MSFT": 8}


def test_alone_it_is_an_error(desk):
    path = desk.put("nvda-1999-2014.csv", lines(HEADER, ROW, MONTHS))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "not daily bars" in answer.err
    assert str(path) in answer.err
    assert "monthly" in answer.err


INTRADAY = {
    "minutes": ("Datetime,Close,Volume", "2024-03-0{d} 09:3{m}:00,100,1000"),
    "minutes with an offset": ("Datetime,Close,Volume", "2024-03-0{d} 09:3{m}:00-05:00,100,1000"),
    "a column of times": ("Date,Time,Close,Volume", "2024-03-0{d},09:3{m},100,1000"),
    "Stooq's five minutes": ("<TICKER>,<PER>,<DATE>,<TIME>,<CLOSE>,<VOL>", "NVDA.US,5,2024030{d},093{m}00,100,1000"),
    "seconds since 1970": ("time,close,volume", "17092188{m}{d},100,1000"),
}


@pytest.mark.parametrize(("header", "row"), INTRADAY.values(), ids=list(INTRADAY))
def test_several_rows_a_day_are_no_daily_bars(desk, header, row):
    desk.put("MSFT.csv", DAILY)
    rows = [row.format(d=day, m=minute) for day in (4, 5, 6) for minute in range(5)]
    path = desk.put("NVDA.csv", "\n".join([header, *rows]))
    source = FilesSource(FilesSettings(path=str(desk.folder)))
    (skipped,) = source.set_aside
    assert "not daily bars" in skipped
    assert str(path) in skipped
    answer = source.fetch(FetchRequest(("MSFT", "NVDA"), YEARS[0], YEARS[-1]))
    assert answer.outcomes == {"MSFT": Outcome.OK, "NVDA": Outcome.ERROR}


def test_a_symbol_that_is_monthly_among_daily_ones_is_refused_alone(desk):
    rows = [f"{day},{symbol},100,1000" for symbol, some in (("DAY", YEARS.to_list()), ("MON", MONTHS)) for day in some]
    desk.put("all.csv", "\n".join(["date,symbol,close,volume", *rows]))
    source = FilesSource(FilesSettings(path=str(desk.folder)))
    (skipped,) = source.set_aside
    assert "rows of MON" in skipped
    answer = source.fetch(FetchRequest(("DAY", "MON"), YEARS[0], YEARS[-1]))
    assert answer.outcomes == {"DAY": Outcome.OK, "MON": Outcome.ERROR}


def test_a_thin_market_is_none_of_it(desk):
    thin = [day for number, day in enumerate(YEARS.to_list()) if number % 7 in (0, 1) or number % 31 == 5]
    desk.put("THIN.csv", lines(HEADER, ROW, thin))
    desk.put("NEWS.csv", lines(HEADER, ROW, [MONTHS[0], MONTHS[4], MONTHS[5]]))
    assert FilesSource(FilesSettings(path=str(desk.folder))).set_aside == ()
    assert desk.read()[0].height == 3 + len(thin)


@pytest.mark.parametrize(("step", "count", "word"), [(5, 40, "weekly"), (5, 10, "weekly"), (21, 12, "monthly")])
@pytest.mark.parametrize("daily", [30, 300])
def test_rows_of_weeks_before_daily_ones_are_refused_and_reported(desk, step, count, word, daily):
    every = sessions_of(step * count + daily)
    taken = [*every[: step * count : step], *every[step * count :]]
    desk.put("AAA.csv", lines("Date,Open,High,Low,Close,Volume", "{d},10,11,9,10.5,100{n}", taken))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert f"are {word}, not daily" in answer.err
    assert desk.symbols() == {"AAA": daily}


def test_what_trades_seldom_at_first_is_daily(desk):
    every = sessions_of(300)
    draw = random.Random(4)
    taken = sorted([*draw.sample(every[:250], 45), *every[250:]])
    desk.put("AAA.csv", lines("Date,Open,High,Low,Close,Volume", "{d},10,11,9,10.5,100{n}", taken))
    assert desk.read()[0].height == len(taken)


def sessions_of(count: int) -> list[date]:
    return days(count, date(2021, 1, 4))
