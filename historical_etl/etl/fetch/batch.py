"""A batch: what was fetched, judged; the rows to store apart from those that only give context."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Self

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.models import Outcome
from historical_etl.quality.batch_verdict import count_reasons
from historical_etl.quality.price_levels import LEVELS
from historical_etl.schema import ORDER, ordered, together

__all__ = ["Batch", "nothing_left", "reasons_in_words", "refuse_not_found"]


@dataclass(frozen=True)
class Batch:
    """What was fetched, judged by the row rules.

    Attributes:
        source: its name.
        rows: accepted, to be stored; keys unique, sorted by (symbol, date).
        context: good rows outside the window to store: they are held against what is stored, and give the first `ret`
            its predecessor. Keys unique, sorted by (symbol, date).
        anchors: good rows far from it, likewise, to be held against what is stored and for nothing else.
        outcomes: of every symbol that was asked for.
        details: why a symbol has another outcome than `ok`.
        asked: symbol → first and last date to store that was asked for.
        requested: symbol → first and last date that was asked for, context included.
        refused: symbols whose rows were refused as a whole → why.
        rejected: rows that were refused, with `reasons`.
        flagged: rows to store as fetched, of which something beside the close is wrong (`cells.FLAGGED`).
        actions: events that the source names; None if it names none.
        late: those that it names of days before what was asked for, in whatever currency.
        named_since: symbol → from which of those days on it names all.
        foreign: dividends in another currency than that of the prices, columns `FOREIGN`; None where there are none.
        quarantine_path: where the refused rows are kept.
        rows_fetched: how many rows the answers had, of whatever kind.
        notes: what the source says of its data.
        set_aside: files that it could not read.
        calendar_notes: what is to be reported of rows of days that the calendar does not know.
    """

    source: str
    rows: pl.DataFrame
    context: pl.DataFrame
    anchors: pl.DataFrame
    outcomes: dict[str, Outcome]
    details: dict[str, str]
    asked: dict[str, tuple[date, date]]
    requested: dict[str, tuple[date, date]]
    refused: Mapping[str, str]
    rejected: pl.DataFrame
    flagged: pl.DataFrame
    actions: pl.DataFrame | None = None
    late: pl.DataFrame | None = None
    named_since: Mapping[str, date] = field(default_factory=dict[str, date])
    foreign: pl.DataFrame | None = None
    quarantine_path: str = ""
    rows_fetched: int = 0
    notes: Sequence[str] = ()
    set_aside: Sequence[str] = ()
    calendar_notes: Sequence[str] = ()

    def without(self, symbols: Collection[str]) -> Self:
        """The batch without the rows of some symbols; their outcomes stay."""
        if not symbols:
            return self
        others = ~pl.col("symbol").is_in(list(symbols))
        actions = None if self.actions is None else self.actions.filter(others)
        frames = {name: rows.filter(others) for name, rows in self._frames().items() if rows.height}
        return replace(self, **frames, actions=actions)

    def _frames(self) -> dict[str, pl.DataFrame]:
        return {"rows": self.rows, "context": self.context, "anchors": self.anchors, "flagged": self.flagged}

    def joined(self, other: Self, symbols: Collection[str]) -> Self:
        """Both batches; for `symbols` the outcomes of the other one count."""
        frames = [frame for frame in (self.actions, other.actions) if frame is not None]
        return replace(
            self,
            rows=together([self.rows, other.rows]),
            context=together([self.context, other.context]),
            outcomes=self.outcomes | {s: o for s, o in other.outcomes.items() if s in symbols},
            details=self.details | other.details,
            asked=self.asked | other.asked,
            requested=self.requested | other.requested,
            refused={**self.refused, **other.refused},
            rejected=pl.concat([self.rejected, other.rejected]),
            flagged=pl.concat([self.flagged, other.flagged]),
            actions=pl.concat(frames).unique(maintain_order=True) if frames else None,
        )

    def with_rows(self, rows: pl.DataFrame) -> Self:
        """The batch with more rows to store."""
        return replace(self, rows=ordered(pl.concat([self.rows, rows]))) if rows.height else self

    def with_anchors(self, rows: pl.DataFrame) -> Self:
        """The batch with more rows to hold against what is stored."""
        return replace(self, anchors=rows)

    def without_adj_close(self, symbols: Collection[str]) -> Self:
        """The batch with `adj_close` null in all rows of some symbols."""
        if not symbols:
            return self
        remaining = pl.when(~pl.col("symbol").is_in(list(symbols))).then("adj_close").alias("adj_close")
        return replace(self, **{name: rows.with_columns(remaining) for name, rows in self._frames().items()})

    def without_bars(self, bars: pl.DataFrame) -> Self:
        """The batch without some bars, columns symbol and date."""
        return replace(self, **{name: rows.join(bars, on=ORDER, how="anti") for name, rows in self._frames().items()})

    def spans(self) -> pl.DataFrame:
        """What was asked for: columns symbol, low and high."""
        spans = [(symbol, *span) for symbol, span in self.requested.items()]
        return pl.DataFrame(spans, schema={"symbol": pl.String, "low": pl.Date, "high": pl.Date}, orient="row")

    def seen(self) -> pl.DataFrame:
        """All rows that are held against what is stored, columns `LEVELS`, sorted by (symbol, date)."""
        return together([rows[list(LEVELS)] for rows in (self.rows, self.context, self.anchors)])

    def nothing(self, outcomes: dict[str, Outcome], why: str) -> Self:
        """An empty batch of the same source, for symbols that could not be fetched."""
        return replace(
            self,
            rows=self.rows.clear(),
            context=self.context.clear(),
            anchors=self.anchors.clear(),
            outcomes=outcomes,
            details=dict.fromkeys(outcomes, why),
            asked={},
            requested={},
            refused={},
            rejected=self.rejected.clear(),
            flagged=self.flagged.clear(),
            actions=None,
            late=None,
            named_since={},
            foreign=None,
        )


def refuse_not_found(batch: Batch, stored: Collection[str]) -> None:
    """Refuse a batch of symbols that neither the source nor the store knows.

    Raises:
        ConfigurationError: the source knows none of the symbols, and none is stored.
    """
    unknown = [symbol for symbol, outcome in batch.outcomes.items() if outcome is Outcome.NOT_FOUND]
    if len(unknown) == len(batch.outcomes) and not set(unknown) & set(stored):
        raise ConfigurationError(
            f"{batch.source!r} knows none of the symbols that were asked for: {', '.join(unknown[:10])}",
            where="symbols",
            todo=next(iter(batch.details.values()), "correct the symbols, or choose another source"),
        )


def nothing_left(batch: Batch, name: str) -> DataQualityError | None:
    """The error of a batch with rows of which none can be stored; the run decides whether it failed.

    Args:
        batch: what was fetched.
        name: what it was asked for.
    """
    if batch.rejected.is_empty() or not batch.rows.is_empty():
        return None
    undated = batch.rejected.get_column("date").is_null().all()
    if undated and Outcome.REFUSED not in batch.outcomes.values():
        return None  # rows that may be of any day: nothing tells that they are of those which were asked for
    return DataQualityError(
        f"All {batch.rejected.height} rows that {batch.source} delivered for {name} were refused "
        f"({reasons_in_words(batch.rejected)}); none of them is stored",
        where=batch.quarantine_path,
        todo="look at the rows and their reasons there; ask again once the source is right",
    )


def reasons_in_words(rejected: pl.DataFrame) -> str:
    """How many rows each rule refused, in words."""
    return ", ".join(f"{reason}: {count}" for reason, count in count_reasons(rejected).items())
