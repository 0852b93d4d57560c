"""A3: an adjusted close is known however its column is spelled; what only looks like one is asked about."""

import pytest

from historical_etl_tests.field.files_at_hand import FINE, days, desk, lines

__all__ = ["desk"]

#: Header of an export → a row of it. Close halves by a split on the sixth day, the adjusted close goes on.
EXPORTS = {
    "Alpha Vantage": "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
    "EODHD": "Date,Open,High,Low,Close,Adjusted_close,Volume",
    "Yahoo": "Date,Open,High,Low,Close,Adj Close,Volume",
    "Yahoo's page": "Date,Open,High,Low,Close*,Adj Close**,Volume",
    "Tiingo": "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
    "Quandl WIKI": (
        "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume"
    ),
    "Sharadar": "ticker,date,open,high,low,close,volume,closeadj,closeunadj,lastupdated",
    "of one's own": "Date,Open,High,Low,Close,close_adj,Vol.",
    "Alpha Vantage's JSON": "date,1. open,2. high,3. low,4. close,5. adjusted close,6. volume",
}
VALUES = {
    "open": "100", "high": "101", "low": "99", "close": "100", "volume": "1000", "vol": "1000", "adjclose": "50.5",
    "dividend": "0.0", "split": "1.0", "ticker": "AAA", "closeunadj": "77", "lastupdated": "2024-05-01",
}  # fmt: skip


def row(header: str) -> str:
    def value(name: str) -> str:
        bare = name.lower()
        if "date" in bare or "timestamp" in bare:
            return VALUES.get(bare, "{d}")
        for words, key in (
            (("unadj",), "closeunadj"), (("adj", "clos"), "adjclose"), (("div",), "dividend"), (("split",), "split"),
            (("open",), "open"), (("high",), "high"), (("low",), "low"), (("clos",), "close"), (("vol",), "volume"),
            (("ticker",), "ticker"),
        ):  # fmt: skip
            if all(word in bare for word in words):
                return VALUES[key]
        raise AssertionError(name)

    return ",".join(value(name) for name in header.split(","))


@pytest.mark.parametrize("header", EXPORTS.values(), ids=list(EXPORTS))
def test_the_adjusted_close_of_an_export_is_taken(desk, header):
    desk.put("AAA.csv", lines(header, row(header), days()))
    frame, _ = desk.read()
    assert frame.select("close", "volume", "adj_close").unique().rows() == [(100.0, 1000.0, 50.5)]


def test_every_column_that_is_not_read_is_named_once(desk):
    header = EXPORTS["Quandl WIKI"]
    for name in ("AAA", "BBB"):
        desk.put(f"{name}.csv", lines(header, row(header), days()))
    answer = desk.backfill()
    reported = "columns that are not read: Adj. Open, Adj. High, Adj. Low, Adj. Volume"
    assert answer.err.count(reported) == 1
    document = desk.cli("backfill", "--json").document
    assert any(reported in note for note in document["notes"])


@pytest.mark.parametrize("name", ["Adj Cls", "adj price", "Adjusted Closing", "close adj total"])
def test_a_column_that_may_be_the_adjusted_close_is_asked_about(desk, name):
    desk.put("AAA.csv", lines(f"Date,Open,High,Low,Close,{name},Volume", "{d},100,101,99,100,50.5,1000", days()))
    refused = desk.refusal()
    assert f"adj_close (is it '{name}'?)" in refused
    assert f"HISTORICAL_ETL_FILES_COLUMNS=adj_close={name}" in refused
    assert desk.read(columns={"adj_close": name})[0]["adj_close"].to_list() == [50.5] * 8


def test_one_that_is_known_not_to_be_it_can_be_left_out(desk):
    desk.put("AAA.csv", lines("Date,Close,Adj Cls,Volume", "{d},100,50.5,1000", days()))
    assert desk.backfill(IGNORE="Adj Cls").code == FINE
    assert desk.column("adj_close") == [None] * 8


def test_a_mapped_date_does_not_hide_the_adjusted_close(desk):
    header = EXPORTS["Alpha Vantage"]
    desk.put("AAA.csv", lines(header, row(header), days()))
    assert desk.backfill(COLUMNS="date=timestamp").code == FINE
    assert desk.column("adj_close") == [50.5] * 8
