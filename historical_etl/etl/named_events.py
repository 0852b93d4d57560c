"""The splits and dividends that a source names, with those that it named before."""

from datetime import date

import polars as pl

from historical_etl.etl.actions import outside
from historical_etl.etl.batch import Batch
from historical_etl.etl.reconciled import Base
from historical_etl.schema import ORDER
from historical_etl.sources.base import ACTIONS

__all__ = ["all_named", "newly_named", "splits"]


def newly_named(batch: Batch, base: Base) -> pl.DataFrame:
    """The events, columns symbol and date, that were not named before: an inferred one was not."""
    if batch.actions is None:
        return batch.rows.clear()[list(ORDER)]
    named = batch.actions.select(ORDER)
    return named if base.actions is None else named.join(base.actions.filter(~pl.col("inferred")), on=ORDER, how="anti")


def all_named(batch: Batch, base: Base) -> pl.DataFrame | None:
    """The events that the source names, those of earlier runs included; None if it names none."""
    if batch.actions is None:
        return None
    named = batch.actions.select(list(ACTIONS))
    if base.actions is None or named.is_empty():
        return named
    # What was judged otherwise than it was named is told there: the name itself is in the new answer, if anywhere.
    before = base.actions.filter(~pl.col("inferred"), pl.col("note").is_null()).select(list(ACTIONS))
    # Where the source was asked, it has taken back what it does not name again, unless the prices show it.
    known = outside(before, batch.spans())
    return pl.concat([named, known.join(named, on=ORDER, how="anti")])


def splits(batch: Batch, base: Base) -> dict[tuple[str, date], float]:
    """(symbol, date) → ratio of the splits that are known."""
    known = [frame for frame in (base.actions, batch.actions) if frame is not None]
    columns = ["symbol", "date", "split"]
    return {
        (symbol, day): split
        for frame in known
        for symbol, day, split in frame[columns].filter(pl.col("split") != 1).iter_rows()
    }
