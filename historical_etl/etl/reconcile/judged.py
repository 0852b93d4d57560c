"""A batch on its way through the judgements: what is known of it so far. Each step takes one and gives another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Self

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.event_days import EventDays
from historical_etl.etl.reconcile.reference import Reference
from historical_etl.etl.reconcile.result import Restatement
from historical_etl.etl.reconcile.stored_context import StoredContext, first_after
from historical_etl.quality.events import EVENTS
from historical_etl.quality.price_levels import has_same_keys, on_dates_of
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER, SCHEMA, other_symbols, together

__all__ = ["Judged", "View", "not_among"]

_KEYS: Final = {name: SCHEMA[name] for name in ORDER}
_RUN: Final = pl.Schema({"symbol": pl.String(), "low": pl.Date(), "high": pl.Date()})


@dataclass(frozen=True)
class View:
    """The bars of a batch beside what is stored; read when it is first asked for."""

    reference: Reference
    batch: Batch

    @cached_property
    def context(self) -> StoredContext:
        """What is stored around the batch."""
        of = self.reference
        return StoredContext(of.base, of.levels, of.lives, of.calendar, self.batch.requested)

    @cached_property
    def seen(self) -> pl.DataFrame:
        """Everything of the batch that is judged, columns `LEVELS`, sorted by (symbol, date)."""
        return self.batch.seen()

    @cached_property
    def stored(self) -> pl.DataFrame:
        """The stored rows on its dates, likewise."""
        return self.context.on_dates_of(self.seen)

    @cached_property
    def neighbours(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The stored rows on its dates and next to it, and those of them that follow on silences."""
        silences = self.context.silences()
        stored = self.context.beside(self.seen, self.stored, silences)
        return stored, first_after(silences, stored)

    @cached_property
    def line(self) -> pl.DataFrame:
        """What is judged and what is stored around it, likewise; of a session that is both, what was fetched."""
        return together([self.seen, not_among(self.neighbours[0], self.seen)])

    def of(self, batch: Batch) -> "View":
        """That of the batch as it is now: the same one while its bars are."""
        mine = self.batch
        pairs = ((mine.rows, batch.rows), (mine.context, batch.context), (mine.anchors, batch.anchors))
        is_same = all(before is now for before, now in pairs) and mine.requested == batch.requested
        return self if is_same else View(self.reference, batch)


@dataclass(frozen=True)
class Judged:
    """What is known of a batch so far.

    Attributes:
        reference: what it is held against.
        batch: what is left of it, with what was fetched beside it.
        view: its bars beside what is stored.
        names: the events that the source names.
        rebuilt: symbols whose stored rows are to be replaced, whatever basis they are on.
        moved: symbols whose level is not the stored one, so that their whole history is asked for.
        whole: symbols whose whole history was fetched.
        suspects: symbols that are held, and why.
        beside: further jumps of those; and of those that are not held, the bars that alone are kept out.
        held_bars: (symbol, date) of the latter bars.
        carried_holds: open holds about which the fetched rows say nothing new.
        held_back: symbols that are stored without `adj_close`, and why.
        passed: suspicions that a person had accepted.
        restated: symbols whose stored rows are replaced.
        overwritten: symbols whose history replaces what is stored even where it lacks values.
        dropped: (symbol, date) of stored rows that an accepted history does not have, a frame for each symbol.
        events: what was judged of single events, columns `EVENTS`.
        outdated: (symbol, date) of events whose notes no longer apply.
        stale: stretches of equal bars that have new rows.
        notes: what is to be reported of histories.
        moves: what is to be reported of prices and events.
    """

    reference: Reference
    batch: Batch
    view: View
    names: EventDays
    rebuilt: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    suspects: Mapping[str, Suspicion] = field(default_factory=dict[str, Suspicion])
    beside: Mapping[str, Sequence[Suspicion]] = field(default_factory=dict[str, Sequence[Suspicion]])
    held_bars: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_KEYS))
    carried_holds: Mapping[str, Sequence[Suspicion]] = field(default_factory=dict[str, Sequence[Suspicion]])
    held_back: Mapping[str, Suspicion] = field(default_factory=dict[str, Suspicion])
    passed: Mapping[str, Suspicion] = field(default_factory=dict[str, Suspicion])
    restated: Mapping[str, Restatement] = field(default_factory=dict[str, Restatement])
    overwritten: frozenset[str] = frozenset()
    dropped: Sequence[pl.DataFrame] = ()
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    outdated: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_KEYS))
    stale: pl.DataFrame = field(default_factory=pl.DataFrame)
    notes: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()

    @property
    def seen(self) -> pl.DataFrame:
        """All that is judged of symbols that are not suspects."""
        return other_symbols(self.view.seen, self.suspects)

    @property
    def waived(self) -> pl.DataFrame:
        """The gaps of the version, but for those of symbols that are rebuilt."""
        return other_symbols(self.reference.base.completeness.gaps, self.rebuilt)

    def with_batch(self, batch: Batch) -> Self:
        """With what is left of the batch after a step."""
        return replace(self, batch=batch, view=self.view.of(batch))

    def with_suspicions(self, found: Mapping[str, Suspicion]) -> Self:
        """With suspects; of what a person let pass that is said instead."""
        passed = {s: why for s, why in found.items() if self.reference.is_accepted(s, why)}
        others = {s: why for s, why in found.items() if s not in passed}
        return replace(self, passed={**self.passed, **passed}, suspects={**self.suspects, **others})

    def without_bars(self, runs: Mapping[str, Sequence[Suspicion]]) -> Self:
        """Without the bars of some runs of each symbol; the rest of it goes on."""
        spans = [(symbol, run.session, run.through) for symbol, mine in runs.items() for run in mine]
        if not spans:
            return self
        inside = pl.DataFrame(spans, schema=_RUN, orient="row").unique()
        bars = self.view.seen.select(ORDER).join(inside, on="symbol").filter(pl.col("date").is_between("low", "high"))
        bars = bars.select(ORDER).unique(maintain_order=True)
        return replace(
            self.with_batch(self.batch.without_bars(bars)),
            held_bars=pl.concat([self.held_bars, bars]),
            beside={**self.beside, **{s: [*self.beside.get(s, ()), *mine] for s, mine in runs.items()}},
        )

    def without_single_bars(self, found: Mapping[str, Sequence[Suspicion]]) -> Self:
        """Without bars that contradict single stored ones, but for those that a person let pass."""
        accepts = self.reference.is_accepted
        passed = {s: why for s, bars in found.items() for why in bars if accepts(s, why)}
        odd = {s: [why for why in bars if not accepts(s, why)] for s, bars in found.items()}
        judged = replace(self, passed={**self.passed, **passed})
        return judged.without_bars({s: bars for s, bars in odd.items() if bars})

    def resolved(self) -> Self:
        """With each named split on the day that shows it, and events that are shown and named no more."""
        names, batch = self.names.resolve(self.batch, self.seen, self.view.stored)
        return replace(self, names=names).with_batch(batch)


def not_among(stored: pl.DataFrame, fetched: pl.DataFrame) -> pl.DataFrame:
    """The stored rows of sessions that were not fetched."""
    near = on_dates_of(stored, fetched)
    return stored.clear() if has_same_keys(near, stored) else stored.join(near, on=ORDER, how="anti")
