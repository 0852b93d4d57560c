"""VersionState: what the ledgers of a version say of sessions, names and the calendar. The last answer is cached."""

import logging
from collections.abc import Iterable
from datetime import date

from historical_etl.errors import ChecksumMismatchError, ConfigurationError
from historical_etl.etl.completeness import (
    CalendarChange,
    Completeness,
    joined_in_words,
    load_completeness,
    misfit,
    rebased,
)
from historical_etl.etl.context.known_symbols import known_symbols, refuse_unknown
from historical_etl.etl.context.last_value_cache import LastValueCache
from historical_etl.etl.context.store_context import StoreContext
from historical_etl.etl.symbology import RENAMED, Names
from historical_etl.models import SyncManifest
from historical_etl.symbols import normalize_symbols

__all__ = ["VersionState"]

_log = logging.getLogger(__name__)


class VersionState:
    """What is known of the versions of a store, beside their bars.

    Attributes:
        context: of the store.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context = context
        self._completeness = LastValueCache[tuple[SyncManifest | None, str], Completeness]()
        self._change = LastValueCache[tuple[SyncManifest | None, str], CalendarChange]()
        self._known = LastValueCache[SyncManifest, frozenset[str]]()
        self._names = LastValueCache[SyncManifest | None, Names]()

    def completeness(self) -> Completeness:
        """That of the current version."""
        return self.completeness_of(self.context.manifest())

    def completeness_of(self, manifest: SyncManifest | None) -> Completeness:
        """Which sessions of each symbol a version has, and which are missing, by the calendar of today."""
        calendar, layout = self.context.calendar, self.context.layout

        def completeness() -> Completeness:
            found, change = load_completeness(layout, manifest, calendar), self.calendar_change(manifest)
            return rebased(found, change, calendar) if misfit(manifest, calendar, change) is None else found

        return self._completeness.of((manifest, calendar.version), completeness)

    def calendar_change(self, manifest: SyncManifest | None) -> CalendarChange:
        """What has left or joined the calendar since a version was committed; looked for only where it has changed."""
        calendar = self.context.calendar
        key = manifest, calendar.version
        return self._change.of(key, lambda: CalendarChange.of(self.context.layout, manifest, calendar))

    def calendar_error(self) -> ConfigurationError | None:
        """Why no run can go on with this calendar from the current version; None if one can."""
        return self._calendar_error(self.context.manifest())

    def require_calendar(self, manifest: SyncManifest | None) -> None:
        """Refuse a calendar by which no run can go on from a version.

        Raises:
            ConfigurationError: what is known of sessions is not written by this calendar.
        """
        if (error := self._calendar_error(manifest)) is not None:
            raise error

    def _calendar_error(self, manifest: SyncManifest | None) -> ConfigurationError | None:
        return misfit(manifest, self.context.calendar, self.calendar_change(manifest))

    def calendar_notes(self) -> list[str]:
        """What the next commit does because the calendar has changed since the last one."""
        manifest = self.context.manifest()
        change = self.calendar_change(manifest)
        if misfit(manifest, self.context.calendar, change) is not None:
            return []
        return [words for words in (change.left_in_words(), joined_in_words(self.completeness_of(manifest))) if words]

    def names_of(self, manifest: SyncManifest | None) -> Names:
        """What names mean in a version.

        Raises:
            ChecksumMismatchError: the ledger `aliases` is damaged.
        """
        return self._names.of(manifest, lambda: Names.of(self.context.layout, manifest))

    def meant(self, symbol: str, day: date | None = None) -> str:
        """The stored symbol that a name means today, or that has the name's bar of a day.

        Raises:
            ConfigurationError: a malformed symbol.
        """
        (name,) = normalize_symbols([symbol])
        names = self.names_of(self.context.manifest())
        return names.resolve([name])[0] if day is None else names.on(name, day)

    def named(self, symbols: Iterable[str] | str, manifest: SyncManifest) -> list[str]:
        """The symbols that a read of a version asks for, as they are stored.

        Raises:
            ConfigurationError: a malformed symbol, or one that no ledger of the version names.
        """
        given = normalize_symbols(symbols)
        meant = self._meant_in(manifest, given)
        layout, calendar = self.context.layout, self.context.calendar
        known = self._known.of(manifest, lambda: known_symbols(layout, manifest, calendar))
        if not known.issuperset(meant):
            unknown = [name for name in given if known.isdisjoint([name, *self._meant_in(manifest, [name])])]
            refuse_unknown(layout, manifest, unknown, known)
        return meant

    def known_name(self, symbol: str) -> str:
        """The stored symbol that a name means today.

        Raises:
            ConfigurationError: there is no store, the symbol is malformed, or no ledger names it.
        """
        names = normalize_symbols([symbol])
        self.named(names, self.context.require_manifest())
        return self.meant(names[0])

    def _meant_in(self, manifest: SyncManifest, named: list[str]) -> list[str]:
        """What names mean in a version: an older one has a symbol under the name that it had then.

        Where the ledger is damaged, prices are read by the names they are stored under.
        """
        try:
            meant = self.names_of(manifest).resolve(named)
            current = self.context.manifest()
            if current is None or current.version == manifest.version:
                return meant
            later = Names.of(self.context.layout, current)
            then = [alias for symbol in meant for alias in later.former(symbol) if alias.version > manifest.version]
            return [*meant, *(alias.alias for alias in then if alias.kind == RENAMED)]
        except ChecksumMismatchError as damage:
            _log.warning("%s Former names are not known", damage)
            return named
