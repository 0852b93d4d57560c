"""HistoricalETL: fetch → validate → reconcile → merge → commit → publish.

This page says what the runs are; `run` has their steps, each with a module of its own. Fetching, judging (`batch`)
and holding what came against what is stored (`reconcile`) need no lock; it is held from the merge to the saved
progress (`commit`).
"""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from datetime import date, datetime
from pathlib import Path
from typing import Self

import polars as pl

from historical_etl.clock import Clock, as_date, system_clock
from historical_etl.errors import (
    ConfigurationError,
    CoverageError,
    RateLimitedError,
)
from historical_etl.etl.commit.decisions import accept_hold, decision, waive_gaps
from historical_etl.etl.fetch.fetch import Fetcher, as_source
from historical_etl.etl.fetch.renamed_source import with_names
from historical_etl.etl.fetch.requests import Window, increment_requests, request_hash, symbols_without_history
from historical_etl.etl.fetch.staged import forget_plan, staged
from historical_etl.etl.identity.identities import SecurityIdentities
from historical_etl.etl.maintenance.repair import RepairReport, repair
from historical_etl.etl.maintenance.rollback import roll_back
from historical_etl.etl.reader.citation import Citation
from historical_etl.etl.run_stats import RunStats, YearEvent
from historical_etl.etl.runs.clock_trust import trusted_completeness
from historical_etl.etl.runs.windows import ignore_event, record_failure
from historical_etl.models import ETLResult, SyncManifest
from historical_etl.quality.validator import DataValidator
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.replay import clock_for
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_undamaged
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Transaction
from historical_etl.symbols import normalize_symbols

__all__ = ["HistoricalETL", "stored_through"]

_log = logging.getLogger(__name__)


class HistoricalETL(SecurityIdentities):
    """A store of daily bars, and the runs that fill it.

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
        **overrides: object,
    ) -> None:
        layout = Layout.of_storage(storage_path, catalog_path)
        manifests = manifest_manager or ManifestManager(layout, clock=clock)
        changes = overrides | ({"exchange": exchange} if exchange else {})
        changed = (settings or load_settings()).changed(changes)
        gate = validator or DataValidator(changed.exchange, calendar_corrections=changed.calendar_corrections)
        super().__init__(layout, manifests, changed, clock, writer_id, as_source(fetcher), gate)

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
        )
        if expect is not None:
            store.expected = Citation.parse(expect)
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
            progress: told of each year as it is started, committed, failed, or left out by `resume`.
            command: what the ledger `runs` calls it.

        Raises:
            ConfigurationError: a malformed symbol or date, an empty list, a reversed range; or the calendar's data end
                before the range and before now: what was known to be a session is committed then.
            CoverageError: a year of the range lies outside what the source covers; nothing was fetched.
            DataQualityError: a year was refused. With several failures the first is raised, with a note that
                names every year.
            ProviderError: the source failed.
            LockTimeoutError, DiskSpaceError, StorageError: the run stopped there; committed years stand.
        """
        start, end = as_date(start_date, "start_date"), as_date(end_date, "end_date")
        request = FetchRequest(tuple(self._meant(normalize_symbols(symbols), start, end)), start, end)
        if rebuild:
            forget_plan(self.source)
        windows = self._windows(start, end)
        name = request_hash(request.symbols, start, end, self.source.info)
        done = self._progress.years_done(name) if resume and not rebuild else set[int]()
        stats = RunStats(windows[0].start, windows[-1].end, notes=self._clipped(start))
        run = self._run("rebuild" if rebuild else command, stats, rebuild=rebuild)
        with record_failure(run):
            try:
                first = windows[0].year

                def fetching(done: int, total: int) -> None:
                    (progress or ignore_event)(YearEvent(first, "fetching", done, total))

                with staged(self, run.source, request.symbols, windows, name, fetching) as run.source:
                    result = self._run_windows(
                        run, request.symbols, windows, request=name, done=done, progress=progress
                    )
            except RateLimitedError:
                committed = done | self._progress.years_done(name)
                save_progress(self.layout, self._progress.of_years(name, windows, committed, "paused"))
                raise
        self._require_calendar(end)
        return result

    @contextmanager
    def prefetched(self, years: Sequence[int], symbols: Iterable[str] | str | None = None) -> Generator[Self]:
        """This store with several years fetched at once, for `run_year` on each of them inside the block.

        A source that is asked symbol by symbol is then asked once for each, however many years there are. Years that
        the source does not cover are left to `run_year` to refuse.

        Raises: as `run_full_etl`, for what concerns the fetch.
        """
        windows: list[Window] = []
        for year in sorted(set(years)):
            with suppress(CoverageError, ConfigurationError):
                windows += self._windows(date(year, 1, 1), date(year, 12, 31))
        named = normalize_symbols(symbols) if symbols is not None else None
        wanted = sorted({symbol for window in windows for symbol in self._wanted(named, window)})
        if not wanted:
            yield self
            return
        name = request_hash(wanted, windows[0].start, windows[-1].end, self.source.info)
        etl = copy(self)
        source = with_names(self.source, self.names_of(self.manifest()), self._stored_levels)
        with staged(self, source, wanted, windows, name) as etl.source:
            yield etl

    def run_year(self, year: int, symbols: Iterable[str] | str | None = None, *, publish: bool = True) -> ETLResult:
        """Fetch, check and commit one year, as far as it is covered and has closed.

        Args:
            year: the calendar year.
            symbols: None takes the universe of that year, and whatever else the store knows.
            publish: whether to refresh the catalog afterwards.

        Raises: as `run_full_etl`.
        """
        if not date.min.year < year < date.max.year:
            raise ConfigurationError(f"{year} is not a year", where="year", todo="write it with four digits")
        windows = self._windows(date(year, 1, 1), date(year, 12, 31))
        wanted = self._wanted(normalize_symbols(symbols) if symbols is not None else None, windows[0])
        clipped = self._clipped(date(year, 1, 1))
        run = self._run("year", RunStats(windows[0].start, windows[-1].end, notes=clipped))
        with record_failure(run):
            return self._run_windows(run, tuple(wanted), windows, publish=publish)

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
            too many symbols came empty at once.
        """
        completeness, end = trusted_completeness(self, self.manifest()), self.available_through()
        held = read_undamaged(self.layout, self.manifest(), "open_holds")  # also what is not stored at all yet
        names = self.names_of(self.manifest())
        known = {*completeness.symbols.get_column("symbol"), *held.get_column("symbol"), *names.awaited}
        known -= names.made_up & completeness.ended()
        wanted = names.resolve(normalize_symbols(symbols)) if symbols is not None else sorted(known)
        if not wanted:
            self.require_store()
            raise ConfigurationError(
                "The store is empty: there is nothing to update",
                where=self.layout.root,
                todo="run `historical-etl backfill` first, or name symbols",
            )
        coverage = self.source.info.coverage
        requests = increment_requests(
            wanted,
            completeness,
            first=max(self.settings.start, coverage.first) if coverage else self.settings.start,
            covered=coverage.first if coverage else None,
            end=end,
            overlap_sessions=self.settings.overlap_sessions,
            batch=self.settings.batch_symbols,
            calendar=self.calendar,
            insist=symbols is not None,
            kept_from=dict(held.drop_nulls("kept_from").group_by("symbol").agg(pl.col("kept_from").min()).iter_rows()),
            since=names.begins,
        )
        run = self._run(
            "increment", RunStats(min((r.start for r in requests), default=end), end), refetch_on_corporate_action=True
        )
        run.stats.sessions_missing = completeness.missing()
        run.stats.notes += self._clipped(self.settings.start) if set(wanted) - known else []
        with record_failure(run):
            if requests:  # else every symbol has ended, and none is due
                without_history = symbols_without_history(requests, completeness)
                run.take(requests, f"increment-{end}", self._progress.after, without_history=without_history)
            if beyond_calendar and self.calendar_has_ended():
                run.stats.calendar_notes.append(self.calendar.end_in_words())
            result = self._close(run.stats, publish=publish)
        if not beyond_calendar:
            self._require_calendar(date.max)
        return result

    def rollback(self, version: int | str, *, reason: str = "", publish: bool = True) -> SyncManifest:
        """Let an older version stand again, under a new number: its bars, ledgers and cursors together.

        What came after it stays, as long as it is kept. A version that stands already makes no new one.

        Args:
            version: a number, or the name of a pin.
            reason: why, for the ledger `runs`.
            publish: whether to refresh the catalog afterwards.

        Returns:
            The version that then stands.

        Raises:
            ConfigurationError: the version is not kept.
            ChecksumMismatchError: a file of it is damaged; nothing was changed.
            LockTimeoutError, StorageError: nothing was committed.
        """
        self.require_store()
        manifest = roll_back(self, version, reason)
        if publish:
            self._publish_quietly()
        return manifest

    def repair(self, *, refetch: bool = False) -> RepairReport:
        """Mend what can be mended with certainty; the report says of the rest which years and symbols to fetch again.

        Nothing is deleted: what is replaced goes to quarantine.

        Args:
            refetch: fetch those years again, from this store's source.

        Raises:
            ConfigurationError: no run has ever left anything here.
            ManifestCorruptError: no manifest is left that could be used.
            LockTimeoutError, StorageError: what was mended until then stands.
        """
        return repair(self, self.check, self._fetch_again if refetch else None)

    def _fetch_again(self, year: int, symbols: list[str]) -> ETLResult:
        return self.run_year(year, symbols, publish=False)

    def accept(self, symbol: str, *, reason: str, by: str) -> ETLResult:
        """Let a held symbol pass: record who decided and why, then bring it up to date.

        What is accepted is what was seen. If something else looks wrong meanwhile, the symbol is held anew.

        Raises:
            ConfigurationError: the symbol is not held, its rows were refused, or no reason is given.
            As `run_incremental_etl`.
        """
        name = self.known_name(symbol)
        with self.lock() as token:
            accept_hold(Transaction(self.manifests, token, self.retention), name, reason, by)
        return self.run_incremental_etl([name])

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
        name = self.known_name(symbol) if symbol is not None else None
        self.require_store()
        first = as_date(start, "start")
        last = first if end is None else as_date(end, "end")
        sessions = self.calendar.between(first, last)
        self.require_calendar()
        with self.lock() as token:
            transaction = Transaction(self.manifests, token, self.retention)
            completeness = self.completeness_of(transaction.base)
            decided = decision(transaction, reason, by)
            after = completeness.waive(name, sessions, decided, self.calendar)
            waive_gaps(transaction, completeness, after, name, decided)
            save_progress(self.layout, self._progress.after(self.manifest(), after))
        self._publish_quietly(RunStats(first, last))
        return after.waived() - completeness.waived()


def stored_through(layout: Layout) -> date | None:
    """The last session that is stored; None if nothing is."""
    manifest = ManifestManager(layout).load_manifest()
    return manifest.end_date if manifest else None
