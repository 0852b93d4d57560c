"""Dividends that are named as they were paid, by a source that takes splits out of its prices."""

import pytest

from historical_etl_tests.field.series import COMPANY, NAME, Series, adjusted, column, falling, opened, walk

COUNT, PAID, MUCH, SPLIT = 90, 10, 20, 70


def test_what_is_for_shares_that_nobody_knew_adjusts_nothing(root):
    """Years are filled one after the other, and the split is named in the last: until then names and factor disagree.

    What adj_close contained of the larger dividend is for a share of today, and stands beside the cash that was paid.
    """
    events = [(PAID, 1.0, 0.5), (MUCH, 1.0, 12.0), (SPLIT, 3.0, 0.0)]
    traded = falling(walk(COUNT, price=100, seed=4), *events)
    adj_close = adjusted(traded, *events)
    close = [price / 3 if at < SPLIT else price for at, price in enumerate(traded)]
    source = Series(close, adj_close, events, split_adjusted=True)
    etl = opened(root, source, source.days[-1])
    for first, last in ((0, 40), (41, COUNT - 1)):
        etl.run_full_etl([NAME, COMPANY], source.days[first], source.days[last])
    assert column(etl, "adj_close") == [None] * COUNT
    total = column(etl, "close", adjust="total")
    assert total[:MUCH] == [None] * MUCH
    assert total[MUCH:] == pytest.approx(adj_close[MUCH:])
