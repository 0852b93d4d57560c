"""C5: the events that stand beside the bars of a file are taken, and the date that is written is the session."""

import pytest

from historical_etl import FetchRequest, FilesSettings
from historical_etl.sources.files import FilesSource
from historical_etl_tests.field.files_at_hand import FAILED, FINE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits"
SESSIONS = days()


def bars(offset: str = "-05:00") -> list[str]:
    """Eight bars: a dividend of 1 on the fourth, a split 2:1 on the sixth; prices are adjusted for splits already."""
    rows: list[str] = []
    for number, day in enumerate(SESSIONS):
        adjusted = 99.0 if number < 3 else 100.0
        paid, split = ("1.0", "0.0") if number == 3 else ("0.0", "2.0" if number == 5 else "0.0")
        rows.append(f"{day} 00:00:00{offset},100.0,101.0,99.0,100.0,{adjusted},1000,{paid},{split}")
    return rows


@pytest.mark.parametrize(("offset", "newest_first"), [("-05:00", True), ("+00:00", False), ("+08:00", True)])
def test_a_file_from_yfinance(desk, offset, newest_first):
    rows = bars(offset)[::-1] if newest_first else bars(offset)
    desk.put("AAA.csv", "\n".join([HEADER, *rows]))
    answer = desk.backfill()
    assert answer.code == FINE, answer.err
    assert desk.column("date") == [day.isoformat() for day in SESSIONS]
    reported = desk.query("SELECT date, split, dividend, in_close, inferred FROM actions ORDER BY date")
    assert reported == [
        {"date": str(SESSIONS[3]), "split": 1.0, "dividend": 1.0, "in_close": False, "inferred": False},
        {"date": str(SESSIONS[5]), "split": 2.0, "dividend": 0.0, "in_close": False, "inferred": False},
    ]


def actions(tmp_path, header: str, rows: list[str], **settings):
    (tmp_path / "AAA.csv").write_text("\n".join([header, *rows]))
    source = FilesSource(FilesSettings(path=str(tmp_path), **settings))
    answer = source.fetch(FetchRequest(("AAA",), SESSIONS[0], SESSIONS[-1]))
    assert answer.actions is not None
    return source, [(row[1], *row[2:]) for row in answer.actions.sort("date").rows()]


EXPORTS = {
    "yfinance": ("Date,Close,Adj Close,Volume,Dividends,Stock Splits", "{d},100.5,100.5,1000,{p},{s}", "0.0", True),
    "Tiingo": ("date,close,volume,adjClose,divCash,splitFactor", "{d},100.5,1000,100.5,{p},{s}", "1.0", False),
    "Quandl WIKI": (
        "Date,Close,Volume,Ex-Dividend,Split Ratio,Adj. Close", "{d},100.5,1000,{p},{s},100.5", "1.0", False,
    ),
    "Alpha Vantage": (
        "timestamp,close,adjusted_close,volume,dividend_amount,split_coefficient",
        "{d},100.5,100.5,1000,{p},{s}", "1.0", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("header", "row", "no_split", "adjusted"), EXPORTS.values(), ids=list(EXPORTS))
def test_events_of_an_export(tmp_path, header, row, no_split, adjusted):
    rows = [
        row.format(d=day, p="0.25" if number == 3 else "0.0", s={5: "4.0", 6: "0.1"}.get(number, no_split))
        for number, day in enumerate(SESSIONS)
    ]
    source, found = actions(tmp_path, header, rows)
    assert found == [(SESSIONS[3], 1.0, 0.25), (SESSIONS[5], 4.0, 0.0), (SESSIONS[6], 0.1, 0.0)]
    assert source.info.split_adjusted is adjusted


@pytest.mark.parametrize("written", ["4:1", "4/1", "4.0", "4"])
def test_a_ratio_may_be_written_as_one(tmp_path, written):
    rows = [f"{day},100.5,1000,{written if number == 5 else ''}" for number, day in enumerate(SESSIONS)]
    assert actions(tmp_path, "Date,Close,Volume,Stock Splits", rows)[1] == [(SESSIONS[5], 4.0, 0.0)]


def test_gains_that_are_paid_out_are_cash_and_count_once(tmp_path):
    paid = {2: ("0.0", "1.5"), 4: ("2.0", "1.5"), 6: ("0.5", "1.5")}
    rows = [f"{day},100.5,1000,{','.join(paid.get(n, ('0', '0')))},0" for n, day in enumerate(SESSIONS)]
    found = actions(tmp_path, "Date,Close,Volume,Dividends,Capital Gains,Stock Splits", rows)[1]
    assert found == [(SESSIONS[2], 1.0, 1.5), (SESSIONS[4], 1.0, 2.0), (SESSIONS[6], 1.0, 2.0)]


def test_a_close_that_contains_its_dividends_does_not_get_them_twice(tmp_path):
    """Yfinance adjusts the close, unless asked not to, and then writes no Adj Close: it shows in the prices' digits."""
    rows = [
        f"{day},{100 * (0.9871234567891 if number < 3 else 1)},1000,{'1.0' if number == 3 else '0.0'},0.0"
        for number, day in enumerate(SESSIONS)
    ]
    source, found = actions(tmp_path, "Date,Close,Volume,Dividends,Stock Splits", rows)
    assert found == []
    assert any("contains its dividends" in note for note in source.notes)


def test_prices_on_two_bases_are_not_mixed(desk):
    desk.put("AAA.csv", "\n".join([HEADER, *bars()]))
    header, row, no_split, _ = EXPORTS["Tiingo"]
    desk.put("BBB.csv", lines(header, row.format(d="{d}", p="0.0", s=no_split), SESSIONS))
    answer = desk.backfill()
    assert answer.code != FINE
    assert answer.err == Saying("AAA.csv are adjusted for splits", "BBB.csv are not")
    assert desk.backfill(SPLIT_ADJUSTED="true").code == FINE


def test_a_setting_says_it_otherwise(tmp_path):
    header, row, no_split, _ = EXPORTS["yfinance"]
    rows = [row.format(d=day, p="0.0", s=no_split) for day in SESSIONS]
    assert not actions(tmp_path, header, rows, split_adjusted=False)[0].info.split_adjusted


def test_files_without_events_name_none(tmp_path):
    (tmp_path / "AAA.csv").write_text(lines("Date,Close,Volume", "{d},100,1000", SESSIONS))
    source = FilesSource(FilesSettings(path=str(tmp_path)))
    assert source.fetch(FetchRequest(("AAA",), SESSIONS[0], SESSIONS[-1])).actions is None


def test_an_event_that_cannot_be_read_is_reported(desk):
    rows = bars()
    rows[5] = rows[5].replace("0.0,2.0", "0.0,two")
    desk.put("AAA.csv", "\n".join([HEADER, *rows]))
    answer = desk.backfill()
    assert answer.code not in (FINE, FAILED)
    assert "line 7: split is 'two'" in answer.err
