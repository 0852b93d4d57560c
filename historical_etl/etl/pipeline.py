"""HistoricalETL: the published face of a store. Each method hands on to the object that does the work."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Self

import polars as pl

from historical_etl.arguments import typed_arguments
from historical_etl.catalog.catalog import Catalog
from historical_etl.clock import Clock, system_clock
from historical_etl.etl.completeness import Completeness
from historical_etl.etl.context import Citation, StoreContext
from historical_etl.etl.fetch import Fetcher, as_source, look_anew
from historical_etl.etl.identity import IdentityChange, SecurityIdentities
from historical_etl.etl.maintenance import RepairReport
from historical_etl.etl.price_store import PriceStore
from historical_etl.etl.reader import Adjust
from historical_etl.etl.runs import Decisions, PriceRuns, RunSteps, YearEvent
from historical_etl.models import ETLProgressManifest, ETLResult, SyncManifest
from historical_etl.quality.validator import DataValidator
from historical_etl.sessions import SessionCalendar
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import PriceSource
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.replay import clock_for
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.pins import Pin
from historical_etl.store.vacuum import VacuumReport
from historical_etl.store.verify import VerifyReport

__all__ = ["HistoricalETL", "stored_through"]


@typed_arguments
class HistoricalETL:
    """A store of daily bars, and the runs that fill it.

    An argument of a wrong type is a ConfigurationError in every method.

    Args:
        fetcher: where bars come from: a `PriceSource`, or anything with `get_daily_prices`.
        storage_path: the folder of the partitions; manifests, progress and quarantine lie beside it.
        catalog_path: the DuckDB file that is published after each run.
        manifest_manager: default: one for the folder above `storage_path`.
        validator: the gate before each commit; default: `DataValidator(exchange)`.
        clock: returns the time, an aware UTC datetime; decides which sessions have closed.
        exchange: code of the exchange whose sessions count; default: the setting `exchange`.
        settings: default: read from the environment.
        writer_id: how the lock and the manifests name this writer.
        expect: the only version that may be read, see `open`.
        overrides: single settings by name, such as `overlap_sessions=3`.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        storage_path: str | Path = Path("data/historical"),
        catalog_path: str | Path = Path("data/duckdb/historical_catalog.duckdb"),
        manifest_manager: ManifestManager | None = None,
        validator: DataValidator | None = None,
        *,
        clock: Clock = system_clock,
        exchange: str | None = None,
        settings: Settings | None = None,
        writer_id: str = "historical_etl",
        expect: str | None = None,
        **overrides: object,
    ) -> None:
        changes = overrides | ({"exchange": exchange} if exchange else {})
        changed = (settings or load_settings()).changed(changes)
        expected = Citation.parse(expect) if expect is not None else None
        layout = Layout.of_storage(storage_path, catalog_path)
        self._context = StoreContext(layout, changed, clock, writer_id, manifest_manager, expected)
        self._store = PriceStore(self._context)
        self._state = self._store.state
        gate = validator or DataValidator(changed.exchange, calendar_corrections=changed.calendar_corrections)
        self._steps = RunSteps(self._state, as_source(fetcher), gate)
        self._runs = PriceRuns(self._steps)
        self._decisions = Decisions(self._steps, self._runs)
        self._identities = SecurityIdentities(self._state, gate.gate)

    @property
    def store(self) -> PriceStore:
        """The store without its source."""
        return self._store

    @property
    def source(self) -> PriceSource:
        """Where bars come from."""
        return self._steps.source

    @property
    def validator(self) -> DataValidator:
        """The gate before each commit."""
        return self._steps.validator

    @property
    def layout(self) -> Layout:
        """Where everything lies on disk."""
        return self._context.layout

    @property
    def manifests(self) -> ManifestManager:
        """The manifests of the store, and its lock."""
        return self._context.manifests

    @property
    def settings(self) -> Settings:
        """The settings that apply."""
        return self._context.settings

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self._context.clock

    @property
    def catalog(self) -> Catalog:
        """The DuckDB file that shows the current version."""
        return self._context.catalog

    @property
    def calendar(self) -> SessionCalendar:
        """The sessions of the configured exchange."""
        return self._context.calendar

    @classmethod
    def open(
        cls,
        root: str | Path = "data",
        fetcher: Fetcher | None = None,
        *,
        validator: DataValidator | None = None,
        clock: Clock = system_clock,
        exchange: str | None = None,
        settings: Settings | None = None,
        writer_id: str = "historical_etl",
        expect: str | None = None,
        **overrides: object,
    ) -> Self:
        """The store in the standard layout under `root`; `fetcher` None takes the configured source.

        With `expect`, a citation such as `historical_daily@v42:3fa1…`, the store is opened for reading that version and
        nothing else: once its current version is another one, every read is refused. The other arguments are the
        constructor's.

        Raises:
            ConfigurationError: a setting is wrong, or `expect` is no citation.
            ChecksumMismatchError: the current version is not the expected one.
        """
        changed = (settings or load_settings()).changed(overrides)
        layout = Layout(root)
        if clock is system_clock:
            clock = clock_for(changed, lambda: stored_through(layout))
        store = cls(
            fetcher if fetcher is not None else UnifiedDataFetcher(changed, clock=clock),
            layout.storage,
            layout.catalog,
            validator=validator,
            clock=clock,
            exchange=exchange,
            settings=changed,
            writer_id=writer_id,
            expect=expect,
        )
        store.manifest()
        return store

    def run_full_etl(
        self,
        symbols: Iterable[str] | str,
        start_date: date | datetime | str,
        end_date: date | datetime | str,
        resume: bool = True,  # noqa: FBT001, FBT002 - the published signature
        *,
        rebuild: bool = False,
        progress: Callable[[YearEvent], None] | None = None,
        command: str = "backfill",
    ) -> ETLResult:
        """Fetch, check and commit a range, one year at a time; both ends included.

        Every year is committed on its own. A year that fails does not stop the others: they are committed
        first, then the failure is raised.

        Args:
            symbols: what to fetch; rows of other symbols in the store are left as they are.
            start_date: first date; where the source begins later, it begins there.
            end_date: last date; sessions that have not closed are left for a later run.
            resume: if this very request (symbols, range, source) was interrupted, leave out the years that it
                had committed.
            rebuild: replace the whole stored history of each symbol that comes, in one commit; the way to another
                price basis. What was found out of the account's plan is forgotten first.
            progress: reported each year as it is started, committed, failed, or left out by `resume`.
            command: what the ledger `runs` calls it.

        Raises:
            ConfigurationError: a malformed symbol or date, an empty list, a reversed range; or the calendar's data end
                before the range and before now: what was known to be a session is committed then.
            CoverageError: a year of the range lies outside what the source covers; nothing was fetched.
            DataQualityError: a year was refused. With several failures the first is raised, with a note that
                names every year.
            ProviderError: the source failed.
            LockTimeoutError, DiskSpaceError, StorageError: the run stopped there; committed years stay.
        """
        return self._runs.run_full_etl(
            symbols, start_date, end_date, resume=resume, rebuild=rebuild, progress=progress, command=command
        )

    def prefetched(
        self, years: Sequence[int], symbols: Iterable[str] | str | None = None
    ) -> AbstractContextManager[PriceRuns]:
        """This store with several years fetched at once, for `run_year` on each of them inside the block.

        A source that is asked symbol by symbol is then asked once for each, however many years there are. Years that
        the source does not cover are left to `run_year` to refuse.

        Raises: as `run_full_etl`, for what concerns the fetch.
        """
        return self._runs.prefetched(years, symbols)

    def run_year(self, year: int, symbols: Iterable[str] | str | None = None, *, publish: bool = True) -> ETLResult:
        """Fetch, check and commit one year, as far as it is covered and has closed.

        Args:
            year: the calendar year.
            symbols: None takes the universe of that year, and whatever else the store knows.
            publish: whether to refresh the catalog afterwards.

        Raises: as `run_full_etl`.
        """
        return self._runs.run_year(year, symbols, publish=publish)

    def run_incremental_etl(
        self, symbols: Iterable[str] | str | None = None, *, publish: bool = True, beyond_calendar: bool = False
    ) -> ETLResult:
        """Bring symbols up to the last closed session, in one commit over all years that this touches.

        Each symbol is asked for from some stored sessions back, so that what comes meets what is stored: a history
        that was restated is fetched and replaced as a whole, a symbol that cannot be trusted is held. Gaps are asked
        for again, with growing pauses.

        Args:
            symbols: None takes every symbol the store knows. Those that are named are asked for all their gaps,
                whatever the pauses; one that the store does not know starts at the setting `start`.
            publish: whether to refresh the catalog afterwards.
            beyond_calendar: once the calendar's data have ended, only note it in the result, and raise nothing.

        Raises: as `run_full_etl`; ConfigurationError also if nothing is stored and no symbol is named, and once the
            calendar's data have ended, when the last session they name is committed; ProviderUnavailableError also if
            too many symbols were fetched without rows at once.
        """
        return self._runs.run_incremental_etl(symbols, publish=publish, beyond_calendar=beyond_calendar)

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
                a query, and only DuckDB itself respects `query_memory`.

        Raises:
            CatalogError: DuckDB refuses the statement, or it goes beyond a limit.
            ChecksumMismatchError: a file that it needs is not what was committed.
            ConfigurationError: nothing was committed yet, or no such version is kept.
        """
        return self._store.prices.query_sql(sql, params, version=version, as_of=as_of, in_process=in_process)

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
        return self._store.prices.scan(symbols, start, end, adjust=adjust, version=version, as_of=as_of)

    def manifest(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> SyncManifest | None:
        """The current version, or a kept one; None if nothing was ever committed.

        Args:
            version: a number, or the name of a pin.
            as_of: the time at which it was current; a date means its end, in UTC.

        Raises:
            ConfigurationError: no such version is kept, or both arguments are given.
            ChecksumMismatchError: the store was opened to read another version.
        """
        return self._context.manifest(version, as_of)

    def lease(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> AbstractContextManager[SyncManifest]:
        """Keep a version from being vacuumed for the block, whatever writers do meanwhile; arguments as `manifest`.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet.
        """
        return self._context.lease(version, as_of)

    def progress(self) -> ETLProgressManifest | None:
        """The saved progress; None if there is none, or if it belongs to a version that is not current."""
        return self._context.progress()

    def cursors(self) -> dict[str, date]:
        """Each stored symbol's cursor, its last contiguous session.

        Raises:
            ConfigurationError: nothing was committed yet.
        """
        return self._store.prices.cursors()

    def completeness(self) -> Completeness:
        """Which sessions of each symbol are stored in the current version, and what is known of the missing ones."""
        return self._state.completeness()

    def ledger(self, name: str, *, version: int | str | None = None) -> pl.DataFrame:
        """All rows of a ledger in a version, oldest first; see `docs/concepts/ledgers.md`.

        `gaps` and `holds` give those that are open and those that are closed. `version` is as in `manifest`.

        Raises:
            ConfigurationError: nothing was committed yet, or there is no such ledger.
            ChecksumMismatchError: a file of it is damaged.
        """
        return self._store.prices.ledger(name, version=version)

    def gaps(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - as people say it
        """Missing sessions that are asked for again; `all` gives also confirmed, waived, ended and filled ones."""
        return self._store.prices.gaps(closed=all)

    def holds(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - likewise
        """Symbols whose rows are held, and why; `all` gives also accepted and released ones."""
        return self._store.prices.holds(closed=all)

    def explain(self, symbol: str, day: date | datetime | str) -> pl.DataFrame:
        """Every value that a bar ever had, when, and why it changed; oldest first.

        Columns: version, committed_at, event (stored, corrected, restated, removed, refused, flagged, withheld, gap,
        filled, waived, held, released, accepted, split, renamed), and for events about a cell column, old and new; why.
        Empty where nothing is known of that session.

        Raises:
            ConfigurationError: nothing was committed yet, a malformed or unknown symbol, or a malformed date.
            ChecksumMismatchError: a ledger is damaged.
        """
        return self._store.prices.explain(symbol, day)

    def versions(self) -> pl.DataFrame:
        """The versions that are kept, oldest first: when, who, what changed, how large; columns `VERSIONS`.

        Raises:
            ConfigurationError: nothing was committed yet.
            ManifestCorruptError: one of their manifests is damaged.
        """
        return self._store.versions.table()

    def cite(self, version: int | str | None = None) -> str:
        """What names a version in papers and backtests: dataset, version and checksum; `open(expect=…)` takes it.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet.
        """
        return self._store.versions.cite(version)

    def pins(self) -> dict[str, Pin]:
        """The versions that are kept under a name, by name."""
        return self._store.versions.pins()

    def pin(self, name: str, version: int | str | None = None) -> Pin:
        """Keep a version, the current one by default, under a name until it is unpinned.

        Raises:
            ConfigurationError: the name is malformed or taken, or the version is not kept.
            LockTimeoutError, StorageError: it is not pinned.
        """
        return self._store.versions.pin(name, version)

    def unpin(self, name: str) -> Pin:
        """Remove a pin; the version goes with the next vacuum, unless something else keeps it.

        Raises:
            ConfigurationError: there is none of that name.
            LockTimeoutError, StorageError: it stays.
        """
        return self._store.versions.unpin(name)

    def diff(self, old: int | str, new: int | str | None = None) -> pl.DataFrame:
        """Every bar that is not the same in two versions, sorted by (symbol, date).

        Columns: date, symbol, change (added, removed, changed, renamed), columns (whose values changed), and of each
        value column `…_old` and `…_new`.

        Args:
            old: a number, or the name of a pin.
            new: likewise; None takes the current version.

        Raises:
            ConfigurationError: a version is not kept.
            ChecksumMismatchError: a file of it is damaged.
        """
        return self._store.versions.diff(old, new)

    def vacuum(
        self, *, dry_run: bool = False, keep_versions: int | None = None, keep_days: int | None = None
    ) -> VacuumReport:
        """Remove versions that nothing keeps, and the files that only they name; every commit does so, too.

        What the catalog shows, a pin names or a reader has open stays, whatever the policy.

        Args:
            dry_run: only tell what would go.
            keep_versions: keep the last so many; None takes the setting.
            keep_days: keep those that were current within so many days (`Retention`); None takes the setting.

        Raises:
            ConfigurationError: `keep_versions` or `keep_days` is out of the bounds of the setting.
            ManifestCorruptError: a kept version is damaged; nothing was removed.
            LockTimeoutError, StorageError: what is left goes the next time.
        """
        return self._store.versions.vacuum(dry_run=dry_run, keep_versions=keep_versions, keep_days=keep_days)

    def rollback(self, version: int | str, *, reason: str = "", publish: bool = True) -> SyncManifest:
        """Make an older version current again, under a new number: its bars, ledgers and cursors together.

        Later versions stay, as long as they are kept. If the current version is equal already, no new one is made.

        Args:
            version: a number, or the name of a pin.
            reason: why, for the ledger `runs`.
            publish: whether to refresh the catalog afterwards.

        Returns:
            The current version.

        Raises:
            ConfigurationError: the version is not kept.
            ChecksumMismatchError: a file of it is damaged; nothing was changed.
            LockTimeoutError, StorageError: nothing was committed.
        """
        return self._store.maintenance.rollback(version, reason=reason, publish=publish)

    def repack(self, *, publish: bool = True) -> SyncManifest:
        """Write every year in the layout of this release, as one version; rows and ledgers stay as they are.

        A year that an earlier release wrote is read more slowly, and is rewritten when rows of it change. This does
        it at once. It takes room for the years it rewrites until the version before is vacuumed.

        Args:
            publish: whether to refresh the catalog afterwards.

        Returns:
            The current version: the one before, if every year has that layout already.

        Raises:
            ConfigurationError: there is no store.
            ChecksumMismatchError: a year is damaged; nothing was changed.
            LockTimeoutError, StorageError: nothing was committed.
        """
        return self._store.maintenance.repack(publish=publish)

    def verify(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check that what lies on disk is what was committed: every byte, every row, every cursor. Writes nothing.

        Open holds and a run that failed last are no damage, and are reported as warnings.

        Args:
            quick: only what the file system tells: sizes, and whether links lead where they should.
            progress: called with how many of how many files are checked.

        Raises:
            ConfigurationError: nothing was committed yet, so there is nothing to check.
            ManifestTooNewError: a newer release wrote the store.
            StorageError: the folder cannot be read.
        """
        return self._store.maintenance.verify(quick=quick, progress=progress)

    def repair(self, *, refetch: bool = False) -> RepairReport:
        """Repair what can be repaired with certainty; the report names the years and symbols to fetch again.

        Nothing is deleted: what is replaced goes to quarantine.

        Args:
            refetch: fetch those years again, from this store's source.

        Raises:
            ConfigurationError: no run has ever left anything here.
            ManifestCorruptError: no manifest is left that could be used.
            LockTimeoutError, StorageError: what was repaired until then is unchanged.
        """
        return self._store.maintenance.repair(self._fetch_again if refetch else None)

    def _fetch_again(self, year: int, symbols: list[str]) -> ETLResult:
        return self.run_year(year, symbols, publish=False)

    def export(self, target: str | Path, version: int | str | None = None) -> Path:
        """Write one version, the current one by default, as a store of its own; see `maintenance.archive`."""
        return self._store.maintenance.export(target, version)

    def publish_catalog(self) -> SyncManifest:
        """Make the catalog file show the current version; returns that version.

        Raises:
            CatalogError: nothing was committed yet, or the file cannot be built or swapped in.
            LockTimeoutError: another writer kept the store.
        """
        return self._store.maintenance.publish_catalog()

    def accept(self, symbol: str, *, reason: str, by: str) -> ETLResult:
        """Let a held symbol pass: record who decided and why, then bring it up to date.

        What is accepted is what was seen. If something else looks wrong meanwhile, the symbol is held anew.

        Raises:
            ConfigurationError: the symbol is not held, its rows were refused, or no reason is given.
            As `run_incremental_etl`.
        """
        return self._decisions.accept(symbol, reason=reason, by=by)

    def waive(
        self,
        symbol: str | None,
        start: date | datetime | str,
        end: date | datetime | str | None = None,
        *,
        reason: str,
        by: str,
    ) -> int:
        """Let missing sessions stay missing: they are not asked for again, and the cursor passes them.

        Args:
            symbol: whose sessions; None takes every symbol, as for a day on which the whole market was closed.
            start: the first one.
            end: the last one, included; None takes `start` alone.
            reason: why, for the ledger.
            by: who decided.

        Returns:
            How many sessions were missing and are waived now.

        Raises:
            ConfigurationError: none of them is an open gap, no reason is given, or the calendar is another exchange's.
        """
        return self._decisions.waive(symbol, start, end, reason=reason, by=by)

    def rename(
        self,
        old: str,
        new: str,
        on: date | datetime | str,
        *,
        reason: str = "",
        by: str = "",
        force: bool = False,
        publish: bool = True,
    ) -> IdentityChange:
        """Go on with the history of a symbol under another name: from `on` on, `old` is called `new`.

        All years move in one commit, and a request by either name finds them. What `old` has from `on` on stays: it
        is another security's. Nothing is fetched.

        Args:
            old: the name until then.
            new: the name since then.
            on: the first date of the new name; it need not be a session.
            reason: why, for the ledger.
            by: who says so; empty takes the writer's name.
            force: do it although the histories contradict each other: rows of `new` win, those of `old` go to
                `replaced_rows`. Needs a reason. It also records a name of which nothing is stored.
            publish: whether to refresh the catalog afterwards.

        Raises:
            ConfigurationError: a name or the date is wrong, it contradicts a rename that is known, or the calendar is
                another exchange's.
            DataQualityError: the two histories do not fit each other; nothing was changed.
            LockTimeoutError, DiskSpaceError, StorageError: likewise.
        """
        return self._identities.rename(old, new, on, reason=reason, by=by, force=force, publish=publish)

    def rename_from(
        self, path: str | Path, *, reason: str = "", by: str = "", force: bool = False, publish: bool = True
    ) -> IdentityChange:
        """All renames of a CSV file with the columns old, new, date and perhaps reason, in one commit.

        Their order does not matter, those that are known are passed over, and so are those of which neither name is
        stored. A name that is not stored is recorded if the new one is. The other arguments are those of `rename`.

        Raises: as `rename`.
        """
        return self._identities.rename_from(path, reason=reason, by=by, force=force, publish=publish)

    def split(
        self,
        symbol: str,
        on: date | datetime | str | None = None,
        *,
        as_: str | None = None,
        reason: str,
        by: str,
        publish: bool = True,
    ) -> IdentityChange:
        """Another security has a ticker from a date on: what is stored of the one before moves to a name of its own.

        Nothing joins the two: no `ret`, no comparison. What has the ticker since then is `symbol`; its history comes
        with the next update. The one before has ended, and its new name is never asked for.

        Args:
            symbol: the ticker.
            on: the first date of the other security; None takes the session that is held.
            as_: the name for what was before; None makes one of the symbol and the year of its last bar, as in
                `ACME-2019`.
            reason: why, for the ledgers.
            by: who says so.
            publish: whether to refresh the catalog afterwards.

        Raises:
            ConfigurationError: nothing is held and no date is given, the date is to come, nothing is to be split off,
                the name is taken, or the calendar is another exchange's.
            LockTimeoutError, DiskSpaceError, StorageError: nothing was changed.
        """
        return self._identities.split(symbol, on, as_=as_, reason=reason, by=by, publish=publish)

    def last_closed_session(self) -> date:
        """The last session that closed at least the settle delay ago, by the clock."""
        return self._context.last_closed_session()

    def available_through(self) -> date:
        """The last session that can be had: it has closed, had time to settle, and the source covers it."""
        look_anew(self.source)
        return self._steps.available_through()

    def calendar_has_ended(self) -> bool:
        """Whether there may have been sessions, which the source has, after the last that the calendar knows."""
        look_anew(self.source)
        return self._steps.calendar_has_ended()


def stored_through(layout: Layout) -> date | None:
    """The last session that is stored; None if nothing is."""
    manifest = ManifestManager(layout).load_manifest()
    return manifest.end_date if manifest else None
