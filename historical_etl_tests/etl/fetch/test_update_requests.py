"""What a run asks for: the windows of years, and the requests of an increment."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historical_etl import ConfigurationError, Coverage, CoverageError, FetchRequest, SourceInfo, get_calendar
from historical_etl.etl.completeness import Completeness
from historical_etl.etl.fetch import increment_requests, request_hash, symbols_without_history, year_windows
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl_tests.scenario import INFO

CALENDAR = get_calendar("XNYS")
END = date(2013, 3, 1)
DAYS = st.dates(date(2009, 1, 1), date(2013, 12, 31))


@given(DAYS, DAYS, DAYS)
def test_windows_are_the_closed_and_covered_sessions_of_a_range_each_once(one, other, covered):
    start, end = sorted((one, other))
    closed = date(2013, 3, 1)
    wanted = CALENDAR.between(max(start, covered), min(end, closed)).to_list()
    years = {day.year for day in CALENDAR.between(start, end)}
    try:
        windows = year_windows(start, end, coverage=Coverage(covered), last_closed=closed, calendar=CALENDAR)
    except CoverageError:
        assert years > {day.year for day in wanted}
        return
    except ConfigurationError:
        assert not years
        return
    assert [day for window in windows for day in CALENDAR.between(window.start, window.end)] == wanted
    for window in windows:
        assert window.start.year == window.end.year == window.year
        assert covered <= window.lead_in <= window.start


def test_a_year_without_a_session_to_fetch_is_named_in_the_error():
    with pytest.raises(CoverageError) as caught:
        year_windows(
            date(2008, 1, 1),
            date(2011, 12, 31),
            coverage=Coverage(date(2010, 6, 1)),
            last_closed=END,
            calendar=CALENDAR,
            plan="the plan gives two years",
        )
    assert str(caught.value.where) == "2008-2009"
    assert "the plan gives two years" in caught.value.what


def completeness(*symbols: Mapping[str, object], gaps: Sequence[Mapping[str, object]] = ()) -> Completeness:
    common = {"status": "live", "contiguous_through": None}
    return Completeness(
        pl.DataFrame([{**common, **symbol} for symbol in symbols], schema=SCHEMAS["symbols"]),
        pl.DataFrame(list(gaps), schema=SCHEMAS["open_gaps"]),
    )


def stored(symbol: str, last: date, **values: object) -> dict[str, object]:
    return {
        "symbol": symbol,
        "first_session": date(2010, 1, 4),
        "last_session": last,
        "adjusted_through": last,
    } | values


def requests_for(
    symbols: list[str], known: Completeness, *, covered: date | None = None, batch: int = 100, insist: bool = False
) -> list[FetchRequest]:
    return increment_requests(
        symbols,
        known,
        first=date(2000, 1, 1),
        covered=covered,
        end=END,
        overlap_sessions=5,
        batch=batch,
        calendar=CALENDAR,
        insist=insist,
        kept_from={},
    )


def test_a_symbol_is_asked_for_from_some_stored_sessions_back():
    (request,) = requests_for(["AAA"], completeness(stored("AAA", date(2013, 2, 28))))
    assert request == FetchRequest(("AAA",), date(2013, 2, 22), END), "five stored sessions, and the new one"


def test_symbols_of_one_range_share_requests_of_a_size():
    known = completeness(*(stored(name, date(2013, 2, 28)) for name in "ABC"), stored("D", date(2013, 2, 1)))
    found = requests_for(["D", "C", "B", "A"], known, batch=2)
    assert [request.symbols for request in found] == [("D",), ("A", "B"), ("C",)]


def test_a_symbol_that_is_not_stored_is_asked_for_from_the_first_day_that_the_source_has():
    (request,) = requests_for(["NEW"], completeness(), covered=date(2012, 5, 1))
    assert (request.start, request.end) == (date(2012, 5, 1), END)
    assert symbols_without_history([request], completeness()) == {"NEW"}
    begins = completeness(stored("NEW", END))
    assert symbols_without_history([request], begins) == set()


def test_an_open_gap_that_is_due_is_asked_for_again_and_one_that_is_not_only_on_request():
    gap = {"symbol": "AAA", "first_session": date(2012, 6, 1), "last_session": date(2012, 6, 1), "status": "open"}
    symbol = stored("AAA", date(2013, 2, 28))
    due = completeness(symbol, gaps=[gap | {"due": END, "attempts": 1}])
    (request,) = requests_for(["AAA"], due)
    assert CALENDAR.between(request.start, date(2012, 5, 31)).len() == 5
    later = completeness(symbol, gaps=[gap | {"due": END + timedelta(days=1), "attempts": 1}])
    assert requests_for(["AAA"], later)[0].start == date(2013, 2, 22)
    assert requests_for(["AAA"], later, insist=True) == [request]


@pytest.mark.parametrize("due", [None, END, END + timedelta(days=1)])
def test_a_symbol_that_has_ended_is_asked_for_when_its_pause_is_over(due):
    ended = completeness(stored("AAA", date(2012, 2, 28), status="ended", due=due))
    assert bool(requests_for(["AAA"], ended)) is (due is None or due <= END)
    assert requests_for(["AAA"], ended, insist=True)


def test_while_no_adj_close_comes_the_overlap_reaches_the_last_session_that_had_one():
    silent = completeness(stored("AAA", date(2013, 2, 28), adjusted_through=date(2013, 2, 14)))
    (request,) = requests_for(["AAA"], silent)
    assert CALENDAR.between(request.start, date(2013, 2, 14)).len() == 5


def test_a_hash_of_a_request_is_the_same_for_symbols_in_any_order_and_another_for_another_source():
    one = request_hash(["A", "B"], END, END, INFO)
    assert one == request_hash(["B", "A"], END, END, INFO)
    assert one != request_hash(["A"], END, END, INFO)
    assert one != request_hash(["A", "B"], END, END, SourceInfo("other", "1", INFO.adjustment))
    assert one == request_hash(["A", "B"], END, END, SourceInfo("scripted", "2", INFO.adjustment)), (
        "of its next release"
    )
