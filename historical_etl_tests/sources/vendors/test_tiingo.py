"""What only Tiingo does: one status for keys and plans, limits that say when they end, symbols that are counted."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from werkzeug import Request, Response

from historical_etl import ConfigurationError, FetchRequest, Outcome, RateLimitedError
from historical_etl.errors import AccessDeniedError, CoverageError
from historical_etl.sources.base import ACTIONS
from historical_etl_tests.scenario import store, stored
from historical_etl_tests.sources.vendors.conftest import END, START, TRUTH
from historical_etl_tests.sources.vendors.loopback import Truth, as_json, fixed_clock

OVER = "You have run over your 500 symbol look up for this month. Please upgrade to have your limits increased."
LIMITS = "Error: You have run over your {} allocation. Then go to the pricing page."


def says(body: object, status: int, *tickers: str):
    """Answers about some tickers, or about all, with one refusal."""

    def answers(request: Request) -> Response | None:
        if tickers and request.path.split("/")[3] not in tickers:
            return None
        if isinstance(body, str):
            return Response(body, status, content_type="text/html" if body else None)
        return as_json(body, status)

    return answers


class Quota:
    """An account that is given so many different symbols a month; those that were given go on."""

    def __init__(self, most: int, *, plain: bool = False) -> None:
        self.most, self.plain = most, plain
        self.given: set[str] = set()

    def __call__(self, request: Request) -> Response | None:
        ticker = request.path.split("/")[3]
        if ticker in self.given or len(self.given) < self.most:
            self.given.add(ticker)
            return None
        return Response(OVER, content_type="text/plain") if self.plain else as_json({"detail": OVER})


# ── keys and plans ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("words", ["Invalid token.", "Please supply a token"])
def test_a_wrong_key_ends_the_run_at_once(words, status, serve, ask):
    server = serve(answers=says({"detail": words}, status))
    with pytest.raises(ConfigurationError, match="TIINGO_API_KEY"):
        ask(server, "tiingo")
    assert server.asked.total() == 1


@pytest.mark.parametrize(
    "body", ["", {"detail": "You do not have permission to access this ticker"}, {"detail": "Forbidden"}]
)
def test_a_ticker_that_the_plan_does_not_give_is_its_own_outcome(body, serve, ask):
    result = ask(serve(answers=says(body, 403, "HALT")), "tiingo", ("BRK.B", "HALT", "SPLT"))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.NOT_COVERED, "SPLT": Outcome.OK}
    assert "HTTP 403" in result.details["HALT"]


def test_where_nothing_is_given_it_may_be_the_key_unless_the_words_say_the_plan(serve, ask):
    with pytest.raises(AccessDeniedError, match="TIINGO_API_KEY"):
        ask(serve(answers=says("", 403)), "tiingo")
    with pytest.raises(CoverageError, match="permission"):
        ask(serve(answers=says({"detail": "You do not have permission to access the News API"}, 403)), "tiingo")


@pytest.mark.parametrize("words", ["Error: Ticker 'HALT' not found", "Not found."])
def test_a_ticker_that_is_not_known_is_not_found(words, serve, ask):
    result = ask(serve(answers=says({"detail": words}, 404, "HALT")), "tiingo", ("BRK.B", "HALT"))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.NOT_FOUND}
    assert words in result.details["HALT"]


def test_what_an_object_in_place_of_the_rows_says_is_reported(serve, ask):
    result = ask(serve(answers=says({"detail": "Under maintenance"}, 200, "HALT")), "tiingo", ("BRK.B", "HALT"))
    assert result.outcomes["HALT"] is Outcome.ERROR
    assert "Under maintenance" in result.details["HALT"]


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limit", "now", "anew"),
    [
        ("hourly request", "2024-06-03 12:20:30", "2024-06-03 13:00:01"),
        ("hourly request", "2024-06-03 23:10:00", "2024-06-04 00:00:01"),
        ("daily request", "2024-06-03 12:00:00", "2024-06-04 04:00:01"),
        ("daily request", "2024-06-04 03:00:00", "2024-06-04 04:00:01"),
        ("daily request", "2024-11-03 12:00:00", "2024-11-04 05:00:01"),
        ("monthly bandwidth", "2024-06-03 12:00:00", "2024-07-01 04:00:01"),
        ("monthly bandwidth", "2024-07-01 03:00:00", "2024-07-01 04:00:01"),
        ("monthly bandwidth", "2024-12-31 12:00:00", "2025-01-01 05:00:01"),
    ],
)
def test_a_limit_says_when_it_ends_and_nothing_is_asked_before(limit, now, anew, serve, tmp_path):
    clock = fixed_clock(datetime.fromisoformat(now).replace(tzinfo=UTC))
    server = serve(answers=says({"detail": LIMITS.format(limit)}, 429))
    source = server.source("tiingo", state_folder=tmp_path, pace=clock.pace)
    with pytest.raises(RateLimitedError, match=f"go on after {anew} UTC"):
        source.fetch(FetchRequest(("BRK.B", "HALT", "SPLT"), START, END))
    source.close()
    assert server.asked.total() == 1
    assert clock.slept == []


def test_a_limit_that_ends_in_a_minute_is_waited_for(serve, tmp_path):
    clock = fixed_clock(datetime(2024, 6, 3, 12, 59, 30, tzinfo=UTC))
    refuse = says({"detail": LIMITS.format("hourly request")}, 429)
    server = serve(answers=lambda request: refuse(request) if clock().hour == 12 else None)
    source = server.source("tiingo", state_folder=tmp_path, pace=clock.pace)
    assert source.fetch(FetchRequest(("BRK.B",), START, END)).outcomes["BRK.B"] is Outcome.OK
    source.close()
    assert clock.slept == [31.0]


@pytest.mark.parametrize("plain", [True, False])
def test_symbols_that_were_asked_for_before_go_on_when_the_months_number_is_reached(plain, serve, ask):
    quota = Quota(2, plain=plain)
    server = serve(answers=quota)
    ask(server, "tiingo", ("SPLT", "HALT"))
    result = ask(server, "tiingo", ("BRK.B", "GONE", "HALT", "SPLT"))
    assert dict(result.outcomes) == {
        "BRK.B": Outcome.RATE_LIMITED,
        "GONE": Outcome.RATE_LIMITED,
        "HALT": Outcome.OK,
        "SPLT": Outcome.OK,
    }
    assert "500 symbol look up" in result.details["BRK.B"]
    assert "go on after 2024-07-01 04:00:01 UTC" in result.details["BRK.B"]


def test_a_refused_symbol_costs_one_request_a_day_until_the_month_ends(serve, ask, clock):
    server = serve(answers=Quota(0))

    def asked() -> int:
        before = server.asked.total()
        with pytest.raises(RateLimitedError, match="go on after 2024-07-01") as caught:
            ask(server, "tiingo", ("BRK.B",))
        assert caught.value.alone
        return server.asked.total() - before

    assert [asked(), asked(), asked()] == [1, 0, 0]
    clock.moment = datetime(2024, 6, 4, 12, 0, 1, tzinfo=UTC)
    assert [asked(), asked()] == [1, 0]
    clock.moment = datetime(2024, 6, 30, 23, tzinfo=UTC)
    assert asked() == 1
    clock.moment = datetime(2024, 7, 1, 4, tzinfo=UTC)
    server.answers = None
    assert ask(server, "tiingo", ("BRK.B",)).outcomes["BRK.B"] is Outcome.OK


def test_a_store_goes_on_and_names_what_it_is_not_given(root, serve, tmp_path):
    """The universe has grown by more symbols than the month has: those that are stored are kept up to date."""
    names = ["HALT", "SPLT"]
    server = serve(answers=Quota(2))
    source = server.source("tiingo", state_folder=tmp_path)
    store(root, source, date(2013, 1, 15)).run_full_etl(names, START, date(2013, 1, 15))
    everything = ["BRK.B", *names]
    etl = store(root, source, END)
    result = etl.run_incremental_etl(everything)
    assert result.outcomes == {"BRK.B": "rate_limited", "HALT": "ok", "SPLT": "ok"}
    assert stored(etl)["date"].max() == END
    whole = etl.run_full_etl(everything, START, END)
    assert whole.outcomes["BRK.B"] == "rate_limited"
    assert "go on after" in whole.details["BRK.B"]
    assert sum("BRK-B" in unit for unit in server.asked.elements()) == 1
    source.close()


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_of_the_weeks_before_come_with_the_same_request(serve, ask):
    """One that is added late is among them; bars before the range are not."""
    days = [date(2012, 12, 20), date(2012, 10, 15)]
    acted = pl.DataFrame([("HALT", day, 1.0, 0.5) for day in days], schema=ACTIONS, orient="row")
    server = serve(Truth(TRUTH.bars, acted))
    result = ask(server, "tiingo", ("HALT",), date(2013, 1, 2), END)
    assert result.actions.rows() == [("HALT", date(2012, 12, 20), 1.0, 0.5)]
    assert result.frame["date"].min() == date(2013, 1, 2)
    assert server.asked.total() == 1


@pytest.mark.parametrize(
    ("written", "asked"), [("BRK.B", "BRK-B"), ("BRK/B", "BRK-B"), ("SPG-P-J", "SPG-P-J"), ("SPG.P.J", "SPG-P-J")]
)
def test_a_dot_or_a_slash_is_a_dash(written, asked, serve, ask):
    server = serve()
    ask(server, "tiingo", (written,))
    assert [unit.split("/")[3] for unit in server.asked] == [asked]
