"""A dividend or split that the source names weeks after its ex-date, when its bars are asked for no more."""

import pytest

from historical_etl_tests.field.series import (
    COMPANY,
    NAME,
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

COUNT, AT, NAMED = 70, 40, 55
CLOSES = walk(COUNT, seed=3)


def paid(kind: str, cash: float = 0.5, split: float = 1.0) -> Series:
    """A source that knows an event in its close; in adj_close too, once it names it, or from the beginning on."""
    close = falling(CLOSES, (AT, split, cash))
    adj = {"raw": None, "at once": adjusted(close, (AT, split, cash)), "later": list(close)}[kind]
    return Series(close, adj, events=[], late=60)


@pytest.mark.parametrize("kind", ["raw", "at once", "later"])
def test_a_dividend_named_weeks_late_reaches_the_ledger_and_the_history(root, kind):
    source = paid(kind)
    backfill(root, source, 38)
    for at in range(39, NAMED):
        update(root, source, at)
    source.events = [(AT, 1.0, 0.5)]
    if kind == "later":
        source.adj_close = adjusted(source.close, (AT, 1.0, 0.5))
    etl, result = update(root, source, NAMED)
    assert not result.held
    (event,) = actions(etl)
    assert (event["date"], event["dividend"], event["inferred"]) == (source.days[AT], 0.5, False)
    if source.adj_close is not None:
        assert column(etl, "adj_close") == pytest.approx(source.adj_close[: NAMED + 1])
    _, again = update(root, source, NAMED + 1)
    assert again.rows_fetched < result.rows_fetched, "it is known now, and the history is not fetched again"


def test_a_split_named_weeks_late_explains_the_jump(root):
    source = Series(falling(CLOSES, (AT, 2.0, 0.0)), None, events=[], late=60)
    backfill(root, source, 38)
    for at in range(39, NAMED - 1):
        update(root, source, at)
    etl, result = update(root, source, NAMED - 1)
    assert result.held
    assert len(column(etl, "close")) == AT
    source.events = [(AT, 2.0, 0.0)]
    etl, result = update(root, source, NAMED)
    assert not result.held
    assert column(etl, "close") == source.close[: NAMED + 1]
    assert [event["split"] for event in actions(etl)] == [2.0]


def test_an_event_of_before_all_that_is_stored_fetches_nothing(root):
    source = Series(CLOSES, None, events=[(5, 1.0, 0.5)], late=60)
    etl = opened(root, source, source.days[40])
    etl.run_full_etl([NAME, COMPANY], source.days[20], source.days[40])
    _, first = update(root, source, 41)
    _, second = update(root, source, 42)
    assert first.rows_fetched == second.rows_fetched
    assert actions(etl) == []


def test_a_late_name_that_is_no_event_fetches_nothing(root):
    source = Series(CLOSES, None, events=[], late=60)
    backfill(root, source, 50)
    source.events = [(30, float("nan"), 0.0), (31, 0.0, -1.0), (32, 1.0, 0.0), (33, 1.0, float("inf"))]
    _, first = update(root, source, 51)
    source.events = []
    _, second = update(root, source, 52)
    assert first.rows_fetched == second.rows_fetched


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_one_of_several_like_dividends_is_named_late(root, missing):
    """As of a fund that pays every week: the one before and the one after are no names of it."""
    weekly = [(AT + 5 * week, 1.0, 0.5) for week in range(3)]
    source = Series(falling(CLOSES, *weekly), None, events=[e for e in weekly if e != weekly[missing]], late=60)
    backfill(root, source, 38)
    for at in range(39, NAMED):
        update(root, source, at)
    source.events = weekly
    etl, result = update(root, source, NAMED)
    assert not result.held
    assert [event["date"] for event in actions(etl)] == [source.days[at] for at, _, _ in weekly]


@pytest.mark.parametrize("kind", ["raw", "at once"])
@pytest.mark.parametrize("named", [[(AT, 1.0, 0.4)], []], ids=["lowered", "taken back"])
def test_a_dividend_that_is_corrected_weeks_later_is_corrected_in_the_history(root, kind, named):
    source = paid(kind)
    source.events = [(AT, 1.0, 0.5)]
    backfill(root, source, 38)
    for at in range(39, NAMED):
        update(root, source, at)
    source.events = named
    if source.adj_close is not None:
        source.adj_close = adjusted(source.close, *named)
    etl, result = update(root, source, NAMED)
    assert not result.held
    assert [(row["date"], row["dividend"]) for row in actions(etl)] == [
        (source.days[at], cash) for at, _, cash in named
    ]
    if source.adj_close is not None:
        assert column(etl, "adj_close") == pytest.approx(source.adj_close[: NAMED + 1])
    _, again = update(root, source, NAMED + 1)
    assert again.rows_fetched < result.rows_fetched, "it is known now, and the history is not fetched again"
