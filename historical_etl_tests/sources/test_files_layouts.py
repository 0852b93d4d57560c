"""Exports that many people have, read without a mapping: Stooq, Sharadar, CRSP."""

from datetime import date

import pytest

from historical_etl import ConfigurationError, FetchRequest, FilesSettings
from historical_etl.sources.files import FilesSource

STOOQ = """<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
AAPL.US,D,20130102,000000,19.78,19.82,19.34,19.61,560518000,0
AAPL.US,D,20130103,000000,19.57,19.63,19.32,19.36,352965200,0
BRK-B.US,D,20130102,000000,92.0,93.1,91.9,93.0,4500000,0
"""
SHARADAR = """ticker,date,open,high,low,close,volume,closeadj,closeunadj,lastupdated
AAPL,2013-01-02,19.779,19.821,19.344,19.608,560518000,16.76,549.03,2024-01-02
"""
CRSP = """PERMNO,date,TICKER,BIDLO,ASKHI,PRC,VOL,RET,OPENPRC,CFACPR
14593,2013-01-02,AAPL,541.63,555.0,549.03,20018496,0.031682,553.82,28
14593,2013-01-03,AAPL,541.0,549.67,-542.10,12605910,-0.012622,547.88,28
14593,2013-01-04,AAPL,525.83,538.63,0,21226056,C,536.965,28
"""


def read(tmp_path, layout: str, content: str, symbols=("AAPL",)):
    (tmp_path / "export.csv").write_text(content)
    settings = FilesSettings(_env_file=None, path=str(tmp_path), layout=layout)  # pyright: ignore[reportCallIssue]
    source = FilesSource(settings)
    return source, source.fetch(FetchRequest(tuple(symbols), date(2013, 1, 1), date(2013, 1, 31))).frame


def test_stooq_has_its_own_names_and_suffixes(tmp_path):
    source, frame = read(tmp_path, "stooq", STOOQ, ["AAPL", "BRK.B"])
    assert frame.select("date", "symbol", "close", "adj_close").rows() == [
        (date(2013, 1, 2), "AAPL", 19.61, None),
        (date(2013, 1, 2), "BRK.B", 93.0, None),
        (date(2013, 1, 3), "AAPL", 19.36, None),
    ]
    assert source.info.split_adjusted
    assert "Stooq" in source.info.adjustment


def test_sharadar_gives_both_closes(tmp_path):
    source, frame = read(tmp_path, "sharadar", SHARADAR)
    assert frame.select("close", "adj_close", "volume").row(0) == (19.608, 16.76, 560518000.0)
    assert source.info.split_adjusted


def test_crsp_marks_midpoints_by_a_sign_and_missing_prices_by_zero(tmp_path):
    source, frame = read(tmp_path, "crsp", CRSP)
    assert frame["close"].to_list() == [549.03, 542.10, None]
    assert frame["adj_close"].to_list() == [549.03 / 28, 542.10 / 28, None]
    assert frame["high"].to_list() == [555.0, 549.67, 538.63]
    assert not source.info.split_adjusted


def test_what_the_settings_say_goes_before_the_layout(tmp_path):
    (tmp_path / "x.csv").write_text("TICKER;date;PRC;VOL;CFACPR\nAAPL;02.01.2013;549.03;1;28\n")
    settings = FilesSettings(
        _env_file=None,  # pyright: ignore[reportCallIssue]
        path=str(tmp_path),
        layout="CRSP",
        separator=";",
        date_format="%d.%m.%Y",
        columns={"open": "PRC", "high": "PRC", "low": "PRC"},
        adjustment="mine",
    )
    source = FilesSource(settings)
    row = source.fetch(FetchRequest(("AAPL",), date(2013, 1, 1), date(2013, 1, 31))).frame.row(0, named=True)
    assert (row["date"], row["open"], row["close"]) == (date(2013, 1, 2), 549.03, 549.03)
    assert source.info.adjustment == "mine"


def test_an_unknown_layout_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match="Unknown layout 'quandl'") as caught:
        read(tmp_path, "quandl", STOOQ)
    assert "stooq" in caught.value.todo
