"""A5: one ticker on two markets is two symbols; the market is left out only where all symbols have the same."""

import pytest

from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

STOOQ = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"


def stooq(ticker: str, close: int, sessions) -> str:
    row = ticker + f",D,{{d}},000000,{close},{close + 1},{close - 1},{close},1000,0"
    return lines(STOOQ, row, sessions, "%Y%m%d")


@pytest.mark.parametrize("layout", [None, "stooq"])
def test_two_markets_are_kept_apart_and_that_is_said(desk, layout):
    desk.put("de/sap.de.txt", stooq("SAP.DE", 100, days(4)))
    desk.put("us/sap.us.txt", stooq("SAP.US", 200, days(8)[4:]))
    desk.put("us/brk-b.us.txt", stooq("BRK-B.US", 300, days()))
    answer = desk.backfill(**({"LAYOUT": layout} if layout else {}))
    assert answer.code == INCOMPLETE, "sap.de ends before the others: its gap is reported"
    assert desk.symbols() == {"BRK.B.US": 8, "SAP.DE": 4, "SAP.US": 4}
    assert answer.err == Saying("2 markets", "keep their endings")


def test_one_market_is_left_out_and_classes_are_written_our_one_way(desk):
    desk.put("aapl.us.txt", stooq("AAPL.US", 100, days()))
    desk.put("brk-b.us.txt", stooq("BRK-B.US", 300, days()))
    answer = desk.backfill()
    assert answer.code == FINE
    assert desk.symbols() == {"AAPL": 8, "BRK.B": 8}
    assert answer.err == Saying(".US", "left out")


def test_files_of_kaggles_huge_dataset_have_the_market_in_their_names_only(desk):
    row = "{d},100,101,99,100,1000,0"
    for name in ("aapl", "brk-b"):
        desk.put(f"Stocks/{name}.us.txt", lines("Date,Open,High,Low,Close,Volume,OpenInt", row, days()))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 8, "BRK.B": 8}


@pytest.mark.parametrize(("how", "symbol"), [("keep", "SAP.DE"), ("strip", "SAP"), ("auto", "SAP")])
def test_a_setting_says_what_becomes_of_it(desk, how, symbol):
    desk.put("sap.de.txt", stooq("SAP.DE", 100, days()))
    assert desk.backfill(MARKET_SUFFIX=how).code == FINE
    assert desk.symbols() == {symbol: 8}


def test_symbols_of_other_files_keep_what_looks_like_a_market(desk):
    for name in ("VOD.L", "SAP.DE", "BMW.DE"):
        desk.put(f"{name}.csv", lines("Date,Close,Volume", "{d},100,1000", days()))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"BMW.DE": 8, "SAP.DE": 8, "VOD.L": 8}


def test_a_name_without_a_market_is_not_joined_with_its_namesake(desk):
    desk.put("AAPL.csv", lines("Date,Close,Volume", "{d},10,1000", days(4)))
    desk.put("AAPL.US.csv", lines("Date,Close,Volume", "{d},100,1000", days(8)[4:]))
    assert desk.backfill().code == INCOMPLETE, "AAPL ends before the other: its gap is reported"
    assert desk.symbols() == {"AAPL": 4, "AAPL.US": 4}
