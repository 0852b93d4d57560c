"""B7, C5: tables with a column for each field of each ticker are read where their names can mean one thing only."""

from datetime import date

import polars as pl
import pytest

from historical_etl_tests.field.files_at_hand import FAILED, FINE, days, desk

__all__ = ["desk"]

TICKERS = ("AAPL", "BRK-B")
FIELDS = {"Close": 100.5, "High": 101.5, "Low": 99.5, "Open": 100.0, "Volume": 1000.0}
EXPECTED = [(symbol, 100.0, 101.5, 99.5, 100.5, 1000.0) for symbol in TICKERS]


def table(rows: list[str], *, numbered: bool = False) -> str:
    values = ",".join(str(value) for value in FIELDS.values() for _ in TICKERS)
    lines = [f"{f'{n},' if numbered else ''}{day},{values}" for n, day in enumerate(days())]
    return "\n".join([*rows, *lines]) + "\n"


def bars(desk, **settings) -> list[tuple[object, ...]]:
    frame, _ = desk.read(**settings)
    assert (
        frame.group_by("symbol").agg(pl.col("date").sort())["date"].to_list() == [days()] * frame["symbol"].n_unique()
    )
    return frame.select("symbol", "open", "high", "low", "close", "volume").unique().sort("symbol").rows()


PAIRS = [(field, ticker) for field in FIELDS for ticker in TICKERS]
PRICES, NAMES = ",".join(field for field, _ in PAIRS), ",".join(ticker for _, ticker in PAIRS)
HEADERS = {
    "three rows": ([f"Price,{PRICES}", f"Ticker,{NAMES}", "Date" + "," * len(PAIRS)], False),
    "no name of the index": ([f"Price,{PRICES}", f"Ticker,{NAMES}"], False),
    "the ticker first": ([f"Ticker,{NAMES}", f"Price,{PRICES}", "Date" + "," * len(PAIRS)], False),
    "dates in a column": ([f"Price,Date,{PRICES}", f"Ticker,,{NAMES}"], True),
    "without an index": ([f"Date,{PRICES}", f",{NAMES}"], False),
    "read and written again": (
        ["Price," + ",".join(f"{f}{'.1' if t == TICKERS[1] else ''}" for f, t in PAIRS), f"Ticker,{NAMES}",
         "Date" + "," * len(PAIRS)], False,
    ),
    "tuples": (["Date," + ",".join(f"\"('{f}', '{t}')\"" for f, t in PAIRS)], False),
    "tuples, the ticker first": (["Date," + ",".join(f"\"('{t}', '{f}')\"" for f, t in PAIRS)], False),
    "tuples with an index": (["\"('Date', '')\"," + ",".join(f"\"('{f}', '{t}')\"" for f, t in PAIRS)], False),
    "joined by _": (["Date," + ",".join(f"{f}_{t}" for f, t in PAIRS)], False),
    "the ticker before _": (["Date," + ",".join(f"{t}_{f}" for f, t in PAIRS)], False),
    "quantmod": (["Index," + ",".join(f"{t}.{f}" for f, t in PAIRS)], False),
    "a space": (["Date," + ",".join(f"{t} {f}" for f, t in PAIRS)], False),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "numbered"), HEADERS.values(), ids=list(HEADERS))
def test_headers(desk, rows, numbered):
    desk.put("download.csv", table(rows, numbered=numbered))
    assert bars(desk) == EXPECTED


INDEXES = {"Date": "Date", "without a name": "__index_level_0__", "in a column": "('Date', '')"}


@pytest.mark.parametrize("index", INDEXES.values(), ids=list(INDEXES))
@pytest.mark.parametrize("form", ["('{f}', '{t}')", "('{t}', '{f}')", "{t}_{f}"])
@pytest.mark.parametrize("last", [True, False])
def test_parquet(desk, index, form, last):
    values = {form.format(f=f, t=t): [FIELDS[f]] * len(days()) for f, t in PAIRS}
    dates = {index: days()}
    pl.DataFrame({**values, **dates} if last else {**dates, **values}).write_parquet(desk.folder / "download.parquet")
    assert bars(desk) == EXPECTED


def test_days_that_one_ticker_has_not_are_not_its_rows(desk):
    frame = pl.DataFrame(
        {"('Close', 'AAPL')": [1.0, None, 3.0], "('Volume', 'AAPL')": [1.0, None, 3.0], "('Close', 'MSFT')": [1.0] * 3,
         "('Volume', 'MSFT')": [1] * 3, "Date": days(3)}
    )  # fmt: skip
    frame.write_parquet(desk.folder / "download.parquet")
    read, _ = desk.read()
    assert read.group_by("symbol").len().sort("symbol").rows() == [("AAPL", 2), ("MSFT", 3)]


def test_one_ticker_with_its_adjusted_close_and_events_fills_a_store(desk):
    names = ["Adj Close", "Close", "High", "Low", "Open", "Volume", "Dividends", "Stock Splits"]
    columns = {f"('{name}', 'AAPL')": [100.0 if name not in names[-2:] else 0.0] * 8 for name in names}
    columns["('Dividends', 'AAPL')"][3] = 1.0
    pl.DataFrame({**columns, "Date": days()}).write_parquet(desk.folder / "AAPL.parquet")
    answer = desk.backfill()
    assert answer.code == FINE, answer.err
    assert desk.symbols() == {"AAPL": 8}
    assert desk.query("SELECT date, dividend FROM actions") == [{"date": str(days()[3]), "dividend": 1.0}]


def test_a_file_of_quantmod(desk):
    names = ("Open", "High", "Low", "Close", "Volume", "Adjusted")
    rows = [f'"{day}",100,101.5,99.5,100.5,1000,90.5' for day in days()]
    header = ",".join(f'"AAPL.{name}"' for name in names)
    desk.put("whatever.csv", "\n".join([f'"Index",{header}', *rows]))
    frame, _ = desk.read()
    assert frame.select("symbol", "close", "adj_close").unique().rows() == [("AAPL", 100.5, 90.5)]


SIDES = {
    "bid and ask": "Date,BID_Open,BID_Close,ASK_Open,ASK_Close,Volume",
    "a column that is no pair": "Date,AAPL_Open,AAPL_Close,Sector,AAPL_Volume",
    "closes only": "Date,AAPL Close,MSFT Close,Note",
}


@pytest.mark.parametrize("header", SIDES.values(), ids=list(SIDES))
def test_what_may_be_something_else_is_not_guessed(desk, header):
    desk.put("download.csv", "\n".join([header, *(f"{day}{',100' * header.count(',')}" for day in days())]))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "No column for" in answer.err


def test_a_ticker_that_cannot_be_written_is_refused_alone(desk):
    names = [("Close", "AAPL"), ("Close", "Not A Symbol"), ("Volume", "AAPL"), ("Volume", "Not A Symbol")]
    pl.DataFrame(
        {**{f"('{f}', '{t}')": [100.0] * 8 for f, t in names}, "Date": days()}
    ).write_parquet(desk.folder / "download.parquet")  # fmt: skip
    frame, _ = desk.read()
    assert set(frame["symbol"]) == {"AAPL"}


def test_excel_s_dates_in_such_a_table(desk):
    frame = pl.DataFrame({"('Close', 'AAPL')": [100.0] * 8, "('Volume', 'AAPL')": [1] * 8,
        "Date": [(day - date(1899, 12, 30)).days for day in days()]})  # fmt: skip
    frame.write_parquet(desk.folder / "download.parquet")
    assert "HISTORICAL_ETL_FILES_DATE_FORMAT=excel" in desk.refusal()
    assert desk.read(date_format="excel")[0]["date"].to_list() == days()
