"""An outage: many symbols empty at once are not many quiet symbols."""

from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import ProviderUnavailableError
from historical_etl.etl.completeness import ENDED, Completeness
from historical_etl.etl.fetch.batch import Batch
from historical_etl.models import Outcome

__all__ = ["refuse_outage"]

_SAMPLE: Final = 5


def refuse_outage(batch: Batch, completeness: Completeness, start: date, end: date, max_share: float) -> None:
    """Refuse a batch in which too many symbols have no rows that should have some.

    Should have come: what still trades, and what is stored inside the range that was asked for.

    Raises:
        ProviderUnavailableError: more than `max_share` of them (and more than one) did not come.
    """
    none = {s for s, outcome in batch.outcomes.items() if outcome in (Outcome.EMPTY, Outcome.NOT_FOUND)}
    if not none:
        return
    stored_there = (pl.col("first_session") <= end) & (pl.col("last_session") >= start)
    expected = completeness.symbols.filter((pl.col("status") != ENDED) & stored_there).get_column("symbol")
    asked = [symbol for symbol in expected if symbol in batch.outcomes]
    silent = [symbol for symbol in asked if symbol in none]
    if len(silent) > max(1.0, max_share * len(asked)):
        raise ProviderUnavailableError(
            f"{len(silent)} of {len(asked)} symbols with bars up to {start} returned none: that is an outage, not "
            f"{len(silent)} quiet symbols ({', '.join(silent[:_SAMPLE])}, …). Nothing was stored",
            where=batch.source,
            todo="run it again later; if these symbols are really gone, raise HISTORICAL_ETL_MAX_EMPTY_SHARE once",
        )
