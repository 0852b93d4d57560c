"""What goes wrong on the way: each fault has one meaning, for every vendor and whichever client meets it."""

from datetime import date

import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, Outcome, ProviderUnavailableError, RateLimitedError
from historical_etl_tests.sources.vendors.conftest import END, START, TRUTH
from historical_etl_tests.sources.vendors.loopback import (
    KEY,
    PASSING,
    SECRET,
    VENDORS,
    Fault,
    Faults,
    always,
    scripted,
)

#: Where the answers about one symbol are, so that one symbol can fail and others not.
UNIT = {"tiingo": "/daily/HALT/", "eodhd": "/HALT.US", "yfinance": "/chart/HALT", "massive": "/ticker/HALT/"}


#: Where the data are, where a client asks for other things too.
DATA = {"yfinance": "/chart/"}


@pytest.mark.parametrize("fault", [*PASSING, Fault.SLOW])
def test_what_passes_is_asked_again_and_comes(vendor, fault, serve, ask):
    server = serve(faults=scripted(None, fault, containing=DATA.get(vendor, "")), slow=0.6)
    result = ask(server, vendor, ("BRK.B", "SPLT"), timeout_seconds=0.3 if fault is Fault.SLOW else 30)
    assert_frame_equal(result.frame, TRUTH.expected(vendor, ("BRK.B", "SPLT"), START, END), check_exact=True)
    assert set(result.outcomes.values()) == {Outcome.OK}


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault not in {Fault.LIMITED, Fault.LIMITED_FOR}])
@pytest.mark.parametrize("vendor", UNIT)
def test_what_stays_is_the_outcome_of_its_symbol_alone(vendor, fault, serve, ask):
    result = ask(serve(faults=always(fault, UNIT[vendor])), vendor, ("BRK.B", "HALT"))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.ERROR}
    assert set(result.frame["symbol"]) == {"BRK.B"}
    assert result.details["HALT"]


@pytest.mark.parametrize("vendor", UNIT)
def test_after_a_rate_limit_the_rest_is_not_asked(vendor, serve, ask):
    server = serve(faults=always(Fault.LIMITED, UNIT[vendor]))
    result = ask(server, vendor, ("BRK.B", "HALT", "SPLT"), actions=False)
    assert dict(result.outcomes) == {
        "BRK.B": Outcome.OK,
        "HALT": Outcome.RATE_LIMITED,
        "SPLT": Outcome.RATE_LIMITED,
    }
    assert "go on after 2024-06-03" in result.details["SPLT"]
    assert not [unit for unit in server.asked if "SPLT" in unit]


@pytest.mark.parametrize("fault", [Fault.LIMITED, Fault.LIMITED_FOR])
def test_nothing_but_rate_limits_is_an_error_that_says_when_to_go_on(vendor, fault, serve, ask):
    with pytest.raises(RateLimitedError) as caught:
        ask(serve(faults=always(fault)), vendor)
    assert "429" in caught.value.what or "Too Many Requests" in caught.value.what
    assert caught.value.retryable
    assert "go on" in caught.value.todo


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.HTML, Fault.TRUNCATED, Fault.CUT, Fault.SLOW])
def test_nothing_but_failures_is_an_error(vendor, fault, serve, ask):
    """An error page with status 200 is a failure like any other, and never "no data"."""
    with pytest.raises(ProviderUnavailableError) as caught:
        ask(serve(faults=always(fault), slow=0.4), vendor, ("BRK.B",), timeout_seconds=0.2, attempts=2)
    assert caught.value.retryable
    assert "BRK.B" not in str(caught.value.where)


def test_an_outage_opens_the_breaker_and_the_rest_is_not_asked(serve, ask):
    server = serve(faults=always(Fault.ERROR))
    with pytest.raises(ProviderUnavailableError):
        ask(server, "tiingo", ("A", "B", "C", "D", "E"), attempts=2, breaker_failures=3)
    assert server.asked.total() == 6


def test_a_key_that_is_not_accepted_names_its_variable_and_never_the_key(vendor, serve, ask, caplog):
    caplog.set_level("DEBUG")
    if vendor == "yfinance":
        # There is no key: Yahoo refuses the machine.
        with pytest.raises(Exception, match="refuses this machine"):
            ask(serve(faults=always(Fault.DENIED, "/chart/")), vendor)
        return
    with pytest.raises(ConfigurationError) as caught:
        ask(serve(), vendor, key="wrong/key+99")
    variable = {"alpaca": "APCA_API_KEY_ID", "tiingo": "TIINGO_API_KEY"}.get(vendor, f"{vendor.upper()}_API_KEY")
    assert variable in str(caught.value)
    assert "wrong" not in str(caught.value) + repr(caught.value) + caplog.text


@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor != "yfinance"])
def test_a_server_that_repeats_the_key_is_not_quoted(vendor, serve, ask, caplog):
    caplog.set_level("DEBUG")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of either kind
        ask(serve(faults=always(Fault.DENIED)), vendor)
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__) + caplog.text
    assert not [form for form in forms(KEY, SECRET) if form in shown]


@pytest.mark.parametrize("fault", [None, Fault.ERROR, Fault.CUT, Fault.SLOW, Fault.HTML])
def test_no_key_is_in_logs_errors_or_reprs(vendor, fault, serve, tmp_path, caplog, ask):
    caplog.set_level("DEBUG")
    server = serve(faults=always(fault) if fault else None, slow=0.3)
    source = server.source(vendor, state_folder=tmp_path)
    shown = [repr(source), repr(vars(source)), repr(source.info)]
    try:
        ask(server, vendor, ("BRK.B",), timeout_seconds=0.2 if fault is Fault.SLOW else 30, attempts=1)
    except ProviderUnavailableError as error:
        while error is not None:
            shown += [str(error), repr(error), repr(vars(error))]
            error = error.__cause__ or error.__context__
    source.close()
    text = "\n".join([*shown, caplog.text])
    assert not [form for form in forms(KEY, SECRET) if form in text]
    assert any("BRK" in unit for unit in server.asked)


def forms(*secrets: str) -> list[str]:
    """A secret as it is, and as an address has it."""
    from urllib.parse import quote, quote_plus

    return [form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret), quote(secret))]


def test_retry_after_is_waited_for_and_more(vendor, serve, ask, clock):
    ask(serve(faults=scripted(None, Fault.LIMITED_FOR, containing=DATA.get(vendor, ""))), vendor, ("BRK.B", "SPLT"))
    assert clock.slept == [7.0 + 1.0]  # and full jitter on top, here at its widest


def test_a_retry_after_that_is_a_date(serve, ask, clock):
    server = serve(faults=scripted(Fault.BUSY), retry_after="Mon, 03 Jun 2024 12:00:30 GMT")
    ask(server, "tiingo", ("BRK.B",))
    assert clock.slept == [31.0]


def test_a_retry_after_beyond_the_longest_wait_stops_at_once(serve, ask, clock):
    server = serve(faults=always(Fault.LIMITED_FOR), retry_after="3600")
    with pytest.raises(RateLimitedError, match="go on after 2024-06-03 13:00:01 UTC"):
        ask(server, "tiingo", ("BRK.B", "SPLT"), max_wait_seconds=60)
    assert server.asked.total() == 1
    assert clock.slept == []


def test_waits_double_and_are_drawn_from_the_whole_range(serve, ask, clock):
    with pytest.raises(ProviderUnavailableError):
        ask(serve(faults=always(Fault.ERROR)), "tiingo", ("BRK.B",), attempts=5)
    assert clock.slept == [1.0, 2.0, 4.0, 8.0]


def test_a_fifth_of_all_requests_fails_and_everything_comes_once(vendor, serve, ask):
    """No unit is asked for again after it arrived."""
    server = serve(faults=Faults(share=0.2, seed=7))
    symbols = tuple(TRUTH.symbols)
    result = ask(server, vendor, symbols)
    assert_frame_equal(result.frame, TRUTH.expected(vendor, symbols, START, END), check_exact=True)
    assert_frame_equal(result.actions, TRUTH.expected_actions(vendor, symbols, START, END))
    if vendor != "yfinance":  # whose client asks for the time zone, then for the bars, and for both again
        assert not server.repeated()
    for day in (date(2013, 2, 6), date(2013, 2, 7)):
        increment = ask(server, vendor, symbols, START, day)
        assert_frame_equal(increment.frame, TRUTH.expected(vendor, symbols, START, day), check_exact=True)
