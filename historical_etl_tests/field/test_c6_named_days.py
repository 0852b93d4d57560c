"""C6: the events that a source names, as they come in: several rows of one day, and values that are no events."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl_tests.field.series import (
    NAME,
    Event,
    Name,
    Series,
    actions,
    adjusted,
    backfill,
    codes,
    column,
    falling,
    update,
    walk,
)

AT, LAST = 40, 46
CLOSES = walk(60, seed=5)


def prices(*events: Event, named: Sequence[Name], adj: bool = False) -> Series:
    """A series to which some events happened, in one day's fall, with rows that name them."""
    close = CLOSES
    for event in events:
        close = falling(close, event)
    return Series(close, adjusted(close, *events) if adj else None, named)


def moves(etl, adjust: str) -> float:
    close = column(etl, "close", adjust=adjust)
    return max(abs(after / before - 1) for before, after in pairwise(close))


def known(etl) -> list[tuple[object, object, object]]:
    return [(event["split"], event["dividend"], event["unexplained"]) for event in actions(etl)]


def lives(root, source: Series) -> list[tuple[HistoricalETL, ETLResult]]:
    """The store filled at once, and evening by evening, with what its last run says."""
    ways = [backfill(root / "once", source, LAST)]
    etl, result = backfill(root / "evenings", source, AT - 1)
    notes: list[str] = []
    for at in (AT, AT + 1, AT + 3, AT + 4, AT + 6):
        etl, result = update(root / "evenings", source, at)
        assert not result.held
        notes += result.warnings
    assert len(notes) == len(set(notes))
    return [*ways, (etl, result)]


@pytest.mark.parametrize("adj", [True, False])
def test_different_dividends_of_one_day_are_their_sum(root, adj):
    for etl, result in lives(root, prices((AT, 1, 1.5), named=[(AT, 1, 0.5), (AT, 1, 1.0)], adj=adj)):
        assert not result.warnings
        assert known(etl) == [(1.0, 1.5, False)]


@pytest.mark.parametrize("true", [0.5, 1.0])
def test_they_are_one_of_them_if_adj_close_contains_one(root, true):
    (etl, result), (late, _) = lives(root, prices((AT, 1, true), named=[(AT, 1, 0.5), (AT, 1, 1.0)], adj=True))
    assert known(etl) == known(late) == [(1.0, true, False)]
    assert [warning for warning in result.warnings if "in several rows" in warning]


def test_they_are_one_of_them_if_the_price_shows_one(root):
    for etl, _ in lives(root, prices((AT, 1, 2.0), named=[(AT, 1, 2.0), (AT, 1, 14.0)])):
        assert known(etl) == [(1.0, 2.0, False)]


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("rows", [[(AT, 2, 0), (AT, 1, 0.6)], [(AT, 1, 0.6), (AT, 2, 0), (AT, 1, 0.6)]])
def test_a_split_and_a_dividend_of_one_day_are_one_event(root, adj, rows):
    for etl, result in lives(root, prices((AT, 2, 0.6), named=rows, adj=adj)):
        assert not result.warnings
        assert known(etl) == [(2.0, 0.6, False)]
        assert moves(etl, "splits") < 0.06


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("split", [2, 5, 1.1, 0.1])
def test_equal_rows_are_one_event(root, split, adj):
    for etl, result in lives(root, prices((AT, split, 0), named=[(AT, split, 0), (AT, split, 0)], adj=adj)):
        assert not result.warnings
        assert known(etl) == [(split, 0.0, False)]
        assert moves(etl, "splits") < 0.05


@pytest.mark.parametrize("adj", [True, False])
def test_of_two_splits_of_one_day_the_price_takes_its_own(root, adj):
    for etl, _ in lives(root, prices((AT, 3, 0), named=[(AT, 2, 0), (AT, 3, 0)], adj=adj)):
        assert known(etl) == [(3.0, 0.0, False)]


def test_a_split_that_never_happened_is_held_however_often_it_is_named(root):
    etl, result = backfill(root, prices(named=[(AT, 5, 0), (AT, 5, 0)], adj=True), LAST)
    assert set(result.held) == {NAME}
    assert codes(etl) == ["level_jump"]


# ── values that are no events ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize(
    ("split", "dividend"), [(1, -1.0), (1, math.nan), (1, math.inf), (0, 0), (math.nan, 0), (-2, 0), (math.inf, 0)]
)
def test_a_value_that_is_no_event_is_refused_and_reported(root, split, dividend, adj):
    source = prices(named=[(AT, split, dividend)], adj=adj)
    etl, result = backfill(root, source, LAST)
    assert not result.held
    assert not actions(etl)
    assert [warning for warning in result.warnings if "no event" in warning and NAME in warning]
    if adj:
        assert column(etl, "close", adjust="total") == source.close[: LAST + 1]


@pytest.mark.parametrize("row", [(AT, 2, math.nan), (AT, 2, -1.0)])
def test_the_other_value_of_its_row_stays(root, row):
    etl, _ = backfill(root, prices((AT, 2, 0), named=[row]), LAST)
    assert known(etl) == [(2.0, 0.0, False)]


@pytest.mark.parametrize("nothing", [(1.0, 0.0), (1.0, None), (None, None)])
def test_rows_that_name_nothing_are_no_events(root, nothing):
    split, cash = nothing
    source = prices((AT, 2, 0), named=[(AT, 2, 0), *((at, split, cash) for at in range(60) if at != AT)])
    for etl, result in lives(root, source):
        assert not result.warnings
        assert known(etl) == [(2.0, 0.0, False)]
