"""PriceRuns: fetch → validate → reconcile → merge → commit → publish, for a range, a year, or what is new.

This page says what the runs are; `run` has their steps, each with a module of its own. Fetching, judging (`fetch`)
and comparing with what is stored (`reconcile`) need no lock; it is held from the merge to the saved progress
(`commit`).
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime

import polars as pl

from historical_etl.arguments import typed_arguments
from historical_etl.clock import as_date
from historical_etl.errors import (
    ConfigurationError,
    CoverageError,
    RateLimitedError,
)
from historical_etl.etl.fetch import (
    Window,
    forget_plan,
    increment_requests,
    look_anew,
    request_hash,
    symbols_without_history,
    with_names,
    with_staging,
)
from historical_etl.etl.runs.clock_trust import trusted_completeness
from historical_etl.etl.runs.progress import YearProgress
from historical_etl.etl.runs.run_stats import RunStats, YearEvent
from historical_etl.etl.runs.windows import RunSteps, ignore_event, record_failure
from historical_etl.models import ETLResult, SyncManifest
from historical_etl.sources.base import FetchRequest
from historical_etl.store.ledgers import read_undamaged
from historical_etl.store.progress import save_progress
from historical_etl.symbols import normalize_symbols

__all__ = ["PriceRuns"]


@typed_arguments
class PriceRuns:
    """The runs that fill a store from a source."""

    def __init__(self, steps: RunSteps) -> None:
        self._steps = steps
        self._state = steps.state
        self._context = steps.context

    def run_full_etl(
        self,
        symbols: Iterable[str] | str,
        start_date: date | datetime | str,
        end_date: date | datetime | str,
        *,
        resume: bool = True,
        rebuild: bool = False,
        progress: Callable[[YearEvent], None] | None = None,
        command: str = "backfill",
    ) -> ETLResult:
        """Fetch, check and commit a range, one year at a time; both ends included. See `HistoricalETL.run_full_etl`."""
        start, end = as_date(start_date, "start_date"), as_date(end_date, "end_date")
        manifest = self._begin()
        names = self._state.names_of(manifest)
        request = FetchRequest(tuple(names.over(normalize_symbols(symbols), start, end)), start, end)
        if rebuild:
            forget_plan(self._steps.source)
        windows = self._steps.windows(start, end)
        name = request_hash(request.symbols, start, end, self._steps.source.info)
        done = self._steps.run_progress.years_done(name) if resume and not rebuild else set[int]()
        stats = RunStats(windows[0].start, windows[-1].end, notes=self._steps.plan_notes(start))
        run = self._steps.new_run("rebuild" if rebuild else command, stats, manifest, rebuild=rebuild)
        with record_failure(run):
            try:
                first = windows[0].year

                def fetching(done: int, total: int) -> None:
                    (progress or ignore_event)(YearEvent(first, "fetching", done, total))

                with with_staging(self._context, run.source, request.symbols, windows, name, fetching) as run.source:
                    result = self._steps.run_windows(
                        run, request.symbols, windows, request=name, done=done, progress=progress
                    )
            except RateLimitedError:
                committed = done | self._steps.run_progress.years_done(name)
                paused = YearProgress(name, [window.year for window in windows], frozenset(committed), "paused")
                save_progress(self._context.layout, self._steps.run_progress.of_years(paused, run.manifest))
                raise
        self._steps.require_known_calendar(end)
        return result

    @contextmanager
    def prefetched(self, years: Sequence[int], symbols: Iterable[str] | str | None = None) -> Generator["PriceRuns"]:
        """This store with several years fetched at once, for `run_year` on each of them inside the block.

        See `HistoricalETL.prefetched`.
        """
        windows: list[Window] = []
        manifest = self._begin()
        for year in sorted(set(years)):
            with suppress(CoverageError, ConfigurationError):
                windows += self._steps.windows(date(year, 1, 1), date(year, 12, 31))
        named = normalize_symbols(symbols) if symbols is not None else None
        wanted = sorted({symbol for window in windows for symbol in self._steps.symbols_for(named, window, manifest)})
        if not wanted:
            yield self
            return
        name = request_hash(wanted, windows[0].start, windows[-1].end, self._steps.source.info)
        source = with_names(self._steps.source, self._state.names_of(manifest), self._steps.stored_levels)
        with with_staging(self._context, source, wanted, windows, name) as prefetched:
            yield PriceRuns(RunSteps(self._state, prefetched, self._steps.validator))

    def run_year(self, year: int, symbols: Iterable[str] | str | None = None, *, publish: bool = True) -> ETLResult:
        """Fetch, check and commit one year, as far as it is covered and has closed. See `HistoricalETL.run_year`."""
        if not date.min.year < year < date.max.year:
            raise ConfigurationError(f"{year} is not a year", where="year", todo="write it with four digits")
        manifest = self._begin()
        windows = self._steps.windows(date(year, 1, 1), date(year, 12, 31))
        named = normalize_symbols(symbols) if symbols is not None else None
        wanted = self._steps.symbols_for(named, windows[0], manifest)
        clipped = self._steps.plan_notes(date(year, 1, 1))
        run = self._steps.new_run("year", RunStats(windows[0].start, windows[-1].end, notes=clipped), manifest)
        with record_failure(run):
            return self._steps.run_windows(run, tuple(wanted), windows, publish=publish)

    def run_incremental_etl(
        self, symbols: Iterable[str] | str | None = None, *, publish: bool = True, beyond_calendar: bool = False
    ) -> ETLResult:
        """Bring symbols up to the last closed session, in one commit over all years that this touches.

        See `HistoricalETL.run_incremental_etl`.
        """
        manifest, end = self._begin(), self._steps.available_through()
        completeness = trusted_completeness(self._state, manifest)
        held = read_undamaged(self._context.layout, manifest, "open_holds")  # also what is not stored at all yet
        names = self._state.names_of(manifest)
        known = {*completeness.symbols.get_column("symbol"), *held.get_column("symbol"), *names.awaited}
        known -= names.made_up & completeness.ended()
        wanted = names.resolve(normalize_symbols(symbols)) if symbols is not None else sorted(known)
        if not wanted:
            self._context.require_store()
            raise ConfigurationError(
                "The store is empty: there is nothing to update",
                where=self._context.layout.root,
                todo="run `historical-etl backfill` first, or name symbols",
            )
        coverage = self._steps.source.info.coverage
        requests = increment_requests(
            wanted,
            completeness,
            first=max(self._context.settings.start, coverage.first) if coverage else self._context.settings.start,
            covered=coverage.first if coverage else None,
            end=end,
            overlap_sessions=self._context.settings.overlap_sessions,
            batch=self._context.settings.batch_symbols,
            calendar=self._context.calendar,
            insist=symbols is not None,
            kept_from=dict(held.drop_nulls("kept_from").group_by("symbol").agg(pl.col("kept_from").min()).iter_rows()),
            since=names.begins,
        )
        stats = RunStats(min((r.start for r in requests), default=end), end)
        run = self._steps.new_run("increment", stats, manifest, is_increment=True)
        run.stats.sessions_missing = completeness.missing()
        run.stats.notes += self._steps.plan_notes(self._context.settings.start) if set(wanted) - known else []
        with record_failure(run):
            if requests:  # else every symbol has ended, and none is due
                without_history = symbols_without_history(requests, completeness)
                run.take(requests, f"increment-{end}", without_history=without_history, publish=publish)
            if beyond_calendar and self._steps.calendar_has_ended():
                run.stats.calendar_notes.append(self._context.calendar.end_in_words())
            result = self._steps.close(run, publish=publish)
        if not beyond_calendar:
            self._steps.require_known_calendar(date.max)
        return result

    def _begin(self) -> SyncManifest | None:
        """The version that a run begins from; the source takes its files as they are then."""
        look_anew(self._steps.source)
        return self._context.manifest()
