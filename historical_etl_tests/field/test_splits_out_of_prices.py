"""A source takes splits out of its prices and names one: was what is stored restated by it? And if the name goes?"""

from datetime import date

import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl_tests.field.series import (
    COMPANY,
    NAME,
    Event,
    Series,
    actions,
    adjusted,
    backfill,
    column,
    falling,
    opened,
    update,
    walk,
)

AT = 36
CLOSES = walk(75, seed=5)
SINCE = date(2023, 1, 1)
SPLITS = [2.0, 1.05, 0.2]


def unmoved(adj: bool, closes=CLOSES) -> Series:
    return Series(closes, closes if adj else None, [], split_adjusted=True)


def split_at(source: Series, split: float, at: int = AT) -> None:
    """The vendor takes a split out of all prices before it, as it does on the ex-date."""
    source.close = [round(close / split, 6) if i < at else close for i, close in enumerate(source.close)]
    source.adj_close = None if source.adj_close is None else source.close


def before_split(split: float, adj: bool) -> Series:
    """A source on the evening before a split: its prices then are those that were traded."""
    return unmoved(adj, [round(close * split, 6) if i < AT else close for i, close in enumerate(CLOSES)])


def about(result: ETLResult, *words: str) -> list[str]:
    return [line for line in result.warnings if all(word in line for word in words)]


def rebuilt(root, source: Series, at: int) -> tuple[HistoricalETL, ETLResult]:
    etl = opened(root, source, source.days[at])
    return etl, etl.run_full_etl([NAME, COMPANY], SINCE, source.days[at], rebuild=True)


def known(etl) -> list[tuple[object, ...]]:
    return [(event["split"], event["dividend"], event["inferred"], event["unexplained"]) for event in actions(etl)]


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("named", [AT, AT + 2])
def test_one_by_which_nothing_was_restated_is_reported_once_and_goes_with_its_name(root, adj, split, named):
    source = unmoved(adj)
    backfill(root, source, AT - 1)
    reported: list[str] = []
    for at in range(AT, AT + 4):
        source.events = [(AT, split, 0.0)] if at >= named else []
        etl, result = update(root, source, at)
        assert not result.held
        reported += result.warnings
        assert known(etl) == ([(split, 0.0, False, False)] if source.events else [])
    (line,) = reported
    assert f"a split of {split:g} on {source.days[AT]}" in line
    assert "restated" in line
    source.events = []
    etl, result = update(root, source, AT + 4)
    (line,) = result.warnings
    assert "no more" in line
    assert "which the prices show" not in line
    assert not actions(etl)
    assert column(etl, "close", adjust="none") == CLOSES[: AT + 5]
    assert not update(root, source, AT + 5)[1].warnings


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("split", SPLITS)
def test_one_by_which_it_was_restated_is_no_alarm_and_stays_without_its_name(root, adj, split):
    source = before_split(split, adj)
    traded = source.close
    backfill(root, source, AT - 1)
    split_at(source, split)
    source.events = [(AT, split, 0.0)]
    for at in (AT, AT + 1):
        etl, result = update(root, source, at)
        assert not result.held
        assert not about(result, "split")
    source.events = []
    etl, result = update(root, source, AT + 2)
    assert len(about(result, "no more", "restated")) == len(about(result, "no more")) == 1
    etl, result = rebuilt(root, source, AT + 3)
    assert not about(result, "no more")
    assert known(etl) == [(split, 0.0, False, False)]
    assert column(etl, "close", adjust="none") == pytest.approx(traded[: AT + 4], abs=1e-5)


def test_a_vendor_that_restates_the_evening_before_is_no_alarm(root):
    source = before_split(2.0, adj=True)
    backfill(root, source, AT - 2)
    split_at(source, 2.0)
    update(root, source, AT - 1)
    source.events = [(AT, 2.0, 0.0)]
    etl, result = update(root, source, AT)
    assert not result.warnings
    assert known(etl) == [(2.0, 0.0, False, False)]


@pytest.mark.parametrize("back", ["name", "prices"])
def test_one_that_the_vendor_takes_back_with_its_prices_goes(root, back):
    """Once with the name, once an evening before it."""
    source = before_split(2.0, adj=True)
    wrong = before_split(2.0, adj=True).close
    backfill(root, source, AT - 1)
    split_at(source, 2.0)
    source.events = [(AT, 2.0, 0.0)]
    update(root, source, AT)
    # The split never was: the price that is traded is twice as high from then on as well.
    source.close = source.adj_close = [close * 2 if at >= AT else close for at, close in enumerate(wrong)]
    source.events = [] if back == "name" else source.events
    update(root, source, AT + 1)
    source.events = []
    etl, _ = update(root, source, AT + 2)
    assert not actions(etl)
    assert column(etl, "close", adjust="none") == source.close[: AT + 3]


def test_a_small_one_by_which_the_vendor_restates_late_is_no_alarm_from_then_on(root):
    source = before_split(1.05, adj=False)
    backfill(root, source, AT - 1)
    source.events = [(AT, 1.05, 0.0)]
    etl, result = update(root, source, AT)
    assert about(result, "a split of 1.05", "restated")
    split_at(source, 1.05)
    etl, _ = update(root, source, AT + 1)
    assert [event["note"] for event in actions(etl)] == [None]
    etl, result = update(root, source, AT + 2)
    assert not result.warnings
    assert [event["note"] for event in actions(etl)] == [None]


@pytest.mark.parametrize("adj", [True, False])
def test_where_nothing_was_stored_before_it_the_split_stays_until_a_rebuild(root, adj):
    source = unmoved(adj)
    source.events = [(AT, 2.0, 0.0)]
    _, result = backfill(root, source, AT)
    assert not result.warnings
    source.events = []
    etl, result = update(root, source, AT + 1)
    (line,) = result.warnings
    assert "no more" in line
    assert "--rebuild" in line
    assert "which the prices show" not in line
    assert known(etl) == [(2.0, 0.0, False, False)]
    assert not update(root, source, AT + 2)[1].warnings
    etl, result = rebuilt(root, source, AT + 3)
    assert len(about(result, "no more")) == 1
    assert not actions(etl)
    assert column(etl, "close", adjust="none") == CLOSES[: AT + 4]


def test_bars_that_were_fetched_after_the_split_are_on_its_basis(root):
    """A store that is filled in two steps, years after the split between them."""
    source = unmoved(adj=True)
    source.events = [(AT, 2.0, 0.0)]
    later = source.days[AT + 20]
    opened(root, source, later).run_full_etl([NAME, COMPANY], source.days[0], source.days[AT - 1])
    etl, result = update(root, source, AT + 20)
    assert known(etl) == [(2.0, 0.0, False, False)]
    assert not result.warnings
    source.events = []
    etl, result = backfill(root, source, AT + 21)
    assert about(result, "no more", "--rebuild")
    assert known(etl) == [(2.0, 0.0, False, False)]


@pytest.mark.parametrize("gone", [AT + 1, AT + 4])
def test_a_dividend_beside_it_that_adj_close_shows_stays(root, gone):
    paid: Event = (AT, 1.0, 6.0)
    close = falling(CLOSES, paid)
    source = Series(close, close, [], split_adjusted=True)
    backfill(root, source, AT - 1)
    source.adj_close = adjusted(close, paid)
    source.events = [(AT, 2.0, 6.0)]
    _, result = update(root, source, AT)
    assert about(result, "a split of 2 ", "restated")
    source.events = []
    etl, result = update(root, source, gone)
    assert known(etl) == [(1.0, 6.0, False, False)]
    assert about(result, "no more", "a dividend of 6", "which the prices show")
    assert column(etl, "close", adjust="none") == close[: gone + 1]
