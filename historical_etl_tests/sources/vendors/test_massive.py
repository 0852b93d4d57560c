"""Massive as its plans really answer: years that are not given, a day that is not over, pages, names, odd events."""

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from werkzeug import Response

from historical_etl import (
    ConfigurationError,
    CoverageError,
    FetchRequest,
    Outcome,
    ProviderError,
    RateLimitedError,
    normalize_symbols,
)
from historical_etl.errors import NotPublishedError
from historical_etl.schema import SCHEMA
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.saying import Saying
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import Fault, Truth, always, fixed_clock
from historical_etl_tests.sources.vendors.whole_store import truth_of

FIRST, EDGE, LAST = date(2020, 6, 1), date(2022, 6, 3), date(2024, 5, 31)
NEW, GONE = date(2023, 3, 1), date(2021, 12, 31)
MARKET = SimMarket(
    seed=3,
    symbols=(
        SimListing("OLD", dividends=((date(2022, 9, 1), 0.02),)),
        SimListing("OLDER", splits=((date(2023, 6, 1), 2.0),)),
        SimListing("YOUNG", first=NEW),
        SimListing("GONE", last=GONE),
    ),
    first=FIRST,
    last=LAST,
)
PLANNED = truth_of(MARKET)
#: At noon in New York of the session after the last one of the truth.
NOON = datetime(2024, 6, 3, 16, tzinfo=UTC)
TOO_OLD = "doesn't include this data timeframe"


@pytest.fixture
def basic(serve, tmp_path):
    """A server with a plan, and sources of one account that ask it."""
    sources = []

    def make(plan: str = "basic", *, now: datetime = NOON, folder: str = "turns", **settings):
        server = serve(settings.pop("truth", PLANNED), plan=plan, now=now, strange=settings.pop("strange", None))

        def source():
            pace = fixed_clock(now).pace
            sources.append(server.source("massive", state_folder=tmp_path / folder, pace=pace, **settings))
            return sources[-1]

        return server, source

    yield make
    for source in sources:
        source.close()


def bar_units(server) -> list[str]:
    return [unit.partition(" ")[0] for unit in server.asked.elements() if "/aggs/" in unit]


# ── years that the plan does not give ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("plan", "further"), [("basic", 1), ("basic strict", 3)])
def test_the_reach_of_a_plan_is_learnt_once_for_all_symbols(plan, further, basic):
    """Cut: the session before the first bar tells. Refused: the usual edge, the session before it, and again."""
    server, source = basic(plan, actions=False)
    one = source()
    result = one.fetch(FetchRequest(("OLD", "OLDER"), FIRST, LAST))
    assert one.info.coverage.first == EDGE
    assert "from 2022-06-03 on" in one.info.plan
    assert result.frame.equals(PLANNED.expected("massive", ("OLD", "OLDER"), EDGE, LAST))
    assert len(bar_units(server)) == 2 + further
    server.asked.clear()
    other = source()  # another process, later: what is known is kept
    other.fetch(FetchRequest(("OLD",), FIRST, LAST))
    assert bar_units(server) == [f"/v2/aggs/ticker/OLD/range/1/day/{EDGE}/{LAST}"]


@pytest.mark.parametrize("plan", ["basic", "basic strict"])
def test_a_symbol_that_did_not_trade_yet_is_no_edge(plan, basic):
    server, source = basic(plan, actions=False)
    one = source()
    result = one.fetch(FetchRequest(("YOUNG",), date(2022, 6, 6), LAST))
    assert result.frame["date"].min() == NEW
    assert (one.info.plan, one.info.coverage.first) == ("", date(2003, 9, 10))
    one.fetch(FetchRequest(("YOUNG",), FIRST, LAST))
    assert one.info.coverage.first == EDGE
    assert len(bar_units(server)) < 10


def test_a_paid_plan_that_gives_all_learns_nothing_and_costs_one_request_at_most(basic):
    server, source = basic("", actions=False)
    one = source()
    result = one.fetch(FetchRequest(("YOUNG", "OLD", "GONE"), FIRST, LAST))
    assert (one.info.plan, len(bar_units(server))) == ("", 3 + 1)
    assert result.frame.equals(PLANNED.expected("massive", ("YOUNG", "OLD", "GONE")))
    for symbol in ("YOUNG", "GONE", "NEVER"):
        one.fetch(FetchRequest((symbol,), FIRST, LAST))
    assert len(bar_units(server)) == 4 + 3
    server.asked.clear()
    source().fetch(FetchRequest(("OLD", "YOUNG"), FIRST, LAST))
    assert len(bar_units(server)) == 2


def test_a_plan_that_lapses_is_found_out_by_a_process_that_lives_on(serve, tmp_path):
    """What it was seen to give holds for a day: later the same cut would be taken for a symbol with a short history."""
    clock = fixed_clock(NOON)
    server = serve(PLANNED, now=NOON)
    source = server.source("massive", state_folder=tmp_path, pace=clock.pace, actions=False)
    source.fetch(FetchRequest(("OLD",), FIRST, LAST))
    assert source.info.plan == ""
    server.plan, server.now = "basic", NOON + timedelta(days=1)
    clock.moment = server.now
    source.fetch(FetchRequest(("OLDER",), FIRST, LAST))
    source.close()
    assert source.info.coverage.first == date(2022, 6, 6)


def test_an_increment_asks_for_nothing_further(basic):
    server, source = basic("", actions=False, truth=PLANNED.until(date(2024, 5, 28)))
    source().fetch(FetchRequest(("OLD", "NEVER"), date(2024, 5, 29), LAST))
    assert len(bar_units(server)) == 2


@pytest.mark.parametrize("plan", ["basic", "basic strict"])
def test_a_symbol_that_was_gone_before_the_edge_is_not_called_empty_of_years_that_are_not_given(plan, basic):
    server, source = basic(plan, actions=False)
    one = source()
    result = one.fetch(FetchRequest(("GONE",), FIRST, LAST))
    assert (result.outcomes["GONE"], one.info.coverage.first) == (Outcome.EMPTY, EDGE)
    with pytest.raises(CoverageError, match="2022-06-03"):
        one.fetch(FetchRequest(("GONE",), FIRST, GONE))
    assert len(bar_units(server)) <= 5


def test_a_range_that_is_older_than_the_plan_is_not_covered_and_asked_for_once(basic):
    server, source = basic(actions=False)
    one = source()
    for _ in range(3):
        with pytest.raises(CoverageError):
            one.fetch(FetchRequest(("OLD", "OLDER"), FIRST, date(2020, 12, 31)))
    assert len(bar_units(server)) == 1 + 2  # and the two sides of the edge


def test_whole_days_are_left_out_where_the_plan_does_not_give_them(basic):
    _, source = basic(actions=False)
    many = ("OLD", "OLDER", "YOUNG", *(f"X{number}" for number in range(20)))
    one = source()
    result = one.fetch(FetchRequest(many, date(2022, 5, 25), date(2022, 6, 10)))
    assert result.frame.equals(PLANNED.expected("massive", ("OLD", "OLDER"), EDGE, date(2022, 6, 10)))
    assert one.info.coverage.first == EDGE
    with pytest.raises(CoverageError):
        one.fetch(FetchRequest(many, date(2021, 5, 25), date(2021, 6, 10)))
    assert any(EDGE.isoformat() in note for note in result.notes), result.notes


def test_what_is_known_of_a_plan_moves_on_with_the_days_and_is_corrected(basic):
    """The vendor's days need not be ours: a plan that is a day behind is found out by one more request."""
    _, source = basic("basic strict", actions=False)
    source().fetch(FetchRequest(("OLD",), FIRST, LAST))
    server, later = basic("basic strict", actions=False, now=NOON + timedelta(days=4))
    one = later()
    one._plan.learn(first=date(2022, 6, 6))  # a session too early
    server.asked.clear()
    result = one.fetch(FetchRequest(("OLD",), FIRST, LAST))
    assert result.frame["date"].min() == date(2022, 6, 7)
    assert len(bar_units(server)) == 3


def test_a_universe_that_is_older_than_the_plan_is_not_covered(basic):
    _, source = basic(universe="CS")
    with pytest.raises(CoverageError, match=TOO_OLD):
        source().members(date(2021, 1, 1), date(2021, 12, 31))
    assert "OLD" in source().members(date(2023, 1, 1), date(2023, 12, 31))


def test_events_that_are_not_in_the_plan_cost_no_bars_and_are_asked_for_once(basic):
    server, source = basic("eventless")
    one = source()
    result = one.fetch(FetchRequest(("OLD",), START_OF_24, LAST))
    assert (result.outcomes["OLD"], result.actions) == (Outcome.OK, None)
    assert any("no splits and dividends" in note for note in result.notes)
    one.fetch(FetchRequest(("OLDER",), START_OF_24, LAST))
    assert sum("/stocks/v1/" in unit for unit in server.asked.elements()) == 1
    assert "without splits and dividends" in one.info.plan


START_OF_24 = date(2024, 1, 2)


def test_symbols_are_asked_for_one_by_one_where_the_plan_has_no_whole_days(basic):
    server, source = basic("dayless", actions=False)
    many = ("OLD", "OLDER", *(f"X{number}" for number in range(8)))
    one = source()
    for _ in range(2):
        result = one.fetch(FetchRequest(many, date(2024, 5, 28), LAST))
        assert result.frame.equals(PLANNED.expected("massive", many, date(2024, 5, 28), LAST))
    assert sum("/grouped/" in unit for unit in bar_units(server)) == 1
    assert "without whole market days" in one.info.plan


# ── a day that is not over ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plan", ["basic", "basic lenient"])
@pytest.mark.parametrize("many", [False, True])
def test_the_running_day_costs_no_older_ones(plan, many, basic):
    """At 19:00 New York it is refused still; the end of the day is not given."""
    evening = datetime(2024, 5, 31, 23, tzinfo=UTC)
    server, source = basic(plan, now=evening)
    wanted = ("OLD", "OLDER", *(f"X{number}" for number in range(20 if many else 1)))
    one = source()
    result = one.fetch(FetchRequest(wanted, date(2024, 5, 24), LAST))
    assert_frame_equal(result.frame, PLANNED.expected("massive", wanted, date(2024, 5, 24), date(2024, 5, 30)))
    assert ("without the running day" in one.info.plan) == bool(many or plan == "basic")
    reported = [note for note in result.notes if "has not published 2024-05-31 yet" in note]
    assert len(reported) == (0 if plan == "basic lenient" and not many else 1)
    assert sum(unit.endswith("2024-05-31") for unit in bar_units(server)) == (1 if plan == "basic" or many else 3)


def test_nothing_but_the_running_day_is_not_published_and_no_matter_of_the_key(basic):
    _, source = basic(now=datetime(2024, 5, 31, 23, tzinfo=UTC))
    with pytest.raises(NotPublishedError, match="before end of day") as caught:
        source().fetch(FetchRequest(("OLD", "OLDER"), LAST, LAST))
    assert caught.value.retryable
    with pytest.raises(NotPublishedError):
        source().fetch(FetchRequest(("OLD",), LAST, LAST))


def test_a_day_to_come_is_not_asked_for(basic):
    """It is refused in the words of a plan that is too small, on paid plans too (polygon-io/issues#313)."""
    server, source = basic("")
    result = source().fetch(FetchRequest(("OLD",), date(2024, 5, 28), date(2024, 12, 31)))
    assert result.frame.height == 4
    assert bar_units(server) == ["/v2/aggs/ticker/OLD/range/1/day/2024-05-28/2024-06-03"]


# ── limits, refusals, pages ────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_is_of_a_minute(serve, ask, clock):
    server = serve(faults=always(Fault.LIMITED, "/ticker/HALT/"))
    with pytest.raises(RateLimitedError) as caught:
        ask(server, "massive", ("HALT",), attempts=3)
    assert [seconds >= 60 for seconds in clock.slept] == [True, True]
    assert f"go on after {clock.moment + timedelta(seconds=61):%Y-%m-%d %H:%M:%S} UTC" in caught.value.todo


def test_what_was_fetched_before_a_limit_is_whole_and_is_kept(serve, ask):
    """Events are asked for with the first bars, so that a limit at the third symbol leaves two with theirs."""
    server = serve(faults=always(Fault.LIMITED_FOR, "/ticker/HALT/"), retry_after="3600")
    result = ask(server, "massive", ("BRK.B", "GONE", "HALT", "SPLT"))
    assert [result.outcomes[symbol] for symbol in SYMBOLS] == [
        Outcome.OK,
        Outcome.OK,
        Outcome.RATE_LIMITED,
        Outcome.RATE_LIMITED,
    ]
    kept = ("BRK.B", "GONE")
    assert_frame_equal(result.frame, TRUTH.expected("massive", kept, START, END))
    assert_frame_equal(result.actions, TRUTH.expected_actions("massive", kept, START, END))


def test_where_events_fail_no_further_bars_are_asked_for_and_nothing_is_said_to_be_kept(serve, ask):
    server = serve(faults=always(Fault.ERROR, "/stocks/v1/"))
    with pytest.raises(ProviderError) as caught:
        ask(server, "massive", attempts=2)
    assert "nothing of this was stored" in caught.value.todo
    assert len(bar_units(server)) == 1


def test_an_unknown_key_is_the_key(serve, ask):
    with pytest.raises(ConfigurationError, match="does not accept the key"):
        ask(serve(), "massive", ("HALT",), key="another")


def test_a_list_of_tickers_comes_in_pages_of_a_thousand(serve, ask, tmp_path, clock):
    day = date(2013, 1, 2)
    names = [f"T{number:04d}" for number in range(2500)]
    bars = pl.DataFrame(
        {"symbol": names, "date": day, "close": 1.0}, schema_overrides={"date": pl.Date()}
    ).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in ("symbol", "date", "close")
    )
    server = serve(Truth(bars.select(SCHEMA.names())))
    source = server.source("massive", state_folder=tmp_path, pace=clock.pace, universe="CS")
    assert source.members(day, day) == names
    source.close()
    assert server.asked.total() == 3 + 1


@pytest.mark.parametrize("page", [1, 2, 7])
def test_pages_of_a_range_are_raw_though_no_cursor_says_so(page, serve, ask):
    server = serve(page=page)
    result = ask(server, "massive", ("SPLT",), date(2012, 12, 20), date(2013, 1, 10))
    assert_frame_equal(result.frame, TRUTH.expected("massive", ("SPLT",), date(2012, 12, 20), date(2013, 1, 10)))
    assert_frame_equal(
        ask(server, "massive").actions, TRUTH.expected_actions("massive", SYMBOLS, START - timedelta(days=42), END)
    )


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────

PREFERRED = Truth(
    TRUTH.bars.with_columns(pl.col("symbol").replace({"HALT": "BAC.PRL", "SPLT": "ALL.PR"})),
    TRUTH.actions.with_columns(pl.col("symbol").replace({"HALT": "BAC.PRL", "SPLT": "ALL.PR"})),
)


@pytest.mark.parametrize(("start", "many"), [(START, 0), (date(2013, 1, 2), 30)])
def test_preferred_shares_are_asked_for_by_their_small_letter(start, many, serve, ask):
    server = serve(PREFERRED)
    wanted = ("ALL.PR", "BAC.PRL", *(f"X{number}" for number in range(many)))
    result = ask(server, "massive", wanted, start, END)
    assert_frame_equal(result.frame, PREFERRED.expected("massive", wanted, start, END))
    assert set(result.actions["symbol"]) == {"ALL.PR"}
    assert any("BACpL" in unit for unit in server.asked) or many


def test_the_universe_names_preferred_shares_as_we_write_them(serve, tmp_path, clock, caplog):
    odd = [{"ticker": "GEHCw", "type": "PFD", "market": "stocks", "locale": "us", "name": "when issued"}]
    server = serve(PREFERRED, strange={"tickers": odd})
    source = server.source("massive", state_folder=tmp_path, pace=clock.pace, universe="PFD")
    assert {"BAC.PRL", "ALL.PR"} <= set(source.members(START, END))
    source.close()
    assert caplog.text == Saying("1 ticker", "PFD", "cannot be written")


def test_a_small_letter_is_refused_with_the_symbol_that_it_is_ours():
    with pytest.raises(ConfigurationError, match=r"'BACpL' \(is it BAC\.PRL\?\)"):
        normalize_symbols(["AAPL", "BACpL"])
    assert normalize_symbols(["bacpl", "Bacpl"]) == ["BACPL"]


def test_an_otc_symbol_comes_by_the_day_as_it_does_by_itself(serve, ask):
    """Left out of whole days unless they are asked for with it, it would seem to have ended."""
    server = serve(facts={"SPLT": {"otc": True}})
    day = date(2013, 1, 2)
    by_day = ask(server, "massive", SYMBOLS, day, day)
    assert any("/grouped/" in unit for unit in server.asked)
    assert_frame_equal(by_day.frame.filter(symbol="SPLT"), ask(server, "massive", ("SPLT",), day, day).frame)
    assert by_day.outcomes["SPLT"] is Outcome.OK


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def odd_split(**changes):
    row = {"id": "E", "ticker": "HALT", "execution_date": "2012-12-03", "adjustment_type": "forward_split"}
    return row | {"split_from": 1, "split_to": 2} | changes


def odd_dividend(**changes):
    row = {"id": "E", "ticker": "HALT", "ex_dividend_date": "2012-12-03", "distribution_type": "recurring"}
    return row | {"cash_amount": 0.25, "currency": "USD"} | changes


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("splits", odd_split(split_from=0)),
        ("splits", odd_split(split_from=None)),
        ("splits", odd_split(split_to="2")),
        ("dividends", odd_dividend(cash_amount=None)),
        ("dividends", odd_dividend(cash_amount="0.25")),
    ],
)
def test_an_odd_event_is_named_if_it_is_ours_and_passed_over_in_any_case(kind, row, serve, ask):
    server = serve(strange={kind: [row]})
    result = ask(server, "massive")
    assert result.outcomes["HALT"] is Outcome.OK
    assert any("HALT on 2012-12-03" in note for note in result.notes), result.notes
    assert_frame_equal(result.actions, TRUTH.expected_actions("massive", SYMBOLS, START, END))
    alone = ask(server, "massive", ("HALT",))
    assert (alone.outcomes["HALT"], alone.actions.height, len(alone.notes)) == (Outcome.OK, 0, 1)
    others = ask(server, "massive", ("BRK.B", "SPLT"), date(2013, 1, 2), date(2013, 1, 2))  # by the day: all tickers
    assert (others.notes, others.outcomes["SPLT"]) == ((), Outcome.OK)


def test_odd_splits_and_odd_dividends_of_one_symbol_leave_its_bars(serve, ask):
    rows = {"splits": [odd_split(split_from=0)], "dividends": [odd_dividend(cash_amount=None)]}
    result = ask(serve(strange=rows), "massive", ("HALT",))
    assert (result.outcomes["HALT"], len(result.notes)) == (Outcome.OK, 2)


def test_a_dividend_in_another_currency_is_kept_apart(serve, ask):
    rows = [
        odd_dividend(currency="CAD", cash_amount=0.5),
        odd_dividend(currency=None),
        odd_dividend(ticker="ELSE", currency="EUR"),
    ]
    result = ask(serve(strange={"dividends": rows}), "massive", ("HALT",))
    assert result.foreign.rows() == [("HALT", date(2012, 12, 3), 0.5, "CAD")]
    assert result.actions.rows() == [("HALT", date(2012, 12, 3), 1.0, 0.25)]
    assert result.notes == ()


def test_one_for_one_is_no_split(serve, ask):
    result = ask(serve(strange={"splits": [odd_split(split_from=3, split_to=3)]}), "massive", ("HALT",))
    assert (result.actions.height, result.notes) == (0, ())


@pytest.mark.parametrize(
    ("kind", "cash", "reported"),
    [("supplemental", 0.5, False), ("special", 0.5, False), ("recurring", 0.25, True), ("unknown", 0.25, True)],
)
def test_two_dividends_of_one_amount_and_day_are_distinguished_by_their_kind(kind, cash, reported, serve, ask):
    """Ford, 2025-02-18: regular and supplemental. Entries of one kind are one (polygon-io/issues#311 and #324)."""
    rows = {"dividends": [odd_dividend(), odd_dividend(id="F", distribution_type=kind)]}
    result = ask(serve(strange=rows), "massive", ("HALT",))
    assert result.actions.rows() == [("HALT", date(2012, 12, 3), 1.0, cash)]
    assert (Saying("count once", "HALT on 2012-12-03") in result.notes) is reported


def test_an_odd_bar_of_somebody_else_spoils_no_market_day(serve, ask):
    odd = [
        {"T": "ELSE", "o": "1.5", "h": None, "l": 1, "c": 2, "v": 1, "t": 1357156800000},
        {"T": "OTHER", "c": 2},
        {"T": 7, "c": "x", "t": "y"},
    ]
    result = ask(serve(strange={"day": odd}), "massive", SYMBOLS, date(2013, 1, 2), date(2013, 1, 2))
    assert_frame_equal(result.frame, TRUTH.expected("massive", SYMBOLS, date(2013, 1, 2), date(2013, 1, 2)))
    assert result.rejected is None


def test_prices_that_are_adjusted_in_spite_of_the_question_are_not_taken(serve, ask):
    """Of a split after the range nothing in them would tell."""
    bar = {"o": 10, "h": 11, "l": 9, "c": 10, "v": 100, "t": 1357102800000}
    page = {"ticker": "HALT", "adjusted": True, "resultsCount": 1, "results": [bar], "status": "OK"}
    server = serve(answers=lambda request: jsonify(page) if "/aggs/" in request.path else None)
    with pytest.raises(ProviderError, match="raw ones were asked for"):
        ask(server, "massive", ("HALT",))


def test_bars_of_another_ticker_than_was_asked_for_are_an_error_of_the_symbol(serve, ask):
    bar = {"o": 10, "h": 11, "l": 9, "c": 10, "v": 100, "t": 1357102800000}
    page = {"ticker": "ZZZ", "adjusted": False, "resultsCount": 1, "results": [bar], "status": "OK"}
    server = serve(answers=lambda request: jsonify(page) if "/aggs/ticker/HALT/" in request.path else None)
    result = ask(server, "massive", ("BRK.B", "HALT"))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.ERROR}
    assert result.details["HALT"] == Saying("'ZZZ'", "HALT was asked for")


def jsonify(page: object) -> Response:
    return Response(json.dumps(page), content_type="application/json")


def test_an_odd_bar_of_ours_is_rejected_and_the_others_are_taken(serve, ask):
    odd = [{"T": "ODD", "o": 1, "h": 1, "l": 1, "c": "1", "v": 1, "t": 1357156800000}]
    wanted = (*SYMBOLS, "ODD")
    result = ask(serve(strange={"day": odd}), "massive", wanted, date(2013, 1, 2), date(2013, 1, 2))
    assert result.rejected.select("symbol", "reasons").rows() == [("ODD", ["unreadable_close"])]
    assert_frame_equal(result.frame, TRUTH.expected("massive", SYMBOLS, date(2013, 1, 2), date(2013, 1, 2)))


def test_events_that_were_entered_late_come_with_the_next_weeks(serve, ask):
    """At no further request: they are asked for from six weeks before the range."""
    server = serve()
    result = ask(server, "massive", ("SPLT",), date(2013, 1, 4), date(2013, 1, 10))
    assert result.actions.rows() == [("SPLT", date(2012, 12, 3), 1.0, 0.5), ("SPLT", date(2013, 1, 2), 2.0, 0.0)]
    assert server.asked.total() == 3
