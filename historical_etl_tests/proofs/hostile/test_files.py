"""CSV and Parquet files of a user that are not what their names say."""

import gzip
import io
from datetime import date

import duckdb
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from historical_etl.errors import HistoricalETLError
from historical_etl.settings import FilesSettings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.files import FilesSource
from historical_etl_tests.proofs.hostile.mutations import fuzz, spoilt_bytes
from historical_etl_tests.scenario import COLUMNS, SHORT

CSV = (
    b"date,symbol,open,high,low,close,volume,adj_close\n"
    b"2012-05-18,FB,42.05,45,38,38.23,573576400,38.23\n"
    b'2012-05-21,"BRK.B",80,81.5,79,80.25,1000,\n'
    b"2013-01-02,FB,27.44,28.18,27.42,28,69846400,28\n"
)
STOOQ = (
    b"<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    b"AAPL.US,D,20120518,000000,1,2,0.5,1.5,100,0\nAAPL.US,D,20120521,000000,1,2,0.5,1.5,100,0\n"
)
CRSP = (
    b"PERMNO,date,TICKER,OPENPRC,ASKHI,BIDLO,PRC,VOL,CFACPR\n"
    b"1,2012-05-18,FB,42.05,45,38,-38.23,573576400,1\n1,2012-05-21,FB,42.05,45,38,38.23,573576400,2\n"
)


def parquet() -> bytes:
    out = io.BytesIO()
    SHORT.bars(["HALT"], end=date(2012, 10, 12)).write_parquet(out)
    return out.getvalue()


def read(folder, **settings) -> pl.DataFrame | None:
    """What the source makes of a folder; None where it refuses it in our words."""
    try:
        given = FilesSettings.model_validate({"path": str(folder)} | settings)
    except ValidationError:
        return None
    try:
        source = FilesSource(given)
        symbols = source.members(None, None)
        if not symbols:
            return None
        answer = source.fetch(FetchRequest(tuple(symbols), date.min, date.max))
    except HistoricalETLError as error:
        assert str(error)
        return None
    assert answer.frame.schema == COLUMNS
    assert set(answer.outcomes) == set(symbols)
    assert all(symbol.isascii() for symbol in answer.frame["symbol"])
    return answer.frame


@fuzz(60)
@given(
    content=spoilt_bytes(CSV),
    settings=st.fixed_dictionaries(
        {},
        optional={
            "decimal": st.just(","),
            "separator": st.sampled_from([";", "|", "\t", " ", "a"]),
            "columns": st.sampled_from([{"date": "date"}, {"close": "symbol"}, {"symbol": "nothing"}, {"close": ""}]),
            "date_format": st.sampled_from(["%Y-%m-%d", "%d.%m.%y", "%", "%Q", "", "%H:%M", "%Y-%m-%dT%H:%M%z", "{}"]),
            "symbol": st.sampled_from(["FB", "no symbol", "ß"]),
            "layout": st.sampled_from(["generic", "stooq", "sharadar", "crsp", "nothing"]),
        },
    ),
)
@example(content=CSV.replace(b"FB", "ß".encode()), settings={})
@example(content=CSV.replace(b"27.44", b"9" * 400), settings={})
@example(content=CSV.replace(b"2012", b"9999"), settings={})
@example(content=CSV.decode().encode("utf-16"), settings={})
@example(content=CSV + b'"' + b"x" * 200_000, settings={})
def test_csv(content, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("csv")
    (folder / "prices.csv").write_bytes(content)
    read(folder, **settings)
    assert (folder / "prices.csv").read_bytes() == content


@pytest.mark.parametrize(("layout", "content"), [("stooq", STOOQ), ("crsp", CRSP)])
@fuzz(25)
@given(data=st.data())
def test_layouts(layout, content, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout")
    (folder / "prices.csv").write_bytes(data.draw(spoilt_bytes(content)))
    read(folder, layout=layout)


@fuzz(30)
@given(content=spoilt_bytes(gzip.compress(CSV, mtime=0)))
@example(content=gzip.compress(CSV) + b"garbage")
@example(content=gzip.compress(CSV)[:-4])
def test_packed_csv(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    (folder / "prices.csv.gz").write_bytes(content)
    read(folder)


@fuzz(60)
@given(content=spoilt_bytes(parquet()))
@example(content=b"PAR1PAR1")
def test_parquet(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    (folder / "HALT.parquet").write_bytes(content)
    read(folder)


@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in {"symbol", "ret"}])
def test_a_file_with_one_broken_column_is_skipped_whichever_it_is(column, tmp_path):
    """Polars opens what it needs: a row that is looked at for its fault alone would be the first to need the rest."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "HALT.parquet").write_bytes(parquet())
    path = folder / "ODD.parquet"
    bars = SHORT.bars(["BRK.B"], end=date(2012, 10, 12))
    bars.with_columns(symbol=pl.Series(["no symbol!", *bars["symbol"][1:]])).write_parquet(path)
    (start,) = duckdb.execute(
        "SELECT least(dictionary_page_offset, data_page_offset) FROM parquet_metadata($path)"
        " WHERE path_in_schema = $column",
        {"path": str(path), "column": column},
    ).fetchall()[0]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    found = read(folder)
    assert found is not None
    assert set(found["symbol"]) == {"HALT"}


@pytest.mark.parametrize("day", [10**9, -(10**9), 2**31 - 1, -(2**31)])
def test_a_file_with_a_day_that_no_calendar_has_is_skipped(day, tmp_path):
    """Polars panics when it is to write such a day as text."""
    (tmp_path / "HALT.parquet").write_bytes(parquet())
    bars = SHORT.bars(["BRK.B"], end=date(2012, 10, 12))
    days = bars["date"].cast(pl.Int32).to_list()
    odd = bars.with_columns(date=pl.Series([day, *days[1:]], dtype=pl.Int32).cast(pl.Date))
    odd.write_parquet(tmp_path / "ODD.parquet")
    found = read(tmp_path)
    assert found is not None
    assert "HALT" in set(found["symbol"])
    assert found["date"].is_between(date(2012, 1, 1), date(2013, 12, 31)).all()


def test_the_intact_ones_are_read(tmp_path):
    """The seeds of the tests above are what they believe them to be."""
    for name, content, settings in (
        ("a.csv", CSV, {}),
        ("a.csv.gz", gzip.compress(CSV), {}),
        ("a.csv", STOOQ, {"layout": "stooq"}),
        ("a.csv", CRSP, {"layout": "crsp"}),
        ("HALT.parquet", parquet(), {}),
    ):
        folder = tmp_path / f"{name} {settings}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        assert read(folder, **settings) is not None


@pytest.mark.parametrize("symbol", ["ß", "ſ", "ﬁ", "ı"])
def test_letters_that_only_look_like_ours_in_capitals_are_no_symbol(tmp_path, symbol):
    (tmp_path / "a.csv").write_bytes(CSV.replace(b"FB", symbol.encode()))
    found = read(tmp_path)
    assert found is not None
    assert set(found["symbol"]) == {"BRK.B"}
