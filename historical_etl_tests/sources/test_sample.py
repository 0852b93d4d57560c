"""The packaged sample: real bars, whole, and honest about where they end."""

from datetime import date

import polars as pl
import pytest

from historical_etl import CoverageError, DataValidator, FetchRequest, get_calendar
from historical_etl.models import Outcome
from historical_etl.sources.sample import SampleSource
from historical_etl_tests.scenario import COLUMNS

FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
#: First session in the sample, number of bars. From the data's own provenance note.
LIVES = {
    "AAPL": (FIRST, 3270),
    "FB": (date(2012, 5, 18), 196),
    "GOOG": (date(2004, 8, 19), 2148),
    "IBM": (FIRST, 3270),
    "MSFT": (FIRST, 3270),
}


@pytest.fixture(scope="module")
def sample() -> SampleSource:
    return SampleSource()


@pytest.fixture(scope="module")
def everything(sample) -> pl.DataFrame:
    return sample.fetch(FetchRequest(tuple(LIVES), FIRST, LAST)).frame


def test_it_holds_five_symbols_for_thirteen_years(everything):
    assert dict(everything.schema) == COLUMNS
    assert everything.height == 12_154
    lives = everything.group_by("symbol").agg(pl.col("date").min(), pl.len()).sort("symbol").rows()
    assert {symbol: (first, count) for symbol, first, count in lives} == LIVES


def test_every_session_is_there_and_every_bar_passes(everything):
    validator = DataValidator()
    assert validator.validate_sessions(everything) == []
    assert validator.validate_bars(everything) == []
    expected = get_calendar("XNYS").between(FIRST, LAST).to_list()
    assert everything.filter(symbol="IBM")["date"].sort().to_list() == expected


@pytest.mark.parametrize(
    ("start", "end"),
    [(date(1999, 1, 1), date(2000, 2, 29)), (date(2013, 3, 2), date(2014, 1, 1)), (date(1900, 1, 1), date(1900, 1, 2))],
)
def test_outside_its_coverage_is_an_error_and_not_an_empty_success(sample, start, end):
    with pytest.raises(CoverageError, match="2000-03-01 to 2013-03-01") as caught:
        sample.fetch(FetchRequest(("IBM",), start, end))
    assert "HISTORICAL_ETL_SOURCE" in caught.value.todo


def test_a_range_that_begins_before_is_served_as_far_as_it_goes(sample):
    days = sample.fetch(FetchRequest(("IBM",), date(2000, 1, 1), date(2000, 3, 3))).frame["date"]
    assert days.sort().to_list() == [date(2000, 3, 1), date(2000, 3, 2), date(2000, 3, 3)]
    days = sample.fetch(FetchRequest(("IBM",), date(2013, 2, 28), date(2020, 1, 1))).frame["date"]
    assert days.sort().to_list() == [date(2013, 2, 28), date(2013, 3, 1)]


def test_an_unknown_symbol_is_not_found_and_one_before_its_listing_is_empty(sample):
    result = sample.fetch(FetchRequest(("FB", "TSLA"), date(2012, 1, 3), date(2012, 1, 31)))
    assert dict(result.outcomes) == {"FB": Outcome.EMPTY, "TSLA": Outcome.NOT_FOUND}
    assert result.frame.is_empty()


def test_members_are_those_that_trade_in_the_range(sample):
    assert sample.members(None, None) == sorted(LIVES)
    assert sample.members(date(2004, 8, 1), date(2004, 8, 18)) == ["AAPL", "IBM", "MSFT"]
    assert sample.members(date(2004, 8, 1), date(2004, 8, 19)) == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert sample.members(date(2013, 3, 2), None) == []


def test_it_says_what_it_is(sample):
    assert sample.info.name == "sample"
    assert sample.info.coverage is not None
    assert (sample.info.coverage.first, sample.info.coverage.last) == (FIRST, LAST)
    assert "adj_close" in sample.info.adjustment
