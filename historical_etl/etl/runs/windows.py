"""The steps that all runs share: one window after the other, the last progress, the catalog."""

import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from typing import Final, Literal

import polars as pl

from historical_etl.durable import storage_errors
from historical_etl.errors import (
    ConfigurationError,
    CoverageError,
    DataQualityError,
    HistoricalETLError,
    ProviderError,
    RateLimitedError,
)
from historical_etl.etl.commit import publish_if_behind
from historical_etl.etl.context import VersionState
from historical_etl.etl.fetch import (
    Window,
    clock_offset_of,
    ended_calendar,
    in_batches,
    requests_made,
    with_names,
    year_windows,
)
from historical_etl.etl.reconcile import StoredLevels
from historical_etl.etl.runs.clock_trust import clock_notes
from historical_etl.etl.runs.progress import RunProgress, YearProgress
from historical_etl.etl.runs.reference import available_through
from historical_etl.etl.runs.run import Run
from historical_etl.etl.runs.run_stats import RunStats, YearEvent
from historical_etl.models import ETLResult, SyncManifest
from historical_etl.quality.validator import DataValidator
from historical_etl.sources.base import FetchRequest, PriceSource
from historical_etl.store.newer_release import refuse_unknown_fields
from historical_etl.store.progress import save_progress

__all__ = ["RUNS_LOG", "RunSteps", "ignore_event", "record_failure"]

#: The logger of what a run reports as it goes on.
RUNS_LOG: Final = __name__
_log = logging.getLogger(RUNS_LOG)


class RunSteps:
    """The steps that all runs on a store share.

    Attributes:
        state: of the versions of the store.
        store: what is filled.
        source: where bars come from.
        validator: the gate that rows must pass before they are committed.
        run_progress: what is saved of the progress of runs.
    """

    def __init__(self, state: VersionState, source: PriceSource, validator: DataValidator) -> None:
        self.state = state
        self.context = state.context
        self.source = source
        self.validator = validator
        self.run_progress = RunProgress(state.context)

    def new_run(
        self,
        command: str,
        stats: RunStats,
        manifest: SyncManifest | None,
        *,
        rebuild: bool = False,
        is_increment: bool = False,
    ) -> Run:
        """A run on the version that is current; refused where a newer release wrote what it would drop."""
        refuse_unknown_fields(self.context.layout)  # before hours of fetching, and not only once they are over
        stats.requests = -requests_made(self.source)
        gate = self.validator.gate
        names = self.state.names_of(manifest)
        source = with_names(self.source, names, self.stored_levels)
        return Run(
            self.state,
            source,
            gate,
            command,
            stats,
            manifest,
            names=names,
            rebuild=rebuild,
            is_increment=is_increment,
        )

    def stored_levels(self, symbols: Sequence[str], start: date, end: date) -> pl.DataFrame:
        """The stored price levels of symbols in a range."""
        return StoredLevels(self.context.layout, self.context.manifest()).between(symbols, start, end)

    def symbols_for(self, named: Sequence[str] | None, window: Window, manifest: SyncManifest | None) -> list[str]:
        """The symbols to fill a window with: those that are named, else those of its year; by today's names."""
        wanted = self._symbols_of(window, manifest) if named is None else named
        return self.state.names_of(manifest).over(wanted, window.start, window.end)

    def run_windows(
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

            try:
                asked = self._as_covered(window)
                parts = in_batches(symbols, self.context.settings.batch_symbols)
                requests = [FetchRequest(part, asked.lead_in, asked.end) for part in parts]
                span, years = (asked.start, asked.end), _progress(request, windows, completed | {window.year})
                last = window is windows[-1]
                run.take(requests, str(window.year), years, span, alone=len(windows) == 1, publish=publish and last)
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
            return self.close(run, publish=publish, years=_progress(request, windows, completed))
        if stats.rows:
            # Years that the source does not cover are not left to do: the same request would fail again.
            due = [window for window in windows if not isinstance(failures.get(window.year), CoverageError)]
            status = "failed" if len(due) > len(completed) else "completed"
            with suppress(HistoricalETLError):  # what failed first is what the caller must hear of
                self.close(run, publish=publish, years=_progress(request, due, completed, status))
        raise _first_of(failures, completed)

    def close(self, run: Run, *, publish: bool, years: YearProgress | None = None) -> ETLResult:
        """Save what the last commit did not, and publish; a catalog that cannot be published undoes no commit."""
        stats = run.stats
        if years is not None and run.manifest is not None and not self.run_progress.is_saved(years, run.manifest):
            with self.context.lock():
                manifest = self.context.manifest()
                completeness = self.state.completeness_of(manifest)
                save_progress(self.context.layout, self.run_progress.after(manifest, completeness, years))
        if publish:
            stats.catalog_error = publish_if_behind(self.context)
        stats.requests += requests_made(self.source)
        newest = self.context.manifests.newest_stamp(current=run.manifest)
        stats.warnings += clock_notes(newest, self.context.clock(), clock_offset_of(self.source))
        return stats.result(run.manifest)

    def windows(self, start: date, end: date) -> list[Window]:
        """The years of a range, as far as the source covers them and their sessions have closed."""
        info, closed = self.source.info, self.context.last_closed_session()
        return year_windows(
            start, end, coverage=info.coverage, last_closed=closed, calendar=self.context.calendar, plan=info.plan
        )

    def plan_notes(self, start: date) -> list[str]:
        """What to report of a run that asks from a day on which the account's plan does not give."""
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
        return self.windows(window.start, window.end)[0]

    def require_known_calendar(self, end: date) -> None:
        """Raises ConfigurationError if sessions up to `end` may be missing for want of a calendar that knows them."""
        if end > self.context.calendar.known_through and self.calendar_has_ended():
            raise ended_calendar(self.context.calendar)

    def calendar_has_ended(self) -> bool:
        """Whether there may have been sessions, which the source has, after the last that the calendar knows."""
        coverage, calendar = self.source.info.coverage, self.context.calendar
        ends_earlier = coverage is not None and coverage.last is not None and coverage.last <= calendar.known_through
        return not ends_earlier and calendar.has_ended(self.context.clock())

    def available_through(self) -> date:
        """The last session that can be had; see `reference.available_through`."""
        return available_through(self.context, self.source.info)

    def _symbols_of(self, window: Window, manifest: SyncManifest | None) -> list[str]:
        """What a year without named symbols consists of: its universe, or where there is none, what is stored."""
        symbols = self.source.members(window.start, window.end) or list(
            self.context.settings.symbols or self.state.completeness_of(manifest).cursors()
        )
        if not symbols:
            raise ConfigurationError(
                f"No symbols to fetch for {window.year}: there is no universe for it",
                where="symbols",
                todo="name symbols, or set HISTORICAL_ETL_SYMBOLS or HISTORICAL_ETL_UNIVERSE",
            )
        return symbols


def _progress(
    request: str,
    windows: Sequence[Window],
    completed: Collection[int],
    status: Literal["running", "completed", "failed"] | None = None,
) -> YearProgress:
    """That of a run; where its status is not given, it is completed once all windows are."""
    years = [window.year for window in windows]
    known = status or ("completed" if set(years) <= set(completed) else "running")
    return YearProgress(request, years, frozenset(completed), known)


@contextmanager
def record_failure(run: Run) -> Generator[None]:
    """Note a run that fails; a refusal of the file system that nothing nearer has named is named here."""
    layout = run.context.layout
    try:
        with storage_errors("working on the store", layout.root, "what was committed is unchanged"):
            yield
    except HistoricalETLError as error:
        run.failed(error)
        raise


def ignore_event(_: YearEvent) -> None:
    """The receiver of events that nobody asked for."""


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
