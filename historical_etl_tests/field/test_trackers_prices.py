"""Prices and events as people report them on public trackers, reduced; each test names where it was seen."""

from datetime import timedelta
from itertools import pairwise

import pytest

from historical_etl_tests.field.series import (
    Series,
    actions,
    adjusted,
    backfill,
    codes,
    column,
    days,
    falling,
    update,
    walk,
)

COUNT, AT = 80, 60
PRICES = walk(COUNT, 40.0)


def about(result, *words: str) -> bool:
    """Whether a warning has all of the words."""
    return any(all(word in warning for word in words) for warning in result.warnings)


def turned(closes, at: int, split: float) -> list[float]:
    """adj_close of closes as they trade, with a split taken out the wrong way, or with another ratio."""
    return [close / split if i < at else close for i, close in enumerate(closes)]


@pytest.mark.parametrize("adj", [True, False])
def test_a_split_that_is_named_with_another_ratio_is_reported(root, adj):
    """iexg/IEX-API#946: 1 for 12 is named, and the price moved by 1 for 20."""
    close = falling(PRICES, (AT, 1 / 20, 0.0))
    source = Series(close, turned(close, AT, 1 / 12) if adj else None, [(AT, 1 / 12, 0.0)])
    _, result = backfill(root, source)
    assert about(result, "ACME", "names a split of 0.0833", "1.65 times")


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize("split", [1.238, 2.0, 1 / 8])
def test_a_split_that_is_named_the_wrong_way_round_is_held(root, adj, split):
    """alpacahq/alpaca-py#604: a split of 1.238 is named, and adjusted for, as its reverse."""
    close = falling(PRICES, (AT, split, 0.0))
    source = Series(close, close if adj else None, [])
    etl, _ = backfill(root, source, AT - 1)
    source.events = [(AT, 1 / split, 0.0)]
    source.adj_close = turned(close, AT, 1 / split) if adj else None
    etl, result = update(root, source, AT)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == close[:AT]


@pytest.mark.parametrize("split", [1.238, 2.0, 1 / 8])
def test_a_split_that_is_named_as_it_was_is_not(root, split):
    close = falling(PRICES, (AT, split, 0.0))
    _, result = backfill(root, Series(close, adjusted(close, (AT, split, 0.0)), [(AT, split, 0.0)]))
    assert not result.held
    assert not result.warnings


@pytest.mark.parametrize("gap", [False, True])
def test_a_split_named_on_a_day_without_a_bar_explains_the_next_one(root, gap):
    """FinMind/FinMind#127: an ex-date on a day without trading; ranaroussi/yfinance#1543: the bar of the day lacks."""
    at = next(i for i in range(AT, COUNT) if days(COUNT)[i].weekday() == 0)
    close = falling(PRICES, (at, 4.0, 0.0))

    class OffSession(Series):
        def fetch(self, request):
            answer = super().fetch(request)
            named, ex_date = answer.actions, self.days[at]
            assert named is not None
            if gap:
                frame = answer.frame.filter((answer.frame["symbol"] != "ACME") | (answer.frame["date"] != ex_date))
                return type(answer)(frame, answer.outcomes, answer.details, named)
            moved = named.with_columns(date=named["date"] - timedelta(days=2))
            return type(answer)(answer.frame, answer.outcomes, answer.details, moved)

    source = OffSession(close, None, [(at, 4.0, 0.0)])
    backfill(root, source, at - 1)
    held = [update(root, source, day)[1].held for day in (at, at + 1)]
    assert held == [{}, {}]
    etl, _ = update(root, source, at + 2)
    splits = column(etl, "close", adjust="splits")
    assert max(max(now / then, then / now) for then, now in pairwise(splits)) < 1.1


def test_a_move_by_one_tick_is_no_split(root):
    """iexg/IEX-API#1696 and the like: prices of a few ticks double and halve from day to day."""
    close = [0.002 if i in {20, 50, 51, 70, 72} else 0.001 for i in range(COUNT)]
    source = Series(close, close)
    _, result = backfill(root, source, 60)
    assert not result.held
    for at in (70, 71, 72, 73):
        etl, result = update(root, source, at)
        assert not result.held
    assert column(etl, "close") == close[:74]


def test_an_event_named_on_the_earliest_session_of_the_overlap_restates(root):
    """iexg/IEX-API#335, polygon-io/issues#238: dividends and splits that the vendor adds days later."""
    event = (AT, 1.0, 1.5)
    close = falling(PRICES, event)
    source = Series(close, close, [])
    backfill(root, source, AT - 1)
    for at in range(AT, AT + 5):
        update(root, source, at)
    source.adj_close, source.events = adjusted(close, event), [event]
    etl, result = update(root, source, AT + 5)
    assert result.restated_symbols == ("ACME",)
    assert column(etl, "adj_close") == source.adj_close[: AT + 6]


def test_an_event_named_later_that_adj_close_never_has_is_held(root):
    """iexg/IEX-API#423: the dividend is named, and the history not adjusted for it."""
    close = falling(PRICES, (AT, 1.0, 3.0))
    source = Series(close, close, [])
    backfill(root, source, AT - 1)
    for at in range(AT, AT + 2):
        update(root, source, at)
    source.events = [(AT, 1.0, 3.0)]
    etl, result = update(root, source, AT + 2)
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["unexplained_event"]


def test_a_reverse_split_of_any_terms_that_the_price_follows_is_stored(root):
    """iexg/IEX-API#160: 31 for 1000, adjusted three evenings late."""
    event = (AT, 0.031, 0.0)
    close = falling(PRICES, event)
    source = Series(close, close)
    backfill(root, source, AT - 1)
    for at in range(AT, AT + 3):
        _, result = update(root, source, at)
        assert set(result.held) == {"ACME"}
    source.adj_close = adjusted(close, event)
    etl, result = update(root, source, AT + 3)
    assert not result.held
    assert about(result, "ACME", "falls to 0.031")
    assert [(row["split"], row["dividend"], row["unexplained"]) for row in actions(etl)] == [(1.0, 0.0, True)]


@pytest.mark.parametrize("times", [100.0, 37.3, 0.01])
def test_a_close_that_jumps_and_comes_back_beside_a_good_adj_close_is_held(root, times):
    """RomelTorres/alpha_vantage#226: wrong closes of single days, and the adjusted ones go on."""
    close = [price * times if i == AT else price for i, price in enumerate(PRICES)]
    source = Series(close, PRICES)
    _, result = backfill(root, source)
    assert set(result.held) == {"ACME"}


@pytest.mark.parametrize("times", [100.0, 37.3, 4.0, 0.01])
def test_a_close_that_jumps_is_held_on_its_first_evening(root, times):
    """RomelTorres/alpha_vantage#226: what makes it a consolidation, or a split, would have restated adj_close."""
    close = [price * times if i >= AT else price for i, price in enumerate(PRICES)]
    source = Series(close, PRICES)
    backfill(root, source, AT - 1)
    for at in range(AT, AT + 3):
        etl, result = update(root, source, at)
        assert "adj_close does not move with it" in result.held["ACME"]
        assert codes(etl) == ["unexplained_event"]
        assert column(etl, "close") == close[:AT]
    etl, result = update(root, source, AT + 3)
    assert not result.held, "the bars that follow say that it is the new level"
    assert column(etl, "close") == close[: AT + 4]


@pytest.mark.parametrize("ratio", [0.01, 0.004, 10.0, 4.0])
def test_a_consolidation_that_restates_adj_close_is_stored_on_its_first_evening(root, ratio):
    event = (AT, ratio, 0.0)
    close = falling(PRICES, event)
    source = Series(close, close)
    backfill(root, source, AT - 1)
    source.adj_close = adjusted(close, event)
    etl, result = update(root, source, AT)
    assert not result.held
    assert [(row["split"], row["dividend"]) for row in actions(etl)] == [(ratio, 0.0)]


def test_a_small_split_of_a_source_that_never_restates_is_stored_on_its_first_evening(root):
    """The factor of new bars moves; it moved before, so that it is no sign of an error."""
    closes = falling(PRICES, (20, 2.0, 0.0), (AT, 3.0, 0.0))
    adj = [close * (1 if i < 20 else 2 if i < AT else 6) for i, close in enumerate(closes)]
    source = Series(closes, adj)
    backfill(root, source, AT - 1)
    etl, result = update(root, source, AT)
    assert not result.held
    assert column(etl, "close") == closes[: AT + 1]


def test_a_close_that_jumps_is_kept_out_alone_from_the_evening_on_that_takes_it_back(root):
    """RomelTorres/alpha_vantage#226, evening by evening."""
    close = [price * 100 if i == AT else price for i, price in enumerate(PRICES)]
    source = Series(close, PRICES)
    backfill(root, source, AT - 1)
    _, result = update(root, source, AT)
    assert set(result.held) == {"ACME"}
    etl, result = update(root, source, AT + 1)
    assert "is 99.01 times the one before" in result.held["ACME"]
    assert column(etl, "close") == [*PRICES[:AT], PRICES[AT + 1]]


@pytest.mark.parametrize("adj", ["good", "with it", None])
def test_a_stored_error_that_the_vendor_corrects_is_corrected(root, adj):
    """RomelTorres/alpha_vantage#226: the wrong close of a day was right some days later."""
    bad = [price * 7.5 if i == AT else price for i, price in enumerate(PRICES)]
    source = Series(bad, {"good": PRICES, "with it": bad}.get(adj))
    backfill(root, source, AT - 1)
    update(root, source, AT)
    _, result = update(root, source, AT + 1)
    assert about(result, "0.134") or "takes it back" in result.held["ACME"] or "takes back" in result.held["ACME"]
    source.close = PRICES
    source.adj_close = PRICES if adj else None
    etl, result = update(root, source, AT + 2)
    assert not result.held
    assert codes(etl) == []
    assert column(etl, "close") == PRICES[: AT + 3]


def test_a_stored_bar_after_a_raw_split_that_comes_on_the_old_basis_corrects_nothing(root):
    """iexg/IEX-API#480, the other way: prices go back to those of before the split on one day."""
    close = falling(PRICES, (AT, 4.0, 0.0))
    source = Series(close, None, [(AT, 4.0, 0.0)])
    backfill(root, source, AT + 2)
    source.close = [price * 4 if i == AT else price for i, price in enumerate(close)]
    etl, result = update(root, source, AT + 3)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == close[: AT + 4], "the stored bar stands, and the new session is let in"


def test_closes_that_become_adjusted_ones_are_reported(root):
    """ranaroussi/yfinance#2510: from one release on, close is what adj_close was; it shows with the next dividend."""
    first, second = (30, 1.0, 2.0), (AT, 1.0, 1.0)
    close = falling(PRICES, first, second)
    source = Series(close, adjusted(close, first))
    backfill(root, source, AT - 1)
    source.close = source.adj_close = adjusted(close, first, second)
    _, result = update(root, source, AT)
    assert result.restated_symbols == ("ACME",)
    assert about(result, "ACME is restated", "no split explains it")


def test_another_currency_for_a_whole_history_is_reported(root):
    """portfolio-performance/portfolio#1229 and the like: all prices in another unit from one evening on."""
    source = Series(PRICES, PRICES)
    backfill(root, source, AT - 1)
    source.close = source.adj_close = [price / 1.95583 for price in PRICES]
    _, result = update(root, source, AT)
    assert about(result, "ACME is restated", "0.511292 times", "no split explains it")


def test_a_split_that_the_vendor_loses_for_some_evenings_replaces_nothing(root):
    """ranaroussi/yfinance#906: for three days all histories were as before their splits."""
    source = Series(PRICES, PRICES, [(30, 4.0, 0.0)], split_adjusted=True)
    backfill(root, source, AT - 1)
    lost = [price * (4 if i < 30 else 1) for i, price in enumerate(PRICES)]
    for at in range(AT, AT + 3):
        source.close = source.adj_close = lost
        source.events = []
        etl, _ = update(root, source, at)
        assert column(etl, "close")[:AT] == PRICES[:AT]
    source.close = source.adj_close = PRICES
    source.events = [(30, 4.0, 0.0)]
    etl, result = update(root, source, AT + 3)
    assert not result.held
    assert column(etl, "close") == PRICES[: AT + 4]


def test_moves_of_a_meme_stock_are_no_alarm(root):
    """ranaroussi/yfinance#2660: GME in January 2021, where a repair invented splits."""
    wild = [43.0, 65.0, 76.8, 148.0, 347.5, 193.6, 325.0, 225.0, 90.0, 92.4, 53.5, 63.8]
    close = [round(price * 0.9, 4) for price in PRICES[:AT]] + wild
    source = Series(close, close, [], split_adjusted=True)
    backfill(root, source, AT - 1)
    for at in range(AT, len(close) - 1):
        assert not update(root, source, at)[1].held
    etl, result = update(root, source, len(close) - 1)
    assert not result.held
    assert column(etl, "close") == close


def test_one_dividend_that_is_listed_twice_is_one(root):
    """polygon-io/issues#162: the same dividend twice on one ex-date."""
    event = (AT, 1.0, 0.4)
    close = falling(PRICES, event)
    source = Series(close, close, [])
    backfill(root, source, AT - 1)
    source.adj_close, source.events = adjusted(close, event), [event, event]
    etl, result = update(root, source, AT)
    assert not result.held
    assert [row["dividend"] for row in actions(etl)] == [0.4]
