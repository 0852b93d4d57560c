"""Named splits beside the prices of their source: each on the day that shows it, and what is told of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.batch import Batch
from historical_etl.etl.reconciled import Base
from historical_etl.quality.events import EVENTS
from historical_etl.quality.named_splits import NotShown, judge_named_splits
from historical_etl.schema import ORDER
from historical_etl.store.ledgers import empty_ledger

__all__ = ["SettledNames"]

_MOST_TOLD: Final = 5


@dataclass
class SettledNames:
    """What became of the splits that a source of unadjusted prices names.

    Attributes:
        base: the version that the batch is held against.
        events: what is to be said of single events, columns `EVENTS`.
        not_shown: splits that did not happen.
        taken_out: (symbol, date) of splits that the source takes out of its prices without saying so.
    """

    base: Base
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    not_shown: Sequence[NotShown] = ()
    taken_out: frozenset[tuple[str, date]] = frozenset()
    _named: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))

    def settle(self, batch: Batch, rows: pl.DataFrame, stored: pl.DataFrame) -> Batch:
        """A batch with each named split on the day that shows it.

        Args:
            batch: what came.
            rows: its bars, columns `LEVELS`, sorted by (symbol, date).
            stored: the stored bars on their dates, likewise.
        """
        if batch.actions is None:
            return batch
        found = judge_named_splits(rows, batch.actions, stored, self._known(), batch.requested)
        self.not_shown, self.taken_out = found.suspects, frozenset(found.taken_out)
        self._named = found.names(batch.actions)
        if found.moved:
            self._add(found.events(self._named))
        return replace(batch, actions=self._named)

    def accept(self, split: NotShown) -> None:
        """Take a person's word that the prices are right: the split is no part of them, and stays unexplained."""
        words = f"a split of {split.split:g} is named, and the prices do not show it"
        is_it = (pl.col("symbol") == split.symbol) & (pl.col("date") == split.named_on)
        told = self._named.filter(is_it).with_columns(unexplained=pl.lit(value=True), note=pl.lit(words))
        self._add(told.select(list(EVENTS)))

    def warnings(self) -> list[str]:
        """What is told of them, once."""
        known = self._known()
        new = self.events.join(known.filter(pl.col("note").is_not_null()), on=[*ORDER, "note"], how="anti")
        told = [f"{symbol}: {note}" for symbol, note in new.select("symbol", "note").iter_rows()]
        hidden = sorted(self.taken_out - set(known.filter(~pl.col("in_close")).select(ORDER).iter_rows()))
        if hidden:
            some = ", ".join(f"{symbol} on {day}" for symbol, day in hidden[:_MOST_TOLD])
            more = f" and {len(hidden) - _MOST_TOLD} more" if len(hidden) > _MOST_TOLD else ""
            way = "the source takes splits out of its prices, and has to say so with split_adjusted"
            told.append(f"splits are named that the prices do not show, of {some}{more}: {way}")
        return told

    def _known(self) -> pl.DataFrame:
        return empty_ledger("actions") if self.base.actions is None else self.base.actions

    def _add(self, told: pl.DataFrame) -> None:
        self.events = pl.concat([self.events, told]).unique(list(ORDER), keep="last").sort(ORDER)
