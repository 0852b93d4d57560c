"""What reconciling starts from and what it gives: a version with its ledgers, and a batch held against it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.completeness import Completeness
from historical_etl.etl.fetch import Batch
from historical_etl.models import SyncManifest
from historical_etl.quality.events import EVENTS
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER, SCHEMA

__all__ = ["Base", "Reconciled", "Restatement"]

_KEYS: Final = {name: SCHEMA[name] for name in ORDER}


@dataclass(frozen=True)
class Restatement:
    """A symbol whose whole history is replaced; ratios are new to stored, at the earliest shared session."""

    symbol: str
    ratio: float | None
    close_ratio: float | None
    evidence: str


@dataclass(frozen=True)
class Reconciled:
    """A batch after it was held against one version of the store.

    Attributes:
        batch: what may be stored; the histories of restated symbols are in its rows.
        restated: the symbols whose stored rows it replaces.
        suspects: symbols that are held, and why.
        beside: further jumps of symbols that are held; and of those that are not, the bars that alone are kept out.
        held_bars: (symbol, date) of the latter bars.
        carried_holds: open holds about which the fetched rows say nothing new.
        kept_from: symbol → the first session that was kept out, where nothing earlier is stored.
        passed: suspicions that a person had accepted, and that were let pass.
        dropped: (symbol, date) of stored rows that an accepted history does not have.
        overwritten: symbols whose history replaces what is stored even where it lacks values.
        stale: stretches of equal bars that have new rows, of all symbols; see `frozen`.
        warnings: what was let pass and is worth a look.
        held_back: symbols whose rows are stored without `adj_close`, and why.
        events: what was judged of single events, columns `quality.events.EVENTS`.
        outdated: (symbol, date) of events whose notes no longer apply.
        taken_out: (symbol, date) of named splits that the source takes out of its prices, though it does not say so.
    """

    batch: Batch
    restated: Mapping[str, Restatement]
    suspects: Mapping[str, Suspicion]
    carried_holds: Mapping[str, Sequence[Suspicion]]
    kept_from: Mapping[str, date]
    passed: Mapping[str, Suspicion]
    dropped: pl.DataFrame
    overwritten: Collection[str]
    stale: pl.DataFrame
    warnings: tuple[str, ...]
    held_back: Mapping[str, Suspicion] = field(default_factory=dict[str, Suspicion])
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    outdated: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_KEYS))
    beside: Mapping[str, Sequence[Suspicion]] = field(default_factory=dict[str, Sequence[Suspicion]])
    held_bars: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_KEYS))
    taken_out: frozenset[tuple[str, date]] = frozenset()

    def reasons(self) -> dict[str, list[Suspicion]]:
        """All that is held: of whole symbols first, and last what is stored without its `adj_close`."""
        found: dict[str, list[Suspicion]] = {}
        one = [{symbol: [why] for symbol, why in holds.items()} for holds in (self.suspects, self.held_back)]
        for holds in (one[0], self.beside, one[1]):
            for symbol, suspicions in holds.items():
                found.setdefault(symbol, []).extend(suspicions)
        return found

    def seen_of(self, symbol: str, *, held_back: bool) -> list[Suspicion]:
        """What keeps rows of a symbol out now, or its `adj_close`."""
        if held_back:
            return [self.held_back[symbol]] if symbol in self.held_back else []
        first = [self.suspects[symbol]] if symbol in self.suspects else []
        return [*first, *self.beside.get(symbol, ())]


@dataclass(frozen=True)
class Base:
    """The version that a batch is held against, with what its ledgers say.

    `held` are open suspicions, `accepted` those that a person let pass, `left` the (symbol, date) of stored
    rows that have left the calendar. `look_again` are symbols whose whole history is due: their
    `adj_close` is held back, or lacks a named dividend.
    """

    manifest: SyncManifest | None
    completeness: Completeness
    held: Mapping[str, Sequence[Suspicion]] = field(default_factory=dict[str, Sequence[Suspicion]])
    accepted: Mapping[str, Sequence[Suspicion]] = field(default_factory=dict[str, Sequence[Suspicion]])
    actions: pl.DataFrame | None = None
    left: pl.DataFrame | None = None
    look_again: frozenset[str] = frozenset()
