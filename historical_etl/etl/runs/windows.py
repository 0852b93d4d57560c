"""The steps that all runs share: one window after the other, the last progress, the catalog."""

import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date

import polars as pl

from historical_etl.clock import Clock
from historical_etl.durable import storage_errors
from historical_etl.errors import (
    ConfigurationError,
    CoverageError,
    DataQualityError,
    HistoricalETLError,
    ProviderError,
    RateLimitedError,
)
from historical_etl.etl.completeness.completeness import Completeness
from historical_etl.etl.fetch.fetch import in_batches
from historical_etl.etl.fetch.renamed_source import with_names
from historical_etl.etl.fetch.requests import Window, ended_calendar, year_windows
from historical_etl.etl.fetch.staged import clock_offset_of, requests_of
from historical_etl.etl.reader.versions import StoreVersions
from historical_etl.etl.reconcile.stored_levels import StoredLevels
from historical_etl.etl.run_stats import RunStats, YearEvent
from historical_etl.etl.runs.clock_trust import clock_notes
from historical_etl.etl.runs.progress import RunProgress
from historical_etl.etl.runs.run import Run
from historical_etl.models import ETLProgressManifest, ETLResult, SyncManifest
from historical_etl.quality.validator import DataValidator
from historical_etl.settings import Settings
from historical_etl.sources.base import FetchRequest, PriceSource
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.newer_release import refuse_unknown_fields
from historical_etl.store.progress import save_progress

__all__ = ["PriceRuns", "ignore_event", "record_failure"]

_log = logging.getLogger(__name__)


class PriceRuns(StoreVersions):
    """A store with the source that fills it, and the gate that its rows must pass."""

    def __init__(
        self,
        layout: Layout,
        manifests: ManifestManager,
        settings: Settings,
        clock: Clock,
        writer_id: str,
        source: PriceSource,
        validator: DataValidator,
    ) -> None:
        super().__init__(layout, manifests, settings, clock, writer_id)
        self.source = source
        self.validator = validator
        self._progress = RunProgress(self)

    def _run(
        self, command: str, stats: RunStats, *, rebuild: bool = False, refetch_on_corporate_action: bool = False
    ) -> Run:
        refuse_unknown_fields(self.layout)  # before hours of fetching, and not only once they are over
        stats.requests = -requests_of(self.source)
        gate = self.validator.gate
        names = self.names_of(self.manifest())
        source = with_names(self.source, names, self._stored_levels)
        return Run(
            self,
            source,
            gate,
            command,
            stats,
            names=names,
            rebuild=rebuild,
            refetch_on_corporate_action=refetch_on_corporate_action,
        )

    def _stored_levels(self, symbols: Sequence[str], start: date, end: date) -> pl.DataFrame:
        return StoredLevels(self.layout, self.manifest()).between(symbols, start, end)

    def _wanted(self, named: Sequence[str] | None, window: Window) -> list[str]:
        """The symbols to fill a window with: those that are named, else those of its year; by today's names."""
        return self._meant(self._symbols_of(window) if named is None else named, window.start, window.end)

    def _meant(self, named: Sequence[str], start: date, end: date) -> list[str]:
        """The symbols whose bars names mean in a range."""
        return self.names_of(self.manifest()).over(named, start, end)

    def _run_windows(
        self,
        run: Run,
        symbols: Sequence[str],
        windows: Sequence[Window],
        *,
        publish: bool = True,
        request: str = "",
        done: Collection[int] = (),
        progress: Callable[[YearEvent], None] | None = None,
    ) -> ETLResult:
        """Commit one window after the other; `request` names a run that can be resumed, `done` its years."""
        report, stats = progress or ignore_event, run.stats
        completed = set(done)
        failures: dict[int, HistoricalETLError] = {}
        for window in windows:
            at = len([year for year in (*completed, *failures) if year <= window.year])
            step = YearEvent(window.year, "started", at, len(windows), stats.rows)
            if window.year in completed:
                report(replace(step, step="resumed"))
                continue
            report(step)

            def progress_after(
                manifest: SyncManifest | None, completeness: Completeness, year: int = window.year
            ) -> ETLProgressManifest:
                years = self._progress.of_years(request, windows, completed | {year}, "running")
                return self._progress.after(manifest, completeness, years)

            try:
                asked = self._as_covered(window)
                parts = in_batches(symbols, self.settings.batch_symbols)
                requests = [FetchRequest(part, asked.lead_in, asked.end) for part in parts]
                run.take(requests, str(window.year), progress_after, (asked.start, asked.end), alone=len(windows) == 1)
                completed.add(window.year)
                report(replace(step, step="committed", done=at + 1, rows=stats.rows))
            except HistoricalETLError as error:
                _log.error("Year %d was not committed: %s", window.year, error)
                failures[window.year] = error
                report(replace(step, step="failed", done=at + 1, error=error))
                if not _is_of_its_year(error):
                    break
        if not failures:
            run.require_rows()
            return self._close(
                stats, publish=publish, years=self._progress.of_years(request, windows, completed, "completed")
            )
        if stats.rows:
            # Years that the source does not cover are not left to do: the same request would fail again.
            due = [window for window in windows if not isinstance(failures.get(window.year), CoverageError)]
            status = "failed" if len(due) > len(completed) else "completed"
            with suppress(HistoricalETLError):  # what failed first is what the caller must hear of
                self._close(stats, publish=publish, years=self._progress.of_years(request, due, completed, status))
        raise _first_of(failures, completed)

    def _close(self, stats: RunStats, *, publish: bool, years: ETLProgressManifest | None = None) -> ETLResult:
        """Save the last progress and publish; a catalog that cannot be published does not undo what is committed."""
        if years is not None and self.manifest() is not None:
            with self.lock():
                manifest = self.manifest()
                completeness = self.completeness_of(manifest)
                save_progress(self.layout, self._progress.after(manifest, completeness, years))
        if publish:
            self._publish_quietly(stats)
        stats.requests += requests_of(self.source)
        stats.warnings += clock_notes(self.manifests, self.clock(), clock_offset_of(self.source))
        return stats.result(self.manifest())

    def _publish_quietly(self, stats: RunStats | None = None) -> None:
        manifest = self.manifest()
        if manifest is None or self.catalog.shown_version() == manifest.version:
            return
        try:
            with self.lock():  # whatever a crash left was put right by the commit
                self.catalog.publish(self.manifest() or manifest)
        except HistoricalETLError as error:
            _log.error("The data is committed, the catalog is not up to date: %s", error)
            if stats is not None:
                stats.catalog_error = str(error)

    def _windows(self, start: date, end: date) -> list[Window]:
        info, closed = self.source.info, self.last_closed_session()
        return year_windows(
            start, end, coverage=info.coverage, last_closed=closed, calendar=self.calendar, plan=info.plan
        )

    def _clipped(self, start: date) -> list[str]:
        """What is to be told of a run that asks from a day on which the account's plan does not give."""
        info = self.source.info
        return [info.plan] if info.plan and info.coverage is not None and start < info.coverage.first else []

    def _as_covered(self, window: Window) -> Window:
        """The window, as far as the source is found to cover it since it was made.

        Raises:
            CoverageError: it does not.
        """
        info = self.source.info
        if info.coverage is None or info.coverage.first <= window.start:
            return window
        if info.coverage.first > window.end:
            covered = info.plan or f"it covers {info.coverage.first} and later"
            raise CoverageError(
                f"{info.name} does not give {window.year}: {covered}",
                where=str(window.year),
                todo=f"ask from {info.coverage.first.year} on, or have a plan that gives more",
            )
        return self._windows(window.start, window.end)[0]

    def _require_calendar(self, end: date) -> None:
        """Raises ConfigurationError if sessions up to `end` may be missing for want of a calendar that knows them."""
        if end > self.calendar.known_through and self.calendar_has_ended():
            raise ended_calendar(self.calendar)

    def calendar_has_ended(self) -> bool:
        """Whether there may have been sessions, which the source has, after the last that the calendar knows."""
        coverage, calendar = self.source.info.coverage, self.calendar
        ends_earlier = coverage is not None and coverage.last is not None and coverage.last <= calendar.known_through
        return not ends_earlier and calendar.has_ended(self.clock())

    def available_through(self) -> date:
        """The last session that can be had: it has closed, had time to settle, and the source covers it."""
        coverage, closed = self.source.info.coverage, self.last_closed_session()
        return min(closed, coverage.last) if coverage and coverage.last else closed

    def _symbols_of(self, window: Window) -> list[str]:
        """What a year without named symbols consists of: its universe, or where there is none, what is stored."""
        symbols = self.source.members(window.start, window.end) or list(
            self.settings.symbols or self.completeness().cursors()
        )
        if not symbols:
            raise ConfigurationError(
                f"No symbols to fetch for {window.year}: there is no universe for it",
                where="symbols",
                todo="name symbols, or set HISTORICAL_ETL_SYMBOLS or HISTORICAL_ETL_UNIVERSE",
            )
        return symbols


@contextmanager
def record_failure(run: Run) -> Generator[None]:
    """Note a run that fails; a refusal of the file system that nothing nearer has named is named here."""
    layout = run.store.layout
    try:
        with storage_errors("working on the store", layout.root, "what was committed stands"):
            yield
    except HistoricalETLError as error:
        run.failed(error)
        raise


def ignore_event(_: YearEvent) -> None:
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
