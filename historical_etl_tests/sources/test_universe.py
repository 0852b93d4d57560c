"""Membership tables: half-open intervals, and a malformed file is refused by file and line."""

import hashlib
import re
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historical_etl.errors import ConfigurationError
from historical_etl.sources.universe import PACKAGED_UNIVERSES, Interval, MembershipTable, packaged_universe
from historical_etl.symbols import SYMBOL_PATTERN

GOOD = "ticker,start_date,end_date\nAAL,1996-01-02,1997-01-15\nBRK.B,2010-02-16,\nAAL,2015-03-23,2024-09-23\n"


def table(tmp_path, text, name="members.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return MembershipTable.from_csv(path)


def on(found, day):
    return found.members(day, day)


def test_the_start_is_in_and_the_end_is_out(tmp_path):
    found = table(tmp_path, GOOD)
    assert on(found, date(1996, 1, 1)) == []
    assert on(found, date(1996, 1, 2)) == ["AAL"]
    assert on(found, date(1997, 1, 14)) == ["AAL"]
    assert on(found, date(1997, 1, 15)) == []
    assert on(found, date(2015, 3, 23)) == ["AAL", "BRK.B"]
    assert on(found, date(2024, 9, 23)) == ["BRK.B"]
    assert on(found, date(9999, 12, 31)) == ["BRK.B"]


def test_the_members_of_a_range_are_those_of_any_of_its_days(tmp_path):
    members = table(tmp_path, GOOD).members
    assert members(date(1997, 1, 14), date(1997, 12, 31)) == ["AAL"]
    assert members(date(1997, 1, 15), date(1997, 12, 31)) == []
    assert members(date(2009, 1, 1), date(2010, 2, 16)) == ["BRK.B"]
    assert members(None, date(2010, 2, 15)) == ["AAL"]
    assert members(date(2024, 9, 23), None) == ["BRK.B"]
    assert members(None, None) == ["AAL", "BRK.B"]


def test_intervals_come_in_order_of_time_whatever_the_order_of_lines(tmp_path):
    header, *lines = GOOD.splitlines()
    found = table(tmp_path, "\n".join([header, *reversed(lines)]))
    assert found.intervals("aal ") == (
        Interval(date(1996, 1, 2), date(1997, 1, 15)),
        Interval(date(2015, 3, 23), date(2024, 9, 23)),
    )
    assert found.intervals("BRK.B") == (Interval(date(2010, 2, 16)),)
    assert found.intervals("NEVER") == ()
    with pytest.raises(ConfigurationError, match="NOT A SYMBOL"):
        found.intervals("not a symbol")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("symbol,start_date,end_date\nAAL,1996-01-02,1997-01-15\n", id="symbol instead of ticker"),
        pytest.param("end_date,Ticker,name,START_DATE\n1997-01-15,aal,x,1996-01-02\n", id="order, case, extra column"),
        pytest.param(
            b"\xef\xbb\xbfticker,start_date,end_date\r\n AAL ,1996-01-02, 1997-01-15\r\n\r\n", id="from Excel"
        ),
        pytest.param('"ticker","start_date","end_date"\n"AAL","1996-01-02","1997-01-15"', id="quoted, no last newline"),
    ],
)
def test_the_same_table_in_other_clothes(tmp_path, text):
    assert table(tmp_path, text).intervals("AAL") == (Interval(date(1996, 1, 2), date(1997, 1, 15)),)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "empty"),
        ("\n\n", 1, "empty"),
        ("ticker,start_date,end_date\n", 1, "no interval"),
        ("ticker,from,to\nA,2000-01-01,\n", 1, "header"),
        ("ticker,symbol,start_date,end_date\nA,A,2000-01-01,\n", 1, "header"),
        ("ticker,start_date,start_date,end_date\nA,2000-01-01,,\n", 1, "header"),
        ("start_date,end_date\n2000-01-01,\n", 1, "header"),
        ("ticker,start_date,end_date\nA,2000-01-01,\nB,01.02.2000,\n", 3, "'01.02.2000' is not a date"),
        ("ticker,start_date,end_date\nA,,\n", 2, "'' is not a date"),
        ("ticker,start_date,end_date\nA,2000-01-01,soon\n", 2, "end_date 'soon'"),
        ("ticker,start_date,end_date\nA,2000-02-30,\n", 2, "'2000-02-30' is not a date"),
        ("ticker,start_date,end_date\nA,2000-01-02,2000-01-01\n", 2, "not after"),
        ("ticker,start_date,end_date\nA,2000-01-02,2000-01-02\n", 2, "not after"),
        ("ticker,start_date,end_date\nA,2000-01-01,2001-01-01\nB,2000-01-01,\nA,2000-12-31,\n", 4, "of line 2"),
        ("ticker,start_date,end_date\nA,2000-01-01,\na,2005-01-01,2006-01-01\n", 3, "overlaps"),
        ("ticker,start_date,end_date\nA,2000-01-01,\nA,2000-01-01,\n", 3, "overlaps"),
        ("ticker,start_date,end_date\nA B,2000-01-01,\n", 2, "'A B' is not a symbol"),
        ("ticker,start_date,end_date\n,2000-01-01,\n", 2, "'' is not a symbol"),
        ("ticker,start_date,end_date\nA,2000-01-01\n", 2, "2 fields"),
        ("ticker,start_date,end_date\nA,2000-01-01,,\n", 2, "4 fields"),
        (b"ticker,start_date,end_date\nA,2000-01-01,\n\xc4,2000-01-01,\n", 3, "UTF-8"),
        ('ticker,start_date,end_date\nA,2000-01-01,\n"B,2000-01-01,\n', 3, "not CSV"),
    ],
)
def test_a_malformed_file_is_refused_by_file_and_line(tmp_path, text, line, why):
    with pytest.raises(ConfigurationError, match=re.escape(why)) as caught:
        table(tmp_path, text)
    assert caught.value.where == f"{tmp_path / 'members.csv'}, line {line}"


def test_intervals_may_touch(tmp_path):
    found = table(tmp_path, "ticker,start_date,end_date\nA,2001-01-01,\nA,2000-01-01,2001-01-01\n")
    assert on(found, date(2001, 1, 1)) == ["A"]


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_path_that_is_no_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        MembershipTable.from_csv(path)


def test_the_packaged_table_is_whole_and_writes_symbols_as_we_do():
    found = packaged_universe("sp500")
    assert len(found.members(None, None)) == 1181
    assert sum(len(found.intervals(symbol)) for symbol in found.members(None, None)) == 1230
    assert all(re.match(SYMBOL_PATTERN, symbol) for symbol in found.members(None, None))
    assert {"BRK.B", "RDS.A"} <= set(found.members(None, None))
    assert 480 <= len(on(found, date(2008, 9, 12))) <= 510
    assert "LEHMQ" in on(found, date(2008, 9, 12))
    assert "LEHMQ" not in on(found, date(2020, 1, 2))
    digest = hashlib.sha256(PACKAGED_UNIVERSES["sp500"].read_bytes()).hexdigest()
    assert digest == "06b2d9e82cb79ec575318398c40899d8082e2a6104b6e68bceea993e11fb27cc"


def test_packaged_names_ignore_case_and_unknown_ones_are_refused_with_the_known():
    assert packaged_universe(" SP500").members(None, None) == packaged_universe("sp500").members(None, None)
    with pytest.raises(ConfigurationError, match=r"nasdaq.*sp500"):
        packaged_universe("nasdaq")


@given(
    start=st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    length=st.none() | st.integers(1, 5000),
    offset=st.integers(-6000, 6000),
)
def test_a_symbol_is_a_member_exactly_from_start_until_before_end(start, length, offset):
    stay = Interval(start, None if length is None else start + timedelta(days=length))
    found = MembershipTable({"A": [stay]})
    expected = offset >= 0 and (length is None or offset < length)
    assert (on(found, start + timedelta(days=offset)) == ["A"]) is expected
