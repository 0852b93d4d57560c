"""B9: day, month and year are distinguished by what fits, by the calendar, or by a setting; never by a guess."""

from datetime import date

import polars as pl
import pytest

from historical_etl import FilesSettings, HistoricalETLError
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import FAILED, INCOMPLETE, days, desk, lines

__all__ = ["desk"]

HEADER = "Date,Open,High,Low,Close,Volume"
BAR = "100,101,99,100,1000"
FEBRUARY = days(40, date(2024, 2, 1))


def put(desk, sessions: list[date], form: str, name: str = "AAA.csv", more: str = "", row: str = "{d}," + BAR):
    separator = ";" if "," in form else ","
    text = lines(HEADER, row, sessions, form) + more
    return desk.put(name, text.replace(",", separator))


YEARS_OF_TWO_DIGITS = [
    *("%y/%m/%d", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%y.%m.%d", "%d-%m-%y", "%y-%m-%d", "%d-%b-%y", "%y-%b-%d")
]
SPANS = {
    "two months of 2024": FEBRUARY,
    "a week": days(5, date(2024, 2, 26)),
    "two years": days(500, date(2022, 1, 3)),
    "ten years, in which all are days as well": days(2500, date(2003, 1, 2)),
}


@pytest.mark.parametrize("form", YEARS_OF_TWO_DIGITS)
@pytest.mark.parametrize("sessions", SPANS.values(), ids=list(SPANS))
def test_years_of_two_digits_are_found_wherever_they_stand(desk, form, sessions):
    put(desk, sessions, form)
    frame, _ = desk.read()
    assert frame["date"].to_list() == sessions


@pytest.mark.parametrize("form", ["%y/%m/%d", "%d.%m.%y"])
def test_so_they_are_in_parquet(desk, form):
    texts = [day.strftime(form) for day in FEBRUARY]
    pl.DataFrame({"date": texts, "close": 100.0, "volume": 1.0}).write_parquet(desk.folder / "AAA.parquet")
    assert desk.read()[0]["date"].to_list() == FEBRUARY


@pytest.mark.parametrize("form", ["%y/%m/%d", "%d/%m/%y"])
def test_a_setting_says_it(desk, form):
    put(desk, [date(2005, 3, 4)], form)
    message = desk.refusal()
    assert "three ways" in message
    assert f"HISTORICAL_ETL_FILES_DATE_FORMAT={form}" in message
    assert desk.read(date_format=form)[0]["date"].to_list() == [date(2005, 3, 4)]


@pytest.mark.parametrize("sessions", [days(250, date(1962, 1, 2)), [date(2024, 3, 5), date(1962, 3, 6)]])
def test_years_that_are_to_come_are_not_taken(desk, sessions):
    put(desk, days(8), "%Y-%m-%d", "GOOD.csv")
    path = put(desk, sessions, "%d-%b-%y")
    source = FilesSource(FilesSettings(path=str(desk.folder)))
    assert source.members(date(2020, 1, 1), None) == ["AAA", "GOOD"]
    assert "2062" in source.set_aside[0]
    assert str(path) in source.set_aside[0]


def test_first_days_of_months_are_no_days_of_one_month(desk):
    # As month/day these are sessions of January that follow one another.
    firsts = [date(2024, month, 1) for month in (2, 3, 4, 5)]
    put(desk, firsts, "%d/%m/%Y")
    assert "may be read in two ways" in desk.refusal()


CHANGES = {
    "month first, then day first": ("%m/%d/%Y", "%d/%m/%Y"),
    "day first, then month first": ("%d/%m/%Y", "%m/%d/%Y"),
    "year first, then day first": ("%y/%m/%d", "%d/%m/%y"),
    "full stops": ("%d.%m.%Y", "%m.%d.%Y"),
    "ISO, then not": ("%Y-%m-%d", "%Y-%d-%m"),
    "with times": ("%m/%d/%Y 00:00:00", "%d/%m/%Y 00:00:00"),
    "of the close": ("%m/%d/%Y 16:00:00", "%d/%m/%Y 16:00:00"),
}


@pytest.mark.parametrize(("one", "other"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("named", ["by its file", "by a column"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_in_which_the_order_changes_is_skipped(desk, one, other, named, kind):
    put(desk, days(8), "%Y-%m-%d", "GOOD.csv")
    texts = [day.strftime(one if day.month == 2 else other) for day in FEBRUARY]
    ticker = {"Ticker": "AAA"} if named == "by a column" else {}
    frame = pl.DataFrame({"Date": texts, "Close": 100.0, "Volume": 1.0}).with_columns(
        pl.lit(value).alias(name) for name, value in ticker.items()
    )
    path = desk.folder / f"AAA.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    frame, _ = desk.read()
    assert set(frame["symbol"]) == {"GOOD"}
    (skipped,) = FilesSource(FilesSettings(path=str(desk.folder))).set_aside
    assert str(path) in skipped
    if one != "%y/%m/%d":  # then all rows fit both
        assert "two orders" in skipped
        assert skipped.count("line " if kind == "csv" else "row ") == 2


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("one", "other"), list(CHANGES.values())[:4], ids=list(CHANGES)[:4])
@pytest.mark.parametrize("newest_first", [False, True])
def test_so_is_one_whose_last_rows_fit_both(desk, one, other, count, newest_first):
    before = days(400, date(2023, 3, 7))
    after = [day for day in days(20, date(2024, 4, 2)) if day.month == 4][:count]
    rows = [(day, one) for day in before if day < after[0]] + [(day, other) for day in after]
    rows = rows[::-1] if newest_first else rows
    put(desk, days(8), "%Y-%m-%d", "GOOD.csv")
    desk.put("AAA.csv", "\n".join([HEADER, *(f"{day.strftime(form)},{BAR}" for day, form in rows)]) + "\n")
    frame, _ = desk.read()
    assert set(frame["symbol"]) == {"GOOD"}
    skipped = FilesSource(FilesSettings(path=str(desk.folder))).set_aside[0]
    assert "two orders" in skipped or (one == "%y/%m/%d" and "three ways" in skipped)


def test_a_setting_does_not_make_one_order_of_two(desk):
    rows = [day.strftime("%m/%d/%Y" if day.month == 2 else "%d/%m/%Y") for day in FEBRUARY]
    desk.put("AAA.csv", "\n".join([HEADER, *(f"{text},{BAR}" for text in rows)]) + "\n")
    with pytest.raises(HistoricalETLError, match="two orders"):
        desk.read(date_format="%d/%m/%Y")


def test_in_a_store_the_rest_goes_on(desk):
    put(desk, days(8), "%Y-%m-%d", "GOOD.csv")
    rows = [day.strftime("%m/%d/%Y" if day.month == 2 else "%d/%m/%Y") for day in FEBRUARY]
    desk.put("AAA.csv", "\n".join([HEADER, *(f"{text},{BAR}" for text in rows)]) + "\n")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert "'02/13/2024' (line 10)" in answer.err
    assert "'13/03/2024'" in answer.err
    assert desk.symbols() == {"GOOD": 8}


def test_garbage_and_gaps_are_no_other_order(desk):
    sessions = days(20, date(2024, 1, 2)) + days(20, date(2024, 6, 3)) + days(20, date(2024, 9, 4))
    put(desk, sessions, "%m/%d/%Y", more=f"garbage,{BAR}\n02/30/2024,{BAR}\n")
    source = FilesSource(FilesSettings(path=str(desk.folder)))
    assert source.set_aside == ()
    assert source.unreadable.height == 2
    assert desk.read()[0]["date"].to_list() == sessions


def test_many_symbols_one_after_another_are_no_other_order(desk):
    header = f"{HEADER},Ticker"
    text = "".join(
        lines(header, "{d}," + BAR + f",S{month}", days(250, date(2023, month, 12)), "%m/%d/%Y").split("\n", 1)[1]
        for month in range(1, 13)
    )
    desk.put("all.csv", f"{header}\n{text}")
    assert desk.read()[0].height == 12 * 250


def test_what_fits_no_reading_is_not_taken(desk):
    put(desk, days(8), "%d;%m;%y")
    assert desk.backfill().code == FAILED
