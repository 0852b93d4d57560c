"""A file that was cut inside the last field of its last row, and sound files that have no line end behind it."""

import pytest

from historical_etl_tests.field.files_at_hand import INCOMPLETE, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

CLOSE = "Date,Open,High,Low,Volume,Close"
VOLUME = "Date,Open,High,Low,Close,Volume"


def put(desk, header: str, row: str, last: str) -> None:
    """A file without a line end, whose last field is `last`."""
    text = lines(header, row, days(30)).rstrip()
    desk.put("AAA.csv", text.rpartition(",")[0] + "," + last)


@pytest.mark.parametrize("last", ["93.4", "93.", "93", "9"])
def test_a_close_cut_in_its_digits_is_refused_and_reported(desk, last):
    put(desk, CLOSE, "{d},93.51,93.60,93.40,1000,93.45", last)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert answer.err == Saying("line 31", "without a line end", "cut")
    assert desk.symbols() == {"AAA": 29}


@pytest.mark.parametrize("last", ["93.", "9", "9."])
def test_likewise_where_decimals_are_written_as_needed(desk, last):
    text = (
        lines(CLOSE, "{d},93.51,93.60,93.40,1000,93.5", days(15))
        + lines("", "{d},9,9,9,9,93.45", days(30)[15:]).lstrip()
    )
    desk.put("AAA.csv", text.rstrip().rpartition(",")[0] + "," + last)
    assert desk.read()[0].height == 29


@pytest.mark.parametrize("last", ["1", "12", "1234", "12345"])
def test_a_volume_cut_in_its_digits(desk, last):
    put(desk, VOLUME, "{d},93.51,93.60,93.40,93.45,12345", last)
    assert desk.read()[0].height == (30 if last == "12345" else 29)


def test_a_symbol_cut_in_its_letters(desk):
    desk.put("x.csv", lines("date,close,volume,symbol", "{d},93.51,1000,AAPL", days(30)).rstrip()[:-1])
    frame, _ = desk.read()
    assert frame["symbol"].unique().to_list() == ["AAPL"]
    assert frame.height == 29


@pytest.mark.parametrize(
    ("header", "row", "last"),
    [
        (CLOSE, "{d},93.51,93.60,93.40,1000,93.45", "93.49"),
        (CLOSE, "{d},93.51,93.60,93.40,1000,101.45", "99.45"),
        (VOLUME, "{d},93.51,93.60,93.40,93.45,12345", "98765"),
        (VOLUME, "{d},93.51,93.60,93.40,93.45,12345", "0"),
        (VOLUME, "{d},93.51,93.60,93.40,93.45,12345", "9876"),  # a quiet day
        (VOLUME, "{d},93.51,93.60,93.40,93.45,12345", ""),
        ("Date,Open,High,Low,Close,Volume,Comment", "{d},93.51,93.60,93.40,93.45,12345,Acme", "Ac"),
        ("Date,Open,High,Low,Close,Volume,Dividends", "{d},93.51,93.60,93.40,93.45,12345,0.0", "0.0"),
    ],
)
def test_an_intact_last_row_without_a_line_end_is_taken(desk, header, row, last):
    put(desk, header, row, last)
    assert desk.read()[0].height == 30


def test_with_a_line_end_the_row_is_whole(desk):
    put(desk, VOLUME, "{d},93.51,93.60,93.40,93.45,12345", "12\n")
    assert desk.read()[0].height == 30


def test_a_short_file_and_a_zero_are_taken(desk):
    desk.put("AAA.csv", lines(VOLUME, "{d},93.51,93.60,93.40,93.45,12345", days(4)).rstrip()[:-3])
    assert desk.read()[0].height == 4
