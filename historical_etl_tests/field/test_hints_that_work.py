"""What a person is advised to type helps: hints about files, holds, and words about what became of a command."""

from datetime import UTC, datetime, timedelta

import pytest

from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, days, desk, lines

__all__ = ["desk"]

SPLITS = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits"
HEADER = "date,open,high,low,close,volume"
BAR = "{d},10.{n},11,9,10.5,100{n}"


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("MacroTrends_Data_Download_AAPL", "AAPL"),
        ("macrotrends_AAPL", "AAPL"),
        ("DailyPrices_IBM", "IBM"),
        ("Yahoo_BRK-B_hist", "BRK-B"),
        ("Download Data - STOCK_US_XNAS_AAPL", "AAPL"),
        ("AAPL_MSFT", "AAPL"),
        ("aapl_my-words", "AAPL"),
    ],
)
def test_the_symbol_that_a_name_may_hold(desk, name, guess):
    desk.put(f"{name}.csv", lines(HEADER, BAR, days()))
    message = desk.refusal()
    assert f"is it {guess!r}?" in message
    assert f"FILES_SYMBOLS={name}={guess}" in message


def test_no_vendor_is_taken_for_a_symbol(desk):
    desk.put("MacroTrends_prices_download_ohlc_of.csv", lines(HEADER, BAR, days()))
    assert "is it" not in desk.refusal()


JQUANTS = (
    "Code,Date,Open,High,Low,Close,Volume,AdjustmentOpen,AdjustmentHigh,AdjustmentLow,AdjustmentClose,AdjustmentVolume"
)


def test_the_adjusted_close_is_hinted_at_and_no_adjusted_open(desk):
    desk.put("x.csv", lines(JQUANTS, "72160,{d},10,11,9,10,500,10,11,9,10,500", days()))
    message = desk.refusal()
    assert "FILES_COLUMNS=adj_close=AdjustmentClose" in message
    assert "AdjustmentOpen'" not in message
    frame, _ = desk.read(columns={"adj_close": "AdjustmentClose"})
    assert frame.height == 8


def test_of_several_columns_none_is_mapped_by_chance(desk):
    desk.put("x.csv", lines("Date,Open,Last Price,Price Last,Volume", "{d},10,11,9,1000", days()))
    message = desk.refusal()
    assert "'Last Price' or 'Price Last'" in message
    assert "close=<name in the file>" in message


def test_a_row_of_a_dividend_alone_contradicts_nothing(desk):
    header = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits"
    text = lines(header, "{d},10,11,9,10,10,100{n},0.0,0.0", days(30))
    desk.put("AAA.csv", text + f"{days(30)[-1]},,,,,,,0.05,0.0\n")
    answer = desk.backfill()
    assert "Nothing of it is taken" not in answer.err
    assert "different values" not in answer.err
    assert desk.symbols() == {"AAA": 30}


@pytest.mark.parametrize("twin", ["10.5,11,9,10.5,", ",,,10.5,1003", "10.5,11,9,10.5000001,1003"])
def test_nulls_and_rounding_are_no_other_values(desk, twin):
    text = lines(HEADER, "{d},10.5,11,9,10.5,1003", days())
    desk.put("AAA.csv", text + f"{days()[3]},{twin}\n")
    assert "different values" not in desk.backfill().err
    assert desk.symbols() == {"AAA": 8}


def test_other_values_are_reported(desk):
    desk.put("BBB.csv", lines(HEADER, BAR, days()))
    desk.put("AAA.csv", lines(HEADER, "{d},10.5,11,9,10.5,1003", days()) + f"{days()[3]},10.5,11,9,10.7,1003\n")
    assert "different values" in desk.backfill().err


def test_the_hint_of_holds_in_a_first_history_is_one_that_is_taken(desk):
    jump = lines("", "{d},1900,1900,1900,1900,10{n}", days(20)[15:]).lstrip()
    desk.put("AAA.csv", lines(HEADER, "{d},10.5,11,9,10.5,100{n}", days(15)) + jump)
    assert desk.backfill().code == INCOMPLETE
    held = desk.cli("holds")
    assert "holds accept AAA" in held.out + held.err
    for command in ("holds", "verify", "doctor"):
        answer = desk.cli(command)
        assert "gaps waive" not in answer.out + answer.err
    assert desk.cli("gaps", "waive", "AAA", "--from", str(days(20)[15]), "--reason", "x").code != FINE


def test_the_hint_of_holds_beside_a_stored_history_is_taken(desk):
    first = lines(HEADER, "{d},10.5,11,9,10.5,100{n}", days(15))
    desk.put("AAA.csv", first)
    desk.put("BBB.csv", lines(HEADER, BAR, days(20)))
    desk.backfill()
    desk.put("AAA.csv", first + lines("", "{d},1900,1900,1900,1900,10{n}", days(20)[15:]).lstrip())
    desk.cli("update")
    answer = desk.cli("holds")
    words = next(line for line in (answer.out + answer.err).splitlines() if "gaps waive" in line)
    command = words.split("gaps waive")[1].split("--reason")[0].split()
    assert desk.cli("gaps", "waive", *command, "--reason", "x").code == FINE


def test_a_rename_that_is_to_come_is_refused(desk):
    desk.put("AAA.csv", lines(HEADER, BAR, days()))
    desk.backfill()
    answer = desk.cli("rename", "AAA", "BBB", "--on", str(datetime.now(UTC).date() + timedelta(days=9)))
    assert answer.code != FINE
    assert "is to come" in answer.err
    assert desk.symbols() == {"AAA": 8}


def test_fewer_rows_are_reported_as_fewer(desk):
    first, later = days(40), days(42)
    for name in ("AAA", "BBB"):
        desk.put(f"{name}.csv", lines(SPLITS, "{d},100,100,100,100,100,1000,0,0", first))
    desk.backfill()
    text = lines(SPLITS, "{d},50,50,50,50,50,1000,0,0", later[10:])
    desk.put("AAA.csv", text.replace(f"{later[41]},50,50,50,50,50,1000,0,0", f"{later[41]},50,50,50,50,50,1000,0,2"))
    desk.put("BBB.csv", lines(SPLITS, "{d},100,100,100,100,100,1000,0,0", later))
    desk.cli("update")
    assert [row["code"] for row in desk.query("SELECT code FROM holds")] == ["incomplete_history"]
    answer = desk.cli("holds", "accept", "AAA", "--reason", "x")
    assert "8 row(s) fewer" in answer.out
