"""Which bars a year has by the ledgers of its version: for a file that cannot be read."""

import polars as pl

from historical_etl.etl.completeness.completeness import Completeness
from historical_etl.etl.completeness.gap_ranges import days_of, exploded
from historical_etl.sessions import SessionCalendar

__all__ = ["stored_keys"]


def stored_keys(completeness: Completeness, calendar: SessionCalendar, year: int) -> pl.DataFrame:
    """(symbol, date) of the bars of a year: a symbol has all sessions from its first to its last but for its gaps."""
    low, high = calendar.positions(pl.col("first_session")), calendar.positions_before(pl.col("last_session"))
    days = days_of(completeness.symbols.select("symbol", low.alias("low"), high.alias("high")))
    dated = days.with_columns(calendar.dates(pl.col("position")).alias("date"))
    stored = dated.filter(pl.col("date").dt.year() == year)
    missing = exploded(completeness.gaps, calendar).select("symbol", "date")
    return stored.select("symbol", "date").join(missing, on=("symbol", "date"), how="anti")
