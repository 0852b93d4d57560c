"""B7: an error of a file says what the file is, and the step that helps."""

import zipfile
from datetime import date

import polars as pl
import pytest

from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

UNUSABLE = 2  # what a setting that cannot work exits with

HEADER, ROW = "Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000"
GOOD = lines(HEADER, ROW, days())


def excel(day: date) -> int:
    return (day - date(1899, 12, 30)).days


@pytest.mark.parametrize("form", ["{}", "{}.0"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_days_as_excel_counts_them(desk, form, kind):
    if kind == "csv":
        text = "\n".join([HEADER, *(f"{form.format(excel(day))},100,101,99,100,1000" for day in days())])
        path = desk.put("AAA.csv", text)
    else:
        path = desk.folder / "AAA.parquet"
        numbers = [float(excel(day)) if "." in form else excel(day) for day in days()]
        pl.DataFrame({"date": numbers, "close": 100.0, "volume": 1.0}).write_parquet(path)
    desk.put("BBB.csv", GOOD)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"BBB": 8}
    for fact in (f"{excel(days()[0])}", "Excel", str(days()[0]), "HISTORICAL_ETL_FILES_DATE_FORMAT=excel", str(path)):
        assert fact in answer.err
    assert desk.backfill(DATE_FORMAT="excel").code == FINE
    assert desk.symbols() == {"AAA": 8, "BBB": 8}
    assert desk.column("date") == [str(day) for day in days()] * 2


def test_days_since_1970_are_not_taken_for_excel_s(desk):
    numbers = [(day - date(1970, 1, 1)).days for day in days()]
    desk.put("AAA.csv", "\n".join([HEADER, *(f"{number},100,101,99,100,1000" for number in numbers)]))
    refused = desk.refusal()
    assert f"{days()[0]} if they count from 1970" in refused


def packed(desk, name: str) -> None:
    with zipfile.ZipFile(desk.folder / name, "w") as file:
        file.writestr("AAPL.csv", GOOD)


def test_a_folder_of_zips(desk):
    for name in ("2023.zip", "2024.zip"):
        packed(desk, name)
    answer = desk.backfill()
    assert answer.code == UNUSABLE
    for fact in ("2 .zip", "unpack", "HISTORICAL_ETL_FILES_PATH"):
        assert fact in answer.err


STEPS = {".zip": "unpack", ".xlsx": "as CSV", ".json": "as CSV", ".pkl": "to_csv", ".h5": "to_csv", ".7z": "unpack"}


@pytest.mark.parametrize(("ending", "step"), STEPS.items())
def test_a_path_that_is_another_kind_of_file(desk, ending, step):
    path = desk.put(f"prices{ending}", b"\x00\x01")
    for setting in (desk.folder, path):
        desk.cli.set(SOURCE="files", FILES_PATH=str(setting))
        answer = desk.cli("backfill")
        assert answer.code == UNUSABLE
        assert ending in answer.err
        assert step in answer.err


def test_others_beside_the_files_are_reported_with_the_step(desk):
    desk.put("AAPL.csv", GOOD)
    packed(desk, "older.zip")
    answer = desk.backfill()
    assert "older.zip" in answer.err
    assert "unpack" in answer.err


KINDS = {
    "zip": (b"PK\x03\x04\x14\x00\x08", "This is a zip"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "an Excel workbook"),
    "parquet": (b"PAR1\x15\x04\x15", "rename it to AAPL.parquet"),
    "json": (b'{"Note": "5 calls a minute"}', "This is JSON, not CSV: {"),
    "json, a list": (b'[{"date": "2024-01-02"}]', "This is JSON, not CSV: ["),
    "sqlite": (b"SQLite format 3\x00", "a SQLite database"),
    "UTF-16": (GOOD.encode("utf-16"), "This is UTF-16"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "This is PDF"),
    "bz2": (b"BZh91AY&SY\x00", "packed by bzip2"),
    "arrow": (b"ARROW1\x00\x00", "an Arrow file"),
    "HTML": (b"<html>\n<p>\n", "This is HTML"),
    "a message": (b"Thank you for using our API! The limit is 25 requests per day.\n", "no table of prices; it begins"),
}


@pytest.mark.parametrize(("content", "kind"), KINDS.values(), ids=list(KINDS))
def test_a_csv_that_is_none(desk, content, kind):
    desk.put("MSFT.csv", GOOD)
    path = desk.put("AAPL.csv", content)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert kind in answer.err
    assert str(path) in answer.err
    assert desk.symbols() == {"MSFT": 8}


def test_a_parquet_that_is_text(desk):
    desk.put("AAPL.parquet", GOOD)
    assert "rename it to AAPL.csv" in desk.refusal()


@pytest.mark.parametrize("folder", ["in", "csv", "us"])
def test_a_name_that_is_no_symbol_and_no_column(desk, folder):
    path = desk.put(f"{folder}/DATA.csv", GOOD)
    refused = desk.refusal()
    assert str(path) in refused
    assert f"is it '{folder.upper()}'" not in refused
    assert f"={folder.upper()}" not in refused
    for step in ("HISTORICAL_ETL_FILES_SYMBOLS=DATA=", "call the file by it, such as AAPL.csv"):
        assert step in refused


def test_columns_that_may_hold_the_symbol_are_named(desk):
    text = lines(f"{HEADER},Company,Paper", ROW + ",Apple,x1", days())
    desk.put("DATA.csv", text)
    assert "HISTORICAL_ETL_FILES_COLUMNS=symbol=<Company or Paper>" in desk.refusal()


def test_a_file_with_an_adjusted_close_alone(desk):
    desk.put("AAPL.csv", lines("Date,Open,High,Low,Adj Close,Volume", ROW, days()))
    assert "HISTORICAL_ETL_FILES_COLUMNS=close=Adj Close" in desk.refusal()
    assert desk.read(columns={"close": "Adj Close"})[0]["close"].to_list() == [100.0] * 8


def test_a_block_of_columns_for_each_symbol(desk):
    header = "AAPL US Equity,,,MSFT US Equity,,\nDate,PX_LAST,PX_VOLUME,Date,PX_LAST,PX_VOLUME"
    desk.put("bdh.csv", lines(header, "{d},100.5,1000,{d},200.5,2000", days()))
    refused = desk.refusal()
    assert "2 columns are called 'Date'" in refused
    assert refused == Saying("one row", "each date and symbol")


def test_a_file_with_a_header_alone_is_reported(desk):
    desk.put("AAPL.csv", f"{HEADER}\n")
    desk.put("MSFT.csv", GOOD)
    answer = desk.backfill()
    assert answer.code == FINE
    assert answer.err == Saying("1 file", "no rows", "AAPL.csv")


EVENTS = {"dividends": "Date,Dividends", "splits": "Date,Stock Splits", "capital gains": "Date,Capital Gains"}


@pytest.mark.parametrize("header", EVENTS.values(), ids=list(EVENTS))
def test_a_file_of_events_alone(desk, header):
    desk.put("AAPL.csv", GOOD)
    path = desk.put("AAPL_events.csv", f"{header}\n2024-03-04,0.24\n")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert str(path) in answer.err
    assert "has events and no prices" in answer.err
    assert desk.symbols() == {"AAPL": 8}
