"""EODHD adjusts volumes, and some dividends, for splits up to the fetch: what is stored is as traded and as paid."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from werkzeug import Request, Response

from historical_etl import FetchRequest, Outcome
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS
from historical_etl.sources.vendors.as_traded import applicable, volumes_as_traded
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import plain_settings, sessions, store
from historical_etl_tests.sources.vendors.loopback import Loopback, Truth, fixed_clock

DAYS = sessions(date(2023, 11, 1), date(2024, 5, 31))
SPLIT, REVERSE = date(2024, 1, 10), date(2024, 4, 10)
ACTED = pl.DataFrame(
    [
        ("ODD", date(2023, 12, 1), 1.0, 0.6),
        ("ODD", SPLIT, 3.0, 0.0),
        ("ODD", date(2024, 3, 1), 1.0, 0.15),
        ("ODD", REVERSE, 0.1, 0.0),
        ("ODD", date(2024, 5, 1), 1.0, 0.5),
    ],
    schema=ACTIONS,
    orient="row",
)
MANY = ("ODD", "PLAIN", *(f"X{number}" for number in range(200)))


def traded(symbol: str, splits: Mapping[date, float], until: date = DAYS[-1]) -> pl.DataFrame:
    """A bar a day, its volume in tens as the splits by a tenth take none away."""
    rows, price = list[dict[str, object]](), 30.0
    for at, day in enumerate(day for day in DAYS if day <= until):
        price = price / splits.get(day, 1.0)
        prices = dict.fromkeys(("open", "high", "low", "close"), price)
        rows.append({"symbol": symbol, "date": day, "volume": 1000.0 + 10 * at, **prices})
    return pl.DataFrame(rows, schema=SCHEMA)


WHOLE = Truth(pl.concat([traded("ODD", {SPLIT: 3.0, REVERSE: 0.1}), traded("PLAIN", {})]), ACTED)
TRUTH = WHOLE.adjusted()
VOLUMES = dict(TRUTH.bars.filter(pl.col("symbol") == "ODD").select("date", "volume").iter_rows())


@pytest.fixture
def fetch(serve, tmp_path) -> Iterator[Callable[..., Any]]:
    """What comes of a range at some moment; `change` makes other rows of an answer that has some."""
    opened = []

    def start(
        first: date,
        last: date,
        *,
        symbols: tuple[str, ...] = ("ODD",),
        now: datetime = datetime(2024, 6, 3, 23, tzinfo=UTC),
        truth: Truth = TRUTH,
        answers: Callable[[Request], Response | None] | None = None,
        **settings: Any,
    ) -> tuple[Any, Loopback]:
        server = serve(truth, now=now, answers=answers)
        opened.append(server.source("eodhd", state_folder=tmp_path, pace=fixed_clock(now).pace, **settings))
        return opened[-1].fetch(FetchRequest(symbols, first, last)), server

    yield start
    for source in opened:
        source.close()


def volumes(result: Any) -> dict[date, float]:
    return dict(result.frame.filter(pl.col("symbol") == "ODD").select("date", "volume").iter_rows())


def kinds(server: Loopback) -> list[str]:
    return [unit.split("/")[2] for unit in server.asked]


def between(first: date, last: date) -> dict[date, float]:
    return {day: volume for day, volume in VOLUMES.items() if first <= day <= last}


# ── volumes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_gives_volumes_adjusted_for_splits_after_them():
    given = dict(TRUTH.basis("eodhd").bars.filter(pl.col("symbol") == "ODD").select("date", "volume").iter_rows())
    assert given[DAYS[0]] == pytest.approx(1000 * 3 * 0.1)
    assert given[REVERSE] == VOLUMES[REVERSE]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (DAYS[0], DAYS[-1]),
        (DAYS[0], date(2023, 12, 29)),  # all splits lie after the range
        (date(2024, 2, 1), date(2024, 2, 29)),  # one before it, one after it
        (date(2024, 5, 1), DAYS[-1]),
    ],
)
def test_volumes_are_as_traded_wherever_the_range_ends(first, last, fetch):
    result, server = fetch(first, last)
    assert volumes(result) == between(first, last)
    named = TRUTH.expected_actions("eodhd", ("ODD",), first - timedelta(days=45), last)
    assert_frame_equal(result.actions, named)  # events after the range are not its own
    assert kinds(server) == ["eod", "splits", "div"]


def test_volumes_of_whole_days_are_as_traded(fetch):
    day = REVERSE
    before = DAYS[DAYS.index(day) - 1]
    moment = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
    result, server = fetch(before, day, symbols=MANY, truth=WHOLE.until(day), now=moment)
    assert volumes(result) == between(before, day)
    assert kinds(server) == ["eod-bulk-last-day"] * 6, "splits of the range are in it"


def test_volumes_of_whole_days_long_past_are_as_traded(fetch):
    """Splits after them are asked for of symbols whose adj_close shows that something followed: no others."""
    day = date(2024, 2, 1)
    result, server = fetch(day, day, symbols=MANY)
    assert volumes(result) == between(day, day)
    assert kinds(server) == ["eod-bulk-last-day"] * 3 + ["splits"]
    assert result.actions.is_empty()


def test_a_symbol_whose_later_splits_fail_is_alone_left_out_of_a_whole_day(fetch):
    day = date(2024, 2, 1)
    result, _ = fetch(day, day, symbols=MANY, answers=broken_at("/splits/"), attempts=1)
    assert (result.outcomes["ODD"], result.outcomes["PLAIN"]) == (Outcome.ERROR, Outcome.OK)
    assert result.frame["symbol"].to_list() == ["PLAIN"]


@pytest.mark.parametrize("symbols", [("ODD",), MANY])
def test_a_split_of_today_counts_once_the_vendors_data_have_it(symbols, fetch):
    """In the morning it is listed, and bars are as the evening before; a vendor may also be ahead of the session."""
    before = DAYS[DAYS.index(REVERSE) - 1]
    start = DAYS[DAYS.index(REVERSE) - 2]
    morning = datetime(REVERSE.year, REVERSE.month, REVERSE.day, 8, tzinfo=UTC)
    evening = WHOLE.until(before)
    listed = [{"date": str(SPLIT), "split": "3/1"}, {"date": str(REVERSE), "split": "1/10"}]
    asked = {"symbols": symbols, "now": morning, "answers": rows_at("/splits/", listed)}
    result, _ = fetch(start, before, truth=evening, **asked)
    assert volumes(result) == between(start, before)
    level = pl.when(pl.col("symbol") == "ODD").then(pl.col("adj_close") * 10).otherwise("adj_close")
    ahead = Truth(evening.bars.with_columns(level), ACTED.filter(pl.col("date") <= REVERSE))
    result, _ = fetch(start, before, truth=ahead, **asked)
    assert volumes(result) == between(start, before)


@pytest.mark.parametrize("has_come", [True, False])
def test_a_split_of_today_and_a_range_of_years_ago_is_reported_by_the_newest_bars(has_come, fetch):
    """One more request, of a symbol that splits on the day of the fetch alone."""
    now = datetime(REVERSE.year, REVERSE.month, REVERSE.day, 23, tzinfo=UTC)
    last = date(2023, 11, 30)
    truth = WHOLE.until(REVERSE if has_come else DAYS[DAYS.index(REVERSE) - 1])
    listed = [{"date": str(SPLIT), "split": "3/1"}, {"date": str(REVERSE), "split": "1/10"}]
    result, server = fetch(DAYS[0], last, now=now, truth=truth, answers=rows_at("/splits/", listed))
    assert volumes(result) == between(DAYS[0], last)
    assert kinds(server) == ["eod", "splits", "div", "eod"]


def test_without_splits_of_the_plan_volumes_stay_as_they_arrived_and_this_is_reported(serve, tmp_path):
    now = datetime(2024, 6, 3, 23, tzinfo=UTC)
    server = serve(TRUTH, plan="free", now=now)
    source = server.source("eodhd", state_folder=tmp_path, pace=fixed_clock(now).pace)
    for _ in range(2):  # also by a run that does not ask any more
        result = source.fetch(FetchRequest(("ODD",), DAYS[0], DAYS[-1]))
        assert volumes(result)[DAYS[0]] == pytest.approx(300)
        assert any("volumes adjusted for splits" in note for note in result.notes)
    source.close()


def test_where_splits_are_not_asked_for_the_basis_says_that_volumes_are_adjusted(fetch, serve, tmp_path):
    result, server = fetch(DAYS[0], DAYS[-1], actions=False)
    assert (volumes(result)[DAYS[0]], result.notes) == (pytest.approx(300), ())
    said = [server.source("eodhd", state_folder=tmp_path, actions=actions).info for actions in (True, False)]
    assert "volume for splits" not in said[0].adjustment
    assert "volume for splits" in said[1].adjustment


BAR = {"symbol": "ODD", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "adj_close": 1.0, "ret": None}


@pytest.mark.parametrize(
    ("given", "split", "as_traded"),
    [
        (400.0, 4.0, 100.0),
        (1001.0, 1.5, 667.0),  # 667 shares, of which the vendor made 1000.5
        (12.0, 1 / 20, 240.0),
        (777.93, 0.1, 7779.3),
        (0.0, 2.0, 0.0),
        (None, 2.0, None),
    ],
)
def test_a_volume_is_whole_where_the_given_one_is(given, split, as_traded):
    bars = pl.DataFrame([BAR | {"date": DAYS[0], "volume": given}], schema=SCHEMA)
    splits = pl.DataFrame({"symbol": ["ODD"], "date": [DAYS[1]], "split": [split]})
    assert volumes_as_traded(bars, splits)["volume"].to_list() == [as_traded]


@pytest.mark.parametrize(
    ("levels", "day", "end", "counts"),
    [
        ((0.5, 1.0), 1, 1, True),
        ((1.0, 1.0), 1, 1, False),  # listed, and nothing is adjusted for it yet
        ((0.49, 1.0), 1, 1, True),  # with a dividend of the same day
        ((0.98, 1.0), 1, 1, False),  # the dividend alone
        ((0.5,), 1, 0, True),
        ((1.0,), 1, 0, False),
        ((None, None), 1, 1, True),  # nothing tells, and its day is over
        ((None, None), 2, 1, False),
    ],
)
def test_a_listed_split_counts_if_adj_close_has_it(levels, day, end, counts):
    rows = [BAR | {"date": DAYS[at], "adj_close": level, "volume": 1.0} for at, level in enumerate(levels)]
    splits = pl.DataFrame({"symbol": ["ODD"] * 2, "date": [DAYS[day]] * 2, "split": [2.0] * 2})  # listed twice
    found = applicable(splits, pl.DataFrame(rows, schema=SCHEMA), DAYS[end], DAYS[2])
    assert found["split"].to_list() == ([2.0] if counts else [])


def test_of_splits_between_two_bars_their_product_decides():
    """A symbol that did not trade for a while: what moved its level is both of them."""
    rows = [BAR | {"date": DAYS[at], "adj_close": level, "volume": 1.0} for at, level in ((0, 5.0), (5, 1.0))]
    splits = pl.DataFrame({"symbol": ["ODD"] * 2, "date": [DAYS[1], DAYS[3]], "split": [2.0, 0.1]})
    assert applicable(splits, pl.DataFrame(rows, schema=SCHEMA), DAYS[5], DAYS[5]).height == 2


def test_a_split_of_an_increment_leaves_one_basis_of_volumes_in_the_store(serve, tmp_path, root):
    split = DAYS[DAYS.index(REVERSE) - 5]
    clock = fixed_clock(datetime(split.year, split.month, split.day, 23, tzinfo=UTC))
    server = serve(WHOLE.until(split), now=clock.moment)
    source = server.source("eodhd", state_folder=tmp_path, pace=clock.pace)
    store(root, source, split).run_full_etl(["ODD"], DAYS[0], split)
    day = DAYS[DAYS.index(REVERSE) + 1]
    clock.moment = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
    server.truth, server.now = WHOLE.until(day), clock.moment
    etl = store(root, source, day, settings=plain_settings())
    assert not etl.run_incremental_etl().held
    source.close()
    stored = etl.scan("ODD", adjust="none").collect().select("date", "volume")
    assert dict(stored.iter_rows()) == between(DAYS[0], day)
    adjusted = etl.scan("ODD", adjust="splits").collect().sort("date")["volume"]
    assert adjusted[0] == pytest.approx(1000 * 3 * 0.1)


# ── dividends ──────────────────────────────────────────────────────────────────────────────────────────────────────

PAID = [("ODD", date(2023, 12, 1), 1.0, 0.6), ("ODD", date(2024, 3, 1), 1.0, 0.15), ("ODD", date(2024, 5, 1), 1.0, 0.5)]


def small(request: Request) -> Response | None:
    """A symbol of whose dividends the date and the adjusted value alone are known."""
    if "/div/" not in request.path:
        return None
    rows = [
        {"date": "2023-12-01", "value": 2.0},
        {"date": "2024-03-01", "value": 1.5, "unadjustedValue": None},
        {"date": "2024-05-01", "value": 0.5, "unadjustedValue": 0},
    ]
    return Response(json.dumps(rows), content_type="application/json")


def test_a_dividend_that_is_given_adjusted_alone_is_reported_as_it_was_paid(fetch):
    result, _ = fetch(DAYS[0], DAYS[-1], answers=small)
    paid = result.actions.filter(pl.col("dividend") != 0)
    assert [(*row[:3], pytest.approx(row[3])) for row in paid.rows()] == PAID
    (note,) = result.notes
    assert note == Saying("ODD", "dividends", "adjusted for splits", "2 of them", "as paid")


@pytest.mark.parametrize("unadjusted", [None, "", "0.0000000000", "0.1500000000"])
def test_a_dividend_of_a_whole_day_is_reported_as_it_was_paid(unadjusted, fetch):
    day = date(2024, 3, 1)
    row = {"code": "ODD", "exchange": "US", "date": str(day), "dividend": "1.50000", "unadjustedValue": unadjusted}
    result, _ = fetch(day, day, symbols=MANY, answers=rows_at("type=dividends", [row]))
    assert [(*row[:3], pytest.approx(row[3])) for row in result.actions.rows()] == [PAID[1]]


def broken_at(place: str) -> Callable[[Request], Response | None]:
    return lambda request: Response("internal error", 500) if place in request.url else None


def rows_at(place: str, rows: Sequence[Mapping[str, object]]) -> Callable[[Request], Response | None]:
    def answer(request: Request) -> Response | None:
        return Response(json.dumps(rows), content_type="application/json") if place in request.url else None

    return answer
