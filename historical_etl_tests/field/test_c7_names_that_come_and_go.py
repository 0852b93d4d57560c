"""C7: an event is named late, named no more, or named on a day that only later bars show to be wrong."""

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
    column,
    falling,
    opened,
    update,
    walk,
)

AT = 36
CLOSES = walk(75, seed=5)


def happened(*events: Event, adj: bool, closes=CLOSES) -> Series:
    close = falling(closes, *events)
    return Series(close, adjusted(close, *events) if adj else None, list(events))


def moves(etl, adjust: str) -> float:
    close = column(etl, "close", adjust=adjust)
    return max(abs(after / before - 1) for before, after in pairwise(close))


def known(etl) -> list[tuple[object, ...]]:
    return [(event["split"], event["dividend"], event["inferred"], event["unexplained"]) for event in actions(etl)]


def evenings(root, source: Series, named, *days: int) -> tuple[HistoricalETL, list[str]]:
    """Updates, with what `named` gives for each evening; and all that they reported."""
    notes: list[str] = []
    etl = opened(root, source, source.days[days[0]])
    for at in days:
        source.events = named(at)
        etl, result = update(root, source, at)
        assert not result.held, (at, result.warnings, etl.holds()["evidence"].to_list())
        notes += result.warnings
    return etl, notes


# ── named no more ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("event", [(AT, 2, 0.0), (AT, 1.1, 0.0), (AT, 0.2, 0.0), (AT, 2, 0.6), (AT, 1, 6.0)])
@pytest.mark.parametrize("gone", [AT + 1, AT + 4])
def test_an_event_that_the_prices_show_stays_when_it_is_named_no_more(root, event, adj, gone):
    source = happened(event, adj=adj)
    backfill(root, source, AT - 1)
    etl, reported = evenings(root, source, lambda at: [event] if AT <= at < gone else [], AT, AT + 1, AT + 4, AT + 5)
    assert known(etl) == [(*event[1:], False, False)]
    assert moves(etl, "splits") < 0.16 if event[1] == 1 else moves(etl, "splits") < 0.06
    said = [line for line in reported if "no more" in line]
    assert len(said) == 1
    etl, reported = evenings(root, source, lambda _: [event], AT + 6, AT + 7)
    assert known(etl) == [(*event[1:], False, False)]


@pytest.mark.parametrize("adj", [True, False])
def test_it_stays_in_a_whole_history_and_its_note_goes_when_it_is_named_again(root, adj):
    event = (AT, 2, 0.0)
    source = happened(event, adj=adj)
    backfill(root, source, AT + 10)
    source.events = []
    etl, result = backfill(root, source, AT + 20)
    assert len([line for line in result.warnings if "no more" in line]) == 1
    assert known(etl) == [(2.0, 0.0, False, False)]
    assert not [line for line in backfill(root, source, AT + 20)[1].warnings if "no more" in line]
    source.events = [event]
    etl, _ = backfill(root, source, AT + 20)
    assert [row["note"] for row in actions(etl)] == [None]


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("left", [(AT, 1, 0.6), (AT, 2, 0.0)])
def test_so_does_a_part_of_it(root, adj, left):
    event = (AT, 2, 0.6)
    source = happened(event, adj=adj)
    backfill(root, source, AT - 1)
    etl, reported = evenings(root, source, lambda at: [event] if at < AT + 2 else [left], AT, AT + 2, AT + 3, AT + 8)
    assert known(etl) == [(2.0, 0.6, False, False)]
    assert len([line for line in reported if "no more" in line]) == 1


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("event", [(AT, 1.0, 0.6), (AT, 1.0, 1.0)])
def test_one_that_the_prices_never_showed_goes(root, event, adj):
    source = Series(CLOSES, CLOSES if adj else None, [])
    backfill(root, source, AT - 1)
    source.adj_close = adjusted(CLOSES, event) if adj else None
    source.events = [event]
    update(root, source, AT)
    source.adj_close = CLOSES if adj else None
    etl, reported = evenings(root, source, lambda _: [], AT + 1, AT + 2, AT + 7)
    assert not actions(etl)
    assert not reported


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize(("wrong", "right"), [((1, 1.0), (1, 0.5)), ((1, 0.5), (1, 0.4))])
def test_a_corrected_value_is_not_kept(root, adj, wrong, right):
    event = (AT, *right)
    source = happened(event, adj=adj)
    if adj:
        source.adj_close = adjusted(source.close, (AT, *wrong))
    backfill(root, source, AT - 1)
    source.events = [(AT, *wrong)]
    update(root, source, AT)
    source.adj_close = adjusted(source.close, event) if adj else None
    etl, reported = evenings(root, source, lambda _: [event], AT + 1, AT + 2, AT + 7)
    assert known(etl) == [(*right, False, False)]
    assert not [line for line in reported if "no more" in line]


def test_a_corrected_day_is_not_kept(root):
    event = (AT + 1, 1, 0.8)
    source = happened(event, adj=True)
    source.adj_close = adjusted(source.close, (AT, 1, 0.8))
    backfill(root, source, AT - 1)
    source.events = [(AT, 1, 0.8)]
    update(root, source, AT)
    source.adj_close = adjusted(source.close, event)
    etl, reported = evenings(root, source, lambda _: [event], AT + 1, AT + 2, AT + 7)
    assert [(row["date"], row["dividend"]) for row in actions(etl)] == [(source.days[AT + 1], 0.8)]
    assert not [line for line in reported if "no more" in line]


# ── named late ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("split", [1.05, 1.15, 2.0])
@pytest.mark.parametrize("late", [1, 4])
@pytest.mark.parametrize("off", [0, 1, -1])
def test_a_name_that_comes_after_the_event_was_inferred_takes_its_place(root, split, late, off):
    event = (AT, split, 0.0)
    source = happened(event, adj=True)
    backfill(root, source, AT - 1)
    named = [(AT + off, split, 0.0)]
    etl, _ = evenings(
        root, source, lambda at: named if at >= AT + max(late, off) else [], AT, AT + 1, AT + 2, AT + 4, AT + 7
    )
    assert known(etl) == [(split, 0.0, False, False)]
    assert [row["date"] for row in actions(etl)] == [source.days[AT]]
    assert moves(etl, "splits") < 0.04


@pytest.mark.parametrize("cash", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("off", [0, 1, -1])
def test_so_does_that_of_a_dividend(root, cash, off):
    event = (AT, 1, cash)
    source = happened(event, adj=True)
    backfill(root, source, AT - 1)
    named = [(AT + off, 1, cash)]
    etl, _ = evenings(root, source, lambda at: named if at >= AT + 2 else [], AT, AT + 2, AT + 3, AT + 7)
    assert known(etl) == [(1.0, cash, False, False)]
    once, _ = backfill(root / "once", source, AT + 7)
    assert known(once) == known(etl)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_dividend_that_is_not_named_stays_beside_like_ones_that_are(root, missing):
    """As of a fund that pays every week: the name of the next one is not that of the one before."""
    weekly = [(AT + 5 * week, 1, 0.5) for week in range(3)]
    source = happened(*weekly, adj=True)
    backfill(root, source, AT - 1)
    named = [event for event in weekly if event != weekly[missing]]
    etl, _ = evenings(root, source, lambda at: [event for event in named if event[0] <= at], *range(AT, AT + 14))
    assert [row["inferred"] for row in actions(etl)] == [week == missing for week in range(3)]
    once, _ = backfill(root / "once", source, AT + 13)
    assert actions(once) == actions(etl)


@pytest.mark.parametrize("on", [AT, AT - 4])
def test_a_second_dividend_of_a_day_that_is_named_weeks_later_is_taken_and_asked_for_once(root, on):
    """A special one beside the regular one, which is paid later; the first of the two is named no more by then."""
    regular, special = (AT, 1, 1.0), (on, 1, 0.6)
    close = falling(CLOSES, regular, special) if on < AT else falling(CLOSES, (AT, 1, 1.6))
    source = Series(close, adjusted(close, regular), [regular], late=60)
    backfill(root, source, AT + 2)
    update(root, source, AT + 12)
    source.adj_close = adjusted(close, *([special, regular] if on < AT else [(AT, 1, 1.6)]))
    source.events = [special, regular]
    source.asked.clear()
    etl, result = update(root, source, AT + 14)
    assert (result.held, len(source.asked)) == ({}, 2)
    assert etl.ledger("actions")["dividend"].sum() == pytest.approx(1.6)
    assert column(etl, "adj_close")[:AT] == source.adj_close[:AT]
    source.events = [special, (on, 1, 0.6001)]
    for at, is_new in ((AT + 15, on < AT), (AT + 16, False)):
        source.asked.clear()
        _, result = update(root, source, at)
        assert (result.held, len(source.asked)) == ({}, 1 + is_new), "a day of which nothing is named any more is new"


# ── named on a wrong day, and judged again while it is asked for ───────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [3, 5, 8, 11])
@pytest.mark.parametrize("split", [1.05, 1.08, 1.25])
@pytest.mark.parametrize("adj", [True, False])
def test_a_split_named_a_day_early_is_found_on_the_evening_that_shows_it(root, seed, split, adj):
    event = (AT, split, 0.0)
    source = happened(event, adj=adj, closes=walk(75, seed=seed))
    source.events = [(AT - 1, split, 0.0)]
    backfill(root / "evenings", source, AT - 2)
    etl, _ = update(root / "evenings", source, AT - 1)
    for at in (AT, AT + 1, AT + 5):
        etl, _ = update(root / "evenings", source, at)
    once, _ = backfill(root / "once", source, AT + 5)
    places = [[(row["date"], row["split"], row["note"]) for row in actions(one)] for one in (etl, once)]
    assert places[0] == places[1]
    assert places[0][0][0] == source.days[AT]
    assert NAME not in etl.holds()["symbol"].to_list()


# ── a source that takes splits out of its prices, and does not say so ──────────────────────────────────────────────


@pytest.mark.parametrize("seed", [3, 9])
@pytest.mark.parametrize("splits", [(2, 2), (1.5, 1.5), (1.1, 1.1), (1.05, 1.05), (2, 1.05)])
def test_two_equal_splits_that_no_price_shows_are_the_way_of_the_source(root, splits, seed):
    close = walk(75, seed=seed)
    source = Series(close, close, [(10, splits[0], 0.0), (AT, splits[1], 0.0)])
    etl, result = backfill(root, source, AT + 6)
    assert not result.held
    assert any("split_adjusted" in line for line in result.warnings)
    assert column(etl, "close", adjust="splits") == close[: AT + 7]


def test_two_names_of_one_error_are_one(root):
    source = Series(CLOSES, CLOSES, [(AT, 2.0, 0.0), (AT + 3, 2.0, 0.0)])
    _, result = backfill(root, source, AT + 10)
    assert set(result.held) == {NAME}
