"""A4, A5: rows of one symbol are of one security, on one market, on one basis; else nothing of the symbol is taken."""

from typing import Any

import polars as pl
import pytest

from historical_etl import FetchRequest, FilesSettings, Outcome
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk, lines

__all__ = ["desk"]

HEADER = "Date,Open,High,Low,Close,Volume"
FIRST, SECOND = days(16)[:8], days(16)[8:]


def bars(sessions, close: int = 100, header: str = HEADER, more: str = "") -> str:
    return lines(header, f"{{d}},{close},{close + 1},{close - 1},{close},1000{more}", sessions)


@pytest.fixture
def good(desk):
    desk.put("MSFT.csv", bars(days(16)))
    return desk


def refused(desk, *reported: str, **settings: Any) -> tuple[str, ...]:
    """What is reported, where MSFT alone can be taken."""
    source = FilesSource(FilesSettings(path=str(desk.folder), **settings))
    answer = source.fetch(FetchRequest(tuple(source.members(None, None)), FIRST[0], SECOND[-1]))
    taken = {symbol for symbol, outcome in answer.outcomes.items() if outcome is Outcome.OK}
    assert (taken, set(answer.outcomes.values())) == ({"MSFT"}, {Outcome.OK, Outcome.ERROR})
    assert set(answer.frame["symbol"]) == {"MSFT"}
    said = "\n".join(answer.set_aside)
    for text in reported:
        assert text in said
    return answer.set_aside


def taken(desk, **settings) -> None:
    """That SAP and MSFT are taken whole, each session once."""
    source = FilesSource(FilesSettings(path=str(desk.folder), **settings))
    assert source.set_aside == ()
    answer = source.fetch(FetchRequest(("SAP", "MSFT"), FIRST[0], SECOND[-1]))
    assert answer.frame.unique().group_by("symbol").len().sort("symbol").rows() == [("MSFT", 16), ("SAP", 16)]


MARKS = {
    "currency": ("Currency", "EUR", "USD"),
    "pence are no pounds": ("Ccy", "GBp", "GBP"),
    "exchange": ("Exchange", "XETR", "XNYS"),
    "MIC": ("MIC", "XLON", "XNAS"),
    "ISIN": ("ISIN", "DE0007164600", "US8030542042"),
    "CUSIP": ("cusip", "037833100", "594918104"),
    "PERMNO": ("PERMNO", "10107", "14593"),
    "currency in French": ("Devise", "EUR", "USD"),
    "in German": ("Währung", "EUR", "USD"),
    "in Spanish": ("moneda", "EUR", "USD"),
    "in Italian": ("Valuta", "EUR", "USD"),
    "unit": ("Unit", "GBp", "GBP"),
    "German unit": ("Einheit", "EUR", "Prozent"),
    "baostock": ("adjustflag", "3", "2"),
    "flag": ("adjust_flag", "RAW", "QFQ"),
    "adjusted or not": ("is_adjusted", "FALSE", "TRUE"),
    "type of price": ("Price Type", "ADJUSTED", "RAW"),
    "NSE": ("SERIES", "EQ", "N1"),
    "type of security": ("Security_Type", "COMMON STOCK", "WARRANT"),
    "instrument": ("instrumentType", "EQUITY", "RIGHT"),
    "class of shares": ("share_class", "A", "B"),
}


@pytest.mark.parametrize(("column", "one", "other"), MARKS.values(), ids=list(MARKS))
@pytest.mark.parametrize("named", ["by its file", "by a column"])
def test_one_file_in_which_it_changes(good, column, one, other, named):
    ticker = named == "by a column"
    header = f"{HEADER},{column}{',Ticker' if ticker else ''}"
    more = ",SAP" if ticker else ""
    text = bars(FIRST, 100, header, f",{one}{more}") + bars(SECOND, 101, header, f",{other}{more}").split("\n", 1)[1]
    path = good.put("SAP.csv", text)
    refused(good, "SAP", column, one, other, f"{path}, line 2", f"{path}, line 10", "HISTORICAL_ETL_FILES_IGNORE")
    taken(good, ignore=(column,))


def test_several_files_in_which_it_changes(good):
    header = f"{HEADER},Currency"
    one = good.put("SAP.csv", bars(FIRST, 100, header, ",EUR"))
    other = good.put("SAP (1).csv", bars(SECOND, 100, header, ",USD"))
    refused(good, "EUR", "USD", f"{one}, line 2", f"{other}, line 2")


def test_parquet_in_which_it_changes(good):
    frame = pl.DataFrame(
        {"date": days(16), "close": 100.0, "volume": 1.0, "permno": [1] * 8 + [2] * 8, "ticker": ["SAP"] * 16}
    )
    path = good.folder / "all.parquet"
    frame.write_parquet(path)
    refused(good, "permno", f"{path}, row 1", f"{path}, row 9")


def test_all_such_columns_count(good):
    header = f"{HEADER},Currency,Exchange,adjustflag,SERIES"
    text = bars(FIRST, 100, header, ",INR,NSE,3,EQ") + bars(SECOND, 101, header, ",INR,NSE,2,EQ").split("\n", 1)[1]
    good.put("SAP.csv", text)
    refused(good, "SAP is not of one basis of prices", "adjustflag")
    taken(good, ignore=("adjustflag",))


def test_a_truth_value_in_parquet(good):
    adjusted = [False] * 8 + [True] * 8
    frame = pl.DataFrame({"date": days(16), "close": 100.0, "volume": 1.0, "is_adjusted": adjusted})
    frame.write_parquet(good.folder / "SAP.parquet")
    refused(good, "is_adjusted", "row 9")


@pytest.mark.parametrize(("one", "other"), [("raw", "Raw"), ("3", "3.0"), ("raw", "")])
def test_one_basis_written_in_two_ways_is_one(good, one, other):
    header = f"{HEADER},price_type"
    rest = bars(SECOND, 100, header, f",{other}").split("\n", 1)[1]
    good.put("SAP.csv", bars(FIRST, 100, header, f",{one}") + rest)
    taken(good)


@pytest.mark.parametrize("values", [("USD", "USD"), ("USD", ""), ("usd", "USD"), ("USD", "N/A"), ("", "")])
def test_what_does_not_change_is_taken(good, values):
    header = f"{HEADER},Currency"
    rest = bars(SECOND, 100, header, f",{values[1]}").split("\n", 1)[1]
    good.put("SAP.csv", bars(FIRST, 100, header, f",{values[0]}") + rest)
    taken(good)


def test_a_symbol_column_that_is_no_symbol_of_one_security_can_be_mapped_away(good):
    header = f"{HEADER},ISIN"
    rows = bars(FIRST, 100, header, ",US0378331005") + bars(FIRST, 50, header, ",US5949181045").split("\n", 1)[1]
    good.put("dax/GROUP.csv", rows)
    refused(good, "US0378331005", "HISTORICAL_ETL_FILES_COLUMNS=symbol=ISIN")


PLACES = {
    "folders of markets": ("us/SAP.csv", "de/SAP.csv"),
    "the folder itself": ("SAP.csv", "de/SAP.csv"),
    "deeper folders": ("us/data/2023/SAP.csv", "de/data/2024/SAP.csv"),
    "hive folders": ("market=us/symbol=SAP/part-0.csv", "market=de/symbol=SAP/part-0.csv"),
    "folders of symbols": ("xetra/SAP/2023.csv", "nyse/SAP/2024.csv"),
    "exchanges in names": ("NYSE_SAP.csv", "XETR_SAP.csv"),
}


@pytest.mark.parametrize("names", PLACES.values(), ids=list(PLACES))
def test_two_places_that_share_no_session(good, names):
    one, other = good.put(names[0], bars(FIRST)), good.put(names[1], bars(SECOND, 101))
    refused(good, "SAP", str(one), str(other), "share no session")


def test_two_places_with_a_column_of_symbols(good):
    header = f"{HEADER},Symbol"
    one = good.put("us/prices.csv", bars(FIRST, 100, header, ",SAP"))
    other = good.put("de/prices.csv", bars(SECOND, 101, header, ",SAP"))
    refused(good, "SAP", str(one), str(other))


def test_markets_that_a_setting_strips(good):
    good.put("SAP.DE.txt", bars(FIRST))
    good.put("SAP.US.txt", bars(SECOND, 101))
    refused(good, "SAP", "share no session", market_suffix="strip")


PIECES = {
    "years": ("2023/SAP.csv", "2024/SAP.csv"),
    "hive years": ("year=2023/symbol=SAP/part-0.csv", "year=2024/symbol=SAP/part-0.csv"),
    "names": ("SAP_2023.csv", "SAP_2024.csv"),
    "a copy": ("SAP.csv", "SAP (1).csv"),
    "an archive": ("archive/SAP.csv", "SAP.csv"),
    "a folder of the symbol": ("SAP/SAP.csv", "SAP/2024.csv"),
    "downloads of days": ("got-2024-03-01/SAP.csv", "got-2024-03-14/SAP.csv"),
}


@pytest.mark.parametrize("names", PIECES.values(), ids=list(PIECES))
@pytest.mark.parametrize("shared", [0, 3])
def test_pieces_of_one_history_are_joined(good, names, shared):
    good.put(names[0], bars(FIRST))
    good.put(names[1], bars(days(16)[8 - shared :]))
    taken(good)


def test_two_places_that_agree_where_they_overlap_are_one(good):
    good.put("sp500/SAP.csv", bars(days(10)))
    good.put("nasdaq/SAP.csv", bars(days(16)[4:]))
    taken(good)


@pytest.mark.parametrize("shared", [1, 8])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_that_contradict_each_other_anywhere_give_nothing(good, shared, kind):
    one = good.put("SAP.csv", bars(days(16)[: 8 + shared]))
    other = good.folder / f"SAP_2024.{kind}"
    if kind == "csv":
        good.put(other.name, bars(SECOND, 25))
    else:
        pl.DataFrame({"date": SECOND, "close": 25.0, "volume": 1000.0}).write_parquet(other)
    refused(good, f"SAP has {shared} day(s) with different values", f"the first {SECOND[0]}", str(one), str(other))


COPIES = (
    "SAP (1)",
    "SAP - Copy",
    "SAP-copy",
    "SAP_copy",
    "Copy of SAP",
    "SAP copy 2",
    "SAP_2024",
    "SAP-2024",
    "SAP(2)",
)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_with_other_values_is_named(good, name):
    one, other = good.put("SAP.csv", bars(FIRST)), good.put(f"{name}.csv", bars(FIRST, 25))
    refused(good, "SAP has 8 day(s)", str(one), str(other))


BASES = {
    "adjusted": ("SAP.csv", "SAP_adjusted.csv"),
    "adj": ("SAP.csv", "SAP-adj.csv"),
    "raw": ("SAP_raw.csv", "SAP.csv"),
    "unadjusted and adjusted": ("SAP_unadjusted.csv", "SAP_adjusted.csv"),
    "split": ("SAP.csv", "SAP_split_adjusted.csv"),
    "capitals": ("SAP.csv", "SAP.ADJUSTED.csv"),
    "folders": ("raw/SAP.csv", "adjusted/SAP.csv"),
    "one folder": ("prices/SAP.csv", "prices_adj/SAP.csv"),
}


@pytest.mark.parametrize("names", BASES.values(), ids=list(BASES))
@pytest.mark.parametrize("shared", [0, 4])
def test_names_that_say_another_basis_are_not_joined(good, names, shared):
    one = good.put(names[0], bars(FIRST))
    other = good.put(names[1], bars(days(16)[8 - shared :]))
    refused(good, "SAP", str(one), str(other), "another basis")


def test_files_of_the_market_whose_names_say_another_basis(good):
    header = f"{HEADER},Symbol"
    good.put("prices_2023.csv", bars(FIRST, 100, header, ",SAP"))
    good.put("prices_2024_adjusted.csv", bars(SECOND, 100, header, ",SAP"))
    refused(good, "another basis")


def test_one_basis_throughout_is_fine(desk):
    desk.put("SAP_adj_2023.csv", bars(FIRST))
    desk.put("SAP_2024_adj.csv", bars(SECOND))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"SAP": 16}


@pytest.mark.parametrize("names", [("us/SAP.csv", "de/SAP.csv"), ("SAP.csv", "SAP_adj.csv")])
def test_in_a_store_the_rest_goes_on(good, names):
    paths = [good.put(name, bars(sessions)) for name, sessions in zip(names, (FIRST, SECOND), strict=True)]
    answer = good.backfill()
    assert answer.code == INCOMPLETE
    assert all(str(path) in answer.err for path in paths)
    assert good.symbols() == {"MSFT": 16}
    adopted = good.cli("--data-dir", "other", "adopt", str(good.folder), "--json")
    assert adopted.code == INCOMPLETE
    reported = adopted.document["adopted"]
    assert (reported["read"], reported["taken"], len(reported["set_aside"])) == (16, 16, 1)


def test_where_nothing_else_is_there_it_is_an_error(desk):
    one, other = desk.put("us/SAP.csv", bars(FIRST)), desk.put("de/SAP.csv", bars(SECOND))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert str(one) in answer.err
    assert str(other) in answer.err


def test_many_symbols_are_reported_at_once(good):
    for number in range(30):
        good.put(f"us/S{number}.csv", bars(FIRST))
        good.put(f"de/S{number}.csv", bars(SECOND))
    reported = refused(good, "S0", "S29", "10 more symbols are skipped for the same reason")
    assert len(reported) == 21


def test_a_stored_symbol_that_gets_a_second_place_keeps_its_place(good):
    good.put("us/SAP.csv", bars(FIRST))
    assert good.backfill().code in (FINE, INCOMPLETE)
    good.put("de/SAP.csv", bars(SECOND, 101))
    for _ in range(3):
        assert good.cli("update").code == INCOMPLETE
    assert good.symbols() == {"MSFT": 16, "SAP": 8}
    states = good.query("SELECT symbol, status FROM symbols ORDER BY symbol")
    assert [row["status"] for row in states] == ["live", "live"]
