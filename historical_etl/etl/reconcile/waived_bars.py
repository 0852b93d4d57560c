"""Bars on sessions that a person has waived while they were held: they stay out, whatever comes."""

import polars as pl

from historical_etl.etl.completeness import BAR_HELD, WAIVED
from historical_etl.etl.fetch import Batch
from historical_etl.schema import ORDER

__all__ = ["without_waived"]


def without_waived(batch: Batch, gaps: pl.DataFrame) -> Batch:
    """The batch without such bars.

    Args:
        batch: what was fetched.
        gaps: those of the account.
    """
    waived = gaps.filter(pl.col("status") == WAIVED, pl.col("why") == BAR_HELD)
    if waived.is_empty():
        return batch
    mine = batch.seen().filter(pl.col("symbol").is_in(waived.get_column("symbol").unique().implode()))
    inside = pl.col("date").is_between("first_session", "last_session")
    bars = mine.join(waived.select("symbol", "first_session", "last_session"), on="symbol").filter(inside)
    return batch.without_bars(bars.select(ORDER)) if bars.height else batch
