"""C1: a split is named that the prices show on another day, or on none."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import pytest

from historical_etl import FetchRequest, FetchResult, HistoricalETL
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

COUNT, AT = 60, 40


@dataclass
class Named(Series):
    """Names a split some calendar days off the session that has it, beside the name on its day if it is `twice`."""

    off: int = 0
    twice: bool = False

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        # A name is given whenever the day that it is dated on is asked for.
        true = super().fetch(FetchRequest(request.symbols, self.days[0], self.days[-1])).actions
        assert true is not None
        moved = true.with_columns(date=true["date"] + timedelta(days=self.off))
        both = (true.vstack(moved) if self.twice else moved).unique(maintain_order=True)
        inside = (both["date"] >= request.start) & (both["date"] <= min(request.end, self.today))
        return FetchResult(answer.frame, answer.outcomes, answer.details, both.filter(inside))


def source(split: float, *, happens: bool = True, adj: bool = True, off: int = 0, twice: bool = False) -> Named:
    event = (AT, split, 0.0)
    close = falling(walk(COUNT), event) if happens else walk(COUNT)
    factor = adjusted(close, event) if happens else close
    return Named(close, factor if adj else None, [event], off=off, twice=twice)


def comparable(etl: HistoricalETL) -> float:
    """The largest daily move of the prices that are comparable over splits."""
    close = column(etl, "close", adjust="splits")
    return max(abs(after / before - 1) for before, after in pairwise(close))


@pytest.mark.parametrize(("split", "adj"), [(3.0, True), (2.0, False), (1.5, False), (0.1, True), (1.1, True)])
@pytest.mark.parametrize("first", [True, False])
def test_a_split_that_never_happened_is_held(root, split, adj, first):
    prices = source(split, happens=False, adj=adj)
    if first:
        etl, result = backfill(root, prices)
    else:
        backfill(root, prices, AT - 1)
        etl, result = update(root, prices, AT)
    assert set(result.held) == {NAME}
    assert codes(etl) == ["level_jump"]
    assert not actions(etl)


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("split", [1.15, 0.87])
def test_the_inverse_of_a_split_that_happened_is_held(root, split, adj):
    true = source(1 / split, adj=adj)
    true.events = [(AT, split, 0.0)]
    _, result = backfill(root, true)
    assert set(result.held) == {NAME}


def test_a_source_that_takes_splits_out_of_its_prices_shows_none(root):
    prices = source(3.0, happens=False)
    prices.split_adjusted = True
    etl, result = backfill(root, prices)
    assert not result.held
    assert [event["split"] for event in actions(etl)] == [3.0]


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize(("off", "twice"), [(-1, False), (-3, False), (-4, False), (1, False), (2, False), (1, True)])
def test_a_split_that_is_named_on_another_day_is_one_event(root, off, twice, adj):
    """In a first history, and on every evening after it, as the named day leaves what is asked for."""
    prices = source(2.0, adj=adj, off=off, twice=twice)
    etl, result = backfill(root, prices, AT + 3)
    assert not result.held
    assert any("is named on" in warning for warning in result.warnings)
    for evening in range(AT + 4, AT + 12):
        etl, result = update(root, prices, evening)
        assert not result.held
        assert not any("is named on" in warning for warning in result.warnings)
    events = [event for event in actions(etl) if event["split"] != 1]
    assert [(event["date"], event["split"]) for event in events] == [(prices.days[AT], 2.0)]
    assert comparable(etl) < 0.05


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize(("off", "twice"), [(-1, False), (-4, False), (1, True)])
def test_it_is_so_evening_by_evening(root, off, twice, adj):
    prices = source(2.0, adj=adj, off=off, twice=twice)
    etl, _ = backfill(root, prices, AT - 6)
    for evening in range(AT - 5, AT + 10):
        etl, result = update(root, prices, evening)
        assert evening < AT or not result.held
    events = [event for event in actions(etl) if event["split"] != 1]
    assert [(event["date"], event["split"]) for event in events] == [(prices.days[AT], 2.0)]
    assert comparable(etl) < 0.05


# ── a source that takes splits out of its prices, and does not say so ──────────────────────────────────────────────

EARLY, LATE = 12, 40


def hidden(*events: Event) -> Series:
    """Prices as Yahoo gives them, from a source whose `split_adjusted` was left at its default."""
    close = walk(COUNT)
    return Series(close, list(close), list(events))


def traded(etl: HistoricalETL) -> list[float]:
    return column(etl, "close", adjust="none")


def test_a_source_that_shows_no_split_takes_all_of_them_out(root):
    prices = hidden((EARLY, 3.0, 0.0), (LATE, 2.0, 0.0))
    etl, result = backfill(root, prices)
    assert not result.held
    assert any("split_adjusted" in warning for warning in result.warnings)
    assert column(etl, "close", adjust="splits") == prices.close
    factors = [6.0] * EARLY + [2.0] * (LATE - EARLY) + [1.0] * (COUNT - LATE)
    assert traded(etl) == pytest.approx([close * factor for close, factor in zip(prices.close, factors, strict=True)])
    again = etl.run_full_etl([NAME], prices.days[0], prices.days[-1])
    assert not again.held
    assert not any("split_adjusted" in warning for warning in again.warnings)
    assert column(etl, "close", adjust="splits") == prices.close


def test_a_history_that_is_restated_by_a_named_split_takes_it_out(root):
    prices = hidden()
    prices.events = []
    true = list(prices.close)
    prices.close = prices.adj_close = [2 * close for close in true]
    backfill(root, prices, LATE - 1)
    prices.close = prices.adj_close = true
    prices.events = [(LATE, 2.0, 0.0)]
    for evening in range(LATE, LATE + 12):
        etl, result = update(root, prices, evening)
        assert not result.held
        assert etl.scan(NAME, adjust="splits").collect()["close"].to_list() == true[: evening + 1]


def test_one_split_that_no_price_shows_names_the_way_out(root):
    prices = hidden((LATE, 2.0, 0.0))
    etl, result = backfill(root, prices)
    assert set(result.held) == {NAME}
    assert "split_adjusted" in etl.holds()["evidence"][0]
    prices.split_adjusted = True
    etl, result = update(root, prices, COUNT - 1)
    assert not result.held
    assert not codes(etl)
    assert column(etl, "close") == prices.close


def test_a_name_and_its_inverse_are_one_error(root):
    _, result = backfill(root, hidden((LATE, 2.0, 0.0), (LATE + 1, 0.5, 0.0)))
    assert set(result.held) == {NAME}


def test_an_accepted_split_that_no_price_shows_scales_nothing(root):
    prices = hidden((LATE, 2.0, 0.0))
    etl, _ = backfill(root, prices)
    etl.accept(NAME, reason="there was no such split", by="anna")
    for _ in range(2):
        result = etl.run_full_etl([NAME], prices.days[0], prices.days[-1])
        assert not result.held
        assert [event["unexplained"] for event in actions(etl)] == [True]
        assert column(etl, "close", adjust="splits") == traded(etl) == prices.close


@pytest.mark.parametrize(("one", "other"), [(2, 2), (1.5, 1.5), (1.1, 1.1), (2, 3)])
@pytest.mark.parametrize("seed", [3, 5])
def test_two_splits_that_a_source_has_taken_out_are_its_way_equal_or_not(root, one, other, seed):
    closes = walk(75, seed=seed)
    etl, result = backfill(root, Series(closes, closes, [(10, one, 0), (36, other, 0)]), 42)
    assert codes(etl) == []
    assert [row["in_close"] for row in actions(etl)] == [False, False]
    assert any("takes splits out" in warning or "split" in warning for warning in result.warnings)


def test_one_split_named_twice_is_no_way(root):
    closes = walk(75, seed=3)
    etl, _ = backfill(root, Series(closes, closes, [(34, 2, 0), (37, 2, 0)]), 42)
    assert codes(etl)
