"""What counts as a jump: measured by what a symbol usually does."""

import random
from datetime import date

import polars as pl
import pytest

from historical_etl_tests.scenario import COLUMNS, sessions, store

FIRST, LAST = date(2011, 1, 3), date(2013, 2, 1)


class Table:
    """A plain fetcher over rows that a test makes."""

    def __init__(self, closes: dict[str, list[float]]) -> None:
        days = sessions(FIRST, LAST)
        self.rows = pl.DataFrame(
            [
                {"date": day, "symbol": symbol, "close": close, "volume": 1.0}
                for symbol, prices in closes.items()
                for day, close in zip(days, prices, strict=True)
            ],
            schema=COLUMNS,
        )

    def get_daily_prices(self, symbols, start_date, end_date):
        return self.rows.filter(pl.col("symbol").is_in(symbols), pl.col("date").is_between(start_date, end_date))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prices_that_jump_every_day_are_nothing_to_hold(root, seed):
    """Year by year, then day by day: what is wild throughout is not an error of one day."""
    draw = random.Random(seed)
    count = len(sessions(FIRST, LAST))
    wild = Table({symbol: [round(draw.uniform(50, 150), 2) for _ in range(count)] for symbol in ("AAA", "BBB")})
    etl = store(root, wild, date(2013, 1, 15))
    etl.run_full_etl(["AAA", "BBB"], FIRST, date(2013, 1, 15))
    for day in sessions(date(2013, 1, 16), LAST):
        etl = store(root, wild, day)
        assert etl.run_incremental_etl().held == {}
    assert etl.scan().collect().height == wild.rows.height


def test_a_ramp_of_small_numbers_is_nothing_to_hold(root):
    count = len(sessions(FIRST, LAST))
    ramp = Table({"AAA": [float(number + 1) for number in range(count)], "BBB": [100.0 + n for n in range(count)]})
    etl = store(root, ramp, date(2011, 1, 5))
    etl.run_full_etl(["AAA", "BBB"], FIRST, date(2011, 1, 5))
    for day in sessions(date(2011, 1, 6), date(2011, 1, 20)):
        assert store(root, ramp, day).run_incremental_etl().held == {}


def test_one_jump_in_a_calm_series_is_held(root):
    count = len(sessions(FIRST, LAST))
    prices = [50.0 + (number % 7) / 10 for number in range(count)]
    calm = Table(
        {
            "AAA": [
                price * (2 if day >= date(2013, 1, 23) else 1)
                for price, day in zip(prices, sessions(FIRST, LAST), strict=True)
            ],
            "BBB": prices,
        }
    )
    store(root, calm, date(2013, 1, 22)).run_full_etl(["AAA", "BBB"], FIRST, date(2013, 1, 22))
    result = store(root, calm, date(2013, 1, 23)).run_incremental_etl()
    assert set(result.held) == {"AAA"}
