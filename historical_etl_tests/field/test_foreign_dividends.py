"""Dividends in another currency than that of the prices: kept, reported once, and no part of the price basis."""

import pytest

from historical_etl_tests.field.series import Series, actions, adjusted, backfill, column, falling, opened, update, walk

COUNT, AT = 60, 40
#: What 0.3064 CNY were in the currency of the prices.
CASH = 0.3352
CLOSES = falling(walk(COUNT, 31.0, seed=8), (AT, 1.0, CASH))


def test_what_adj_close_contains_is_known_in_the_currency_of_the_prices(root):
    source = Series(CLOSES, adjusted(CLOSES, (AT, 1.0, CASH)), events=[], foreign=[(AT, 0.3064, "CNY")])
    etl, result = backfill(root, source)
    assert not result.held
    (event,) = actions(etl)
    assert event["dividend"] == pytest.approx(CASH, rel=0.03)
    assert (event["unexplained"], event["inferred"]) == (False, False)
    assert "0.3064 CNY" in str(event["note"])
    assert [note for note in result.warnings if "0.3064 CNY" in note]


@pytest.mark.parametrize("adj", [None, CLOSES], ids=["no adj_close", "adj_close without it"])
def test_one_that_adj_close_does_not_contain_adjusts_nothing(root, adj):
    source = Series(CLOSES, adj, events=[], foreign=[(AT, 0.3064, "CNY")])
    etl, result = backfill(root, source)
    assert not result.held
    assert column(etl, "close") == CLOSES
    (event,) = actions(etl)
    assert (event["date"], event["dividend"], event["unexplained"]) == (source.days[AT], 0.3064, True)
    assert "CNY" in str(event["note"])


@pytest.mark.parametrize("adj", [None, "with it"])
def test_day_by_day_it_is_reported_once_and_stays(root, adj):
    source = Series(CLOSES, adj and CLOSES, events=[], foreign=[(AT, 0.3064, "CNY")])
    backfill(root, source, 38)
    notes: list[str] = []
    for at in range(39, 50):
        if adj and at >= AT:
            source.adj_close = adjusted(CLOSES, (AT, 1.0, CASH))
        _, result = update(root, source, at)
        assert not result.held
        notes += result.warnings
    assert len([note for note in notes if "CNY" in note]) == 1
    etl = opened(root, source, source.days[49])
    (event,) = actions(etl)
    assert event["date"] == source.days[AT]
    assert event["dividend"] == pytest.approx(CASH if adj else 0.3064, rel=0.03)


def test_beside_a_dividend_in_the_currency_of_the_prices(root):
    closes = falling(walk(COUNT, 31.0, seed=8), (20, 1.0, 0.4), (AT, 1.0, CASH))
    adj = adjusted(closes, (20, 1.0, 0.4), (AT, 1.0, CASH))
    source = Series(closes, adj, events=[(20, 1.0, 0.4)], foreign=[(AT, 0.3064, "CNY")])
    etl, result = backfill(root, source)
    assert not result.held
    assert [round(float(str(event["dividend"])), 2) for event in actions(etl)] == [0.4, 0.34]


@pytest.mark.parametrize("nothing", [0.0, float("nan"), -1.0])
def test_what_is_no_dividend_is_passed_over(root, nothing):
    etl, result = backfill(root, Series(CLOSES, None, events=[], foreign=[(AT, nothing, "CNY")]))
    assert not result.held
    assert actions(etl) == []
