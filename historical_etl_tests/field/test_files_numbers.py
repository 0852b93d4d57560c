"""Numbers as people's files write them: how separators are read, what is asked, and what an unreadable cell costs."""

import pytest

from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk, lines

__all__ = ["desk"]

HEADER = "Date,Open,High,Low,Close,Volume"
GERMAN = HEADER.replace(",", ";")
NARROW, NO_BREAK, APOSTROPHE = "\u202f", "\u00a0", "\u2019"


def test_german_thousands_without_decimals_are_asked_for(desk):
    desk.put("AAA.csv", lines(GERMAN, "{d};1.21{n};1.22{n};1.20{n};1.21{n};12.31{n}", days(), "%d.%m.%Y"))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "'1.210'" in answer.err
    assert "'12.310'" in answer.err
    assert "HISTORICAL_ETL_FILES_DECIMAL=, " in answer.err
    assert "HISTORICAL_ETL_FILES_DECIMAL=. " in answer.err
    assert desk.backfill(DECIMAL=",").code == FINE
    assert desk.column("close") == [1210.0 + n for n in range(8)]
    assert desk.column("volume") == [12310.0 + n for n in range(8)]


def test_millions_beside_such_prices_are_asked_for(desk):
    desk.put("AAA.csv", lines(GERMAN, "{d};1.21{n};1.22{n};1.20{n};1.21{n};1.234.56{n}", days()))
    assert "FILES_DECIMAL=," in desk.refusal()
    assert desk.read(decimal=",")[0]["volume"][0] == 1234560.0


@pytest.mark.parametrize(
    "row",
    [
        "{d},1.21{n},1.22{n},1.20{n},1.21{n},12319",  # four digits in a row: nothing sets thousands apart
        "{d},0.12{n},0.12{n},0.12{n},0.12{n},523",
        "{d},1.21{n},1.22{n},1.20{n},1.21{n},523",
        "{d},1.21{n},1.22{n},1.20{n},1.21{n},0",
        "{d},1.21{n},1.22{n},1.20{n},1.21{n},",
        "{d},1.21{n},1.22{n},1.20{n},1.21{n},12.5",
        "{d},1001.21{n},1001.22{n},1001.20{n},1001.21{n},12.319",
    ],
)
def test_prices_of_three_decimals_are_prices(desk, row):
    desk.put("AAA.csv", lines(HEADER, row, days()))
    assert desk.read()[0]["close"].to_list() == [float(row.split(",")[4].format(n=n)) for n in range(8)]


THOUSANDS = {
    "lakh": '{d},"1,23,410.50","1,23,420.50","1,23,400.50","1,23,410.50","12,34,51{n}"',
    "lakh, whole": '{d},"1,23,410","1,23,420","1,23,400","1,23,410","12,34,51{n}"',
    "crore": '{d},"2,01,23,410.50","2,01,23,420","2,01,23,400","2,01,23,410.50","2,12,34,51{n}"',
    "apostrophe": "{d},1'210.50,1'220.50,1'200.50,1'210.50,1'234'51{n}",
    "narrow spaces": "{d},1 210.50,1 220.50,1 200.50,1 210.50,1 234 51{n}".replace(" ", NARROW),
    "no-break spaces": "{d},1 210.50,1 220.50,1 200.50,1 210.50,1 234 51{n}".replace(" ", NO_BREAK),
    "curly": "{d},1 210.50,1 220.50,1 200.50,1 210.50,1 234 51{n}".replace(" ", APOSTROPHE),
    "spaces": "{d},1 210.50,1 220.50,1 200.50,1 210.50,1 234 51{n}",
    "whole with spaces": "{d},1 210,1 220,1 200,1 210,1 234 51{n}",
    "rupees": '{d},"₹1,210.50","₹1,220.50","₹1,200.50","₹1,210.50","12,34,51{n}"',
}


@pytest.mark.parametrize("decimal", ["auto", "."])
@pytest.mark.parametrize("row", THOUSANDS.values(), ids=list(THOUSANDS))
def test_thousands_set_apart(desk, row, decimal):
    desk.put("AAA.csv", lines(HEADER, row, days()))
    frame, notes = desk.read(decimal=decimal)
    bare = "".join(sign for sign in row.split(",{d}")[-1] if sign.isdigit() or sign in ".{}n")
    volume = frame["volume"].to_list()
    assert [value % 10 for value in volume] == list(range(8))
    assert min(volume) > 1e6
    assert bare
    assert frame["close"].min() in {123410.5, 123410.0, 20123410.5, 1210.5, 1210.0}
    assert not any("cannot be read" in note for note in notes)


@pytest.mark.parametrize("space", [" ", NARROW, NO_BREAK])
@pytest.mark.parametrize("decimal", ["auto", ","])
def test_french_thousands(desk, space, decimal):
    row = "{d};1 210,50;1 220,50;1 200,50;1 210,50;1 234 51{n}".replace(" ", space)
    desk.put("AAA.csv", lines(GERMAN, row, days()))
    frame, _ = desk.read(decimal=decimal)
    assert frame["close"].to_list() == [1210.5] * 8
    assert frame["volume"].to_list() == [1234510.0 + n for n in range(8)]


def test_one_volume_above_a_lakh(desk):
    text = lines(HEADER, '{d},10,11,9,1{n},"98,31{n}"', days())
    desk.put("NSE.csv", text.replace('"98,313"', '"1,02,345"'))
    assert desk.read()[0]["volume"].to_list()[3] == 102345.0
    assert desk.read()[0].height == 8


@pytest.mark.parametrize("text", ["1,2", "12,34", "1,23,4", "1,2345", "0,125", "1,23 456", "1,234,56"])
def test_what_no_thousands_are_written_like_is_no_number(desk, text):
    desk.put("AAA.csv", lines(HEADER, f'{{d}},10.50,11.50,9.50,10.50,"{text}"', days()))
    assert desk.read()[0]["volume"].to_list() == [None] * 8


@pytest.mark.parametrize("column", ["Open", "High", "Low", "Volume", "Adj Close"])
@pytest.mark.parametrize("cell", ["12%", "n.m.", "x", "10.00p", "45 1/2", "#VALUE!"])
def test_an_unreadable_cell_beside_a_good_close_refuses_nothing(desk, column, cell):
    header = ["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume", "Dividends"]
    values = {"Date": "{d}", "Volume": "100{n}", "Dividends": "0.0"}
    good = ",".join(values.get(name, "10.5") for name in header)
    bad = ",".join({**values, column: cell}.get(name, "10.5") for name in header)
    rows = [lines("", good, [day]) if n % 3 else lines("", bad, [day]) for n, day in enumerate(days(30))]
    desk.put("AAA.csv", ",".join(header) + "".join(rows).replace("\n\n", "\n").rstrip() + "\n")
    frame, notes = desk.read()
    assert frame.height == 30
    assert frame["close"].to_list() == [10.5] * 30
    (reported,) = [note for note in notes if "cannot be read" in note]
    assert "10 bar(s)" in reported
    assert "line 2" in reported
    assert f"'{cell}'" in reported


def test_all_volumes_unreadable_leave_the_closes(desk):
    desk.put("AAA.csv", lines(HEADER, "{d},10.5,11.5,9.5,10.5,12%", days()))
    assert desk.backfill().code == FINE
    assert desk.column("close") == [10.5] * 8


@pytest.mark.parametrize("close", ["99.5%", "10.00p", "45 1/2", "99-16"])
def test_a_close_that_no_setting_reads_is_not_sent_to_one(desk, close):
    desk.put("AAA.csv", lines(HEADER, "{d},10.5,11.5,9.5," + close + ",1000", days()))
    message = desk.refusal()
    assert "FILES_DECIMAL" not in message
    assert "plain numbers" in message


@pytest.mark.parametrize(("said", "advised"), [(".", ","), (",", ".")])
def test_a_close_that_the_other_sign_reads_is_sent_to_it(desk, said, advised):
    row = "{d};1{x}5;1{x}5;1{x}5;1{x}5;1000".replace("{x}", advised)
    desk.put("AAA.csv", lines(GERMAN, row, days()))
    assert f"set HISTORICAL_ETL_FILES_DECIMAL={advised}" in desk.refusal(decimal=said)
    assert desk.read(decimal=advised)[0]["close"].to_list() == [1.5] * 8


@pytest.mark.parametrize(("decimal", "close"), [(".", 1101.0), (",", 1.101)])
def test_both_commands_that_the_question_names_work(desk, decimal, close):
    desk.put("AAA.csv", lines(HEADER, '{d},"1,101","1,102","1,099","1,101","1,234"', days()))
    message = desk.refusal()
    assert f"FILES_DECIMAL={decimal}" in message
    assert desk.read(decimal=decimal)[0]["close"].to_list() == [close] * 8


def test_a_row_that_is_to_come_is_refused(desk):
    desk.put("AAA.csv", lines(HEADER, "{d},10,11,9,10,100", days()) + "2199-03-01,9,9,9,9,5\n")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert "'2199-03-01', which is to come" in answer.err
    assert desk.symbols() == {"AAA": 8}
