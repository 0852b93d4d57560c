"""Dates and questions that the tests of single faults share."""

from datetime import date

import polars as pl

from historical_etl import HistoricalETL, get_calendar
from historical_etl_tests.proofs.simulation.market import SimListing
from historical_etl_tests.proofs.simulation.run import Life, compare

FIRST, SINCE, LAST = date(2012, 9, 4), date(2012, 12, 12), date(2013, 1, 9)
#: Company for the one that a test is about; dividends, so that they are restated too.
PLAIN = (
    *(SimListing(f"PLAIN{number}") for number in range(5)),
    SimListing("PAYER", dividends=((date(2012, 10, 15), 0.02), (date(2013, 1, 8), 0.02))),
)
_SESSIONS = get_calendar("XNYS").between(FIRST, date(2013, 12, 31)).to_list()
_SINCE = _SESSIONS.index(SINCE)


def day(number: int) -> date:
    """The session so many after `SINCE`: 1 is the first evening after the backfill, 13 the first session of 2013."""
    return _SESSIONS[_SINCE + number]


def close(etl: HistoricalETL, symbol: str, session: date, column: str = "adj_close") -> float | None:
    """One cell, by SQL; None where there is no row."""
    sql = f"SELECT {column} FROM daily_prices WHERE symbol = ? AND date = ?"
    found = etl.query_sql(sql, [symbol, session])
    return found.item() if found.height else None


def count(etl: HistoricalETL, symbol: str) -> int:
    return etl.query_sql("SELECT count(*) FROM daily_prices WHERE symbol = ?", [symbol]).item()


def of(etl: HistoricalETL, ledger: str, symbol: str) -> pl.DataFrame:
    """The rows of a ledger about one symbol; the same by SQL."""
    rows = etl.ledger(ledger).filter(pl.col("symbol") == symbol)
    assert etl.query_sql(f"SELECT count(*) FROM {ledger} WHERE symbol = ?", [symbol]).item() == rows.height
    return rows


def changes_of(etl: HistoricalETL, symbol: str, session: date, column: str) -> list[tuple[float | None, float | None]]:
    """What `explain` says of one cell: old and new, oldest first."""
    story = etl.explain(symbol, session).filter(pl.col("column") == column)
    return story.select("old", "new").rows()


def codes(etl: HistoricalETL) -> dict[str, str]:
    """Who is held now, and by which rule."""
    return dict(etl.holds().select("symbol", "code").iter_rows())


def is_true(life: Life) -> None:
    """The store equals the truth in every cell, and nothing is held or missing."""
    life.through(life.vendor.market.last)
    difference = compare(life.etl, life.vendor.market, life.vendor.style)
    assert not difference.held
    assert difference.missing.is_empty()
