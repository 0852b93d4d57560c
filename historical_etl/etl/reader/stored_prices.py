"""StoredPrices: what is stored in one data folder, and how it is read. Fetching and writing rows are not here."""

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime, timedelta
from typing import get_args

import polars as pl

from historical_etl.catalog.catalog import Catalog
from historical_etl.catalog.query import query
from historical_etl.clock import Clock, as_date, with_zone
from historical_etl.errors import CatalogError, ChecksumMismatchError, ConfigurationError
from historical_etl.etl.completeness.calendar_change import CalendarChange, joined_in_words, misfit, rebased
from historical_etl.etl.completeness.completeness import GAP_OPEN, Completeness
from historical_etl.etl.completeness.load import load_completeness
from historical_etl.etl.reader.adjusted import Adjust, adjusted, unknown_bases
from historical_etl.etl.reader.bar_history import bar_history
from historical_etl.etl.reader.cached import LastValueCache
from historical_etl.etl.reader.citation import Citation, version_at, version_named
from historical_etl.etl.reader.known_symbols import known_symbols, refuse_unknown
from historical_etl.etl.reader.store_folder import is_untouched, nothing_stored
from historical_etl.etl.symbology.names import RENAMED, Names
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.models import DATASET_ID, ETLProgressManifest, SyncManifest
from historical_etl.schema import empty_frame
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased, stay_leased
from historical_etl.store.ledgers import read_ledger, read_named_ledger
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import load_progress
from historical_etl.store.transaction import recover
from historical_etl.store.vacuum import Retention
from historical_etl.store.verified_files import require_verified
from historical_etl.symbols import normalize_symbols

__all__ = ["StoredPrices"]

_log = logging.getLogger(__name__)


class StoredPrices:
    """The committed bars of one data folder. Reading takes no lock and is never blocked by a writer.

    `expected` None takes any version; else the store is read only while its current version is the cited one.
    """

    def __init__(
        self, layout: Layout, manifests: ManifestManager, settings: Settings, clock: Clock, writer_id: str
    ) -> None:
        self.layout = layout
        self.manifests = manifests
        self.settings = settings
        self.clock = with_zone(clock)
        self.writer_id = writer_id
        self.catalog = Catalog(layout)
        self.expected: Citation | None = None
        self._completeness = LastValueCache[tuple[SyncManifest | None, str], Completeness]()
        self._change = LastValueCache[tuple[SyncManifest | None, str], CalendarChange]()
        self._known = LastValueCache[SyncManifest, frozenset[str]]()
        self._names = LastValueCache[SyncManifest | None, Names]()

    def query_sql(
        self,
        sql: str,
        params: Sequence[object] | Mapping[str, object] | None = None,
        *,
        version: int | str | None = None,
        as_of: datetime | date | str | None = None,
        in_process: bool = False,
    ) -> pl.DataFrame:
        """Run one reading SQL statement over the views of a version: prices, partitions and ledgers.

        It runs in a process of its own, which the kernel holds to the settings `query_timeout_seconds` and
        `query_memory`, its planning included. Times are in UTC.

        Args:
            sql: a single SELECT, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN.
            params: values for `?` (a sequence) or `$name` (a mapping).
            version: as in `manifest`.
            as_of: as in `manifest`.
            in_process: run it in this process, for large answers to statements that you vouch for. Nothing stops such
                a query, and only DuckDB itself heeds `query_memory`.

        Raises:
            CatalogError: DuckDB refuses the statement, or it goes beyond a limit.
            ChecksumMismatchError: a file that it needs is not what was committed.
            ConfigurationError: nothing was committed yet, or no such version is kept.
        """
        with self.lease(version, as_of) as manifest:
            limits = self.settings
            return query(
                self.layout,
                manifest,
                sql,
                params,
                seconds=limits.query_timeout_seconds,
                memory=limits.query_memory,
                in_process=in_process,
            )

    def scan(
        self,
        symbols: Iterable[str] | str | None = None,
        start: date | datetime | str | None = None,
        end: date | datetime | str | None = None,
        *,
        adjust: Adjust | None = None,
        version: int | str | None = None,
        as_of: datetime | date | str | None = None,
    ) -> pl.LazyFrame:
        """The bars of a version, lazily; columns and dtypes as in `SCHEMA`.

        Only files of years that the range meets are opened, after it is proven that they are the committed ones: now,
        not when the frame is collected. Whatever the store does in between changes no row; a file that is edited, or
        rots, in place is refused by the next call only. Rows come in the order of storage (by month, then symbol, then
        date): sort where order matters. The version stays readable while this process scans no more than three others;
        `lease` and `pin` keep it for longer.

        Args:
            symbols: None takes all. A former name means the symbol that it was renamed to.
            start: first date, included; None is unbounded.
            end: last date, included; None is unbounded.
            adjust: None gives prices as stored. `"none"` gives them as traded, `"splits"` comparable over splits,
                `"total"` on the basis of `adj_close`: open, high, low and close are scaled alike, volume by splits
                only. `adj_close` and `ret` stay. Such rows come sorted by (symbol, date). What is not known is null,
                and a warning of the log names the symbols: with `"total"` bars without `adj_close` of a series that
                has one elsewhere; all bars of a symbol of which nobody named the splits (or, for `"total"`, the
                dividends) that it takes, and which has no `adj_close` to tell them from.
            version: as in `manifest`.
            as_of: as in `manifest`.

        Raises:
            ConfigurationError: nothing was committed yet, a malformed or unknown symbol, a malformed date or `adjust`,
                or no such version is kept.
            ChecksumMismatchError: a file that is needed is not what was committed.
        """
        if adjust not in (None, *get_args(Adjust)):
            todo = f"use None, {', '.join(map(repr, get_args(Adjust)))}"
            raise ConfigurationError(f"Unknown adjustment {adjust!r}", where="adjust", todo=todo)
        manifest = self._to_be_scanned(version, as_of)
        low = date.min if start is None else as_date(start, "start")
        high = date.max if end is None else as_date(end, "end")
        needed = [year for year in manifest.partitions if year.first_session <= high and low <= year.last_session]
        with leased(self.layout, manifest.version):  # other threads may scan enough to end the one that stays
            names = None if symbols is None else self.named(symbols, manifest)
            require_verified(self.layout, needed)
        paths = [self.layout.resolve(partition.path) for partition in needed]
        rows = pl.scan_parquet(paths, glob=False) if paths else empty_frame().lazy()
        if names is not None:
            rows = rows.filter(pl.col("symbol").is_in(names))
        if start is not None or end is not None:
            rows = rows.filter(pl.col("date").is_between(low, high))
        if adjust is None:
            return rows
        whole = self.scan(names, version=manifest.version)
        actions = read_ledger(self.layout, manifest, "actions")
        unknown = unknown_bases(whole, actions, read_ledger(self.layout, manifest, "symbols"), adjust)
        for concerned, why in unknown.why(rows, adjust):
            _log.warning("adjust=%r gives null for %s: %s", adjust, concerned, why)
        return adjusted(rows, actions, whole, adjust, unknown)

    def manifest(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> SyncManifest | None:
        """The current version, or a kept one; None if nothing was ever committed.

        Args:
            version: a number, or the name of a pin.
            as_of: the time at which it stood; a date means its end, in UTC.

        Raises:
            ConfigurationError: no such version is kept, or both arguments are given.
            ChecksumMismatchError: the store was opened to read another version.
        """
        if version is not None and as_of is not None:
            raise ConfigurationError("version and as_of exclude each other", where="as_of", todo="give one of them")
        if version is not None:
            manifest = version_named(self.manifests, version)
        elif as_of is not None:
            manifest = version_at(self.manifests, as_of)
        else:
            manifest = self.manifests.load_manifest()
        if self.expected is not None:
            self.expected.require(manifest, self.layout.root)
        return manifest

    def named(self, symbols: Iterable[str] | str, manifest: SyncManifest) -> list[str]:
        """The symbols that a read of a version asks for, as they are stored.

        Raises:
            ConfigurationError: a malformed symbol, or one that no ledger of the version has heard of.
        """
        given = normalize_symbols(symbols)
        meant = self._meant_in(manifest, given)
        known = self._known.of(manifest, lambda: known_symbols(self.layout, manifest, self.calendar))
        if not known.issuperset(meant):
            unknown = [name for name in given if known.isdisjoint([name, *self._meant_in(manifest, [name])])]
            refuse_unknown(self.layout, manifest, unknown, known)
        return meant

    def require_manifest(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> SyncManifest:
        """As `manifest`, for a read: where nothing was committed, that is an error.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet, or if this process was forked from
            one in which Polars had threads.
        """
        refuse_lost_threads()
        manifest = self.manifest(version, as_of)
        if manifest is None:
            raise nothing_stored(self.layout)
        return manifest

    @contextmanager
    def lease(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> Generator[SyncManifest]:
        """Keep a version from being vacuumed for the block, whatever writers do meanwhile; arguments as `manifest`.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet.
        """
        while True:
            manifest = self.require_manifest(version, as_of)
            with leased(self.layout, manifest.version) as there:
                # It may have been vacuumed before the lease was there; then there is a newer one.
                if there or manifest == self.manifest(version, as_of):
                    yield manifest
                    return

    def progress(self) -> ETLProgressManifest | None:
        """The saved progress; None if there is none, or if it belongs to a version that does not stand."""
        progress = load_progress(self.layout, self.clock)
        manifest = self.manifest()
        version = manifest.version if manifest else 0
        return None if progress is None or progress.data_version > version else progress

    def cursors(self) -> dict[str, date]:
        """Each stored symbol's cursor, its last contiguous session.

        Raises:
            ConfigurationError: nothing was committed yet.
        """
        return self.completeness_of(self.require_manifest()).cursors()

    def ledger(self, name: str, *, version: int | str | None = None) -> pl.DataFrame:
        """All rows of a ledger in a version, oldest first; see `docs/concepts/ledgers.md`.

        `gaps` and `holds` give those that stand and those that are closed. `version` is as in `manifest`.

        Raises:
            ConfigurationError: nothing was committed yet, or there is no such ledger.
            ChecksumMismatchError: a file of it is damaged.
        """
        return read_named_ledger(self.layout, self.require_manifest(version), name)

    def gaps(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - as people say it
        """Missing sessions that are asked for again; `all` gives also confirmed, waived, ended and filled ones."""
        gaps = self.ledger("gaps")
        return gaps if all else gaps.filter(pl.col("status") == GAP_OPEN)

    def holds(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - likewise
        """Symbols whose rows are held, and why; `all` gives also accepted and released ones."""
        holds = self.ledger("holds")
        return holds if all else holds.filter(pl.col("status") == GAP_OPEN)

    def explain(self, symbol: str, day: date | datetime | str) -> pl.DataFrame:
        """Every value that a bar ever had, when, and why it changed; oldest first.

        Columns: version, committed_at, event (stored, corrected, restated, removed, refused, flagged, withheld, gap,
        filled, waived, held, released, accepted, split, renamed), and for events about a cell column, old and new; why.
        Empty where nothing is known of that session.

        Raises:
            ConfigurationError: nothing was committed yet, a malformed or unknown symbol, or a malformed date.
            ChecksumMismatchError: a ledger is damaged.
        """
        manifest = self.require_manifest()
        self.named([symbol], manifest)
        date_ = as_date(day, "day")
        name = self.meant(symbol, date_)
        rows = self.scan(name, date_, date_).collect()
        now = rows.row(0, named=True) if rows.height else None
        return bar_history(self.layout, manifest, name, date_, now, self.calendar, self.names_of(manifest))

    def publish_catalog(self) -> SyncManifest:
        """Make the catalog file show the current version; returns that version.

        Raises:
            CatalogError: nothing was committed yet, or the file cannot be built or swapped in.
            LockTimeoutError: another writer kept the store.
        """
        if is_untouched(self.layout):
            missing = nothing_stored(self.layout)
            raise CatalogError(missing.what, where=missing.where, todo=missing.todo)
        with self.lock() as token:
            manifest = recover(self.manifests, token, self.retention)
            if manifest is None:
                raise CatalogError(
                    "Nothing was committed yet", where=self.layout.root, todo="run `historical-etl backfill` first"
                )
            self.catalog.publish(manifest)
        return manifest

    @property
    def calendar(self) -> SessionCalendar:
        """The sessions of the configured exchange."""
        return calendar_of(self.settings)

    def last_closed_session(self) -> date:
        """The last session that closed at least the settle delay ago, by the clock."""
        return self.calendar.last_closed(self.clock(), timedelta(minutes=self.settings.settle_minutes))

    def completeness(self) -> Completeness:
        """Which sessions of each symbol are stored in the current version, and where the missing ones stand."""
        return self.completeness_of(self.manifest())

    def completeness_of(self, manifest: SyncManifest | None) -> Completeness:
        """The account of a version, by the calendar of today; that of the last one asked for is remembered."""
        calendar = self.calendar

        def completeness() -> Completeness:
            found, change = load_completeness(self.layout, manifest, calendar), self.calendar_change(manifest)
            return rebased(found, change, calendar) if misfit(manifest, calendar, change) is None else found

        return self._completeness.of((manifest, calendar.version), completeness)

    def calendar_change(self, manifest: SyncManifest | None) -> CalendarChange:
        """What has left or joined the calendar since a version was committed; looked for only where it has changed."""
        calendar = self.calendar
        key = manifest, calendar.version
        return self._change.of(key, lambda: CalendarChange.of(self.layout, manifest, calendar))

    def calendar_trouble(self) -> ConfigurationError | None:
        """Why no run can go on with this calendar; None if one can."""
        manifest = self.manifest()
        return misfit(manifest, self.calendar, self.calendar_change(manifest))

    def require_calendar(self) -> None:
        """Raise what `calendar_trouble` tells: what is known of sessions is not written by another calendar."""
        if (trouble := self.calendar_trouble()) is not None:
            raise trouble

    def calendar_notes(self) -> list[str]:
        """What the next commit does because the calendar has changed since the last one."""
        manifest = self.manifest()
        change = self.calendar_change(manifest)
        if misfit(manifest, self.calendar, change) is not None:
            return []
        return [words for words in (change.left_in_words(), joined_in_words(self.completeness_of(manifest))) if words]

    def meant(self, symbol: str, day: date | None = None) -> str:
        """The stored symbol that a name means today, or that has the name's bar of a day.

        Raises:
            ConfigurationError: a malformed symbol.
        """
        (name,) = normalize_symbols([symbol])
        names = self.names_of(self.manifest())
        return names.resolve([name])[0] if day is None else names.on(name, day)

    def names_of(self, manifest: SyncManifest | None) -> Names:
        """What names mean in a version; those of the last one asked for are remembered.

        Raises:
            ChecksumMismatchError: the ledger `aliases` is damaged.
        """
        return self._names.of(manifest, lambda: Names.of(self.layout, manifest))

    @property
    def retention(self) -> Retention:
        """What is kept of older versions."""
        return Retention(self.settings.keep_versions, self.settings.keep_days)

    def lock(self) -> AbstractContextManager[LockToken]:
        """The writer lock, for a `with` block.

        Raises:
            LockTimeoutError: another writer kept it.
            ConfigurationError: the store was opened to read one version only.
        """
        if self.expected is not None:
            raise ConfigurationError(
                f"The store was opened to read {self.expected} and nothing else",
                where="expect",
                todo="open it without `expect` to write",
            )
        return self.manifests.acquire_lock(DATASET_ID, self.writer_id, self.settings.lock_timeout_seconds)

    def _meant_in(self, manifest: SyncManifest, named: list[str]) -> list[str]:
        """What names mean in a version: an older one has a symbol under the name that it had then.

        Where the ledger is damaged, prices are read by the names they are stored under.
        """
        try:
            meant = self.names_of(manifest).resolve(named)
            current = self.manifest()
            if current is None or current.version == manifest.version:
                return meant
            later = Names.of(self.layout, current)
            then = [alias for symbol in meant for alias in later.former(symbol) if alias.version > manifest.version]
            return [*meant, *(alias.alias for alias in then if alias.kind == RENAMED)]
        except ChecksumMismatchError as damage:
            _log.warning("%s Former names are not known", damage)
            return named

    def _to_be_scanned(self, version: int | str | None, as_of: datetime | date | str | None) -> SyncManifest:
        while True:
            manifest = self.require_manifest(version, as_of)
            if stay_leased(self.layout, manifest.version):
                return manifest
            if manifest == self.manifest(version, as_of):
                return manifest  # the history lacks it, though it stands
