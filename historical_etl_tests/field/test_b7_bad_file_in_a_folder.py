"""B7: what is wrong with a folder is reported at once, by file and line, and the rest of it is stored."""

import gzip
from datetime import UTC, date, datetime

import pytest

from historical_etl import FetchRequest, FilesSettings, HistoricalETL, Outcome
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

HEADER, ROW = "Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000"
GOOD = lines(HEADER, ROW, days())
LEVELS = "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n"
WIDE = "Price,Close,Close,Volume,Volume\nTicker,AAPL,MSFT,AAPL,MSFT\nDate,,,,\n"
BAD = {
    "EMPTY.csv": b"",
    "PAGE.csv": b"<!DOCTYPE html>\n<html><body>Too many requests</body></html>\n",
    "CUT.csv.gz": gzip.compress(GOOD.encode(), mtime=0)[:-9],
    "JSON.csv": b'{"Information": "the standard API rate limit is 25 requests per day"}\n',
    "QUOTE.csv": GOOD.encode() + b'2024-03-13,"100,101,99,100,1000\n' + GOOD.encode(),
    "WIN.csv": GOOD.encode("utf-16"),
    "BROKEN.parquet": b"PAR1 nothing PAR1",
    "DATES.csv": lines(HEADER, ROW, days(), "%d;%m;%y").encode(),
}


def test_everything_wrong_is_reported_at_once_and_the_good_rest_is_stored(desk):
    desk.put("AAPL.csv", GOOD)
    desk.put("deep/MSFT.csv", GOOD)
    paths = [desk.put(name, content) for name, content in BAD.items()]
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8, "MSFT": 8}
    assert answer.err == Saying(f"{len(BAD)} file", "skipped")
    for path in paths:
        assert str(path) in answer.err
    for fact in ("is empty", "HTML", "gzip stream is cut off", "line 1", "UTF-8", "not whole, readable Parquet"):
        assert fact in answer.err


@pytest.mark.parametrize("name", BAD)
def test_each_is_an_error_by_name_where_it_is_alone(desk, name):
    path = desk.put(name, BAD[name])
    refused = desk.refusal()
    assert str(path) in refused
    assert "Next: " in refused


def test_several_and_nothing_else_are_one_error_that_names_all(desk):
    paths = [desk.put(name, content) for name, content in BAD.items()]
    answer = desk.backfill()
    assert answer.code == FAILED
    assert all(str(path) in answer.err for path in paths)


def test_a_symbol_of_a_bad_file_is_no_quiet_one(tmp_path):
    (tmp_path / "AAPL.csv").write_text(GOOD)
    (tmp_path / "GONE.csv").write_bytes(b"")
    source = FilesSource(FilesSettings(path=str(tmp_path)))
    request = FetchRequest(("AAPL", "GONE", "NONE"), days()[0], days()[-1])
    answer = source.fetch(request)
    assert answer.outcomes == {"AAPL": Outcome.OK, "GONE": Outcome.ERROR, "NONE": Outcome.NOT_FOUND}
    assert "GONE.csv" in answer.details["GONE"]
    assert source.members(None, None) == ["AAPL", "GONE"]
    # Whose rows a file of the whole market had, nobody knows: then no symbol is unknown.
    (tmp_path / "whole market 2024.csv").write_bytes(b"")
    answer = FilesSource(FilesSettings(path=str(tmp_path))).fetch(request)
    assert answer.outcomes == {"AAPL": Outcome.OK, "GONE": Outcome.ERROR, "NONE": Outcome.ERROR}


def test_a_stored_symbol_whose_file_breaks_keeps_its_place(desk):
    desk.put("AAPL.csv", GOOD)
    desk.put("MSFT.csv", GOOD)
    assert desk.backfill().code == FINE
    desk.put("MSFT.csv", b"")
    desk.put("AAPL.csv", lines(HEADER, ROW, days(9)))
    for _ in range(4):
        assert desk.cli("update").code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 9, "MSFT": 8}
    states = desk.query("SELECT symbol, status FROM symbols ORDER BY symbol")
    assert [row["status"] for row in states] == ["live", "live"]
    desk.put("MSFT.csv", lines(HEADER, ROW, days(9)))
    assert desk.cli("update").code == FINE
    assert desk.symbols() == {"AAPL": 9, "MSFT": 9}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2024-02-29,100,101,99,100,1000,7", "line 10: the line has 7 fields where the header has 6"),
        ("2024-02-29,100,101", "line 10: the line has 3 fields where the header has 6"),
        ("2024-02-29,100,101,99,twelve,1000", "line 10: close is 'twelve'"),
        ("2024-02-30,100,101,99,100,1000", "line 10: date is '2024-02-30'"),
        ("2024-02-29,100,101,99,1 00,1000", "line 10: close is '1 00'"),
        ('2024-02-29,100,101,99,"100,5",1000', "line 10: close is '100,5'"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_bad_line_is_refused_alone(desk, ending, line, why):
    text = lines(HEADER, "{d},100.5,101,99,100,1000", days()) + line + "\n2024-03-13,100,101,99,100,1000\n"
    path = desk.put(f"AAPL{ending}", gzip.compress(text.encode()) if ending.endswith("gz") else text)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert answer.err == Saying(path, "1 row", "refused", why)
    assert desk.symbols() == {"AAPL": 9}
    assert desk.query("SELECT count(*) AS n FROM rejected_rows") == [{"n": 1}]


RANGES = {
    "that ends before the file does": ("2024-01-01", "2024-03-05"),
    "inside it": ("2024-03-05", "2024-03-06"),
    "before it": ("2023-01-03", "2023-12-29"),
    "all": ("2024-01-01", "2024-03-28"),
}


@pytest.mark.parametrize(("start", "end"), RANGES.values(), ids=list(RANGES))
@pytest.mark.parametrize("garbage", ["garbage,1,1,1,1,1", "2024-03-04,1", "1024-03-04,1,1,1,1,1"])
def test_rows_without_a_day_are_reported_whatever_the_range(desk, tmp_path, start, end, garbage):
    desk.put("AAPL.csv", f"{GOOD}{garbage}\n")
    desk.put("MSFT.csv", lines(HEADER, ROW, days(40, date(2023, 6, 1)) + days()))
    desk.cli.set(SOURCE="files", FILES_PATH=str(desk.folder))
    etl = HistoricalETL.open(tmp_path / "other", clock=lambda: datetime(2024, 3, 28, 23, 30, tzinfo=UTC))
    result = etl.run_full_etl(["AAPL", "MSFT"], date.fromisoformat(start), date.fromisoformat(end))
    assert not result.complete
    assert sum(result.rejected_by_reason.values()) == 1
    assert any("AAPL.csv: 1 row(s) cannot be read" in reported for reported in result.notes)
    assert etl.ledger("rejected_rows").height == 1


def test_they_are_reported_once_in_a_store_and_stop_no_evening(desk):
    desk.put("AAPL.csv", f"{GOOD}garbage,1,1,1,1,1\n")
    desk.cli.set(SOURCE="files", FILES_PATH=str(desk.folder))
    for _ in range(2):
        assert desk.backfill().code == INCOMPLETE
        answer = desk.cli("update")
        assert answer.code in (FINE, INCOMPLETE), answer.err
    assert desk.symbols() == {"AAPL": 8}
    assert desk.query("SELECT count(*) AS n FROM rejected_rows") == [{"n": 1}]


def test_stooqs_own_database_is_found(desk):
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    row = "AAPL.US,D,{d},000000,100,101,99,100,1000,0"
    desk.put("data/daily/us/nasdaq stocks/1/aapl.us.txt", lines(header, row, days(), "%Y%m%d"))
    desk.put("readme.txt", "These are prices, from Stooq.\n")
    answer = desk.backfill()
    assert answer.code == FINE
    assert desk.symbols() == {"AAPL": 8}
    assert "readme.txt" in answer.err


def test_the_three_rows_of_yfinances_header_are_read(desk):
    desk.put("download.csv", lines(LEVELS.rstrip("\n"), "{d},100,101,99,100,1000", days()))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 8}
    assert desk.column("high") == [101.0] * 8


def test_so_are_those_of_several_tickers(desk):
    rows = [
        f"{day},100,{'' if number == 0 else 10},1000,{'' if number == 0 else 500}" for number, day in enumerate(days())
    ]
    desk.put("download.csv", WIDE + "\n".join(rows))
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 8, "MSFT": 7}


def test_adopt_accounts_for_every_row_of_a_spoilt_folder(desk):
    desk.put("AAPL.csv", GOOD + "2024-03-13,100,101,99,x,1000\n2024-03-14,1,1\nx,100,101,99,100,1000\n")
    desk.put("EMPTY.csv", b"")
    for more in ((), ("--dry-run",)):
        answer = desk.cli("--data-dir", f"store{len(more)}", "adopt", str(desk.folder), "--json", *more)
        assert answer.code == INCOMPLETE
        adopted = answer.document["adopted"]
        assert (adopted["read"], adopted["taken"], adopted["refused"]) == (11, 8, 3)
        assert len(adopted["set_aside"]) == 1
