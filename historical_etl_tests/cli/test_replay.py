"""`replay`: days of the sample lived through, one line each; in the end the store that a careful client has."""

import re
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import FetchRequest, HistoricalETL
from historical_etl.sources.replay import ReplaySource
from historical_etl_tests.cli.conftest import CommandLine
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import KEYS

LAST = date(2013, 3, 1)
#: A quiet day, the day of Microsoft's dividend, and the days of IBM's late bar.
FEBRUARY = ("replay", "--from", "2005-02-14", "--days", "4", "--since", "2005")


def lines(text: str) -> dict[str, str]:
    """What was printed of each session."""
    return dict(re.findall(r"^(\d{4}-\d\d-\d\d)  (.*)$", text, re.MULTILINE))


def as_given_on(evening: date, symbols=("AAPL", "FB", "GOOG", "IBM", "MSFT"), start=date(2004, 1, 1)) -> pl.DataFrame:
    source = ReplaySource(lambda: evening)
    return source.fetch(FetchRequest(tuple(symbols), start, LAST)).frame.drop("ret").sort(KEYS)


def stored(cli: CommandLine) -> pl.DataFrame:
    return HistoricalETL.open(cli.data).scan().collect().drop("ret").sort(KEYS)


def test_without_options_it_reports_a_month_with_a_split_two_dividends_and_a_late_bar(cli: CommandLine):
    answer = cli("replay")
    assert answer.code == 0
    assert answer.out == Saying("2004-01-02", "2005-01-31", "930 rows", "AAPL, GOOG, IBM, MSFT")
    output = lines(answer.out)
    assert len(output) == 20
    assert {day: line for day, line in output.items() if line != "+4 rows"} == {
        "2005-02-02": Saying("+4 rows", "corrected", "MSFT volume of 2005-02-01"),
        "2005-02-08": Saying("+4 rows", "IBM restated", "×0.998091"),
        "2005-02-15": Saying("+4 rows", "MSFT restated", "×0.996924"),
        "2005-02-16": Saying("+3 rows", "gap found", "IBM 2005-02-16"),
        "2005-02-18": Saying("+5 rows", "gap filled", "IBM 2005-02-16"),
        "2005-02-28": Saying("+4 rows", "AAPL restated", "×0.5"),
    }
    counted = Saying("80 rows added", "1 value(s) corrected", "1 gap(s) found", "1 filled", "restated: AAPL, IBM, MSFT")
    assert answer.out == counted
    assert "next: historical-etl explain AAPL 2005-02-25" in answer.err
    assert answer.err == Saying("next", "historical-etl replay", "2005-03-02")
    assert_frame_equal(stored(cli), as_given_on(date(2005, 3, 1)), check_exact=True)
    assert cli("verify").code == 0


def test_repeated_it_changes_nothing_and_without_a_day_it_goes_on(cli: CommandLine):
    assert cli(*FEBRUARY).code == 0
    before = cli.bytes_stored()
    again = cli(*FEBRUARY)
    assert again.code == 0
    assert lines(again.out) == {}
    assert again.err == Saying("4 of these session", "stored already", "2005-02-17")
    assert again.err == Saying("--since", "empty store", "left out")
    assert cli.bytes_stored() == before
    following = cli("replay", "--days", "2")
    assert list(lines(following.out)) == ["2005-02-18", "2005-02-22"]
    assert "gap filled: IBM 2005-02-16" in following.out
    overlapping = cli("replay", "--from", "2005-02-18", "--days", "3")
    assert list(lines(overlapping.out)) == ["2005-02-23"]
    assert overlapping.err == Saying("2 of these session", "stored already")


def test_days_before_the_first_one_are_made_up_for_in_one_run(cli: CommandLine):
    assert cli(*FEBRUARY).code == 0
    answer = cli("replay", "--from", "2005-02-28", "--days", "1", "--json")
    assert [(day["session"], day["rows_added"]) for day in answer.document["sessions"]] == [
        ("2005-02-25", 21),
        ("2005-02-28", 4),
    ]
    assert answer.document["sessions"][1]["restated"] == {"AAPL": pytest.approx(0.5, abs=1e-6)}


def test_as_json_it_is_one_document(cli: CommandLine):
    answer = cli(*FEBRUARY, "--json")
    document = answer.document
    assert answer.err == ""
    assert document["history"]["total_rows"] == 116
    assert [(day["session"], day["version"], day["rows_added"]) for day in document["sessions"]] == [
        ("2005-02-14", 2, 4),
        ("2005-02-15", 3, 4),
        ("2005-02-16", 4, 3),
        ("2005-02-17", 5, 4),
    ]
    assert document["sessions"][2]["gaps_found"] == [{"symbol": "IBM", "date": "2005-02-16"}]
    assert document["sessions"][1]["restated"] == {"MSFT": pytest.approx(0.996924, abs=1e-6)}
    assert (document["version"], document["row_count"], document["complete"]) == (5, 131, True)
    assert (document["current_through"], document["next_session"]) == ("2005-02-17", "2005-02-18")
    assert document["sessions_stored_before"] == []


def test_a_symbol_that_is_listed_joins_on_its_first_session(cli: CommandLine):
    answer = cli("replay", "--from", "2012-05-17", "--days", "3", "--since", "2012")
    assert answer.code == 0
    assert lines(answer.out) == {
        "2012-05-17": "+4 rows",
        "2012-05-18": Saying("+6 rows", "FB listed", "gap filled: IBM 2012-05-16"),
        "2012-05-21": "+5 rows",
    }


def test_a_symbol_that_was_listed_on_a_day_made_up_for_joins_as_well(cli: CommandLine):
    assert cli("replay", "--from", "2012-05-15", "--days", "1", "--since", "2012").code == 0
    answer = cli("replay", "--from", "2012-05-22", "--days", "1")
    assert lines(answer.out) == {"2012-05-21": "+18 rows; FB listed", "2012-05-22": "+5 rows"}
    assert_frame_equal(stored(cli), as_given_on(date(2012, 5, 22), start=date(2012, 1, 1)), check_exact=True)


def test_named_symbols_are_all_there_is(cli: CommandLine):
    answer = cli("replay", "--from", "2005-02-15", "--days", "4", "--since", "2005", "--symbols", "ibm")
    assert answer.code == 0
    assert set(lines(answer.out).values()) == {"+1 row"}
    assert set(stored(cli)["symbol"]) == {"IBM"}


def test_it_ends_with_the_sample(cli: CommandLine):
    answer = cli("replay", "--from", "2013-02-27", "--days", "9", "--since", "2013")
    assert list(lines(answer.out)) == ["2013-02-27", "2013-02-28", "2013-03-01"]
    assert "nothing: the sample ends on 2013-03-01" in answer.err
    assert_frame_equal(stored(cli), as_given_on(LAST, start=date(2013, 1, 1)), check_exact=True)
    over = cli("replay")
    assert (over.code, over.out) == (0, "")
    assert "nothing: the sample ends on 2013-03-01" in over.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "2000-03-01"], "choose a day from 2000-03-02 to 2013-03-01"),
        (["--from", "2013-03-02"], "choose a day from 2000-03-02 to 2013-03-01"),
        (["--from", "tomorrow"], "write it as YYYY-MM-DD"),
        (["--from", "2013-01-02", "--since", "2013"], "choose a year from 2000 to 2012"),
        (["--since", "1999"], "choose a year from 2000 to 2005"),
        (["--days", "0"], "--days"),
        (["--symbols", ","], "symbols"),
    ],
)
def test_what_cannot_be_replayed_is_said_before_anything_is_stored(cli: CommandLine, options, message):
    answer = cli("replay", *options)
    assert answer.code == 2
    assert message in answer.err
    assert not cli.data.exists()


def test_a_store_on_another_basis_is_left_alone(filled: CommandLine):
    before = filled.bytes_stored()
    answer = filled("replay")
    assert answer.code == 2
    assert "another price basis" in answer.err
    assert "replay --data-dir replay" in answer.err
    assert filled.bytes_stored() == before
    elsewhere = filled("replay", "--data-dir", "replay", "--days", "1", "--since", "2005")
    assert elsewhere.code == 0
    assert "next: historical-etl --data-dir replay status" in elsewhere.err
    assert filled.bytes_stored() == before


def test_a_weekend_begins_with_the_session_after_it(cli: CommandLine):
    assert list(lines(cli("replay", "--from", "2005-02-26", "--days", "1", "--since", "2005").out)) == ["2005-02-28"]
