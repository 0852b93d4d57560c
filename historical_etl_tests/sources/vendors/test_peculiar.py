"""What only one vendor does: its other way to be asked, its other way to refuse, its client's habits."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import count

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from werkzeug import Request, Response

from historical_etl import FetchRequest, Outcome, ProviderError, RateLimitedError
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS, Unit
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.sources.vendors.response_limits import Bounds
from historical_etl.sources.vendors.throttle import Throttle
from historical_etl.sources.vendors.yfinance import Watch, YfinanceSource, _browser
from historical_etl.vendor_settings import YfinanceSettings
from historical_etl_tests.saying import Saying
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import (
    Fault,
    Faults,
    Loopback,
    Truth,
    always,
    as_json,
    fixed_clock,
    scripted,
)
from historical_etl_tests.sources.vendors.wires import eodhd as wire
from historical_etl_tests.sources.vendors.wires.common import midnight
from historical_etl_tests.sources.vendors.wires.eodhd import eodhd_bar

DAY = date(2013, 1, 2)  # SPLT's split
BAR = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "adj_close": 10.5}
TIINGO_BAR: dict[str, object] = {
    "date": "2013-01-02T00:00:00.000Z",
    "open": 1,
    "high": 2,
    "low": 1,
    "close": 1,
    "volume": 1,
    "adjClose": 1,
    "divCash": 0,
    "splitFactor": 1,
}


@pytest.fixture
def answer(httpserver, tmp_path, clock):
    """Fetch ODD on one day from a server that gives one answer to everything."""

    def fetch(vendor: str, body: object, status: int = 200, kind: str = "application/json", **settings):
        text = body if isinstance(body, str) else json.dumps(body)
        httpserver.expect_request(re.compile(".*")).respond_with_data(text, status, content_type=kind)
        server = Loopback.__new__(Loopback)
        server._server = httpserver
        source = server.source(vendor, state_folder=tmp_path, pace=clock.pace, attempts=2, **settings)
        try:
            return source.fetch(FetchRequest(("ODD",), DAY, DAY))
        finally:
            source.close()

    return fetch


# ── symbols in addresses ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vendor", ["tiingo", "eodhd", "massive", "yfinance"])
@pytest.mark.parametrize(("symbol", "written"), [("BF/B", {"BF-B", "BF%2FB"}), ("M&M.NS", {"M%26M", "M&M"})])
def test_a_symbol_leads_to_no_other_address(vendor, symbol, written, httpserver, tmp_path, clock):
    """Between two slashes of an address stands one symbol, whatever signs it has."""
    httpserver.expect_request(re.compile(".*")).respond_with_data("{}", 404, content_type="application/json")
    server = Loopback.__new__(Loopback)
    server._server = httpserver
    source = server.source(vendor, state_folder=tmp_path, pace=clock.pace, attempts=1)
    source.fetch(FetchRequest((symbol,), DAY, DAY))
    source.close()
    paths = [request.environ["REQUEST_URI"].partition("?")[0] for request, _ in httpserver.log]
    asked = [path for path in paths if any(name in path for name in written)]
    assert asked
    for path in paths:
        assert "BF/B" not in path


# ── whole days ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_massive_takes_whole_days_where_they_are_fewer_than_symbols(serve, ask):
    server = serve()
    start = date(2012, 12, 31)
    result = ask(server, "massive", SYMBOLS, start, date(2013, 1, 3))
    assert [unit.split(" ")[0].rsplit("/", 1)[1] for unit in server.asked] == [
        "2012-12-31",
        "2013-01-02",
        "2013-01-03",
        "splits",
        "dividends",
    ]
    assert_frame_equal(result.frame, TRUTH.expected("massive", SYMBOLS, start, date(2013, 1, 3)), check_exact=True)
    late = ("SPLT", date(2012, 12, 3), 1.0, 0.5)  # of the weeks before, since some are entered late
    assert result.actions.rows() == [late, ("SPLT", DAY, 2.0, 0.0)]
    assert result.outcomes["GONE"] is Outcome.EMPTY


def test_eodhd_takes_whole_days_where_they_are_cheaper_than_symbols(serve, ask):
    many = (*SYMBOLS, *(f"X{number}" for number in range(100)))
    server = serve()
    result = ask(server, "eodhd", many, DAY, DAY)
    assert server.asked.total() == 3
    assert_frame_equal(result.frame, TRUTH.expected("eodhd", SYMBOLS, DAY, DAY), check_exact=True)
    assert result.actions.rows() == [("SPLT", DAY, 2.0, 0.0)]
    assert result.outcomes["X7"] is Outcome.EMPTY
    assert ask(server, "eodhd", many, date(2012, 12, 25), date(2012, 12, 25)).frame.is_empty()
    assert server.asked.total() == 3  # a holiday costs nothing


def test_a_whole_day_that_fails_is_the_outcome_of_all(serve, ask):
    with pytest.raises(ProviderError):
        ask(
            serve(faults=lambda unit: Fault.ERROR if "2013-01-03" in unit else None),
            "massive",
            SYMBOLS,
            DAY,
            date(2013, 1, 3),
        )


def test_a_whole_market_counts_for_100_at_eodhd(serve, ask):
    many = tuple(f"X{number}" for number in range(101))
    with pytest.raises(RateLimitedError, match="limit of 250 a day"):
        ask(serve(), "eodhd", many, DAY, DAY, daily_budget=250)


def test_how_a_source_can_be_asked_is_stated(serve, tmp_path):
    ways = {}
    for vendor in ("tiingo", "eodhd", "yfinance", "alpaca", "massive"):
        source = serve().source(vendor, state_folder=tmp_path)
        able = source.info.capabilities
        ways[vendor] = (able.units, able.symbols_per_request)
        assert source.members(None, None) == []
        source.close()
    assert ways == {
        "tiingo": ((Unit.SYMBOL,), 1),
        "eodhd": ((Unit.SYMBOL, Unit.DAY), 1),
        "yfinance": ((Unit.SYMBOL,), 1),
        "alpaca": ((Unit.PAGE,), 100),
        "massive": ((Unit.SYMBOL, Unit.DAY), 1),
    }


@pytest.mark.parametrize(
    ("vendor", "requests"), [("tiingo", 4), ("eodhd", 12), ("alpaca", 3), ("massive", 6), ("yfinance", 4)]
)
def test_a_backfill_asks_once_for_a_symbols_whole_range(vendor, requests, serve, ask):
    server = serve()
    ask(server, vendor)
    # Yahoo is asked for each symbol's time zone too, once for each process.
    data = {unit: count for unit, count in server.asked.items() if vendor != "yfinance" or "period1" in unit}
    assert sum(data.values()) == requests
    assert set(data.values()) == {1}


@pytest.mark.parametrize(("vendor", "requests"), [("eodhd", 4), ("alpaca", 2), ("massive", 4)])
def test_actions_can_be_left_out_where_they_cost_requests(vendor, requests, serve, ask):
    server = serve()
    result = ask(server, vendor, actions=False)
    assert (server.asked.total(), result.actions) == (requests, None)


# ── refusals of one vendor ─────────────────────────────────────────────────────────────────────────────────────────


def test_tiingo_refuses_in_plain_text_with_status_200(answer):
    with pytest.raises(RateLimitedError, match="You have run over your 500 symbol look up"):
        answer("tiingo", "You have run over your 500 symbol look up for this month.", kind="text/plain")


def test_eodhd_refuses_with_402_when_the_day_is_spent(answer):
    with pytest.raises(RateLimitedError, match="exceeded your daily"):
        answer("eodhd", "You exceeded your daily API requests limit.", 402, "text/html")


def test_massive_fails_with_status_200_and_a_word(answer):
    with pytest.raises(ProviderError, match="'ERROR': not today"):
        answer("massive", {"status": "ERROR", "error": "not today"})


@pytest.mark.parametrize("page", [100, 1])
def test_alpaca_refuses_a_page_for_one_invalid_symbol_and_the_others_come(page, serve, ask):
    result = ask(serve(), "alpaca", ("BRK.B", "0BAD", "HALT", "0WORSE"), page_symbols=page)
    expected = {"BRK.B": Outcome.OK, "0BAD": Outcome.NOT_FOUND, "HALT": Outcome.OK, "0WORSE": Outcome.NOT_FOUND}
    assert dict(result.outcomes) == expected
    assert "invalid symbol: 0BAD" in result.details["0BAD"]
    only = ask(serve(), "alpaca", ("0BAD",))
    assert (dict(only.outcomes), only.frame.height) == ({"0BAD": Outcome.NOT_FOUND}, 0)


def test_alpaca_names_no_feed_and_no_moment_after_midnight(serve, ask):
    """The wire refuses a `feed`; a later end would ask for the last 15 minutes, which free plans are denied."""
    server = serve()
    ask(server, "alpaca", ("HALT",), DAY, DAY, actions=False)
    assert all("end=2013-01-02T05:00:00+00:00" in unit for unit in server.asked)


@pytest.mark.parametrize("vendor", ["alpaca", "massive"])
@pytest.mark.parametrize("symbols", [("SPLT",), SYMBOLS])
def test_an_address_of_events_that_is_not_found_costs_no_bars(vendor, symbols, serve, ask):
    """An endpoint is retired: that says nothing of the symbols, and not that they had no events."""
    gone = as_json({"message": "endpoint not found."}, 404)
    events = ("/stocks/v1/", "/corporate-actions")
    server = serve(answers=lambda request: gone if any(path in request.path for path in events) else None)
    result = ask(server, vendor, symbols)
    assert_frame_equal(result.frame, TRUTH.expected(vendor, symbols, START, END))
    assert set(result.outcomes.values()) == {Outcome.OK}
    assert result.actions is None
    assert [note for note in result.notes if "names no splits and dividends" in note]


# ── another form than it should be ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vendor", "body", "reported"),
    [
        ("tiingo", {"detail": "ok"}, "no array but dict"),
        ("tiingo", [1, 2], "holds int"),
        ("tiingo", [TIINGO_BAR | {"close": "1.5"}], "'close' is not always a number"),
        ("tiingo", [TIINGO_BAR | {"date": 5.5}], "'date' is not always a date"),
        ("tiingo", [TIINGO_BAR | {"date": "02.01.2013"}], "not written as YYYY-MM-DD"),
        ("tiingo", [TIINGO_BAR | {"date": None}], "a row has no 'date'"),
        (
            "tiingo",
            [{name: value for name, value in TIINGO_BAR.items() if name != "adjClose"}],
            "no row has 'adjClose'",
        ),
        ("eodhd", {"errors": "x"}, "no array but dict"),
        ("alpaca", [], "is no object"),
        ("alpaca", {"bars": {"ODD": [{"t": "yesterday", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}]}}, "neither in ms"),
        ("massive", {"status": "OK", "results": {"o": 1}}, "no array but dict"),
        ("massive", [], "is no object"),
    ],
)
def test_another_form_is_an_error_and_is_not_asked_for_again(vendor, body, reported, answer, httpserver):
    with pytest.raises(ProviderError, match=reported) as caught:
        answer(vendor, body)
    assert not caught.value.retryable
    assert len(httpserver.log) == 1


def test_a_row_that_cannot_be_read_is_all_that_a_market_day_loses(serve, ask, monkeypatch):
    """A row of a symbol that nobody asked for is not even reported."""
    odd = {symbol: {"close": "?"} for symbol in ("HALT", "IPOX")}
    monkeypatch.setattr(wire, "eodhd_bar", lambda row: eodhd_bar(row) | odd.get(row["symbol"], {}))
    many = (*SYMBOLS, *(f"X{number}" for number in range(100)))
    result = ask(serve(), "eodhd", many, DAY, DAY)
    reported = {symbol: result.outcomes[symbol] for symbol in SYMBOLS}
    assert reported == {"BRK.B": Outcome.OK, "GONE": Outcome.EMPTY, "HALT": Outcome.REFUSED, "SPLT": Outcome.OK}
    assert result.rejected.select("symbol", "date", "reasons").rows() == [("HALT", DAY, ["unreadable_close"])]
    assert result.details == {"HALT": Saying("none of the rows", "eodhd")}


@pytest.mark.parametrize("vendor", ["alpaca", "massive"])
def test_pages_that_bring_nothing_are_not_turned_for_ever(vendor, serve, ask):
    """Each with a token that was not there before."""
    turned = count()

    def empty(request: Request) -> Response:
        token = f"page{next(turned)}"
        pages = {"bars": {}, "next_page_token": token, "next_url": f"{request.base_url}?cursor={token}"}
        return as_json({"status": "OK", "results": [], **pages})

    server = serve(answers=empty)
    with pytest.raises(ProviderError, match="5 in a row bring nothing"):
        ask(server, vendor, ("HALT",), actions=False)
    assert server.asked.total() == 5


@pytest.mark.parametrize("vendor", ["alpaca", "massive"])
def test_an_empty_page_between_others_loses_nothing(vendor, serve, ask):
    bar = {"o": 10, "h": 11, "l": 9, "c": 10, "v": 100}
    days = {0: date(2013, 1, 2), 4: date(2013, 1, 3), 8: date(2013, 1, 4)}
    turned: dict[str, int] = {}

    def sparse(request: Request) -> Response:
        what = request.args.get("adjustment", "")
        at = turned[what] = turned.get(what, -1) + 1
        when = days.get(at) and midnight(days[at])
        stamp = when and (when.isoformat() if vendor == "alpaca" else int(when.timestamp() * 1000))
        rows = [{**bar, "t": stamp}] if when else []
        following = {"next_page_token": f"p{at}", "next_url": f"{request.base_url}?cursor=p{at}"} if at < 8 else {}
        return as_json({"status": "OK", "results": rows, "bars": {"HALT": rows}, **following})

    result = ask(serve(answers=sparse), vendor, ("HALT",), actions=False)
    assert result.frame["date"].to_list() == list(days.values())


# ── several threads ────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_threads_may_use_one_source(vendor, serve, tmp_path, clock):
    server = serve(faults=Faults(share=0.2, seed=3))
    source = server.source(vendor, state_folder=tmp_path, pace=clock.pace)
    start, end = date(2012, 10, 15), date(2013, 2, 5)
    with ThreadPoolExecutor(4) as pool:
        asked = [FetchRequest((symbol,), start, end) for symbol in TRUTH.symbols]
        frames = [result.frame for result in pool.map(source.fetch, asked)]
    source.close()
    assert_frame_equal(pl.concat(frames), TRUTH.expected(vendor, None, start, end), check_exact=True)
    assert source.requests == server.asked.total()


# ── Yahoo's client ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_yfinance_remembers_nothing_from_one_fetch_to_the_next(serve, ask, tmp_path, clock):
    """Its cache gave pre-split prices for a closed range that was asked for again (ranaroussi/yfinance#1274)."""
    server = serve()
    source = server.source("yfinance", state_folder=tmp_path, pace=clock.pace)
    request = FetchRequest(("HALT",), date(2012, 12, 3), date(2012, 12, 31))
    before = source.fetch(request).frame
    split = pl.DataFrame([("HALT", DAY, 4.0, 0.0)], schema=ACTIONS, orient="row")
    server.truth = Truth(TRUTH.bars, split)
    after = source.fetch(request).frame
    source.close()
    assert after["close"].to_list() == pytest.approx([close / 4 for close in before["close"]])
    assert after["volume"].to_list() == [volume * 4 for volume in before["volume"]]


def test_yfinance_forgets_a_page_of_html_at_once(serve, ask):
    server = serve(faults=scripted(Fault.HTML, Fault.TRUNCATED, containing="/chart/"))
    result = ask(server, "yfinance", ("HALT",))
    assert_frame_equal(result.frame, TRUTH.expected("yfinance", ("HALT",), date(2012, 10, 15), date(2013, 2, 5)))


def test_yfinance_corrects_a_crumb_that_is_refused_by_itself(serve, ask):
    server = serve(faults=scripted(Fault.DENIED, containing="/chart/"))
    assert ask(server, "yfinance", ("HALT",)).outcomes["HALT"] is Outcome.OK


@pytest.mark.parametrize(
    ("exchange", "symbol", "asked"),
    [
        ("XNYS", "BRK.B", "BRK-B"),
        ("ARCX", "BRK/B", "BRK-B"),
        ("XLON", "VOD.L", "VOD.L"),
        ("XTKS", "7974.T", "7974.T"),
        ("XTSE", "0P000071W8.TO", "0P000071W8.TO"),
        ("XNYS", "^GSPC", "^GSPC"),
        ("XNYS", "GC=F", "GC=F"),
        ("24/7", "EURUSD=X", "EURUSD=X"),
        ("24/7", "BTC-USD", "BTC-USD"),
    ],
)
def test_a_dot_is_yahoos_own_outside_of_america(exchange, symbol, asked, serve, tmp_path, clock):
    server = serve()
    settings = YfinanceSettings(rate="99/second")
    source = YfinanceSource(
        settings, exchange=exchange, session=server.yahoo_session, pace=clock.pace, state_folder=tmp_path
    )
    source.fetch(FetchRequest((symbol,), DAY, DAY))
    source.close()
    assert any(unit.split(" ")[0].endswith(f"/chart/{asked}") for unit in server.asked)


def test_an_action_on_a_day_without_a_bar_adds_no_bar(serve, ask):
    days = [date(2013, 1, 2), date(2013, 1, 4)]
    bars = pl.DataFrame([BAR | {"date": day, "symbol": "ODD", "ret": None} for day in days], schema=SCHEMA)
    paid = pl.DataFrame([("ODD", date(2013, 1, 7), 1.0, 0.5)], schema=ACTIONS, orient="row")
    result = ask(serve(Truth(bars, paid)), "yfinance", ("ODD",))
    assert result.frame["date"].to_list() == days
    assert result.actions.rows() == [("ODD", date(2013, 1, 7), 1.0, 0.5)]


def test_a_day_that_comes_twice_from_yahoo_is_the_last_of_the_two(serve, ask):
    """Today's row comes once as a bar and once as the live price (ranaroussi/yfinance#573)."""
    rows = [{"date": DAY}, {"date": date(2013, 1, 3), "volume": None}, {"date": date(2013, 1, 3), "close": 10.75}]
    bars = pl.DataFrame([BAR | {"symbol": "ODD", "ret": None} | row for row in rows], schema=SCHEMA)
    result = ask(serve(Truth(bars)), "yfinance", ("ODD",))
    assert result.frame.select("date", "close", "volume").rows() == [
        (DAY, 10.5, 100.0),
        (date(2013, 1, 3), 10.75, 100.0),
    ]


@pytest.mark.parametrize("fault", [None, Fault.HTML, Fault.LIMITED_FOR, Fault.ERROR, Fault.TRUNCATED])
def test_the_session_of_everyday_is_as_polite_as_the_one_of_these_tests(fault, serve, tmp_path):
    """It is curl_cffi's, which looks like a browser; https cannot be sent to loopback, so it is used by itself."""
    from yfinance._http import is_supported_session

    server = serve(faults=always(fault) if fault else None)
    reader = Reader("Yahoo", (), ())
    throttle = Throttle("Yahoo", YfinanceSettings(rate="99/second"), fixed_clock().pace, tmp_path)
    watch = Watch(reader, throttle, Bounds("Yahoo", 30))
    session = _browser(watch)
    assert is_supported_session(session)
    url = f"{server.url}/yahoo/query2.finance.yahoo.com/v8/finance/chart/HALT"
    if fault is None:
        assert session.get(url=url, params={"range": "1d"}, timeout=30).status_code == 200
        assert watch.answer
    else:
        with pytest.raises(Refusal) as caught:
            session.get(url=url, params={"range": "1d"}, timeout=30)
        assert caught.value.again
        assert caught.value.wait == (7.0 if fault is Fault.LIMITED_FOR else None)
    assert throttle.requests == 1
    throttle.close()
    session.close()
