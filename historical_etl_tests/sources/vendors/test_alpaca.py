"""What only Alpaca does: events by the day they are processed, odd rows of events, its refusals and limits."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from werkzeug import Request, Response

from historical_etl import (
    ConfigurationError,
    CoverageError,
    FetchRequest,
    Outcome,
    ProviderUnavailableError,
    RateLimitedError,
)
from historical_etl.sources.base import ACTIONS, FOREIGN
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import evening, sessions, store, stored
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.late_store import WAYS, lived
from historical_etl_tests.sources.vendors.loopback import Clockwork, Fault, Loopback, Truth, as_json, scripted
from historical_etl_tests.sources.vendors.whole_store import truth_of
from historical_etl_tests.sources.vendors.wires.alpaca import alpaca_bars

DAY = date(2013, 1, 2)
NEW_YORK_NOON = datetime(2013, 1, 9, 17, tzinfo=UTC)


def paid(*events: tuple[str, date, float, float]) -> Truth:
    return Truth(TRUTH.bars, pl.DataFrame(events, schema=ACTIONS, orient="row")).adjusted()


# ── events by the day on which they are processed ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_store_that_is_updated_daily_ends_in_the_truth_however_late_dividends_are_processed(way, tmp_path):
    """The backfill ends between an ex-date and its processing; nothing is held and nobody is warned meanwhile."""
    days = sessions(date(2023, 10, 2), date(2024, 1, 31))
    before, after, last = days[-24], days[-18], days[-15]
    listings = (
        SimListing("PAYA", dividends=((days[10], 0.012), (before, 0.012))),
        SimListing("PAYB", dividends=((after, 0.001),), splits=((days[-16], 2.0),)),
        SimListing("PAYC", dividends=((days[12], 0.03), (last, 0.03))),
    )
    market = SimMarket(seed=5, symbols=listings, first=days[0], last=days[-1])
    life = lived(market, way, tmp_path, backfilled=days[-22], delays=lambda symbol, _: 5 + 4 * (symbol == "PAYA"))
    assert life.held == []
    assert life.warnings == []
    assert max(life.asked.values()) <= 6, "three requests, and three more for whole histories"
    assert len([day for day, asked in life.asked.items() if asked > 3]) <= 3 + 4
    for symbol, day in (("PAYA", before), ("PAYB", after), ("PAYC", last)):
        processed = day + timedelta(days=9 if symbol == "PAYA" else 5)
        named_on = life.named[symbol, day]
        assert named_on <= processed + timedelta(days=4), "on the evening after it, at the latest"
        assert (named_on < processed) == (way.announces and way.at_once)


@pytest.mark.parametrize("delay", [0, 6, 22, 110, 200])
def test_a_dividend_comes_with_its_ex_date_however_long_after_it_it_is_processed(delay, serve, ask):
    server = serve(delays=lambda symbol, day: delay)
    result = ask(server, "alpaca")
    assert_frame_equal(result.actions, TRUTH.expected_actions("alpaca", SYMBOLS, START, END), check_exact=True)
    assert server.asked.total() == 3


def test_an_event_before_the_range_that_was_processed_lately_comes_as_well(serve, ask):
    truth = paid(("BRK.B", date(2012, 11, 12), 1.0, 0.25), ("BRK.B", date(2012, 3, 12), 1.0, 0.5))
    server = serve(truth, delays=lambda symbol, day: 40)
    result = ask(server, "alpaca", ("BRK.B",), date(2012, 12, 27), date(2013, 1, 4))
    assert result.actions.rows() == [("BRK.B", date(2012, 11, 12), 1.0, 0.25)]
    assert server.asked.total() == 3


@pytest.mark.parametrize(("at_once", "processed_on", "comes"), [(True, 20, True), (False, 20, False), (False, 7, True)])
def test_what_is_announced_comes_once_adj_close_has_it_or_it_was_processed(
    at_once, processed_on, comes, serve, tmp_path
):
    """Before that it would contradict adj_close, for two weeks, each time that a company pays."""
    event = ("BRK.B", date(2013, 1, 4), 1.0, 0.25)
    truth = paid(event) if at_once else Truth(paid().bars, paid(event).actions)
    server = serve(truth, now=NEW_YORK_NOON, announces=True, delays=lambda symbol, day: processed_on - 4)
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(NEW_YORK_NOON).pace)
    for start in (date(2012, 12, 3), date(2013, 1, 4)):  # also where the ex-date is the first day of the range
        result = source.fetch(FetchRequest(("BRK.B",), start, date(2013, 1, 8)))
        assert result.actions.rows() == ([event] if comes else [])
    source.close()


def test_all_kinds_of_splits_are_read(serve, ask):
    events = [
        ("BRK.B", date(2012, 12, 3), 1.05, 0.0),
        ("HALT", date(2012, 12, 3), 1.5, 0.0),
        ("SPLT", date(2012, 12, 3), 1 / 30, 0.0),
    ]
    result = ask(serve(paid(*events)), "alpaca")
    assert_frame_equal(result.actions, pl.DataFrame(events, schema=ACTIONS, orient="row"))


#: A fifth of a share of CHILD for each: the form of the vendor's own example, JUPW and SRM of 2023-08-15.
SPUN: dict[str, Any] = {
    "id": "3",
    "source_symbol": "BRK.B",
    "source_cusip": "000000001",
    "source_rate": 5,
    "new_symbol": "CHILD",
    "new_cusip": "000000002",
    "new_rate": 1,
    "ex_date": "2012-12-03",
    "process_date": "2012-12-03",
    "record_date": "2012-12-03",
}


def test_a_spin_off_comes_as_the_shares_that_are_paid_and_costs_no_request(serve, ask):
    server = serve(strange={"spin_offs": [SPUN, SPUN | {"source_symbol": "CHILD", "new_symbol": "BRK.B", "id": "4"}]})
    result = ask(server, "alpaca", ("BRK.B",))
    assert result.foreign.rows() == [("BRK.B", date(2012, 12, 3), 0.2, "shares of CHILD")]
    assert result.actions.rows() == [("BRK.B", date(2012, 11, 12), 1.0, 0.25)]
    assert result.notes == ()
    assert server.asked.total() == 3


@pytest.mark.parametrize("at_once", [True, False])
def test_a_spin_off_that_is_announced_comes_once_adj_close_has_it(at_once, serve, tmp_path):
    """Its worth is in adj_close alone: any move tells."""
    spun = SPUN | {"ex_date": "2013-01-04", "process_date": "2013-01-20"}
    truth = Truth(paid(("BRK.B", date(2013, 1, 4), 1.0, 0.25)).bars if at_once else paid().bars, paid().actions)
    server = serve(truth, now=NEW_YORK_NOON, strange={"spin_offs": [spun]})
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(NEW_YORK_NOON).pace)
    result = source.fetch(FetchRequest(("BRK.B",), date(2012, 12, 3), date(2013, 1, 8)))
    source.close()
    assert (result.foreign is not None) == at_once


# ── odd rows ───────────────────────────────────────────────────────────────────────────────────────────────────────

PAID: dict[str, Any] = {
    "id": "1",
    "symbol": "ODD",
    "cusip": "000000001",
    "rate": 0.25,
    "special": False,
    "foreign": False,
    "ex_date": "2013-01-03",
    "process_date": "2013-01-20",
    "payable_date": "2013-01-20",
}
SPLIT: dict[str, Any] = {
    "id": "2",
    "symbol": "ODD",
    "cusip": "000000001",
    "new_rate": 2,
    "old_rate": 1,
    "ex_date": "2013-01-04",
    "process_date": "2013-01-04",
}


def bar(day: int, **facts: Any) -> dict[str, Any]:
    prices = {"o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 100, "n": 3, "vw": 10.2}
    return {"t": f"2013-01-{day:02d}T05:00:00Z", **prices, **facts}


@pytest.fixture
def answer(httpserver, tmp_path, clock):
    """Fetch some symbols from a server that gives these bars and these events."""

    def fetch(bars: object, kinds: object, symbols: tuple[str, ...] = ("ODD",)):
        page = {"bars": bars, "next_page_token": None}
        httpserver.expect_request("/v2/stocks/bars").respond_with_data(
            json.dumps(page), content_type="application/json"
        )
        events = json.dumps({"corporate_actions": kinds, "next_page_token": None})
        httpserver.expect_request("/v1/corporate-actions").respond_with_data(events, content_type="application/json")
        server = Loopback.__new__(Loopback)
        server._server = httpserver
        source = server.source("alpaca", state_folder=tmp_path, pace=clock.pace)
        try:
            return source.fetch(FetchRequest(symbols, DAY, date(2013, 1, 7)))
        finally:
            source.close()

    return fetch


BARS = [bar(day) for day in (2, 3, 4, 7)]
BOTH = [("ODD", date(2013, 1, 3), 1.0, 0.25), ("ODD", date(2013, 1, 4), 2.0, 0.0)]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("cash_dividends", PAID | {"rate": None}),
        ("cash_dividends", PAID | {"rate": 0}),
        ("cash_dividends", PAID | {"rate": "0.25 USD"}),
        ("cash_dividends", PAID | {"rate": True}),
        ("cash_dividends", PAID | {"rate": 10**400}),
        ("cash_dividends", PAID | {"currency": 7}),
        ("cash_dividends", PAID | {"currency": "\ud800"}),
        ("cash_dividends", PAID | {"ex_date": None}),
        ("cash_dividends", PAID | {"ex_date": 20130103}),
        ("cash_dividends", PAID | {"ex_date": "20130103"}),
        ("forward_splits", SPLIT | {"old_rate": 1e-320, "new_rate": 1e10}),
        ("forward_splits", SPLIT | {"old_rate": 0}),
        ("forward_splits", SPLIT | {"new_rate": None}),
        ("reverse_splits", {"ex_date": "2013-01-03"}),
        ("stock_dividends", PAID | {"rate": 0.0}),
        ("stock_dividends", PAID | {"rate": "a tenth"}),
        ("spin_offs", SPUN | {"ex_date": "2013-01-03", "source_rate": 0}),
        ("spin_offs", SPUN | {"ex_date": "2013-01-03", "new_rate": None}),
        ("spin_offs", SPUN | {"ex_date": "2013-01-03", "new_symbol": None}),
        ("spin_offs", SPUN | {"ex_date": "2013-01-03", "new_symbol": "A CHILD\ud800"}),
    ],
)
def test_an_odd_row_is_passed_over_and_reported_if_it_is_of_a_symbol_that_was_asked_for(kind, row, answer):
    kinds = {"cash_dividends": [PAID], "forward_splits": [SPLIT]}
    whose = "source_symbol" if kind == "spin_offs" else "symbol"
    kinds[kind] = [{**row, whose: "ODD"}, {**row, whose: "SOMEBODY"}, *kinds.get(kind, [])]
    result = answer({"ODD": BARS}, kinds)
    assert result.actions.rows() == BOTH
    assert result.outcomes["ODD"] is Outcome.OK
    (note,) = result.notes
    assert "ODD" in note
    assert kind in note
    assert "SOMEBODY" not in note


@pytest.mark.parametrize("processed", [None, "", "soon", 7])
def test_an_event_without_a_day_of_processing_is_taken(processed, answer):
    result = answer({"ODD": BARS}, {"cash_dividends": [PAID | {"process_date": processed}]})
    assert (result.actions.rows(), result.notes) == (BOTH[:1], ())


def test_odd_rows_of_others_are_nobody_s_concern(answer):
    odd = [PAID | {"symbol": "SOMEBODY", "rate": None}, PAID | {"symbol": None}, PAID | {"symbol": 7}]
    result = answer({"ODD": BARS}, {"cash_dividends": [*odd, PAID], "forward_splits": [SPLIT]})
    assert (result.actions.rows(), result.notes) == (BOTH, ())


def test_many_odd_rows_are_one_note(answer):
    rows = [PAID | {"ex_date": f"2013-01-{day:02d}", "rate": None} for day in (2, 3, 4)] * 3
    result = answer({"ODD": BARS}, {"cash_dividends": [*rows, None, PAID]})
    (note,) = result.notes
    assert note.endswith("and 5 more")
    assert result.actions.rows() == BOTH[:1]


@pytest.mark.parametrize("kinds", [None, {}, {"cash_dividends": None}, {"name_changes": [{"old_symbol": "ODD"}]}])
def test_kinds_without_rows_are_left_out_or_null(kinds, answer):
    result = answer({"ODD": BARS}, kinds)
    assert (result.actions.height, result.notes) == (0, ())


@pytest.mark.parametrize(("currency", "is_foreign"), [("", False), ("USD", False), (None, False), ("CNY", True)])
def test_a_dividend_in_another_currency_is_kept_apart_from_the_prices(currency, is_foreign, answer):
    result = answer({"ODD": BARS}, {"cash_dividends": [PAID | {"currency": currency}]})
    assert result.actions.rows() == ([] if is_foreign else BOTH[:1])
    foreign = pl.DataFrame([("ODD", date(2013, 1, 3), 0.25, "CNY")], schema=FOREIGN, orient="row")
    if is_foreign:
        assert_frame_equal(result.foreign, foreign)
    else:
        assert result.foreign is None


def test_one_odd_bar_is_rejected_and_the_others_come(answer):
    result = answer({"ODD": [*BARS[:3], bar(7, c="ten")], "FINE": BARS}, {}, ("FINE", "ODD"))
    assert dict(result.outcomes) == {"FINE": Outcome.OK, "ODD": Outcome.OK}
    assert result.frame.height == 7
    assert result.rejected.select("symbol", "date").unique().rows() == [("ODD", date(2013, 1, 7))]


@pytest.mark.parametrize(
    ("facts", "cash", "reported"),
    [
        ({"special": True}, 0.5, False),
        ({"sub_type": "return_of_capital"}, 0.5, False),
        ({}, 0.25, True),
        ({"id": "1"}, 0.25, False),
        ({"special": None}, 0.25, True),
    ],
)
@pytest.mark.parametrize("currency", ["", "CNY"])
def test_two_dividends_of_one_amount_and_day_are_distinguished_by_their_kind(facts, cash, reported, currency, answer):
    """Ford, 2025-02-18: a regular and a supplemental one of 0.15 each."""
    rows = [row | {"currency": currency} for row in (PAID, PAID | {"id": "9"} | facts)]
    result = answer({"ODD": BARS}, {"cash_dividends": rows})
    found = result.foreign if currency else result.actions
    assert found["dividend"].to_list() == [cash]
    assert (Saying("count once", "ODD on 2013-01-03") in result.notes) is reported


@pytest.fixture
def adjusting(serve, tmp_path):
    """A server with two symbols whose adjusted bars are changed, its source, and a store on both."""
    days = sessions(date(2023, 11, 1), date(2023, 12, 29))
    listings = (SimListing("FINE"), SimListing("ODD", splits=((days[9], 2.0),)))
    server = serve(truth_of(SimMarket(seed=5, symbols=listings, first=days[0], last=days[-1])).adjusted())
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(evening(days[-1])).pace)

    def make(change):
        def answers(request: Request) -> Response | None:
            if request.args.get("adjustment") != "all":
                return None
            page = alpaca_bars(server, request)
            change(page["bars"])
            return as_json(page)

        server.answers = answers
        return server, source, store(tmp_path / "data", source, days[-1])

    yield make
    source.close()


NOVEMBER = (date(2023, 11, 1), date(2023, 11, 30))


def test_a_symbol_without_any_adjusted_bar_is_asked_for_again(adjusting):
    """It is an error, and its raw bars are not stored: nothing of a new symbol says that it should have an adj_close.

    They would look whole for ever, with the split as a loss. Where single bars lack it, the store knows that the series
    has it, and tells.
    """
    server, _, etl = adjusting(lambda bars: bars.pop("ODD"))
    result = etl.run_full_etl(["FINE", "ODD"], *NOVEMBER)
    assert not result.complete
    assert result.outcomes == {"FINE": Outcome.OK, "ODD": Outcome.ERROR}
    assert "none of them adjusted" in result.details["ODD"]
    assert stored(etl)["symbol"].unique().to_list() == ["FINE"]
    server.answers = None
    assert etl.run_full_etl(["FINE", "ODD"], *NOVEMBER).complete
    assert stored(etl).filter(pl.col("symbol") == "ODD")["adj_close"].null_count() == 0


def test_symbols_of_which_none_comes_adjusted_are_worth_another_try(adjusting):
    _, source, _ = adjusting(dict.clear)
    with pytest.raises(ProviderUnavailableError, match="none of them adjusted"):
        source.fetch(FetchRequest(("FINE", "ODD"), *NOVEMBER))


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_adjusted_bars_of_one_day_none_is_taken_by_chance(is_first, adjusting):
    def twice(bars):
        bars["ODD"].insert(12 + is_first, bars["ODD"][12] | {"c": 1.006 * bars["ODD"][12]["c"]})

    _, source, etl = adjusting(twice)
    both = source.fetch(FetchRequest(("FINE", "ODD"), *NOVEMBER)).frame
    (odd,) = both.filter(pl.struct("symbol", "date").is_duplicated()).partition_by("symbol", "date")
    assert odd["adj_close"].n_unique() == 2
    result = etl.run_full_etl(["FINE", "ODD"], *NOVEMBER)
    assert result.outcomes == {"FINE": Outcome.OK, "ODD": Outcome.REFUSED}
    assert not result.complete


@pytest.mark.parametrize("words", ["subscription does not permit corporate actions", "forbidden.", "not allowed"])
def test_an_account_without_events_gets_its_bars_and_is_asked_for_them_once(words, httpserver, tmp_path, clock):
    """The vendor says `forbidden.` of missing permissions too; the key is one that it gave bars to."""
    source = source_without_events(httpserver, tmp_path, clock, 403, words)
    first, second = (source.fetch(FetchRequest(("ODD",), DAY, date(2013, 1, 7))) for _ in range(2))
    assert (first.frame.height, second.frame.height) == (4, 4)
    assert "names no splits and dividends" in first.notes[0]
    assert "HISTORICAL_ETL_ALPACA_ACTIONS=false" in first.notes[0]
    assert first.actions is second.actions is None
    assert "without splits and dividends" in source.info.plan
    assert source.info.capabilities is not None
    assert not source.info.capabilities.actions
    source.close()
    assert len(httpserver.log) == 5


def test_events_whose_address_is_gone_cost_no_bars_and_no_symbol(httpserver, tmp_path, clock):
    """The vendor renames its addresses now and then. Each request asks again: nothing is learnt of the plan."""
    source = source_without_events(httpserver, tmp_path, clock, 404, "endpoint not found.")
    for _ in range(2):
        result = source.fetch(FetchRequest(("ODD",), DAY, date(2013, 1, 7)))
        assert dict(result.outcomes) == {"ODD": Outcome.OK}
        assert result.frame.height == 4
        assert "names no splits and dividends" in result.notes[0]
        assert result.actions is None, "nobody said that there were none"
    assert source.info.plan == ""
    source.close()
    assert len(httpserver.log) == 6


def test_an_address_of_events_that_is_gone_for_some_symbols_only_is_an_error(serve, tmp_path, clock):
    """What it named of the others would be lost, or nothing would be taken to have happened to these."""
    server = serve()
    source = server.source("alpaca", state_folder=tmp_path, pace=clock.pace, page_symbols=1)

    def gone(request: Request) -> Response | None:
        is_it = request.path == "/v1/corporate-actions" and request.args["symbols"] == "SPLT"
        return as_json({"message": "endpoint not found."}, 404) if is_it else None

    server.answers = gone
    result = source.fetch(FetchRequest(("BRK.B", "SPLT"), START, END))
    source.close()
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "SPLT": Outcome.ERROR}
    assert result.frame["symbol"].unique().to_list() == ["BRK.B"]
    assert result.actions.rows() == [("BRK.B", date(2012, 11, 12), 1.0, 0.25)]


def source_without_events(httpserver, tmp_path, clock, status: int, words: str):
    page = json.dumps({"bars": {"ODD": BARS}, "next_page_token": None})
    httpserver.expect_request("/v2/stocks/bars").respond_with_data(page, content_type="application/json")
    refusal = json.dumps({"message": words})
    httpserver.expect_request("/v1/corporate-actions").respond_with_data(
        refusal, status, content_type="application/json"
    )
    server = Loopback.__new__(Loopback)
    server._server = httpserver
    return server.source("alpaca", state_folder=tmp_path, pace=clock.pace)


@pytest.mark.parametrize("odd", ["no list", [1], [bar(2, c="10.5")], [bar(2, t="yesterday")], [{"t": BARS[0]["t"]}]])
def test_bars_that_cannot_be_read_are_of_their_symbol_alone(odd, answer):
    result = answer({"ODD": odd, "FINE": BARS, "SOMEBODY": odd}, {}, ("FINE", "ODD"))
    assert dict(result.outcomes) == {"FINE": Outcome.OK, "ODD": Outcome.ERROR}
    assert result.frame.height == 4
    assert "another form" in result.details["ODD"]


# ── refusals, limits and the latest minutes ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "body"), [(403, "forbidden."), (401, "unauthorized")])
def test_a_key_that_is_refused_ends_the_run(status, body, httpserver, tmp_path, clock):
    with pytest.raises(ConfigurationError, match="APCA_API_KEY_ID"):
        refused(httpserver, tmp_path, clock, status, body)
    assert len(httpserver.log) == 1


def test_what_the_subscription_does_not_give_is_no_wrong_key(httpserver, tmp_path, clock):
    with pytest.raises(CoverageError, match="recent SIP data"):
        refused(httpserver, tmp_path, clock, 403, "subscription does not permit querying recent SIP data")


def refused(httpserver, tmp_path, clock, status: int, message: str) -> None:
    body = json.dumps({"message": message})
    httpserver.expect_request("/v2/stocks/bars").respond_with_data(body, status, content_type="application/json")
    server = Loopback.__new__(Loopback)
    server._server = httpserver
    source = server.source("alpaca", state_folder=tmp_path, pace=clock.pace)
    try:
        source.fetch(FetchRequest(("HALT", "SPLT"), DAY, DAY))
    finally:
        source.close()


@pytest.mark.parametrize("end", ["today", "tomorrow", "a year on"])
@pytest.mark.parametrize("time", ["00:05", "09:45", "23:59"])
def test_a_free_plan_is_never_answered_by_iex_alone(end, time, serve, tmp_path):
    """It is where a range ends within the last 15 minutes: then status 200, and a fortieth of the volume."""
    now = datetime.fromisoformat(f"2013-01-04T{time}:00-05:00")
    until = now.date() + {"today": timedelta(), "tomorrow": timedelta(days=1), "a year on": timedelta(days=365)}[end]
    truth = Truth(TRUTH.bars.filter(pl.col("date") <= now.date()), TRUTH.actions)
    server = serve(truth, now=now, plan="free")
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(now.astimezone(UTC)).pace)
    result = source.fetch(FetchRequest(("BRK.B",), date(2012, 12, 3), until))
    source.close()
    expected = truth.expected("alpaca", ("BRK.B",), date(2012, 12, 3), result.frame["date"].max())
    assert_frame_equal(result.frame, expected)
    assert result.frame["date"].max() >= date(2013, 1, 3)


def test_a_range_without_bounds_is_asked_up_to_now(serve, tmp_path):
    server = serve()
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(NEW_YORK_NOON).pace)
    result = source.fetch(FetchRequest(("BRK.B",), date.min, date.max))
    source.close()
    assert_frame_equal(result.frame, TRUTH.expected("alpaca", ("BRK.B",), date.min, date(2013, 1, 9)))
    assert result.actions.rows() == [("BRK.B", date(2012, 11, 12), 1.0, 0.25)]


def test_of_the_latest_minutes_alone_nothing_is_asked(serve, tmp_path):
    now = datetime(2013, 1, 4, 5, 5, tzinfo=UTC)
    server = serve(now=now, plan="free")
    source = server.source("alpaca", state_folder=tmp_path, pace=Clockwork(now).pace)
    result = source.fetch(FetchRequest(("BRK.B",), date(2013, 1, 4), date(2013, 1, 4)))
    source.close()
    assert dict(result.outcomes) == {"BRK.B": Outcome.EMPTY}
    assert server.asked.total() == 0


def test_the_reset_of_the_limit_is_waited_for(serve, ask, clock):
    reset = int(clock.moment.timestamp()) + 41
    server = serve(faults=scripted(Fault.LIMITED), limited={"X-RateLimit-Reset": str(reset)})
    assert ask(server, "alpaca").outcomes["HALT"] is Outcome.OK
    assert 41 <= sum(clock.slept) <= 43


@pytest.mark.parametrize("reset", ["", "soon", "1e9", "9" * 5000, "1717416000000", "-5", "٣"])
def test_a_reset_that_cannot_be_meant_is_not_waited_for(reset, serve, ask, clock):
    headers = {"X-RateLimit-Reset": reset.encode().decode("latin-1")}
    server = serve(faults=scripted(Fault.LIMITED), limited=headers)
    assert ask(server, "alpaca").outcomes["HALT"] is Outcome.OK
    assert sum(clock.slept) <= 10


def test_a_limit_says_when_to_go_on(serve, ask, clock):
    reset = int(clock.moment.timestamp()) + 300
    headers = {"X-RateLimit-Reset": str(reset)}
    server = serve(faults=lambda unit: Fault.LIMITED, limited=headers)
    with pytest.raises(RateLimitedError, match="go on after 2024-06-03 12:05:01 UTC"):
        ask(server, "alpaca")
    assert server.asked.total() == 1
