"""A4: a symbol comes from where one is named; a file's name that is a date, a number or a word is none."""

import polars as pl
import pytest

from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

PLAIN = lines("Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000", days())
OTHER = lines("Date,Open,High,Low,Close,Volume", "{d},10,11,9,10,500", days())


def test_hive_folders_are_read(desk):
    for symbol, close in (("AAPL", 100.0), ("MSFT", 10.0)):
        folder = desk.folder / f"symbol={symbol}" / "year=2024"
        folder.mkdir(parents=True)
        pl.DataFrame({"date": days(), "close": close, "volume": 1.0}).write_parquet(folder / "part.0.parquet")
    desk.put("ticker=BRK.B/part-00000-9f1c.csv", PLAIN)
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 8, "BRK.B": 8, "MSFT": 8}


def test_a_folder_in_capitals_names_the_symbol_of_files_that_are_named_by_dates(desk):
    half = days(8)
    for name, sessions in (("2023", half[:4]), ("2024", half[4:])):
        desk.put(f"AAPL/{name}.csv", lines("Date,Close,Volume", "{d},100,1000", sessions))
    desk.put("MSFT/20240301.csv", PLAIN)
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 8, "MSFT": 8}


@pytest.mark.parametrize(
    "name",
    ["table", "data", "export", "download", "prices", "quotes", "2023", "20240102", "2024-03-01", "part.0",
     "part-00003", "all_stocks_5yr", "2010-2020", "HistoricalData_1700000000", "stock_prices", "0", "untitled",
     "results (2)"],
)  # fmt: skip
def test_a_name_that_is_no_symbol_is_refused(desk, name):
    path = desk.put(f"{name}.csv", PLAIN)
    refused = desk.refusal()
    for fact in ("the file's name is not a symbol", str(path), "HISTORICAL_ETL_FILES_SYMBOL"):
        assert fact in refused
    assert set(desk.read(symbols={name: "XYZ"})[0]["symbol"]) == {"XYZ"}


@pytest.mark.parametrize("name", ["AAPL-splitadj", "AAPL-alphavantage", "AAPL-2", "AAPL-new", "AAPL_yahoo"])
def test_a_word_behind_a_symbol_is_no_part_of_it(desk, name):
    desk.put(f"{name}.csv", PLAIN)
    refused = desk.refusal()
    assert "is it 'AAPL'?" in refused
    assert f"HISTORICAL_ETL_FILES_SYMBOLS={name}=AAPL" in refused
    assert set(desk.read(symbols={name: "AAPL"})[0]["symbol"]) == {"AAPL"}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("nvda-1999-2014", "NVDA"), ("AAPL_daily", "AAPL"), ("AAPL.US", "AAPL"), ("NASDAQ_AAPL, 1D", "AAPL"),
        ("AAPL (1)", "AAPL"), ("BF-B", "BF-B"), ("brk.b", "BRK.B"), ("aapl_2010-01-01_2020-12-31", "AAPL"),
        ("SPY_max", "SPY"), ("AAPL historical data", "AAPL"), ("AAPL 2", "AAPL"), ("Copy of AAPL", "AAPL"),
        ("daily_adjusted_IBM", "IBM"), ("daily_IBM", "IBM"), ("aapl_us_d", "AAPL"), ("sap_de_d", "SAP.DE"),
        ("^spx_d", "^SPX"), ("BAC-PL", "BAC-PL"), ("BTC-USD", "BTC-USD"),
    ],
)  # fmt: skip
def test_what_exports_add_to_a_symbol_is_taken_off_and_reported(desk, name, symbol):
    desk.put(f"{name}.csv", PLAIN)
    frame, notes = desk.read()
    assert set(frame["symbol"]) == {symbol}
    assert name.upper() == symbol or any(f"is {symbol}" in note for note in notes)


def test_a_column_of_names_that_are_tickers_is_seen(desk):
    rows = [f"{day},1,2,1,2,10,{name}" for name in ("AAL", "BRK.B") for day in days()]
    desk.put("all_stocks_5yr.csv", "\n".join(["date,open,high,low,close,volume,Name", *rows]))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAL": 8, "BRK.B": 8}


def test_a_column_of_names_that_are_no_tickers_is_asked_about(desk):
    rows = [f"{day},2,10,{name}" for name in ("American Airlines", "Berkshire") for day in days()]
    desk.put("STOCK.csv", "\n".join(["date,close,volume,Name", *rows[4:12]]))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "is it 'Name'?" in answer.err


def test_files_of_one_symbol_that_contradict_each_other_are_named(desk):
    paths = desk.put("AAPL.csv", PLAIN), desk.put("AAPL (1).csv", OTHER)
    desk.put("MSFT.csv", PLAIN)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert answer.err == Saying("AAPL", "8 day", "different values")
    assert all(str(path) in answer.err for path in paths)
    assert desk.symbols() == {"MSFT": 8}


def test_where_symbols_come_from_is_said(desk):
    desk.put("AAPL.csv", PLAIN)
    desk.put("symbol=MSFT/part.0.csv", PLAIN)
    desk.backfill()
    checked = desk.cli("doctor", "--offline", "--json").document
    files = next(check for check in checked["checks"] if check["check"] == "files")
    assert files["what"] == Saying("the file's name (1 file")
    assert files["what"] == Saying("symbol=AAPL (1 file")
    adopted = desk.cli("--data-dir", "other", "adopt", str(desk.folder))
    assert "symbols come from the file's name" in adopted.err
