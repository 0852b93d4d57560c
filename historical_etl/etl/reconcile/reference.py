"""What a batch is held against: one version of the store, and by which rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from historical_etl.etl.reconcile.result import Base
from historical_etl.etl.reconcile.stale_feed import FrozenFeed
from historical_etl.etl.reconcile.stored_levels import StoredLevels
from historical_etl.quality.suspicion import Suspicion
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import SourceInfo
from historical_etl.store.layout import Layout

__all__ = ["Reference"]


@dataclass(frozen=True)
class Reference:
    """A version of the store, and the rules of one run.

    Attributes:
        base: the version.
        layout: where the stored files lie.
        calendar: the exchange's sessions.
        info: the source.
        long_gap: sessions without a bar after which a price break is suspicious.
        overlap: how many stored sessions to compare with.
        frozen: looks for bars that repeat.
        is_increment: whether what is stored is complete but for new sessions. Then an event that the source names after
            a symbol's last stored session calls for the symbol's whole history: it may be restated, even where the
            overlap is equal.
    """

    base: Base
    layout: Layout
    calendar: SessionCalendar
    info: SourceInfo
    long_gap: int
    overlap: int
    frozen: FrozenFeed
    is_increment: bool

    @cached_property
    def levels(self) -> StoredLevels:
        """Reads the stored price levels."""
        return StoredLevels(self.layout, self.base.manifest, left=self.base.left)

    @cached_property
    def lives(self) -> Mapping[str, tuple[date, date]]:
        """First and last stored session of each symbol."""
        columns = ("symbol", "first_session", "last_session")
        return {symbol: (first, last) for symbol, first, last in self.base.completeness.symbols[columns].iter_rows()}

    def is_accepted(self, symbol: str, suspicion: Suspicion) -> bool:
        """Whether a person has let it pass."""
        return any(suspicion.same_as(accepted) for accepted in self.base.accepted.get(symbol, ()))
