"""Each vendor's real client against its wire format: what the server holds is what comes, to the last bit."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import Outcome
from historical_etl.schema import SCHEMA
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import Truth

BAR = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "ret": None, "adj_close": 10.5}


def truth_of(*bars: dict[str, Any]) -> Truth:
    return Truth(pl.DataFrame([BAR | {"symbol": "ODD"} | bar for bar in bars], schema=SCHEMA))


def since(start: date, actions: pl.DataFrame) -> pl.DataFrame:
    """Without events before the range, which a source may name as well."""
    return actions.filter(pl.col("date") >= start)


def test_what_comes_is_what_the_server_holds_to_the_last_bit(vendor, serve, ask):
    server = serve()
    result = ask(server, vendor)
    assert_frame_equal(result.frame, TRUTH.expected(vendor, SYMBOLS, START, END), check_exact=True)
    assert dict(result.frame.schema) == dict(SCHEMA)
    assert dict(result.outcomes) == dict.fromkeys(SYMBOLS, Outcome.OK)
    assert not result.details


def test_splits_and_dividends_come_with_the_bars(vendor, serve, ask):
    result = ask(serve(), vendor)
    assert result.actions is not None
    assert_frame_equal(result.actions, TRUTH.expected_actions(vendor, SYMBOLS, START, END), check_exact=True)
    assert result.actions.height == 4


def test_a_range_without_actions_has_none_and_says_so(vendor, serve, ask):
    result = ask(serve(), vendor, ("HALT", "BRK.B"), date(2013, 1, 7), date(2013, 1, 9))
    assert result.actions is not None
    assert since(date(2013, 1, 7), result.actions).is_empty()
    assert result.frame.height == 6


def test_both_ends_of_a_range_are_included(vendor, serve, ask):
    day = date(2012, 12, 14)
    result = ask(serve(), vendor, ("HALT",), day, day)
    assert result.frame["date"].to_list() == [day]
    assert result.frame["volume"].to_list() == [0.0]  # a halt is 0, and stays 0


@pytest.mark.parametrize("page", [1, 4, 1000])
@pytest.mark.parametrize("vendor", ["alpaca", "massive"])
def test_pages_are_followed_to_the_end(vendor, page, serve, ask):
    start, end = date(2012, 12, 27), date(2013, 1, 4)
    server = serve(page=page)
    result = ask(server, vendor, SYMBOLS, start, end)
    assert_frame_equal(result.frame, TRUTH.expected(vendor, SYMBOLS, start, end), check_exact=True)
    assert_frame_equal(since(start, result.actions), TRUTH.expected_actions(vendor, SYMBOLS, start, end))
    assert (page > 18) == (server.asked.total() < 8)
    assert not server.repeated()


def test_a_symbol_that_the_vendor_does_not_know(vendor, serve, ask):
    result = ask(serve(), vendor, ("BRK.B", "NOSUCH"))
    # Alpaca and Massive answer with nothing where others answer with 404: that it is unknown cannot be known.
    expected = Outcome.EMPTY if vendor in {"alpaca", "massive"} else Outcome.NOT_FOUND
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "NOSUCH": expected}
    assert set(result.frame["symbol"]) == {"BRK.B"}


def test_a_symbol_without_data_in_the_range_is_empty(vendor, serve, ask):
    result = ask(serve(), vendor, ("BRK.B", "GONE", "IPOX"), date(2012, 12, 10), date(2012, 12, 11))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "GONE": Outcome.EMPTY, "IPOX": Outcome.OK}
    before = ask(serve(), vendor, ("IPOX",), date(2012, 10, 15), date(2012, 10, 16))
    assert (before.outcomes["IPOX"], before.frame.height) == (Outcome.EMPTY, 0)
    assert dict(before.frame.schema) == dict(SCHEMA)


def test_a_day_without_a_session_is_empty(vendor, serve, ask):
    result = ask(serve(), vendor, ("BRK.B", "HALT"), date(2012, 12, 25), date(2012, 12, 25))
    assert set(result.outcomes.values()) == {Outcome.EMPTY}
    assert result.frame.is_empty()


@pytest.mark.parametrize("nothing", [None, float("nan")])
@pytest.mark.parametrize("column", ["volume", "open", "close"])
def test_a_null_or_nan_is_null_and_never_0(vendor, column, nothing, serve, ask):
    bars = [{"date": date(2013, 1, 2)}, {"date": date(2013, 1, 3), column: nothing}, {"date": date(2013, 1, 4)}]
    result = ask(serve(truth_of(*bars)), vendor, ("ODD",))
    assert result.frame[column].to_list() == [BAR[column], None, BAR[column]]
    assert result.outcomes["ODD"] is Outcome.OK


def test_a_bar_of_nulls_comes_for_the_rules_to_judge(vendor, serve, ask):
    nulls = dict.fromkeys(["open", "high", "low", "close", "volume", "adj_close"])
    result = ask(serve(truth_of({"date": date(2013, 1, 2)}, {"date": date(2013, 1, 3), **nulls})), vendor, ("ODD",))
    assert result.frame.height == 2
    assert result.frame.row(1, named=True)["close"] is None


def test_a_bar_that_comes_twice_collapses(vendor, serve, ask):
    day = {"date": date(2013, 1, 3)}
    result = ask(serve(truth_of({"date": date(2013, 1, 2)}, day, day)), vendor, ("ODD",))
    assert result.frame["date"].to_list() == [date(2013, 1, 2), date(2013, 1, 3)]


def test_two_different_bars_of_one_day_both_come(serve, ask):
    """Which of them is right is not for a source to choose."""
    result = ask(
        serve(truth_of({"date": date(2013, 1, 3)}, {"date": date(2013, 1, 3), "close": 9.5})), "tiingo", ("ODD",)
    )
    assert result.frame["close"].to_list() == [10.5, 9.5]


def test_fractional_shares_stay_fractional(vendor, serve, ask):
    result = ask(serve(truth_of({"date": date(2013, 1, 3), "volume": 100.25})), vendor, ("ODD",))
    assert result.frame["volume"].to_list() == [100.25]


def test_what_a_source_says_of_itself(vendor, serve, tmp_path):
    source = serve().source(vendor, state_folder=tmp_path)
    info, able = source.info, source.info.capabilities
    assert (info.name, able.limit, able.actions, able.universe) == (vendor, "100000/second", True, False)
    assert info.version.split(" ")[0] in {"httpx", "yfinance", "alpaca-py", "massive"}
    assert info.version.split(" ")[1]
    assert able.adj_close == ("no adj_close" not in info.adjustment)
    assert info.split_adjusted == (vendor == "yfinance")
    assert len(info.fingerprint()) == 16
    source.close()
