"""A dividend of less than a hundredth of a percent, which no level shows, and of which the source names nothing."""

import pytest

from historical_etl_tests.field.series import (
    COMPANY,
    NAME,
    Event,
    Series,
    adjusted,
    backfill,
    column,
    opened,
    update,
    walk,
)

AT = 36
CLOSES = walk(60, 400.0, seed=5)


def paying(share: float, decimals: int) -> tuple[Series, list[float]]:
    """A source on the evening before a dividend, and its adjusted closes from then on."""
    event: Event = (AT, 1.0, share * CLOSES[AT - 1])
    before = [round(close, decimals) for close in CLOSES]
    return Series(CLOSES, before, None), [round(price, decimals) for price in adjusted(CLOSES, event)]


@pytest.mark.parametrize(("share", "decimals"), [(9e-5, 2), (9e-5, 4), (9e-5, 8), (3e-5, 4), (3e-6, 6), (3e-6, 8)])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_it_restates_the_whole_history(root, share, decimals, late):
    """On its ex-date, or as long after it as some sessions before it are fetched again."""
    source, after = paying(share, decimals)
    backfill(root, source, AT - 1)
    if late:
        for at in range(AT, AT + late):
            update(root, source, at)
    source.adj_close = after
    etl, result = update(root, source, AT + late)
    assert result.restated_symbols == (NAME,)
    assert not result.held
    assert not result.corrections
    assert column(etl, "adj_close") == after[: AT + late + 1]
    assert etl.ledger("restatements")["symbol"].to_list() == [NAME]
    assert not update(root, source, AT + late + 1)[1].restated_symbols


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_a_last_digit_that_is_rounded_otherwise_is_a_correction(root, decimals):
    source, _ = paying(1e-4, decimals)
    backfill(root, source, AT - 1)
    unit = 10.0**-decimals
    source.adj_close = [round(close - unit * (at % 3), decimals) for at, close in enumerate(CLOSES)]
    etl, result = update(root, source, AT)
    assert not result.restated_symbols
    assert 2 <= result.corrections <= 5
    assert column(etl, "adj_close")[: AT - 5] == [round(close, decimals) for close in CLOSES[: AT - 5]]


def test_so_it_is_in_closes_that_are_adjusted_themselves(root):
    source, after = paying(9e-5, 4)
    source.close, source.adj_close = [round(close, 4) for close in CLOSES], None
    backfill(root, source, AT - 1)
    source.close = after
    etl, result = update(root, source, AT)
    assert result.restated_symbols == (NAME,)
    assert column(etl, "close") == after[: AT + 1]


def test_one_bar_that_moved_is_a_correction(root):
    source, _ = paying(9e-5, 4)
    etl = opened(root, source, source.days[0])
    etl.run_full_etl([NAME, COMPANY], source.days[0], source.days[0])
    source.adj_close = [round(close * (1 - 9e-5), 4) for close in CLOSES]
    etl, result = update(root, source, 1)
    assert not result.restated_symbols
    assert result.corrections == 1
