"""A2: events that nobody names are read from adj_close / close, whatever their ratio, and never below zero."""

from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl import Outcome
from historical_etl.quality.events import implied_event
from historical_etl_tests.field.series import Series, actions, adjusted, backfill, codes, column, falling, update, walk
from historical_etl_tests.shares import examples

RATIOS = [2.0, 3.0, 7.0, 20.0, 150.0, 1500.0, 1.5, 1.25, 7 / 3, 0.1, 1 / 7, 0.004, 1 / 1500, 1e-4, 33 / 70]


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_split_of_any_ratio_makes_prices_and_volume_comparable(root, ratio):
    event = (12, ratio, 0.0)
    close = falling(walk(24, 300.0), event)
    etl, result = backfill(root, Series(close, adjusted(close, event)))
    assert not result.held
    (found,) = actions(etl)
    assert found["split"] == pytest.approx(ratio, rel=1e-6)
    assert (found["dividend"], found["unexplained"], found["inferred"]) == (0.0, False, True)
    splits = column(etl, "close", adjust="splits")
    assert all(0.9 < now / before < 1.1 for before, now in pairwise(splits))
    assert column(etl, "volume", adjust="splits") == pytest.approx([1000 * ratio] * 12 + [1000] * 12, rel=1e-6)
    assert all(abs(ret) < 0.1 for ret in column(etl, "ret")[1:])


def test_a_reverse_split_is_no_dividend_below_zero(root):
    etl, _ = backfill(root, Series([0.4, 0.4, 0.4, 60.0, 60.0], [60.0] * 5))
    (found,) = actions(etl)
    assert (found["split"], found["dividend"]) == (pytest.approx(1 / 150), 0.0)
    assert column(etl, "close", adjust="splits") == pytest.approx([60.0] * 5)
    assert column(etl, "ret")[1:] == [0.0] * 4


@pytest.mark.parametrize(("split", "cash"), [(4.0, 2.5), (2.0, 1.0), (3.0, 7.0), (0.1, 4.0), (1.5, 0.9)])
def test_a_split_and_a_dividend_on_one_day_are_distinguished(root, split, cash):
    after = 96.0
    before = split * (after + cash)
    etl, _ = backfill(root, Series([before] * 3 + [after] * 2, [after] * 5))
    (found,) = actions(etl)
    assert found["split"] == pytest.approx(split)
    assert found["dividend"] == pytest.approx(cash, abs=1e-5), "cash for each new share"
    assert column(etl, "close", adjust="splits") == pytest.approx([after + cash] * 3 + [after] * 2)
    assert column(etl, "close", adjust="total") == pytest.approx([after] * 5)


@pytest.mark.parametrize("value", [0.22, 0.37, 0.58])
def test_a_spin_off_is_reported_and_its_value_is_no_dividend_near_the_price(root, value):
    event = (12, 1.0, round(value * walk(24)[11], 4))
    close = falling(walk(24), event)
    etl, result = backfill(root, Series(close, adjusted(close, event)))
    (found,) = actions(etl)
    assert (found["split"], found["dividend"], found["unexplained"]) == (1.0, 0.0, True)
    assert "spin-off" in str(found["note"])
    assert any("spin-off" in warning for warning in result.warnings)
    assert not result.held, "the price and adj_close agree"
    assert all(abs(ret) < 0.1 for ret in column(etl, "ret")[1:])


@pytest.mark.parametrize(("split", "cash"), [(0.031, 0.0), (0.0317, 0.0), (1.4, 1.0)])
def test_before_a_split_that_nobody_can_read_no_prices_are_comparable(root, caplog, split, cash):
    event = (12, split, cash)
    close = falling(walk(24), event)
    etl, result = backfill(root, Series(close, adjusted(close, event)))
    assert not result.held
    (found,) = actions(etl)
    assert found["unexplained"]
    for column_name in ("close", "volume"):
        got = column(etl, column_name, adjust="splits")
        assert got[:12] == [None] * 12
        assert None not in got[12:]
    assert "ACME before" in caplog.text
    assert column(etl, "close", adjust="none") == pytest.approx(close), "as traded is as stored"
    assert column(etl, "close", adjust="total") == pytest.approx(adjusted(close, event))
    assert column(etl, "volume", adjust="total")[:12] == [None] * 12


def test_a_factor_that_falls_without_a_split_holds_adj_close_back(root):
    close = walk(40)
    adj = [price * (1.07 if at < 20 else 1.0) for at, price in enumerate(close)]
    etl, result = backfill(root, Series(close, adj))
    assert "adj_close" in result.held["ACME"]
    assert column(etl, "close") == close
    assert column(etl, "adj_close") == [None] * 40
    assert codes(etl) == ["adj_close"]


def dividends(split: float) -> float:
    """How large a dividend beside a split may be and is no other split, as a share of the new price."""
    size = round(max(split, 1 / split), 6)
    return 0.02 if size == 2 else 0.04 if size.is_integer() else 0.008


@given(
    split=st.sampled_from([1.0, *RATIOS[:6], *RATIOS[6:-1]]),
    part=st.floats(0.05, 1.0),
    price=st.floats(5.0, 900.0),
    decimals=st.sampled_from([4, 6, 8]),
)
@settings(max_examples=examples(300))
def test_what_is_inferred_is_right_or_unexplained_and_never_below_zero(split, part, price, decimals):
    after = round(price, 2)
    cash = round(part * (dividends(split) if split != 1 else 0.15) * after, 4)
    before = split * (after + cash)
    adj = round(after / before * before, decimals)  # adj_close of the day before, as a source rounds it
    move = 1.0 / (adj / before)
    found_split, found_cash, unexplained, note = implied_event(move, after, 1e-4 + 10**-decimals / adj)
    assert found_cash >= 0
    if unexplained:
        assert note
        return
    assert isclose(found_split, split, rel_tol=1e-6)
    assert isclose(found_cash, cash, abs_tol=max(2e-3 * after, 1e-4))


@given(move=st.floats(1e-5, 1e5))
@settings(max_examples=examples(300))
def test_any_move_of_the_factor_is_explained_in_full_or_not_at_all(move):
    split, cash, unexplained, _ = implied_event(move, 100.0, 1e-4)
    assert 0 <= cash <= 20, "never near the price"
    if not unexplained:
        assert isclose(split * (1 + cash / 100.0), move, rel_tol=2e-3)


@pytest.mark.parametrize("factor", [2.0, 0.5, 100.0])
def test_volumes_that_are_restated_later_than_the_prices_are_restated_throughout(root, factor):
    """All volumes of the overlap are times one number what is stored: so are those before it."""
    source = Series(walk(60))
    etl, _ = backfill(root, source, 50)
    before = column(etl, "volume")
    source.volume *= factor
    etl, result = update(root, source, 51)
    assert column(etl, "volume") == [volume * factor for volume in before] + [1000 * factor]
    assert result.outcomes["ACME"] is Outcome.OK
    asked = update(root, source, 52)[0].ledger("corrections").height
    assert asked == len(before), "once"
