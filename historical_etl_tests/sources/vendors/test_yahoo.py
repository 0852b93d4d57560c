"""What only Yahoo does: events without bars, units and currencies, moments of all kinds of markets, its refusals."""

import json
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from pytest_httpserver import HTTPServer

from historical_etl import FetchRequest, Outcome, ProviderError, RateLimitedError
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS, FOREIGN
from historical_etl.sources.vendors.frames import FormError
from historical_etl.sources.vendors.yahoo_chart import read_chart, result_of
from historical_etl.sources.vendors.yfinance import YfinanceSource
from historical_etl.vendor_settings import YfinanceSettings
from historical_etl_tests.saying import Saying
from historical_etl_tests.sources.vendors.loopback import Clockwork, Fault, Loopback, Truth, always

BAR = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "ret": None, "adj_close": 10.5}
START, END = date(2013, 1, 2), date(2013, 1, 31)
JAN = {day: date(2013, 1, day) for day in range(1, 32)}


def truth(days: list[date], *events: tuple[date, float, float], symbol: str = "ODD") -> Truth:
    bars = pl.DataFrame([BAR | {"symbol": symbol, "date": day} for day in days], schema=SCHEMA)
    acted = pl.DataFrame([(symbol, *event) for event in events], schema=ACTIONS, orient="row")
    return Truth(bars, acted)


@pytest.fixture
def fetch(serve, tmp_path, clock):
    """Fetch a symbol from a store of an exchange where a dot is Yahoo's own."""
    sources = []

    def run(reported: Truth, facts: dict[str, Any] | None = None, start=START, end=END, exchange="XLON", symbol="ODD"):
        server = serve(reported, facts={symbol: facts or {}})
        source = YfinanceSource(
            YfinanceSettings(rate="9999/second"),
            exchange=exchange,
            session=server.yahoo_session,
            pace=clock.pace,
            state_folder=tmp_path / "turns",
        )
        sources.append(source)
        return source.fetch(FetchRequest((symbol,), start, end))

    yield run
    for source in sources:
        source.close()


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("event", [(4.0, 0.0), (0.1, 0.0), (1.0, 0.25)])
@pytest.mark.parametrize("day", [3, 7, 9, 10, 17, 25], ids=lambda day: f"January {day}")
def test_an_event_is_on_its_own_date_with_or_without_a_bar(day, event, fetch):
    """Before the first bar, on one, between two bars, and after the last one: nothing is moved or lost."""
    given = truth([JAN[8], JAN[9], JAN[15], JAN[16]], (JAN[day], *event))
    result = fetch(given)
    assert result.actions.rows() == [("ODD", JAN[day], *event)]
    assert result.frame["date"].to_list() == [JAN[8], JAN[9], JAN[15], JAN[16]]
    assert not result.notes


def test_events_come_where_no_bar_does(fetch):
    given = truth([date(2012, 6, 1)], (JAN[10], 2.0, 0.0), (JAN[14], 1.0, 0.5))
    result = fetch(given)
    assert result.actions.rows() == [("ODD", JAN[10], 2.0, 0.0), ("ODD", JAN[14], 1.0, 0.5)]
    assert result.outcomes["ODD"] is Outcome.EMPTY


def test_events_of_the_weeks_before_come_with_the_same_request(fetch, serve):
    """One that is named late is among them; bars before the range are not."""
    given = truth([date(2012, 12, 20), JAN[3]], (date(2012, 12, 20), 1.0, 0.5), (date(2012, 10, 1), 1.0, 0.5))
    result = fetch(given)
    assert result.actions.rows() == [("ODD", date(2012, 12, 20), 1.0, 0.5)]
    assert result.frame["date"].to_list() == [JAN[3]]


def test_a_capital_gain_is_cash_like_a_dividend(fetch):
    given = truth([JAN[8], JAN[9], JAN[10]], (JAN[8], 1.0, 0.25), (JAN[10], 1.0, 1.5))
    for instrument in ("MUTUALFUND", "ETF", "EQUITY"):
        result = fetch(given, {"gains": {JAN[10]}, "instrument": instrument})
        assert result.actions.rows() == [("ODD", JAN[8], 1.0, 0.25), ("ODD", JAN[10], 1.0, 1.5)]


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("dividends", {"amount": None, "date": 1357741800}),
        ("dividends", {"amount": "0.5", "date": 1357741800}),
        ("dividends", {"amount": float("nan"), "date": 1357741800}),
        ("dividends", {"amount": 0.5, "date": None}),
        ("dividends", {"amount": 0.5, "date": 10**30}),
        ("splits", {"numerator": 2, "denominator": 0, "date": 1357741800}),
        ("splits", {"numerator": 2, "date": 1357741800}),
        ("capitalGains", {"date": 1357741800}),
    ],
)
def test_an_event_that_cannot_be_read_is_reported_and_the_others_come(kind, entry):
    events = {
        kind: {"1": entry},
        "dividends": {"2": {"amount": 0.25, "date": 1357655400}},
    }
    events["dividends"] |= {"1": entry} if kind == "dividends" else {}
    chart = read_chart(chart_of({"events": events}), "ODD")
    assert chart.events == [("ODD", "2013-01-08", None, 0.25)]
    (note,) = chart.notes
    assert "ODD is left out" in note


def test_two_events_of_a_day_are_two(fetch):
    """What is meant by them is for the rules to judge, which know `adj_close`."""
    entries = {"1": {"amount": 0.25, "date": 1357741800}, "2": {"amount": 0.75, "date": 1357741800}}
    chart = read_chart(chart_of({"events": {"dividends": entries}}), "ODD")
    assert chart.events == [("ODD", "2013-01-09", None, 0.25), ("ODD", "2013-01-09", None, 0.75)]


# ── currencies ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("prices_in", "paid_in"), [("HKD", "CNY"), ("USD", "CAD"), ("GBp", "EUR"), ("GBP", "gbp"), ("ILA", "GBP")]
)
def test_a_dividend_in_another_currency_is_kept_apart(prices_in, paid_in, fetch):
    given = truth([JAN[8], JAN[9]], (JAN[8], 1.0, 0.3064), (JAN[9], 1.0, 0.5))
    result = fetch(given, {"currency": prices_in, "paid_in": {JAN[8]: paid_in, JAN[9]: prices_in}})
    assert result.foreign.schema == FOREIGN
    assert result.foreign.rows() == [("ODD", JAN[8], 0.3064, paid_in)]
    assert result.actions.rows() == [("ODD", JAN[9], 1.0, 0.5)]


@pytest.mark.parametrize(
    ("prices_in", "paid_in", "amount", "taken"),
    [
        ("GBp", "GBP", 0.29, 29.0),
        ("ZAc", "ZAR", 1.1, 110.0),
        ("ILA", "ILS", 0.07, 7.0),
        ("GBP", "GBp", 29.0, 0.29),
        ("ILS", "ILA", 7.0, 0.07),
    ],
)
def test_a_hundredth_is_a_unit_and_no_other_currency(prices_in, paid_in, amount, taken, fetch):
    given = truth([JAN[8], JAN[9]], (JAN[8], 1.0, amount))
    result = fetch(given, {"currency": prices_in, "paid_in": {JAN[8]: paid_in}})
    assert result.actions.rows() == [("ODD", JAN[8], 1.0, taken)]
    assert result.foreign is None
    (note,) = result.notes
    assert note == Saying(paid_in, f"prices in {prices_in}")


@pytest.mark.parametrize("paid_in", ["", " ", None])
def test_a_dividend_without_a_currency_is_in_that_of_the_prices(paid_in, fetch):
    given = truth([JAN[8], JAN[9]], (JAN[8], 1.0, 150.0))
    result = fetch(given, {"currency": "VND", "paid_in": {JAN[8]: paid_in}})
    assert result.actions.rows() == [("ODD", JAN[8], 1.0, 150.0)]
    assert result.foreign is None
    assert not result.notes


# ── days ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SUMMER = [date(2023, 6, 29), date(2023, 6, 30), date(2023, 7, 3)]
MARKETS: dict[str, dict[str, Any]] = {
    "US": {"zone": "America/New_York", "opens": time(9, 30)},
    "London": {"zone": "Europe/London", "opens": time(8)},
    "Tokyo": {"zone": "Asia/Tokyo", "opens": time(9)},
    "Auckland": {"zone": "Pacific/Auckland", "opens": time(10)},
    "crypto": {"zone": "UTC", "opens": time(0)},
    "currencies": {"zone": "Europe/London", "opens": time(0)},
    "Brazil": {"zone": "America/Sao_Paulo", "opens": time(10)},
}
#: Moments of the last trade, by the clock of the exchange.
ODD_HOURS = {
    "US": ["09:30:00", "13:05:41", "16:00:06", "19:59:59"],
    "London": ["08:00:00", "16:35:12"],
    "Tokyo": ["09:00:00", "15:15:03"],
    "crypto": ["00:00:00", "00:00:01", "11:37:00", "21:59:59", "22:00:00", "22:30:00", "23:00:00", "23:59:59"],
    "currencies": ["00:00:00", "00:13:10", "22:00:00", "22:29:00", "23:00:00", "23:59:00"],
}


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("days", [SUMMER, [date(2023, 12, 28), date(2023, 12, 29), date(2024, 1, 2)]])
def test_a_bar_and_an_event_are_of_the_exchanges_day(market, days, fetch):
    given = truth(days, (days[1], 2.0, 0.0))
    result = fetch(given, MARKETS[market], days[0], days[-1])
    assert result.frame["date"].to_list() == days
    assert result.actions.rows() == [("ODD", days[1], 2.0, 0.0)]
    one = fetch(given, MARKETS[market], days[1], days[1])
    assert one.frame["date"].to_list() == [days[1]]


@pytest.mark.parametrize(("market", "hour"), [(market, hour) for market, hours in ODD_HOURS.items() for hour in hours])
def test_the_newest_bar_may_be_reported_by_the_moment_of_the_last_trade(market, hour, fetch):
    moment = datetime.combine(SUMMER[-1], time.fromisoformat(hour), ZoneInfo(MARKETS[market]["zone"]))
    result = fetch(truth(SUMMER), MARKETS[market] | {"last_trade": moment}, SUMMER[0], SUMMER[-1])
    assert result.frame["date"].to_list() == SUMMER
    assert result.frame["volume"].to_list() == [100.0] * 3


@pytest.mark.parametrize(("hour", "is_of"), [("16:59:59", 30), ("17:00:00", 30), ("18:00:00", 31), ("20:34:10", 31)])
def test_the_evening_of_a_future_is_trade_of_its_next_day(hour, is_of):
    """As Yahoo gives ES=F: the newest bar holds what was traded since 18:00 in New York, and not the day before."""
    live = datetime.combine(date(2023, 5, 30), time.fromisoformat(hour), ZoneInfo("America/New_York")).timestamp()
    days = [int(datetime(2023, 5, 26, tzinfo=ZoneInfo("America/New_York")).timestamp()), int(live)]
    chart = read_chart(chart_of({"timestamp": days}, instrumentType="FUTURE", regularMarketTime=int(live)), "ES=F")
    assert [bar["date"] for bar in chart.bars] == ["2023-05-26", f"2023-05-{is_of}"]


def test_a_bar_that_begins_an_hour_before_its_day_is_of_that_day():
    """As in Brazil, where a summer time that was given up moves midnight (yfinance's `fix_Yahoo_dst_issue`)."""
    at = [int(datetime(2022, 1, day, 23, tzinfo=UTC).timestamp()) for day in (3, 4)]
    paid = {"1": {"amount": 0.5, "date": at[1]}}
    parts = {"timestamp": at, "events": {"dividends": paid}}
    chart = read_chart(chart_of(parts, exchangeTimezoneName="UTC", regularMarketTime=at[1] + 9), "ODD")
    assert [bar["date"] for bar in chart.bars] == ["2022-01-04", "2022-01-05"]
    assert chart.events == [("ODD", "2022-01-05", None, 0.5)]


def test_a_price_that_is_appended_behind_the_range_is_not_taken(fetch):
    at = int(datetime(2023, 7, 3, 9, 30, tzinfo=ZoneInfo("America/New_York")).timestamp())
    result = fetch(truth(SUMMER), {"appended": at}, SUMMER[0], SUMMER[0])
    assert result.frame["date"].to_list() == SUMMER[:1]


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def chart_of(parts: dict[str, Any], **meta: Any) -> dict[str, Any]:
    quote = {name: [10.0, 10.0] for name in ("open", "high", "low", "close")} | {"volume": [1, None]}
    return {
        "meta": {"currency": "USD", "exchangeTimezoneName": "America/New_York"} | meta,
        "timestamp": [1357655400, 1357741800],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": [10.0, 10.0]}]},
    } | parts


@pytest.mark.parametrize("close", [None, 0, "NaN"])
def test_a_second_row_of_a_day_without_a_price_replaces_nothing(close):
    """Yahoo gives rows of nulls, mostly at the newest end (ranaroussi/yfinance#2925)."""
    nothing = [10.0, 10.5, close]
    parts = {
        "timestamp": [1357655400, 1357741800, 1357754400],
        "indicators": {"quote": [{"close": nothing, "volume": [1, 2, None]}], "adjclose": [{"adjclose": nothing}]},
    }
    *_, newest = read_chart(chart_of(parts), "ODD").bars
    assert (newest["date"], newest["close"], newest["volume"]) == ("2013-01-09", 10.5, 2)


def test_a_second_row_of_a_day_with_a_price_is_the_day():
    parts = {"timestamp": [1357741800, 1357754400]}
    quote = {"close": [10.0, 10.5], "volume": [1, 2]}
    (only,) = read_chart(chart_of(parts | {"indicators": {"quote": [quote]}}), "ODD").bars
    assert (only["close"], only["volume"]) == (10.5, 2)


def test_the_history_of_another_company_is_an_error_of_the_symbol(fetch):
    with pytest.raises(ProviderError, match=r"'ZZZ'.*ODD was asked for") as caught:
        fetch(truth([JAN[8], JAN[9]]), {"named": "ZZZ"})
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("symbol", "named"),
    [("BRK.B", "BRK-B"), ("BRK/B", "BRK-B"), ("brk.b", "BRK-B"), ("VOD.L", "VOD.L"), ("^GSPC", "^GSPC")],
)
def test_the_same_name_in_another_spelling_is_the_same(symbol, named):
    assert len(read_chart(chart_of({}, symbol=named), symbol).bars) == 2


def test_an_adjusted_close_that_nobody_gave_stays_null(fetch):
    """The client would take the close, and with it that no dividend was paid."""
    result = fetch(truth([JAN[8], JAN[9]]), {"without_adjclose": True})
    assert result.frame["adj_close"].to_list() == [None, None]
    assert result.frame["close"].to_list() == [10.5, 10.5]


@pytest.mark.parametrize(
    ("parts", "reported"),
    [
        ({"timestamp": [1357655400]}, "more or fewer values"),
        ({"timestamp": ["2013-01-08", "2013-01-09"]}, "a moment is no number"),
        ({"timestamp": [1357655400, 10**30]}, "no day has the moment"),
        ({"timestamp": 1357655400}, "'timestamp' is no array"),
        ({"indicators": {"quote": [{}]}}, "no 'close'"),
        ({"indicators": {}}, "'quote' is no object"),
        ({"meta": {"exchangeTimezoneName": "Mars/Olympus"}}, "no time zone"),
        ({"meta": {"exchangeTimezoneName": "UTC", "dataGranularity": "1h"}}, "not of days but of '1h'"),
        ({"meta": {"exchangeTimezoneName": "UTC", "dataGranularity": "3mo"}}, "not of days but of '3mo'"),
        ({"meta": {}}, "no time zone"),
        ({"events": []}, None),
        ({"events": [1]}, "'events' is no object"),
        ({"events": {"dividends": [1]}}, "'dividends' is no object"),
        ({"events": {"dividends": {"1": 1}}}, "something else than events"),
    ],
)
def test_another_form_is_reported(parts, reported):
    if reported is None:
        assert len(read_chart(chart_of(parts), "ODD").bars) == 2
        return
    with pytest.raises(FormError, match=reported):
        read_chart(chart_of(parts), "ODD")


@pytest.mark.parametrize("body", [[], 1, {}, {"spark": {}}])
def test_what_is_no_chart_is_reported(body):
    with pytest.raises(FormError):
        result_of(body)


class Answering:
    """Fetches from a server that gives one answer to everything about prices, and counts how often it was asked."""

    def __init__(self, http: HTTPServer, folder: Path, clock: Clockwork) -> None:
        self._http, self._folder, self._clock = http, folder, clock

    def __call__(self, body: object, status: int = 200) -> Outcome:
        chart = self._http.expect_request(re.compile(r".*/chart/.*"))
        chart.respond_with_data(json.dumps(body), status, content_type="application/json")
        self._http.expect_request(re.compile(".*")).respond_with_data("crumb", 200, content_type="text/plain")
        server = Loopback.__new__(Loopback)
        server._server = self._http
        source = server.source("yfinance", state_folder=self._folder, pace=self._clock.pace, attempts=2)
        try:
            return source.fetch(FetchRequest(("ODD",), START, END)).outcomes["ODD"]
        finally:
            source.close()

    def asked(self) -> int:
        return sum("/chart/" in request.path for request, _ in self._http.log)


@pytest.fixture
def answered(httpserver, tmp_path, clock) -> Answering:
    return Answering(httpserver, tmp_path, clock)


@pytest.mark.parametrize("key", ["chart", "finance"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_range_without_data_is_empty(key, status, answered):
    error = {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"}
    assert answered({key: {"result": None, "error": error}}, status) is Outcome.EMPTY
    assert answered.asked() == 1


def test_an_answer_without_bars_is_empty(answered):
    result = {"meta": {"currency": None, "firstTradeDate": None, "exchangeTimezoneName": "Europe/Stockholm"}}
    result |= {"indicators": {"quote": [{}]}}
    assert answered({"chart": {"result": [result], "error": None}}) is Outcome.EMPTY


def test_a_symbol_that_is_not_found_is_asked_for_once(answered):
    error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
    assert answered({"chart": {"result": None, "error": error}}, 404) is Outcome.NOT_FOUND
    assert answered.asked() == 1


@pytest.mark.parametrize("body", [{"chart": None}, {"chart": {"result": None, "error": None}}])
def test_an_answer_of_nothing_is_a_failure_that_may_pass(body, answered):
    with pytest.raises(ProviderError) as caught:
        answered(body)
    assert caught.value.retryable
    assert answered.asked() == 2


def test_another_bad_request_is_an_error(answered):
    error = {"code": "Bad Request", "description": "Invalid input - interval=1q is not supported."}
    with pytest.raises(ProviderError, match="interval=1q"):
        answered({"chart": {"result": None, "error": error}}, 400)


def test_yahoo_is_not_hammered_when_it_is_asked_too_much(serve, ask, clock):
    """It does not say when to go on: time lies between two requests, and the rest of the run is not asked."""
    server = serve(faults=always(Fault.LIMITED, "/chart/"))
    with pytest.raises(RateLimitedError, match="Edge: Too Many Requests") as caught:
        ask(server, "yfinance", ("BRK.B", "HALT"), attempts=3)
    charts = [unit for unit in server.asked.elements() if "/chart/" in unit]
    assert len(charts) == 3
    assert clock.moment - datetime(2024, 6, 3, 12, tzinfo=UTC) == timedelta(seconds=40)
    assert "go on after 2024-06-03 12:05:41 UTC" in caught.value.todo
