"""C1: small splits, as stock dividends are: the name, adj_close and the price must agree on them as on dividends."""

from itertools import pairwise

import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.field.series import (
    NAME,
    Event,
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
from historical_etl_tests.saying import Saying

COUNT, AT = 46, 36


def largest_step(etl: HistoricalETL, adjust: str) -> float:
    close = column(etl, "close", adjust=adjust)
    return max(abs(after / before - 1) for before, after in pairwise(close))


def backfilled(root, close, adj, named: Event, *, first: bool, split_adjusted: bool = False):
    """The first history of a source, or what it gives on the evening of the event after one that was good."""
    source = Series(close, adj, [named], split_adjusted=split_adjusted)
    if first:
        return backfill(root, source)
    source.events, source.adj_close = [], close
    backfill(root, source, AT - 1)
    source.events, source.adj_close = [named], adj
    return update(root, source, AT)


def is_held(etl, result, close, *, first: bool) -> None:
    """A first history is stored without adj_close; one that was stored stays."""
    assert set(result.held) == {NAME}
    assert codes(etl) == ["adj_close" if first else "unexplained_event"]
    assert column(etl, "close") == close[: COUNT if first else AT]
    assert column(etl, "adj_close") == ([None] * COUNT if first else close[:AT])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("seed", [3, 5])
@pytest.mark.parametrize("split", [1.05, 1.07, 1.1, 1.15, 1.2, 1.25, 1.5, 0.9, 0.8])
def test_a_split_in_name_and_adj_close_that_the_price_does_not_show_is_held(root, split, seed, first):
    close, event = walk(COUNT, seed=seed), (AT, split, 0.0)
    etl, result = backfilled(root, close, adjusted(close, event), event, first=first)
    is_held(etl, result, close, first=first)
    assert largest_step(etl, "splits") < 0.03
    assert largest_step(etl, "total") < 0.03


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("split", [1.05, 1.1, 1.15, 0.9])
def test_the_reverse_of_a_split_in_name_and_adj_close_is_held(root, split, first):
    close, reverse = falling(walk(COUNT, seed=5), (AT, split, 0.0)), (AT, 1 / split, 0.0)
    etl, result = backfilled(root, close, adjusted(close, reverse), reverse, first=first)
    is_held(etl, result, close, first=first)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("split", [1.1, 2.0])
def test_a_dividend_beside_a_split_that_the_price_does_not_show_is_held(root, split, first):
    """The split did happen; no dividend was paid."""
    close, both = falling(walk(COUNT, seed=5), (AT, split, 0.0)), (AT, split, 4.0)
    _, result = backfilled(root, close, adjusted(close, both), both, first=first)
    assert set(result.held) == {NAME}
    assert "the price moved" in result.held[NAME]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 4])
@pytest.mark.parametrize("event", [(AT, 1.05, 0.0), (AT, 1.1, 0.0), (AT, 0.9, 0.0), (AT, 1.1, 2.0), (AT, 1.5, 1.0)])
def test_a_split_that_the_price_shows_is_no_alarm(root, event, seed, first):
    close = falling(walk(COUNT, seed=seed), event)
    etl, result = backfilled(root, close, adjusted(close, event), event, first=first)
    assert not result.held
    assert not result.warnings
    (found,) = actions(etl)
    assert (found["split"], found["dividend"], found["note"]) == (*event[1:], None)


# ── the price shows the split, and adj_close never contains it ─────────────────────────────────────────────────────


@pytest.mark.parametrize("split", [1.05, 1.1, 1.15, 0.9, 0.85])
def test_a_small_split_that_adj_close_does_not_contain_holds_it_back(root, split):
    close = falling(walk(COUNT, seed=5), (AT, split, 0.0))
    etl, result = backfilled(root, close, close, (AT, split, 0.0), first=True)
    is_held(etl, result, close, first=True)
    assert result.held[NAME] == Saying("agrees", "named")
    assert [(event["split"], event["unexplained"]) for event in actions(etl)] == [(split, False)]
    assert largest_step(etl, "splits") < 0.03
    assert largest_step(etl, "total") < 0.03


@pytest.mark.parametrize("split", [1.05, 1.1, 1.15, 0.9])
def test_a_vendor_that_adjusts_for_a_small_split_late_is_held_until_it_does(root, split):
    close, event = falling(walk(COUNT, seed=5), (AT, split, 0.0)), (AT, split, 0.0)
    source = Series(close, close, [])
    backfill(root, source, AT - 1)
    source.events = [event]
    etl, result = update(root, source, AT)
    is_held(etl, result, close, first=False)
    source.adj_close = adjusted(close, event)
    etl, result = update(root, source, AT + 1)
    assert not result.held
    assert column(etl, "adj_close") == source.adj_close[: AT + 2]


def test_a_small_split_with_a_dividend_of_which_adj_close_contains_only_the_dividend_holds_it_back(root):
    close, both = falling(walk(COUNT, seed=5), (AT, 1.1, 1.5)), (AT, 1.1, 1.5)
    dividend = (AT, 1.0, 1.5 * close[AT - 1] / (close[AT - 1] / 1.1))
    etl, result = backfilled(root, close, adjusted(close, dividend), both, first=True)
    is_held(etl, result, close, first=True)
    assert largest_step(etl, "total") < 0.03


@pytest.mark.parametrize("split", [1.05, 1.1, 1.5])
def test_a_source_that_takes_its_splits_out_contains_none_in_adj_close(root, split):
    close = walk(COUNT, seed=5)
    paid = falling(close, (AT, 1.0, 4.0))  # a dividend of about the size of the split
    for line, event in ((close, (AT, split, 0.0)), (paid, (AT, split, 4.0))):
        adj = adjusted(line, (AT, 1.0, event[2]))
        etl, result = backfilled(root / f"{event[2]}", line, adj, event, first=True, split_adjusted=True)
        assert not result.held
        assert not result.warnings
        assert column(etl, "adj_close") == adj
