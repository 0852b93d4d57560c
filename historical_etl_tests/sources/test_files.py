"""The `files` source on real files: what it reads, and that it refuses the rest by file and line."""

import gzip
import io
import math
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import historical_etl
from historical_etl.errors import (
    ConfigurationError,
    DataQualityError,
    HistoricalETLError,
    SchemaDriftError,
    StorageError,
)
from historical_etl.models import Outcome
from historical_etl.schema import SCHEMA
from historical_etl.settings import FilesSettings
from historical_etl.sources.base import Coverage, FetchRequest, PriceSource
from historical_etl.sources.files import FilesSource
from historical_etl_tests.saying import Saying
from historical_etl_tests.shares import examples

HEADER = "date,symbol,open,high,low,close,volume,adj_close\n"
#: A dotted symbol, a lower-case one, empty optional cells, a day off, and rows out of order.
ROWS = (
    "2012-05-21,brk.b,80,81.5,79,80.25,1000,\n"
    "2012-05-18,FB,42.05,45,38,38.23,573576400,38.23\n"
    "2012-05-18, BRK.B ,,,,79.5,0,\n"
    "2013-01-02,FB,27.44,28.18,27.42,28,69846400,28\n"
)
WHOLE = FetchRequest(("BRK.B", "FB"), date(1900, 1, 1), date(2100, 1, 1))
NEW_YORK = ZoneInfo("America/New_York")


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def source(path, **options) -> FilesSource:
    return FilesSource(FilesSettings(path=str(path), **options))


def everything(files: FilesSource) -> pl.DataFrame:
    symbols = tuple(files.members(None, None)) or ("NONE",)
    return files.fetch(FetchRequest(symbols, date.min, date.max)).frame


def refusal(path, error: type[HistoricalETLError] = DataQualityError, **options):
    with pytest.raises(error) as caught:
        source(path, **options).fetch(WHOLE)
    return caught.value


def bars(*rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


EXPECTED = bars(
    (date(2012, 5, 18), "BRK.B", None, None, None, 79.5, 0.0, None, None),
    (date(2012, 5, 18), "FB", 42.05, 45.0, 38.0, 38.23, 573576400.0, None, 38.23),
    (date(2012, 5, 21), "BRK.B", 80.0, 81.5, 79.0, 80.25, 1000.0, None, None),
    (date(2013, 1, 2), "FB", 27.44, 28.18, 27.42, 28.0, 69846400.0, None, 28.0),
)


# --- what it reads ---------------------------------------------------------------------------------------------------


def test_csv_gives_the_schema_sorted_by_date_and_symbol(tmp_path):
    files: PriceSource = source(write(tmp_path / "all.csv", HEADER + ROWS))
    frame = files.fetch(WHOLE).frame
    assert frame.schema == SCHEMA
    assert_frame_equal(frame, EXPECTED)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", HEADER + ROWS),
        ("A.CSV", HEADER + ROWS),
        ("a.csv", "\ufeff" + (HEADER + ROWS).replace("\n", "\r\n")),
        ("a.csv", HEADER + "\n" + ROWS.replace("\n", "\n\n")),
        ("a.csv", HEADER + ROWS.rstrip("\n")),
        ("a.csv", HEADER + ROWS + ",,,,,,,\n"),
        ("a.csv", re.sub(r"[^,\n]+", r'"\g<0>"', HEADER + ROWS)),
        ("a[1] b'c.csv", HEADER + ROWS),
    ],
    ids=["gz", "suffix case", "Excel", "blank lines", "no last newline", "empty last row", "quoted", "odd file name"],
)
def test_the_same_csv_in_other_clothes(tmp_path, name, content):
    path = write(tmp_path / name, content)
    assert_frame_equal(source(path).fetch(WHOLE).frame, EXPECTED)
    assert_frame_equal(source(tmp_path).fetch(WHOLE).frame, EXPECTED)


def test_german_decimals(tmp_path):
    text = "Date;Symbol;Close;Volume;Adj Close\n18.05.2012;FB;38,23;1.5;\n"
    path = write(tmp_path / "a.csv", text.replace(";1.5;", ";1000;38,2"))
    frame = source(path, decimal=",", separator=";", date_format="%d.%m.%Y").fetch(WHOLE).frame
    assert frame.row(0) == (date(2012, 5, 18), "FB", None, None, None, 38.23, 1000.0, None, 38.2)


@pytest.mark.parametrize("spelling", ["\t", r"\t", "tab", "TAB"])
def test_a_tab_may_be_spelled_out(tmp_path, spelling):
    path = write(tmp_path / "a.csv", (HEADER + ROWS).replace(",", "\t"))
    assert_frame_equal(source(path, separator=spelling).fetch(WHOLE).frame, EXPECTED)


def test_names_match_ignoring_case_spaces_and_underscores(tmp_path):
    path = write(tmp_path / "a.csv", " DATE ,Sym_bol,CLOSE,Volume,Adj Close,Ret,name\n2012-05-18,FB,1,2,3,9,x\n")
    assert source(path).fetch(WHOLE).frame.row(0) == (date(2012, 5, 18), "FB", None, None, None, 1, 2, None, 3)


def test_mapped_columns_and_what_a_mapping_claims_is_not_used_twice(tmp_path):
    path = write(tmp_path / "a.csv", "Day,Ticker,Last,close,Adj Close,Vol\n2012-05-18,fb,1,2,3,4\n")
    columns = {"date": "Day", "symbol": "ticker", "close": "Adj Close", "volume": "Vol"}
    frame = source(path, columns=columns).fetch(WHOLE).frame
    assert frame.row(0) == (date(2012, 5, 18), "FB", None, None, None, 3.0, 4.0, None, None)


@pytest.mark.parametrize("text", ["", "NaN", "nan", "null", "N/A", "None", "  "])
def test_what_means_no_value(tmp_path, text):
    path = write(tmp_path / "a.csv", f"date,symbol,open,close,volume\n2012-05-18,FB,{text},1,2\n")
    assert source(path).fetch(WHOLE).frame.row(0)[2] is None


def test_rows_without_a_close_are_left_to_the_quality_rules(tmp_path):
    path = write(tmp_path / "a.csv", "date,symbol,close,volume\n2012-05-18,FB,,\n2012-05-21,FB,-1,inf\n")
    frame = source(path).fetch(WHOLE).frame
    assert frame.select("close", "volume").rows() == [(None, None), (-1.0, math.inf)]


@pytest.mark.parametrize("name", ["brk.b.csv", "BRK.B.csv.gz", "deep/er/Brk.b.CSV"])
def test_without_a_symbol_column_the_file_name_is_the_symbol(tmp_path, name):
    write(tmp_path / name, "date,close,volume\n2012-05-18,1,2\n")
    assert source(tmp_path).members(None, None) == ["BRK.B"]


def test_the_symbol_can_be_fixed(tmp_path):
    write(tmp_path / "not a symbol.csv", "date,close,volume\n2012-05-18,1,2\n")
    assert source(tmp_path, symbol=" fb ").members(None, None) == ["FB"]


def test_an_empty_symbol_setting_means_not_set(tmp_path):
    write(tmp_path / "fb.csv", "date,close,volume\n2012-05-18,1,2\n")
    assert source(tmp_path, symbol=" ").members(None, None) == ["FB"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%Y%m%d", "20120518"),
        ("%m/%d/%y", "5/18/12"),
        ("%Y-%m-%d %H:%M:%S", "2012-05-18 00:00:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2012-05-18T00:00:00-0400"),
        ("%Y-%m-%dT%H:%M:%S%z", "2012-05-18T04:00:00+0000"),
    ],
)
def test_date_formats(tmp_path, form, text):
    path = write(tmp_path / "a.csv", f"date,symbol,close,volume\n{text},FB,1,2\n")
    assert source(path, date_format=form).fetch(WHOLE).frame["date"].to_list() == [date(2012, 5, 18)]


def parquet(path: Path, dates, **columns) -> Path:
    rows = {"date": dates, "symbol": ["FB"] * len(dates), "close": [1.5] * len(dates), "volume": [2] * len(dates)}
    pl.DataFrame(rows | columns).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "dates",
    [
        pl.Series([date(2012, 5, 18), date(2012, 12, 31)]),
        pl.Series([naive("2012-05-18"), naive("2012-12-31")], dtype=pl.Datetime("ns")),
        pl.Series([naive("2012-05-18"), naive("2012-12-31")], dtype=pl.Datetime("ms")),
        # Midnight in New York, in summer and in winter, as New York and as UTC write it.
        pl.Series([datetime(2012, 5, 18, tzinfo=NEW_YORK), datetime(2012, 12, 31, tzinfo=NEW_YORK)]),
        pl.Series([datetime(2012, 5, 18, 4, tzinfo=UTC), datetime(2012, 12, 31, 5, tzinfo=UTC)]),
    ],
    ids=["date", "ns", "ms", "zoned", "utc"],
)
def test_parquet_dates(tmp_path, dates):
    frame = source(parquet(tmp_path / "a.parquet", dates)).fetch(WHOLE).frame
    assert frame.schema == SCHEMA
    assert frame["date"].to_list() == [date(2012, 5, 18), date(2012, 12, 31)]


def test_a_zoned_midnight_is_judged_at_the_exchange_asked_for(tmp_path):
    stamp = pl.Series([datetime(2012, 5, 17, 15, tzinfo=UTC)])  # 00:00 on the 18th in Tokyo
    path = parquet(tmp_path / "a.parquet", stamp)
    tokyo = FilesSource(FilesSettings(path=str(path)), exchange="XTKS")
    assert everything(tokyo)["date"].to_list() == [date(2012, 5, 18)]
    assert "row 1" in str(refusal(path))


def test_parquet_types_that_can_serve(tmp_path):
    path = parquet(
        tmp_path / "a.parquet",
        [date(2012, 5, 18)],
        Open=pl.Series([1], dtype=pl.Int32),
        high=pl.Series(["1.25"]).cast(pl.Decimal(10, 2)),
        low=pl.Series([math.nan]),
        adj_close=pl.Series([None], dtype=pl.Null),
        symbol=pl.Series([" fb"], dtype=pl.Categorical),
    )
    assert source(path).fetch(WHOLE).frame.row(0) == (date(2012, 5, 18), "FB", 1.0, 1.25, None, 1.5, 2.0, None, None)


def test_parquet_without_symbols_and_with_untidy_ones(tmp_path):
    pl.DataFrame({"date": [date(2012, 5, 18)], "close": [1], "volume": [2]}).write_parquet(tmp_path / "brk.b.parquet")
    parquet(tmp_path / "x.parquet", [date(2012, 5, 18)], symbol=[" fb "])
    parquet(tmp_path / "y.parquet", [date(2012, 5, 21)])
    frame = source(tmp_path).fetch(WHOLE).frame
    assert frame.select("date", "symbol").rows() == [
        (date(2012, 5, 18), "BRK.B"),
        (date(2012, 5, 18), "FB"),
        (date(2012, 5, 21), "FB"),
    ]


def test_folder_glob_and_kinds_mixed(tmp_path):
    write(tmp_path / "2012" / "a.csv", HEADER + ROWS)
    write(tmp_path / "2013" / "b.csv.gz", HEADER + "2013-05-17,FB,,,,26.25,5,\n")
    parquet(tmp_path / "c.parquet", [date(2014, 1, 2)])
    write(tmp_path / "notes.txt", "not data")
    write(tmp_path / "._a.csv", "not data")
    write(tmp_path / ".ipynb_checkpoints" / "a.csv", "not data")
    assert everything(source(tmp_path)).height == 6
    assert everything(source(tmp_path / "*" / "*.csv*")).height == 5
    assert everything(source(tmp_path / "**" / "*")).height == 6
    assert everything(source(tmp_path / "c.parquet")).height == 1


def test_a_later_change_of_directory_changes_nothing(tmp_path, monkeypatch):
    write(tmp_path / "dump" / "a.csv", HEADER + ROWS)
    monkeypatch.chdir(tmp_path)
    files = source("dump")
    monkeypatch.chdir("/")
    assert files.fetch(WHOLE).frame.height == 4


# --- what it says ----------------------------------------------------------------------------------------------------


def test_both_ends_are_included_and_every_symbol_has_its_outcome(tmp_path):
    files = source(write(tmp_path / "a.csv", HEADER + ROWS))
    result = files.fetch(FetchRequest(("FB", "BRK.B", "NONE"), date(2012, 5, 21), date(2013, 1, 2)))
    assert result.frame["date"].to_list() == [date(2012, 5, 21), date(2013, 1, 2)]
    result = files.fetch(FetchRequest(("FB", "BRK.B", "NONE"), date(2012, 5, 22), date(2013, 1, 2)))
    assert result.outcomes == {"FB": Outcome.OK, "BRK.B": Outcome.EMPTY, "NONE": Outcome.NOT_FOUND}
    assert "2012-05-18 to 2012-05-21" in result.details["BRK.B"]
    assert set(result.details) == {"BRK.B", "NONE"}


def test_nothing_found_is_zero_rows_with_the_schema(tmp_path):
    files = source(write(tmp_path / "a.csv", HEADER + ROWS))
    for request in (
        FetchRequest(("NONE",), date(2012, 1, 1), date(2013, 1, 1)),
        FetchRequest(("FB",), date(2000, 1, 1), date(2000, 12, 31)),
        FetchRequest(("FB",), date(2012, 6, 1), date(2012, 6, 30)),
    ):
        frame = files.fetch(request).frame
        assert frame.height == 0
        assert frame.schema == SCHEMA


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_header_without_rows_is_no_error(tmp_path, name):
    if name.endswith("csv"):
        write(tmp_path / name, HEADER)
    else:
        pl.DataFrame(schema=SCHEMA).write_parquet(tmp_path / name)
    files = source(tmp_path)
    assert files.members(None, None) == []
    assert files.info.coverage is None
    assert files.fetch(WHOLE).outcomes == {"BRK.B": Outcome.NOT_FOUND, "FB": Outcome.NOT_FOUND}


def test_members_are_the_symbols_whose_rows_span_a_day_of_the_range(tmp_path):
    write(tmp_path / "a.csv", HEADER + ROWS)
    write(tmp_path / "b.csv", HEADER + "2014-01-02,FB,,,,1,1,\n")
    files = source(tmp_path)
    assert files.members(None, None) == ["BRK.B", "FB"]
    assert files.members(date(2012, 5, 17), date(2012, 5, 17)) == []
    assert files.members(date(2012, 5, 21), date(2012, 5, 21)) == ["BRK.B", "FB"]
    assert files.members(date(2013, 6, 1), date(2013, 6, 1)) == ["FB"]
    assert files.members(date(2014, 1, 3), date(2014, 1, 3)) == []
    assert files.members(date(2012, 5, 22), date(2013, 12, 31)) == ["FB"]
    assert files.members(None, date(2012, 5, 18)) == ["BRK.B", "FB"]
    assert files.members(date(2014, 1, 3), None) == []


def test_info(tmp_path):
    write(tmp_path / "one" / "a.csv", HEADER + ROWS)
    info = source(tmp_path / "one", adjustment="split-adjusted").info
    assert (info.name, info.adjustment, info.point_in_time) == ("files", "split-adjusted", False)
    assert info.coverage == Coverage(date(2012, 5, 18), date(2013, 1, 2))


def test_the_version_goes_with_names_and_sizes_not_with_the_place(tmp_path):
    def version(folder, name, content):
        write(tmp_path / folder / name, content)
        return source(tmp_path / folder).info.version

    first = version("one", "a.csv", HEADER + ROWS)
    assert version("two", "a.csv", HEADER + ROWS) == first
    assert version("three", "b.csv", HEADER + ROWS) != first
    assert version("four", "a.csv", HEADER + ROWS + ROWS) != first


def test_the_same_key_comes_twice_and_in_one_order(tmp_path):
    rows = "".join(f"2012-05-18,FB,{close},1\n" for close in (3, 1, 2, 0))
    write(tmp_path / "a.csv", "date,symbol,close,volume\n" + rows)
    parquet(tmp_path / "b.parquet", [date(2012, 5, 21)])
    for _ in range(5):
        assert source(tmp_path).fetch(WHOLE).frame["close"].to_list() == [0, 1, 2, 3, 1.5]


def test_csv_is_read_once_and_its_scratch_copy_goes_with_the_instance(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = write(tmp_path / "a.csv", HEADER + ROWS)
    files = FilesSource(FilesSettings(path=str(path)), scratch=scratch)
    assert list(scratch.iterdir()) == []
    assert files.fetch(WHOLE).frame.height == 4
    path.unlink()
    assert files.fetch(WHOLE).frame.height == 4
    assert len(list(scratch.iterdir())) == 1
    del files
    assert list(scratch.iterdir()) == []


def test_the_packaged_sample_as_parquet_and_as_csv(tmp_path):
    sample = Path(historical_etl.__file__).parent / "data" / "sample_prices.parquet"
    plain = source(sample)
    assert plain.members(None, None) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert plain.info.coverage == Coverage(date(2000, 3, 1), date(2013, 3, 1))
    for (symbol,), rows in pl.read_parquet(sample).partition_by("symbol", as_dict=True).items():
        rows.drop("symbol").write_csv(tmp_path / f"{str(symbol).lower()}.csv")
    frame = everything(plain)
    assert frame.height == 12_154
    assert_frame_equal(everything(source(tmp_path)), frame)
    years = [FetchRequest(("FB", "IBM"), date(year, 1, 1), date(year, 12, 31)) for year in range(2000, 2014)]
    files = source(tmp_path)
    joined = pl.concat(files.fetch(year).frame for year in years)
    assert_frame_equal(joined, frame.filter(pl.col("symbol").is_in(["FB", "IBM"])))


# --- what it refuses: settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "  "])
def test_an_unset_path_names_its_setting(path):
    with pytest.raises(ConfigurationError, match="HISTORICAL_ETL_FILES_PATH"):
        source(path)


@pytest.mark.parametrize("name", ["missing", "*.csv", "empty", "notes.txt"])
def test_a_path_without_readable_files_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "notes.txt", "x")
    with pytest.raises(ConfigurationError, match="HISTORICAL_ETL_FILES_PATH") as caught:
        source(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"columns": {"price": "Last"}}, "COLUMNS"),
        ({"columns": {"ret": "Return"}}, "COLUMNS"),
        ({"decimal": ",", "separator": ","}, "SEPARATOR"),
        ({"separator": '"'}, "SEPARATOR"),
        ({"separator": "\n"}, "SEPARATOR"),
        ({"separator": "§"}, "SEPARATOR"),
        ({"symbol": "not a symbol"}, "SYMBOL"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(tmp_path, options, setting):
    write(tmp_path / "a.csv", HEADER + ROWS)
    with pytest.raises(ConfigurationError, match=f"HISTORICAL_ETL_FILES_{setting}"):
        source(tmp_path, **options)


def test_a_fixed_symbol_beside_a_symbol_column_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", HEADER + ROWS)
    refused = refusal(path, ConfigurationError, symbol="FB")
    assert "HISTORICAL_ETL_FILES_SYMBOL" in str(refused)
    assert "a.csv" in str(refused)


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path):
    path = write(tmp_path / "a.csv", HEADER + ROWS)
    with pytest.raises(StorageError, match="nowhere"):
        FilesSource(FilesSettings(path=str(path)), scratch=tmp_path / "nowhere").fetch(WHOLE)


# --- what it refuses: content ----------------------------------------------------------------------------------------

GOOD_LINES = "2012-05-18,FB,42.05,45,38,38.23,573576400,38.23\n" * 3


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (HEADER + GOOD_LINES + "18.05.2012,FB,1,1,1,1,1,1\n", 5, "date is '18.05.2012'"),
        (HEADER + GOOD_LINES + "2012-02-30,FB,1,1,1,1,1,1\n", 5, "date is '2012-02-30'"),
        (HEADER + GOOD_LINES + "0012-05-18,FB,1,1,1,1,1,1\n", 5, "date is '0012-05-18'"),
        (HEADER + GOOD_LINES + ",FB,1,1,1,1,1,1\n", 5, "date is ''"),
        (HEADER + GOOD_LINES + "2012-05-21,FB,1,1,1,twelve,1,1\n", 5, "close is 'twelve'"),
        (HEADER + GOOD_LINES + '2012-05-21,FB,1,1,1,"38,23",1,1\n', 5, "close is '38,23'"),
        (HEADER + GOOD_LINES + "2012-05-21,F B,1,1,1,1,1,1\n", 5, "'F B' (1)"),
        (HEADER + GOOD_LINES + "2012-05-21,,1,1,1,1,1,1\n", 5, "symbol is ''"),
        (HEADER + GOOD_LINES + "2012-05-21,FB,1,1,1,1,1,1,1\n" + GOOD_LINES, 5, "9 fields where the header has 8"),
        (HEADER + GOOD_LINES + "2012-05-21,FB,1,1,1,1,1,1,\n" + GOOD_LINES, 5, "9 fields"),
        ("date,symbol,close,volume,name,x\n2012-05-18,FB,1,2,n,x,3\n2012-05-21,FB,1,2,n,x\n", 2, "7 fields"),
        (HEADER + GOOD_LINES + "2012-05-21,FB,1,1,1,1,1\n" + GOOD_LINES, 5, "7 fields"),
        (HEADER + GOOD_LINES + "2012-05-21,FB,1,1,1,1", 5, "6 fields"),
        (HEADER + "\n\n" + GOOD_LINES + "x,FB,1,1,1,1,1,1\n", 7, "date is 'x'"),
        ("\n" + HEADER + '2012-05-22,FB,1,1,1,1,1,"\n"\n' + "x,FB,1,1,1,1,1,1\n", 5, "date is 'x'"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_row_that_cannot_be_read_is_refused_by_file_and_line(tmp_path, suffix, text, line, why):
    write(tmp_path / f"aa{suffix}", HEADER + GOOD_LINES)
    path = write(tmp_path / f"bad{suffix}", text)
    files = source(tmp_path)
    good = files.rows - files.unreadable.height
    assert files.unreadable.height == 1
    assert files.set_aside == ()
    reported = "\n".join(files.notes)
    assert why in reported
    assert "(1)" in why or reported == Saying(path, "1 row", "refused", f"line {line}:")
    answer = files.fetch(WHOLE)
    assert answer.frame.height == good
    assert answer.rejected is not None
    assert_frame_equal(answer.rejected, files.unreadable)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (HEADER + GOOD_LINES + '2012-05-21,"FB,1,1,1,1,1,1\n' + GOOD_LINES, 5, "not CSV"),
        (HEADER + GOOD_LINES + '2012-05-21,FB,1,1,1,1",1,1\n' + GOOD_LINES, 5, "a quotation mark without its partner"),
        ('date,symbol,close,volume,na"me\n2012-05-18,FB,1,2,x\n', 1, "stray quotation mark"),
        ("date,sy\rmbol\n" + GOOD_LINES, 1, "header is not CSV"),
        ((HEADER + GOOD_LINES).encode() + b"2012-05-21,F\xc4,1,1,1,1,1,1\n", 5, "not UTF-8"),
        ((HEADER + GOOD_LINES).encode("utf-16"), 1, "UTF-16"),
        ((HEADER + GOOD_LINES).encode("utf-16-le"), 1, "UTF-16"),
        (HEADER.encode("cp1252") + GOOD_LINES.encode() + b"2012-05-21,FB,1,1,1,1,1,\xa0\n", 5, "not UTF-8"),
        ((HEADER + GOOD_LINES).replace("\n", "\r"), 1, "header is not CSV"),
        ("<!DOCTYPE html>\n<html><body>404</body></html>\n", 1, "HTML"),
        ("", 1, "empty"),
        ("\n\n", 1, "empty"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_unreadable_csv_is_refused_by_file_and_line(tmp_path, suffix, text, line, why):
    path = write(tmp_path / f"bad{suffix}", text)
    refused = refusal(tmp_path)
    assert refused.where == f"{path}, line {line}"
    assert why in refused.what
    assert refused.todo
    write(tmp_path / f"aa{suffix}", HEADER + GOOD_LINES)
    files = source(tmp_path)
    assert files.fetch(WHOLE).frame.height == 3
    assert files.set_aside == (str(refused),)


@pytest.mark.parametrize("text", ["573,576,400", "$1"])
def test_numbers_that_can_mean_one_thing_only_are_taken(tmp_path, text):
    column = "volume" if "," in text else "open"
    row = "2012-05-21,FB,1,1,1,1.5,1,1\n" if column == "open" else '2012-05-21,FB,1,1,1,1.5,"573,576,400",1\n'
    write(tmp_path / "a.csv", HEADER + GOOD_LINES + row.replace("FB,1", "FB,$1") if column == "open" else HEADER + row)
    frame = source(tmp_path).fetch(WHOLE).frame
    assert frame.row(-1, named=True)[column] == (1.0 if column == "open" else 573576400.0)


@pytest.mark.parametrize(
    ("header", "why", "todo"),
    [
        ("date,symbol,last,volume", "No column for close (is it 'last'?); the header has: date, symbol,", "close=last"),
        (
            "Date,Last,Size,symbol",
            "No column for close (is it 'Last'?), volume (is it 'Size'?)",
            "FILES_COLUMNS=close=",
        ),
        ("date,symbol,volume", "No column for close; the header has: date, symbol, volume", "close=<name"),
        ("date,close,volume,Security", "symbol (is it 'Security'?)", "HISTORICAL_ETL_FILES_COLUMNS=symbol="),
        ("date,symbol,Close,close_,volume", "2 columns could be close: 'Close', 'close_'", "close=<name"),
        ("date,symbol,close,close,volume", "2 columns are called 'close'; which is close?", "a name of its own"),
    ],
)
def test_a_header_that_lacks_or_doubles_a_column(tmp_path, header, why, todo):
    path = write(tmp_path / "a.csv", header + "\n")
    refused = refusal(path, SchemaDriftError)
    assert refused.where == f"{path}, line 1"
    assert why in refused.what
    assert todo in refused.todo


def test_what_is_set_goes_before_what_the_header_shows(tmp_path):
    path = write(tmp_path / "a.csv", "date;symbol;close;volume\n")
    refused = refusal(path, SchemaDriftError, separator=",")
    assert "No column for date, close, volume" in refused.what
    assert "HISTORICAL_ETL_FILES_SEPARATOR to ';'" in refused.todo


def test_a_mapped_column_that_is_missing_is_an_error_even_if_optional(tmp_path):
    path = write(tmp_path / "a.csv", HEADER)
    refused = refusal(path, SchemaDriftError, columns={"open": "Opening"})
    assert "Opening (as open)" in refused.what
    assert "HISTORICAL_ETL_FILES_COLUMNS" in refused.todo


@pytest.mark.parametrize("options", [{"decimal": ",", "separator": ";"}, {}])
def test_a_point_among_decimal_commas_is_never_read_as_a_small_number(tmp_path, options):
    path = write(tmp_path / "a.csv", "date;symbol;close;volume\n2012-05-18;FB;38,23;1000\n2012-05-21;FB;1.234;1000\n")
    files = source(path, **options)
    assert files.fetch(WHOLE).frame["close"].to_list() == [38.23]
    assert Saying("line 3", "close is '1.234'", "','") in files.notes


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("auto", "2012-05-18 23:00"),
        ("auto", "2012-05-18T07:00:00Z"),
        ("%Y-%m-%d %H:%M", "2012-05-18 16:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2012-05-18T00:00:00+0000"),
        ("%d.%m.%Y", "18.05.12"),
        ("%nonsense", "2012-05-18"),
    ],
)
def test_dates_that_could_shift_are_refused(tmp_path, form, text):
    path = write(tmp_path / "a.csv", f"date,symbol,close,volume\n{text},FB,1,2\n")
    refused = refusal(path, date_format=form)
    assert refused.where == f"{path}, line 2"
    assert text in refused.what
    assert "HISTORICAL_ETL_FILES_DATE_FORMAT" in refused.todo


def test_a_file_name_that_is_no_symbol(tmp_path):
    path = write(tmp_path / "daily prices.csv", "date,close,volume\n")
    refused = refusal(path, SchemaDriftError)
    assert refused.where == str(path)
    assert "HISTORICAL_ETL_FILES_SYMBOL" in refused.todo


@pytest.mark.parametrize("cut", [1, 8, 30])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_gzip_file_that_is_cut_off(tmp_path, cut, lines):
    path = write(tmp_path / "a.csv.gz", HEADER + GOOD_LINES * lines)
    path.write_bytes(path.read_bytes()[:-cut])
    refused = refusal(path)
    assert "gzip stream is cut off" in refused.what
    assert re.fullmatch(re.escape(str(path)) + r", line \d+", str(refused.where))


def test_a_bad_line_behind_many_good_ones_and_in_one_of_many_files(tmp_path):
    for number in range(40):
        write(tmp_path / f"f{number:02}.csv", HEADER + GOOD_LINES)
    for line in ("2012-05-21,FB,1,1,1,x,1,1\n", "2012-05-21,FB,1,1,1,1,1,1,1\n"):
        path = write(tmp_path / "f17.csv", HEADER + GOOD_LINES * 20_000 + line)
        files = source(tmp_path)
        (note,) = files.notes
        assert note == Saying(path, "1 row", "refused", "line 60002:")
        assert files.fetch(WHOLE).frame.height == 39 * 3 + 60_000


@pytest.mark.parametrize(
    ("dates", "columns", "why"),
    [
        ([date(2012, 5, 18), None], {}, "date is 'None'"),
        ([naive("2012-05-18"), naive("2012-05-21T16:00")], {}, "date is '2012-05-21 16:00"),
        ([datetime(2012, 5, 18, 4, tzinfo=UTC), datetime(2012, 5, 21, tzinfo=UTC)], {}, "date is '2012-05-21 00:00"),
        ([date(2012, 5, 18), date(12, 5, 21)], {}, "date is '0012-05-21'"),
        ([date(2012, 5, 18)] * 2, {"symbol": ["FB", "F B"]}, "symbol is 'F B'"),
        ([date(2012, 5, 18)] * 2, {"symbol": ["FB", None]}, "symbol is 'None'"),
    ],
)
def test_parquet_rows_that_cannot_be_read_are_refused_by_row(tmp_path, dates, columns, why):
    parquet(tmp_path / "a.parquet", [date(2012, 5, 18)])
    path = parquet(tmp_path / "b.parquet", dates, **columns)
    files = source(tmp_path)
    reported = "\n".join(files.notes)
    if "F B" in why:
        assert reported == Saying("1 row", "symbols that cannot be written", "'F B' (1)")
    else:
        assert reported == Saying(path, "1 row", "refused", f"row 2: {why}")
    assert files.fetch(WHOLE).frame.height == 2


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"date": [True]}, "date is Boolean"),
        ({"close": ["1.5"]}, "close is String"),
        ({"volume": [True]}, "volume is Boolean"),
        ({"symbol": [10107]}, "symbol is Int64"),
        ({"adj_close": [[1.0]]}, "adj_close is List(Float64)"),
    ],
)
def test_parquet_of_the_wrong_types(tmp_path, columns, why):
    path = parquet(tmp_path / "a.parquet", [date(2012, 5, 18)], **columns)
    refused = refusal(path, SchemaDriftError)
    assert why in refused.what
    assert refused.where == str(path)


def test_parquet_that_lacks_a_column(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"date": [date(2012, 5, 18)], "symbol": ["FB"], "close": [1]}).write_parquet(path)
    frame = source(path).fetch(WHOLE).frame
    assert frame["volume"].to_list() == [None], "an index or a fund has none"
    pl.read_parquet(path).drop("close").write_parquet(path)
    assert refusal(path, SchemaDriftError).what == Saying("No column for close", "date, symbol")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[: len(content) // 2], "cut off"),
        (lambda content: content[:-1], "cut off"),
        (lambda _: b"", "empty"),
        (lambda _: b"<html>404</html>", "text, not Parquet"),
        (lambda content: b"PAR1" + b"\xff" * (len(content) - 8) + b"PAR1", "cut off"),
        (lambda content: content[:4] + b"\xff" * 400 + content[404:], "cut off"),
    ],
    ids=["half", "last byte", "empty", "html", "all but magic", "pages"],
)
def test_parquet_that_is_cut_off_or_damaged(tmp_path, damage, why):
    buffer = io.BytesIO()
    days = pl.date_range(date(2000, 1, 1), date(2012, 1, 1), eager=True)
    pl.DataFrame({"date": days, "close": 1.5, "volume": range(days.len())}).write_parquet(buffer)
    pl.DataFrame({"date": days, "close": 1.5, "volume": 1}).write_parquet(tmp_path / "AA.parquet")
    path = write(tmp_path / "FB.parquet", damage(buffer.getvalue()))
    refused = refusal(path)
    assert refused.where == str(path)
    assert why in refused.what
    files = source(tmp_path)
    assert files.set_aside == (str(refused),)
    answer = files.fetch(FetchRequest(("AA", "FB"), date(2000, 1, 1), date(2000, 1, 31)))
    assert answer.outcomes == {"AA": Outcome.OK, "FB": Outcome.ERROR}
    assert answer.details == {"FB": str(refused)}


@pytest.mark.parametrize("when", ["before", "after the files were looked at"])
def test_damaged_pages_are_refused_by_name(tmp_path, when):
    path = tmp_path / "FB.parquet"
    days = pl.date_range(date(2000, 1, 1), date(2012, 1, 1), eager=True)
    frame = pl.DataFrame({"date": days, "symbol": "FB", "volume": range(days.len()), "close": range(days.len())})
    frame.write_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    # The frame header of the last column's compressed page: the keys stay whole.
    start = content.rfind(b"\x28\xb5\x2f\xfd")
    content[start : start + 4] = b"\0\0\0\0"
    files = source(path)
    if when != "before":
        assert files.members(None, None) == ["FB"]
    path.write_bytes(content)
    with pytest.raises(DataQualityError, match=re.escape(str(path))):
        files.fetch(WHOLE)


def test_a_file_that_vanishes_is_named(tmp_path):
    path = parquet(tmp_path / "a.parquet", [date(2012, 5, 18)])
    files = source(path)
    assert files.members(None, None) == ["FB"]
    path.unlink()
    with pytest.raises(DataQualityError, match=r"gone.*a\.parquet"):
        files.fetch(WHOLE)


# --- round trips -----------------------------------------------------------------------------------------------------

NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
SYMBOLS = st.from_regex(r"[A-Z0-9][A-Z0-9.\-^=]{0,14}", fullmatch=True)
FRAMES = st.lists(
    st.tuples(
        st.dates(date(1990, 1, 1), date(1990, 1, 1) + timedelta(days=1500)),
        SYMBOLS,
        *[NUMBERS] * 5,
        st.none(),
        NUMBERS,
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[:2],
).map(lambda rows: bars(*rows).sort("date", "symbol"))


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(frame=FRAMES, seed=st.integers(0, 100), parts=st.integers(1, 3), kinds=st.lists(st.booleans(), min_size=3))
def test_any_frame_written_to_files_comes_back_exactly(tmp_path_factory, frame, seed, parts, kinds):
    folder = tmp_path_factory.mktemp("dump")
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    size = -(-frame.height // parts)
    for number, part in enumerate(shuffled.iter_slices(size)):
        if kinds[number]:
            part.write_csv(folder / f"{number}.csv")
        else:
            part.write_parquet(folder / f"{number}.parquet")
    files = source(folder)
    assert_frame_equal(everything(files), frame, check_exact=True)
    low, high = frame["date"][0], frame["date"][frame.height // 2]
    some = tuple(frame["symbol"].unique().sort()[:3])
    expected = frame.filter(pl.col("date").is_between(low, high), pl.col("symbol").is_in(some))
    assert_frame_equal(files.fetch(FetchRequest(some, low, high)).frame, expected, check_exact=True)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(frame=FRAMES)
def test_any_frame_in_german_clothes_comes_back_exactly(tmp_path_factory, frame):
    path = tmp_path_factory.mktemp("dump") / "a.csv"
    frame.write_csv(path, separator=";", decimal_comma=True, date_format="%d.%m.%Y")
    files = source(path, separator=";", decimal=",", date_format="%d.%m.%Y")
    assert_frame_equal(everything(files), frame, check_exact=True)
