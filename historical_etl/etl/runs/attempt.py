"""What one commit of a run asked for, as the record of what is complete needs it."""

from collections.abc import Mapping
from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.completeness import ASKED, REFUSED, FetchAttempt
from historical_etl.etl.reconcile import Reconciled
from historical_etl.models import Outcome
from historical_etl.schema import ORDER, spans_in
from historical_etl.sources.base import SourceInfo
from historical_etl.store.transaction import Transaction

__all__ = ["fetch_attempt"]

_OF_SPANS: Final = ("symbol", "start", "end", "outcome", "expected_from")


def fetch_attempt(
    reconciled: Reconciled,
    transaction: Transaction,
    info: SourceInfo,
    *,
    today: date,
    expected: date,
    since: Mapping[str, date],
) -> FetchAttempt:
    """The attempt that a reconciled batch was.

    Args:
        reconciled: the batch.
        transaction: that it is committed in.
        info: the source.
        today: the last closed session.
        expected: the last session of which a bar is expected.
        since: symbol → from when on the universe has it, where that is known.
    """
    spans = reconciled.batch.asked
    asked = pl.DataFrame(
        {
            "symbol": list(spans),
            "start": [start for start, _ in spans.values()],
            "end": [min(end, expected) for _, end in spans.values()],
            "outcome": [reconciled.batch.outcomes[symbol].value for symbol in spans],
            "expected_from": [since.get(symbol) for symbol in spans] if since else [None] * len(spans),
        },
        schema_overrides={name: dtype for name, dtype in ASKED.items() if name in _OF_SPANS},
    ).with_columns(
        pl.lit(info.adjustment).alias("adjustment"),
        pl.lit(info.name).alias("provider"),
        pl.col("symbol").is_in(list(reconciled.restated)).alias("replaced"),
        pl.lit(reconciled.batch.actions is not None).alias("names_events"),
        pl.lit(info.split_adjusted).alias("split_adjusted"),
    )
    rows = reconciled.batch.rows
    adjusted = rows.filter(pl.col("adj_close").is_not_null()) if rows.get_column("adj_close").null_count() else rows
    asked = asked.join(spans_in(adjusted).select("symbol", adjusted_through="last"), on="symbol", how="left")
    return FetchAttempt(
        asked=asked[list(ASKED)].sort("symbol"),
        stored=rows[list(ORDER)],
        dropped=reconciled.dropped,
        refused=_of_no_use(reconciled),
        today=today,
        version=transaction.version,
        at=transaction.at,
    )


def _of_no_use(reconciled: Reconciled) -> pl.DataFrame:
    """Rows that say nothing of their session: refused ones, and bars that are kept out alone.

    One without a price says that there is none.
    """
    rejected = reconciled.batch.rejected
    if rejected.is_empty() and reconciled.held_bars.is_empty():
        return pl.DataFrame(schema=REFUSED)
    without_price = pl.col("reasons").list.contains("no_close")
    refused = rejected.filter(~without_price).select(ORDER).drop_nulls()
    return pl.concat([_as(Outcome.REFUSED, refused), _as(Outcome.HELD, reconciled.held_bars)])


def _as(outcome: Outcome, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(outcome.value).alias("outcome"))
