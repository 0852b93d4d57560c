"""C1: on the day of a split a dividend is named for each share before it; `actions` has cash for each new share."""

from itertools import pairwise

import pytest

from historical_etl_tests.field.series import NAME, Series, actions, adjusted, backfill, column, falling, update, walk

COUNT, AT = 46, 36
CASES = [(10.0, 0.4), (2.0, 0.5), (3.0, 1.0), (1.5, 1.5), (0.2, 10.0), (0.1, 30.0)]


def largest_step(etl) -> float:
    close = column(etl, "close", adjust="total")
    return max(abs(after / before - 1) for before, after in pairwise(close))


def backfilled(root, source: Series, *, first: bool):
    if first:
        return backfill(root, source)
    events, adj = source.events, source.adj_close
    source.events, source.adj_close = [], None if adj is None else source.close
    backfill(root, source, AT - 1)
    source.events, source.adj_close = events, adj
    return update(root, source, AT)


@pytest.mark.parametrize(("seed", "first"), [(1, True), (3, True), (5, False)])
@pytest.mark.parametrize(("split", "cash"), CASES)
def test_the_ledger_has_what_adj_close_contains(root, split, cash, seed, first):
    close = falling(walk(COUNT, seed=seed), (AT, split, cash))
    adj = adjusted(close, (AT, split, cash))
    source = Series(close, adj, [(AT, split, round(cash * split, 6))])
    etl, result = backfilled(root, source, first=first)
    assert not result.held
    assert any(NAME in warning for warning in result.warnings)
    (found,) = actions(etl)
    assert (found["split"], found["dividend"], found["unexplained"]) == (split, pytest.approx(cash), False)
    assert f"divide what is named by {split:g}" in str(found["note"])
    assert column(etl, "adj_close")[:AT] == adj[:AT]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("split", "cash"), [(10.0, 0.4), (3.0, 2.0), (0.1, 60.0)])
def test_without_adj_close_a_price_that_is_plain_decides(root, split, cash, first):
    close = falling(walk(COUNT, seed=5), (AT, split, cash))
    etl, result = backfilled(root, Series(close, None, [(AT, split, round(cash * split, 6))]), first=first)
    assert not result.held
    assert any(f"divide what is named by {split:g}" in warning for warning in result.warnings)
    (found,) = actions(etl)
    assert (found["split"], found["dividend"], found["unexplained"]) == (split, pytest.approx(cash), False)
    assert largest_step(etl) < 0.04


@pytest.mark.parametrize("split_adjusted", [True, False])
@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize(("split", "cash"), [*CASES, (1.5, 0.2), (1.05, 1.5)])
def test_without_adj_close_a_dividend_for_each_new_share_stays_as_it_is_named(root, split, cash, seed, split_adjusted):
    close = falling(walk(COUNT, seed=seed), (AT, 1.0 if split_adjusted else split, cash))
    etl, result = backfill(root, Series(close, None, [(AT, split, cash)], split_adjusted=split_adjusted))
    assert not result.held
    assert [(event["split"], event["dividend"], event["note"]) for event in actions(etl)] == [(split, cash, None)]


@pytest.mark.parametrize("cash", [0.1, 0.4])
def test_where_the_price_does_not_show_it_the_dividend_stays_as_it_is_named(root, cash):
    close = falling(walk(COUNT, seed=5), (AT, 2.0, cash))
    etl, result = backfill(root, Series(close, None, [(AT, 2.0, 2 * cash)]))
    assert not result.held
    assert [(event["dividend"], event["note"]) for event in actions(etl)] == [(2 * cash, None)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("split", "cash"), [*CASES, (0.1, 46.0)])
def test_a_dividend_for_each_new_share_that_adj_close_contains_is_no_alarm(root, split, cash, first):
    """Also one that is more than a share was worth before a reverse split."""
    close = falling(walk(COUNT, seed=5, price=50.0 if cash != 46.0 else 40.0), (AT, split, cash))
    etl, result = backfilled(root, Series(close, adjusted(close, (AT, split, cash)), [(AT, split, cash)]), first=first)
    assert not result.held
    assert not result.warnings
    (found,) = actions(etl)
    assert (found["split"], found["dividend"], found["note"]) == (split, cash, None)
