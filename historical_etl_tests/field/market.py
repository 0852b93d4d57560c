"""Bars made by hand for the tests of single cases: plain prices, a plain fetcher that may change its mind, a store."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from historical_etl import HistoricalETL
from historical_etl_tests.scenario import COLUMNS, sessions, store

Rows = Iterable[dict[str, Any]]


def bars(symbol: str, days: Sequence[date], price: float = 100.0, **values: Any) -> list[dict[str, Any]]:
    """A quiet history: the price goes up and down by a hundredth from day to day; `values` for all of its rows."""
    rows: list[dict[str, Any]] = []
    for number, day in enumerate(days):
        close = round(price * (1 + number % 2 / 100), 4)
        row = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1000.0 + number}
        rows.append({"date": day, "symbol": symbol, **row, "adj_close": close, **values})
    return rows


def changed(rows: Rows, day: date, **values: Any) -> list[dict[str, Any]]:
    """The rows with other values on one day."""
    return [{**row, **values} if row["date"] == day else dict(row) for row in rows]


class Teller:
    """A plain fetcher that delivers the rows it has, in the range it is asked for; careless: whatever their symbols."""

    def __init__(self, rows: Rows = (), *, careless: bool = False) -> None:
        self.careless = careless
        self.rows = list(rows)
        self.asked: list[tuple[str, ...]] = []
        self.alter: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        self.asked.append(tuple(symbols))
        rows = [row for row in self.rows if start_date <= row["date"] <= end_date]
        rows = [row for row in rows if self.careless or row["symbol"] in symbols]
        return self.alter(pl.DataFrame(rows, schema=COLUMNS))


def evening_of(day: date) -> Callable[[], datetime]:
    return lambda: datetime.combine(day, time(23, 59), tzinfo=UTC)


def opened(root: Path, teller: Teller, today: date, **options: Any) -> HistoricalETL:
    """The store as it is on the evening of a day."""
    return store(root, teller, today, clock=evening_of(today), **options)


def cells(etl: HistoricalETL, symbol: str, column: str) -> dict[date, float | None]:
    """One column of a symbol by session."""
    rows = etl.scan([symbol]).select("date", column).collect()
    return dict(rows.sort("date").iter_rows())


__all__ = ["Teller", "bars", "cells", "changed", "evening_of", "opened", "sessions"]
