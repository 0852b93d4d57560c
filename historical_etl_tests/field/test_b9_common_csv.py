"""B9: the commonest CSV files are read without a setting; what can mean two things is asked for, with the guess."""

from datetime import UTC, datetime

import polars as pl
import pytest

from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

BAR = "100,101.5,99,100.5,1000"
UNNAMED = ",Open,High,Low,Close,Volume"
HEADERS = {
    "pandas' index without a name": UNNAMED,
    "pandas' index read and written again": "Unnamed: 0,Open,High,Low,Close,Volume",
    "day": "day,open,high,low,close,volume",
    "Datetime": "Datetime,Open,High,Low,Close,Volume",
    "trade date": "Trade Date,Open Price,High Price,Low Price,Close Price,Total Volume",
    "Bloomberg": "Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
    "LSEG": "Exchange Date,Open,High,Low,Trade Close,Volume",
    "R's zoo": "Index,Open,High,Low,Close,Volume",
    "Polygon's bars": "t,o,h,l,c,v",
    "stooq.pl": "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_headers(desk, header):
    desk.put("AAA.csv", lines(header, "{d}," + BAR, days()))
    frame, _ = desk.read()
    assert frame.select("symbol", "open", "high", "low", "close", "volume").unique().rows() == [
        ("AAA", 100.0, 101.5, 99.0, 100.5, 1000.0)
    ]
    assert frame["date"].to_list() == days()


def test_one_of_them_fills_a_store(desk):
    desk.put("AAA.csv", lines(UNNAMED, "{d} 00:00:00+00:00," + BAR, days()))
    answer = desk.backfill()
    assert answer.code == FINE, answer.err
    assert answer.err == Saying("%Y-%m-%d", "midnight")
    assert desk.column("date") == [day.isoformat() for day in days()]


DATES = {
    "midnight": "%Y-%m-%d 00:00:00", "ISO with a T": "%Y-%m-%dT00:00:00", "midnight UTC": "%Y-%m-%d 00:00:00+00:00",
    "midnight in New York": "%Y-%m-%d 00:00:00-05:00", "Zulu": "%Y-%m-%dT00:00:00.000Z", "digits": "%Y%m%d",
    "slashes, year first": "%Y/%m/%d", "in words": "%b %d, %Y", "with a full month": "%B %d, %Y",
    "two-digit year": "%d-%b-%y", "dots": "%d.%m.%Y", "US": "%m/%d/%Y", "US, short year": "%m/%d/%y",
    "European": "%d/%m/%Y", "SAS": "%d%b%Y", "Google's close": "%m/%d/%Y 16:00:00", "dashes, month first": "%m-%d-%Y",
    "New York's midnight in UTC": "%Y-%m-%d 05:00:00+00:00", "the same, Zulu": "%Y-%m-%dT05:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize("form", DATES.values(), ids=list(DATES))
def test_dates(desk, form):
    # Winter only, and past the twelfth of a month: some day proves what comes first.
    sessions = days(20, days(1)[0].replace(month=2, day=1))
    desk.put("AAA.csv", lines(UNNAMED if "," not in form else UNNAMED.replace(",", ";"), '"{d}"'
        + (f",{BAR}" if "," not in form else f",{BAR}".replace(",", ";")), sessions, form))  # fmt: skip
    frame, notes = desk.read()
    assert frame["date"].to_list() == sessions
    assert form == "%Y%m%d" or any("are read as" in note for note in notes)


def test_moments_since_1970_are_days_of_the_exchange(desk):
    moments = [int(datetime(d.year, d.month, d.day, 14, 30, tzinfo=UTC).timestamp()) for d in days()]
    desk.put("AAA.csv", "time,open,high,low,close,Volume\n" + "\n".join(f"{m},{BAR}" for m in moments))
    assert desk.read()[0]["date"].to_list() == days()


def test_dates_that_can_be_read_in_two_ways_are_asked_for(desk):
    early = [day for day in days(60) if day.day in (4, 5, 6, 7) and day.month in (3, 4)][:2]
    path = desk.put("AAA.csv", lines(UNNAMED, "{d}," + BAR, early, "%m/%d/%Y"))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "may be read in two ways" in answer.err
    assert str(path) in answer.err
    assert "HISTORICAL_ETL_FILES_DATE_FORMAT=%m/%d/%Y" in answer.err
    assert desk.backfill(DATE_FORMAT="%m/%d/%Y").code in (FINE, INCOMPLETE)
    assert desk.column("date") == [day.isoformat() for day in early]


def test_another_file_of_the_folder_may_show_it(desk):
    early = [day for day in days(60) if day.day in (4, 5, 6, 7) and day.month in (3, 4)][:2]
    desk.put("AAA.csv", lines(UNNAMED, "{d}," + BAR, early, "%m/%d/%Y"))
    desk.put("BBB.csv", lines(UNNAMED, "{d}," + BAR, days(20), "%m/%d/%Y"))
    frame, _ = desk.read()
    assert frame.filter(pl.col("symbol") == "AAA")["date"].to_list() == early


def test_weekends_may_show_it(desk):
    # As day/month these would be a Saturday and Sundays.
    sessions = [day for day in days(90) if day.day <= 12]
    desk.put("AAA.csv", lines(UNNAMED, "{d}," + BAR, sessions, "%m/%d/%Y"))
    assert desk.read()[0]["date"].to_list() == sessions


NUMBERS = {
    "nasdaq.com": ("Date,Close/Last,Volume,Open,High,Low", '{d},$1100.50,"1,234,567",$1100.00,$1101.50,$1099.00'),
    "with thousands": (
        "Date,Close,Volume,Open,High,Low",
        '{d},"1,100.50","1,234,567","1,100.00","1,101.50","1,099.00"',
    ),
    "investing.com": (
        '"Date","Price","Open","High","Low","Vol.","Change %"',
        '"{d}","1,100.50","1,100.00","1,101.50","1,099.00","1.234567M","-0.12%"',
    ),
    "German": ("Datum;Open;High;Low;Close;Volume", "{d};1100,00;1101,50;1099,00;1100,50;1234567"),
    "German with thousands": ("Date;Open;High;Low;Close;Volume", "{d};1.100,00;1.101,50;1.099,00;1.100,50;1.234.567"),
    "tabs": ("Date\tOpen\tHigh\tLow\tClose\tVolume", "{d}\t1100\t1101.5\t1099\t1100.5\t1234567"),
    "semicolons and points": ("Date;Open;High;Low;Close;Volume", "{d};1100;1101.5;1099;1100.5;1234567"),
}


@pytest.mark.parametrize(("header", "row"), NUMBERS.values(), ids=list(NUMBERS))
def test_numbers(desk, header, row):
    desk.put("AAA.csv", lines(header, row, days()))
    frame, _ = desk.read(columns={"date": "Datum"} if "Datum" in header else {})
    assert frame.select("open", "high", "low", "close", "volume").unique().rows() == [
        (1100.0, 1101.5, 1099.0, 1100.5, 1234567.0)
    ]


def test_a_price_that_may_be_a_thousand_or_one_is_not_guessed(desk):
    row = '{d},"1,101","1,102","1,099","1,101","1,234,567"'
    desk.put("AAA.csv", lines("Date,Open,High,Low,Close,Volume", row, days()))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert answer.err == Saying("'1,101'", "'.'", "decimal")
    assert "HISTORICAL_ETL_FILES_DECIMAL" in answer.err
    assert desk.backfill(DECIMAL=".").code == FINE
    assert desk.column("close") == [1101.0] * 8


@pytest.mark.parametrize("null", ["", "-", "--", "N/A", "NA", "#N/A", "null", "None", "NaN", "nan", r"\N", ".", "n.a."])
def test_what_means_no_value(desk, null):
    text = lines("Date,Open,High,Low,Close,Adj Close,Volume", "{d},100,101,99,100,50,1000", days())
    desk.put("AAA.csv", text.replace(f"{days()[3]},100", f"{days()[3]},{null}"))
    assert desk.read()[0]["open"].to_list() == [100.0] * 3 + [None] + [100.0] * 4


def test_a_number_of_rows_that_pandas_wrote_is_no_date(desk):
    desk.put("AAA.csv", lines(",date,close,volume", "{n},{d},100,1000", days()))
    assert desk.read()[0]["date"].to_list() == days()


def test_lines_about_the_sheet_before_the_header(desk):
    about = "Security,AAA US Equity\nStart Date,2024-03-01\nPeriod,D\n\n"
    desk.put("AAA.csv", about + lines("Date,PX_LAST,PX_VOLUME", "{d},100,1000", days()))
    frame, notes = desk.read()
    assert frame["close"].to_list() == [100.0] * 8
    assert Saying("lines before the header", "left out") in notes


def test_a_file_without_a_header_is_asked_for_one(desk):
    desk.put("AAA.csv", lines("2024-02-29," + BAR, "{d}," + BAR, days()))
    assert desk.refusal() == Saying("first line", "names are expected")


@pytest.mark.parametrize(("header", "guess"), [("Date,Last,Volume", "close (is it 'Last'?)"),
    ("Date,Close,Qty", "volume (is it 'Qty'?)"), ("Session,Close,Volume", "date (is it 'Session'?)"),
    ("Date,Opening Prc,Close,Volume", "open (is it 'Opening Prc'?)")])  # fmt: skip
def test_a_column_that_may_be_ours_is_asked_about_with_the_guess(desk, header, guess):
    row = ",".join("{d}" if name in ("Date", "Session") else "100" for name in header.split(","))
    desk.put("AAA.csv", lines(header, row, days()))
    assert guess in desk.refusal()
    ours, theirs = guess.split()[0], guess.split("'")[1]
    assert desk.read(columns={ours: theirs})[0].height == 8
