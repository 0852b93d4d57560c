"""Whole stores from EODHD: what a plan withholds is reported, and what it gives ends as the truth, however late."""

from datetime import date

import polars as pl
import pytest

from historical_etl import CoverageError
from historical_etl.etl.reconcile.whole_histories import beyond_plan
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS
from historical_etl_tests.sources.vendors.eodhd_store import PLANS, filled
from historical_etl_tests.sources.vendors.whole_store import market_of

FIRST, LAST = date(2021, 6, 1), date(2023, 3, 31)
MARKET = market_of(4, FIRST, LAST)
BACKFILLED = MARKET.sessions[-8]
BAR = {"symbol": "ODD", "open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "ret": None}


@pytest.mark.parametrize("plan", PLANS[1:])
def test_a_store_of_a_free_plan_ends_as_the_truth_of_its_year(plan, root, tmp_path):
    """Also once an event restates it whose history the plan, which has slid on, gives no longer from its first bar."""
    found = filled(MARKET, root, tmp_path, backfilled=BACKFILLED, plan=plan, share=0.2)
    assert isinstance(found.failed, CoverageError)
    assert "2021" in str(found.failed)
    assert found.first == BACKFILLED.replace(year=2022)
    assert found.held == {}
    named = found.actions.filter(~pl.col("inferred")).select(list(ACTIONS))
    if "events" in plan:
        assert named.rows() == found.truth.expected_actions("eodhd", start=found.first or FIRST).rows()
    else:
        assert named.is_empty()
        splits = found.actions.filter(pl.col("split") != 1).select("symbol", "date", "split")
        happened = found.truth.actions.filter(pl.col("split") != 1, pl.col("date") > found.first)
        assert splits.rows() == happened.select("symbol", "date", "split").rows()


@pytest.mark.parametrize("late", [0, 3])
def test_events_that_are_named_late_end_in_the_store(late, root, tmp_path):
    """Of a split that is not named yet the symbol is held, until it is."""
    found = filled(MARKET, root, tmp_path, backfilled=BACKFILLED, plan="", late=late)
    assert (found.failed, found.first) == (None, None)
    assert set(found.held) == ({"SYM01"} if late else set())
    named = found.actions.filter(~pl.col("inferred")).select(list(ACTIONS)).sort("symbol", "date")
    assert named.rows() == found.truth.expected_actions("eodhd").rows()
    assert found.asked == 12


def bars(*rows: tuple[date, float, float, float]) -> pl.DataFrame:
    reported = [
        BAR | {"date": day, "close": close, "adj_close": level, "volume": volume} for day, close, level, volume in rows
    ]
    return pl.DataFrame(reported, schema=SCHEMA)


OLD, EDGE, NEXT = date(2022, 1, 3), date(2022, 1, 4), date(2022, 1, 5)
STORED = bars((OLD, 10.0, 9.0, 100.0), (EDGE, 10.0, 10.0, 0.0), (NEXT, 10.0, 10.0, 200.0))


def test_bars_before_a_plan_are_restated_by_the_factor_of_the_first_that_arrived():
    fetched = bars((EDGE, 10.0, 5.0, 0.0), (NEXT, 10.0, 5.0, 400.0))
    older, reported = beyond_plan(fetched, lambda _: STORED, EDGE)
    assert len(reported) == 1
    assert older.select("date", "close", "adj_close", "volume").rows() == [(OLD, 10.0, 4.5, 200.0)]


@pytest.mark.parametrize(
    ("fetched", "first"),
    [
        (bars((EDGE, 9.0, 5.0, 1.0), (NEXT, 9.0, 5.0, 1.0)), EDGE),  # other closes: nobody knows those before
        (bars((EDGE, 10.0, 5.0, 1.0)), OLD),  # the plan gives the day, and it did not come
        (bars((date(2022, 2, 1), 10.0, 5.0, 1.0)), EDGE),  # nothing that is stored arrived
    ],
)
def test_bars_before_a_plan_are_not_restated_by_what_proves_nothing(fetched, first):
    older, reported = beyond_plan(fetched, lambda _: STORED, first)
    assert (older.height, reported) == (0, [])
