"""HistoricalETL: fetch → validate → reconcile → merge → commit → publish.

This page is a run from above; each step has its own module. Fetching and judging (`batch`) need no lock; the
lock is held from the merge to the saved progress (`commit`). Where new rows meet stored ones is the merge:
it counts the cells that changed.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self

import polars as pl

from historical_etl.clock import Clock, as_date, system_clock
from historical_etl.errors import (
    ConfigurationError,
    DataQualityError,
    HistoricalETLError,
    ProviderError,
    RateLimitedError,
)
from historical_etl.etl.batch import Batch, fetch_batch
from historical_etl.etl.commit import ProgressUpdate, commit_rows
from historical_etl.etl.fetching import Fetcher, as_source, in_batches
from historical_etl.etl.planning import Window, increment_requests, request_hash, year_windows
from historical_etl.etl.reading import StoredPrices
from historical_etl.etl.tally import Tally, YearEvent
from historical_etl.models import ETLProgressManifest, ETLResult, Outcome, SyncManifest
from historical_etl.quality.validator import DataValidator
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.symbols import normalize_symbols

__all__ = ["HistoricalETL"]

_log = logging.getLogger(__name__)


class HistoricalETL(StoredPrices):
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
        super().__init__(layout, manifests, (settings or load_settings()).changed(changes), clock, writer_id)
        self.source = as_source(fetcher)
        self.validator = validator or DataValidator(self.settings.exchange)

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
        **overrides: object,
    ) -> Self:
        """The store in the standard layout under `root`; `fetcher` None takes the configured source.

        The other arguments are the constructor's.
        """
        changed = (settings or load_settings()).changed(overrides)
        layout = Layout(root)
        return cls(
            fetcher if fetcher is not None else UnifiedDataFetcher(changed),
            layout.storage,
            layout.catalog,
            validator=validator,
            clock=clock,
            exchange=exchange,
            settings=changed,
            writer_id=writer_id,
        )

    def run_full_etl(
        self,
        symbols: Iterable[str] | str,
        start_date: date | datetime | str,
        end_date: date | datetime | str,
        resume: bool = True,  # noqa: FBT001, FBT002 - the published signature
        *,
        progress: Callable[[YearEvent], None] | None = None,
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
            progress: told of each year as it is started, committed, failed, or left out by `resume`.

        Raises:
            ConfigurationError: a malformed symbol or date, an empty list, a reversed range.
            CoverageError: a year of the range lies outside what the source covers; nothing was fetched.
            DataQualityError: a year was refused. With several failures the first is raised, with a note that
                names every year.
            ProviderError: the source failed.
            LockTimeoutError, DiskSpaceError, StorageError: the run stopped there; committed years stand.
        """
        start, end = as_date(start_date, "start_date"), as_date(end_date, "end_date")
        request = FetchRequest(tuple(normalize_symbols(symbols)), start, end)
        windows = self._windows(start, end)
        name = request_hash(request.symbols, start, end, self.source.info)
        done = self._years_done(name) if resume else set[int]()
        return self._run_windows(request.symbols, windows, publish=True, request=name, done=done, progress=progress)

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
        wanted = normalize_symbols(symbols) if symbols is not None else self._symbols_of(windows[0])
        return self._run_windows(tuple(wanted), windows, publish=publish)

    def run_incremental_etl(self, symbols: Iterable[str] | str | None = None, *, publish: bool = True) -> ETLResult:
        """Bring symbols up to the last closed session, in one commit over all years that this touches.

        Each symbol is asked for from its cursor, some stored sessions back. Only symbols with the outcome `ok`
        move their cursor, and only over sessions that are stored without a gap.

        Args:
            symbols: None takes every symbol the store knows. One it does not know starts at the setting `start`.
            publish: whether to refresh the catalog afterwards.

        Raises: as `run_full_etl`; ConfigurationError also if nothing is stored and no symbol is named.
        """
        known = self.cursors()
        wanted = normalize_symbols(symbols) if symbols is not None else sorted(known)
        if not wanted:
            raise ConfigurationError(
                "The store is empty: there is nothing to update",
                where=self.layout.root,
                todo="run `historical-etl backfill` first, or name symbols",
            )
        coverage, end = self.source.info.coverage, self.available_through()
        first = max(self.settings.start, coverage.first) if coverage else self.settings.start
        requests = list(
            increment_requests(
                {symbol: known.get(symbol) for symbol in wanted},
                first=first,
                end=end,
                overlap_sessions=self.settings.overlap_sessions,
                batch=self.settings.batch_symbols,
                calendar=self.calendar,
            )
        )
        start = requests[0].start
        tally = Tally(start, end)
        batch = self._fetch(requests, f"increment-{end}", start, tally)

        def moved_on(
            before: SyncManifest | None, after: SyncManifest | None, touched: pl.DataFrame
        ) -> ETLProgressManifest:
            stood = self._cursors_at(before)  # not `known`: another writer may have committed during the fetch
            came = [symbol for symbol, outcome in batch.outcomes.items() if outcome is Outcome.OK]
            rows = touched.filter(pl.col("symbol").is_in(came))
            return self._with_cursors(after, stood | self._cursors.advance(stood, rows))

        self._commit(batch, tally, moved_on)
        return self._close(tally, publish=publish)

    def _run_windows(
        self,
        symbols: Sequence[str],
        windows: Sequence[Window],
        *,
        publish: bool,
        request: str = "",
        done: Collection[int] = (),
        progress: Callable[[YearEvent], None] | None = None,
    ) -> ETLResult:
        """Commit one window after the other; `request` names a run that can be resumed, `done` its years."""
        tell = progress or _unheard
        tally = Tally(windows[0].start, windows[-1].end)
        completed = set(done)
        failures: dict[int, HistoricalETLError] = {}
        for window in windows:
            at = len([year for year in (*completed, *failures) if year <= window.year])
            step = YearEvent(window.year, "started", at, len(windows), tally.rows)
            if window.year in completed:
                tell(replace(step, step="resumed"))
                continue
            tell(step)

            def noted(*_: object, year: int = window.year, **__: object) -> ETLProgressManifest:
                return self._with_years(request, windows, completed | {year}, "running")

            try:
                self._run_window(symbols, window, tally, noted)
                completed.add(window.year)
                tell(replace(step, step="committed", done=at + 1, rows=tally.rows))
            except HistoricalETLError as error:
                _log.error("Year %d was not committed: %s", window.year, error)
                failures[window.year] = error
                tell(replace(step, step="failed", done=at + 1, error=error))
                if not _is_of_its_year(error):
                    break
        if not failures:
            return self._close(tally, publish=publish, years=self._with_years(request, windows, completed, "completed"))
        if tally.rows:
            with suppress(HistoricalETLError):  # what failed first is what the caller must hear of
                self._close(tally, publish=publish, years=self._with_years(request, windows, completed, "failed"))
        raise _first_of(failures, completed)

    def _run_window(
        self, symbols: Sequence[str], window: Window, tally: Tally, update_progress: ProgressUpdate
    ) -> None:
        parts = in_batches(symbols, self.settings.batch_symbols)
        requests = [FetchRequest(part, window.lead_in, window.end) for part in parts]
        batch = self._fetch(requests, str(window.year), window.start, tally)
        self._commit(batch, tally, update_progress)

    def _fetch(self, requests: Sequence[FetchRequest], name: str, store_from: date, tally: Tally) -> Batch:
        return fetch_batch(
            self.source,
            requests,
            name=name,
            store_from=store_from,
            last_closed=self.last_closed_session(),
            calendar=self.calendar,
            max_rejected_share=self.settings.max_rejected_share,
            quarantine=self.manifests.quarantine,
            tally=tally,
        )

    def _commit(self, batch: Batch, tally: Tally, update_progress: ProgressUpdate) -> None:
        info = self.source.info
        asked = request_hash(list(batch.outcomes), tally.start, tally.end, info)
        provenance = Provenance(info.name, info.version, info.adjustment, self.calendar.version, asked)
        with self._lock() as token:
            commit_rows(
                Transaction(self.manifests, token, self._retention),
                self.manifests,
                batch.rows,
                batch.lead_in,
                gate=self.validator.gate,
                provenance=provenance,
                update_progress=update_progress,
                tally=tally,
            )

    def _close(self, tally: Tally, *, publish: bool, years: ETLProgressManifest | None = None) -> ETLResult:
        """Save the last progress and publish; a catalog that cannot be published does not undo what is committed."""
        manifest = self.manifest()
        if years is not None and manifest is not None:
            with self._lock():
                manifest = self.manifest()
                cursors = self._cursors.rebuild(manifest)
                save_progress(self.layout, self._with_cursors(manifest, cursors, years))
        if publish and manifest is not None and self.catalog.shown_version() != manifest.version:
            try:
                with self._lock():  # whatever a crash left was put right by the commit
                    manifest = self.manifest() or manifest
                    self.catalog.publish(manifest)
            except HistoricalETLError as error:
                _log.error("The data is committed, the catalog is not up to date: %s", error)
                tally.catalog_error = str(error)
        return tally.result(manifest)

    def _windows(self, start: date, end: date) -> list[Window]:
        coverage = self.source.info.coverage
        closed = self.last_closed_session()
        return year_windows(start, end, coverage=coverage, last_closed=closed, calendar=self.calendar)

    def available_through(self) -> date:
        """The last session that can be had: it has closed, had time to settle, and the source covers it."""
        coverage, closed = self.source.info.coverage, self.last_closed_session()
        return min(closed, coverage.last) if coverage and coverage.last else closed

    def _symbols_of(self, window: Window) -> list[str]:
        """What a year without named symbols consists of: its universe, or where there is none, what is stored."""
        symbols = self.source.members(window.start, window.end) or list(self.settings.symbols or self.cursors())
        if not symbols:
            raise ConfigurationError(
                f"No symbols to fetch for {window.year}: there is no universe for it",
                where="symbols",
                todo="name symbols, or set HISTORICAL_ETL_SYMBOLS or HISTORICAL_ETL_UNIVERSE",
            )
        return symbols

    def _years_done(self, request: str) -> set[int]:
        """Years that an interrupted run of this very request has committed."""
        progress, manifest = self.progress(), self.manifest()
        if progress is None or manifest is None or progress.request_hash != request or progress.status == "completed":
            return set()
        done = set(progress.years_completed) & {partition.year for partition in manifest.partitions}
        if done:
            _log.info("Resuming an interrupted run: %s are committed already", sorted(done))
        return done

    def _with_years(
        self,
        request: str,
        windows: Sequence[Window],
        completed: Collection[int],
        status: Literal["running", "completed", "failed"],
    ) -> ETLProgressManifest:
        saved = self.progress() or ETLProgressManifest(last_updated=self.clock())
        if not request:  # a single year does not end another request that can be resumed
            return saved.model_copy(update={"last_updated": self.clock()})
        return saved.model_copy(
            update={
                "last_updated": self.clock(),
                "request_hash": request,
                "years_completed": sorted(completed),
                "years_remaining": [window.year for window in windows if window.year not in completed],
                "status": status,
            }
        )

    def _with_cursors(
        self, manifest: SyncManifest | None, cursors: Mapping[str, date], base: ETLProgressManifest | None = None
    ) -> ETLProgressManifest:
        saved = base or self.progress() or ETLProgressManifest(last_updated=self.clock(), status="completed")
        return saved.model_copy(
            update={
                "last_updated": self.clock(),
                "symbol_last_dates": dict(sorted(cursors.items())),
                "data_version": manifest.version if manifest else 0,
            }
        )


def _unheard(_: YearEvent) -> None:
    """Where nobody asked to be told."""


def _is_of_its_year(error: HistoricalETLError) -> bool:
    """Whether a failure concerns one year only, so that the others are worth trying."""
    return isinstance(error, DataQualityError | ProviderError) and not isinstance(error, RateLimitedError)


def _first_of(failures: Mapping[int, HistoricalETLError], completed: Collection[int]) -> HistoricalETLError:
    first = next(iter(failures.values()))
    if len(failures) + len(completed) > 1:
        first.add_note(
            f"Years that failed: {', '.join(map(str, failures))}. Years committed: "
            f"{', '.join(map(str, sorted(completed))) or 'none'}."
        )
    return first
