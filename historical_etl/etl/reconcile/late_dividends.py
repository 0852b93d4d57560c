"""Named dividends that `adj_close` did not contain when they were judged: when their history is looked at again.

A source that names an event late may adjust for it later still, and then restates what lies behind the overlap: where
the dividend is too small to hold anything, nothing else would bring that.
"""

from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.quality.event_judgement import NOT_CONTAINED
from historical_etl.sessions import SessionCalendar

__all__ = ["due_again"]

#: After so many sessions since the ex-date. The last ones are as far apart as those of what is held.
_AFTER: Final = (1, 2, 4, 8, 16, 32, 52, 72, 92)


def due_again(
    actions: pl.DataFrame | None, symbols: pl.DataFrame, calendar: SessionCalendar, today: date, events_late: int
) -> set[str]:
    """Symbols whose whole history is due.

    Args:
        actions: the ledger.
        symbols: the ledger; its `last_session` tells when a symbol was updated last.
        calendar: of the store.
        today: the last closed session.
        events_late: of the source, in days: so long again it is given to adjust for what it names.
    """
    if actions is None or not events_late:
        return set()
    recent = pl.col("date") > today - timedelta(days=2 * events_late)
    lacking = actions.filter(~pl.col("inferred"), recent, pl.col("note").str.contains(NOT_CONTAINED, literal=True))
    known = lacking.select("symbol", "date").join(symbols.select("symbol", "last_session"), on="symbol")
    due: set[str] = set()
    for symbol, day, last in known.iter_rows():
        before, now = (len(calendar.between(day, until)) if until >= day else 0 for until in (last, today))
        due |= {symbol} if any(before < after <= now for after in _AFTER) else set()
    return due
