"""A2: dividends that a source names beside prices without adj_close: only the price can contradict them."""

import pytest

from historical_etl_tests.field.series import NAME, Series, actions, backfill, column, falling, update, walk

COUNT, AT = 120, 90


def source(*named: tuple[int, float], paid: tuple[tuple[int, float], ...] = ()) -> Series:
    """Names some dividends; others are what the prices fall by."""
    close = falling(walk(COUNT), *((at, 1.0, cash) for at, cash in paid))
    return Series(close, None, [(at, 1.0, cash) for at, cash in named])


GOOD = tuple((at, 0.4) for at in (20, 40, 60, 80, 100))


@pytest.mark.parametrize("evenings", [True, False])
def test_dividends_that_fit_are_not_reported(root, evenings):
    prices = source(*GOOD, paid=GOOD)
    etl, result = backfill(root, prices, AT)
    for evening in range(AT + 1, COUNT) if evenings else [COUNT - 1]:
        etl, result = update(root, prices, evening)
        assert not result.warnings
    assert not any(event["unexplained"] for event in actions(etl))
    assert None not in column(etl, "close", adjust="total")


@pytest.mark.parametrize("cash", [40.0, 400.0, 5.0])
@pytest.mark.parametrize("evenings", [True, False])
def test_a_dividend_that_the_price_does_not_show_is_unexplained(root, cash, evenings):
    prices = source((20, 0.4), (AT, cash), paid=((20, 0.4),))
    if evenings:
        backfill(root, prices, AT - 1)
        etl, result = update(root, prices, AT)
    else:
        etl, result = backfill(root, prices)
    assert [warning for warning in result.warnings if NAME in warning and "dividend" in warning]
    assert not result.held
    assert [event["unexplained"] for event in actions(etl)] == [False, True]
    total = column(etl, "close", adjust="total")
    assert total[:AT] == [None] * AT
    assert total[AT:] == column(etl, "close")[AT:]
    assert None not in column(etl, "close", adjust="splits")


def test_one_hundredth_of_the_others_is_unexplained(root):
    paid = tuple((at, 2.0) for at in (20, 40, 60, 80))
    named = (*paid[:3], (80, 0.02))
    etl, result = backfill(root, source(*named, paid=paid))
    assert any("multiplied by 100" in warning for warning in result.warnings)
    assert actions(etl)[-1]["unexplained"]


def test_one_dividend_that_is_named_twice_is_one(root):
    etl, result = backfill(root, source((AT, 2.0), (AT + 1, 2.0), paid=((AT, 2.0),)))
    assert any("given twice" in warning for warning in result.warnings)
    assert [event["unexplained"] for event in actions(etl)] == [False, True]


@pytest.mark.parametrize("seed", [1, 3, 4, 5])
@pytest.mark.parametrize("apart", [1, 2])
def test_however_the_price_moves_on_the_two_days(root, apart, seed):
    """The second day may fall a little by chance; the first may fall by more than the dividend."""
    close = falling(walk(60, seed=seed), (40, 1.0, 1.5))
    etl, result = backfill(root, Series(close, None, [(40, 1.0, 1.5), (40 + apart, 1.0, 1.5)]), 50)
    assert any("given twice" in warning for warning in result.warnings)
    assert [event["unexplained"] for event in actions(etl)] == [False, True]


@pytest.mark.parametrize("evenings", [True, False])
def test_a_large_dividend_of_which_the_price_shows_too_little_is_reported(root, evenings):
    """Named at twice what was paid: the price does not say that there was none."""
    prices = source((20, 0.4), (AT, 8.0), paid=((20, 0.4), (AT, 4.0)))
    if evenings:
        backfill(root, prices, AT - 1)
        etl, result = update(root, prices, AT)
    else:
        etl, result = backfill(root, prices)
    (reported,) = (warning for warning in result.warnings if NAME in warning)
    assert "the dividend of 8 on" in reported
    assert [event["unexplained"] for event in actions(etl)] == [False, False]
    assert None not in column(etl, "close", adjust="total")


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_large_dividend_that_the_price_shows_is_not_reported(root, seed):
    close = falling(walk(60, seed=seed), (40, 1.0, 4.0))
    _, result = backfill(root, Series(close, None, [(40, 1.0, 4.0)]), 50)
    assert not result.warnings
