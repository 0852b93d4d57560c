"""Named events beside the prices of their source: one a day, each where it shows, and the notes on them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import Final, Self

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.merge import inside
from historical_etl.etl.reconcile.foreign_dividends import resolve_foreign
from historical_etl.etl.reconcile.restated_splits import RestatedSplits, levels_before
from historical_etl.etl.reconcile.result import Base
from historical_etl.etl.reconcile.spin_offs import spun_off
from historical_etl.quality.events import EVENTS
from historical_etl.quality.price_series import Line, line_of
from historical_etl.quality.reported_days import NEARBY, named_days
from historical_etl.quality.reported_splits import IS_NAMED, NotShown, judge_named_splits
from historical_etl.quality.withdrawn_events import NOT_RESTATED, named_no_more
from historical_etl.schema import ORDER, symbols_in
from historical_etl.sources.base import SHARES_OF
from historical_etl.store.ledger_schemas import empty_ledger

__all__ = ["EventDays"]

_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class EventDays:
    """What became of the events that a source names, as far as that is known; each step gives another one.

    Attributes:
        base: the version that the batch is held against.
        split_adjusted: whether the source says that its close is adjusted for splits.
        restated: tells whether what is stored was restated by a split that is not in the close.
        rebuilt: symbols whose stored rows are to be replaced, whatever they are.
        stored_of: all stored rows of a symbol, columns `LEVELS`.
        events: what is to be said of single events, columns `EVENTS`.
        foreign: likewise, of dividends in other currencies and of spin-offs.
        not_shown: splits that did not happen.
        taken_out: (symbol, date) of splits that the source takes out of its prices without saying so.
    """

    base: Base
    split_adjusted: bool
    restated: RestatedSplits
    rebuilt: frozenset[str]
    stored_of: Callable[[str], pl.DataFrame]
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    foreign: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    not_shown: Sequence[NotShown] = ()
    taken_out: frozenset[tuple[str, date]] = frozenset()
    _named: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    _gone: Mapping[tuple[str, date], str] = field(default_factory=dict[tuple[str, date], str])
    _invalid: Mapping[tuple[str, date], str] = field(default_factory=dict[tuple[str, date], str])

    def enter(self, batch: Batch) -> tuple[Self, Batch]:
        """A batch as fetched, with one event of each symbol and day; invalid events are left out."""
        entered, batch = self._with_foreign(batch)
        if batch.actions is None or batch.actions.is_empty():
            return entered, batch
        found = named_days(batch.actions, in_close=not self.split_adjusted, line=lambda s: self._line(s, batch.seen()))
        invalid = {
            (symbol, day): f"{symbol} on {day}: split {split}, dividend {dividend}"
            for symbol, day, split, dividend in found.invalid.iter_rows()
        }
        entered = replace(entered, _invalid={**self._invalid, **invalid})
        return entered.noted(found.chosen), replace(batch, actions=found.events)

    def _with_foreign(self, batch: Batch) -> tuple[Self, Batch]:
        """The batch with the dividends in other currencies and spin-offs that its adj_close contains."""
        if batch.actions is None or batch.foreign is None:
            return self, batch
        rows = batch.seen()

        @cache
        def line(symbol: str) -> Line:
            return self._line(symbol, rows)

        is_spun = pl.col("currency").str.starts_with(SHARES_OF)
        found = resolve_foreign(batch.foreign.filter(~is_spun), line)
        spun = spun_off(batch.foreign.filter(is_spun), batch.actions, line, in_close=not self.split_adjusted)
        events = pl.DataFrame([*found.events, *spun.events], schema=EVENTS, orient="row")
        foreign = pl.concat([self.foreign, events]).unique(list(ORDER), keep="last")
        shown, worth = (pl.DataFrame(one.shown, schema=batch.actions.schema, orient="row") for one in (found, spun))
        others = shown.join(batch.actions, on=ORDER, how="anti")
        return replace(self, foreign=foreign), replace(batch, actions=pl.concat([batch.actions, others, worth]))

    def resolve(self, batch: Batch, rows: pl.DataFrame, stored: pl.DataFrame) -> tuple[Self, Batch]:
        """A batch with each named split on the day that shows it, and what is named no more but shown.

        Args:
            batch: what was fetched.
            rows: its bars, columns `LEVELS`, sorted by (symbol, date).
            stored: the stored bars on their dates, likewise.
        """
        if batch.actions is None:
            return self, batch
        resolved, named = self._with_lost(batch, batch.actions, rows, stored)
        if self.split_adjusted:
            resolved = resolved.noted(self._not_restated(named, rows, stored))
        else:
            found = judge_named_splits(rows, named, stored, self._known(), batch.requested, self._bars(rows))
            named = found.names(named)
            resolved = replace(resolved, not_shown=found.suspects, taken_out=frozenset(found.taken_out))
            if found.moved:
                resolved = resolved.with_events(found.events(named))
        # A whole history may have come since, and not show what a few bars did.
        events = resolved.events.join(named, on=ORDER, how="semi") if resolved.events.height else resolved.events
        return replace(resolved, events=events, _named=named), replace(batch, actions=named)

    def _not_restated(
        self, named: pl.DataFrame, rows: pl.DataFrame, stored: pl.DataFrame
    ) -> list[tuple[str, date, float, float, str]]:
        """New splits by which bars that were stored before their day were not restated, in words."""
        was_noted = pl.col("note").str.contains(NOT_RESTATED, literal=True).fill_null(value=False)
        splits = named.filter(pl.col("split") != 1)
        new = splits.join(self._known().filter(~was_noted), on=[*ORDER, "split"], how="anti")
        levels = levels_before(new, rows, stored)
        return [
            (
                symbol,
                day,
                split,
                dividend,
                f"a split of {split:g} on {day} is named, and the bars stored {NOT_RESTATED}",
            )
            for symbol, day, split, dividend in new.select(*ORDER, "split", "dividend").iter_rows()
            if (before := levels.get((symbol, day)))
            and self.restated.verdict(symbol, day, split, before) == "not_restated"
        ]

    def _with_lost(
        self, batch: Batch, named: pl.DataFrame, rows: pl.DataFrame, stored: pl.DataFrame
    ) -> tuple[Self, pl.DataFrame]:
        """The named events, with those that are named no more and that the prices show."""
        before = inside(self._known().filter(~pl.col("inferred"), ~pl.col("unexplained")), batch.spans())
        if before.join(named, on=[*ORDER, "split", "dividend"], how="anti").is_empty():
            return replace(self, _gone={}), named
        # The name of a split that was moved to a later day may lie before what was asked for.
        is_near = (pl.col("date") <= pl.col("low") + NEARBY) & pl.col("note").str.contains(IS_NAMED, literal=True)
        before = before.filter(~is_near.fill_null(value=False), pl.col("symbol").is_in(symbols_in(rows).implode()))
        levels = levels_before(before, rows, stored)
        found = named_no_more(
            before,
            named,
            lambda symbol: self._line(symbol, rows),
            lambda symbol, day, split: self.restated.verdict(symbol, day, split, levels.get((symbol, day))),
            self.rebuilt,
        )
        resolved = replace(self, _gone=found.gone)
        if not found.kept:
            return resolved, named
        lost = pl.DataFrame([one[:4] for one in found.kept], schema=named.schema, orient="row")
        days = pl.concat([named, lost]).group_by(ORDER, maintain_order=True)
        together = days.agg(pl.col("split").product(), pl.col("dividend").sum())
        words = {one[:2]: one[4] for one in found.kept}
        shown = [(*one, words[one[:2]]) for one in together.join(lost, on=ORDER, how="semi").iter_rows()]
        return resolved.noted(shown), together

    def _line(self, symbol: str, rows: pl.DataFrame) -> Line:
        return line_of(self._bars(rows)(symbol).with_columns(close_0=pl.lit(None, pl.Float64)))

    def _bars(self, rows: pl.DataFrame) -> Callable[[str], pl.DataFrame]:
        """Gives all bars of a symbol that are stored or fetched."""

        def bars(symbol: str) -> pl.DataFrame:
            mine = rows.filter(pl.col("symbol") == symbol)
            return pl.concat([self.stored_of(symbol).join(mine, on=ORDER, how="anti"), mine]).sort(ORDER)

        return bars

    def accept(self, split: NotShown) -> Self:
        """With a person's word that the prices are right: the split is no part of them, and stays unexplained."""
        words = f"a split of {split.split:g} is named, and the prices do not show it"
        is_it = (pl.col("symbol") == split.symbol) & (pl.col("date") == split.named_on)
        events = self._named.filter(is_it).with_columns(unexplained=pl.lit(value=True), note=pl.lit(words))
        return self.with_events(events.select(list(EVENTS)))

    def with_judged(self, judged: pl.DataFrame) -> pl.DataFrame:
        """What is to be said of single events: what was judged of them last goes before what was of their names."""
        if self.events.is_empty() and self.foreign.is_empty():
            return judged
        return pl.concat([self.foreign, self.events, judged]).unique(list(ORDER), keep="last").sort(ORDER)

    def warnings(self) -> list[str]:
        """What is reported of them, once."""
        known = self._known()
        lines: list[str] = []
        if self.events.height or self.foreign.height:
            new = pl.concat([self.events, self.foreign]).join(
                known.filter(pl.col("note").is_not_null()), on=[*ORDER, "note"], how="anti"
            )
            lines += [f"{symbol}: {note}" for symbol, note in new.select("symbol", "note").iter_rows()]
        lines += [f"{symbol}: {words}" for (symbol, _), words in sorted(self._gone.items())]
        if hidden := self._hidden_now(known):
            some = ", ".join(f"{symbol} on {day}" for symbol, day in hidden[:_MOST_NAMED])
            more = f" and {len(hidden) - _MOST_NAMED} more" if len(hidden) > _MOST_NAMED else ""
            way = "the source takes splits out of its prices, and has to say so with split_adjusted"
            lines.append(f"splits are named that the prices do not show, of {some}{more}: {way}")
        if self._invalid:
            some = "; ".join(list(self._invalid.values())[:_MOST_NAMED])
            lines.append(f"{len(self._invalid)} named value(s) are no event, and were left out: {some}")
        return lines

    def _hidden_now(self, known: pl.DataFrame) -> list[tuple[str, date]]:
        """The splits that are found to be taken out for the first time."""
        if not self.taken_out:
            return []
        return sorted(self.taken_out - set(known.filter(~pl.col("in_close")).select(ORDER).iter_rows()))

    def _known(self) -> pl.DataFrame:
        return empty_ledger("actions") if self.base.actions is None else self.base.actions

    def noted(self, events: Collection[tuple[str, date, float, float, str]]) -> Self:
        """With a note on some events: symbol, day, split, dividend, words."""
        if not events:
            return self
        rows = [(*one[:4], False, one[4]) for one in events]
        return self.with_events(pl.DataFrame(rows, schema=EVENTS, orient="row"))

    def with_events(self, events: pl.DataFrame) -> Self:
        """With what is to be said of more events, columns `EVENTS`; of one event the last counts."""
        return replace(self, events=pl.concat([self.events, events]).unique(list(ORDER), keep="last").sort(ORDER))
