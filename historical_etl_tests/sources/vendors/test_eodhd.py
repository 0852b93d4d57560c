"""EODHD as it answers: a free plan's year, what it refuses, days and events that are not there, money, former names."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from werkzeug import Request, Response

from historical_etl import CoverageError, FetchRequest, Outcome, RateLimitedError
from historical_etl.errors import NotPublishedError
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS
from historical_etl.sources.vendors.currencies import currency_of_market, in_units_of
from historical_etl.sources.vendors.eodhd_rows import first_given
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_ledger
from historical_etl.vendor_settings import EodhdSettings
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, store
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import Truth, fixed_clock
from historical_etl_tests.sources.vendors.wires.eodhd import WARNING, eodhd_bar

#: The same day a year ago is inside: this plan begins on 2012-12-03.
NOW = datetime(2013, 12, 3, 12, tzinfo=UTC)
EDGE = date(2012, 12, 3)
DAY = date(2013, 1, 2)
MANY = (*SYMBOLS, *(f"X{number}" for number in range(100)))
BAR = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "ret": None, "adj_close": 10.5}


@pytest.fixture
def clock():
    return fixed_clock(NOW)


@pytest.fixture
def free(serve, tmp_path, clock):
    """A source whose account has a free plan, and its server."""
    opened = []

    def start(plan: str = "free", truth: Truth = TRUTH, **settings):
        server = serve(truth, plan=plan, now=NOW)
        source = server.source("eodhd", state_folder=tmp_path, pace=clock.pace, **settings)
        opened.append(source)
        return source, server

    yield start
    for source in opened:
        source.close()


def kinds(server) -> list[str]:
    return [unit.split("/")[2] for unit in server.asked]


def actions(*rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ACTIONS, orient="row")


def bars_of(*symbols: str) -> pl.DataFrame:
    days = [date(2013, 1, 2), date(2013, 1, 3), date(2013, 1, 4)]
    return pl.DataFrame([BAR | {"symbol": symbol, "date": day} for symbol in symbols for day in days], schema=SCHEMA)


# ── the free plan ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plan", ["free", "free, apart", "free, events"])
def test_the_bars_of_a_free_plan_come_and_its_sentence_is_reported_once(plan, free):
    source, _ = free(plan)
    result = source.fetch(FetchRequest(SYMBOLS, START, END))
    expected = TRUTH.expected("eodhd", SYMBOLS, EDGE, END, printable="events" not in plan)
    assert_frame_equal(result.frame, expected, check_exact=True)
    warned = [note for note in result.notes if WARNING in note]
    assert warned == [Saying("eodhd", "from 2012-12-03 on")]


def test_the_reach_of_a_plan_is_learnt_and_older_years_are_not_asked_for(free, tmp_path, clock):
    source, server = free()
    source.fetch(FetchRequest(("HALT",), START, END))
    assert source.info.coverage.first == EDGE
    assert "from 2012-12-03 on" in source.info.plan
    server.asked.clear()
    with pytest.raises(CoverageError):
        source.fetch(FetchRequest(("HALT",), date(2012, 1, 3), date(2012, 11, 30)))
    assert not server.asked
    again = server.source("eodhd", state_folder=tmp_path, pace=clock.pace)
    assert again.info.coverage.first == EDGE, "also by the next run"
    again.close()


def test_a_range_that_is_older_than_the_plan_is_not_covered(free):
    """A list with a warning and nothing else: the vendor has the bars, and does not give them."""
    source, _ = free()
    with pytest.raises(CoverageError, match=WARNING):
        source.fetch(FetchRequest(("HALT",), START, date(2012, 11, 30)))
    assert source.info.coverage.first == EDGE


def test_a_symbol_that_began_to_trade_later_says_nothing_of_the_plan(free):
    source, _ = free(truth=Truth(bars_of("YOUNG")))
    result = source.fetch(FetchRequest(("YOUNG",), START, END))
    assert result.frame["date"].min() == DAY
    assert source.info.coverage.first == EDGE


def test_a_warning_that_is_no_limit_is_reported_and_nothing_is_learnt(serve, ask, tmp_path, clock):
    row = {"date": str(DAY), "open": 1, "high": 1, "low": 1, "close": 1, "adjusted_close": 1, "volume": 1}
    server = serve(answers=only("/eod/", [row | {"warning": "Today's bar may change"}]))
    result = ask(server, "eodhd", ("HALT",), DAY, DAY)
    assert (result.frame.height, result.notes) == (1, ("eodhd says: Today's bar may change",))
    source = server.source("eodhd", state_folder=tmp_path / "turns", pace=clock.pace)
    assert (source.info.coverage, source.info.plan) == (None, "")
    source.close()


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (WARNING, date(2023, 2, 28)),
        ("limited by 1 year", date(2023, 2, 28)),
        ("Data is limited to the last two years", date(2022, 2, 28)),
        ("Limited by 30 days as you have a free subscription", date(2024, 1, 30)),
        ("limited by six moons", None),
        ("Updated one year ago", None),
    ],
)
def test_the_reach_of_a_plan_is_what_its_words_say(words, first):
    assert first_given(words, date(2024, 2, 29)) == first


# ── what a plan refuses ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_without_events_gives_bars_and_names_no_events(free):
    source, server = free()
    symbols = ("BRK.B", "HALT", "IPOX", "SPLT")
    result = source.fetch(FetchRequest(symbols, EDGE, END))
    assert result.actions is None, "which is not to say that there were none"
    assert set(result.outcomes.values()) == {Outcome.OK}
    assert kinds(server) == ["eod", "splits", "eod", "eod", "eod"], "asked once, not for each symbol"
    (reported,) = [note for note in result.notes if "Only EOD data allowed" in note]
    assert "splits are inferred" in reported
    assert not source.info.capabilities.actions
    assert "without splits and dividends" in source.info.plan
    again = source.fetch(FetchRequest(symbols, EDGE, END))
    assert again.actions is None
    volumes, plan = again.notes
    assert "without splits and dividends" in plan, "each run says what it does not give"
    assert "volumes adjusted for splits" in volumes


def test_a_plan_with_a_year_of_events_names_them(free):
    source, _ = free("free, events")
    result = source.fetch(FetchRequest(SYMBOLS, START, END))
    assert_frame_equal(result.actions, TRUTH.expected_actions("eodhd", SYMBOLS, EDGE, END), check_exact=True)


def test_a_plan_without_whole_days_is_asked_by_symbol(free):
    source, server = free()
    result = source.fetch(FetchRequest(MANY, DAY, DAY))
    assert_frame_equal(result.frame, TRUTH.expected("eodhd", SYMBOLS, DAY, DAY), check_exact=True)
    assert result.outcomes["X7"] is Outcome.NOT_FOUND
    assert kinds(server).count("eod-bulk-last-day") == 1
    assert "whole market days" in source.info.plan
    source.fetch(FetchRequest(MANY, DAY, DAY))
    assert kinds(server).count("eod-bulk-last-day") == 1


@pytest.mark.parametrize("settings", [{"daily_budget": 20}, {"rate": "60/minute"}])
def test_an_account_that_cannot_pay_a_whole_day_is_asked_by_symbol(settings, serve, ask):
    server = serve()
    ask(server, "eodhd", tuple(f"X{number}" for number in range(101)), DAY, DAY, attempts=1, **settings)
    assert set(kinds(server)) == {"eod"}


def test_a_wrong_key_teaches_nothing_of_the_plan(serve, ask, tmp_path, clock):
    server = serve(answers=lambda _: Response("Forbidden", 403, content_type="text/html"))
    with pytest.raises(Exception, match="EODHD_API_KEY"):
        ask(server, "eodhd", MANY, DAY, DAY)
    source = server.source("eodhd", state_folder=tmp_path / "turns", pace=clock.pace)
    assert source.info.plan == ""
    source.close()


# ── what is not there ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("none_is_404", [True, False])
def test_a_symbol_without_events_has_none_whichever_way_it_is_said(none_is_404, serve, ask):
    result = ask(serve(none_is_404=none_is_404), "eodhd", ("HALT", "SPLT"))
    assert dict(result.outcomes) == {"HALT": Outcome.OK, "SPLT": Outcome.OK}
    assert_frame_equal(result.actions, TRUTH.expected_actions("eodhd", ("HALT", "SPLT"), START, END))


@pytest.mark.parametrize("none_is_404", [True, False])
def test_a_day_that_the_market_did_not_trade_is_not_the_end_of_its_symbols(none_is_404, serve, ask):
    gone = Truth(TRUTH.bars.filter(pl.col("date") != DAY), TRUTH.actions)
    result = ask(serve(gone, none_is_404=none_is_404), "eodhd", MANY, DAY, DAY)
    assert set(result.outcomes.values()) == {Outcome.EMPTY}


@pytest.mark.parametrize("none_is_404", [True, False])
def test_a_day_that_is_not_published_yet_is_waited_for(none_is_404, serve, tmp_path):
    tonight = fixed_clock(datetime(2013, 1, 2, 22, tzinfo=UTC))
    server = serve(TRUTH.until(date(2012, 12, 31)), none_is_404=none_is_404)
    source = server.source("eodhd", state_folder=tmp_path, pace=tonight.pace)
    with pytest.raises(NotPublishedError, match="2013-01-02"):
        source.fetch(FetchRequest(MANY, DAY, DAY))
    assert kinds(server) == ["eod-bulk-last-day"], "its events are not asked for"
    two = source.fetch(FetchRequest((*MANY, *(f"Y{number}" for number in range(100))), *LAST_TWO))
    assert_frame_equal(two.frame, server.truth.expected("eodhd", SYMBOLS, *LAST_TWO), check_exact=True)
    source.close()


LAST_TWO = (date(2012, 12, 31), DAY)


@pytest.mark.parametrize("body", ["You exceeded your daily API requests limit.", "Payment required", ""])
def test_402_in_any_words_is_the_limit_of_the_day_and_nothing_more_is_asked(body, serve, ask):
    server = serve(answers=lambda _: Response(body, 402, content_type="text/html"))
    with pytest.raises(RateLimitedError) as caught:
        ask(server, "eodhd", SYMBOLS)
    assert "go on after 2013-12-04 00:00:01 UTC" in caught.value.todo
    assert server.asked.total() == 1


def test_what_was_fetched_before_the_limit_of_the_day_is_kept(serve, ask):
    spent = Response("You exceeded your daily API requests limit.", 402, content_type="text/html")
    server = serve(answers=lambda request: None if "BRK" in request.path else spent)
    result = ask(server, "eodhd", SYMBOLS)
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK} | dict.fromkeys(SYMBOLS[1:], Outcome.RATE_LIMITED)
    assert server.asked.total() == 4


def test_the_limit_of_a_minute_is_waited_for(serve, ask, clock):
    refusals = [Response("Too Many Requests", 429, content_type="text/html")]
    server = serve(answers=lambda _: refusals.pop() if refusals else None)
    assert ask(server, "eodhd", ("HALT",)).outcomes["HALT"] is Outcome.OK
    assert clock.slept == [61.0]


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_named_late_come_with_a_range_after_them(serve, ask):
    """A symbol that is stored already is fetched whole for them; see `FetchResult.actions`."""
    server = serve()
    result = ask(server, "eodhd", ("SPLT",), date(2013, 1, 7), date(2013, 1, 9))
    assert result.actions.rows() == [("SPLT", date(2012, 12, 3), 1.0, 0.5), ("SPLT", DAY, 2.0, 0.0)]
    assert server.asked.total() == 3


def test_an_event_on_a_day_without_a_bar_keeps_its_day(serve, ask):
    acted = actions(("ODD", date(2013, 1, 1), 1.0, 0.5), ("ODD", date(2013, 1, 5), 0.05, 0.0))
    result = ask(serve(Truth(bars_of("ODD"), acted)), "eodhd", ("ODD",))
    assert_frame_equal(result.actions, acted)


def test_texts_and_nulls_of_a_market_day_are_read(serve, ask):
    acted = actions(("ODD", DAY, 1.5, 0.0), ("PAYS", DAY, 1.0, 0.208))
    result = ask(serve(Truth(bars_of("ODD", "PAYS"), acted)), "eodhd", ("ODD", "PAYS", *MANY), DAY, DAY)
    assert_frame_equal(result.actions, acted)


def test_an_odd_event_of_a_market_day_is_named_and_the_rest_is_taken(serve, ask):
    rows = [
        {"code": "ODD", "exchange": "US", "date": str(DAY), "split": ""},
        {"code": "PAYS", "exchange": "US", "date": str(DAY), "split": "2.000000/1.000000"},
        {"code": "OTHER", "exchange": "US", "date": str(DAY), "split": None},
    ]
    server = serve(Truth(bars_of("ODD", "PAYS")), answers=only("type=splits", rows))
    result = ask(server, "eodhd", ("ODD", "PAYS", *MANY), DAY, DAY)
    assert result.actions.rows() == [("PAYS", DAY, 2.0, 0.0)]
    assert result.outcomes["ODD"] is Outcome.OK
    assert result.notes == (Saying("left out", "ODD on 2013-01-02", "a split is ''"),)


@pytest.mark.parametrize("split", ["2", "0/0", "2:0", "", None, 2.0])
def test_a_split_that_is_no_ratio_is_named(split, serve, ask):
    server = serve(Truth(bars_of("ODD")), answers=only("/splits/", [{"date": str(DAY), "split": split}]))
    result = ask(server, "eodhd", ("ODD",))
    assert (result.frame.height, result.actions.height) == (3, 0)
    assert "ODD on 2013-01-02" in result.notes[0]


@pytest.mark.parametrize(("split", "ratio"), [("1.000000/20.000000", 0.05), ("3:2", 1.5), ("114.80253/100", 1.1480253)])
def test_a_split_is_new_shares_for_old_ones(split, ratio, serve, ask):
    server = serve(Truth(bars_of("ODD")), answers=only("/splits/", [{"date": str(DAY), "split": split}]))
    assert ask(server, "eodhd", ("ODD",)).actions.rows() == [("ODD", DAY, pytest.approx(ratio), 0.0)]


def test_what_a_backfill_of_several_years_cannot_read_is_reported_in_the_store(serve, tmp_path, root, clock):
    """It is staged with the rest, and comes to the ledger of its year."""
    server = serve(answers=odd_bar("HALT", DAY))
    source = server.source("eodhd", state_folder=tmp_path, pace=clock.pace)
    result = store(root, source, END).run_full_etl(["HALT", "SPLT"], START, END)
    source.close()
    assert result.rejected_by_reason == {"unreadable_close": 1}
    kept = read_ledger(Layout(root), current_manifest(store(root, source, END)), "rejected_rows")
    assert kept.select("symbol", "date", "reasons").rows() == [("HALT", DAY, ["unreadable_close"])]


# ── money ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("symbols", [("ABROAD", "HOME"), ("ABROAD", "HOME", *MANY)])
def test_a_dividend_in_another_currency_is_distinguished(symbols, serve, ask):
    acted = actions(("ABROAD", DAY, 1.0, 0.25), ("HOME", DAY, 1.0, 0.5))
    server = serve(Truth(bars_of("ABROAD", "HOME"), acted), facts={"ABROAD": {"currency": "CAD"}})
    result = ask(server, "eodhd", symbols, DAY, DAY)
    assert result.actions.rows() == [("HOME", DAY, 1.0, 0.5)]
    assert result.foreign.rows() == [("ABROAD", DAY, 0.25, "CAD")]


@pytest.mark.parametrize(
    ("market", "currency", "given", "paid", "foreign"),
    [
        ("XETRA", "", "EUR", 0.5, None),
        ("XETRA", "", "USD", None, "USD"),
        ("LSE", "", "GBP", 50.0, None),
        ("LSE", "", "GBX", 0.5, None),
        ("LSE", "", "GBp", 0.5, None),
        ("LSE", "GBP", "GBX", 0.005, None),
        ("LSE", "", "USD", None, "USD"),
        ("US", "CAD", "USD", None, "USD"),
        ("US", "", None, 0.5, None),
        ("US", "", "", 0.5, None),
        ("NOWHERE", "", "EUR", 0.5, None),
        ("NOWHERE", "EUR", "USD", None, "USD"),
    ],
)
def test_the_currency_of_prices_is_that_of_the_market_or_of_the_setting(
    market, currency, given, paid, foreign, serve, ask
):
    acted = actions(("ODD", DAY, 1.0, 0.5))
    server = serve(Truth(bars_of("ODD"), acted), facts={"ODD": {"currency": given}})
    result = ask(server, "eodhd", ("ODD",), market=market, currency=currency)
    assert result.actions["dividend"].to_list() == ([] if paid is None else [paid])
    assert (None if result.foreign is None else result.foreign["currency"].to_list()) == (foreign and [foreign])


def test_units_of_one_currency_are_no_other_currency():
    assert in_units_of("GBP", "GBX") == 100
    assert in_units_of("GBX", "GBP") == 0.01
    assert in_units_of("usd ", "USD") == 1
    assert in_units_of("ZAC", "ZAR") == 0.01
    assert in_units_of("GBp", "USD") is None
    assert (currency_of_market("US"), currency_of_market("LSE"), currency_of_market("?")) == ("USD", "GBX", "")
    with pytest.raises(ValueError, match="pattern"):
        EodhdSettings(currency="dollars")


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("many", [(), MANY])
@pytest.mark.parametrize(
    ("symbol", "code"), [("ABC_OLD", "ABC_old"), ("ABC_OLD1", "ABC_old1"), ("BRK.B_OLD", "BRK-B_old")]
)
def test_the_former_bearer_of_a_ticker_can_be_asked_for(symbol, code, many, serve, ask):
    """The vendor writes its suffix in small letters, and bulk answers of past days have it too."""
    server = serve(Truth(bars_of(symbol, "ABC"), actions((symbol, DAY, 1.0, 0.5))))
    result = ask(server, "eodhd", (symbol, *many), DAY, DAY)
    assert result.outcomes[symbol] is Outcome.OK
    assert result.actions.rows() == [(symbol, DAY, 1.0, 0.5)]
    assert many or any(f"/eod/{code}.US " in unit for unit in server.asked)


def odd_bar(symbol: str, day: date):
    """The symbol's bars with a text for a close."""

    def answer(request: Request) -> Response | None:
        if f"/eod/{symbol}." not in request.path:
            return None
        bars = [eodhd_bar(row) for row in TRUTH.rows("eodhd", symbol) if START <= row["date"] <= END]
        odd = [bar | ({"close": "?"} if bar["date"] == str(day) else {}) for bar in bars]
        return Response(json.dumps(odd), content_type="application/json")

    return answer


def only(place: str, rows: Sequence[Mapping[str, object]]):
    """Rows in answer to requests whose address contains a text; the wire answers the others."""

    def answer(request: Request) -> Response | None:
        return Response(json.dumps(rows), content_type="application/json") if place in request.url else None

    return answer
