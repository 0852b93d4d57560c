"""Files that people reported in public trackers: what is taken, what is refused, and what is said of it.

Each test names the tracker. Numbers and names are this project's own.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, USAGE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

BAR = "100,101.5,99,100.5,1000"
BARS = {"open": 100.0, "high": 101.5, "low": 99.0, "close": 100.5, "volume": 1000}
WINTER = days(20, date(2024, 1, 2))
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    "header", ["Date,AAPL,C,MSFT,V", ",AAPL,C,MSFT,V", "Date,O,H,L,C,AAPL,F,GE,IBM,MSFT,T,XOM,V,A"]
)
def test_a_table_with_a_column_for_each_ticker_is_not_one_bar(desk, header):
    """joshuaulrich/quantmod#322, ranaroussi/yfinance#347: C is Citigroup there, and V is Visa."""
    row = ",".join(["{d}", *(f"{40 + place}.5" for place in range(header.count(",")))])
    desk.put("sp500.csv", lines(header, row, days()))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "No column for close" in answer.err
    assert answer.err == Saying("one row", "each date and symbol")


def test_letters_that_are_a_whole_bar_are_read(desk):
    """massive-com/client-python#846, kernc/backtesting.py#585: t, o, h, l, c, v with vw and n beside them."""
    desk.put("META.csv", lines("t,o,h,l,c,v,vw,n", "{d}," + BAR + ",100.2,7", days()))
    frame, _ = desk.read()
    assert frame.select(*BARS).unique().rows() == [tuple(BARS.values())]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("close", "2 columns could be close"),
        ("CLOSE", "2 columns could be close"),
        ("Close ", "2 columns are called 'Close'; which is close?"),
    ],
)
def test_two_columns_of_one_name_are_asked_for(desk, second, words):
    """joshuaulrich/quantmod#305: after a merge a file has Close and close; neither goes before the other."""
    desk.put("AAA.csv", lines(f"Date,Open,High,Low,Close,Volume,{second}", "{d}," + BAR + ",50.25", days()))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert words in answer.err


def test_one_of_two_columns_of_one_name_can_be_mapped(desk):
    """joshuaulrich/quantmod#305: the mapping that the error names settles it."""
    desk.put("AAA.csv", lines("Date,Open,High,Low,Close,Volume,close", "{d}," + BAR + ",50.25", days()))
    frame, _ = desk.read(columns={"close": "Close"})
    assert frame["close"].unique().to_list() == [100.5]


def _moments(zone: ZoneInfo, at: time = time()) -> str:
    rows = [f"{int(datetime.combine(day, at, zone).timestamp())},{BAR}" for day in WINTER]
    return "\n".join(["time,open,high,low,close,Volume", *rows]) + "\n"


def test_moments_that_are_midnight_elsewhere_move_no_day(desk):
    """pbrissaud/suivi-bourse#1013: midnight in Paris is the evening before in New York."""
    desk.put("AAA.csv", _moments(PARIS))
    desk.put("BBB.csv", lines("Date,Open,High,Low,Close,Volume", "{d}," + BAR, WINTER))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert "AAA.csv" in answer.err
    assert desk.symbols() == {"BBB": len(WINTER)}


@pytest.mark.parametrize("at", [time(), time(9, 30), time(16)], ids=str)
def test_moments_of_the_exchange_are_its_days(desk, at):
    """pbrissaud/suivi-bourse#1013, the other side: what the exchange's own clock says is sure."""
    desk.put("AAA.csv", _moments(ZoneInfo("America/New_York"), at))
    assert desk.read()[0]["date"].to_list() == WINTER


UNTYPED: dict[str, Callable[[date], int | str]] = {
    "digits": lambda day: int(f"{day:%Y%m%d}"),
    "text": lambda day: f"{day}",
    "text with midnight": lambda day: f"{day} 00:00:00",
    "text, US": lambda day: f"{day:%m/%d/%Y}",
    "milliseconds": lambda day: int(datetime.combine(day, time(), UTC).timestamp() * 1000),
    "nanoseconds": lambda day: int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000_000,
}


@pytest.mark.parametrize("write", UNTYPED.values(), ids=list(UNTYPED))
def test_parquet_whose_dates_have_no_type(desk, write):
    """alpacahq/alpaca-trade-api-python#317: daily bars come with days as text or as whole numbers."""
    pl.DataFrame({"date": [write(day) for day in WINTER], **BARS}).write_parquet(desk.folder / "AAA.parquet")
    frame, _ = desk.read()
    assert frame["date"].to_list() == WINTER
    assert frame["close"].unique().to_list() == [100.5]


def test_parquet_with_text_that_can_be_read_in_two_ways_is_asked_for(desk):
    """wireservice/csvkit#280, wealthfolio/wealthfolio#1601: the setting that is named settles it."""
    early = [day for day in days(60) if day.day in {4, 5, 6, 7} and day.month in {3, 4}][:2]
    texts = [f"{day:%m/%d/%Y}" for day in early]
    pl.DataFrame({"date": texts, **BARS}).write_parquet(desk.folder / "AAA.parquet")
    assert "HISTORICAL_ETL_FILES_DATE_FORMAT" in desk.backfill().err
    assert desk.read(date_format="%m/%d/%Y")[0]["date"].to_list() == early


def test_parquet_with_one_bad_text_sets_that_row_aside(desk):
    """alpacahq/alpaca-trade-api-python#317: a row that is no day is reported; the others are taken."""
    texts = [f"{day}" for day in WINTER]
    pl.DataFrame({"date": ["2024-13-45", *texts[1:]], **BARS}).write_parquet(desk.folder / "AAA.parquet")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert "2024-13-45" in answer.err
    assert desk.symbols() == {"AAA": len(WINTER) - 1}


def test_a_file_of_metatrader(desk):
    """gbeced/pyalgotrade#16, kernc/backtesting.py#57: <TICKVOL> is neither a symbol nor the volume."""
    header = "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
    row = "{d}\t100\t101.5\t99\t100.5\t17\t1000\t1"
    desk.put("AAPL_Daily_202401020000_202401310000.csv", lines(header, row, WINTER, "%Y.%m.%d"))
    answer = desk.backfill()
    assert answer.code == FINE, answer.err
    assert desk.symbols() == {"AAPL": len(WINTER)}
    assert set(desk.column("volume")) == {1000}


def test_excel_says_first_what_separates(desk):
    """pandas-dev/pandas#47303: `sep=;` is Excel's line, not a header; the error about columns names the header."""
    rows = lines("Datum;Kurs", "{d};100,5", WINTER, "%d.%m.%Y")
    path = desk.put("AAA.csv", "sep=;\n" + rows)
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "the header has: Datum, Kurs" in answer.err
    assert f"{path}, line 2" in answer.err
    frame, _ = desk.read(columns={"date": "Datum", "close": "Kurs"})
    assert frame.select("date", "close").rows() == [(day, 100.5) for day in WINTER]


def test_lines_before_the_header(desk):
    """sjev/trading-with-python#2: an exchange puts a disclaimer before the header."""
    table = lines("Trade Date,Open,High,Low,Close,Volume", "{d}," + BAR, WINTER)
    desk.put("VIX.csv", "These data are furnished without warranty\n" + table)
    answer = desk.backfill()
    assert answer.code == FINE
    assert answer.err == Saying("lines before the header", "left out")
    assert desk.symbols() == {"VIX": len(WINTER)}


def test_a_file_without_a_header_leaves_the_others_alone(desk):
    """Heerozh/spectre#1: nothing tells which number is the close."""
    desk.put("AAA.csv", "".join(f"{day:%m/%d/%Y},{BAR}\n" for day in WINTER))
    desk.put("BBB.csv", lines("Date,Open,High,Low,Close,Volume", "{d}," + BAR, WINTER))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert answer.err == Saying("first line", "names are expected")
    assert desk.symbols() == {"BBB": len(WINTER)}


def test_tickers_that_look_like_nothing(desk):
    """pydata/pandas-datareader#948, alvarobartt/investpy#180: NA is a company."""
    names = ["NA", "NAN", "NULL", "TRUE"]
    rows = "".join(f"{day},{name},{BAR}\n" for name in names for day in WINTER)
    desk.put("all.csv", "Date,Symbol,Open,High,Low,Close,Volume\n" + rows)
    assert desk.backfill().code == FINE
    assert desk.symbols() == dict.fromkeys(names, len(WINTER))


def test_leftovers_of_a_mac_and_of_a_notebook_are_no_prices(desk):
    """scverse/spatialdata-io#260: ._AAA.csv, __MACOSX and checkpoints stand beside the files."""
    content = lines("Date,Open,High,Low,Close,Volume", "{d}," + BAR, WINTER)
    desk.put("AAA.csv", content)
    desk.put("._AAA.csv", b"\0\5\x16\7\0\2\0\0Mac OS X")
    desk.put("__MACOSX/._BBB.csv", b"\0\5\x16\7")
    desk.put(".ipynb_checkpoints/AAA-checkpoint.csv", content.replace("100.5", "90.5"))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAA": len(WINTER)}
    assert set(desk.column("close")) == {100.5}


def test_a_header_that_was_appended_again_is_one_bad_row(desk):
    """C2FO/fast-csv#250, h2oai/datatable#2130: appending writes the header each time."""
    header = "Date,Open,High,Low,Close,Volume"
    desk.put("AAA.csv", lines(header, "{d}," + BAR, WINTER[:10]) + lines(header, "{d}," + BAR, WINTER[10:]))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert "line 12: date is 'Date'" in answer.err
    assert desk.symbols() == {"AAA": len(WINTER)}


@pytest.mark.parametrize("name", ["ts_code", "stock_code", "SecuCode"])
def test_a_code_beside_the_bars_is_the_symbol(desk, name):
    """waditu/tushare#391: the exports of mainland China say whose a row is in ts_code, whatever the file is called."""
    header = f"{name},trade_date,open,high,low,close,vol,amount"
    desk.put("d.csv", lines(header, "000001.SZ,{d}," + BAR + ",7", WINTER, "%Y%m%d"))
    assert desk.read()[0]["symbol"].unique().to_list() == ["000001.SZ"]


def test_a_hold_of_a_first_history_alone_says_how_to_go_on(desk):
    """massive-com/client-python#846: a ticker had two companies in one year, and nothing else is stored yet."""
    sessions = days(200, date(2024, 1, 2))
    header, low, high = "Date,Open,High,Low,Close,Volume\n", "12.4,12.5,11.9,12,130", "184,199,183,184,2300"
    rows = [f"{day},{low if at < 30 else high}" for at, day in enumerate(sessions) if at < 30 or at > 130]
    desk.put("META.csv", header + "".join(f"{row[:-1]}{at % 9}\n" for at, row in enumerate(rows)))
    alone = desk.backfill()
    assert alone.code == INCOMPLETE
    assert "holds accept META" in alone.err
    assert desk.cli("holds", "accept", "META", "--reason", "both are wanted", "--by", "anna").code in (FINE, INCOMPLETE)
    assert desk.symbols() == {"META": len(rows)}


def test_a_rename_where_nothing_is_stored_is_refused(desk):
    """business-science/tidyquant#233: a list of renames comes before the prices do."""
    path = desk.put("../renames.csv", "old,new,date\nFB,META,2022-06-09\n")
    answer = desk.cli("rename", "--file", str(path))
    assert answer.code == USAGE
    assert "Nothing was committed yet" in answer.err
    assert "historical-etl backfill" in answer.err
    assert [path.name for path in desk.folder.parent.iterdir()] == ["files", "renames.csv"], "nothing was made"
